// SPDX-License-Identifier: Apache-2.0
//! The one way to act: remember, promise, act, settle, in this order.
//!
//! Input: the engine's effects. Output: its inputs. Invariants: nothing is done whose undo is not on disk; a failing action
//! is put back; after a crash every open promise is settled or put back before anything else; undoing twice is undoing once.

mod versions;

pub use versions::{VaultContents, VaultVersions};

use crate::journal::{self, Intent, Journal, Story};
use crate::package::{NoPackages, Packages};
use crate::recover::genuine;
use crate::recover::remedy::{self, Remedies};
use crate::recover::{self, Watch};
use crate::respond;
use crate::system::{self, FileState, System, UnitState};
use crate::warden::Leases;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thymus_engine::action::{Expected, Facts, Merge, Outcome};
use thymus_engine::incident::Verdict;
use thymus_engine::input::Proof;
use thymus_engine::{Action, ActionId, HostPath, IncidentId, Input, Timestamp, VersionId};

/// LIMIT: actions captured and not yet committed or dropped.
pub const PREPARED_MAX: usize = 4_096;

/// All that undo needs, one variant a kind of object.
#[allow(clippy::large_enum_variant, reason = "few at a time; a box would be in every pattern")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Before {
    Processes(respond::Before),
    File(recover::file::Before),
    /// Those that were not in order already.
    Files(Vec<(HostPath, recover::file::Before)>),
    Unit(UnitState),
    /// Until when the address was blocked already.
    Filter(Option<Timestamp>),
    Remedy(recover::remedy::Before),
    Account(respond::account::Before),
    Isolation(respond::isolate::Before),
    /// The story of the action that is taken back has it.
    Story,
}

/// Where versions come from: the vault, or a test's own.
pub trait Versions: Send {
    /// State of `version` with the digest of its content; `Ok(None)`: the path did not exist. `Err`: not in the vault, in words.
    fn state(&self, version: VersionId) -> Result<Option<FileState>, String>;
    /// Content of a version of a regular file, at most `CONTENT_BYTES_MAX`.
    fn content(&self, version: VersionId) -> Result<Vec<u8>, String>;
    /// Other names that the file of that version had, as far as they are known.
    fn names(&self, version: VersionId) -> Vec<HostPath>;
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
    remedies: Remedies,
    packages: Box<dyn Packages + 'a>,
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("prepared", &self.prepared.len()).finish_non_exhaustive()
    }
}

/// What came of undoing one action.
#[derive(Clone, Debug, PartialEq)]
pub struct Undone {
    pub action: ActionId,
    pub outcome: Outcome,
    /// The action could be undone at all: a process that was ended stays ended.
    pub reversible: bool,
    /// What may be other than it was.
    pub path: Option<HostPath>,
}

impl<'a> Hands<'a> {
    #[must_use]
    pub fn new(
        system: Box<dyn System + 'a>,
        journal: Journal,
        versions: Box<dyn Versions + 'a>,
        leases: Leases,
    ) -> Self {
        let packages = Box::new(NoPackages);
        let (prepared, remedies) = (BTreeMap::new(), Remedies::default());
        Self { system, journal, versions, leases, prepared, remedies, packages }
    }

    /// What the configuration declares about curing; nothing without it.
    #[must_use]
    pub fn with_remedies(self, remedies: Remedies) -> Self {
        Self { remedies, ..self }
    }

    /// Where files of packages come from; nowhere without it.
    #[must_use]
    pub fn with_packages(self, packages: Box<dyn Packages + 'a>) -> Self {
        Self { packages, ..self }
    }

    /// Puts decoys back that somebody wrote or took away.
    pub fn tend(&mut self, decoys: &mut crate::decoy::Decoys) {
        decoys.maintain(&mut *self.system);
    }

