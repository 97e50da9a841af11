// SPDX-License-Identifier: Apache-2.0
//! Accounts that an attack came in with: whoever has the key or the password can come again, from anywhere.
//!
//! Input: the root. Output: one action for its account, once everything is in order. The account's owner would be locked out,
//! too: no policy that comes with Thymus permits it, so a person is asked. The host is healed without it.

use super::Desk;
use crate::action::Action;
use crate::diagnose::Case;
use crate::incident::InvocationKind;
use crate::path::HostPath;

/// Where accounts say when they expire: shadow(5).
pub(crate) const SHADOW: &str = "/etc/shadow";

impl Case {
    pub(super) fn lock_accounts(&mut self, desk: &mut Desk<'_>) {
        let Some(root) = self.roots.first().filter(|found| found.root.kind == InvocationKind::Session) else { return };
        // Whoever came as root needs no account of anybody else's, and root's is never locked.
        let session = desk.graph.process(root.root.leader).and_then(|node| desk.graph.invocation(node.invocation));
        let Some(uid) = session.and_then(|session| session.login_uid).filter(|uid| *uid != 0) else { return };
        if self.plan.accounts.contains_key(&uid) {
            return;
        }
        let id = self.number(desk, Action::LockAccount { uid, path: HostPath::from(SHADOW) });
        self.plan.accounts.insert(uid, id);
        self.begin(desk, id);
    }
}
