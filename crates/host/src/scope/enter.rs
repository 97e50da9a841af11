// SPDX-License-Identifier: Apache-2.0
//! A program inside a scope that is not the whole host: in all namespaces of the scope's first process, and with no
//! capability that this one could not have either.
//!
//! What the agent runs there (a configuration's test, `systemctl`) is a file of the scope's, so it is whatever the scope's
//! root made of it. nsenter(1) leaves whom it starts every capability: where the scope has no user namespace of its own,
//! that is the machine. So the agent starts itself, as `thymus inside`, a process of one thread that goes in, gives up what
//! the first process does not have, starts the program and waits for it. Not taken over: the first process's filter of
//! system calls.
//!
//! INVARIANT: what goes in is a sealed copy in memory, not the agent's file. Between fork and exec, and when the program is a
//! link to its own `/proc/self/exe`, the scope's root has a way to what runs there; where it is the machine's root, to write
//! to it (as with runc, CVE-2019-5736).
//!
//! Sources: setns(2), capabilities(7), pid_namespaces(7), user_namespaces(7), cgroups(7), memfd_create(2), fcntl(2).

use super::Scope;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{CapabilitySet, ThreadNameSpaceType};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Exit status of [`run`] when the program could not be started, as of a shell.
pub const NOT_STARTED: u8 = 127;

/// Capabilities that a kernel may know: the bits of `CapBnd` in proc(5).
const CAPABILITIES: u32 = 64;

const NAMESPACES: [(&str, ThreadNameSpaceType); 8] = [
    ("user", ThreadNameSpaceType::USER),
    ("mnt", ThreadNameSpaceType::MOUNT),
    ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ("net", ThreadNameSpaceType::NETWORK),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("time", ThreadNameSpaceType::TIME),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("process {0} is not the first of a pid namespace of its own, or is gone")]
    NotFirst(u32),
    #[error("the scope has no first process to go in by")]
    NoFirst,
    #[error("cannot copy the own program into memory: {0}")]
    Copy(io::Error),
    #[error("cannot {what} to run a program in the scope of process {leader}")]
    Enter {
        what: &'static str,
        leader: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot run `{}` in the scope", .program.display())]
    Start {
        program: OsString,
        #[source]
        source: io::Error,
    },
}

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The scope's first process, as the agent numbers it.
    pub leader: u32,
    /// Directory of the cgroup that the program is to be in, made if need be; `None`: the agent's own.
    pub cgroup: Option<PathBuf>,
    pub program: OsString,
    pub arguments: Vec<OsString>,
}

/// `program` in the scope, to be given arguments.
pub(crate) fn command(scope: &Scope, program: &str, cgroup: Option<&Path>) -> Result<Command, Error> {
    static COPY: Mutex<Option<OwnedFd>> = Mutex::new(None);
    if scope.is_whole_host() {
        return Ok(Command::new(program));
    }
    let leader = scope.leader().ok_or(Error::NoFirst)?;
    let mut copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    let copy = match &*copy {
        Some(copy) => copy.as_raw_fd(),
        None => copy.insert(sealed_copy(Path::new("/proc/self/exe")).map_err(Error::Copy)?).as_raw_fd(),
    };
    // It is closed only after the kernel has found the program by it.
    let mut command = Command::new(format!("/proc/self/fd/{copy}"));
    command.args(["inside", &leader.to_string()]);
    if let Some(cgroup) = cgroup {
        command.arg("--cgroup").arg(cgroup);
    }
    command.args(["--", program]);
    Ok(command)
}

/// Nobody can write to it, by whatever way it is opened.
fn sealed_copy(program: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match rustix::fs::memfd_create("thymus", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("thymus", flags), // before Linux 6.3
        made => made,
    };
    let mut copy = File::from(made?);
    io::copy(&mut File::open(program)?, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy.into())
}

