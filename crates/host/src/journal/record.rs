// SPDX-License-Identifier: Apache-2.0
//! What a frame says: the kinds of records, and each to bytes and back.
//!
//! Input: a frame. Output: what was recorded, or an error, whatever the bytes; and the other way round. Inputs and effects are
//! postcard, a checkpoint is the engine's own bytes, everything else is JSON. INVARIANT: numbers and forms stay as they are,
//! or [`super::frame::FORMAT`] changes.

use super::Error;
use super::frame::Frame;
use serde::{Deserialize, Serialize};
use thymus_engine::action::Outcome;
use thymus_engine::incident::Verdict;
use thymus_engine::{Action, ActionId, Effect, IncidentId, Input, Timestamp};

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

/// What is known of one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub intent: Intent,
    /// `None`: open.
    pub outcome: Option<Outcome>,
    pub undone: bool,
}

pub(super) mod kind {
    pub(in crate::journal) const RUN: u8 = 1;
    pub(in crate::journal) const INPUT: u8 = 2;
    pub(in crate::journal) const EFFECT: u8 = 3;
    pub(in crate::journal) const INTENT: u8 = 4;
    pub(in crate::journal) const SETTLED: u8 = 5;
    pub(in crate::journal) const UNDONE: u8 = 6;
    pub(in crate::journal) const INCIDENT_UNDONE: u8 = 7;
    pub(in crate::journal) const CHECKPOINT: u8 = 8;
    pub(in crate::journal) const LOST: u8 = 9;
    pub(in crate::journal) const CARRIED: u8 = 10;
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Encode(Box::new(error)))
}

pub(super) fn binary<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(value).map_err(|error| Error::Encode(Box::new(error)))
}

pub(super) fn decode(frame: &Frame) -> Result<Record, Error> {
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
