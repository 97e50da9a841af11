// SPDX-License-Identifier: Apache-2.0
//! Which versions there are, by id and by path. Memory only: its lock is never held over a file operation, so that a
//! thread that waits for the kernel (or for our own permission group) holds nobody up.

use super::{Coverage, Digest, Recorded, State, Version};
use rustix::fd::OwnedFd;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use thymus_engine::id::{ProcessKey, Timestamp, VersionId};
use thymus_engine::path::HostPath;

/// LIMIT: renamed inodes whose present name is remembered, for captures that come after the rename.
const MOVED_MAX: usize = 8_192;
/// File times come from a clock that may be one tick behind: 10 ms at 100 Hz, the slowest that Linux has.
pub(super) const TICK_NS: i64 = 10_000_000;

/// One version, and what is known of its capture.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) version: Version,
    pub(super) pending: bool,
    /// When the change happened, by this boot's clock; 0 for versions of an earlier run.
    pub(super) since: Timestamp,
    /// When its reading ended; 0 for versions of an earlier run.
    pub(super) captured: Timestamp,
    /// The first time after it that someone opened, wrote or changed the path.
    pub(super) touched: Option<Timestamp>,
    /// The same, for its mode, owner and attributes alone.
    pub(super) touched_attributes: Option<Timestamp>,
    /// It was read while whoever wanted to write had to wait: only its attributes may be later ones.
    pub(super) gated: bool,
}

/// What a touch may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// The name or the content.
    Content,
    /// Mode, owner, attributes.
    Attributes,
}

impl Slot {
    fn new(version: Version, since: Timestamp) -> Self {
        let captured = Timestamp(0);
        Self { version, pending: true, since, captured, touched: None, touched_attributes: None, gated: false }
    }

    /// The first touch that its reading, which ended at `end`, may have seen the effect of.
    pub(super) fn doubted_by(&self, end: Timestamp) -> Option<Timestamp> {
        let touched = if self.gated { self.touched_attributes } else { self.touched };
        touched.filter(|touched| *touched < end)
    }
}

/// A log that is held open: what is renamed over or unlinked can still be read to its end.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) file: Arc<OwnedFd>,
    pub(super) inode: u64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    slots: BTreeMap<VersionId, Slot>,
    chains: BTreeMap<HostPath, Vec<VersionId>>,
    last: u64,
    /// Ids up to here are on disk as given out.
    pub(super) reserved: u64,
    /// Names of inodes that have several.
    links: BTreeMap<u64, BTreeSet<HostPath>>,
    moved: BTreeMap<u64, HostPath>,
    moved_order: VecDeque<u64>,
    pub(super) held: BTreeMap<HostPath, Held>,
    /// Which inode stands at a path that was made, linked, renamed or deleted since the start; `None`: none does.
    standing: BTreeMap<HostPath, Option<u64>>,
    pub(super) pins: BTreeSet<HostPath>,
    pub(super) kept: BTreeMap<Digest, i64>,
    pub(super) coverage: Coverage,
    /// Every path that existed then has a version.
    pub(super) baseline_done: bool,
}

/// How a version that is to be captured comes to be.
pub(super) struct Fresh<'a> {
    pub(super) path: &'a HostPath,
    pub(super) writer: ProcessKey,
    pub(super) time: Timestamp,
    pub(super) unix_ns: i64,
    pub(super) note: &'a str,
}

/// LIMIT: paths whose present inode is remembered; of others, a late close is taken for one of what stands there.
const STANDING_MAX: usize = 65_536;

impl Index {
    /// `inode` stands at `path` from now on; `None`: nothing does.
    pub(super) fn stands(&mut self, path: &HostPath, inode: Option<u64>) {
        if self.standing.len() >= STANDING_MAX && !self.standing.contains_key(path) {
            self.standing.pop_first();
        }
        self.standing.insert(path.clone(), inode);
    }

    /// What stands at `path` from now on is not known.
    pub(super) fn stands_unknown(&mut self, path: &HostPath) {
        self.standing.remove(path);
    }

    /// Another inode than this one, or none, is known to stand at `path`.
    pub(super) fn is_replaced(&self, path: &HostPath, inode: u64) -> bool {
        self.standing.get(path).is_some_and(|standing| *standing != Some(inode))
    }

    /// Takes over what the log holds.
    pub(super) fn load(&mut self, version: Version) {
        self.last = self.last.max(version.id.0);
        let slot = Slot::new(version.clone(), Timestamp(0));
        let slot = Slot { pending: false, ..slot };
        if self.slots.insert(version.id, slot).is_none() {
            let chain = self.chains.entry(version.path).or_default();
            let at = chain.partition_point(|id| *id < version.id);
            chain.insert(at, version.id);
        }
    }

    pub(super) fn reserve(&mut self, until: u64) {
        self.reserved = self.reserved.max(until);
        self.last = self.last.max(until);
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last
    }

    /// A new version at the end of its path's chain, still to be captured.
    pub(super) fn allocate(&mut self, fresh: Fresh<'_>) -> VersionId {
        self.last += 1;
        let id = VersionId(self.last);
        let version = Version {
            id,
            path: fresh.path.clone(),
            recorded: Recorded::Missing("not captured yet".into()),
            exact: false,
            writer: fresh.writer,
            time: fresh.time,
            unix_ns: fresh.unix_ns,
            note: fresh.note.into(),
        };
        let slot = Slot::new(version, fresh.time);
        self.slots.insert(id, slot);
        self.chains.entry(fresh.path.clone()).or_default().push(id);
        id
    }

