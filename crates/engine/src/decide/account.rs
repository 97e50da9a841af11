// SPDX-License-Identifier: Apache-2.0
//! The account that an attack came in with: whoever has its key or password can come again, from anywhere.
//!
//! Input: the root. Output: one action for its account, where the root is a login session, once all else is in order or
//! waits for a person. Its owner would be locked out, too: the guard leaves it to a person in every mode, and the host is healed
//! without it.

use super::Desk;
use crate::action::Action;
use crate::diagnose::Case;
use crate::path::HostPath;

/// Where accounts have the day on which they expire: shadow(5).
pub(crate) const SHADOW: &str = "/etc/shadow";

impl Case {
    pub(super) fn lock_account(&mut self, desk: &mut Desk<'_>) {
        let Some(uid) = self.came_in_with(desk).filter(|_| desk.may_ask(self.id)) else { return };
        if self.plan.accounts.insert(uid) {
            self.propose(desk, Action::LockAccount { uid, path: HostPath::from(SHADOW) });
        }
    }

    /// Only a login session has one, and the kernel told whose it is: no name that anybody wrote says it. Root's account is
    /// nobody's to lock.
    fn came_in_with(&self, desk: &Desk<'_>) -> Option<u32> {
        let root = desk.graph.invocation(self.anchor()?.invocation)?;
        root.login_uid.filter(|uid| *uid != 0)
    }
}
