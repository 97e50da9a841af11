// SPDX-License-Identifier: Apache-2.0
//! Pre-images: who is about to change a file waits until its content is stored.
//!
//! One fanotify group of the pre-content class on the guarded file system asks before each open and before each access
//! (which covers `truncate(2)` by path and mappings), and tells of each close after writing, in order. Each question makes
//! its asker wait for us, so none is asked whose answer is known: nothing of what is stored until it changes, no access of
//! what is being written until its close, nothing of what lies outside of the protected trees until it comes into one. Such
//! a mark is of one inode; the notes of opens, changes and names take it back. One thread answers;
//! captures are made by others. INVARIANT: the answering thread opens nothing on the guarded file system, writes no log
//! line, and takes only locks that are never held over such a thing: it cannot come to wait for itself. Threads of this
//! process are always let pass. Whoever waited longer than [`DEADLINE`] is let pass, counted, and the path gets a window:
//! a slow agent makes nobody slower than that, and a dead one nobody at all (the kernel answers for a closed group; the
//! descriptor is closed at exec, so no child keeps it open).
//!
//! Sources: fanotify_init(2), fanotify_mark(2); `FAN_PRE_ACCESS` is of Linux 6.14.

use super::gate::{Access, Decision, Image};
use super::{Error, Inner, Intent, Window, boot_now, capture, locked, wait};
use crate::scope::Acting;
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thymus_engine::id::Timestamp;
use thymus_engine::path::HostPath;

/// Nobody waits longer for a capture (design.md, invariant 11).
const DEADLINE: Duration = Duration::from_millis(200);
/// LIMIT: closes whose post-image waits, each holding a descriptor. Beyond it the note's capture by path must do.
const CLOSES_MAX: usize = 512;
/// Threads that capture while someone waits.
const WORKERS: usize = 2;
/// `FAN_PRE_ACCESS`, which neither libc nor nix knows yet.
const PRE_ACCESS: MaskFlags = MaskFlags::from_bits_retain(0x0010_0000);
/// LIMIT: descriptors looked at for files that were open for writing before the group began.
const DESCRIPTORS_MAX: usize = 200_000;

/// The pre-image group; dropped, it lets everything pass again.
#[derive(Debug)]
pub struct Protection {
    /// Why the kernel refused it; `None` when pre-images are taken.
    pub refused: Option<String>,
    group: Option<Arc<Group>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Group {
    inner: Arc<Inner>,
    fanotify: Fanotify,
    tasks: Mutex<Tasks>,
    wake: Condvar,
    stop: AtomicBool,
    /// Wakes the answering thread when the group ends.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct Tasks {
    /// Somebody waits for these.
    urgent: VecDeque<Task>,
    closes: VecDeque<Task>,
    /// Who waits for the capture of an inode.
    waiting: BTreeMap<u64, Vec<Arc<Waiter>>>,
}

#[derive(Debug)]
struct Task {
    event: Arc<Waiter>,
    inode: u64,
    closes: u32,
    /// Nobody waits: the file was closed after writing.
    of_close: bool,
}

/// An event; `answered` also for those that need no answer.
#[derive(Debug)]
struct Waiter {
    event: FanotifyEvent,
    answered: AtomicBool,
}

impl Waiter {
    /// Exactly once, whoever comes first.
    fn allow(&self, fanotify: &Fanotify) {
        if let Some(file) = self.event.fd()
            && !self.answered.swap(true, Ordering::AcqRel)
        {
            let _ = fanotify.write_response(FanotifyResponse::new(file, Response::FAN_ALLOW));
        }
    }
}

impl Protection {
    pub(super) fn start(
        inner: &Arc<Inner>,
        acting: Acting<'_>,
        intent: Box<dyn Fn(u32) -> Intent + Send + Sync>,
    ) -> Result<Self, Error> {
        let fanotify = match attach(acting.scope().root()) {
            Ok(fanotify) => fanotify,
            Err(refused) => return Ok(Self { refused: Some(refused), group: None, threads: Vec::new() }),
        };
        let failed = |source: std::io::Error| Error::Io {
            what: "start the pre-image group of",
            path: acting.scope().root_path().to_owned(),
            source,
        };
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let group = Arc::new(Group {
            inner: Arc::clone(inner),
            fanotify,
            tasks: Mutex::default(),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            bell: bell.map_err(|errno| failed(errno.into()))?,
        });
        *locked(&inner.group) = Arc::downgrade(&group);
        let mut protection = Self { refused: None, group: Some(Arc::clone(&group)), threads: Vec::new() };
        let reader = Arc::clone(&group);
        let thread = std::thread::Builder::new().name("vault-answer".into());
        protection.threads.push(thread.spawn(move || reader.answer(&*intent)).map_err(failed)?);
        for _ in 0..WORKERS {
            let worker = Arc::clone(&group);
            let thread = std::thread::Builder::new().name("vault-preimage".into());
            protection.threads.push(thread.spawn(move || worker.work()).map_err(failed)?);
        }
        group.windows_of_open_files(acting);
        Ok(protection)
    }

