// SPDX-License-Identifier: Apache-2.0
//! The hot path: a file activity becomes versions to be captured. Waits for no disk and no capture.
//!
//! What it asks the kernel (one `openat2` as a path only, one `statx`) causes no permission event and reads no content.

use super::capture;
use super::index::{Departed, Fresh, Held, Index, Touch};
use super::worker::Job;
use super::{Inner, Kind, Recorded, State, Version};
use rustix::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thymus_engine::event::{Change, FileActivity, FileActivityId, FileKind, Mode};
use thymus_engine::id::{ProcessKey, Timestamp, VersionId};
use thymus_engine::path::HostPath;

/// LIMIT: children of a renamed directory whose paths are followed; more are counted as `children_skipped`.
const CHILDREN_MAX: usize = 10_000;

/// LIMIT: logs without a name that are followed; of more, the oldest is left, which is counted.
const DEPARTED_MAX: usize = 32;

/// What one note leaves to do when the index is unlocked again.
#[derive(Default)]
struct Aftermath {
    jobs: Vec<Job>,
    /// Versions that are complete without a reading.
    settled: Vec<Version>,
    inexact: Vec<VersionId>,
    /// Whoever opens or changes what stands there must ask again.
    asked_again: Vec<HostPath>,
}

struct Noted<'a> {
    activity: &'a FileActivity,
    time: Timestamp,
    unix_ns: i64,
    /// When the note was taken; changes after it are later changes.
    now: Timestamp,
    /// What stands at the path that changed, just now.
    found: Option<State>,
    inode: Option<u64>,
}

impl Inner {
    /// False: it concerns an inode that stands there no longer; its name is somebody else's by now.
    pub(super) fn note(&self, activity: &mut FileActivity, time: Timestamp) -> bool {
        use FileActivityId as Id;
        let asks = match activity.activity {
            Id::Read => return true, // nothing changed
            Id::Open | Id::Update | Id::Delete => None,
            Id::Rename | Id::Link => activity.file_result.clone(),
            Id::Create | Id::Close | Id::SetAttributes | Id::SetSecurity | Id::Truncate => {
                Some(activity.file.path.clone())
            }
        };
        let found = asks.and_then(|path| self.metadata(&path));
        if let Some(state) = &found {
            activity.mode = Some(Mode { bits: state.mode, uid: state.uid, gid: state.gid });
            // A close does not say what was closed.
            if !matches!(activity.activity, Id::Rename | Id::Link) {
                activity.kind = kind_of(state.kind).unwrap_or(activity.kind);
            }
        }
        let guarded = self.guards(&activity.file.path);
        let guarded_result = activity.file_result.as_ref().is_some_and(|path| self.guards(path));
        if !guarded && !guarded_result {
            return true;
        }
        let inode = Some(activity.file.key.inode).filter(|inode| *inode != 0);
        if !self.stands(activity, inode, found.as_ref()) {
            return false;
        }
        // Our own hands do not say which inode they wrote: its other names have changed with it.
        let several = |state: &&State| state.nlink > 1 && state.kind == Kind::Regular;
        let inode = inode.or(found.as_ref().filter(several).map(|state| state.key.inode));
        let noted = Noted { activity, time, unix_ns: self.unix(time), now: super::boot_now(), found, inode };
        let mut after = Aftermath::default();
        let (change, change_result) = {
            let mut index = self.index();
            match noted.activity.activity {
                Id::Read => (None, None), // left above
                Id::Open | Id::Update => {
                    self.opened(&mut index, &noted, &mut after);
                    if noted.activity.activity == Id::Open && inode.is_some_and(|inode| self.gate().opened(inode)) {
                        after.asked_again.push(activity.file.path.clone());
                    }
                    (None, None)
                }
                Id::Close | Id::Create | Id::SetAttributes | Id::SetSecurity | Id::Truncate => {
                    (Some(self.changed(&mut index, &noted, &activity.file.path, &mut after)), None)
                }
                Id::Delete => {
                    // Its number may name another file soon. Where it has more names, knowing it anew costs one look.
                    inode.into_iter().for_each(|inode| self.gate().forget(inode));
                    (Some(self.removed(&mut index, &noted, &activity.file.path, "deleted", &mut after)), None)
                }
                Id::Rename => self.renamed(&mut index, &noted, guarded, guarded_result, &mut after),
                Id::Link => {
                    let to = activity.file_result.as_ref().filter(|_| guarded_result);
                    let change = to.map(|to| self.changed(&mut index, &noted, to, &mut after));
                    if let (Some(inode), true) = (inode, guarded) {
                        index.linked(inode, &activity.file.path);
                    }
                    (None, change)
                }
            }
        };
        for path in &after.asked_again {
            self.ask_again(path);
        }
        activity.change = change;
        activity.change_result = change_result;
        let mut records: Vec<_> = after.settled.into_iter().flat_map(super::log::Record::of_version).collect();
        records.extend(after.inexact.into_iter().map(super::log::Record::Inexact));
        self.enqueue(after.jobs, records);
        true
    }