    /// First of all after a start: settles or puts back every open intent, newest first. Feed it as [`Input::Restarted`].
    pub fn recover_open(&mut self) -> Vec<(ActionId, Outcome)> {
        let mut settled = Vec::new();
        for intent in self.journal.open_intents().into_iter().rev() {
            let outcome = self.settle_open(&intent);
            if let Err(error) = self.journal.settle(self.system.now(), intent.action, &outcome) {
                tracing::error!(action = %intent.action, %error, "an open action is settled, but not written down");
            }
            settled.push((intent.action, outcome));
        }
        settled
    }

    /// What was under way is done when what was wanted is there; otherwise it is put back, and the engine decides anew.
    fn settle_open(&mut self, intent: &Intent) -> Outcome {
        const ENDED: &str = "the agent ended in the middle of it";
        match (&intent.what, &intent.before) {
            (Action::RestoreFile(_) | Action::QuarantineFile { .. }, Before::File(before)) => {
                let Some(path) = intent.what.path() else { return Outcome::Failed("names no path".to_owned()) };
                recover::file::settle_open(&mut *self.system, path, before, ENDED)
            }
            (Action::RestoreFiles { .. }, Before::Files(files)) => {
                recover::many::settle_open(&mut *self.system, files, ENDED)
            }
            (Action::RestorePackaged { .. }, Before::Files(files)) => {
                recover::packaged::settle_open(&mut *self.system, files, ENDED)
            }
            (Action::LockAccount { path, .. }, Before::Account(before)) => {
                match respond::account::settle_open(&mut *self.system, path, before, ENDED) {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Failed(error.in_words()),
                }
            }
            // Whoever was stopped is held by a lease, which the engine renews by stopping anew, or lets lapse.
            (Action::SuspendProcesses { .. }, _) => Outcome::Success,
            (Action::FilterTraffic { address, extent, .. }, _) => {
                match respond::filter::settle_open(&mut *self.system, (*address, *extent), ENDED) {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Failed(error.in_words()),
                }
            }
            (Action::IsolateHost { control, .. }, Before::Isolation(before)) => {
                match respond::isolate::settle_open(&mut *self.system, control, *before, ENDED) {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Failed(error.in_words()),
                }
            }
            (Action::TerminateProcesses { processes } | Action::EndSession { processes, .. }, _) => {
                match recover::proof::alive(&mut *self.system, processes) {
                    Ok(alive) if alive.is_empty() => Outcome::Success,
                    Ok(_) => Outcome::Reverted(ENDED.to_owned()),
                    Err(error) => Outcome::Failed(error.in_words()),
                }
            }
            // Asking a service manager again is harmless: the engine does.
            // So is loading rules, a certificate's renewal, or undoing, which is once however often it is done; and what is deleted
            // is seen to be.
            (
                Action::RemoveUnit { .. }
                | Action::ReloadService { .. }
                | Action::RestartService { .. }
                | Action::FreeSpace { .. }
                | Action::LoadFirewall { .. }
                | Action::RenewCertificate { .. }
                | Action::UndoAction { .. },
                _,
            ) => Outcome::Reverted(ENDED.to_owned()),
            (_, _) => Outcome::Failed("what was kept for undo does not fit the action".to_owned()),
        }
    }

    /// Answers [`thymus_engine::Effect::Prepare`].
    pub fn prepare(&mut self, action: ActionId, incident: IncidentId, what: Action) -> Input {
        if self.prepared.len() >= PREPARED_MAX && !self.prepared.contains_key(&action) {
            return Input::Unprepared {
                action,
                why: format!("{PREPARED_MAX} actions wait already, which is the limit"),
            };
        }
        match self.capture(&what) {
            Ok((before, facts)) => {
                self.prepared.insert(action, Prepared { incident, what, before, facts: facts.clone() });
                Input::Prepared { action, facts }
            }
            Err(error) => Input::Unprepared { action, why: error.in_words() },
        }
    }

