// SPDX-License-Identifier: Apache-2.0
//! `foothold/pam`

use super::place::is_within_any;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A change of PAM's configuration (`/etc/pam.d`, `/etc/pam.conf`, `/etc/security`) or of a PAM module.
/// # Why it matters
/// One line lets anybody in, or keeps every password that is typed (ATT&CK T1556.003).
/// # Blind spots
/// A program that a `pam_exec` line already names; name service modules (`impair/system-tool` sees their files).
/// # False positives
/// `pam-auth-update` runs below the package manager and is known by that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pam;

impl Detector for Pam {
    const META: Meta = Meta { name: "foothold/pam", technique: "T1556.003", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_pam(path) {
            return None;
        }
        Some(look.claim(look.foothold(Confidence::Medium)?, path, "was changed"))
    }
}

pub(super) fn is_pam(path: &HostPath) -> bool {
    let name = path.file_name();
    let module = name.starts_with(b"pam_") && name.ends_with(b".so") && path.parent().ends_with(b"/security");
    module || is_within_any(path, &[b"/etc/pam.d", b"/etc/pam.conf", b"/etc/security", b"/usr/lib/pam.d"])
}
