// SPDX-License-Identifier: Apache-2.0
//! The records of the vault: one append-only file, each record chained to all before it.
//!
//! A frame is a length (u32, little endian), a check of it (4 bytes), a check of all (16 bytes: BLAKE3 of the check before
//! it, the length and the body) and a body (postcard). A process killed in the middle of an append leaves a torn last frame, which is cut off. A frame
//! that is whole but does not check was altered: it is refused, with its place. The head of the chain
//! ([`Log::head`]) can be anchored elsewhere; without that, frames cut off at the end are not noticed.

use super::store::Store;
use super::{Digest, Error, Version, Window};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thymus_engine::id::VersionId;
use thymus_engine::path::HostPath;

const MAGIC: [u8; 8] = *b"thymusV1";
const FRAME_BYTES: usize = 24;
/// A record is a path, a state and its attributes; nothing that is written is longer.
const BODY_BYTES_MAX: usize = 1 << 20;

#[allow(clippy::large_enum_variant, reason = "most records are versions, and few are held at a time")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// No version id below this is ever given out again.
    Reserved(VersionId),
    Version(Version),
    /// That version may hold a later state after all.
    Inexact(VersionId),
    /// Content that belongs to no version.
    Kept {
        digest: Digest,
        unix_ns: i64,
    },
    Pinned(HostPath),
    Unpinned(HostPath),
    Window(Window),
    /// The inode flags of that version, which stands before it; left out where there are none.
    Flags {
        id: VersionId,
        flags: u32,
    },
}

impl Record {
    /// A version and what belongs to it.
    pub(super) fn of_version(version: Version) -> impl Iterator<Item = Self> {
        let flags = version.recorded.state().map_or(0, |state| state.flags);
        let flags = (flags != 0).then_some(Self::Flags { id: version.id, flags });
        std::iter::once(Self::Version(version)).chain(flags)
    }
}

type Check = [u8; 16];

fn first_check() -> Check {
    first_half(&blake3::hash(&MAGIC))
}

fn first_half(hash: &blake3::Hash) -> Check {
    let mut check = Check::default();
    check.copy_from_slice(&hash.as_bytes()[..16]);
    check
}

/// Tells an altered length from a torn frame.
fn length_check(before: &Check, length: &[u8]) -> [u8; 4] {
    let mut check = [0; 4];
    let mut hasher = blake3::Hasher::new();
    check.copy_from_slice(&hasher.update(before).update(length).finalize().as_bytes()[..4]);
    check
}

fn next_check(before: &Check, length: &[u8], body: &[u8]) -> Check {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(length).update(body);
    first_half(&hasher.finalize())
}

/// What a file of records holds.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) records: Vec<Record>,
    /// Bytes that hold whole records.
    end: usize,
    head: Check,
    /// Why what stands at `end` is not the beginning of a record; `None` when nothing stands there, or a torn one.
    altered: Option<String>,
}

/// Total: any bytes give records and the place where they end.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed { records: Vec::new(), end: 0, head: first_check(), altered: None };
    let Some(start) = bytes.get(..MAGIC.len()) else {
        parsed.altered = (!MAGIC.starts_with(bytes)).then(|| "expected the vault's records".into());
        return parsed;
    };
    if start != MAGIC {
        parsed.altered = Some("expected the vault's records".into());
        return parsed;
    }
    parsed.end = MAGIC.len();
    while let Some(frame) = bytes.get(parsed.end..parsed.end + FRAME_BYTES) {
        let length = &frame[..4];
        let size = length.iter().rev().fold(0usize, |size, byte| size << 8 | usize::from(*byte));
        // A disk that lost power may end in zeros.
        let altered = |reason: &str| {
            let zeros = bytes[parsed.end..].iter().all(|byte| *byte == 0);
            (!zeros).then(|| reason.to_owned())
        };
        if frame[4..8] != length_check(&parsed.head, length) || size > BODY_BYTES_MAX {
            parsed.altered = altered("its length does not check");
            return parsed;
        }
        let start = parsed.end + FRAME_BYTES;
        let Some(body) = bytes.get(start..start + size) else { break };
        let check = next_check(&parsed.head, length, body);
        if frame[8..] != check {
            parsed.altered = altered("its checksum does not fit");
            return parsed;
        }
        match postcard::take_from_bytes(body) {
            Ok((record, [])) => parsed.records.push(record),
            Ok(_) | Err(_) => {
                parsed.altered = Some("it checks but is no record of this version of Thymus".into());
                return parsed;
            }
        }
        parsed.head = check;
        parsed.end = start + size;
    }
    parsed
}

