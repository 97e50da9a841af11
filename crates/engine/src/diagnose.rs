// SPDX-License-Identifier: Apache-2.0
//! From findings to incidents: which root caused them, and everything that follows from it.
//!
//! Input: findings and what each event changed in the graph. Output: [`Case`]s with root hypotheses, subjects and
//! objects, each with its reason in words.
//!
//! Back: a bounded search from the finding's process through its invocation to whoever wrote the origin of that
//! invocation or the program that ran, in strictly earlier time. Forth, once a root is confirmed: children, whoever
//! executes what the attack wrote, invocations whose origin it wrote; kept up with each event, and searched over the
//! past in slices. Reads and logs carry no influence.

use crate::action::{Action, Authored};
use crate::detect::{self, Context};
use crate::event::{Confidence, Finding};
use crate::graph::{FileNode, Graph, Hub, Invocation, InvocationId, ProcessNode, is_login_program};
use crate::id::{ActionId, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::{FindingSummary, InvocationKind, ObjectClass, Root, Stage};
use crate::input::Configuration;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: root hypotheses of one incident. With six, none of 15 published attacks lost its true root (healing.md).
pub const ROOTS_MAX: usize = 6;
/// LIMIT: causes looked at in one search for roots.
pub const CAUSES_MAX: usize = 64;
/// LIMIT: ancestors looked at for one cause.
pub const LINEAGE_MAX: usize = 32;
/// LIMIT: findings kept of one incident.
pub const FINDINGS_MAX: usize = 128;
/// LIMIT: subjects kept of one incident; further ones are stopped through their parents and counted as omitted.
pub const SUBJECTS_MAX: usize = 4_096;
/// LIMIT: of these, processes that have ended and left neither writes nor children behind.
pub const TRACELESS_MAX: usize = 512;
/// LIMIT: objects kept of one incident; further ones are counted as omitted.
pub const OBJECTS_MAX: usize = 32_768;
/// A cause loses half of its weight in so many nanoseconds (one day).
const HALF_LIFE_NS: u64 = 86_400_000_000_000;

/// What an incident grows from: an invocation as a whole, or one branch of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Anchor {
    pub(crate) invocation: InvocationId,
    /// Only this process and what it started: a service does not belong to an attack because one worker does.
    pub(crate) branch: Option<ProcessKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hypothesis {
    pub(crate) anchor: Anchor,
    pub(crate) root: Root,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) summary: FindingSummary,
    pub(crate) process: ProcessKey,
    /// People or tools that may change the host stand behind it: it never confirms.
    pub(crate) authorised: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SubjectState {
    pub(crate) reason: String,
    pub(crate) program: Option<HostPath>,
    pub(crate) cmd_line: Vec<String>,
    pub(crate) uid: u32,
    /// The action that stops it.
    pub(crate) stop: Option<ActionId>,
    /// The stop succeeded.
    pub(crate) stopped: bool,
    /// The action that ends it.
    pub(crate) end: Option<ActionId>,
    /// Its end was seen or reported.
    pub(crate) gone: bool,
}

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

/// LIMIT: versions of one path that others' later ones are compared with; beyond, those of the last restoration alone.
const UNDONE_MAX: usize = 128;

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
            Action::RestoreFile(restore) if !restore.append_only => (restore.base, restore.later.clone()),
            Action::RestoreFiles { .. } => return, // it is told one by one
            Action::QuarantineFile { expected, .. } => {
                (VersionId::UNKNOWN, vec![Authored { version: *expected, attack: true }])
            }
            Action::RestoreFile(_)
            | Action::SuspendProcesses { .. }
            | Action::TerminateProcesses { .. }
            | Action::EndSession { .. }
            | Action::RemoveUnit { .. }
            | Action::ReloadService { .. }
            | Action::RestartService { .. }
            | Action::FreeSpace { .. }
            | Action::LoadFirewall { .. }
            | Action::RenewCertificate { .. }
            | Action::RestorePackaged { .. } => return,
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

/// A walk over the past, resumable at any place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Search {
    /// `repeated`: a further pass, because the one before found something.
    Processes {
        at: usize,
        found: bool,
        repeated: bool,
    },
    Files {
        at: usize,
        found: bool,
    },
}

impl Search {
    const fn begin() -> Self {
        Self::Processes { at: 0, found: false, repeated: false }
    }
}

