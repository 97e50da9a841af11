// SPDX-License-Identifier: Apache-2.0
//! What is known of inodes: is the present content stored already, and what was it at earlier instants.
//!
//! Memory only, and its lock is never held over a system call: the thread that answers the kernel's permission events
//! takes it, and must not wait for a thread that itself waits for such an answer.

use super::{Digest, Intent, State};
use std::collections::{BTreeMap, VecDeque};
use thymus_engine::event::Shape;
use thymus_engine::id::Timestamp;

/// LIMIT: earlier states kept of one inode, and of all, until their versions are settled.
const IMAGES_PER_INODE_MAX: usize = 8;
const IMAGES_MAX: usize = 8_192;
/// LIMIT: inodes known; beyond it the unknown are asked for by name, which costs more and loses nothing.
const INODES_MAX: usize = 400_000;
/// A reader waits for the capture of a file up to this size, a writer for any.
const READ_WAIT_BYTES_MAX: u64 = 1 << 20;
/// Opened for writing with a status-change time we do not know (another writer has not closed yet): captured again up to
/// this size, so that a database that is written all the time does not cost a copy at each open.
const AGAIN_BYTES_MAX: u64 = 8 << 20;
/// Of a log, one capture for an access of unknown intent in this time, nanoseconds.
const LOG_INTERVAL_NS: u64 = 1_000_000_000;

/// The state of an inode at one instant.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// When its reading began and ended.
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) state: State,
    pub(super) stable: bool,
    /// Whoever wanted to write had to wait meanwhile.
    pub(super) gated: bool,
    /// Read because the file was closed after writing, and not given to a version yet.
    pub(super) of_close: bool,
    /// What it looked like, when it was read because of a close.
    pub(super) shape: Option<Shape>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// The reading that stored the content began then; `None` when what is stored is not the present content.
    stored: Option<Timestamp>,
    ctime_ns: i64,
    /// A log that daemons append to.
    log: bool,
    /// A capture runs; its outcome is not known yet.
    in_flight: bool,
    /// How often it was closed after writing: a capture that began before the last time stores nothing present.
    closes: u32,
    /// The kernel was told not to ask before accesses.
    ignored: bool,
}

/// What the answering thread asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) ctime_ns: i64,
    /// An open; otherwise a read, write, truncation or mapping of something open (or of a path).
    pub(super) is_open: bool,
    pub(super) intent: Intent,
    pub(super) now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Allow,
    /// Allow, and the kernel need not ask again before the file is changed.
    AllowAndIgnore,
    /// The content must be stored first.
    Capture,
    /// A capture runs: wait for it.
    Join,
    /// Not known here: decide by the path.
    ByPath,
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    inodes: BTreeMap<u64, Known>,
    images: BTreeMap<u64, VecDeque<Image>>,
    order: VecDeque<u64>,
    count: usize,
}

impl Gate {
    /// A version with that state was stored, read from `start` on.
    pub(super) fn stored(&mut self, state: &State, start: Timestamp, log: bool) {
        if self.inodes.len() >= INODES_MAX && !self.inodes.contains_key(&state.key.inode) {
            return;
        }
        let known = self.inodes.entry(state.key.inode).or_default();
        known.log = log;
        if known.stored.is_none_or(|stored| stored < start) {
            known.stored = Some(start);
            known.ctime_ns = state.ctime_ns;
        }
    }

    /// It was changed at `time`: what was stored before is not the present content.
    pub(super) fn changed(&mut self, inode: u64, time: Timestamp) {
        if let Some(known) = self.inodes.get_mut(&inode)
            && known.stored.is_some_and(|stored| stored < time)
        {
            known.stored = None;
        }
    }

    pub(super) fn forget(&mut self, inode: u64) {
        self.inodes.remove(&inode);
    }

    /// An empty file that is about to be written: there is nothing to store of it before it is closed.
    pub(super) fn begun(&mut self, inode: u64, now: Timestamp, log: bool) {
        if self.inodes.len() < INODES_MAX {
            self.inodes.entry(inode).or_insert(Known { stored: Some(now), log, ..Known::default() });
        }
    }