    /// Pre-images are taken.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.group.is_some()
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            group.end();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the pre-image group had panicked");
            }
        }
    }
}

/// The group with its mark, or why the kernel refused, in words.
fn attach(root: &OwnedFd) -> Result<Fanotify, String> {
    let flags = InitFlags::FAN_CLASS_PRE_CONTENT
        | InitFlags::FAN_REPORT_TID
        | InitFlags::FAN_UNLIMITED_QUEUE
        | InitFlags::FAN_UNLIMITED_MARKS
        | InitFlags::FAN_CLOEXEC
        | InitFlags::FAN_NONBLOCK;
    let opened = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE | EventFFlags::O_NOATIME;
    let fanotify = Fanotify::init(flags, opened).map_err(|errno| {
        format!("fanotify_init for pre-images: {errno}; needs CAP_SYS_ADMIN and a kernel with permission events")
    })?;
    let mark = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
    fanotify
        .mark(mark, every_event(), root, Some(Path::new(".")))
        .map_err(|errno| format!("fanotify_mark for pre-images: {errno}; needs Linux 6.14 and ext4, xfs or btrfs"))?;
    Ok(fanotify)
}

/// What the group asks and is told about a file that nothing is known of.
fn every_event() -> MaskFlags {
    MaskFlags::FAN_OPEN_PERM | PRE_ACCESS | MaskFlags::FAN_CLOSE_WRITE
}

/// Whether opens are still asked about where accesses are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtOpens {
    Asked,
    Silent,
}

/// What is not asked about one inode; forgotten with the inode.
fn ignore_mark() -> MarkFlags {
    MarkFlags::FAN_MARK_IGNORE | MarkFlags::FAN_MARK_EVICTABLE
}

impl Group {
    /// Neither opens nor accesses are asked about, until the kernel takes that back by itself at the first change: between a
    /// close and our hearing of it nobody slips through. Only if it has not changed since `ctime_ns`.
    fn ask_nothing(&self, file: BorrowedFd<'_>, ctime_ns: i64) -> bool {
        self.ask_again(file);
        let asked = MaskFlags::FAN_OPEN_PERM | PRE_ACCESS;
        if self.fanotify.mark(MarkFlags::FAN_MARK_ADD | ignore_mark(), asked, file, None::<&Path>).is_err() {
            return false;
        }
        // What changed it before the mark stood took nothing back.
        let same = capture::statx(file).is_ok_and(|found| capture::metadata(&found).ctime_ns == ctime_ns);
        if !same {
            self.ask_again(file);
        }
        same
    }

    /// Until [`Group::ask_again`], whatever is written: accesses are not asked about (`at_opens`), or neither they nor opens, and
    /// no close is told of.
    fn ask_less(&self, file: BorrowedFd<'_>, at_opens: AtOpens) -> bool {
        self.ask_again(file);
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_IGNORED_SURV_MODIFY | ignore_mark();
        let events = match at_opens {
            AtOpens::Asked => PRE_ACCESS,
            AtOpens::Silent => every_event(),
        };
        self.fanotify.mark(flags, events, file, None::<&Path>).is_ok()
    }

    fn ask_again(&self, file: BorrowedFd<'_>) {
        // There may be nothing to take back.
        let _ = self.fanotify.mark(MarkFlags::FAN_MARK_REMOVE | ignore_mark(), every_event(), file, None::<&Path>);
    }

    /// The same, for whoever holds it as a place only (`O_PATH`).
    pub(super) fn ask_again_at(&self, place: &OwnedFd) {
        let name = format!("/proc/self/fd/{}", place.as_raw_fd());
        let all = every_event();
        let _ = self.fanotify.mark(MarkFlags::FAN_MARK_REMOVE | ignore_mark(), all, place, Some(Path::new(&name)));
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        self.wake.notify_all();
    }

