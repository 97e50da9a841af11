// SPDX-License-Identifier: Apache-2.0
//! `privilege/setuid`

use super::place::is_anybodys;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId, FileKind, Mode};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// The setuid or setgid bit, or a file capability, appearing on a file by any means: chmod, create, copy, rename, link,
/// extended attribute.
/// # Why it matters
/// Whoever runs the file has its owner's power: a setuid copy of a shell is root for everybody (ATT&CK T1548.001).
/// Owned by root and in a place where anybody puts files, nothing legitimate looks like that: high.
/// # Blind spots
/// A capability is told from an ACL only by root's hand and an executable file, since the attribute's name is not seen.
/// A bit that was there before the agent, on a file that is only written to.
/// # False positives
/// Setuid bits on a user's own files, for the own account, are shown (low).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setuid;

impl Detector for Setuid {
    const META: Meta = Meta { name: "privilege/setuid", technique: "T1548.001", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let (path, mode) = privileged(look)?;
        let by_root = mode.uid == 0 && mode.bits & 0o4000 != 0;
        let otherwise = if by_root && is_anybodys(path) { Confidence::High } else { Confidence::Medium };
        Some(look.claim(look.foothold(otherwise)?, path, "was given its owner's power"))
    }
}

/// The file whose runner gains power by this event, and how it stands now.
pub(super) fn privileged<'a>(look: &Look<'a>) -> Option<(&'a HostPath, Mode)> {
    let file = look.file().filter(|file| file.kind == FileKind::Regular)?;
    let mode = file.mode?;
    // Set-group-id without the group's execute bit means something else (mandatory locks; inode(7)).
    let gains = mode.bits & 0o4000 != 0 || mode.bits & 0o2010 == 0o2010;
    match file.activity {
        FileActivityId::SetAttributes | FileActivityId::Create => {
            let same = file.change.is_some_and(|change| change.before == change.after && !change.created);
            (gains && !same).then_some((&file.file.path, mode))
        }
        FileActivityId::Close | FileActivityId::Rename | FileActivityId::Link => {
            let path = look.arrival?.path;
            gains.then_some((path, mode))
        }
        FileActivityId::SetSecurity => {
            let by_root = look.seen().is_some_and(|seen| seen.user.euid == 0);
            (by_root && mode.bits & 0o111 != 0).then_some((&file.file.path, mode))
        }
        FileActivityId::Update
        | FileActivityId::Delete
        | FileActivityId::Open
        | FileActivityId::Read
        | FileActivityId::Truncate => None,
    }
}
