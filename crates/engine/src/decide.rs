// SPDX-License-Identifier: Apache-2.0
//! From a confirmed incident to a plan, and from answers to its end.
//!
//! Input: a [`Case`] with its subjects and objects; the hands' answers. Output: effects. Order: stop every live
//! subject; put files in order (what every program loads first, then what the attack created, deepest first, then
//! what it changed); units and services; end the subjects; prove. Everything is judged by the guard, twice where the
//! hands have facts to add. What may not happen by itself becomes a question and stays visible; the rest goes on.
//!
//! Whoever read a file before it was restored and writes it after brings the attack's lines back: what others write on a
//! restored path is compared with what was taken out, and restored again where that is certain (docs/decisions, 8).

mod account;
mod capacity;
mod crowd;
mod files;
mod filter;
mod hands;
mod isolate;
mod judgement;
mod order;
mod person;
mod plan;
mod proof;
mod repeat;
mod returned;
mod service;
mod step;
mod subjects;
mod worse;

pub(crate) use account::SHADOW;
pub use crowd::{CROWD_MIN, CROWDS_IN_FLIGHT_MAX};
pub use files::IN_FLIGHT_MAX;
pub(crate) use filter::is_elsewhere;
pub use filter::{ADDRESSES_MAX, FILTER_LEASE_NS};
pub use isolate::{ISOLATION_LEASE_NS, ISOLATION_TRIAL_NS};
pub use judgement::JUDGEMENT_UNITS;
pub(crate) use judgement::told_why;
pub(crate) use order::{Place, place};
pub(crate) use plan::Plan;
pub(crate) use proof::Proving;
pub use proof::{CLOSE_GRACE_NS, PROOF_RETRY_NS, PROOFS_MAX};
pub use returned::RETURNS_MAX;
pub(crate) use service::Service;
pub(crate) use step::{Progressing, Step, records};
pub use subjects::TARGETS_MAX;
pub use worse::{FALLEN_MAX, LOOKED_AT_MAX, WATCH_NS};
pub(crate) use worse::{Fallen, Worse, comes_back, is_undo, undo_of};

use crate::action::{Action, Authored, Facts};
use crate::diagnose::{Case, Net, ObjectState, Progress, classify};
use crate::event::IncidentFinding;
use crate::graph::Graph;
use crate::guard::{self, Breaker, Budget, Capacity, Hold, Judged, Policies, Request};
use crate::id::{ActionId, IncidentId, Timestamp, VersionId};
use crate::incident::{Decision, Milestone, Stage, Verdict};
use crate::input::{Configuration, Effect, Side};
use crate::path::HostPath;
use std::collections::{BTreeMap, BTreeSet};
use step::processes_of;

/// LIMIT: plans made for one object before it is shown to a person.
pub const ATTEMPTS_MAX: u32 = 5;
/// What changed under our hands is planned again after so many nanoseconds.
pub const RETRY_NS: u64 = 250_000_000;
/// LIMIT: directories above a package's record that are looked at; dpkg's lie four deep.
const RECORD_DEPTH_MAX: usize = 16;
/// LIMIT: actions begun in one step; each is judged once, which is most of its cost.
pub const BEGUN_PER_STEP_MAX: u32 = 16;

/// What a case needs to go on: the rest of the engine, for one step.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) now: Timestamp,
    pub(crate) graph: &'a mut Graph,
    pub(crate) configuration: &'a Configuration,
    /// `None` when no policy text could be loaded: nothing is permitted.
    pub(crate) policies: Option<&'a Policies>,
    pub(crate) hold: Option<&'a Hold>,
    pub(crate) breaker: &'a Breaker,
    pub(crate) budget: &'a mut Budget,
    pub(crate) capacity: &'a mut Capacity,
    /// A person said that changes are under way.
    pub(crate) change_window: bool,
    pub(crate) actions_begun: &'a mut u64,
    pub(crate) owners: &'a mut BTreeMap<ActionId, IncidentId>,
    /// Where judgements are kept, when somebody wants to see them.
    pub(crate) judged: Option<&'a mut Vec<Judged>>,
    pub(crate) out: &'a mut Vec<Effect>,
    pub(crate) units: u32,
    /// Actions that may still be begun in this step.
    pub(crate) room: u32,
    /// Units that this step may use.
    pub(crate) units_max: u32,
}

