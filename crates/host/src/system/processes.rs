// SPDX-License-Identifier: Apache-2.0
//! Processes of a real Linux: all of a scope from the kernel's own list where it gives one, else from `/proc`.

use super::keep::Keep;
use super::linux::ticks;
use super::{Digest, Error, Life, ProcessState, Result, same_process};
use crate::scope::Scope;
use crate::sense::Members;
use crate::sense::wire::Member;
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use thymus_engine::{BootId, ProcessKey, Timestamp};

/// LIMIT: bytes saved of one file of `/proc/PID`, and of a program.
const EVIDENCE_BYTES_MAX: u64 = 4 << 20;
const PROGRAM_BYTES_MAX: u64 = 64 << 20;
/// LIMIT: descriptors named in the evidence of one process.
const DESCRIPTORS_MAX: usize = 1_024;
/// LIMIT: cgroups below the scope.
const CGROUPS_MAX: usize = 4_096;
/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

#[derive(Debug)]
pub(super) struct Reader {
    boot: BootId,
    proc: Option<OwnedFd>,
    /// `None`: the whole host. Else the cgroup's directory and its path as `/proc/PID/cgroup` shows it.
    cgroup: Option<(PathBuf, Vec<u8>)>,
    leader: Option<u32>,
    buffer: Vec<u8>,
    members: Option<Members>,
}

fn failed(doing: &'static str, pid: u32) -> impl Fn(Errno) -> Error {
    move |errno| Error::Process { doing, pid, source: errno.into() }
}

