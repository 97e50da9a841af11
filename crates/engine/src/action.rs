// SPDX-License-Identifier: Apache-2.0
//! What may be done to a host, as data. How it is done, and undone, lives in `host`.

use crate::id::{ActionId, ProcessKey, Timestamp, VersionId};
use crate::network::Network;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// One action on named objects. Targets are always enumerated; there is no "all".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// D3-PS Process Suspension, by SIGSTOP. Leased: the warden continues them when the lease ends.
    SuspendProcesses { processes: Vec<ProcessKey> },
    /// D3-PT Process Termination, by SIGKILL. Their volatile state is saved as evidence first.
    TerminateProcesses { processes: Vec<ProcessKey> },
    /// D3-ST Session Termination: ends a login session whose leader is named.
    EndSession { leader: ProcessKey, processes: Vec<ProcessKey> },
    /// D3-NTF Network Traffic Filtering. Leased: the kernel ends it after `lease_ns` nanoseconds.
    FilterTraffic { address: IpAddr, extent: Extent, lease_ns: u64 },
    /// D3-RF Restore File: take out of a path what the attack put in, and nothing else.
    RestoreFile(RestoreFile),
    /// D3-RF for many files that only the attack wrote: each becomes what it was, and what was not there goes.
    RestoreFiles { files: Files },
    /// D3-FEV File Eviction: move what only the attack created into quarantine.
    QuarantineFile { path: HostPath, expected: VersionId },
    /// Stop and disable a unit whose file only the attack created, and forget it (daemon-reload).
    /// Its files and links are quarantined by actions of their own, before this one.
    RemoveUnit { unit: String },
    /// Make a service read its restored configuration: reload, else restart.
    ReloadService { unit: String },
    /// Start a failed service again, when its declared test accepts its configuration.
    RestartService { unit: String },
    /// Delete files that the configuration declares to be worth nothing when room is short. They do not come back.
    FreeSpace { paths: Vec<HostPath> },
    /// Load the packet filter's rules from their file.
    LoadFirewall { path: HostPath },
    /// Run the command that is declared to renew this certificate.
    RenewCertificate { path: HostPath },
    /// D3-RF for files that an installed package ships and nothing else has: each becomes what the package's record says,
    /// out of the package's own archive. At most [`FILES_MAX`].
    RestorePackaged { files: Vec<Packaged> },
    /// D3-AL Account Locking: nobody logs in with this account any more, with whatever key or password, until that is undone.
    /// `path` is the file that says when accounts expire, shadow(5).
    LockAccount { uid: u32, path: HostPath },
    /// D3-NI Network Isolation: nobody reaches this host and it reaches nobody, but for those of `control`, its people's way in.
    /// Leased: the kernel ends it after `lease_ns` nanoseconds.
    IsolateHost { control: Vec<Network>, lease_ns: u64 },
    /// Take back what an earlier action of ours did, by what was captured for it: these paths, this unit. Taken back itself, it
    /// is done again.
    UndoAction { of: ActionId, paths: Vec<HostPath>, unit: Option<String> },
}

/// What of the traffic with an address is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Extent {
    /// Every packet from it and to it, also of connections that exist.
    All,
    /// TCP connections that this host begins: who comes from there is answered as before.
    Outbound,
}

/// A file of an installed package that is not as the package's record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packaged {
    pub path: HostPath,
    /// Name, version and architecture of the package that is installed, as its record has them.
    pub package: String,
    pub version: String,
    pub architecture: String,
    /// The name that the record has the file under, where a link of the host's (`/lib` to `/usr/lib`) leads to `path`.
    pub shipped: HostPath,
    /// MD5 of its content by the record, 32 hexadecimal digits; `None` for links and directories.
    pub wanted: Option<String>,
    /// MD5 of what is there; `None`: nothing is.
    pub found: Option<String>,
    /// Shipped to be edited (a conffile).
    pub configuration: bool,
}

impl Packaged {
    /// What is there may be somebody's own settings.
    #[must_use]
    pub const fn is_edited(&self) -> bool {
        self.configuration && self.found.is_some()
    }
}

/// Files of one action, at most [`FILES_MAX`], shared by all who look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<RestoreFile>", into = "Vec<RestoreFile>")]
pub struct Files(Arc<[RestoreFile]>);

/// LIMIT: files of one action.
pub const FILES_MAX: usize = 256;

impl std::ops::Deref for Files {
    type Target = [RestoreFile];
    fn deref(&self) -> &[RestoreFile] {
        &self.0
    }
}

impl From<Vec<RestoreFile>> for Files {
    fn from(files: Vec<RestoreFile>) -> Self {
        Self(files.into())
    }
}

impl From<Files> for Vec<RestoreFile> {
    fn from(files: Files) -> Self {
        files.to_vec()
    }
}

