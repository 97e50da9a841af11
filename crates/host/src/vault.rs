// SPDX-License-Identifier: Apache-2.0
//! Versions of what we promise to restore, and who wrote each.
//!
//! In: file activities, in the order of time ([`Vault::note`]), permission events ([`Vault::protect`]) and the trees
//! themselves ([`Vault::baseline`]). Out: states of paths, exact in content, mode, owner, extended attributes and link
//! target, each with its writer. Chains are kept by path: a rename over a path is a new version of that path.
//!
//! INVARIANT: what is given out as content has the digest it is asked by; what is not surely complete is
//! [`Recorded::Missing`] with the reason, never wrong. Capture reads through `openat2` beneath the guarded root and
//! follows nothing.

mod baseline;
mod capture;
mod gate;
mod index;
mod log;
mod note;
mod protect;
mod rules;
mod shape;
mod store;
mod version;
mod worker;

pub(crate) use log::{fuzz_log, log_seeds};
pub use protect::Protection;
pub(crate) use store::{fuzz_pack, pack_seeds};
pub use version::{Digest, Kind, Recorded, State, Version};

use crate::scope::{Acting, Scope};
use gate::Gate;
use index::{Entry, Index};
use log::{Log, Place, Record};
use rules::Rules;
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::Store;
use thymus_engine::event::{Content, FileActivity};
use thymus_engine::id::{ProcessKey, Timestamp, VersionId};
use thymus_engine::path::HostPath;
use worker::Queue;

/// Bytes of the store unless configured: one day of versions (design.md, section 6).
pub const QUOTA_BYTES_DEFAULT: u64 = 1 << 30;
/// Larger files are recorded without content unless configured.
pub const FILE_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Versions younger than this are never dropped by retention unless configured.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(72 * 3600);

/// LIMIT: superseded versions, some 120 bytes of memory each; beyond it the oldest go, however young.
pub const SUPERSEDED_MAX: usize = 300_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} `{path}`")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "`{path}` was altered at byte {offset}, record {record}: {reason}; \
         move the vault aside (`Vault::set_aside`) and keep it as evidence"
    )]
    Altered { path: PathBuf, offset: u64, record: u64, reason: String },
    #[error("the vault has no version {0}; it never was, or retention dropped it")]
    Unknown(VersionId),
    #[error("version {0} is still being captured; ask again")]
    Pending(VersionId),
    #[error("the vault has no content with digest {0}")]
    NoContent(Digest),
    #[error(
        "the stored content of {0} does not have that digest any more: the store was altered or the disk is failing"
    )]
    BadContent(Digest),
    #[error("the vault's quota of {quota_bytes} bytes is used up; raise it or shorten the retention")]
    Quota { quota_bytes: u64 },
}

/// What is kept, and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Trees (or single files) that versions are kept of.
    pub protected: Vec<HostPath>,
    /// Left out: globs over whole paths, `*` within one component; what lies below a match is left out too.
    pub excluded: Vec<String>,
    /// Files that daemons only append to: globs, `*` within one component.
    pub append_only: Vec<String>,
    /// Bytes on disk, content and records together.
    pub quota_bytes: u64,
    /// Larger files are recorded by name and reason only.
    pub file_bytes_max: u64,
    /// Versions younger than this are not dropped.
    pub retention: Duration,
    /// More superseded versions are not kept, whatever their age.
    pub superseded_max: usize,
}

impl Options {
    /// The usual limits for these trees.
    #[must_use]
    pub fn of(protected: &[&str]) -> Self {
        Self {
            protected: protected.iter().map(|tree| HostPath::from(*tree)).collect(),
            excluded: Vec::new(),
            append_only: Vec::new(),
            quota_bytes: QUOTA_BYTES_DEFAULT,
            file_bytes_max: FILE_BYTES_MAX_DEFAULT,
            retention: RETENTION_DEFAULT,
            superseded_max: SUPERSEDED_MAX,
        }
    }
}

