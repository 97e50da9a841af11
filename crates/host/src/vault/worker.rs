// SPDX-License-Identifier: Apache-2.0
//! The threads that read what the notes ask for, and the one that keeps the house: flushing, logs' tails, retention.

use super::capture::{self, Captured, Failure};
use super::gate::Image;
use super::index::{Entry, Fresh, Held, TICK_NS};
use super::log::{Log, Mark, Place, Record};
use super::shape::Samples;
use super::store::Store;
use super::{Digest, Error, Inner, Kind, NAMED_MAX, Recorded, State, Window, boot_now};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use thymus_engine::event::{Content, Form, Shape};
use thymus_engine::id::{ProcessKey, Timestamp, VersionId};
use thymus_engine::path::HostPath;

/// LIMIT: captures that wait. A note beyond it makes a version without content, counted.
pub(super) const QUEUE_MAX: usize = 16_384;
/// Ids are promised to the disk in blocks of this many, ahead of their use.
const RESERVE: u64 = 65_536;
/// LIMIT: contents that lost their form and wait to be told; more are counted.
const SIGHTINGS_MAX: usize = 4_096;
/// LIMIT: logs held open.
const HELD_MAX: usize = 256;
/// Tails of logs up to this size are captured each second when they grew, larger ones each [`TAIL_SECONDS`].
const TAIL_BYTES: u64 = 4 << 20;
const TAIL_SECONDS: u64 = 10;
/// How long a log without a name is followed, nanoseconds: daemons are told to open their logs anew within seconds.
const DEPARTED_NS: u64 = 60_000_000_000;
/// Versions that are written anew at a time.
const REWRITE_AT_ONCE: usize = 1_024;
/// How often the vault looks whether there are too many superseded versions, seconds: each time it looks at all of them.
const CROWDED_SECONDS: u64 = 10;
/// How often the vault looks for what retention may drop, seconds.
const RETENTION_SECONDS: u64 = 600;
/// Part of all versions that retention must be able to drop before it does: all the others are written anew for it.
const WORTH_DROPPING: usize = 16;

#[derive(Debug)]
pub(super) enum Job {
    Capture {
        id: VersionId,
        path: HostPath,
        inode: Option<u64>,
        time: Timestamp,
        noted: Timestamp,
        /// A regular file that was just made: its content then was empty, whatever it is by now.
        empty: bool,
        /// The change ended with a close, whose own image may be there.
        closed: bool,
    },
    /// The content of a log that is losing its name.
    Held { id: VersionId, file: Arc<OwnedFd> },
    /// A directory that came from outside the protected trees.
    Walk { path: HostPath, writer: ProcessKey, time: Timestamp },
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
    /// Records that the hot path made and may not write itself.
    outbox: Vec<Record>,
    running: usize,
}

impl Inner {
    pub(super) fn enqueue(&self, jobs: Vec<Job>, records: Vec<Record>) {
        if jobs.is_empty() && records.is_empty() {
            return;
        }
        let mut refused = Vec::new();
        {
            let mut queue = self.queue();
            queue.outbox.extend(records);
            for job in jobs {
                if queue.jobs.len() < QUEUE_MAX {
                    queue.jobs.push_back(job);
                } else {
                    refused.push(job);
                }
            }
        }
        self.wake.notify_one();
        for job in refused {
            self.tally.queue_full.fetch_add(1, Ordering::Relaxed);
            let (id, path) = match job {
                Job::Capture { id, path, .. } => (Some(id), path),
                Job::Held { id, .. } => (Some(id), HostPath::from("/")),
                Job::Walk { path, .. } => (None, path),
            };
            let missing = || Recorded::Missing("queue full".into());
            let records = id.map(|id| self.settle_in_memory(id, missing(), None)).unwrap_or_default();
            let now = boot_now();
            let window = self.window_in_memory(Window { path, since: now, until: now, reason: "queue full".into() });
            self.queue().outbox.extend(records.into_iter().chain(window));
        }
    }

    pub(super) fn queued(&self) -> usize {
        let queue = self.queue();
        queue.jobs.len() + queue.running
    }

