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

use crate::action::{Action, Authored, Expected, FILES_MAX, Facts, Merge, Outcome, RestoreFile};
use crate::diagnose::{Case, Net, ObjectState, Progress, classify, named};
use crate::event::{FileKind, IncidentFinding};
use crate::graph::Graph;
use crate::guard::{self, Attempts, Hold, Policies, Request};
use crate::id::{ActionId, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::{ActionRecord, Decision, InvocationKind, Milestone, ObjectClass, Stage, Verdict};
use crate::input::{Check, Configuration, Effect, Mode, Proof};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: processes named in one action; more make further actions.
pub const TARGETS_MAX: usize = 256;
/// LIMIT: file actions that the hands have at one time.
pub const IN_FLIGHT_MAX: usize = 16;
/// An incident with so many objects has its files put in order together, as many as one action may name.
pub const CROWD_MIN: usize = 64;
/// LIMIT: actions on many files that the hands have at one time: one is captured while the other is carried out.
pub const CROWDS_IN_FLIGHT_MAX: usize = 2;
/// While more may come, files of a crowd wait for others until so many ticks have passed without a new one.
const GATHERING_TICKS: u32 = 4;
/// LIMIT: plans made for one object before it is shown to a person.
pub const ATTEMPTS_MAX: u32 = 5;
/// LIMIT: how often what others brought back is taken out of one path; then a person is asked.
pub const RETURNS_MAX: u32 = 3;
/// LIMIT: proofs asked for before the incident is stuck.
pub const PROOFS_MAX: u32 = 3;
/// What changed under our hands is planned again after so many nanoseconds.
pub const RETRY_NS: u64 = 250_000_000;
/// A proof that did not hold is asked for again after so many nanoseconds.
pub const PROOF_RETRY_NS: u64 = 1_000_000_000;
/// A file that a subject had open is closed by the kernel soon after its end; nanoseconds.
pub const CLOSE_GRACE_NS: u64 = 2_000_000_000;

/// Where unit files lie that the system's manager reads.
const UNIT_TREES: &[&[u8]] =
    &[b"/etc/systemd/system", b"/usr/lib/systemd/system", b"/lib/systemd/system", b"/run/systemd/system"];
/// In the order in which they are removed: what starts others first.
const UNIT_KINDS: &[&str] = &[".timer", ".socket", ".path", ".target", ".mount", ".service"];
/// Whose configuration a path is.
const SERVICES: &[(&str, &str)] = &[
    ("/etc/ssh/sshd_config", "ssh.service"),
    ("/etc/ssh/sshd_config.d", "ssh.service"),
    ("/etc/nginx", "nginx.service"),
    ("/etc/apache2", "apache2.service"),
    ("/etc/rsyslog.conf", "rsyslog.service"),
    ("/etc/rsyslog.d", "rsyslog.service"),
    ("/etc/dbus-1", "dbus.service"),
    ("/etc/systemd/journald.conf", "systemd-journald.service"),
    ("/etc/systemd/logind.conf", "systemd-logind.service"),
    ("/etc/systemd/resolved.conf", "systemd-resolved.service"),
];
/// What every program loads: put in order before anything else runs.
const LOADED_BY_ALL: &[&str] = &["/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.cache"];

/// Units and services that follow from files; removals before reloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Service {
    /// Its place in [`UNIT_KINDS`], and its name.
    Remove(usize, String),
    Reload(String),
}

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

/// Rank, depth (negative where the deepest goes first), path.
pub(crate) type Place = (u8, i64, HostPath);

/// LIMIT: actions begun in one step; each is judged once, which is most of its cost.
pub const BEGUN_PER_STEP_MAX: u32 = 16;
/// Units of work that one judgement stands for.
pub const JUDGEMENT_UNITS: u32 = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proving {
    pub(crate) running: bool,
    pub(crate) count: u32,
    pub(crate) not_before: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Progressing {
    /// The hands capture what undo needs.
    Preparing,
    /// The hands do it.
    Committed,
    /// A person is asked.
    Asked,
    /// The guard or a person refused.
    Refused,
    Settled,
    /// Another action took its place.
    Superseded,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) state: Progressing,
    pub(crate) verdict: Verdict,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) decided: Timestamp,
    pub(crate) settled: Option<Timestamp>,
    /// A person approved it.
    pub(crate) approved: bool,
    /// The answer is a person's: neither mode nor hold changes it.
    pub(crate) personal: bool,
    /// How often it was tried again.
    pub(crate) retries: u32,
}

