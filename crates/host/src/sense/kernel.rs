// SPDX-License-Identifier: Apache-2.0
//! The kernel programs: loaded, attached, read. A program that the kernel refuses is left out and named.

use super::wire::{self, Config, Member};
use super::{Error, Hook, HookState, OpenIntent, calls};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, RingBuffer, RingBufferBuilder};
use rustix::fd::{AsFd, BorrowedFd};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use thymus_engine::Timestamp;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// An ELF image must start at a multiple of eight.
#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);

static SENSE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sense.bpf.o")));
static TASKS: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/tasks.bpf.o")));

/// Each program and what is not seen without it.
const PROGRAMS: [(&str, &str, &str); 10] = [
    ("sched_process_fork", "process", "forks: children are found when they first do something else"),
    ("sched_process_exec", "process", "programs that start, their arguments and parents"),
    ("sched_process_exit", "process", "ends of processes and of sessions"),
    ("sys_enter", "file", "what a call will do before it returns: the vault treats every open as a write"),
    ("sys_exit", "file", "times of file operations, first writes, changes of user, ptrace"),
    ("cgroup_mkdir", "session", "units made since the last look at the cgroup tree (it is read again on a miss)"),
    ("inet_sock_set_state", "network", "connections that are made and end, and programs that begin to listen"),
    (SOCKETS, "network", "connections and listeners that were there before the agent"),
    ("io_uring_submit_req", "file", "io_uring requests before they take effect (names are still seen)"),
    ("task_newtask", "file", "for whom a worker of io_uring works that is gone when its file is named"),
];

/// An iterator: it runs when it is read.
const SOCKETS: &str = "sockets";

/// As in `file/file.bpf.h`, `struct call`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Call {
    enter: u64,
    cgroup: u64,
    nr: u32,
    flags: u32,
}

/// As in `file/file.bpf.h`: the thread has been in such calls, and is in none now.
const NR_NONE: u32 = u32::MAX;

/// What a host with 1,000 processes needs; beyond it the list allocates.
const MEMBERS_BYTES: usize = 24 << 10;

/// Bytes of records, one after the other, each behind its length.
type Inbox = Arc<Mutex<Vec<u8>>>;

#[derive(Debug)]
pub(super) struct Programs {
    // Fields drop in this order: first the reader, then what feeds it.
    ring: RingBuffer<'static>,
    _links: Vec<Link>,
    sockets: Option<Link>,
    _object: Object,
    inbox: Inbox,
    ring_map: MapHandle,
    lost: MapHandle,
    running: Arc<MapHandle>,
    pub(super) hooks: Vec<Hook>,
}

/// What is the same for every object: the scope, ourselves, the tables.
fn config(scope_cgroup: u64) -> Config {
    let mut config = Config::new_zeroed();
    config.scope_cgroup = scope_cgroup;
    config.agent_pid = std::process::id();
    config.agent_pid_namespace = std::fs::metadata("/proc/self/ns/pid")
        .ok()
        .and_then(|namespace| u32::try_from(namespace.ino()).ok())
        .unwrap_or(0);
    calls::fill(&mut config);
    config
}

fn open(image: &[u8], config: &Config, ring_bytes: u32, wanted: &[&str]) -> libbpf_rs::Result<Object> {
    // libbpf tells its troubles on standard error; ours are in the result.
    libbpf_rs::set_print(None);
    let mut object = ObjectBuilder::default().open_memory(image)?;
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name == ".rodata.config" {
            map.set_initial_value(config.as_bytes())?;
        } else if name == "ring" {
            map.set_max_entries(ring_bytes)?;
        }
    }
    for mut program in object.progs_mut() {
        let keep = wanted.iter().any(|name| program.name() == *name);
        program.set_autoload(keep);
    }
    object.load()
}

/// Which programs the kernel takes, tried one by one.
fn trial(config: &Config) -> Vec<(&'static str, Result<(), String>)> {
    PROGRAMS
        .iter()
        .map(|(name, ..)| {
            let object = open(&SENSE.0, config, 65_536, &[name]);
            (*name, object.map(drop).map_err(|error| format!("{error:#}")))
        })
        .collect()
}