/// One incident, as the engine works on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: IncidentId,
    pub(crate) stage: Stage,
    pub(crate) why: String,
    pub(crate) opened: Timestamp,
    pub(crate) contained: Option<Timestamp>,
    pub(crate) restored: Option<Timestamp>,
    pub(crate) healed: Option<Timestamp>,
    pub(crate) confirmed: bool,
    /// A person ended it, with the reason: nothing more is done by itself.
    pub(crate) closed: Option<String>,
    pub(crate) roots: Vec<Hypothesis>,
    pub(crate) findings: Vec<Claim>,
    pub(crate) subjects: BTreeMap<ProcessKey, SubjectState>,
    pub(crate) objects: BTreeMap<HostPath, ObjectState>,
    pub(crate) search: Option<Search>,
    /// Directories that the attack made.
    pub(crate) directories: BTreeSet<HostPath>,
    /// Something changed since the plan was last looked at.
    pub(crate) dirty: bool,
    pub(crate) plan: crate::decide::Plan,
    pub(crate) omitted: u64,
}

/// Where a search for roots stands.
struct Cause {
    process: Option<ProcessKey>,
    invocation: InvocationId,
    weight: f32,
    before: Timestamp,
}

/// Up to [`ROOTS_MAX`] hypotheses of what caused `process` to act at `time`, best first.
pub(crate) fn roots(graph: &Graph, context: &Context<'_>, process: ProcessKey, time: Timestamp) -> Vec<Hypothesis> {
    let invocation = graph.process(process).map(|node| node.invocation).unwrap_or_default();
    let mut open = vec![Cause { process: Some(process), invocation, weight: 1.0, before: time }];
    let mut found: BTreeMap<Anchor, Hypothesis> = BTreeMap::new();
    let mut seen: BTreeSet<Anchor> = BTreeSet::new();
    for _ in 0..CAUSES_MAX {
        let best = open.iter().enumerate().max_by(|(_, a), (_, b)| a.weight.total_cmp(&b.weight)).map(|(at, _)| at);
        let Some(cause) = best.map(|at| open.swap_remove(at)) else { break };
        let anchor = anchor_of(graph, cause.process, cause.invocation);
        if !seen.insert(anchor) {
            continue;
        }
        let earlier = causes(graph, context, &cause, anchor);
        let explained = earlier.iter().any(|earlier| earlier.weight > 0.5 * cause.weight);
        let hypothesis = hypothesis(graph, anchor, cause.process, cause.weight * if explained { 0.5 } else { 1.0 });
        found.insert(anchor, hypothesis);
        open.extend(earlier);
    }
    let mut found: Vec<Hypothesis> = found.into_values().collect();
    found.sort_by(|a, b| b.root.score.total_cmp(&a.root.score).then(a.anchor.cmp(&b.anchor)));
    found.truncate(ROOTS_MAX);
    found
}

/// Sessions, cron runs, requests and starts of units that someone wrote since we watch belong to the attack as a
/// whole; of a service that was there before, only the branch that acted does.
fn anchor_of(graph: &Graph, process: Option<ProcessKey>, id: InvocationId) -> Anchor {
    let whole = Anchor { invocation: id, branch: None };
    let Some(invocation) = graph.invocation(id) else { return Anchor { invocation: id, branch: process } };
    match invocation.kind {
        InvocationKind::Session | InvocationKind::Cron | InvocationKind::Request => whole,
        InvocationKind::Unit(_) if invocation.origin_writer.is_some() => whole,
        InvocationKind::Unit(_) | InvocationKind::Other => {
            let Some(process) = process else { return whole };
            let branch = graph
                .ancestors(process, LINEAGE_MAX)
                .take_while(|ancestor| ancestor.invocation == id && ancestor.key != invocation.leader)
                .filter(|ancestor| ancestor.hub.is_none())
                .last();
            Anchor { invocation: id, branch: Some(branch.map_or(process, |ancestor| ancestor.key)) }
        }
    }
}