    /// Body of a capturing thread: until the vault is closed and nothing waits.
    pub(super) fn work(&self) {
        loop {
            let (job, records) = {
                let mut queue = self.queue();
                loop {
                    let records = std::mem::take(&mut queue.outbox);
                    if let Some(job) = queue.jobs.pop_front() {
                        queue.running += 1;
                        break (Some(job), records);
                    }
                    if !records.is_empty() {
                        break (None, records);
                    }
                    if self.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    queue = super::wait(&self.wake, queue, Duration::from_secs(1));
                }
            };
            self.record(&records);
            if let Some(job) = job {
                self.run(job);
                self.queue().running -= 1;
            }
        }
    }

    fn run(&self, job: Job) {
        let _usage = self.usage();
        match job {
            Job::Capture { id, path, inode, time, noted, empty, closed } => {
                let image = inode.filter(|_| closed).and_then(|inode| self.gate().take_close(inode, time));
                let (recorded, seen) = match image {
                    Some(Image { end, state, stable, gated, shape, .. }) => {
                        (Recorded::State(state), Some(Seen { end, stable, gated, shape }))
                    }
                    None => self.capture_version(&path, inode, noted, empty),
                };
                let shape = seen.and_then(|seen| seen.shape);
                self.settle(id, recorded, seen);
                if let Some(shape) = shape {
                    self.sight(id, shape);
                }
                if self.rules.is_log(&path) {
                    self.hold(&path);
                }
            }
            Job::Held { id, file } => {
                let captured = self.read_open(file.as_fd());
                let seen = Seen { end: boot_now(), stable: true, gated: false, shape: None };
                self.settle(id, self.recorded(captured.map(|captured| captured.state)), Some(seen));
            }
            Job::Walk { path, writer, time } => self.adopt(&path, writer, time),
        }
    }

