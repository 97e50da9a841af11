// SPDX-License-Identifier: Apache-2.0
//! What others write on a path that was put in order: compared with what was taken out (docs/decisions, 8).
//!
//! Input: paths that others wrote since; what the hands found there. Output: comparisons, and where lines of the attack
//! are back, their removal or a question. A version is compared once, and what is others' own stays.

use super::step::is_again;
use super::{ATTEMPTS_MAX, Desk, Progressing, Proving, RETRY_NS, net};
use crate::action::{Action, Authored, Outcome, RestoreFile};
use crate::diagnose::{Case, Net, Progress, named};
use crate::guard::Attempts;
use crate::id::{ActionId, Timestamp};
use crate::incident::{InvocationKind, Milestone};
use crate::input::Effect;
use crate::path::HostPath;
use std::collections::BTreeSet;

/// LIMIT: how often what others brought back is taken out of one path; then a person is asked.
pub const RETURNS_MAX: u32 = 3;

impl Case {
    /// Lets the hands compare what others wrote on restored paths, at most `room` of them; gives how many. That is
    /// reading: nobody needs to permit it.
    pub(super) fn compare(&mut self, desk: &mut Desk<'_>, room: usize) -> usize {
        let begun: BTreeSet<HostPath> = {
            let steps = self.plan.busy.iter().filter_map(|id| self.plan.steps.get(id));
            steps.flat_map(|step| step.action.paths().cloned()).collect()
        };
        // Two at one path would each find the other's work.
        let ripe = |path: &&HostPath| {
            self.objects.get(*path).is_none_or(|object| {
                let attempts = Attempts { count: object.commits, last: object.committed };
                object.not_before.max(attempts.next_at().unwrap_or_default()) <= desk.now
            }) && !begun.contains(*path)
        };
        let ripe: Vec<HostPath> = self.plan.again.iter().filter(ripe).take(room).cloned().collect();
        let mut count = 0;
        for path in ripe {
            desk.units += 1;
            self.plan.again.remove(&path);
            let Some(restore) = self.with_others(desk, &path) else { continue };
            if let Some(object) = self.objects.get_mut(&path) {
                object.not_before = Timestamp(desk.now.0 + RETRY_NS);
            }
            let id = self.number(desk, Action::RestoreFile(restore.clone()));
            self.plan.set(id, |step| step.state = Progressing::Preparing);
            let what = Action::RestoreFile(restore);
            desk.out.push(Effect::Prepare { action: id, incident: self.id, what });
            count += 1;
        }
        count
    }

    /// What others made of a restored path, after the versions that were taken out of it; `None`: nothing, or it is
    /// planned anyway.
    pub(super) fn with_others(&self, desk: &Desk<'_>, path: &HostPath) -> Option<RestoreFile> {
        let object = self.objects.get(path).filter(|object| object.progress != Progress::Todo)?;
        let undone = object.undone.as_ref()?;
        let write = desk.graph.file(path)?.last()?;
        if write.pending || write.removed || net(desk, path) != Net::Nothing {
            return None;
        }
        let mut later = undone.later.clone();
        later.push(Authored { version: write.last, attack: false });
        Some(RestoreFile {
            path: path.clone(),
            base: undone.base,
            later,
            append_only: false,
            again: true,
            whole: false,
        })
    }

    /// Why nobody can say that the writer brought the attack's lines back by having read them before; `None`: he may have.
    pub(super) fn deliberate(&self, desk: &Desk<'_>, path: &HostPath) -> Option<String> {
        let undone = self.objects.get(path)?.undone.as_ref()?;
        let write = desk.graph.file(path)?.last()?;
        if undone.returns >= RETURNS_MAX {
            return Some(format!("it was taken out {} times already", undone.returns + 1));
        }
        if desk.change_window {
            return Some("a person said that changes are under way".to_owned());
        }
        let process = desk.graph.process(write.writer).is_some_and(|node| node.seen <= undone.at);
        let session = desk
            .graph
            .invocation(write.invocation)
            .is_some_and(|found| found.kind == InvocationKind::Session && found.started <= undone.at);
        (!process && !session).then(|| "whoever wrote it began after it had been taken out".to_owned())
    }

    /// Another action than this one is planned or under way at the path.
    pub(super) fn is_planned(&self, path: &HostPath, id: ActionId) -> bool {
        self.objects.get(path).is_some_and(|object| match object.progress {
            Progress::Todo => true,
            Progress::Busy => object.action != Some(id),
            Progress::Done | Progress::Shown(_) => false,
        })
    }

    /// What others wrote is theirs alone; an earlier question about the path is answered by it.
    pub(super) fn nothing_back(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath) {
        desk.deny(id, "nothing of the attack is in it");
        let answered = self.compared(desk, id, path);
        self.forget(desk, id);
        if answered {
            self.pass(desk, Milestone::Reopened, format!("nothing of the attack is in `{path}` any more"));
        }
    }

    pub(super) fn something_back(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath) {
        self.compared(desk, id, path);
        self.plan.proof = Proving::default();
        let writer = desk.graph.file(path).and_then(|file| file.last()).map(|write| write.writer);
        let writer = writer.map(|writer| format!(" by {}", named(desk.graph, writer))).unwrap_or_default();
        self.pass(desk, Milestone::Reopened, format!("lines of the attack came back in `{path}`, written{writer}"));
    }

    /// The comparison `id` came to an end. True when that answers an earlier question about the path.
    pub(super) fn compared(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath) -> bool {
        let Some(step) = self.plan.steps.get(&id) else { return false };
        let Action::RestoreFile(restore) = &step.action else { return false };
        let version = restore.later.last().map(|authored| authored.version).unwrap_or_default();
        let Some(object) = self.objects.get_mut(path) else { return false };
        let Some(undone) = &mut object.undone else { return false };
        (undone.compared, undone.tries) = (version, 0);
        if object.action == Some(id) {
            object.progress = Progress::Done; // a person had approved it
            return true;
        }
        let before = object.action;
        let before = before.filter(|id| self.plan.steps.get(id).is_some_and(|step| is_again(&step.action)));
        let answered = before.is_some() && matches!(object.progress, Progress::Shown(_));
        if answered || self.plan.shown.remove(path) {
            object.progress = Progress::Done;
        }
        if let Some(before) = before {
            self.supersede(desk, before);
        }
        answered
    }

    /// A comparison, or what followed from it, did not work: it is tried again a bounded number of times.
    pub(super) fn compare_later(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath, why: &str) {
        let committed = self.plan.steps.get(&id).is_some_and(|step| step.state == Progressing::Committed);
        if committed || self.plan.steps.get(&id).is_some_and(|step| step.state == Progressing::Settled) {
            self.plan.set(id, |step| {
                step.settled = Some(desk.now);
                step.outcome = Some(Outcome::Reverted(why.to_owned()));
                step.state = Progressing::Superseded;
            });
        } else {
            self.forget(desk, id);
        }
        let Some(object) = self.objects.get_mut(path) else { return };
        let Some(undone) = &mut object.undone else { return };
        undone.tries += 1;
        object.not_before = Timestamp(desk.now.0 + RETRY_NS);
        if undone.tries < ATTEMPTS_MAX {
            object.progress = Progress::Done;
            self.plan.again.insert(path.clone());
            return;
        }
        let why = format!("what others wrote could not be compared with what was taken out: {why}");
        self.pass(desk, Milestone::Reopened, format!("`{path}`: {why}"));
        if let Some(object) = self.objects.get_mut(path) {
            object.progress = Progress::Shown(why);
        }
        self.plan.shown.insert(path.clone());
    }
}
