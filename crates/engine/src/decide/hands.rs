// SPDX-License-Identifier: Apache-2.0
//! What the hands answer: what they found before they act, and what came of an action.
//!
//! Input: facts, or why there are none; outcomes. Output: an action that is committed, asked or dropped; what its
//! outcome means for subjects, objects and services. Facts or an outcome told twice change nothing; what is not wanted
//! any more is dropped.

use super::service::{Service, service_of};
use super::step::is_again;
use super::{ATTEMPTS_MAX, Desk, JUDGEMENT_UNITS, Progressing, RETRY_NS, aside, net, place};
use crate::action::{Action, Expected, Facts, Merge, Outcome, RestoreFile};
use crate::diagnose::{Case, Net, Progress};
use crate::guard;
use crate::id::{ActionId, Timestamp, VersionId};
use crate::incident::{Decision, Verdict};
use crate::input::Effect;
use crate::path::HostPath;
use std::collections::BTreeSet;

/// LIMIT: how long a log waits for its daemons to be told.
const REOPENED_NS_MAX: u64 = 5_000_000_000;
/// After that, until they have opened it: a daemon's new workers come beside the old ones.
const REOPENED_NS: u64 = 500_000_000;

impl Case {
    pub(crate) fn prepared(&mut self, desk: &mut Desk<'_>, id: ActionId, facts: &Facts) {
        self.dirty = true;
        let Some(step) = self.plan.steps.get(&id) else { return };
        if step.state == Progressing::Committed {
            return; // told twice
        }
        if step.state != Progressing::Preparing || self.closed.is_some() {
            desk.deny(id, "it is not wanted any more");
            return;
        }
        desk.units += JUDGEMENT_UNITS;
        if !facts.left_out.is_empty() && self.leave_out(desk, id, &facts.left_out) {
            desk.deny(id, "none of the files is as the plan expects it");
            return;
        }
        if self.somebody_joined(desk, id, facts) || self.leave_genuine(desk, id, facts) {
            return;
        }
        let Some(step) = self.plan.steps.get(&id) else { return };
        let mut verdict = self.judge(desk, (id, step), Some(facts));
        let (what, approved) = (step.action.clone(), !step.approvals.is_empty());
        let again = what.path().filter(|_| is_again(&what)).cloned();
        if let (Some(path), Expected::AlreadyDone) = (&again, &facts.as_expected) {
            self.nothing_back(desk, id, path);
            return;
        }
        if let (Action::RestoreFile(_), Expected::AlreadyDone, Some(path)) = (&what, &facts.as_expected, what.path())
            && self.objects.get(path).is_some_and(|object| object.commits == 0)
        {
            self.as_before(desk, id, &what, path);
            return;
        }
        if let Some(path) = again.as_ref().filter(|path| self.is_planned(path, id)) {
            self.forget(desk, id);
            self.plan.again.insert(path.clone());
            desk.deny(id, "the attack itself wrote it again");
            return;
        }
        if let Expected::Changed(why) = &facts.as_expected {
            let why = format!("changed since the plan was made: {why}");
            desk.deny(id, &why);
            self.again(desk, id, &why);
            return;
        }
        let conflict = matches!(facts.merge, Merge::Conflict(_) | Merge::Missing(_));
        let mut doubtful = false;
        if let Some(path) = &again {
            self.something_back(desk, id, path);
            let doubt = if approved { None } else { self.deliberate(desk, path) };
            if let (Decision::Permit, Some(doubt)) = (verdict.decision, doubt) {
                let reasons = vec![format!("lines of the attack are in it again: {doubt}")];
                verdict = Verdict { decision: Decision::Ask, reasons };
                doubtful = true;
            }
        }
        if let (Decision::Permit, Some(path)) = (verdict.decision, what.path())
            && !facts.holders.is_empty()
            && self.plan.reopened.insert(path.clone())
        {
            self.let_reopen(desk, id, path, &facts.holders);
            return;
        }
        if let (Action::RemoveUnit { unit }, Decision::Deny, Some(_)) =
            (&what, verdict.decision, facts.vouched_for(&desk.doubted(Some(facts))).next())
        {
            self.read_anew(desk, id, unit.clone());
            return;
        }
        let state = match verdict.decision {
            Decision::Permit => {
                if let Some(step) = self.plan.steps.get(&id) {
                    desk.commit(id, self.id, step, (&verdict, facts));
                }
                Progressing::Committed
            }
            Decision::Ask => {
                desk.out.push(Effect::Drop { action: id, verdict: verdict.clone() });
                if let (true, Action::RestoreFile(RestoreFile { path, base, later, .. })) = (conflict, &what) {
                    desk.out.push(aside(self.id, path, *base, later));
                }
                desk.out.push(Effect::Ask { action: id, incident: self.id, what, verdict: verdict.clone() });
                Progressing::Asked
            }
            Decision::Deny => {
                desk.out.push(Effect::Drop { action: id, verdict: verdict.clone() });
                Progressing::Refused
            }
        };
        let reasons = verdict.reasons.join("; ");
        self.plan.set(id, |step| {
            step.state = state;
            step.verdict = verdict;
            step.decided = desk.now;
            step.personal = (conflict || doubtful) && state != Progressing::Committed;
        });
        self.reflect(id, state, &reasons);
        if state == Progressing::Committed
            && let Some(step) = self.plan.steps.get(&id)
        {
            for path in step.action.paths() {
                if let Some(object) = self.objects.get_mut(path) {
                    object.commits += 1;
                    object.committed = Some(desk.now);
                }
            }
        }
    }

