// SPDX-License-Identifier: Apache-2.0
//! `impact/backup-removal`

use super::place::{is_system, is_within_any};
use super::toll::{Toll, WORKS_MAX, Work};
use super::{Authority, Bounded, Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// Snapshots or backups taken away: a program that deletes them run by nobody who may (`btrfs subvolume delete`,
/// `lvremove`, `zfs destroy`, `snapper delete`, `restic forget`, `borg delete`), or several files removed where backups lie.
/// # Why it matters
/// It comes just before, or after, data is destroyed or encrypted (ATT&CK T1490).
/// # Blind spots
/// Backups in places of their own; programs of other names.
/// # False positives
/// A user who prunes the own repository of backups is seen (medium), and alone leads to nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackupRemoval {
    works: Bounded<Work, Toll, WORKS_MAX>,
}

/// Program, and the words that make it delete; empty: it only ever deletes.
const REMOVERS: [(&[u8], &[&str]); 9] = [
    (b"btrfs", &["subvolume", "delete"]),
    (b"lvremove", &[]),
    (b"lvm", &["lvremove"]),
    (b"zfs", &["destroy"]),
    (b"snapper", &["delete"]),
    (b"restic", &["forget"]),
    (b"borg", &["delete"]),
    (b"timeshift", &["--delete-all"]),
    (b"tmutil", &["deletelocalsnapshots"]),
];
const PLACES: [&[u8]; 5] = [b"/var/backups", b"/backup", b"/backups", b"/srv/backup", b"/srv/backups"];
const ENOUGH: u64 = 3;

impl Detector for BackupRemoval {
    const META: Meta = Meta { name: "impact/backup-removal", technique: "T1490", class_uid: FILE };

    fn forgotten(&self) -> u64 {
        self.works.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let (paths, what): (Vec<HostPath>, &str) = if let Some(process) = look.exec() {
            let program = process.process.file.as_ref().map(|file| &file.path).filter(|path| is_system(path))?;
            let said = |word: &&str| process.process.cmd_line.iter().any(|argument| argument == word);
            let remover = REMOVERS.iter().find(|(name, _)| *name == program.file_name())?;
            remover.1.iter().all(said).then(|| (vec![program.clone()], "was run to remove snapshots or backups"))?
        } else {
            let file = look.file().filter(|file| file.activity == FileActivityId::Delete)?;
            let path = Some(&file.file.path).filter(|path| is_within_any(path, &PLACES))?;
            file.change.filter(|change| change.removed && !change.created)?;
            let toll = self.works.entry(&Work::of(look));
            if toll.is_stale(look.event.time) {
                *toll = Toll::default();
            }
            let counted = toll.count(path, look.event.time);
            (counted && toll.len() == ENOUGH).then(|| (toll.some(), "and other backups were removed"))?
        };
        let confidence = match look.authority() {
            Authority::ChangeWindow | Authority::Administrator | Authority::ChangeTool | Authority::Machinery => {
                return None;
            }
            Authority::Nobody => Confidence::Medium,
        };
        let mut claim = look.claim(confidence, paths.first()?, what);
        claim.paths = paths;
        Some(claim)
    }
}