    pub(super) fn slot(&self, id: VersionId) -> Option<&Slot> {
        self.slots.get(&id)
    }

    pub(super) fn slot_mut(&mut self, id: VersionId) -> Option<&mut Slot> {
        self.slots.get_mut(&id)
    }

    pub(super) fn set_flags(&mut self, id: VersionId, flags: u32) {
        if let Some(Recorded::State(state)) = self.slots.get_mut(&id).map(|slot| &mut slot.version.recorded) {
            state.flags = flags;
        }
    }

    pub(super) fn chain(&self, path: &HostPath) -> &[VersionId] {
        self.chains.get(path).map_or(&[], Vec::as_slice)
    }

    pub(super) fn latest(&self, path: &HostPath) -> Option<&Slot> {
        self.chain(path).last().and_then(|id| self.slots.get(id))
    }

    /// The path was opened for writing, or changed, at `time`. Gives the latest version when a reading that already
    /// ended may have seen that change.
    pub(super) fn touch(&mut self, path: &HostPath, time: Timestamp, what: Touch) -> Option<VersionId> {
        let id = *self.chains.get(path)?.last()?;
        let slot = self.slots.get_mut(&id).filter(|slot| time > slot.since)?;
        slot.touched.get_or_insert(time);
        if what == Touch::Attributes {
            slot.touched_attributes.get_or_insert(time);
        }
        (!slot.pending && slot.version.exact && slot.doubted_by(slot.captured).is_some()).then_some(id)
    }

    pub(super) fn slots(&self) -> impl ExactSizeIterator<Item = &Slot> {
        self.slots.values()
    }

    /// Every path that has a version, in order, with the newest.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&HostPath, &Slot)> {
        self.chains.iter().filter_map(|(path, chain)| Some((path, self.slots.get(chain.last()?)?)))
    }

    /// Known paths strictly below `tree`, at most `limit` and whether there were more.
    pub(super) fn below(&self, tree: &HostPath, limit: usize) -> (Vec<HostPath>, bool) {
        let mut prefix = tree.as_bytes().to_vec();
        prefix.push(b'/');
        let start = HostPath::new(&prefix);
        let range = self.chains.range((Bound::Included(start), Bound::Unbounded));
        let mut paths: Vec<HostPath> = range
            .map(|(path, _)| path)
            .take_while(|path| path.as_bytes().starts_with(&prefix))
            .take(limit + 1)
            .cloned()
            .collect();
        let more = paths.len() > limit;
        paths.truncate(limit);
        (paths, more)
    }

    pub(super) fn linked(&mut self, inode: u64, path: &HostPath) {
        self.links.entry(inode).or_default().insert(path.clone());
    }

    /// Other protected names of an inode.
    pub(super) fn other_names(&self, inode: u64, path: &HostPath) -> Vec<HostPath> {
        self.links.get(&inode).into_iter().flatten().filter(|name| *name != path).cloned().collect()
    }

    pub(super) fn unlinked(&mut self, inode: u64, path: &HostPath) {
        if let Some(names) = self.links.get_mut(&inode) {
            names.remove(path);
            if names.is_empty() {
                self.links.remove(&inode);
            }
        }
    }

    pub(super) fn renamed(&mut self, inode: u64, to: &HostPath) {
        if self.moved.insert(inode, to.clone()).is_none() {
            self.moved_order.push_back(inode);
            if self.moved_order.len() > MOVED_MAX
                && let Some(oldest) = self.moved_order.pop_front()
            {
                self.moved.remove(&oldest);
            }
        }
    }

    pub(super) fn present_name(&self, inode: u64) -> Option<HostPath> {
        self.moved.get(&inode).cloned()
    }

    /// Drops versions; a chain never loses its newest one.
    pub(super) fn drop_versions(&mut self, ids: &BTreeSet<VersionId>) {
        for id in ids {
            if let Some(slot) = self.slots.remove(id)
                && let Some(chain) = self.chains.get_mut(&slot.version.path)
            {
                chain.retain(|other| other != id);
            }
        }
        self.chains.retain(|_, chain| !chain.is_empty());
    }

    /// What retention may drop: older than `before_ns`, superseded, not of a baseline, not pinned. Of a path that is gone, all.
    pub(super) fn droppable(&self, before_ns: i64) -> BTreeSet<VersionId> {
        let mut ids = BTreeSet::new();
        for (path, chain) in &self.chains {
            if self.pins.contains(path) {
                continue;
            }
            let slots: Vec<&Slot> = chain.iter().filter_map(|id| self.slots.get(id)).collect();
            let gone_for_long = slots.last().is_some_and(|last| {
                !last.pending
                    && last.version.unix_ns < before_ns
                    && last.version.recorded.state().is_some_and(|state| !state.exists())
            });
            let count = if gone_for_long { slots.len() } else { slots.len().saturating_sub(1) };
            let old = slots.into_iter().take(count).filter(|slot| {
                !slot.pending && slot.version.unix_ns < before_ns && (gone_for_long || slot.version.note != "baseline")
            });
            ids.extend(old.map(|slot| slot.version.id));
        }
        ids
    }

    pub(super) fn live(&self) -> BTreeSet<Digest> {
        let of_state = |state: &State| state.digest;
        let versions = self.slots.values().filter_map(|slot| slot.version.recorded.state().and_then(of_state));
        versions.chain(self.kept.keys().copied()).collect()
    }
}
