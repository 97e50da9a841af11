// SPDX-License-Identifier: Apache-2.0
//! What is left: the attacked twin's disk against a reference in which only the benign work was done.
//!
//! What differs between two references is noise. Append-only logs are compared line by line: nothing that was there before
//! the attack cut it may be missing. Everything else must be equal, to the last attribute.

use crate::snapshot::{self, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use thymus_engine::path::HostPath;

/// LIMIT: noise that a comparison may have; more means that the references are not what they should be.
pub const NOISE_MAX: usize = 40;

/// Trees that the agent promises to restore: no noise may be below them, except logs.
const PROTECTED: [&[u8]; 9] =
    [b"/etc", b"/home", b"/opt", b"/root", b"/srv", b"/usr", b"/var/spool", b"/var/www", b"/boot"];

/// What the attack says it did, by its own channel.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Each path's state before the attack first touched it, as the attack reported it.
    pub was: BTreeMap<HostPath, String>,
    /// And after it last touched it.
    pub now: BTreeMap<HostPath, String>,
    /// When it had touched it, boot clock, nanoseconds.
    pub touched: BTreeMap<HostPath, u64>,
    /// A log's content just before it was cut.
    pub logs: BTreeMap<HostPath, Vec<u8>>,
}

impl Truth {
    /// Takes out what is no part of the twin's own state.
    pub fn forget(&mut self, paths: &BTreeSet<HostPath>) {
        for path in paths {
            self.was.remove(path);
            self.now.remove(path);
            self.touched.remove(path);
        }
    }

    /// What the attack really changed.
    #[must_use]
    pub fn tampered(&self) -> BTreeSet<HostPath> {
        let changed = self.now.iter().filter(|(path, now)| self.was.get(*path).is_none_or(|was| was != *now));
        changed.map(|(path, _)| path.clone()).collect()
    }

    /// The attack was stopped while it was at it: whether it had changed anything by then, its record does not say.
    #[must_use]
    pub fn is_open(&self, path: &HostPath) -> bool {
        self.was.contains_key(path) && !self.now.contains_key(path)
    }
}

/// One halted twin: what its disk holds, and where it is mounted.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    pub holds: &'a Snapshot,
    pub root: &'a Path,
}

#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub restored_exactly: BTreeSet<HostPath>,
    pub merged: BTreeSet<HostPath>,
    /// What the attack touched of what nobody can tell apart.
    pub contested: BTreeSet<HostPath>,
    pub residue: BTreeSet<HostPath>,
    pub benign_lost: BTreeSet<HostPath>,
    pub noise: BTreeSet<HostPath>,
    /// Noise where there must be none; the comparison proves nothing then.
    pub noise_forbidden: BTreeSet<HostPath>,
    /// Bytes of benign lines that were there and are not now.
    pub bytes_lost: u64,
}

/// Files that daemons append to.
#[must_use]
pub fn is_log(path: &HostPath) -> bool {
    path.is_within(b"/var/log")
}

/// Paths that differ by their nature and say nothing: names with random parts, what a boot leaves.
#[must_use]
pub fn is_nobodys(path: &HostPath) -> bool {
    let bytes = path.as_bytes();
    bytes == b"/lost+found"
        || bytes.starts_with(b"/tmp/systemd-private-")
        || bytes.starts_with(b"/var/tmp/systemd-private-")
        || crate::agent::OWN.iter().any(|own| path.is_within(own.as_bytes()))
}

