// SPDX-License-Identifier: Apache-2.0
//! The safety kernel: rules in code that no policy, mode or approval loosens.
//!
//! Each rule is named by the guardrail it implements and is the answer to a failure that happened to somebody: an empty
//! set read as "everything" (K1), automation that reverted a person's hold (K2), a repair that looped (K5), a stale plan
//! applied late (K6), a change that could not be taken back (K7), a block that hit a bystander or the administrator's own
//! way in (K8), a guard that shot its own host (K9). Three more only take away from what happens by itself, and a person may
//! decide about each action all the same: in `breaker.rs` and `capacity.rs` a fault of the observer that was taken for many
//! patients (K3), and more done in a minute than anybody could look at, or than the other services could stand in for (K4);
//! in `decide/worse.rs` a repair that made it worse (K12).

use super::{Attempts, Request};
use crate::action::{Action, Expected, Facts, Genuine};
use crate::decide::is_elsewhere;
use crate::id::{ProcessKey, Timestamp};
use crate::network::Network;
use crate::path::HostPath;

/// LIMIT: objects that one action may name.
pub const TARGETS_MAX: usize = 4_096;
/// LIMIT: networks that an isolated host goes on to talk to.
pub const CONTROL_MAX: usize = 64;
/// LIMIT: how often one kind of action is tried on one target by itself.
pub const ATTEMPTS_MAX: u32 = 6;
/// LIMIT: a day; no block is granted for longer. Nanoseconds.
pub(super) const LEASE_NS_MAX: u64 = 86_400_000_000_000;
/// Pause after the first attempt; doubles with each further one. Nanoseconds.
pub const COOL_DOWN_NS: u64 = 100_000_000;

impl Attempts {
    /// The earliest time at which another attempt is permitted; `None` when there were too many.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let Some(last) = self.last.filter(|_| self.count > 0) else { return Some(Timestamp(0)) };
        let pause = COOL_DOWN_NS.saturating_mul(1 << (self.count - 1).min(32));
        (self.count < ATTEMPTS_MAX).then(|| Timestamp(last.0.saturating_add(pause)))
    }
}

