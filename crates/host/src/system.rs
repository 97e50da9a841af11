// SPDX-License-Identifier: Apache-2.0
//! The one door to files, processes, units and time for everything that acts.
//!
//! Input: objects named by paths below the guarded root, by [`ProcessKey`] or by unit name. Output: what was found or done.
//! Invariants: a path is never followed (`openat2(2)` beneath the scope's root, no symlink, no mount point); a process is held
//! by pidfd and compared with its start time before it is signalled; a file is replaced whole or not at all; every wait ends.
//! [`Linux`](linux::Linux) can only be made with an [`Acting`](crate::scope::Acting); [`sim`] is the same door onto a
//! world in memory.

mod accounts;
mod filter;
pub mod linux;
pub mod sim;

mod keep;
mod mend;
mod processes;
pub(crate) mod room;
pub(crate) mod services;
pub mod supervise;
mod tree;

pub use accounts::AccountsHeld;
pub use filter::{BLOCKED_MAX, Blocked, Sent};
use filter::{ISOLATION_TABLE, TABLE as FILTER_TABLE};
pub(crate) use keep::Upstream;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use thymus_engine::action::Extent;
use thymus_engine::event::FileKind;
use thymus_engine::network::Network;
use thymus_engine::{BootId, HostPath, ProcessKey, Timestamp};

/// LIMIT: bytes of one file that are brought into memory (merges, logs). Larger files are moved by streaming or refused.
pub const CONTENT_BYTES_MAX: u64 = 64 << 20;
/// LIMIT: entries read of one directory.
pub const ENTRIES_MAX: usize = 65_536;
/// LIMIT: processes looked at in one scan.
pub const PROCESSES_MAX: usize = 65_536;
/// LIMIT: bytes of extended attributes of one file; the kernel's own limit for one value is 64 KiB.
pub const XATTR_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} `{path}`")]
    File {
        doing: &'static str,
        path: HostPath,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is refused: {why}")]
    Refused { path: HostPath, why: String },
    #[error("`{path}` is not as expected: {difference}")]
    Changed { path: HostPath, difference: String },
    #[error("cannot {doing} process {pid}")]
    Process {
        doing: &'static str,
        pid: u32,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {doing} in the packet filter")]
    Filter {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("process {pid} is refused: {why}")]
    Untouchable { pid: u32, why: &'static str },
    #[error("`systemctl {verb} {unit}` failed: {output}")]
    Unit { verb: &'static str, unit: String, output: String },
    #[error("{what} did not finish within {limit:?}")]
    Deadline { what: String, limit: Duration },
    #[error("{what}: {why}")]
    Probe { what: String, why: String },
    #[error("cannot {doing} in the keep `{path}`")]
    Keep {
        doing: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the keep holds {bytes} bytes, its limit; forget old incidents or raise the limit")]
    KeepFull { bytes: u64 },
    #[error("the keep has no content {0}")]
    NotKept(Digest),
    #[error("content {wanted} in the keep is damaged: it has digest {found}")]
    Damaged { wanted: Digest, found: Digest },
    /// Only from [`sim`]: the step that a test chose to fail.
    #[error("fault injected at step {0}")]
    Injected(usize),
}

impl Error {
    /// The object is not as the action expects it: a new plan is needed.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }

    /// The error and its causes in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        in_words(self)
    }
}

/// An error and its causes in one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).take(8);
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Which boot of the machine this is; 0 where `/proc` is not mounted.
#[must_use]
pub fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    BootId(u64::from_str_radix(&digits, 16).unwrap_or(0))
}

/// Now, on the boot clock.
#[must_use]
pub fn boot_time() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// The tables of the packet filter that are ours: they come and go with what is blocked.
pub(crate) const OUR_TABLES: [&str; 2] = [FILTER_TABLE, ISOLATION_TABLE];

pub type Result<T> = std::result::Result<T, Error>;

/// BLAKE3 of a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Any bytes; hexadecimal in JSON.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Bytes(pub Vec<u8>);

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok()).collect()
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits in pairs"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = from_hex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

/// Everything about one name in the file system that a restoration promises to bring back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FileState {
    pub kind: FileKind,
    /// 07777.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds of the last change of content, by the real-time clock.
    pub mtime: (i64, u32),
    /// Name and value, sorted; ACL and capabilities are among them.
    pub xattrs: Vec<(HostPath, Bytes)>,
    /// Of a regular file.
    pub content: Option<Digest>,
    /// Bytes of a regular file.
    pub size: u64,
    /// Of a symbolic link; any bytes.
    pub target: Option<HostPath>,
    /// Of [`FileKind::Other`]: file type bits (`S_IFMT`) and device number as `mknod(2)` takes them.
    pub special: Option<(u32, u64)>,
    /// Immutable (0x10) and append-only (0x20) inode flags, as `chattr(1)` sets them.
    pub flags: u32,
    /// Names of the inode; never compared: each of them is restored for itself.
    pub links: u64,
    /// Which inode it was, and when it was born, in nanoseconds since 1970; 0 where that is not known. Never compared.
    #[serde(default)]
    pub inode: (u64, i64),
}

