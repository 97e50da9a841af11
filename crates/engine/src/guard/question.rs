// SPDX-License-Identifier: Apache-2.0
//! A request that nobody made: what a policy may look at, so that a person can ask what would be said of it.
//!
//! Input: the words of a question. Output: a [`Request`] that says exactly this, its targets made up. INVARIANT: every action
//! of the schema has its row in [`ACTIONS`] (a test compares them).

use super::{Attempts, Request};
use crate::action::{Action, Expected, Extent, Facts, Files, Merge, Packaged, RestoreFile};
use crate::decide::{FILTER_LEASE_NS, ISOLATION_LEASE_NS, SHADOW};
use crate::id::{ActionId, BootId, ProcessKey, Timestamp, VersionId};
use crate::input::Mode;
use crate::path::HostPath;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Of the addresses that are meant for examples (RFC 5737).
const EXAMPLE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const EXAMPLE_UID: u32 = 1_001;

/// What an action names, and so what a policy may ask of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Processes,
    /// One path, which policies see.
    Path,
    /// Paths, of which policies see the number.
    Paths,
    Unit,
    Address,
    /// One account. Which one no policy sees.
    Account,
    /// The host itself.
    Host,
}

/// Every action that a policy can name.
pub const ACTIONS: [(&str, Names); 16] = [
    ("end_session", Names::Processes),
    ("filter_traffic", Names::Address),
    ("free_space", Names::Paths),
    ("isolate_host", Names::Host),
    ("load_firewall", Names::Path),
    ("lock_account", Names::Account),
    ("quarantine_file", Names::Path),
    ("reload_service", Names::Unit),
    ("remove_unit", Names::Unit),
    ("renew_certificate", Names::Path),
    ("restart_service", Names::Unit),
    ("restore_file", Names::Path),
    ("restore_packaged", Names::Path),
    ("suspend_processes", Names::Processes),
    ("terminate_processes", Names::Processes),
    ("undo_action", Names::Paths),
];

/// The facts of the schema that are true or false, as it names them.
pub const FLAGS: [&str; 6] = ["confirmed", "attack_only", "failure", "authorised_change", "prepared", "merged"];

/// A request, by the words that a policy has for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Question {
    /// One of [`ACTIONS`].
    pub action: &'static str,
    pub mode: Mode,
    /// In the order of [`FLAGS`].
    #[serde(flatten, serialize_with = "flags")]
    pub flags: [bool; FLAGS.len()],
    /// Objects named; 1 where an action names one.
    pub targets: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<HostPath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

fn flags<S: serde::Serializer>(flags: &[bool; FLAGS.len()], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(FLAGS.iter().zip(flags))
}

impl Question {
    /// About an action by its name, with nothing known yet; `None` when no policy knows the name.
    #[must_use]
    pub fn about(action: &str) -> Option<Self> {
        let (action, names) = ACTIONS.into_iter().find(|(name, _)| *name == action)?;
        Some(Self {
            action,
            mode: Mode::Observe,
            flags: [false; FLAGS.len()],
            targets: 1,
            path: matches!(names, Names::Path).then(|| HostPath::from("/example")),
            unit: matches!(names, Names::Unit).then(|| "example.service".to_owned()),
            address: matches!(names, Names::Address).then_some(EXAMPLE),
        })
    }

    #[must_use]
    pub fn names(&self) -> Names {
        ACTIONS.iter().find(|(name, _)| *name == self.action).map_or(Names::Processes, |(_, names)| *names)
    }

