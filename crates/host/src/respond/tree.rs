// SPDX-License-Identifier: Apache-2.0
//! Processes and what descends from them.
//!
//! A process with a stop signal pending completes no fork, so a look in which nobody is new, begun after everybody known
//! was signalled, is the last one needed. A parent that waits in vfork(2) for a child that is stopped runs nothing until
//! that goes on, though `/proc` does not call it stopped.

use super::{Before, ROUNDS_MAX};
use crate::system::{self, Delivered, Life, ProcessState, Result, Signal, System, TICK_NS};
use crate::warden::Leases;
use std::collections::{BTreeMap, BTreeSet};
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

    fn refuses(&self, process: ProcessKey) -> bool {
        self.refused.iter().any(|(refused, _)| is_same(*refused, process))
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
    /// The named, by [`identity`], as the last look found them among the scope's processes.
    roots: BTreeMap<ProcessKey, Option<ProcessState>>,
    pending: Vec<ProcessState>,
    /// To be stopped together: the named first, then their descendants, parents first.
    chosen: Vec<ProcessState>,
    keys: Vec<ProcessKey>,
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
    fn look(&mut self, system: &mut dyn System, roots: &[ProcessKey]) -> Result<()> {
        self.roots.clear();
        self.roots.extend(roots.iter().map(|root| (identity(*root), None)));
        self.all.clear();
        system.processes(&mut self.all)?;
        self.all.sort_unstable_by_key(|state| (state.parent, state.key.pid));
        for state in &self.all {
            if let Some(found) = self.roots.get_mut(&identity(state.key)) {
                *found = Some(*state);
            }
        }
        Ok(())
    }

    /// A named process, as the last look found it, or by itself where that did not list it; `None` when it is gone.
    fn named(&self, system: &mut dyn System, process: ProcessKey) -> Result<Option<ProcessState>> {
        let state = match self.roots.get(&identity(process)).copied().flatten() {
            Some(state) => Some(state).filter(|state| state.life != Life::Zombie),
            None => living(system, process)?,
        };
        Ok(state.map(|state| ProcessState { key: process, ..state }))
    }

    /// Gives `each` every living descendant of the roots in the last look, parents first. Nobody is visited below a root
    /// that is shunned, or where `each` answers false.
    fn descend(&mut self, shunned: &BTreeSet<ProcessKey>, mut each: impl FnMut(&ProcessState) -> bool) {
        self.inside.clear();
        self.pending.clear();
        for root in self.roots.values().flatten() {
            if self.inside.insert(root.key.pid) && !shunned.contains(&identity(root.key)) {
                self.pending.push(*root);
            }
        }
        while let Some(parent) = self.pending.pop() {
            let first = self.all.partition_point(|state| state.parent < parent.key.pid);
            for child in self.all[first..].iter().take_while(|child| child.parent == parent.key.pid) {
                // A child is never older than its parent: an older one belongs to another process that had this pid.
                let older = child.key.start_time.0 / TICK_NS < parent.key.start_time.0 / TICK_NS;
                if older || child.life == Life::Zombie || !self.inside.insert(child.key.pid) {
                    continue;
                }
                if each(child) {
                    self.pending.push(*child);
                }
            }
        }
    }

    /// The named processes that exist and what descends from them, as far as it may be touched.
    pub(super) fn find(&mut self, system: &mut dyn System, named: &[ProcessKey]) -> Result<Found> {
        let mut found = Found::default();
        let mut shunned = BTreeSet::new();
        self.look(system, named)?;
        for process in named {
            let Some(state) = self.named(system, *process)? else { continue };
            if system.untouchable(&state).is_some() {
                found.untouchable = true;
                shunned.insert(identity(state.key));
            }
            if !found.living.iter().any(|known| is_same(known.key, state.key)) {
                found.living.push(state);
            }
        }
        self.descend(&shunned, |state| {
            let touchable = system.untouchable(state).is_none();
            if touchable {
                found.living.push(*state);
            }
            touchable
        });
        Ok(found)
    }

    /// Stops the named and their descendants, look by look, until one finds nobody new.
    pub(super) fn halt(
        &mut self,
        system: &mut dyn System,
        leases: &Leases,
        order: Order,
        named: &[ProcessKey],
        halt: &mut Halt,
    ) {
        while halt.rounds < ROUNDS_MAX {
            halt.rounds += 1;
            let (first, known) = (halt.rounds == 1, halt.known.len());
            let looked = self.look(system, named);
            let mut chosen = std::mem::take(&mut self.chosen);
            chosen.clear();
            for process in named.iter().filter(|_| first) {
                match self.named(system, *process) {
                    Ok(Some(state)) if !halt.knows(*process) => choose(system, leases, &state, halt, &mut chosen),
                    Ok(_) => {}
                    Err(error) => halt.refuse(*process, error.in_words()),
                }
            }
            let named_count = chosen.len();
            let shunned = halt.refused.iter().map(|(process, _)| identity(*process)).collect();
            self.descend(&shunned, |state| {
                if !halt.knows(state.key) {
                    choose(system, leases, state, halt, &mut chosen);
                }
                !halt.refuses(state.key)
            });
            self.keys.clear();
            self.keys.extend(chosen.iter().map(|state| state.key));
            self.chosen = chosen;
            self.stop(system, leases, order, named_count, halt);
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

    /// All leases first, the signals then: parents before their children, and nobody below one who is refused now.
    fn stop(&mut self, system: &mut dyn System, leases: &Leases, order: Order, named: usize, halt: &mut Halt) {
        if self.keys.is_empty() {
            return;
        }
        let (granted, full) = leases.grant_all(order.action, &self.keys, order.until);
        system.hold(&self.keys[..granted]);
        let mut shunned: BTreeSet<u32> = BTreeSet::new();
        for (at, state) in self.chosen.iter().enumerate() {
            let process = state.key;
            if at >= named && shunned.contains(&state.parent) {
                shunned.insert(process.pid);
                drop(leases.end_under(order.action, process));
                continue;
            }
            let sent = match &full {
                Err(error) if at >= granted => Err(system::in_words(error)),
                _ => system.signal(process, Signal::Stop).map_err(|error| error.in_words()),
            };
            match sent {
                Ok(Delivered::Yes) => halt.ran(process),
                Ok(Delivered::Gone) => drop(leases.end(process)),
                Err(why) => {
                    drop(leases.end_under(order.action, process));
                    shunned.insert(process.pid);
                    halt.refuse(process, why);
                }
            }
        }
        system.hold(&[]);
    }
}

/// Among those to be stopped, unless it may not be touched or somebody else has stopped it.
fn choose(
    system: &mut dyn System,
    leases: &Leases,
    state: &ProcessState,
    halt: &mut Halt,
    chosen: &mut Vec<ProcessState>,
) {
    let process = state.key;
    if let Some(why) = system.untouchable(state) {
        halt.refuse(process, why.to_owned());
    } else if state.life == Life::Stopped && !leases.hold(process, system.now()) {
        halt.was_stopped(process);
    } else if !chosen.iter().any(|other| is_same(other.key, process)) {
        chosen.push(*state);
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
