// SPDX-License-Identifier: Apache-2.0
//! Processes and what descends from them.
//!
//! A process with a stop signal pending completes no fork, so a look in which nobody is new, begun after everybody known
//! was signalled, is the last one needed.

use super::{Before, ROUNDS_MAX};
use crate::system::{self, Delivered, Life, ProcessState, Result, Signal, System, TICK_NS};
use crate::warden::Leases;
use std::collections::BTreeSet;
use thymus_engine::{ActionId, ProcessKey, Timestamp};

/// Under which action, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) action: ActionId,
    pub(super) until: Timestamp,
}

/// What came of a stop.
#[derive(Debug, Default)]
pub(super) struct Halt {
    pub(super) before: Before,
    pub(super) refused: Vec<(ProcessKey, String)>,
    pub(super) rounds: u32,
    /// Of whom anything is known already: all of the above.
    known: BTreeSet<ProcessKey>,
}

/// As [`system::same_process`] compares, and of one boot.
fn identity(process: ProcessKey) -> ProcessKey {
    ProcessKey { start_time: Timestamp(process.start_time.0 / TICK_NS), ..process }
}

impl Halt {
    fn refuse(&mut self, process: ProcessKey, why: String) {
        self.known.insert(identity(process));
        self.refused.push((process, why));
    }

    fn ran(&mut self, process: ProcessKey) {
        self.known.insert(identity(process));
        self.before.ran.push(process);
    }

    fn was_stopped(&mut self, process: ProcessKey) {
        self.known.insert(identity(process));
        self.before.stopped.push(process);
    }

    fn knows(&self, process: ProcessKey) -> bool {
        self.known.contains(&identity(process))
    }
}

/// Who is there, before anything is done.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The named ones that exist, then what descends from them; zombies are gone.
    pub(super) living: Vec<ProcessState>,
    /// One of the named may never be touched.
    pub(super) untouchable: bool,
}

/// Kept from one stop to the next, so that the hot thread allocates once.
#[derive(Debug, Default)]
pub(super) struct Tree {
    all: Vec<ProcessState>,
    /// Pids that are in the tree, and those whose children are still to be looked at.
    inside: BTreeSet<u32>,
    roots: BTreeSet<ProcessKey>,
    pending: Vec<ProcessState>,
}

/// The process as it is now; `None` when that process is gone, or only waits to be waited for.
pub(super) fn living(system: &mut dyn System, process: ProcessKey) -> Result<Option<ProcessState>> {
    let state = system.process(process.pid)?;
    Ok(state.filter(|state| is_same(state.key, process) && state.life != Life::Zombie))
}

fn is_same(one: ProcessKey, other: ProcessKey) -> bool {
    identity(one) == identity(other)
}

impl Tree {
    /// Gives `each` every living descendant of the roots, parents first; where it answers false, nobody below is visited.
    fn descend(
        &mut self,
        system: &mut dyn System,
        roots: &[ProcessKey],
        mut each: impl FnMut(&mut dyn System, &ProcessState) -> bool,
    ) -> Result<()> {
        system.processes(&mut self.all)?;
        self.inside.clear();
        self.roots.clear();
        self.roots.extend(roots.iter().map(|root| identity(*root)));
        self.pending.clear();
        self.all.sort_unstable_by_key(|state| (state.parent, state.key.pid));
        for state in &self.all {
            if self.roots.contains(&identity(state.key)) && self.inside.insert(state.key.pid) {
                self.pending.push(*state);
            }
        }
        while let Some(parent) = self.pending.pop() {
            let first = self.all.partition_point(|state| state.parent < parent.key.pid);
            for at in first..self.all.len() {
                let child = self.all[at];
                if child.parent != parent.key.pid {
                    break;
                }
                // A child is never older than its parent: an older one belongs to another process that had this pid.
                let older = child.key.start_time.0 / TICK_NS < parent.key.start_time.0 / TICK_NS;
                if older || child.life == Life::Zombie || !self.inside.insert(child.key.pid) {
                    continue;
                }
                if each(system, &child) {
                    self.pending.push(child);
                }
            }
        }
        Ok(())
    }

