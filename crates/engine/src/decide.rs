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

mod crowd;
mod order;
mod proof;
mod returned;
mod step;

pub use crowd::{CROWD_MIN, CROWDS_IN_FLIGHT_MAX};
pub(crate) use order::{Place, Service, place};
pub(crate) use proof::Proving;
pub use proof::{CLOSE_GRACE_NS, PROOF_RETRY_NS, PROOFS_MAX};
pub use returned::RETURNS_MAX;
pub(crate) use step::{Progressing, Step, records};

use crate::action::{Action, Expected, FILES_MAX, Facts, Merge, Outcome, RestoreFile};
use crate::diagnose::{Case, Net, ObjectState, Progress, classify};
use crate::event::IncidentFinding;
use crate::graph::Graph;
use crate::guard::{self, Attempts, Hold, Policies, Request};
use crate::id::{ActionId, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::{Decision, InvocationKind, Milestone, ObjectClass, Stage, Verdict};
use crate::input::{Configuration, Effect};
use crate::path::HostPath;
use order::service_of;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: processes named in one action; more make further actions.
pub const TARGETS_MAX: usize = 256;
/// LIMIT: file actions that the hands have at one time.
pub const IN_FLIGHT_MAX: usize = 16;
/// LIMIT: plans made for one object before it is shown to a person.
pub const ATTEMPTS_MAX: u32 = 5;
/// What changed under our hands is planned again after so many nanoseconds.
pub const RETRY_NS: u64 = 250_000_000;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) steps: BTreeMap<ActionId, Step>,
    /// Live subjects that nothing stops yet.
    pub(crate) fresh: BTreeSet<ProcessKey>,
    pub(crate) services: BTreeMap<Service, Option<ActionId>>,
    pub(crate) proof: Proving,
    /// When the last subject was seen to be gone.
    pub(crate) quiet_since: Option<Timestamp>,
    /// Objects to be planned, in their order.
    queue: BTreeSet<Place>,
    /// Objects to be planned later.
    later: BTreeSet<HostPath>,
    /// Objects still open for writing by a subject.
    pending: BTreeSet<HostPath>,
    /// Nothing is waited for any longer: what was recorded must do.
    impatient: bool,
    /// Ticks since the last object was queued.
    #[serde(default)]
    quiet_ticks: u32,
    /// How often somebody joined a session while it was to be ended, and when that is tried again.
    #[serde(default)]
    joined: (u32, Timestamp),
    /// Restored objects that others wrote since: to be compared with what was taken out.
    again: BTreeSet<HostPath>,
    /// Objects that no action could be made for.
    shown: BTreeSet<HostPath>,
    /// Actions that the hands have.
    busy: BTreeSet<ActionId>,
    /// Actions that were asked, refused or failed.
    unresolved: BTreeSet<ActionId>,
    /// Of these, those to be judged again.
    reconsidered: BTreeSet<ActionId>,
    /// Stops that hold.
    stops: BTreeSet<ActionId>,
    /// Subjects not known to be gone; of them those not stopped.
    live: BTreeSet<ProcessKey>,
    running: BTreeSet<ProcessKey>,
    settled: u32,
}

/// LIMIT: actions begun in one step; each is judged once, which is most of its cost.
pub const BEGUN_PER_STEP_MAX: u32 = 16;
/// Units of work that one judgement stands for.
pub const JUDGEMENT_UNITS: u32 = 16;

/// What a case needs to go on: the rest of the engine, for one step.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) now: Timestamp,
    pub(crate) graph: &'a mut Graph,
    pub(crate) configuration: &'a Configuration,
    /// `None` when no policy text could be loaded: nothing is permitted.
    pub(crate) policies: Option<&'a Policies>,
    pub(crate) hold: Option<&'a Hold>,
    /// A person said that changes are under way.
    pub(crate) change_window: bool,
    pub(crate) actions_begun: &'a mut u64,
    pub(crate) owners: &'a mut BTreeMap<ActionId, IncidentId>,
    pub(crate) out: &'a mut Vec<Effect>,
    pub(crate) units: u32,
    /// Actions that may still be begun in this step.
    pub(crate) room: u32,
    /// Units that this step may use.
    pub(crate) units_max: u32,
}

fn processes_of(action: &Action) -> &[ProcessKey] {
    match action {
        Action::SuspendProcesses { processes }
        | Action::TerminateProcesses { processes }
        | Action::EndSession { processes, .. } => processes,
        Action::RestoreFile(_)
        | Action::RestoreFiles { .. }
        | Action::QuarantineFile { .. }
        | Action::RemoveUnit { .. }
        | Action::ReloadService { .. }
        | Action::RestartService { .. }
        | Action::FreeSpace { .. }
        | Action::LoadFirewall { .. }
        | Action::RenewCertificate { .. }
        | Action::RestorePackaged { .. } => &[],
    }
}

/// A comparison of what others wrote with what was taken out before.
const fn is_again(action: &Action) -> bool {
    matches!(action, Action::RestoreFile(RestoreFile { again: true, .. }))
}

const fn ends_processes(action: &Action) -> bool {
    matches!(action, Action::TerminateProcesses { .. } | Action::EndSession { .. })
}

fn object_progress<'a>(objects: &'a BTreeMap<HostPath, ObjectState>, path: &HostPath) -> Option<&'a Progress> {
    objects.get(path).map(|object| &object.progress)
}

/// What is left of the attack at this path now.
fn net(desk: &Desk<'_>, path: &HostPath) -> Net {
    let file = desk.graph.file(path);
    file.map_or(Net::Nothing, |file| classify(desk.graph, desk.configuration, path, file))
}

