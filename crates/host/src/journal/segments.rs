// SPDX-License-Identifier: Apache-2.0
//! Segments: how a new one begins, and when the oldest go.
//!
//! Input: the end of the chain, and a checkpoint of the engine if there is one. Output: a new file that says again what is
//! open or undoable, so that the files before it may go. Invariants: it is on disk before the anchor names it, and the anchor
//! has forgotten a file before it is removed; the newest checkpoint and what follows it stay; when the new one cannot be made,
//! the old one goes on.

use super::anchor::Mark;
use super::frame::{self, Header};
use super::record::{json, kind};
use super::scan::{anchor_path, segment_path};
use super::write::Inner;
use super::{Error, io_error};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use thymus_engine::Timestamp;

impl Inner {
    /// Begins a new segment: the checkpoint, then what is open or undoable.
    pub(super) fn rotate(&mut self, time: Timestamp, checkpoint: Option<&[u8]>) -> Result<(), Error> {
        self.flush()?;
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        let segment = self.anchor.segment + 1;
        let path = segment_path(&self.directory, segment);
        let header = Header { segment, before: self.head };
        let (mut bytes, mut head) = (header.encode().to_vec(), header.seed());
        let mut add = |kind, payload: &[u8]| -> Result<(), Error> {
            head = frame::write(&mut bytes, &head, kind, time.0, payload)
                .ok_or(Error::TooLarge { bytes: payload.len(), limit: frame::PAYLOAD_BYTES_MAX })?;
            Ok(())
        };
        if let Some(engine) = checkpoint {
            add(kind::CHECKPOINT, engine)?;
        }
        for story in self.ledger.stories.values() {
            add(kind::CARRIED, &json(story)?)?;
        }
        for incident in &self.ledger.incidents_undone {
            add(kind::INCIDENT_UNDONE, &json(incident)?)?;
        }
        let made = new_file(&path).and_then(|file| {
            file.write_all_at(&bytes, 0).map_err(io_error("write", &path))?;
            file.sync_all().map_err(io_error("sync", &path))?;
            sync_directory(&self.directory)?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // The old segment goes on; half a new one would be taken for a torn tail at best.
                let _ = std::fs::remove_file(&path);
                return Err(error);
            }
        };
        let length = bytes.len() as u64;
        self.segments.push(segment);
        let mark = Mark { length, head };
        (self.anchor.segment, self.anchor.synced, self.anchor.written) = (segment, mark, mark);
        let doomed = self.doomed(checkpoint.is_some());
        self.anchor.first = self.segments[doomed];
        (self.file, self.path, self.head, self.written, self.reserved) = (Arc::new(file), path, head, length, 0);
        let anchor_at = anchor_path(&self.directory);
        self.anchor.write(&self.anchor_file).map_err(io_error("write", &anchor_at))?;
        self.anchor_file.sync_data().map_err(io_error("sync", &anchor_at))?;
        for segment in self.segments.drain(..doomed) {
            let path = segment_path(&self.directory, segment);
            std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    /// How many of the oldest segments go. Without a new checkpoint none does: the newest one must stay.
    fn doomed(&self, checkpointed: bool) -> usize {
        if !checkpointed {
            return 0;
        }
        let size =
            |segment: &u64| std::fs::metadata(segment_path(&self.directory, *segment)).map_or(0, |data| data.len());
        let mut total: u64 = self.segments.iter().map(size).sum();
        let mut doomed = 0;
        while total > self.options.total_bytes && doomed + 1 < self.segments.len() {
            total -= size(&self.segments[doomed]).min(total);
            doomed += 1;
        }
        doomed
    }
}

pub(super) fn new_file(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(io_error("create", path))
}

pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync", path))
}