/// Compares. `benign` are the paths that people changed on purpose, with their content before anybody did anything
/// (empty for what was not there); of `contested` no reference says what it should be.
#[must_use]
pub fn judge(
    attacked: Disk<'_>,
    references: [Disk<'_>; 2],
    truth: &Truth,
    benign: &BTreeMap<HostPath, Vec<u8>>,
    contested: &BTreeSet<HostPath>,
) -> Findings {
    let mut found = Findings::default();
    let [reference, other] = references;
    for path in differences(reference, other) {
        if !is_log(&path) && !contested.contains(&path) {
            if PROTECTED.iter().any(|tree| path.is_within(tree)) {
                found.noise_forbidden.insert(path.clone());
            }
            found.noise.insert(path);
        }
    }
    let different: BTreeSet<HostPath> = differences(attacked, reference)
        .into_iter()
        .filter(|path| !is_log(path) && !found.noise.contains(path) && !contested.contains(path))
        .collect();
    let tampered = truth.tampered();
    for path in &different {
        let before = benign.get(path);
        if tampered.contains(path) || before.is_none() {
            found.residue.insert(path.clone());
        }
        let lost = before.map_or(0, |before| benign_bytes_lost(attacked, reference, path, before));
        if lost > 0 || before.is_some() && !tampered.contains(path) {
            found.benign_lost.insert(path.clone());
            found.bytes_lost += lost;
        }
    }
    for (path, before) in &truth.logs {
        let missing = lines_missing(attacked.root, path, before);
        if missing > 0 {
            found.residue.insert(path.clone());
            found.bytes_lost += missing;
        }
    }
    for path in &tampered {
        if contested.contains(path) {
            found.contested.insert(path.clone());
        } else if !found.residue.contains(path) && !found.noise.contains(path) {
            found.restored_exactly.insert(path.clone());
            if benign.contains_key(path) {
                found.merged.insert(path.clone());
            }
        }
    }
    found
}

/// Bytes of the lines that people put into a file (the reference has them, `before` did not) and that are not in it now.
fn benign_bytes_lost(attacked: Disk<'_>, reference: Disk<'_>, path: &HostPath, before: &[u8]) -> u64 {
    let Some(wanted) = snapshot::read(reference.root, path).map(|wanted| undated(&wanted)) else { return 0 };
    let found = snapshot::read(attacked.root, path).unwrap_or_default();
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<BTreeSet<Vec<u8>>>();
    let (had, has) = (lines(before), lines(&found));
    let lost = |line: &&Vec<u8>| !had.contains(*line) && !has.contains(*line);
    lines(&wanted).iter().filter(lost).map(|line| line.len() as u64).sum()
}

fn differences(one: Disk<'_>, other: Disk<'_>) -> Vec<HostPath> {
    let paths: BTreeSet<&HostPath> = one.holds.keys().chain(other.holds.keys()).collect();
    let differ = |path: &&&HostPath| {
        let (a, b) = (one.holds.get(**path), other.holds.get(**path));
        a != b && !same_in_essence(one, other, path)
    };
    paths.iter().filter(differ).map(|path| (*path).clone()).collect()
}

/// Whether two files say the same although their bytes differ by nature: a git index caches times and inodes, which no two
/// twins share; a crontab's header has the second in which it was installed.
fn same_in_essence(one: Disk<'_>, other: Disk<'_>, path: &HostPath) -> bool {
    let essence: fn(&[u8]) -> Option<Vec<u8>> = if path.as_bytes().ends_with(b"/.git/index") {
        snapshot::git_index
    } else if path.is_within(b"/var/spool/cron/crontabs") {
        |bytes| Some(undated(bytes))
    } else {
        return false;
    };
    let (Some(a), Some(b)) = (one.holds.get(path), other.holds.get(path)) else { return false };
    let meta = |entry: &snapshot::Entry| (entry.mode, entry.uid, entry.gid, entry.attributes.clone());
    let essence = |disk: Disk<'_>| snapshot::read(disk.root, path).and_then(|bytes| essence(&bytes));
    meta(a) == meta(b) && essence(one).is_some() && essence(one) == essence(other)
}

/// A crontab without the line that says when it was installed.
fn undated(bytes: &[u8]) -> Vec<u8> {
    let dated = |line: &&[u8]| line.starts_with(b"# (") && line.windows(14).any(|part| part == b" installed on ");
    bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| !dated(line)).flatten().copied().collect()
}

/// What undoing did not bring back: of `paths`, those that are not as the attack had left them. A log has grown since, at
/// its end alone.
#[must_use]
pub fn undone_wrongly(attacked: Disk<'_>, undone: Disk<'_>, paths: &BTreeSet<HostPath>) -> Vec<HostPath> {
    let differs = |path: &&HostPath| {
        let (before, after) = (attacked.holds.get(*path), undone.holds.get(*path));
        if !is_log(path) || before.is_none() || after.is_none() {
            return before != after;
        }
        let read = |root: &Path| snapshot::read(root, path).unwrap_or_default();
        let meta = |entry: Option<&snapshot::Entry>| entry.map(|entry| (entry.mode, entry.uid, entry.gid));
        meta(before) != meta(after) || !read(undone.root).starts_with(&read(attacked.root))
    };
    paths.iter().filter(differs).cloned().collect()
}

