// SPDX-License-Identifier: Apache-2.0
//! From a wanted action to the guard's word on it, and what follows from that word.
//!
//! Input: an action, new or waiting, and the hands' facts where they have some. Output: a step with its verdict, and
//! the effect that it allows: the hands begin, a person is asked, or nothing happens. Nothing is begun past the guard,
//! save a comparison, which only reads; no number is given twice.

use super::isolate::confirmation;
use super::{Desk, Progressing, Step, is_undo, undo_of};
use crate::action::{Action, Extent, Facts};
use crate::diagnose::{Case, Progress};
use crate::guard::{self, Attempts, Request};
use crate::id::ActionId;
use crate::incident::{Decision, InvocationKind, ObjectClass, Verdict};
use crate::input::Effect;

/// Units of work that one judgement stands for.
pub const JUDGEMENT_UNITS: u32 = 16;

/// A person who is asked anyway is told that, too.
pub(crate) fn told_why(mut verdict: Verdict, why: Option<String>) -> Verdict {
    if verdict.decision == Decision::Ask {
        verdict.reasons.extend(why.filter(|why| !verdict.reasons.contains(why)));
    }
    verdict
}

impl Case {
    pub(super) fn judge(&self, desk: &mut Desk<'_>, (id, step): (ActionId, &Step), facts: Option<&Facts>) -> Verdict {
        let objects = || step.action.paths().filter_map(|path| self.objects.get(path));
        let attempts = match objects().max_by_key(|object| (object.commits, object.committed)) {
            Some(object) => Attempts { count: object.commits, last: object.committed },
            None => Attempts { count: step.retries, last: None },
        };
        let spared = match &step.action {
            Action::FilterTraffic { address, extent, .. } => desk.graph.neighbour(*address, *extent),
            Action::LockAccount { uid, .. } => {
                let administrator = desk.configuration.administrators.contains(uid);
                administrator.then(|| "the configuration names it an administrator's".to_owned())
            }
            _ => None,
        };
        let own = self.plan.worse.restraint(&step.action).or_else(|| confirmation(&step.action));
        let restraint = desk.restraint(self.id, &step.action, facts).or_else(|| own.clone());
        let doubted = desk.doubted(facts);
        let request = Request {
            now: desk.now,
            action: &step.action,
            mode: desk.configuration.mode,
            scope_permits_action: desk.configuration.scope_permits_action,
            confirmed: self.confirmed,
            attack_only: objects().all(|object| object.class == ObjectClass::AttackOnly)
                && !self.is_of_many(&step.action)
                && !is_undo(&step.action),
            failure: false,
            authorised_change: false,
            predicted: self.predicted(&step.action),
            hold: desk.hold,
            restraint: restraint.as_deref(),
            attempts,
            approvals: step.approvals.len(),
            facts,
            never_touch: &desk.configuration.never_touch,
            never_touch_paths: &desk.configuration.never_touch_paths,
            never_block: &desk.configuration.never_block,
            spared: spared.as_deref(),
            doubted: &doubted,
        };
        told_why(desk.judge(id, self.id, &request), own)
    }

    /// Where a request came from, others' may come from too: a proxy of ours, the address that a whole office has. An account
    /// is its owner's, and the network is everybody's.
    fn is_of_many(&self, action: &Action) -> bool {
        let Action::FilterTraffic { address, extent: Extent::All, .. } = action else {
            return guard::is_personal(action);
        };
        let requests = self.roots.iter().map(|found| &found.root).filter(|root| root.kind == InvocationKind::Request);
        requests.filter_map(|root| root.src_endpoint.as_ref()).any(|peer| peer.ip.to_canonical() == *address)
    }

