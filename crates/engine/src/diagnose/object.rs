// SPDX-License-Identifier: Apache-2.0
//! The paths that an attack touched: taken in, looked at again when others write them, remembered once put in order.
//!
//! Input: a path that was written or is met in a search; an action that was carried out. Output: objects, each with its
//! reason; those to be planned are in the plan's queue. At most [`OBJECTS_MAX`] are kept, further ones are counted.

use super::{Case, Net, classify, named};
use crate::action::{Action, Authored};
use crate::detect::is_foothold;
use crate::event::FileKind;
use crate::graph::{Graph, InvocationId, is_login_program};
use crate::id::{ActionId, ProcessKey, Timestamp, VersionId};
use crate::incident::{Deed, ObjectClass};
use crate::input::Configuration;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// LIMIT: objects kept of one incident; further ones are counted as omitted.
pub const OBJECTS_MAX: usize = 32_768;
/// LIMIT: versions of one path that others' later ones are compared with; beyond, those of the last restoration alone.
const UNDONE_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// To be planned.
    Todo,
    /// An action is under way.
    Busy,
    /// As it should be.
    Done,
    /// Waits for a person, with the reason.
    Shown(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ObjectState {
    pub(crate) reason: String,
    /// Who of the attack wrote it first, and what was done to it.
    pub(crate) by: ProcessKey,
    pub(crate) deed: Deed,
    pub(crate) class: ObjectClass,
    pub(crate) first_version: VersionId,
    pub(crate) progress: Progress,
    pub(crate) action: Option<ActionId>,
    /// Plans made for it.
    pub(crate) attempts: u32,
    /// Actions committed on it, and when the last was.
    pub(crate) commits: u32,
    pub(crate) committed: Option<Timestamp>,
    pub(crate) not_before: Timestamp,
    /// A directory of the attack in which others keep files.
    pub(crate) shared: bool,
    /// It did not fit an action on many files: planned by itself.
    #[serde(default)]
    pub(crate) alone: bool,
    /// What was taken out of it, once something was.
    pub(crate) undone: Option<Undone>,
    /// The attack left it as it had found it: no part of its reach, unless it comes again.
    #[serde(default)]
    pub(crate) intact: bool,
}

/// The attack's versions of a path that was put in order: whoever had read one of them before may bring it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undone {
    /// As in a plan; 0 when the path did not exist.
    pub(crate) base: VersionId,
    pub(crate) later: Vec<Authored>,
    /// Since then nobody can read the attack's versions there any more.
    pub(crate) at: Timestamp,
    /// The last of others' versions that was compared with them.
    pub(crate) compared: VersionId,
    /// Comparisons of one version that did not come to an end.
    pub(crate) tries: u32,
    /// How often something of the attack was taken out again.
    pub(crate) returns: u32,
}

impl ObjectState {
    /// A plan was carried out: from now on others' versions are compared with what it undid.
    pub(crate) fn undid(&mut self, action: &Action, now: Timestamp) {
        let (base, later) = match action {
            Action::RestoreFile(restore) if restore.again => {
                if let Some(undone) = &mut self.undone {
                    (undone.at, undone.tries, undone.returns) = (now, 0, undone.returns + 1);
                }
                return;
            }
            Action::RestoreFile(restore) if !restore.append_only && !restore.whole => {
                (restore.base, restore.later.clone())
            }
            Action::RestoreFiles { .. } => return, // it is told one by one
            Action::QuarantineFile { expected, .. } => {
                (VersionId::UNKNOWN, vec![Authored { version: *expected, attack: true }])
            }
            Action::RestoreFile(_)
            | Action::SuspendProcesses { .. }
            | Action::TerminateProcesses { .. }
            | Action::EndSession { .. }
            | Action::FilterTraffic { .. }
            | Action::RemoveUnit { .. }
            | Action::ReloadService { .. }
            | Action::RestartService { .. }
            | Action::FreeSpace { .. }
            | Action::LoadFirewall { .. }
            | Action::RenewCertificate { .. }
            | Action::RestorePackaged { .. }
            | Action::LockAccount { .. }
            | Action::IsolateHost { .. }
            | Action::UndoAction { .. } => return,
        };
        let before = self.undone.take();
        let returns = before.as_ref().map_or(0, |before| before.returns);
        let fresh = Undone { base, later, at: now, compared: VersionId::UNKNOWN, tries: 0, returns };
        self.undone = Some(match before {
            // The attack came again: what it wrote the first time is still its own.
            Some(mut before) if before.later.len() + fresh.later.len() < UNDONE_MAX => {
                if base != VersionId::UNKNOWN {
                    before.later.push(Authored { version: base, attack: false });
                }
                before.later.extend(fresh.later);
                Undone { base: before.base, later: before.later, ..Undone { later: Vec::new(), ..fresh } }
            }
            Some(_) | None => fresh,
        });
    }
}