    /// Reads only (evidence and what undo needs go into the keep).
    fn capture(&mut self, what: &Action) -> system::Result<(Before, Facts)> {
        if let Action::UndoAction { of, .. } = what {
            let as_expected = self.is_as_left(*of)?;
            return Ok((Before::Story, Facts::ready(as_expected, 1)));
        }
        let (system, leases) = (&mut *self.system, &self.leases);
        let of_processes = |(before, facts)| (Before::Processes(before), facts);
        let of_unit = |(before, facts)| (Before::Unit(before), facts);
        let of_remedy = |(before, facts)| (Before::Remedy(before), facts);
        let (remedies, packages) = (&self.remedies, &mut *self.packages);
        match what {
            Action::SuspendProcesses { processes } => {
                respond::suspend::capture(system, leases, processes).map(of_processes)
            }
            Action::TerminateProcesses { processes } => {
                respond::terminate::capture(system, leases, processes).map(of_processes)
            }
            Action::EndSession { leader, processes } => {
                respond::session::capture(system, leases, *leader, processes).map(of_processes)
            }
            Action::FilterTraffic { address, extent, .. } => respond::filter::capture(system, (*address, *extent))
                .map(|(until, facts)| (Before::Filter(until), facts)),
            Action::RestoreFile(restore) => {
                let (before, mut facts) = recover::file::capture_restore(system, &*self.versions, restore)?;
                genuine::look(system, packages, [(&restore.path, &before)], &mut facts)?;
                Ok((Before::File(before), facts))
            }
            Action::RestoreFiles { files } => {
                let (before, mut facts) = recover::many::capture(system, &*self.versions, files);
                genuine::look(system, packages, before.iter().map(|(path, before)| (path, before)), &mut facts)?;
                Ok((Before::Files(before), facts))
            }
            Action::QuarantineFile { path, expected } => {
                let (before, mut facts) = recover::file::capture_quarantine(system, &*self.versions, path, *expected)?;
                genuine::look(system, packages, [(path, &before)], &mut facts)?;
                Ok((Before::File(before), facts))
            }
            Action::RemoveUnit { unit } => {
                let (before, mut facts) = recover::unit::capture_removal(system, unit)?;
                genuine::look_at_unit(system, packages, unit, &mut facts)?;
                Ok((Before::Unit(before), facts))
            }
            Action::ReloadService { unit } => recover::unit::capture_reload(system, unit).map(of_unit),
            Action::RestartService { unit } => remedy::capture_restart(system, remedies, unit).map(of_unit),
            Action::FreeSpace { paths } => {
                let (before, mut facts) = remedy::capture_freeing(system, remedies, paths)?;
                genuine::look_anew(system, packages, paths, &mut facts)?;
                Ok((Before::Remedy(before), facts))
            }
            Action::LoadFirewall { path } => remedy::capture_firewall(system, path).map(of_remedy),
            Action::RenewCertificate { path } => remedy::capture_renewal(system, remedies, path).map(of_remedy),
            Action::RestorePackaged { files } => recover::packaged::capture(system, packages, files)
                .map(|(before, facts)| (Before::Files(before), facts)),
            Action::IsolateHost { control, lease_ns } => respond::isolate::capture(system, control, *lease_ns)
                .map(|(before, facts)| (Before::Isolation(before), facts)),
            Action::LockAccount { uid, path } => {
                respond::account::capture(system, *uid, path).map(|(before, facts)| (Before::Account(before), facts))
            }
            Action::UndoAction { .. } => Ok((Before::Story, Facts::ready(Expected::Yes, 1))), // seen to above
        }
    }

    /// Whether what an action did is there to be taken back.
    fn is_as_left(&mut self, of: ActionId) -> system::Result<Expected> {
        let Some(Story { intent, outcome, undone }) = self.journal.story(of) else {
            let why = "what undo needs is not kept any more".to_owned();
            return Err(system::Error::Probe { what: format!("action {of}"), why });
        };
        if undone {
            return Ok(Expected::AlreadyDone);
        }
        if !matches!(outcome, Some(Outcome::Success | Outcome::Partly(_))) {
            return Ok(Expected::Changed(format!("action {of} did nothing that is there to be taken back")));
        }
        match (intent.what.path(), &intent.before) {
            (Some(path), Before::File(before)) => recover::file::is_as_left(&mut *self.system, path, before),
            (_, _) => Ok(Expected::Yes),
        }
    }

