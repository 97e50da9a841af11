// SPDX-License-Identifier: Apache-2.0
//! The whole brain: state and input in, effects out. No I/O, clock, thread or randomness.
//!
//! The same inputs give the same effects, bit for bit, also when the engine was stored and loaded in between.
//! Policies are not stored: they are made again from their texts.

#[cfg(test)]
mod tests;
mod view;
#[cfg(test)]
pub(crate) mod world;

pub use view::{VIEW_CONTACTS_MAX, VIEW_HEARSAY_MAX, VIEW_OBJECTS_MAX, VIEW_SECRETS_MAX, VIEW_SUBJECTS_MAX, View};

use crate::action::{Facts, Outcome};
use crate::ailment::{self, Ward};
use crate::decide::{self, BEGUN_PER_STEP_MAX, Desk};
use crate::detect::{self, Context, Detectors};
use crate::diagnose::{Anchor, Case, Met, incident_of, roots};
use crate::event::{Activity, Confidence, Event, Finding, Loss, NetworkActivityId, ProcessActivityId};
use crate::graph::{Graph, Limits};
use crate::guard::{self, Breaker, Budget, Capacity, Hold, Judged, Policies};
use crate::id::{ActionId, IncidentId, ProcessKey, Timestamp};
use crate::incident::{InvocationKind, Stage, Verdict};
use crate::input::{Command, Configuration, Effect, Input};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// SPECIFICATION: one `step` does at most this many units of work (an entry of the graph looked at, a sixteenth of a
/// judgement, an effect made); searches resume with the next input.
pub const STEP_WORK_MAX: u32 = 1_024;
/// Of these, what is left for effects that must not wait: stops, answers.
const RESERVED_UNITS: u32 = 512;
/// LIMIT: incidents kept; the oldest that is over goes first, then the oldest that was never confirmed, then the oldest that
/// came in a storm and that nobody judged after it.
pub const INCIDENTS_MAX: usize = 128;
/// LIMIT: losses named one by one in a [`View`]; all are counted.
pub const LOSSES_MAX: usize = 64;

/// What one step cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub units: u32,
    /// More can be done at once: step again soon, with an [`Input::Tick`] when nothing else comes.
    pub pending: bool,
}

/// Announced changes: `thymus change begin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeWindow {
    pub until: Timestamp,
    pub who: String,
    pub why: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counters {
    events: u64,
    events_lost: u64,
    /// Lines of logs.
    lines_heard: u64,
    findings: u64,
    /// Findings that no incident could be opened for.
    findings_dropped: u64,
    incidents_dropped: u64,
    policies_refused: u64,
    /// Answers about actions that nobody knows.
    answers_unknown: u64,
    step_work_max: u32,
}

/// The rest of the engine for one step of an incident, whose own place in it stays free to be borrowed.
macro_rules! desk {
    ($engine:ident, $configuration:expr, $out:ident) => {
        Desk {
            now: $engine.now,
            graph: &mut $engine.graph,
            configuration: $configuration,
            policies: $engine.policies.as_ref(),
            hold: $engine.hold.as_ref(),
            breaker: &$engine.breaker,
            budget: &mut $engine.budget,
            capacity: &mut $engine.capacity,
            change_window: $engine.change.is_some(),
            actions_begun: &mut $engine.actions_begun,
            owners: &mut $engine.owners,
            judged: $engine.judged.as_mut(),
            out: $out,
            units: 0,
            room: BEGUN_PER_STEP_MAX,
            units_max: RESERVED_UNITS,
        }
    };
}

