// SPDX-License-Identifier: Apache-2.0
//! What one incident's plan holds: its steps, and which paths, actions and processes are in which state.
//!
//! Input: a change of one step, path or process. Output: the sets from which it is read what to do next. The sets of
//! actions follow the steps: a step is changed through `set` alone.

use super::{Place, Progressing, Proving, Service, Step, Worse};
use crate::action::{Action, Extent, Outcome};
use crate::id::{ActionId, ProcessKey, Timestamp};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) steps: BTreeMap<ActionId, Step>,
    /// Live subjects that nothing stops yet.
    pub(crate) fresh: BTreeSet<ProcessKey>,
    pub(crate) services: BTreeMap<Service, Option<ActionId>>,
    /// Addresses that are to be blocked, each with the action that does it.
    #[serde(default)]
    pub(super) filters: BTreeMap<(IpAddr, Extent), ActionId>,
    /// Accounts that are to be locked, by number.
    #[serde(default)]
    pub(super) accounts: BTreeSet<u32>,
    /// A person was asked whether the host shall be isolated.
    #[serde(default)]
    pub(super) isolation: bool,
    /// The question whether it shall last, and until when it may be answered.
    #[serde(default)]
    pub(super) trial: Option<(ActionId, Timestamp)>,
    /// Subjects that talked to somebody since their peers were looked at.
    #[serde(default)]
    pub(super) talked: BTreeSet<ProcessKey>,
    pub(crate) proof: Proving,
    /// When the last subject was seen to be gone.
    pub(crate) quiet_since: Option<Timestamp>,
    /// Objects to be planned, in their order.
    pub(super) queue: BTreeSet<Place>,
    /// Logs whose daemons were told to open them anew.
    #[serde(default)]
    pub(super) reopened: BTreeSet<HostPath>,
    /// Objects to be planned later.
    pub(super) later: BTreeSet<HostPath>,
    /// Objects still open for writing by a subject.
    pub(super) pending: BTreeSet<HostPath>,
    /// Nothing is waited for any longer: what was recorded must do.
    pub(super) impatient: bool,
    /// Ticks since the last object was queued.
    #[serde(default)]
    pub(super) quiet_ticks: u32,
    /// How often somebody joined a session while it was to be ended, and when that is tried again.
    #[serde(default)]
    pub(super) joined: (u32, Timestamp),
    /// Restored objects that others wrote since: to be compared with what was taken out.
    pub(super) again: BTreeSet<HostPath>,
    /// Objects that no action could be made for.
    pub(super) shown: BTreeSet<HostPath>,
    /// Actions that the hands have.
    pub(super) busy: BTreeSet<ActionId>,
    /// Actions that were asked, refused or failed.
    pub(super) unresolved: BTreeSet<ActionId>,
    /// Those that are asked, with since when.
    #[serde(default)]
    pub(super) questions: BTreeSet<(Timestamp, ActionId)>,
    /// Of the unresolved, those to be judged again.
    pub(super) reconsidered: BTreeSet<ActionId>,
    /// Stops that hold.
    pub(super) stops: BTreeSet<ActionId>,
    /// Subjects not known to be gone; of them those not stopped.
    pub(super) live: BTreeSet<ProcessKey>,
    pub(super) running: BTreeSet<ProcessKey>,
    pub(super) settled: u32,
    /// What is worse since something of it was done.
    #[serde(default)]
    pub(crate) worse: Worse,
}

impl Plan {
    /// Objects that no action could be made for.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &HostPath> {
        self.shown.iter()
    }

    pub(crate) fn enqueue(&mut self, place: Place) {
        self.later.remove(&place.2);
        self.pending.remove(&place.2);
        self.shown.remove(&place.2);
        self.queue.insert(place);
        self.quiet_ticks = 0;
    }

    /// Others wrote a restored path.
    pub(crate) fn look_again(&mut self, path: HostPath) {
        self.again.insert(path);
    }

    /// It is planned again at a later time.
    pub(crate) fn waits(&self, path: &HostPath) -> bool {
        self.later.contains(path)
    }

    /// A new live subject.
    pub(crate) fn see_live(&mut self, key: ProcessKey) {
        self.fresh.insert(key);
        self.live.insert(key);
        self.running.insert(key);
        self.impatient = false;
        self.quiet_since = None;
    }

    pub(super) fn set(&mut self, id: ActionId, change: impl FnOnce(&mut Step)) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        let (before, asked) = (step.state, step.asked);
        change(step);
        step.note_question(before);
        if step.asked != asked {
            asked.map(|asked| self.questions.remove(&(asked, id)));
            self.questions.extend(step.asked.map(|asked| (asked, id)));
        }
        let (busy, unresolved) = (step.is_busy(), step.state == Progressing::Asked || step.failed());
        let stop = matches!(step.action, Action::SuspendProcesses { .. }) && step.outcome == Some(Outcome::Success);
        if step.state == Progressing::Settled && before != Progressing::Settled {
            self.settled += 1;
        }
        for (set, member) in [(&mut self.busy, busy), (&mut self.unresolved, unresolved), (&mut self.stops, stop)] {
            if member {
                set.insert(id);
            } else {
                set.remove(&id);
            }
        }
    }

    pub(super) fn is_any_busy(&self, kind: impl Fn(&Action) -> bool) -> bool {
        self.busy.iter().filter_map(|id| self.steps.get(id)).any(|step| kind(&step.action))
    }

    /// All of another incident's plan; its actions keep their numbers.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.fresh.extend(other.fresh);
        for (service, id) in other.services {
            self.services.entry(service).or_insert(id);
        }
        self.talked.extend(other.talked);
        for (address, id) in other.filters {
            self.filters.entry(address).or_insert(id);
        }
        self.accounts.extend(other.accounts);
        self.isolation |= other.isolation;
        self.trial = self.trial.or(other.trial);
        self.reopened.extend(other.reopened);
        self.queue.extend(other.queue);
        self.later.extend(other.later);
        self.pending.extend(other.pending);
        self.again.extend(other.again);
        self.shown.extend(other.shown);
        self.busy.extend(other.busy);
        self.unresolved.extend(other.unresolved);
        self.questions.extend(other.questions);
        self.reconsidered.extend(other.reconsidered);
        self.stops.extend(other.stops);
        self.live.extend(other.live);
        self.running.extend(other.running);
        self.settled += other.settled;
        self.worse.absorb(other.worse);
        self.proof = Proving::default();
    }
}
