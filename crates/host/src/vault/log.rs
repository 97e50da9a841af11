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
use std::io::{self, BufReader, Read};
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

/// Where a record is in the file, and what its body hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    offset: u64,
    body: u64,
}

impl Place {
    fn of(offset: u64, body: &[u8]) -> Self {
        Self { offset, body: Digest::of(body).prefix() }
    }
}

/// What a file of records holds.
#[derive(Debug)]
struct Parsed {
    records: u64,
    /// Bytes that hold whole records.
    end: u64,
    head: Check,
    /// Why what stands at `end` is not the beginning of a record; `None` when nothing stands there, or a torn one.
    altered: Option<String>,
}

/// How long the body behind this frame is.
fn body_bytes(frame: &[u8]) -> usize {
    frame.iter().take(4).rev().fold(0, |bytes, byte| bytes << 8 | usize::from(*byte))
}

/// The next bytes, at most so many; fewer at the end.
fn next(source: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(bytes);
    source.take(size(bytes)).read_to_end(&mut read)?;
    Ok(read)
}

/// Hands on each whole record with its place. Total: any bytes give records and the place where they end.
fn parse(source: &mut impl Read, each: &mut dyn FnMut(Record, Place)) -> io::Result<Parsed> {
    let mut parsed = Parsed { records: 0, end: 0, head: first_check(), altered: None };
    let magic = next(source, MAGIC.len())?;
    if !MAGIC.starts_with(&magic) {
        parsed.altered = Some("expected the vault's records".into());
    }
    if magic != MAGIC {
        return Ok(parsed);
    }
    parsed.end = size(MAGIC.len());
    parse_records(source, &mut parsed, each)?;
    Ok(parsed)
}

/// The same from where `parsed` ends.
fn parse_records(source: &mut impl Read, parsed: &mut Parsed, each: &mut dyn FnMut(Record, Place)) -> io::Result<()> {
    loop {
        let frame = next(source, FRAME_BYTES)?;
        if frame.len() < FRAME_BYTES {
            return Ok(());
        }
        let (length, bytes) = (&frame[..4], body_bytes(&frame));
        if frame[4..8] != length_check(&parsed.head, length) || bytes > BODY_BYTES_MAX {
            parsed.altered = unless_zeros(&[&frame], source, "its length does not check")?;
            return Ok(());
        }
        let body = next(source, bytes)?;
        if body.len() < bytes {
            return Ok(());
        }
        let check = next_check(&parsed.head, length, &body);
        if frame[8..] != check {
            parsed.altered = unless_zeros(&[&frame, &body], source, "its checksum does not fit")?;
            return Ok(());
        }
        match postcard::take_from_bytes(&body) {
            Ok((record, [])) => each(record, Place::of(parsed.end, &body)),
            Ok(_) | Err(_) => {
                parsed.altered = Some("it checks but is no record of this version of Thymus".into());
                return Ok(());
            }
        }
        parsed.head = check;
        parsed.records += 1;
        parsed.end += size(FRAME_BYTES + bytes);
    }
}

/// A disk that lost power may end in zeros: that is torn, not altered.
fn unless_zeros(read: &[&[u8]], rest: &mut impl Read, reason: &str) -> io::Result<Option<String>> {
    let mut zeros = read.concat().iter().all(|byte| *byte == 0);
    while zeros {
        let block = next(rest, 4_096)?;
        if block.is_empty() {
            break;
        }
        zeros = block.iter().all(|byte| *byte == 0);
    }
    Ok((!zeros).then(|| reason.to_owned()))
}