fn map(object: &Object, name: &'static str) -> Result<MapHandle, Error> {
    let missing = || libbpf_rs::Error::from(std::io::Error::from(std::io::ErrorKind::NotFound));
    let found = object.maps().find(|map| map.name() == name).ok_or_else(missing);
    found.and_then(|map| MapHandle::try_from(&map)).map_err(|source| Error::Load { program: name, source })
}

impl Programs {
    pub(super) fn start(scope_cgroup: u64, ring_bytes: u32) -> Result<Self, Error> {
        let config = config(scope_cgroup);
        let all: Vec<&str> = PROGRAMS.iter().map(|(name, ..)| *name).collect();
        let mut refused: Vec<(&str, String)> = Vec::new();
        let object = match open(&SENSE.0, &config, ring_bytes, &all) {
            Ok(object) => object,
            Err(_) => {
                refused = trial(&config).into_iter().filter_map(|(name, tried)| Some((name, tried.err()?))).collect();
                let taken: Vec<&str> =
                    all.iter().copied().filter(|name| refused.iter().all(|(other, _)| other != name)).collect();
                open(&SENSE.0, &config, ring_bytes, &taken)
                    .map_err(|source| Error::Load { program: "sense", source })?
            }
        };
        let (mut links, mut sockets) = (Vec::new(), None);
        for program in object.progs_mut() {
            let Some((name, ..)) = PROGRAMS.iter().find(|(name, ..)| program.name() == *name) else { continue };
            if refused.iter().any(|(other, _)| other == name) {
                continue;
            }
            match program.attach() {
                Ok(link) if *name == SOCKETS => sockets = Some(link),
                Ok(link) => links.push(link),
                Err(error) => refused.push((name, format!("{error:#}"))),
            }
        }
        let hooks = PROGRAMS.iter().map(|program| hook(program, &refused)).collect();
        let inbox = Inbox::default();
        let ring_map = map(&object, "ring")?;
        let ring = {
            let inbox = Arc::clone(&inbox);
            let mut builder = RingBufferBuilder::new();
            let added = builder.add(&ring_map, move |bytes| {
                let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
                let length = u32::try_from(bytes.len()).unwrap_or(0);
                inbox.extend_from_slice(&length.to_le_bytes());
                inbox.extend_from_slice(bytes);
                0
            });
            added.map(drop).and_then(|()| builder.build()).map_err(|source| Error::Load { program: "ring", source })?
        };
        let (lost, running) = (map(&object, "lost")?, Arc::new(map(&object, "running")?));
        Ok(Self { ring, _links: links, sockets, _object: object, inbox, ring_map, lost, running, hooks })
    }

    /// Becomes readable when a record has come.
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.ring_map.as_fd()
    }

    /// Appends every record that is there to `records`, each behind its length; see [`each`].
    pub(super) fn drain(&self, records: &mut Vec<u8>) -> Result<(), Error> {
        self.ring.consume().map_err(|source| Error::Load { program: "ring", source })?;
        records.append(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Tells of every connection and listener that is there already, by records as of those to come.
    pub(super) fn tell_sockets(&self) -> Result<(), Error> {
        let Some(link) = &self.sockets else { return Ok(()) };
        libbpf_rs::Iter::new(link)
            .map_err(|source| Error::Load { program: SOCKETS, source })?
            .read_to_end(&mut Vec::new())
            .map(drop)
            .map_err(|source| Error::Kernel { what: "read the list of sockets", source })
    }

    /// Records that found no room, since start.
    pub(super) fn lost(&self) -> u64 {
        let counts = self.lost.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten().unwrap_or_default();
        counts.iter().filter_map(|count| Some(u64::from_ne_bytes(count.get(..8)?.try_into().ok()?))).sum()
    }

    pub(super) fn write_intent(&self) -> WriteIntent {
        WriteIntent { running: Some(Arc::clone(&self.running)) }
    }
}

/// The records that [`Programs::drain`] appended.
pub(super) fn each(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = records.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        records = rest;
        Some(record)
    })
}