fn causes(graph: &Graph, context: &Context<'_>, cause: &Cause, anchor: Anchor) -> Vec<Cause> {
    let mut earlier = Vec::new();
    let mut add = |writer: ProcessKey, invocation: InvocationId, time: Timestamp, weight: f32| {
        if invocation == cause.invocation && anchor.branch.is_none() {
            return;
        }
        let node = graph.process(writer);
        if node.is_some_and(|node| node.seen > cause.before) {
            return; // later than its effect
        }
        // Precise to some 2^-24, which is enough to rank; u64 to f32 has no exact conversion.
        let age = std::time::Duration::from_nanos(cause.before.since_ns(time)).as_secs_f32();
        let decay = 1.0 / (1.0 + age / std::time::Duration::from_nanos(HALF_LIFE_NS).as_secs_f32());
        let hub = if node.is_some_and(|node| node.hub.is_some()) { 0.3 } else { 1.0 };
        let authorised = if detect::authority(writer, graph, context).is_authorised() { 0.2 } else { 1.0 };
        let weight = cause.weight * weight * decay * hub * authorised;
        earlier.push(Cause { process: node.map(|node| node.key), invocation, weight, before: cause.before.min(time) });
    };
    if let Some(invocation) = graph.invocation(cause.invocation)
        && let Some((writer, id)) = invocation.origin_writer
    {
        add(writer, id, invocation.started, 0.95);
    }
    let Some(node) = cause.process.and_then(|key| graph.process(key)) else { return earlier };
    let lineage = graph.ancestors(node.key, LINEAGE_MAX).take_while(|ancestor| ancestor.invocation == node.invocation);
    let mut weight = 0.95;
    for member in std::iter::once(node).chain(lineage) {
        for executed in &member.ran {
            add(executed.writer, executed.invocation, member.executed.unwrap_or(member.seen), weight);
        }
        for actor in &member.injected_by {
            let id = graph.process(*actor).map(|node| node.invocation).unwrap_or_default();
            add(*actor, id, member.seen, 0.9 * weight);
        }
        weight *= 0.98;
    }
    earlier
}

fn hypothesis(graph: &Graph, anchor: Anchor, process: Option<ProcessKey>, weight: f32) -> Hypothesis {
    let Some(invocation) = graph.invocation(anchor.invocation) else {
        let leader = process.unwrap_or_default();
        let title = format!("process {}, of unknown origin", leader.pid);
        let root = Root { kind: InvocationKind::Other, leader, title, src_endpoint: None, score: 0.4 * weight };
        return Hypothesis { anchor, root };
    };
    let prior = match invocation.kind {
        InvocationKind::Session => 1.0,
        InvocationKind::Request => 0.95,
        InvocationKind::Cron => 0.8,
        InvocationKind::Unit(_) => 0.7,
        InvocationKind::Other => 0.5,
    };
    let root = Root {
        kind: invocation.kind.clone(),
        leader: anchor.branch.unwrap_or(invocation.leader),
        title: invocation.title(),
        src_endpoint: invocation.src_endpoint.clone(),
        score: (prior * weight).clamp(0.0, 1.0),
    };
    Hypothesis { anchor, root }
}

/// A process by its program and number, for people.
pub(crate) fn named(graph: &Graph, key: ProcessKey) -> String {
    match graph.process(key).and_then(|node| node.exe.as_ref()) {
        Some(exe) => format!("`{exe}` (pid {})", key.pid),
        None => format!("pid {}", key.pid),
    }
}

/// Whether what this writer left behind belongs to the attack; also when the writer itself is forgotten.
pub(crate) fn is_attack(graph: &Graph, writer: ProcessKey, invocation: InvocationId) -> bool {
    match graph.process(writer) {
        Some(node) => node.subject.is_some(),
        None => graph.invocation(invocation).is_some_and(|found| found.subject.is_some()),
    }
}

/// Why this process belongs to a confirmed attack, and to which; `None` when it does not.
fn belongs(graph: &Graph, node: &ProcessNode) -> Option<(IncidentId, String)> {
    let incident_of = |writer: ProcessKey, invocation: InvocationId| {
        let process = graph.process(writer).map(|node| node.subject);
        process.unwrap_or_else(|| graph.invocation(invocation).and_then(|found| found.subject))
    };
    let invocation = graph.invocation(node.invocation);
    if let Some(parent) = graph.process(node.parent)
        && parent.key != node.key
        && parent.invocation == node.invocation
        && let Some(incident) = parent.subject
    {
        return Some((incident, format!("child of {}", named(graph, parent.key))));
    }
    for executed in &node.ran {
        if let Some(incident) = incident_of(executed.writer, executed.invocation) {
            let writer = named(graph, executed.writer);
            return Some((incident, format!("ran `{}`, written by {writer}", executed.path)));
        }
    }
    let invocation: &Invocation = invocation?;
    if let Some(incident) = invocation.subject {
        return Some((incident, format!("in {}", invocation.title())));
    }
    let (writer, id) = invocation.origin_writer?;
    let incident = incident_of(writer, id)?;
    let origin = invocation.origin.as_ref().map(|origin| origin.path.to_string()).unwrap_or_default();
    Some((incident, format!("started by `{origin}`, written by {}", named(graph, writer))))
}

