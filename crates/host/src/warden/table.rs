// SPDX-License-Identifier: Apache-2.0
//! Who is stopped, under which action, and until when: a file of fixed slots.
//!
//! Each slot has two halves that are written in turn, each by one `pwrite(2)` with its check: a write that was cut short
//! leaves the lease as it was before. The page cache keeps the file when the agent is killed; when the machine loses power
//! the stopped processes are gone too, and leases of another boot are not read.

use super::Error;
use crate::system::{self, TICK_NS};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thymus_engine::{ActionId, BootId, ProcessKey, Timestamp};

/// LIMIT: leases at one time; 512 KiB of file. Beyond it nothing more is suspended, and it is said.
pub const LEASES_MAX: usize = 4_096;
/// A lease that lapsed so long ago (nanoseconds) gives its slot to another when the table is full: the warden has seen it.
const FORGET_NS: u64 = 60_000_000_000;

const HALF_BYTES: usize = 64;
const SLOT_BYTES: usize = 2 * HALF_BYTES;
const TABLE_BYTES: usize = LEASES_MAX * SLOT_BYTES;

/// One process, held under one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) action: ActionId,
    pub(super) process: ProcessKey,
    pub(super) until: Timestamp,
}

/// As [`system::same_process`] compares.
pub(super) fn identity(process: ProcessKey) -> (u32, u64) {
    (process.pid, process.start_time.0 / TICK_NS)
}

/// Sequence of the write, and the lease; `None`: the slot is free.
fn encode(sequence: u64, lease: Option<&Lease>) -> [u8; HALF_BYTES] {
    let mut half = [0; HALF_BYTES];
    let numbers = lease.map_or([sequence, 0, 0, 0, 0, 0, 0], |lease| {
        let ProcessKey { boot, pid, start_time } = lease.process;
        [sequence, 1, lease.action.0, boot.0, u64::from(pid), start_time.0, lease.until.0]
    });
    for (bytes, number) in half[8..].chunks_exact_mut(8).zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    let check = blake3::hash(&half[8..]);
    half[..8].copy_from_slice(&check.as_bytes()[..8]);
    half
}

fn decode(half: &[u8]) -> Option<(u64, Option<Lease>)> {
    let number = |at: usize| half.get(at * 8..at * 8 + 8)?.try_into().map(u64::from_le_bytes).ok();
    let check = number(0).filter(|check| *check != 0)?;
    let hash = blake3::hash(half.get(8..HALF_BYTES)?);
    if check.to_le_bytes() != hash.as_bytes()[..8] {
        return None;
    }
    let process = ProcessKey {
        boot: BootId(number(4)?),
        pid: u32::try_from(number(5)?).ok()?,
        start_time: Timestamp(number(6)?),
    };
    let lease = Lease { action: ActionId(number(3)?), process, until: Timestamp(number(7)?) };
    Some((number(1)?, (number(2)? == 1).then_some(lease)))
}

/// The newest half that was written whole; a slot that never was is free.
fn newest(slot: &[u8]) -> (u64, Option<Lease>) {
    let halves = slot.chunks_exact(HALF_BYTES).filter_map(decode);
    halves.max_by_key(|(sequence, _)| *sequence).unwrap_or((0, None))
}

/// Every lease of this boot, as the file has them now.
pub(super) fn read(file: &File, bytes: &mut Vec<u8>, out: &mut Vec<Lease>) -> std::io::Result<()> {
    bytes.resize(TABLE_BYTES, 0);
    file.read_exact_at(bytes, 0)?;
    out.clear();
    let boot = system::boot_id();
    let written = bytes.chunks_exact(SLOT_BYTES).filter(|slot| slot.iter().any(|byte| *byte != 0));
    out.extend(written.filter_map(|slot| newest(slot).1).filter(|lease| lease.process.boot == boot));
    Ok(())
}

