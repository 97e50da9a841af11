// SPDX-License-Identifier: Apache-2.0
//! `foothold/cron`

use super::place::is_within_any;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A new or changed crontab, cron directory entry or `at` job.
/// # Why it matters
/// cron runs it again and again, as root where the file is the system's (ATT&CK T1053.003; `at`: T1053.002).
/// # Blind spots
/// Changes of a script that an old crontab line already names; other schedulers.
/// # False positives
/// Users' own crontabs are shown (low). Package scripts and configuration tools are known by their lineage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cron;

impl Detector for Cron {
    const META: Meta = Meta { name: "foothold/cron", technique: "T1053.003", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_job(path) {
            return None;
        }
        let mut claim = look.claim(look.foothold(Confidence::Medium)?, path, "was changed");
        claim.technique = is_within_any(path, &AT).then_some("T1053.002");
        Some(claim)
    }
}

const TREES: [&[u8]; 9] = [
    b"/etc/crontab",
    b"/etc/anacrontab",
    b"/etc/cron.d",
    b"/etc/cron.hourly",
    b"/etc/cron.daily",
    b"/etc/cron.weekly",
    b"/etc/cron.monthly",
    b"/var/spool/cron",
    b"/var/spool/at",
];

/// Jobs of `at`, run once.
const AT: [&[u8]; 3] = [b"/var/spool/cron/atjobs", b"/var/spool/cron/atspool", b"/var/spool/at"];

/// `crontab(1)` writes `tmp.XXXXXX` beside the crontab and renames it: the rename counts.
pub(super) fn is_job(path: &HostPath) -> bool {
    is_within_any(path, &TREES)
        && !path.file_name().starts_with(b"tmp.")
        && !matches!(path.file_name(), b".SEQ" | b".placeholder")
}
