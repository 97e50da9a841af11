// SPDX-License-Identifier: Apache-2.0
//! The storm breaker (K3) and the budget of actions (K4): what is confirmed or done too often at once is a mistake of ours.
//!
//! Input: incidents that findings confirmed, actions that were committed without a person. Output: why nothing more may be
//! done by itself, in words. Two failures are behind it: an agent's bug that was taken for broken hosts and healed until
//! everything had been moved (Azure, 29 February 2012), and automation that took servers away faster than anybody could look
//! (Reddit, 2016: in 16 seconds). Both only take away from what happens by itself: a person may decide about each action.

use crate::id::{IncidentId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 60 * MINUTE_NS;

/// LIMIT: attacks that findings confirm within a minute and that are answered by itself. What one intruder does is one
/// incident, however much it is; so many at a time have another cause.
pub const STORM_INCIDENTS_MAX: usize = 16;
/// LIMIT: the same within an hour, for what goes wrong slowly.
pub const STORM_INCIDENTS_HOUR_MAX: usize = 64;
/// LIMIT: actions that are committed by itself within a minute, for all incidents but the one that needs most; unless the
/// configuration says otherwise. A whole intrusion takes some twenty.
pub const ACTIONS_PER_MINUTE: u32 = 128;
/// LIMIT: so many times that for the one that needs most: files that others wrote too, or that a policy looks at, are one
/// action each. Ten thousand files of an attack alone are forty.
pub const LARGEST_TIMES: u32 = 16;

/// Nothing is done by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    pub since: Timestamp,
    /// What was too much, in words.
    pub why: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Breaker {
    /// Confirmed by findings within the last hour, oldest first.
    confirmed: VecDeque<(Timestamp, IncidentId)>,
    storm: Option<Storm>,
    /// Confirmed in a storm: also after it, a person decides about each.
    doubted: BTreeSet<IncidentId>,
    /// A person said that it is an attack.
    judged: BTreeSet<IncidentId>,
}

impl Breaker {
    pub(crate) const fn storm(&self) -> Option<&Storm> {
        self.storm.as_ref()
    }

    /// Why nothing may be done about this incident by itself.
    pub(crate) fn objection(&self, incident: IncidentId) -> Option<String> {
        if self.judged.contains(&incident) {
            return None;
        }
        let doubted = self.doubted.contains(&incident);
        match &self.storm {
            Some(storm) => Some(format!("K3: {}", storm.why)),
            None => doubted.then(|| "K3: it was confirmed in a storm, and nobody has judged it since".to_owned()),
        }
    }

    /// Findings confirmed an attack. `Some`: that was one too many, and the breaker opens; in words.
    pub(crate) fn confirm(&mut self, now: Timestamp, incident: IncidentId) -> Option<String> {
        while self.confirmed.front().is_some_and(|(time, _)| now.since_ns(*time) >= HOUR_NS) {
            self.confirmed.pop_front();
        }
        if self.storm.is_some() {
            self.doubted.insert(incident);
            return None;
        }
        self.confirmed.push_back((now, incident));
        let minute = self.confirmed.iter().filter(|(time, _)| now.since_ns(*time) < MINUTE_NS).count();
        let (count, span_ns, span) =
            match (minute > STORM_INCIDENTS_MAX, self.confirmed.len() > STORM_INCIDENTS_HOUR_MAX) {
                (true, _) => (minute, MINUTE_NS, "a minute"),
                (false, true) => (self.confirmed.len(), HOUR_NS, "an hour"),
                (false, false) => return None,
            };
        let of_storm = self.confirmed.iter().filter(|(time, _)| now.since_ns(*time) < span_ns);
        self.doubted.extend(of_storm.map(|(_, incident)| *incident));
        self.confirmed.clear();
        let why = format!(
            "storm breaker: {count} attacks were confirmed within {span}; the sensors, a rule or something that they share \
             may be wrong"
        );
        self.storm = Some(Storm { since: now, why: why.clone() });
        Some(why)
    }

    /// A person ends the storm. What came in it still waits for a word on each. False: there was none.
    pub(crate) fn release(&mut self) -> bool {
        self.storm.take().is_some()
    }

    /// A person said that it is an attack. True: it had been held back.
    pub(crate) fn judge(&mut self, incident: IncidentId) -> bool {
        let held_back = self.objection(incident).is_some();
        self.doubted.remove(&incident);
        self.judged.insert(incident);
        held_back
    }

    /// It came in a storm that is over, and nobody judged it.
    pub(crate) fn is_left_over(&self, incident: IncidentId) -> bool {
        self.storm.is_none() && self.doubted.contains(&incident)
    }

    /// `other` turned out to be a part of `into`.
    pub(crate) fn unite(&mut self, into: IncidentId, other: IncidentId) {
        let doubted = self.doubted.contains(&other);
        self.forget(other);
        if doubted && !self.judged.contains(&into) {
            self.doubted.insert(into);
        }
    }

    /// The incident is over, or was none.
    pub(crate) fn forget(&mut self, incident: IncidentId) {
        self.confirmed.retain(|(_, confirmed)| *confirmed != incident);
        self.doubted.remove(&incident);
        self.judged.remove(&incident);
    }
}

/// Seconds that are counted together. What was done in them counts until a minute after their end, so that no minute, wherever
/// it begins, has more than the budget.
const PART_NS: u64 = MINUTE_NS / 6;

/// What was done by itself of late. First stops are not counted, and never wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// Actions committed, by the part of a minute; at most seven parts.
    spent: BTreeMap<u64, BTreeMap<IncidentId, u32>>,
    /// Whose actions had no room.
    short: BTreeSet<IncidentId>,
}