    /// Follows which inode stands at a path. A program may close, late, what it had open under a name that is gone, or was
    /// given to another file since (`useradd` does both, and a daemon whose log was replaced): that is no change of the name.
    fn stands(&self, activity: &FileActivity, inode: Option<u64>, found: Option<&State>) -> bool {
        use FileActivityId as Id;
        let path = &activity.file.path;
        let mut index = self.index();
        let known = |index: &mut Index, path: &HostPath| match inode {
            Some(inode) => index.stands(path, Some(inode)),
            None => index.stands_unknown(path),
        };
        match activity.activity {
            Id::Read => {}
            Id::Create => known(&mut index, path),
            Id::Delete => index.stands(path, None),
            Id::Rename | Id::Link => {
                if activity.activity == Id::Rename {
                    index.stands(path, None);
                }
                if let Some(result) = &activity.file_result {
                    known(&mut index, result);
                }
            }
            // Our own hands replaced it: which inode they made is not told.
            Id::Close if inode.is_none() => index.stands_unknown(path),
            Id::Open | Id::Update | Id::Close | Id::SetAttributes | Id::SetSecurity | Id::Truncate => {
                let Some(inode) = inode.filter(|inode| index.is_replaced(path, *inode)) else { return true };
                drop(index);
                let asked = if found.is_some() { None } else { self.metadata(path) };
                let now = found.or(asked.as_ref()).map(|state| state.key.inode);
                if now != Some(inode) {
                    return false;
                }
                self.index().stands(path, Some(inode));
            }
        }
        true
    }

    fn ask_again(&self, path: &HostPath) {
        let Some(group) = super::locked(&self.group).upgrade() else { return };
        if let Some(place) = capture::open_anywhere(self.root.as_fd(), path.as_bytes()) {
            group.ask_again_at(&place);
        }
    }

    /// Metadata of what stands there now, on whatever file system; `None` when it is gone or cannot be reached.
    fn metadata(&self, path: &HostPath) -> Option<State> {
        let object = capture::open_anywhere(self.root.as_fd(), path.as_bytes())?;
        Some(capture::metadata(&capture::statx(&object).ok()?))
    }

    /// Opened for writing, or written for the first time: what was captured before stands, if it was captured before.
    fn opened(&self, index: &mut Index, noted: &Noted<'_>, after: &mut Aftermath) {
        let path = &noted.activity.file.path;
        self.insert_before(index, noted, path, after);
        self.touch(index, path, noted, after);
    }