    pub(crate) fn unprepared(&mut self, desk: &mut Desk<'_>, id: ActionId, why: &str) {
        self.dirty = true;
        let Some(step) = self.plan.steps.get(&id).filter(|step| step.state == Progressing::Preparing) else { return };
        if guard::is_personal(&step.action) {
            // There is no such account, or no network of this host's own: a person who said yes once is not asked again.
            self.outcome(desk, id, Outcome::Failed(why.to_owned()));
        } else {
            self.again(desk, id, why);
        }
    }

    pub(crate) fn outcome(&mut self, desk: &mut Desk<'_>, id: ActionId, outcome: Outcome) {
        self.dirty = true;
        let Some(step) = self.plan.steps.get(&id) else { return };
        if step.state == Progressing::Settled && outcome != Outcome::Undone {
            return; // told twice
        }
        let worked = matches!(outcome, Outcome::Success | Outcome::DoesNotExist | Outcome::Partly(_));
        let decided = step.decided;
        let retries = step.retries;
        let action = step.action.clone();
        self.plan.set(id, |step| {
            step.state = Progressing::Settled;
            step.settled = Some(desk.now);
            step.outcome = Some(outcome.clone());
        });
        match (&action, &outcome) {
            (Action::SuspendProcesses { processes }, _) if worked => {
                for key in processes {
                    if let Some(subject) = self.subjects.get_mut(key) {
                        subject.stopped = true;
                        self.plan.running.remove(key);
                    }
                    if outcome == Outcome::DoesNotExist {
                        self.see_gone(*key);
                    }
                }
            }
            (Action::TerminateProcesses { processes } | Action::EndSession { processes, .. }, _) if worked => {
                for key in processes {
                    self.see_gone(*key);
                }
            }
            (Action::RestoreFile(RestoreFile { path, .. }) | Action::QuarantineFile { path, .. }, _) if worked => {
                self.undone(desk, &action, path, decided);
                // Whoever loads it may have read what was back in it.
                let base = self.objects.get(path).and_then(|object| object.undone.as_ref()).map(|undone| undone.base);
                let created = base == Some(VersionId::UNKNOWN);
                if let (true, Some(service)) = (is_again(&action), service_of(path, created)) {
                    self.plan.services.insert(service, None);
                }
            }
            (Action::UndoAction { of, .. }, _) if worked => self.taken_back(desk, *of),
            (Action::RestoreFiles { files }, _) if worked => {
                let not_done: BTreeSet<&HostPath> = match &outcome {
                    Outcome::Partly(not_done) => not_done.iter().map(|(path, _)| path).collect(),
                    _ => BTreeSet::new(),
                };
                for file in files.iter() {
                    if not_done.contains(&file.path) {
                        self.once_more(desk, &file.path, Timestamp(desk.now.0 + RETRY_NS));
                    } else {
                        self.undone(desk, &Action::RestoreFile(file.clone()), &file.path, decided);
                    }
                }
                let done = self.objects.values().filter(|object| object.progress == Progress::Done).count();
                self.why = format!("{done} of {} objects are in order", self.objects.len());
            }
            (Action::SuspendProcesses { .. }, _) => {} // it is ended all the same
            (Action::IsolateHost { .. }, Outcome::Success) => self.is_isolated(desk, id),
            (Action::IsolateHost { .. }, _) => {} // a person said yes to this one, not to another try
            (_, Outcome::Reverted(why)) if retries < ATTEMPTS_MAX => self.again(desk, id, why),
            (Action::RestoreFile(RestoreFile { path, .. }) | Action::QuarantineFile { path, .. }, other) => {
                let why = match other {
                    Outcome::Failed(why) | Outcome::Reverted(why) => why.as_str(),
                    Outcome::Undone => "undone",
                    Outcome::Success | Outcome::DoesNotExist | Outcome::Partly(_) => "",
                };
                if let Some(object) = self.objects.get_mut(path) {
                    object.progress = Progress::Shown(why.to_owned());
                }
            }
            (Action::ReloadService { .. }, _) => self.reopened(desk.now),
            (Action::RestoreFiles { .. }, Outcome::Reverted(why)) => self.again(desk, id, why),
            (
                Action::RestoreFiles { .. }
                | Action::TerminateProcesses { .. }
                | Action::EndSession { .. }
                | Action::FilterTraffic { .. }
                | Action::RemoveUnit { .. }
                | Action::RestartService { .. }
                | Action::FreeSpace { .. }
                | Action::LoadFirewall { .. }
                | Action::RenewCertificate { .. }
                | Action::RestorePackaged { .. }
                | Action::LockAccount { .. }
                | Action::UndoAction { .. },
                _,
            ) => {}
        }
    }

