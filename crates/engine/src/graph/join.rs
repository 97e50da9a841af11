// SPDX-License-Identifier: Apache-2.0
//! Which invocation a process is in: begun with it, inherited, joined, left, and learned about.
//!
//! Input: births, execs, ends and logins of processes. Output: invocations with their members, origins and users. Each
//! live process is among the living of the invocation that it names while that is kept, and is counted in its
//! references.

use super::{FileNode, Graph, Invocation, InvocationId, Noted, Write, invocation};
use crate::event::{AuthService, Authentication, Origin, Process};
use crate::id::{ProcessKey, Timestamp};
use crate::incident::InvocationKind;
use crate::path::HostPath;

/// A unit's next process joins the same start when the last one ended no longer ago than this; nanoseconds.
pub const UNIT_GAP_NS: u64 = 1_000_000_000;

/// Where unit files lie that a service manager reads, strongest first.
const UNIT_TREES: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];

impl Graph {
    pub(super) fn begin(&mut self, time: Timestamp, leader: ProcessKey, kind: InvocationKind, manager: ProcessKey) {
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
            heard: Vec::new(),
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

    pub(super) fn join(&mut self, key: ProcessKey, id: InvocationId) {
        if let Some(invocation) = self.invocations.get_mut(&id) {
            invocation.references += 1;
            invocation.ended = None;
            invocation.alive.push(key);
        }
        if let Some(node) = self.processes.get_mut(&key) {
            node.invocation = id;
        }
    }

    pub(super) fn leave(&mut self, time: Timestamp, key: ProcessKey, id: InvocationId) {
        let Some(invocation) = self.invocations.get_mut(&id) else { return };
        if let Some(at) = invocation.alive.iter().rposition(|alive| *alive == key) {
            invocation.alive.remove(at);
        }
        if invocation.alive.is_empty() {
            invocation.ended = Some(time);
        }
    }

    /// The unit file of this name that counts among those that we saw written, and its last write.
    pub(super) fn unit_file(&self, unit: &[u8]) -> Option<(HostPath, &Write)> {
        UNIT_TREES.iter().find_map(|tree| {
            let path = HostPath::new([tree.as_bytes(), b"/", unit].concat().as_slice());
            let write = self.files.get(&path).and_then(FileNode::last).filter(|write| !write.removed)?;
            Some((path, write))
        })
    }

    pub(super) fn unjoin(&mut self, time: Timestamp, key: ProcessKey, id: InvocationId) {
        self.leave(time, key, id);
        let Some(invocation) = self.invocations.get_mut(&id) else { return };
        invocation.references = invocation.references.saturating_sub(1);
        if invocation.references == 0 && invocation.leader == key {
            self.invocations.remove(&id);
        }
    }

    /// A manager's child is in its unit's cgroup at its first exec: now the start has a name, or joins a running one.
    pub(super) fn name_unit(&mut self, time: Timestamp, key: ProcessKey, id: InvocationId, unit: &str) {
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
        let place = self
            .unit_file(unit.as_bytes())
            .map(|(path, write)| (Origin { path, version: write.last }, (write.writer, write.invocation)));
        if let (Some((origin, writer)), Some(invocation)) = (place, self.invocations.get_mut(&id)) {
            invocation.origin = Some(origin);
            invocation.origin_writer = Some(writer);
        }
    }

    /// What an event says about the invocation: origin, peer, who logged in.
    pub(super) fn learn(&mut self, key: ProcessKey, process: &Process) {
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
        // Of a request, only whom the server itself started is told by the server.
        let told = invocation.kind != InvocationKind::Request || invocation.leader == key;
        let mut peer_is_new = false;
        if invocation.src_endpoint.is_none() && told {
            invocation.src_endpoint.clone_from(&process.src_endpoint);
            peer_is_new = invocation.src_endpoint.is_some();
        }
        // Whoever only knocks is no visitor.
        let logged_in = invocation.kind == InvocationKind::Session && opened_for.is_some();
        let visitor = invocation.src_endpoint.as_ref().map(|peer| peer.ip).filter(|_| logged_in);
        if invocation.kind == InvocationKind::Session {
            if process.user.login_uid != u32::MAX {
                invocation.login_uid = Some(process.user.login_uid);
            } else if invocation.login_uid.is_none_or(|uid| uid == 0) && opened_for.is_some() {
                // Helpers of the login run as root before the user's shell does.
                invocation.login_uid = opened_for;
            }
        }
        if let Some(address) = visitor {
            self.visited(address, key);
        }
        if peer_is_new {
            self.peer_is_known(id);
        }
    }

    pub(super) fn observe_authentication(&mut self, activity: &Authentication) -> Noted {
        let Some(id) = self.processes.get(&activity.session).map(|node| node.invocation) else {
            return Noted::default();
        };
        if let (true, Some(peer)) = (activity.logon, &activity.src_endpoint) {
            self.visited(peer.ip, activity.session);
        }
        if let Some(invocation) = self.invocations.get_mut(&id)
            && activity.logon
            && invocation.kind == InvocationKind::Session
            && matches!(activity.service, AuthService::Sshd | AuthService::Login)
        {
            invocation.login_uid = invocation.login_uid.filter(|uid| *uid != 0).or(Some(activity.uid));
            if invocation.src_endpoint.is_none() && activity.src_endpoint.is_some() {
                invocation.src_endpoint.clone_from(&activity.src_endpoint);
                self.peer_is_known(id);
            }
        }
        Noted::default()
    }
}

/// A unit of its own, not the slice or scope that sessions live in.
pub(super) fn is_service(unit: &str) -> bool {
    !unit.is_empty() && !unit.ends_with(".slice") && !unit.ends_with(".scope")
}
