// SPDX-License-Identifier: Apache-2.0
//! What fails although nobody attacked it: services, and what they live from.
//!
//! Input: answers of probes ([`Health`]), the graph's writes, the hands' answers. Output: effects. An ailing service is
//! never a subject: nobody's process is stopped for it. The cause is looked for before the cure (missing programs, the
//! configuration's own test, the last changes since it was last good), and cures come in the order of their harmlessness:
//! start again, put back what made it fail, and when nothing is left, a person. Each is judged by the guard like any
//! other action. It is healed when its probes hold for a while and an independent look agrees.

mod cure;
mod kind;
mod patient;
#[cfg(test)]
mod tests;
mod worse;

use crate::action::{Action, Expected, Facts, Merge, Outcome, RestoreFile};
use crate::decide::{Desk, JUDGEMENT_UNITS, Progressing, Step, Worse, is_undo, told_why};
use crate::event::{Confidence, Finding, IncidentFinding};
use crate::guard::{self, Attempts, Request};
use crate::health::{Health, WATCHES_MAX};
use crate::id::{ActionId, EventId, FindingId, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::{
    Decision, Deed, FindingSummary, Incident, InvocationKind, Milestone, Object, ObjectClass, Root, Stage, Verdict,
};
use crate::input::{Check, Effect, Mode, Proof};
use crate::path::HostPath;
use cure::Next;
use kind::Kind;
pub(crate) use patient::GRACE_NS;
use patient::{Condition, Patient};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: services and resources looked after.
pub const PATIENTS_MAX: usize = 256;
/// LIMIT: ailments kept; the oldest that is over goes first.
pub const AILMENTS_MAX: usize = 64;
/// LIMIT: cures carried out for one ailment; then a person must look.
pub const CURES_MAX: u32 = 6;
/// Probes must hold for so many nanoseconds, in so many answers, before the proof is asked for.
pub const HOLD_NS: u64 = 4_000_000_000;
const HOLD_ANSWERS: u32 = 3;
/// Who fails again so soon after it was healed is the same ailment still; nanoseconds.
pub const RELAPSE_NS: u64 = 600_000_000_000;
/// Pause before the second cure of one kind; doubles with each further one. Nanoseconds.
pub const PAUSE_NS: u64 = 1_000_000_000;
/// LIMIT: proofs asked for before the ailment is stuck.
const PROOFS_MAX: u32 = 3;
/// LIMIT: services that may fail together before a common cause is suspected: nothing is done about any of them then.
pub const TOGETHER_MAX: usize = 3;
/// LIMIT: findings, objects and roots told of one ailment.
const TOLD_MAX: usize = 16;

/// All that is looked after, and what ails of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ward {
    patients: BTreeMap<String, Patient>,
    pub(crate) ailments: BTreeMap<IncidentId, Ailment>,
    /// Answers about patients that there was no room for.
    pub(crate) refused: u64,
    /// When something was taken back last: who was ill before that may be well.
    #[serde(default)]
    pub(crate) took_back: Timestamp,
}

/// One failure, as the engine works on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ailment {
    id: IncidentId,
    patient: String,
    kind: Kind,
    stage: Stage,
    why: String,
    opened: Timestamp,
    contained: Option<Timestamp>,
    restored: Option<Timestamp>,
    healed: Option<Timestamp>,
    closed: Option<String>,
    /// Best first.
    roots: Vec<Root>,
    findings: Vec<FindingSummary>,
    objects: BTreeMap<HostPath, Object>,
    steps: BTreeMap<ActionId, Step>,
    /// The action that is under way or asked.
    current: Option<ActionId>,
    /// When the last cure was settled; only what was seen later counts.
    cured: Timestamp,
    cures: u32,
    not_before: Timestamp,
    /// Started again since something was put back, and how often at all.
    fresh_start: bool,
    starts: u32,
    /// Paths put back so far.
    put_back: BTreeSet<HostPath>,
    /// Paths restored from a package's archive so far.
    unpacked: BTreeSet<HostPath>,
    /// The file that is being put back can be had from a package too.
    packaged: bool,
    /// The declared test refused the configuration when a restart was prepared, in its words.
    refused: Option<String>,
    proving: bool,
    proofs: u32,
    proof_not_before: Timestamp,
    #[serde(default)]
    worse: Worse,
}

impl Ward {
    /// A path was written: whoever is made of it remembers that until it was started with it and is well.
    pub(crate) fn note(&mut self, path: &HostPath) -> u32 {
        let mut units = 0;
        for patient in self.patients.values_mut() {
            units += 1;
            patient.note(path);
        }
        units
    }