impl FileState {
    /// What of `other` differs from `self`, in words; `None` when nothing that we promise to restore does.
    /// Times are compared for regular files alone: a directory's change with every entry.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut words = Vec::new();
        let mut differ = |name: &str, differs: bool, found: String, wanted: String| {
            if differs {
                words.push(format!("{name} is {found}, expected {wanted}"));
            }
        };
        differ("kind", self.kind != other.kind, format!("{:?}", other.kind), format!("{:?}", self.kind));
        let show = |digest: Option<Digest>| digest.map_or("absent".to_owned(), |digest| digest.to_string());
        differ("content", self.content != other.content, show(other.content), show(self.content));
        differ("target", self.target != other.target, format!("{:?}", other.target), format!("{:?}", self.target));
        if self.kind != FileKind::Symlink {
            differ("mode", self.mode != other.mode, format!("{:o}", other.mode), format!("{:o}", self.mode));
        }
        differ("owner", self.uid != other.uid, other.uid.to_string(), self.uid.to_string());
        differ("group", self.gid != other.gid, other.gid.to_string(), self.gid.to_string());
        differ("device", self.special != other.special, format!("{:?}", other.special), format!("{:?}", self.special));
        differ("flags", self.flags != other.flags, format!("{:x}", other.flags), format!("{:x}", self.flags));
        let names = |state: &Self| state.xattrs.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(" ");
        differ("extended attributes", self.xattrs != other.xattrs, names(other), names(self));
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Surely one object under two names, or at two times.
    #[must_use]
    pub fn is_inode(&self, other: &Self) -> bool {
        self.inode.0 != 0 && self.inode.1 != 0 && self.inode == other.inode
    }

    /// Nothing that we promise to restore differs.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.difference(other).is_none()
    }
}

/// One process at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// `start_time` is as precise as `/proc` shows it: see [`same_process`].
    pub key: ProcessKey,
    pub parent: u32,
    pub life: Life,
    /// No memory of its own: `kthreadd` or one of its children.
    pub kernel: bool,
    /// Found in a look at the scope's own processes ([`System::processes`]). False says nothing about where it is.
    pub listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Runs,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Ended, waited for by nobody yet.
    Zombie,
}

/// Nanoseconds in one clock tick of `/proc/PID/stat`; `USER_HZ` is 100 on every architecture that Thymus runs on.
pub const TICK_NS: u64 = 10_000_000;

/// Whether two keys name one process, when either start time may have been read from `/proc`, rounded down to a tick.
#[must_use]
pub fn same_process(one: ProcessKey, other: ProcessKey) -> bool {
    one.pid == other.pid && one.start_time.0 / TICK_NS == other.start_time.0 / TICK_NS
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Stop,
    Continue,
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Yes,
    /// The process, or the process of that start time, does not exist any more.
    Gone,
}

/// A systemd unit at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, …
    pub active: String,
    /// `enabled`, `disabled`, `static`, … ; empty when there is no unit file.
    pub file: String,
    /// Pid of the main process inside the scope, 0 when there is none.
    pub main_pid: u32,
    /// It knows how to reload.
    pub can_reload: bool,
}