    /// Body of the answering thread.
    fn answer(&self, intent: &dyn Fn(u32) -> Intent) {
        // However this thread ends, the workers end too, and with the last of them the group: the kernel then lets pass.
        let _end = AtEnd(self);
        let mut deadlines: VecDeque<(Instant, Arc<Waiter>)> = VecDeque::new();
        while !self.stop.load(Ordering::Acquire) {
            while let Some((_, waiter)) = deadlines.front()
                && waiter.answered.load(Ordering::Acquire)
            {
                deadlines.pop_front();
            }
            let now = Instant::now();
            while let Some((deadline, waiter)) = deadlines.front()
                && *deadline <= now
            {
                self.let_pass(waiter);
                deadlines.pop_front();
            }
            let left = deadlines.front().map(|(deadline, _)| deadline.saturating_duration_since(now));
            let left = left.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1));
            let timeout = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut wanted = [
                PollFd::from_borrowed_fd(self.fanotify.as_fd(), PollFlags::IN),
                PollFd::new(&self.bell, PollFlags::IN),
            ];
            let _ = rustix::event::poll(&mut wanted, Some(&timeout));
            // An error (EMFILE) leaves the events queued; their openers are released by a later read, or with the group.
            for event in self.fanotify.read_events().unwrap_or_default() {
                if let Some(waiter) = self.judge(event, intent) {
                    deadlines.push_back((Instant::now() + DEADLINE, waiter));
                }
            }
        }
    }

    /// Answers at once, or gives who has to wait.
    fn judge(&self, event: FanotifyEvent, intent: &dyn Fn(u32) -> Intent) -> Option<Arc<Waiter>> {
        let mask = event.mask();
        let (closed, is_open) = (mask.contains(MaskFlags::FAN_CLOSE_WRITE), mask.contains(MaskFlags::FAN_OPEN_PERM));
        let tid = u32::try_from(event.pid()).unwrap_or(0);
        let waiter = Arc::new(Waiter { event, answered: AtomicBool::new(false) });
        let Some(file) = waiter.event.fd() else {
            let now = boot_now();
            self.report(HostPath::from("/"), now, "the kernel's queue of permission events was full");
            return None;
        };
        let state = match capture::statx(file).map(|found| capture::metadata(&found)) {
            Ok(state) if state.kind == super::Kind::Regular => state,
            Ok(_) | Err(_) => {
                if !closed {
                    waiter.allow(&self.fanotify);
                }
                return None;
            }
        };
        let inode = state.key.inode;
        if closed {
            self.closed(waiter, inode);
            return None;
        }
        self.inner.tally.permission_events.fetch_add(1, Ordering::Relaxed);
        let access =
            Access { inode, size: state.size, ctime_ns: state.ctime_ns, is_open, intent: intent(tid), now: boot_now() };
        let decision = self.inner.gate().decide(access);
        let (capture, log) = match decision {
            Decision::Allow => (false, false),
            Decision::Quiet | Decision::Writing => {
                let done = match decision {
                    Decision::Quiet => self.ask_nothing(file, state.ctime_ns),
                    _ => self.ask_less(file, AtOpens::Asked),
                };
                if done {
                    self.inner.gate().ignored(inode);
                }
                (false, false)
            }
            Decision::Capture | Decision::Join => (true, false),
            Decision::ByPath => {
                // A reader changes nothing, and waits for nobody.
                let reads = access.intent == Intent::Read;
                let size = if reads { 1 } else { state.size };
                let (guarded, log) = self.by_path(file, inode, size);
                // What has no other name and lies outside of every protected tree holds nothing to store. Should it get such
                // a name, the note of that takes this back.
                let less = match (guarded, size, state.nlink) {
                    (true, 0, _) if !log => Some(AtOpens::Asked),
                    (false, _, 1) => Some(AtOpens::Silent),
                    _ => None,
                };
                if less.is_some_and(|at_opens| self.ask_less(file, at_opens)) {
                    self.inner.gate().ignored(inode);
                }
                (guarded && size > 0 && !reads, log)
            }
        };
        if !capture || is_ours(tid) {
            waiter.allow(&self.fanotify);
            return None;
        }
        self.inner.tally.permission_captures.fetch_add(1, Ordering::Relaxed);
        let mut tasks = locked(&self.tasks);
        // It may have ended since it was asked: whoever ends it takes the waiters after that, so under this lock both agree.
        if decision == Decision::Join && !self.inner.gate().in_flight(inode) {
            waiter.allow(&self.fanotify);
            return None;
        }
        tasks.waiting.entry(inode).or_default().push(Arc::clone(&waiter));
        if decision != Decision::Join {
            let closes = self.inner.gate().begin(inode, log);
            tasks.urgent.push_back(Task { event: Arc::clone(&waiter), inode, closes, of_close: false });
        } else if let Some(at) = tasks.closes.iter().position(|task| task.inode == inode) {
            // A close's capture that somebody waits for is urgent now.
            let task = tasks.closes.remove(at);
            tasks.urgent.extend(task);
        }
        drop(tasks);
        self.wake.notify_one();
        Some(waiter)
    }

    /// Not known by its inode: guarded, and a log, by its name? Names come through /proc and open nothing.
    fn by_path(&self, file: BorrowedFd<'_>, inode: u64, size: u64) -> (bool, bool) {
        let Some(path) = self.path_of(file).filter(|path| self.inner.guards(path)) else { return (false, false) };
        let log = self.inner.rules.is_log(&path);
        if size == 0 {
            self.inner.gate().begun(inode, boot_now(), log);
        }
        (true, log)
    }

    /// The file's present name below the guarded root.
    fn path_of(&self, file: BorrowedFd<'_>) -> Option<HostPath> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = rustix::fs::readlink(link, Vec::new()).ok()?.into_bytes();
        // Seen from the scope's own mounts the name is below its root already; from ours, the mount point stands before it.
        let prefix = self.inner.root_prefix.as_slice();
        let below = name.strip_prefix(prefix).filter(|rest| rest.first() == Some(&b'/'));
        let name = below.unwrap_or(&name);
        let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
        (name.first() == Some(&b'/')).then(|| HostPath::new(name))
    }

    /// Closed after writing: what is in it now is a version; read it while this descriptor still holds it.
    fn closed(&self, waiter: Arc<Waiter>, inode: u64) {
        let Some(file) = waiter.event.fd() else { return };
        let (known, ignored) = self.inner.gate().closed(inode);
        if ignored {
            self.ask_again(file);
        }
        let (guarded, log) = if known { (true, false) } else { self.by_path(file, inode, 1) };
        if !guarded {
            return;
        }
        let mut tasks = locked(&self.tasks);
        if tasks.closes.len() < CLOSES_MAX {
            let closes = self.inner.gate().begin(inode, log);
            waiter.answered.store(true, Ordering::Release);
            tasks.closes.push_back(Task { event: waiter, inode, closes, of_close: true });
            drop(tasks);
            self.wake.notify_one();
        }
    }

    /// The deadline passed: fail open, say so.
    fn let_pass(&self, waiter: &Waiter) {
        let name = waiter.event.fd().and_then(|file| self.path_of(file));
        waiter.allow(&self.fanotify);
        self.inner.tally.permission_deadlines.fetch_add(1, Ordering::Relaxed);
        self.report(name.unwrap_or_default(), boot_now(), "opened before its pre-image was stored (deadline)");
    }

    fn report(&self, path: HostPath, now: Timestamp, reason: &str) {
        let window = Window { path, since: now, until: now, reason: reason.into() };
        let record = self.inner.window_in_memory(window);
        self.inner.enqueue(Vec::new(), record.into_iter().collect());
    }

    /// Body of a capturing thread.
    fn work(&self) {
        loop {
            let task = {
                let mut tasks = locked(&self.tasks);
                loop {
                    if self.stop.load(Ordering::Acquire) {
                        return;
                    }
                    let urgent = tasks.urgent.pop_front();
                    if let Some(task) = urgent.or_else(|| tasks.closes.pop_front()) {
                        break task;
                    }
                    tasks = wait(&self.wake, tasks, Duration::from_secs(1));
                }
            };
            // A panic must not leave anyone waiting, nor the inode in flight.
            let mut done = Done { group: self, task: &task, image: None };
            done.image = self.take_image(&task);
        }
    }

    fn take_image(&self, task: &Task) -> Option<Image> {
        let file = task.event.event.fd()?;
        let _usage = self.inner.usage();
        let start = boot_now();
        match self.inner.read_open(file) {
            Ok(captured) => {
                let log = self.path_of(file).is_some_and(|path| self.inner.rules.is_log(&path));
                let (end, stable) = (boot_now(), captured.is_exact(log));
                let shape = task.of_close.then(|| captured.samples.shape());
                Some(Image { start, end, state: captured.state, stable, gated: true, of_close: task.of_close, shape })
            }
            Err(failure) => {
                let reason = match self.inner.recorded(Err(failure)) {
                    super::Recorded::Missing(reason) => reason,
                    super::Recorded::State(_) => return None,
                };
                let path = self.path_of(file).unwrap_or_default();
                self.report(path, start, &format!("no pre-image: {reason}"));
                None
            }
        }
    }

    /// What was open for writing before the group began can be written without a question: say so for each path.
    fn windows_of_open_files(&self, acting: Acting<'_>) {
        let Ok(root) = capture::statx(acting.scope().root()).map(|found| capture::metadata(&found)) else { return };
        let own = rustix::process::getpid().as_raw_nonzero().to_string();
        let mut looked = 0;
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = process.file_name();
            let is_pid =
                name.to_str().is_some_and(|name| name != own && name.bytes().all(|byte| byte.is_ascii_digit()));
            if !is_pid {
                continue;
            }
            for descriptor in std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
                looked += 1;
                if looked > DESCRIPTORS_MAX {
                    self.report(
                        HostPath::from("/"),
                        boot_now(),
                        "too many descriptors to look at for files open for writing",
                    );
                    return;
                }
                let wanted = rustix::fs::StatxFlags::BASIC_STATS;
                let found = rustix::fs::statx(rustix::fs::CWD, descriptor.path(), rustix::fs::AtFlags::empty(), wanted);
                let Ok(state) = found.map(|found| capture::metadata(&found)) else { continue };
                if state.kind != super::Kind::Regular || state.key.device != root.key.device {
                    continue;
                }
                let info = process.path().join("fdinfo").join(descriptor.file_name());
                if !std::fs::read_to_string(info).is_ok_and(|info| is_writable(&info)) {
                    continue;
                }
                let Ok(link) = rustix::fs::readlink(descriptor.path(), Vec::new()) else { continue };
                let prefix = self.inner.root_prefix.as_slice();
                let name = link.as_bytes();
                let name = name.strip_prefix(prefix).filter(|rest| rest.first() == Some(&b'/')).unwrap_or(name);
                let path = HostPath::new(name);
                // A log's holder is its usual appender, and its tail is captured anyhow.
                if self.inner.guards(&path) && !self.inner.rules.is_log(&path) {
                    self.report(path, boot_now(), "was open for writing before protection began");
                }
            }
        }
    }
}

