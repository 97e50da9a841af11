// SPDX-License-Identifier: Apache-2.0
//! Content by its digest, in append-only pack files.
//!
//! An entry is a header (checked by itself), then the bytes, compressed when that helps. Files up to [`WHOLE_BYTES_MAX`]
//! are one entry; larger ones are cut by content (FastCDC), so that a log that grew shares all but its end with what was
//! stored before, and a list entry under the digest of the whole names the pieces in order.
//!
//! INVARIANT: an entry is in the index only when all its bytes were written, and content leaves only after its digest was
//! checked. A process killed in the middle of an append leaves a torn tail of the newest pack, which `open` cuts off.

use super::{Digest, Error};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Larger content is cut into pieces. The pieces' bounds are FastCDC's: least, usual, most.
pub(super) const WHOLE_BYTES_MAX: usize = 256 << 10;
const PIECE_BYTES: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);
/// A pack that has grown to this is closed: small enough to rewrite when most of it is dead.
const PACK_BYTES_MAX: u64 = 64 << 20;
/// Fast, and halves configuration and program files (`docs/measured.md`).
const ZSTD_LEVEL: i32 = 1;

const MAGIC: [u8; 4] = *b"tvp1";
const HEADER_BYTES: u64 = 56;
/// No entry is longer than a list of the largest file that can be named, or a whole file that does not shrink.
const ENTRY_BYTES_MAX: u64 = 16 << 20;
const PIECE_NAME_BYTES: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Zstd,
    /// Digests and lengths of the pieces of a larger content.
    List,
}

impl Form {
    const fn byte(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 1,
            Self::List => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Plain),
            1 => Some(Self::Zstd),
            2 => Some(Self::List),
            _ => None,
        }
    }
}

/// What an entry's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    form: Form,
    /// Bytes of the content, and of the entry's body.
    raw: u32,
    stored: u32,
    digest: Digest,
}

impl Header {
    fn to_bytes(self) -> [u8; 56] {
        let mut bytes = [0; 56];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.form.byte();
        bytes[8..12].copy_from_slice(&self.raw.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stored.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.digest.0);
        let check = blake3::hash(&bytes[..48]);
        bytes[48..].copy_from_slice(&check.as_bytes()[..8]);
        bytes
    }

    /// `None` for anything that [`Header::to_bytes`] did not write.
    fn parse(bytes: &[u8; 56]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes[..4] != MAGIC || bytes[48..] != blake3::hash(&bytes[..48]).as_bytes()[..8] {
            return None;
        }
        Some(Self {
            form: Form::from_byte(bytes[4])?,
            raw: number(8)?,
            stored: number(12)?,
            digest: Digest(bytes[16..48].try_into().ok()?),
        })
    }
}

/// Where an entry's body lies, and what its header says but its digest.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    pack: u32,
    raw: u32,
    stored: u32,
    form: Form,
}

impl Place {
    const fn of(header: Header, pack: u32, entry: u64) -> Self {
        let Header { form, raw, stored, .. } = header;
        Self { offset: entry + HEADER_BYTES, pack, raw, stored, form }
    }

    const fn header(self, digest: Digest) -> Header {
        Header { form: self.form, raw: self.raw, stored: self.stored, digest }
    }

    const fn bytes(self) -> u64 {
        HEADER_BYTES + self.stored as u64
    }
}

#[derive(Debug, Default)]
struct Packs {
    index: BTreeMap<Digest, Place>,
    files: BTreeMap<u32, Arc<File>>,
    /// The pack that grows: its number and length.
    growing: Option<(u32, u64)>,
}

#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    packs: Mutex<Packs>,
    quota_bytes: u64,
    /// Content and records together.
    bytes: AtomicU64,
    unsynced: AtomicBool,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// `None` when it does not get smaller.
fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        let smaller = slot.as_mut()?.compress(bytes).ok()?;
        (smaller.len() < bytes.len()).then_some(smaller)
    })
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Store {
    /// Reads every header below `directory` (made if needed, for root alone). Also says how many torn bytes were cut off.
    pub(super) fn open(directory: &Path, quota_bytes: u64) -> Result<(Self, u64), Error> {
        let io_error = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io_error("make the directory", directory))?;
        let mut numbers = BTreeSet::new();
        for entry in std::fs::read_dir(directory).map_err(io_error("list", directory))? {
            let name = entry.map_err(io_error("list", directory))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".pack")).and_then(|name| name.parse().ok());
            numbers.extend::<Option<u32>>(number);
        }
        let (mut packs, mut bytes, mut torn) = (Packs::default(), 0, 0);
        let newest = numbers.last().copied();
        for number in numbers {
            let path = Self::path_of(directory, number);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
            let size = file.metadata().map_err(io_error("read", &path))?.len();
            let end = scan(&file, number, size, &mut packs.index).map_err(io_error("read", &path))?;
            if end < size {
                // One append at a time: what a killed process leaves is less than one entry, in the newest pack.
                if Some(number) != newest || size - end > HEADER_BYTES + ENTRY_BYTES_MAX {
                    return Err(Error::Altered {
                        path,
                        offset: end,
                        record: 0,
                        reason: "expected the header of an entry".into(),
                    });
                }
                file.set_len(end).map_err(io_error("cut the torn end of", &path))?;
                torn += size - end;
            }
            bytes += end;
            packs.files.insert(number, Arc::new(file));
            packs.growing = Some((number, end));
        }
        let store = Self {
            directory: directory.to_owned(),
            packs: Mutex::new(packs),
            quota_bytes,
            bytes: AtomicU64::new(bytes),
            unsynced: AtomicBool::new(false),
        };
        Ok((store, torn))
    }

    fn path_of(directory: &Path, number: u32) -> PathBuf {
        directory.join(format!("{number:08}.pack"))
    }

    fn packs(&self) -> std::sync::MutexGuard<'_, Packs> {
        // A panic while it was held cannot have left half an entry in the index: it is inserted last.
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = self.directory.clone();
        move |source| Error::Io { what, path, source }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Asks for room for `more` bytes (records count too). `Err` when the quota does not have it.
    pub(super) fn charge(&self, more: u64) -> Result<(), Error> {
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= self.quota_bytes);
        let charged = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        charged.map(|_| ()).map_err(|_| Error::Quota { quota_bytes: self.quota_bytes })
    }

    /// Records are written even beyond the quota (they say what is missing), so this only counts.
    pub(super) fn charge_record(&self, more: u64) {
        self.bytes.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn refund(&self, less: u64) {
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(less)));
    }

    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.packs().index.contains_key(digest)
    }

    /// True when the content and, for a larger one, all its pieces are there.
    pub(super) fn is_complete(&self, digest: &Digest) -> bool {
        match self.entry(digest) {
            Err(_) => false,
            Ok((place, file)) if place.form == Form::List => self.body(place, &file).is_ok_and(|list| {
                let packs = self.packs();
                pieces(&list).is_some_and(|pieces| pieces.iter().all(|piece| packs.index.contains_key(piece)))
            }),
            Ok(_) => true,
        }
    }

    /// Stores everything up to the end of `source`; gives its digest and length. At most `bytes_max`, else `Ok(None)`.
    pub(super) fn put(&self, mut source: &mut dyn Read, bytes_max: u64) -> Result<Option<(Digest, u64)>, Error> {
        let mut first = Vec::with_capacity(8 << 10);
        let whole = u64::try_from(WHOLE_BYTES_MAX).unwrap_or(u64::MAX);
        Read::take(&mut source, whole + 1)
            .read_to_end(&mut first)
            .map_err(self.failed("read what is to be stored in"))?;
        if first.len() <= WHOLE_BYTES_MAX {
            let size = u64::from(length(&first));
            if size > bytes_max {
                return Ok(None);
            }
            let digest = Digest::of(&first);
            self.put_entry(digest, &first, Form::Plain)?;
            return Ok(Some((digest, size)));
        }
        let (mut hasher, mut size, mut list) = (blake3::Hasher::new(), 0u64, Vec::new());
        let (least, usual, most) = PIECE_BYTES;
        let joined = first.as_slice().chain(source.take(bytes_max.saturating_add(1)));
        for piece in fastcdc::v2020::StreamCDC::new(joined, least, usual, most) {
            let piece = piece.map_err(|error| self.failed("read what is to be stored in")(error.into()))?;
            hasher.update(&piece.data);
            size += u64::from(length(&piece.data));
            if size > bytes_max {
                return Ok(None);
            }
            let digest = Digest::of(&piece.data);
            self.put_entry(digest, &piece.data, Form::Plain)?;
            list.extend_from_slice(&digest.0);
            list.extend_from_slice(&length(&piece.data).to_le_bytes());
        }
        let digest = Digest(*hasher.finalize().as_bytes());
        self.put_entry(digest, &list, Form::List)?;
        Ok(Some((digest, size)))
    }

    fn put_entry(&self, digest: Digest, bytes: &[u8], form: Form) -> Result<(), Error> {
        if self.holds(&digest) {
            return Ok(());
        }
        let smaller = if form == Form::Plain { compress(bytes) } else { None };
        let (form, body) = match &smaller {
            Some(smaller) => (Form::Zstd, smaller.as_slice()),
            None => (form, bytes),
        };
        self.append(Header { form, raw: length(bytes), stored: length(body), digest }, body, Budget::Charged)
    }

    fn append(&self, header: Header, body: &[u8], budget: Budget) -> Result<(), Error> {
        let mut packs = self.packs();
        if packs.index.contains_key(&header.digest) && matches!(budget, Budget::Charged) {
            return Ok(());
        }
        let size = HEADER_BYTES + u64::from(header.stored);
        match budget {
            Budget::Charged => self.charge(size)?,
            Budget::Moved => self.charge_record(size),
        }
        let written = self.append_locked(&mut packs, header, body, size);
        if written.is_err() {
            self.refund(size);
        }
        written
    }

    fn append_locked(&self, packs: &mut Packs, header: Header, body: &[u8], size: u64) -> Result<(), Error> {
        let (number, offset) = match packs.growing {
            Some((number, length)) if length + size <= PACK_BYTES_MAX => (number, length),
            last => {
                if let Some(closed) = last.and_then(|(number, _)| packs.files.get(&number)) {
                    closed.sync_data().map_err(self.failed("flush a pack of"))?;
                }
                let number = last.map_or(0, |(number, _)| number + 1);
                let path = Self::path_of(&self.directory, number);
                let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
                let file = file.map_err(|source| Error::Io { what: "make", path, source })?;
                packs.files.insert(number, Arc::new(file));
                packs.growing = Some((number, 0));
                (number, 0)
            }
        };
        // INVARIANT: a growing pack's file is in `files`: both are set together, here and in `open`.
        let file = Arc::clone(packs.files.get(&number).expect("a growing pack is open"));
        let mut entry = Vec::with_capacity(body.len() + 56);
        entry.extend_from_slice(&header.to_bytes());
        entry.extend_from_slice(body);
        if let Err(source) = file.write_all_at(&entry, offset) {
            // A full disk: what was written of the entry must not stand before the next one.
            let _ = file.set_len(offset);
            return Err(self.failed("write a pack of")(source));
        }
        self.unsynced.store(true, Ordering::Relaxed);
        packs.growing = Some((number, offset + size));
        packs.index.insert(header.digest, Place::of(header, number, offset));
        Ok(())
    }

    /// Where it lies, and the pack: it can be read from that one, whatever happens to the pack's name meanwhile.
    fn entry(&self, digest: &Digest) -> Result<(Place, Arc<File>), Error> {
        let packs = self.packs();
        let place = packs.index.get(digest).copied();
        let found = place.and_then(|place| Some((place, Arc::clone(packs.files.get(&place.pack)?))));
        found.ok_or(Error::NoContent(*digest))
    }

    fn body(&self, place: Place, file: &File) -> Result<Vec<u8>, Error> {
        let mut body = vec![0; usize::try_from(place.stored).unwrap_or(0)];
        file.read_exact_at(&mut body, place.offset).map_err(self.failed("read a pack of"))?;
        Ok(body)
    }

    /// The bytes with that digest; checked.
    pub(super) fn get(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let (place, file) = self.entry(digest)?;
        let body = self.body(place, &file)?;
        let bytes = match place.form {
            Form::Plain => body,
            Form::Zstd => {
                let raw = usize::try_from(place.raw).unwrap_or(0);
                if u64::from(place.raw) > ENTRY_BYTES_MAX {
                    return Err(Error::BadContent(*digest)); // larger than anything that was ever packed
                }
                zstd::bulk::decompress(&body, raw).map_err(|_| Error::BadContent(*digest))?
            }
            Form::List => {
                let mut bytes = Vec::new();
                for piece in pieces(&body).ok_or(Error::BadContent(*digest))? {
                    let place = self.packs().index.get(&piece).copied().ok_or(Error::NoContent(piece))?;
                    if place.form == Form::List {
                        return Err(Error::BadContent(*digest));
                    }
                    bytes.extend_from_slice(&self.get(&piece)?);
                }
                bytes
            }
        };
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(Error::BadContent(*digest)) }
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        if !self.unsynced.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let file = {
            let packs = self.packs();
            packs.growing.and_then(|(number, _)| packs.files.get(&number).map(Arc::clone))
        };
        file.map_or(Ok(()), |file| file.sync_data()).map_err(|source| {
            self.unsynced.store(true, Ordering::Relaxed);
            self.failed("flush a pack of")(source)
        })
    }

    /// What each larger content is made of, to be asked for before [`Store::doom`], which may not take long.
    pub(super) fn lists(&self) -> Result<Lists, Error> {
        self.read_lists(&|_| true, Lists::default())
    }

    /// `known`, and what else is a list and `wanted`.
    fn read_lists(&self, wanted: &dyn Fn(&Digest) -> bool, mut known: Lists) -> Result<Lists, Error> {
        let unread: Vec<Digest> = {
            let packs = self.packs();
            let lists = packs.index.iter().filter(|(_, place)| place.form == Form::List).map(|(digest, _)| *digest);
            lists.filter(|digest| wanted(digest) && !known.contains_key(digest)).collect()
        };
        for digest in unread {
            let (place, file) = self.entry(&digest)?;
            let pieces = pieces(&self.body(place, &file)?).unwrap_or_default();
            known.insert(digest, pieces.iter().map(Digest::prefix).collect());
        }
        Ok(known)
    }

    /// Gives up what has none of these beginnings and lies in a pack of which it is the larger part. Only memory changes: what is
    /// given up and is stored again is written anew. Gives the packs, for [`Store::clear`]. The caller makes sure that nothing is
    /// being stored meanwhile that `live` does not name.
    pub(super) fn doom(&self, live: &BTreeSet<u64>, lists: Lists) -> Result<BTreeSet<u32>, Error> {
        let is_live = |digest: &Digest| live.contains(&digest.prefix());
        let lists = self.read_lists(&is_live, lists)?;
        let mut keep = live.clone();
        keep.extend(lists.iter().filter(|(digest, _)| is_live(digest)).flat_map(|(_, pieces)| pieces));
        let mut packs = self.packs();
        // Of each pack: all its entries' bytes, and those of the living.
        let mut sizes: BTreeMap<u32, (u64, u64)> = packs.files.keys().map(|number| (*number, (0, 0))).collect();
        for (digest, place) in &packs.index {
            let (all, living) = sizes.entry(place.pack).or_default();
            *all += place.bytes();
            *living += if keep.contains(&digest.prefix()) { place.bytes() } else { 0 };
        }
        let growing = packs.growing.map(|(number, _)| number);
        let doomed = sizes.into_iter().filter(|(number, (all, living))| Some(*number) != growing && living * 2 <= *all);
        let doomed: BTreeSet<u32> = doomed.map(|(number, _)| number).collect();
        packs.index.retain(|digest, place| !doomed.contains(&place.pack) || keep.contains(&digest.prefix()));
        Ok(doomed)
    }

    /// Moves what still lives out of these packs, and unlinks them.
    pub(super) fn clear(&self, doomed: BTreeSet<u32>) -> Result<(), Error> {
        for number in doomed {
            let living: Vec<Digest> = {
                let packs = self.packs();
                packs.index.iter().filter(|(_, place)| place.pack == number).map(|(digest, _)| *digest).collect()
            };
            for digest in living {
                let (place, file) = self.entry(&digest)?;
                self.append(place.header(digest), &self.body(place, &file)?, Budget::Moved)?;
            }
            self.sync()?;
            let path = Self::path_of(&self.directory, number);
            let freed = std::fs::metadata(&path).map_or(0, |found| found.len());
            std::fs::remove_file(&path).map_err(|source| Error::Io { what: "remove", path, source })?;
            self.packs().files.remove(&number);
            self.refund(freed);
        }
        Ok(())
    }
}