/// Opens or makes the file at its full size, so that no later write can find the disk full.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let error = |doing| move |source| Error::Io { doing, path: path.to_owned(), source };
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
    let file = options.open(path).map_err(error("open"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, TABLE_BYTES as u64)
        .map_err(|errno| error("preallocate")(errno.into()))?;
    Ok(file)
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Table {
    file: File,
    path: PathBuf,
    /// As the file has them.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// Place of each lease, by process and action.
    places: BTreeMap<(u32, u64, ActionId), usize>,
    free: Vec<usize>,
}

/// Where the half with this sequence is in the file.
fn half(place: usize, sequence: u64) -> std::ops::Range<usize> {
    let offset = place * SLOT_BYTES + if sequence.is_multiple_of(2) { 0 } else { HALF_BYTES };
    offset..offset + HALF_BYTES
}

impl Table {
    fn write(&mut self, place: usize, lease: Option<Lease>) -> Result<(), Error> {
        self.write_all(&[(place, lease)])
    }

    /// Slots side by side take one write together. All of them are written, or none counts as written.
    fn write_all(&mut self, leases: &[(usize, Option<Lease>)]) -> Result<(), Error> {
        for (place, lease) in leases {
            let sequence = self.slots[*place].sequence + 1;
            self.bytes[half(*place, sequence)].copy_from_slice(&encode(sequence, lease.as_ref()));
        }
        for run in leases.chunk_by(|(place, _), (next, _)| *next == place + 1) {
            let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { continue };
            let range = match run.len() {
                1 => half(*first, self.slots[*first].sequence + 1),
                _ => first * SLOT_BYTES..(last + 1) * SLOT_BYTES,
            };
            let error = |source| Error::Io { doing: "write", path: self.path.clone(), source };
            self.file.write_all_at(&self.bytes[range.clone()], range.start as u64).map_err(error)?;
        }
        for (place, lease) in leases {
            let sequence = self.slots[*place].sequence + 1;
            self.slots[*place] = Slot { sequence, lease: *lease };
        }
        Ok(())
    }

    fn end(&mut self, place: usize) -> Result<(), Error> {
        let Some(lease) = self.slots[place].lease else { return Ok(()) };
        self.write(place, None)?;
        let (pid, tick) = identity(lease.process);
        self.places.remove(&(pid, tick, lease.action));
        self.free.push(place);
        Ok(())
    }

    fn under(&self, process: ProcessKey) -> impl Iterator<Item = usize> {
        let (pid, tick) = identity(process);
        let range = (pid, tick, ActionId(0))..=(pid, tick, ActionId(u64::MAX));
        self.places.range(range).map(|(_, place)| *place)
    }

    fn make_room(&mut self) -> Result<(), Error> {
        let now = system::boot_time();
        let old = |slot: &Slot| slot.lease.is_some_and(|lease| now.since_ns(lease.until) > FORGET_NS);
        let old: Vec<usize> = (0..self.slots.len()).filter(|place| old(&self.slots[*place])).collect();
        old.into_iter().try_for_each(|place| self.end(place))
    }
}

/// Who is stopped, and until when. A cheap handle.
#[derive(Clone, Debug)]
pub struct Leases {
    table: Arc<Mutex<Table>>,
}

impl Leases {
    /// Opens the table, taking over what an agent before left in it (of this boot). Best on a file system in memory
    /// (`/run`): no write to it ever waits for a disk there.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = open(path)?;
        let mut bytes = vec![0; TABLE_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|source| Error::Io {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
        let boot = system::boot_id();
        let slots =
            bytes.chunks_exact(SLOT_BYTES).map(newest).map(|(sequence, lease)| Slot { sequence, lease }).collect();
        let (path, places) = (path.to_owned(), BTreeMap::new());
        let mut table = Table { file, path, bytes, slots, places, free: Vec::new() };
        for place in (0..LEASES_MAX).rev() {
            match table.slots[place].lease {
                Some(lease) if lease.process.boot == boot => {
                    let (pid, tick) = identity(lease.process);
                    table.places.insert((pid, tick, lease.action), place);
                }
                Some(_) => {
                    table.write(place, None)?;
                    table.free.push(place);
                }
                None => table.free.push(place),
            }
        }
        Ok(Self { table: Arc::new(Mutex::new(table)) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the process is stopped. A lease that exists is prolonged, never shortened.
    pub fn grant(&self, action: ActionId, process: ProcessKey, until: Timestamp) -> Result<(), Error> {
        self.grant_all(action, &[process], until).1
    }

    /// As [`Leases::grant`], in one write. How many of them, from the first on, have their lease, and why not all of them.
    pub fn grant_all(
        &self,
        action: ActionId,
        processes: &[ProcessKey],
        until: Timestamp,
    ) -> (usize, Result<(), Error>) {
        let mut table = self.table();
        let mut granted = Vec::with_capacity(processes.len());
        let mut all = Ok(());
        for process in processes {
            let (pid, tick) = identity(*process);
            let place = match table.places.get(&(pid, tick, action)) {
                Some(place) => *place,
                None => {
                    if table.free.is_empty()
                        && let Err(error) = table.make_room()
                    {
                        all = Err(error);
                        break;
                    }
                    let Some(place) = table.free.pop() else {
                        all = Err(Error::Full(LEASES_MAX));
                        break;
                    };
                    table.places.insert((pid, tick, action), place);
                    place
                }
            };
            let until = table.slots[place].lease.map_or(until, |lease| lease.until.max(until));
            granted.push((place, Some(Lease { action, process: *process, until })));
        }
        let count = granted.len();
        granted.sort_unstable_by_key(|(place, _)| *place);
        match table.write_all(&granted) {
            Ok(()) => (count, all),
            Err(error) => {
                for (place, lease) in granted {
                    let Some((pid, tick)) = lease.map(|lease| identity(lease.process)) else { continue };
                    if table.slots[place].lease.is_none() && table.places.remove(&(pid, tick, action)).is_some() {
                        table.free.push(place);
                    }
                }
                (0, Err(error))
            }
        }
    }

    /// All of one action's leases; how many there are.
    pub fn prolong(&self, action: ActionId, until: Timestamp) -> Result<usize, Error> {
        let held = self.of(action);
        held.iter().try_for_each(|process| self.grant(action, *process, until))?;
        Ok(held.len())
    }

    /// After the process was continued or is gone: all of its leases, whatever the action.
    pub fn end(&self, process: ProcessKey) -> Result<(), Error> {
        let mut table = self.table();
        let places: Vec<usize> = table.under(process).collect();
        places.into_iter().try_for_each(|place| table.end(place))
    }

    /// One action lets go of a process.
    pub fn end_under(&self, action: ActionId, process: ProcessKey) -> Result<(), Error> {
        let mut table = self.table();
        let (pid, tick) = identity(process);
        let place = table.places.get(&(pid, tick, action)).copied();
        place.map_or(Ok(()), |place| table.end(place))
    }

    /// Another action than this one has a lease on the process.
    #[must_use]
    pub fn hold_under_another(&self, action: ActionId, process: ProcessKey) -> bool {
        let table = self.table();
        table.under(process).any(|place| table.slots[place].lease.is_some_and(|lease| lease.action != action))
    }

    /// Who is held under this action.
    #[must_use]
    pub fn of(&self, action: ActionId) -> Vec<ProcessKey> {
        let table = self.table();
        let leases = table.places.values().filter_map(|place| table.slots[*place].lease);
        leases.filter(|lease| lease.action == action).map(|lease| lease.process).collect()
    }

    /// Whether some action holds this process at `now`.
    #[must_use]
    pub fn hold(&self, process: ProcessKey, now: Timestamp) -> bool {
        let table = self.table();
        table.under(process).any(|place| table.slots[place].lease.is_some_and(|lease| lease.until > now))
    }
}
