// SPDX-License-Identifier: Apache-2.0
//! A host whose attacker had root's power and called somebody: nobody knows what else waits in it, or for whom.
//!
//! Input: the subjects and whom they called. Output: one action for the host, asked of a person, once all else is in order or
//! waits. Nobody is asked where the configuration names no way in that would be left. The incident is healed without it.

use super::Desk;
use crate::action::{Action, Extent};
use crate::diagnose::Case;
use crate::graph::ProcessNode;
use crate::id::ProcessKey;
use crate::incident::InvocationKind;

/// How long the host is isolated: an hour, in nanoseconds. Long enough to look at it, and an isolation that was forgotten ends.
pub const ISOLATION_LEASE_NS: u64 = 3_600_000_000_000;
/// LIMIT: subjects looked at for root's power at one time. An attack of more is asked about when one of these has it.
const SUBJECTS_MAX: usize = 1_024;
/// LIMIT: parents looked at above one of them.
const DEPTH_MAX: usize = 64;

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
        self.propose(desk, Action::IsolateHost { control: control.clone(), lease_ns: ISOLATION_LEASE_NS });
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
