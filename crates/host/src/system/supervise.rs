// SPDX-License-Identifier: Apache-2.0
//! Services that no service manager knows: a declared command that runs, and is started again when it does not.
//!
//! In: what the configuration declares. Out: the process of each, found again by pid and start time after a restart of the
//! agent, or by its command line where nothing is known of it. A process is started in its own session, as the declared
//! user, with an environment of its own and no descriptor of ours; it ends by SIGTERM, and by SIGKILL after a bounded time.

use super::processes::Reader;
use super::{Error, Life, ProcessState, Result, UnitState, same_process};
use crate::inventory::below::Below;
use crate::scope::{Scope, enter};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thymus_engine::{HostPath, ProcessKey};

/// [`UnitState::load`] of what is supervised here.
pub(crate) const SUPERVISED: &str = "supervised";
/// Who does not end by itself within this time is killed.
const TERM_LIMIT: Duration = Duration::from_secs(5);
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// A command that ends so soon after its start has not started.
const SETTLE: Duration = Duration::from_millis(300);
/// LIMIT: processes of one session that are ended.
const SESSION_MAX: usize = 1_024;
/// LIMIT: bytes of a process's command line that are compared.
const COMMAND_BYTES_MAX: u64 = 64 << 10;
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// One command that runs as a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervised {
    /// Absolute path of the program, and its arguments.
    pub command: Vec<String>,
    /// A user of the scope; root when it is empty.
    pub user: String,
    /// Where its output and errors are appended; `None`: nowhere.
    pub log: Option<HostPath>,
}

/// All of them. Clones share what is known.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Where it is written which process is whose; empty: nowhere.
    file: PathBuf,
    declared: BTreeMap<String, Supervised>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    processes: BTreeMap<String, Key>,
    /// Those that this run of the agent started, so that none stays a zombie.
    children: Vec<Child>,
}

/// As it is written down.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Key(ProcessKey);

fn failed(unit: &str, why: impl Into<String>) -> Error {
    Error::Unit { verb: "start", unit: unit.to_owned(), output: why.into() }
}

impl Supervisor {
    /// `file`: where it is kept which process is whose. One that cannot be read is as good as none: processes are found by
    /// their command lines then.
    #[must_use]
    pub fn open(file: &Path, declared: BTreeMap<String, Supervised>) -> Self {
        let text = std::fs::read(file).unwrap_or_default();
        let processes = serde_json::from_slice(&text).unwrap_or_default();
        let known = Mutex::new(Known { processes, children: Vec::new() });
        Self(Arc::new(Inner { file: file.to_owned(), declared, known }))
    }