/// An end that the file had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    end: u64,
    head: Check,
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
    /// Opens or makes the file and hands on its records; gives the torn bytes cut off.
    pub(super) fn open(path: &Path, each: &mut dyn FnMut(Record, Place)) -> Result<(Self, u64), Error> {
        let failed = |what: &'static str| move |source| Error::Io { what, path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(failed("open"))?;
        let parsed = parse(&mut BufReader::with_capacity(64 << 10, &file), each).map_err(failed("read"))?;
        if let Some(reason) = parsed.altered {
            return Err(Error::Altered {
                path: path.to_owned(),
                offset: parsed.end,
                record: parsed.records + 1,
                reason,
            });
        }
        let length = file.metadata().map_err(failed("read"))?.len();
        let mut log = Self { path: path.to_owned(), file, end: parsed.end, head: parsed.head, unsynced: false };
        let torn = length.saturating_sub(log.end);
        if torn > 0 {
            log.file.set_len(log.end).map_err(failed("cut the torn end of"))?;
        }
        if log.end == 0 {
            log.file.write_all_at(&MAGIC, 0).map_err(failed("write"))?;
            log.end = size(MAGIC.len());
        }
        Ok((log, torn))
    }

    /// The record at that place. `Ok(None)`: another one stands there, or none; the file was replaced since, or altered.
    pub(super) fn read(&self, place: Place) -> Result<Option<Record>, Error> {
        let failed = |source| Error::Io { what: "read", path: self.path.clone(), source };
        let mut frame = [0; FRAME_BYTES];
        if place.offset + size(FRAME_BYTES) > self.end {
            return Ok(None);
        }
        self.file.read_exact_at(&mut frame, place.offset).map_err(failed)?;
        let bytes = body_bytes(&frame);
        let start = place.offset + size(FRAME_BYTES);
        if bytes > BODY_BYTES_MAX || start + size(bytes) > self.end {
            return Ok(None);
        }
        let mut body = vec![0; bytes];
        self.file.read_exact_at(&mut body, start).map_err(failed)?;
        Ok((Place::of(place.offset, &body) == place).then(|| postcard::from_bytes(&body).ok()).flatten())
    }

    /// Where the next record will stand.
    pub(super) fn mark(&self) -> Mark {
        Mark { end: self.end, head: self.head }
    }

    /// What was appended since then, in order.
    pub(super) fn since(&self, mark: Mark) -> Result<Vec<Record>, Error> {
        let failed = |source| Error::Io { what: "read", path: self.path.clone(), source };
        let (mut records, mut bytes) = (Vec::new(), vec![0; usize::try_from(self.end - mark.end).unwrap_or(0)]);
        self.file.read_exact_at(&mut bytes, mark.end).map_err(failed)?;
        let mut parsed = Parsed { records: 0, end: mark.end, head: mark.head, altered: None };
        let each = &mut |record, _| records.push(record);
        parse_records(&mut bytes.as_slice(), &mut parsed, each).map_err(failed)?;
        if parsed.end != self.end {
            let reason = parsed.altered.unwrap_or_else(|| "a record is cut off".into());
            let path = self.path.clone();
            return Err(Error::Altered { path, offset: parsed.end, record: 0, reason });
        }
        Ok(records)
    }

    /// The error for a place that does not hold what was written there.
    pub(super) fn altered_at(&self, place: Place) -> Error {
        let reason = "it is not what was written there".into();
        Error::Altered { path: self.path.clone(), offset: place.offset, record: 0, reason }
    }

    /// The check of the last record: whoever knows it can tell whether records are missing.
    #[cfg(test)]
    pub(super) fn head(&self) -> [u8; 16] {
        self.head
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// All of `records`, in one write; gives where each is. On error none of them is in the file.
    pub(super) fn append(&mut self, records: &[Record], store: &Store) -> Result<Vec<Place>, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what: "write", path, source }
        };
        let (mut frames, mut head) = (Vec::new(), self.head);
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let body =
                postcard::to_stdvec(record).map_err(|error| failed(&self.path)(io::Error::other(error.to_string())))?;
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
            if body.len() > BODY_BYTES_MAX {
                return Err(failed(&self.path)(io::Error::other("a record is too long")));
            }
            places.push(Place::of(self.end + size(frames.len()), &body));
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
        Ok(places)
    }

    pub(super) fn sync(&mut self) -> Result<(), Error> {
        if self.unsynced {
            self.file.sync_data().map_err(|source| Error::Io { what: "flush", path: self.path.clone(), source })?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// A new file beside this one, to take its place by [`Log::replace_by`].
    pub(super) fn beside(&self, store: &Store) -> Result<Self, Error> {
        let aside = self.path.with_extension("new");
        let _ = std::fs::remove_file(&aside);
        let (fresh, _) = Self::open(&aside, &mut |_, _| {})?;
        store.charge_record(fresh.end);
        Ok(fresh)
    }

    /// Gives up what [`Log::beside`] began.
    pub(super) fn discard(self, store: &Store) {
        store.refund(self.end);
        let _ = std::fs::remove_file(&self.path);
    }

    /// Takes the place of this one, or nothing changes.
    pub(super) fn replace_by(&mut self, mut fresh: Self, store: &Store) -> Result<(), Error> {
        let failed = |source| Error::Io { what: "replace", path: self.path.clone(), source };
        let synced = fresh.sync();
        let renamed = synced.and_then(|()| std::fs::rename(&fresh.path, &self.path).map_err(failed));
        if let Err(error) = renamed {
            fresh.discard(store);
            return Err(error);
        }
        if let Some(parent) = self.path.parent().and_then(|parent| File::open(parent).ok()) {
            let _ = parent.sync_all();
        }
        store.refund(self.end);
        fresh.path.clone_from(&self.path);
        *self = fresh;
        Ok(())
    }
}

/// All records of these bytes, for the fuzzer and the tests.
fn collect(mut bytes: &[u8]) -> (Vec<Record>, Parsed) {
    let mut records = Vec::new();
    let parsed = parse(&mut bytes, &mut |record, _| records.push(record));
    (records, parsed.expect("memory can be read"))
}

/// Called by the fuzzer and by the tests: any bytes are read without a panic, and what is accepted is whole.
pub(crate) fn fuzz_log(bytes: &[u8]) {
    let (records, parsed) = collect(bytes);
    assert!(parsed.end <= size(bytes.len()));
    if parsed.altered.is_none() {
        let (again, same) = collect(&bytes[..usize::try_from(parsed.end).unwrap_or(bytes.len())]);
        assert_eq!((again, same.end), (records, parsed.end));
    }
    // The same bytes behind checks that hold.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let head = first_check();
    let check = next_check(&head, &length, bytes);
    let framed = [MAGIC.as_slice(), &length, &length_check(&head, &length), &check, bytes].concat();
    let (records, parsed) = collect(&framed);
    assert!(records.len() == 1 || parsed.altered.is_some());
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
        let (mut log, _) = Log::open(&path, &mut |_, _| {}).unwrap();
        let records: Vec<Record> = (0..6u64)
            .map(|n| match n % 3 {
                0 => Record::Reserved(VersionId(n)),
                1 => Record::Pinned(HostPath::new(b"/etc/new\nline \xff")),
                _ => Record::Kept { digest: Digest::of(b"x"), unix_ns: -1 },
            })
            .collect();
        let mut places = log.append(&records[..2], &store).unwrap();
        places.extend(log.append(&records[2..], &store).unwrap());
        let before = log.head();
        drop(log);
        let mut read = Vec::new();
        let (log, torn) = Log::open(&path, &mut |record, place| read.push((record, place))).unwrap();
        assert_eq!((torn, log.head()), (0, before));
        let written: Vec<_> = records.iter().cloned().zip(places).collect();
        assert_eq!(read, written);
        for (record, place) in written {
            assert_eq!(log.read(place).unwrap(), Some(record));
            assert_eq!(log.read(Place { body: place.body ^ 1, ..place }).unwrap(), None, "another record");
            assert_eq!(log.read(Place { offset: place.offset + 1, ..place }).unwrap(), None, "between records");
        }
        (std::fs::read(path).unwrap(), records)
    }

    #[test]
    fn cut_anywhere_it_keeps_what_was_whole() {
        let (bytes, records) = written();
        for cut in 0..bytes.len() {
            let (read, parsed) = collect(&bytes[..cut]);
            assert_eq!(parsed.altered, None, "cut at {cut}");
            assert_eq!(read, records[..read.len()], "cut at {cut}");
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
            match Log::open(&path, &mut |_, _| {}) {
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
