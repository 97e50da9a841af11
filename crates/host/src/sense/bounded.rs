// SPDX-License-Identifier: Apache-2.0
//! A map that cannot grow without limit: two generations, the older one is dropped when the younger is full.

use std::collections::HashMap;
use std::hash::Hash;

/// Holds at least the last `limit` keys that were touched, at most twice as many.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    limit: usize,
    /// Entries dropped since the start.
    pub(super) evicted: u64,
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), limit, evicted: 0 }
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.old.remove(&key);
        if self.young.len() >= self.limit && !self.young.contains_key(&key) {
            self.evicted += u64::try_from(self.old.len()).unwrap_or(u64::MAX);
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value).or(before)
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        self.get_mut(key).map(|value| &*value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if let Some(value) = self.old.remove(key) {
            self.insert(key.clone(), value);
        }
        self.young.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// As [`Bounded::get`], and it counts as no touch.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Forgets all others, which counts as no eviction, and gives their room back.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|_, value| keep(value));
            if generation.capacity() > 4 * generation.len() {
                generation.shrink_to(2 * generation.len());
            }
        }
    }

    /// Changes every value; the order does not matter to `change`.
    pub(super) fn for_each_mut(&mut self, change: impl FnMut(&mut V)) {
        self.young.values_mut().chain(self.old.values_mut()).for_each(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_on_purpose_takes_no_room_and_is_no_eviction() {
        let mut map = Bounded::new(1_000);
        for number in 0..1_500 {
            map.insert(number, number);
        }
        map.retain(|number| number % 100 == 0);
        assert_eq!((0..1_500).filter(|number| map.peek(number).is_some()).count(), 15);
        assert!(map.young.capacity() + map.old.capacity() < 200 && map.evicted == 0);
    }

    #[test]
    fn what_was_touched_stays_and_the_rest_is_counted() {
        let mut map = Bounded::new(10);
        for number in 0..1_000 {
            map.insert(number, ());
            assert!(map.get(&0).is_some(), "touched at every step");
        }
        assert!(map.get(&500).is_none());
        assert!(map.young.len() + map.old.len() <= 20);
        assert!(map.evicted >= 970);
    }
}
