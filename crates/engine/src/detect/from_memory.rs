// SPDX-License-Identifier: Apache-2.0
//! `execution/from-memory`

use super::place::is_installed;
use super::{Authority, Claim, Detector, Look, Meta, PROCESS};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A program that has no name in any directory: run from anonymous memory (memfd) or from a file that was unlinked
/// before.
/// # Why it matters
/// Nothing is left on disk to find (ATT&CK T1620). Everybody is looked at.
/// # Blind spots
/// Code that a running program maps or loads itself.
/// # False positives
/// Container runtimes run a sealed copy of themselves (runc, since CVE-2019-5736) and are known as the parent; a
/// service that runs itself again after its package was upgraded is machinery and shown (low).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FromMemory;

impl Detector for FromMemory {
    const META: Meta = Meta { name: "execution/from-memory", technique: "T1620", class_uid: PROCESS };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let process = &look.exec()?.process;
        let runtime = look.parent_program().is_some_and(|parent| is_installed(parent, &[b"runc", b"crun", b"youki"]));
        if !process.fileless || runtime {
            return None;
        }
        let confidence = match look.authority() {
            Authority::ChangeTool | Authority::Machinery => Confidence::Low,
            Authority::ChangeWindow | Authority::Administrator | Authority::Nobody => Confidence::High,
        };
        let path = process.file.as_ref().map_or_else(HostPath::default, |file| file.path.clone());
        Some(look.claim(confidence, &path, "has no name on disk: run"))
    }
}
