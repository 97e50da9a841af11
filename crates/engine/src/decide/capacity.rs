// SPDX-License-Identifier: Apache-2.0
//! Which services an action takes down, and the order in which that is done where few are left.
//!
//! Input: an action, the graph's processes, the services that are looked after. Output: what the guard's floor is asked about;
//! processes of an attack apart from those that services live from, so that no question about these keeps those running.

use super::Desk;
use crate::action::{Action, Facts};
use crate::guard::Taking;
use crate::id::ProcessKey;
use std::collections::{BTreeMap, BTreeSet};

impl Desk<'_> {
    /// Before the hands looked, nobody knows whether a service is interrupted when it is told to read its files again.
    pub(crate) fn taking(&self, action: &Action, facts: Option<&Facts>) -> Taking {
        let interrupts = facts.is_some_and(|facts| facts.interrupts);
        let down = |unit: &String| if interrupts { BTreeSet::from([unit.clone()]) } else { BTreeSet::new() };
        match action {
            Action::SuspendProcesses { processes } | Action::TerminateProcesses { processes } => {
                self.main_of(processes)
            }
            Action::RemoveUnit { unit } => {
                let up = self.capacity.is_up(self.now, unit);
                Taking { down: up.then(|| unit.clone()).into_iter().collect(), started: None }
            }
            Action::RestartService { unit } => Taking { down: down(unit), started: Some(unit.clone()) },
            Action::ReloadService { unit } => Taking { down: down(unit), started: interrupts.then(|| unit.clone()) },
            Action::EndSession { .. }
            | Action::FilterTraffic { .. }
            | Action::RestoreFile(_)
            | Action::RestoreFiles { .. }
            | Action::QuarantineFile { .. }
            | Action::FreeSpace { .. }
            | Action::LoadFirewall { .. }
            | Action::RenewCertificate { .. }
            | Action::RestorePackaged { .. }
            | Action::LockAccount { .. }
            | Action::IsolateHost { .. }
            // The service that it is done for is down already.
            | Action::UndoAction { .. } => Taking::default(),
        }
    }

    fn main_of(&self, processes: &[ProcessKey]) -> Taking {
        let units = processes.iter().filter_map(|key| self.serves(*key));
        Taking { down: units.map(ToOwned::to_owned).collect(), started: None }
    }

    /// The unit that answers no more without this process.
    fn serves(&self, key: ProcessKey) -> Option<&str> {
        self.graph.main_of(key).filter(|unit| self.capacity.is_up(self.now, unit))
    }

    /// All of them together, or, where the floor objects to that, those apart that services live from, by service and last.
    pub(crate) fn by_service(&self, processes: Vec<ProcessKey>) -> Vec<Vec<ProcessKey>> {
        if self.capacity.objection(self.now, &self.main_of(&processes)).is_none() {
            return vec![processes];
        }
        let mut parts: BTreeMap<Option<&str>, Vec<ProcessKey>> = BTreeMap::new();
        for key in processes {
            parts.entry(self.serves(key)).or_default().push(key);
        }
        parts.into_values().collect()
    }

    /// These are kept stopped: what they served stays down.
    pub(crate) fn stay_down(&mut self, processes: &[ProcessKey]) {
        if !self.capacity.stops() {
            return;
        }
        for unit in processes.iter().filter_map(|key| self.graph.main_of(*key)) {
            self.capacity.renew(self.now, unit);
        }
    }
}
