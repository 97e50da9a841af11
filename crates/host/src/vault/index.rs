// SPDX-License-Identifier: Apache-2.0
//! Which versions there are, by id and by path. Its lock is never held over a file operation, so that a thread that
//! waits for the kernel (or for our own permission group) holds nobody up.
//!
//! In memory is what stands at a path now. A version that was superseded, or says that nothing is there, rests: its record
//! is read from the log when it is asked for. In memory it costs some 120 bytes, with its place among the path's others.

use super::log::Place;
use super::{Coverage, Digest, Recorded, Version};
use rustix::fd::OwnedFd;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use thymus_engine::detect::Bounded;
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
    /// Where its record is; `None` while it is not on disk, or not as it is here.
    place: Option<Place>,
}

/// A version that is on disk alone, and what retention asks of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resting {
    pub(super) place: Place,
    digest: u64,
    unix_ns: i64,
    /// The two that [`super::State::flags`] may hold.
    flags: u8,
    traits: u8,
}

impl Resting {
    const EXACT: u8 = 1;
    const BASELINE: u8 = 2;
    const CONTENT: u8 = 4;
    const SEVERAL_NAMES: u8 = 8;

    fn of(version: &Version, place: Place) -> Self {
        let state = version.recorded.state();
        let digest = state.and_then(|state| state.digest);
        let several = state.is_some_and(|state| state.nlink > 1 && state.kind != super::Kind::Directory);
        let traits = [
            (version.exact, Self::EXACT),
            (version.note == BASELINE, Self::BASELINE),
            (digest.is_some(), Self::CONTENT),
            (several, Self::SEVERAL_NAMES),
        ];
        Self {
            place,
            digest: digest.map_or(0, |digest| digest.prefix()),
            unix_ns: version.unix_ns,
            flags: state.map_or(0, |state| state.flags).to_le_bytes()[0],
            traits: traits.into_iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum(),
        }
    }

    /// What became of it after its record was written.
    pub(super) fn amend(self, mut version: Version) -> Version {
        version.exact = self.traits & Self::EXACT != 0;
        if let Recorded::State(state) = &mut version.recorded {
            state.flags = u32::from(self.flags);
        }
        version
    }
}

/// One version: in memory, or on disk alone.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Here(Box<Slot>),
    Resting(Resting),
}

impl Entry {
    fn here(&self) -> Option<&Slot> {
        match self {
            Self::Here(slot) => Some(slot),
            Self::Resting(_) => None,
        }
    }

    /// Nothing is there; asked of the newest one of a path, which rests only then.
    fn is_absent(&self) -> bool {
        self.here().is_none_or(Slot::is_absent)
    }

    fn is_baseline(&self) -> bool {
        match self {
            Self::Here(slot) => slot.version.note == BASELINE,
            Self::Resting(resting) => resting.traits & Resting::BASELINE != 0,
        }
    }

    /// Settled, and older than that.
    fn is_before(&self, unix_ns: i64) -> bool {
        match self {
            Self::Here(slot) => !slot.pending && slot.version.unix_ns < unix_ns,
            Self::Resting(resting) => resting.unix_ns < unix_ns,
        }
    }

    fn digest(&self) -> Option<u64> {
        match self {
            Self::Here(slot) => slot.version.recorded.state()?.digest.map(|digest| digest.prefix()),
            Self::Resting(resting) => (resting.traits & Resting::CONTENT != 0).then_some(resting.digest),
        }
    }
}

