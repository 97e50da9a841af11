// SPDX-License-Identifier: Apache-2.0
//! The end of a plan: what stands in the way, or the proof.
//!
//! Input: a plan of which everything that could be begun is settled; the checks that were made. Output: the obstacles
//! in words, or a proof that is asked for, and what came of it. Nothing is healed before every check holds, and no
//! check is no proof.

use super::step::processes_of;
use super::{Desk, Progressing, Step, is_beside, is_undo, net, object_progress, place};
use crate::action::{Action, Outcome};
use crate::diagnose::{Case, Net, Progress};
use crate::id::Timestamp;
use crate::incident::{Milestone, ObjectClass, Stage};
use crate::input::{Check, Effect, Mode, Proof};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// LIMIT: proofs asked for before the incident is stuck.
pub const PROOFS_MAX: u32 = 3;
/// A proof that did not hold is asked for again after so many nanoseconds.
pub const PROOF_RETRY_NS: u64 = 1_000_000_000;
/// A file that a subject had open is closed by the kernel soon after its end; nanoseconds.
pub const CLOSE_GRACE_NS: u64 = 2_000_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proving {
    pub(crate) running: bool,
    pub(crate) count: u32,
    pub(crate) not_before: Timestamp,
}

impl Case {
    /// Everything that could be begun is settled: asks for the proof, or says what stands in the way.
    pub(super) fn conclude(&mut self, desk: &mut Desk<'_>) {
        if !self.plan.pending.is_empty() {
            let quiet = self.plan.quiet_since.is_some_and(|since| desk.now.since_ns(since) >= CLOSE_GRACE_NS);
            if !quiet && self.plan.live.is_empty() {
                return; // the kernel closes what the dead had open; a tick looks again
            }
            // No close was seen and none will come: what was recorded before it must do.
            self.plan.impatient = true;
            for path in std::mem::take(&mut self.plan.pending) {
                let net = net(desk, &path);
                let Some(object) = self.objects.get_mut(&path) else { continue };
                if net == Net::Pending {
                    let why = "written by the attack, and no version of it was recorded".to_owned();
                    object.progress = Progress::Shown(why);
                    self.plan.shown.insert(path);
                } else {
                    object.progress = Progress::Todo;
                    self.plan.enqueue(place(&path, &net, self.directories.contains(&path)));
                    self.dirty = true;
                }
            }
            if self.dirty {
                return;
            }
        }
        if let Some(obstacle) = self.obstacle(desk) {
            self.lock_account(desk);
            self.isolate_host(desk);
            let untouched = !desk.configuration.scope_permits_action || desk.configuration.mode == Mode::Observe;
            if untouched && matches!(self.stage, Stage::Open | Stage::Contained) {
                if self.why != obstacle {
                    self.why = obstacle;
                    self.tell(desk);
                }
            } else {
                self.pass(desk, Milestone::Obstructed, obstacle);
            }
            return;
        }
        if !self.plan.live.is_empty() {
            return;
        }
        let settled = self.plan.settled;
        self.pass(desk, Milestone::Restored, format!("{settled} actions are done; being proven"));
        self.lock_account(desk);
        self.isolate_host(desk);
        let proof = self.plan.proof;
        if self.stage == Stage::Restored && !proof.running && proof.not_before <= desk.now {
            self.plan.proof.running = true;
            // Our own change made the path clean; what stands in its chain since is somebody else's, and stays as far as
            // nothing of the attack is in it.
            let ours = |path: &HostPath| {
                self.objects.contains_key(path) && desk.graph.file(path).is_none_or(|file| file.writes.is_empty())
            };
            let done = |step: &Step| {
                let changed = step.action.paths().any(ours) || step.action.written().is_some_and(ours);
                step.state == Progressing::Settled && !step.failed() && changed
            };
            let many = |step: &&Step| done(step) && matches!(step.action, Action::RestoreFiles { .. });
            let of_many = self.plan.steps.values().filter(many).flat_map(|step| step.action.paths());
            let what = Proof {
                others: of_many.filter(|path| !ours(path)).cloned().collect(),
                processes: self.subjects.keys().copied().collect(),
                actions: self.plan.steps.iter().filter(|(_, step)| done(step)).map(|(id, _)| *id).collect(),
                again: self.objects.keys().filter_map(|path| self.with_others(desk, path)).collect(),
                paths: self
                    .objects
                    .iter()
                    .filter(|(_, object)| object.class != ObjectClass::Unprotected)
                    .map(|(path, _)| path.clone())
                    .collect(),
                since: self.opened,
            };
            desk.out.push(Effect::Verify { incident: self.id, what });
        }
    }

