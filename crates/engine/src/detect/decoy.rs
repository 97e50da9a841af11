// SPDX-License-Identifier: Apache-2.0
//! `impact/decoy`

use super::{Authority, Bounded, Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId};
use crate::id::Timestamp;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A decoy file of ours (`[decoys]` in the configuration) that somebody wrote, cut off, replaced or took away. Nobody has a
/// reason to: it is hidden, and says nothing to anybody.
/// # Why it matters
/// Whoever goes through all files of a place meets it among the first (ATT&CK T1486, T1485).
/// # Blind spots
/// Programs that leave hidden files alone, and trees without a decoy.
/// # False positives
/// An editor run over a whole home replaces it; a user who removes a directory, or compresses all tables, removes it too, and
/// may make it again. That counts little. Modes, owners and times may change freely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decoy {
    /// Decoys that somebody took away or replaced, and when: what is written there now is not ours.
    gone: Bounded<HostPath, Timestamp>,
}

/// Within so many nanoseconds of its going a decoy is not put back (one hour).
const GONE_NS: u64 = 3_600_000_000_000;

impl Detector for Decoy {
    const META: Meta = Meta { name: "impact/decoy", technique: "T1486", class_uid: FILE };

    fn forgotten(&self) -> u64 {
        self.gone.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let decoys = &look.context.configuration.decoys;
        let file = look.file().filter(|_| !decoys.is_empty())?;
        let is_decoy = |path: &HostPath| decoys.contains(path);
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
            FileActivityId::Create if is_decoy(&file.file.path) => {
                (Confidence::Low, &file.file.path, "where a decoy was, was made")
            }
            _ => return None,
        };
        let now = look.event.time;
        let gone = self.gone.get(path).is_some_and(|since| now.since_ns(*since) < GONE_NS);
        if confidence < Confidence::High {
            self.gone.remove(path);
            self.gone.insert(path.clone(), now);
        } else if gone {
            return None;
        }
        let confidence = match look.authority() {
            Authority::ChangeWindow | Authority::ChangeTool => return None,
            Authority::Administrator => Confidence::Low,
            Authority::Machinery | Authority::Nobody => confidence,
        };
        Some(look.claim(confidence, path, what))
    }
}
