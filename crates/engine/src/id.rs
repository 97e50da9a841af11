// SPDX-License-Identifier: Apache-2.0
//! Identities that cannot be forged or reused, and time.

use serde::{Deserialize, Serialize};

/// Nanoseconds on the boot clock (`CLOCK_BOOTTIME`). The engine has no other clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Nanoseconds from `earlier` to `self`; 0 when `earlier` is later.
    #[must_use]
    pub fn since_ns(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The first eight bytes of `/proc/sys/kernel/random/boot_id`, big endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// One process for as long as the host has been up. A pid is reused; this is not.
///
/// `pid` is the thread group id in the agent's own pid namespace; `start_time` is the
/// leader's `start_boottime`, which `/proc/PID/stat` field 22 shows in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    pub boot: BootId,
    pub pid: u32,
    pub start_time: Timestamp,
}

/// One inode for as long as its file system lives. Two copies of a disk share inode and
/// generation; the device number as the kernel sees it (`major << 20 | minor`) tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileKey {
    pub device: u64,
    pub inode: u64,
    pub generation: u32,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// Place of an event in this host's one sequence; starts at 1.
    EventId
}
number! {
    /// One state of one path, as the vault recorded it; starts at 1, grows with time.
    /// 0 means "not known to the vault".
    VersionId
}
number! {
    /// One finding; starts at 1.
    FindingId
}
number! {
    /// One incident; starts at 1.
    IncidentId
}
number! {
    /// One action, from plan to outcome; starts at 1.
    ActionId
}

impl VersionId {
    /// The vault knows no state for this.
    pub const UNKNOWN: Self = Self(0);
}