/// The state of `path` is rebuilt as if the `attack` versions had never been written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFile {
    pub path: HostPath,
    /// The state before the attack first touched the path; 0 when the path did not exist then.
    pub base: VersionId,
    /// The path's later versions, oldest first, each with whose it is.
    pub later: Vec<Authored>,
    /// An append-only log: what was cut out is put back, what came after stays.
    pub append_only: bool,
    /// The attack's versions were undone before, and the last of `later` is somebody else's that came after: restored
    /// only if something of the attack is back in it.
    #[serde(default)]
    pub again: bool,
    /// A person wants `base`, whatever others wrote since.
    #[serde(default)]
    pub whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authored {
    pub version: VersionId,
    /// Written by a subject of the attack.
    pub attack: bool,
}

/// D3FEND tactic; it is also OCSF `activity_id` of class 7001.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tactic {
    Isolate,
    Evict,
    Restore,
    Harden,
}

impl Action {
    #[must_use]
    pub const fn tactic(&self) -> Tactic {
        match self {
            Self::SuspendProcesses { .. } | Self::FilterTraffic { .. } | Self::IsolateHost { .. } => Tactic::Isolate,
            Self::TerminateProcesses { .. }
            | Self::EndSession { .. }
            | Self::QuarantineFile { .. }
            | Self::RemoveUnit { .. }
            | Self::LockAccount { .. } => Tactic::Evict,
            Self::RestoreFile(_)
            | Self::RestoreFiles { .. }
            | Self::ReloadService { .. }
            | Self::RestartService { .. }
            | Self::FreeSpace { .. }
            | Self::LoadFirewall { .. }
            | Self::RenewCertificate { .. }
            | Self::RestorePackaged { .. }
            | Self::UndoAction { .. } => Tactic::Restore,
        }
    }

    /// Stable lower-case name: the Cedar action, the `action` field of reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SuspendProcesses { .. } => "suspend_processes",
            Self::TerminateProcesses { .. } => "terminate_processes",
            Self::EndSession { .. } => "end_session",
            Self::FilterTraffic { .. } => "filter_traffic",
            Self::RestoreFile(_) => "restore_file",
            Self::RestoreFiles { .. } => "restore_files",
            Self::QuarantineFile { .. } => "quarantine_file",
            Self::RemoveUnit { .. } => "remove_unit",
            Self::ReloadService { .. } => "reload_service",
            Self::RestartService { .. } => "restart_service",
            Self::FreeSpace { .. } => "free_space",
            Self::LoadFirewall { .. } => "load_firewall",
            Self::RenewCertificate { .. } => "renew_certificate",
            Self::RestorePackaged { .. } => "restore_packaged",
            Self::LockAccount { .. } => "lock_account",
            Self::IsolateHost { .. } => "isolate_host",
            Self::UndoAction { .. } => "undo_action",
        }
    }

    /// Whether `revert` brings back what was, bit for bit. A killed process stays dead.
    #[must_use]
    pub const fn reversible(&self) -> bool {
        match self {
            Self::TerminateProcesses { .. }
            | Self::EndSession { .. }
            | Self::FreeSpace { .. }
            | Self::RenewCertificate { .. } => false,
            Self::SuspendProcesses { .. }
            | Self::FilterTraffic { .. }
            | Self::RestoreFile(_)
            | Self::RestoreFiles { .. }
            | Self::QuarantineFile { .. }
            | Self::RemoveUnit { .. }
            | Self::ReloadService { .. }
            | Self::RestartService { .. }
            | Self::LoadFirewall { .. }
            | Self::RestorePackaged { .. }
            | Self::LockAccount { .. }
            | Self::IsolateHost { .. }
            | Self::UndoAction { .. } => true,
        }
    }

    /// The one path that it changes; `None` for actions on processes and units, and on many files.
    #[must_use]
    pub const fn path(&self) -> Option<&HostPath> {
        match self {
            Self::RestoreFile(restore) => Some(&restore.path),
            Self::QuarantineFile { path, .. } => Some(path),
            Self::SuspendProcesses { .. }
            | Self::FilterTraffic { .. }
            | Self::RestoreFiles { .. }
            | Self::TerminateProcesses { .. }
            | Self::EndSession { .. }
            | Self::RemoveUnit { .. }
            | Self::ReloadService { .. }
            | Self::RestartService { .. }
            | Self::FreeSpace { .. }
            | Self::LoadFirewall { .. }
            | Self::RenewCertificate { .. }
            | Self::RestorePackaged { .. }
            | Self::LockAccount { .. }
            | Self::IsolateHost { .. }
            | Self::UndoAction { .. } => None,
        }
    }

    /// The one file that it writes, be it an object that it puts in order or not.
    #[must_use]
    pub const fn written(&self) -> Option<&HostPath> {
        match self {
            Self::LockAccount { path, .. } => Some(path),
            other => other.path(),
        }
    }

    /// All paths that it puts in order.
    pub fn paths(&self) -> impl Iterator<Item = &HostPath> {
        let many = match self {
            Self::RestoreFiles { files } => &**files,
            _ => &[],
        };
        let packaged = match self {
            Self::RestorePackaged { files } => files.as_slice(),
            _ => &[],
        };
        let many = many.iter().map(|file| &file.path);
        self.path().into_iter().chain(many).chain(packaged.iter().map(|file| &file.path))
    }

    /// The unit that it acts on.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        match self {
            Self::RemoveUnit { unit } | Self::ReloadService { unit } | Self::RestartService { unit } => Some(unit),
            Self::UndoAction { unit, .. } => unit.as_deref(),
            _ => None,
        }
    }

    /// How many objects it names.
    #[must_use]
    pub fn target_count(&self) -> usize {
        match self {
            Self::SuspendProcesses { processes }
            | Self::TerminateProcesses { processes }
            | Self::EndSession { processes, .. } => processes.len(),
            Self::FreeSpace { paths } => paths.len(),
            Self::RestoreFiles { files } => files.len(),
            Self::RestorePackaged { files } => files.len(),
            // A unit, or files.
            Self::UndoAction { paths, .. } => paths.len().max(1),
            Self::RestoreFile(_)
            | Self::FilterTraffic { .. }
            | Self::QuarantineFile { .. }
            | Self::RemoveUnit { .. }
            | Self::ReloadService { .. }
            | Self::RestartService { .. }
            | Self::LoadFirewall { .. }
            | Self::RenewCertificate { .. }
            | Self::LockAccount { .. }
            | Self::IsolateHost { .. } => 1,
        }
    }
}