impl Desk<'_> {
    /// The guard's word. Without policies nothing is permitted.
    pub(crate) fn judge(&mut self, action: ActionId, incident: IncidentId, request: &Request<'_>) -> Verdict {
        let Some(policies) = self.policies else {
            let reasons = vec!["no policy is loaded: nothing is permitted".to_owned()];
            return Verdict { decision: Decision::Deny, reasons };
        };
        let verdict = guard::judge(request, policies);
        if guard::is_short(&verdict) {
            self.budget.refuse(incident);
        } else if guard::is_low(&verdict) {
            self.capacity.refuse(incident, self.taking(request.action, request.facts));
        }
        if let Some(judged) = self.judged.as_mut() {
            judged.push(Judged::new(action, incident, request, &verdict));
        }
        verdict
    }

    /// Why nothing more is done by itself about this incident; first stops never wait for the budget.
    pub(crate) fn restraint(&self, incident: IncidentId, action: &Action, facts: Option<&Facts>) -> Option<String> {
        let limit = self.configuration.actions_per_minute;
        let stop = matches!(action, Action::SuspendProcesses { .. });
        let short = || self.budget.objection(self.now, incident, limit).filter(|_| !stop);
        let low = || self.capacity.objection(self.now, &self.taking(action, facts));
        self.breaker.objection(incident).or_else(low).or_else(short)
    }

    /// Of the records that vouch for files, those that an attack wrote, or put a directory of its own above.
    pub(crate) fn doubted(&self, facts: Option<&Facts>) -> Vec<HostPath> {
        let records = facts.into_iter().flat_map(|facts| &facts.genuine).map(|genuine| &genuine.record);
        let records: BTreeSet<&HostPath> = records.collect();
        let written = |path: &HostPath| {
            self.graph.file(path).is_some_and(|file| file.incident.is_some())
                || !self.graph.incidents_of(path).is_empty()
        };
        let above = |path: &HostPath| Some(HostPath::new(path.parent())).filter(|parent| parent.as_bytes().len() > 1);
        let doubtful = |record: &&HostPath| {
            std::iter::successors(Some((*record).clone()), above).take(RECORD_DEPTH_MAX).any(|path| written(&path))
        };
        records.into_iter().filter(doubtful).cloned().collect()
    }

    /// Whether a person may be asked more about this incident: in a storm nobody can answer that many questions.
    pub(crate) fn may_ask(&self, incident: IncidentId) -> bool {
        self.hold.is_none_or(|hold| self.now >= hold.until) && self.breaker.objection(incident).is_none()
    }

    /// Permitted; what no person approved counts for the budget.
    pub(crate) fn commit(&mut self, action: ActionId, incident: IncidentId, step: &Step, judged: (&Verdict, &Facts)) {
        let (verdict, facts) = judged;
        if step.approvals.is_empty() {
            self.budget.spend(self.now, incident);
        }
        if let Action::TerminateProcesses { processes } = &step.action {
            processes
                .iter()
                .filter_map(|key| self.graph.main_of(*key))
                .for_each(|unit| self.capacity.end(self.now, unit));
        }
        self.capacity.take(self.now, &self.taking(&step.action, Some(facts)), false);
        self.out.push(Effect::Commit { action, verdict: verdict.clone() });
    }

    /// The action is not permitted, or not wanted any more: the hands forget what they captured for it.
    pub(crate) fn deny(&mut self, action: ActionId, why: &str) {
        let verdict = Verdict { decision: Decision::Deny, reasons: vec![why.to_owned()] };
        self.out.push(Effect::Drop { action, verdict });
    }
}

fn object_progress<'a>(objects: &'a BTreeMap<HostPath, ObjectState>, path: &HostPath) -> Option<&'a Progress> {
    objects.get(path).map(|object| &object.progress)
}

/// It concerns who is elsewhere, or may come: this host is healed without it.
fn is_beside(action: &Action) -> bool {
    matches!(action, Action::FilterTraffic { .. }) || guard::is_personal(action)
}

/// What a person wants to see of a path that nobody else can tell apart: of each side the last version.
fn aside(incident: IncidentId, path: &HostPath, base: VersionId, later: &[Authored]) -> Effect {
    let last =
        |attack: bool| later.iter().rev().find(|authored| authored.attack == attack).map(|authored| authored.version);
    let sides = [(Side::Before, Some(base)), (Side::Attack, last(true)), (Side::Others, last(false))];
    let known =
        |(side, version): (Side, Option<VersionId>)| Some((side, version.filter(|id| *id != VersionId::UNKNOWN)?));
    Effect::Aside { incident, path: path.clone(), versions: sides.into_iter().filter_map(known).collect() }
}

