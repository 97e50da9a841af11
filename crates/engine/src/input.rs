// SPDX-License-Identifier: Apache-2.0
//! The engine's whole border: what goes in, what comes out. Every input is recorded; the same inputs give the same effects.

use crate::action::{Action, Facts, Outcome, RestoreFile};
use crate::event::{Event, Finding, IncidentFinding};
use crate::golden::Accepted;
use crate::health::Health;
use crate::id::{ActionId, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::Verdict;
use crate::network::Network;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// First of a run of the agent, and again whenever configuration or policy changes.
    Configured(Box<Configuration>),
    Event(Event),
    /// At least once a second.
    Tick,
    /// Answer to [`Effect::Prepare`].
    Prepared {
        action: ActionId,
        facts: Facts,
    },
    /// Capture failed: nothing was done; in words.
    Unprepared {
        action: ActionId,
        why: String,
    },
    /// Answer to [`Effect::Commit`] and [`Effect::Reflex`].
    Outcome {
        action: ActionId,
        outcome: Outcome,
    },
    /// Answer to [`Effect::Verify`].
    Proven {
        incident: IncidentId,
        checks: Vec<Check>,
    },
    /// A person spoke.
    Command(Command),
    /// The agent started again; these actions were open when it ended and are settled now.
    Restarted {
        settled: Vec<(ActionId, Outcome)>,
    },
    /// What a probe answered: when it differs from the last answer, and every time while something is not well.
    Health(Health),
}

/// One independent check of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `content`, `processes`, `persistence`, `service NAME`.
    pub name: String,
    pub holds: bool,
    /// What was compared, or what differs.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Approve {
        action: ActionId,
    },
    Deny {
        action: ActionId,
    },
    Hold {
        until: Timestamp,
        why: String,
    },
    Release,
    ChangeBegin {
        until: Timestamp,
        who: String,
        why: String,
    },
    ChangeEnd,
    Mode(Mode),
    /// A person judged an incident: true or a false alarm.
    Judge {
        incident: IncidentId,
        true_positive: bool,
    },
    /// The incident's actions were undone by a person; it must not be healed again by itself.
    Undone {
        incident: IncidentId,
    },
    /// The present state is wanted.
    BaselineAccepted {
        paths: Vec<HostPath>,
    },
    /// These items of the golden state are wanted as they are. Kept by the agent: it changes no decision.
    GoldenAccepted {
        items: Accepted,
    },
    /// Approve, but of a file that nobody can tell apart: as it was before the attack, whatever others wrote to it since.
    ApproveBefore {
        action: ActionId,
    },
    /// A person answered a question; who, is told by the kernel. The others do not say.
    Answer {
        action: ActionId,
        approved: bool,
        uid: u32,
        /// Of a file that nobody can tell apart: as it was before the attack, whatever others wrote to it since.
        #[serde(default)]
        before: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Observe,
    Guarded,
    Autonomous,
}

/// What the engine needs to know of the configuration. Built by the agent, recorded like any input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    pub mode: Mode,
    /// Nothing may be denied, stopped or restored when false.
    pub scope_permits_action: bool,
    /// Users whose interactive sessions may change the host; as numbers, resolved at load.
    pub administrators: Vec<u32>,
    /// From where users log in; of others nothing is said.
    #[serde(default)]
    pub logins: Vec<Login>,
    /// Trees that the vault keeps versions of.
    pub protected: Vec<HostPath>,
    /// Files that daemons only append to; globs with `*` within one component.
    pub append_only: Vec<String>,
    /// Programs of configuration-management tools and package managers, absolute paths.
    pub change_tools: Vec<HostPath>,
    /// Processes never to touch: the agent, the warden.
    pub never_touch: Vec<ProcessKey>,
    /// Files of ours that nobody has a reason to write.
    #[serde(default)]
    pub decoys: Vec<HostPath>,
    /// Paths never to touch: the agent's state and socket.
    pub never_touch_paths: Vec<HostPath>,
    /// Networks of which no address is ever blocked.
    #[serde(default)]
    pub never_block: Vec<Network>,
    /// Cedar policies, name and text, in order.
    pub policies: Vec<(String, String)>,
    /// Add to a boot-clock time to get Unix nanoseconds.
    pub boot_to_unix_ns: u64,
    /// Actions that are committed by itself within a minute; see [`crate::guard::ACTIONS_PER_MINUTE`].
    #[serde(default = "actions_per_minute")]
    pub actions_per_minute: u32,
    /// How long a question waits for an answer before the action is refused.
    #[serde(default = "answer_ns")]
    pub answer_ns: u64,
}

