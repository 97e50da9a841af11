// SPDX-License-Identifier: Apache-2.0
//! Isolate and evict: stop, terminate, end a session, block an address. One action a file, with its undo.
//!
//! Invariants: what is named and what descends from it, nothing else; a lease is in the table before a process is stopped;
//! what somebody else had stopped is never continued; below a process that may not be touched nobody is touched.

pub mod account;
pub mod filter;
pub mod isolate;
pub mod session;
pub mod suspend;
pub mod terminate;
#[cfg(test)]
mod tests;
mod tree;

use crate::journal;
use crate::journal::ring::{Promise, Ring};
use crate::system::{self, System};
use crate::warden::Leases;
use serde::{Deserialize, Serialize};
use std::path::Path;
use thymus_engine::action::{Expected, Facts, Outcome};
use thymus_engine::{ActionId, IncidentId, ProcessKey, Timestamp};
use tree::{Halt, Tree};

/// How long stopped processes stay so when nobody renews: nanoseconds.
pub const LEASE_NS: u64 = 30_000_000_000;
/// LIMIT: looks for descendants in one stop. Two are enough unless something that cannot be stopped goes on forking.
pub const ROUNDS_MAX: u32 = 32;
/// LIMIT: refusals that an outcome tells in words; the rest is counted.
const REFUSED_SHOWN: usize = 8;

/// What undo of an action on processes needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Those that ran, and so were stopped or killed.
    pub ran: Vec<ProcessKey>,
    /// Those that somebody else had stopped before; never continued by us.
    pub stopped: Vec<ProcessKey>,
    /// What was saved of each, as digests in the keep.
    pub evidence: Vec<(ProcessKey, String, crate::system::Digest)>,
}

/// A reflex that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reflexed {
    pub action: ActionId,
    pub incident: IncidentId,
    pub time: Timestamp,
    pub before: Before,
    /// Could not be stopped, with the reason.
    pub refused: Vec<(ProcessKey, String)>,
    /// Times the descendants were looked for until none was new.
    pub rounds: u32,
}

impl Reflexed {
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if !self.refused.is_empty() {
            Outcome::Failed(words("not stopped", &self.refused))
        } else if self.before.ran.is_empty() && self.before.stopped.is_empty() {
            Outcome::DoesNotExist
        } else {
            Outcome::Success
        }
    }
}

/// The first stop, in the hot thread: no fsync, no allocation worth the name.
#[derive(Debug)]
pub struct Reflex<'a> {
    system: Box<dyn System + 'a>,
    leases: Leases,
    ring: Ring,
    tree: Tree,
    promised: Vec<Promise>,
}

impl<'a> Reflex<'a> {
    /// `ring`: the preallocated file that keeps the intent when the agent dies.
    pub fn open(system: Box<dyn System + 'a>, leases: Leases, ring: &Path) -> Result<Self, journal::Error> {
        let (ring, promised) = Ring::open(ring)?;
        Ok(Self { system, leases, ring, tree: Tree::default(), promised })
    }

    /// What an agent before this one promised in this boot and did not see in the journal: adopt each, then say
    /// [`Reflex::settled`]. Given once.
    pub fn unsettled(&mut self) -> Vec<Reflexed> {
        let promised = std::mem::take(&mut self.promised);
        let reflexed = promised.into_iter().map(|Promise { action, incident, time, processes: mut ran }| {
            let held = self.leases.of(action);
            ran.extend(
                held.into_iter()
                    .filter(|one| !ran.iter().any(|other| system::same_process(*one, *other)))
                    .collect::<Vec<_>>(),
            );
            let before = Before { ran, ..Before::default() };
            Reflexed { action, incident, time, before, refused: Vec::new(), rounds: 0 }
        });
        reflexed.collect()
    }

    /// The journal has this reflex: the ring may forget it.
    pub fn settled(&mut self, action: ActionId) -> Result<(), journal::Error> {
        self.ring.clear(action)
    }

    /// Stops these processes and their descendants, until no new one is found.
    pub fn stop(&mut self, action: ActionId, incident: IncidentId, processes: &[ProcessKey]) -> Reflexed {
        let time = self.system.now();
        let mut halt = Halt::default();
        match self.ring.promise(action, incident, time, processes) {
            Ok(()) => {
                let until = Timestamp(time.0.saturating_add(LEASE_NS));
                self.tree.halt(&mut *self.system, &self.leases, tree::Order { action, until }, processes, &mut halt);
            }
            // Nothing is done that is not written down.
            Err(error) => {
                let why = system::in_words(&error);
                halt.refused.extend(processes.iter().map(|process| (*process, why.clone())));
            }
        }
        let Halt { before, refused, rounds, .. } = halt;
        Reflexed { action, incident, time, before, refused, rounds }
    }
}

fn words(what: &str, refused: &[(ProcessKey, String)]) -> String {
    let shown = refused.iter().take(REFUSED_SHOWN).map(|(process, why)| format!("process {}: {why}", process.pid));
    let shown = shown.collect::<Vec<_>>().join("; ");
    match refused.len().saturating_sub(REFUSED_SHOWN) {
        0 => format!("{what}: {shown}"),
        more => format!("{what}: {shown}; and {more} more"),
    }
}

/// Facts that are the same for all actions on processes.
fn facts(found: &tree::Found, undo_ready: bool, evidence_saved: bool) -> Facts {
    let as_expected = if found.living.is_empty() { Expected::AlreadyDone } else { Expected::Yes };
    let never_touch = found.untouchable;
    Facts { undo_ready, never_touch, evidence_saved, ..Facts::ready(as_expected, found.living.len()) }
}