/// How a path came to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// It was written by the present event.
    Now,
    /// A search over the past came by.
    InThePast,
}

impl Case {
    /// A path was written, or is met in a search: whether it is an object of this attack, and whose else it is.
    pub(crate) fn look_at(&mut self, graph: &mut Graph, configuration: &Configuration, path: &HostPath, met: Met) {
        let Some(file) = graph.file(path) else { return };
        let mine = |key: ProcessKey, id: InvocationId| match graph.process(key) {
            Some(node) => node.subject == Some(self.id),
            None => graph.invocation(id).is_some_and(|found| found.subject == Some(self.id)),
        };
        let Some(write) = file.writes.iter().find(|write| mine(write.writer, write.invocation)) else {
            self.look_at_directories(path, file.present());
            if met == Met::Now {
                self.look_again(graph, path);
            }
            return;
        };
        if configuration.never_touch_paths.iter().any(|never| path.is_within(never.as_bytes())) {
            return;
        }
        let by_login = graph.process(write.writer).and_then(|node| node.exe.as_ref()).is_some_and(is_login_program);
        if by_login && is_bookkeeping(path) {
            return;
        }
        let (verb, deed) = if write.created {
            ("created", Deed::Created)
        } else if write.removed {
            ("removed", Deed::Removed)
        } else {
            ("changed", Deed::Changed)
        };
        let (by, reason) = (write.writer, format!("{verb} by {}", named(graph, write.writer)));
        let first_version = write.last;
        let directory = write.created && file.kind == FileKind::Directory;
        let net = classify(graph, configuration, path, file);
        let class = net.class();
        let full = self.objects.len() >= OBJECTS_MAX;
        match self.objects.get_mut(path) {
            Some(object) => {
                object.class = class.unwrap_or(object.class);
                match object.progress {
                    Progress::Busy | Progress::Todo => {}
                    Progress::Done | Progress::Shown(_) => {
                        if met == Met::Now {
                            object.progress = Progress::Todo;
                            object.intact = false;
                        }
                    }
                }
            }
            None if net == Net::Nothing => return,
            None if full => {
                self.omitted += 1;
                return;
            }
            None => {
                let state = ObjectState {
                    reason,
                    by,
                    deed,
                    class: class.unwrap_or(ObjectClass::AttackOnly),
                    first_version,
                    progress: Progress::Todo,
                    action: None,
                    attempts: 0,
                    commits: 0,
                    committed: None,
                    not_before: Timestamp(0),
                    shared: false,
                    alone: false,
                    undone: None,
                    intact: false,
                };
                if is_foothold(path) {
                    self.footholds.insert(path.clone());
                }
                self.objects.insert(path.clone(), state);
            }
        }
        if directory {
            self.directories.insert(path.clone());
        }
        if self.objects.get(path).is_some_and(|object| object.progress == Progress::Todo) && !self.plan.waits(path) {
            self.plan.enqueue(crate::decide::place(path, &net, directory));
        }
        if let Some(file) = graph.file_mut(path) {
            file.incident = Some(self.id);
        }
        self.dirty = true;
    }

    /// Others wrote what was put in order: they may have read it before.
    pub(crate) fn look_again(&mut self, graph: &Graph, path: &HostPath) {
        let Some(undone) = self.objects.get_mut(path).and_then(|object| object.undone.as_mut()) else { return };
        let Some((file, write)) = graph.file(path).and_then(|file| Some((file, file.last()?))) else { return };
        let recorded = !write.pending && !write.removed && write.last != VersionId::UNKNOWN;
        if recorded && file.kind == FileKind::Regular && write.last != undone.compared {
            undone.tries = 0;
            self.plan.look_again(path.clone());
            self.dirty = true;
        }
    }

    /// Somebody else's file in a directory that the attack made: the directory stays.
    fn look_at_directories(&mut self, path: &HostPath, present: bool) {
        if self.directories.is_empty() || !present {
            return;
        }
        let mut parent = HostPath::new(path.parent());
        // LIMIT: a path has at most PATH_MAX / 2 components; the attack's directories are few.
        for _ in 0..64 {
            if parent.as_bytes().is_empty() {
                break;
            }
            if self.directories.contains(&parent)
                && let Some(object) = self.objects.get_mut(&parent)
            {
                object.shared = true;
                object.class = ObjectClass::Mixed;
            }
            parent = HostPath::new(parent.parent());
        }
    }
}

/// What those programs write when they let someone in is no deed of the one who came.
fn is_bookkeeping(path: &HostPath) -> bool {
    [&b"/var/log"[..], b"/run", b"/var/run", b"/var/lib/sudo"].iter().any(|tree| path.is_within(tree))
}