impl UnitState {
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "activating" | "refreshing")
    }

    #[must_use]
    pub fn is_enabled(&self) -> bool {
        matches!(self.file.as_str(), "enabled" | "enabled-runtime" | "linked" | "linked-runtime" | "alias")
    }
}

/// What may be asked of the service manager. There is no other verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitVerb {
    Start,
    Stop,
    Enable,
    Disable,
    Reload,
    Restart,
    ResetFailed,
    /// Of the manager, not of a unit: read all unit files again.
    DaemonReload,
}

impl UnitVerb {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::ResetFailed => "reset-failed",
            Self::DaemonReload => "daemon-reload",
        }
    }
}

/// A question to a service, asked inside the scope's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// A connection to this loopback port is accepted.
    Tcp { port: u16 },
    /// `GET path` at this loopback port is answered with a status below 400.
    Http { port: u16, path: String },
}

/// What came of a program that ran in the scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Exit status; -1 when a signal ended it, 126 and 127 when it could not be run.
    pub status: i32,
    /// What it said, bounded.
    pub output: String,
}

/// One of many: `path` becomes `wanted` (`None`: nothing) when it is as `expected`.
#[derive(Clone, Copy, Debug)]
pub struct Placing<'p> {
    pub path: &'p HostPath,
    pub expected: Option<&'p FileState>,
    pub wanted: Option<&'p FileState>,
}

/// The one door. An implementor must not follow names, wait without a deadline, or act on anything outside its scope.
pub trait System: fmt::Debug + Send {
    fn now(&mut self) -> Timestamp;
    fn pause(&mut self, time: Duration);

