// SPDX-License-Identifier: Apache-2.0
//! A path's states since it was last known to be clean, and whose each of them is.
//!
//! Input: the changes of one path, in order. Output: its writes, oldest first, and which writers gained or lost a
//! reference by each change. At most [`WRITES_PER_PATH_MAX`] are kept.

use crate::event::{Change, FileKind};
use crate::graph::InvocationId;
use crate::id::{IncidentId, ProcessKey, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

/// LIMIT: writes kept of one path. Neighbours of one invocation are joined first; when none are, the oldest goes
/// and is counted in [`Counters::writes_dropped`](super::Counters::writes_dropped).
pub const WRITES_PER_PATH_MAX: usize = 64;

/// What one process made of a path, without another one coming between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// State before the first of these; 0 when the vault never had it.
    pub before: VersionId,
    /// The path did not exist before.
    pub created: bool,
    /// First and last of the versions it wrote; 0 while it still writes, and outside protected trees.
    pub first: VersionId,
    pub last: VersionId,
    /// The path does not exist after it.
    pub removed: bool,
    /// Opened and written, not yet closed.
    pub pending: bool,
    pub writer: ProcessKey,
    pub invocation: InvocationId,
    pub since: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileNode {
    pub first_seen: Timestamp,
    /// Who made the first change that we saw.
    pub first_writer: ProcessKey,
    /// It did not exist before that change.
    pub created: bool,
    pub kind: FileKind,
    /// The vault records versions of it.
    pub protected: bool,
    /// Oldest first; at most [`WRITES_PER_PATH_MAX`].
    pub writes: Vec<Write>,
    /// Part of this incident: never evicted.
    pub(crate) incident: Option<IncidentId>,
}

/// What became of the joining of a new write with those before.
pub(super) struct Joined {
    /// Writers that lost their last reference here, one entry each.
    pub(super) released: Vec<(ProcessKey, InvocationId)>,
    /// The new writer gained a reference.
    pub(super) gained: bool,
    pub(super) dropped: bool,
}

impl FileNode {
    #[must_use]
    pub fn last(&self) -> Option<&Write> {
        self.writes.last()
    }

    /// The path exists, as far as we saw.
    #[must_use]
    pub fn present(&self) -> bool {
        self.last().is_none_or(|write| !write.removed)
    }

    /// It was absent before the first write that we keep, and is absent now.
    #[must_use]
    pub fn came_and_went(&self) -> bool {
        self.writes.first().is_some_and(|write| write.created) && !self.present()
    }

    /// Who brought this version.
    #[must_use]
    pub fn writer_of(&self, version: VersionId) -> Option<&Write> {
        if version == VersionId::UNKNOWN {
            return None;
        }
        self.writes.iter().rev().find(|write| write.first <= version && version <= write.last)
    }

    /// First write of an opened file: nothing recorded yet.
    pub(super) fn touch(&mut self, writer: ProcessKey, invocation: InvocationId, time: Timestamp) -> Joined {
        let mut joined = Joined { released: Vec::new(), gained: false, dropped: false };
        if let Some(last) = self.writes.last_mut()
            && last.writer == writer
        {
            last.until = time;
            last.pending = true;
            return joined;
        }
        let before = self.last().map_or(VersionId::UNKNOWN, |last| last.last);
        self.writes.push(Write {
            before,
            created: false,
            first: VersionId::UNKNOWN,
            last: VersionId::UNKNOWN,
            removed: false,
            pending: true,
            writer,
            invocation,
            since: time,
            until: time,
        });
        joined.gained = true;
        self.shorten(&mut joined);
        joined
    }

    /// Whether somebody whom we did not see write changed it after `write`: `change` began from another state. A daemon that
    /// holds a log open is never seen to close it.
    fn is_apart(write: &Write, change: Change) -> bool {
        ![VersionId::UNKNOWN, write.last].contains(&change.before) && write.last != VersionId::UNKNOWN
    }

    /// A recorded (or, outside protected trees, an unrecorded) change of the path.
    pub(super) fn record(
        &mut self,
        change: Change,
        writer: ProcessKey,
        invocation: InvocationId,
        time: Timestamp,
        closing: bool,
    ) -> Joined {
        let mut joined = Joined { released: Vec::new(), gained: false, dropped: false };
        // What was written without having been closed is part of the state that a close records, whoever closes it. Any
        // other change (a rename over the path, a removal, an attribute) is its maker's alone.
        let open = self.writes.iter().rev().take_while(|write| write.pending).count();
        let settled = self.writes.len() - open;
        let mut wrote = false;
        let mut apart = false;
        for (place, write) in self.writes[settled..].iter_mut().enumerate() {
            if !closing && write.writer != writer {
                continue;
            }
            write.pending = false;
            if write.writer == writer && Self::is_apart(write, change) {
                apart = true;
                continue;
            }
            wrote |= write.writer == writer;
            if write.first == VersionId::UNKNOWN {
                write.first = change.after;
                // What several wrote before one of them closed has one state before it.
                if change.before != VersionId::UNKNOWN {
                    write.before = change.before;
                }
                write.created |= place == 0 && change.created;
            }
            write.last = if change.after == VersionId::UNKNOWN { write.last } else { change.after };
            write.removed = change.removed;
            write.until = time;
        }
        if wrote || (!apart && closing && open > 0 && !change.created && !change.removed) {
            return joined; // a closer that did not write has no part in the version
        }
        if let Some(last) = self.writes.last_mut()
            && !last.pending
            && last.writer == writer
            && !Self::is_apart(last, change)
        {
            if last.first == VersionId::UNKNOWN {
                last.first = change.after;
            }
            last.last = if change.after == VersionId::UNKNOWN { last.last } else { change.after };
            last.removed = change.removed;
            last.until = time;
            return joined;
        }
        self.writes.push(Write {
            before: change.before,
            created: change.created,
            first: change.after,
            last: change.after,
            removed: change.removed,
            pending: false,
            writer,
            invocation,
            since: time,
            until: time,
        });
        joined.gained = true;
        self.shorten(&mut joined);
        joined
    }

    fn shorten(&mut self, joined: &mut Joined) {
        if self.writes.len() <= WRITES_PER_PATH_MAX {
            return;
        }
        let of_one = |pair: &[Write]| pair[0].invocation == pair[1].invocation && !pair[0].pending && !pair[1].pending;
        let whole = |pair: &[Write]| [VersionId::UNKNOWN, pair[0].last].contains(&pair[1].before);
        let pairs = || self.writes.windows(2);
        let pair = pairs().position(|pair| of_one(pair) && whole(pair)).or_else(|| pairs().position(of_one));
        match pair {
            Some(at) => {
                let first = self.writes.remove(at);
                let second = &mut self.writes[at];
                joined.released.push((first.writer, first.invocation));
                second.before = first.before;
                second.created = first.created;
                second.first = first.first;
                second.since = first.since;
            }
            None => {
                let oldest = self.writes.remove(0);
                joined.released.push((oldest.writer, oldest.invocation));
                joined.dropped = true;
            }
        }
    }
}
