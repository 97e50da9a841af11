// SPDX-License-Identifier: Apache-2.0
//! What readers see: complete, immutable, published by the agent as one piece.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use thymus_engine::guard::Storm;
use thymus_engine::input::Mode;
use thymus_engine::{Incident, IncidentId, Stage, Timestamp, engine};

/// Everything that the API can tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Of the agent, such as `0.1.0`.
    pub version: String,
    /// Where the agent looks and whether it may act there, in words.
    pub scope: String,
    /// When the agent started.
    pub started: Timestamp,
    /// Add to a boot-clock time to get Unix nanoseconds.
    pub boot_to_unix_ns: u64,
    pub engine: engine::View,
    /// What the agent's hands and sensors counted since it started, by name, such as `events_lost`; beside the engine's own.
    pub counters: BTreeMap<String, u64>,
    pub doctor: Doctor,
    pub baseline: Baseline,
}

/// Something that a person opened and that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub until: Timestamp,
    /// Who opened it; empty when not said.
    pub who: String,
    pub why: String,
}

impl Window {
    fn of(until: Timestamp, who: &str, why: &str) -> Self {
        Self { until, who: who.to_owned(), why: why.to_owned() }
    }
}

/// What the agent can and cannot see and do on this host, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doctor {
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Such as `sensor process`, `vault /etc`, `journal`, `configuration`.
    pub name: String,
    pub state: Health,
    /// What was found; for anything but `Good` also what it means and what to do.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Good,
    /// Works with less than it could: something stays unseen, or a limit was met.
    Limited,
    /// Does not work.
    Broken,
}

/// What the vault holds of what is promised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    pub trees: Vec<Tree>,
    /// Bytes on disk, and how many there may be.
    pub stored_bytes: u64,
    pub quota_bytes: u64,
    /// Paths that are not covered, each with the reason; at most [`UNCOVERED_MAX`].
    pub uncovered: Vec<Uncovered>,
    /// Further such paths.
    pub uncovered_omitted: u64,
    /// What the host should be, and how it differs.
    #[serde(default)]
    pub golden: Arc<thymus_engine::golden::Report>,
}

/// LIMIT: uncovered paths named one by one; further ones are counted.
pub const UNCOVERED_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub path: thymus_engine::HostPath,
    pub files: u64,
    /// Of these, how many the vault has whole.
    pub covered: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncovered {
    pub path: thymus_engine::HostPath,
    pub why: String,
}

/// The short answer to "how is this host?".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub mode: Mode,
    pub scope: String,
    pub now: Timestamp,
    pub started: Timestamp,
    pub boot_to_unix_ns: u64,
    pub hold: Option<Window>,
    pub change: Option<Window>,
    /// The storm breaker is open: nothing is done by itself, and why.
    #[serde(default)]
    pub storm: Option<Storm>,
    /// How many incidents are at each stage, in the order of [`Stage`]; those of weak signs alone are counted apart.
    pub incidents: BTreeMap<Stage, u64>,
    #[serde(default)]
    pub quiet: u64,
    /// Actions that wait for a person.
    pub asked: u64,
    /// Until when the first of them waits.
    #[serde(default)]
    pub answer_by: Option<Timestamp>,
    pub counters: BTreeMap<String, u64>,
    /// The worst of the doctor's checks.
    pub health: Health,
}

/// One incident as a line of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub id: IncidentId,
    pub stage: Stage,
    pub why: String,
    pub confirmed: bool,
    /// Weak signs alone, such as what an administrator or an owner does: kept, no cause to look.
    #[serde(default)]
    pub quiet: bool,
    pub opened: Timestamp,
    pub healed: Option<Timestamp>,
    pub boot_to_unix_ns: u64,
    /// The most likely root, in words; the first finding's title while there is none.
    pub title: String,
    pub findings: usize,
    pub objects: usize,
    pub actions: usize,
    /// Actions that wait for a person.
    pub asked: usize,
    /// Until when the first of them waits, and the time now.
    #[serde(default)]
    pub answer_by: Option<Timestamp>,
    #[serde(default)]
    pub now: Timestamp,
}