    /// Answers [`thymus_engine::Effect::Commit`]: the intent is on disk before anything is done; a failure is put back.
    pub fn commit(&mut self, action: ActionId, verdict: Verdict) -> Input {
        let Some(prepared) = self.prepared.remove(&action) else {
            return Input::Outcome { action, outcome: Outcome::Reverted("it was not prepared".to_owned()) };
        };
        let Prepared { incident, mut what, mut before, facts } = prepared;
        if let Action::RestoreFiles { files } = &what
            && !facts.left_out.is_empty()
        {
            let out = |path: &HostPath| facts.left_out.iter().any(|(left_out, _)| left_out == path);
            let rest: Vec<_> = files.iter().filter(|file| !out(&file.path)).cloned().collect();
            what = Action::RestoreFiles { files: rest.into() };
        }
        if let Merge::Conflict(why) | Merge::Missing(why) = facts.merge {
            // Whoever permitted it: what is wanted is not known, so there is nothing to do.
            return Input::Outcome { action, outcome: Outcome::Reverted(format!("nothing was done: {why}")) };
        }
        let time = self.system.now();
        let intent =
            Intent { action, incident, what: what.clone(), verdict: Some(verdict), before: before.clone(), time };
        if let Err(error) = self.journal.intend(&intent) {
            let why = format!("nothing was done: the intent could not be written down: {}", system::in_words(&error));
            return Input::Outcome { action, outcome: Outcome::Reverted(why) };
        }
        let outcome = match self.apply(action, &what, &mut before) {
            Ok(outcome) => outcome,
            Err(error) => self.put_back(action, &what, &before, &error.in_words()),
        };
        if let Err(error) = self.journal.settle(self.system.now(), action, &outcome) {
            // The intent stays open: the next start settles it. What was done stays done.
            tracing::error!(%action, %error, "an action is done, but not written down");
        }
        Input::Outcome { action, outcome }
    }

    fn apply(&mut self, action: ActionId, what: &Action, before: &mut Before) -> system::Result<Outcome> {
        if let Action::UndoAction { of, .. } = what {
            let undone = self.undo_action(*of).outcome;
            return Ok(if undone == Outcome::Undone { Outcome::Success } else { undone });
        }
        let (system, leases) = (&mut *self.system, &self.leases);
        match (what, before) {
            (Action::SuspendProcesses { processes }, _) => respond::suspend::apply(system, leases, action, processes),
            (Action::TerminateProcesses { processes }, Before::Processes(before)) => {
                respond::terminate::apply(system, leases, action, processes, before)
            }
            (Action::EndSession { leader, processes }, Before::Processes(before)) => {
                respond::session::apply(system, leases, action, *leader, processes, before)
            }
            (Action::FilterTraffic { address, extent, lease_ns }, _) => {
                respond::filter::apply(system, (*address, *extent), *lease_ns)
            }
            (Action::IsolateHost { control, lease_ns }, Before::Isolation(before)) => {
                respond::isolate::apply(system, control, *lease_ns, *before)
            }
            (Action::LockAccount { path, .. }, Before::Account(before)) => {
                respond::account::apply(system, path, before)
            }
            (Action::RestoreFile(_) | Action::QuarantineFile { .. }, Before::File(before)) => match what.path() {
                Some(path) => recover::file::apply(system, path, before),
                None => Ok(Outcome::Failed("names no path".to_owned())),
            },
            (Action::RestoreFiles { .. }, Before::Files(files)) if files.is_empty() => Ok(Outcome::DoesNotExist),
            (Action::RestoreFiles { .. }, Before::Files(files)) => Ok(recover::many::apply(system, files)),
            (Action::RemoveUnit { unit }, Before::Unit(_)) => recover::unit::apply_removal(system, unit),
            (Action::ReloadService { unit }, Before::Unit(before)) => recover::unit::apply_reload(system, unit, before),
            (Action::RestartService { unit }, Before::Unit(before)) => remedy::apply_restart(system, unit, before),
            (Action::FreeSpace { .. }, Before::Remedy(remedy::Before::Freed(files))) => {
                remedy::apply_freeing(system, files)
            }
            (Action::LoadFirewall { path }, _) => remedy::apply_firewall(system, path),
            (Action::RenewCertificate { path }, _) => remedy::apply_renewal(system, &self.remedies, path),
            (Action::RestorePackaged { .. }, Before::Files(files)) => recover::packaged::apply(system, files),
            (_, _) => Ok(Outcome::Failed("what was captured does not fit the action".to_owned())),
        }
    }