    pub(crate) fn of(&self, unit: &str) -> Option<&Supervised> {
        self.0.declared.get(unit)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Changed in single steps.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The living process of a service; `None`: it does not run. One that nobody wrote down is known by its command line:
    /// the oldest that has it.
    pub(crate) fn process(&self, scope: &Scope, unit: &str) -> Result<Option<ProcessState>> {
        let Some(declared) = self.of(unit) else { return Ok(None) };
        let mut reader = Reader::new(scope);
        self.reap();
        let key = self.known().processes.get(unit).copied();
        if let Some(Key(key)) = key
            && let Some(state) = reader.one(key.pid)?.filter(|state| is_living(state, key) && reader.in_scope(key.pid))
        {
            return Ok(Some(state));
        }
        let mut all = Vec::new();
        reader.all(&mut all, super::PROCESSES_MAX)?;
        all.retain(|state| {
            !state.kernel && state.life != Life::Zombie && has_command(state.key.pid, &declared.command)
        });
        let Some(found) = all.into_iter().min_by_key(|state| state.key.start_time) else { return Ok(None) };
        self.remember(unit, found.key)?;
        Ok(Some(found))
    }

    pub(crate) fn state(&self, scope: &Scope, unit: &str) -> Result<UnitState> {
        let process = self.process(scope, unit)?;
        let active = if process.is_some() { "active" } else { "failed" };
        Ok(UnitState {
            load: SUPERVISED.to_owned(),
            active: active.to_owned(),
            file: String::new(),
            main_pid: process.map_or(0, |process| process.key.pid),
            can_reload: false,
        })
    }

    /// Whatever runs of it is ended first.
    pub(crate) fn restart(&self, scope: &Scope, unit: &str) -> Result<()> {
        self.stop(scope, unit)?;
        self.start(scope, unit)
    }

    /// Nothing when it runs.
    pub(crate) fn start(&self, scope: &Scope, unit: &str) -> Result<()> {
        let declared = self.of(unit).ok_or_else(|| failed(unit, "it is not declared"))?;
        if self.process(scope, unit)?.is_some() {
            return Ok(());
        }
        let cgroup = (!scope.is_whole_host()).then(|| scope.cgroup_path().join(format!("thymus-{unit}")));
        let mut command = self.command(scope, unit, declared, cgroup.as_deref())?;
        let mut child = command.spawn().map_err(|error| failed(unit, error.to_string()))?;
        let pid = match &cgroup {
            // What starts it becomes it: the same process, another program.
            None => Some(child.id()),
            Some(cgroup) => child_in(cgroup, &mut child, KILL_LIMIT),
        };
        let begun = pid.and_then(|pid| Reader::new(scope).one(pid).ok().flatten());
        if let Some(begun) = begun {
            self.remember(unit, begun.key)?;
        }
        let deadline = Instant::now() + SETTLE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(failed(unit, format!("`{}` ended at once: {status}", declared.command.join(" "))));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.known().children.push(child);
        Ok(())
    }

    /// Its whole session: SIGTERM to the first, SIGKILL to whoever is left.
    pub(crate) fn stop(&self, scope: &Scope, unit: &str) -> Result<()> {
        let Some(main) = self.process(scope, unit)? else { return Ok(()) };
        let mut reader = Reader::new(scope);
        let mut all = Vec::new();
        reader.all(&mut all, super::PROCESSES_MAX)?;
        // Only where it leads its session: another's session is not its own.
        let mut held: Vec<(ProcessKey, OwnedFd)> = Vec::new();
        let leads = session(main.key.pid) == Some(main.key.pid);
        let members = all.iter().filter(|state| leads && session(state.key.pid) == Some(main.key.pid));
        for state in std::iter::once(&main).chain(members).take(SESSION_MAX) {
            let new = held.iter().all(|(key, _)| key.pid != state.key.pid);
            if new && let Some(opened) = opened(&mut reader, state.key)? {
                held.push((state.key, opened));
            }
        }
        let gone = |reader: &mut Reader, key: ProcessKey| !matches!(reader.one(key.pid), Ok(Some(state)) if is_living(&state, key));
        let wait = |reader: &mut Reader, keys: &[ProcessKey], limit: Duration| {
            let deadline = Instant::now() + limit;
            loop {
                self.reap();
                if keys.iter().all(|key| gone(reader, *key)) {
                    return true;
                }
                if Instant::now() >= deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        if let Some((_, first)) = held.first() {
            // One that is stopped hears nothing else.
            for signal in [Signal::TERM, Signal::CONT] {
                let _ = pidfd_send_signal(first, signal); // gone is as good
            }
        }
        wait(&mut reader, &[main.key], TERM_LIMIT);
        for (_, member) in &held {
            let _ = pidfd_send_signal(member, Signal::KILL);
        }
        let keys: Vec<ProcessKey> = held.iter().map(|(key, _)| *key).collect();
        match wait(&mut reader, &keys, KILL_LIMIT) {
            true => Ok(()),
            false => Err(Error::Deadline { what: format!("the end of {unit}"), limit: TERM_LIMIT + KILL_LIMIT }),
        }
    }

    /// `cgroup`: where the service is to be found in a scope that is no whole host.
    fn command(&self, scope: &Scope, unit: &str, declared: &Supervised, cgroup: Option<&Path>) -> Result<Command> {
        let program = declared.command.first().filter(|program| program.starts_with('/'));
        let program = program.ok_or_else(|| failed(unit, "its command is no absolute path"))?;
        let user = if declared.user.is_empty() { "root" } else { &declared.user };
        let (uid, gid, home) =
            account(scope, user).ok_or_else(|| failed(unit, format!("there is no user `{user}`")))?;
        let outside = |error: enter::Error| failed(unit, error.to_string());
        let mut command = enter::command(scope, "setsid", cgroup).map_err(outside)?;
        if uid != 0 {
            let ids = ["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--init-groups", "--"];
            command.arg("setpriv").args(ids);
        }
        command.arg(program).args(&declared.command[1..]).current_dir("/").env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        command.env("USER", user).env("LOGNAME", user).env("HOME", home);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(path) = &declared.log {
            let log = log(scope, path)?;
            let again = log.try_clone().map_err(|source| Error::File { doing: "open", path: path.clone(), source })?;
            command.stdout(log).stderr(again);
        }
        Ok(command)
    }

    /// On disk before anybody rests on it.
    fn remember(&self, unit: &str, key: ProcessKey) -> Result<()> {
        let mut known = self.known();
        known.processes.insert(unit.to_owned(), Key(key));
        if self.0.file.as_os_str().is_empty() {
            return Ok(());
        }
        let write = || -> std::io::Result<()> {
            let new = self.0.file.with_extension("new");
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(&known.processes)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.0.file)
        };
        write().map_err(|source| {
            let path = HostPath::from(&*self.0.file.to_string_lossy());
            Error::File { doing: "write", path, source }
        })
    }

    fn reap(&self) {
        self.known().children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

fn is_living(state: &ProcessState, key: ProcessKey) -> bool {
    same_process(state.key, key) && state.key.boot == key.boot && state.life != Life::Zombie
}

/// Held first, then compared: from then on no other process can be meant.
fn opened(reader: &mut Reader, key: ProcessKey) -> Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(key.pid).ok().and_then(Pid::from_raw).filter(|pid| !pid.is_init()) else {
        return Ok(None);
    };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(None) };
    let state = reader.one(key.pid)?.filter(|state| is_living(state, key));
    Ok(state.filter(|_| reader.in_scope(key.pid)).map(|_| held))
}

/// 0 for kernel threads, which rustix's `getsid` takes for impossible.
fn session(pid: u32) -> Option<u32> {
    number(pid, Number::Session)
}

/// Places in `/proc/PID/stat`, see proc(5), counted from behind the program's name.
#[derive(Clone, Copy)]
enum Number {
    Parent = 1,
    Session = 3,
}

fn number(pid: u32, which: Number) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold anything.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&stat[after..]).ok()?.split_whitespace().nth(which as usize)?.parse().ok()
}