    fn touch(&self, index: &mut Index, path: &HostPath, noted: &Noted<'_>, after: &mut Aftermath) {
        let what = match noted.activity.activity {
            FileActivityId::SetAttributes | FileActivityId::SetSecurity => Touch::Attributes,
            _ => Touch::Content,
        };
        let Some(id) = index.touch(path, noted.time, what) else { return };
        let touched_ns = self.unix(noted.time).saturating_sub(super::index::TICK_NS);
        let Some(slot) = index.slot_mut(id) else { return };
        // The reading ended after that touch; did it see it?
        if slot.version.recorded.state().is_some_and(|state| state.ctime_ns >= touched_ns) {
            slot.version.exact = false;
            after.inexact.push(id);
            self.tally.inexact.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A new version of `path`, to be captured; of its inode's other names too.
    fn changed(&self, index: &mut Index, noted: &Noted<'_>, path: &HostPath, after: &mut Aftermath) -> Change {
        use FileActivityId as Id;
        let created_by_name = matches!(noted.activity.activity, Id::Create | Id::Rename | Id::Link);
        self.insert_before(index, noted, path, after);
        let before = index.newest_of(path);
        let absent_before = before.map_or(created_by_name || index.baseline_done, |(_, absent)| absent);
        self.touch(index, path, noted, after);
        let id = index.allocate(Fresh {
            path,
            writer: noted.activity.actor,
            time: noted.time,
            unix_ns: noted.unix_ns,
            note: word(noted.activity.activity),
        });
        let empty = noted.activity.activity == Id::Create && noted.activity.kind == FileKind::Regular;
        after.jobs.push(self.capture_of(noted, id, path, empty));
        if let Some(inode) = noted.inode {
            let mut gate = self.gate();
            let asks_again = match noted.activity.activity {
                Id::Rename | Id::Link => !gate.knows(inode), // another name changes no content
                _ => gate.changed(inode, noted.time),
            };
            drop(gate);
            if asks_again {
                after.asked_again.push(path.clone());
            }
            let several = noted.found.as_ref().is_some_and(|state| state.nlink > 1 && state.kind != Kind::Directory);
            if several {
                index.linked(inode, path);
            }
            let changed = noted.activity.activity;
            let has_content = matches!(changed, Id::Close | Id::SetAttributes | Id::SetSecurity | Id::Truncate);
            for name in if has_content { index.other_names(inode, path) } else { Vec::new() } {
                self.touch(index, &name, noted, after);
                let id = index.allocate(Fresh {
                    path: &name,
                    writer: noted.activity.actor,
                    time: noted.time,
                    unix_ns: noted.unix_ns,
                    note: "changed by another name",
                });
                after.jobs.push(self.capture_of(noted, id, &name, false));
            }
        }
        Change {
            before: before.map_or(VersionId::UNKNOWN, |(id, _)| id),
            created: absent_before,
            after: id,
            removed: false,
        }
    }

    fn capture_of(&self, noted: &Noted<'_>, id: VersionId, path: &HostPath, empty: bool) -> Job {
        let closed = noted.activity.activity == FileActivityId::Close && path == &noted.activity.file.path;
        Job::Capture { id, path: path.clone(), inode: noted.inode, time: noted.time, noted: noted.now, empty, closed }
    }

    /// `path` is gone.
    fn removed(
        &self,
        index: &mut Index,
        noted: &Noted<'_>,
        path: &HostPath,
        note: &str,
        after: &mut Aftermath,
    ) -> Change {
        self.insert_last_of_log(index, noted, path, after);
        let before = index.newest_of(path);
        self.touch(index, path, noted, after);
        let fresh = Fresh { path, writer: noted.activity.actor, time: noted.time, unix_ns: noted.unix_ns, note };
        let id = self.settle_at_once(index, fresh, State::absent(), after);
        if let Some(inode) = noted.inode {
            index.unlinked(inode, path);
        }
        Change {
            before: before.map_or(VersionId::UNKNOWN, |(id, _)| id),
            created: before.is_some_and(|(_, absent)| absent),
            after: id,
            removed: true,
        }
    }

    pub(super) fn restored(&self, paths: &[(&HostPath, VersionId)], writer: ProcessKey) {
        let (now, mut after) = (super::boot_now(), Aftermath::default());
        let unix_ns = self.unix(now);
        let known = |(_, base): &(_, VersionId)| self.known(*base).ok()?.recorded.state().cloned();
        let states: Vec<State> = paths.iter().map(|restored| known(restored).unwrap_or_default()).collect();
        let mut index = self.index();
        for ((path, _), state) in paths.iter().zip(states) {
            index.stands_unknown(path);
            index.touch(path, now, Touch::Content);
            let fresh = Fresh { path, writer, time: now, unix_ns, note: "restored" };
            self.settle_at_once(&mut index, fresh, state, &mut after);
        }
        drop(index);
        let records = after.settled.into_iter().flat_map(super::log::Record::of_version).collect();
        self.enqueue(after.jobs, records);
    }

    fn settle_at_once(&self, index: &mut Index, fresh: Fresh<'_>, state: State, after: &mut Aftermath) -> VersionId {
        self.settle_as_seen(index, fresh, state, true, after)
    }

    fn settle_as_seen(
        &self,
        index: &mut Index,
        fresh: Fresh<'_>,
        state: State,
        exact: bool,
        after: &mut Aftermath,
    ) -> VersionId {
        let id = index.allocate(fresh);
        if let Some(slot) = index.slot_mut(id) {
            slot.version.recorded = Recorded::State(state);
            slot.version.exact = exact;
            slot.pending = false;
            after.settled.push(slot.version.clone());
        }
        id
    }

    fn renamed(
        &self,
        index: &mut Index,
        noted: &Noted<'_>,
        guarded: bool,
        guarded_result: bool,
        after: &mut Aftermath,
    ) -> (Option<Change>, Option<Change>) {
        let from = &noted.activity.file.path;
        let to = noted.activity.file_result.as_ref().filter(|_| guarded_result);
        if let Some(to) = to {
            self.insert_last_of_log(index, noted, to, after);
        }
        let change = guarded.then(|| self.removed(index, noted, from, "renamed away", after));
        if let (Some(inode), Some(to)) = (noted.inode, noted.activity.file_result.as_ref()) {
            index.renamed(inode, to);
        }
        let change_result = to.map(|to| self.changed(index, noted, to, after));
        if noted.activity.kind == FileKind::Directory {
            self.children_renamed(index, noted, guarded, to, after);
        }
        (change, change_result)
    }

    /// The paths below a renamed directory change with it. From outside the protected trees they are found by a walk.
    fn children_renamed(
        &self,
        index: &mut Index,
        noted: &Noted<'_>,
        guarded: bool,
        to: Option<&HostPath>,
        after: &mut Aftermath,
    ) {
        let from = &noted.activity.file.path;
        let (children, more) = if guarded { index.below(from, CHILDREN_MAX) } else { (Vec::new(), false) };
        if more {
            self.tally.children_skipped.fetch_add(1, Ordering::Relaxed);
        }
        fn fresh<'a>(noted: &Noted<'_>, path: &'a HostPath, note: &'a str) -> Fresh<'a> {
            Fresh { path, writer: noted.activity.actor, time: noted.time, unix_ns: noted.unix_ns, note }
        }
        for child in &children {
            let Some(latest) = index.latest(child).filter(|slot| !slot.is_absent()) else { continue };
            let known = latest.version.recorded.state().filter(|_| !latest.pending).cloned();
            self.settle_at_once(index, fresh(noted, child, "its directory was renamed away"), State::absent(), after);
            let Some(to) = to else { continue };
            let mut path = to.as_bytes().to_vec();
            path.extend_from_slice(&child.as_bytes()[from.as_bytes().len()..]);
            let path = HostPath::new(&path);
            if !self.guards(&path) {
                continue;
            }
            match known {
                Some(state) => {
                    self.settle_at_once(index, fresh(noted, &path, "its directory was renamed"), state, after);
                }
                None => {
                    let id = index.allocate(fresh(noted, &path, "its directory was renamed"));
                    let (time, noted) = (noted.time, noted.now);
                    after.jobs.push(Job::Capture { id, path, inode: None, time, noted, empty: false, closed: false });
                }
            }
        }
        if let Some(to) = to.filter(|_| children.is_empty()) {
            after.jobs.push(Job::Walk { path: to.clone(), writer: noted.activity.actor, time: noted.time });
        }
    }