    /// Hands the request that says this to `hear`: to be judged, or explained.
    pub fn ask<T>(&self, hear: impl FnOnce(&Request<'_>) -> T) -> T {
        let action = self.sample();
        let [confirmed, attack_only, failure, authorised_change, prepared, merged] = self.flags;
        let merge = if merged { Merge::Disjoint { kept: 1, removed: 1 } } else { Merge::Exact };
        let facts = Facts { merge, ..Facts::ready(Expected::Yes, action.target_count()) };
        hear(&Request {
            now: Timestamp(0),
            action: &action,
            mode: self.mode,
            scope_permits_action: true,
            confirmed,
            attack_only,
            failure,
            authorised_change,
            predicted: action.target_count(),
            hold: None,
            restraint: None,
            attempts: Attempts::default(),
            approvals: 0,
            facts: (prepared || merged).then_some(&facts),
            never_touch: &[],
            never_touch_paths: &[],
            never_block: match &action {
                Action::IsolateHost { control, .. } => control,
                _ => &[],
            },
            spared: None,
            doubted: &[],
        })
    }

    fn paths(&self) -> Vec<HostPath> {
        (1..).take(self.targets).map(|number: u32| HostPath::from(format!("/example/{number}").as_str())).collect()
    }

    /// An action that is named so. What no policy can see of it is made up.
    fn sample(&self) -> Action {
        let path = || self.path.clone().unwrap_or_default();
        let unit = || self.unit.clone().unwrap_or_default();
        let processes = || (2..).take(self.targets).map(process).collect::<Vec<ProcessKey>>();
        match self.action {
            "suspend_processes" => Action::SuspendProcesses { processes: processes() },
            "end_session" => Action::EndSession { leader: process(2), processes: processes() },
            "filter_traffic" => {
                let address = self.address.unwrap_or(EXAMPLE);
                Action::FilterTraffic { address, extent: Extent::All, lease_ns: FILTER_LEASE_NS }
            }
            "free_space" => Action::FreeSpace { paths: self.paths() },
            "lock_account" => Action::LockAccount { uid: EXAMPLE_UID, path: HostPath::from(SHADOW) },
            "isolate_host" => Action::IsolateHost { control: vec![EXAMPLE.into()], lease_ns: ISOLATION_LEASE_NS },
            "load_firewall" => Action::LoadFirewall { path: path() },
            "quarantine_file" => Action::QuarantineFile { path: path(), expected: VersionId(2) },
            "reload_service" => Action::ReloadService { unit: unit() },
            "remove_unit" => Action::RemoveUnit { unit: unit() },
            "renew_certificate" => Action::RenewCertificate { path: path() },
            "restart_service" => Action::RestartService { unit: unit() },
            "restore_file" => Action::RestoreFile(RestoreFile {
                path: path(),
                base: VersionId(1),
                later: Vec::new(),
                append_only: false,
                again: false,
                whole: false,
            }),
            "restore_packaged" => Action::RestorePackaged { files: vec![packaged(path())] },
            "terminate_processes" => Action::TerminateProcesses { processes: processes() },
            "undo_action" => Action::UndoAction { of: ActionId(1), paths: self.paths(), unit: None },
            // INVARIANT: `about` gives names of `ACTIONS` alone. An action on nothing is denied by the kernel.
            _ => Action::RestoreFiles { files: Files::default() },
        }
    }
}

const fn process(pid: u32) -> ProcessKey {
    ProcessKey { boot: BootId(1), pid, start_time: Timestamp(1) }
}

fn packaged(path: HostPath) -> Packaged {
    let text = || "example".to_owned();
    let shipped = path.clone();
    let (package, version, architecture) = (text(), text(), text());
    Packaged { path, package, version, architecture, shipped, wanted: None, found: None, configuration: false }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.action)?;
        if let Some(path) = &self.path {
            write!(f, " of `{path}`")?;
        }
        if let Some(unit) = &self.unit {
            write!(f, " of `{}`", unit.escape_debug())?;
        }
        if let Some(address) = self.address {
            write!(f, " of {address}")?;
        }
        if matches!(self.names(), Names::Processes | Names::Paths) {
            write!(f, " of {}", self.targets)?;
        }
        let mode = match self.mode {
            Mode::Observe => "observe",
            Mode::Guarded => "guarded",
            Mode::Autonomous => "autonomous",
        };
        write!(f, ", mode {mode}")?;
        let holding: Vec<&str> =
            FLAGS.iter().zip(self.flags).filter(|(_, holds)| *holds).map(|(name, _)| *name).collect();
        match holding.is_empty() {
            true => write!(f, ", not confirmed"),
            false => write!(f, ", {}", holding.join(", ")),
        }
    }
}