/// Length of a record of wtmp and btmp (`struct utmp`), which have no lines.
const UTMP_BYTES: usize = 384;

/// Bytes of the lines (or records) in `before` that the log does not have now; rotation may have moved them to `PATH.1`.
fn lines_missing(root: &Path, path: &HostPath, before: &[u8]) -> u64 {
    let mut now = snapshot::read(root, path).unwrap_or_default();
    let rotated = HostPath::new(&[path.as_bytes(), b".1"].concat());
    let records = matches!(path.file_name(), b"wtmp" | b"btmp");
    let split = |bytes: &[u8]| -> Vec<Vec<u8>> {
        if records {
            bytes.chunks(UTMP_BYTES).map(<[u8]>::to_vec).collect()
        } else {
            bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
        }
    };
    if !records && !now.ends_with(b"\n") {
        now.push(b'\n');
    }
    let mut left: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for line in split(&now).into_iter().chain(split(&snapshot::read(root, &rotated).unwrap_or_default())) {
        *left.entry(line).or_default() += 1;
    }
    let mut missing = 0;
    for line in split(before).into_iter().filter(|line| !line.is_empty()) {
        match left.get_mut(&line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => missing += line.len() as u64,
        }
    }
    missing
}

/// Benign logs: bytes of lines that the base had and that are gone.
#[must_use]
pub fn log_bytes_lost(attacked: &Path, base: &BTreeMap<HostPath, Vec<u8>>) -> u64 {
    base.iter().map(|(path, before)| lines_missing(attacked, path, before)).sum()
}

