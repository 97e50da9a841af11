// SPDX-License-Identifier: Apache-2.0
//! Logs: lines that somebody wrote become [`Hearsay`], by parsers that are data.
//!
//! Input: files below the guarded root, and forms of lines. Output: what the lines say, as words. INVARIANTS: nothing waits
//! for a log; a file is hostile: no link is followed, only regular files are read, a line is bounded, and what is left out
//! is counted. No loss of lines is told as a loss of events: whoever floods a log must not hide those.

mod follow;
mod template;
mod time;

pub use follow::{Follower, Report};
pub use template::{Form, Kind, Parser, Template, Wrong, fuzz, seeds};
