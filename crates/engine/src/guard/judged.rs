// SPDX-License-Identifier: Apache-2.0
//! A judgement as it was made, with all that it was made from: it can be made again, also under other policies.

use super::{Attempts, Hold, Request};
use crate::action::{Action, Facts};
use crate::id::{ActionId, IncidentId, ProcessKey, Timestamp};
use crate::incident::Verdict;
use crate::input::Mode;
use crate::network::Network;
use crate::path::HostPath;

#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub id: ActionId,
    pub incident: IncidentId,
    pub verdict: Verdict,
    pub action: Action,
    pub now: Timestamp,
    mode: Mode,
    scope_permits_action: bool,
    confirmed: bool,
    attack_only: bool,
    failure: bool,
    authorised_change: bool,
    predicted: usize,
    hold: Option<Hold>,
    restraint: Option<String>,
    attempts: Attempts,
    approvals: usize,
    facts: Option<Facts>,
    never_touch: Vec<ProcessKey>,
    never_touch_paths: Vec<HostPath>,
    never_block: Vec<Network>,
    spared: Option<String>,
    doubted: Vec<HostPath>,
}

impl Judged {
    pub(crate) fn new(id: ActionId, incident: IncidentId, request: &Request<'_>, verdict: &Verdict) -> Self {
        Self {
            id,
            incident,
            verdict: verdict.clone(),
            action: request.action.clone(),
            now: request.now,
            mode: request.mode,
            scope_permits_action: request.scope_permits_action,
            confirmed: request.confirmed,
            attack_only: request.attack_only,
            failure: request.failure,
            authorised_change: request.authorised_change,
            predicted: request.predicted,
            hold: request.hold.cloned(),
            restraint: request.restraint.map(ToOwned::to_owned),
            attempts: request.attempts,
            approvals: request.approvals,
            facts: request.facts.cloned(),
            never_touch: request.never_touch.to_vec(),
            never_touch_paths: request.never_touch_paths.to_vec(),
            never_block: request.never_block.to_vec(),
            spared: request.spared.map(ToOwned::to_owned),
            doubted: request.doubted.to_vec(),
        }
    }

    /// The same request again.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            now: self.now,
            action: &self.action,
            mode: self.mode,
            scope_permits_action: self.scope_permits_action,
            confirmed: self.confirmed,
            attack_only: self.attack_only,
            failure: self.failure,
            authorised_change: self.authorised_change,
            predicted: self.predicted,
            hold: self.hold.as_ref(),
            restraint: self.restraint.as_deref(),
            attempts: self.attempts,
            approvals: self.approvals,
            facts: self.facts.as_ref(),
            never_touch: &self.never_touch,
            never_touch_paths: &self.never_touch_paths,
            never_block: &self.never_block,
            spared: self.spared.as_deref(),
            doubted: &self.doubted,
        }
    }
}