impl Reader {
    pub(super) fn new(scope: &Scope) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cgroup = (!scope.is_whole_host()).then(|| {
            let path = scope.cgroup_path();
            let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
            let below = mounts.iter().find_map(|mount| path.strip_prefix(mount).ok()).unwrap_or(path);
            (path.to_owned(), [b"/", below.as_os_str().as_encoded_bytes()].concat())
        });
        Self {
            boot: super::boot_id(),
            proc: rustix::fs::open("/proc", flags, Mode::empty()).ok(),
            cgroup,
            leader: scope.leader(),
            buffer: vec![0; 8_192],
            members: None,
        }
    }

    /// From now on the kernel's list of this scope is read. The error: why it gives none.
    pub(super) fn ask_the_kernel(&mut self, scope: &Scope) -> std::result::Result<(), String> {
        let cgroup = (!scope.is_whole_host()).then(|| scope.cgroup_id());
        self.members = Some(Members::new(cgroup).map_err(|error| super::in_words(&error))?);
        Ok(())
    }

    /// One look at everybody costs less than a few at one.
    pub(super) fn is_quick(&self) -> bool {
        self.members.is_some()
    }

    pub(super) fn leader(&self) -> Option<u32> {
        self.leader
    }

    /// Reads `/proc/PID/NAME` into the buffer; `None`: the process is gone.
    fn read(&mut self, pid: u32, name: &str) -> Result<Option<&[u8]>> {
        let proc = self.proc.as_ref().ok_or_else(|| failed("read /proc of", pid)(Errno::NOENT))?;
        let mut path = [0; 32];
        let mut rest = &mut path[..];
        // INVARIANT: ten digits and the names used here fit.
        let _ = write!(rest, "{pid}/{name}");
        let length = 32 - rest.len();
        let opened = rustix::fs::openat(proc, &path[..length], OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = match opened {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(failed("read /proc of", pid)(errno)),
        };
        match rustix::io::read(&file, &mut self.buffer[..]) {
            Ok(count) => Ok(Some(&self.buffer[..count])),
            Err(Errno::SRCH) => Ok(None),
            Err(errno) => Err(failed("read /proc of", pid)(errno)),
        }
    }

    pub(super) fn one(&mut self, pid: u32) -> Result<Option<ProcessState>> {
        let boot = self.boot;
        let Some(stat) = self.read(pid, "stat")? else { return Ok(None) };
        Ok(parse(stat, pid, boot))
    }

    pub(super) fn in_scope(&mut self, pid: u32) -> bool {
        let Some((_, wanted)) = self.cgroup.clone() else { return true };
        let Ok(Some(text)) = self.read(pid, "cgroup") else { return false };
        text.split(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_prefix(b"0::"))
            .any(|found| found.strip_prefix(&wanted[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
    }

    pub(super) fn all(&mut self, out: &mut Vec<ProcessState>, limit: usize) -> Result<()> {
        if let Some(members) = &mut self.members {
            match members.read() {
                Ok(found) => {
                    out.extend(found.take(limit).map(|member| state(&member, self.boot)));
                    return Ok(());
                }
                Err(error) => tracing::warn!(error = super::in_words(&error), "no list of processes: reading /proc"),
            }
        }
        let mut pids = Vec::with_capacity(512);
        match &self.cgroup {
            None => {
                let proc = self.proc.as_ref().ok_or_else(|| failed("list /proc for", 0)(Errno::NOENT))?;
                for entry in Dir::read_from(proc).map_err(failed("list /proc for", 0))? {
                    let entry = entry.map_err(failed("list /proc for", 0))?;
                    pids.extend(
                        std::str::from_utf8(entry.file_name().to_bytes())
                            .ok()
                            .and_then(|name| name.parse::<u32>().ok()),
                    );
                }
            }
            Some((directory, _)) => {
                let mut pending = vec![directory.clone()];
                for _ in 0..CGROUPS_MAX {
                    let Some(directory) = pending.pop() else { break };
                    let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
                    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
                    pending.extend(
                        entries
                            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                            .map(|entry| entry.path()),
                    );
                }
            }
        }
        for pid in pids.into_iter().filter(|pid| *pid != 0).take(limit) {
            out.extend(self.one(pid)?.map(|state| ProcessState { listed: true, ..state }));
        }
        Ok(())
    }
}

/// As the kernel's own list shows it.
fn state(member: &Member, boot: BootId) -> ProcessState {
    let life = match member.life {
        0 => Life::Runs,
        1 => Life::Stopped,
        _ => Life::Zombie,
    };
    let key = ProcessKey { boot, pid: member.pid, start_time: Timestamp(member.start) };
    ProcessState { key, parent: member.parent, life, kernel: member.kernel != 0, listed: true }
}

/// `/proc/PID/stat`, see proc(5). The program's name may hold spaces and parentheses: the last one ends it.
fn parse(stat: &[u8], pid: u32, boot: BootId) -> Option<ProcessState> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(end + 2..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let parent = number(0)?;
    // Group, session, tty_nr and tpgid; some may be negative.
    let flags = number(4)?;
    let threads = number(10)?;
    let start = number(1)?;
    let life = match state {
        "T" | "t" => Life::Stopped,
        "Z" | "X" if threads <= 1 => Life::Zombie,
        _ => Life::Runs,
    };
    let small = |number: u64| u32::try_from(number).ok();
    Some(ProcessState {
        key: ProcessKey { boot, pid, start_time: ticks(start) },
        parent: small(parent)?,
        life,
        kernel: flags & KERNEL_THREAD != 0,
        listed: false,
    })
}

/// See [`super::System::holders`].
pub(super) fn holders(processes: &[ProcessState], inodes: &[(u64, i64)]) -> Vec<String> {
    let pids = processes.iter().filter(|process| !process.kernel).map(|process| process.key.pid);
    let units = pids
        .filter(|pid| holds(*pid, inodes))
        .filter_map(|pid| service(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()));
    units.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Whether it has one of these files open, and no name leads there any more.
fn holds(pid: u32, inodes: &[(u64, i64)]) -> bool {
    let nanoseconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
    };
    let is_one = |found: &Metadata| {
        found.is_file() && found.nlink() == 0 && inodes.contains(&(found.ino(), found.created().map_or(0, nanoseconds)))
    };
    let descriptors =
        std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(DESCRIPTORS_MAX);
    descriptors.filter_map(|entry| std::fs::metadata(entry.path()).ok()).any(|found| is_one(&found))
}

/// The deepest service of a `/proc/PID/cgroup`: a scope's own cgroup may be below a unit of the host's.
fn service(cgroup: &str) -> Option<String> {
    let of = |line: &str| line.trim_end().rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned);
    cgroup.lines().find_map(of)
}

/// What dies with a process, into the keep.
pub(super) fn evidence(reader: &mut Reader, process: ProcessKey, keep: &Keep) -> Result<Vec<(String, Digest)>> {
    let is_the_one = |reader: &mut Reader| -> Result<bool> {
        Ok(reader.one(process.pid)?.is_some_and(|state| same_process(state.key, process)))
    };
    let mut saved = Vec::new();
    if !is_the_one(reader)? {
        return Ok(saved);
    }
    let base = PathBuf::from(format!("/proc/{}", process.pid));
    for name in ["cmdline", "status", "maps", "environ"] {
        // A kernel that hides one of them leaves the others.
        if let Ok(file) = std::fs::File::open(base.join(name)) {
            let (digest, _) = keep.put(&mut file.take(EVIDENCE_BYTES_MAX))?;
            saved.push((name.to_owned(), digest));
        }
    }
    let mut links = Vec::new();
    let descriptors = std::fs::read_dir(base.join("fd")).into_iter().flatten().flatten().take(DESCRIPTORS_MAX);
    let named = ["cwd", "exe", "root"].map(|name| base.join(name));
    for path in named.into_iter().chain(descriptors.map(|entry| entry.path())) {
        if let Ok(target) = std::fs::read_link(&path) {
            links.extend_from_slice(path.as_os_str().as_encoded_bytes());
            links.push(b' ');
            links.extend_from_slice(target.as_os_str().as_encoded_bytes());
            links.push(b'\n');
        }
    }
    saved.push(("links".to_owned(), keep.put(&mut &links[..])?.0));
    if let Ok(program) = std::fs::File::open(base.join("exe")) {
        saved.push(("exe".to_owned(), keep.put(&mut program.take(PROGRAM_BYTES_MAX))?.0));
    }
    // The pid went to another meanwhile: what was read may be the other's.
    if is_the_one(reader)? { Ok(saved) } else { Ok(Vec::new()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_program_name_does_not_confuse_the_reader() {
        let line = b"42 (a) S 1 (x) T 7 41 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9";
        let state = parse(line, 42, BootId(1)).unwrap();
        assert_eq!(state.parent, 7);
        assert_eq!((state.life, state.key.start_time), (Life::Stopped, ticks(12_345)));
        assert!(parse(b"42 (a", 42, BootId(1)).is_none());
        assert!(parse(b"42 (a) S 1", 42, BootId(1)).is_none());
    }

    #[test]
    fn who_holds_a_file_that_has_lost_its_name_is_known_by_the_service_it_is_in() {
        let scope = Scope::this_host(false).unwrap();
        let mut reader = Reader::new(&scope);
        let this = [reader.one(std::process::id()).unwrap().unwrap()];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let file = std::fs::File::create(&path).unwrap();
        let found = file.metadata().unwrap();
        let born = found.created().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let inode = (found.ino(), i64::try_from(born).unwrap());
        assert!(!holds(this[0].key.pid, &[inode]), "it has a name");
        std::fs::remove_file(&path).unwrap();
        assert!(holds(this[0].key.pid, &[inode]));
        assert!(!holds(this[0].key.pid, &[(inode.0, inode.1 + 1)]), "another file got its number");
        drop(file);
        assert!(!holds(this[0].key.pid, &[inode]));
        assert_eq!(service("0::/machine.slice/twin.service/system.slice/nginx.service\n").unwrap(), "nginx.service");
        assert_eq!(service("0::/user.slice/user-1000.slice/session-3.scope\n"), None);
    }

    #[test]
    fn this_process_is_read_as_it_is() {
        let scope = Scope::this_host(false).unwrap();
        let mut reader = Reader::new(&scope);
        let state = reader.one(std::process::id()).unwrap().unwrap();
        assert_eq!(state.parent, std::os::unix::process::parent_id());
        assert_eq!(state.life, Life::Runs);
        let mut all = Vec::new();
        reader.all(&mut all, 10_000).unwrap();
        assert!(all.iter().any(|found| found.key == state.key));
    }
}
