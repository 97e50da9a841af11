// SPDX-License-Identifier: Apache-2.0
//! What readers see of the engine.
//!
//! Input: its state. Output: a [`View`], whole and within limits; what is left out is counted. Nothing is changed.

use super::{ChangeWindow, Engine};
use crate::detect;
use crate::diagnose::{Case, ObjectState, Progress, SubjectState};
use crate::event::{Endpoint, Loss};
use crate::guard::{Hold, Storm};
use crate::hearsay::Testimony;
use crate::id::{ProcessKey, Timestamp};
use crate::incident::{Incident, Object, Peer, Secret, Subject};
use crate::input::{ANSWER_NS, Mode};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: subjects, objects, peers, secrets and lines of logs of one incident that a [`View`] shows; further ones are counted as omitted.
pub const VIEW_SUBJECTS_MAX: usize = 512;
pub const VIEW_OBJECTS_MAX: usize = 2_048;
pub const VIEW_CONTACTS_MAX: usize = 64;
pub const VIEW_SECRETS_MAX: usize = 64;
pub const VIEW_HEARSAY_MAX: usize = 64;

/// What readers see. Complete, bounded, immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub now: Timestamp,
    pub mode: Mode,
    pub hold: Option<Hold>,
    pub change: Option<ChangeWindow>,
    /// The storm breaker is open: nothing is done by itself.
    #[serde(default)]
    pub storm: Option<Storm>,
    /// Newest last.
    pub incidents: Vec<Incident>,
    /// Newest last; at most [`super::LOSSES_MAX`].
    pub losses: Vec<Loss>,
    /// What was counted since the engine began, by name; sizes of the graph now.
    pub counters: BTreeMap<String, u64>,
}

impl Engine {
    /// What readers see now.
    #[must_use]
    pub fn view(&self) -> View {
        let mode = self.configuration.as_ref().map_or(Mode::Observe, |configuration| configuration.mode);
        let (processes, files, invocations) = self.graph.sizes();
        let size = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let graph = self.graph.counters;
        let counters = [
            ("events", self.counters.events),
            ("events_lost", self.counters.events_lost),
            ("lines_heard", self.counters.lines_heard),
            ("lines_left_out", self.graph.hearsay_left_out()),
            ("findings", self.counters.findings),
            ("findings_dropped", self.counters.findings_dropped),
            ("incidents_dropped", self.counters.incidents_dropped),
            ("policies_refused", self.counters.policies_refused),
            ("answers_unknown", self.counters.answers_unknown),
            ("claims_repeated", self.detectors.counters.repeated),
            ("claims_beyond_limit", self.detectors.counters.beyond_limit),
            ("detectors_forgot", self.detectors.forgotten()),
            ("services_refused", self.ward.refused),
            ("step_work_max", u64::from(self.counters.step_work_max)),
            ("graph_processes", size(processes)),
            ("graph_files", size(files)),
            ("graph_invocations", size(invocations)),
            ("graph_compacted", graph.compacted),
            ("graph_processes_evicted", graph.processes_evicted),
            ("graph_writers_evicted", graph.writers_evicted),
            ("graph_files_evicted", graph.files_evicted),
            ("graph_protected_evicted", graph.protected_evicted),
            ("graph_invocations_evicted", graph.invocations_evicted),
            ("graph_origins_evicted", graph.origins_evicted),
            ("graph_processes_refused", graph.processes_refused),
            ("graph_files_refused", graph.files_refused),
            ("graph_writes_dropped", graph.writes_dropped),
            ("graph_database_writers_forgotten", graph.database_writers_forgotten),
            ("graph_neighbours_forgotten", self.graph.neighbours_forgotten()),
        ];
        View {
            now: self.now,
            mode,
            hold: self.hold.clone(),
            change: self.change.clone(),
            storm: self.breaker.storm().cloned(),
            incidents: self.shown(),
            losses: self.losses.clone(),
            counters: counters.map(|(name, count)| (name.to_owned(), count)).into(),
        }
    }

