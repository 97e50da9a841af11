// SPDX-License-Identifier: Apache-2.0
//! What of an incident gets a node of its own, and what is folded into nodes that stand for several.
//!
//! Input: items with their ranks. Output: those that are drawn, folds, and the count of what has room in neither. Items
//! of one rank take turns by their kind, so that none of them fills the picture alone.

use super::{FOLDS_MAX, Item, Kind, NODES_MAX, Rank, Shown, State, Tally};
use crate::path::HostPath;
use std::collections::{BTreeMap, BTreeSet};

/// Several items as one node.
#[derive(Debug)]
pub(super) struct Fold {
    /// The drawn item that they came by; `None`: the root.
    pub(super) owner: Option<usize>,
    pub(super) tally: Tally,
    pub(super) below: Option<HostPath>,
}

/// From fine to coarse: by owner, kind and directory; by owner and kind; by kind; all as one.
const LEVELS: [Level; 7] = [
    Level::Directory(usize::MAX),
    Level::Directory(3),
    Level::Directory(2),
    Level::Directory(1),
    Level::Owner,
    Level::Kind,
    Level::All,
];

#[derive(Clone, Copy, Debug)]
enum Level {
    Directory(usize),
    Owner,
    Kind,
    All,
}

type Group = (Option<usize>, Option<Kind>, Vec<u8>);

pub(super) fn choose(items: &[Item]) -> (BTreeSet<usize>, Vec<Fold>, Tally) {
    let room = NODES_MAX - 1; // the root has the first
    if items.len() <= room {
        return ((0..items.len()).collect(), Vec::new(), Tally::default());
    }
    let critical = by_turns(items);
    let first = if critical.len() <= room { critical.len() } else { room - FOLDS_MAX };
    let mut drawn: BTreeSet<usize> = critical.into_iter().take(first).collect();
    let rest: Vec<usize> = (0..items.len()).filter(|at| !drawn.contains(at)).collect();
    let room = FOLDS_MAX.min(room - first);
    let groups = LEVELS.iter().map(|level| grouped(items, &drawn, &rest, *level)).find(|groups| groups.len() <= room);
    let Some(groups) = groups else { return (drawn, Vec::new(), tally(items, &rest)) };
    let mut folds = Vec::new();
    for ((owner, ..), members) in groups {
        match members.as_slice() {
            [one] => drop(drawn.insert(*one)),
            many => folds.push(Fold { owner, tally: tally(items, many), below: below(items, many) }),
        }
    }
    (drawn, folds, Tally::default())
}

/// The critical ones, the most critical first.
fn by_turns(items: &[Item]) -> Vec<usize> {
    let mut turns: BTreeMap<(Rank, Kind), usize> = BTreeMap::new();
    let mut ranked = Vec::new();
    for (at, item) in items.iter().enumerate().filter(|(_, item)| item.rank < Rank::Other) {
        let turn = turns.entry((item.rank, item.order.0)).or_default();
        ranked.push((item.rank, *turn, item.order.0, at));
        *turn += 1;
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(.., at)| at).collect()
}

/// The nearest that is drawn, from here towards the root.
pub(super) fn nearest(items: &[Item], drawn: &BTreeSet<usize>, from: Option<usize>) -> Option<usize> {
    std::iter::successors(from, |at| items[*at].from).find(|at| drawn.contains(at))
}

fn grouped(items: &[Item], drawn: &BTreeSet<usize>, rest: &[usize], level: Level) -> BTreeMap<Group, Vec<usize>> {
    let mut groups: BTreeMap<Group, Vec<usize>> = BTreeMap::new();
    for at in rest {
        let (item, kind) = (&items[*at], items[*at].order.0);
        let owner = || nearest(items, drawn, item.from);
        let group = match level {
            Level::Directory(depth) => (owner(), Some(kind), directory(item, depth).to_vec()),
            Level::Owner => (owner(), Some(kind), Vec::new()),
            Level::Kind => (None, Some(kind), Vec::new()),
            Level::All => (None, None, Vec::new()),
        };
        groups.entry(group).or_default().push(*at);
    }
    groups
}

/// The first `depth` components of the directory that a file is in; empty for what is no file.
fn directory(item: &Item, depth: usize) -> &[u8] {
    let (Shown::File { path, .. } | Shown::Secret { path }) = &item.what else { return b"" };
    let parent = path.parent();
    let cut = parent.iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(depth);
    &parent[..cut.map_or(parent.len(), |(at, _)| at)]
}

/// The nearest directory that all the files are below; `None` when there are none.
fn below(items: &[Item], members: &[usize]) -> Option<HostPath> {
    let mut common: Option<&[u8]> = None;
    for at in members {
        let (Shown::File { path, .. } | Shown::Secret { path }) = &items[*at].what else { continue };
        let parent = path.parent();
        common = Some(match common {
            None => parent,
            Some(common) => {
                let same = common.iter().zip(parent).take_while(|(one, other)| one == other).count();
                let whole = |of: &[u8]| of.len() == same || of[same] == b'/';
                let cut = if whole(common) && whole(parent) {
                    same
                } else {
                    common[..same].iter().rposition(|byte| *byte == b'/').unwrap_or(0)
                };
                &common[..cut]
            }
        });
    }
    common.map(|common| HostPath::new(if common.is_empty() { b"/" } else { common }))
}

fn tally(items: &[Item], members: &[usize]) -> Tally {
    let mut tally = Tally::default();
    for at in members {
        let of = match items[*at].order.0 {
            Kind::Process => &mut tally.processes,
            Kind::File => &mut tally.files,
            Kind::Secret => &mut tally.secrets,
            Kind::Peer => &mut tally.peers,
        };
        *of += 1;
        let state: State = items[*at].state;
        tally.settled += u64::from(state.settled());
        tally.waiting += u64::from(state.waits());
    }
    tally
}
