// SPDX-License-Identifier: Apache-2.0
//! The door onto a real Linux.
//!
//! Every path is opened component by component beneath the scope's root with `openat2(2)`: a symlink, a mount point or a way
//! out is refused. The parent directory is then held, and everything is done by name in it or on held descriptors.
//! KERNEL 5.6: openat2; KERNEL 5.3: pidfd_open.

use super::keep::Keep;
use super::{
    CONTENT_BYTES_MAX, Delivered, Digest, Error, FileState, Life, PROCESSES_MAX, Probe, ProcessState, Result, Signal,
    System, TICK_NS, UnitState, UnitVerb, processes, same_process, services, tree,
};
use crate::scope::Acting;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::time::Duration;
use thymus_engine::event::FileKind;
use thymus_engine::{HostPath, ProcessKey, Timestamp};

/// Acts on one scope, and only there.
#[derive(Debug)]
pub struct Linux<'a> {
    acting: Acting<'a>,
    keep: Keep,
    processes: processes::Reader,
    /// Ourselves, the warden: never signalled.
    never_touch: Vec<ProcessKey>,
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
            never_touch: never_touch.to_owned(),
            #[cfg(test)]
            fault: tree::Fault::default(),
        })
    }

    #[must_use]
    pub fn acting(&self) -> Acting<'a> {
        self.acting
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
        self.tree().look(path, true)
    }

    fn keep(&mut self, content: &[u8]) -> Result<Digest> {
        self.keep.put(&mut &content[..]).map(|(digest, _)| digest)
    }

    fn kept(&mut self, digest: &Digest) -> Result<Vec<u8>> {
        self.keep.get(digest, CONTENT_BYTES_MAX)
    }

    fn place(&mut self, path: &HostPath, expected: Option<&FileState>, wanted: &FileState) -> Result<()> {
        self.tree().place(path, expected, wanted)
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

    fn untouchable(&mut self, process: &ProcessState) -> Option<&'static str> {
        if process.kernel {
            return Some("it is a kernel thread");
        }
        if process.key.pid == 1 || self.processes.leader() == Some(process.key.pid) {
            return Some("it is the init process of its namespace");
        }
        if process.key.pid == std::process::id() {
            return Some("it is Thymus itself");
        }
        if self.never_touch.iter().any(|key| same_process(*key, process.key)) {
            return Some("it is Thymus's own warden");
        }
        (!self.processes.in_scope(process.key.pid)).then_some("it is outside the scope")
    }

    fn signal(&mut self, process: ProcessKey, signal: Signal) -> Result<Delivered> {
        let failed = |doing, errno: rustix::io::Errno| Error::Process { doing, pid: process.pid, source: errno.into() };
        let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(Delivered::Gone) };
        let held = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) => held,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(Delivered::Gone),
            Err(errno) => return Err(failed("open", errno)),
        };
        // Held from here: whatever pid that is, it cannot become another process.
        let Some(state) = self.processes.one(process.pid)? else { return Ok(Delivered::Gone) };
        if !same_process(state.key, process) || state.life == Life::Zombie {
            return Ok(Delivered::Gone);
        }
        if let Some(why) = self.untouchable(&state) {
            return Err(Error::Untouchable { pid: process.pid, why });
        }
        let (number, doing) = match signal {
            Signal::Stop => (rustix::process::Signal::STOP, "stop"),
            Signal::Continue => (rustix::process::Signal::CONT, "continue"),
            Signal::Kill => (rustix::process::Signal::KILL, "kill"),
        };
        match pidfd_send_signal(&held, number) {
            Ok(()) => Ok(Delivered::Yes),
            Err(rustix::io::Errno::SRCH) => Ok(Delivered::Gone),
            Err(errno) => Err(failed(doing, errno)),
        }
    }

    fn evidence(&mut self, process: ProcessKey) -> Result<Vec<(String, Digest)>> {
        processes::evidence(&mut self.processes, process, &self.keep)
    }

    fn unit(&mut self, unit: &str) -> Result<UnitState> {
        services::show(self.acting.scope(), unit)
    }

    fn control(&mut self, verb: UnitVerb, unit: &str) -> Result<()> {
        services::control(self.acting.scope(), verb, unit)
    }

    fn probe(&mut self, probe: &Probe) -> Result<String> {
        services::probe(self.acting.scope(), probe)
    }
}

/// A start time in clock ticks, as `/proc/PID/stat` shows it, on the boot clock.
pub(super) fn ticks(count: u64) -> Timestamp {
    Timestamp(count.saturating_mul(TICK_NS))
}