    /// One answer of a probe. True: what somebody is made of is otherwise than before.
    pub(crate) fn hear(&mut self, health: Health, now: Timestamp) -> bool {
        let name = health.name();
        if !self.patients.contains_key(&name) && self.patients.len() >= PATIENTS_MAX {
            self.refused += 1;
            return false;
        }
        self.patients.entry(name).or_default().hear(health, now)
    }

    /// `None`: it was never well, was stopped on purpose, or is no service.
    pub(crate) fn answer_of(&self, unit: &str) -> Option<guard::Answer> {
        self.patients.get(unit)?.answer()
    }

    /// At most [`PATIENTS_MAX`] times [`WATCHES_MAX`] paths.
    pub(crate) fn made_of(&self) -> BTreeSet<HostPath> {
        let watches = |patient: &Patient| patient.service().map(|service| service.watches.clone()).unwrap_or_default();
        self.patients.values().flat_map(|patient| watches(patient).into_iter().take(WATCHES_MAX)).collect()
    }

    /// Looks at everybody: opens what is new, goes on with what is open. `attacked`: a confirmed attack is being undone,
    /// which goes first.
    pub(crate) fn work(&mut self, desk: &mut Desk<'_>, report: &mut Report<'_>, attacked: bool) {
        for patient in self.patients.values_mut() {
            desk.units += 1;
            patient.prove_good(desk.now, desk.graph);
        }
        if desk.change_window || attacked {
            return; // whoever is at work is not disturbed
        }
        let undoing = self.takes_back();
        if !undoing {
            self.open(desk, report);
        }
        let (together, storm, resource) = self.together(desk.now);
        let ids: Vec<IncidentId> = self.ailments.keys().copied().collect();
        for id in ids {
            let Some(ailment) = self.ailments.get_mut(&id) else { continue };
            let Some(patient) = self.patients.get(&ailment.patient) else { continue };
            desk.units += 1;
            if undoing && !ailment.takes_back() {
                continue;
            }
            let held = match (patient.service().is_some(), storm, resource) {
                (true, true, _) => {
                    Some(format!("{together} services fail together, and nothing that they share is seen to"))
                }
                (true, false, true) => None, // what they share is put in order first; see `cure`
                _ => None,
            };
            let waits = patient.service().is_some() && resource;
            ailment.advance(desk, report, patient, held, waits);
        }
    }

    /// How many services are ill, whether so many that a common cause is suspected, and whether what they live from ails.
    fn together(&self, now: Timestamp) -> (usize, bool, bool) {
        let ill = |patient: &Patient| matches!(patient.condition(now), Condition::Ill(..));
        let of_services = || self.patients.values().filter(|patient| patient.service().is_some());
        let together = of_services().filter(|patient| ill(patient)).count();
        let resource = self.patients.values().any(|patient| patient.service().is_none() && ill(patient));
        (together, !resource && together >= TOGETHER_MAX && together * 2 > of_services().count(), resource)
    }

    fn open(&mut self, desk: &mut Desk<'_>, report: &mut Report<'_>) {
        let new: Vec<String> = self
            .patients
            .iter()
            .filter(|(_, patient)| matches!(patient.condition(desk.now), Condition::Ill(..)))
            .filter(|(_, patient)| patient.seen() > self.took_back)
            .map(|(name, _)| name.clone())
            .collect();
        for name in new {
            let known = self.ailments.values_mut().rev().find(|ailment| ailment.patient == name);
            if let Some(ailment) = known {
                let relapse = |healed: Timestamp| desk.now.since_ns(healed) < RELAPSE_NS;
                match (ailment.closed.is_some(), ailment.stage, ailment.healed) {
                    (false, Stage::Healed, Some(healed)) if relapse(healed) => ailment.relapse(desk),
                    (false, Stage::Healed, _) => {}
                    (true, ..) if relapse(ailment.cured.max(ailment.opened)) => continue, // a person ended it
                    (true, ..) => {}
                    (false, ..) => continue,
                }
                if self.ailments.values().any(|one| one.patient == name && one.is_open()) {
                    continue;
                }
            }
            if self.ailments.len() >= AILMENTS_MAX {
                let over = |ailment: &&Ailment| !ailment.is_open();
                let Some(oldest) = self.ailments.values().find(over).map(|ailment| ailment.id) else { return };
                if let Some(gone) = self.ailments.remove(&oldest) {
                    for action in gone.steps.keys() {
                        desk.owners.remove(action);
                    }
                }
            }
            let Some(patient) = self.patients.get(&name) else { continue };
            let Condition::Ill(kind, words) = patient.condition(desk.now) else { continue };
            *report.incidents_begun += 1;
            let id = IncidentId(*report.incidents_begun);
            let mut ailment = Ailment::new(id, name, kind, patient.ill_since().unwrap_or(desk.now));
            ailment.diagnose(desk, report, patient, kind, &words);
            self.ailments.insert(id, ailment);
        }
    }

