// SPDX-License-Identifier: Apache-2.0
//! Many files of one attack, put in order together (docs/decisions, 10); and those that do not fit, by themselves.
//!
//! Input: files that nobody but the attack wrote and nothing else follows from. Output: one action on as many as it may
//! name. What fails for one file says nothing of the others: that one is planned again, and by itself where it does not
//! fit.

use super::service::service_of;
use super::{Desk, Progressing, RETRY_NS, net, place};
use crate::action::{Action, Authored, FILES_MAX, Facts, RestoreFile};
use crate::diagnose::{Case, Net, Progress};
use crate::event::FileKind;
use crate::guard::{self, Policies};
use crate::id::{ActionId, Timestamp, VersionId};
use crate::incident::ObjectClass;
use crate::path::HostPath;
use std::collections::BTreeSet;

/// An incident with so many objects has its files put in order together, as many as one action may name.
pub const CROWD_MIN: usize = 64;
/// LIMIT: actions on many files that the hands have at one time: one is captured while the other is carried out.
pub const CROWDS_IN_FLIGHT_MAX: usize = 2;
/// So often a file is put in order together with others before it is planned by itself: an agent that ended in the midst
/// of it says nothing against the file.
const TOGETHER_MAX: u32 = 2;
/// While more may come, files of a crowd wait for others until so many ticks have passed without a new one.
const GATHERING_TICKS: u32 = 4;

impl Case {
    /// Files that can be put in order together: enough are there, or no more come.
    pub(super) fn is_gathered(&self) -> bool {
        let plan = &self.plan;
        plan.queue.len() >= FILES_MAX || plan.running.is_empty() || plan.quiet_ticks >= GATHERING_TICKS
    }

    /// A regular file that nobody but the attack wrote, and nothing else follows from.
    pub(super) fn as_one_of_many(&self, desk: &Desk<'_>, path: &HostPath, net: &Net) -> Option<RestoreFile> {
        let object = self.objects.get(path).filter(|object| !object.alone && !object.shared)?;
        desk.graph.file(path).filter(|file| file.kind == FileKind::Regular)?;
        let (base, later, created) = match net {
            Net::Created { expected } => {
                (VersionId::UNKNOWN, vec![Authored { version: *expected, attack: true }], true)
            }
            Net::Changed { base, later, class: ObjectClass::AttackOnly } if *base != VersionId::UNKNOWN => {
                (*base, later.clone(), false)
            }
            Net::Changed { .. }
            | Net::Nothing
            | Net::Pending
            | Net::Unprotected
            | Net::Entangled { .. }
            | Net::Unknown(_) => return None,
        };
        let first = object.undone.is_none() && object.attempts < TOGETHER_MAX;
        let plain = place(path, net, false).0 > 0 && service_of(path, created).is_none();
        (first && plain && !later.is_empty() && !later.iter().any(|authored| authored.version == VersionId::UNKNOWN))
            .then(|| RestoreFile { path: path.clone(), base, later, append_only: false, again: false, whole: false })
    }

    /// Plans many paths at once; true when the hands have them now.
    pub(super) fn order_many(&mut self, desk: &mut Desk<'_>, files: Vec<RestoreFile>) -> bool {
        for file in &files {
            let Some(object) = self.objects.get_mut(&file.path) else { continue };
            object.class = ObjectClass::AttackOnly;
            object.attempts += 1;
            if let Some(old) = object.action.take() {
                self.supersede(desk, old);
            }
        }
        let id = self.propose(desk, Action::RestoreFiles { files: files.into() });
        let Some(step) = self.plan.steps.get(&id) else { return false };
        let (state, action) = (step.state, step.action.clone());
        // What a policy says of one path is no word about the others: each is asked for by itself.
        let by_path = desk.policies.is_some_and(Policies::look_at_paths);
        let objections = step.verdict.reasons.iter().any(|why| guard::is_of_kernel(why));
        if by_path && !objections && state != Progressing::Preparing {
            if state == Progressing::Asked {
                desk.deny(id, "each file is asked for by itself");
            }
            self.forget(desk, id);
            action.paths().for_each(|path| self.alone(desk, path, Timestamp(0)));
            return false;
        }
        state == Progressing::Preparing
    }

    /// The file is planned by itself from now on.
    pub(super) fn alone(&mut self, desk: &Desk<'_>, path: &HostPath, not_before: Timestamp) {
        if let Some(object) = self.objects.get_mut(path) {
            object.alone = true;
        }
        self.once_more(desk, path, not_before);
    }

    /// It was not put in order: it is planned again, with others where it may be.
    pub(super) fn once_more(&mut self, desk: &Desk<'_>, path: &HostPath, not_before: Timestamp) {
        let Some(object) = self.objects.get_mut(path) else { return };
        (object.action, object.progress, object.not_before) = (None, Progress::Todo, not_before);
        if not_before > desk.now {
            self.plan.later.insert(path.clone());
        } else {
            let left = net(desk, path);
            self.plan.enqueue(place(path, &left, self.directories.contains(path)));
        }
        self.dirty = true;
    }

    /// The files of a question about many, when it is taken back because of one of them.
    pub(super) fn plan_anew(&mut self, desk: &Desk<'_>, id: ActionId) {
        let Some(Action::RestoreFiles { files }) = self.plan.steps.get(&id).map(|step| step.action.clone()) else {
            return;
        };
        for path in files.iter().map(|file| &file.path) {
            if self.objects.get(path).is_some_and(|object| object.action == Some(id)) {
                self.plan_path_anew(desk, path);
            }
        }
        self.dirty = true;
    }

    /// What is as its package ships it is judged by itself, and the others without it. True: there was some.
    pub(super) fn leave_genuine(&mut self, desk: &mut Desk<'_>, id: ActionId, facts: &Facts) -> bool {
        let doubted = desk.doubted(Some(facts));
        let spared: BTreeSet<&HostPath> = facts.vouched_for(&doubted).map(|genuine| &genuine.path).collect();
        let Some(Action::RestoreFiles { files }) = self.plan.steps.get(&id).map(|step| step.action.clone()) else {
            return false;
        };
        if spared.is_empty() {
            return false;
        }
        desk.deny(id, "some of the files are as their packages ship them");
        self.forget(desk, id);
        for file in files.iter() {
            if spared.contains(&file.path) {
                self.alone(desk, &file.path, Timestamp(0));
            } else {
                self.once_more(desk, &file.path, Timestamp(0));
            }
        }
        true
    }

    /// Files that do not fit the plan are planned by themselves; true when none is left.
    pub(super) fn leave_out(&mut self, desk: &mut Desk<'_>, id: ActionId, left_out: &[(HostPath, String)]) -> bool {
        let Some(Action::RestoreFiles { files }) = self.plan.steps.get(&id).map(|step| step.action.clone()) else {
            return false;
        };
        let out: BTreeSet<&HostPath> = left_out.iter().map(|(path, _)| path).collect();
        let rest: Vec<RestoreFile> = files.iter().filter(|file| !out.contains(&file.path)).cloned().collect();
        let none = rest.is_empty();
        if none {
            self.forget(desk, id);
        } else {
            self.plan.set(id, |step| step.action = Action::RestoreFiles { files: rest.into() });
        }
        for path in out {
            self.alone(desk, path, Timestamp(desk.now.0 + RETRY_NS));
        }
        none
    }
}