impl Step {
    /// Judged by nobody yet.
    pub(crate) fn new(action: Action, now: Timestamp) -> Self {
        Self {
            action,
            state: Progressing::Refused,
            verdict: Verdict { decision: Decision::Deny, reasons: Vec::new() },
            outcome: None,
            decided: now,
            settled: None,
            approved: false,
            personal: false,
            retries: 0,
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, Progressing::Preparing | Progressing::Committed)
    }

    /// Nobody has let it through yet.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.state, Progressing::Asked | Progressing::Refused)
    }

    /// It ended otherwise than wanted.
    pub(crate) fn failed(&self) -> bool {
        match (&self.state, &self.outcome) {
            (Progressing::Refused, _) => true,
            (Progressing::Settled, Some(Outcome::Reverted(_) | Outcome::Failed(_) | Outcome::Undone)) => true,
            (Progressing::Settled, Some(Outcome::Success | Outcome::DoesNotExist | Outcome::Partly(_)) | None) => false,
            (Progressing::Preparing | Progressing::Committed | Progressing::Asked | Progressing::Superseded, _) => {
                false
            }
        }
    }
}

/// What readers see of a plan's steps.
pub(crate) fn records(steps: &BTreeMap<ActionId, Step>) -> Vec<ActionRecord> {
    // What another action took the place of before anything was done is no part of the story.
    let told = |(_, step): &(&ActionId, &Step)| step.state != Progressing::Superseded || step.outcome.is_some();
    let record = |(id, step): (&ActionId, &Step)| ActionRecord {
        id: *id,
        action: step.action.clone(),
        verdict: step.verdict.clone(),
        outcome: step.outcome.clone(),
        decided: step.decided,
        settled: step.settled,
    };
    steps.iter().filter(told).map(record).collect()
}

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
        | Action::RenewCertificate { .. } => &[],
    }
}

/// A comparison of what others wrote with what was taken out before.
const fn is_again(action: &Action) -> bool {
    matches!(action, Action::RestoreFile(RestoreFile { again: true, .. }))
}

const fn ends_processes(action: &Action) -> bool {
    matches!(action, Action::TerminateProcesses { .. } | Action::EndSession { .. })
}

/// What else must be done when this path was put in order.
fn service_of(path: &HostPath, created: bool) -> Option<Service> {
    let name = std::str::from_utf8(path.file_name()).ok()?;
    let unit_kind = |name: &str| UNIT_KINDS.iter().position(|kind| name.ends_with(kind) && name.len() > kind.len());
    for tree in UNIT_TREES {
        if path.parent() == *tree {
            let kind = unit_kind(name)?;
            return Some(if created { Service::Remove(kind, name.into()) } else { Service::Reload(name.into()) });
        }
        let parent = HostPath::new(path.parent());
        if path.is_within(tree) && parent.parent() == *tree && name.ends_with(".conf") {
            let unit = std::str::from_utf8(parent.file_name()).ok()?.strip_suffix(".d")?;
            return unit_kind(unit).map(|_| Service::Reload(unit.into()));
        }
    }
    let service = SERVICES.iter().find(|(tree, _)| path.is_within(tree.as_bytes()));
    service.map(|(_, unit)| Service::Reload((*unit).into()))
}

/// Smaller goes first.
pub(crate) fn place(path: &HostPath, net: &Net, directory: bool) -> Place {
    let depth = i64::try_from(path.as_bytes().iter().filter(|byte| **byte == b'/').count()).unwrap_or(i64::MAX);
    if LOADED_BY_ALL.iter().any(|tree| path.is_within(tree.as_bytes())) {
        return (0, depth, path.clone());
    }
    match net {
        Net::Created { .. } => (1 + u8::from(directory), -depth, path.clone()),
        Net::Changed { .. } | Net::Nothing | Net::Pending | Net::Unprotected | Net::Unknown(_) => {
            (3 + need(path), depth, path.clone())
        }
    }
}

