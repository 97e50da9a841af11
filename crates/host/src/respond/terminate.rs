// SPDX-License-Identifier: Apache-2.0
//! D3-PT Process Termination: SIGKILL, after what dies with the process is saved.

use super::tree::{Found, Halt, Order, Tree, lease_error, living, resume};
use super::{Before, LEASE_NS, facts, words};
use crate::system::{Delivered, Life, ProcessState, Result, Signal, System, same_process};
use crate::warden::Leases;
use std::time::Duration;
use thymus_engine::action::{Facts, Outcome};
use thymus_engine::{ActionId, ProcessKey, Timestamp};

/// How long a killed process may take to be gone; one that sleeps in the kernel cannot be hurried.
pub const GONE_LIMIT: Duration = Duration::from_secs(5);
const GONE_POLL: Duration = Duration::from_millis(5);

/// Evidence of each of them; `false` when some of a process that still lives could not be had.
fn save(system: &mut dyn System, living_ones: &[ProcessState], before: &mut Before) -> Result<bool> {
    let mut saved = true;
    for state in living_ones {
        let had = before.evidence.iter().any(|(process, ..)| same_process(*process, state.key));
        if had {
            continue;
        }
        match system.evidence(state.key) {
            Ok(kept) if kept.is_empty() => saved &= living(system, state.key)?.is_none(),
            Ok(kept) => before.evidence.extend(kept.into_iter().map(|(name, digest)| (state.key, name, digest))),
            Err(error) => {
                tracing::warn!(pid = state.key.pid, error = error.in_words(), "no evidence of a process");
                saved &= living(system, state.key)?.is_none();
            }
        }
    }
    Ok(saved)
}

fn note(leases: &Leases, found: &Found, now: Timestamp, before: &mut Before) {
    for state in &found.living {
        let known = before.ran.iter().chain(&before.stopped).any(|known| same_process(*known, state.key));
        let by_another = state.life == Life::Stopped && !leases.hold(state.key, now);
        if !known {
            if by_another { &mut before.stopped } else { &mut before.ran }.push(state.key);
        }
    }
}

/// Who lives, and the evidence of each, on disk. There is nothing to undo with: `undo_ready` is false, and that is no fault.
pub fn capture(system: &mut dyn System, leases: &Leases, processes: &[ProcessKey]) -> Result<(Before, Facts)> {
    let found = Tree::default().find(system, processes)?;
    let mut before = Before::default();
    note(leases, &found, system.now(), &mut before);
    // What may not be touched is not even read: the action will be refused.
    let saved = if found.untouchable { true } else { save(system, &found.living, &mut before)? };
    Ok((before, facts(&found, false, saved)))
}

/// Stops the whole tree, so that nobody escapes by forking or by losing a parent; saves evidence of who came since the
/// capture (into `before`); kills; waits until all are gone, at most [`GONE_LIMIT`].
pub fn apply(
    system: &mut dyn System,
    leases: &Leases,
    action: ActionId,
    processes: &[ProcessKey],
    before: &mut Before,
) -> Result<Outcome> {
    // Captured descendants are named too: whose parent died since is found by name alone.
    let mut named = processes.to_vec();
    named.extend(before.ran.iter().chain(&before.stopped));
    let mut halt = Halt::default();
    let until = Timestamp(system.now().0.saturating_add(LEASE_NS));
    let mut tree = Tree::default();
    tree.halt(system, leases, Order { action, until }, &named, &mut halt);
    let found = tree.find(system, &named)?;
    if found.living.is_empty() && halt.refused.is_empty() {
        return Ok(Outcome::DoesNotExist);
    }
    note(leases, &found, system.now(), before);
    save(system, &found.living, before)?;
    let mut failed = std::mem::take(&mut halt.refused);
    let mut killed = Vec::new();
    for state in &found.living {
        if failed.iter().any(|(process, _)| same_process(*process, state.key)) {
            continue;
        }
        match system.signal(state.key, Signal::Kill) {
            Ok(Delivered::Yes) => killed.push(state.key),
            Ok(Delivered::Gone) => leases.end(state.key).map_err(lease_error(state.key))?,
            Err(error) => failed.push((state.key, error.in_words())),
        }
    }
    for process in wait(system, leases, killed)? {
        failed.push((process, format!("killed, and not gone within {GONE_LIMIT:?}")));
    }
    if failed.is_empty() { Ok(Outcome::Success) } else { Ok(Outcome::Failed(words("not ended", &failed))) }
}

/// Those that are still there at the deadline.
fn wait(system: &mut dyn System, leases: &Leases, mut killed: Vec<ProcessKey>) -> Result<Vec<ProcessKey>> {
    let begun = system.now();
    loop {
        let mut left = Vec::new();
        for process in killed {
            match living(system, process)? {
                Some(_) => left.push(process),
                None => leases.end(process).map_err(lease_error(process))?,
            }
        }
        if left.is_empty() || u128::from(system.now().since_ns(begun)) >= GONE_LIMIT.as_nanos() {
            return Ok(left);
        }
        killed = left;
        system.pause(GONE_POLL);
    }
}

/// The dead stay dead. Those that were only stopped (the action was cut short) go on, unless another action holds them.
pub fn revert(system: &mut dyn System, leases: &Leases, action: ActionId, before: &Before) -> Result<Outcome> {
    let mut dead = 0_usize;
    for process in before.ran.iter().chain(&before.stopped) {
        dead += usize::from(living(system, *process)?.is_none());
    }
    for process in leases.of(action) {
        if leases.hold_under_another(action, process) {
            leases.end_under(action, process).map_err(lease_error(process))?;
        } else {
            resume(system, leases, process)?;
        }
    }
    Ok(match dead {
        0 => Outcome::Undone,
        dead => Outcome::Failed(format!("{dead} processes ended and stay so: termination cannot be undone")),
    })
}
