// SPDX-License-Identifier: Apache-2.0
//! `impact/decoy`

use super::{Authority, Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId};
use serde::{Deserialize, Serialize};

/// # What it finds
/// A decoy file of ours (`[decoys]` in the configuration) that somebody wrote, cut off, replaced or took away. Nobody has a
/// reason to: it is hidden, and says nothing to anybody.
/// # Why it matters
/// Whoever goes through all files of a place meets it among the first (ATT&CK T1486, T1485).
/// # Blind spots
/// Programs that leave hidden files alone, and trees without a decoy.
/// # False positives
/// An editor run over a whole home replaces it; a user who removes a directory removes it too. Both count little. Modes,
/// owners and times may change freely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decoy;

impl Detector for Decoy {
    const META: Meta = Meta { name: "impact/decoy", technique: "T1486", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let file = look.file()?;
        let is_decoy = |path| look.context.configuration.decoys.contains(path);
        let (confidence, path, what) = match file.activity {
            FileActivityId::Update | FileActivityId::Truncate if is_decoy(&file.file.path) => {
                (Confidence::High, &file.file.path, "a decoy, was written")
            }
            FileActivityId::Rename if is_decoy(&file.file.path) => {
                (Confidence::Medium, &file.file.path, "a decoy, was moved away")
            }
            FileActivityId::Rename | FileActivityId::Link => {
                let path = file.file_result.as_ref().filter(|path| is_decoy(path))?;
                (Confidence::Medium, path, "a decoy, was replaced")
            }
            FileActivityId::Delete if is_decoy(&file.file.path) => {
                (Confidence::Low, &file.file.path, "a decoy, was removed")
            }
            _ => return None,
        };
        let confidence = match look.authority() {
            Authority::ChangeWindow | Authority::ChangeTool => return None,
            Authority::Administrator => Confidence::Low,
            Authority::Machinery | Authority::Nobody => confidence,
        };
        Some(look.claim(confidence, path, what))
    }
}
