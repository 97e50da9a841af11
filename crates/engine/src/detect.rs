// SPDX-License-Identifier: Apache-2.0
//! Detectors: each looks once at every event and claims what it knows.
//!
//! Input: an event, who is behind it ([`Lineage`]), what the configuration says ([`Context`]). Output: [`Finding`]s.
//! A detector knows classes of paths and the behaviour of Linux, never the names of an attack.

mod bounded;
mod look;
mod place;
mod toll;

pub use bounded::{BOUNDED_MAX, Bounded};
pub(crate) use history::is_history;
pub use look::{Arrival, Look};
pub use place::matches_glob;
pub use secret::{is_secret, reads_by_office};

use crate::event::{Confidence, Event, Finding, User};
use crate::id::{FindingId, ProcessKey};
use crate::incident::InvocationKind;
use crate::input::Configuration;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a detector may ask about the past. The graph answers. Must be cheap: a detector asks on the hot path.
pub trait Lineage {
    /// The process as last seen, also for a while after its end.
    fn process(&self, key: ProcessKey) -> Option<Seen<'_>>;
    /// The invocation that the process belongs to.
    fn invocation(&self, key: ProcessKey) -> Option<Invocation<'_>>;
    /// The process, or the root of its invocation, belongs to an incident or carries a finding of Medium or more.
    fn is_suspect(&self, key: ProcessKey) -> bool;
    /// What it runs, a program or a script, was written by a server or for a request since we watch.
    fn ran_from_request(&self, key: ProcessKey) -> Option<&HostPath>;
}

/// A process as the graph remembers it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub parent: ProcessKey,
    pub program: Option<&'a HostPath>,
    pub user: User,
    pub unit: Option<&'a str>,
}

/// What started the work that a process does.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    pub kind: &'a InvocationKind,
    pub leader: ProcessKey,
    /// Who logged in: the audit login uid, else the user that the session was opened for. `None` where nobody did.
    pub login: Option<u32>,
    /// The file that made it run: a crontab, a unit.
    pub origin: Option<&'a HostPath>,
    /// Where whoever logged in came from.
    pub source: Option<IpAddr>,
}

impl Invocation<'_> {
    /// Somebody logged in from where that user does not, by the configuration.
    #[must_use]
    pub fn is_strange(&self, configuration: &Configuration) -> bool {
        let Some((login, source)) = self.login.zip(self.source) else { return false };
        *self.kind == InvocationKind::Session
            && configuration.logins.iter().any(|expected| expected.is_strange(login, source))
    }
}

/// What the configuration and the people say at this instant.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub configuration: &'a Configuration,
    /// `thymus change begin` is open.
    pub change_window: bool,
}

/// What a detector is, for people and for `docs/detectors.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The analytic's name in findings.
    pub name: &'static str,
    /// ATT&CK technique.
    pub technique: &'static str,
    /// OCSF class that it reads.
    pub class_uid: u32,
}

/// OCSF File System Activity.
const FILE: u32 = 1001;
/// The same, with what was read of a content.
const CONTENT: u32 = FILE;
/// OCSF Authentication.
const AUTHENTICATION: u32 = 3002;
/// OCSF Process Activity.
const PROCESS: u32 = 1007;
/// OCSF Network Activity.
const NETWORK: u32 = 4001;

/// One detector. Sees every event once, in order. Must not block, allocate without limit, or look at a clock: time is
/// `look.event.time`. Must not know the names, paths or order of any particular attack.
pub trait Detector {
    const META: Meta;
    /// At most one claim an event: one act is one piece of evidence.
    fn observe(&mut self, look: &Look<'_>) -> Option<Claim>;
    /// What its memory had no room for, since the engine began.
    fn forgotten(&self) -> u64 {
        0
    }
}

/// A detector's claim about the event it looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub confidence: Confidence,
    pub title: String,
    pub process: ProcessKey,
    pub paths: Vec<HostPath>,
    /// Where it is not the detector's usual one.
    pub technique: Option<&'static str>,
}