impl Plan {
    pub(crate) fn enqueue(&mut self, place: Place) {
        self.later.remove(&place.2);
        self.pending.remove(&place.2);
        self.shown.remove(&place.2);
        self.queue.insert(place);
        self.quiet_ticks = 0;
    }

    /// Others wrote a restored path.
    pub(crate) fn look_again(&mut self, path: HostPath) {
        self.again.insert(path);
    }

    /// It is planned again at a later time.
    pub(crate) fn waits(&self, path: &HostPath) -> bool {
        self.later.contains(path)
    }

    /// A new live subject.
    pub(crate) fn see_live(&mut self, key: ProcessKey) {
        self.fresh.insert(key);
        self.live.insert(key);
        self.running.insert(key);
        self.impatient = false;
        self.quiet_since = None;
    }

    fn set(&mut self, id: ActionId, change: impl FnOnce(&mut Step)) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        let before = step.state;
        change(step);
        let (busy, unresolved) = (step.is_busy(), step.state == Progressing::Asked || step.failed());
        let stop = matches!(step.action, Action::SuspendProcesses { .. }) && step.outcome == Some(Outcome::Success);
        if step.state == Progressing::Settled && before != Progressing::Settled {
            self.settled += 1;
        }
        for (set, member) in [(&mut self.busy, busy), (&mut self.unresolved, unresolved), (&mut self.stops, stop)] {
            if member {
                set.insert(id);
            } else {
                set.remove(&id);
            }
        }
    }

    fn is_any_busy(&self, kind: impl Fn(&Action) -> bool) -> bool {
        self.busy.iter().filter_map(|id| self.steps.get(id)).any(|step| kind(&step.action))
    }

    /// All of another incident's plan; its actions keep their numbers.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.fresh.extend(other.fresh);
        for (service, id) in other.services {
            self.services.entry(service).or_insert(id);
        }
        self.queue.extend(other.queue);
        self.later.extend(other.later);
        self.pending.extend(other.pending);
        self.again.extend(other.again);
        self.shown.extend(other.shown);
        self.busy.extend(other.busy);
        self.unresolved.extend(other.unresolved);
        self.reconsidered.extend(other.reconsidered);
        self.stops.extend(other.stops);
        self.live.extend(other.live);
        self.running.extend(other.running);
        self.settled += other.settled;
        self.proof = Proving::default();
    }
}

impl Case {
    /// The process is gone, by an event or an outcome.
    pub(crate) fn see_gone(&mut self, key: ProcessKey) {
        if let Some(subject) = self.subjects.get_mut(&key) {
            subject.gone = true;
            self.plan.live.remove(&key);
            self.plan.running.remove(&key);
            self.plan.fresh.remove(&key);
            self.dirty = true;
        }
    }

    /// Does all that can be done now. Cheap when nothing changed.
    pub(crate) fn advance(&mut self, desk: &mut Desk<'_>) {
        if !self.dirty || !self.confirmed || self.closed.is_some() {
            return;
        }
        self.dirty = false;
        self.reopen(desk);
        self.suspend(desk);
        self.see_containment(desk);
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
        let settled = self.order_files(desk) && self.order_services(desk) && self.end_subjects(desk);
        if settled {
            self.conclude(desk);
        }
    }

    /// What waited is judged again; a path is planned anew, in the order of all paths and with what happened to it since.
    /// True when it is planned anew.
    fn reconsider_one(&mut self, desk: &mut Desk<'_>, id: ActionId) -> bool {
        let Some(action) = self.plan.steps.get(&id).map(|step| step.action.clone()) else { return false };
        if let Action::RestoreFiles { .. } = action {
            self.supersede(desk, id);
            return true;
        }
        if let Some(path) = action.path() {
            self.supersede(desk, id);
            if is_again(&action) {
                self.plan.again.insert(path.clone());
                return true;
            }
            return self.plan_path_anew(desk, path);
        }
        let over =
            !processes_of(&action).is_empty() && !processes_of(&action).iter().any(|key| self.plan.live.contains(key));
        if over {
            self.supersede(desk, id);
            return false;
        }
        self.begin(desk, id);
        false
    }

