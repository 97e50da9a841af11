// SPDX-License-Identifier: Apache-2.0
//! The intent of a reflex: a few microseconds, no fsync, and it outlives the agent.
//!
//! A preallocated file of fixed slots, each written by one `pwrite(2)`: the page cache keeps it when the agent is killed,
//! though not when the machine loses power (which ends every suspension anyway). A slot whose check fails was never promised.

use super::frame::array;
use super::{Error, io_error};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thymus_engine::{ActionId, BootId, IncidentId, ProcessKey, Timestamp};

const SLOTS: u64 = 64;
const SLOT_BYTES: usize = 8_192;
const HEAD_BYTES: usize = 56;
const ENTRY_BYTES: usize = 16;
/// Processes in one slot; more take further slots.
const ENTRIES: usize = (SLOT_BYTES - HEAD_BYTES) / ENTRY_BYTES;

/// What was promised before the first signal of a reflex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub action: ActionId,
    pub incident: IncidentId,
    pub time: Timestamp,
    pub processes: Vec<ProcessKey>,
}

#[derive(Debug)]
pub struct Ring {
    file: File,
    path: PathBuf,
    boot: BootId,
    next: u64,
    slot: Box<[u8; SLOT_BYTES]>,
}

impl Ring {
    /// Opens or makes the ring; gives what an agent of this boot promised and did not see settled, oldest first.
    pub fn open(path: &Path) -> Result<(Self, Vec<Promise>), Error> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(io_error("open", path))?;
        let bytes = SLOTS * SLOT_BYTES as u64;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
            .map_err(|error| io_error("preallocate", path)(error.into()))?;
        let boot = crate::system::boot_id();
        let mut found: Vec<(u64, Promise)> = Vec::new();
        let mut slot = Box::new([0; SLOT_BYTES]);
        for at in 0..SLOTS {
            file.read_exact_at(&mut slot[..], at * SLOT_BYTES as u64).map_err(io_error("read", path))?;
            found.extend(decode(&slot, boot));
        }
        found.sort_unstable_by_key(|(sequence, _)| *sequence);
        let next = found.last().map_or(1, |(sequence, _)| sequence.wrapping_add(1));
        let mut promises: Vec<Promise> = Vec::new();
        for (_, promise) in found {
            match promises.last_mut() {
                Some(last) if last.action == promise.action => last.processes.extend(promise.processes),
                _ => promises.push(promise),
            }
        }
        Ok((Self { file, path: path.to_owned(), boot, next, slot }, promises))
    }

    /// With the kernel when this returns.
    pub fn promise(
        &mut self,
        action: ActionId,
        incident: IncidentId,
        time: Timestamp,
        processes: &[ProcessKey],
    ) -> Result<(), Error> {
        for chunk in processes.chunks(ENTRIES) {
            let numbers = [self.next, self.boot.0, action.0, incident.0, time.0, chunk.len() as u64];
            let entries = chunk.iter().flat_map(|process| [u64::from(process.pid), process.start_time.0]);
            let end = HEAD_BYTES + chunk.len() * ENTRY_BYTES;
            for (bytes, number) in self.slot[8..end].chunks_exact_mut(8).zip(numbers.into_iter().chain(entries)) {
                bytes.copy_from_slice(&number.to_le_bytes());
            }
            let check = blake3::hash(&self.slot[8..end]);
            self.slot[..8].copy_from_slice(&check.as_bytes()[..8]);
            let offset = (self.next % SLOTS) * SLOT_BYTES as u64;
            self.file.write_all_at(&self.slot[..end], offset).map_err(io_error("write", &self.path))?;
            self.next = self.next.wrapping_add(1);
        }
        Ok(())
    }

    /// The journal has it now, or it is over: every slot of that action is cleared.
    pub fn clear(&mut self, action: ActionId) -> Result<(), Error> {
        let mut slot = [0; SLOT_BYTES];
        for at in 0..SLOTS {
            let offset = at * SLOT_BYTES as u64;
            self.file.read_exact_at(&mut slot, offset).map_err(io_error("read", &self.path))?;
            if decode(&slot, self.boot).is_some_and(|(_, promise)| promise.action == action) {
                self.file.write_all_at(&[0; 8], offset).map_err(io_error("write", &self.path))?;
            }
        }
        Ok(())
    }
}