/// What is covered, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub trees: Vec<TreeCoverage>,
    /// Changed while no agent guarded them: found by the baseline of a restart.
    pub changed_unguarded: Vec<HostPath>,
    /// Times in which a path (or the whole scope) was not protected.
    pub windows: Vec<Window>,
    /// What did not fit the lists above, counted.
    pub omitted: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeCoverage {
    pub tree: HostPath,
    /// Regular files with content in the vault.
    pub files: u64,
    /// Directories, links and other objects.
    pub others: u64,
    pub bytes: u64,
    /// In the tree but not in the vault, with the reason; the first [`NAMED_MAX`].
    pub missing: Vec<(HostPath, String)>,
    pub missing_count: u64,
}

/// LIMIT: other names of one file that are looked at.
pub const LINKS_MAX: usize = 64;
/// LIMIT: versions on disk that are read to find them, the newest first.
const SEVERAL_NAMES_MAX: usize = 4_096;
/// LIMIT: paths named in each list of [`Coverage`]; the rest is counted.
pub const NAMED_MAX: usize = 256;

/// A time in which changes of a path could be missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// `/` when it concerns every protected tree.
    pub path: HostPath,
    pub since: Timestamp,
    /// Equal to `since` for a single instant.
    pub until: Timestamp,
    pub reason: String,
}

/// What was done and what was lost since the vault was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub versions: u64,
    pub captures: u64,
    pub capture_bytes: u64,
    /// Versions without content because the queue was full.
    pub queue_full: u64,
    /// Versions without content because of the quota or a full disk.
    pub quota_stops: u64,
    /// Versions whose object was gone or unreadable when its turn came.
    pub gone: u64,
    /// Versions that may hold a later state.
    pub inexact: u64,
    /// Permission events answered, of them those that waited for a capture, and those that a deadline answered.
    pub permission_events: u64,
    pub permission_captures: u64,
    pub permission_deadlines: u64,
    /// Children of renamed directories beyond the limit.
    pub children_skipped: u64,
    /// Logs without a name that were followed no further, because there were too many.
    pub departed_left: u64,
    /// Contents that lost their form and were not told, because nobody listened for too long.
    pub sightings_dropped: u64,
    /// Bytes of an unfinished write cut off when the vault was opened.
    pub torn_bytes: u64,
    /// Bytes on disk now.
    pub stored_bytes: u64,
    /// Captures waiting now.
    pub queued: u64,
    /// Versions dropped by retention, of them those that were younger than it says, because there were too many.
    pub dropped: u64,
    pub dropped_early: u64,
}

/// What a thread is about to do to the file it opens or touches, by its current system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    Read,
    /// Opens for writing, or writes.
    Write,
    /// `truncate`, `ftruncate`, or opens with `O_TRUNC`.
    Truncate,
    /// Not known: taken for a write.
    Unknown,
}