/// The note of a version that was there when protection began.
pub(super) const BASELINE: &str = "baseline";

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
        let place = None;
        Self { version, pending: true, since, captured, touched: None, touched_attributes: None, gated: false, place }
    }

    /// Nothing stands there, by a version that is settled.
    pub(super) fn is_absent(&self) -> bool {
        !self.pending && self.version.recorded.state().is_some_and(|state| !state.exists())
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

/// A log that has lost its name. Its daemon writes to it until it is told to open the log anew, which may take a while.
#[derive(Debug)]
pub(super) struct Departed {
    /// The version that says what was in it.
    pub(super) id: VersionId,
    pub(super) file: Arc<OwnedFd>,
    pub(super) since: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<VersionId, Entry>,
    chains: BTreeMap<HostPath, Vec<VersionId>>,
    last: u64,
    /// Ids up to here are on disk as given out.
    pub(super) reserved: u64,
    /// Names of inodes that have several.
    links: BTreeMap<u64, BTreeSet<HostPath>>,
    moved: BTreeMap<u64, HostPath>,
    moved_order: VecDeque<u64>,
    pub(super) held: BTreeMap<HostPath, Held>,
    /// Oldest first.
    pub(super) departed: VecDeque<Departed>,
    /// Which inode stands at a path that was made, linked, renamed or deleted since the start; `None`: none does.
    standing: Bounded<HostPath, Option<u64>, STANDING_MAX>,
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

/// LIMIT: paths whose present inode is remembered, those first noted last; of others, a late close is taken for one of what
/// stands there. A name is late by milliseconds, seldom by a second: that is fewer changes than this.
const STANDING_MAX: usize = 8_192;

impl Index {
    /// `inode` stands at `path` from now on; `None`: nothing does.
    pub(super) fn stands(&mut self, path: &HostPath, inode: Option<u64>) {
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

    /// Takes over what the log holds at that place; `None`: the record does not say what it is by now.
    pub(super) fn load(&mut self, version: Version, place: Option<Place>) {
        let id = version.id;
        self.last = self.last.max(id.0);
        let path = self.shared(&version.path);
        let slot = Slot { pending: false, place, ..Slot::new(Version { path: path.clone(), ..version }, Timestamp(0)) };
        if self.entries.insert(id, Entry::Here(Box::new(slot))).is_none() {
            let chain = self.chains.entry(path).or_default();
            let at = chain.partition_point(|known| *known < id);
            chain.insert(at, id);
            let before = at.checked_sub(1).map(|at| chain[at]);
            before.into_iter().for_each(|before| self.rest(before));
        }
        self.rest(id);
    }

    /// The same path as one that is known has its bytes in common with it.
    fn shared(&self, path: &HostPath) -> HostPath {
        self.chains.get_key_value(path).map_or_else(|| path.clone(), |(known, _)| known.clone())
    }

    /// The record of that version was written there.
    pub(super) fn placed(&mut self, id: VersionId, place: Place) {
        match self.entries.get_mut(&id) {
            Some(Entry::Here(slot)) => {
                slot.place = Some(place);
                self.rest(id);
            }
            Some(Entry::Resting(resting)) => resting.place = place,
            None => {}
        }
    }

    /// Keeps it on disk alone, if it is there and nothing that happens to the path changes it any more.
    fn rest(&mut self, id: VersionId) {
        let Some(Entry::Here(slot)) = self.entries.get(&id) else { return };
        let Some(place) = slot.place.filter(|_| !slot.pending) else { return };
        if slot.is_absent() || self.chain(&slot.version.path).last() != Some(&id) {
            let resting = Resting::of(&slot.version, place);
            self.entries.insert(id, Entry::Resting(resting));
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
        let path = self.shared(fresh.path);
        let version = Version {
            id,
            path: path.clone(),
            recorded: Recorded::Missing("not captured yet".into()),
            exact: false,
            writer: fresh.writer,
            time: fresh.time,
            unix_ns: fresh.unix_ns,
            note: fresh.note.into(),
        };
        let slot = Slot::new(version, fresh.time);
        self.entries.insert(id, Entry::Here(Box::new(slot)));
        let chain = self.chains.entry(path).or_default();
        let before = chain.last().copied();
        chain.push(id);
        before.into_iter().for_each(|before| self.rest(before));
        id
    }

    pub(super) fn entry(&self, id: VersionId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// A version that is in memory: one that is pending, or the newest of a path where something stands.
    pub(super) fn slot(&self, id: VersionId) -> Option<&Slot> {
        self.entries.get(&id).and_then(Entry::here)
    }

    pub(super) fn slot_mut(&mut self, id: VersionId) -> Option<&mut Slot> {
        match self.entries.get_mut(&id)? {
            Entry::Here(slot) => Some(slot),
            Entry::Resting(_) => None,
        }
    }

    pub(super) fn set_flags(&mut self, id: VersionId, flags: u32) {
        match self.entries.get_mut(&id) {
            Some(Entry::Here(slot)) => {
                if let Recorded::State(state) = &mut slot.version.recorded {
                    state.flags = flags;
                }
            }
            Some(Entry::Resting(resting)) => resting.flags = flags.to_le_bytes()[0],
            None => {}
        }
    }

    pub(super) fn set_inexact(&mut self, id: VersionId) {
        match self.entries.get_mut(&id) {
            Some(Entry::Here(slot)) => slot.version.exact = false,
            Some(Entry::Resting(resting)) => resting.traits &= !Resting::EXACT,
            None => {}
        }
    }

    pub(super) fn chain(&self, path: &HostPath) -> &[VersionId] {
        self.chains.get(path).map_or(&[], Vec::as_slice)
    }

    /// What stands at the path, as far as it is known; `None` where nothing does, or nothing is known.
    pub(super) fn latest(&self, path: &HostPath) -> Option<&Slot> {
        self.chain(path).last().and_then(|id| self.slot(*id))
    }

    /// The newest version of a path, and whether it says that nothing is there.
    pub(super) fn newest_of(&self, path: &HostPath) -> Option<(VersionId, bool)> {
        let id = *self.chain(path).last()?;
        Some((id, self.entries.get(&id)?.is_absent()))
    }

    /// The path was opened for writing, or changed, at `time`. Gives the latest version when a reading that already
    /// ended may have seen that change.
    pub(super) fn touch(&mut self, path: &HostPath, time: Timestamp, what: Touch) -> Option<VersionId> {
        let id = *self.chains.get(path)?.last()?;
        let slot = self.slot_mut(id).filter(|slot| time > slot.since)?;
        slot.touched.get_or_insert(time);
        if what == Touch::Attributes {
            slot.touched_attributes.get_or_insert(time);
        }
        (!slot.pending && slot.version.exact && slot.doubted_by(slot.captured).is_some()).then_some(id)
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Versions that are not the newest of their path.
    pub(super) fn superseded(&self) -> usize {
        self.entries.len() - self.chains.len()
    }

    /// Up to `limit` versions after that one, in the order of their ids.
    pub(super) fn after(&self, id: VersionId, limit: usize) -> impl Iterator<Item = (VersionId, &Entry)> {
        let range = self.entries.range((Bound::Excluded(id), Bound::Unbounded));
        range.map(|(id, entry)| (*id, entry)).take(limit)
    }

    /// Versions of inodes that had several names; of a resting one the id alone is known.
    pub(super) fn several_names(&self) -> impl Iterator<Item = (VersionId, Option<&Version>)> {
        self.entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Here(slot) => {
                let several = slot.version.recorded.state().is_some_and(|state| state.nlink > 1);
                several.then_some((*id, Some(&slot.version)))
            }
            Entry::Resting(resting) => (resting.traits & Resting::SEVERAL_NAMES != 0).then_some((*id, None)),
        })
    }

    /// Every path at which something stands, in order, with its newest version.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&HostPath, &Slot)> {
        self.chains.iter().filter_map(|(path, chain)| Some((path, self.slot(*chain.last()?)?)))
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

    /// Drops versions; a chain never loses its newest one while something stands there.
    pub(super) fn drop_versions(&mut self, ids: &BTreeSet<VersionId>) {
        ids.iter().for_each(|id| {
            self.entries.remove(id);
        });
        self.chains.retain(|_, chain| {
            chain.retain(|id| !ids.contains(id));
            !chain.is_empty()
        });
    }

    /// What retention may drop: older than `before_ns`, superseded, not of a baseline, not pinned. Of a path that is gone, all.
    pub(super) fn droppable(&self, before_ns: i64) -> BTreeSet<VersionId> {
        let mut ids = BTreeSet::new();
        for (_, chain) in self.chains.iter().filter(|(path, _)| !self.pins.contains(*path)) {
            let Some((newest, earlier)) = chain.split_last() else { continue };
            let is = |id: &VersionId, what: &dyn Fn(&Entry) -> bool| self.entries.get(id).is_some_and(what);
            let gone_for_long = is(newest, &|newest| newest.is_absent() && newest.is_before(before_ns));
            let old = |entry: &Entry| entry.is_before(before_ns) && (gone_for_long || !entry.is_baseline());
            let old = earlier.iter().filter(|id| is(id, &old));
            ids.extend(old.chain(gone_for_long.then_some(newest)));
        }
        ids
    }

    /// The beginnings of all digests that versions name.
    pub(super) fn live(&self) -> BTreeSet<u64> {
        let versions = self.entries.values().filter_map(Entry::digest);
        versions.chain(self.kept.keys().map(Digest::prefix)).collect()
    }
}