/// What somebody says about an action.
enum Answer {
    Prepared(Facts),
    Unprepared(String),
    Outcome(Outcome),
    Person { approved: bool, uid: u32, before: bool },
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Engine {
    now: Timestamp,
    configuration: Option<Configuration>,
    /// The last texts that made valid policies.
    policy_texts: Vec<(String, String)>,
    #[serde(skip)]
    policies: Option<Policies>,
    hold: Option<Hold>,
    #[serde(default)]
    breaker: Breaker,
    #[serde(default)]
    budget: Budget,
    #[serde(default)]
    capacity: Capacity,
    change: Option<ChangeWindow>,
    graph: Graph,
    detectors: Detectors,
    cases: BTreeMap<IncidentId, Case>,
    /// Confirmed incidents that no person ended: each event is held against them.
    active: BTreeSet<IncidentId>,
    incidents_begun: u64,
    actions_begun: u64,
    owners: BTreeMap<ActionId, IncidentId>,
    /// What fails although nobody attacked it.
    ward: Ward,
    losses: Vec<Loss>,
    counters: Counters,
    /// The judgements of the last step, for who watches. No part of the state: nothing is decided by it.
    #[serde(skip)]
    judged: Option<Vec<Judged>>,
}

impl Engine {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With tables of other sizes than the limits say; for tests and benches.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { graph: Graph::with_limits(limits), ..Self::default() }
    }

    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The policies in force; `None` until a configuration had some that can be used.
    #[must_use]
    pub fn policies(&self) -> Option<&Policies> {
        self.policies.as_ref()
    }

    /// From now on, [`Engine::judged`] tells each step's judgements. Stored nowhere: to be said again of a loaded engine.
    pub fn watch(&mut self) {
        self.judged = Some(Vec::new());
    }

    /// What was judged in the last step, in its order; nothing when nobody said that they watch.
    #[must_use]
    pub fn judged(&self) -> &[Judged] {
        self.judged.as_deref().unwrap_or_default()
    }

    /// A confirmed incident that no person ended is not healed yet.
    #[must_use]
    pub fn is_undoing(&self) -> bool {
        self.active.iter().filter_map(|id| self.cases.get(id)).any(|case| case.stage != Stage::Healed)
    }

    /// Takes one input in and says what is to be done. Time never goes back: an earlier `now` counts as the latest.
    pub fn step(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) -> Work {
        self.now = now.max(self.now);
        let mut units = 1;
        if let Some(judged) = &mut self.judged {
            judged.clear();
        }
        if self.policies.is_none() && !self.policy_texts.is_empty() {
            self.policies = Policies::load(&self.policy_texts).ok();
        }
        if let Input::Event(Event { time, activity: Activity::Hearsay(line), .. }) = &input {
            // Whoever writes a line drives nothing on: no detector, no search, no action that waits.
            self.graph.hear(*time, line);
            self.counters.lines_heard += 1;
            return Work { units: 1, pending: self.has_more() };
        }
        match input {
            Input::Configured(configuration) => self.configure(*configuration),
            Input::Event(event) => units += self.observe(&event, out),
            Input::Tick => units += self.tick(out),
            Input::Prepared { action, facts } => {
                units += self.answered(action, out, &Answer::Prepared(facts));
            }
            Input::Unprepared { action, why } => {
                units += self.answered(action, out, &Answer::Unprepared(why));
            }
            Input::Outcome { action, outcome } => {
                if self.is_undo(action) {
                    self.ward.took_back = self.now;
                }
                units += self.answered(action, out, &Answer::Outcome(outcome));
            }
            Input::Proven { incident, checks } => {
                units += self.with(incident, out, |case, desk| case.proven(desk, &checks)).unwrap_or(0);
                units += self.nurse(out, |ward, desk, _| {
                    if let Some(ailment) = ward.ailments.get_mut(&incident) {
                        ailment.proven(desk, &checks);
                    }
                });
            }
            Input::Command(command) => units += self.command(command, out),
            Input::Restarted { settled } => units += self.restarted(settled, out),
            Input::Health(health) => {
                let name = health.name();
                if self.ward.hear(health, self.now) {
                    self.graph.look_after(self.ward.made_of());
                }
                self.capacity.hear(&name, self.ward.answer_of(&name));
                units += self.look_back(out);
                units += self.look_after(out);
            }
        }
        if !self.active.is_empty() {
            units += self.go_on(units, out);
        }
        self.counters.step_work_max = self.counters.step_work_max.max(units);
        Work { units, pending: self.has_more() }
    }

    fn has_more(&self) -> bool {
        self.active.iter().filter_map(|id| self.cases.get(id)).any(|case| case.dirty || case.search.is_some())
    }

    // ---- inputs ----

    fn configure(&mut self, configuration: Configuration) {
        match Policies::load(&configuration.policies) {
            Ok(policies) => {
                self.policies = Some(policies);
                self.policy_texts.clone_from(&configuration.policies);
            }
            Err(_) => self.counters.policies_refused += 1, // the last good ones stay
        }
        self.configuration = Some(configuration);
        self.reconsider();
    }

