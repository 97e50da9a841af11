// SPDX-License-Identifier: Apache-2.0
//! Processes: who forked whom, what each runs, who had written that, when it ended.
//!
//! Input: process events. Output: [`ProcessNode`]s, and what each event means for the invocations. A child begins with
//! all that its parent is; a program file is joined with its last writer when it is run, not later.

use super::contact::Contacts;
use super::invocation::Hub;
use super::join::is_service;
use super::{FileNode, Graph, InvocationId, Noted};
use crate::event::{Process, ProcessActivity, ProcessActivityId, User};
use crate::id::{FileKey, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// LIMIT: bytes of a command line kept in the graph; the event has all of it.
pub const COMMAND_BYTES_MAX: usize = 256;

/// One program file (or script) that a process ran, and who had written it by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executed {
    pub path: HostPath,
    /// 0 outside protected trees.
    pub version: VersionId,
    pub writer: ProcessKey,
    pub invocation: InvocationId,
}

/// LIMIT: secrets remembered of one process; more are counted.
pub const SECRETS_MAX: usize = 16;

/// Secrets that a process read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// With when it did so first.
    pub known: Vec<(HostPath, Timestamp)>,
    /// Further ones, each time.
    pub others: u64,
}

/// LIMIT: programs and scripts remembered of one process; of more, the first are forgotten.
pub const RAN_MAX: usize = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessNode {
    pub key: ProcessKey,
    /// Who forked it; stays so when it is given to another parent later.
    pub parent: ProcessKey,
    pub exe: Option<HostPath>,
    pub file_key: FileKey,
    pub(super) command: Arc<str>,
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
    /// Versions it ran that someone wrote since we watch, latest first; at most [`RAN_MAX`].
    pub ran: Vec<Executed>,
    /// Others that took control of it, latest last; at most four.
    pub injected_by: Vec<ProcessKey>,
    /// Whom it talked to; `None`: nobody.
    pub contacts: Option<Box<Contacts>>,
    /// Which secrets it opened for reading; `None`: none.
    pub secrets: Option<Box<Secrets>>,
    pub(super) children: u32,
    pub(super) writes: u32,
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
        self.writes > 0 || self.children > 0 || self.secrets.is_some()
    }

    /// Last component of the program's path; empty when unknown.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.exe.as_ref().map_or(b"", |exe| exe.file_name())
    }
}

impl Graph {
    pub(super) fn observe_process(&mut self, time: Timestamp, activity: &ProcessActivity) -> Noted {
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
            contacts: None,
            secrets: None,
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

    fn ran(&mut self, time: Timestamp, process: &Process) {
        let key = process.key;
        let Some(node) = self.processes.get(&key) else { return };
        let (id, forked_by, was_hub) = (node.invocation, node.parent, node.hub);
        let exe = process.file.as_ref().map(|file| file.path.clone());
        // What it ran before made it run this. What it only inherited did not.
        let before = if node.executed.is_some() { node.ran.clone() } else { Vec::new() };
        let mut ran = Vec::new();
        for path in exe.iter().cloned().chain(script(process)) {
            if let Some(write) = self.files.get(&path).and_then(FileNode::last).filter(|write| !write.removed) {
                let version = write.last;
                ran.push(Executed { path, version, writer: write.writer, invocation: write.invocation });
            }
        }
        ran.extend(before);
        ran.truncate(RAN_MAX);
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

    fn ended(&mut self, time: Timestamp, key: ProcessKey) {
        let Some(node) = self.processes.get_mut(&key) else { return };
        if node.ended.is_none() {
            node.ended = Some(time);
            let id = node.invocation;
            self.leave(time, key, id);
        }
    }
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
