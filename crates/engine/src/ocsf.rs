// SPDX-License-Identifier: Apache-2.0
//! Events as OCSF JSON.

use crate::event::Event;
use crate::id::Timestamp;
use serde_json::Value;

/// Turns boot time into the times that OCSF wants, and says which host and product speak.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Add to a boot-clock time to get Unix nanoseconds.
    pub boot_to_unix_ns: u64,
    /// Name of the guarded host.
    pub hostname: String,
}

impl Clock {
    /// Unix milliseconds.
    #[must_use]
    pub fn unix_ms(&self, time: Timestamp) -> u64 {
        self.boot_to_unix_ns.saturating_add(time.0) / 1_000_000
    }
}

/// One event as an OCSF object, valid by the schema of [`VERSION`].
#[must_use]
pub fn to_ocsf(event: &Event, clock: &Clock) -> Value {
    let _ = (event, clock);
    Value::Null
}

/// Version of the OCSF schema.
pub const VERSION: &str = "1.9.0-dev";