/// From where a user logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub uid: u32,
    /// Empty: nobody logs in as this user from another host.
    pub from: Vec<Network>,
}

impl Login {
    /// A login of `uid` from there is none of theirs.
    #[must_use]
    pub fn is_strange(&self, uid: u32, address: std::net::IpAddr) -> bool {
        self.uid == uid && !self.from.iter().any(|network| network.contains(address))
    }
}

/// A day, in nanoseconds: somebody comes to work within it.
pub const ANSWER_NS: u64 = 86_400_000_000_000;

const fn actions_per_minute() -> u32 {
    crate::guard::ACTIONS_PER_MINUTE
}

const fn answer_ns() -> u64 {
    ANSWER_NS
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// The first stop of a process tree, permitted in advance by policy; its intent goes to the mapped ring, not through fsync.
    /// `processes` are those known; the hands stop their descendants too, until no new one is found.
    Reflex {
        action: ActionId,
        incident: IncidentId,
        processes: Vec<ProcessKey>,
    },
    /// Capture what undo needs and the facts; answer with `Prepared` or `Unprepared`.
    Prepare {
        action: ActionId,
        incident: IncidentId,
        what: Action,
    },
    /// Permitted: put the intent on disk, then do it; answer with `Outcome`.
    Commit {
        action: ActionId,
        verdict: Verdict,
    },
    /// Not permitted, now or at all: forget what was captured.
    Drop {
        action: ActionId,
        verdict: Verdict,
    },
    /// A person is asked; the action waits.
    Ask {
        action: ActionId,
        incident: IncidentId,
        what: Action,
        verdict: Verdict,
    },
    /// Keep these leases alive; answer nothing. Sent with every tick while processes are held.
    Renew {
        action: ActionId,
    },
    /// Prove that the incident is over: independent checks.
    Verify {
        incident: IncidentId,
        what: Proof,
    },
    /// Facts for the operator; the agent appends them to the journal and to history.
    Finding(Finding),
    Incident(IncidentFinding),
    /// A file that only a person can tell apart: its versions are laid beside, to be looked at. Answer nothing.
    Aside {
        incident: IncidentId,
        path: HostPath,
        versions: Vec<(Side, VersionId)>,
    },
    /// The storm breaker opened, or a person closed it: one notice, whatever it holds back.
    Storm {
        open: bool,
        why: String,
    },
}

/// Whose a version is that a person has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The last from before the attack.
    Before,
    /// The attack's last.
    Attack,
    /// The last that others wrote after the attack.
    Others,
}

/// What must hold for an incident to be healed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Not one of these may be alive, nor a descendant.
    pub processes: Vec<ProcessKey>,
    /// The committed restorations and evictions: each path must be as its action wanted it.
    pub actions: Vec<ActionId>,
    /// Restored paths that others wrote since, each with what was known of it then: nothing of the attack may be back.
    pub again: Vec<RestoreFile>,
    /// Of many files that one action restored: those that others wrote since, which the action says nothing about.
    #[serde(default)]
    pub others: Vec<HostPath>,
    /// No persistence location may hold a version written by the attack.
    pub paths: Vec<HostPath>,
    pub since: Timestamp,
}