    fn reconsider(&mut self) {
        self.ward.reconsider();
        for id in &self.active {
            if let Some(case) = self.cases.get_mut(id) {
                case.reconsider();
            }
        }
    }

    /// There is room again for what waited for it.
    fn reconsider_held(&mut self, incident: IncidentId, held: fn(&Verdict) -> bool) {
        if let Some(case) = self.cases.get_mut(&incident) {
            case.reconsider_held(held);
        }
        self.ward.reconsider_held(incident, held);
    }

    fn observe(&mut self, event: &Event, out: &mut Vec<Effect>) -> u32 {
        self.counters.events += 1;
        let Some(configuration) = &self.configuration else { return 0 };
        if let Activity::Loss(loss) = &event.activity {
            self.counters.events_lost += loss.count;
            if self.losses.len() >= LOSSES_MAX {
                self.losses.remove(0);
            }
            self.losses.push(loss.clone());
        }
        let noted = self.graph.observe(event, &configuration.never_touch);
        let mut units = 1;
        for path in noted.written.iter().flatten() {
            units += self.ward.note(path);
        }
        if !self.active.is_empty() {
            units += self.follow(event, &noted);
        }
        let Some(configuration) = &self.configuration else { return units };
        let mut findings = Vec::new();
        if let Activity::Finding(finding) = &event.activity {
            findings.push(finding.clone()); // claimed elsewhere: it counts like one of our own
        }
        let context = Context { configuration, change_window: self.change.is_some() };
        self.detectors.observe(event, &self.graph, &context, &mut findings);
        for finding in findings {
            units += self.take_in(&finding, event.time, out);
            out.push(Effect::Finding(finding));
        }
        units
    }

    /// Holds an event against the incidents that are being worked on.
    fn follow(&mut self, event: &Event, noted: &crate::graph::Noted) -> u32 {
        let Some(configuration) = &self.configuration else { return 0 };
        let mut units = 0;
        if let Activity::Network(activity) = &event.activity
            && activity.activity == NetworkActivityId::Open
            && let Some(id) = self.graph.process(activity.actor).and_then(|node| node.subject)
            && let Some(case) = self.cases.get_mut(&id)
        {
            case.talks(activity.actor);
        }
        if let Activity::Process(activity) = &event.activity {
            let key = activity.process.key;
            let subject = self.graph.process(key).and_then(|node| node.subject);
            match (activity.activity, subject.and_then(|id| self.cases.get_mut(&id))) {
                (ProcessActivityId::Terminate, Some(case)) => case.see_gone(key),
                (ProcessActivityId::Exec, Some(case)) => {
                    if let (Some(subject), Some(node)) = (case.subjects.get_mut(&key), self.graph.process(key)) {
                        subject.program.clone_from(&node.exe);
                        subject.cmd_line = node.arguments().map(ToOwned::to_owned).collect();
                        subject.uid = node.user.euid;
                    }
                }
                (
                    ProcessActivityId::Fork
                    | ProcessActivityId::Exec
                    | ProcessActivityId::Terminate
                    | ProcessActivityId::Inject
                    | ProcessActivityId::SetUserId
                    | ProcessActivityId::Inventory,
                    _,
                ) => {}
            }
        }
        if let Some(key) = noted.process
            && let Some((incident, reason)) = incident_of(&self.graph, &configuration.never_touch, key)
            && self.active.contains(&incident)
            && let Some(case) = self.cases.get_mut(&incident)
        {
            units += 1;
            case.add_subject(&mut self.graph, key, reason);
        }
        for path in noted.written.iter().flatten() {
            let wrote = self.graph.incidents_of(path);
            for id in &self.active {
                units += 1;
                // Whose subjects have not written the path, who has not to do with it and who made no directory learns
                // nothing from it.
                if let Some(case) = self.cases.get_mut(id)
                    && (wrote.contains(id) || case.objects.contains_key(path) || !case.directories.is_empty())
                {
                    case.look_at(&mut self.graph, configuration, path, Met::Now);
                }
            }
        }
        units
    }

