// SPDX-License-Identifier: Apache-2.0
//! One action of a plan, from its proposal to its end.
//!
//! Input: an action, and what became of it. Output: whether it waits, is under way or failed, and the record that
//! readers see. A new step is refused until it is judged.

use crate::action::{Action, Outcome, RestoreFile};
use crate::id::{ActionId, ProcessKey, Timestamp};
use crate::incident::{ActionRecord, Decision, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Users who approved it.
    pub(crate) approvals: BTreeSet<u32>,
    /// Since when a person is asked.
    pub(crate) asked: Option<Timestamp>,
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
            approvals: BTreeSet::new(),
            asked: None,
            personal: false,
            retries: 0,
        }
    }

    /// It was decided anew, in this state before: a question begins with its decision, and goes on while it is one.
    pub(crate) fn note_question(&mut self, before: Progressing) {
        let begun = if before == Progressing::Asked { self.asked } else { None };
        self.asked = (self.state == Progressing::Asked).then(|| begun.unwrap_or(self.decided));
    }

    /// Nobody answered within `answer_ns`, or not as many as must: it goes to the safe side, and those who approved it are asked
    /// anew.
    pub(crate) fn lapse(&mut self, id: ActionId, now: Timestamp, answer_ns: u64) {
        let minutes = answer_ns.div_ceil(60_000_000_000);
        let why = format!("nobody answered within {minutes} minutes: not done; `thymus approve a{id}` still does it");
        self.state = Progressing::Refused;
        self.verdict.decision = Decision::Deny;
        self.verdict.reasons.insert(0, why);
        self.approvals.clear();
        self.asked = None;
        self.decided = now;
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

pub(super) fn processes_of(action: &Action) -> &[ProcessKey] {
    match action {
        Action::SuspendProcesses { processes }
        | Action::TerminateProcesses { processes }
        | Action::EndSession { processes, .. } => processes,
        Action::FilterTraffic { .. }
        | Action::RestoreFile(_)
        | Action::RestoreFiles { .. }
        | Action::QuarantineFile { .. }
        | Action::RemoveUnit { .. }
        | Action::ReloadService { .. }
        | Action::RestartService { .. }
        | Action::FreeSpace { .. }
        | Action::LoadFirewall { .. }
        | Action::RenewCertificate { .. }
        | Action::RestorePackaged { .. }
        | Action::LockAccount { .. }
        | Action::IsolateHost { .. }
        | Action::UndoAction { .. } => &[],
    }
}

/// A comparison of what others wrote with what was taken out before.
pub(super) const fn is_again(action: &Action) -> bool {
    matches!(action, Action::RestoreFile(RestoreFile { again: true, .. }))
}

pub(super) const fn ends_processes(action: &Action) -> bool {
    matches!(action, Action::TerminateProcesses { .. } | Action::EndSession { .. })
}

/// What readers see of a plan's steps; `answer_ns`: how long a question waits.
pub(crate) fn records(steps: &BTreeMap<ActionId, Step>, answer_ns: u64) -> Vec<ActionRecord> {
    // What another action took the place of before anything was done is no part of the story.
    let told = |(_, step): &(&ActionId, &Step)| step.state != Progressing::Superseded || step.outcome.is_some();
    let record = |(id, step): (&ActionId, &Step)| ActionRecord {
        id: *id,
        action: step.action.clone(),
        verdict: step.verdict.clone(),
        outcome: step.outcome.clone(),
        decided: step.decided,
        settled: step.settled,
        answer_by: step.asked.map(|asked| Timestamp(asked.0.saturating_add(answer_ns))),
        approved_by: step.approvals.iter().copied().collect(),
    };
    steps.iter().filter(told).map(record).collect()
}