    /// What stands in the way of healing, in words.
    pub(super) fn obstacle(&self, desk: &Desk<'_>) -> Option<String> {
        let moot = |step: &Step| {
            let processes = processes_of(&step.action);
            let gone = !processes.is_empty() && processes.iter().all(|key| !self.plan.live.contains(key));
            // A person wants what was done to stay.
            let stays = is_undo(&step.action) && step.personal && step.state == Progressing::Refused;
            gone || stays || is_beside(&step.action)
        };
        let steps = || self.plan.unresolved.iter().filter_map(|id| Some((id, self.plan.steps.get(id)?)));
        let unresolved = || steps().filter(|(_, step)| !moot(step));
        let asked = unresolved().filter(|(_, step)| step.state == Progressing::Asked).count();
        let mut reasons: Vec<String> = Vec::new();
        if asked > 0 {
            let mode = match (desk.configuration.scope_permits_action, desk.configuration.mode) {
                (false, _) => ", for nothing may be done in this scope",
                (true, Mode::Observe) => ", for the mode is observe",
                (true, Mode::Guarded | Mode::Autonomous) => "",
            };
            reasons.push(format!("{asked} actions wait for a person{mode}"));
        }
        for (id, step) in unresolved().filter(|(_, step)| step.failed()).take(4) {
            let why = match &step.outcome {
                Some(Outcome::Reverted(why) | Outcome::Failed(why)) => why.clone(),
                Some(Outcome::Undone) => "undone".to_owned(),
                Some(Outcome::Success | Outcome::DoesNotExist | Outcome::Partly(_)) | None => {
                    step.verdict.reasons.join("; ")
                }
            };
            let target = step.action.path().map(|path| format!(" of `{path}`")).unwrap_or_default();
            reasons.push(format!("action {id} ({}{target}) was not done: {why}", step.action.name()));
        }
        let shown = self.plan.shown.iter().filter_map(|path| match object_progress(&self.objects, path)? {
            Progress::Shown(why) => Some(format!("`{path}` is shown: {why}")),
            Progress::Todo | Progress::Busy | Progress::Done => None,
        });
        reasons.extend(shown.take(4));
        if !reasons.is_empty() {
            reasons.splice(0..0, self.plan.worse.words().cloned());
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    pub(crate) fn proven(&mut self, desk: &mut Desk<'_>, checks: &[Check]) {
        if !self.plan.proof.running {
            return;
        }
        self.plan.proof.running = false;
        self.dirty = true;
        let broken: Vec<String> = checks
            .iter()
            .filter(|check| !check.holds)
            .take(4)
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        if broken.is_empty() && !checks.is_empty() {
            self.pass(desk, Milestone::Proven, format!("healed: {} checks hold", checks.len()));
            return;
        }
        let broken = if checks.is_empty() { "nothing was checked".to_owned() } else { broken.join("; ") };
        self.plan.proof.count += 1;
        self.plan.proof.not_before = Timestamp(desk.now.0 + PROOF_RETRY_NS);
        if self.plan.proof.count >= PROOFS_MAX {
            self.pass(desk, Milestone::Obstructed, format!("the proof does not hold: {broken}"));
        } else {
            self.why = format!("not proven yet: {broken}");
        }
    }
}
