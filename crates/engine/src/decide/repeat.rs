// SPDX-License-Identifier: Apache-2.0
//! What is done once more: what did not work, what waited for a mode, policy or hold, and what a restart of the agent
//! cut short.
//!
//! Input: an action that ended otherwise than wanted, or that may be judged otherwise now. Output: the same path or the
//! same processes, planned anew by what is known now. Nothing that was under way is taken for done; what fails again
//! and again is left as it is and told, after [`ATTEMPTS_MAX`] times.

use super::step::{ends_processes, is_again, processes_of};
use super::{ATTEMPTS_MAX, Desk, Progressing, RETRY_NS, Step, is_undo, net, place};
use crate::action::{Action, Outcome};
use crate::diagnose::{Case, Progress};
use crate::id::{ActionId, ProcessKey, Timestamp};
use crate::incident::Verdict;
use crate::input::Effect;
use crate::path::HostPath;

impl Case {
    /// What did not work this time is planned again, a bounded number of times.
    pub(super) fn again(&mut self, desk: &mut Desk<'_>, id: ActionId, why: &str) {
        let Some(step) = self.plan.steps.get(&id) else { return };
        let (action, retries) = (step.action.clone(), step.retries + 1);
        if let (true, Some(path)) = (is_again(&action), action.path()) {
            self.compare_later(desk, id, path, why);
            return;
        }
        if let Action::RestoreFiles { .. } = action {
            self.plan.set(id, |step| {
                step.settled = Some(desk.now);
                step.outcome = Some(Outcome::Reverted(why.to_owned()));
                step.state = Progressing::Superseded;
            });
            action.paths().for_each(|path| self.once_more(desk, path, Timestamp(desk.now.0 + RETRY_NS)));
            return;
        }
        let object = action.path().and_then(|path| self.objects.get_mut(path));
        let tried = object.as_ref().map_or(retries, |object| object.attempts);
        // What was taken back is done again only when a person says so, and only then once more.
        let taken_back = self.plan.worse.restraint(&action).is_some() && !is_undo(&action);
        let replan = tried < ATTEMPTS_MAX && !taken_back;
        self.plan.set(id, |step| {
            step.settled = Some(desk.now);
            step.outcome = Some(Outcome::Reverted(why.to_owned()));
            step.state = if replan { Progressing::Superseded } else { Progressing::Settled };
        });
        if let (Some(object), Some(path)) = (object, action.path()) {
            object.action = None;
            if replan {
                object.progress = Progress::Todo;
                object.not_before = Timestamp(desk.now.0 + RETRY_NS);
                self.plan.later.insert(path.clone());
            } else {
                object.action = Some(id);
                object.progress = Progress::Shown(why.to_owned());
            }
            return;
        }
        if !replan {
            return;
        }
        let live: Vec<ProcessKey> =
            processes_of(&action).iter().filter(|key| self.plan.live.contains(key)).copied().collect();
        let next = match action {
            Action::EndSession { leader, .. } => Action::EndSession { leader, processes: live.clone() },
            Action::TerminateProcesses { .. } => Action::TerminateProcesses { processes: live.clone() },
            Action::RemoveUnit { .. }
            | Action::FilterTraffic { .. }
            | Action::ReloadService { .. }
            | Action::SuspendProcesses { .. }
            | Action::RestoreFile(_)
            | Action::RestoreFiles { .. }
            | Action::QuarantineFile { .. }
            | Action::RestartService { .. }
            | Action::FreeSpace { .. }
            | Action::LoadFirewall { .. }
            | Action::RenewCertificate { .. }
            | Action::RestorePackaged { .. }
            | Action::LockAccount { .. }
            | Action::IsolateHost { .. }
            | Action::UndoAction { .. } => action,
        };
        if ends_processes(&next) && live.is_empty() {
            return;
        }
        let new = self.propose(desk, next);
        self.plan.set(new, |step| step.retries = retries);
        for place in self.plan.filters.values_mut().filter(|place| **place == id) {
            *place = new;
        }
        for place in self.plan.services.values_mut().filter(|place| **place == Some(id)) {
            *place = Some(new);
        }
        for key in live {
            if let Some(subject) = self.subjects.get_mut(&key) {
                subject.end = Some(new);
            }
        }
    }