fn decode(slot: &[u8; SLOT_BYTES], boot: BootId) -> Option<(u64, Promise)> {
    let number = |at: usize| u64::from_le_bytes(array(&slot[8 + at * 8..][..8]));
    let count = usize::try_from(number(5)).ok().filter(|count| (1..=ENTRIES).contains(count))?;
    let end = HEAD_BYTES + count * ENTRY_BYTES;
    if slot[..8] != blake3::hash(&slot[8..end]).as_bytes()[..8] || number(1) != boot.0 {
        return None;
    }
    let process = |at: usize| {
        let pid = u32::try_from(number(6 + at * 2)).ok()?;
        Some(ProcessKey { boot, pid, start_time: Timestamp(number(7 + at * 2)) })
    };
    let processes = (0..count).map(process).collect::<Option<Vec<_>>>()?;
    let promise =
        Promise { action: ActionId(number(2)), incident: IncidentId(number(3)), time: Timestamp(number(4)), processes };
    Some((number(0), promise))
}

/// A slot of any bytes, as it is and with a check that holds: what is promised fits into the slot.
pub(crate) fn fuzz_slot(bytes: &[u8]) {
    let mut slot = [0; SLOT_BYTES];
    for (into, from) in slot.iter_mut().zip(bytes) {
        *into = *from;
    }
    let boot = BootId(u64::from_le_bytes(array(&slot[16..24])));
    let _ = decode(&slot, boot);
    let end = HEAD_BYTES + usize::from(slot[48]).min(ENTRIES) * ENTRY_BYTES;
    let check = blake3::hash(&slot[8..end]);
    slot[..8].copy_from_slice(&check.as_bytes()[..8]);
    assert!(decode(&slot, boot).is_none_or(|(_, promise)| (1..=ENTRIES).contains(&promise.processes.len())));
}

pub(crate) fn slot_seeds() -> Vec<Vec<u8>> {
    let numbers = [0, 1, 9, 1, 1, 5, 2, 10, 7, 11, 7];
    vec![numbers.iter().flat_map(|number: &u64| number.to_le_bytes()).collect()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(count: u32) -> Vec<ProcessKey> {
        let boot = crate::system::boot_id();
        (0..count).map(|pid| ProcessKey { boot, pid: pid + 10, start_time: Timestamp(u64::from(pid) * 7) }).collect()
    }

    #[test]
    fn a_promise_is_found_by_the_next_agent_until_it_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        let (mut ring, found) = Ring::open(&path).unwrap();
        assert!(found.is_empty());
        ring.promise(ActionId(1), IncidentId(1), Timestamp(5), &keys(3)).unwrap();
        ring.promise(ActionId(2), IncidentId(1), Timestamp(6), &keys(1_200)).unwrap();
        drop(ring);
        let (mut ring, found) = Ring::open(&path).unwrap();
        assert_eq!(found.iter().map(|promise| promise.processes.len()).collect::<Vec<_>>(), [3, 1_200]);
        assert_eq!(found[0].processes, keys(3));
        ring.clear(ActionId(2)).unwrap();
        let (_, found) = Ring::open(&path).unwrap();
        assert_eq!(found.len(), 1);
    }

    proptest! {
        #[test]
        fn any_slot_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), SLOT_BYTES)) {
            let slot: [u8; SLOT_BYTES] = bytes.try_into().unwrap();
            prop_assert!(decode(&slot, crate::system::boot_id()).is_none());
        }
    }
}