    fn put_back(&mut self, action: ActionId, what: &Action, before: &Before, why: &str) -> Outcome {
        match self.revert(action, what, before) {
            Ok(Outcome::Failed(more)) => Outcome::Failed(format!("{why}; and not put back: {more}")),
            Ok(_) => Outcome::Reverted(why.to_owned()),
            Err(error) => Outcome::Failed(format!("{why}; and not put back: {}", error.in_words())),
        }
    }

    /// Twice is once.
    fn revert(&mut self, action: ActionId, what: &Action, before: &Before) -> system::Result<Outcome> {
        if let Action::UndoAction { of, .. } = what {
            return self.redo(*of);
        }
        let (system, leases) = (&mut *self.system, &self.leases);
        match (what, before) {
            (Action::SuspendProcesses { .. }, Before::Processes(before)) => {
                respond::suspend::revert(system, leases, action, before)
            }
            (Action::TerminateProcesses { .. }, Before::Processes(before)) => {
                respond::terminate::revert(system, leases, action, before)
            }
            (Action::EndSession { .. }, Before::Processes(before)) => {
                respond::session::revert(system, leases, action, before)
            }
            (Action::FilterTraffic { address, extent, .. }, Before::Filter(before)) => {
                respond::filter::revert(system, (*address, *extent), *before)
            }
            (Action::RestoreFile(_) | Action::QuarantineFile { .. }, Before::File(before)) => match what.path() {
                Some(path) => recover::file::revert(system, path, before),
                None => Ok(Outcome::Failed("names no path".to_owned())),
            },
            (Action::IsolateHost { control, .. }, Before::Isolation(before)) => {
                respond::isolate::revert(system, control, *before)
            }
            (Action::LockAccount { path, .. }, Before::Account(before)) => {
                respond::account::revert(system, path, before)
            }
            (Action::RestoreFiles { .. }, Before::Files(files)) => Ok(recover::many::revert(system, files)),
            (Action::RestorePackaged { .. }, Before::Files(files)) => recover::packaged::revert(system, files),
            (Action::RemoveUnit { unit } | Action::ReloadService { unit }, Before::Unit(before)) => {
                recover::unit::revert(system, unit, before)
            }
            (Action::RestartService { unit }, Before::Unit(before)) => remedy::revert_restart(system, unit, before),
            (Action::LoadFirewall { .. }, Before::Remedy(remedy::Before::Rules(rules))) => {
                remedy::revert_firewall(system, rules)
            }
            (Action::FreeSpace { .. }, _) => Ok(Outcome::Failed("what was deleted does not come back".to_owned())),
            (Action::RenewCertificate { .. }, _) => {
                Ok(Outcome::Failed("a renewal is not taken back; the certificate before it is kept".to_owned()))
            }
            (_, _) => Ok(Outcome::Failed("what was kept for undo does not fit the action".to_owned())),
        }
    }

    /// Does once more what was taken back, as it was captured then. Twice is once.
    fn redo(&mut self, of: ActionId) -> system::Result<Outcome> {
        let Some(Story { intent, undone: true, .. }) = self.journal.story(of) else { return Ok(Outcome::Undone) };
        let mut before = intent.before.clone();
        match self.apply(of, &intent.what, &mut before)? {
            Outcome::Success | Outcome::DoesNotExist => Ok(Outcome::Undone),
            other => Ok(other),
        }
    }

