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

mod belong;
mod net;
mod object;
mod root;
mod search;

pub(crate) use belong::{Reason, incident_of, is_attack, named};
pub(crate) use net::{Net, classify};
pub use object::OBJECTS_MAX;
pub(crate) use object::{Met, ObjectState, Progress};
pub(crate) use root::{Anchor, Hypothesis, roots};
pub use root::{CAUSES_MAX, LINEAGE_MAX, ROOTS_MAX};

use crate::event::{Confidence, Finding};
use crate::graph::{Graph, Invocation, InvocationId};
use crate::id::{ActionId, IncidentId, ProcessKey, Timestamp};
use crate::incident::{FindingSummary, Stage};
use crate::path::HostPath;
use search::Search;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: findings kept of one incident.
pub const FINDINGS_MAX: usize = 128;
/// LIMIT: subjects kept of one incident; further ones are stopped through their parents and counted as omitted.
pub const SUBJECTS_MAX: usize = 4_096;
/// LIMIT: of these, processes that have ended and left neither writes nor children behind.
pub const TRACELESS_MAX: usize = 512;

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
    /// Whose doing it is, and by which file; a process that is no subject stands for what is outside of the attack.
    pub(crate) by: ProcessKey,
    pub(crate) through: Option<HostPath>,
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
    /// Of the objects, those in places where attacks settle down: shown before others.
    pub(crate) footholds: BTreeSet<HostPath>,
    /// Something changed since the plan was last looked at.
    pub(crate) dirty: bool,
    pub(crate) plan: crate::decide::Plan,
    pub(crate) omitted: u64,
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
            footholds: BTreeSet::new(),
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
        self.footholds.extend(other.footholds);
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
            process: finding.process,
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
                    self.add_subject(graph, process, format!("the root: {}", root.title).into());
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
            self.add_subject(graph, process, reason.into());
        }
        self.search = Some(Search::begin());
    }

    /// An invocation belongs to the attack as a whole, with all its processes that live.
    fn take_invocation(&mut self, graph: &mut Graph, id: InvocationId, title: &str) {
        let Some(invocation) = graph.invocation_mut(id) else { return };
        invocation.subject = Some(self.id);
        for process in invocation.alive().to_vec() {
            self.add_subject(graph, process, format!("in {title}").into());
        }
    }

    /// True when it was taken in.
    pub(crate) fn add_subject(&mut self, graph: &mut Graph, key: ProcessKey, reason: Reason) -> bool {
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
            reason: reason.words,
            by: reason.by.unwrap_or(node.parent),
            through: reason.through,
            program: node.exe.clone(),
            cmd_line: node.arguments().map(ToOwned::to_owned).collect(),
            uid: node.user.euid,
            stop: None,
            stopped: false,
            end: None,
            gone: !node.alive(),
        };
        let (past, talked) = (node.left_traces(), node.contacts.is_some());
        if !state.gone {
            self.plan.see_live(key);
        }
        let id = node.invocation;
        self.subjects.insert(key, state);
        if talked {
            self.talks(key);
        }
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
}