    /// What daemons go on to write to a log that was replaced would be nowhere: they open it anew before it is mended.
    fn let_reopen(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath, units: &[String]) {
        desk.deny(id, "those who write it open it anew first");
        self.forget(desk, id);
        if let Some(object) = self.objects.get_mut(path) {
            object.action = None;
            object.progress = Progress::Todo;
            object.not_before = Timestamp(desk.now.0 + REOPENED_NS_MAX);
            self.plan.later.insert(path.clone());
        }
        for unit in units {
            let service = Service::Reload(unit.clone());
            if self.plan.services.get(&service).copied().flatten().is_none() {
                let id = self.propose(desk, Action::ReloadService { unit: unit.clone() });
                self.plan.services.insert(service, Some(id));
            }
        }
    }

    /// A service was told to read its files anew, or will not be: what waits for that waits only until it has done so.
    fn reopened(&mut self, now: Timestamp) {
        for path in &self.plan.reopened {
            if let Some(object) = self.objects.get_mut(path) {
                object.not_before = object.not_before.min(Timestamp(now.0 + REOPENED_NS));
            }
        }
    }

    /// The attack left the path as it had found it. Whoever read it in between may bring back what was in it.
    fn as_before(&mut self, desk: &mut Desk<'_>, id: ActionId, action: &Action, path: &HostPath) {
        desk.deny(id, "it is as it was before the attack");
        self.forget(desk, id);
        self.undone(desk, action, path, desk.now);
        if let Some(object) = self.objects.get_mut(path) {
            object.action = None;
            object.intact = object.progress == Progress::Done;
        }
    }

    /// The path was put in order by `action`, which was decided then.
    fn undone(&mut self, desk: &mut Desk<'_>, action: &Action, path: &HostPath, decided: Timestamp) {
        desk.graph.settle_writes(path, decided);
        let left = net(desk, path);
        let directory = self.directories.contains(path);
        if let Some(object) = self.objects.get_mut(path) {
            object.undid(action, desk.now);
            if left == Net::Nothing {
                object.progress = Progress::Done;
            } else {
                object.progress = Progress::Todo;
                self.plan.enqueue(place(path, &left, directory));
            }
        }
        // Written while it was put in order.
        self.look_again(desk.graph, path);
    }
}
