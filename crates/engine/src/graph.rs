// SPDX-License-Identifier: Apache-2.0
//! Provenance: who caused what.
//!
//! Input: events, in order. Output: answers about processes, invocations and paths.
//!
//! Influence goes from parent to child, from a writer of a path's version to whoever executes that version, and from
//! a writer of an origin (crontab line, unit file, authorized key) to the invocation it started. Hubs (init, sshd's
//! listener, cron, web servers) pass none: their children begin an invocation of their own. Reads carry none.
//!
//! Everything is bounded. Repeated events add nothing; what is finished, has written nothing that is kept and belongs
//! to no incident goes first; each loss is counted. Forgetting those changes nothing that can be reached from what is
//! kept; forgetting a writer or a path may, and is counted apart.

mod file;
mod invocation;
mod table;
#[cfg(test)]
mod tests;

pub use file::{FileNode, WRITES_PER_PATH_MAX, Write};
pub(crate) use invocation::is_login_program;
pub use invocation::{Hub, Invocation, InvocationId};

use crate::event::{
    Activity, Authentication, Change, Event, FileActivity, FileActivityId, FileKind, Process, ProcessActivity,
    ProcessActivityId, User,
};
use crate::id::{FileKey, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use table::Table;

/// LIMIT: processes kept, alive or finished.
pub const PROCESSES_MAX: usize = 16_384;
/// LIMIT: paths kept with their writers.
pub const FILES_MAX: usize = 49_152;
/// LIMIT: invocations kept.
pub const INVOCATIONS_MAX: usize = 8_192;
/// LIMIT: bytes of a command line kept in the graph; the event has all of it.
pub const COMMAND_BYTES_MAX: usize = 256;
/// LIMIT: places looked at to find one entry to evict.
pub const EVICTION_LOOK_MAX: usize = 64;
/// A unit's next process joins the same start when the last one ended no longer ago than this; nanoseconds.
pub const UNIT_GAP_NS: u64 = 1_000_000_000;

/// The table sizes; the constants above in production, small ones in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub processes: usize,
    pub files: usize,
    pub invocations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processes: PROCESSES_MAX, files: FILES_MAX, invocations: INVOCATIONS_MAX }
    }
}

/// What was left out to stay within the limits, since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Events that added nothing new.
    pub compacted: u64,
    /// Finished processes forgotten; none of them had written what is kept.
    pub processes_evicted: u64,
    /// Finished processes forgotten although a kept path names them as writer.
    pub writers_evicted: u64,
    /// Paths forgotten, outside protected trees or gone again.
    pub files_evicted: u64,
    /// Paths below protected trees forgotten: what was done to them before can no longer be attributed.
    pub protected_evicted: u64,
    pub invocations_evicted: u64,
    /// Ended invocations forgotten although processes or writes name them.
    pub origins_evicted: u64,
    /// Nothing could be evicted, so these were not taken up.
    pub processes_refused: u64,
    pub files_refused: u64,
    /// Oldest writes of one path forgotten.
    pub writes_dropped: u64,
}

/// One program file (or script) that a process ran, and who had written it by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executed {
    pub path: HostPath,
    /// 0 outside protected trees.
    pub version: VersionId,
    pub writer: ProcessKey,
    pub invocation: InvocationId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessNode {
    pub key: ProcessKey,
    /// Who forked it; stays so when it is given to another parent later.
    pub parent: ProcessKey,
    pub exe: Option<HostPath>,
    pub file_key: FileKey,
    command: Arc<str>,
    pub working_directory: Option<HostPath>,
    pub user: User,
    pub unit: Option<Box<str>>,
    pub socket_stdio: u8,
    pub fileless: bool,
    /// When we first heard of it.
    pub seen: Timestamp,
    /// Last exec; `None` when it still runs its parent's program.
    pub executed: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub invocation: InvocationId,
    /// Its children begin invocations of their own.
    pub hub: Option<Hub>,
    /// Versions it ran that someone wrote since we watch; at most two (program and script).
    pub ran: Vec<Executed>,
    /// Others that took control of it, latest last; at most four.
    pub injected_by: Vec<ProcessKey>,
    children: u32,
    writes: u32,
    /// A finding rests on it: never evicted.
    pub(crate) pinned: bool,
    pub(crate) subject: Option<IncidentId>,
}

impl ProcessNode {
    #[must_use]
    pub fn alive(&self) -> bool {
        self.ended.is_none()
    }

