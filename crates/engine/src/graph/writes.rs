// SPDX-License-Identifier: Apache-2.0
//! Who wrote which path.
//!
//! Input: file events. Output: the chain of writes at each path ([`FileNode`]), and which paths an event changed. Each
//! write is counted at its writer and its invocation as long as it is kept, and released once.

use super::file::Joined;
use super::process::SECRETS_MAX;
use super::{FileNode, Graph, Hub, InvocationId, Noted};
use crate::event::{Change, FileActivity, FileActivityId, FileKind};
use crate::id::{ProcessKey, Timestamp, VersionId};
use crate::path::HostPath;

impl Graph {
    pub(super) fn observe_file(&mut self, time: Timestamp, activity: &FileActivity) -> Noted {
        use FileActivityId::{
            Close, Create, Delete, Link, Open, Read, Rename, SetAttributes, SetSecurity, Truncate, Update,
        };
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
            Read => self.read(time, path, activity.actor),
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

    /// Influences nobody; kept for what has to be done about a secret that an attack has seen.
    fn read(&mut self, time: Timestamp, path: &HostPath, actor: ProcessKey) {
        let Some(node) = self.processes.get_mut(&actor) else { return };
        let secrets = node.secrets.get_or_insert_default();
        if secrets.known.iter().any(|(known, _)| known == path) {
            return;
        }
        if secrets.known.len() < SECRETS_MAX {
            secrets.known.push((path.clone(), time));
        } else {
            secrets.others = secrets.others.saturating_add(1);
        }
    }

    /// Who is behind a write. A service manager makes the links that enable a unit when it is asked to; they are the work
    /// of whoever wrote the unit.
    fn author(&self, path: &HostPath, activity: &FileActivity) -> (ProcessKey, InvocationId) {
        let node = self.processes.get(&activity.actor);
        let asked = node
            .filter(|node| node.hub == Some(Hub::Manager))
            .and_then(|_| self.unit_writer(path).or_else(|| self.taken_in(path, activity.target.as_ref()?)));
        asked.unwrap_or_else(|| (activity.actor, node.map(|node| node.invocation).unwrap_or_default()))
    }

    /// Who wrote the unit of that name elsewhere that the link takes in (`systemctl link`), when we saw it.
    fn taken_in(&self, link: &HostPath, target: &HostPath) -> Option<(ProcessKey, InvocationId)> {
        let file = self.file(target).filter(|_| link.file_name() == target.file_name())?;
        file.last().map(|write| (write.writer, write.invocation))
    }

    /// Who wrote the unit that `…/systemd/system/TARGET.wants/UNIT` enables, when we saw it.
    fn unit_writer(&self, link: &HostPath) -> Option<(ProcessKey, InvocationId)> {
        let folder = link.parent();
        if !(folder.ends_with(b".wants") || folder.ends_with(b".requires")) {
            return None;
        }
        self.unit_file(link.file_name()).map(|(_, write)| (write.writer, write.invocation))
    }

    fn touch(&mut self, time: Timestamp, path: &HostPath, activity: &FileActivity) -> bool {
        let (writer, invocation) = self.author(path, activity);
        if !self.room_for(time, path, activity, false, activity.change.is_some()) {
            return false;
        }
        let Some(file) = self.files.get_mut(path) else { return false };
        let joined = file.touch(writer, invocation, time);
        self.settle(joined, writer, invocation);
        self.note_database(path, (writer, invocation), time);
        true
    }

    fn record(
        &mut self,
        time: Timestamp,
        path: &HostPath,
        activity: &FileActivity,
        change: Change,
        protected: bool,
    ) -> bool {
        let (writer, invocation) = self.author(path, activity);
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
        self.settle(joined, writer, invocation);
        self.note_database(path, (writer, invocation), time);
        if vanished {
            // One process made it and took it away again: nothing is left to attribute.
            self.forget_writes(path);
            self.counters.compacted += 1;
            return false;
        }
        true
    }

    fn settle(&mut self, joined: Joined, writer: ProcessKey, invocation: InvocationId) {
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
}
