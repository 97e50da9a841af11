// SPDX-License-Identifier: Apache-2.0
//! What became of each thing of an incident, by the actions on it.
//!
//! Input: an incident's actions, oldest first. Output: one [`State`] for each process, file and address.

use crate::action::{Action, Outcome};
use crate::id::{ActionId, ProcessKey};
use crate::incident::{ActionRecord, Decision, Incident, Subject};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What became of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing was done about it.
    Left,
    /// A process that is there, or has ended, with nothing done about it.
    Alive,
    Gone,
    Stopped,
    Ended,
    Blocked,
    Restored,
    Quarantined,
    /// Was as it should be already.
    AsBefore,
    UnderWay,
    /// Waits for a person.
    Asked(ActionId),
    Refused(ActionId),
    /// Nobody but a person can put it in order; no action does.
    Shown,
    /// It may be as it was, or not: a person must look.
    Failed(ActionId),
    Undone(ActionId),
    /// Of several.
    Several,
}

impl State {
    /// Nothing is left to do about it.
    #[must_use]
    pub const fn settled(self) -> bool {
        matches!(self, Self::Gone | Self::Ended | Self::Blocked | Self::Restored | Self::Quarantined | Self::AsBefore)
    }

    /// A person must decide, or look.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Asked(_) | Self::Refused(_) | Self::Shown | Self::Failed(_))
    }
}

/// By what each thing is known.
#[derive(Debug, Default)]
pub(super) struct States<'a> {
    processes: BTreeMap<ProcessKey, State>,
    files: BTreeMap<&'a HostPath, State>,
    peers: BTreeMap<IpAddr, State>,
}

impl<'a> States<'a> {
    pub(super) fn of(incident: &'a Incident) -> Self {
        let mut states = Self::default();
        for record in &incident.actions {
            states.add(record);
        }
        for object in incident.objects.iter().filter(|object| object.shown.is_some()) {
            let state = states.files.entry(&object.path).or_insert(State::Left);
            if *state == State::Left {
                *state = State::Shown;
            }
        }
        states
    }

    fn add(&mut self, record: &'a ActionRecord) {
        match &record.action {
            Action::SuspendProcesses { processes } => self.end(processes, came_of(record, State::Stopped)),
            Action::TerminateProcesses { processes } | Action::EndSession { processes, .. } => {
                self.end(processes, came_of(record, State::Ended));
            }
            Action::FilterTraffic { address, .. } => {
                later(self.peers.entry(address.to_canonical()).or_insert(State::Left), came_of(record, State::Blocked));
            }
            Action::QuarantineFile { path, .. } => self.file_is(path, came_of(record, State::Quarantined)),
            Action::RestoreFile(_) | Action::RestoreFiles { .. } | Action::RestorePackaged { .. } => {
                let state = came_of(record, State::Restored);
                let not_done: &[(HostPath, String)] = match &record.outcome {
                    Some(Outcome::Partly(not_done)) => not_done,
                    _ => &[],
                };
                for path in record.action.paths() {
                    let failed = not_done.iter().any(|(failed, _)| failed == path);
                    self.file_is(path, if failed { State::Failed(record.id) } else { state });
                }
            }
            Action::FreeSpace { paths } => {
                for path in paths {
                    self.file_is(path, came_of(record, State::Restored));
                }
            }
            Action::LoadFirewall { path } | Action::RenewCertificate { path } => {
                self.file_is(path, came_of(record, State::Restored));
            }
            // What it takes back is told of that action.
            Action::UndoAction { .. }
            | Action::LockAccount { .. }
            | Action::IsolateHost { .. }
            | Action::RemoveUnit { .. }
            | Action::ReloadService { .. }
            | Action::RestartService { .. } => {}
        }
    }

    fn end(&mut self, processes: &[ProcessKey], state: State) {
        for process in processes {
            later(self.processes.entry(*process).or_insert(State::Left), state);
        }
    }

    fn file_is(&mut self, path: &'a HostPath, state: State) {
        later(self.files.entry(path).or_insert(State::Left), state);
    }

    /// A process that is gone needs nobody.
    pub(super) fn process(&self, subject: &Subject) -> State {
        match (self.processes.get(&subject.process).copied().unwrap_or(State::Left), subject.alive) {
            (State::Ended, _) => State::Ended,
            (_, false) => State::Gone,
            (State::Left | State::AsBefore, true) => State::Alive,
            (state, true) => state,
        }
    }

    pub(super) fn file(&self, path: &HostPath) -> State {
        self.files.get(path).copied().unwrap_or(State::Left)
    }

    pub(super) fn peer(&self, address: IpAddr) -> State {
        self.peers.get(&address.to_canonical()).copied().unwrap_or(State::Left)
    }

    /// Of where it began: its session, or the address it came from.
    pub(super) fn root(&self, incident: &Incident) -> State {
        let Some(root) = incident.roots.first() else { return State::Left };
        let ended = |record: &&ActionRecord| matches!(&record.action, Action::EndSession { leader, .. } if *leader == root.leader);
        let session = incident.actions.iter().rfind(ended).map(|record| came_of(record, State::Ended));
        let address = root.src_endpoint.as_ref().map(|endpoint| self.peer(endpoint.ip));
        session.or(address).unwrap_or(State::Left)
    }
}

/// A later action has the last word, but for one that found nothing to do.
fn later(known: &mut State, state: State) {
    if state != State::AsBefore || !known.settled() {
        *known = state;
    }
}

fn came_of(record: &ActionRecord, done: State) -> State {
    match (&record.outcome, record.verdict.decision) {
        (Some(Outcome::Success | Outcome::Partly(_)), _) => done,
        (Some(Outcome::DoesNotExist), _) => State::AsBefore,
        (Some(Outcome::Reverted(_) | Outcome::Failed(_)), _) => State::Failed(record.id),
        (Some(Outcome::Undone), _) => State::Undone(record.id),
        (None, Decision::Permit) => State::UnderWay,
        (None, Decision::Ask) => State::Asked(record.id),
        (None, Decision::Deny) => State::Refused(record.id),
    }
}
