// SPDX-License-Identifier: Apache-2.0
//! What went in, what was decided, what was promised, what came of it: append-only and hash-chained.
//!
//! Input: frames. Output: the same frames, or the place and the reason why they cannot be trusted.
//! Invariants: a frame's hash covers the hash before it, so nothing is altered or taken out unseen; an anchor file repeats
//! length and head, so a cut tail is seen; an intent is on disk before [`Journal::intend`] returns; a full disk loses
//! inputs loudly and corrupts nothing.

mod anchor;
mod frame;
pub(crate) mod fuzz;
pub mod ring;
mod scan;

use crate::system::Digest;
use anchor::{Anchor, Mark};
use frame::{Frame, Hash, Header};
use scan::{anchor_path, scan, segment_path};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thymus_engine::action::Outcome;
use thymus_engine::incident::Verdict;
use thymus_engine::{Action, ActionId, Effect, IncidentId, Input, Timestamp};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} `{path}`")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Refused(Problem),
    #[error("a record of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("cannot write down a record")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a journal cannot be trusted, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    /// Bytes from the start of the file.
    pub offset: u64,
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` at byte {}: {}", self.file.display(), self.offset, self.what)
    }
}

/// The promise on disk: what will be done and all that undo needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub action: ActionId,
    pub incident: IncidentId,
    pub what: Action,
    pub verdict: Option<Verdict>,
    pub before: crate::perform::Before,
    pub time: Timestamp,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub segments: u64,
    pub frames: u64,
    pub bytes: u64,
    /// Hash of the last frame.
    pub head: Digest,
    pub problems: Vec<Problem>,
    /// A torn tail, as a crash leaves it: harmless, cut at the next start.
    pub torn: Option<Problem>,
}

/// One frame, as `replay`, `export` and recovery read it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Record {
    /// The agent started.
    Run(Run),
    Input(Input),
    /// Decided: `Commit`, `Drop`, `Ask`, `Reflex`.
    Effect(Effect),
    Intent(Box<Intent>),
    Settled {
        action: ActionId,
        outcome: Outcome,
    },
    /// Undone later, by a person.
    Undone {
        action: ActionId,
    },
    /// A person undid the whole incident.
    IncidentUndone {
        incident: IncidentId,
    },
    /// The engine's whole state, as it serialises itself.
    Checkpoint(Vec<u8>),
    /// Inputs that a full disk or a slow one made us lose, tied to the frame's time.
    Lost {
        inputs: u64,
    },
    /// Repeated at the beginning of a segment, so that older ones may go.
    Carried(Box<Story>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub boot: u64,
    pub pid: u32,
    pub version: String,
}

/// Limits of one journal. Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment larger than this asks for a checkpoint; at twice this size a new one is begun without.
    pub segment_bytes: u64,
    /// The oldest segments go when all together are larger; the newest checkpoint and what follows it always stay.
    pub total_bytes: u64,
}

impl Options {
    pub const USUAL: Self = Self { segment_bytes: 32 << 20, total_bytes: 512 << 20 };
}

/// LIMIT: bytes waiting for a disk that does not take them; beyond, inputs are lost, counted and said in the journal.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// Handed to the kernel when this much has gathered.
const BUFFER_BYTES: usize = 64 << 10;
/// Room kept free for settlements, so that what was promised can be settled on a full disk.
const RESERVE_BYTES: u64 = 1 << 20;
/// LIMIT: settled intents that stay undoable.
pub const UNDOABLE_MAX: usize = 1_024;

mod kind {
    pub(super) const RUN: u8 = 1;
    pub(super) const INPUT: u8 = 2;
    pub(super) const EFFECT: u8 = 3;
    pub(super) const INTENT: u8 = 4;
    pub(super) const SETTLED: u8 = 5;
    pub(super) const UNDONE: u8 = 6;
    pub(super) const INCIDENT_UNDONE: u8 = 7;
    pub(super) const CHECKPOINT: u8 = 8;
    pub(super) const LOST: u8 = 9;
    pub(super) const CARRIED: u8 = 10;
}

/// What is known of one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub intent: Intent,
    /// `None`: open.
    pub outcome: Option<Outcome>,
    pub undone: bool,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Encode(Box::new(error)))
}

fn binary<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(value).map_err(|error| Error::Encode(Box::new(error)))
}

/// Intents and what came of them.
#[derive(Debug, Default)]
struct Ledger {
    stories: BTreeMap<ActionId, Story>,
    incidents_undone: BTreeSet<IncidentId>,
    /// Stories forgotten because of [`UNDOABLE_MAX`].
    forgotten: u64,
}

impl Ledger {
    fn take(&mut self, record: Record) {
        match record {
            Record::Intent(intent) => {
                self.stories.insert(intent.action, Story { intent: *intent, outcome: None, undone: false });
                self.shed();
            }
            Record::Settled { action, outcome } => {
                if let Some(story) = self.stories.get_mut(&action) {
                    story.outcome = Some(outcome);
                }
            }
            Record::Undone { action } => {
                if let Some(story) = self.stories.get_mut(&action) {
                    story.undone = true;
                }
            }
            Record::Carried(story) => {
                self.stories.insert(story.intent.action, *story);
            }
            Record::IncidentUndone { incident } => {
                self.incidents_undone.insert(incident);
            }
            Record::Run(_) | Record::Input(_) | Record::Effect(_) | Record::Checkpoint(_) | Record::Lost { .. } => {}
        }
    }

    fn shed(&mut self) {
        while self.stories.len() > UNDOABLE_MAX {
            let Some(oldest) = self.stories.iter().find(|(_, story)| story.outcome.is_some()).map(|(id, _)| *id) else {
                return;
            };
            self.stories.remove(&oldest);
            self.forgotten += 1;
        }
    }
}

fn decode(frame: &Frame) -> Result<Record, Error> {
    fn text<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Error> {
        serde_json::from_slice(payload).map_err(|error| Error::Encode(Box::new(error)))
    }
    fn packed<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Error> {
        postcard::from_bytes(payload).map_err(|error| Error::Encode(Box::new(error)))
    }
    let payload = &frame.payload;
    Ok(match frame.kind {
        kind::RUN => Record::Run(text(payload)?),
        kind::INPUT => Record::Input(packed(payload)?),
        kind::EFFECT => Record::Effect(packed(payload)?),
        kind::INTENT => Record::Intent(text(payload)?),
        kind::SETTLED => {
            let (action, outcome) = text(payload)?;
            Record::Settled { action, outcome }
        }
        kind::UNDONE => Record::Undone { action: text(payload)? },
        kind::INCIDENT_UNDONE => Record::IncidentUndone { incident: text(payload)? },
        kind::CHECKPOINT => Record::Checkpoint(payload.clone()),
        kind::LOST => Record::Lost { inputs: text(payload)? },
        kind::CARRIED => Record::Carried(text(payload)?),
        other => return Err(Error::Encode(format!("record kind {other} is not known to this version").into())),
    })
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    options: Options,
    file: Arc<File>,
    path: PathBuf,
    segments: Vec<u64>,
    anchor: Anchor,
    anchor_file: Arc<File>,
    /// Of everything appended, the buffer included.
    head: Hash,
    /// Handed to the kernel, at a record's border or within one that a full disk has interrupted.
    written: u64,
    buffer: Vec<u8>,
    /// Bytes for which room is reserved.
    reserved: u64,
    ledger: Ledger,
    losses: u64,
    losses_said: u64,
    /// Bytes at which a new segment is begun without a checkpoint.
    rotate_at: u64,
    /// An fsync failed: what is on disk is not known any more.
    sync_failed: bool,
}

impl Inner {
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn push(&mut self, kind: u8, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        let head = frame::write(&mut self.buffer, &self.head, kind, time.0, payload)
            .ok_or(Error::TooLarge { bytes: payload.len(), limit: frame::PAYLOAD_BYTES_MAX })?;
        self.head = head;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut done = 0;
        let mut result = Ok(());
        while done < self.buffer.len() {
            match self.file.write_at(&self.buffer[done..], self.written) {
                Ok(0) => result = Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(count) => {
                    done += count;
                    self.written += count as u64;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => result = Err(error),
            }
            break;
        }
        self.buffer.drain(..done);
        result.map_err(io_error("append to", &self.path))?;
        self.anchor.written = Mark { length: self.written, head: self.head };
        self.anchor.write(&self.anchor_file).map_err(io_error("write", &anchor_path(&self.directory)))
    }

    /// Buffered append of what may be lost, loudly.
    fn append(&mut self, kind: u8, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        if self.buffer.len() >= BUFFER_BYTES
            && let Err(error) = self.flush()
            && self.buffer.len() + payload.len() > BUFFER_BYTES_MAX
        {
            self.losses += 1;
            return Err(error);
        }
        if self.losses > self.losses_said {
            let lost = self.losses - self.losses_said;
            self.push(kind::LOST, time, &json(&lost)?)?;
            self.losses_said = self.losses;
        }
        self.push(kind, time, payload)?;
        if self.end() <= self.rotate_at {
            return Ok(());
        }
        // Nobody made a checkpoint. If there is no room for a new segment either, ask again a quarter later.
        let rotated = self.rotate(time, None);
        self.rotate_at = match rotated {
            Ok(()) => self.options.segment_bytes.saturating_mul(2),
            Err(_) => self.end() + self.options.segment_bytes / 4,
        };
        rotated
    }

    /// Appends a record that must not be lost, or nothing at all.
    fn promise(&mut self, kind: u8, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        self.flush()?;
        let (head, written) = (self.head, self.written);
        self.push(kind, time, payload)?;
        let Err(error) = self.flush() else { return Ok(()) };
        // Nobody may find half a promise, or one that was reported as failed.
        if self.file.set_len(written).is_ok() {
            (self.head, self.written) = (head, written);
            self.buffer.clear();
            self.reserved = 0;
        }
        Err(error)
    }

    /// Room for what must be written after an intent.
    fn reserve(&mut self) -> Result<(), Error> {
        let wanted = self.end() + RESERVE_BYTES;
        if self.reserved >= wanted {
            return Ok(());
        }
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, self.end(), 2 * RESERVE_BYTES) {
            Ok(()) => self.reserved = self.end() + 2 * RESERVE_BYTES,
            // The file system cannot reserve: a full disk is then met when it comes.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.reserved = u64::MAX,
            Err(error) => return Err(io_error("reserve room in", &self.path)(error.into())),
        }
        Ok(())
    }

    /// Begins a new segment: the checkpoint, then what is open or undoable.
    fn rotate(&mut self, time: Timestamp, checkpoint: Option<&[u8]>) -> Result<(), Error> {
        self.flush()?;
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        let segment = self.anchor.segment + 1;
        let path = segment_path(&self.directory, segment);
        let header = Header { segment, before: self.head };
        let (mut bytes, mut head) = (header.encode().to_vec(), header.seed());
        let mut add = |kind, payload: &[u8]| -> Result<(), Error> {
            head = frame::write(&mut bytes, &head, kind, time.0, payload)
                .ok_or(Error::TooLarge { bytes: payload.len(), limit: frame::PAYLOAD_BYTES_MAX })?;
            Ok(())
        };
        if let Some(engine) = checkpoint {
            add(kind::CHECKPOINT, engine)?;
        }
        for story in self.ledger.stories.values() {
            add(kind::CARRIED, &json(story)?)?;
        }
        for incident in &self.ledger.incidents_undone {
            add(kind::INCIDENT_UNDONE, &json(incident)?)?;
        }
        let made = new_file(&path).and_then(|file| {
            file.write_all_at(&bytes, 0).map_err(io_error("write", &path))?;
            file.sync_all().map_err(io_error("sync", &path))?;
            sync_directory(&self.directory)?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // The old segment goes on; half a new one would be taken for a torn tail at best.
                let _ = std::fs::remove_file(&path);
                return Err(error);
            }
        };
        let length = bytes.len() as u64;
        self.segments.push(segment);
        let mark = Mark { length, head };
        (self.anchor.segment, self.anchor.synced, self.anchor.written) = (segment, mark, mark);
        let doomed = self.doomed(checkpoint.is_some());
        self.anchor.first = self.segments[doomed];
        (self.file, self.path, self.head, self.written, self.reserved) = (Arc::new(file), path, head, length, 0);
        let anchor_at = anchor_path(&self.directory);
        self.anchor.write(&self.anchor_file).map_err(io_error("write", &anchor_at))?;
        self.anchor_file.sync_data().map_err(io_error("sync", &anchor_at))?;
        for segment in self.segments.drain(..doomed) {
            let path = segment_path(&self.directory, segment);
            std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    /// How many of the oldest segments go. Without a new checkpoint none does: the newest one must stay.
    fn doomed(&self, checkpointed: bool) -> usize {
        if !checkpointed {
            return 0;
        }
        let size =
            |segment: &u64| std::fs::metadata(segment_path(&self.directory, *segment)).map_or(0, |data| data.len());
        let mut total: u64 = self.segments.iter().map(size).sum();
        let mut doomed = 0;
        while total > self.options.total_bytes && doomed + 1 < self.segments.len() {
            total -= size(&self.segments[doomed]).min(total);
            doomed += 1;
        }
        doomed
    }
}

fn new_file(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(io_error("create", path))
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync", path))
}

/// A cheap handle; all of its methods take `&self` and may be called from any thread.
#[derive(Clone, Debug)]
pub struct Journal {
    inner: Arc<Mutex<Inner>>,
    /// Held while waiting for the disk, so that one fsync serves all who came before it. Appending does not take it.
    syncing: Arc<Mutex<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // INVARIANT: a panic while the lock is held leaves at worst a frame that the chain will refuse.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// Opens or makes the journal in `directory`. Everything is verified; a torn tail is cut and reported.
    pub fn open(directory: &Path) -> Result<(Self, Report), Error> {
        Self::open_with(directory, Options::USUAL)
    }

    pub fn open_with(directory: &Path, options: Options) -> Result<(Self, Report), Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io_error("create", directory))?;
        let boot = crate::system::boot_id().0;
        let mut ledger = Ledger::default();
        let found = scan(directory, boot, &mut |_, frame| {
            if matches!(frame.kind, kind::INTENT..=kind::INCIDENT_UNDONE | kind::CARRIED) {
                ledger.take(decode(&frame)?);
            }
            Ok(())
        })?;
        if let Some(problem) = found.report.problems.first() {
            return Err(Error::Refused(problem.clone()));
        }
        let anchor_at = anchor_path(directory);
        let anchor_file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&anchor_at);
        let anchor_file = anchor_file.map_err(io_error("open", &anchor_at))?;
        let nothing = Mark { length: 0, head: [0; 32] };
        let mut anchor = found.anchor.unwrap_or(Anchor {
            sequence: 0,
            boot,
            first: 1,
            segment: 1,
            synced: nothing,
            written: nothing,
        });
        let mut segments = found.segments;
        if let Some((path, keep)) = &found.cut {
            if *keep == 0 {
                std::fs::remove_file(path).map_err(io_error("remove", path))?;
                segments.pop();
            } else {
                let file = File::options().write(true).open(path).map_err(io_error("open", path))?;
                file.set_len(*keep).and_then(|()| file.sync_all()).map_err(io_error("cut", path))?;
            }
        }
        let (path, file, head, length) = match found.tail {
            Some(tail) => {
                let path = segment_path(directory, tail.segment);
                let file = File::options().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
                file.sync_all().map_err(io_error("sync", &path))?;
                anchor.segment = tail.segment;
                (path, file, tail.head, tail.length)
            }
            None => {
                // The anchor first: a segment without one would look as if it had been removed.
                anchor.write(&anchor_file).map_err(io_error("write", &anchor_at))?;
                anchor_file.sync_all().map_err(io_error("sync", &anchor_at))?;
                let path = segment_path(directory, anchor.segment);
                let header = Header { segment: anchor.segment, before: [0; 32] };
                let file = new_file(&path)?;
                file.write_all_at(&header.encode(), 0).map_err(io_error("write", &path))?;
                file.sync_all().map_err(io_error("sync", &path))?;
                segments.push(anchor.segment);
                (path, file, header.seed(), frame::HEADER_BYTES as u64)
            }
        };
        let mark = Mark { length, head };
        (anchor.boot, anchor.synced, anchor.written) = (boot, mark, mark);
        anchor.write(&anchor_file).map_err(io_error("write", &anchor_at))?;
        anchor_file.sync_all().map_err(io_error("sync", &anchor_at))?;
        sync_directory(directory)?;
        let inner = Inner {
            directory: directory.to_owned(),
            options,
            file: Arc::new(file),
            path,
            segments,
            anchor,
            anchor_file: Arc::new(anchor_file),
            head,
            written: length,
            buffer: Vec::with_capacity(BUFFER_BYTES * 2),
            reserved: 0,
            ledger,
            losses: 0,
            losses_said: 0,
            rotate_at: options.segment_bytes.saturating_mul(2),
            sync_failed: false,
        };
        let journal = Self { inner: Arc::new(Mutex::new(inner)), syncing: Arc::default() };
        let run = Run { boot, pid: std::process::id(), version: env!("CARGO_PKG_VERSION").to_owned() };
        journal.append(kind::RUN, crate::system::boot_time(), &json(&run)?)?;
        Ok((journal, found.report))
    }

    /// As [`Journal::open`]; a journal that cannot be trusted is moved aside whole, and a new one is begun. The problem is
    /// returned for the operator.
    pub fn open_or_quarantine(directory: &Path) -> Result<(Self, Report, Option<Problem>), Error> {
        let problem = match Self::open(directory) {
            Ok((journal, report)) => return Ok((journal, report, None)),
            Err(Error::Refused(problem)) => problem,
            // A record that the chain vouches for and this version cannot read: as little to be trusted.
            Err(Error::Encode(error)) => {
                Problem { file: directory.to_owned(), offset: 0, what: format!("a record cannot be read: {error}") }
            }
            Err(error) => return Err(error),
        };
        // LIMIT: refused journals kept as evidence.
        let aside = (1..1_000).map(|number| {
            let mut name = directory.as_os_str().to_owned();
            name.push(format!(".refused-{number}"));
            PathBuf::from(name)
        });
        let mut aside = aside.filter(|path| !path.exists());
        let aside = aside.next().ok_or_else(|| Error::Refused(problem.clone()))?;
        std::fs::rename(directory, &aside).map_err(io_error("move aside", directory))?;
        let (journal, report) = Self::open(directory)?;
        let what = format!("{}; moved to `{}` as evidence, a new journal was begun", problem.what, aside.display());
        Ok((journal, report, Some(Problem { what, ..problem })))
    }

    fn append(&self, kind: u8, now: Timestamp, payload: &[u8]) -> Result<(), Error> {
        lock(&self.inner).append(kind, now, payload)
    }

    /// Buffered: on disk soon, not now. A failure is counted and shown, see [`Journal::losses`].
    pub fn append_input(&self, now: Timestamp, input: &Input) -> Result<(), Error> {
        self.append(kind::INPUT, now, &binary(input)?)
    }

    /// Buffered.
    pub fn append_effect(&self, now: Timestamp, effect: &Effect) -> Result<(), Error> {
        self.append(kind::EFFECT, now, &binary(effect)?)
    }

    /// Hands the buffer to the kernel; call it about once a second.
    pub fn flush(&self) -> Result<(), Error> {
        lock(&self.inner).flush()
    }

    /// Everything appended is on disk when this returns.
    pub fn sync(&self) -> Result<(), Error> {
        let mut inner = lock(&self.inner);
        inner.flush()?;
        let (file, path, segment) = (Arc::clone(&inner.file), inner.path.clone(), inner.anchor.segment);
        let wanted = Mark { length: inner.written, head: inner.head };
        drop(inner);
        self.sync_to(&file, &path, segment, wanted)
    }

    fn sync_to(&self, file: &File, path: &Path, segment: u64, wanted: Mark) -> Result<(), Error> {
        let turn = lock(&self.syncing);
        {
            let inner = lock(&self.inner);
            if inner.sync_failed {
                let source = io::Error::other("a sync failed before: what is on disk is not known; start again");
                return Err(io_error("sync", path)(source));
            }
            // A rotation syncs the old segment itself; another's fsync may have covered ours.
            if inner.anchor.segment != segment || inner.anchor.synced.length >= wanted.length {
                return Ok(());
            }
        }
        let synced = file.sync_data();
        let mut inner = lock(&self.inner);
        if let Err(source) = synced {
            inner.sync_failed = true;
            return Err(io_error("sync", path)(source));
        }
        if inner.anchor.segment != segment {
            return Ok(());
        }
        inner.anchor.synced = wanted;
        let (anchor_file, anchor_at) = (Arc::clone(&inner.anchor_file), anchor_path(&inner.directory));
        let mut anchor = inner.anchor;
        anchor.write(&anchor_file).map_err(io_error("write", &anchor_at))?;
        inner.anchor = anchor;
        drop(inner);
        let result = anchor_file.sync_data().map_err(io_error("sync", &anchor_at));
        drop(turn);
        result
    }

    /// The segment is full: the agent should call [`Journal::checkpoint`] soon.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        let inner = lock(&self.inner);
        inner.end() > inner.options.segment_bytes
    }

    /// Begins a new segment with the engine's state as it is after the last input appended. Waits for the disk.
    pub fn checkpoint(&self, now: Timestamp, engine: &[u8]) -> Result<(), Error> {
        let _turn = lock(&self.syncing);
        lock(&self.inner).rotate(now, Some(engine))
    }

    /// Inputs and effects lost since the start.
    #[must_use]
    pub fn losses(&self) -> u64 {
        lock(&self.inner).losses
    }

    fn promise(&self, kind: u8, now: Timestamp, payload: &[u8], reserve: bool, record: Record) -> Result<(), Error> {
        let mut inner = lock(&self.inner);
        if reserve {
            inner.reserve()?;
        }
        inner.promise(kind, now, payload)?;
        inner.ledger.take(record);
        let (file, path, segment) = (Arc::clone(&inner.file), inner.path.clone(), inner.anchor.segment);
        let wanted = Mark { length: inner.written, head: inner.head };
        drop(inner);
        self.sync_to(&file, &path, segment, wanted)
    }

    /// On disk when this returns.
    pub fn intend(&self, intent: &Intent) -> Result<(), Error> {
        self.promise(kind::INTENT, intent.time, &json(intent)?, true, Record::Intent(Box::new(intent.clone())))
    }

    /// On disk when this returns.
    pub fn settle(&self, now: Timestamp, action: ActionId, outcome: &Outcome) -> Result<(), Error> {
        let record = Record::Settled { action, outcome: outcome.clone() };
        self.promise(kind::SETTLED, now, &json(&(action, outcome))?, false, record)
    }

    /// Marks an action as undone; on disk when this returns.
    pub fn undone(&self, now: Timestamp, action: ActionId) -> Result<(), Error> {
        self.promise(kind::UNDONE, now, &json(&action)?, false, Record::Undone { action })
    }

    /// Marks an incident as undone by a person; on disk when this returns.
    pub fn incident_undone(&self, now: Timestamp, incident: IncidentId) -> Result<(), Error> {
        let record = Record::IncidentUndone { incident };
        self.promise(kind::INCIDENT_UNDONE, now, &json(&incident)?, false, record)
    }

    /// Promised, not settled; oldest first.
    #[must_use]
    pub fn open_intents(&self) -> Vec<Intent> {
        let inner = lock(&self.inner);
        let open = inner.ledger.stories.values().filter(|story| story.outcome.is_none());
        open.map(|story| story.intent.clone()).collect()
    }

    #[must_use]
    pub fn story(&self, action: ActionId) -> Option<Story> {
        lock(&self.inner).ledger.stories.get(&action).cloned()
    }

    /// The actions of an incident, oldest first.
    #[must_use]
    pub fn stories(&self, incident: IncidentId) -> Vec<Story> {
        let inner = lock(&self.inner);
        inner.ledger.stories.values().filter(|story| story.intent.incident == incident).cloned().collect()
    }

    #[must_use]
    pub fn is_incident_undone(&self, incident: IncidentId) -> bool {
        lock(&self.inner).ledger.incidents_undone.contains(&incident)
    }

    /// The newest checkpoint, and the inputs after it, as far as they were appended before this call.
    pub fn replay(&self) -> Result<Replay, Error> {
        let mut inner = lock(&self.inner);
        inner.flush()?;
        let paths: Vec<_> = inner.segments.iter().map(|segment| segment_path(&inner.directory, *segment)).collect();
        drop(inner);
        let mut start = 0;
        let mut checkpoint = None;
        for (at, path) in paths.iter().enumerate().rev() {
            let first = open_frames(path)?.next().transpose().map_err(|failure| refused(path, failure))?;
            if let Some(frame) = first.filter(|frame| frame.kind == kind::CHECKPOINT) {
                (start, checkpoint) = (at, Some((Timestamp(frame.time), frame.payload)));
                break;
            }
        }
        let inputs = paths.into_iter().skip(start).flat_map(|path| match open_frames(&path) {
            Err(error) => Box::new(std::iter::once(Err(error))) as Inputs,
            Ok(frames) => Box::new(frames.filter_map(move |frame| match frame {
                Err(failure) => Some(Err(refused(&path, failure))),
                Ok(frame) if frame.kind == kind::INPUT => match decode(&frame) {
                    Ok(Record::Input(input)) => Some(Ok((Timestamp(frame.time), input))),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                },
                Ok(_) => None,
            })),
        });
        Ok(Replay { checkpoint, inputs: Box::new(inputs) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Best effort: what is lost here is what a crash would lose.
        if self.flush().is_ok() && self.file.sync_data().is_ok() {
            self.anchor.synced = self.anchor.written;
            let _ = self.anchor.write(&self.anchor_file);
        }
    }
}

type Inputs = Box<dyn Iterator<Item = Result<(Timestamp, Input), Error>> + Send>;

fn open_frames(path: &Path) -> Result<frame::Frames<BufReader<File>>, Error> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let length = file.metadata().map_err(io_error("read", path))?.len();
    let opened = frame::Frames::open(BufReader::with_capacity(1 << 16, file), length);
    opened.map(|(_, frames)| frames).map_err(|failure| refused(path, failure))
}

fn refused(path: &Path, failure: frame::Failure) -> Error {
    let (offset, what) = match failure {
        frame::Failure::Io(source) => return io_error("read", path)(source),
        frame::Failure::Short { offset } => (offset, "the file ends within a record".to_owned()),
        frame::Failure::Bad { offset, why, .. } => (offset, why),
    };
    Error::Refused(Problem { file: path.to_owned(), offset, what })
}

/// What brings an engine back to where it was.
pub struct Replay {
    pub checkpoint: Option<(Timestamp, Vec<u8>)>,
    pub inputs: Inputs,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("checkpoint", &self.checkpoint.as_ref().map(|(time, _)| time))
            .finish_non_exhaustive()
    }
}

/// Reads a journal that may be in use, changes nothing.
pub fn verify(directory: &Path) -> Result<Report, Error> {
    Ok(scan(directory, crate::system::boot_id().0, &mut |_, _| Ok(()))?.report)
}

/// Visits every record, oldest first, with the segment it stands in. Stops at the first that cannot be trusted; the report says so.
pub fn records(
    directory: &Path,
    visit: &mut dyn FnMut(Timestamp, Record) -> Result<(), Error>,
) -> Result<Report, Error> {
    let boot = crate::system::boot_id().0;
    Ok(scan(directory, boot, &mut |_, frame| visit(Timestamp(frame.time), decode(&frame)?))?.report)
}

/// Every frame as one JSON object a line. Stops at the first frame that cannot be trusted and says so.
pub fn export(directory: &Path, out: &mut dyn Write) -> Result<Report, Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        segment: u64,
        offset: u64,
        /// Nanoseconds on the boot clock.
        time_ns: u64,
        hash: Digest,
        record: &'a Record,
    }
    let boot = crate::system::boot_id().0;
    let found = scan(directory, boot, &mut |segment, frame| {
        let mut record = decode(&frame)?;
        if let Record::Checkpoint(bytes) = &mut record {
            // The engine's own format, megabytes of it: its hash stands for it.
            *bytes = Vec::new();
        }
        let line =
            Line { segment, offset: frame.offset, time_ns: frame.time, hash: Digest(frame.hash), record: &record };
        let mut text = json(&line)?;
        text.push(b'\n');
        out.write_all(&text).map_err(io_error("write the export of", directory))
    })?;
    Ok(found.report)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