    /// What the vault saw of this inode, outside any event, before this one: the state of a log at its last capture, and
    /// the state of a file that had no version yet. Without it "before" would be older than the truth.
    fn insert_before(&self, index: &mut Index, noted: &Noted<'_>, path: &HostPath, after: &mut Aftermath) {
        let Some(inode) = noted.inode else { return };
        let latest = index.latest(path);
        let since = latest.map_or(Timestamp(0), |slot| slot.since.max(slot.captured));
        let (image, note) = if self.rules.is_log(path) {
            if latest.is_some_and(|slot| slot.pending) {
                return;
            }
            (self.gate().longest_between(inode, since, noted.time), "log, before it was opened or changed")
        } else if latest.is_none() && !index.baseline_done {
            (self.gate().last_before(inode, noted.time), "before the first change")
        } else {
            return;
        };
        let Some(image) = image else { return };
        // Logs only grow: what is shorter than what is known was cut by the very change that is being noted.
        let known = latest.and_then(|slot| slot.version.recorded.state());
        if known.is_some_and(|state| state.size > image.state.size || state.same_as(&image.state)) {
            return;
        }
        let fresh = Fresh { path, writer: ProcessKey::default(), time: image.end, unix_ns: self.unix(image.end), note };
        let id = self.settle_as_seen(index, fresh, image.state, image.stable, after);
        if let Some(slot) = index.slot_mut(id) {
            (slot.captured, slot.gated) = (image.end, image.gated);
        }
    }

    /// A log is about to lose its name: everything up to now is still to be read through the descriptor that we hold, and
    /// what its daemon goes on to write to it.
    fn insert_last_of_log(&self, index: &mut Index, noted: &Noted<'_>, path: &HostPath, after: &mut Aftermath) {
        let Some(Held { file, .. }) = index.held.remove(path) else { return };
        let id = index.allocate(Fresh {
            path,
            writer: ProcessKey::default(),
            time: noted.time,
            unix_ns: noted.unix_ns,
            note: "log, before it was replaced or removed",
        });
        let departed = Departed { id, file: Arc::clone(&file), since: noted.now };
        after.jobs.push(Job::Held { id, file });
        if index.departed.len() >= DEPARTED_MAX {
            index.departed.pop_front();
            self.tally.departed_left.fetch_add(1, Ordering::Relaxed);
        }
        index.departed.push_back(departed);
    }
}

const fn kind_of(kind: Kind) -> Option<FileKind> {
    match kind {
        Kind::Absent => None,
        Kind::Regular => Some(FileKind::Regular),
        Kind::Directory => Some(FileKind::Directory),
        Kind::Symlink => Some(FileKind::Symlink),
        Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket => Some(FileKind::Other),
    }
}

const fn word(activity: FileActivityId) -> &'static str {
    match activity {
        FileActivityId::Create => "create",
        FileActivityId::Close => "close",
        FileActivityId::SetAttributes => "attributes",
        FileActivityId::SetSecurity => "security",
        FileActivityId::Rename => "rename",
        FileActivityId::Link => "link",
        FileActivityId::Open | FileActivityId::Update => "write",
        FileActivityId::Read => "read",
        FileActivityId::Delete => "delete",
        FileActivityId::Truncate => "truncate",
    }
}
