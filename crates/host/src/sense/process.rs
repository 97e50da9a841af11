// SPDX-License-Identifier: Apache-2.0
//! Processes: kernel records and the task iterator become process activities; late events find their process.

use super::bounded::Bounded;
use super::kernel::TaskIterator;
use super::mounts::{Mounts, below};
use super::session::{Sessions, Units, peer, requester};
use super::wire::{self, Record, RecordHead};
use super::{Error, Observed, boot_id};
use crate::scope::Scope;
use std::collections::BTreeSet;
use std::path::Path;
use thymus_engine::event::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, Activity, File, Process, ProcessActivity, ProcessActivityId, User,
};
use thymus_engine::{FileKey, HostPath, ProcessKey, Timestamp};

/// What happens so long after a process ended, or after one that no record tells of was looked at, may be another's: numbers
/// are given out in turn, and what a process closes at its end comes before the next round through all of them.
const REUSED_AFTER_NS: u64 = 5_000_000_000;
/// Who ended so long ago, or was looked at from outside of the scope, is forgotten: nothing of what it did is still to come.
const FORGOTTEN_AFTER_NS: u64 = 60_000_000_000;
/// So often is looked for these.
const FORGET_EVERY_NS: u64 = 10_000_000_000;
/// LIMIT: processes remembered, with those that ended not long ago.
const PROCESSES_MAX: usize = 32_768;
/// LIMIT: threads remembered.
const THREADS_MAX: usize = 65_536;

/// Who a kernel user is inside a user namespace, as user_namespaces(7) has it: inside, outside, count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct IdMap(Vec<(u32, u32, u32)>);

/// Shown for an id that the namespace does not have; the kernel does the same.
const OVERFLOW_ID: u32 = 65_534;

impl IdMap {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let number = |text: Option<&str>| text?.parse().ok();
        Self(
            text.lines()
                .filter_map(|line| {
                    let mut fields = line.split_whitespace();
                    Some((number(fields.next())?, number(fields.next())?, number(fields.next())?))
                })
                .collect(),
        )
    }

    fn inside(&self, outside: u32) -> u32 {
        if self.0.is_empty() || outside == u32::MAX {
            return outside;
        }
        let range = self.0.iter().find(|(_, first, count)| outside >= *first && outside - first < *count);
        range.map_or(OVERFLOW_ID, |(inside, first, _)| inside + (outside - first))
    }
}

#[derive(Clone, Debug)]
struct Known {
    process: Process,
    /// When its last thread ended.
    ended: Option<Timestamp>,
    /// Has been seen in the scope by the kernel's own filter.
    in_scope: bool,
    /// Uses io_uring: its file operations have no records of their own.
    uring: bool,
    /// What is older was told by the inventory.
    since: Timestamp,
}

impl Known {
    /// Whoever has its number at `time` may be another, of whose start no record told: one outside the scope.
    fn is_over(&self, time: Timestamp) -> bool {
        self.is_over_for(REUSED_AFTER_NS, time)
    }

    /// It ended, or was looked at last, longer ago than that.
    fn is_over_for(&self, ns: u64, time: Timestamp) -> bool {
        let last = match self.process.key.pid {
            own if own == std::process::id() => None,
            _ if self.in_scope => self.ended,
            _ => Some(self.since),
        };
        last.is_some_and(|last| time.since_ns(last) > ns)
    }
}

/// The process behind a file event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub(super) key: ProcessKey,
    /// A kernel record of its call is to be expected.
    pub(super) recorded: bool,
}

#[derive(Debug)]
pub(super) struct Processes {
    table: Bounded<u32, Known>,
    threads: Bounded<u32, ProcessKey>,
    tasks: Option<TaskIterator>,
    users: IdMap,
    groups: IdMap,
    sessions: Sessions,
    units: Units,
    /// When it was looked for processes to forget.
    forgot: Timestamp,
    /// The scope's cgroup as `/proc/PID/cgroup` shows it.
    cgroup: String,
    cgroup_tree: std::path::PathBuf,
}

