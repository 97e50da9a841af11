// SPDX-License-Identifier: Apache-2.0
//! How long the journal is and what its head is, in a file of its own, so that a cut tail is seen.
//!
//! Two slots are written in turn, so a torn write leaves the older one. Each says what is surely on disk (`synced`) and what
//! was handed to the kernel (`written`): the first must hold for ever, the second as long as the machine has not gone down.

use super::frame::{HASH_BYTES, Hash, array};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const SLOT_BYTES: usize = 128;
const SLOT_STRIDE: u64 = 4_096;
const CHECK_BYTES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes of the segment.
    pub(super) length: u64,
    pub(super) head: Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) sequence: u64,
    pub(super) boot: u64,
    /// The oldest segment that retention has left.
    pub(super) first: u64,
    /// The newest segment; both marks are in it.
    pub(super) segment: u64,
    pub(super) synced: Mark,
    pub(super) written: Mark,
}

impl Anchor {
    pub(super) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        let numbers = [self.sequence, self.boot, self.first, self.segment, self.synced.length, self.written.length];
        for (at, number) in numbers.iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[48..80].copy_from_slice(&self.synced.head);
        bytes[80..112].copy_from_slice(&self.written.head);
        let check = blake3::hash(&bytes[..112]);
        bytes[112..].copy_from_slice(&check.as_bytes()[..CHECK_BYTES]);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let check = blake3::hash(&bytes[..112]);
        if bytes[112..] != check.as_bytes()[..CHECK_BYTES] {
            return None;
        }
        let number = |at: usize| u64::from_le_bytes(array(&bytes[at * 8..][..8]));
        let head = |at: usize| array::<HASH_BYTES>(&bytes[at..][..HASH_BYTES]);
        Some(Self {
            sequence: number(0),
            boot: number(1),
            first: number(2),
            segment: number(3),
            synced: Mark { length: number(4), head: head(48) },
            written: Mark { length: number(5), head: head(80) },
        })
    }

    /// Hands it to the kernel; `file.sync_data()` puts it on disk.
    pub(super) fn write(&mut self, file: &File) -> io::Result<()> {
        self.sequence += 1;
        file.write_all_at(&self.encode(), (self.sequence % 2) * SLOT_STRIDE)
    }

    /// The newest slot that is whole.
    pub(super) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut newest: Option<Self> = None;
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            match file.read_exact_at(&mut bytes, slot * SLOT_STRIDE) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(error),
            }
            if let Some(anchor) = Self::decode(&bytes)
                && newest.is_none_or(|newest| newest.sequence < anchor.sequence)
            {
                newest = Some(anchor);
            }
        }
        Ok(newest)
    }
}