impl Budget {
    /// The parts that count at that time.
    fn parts(&self, now: Timestamp) -> impl Iterator<Item = (&u64, &BTreeMap<IncidentId, u32>)> {
        let counts = move |part: u64| now.0 < (part + 1) * PART_NS + MINUTE_NS;
        self.spent.iter().filter(move |(part, _)| counts(**part))
    }

    /// Why one more action of this incident has to wait. `limit` is for all incidents but the one that needs most.
    pub(crate) fn objection(&self, now: Timestamp, incident: IncidentId, limit: u32) -> Option<String> {
        let mut spent: BTreeMap<IncidentId, u32> = BTreeMap::new();
        for (id, count) in self.parts(now).flat_map(|(_, spent)| spent) {
            *spent.entry(*id).or_default() += count;
        }
        let own = spent.get(&incident).copied().unwrap_or(0) + 1;
        let all = spent.values().sum::<u32>() + 1;
        let most = spent.values().copied().max().unwrap_or(0).max(own);
        let largest = limit.saturating_mul(LARGEST_TIMES);
        let what = match (own > largest, all - most > limit) {
            (true, _) => format!("{} actions of it", own - 1),
            (false, true) => format!("{} actions", all - 1),
            (false, false) => return None,
        };
        let first = self.parts(now).next().map_or(now.0, |(part, _)| (part + 1) * PART_NS + MINUTE_NS);
        let wait = first.saturating_sub(now.0).div_ceil(1_000_000_000);
        Some(format!("K4: {what} within a minute are as many as happen by itself; it goes on in {wait} s"))
    }

    /// An action was committed without a person.
    pub(crate) fn spend(&mut self, now: Timestamp, incident: IncidentId) {
        self.forget(now);
        *self.spent.entry(now.0 / PART_NS).or_default().entry(incident).or_default() += 1;
    }

    /// Whether anything counts no more.
    fn forget(&mut self, now: Timestamp) -> bool {
        let before = self.spent.len();
        let counting: BTreeSet<u64> = self.parts(now).map(|(part, _)| *part).collect();
        self.spent.retain(|part, _| counting.contains(part));
        self.spent.len() < before
    }

    /// An action of it had to wait.
    pub(crate) fn refuse(&mut self, incident: IncidentId) {
        self.short.insert(incident);
    }

    /// An action of it waits for the next minute.
    pub(crate) fn is_short(&self, incident: IncidentId) -> bool {
        self.short.contains(&incident)
    }

    /// Who may go on, because something counts no more.
    pub(crate) fn pass(&mut self, now: Timestamp) -> BTreeSet<IncidentId> {
        if self.forget(now) || self.spent.is_empty() { std::mem::take(&mut self.short) } else { BTreeSet::new() }
    }