impl Processes {
    pub(super) fn new(scope: &Scope, tasks: Option<TaskIterator>) -> Self {
        let tree = scope.cgroup_path();
        let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].iter().find_map(|mount| tree.strip_prefix(mount).ok());
        Self {
            table: Bounded::new(PROCESSES_MAX),
            threads: Bounded::new(THREADS_MAX),
            tasks,
            users: IdMap::default(),
            groups: IdMap::default(),
            sessions: Sessions::default(),
            units: Units::new(tree),
            forgot: Timestamp(0),
            cgroup: format!("/{}", mount.unwrap_or(Path::new("")).display()).trim_end_matches('/').to_owned(),
            cgroup_tree: tree.to_owned(),
        }
    }

    /// Lets go of who is over, now and then.
    pub(super) fn forget(&mut self, now: Timestamp) {
        if now.since_ns(self.forgot) < FORGET_EVERY_NS {
            return;
        }
        self.forgot = now;
        self.table.retain(|known| !known.is_over_for(FORGOTTEN_AFTER_NS, now));
        let table = &self.table;
        self.threads.retain(|key| table.peek(&key.pid).is_some_and(|known| known.process.key == *key));
    }

    /// The mounts were read again; the leader may be another.
    pub(super) fn follow(&mut self, mounts: &Mounts) {
        if let Some(pid) = mounts.leader() {
            self.users = IdMap::read(&format!("/proc/{pid}/uid_map"));
            self.groups = IdMap::read(&format!("/proc/{pid}/gid_map"));
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted + self.threads.evicted
    }

    fn user(&self, head: &RecordHead) -> User {
        User {
            uid: self.users.inside(head.uid),
            euid: self.users.inside(head.euid),
            gid: self.groups.inside(head.gid),
            login_uid: self.users.inside(head.login_uid),
        }
    }

    /// The process that a record is about. One that is not known yet is told first.
    pub(super) fn actor(&mut self, head: &RecordHead, mounts: &Mounts, out: &mut Vec<Observed>) -> ProcessKey {
        let key = key(head.pid, head.start);
        self.threads.insert(head.tid, key);
        let uring = head.kind == wire::KIND_URING;
        if let Some(known) = self.table.get_mut(&head.pid).filter(|known| known.process.key == key) {
            known.in_scope = true;
            known.uring |= uring;
            return key;
        }
        let mut process = self.learn(head.pid, mounts).filter(|process| process.key == key).unwrap_or_default();
        process.key = key;
        process.user = self.user(head);
        process.unit = self.units.name(head.cgroup, Timestamp(head.time));
        // The kernel told of it after it was there: as if it had been there from before.
        let (time, actor) = (Timestamp(head.time), process.parent);
        self.know(&process, true, uring, time);
        out.push(told(time, ProcessActivityId::Inventory, actor, process, None));
        key
    }

    fn know(&mut self, process: &Process, in_scope: bool, uring: bool, since: Timestamp) {
        let known = Known { process: process.clone(), ended: None, in_scope, uring, since };
        self.table.insert(process.key.pid, known);
        self.threads.insert(process.key.pid, process.key);
    }

    /// The process of a thread that fanotify names, which did something after `time`. One that nobody knows is told first.
    pub(super) fn of_thread(&mut self, tid: u32, time: Timestamp, mounts: &Mounts, out: &mut Vec<Observed>) -> Actor {
        if let Some(key) = self.threads.get(&tid).copied() {
            let known = self.table.get(&key.pid).filter(|known| known.process.key == key);
            if let Some(known) = known.filter(|known| !known.is_over(time)) {
                return Actor { key, recorded: known.in_scope && !known.uring };
            }
        }
        let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        let group = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse::<u32>().ok());
        let Some(process) = group.and_then(|pid| self.learn(pid, mounts)) else {
            return Actor { key: key(tid, 0), recorded: false };
        };
        let (key, in_scope) = (process.key, self.holds(process.key.pid));
        self.threads.insert(tid, key);
        let unknown = self.table.get(&key.pid).is_none_or(|known| known.process.key != key);
        self.know(&process, in_scope, false, time);
        if unknown {
            let actor = process.parent;
            out.push(told(time, ProcessActivityId::Inventory, actor, process, None));
        }
        Actor { key, recorded: in_scope }
    }

    /// Whether a live process is in the scope's cgroup.
    fn holds(&self, pid: u32) -> bool {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.is_some_and(|path| below(path.as_bytes(), self.cgroup.as_bytes()).is_some())
    }

    /// What can be found out about a live process. `None`: it is gone.
    fn learn(&mut self, pid: u32, mounts: &Mounts) -> Option<Process> {
        let mut found = None;
        self.tasks
            .as_ref()?
            .read(|record| {
                if record.head.pid == pid {
                    found = Some((record.head, record.path.to_vec(), record.base.to_vec()));
                }
            })
            .ok()?;
        let (head, path, base) = found?;
        Some(self.as_found(&head, &path, &base, mounts))
    }

    fn as_found(&mut self, head: &RecordHead, path: &[u8], base: &[u8], mounts: &Mounts) -> Process {
        let command = std::fs::read(format!("/proc/{}/cmdline", head.pid)).unwrap_or_default();
        let endpoint = std::fs::read(format!("/proc/{}/environ", head.pid)).ok().and_then(|text| peer(&text));
        Process {
            key: key(head.pid, head.start),
            parent: key(head.parent_pid, head.parent_start),
            file: (!path.is_empty()).then(|| program(head, path, mounts)),
            cmd_line: arguments(&command),
            working_directory: mounts.name(head.base_device, &wire::walked(base)),
            user: self.user(head),
            unit: self.units.name(head.cgroup, Timestamp(head.time)),
            socket_stdio: 0,
            fileless: head.flags & wire::FLAG_FILELESS != 0,
            origin: None,
            src_endpoint: endpoint,
        }
    }

    /// Everything that runs in the scope, parents first, and the sessions that are open.
    pub(super) fn inventory(&mut self, mounts: &Mounts, out: &mut Vec<Observed>) -> Result<(), Error> {
        let inside = self.members();
        let mut tasks = Vec::new();
        if let Some(iterator) = &self.tasks {
            iterator.read(|record| {
                let kernel_thread = record.path.is_empty() && record.head.pid != 1;
                if inside.contains(&record.head.pid) && !kernel_thread {
                    tasks.push((record.head, record.path.to_vec(), record.base.to_vec()));
                }
            })?;
        }
        tasks.sort_by_key(|(head, ..)| (head.start, head.pid));
        for (head, path, base) in &tasks {
            let process = self.as_found(head, path, base, mounts);
            self.know(&process, true, false, Timestamp(head.time));
            out.push(told(Timestamp(head.time), ProcessActivityId::Inventory, process.parent, process, None));
        }
        for (head, ..) in tasks {
            let Some(process) = self.table.get(&head.pid).map(|known| known.process.clone()) else { continue };
            let environment = std::fs::read(format!("/proc/{}/environ", head.pid)).unwrap_or_default();
            if let Some(logon) = self.logon(&process, None, &environment) {
                out.push(Observed { time: Timestamp(head.time), activity: Activity::Authentication(logon) });
            }
        }
        Ok(())
    }

    fn members(&self) -> BTreeSet<u32> {
        let (mut inside, mut pending) = (BTreeSet::new(), vec![self.cgroup_tree.clone()]);
        // LIMIT: cgroups of one host.
        for _ in 0..4_096 {
            let Some(directory) = pending.pop() else { break };
            let pids = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            inside.extend(pids.lines().filter_map(|line| line.parse::<u32>().ok()));
            let children = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            pending.extend(
                children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
        inside
    }

    fn logon(
        &mut self,
        process: &Process,
        before: Option<&Process>,
        environment: &[u8],
    ) -> Option<thymus_engine::event::Authentication> {
        let table = &mut self.table;
        let find = |key: ProcessKey| {
            table.get(&key.pid).filter(|known| known.process.key == key).map(|known| known.process.clone())
        };
        self.sessions.on_program(process, before, environment, find)
    }

    /// Takes one record about a process.
    pub(super) fn record(&mut self, record: &Record<'_>, mounts: &Mounts, out: &mut Vec<Observed>) {
        let head = &record.head;
        let time = Timestamp(head.time);
        if head.kind == wire::KIND_CGROUP {
            self.units.made(head.cgroup, record.text);
            return;
        }
        let fresh = head.kind == wire::KIND_EXEC && self.table.get(&head.pid).is_none();
        let actor = if fresh { key(head.pid, head.start) } else { self.actor(head, mounts, out) };
        let old = self.table.get(&head.pid).filter(|known| known.process.key == actor).cloned();
        if old.as_ref().is_some_and(|known| time <= known.since && head.kind != wire::KIND_EXIT) && !fresh {
            // The inventory, which came later, told what this led to; a child must still be told.
            let child = key(head.other_pid, head.other_start);
            let told = head.kind == wire::KIND_FORK
                && self.table.get(&child.pid).is_none_or(|known| known.process.key != child);
            if !told {
                return;
            }
        }
        match head.kind {
            wire::KIND_FORK => {
                let mut process = old.map(|known| known.process).unwrap_or_default();
                process.key = key(head.other_pid, head.other_start);
                process.parent = key(head.parent_pid, head.parent_start);
                process.user = self.user(head);
                process.unit = self.units.name(head.cgroup, time).or(process.unit);
                process.cmd_line.clear();
                process.origin = None;
                process.src_endpoint = None;
                if self.table.get(&process.key.pid).is_some_and(|known| known.process.key == process.key) {
                    return; // found by the inventory already
                }
                self.know(&process, true, false, Timestamp(0));
                out.push(told(time, ProcessActivityId::Fork, actor, process, None));
            }
            wire::KIND_EXEC => self.exec(record, old.map(|known| known.process), mounts, out),
            wire::KIND_EXIT => {
                let mut process = old.as_ref().map(|known| known.process.clone()).unwrap_or_default();
                if old.is_some_and(|known| known.ended.is_some()) {
                    return; // two last threads ended at once
                }
                process.key = actor;
                if let Some(known) = self.table.get_mut(&head.pid) {
                    known.ended = Some(time);
                }
                let code = i32::from_ne_bytes(head.value.to_ne_bytes());
                out.push(told(time, ProcessActivityId::Terminate, actor, process, Some(code)));
                if let Some(logoff) = self.sessions.on_exit(actor) {
                    out.push(Observed { time, activity: Activity::Authentication(logoff) });
                }
            }
            wire::KIND_CREDENTIALS => {
                let user = self.user(head);
                let Some(known) = self.table.get_mut(&head.pid) else { return };
                let changed = (known.process.user.uid, known.process.user.euid) != (user.uid, user.euid);
                known.process.user = user;
                if changed {
                    let process = known.process.clone();
                    out.push(told(time, ProcessActivityId::SetUserId, actor, process, None));
                }
            }
            wire::KIND_INJECT => {
                let target = self.target(record);
                let known = target.and_then(|pid| self.table.get(&pid)).map(|known| known.process.clone());
                let process = known.or_else(|| self.learn(target?, mounts));
                if let Some(process) = process.filter(|process| process.key != actor) {
                    out.push(told(time, ProcessActivityId::Inject, actor, process, None));
                }
            }
            _ => {}
        }
    }

    /// The pid, as we see it, that the caller named with its own namespace's number.
    fn target(&mut self, record: &Record<'_>) -> Option<u32> {
        let mut names = record.path.split(|byte| *byte == 0);
        let named = match names.next() {
            // `/proc/PID/mem` or `/proc/PID/task/TID/mem`; the number nearest to the file is a thread of the target
            Some(b"mem") => std::str::from_utf8(names.next()?).ok()?.parse::<u32>().ok()?,
            _ => record.head.value,
        };
        let depth = |pid: u32| numbers(pid).map(|numbers| numbers.len());
        if depth(record.head.pid).unwrap_or(1) <= 1 {
            let status = std::fs::read_to_string(format!("/proc/{named}/status")).ok()?;
            return status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
        }
        self.members()
            .into_iter()
            .find(|pid| numbers(*pid).is_some_and(|numbers| numbers.len() > 1 && numbers.last() == Some(&named)))
    }

    fn exec(&mut self, record: &Record<'_>, before: Option<Process>, mounts: &Mounts, out: &mut Vec<Observed>) {
        let head = &record.head;
        let time = Timestamp(head.time);
        let mut cmd_line = arguments(record.text);
        if cmd_line.is_empty() {
            // The stack's page was not there; a moment later it is.
            cmd_line = arguments(&std::fs::read(format!("/proc/{}/cmdline", head.pid)).unwrap_or_default());
        }
        let working_directory = mounts.name(head.base_device, &wire::walked(record.base));
        if head.flags & wire::FLAG_SCRIPT != 0 {
            let script = record.script.strip_suffix(b"\0").unwrap_or(record.script);
            let plain = String::from_utf8_lossy(script);
            let from = working_directory.as_ref().map_or(&b"/"[..], HostPath::as_bytes);
            let whole = resolved(from, script);
            if let Some(argument) = cmd_line.iter_mut().skip(1).find(|argument| **argument == plain) {
                *argument = String::from_utf8_lossy(&whole).into_owned();
            }
        }
        let mut environment = record.environment.to_vec();
        let process_key = key(head.pid, head.start);
        self.threads.insert(head.tid, process_key);
        let parent = key(head.parent_pid, head.parent_start);
        // A long environment hides the peer behind what the client sent along.
        if environment.len() >= 2_048 && peer(&environment).or_else(|| requester(&environment)).is_none() {
            environment = std::fs::read(format!("/proc/{}/environ", head.pid)).unwrap_or_default();
        }
        let mut process = Process {
            key: process_key,
            parent,
            file: Some(program(head, record.path, mounts)),
            cmd_line,
            working_directory,
            user: self.user(head),
            unit: self.units.name(head.cgroup, time),
            socket_stdio: u8::try_from(head.flags & wire::FLAG_STDIO).unwrap_or(0),
            fileless: head.flags & wire::FLAG_FILELESS != 0,
            origin: None,
            src_endpoint: None,
        };
        if before.is_none() && self.table.get(&parent.pid).is_none() {
            // Came into the scope from outside: whoever started it is told first.
            if let Some(above) = self.learn(parent.pid, mounts).filter(|above| above.key == parent) {
                let in_scope = self.holds(parent.pid);
                self.know(&above, in_scope, false, time);
                out.push(told(time, ProcessActivityId::Inventory, above.parent, above, None));
            }
        }
        let logon = self.logon(&process, before.as_ref(), &environment);
        if let Some(logon) = logon {
            process.src_endpoint.clone_from(&logon.src_endpoint);
            out.push(Observed { time, activity: Activity::Authentication(logon) });
        } else if peer(&environment).is_none() {
            process.src_endpoint = requester(&environment);
        }
        self.know(&process, true, false, Timestamp(0));
        out.push(told(time, ProcessActivityId::Exec, process_key, process, None));
    }
}

/// A process's numbers, outermost namespace first.
fn numbers(pid: u32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
}

pub(super) fn key(pid: u32, start: u64) -> ProcessKey {
    ProcessKey { boot: boot_id(), pid, start_time: Timestamp(start) }
}

fn told(
    time: Timestamp,
    activity: ProcessActivityId,
    actor: ProcessKey,
    process: Process,
    exit_code: Option<i32>,
) -> Observed {
    Observed { time, activity: Activity::Process(ProcessActivity { activity, actor, process, exit_code }) }
}

fn program(head: &RecordHead, path: &[u8], mounts: &Mounts) -> File {
    let within = wire::walked(path);
    let path = mounts.name(head.device, &within).unwrap_or_else(|| HostPath::new(&within));
    File { path, key: FileKey { device: head.device, inode: head.inode, generation: head.generation } }
}

pub(super) fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = &bytes[..bytes.len().min(ARGUMENT_BYTES_MAX)];
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|byte| *byte == 0)
        .take(ARGUMENTS_MAX)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// `path` as seen from `directory`, without `.` and `..`; symbolic links are not looked at.
