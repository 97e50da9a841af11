// SPDX-License-Identifier: Apache-2.0
//! The floor of capacity (K4): what is done by itself never leaves too few services, and takes them down slowly.
//!
//! Input: what the probes say of the services that are looked after, and what is done to them by us. Output: why one more may
//! not be taken down by itself, in words. Two failures are behind it: automation that ended application and cache servers in 16
//! seconds (Reddit, 2016), and a command that removed more servers than the others could stand in for (AWS S3, 2017). Probes are
//! slower than we are: what we took down counts as down at once, until it answers again. It only takes away from what happens by
//! itself: a person may decide about each action.

use crate::id::{IncidentId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Of fewer services than that, a share says nothing.
pub const SERVICES_MIN: usize = 3;
/// The share of the known services that stays healthy: two of three.
pub const FLOOR: (usize, usize) = (2, 3);
/// LIMIT: a service that was restarted and does not answer keeps the next one waiting for so long; and one that was stopped
/// counts as down so long after its stop was renewed for the last time. Nanoseconds.
pub const RETURN_NS: u64 = 60_000_000_000;
/// So many good answers in a row: it is back.
const ANSWERS: u32 = 2;

/// LIMIT: incidents that wait because of this; of more, the oldest waits for a person.
const SHORT_MAX: usize = 256;

/// How its objections begin.
pub(super) const CAPACITY: &str = "K4, capacity: ";

/// What an action does to services, by their units.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Taking {
    /// They do not answer any more, be it for a moment.
    pub(crate) down: BTreeSet<String>,
    /// It is started again by this.
    pub(crate) started: Option<String>,
}

/// What the probes say of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) well: bool,
    /// Differs whenever it was started, stopped or reloaded in between.
    pub(crate) turn: u64,
}

/// A service that we took down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    at: Timestamp,
    /// Its processes are stopped: what answers in its place is the kernel.
    stopped: bool,
    /// As it was seen before.
    turn: u64,
    /// Good ones since it was started again.
    answers: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capacity {
    /// Who was never well, or was stopped on purpose, is not here.
    services: BTreeMap<String, Answer>,
    taken: BTreeMap<String, Taken>,
    /// Whose start is being prepared, since when.
    starting: BTreeMap<String, Timestamp>,
    /// What waits because of this.
    short: BTreeMap<IncidentId, BTreeSet<Taking>>,
}

impl Capacity {
    /// An answer of the probes; `None`: it need not run.
    pub(crate) fn hear(&mut self, unit: &str, answer: Option<Answer>) {
        let Some(answer) = answer else {
            self.services.remove(unit);
            return;
        };
        self.services.insert(unit.to_owned(), answer);
        // An answer that is older than what we did has the old turn.
        let anew = |taken: &&mut Taken| !taken.stopped && taken.turn != answer.turn;
        let Some(taken) = self.taken.get_mut(unit).filter(anew) else { return };
        taken.answers = if answer.well { taken.answers + 1 } else { 0 };
        if taken.answers >= ANSWERS {
            self.taken.remove(unit);
        }
    }

    /// It is healthy, and nobody of us has taken it down.
    pub(crate) fn is_up(&self, now: Timestamp, unit: &str) -> bool {
        self.services.get(unit).is_some_and(|answer| answer.well) && !self.is_taken(now, unit)
    }

    fn is_taken(&self, now: Timestamp, unit: &str) -> bool {
        self.taken.get(unit).is_some_and(|taken| now.since_ns(taken.at) < RETURN_NS)
    }

    /// Why that may not be done by itself now.
    pub(crate) fn objection(&self, now: Timestamp, taking: &Taking) -> Option<String> {
        let known = self.services.len();
        let anew = |unit: &&String| self.services.contains_key(*unit) && !self.is_taken(now, unit);
        if known >= SERVICES_MIN && taking.down.iter().any(|unit| anew(&unit)) {
            let stays = |unit: &&String| self.is_up(now, unit) && !taking.down.contains(*unit);
            let left = self.services.keys().filter(stays).count();
            let least = (known * FLOOR.0).div_ceil(FLOOR.1);
            if left < least {
                return Some(format!(
                    "{CAPACITY}{left} of {known} services would be left healthy, and at least {least} have to be"
                ));
            }
        }
        taking.started.as_ref().and_then(|unit| self.awaited(now, unit)).map(|why| format!("{CAPACITY}{why}"))
    }

