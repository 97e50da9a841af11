// SPDX-License-Identifier: Apache-2.0
//! Who was well and is ill, for whoever did something just before; and cures that made another service worse.
//!
//! Input: what the probes answered. Output: the services that fell ill lately, unless that looks like a fault they share;
//! a cure that one of them lives by is taken back, and the ailment waits for a person.

use super::patient::Patient;
use super::{Ailment, Ward};
use crate::action::{Action, Outcome};
use crate::decide::{Desk, FALLEN_MAX, Fallen, Progressing, Step, WATCH_NS, comes_back, is_undo, undo_of};
use crate::graph::Graph;
use crate::health::WATCHES_MAX;
use crate::id::{ActionId, ProcessKey, Timestamp};
use crate::incident::Milestone;
use std::collections::BTreeSet;

/// An answer counts only after some time: who fell ill earlier than that was looked at before.
const LATELY_NS: u64 = 2 * WATCH_NS;

impl Ward {
    /// Services that were well and are ill, and that fell ill lately; none when so many are that they share the reason.
    pub(crate) fn fallen(&self, now: Timestamp, graph: &Graph, never_touch: &[ProcessKey]) -> Vec<Fallen> {
        let (together, storm, resource) = self.together(now);
        if together == 0 || storm || resource {
            return Vec::new();
        }
        let patients = self.patients.values().filter_map(|patient| patient.fell(now, graph, never_touch));
        patients.filter(|fallen| now.since_ns(fallen.well.1) < LATELY_NS).take(FALLEN_MAX).collect()
    }

    /// Cures that made another service ill.
    pub(crate) fn look_back(&mut self, desk: &mut Desk<'_>, fallen: &Fallen) {
        for ailment in self.ailments.values_mut() {
            ailment.look_back(desk, fallen);
        }
    }

    /// Something is being taken back: whoever is ill is looked after when that is done.
    pub(super) fn takes_back(&self) -> bool {
        self.ailments.values().any(Ailment::takes_back)
    }
}

impl Patient {
    fn fell(&self, now: Timestamp, graph: &Graph, never_touch: &[ProcessKey]) -> Option<Fallen> {
        let (service, (well, words)) = (self.service()?, self.was_well(now)?);
        let others = self.suspects(graph, &BTreeSet::new()).into_iter();
        let others = others.filter(|change| !never_touch.contains(&change.writer));
        Some(Fallen {
            unit: service.unit.clone(),
            well,
            words,
            watches: service.watches.iter().take(WATCHES_MAX).cloned().collect(),
            other: others.map(|change| (change.time, change.title)).max(),
        })
    }
}

impl Ailment {
    fn look_back(&mut self, desk: &mut Desk<'_>, fallen: &Fallen) {
        let busy = self.steps.values().any(Step::is_busy);
        if self.closed.is_some() || self.patient == fallen.unit || busy || !self.worse.is_new(fallen) {
            return;
        }
        let causes = fallen.causes(&self.steps);
        if causes.is_empty() || self.worse.is_full(fallen) {
            return;
        }
        desk.units += 1;
        let wanted = |id: &ActionId| self.steps.get(id).is_some_and(|step| !step.approvals.is_empty());
        if causes.iter().any(wanted) || self.worse.is_known(&fallen.unit) {
            let words = fallen.tell(&causes, &self.steps, "a person wanted that or knows of it, so it stays");
            self.worse.note(fallen, Some(words.clone()));
            self.why = words;
            self.tell(desk);
            return;
        }
        let found = causes.iter().filter_map(|id| self.steps.get(id)).find_map(|step| comes_back(&step.action));
        let held = found.or_else(|| fallen.somebody_else(&causes, &self.steps));
        let then = match &held {
            None => "that is to be taken back, and to be done again only when a person says so".to_owned(),
            Some(why) => format!("a person is asked whether that is taken back, for {why}"),
        };
        let words = fallen.tell(&causes, &self.steps, &then);
        self.worse.note(fallen, Some(words.clone()));
        self.worse.want_back(fallen, causes, held.as_deref());
        self.proving = false;
        if let Some(id) = self.current.filter(|id| self.steps.get(id).is_some_and(Step::waits)) {
            self.withdraw(desk, id, "what was done made another service worse");
        }
        self.pass(desk, Milestone::Reopened, words.clone());
        self.pass(desk, Milestone::Contained, words);
    }

    pub(crate) fn step(&self, id: ActionId) -> Option<&Step> {
        self.steps.get(&id)
    }

    /// Something is to be taken back, and nobody is asked about it.
    pub(super) fn takes_back(&self) -> bool {
        let current = self.current.and_then(|id| self.steps.get(&id));
        let waits = current.is_some_and(Step::waits);
        let busy = current.is_some_and(|step| step.is_busy() && is_undo(&step.action));
        self.closed.is_none() && (busy || !waits && !self.worse.queue.is_empty())
    }

    /// True when something is to be taken back: nothing else is done before.
    pub(super) fn take_back(&mut self, desk: &mut Desk<'_>) -> bool {
        if let Some(step) = self.current.and_then(|id| self.steps.get(&id)) {
            return is_undo(&step.action);
        }
        while let Some(of) = self.worse.queue.pop_front() {
            let done = self.steps.get(&of).filter(|step| step.state == Progressing::Settled);
            let Some(undo) = done.map(|step| undo_of(of, &step.action)) else { continue };
            self.propose(desk, undo);
            if let (true, Some(step)) = (self.worse.is_held(of), self.current.and_then(|id| self.steps.get_mut(&id))) {
                step.personal = true;
            }
            return true;
        }
        false
    }

    /// It is as it was before `of`; when all is, a person is asked whether the first of it is done again.
    pub(super) fn taken_back(&mut self, desk: &mut Desk<'_>, of: ActionId) {
        let Some(step) = self.steps.get_mut(&of) else { return };
        (step.state, step.outcome) = (Progressing::Superseded, Some(Outcome::Undone));
        let action = step.action.clone();
        self.worse.took_back(of, &action);
        if !self.worse.queue.is_empty() {
            return;
        }
        let undone = |step: &&Step| step.outcome == Some(Outcome::Undone);
        let Some(first) = self.steps.values().find(undone).map(|step| step.action.clone()) else { return };
        self.propose(desk, first);
        if let Some(step) = self.current.and_then(|id| self.steps.get_mut(&id)) {
            step.personal = true;
        }
    }

    /// What was to be taken back is still to be.
    pub(super) fn keep_wanting(&mut self, action: &Action) {
        if let Action::UndoAction { of, .. } = action {
            self.worse.queue.push_front(*of);
        }
    }

    /// A person wants what was done to stay.
    pub(super) fn keep(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        self.worse.queue.clear();
        self.current = None;
        self.go_on(desk, format!("a person denied action {id}: what was done stays"));
    }
}