/// The command itself, or behind the interpreter that its first line names.
fn has_command(pid: u32, command: &[String]) -> bool {
    use std::io::Read;
    let mut line = Vec::new();
    let read =
        File::open(format!("/proc/{pid}/cmdline")).and_then(|file| file.take(COMMAND_BYTES_MAX).read_to_end(&mut line));
    if read.is_err() || line.is_empty() || command.is_empty() {
        return false;
    }
    let words: Vec<&[u8]> = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0).collect();
    let wanted: Vec<&[u8]> = command.iter().map(String::as_bytes).collect();
    let before = words.len().checked_sub(wanted.len());
    // An interpreter and one argument of its first line.
    words.ends_with(&wanted) && before.is_some_and(|before| before <= 2) && words.first() != Some(&&b"setsid"[..])
}

/// What it started in the scope; `None`: it has ended, or takes too long.
fn child_in(cgroup: &Path, starter: &mut Child, limit: Duration) -> Option<u32> {
    let (deadline, parent) = (Instant::now() + limit, starter.id());
    while Instant::now() < deadline && matches!(starter.try_wait(), Ok(None)) {
        let members = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        let mut members = members.lines().filter_map(|line| line.parse().ok());
        if let Some(child) = members.find(|member| number(*member, Number::Parent) == Some(parent)) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Numbers and home of a user of the scope.
fn account(scope: &Scope, user: &str) -> Option<(u32, u32, String)> {
    let below = Below::new(scope, Instant::now() + KILL_LIMIT);
    let passwd = below.read(b"/etc/passwd", PASSWD_BYTES_MAX).ok().flatten().unwrap_or_default();
    let line = String::from_utf8_lossy(&passwd).lines().find(|line| line.split(':').next() == Some(user))?.to_owned();
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?, (*fields.get(5)?).to_owned()))
}