    /// The agent started again: nothing that was under way is taken for done.
    pub(crate) fn restarted(&mut self, desk: &mut Desk<'_>) {
        for ailment in self.ailments.values_mut() {
            ailment.restarted(desk);
        }
    }

    pub(crate) fn reconsider(&mut self) {
        for ailment in self.ailments.values_mut() {
            ailment.reconsider();
        }
    }

    /// The next minute began, or services are back: what waited for that is judged again.
    pub(crate) fn reconsider_held(&mut self, incident: IncidentId, held: fn(&Verdict) -> bool) {
        let waits = |ailment: &&mut Ailment| {
            let step = ailment.current.and_then(|id| ailment.steps.get(&id));
            step.is_some_and(|step| held(&step.verdict))
        };
        if let Some(ailment) = self.ailments.get_mut(&incident).filter(waits) {
            ailment.reconsider();
        }
    }

    /// Questions that nobody answered in time.
    pub(crate) fn lapse(&mut self, desk: &mut Desk<'_>) {
        for ailment in self.ailments.values_mut() {
            ailment.lapse(desk);
        }
    }
}

/// Numbers that all incidents share.
pub(crate) struct Report<'a> {
    pub(crate) incidents_begun: &'a mut u64,
    pub(crate) findings: &'a mut crate::detect::Detectors,
}

impl Ailment {
    fn new(id: IncidentId, patient: String, kind: Kind, opened: Timestamp) -> Self {
        Self {
            id,
            patient,
            kind,
            stage: Stage::Open,
            why: String::new(),
            opened,
            contained: None,
            restored: None,
            healed: None,
            closed: None,
            roots: Vec::new(),
            findings: Vec::new(),
            objects: BTreeMap::new(),
            steps: BTreeMap::new(),
            current: None,
            cured: Timestamp::default(),
            cures: 0,
            not_before: Timestamp::default(),
            fresh_start: false,
            starts: 0,
            put_back: BTreeSet::new(),
            unpacked: BTreeSet::new(),
            packaged: false,
            refused: None,
            proving: false,
            proofs: 0,
            proof_not_before: Timestamp::default(),
            worse: Worse::default(),
        }
    }

    fn is_open(&self) -> bool {
        self.closed.is_none() && self.stage != Stage::Healed
    }