    /// The first arguments, at most [`COMMAND_BYTES_MAX`] bytes together.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.command.split('\0').filter(|argument| !argument.is_empty())
    }

    /// It had done something before it became of interest.
    pub(crate) fn left_traces(&self) -> bool {
        self.writes > 0 || self.children > 0
    }

    /// Last component of the program's path; empty when unknown.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.exe.as_ref().map_or(b"", |exe| exe.file_name())
    }
}

/// Where unit files lie that a service manager reads, strongest first.
const UNIT_TREES: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];

/// First change of a path since we watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstSeen {
    pub time: Timestamp,
    pub by: ProcessKey,
    /// It did not exist before.
    pub created: bool,
}

/// What one event changed in the graph, for those who follow an attack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    /// A process was born, ran a program or got an origin.
    pub(crate) process: Option<ProcessKey>,
    /// Paths written, at most two.
    pub(crate) written: [Option<HostPath>; 2],
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Graph {
    limits: Limits,
    processes: Table<ProcessKey, ProcessNode>,
    files: Table<HostPath, FileNode>,
    invocations: Table<InvocationId, Invocation>,
    invocations_begun: u64,
    /// Running starts of units, by the manager that started them and the unit's name.
    units: BTreeMap<(ProcessKey, Box<str>), InvocationId>,
    /// What services are made of: who takes it away is remembered, though no version of it is.
    looked_after: BTreeSet<HostPath>,
    pub counters: Counters,
}

impl Graph {
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whoever asks keeps the number of paths within a limit.
    pub(crate) fn look_after(&mut self, paths: BTreeSet<HostPath>) {
        self.looked_after = paths;
    }

    #[must_use]
    pub fn process(&self, key: ProcessKey) -> Option<&ProcessNode> {
        self.processes.get(&key)
    }

    /// Ancestors, nearest first; at most `depth_max` of them. Stops where the graph knows no more.
    pub fn ancestors(&self, of: ProcessKey, depth_max: usize) -> impl Iterator<Item = &ProcessNode> {
        let parent = |node: &ProcessNode| self.process(node.parent).filter(|parent| parent.key != node.key);
        std::iter::successors(self.process(of).and_then(parent), move |node| parent(node)).take(depth_max)
    }

    #[must_use]
    pub fn invocation(&self, id: InvocationId) -> Option<&Invocation> {
        self.invocations.get(&id)
    }

    #[must_use]
    pub fn invocation_of(&self, key: ProcessKey) -> Option<&Invocation> {
        self.invocation(self.process(key)?.invocation)
    }

    #[must_use]
    pub fn file(&self, path: &HostPath) -> Option<&FileNode> {
        self.files.get(path)
    }

    /// Who last changed it since we watch, and to which version (0 outside protected trees).
    #[must_use]
    pub fn last_writer(&self, path: &HostPath) -> Option<(ProcessKey, VersionId)> {
        self.file(path)?.last().map(|write| (write.writer, write.last))
    }

    #[must_use]
    pub fn first_seen(&self, path: &HostPath) -> Option<FirstSeen> {
        let file = self.file(path)?;
        Some(FirstSeen { time: file.first_seen, by: file.first_writer, created: file.created })
    }

    /// Part of a confirmed attack.
    #[must_use]
    pub fn is_subject(&self, key: ProcessKey) -> bool {
        self.process(key).is_some_and(|process| process.subject.is_some())
    }

    /// The incidents to which writers of the path belong; of a writer that is forgotten, those of its invocation.
    pub(crate) fn incidents_of(&self, path: &HostPath) -> BTreeSet<IncidentId> {
        let of = |write: &Write| match self.process(write.writer) {
            Some(node) => node.subject,
            None => self.invocation(write.invocation).and_then(|found| found.subject),
        };
        self.file(path).map(|file| file.writes.iter().filter_map(of).collect()).unwrap_or_default()
    }

