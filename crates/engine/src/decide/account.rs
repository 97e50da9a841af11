// SPDX-License-Identifier: Apache-2.0
//! The account that an attack came in with: whoever has its key or password can come again, from anywhere.
//!
//! Input: the root. Output: one action for its account, where the root is a login session, once all else is in order or
//! waits for a person. Its owner would be locked out, too: the guard leaves it to a person in every mode, and the host is healed
//! without it.

use super::Desk;
use crate::action::Action;
use crate::diagnose::Case;
use crate::id::ActionId;
use crate::incident::InvocationKind;
use crate::path::HostPath;

/// Where accounts have the day on which they expire: shadow(5).
pub(crate) const SHADOW: &str = "/etc/shadow";

impl Case {
    pub(super) fn lock_account(&mut self, desk: &mut Desk<'_>) {
        let account = self.came_in_with(desk);
        // Of an incident that this one absorbed: it did not begin there.
        let others = self.plan.accounts.iter().filter(|(uid, _)| Some(**uid) != account);
        for id in others.map(|(_, id)| *id).collect::<Vec<ActionId>>() {
            self.supersede(desk, id);
        }
        let held = desk.hold.is_some_and(|hold| desk.now < hold.until);
        if held || desk.breaker.objection(self.id).is_some() {
            return; // in a storm nobody can answer that many questions
        }
        let Some(uid) = account.filter(|uid| !self.plan.accounts.contains_key(uid)) else { return };
        let id = self.number(desk, Action::LockAccount { uid, path: HostPath::from(SHADOW) });
        self.plan.accounts.insert(uid, id);
        self.begin(desk, id);
    }

    /// As the kernel told who logged in: no name that anybody wrote says it. Root's account is nobody's to lock.
    fn came_in_with(&self, desk: &Desk<'_>) -> Option<u32> {
        let root = self.roots.first().filter(|found| found.root.kind == InvocationKind::Session)?;
        let session = desk.graph.invocation(root.anchor.invocation)?;
        session.login_uid.filter(|uid| *uid != 0)
    }
}