    /// A finding opens an incident or joins the one with its root.
    fn take_in(&mut self, finding: &Finding, time: Timestamp, out: &mut Vec<Effect>) -> u32 {
        let Some(configuration) = &self.configuration else { return 0 };
        self.counters.findings += 1;
        let context = Context { configuration, change_window: self.change.is_some() };
        let process = finding.process;
        let authorised = detect::authority(process, &self.graph, &context).is_authorised();
        let roots = roots(&self.graph, &context, process, time);
        let units = u32::try_from(crate::diagnose::CAUSES_MAX).unwrap_or(u32::MAX);
        let anchor = roots.first().map(|root| root.anchor);
        let known = self.graph.process(process).and_then(|node| {
            node.subject.or_else(|| self.graph.invocation(node.invocation).and_then(|found| found.subject))
        });
        let known = known.or_else(|| {
            let of = |case: &&Case| case.anchor() == anchor && case.closed.is_none();
            self.cases.values().rev().find(of).map(|case| case.id)
        });
        let id = match known.filter(|id| self.cases.contains_key(id)) {
            Some(id) => id,
            None => {
                if !self.make_room() {
                    self.counters.findings_dropped += 1;
                    return units;
                }
                self.incidents_begun += 1;
                let id = IncidentId(self.incidents_begun);
                let case = Case::new(id, self.now, roots);
                for root in &case.roots {
                    if let Some(invocation) = self.graph.invocation_mut(root.anchor.invocation) {
                        invocation.pinned = true;
                    }
                }
                self.cases.insert(id, case);
                id
            }
        };
        // One strong finding ends the trust in whoever acts; a weak one does so where nobody vouches.
        let doubted = match finding.confidence {
            Confidence::Low => false,
            Confidence::Medium => !authorised,
            Confidence::High => true,
        };
        if doubted {
            self.doubt(process, anchor);
        }
        let opened = self.cases.get(&id).is_some_and(|case| case.findings.is_empty());
        let Some(case) = self.cases.get_mut(&id) else { return units };
        case.claim(finding, time, authorised);
        let mut confirmed = false;
        if case.closed.is_none() {
            if !case.confirmed && case.has_evidence() {
                case.confirm(&mut self.graph);
                self.active.insert(id);
                confirmed = true;
            } else if case.confirmed && !authorised && finding.confidence >= Confidence::Medium {
                case.add_subject(&mut self.graph, process, format!("did what was found: {}", finding.title).into());
            }
        }
        if confirmed && let Some(why) = self.breaker.confirm(self.now, id) {
            out.push(Effect::Storm { open: true, why });
        }
        if confirmed || opened {
            self.with(id, out, |case, desk| case.tell(desk));
        }
        units
    }

    fn doubt(&mut self, process: ProcessKey, anchor: Option<Anchor>) {
        let invocation = self.graph.process(process).map(|node| node.invocation).unwrap_or_default();
        if let Some(node) = self.graph.process_mut(process) {
            node.pinned = true;
        }
        let whole = anchor.is_some_and(|anchor| anchor.invocation != invocation || anchor.branch.is_none());
        if let Some(found) = self.graph.invocation_mut(invocation)
            && (whole || matches!(found.kind, InvocationKind::Session | InvocationKind::Cron))
        {
            found.suspect = true;
        }
    }

    /// At the limit, what is over goes, then what was never confirmed; oldest first.
    fn make_room(&mut self) -> bool {
        if self.cases.len() < INCIDENTS_MAX {
            return true;
        }
        let over = |case: &&Case| case.stage == Stage::Healed || case.closed.is_some();
        let unconfirmed = |case: &&Case| !case.confirmed;
        let left_over = |case: &&Case| self.breaker.is_left_over(case.id);
        let oldest = self.cases.values().find(over).or_else(|| self.cases.values().find(unconfirmed));
        let oldest = oldest.or_else(|| self.cases.values().find(left_over));
        let Some(id) = oldest.map(|case| case.id) else { return false };
        if let Some(case) = self.cases.remove(&id) {
            self.active.remove(&id);
            self.breaker.forget(id);
            self.counters.incidents_dropped += 1;
            for action in case.plan.steps.keys() {
                self.owners.remove(action);
            }
            for path in case.objects.keys() {
                if let Some(file) = self.graph.file_mut(path) {
                    file.incident = None;
                }
            }
            for key in case.subjects.keys().copied().chain(case.findings.iter().map(|claim| claim.process)) {
                if let Some(node) = self.graph.process_mut(key) {
                    node.subject = node.subject.filter(|subject| *subject != id);
                    node.pinned = false;
                }
            }
            for root in &case.roots {
                if let Some(invocation) = self.graph.invocation_mut(root.anchor.invocation) {
                    invocation.pinned = false;
                }
            }
        }
        true
    }