    /// What is at `path`; `None` when nothing is. Reads content to digest it, keeps nothing.
    fn look(&mut self, path: &HostPath) -> Result<Option<FileState>>;
    /// As [`System::look`], and the content is in the keep, on disk, when this returns.
    fn capture(&mut self, path: &HostPath) -> Result<Option<FileState>>;
    /// Puts a content in the keep, on disk.
    fn keep(&mut self, content: &[u8]) -> Result<Digest>;
    /// A content can be had, from the keep or from what the keep leans on.
    fn has(&mut self, _digest: &Digest) -> bool {
        false
    }
    /// A kept content, checked against its digest; at most [`CONTENT_BYTES_MAX`].
    fn kept(&mut self, digest: &Digest) -> Result<Vec<u8>>;
    /// Makes `path` be `wanted`, whole or not at all, when it is as `expected` (`None`: nothing is there).
    fn place(&mut self, path: &HostPath, expected: Option<&FileState>, wanted: &FileState) -> Result<()>;
    /// Makes the file be `wanted` without replacing it, for files that daemons hold open: what was appended to
    /// `expected` in the meantime stays behind the wanted content. Gives what is there afterwards.
    fn write_in_place(&mut self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<FileState>;
    /// Makes a file that has other names be `wanted`, under all of them: its own inode is written. Refused unless it is
    /// the inode of both `expected` and `wanted`, and holds one of them or what an interrupted rewriting leaves.
    fn rewrite(&mut self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<()>;
    /// As [`System::place`], by another name for the file at `other`, when that is as `wanted`.
    fn link(
        &mut self,
        path: &HostPath,
        expected: Option<&FileState>,
        other: &HostPath,
        wanted: &FileState,
    ) -> Result<()>;
    /// Takes away the name when it is as `expected`. A directory must be empty.
    fn remove(&mut self, path: &HostPath, expected: &FileState) -> Result<()>;
    /// As many [`System::look`]s, in their order.
    fn look_many(&mut self, paths: &[&HostPath]) -> Vec<Result<Option<FileState>>> {
        paths.iter().map(|path| self.look(path)).collect()
    }
    /// As many [`System::capture`]s, in their order.
    fn capture_many(&mut self, paths: &[&HostPath]) -> Vec<Result<Option<FileState>>> {
        paths.iter().map(|path| self.capture(path)).collect()
    }
    /// Each whole or not at all, whatever becomes of the others; all that succeeded is on disk when this returns.
    fn place_many(&mut self, placings: &[Placing<'_>]) -> Vec<Result<()>> {
        let one = |placing: &Placing<'_>| match (placing.expected, placing.wanted) {
            (None, None) => Ok(()),
            (Some(expected), None) => self.remove(placing.path, expected),
            (expected, Some(wanted)) => self.place(placing.path, expected, wanted),
        };
        placings.iter().map(one).collect()
    }
    /// Clears what an interrupted `place` or `remove` left beside `path`; `known` are states that are safe in the keep.
    fn tidy(&mut self, path: &HostPath, known: &[&FileState]) -> Result<()>;
    /// Entries of a directory, sorted; empty when there is none. At most [`ENTRIES_MAX`].
    fn list(&mut self, directory: &HostPath) -> Result<Vec<(HostPath, FileKind)>>;

    /// `None` when no process has that pid.
    fn process(&mut self, pid: u32) -> Result<Option<ProcessState>>;
    /// Every process of the scope, at most [`PROCESSES_MAX`]; `out` is cleared first.
    fn processes(&mut self, out: &mut Vec<ProcessState>) -> Result<()>;
    /// Units of services that have one of these files open that have lost their names, as [`FileState::inode`] names them.
    fn holders(&mut self, _inodes: &[(u64, i64)]) -> Vec<String> {
        Vec::new()
    }
    /// Opens all of these and checks them in one look, so that [`System::signal`] looks at none of them again until the
    /// next call. Whoever does not pass is looked at when it is signalled. Nobody: let go of all.
    fn hold(&mut self, _processes: &[ProcessKey]) {}
    /// Why this process may never be signalled; `None` when it may. Where it was [`ProcessState::listed`], it still is.
    fn untouchable(&mut self, process: &ProcessState) -> Option<&'static str>;
    /// Opens the process, checks it is the one meant and may be touched, then signals it.
    fn signal(&mut self, process: ProcessKey, signal: Signal) -> Result<Delivered>;
    /// Saves what dies with a process: command line, maps, environment, directory, program, descriptors.
    /// Gives the digests of what was kept; empty when the process is gone.
    fn evidence(&mut self, process: ProcessKey) -> Result<Vec<(String, Digest)>>;

    fn unit(&mut self, unit: &str) -> Result<UnitState>;
    /// `unit` is empty for [`UnitVerb::DaemonReload`].
    fn control(&mut self, verb: UnitVerb, unit: &str) -> Result<()>;
    /// What was answered, in words.
    fn probe(&mut self, probe: &Probe) -> Result<String>;
    /// Runs a program in the scope: without a shell, with a deadline. Only what the configuration declares, or what this
    /// crate itself names.
    fn run(&mut self, command: &[&str], input: &[u8]) -> Result<Ran>;

    /// Whoever changes the scope's accounts by the rules (lckpwdf(3)) waits until this is dropped.
    fn hold_accounts(&mut self) -> Result<AccountsHeld>;

    /// Addresses that are blocked, each with how long that is still so.
    fn filtered(&mut self) -> Result<Vec<Blocked>>;
    /// From now such packets are dropped, until `time` is over, whatever becomes of us.
    fn filter(&mut self, address: IpAddr, extent: Extent, time: Duration) -> Result<()>;
    /// Ends that. False: it was not so.
    fn unfilter(&mut self, address: IpAddr, extent: Extent) -> Result<bool>;
    /// What the scope itself needs this address for (its own, its gateway, its name server); `None`: for nothing.
    fn needed(&mut self, address: IpAddr) -> Result<Option<String>>;
    /// Nobody reaches the scope and it reaches nobody from now for `time`, but for these; instead of any other isolation.
    fn isolate(&mut self, control: &[Network], time: Duration) -> Result<()>;
    /// For how long it still is so; `None`: it is not.
    fn isolated(&mut self, control: &[Network]) -> Result<Option<Duration>>;
    /// Ends the isolation. False: there was none.
    fn rejoin(&mut self) -> Result<bool>;
    /// Sends an empty datagram from within the scope's network.
    fn datagram(&mut self, address: IpAddr) -> Result<Sent>;

    /// What is at `path` without its content: kind, owner, mode, size, time. For files too large to be read.
    fn measure(&mut self, path: &HostPath) -> Result<Option<FileState>>;
    /// Deletes a regular file when it is as [`System::measure`] found it. It does not come back.
    fn free(&mut self, path: &HostPath, expected: &FileState) -> Result<()>;
}