impl View {
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.engine.incidents.iter().find(|incident| incident.id == id)
    }

    #[must_use]
    pub fn summaries(&self) -> Vec<Summary> {
        self.engine.incidents.iter().map(|incident| Summary::of(self, incident)).collect()
    }

    #[must_use]
    pub fn status(&self) -> Status {
        let (mut incidents, mut quiet) = (BTreeMap::new(), 0);
        for incident in &self.engine.incidents {
            if incident.is_quiet() {
                quiet += 1;
                continue;
            }
            *incidents.entry(incident.stage).or_default() += 1;
        }
        Status {
            version: self.version.clone(),
            mode: self.engine.mode,
            scope: self.scope.clone(),
            now: self.engine.now,
            started: self.started,
            boot_to_unix_ns: self.boot_to_unix_ns,
            hold: self.engine.hold.as_ref().map(|hold| Window::of(hold.until, "", &hold.why)),
            change: self.engine.change.as_ref().map(|change| Window::of(change.until, &change.who, &change.why)),
            storm: self.engine.storm.clone(),
            incidents,
            quiet,
            answer_by: self.engine.incidents.iter().filter_map(answer_by).min(),
            asked: self.engine.incidents.iter().map(|incident| asked(incident) as u64).sum(),
            counters: self.engine.counters.clone().into_iter().chain(self.counters.clone()).collect(),
            health: self.doctor.checks.iter().map(|check| check.state).max().unwrap_or(Health::Good),
        }
    }
}

impl Summary {
    fn of(view: &View, incident: &Incident) -> Self {
        let root = incident.roots.first().map(|root| root.title.clone());
        let finding = || incident.findings.first().map(|finding| finding.title.clone());
        Self {
            id: incident.id,
            stage: incident.stage,
            why: incident.why.clone(),
            confirmed: incident.confirmed,
            quiet: incident.is_quiet(),
            opened: incident.opened,
            healed: incident.healed,
            boot_to_unix_ns: view.boot_to_unix_ns,
            title: root.or_else(finding).unwrap_or_default(),
            findings: incident.findings.len(),
            objects: incident.objects.len(),
            actions: incident.actions.len(),
            asked: asked(incident),
            answer_by: answer_by(incident),
            now: view.engine.now,
        }
    }
}

/// One whole incident, with what is needed to tell its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub incident: Incident,
    pub now: Timestamp,
    pub boot_to_unix_ns: u64,
}

impl Told {
    #[must_use]
    pub fn of(view: &View, incident: &Incident) -> Self {
        Self { incident: incident.clone(), now: view.engine.now, boot_to_unix_ns: view.boot_to_unix_ns }
    }
}

/// How many of an incident's actions wait for a person.
#[must_use]
pub fn asked(incident: &Incident) -> usize {
    let waits = |action: &&thymus_engine::incident::ActionRecord| {
        action.verdict.decision == thymus_engine::incident::Decision::Ask && action.outcome.is_none()
    };
    incident.actions.iter().filter(waits).count()
}

/// Until when the first of an incident's questions waits for an answer.
#[must_use]
pub fn answer_by(incident: &Incident) -> Option<Timestamp> {
    incident.actions.iter().filter_map(|action| action.answer_by).min()
}

/// The newest [`View`], for any number of readers. Cloning shares it.
///
/// INVARIANT: the lock is held for the time of one pointer's copy, never across a wait or a serialisation.
#[derive(Clone, Debug)]
pub struct Published(Arc<Mutex<Arc<View>>>);

impl Published {
    #[must_use]
    pub fn new(view: View) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(view))))
    }

    /// Readers see `view` from now on; those that read now keep what they have.
    pub fn publish(&self, view: View) {
        let view = Arc::new(view);
        let old = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), view);
        drop(old); // outside the lock: the last reader of a large view frees it here
    }

    #[must_use]
    pub fn read(&self) -> Arc<View> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