/// Of `lines` (a log, and what the line says), those that are neither in the log nor in what rotation made of it.
#[must_use]
pub fn lines_lost(root: &Path, lines: &[(String, String)]) -> Vec<(HostPath, u64)> {
    let holds = |path: &str, line: &str| {
        let content = snapshot::read(root, &HostPath::from(path)).unwrap_or_default();
        content.windows(line.len().max(1)).any(|part| part == line.as_bytes())
    };
    let lost = lines.iter().filter(|(path, line)| !holds(path, line) && !holds(&format!("{path}.1"), line));
    lost.map(|(path, line)| (HostPath::from(path.as_str()), line.len() as u64)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::snapshot;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Snapshot) {
        let directory = tempfile::Builder::new().prefix("thymus-oracle-").tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let holds = snapshot::take(directory.path(), &is_nobodys).unwrap();
        (directory, holds)
    }

    fn truth(paths: &[&str]) -> Truth {
        let mut truth = Truth::default();
        for path in paths {
            truth.was.insert(HostPath::from(*path), "absent".into());
            truth.now.insert(HostPath::from(*path), "there".into());
        }
        truth
    }

    fn paths(set: &BTreeSet<HostPath>) -> Vec<String> {
        set.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_attack_left_is_residue_and_what_people_lost_is_lost() {
        let base = [("/etc/a", "1\n"), ("/etc/c", "x\n"), ("/etc/mixed", "theirs\nkeep\n"), ("/tmp/t", "1")];
        let (one, one_holds) = tree(&base);
        let (two, two_holds) =
            tree(&[("/etc/a", "1\n"), ("/etc/c", "x\n"), ("/etc/mixed", "theirs\nkeep\n"), ("/tmp/t", "2")]);
        let (hit, hit_holds) = tree(&[
            ("/etc/a", "1\n"),
            ("/etc/evil", "e"),
            ("/etc/c", "y\n"),
            ("/etc/mixed", "keep\nevil\n"),
            ("/tmp/t", "3"),
        ]);
        let reference = Disk { holds: &one_holds, root: one.path() };
        let other = Disk { holds: &two_holds, root: two.path() };
        let attacked = Disk { holds: &hit_holds, root: hit.path() };
        let before = [("/etc/mixed", "keep\n"), ("/etc/c", "x\n")];
        let benign = before.map(|(path, content)| (HostPath::from(path), content.as_bytes().to_vec())).into();
        let found = judge(
            attacked,
            [reference, other],
            &truth(&["/etc/evil", "/etc/a", "/etc/mixed"]),
            &benign,
            &BTreeSet::new(),
        );
        assert_eq!(paths(&found.residue), ["/etc/evil", "/etc/mixed"]);
        assert_eq!(paths(&found.benign_lost), ["/etc/c", "/etc/mixed"]);
        assert_eq!(paths(&found.restored_exactly), ["/etc/a"]);
        assert_eq!(paths(&found.noise), ["/tmp/t"]);
        assert!(found.noise_forbidden.is_empty());
    }

    #[test]
    fn what_nobody_can_tell_apart_is_neither_left_nor_lost() {
        let (one, one_holds) = tree(&[("/etc/a", "theirs\n"), ("/etc/a.db", "1")]);
        let (two, two_holds) = tree(&[("/etc/a", "theirs\n"), ("/etc/a.db", "2")]);
        let (hit, hit_holds) = tree(&[("/etc/a", "evil\n"), ("/etc/a.db", "3")]);
        let reference = Disk { holds: &one_holds, root: one.path() };
        let other = Disk { holds: &two_holds, root: two.path() };
        let attacked = Disk { holds: &hit_holds, root: hit.path() };
        let benign = [(HostPath::from("/etc/a"), b"was\n".to_vec())].into();
        let contested = ["/etc/a", "/etc/a.db"].map(HostPath::from).into();
        let found = judge(attacked, [reference, other], &truth(&["/etc/a"]), &benign, &contested);
        assert_eq!(paths(&found.contested), ["/etc/a"]);
        assert!(found.restored_exactly.is_empty());
        assert!(found.residue.is_empty() && found.benign_lost.is_empty() && found.bytes_lost == 0, "{found:?}");
        assert!(found.noise.is_empty() && found.noise_forbidden.is_empty(), "{found:?}");
        let found = judge(attacked, [reference, other], &truth(&["/etc/a"]), &benign, &BTreeSet::new());
        assert_eq!(paths(&found.residue), ["/etc/a"]);
    }

    #[test]
    fn noise_below_a_protected_tree_is_forbidden() {
        let (one, one_holds) = tree(&[("/etc/a", "1")]);
        let (two, two_holds) = tree(&[("/etc/a", "2")]);
        let reference = Disk { holds: &one_holds, root: one.path() };
        let other = Disk { holds: &two_holds, root: two.path() };
        let found = judge(reference, [reference, other], &Truth::default(), &BTreeMap::new(), &BTreeSet::new());
        assert_eq!(paths(&found.noise_forbidden), ["/etc/a"]);
    }

    #[test]
    fn undoing_brings_everything_back_but_for_what_was_logged_since() {
        let hit = [("/etc/evil", "e"), ("/etc/a", "2"), ("/var/log/auth.log", "cut\n"), ("/var/log/cut", "x\n")];
        let (attacked, attacked_holds) = tree(&hit);
        let (undone, undone_holds) =
            tree(&[("/etc/a", "1"), ("/var/log/auth.log", "cut\nlater\n"), ("/var/log/cut", "y\nx\n")]);
        let attacked = Disk { holds: &attacked_holds, root: attacked.path() };
        let undone = Disk { holds: &undone_holds, root: undone.path() };
        let all: BTreeSet<HostPath> = hit.iter().map(|(path, _)| HostPath::from(*path)).collect();
        assert_eq!(undone_wrongly(attacked, undone, &all), ["/etc/a", "/etc/evil", "/var/log/cut"].map(HostPath::from));
        assert_eq!(undone_wrongly(attacked, attacked, &all), [] as [HostPath; 0]);
    }

    #[test]
    fn a_log_may_grow_but_not_lose_a_line() {
        let (one, _) = tree(&[("/var/log/a", "1\n2\n2\nnew\n"), ("/var/log/b", "1\n")]);
        let lost = |path: &str, before: &str| lines_missing(one.path(), &HostPath::from(path), before.as_bytes());
        assert_eq!(lost("/var/log/a", "1\n2\n2\n"), 0);
        assert_eq!(lost("/var/log/a", "1\n2\n2\n2\n"), 1);
        assert_eq!(lost("/var/log/b", "1\ngone\n"), 4);
        assert_eq!(lost("/var/log/missing", "abc\n"), 3);
        let lines = [("/var/log/a", "new"), ("/var/log/a", "old"), ("/var/log/missing", "abc")];
        let lines = lines.map(|(path, line)| (path.to_owned(), line.to_owned()));
        let gone = [("/var/log/a", 3), ("/var/log/missing", 3)].map(|(path, bytes)| (HostPath::from(path), bytes));
        assert_eq!(lines_lost(one.path(), &lines), gone);
    }
}