/// The vault. Clones share it; the last one gone flushes and ends its threads.
#[derive(Clone, Debug)]
pub struct Vault(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

/// Threads that read what notes ask for. Two: one may wait for a disk.
const WORKERS: usize = 2;
/// How long [`Vault::version`] waits for a capture.
const WAIT: Duration = Duration::from_secs(5);

/// Everything that is counted.
#[derive(Debug, Default)]
struct Tally {
    captures: AtomicU64,
    capture_bytes: AtomicU64,
    queue_full: AtomicU64,
    quota_stops: AtomicU64,
    gone: AtomicU64,
    inexact: AtomicU64,
    permission_events: AtomicU64,
    permission_captures: AtomicU64,
    permission_deadlines: AtomicU64,
    children_skipped: AtomicU64,
    departed_left: AtomicU64,
    sightings_dropped: AtomicU64,
    dropped: AtomicU64,
    dropped_early: AtomicU64,
    torn_bytes: u64,
}

/// What the threads share. INVARIANT: the locks of `index`, `gate` and `queue` are never held over a call that can wait
/// for a disk or for an answer of the permission group; those of `log` and `store` may be, and the thread that answers
/// takes neither.
#[derive(Debug)]
struct Inner {
    root: OwnedFd,
    /// The root again, open for reading: handles are opened by way of it.
    mount: OwnedFd,
    /// How the guarded root is reached from here, empty for `/`: it is cut from what the kernel calls an event's file.
    root_prefix: Vec<u8>,
    options: Options,
    rules: Rules,
    store: Store,
    log: Mutex<Log>,
    index: Mutex<Index>,
    settled: Condvar,
    gate: Mutex<Gate>,
    queue: Mutex<Queue>,
    sightings: Mutex<Vec<Content>>,
    wake: Condvar,
    /// Read: something is being stored. Write: it is decided what lives.
    usage: RwLock<()>,
    /// Size and time of each held log when its tail was captured.
    tails: Mutex<BTreeMap<u64, (u64, i64)>>,
    tally: Tally,
    stop: AtomicBool,
    quiet: Mutex<bool>,
    closing: Condvar,
    /// Who takes pre-images, if anybody does.
    group: Mutex<Weak<protect::Group>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked is reported where it was started; what it guarded is updated in single steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
}

/// This instant, by the clock of events.
fn boot_now() -> Timestamp {
    Timestamp(nanoseconds(rustix::time::ClockId::Boottime))
}

fn nanoseconds(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// An error with all its causes, on one line.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).take(8);
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        locked(&self.gate)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        locked(&self.log)
    }

    fn usage(&self) -> RwLockReadGuard<'_, ()> {
        self.usage.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn guards(&self, path: &HostPath) -> bool {
        self.rules.guards(path)
    }

    /// The same instant since 1970, nanoseconds, by the present difference of the clocks.
    fn unix(&self, time: Timestamp) -> i64 {
        let now = i64::try_from(nanoseconds(rustix::time::ClockId::Realtime)).unwrap_or(i64::MAX);
        let boot = i64::try_from(boot_now().0).unwrap_or(i64::MAX);
        now.saturating_sub(boot).saturating_add(i64::try_from(time.0).unwrap_or(i64::MAX))
    }

    /// A settled version, from wherever it is.
    fn known(&self, id: VersionId) -> Result<Version, Error> {
        let mut asked = None;
        loop {
            let resting = match self.index().entry(id).ok_or(Error::Unknown(id))? {
                Entry::Here(slot) if slot.pending => return Err(Error::Pending(id)),
                Entry::Here(slot) => return Ok(slot.version.clone()),
                Entry::Resting(resting) => *resting,
            };
            let log = self.log();
            if let Some(Record::Version(version)) = log.read(resting.place)?
                && version.id == id
            {
                return Ok(resting.amend(version));
            }
            // The log may have been replaced meanwhile, and the version moved with it.
            if asked == Some(resting.place) {
                return Err(log.altered_at(resting.place));
            }
            asked = Some(resting.place);
        }
    }

    fn pin(&self, paths: &[HostPath]) {
        let mut index = self.index();
        let new: Vec<&HostPath> = paths.iter().filter(|path| index.pins.insert((*path).clone())).collect();
        drop(index);
        self.record(&new.into_iter().cloned().map(Record::Pinned).collect::<Vec<_>>());
    }

    fn unpin(&self, paths: &[HostPath]) {
        let mut index = self.index();
        let gone: Vec<&HostPath> = paths.iter().filter(|path| index.pins.remove(*path)).collect();
        drop(index);
        self.record(&gone.into_iter().cloned().map(Record::Unpinned).collect::<Vec<_>>());
    }
}