/// Body of `thymus inside`: gives the exit status of the program, or 128 and the number of the signal that ended it. The
/// calling process must have one thread, and is part of the scope afterwards.
pub fn run(inside: &Inside) -> Result<u8, Error> {
    let leader = inside.leader;
    let failed = |what: &'static str| move |source: io::Error| Error::Enter { what, leader, source };
    let refused = |what: &'static str| move |errno: Errno| failed(what)(errno.into());
    // Held first: what is read of the number afterwards is of this process, or entering fails.
    let pid = i32::try_from(leader).ok().and_then(Pid::from_raw).ok_or(Error::NotFirst(leader))?;
    let held = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| Error::NotFirst(leader))?;
    let status = std::fs::read_to_string(format!("/proc/{leader}/status")).map_err(|_| Error::NotFirst(leader))?;
    let bounds = Bounds::parse(&status).ok_or(Error::NotFirst(leader))?;
    let namespaces = other_namespaces(leader).map_err(failed("read the namespaces"))?;
    let place = inside.cgroup.as_deref().map(|cgroup| Place::open(leader, cgroup)).transpose();
    let place = place.map_err(failed("open the cgroups"))?;

    if let Some(place) = &place {
        Place::join(&place.theirs).map_err(failed("join the cgroups"))?;
    }
    // Before the user namespace, where it may be forbidden.
    rustix::thread::set_thread_groups(&[]).map_err(refused("leave the supplementary groups"))?;
    enter(&held, namespaces).map_err(refused("enter the namespaces"))?;
    bounds.keep().map_err(refused("give up capabilities"))?;
    let mut command = Command::new(&inside.program);
    command.args(&inside.arguments).uid(0).gid(0).current_dir("/");
    let child = command.spawn();
    if let Some(place) = &place {
        // The program alone is to be found there. Where it cannot be left, this process is one that waits.
        let _ = Place::join(&place.own);
    }
    let mut child = child.map_err(|source| Error::Start { program: inside.program.clone(), source })?;
    let status = child.wait().map_err(failed("wait"))?;
    let signal = || status.signal().map_or(1, |signal| 128 + signal);
    Ok(u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(1))
}

fn enter(held: &OwnedFd, namespaces: ThreadNameSpaceType) -> rustix::io::Result<()> {
    use rustix::fd::AsFd;
    if namespaces.is_empty() { Ok(()) } else { rustix::thread::move_into_thread_name_spaces(held.as_fd(), namespaces) }
}

/// Those in which the process is and we are not: one's own user namespace cannot be entered again.
fn other_namespaces(leader: u32) -> io::Result<ThreadNameSpaceType> {
    let mut other = ThreadNameSpaceType::empty();
    for (name, kind) in NAMESPACES {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}"));
        match (of("self"), of(&leader.to_string())) {
            (Ok(own), Ok(theirs)) if own == theirs => {}
            (_, Ok(_)) => other |= kind,
            (Err(error), Err(_)) if error.kind() == io::ErrorKind::NotFound => {} // a kernel without such ones
            (_, Err(error)) => return Err(error),
        }
    }
    Ok(other)
}

/// What the first process can have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    capabilities: u64,
    no_new_privileges: bool,
}

impl Bounds {
    /// Of `/proc/PID/status`; `None`: it is not of a first process in a pid namespace below ours.
    fn parse(status: &str) -> Option<Self> {
        let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let mut numbers = of("NSpid")?.split_whitespace();
        if numbers.next().is_none() || numbers.next_back() != Some("1") {
            return None;
        }
        let capabilities = u64::from_str_radix(of("CapBnd")?, 16).ok()?;
        Some(Self { capabilities, no_new_privileges: of("NoNewPrivs") == Some("1") })
    }

    /// Whatever this process starts has no more.
    fn keep(self) -> rustix::io::Result<()> {
        for capability in (0..CAPABILITIES).filter(|bit| self.capabilities >> bit & 1 == 0) {
            match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << capability))
            {
                Ok(()) => {}
                Err(Errno::INVAL) => break, // beyond the last that this kernel knows
                Err(errno) => return Err(errno),
            }
        }
        // What is inheritable, root's programs get in spite of the bound.
        let sets = rustix::thread::capabilities(None)?;
        let inheritable = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, rustix::thread::CapabilitySets { inheritable, ..sets })?;
        rustix::thread::clear_ambient_capability_set()?;
        if self.no_new_privileges { rustix::thread::set_no_new_privs(true) } else { Ok(()) }
    }
}

/// Lists of processes of cgroups: writing to one moves who writes.
#[derive(Debug)]
struct Place {
    theirs: Vec<File>,
    own: Vec<File>,
}