/// By the digest of a larger content: the beginnings of its pieces' digests.
pub(super) type Lists = BTreeMap<Digest, Vec<u64>>;

/// Whether an append asks for room, or only moves what was paid for.
#[derive(Clone, Copy, Debug)]
enum Budget {
    Charged,
    Moved,
}

/// The digests of a list entry, in order.
fn pieces(list: &[u8]) -> Option<Vec<Digest>> {
    let names = list.chunks(PIECE_NAME_BYTES);
    names.map(|name| Some(Digest(name.get(..PIECE_NAME_BYTES)?.get(..32)?.try_into().ok()?))).collect()
}

/// Indexes the entries of one pack; gives the offset of the first byte that belongs to none.
fn scan(file: &File, pack: u32, size: u64, index: &mut BTreeMap<Digest, Place>) -> io::Result<u64> {
    let mut offset = 0;
    while offset + HEADER_BYTES <= size {
        let mut bytes = [0; 56];
        file.read_exact_at(&mut bytes, offset)?;
        let Some(header) = Header::parse(&bytes) else { break };
        let end = offset + HEADER_BYTES + u64::from(header.stored);
        if end > size {
            break;
        }
        index.insert(header.digest, Place::of(header, pack, offset));
        offset = end;
    }
    Ok(offset)
}

