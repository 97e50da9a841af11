// SPDX-License-Identifier: Apache-2.0
//! The door onto a real Linux.
//!
//! Every path is opened component by component beneath the scope's root with `openat2(2)`: a symlink, a mount point or a way
//! out is refused. The parent directory is then held, and everything is done by name in it or on held descriptors.
//! KERNEL 5.6: openat2; KERNEL 5.3: pidfd_open.

use super::filter::{self, Filter};
use super::keep::Keep;
use super::supervise::Supervisor;
use super::{
    AccountsHeld, Blocked, CONTENT_BYTES_MAX, Delivered, Digest, Error, FileState, Life, PROCESSES_MAX, Probe,
    ProcessState, Ran, Result, Sent, Signal, System, TICK_NS, UnitState, UnitVerb, accounts, processes, room,
    same_process, services, tree,
};
use crate::scope::Acting;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use thymus_engine::action::Extent;
use thymus_engine::event::FileKind;
use thymus_engine::network::Network;
use thymus_engine::{HostPath, ProcessKey, Timestamp};

/// Declared commands (a test, a renewal) end within this time.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// LIMIT: processes held open at one time; of more, each is looked at by itself.
const HELD_MAX: usize = 256;

/// Acts on one scope, and only there.
#[derive(Debug)]
pub struct Linux<'a> {
    acting: Acting<'a>,
    keep: Keep,
    processes: processes::Reader,
    own_pid: u32,
    /// Ourselves, the warden: never signalled.
    never_touch: Vec<ProcessKey>,
    /// By pid; each passed every check after it was opened.
    held: Vec<(ProcessKey, OwnedFd)>,
    supervisor: Supervisor,
    seen: Vec<ProcessState>,
    #[cfg(test)]
    pub(in crate::system) fault: tree::Fault,
}

impl<'a> Linux<'a> {
    /// `keep`: the directory of the agent's state that holds what was moved away. `never_touch`: the warden; ourselves are
    /// always among them.
    pub fn new(acting: Acting<'a>, keep: &Path, never_touch: &[ProcessKey]) -> Result<Self> {
        Ok(Self {
            acting,
            keep: Keep::open(keep)?,
            processes: processes::Reader::new(acting.scope()),
            own_pid: std::process::id(),
            never_touch: never_touch.to_owned(),
            held: Vec::new(),
            supervisor: Supervisor::default(),
            seen: Vec::new(),
            #[cfg(test)]
            fault: tree::Fault::default(),
        })
    }

    /// What this store has need not be in the keep as well.
    #[must_use]
    pub fn upon(mut self, upstream: Box<dyn super::Upstream>) -> Self {
        self.keep.lean_on(upstream);
        self
    }

    /// Services that no service manager knows.
    #[must_use]
    pub fn with_supervisor(self, supervisor: Supervisor) -> Self {
        Self { supervisor, ..self }
    }

    /// Looks at processes through a kernel program from now on, for those who are in a hurry. The error: why the kernel
    /// refuses it; `/proc` is read then, which is slower.
    pub fn ask_the_kernel(&mut self) -> std::result::Result<(), String> {
        self.processes.ask_the_kernel(self.acting.scope())
    }

    #[must_use]
    pub fn acting(&self) -> Acting<'a> {
        self.acting
    }

    /// Opens the process and looks whether it is the one meant and may be touched; `None`: it is gone.
    fn check(&mut self, process: ProcessKey) -> Result<Option<OwnedFd>> {
        let Some(opened) = open(process.pid)? else { return Ok(None) };
        // Held from here: whatever pid that is, it cannot become another process.
        let Some(state) = self.processes.one(process.pid)?.filter(|state| is_living(state, process)) else {
            return Ok(None);
        };
        match self.untouchable(&state) {
            Some(why) => Err(Error::Untouchable { pid: process.pid, why }),
            None => Ok(Some(opened)),
        }
    }

    fn tree(&self) -> tree::Tree<'_> {
        tree::Tree {
            root: self.acting.scope().root(),
            keep: &self.keep,
            #[cfg(test)]
            fault: &self.fault,
        }
    }
}