    /// Targets counted anew from the subjects and objects, not from the action.
    fn predicted(&self, action: &Action) -> usize {
        match action {
            Action::SuspendProcesses { processes }
            | Action::TerminateProcesses { processes }
            | Action::EndSession { processes, .. } => {
                processes.iter().filter(|process| self.subjects.contains_key(process)).count()
            }
            Action::RestoreFile(_) | Action::RestoreFiles { .. } | Action::QuarantineFile { .. } => {
                action.paths().filter(|path| self.objects.contains_key(path)).count()
            }
            Action::RemoveUnit { .. } | Action::ReloadService { .. } => 1,
            Action::FilterTraffic { address, extent, .. } => {
                usize::from(self.plan.filters.contains_key(&(*address, *extent)))
            }
            Action::LockAccount { uid, .. } => usize::from(self.plan.accounts.contains(uid)),
            Action::IsolateHost { .. } => usize::from(self.plan.isolation),
            Action::UndoAction { of, .. } => {
                self.plan.steps.get(of).map_or(0, |step| undo_of(*of, &step.action).target_count())
            }
            // Cures of failures: an incident of an attack names none of them.
            Action::RestartService { .. }
            | Action::FreeSpace { .. }
            | Action::LoadFirewall { .. }
            | Action::RenewCertificate { .. }
            | Action::RestorePackaged { .. } => 0,
        }
    }

    /// A new action: judged, then begun, asked or refused.
    pub(super) fn propose(&mut self, desk: &mut Desk<'_>, action: Action) -> ActionId {
        let id = self.number(desk, action);
        self.begin(desk, id);
        id
    }

    pub(super) fn number(&mut self, desk: &mut Desk<'_>, action: Action) -> ActionId {
        *desk.actions_begun += 1;
        let id = ActionId(*desk.actions_begun);
        desk.owners.insert(id, self.id);
        self.plan.steps.insert(id, Step::new(action, desk.now));
        id
    }

    /// Judges an action that waits or is new, and acts accordingly.
    pub(super) fn begin(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        desk.units += JUDGEMENT_UNITS;
        desk.room = desk.room.saturating_sub(1);
        let Some(step) = self.plan.steps.get(&id) else { return };
        let verdict = self.judge(desk, (id, step), None);
        let asked_before = step.state == Progressing::Asked;
        let what = step.action.clone();
        let incident = self.id;
        let state = match verdict.decision {
            Decision::Permit => {
                if let Action::SuspendProcesses { processes } = what {
                    desk.capacity.take(desk.now, &desk.taking(&step.action, None), true);
                    desk.out.push(Effect::Reflex { action: id, incident, processes });
                    Progressing::Committed
                } else {
                    desk.out.push(Effect::Prepare { action: id, incident, what });
                    Progressing::Preparing
                }
            }
            Decision::Ask => {
                if !asked_before {
                    desk.out.push(Effect::Ask { action: id, incident, what, verdict: verdict.clone() });
                }
                Progressing::Asked
            }
            Decision::Deny => Progressing::Refused,
        };
        let reasons = verdict.reasons.join("; ");
        self.plan.set(id, |step| {
            step.state = state;
            step.verdict = verdict;
            step.decided = desk.now;
        });
        self.reflect(id, state, &reasons);
    }

    /// What an action's state means for its object.
    pub(super) fn reflect(&mut self, id: ActionId, state: Progressing, why: &str) {
        let Some(step) = self.plan.steps.get(&id) else { return };
        let progress = match state {
            Progressing::Preparing | Progressing::Committed => Progress::Busy,
            Progressing::Asked => Progress::Shown(format!("waits for a person: {why}")),
            Progressing::Refused => Progress::Shown(format!("refused: {why}")),
            Progressing::Settled | Progressing::Superseded => return,
        };
        for path in step.action.paths() {
            if let Some(object) = self.objects.get_mut(path) {
                object.action = Some(id);
                object.progress = progress.clone();
            }
        }
    }

    /// A question that is no longer the right one is taken back.
    pub(super) fn supersede(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        if self.plan.steps.get(&id).is_some_and(Step::waits) {
            self.plan.set(id, |step| {
                step.state = Progressing::Superseded;
                step.settled = Some(desk.now);
            });
            desk.deny(id, "another action takes its place");
            self.plan_anew(desk, id);
        }
    }

    /// A comparison of which nothing came is no part of the story.
    pub(super) fn forget(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        self.plan.set(id, |step| step.state = Progressing::Superseded);
        self.plan.steps.remove(&id);
        desk.owners.remove(&id);
    }
}