/// Called by the fuzzer and by the tests: a pack of any bytes is read without a panic, what is found lies inside it, and
/// nothing is given out but what its digest says.
pub(crate) fn fuzz_pack(bytes: &[u8]) {
    let Some((named, body)) = bytes.split_first_chunk::<6>() else { return };
    // The same bytes behind a header that holds: what they are said to be, and of what size.
    let digest = Digest::of(body);
    let raw = u32::from_le_bytes([named[1], named[2], named[3], named[4]]);
    let form = Form::from_byte(named[0]).unwrap_or(Form::Plain);
    let header = Header { form, raw, stored: length(body).wrapping_add(u32::from(named[5] == 1)), digest };
    let framed = [header.to_bytes().as_slice(), body, bytes].concat();
    for bytes in [bytes, &framed] {
        let Some((file, size)) = unnamed(bytes) else { return };
        let mut index = BTreeMap::new();
        let end = scan(&file, 0, size, &mut index).unwrap_or(0);
        assert!(end <= size && index.values().all(|place| place.offset + u64::from(place.stored) <= end));
        let digests: Vec<Digest> = index.keys().copied().collect();
        let packs = Packs { index, files: BTreeMap::from([(0, Arc::new(file))]), growing: None };
        let store = Store {
            directory: PathBuf::new(),
            packs: Mutex::new(packs),
            quota_bytes: 0,
            bytes: AtomicU64::new(size),
            unsynced: AtomicBool::new(false),
        };
        for digest in digests {
            assert!(
                store.get(&digest).is_ok_and(|content| Digest::of(&content) == digest) || store.get(&digest).is_err()
            );
        }
    }
}

