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

mod contact;
mod database;
mod file;
mod heard;
mod invocation;
mod join;
mod limits;
mod process;
mod table;
#[cfg(test)]
mod tests;
mod writes;

pub use contact::{ACQUAINTED_MAX, CONTACTS_MAX, Contact, Contacts};
pub(crate) use database::companions;
pub use file::{FileNode, WRITES_PER_PATH_MAX, Write};
pub use heard::{HEARD_INVOCATIONS_MAX, HEARD_MAX, JOIN_NS};
pub(crate) use invocation::is_login_program;
pub use invocation::{Hub, Invocation, InvocationId};
pub use join::UNIT_GAP_NS;
pub use limits::{Counters, EVICTION_LOOK_MAX, FILES_MAX, INVOCATIONS_MAX, Limits, PROCESSES_MAX};
pub use process::{COMMAND_BYTES_MAX, Executed, ProcessNode, RAN_MAX, SECRETS_MAX, Secrets};

use crate::detect::Bounded;
use crate::event::{Activity, Event};
use crate::id::{IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use table::Table;

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
    /// Starts of units that run or are kept, by the manager that started them and the unit's name: no more than invocations.
    units: BTreeMap<(ProcessKey, Box<str>), InvocationId>,
    /// Who called which address, and who came from there or answered it.
    callers: Bounded<IpAddr, contact::Acquainted>,
    visitors: Bounded<IpAddr, contact::Acquainted>,
    /// What services are made of: who takes it away is remembered, though no version of it is.
    looked_after: BTreeSet<HostPath>,
    /// What logs say, until it is known whom it is about.
    hearing: heard::Hearing,
    /// Who wrote to the directories of database servers.
    databases: BTreeMap<usize, database::Server>,
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

    /// The unit whose service lives in this process: of those of its start that live, it has been there longest. Whoever an
    /// attacker leaves behind in a service's cgroup is younger, whoever its parents were.
    pub(crate) fn main_of(&self, key: ProcessKey) -> Option<&str> {
        let invocation = self.invocation_of(key).filter(|invocation| invocation.alive().first() == Some(&key))?;
        match &invocation.kind {
            InvocationKind::Unit(unit) => Some(unit),
            InvocationKind::Session | InvocationKind::Cron | InvocationKind::Request | InvocationKind::Other => None,
        }
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

    /// Addresses of which is forgotten who has to do with them.
    #[must_use]
    pub fn neighbours_forgotten(&self) -> u64 {
        self.callers.forgotten + self.visitors.forgotten
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

    // ---- taking events in ----

    /// Takes one event in. `ours` are the agent's own processes: what they write has no author here.
    pub(crate) fn observe(&mut self, event: &Event, ours: &[ProcessKey]) -> Noted {
        match &event.activity {
            Activity::Process(activity) => self.observe_process(event.time, activity),
            Activity::File(activity) if !ours.contains(&activity.actor) => self.observe_file(event.time, activity),
            Activity::Authentication(activity) => self.observe_authentication(activity),
            Activity::Network(activity) => self.observe_network(activity),
            Activity::File(_)
            | Activity::Content(_)
            | Activity::Loss(_)
            | Activity::Finding(_)
            | Activity::Incident(_)
            | Activity::Remediation(_)
            | Activity::Hearsay(_) => Noted::default(), // see `Graph::hear`
        }
    }
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
        Some(crate::detect::Invocation {
            kind: &found.kind,
            leader: found.leader,
            login: found.login_uid,
            origin,
            source: found.src_endpoint.as_ref().map(|endpoint| endpoint.ip),
        })
    }

    fn is_suspect(&self, key: ProcessKey) -> bool {
        self.is_subject(key) || self.invocation_of(key).is_some_and(|found| found.suspect || found.subject.is_some())
    }

    fn ran_from_request(&self, key: ProcessKey) -> Option<&HostPath> {
        let by_request = |executed: &&Executed| {
            let server = self.process(executed.writer).is_some_and(|node| node.hub == Some(Hub::Server));
            let invocation = || self.invocation(executed.invocation);
            server || invocation().is_some_and(|found| found.kind == InvocationKind::Request)
        };
        self.processes.get(&key)?.ran.iter().find(by_request).map(|executed| &executed.path)
    }
}