    /// A change of a content that took its form away is told to the detectors.
    fn sight(&self, id: VersionId, after: Shape) {
        if !matches!(after.form, Form::Opaque | Form::Sealed | Form::Empty | Form::Blank) {
            return;
        }
        let Ok(version) = self.known(id) else { return };
        let before = {
            let index = self.index();
            let chain = index.chain(&version.path);
            let at = chain.iter().position(|other| *other == id).unwrap_or(0);
            at.checked_sub(1).map(|at| chain[at])
        };
        let before = before.and_then(|before| self.known(before).ok());
        let digest = before.and_then(|before| before.recorded.state().and_then(|state| state.digest));
        let Some(uid) = version.recorded.state().map(|state| state.uid) else { return };
        let before = digest.and_then(|digest| self.store.get(&digest).ok()).map(|bytes| Samples::of(&bytes).shape());
        // The first content of a new file is no loss, unless nobody can read it.
        if before.is_none() && matches!(after.form, Form::Empty | Form::Blank) {
            return;
        }
        let content = Content { actor: version.writer, path: version.path, version: id, uid, before, after };
        let mut sightings = super::locked(&self.sightings);
        if sightings.len() < SIGHTINGS_MAX {
            sightings.push(content);
        } else {
            self.tally.sightings_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads through the store, with this vault's limit.
    pub(super) fn read_open(&self, file: BorrowedFd<'_>) -> Result<Captured, Failure> {
        let limit = self.options.file_bytes_max;
        self.counted(capture::by_way_of(self.mount.as_fd(), file).and_then(|seen| {
            capture::read_open(file, seen.as_fd(), limit, &mut |source| self.store.put(source, limit))
        }))
    }

    pub(super) fn read_path(&self, path: &HostPath) -> Result<Captured, Failure> {
        let limit = self.options.file_bytes_max;
        self.counted(capture::read(self.root.as_fd(), path, limit, &mut |source| self.store.put(source, limit)))
    }

    fn counted(&self, captured: Result<Captured, Failure>) -> Result<Captured, Failure> {
        if let Ok(captured) = &captured {
            self.tally.captures.fetch_add(1, Ordering::Relaxed);
            self.tally.capture_bytes.fetch_add(captured.state.size, Ordering::Relaxed);
        }
        captured
    }

    pub(super) fn recorded(&self, captured: Result<State, Failure>) -> Recorded {
        match captured {
            Ok(state) => Recorded::State(state),
            Err(Failure::Absent) => {
                self.tally.gone.fetch_add(1, Ordering::Relaxed);
                Recorded::Missing("gone before it could be read".into())
            }
            Err(Failure::Refused(reason)) => Recorded::Missing(reason),
            Err(Failure::Store(error)) => {
                self.tally.quota_stops.fetch_add(1, Ordering::Relaxed);
                match error {
                    Error::Quota { .. } => Recorded::Missing("quota".into()),
                    error => Recorded::Missing(format!("not stored: {}", super::described(&error))),
                }
            }
        }
    }

    fn capture_version(
        &self,
        path: &HostPath,
        inode: Option<u64>,
        noted: Timestamp,
        empty: bool,
    ) -> (Recorded, Option<Seen>) {
        if empty && let Some((state, seen)) = self.capture_empty(path, inode) {
            return (Recorded::State(state), Some(seen));
        }
        let start = boot_now();
        let is_it = |state: &State| inode.is_none_or(|inode| inode == state.key.inode);
        let mut captured = self.read_path(path);
        if !captured.as_ref().is_ok_and(|captured| is_it(&captured.state)) {
            // Another object stands there by now, or none: it may have been renamed since, with its content.
            let elsewhere = inode.and_then(|inode| self.index().present_name(inode)).filter(|name| name != path);
            let moved = elsewhere.map(|name| self.read_path(&name));
            captured = match moved {
                Some(Ok(moved)) if is_it(&moved.state) => {
                    // The rename changed the status-change time; the content's own time tells whether it was written since.
                    let stable = moved.stable && moved.state.mtime_ns <= self.unix(noted);
                    let ctime_ns = moved.state.mtime_ns;
                    let state = State { ctime_ns, ..moved.state };
                    Ok(Captured { state, stable, grew: moved.grew, samples: moved.samples })
                }
                _ => match captured {
                    Ok(_) => Err(Failure::Absent),
                    Err(failure) => Err(failure),
                },
            };
        }
        let end = boot_now();
        match captured {
            Ok(captured) => {
                let log = self.rules.is_log(path);
                let stable = captured.is_exact(log) && (log || captured.state.ctime_ns <= self.unix(noted));
                let regular = captured.state.kind == Kind::Regular;
                let shape = regular.then(|| captured.samples.shape());
                let state = captured.state;
                if state.kind == Kind::Regular {
                    self.gate().stored(&state, start, log);
                }
                (Recorded::State(state), Some(Seen { end, stable, gated: false, shape }))
            }
            Err(failure) => (self.recorded(Err(failure)), None),
        }
    }

    /// The version of a creation: empty content, and the metadata that can still be had.
    fn capture_empty(&self, path: &HostPath, inode: Option<u64>) -> Option<(State, Seen)> {
        let mut nothing = |_: &mut dyn std::io::Read| Ok(Some((Digest::of(b""), 0)));
        let captured = capture::read(self.root.as_fd(), path, u64::MAX, &mut nothing).ok()?;
        let fits = captured.state.kind == Kind::Regular && inode.is_none_or(|inode| inode == captured.state.key.inode);
        // Whoever writes to it now does not change what it held when it was made.
        fits.then(|| (captured.state, Seen { end: boot_now(), stable: true, gated: true, shape: None }))
    }

    /// Ends a capture: in memory, so that who waits goes on, and on disk.
    pub(super) fn settle(&self, id: VersionId, recorded: Recorded, seen: Option<Seen>) {
        self.record(&self.settle_in_memory(id, recorded, seen));
    }

    pub(super) fn settle_in_memory(&self, id: VersionId, recorded: Recorded, seen: Option<Seen>) -> Vec<Record> {
        let mut index = self.index();
        let Some(slot) = index.slot_mut(id) else { return Vec::new() };
        let ctime_ns = recorded.state().map_or(0, |state| state.ctime_ns);
        slot.gated = seen.is_some_and(|seen| seen.gated);
        slot.version.exact = seen.is_some_and(|seen| {
            // A touch before the reading ended, and a change that may be that touch's: then it may hold a later state.
            let doubt = slot.doubted_by(seen.end);
            seen.stable && doubt.is_none_or(|touched| ctime_ns < self.unix(touched).saturating_sub(TICK_NS))
        });
        let missing = matches!(recorded, Recorded::Missing(_));
        slot.captured = seen.map_or(Timestamp(0), |seen| seen.end);
        slot.version.recorded = recorded;
        slot.pending = false;
        let version = slot.version.clone();
        if let Recorded::State(state) = &version.recorded
            && state.nlink > 1
            && matches!(state.kind, Kind::Regular | Kind::Symlink)
        {
            index.linked(state.key.inode, &version.path);
        }
        drop(index);
        self.settled.notify_all();
        if !missing && !version.exact {
            self.tally.inexact.fetch_add(1, Ordering::Relaxed);
        }
        Record::of_version(version).collect()
    }

    /// Appends to the log; what cannot be written is counted, and kept in memory for as long as the vault is open.
    pub(super) fn record(&self, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let mut log = self.log();
        match log.append(records, &self.store) {
            Ok(places) => {
                // With the log locked: it is not replaced before its places are known.
                let mut index = self.index();
                for (record, place) in records.iter().zip(places) {
                    if let Record::Version(version) = record {
                        index.placed(version.id, place);
                    }
                }
            }
            Err(error) => {
                self.tally.quota_stops.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(error = %super::described(&error), records = records.len(), "not recorded");
            }
        }
    }

    /// The log anew, for what the index holds. Others go on to append to the old one meanwhile.
    fn rewrite(&self) -> Result<(), Error> {
        let begun = self.begin_rewrite()?;
        self.end_rewrite(begun)
    }

    /// Most of the work, with the log locked for moments only.
    pub(super) fn begin_rewrite(&self) -> Result<Rewrite, Error> {
        let (mut fresh, mark) = {
            let log = self.log();
            (log.beside(&self.store)?, log.mark())
        };
        match self.write_anew(&mut fresh).and_then(|moved| fresh.sync().map(|()| moved)) {
            Ok(moved) => Ok(Rewrite { fresh, mark, moved }),
            Err(error) => {
                fresh.discard(&self.store);
                Err(error)
            }
        }
    }

    /// Takes over what the old log was told meanwhile, and puts the new one in its place.
    pub(super) fn end_rewrite(&self, begun: Rewrite) -> Result<(), Error> {
        let Rewrite { mut fresh, mark, moved } = begun;
        let mut log = self.log();
        let since = match self.append_since(&log, mark, &mut fresh, &moved) {
            Ok(since) => since,
            Err(error) => {
                fresh.discard(&self.store);
                return Err(error);
            }
        };
        log.replace_by(fresh, &self.store)?;
        // With the log locked: it is not replaced again before its places are known.
        for some in moved.chunks(REWRITE_AT_ONCE).chain(since.chunks(REWRITE_AT_ONCE)) {
            let mut index = self.index();
            some.iter().for_each(|(id, place)| index.placed(*id, *place));
        }
        Ok(())
    }

    /// Writes everything that is known now into `fresh`, some at a time; gives where each version is in it, by id.
    fn write_anew(&self, fresh: &mut Log) -> Result<Vec<(VersionId, Place)>, Error> {
        let (first, newest): (Vec<Record>, _) = {
            let index = self.index();
            let reserved = Record::Reserved(VersionId(index.reserved.max(index.last_id())));
            let kept = index.kept.iter().map(|(digest, unix_ns)| Record::Kept { digest: *digest, unix_ns: *unix_ns });
            let pins = index.pins.iter().cloned().map(Record::Pinned);
            let windows = index.coverage.windows.iter().cloned().map(Record::Window);
            let first = std::iter::once(reserved).chain(kept).chain(pins).chain(windows).collect();
            (first, VersionId(index.last_id()))
        };
        for some in first.chunks(REWRITE_AT_ONCE) {
            fresh.append(some, &self.store)?;
        }
        let (mut last, mut moved) = (VersionId(0), Vec::new());
        loop {
            let some: Vec<(VersionId, Entry)> = {
                let index = self.index();
                let after = index.after(last, REWRITE_AT_ONCE).filter(|(id, _)| *id <= newest);
                after.map(|(id, entry)| (id, entry.clone())).collect()
            };
            let Some((reached, _)) = some.last() else { return Ok(moved) };
            last = *reached;
            let mut records = Vec::new();
            let log = self.log();
            for (_, entry) in some {
                let version = match entry {
                    // What is pending is appended when it is settled.
                    Entry::Here(slot) if slot.pending => continue,
                    Entry::Here(slot) => slot.version,
                    Entry::Resting(resting) => match log.read(resting.place)? {
                        Some(Record::Version(version)) => resting.amend(version),
                        Some(_) | None => return Err(log.altered_at(resting.place)),
                    },
                };
                records.extend(Record::of_version(version));
            }
            drop(log);
            moved.extend(append_placed(fresh, &records, &self.store)?);
        }
    }

    /// What was appended to the old log since `mark`, but for versions that were written anew.
    fn append_since(
        &self,
        log: &Log,
        mark: Mark,
        fresh: &mut Log,
        moved: &[(VersionId, Place)],
    ) -> Result<Vec<(VersionId, Place)>, Error> {
        let mut since = log.since(mark)?;
        since.retain(|record| match record {
            Record::Version(version) => moved.binary_search_by_key(&version.id, |(id, _)| *id).is_err(),
            _ => true,
        });
        append_placed(fresh, &since, &self.store)
    }

    /// Keeps a log open, whatever happens to its name.
    pub(super) fn hold(&self, path: &HostPath) {
        let open = || {
            let object = capture::open(self.root.as_fd(), path.as_bytes()).ok()?;
            let state = capture::metadata(&capture::statx(&object).ok()?);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOATIME;
            let known = self.index().held.get(path).map(|held| held.inode);
            if state.kind != Kind::Regular || known == Some(state.key.inode) {
                return None;
            }
            Some(Held { file: Arc::new(capture::reopen(&object, flags).ok()?), inode: state.key.inode })
        };
        if let Some(held) = open() {
            let mut index = self.index();
            if index.held.len() < HELD_MAX || index.held.contains_key(path) {
                index.held.insert(path.clone(), held);
            }
        }
    }

    /// Versions of everything below a directory that was renamed into a protected tree.
    fn adopt(&self, directory: &HostPath, writer: ProcessKey, time: Timestamp) {
        let mut found = Vec::new();
        self.walk(directory, &mut found);
        for path in found.into_iter().filter(|path| path != directory) {
            let captured = self.read_path(&path);
            let stable = captured.as_ref().is_ok_and(|captured| captured.stable);
            let recorded = self.recorded(captured.map(|captured| captured.state));
            let fresh = Fresh { path: &path, writer, time, unix_ns: self.unix(time), note: "came with its directory" };
            let id = self.index().allocate(fresh);
            self.settle(id, recorded, Some(Seen { end: boot_now(), stable, gated: false, shape: None }));
        }
    }

    /// The present state as the newest version, read now.
    pub(super) fn renew(&self, path: &HostPath, writer: ProcessKey, note: &str) -> VersionId {
        let _usage = self.usage();
        let (start, log) = (boot_now(), self.rules.is_log(path));
        let captured = match self.read_path(path) {
            Err(Failure::Absent) => {
                Ok(Captured { state: State::absent(), stable: true, grew: false, samples: Samples::default() })
            }
            other => other,
        };
        let stable = captured.as_ref().is_ok_and(|captured| captured.is_exact(log));
        let recorded = self.recorded(captured.map(|captured| captured.state));
        let id = {
            let mut index = self.index();
            index.touch(path, start, super::index::Touch::Content);
            index.allocate(Fresh { path, writer, time: start, unix_ns: self.unix(start), note })
        };
        if let Recorded::State(state) = &recorded
            && state.kind == Kind::Regular
        {
            self.gate().stored(state, start, log);
        }
        self.settle(id, recorded, Some(Seen { end: boot_now(), stable, gated: false, shape: None }));
        if log {
            self.hold(path);
        }
        id
    }

    /// Body of the housekeeping thread.
    pub(super) fn keep_house(&self) {
        let mut seconds = 0u64;
        loop {
            {
                let mut quiet = self.quiet.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                while !*quiet {
                    let (guard, out) = self
                        .closing
                        .wait_timeout(quiet, Duration::from_secs(1))
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    quiet = guard;
                    if out.timed_out() {
                        break;
                    }
                }
                if *quiet {
                    return;
                }
            }
            seconds += 1;
            self.reserve();
            self.tails(seconds);
            self.departed();
            if let Err(error) = self.flush() {
                self.tally.quota_stops.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(error = %super::described(&error), "not flushed");
            }
            let crowded = || self.index().superseded() > self.options.superseded_max;
            let due = seconds.is_multiple_of(CROWDED_SECONDS) && crowded()
                || seconds.is_multiple_of(RETENTION_SECONDS) && self.is_worth_retaining();
            if due && let Err(error) = self.retain() {
                tracing::warn!(error = %super::described(&error), "retention stopped");
            }
        }
    }

    /// Promises the next ids to the disk, before they run out.
    pub(super) fn reserve(&self) {
        let until = {
            let index = self.index();
            (index.last_id() + RESERVE / 2 > index.reserved).then(|| index.last_id() + RESERVE)
        };
        if let Some(until) = until
            && self.log().append(&[Record::Reserved(VersionId(until))], &self.store).is_ok()
        {
            self.index().reserved = until;
        }
    }

    /// Captures the logs that grew: without the pre-image group, this is what a truncation cannot take away.
    fn tails(&self, seconds: u64) {
        let held: Vec<Held> = self.index().held.values().cloned().collect();
        let mut tails = self.tails.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tails.retain(|inode, _| held.iter().any(|held| held.inode == *inode));
        for Held { file, inode } in held {
            let Ok(found) = capture::statx(&file) else { continue };
            let now = capture::metadata(&found);
            let mark = (now.size, now.mtime_ns);
            let due = now.size <= TAIL_BYTES || seconds.is_multiple_of(TAIL_SECONDS);
            if !due || tails.get(&inode) == Some(&mark) {
                continue;
            }
            let _usage = self.usage();
            let start = boot_now();
            if let Ok(captured) = self.read_open(file.as_fd()) {
                let (end, stable) = (boot_now(), captured.is_exact(true));
                self.gate().remember(
                    inode,
                    Image { start, end, state: captured.state, stable, gated: false, of_close: false, shape: None },
                );
                tails.insert(inode, mark);
            }
        }
    }

    /// Reads on in the logs that have lost their names.
    fn departed(&self) {
        let now = boot_now();
        let ids: Vec<VersionId> = {
            let mut index = self.index();
            index.departed.retain(|departed| now.0.saturating_sub(departed.since.0) < DEPARTED_NS);
            index.departed.iter().map(|departed| departed.id).collect()
        };
        ids.into_iter().for_each(|id| self.follow(id));
    }

    /// When this version is of a log without a name to which more was written: the version has that too from now on.
    pub(super) fn follow(&self, id: VersionId) {
        let followed = self.index().departed.iter().find(|departed| departed.id == id).map(|one| Arc::clone(&one.file));
        let Some((file, mut version)) = followed.zip(self.known(id).ok()) else { return };
        let known = version.recorded.state().map(|state| state.size);
        if known.is_none_or(|bytes| !capture::statx(&file).is_ok_and(|found| found.stx_size > bytes)) {
            return;
        }
        let _usage = self.usage();
        let Ok(captured) = self.read_open(file.as_fd()) else { return };
        version.recorded = Recorded::State(captured.state);
        self.index().load(version.clone(), None);
        self.record(&Record::of_version(version).collect::<Vec<_>>());
    }

    /// Content first: a record on disk must not name content that is not.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let records = std::mem::take(&mut self.queue().outbox);
        self.record(&records);
        self.store.sync()?;
        self.log().sync()
    }

    /// What is older than this may be dropped, nanoseconds since 1970.
    fn kept_since_ns(&self) -> i64 {
        let retention = i64::try_from(self.options.retention.as_nanos()).unwrap_or(i64::MAX);
        self.unix(boot_now()).saturating_sub(retention)
    }

    /// Enough can be dropped, or room is scarce.
    pub(super) fn is_worth_retaining(&self) -> bool {
        let index = self.index();
        let droppable = index.droppable(self.kept_since_ns()).len();
        droppable * WORTH_DROPPING >= index.count() || self.store.bytes() > self.options.quota_bytes / 2
    }

    /// Drops what retention allows. Whoever stores something meanwhile waits only while it is decided what lives.
    pub(super) fn retain(&self) -> Result<(), Error> {
        let before_ns = self.kept_since_ns();
        let dropped = {
            let mut index = self.index();
            let mut ids = index.droppable(before_ns);
            let left = index.superseded().saturating_sub(ids.len());
            if left > self.options.superseded_max {
                // A tenth at once, so that this is seldom.
                let too_many = left - self.options.superseded_max / 10 * 9;
                let young: Vec<VersionId> =
                    index.droppable(i64::MAX).difference(&ids).take(too_many).copied().collect();
                self.tally.dropped_early.fetch_add(u64::try_from(young.len()).unwrap_or(0), Ordering::Relaxed);
                ids.extend(young);
            }
            if ids.is_empty() {
                return Ok(());
            }
            index.drop_versions(&ids);
            index.kept.retain(|_, unix_ns| *unix_ns >= before_ns);
            ids.len()
        };
        self.rewrite()?;
        let lists = self.store.lists()?;
        let doomed = {
            // Nothing may be on its way into the store while it is decided what lives.
            let _alone = self.usage.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut live = self.index().live();
            live.extend(self.gate().digests().map(|digest| digest.prefix()));
            live.insert(Digest::of(b"").prefix());
            self.store.doom(&live, lists)?
        };
        self.store.clear(doomed)?;
        self.tally.dropped.fetch_add(u64::try_from(dropped).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// A time without protection: shown by `coverage`, and kept.
    pub(super) fn window(&self, window: Window) {
        let record = self.window_in_memory(window);
        self.record(record.as_slice());
    }

    pub(super) fn window_in_memory(&self, window: Window) -> Option<Record> {
        let mut index = self.index();
        let windows = &mut index.coverage.windows;
        // The same reason again at the same path makes the window longer, not the list.
        if let Some(known) = windows.iter_mut().find(|known| known.path == window.path && known.reason == window.reason)
        {
            known.until = known.until.max(window.until);
            return None;
        }
        if windows.len() >= NAMED_MAX {
            index.coverage.omitted += 1;
            return None;
        }
        windows.push(window.clone());
        Some(Record::Window(window))
    }
}

/// A new log that holds what was known when the old one had ended at `mark`.
#[derive(Debug)]
pub(super) struct Rewrite {
    fresh: Log,
    mark: Mark,
    /// Where each version is in it, by id.
    moved: Vec<(VersionId, Place)>,
}

/// Gives where each version of them is.
fn append_placed(log: &mut Log, records: &[Record], store: &Store) -> Result<Vec<(VersionId, Place)>, Error> {
    let places = log.append(records, store)?;
    let placed = records.iter().zip(places).filter_map(|(record, place)| match record {
        Record::Version(version) => Some((version.id, place)),
        _ => None,
    });
    Ok(placed.collect())
}

/// When a state was read, and whether it held still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) end: Timestamp,
    pub(super) stable: bool,
    /// Whoever wanted to write had to wait meanwhile.
    pub(super) gated: bool,
    /// What a change made of a regular file's content, where it was looked at.
    pub(super) shape: Option<Shape>,
}