/// What is left of the attack at this path now.
fn net(desk: &Desk<'_>, path: &HostPath) -> Net {
    let file = desk.graph.file(path);
    file.map_or(Net::Nothing, |file| classify(desk.graph, desk.configuration, path, file))
}

impl Case {
    /// Does all that can be done now. Cheap when nothing changed.
    pub(crate) fn advance(&mut self, desk: &mut Desk<'_>) {
        if !self.dirty || !self.confirmed || self.closed.is_some() {
            return;
        }
        self.dirty = false;
        self.reopen(desk);
        self.suspend(desk);
        self.see_containment(desk);
        self.filter(desk);
        let waiting: Vec<ActionId> =
            self.plan.reconsidered.iter().take(usize::try_from(desk.room).unwrap_or(0)).copied().collect();
        for id in waiting {
            self.plan.reconsidered.remove(&id);
            let planned_anew = self.reconsider_one(desk, id);
            if planned_anew || self.plan.busy.contains(&id) {
                self.plan.proof = Proving::default();
                self.pass(desk, Milestone::Reopened, "what waited may be done now".to_owned());
            }
        }
        if !self.plan.reconsidered.is_empty() {
            self.dirty = true;
            return;
        }
        if self.search.is_some() || self.plan.is_any_busy(|action| matches!(action, Action::SuspendProcesses { .. })) {
            return;
        }
        let beside = !self.plan.talked.is_empty() || self.plan.is_any_busy(is_beside);
        let settled = self.take_back(desk)
            && self.order_files(desk)
            && self.order_services(desk)
            && self.end_subjects(desk)
            && !beside;
        if settled {
            self.conclude(desk);
        }
    }

    /// Moves the stage on, if the table says so, and tells it.
    pub(crate) fn pass(&mut self, desk: &mut Desk<'_>, milestone: Milestone, why: String) {
        if let Some(stage) = self.stage.next(milestone) {
            self.stage = stage;
            match stage {
                Stage::Contained => self.contained = self.contained.or(Some(desk.now)),
                Stage::Restored => self.restored = Some(desk.now),
                Stage::Healed => self.healed = Some(desk.now),
                Stage::Open => (self.restored, self.healed) = (None, None),
                Stage::Stuck => {}
            }
            self.why = why;
            self.tell(desk);
        }
    }

    pub(crate) fn tell(&self, desk: &mut Desk<'_>) {
        let finding = IncidentFinding { incident: self.id, stage: self.stage, message: self.why.clone() };
        desk.out.push(Effect::Incident(finding));
    }

    fn reopen(&mut self, desk: &mut Desk<'_>) {
        let todo = || !self.plan.queue.is_empty();
        let anew = match self.stage {
            Stage::Open => false,
            Stage::Contained => !self.plan.fresh.is_empty(),
            Stage::Restored | Stage::Healed | Stage::Stuck => !self.plan.fresh.is_empty() || todo(),
        };
        if anew {
            self.plan.proof = Proving::default();
            self.pass(desk, Milestone::Reopened, "more was found that belongs to it".to_owned());
        }
    }

    /// Keeps the stopped stopped.
    pub(crate) fn renew(&mut self, desk: &mut Desk<'_>) {
        if !self.confirmed || self.closed.is_some() {
            return;
        }
        self.lapse(desk);
        self.end_trial(desk);
        self.plan.quiet_ticks = self.plan.quiet_ticks.saturating_add(1);
        if self.stage != Stage::Healed || !self.plan.again.is_empty() {
            self.dirty = true; // something may have waited for time to pass
        }
        // What was stopped by itself goes on in a storm, when its lease ends.
        let storm = desk.breaker.objection(self.id).is_some();
        for id in &self.plan.stops {
            let step = self.plan.steps.get(id).filter(|step| !storm || !step.approvals.is_empty());
            let held = step.map(|step| processes_of(&step.action)).unwrap_or_default();
            if held.iter().any(|key| self.plan.live.contains(key)) {
                desk.out.push(Effect::Renew { action: *id });
                desk.stay_down(held);
                desk.units += 1;
            }
        }
    }
}