/// A file with these bytes that has no name.
fn unnamed(bytes: &[u8]) -> Option<(File, u64)> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR).ok()?);
    file.write_all_at(bytes, 0).ok()?;
    Some((file, u64::from(length(bytes))))
}

pub(crate) fn pack_seeds() -> Vec<Vec<u8>> {
    let text = b"one line, and the same line again\n".repeat(20);
    let entry = |form: Form, content: &[u8], body: &[u8]| {
        let header = Header { form, raw: length(content), stored: length(body), digest: Digest::of(content) };
        [header.to_bytes().as_slice(), body].concat()
    };
    let packed = compress(&text).unwrap_or_default();
    let list = [Digest::of(&text).0.as_slice(), &length(&text).to_le_bytes()].concat();
    let behind = |form: Form, body: &[u8]| [&[form.byte(), 0xff, 0xff, 0, 0, 0], body].concat();
    vec![
        [
            entry(Form::Zstd, &text, &packed),
            entry(Form::Plain, b"x", b"x"),
            entry(Form::List, &text.repeat(2), &list.repeat(2)),
        ]
        .concat(),
        behind(Form::Zstd, &packed),
        behind(Form::List, &list),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..bytes).map(|_| step()).collect()
    }

    #[test]
    fn content_of_every_size_comes_back_after_a_reopening() {
        let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
        let sizes = [0, 1, 4_096, WHOLE_BYTES_MAX, WHOLE_BYTES_MAX + 1, 3 << 20];
        let contents: Vec<Vec<u8>> = sizes.iter().map(|size| noise(*size, 7)).collect();
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        let digests: Vec<Digest> =
            contents.iter().map(|bytes| store.put(&mut bytes.as_slice(), 1 << 30).unwrap().unwrap().0).collect();
        for reopened in [false, true] {
            let store = Store::open(directory.path(), 1 << 30).unwrap().0;
            for (digest, bytes) in digests.iter().zip(&contents) {
                assert_eq!(*digest, Digest::of(bytes));
                assert_eq!(&store.get(digest).unwrap(), bytes, "reopened: {reopened}");
            }
        }
    }

    #[test]
    fn a_log_that_grew_costs_little_more() {
        let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        let mut log = noise(8 << 20, 3);
        store.put(&mut log.as_slice(), u64::MAX).unwrap();
        let before = store.bytes();
        log.extend_from_slice(b"one line more\n");
        store.put(&mut log.as_slice(), u64::MAX).unwrap();
        assert!(store.bytes() - before < 300 << 10, "{}", store.bytes() - before);
    }

    #[test]
    fn at_the_quota_nothing_is_corrupted() {
        let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), 10_000).unwrap();
        let kept = store.put(&mut noise(5_000, 1).as_slice(), u64::MAX).unwrap().unwrap().0;
        assert!(matches!(
            store.put(&mut noise(6_000, 2).as_slice(), u64::MAX),
            Err(Error::Quota { quota_bytes: 10_000 })
        ));
        drop(store);
        let (store, torn) = Store::open(directory.path(), 10_000).unwrap();
        assert_eq!((store.get(&kept).unwrap(), torn), (noise(5_000, 1), 0));
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_not_cut() {
        let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        assert_eq!(store.put(&mut noise(1 << 20, 1).as_slice(), (1 << 20) - 1).unwrap(), None);
        assert!(store.put(&mut noise(1 << 20, 1).as_slice(), 1 << 20).unwrap().is_some());
    }

    #[test]
    fn an_altered_byte_is_never_given_out() {
        let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        let digest = store.put(&mut noise(5_000, 1).as_slice(), u64::MAX).unwrap().unwrap().0;
        let path = Store::path_of(directory.path(), 0);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"X", 3_000).unwrap();
        assert!(matches!(store.get(&digest), Err(Error::BadContent(bad)) if bad == digest));
    }

    #[test]
    fn what_is_dead_gives_its_room_back_and_the_living_stay() {
        let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        let contents: Vec<Vec<u8>> = (0..40).map(|seed| noise(4 << 20, seed * 2 + 1)).collect();
        let digests: Vec<Digest> =
            contents.iter().map(|bytes| store.put(&mut bytes.as_slice(), u64::MAX).unwrap().unwrap().0).collect();
        let before = store.bytes();
        let live: BTreeSet<u64> = digests.iter().step_by(8).map(Digest::prefix).collect();
        let doomed = store.doom(&live, store.lists().unwrap()).unwrap();
        store.clear(doomed).unwrap();
        assert!(store.bytes() < before / 2, "{} of {before}", store.bytes());
        let on_disk: u64 =
            std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(on_disk, store.bytes());
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        for (digest, bytes) in digests.iter().zip(&contents).step_by(8) {
            assert_eq!(&store.get(digest).unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_given_up_and_comes_again_before_its_pack_is_cleared_is_stored_anew() {
        let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        let contents: Vec<Vec<u8>> = (0..20).map(|seed| noise(4 << 20, seed * 2 + 1)).collect();
        let put = |bytes: &Vec<u8>| store.put(&mut bytes.as_slice(), u64::MAX).unwrap().unwrap().0;
        let digests: Vec<Digest> = contents.iter().map(put).collect();
        let live = BTreeSet::from([digests[1].prefix(), digests[19].prefix()]);
        let doomed = store.doom(&live, store.lists().unwrap()).unwrap();
        assert_eq!(doomed, BTreeSet::from([0]), "the first pack, with one of sixteen alive");
        assert!(matches!(store.get(&digests[0]), Err(Error::NoContent(_))));
        let again = put(&contents[0]);
        store.clear(doomed).unwrap();
        drop(store);
        let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
        for (digest, bytes) in [(again, &contents[0]), (digests[1], &contents[1]), (digests[19], &contents[19])] {
            assert_eq!(&store.get(&digest).unwrap(), bytes);
        }
        assert!(matches!(store.get(&digests[2]), Err(Error::NoContent(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_pack_of_any_bytes_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_pack(&bytes);
        }

        #[test]
        fn a_pack_cut_anywhere_keeps_its_whole_entries(cut in 0u64..3_200) {
            let directory = tempfile::Builder::new().prefix("thymus-store").tempdir().unwrap();
            let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
            let contents: Vec<Vec<u8>> = (0..3).map(|seed| noise(1_000, seed * 2 + 1)).collect();
            let digests: Vec<Digest> =
                contents.iter().map(|bytes| store.put(&mut bytes.as_slice(), u64::MAX).unwrap().unwrap().0).collect();
            drop(store);
            let path = Store::path_of(directory.path(), 0);
            OpenOptions::new().write(true).open(path).unwrap().set_len(cut).unwrap();
            let (store, _) = Store::open(directory.path(), 1 << 30).unwrap();
            for (at, (digest, bytes)) in digests.iter().zip(&contents).enumerate() {
                let whole = cut >= (u64::try_from(at).unwrap() + 1) * 1_056;
                match store.get(digest) {
                    Ok(found) => { prop_assert!(whole); prop_assert_eq!(&found, bytes); }
                    Err(error) => { prop_assert!(!whole); prop_assert!(matches!(error, Error::NoContent(_))); }
                }
            }
        }
    }
}
