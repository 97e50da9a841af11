// SPDX-License-Identifier: Apache-2.0
//! The processes of an attack: stopped at once, ended when files and services are in order.
//!
//! Input: subjects not known to be gone. Output: actions on at most [`TARGETS_MAX`] of them each. The root's session is
//! ended as a whole, with all who are in it; whoever is gone is named in no new action.

use super::step::{ends_processes, processes_of};
use super::{ATTEMPTS_MAX, Desk, Progressing, RETRY_NS};
use crate::action::{Action, Facts, Outcome};
use crate::diagnose::Case;
use crate::id::{ActionId, ProcessKey, Timestamp};
use crate::incident::{InvocationKind, Milestone, Stage};
use std::collections::BTreeSet;

/// LIMIT: processes named in one action; more make further actions.
pub const TARGETS_MAX: usize = 256;

impl Case {
    /// The process is gone, by an event or an outcome.
    pub(crate) fn see_gone(&mut self, key: ProcessKey) {
        if let Some(subject) = self.subjects.get_mut(&key) {
            subject.gone = true;
            self.plan.live.remove(&key);
            self.plan.running.remove(&key);
            self.plan.fresh.remove(&key);
            self.dirty = true;
        }
    }

    pub(super) fn suspend(&mut self, desk: &mut Desk<'_>) {
        while !self.plan.fresh.is_empty() {
            let mut processes = Vec::new();
            while processes.len() < TARGETS_MAX
                && let Some(key) = self.plan.fresh.pop_first()
            {
                if self.subjects.get(&key).is_some_and(|subject| !subject.gone && subject.stop.is_none()) {
                    processes.push(key);
                }
            }
            if processes.is_empty() {
                continue;
            }
            for processes in desk.by_service(processes) {
                let targets = processes.clone();
                let id = self.propose(desk, Action::SuspendProcesses { processes });
                for key in targets {
                    if let Some(subject) = self.subjects.get_mut(&key) {
                        subject.stop = Some(id);
                    }
                }
            }
        }
    }

    pub(super) fn see_containment(&mut self, desk: &mut Desk<'_>) {
        let live = self.plan.live.len();
        if self.plan.running.is_empty() && self.stage == Stage::Open {
            self.pass(desk, Milestone::Contained, format!("{live} processes of the attack are stopped, none runs"));
        }
        self.plan.quiet_since = if live == 0 { self.plan.quiet_since.or(Some(desk.now)) } else { None };
    }

    pub(super) fn end_subjects(&mut self, desk: &mut Desk<'_>) -> bool {
        if self.plan.joined.1 > desk.now {
            return false;
        }
        let session = self.roots.first().filter(|root| root.root.kind == InvocationKind::Session);
        let session = session.map(|root| (root.root.leader, root.anchor.invocation));
        let (mut inside, mut others) = (Vec::new(), Vec::new());
        let live = self.plan.live.iter().filter(|key| self.subjects.get(key).is_some_and(|found| found.end.is_none()));
        for key in live {
            desk.units += 1;
            let here = desk.graph.process(*key).map(|node| node.invocation);
            match session.filter(|(_, id)| Some(*id) == here) {
                Some(_) => inside.push(*key),
                None => others.push(*key),
            }
        }
        let mut plans: Vec<Action> = Vec::new();
        for chunk in inside.chunks(TARGETS_MAX) {
            let leader = session.map(|(leader, _)| leader).unwrap_or_default();
            plans.push(Action::EndSession { leader, processes: chunk.to_vec() });
        }
        let others = others.chunks(TARGETS_MAX).flat_map(|chunk| desk.by_service(chunk.to_vec()));
        plans.extend(others.map(|processes| Action::TerminateProcesses { processes }));
        for action in plans {
            let processes = processes_of(&action).to_vec();
            let id = self.propose(desk, action);
            for key in processes {
                if let Some(subject) = self.subjects.get_mut(&key) {
                    subject.end = Some(id);
                }
            }
        }
        !self.plan.is_any_busy(ends_processes)
    }

    /// More are in the session than it was planned for, or below the processes: they are ended together, a little later, when
    /// they are known. Under a hold each that comes has a question of its own, and none is right once another came.
    pub(super) fn somebody_joined(&mut self, desk: &mut Desk<'_>, id: ActionId, facts: &Facts) -> bool {
        let Some(step) = self.plan.steps.get(&id) else { return false };
        let whole = matches!(step.action, Action::EndSession { .. });
        let processes = processes_of(&step.action);
        if !ends_processes(&step.action) || facts.targets <= processes.len() || self.plan.joined.0 >= ATTEMPTS_MAX {
            return false;
        }
        let session = processes.first().and_then(|key| desk.graph.process(*key)).map(|node| node.invocation);
        let place = if whole { "in" } else { "below" };
        let why = format!("{} processes are {place} it, {} were known", facts.targets, processes.len());
        self.plan.set(id, |step| {
            step.settled = Some(desk.now);
            step.outcome = Some(Outcome::Reverted(why.clone()));
            step.state = Progressing::Superseded;
        });
        desk.deny(id, &why);
        let mut others = BTreeSet::new();
        for key in &self.plan.live {
            let here = desk.graph.process(*key).map(|node| node.invocation);
            let Some(subject) = self.subjects.get_mut(key) else { continue };
            let Some(end) = subject.end else { continue };
            let step = self.plan.steps.get(&end);
            let alike = step.is_some_and(|step| matches!(step.action, Action::TerminateProcesses { .. }));
            let committed = step.is_some_and(|step| step.state == Progressing::Committed);
            let joins =
                if whole { here == session && step.is_none_or(|step| !step.is_busy()) } else { alike && !committed };
            if joins {
                subject.end = None;
                others.insert(end);
            }
        }
        // What is being prepared is answered that it is not wanted any more.
        for end in others.into_iter().filter(|end| !whole && *end != id) {
            self.plan.set(end, |step| {
                step.settled = Some(desk.now);
                step.state = Progressing::Superseded;
            });
            desk.deny(end, "another action takes its place");
        }
        self.plan.joined = (self.plan.joined.0 + 1, Timestamp(desk.now.0 + RETRY_NS));
        true
    }
}