    fn tick(&mut self, out: &mut Vec<Effect>) -> u32 {
        let now = self.now;
        let mut units = 0;
        if self.change.as_ref().is_some_and(|change| change.until <= now) {
            self.change = None;
        }
        if self.hold.as_ref().is_some_and(|hold| hold.until <= now) {
            self.hold = None;
            self.reconsider();
        }
        for id in self.budget.pass(now) {
            self.reconsider_held(id, guard::is_short);
        }
        for id in self.capacity.pass(now) {
            self.reconsider_held(id, guard::is_low);
        }
        for id in self.active.clone() {
            units += self.with(id, out, |case, desk| case.renew(desk)).unwrap_or(0);
        }
        units += self.nurse(out, |ward, desk, _| ward.lapse(desk));
        units += self.look_back(out);
        units + self.look_after(out)
    }

    fn is_undo(&self, action: ActionId) -> bool {
        let Some(incident) = self.owners.get(&action) else { return false };
        let step = self.cases.get(incident).and_then(|case| case.plan.steps.get(&action));
        let step = step.or_else(|| self.ward.ailments.get(incident)?.step(action));
        step.is_some_and(|step| decide::is_undo(&step.action))
    }

    fn answered(&mut self, action: ActionId, out: &mut Vec<Effect>, answer: &Answer) -> u32 {
        let owner = self.owners.get(&action).copied();
        if let Some(incident) = owner.filter(|incident| self.ward.ailments.contains_key(incident)) {
            return self.nurse(out, |ward, desk, _| {
                let Some(ailment) = ward.ailments.get_mut(&incident) else { return };
                match answer {
                    Answer::Prepared(facts) => ailment.prepared(desk, action, facts),
                    Answer::Unprepared(why) => ailment.unprepared(desk, action, why),
                    Answer::Outcome(outcome) => ailment.outcome(desk, action, outcome.clone()),
                    Answer::Person { approved, uid, .. } => ailment.answer(desk, action, *approved, *uid),
                }
            });
        }
        let done = owner.and_then(|incident| {
            self.with(incident, out, |case, desk| match answer {
                Answer::Prepared(facts) => case.prepared(desk, action, facts),
                Answer::Unprepared(why) => case.unprepared(desk, action, why),
                Answer::Outcome(outcome) => case.outcome(desk, action, outcome.clone()),
                Answer::Person { approved, uid, before } => case.answer(desk, action, (*approved, *before), *uid),
            })
        });
        if done.is_none() {
            self.counters.answers_unknown += 1;
        }
        done.unwrap_or(0)
    }

    fn command(&mut self, command: Command, out: &mut Vec<Effect>) -> u32 {
        match command {
            Command::Approve { action } => {
                return self.answered(action, out, &Answer::Person { approved: true, uid: u32::MAX, before: false });
            }
            Command::ApproveBefore { action } => {
                return self.answered(action, out, &Answer::Person { approved: true, uid: u32::MAX, before: true });
            }
            Command::Deny { action } => {
                return self.answered(action, out, &Answer::Person { approved: false, uid: u32::MAX, before: false });
            }
            Command::Answer { action, approved, uid, before } => {
                return self.answered(action, out, &Answer::Person { approved, uid, before });
            }
            Command::Hold { until, why } => self.hold = Some(Hold { until, why }),
            Command::Release => self.release(out),
            Command::ChangeBegin { until, who, why } => self.change = Some(ChangeWindow { until, who, why }),
            Command::ChangeEnd => self.change = None,
            Command::Mode(mode) => {
                if let Some(configuration) = &mut self.configuration {
                    configuration.mode = mode;
                }
                self.reconsider();
            }
            Command::Judge { incident, true_positive: false } => {
                let why = "a person judged it a false alarm; what is stopped goes on when its lease ends";
                return self.end(incident, why, out);
            }
            Command::Judge { incident, true_positive: true } => {
                let known = self.cases.get_mut(&incident).filter(|case| !case.confirmed && case.closed.is_none());
                if let Some(case) = known {
                    case.confirm(&mut self.graph);
                    self.active.insert(incident);
                    self.breaker.judge(incident);
                    return self.with(incident, out, |case, desk| case.tell(desk)).unwrap_or(0);
                }
                if let Some(case) = self.cases.get_mut(&incident).filter(|case| case.confirmed && case.closed.is_none())
                    && self.breaker.judge(incident)
                {
                    case.stop_anew();
                    case.reconsider();
                }
            }
            Command::Undone { incident } => return self.end(incident, "a person undid what was done about it", out),
            Command::BaselineAccepted { paths } => {
                for path in &paths {
                    self.graph.forget_writes(path);
                    for id in self.active.clone() {
                        self.with(id, out, |case, desk| case.accept(desk, path));
                    }
                }
            }
            Command::GoldenAccepted { .. } => {} // recorded, for whoever asks later
        }
        0
    }