    /// `other` turned out to be a part of `into`.
    pub(crate) fn unite(&mut self, into: IncidentId, other: IncidentId) {
        for spent in self.spent.values_mut() {
            if let Some(count) = spent.remove(&other) {
                *spent.entry(into).or_default() += count;
            }
        }
        if self.short.remove(&other) {
            self.short.insert(into);
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

    /// So many actions in that second, of incidents that take turns; gives how many had room.
    fn act(budget: &mut Budget, second: u64, count: u64, incidents: u64) -> u64 {
        let room = |number: &u64| {
            let incident = IncidentId(number % incidents);
            let room = budget.objection(at(second), incident, ACTIONS_PER_MINUTE).is_none();
            if room {
                budget.spend(at(second), incident);
            }
            room
        };
        (0..count).take_while(room).count() as u64
    }

    #[test]
    fn one_incident_may_need_many_actions_and_many_incidents_may_not() {
        assert_eq!(act(&mut Budget::default(), 100, 5_000, 1), 2_048);
        let mut many = Budget::default();
        assert_eq!(act(&mut many, 100, 5_000, 500), 129, "the first of them counts as the largest");
        assert_eq!(act(&mut many, 159, 5_000, 500), 1, "within the same minute: it needs most now");
        assert_eq!(act(&mut many, 169, 5_000, 500), 1, "a minute has no border");
        assert_eq!(act(&mut many, 170, 5_000, 500), 129, "the two since are of the one that needs most");
        // Whoever needs most goes on, however little is left for the others.
        let mut both = Budget::default();
        assert_eq!(act(&mut both, 100, 1_000, 1), 1_000);
        (0..200).for_each(|number| {
            if both.objection(at(101), IncidentId(9 + number % 50), ACTIONS_PER_MINUTE).is_none() {
                both.spend(at(101), IncidentId(9 + number % 50));
            }
        });
        assert_eq!(both.spent.values().flat_map(BTreeMap::values).sum::<u32>(), 1_128);
        assert_eq!(both.objection(at(102), IncidentId(0), ACTIONS_PER_MINUTE), None);
    }

    #[test]
    fn no_minute_wherever_it_begins_has_more_than_the_budget() {
        let (mut budget, mut done) = (Budget::default(), Vec::new());
        // As many as may be, by ever other incidents, at uneven times.
        for step in 0..4_000 {
            let (now, incident) = (100 + step * 7 / 50 + step % 3, IncidentId(step % 700));
            if budget.objection(at(now), incident, ACTIONS_PER_MINUTE).is_none() {
                budget.spend(at(now), incident);
                done.push(now);
            }
        }
        let most = done.iter().map(|begin| done.iter().filter(|at| (*begin..begin + 60).contains(*at)).count()).max();
        let limit = usize::try_from(ACTIONS_PER_MINUTE).unwrap();
        assert!((limit..=limit + 8).contains(&most.unwrap()), "{most:?}: the one that needs most has a few of its own");
        assert!(done.len() > 5 * limit, "{}", done.len());
    }

    #[test]
    fn attacks_are_counted_by_the_minute_and_by_the_hour_and_those_that_met_once() {
        let confirm = |breaker: &mut Breaker, every: u64, count: u64| {
            (0..count).take_while(|number| breaker.confirm(at(number * every), IncidentId(*number)).is_none()).count()
        };
        assert_eq!(confirm(&mut Breaker::default(), 0, 100), 16);
        assert_eq!(confirm(&mut Breaker::default(), 30, 100), 64);
        assert_eq!(confirm(&mut Breaker::default(), 60, 1_000), 1_000);
        let mut met = Breaker::default();
        for number in 1..100 {
            assert_eq!(met.confirm(at(1), IncidentId(number)), None);
            met.unite(IncidentId(0), IncidentId(number));
        }
    }

    #[test]
    fn what_came_in_a_storm_waits_for_a_word_on_each_also_after_it() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.confirm(at(0), IncidentId(100)), None);
        (0..30).for_each(|number| drop(breaker.confirm(at(90), IncidentId(number))));
        assert!(breaker.storm().is_some());
        assert!((0..200).all(|number| breaker.objection(IncidentId(number)).is_some()));
        assert!(breaker.judge(IncidentId(7)) && breaker.objection(IncidentId(7)).is_none(), "also while it lasts");
        assert!(breaker.release() && !breaker.release());
        let waits = |breaker: &Breaker| (0..200).filter(|id| breaker.objection(IncidentId(*id)).is_some()).count();
        assert_eq!(waits(&breaker), 29, "not what was confirmed well before");
        breaker.forget(IncidentId(3));
        breaker.unite(IncidentId(50), IncidentId(4));
        breaker.unite(IncidentId(7), IncidentId(5));
        assert!(breaker.objection(IncidentId(50)).is_some() && breaker.objection(IncidentId(7)).is_none());
        assert_eq!(waits(&breaker), 27);
    }
}
