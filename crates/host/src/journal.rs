// SPDX-License-Identifier: Apache-2.0
//! What went in, what was decided, what was promised, what came of it: append-only and hash-chained.
//!
//! Input: records. Output: the same records, or the place and the reason why they cannot be trusted.
//! Invariants: a frame's hash covers the hash before it, so nothing is altered or taken out unseen; an anchor file repeats
//! length and head, so a cut tail is seen; an intent is on disk before [`Journal::intend`] returns; a full disk loses
//! inputs loudly and corrupts nothing.
//!
//! Here is the handle that everybody speaks to, and when it waits for the disk; what a record is, how it is written, read
//! again and opened is one file each, below.

mod anchor;
mod frame;
pub(crate) mod fuzz;
mod ledger;
mod open;
mod read;
mod record;
pub mod ring;
mod scan;
mod segments;
mod write;

pub use ledger::UNDOABLE_MAX;
pub use read::{Replay, Report, export, records, verify};
pub use record::{Intent, Record, Run, Story};

use anchor::Mark;
use record::{binary, json, kind};
use scan::anchor_path;
use serde::Serialize;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thymus_engine::action::Outcome;
use thymus_engine::{ActionId, Effect, IncidentId, Input, Timestamp};
use write::Inner;

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

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source }
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
