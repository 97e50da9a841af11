// SPDX-License-Identifier: Apache-2.0
//! `foothold/authorized-key`

use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A change of a file that names the keys that may log in as somebody: `authorized_keys` in any `.ssh`, the
/// system-wide directories that sshd reads, and host-based trust (`.rhosts`, `.shosts`).
/// # Why it matters
/// One line is a lasting way in that survives a change of password (ATT&CK T1098.004).
/// # Blind spots
/// Another file that sshd was told to read (see `foothold/sshd-config`), certificates signed by a trusted authority, a
/// file that is written and never closed.
/// # False positives
/// An ordinary user who adds a key to the own account is shown (low) and never acted upon by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuthorizedKey;

impl Detector for AuthorizedKey {
    const META: Meta = Meta { name: "foothold/authorized-key", technique: "T1098.004", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_key_file(path) {
            return None;
        }
        Some(look.claim(look.foothold(Confidence::Medium)?, path, "was changed"))
    }
}

pub(super) fn is_key_file(path: &HostPath) -> bool {
    let name = path.file_name();
    let in_ssh = path.parent().ends_with(b"/.ssh");
    in_ssh && (name.starts_with(b"authorized_keys") || name == b"rc" || name == b"environment")
        || matches!(name, b".rhosts" | b".shosts")
        || path.is_within(b"/etc/ssh/authorized_keys")
        || path.is_within(b"/etc/ssh/authorized_keys.d")
}