fn hook((name, sensor, blind_to): &(&str, &str, &'static str), refused: &[(&str, String)]) -> Hook {
    let state = match refused.iter().find(|(other, _)| other == name) {
        None => HookState::Attached,
        Some((_, why)) => HookState::Refused(why.clone()),
    };
    Hook { name: format!("{sensor}/{name}"), state, blind_to }
}

/// Tries every program; nothing stays.
pub(super) fn available(scope_cgroup: u64) -> Vec<Hook> {
    let refused: Vec<(&str, String)> =
        trial(&config(scope_cgroup)).into_iter().filter_map(|(name, tried)| Some((name, tried.err()?))).collect();
    PROGRAMS.iter().map(|program| hook(program, &refused)).collect()
}

/// Tells the vault's permission thread what a thread is about to do. Cheap to clone, safe to share.
#[derive(Clone, Debug, Default)]
pub struct WriteIntent {
    running: Option<Arc<MapHandle>>,
}

impl WriteIntent {
    /// The system call that thread `tid` is in, if it is one that opens, runs, renames or truncates.
    /// `None`: not known; treat as a write.
    #[must_use]
    pub fn flags(&self, tid: u32) -> Option<OpenIntent> {
        let bytes = self.running.as_ref()?.lookup(&tid.to_ne_bytes(), MapFlags::ANY).ok()??;
        let call = Call::read_from_prefix(&bytes).ok().map(|(call, _)| call).filter(|call| call.nr != NR_NONE)?;
        Some(OpenIntent { nr: call.nr, flags: call.flags, cgroup: call.cgroup, since: Timestamp(call.enter) })
    }
}

fn iterator(name: &'static str, scope_cgroup: u64) -> Result<(Object, Link), Error> {
    let failed = |source| Error::Load { program: name, source };
    let object = open(&TASKS.0, &config(scope_cgroup), 4_096, &[name]).map_err(failed)?;
    let missing = || libbpf_rs::Error::from(std::io::Error::from(std::io::ErrorKind::NotFound));
    let found = object.progs_mut().find(|program| program.name() == name).ok_or_else(missing);
    let link = found.and_then(|program| program.attach()).map_err(failed)?;
    Ok((object, link))
}

/// Reads every process with its exact start time.
#[derive(Debug)]
pub(super) struct TaskIterator {
    _object: Object,
    link: Link,
}

impl TaskIterator {
    pub(super) fn new() -> Result<Self, Error> {
        let (_object, link) = iterator("tasks", 0)?;
        Ok(Self { _object, link })
    }

    /// Calls `each` with the record of every process that the agent's pid namespace has.
    pub(super) fn read(&self, mut each: impl FnMut(&wire::Record<'_>)) -> Result<(), Error> {
        let mut bytes = Vec::new();
        libbpf_rs::Iter::new(&self.link)
            .map_err(|source| Error::Load { program: "tasks", source })?
            .read_to_end(&mut bytes)
            .map_err(|source| Error::Kernel { what: "read the task iterator", source })?;
        let mut rest = bytes.as_slice();
        while let Some((length, tail)) = rest.split_first_chunk::<8>() {
            let length = usize::try_from(u64::from_ne_bytes(*length)).unwrap_or(usize::MAX);
            let Some((record, tail)) = tail.split_at_checked(length) else { break };
            if let Some(record) = wire::record(record) {
                each(&record);
            }
            rest = tail;
        }
        Ok(())
    }
}

/// The processes of a scope and no more of each than a stop needs to know: tens of microseconds for all of them together,
/// where `/proc` takes six for one.
#[derive(Debug)]
pub(crate) struct Members {
    _object: Object,
    link: Link,
    bytes: Vec<u8>,
}

impl Members {
    /// `scope_cgroup`: with everything below it; `None`: every process of the agent's pid namespace.
    pub(crate) fn new(scope_cgroup: Option<u64>) -> Result<Self, Error> {
        let (_object, link) = iterator("members", scope_cgroup.unwrap_or(0))?;
        Ok(Self { _object, link, bytes: Vec::with_capacity(MEMBERS_BYTES) })
    }

    /// Whoever is there from the call's beginning to its end is among them.
    pub(crate) fn read(&mut self) -> Result<impl Iterator<Item = Member>, Error> {
        self.bytes.clear();
        libbpf_rs::Iter::new(&self.link)
            .map_err(|source| Error::Load { program: "members", source })?
            .read_to_end(&mut self.bytes)
            .map_err(|source| Error::Kernel { what: "read the list of processes", source })?;
        Ok(self.bytes.chunks_exact(size_of::<Member>()).filter_map(|bytes| Member::read_from_bytes(bytes).ok()))
    }
}