impl System for Linux<'_> {
    fn now(&mut self) -> Timestamp {
        super::boot_time()
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn look(&mut self, path: &HostPath) -> Result<Option<FileState>> {
        self.tree().look(path, false)
    }

    fn capture(&mut self, path: &HostPath) -> Result<Option<FileState>> {
        let captured = self.tree().look(path, true)?;
        self.keep.settle()?;
        Ok(captured)
    }

    fn keep(&mut self, content: &[u8]) -> Result<Digest> {
        let (digest, _) = self.keep.put(&mut &content[..])?;
        self.keep.settle()?;
        Ok(digest)
    }

    fn has(&mut self, digest: &Digest) -> bool {
        self.keep.has(digest)
    }

    fn kept(&mut self, digest: &Digest) -> Result<Vec<u8>> {
        self.keep.get(digest, CONTENT_BYTES_MAX)
    }

    fn place(&mut self, path: &HostPath, expected: Option<&FileState>, wanted: &FileState) -> Result<()> {
        self.tree().place(path, expected, wanted)
    }

    fn look_many(&mut self, paths: &[&HostPath]) -> Vec<Result<Option<FileState>>> {
        self.tree().look_many(paths, false)
    }

    fn capture_many(&mut self, paths: &[&HostPath]) -> Vec<Result<Option<FileState>>> {
        let captured = self.tree().look_many(paths, true);
        match self.keep.settle() {
            Ok(()) => captured,
            Err(error) => {
                let why = error.in_words();
                let failed = |path: &&HostPath| Err(Error::Refused { path: (*path).clone(), why: why.clone() });
                paths.iter().map(failed).collect()
            }
        }
    }

    fn place_many(&mut self, placings: &[super::Placing<'_>]) -> Vec<Result<()>> {
        self.tree().place_many(placings)
    }

    fn write_in_place(&mut self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<FileState> {
        self.tree().write_in_place(path, expected, wanted)
    }

    fn rewrite(&mut self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<()> {
        self.tree().rewrite(path, expected, wanted)
    }

    fn link(
        &mut self,
        path: &HostPath,
        expected: Option<&FileState>,
        other: &HostPath,
        wanted: &FileState,
    ) -> Result<()> {
        self.tree().link(path, expected, other, wanted)
    }

    fn remove(&mut self, path: &HostPath, expected: &FileState) -> Result<()> {
        self.tree().remove(path, expected)
    }

    fn tidy(&mut self, path: &HostPath, known: &[&FileState]) -> Result<()> {
        self.tree().tidy(path, known)
    }

    fn list(&mut self, directory: &HostPath) -> Result<Vec<(HostPath, FileKind)>> {
        self.tree().list(directory)
    }

    fn process(&mut self, pid: u32) -> Result<Option<ProcessState>> {
        self.processes.one(pid)
    }

    fn processes(&mut self, out: &mut Vec<ProcessState>) -> Result<()> {
        out.clear();
        self.processes.all(out, PROCESSES_MAX)
    }

    fn holders(&mut self, inodes: &[(u64, i64)]) -> Vec<String> {
        let mut all = Vec::new();
        let listed = self.processes.all(&mut all, PROCESSES_MAX);
        // The vault reads on in it; there as a log that lost its name.
        all.retain(|process| process.key.pid != self.own_pid);
        if listed.is_ok() { processes::holders(&all, inodes) } else { Vec::new() }
    }

    fn untouchable(&mut self, process: &ProcessState) -> Option<&'static str> {
        if process.kernel {
            return Some("it is a kernel thread");
        }
        if process.key.pid == 1 || self.processes.leader() == Some(process.key.pid) {
            return Some("it is the init process of its namespace");
        }
        if process.key.pid == self.own_pid {
            return Some("it is Thymus itself");
        }
        if self.never_touch.iter().any(|key| same_process(*key, process.key)) {
            return Some("it is Thymus's own warden");
        }
        let inside = process.listed || self.processes.in_scope(process.key.pid);
        (!inside).then_some("it is outside the scope")
    }

    fn hold(&mut self, processes: &[ProcessKey]) {
        self.held.clear();
        if processes.is_empty() || !self.processes.is_quick() {
            return;
        }
        for process in processes.iter().take(HELD_MAX) {
            self.held.extend(open(process.pid).ok().flatten().map(|opened| (*process, opened)));
        }
        // Begun after all were opened: who is found in it with its start time is the process that its descriptor holds.
        let mut seen = std::mem::take(&mut self.seen);
        if self.processes(&mut seen).is_err() {
            seen.clear();
        }
        seen.sort_unstable_by_key(|state| state.key.pid);
        let mut held = std::mem::take(&mut self.held);
        held.retain(|(process, _)| {
            let found = seen.binary_search_by_key(&process.pid, |state| state.key.pid).map(|at| seen[at]);
            found.is_ok_and(|state| is_living(&state, *process) && self.untouchable(&state).is_none())
        });
        held.sort_unstable_by_key(|(process, _)| process.pid);
        (self.held, self.seen) = (held, seen);
    }

    fn signal(&mut self, process: ProcessKey, signal: Signal) -> Result<Delivered> {
        let held = self.held.binary_search_by_key(&process.pid, |(held, _)| held.pid);
        match held.ok().filter(|at| same_process(self.held[*at].0, process)) {
            Some(at) => send(&self.held[at].1, process.pid, signal),
            None => match self.check(process)? {
                Some(opened) => send(&opened, process.pid, signal),
                None => Ok(Delivered::Gone),
            },
        }
    }

    fn evidence(&mut self, process: ProcessKey) -> Result<Vec<(String, Digest)>> {
        processes::evidence(&mut self.processes, process, &self.keep)
    }

    fn unit(&mut self, unit: &str) -> Result<UnitState> {
        match self.supervisor.of(unit) {
            Some(_) => self.supervisor.state(self.acting.scope(), unit),
            None => services::show(self.acting.scope(), unit),
        }
    }

    fn control(&mut self, verb: UnitVerb, unit: &str) -> Result<()> {
        let scope = self.acting.scope();
        if self.supervisor.of(unit).is_none() {
            return services::control(scope, verb, unit);
        }
        match verb {
            UnitVerb::Start => self.supervisor.start(scope, unit),
            UnitVerb::Stop => self.supervisor.stop(scope, unit),
            UnitVerb::Restart | UnitVerb::Reload => self.supervisor.restart(scope, unit),
            UnitVerb::Enable | UnitVerb::Disable | UnitVerb::ResetFailed | UnitVerb::DaemonReload => Ok(()),
        }
    }

    fn probe(&mut self, probe: &Probe) -> Result<String> {
        services::probe(self.acting.scope(), probe)
    }

    fn run(&mut self, command: &[&str], input: &[u8]) -> Result<Ran> {
        services::run(self.acting.scope(), command, input, RUN_LIMIT)
    }

    fn hold_accounts(&mut self) -> Result<AccountsHeld> {
        accounts::hold(self.tree())
    }

    fn filtered(&mut self) -> Result<Vec<Blocked>> {
        Filter::open(self.acting)?.blocked()
    }

    fn filter(&mut self, address: IpAddr, extent: Extent, time: Duration) -> Result<()> {
        Filter::open(self.acting)?.block(address, extent, time)
    }

    fn unfilter(&mut self, address: IpAddr, extent: Extent) -> Result<bool> {
        Filter::open(self.acting)?.unblock(address, extent)
    }

    fn needed(&mut self, address: IpAddr) -> Result<Option<String>> {
        filter::needed(self.acting.scope(), address)
    }

    fn isolate(&mut self, control: &[Network], time: Duration) -> Result<()> {
        Filter::open(self.acting)?.isolate(control, time)
    }

    fn isolated(&mut self, control: &[Network]) -> Result<Option<Duration>> {
        Filter::open(self.acting)?.isolated(control)
    }

    fn rejoin(&mut self) -> Result<bool> {
        Filter::open(self.acting)?.rejoin()
    }

    fn datagram(&mut self, address: IpAddr) -> Result<Sent> {
        filter::datagram(self.acting, address)
    }

    fn measure(&mut self, path: &HostPath) -> Result<Option<FileState>> {
        room::measure(self.acting.scope().root(), path)
    }

    fn free(&mut self, path: &HostPath, expected: &FileState) -> Result<()> {
        room::free(self.acting.scope().root(), path, expected)
    }
}

fn failed(doing: &'static str, pid: u32, errno: Errno) -> Error {
    Error::Process { doing, pid, source: errno.into() }
}

/// `None`: no process has that pid.
fn open(pid: u32) -> Result<Option<OwnedFd>> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(errno) => Err(failed("open", pid, errno)),
    }
}

fn send(opened: &OwnedFd, pid: u32, signal: Signal) -> Result<Delivered> {
    let (number, doing) = match signal {
        Signal::Stop => (rustix::process::Signal::STOP, "stop"),
        Signal::Continue => (rustix::process::Signal::CONT, "continue"),
        Signal::Kill => (rustix::process::Signal::KILL, "kill"),
    };
    match pidfd_send_signal(opened, number) {
        Ok(()) => Ok(Delivered::Yes),
        Err(Errno::SRCH) => Ok(Delivered::Gone),
        Err(errno) => Err(failed(doing, pid, errno)),
    }
}

fn is_living(state: &ProcessState, process: ProcessKey) -> bool {
    same_process(state.key, process) && state.life != Life::Zombie
}

/// A start time in clock ticks, as `/proc/PID/stat` shows it, on the boot clock.
pub(super) fn ticks(count: u64) -> Timestamp {
    Timestamp(count.saturating_mul(TICK_NS))
}
