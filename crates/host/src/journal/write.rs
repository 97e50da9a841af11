// SPDX-License-Identifier: Apache-2.0
//! The end of the chain: how a record comes behind the last one.
//!
//! Input: a kind, a time and a payload. Output: the same as a frame, buffered (what may be lost, and then is counted and
//! said) or handed to the kernel (a promise). Invariants: a promise is there whole or not at all; the anchor is written
//! after what it remembers; an intent is promised only where there is room to settle it.

use super::anchor::{Anchor, Mark};
use super::frame::{self, Hash};
use super::ledger::Ledger;
use super::record::{json, kind};
use super::scan::anchor_path;
use super::{Error, Options, io_error};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use thymus_engine::Timestamp;

/// LIMIT: bytes waiting for a disk that does not take them; beyond, inputs are lost, counted and said in the journal.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// Handed to the kernel when this much has gathered.
pub(super) const BUFFER_BYTES: usize = 64 << 10;
/// Room kept free for settlements, so that what was promised can be settled on a full disk.
const RESERVE_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) directory: PathBuf,
    pub(super) options: Options,
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) segments: Vec<u64>,
    pub(super) anchor: Anchor,
    pub(super) anchor_file: Arc<File>,
    /// Of everything appended, the buffer included.
    pub(super) head: Hash,
    /// Handed to the kernel, at a record's border or within one that a full disk has interrupted.
    pub(super) written: u64,
    pub(super) buffer: Vec<u8>,
    /// Bytes for which room is reserved.
    pub(super) reserved: u64,
    pub(super) ledger: Ledger,
    pub(super) losses: u64,
    pub(super) losses_said: u64,
    /// Bytes at which a new segment is begun without a checkpoint.
    pub(super) rotate_at: u64,
    /// An fsync failed: what is on disk is not known any more.
    pub(super) sync_failed: bool,
}

impl Inner {
    pub(super) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn push(&mut self, kind: u8, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        let head = frame::write(&mut self.buffer, &self.head, kind, time.0, payload)
            .ok_or(Error::TooLarge { bytes: payload.len(), limit: frame::PAYLOAD_BYTES_MAX })?;
        self.head = head;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let mut done = 0;
        let mut result = Ok(());
        while done < self.buffer.len() {
            match self.file.write_at(&self.buffer[done..], self.written) {
                Ok(0) => result = Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(count) => {
                    done += count;
                    self.written += count as u64;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => result = Err(error),
            }
            break;
        }
        self.buffer.drain(..done);
        result.map_err(io_error("append to", &self.path))?;
        self.anchor.written = Mark { length: self.written, head: self.head };
        self.anchor.write(&self.anchor_file).map_err(io_error("write", &anchor_path(&self.directory)))
    }

    /// Buffered append of what may be lost, loudly.
    pub(super) fn append(&mut self, kind: u8, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        if self.buffer.len() >= BUFFER_BYTES
            && let Err(error) = self.flush()
            && self.buffer.len() + payload.len() > BUFFER_BYTES_MAX
        {
            self.losses += 1;
            return Err(error);
        }
        if self.losses > self.losses_said {
            let lost = self.losses - self.losses_said;
            self.push(kind::LOST, time, &json(&lost)?)?;
            self.losses_said = self.losses;
        }
        self.push(kind, time, payload)?;
        if self.end() <= self.rotate_at {
            return Ok(());
        }
        // Nobody made a checkpoint. If there is no room for a new segment either, ask again a quarter later.
        let rotated = self.rotate(time, None);
        self.rotate_at = match rotated {
            Ok(()) => self.options.segment_bytes.saturating_mul(2),
            Err(_) => self.end() + self.options.segment_bytes / 4,
        };
        rotated
    }

    /// Appends a record that must not be lost, or nothing at all.
    pub(super) fn promise(&mut self, kind: u8, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        self.flush()?;
        let (head, written) = (self.head, self.written);
        self.push(kind, time, payload)?;
        let Err(error) = self.flush() else { return Ok(()) };
        // Nobody may find half a promise, or one that was reported as failed.
        if self.file.set_len(written).is_ok() {
            (self.head, self.written) = (head, written);
            self.buffer.clear();
            self.reserved = 0;
        }
        Err(error)
    }

    /// Room for what must be written after an intent.
    pub(super) fn reserve(&mut self) -> Result<(), Error> {
        let wanted = self.end() + RESERVE_BYTES;
        if self.reserved >= wanted {
            return Ok(());
        }
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, self.end(), 2 * RESERVE_BYTES) {
            Ok(()) => self.reserved = self.end() + 2 * RESERVE_BYTES,
            // The file system cannot reserve: a full disk is then met when it comes.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.reserved = u64::MAX,
            Err(error) => return Err(io_error("reserve room in", &self.path)(error.into())),
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Best effort: what is lost here is what a crash would lose.
        if self.flush().is_ok() && self.file.sync_data().is_ok() {
            self.anchor.synced = self.anchor.written;
            let _ = self.anchor.write(&self.anchor_file);
        }
    }
}
