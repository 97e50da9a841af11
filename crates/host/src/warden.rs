// SPDX-License-Identifier: Apache-2.0
//! A tiny process that outlives the agent and ends every lease.
//!
//! Input: the lease table, a file that the agent writes and the warden reads. Output: SIGCONT to what has lapsed.
//! Invariants: the warden holds no descriptor but the table and its own pidfds; the end of the agent ends no lease early,
//! only its deadline does; the warden ends when the agent is gone and no lease is left. It ignores what stops a service
//! (SIGTERM, SIGINT, SIGHUP): a unit for the agent should give it longer than one lease to end.

pub(crate) mod table;
#[cfg(test)]
mod tests;

pub use table::{LEASES_MAX, Leases};

use crate::system::{self, same_process};
use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use table::Lease;
use thymus_engine::{ProcessKey, Timestamp};

/// Time from one look at the table to the next: so much later than its deadline a lease ends at most.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// LIMIT: looks in which the warden tries to continue one process that refuses; 10 s.
const TRIES_MAX: u32 = 50;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} `{path}`")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the lease table holds {0} leases, its limit; nothing more can be suspended")]
    Full(usize),
}

/// The running warden, from the agent's side.
#[derive(Debug)]
pub struct Warden {
    program: PathBuf,
    table: PathBuf,
    child: Child,
}

impl Warden {
    /// Starts `program warden TABLE AGENT_PID` with nothing inherited. `program` is normally `/proc/self/exe`.
    pub fn start(program: &Path, table: &Path) -> Result<Self, Error> {
        drop(table::open(table)?); // it must be there, at its full size, when the warden looks
        let child = launch(program, table)?;
        Ok(Self { program: program.to_owned(), table: table.to_owned(), child })
    }

    /// Its pid, for the list of processes never to touch.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts it again when it has ended; call it about once a second. True when it had to be started.
    pub fn ensure(&mut self) -> Result<bool, Error> {
        let error = |source| Error::Io { doing: "wait for the warden", path: self.program.clone(), source };
        if self.child.try_wait().map_err(error)?.is_none() {
            return Ok(false);
        }
        self.child = launch(&self.program, &self.table)?;
        Ok(true)
    }
}

/// In a process group of its own, so that what a terminal sends to the agent's group does not reach it.
fn launch(program: &Path, table: &Path) -> Result<Child, Error> {
    let mut command = Command::new(program);
    command.arg0("thymus").arg("warden").arg(table).arg(std::process::id().to_string());
    command.env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|source| Error::Io { doing: "start the warden", path: program.to_owned(), source })
}

/// The warden's whole life: what the hidden subcommand `warden TABLE AGENT_PID` runs. It gives up every descriptor above
/// standard error and blocks the usual signals, so call it from nowhere else.
pub fn run(table: &Path, agent: u32) -> Result<(), Error> {
    shed_descriptors();
    // Best effort, each: without them the warden still does its work until somebody ends it.
    let _ = SigSet::all().thread_block();
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    serve(table, if parent == Some(agent) { open_process(agent) } else { None })
}

/// A leaked descriptor of the agent's (a permission group, a link to a kernel program) must not outlive it in here.
fn shed_descriptors() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        let _ = nix::unistd::close(descriptor); // that of the listing itself is closed already
    }
}

fn open_process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits until the agent ends, at most one interval. False when it has ended.
fn wait_for(agent: &OwnedFd) -> bool {
    let interval = Timespec { tv_sec: 0, tv_nsec: LOOK_INTERVAL.subsec_nanos().into() };
    !matches!(rustix::event::poll(&mut [PollFd::new(agent, PollFlags::IN)], Some(&interval)), Ok(1..))
}

/// `agent`: `None` when it is gone already.
fn serve(path: &Path, mut agent: Option<OwnedFd>) -> Result<(), Error> {
    let file = table::open(path)?;
    let (mut bytes, mut leases, mut rounds) = (Vec::new(), Vec::new(), Rounds::default());
    loop {
        // One warden without an agent is enough: it ends where another holds the lock, and lets go between two looks.
        let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        if agent.is_none() && !locked {
            return Ok(());
        }
        // A failed read leaves the leases as they were read last.
        let _ = table::read(&file, &mut bytes, &mut leases);
        let left = rounds.look(&leases, system::boot_time());
        match &agent {
            Some(running) if wait_for(running) => {}
            Some(_) => agent = None,
            None if left == 0 => return Ok(()),
            None => {
                unlock(&file);
                std::thread::sleep(LOOK_INTERVAL);
            }
        }
    }
}

fn unlock(file: &File) {
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock); // fails for no reason that we could mend
}

/// What the warden remembers from one look to the next.
#[derive(Debug, Default)]
struct Rounds {
    /// Continued already (or given up), by process: the deadline for which.
    done: BTreeMap<(u32, u64), Timestamp>,
    tries: BTreeMap<(u32, u64), u32>,
}

impl Rounds {
    /// Continues what has lapsed under every action that held it; how many processes that exist are still held.
    fn look(&mut self, leases: &[Lease], now: Timestamp) -> usize {
        let mut held: BTreeMap<(u32, u64), (ProcessKey, Timestamp)> = BTreeMap::new();
        for lease in leases {
            let entry = held.entry(table::identity(lease.process)).or_insert((lease.process, lease.until));
            entry.1 = entry.1.max(lease.until);
        }
        self.done.retain(|process, _| held.contains_key(process));
        self.tries.retain(|process, _| held.contains_key(process));
        let mut left = 0;
        for (identity, (process, until)) in held {
            if until > now {
                left += usize::from(is_there(process));
            } else if self.done.get(&identity) != Some(&until) {
                let tries = self.tries.entry(identity).or_default();
                *tries += 1;
                if resume(process).is_ok() || *tries >= TRIES_MAX {
                    self.tries.remove(&identity);
                    self.done.insert(identity, until);
                } else {
                    left += 1;
                }
            }
        }
        left
    }
}

/// Opens first, compares then: what is signalled is what was compared. A process that is gone needs nothing.
fn resume(process: ProcessKey) -> Result<(), rustix::io::Errno> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let opened = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        opened => opened?,
    };
    if !is_there(process) {
        return Ok(());
    }
    match rustix::process::pidfd_send_signal(&opened, Signal::CONT) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => sent,
    }
}

fn is_there(process: ProcessKey) -> bool {
    start_time(process.pid).is_some_and(|start_time| same_process(process, ProcessKey { start_time, ..process }))
}

/// Field 22 of `/proc/PID/stat`; the name before it may hold anything, so it is counted from the last parenthesis.
fn start_time(pid: u32) -> Option<Timestamp> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(Timestamp(ticks.saturating_mul(system::TICK_NS)))
}