macro_rules! detectors {
    ($($field:ident: $module:ident::$name:ident,)*) => {
        $(pub mod $module;)*

        /// Every detector, in order, with what it remembers.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct Detectors {
            $($field: $module::$name,)*
            made: u64,
            seen: Bounded<(u8, ProcessKey, HostPath), Confidence>,
            per_invocation: Bounded<(u8, ProcessKey, Confidence), u32>,
            pub counters: Counters,
        }

        /// Every detector, in order.
        pub const DETECTORS: &[Meta] = &[$($module::$name::META),*];

        impl Detectors {
            /// Entries that gave way in the memory of any detector.
            #[must_use]
            pub fn forgotten(&self) -> u64 {
                self.seen.forgotten + self.per_invocation.forgotten $(+ self.$field.forgotten())*
            }

            /// The most confident claim about the event, the first of equals, and whose it is.
            fn claim(&mut self, look: &Look<'_>) -> Option<(u8, Meta, Claim)> {
                let (mut best, mut index): (Option<(u8, Meta, Claim)>, u8) = (None, 0);
                $(
                    if let Some(claim) = self.$field.observe(look) {
                        if best.as_ref().is_none_or(|(_, _, other)| claim.confidence > other.confidence) {
                            best = Some((index, $module::$name::META, claim));
                        }
                    }
                    index += 1;
                )*
                let _ = index;
                best
            }
        }
    };
}

detectors! {
    authorized_key: authorized_key::AuthorizedKey,
    cron: cron::Cron,
    systemd_unit: systemd_unit::SystemdUnit,
    ld_preload: ld_preload::LdPreload,
    shell_profile: shell_profile::ShellProfile,
    account: account::Account,
    pam: pam::Pam,
    sshd_config: sshd_config::SshdConfig,
    sudoers: sudoers::Sudoers,
    setuid: setuid::Setuid,
    setuid_shell: setuid_shell::SetuidShell,
    system_tool: system_tool::SystemTool,
    log_wiping: log_wiping::LogWiping,
    history: history::History,
    web_content: web_content::WebContent,
    socket_shell: socket_shell::SocketShell,
    web_shell: web_shell::WebShell,
    owner: owner::Owner,
    from_memory: from_memory::FromMemory,
    download: download::Download,
    service_manager: service_manager::ServiceManager,
    masquerade: masquerade::Masquerade,
    listener: listener::Listener,
    scan: scan::Scan,
    brute_force: brute_force::BruteForce,
    stranger: stranger::Stranger,
    secret: secret::Secret,
    beacon: beacon::Beacon,
    volume: volume::Volume,
    encryption: encryption::Encryption,
    destruction: destruction::Destruction,
    decoy: decoy::Decoy,
    backup_removal: backup_removal::BackupRemoval,
    remote_service: remote_service::RemoteService,
}

/// What was left out, since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Claims that repeated one already made about the same analytic, invocation and path.
    pub repeated: u64,
    /// Claims beyond [`FINDINGS_PER_INVOCATION_MAX`] of one analytic and weight about one invocation.
    pub beyond_limit: u64,
}

/// LIMIT: findings of one analytic about one invocation, of the same weight; more say nothing new, and are counted.
pub const FINDINGS_PER_INVOCATION_MAX: u32 = 256;

impl Detectors {
    /// The number of a finding that another part of the engine makes.
    pub(crate) fn number(&mut self) -> FindingId {
        self.made += 1;
        FindingId(self.made)
    }

    /// Looks once at `event`; `lineage` knows it already. New findings carry their final ids, starting at 1.
    pub fn observe(&mut self, event: &Event, lineage: &dyn Lineage, context: &Context<'_>, out: &mut Vec<Finding>) {
        let Some(look) = Look::at(event, lineage, context) else { return };
        let Some((index, meta, claim)) = self.claim(&look) else { return };
        let leader = lineage.invocation(claim.process).map_or(claim.process, |invocation| invocation.leader);
        let path = claim.paths.first().cloned().unwrap_or_default();
        let key = (index, leader, path);
        if self.seen.get(&key).is_some_and(|earlier| *earlier >= claim.confidence) {
            self.counters.repeated += 1;
            return;
        }
        let counted = (index, leader, claim.confidence);
        let count = self.per_invocation.get(&counted).copied().unwrap_or(0);
        if count >= FINDINGS_PER_INVOCATION_MAX {
            self.counters.beyond_limit += 1;
            return;
        }
        self.per_invocation.insert(counted, count + 1);
        self.seen.insert(key, claim.confidence);
        self.made += 1;
        out.push(Finding {
            id: FindingId(self.made),
            analytic: meta.name.to_owned(),
            technique: claim.technique.unwrap_or(meta.technique).to_owned(),
            title: claim.title,
            confidence: claim.confidence,
            event: event.id,
            process: claim.process,
            paths: claim.paths,
        });
    }
}