impl Vault {
    /// Loads what was there. An unfinished last record is cut off; anything else that does not fit is refused with its place.
    pub fn open(directory: &Path, scope: &Scope, options: Options) -> Result<Self, Error> {
        let failed = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| Error::Io { what, path, source }
        };
        let (store, torn_packs) = Store::open(&directory.join("packs"), options.quota_bytes)?;
        let mut loading = Loading::default();
        let take = &mut |record, place| loading.take(record, place, &store);
        let (log, torn_log) = Log::open(&directory.join("versions"), take)?;
        for path in [directory, &directory.join("packs")] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(path, mode).map_err(failed("close to others", path))?;
        }
        store.charge_record(log.bytes());
        let root = scope.root().try_clone().map_err(failed("hold", scope.root_path()))?;
        let readable = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let mount = rustix::fs::openat(&root, ".", readable, rustix::fs::Mode::empty())
            .map_err(|errno| failed("open", scope.root_path())(errno.into()))?;
        let root_path = std::fs::canonicalize(scope.root_path()).map_err(failed("resolve", scope.root_path()))?;
        let root_prefix = std::os::unix::ffi::OsStrExt::as_bytes(root_path.as_os_str());
        let root_prefix = root_prefix.strip_suffix(b"/").unwrap_or(root_prefix).to_vec();
        let own = std::fs::canonicalize(directory).map_err(failed("resolve", directory))?;
        let own = std::os::unix::ffi::OsStrExt::as_bytes(own.as_os_str()).strip_prefix(root_prefix.as_slice());
        let own = own.filter(|rest| rest.first() == Some(&b'/')).map(HostPath::new);
        let inner = Arc::new(Inner {
            root,
            mount,
            root_prefix,
            rules: Rules::new(&options, own),
            options,
            store,
            log: Mutex::new(log),
            index: Mutex::new(loading.index),
            settled: Condvar::new(),
            gate: Mutex::default(),
            queue: Mutex::default(),
            sightings: Mutex::default(),
            wake: Condvar::new(),
            usage: RwLock::default(),
            tails: Mutex::default(),
            tally: Tally { torn_bytes: torn_packs + torn_log, ..Tally::default() },
            stop: AtomicBool::new(false),
            quiet: Mutex::default(),
            closing: Condvar::new(),
            group: Mutex::default(),
        });
        inner.store.put(&mut io::empty(), 0)?;
        inner.reserve();
        let start = |name: &str, body: fn(&Inner)| {
            let inner = Arc::clone(&inner);
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn(move || body(&inner)).map_err(failed("start a thread for", directory))
        };
        let mut threads = Vec::new();
        for _ in 0..WORKERS {
            threads.push(start("vault-capture", Inner::work)?);
        }
        threads.push(start("vault-house", Inner::keep_house)?);
        Ok(Self(Arc::new(Handle { inner, threads })))
    }

    /// Moves a vault that `open` refused out of the way, as evidence; says where to.
    pub fn set_aside(directory: &Path) -> Result<PathBuf, Error> {
        for number in 1..10_000 {
            let mut name = directory.as_os_str().to_owned();
            name.push(format!(".altered-{number}"));
            let aside = PathBuf::from(name);
            if !aside.exists() {
                let moved = std::fs::rename(directory, &aside);
                moved.map_err(|source| Error::Io { what: "move aside", path: directory.to_owned(), source })?;
                return Ok(aside);
            }
        }
        let source = io::Error::other("10,000 vaults stand aside already");
        Err(Error::Io { what: "move aside", path: directory.to_owned(), source })
    }

    /// Copies the protected trees; where versions are known already, compares, and records what changed as versions of an
    /// unknown writer.
    pub fn baseline(&self) -> Result<Coverage, Error> {
        self.0.inner.baseline()
    }

    /// Records one file activity; must be called in the order of time. Never waits for a disk or a capture: allocates
    /// versions, fills `change`, `change_result` and `mode`, and leaves the reading to the vault's threads. False: the
    /// activity concerns a file that stands at its path no longer, and is no change of the path.
    pub fn note(&self, activity: &mut FileActivity, time: Timestamp) -> bool {
        self.0.inner.note(activity, time)
    }

    /// Contents that lost their form since this was asked last, in the order in which they were read.
    #[must_use]
    pub fn sightings(&self) -> Vec<Content> {
        std::mem::take(&mut *locked(&self.0.inner.sightings))
    }

    /// One version; waits for its capture when that is still to be done, at most some seconds.
    pub fn version(&self, id: VersionId) -> Result<Version, Error> {
        let inner = &self.0.inner;
        inner.follow(id);
        let (deadline, mut index) = (Instant::now() + WAIT, inner.index());
        loop {
            match index.entry(id).ok_or(Error::Unknown(id))? {
                Entry::Here(slot) if slot.pending => {}
                Entry::Here(_) | Entry::Resting(_) => {
                    drop(index);
                    return inner.known(id);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Pending(id));
            }
            index = wait(&inner.settled, index, left);
        }
    }

    /// Content of that digest is stored, all of it.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.0.inner.store.is_complete(digest)
    }

    /// The bytes with that digest, verified.
    pub fn content(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        self.0.inner.store.get(digest)
    }

    /// Stores bytes that belong to no version, such as what an action is about to overwrite. Kept for as long as the retention says.
    pub fn keep(&self, bytes: &mut dyn io::Read) -> Result<Digest, Error> {
        let inner = &self.0.inner;
        let _usage = inner.usage();
        let stored = inner.store.put(bytes, u64::MAX)?;
        let (digest, _) = stored.ok_or(Error::Quota { quota_bytes: inner.options.quota_bytes })?;
        let unix_ns = inner.unix(boot_now());
        inner.index().kept.insert(digest, unix_ns);
        inner.log().append(&[Record::Kept { digest, unix_ns }], &inner.store)?;
        Ok(digest)
    }

    /// Other paths at which the inode of a version was recorded, sorted; at most [`LINKS_MAX`].
    #[must_use]
    pub fn names(&self, id: VersionId) -> Vec<HostPath> {
        let inner = &self.0.inner;
        let Ok(version) = inner.known(id) else { return Vec::new() };
        let Some(state) = version.recorded.state().filter(|state| state.born_ns != 0) else { return Vec::new() };
        let is_same = |other: &Version| {
            other.path != version.path
                && other.recorded.state().is_some_and(|other| {
                    (other.key.inode, other.born_ns) == (state.key.inode, state.born_ns) && other.nlink > 1
                })
        };
        let (mut names, mut resting) = (BTreeSet::new(), Vec::new());
        for (id, known) in inner.index().several_names() {
            match known {
                Some(known) if is_same(known) => {
                    names.insert(known.path.clone());
                }
                Some(_) => {}
                None => resting.push(id),
            }
        }
        let known = resting.into_iter().rev().take(SEVERAL_NAMES_MAX).filter_map(|id| inner.known(id).ok());
        names.extend(known.filter(is_same).map(|other| other.path));
        names.into_iter().take(LINKS_MAX).collect()
    }

    /// The newest version of a path.
    #[must_use]
    pub fn latest(&self, path: &HostPath) -> Option<VersionId> {
        self.0.inner.index().chain(path).last().copied()
    }

    /// Every version of a path, oldest first.
    #[must_use]
    pub fn chain(&self, path: &HostPath) -> Vec<VersionId> {
        self.0.inner.index().chain(path).to_vec()
    }

    /// The present state of a path, read now; a regular file's content is stored too. Records no version.
    pub fn look(&self, path: &HostPath) -> Result<Recorded, Error> {
        let inner = &self.0.inner;
        let _usage = inner.usage();
        match inner.read_path(path) {
            Ok(captured) if captured.stable => {
                if let Some(digest) = captured.state.digest {
                    inner.index().kept.insert(digest, inner.unix(boot_now()));
                }
                Ok(Recorded::State(captured.state))
            }
            Ok(_) => Ok(Recorded::Missing("it changes while it is read".into())),
            Err(capture::Failure::Absent) => Ok(Recorded::State(State::absent())),
            Err(capture::Failure::Refused(reason)) => Ok(Recorded::Missing(reason)),
            Err(capture::Failure::Store(error)) => Err(error),
        }
    }

    /// Records the present state as the newest version of `path`, written by `writer`: what the agent does itself is told
    /// by no sensor, and the next change must find it as the state before. `note` says why, in a few words.
    #[must_use]
    pub fn renew(&self, path: &HostPath, writer: ProcessKey, note: &str) -> VersionId {
        self.0.inner.renew(path, writer, note)
    }

    /// Records that these paths are again what they were in those versions (`UNKNOWN`: nothing), by `writer`. Nothing is
    /// read: whoever says so has put them there.
    pub fn restored(&self, paths: &[(&HostPath, VersionId)], writer: ProcessKey) {
        self.0.inner.restored(paths, writer);
    }

    /// Keeps all versions of these paths from retention until [`Vault::unpin`].
    pub fn pin(&self, paths: &[HostPath]) {
        self.0.inner.pin(paths);
    }

    pub fn unpin(&self, paths: &[HostPath]) {
        self.0.inner.unpin(paths);
    }

    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.0.inner.index().coverage.clone()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        let inner = &self.0.inner;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = &inner.tally;
        Counters {
            versions: u64::try_from(inner.index().count()).unwrap_or(u64::MAX),
            captures: read(&tally.captures),
            capture_bytes: read(&tally.capture_bytes),
            queue_full: read(&tally.queue_full),
            quota_stops: read(&tally.quota_stops),
            gone: read(&tally.gone),
            inexact: read(&tally.inexact),
            permission_events: read(&tally.permission_events),
            permission_captures: read(&tally.permission_captures),
            permission_deadlines: read(&tally.permission_deadlines),
            children_skipped: read(&tally.children_skipped),
            departed_left: read(&tally.departed_left),
            sightings_dropped: read(&tally.sightings_dropped),
            torn_bytes: tally.torn_bytes,
            stored_bytes: inner.store.bytes(),
            queued: u64::try_from(inner.queued()).unwrap_or(u64::MAX),
            dropped: read(&tally.dropped),
            dropped_early: read(&tally.dropped_early),
        }
    }

    /// Everything recorded so far is on disk when this returns.
    pub fn sync(&self) -> Result<(), Error> {
        self.0.inner.flush()
    }

    /// Drops what retention allows, now.
    pub fn retain(&self) -> Result<(), Error> {
        self.0.inner.retain()
    }

    /// Takes pre-images: writers wait until what they are about to change is stored (at most [a deadline]; then
    /// they may go on). `intent` says what a thread is about to do. When the kernel refuses, [`Protection::refused`] says
    /// why, and versions are still taken after each change.
    pub fn protect(
        &self,
        acting: Acting<'_>,
        intent: Box<dyn Fn(u32) -> Intent + Send + Sync>,
    ) -> Result<Protection, Error> {
        Protection::start(&self.0.inner, acting, intent)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        *locked(&self.inner.quiet) = true;
        self.inner.closing.notify_all();
        self.inner.wake.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the vault had panicked");
            }
        }
        if let Err(error) = self.inner.flush() {
            tracing::warn!(error = %described(&error), "not flushed");
        }
    }
}