/// The flags line of `/proc/PID/fdinfo/N`, octal; `O_WRONLY` is 1, `O_RDWR` is 2.
fn is_writable(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
    flags.and_then(|flags| u32::from_str_radix(flags, 8).ok()).is_some_and(|flags| flags & 3 != 0)
}

/// A thread of this process: its question is answered at once, whatever it asks.
fn is_ours(tid: u32) -> bool {
    let wanted = rustix::fs::Access::EXISTS;
    match rustix::fs::access(format!("/proc/self/task/{tid}"), wanted) {
        Ok(()) => true,
        Err(Errno::NOENT) => false,
        // Not to be known: better to let a stranger pass than to wait for ourselves.
        Err(_) => true,
    }
}

struct AtEnd<'a>(&'a Group);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.end();
        let waiting = std::mem::take(&mut locked(&self.0.tasks).waiting);
        waiting.into_values().flatten().for_each(|waiter| waiter.allow(&self.0.fanotify));
    }
}

/// Ends a task, however it went.
struct Done<'a> {
    group: &'a Group,
    task: &'a Task,
    image: Option<Image>,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let Self { group, task, image } = self;
        let ctime_ns = image.as_ref().map(|image| image.state.ctime_ns);
        let quiet = group.inner.gate().finish(task.inode, task.closes, image.take());
        if quiet && let Some((file, ctime_ns)) = task.event.event.fd().zip(ctime_ns) {
            group.ask_nothing(file, ctime_ns);
        }
        let waiting = locked(&group.tasks).waiting.remove(&task.inode);
        waiting.into_iter().flatten().for_each(|waiter| waiter.allow(&group.fanotify));
    }
}