/// No link on the way is followed, and what is no ordinary file is left alone.
fn log(scope: &Scope, path: &HostPath) -> Result<File> {
    let refused = |source: std::io::Error| Error::File { doing: "open the log", path: path.clone(), source };
    let beneath = path.as_bytes().strip_prefix(b"/").unwrap_or_default();
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(scope.root(), beneath, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP, resolve)
        .map_err(|errno| refused(errno.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| refused(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(Error::Refused { path: path.clone(), why: "it is no ordinary file with one name".to_owned() });
    }
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const UNIT: &str = "napper.service";

    struct House {
        place: tempfile::TempDir,
        scope: Scope,
        declared: Supervised,
    }

    impl House {
        /// A script whose name is nobody else's, and which says when it begins.
        fn new(script: &str) -> Self {
            let place = tempfile::Builder::new().prefix("thymus-supervise-").tempdir().unwrap();
            let program = place.path().join("napper");
            std::fs::write(&program, format!("#!/bin/sh\necho begun $USER $#\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let log = Some(HostPath::from(place.path().join("log").to_str().unwrap()));
            let command = vec![program.to_str().unwrap().to_owned(), "a b".to_owned()];
            let declared = Supervised { command, user: String::new(), log };
            Self { scope: Scope::this_host(true).unwrap(), place, declared }
        }

        fn supervisor(&self) -> Supervisor {
            Supervisor::open(&self.place.path().join("supervised"), [(UNIT.to_owned(), self.declared.clone())].into())
        }

        fn pid(&self, supervisor: &Supervisor) -> u32 {
            supervisor.process(&self.scope, UNIT).unwrap().map_or(0, |process| process.key.pid)
        }

        fn log(&self) -> String {
            std::fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
        }
    }

    impl Drop for House {
        fn drop(&mut self) {
            let _ = self.supervisor().stop(&self.scope, UNIT);
        }
    }

    fn signal(pid: u32, signal: Signal) {
        rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
    }

    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "timed out waiting until {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_declared_is_started_in_a_session_of_its_own_and_started_again_when_it_is_gone() {
        let house = House::new("exec sleep 4711");
        let supervisor = house.supervisor();
        assert_eq!(supervisor.state(&house.scope, UNIT).unwrap().active, "failed");
        supervisor.restart(&house.scope, UNIT).unwrap();
        let first = house.pid(&supervisor);
        assert_eq!((session(first), supervisor.state(&house.scope, UNIT).unwrap().main_pid), (Some(first), first));
        wait_until("it has begun", || house.log() == "begun root 1\n");
        let environment = std::fs::read(format!("/proc/{first}/environ")).unwrap();
        assert!(environment.split(|byte| *byte == 0).filter(|word| !word.is_empty()).count() <= 8, "an own one");
        supervisor.start(&house.scope, UNIT).unwrap();
        assert_eq!(house.pid(&supervisor), first, "it runs already");
        signal(first, Signal::KILL);
        wait_until("it is gone", || house.pid(&supervisor) == 0);
        assert_eq!(supervisor.state(&house.scope, UNIT).unwrap().active, "failed");
        supervisor.restart(&house.scope, UNIT).unwrap();
        assert!(![0, first].contains(&house.pid(&supervisor)));
        wait_until("it has begun again", || house.log() == "begun root 1\nbegun root 1\n");
    }

    #[test]
    fn one_that_hangs_is_ended_with_its_session_and_one_that_does_not_listen_is_killed() {
        let house = House::new("trap '' TERM\nsleep 4712 &\nwhile :; do sleep 1; done");
        let supervisor = house.supervisor();
        supervisor.restart(&house.scope, UNIT).unwrap();
        let first = house.pid(&supervisor);
        let mut reader = Reader::new(&house.scope);
        let mut all = Vec::new();
        wait_until("it has children", || {
            reader.all(&mut all, crate::system::PROCESSES_MAX).unwrap();
            all.retain(|state| session(state.key.pid) == Some(first));
            all.len() >= 2
        });
        signal(first, Signal::STOP);
        supervisor.restart(&house.scope, UNIT).unwrap();
        assert!(![0, first].contains(&house.pid(&supervisor)));
        for state in &all {
            let there = reader.one(state.key.pid).unwrap();
            assert!(!there.is_some_and(|there| is_living(&there, state.key)), "{} lives", state.key.pid);
        }
    }

    #[test]
    fn an_agent_that_starts_again_knows_the_process_by_its_start_or_by_its_command() {
        let house = House::new("while :; do sleep 1; done");
        let supervisor = house.supervisor();
        supervisor.restart(&house.scope, UNIT).unwrap();
        let first = house.pid(&supervisor);
        assert_eq!(house.pid(&house.supervisor()), first, "written down");
        std::fs::remove_file(house.place.path().join("supervised")).unwrap();
        assert_eq!(house.pid(&house.supervisor()), first, "nothing is written down: its command is known");
        // Another process under the same pid is not it.
        let other = r#"{"napper.service":{"boot":1,"pid":1,"start_time":1}}"#;
        std::fs::write(house.place.path().join("supervised"), other).unwrap();
        assert_eq!(house.pid(&house.supervisor()), first);
    }

    #[test]
    fn what_ends_at_once_or_cannot_be_started_is_said() {
        let mut house = House::new("exit 3");
        let refused = house.supervisor().restart(&house.scope, UNIT).unwrap_err().in_words();
        assert!(refused.contains("ended at once") && refused.contains('3'), "{refused}");
        house.declared.user = "no-such-user".to_owned();
        let refused = house.supervisor().restart(&house.scope, UNIT).unwrap_err().in_words();
        assert!(refused.contains("there is no user `no-such-user`"), "{refused}");
        house.declared.command[0] = "napper".to_owned();
        let refused = house.supervisor().restart(&house.scope, UNIT).unwrap_err().in_words();
        assert!(refused.contains("no absolute path"), "{refused}");
    }

    #[test]
    fn it_runs_as_the_declared_user() {
        let mut house = House::new("exec sleep 4713");
        std::fs::set_permissions(house.place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        if !rustix::process::geteuid().is_root() || account(&house.scope, "nobody").is_none() {
            return; // only root can become somebody else
        }
        house.declared.user = "nobody".to_owned();
        let supervisor = house.supervisor();
        supervisor.restart(&house.scope, UNIT).unwrap();
        wait_until("it has begun", || house.log() == "begun nobody 1\n");
        let (uid, gid, _) = account(&house.scope, "nobody").unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", house.pid(&supervisor))).unwrap();
        let ids = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(ids("Uid:"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
        assert_eq!(ids("Gid:"), format!("{gid}\t{gid}\t{gid}\t{gid}"));
    }
}