    /// Entries now: processes, files, invocations.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.processes.len(), self.files.len(), self.invocations.len())
    }

    /// Heap bytes of the graph now: tables, keys, command lines, chains. Shared paths are counted where they are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// Hash index entry with its load factor, allocator's rounding.
        const OVERHEAD: usize = 48;
        let processes: usize = (0..self.processes.places())
            .filter_map(|place| self.processes.at(place))
            .map(|(_, node)| {
                let paths = [&node.exe, &node.working_directory];
                let paths: usize = paths.into_iter().flatten().map(|path| path.as_bytes().len() + 32).sum();
                let ran = node.ran.capacity() * size_of::<Executed>() + node.injected_by.capacity() * 24;
                paths + ran + node.command.len() + node.unit.as_ref().map_or(0, |unit| unit.len() + 16)
            })
            .sum();
        let files: usize = (0..self.files.places())
            .filter_map(|place| self.files.at(place))
            .map(|(path, node)| path.as_bytes().len() + 32 + node.writes.capacity() * size_of::<Write>())
            .sum();
        processes
            + files
            + self.processes.places() * (size_of::<Option<(ProcessKey, ProcessNode)>>() + OVERHEAD)
            + self.files.places() * (size_of::<Option<(HostPath, FileNode)>>() + OVERHEAD)
            + self.invocations.places() * (size_of::<Option<(InvocationId, Invocation)>>() + OVERHEAD + 64)
    }

    // ---- for those who follow an attack ----

    pub(crate) fn process_places(&self) -> usize {
        self.processes.places()
    }

    pub(crate) fn process_at(&self, place: usize) -> Option<&ProcessNode> {
        self.processes.at(place).map(|(_, node)| node)
    }

    pub(crate) fn file_places(&self) -> usize {
        self.files.places()
    }

    pub(crate) fn file_at(&self, place: usize) -> Option<(&HostPath, &FileNode)> {
        self.files.at(place)
    }

    pub(crate) fn process_mut(&mut self, key: ProcessKey) -> Option<&mut ProcessNode> {
        self.processes.get_mut(&key)
    }

    pub(crate) fn invocation_mut(&mut self, id: InvocationId) -> Option<&mut Invocation> {
        self.invocations.get_mut(&id)
    }

    pub(crate) fn file_mut(&mut self, path: &HostPath) -> Option<&mut FileNode> {
        self.files.get_mut(path)
    }

    /// The path is clean from here on: what was written before is nobody's any more.
    pub(crate) fn forget_writes(&mut self, path: &HostPath) {
        let Some(file) = self.files.remove(path) else { return };
        for write in &file.writes {
            self.release(write.writer, write.invocation);
        }
    }

    /// What was written until `until` is settled: the path was put in order then. What came later stays.
    pub(crate) fn settle_writes(&mut self, path: &HostPath, until: Timestamp) {
        let Some(file) = self.files.get_mut(path) else { return };
        let later = file.writes.iter().filter(|write| write.until > until).cloned().collect();
        let settled = std::mem::replace(&mut file.writes, later);
        let empty = file.writes.is_empty();
        for write in settled.iter().filter(|write| write.until <= until) {
            self.release(write.writer, write.invocation);
        }
        if empty {
            self.files.remove(path);
        }
    }

    // ---- taking events in ----

    /// Takes one event in. `ours` are the agent's own processes: what they write has no author here.
    pub(crate) fn observe(&mut self, event: &Event, ours: &[ProcessKey]) -> Noted {
        match &event.activity {
            Activity::Process(activity) => self.observe_process(event.time, activity),
            Activity::File(activity) if !ours.contains(&activity.actor) => self.observe_file(event.time, activity),
            Activity::Authentication(activity) => self.observe_authentication(activity),
            Activity::File(_)
            | Activity::Content(_)
            | Activity::Loss(_)
            | Activity::Finding(_)
            | Activity::Incident(_)
            | Activity::Remediation(_) => Noted::default(),
        }
    }

    fn observe_process(&mut self, time: Timestamp, activity: &ProcessActivity) -> Noted {
        let process = &activity.process;
        let key = process.key;
        match activity.activity {
            ProcessActivityId::Fork => {
                self.born(time, process, activity.actor);
                Noted { process: Some(key), ..Noted::default() }
            }
            ProcessActivityId::Exec => {
                if !self.processes.contains(&key) {
                    self.born(time, process, process.parent);
                }
                self.ran(time, process);
                Noted { process: Some(key), ..Noted::default() }
            }
            ProcessActivityId::Inventory => {
                if self.processes.contains(&key) {
                    self.counters.compacted += 1;
                    return Noted::default();
                }
                self.born(time, process, process.parent);
                self.ran(time, process);
                Noted { process: Some(key), ..Noted::default() }
            }
            ProcessActivityId::SetUserId => {
                if let Some(node) = self.processes.get_mut(&key) {
                    node.user = process.user;
                }
                self.learn(key, process);
                Noted::default()
            }
            ProcessActivityId::Inject => {
                if let Some(node) = self.processes.get_mut(&key)
                    && activity.actor != key
                    && !node.injected_by.contains(&activity.actor)
                {
                    if node.injected_by.len() >= 4 {
                        node.injected_by.remove(0);
                    }
                    node.injected_by.push(activity.actor);
                }
                Noted::default()
            }
            ProcessActivityId::Terminate => {
                self.ended(time, key);
                Noted::default()
            }
        }
    }

    fn born(&mut self, time: Timestamp, process: &Process, parent: ProcessKey) {
        let key = process.key;
        if self.processes.contains(&key) {
            self.counters.compacted += 1;
            return;
        }
        if self.processes.len() >= self.limits.processes && !self.evict_process() {
            self.counters.processes_refused += 1;
            return;
        }
        let inherited = self.processes.get(&parent);
        let begins = match inherited {
            Some(parent) => {
                parent.hub.filter(|hub| *hub != Hub::Server && parent.subject.is_none()).map(|hub| match hub {
                    Hub::Manager => InvocationKind::Unit(String::new()),
                    Hub::Login => InvocationKind::Session,
                    Hub::Cron => InvocationKind::Cron,
                    Hub::Server => InvocationKind::Request,
                })
            }
            None => Some(match &process.unit {
                Some(unit) if is_service(unit) => InvocationKind::Unit(unit.clone()),
                Some(_) | None => InvocationKind::Other,
            }),
        };
        let node = ProcessNode {
            key,
            parent,
            exe: inherited.and_then(|parent| parent.exe.clone()),
            file_key: inherited.map(|parent| parent.file_key).unwrap_or_default(),
            command: inherited.map_or_else(|| Arc::from(""), |parent| parent.command.clone()),
            working_directory: inherited.and_then(|parent| parent.working_directory.clone()),
            user: process.user,
            unit: process.unit.as_deref().map(Into::into),
            socket_stdio: process.socket_stdio,
            fileless: process.fileless,
            seen: time,
            executed: None,
            ended: None,
            invocation: inherited.map(|parent| parent.invocation).unwrap_or_default(),
            // A worker forked by a server is the server still.
            hub: inherited.and_then(|parent| parent.hub).filter(|hub| *hub == Hub::Server),
            ran: inherited.map(|parent| parent.ran.clone()).unwrap_or_default(),
            injected_by: Vec::new(),
            children: 0,
            writes: 0,
            pinned: false,
            subject: None,
        };
        let invocation = node.invocation;
        self.processes.insert(key, node);
        if let Some(parent) = self.processes.get_mut(&parent)
            && parent.key != key
        {
            parent.children += 1;
        }
        match begins {
            Some(kind) => self.begin(time, key, kind, parent),
            None => self.join(key, invocation),
        }
    }

    fn begin(&mut self, time: Timestamp, leader: ProcessKey, kind: InvocationKind, manager: ProcessKey) {
        if let InvocationKind::Unit(unit) = &kind
            && !unit.is_empty()
            && let Some(running) = self.running_start(time, manager, unit)
        {
            self.join(leader, running);
            return;
        }
        if self.invocations.len() >= self.limits.invocations {
            self.evict_invocation();
        }
        self.invocations_begun += 1;
        let id = InvocationId(self.invocations_begun);
        if let InvocationKind::Unit(unit) = &kind
            && !unit.is_empty()
        {
            self.units.insert((manager, unit.as_str().into()), id);
        }
        let invocation = Invocation {
            kind,
            leader,
            started: time,
            ended: None,
            login_uid: None,
            src_endpoint: None,
            origin: None,
            origin_writer: None,
            suspect: false,
            subject: None,
            pinned: false,
            manager,
            alive: Vec::new(),
            references: 0,
        };
        self.invocations.insert(id, invocation);
        self.join(leader, id);
    }

    /// The start of this unit that still runs, or ended a moment ago (between `ExecStartPre` and `ExecStart`).
    fn running_start(&mut self, time: Timestamp, manager: ProcessKey, unit: &str) -> Option<InvocationId> {
        let name = (manager, unit.into());
        let id = *self.units.get(&name)?;
        let fresh = self
            .invocations
            .get(&id)
            .is_some_and(|invocation| invocation.ended.is_none_or(|ended| time.since_ns(ended) < UNIT_GAP_NS));
        if !fresh {
            self.units.remove(&name);
        }
        fresh.then_some(id)
    }

    fn join(&mut self, key: ProcessKey, id: InvocationId) {
        if let Some(invocation) = self.invocations.get_mut(&id) {
            invocation.references += 1;
            invocation.ended = None;
            invocation.alive.push(key);
        }
        if let Some(node) = self.processes.get_mut(&key) {
            node.invocation = id;
        }
    }

    fn leave(&mut self, time: Timestamp, key: ProcessKey, id: InvocationId) {
        let Some(invocation) = self.invocations.get_mut(&id) else { return };
        if let Some(at) = invocation.alive.iter().rposition(|alive| *alive == key) {
            invocation.alive.remove(at);
        }
        if invocation.alive.is_empty() {
            invocation.ended = Some(time);
        }
    }

    fn ran(&mut self, time: Timestamp, process: &Process) {
        let key = process.key;
        let Some(node) = self.processes.get(&key) else { return };
        let (id, forked_by, was_hub) = (node.invocation, node.parent, node.hub);
        let exe = process.file.as_ref().map(|file| file.path.clone());
        let mut ran = Vec::new();
        for path in exe.iter().cloned().chain(script(process)) {
            if let Some(write) = self.files.get(&path).and_then(FileNode::last).filter(|write| !write.removed) {
                let version = write.last;
                ran.push(Executed { path, version, writer: write.writer, invocation: write.invocation });
            }
        }
        let kind = self.invocations.get(&id).map_or(InvocationKind::Other, |invocation| invocation.kind.clone());
        let hosts = matches!(kind, InvocationKind::Unit(_) | InvocationKind::Other);
        let hub = exe.as_ref().and_then(Hub::of).filter(|_| hosts);
        let mut command = String::new();
        for argument in &process.cmd_line {
            let room = COMMAND_BYTES_MAX.saturating_sub(command.len() + 1);
            let cut = (0..=argument.len().min(room)).rev().find(|at| argument.is_char_boundary(*at)).unwrap_or(0);
            if cut == 0 && !argument.is_empty() {
                break;
            }
            if !command.is_empty() {
                command.push('\0');
            }
            command.push_str(&argument[..cut]);
        }
        if let Some(node) = self.processes.get_mut(&key) {
            if exe.is_some() {
                node.exe = exe;
            }
            node.file_key = process.file.as_ref().map(|file| file.key).unwrap_or_default();
            node.command = command.into();
            node.working_directory.clone_from(&process.working_directory);
            node.user = process.user;
            if process.unit.is_some() {
                node.unit = process.unit.as_deref().map(Into::into);
            }
            node.socket_stdio = process.socket_stdio;
            node.fileless = process.fileless;
            node.executed = Some(time);
            node.hub = hub;
            node.ran = ran;
        }
        // A server's worker that runs another program works for one request.
        if was_hub == Some(Hub::Server)
            && hub.is_none()
            && self
                .processes
                .get(&forked_by)
                .is_some_and(|parent| parent.hub == Some(Hub::Server) && parent.subject.is_none())
        {
            self.unjoin(time, key, id);
            self.begin(time, key, InvocationKind::Request, forked_by);
        } else if let (InvocationKind::Unit(name), Some(unit)) = (&kind, &process.unit)
            && name.is_empty()
            && is_service(unit)
        {
            self.name_unit(time, key, id, unit);
        }
        self.learn(key, process);
    }

    /// A manager's child is in its unit's cgroup at its first exec: now the start has a name, or joins a running one.
    fn name_unit(&mut self, time: Timestamp, key: ProcessKey, id: InvocationId, unit: &str) {
        let Some((leader, manager)) = self.invocations.get(&id).map(|found| (found.leader, found.manager)) else {
            return;
        };
        if leader != key {
            return;
        }
        if let Some(running) = self.running_start(time, manager, unit) {
            self.unjoin(time, key, id);
            self.join(key, running);
            return;
        }
        self.units.insert((manager, unit.into()), id);
        if let Some(invocation) = self.invocations.get_mut(&id) {
            invocation.kind = InvocationKind::Unit(unit.to_owned());
        }
        // The agent may not know yet what started it; the places of unit files are no secret.
        let place = UNIT_TREES.iter().find_map(|tree| {
            let path = HostPath::new([tree.as_bytes(), b"/", unit.as_bytes()].concat().as_slice());
            let write = self.files.get(&path).and_then(FileNode::last).filter(|write| !write.removed)?;
            Some((crate::event::Origin { path, version: write.last }, (write.writer, write.invocation)))
        });
        if let (Some((origin, writer)), Some(invocation)) = (place, self.invocations.get_mut(&id)) {
            invocation.origin = Some(origin);
            invocation.origin_writer = Some(writer);
        }
    }

    fn unjoin(&mut self, time: Timestamp, key: ProcessKey, id: InvocationId) {
        self.leave(time, key, id);
        let Some(invocation) = self.invocations.get_mut(&id) else { return };
        invocation.references = invocation.references.saturating_sub(1);
        if invocation.references == 0 && invocation.leader == key {
            self.invocations.remove(&id);
        }
    }

    /// What an event says about the invocation: origin, peer, who logged in.
    fn learn(&mut self, key: ProcessKey, process: &Process) {
        let Some(node) = self.processes.get(&key) else { return };
        let id = node.invocation;
        let by_login_program =
            self.process(node.parent).and_then(|parent| parent.exe.as_ref()).is_some_and(invocation::is_login_program);
        let itself_login = node.exe.as_ref().is_some_and(invocation::is_login_program);
        let opened_for = (by_login_program && !itself_login && node.executed.is_some()).then_some(process.user.uid);
        let writer = process.origin.as_ref().and_then(|origin| {
            let write = self.files.get(&origin.path)?.writer_of(origin.version)?;
            Some((write.writer, write.invocation))
        });
        let Some(invocation) = self.invocations.get_mut(&id) else { return };
        if let Some(origin) = &process.origin
            && (invocation.origin.is_none() || (invocation.origin_writer.is_none() && writer.is_some()))
        {
            invocation.origin = Some(origin.clone());
            invocation.origin_writer = writer;
        }
        if invocation.src_endpoint.is_none() {
            invocation.src_endpoint.clone_from(&process.src_endpoint);
        }
        if invocation.kind == InvocationKind::Session {
            if process.user.login_uid != u32::MAX {
                invocation.login_uid = Some(process.user.login_uid);
            } else if invocation.login_uid.is_none_or(|uid| uid == 0) && opened_for.is_some() {
                // Helpers of the login run as root before the user's shell does.
                invocation.login_uid = opened_for;
            }
        }
    }

    fn observe_authentication(&mut self, activity: &Authentication) -> Noted {
        let Some(id) = self.processes.get(&activity.session).map(|node| node.invocation) else {
            return Noted::default();
        };
        if let Some(invocation) = self.invocations.get_mut(&id)
            && activity.logon
            && invocation.kind == InvocationKind::Session
            && matches!(activity.service, crate::event::AuthService::Sshd | crate::event::AuthService::Login)
        {
            invocation.login_uid = invocation.login_uid.filter(|uid| *uid != 0).or(Some(activity.uid));
            if invocation.src_endpoint.is_none() {
                invocation.src_endpoint.clone_from(&activity.src_endpoint);
            }
        }
        Noted::default()
    }

    fn ended(&mut self, time: Timestamp, key: ProcessKey) {
        let Some(node) = self.processes.get_mut(&key) else { return };
        if node.ended.is_none() {
            node.ended = Some(time);
            let id = node.invocation;
            self.leave(time, key, id);
        }
    }

    fn observe_file(&mut self, time: Timestamp, activity: &FileActivity) -> Noted {
        use FileActivityId::{Close, Create, Delete, Link, Open, Rename, SetAttributes, SetSecurity, Truncate, Update};
        let path = &activity.file.path;
        let unknown = |created: bool, removed: bool| Change {
            before: VersionId::UNKNOWN,
            created,
            after: VersionId::UNKNOWN,
            removed,
        };
        let mut noted = Noted::default();
        match activity.activity {
            Open => self.counters.compacted += 1,
            // What goes into a device, a pipe or a socket does not stay at its path.
            Update | Close if activity.kind == FileKind::Other => self.counters.compacted += 1,
            Update => {
                if self.touch(time, path, activity) {
                    noted.written[0] = Some(path.clone());
                }
            }
            Create | Close | SetAttributes | SetSecurity | Truncate | Delete => {
                let change = activity
                    .change
                    .unwrap_or_else(|| unknown(activity.activity == Create, activity.activity == Delete));
                if self.record(time, path, activity, change, activity.change.is_some()) {
                    noted.written[0] = Some(path.clone());
                }
            }
            Rename | Link => {
                if activity.activity == Rename {
                    let change = activity.change.unwrap_or_else(|| unknown(false, true));
                    if self.record(time, path, activity, change, activity.change.is_some()) {
                        noted.written[0] = Some(path.clone());
                    }
                }
                if let Some(result) = &activity.file_result {
                    let fresh = self.files.get(result).is_none_or(|file| !file.present());
                    let change = activity.change_result.unwrap_or_else(|| unknown(fresh, false));
                    if self.record(time, result, activity, change, activity.change_result.is_some()) {
                        noted.written[1] = Some(result.clone());
                    }
                }
            }
        }
        noted
    }

    /// Who is behind a write. A service manager makes the links that enable a unit when it is asked to; they are the work
    /// of whoever wrote the unit.
    fn author(&self, path: &HostPath, actor: ProcessKey) -> (ProcessKey, InvocationId) {
        let node = self.processes.get(&actor);
        let asked = node.filter(|node| node.hub == Some(Hub::Manager)).and_then(|_| self.unit_writer(path));
        asked.unwrap_or_else(|| (actor, node.map(|node| node.invocation).unwrap_or_default()))
    }

    /// Who wrote the unit that `…/systemd/system/TARGET.wants/UNIT` enables, when we saw it.
    fn unit_writer(&self, link: &HostPath) -> Option<(ProcessKey, InvocationId)> {
        let folder = link.parent();
        if !(folder.ends_with(b".wants") || folder.ends_with(b".requires")) {
            return None;
        }
        UNIT_TREES.iter().find_map(|tree| {
            let unit = HostPath::new([tree.as_bytes(), b"/", link.file_name()].concat().as_slice());
            let write = self.files.get(&unit).and_then(FileNode::last).filter(|write| !write.removed)?;
            Some((write.writer, write.invocation))
        })
    }

    fn touch(&mut self, time: Timestamp, path: &HostPath, activity: &FileActivity) -> bool {
        let (writer, invocation) = self.author(path, activity.actor);
        if !self.room_for(time, path, activity, false, activity.change.is_some()) {
            return false;
        }
        let Some(file) = self.files.get_mut(path) else { return false };
        let joined = file.touch(writer, invocation, time);
        self.settle(joined, writer, invocation)
    }

    fn record(
        &mut self,
        time: Timestamp,
        path: &HostPath,
        activity: &FileActivity,
        change: Change,
        protected: bool,
    ) -> bool {
        let (writer, invocation) = self.author(path, activity.actor);
        if !self.files.contains(path) && change.removed && !protected && !self.looked_after.contains(path) {
            self.counters.compacted += 1; // outside protected trees, what is gone leaves no trace to follow
            return false;
        }
        if !self.room_for(time, path, activity, change.created, protected) {
            return false;
        }
        let Some(file) = self.files.get_mut(path) else { return false };
        file.protected |= protected;
        let closing = activity.activity == FileActivityId::Close;
        let joined = file.record(change, writer, invocation, time, closing);
        let vanished = file.incident.is_none() && file.writes.len() == 1 && file.came_and_went();
        let noted = self.settle(joined, writer, invocation);
        if vanished {
            // One process made it and took it away again: nothing is left to attribute.
            self.forget_writes(path);
            self.counters.compacted += 1;
            return false;
        }
        noted
    }

    fn settle(&mut self, joined: file::Joined, writer: ProcessKey, invocation: InvocationId) -> bool {
        if joined.gained {
            if let Some(node) = self.processes.get_mut(&writer) {
                node.writes += 1;
            }
            if let Some(found) = self.invocations.get_mut(&invocation) {
                found.references += 1;
            }
        } else {
            self.counters.compacted += 1;
        }
        self.counters.writes_dropped += u64::from(joined.dropped);
        for (writer, invocation) in joined.released {
            self.release(writer, invocation);
        }
        true
    }

    fn release(&mut self, writer: ProcessKey, invocation: InvocationId) {
        if let Some(node) = self.processes.get_mut(&writer) {
            node.writes = node.writes.saturating_sub(1);
        }
        if let Some(found) = self.invocations.get_mut(&invocation) {
            found.references = found.references.saturating_sub(1);
        }
    }

    fn room_for(
        &mut self,
        time: Timestamp,
        path: &HostPath,
        activity: &FileActivity,
        created: bool,
        protected: bool,
    ) -> bool {
        if self.files.contains(path) {
            return true;
        }
        if self.files.len() >= self.limits.files && !self.evict_file() {
            self.counters.files_refused += 1;
            return false;
        }
        let node = FileNode {
            first_seen: time,
            first_writer: activity.actor,
            created,
            kind: activity.kind,
            protected,
            writes: Vec::with_capacity(1),
            incident: None,
        };
        self.files.insert(path.clone(), node);
        true
    }

    // ---- eviction ----

    fn evict_process(&mut self) -> bool {
        let rank = |_: &ProcessKey, node: &ProcessNode| {
            let idle = node.ended.is_some() && node.children == 0;
            let kept = node.pinned || node.subject.is_some();
            (idle && !kept).then_some(u8::from(node.writes > 0))
        };
        let look = EVICTION_LOOK_MAX;
        let Some(key) = self.processes.victim(look, rank).or_else(|| self.processes.victim(16 * look, rank)) else {
            return false;
        };
        if let Some(node) = self.processes.remove(&key) {
            if node.writes > 0 {
                self.counters.writers_evicted += 1;
            } else {
                self.counters.processes_evicted += 1;
            }
            if let Some(parent) = self.processes.get_mut(&node.parent) {
                parent.children = parent.children.saturating_sub(1);
            }
            if let Some(invocation) = self.invocations.get_mut(&node.invocation) {
                invocation.references = invocation.references.saturating_sub(1);
            }
        }
        true
    }

    fn evict_invocation(&mut self) {
        let rank = |_: &InvocationId, invocation: &Invocation| {
            let kept = invocation.pinned || invocation.suspect || invocation.subject.is_some();
            (invocation.ended.is_some() && !kept).then_some(u8::from(invocation.references > 0))
        };
        let look = EVICTION_LOOK_MAX;
        let victim = self.invocations.victim(look, rank).or_else(|| self.invocations.victim(16 * look, rank));
        if let Some(gone) = victim.and_then(|id| self.invocations.remove(&id)) {
            if gone.references > 0 {
                self.counters.origins_evicted += 1;
            } else {
                self.counters.invocations_evicted += 1;
            }
        }
    }

    fn evict_file(&mut self) -> bool {
        let rank = |_: &HostPath, file: &FileNode| match (file.incident, file.protected, file.came_and_went()) {
            (Some(_), _, _) => None,
            (None, _, true) => Some(0),
            (None, false, false) => Some(1),
            (None, true, false) => Some(2),
        };
        let look = EVICTION_LOOK_MAX;
        let Some(path) = self.files.victim(look, rank).or_else(|| self.files.victim(16 * look, rank)) else {
            return false;
        };
        if self.files.get(&path).is_some_and(|file| file.protected && !file.came_and_went()) {
            self.counters.protected_evicted += 1;
        } else {
            self.counters.files_evicted += 1;
        }
        self.forget_writes(&path);
        true
    }
}