    /// Why this one is not started yet: services are started one at a time.
    pub(crate) fn awaited(&self, now: Timestamp, unit: &str) -> Option<String> {
        let taken = self.taken.iter().filter(|(_, taken)| !taken.stopped).map(|(unit, taken)| (unit, taken.at));
        let starting = self.starting.iter().map(|(unit, at)| (unit, *at));
        let others = taken.chain(starting).filter(|(other, _)| *other != unit);
        let (other, at) = others.filter(|(_, at)| now.since_ns(*at) < RETURN_NS).max_by_key(|(_, at)| *at)?;
        let wait = RETURN_NS.saturating_sub(now.since_ns(at)).div_ceil(1_000_000_000);
        Some(format!("{other} was taken down and does not answer yet; it goes on when that does, or in {wait} s"))
    }

    /// Its start is prepared: no other one begins.
    pub(crate) fn reserve(&mut self, now: Timestamp, unit: &str) {
        self.starting.insert(unit.to_owned(), now);
    }

    /// It is not started after all, or was.
    pub(crate) fn release(&mut self, unit: &str) {
        self.starting.remove(unit);
    }

    /// It is done. `stopped`: to be continued later.
    pub(crate) fn take(&mut self, now: Timestamp, taking: &Taking, stopped: bool) {
        for unit in taking.down.iter().chain(&taking.started) {
            let Some(turn) = self.services.get(unit).map(|answer| answer.turn) else { continue };
            self.taken.insert(unit.clone(), Taken { at: now, stopped, turn, answers: 0 });
        }
    }

    /// It is kept stopped.
    pub(crate) fn renew(&mut self, now: Timestamp, unit: &str) {
        if let Some(taken) = self.taken.get_mut(unit).filter(|taken| taken.stopped) {
            taken.at = now;
        }
    }

    /// What was stopped is ended: whoever starts it again has an answer that counts.
    pub(crate) fn end(&mut self, now: Timestamp, unit: &str) {
        if let Some(taken) = self.taken.get_mut(unit).filter(|taken| taken.stopped) {
            *taken = Taken { at: now, stopped: false, ..*taken };
        }
    }

    /// Anything is kept stopped.
    pub(crate) fn stops(&self) -> bool {
        self.taken.values().any(|taken| taken.stopped)
    }

    /// An action of it has to wait.
    pub(crate) fn refuse(&mut self, incident: IncidentId, taking: Taking) {
        self.short.entry(incident).or_default().insert(taking);
        if self.short.len() > SHORT_MAX {
            self.short.pop_first();
        }
    }

    /// Who may go on, because there is room now.
    pub(crate) fn pass(&mut self, now: Timestamp) -> BTreeSet<IncidentId> {
        self.taken.retain(|_, taken| now.since_ns(taken.at) < RETURN_NS);
        self.starting.retain(|_, at| now.since_ns(*at) < RETURN_NS);
        let room = |taking: &Taking| self.objection(now, taking).is_none();
        let free = self.short.iter().filter(|(_, takings)| takings.iter().any(room)).map(|(id, _)| *id);
        let free: BTreeSet<IncidentId> = free.collect();
        self.short.retain(|incident, _| !free.contains(incident));
        free
    }

