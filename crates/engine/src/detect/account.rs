// SPDX-License-Identifier: Apache-2.0
//! `foothold/account`

use super::place::is_installed;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// The account files (`/etc/passwd`, `/etc/shadow`, `/etc/group`, `/etc/gshadow`, `/etc/subuid`, `/etc/subgid`) changed
/// by nobody who may.
/// # Why it matters
/// A new account, a second uid 0, a known password or a group such as `sudo` is a way back in (ATT&CK T1136.001).
/// # Blind spots
/// Accounts in a directory service. Which line changed is not looked at here: the path is the claim.
/// # False positives
/// Users who change their own password, name or shell with the system's own setuid tools are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account;

/// Setuid tools with which users change their own entry: root's power, but still the user's real uid.
const OWN_ENTRY: [&[u8]; 6] = [b"passwd", b"chfn", b"chsh", b"chage", b"gpasswd", b"unix_update"];

impl Detector for Account {
    const META: Meta = Meta { name: "foothold/account", technique: "T1136.001", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_account_file(path) {
            return None;
        }
        let own_entry = look.seen().is_some_and(|seen| {
            seen.user.uid != 0 && seen.program.is_some_and(|program| is_installed(program, &OWN_ENTRY))
        });
        if own_entry {
            return None;
        }
        Some(look.claim(look.foothold(Confidence::Medium)?, path, "was changed"))
    }
}

pub(super) fn is_account_file(path: &HostPath) -> bool {
    matches!(
        path.as_bytes(),
        b"/etc/passwd" | b"/etc/shadow" | b"/etc/group" | b"/etc/gshadow" | b"/etc/subuid" | b"/etc/subgid"
    )
}
