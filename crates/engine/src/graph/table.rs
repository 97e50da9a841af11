// SPDX-License-Identifier: Apache-2.0
//! A map with a fixed place for each entry: looked up by hash, walked by place.
//!
//! The hash index is never iterated and never stored, so the same history gives the same bytes in a checkpoint and
//! the same order in a walk. Walks are resumable: a place stays valid while other entries come and go.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::Hash;

#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Stored<K, V>", bound(deserialize = "K: Deserialize<'de> + Clone + Eq + Hash, V: Deserialize<'de>"))]
pub(crate) struct Table<K, V> {
    slots: Vec<Option<(K, V)>>,
    free: Vec<u32>,
    /// Where the next search for something to evict begins.
    hand: u32,
    #[serde(skip)]
    index: FxHashMap<K, u32>,
}

#[derive(Deserialize)]
#[serde(rename = "Table")]
struct Stored<K, V> {
    slots: Vec<Option<(K, V)>>,
    free: Vec<u32>,
    hand: u32,
}

impl<K: Clone + Eq + Hash, V> From<Stored<K, V>> for Table<K, V> {
    fn from(stored: Stored<K, V>) -> Self {
        let places = (0u32..).zip(&stored.slots);
        let index = places.filter_map(|(at, slot)| slot.as_ref().map(|(key, _)| (key.clone(), at))).collect();
        Self { slots: stored.slots, free: stored.free, hand: stored.hand, index }
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), hand: 0, index: FxHashMap::default() }
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("entries", &self.index.len()).finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash, V> Table<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Places in use or free; a walk goes over `0..places()`.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn at(&self, place: usize) -> Option<(&K, &V)> {
        self.slots.get(place)?.as_ref().map(|(key, value)| (key, value))
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let at = *self.index.get(key)?;
        self.slots.get(usize::try_from(at).ok()?)?.as_ref().map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.slots.get_mut(usize::try_from(at).ok()?)?.as_mut().map(|(_, value)| value)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some(old) = self.get_mut(&key) {
            *old = value;
            return;
        }
        let entry = Some((key.clone(), value));
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(slot) = usize::try_from(at).ok().and_then(|at| self.slots.get_mut(at)) {
                    *slot = entry;
                }
                at
            }
            None => {
                // INVARIANT: the graph's limits keep every table far below u32::MAX entries.
                let at = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
                self.slots.push(entry);
                at
            }
        };
        self.index.insert(key, at);
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index.remove(key)?;
        let (_, value) = self.slots.get_mut(usize::try_from(at).ok()?)?.take()?;
        self.free.push(at);
        Some(value)
    }

    /// Looks at up to `look` places from the hand on. `rank` says how dear an entry is: `None` is kept whatever
    /// happens, 0 goes at once, otherwise the lowest found goes.
    pub(crate) fn victim(&mut self, look: usize, rank: impl Fn(&K, &V) -> Option<u8>) -> Option<K> {
        let places = self.slots.len();
        let mut best: Option<(u8, usize)> = None;
        let mut at = usize::try_from(self.hand).unwrap_or(0);
        for _ in 0..look.min(places) {
            at = if at + 1 >= places { 0 } else { at + 1 };
            let Some((key, value)) = self.at(at) else { continue };
            match rank(key, value) {
                Some(0) => {
                    best = Some((0, at));
                    break;
                }
                Some(found) if best.is_none_or(|(known, _)| found < known) => best = Some((found, at)),
                Some(_) | None => {}
            }
        }
        self.hand = u32::try_from(at).unwrap_or(0);
        best.and_then(|(_, at)| self.at(at)).map(|(key, _)| key.clone())
    }
}
