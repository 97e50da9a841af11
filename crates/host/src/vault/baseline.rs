// SPDX-License-Identifier: Apache-2.0
//! The first copy of the protected trees, and after a restart the comparison with what was known.

use super::capture::{self, Captured};
use super::index::{BASELINE, Fresh};
use super::worker::Seen;
use super::{Coverage, Error, Inner, Kind, NAMED_MAX, Recorded, State, TreeCoverage, Window, boot_now};
use rustix::fd::AsFd;
use rustix::fs::{Dir, OFlags};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use thymus_engine::id::{ProcessKey, Timestamp};
use thymus_engine::path::HostPath;

/// LIMIT: objects of all protected trees together; more are counted as omitted.
const OBJECTS_MAX: usize = 1_000_000;
/// Threads that read: hashing and compression bind it, not the disk.
const THREADS_MAX: usize = 4;

impl Inner {
    pub(super) fn baseline(&self) -> Result<Coverage, Error> {
        let begun = boot_now();
        let (known_before, mut found) = (self.index().newest().next().is_some(), Vec::new());
        for tree in self.rules.trees() {
            self.walk(tree, &mut found);
        }
        found.sort();
        found.dedup();
        let omitted = found.len().saturating_sub(OBJECTS_MAX);
        found.truncate(OBJECTS_MAX);
        let (next, threads) = (AtomicUsize::new(0), std::thread::available_parallelism().map_or(1, usize::from));
        let changed: Vec<HostPath> = std::thread::scope(|scope| {
            let work = || {
                let mut changed = Vec::new();
                while let Some(path) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if self.compare(path, begun, known_before) {
                        changed.push(path.clone());
                    }
                }
                changed
            };
            let threads: Vec<_> = (0..threads.min(THREADS_MAX)).map(|_| scope.spawn(work)).collect();
            // A thread's panic is ours.
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic while reading")).collect()
        });
        let vanished = self.vanished(&found, begun);
        let until = boot_now();
        let path = HostPath::from("/");
        self.window(Window { path, since: Timestamp(0), until, reason: "before the agent guarded".into() });
        self.flush()?;
        let mut index = self.index();
        index.baseline_done = true;
        let trees = self.rules.trees().iter().map(|tree| tree_coverage(tree, index.newest())).collect();
        let mut coverage = Coverage { trees, windows: index.coverage.windows.clone(), ..Coverage::default() };
        coverage.omitted = index.coverage.omitted + u64::try_from(omitted).unwrap_or(0);
        coverage.changed_unguarded = changed;
        coverage.changed_unguarded.extend(vanished);
        coverage.changed_unguarded.sort();
        let unnamed = coverage.changed_unguarded.len().saturating_sub(NAMED_MAX);
        coverage.changed_unguarded.truncate(NAMED_MAX);
        coverage.omitted += u64::try_from(unnamed).unwrap_or(0);
        index.coverage = coverage.clone();
        Ok(coverage)
    }

    /// Everything below `tree` that is guarded, itself first. Follows nothing, stays on the file system.
    pub(super) fn walk(&self, tree: &HostPath, found: &mut Vec<HostPath>) {
        let mut pending = vec![tree.clone()];
        while let Some(path) = pending.pop() {
            if self.rules.excludes(&path) || found.len() > OBJECTS_MAX {
                continue;
            }
            let object = match capture::open(self.root.as_fd(), path.as_bytes()) {
                Ok(object) => object,
                Err(capture::Failure::Absent) => continue,
                Err(capture::Failure::Refused(_) | capture::Failure::Store(_)) => {
                    // A mount point: its reading says why it is not covered.
                    found.push(path);
                    continue;
                }
            };
            let is_directory =
                capture::statx(&object).is_ok_and(|state| capture::metadata(&state).kind == Kind::Directory);
            found.push(path.clone());
            if !is_directory {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let entries = capture::reopen(&object, flags).and_then(Dir::read_from);
            for entry in entries.into_iter().flatten().flatten() {
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let mut child = path.as_bytes().strip_suffix(b"/").unwrap_or(path.as_bytes()).to_vec();
                child.push(b'/');
                child.extend_from_slice(name);
                let child = HostPath::new(&child);
                if entry.file_type() == rustix::fs::FileType::Directory
                    || entry.file_type() == rustix::fs::FileType::Unknown
                {
                    pending.push(child);
                } else if !self.rules.excludes(&child) {
                    found.push(child);
                }
            }
        }
    }

    /// Reads one object and records it when it is not as it was known. True when it changed unseen.
    fn compare(&self, path: &HostPath, begun: Timestamp, known_before: bool) -> bool {
        let _usage = self.usage();
        let start = boot_now();
        let mut captured = self.read_path(path);
        if matches!(captured, Err(capture::Failure::Absent)) {
            return false;
        }
        // A writer came first, and what stood there before it was stored while it waited.
        if let Ok(now) = &captured
            && let Some(image) = self.gate().first_after(now.state.key.inode, begun)
        {
            captured = Ok(Captured {
                state: image.state,
                stable: image.stable,
                grew: false,
                samples: super::shape::Samples::default(),
            });
        }
        let log = self.rules.is_log(path);
        let stable = captured.as_ref().is_ok_and(|captured| captured.is_exact(log));
        let recorded = self.recorded(captured.map(|captured| captured.state));
        if let Recorded::State(state) = &recorded
            && state.kind == Kind::Regular
        {
            self.gate().stored(state, start, log);
        }
        if log {
            self.hold(path);
        }
        let (id, unseen) = {
            let mut index = self.index();
            if let Recorded::State(state) = &recorded
                && state.nlink > 1
                && state.kind == Kind::Regular
            {
                index.linked(state.key.inode, path);
            }
            let latest = index.latest(path);
            // An event was quicker: the chain has this path's story from there on.
            if latest.is_some_and(|slot| slot.pending || slot.since >= begun) {
                return false;
            }
            let known = latest.map(|slot| slot.version.recorded.clone());
            if known.as_ref().is_some_and(|known| same(known, &recorded)) {
                // A vault of before flags were kept, or a flag alone: no other state of it is wanted for that.
                let flags =
                    |recorded: Option<&Recorded>| recorded.and_then(Recorded::state).map_or(0, |state| state.flags);
                let (id, now) = (index.latest(path).map(|slot| slot.version.id), flags(Some(&recorded)));
                if let Some(id) = id.filter(|_| flags(known.as_ref()) != now) {
                    index.set_flags(id, now);
                    drop(index);
                    self.record(&[super::log::Record::Flags { id, flags: now }]);
                }
                return false;
            }
            let note = if known_before { "changed while nobody guarded" } else { BASELINE };
            let fresh = Fresh { path, writer: ProcessKey::default(), time: start, unix_ns: self.unix(start), note };
            // What was missing and can be read now did not change.
            let was_missing = matches!(known, Some(Recorded::Missing(_)));
            (index.allocate(fresh), known_before && !was_missing)
        };
        self.settle(id, recorded, Some(Seen { end: boot_now(), stable, gated: false, shape: None }));
        unseen
    }

    /// Known to exist, and not there any more.
    fn vanished(&self, found: &[HostPath], begun: Timestamp) -> Vec<HostPath> {
        let there: BTreeSet<&HostPath> = found.iter().collect();
        let gone: Vec<HostPath> = {
            let index = self.index();
            let known = index.newest().filter(|(path, slot)| {
                let exists = slot.version.recorded.state().is_none_or(State::exists);
                !slot.pending && slot.since < begun && exists && !there.contains(path) && self.guards(path)
            });
            known.map(|(path, _)| path.clone()).collect()
        };
        let absent = |path: &HostPath| {
            matches!(capture::open(self.root.as_fd(), path.as_bytes()), Err(capture::Failure::Absent))
        };
        let gone: Vec<HostPath> = gone.into_iter().filter(absent).collect();
        for path in &gone {
            let now = boot_now();
            let note = "removed while nobody guarded";
            let fresh = Fresh { path, writer: ProcessKey::default(), time: now, unix_ns: self.unix(now), note };
            let id = self.index().allocate(fresh);
            self.settle(
                id,
                Recorded::State(State::absent()),
                Some(Seen { end: now, stable: true, gated: false, shape: None }),
            );
        }
        gone
    }
}

fn same(known: &Recorded, now: &Recorded) -> bool {
    match (known, now) {
        (Recorded::State(known), Recorded::State(now)) => known.same_as(now),
        (Recorded::Missing(known), Recorded::Missing(now)) => known == now,
        (Recorded::State(_), Recorded::Missing(_)) | (Recorded::Missing(_), Recorded::State(_)) => false,
    }
}

fn tree_coverage<'a>(
    tree: &HostPath,
    newest: impl Iterator<Item = (&'a HostPath, &'a super::index::Slot)>,
) -> TreeCoverage {
    let mut coverage = TreeCoverage { tree: tree.clone(), ..TreeCoverage::default() };
    for (path, slot) in newest.filter(|(path, _)| path.is_within(tree.as_bytes())) {
        match &slot.version.recorded {
            Recorded::State(state) if state.kind == Kind::Regular => {
                coverage.files += 1;
                coverage.bytes += state.size;
            }
            Recorded::State(state) => coverage.others += u64::from(state.exists()),
            Recorded::Missing(reason) => {
                coverage.missing_count += 1;
                if coverage.missing.len() < NAMED_MAX {
                    coverage.missing.push((path.clone(), reason.clone()));
                }
            }
        }
    }
    coverage
}