/// The incident that this process belongs to by what the graph says, although it is not marked yet.
pub(crate) fn incident_of(graph: &Graph, ours: &[ProcessKey], key: ProcessKey) -> Option<(IncidentId, String)> {
    let node = graph.process(key)?;
    if ours.contains(&key) || node.hub == Some(Hub::Manager) {
        return None;
    }
    match node.subject {
        Some(_) => None,
        None => belongs(graph, node),
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
    pub(crate) fn new(id: IncidentId, now: Timestamp, roots: Vec<Hypothesis>) -> Self {
        Self {
            id,
            stage: Stage::Open,
            why: "found; not enough evidence to act".to_owned(),
            opened: now,
            contained: None,
            restored: None,
            healed: None,
            confirmed: false,
            closed: None,
            roots,
            findings: Vec::new(),
            subjects: BTreeMap::new(),
            objects: BTreeMap::new(),
            search: None,
            directories: BTreeSet::new(),
            dirty: false,
            plan: crate::decide::Plan::default(),
            omitted: 0,
        }
    }

    pub(crate) fn anchor(&self) -> Option<Anchor> {
        self.roots.first().map(|root| root.anchor)
    }

    /// Another incident turned out to be this one.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.dirty = true;
        self.opened = self.opened.min(other.opened);
        for hypothesis in other.roots {
            if self.roots.len() < ROOTS_MAX && self.roots.iter().all(|known| known.anchor != hypothesis.anchor) {
                self.roots.push(hypothesis);
            }
        }
        self.omitted += other.omitted;
        self.findings.extend(other.findings);
        self.findings.sort_by_key(|claim| claim.summary.id);
        self.trim();
        self.subjects.extend(other.subjects);
        self.objects.extend(other.objects);
        self.directories.extend(other.directories);
        self.plan.absorb(other.plan);
        self.search = Some(Search::begin());
    }

    pub(crate) fn claim(&mut self, finding: &Finding, time: Timestamp, authorised: bool) {
        let summary = FindingSummary {
            id: finding.id,
            time,
            analytic: finding.analytic.clone(),
            technique: finding.technique.clone(),
            title: finding.title.clone(),
            confidence: finding.confidence,
            paths: finding.paths.clone(),
        };
        self.findings.push(Claim { summary, process: finding.process, authorised });
        self.trim();
    }

    /// Beyond [`FINDINGS_MAX`] goes the newest of those that there are most of: however often one thing is said, another
    /// that weighs more is heard.
    fn trim(&mut self) {
        while self.findings.len() > FINDINGS_MAX {
            let mut newest: BTreeMap<_, (usize, usize)> = BTreeMap::new();
            for (at, claim) in self.findings.iter().enumerate() {
                let alike = (claim.summary.analytic.as_str(), claim.summary.confidence, claim.authorised);
                let (count, last) = newest.entry(alike).or_default();
                (*count, *last) = (*count + 1, at);
            }
            let Some((_, last)) = newest.into_values().max() else { return };
            self.findings.remove(last);
            self.omitted += 1;
        }
    }

    /// One High, or two of Medium or more from different analytics, none of them by people or tools that may.
    pub(crate) fn has_evidence(&self) -> bool {
        let counting = || self.findings.iter().filter(|claim| !claim.authorised).map(|claim| &claim.summary);
        let medium: BTreeSet<&str> = counting()
            .filter(|summary| summary.confidence >= Confidence::Medium)
            .map(|summary| summary.analytic.as_str())
            .collect();
        medium.len() >= 2 || counting().any(|summary| summary.confidence == Confidence::High)
    }

    /// The root is the attack: everything that follows from it is looked for.
    pub(crate) fn confirm(&mut self, graph: &mut Graph) {
        self.confirmed = true;
        self.dirty = true;
        self.why = "confirmed; looking for everything that belongs to it".to_owned();
        if let Some(Hypothesis { anchor, root }) = self.roots.first().cloned() {
            match anchor.branch {
                Some(process) => {
                    self.add_subject(graph, process, format!("the root: {}", root.title));
                }
                None => self.take_invocation(graph, anchor.invocation, &root.title),
            }
        }
        let acted: Vec<(ProcessKey, String)> = self
            .findings
            .iter()
            .filter(|claim| !claim.authorised && claim.summary.confidence >= Confidence::Medium)
            .map(|claim| (claim.process, format!("did what was found: {}", claim.summary.title)))
            .collect();
        for (process, reason) in acted {
            self.add_subject(graph, process, reason);
        }
        self.search = Some(Search::begin());
    }

    /// An invocation belongs to the attack as a whole, with all its processes that live.
    fn take_invocation(&mut self, graph: &mut Graph, id: InvocationId, title: &str) {
        let Some(invocation) = graph.invocation_mut(id) else { return };
        invocation.subject = Some(self.id);
        for process in invocation.alive().to_vec() {
            self.add_subject(graph, process, format!("in {title}"));
        }
    }

    /// True when it was taken in.
    pub(crate) fn add_subject(&mut self, graph: &mut Graph, key: ProcessKey, reason: String) -> bool {
        let Some(node) = graph.process_mut(key) else { return false };
        if node.subject.is_some() {
            return false;
        }
        let traceless = !node.alive() && !node.left_traces();
        if self.subjects.len() >= if traceless { TRACELESS_MAX } else { SUBJECTS_MAX } {
            if !matches!(self.search, Some(Search::Processes { repeated: true, .. })) {
                self.omitted += 1;
            }
            return false;
        }
        node.subject = Some(self.id);
        let state = SubjectState {
            reason,
            program: node.exe.clone(),
            cmd_line: node.arguments().map(ToOwned::to_owned).collect(),
            uid: node.user.euid,
            stop: None,
            stopped: false,
            end: None,
            gone: !node.alive(),
        };
        let past = node.left_traces();
        if !state.gone {
            self.plan.see_live(key);
        }
        let id = node.invocation;
        self.subjects.insert(key, state);
        self.dirty = true;
        // An invocation led by a subject through what it ran or what started it belongs to the attack with all it has.
        let led = graph.invocation(id).is_some_and(|found| {
            let started = found.origin_writer.is_some_and(|(writer, by)| is_attack(graph, writer, by));
            found.subject.is_none() && started
        });
        if led {
            let title = graph.invocation(id).map(Invocation::title).unwrap_or_default();
            self.take_invocation(graph, id, &title);
        }
        if past {
            self.search = Some(match self.search {
                Some(Search::Processes { at, repeated, .. }) => Search::Processes { at, found: true, repeated },
                Some(Search::Files { .. }) | None => Search::begin(),
            });
        }
        true
    }

    /// Goes on searching the past, at most `budget` places; returns what it used.
    pub(crate) fn resume(&mut self, graph: &mut Graph, configuration: &Configuration, budget: u32) -> u32 {
        let mut used = 0;
        while used < budget {
            match self.search {
                None => break,
                Some(Search::Processes { at, found, .. }) if at >= graph.process_places() => {
                    // Another pass as long as one finds something: a writer may stand behind whoever ran its work.
                    self.search = Some(match found {
                        true => Search::Processes { at: 0, found: false, repeated: true },
                        false => Search::Files { at: 0, found: false },
                    });
                }
                Some(Search::Processes { at, found, repeated }) => {
                    used += 1;
                    let hit = graph
                        .process_at(at)
                        .filter(|node| node.subject.is_none())
                        .and_then(|node| {
                            incident_of(graph, &configuration.never_touch, node.key).map(|hit| (node.key, hit))
                        })
                        .filter(|(_, (incident, _))| *incident == self.id);
                    let added = hit.is_some_and(|(key, (_, reason))| self.add_subject(graph, key, reason));
                    self.search = Some(Search::Processes { at: at + 1, found: found || added, repeated });
                }
                Some(Search::Files { at, found }) if at >= graph.file_places() => {
                    self.search = found.then_some(Search::Files { at: 0, found: false });
                    self.dirty = true;
                }
                Some(Search::Files { at, found }) => {
                    used += 1;
                    let directories = self.directories.len();
                    if let Some(path) = graph.file_at(at).map(|(path, _)| path.clone()) {
                        self.look_at(graph, configuration, &path, Met::InThePast);
                    }
                    let more = self.directories.len() > directories;
                    if self.search == Some(Search::Files { at, found }) {
                        self.search = Some(Search::Files { at: at + 1, found: found || more });
                    }
                }
            }
        }
        used
    }

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
        let verb = if write.created {
            "created"
        } else if write.removed {
            "removed"
        } else {
            "changed"
        };
        let reason = format!("{verb} by {}", named(graph, write.writer));
        let first_version = write.last;
        let directory = write.created && file.kind == crate::event::FileKind::Directory;
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
                };
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
        if recorded && file.kind == crate::event::FileKind::Regular && write.last != undone.compared {
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

/// What is left of the attack at a path, once all that happened there is added up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Net {
    /// As it was before.
    Nothing,
    /// Written and not closed yet: no state to work from.
    Pending,
    /// Only the attack made it.
    Created {
        expected: VersionId,
    },
    /// It was there before, or others share it.
    Changed {
        base: VersionId,
        later: Vec<Authored>,
        class: ObjectClass,
    },
    Unprotected,
    /// Cannot be put back from what the vault has; in words.
    Unknown(String),
}