    /// Moves the stage on, if the table says so, and tells it.
    fn pass(&mut self, desk: &mut Desk<'_>, milestone: Milestone, why: String) {
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

    fn tell(&self, desk: &mut Desk<'_>) {
        let finding = IncidentFinding { incident: self.id, stage: self.stage, message: self.why.clone() };
        desk.out.push(Effect::Incident(finding));
    }

    // ---- cause ----

    /// Says what is wrong and who changed what just before; the incident is contained when that is settled.
    fn diagnose(&mut self, desk: &mut Desk<'_>, report: &mut Report<'_>, patient: &Patient, kind: Kind, words: &str) {
        self.kind = kind;
        let suspects = patient.suspects(desk.graph, &self.put_back);
        // A crash may have any reason: who changed it is blamed once a mere start has not helped.
        let blamed = match kind {
            Kind::BadConfiguration | Kind::MissingProgram => suspects.first(),
            Kind::Crash | Kind::NoAnswer if self.starts > 0 => suspects.first(),
            Kind::FirewallEmptied | Kind::DiskFull | Kind::CertificateExpired => suspects.first(),
            Kind::Crash | Kind::NoAnswer => None,
        };
        let root = match blamed {
            Some(change) => {
                let reason = format!("changed just before {} failed: {}", self.patient, change.title);
                let version = change.restore.as_ref().map_or(VersionId::UNKNOWN, |restore| restore.base);
                self.touch(&change.path, version, reason);
                Root {
                    kind: change.kind.clone(),
                    leader: change.writer,
                    title: change.title.clone(),
                    src_endpoint: change.src_endpoint.clone(),
                    score: 1.0,
                }
            }
            None => Root {
                kind: InvocationKind::Unit(self.patient.clone()),
                leader: ProcessKey::default(),
                title: format!("{} by itself: nobody is seen to have changed what it is made of", self.patient),
                src_endpoint: None,
                score: 0.5,
            },
        };
        // Who was blamed stays so; that nobody else is seen says nothing new.
        let at = if blamed.is_none() { self.roots.len() } else { 0 };
        let writer = blamed.map(|change| change.writer).unwrap_or_default();
        let paths: Vec<HostPath> = blamed.map(|change| change.path.clone()).into_iter().collect();
        self.roots
            .retain(|known| known.title != root.title && (blamed.is_none() || known.leader != ProcessKey::default()));
        self.roots.insert(at.min(self.roots.len()), root);
        self.roots.truncate(crate::diagnose::ROOTS_MAX);
        self.find(desk, report, writer, paths, words);
        let cause = self.roots.first().map(|root| root.title.clone()).unwrap_or_default();
        if self.stage == Stage::Open {
            self.why = format!("{words}; cause: {cause}");
            self.tell(desk);
            self.pass(desk, Milestone::Contained, format!("{words}; cause: {cause}"));
        }
    }

    fn find(
        &mut self,
        desk: &mut Desk<'_>,
        report: &mut Report<'_>,
        process: ProcessKey,
        paths: Vec<HostPath>,
        words: &str,
    ) {
        let analytic = self.kind.analytic();
        if self.findings.len() >= TOLD_MAX || self.findings.iter().any(|known| known.analytic == analytic) {
            return;
        }
        let id: FindingId = report.findings.number();
        let finding = Finding {
            id,
            analytic: analytic.to_owned(),
            technique: String::new(),
            title: words.to_owned(),
            confidence: Confidence::High,
            event: EventId(0),
            process,
            paths: paths.clone(),
        };
        self.findings.push(FindingSummary {
            id,
            time: desk.now,
            analytic: analytic.to_owned(),
            technique: String::new(),
            title: words.to_owned(),
            confidence: Confidence::High,
            paths,
            process,
        });
        desk.out.push(Effect::Finding(finding));
    }

    fn touch(&mut self, path: &HostPath, version: VersionId, reason: String) {
        if self.objects.len() < TOLD_MAX || self.objects.contains_key(path) {
            let object = Object {
                path: path.clone(),
                class: ObjectClass::Broken,
                first_version: version,
                reason,
                by: ProcessKey::default(),
                shown: None,
                deed: Deed::Changed,
            };
            self.objects.entry(path.clone()).or_insert(object);
        }
    }

    fn relapse(&mut self, desk: &mut Desk<'_>) {
        self.proofs = 0;
        self.fresh_start = false;
        self.pass(desk, Milestone::Reopened, format!("{} failed again", self.patient));
        let why = self.why.clone();
        self.pass(desk, Milestone::Contained, why);
    }

    // ---- cure ----

    /// Does what can be done now. `held`: why nothing may be done; `waits`: what it lives from ails, and goes first.
    fn advance(
        &mut self,
        desk: &mut Desk<'_>,
        report: &mut Report<'_>,
        patient: &Patient,
        held: Option<String>,
        waits: bool,
    ) {
        if !self.is_open() || self.proving {
            return;
        }
        let step = self.current.and_then(|id| self.steps.get(&id));
        if step.is_some_and(Step::is_busy) {
            return;
        }
        let asked = step.is_some_and(Step::waits);
        if self.take_back(desk) {
            return;
        }
        match patient.condition(desk.now) {
            Condition::Well => self.see_well(desk, patient),
            Condition::Unsure | Condition::Stopped if patient.stopped() => self.see_well(desk, patient),
            Condition::Unsure | Condition::Stopped => {}
            Condition::Ill(kind, words) => {
                let seen = patient.seen() > self.cured;
                if asked || !seen || waits || desk.now < self.not_before {
                    return;
                }
                if let Some(why) = held {
                    self.pass(desk, Milestone::Obstructed, why);
                    return;
                }
                if self.stage == Stage::Stuck {
                    return; // only a person, or its own recovery, moves it from here
                }
                if self.worse.is_begun() {
                    let worse: Vec<String> = self.worse.words().cloned().collect();
                    self.pass(desk, Milestone::Obstructed, worse.join("; "));
                    return;
                }
                if kind != self.kind || self.starts > 0 {
                    self.diagnose(desk, report, patient, kind, &words);
                }
                self.treat(desk, patient, kind, &words);
            }
        }
    }

    fn treat(&mut self, desk: &mut Desk<'_>, patient: &Patient, kind: Kind, words: &str) {
        if self.cures >= CURES_MAX {
            self.pass(desk, Milestone::Obstructed, format!("{words}; {CURES_MAX} cures did not help"));
            return;
        }
        match cure::next(self, desk, patient, kind) {
            Next::Do { action, why } => {
                if let Action::RestoreFile(restore) = &action {
                    let version = restore.base;
                    self.touch(&restore.path, version, why.clone());
                    let archives = patient.service().map_or(&[][..], |service| service.packaged.as_slice());
                    self.packaged = archives.iter().any(|file| file.path == restore.path);
                }
                if let Action::RestorePackaged { files } = &action {
                    for file in files {
                        self.touch(&file.path, VersionId::UNKNOWN, why.clone());
                    }
                }
                if let Action::RestartService { unit } = &action
                    && let Some(why) = desk.capacity.awaited(desk.now, unit)
                {
                    self.why = format!("{words}; {why}");
                    return;
                }
                self.propose(desk, action);
            }
            Next::Nothing(why) => self.pass(desk, Milestone::Obstructed, format!("{words}; {why}")),
        }
    }

    /// It answers (again): held for a while, that is proven.
    fn see_well(&mut self, desk: &mut Desk<'_>, patient: &Patient) {
        let since = patient.well_since().unwrap_or(desk.now).max(self.cured);
        let enough = patient.stopped() || patient.well_answers_since(self.cured) >= HOLD_ANSWERS;
        if desk.now.since_ns(since) < HOLD_NS || !enough || desk.now < self.proof_not_before {
            return;
        }
        let by_itself = self.cures == 0;
        if let Some(id) = self.current.filter(|id| self.steps.get(id).is_some_and(Step::waits)) {
            self.withdraw(desk, id, "it is well again");
        }
        let word = if patient.stopped() { "was stopped on purpose" } else { "is well again" };
        let why = match by_itself {
            true => format!("{} {word}, without our doing", self.patient),
            false => format!("{} {word} after {} cures; being proven", self.patient, self.cures),
        };
        if self.stage == Stage::Stuck {
            self.pass(desk, Milestone::Reopened, why.clone());
        }
        self.pass(desk, Milestone::Contained, why.clone());
        self.pass(desk, Milestone::Restored, why);
        let done =
            |step: &Step| step.state == Progressing::Settled && !step.failed() && step.action.paths().next().is_some();
        let mut last: BTreeMap<&HostPath, ActionId> = BTreeMap::new();
        for (id, step) in self.steps.iter().filter(|(_, step)| done(step)) {
            last.extend(step.action.paths().map(|path| (path, *id)));
        }
        // What somebody wrote there since is theirs.
        last.retain(|path, _| desk.graph.file(path).is_none_or(|file| file.writes.is_empty()));
        let what = Proof {
            processes: Vec::new(),
            actions: last.into_values().collect::<BTreeSet<_>>().into_iter().collect(),
            again: Vec::new(),
            others: Vec::new(),
            paths: Vec::new(),
            since: self.opened,
        };
        self.proving = true;
        desk.out.push(Effect::Verify { incident: self.id, what });
    }

    // ---- the guard ----

    fn judge(&self, desk: &mut Desk<'_>, (id, step): (ActionId, &Step), facts: Option<&Facts>) -> Verdict {
        let attempts = self.attempts(&step.action);
        let authorised_change = cure::takes_back_an_authorised_change(desk, &step.action);
        let own = self.worse.restraint(&step.action);
        let restraint = desk.restraint(self.id, &step.action, facts).or_else(|| own.clone());
        let doubted = desk.doubted(facts);
        let request = Request {
            now: desk.now,
            action: &step.action,
            mode: desk.configuration.mode,
            scope_permits_action: desk.configuration.scope_permits_action,
            confirmed: true,
            attack_only: false,
            failure: true,
            authorised_change,
            predicted: step.action.target_count(),
            hold: desk.hold,
            restraint: restraint.as_deref(),
            attempts,
            approvals: step.approvals.len(),
            facts,
            never_touch: &desk.configuration.never_touch,
            never_touch_paths: &desk.configuration.never_touch_paths,
            never_block: &desk.configuration.never_block,
            spared: None,
            doubted: &doubted,
        };
        told_why(desk.judge(id, self.id, &request), own)
    }

    /// Of exactly this action, so far.
    fn attempts(&self, action: &Action) -> Attempts {
        let same = |other: &&Step| other.action == *action && other.state == Progressing::Settled;
        let earlier: Vec<&Step> = self.steps.values().filter(same).collect();
        let count = u32::try_from(earlier.len()).unwrap_or(u32::MAX);
        Attempts { count, last: earlier.iter().filter_map(|step| step.settled).max() }
    }

    fn propose(&mut self, desk: &mut Desk<'_>, action: Action) {
        // The guard wants a pause between two tries of the same: it is looked at again when that is over.
        if let Some(ready) = self.attempts(&action).next_at().filter(|ready| *ready > desk.now) {
            self.not_before = self.not_before.max(ready);
            return;
        }
        *desk.actions_begun += 1;
        let id = ActionId(*desk.actions_begun);
        desk.owners.insert(id, self.id);
        self.steps.insert(id, Step::new(action, desk.now));
        self.current = Some(id);
        self.begin(desk, id);
    }

    fn begin(&mut self, desk: &mut Desk<'_>, id: ActionId) {
        desk.units += JUDGEMENT_UNITS;
        let Some(step) = self.steps.get(&id) else { return };
        let verdict = self.judge(desk, (id, step), None);
        let (asked_before, what) = (step.state == Progressing::Asked, step.action.clone());
        let state = match verdict.decision {
            Decision::Permit => {
                if let Action::RestartService { unit } = &what {
                    desk.capacity.reserve(desk.now, unit);
                }
                desk.out.push(Effect::Prepare { action: id, incident: self.id, what });
                Progressing::Preparing
            }
            Decision::Ask => {
                if !asked_before {
                    desk.out.push(Effect::Ask { action: id, incident: self.id, what, verdict: verdict.clone() });
                }
                Progressing::Asked
            }
            Decision::Deny => Progressing::Refused,
        };
        self.decided(desk, id, state, verdict);
    }

    fn decided(&mut self, desk: &mut Desk<'_>, id: ActionId, state: Progressing, verdict: Verdict) {
        let reasons = verdict.reasons.join("; ");
        let Some(step) = self.steps.get_mut(&id) else { return };
        if let (Action::RestartService { unit }, true) = (&step.action, state != Progressing::Preparing) {
            desk.capacity.release(unit); // it counts by what was done, or waits
        }
        let before = step.state;
        (step.state, step.verdict, step.decided) = (state, verdict, desk.now);
        step.note_question(before);
        let what = cure::in_words(&step.action);
        match state {
            Progressing::Asked => {
                let mode = match (desk.configuration.scope_permits_action, desk.configuration.mode) {
                    (false, _) => ", for nothing may be done in this scope",
                    (true, Mode::Observe) => ", for the mode is observe",
                    (true, Mode::Guarded | Mode::Autonomous) => "",
                };
                let why = format!("action {id} waits for a person{mode}: {what}: {reasons}");
                self.pass(desk, Milestone::Obstructed, why);
            }
            Progressing::Refused => {
                self.pass(desk, Milestone::Obstructed, format!("action {id} ({what}) was not done: {reasons}"));
            }
            Progressing::Preparing | Progressing::Committed | Progressing::Settled | Progressing::Superseded => {}
        }
    }

    fn withdraw(&mut self, desk: &mut Desk<'_>, id: ActionId, why: &str) {
        if let Some(step) = self.steps.get_mut(&id) {
            (step.state, step.settled) = (Progressing::Superseded, Some(desk.now));
        }
        self.current = self.current.filter(|current| *current != id);
        desk.deny(id, why);
    }

    // ---- answers ----

    pub(crate) fn prepared(&mut self, desk: &mut Desk<'_>, id: ActionId, facts: &Facts) {
        let Some(step) = self.steps.get(&id) else { return };
        if step.state == Progressing::Committed {
            return; // told twice
        }
        if step.state != Progressing::Preparing || self.closed.is_some() {
            desk.deny(id, "it is not wanted any more");
            return;
        }
        desk.units += JUDGEMENT_UNITS;
        let verdict = self.judge(desk, (id, step), Some(facts));
        let what = step.action.clone();
        if let Expected::Changed(why) = &facts.as_expected {
            let why = why.clone();
            desk.deny(id, &format!("changed since the plan was made: {why}"));
            if matches!(what, Action::RestartService { .. }) {
                self.refused = Some(why.clone());
            }
            self.settle(desk, id, Outcome::Reverted(why));
            return;
        }
        if let (Merge::Missing(why), true) = (&facts.merge, self.packaged) {
            // The vault lacks it after all: its package's archive comes next, as an action of its own.
            let why = why.clone();
            desk.deny(id, &format!("a version is missing: {why}"));
            self.settle(desk, id, Outcome::Reverted(why));
            return;
        }
        let state = match verdict.decision {
            Decision::Permit => {
                desk.commit(id, self.id, step, (&verdict, facts));
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
        let undecidable = matches!(facts.merge, Merge::Conflict(_) | Merge::Missing(_));
        if let Some(step) = self.steps.get_mut(&id) {
            step.personal = undecidable && state != Progressing::Committed;
        }
        self.decided(desk, id, state, verdict);
    }

    pub(crate) fn unprepared(&mut self, desk: &mut Desk<'_>, id: ActionId, why: &str) {
        if self.steps.get(&id).is_some_and(|step| step.state == Progressing::Preparing) {
            self.settle(desk, id, Outcome::Reverted(why.to_owned()));
        }
    }

    pub(crate) fn outcome(&mut self, desk: &mut Desk<'_>, id: ActionId, outcome: Outcome) {
        let Some(step) = self.steps.get(&id) else { return };
        if step.state == Progressing::Settled && outcome != Outcome::Undone {
            return; // told twice
        }
        self.settle(desk, id, outcome);
    }

    /// The hands are through with it: what is seen from now on says whether it helped.
    fn settle(&mut self, desk: &mut Desk<'_>, id: ActionId, outcome: Outcome) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        let worked = matches!(outcome, Outcome::Success | Outcome::DoesNotExist);
        (step.state, step.settled, step.outcome) = (Progressing::Settled, Some(desk.now), Some(outcome));
        let (action, decided) = (step.action.clone(), step.decided);
        if let Action::RestartService { unit } = &action {
            desk.capacity.release(unit);
        }
        self.current = self.current.filter(|current| *current != id);
        self.cured = desk.now;
        self.cures += 1;
        let pause = PAUSE_NS.saturating_mul(1 << self.cures.min(8)).saturating_sub(PAUSE_NS);
        match action {
            Action::RestoreFile(RestoreFile { path, .. }) => {
                self.put_back.insert(path.clone());
                self.refused = None;
                self.fresh_start = false;
                if worked {
                    desk.graph.settle_writes(&path, decided);
                }
            }
            Action::RestartService { .. } | Action::ReloadService { .. } => {
                self.fresh_start = self.refused.is_none();
                self.starts += 1;
                self.not_before = Timestamp(desk.now.0 + pause);
            }
            Action::RestorePackaged { files } => {
                self.refused = None;
                self.fresh_start = false;
                for file in files {
                    if worked {
                        desk.graph.settle_writes(&file.path, decided);
                    }
                    self.unpacked.insert(file.path);
                }
            }
            Action::FreeSpace { .. } | Action::LoadFirewall { .. } | Action::RenewCertificate { .. } => {}
            Action::SuspendProcesses { .. }
            | Action::TerminateProcesses { .. }
            | Action::EndSession { .. }
            | Action::FilterTraffic { .. }
            | Action::RestoreFiles { .. }
            | Action::QuarantineFile { .. }
            | Action::LockAccount { .. }
            | Action::IsolateHost { .. }
            | Action::RemoveUnit { .. } => {}
            Action::UndoAction { of, .. } if worked => self.taken_back(desk, of),
            Action::UndoAction { .. } => {}
        }
    }

    pub(crate) fn proven(&mut self, desk: &mut Desk<'_>, checks: &[Check]) {
        if !std::mem::take(&mut self.proving) {
            return;
        }
        // Another service's failure is another incident's.
        let own = format!("service {}", self.patient);
        let ours = |check: &&Check| !check.name.starts_with("service ") || check.name == own;
        let broken: Vec<String> = checks
            .iter()
            .filter(ours)
            .filter(|check| !check.holds)
            .take(4)
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        let count = checks.iter().filter(ours).count();
        if broken.is_empty() && count > 0 {
            self.pass(desk, Milestone::Proven, format!("healed: it answered for a while, and {count} checks hold"));
            return;
        }
        self.proofs += 1;
        self.proof_not_before = Timestamp(desk.now.0 + PAUSE_NS);
        let broken = if checks.is_empty() { "nothing was checked".to_owned() } else { broken.join("; ") };
        if self.proofs >= PROOFS_MAX {
            self.pass(desk, Milestone::Obstructed, format!("the proof does not hold: {broken}"));
        } else {
            self.why = format!("not proven yet: {broken}");
        }
    }

    /// A person answered a question: which user, or `u32::MAX` when that was not told.
    pub(crate) fn answer(&mut self, desk: &mut Desk<'_>, id: ActionId, approved: bool, uid: u32) {
        if !self.steps.get(&id).is_some_and(Step::waits) || self.closed.is_some() {
            return;
        }
        if approved {
            if let Some(step) = self.steps.get_mut(&id) {
                step.approvals.insert(uid);
            }
            self.current = Some(id);
            self.go_on(desk, format!("a person approved action {id}"));
            self.begin(desk, id);
            return;
        }
        let verdict = Verdict { decision: Decision::Deny, reasons: vec!["a person denied it".to_owned()] };
        desk.out.push(Effect::Drop { action: id, verdict: verdict.clone() });
        if let Some(step) = self.steps.get_mut(&id) {
            step.personal = true;
        }
        self.decided(desk, id, Progressing::Refused, verdict);
        if self.steps.get(&id).is_some_and(|step| is_undo(&step.action)) {
            self.keep(desk, id);
            return;
        }
        self.why = format!("a person denied action {id}");
        self.tell(desk);
    }

    /// What nobody answered in time is not done.
    fn lapse(&mut self, desk: &mut Desk<'_>) {
        let answer_ns = desk.configuration.answer_ns;
        let late = |step: &&mut Step| {
            step.state == Progressing::Asked && step.asked.is_some_and(|asked| desk.now.since_ns(asked) >= answer_ns)
        };
        let Some(id) = self.current.filter(|_| self.closed.is_none()) else { return };
        let Some(step) = self.steps.get_mut(&id).filter(late) else { return };
        step.lapse(id, desk.now, answer_ns);
        let verdict = step.verdict.clone();
        desk.out.push(Effect::Drop { action: id, verdict });
        desk.units += 1;
        self.why = format!("action {id} was not done, for nobody answered in time");
        self.tell(desk);
    }

    /// Open again, with the cause known as before.
    fn go_on(&mut self, desk: &mut Desk<'_>, why: String) {
        self.pass(desk, Milestone::Reopened, why.clone());
        self.pass(desk, Milestone::Contained, why);
    }

    /// Mode, policy or hold changed: what waited for that is planned anew.
    fn reconsider(&mut self) {
        if self.closed.is_some() || self.stage != Stage::Stuck {
            return;
        }
        let waits = |step: &Step| step.waits() && !step.personal;
        if let Some(id) = self.current.filter(|id| self.steps.get(id).is_some_and(waits))
            && let Some(step) = self.steps.get_mut(&id)
        {
            step.state = Progressing::Superseded;
            let action = step.action.clone();
            self.current = None;
            self.keep_wanting(&action);
            // The table's way back to work; told with the next effect.
            self.stage = self.stage.next(Milestone::Reopened).unwrap_or(self.stage);
            self.stage = self.stage.next(Milestone::Contained).unwrap_or(self.stage);
        }
    }

    fn restarted(&mut self, desk: &mut Desk<'_>) {
        self.proving = false;
        if self.closed.is_some() {
            return;
        }
        let Some(id) = self.current else { return };
        let Some(step) = self.steps.get_mut(&id).filter(|step| step.is_busy()) else { return };
        step.state = Progressing::Preparing;
        let what = step.action.clone();
        desk.out.push(Effect::Prepare { action: id, incident: self.id, what });
    }

    /// A person ended it: nothing more is done by itself, and what was asked is taken back.
    pub(crate) fn close(&mut self, desk: &mut Desk<'_>, why: &str) {
        if let Some(id) = self.current.filter(|id| self.steps.get(id).is_some_and(Step::waits)) {
            self.withdraw(desk, id, why);
        }
        self.closed = Some(why.to_owned());
        if self.stage == Stage::Healed {
            self.pass(desk, Milestone::Reopened, why.to_owned());
        }
        self.pass(desk, Milestone::Obstructed, why.to_owned());
        self.why = why.to_owned();
    }

    // ---- reading ----

    pub(crate) fn show(&self, answer_ns: u64) -> Incident {
        Incident {
            id: self.id,
            stage: self.stage,
            why: self.why.clone(),
            opened: self.opened,
            contained: self.contained,
            restored: self.restored,
            healed: self.healed,
            confirmed: true,
            roots: self.roots.clone(),
            findings: self.findings.clone(),
            subjects: Vec::new(),
            objects: self.objects.values().cloned().collect(),
            actions: crate::decide::records(&self.steps, answer_ns),
            worse: self.worse.words().cloned().collect(),
            contacts: Vec::new(),
            secrets: Vec::new(),
            hearsay: Vec::new(),
            omitted: 0,
        }
    }
}