    /// `other` turned out to be a part of `into`.
    pub(crate) fn unite(&mut self, into: IncidentId, other: IncidentId) {
        if let Some(takings) = self.short.remove(&other) {
            self.short.entry(into).or_default().extend(takings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(second: u64) -> Timestamp {
        Timestamp(second * SECOND)
    }

    fn well(count: usize) -> Capacity {
        let mut capacity = Capacity::default();
        (0..count).for_each(|number| capacity.hear(&unit(number), said(true, 0)));
        capacity
    }

    #[allow(clippy::unnecessary_wraps, reason = "as it is heard")]
    fn said(well: bool, turn: u64) -> Option<Answer> {
        Some(Answer { well, turn })
    }

    fn unit(number: usize) -> String {
        format!("{number}.service")
    }

    fn down(number: usize) -> Taking {
        Taking { down: [unit(number)].into(), started: None }
    }

    /// How many of that many are taken down at once, one after the other.
    fn taken(mut capacity: Capacity, count: usize) -> usize {
        let take = |number: &usize| {
            let room = capacity.objection(at(1), &down(*number)).is_none();
            if room {
                capacity.take(at(1), &down(*number), false);
            }
            room
        };
        (0..count).filter(take).count()
    }

    #[test]
    fn two_of_three_stay_however_fast_we_are() {
        let counts: Vec<usize> = [1, 2, 3, 4, 5, 6, 9, 100].map(|count| taken(well(count), count)).into();
        assert_eq!(counts, [1, 2, 1, 1, 1, 2, 3, 33], "of fewer than three, a share says nothing");
        // What is ill already counts, too, and what nobody knows does not.
        let mut ill = well(6);
        ill.hear(&unit(0), said(false, 0));
        assert_eq!(ill.objection(at(1), &down(1)), None);
        ill.hear(&unit(2), said(false, 0));
        let why = ill.objection(at(1), &down(1)).unwrap();
        assert_eq!(why, "K4, capacity: 3 of 6 services would be left healthy, and at least 4 have to be");
        assert_eq!(ill.objection(at(1), &down(99)), None);
        ill.hear(&unit(2), None);
        assert!(ill.objection(at(1), &down(1)).is_some(), "3 of 5");
        ill.hear(&unit(0), None);
        assert_eq!(ill.objection(at(1), &down(1)), None, "3 of 4");
    }

    #[test]
    fn what_was_taken_down_is_back_when_it_answers_or_when_its_time_is_over() {
        let mut capacity = well(3);
        capacity.take(at(1), &down(0), false);
        // Answers from before it was started again say nothing, however late they come; one alone may be an accident.
        for (well, turn) in [(true, 0), (true, 0), (true, 0), (true, 1), (false, 1), (true, 1)] {
            capacity.hear(&unit(0), said(well, turn));
            assert!(capacity.objection(at(4), &down(1)).is_some());
        }
        capacity.hear(&unit(0), said(true, 1));
        assert_eq!(capacity.objection(at(5), &down(1)), None);
        // Who is stopped answers by the kernel's word alone, and counts as down for as long as the stop is renewed.
        capacity.take(at(10), &down(1), true);
        for second in 11..200 {
            capacity.renew(at(second), &unit(1));
            capacity.hear(&unit(1), said(true, 5));
            assert!(capacity.objection(at(second), &down(2)).is_some(), "{second}");
        }
        assert!(capacity.objection(at(258), &down(2)).is_some() && capacity.objection(at(259), &down(2)).is_none());
        // It was ended, and its manager started it again.
        capacity.take(at(300), &down(1), true);
        capacity.end(at(301), &unit(1));
        capacity.hear(&unit(1), said(true, 6));
        assert!(capacity.objection(at(302), &down(2)).is_some());
        capacity.hear(&unit(1), said(true, 6));
        assert_eq!(capacity.objection(at(303), &down(2)), None);
    }

    #[test]
    fn services_are_started_one_at_a_time() {
        let start = |number: usize| Taking { down: BTreeSet::new(), started: Some(unit(number)) };
        let mut capacity = well(9);
        capacity.reserve(at(1), &unit(0));
        assert_eq!(capacity.objection(at(1), &start(0)), None, "itself it does not wait for");
        assert!(capacity.objection(at(1), &start(1)).unwrap().starts_with("K4, capacity: 0.service was taken down"));
        capacity.take(at(2), &start(0), false);
        capacity.release(&unit(0));
        capacity.refuse(IncidentId(7), start(1));
        assert_eq!(capacity.pass(at(3)), BTreeSet::new());
        capacity.hear(&unit(0), said(true, 1));
        capacity.hear(&unit(0), said(true, 1));
        assert_eq!((capacity.objection(at(4), &start(1)), capacity.pass(at(4))), (None, [IncidentId(7)].into()));
        assert_eq!(capacity.pass(at(4)), BTreeSet::new(), "told once");
        // One that never answers keeps the others waiting for a minute, not for ever.
        capacity.take(at(10), &start(2), false);
        capacity.refuse(IncidentId(8), start(3));
        assert_eq!((capacity.pass(at(69)), capacity.pass(at(70))), (BTreeSet::new(), [IncidentId(8)].into()));
    }
}