/// The index that the records describe, as they come. A version whose content is not complete in the store becomes missing.
#[derive(Default)]
struct Loading {
    index: Index,
    complete: BTreeMap<Digest, bool>,
}

impl Loading {
    fn take(&mut self, record: Record, place: Place, store: &Store) {
        let index = &mut self.index;
        match record {
            Record::Reserved(until) => index.reserve(until.0),
            Record::Version(mut version) => {
                let digest = version.recorded.state().and_then(|state| state.digest);
                let lost =
                    digest.filter(|digest| !*self.complete.entry(*digest).or_insert_with(|| store.is_complete(digest)));
                if let Some(digest) = lost {
                    version.recorded = Recorded::Missing(format!("its content {digest} was not completely stored"));
                    version.exact = false;
                }
                index.load(version, lost.is_none().then_some(place));
            }
            Record::Inexact(id) => index.set_inexact(id),
            Record::Kept { digest, unix_ns } => {
                index.kept.insert(digest, unix_ns);
            }
            Record::Pinned(path) => {
                index.pins.insert(path);
            }
            Record::Unpinned(path) => {
                index.pins.remove(&path);
            }
            Record::Window(window) if index.coverage.windows.contains(&window) => {}
            Record::Window(window) => index.coverage.windows.push(window),
            Record::Flags { id, flags } => index.set_flags(id, flags),
        }
    }
}

#[cfg(test)]
mod tests;
