// SPDX-License-Identifier: Apache-2.0
//! Sensors: what the kernel reports becomes one sequence of [`Observed`] activities.
//!
//! Input: a BPF ring buffer (who, when, which call) and fanotify groups (which name). Output: activities in causal
//! order, each with its boot-clock time. Invariants: nothing here denies, delays or changes anything on the host;
//! every loss is counted and becomes an [`Activity::Loss`].

mod bounded;
mod calls;
mod file;
mod kernel;
pub mod log;
mod mounts;
mod names;
mod network;
mod process;
mod session;
pub mod wire;

pub(crate) use kernel::Members;
pub use kernel::WriteIntent;
pub(crate) use process::resolved;

use crate::scope::Scope;
use file::{Around, Files};
use kernel::{Programs, TaskIterator};
use mounts::Mounts;
use names::Names;
use network::Listeners;
use process::Processes;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use thymus_engine::event::{Activity, Loss};
use thymus_engine::{BootId, ProcessKey, Timestamp};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Scope(#[from] crate::scope::Error),
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

/// Room for more than 10,000 records of 144 bytes and a path or a few arguments; a build makes some 10,000 events a second. It is
/// mapped twice, and counts twice as resident.
pub const RING_BYTES: u32 = 4 << 20;

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: RING_BYTES, own_writes: false }
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
    /// The call can cut content off before anything is written: `O_TRUNC`, truncate, ftruncate.
    #[must_use]
    pub fn may_truncate(&self) -> bool {
        const FTRUNCATE: u32 = 77;
        match calls::class_of(self.nr) {
            Some(calls::Class::Open | calls::Class::Uring) => self.flags & 0o1000 != 0,
            Some(calls::Class::Truncate) => true,
            _ => self.nr == FTRUNCATE,
        }
    }

    /// The call may change content.
    #[must_use]
    pub fn may_write(&self) -> bool {
        const WRITES: u32 = 0o1 | 0o2 | 0o1000; // O_WRONLY, O_RDWR, O_TRUNC
        match calls::class_of(self.nr) {
            Some(calls::Class::Exec) => false,
            Some(calls::Class::Open | calls::Class::Uring) => self.flags & WRITES != 0,
            _ => true,
        }
    }
}

/// All sensors of one scope.
#[derive(Debug)]
pub struct Sensors {
    scope: Scope,
    programs: Programs,
    processes: Processes,
    listeners: Listeners,
    names: Names,
    files: Files,
    mounts: Mounts,
    /// Wakes for everything that the kernel tells.
    epoll: OwnedFd,
    /// Wakes only for what the first stop may depend on.
    urgent: OwnedFd,
    records: Vec<u8>,
    unreadable: u64,
    drained: Timestamp,
    drained_modified: Timestamp,
    mounts_read: Timestamp,
    checked: Timestamp,
    told: Losses,
}

/// fanotify's modifications are read this often when nothing asks for them.
const MODIFIED_EVERY_NS: u64 = 50_000_000;
/// The guarded host's mounts are looked at this often.
const MOUNTS_EVERY_NS: u64 = 1_000_000_000;
/// Losses are looked at this often.
const LOSSES_EVERY_NS: u64 = 100_000_000;
/// While something waits for its partner, [`Sensors::poll`] returns after this.
const JOIN_PAUSE: Duration = Duration::from_millis(2);
/// After a look, names are not looked at again for so long, and wake nobody: whoever acts pays for each wake-up, with more
/// than his act itself takes when the one woken has a real-time priority. What the first stop may depend on does not wait.
const NAMES_REST: Duration = Duration::from_millis(1);

