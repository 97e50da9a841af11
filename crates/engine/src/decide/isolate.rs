// SPDX-License-Identifier: Apache-2.0
//! A host whose attacker had root's power and called somebody: nobody knows what else waits in it, or for whom.
//!
//! Input: the subjects and whom they called. Output: one action for the host, asked of a person, once all else is in order or
//! waits. Nobody is asked where the configuration names no way in that would be left. The incident is healed without it.
//! It begins with a trial: who still gets in says that it shall last, or it ends by itself, and the question is asked anew.

use super::{Desk, Progressing};
use crate::action::{Action, Extent, Outcome};
use crate::diagnose::Case;
use crate::graph::ProcessNode;
use crate::id::{ActionId, ProcessKey, Timestamp};
use crate::incident::InvocationKind;

/// How long the host is isolated: an hour, in nanoseconds. Long enough to look at it, and an isolation that was forgotten ends.
pub const ISOLATION_LEASE_NS: u64 = 3_600_000_000_000;
/// How long it lasts before somebody who still gets in says so, in nanoseconds.
pub const ISOLATION_TRIAL_NS: u64 = 120_000_000_000;
/// LIMIT: subjects looked at for root's power at one time. An attack of more is asked about when one of these has it.
const SUBJECTS_MAX: usize = 1_024;
/// LIMIT: parents looked at above one of them.
const DEPTH_MAX: usize = 64;

/// Why only a person who still gets in may have it last.
pub(super) fn confirmation(action: &Action) -> Option<String> {
    let lasts = matches!(action, Action::IsolateHost { lease_ns, .. } if *lease_ns > ISOLATION_TRIAL_NS);
    let seconds = ISOLATION_TRIAL_NS / 1_000_000_000;
    lasts.then(|| {
        format!("K11: it ends {seconds} seconds after it began, unless a person who still gets in says otherwise")
    })
}

impl Case {
    pub(super) fn isolate_host(&mut self, desk: &mut Desk<'_>) {
        if self.plan.isolation || !desk.may_ask(self.id) {
            return;
        }
        let control = &desk.configuration.never_block;
        let called = self.plan.filters.keys().any(|(_, extent)| *extent == Extent::Outbound);
        if control.is_empty() || !called || !self.had_roots_power(desk) {
            return;
        }
        self.plan.isolation = true;
        self.propose(desk, Action::IsolateHost { control: control.clone(), lease_ns: ISOLATION_TRIAL_NS });
    }

    /// It holds: whether it shall last is asked now that everybody can see whether they still get in.
    pub(super) fn is_isolated(&mut self, desk: &mut Desk<'_>, trial: ActionId) {
        let Some(step) = self.plan.steps.get(&trial) else { return };
        let (action, until) = (step.action.clone(), Timestamp(step.decided.0.saturating_add(ISOLATION_TRIAL_NS)));
        if let Action::IsolateHost { control, lease_ns: ISOLATION_TRIAL_NS } = action {
            let question = self.propose(desk, Action::IsolateHost { control, lease_ns: ISOLATION_LEASE_NS });
            self.plan.trial = Some((question, until));
        }
    }

    /// Nobody said so in time: the kernel has ended it.
    pub(super) fn end_trial(&mut self, desk: &mut Desk<'_>) {
        let Some((question, _)) = self.plan.trial.filter(|(_, until)| desk.now >= *until) else { return };
        self.plan.trial = None;
        let asked = self.plan.steps.get(&question).is_some_and(|step| step.waits() && !step.personal);
        if !asked {
            return;
        }
        let why = "nobody who still got in said that it shall last: it has ended";
        desk.deny(question, why);
        self.plan.set(question, |step| {
            (step.state, step.settled) = (Progressing::Superseded, Some(desk.now));
            step.outcome = Some(Outcome::Reverted(why.to_owned()));
        });
        self.plan.isolation = false;
        self.dirty = true;
    }

    fn had_roots_power(&self, desk: &Desk<'_>) -> bool {
        self.subjects.iter().take(SUBJECTS_MAX).any(|(key, subject)| {
            let node = desk.graph.process(*key);
            let is_root = subject.uid == 0 || node.is_some_and(|node| node.user.euid == 0);
            is_root && node.is_some_and(|node| !is_of_the_log_in(desk, *key, node))
        })
    }
}

/// Whoever logs in is let in by processes of root's, and greeted by some: nobody below them who is not root came to be it.
fn is_of_the_log_in(desk: &Desk<'_>, key: ProcessKey, node: &ProcessNode) -> bool {
    let session = desk.graph.invocation(node.invocation).filter(|found| found.kind == InvocationKind::Session);
    let Some(session) = session.filter(|session| session.login_uid != Some(0)) else { return false };
    let (mut at, mut parent) = (key, node.parent);
    for _ in 0..DEPTH_MAX {
        if at == session.leader {
            return true;
        }
        let Some(above) = desk.graph.process(parent) else { return true };
        if above.user.euid != 0 {
            return false;
        }
        (at, parent) = (parent, above.parent);
    }
    true
}
