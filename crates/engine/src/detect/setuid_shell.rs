// SPDX-License-Identifier: Apache-2.0
//! `privilege/setuid-shell`

use super::place::{is_anybodys, is_installed, is_shell, is_system};
use super::setuid::privileged;
use super::{Bounded, Claim, Detector, Look, Meta, PROCESS};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A program that runs with root's effective uid while its real uid is an ordinary user's, and is either not where root
/// installs programs or a shell.
/// # Why it matters
/// It is what running a planted setuid copy looks like, by whatever name (ATT&CK T1548.001). The lawful ways to root
/// (`sudo`, `su`, `pkexec`) change the real uid before they run anything.
/// # Blind spots
/// A copy that sets its real uid at once is seen by its first exec only; capabilities instead of setuid.
/// # False positives
/// Setuid tools that an administrator or a package put elsewhere are remembered and left out; those from before the
/// agent count as medium unless anybody could have put them there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetuidShell {
    /// Setuid files that those who may have made.
    lawful: Bounded<HostPath, ()>,
}

/// Setuid tools that run a helper or a shell before they give up anything.
const LAWFUL_PARENTS: [&[u8]; 6] = [b"sudo", b"su", b"pkexec", b"mount", b"umount", b"fusermount3"];

impl Detector for SetuidShell {
    const META: Meta = Meta { name: "privilege/setuid-shell", technique: "T1548.001", class_uid: PROCESS };

    fn forgotten(&self) -> u64 {
        self.lawful.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        if let Some((path, _)) = privileged(look) {
            if look.authority().is_authorised() {
                self.lawful.insert(path.clone(), ());
            }
            return None;
        }
        let process = &look.exec()?.process;
        let path = &process.file.as_ref()?.path;
        let raised = process.user.euid == 0 && process.user.uid != 0;
        let lawful = self.lawful.get(path).is_some()
            || look.parent_program().is_some_and(|parent| is_installed(parent, &LAWFUL_PARENTS));
        if !raised || lawful || look.authority().is_authorised() {
            return None;
        }
        let confidence = match (is_system(path), is_shell(path)) {
            (true, false) => return None,
            (false, _) if is_anybodys(path) => Confidence::High,
            (true, true) | (false, _) => Confidence::Medium,
        };
        Some(look.claim(confidence, path, "runs with root's power for an ordinary user: run"))
    }
}