/// Every objection of the kernel; none: the policies are asked.
pub(super) fn objections(request: &Request<'_>) -> Vec<String> {
    let rules: [fn(&Request<'_>) -> Option<String>; 10] =
        [scope, targets, count_as_predicted, hold, attempts, fresh, undo, control_path, never_touch, genuine];
    rules.iter().filter_map(|rule| rule(request)).collect()
}

fn scope(request: &Request<'_>) -> Option<String> {
    (!request.scope_permits_action).then(|| "scope: this host is watched, not acted upon".to_owned())
}

fn targets(request: &Request<'_>) -> Option<String> {
    let count = request.action.target_count();
    let named = match request.action {
        Action::SuspendProcesses { .. } | Action::TerminateProcesses { .. } | Action::EndSession { .. } => count > 0,
        Action::FilterTraffic { address, lease_ns, .. } => {
            is_elsewhere(*address) && (1..=LEASE_NS_MAX).contains(lease_ns)
        }
        Action::RestoreFile(restore) => is_plain(&restore.path),
        Action::RestoreFiles { files } => count > 0 && files.iter().all(|file| is_plain(&file.path)),
        Action::QuarantineFile { path, .. } => is_plain(path),
        Action::RemoveUnit { unit } | Action::ReloadService { unit } | Action::RestartService { unit } => {
            is_unit_name(unit)
        }
        Action::FreeSpace { paths } => count > 0 && paths.iter().all(is_plain),
        Action::LoadFirewall { path } | Action::RenewCertificate { path } => is_plain(path),
        Action::RestorePackaged { files } => count > 0 && files.iter().all(|file| is_plain(&file.path)),
        Action::LockAccount { path, .. } => is_plain(path),
        Action::UndoAction { paths, unit, .. } => {
            let none = paths.is_empty() && unit.is_none();
            !none && paths.iter().all(is_plain) && unit.iter().all(|unit| is_unit_name(unit))
        }
        Action::IsolateHost { control, lease_ns } => {
            control.len() <= CONTROL_MAX && (1..=LEASE_NS_MAX).contains(lease_ns)
        }
    };
    if !named {
        Some("K1: no explicit target is named".to_owned())
    } else if count > TARGETS_MAX {
        Some(format!("K1: {count} targets, at most {TARGETS_MAX} may be named"))
    } else {
        None
    }
}

fn count_as_predicted(request: &Request<'_>) -> Option<String> {
    let named = request.action.target_count();
    let found = request.facts.map_or(0, |facts| facts.targets);
    if named > request.predicted {
        Some(format!("K1: {named} targets are named, the plan predicted {}", request.predicted))
    } else if found > named {
        Some(format!("K1: {found} targets were found, {named} are named"))
    } else {
        None
    }
}

fn hold(request: &Request<'_>) -> Option<String> {
    let hold = request.hold.filter(|hold| request.now < hold.until)?;
    Some(format!("K2: a person holds all actions: {}", hold.why))
}

fn attempts(request: &Request<'_>) -> Option<String> {
    match request.attempts.next_at() {
        None => Some(format!("K5: tried {} times on this target, a person must look", request.attempts.count)),
        Some(at) if request.now < at => {
            Some(format!("K5: cooling down for {} ms more", at.since_ns(request.now).div_ceil(1_000_000)))
        }
        Some(_) => None,
    }
}

fn fresh(request: &Request<'_>) -> Option<String> {
    match &request.facts?.as_expected {
        Expected::Changed(how) => Some(format!("K6: changed since the plan was made: {how}")),
        Expected::Yes | Expected::AlreadyDone => None,
    }
}

fn undo(request: &Request<'_>) -> Option<String> {
    let facts = request.facts?;
    if is_leased(request.action) || facts.as_expected == Expected::AlreadyDone {
        return None;
    }
    if request.action.reversible() { no_way_back(facts) } else { no_evidence(facts) }
}

fn no_way_back(facts: &Facts) -> Option<String> {
    (!facts.undo_ready).then(|| "K7: what undo needs could not be captured".to_owned())
}

fn no_evidence(facts: &Facts) -> Option<String> {
    (!facts.evidence_saved).then(|| "K7: it cannot be undone, and the evidence is not saved".to_owned())
}

fn never_touch(request: &Request<'_>) -> Option<String> {
    let process = |key: &ProcessKey| key.pid <= 1 || request.never_touch.iter().any(|never| never.pid == key.pid);
    // A directory above the agent's own is as good as the agent's own.
    let path = |path: &HostPath| {
        let never = |own: &HostPath| path.is_within(own.as_bytes()) || own.is_within(path.as_bytes());
        request.never_touch_paths.iter().any(never)
    };
    let touched = match request.action {
        Action::SuspendProcesses { processes } | Action::TerminateProcesses { processes } => {
            processes.iter().any(process)
        }
        Action::EndSession { leader, processes } => processes.iter().chain([leader]).any(process),
        Action::FilterTraffic { .. } | Action::IsolateHost { .. } => false, // K8 speaks of those
        Action::RestoreFile(restore) => path(&restore.path),
        Action::RestoreFiles { files } => files.iter().any(|file| path(&file.path)),
        Action::QuarantineFile { path: at, .. } => path(at),
        Action::RemoveUnit { unit } | Action::ReloadService { unit } | Action::RestartService { unit } => {
            is_own_or_vital_unit(unit)
        }
        Action::FreeSpace { paths } => paths.iter().any(path),
        Action::LoadFirewall { path: at } | Action::RenewCertificate { path: at } => path(at),
        Action::RestorePackaged { files } => files.iter().any(|file| path(&file.path)),
        Action::LockAccount { uid, path: at } => *uid == 0 || path(at),
        Action::UndoAction { paths, unit, .. } => {
            paths.iter().any(path) || unit.as_deref().is_some_and(is_own_or_vital_unit)
        }
    };
    (touched || request.facts.is_some_and(|facts| facts.never_touch)).then(|| {
        "K9: init, the kernel, root's account, the agent and its warden, and their files are never touched".to_owned()
    })
}

/// What the host's own packages ship, and is as they ship it, is no attack's, whoever took it for one. A record that an attack
/// wrote says nothing.
fn genuine(request: &Request<'_>) -> Option<String> {
    let takes_away = match request.action {
        Action::RestoreFile(_)
        | Action::RestoreFiles { .. }
        | Action::QuarantineFile { .. }
        | Action::FreeSpace { .. }
        | Action::RemoveUnit { .. } => true,
        // What a package ships is what this one puts there.
        Action::RestorePackaged { .. }
        | Action::SuspendProcesses { .. }
        | Action::TerminateProcesses { .. }
        | Action::EndSession { .. }
        | Action::FilterTraffic { .. }
        | Action::ReloadService { .. }
        | Action::RestartService { .. }
        | Action::LoadFirewall { .. }
        | Action::RenewCertificate { .. }
        | Action::LockAccount { .. }
        | Action::IsolateHost { .. }
        // Settings, of which a package's record does not speak.
        | Action::UndoAction { .. } => false,
    };
    let genuine = request.facts.filter(|_| takes_away)?.vouched_for(request.doubted).next()?;
    let Genuine { path, package, .. } = genuine;
    Some(format!("K9: `{path}` is exactly what {package} ships: a genuine file of the system is not taken away"))
}

/// Nobody's way in or out is cut who is no part of the attack: neither the people's nor the host's own.
fn control_path(request: &Request<'_>) -> Option<String> {
    let address = match request.action {
        Action::FilterTraffic { address, .. } => address,
        Action::LockAccount { uid, .. } => {
            return request.spared.map(|why| format!("K8: the account of uid {uid} is spared: {why}"));
        }
        Action::IsolateHost { control, .. } => return way_in(control, request.never_block),
        _ => return None,
    };
    let network = request.never_block.iter().find(|network| network.contains(*address));
    let configured = network.map(|network| format!("{network} is never blocked, says the configuration"));
    let needed = || request.facts.and_then(|facts| facts.needed.clone());
    let why = configured.or_else(|| request.spared.map(ToOwned::to_owned)).or_else(needed)?;
    Some(format!("K8: {address} is spared: {why}"))
}

/// Whom the host may go on to talk to are those that the configuration never blocks, all of them and nobody else, and there is
/// one.
fn way_in(control: &[Network], never_block: &[Network]) -> Option<String> {
    let Some(lost) = never_block.iter().find(|network| !control.contains(network)) else {
        let beyond = control.iter().find(|network| !never_block.contains(network));
        return match beyond {
            Some(network) => Some(format!("K8: {network} is not in `never_block` of the configuration: no way in")),
            None if control.iter().any(|network| is_elsewhere(network.parts().0)) => None,
            None => Some("K8: no way in would be left: `never_block` of the configuration names nobody".to_owned()),
        };
    };
    Some(format!("K8: {lost} would be cut off: it is never blocked, says the configuration"))
}

/// Why no policy permits it without a person.
pub(super) const fn personal(action: &Action) -> Option<&'static str> {
    match action {
        Action::LockAccount { .. } => Some("K8: its owner would be locked out, too: a person decides"),
        Action::IsolateHost { .. } => Some("K8: nobody else would reach this host any more: a person decides"),
        _ => None,
    }
}

/// Lapses by itself: the warden continues what is suspended, the kernel forgets what is blocked.
const fn is_leased(action: &Action) -> bool {
    matches!(action, Action::SuspendProcesses { .. } | Action::FilterTraffic { .. } | Action::IsolateHost { .. })
}

/// Absolute, not the root itself, no empty, `.` or `..` component.
fn is_plain(path: &HostPath) -> bool {
    let Some(rest) = path.as_bytes().strip_prefix(b"/") else { return false };
    rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// As systemd.unit(5) has it: letters, digits, `:-_.\@`, with a type; not an option, not a path.
fn is_unit_name(unit: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    unit.len() <= 255 && unit.bytes().all(allowed) && unit.contains('.') && !unit.starts_with(['-', '.'])
}

fn is_own_or_vital_unit(unit: &str) -> bool {
    let vital =
        ["init.scope", "dbus.service", "dbus.socket", "systemd-journald.service", "-.mount", "-.slice", "system.slice"];
    unit.starts_with("thymus") || vital.contains(&unit)
}