pub(crate) fn resolved(directory: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let from = if path.first() == Some(&b'/') { &b""[..] } else { directory };
    for part in from.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let mut whole = Vec::with_capacity(directory.len() + path.len() + 1);
    for part in &parts {
        whole.push(b'/');
        whole.extend_from_slice(part);
    }
    if whole.is_empty() { b"/".to_vec() } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_used_long_ago_says_nothing_about_who_has_it_now() {
        let scope = Scope::cgroup(Path::new("/sys/fs/cgroup"), Path::new("/")).expect("a scope");
        let mut processes = Processes::new(&scope, None);
        let second = |second: u64| Timestamp(second * 1_000_000_000);
        // Beyond what the kernel gives out, so that nobody is there to be asked.
        let [ended, lives, stranger] = [1 << 30, (1 << 30) + 1, (1 << 30) + 2].map(|pid| key(pid, 7));
        for (key, in_scope) in [(ended, true), (lives, true), (stranger, false)] {
            let process = Process { key, ..Process::default() };
            processes.know(&process, in_scope, false, second(10));
        }
        processes.table.get_mut(&ended.pid).expect("known").ended = Some(second(10));
        let mut of = |known: ProcessKey, at: u64| {
            processes.of_thread(known.pid, second(at), &Mounts::default(), &mut Vec::new()).key == known
        };
        assert!(of(ended, 11) && of(lives, 11) && of(stranger, 11));
        assert!(of(lives, 4_000));
        assert!(!of(ended, 20) && !of(stranger, 20));
    }

    #[test]
    fn who_ended_a_while_ago_is_forgotten_with_all_threads_and_who_lives_is_not() {
        let scope = Scope::cgroup(Path::new("/sys/fs/cgroup"), Path::new("/")).expect("a scope");
        let mut processes = Processes::new(&scope, None);
        let second = |second: u64| Timestamp(second * 1_000_000_000);
        let [own, ended, lives, stranger] =
            [std::process::id(), 1 << 30, (1 << 30) + 1, (1 << 30) + 2].map(|pid| key(pid, 7));
        for (key, in_scope) in [(own, false), (ended, true), (lives, true), (stranger, false)] {
            let process = Process { key, ..Process::default() };
            processes.know(&process, in_scope, false, second(10));
            processes.threads.insert(key.pid + 1_000, key);
        }
        processes.table.get_mut(&ended.pid).expect("known").ended = Some(second(10));
        let known = |processes: &Processes| {
            [own, ended, lives, stranger].map(|key| {
                let threads = [key.pid, key.pid + 1_000].map(|tid| processes.threads.peek(&tid).is_some());
                assert_eq!(threads[0], threads[1]);
                assert_eq!(threads[0], processes.table.peek(&key.pid).is_some());
                threads[0]
            })
        };
        processes.forget(second(30));
        assert_eq!(known(&processes), [true; 4], "what they did may still be on its way");
        processes.forget(second(100));
        assert_eq!(known(&processes), [true, false, true, false]);
        assert_eq!(processes.evicted(), 0);
    }

    #[test]
    fn a_shifted_user_is_shown_as_the_namespace_has_it() {
        let map = IdMap(vec![(0, 655_360, 65_536)]);
        assert_eq!(map.inside(655_360), 0);
        assert_eq!(map.inside(656_360), 1_000);
        assert_eq!(map.inside(0), OVERFLOW_ID);
        assert_eq!(map.inside(u32::MAX), u32::MAX, "never set stays never set");
        assert_eq!(IdMap::default().inside(7), 7);
    }

    #[test]
    fn a_relative_script_is_named_from_its_directory() {
        assert_eq!(resolved(b"/home/alice", b"./x/../run.sh"), b"/home/alice/run.sh");
        assert_eq!(resolved(b"/home", b"/etc/../../bin/x"), b"/bin/x");
    }

    #[test]
    fn a_command_line_is_cut_at_its_limits() {
        assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(arguments(&[b'x'; 5_000])[0].len(), ARGUMENT_BYTES_MAX);
        assert!(arguments(b"").is_empty());
    }
}