/// What services need goes before what they keep, and that before what is people's.
fn need(path: &HostPath) -> u8 {
    const SYSTEM: [&str; 7] = ["/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/boot"];
    const SERVICES: [&str; 3] = ["/opt", "/var", "/srv"];
    let within = |trees: &[&str]| trees.iter().any(|tree| path.is_within(tree.as_bytes()));
    if within(&SYSTEM) { 0 } else { 2 - u8::from(within(&SERVICES)) }
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
            let Some(object) = self.objects.get_mut(path) else { return false };
            object.action = None;
            object.progress = Progress::Todo;
            object.attempts = 0;
            let net = net(desk, path);
            self.plan.enqueue(place(path, &net, self.directories.contains(path)));
            return true;
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
            | Action::RenewCertificate { .. } => 0,
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
        let ripe: Vec<HostPath> = self
            .plan
            .later
            .iter()
            .filter(|path| self.objects.get(path).is_none_or(|object| object.not_before <= desk.now))
            .take(IN_FLIGHT_MAX)
            .cloned()
            .collect();
        for path in ripe {
            let net = net(desk, &path);
            let directory = self.directories.contains(&path);
            self.plan.enqueue(place(&path, &net, directory));
        }
        let crowd = self.objects.len() >= CROWD_MIN;
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

    /// Lets the hands compare what others wrote on restored paths, at most `room` of them; gives how many. That is
    /// reading: nobody needs to permit it.
    fn compare(&mut self, desk: &mut Desk<'_>, room: usize) -> usize {
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
    fn with_others(&self, desk: &Desk<'_>, path: &HostPath) -> Option<RestoreFile> {
        let object = self.objects.get(path).filter(|object| object.progress != Progress::Todo)?;
        let undone = object.undone.as_ref()?;
        let write = desk.graph.file(path)?.last()?;
        if write.pending || write.removed || net(desk, path) != Net::Nothing {
            return None;
        }
        let mut later = undone.later.clone();
        later.push(Authored { version: write.last, attack: false });
        Some(RestoreFile { path: path.clone(), base: undone.base, later, append_only: false, again: true })
    }

    /// Why nobody can say that the writer brought the attack's lines back by having read them before; `None`: he may have.
    fn deliberate(&self, desk: &Desk<'_>, path: &HostPath) -> Option<String> {
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

    /// Files that can be put in order together: enough are there, or no more come.
    fn is_gathered(&self) -> bool {
        let plan = &self.plan;
        plan.queue.len() >= FILES_MAX || plan.running.is_empty() || plan.quiet_ticks >= GATHERING_TICKS
    }

    /// A regular file that nobody but the attack wrote, and nothing else follows from.
    fn as_one_of_many(&self, desk: &Desk<'_>, path: &HostPath, net: &Net) -> Option<RestoreFile> {
        let object = self.objects.get(path).filter(|object| !object.alone && !object.shared)?;
        desk.graph.file(path).filter(|file| file.kind == FileKind::Regular)?;
        let (base, later, created) = match net {
            Net::Created { expected } => {
                (VersionId::UNKNOWN, vec![Authored { version: *expected, attack: true }], true)
            }
            Net::Changed { base, later, class: ObjectClass::AttackOnly } if *base != VersionId::UNKNOWN => {
                (*base, later.clone(), false)
            }
            Net::Changed { .. } | Net::Nothing | Net::Pending | Net::Unprotected | Net::Unknown(_) => return None,
        };
        let first = object.attempts == 0 && object.commits == 0;
        let plain = place(path, net, false).0 > 0 && service_of(path, created).is_none();
        (first && plain && !later.is_empty() && !later.iter().any(|authored| authored.version == VersionId::UNKNOWN))
            .then(|| RestoreFile { path: path.clone(), base, later, append_only: false, again: false })
    }

    /// Plans many paths at once; true when the hands have them now.
    fn order_many(&mut self, desk: &mut Desk<'_>, files: Vec<RestoreFile>) -> bool {
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
                let reasons = vec!["each file is asked for by itself".to_owned()];
                desk.out.push(Effect::Drop { action: id, verdict: Verdict { decision: Decision::Deny, reasons } });
            }
            self.forget(desk, id);
            self.one_by_one(desk, &action, Timestamp(0));
            return false;
        }
        state == Progressing::Preparing
    }

    /// Files of an action on many that are planned by themselves from now on.
    fn one_by_one(&mut self, desk: &Desk<'_>, action: &Action, not_before: Timestamp) {
        for path in action.paths() {
            self.alone(desk, path, not_before);
        }
    }

    fn alone(&mut self, desk: &Desk<'_>, path: &HostPath, not_before: Timestamp) {
        let Some(object) = self.objects.get_mut(path) else { return };
        (object.alone, object.action, object.progress) = (true, None, Progress::Todo);
        object.not_before = not_before;
        if not_before > desk.now {
            self.plan.later.insert(path.clone());
        } else {
            let left = net(desk, path);
            self.plan.enqueue(place(path, &left, self.directories.contains(path)));
        }
        self.dirty = true;
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

    /// The files of a question about many, when it is taken back because of one of them.
    fn plan_anew(&mut self, desk: &Desk<'_>, id: ActionId) {
        let Some(Action::RestoreFiles { files }) = self.plan.steps.get(&id).map(|step| step.action.clone()) else {
            return;
        };
        for path in files.iter().map(|file| &file.path) {
            let Some(object) = self.objects.get_mut(path).filter(|object| object.action == Some(id)) else { continue };
            (object.action, object.progress, object.attempts) = (None, Progress::Todo, 0);
            let left = net(desk, path);
            self.plan.enqueue(place(path, &left, false));
        }
        self.dirty = true;
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

    /// Everything that could be begun is settled: asks for the proof, or says what stands in the way.
    fn conclude(&mut self, desk: &mut Desk<'_>) {
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
        let proof = self.plan.proof;
        if self.stage == Stage::Restored && !proof.running && proof.not_before <= desk.now {
            self.plan.proof.running = true;
            // Our own change made the path clean; what stands in its chain since is somebody else's, and stays as far as
            // nothing of the attack is in it.
            let ours = |path: &HostPath| {
                self.objects.contains_key(path) && desk.graph.file(path).is_none_or(|file| file.writes.is_empty())
            };
            let done =
                |step: &Step| step.state == Progressing::Settled && !step.failed() && step.action.paths().any(ours);
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
    fn obstacle(&self, desk: &Desk<'_>) -> Option<String> {
        let moot = |step: &Step| {
            let processes = processes_of(&step.action);
            !processes.is_empty() && processes.iter().all(|key| !self.plan.live.contains(key))
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
        (!reasons.is_empty()).then(|| reasons.join("; "))
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

    /// Files that do not fit the plan are planned by themselves; true when none is left.
    fn leave_out(&mut self, desk: &mut Desk<'_>, id: ActionId, left_out: &[(HostPath, String)]) -> bool {
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

    /// Another action than this one is planned or under way at the path.
    fn is_planned(&self, path: &HostPath, id: ActionId) -> bool {
        self.objects.get(path).is_some_and(|object| match object.progress {
            Progress::Todo => true,
            Progress::Busy => object.action != Some(id),
            Progress::Done | Progress::Shown(_) => false,
        })
    }

    /// What others wrote is theirs alone; an earlier question about the path is answered by it.
    fn nothing_back(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath) {
        let reasons = vec!["nothing of the attack is in it".to_owned()];
        desk.out.push(Effect::Drop { action: id, verdict: Verdict { decision: Decision::Deny, reasons } });
        let answered = self.compared(desk, id, path);
        self.forget(desk, id);
        if answered {
            self.pass(desk, Milestone::Reopened, format!("nothing of the attack is in `{path}` any more"));
        }
    }

    fn something_back(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath) {
        self.compared(desk, id, path);
        self.plan.proof = Proving::default();
        let writer = desk.graph.file(path).and_then(|file| file.last()).map(|write| write.writer);
        let writer = writer.map(|writer| format!(" by {}", named(desk.graph, writer))).unwrap_or_default();
        self.pass(desk, Milestone::Reopened, format!("lines of the attack came back in `{path}`, written{writer}"));
    }

    /// The comparison `id` came to an end. True when that answers an earlier question about the path.
    fn compared(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath) -> bool {
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
            self.one_by_one(desk, &action, Timestamp(desk.now.0 + RETRY_NS));
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
            | Action::RenewCertificate { .. } => action,
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

    /// A comparison, or what followed from it, did not work: it is tried again a bounded number of times.
    fn compare_later(&mut self, desk: &mut Desk<'_>, id: ActionId, path: &HostPath, why: &str) {
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
                        self.alone(desk, &file.path, Timestamp(desk.now.0 + RETRY_NS));
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
                | Action::RenewCertificate { .. },
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
