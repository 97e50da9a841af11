// SPDX-License-Identifier: Apache-2.0
//! Restore and harden: files, units, services; and the proof that it holds. One kind of object a file.

pub mod file;
pub mod genuine;
pub mod many;
pub mod packaged;
pub mod proof;
pub mod remedy;
pub mod unit;

use crate::system::Probe;
use serde::{Deserialize, Serialize};

/// A service that must answer before an incident counts as healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Such as `nginx.service`.
    pub unit: String,
    /// Asked inside the scope's network; none: the unit must be active, nothing more.
    pub probe: Option<Probe>,
}
