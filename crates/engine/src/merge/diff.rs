// SPDX-License-Identifier: Apache-2.0
//! Which tokens of two sequences are the same, in bounded time.
//!
//! Patience: tokens that occur once on both sides are anchors, in their longest increasing order; between anchors again,
//! and Myers' algorithm (the `similar` crate) where a small gap has no anchor. A large gap without an anchor has no match:
//! the caller then sees one big replacement, which it refuses if it matters.

use similar::{Algorithm, DiffOp, capture_diff_slices};
use std::collections::BTreeMap;

/// LIMIT: `old.len() * new.len()` of a gap that Myers' algorithm, quadratic at worst, is given.
const GAP_AREA_MAX: usize = 1 << 18;
/// LIMIT: how often a gap is divided by anchors.
const DEPTH_MAX: u32 = 32;

/// Numbers for distinct pieces of bytes, so that comparing two is comparing two numbers.
#[derive(Debug, Default)]
pub(super) struct Interner<'a>(BTreeMap<&'a [u8], u32>);

impl<'a> Interner<'a> {
    pub(super) fn number(&mut self, bytes: &'a [u8]) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(bytes).or_insert(next)
    }
}

/// Pairs of equal positions in `old` and `new`, both strictly increasing.
pub(super) fn matches(old: &[u32], new: &[u32]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut gaps = vec![(0, old.len(), 0, new.len(), 0)];
    while let Some((mut from_old, mut to_old, mut from_new, mut to_new, depth)) = gaps.pop() {
        while from_old < to_old && from_new < to_new && old[from_old] == new[from_new] {
            found.push((from_old, from_new));
            from_old += 1;
            from_new += 1;
        }
        while from_old < to_old && from_new < to_new && old[to_old - 1] == new[to_new - 1] {
            to_old -= 1;
            to_new -= 1;
            found.push((to_old, to_new));
        }
        let (left, right) = (&old[from_old..to_old], &new[from_new..to_new]);
        if left.is_empty() || right.is_empty() {
            continue;
        }
        let anchors = if depth < DEPTH_MAX { anchors(left, right) } else { Vec::new() };
        if anchors.is_empty() {
            if left.len().saturating_mul(right.len()) <= GAP_AREA_MAX {
                small(left, right, from_old, from_new, &mut found);
            }
            continue;
        }
        let (mut last_old, mut last_new) = (from_old, from_new);
        for (at_old, at_new) in anchors {
            let (at_old, at_new) = (from_old + at_old, from_new + at_new);
            found.push((at_old, at_new));
            gaps.push((last_old, at_old, last_new, at_new, depth + 1));
            (last_old, last_new) = (at_old + 1, at_new + 1);
        }
        gaps.push((last_old, to_old, last_new, to_new, depth + 1));
    }
    found.sort_unstable();
    found
}

fn small(left: &[u32], right: &[u32], from_old: usize, from_new: usize, found: &mut Vec<(usize, usize)>) {
    for op in capture_diff_slices(Algorithm::Myers, left, right) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            found.extend((0..len).map(|step| (from_old + old_index + step, from_new + new_index + step)));
        }
    }
}

/// Tokens that occur once in each, in their longest order that increases on both sides.
fn anchors(left: &[u32], right: &[u32]) -> Vec<(usize, usize)> {
    let (mut in_left, mut in_right) = (occurrences(left), occurrences(right));
    in_left.retain(|_, at| at.is_some());
    in_right.retain(|_, at| at.is_some());
    let mut pairs: Vec<(usize, usize)> =
        in_left.iter().filter_map(|(token, at)| Some(((*at)?, (*in_right.get(token)?)?))).collect();
    pairs.sort_unstable();
    longest_increasing(&pairs)
}

/// Where each token is; `None` when in more than one place.
fn occurrences(tokens: &[u32]) -> BTreeMap<u32, Option<usize>> {
    let mut at = BTreeMap::new();
    for (index, token) in tokens.iter().enumerate() {
        at.entry(*token).and_modify(|place| *place = None).or_insert(Some(index));
    }
    at
}

/// Longest subsequence of `pairs` (sorted by the first) whose second increases; patience sorting, O(n log n).
fn longest_increasing(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut piles: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, (_, second)) in pairs.iter().enumerate() {
        let pile = piles.partition_point(|top| pairs[*top].1 < *second);
        before.push(pile.checked_sub(1).map(|lower| piles[lower]));
        if pile == piles.len() {
            piles.push(index);
        } else {
            piles[pile] = index;
        }
    }
    let mut chain: Vec<(usize, usize)> =
        std::iter::successors(piles.last().copied(), |at| before[*at]).map(|at| pairs[at]).collect();
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn matches_are_equal_and_increase(
            old in proptest::collection::vec(0u32..12, 0..60), new in proptest::collection::vec(0u32..12, 0..60),
        ) {
            let found = matches(&old, &new);
            prop_assert!(found.iter().all(|(left, right)| old[*left] == new[*right]));
            prop_assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        }

        #[test]
        fn a_subsequence_is_found_whole_when_tokens_are_distinct(keep in proptest::collection::vec(any::<bool>(), 0..200)) {
            let old: Vec<u32> = (0..).take(keep.len()).collect();
            let new: Vec<u32> = old.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(token, _)| *token).collect();
            prop_assert_eq!(matches(&old, &new).len(), new.len());
        }
    }

    #[test]
    fn a_hostile_permutation_ends() {
        let old: Vec<u32> = (0..60_000).collect();
        let new: Vec<u32> = old.iter().rev().copied().collect();
        assert_eq!(matches(&old, &new).len(), 1);
        assert!(matches(&vec![1; 60_000], &[vec![2], vec![1; 30_000], vec![2]].concat()).len() <= 30_000);
    }
}