    /// Attacks and failures, in the order of their numbers.
    fn shown(&self) -> Vec<Incident> {
        let mut all: Vec<Incident> = self.cases.values().map(|case| self.show(case)).collect();
        all.extend(self.ward.ailments.values().map(|ailment| ailment.show(self.answer_ns())));
        all.sort_by_key(|incident| incident.id);
        all
    }

    /// How long a question waits for an answer.
    fn answer_ns(&self) -> u64 {
        self.configuration.as_ref().map_or(ANSWER_NS, |configuration| configuration.answer_ns)
    }

    fn show(&self, case: &Case) -> Incident {
        let reach = reached(case).count();
        let objects = first_objects(case, reach);
        let subjects = first_subjects(case, &objects).into_iter().map(|(key, state)| Subject {
            process: key,
            program: state.program.clone(),
            cmd_line: state.cmd_line.clone(),
            uid: state.uid,
            reason: state.reason.clone(),
            alive: !state.gone,
            by: state.by,
            through: state.through.clone(),
        });
        let objects = objects.iter().map(|(path, state)| Object {
            path: (*path).clone(),
            class: state.class,
            first_version: state.first_version,
            reason: state.reason.clone(),
            shown: match &state.progress {
                Progress::Shown(why) => Some(why.clone()),
                Progress::Todo | Progress::Busy | Progress::Done => None,
            },
            by: state.by,
            deed: state.deed,
        });
        let left_out = case.subjects.len().saturating_sub(VIEW_SUBJECTS_MAX) + reach.saturating_sub(VIEW_OBJECTS_MAX);
        let (contacts, mut others) = self.contacts(case);
        let (secrets, more) = self.secrets(case);
        let (hearsay, unsaid) = self.hearsay(case);
        others += more + unsaid;
        Incident {
            id: case.id,
            stage: case.stage,
            why: case.why.clone(),
            opened: case.opened,
            contained: case.contained,
            restored: case.restored,
            healed: case.healed,
            confirmed: case.confirmed,
            roots: case.roots.iter().map(|hypothesis| hypothesis.root.clone()).collect(),
            findings: case.findings.iter().map(|claim| claim.summary.clone()).collect(),
            subjects: subjects.collect(),
            objects: objects.collect(),
            contacts,
            secrets,
            hearsay,
            actions: crate::decide::records(&case.plan.steps, self.answer_ns()),
            worse: case.plan.worse.words().cloned().collect(),
            omitted: case.omitted + others + u64::try_from(left_out).unwrap_or(u64::MAX),
        }
    }

    /// Secrets that the processes of an incident read, and how many are left out. What sshd or sudo reads to let somebody in
    /// stays with them, unless somebody was seen to change that program.
    fn secrets(&self, case: &Case) -> (Vec<Secret>, u64) {
        let (mut first, mut others) = (BTreeMap::<&HostPath, (Timestamp, ProcessKey)>::new(), 0);
        let written = |exe: &HostPath| self.graph.file(exe).is_some_and(|file| !file.writes.is_empty());
        let honest = |exe: &HostPath| detect::reads_by_office(exe) && !case.objects.contains_key(exe) && !written(exe);
        for key in case.subjects.keys() {
            let Some(node) = self.graph.process(*key) else { continue };
            let Some(secrets) = node.secrets.as_ref().filter(|_| !node.exe.as_ref().is_some_and(honest)) else {
                continue;
            };
            others += secrets.others;
            for (path, time) in &secrets.known {
                let known = first.entry(path).or_insert((*time, *key));
                *known = (*known).min((*time, *key));
            }
        }
        others += u64::try_from(first.len().saturating_sub(VIEW_SECRETS_MAX)).unwrap_or(u64::MAX);
        let secret = |(path, (time, process)): (&HostPath, (Timestamp, ProcessKey))| Secret {
            path: path.clone(),
            process,
            time,
        };
        (first.into_iter().take(VIEW_SECRETS_MAX).map(secret).collect(), others)
    }