/// What the hands found when they captured what undo needs: the facts of this instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The object is as the plan expects it (version, process start time).
    pub as_expected: Expected,
    /// Undo can be done from what was captured.
    pub undo_ready: bool,
    /// The restored content follows without contradiction from the versions.
    pub merge: Merge,
    /// The object is ours, init, a kernel thread, or the agent's control path.
    pub never_touch: bool,
    /// Evidence (command line, maps, content) is saved.
    pub evidence_saved: bool,
    /// Targets that exist at this instant.
    pub targets: usize,
    /// Of many files: those that do not fit the plan and are left alone, each with the reason.
    #[serde(default)]
    pub left_out: Vec<(HostPath, String)>,
    /// What the host itself needs an address for that is to be blocked, in words.
    #[serde(default)]
    pub needed: Option<String>,
    /// Of a log that was replaced: services that still write to what stood there, by their units.
    #[serde(default)]
    pub holders: Vec<String>,
    /// Its service runs, and does not while this is done.
    #[serde(default)]
    pub interrupts: bool,
    /// What the action would take away although it is, as it is now, exactly what an installed package ships.
    #[serde(default)]
    pub genuine: Vec<Genuine>,
}

/// A file whose content an installed package's record vouches for.
///
/// Not a conffile, whose digest dpkg keeps elsewhere: what it should be is its administrator's word, not the package's. An
/// attack that puts the shipped settings in the place of stricter ones is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genuine {
    pub path: HostPath,
    /// Its name and version, as they are told to people.
    pub package: String,
    /// The file that says so.
    pub record: HostPath,
}

impl Facts {
    /// Of `targets` objects: undo can be done, nothing is in the way, nothing has to be merged.
    #[must_use]
    pub const fn ready(as_expected: Expected, targets: usize) -> Self {
        Self {
            as_expected,
            undo_ready: true,
            merge: Merge::Exact,
            never_touch: false,
            evidence_saved: true,
            targets,
            left_out: Vec::new(),
            needed: None,
            holders: Vec::new(),
            interrupts: false,
            genuine: Vec::new(),
        }
    }

    /// Of what is genuine, all but for what only `doubted` records say.
    pub fn vouched_for(&self, doubted: &[HostPath]) -> impl Iterator<Item = &Genuine> {
        self.genuine.iter().filter(|genuine| !doubted.contains(&genuine.record))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    Yes,
    /// What the action wants is so already.
    AlreadyDone,
    /// Changed since the plan was made; in words.
    Changed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Nothing to merge: one clean state is restored as it was.
    Exact,
    /// Others' changes were kept and the attack's taken out, in hunks that do not touch.
    Disjoint { kept: u32, removed: u32 },
    /// Not decidable by machine; a person must look. In words.
    Conflict(String),
    /// The vault lacks a version that is needed; in words.
    Missing(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// OCSF `status_id` 1.
    Success,
    /// OCSF `status_id` 3, Does Not Exist: what we wanted is already so.
    DoesNotExist,
    /// Done, but for these files, which are as they were, each with the reason.
    Partly(Vec<(HostPath, String)>),
    /// Failed and put back as it was; in words.
    Reverted(String),
    /// Failed and could not be put back; in words. A person must look.
    Failed(String),
    /// Undone later, by a person or by recovery after a crash.
    Undone,
}

/// Containment is borrowed, never owned: it lapses unless renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub granted: Timestamp,
    /// Nanoseconds.
    pub limit_ns: u64,
}