impl Sensors {
    /// Loads, attaches and marks. Records only what happens in the scope; the filter runs in the kernel.
    pub fn start(scope: &Scope, options: Options) -> Result<Self, Error> {
        let scope = scope.watching()?;
        let programs = Programs::start(scope.cgroup_id(), options.ring_bytes)?;
        let tasks = TaskIterator::new().inspect_err(|error| tracing::debug!(%error, "no task iterator")).ok();
        let processes = Processes::new(&scope, tasks);
        let create = || {
            epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(|error| Error::Kernel { what: "create an epoll descriptor", source: error.into() })
        };
        let (epoll, urgent) = (create()?, create()?);
        // At the edge: a record that was to wake nobody does not do so by lying there.
        for epoll in [&epoll, &urgent] {
            watch(epoll, programs.readable(), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        }
        let files = Files::new(programs.write_intent(), options.own_writes);
        let time = now();
        let mut sensors = Self {
            scope,
            programs,
            processes,
            listeners: Listeners::default(),
            names: Names::new(),
            files,
            mounts: Mounts::default(),
            epoll,
            urgent,
            records: Vec::new(),
            unreadable: 0,
            drained: time,
            drained_modified: time,
            mounts_read: Timestamp(0),
            checked: time,
            told: Losses::default(),
        };
        sensors.follow_mounts(time)?;
        Ok(sensors)
    }

    /// Processes and sessions that were there already; listeners and connections come with the next [`Sensors::poll`]. Call
    /// once, before the first of these; what happens meanwhile is neither missed nor told twice.
    pub fn inventory(&mut self, out: &mut Vec<Observed>) -> Result<(), Error> {
        self.processes.inventory(&self.mounts, out)?;
        // As everything about the network, it may be missing.
        if let Err(error) = self.programs.tell_sockets() {
            tracing::warn!(%error, "connections and listeners from before are not known");
        }
        Ok(())
    }

    /// Waits up to `timeout` for something to happen and appends what did, in order.
    pub fn poll(&mut self, timeout: Duration, out: &mut Vec<Observed>) -> Result<(), Error> {
        let timeout = if self.files.is_waiting() { timeout.min(JOIN_PAUSE) } else { timeout };
        let rest = NAMES_REST.saturating_sub(Duration::from_nanos(now().since_ns(self.drained))).min(timeout);
        if rest.is_zero() || !wait(&self.urgent, rest)? {
            wait(&self.epoll, timeout - rest)?;
        }
        let time = now();
        let first = out.len();
        self.round(time, out)?;
        // Afterwards: what has happened does not wait for it.
        if time.since_ns(self.mounts_read) >= MOUNTS_EVERY_NS {
            self.follow_mounts(time)?;
        }
        if time.since_ns(self.checked) >= LOSSES_EVERY_NS {
            self.tell_losses(time, out);
            self.processes.forget(time);
        }
        out[first..].sort_by_key(|observed| observed.time);
        Ok(())
    }

    /// One look at everything: the ring buffer, the names, the ring buffer again (see `file.rs` for why).
    fn round(&mut self, time: Timestamp, out: &mut Vec<Observed>) -> Result<(), Error> {
        self.records.clear();
        self.programs.drain(&mut self.records)?;
        let scope = &self.scope;
        let truncated = |bytes| wire::record(bytes).is_some_and(|record| calls::is_truncation(record.head.class));
        let modified = self.files.wants_modified()
            || kernel::each(&self.records).any(truncated)
            || time.since_ns(self.drained_modified) >= MODIFIED_EVERY_NS;
        let reading = now();
        let mut named = Vec::new();
        self.names.drain(scope, modified, &mut named)?;
        let recorded = now();
        self.programs.drain(&mut self.records)?;
        let mut around = Around {
            scope,
            mounts: &self.mounts,
            names: &self.names,
            processes: &mut self.processes,
            drained: self.drained,
            recorded,
        };
        for bytes in kernel::each(&self.records) {
            let Some(record) = wire::record(bytes) else {
                self.unreadable += 1;
                continue;
            };
            match record.head.kind {
                wire::KIND_CALL | wire::KIND_OPEN | wire::KIND_WRITE | wire::KIND_READ => {
                    self.files.record(&record, &mut around, out)
                }
                wire::KIND_FLOW => {
                    if !self.listeners.record(&record, around.processes, around.mounts, out) {
                        self.unreadable += 1;
                    }
                }
                _ => around.processes.record(&record, around.mounts, out),
            }
        }
        self.files.join(named, &mut around, out);
        self.drained = reading;
        if modified {
            self.drained_modified = time;
        }
        Ok(())
    }

    /// The guarded host mounts and unmounts: its file systems are watched as they come.
    fn follow_mounts(&mut self, time: Timestamp) -> Result<(), Error> {
        self.mounts_read = time;
        let mounts = Mounts::read(&self.scope, self.mounts.leader())?;
        if mounts == self.mounts {
            return Ok(());
        }
        self.mounts = mounts;
        self.processes.follow(&self.mounts);
        self.names.follow(&self.scope, &self.mounts);
        for group in self.names.readable() {
            watch(&self.epoll, group.as_fd(), epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    fn tell_losses(&mut self, time: Timestamp, out: &mut Vec<Observed>) {
        let (now, before) = (self.losses(), self.told);
        let kinds = [
            ("process/ring-buffer", now.ring, before.ring),
            ("file/fanotify-overflow", now.fanotify, before.fanotify),
            ("sense/unreadable", now.unreadable, before.unreadable),
            ("sense/evicted", now.evicted, before.evicted),
        ];
        for (source, now, before) in kinds {
            if now > before {
                let loss = Loss { source: source.to_owned(), count: now - before, since: self.checked, until: time };
                out.push(Observed { time, activity: Activity::Loss(loss) });
            }
        }
        self.told = now;
        self.checked = time;
    }

    /// What never reached the engine, since start.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses {
            ring: self.programs.lost(),
            fanotify: self.names.overflows,
            unreadable: self.unreadable + self.names.unreadable + self.files.unreadable,
            evicted: self.processes.evicted() + self.files.evicted(),
        }
    }

    /// Each hook and whether the kernel took it.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        let mut hooks = self.programs.hooks.clone();
        hooks.extend(self.names.hooks());
        hooks
    }

    /// A handle for the vault's permission thread.
    #[must_use]
    pub fn write_intent(&self) -> WriteIntent {
        self.programs.write_intent()
    }
}

/// Whether anything came in time.
fn wait(epoll: &OwnedFd, timeout: Duration) -> Result<bool, Error> {
    let timeout = rustix::event::Timespec::try_from(timeout).ok();
    let mut ready = [const { MaybeUninit::<epoll::Event>::uninit() }; 1];
    match epoll::wait(epoll, &mut ready, timeout.as_ref()) {
        Ok((came, _)) => Ok(!came.is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Error::Kernel { what: "wait for the sensors", source: error.into() }),
    }
}

fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, wanted: epoll::EventFlags) -> Result<(), Error> {
    match epoll::add(epoll, fd, epoll::EventData::new_u64(0), wanted) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::Kernel { what: "watch a descriptor", source: error.into() }),
    }
}