    /// Ends a hold; when there is none, a storm: who ends a hold need not know of one that began in it.
    fn release(&mut self, out: &mut Vec<Effect>) {
        if self.hold.take().is_none() && self.breaker.release() {
            out.push(Effect::Storm { open: false, why: "a person released it".to_owned() });
            for id in &self.active {
                if let Some(case) = self.cases.get_mut(id).filter(|case| self.breaker.objection(case.id).is_none()) {
                    case.stop_anew();
                }
            }
        }
        self.reconsider();
    }

    fn end(&mut self, incident: IncidentId, why: &str, out: &mut Vec<Effect>) -> u32 {
        self.active.remove(&incident);
        self.breaker.forget(incident);
        let units = self.nurse(out, |ward, desk, _| {
            if let Some(ailment) = ward.ailments.get_mut(&incident) {
                ailment.close(desk, why);
            }
        });
        units + self.with(incident, out, |case, desk| case.close(desk, why)).unwrap_or(0)
    }

    fn restarted(&mut self, settled: Vec<(ActionId, Outcome)>, out: &mut Vec<Effect>) -> u32 {
        let mut units = 0;
        for (action, outcome) in settled {
            units += self.answered(action, out, &Answer::Outcome(outcome));
        }
        for id in self.active.clone() {
            units += self.with(id, out, |case, desk| case.restarted(desk)).unwrap_or(0);
        }
        units + self.nurse(out, |ward, desk, _| ward.restarted(desk))
    }

    /// Who fell ill after something was done; while changes are announced, that may have other reasons.
    fn look_back(&mut self, out: &mut Vec<Effect>) -> u32 {
        let Some(configuration) = self.configuration.as_ref().filter(|_| self.change.is_none()) else { return 0 };
        let mut units = 0;
        for fallen in self.ward.fallen(self.now, &self.graph, &configuration.never_touch) {
            for id in self.active.clone() {
                units += self.with(id, out, |case, desk| case.look_back(desk, &fallen)).unwrap_or(0);
            }
            units += self.nurse(out, |ward, desk, _| ward.look_back(desk, &fallen));
        }
        units
    }

    /// Goes on with what fails, unless an attack is being undone.
    fn look_after(&mut self, out: &mut Vec<Effect>) -> u32 {
        let under_way = |case: &Case| matches!(case.stage, Stage::Open | Stage::Contained | Stage::Restored);
        let attacked = self.active.iter().filter_map(|id| self.cases.get(id)).any(under_way);
        self.nurse(out, |ward, desk, report| ward.work(desk, report, attacked))
    }

    // ---- the incidents' own work ----

