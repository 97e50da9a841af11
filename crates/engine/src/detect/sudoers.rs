// SPDX-License-Identifier: Apache-2.0
//! `privilege/sudoers`

use super::place::is_within_any;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A change of the rules by which users become root: `/etc/sudoers`, `/etc/sudoers.d`, polkit rules, `doas.conf`.
/// # Why it matters
/// One line makes an ordinary account root for good (ATT&CK T1548.003).
/// # Blind spots
/// Rules in a directory service; programs that an old rule already permits.
/// # False positives
/// `visudo` by somebody who is root but no named administrator: name the administrators in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sudoers;

impl Detector for Sudoers {
    const META: Meta = Meta { name: "privilege/sudoers", technique: "T1548.003", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_rule(path) {
            return None;
        }
        Some(look.claim(look.foothold(Confidence::Medium)?, path, "was changed"))
    }
}

pub(super) fn is_rule(path: &HostPath) -> bool {
    const TREES: [&[u8]; 6] = [
        b"/etc/sudoers",
        b"/etc/sudoers.d",
        b"/etc/polkit-1/rules.d",
        b"/etc/polkit-1/localauthority",
        b"/usr/share/polkit-1/rules.d",
        b"/etc/doas.conf",
    ];
    is_within_any(path, &TREES)
}
