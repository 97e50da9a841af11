// SPDX-License-Identifier: Apache-2.0
//! A memory of fixed size: the oldest entry gives way to a new one.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// LIMIT: entries of one memory, unless it says otherwise.
pub const BOUNDED_MAX: usize = 4_096;

/// At most `MOST` entries, oldest forgotten first and counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Ord + Clone + Serialize, V: Clone + Serialize",
    deserialize = "K: Ord + Clone + serde::de::DeserializeOwned, V: Clone + serde::de::DeserializeOwned"
))]
pub struct Bounded<K, V, const MOST: usize = BOUNDED_MAX> {
    /// As pairs: JSON knows no keys but text.
    #[serde(with = "pairs")]
    entries: BTreeMap<K, V>,
    order: VecDeque<K>,
    /// Entries that gave way.
    pub forgotten: u64,
}

impl<K, V, const MOST: usize> Default for Bounded<K, V, MOST> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new(), forgotten: 0 }
    }
}

impl<K: Ord + Clone, V, const MOST: usize> Bounded<K, V, MOST> {
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// The key as it is kept.
    #[must_use]
    pub fn key(&self, key: &K) -> Option<&K> {
        self.entries.get_key_value(key).map(|(kept, _)| kept)
    }

    /// What is kept by that key; a new entry when there is none.
    pub fn entry(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if !self.entries.contains_key(key) {
            self.insert(key.clone(), V::default());
        }
        self.entries.entry(key.clone()).or_default()
    }

    /// A key that is there keeps its age.
    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.forgotten += u64::from(self.entries.remove(&oldest).is_some());
            }
        }
    }

    /// Forgets one entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.entries.remove(key)?;
        if let Some(at) = self.order.iter().rposition(|other| other == key) {
            self.order.remove(at);
        }
        Some(value)
    }
}

mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Ord + Deserialize<'de>,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_is_counted() {
        let mut memory: Bounded<usize, ()> = Bounded::default();
        (0..BOUNDED_MAX + 10).for_each(|key| memory.insert(key, ()));
        assert_eq!((memory.entries.len(), memory.forgotten), (BOUNDED_MAX, 10));
        assert_eq!((memory.get(&9), memory.get(&10)), (None, Some(&())));
        memory.remove(&10);
        memory.insert(10, ());
        assert_eq!((memory.order.len(), memory.forgotten), (BOUNDED_MAX, 10));
    }
}
