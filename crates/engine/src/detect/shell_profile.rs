// SPDX-License-Identifier: Apache-2.0
//! `foothold/shell-profile`

use super::place::{in_home, is_within_any};
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A change of a file that shells read when they start: the system's (`/etc/profile`, `/etc/profile.d`,
/// `/etc/bash.bashrc`, `/etc/environment`, …) or one in a home.
/// # Why it matters
/// It runs at everybody's, or the owner's, next login (ATT&CK T1546.004).
/// # Blind spots
/// Files that a profile already includes; start-up files of editors and interpreters.
/// # False positives
/// A user's own dot files are shown (low).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShellProfile;

impl Detector for ShellProfile {
    const META: Meta = Meta { name: "foothold/shell-profile", technique: "T1546.004", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_profile(path) {
            return None;
        }
        Some(look.claim(look.foothold(Confidence::Medium)?, path, "was changed"))
    }
}

const SYSTEM: [&[u8]; 11] = [
    b"/etc/profile",
    b"/etc/profile.d",
    b"/etc/bash.bashrc",
    b"/etc/bashrc",
    b"/etc/bash_completion.d",
    b"/etc/environment",
    b"/etc/environment.d",
    b"/etc/zsh",
    b"/etc/fish",
    b"/etc/skel",
    b"/etc/update-motd.d",
];
const HOME: [&[u8]; 15] = [
    b".profile",
    b".bashrc",
    b".bash_profile",
    b".bash_login",
    b".bash_logout",
    b".bash_aliases",
    b".zshrc",
    b".zshenv",
    b".zprofile",
    b".zlogin",
    b".zlogout",
    b".shrc",
    b".kshrc",
    b".pam_environment",
    b".config/fish/config.fish",
];

pub(super) fn is_profile(path: &HostPath) -> bool {
    is_within_any(path, &SYSTEM) || in_home(path).is_some_and(|rest| HOME.contains(&rest))
}
