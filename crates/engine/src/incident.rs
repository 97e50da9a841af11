// SPDX-License-Identifier: Apache-2.0
//! Findings that share a cause.

mod picture;

pub use picture::{Edge, Link, NODES_MAX, Node, Picture, Shown, State, Tally};

use crate::action::{Action, Outcome};
use crate::event::{Confidence, Endpoint};
use crate::graph::Contact;
use crate::hearsay::Testimony;
use crate::id::{ActionId, FindingId, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    Open,
    Contained,
    Restored,
    Healed,
    /// Visible, alerting, with the reason: a person must look.
    Stuck,
}

/// What moves an incident on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Milestone {
    /// Every live process of the attack is suspended or gone.
    Contained,
    /// Every action is settled and no process of the attack is left.
    Restored,
    /// Every check of the proof holds.
    Proven,
    /// Something cannot be done without a person.
    Obstructed,
    /// There is something new to do: a subject, an object, an approval.
    Reopened,
}

impl Stage {
    /// The only place where a stage changes. `None`: this milestone means nothing at this stage.
    #[must_use]
    pub const fn next(self, milestone: Milestone) -> Option<Self> {
        match (self, milestone) {
            (Self::Open, Milestone::Contained) => Some(Self::Contained),
            (Self::Contained, Milestone::Restored) => Some(Self::Restored),
            (Self::Restored, Milestone::Proven) => Some(Self::Healed),
            (Self::Open | Self::Contained | Self::Restored, Milestone::Obstructed) => Some(Self::Stuck),
            (Self::Contained | Self::Restored | Self::Healed | Self::Stuck, Milestone::Reopened) => Some(Self::Open),
            (Self::Open, Milestone::Restored | Milestone::Proven | Milestone::Reopened)
            | (Self::Contained, Milestone::Contained | Milestone::Proven)
            | (Self::Restored, Milestone::Contained | Milestone::Restored)
            | (
                Self::Healed | Self::Stuck,
                Milestone::Contained | Milestone::Restored | Milestone::Proven | Milestone::Obstructed,
            ) => None,
        }
    }
}

/// What a reader sees of one incident: complete, bounded, immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub stage: Stage,
    /// Why it is at this stage, in words.
    pub why: String,
    pub opened: Timestamp,
    /// First finding, containment, restoration, healing; `None` when not reached.
    pub contained: Option<Timestamp>,
    pub restored: Option<Timestamp>,
    pub healed: Option<Timestamp>,
    /// Enough evidence to act.
    pub confirmed: bool,
    /// At most six, best first.
    pub roots: Vec<Root>,
    pub findings: Vec<FindingSummary>,
    pub subjects: Vec<Subject>,
    pub objects: Vec<Object>,
    /// Whom its processes talked to, those that most was sent to first.
    #[serde(default)]
    pub contacts: Vec<Peer>,
    /// Secrets that its processes read, by path.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// What logs say about its roots and processes. Shown, of no consequence.
    #[serde(default)]
    pub hearsay: Vec<Testimony>,
    pub actions: Vec<ActionRecord>,
    /// Services that are worse since, each with what followed from that, in words.
    #[serde(default)]
    pub worse: Vec<String>,
    /// What did not fit the limits above, counted.
    pub omitted: u64,
}

/// Somebody that its processes talked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    #[serde(flatten)]
    pub contact: Contact,
    /// Which of them sent most.
    #[serde(default)]
    pub process: ProcessKey,
}

/// A secret that is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub path: HostPath,
    /// Who read it first, and when.
    pub process: ProcessKey,
    pub time: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Root {
    pub kind: InvocationKind,
    pub leader: ProcessKey,
    /// Such as "ssh session of uid 1001 from 127.0.0.2".
    pub title: String,
    pub src_endpoint: Option<Endpoint>,
    /// 0.0..=1.0, comparable within one incident only.
    pub score: f32,
}

/// What starts work on a host. Influence flows through it, not through the daemon that forks it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum InvocationKind {
    /// A login session.
    Session,
    /// A started systemd unit.
    Unit(String),
    /// A crontab line.
    Cron,
    /// A request to a network server.
    Request,
    /// Was there before the agent, or fits nothing above.
    Other,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingSummary {
    pub id: FindingId,
    pub time: Timestamp,
    pub analytic: String,
    pub technique: String,
    pub title: String,
    pub confidence: Confidence,
    pub paths: Vec<HostPath>,
    /// Who did it.
    #[serde(default)]
    pub process: ProcessKey,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    pub process: ProcessKey,
    pub program: Option<HostPath>,
    pub cmd_line: Vec<String>,
    pub uid: u32,
    /// Why it belongs to the attack, in words ("child of …", "ran `/usr/local/bin/x`, written by …").
    pub reason: String,
    pub alive: bool,
    /// Whose doing it is: who forked it, or wrote what it ran or what started it. No subject: it came from outside.
    #[serde(default)]
    pub by: ProcessKey,
    /// The file by which it came about, where it was one.
    #[serde(default)]
    pub through: Option<HostPath>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    pub path: HostPath,
    pub class: ObjectClass,
    pub first_version: VersionId,
    pub reason: String,
    /// Why nobody but a person can put it in order, when that is so.
    #[serde(default)]
    pub shown: Option<String>,
    /// Who of the attack wrote it first.
    #[serde(default)]
    pub by: ProcessKey,
    #[serde(default)]
    pub deed: Deed,
}

impl Incident {
    /// Weak signs alone: kept for whatever comes later, no cause for a person to look.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.confirmed
            && !self.findings.is_empty()
            && self.findings.iter().all(|finding| finding.confidence == Confidence::Low)
    }
}

/// What was done to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    Created,
    #[default]
    Changed,
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectClass {
    /// Only the attack changed it: restored exactly, or quarantined when it was created.
    AttackOnly,
    /// Others changed it too: merged, or shown.
    Mixed,
    /// Append-only log: what was cut is put back, what came after stays.
    Log,
    /// Not in a protected tree: named, not restored.
    Unprotected,
    /// What made a service fail: put back to its last good state, freed, or shown.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    pub id: ActionId,
    pub action: Action,
    pub verdict: Verdict,
    pub outcome: Option<Outcome>,
    pub decided: Timestamp,
    pub settled: Option<Timestamp>,
    /// It waits for a person, until then.
    #[serde(default)]
    pub answer_by: Option<Timestamp>,
    /// Users who approved it so far, by number; `u32::MAX`: one who was not told.
    #[serde(default)]
    pub approved_by: Vec<u32>,
}

/// Permit, ask or deny, always with every reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub decision: Decision,
    pub reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Decision {
    Permit,
    Ask,
    Deny,
}
