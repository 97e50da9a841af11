// SPDX-License-Identifier: Apache-2.0
//! D3-PS Process Suspension: SIGSTOP, under a lease.

use super::tree::{self, Halt, Order, Tree, living, resume};
use super::{Before, LEASE_NS, facts, words};
use crate::system::{Life, Result, System, same_process};
use crate::warden::Leases;
use thymus_engine::action::{Facts, Outcome};
use thymus_engine::{ActionId, ProcessKey, Timestamp};

/// Who runs and who is stopped by somebody else. Nothing dies, so no evidence is needed.
pub fn capture(system: &mut dyn System, leases: &Leases, processes: &[ProcessKey]) -> Result<(Before, Facts)> {
    let found = Tree::default().find(system, processes)?;
    let now = system.now();
    let (mut ran, mut stopped) = (Vec::new(), Vec::new());
    for state in &found.living {
        let by_another = state.life == Life::Stopped && !leases.hold(state.key, now);
        if by_another { &mut stopped } else { &mut ran }.push(state.key);
    }
    Ok((Before { ran, stopped, evidence: Vec::new() }, facts(&found, true, true)))
}

/// Stops them and what descends from them by now.
pub fn apply(system: &mut dyn System, leases: &Leases, action: ActionId, processes: &[ProcessKey]) -> Result<Outcome> {
    let mut halt = Halt::default();
    let until = Timestamp(system.now().0.saturating_add(LEASE_NS));
    Tree::default().halt(system, leases, Order { action, until }, processes, &mut halt);
    Ok(if !halt.refused.is_empty() {
        Outcome::Failed(words("not stopped", &halt.refused))
    } else if halt.before.ran.is_empty() && halt.before.stopped.is_empty() {
        Outcome::DoesNotExist
    } else {
        Outcome::Success
    })
}

/// Prolongs the leases of this action by [`LEASE_NS`] from now and stops again what runs, with its descendants;
/// also what somebody else had stopped and somebody else continued. How many processes are held.
pub fn renew(system: &mut dyn System, leases: &Leases, action: ActionId, before: &Before) -> Result<usize> {
    let until = Timestamp(system.now().0.saturating_add(LEASE_NS));
    let mut again = Vec::new();
    for process in leases.of(action) {
        match living(system, process)? {
            None => drop(leases.end_under(action, process)),
            Some(state) => {
                leases.grant(action, process, until).map_err(tree::lease_error(process))?;
                again.extend((state.life == Life::Runs).then_some(process));
            }
        }
    }
    for process in &before.stopped {
        let runs = living(system, *process)?.is_some_and(|state| state.life == Life::Runs);
        again.extend(runs.then_some(*process));
    }
    if !again.is_empty() {
        Tree::default().halt(system, leases, Order { action, until }, &again, &mut Halt::default());
    }
    Ok(leases.of(action).len())
}

/// Continues those that ran, also those that were found only while stopping. Reverting twice is reverting once.
pub fn revert(system: &mut dyn System, leases: &Leases, action: ActionId, before: &Before) -> Result<Outcome> {
    let mut processes = before.ran.clone();
    for process in leases.of(action) {
        if !processes.iter().any(|known| same_process(*known, process)) {
            processes.push(process);
        }
    }
    let mut failed = Vec::new();
    for process in processes {
        if let Err(error) = resume(system, leases, process) {
            failed.push((process, error.in_words()));
        }
    }
    Ok(if failed.is_empty() { Outcome::Undone } else { Outcome::Failed(words("not continued", &failed)) })
}
