// SPDX-License-Identifier: Apache-2.0
//! What a person says: yes or no to a question, that a path is wanted as it is, that an incident is over.
//!
//! Input: a person's word. Output: a question that is begun or refused, an object or an incident that is let go. A
//! person's word stands: no mode, policy or hold changes it, and no question about what was let go stays open.

use super::{Desk, Progressing, Proving, Step, is_undo};
use crate::action::Action;
use crate::diagnose::Case;
use crate::guard::is_contradiction;
use crate::id::{ActionId, Timestamp};
use crate::incident::{Decision, Milestone, Stage, Verdict};
use crate::input::Effect;
use crate::path::HostPath;

/// LIMIT: questions of one incident that are given up in one tick.
const LAPSES_PER_TICK: usize = 16;

impl Case {
    /// A person answered a question: which user, or `u32::MAX` when that was not told.
    ///
    /// `before`: of a file that cannot be told apart, what it was before the attack is wanted.
    pub(crate) fn answer(&mut self, desk: &mut Desk<'_>, id: ActionId, (approved, before): (bool, bool), uid: u32) {
        if !self.plan.steps.get(&id).is_some_and(Step::waits) || self.closed.is_some() {
            return;
        }
        self.dirty = true;
        if approved {
            self.plan.set(id, |step| {
                step.approvals.extend([uid]);
                if let (true, Action::RestoreFile(restore)) =
                    (before && is_contradiction(&step.verdict), &mut step.action)
                {
                    restore.whole = true;
                }
            });
            self.plan.proof = Proving::default();
            self.pass(desk, Milestone::Reopened, format!("a person approved action {id}"));
            self.begin(desk, id);
        } else {
            let verdict = Verdict { decision: Decision::Deny, reasons: vec!["a person denied it".to_owned()] };
            desk.out.push(Effect::Drop { action: id, verdict: verdict.clone() });
            self.plan.set(id, |step| {
                step.state = Progressing::Refused;
                step.personal = true;
                step.verdict = verdict;
            });
            self.reflect(id, Progressing::Refused, "a person denied it");
            if self.plan.steps.get(&id).is_some_and(|step| is_undo(&step.action)) {
                self.pass(desk, Milestone::Reopened, format!("a person denied action {id}: what was done stays"));
            }
        }
    }

    /// What nobody answered in time is not done; some of it now, the rest with the next ticks.
    pub(super) fn lapse(&mut self, desk: &mut Desk<'_>) {
        let answer_ns = desk.configuration.answer_ns;
        let late = |(asked, _): &&(Timestamp, ActionId)| desk.now.since_ns(*asked) >= answer_ns;
        let late: Vec<ActionId> =
            self.plan.questions.iter().take_while(late).take(LAPSES_PER_TICK).map(|(_, id)| *id).collect();
        if late.is_empty() {
            return;
        }
        for id in &late {
            self.plan.set(*id, |step| step.lapse(*id, desk.now, answer_ns));
            let Some(verdict) = self.plan.steps.get(id).map(|step| step.verdict.clone()) else { continue };
            self.reflect(*id, Progressing::Refused, &verdict.reasons.join("; "));
            desk.out.push(Effect::Drop { action: *id, verdict });
            desk.units += 1;
        }
        self.dirty = true;
        self.why = format!("{} actions were not done, for nobody answered in time", late.len());
        self.tell(desk);
    }

    /// A person wants a path as it is.
    pub(crate) fn accept(&mut self, desk: &mut Desk<'_>, path: &HostPath) {
        let Some(object) = self.objects.remove(path) else { return };
        self.footholds.remove(path);
        if let Some(action) = object.action {
            self.supersede(desk, action);
        }
        self.plan.later.remove(path);
        self.plan.pending.remove(path);
        self.plan.again.remove(path);
        self.plan.shown.remove(path);
        self.dirty = true;
        if self.stage == Stage::Stuck {
            self.pass(desk, Milestone::Reopened, format!("a person wants `{path}` as it is"));
        }
    }

    /// A person ended it: nothing more is done by itself, and what was asked is taken back.
    pub(crate) fn close(&mut self, desk: &mut Desk<'_>, why: &str) {
        for id in self.plan.unresolved.clone() {
            self.supersede(desk, id);
        }
        self.closed = Some(why.to_owned());
        self.search = None;
        self.plan.fresh.clear();
        for key in self.subjects.keys() {
            if let Some(node) = desk.graph.process_mut(*key) {
                node.subject = None;
            }
        }
        if let Some(anchor) = self.anchor()
            && let Some(invocation) = desk.graph.invocation_mut(anchor.invocation)
        {
            invocation.subject = None;
            invocation.suspect = false;
        }
        if self.stage == Stage::Healed {
            self.pass(desk, Milestone::Reopened, why.to_owned());
        }
        self.pass(desk, Milestone::Obstructed, why.to_owned());
        self.why = why.to_owned();
    }
}