/// In whose name a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Authority {
    /// A change window is open, and the actor is not suspect.
    ChangeWindow,
    /// The login session of a named administrator that is not suspect.
    Administrator,
    /// Below a package manager or configuration tool, outside any suspect session.
    ChangeTool,
    /// Work that the system starts by itself as root: a unit, a timer, a cron line, none of them suspect.
    Machinery,
    /// Nobody who may change the host.
    Nobody,
}

impl Authority {
    /// People or tools that may change the host.
    #[must_use]
    pub const fn is_authorised(self) -> bool {
        match self {
            Self::ChangeWindow | Self::Administrator | Self::ChangeTool => true,
            Self::Machinery | Self::Nobody => false,
        }
    }
}

/// LIMIT: ancestors looked at for a package manager or a configuration tool.
pub const LINEAGE_DEPTH_MAX: usize = 32;

/// In whose name `process` acts.
#[must_use]
pub fn authority(process: ProcessKey, lineage: &dyn Lineage, context: &Context<'_>) -> Authority {
    if lineage.is_suspect(process) {
        return Authority::Nobody;
    }
    if context.change_window {
        return Authority::ChangeWindow;
    }
    let invocation = lineage.invocation(process);
    if invocation.is_some_and(|found| found.is_strange(context.configuration)) {
        return Authority::Nobody;
    }
    let login = invocation.and_then(|found| found.login);
    let people = invocation.is_some_and(|found| match found.kind {
        InvocationKind::Session => true,
        // Terminals and multiplexers that a user's own service manager keeps.
        InvocationKind::Unit(unit) => unit.starts_with("user@"),
        InvocationKind::Cron | InvocationKind::Request | InvocationKind::Other => false,
    });
    if people && login.is_some_and(|uid| context.configuration.administrators.contains(&uid)) {
        return Authority::Administrator;
    }
    if programs(process, lineage).any(|program| context.configuration.change_tools.contains(program)) {
        return Authority::ChangeTool;
    }
    let by_itself = invocation.is_some_and(|found| match found.kind {
        InvocationKind::Unit(_) | InvocationKind::Other => login.is_none(),
        // pam_loginuid(8) sets the login uid for cron's runs, too.
        InvocationKind::Cron => true,
        InvocationKind::Session | InvocationKind::Request => false,
    });
    let as_root = lineage.process(process).is_some_and(|seen| seen.user.euid == 0);
    if by_itself && as_root { Authority::Machinery } else { Authority::Nobody }
}

/// Where an attack settles down: what starts work by itself, and what decides who comes in and who becomes root.
#[must_use]
pub fn is_foothold(path: &HostPath) -> bool {
    cron::is_job(path)
        || systemd_unit::is_unit(path)
        || shell_profile::is_profile(path)
        || ld_preload::is_loader_file(path)
        || account::is_account_file(path)
        || authorized_key::is_key_file(path)
        || sshd_config::is_server_config(path)
        || pam::is_pam(path)
        || sudoers::is_rule(path)
}

/// The program of `process` and of its ancestors, nearest first.
fn programs(process: ProcessKey, lineage: &dyn Lineage) -> impl Iterator<Item = &HostPath> {
    let parent = move |seen: &Seen<'_>| lineage.process(seen.parent);
    std::iter::successors(lineage.process(process), parent).take(LINEAGE_DEPTH_MAX).filter_map(|seen| seen.program)
}

#[cfg(test)]
mod tests;