    /// [`thymus_engine::Effect::Drop`].
    pub fn forget(&mut self, action: ActionId) {
        self.prepared.remove(&action);
    }

    /// [`thymus_engine::Effect::Renew`]: prolongs the leases and stops again what runs.
    pub fn renew(&mut self, action: ActionId) {
        let Some(Story { intent: Intent { before: Before::Processes(before), .. }, .. }) = self.journal.story(action)
        else {
            return;
        };
        if let Err(error) = respond::suspend::renew(&mut *self.system, &self.leases, action, &before) {
            tracing::warn!(%action, error = error.in_words(), "a lease could not be renewed");
        }
    }

    /// Answers [`thymus_engine::Effect::Verify`].
    pub fn verify(&mut self, incident: IncidentId, proof: &Proof, watched: &[Watch]) -> Input {
        let stories = proof.actions.iter().filter_map(|action| self.journal.story(*action)).collect::<Vec<_>>();
        let checks = recover::proof::checks(&mut *self.system, &*self.versions, proof, &stories, watched);
        Input::Proven { incident, checks }
    }

    /// Undoes one action. Twice is once.
    pub fn undo_action(&mut self, action: ActionId) -> Undone {
        let Some(story) = self.journal.story(action) else {
            let outcome = Outcome::Failed("no such action was ever begun".to_owned());
            return Undone { action, outcome, reversible: true, path: None };
        };
        let reversible = story.intent.what.reversible();
        let path = story.intent.what.written().cloned();
        let outcome = match (&story.outcome, story.undone) {
            (_, true) => Outcome::Undone,
            (Some(Outcome::Success | Outcome::Partly(_)), false) => self.undo(&story),
            (None, false) => Outcome::Failed("it is still being done".to_owned()),
            (Some(Outcome::Failed(_)), false) => self.undo(&story),
            (Some(Outcome::DoesNotExist | Outcome::Reverted(_) | Outcome::Undone), false) => Outcome::DoesNotExist,
        };
        Undone { action, outcome, reversible, path }
    }

    fn undo(&mut self, story: &Story) -> Outcome {
        let Intent { action, what, before, .. } = &story.intent;
        let outcome = match self.revert(*action, what, before) {
            Ok(outcome) => outcome,
            Err(error) => return Outcome::Failed(error.in_words()),
        };
        // What failed may be tried again, and is not done until then.
        if !matches!(outcome, Outcome::Undone | Outcome::DoesNotExist) {
            return outcome;
        }
        match self.journal.undone(self.system.now(), *action) {
            Err(error) => Outcome::Failed(format!("undone, but not written down: {}", system::in_words(&error))),
            Ok(()) => outcome,
        }
    }

    /// Undoes all actions of an incident, newest first (services last, when their files are back), and records that a
    /// person wanted it so.
    pub fn undo_incident(&mut self, incident: IncidentId) -> Vec<Undone> {
        let mut stories = self.journal.stories(incident);
        stories.reverse();
        let is_service = |story: &Story| matches!(story.intent.before, Before::Unit(_));
        stories.sort_by_key(is_service); // stable: the order within each stays
        let undone: Vec<Undone> = stories.iter().map(|story| self.undo_action(story.intent.action)).collect();
        if let Err(error) = self.journal.incident_undone(self.system.now(), incident) {
            tracing::error!(%incident, %error, "an incident is undone, but not written down");
        }
        undone
    }

    /// Writes a reflex that was carried out into the journal, so that it can be undone like any action.
    pub fn adopt(&mut self, reflex: &respond::Reflexed) -> Result<(), journal::Error> {
        let processes = reflex.before.ran.iter().chain(&reflex.before.stopped).copied().collect();
        self.journal.intend(&Intent {
            action: reflex.action,
            incident: reflex.incident,
            what: Action::SuspendProcesses { processes },
            verdict: None,
            before: Before::Processes(reflex.before.clone()),
            time: reflex.time,
        })?;
        self.journal.settle(self.system.now(), reflex.action, &reflex.outcome())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
