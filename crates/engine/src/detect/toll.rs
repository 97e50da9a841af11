// SPDX-License-Identifier: Apache-2.0
//! What one piece of work did to many files: the memory of detectors that judge no single change.
//!
//! Counted by what started the work and not by process or time: a crontab's runs, a unit's starts and a session with all its
//! children are one, however slowly they go about it.

use super::Look;
use crate::id::{ProcessKey, Timestamp};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// LIMIT: works remembered by one detector, and files by name of one work. Far fewer files are enough for any claim; those
/// that come after are counted, and judged by what was seen.
pub(super) const WORKS_MAX: usize = 512;
const FILES_MAX: usize = 128;
/// LIMIT: kinds, places and estates remembered of one work.
const FEATURES_MAX: usize = 16;
/// What is older counts no more, nanoseconds: one day.
const MEMORY_NS: u64 = 86_400_000_000_000;

/// What all its runs have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Work {
    /// A session, a request, or what was there before: by its leader.
    One(ProcessKey),
    /// Every run of a crontab or a unit, by the file that makes it run or the unit's name.
    Again(HostPath),
}

impl Work {
    pub(super) fn of(look: &Look<'_>) -> Self {
        let Some(found) = look.invocation() else { return Self::One(look.actor) };
        match (found.kind, found.origin) {
            (InvocationKind::Cron | InvocationKind::Unit(_), Some(origin)) => Self::Again(origin.clone()),
            (InvocationKind::Unit(unit), None) if !unit.is_empty() => Self::Again(HostPath::from(unit.as_str())),
            _ => Self::One(found.leader),
        }
    }
}

/// A bounded set of short byte strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Features(BTreeSet<Vec<u8>>);

impl Features {
    pub(super) fn note(&mut self, feature: &[u8]) {
        if self.0.len() < FEATURES_MAX && !self.0.contains(feature) {
            self.0.insert(feature.to_vec());
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Files that one work treated alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Toll {
    /// When the first of them was.
    pub(super) since: Timestamp,
    pub(super) files: BTreeSet<HostPath>,
    /// Files beyond those remembered by name.
    more: u64,
    /// Endings of their names.
    pub(super) endings: Features,
    pub(super) directories: Features,
    pub(super) estates: Features,
}

impl Toll {
    /// Counts a path once, as far as it is remembered by name. False: it was counted before.
    pub(super) fn count(&mut self, path: &HostPath, time: Timestamp) -> bool {
        if self.files.is_empty() {
            self.since = time;
        }
        if self.files.contains(path) {
            return false;
        }
        if self.files.len() < FILES_MAX {
            self.files.insert(path.clone());
        } else {
            self.more += 1;
        }
        self.endings.note(ending(path));
        self.directories.note(path.parent());
        self.estates.note(estate(path));
        true
    }

    /// Nothing, or nothing that still counts.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        self.files.is_empty() || now.since_ns(self.since) > MEMORY_NS
    }

    pub(super) fn len(&self) -> u64 {
        self.files.len() as u64 + self.more
    }

    /// Some of them, for people.
    pub(super) fn some(&self) -> Vec<HostPath> {
        self.files.iter().take(8).cloned().collect()
    }
}

/// What follows the last dot of a file's name; empty for hidden names without another dot.
pub(super) fn ending(path: &HostPath) -> &[u8] {
    let name = path.file_name();
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 => &name[dot + 1..],
        _ => b"",
    }
}

/// Whose affair a path is: `/home/alice`, `/srv/mail`, `/var/www`, `/etc`.
pub(super) fn estate(path: &HostPath) -> &[u8] {
    let bytes = path.as_bytes();
    let depth = if [&b"/home"[..], b"/srv", b"/opt", b"/var"].iter().any(|tree| path.is_within(tree)) { 2 } else { 1 };
    let slashes = bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.take(depth).last().filter(|_| count(bytes) > depth).map_or(bytes, |end| &bytes[..end])
}

fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_and_estates_are_what_people_would_say() {
        for (path, wanted_ending, wanted_estate) in [
            ("/home/alice/a/report.docx", &b"docx"[..], &b"/home/alice"[..]),
            ("/home/alice/.profile", b"", b"/home/alice"),
            ("/srv/mail/x.tar.gz", b"gz", b"/srv/mail"),
            ("/var/www/shop/index.html", b"html", b"/var/www"),
            ("/etc/ssh/sshd_config", b"", b"/etc"),
            ("/etc/passwd", b"", b"/etc"),
        ] {
            let path = HostPath::from(path);
            assert_eq!((ending(&path), estate(&path)), (wanted_ending, wanted_estate), "{path}");
        }
    }
}