/// What would attach, by a trial load; nothing stays.
#[must_use]
pub fn hooks_available(scope: &Scope) -> Vec<Hook> {
    let mut hooks = kernel::available(scope.cgroup_id());
    let mut names = Names::new();
    if let Ok(mounts) = Mounts::read(scope, None) {
        names.follow(scope, &mounts);
    }
    hooks.extend(names.hooks());
    hooks
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

/// The key of the process that has `pid` now, with its exact start time from the task iterator. `None`: there is none,
/// or the kernel refuses the iterator.
#[must_use]
pub fn process_key(pid: u32) -> Option<ProcessKey> {
    static TASKS: OnceLock<Option<Mutex<TaskIterator>>> = OnceLock::new();
    let tasks = TASKS.get_or_init(|| TaskIterator::new().ok().map(Mutex::new)).as_ref()?;
    let mut found = None;
    let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    let look = |record: &wire::Record<'_>| {
        if record.head.pid == pid {
            found = Some(process::key(pid, record.head.start));
        }
    };
    tasks.read(look).ok()?;
    found
}

/// What the kernel and `/proc` tell in words, of any bytes: mounts, environments, command lines, cgroups, crontabs.
pub(crate) fn fuzz_text(bytes: &[u8]) {
    use thymus_engine::event::{ARGUMENT_BYTES_MAX, ARGUMENTS_MAX};
    mounts::fuzz(bytes);
    let _ = session::peer(bytes);
    let _ = session::requester(bytes);
    let _ = session::unit(&String::from_utf8_lossy(bytes));
    let arguments = process::arguments(bytes);
    // A byte that is not UTF-8 becomes a character of three.
    assert!(arguments.len() <= ARGUMENTS_MAX && arguments.concat().len() <= 3 * ARGUMENT_BYTES_MAX);
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let path = resolved(one, other);
    assert!(path.starts_with(b"/") && !path.split(|byte| *byte == b'/').any(|part| part == b".."));
    let _ = crate::origin::runs(one, other);
}

pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    vec![
        b"36 35 7:9 /sub\\040dir /mnt/a\\134b rw,noatime shared:1 - ext4 /dev/loop9 rw\n22 1 0:20 / /proc rw - proc proc rw".into(),
        b"USER=alice\0SSH_CONNECTION=10.0.0.2 4711 10.0.0.1 22\0sh\0-c\0".into(),
        b"REMOTE_PORT=4711\0REMOTE_ADDR=2001:db8::7\0HTTP_REMOTE_ADDR=10.0.0.9".into(),
        b"user.slice/user-1000.slice/session-3.scope".into(),
        b"* * * * * root /usr/bin/x%body../../usr/bin/x".into(),
    ]
}
