// SPDX-License-Identifier: Apache-2.0
//! One path: what was there, and what is wanted there.

use crate::system::FileState;
use serde::{Deserialize, Serialize};

/// What undo of an action on a file needs; contents are in the keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// `None`: nothing was there.
    pub before: Option<FileState>,
    /// `None`: nothing is wanted there.
    pub wanted: Option<FileState>,
    /// An append-only log: written where it is, and what is appended later stays.
    pub in_place: bool,
}