    /// The named processes that exist and what descends from them, as far as it may be touched.
    pub(super) fn find(&mut self, system: &mut dyn System, named: &[ProcessKey]) -> Result<Found> {
        let mut found = Found::default();
        for process in named {
            let Some(state) = living(system, *process)? else { continue };
            found.untouchable |= system.untouchable(&state).is_some();
            if !found.living.iter().any(|known| is_same(known.key, state.key)) {
                found.living.push(ProcessState { key: *process, ..state });
            }
        }
        let living = &mut found.living;
        self.descend(system, named, |system, state| {
            let touchable = system.untouchable(state).is_none();
            if touchable {
                living.push(*state);
            }
            touchable
        })?;
        Ok(found)
    }

    /// Stops the named at once, then their descendants until a look finds nobody new.
    pub(super) fn halt(
        &mut self,
        system: &mut dyn System,
        leases: &Leases,
        order: Order,
        named: &[ProcessKey],
        halt: &mut Halt,
    ) {
        for process in named {
            if halt.knows(*process) {
                continue;
            }
            match living(system, *process) {
                Ok(None) => {}
                Ok(Some(state)) => stop(system, leases, order, &ProcessState { key: *process, ..state }, halt),
                Err(error) => halt.refuse(*process, error.in_words()),
            }
        }
        while halt.rounds < ROUNDS_MAX {
            halt.rounds += 1;
            let known = halt.known.len();
            let looked = self.descend(system, named, |system, state| {
                if !halt.knows(state.key) {
                    stop(system, leases, order, state, halt);
                }
                !halt.refused.iter().any(|(refused, _)| is_same(*refused, state.key))
            });
            if let Err(error) = looked {
                let why = format!("its descendants could not be looked for: {}", error.in_words());
                halt.refused.extend(named.first().map(|process| (*process, why)));
                return;
            }
            if halt.known.len() == known {
                return;
            }
        }
        let why = format!("new descendants still appeared after {ROUNDS_MAX} looks");
        halt.refused.extend(named.first().map(|process| (*process, why)));
    }
}

/// The lease first, the signal then.
fn stop(system: &mut dyn System, leases: &Leases, order: Order, state: &ProcessState, halt: &mut Halt) {
    let process = state.key;
    if let Some(why) = system.untouchable(state) {
        halt.refuse(process, why.to_owned());
        return;
    }
    if state.life == Life::Stopped && !leases.hold(process, system.now()) {
        halt.was_stopped(process);
        return;
    }
    if let Err(error) = leases.grant(order.action, process, order.until) {
        halt.refuse(process, system::in_words(&error));
        return;
    }
    match system.signal(process, Signal::Stop) {
        Ok(Delivered::Yes) => halt.ran(process),
        Ok(Delivered::Gone) => drop(leases.end(process)),
        Err(error) => {
            drop(leases.end_under(order.action, process));
            halt.refuse(process, error.in_words());
        }
    }
}

/// Continues a process that we stopped, then ends its leases: what is cut short in between, the warden finishes.
/// One that runs and is not held needs nothing.
pub(super) fn resume(system: &mut dyn System, leases: &Leases, process: ProcessKey) -> Result<()> {
    let state = living(system, process)?;
    if state.is_some_and(|state| state.life == Life::Stopped || leases.hold(process, Timestamp(0))) {
        system.signal(process, Signal::Continue)?;
    }
    leases.end(process).map_err(lease_error(process))
}

/// As an error of the door onto the system.
pub(super) fn lease_error(process: ProcessKey) -> impl FnOnce(crate::warden::Error) -> system::Error {
    move |error| system::Error::Process {
        doing: "write down the lease of",
        pid: process.pid,
        source: std::io::Error::other(error),
    }
}
