// SPDX-License-Identifier: Apache-2.0
//! The brain of Thymus: what happened, who caused it, what to do about it.
//!
//! Input: one sequence of [`Input`]s. Output: [`Effect`]s. Pure by construction: no I/O, clock, thread, async,
//! randomness or hash-ordered iteration, so a recorded day replays bit for bit, decisions included.
#![forbid(unsafe_code)]

pub mod action;
pub mod ailment;
pub mod decide;
pub mod detect;
pub mod diagnose;
pub mod engine;
pub mod event;
pub mod fuzz;
pub mod golden;
pub mod graph;
pub mod guard;
pub mod health;
pub mod hearsay;
pub mod id;
pub mod incident;
pub mod input;
pub mod merge;
pub mod network;
pub mod ocsf;
pub mod path;

pub use action::Action;
pub use event::{Activity, Event};
pub use id::{ActionId, BootId, EventId, FileKey, FindingId, IncidentId, ProcessKey, Timestamp, VersionId};
pub use incident::{Incident, Stage};
pub use input::{Effect, Input};
pub use path::HostPath;