impl Net {
    const fn class(&self) -> Option<ObjectClass> {
        match self {
            Self::Created { .. } => Some(ObjectClass::AttackOnly),
            Self::Changed { class, .. } => Some(*class),
            Self::Unprotected => Some(ObjectClass::Unprotected),
            Self::Nothing | Self::Pending | Self::Unknown(_) => None,
        }
    }
}

pub(crate) fn classify(graph: &Graph, configuration: &Configuration, path: &HostPath, file: &FileNode) -> Net {
    let attack: Vec<bool> = file.writes.iter().map(|write| is_attack(graph, write.writer, write.invocation)).collect();
    let Some(first) = attack.iter().position(|attack| *attack) else { return Net::Nothing };
    let last_attack = attack.iter().rposition(|attack| *attack).unwrap_or(first);
    let write = &file.writes[first];
    let recorded = file.writes[first..]
        .iter()
        .zip(&attack[first..])
        .any(|(write, attack)| *attack && write.last != VersionId::UNKNOWN);
    if !recorded {
        let kept = configuration.protected.iter().any(|tree| path.is_within(tree.as_bytes()));
        let open = file.writes.iter().zip(&attack).any(|(write, attack)| *attack && write.pending);
        return if kept && open { Net::Pending } else { Net::Unprotected };
    }
    let earlier = first.checked_sub(1).map(|at| file.writes[at].last).unwrap_or_default();
    let base = if write.before == VersionId::UNKNOWN { earlier } else { write.before };
    let absent = write.created;
    let mixed = attack[first..].iter().any(|attack| !attack);
    let log = configuration.append_only.iter().any(|glob| matches(glob.as_bytes(), path.as_bytes()));
    if absent && !file.present() {
        return Net::Nothing;
    }
    // The attack's own file was taken away, and what stands there now is somebody else's.
    if absent && file.writes[last_attack..].iter().any(|write| write.removed) {
        return Net::Nothing;
    }
    if absent && !mixed {
        let expected = file.writes.iter().rev().map(|write| write.last).find(|last| *last != VersionId::UNKNOWN);
        return Net::Created { expected: expected.unwrap_or_default() };
    }
    if !absent && base == VersionId::UNKNOWN {
        return Net::Unknown("the vault has no state of it from before the attack".to_owned());
    }
    let mut later: Vec<Authored> = Vec::new();
    for (write, attack) in file.writes[first..].iter().zip(&attack[first..]) {
        if write.last == VersionId::UNKNOWN {
            continue;
        }
        match later.last_mut().filter(|last| last.version == write.last) {
            Some(same) => same.attack |= attack, // two processes wrote what one close recorded
            None => later.push(Authored { version: write.last, attack: *attack }),
        }
    }
    let class = match (log, mixed) {
        (true, _) => ObjectClass::Log,
        (false, true) => ObjectClass::Mixed,
        (false, false) => ObjectClass::AttackOnly,
    };
    Net::Changed { base: if absent { VersionId::UNKNOWN } else { base }, later, class }
}

/// Glob over a whole path: `*` stands for any bytes of one component.
pub(crate) fn matches(glob: &[u8], path: &[u8]) -> bool {
    let (mut g, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while p < path.len() {
        if glob.get(g) == Some(&b'*') {
            retry = Some((g + 1, p));
            g += 1;
        } else if glob.get(g) == Some(&path[p]) {
            g += 1;
            p += 1;
        } else if let Some((after, from)) = retry.filter(|(_, from)| path[*from] != b'/') {
            retry = Some((after, from + 1));
            g = after;
            p = from + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}