/// A unit of its own, not the slice or scope that sessions live in.
fn is_service(unit: &str) -> bool {
    !unit.is_empty() && !unit.ends_with(".slice") && !unit.ends_with(".scope")
}

/// The script that an interpreter was told to run: its first argument that is no option, absolute.
fn script(process: &Process) -> Option<HostPath> {
    let name = process.file.as_ref()?.path.file_name();
    const INTERPRETERS: &[&[u8]] =
        &[b"sh", b"bash", b"dash", b"ash", b"zsh", b"ksh", b"busybox", b"perl", b"ruby", b"php", b"node", b"lua"];
    if !INTERPRETERS.contains(&name) && !name.starts_with(b"python") {
        return None;
    }
    let first = process.cmd_line.iter().skip(1).find(|argument| !argument.starts_with('-'))?;
    if process
        .cmd_line
        .iter()
        .skip(1)
        .take_while(|argument| *argument != first)
        .any(|option| option == "-c" || option == "-e")
    {
        return None;
    }
    if first.starts_with('/') {
        return HostPath::from_text(first);
    }
    let directory = process.working_directory.as_ref()?;
    let first = first.strip_prefix("./").unwrap_or(first);
    (!first.contains("..")).then(|| HostPath::new(&[directory.as_bytes(), b"/", first.as_bytes()].concat()))
}

impl crate::detect::Lineage for Graph {
    fn process(&self, key: ProcessKey) -> Option<crate::detect::Seen<'_>> {
        let node = self.processes.get(&key)?;
        Some(crate::detect::Seen {
            parent: node.parent,
            program: node.exe.as_ref(),
            user: node.user,
            unit: node.unit.as_deref(),
        })
    }

    fn invocation(&self, key: ProcessKey) -> Option<crate::detect::Invocation<'_>> {
        let found = self.invocation_of(key)?;
        let origin = found.origin.as_ref().map(|origin| &origin.path);
        Some(crate::detect::Invocation { kind: &found.kind, leader: found.leader, login: found.login_uid, origin })
    }

    fn is_suspect(&self, key: ProcessKey) -> bool {
        self.is_subject(key) || self.invocation_of(key).is_some_and(|found| found.suspect || found.subject.is_some())
    }
}