    /// Mode, policy or hold changed: what waited for that is judged again.
    pub(crate) fn reconsider(&mut self) {
        self.reconsider_those(|_| true);
    }

    /// The next minute began, or services are back: so is what waited for that.
    pub(crate) fn reconsider_held(&mut self, held: fn(&Verdict) -> bool) {
        self.reconsider_those(|step| held(&step.verdict));
    }

    fn reconsider_those(&mut self, which: impl Fn(&Step) -> bool) {
        if !self.confirmed || self.closed.is_some() {
            return;
        }
        let waits = |step: &Step| step.waits() && !step.personal && which(step);
        let steps = &self.plan.steps;
        let waiting = self.plan.unresolved.iter().filter(|id| steps.get(id).is_some_and(waits)).copied().collect();
        self.plan.reconsidered = waiting;
        self.dirty = true;
    }

    /// What waited is judged again; a path is planned anew, in the order of all paths and with what happened to it since.
    /// True when it is planned anew.
    pub(super) fn reconsider_one(&mut self, desk: &mut Desk<'_>, id: ActionId) -> bool {
        let Some(action) = self.plan.steps.get(&id).map(|step| step.action.clone()) else { return false };
        if let Action::RestoreFiles { .. } = action {
            self.supersede(desk, id);
            return true;
        }
        if let Action::IsolateHost { control, .. } = &action
            && *control != desk.configuration.never_block
        {
            self.supersede(desk, id);
            self.plan.isolation = false;
            self.isolate_host(desk);
            return false;
        }
        if let Some(path) = action.path() {
            self.supersede(desk, id);
            if is_again(&action) {
                self.plan.again.insert(path.clone());
                return true;
            }
            return self.plan_path_anew(desk, path);
        }
        let over =
            !processes_of(&action).is_empty() && !processes_of(&action).iter().any(|key| self.plan.live.contains(key));
        if over {
            self.supersede(desk, id);
            return false;
        }
        self.begin(desk, id);
        false
    }

    /// As if no plan had been made for it; false: it is no object any more.
    pub(super) fn plan_path_anew(&mut self, desk: &Desk<'_>, path: &HostPath) -> bool {
        let Some(object) = self.objects.get_mut(path) else { return false };
        (object.action, object.progress, object.attempts) = (None, Progress::Todo, 0);
        let net = net(desk, path);
        self.plan.enqueue(place(path, &net, self.directories.contains(path)));
        true
    }

    /// The agent started again: nothing that was under way is taken for done.
    pub(crate) fn restarted(&mut self, desk: &mut Desk<'_>) {
        if !self.confirmed || self.closed.is_some() {
            return;
        }
        self.dirty = true;
        self.plan.proof.running = false;
        let incident = self.id;
        for id in self.plan.busy.clone() {
            let Some(what) = self.plan.steps.get(&id).map(|step| step.action.clone()) else { continue };
            if let Action::SuspendProcesses { .. } = what {
                self.plan.set(id, |step| step.state = Progressing::Superseded);
            } else {
                if self.plan.steps.get(&id).is_some_and(|step| step.state == Progressing::Committed) {
                    for path in what.paths() {
                        if let Some(object) = self.objects.get_mut(path) {
                            object.commits = object.commits.saturating_sub(1); // the crash undid it or it never began
                            object.committed = None;
                        }
                    }
                }
                self.plan.set(id, |step| step.state = Progressing::Preparing);
                desk.out.push(Effect::Prepare { action: id, incident, what });
            }
        }
        self.stop_anew();
    }

    /// A stop is a lease, and may have lapsed: every live subject is stopped anew.
    pub(crate) fn stop_anew(&mut self) {
        self.dirty = true;
        for key in self.plan.live.clone() {
            let Some(subject) = self.subjects.get_mut(&key) else { continue };
            if subject.stop.is_some_and(|id| self.plan.unresolved.contains(&id)) {
                continue;
            }
            subject.stop = None;
            subject.stopped = false;
            self.plan.fresh.insert(key);
            self.plan.running.insert(key);
        }
    }
}