    /// What logs say about where an incident comes from and what its processes belong to, and how many lines are left out.
    fn hearsay(&self, case: &Case) -> (Vec<Testimony>, u64) {
        let of = |key: &ProcessKey| self.graph.process(*key).map(|node| node.invocation);
        let roots = case.roots.iter().take(1).map(|root| root.anchor.invocation);
        let mut lines = Vec::new();
        let mut seen = BTreeSet::new();
        for id in roots.chain(case.subjects.keys().filter_map(of)).filter(|id| seen.insert(*id)) {
            let Some(found) = self.graph.invocation(id) else { continue };
            lines.extend(found.heard.iter().map(|heard| Testimony { about: found.title(), heard: heard.clone() }));
        }
        let left_out = lines.len().saturating_sub(VIEW_HEARSAY_MAX);
        lines.truncate(VIEW_HEARSAY_MAX);
        (lines, u64::try_from(left_out).unwrap_or(u64::MAX))
    }

    /// Whom the processes of an incident talked to, and how many connections and peers are left out.
    fn contacts(&self, case: &Case) -> (Vec<Peer>, u64) {
        let (mut all, mut others) = (BTreeMap::<(bool, &Endpoint), (Peer, u64)>::new(), 0);
        for process in case.subjects.keys() {
            let Some(contacts) = self.graph.process(*process).and_then(|node| node.contacts.as_ref()) else { continue };
            others += contacts.others;
            for contact in &contacts.known {
                let sent = contact.traffic.sent;
                let fresh = || (Peer { contact: contact.clone(), process: *process }, sent);
                all.entry((contact.inbound, &contact.endpoint))
                    .and_modify(|(peer, most)| {
                        peer.contact.add(contact);
                        if sent > *most {
                            (peer.process, *most) = (*process, sent);
                        }
                    })
                    .or_insert_with(fresh);
            }
        }
        let mut contacts: Vec<Peer> = all.into_values().map(|(peer, _)| peer).collect();
        contacts.sort_by_key(|peer| std::cmp::Reverse(peer.contact.traffic.sent));
        others += u64::try_from(contacts.len().saturating_sub(VIEW_CONTACTS_MAX)).unwrap_or(u64::MAX);
        contacts.truncate(VIEW_CONTACTS_MAX);
        (contacts, others)
    }
}

/// What the attack reached. What it left as it had found it is none of that.
fn reached(case: &Case) -> impl Iterator<Item = (&HostPath, &ObjectState)> {
    case.objects.iter().filter(|(_, state)| !state.intact)
}

/// Objects that are shown of `reach`, by path: where there are too many, those that a person has to see go first.
fn first_objects(case: &Case, reach: usize) -> BTreeMap<&HostPath, &ObjectState> {
    if reach <= VIEW_OBJECTS_MAX {
        return reached(case).collect();
    }
    let named = case.findings.iter().flat_map(|claim| &claim.summary.paths);
    let first = case.footholds.iter().chain(case.plan.shown()).chain(named);
    let first = first.filter_map(|path| case.objects.get_key_value(path)).filter(|(_, state)| !state.intact);
    let mut objects: BTreeMap<_, _> = first.take(VIEW_OBJECTS_MAX).collect();
    for (path, state) in reached(case) {
        if objects.len() >= VIEW_OBJECTS_MAX {
            break;
        }
        objects.insert(path, state);
    }
    objects
}

/// Subjects that are shown: where there are too many, those that did what was found or wrote what is shown go first,
/// each with those it came by.
fn first_subjects<'a>(
    case: &'a Case,
    objects: &BTreeMap<&HostPath, &ObjectState>,
) -> BTreeMap<ProcessKey, &'a SubjectState> {
    if case.subjects.len() <= VIEW_SUBJECTS_MAX {
        return case.subjects.iter().map(|(key, state)| (*key, state)).collect();
    }
    let found = case.findings.iter().map(|claim| claim.process);
    let wrote = objects.values().map(|object| object.by);
    let mut subjects = BTreeMap::new();
    for key in found.chain(wrote).chain(case.subjects.keys().copied()) {
        // Who is in already has all it came by in, too, as far as there is room.
        let mut next = Some(key);
        while let Some(key) = next
            && subjects.len() < VIEW_SUBJECTS_MAX
            && !subjects.contains_key(&key)
        {
            next = case.subjects.get(&key).map(|state| {
                subjects.insert(key, state);
                state.by
            });
        }
    }
    subjects
}