impl Place {
    /// Below `cgroup`, and where hierarchies of the first version are mounted, with the first process: its limits are there.
    fn open(leader: u32, cgroup: &Path) -> io::Result<Self> {
        match std::fs::create_dir(cgroup) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let list = |directory: &Path| OpenOptions::new().write(true).open(directory.join("cgroup.procs"));
        let mut place = Self { theirs: vec![list(cgroup)?], own: Vec::new() };
        let memberships = |process: &str| std::fs::read_to_string(format!("/proc/{process}/cgroup"));
        let own = memberships("self")?;
        let unified = super::CGROUP_MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists());
        for (hierarchy, path) in lines(&own) {
            let mount = if hierarchy.is_empty() { unified.map(Path::to_owned) } else { first_version(hierarchy) };
            place.own.extend(mount.and_then(|mount| list(&below(&mount, path)).ok()));
        }
        for (hierarchy, path) in lines(&memberships(&leader.to_string())?).filter(|(name, _)| !name.is_empty()) {
            if let Some(mount) = first_version(hierarchy) {
                place.theirs.push(list(&below(&mount, path))?);
            }
        }
        Ok(place)
    }

    fn join(lists: &[File]) -> io::Result<()> {
        lists.iter().try_for_each(|mut list| list.write_all(b"0"))
    }
}

/// Hierarchy (empty: the unified one) and path of each line of `/proc/PID/cgroup`, see cgroups(7).
fn lines(memberships: &str) -> impl Iterator<Item = (&str, &str)> {
    memberships.lines().filter_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        Some((hierarchy.strip_prefix("name=").unwrap_or(hierarchy), path))
    })
}

/// Where such a hierarchy of the first version is mounted, if it is in the usual place.
fn first_version(hierarchy: &str) -> Option<PathBuf> {
    let mount = Path::new("/sys/fs/cgroup").join(hierarchy);
    mount.join("cgroup.procs").exists().then_some(mount)
}

fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_the_first_process_of_a_namespace_below_ours_is_gone_in_by() {
        let status = |ids: &str| format!("Name:\tinit\nNSpid:\t{ids}\nNoNewPrivs:\t1\nCapBnd:\t00000000a80425fb\n");
        let bounds = Bounds { capabilities: 0xa804_25fb, no_new_privileges: true };
        assert_eq!(Bounds::parse(&status("4711\t1")), Some(bounds));
        assert_eq!(Bounds::parse(&status("1")), None, "the machine's own");
        assert_eq!(Bounds::parse(&status("4711\t2")), None);
        assert_eq!(Bounds::parse(&status("")), None);
        assert_eq!(Bounds::parse("NSpid:\t4711\t1\n"), None, "what it may have is not known");
        let run = run(&Inside { leader: std::process::id(), cgroup: None, program: "true".into(), arguments: vec![] });
        assert!(matches!(run, Err(Error::NotFirst(_))));
    }

    #[test]
    fn the_copy_that_goes_in_runs_and_cannot_be_written_by_root() {
        let program = Path::new("/bin/true");
        let copy = sealed_copy(program).unwrap();
        let name = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert!(Command::new(&name).status().unwrap().success());
        let opened = OpenOptions::new().write(true).open(&name);
        assert!(opened.and_then(|mut opened| opened.write_all(b"#!/bin/sh\n")).is_err());
        assert!(OpenOptions::new().write(true).truncate(true).open(&name).is_err());
        assert_eq!(std::fs::read(&name).unwrap(), std::fs::read(program).unwrap());
    }

    #[test]
    fn memberships_are_read_as_the_kernel_writes_them() {
        let text = "5:pids:/twin\n2:cpu,cpuacct:/\n1:name=systemd:/a:b\n0::/unified/twin\nnonsense\n";
        let found: Vec<_> = lines(text).collect();
        assert_eq!(found, [("pids", "/twin"), ("cpu,cpuacct", "/"), ("systemd", "/a:b"), ("", "/unified/twin")]);
        assert_eq!(below(Path::new("/sys/fs/cgroup/pids"), "/twin"), Path::new("/sys/fs/cgroup/pids/twin"));
    }
}
