// SPDX-License-Identifier: Apache-2.0
//! The only door to an effect: a hard-coded safety kernel, then policies that an operator can read.
//!
//! Input: one [`Request`]. Output: a verdict, always with every reason. Pure and total. Default deny; `forbid` beats
//! `permit`; a policy that errors counts as deny.

mod breaker;
mod capacity;
mod compare;
mod judged;
mod kernel;
mod pattern;
mod policy;
mod question;

use crate::action::{Action, Facts, Merge};
use crate::id::{ProcessKey, Timestamp};
use crate::incident::{Decision, Verdict};
use crate::input::Mode;
use crate::network::Network;
use crate::path::HostPath;
pub use breaker::{ACTIONS_PER_MINUTE, LARGEST_TIMES, STORM_INCIDENTS_HOUR_MAX, STORM_INCIDENTS_MAX, Storm};
pub(crate) use breaker::{Breaker, Budget};
pub(crate) use capacity::{Answer, Capacity, Taking};
pub use capacity::{FLOOR, RETURN_NS, SERVICES_MIN};
pub use compare::{Comparison, Difference, QUESTIONS_MAX, Relation, compare};
pub use judged::Judged;
pub use kernel::{ATTEMPTS_MAX, CONTROL_MAX, COOL_DOWN_NS, TARGETS_MAX};
pub use policy::{Holding, POLICIES_MAX, POLICY_BYTES_MAX, Policies, PolicyError, Says};
pub use question::{ACTIONS, FLAGS, Names, Question};
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
    /// It cures a failure that nobody attacked; otherwise it is an answer to an attack.
    pub failure: bool,
    /// It takes back what somebody did who may change the host.
    pub authorised_change: bool,
    /// How many targets the plan counted by itself, before it enumerated them.
    pub predicted: usize,
    /// A person's hold, freeze or maintenance lease.
    pub hold: Option<&'a Hold>,
    /// Why nothing more is done by itself now, in the words of K3 or K4: what would be permitted is asked.
    pub restraint: Option<&'a str>,
    /// Earlier attempts of this kind of action on this target.
    pub attempts: Attempts,
    /// How many persons approved exactly this action: with enough of them what would be asked is permitted, what is denied
    /// stays denied.
    pub approvals: usize,
    /// What the hands found; `None` before `Prepare`.
    pub facts: Option<&'a Facts>,
    pub never_touch: &'a [ProcessKey],
    pub never_touch_paths: &'a [HostPath],
    /// Networks of which no address is ever blocked.
    pub never_block: &'a [Network],
    /// Who else needs the address that is to be blocked, or whose account it is that is to be locked, in words; `None`: nobody
    /// that is known of.
    pub spared: Option<&'a str>,
    /// Records of packages that an attack wrote: they vouch for nothing.
    pub doubted: &'a [HostPath],
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

/// May `request` happen? Called before `Prepare` without facts and again with them; the same rules both times, those
/// about facts only the second.
#[must_use]
pub fn judge(request: &Request<'_>, policies: &Policies) -> Verdict {
    let mut reasons = kernel::objections(request);
    let said = policies.decide(request);
    if !reasons.is_empty() {
        reasons.extend(said.reasons.into_iter().filter(|_| said.decision == Decision::Deny));
        return Verdict { decision: Decision::Deny, reasons };
    }
    let shown = request.facts.and_then(|facts| undecidable(&facts.merge));
    reasons.extend(said.reasons);
    match said.decision {
        Decision::Deny => Verdict { decision: Decision::Deny, reasons },
        // An approval cannot make content out of a contradiction: a person merges it by hand.
        Decision::Permit | Decision::Ask if shown.is_some() => {
            reasons.splice(0..0, shown);
            Verdict { decision: Decision::Ask, reasons }
        }
        Decision::Permit => match request.restraint.or(kernel::personal(request.action)) {
            None => Verdict { decision: Decision::Permit, reasons },
            Some(restraint) => {
                reasons.insert(0, restraint.to_owned());
                asked(request.approvals, 1, reasons)
            }
        },
        Decision::Ask => asked(request.approvals, said.persons, reasons),
    }
}

/// A question, and what so many persons have answered so far.
fn asked(approvals: usize, wanted: usize, mut reasons: Vec<String>) -> Verdict {
    let enough = approvals >= wanted;
    match (enough, approvals) {
        (true, 1) => reasons.push("approved by a person".to_owned()),
        (true, _) => reasons.push(format!("approved by {approvals} persons")),
        (false, 0) => {}
        (false, _) => reasons.push(format!("approved by {approvals} of {wanted} persons: another user has to, too")),
    }
    Verdict { decision: if enough { Decision::Permit } else { Decision::Ask }, reasons }
}

/// Why a verdict is as it is: all that had a say in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the kernel objects to; a policy cannot overcome it.
    pub kernel: Vec<String>,
    /// Every policy that holds, also those that another one outranks.
    pub policies: Vec<Holding>,
}

/// As [`judge`], with everything that had a say.
#[must_use]
pub fn explain(request: &Request<'_>, policies: &Policies) -> Explanation {
    let restraint = request.restraint.or(kernel::personal(request.action));
    Explanation {
        verdict: judge(request, policies),
        kernel: kernel::objections(request).into_iter().chain(restraint.map(ToOwned::to_owned)).collect(),
        policies: policies.holding(request),
    }
}

/// Said by the kernel, not by a policy.
pub(crate) fn is_of_kernel(reason: &str) -> bool {
    reason.starts_with("scope:") || reason.starts_with('K') && reason.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

/// It would have been permitted, but for the budget of the minute.
pub(crate) fn is_short(verdict: &Verdict) -> bool {
    verdict.decision == Decision::Ask && verdict.reasons.first().is_some_and(|reason| reason.starts_with("K4: "))
}

/// It would have been permitted, but for the services that must be left.
pub(crate) fn is_low(verdict: &Verdict) -> bool {
    let first = verdict.reasons.first();
    verdict.decision == Decision::Ask && first.is_some_and(|reason| reason.starts_with(capacity::CAPACITY))
}

/// Only a person decides about it, whatever a policy permits.
#[must_use]
pub const fn is_personal(action: &Action) -> bool {
    kernel::personal(action).is_some()
}

/// What is wanted is not known: a person has to say.
#[must_use]
pub fn is_contradiction(verdict: &Verdict) -> bool {
    verdict.reasons.iter().any(|reason| reason.starts_with(SHOWN))
}

const SHOWN: &str = "shown, not guessed: ";

/// Why the wanted content is not known, in words.
fn undecidable(merge: &Merge) -> Option<String> {
    match merge {
        Merge::Exact | Merge::Disjoint { .. } => None,
        Merge::Conflict(why) => Some(format!("{SHOWN}{why}")),
        Merge::Missing(why) => Some(format!("{SHOWN}a version is missing: {why}")),
    }
}

#[cfg(test)]
mod tests;