#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    end: u64,
    head: Check,
    unsynced: bool,
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Log {
    /// Opens or makes the file; gives its records and the torn bytes cut off.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Record>, u64), Error> {
        let failed = |what: &'static str| move |source| Error::Io { what, path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(failed("open"))?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &file, &mut bytes).map_err(failed("read"))?;
        let parsed = parse(&bytes);
        if let Some(reason) = parsed.altered {
            return Err(Error::Altered {
                path: path.to_owned(),
                offset: size(parsed.end),
                record: size(parsed.records.len()) + 1,
                reason,
            });
        }
        let mut log = Self { path: path.to_owned(), file, end: size(parsed.end), head: parsed.head, unsynced: false };
        let torn = size(bytes.len()) - log.end;
        if torn > 0 {
            log.file.set_len(log.end).map_err(failed("cut the torn end of"))?;
        }
        if log.end == 0 {
            log.file.write_all_at(&MAGIC, 0).map_err(failed("write"))?;
            log.end = size(MAGIC.len());
        }
        Ok((log, parsed.records, torn))
    }

    /// The check of the last record: whoever knows it can tell whether records are missing.
    #[cfg(test)]
    pub(super) fn head(&self) -> [u8; 16] {
        self.head
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// All of `records`, in one write. On error none of them is in the file.
    pub(super) fn append(&mut self, records: &[Record], store: &Store) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what: "write", path, source }
        };
        let (mut frames, mut head) = (Vec::new(), self.head);
        for record in records {
            let body =
                postcard::to_stdvec(record).map_err(|error| failed(&self.path)(io::Error::other(error.to_string())))?;
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
            if body.len() > BODY_BYTES_MAX {
                return Err(failed(&self.path)(io::Error::other("a record is too long")));
            }
            frames.extend_from_slice(&length);
            frames.extend_from_slice(&length_check(&head, &length));
            head = next_check(&head, &length, &body);
            frames.extend_from_slice(&head);
            frames.extend_from_slice(&body);
        }
        if let Err(source) = self.file.write_all_at(&frames, self.end) {
            let _ = self.file.set_len(self.end);
            return Err(failed(&self.path)(source));
        }
        store.charge_record(size(frames.len()));
        self.end += size(frames.len());
        self.head = head;
        self.unsynced = true;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), Error> {
        if self.unsynced {
            self.file.sync_data().map_err(|source| Error::Io { what: "flush", path: self.path.clone(), source })?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Replaces all records by these: a new file takes the old one's place, or nothing changes.
    pub(super) fn replace(&mut self, records: &[Record], store: &Store) -> Result<(), Error> {
        let aside = self.path.with_extension("new");
        let _ = std::fs::remove_file(&aside);
        let (mut fresh, _, _) = Self::open(&aside)?;
        store.charge_record(fresh.end);
        for batch in records.chunks(1_024) {
            fresh.append(batch, store)?;
        }
        fresh.sync()?;
        std::fs::rename(&aside, &self.path).map_err(|source| Error::Io {
            what: "replace",
            path: self.path.clone(),
            source,
        })?;
        if let Some(parent) = self.path.parent().and_then(|parent| File::open(parent).ok()) {
            let _ = parent.sync_all();
        }
        store.refund(self.end);
        fresh.path.clone_from(&self.path);
        *self = fresh;
        Ok(())
    }
}

/// Called by the fuzzer and by the tests: any bytes are read without a panic, and what is accepted is whole.
pub(crate) fn fuzz_log(bytes: &[u8]) {
    let parsed = parse(bytes);
    assert!(parsed.end <= bytes.len());
    if parsed.altered.is_none() {
        let again = parse(&bytes[..parsed.end]);
        assert_eq!((again.records, again.end), (parsed.records, parsed.end));
    }
    // The same bytes behind checks that hold.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let head = first_check();
    let check = next_check(&head, &length, bytes);
    let framed = [MAGIC.as_slice(), &length, &length_check(&head, &length), &check, bytes].concat();
    let parsed = parse(&framed);
    assert!(parsed.records.len() == 1 || parsed.altered.is_some());
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let path = HostPath::new(b"/etc/new\nline \xff");
    let version = Version {
        id: VersionId(3),
        path: path.clone(),
        recorded: super::Recorded::State(super::State::absent()),
        exact: true,
        writer: Default::default(),
        time: Default::default(),
        unix_ns: 5,
        note: "close".to_owned(),
    };
    let records = [
        Record::Reserved(VersionId(9)),
        Record::Pinned(path),
        Record::Kept { digest: Digest::of(b"x"), unix_ns: -1 },
        Record::Version(version),
    ];
    let (mut file, mut head) = (MAGIC.to_vec(), first_check());
    let mut seeds = Vec::new();
    for body in records.iter().filter_map(|record| postcard::to_stdvec(record).ok()) {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let check = next_check(&head, &length, &body);
        file.extend([length.as_slice(), &length_check(&head, &length), &check, &body].concat());
        head = check;
        seeds.push(body);
    }
    seeds.push(file);
    seeds
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn written() -> (Vec<u8>, Vec<Record>) {
        let directory = tempfile::Builder::new().prefix("thymus-log").tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("packs"), 1 << 20).unwrap();
        let path = directory.path().join("versions");
        let (mut log, _, _) = Log::open(&path).unwrap();
        let records: Vec<Record> = (0..6u64)
            .map(|n| match n % 3 {
                0 => Record::Reserved(VersionId(n)),
                1 => Record::Pinned(HostPath::new(b"/etc/new\nline \xff")),
                _ => Record::Kept { digest: Digest::of(b"x"), unix_ns: -1 },
            })
            .collect();
        log.append(&records[..2], &store).unwrap();
        log.append(&records[2..], &store).unwrap();
        let before = log.head();
        drop(log);
        let (log, read, torn) = Log::open(&path).unwrap();
        assert_eq!((read, torn, log.head()), (records.clone(), 0, before));
        (std::fs::read(path).unwrap(), records)
    }

    #[test]
    fn cut_anywhere_it_keeps_what_was_whole() {
        let (bytes, records) = written();
        for cut in 0..bytes.len() {
            let parsed = parse(&bytes[..cut]);
            assert_eq!(parsed.altered, None, "cut at {cut}");
            assert_eq!(parsed.records, records[..parsed.records.len()], "cut at {cut}");
        }
    }

    #[test]
    fn an_altered_record_is_refused_with_its_place() {
        let (bytes, _) = written();
        let directory = tempfile::Builder::new().prefix("thymus-log").tempdir().unwrap();
        let path = directory.path().join("versions");
        let second = MAGIC.len() + FRAME_BYTES + usize::from(bytes[MAGIC.len()]);
        for at in second..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            match Log::open(&path) {
                Err(Error::Altered { path: named, offset, record, .. }) => {
                    assert_eq!(named, path);
                    assert!(record >= 2 && usize::try_from(offset).unwrap() <= at, "byte {at}: record {record}");
                }
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn records_of_any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..400) {
            static WRITTEN: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            fuzz_log(&bytes);
            let mut mixed = WRITTEN.get_or_init(|| written().0).clone();
            let at = at.min(mixed.len());
            mixed.splice(at.., bytes);
            fuzz_log(&mixed);
        }
    }
}
