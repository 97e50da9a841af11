// SPDX-License-Identifier: Apache-2.0
//! The only door to an effect: a hard-coded safety kernel, then policies that an operator can read.
//!
//! Input: one [`Request`]. Output: a verdict, always with every reason. Pure and total. Default deny; `forbid` beats
//! `permit`; a policy that errors counts as deny.

use crate::action::{Action, Facts};
use crate::id::{ProcessKey, Timestamp};
use crate::incident::{Decision, Verdict};
use crate::input::Mode;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// Everything that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub now: Timestamp,
    pub action: &'a Action,
    pub mode: Mode,
    /// The agent's scope may be acted upon at all.
    pub scope_permits_action: bool,
    /// The incident that asks is confirmed.
    pub confirmed: bool,
    /// Every target belongs to the attack and to nothing else.
    pub attack_only: bool,
    /// How many targets the plan counted by itself, before it enumerated them.
    pub predicted: usize,
    /// A person's hold, freeze or maintenance lease.
    pub hold: Option<&'a Hold>,
    /// Earlier attempts of this kind of action on this target.
    pub attempts: Attempts,
    /// A person approved exactly this action: what would be asked is permitted, what is denied stays denied.
    pub approved: bool,
    /// What the hands found; `None` before `Prepare`.
    pub facts: Option<&'a Facts>,
    pub never_touch: &'a [ProcessKey],
    pub never_touch_paths: &'a [HostPath],
}

/// No automation reverts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub until: Timestamp,
    pub why: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Committed so far, without the present one.
    pub count: u32,
    /// When the last one was committed.
    pub last: Option<Timestamp>,
}

/// One reason why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}; expected {expected}")]
pub struct PolicyError {
    pub file: String,
    /// Starts at 1.
    pub line: u32,
    /// In characters, starts at 1.
    pub column: u32,
    pub what: String,
    pub expected: String,
}

/// Validated policies. Not serialisable: rebuilt from `Configuration.policies`.
#[derive(Debug)]
pub struct Policies {}

impl Policies {
    /// All of `texts` (name and text) or every reason why not.
    pub fn load(texts: &[(String, String)]) -> Result<Self, Vec<PolicyError>> {
        let _ = texts;
        Ok(Self {})
    }

    /// The policies that are built in, name and text.
    #[must_use]
    pub fn defaults() -> Vec<(String, String)> {
        Vec::new()
    }
}

/// May `request` happen? Called before `Prepare` without facts and again with them.
#[must_use]
pub fn judge(request: &Request<'_>, policies: &Policies) -> Verdict {
    let _ = (request, policies);
    Verdict { decision: Decision::Deny, reasons: vec!["no policy permits it".to_owned()] }
}