    pub(super) fn decide(&self, access: Access) -> Decision {
        let Some(known) = self.inodes.get(&access.inode) else {
            return if access.intent == Intent::Read { Decision::Allow } else { Decision::ByPath };
        };
        if access.size == 0 {
            return Decision::Allow;
        }
        let reads = access.intent == Intent::Read;
        let moved_on = known.ctime_ns != access.ctime_ns;
        if known.log {
            let wanted = match access.intent {
                // A log that is removed is read to its end through the descriptor that we hold.
                Intent::Read => false,
                Intent::Truncate => moved_on,
                Intent::Write => access.is_open && moved_on,
                Intent::Unknown => {
                    let recent = known.stored.is_some_and(|stored| access.now.since_ns(stored) < LOG_INTERVAL_NS);
                    moved_on && (access.is_open || !recent)
                }
            };
            return match (known.in_flight, wanted) {
                (true, _) if !reads => Decision::Join,
                (false, true) => Decision::Capture,
                _ => Decision::Allow,
            };
        }
        if known.in_flight {
            return if reads && access.size > READ_WAIT_BYTES_MAX { Decision::Allow } else { Decision::Join };
        }
        let again = access.is_open && moved_on && access.size <= AGAIN_BYTES_MAX;
        match known.stored {
            Some(_) if !again => {
                if access.is_open || access.intent == Intent::Write {
                    Decision::Allow
                } else {
                    Decision::AllowAndIgnore
                }
            }
            _ if reads && access.size > READ_WAIT_BYTES_MAX => Decision::Allow,
            _ => Decision::Capture,
        }
    }

    /// A capture begins; gives what [`Gate::finish`] wants to know.
    pub(super) fn begin(&mut self, inode: u64, log: bool) -> u32 {
        let known = self.inodes.entry(inode).or_default();
        known.in_flight = true;
        known.log |= log;
        known.closes
    }

    pub(super) fn in_flight(&self, inode: u64) -> bool {
        self.inodes.get(&inode).is_some_and(|known| known.in_flight)
    }

    /// A capture ended. True when the present content is stored and the kernel may be told not to ask before accesses.
    pub(super) fn finish(&mut self, inode: u64, closes: u32, image: Option<Image>) -> bool {
        let Some(known) = self.inodes.get_mut(&inode) else { return false };
        known.in_flight = false;
        let present = known.closes == closes;
        if let Some(image) = image {
            if present {
                known.stored = Some(image.start);
                known.ctime_ns = image.state.ctime_ns;
            }
            let quiet = present && !known.log;
            known.ignored |= quiet;
            self.remember(inode, image);
            return quiet;
        }
        // It cannot be captured; asking again before the next close would only make everyone wait.
        if present {
            known.stored = Some(Timestamp(u64::MAX));
        }
        false
    }

    /// Closed after writing. Gives whether it is known here, and whether the kernel's ignore mark must be taken back.
    pub(super) fn closed(&mut self, inode: u64) -> (bool, bool) {
        let Some(known) = self.inodes.get_mut(&inode) else { return (false, false) };
        known.stored = None;
        known.closes = known.closes.wrapping_add(1);
        (true, std::mem::take(&mut known.ignored))
    }

    pub(super) fn ignored(&mut self, inode: u64) {
        if let Some(known) = self.inodes.get_mut(&inode) {
            known.ignored = true;
        }
    }

    pub(super) fn remember(&mut self, inode: u64, image: Image) {
        let images = self.images.entry(inode).or_default();
        images.push_back(image);
        self.order.push_back(inode);
        self.count += 1;
        if images.len() > IMAGES_PER_INODE_MAX {
            images.pop_front();
            self.count -= 1;
        }
        while self.count > IMAGES_MAX || self.order.len() > 4 * IMAGES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(images) = self.images.get_mut(&oldest) {
                // Entries of `order` for images that went already take the next one: order is only roughly by age.
                self.count -= usize::from(images.pop_front().is_some());
                if images.is_empty() {
                    self.images.remove(&oldest);
                }
            }
        }
    }

    /// The state that was read at the first close after `time`, once: what stood there when a change ended, not in its midst.
    pub(super) fn take_close(&mut self, inode: u64, time: Timestamp) -> Option<Image> {
        let image = self.images.get_mut(&inode)?.iter_mut().find(|image| image.of_close && image.start >= time)?;
        image.of_close = false;
        Some(image.clone())
    }

    /// The first state that was read after `time`: the content right after a change at that time, unless it was touched since.
    pub(super) fn first_after(&self, inode: u64, time: Timestamp) -> Option<Image> {
        self.images.get(&inode)?.iter().find(|image| image.start >= time).cloned()
    }

    /// The last state that was read before `time`.
    pub(super) fn last_before(&self, inode: u64, time: Timestamp) -> Option<Image> {
        self.images.get(&inode)?.iter().rev().find(|image| image.end <= time).cloned()
    }

    /// The longest state that was read between the two times: of a log, the one nothing was cut from.
    pub(super) fn longest_between(&self, inode: u64, since: Timestamp, until: Timestamp) -> Option<Image> {
        let images = self.images.get(&inode)?.iter().filter(|image| image.start > since && image.end <= until);
        images.max_by_key(|image| image.state.size).cloned()
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.images.values().flatten().filter_map(|image| image.state.digest)
    }
}