    /// As if no plan had been made for it; false: it is no object any more.
    fn plan_path_anew(&mut self, desk: &Desk<'_>, path: &HostPath) -> bool {
        let Some(object) = self.objects.get_mut(path) else { return false };
        (object.action, object.progress, object.attempts) = (None, Progress::Todo, 0);
        let net = net(desk, path);
        self.plan.enqueue(place(path, &net, self.directories.contains(path)));
        true
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

    // ---- deciding ----

    fn judge(&self, desk: &Desk<'_>, step: &Step, facts: Option<&Facts>) -> Verdict {
        let Some(policies) = desk.policies else {
            let reasons = vec!["no policy is loaded: nothing is permitted".to_owned()];
            return Verdict { decision: Decision::Deny, reasons };
        };
        let objects = || step.action.paths().filter_map(|path| self.objects.get(path));
        let attempts = match objects().max_by_key(|object| (object.commits, object.committed)) {
            Some(object) => Attempts { count: object.commits, last: object.committed },
            None => Attempts { count: step.retries, last: None },
        };
        let request = Request {
            now: desk.now,
            action: &step.action,
            mode: desk.configuration.mode,
            scope_permits_action: desk.configuration.scope_permits_action,
            confirmed: self.confirmed,
            attack_only: objects().all(|object| object.class == ObjectClass::AttackOnly),
            failure: false,
            authorised_change: false,
            predicted: self.predicted(&step.action),
            hold: desk.hold,
            attempts,
            approved: step.approved,
            facts,
            never_touch: &desk.configuration.never_touch,
            never_touch_paths: &desk.configuration.never_touch_paths,
        };
        guard::judge(&request, policies)
    }

    /// Targets counted anew from the subjects and objects, not from the action.
    fn predicted(&self, action: &Action) -> usize {
        match action {
            Action::SuspendProcesses { processes }
            | Action::TerminateProcesses { processes }
            | Action::EndSession { processes, .. } => {
                processes.iter().filter(|process| self.subjects.contains_key(process)).count()
            }
            Action::RestoreFile(_) | Action::RestoreFiles { .. } | Action::QuarantineFile { .. } => {
                action.paths().filter(|path| self.objects.contains_key(path)).count()
            }
            Action::RemoveUnit { .. } | Action::ReloadService { .. } => 1,
            // Cures of failures: an incident of an attack names none of them.
            Action::RestartService { .. }
            | Action::FreeSpace { .. }
            | Action::LoadFirewall { .. }
            | Action::RenewCertificate { .. }
            | Action::RestorePackaged { .. } => 0,
        }
    }

    /// A new action: judged, then begun, asked or refused.
    fn propose(&mut self, desk: &mut Desk<'_>, action: Action) -> ActionId {
        let id = self.number(desk, action);
        self.begin(desk, id);
        id
    }

    fn number(&mut self, desk: &mut Desk<'_>, action: Action) -> ActionId {
        *desk.actions_begun += 1;
        let id = ActionId(*desk.actions_begun);
        desk.owners.insert(id, self.id);
        self.plan.steps.insert(id, Step::new(action, desk.now));
        id
    }

    /// Judges an action that waits or is new, and acts accordingly.
    fn begin(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        desk.units += JUDGEMENT_UNITS;
        desk.room = desk.room.saturating_sub(1);
        let Some(step) = self.plan.steps.get(&id) else { return };
        let verdict = self.judge(desk, step, None);
        let asked_before = step.state == Progressing::Asked;
        let what = step.action.clone();
        let incident = self.id;
        let state = match verdict.decision {
            Decision::Permit => {
                if let Action::SuspendProcesses { processes } = what {
                    desk.out.push(Effect::Reflex { action: id, incident, processes });
                    Progressing::Committed
                } else {
                    desk.out.push(Effect::Prepare { action: id, incident, what });
                    Progressing::Preparing
                }
            }
            Decision::Ask => {
                if !asked_before {
                    desk.out.push(Effect::Ask { action: id, incident, what, verdict: verdict.clone() });
                }
                Progressing::Asked
            }
            Decision::Deny => Progressing::Refused,
        };
        let reasons = verdict.reasons.join("; ");
        self.plan.set(id, |step| {
            step.state = state;
            step.verdict = verdict;
            step.decided = desk.now;
        });
        self.reflect(id, state, &reasons);
    }

    /// What an action's state means for its object.
    fn reflect(&mut self, id: ActionId, state: Progressing, why: &str) {
        let Some(step) = self.plan.steps.get(&id) else { return };
        let progress = match state {
            Progressing::Preparing | Progressing::Committed => Progress::Busy,
            Progressing::Asked => Progress::Shown(format!("waits for a person: {why}")),
            Progressing::Refused => Progress::Shown(format!("refused: {why}")),
            Progressing::Settled | Progressing::Superseded => return,
        };
        for path in step.action.paths() {
            if let Some(object) = self.objects.get_mut(path) {
                object.action = Some(id);
                object.progress = progress.clone();
            }
        }
    }

    // ---- the plan, in its order ----

    fn suspend(&mut self, desk: &mut Desk<'_>) {
        while !self.plan.fresh.is_empty() {
            let mut processes = Vec::new();
            while processes.len() < TARGETS_MAX
                && let Some(key) = self.plan.fresh.pop_first()
            {
                if self.subjects.get(&key).is_some_and(|subject| !subject.gone && subject.stop.is_none()) {
                    processes.push(key);
                }
            }
            if processes.is_empty() {
                continue;
            }
            let targets = processes.clone();
            let id = self.propose(desk, Action::SuspendProcesses { processes });
            for key in targets {
                if let Some(subject) = self.subjects.get_mut(&key) {
                    subject.stop = Some(id);
                }
            }
        }
    }

    fn see_containment(&mut self, desk: &mut Desk<'_>) {
        let live = self.plan.live.len();
        if self.plan.running.is_empty() && self.stage == Stage::Open {
            self.pass(desk, Milestone::Contained, format!("{live} processes of the attack are stopped, none runs"));
        }
        self.plan.quiet_since = if live == 0 { self.plan.quiet_since.or(Some(desk.now)) } else { None };
    }

    /// Begins what can be begun; true when no file waits or is worked on.
    fn order_files(&mut self, desk: &mut Desk<'_>) -> bool {
        let crowd = self.objects.len() >= CROWD_MIN;
        let ripe: Vec<HostPath> = self
            .plan
            .later
            .iter()
            .filter(|path| self.objects.get(path).is_none_or(|object| object.not_before <= desk.now))
            .take(if crowd { FILES_MAX } else { IN_FLIGHT_MAX })
            .cloned()
            .collect();
        for path in ripe {
            let net = net(desk, &path);
            let directory = self.directories.contains(&path);
            self.plan.enqueue(place(&path, &net, directory));
        }
        if crowd && !self.is_gathered() {
            return false;
        }
        let begun = || self.plan.busy.iter().filter_map(|id| self.plan.steps.get(id)).map(|step| &step.action);
        let mut busy = begun().filter(|action| action.path().is_some()).count();
        let mut crowds = begun().filter(|action| matches!(action, Action::RestoreFiles { .. })).count();
        let mut gathered: Vec<RestoreFile> = Vec::new();
        // LIMIT: the queue is looked at as far as this step's work allows.
        while busy < IN_FLIGHT_MAX
            && crowds < CROWDS_IN_FLIGHT_MAX
            && desk.room > 0
            && (desk.units < desk.units_max || !gathered.is_empty())
        {
            let Some((_, _, path)) = self.plan.queue.pop_first() else { break };
            if self.objects.get(&path).is_none_or(|object| object.progress != Progress::Todo) {
                continue;
            }
            desk.units += 1;
            if self.cools_down(&path, desk.now) {
                continue;
            }
            let net = net(desk, &path);
            if net == Net::Pending || (!self.plan.impatient && self.is_held_open(desk, &path)) {
                self.plan.pending.insert(path);
            } else if self.waits_for_entries(&path, desk.now) {
                continue;
            } else if let Some(file) = self.as_one_of_many(desk, &path, &net).filter(|_| crowd) {
                gathered.push(file);
                if gathered.len() == FILES_MAX {
                    crowds += usize::from(self.order_many(desk, std::mem::take(&mut gathered)));
                }
            } else if self.order_file(desk, &path, net) {
                busy += 1;
            }
        }
        if !gathered.is_empty() {
            crowds += usize::from(self.order_many(desk, gathered));
        }
        self.dirty |= !self.plan.queue.is_empty() && busy < IN_FLIGHT_MAX && crowds < CROWDS_IN_FLIGHT_MAX;
        busy += crowds;
        busy += self.compare(desk, IN_FLIGHT_MAX.saturating_sub(busy));
        // What was compared once may be written all day long: that holds nothing up.
        let compared =
            |object: &ObjectState| object.undone.as_ref().is_none_or(|undone| undone.compared != VersionId::UNKNOWN);
        busy == 0
            && self.plan.queue.is_empty()
            && self.plan.later.is_empty()
            && self.plan.again.iter().all(|path| self.objects.get(path).is_none_or(compared))
    }

    /// The guard wants a pause between two actions on one path: it is planned when the pause is over.
    fn cools_down(&mut self, path: &HostPath, now: Timestamp) -> bool {
        let Some(object) = self.objects.get_mut(path) else { return false };
        let attempts = Attempts { count: object.commits, last: object.committed };
        let Some(ready) = attempts.next_at().filter(|ready| *ready > now) else { return false };
        object.not_before = ready;
        self.plan.later.insert(path.clone());
        true
    }

    /// A directory of the attack's own goes when it is empty: it is planned once nothing in it is to be put in order.
    fn waits_for_entries(&mut self, path: &HostPath, now: Timestamp) -> bool {
        if !self.directories.contains(path) {
            return false;
        }
        let within = HostPath::new(&[path.as_bytes(), b"/"].concat());
        let below = self.objects.range(within.clone()..);
        let below = below.take_while(|(entry, _)| entry.as_bytes().starts_with(within.as_bytes()));
        let mut open =
            below.filter(|(_, object)| matches!(object.progress, Progress::Todo | Progress::Busy)).peekable();
        if open.peek().is_none() {
            return false;
        }
        // What waits for a close is looked at again when everything else is settled: then so is this.
        if open.all(|(entry, _)| self.plan.pending.contains(entry)) {
            self.plan.pending.insert(path.clone());
        } else if let Some(object) = self.objects.get_mut(path) {
            object.not_before = Timestamp(now.0 + RETRY_NS);
            self.plan.later.insert(path.clone());
        }
        true
    }

    /// A stopped subject was in the middle of writing it: what it is will be known when the subject is ended.
    fn is_held_open(&self, desk: &Desk<'_>, path: &HostPath) -> bool {
        let stopped = |key: &ProcessKey| self.plan.live.contains(key) && !self.plan.running.contains(key);
        desk.graph
            .file(path)
            .is_some_and(|file| file.writes.iter().any(|write| write.pending && stopped(&write.writer)))
    }

    /// Plans one path; true when the hands have it now.
    fn order_file(&mut self, desk: &mut Desk<'_>, path: &HostPath, net: Net) -> bool {
        let Some(object) = self.objects.get_mut(path) else { return false };
        if net == Net::Nothing && object.action.is_none() && object.commits == 0 {
            // Made and taken away again before anything was done about it.
            self.objects.remove(path);
            self.directories.remove(path);
            if let Some(file) = desk.graph.file_mut(path) {
                file.incident = None;
            }
            return false;
        }
        let old = object.action.take();
        // Only what is acted upon can be contended: a device that a subject goes on writing to is merely named.
        // And a plan that nobody answered was no attempt: a new question takes its place.
        let asked = old.and_then(|id| self.plan.steps.get(&id)).is_some_and(Step::waits);
        if matches!(net, Net::Created { .. } | Net::Changed { .. }) && !asked {
            object.attempts += 1;
            if object.attempts > ATTEMPTS_MAX {
                object.progress = Progress::Shown(format!("it changed again after {ATTEMPTS_MAX} plans"));
                self.plan.shown.insert(path.clone());
                return false;
            }
        }
        let shared = object.shared;
        let created = matches!(net, Net::Created { .. });
        let action = match net {
            Net::Nothing | Net::Pending => {
                object.progress = Progress::Done;
                None
            }
            Net::Unprotected => {
                object.class = ObjectClass::Unprotected;
                object.progress = Progress::Done;
                None
            }
            Net::Unknown(why) => {
                object.progress = Progress::Shown(why);
                None
            }
            Net::Created { .. } if shared => {
                object.progress = Progress::Shown("others keep files in it".to_owned());
                None
            }
            Net::Created { expected } => {
                object.class = ObjectClass::AttackOnly;
                Some(Action::QuarantineFile { path: path.clone(), expected })
            }
            Net::Changed { base, later, class } => {
                object.class = class;
                let append_only = class == ObjectClass::Log;
                Some(Action::RestoreFile(RestoreFile { path: path.clone(), base, later, append_only, again: false }))
            }
        };
        if let Some(old) = old {
            self.supersede(desk, old);
        }
        let Some(action) = action else {
            if matches!(object_progress(&self.objects, path), Some(Progress::Shown(_))) {
                self.plan.shown.insert(path.clone());
            }
            return false;
        };
        if let Some(service) = service_of(path, created) {
            self.plan.services.entry(service).or_insert(None);
        }
        let id = self.propose(desk, action);
        self.plan.busy.contains(&id)
    }

    /// A question that is no longer the right one is taken back.
    fn supersede(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        if self.plan.steps.get(&id).is_some_and(Step::waits) {
            self.plan.set(id, |step| {
                step.state = Progressing::Superseded;
                step.settled = Some(desk.now);
            });
            let reasons = vec!["another action takes its place".to_owned()];
            let verdict = Verdict { decision: Decision::Deny, reasons };
            desk.out.push(Effect::Drop { action: id, verdict });
            self.plan_anew(desk, id);
        }
    }

    fn order_services(&mut self, desk: &mut Desk<'_>) -> bool {
        let todo: Vec<Service> =
            self.plan.services.iter().filter(|(_, id)| id.is_none()).map(|(service, _)| service.clone()).collect();
        for service in todo {
            if desk.room == 0 {
                self.dirty = true;
                return false;
            }
            let action = match &service {
                Service::Remove(_, unit) => Action::RemoveUnit { unit: unit.clone() },
                // A removed unit needs no reload.
                Service::Reload(unit)
                    if self
                        .plan
                        .services
                        .keys()
                        .any(|other| matches!(other, Service::Remove(_, removed) if removed == unit)) =>
                {
                    continue;
                }
                Service::Reload(unit) => Action::ReloadService { unit: unit.clone() },
            };
            let id = self.propose(desk, action);
            self.plan.services.insert(service, Some(id));
        }
        !self.plan.is_any_busy(|action| matches!(action, Action::RemoveUnit { .. } | Action::ReloadService { .. }))
    }

    fn end_subjects(&mut self, desk: &mut Desk<'_>) -> bool {
        if self.plan.joined.1 > desk.now {
            return false;
        }
        let session = self.roots.first().filter(|root| root.root.kind == InvocationKind::Session);
        let session = session.map(|root| (root.root.leader, root.anchor.invocation));
        let (mut inside, mut others) = (Vec::new(), Vec::new());
        let live = self.plan.live.iter().filter(|key| self.subjects.get(key).is_some_and(|found| found.end.is_none()));
        for key in live {
            desk.units += 1;
            let here = desk.graph.process(*key).map(|node| node.invocation);
            match session.filter(|(_, id)| Some(*id) == here) {
                Some(_) => inside.push(*key),
                None => others.push(*key),
            }
        }
        let mut plans: Vec<Action> = Vec::new();
        for chunk in inside.chunks(TARGETS_MAX) {
            let leader = session.map(|(leader, _)| leader).unwrap_or_default();
            plans.push(Action::EndSession { leader, processes: chunk.to_vec() });
        }
        plans.extend(others.chunks(TARGETS_MAX).map(|chunk| Action::TerminateProcesses { processes: chunk.to_vec() }));
        for action in plans {
            let processes = processes_of(&action).to_vec();
            let id = self.propose(desk, action);
            for key in processes {
                if let Some(subject) = self.subjects.get_mut(&key) {
                    subject.end = Some(id);
                }
            }
        }
        !self.plan.is_any_busy(ends_processes)
    }

    // ---- answers ----

    pub(crate) fn prepared(&mut self, desk: &mut Desk<'_>, id: ActionId, facts: &Facts) {
        self.dirty = true;
        let Some(step) = self.plan.steps.get(&id) else { return };
        if step.state == Progressing::Committed {
            return; // told twice
        }
        if step.state != Progressing::Preparing || self.closed.is_some() {
            let reasons = vec!["it is not wanted any more".to_owned()];
            desk.out.push(Effect::Drop { action: id, verdict: Verdict { decision: Decision::Deny, reasons } });
            return;
        }
        desk.units += JUDGEMENT_UNITS;
        if !facts.left_out.is_empty() && self.leave_out(desk, id, &facts.left_out) {
            let reasons = vec!["none of the files is as the plan expects it".to_owned()];
            desk.out.push(Effect::Drop { action: id, verdict: Verdict { decision: Decision::Deny, reasons } });
            return;
        }
        if self.somebody_joined(desk, id, facts) {
            return;
        }
        let Some(step) = self.plan.steps.get(&id) else { return };
        let mut verdict = self.judge(desk, step, Some(facts));
        let (what, approved) = (step.action.clone(), step.approved);
        let again = what.path().filter(|_| is_again(&what)).cloned();
        if let (Some(path), Expected::AlreadyDone) = (&again, &facts.as_expected) {
            self.nothing_back(desk, id, path);
            return;
        }
        if let Some(path) = again.as_ref().filter(|path| self.is_planned(path, id)) {
            self.forget(desk, id);
            self.plan.again.insert(path.clone());
            let reasons = vec!["the attack itself wrote it again".to_owned()];
            desk.out.push(Effect::Drop { action: id, verdict: Verdict { decision: Decision::Deny, reasons } });
            return;
        }
        if let Expected::Changed(why) = &facts.as_expected {
            let why = format!("changed since the plan was made: {why}");
            let reasons = vec![why.clone()];
            desk.out.push(Effect::Drop { action: id, verdict: Verdict { decision: Decision::Deny, reasons } });
            self.again(desk, id, &why);
            return;
        }
        let conflict = matches!(facts.merge, Merge::Conflict(_) | Merge::Missing(_));
        let mut doubtful = false;
        if let Some(path) = &again {
            self.something_back(desk, id, path);
            let doubt = if approved { None } else { self.deliberate(desk, path) };
            if let (Decision::Permit, Some(doubt)) = (verdict.decision, doubt) {
                let reasons = vec![format!("lines of the attack are in it again: {doubt}")];
                verdict = Verdict { decision: Decision::Ask, reasons };
                doubtful = true;
            }
        }
        let state = match verdict.decision {
            Decision::Permit => {
                desk.out.push(Effect::Commit { action: id, verdict: verdict.clone() });
                Progressing::Committed
            }
            Decision::Ask => {
                desk.out.push(Effect::Drop { action: id, verdict: verdict.clone() });
                desk.out.push(Effect::Ask { action: id, incident: self.id, what, verdict: verdict.clone() });
                Progressing::Asked
            }
            Decision::Deny => {
                desk.out.push(Effect::Drop { action: id, verdict: verdict.clone() });
                Progressing::Refused
            }
        };
        let reasons = verdict.reasons.join("; ");
        self.plan.set(id, |step| {
            step.state = state;
            step.verdict = verdict;
            step.decided = desk.now;
            step.personal = (conflict || doubtful) && state != Progressing::Committed;
        });
        self.reflect(id, state, &reasons);
        if state == Progressing::Committed
            && let Some(step) = self.plan.steps.get(&id)
        {
            for path in step.action.paths() {
                if let Some(object) = self.objects.get_mut(path) {
                    object.commits += 1;
                    object.committed = Some(desk.now);
                }
            }
        }
    }

    /// More are in the session than it was planned for: it is ended as a whole a little later, when they are known.
    fn somebody_joined(&mut self, desk: &mut Desk<'_>, id: ActionId, facts: &Facts) -> bool {
        let Some(step) = self.plan.steps.get(&id) else { return false };
        let Action::EndSession { processes, .. } = &step.action else { return false };
        if facts.targets <= processes.len() || self.plan.joined.0 >= ATTEMPTS_MAX {
            return false;
        }
        let session = processes.first().and_then(|key| desk.graph.process(*key)).map(|node| node.invocation);
        let why = format!("{} processes are in it, {} were known", facts.targets, processes.len());
        self.plan.set(id, |step| {
            step.settled = Some(desk.now);
            step.outcome = Some(Outcome::Reverted(why.clone()));
            step.state = Progressing::Superseded;
        });
        desk.out.push(Effect::Drop { action: id, verdict: Verdict { decision: Decision::Deny, reasons: vec![why] } });
        let waits = |end: ActionId| self.plan.steps.get(&end).is_none_or(|step| !step.is_busy());
        for key in &self.plan.live {
            let here = desk.graph.process(*key).map(|node| node.invocation);
            if let Some(subject) = self.subjects.get_mut(key)
                && here == session
                && subject.end.is_some_and(waits)
            {
                subject.end = None;
            }
        }
        self.plan.joined = (self.plan.joined.0 + 1, Timestamp(desk.now.0 + RETRY_NS));
        true
    }

    /// A comparison of which nothing came is no part of the story.
    fn forget(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        self.plan.set(id, |step| step.state = Progressing::Superseded);
        self.plan.steps.remove(&id);
        desk.owners.remove(&id);
    }

    pub(crate) fn unprepared(&mut self, desk: &mut Desk<'_>, id: ActionId, why: &str) {
        self.dirty = true;
        if self.plan.steps.get(&id).is_some_and(|step| step.state == Progressing::Preparing) {
            self.again(desk, id, why);
        }
    }

    /// What did not work this time is planned again, a bounded number of times.
    fn again(&mut self, desk: &mut Desk<'_>, id: ActionId, why: &str) {
        let Some(step) = self.plan.steps.get(&id) else { return };
        let (action, retries) = (step.action.clone(), step.retries + 1);
        if let (true, Some(path)) = (is_again(&action), action.path()) {
            self.compare_later(desk, id, path, why);
            return;
        }
        if let Action::RestoreFiles { .. } = action {
            self.plan.set(id, |step| {
                step.settled = Some(desk.now);
                step.outcome = Some(Outcome::Reverted(why.to_owned()));
                step.state = Progressing::Superseded;
            });
            action.paths().for_each(|path| self.once_more(desk, path, Timestamp(desk.now.0 + RETRY_NS)));
            return;
        }
        let object = action.path().and_then(|path| self.objects.get_mut(path));
        let tried = object.as_ref().map_or(retries, |object| object.attempts);
        let replan = tried < ATTEMPTS_MAX;
        self.plan.set(id, |step| {
            step.settled = Some(desk.now);
            step.outcome = Some(Outcome::Reverted(why.to_owned()));
            step.state = if replan { Progressing::Superseded } else { Progressing::Settled };
        });
        if let (Some(object), Some(path)) = (object, action.path()) {
            object.action = None;
            if replan {
                object.progress = Progress::Todo;
                object.not_before = Timestamp(desk.now.0 + RETRY_NS);
                self.plan.later.insert(path.clone());
            } else {
                object.action = Some(id);
                object.progress = Progress::Shown(why.to_owned());
            }
            return;
        }
        if !replan {
            return;
        }
        let live: Vec<ProcessKey> =
            processes_of(&action).iter().filter(|key| self.plan.live.contains(key)).copied().collect();
        let next = match action {
            Action::EndSession { leader, .. } => Action::EndSession { leader, processes: live.clone() },
            Action::TerminateProcesses { .. } => Action::TerminateProcesses { processes: live.clone() },
            Action::RemoveUnit { .. }
            | Action::ReloadService { .. }
            | Action::SuspendProcesses { .. }
            | Action::RestoreFile(_)
            | Action::RestoreFiles { .. }
            | Action::QuarantineFile { .. }
            | Action::RestartService { .. }
            | Action::FreeSpace { .. }
            | Action::LoadFirewall { .. }
            | Action::RenewCertificate { .. }
            | Action::RestorePackaged { .. } => action,
        };
        if ends_processes(&next) && live.is_empty() {
            return;
        }
        let new = self.propose(desk, next);
        self.plan.set(new, |step| step.retries = retries);
        for place in self.plan.services.values_mut().filter(|place| **place == Some(id)) {
            *place = Some(new);
        }
        for key in live {
            if let Some(subject) = self.subjects.get_mut(&key) {
                subject.end = Some(new);
            }
        }
    }

    pub(crate) fn outcome(&mut self, desk: &mut Desk<'_>, id: ActionId, outcome: Outcome) {
        self.dirty = true;
        let Some(step) = self.plan.steps.get(&id) else { return };
        if step.state == Progressing::Settled && outcome != Outcome::Undone {
            return; // told twice
        }
        let worked = matches!(outcome, Outcome::Success | Outcome::DoesNotExist | Outcome::Partly(_));
        let decided = step.decided;
        let retries = step.retries;
        let action = step.action.clone();
        self.plan.set(id, |step| {
            step.state = Progressing::Settled;
            step.settled = Some(desk.now);
            step.outcome = Some(outcome.clone());
        });
        match (&action, &outcome) {
            (Action::SuspendProcesses { processes }, _) if worked => {
                for key in processes {
                    if let Some(subject) = self.subjects.get_mut(key) {
                        subject.stopped = true;
                        self.plan.running.remove(key);
                    }
                    if outcome == Outcome::DoesNotExist {
                        self.see_gone(*key);
                    }
                }
            }
            (Action::TerminateProcesses { processes } | Action::EndSession { processes, .. }, _) if worked => {
                for key in processes {
                    self.see_gone(*key);
                }
            }
            (Action::RestoreFile(RestoreFile { path, .. }) | Action::QuarantineFile { path, .. }, _) if worked => {
                self.undone(desk, &action, path, decided);
                // Whoever loads it may have read what was back in it.
                let base = self.objects.get(path).and_then(|object| object.undone.as_ref()).map(|undone| undone.base);
                let created = base == Some(VersionId::UNKNOWN);
                if let (true, Some(service)) = (is_again(&action), service_of(path, created)) {
                    self.plan.services.insert(service, None);
                }
            }
            (Action::RestoreFiles { files }, _) if worked => {
                let not_done: BTreeSet<&HostPath> = match &outcome {
                    Outcome::Partly(not_done) => not_done.iter().map(|(path, _)| path).collect(),
                    _ => BTreeSet::new(),
                };
                for file in files.iter() {
                    if not_done.contains(&file.path) {
                        self.once_more(desk, &file.path, Timestamp(desk.now.0 + RETRY_NS));
                    } else {
                        self.undone(desk, &Action::RestoreFile(file.clone()), &file.path, decided);
                    }
                }
                let done = self.objects.values().filter(|object| object.progress == Progress::Done).count();
                self.why = format!("{done} of {} objects are in order", self.objects.len());
            }
            (Action::SuspendProcesses { .. }, _) => {} // it is ended all the same
            (_, Outcome::Reverted(why)) if retries < ATTEMPTS_MAX => self.again(desk, id, why),
            (Action::RestoreFile(RestoreFile { path, .. }) | Action::QuarantineFile { path, .. }, other) => {
                let why = match other {
                    Outcome::Failed(why) | Outcome::Reverted(why) => why.as_str(),
                    Outcome::Undone => "undone",
                    Outcome::Success | Outcome::DoesNotExist | Outcome::Partly(_) => "",
                };
                if let Some(object) = self.objects.get_mut(path) {
                    object.progress = Progress::Shown(why.to_owned());
                }
            }
            (Action::RestoreFiles { .. }, Outcome::Reverted(why)) => self.again(desk, id, why),
            (
                Action::RestoreFiles { .. }
                | Action::TerminateProcesses { .. }
                | Action::EndSession { .. }
                | Action::RemoveUnit { .. }
                | Action::ReloadService { .. }
                | Action::RestartService { .. }
                | Action::FreeSpace { .. }
                | Action::LoadFirewall { .. }
                | Action::RenewCertificate { .. }
                | Action::RestorePackaged { .. },
                _,
            ) => {}
        }
    }

    /// The path was put in order by `action`, which was decided then.
    fn undone(&mut self, desk: &mut Desk<'_>, action: &Action, path: &HostPath, decided: Timestamp) {
        desk.graph.settle_writes(path, decided);
        let left = net(desk, path);
        let directory = self.directories.contains(path);
        if let Some(object) = self.objects.get_mut(path) {
            object.undid(action, desk.now);
            if left == Net::Nothing {
                object.progress = Progress::Done;
            } else {
                object.progress = Progress::Todo;
                self.plan.enqueue(place(path, &left, directory));
            }
        }
        // Written while it was put in order.
        self.look_again(desk.graph, path);
    }

    /// A person answered a question.
    pub(crate) fn answer(&mut self, desk: &mut Desk<'_>, id: ActionId, approved: bool) {
        if !self.plan.steps.get(&id).is_some_and(Step::waits) || self.closed.is_some() {
            return;
        }
        self.dirty = true;
        if approved {
            self.plan.set(id, |step| step.approved = true);
            self.plan.proof = Proving::default();
            self.pass(desk, Milestone::Reopened, format!("a person approved action {id}"));
            self.begin(desk, id);
        } else {
            let verdict = Verdict { decision: Decision::Deny, reasons: vec!["a person denied it".to_owned()] };
            desk.out.push(Effect::Drop { action: id, verdict: verdict.clone() });
            self.plan.set(id, |step| {
                step.state = Progressing::Refused;
                step.personal = true;
                step.verdict = verdict;
            });
            self.reflect(id, Progressing::Refused, "a person denied it");
        }
    }

    /// Mode, policy or hold changed: what waited for that is judged again.
    pub(crate) fn reconsider(&mut self) {
        if !self.confirmed || self.closed.is_some() {
            return;
        }
        let waits = |step: &Step| step.waits() && !step.personal;
        let steps = &self.plan.steps;
        let waiting = self.plan.unresolved.iter().filter(|id| steps.get(id).is_some_and(waits)).copied().collect();
        self.plan.reconsidered = waiting;
        self.dirty = true;
    }

    /// The agent started again: nothing that was under way is taken for done.
    pub(crate) fn restarted(&mut self, desk: &mut Desk<'_>) {
        if !self.confirmed || self.closed.is_some() {
            return;
        }
        self.dirty = true;
        self.plan.proof.running = false;
        let incident = self.id;
        for id in self.plan.busy.clone() {
            let Some(what) = self.plan.steps.get(&id).map(|step| step.action.clone()) else { continue };
            if let Action::SuspendProcesses { .. } = what {
                self.plan.set(id, |step| step.state = Progressing::Superseded);
            } else {
                if self.plan.steps.get(&id).is_some_and(|step| step.state == Progressing::Committed) {
                    for path in what.paths() {
                        if let Some(object) = self.objects.get_mut(path) {
                            object.commits = object.commits.saturating_sub(1); // the crash undid it or it never began
                            object.committed = None;
                        }
                    }
                }
                self.plan.set(id, |step| step.state = Progressing::Preparing);
                desk.out.push(Effect::Prepare { action: id, incident, what });
            }
        }
        // A stop is a lease, and may have lapsed: every live subject is stopped anew.
        for key in self.plan.live.clone() {
            let Some(subject) = self.subjects.get_mut(&key) else { continue };
            if subject.stop.is_some_and(|id| self.plan.unresolved.contains(&id)) {
                continue;
            }
            subject.stop = None;
            subject.stopped = false;
            self.plan.fresh.insert(key);
            self.plan.running.insert(key);
        }
    }

    /// Keeps the stopped stopped.
    pub(crate) fn renew(&mut self, desk: &mut Desk<'_>) {
        if !self.confirmed || self.closed.is_some() {
            return;
        }
        self.plan.quiet_ticks = self.plan.quiet_ticks.saturating_add(1);
        if self.stage != Stage::Healed || !self.plan.again.is_empty() {
            self.dirty = true; // something may have waited for time to pass
        }
        for id in &self.plan.stops {
            let held = self.plan.steps.get(id).map(|step| processes_of(&step.action)).unwrap_or_default();
            if held.iter().any(|key| self.plan.live.contains(key)) {
                desk.out.push(Effect::Renew { action: *id });
                desk.units += 1;
            }
        }
    }

    /// A person wants a path as it is.
    pub(crate) fn accept(&mut self, desk: &mut Desk<'_>, path: &HostPath) {
        let Some(object) = self.objects.remove(path) else { return };
        if let Some(action) = object.action {
            self.supersede(desk, action);
        }
        self.plan.later.remove(path);
        self.plan.pending.remove(path);
        self.plan.again.remove(path);
        self.plan.shown.remove(path);
        self.dirty = true;
        if self.stage == Stage::Stuck {
            self.pass(desk, Milestone::Reopened, format!("a person wants `{path}` as it is"));
        }
    }

    /// A person ended it: nothing more is done by itself, and what was asked is taken back.
    pub(crate) fn close(&mut self, desk: &mut Desk<'_>, why: &str) {
        for id in self.plan.unresolved.clone() {
            self.supersede(desk, id);
        }
        self.closed = Some(why.to_owned());
        self.search = None;
        self.plan.fresh.clear();
        for key in self.subjects.keys() {
            if let Some(node) = desk.graph.process_mut(*key) {
                node.subject = None;
            }
        }
        if let Some(anchor) = self.anchor()
            && let Some(invocation) = desk.graph.invocation_mut(anchor.invocation)
        {
            invocation.subject = None;
            invocation.suspect = false;
        }
        if self.stage == Stage::Healed {
            self.pass(desk, Milestone::Reopened, why.to_owned());
        }
        self.pass(desk, Milestone::Obstructed, why.to_owned());
        self.why = why.to_owned();
    }
}
