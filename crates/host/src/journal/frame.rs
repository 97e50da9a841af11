// SPDX-License-Identifier: Apache-2.0
//! Bytes to frames and back.
//!
//! A segment is a header of 64 bytes (magic, format, number, hash before) and frames. A frame is length (u32), kind (u8),
//! time (u64), payload, and the BLAKE3 of all that after the hash before it. Little endian. The chain begins with the hash
//! of the header, so a segment is tied to the one before.

use std::io::Read;

pub(super) const MAGIC: [u8; 8] = *b"THYMUSJ\x01";
/// Changes when the meaning of a payload does.
pub(super) const FORMAT: u32 = 5;
pub(super) const HEADER_BYTES: usize = 64;
/// Length, kind and time.
pub(super) const PREFIX_BYTES: usize = 13;
pub(super) const HASH_BYTES: usize = 32;
/// LIMIT: bytes of one payload; a checkpoint of the engine is the largest.
pub(super) const PAYLOAD_BYTES_MAX: usize = 128 << 20;

pub(super) type Hash = [u8; HASH_BYTES];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) segment: u64,
    pub(super) before: Hash,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.before);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        if bytes[..8] != MAGIC {
            return Err("this is not a journal segment; expected it to begin with `THYMUSJ`".to_owned());
        }
        let format = u32::from_le_bytes(array(&bytes[8..12]));
        if format != FORMAT {
            return Err(format!("written in format {format}; this version reads format {FORMAT}"));
        }
        let header = Self { segment: u64::from_le_bytes(array(&bytes[16..24])), before: array(&bytes[24..56]) };
        if header.encode() != *bytes {
            return Err("the segment's header was altered: its unused bytes are not zero".to_owned());
        }
        Ok(header)
    }

    /// Where the chain of this segment begins.
    pub(super) fn seed(&self) -> Hash {
        *blake3::hash(&self.encode()).as_bytes()
    }
}

/// INVARIANT: callers slice exactly `N` bytes.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

fn prefix(length: u32, kind: u8, time: u64) -> [u8; PREFIX_BYTES] {
    let mut bytes = [0; PREFIX_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = kind;
    bytes[5..13].copy_from_slice(&time.to_le_bytes());
    bytes
}

fn chain(before: &Hash, prefix: &[u8; PREFIX_BYTES], payload: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(prefix).update(payload);
    *hasher.finalize().as_bytes()
}

/// Appends one frame to `out`; gives the new head. `None`: the payload is too large.
pub(super) fn write(out: &mut Vec<u8>, before: &Hash, kind: u8, time: u64, payload: &[u8]) -> Option<Hash> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= PAYLOAD_BYTES_MAX)?;
    let prefix = prefix(length, kind, time);
    let hash = chain(before, &prefix, payload);
    out.extend_from_slice(&prefix);
    out.extend_from_slice(payload);
    out.extend_from_slice(&hash);
    Some(hash)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes from the start of the file.
    pub(super) offset: u64,
    pub(super) kind: u8,
    pub(super) time: u64,
    pub(super) payload: Vec<u8>,
    pub(super) hash: Hash,
}

#[derive(Debug)]
pub(super) enum Failure {
    /// The file ends within the frame at this offset.
    Short {
        offset: u64,
    },
    /// The frame at this offset is not what was written; `last` when the file ends with it.
    Bad {
        offset: u64,
        why: String,
        last: bool,
    },
    Io(std::io::Error),
}

/// Reads one segment front to back, checking as it goes. Memory: one payload, never more than what the file still holds.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    offset: u64,
    length: u64,
    head: Hash,
    failed: bool,
}

impl<R: Read> Frames<R> {
    /// `length`: bytes of the file.
    pub(super) fn open(mut reader: R, length: u64) -> Result<(Header, Self), Failure> {
        if length < HEADER_BYTES as u64 {
            return Err(Failure::Short { offset: 0 });
        }
        let mut bytes = [0; HEADER_BYTES];
        reader.read_exact(&mut bytes).map_err(Failure::Io)?;
        let bad = |why| Failure::Bad { offset: 0, why, last: false };
        let header = Header::decode(&bytes).map_err(bad)?;
        let head = header.seed();
        Ok((header, Self { reader, offset: HEADER_BYTES as u64, length, head, failed: false }))
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn head(&self) -> Hash {
        self.head
    }

    fn read(&mut self) -> Result<Option<Frame>, Failure> {
        let (offset, left) = (self.offset, self.length - self.offset);
        if left == 0 {
            return Ok(None);
        }
        if left < (PREFIX_BYTES + HASH_BYTES) as u64 {
            return Err(Failure::Short { offset });
        }
        let mut bytes = [0; PREFIX_BYTES];
        self.reader.read_exact(&mut bytes).map_err(Failure::Io)?;
        let length = u32::from_le_bytes(array(&bytes[..4]));
        let total = u64::from(length) + (PREFIX_BYTES + HASH_BYTES) as u64;
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > PAYLOAD_BYTES_MAX {
            let why = format!("a record claims {length} bytes; the limit is {PAYLOAD_BYTES_MAX}");
            return Err(Failure::Bad { offset, why, last: false });
        }
        if total > left {
            return Err(Failure::Short { offset });
        }
        let mut payload = vec![0; size];
        self.reader.read_exact(&mut payload).map_err(Failure::Io)?;
        let mut hash = [0; HASH_BYTES];
        self.reader.read_exact(&mut hash).map_err(Failure::Io)?;
        if chain(&self.head, &bytes, &payload) != hash {
            let why = "a record does not have the hash that the chain demands: it was altered, or one before it was \
                       taken out"
                .to_owned();
            return Err(Failure::Bad { offset, why, last: total == left });
        }
        self.offset += total;
        self.head = hash;
        Ok(Some(Frame { offset, kind: bytes[4], time: u64::from_le_bytes(array(&bytes[5..13])), payload, hash }))
    }
}

impl<R: Read> Iterator for Frames<R> {
    type Item = Result<Frame, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let frame = self.read().transpose();
        self.failed = matches!(frame, Some(Err(_)));
        frame
    }
}

/// Any payloads, each with its kind, as a whole segment: what a reader meets behind the hashes.
pub(super) fn segment(segment: u64, payloads: &[(u8, &[u8])]) -> Vec<u8> {
    let header = Header { segment, before: [7; HASH_BYTES] };
    let (mut bytes, mut head) = (header.encode().to_vec(), header.seed());
    for (time, (kind, payload)) in (0..).zip(payloads) {
        head = write(&mut bytes, &head, *kind, time, payload).unwrap_or(head);
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> (usize, bool) {
        match Frames::open(bytes, bytes.len() as u64) {
            Err(_) => (0, false),
            Ok((_, frames)) => {
                let (mut good, mut whole) = (0, true);
                for frame in frames {
                    match frame {
                        Ok(_) => good += 1,
                        Err(_) => whole = false,
                    }
                }
                (good, whole)
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            read_all(&bytes);
            let mut after_header = Header { segment: 1, before: [0; HASH_BYTES] }.encode().to_vec();
            after_header.extend(bytes);
            read_all(&after_header);
        }

        #[test]
        fn one_changed_byte_is_always_seen(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..8),
            at in any::<proptest::sample::Index>(),
            flip in 1u8..=255,
        ) {
            let payloads: Vec<(u8, &[u8])> = payloads.iter().map(|payload| (2, payload.as_slice())).collect();
            let mut bytes = segment(3, &payloads);
            prop_assert_eq!(read_all(&bytes), (payloads.len(), true));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(!read_all(&bytes).1, "byte {} changed unseen", at);
        }
    }
}