    /// Runs `work` on one incident with the rest of the engine at hand; returns the units used, `None` when there is
    /// no such incident or no configuration yet.
    fn with(
        &mut self,
        incident: IncidentId,
        out: &mut Vec<Effect>,
        work: impl FnOnce(&mut Case, &mut Desk<'_>),
    ) -> Option<u32> {
        let mut desk = desk!(self, self.configuration.as_ref()?, out);
        work(self.cases.get_mut(&incident)?, &mut desk);
        Some(desk.units)
    }

    /// Runs `work` on what fails, with the rest of the engine at hand; returns the units used.
    fn nurse(
        &mut self,
        out: &mut Vec<Effect>,
        work: impl FnOnce(&mut Ward, &mut Desk<'_>, &mut ailment::Report<'_>),
    ) -> u32 {
        let Some(configuration) = self.configuration.as_ref() else { return 0 };
        let mut desk = desk!(self, configuration, out);
        let mut report = ailment::Report { incidents_begun: &mut self.incidents_begun, findings: &mut self.detectors };
        work(&mut self.ward, &mut desk, &mut report);
        desk.units
    }

    /// Searches on and acts, as far as this step's work allows.
    fn go_on(&mut self, used: u32, out: &mut Vec<Effect>) -> u32 {
        let busy = |case: &Case| case.dirty || case.search.is_some();
        if !self.active.iter().any(|id| self.cases.get(id).is_some_and(busy)) {
            return 0;
        }
        self.unite();
        let mut units = 0;
        let mut acted = false;
        for id in self.active.clone() {
            // What is known is acted upon first: the rest of the past can wait, its processes cannot.
            if !acted && self.cases.get(&id).is_some_and(|case| case.dirty) {
                // Who has nothing to do keeps no other one waiting.
                let cost = self.with(id, out, |case, desk| case.advance(desk)).unwrap_or(0);
                units += cost.max(1);
                acted = cost > 0;
            }
            let left = (STEP_WORK_MAX - RESERVED_UNITS).saturating_sub(used + units);
            if let (Some(case), Some(configuration)) = (self.cases.get_mut(&id), &self.configuration)
                && left > 0
            {
                units += case.resume(&mut self.graph, configuration, left);
            }
        }
        units
    }

    /// Incidents whose reach meets are one.
    fn unite(&mut self) {
        if self.cases.len() < 2 {
            return;
        }
        let is_dirty = |id: &IncidentId| self.cases.get(id).is_some_and(|case| case.dirty);
        let dirty: Vec<IncidentId> = self.active.iter().copied().filter(is_dirty).collect();
        if dirty.is_empty() {
            return;
        }
        let mut meeting = self.meeting();
        for id in dirty {
            let others: Vec<IncidentId> = meeting
                .range((id, IncidentId(0))..)
                .take_while(|(into, _)| *into == id)
                .map(|(_, other)| *other)
                .collect();
            if others.is_empty() || !self.active.contains(&id) {
                continue; // the latter: another one took it in
            }
            for other in others {
                self.absorb(id, other);
            }
            meeting = self.meeting();
        }
    }

    /// Each incident, with another one whose root or findings lie within it.
    fn meeting(&self) -> BTreeSet<(IncidentId, IncidentId)> {
        let mut meeting = BTreeSet::new();
        for case in self.cases.values().filter(|case| case.closed.is_none()) {
            let of = |key: ProcessKey| self.graph.process(key).and_then(|node| node.subject);
            let anchor = case.anchor().and_then(|anchor| match anchor.branch {
                Some(branch) => of(branch),
                None => self.graph.invocation(anchor.invocation).and_then(|found| found.subject),
            });
            let found = case.findings.iter().filter_map(|claim| of(claim.process));
            meeting.extend(anchor.into_iter().chain(found).filter(|id| *id != case.id).map(|id| (id, case.id)));
        }
        meeting
    }

    fn absorb(&mut self, into: IncidentId, other: IncidentId) {
        let Some(gone) = self.cases.remove(&other) else { return };
        self.breaker.unite(into, other);
        self.budget.unite(into, other);
        self.capacity.unite(into, other);
        self.active.remove(&other);
        for action in gone.plan.steps.keys() {
            self.owners.insert(*action, into);
        }
        for key in gone.subjects.keys() {
            let Some(node) = self.graph.process_mut(*key) else { continue };
            node.subject = Some(into);
            let id = node.invocation;
            if let Some(invocation) = self.graph.invocation_mut(id)
                && invocation.subject == Some(other)
            {
                invocation.subject = Some(into);
            }
        }
        for path in gone.objects.keys() {
            if let Some(file) = self.graph.file_mut(path) {
                file.incident = Some(into);
            }
        }
        if let Some(case) = self.cases.get_mut(&into) {
            case.absorb(gone);
        }
    }
}
