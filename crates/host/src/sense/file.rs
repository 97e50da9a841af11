// SPDX-License-Identifier: Apache-2.0
//! Files: the kernel's record of a call (who, when) and fanotify's event (which name) become one activity.
//!
//! fanotify queues its event inside the call, the record is sent when the call returns. So with the ring buffer read
//! first, then fanotify, then the ring buffer again, a record has its event at hand, and an event has its record
//! unless its call still runs (then the table of running calls knows it), was made by io_uring, or by somebody outside
//! the scope. What has no partner yet waits [`PATIENCE_NS`].

use super::bounded::Bounded;
use super::calls::{self, Class};
use super::kernel::WriteIntent;
use super::mounts::Mounts;
use super::names::{Named, Names, Op};
use super::process::{Processes, resolved};
use super::wire::{self, Record};
use super::{Observed, now};
use crate::scope::Scope;
use std::collections::{BTreeMap, BTreeSet};
use thymus_engine::detect::is_secret;
use thymus_engine::event::{Activity, File, FileActivity, FileActivityId, FileKind, Mode};
use thymus_engine::{FileKey, HostPath, ProcessKey, Timestamp};

/// How long an event waits for its record.
const PATIENCE_NS: u64 = 20_000_000;
/// Rounds that a record without a name is kept.
const ROUNDS_MAX: u8 = 2;
/// LIMIT: files remembered as opened or written by a process.
const TOUCHED_MAX: usize = 32_768;
/// A modification that is read this long after the close was before it.
const STALE_MODIFICATION_NS: u64 = 200_000_000;

const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;

/// A call that succeeded and still waits for its name.
#[derive(Clone, Debug)]
struct Call {
    class: Class,
    nr: u32,
    enter: Timestamp,
    inode: u64,
    value: u32,
    created: bool,
    /// The old name of a link.
    source: Option<HostPath>,
    /// Last components of the paths as the caller wrote them; empty where not known.
    name: Box<[u8]>,
    to: Box<[u8]>,
    key: ProcessKey,
    /// The file that an open made, by the kernel's own walk.
    own: Option<File>,
    rounds: u8,
}

#[derive(Clone, Debug)]
struct Waiting {
    named: Named,
    /// Not before: what came earlier had been read by then.
    after: Timestamp,
    until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    /// Opened or written, at this time.
    Written(Timestamp),
    /// Closed after writing, at this time.
    Closed(Timestamp),
}

#[derive(Debug)]
pub(super) struct Files {
    calls: BTreeMap<u32, Vec<Call>>,
    waiting: Vec<Waiting>,
    /// What this round's calls were told of: the kernel merges events that are alike.
    told: Vec<Named>,
    /// Calls that were told of while they still ran: thread and when they began.
    early: Bounded<(u32, Timestamp), ()>,
    touched: Bounded<(u32, u64, u64), Touch>,
    kinds: Bounded<(u64, u64), FileKind>,
    intent: WriteIntent,
    own_pid: u32,
    own_writes: bool,
    /// Records about files on file systems that are not part of the guarded tree.
    pub(super) elsewhere: u64,
    /// Records whose path was too deep or too long.
    pub(super) unreadable: u64,
}

/// What the join works with.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) scope: &'a Scope,
    pub(super) mounts: &'a Mounts,
    pub(super) names: &'a Names,
    pub(super) processes: &'a mut Processes,
    /// When fanotify was read the last time before this.
    pub(super) drained: Timestamp,
    /// Every call that ended before this is among this round's records, or an earlier one's.
    pub(super) recorded: Timestamp,
}

impl Files {
    pub(super) fn new(intent: WriteIntent, own_writes: bool) -> Self {
        Self {
            calls: BTreeMap::new(),
            waiting: Vec::new(),
            told: Vec::new(),
            early: Bounded::new(4_096),
            touched: Bounded::new(TOUCHED_MAX),
            kinds: Bounded::new(16_384),
            intent,
            own_pid: std::process::id(),
            own_writes,
            elsewhere: 0,
            unreadable: 0,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.calls.is_empty()
    }

    /// A truncation by path waits for the name that only `FAN_MODIFY` has.
    pub(super) fn wants_modified(&self) -> bool {
        self.calls.values().flatten().any(|call| call.class == Class::Truncate)
    }

    pub(super) fn evicted(&self) -> u64 {
        self.touched.evicted
    }

    /// Takes one record about a file.
    pub(super) fn record(&mut self, record: &Record<'_>, around: &mut Around<'_>, out: &mut Vec<Observed>) {
        let head = &record.head;
        let key = around.processes.actor(head, around.mounts, out);
        let enter = Timestamp(head.enter);
        match head.kind {
            wire::KIND_CALL => {
                if self.early.remove(&(head.tid, enter)).is_some() {
                    return; // told while it ran
                }
                let Some(class) = calls::class(head.class) else { return };
                let source = (class == Class::Link).then(|| {
                    let from = around.mounts.name(head.base_device, &wire::walked(record.base));
                    let text = record.text.strip_suffix(b"\0").unwrap_or(record.text);
                    HostPath::new(&resolved(from.as_ref().map_or(b"/", HostPath::as_bytes), text))
                });
                let call = Call {
                    class,
                    nr: head.nr,
                    enter,
                    inode: head.inode,
                    value: head.value,
                    created: false,
                    source,
                    name: last(record.text),
                    to: last(record.script),
                    key,
                    own: None,
                    rounds: 0,
                };
                self.calls.entry(head.tid).or_default().push(call);
            }
            wire::KIND_OPEN | wire::KIND_WRITE => self.opened(record, key, around, out),
            wire::KIND_READ => self.read(record, key, around, out),
            _ => {}
        }
    }

    /// A secret was opened for reading.
    fn read(&mut self, record: &Record<'_>, key: ProcessKey, around: &Around<'_>, out: &mut Vec<Observed>) {
        let Some(file) = self.walked_to(record, around).filter(|file| is_secret(&file.path)) else { return };
        let head = &record.head;
        let mut read = told(Timestamp(head.enter), FileActivityId::Read, key, file, FileKind::Regular, None);
        if let Activity::File(activity) = &mut read.activity {
            let bits = u16::try_from(head.mode & 0o7777).unwrap_or(0);
            activity.mode = Some(Mode { bits, uid: head.value, gid: head.other_pid });
        }
        out.push(read);
    }

    /// The file that a descriptor leads to; `None` is counted: its path was too long, or is on a mount that is not ours.
    fn walked_to(&mut self, record: &Record<'_>, around: &Around<'_>) -> Option<File> {
        let head = &record.head;
        if head.flags & wire::FLAG_PATH_CUT != 0 {
            self.unreadable += 1;
            return None;
        }
        let Some(path) = around.mounts.name(head.device, &wire::walked(record.path)) else {
            self.elsewhere += 1;
            return None;
        };
        let key = FileKey { device: head.device, inode: head.inode, generation: head.generation };
        Some(File { path, key })
    }

    fn opened(&mut self, record: &Record<'_>, key: ProcessKey, around: &Around<'_>, out: &mut Vec<Observed>) {
        let head = &record.head;
        let enter = Timestamp(head.enter);
        let touch = (head.pid, head.device, head.inode);
        self.touched.insert(touch, Touch::Written(Timestamp(head.time)));
        let Some(file) = self.walked_to(record, around) else { return };
        if head.kind == wire::KIND_WRITE {
            out.push(told(Timestamp(head.time), FileActivityId::Update, key, file, FileKind::Regular, None));
        } else if head.flags & wire::FLAG_CREATED != 0 {
            if self.early.remove(&(head.tid, enter)).is_some() {
                return;
            }
            let call = Call {
                class: Class::Open,
                nr: head.nr,
                enter,
                inode: head.inode,
                value: head.value,
                created: true,
                source: None,
                name: file.path.file_name().into(),
                to: Box::default(),
                key,
                own: Some(file),
                rounds: 0,
            };
            self.calls.entry(head.tid).or_default().push(call);
        } else {
            out.push(told(enter, FileActivityId::Open, key, file.clone(), FileKind::Regular, None));
            if head.value & O_TRUNC != 0 {
                out.push(told(enter, FileActivityId::Update, key, file, FileKind::Regular, None));
            }
        }
    }

    /// Joins what fanotify named with the calls at hand and tells what is complete.
    pub(super) fn join(&mut self, named: Vec<Named>, around: &mut Around<'_>, out: &mut Vec<Observed>) {
        let until = Timestamp(now().0 + PATIENCE_NS);
        let after = around.drained;
        let mut queue = std::mem::take(&mut self.waiting);
        queue.extend(named.into_iter().map(|named| Waiting { named, after, until }));
        let mut held: BTreeSet<u32> = BTreeSet::new();
        for waiting in queue {
            // A thread's operations stay in order: what follows one that waits, waits.
            if held.contains(&waiting.named.tid) || !self.settle(&waiting, around, out) {
                held.insert(waiting.named.tid);
                self.waiting.push(waiting);
            }
        }
        self.forget(around, out);
    }

    /// `false`: wait for its record.
    fn settle(&mut self, waiting: &Waiting, around: &mut Around<'_>, out: &mut Vec<Observed>) -> bool {
        let named = &waiting.named;
        if let Some(call) = self.partner(named) {
            let time = call.enter;
            self.tell(time, call.key, Some(&call), named, around, out);
            return true;
        }
        let actor = around.processes.of_thread(named.tid, waiting.after, around.mounts, out);
        if actor.key.pid == self.own_pid && !self.own_writes {
            return true;
        }
        let mut time = waiting.after;
        if matches!(named.op, Op::Close | Op::Modify) {
            let touch = (actor.key.pid, named.device, named.inode);
            let before = self.touched.get(&touch).copied();
            if is_unnamed(named) {
                // O_TMPFILE: closed under the name it has by now, if it got one.
                let name = named.object.as_ref().and_then(|object| around.names.name_of(named.device, object));
                if let Some(path) = name.filter(|path| *path != named.path && named.op == Op::Close) {
                    let named = Named { path, ..named.clone() };
                    self.tell(now(), actor.key, None, &named, around, out);
                }
                return true;
            }
            match (named.op, before) {
                (Op::Close, _) => {
                    if let Some(Touch::Written(at) | Touch::Closed(at)) = before {
                        time = time.max(at);
                    }
                    self.touched.insert(touch, Touch::Closed(now()));
                }
                // The record of the first write, or of the open, told of it.
                (_, Some(Touch::Written(_))) => return true,
                (_, Some(Touch::Closed(at))) if now().since_ns(at) < STALE_MODIFICATION_NS => return true,
                _ if actor.recorded => return true,
                _ => {
                    self.touched.insert(touch, Touch::Written(time));
                }
            }
        } else if actor.recorded && now() < waiting.until {
            // Its call may still run: then it is known since when. One that began after the records were read may be the
            // thread's next, while the record of the call that this is about is on its way.
            let intent = self.intent.flags(named.tid).filter(|intent| intent.since < around.recorded);
            let Some(intent) = intent else { return false };
            let class = calls::class_of(intent.nr);
            let making = class != Some(Class::Open) || intent.flags & O_CREAT != 0;
            let Some(class) = class.filter(|class| fits(named, *class, making)) else { return false };
            self.early.insert((named.tid, intent.since), ());
            let call = Call {
                class,
                nr: intent.nr,
                enter: intent.since,
                inode: named.inode,
                value: 0,
                created: making,
                source: None,
                name: Box::default(),
                to: Box::default(),
                key: actor.key,
                own: None,
                rounds: 0,
            };
            self.tell(intent.since, actor.key, Some(&call), named, around, out);
            return true;
        }
        self.tell(time, actor.key, None, named, around, out);
        true
    }

    /// The thread's earliest call that has led to `named`: by the name the caller used, else by its kind alone.
    fn partner(&mut self, named: &Named) -> Option<Call> {
        let key = self.calls.get(&named.tid)?.first()?.key;
        let touch = self.touched.get(&(key.pid, named.device, named.inode));
        if named.op == Op::Modify && matches!(touch, Some(Touch::Written(_))) {
            return None; // what it has open and writes explains it; a truncation by path was of another file
        }
        let calls = self.calls.get_mut(&named.tid)?;
        let by_name = calls.iter().position(|call| call.can_be(named) && call.says(named));
        let at = by_name.or_else(|| calls.iter().position(|call| call.can_be(named)))?;
        let call = calls.remove(at);
        if calls.is_empty() {
            self.calls.remove(&named.tid);
        }
        self.told.push(named.clone());
        Some(call)
    }

    fn tell(
        &mut self,
        time: Timestamp,
        key: ProcessKey,
        call: Option<&Call>,
        named: &Named,
        around: &Around<'_>,
        out: &mut Vec<Observed>,
    ) {
        let class = call.map(|call| call.class);
        let (activity, mut path, mut result) = match named.op {
            Op::Create => (FileActivityId::Create, named.path.clone(), None),
            // No descriptor was open, so no close will tell of it.
            Op::Modify if class == Some(Class::Truncate) => (FileActivityId::Truncate, named.path.clone(), None),
            Op::Modify => (FileActivityId::Update, named.path.clone(), None),
            Op::Attributes if class == Some(Class::Xattr) => (FileActivityId::SetSecurity, named.path.clone(), None),
            Op::Attributes => (FileActivityId::SetAttributes, named.path.clone(), None),
            Op::Close => (FileActivityId::Close, named.path.clone(), None),
            Op::Rename => (FileActivityId::Rename, named.path.clone(), named.to.clone()),
            Op::Delete => (FileActivityId::Delete, named.path.clone(), None),
        };
        let mut activity = activity;
        if class == Some(Class::Link) && named.op == Op::Create {
            // A file that had no name before is created by its first link.
            if let Some(old) = self.link_source(call, named, around) {
                activity = FileActivityId::Link;
                result = Some(std::mem::replace(&mut path, old));
            }
        }
        let kind = self.kind(call, named, around);
        let id = FileKey { device: named.device, inode: named.inode, generation: named.generation };
        let link = activity == FileActivityId::Create && kind == FileKind::Symlink;
        let target = link.then(|| around.names.leads_to(around.scope, named.device, &path)).flatten();
        let mut observed = told(time, activity, key, File { path, key: id }, kind, result);
        if let Activity::File(file) = &mut observed.activity {
            file.target = target;
        }
        out.push(observed);
    }

    fn link_source(&self, call: Option<&Call>, named: &Named, around: &Around<'_>) -> Option<HostPath> {
        let source = call.and_then(|call| call.source.clone());
        // Where nothing is any more, the caller's word has to do; `/proc/self/fd/N` is no name of a file.
        let same = |path: &HostPath| match around.names.look(around.scope, named.device, path) {
            Some((_, inode)) => inode == named.inode,
            None => !path.is_within(b"/proc") && !path.is_within(b"/dev"),
        };
        source
            .filter(same)
            .or_else(|| around.names.name_of(named.device, named.object.as_ref()?))
            .filter(|path| *path != named.path)
    }

    fn kind(&mut self, call: Option<&Call>, named: &Named, around: &Around<'_>) -> FileKind {
        let id = (named.device, named.inode);
        if named.directory {
            return FileKind::Directory;
        }
        let told = match call.map(|call| (call.class, call.nr, call.value & S_IFMT)) {
            _ if matches!(named.op, Op::Close | Op::Modify) => Some(FileKind::Regular),
            Some((Class::Open, ..)) => Some(FileKind::Regular),
            Some((Class::Symlink, ..)) => Some(FileKind::Symlink),
            Some((Class::Mknod, 133 | 259, 0 | S_IFREG)) => Some(FileKind::Regular),
            Some((Class::Mknod, ..)) => Some(FileKind::Other),
            _ => None,
        };
        let kind = told.or_else(|| self.kinds.get(&id).copied()).or_else(|| {
            let now = named.to.as_ref().unwrap_or(&named.path);
            let look = || around.names.look(around.scope, named.device, now);
            (named.op != Op::Delete).then(look).flatten().map(|(kind, _)| kind)
        });
        let kind = kind.unwrap_or_default();
        if named.op == Op::Delete {
            self.kinds.remove(&id);
        } else if kind != FileKind::Regular {
            self.kinds.insert(id, kind);
        }
        kind
    }

    /// Calls whose name did not come: merged into an event that was told, or without effect.
    fn forget(&mut self, around: &Around<'_>, out: &mut Vec<Observed>) {
        let busy: BTreeSet<u32> = self.waiting.iter().map(|waiting| waiting.named.tid).collect();
        let told_before = std::mem::take(&mut self.told);
        let mut merged = Vec::new();
        self.calls.retain(|tid, calls| {
            calls.retain_mut(|call| {
                let same = |named: &&Named| named.tid == *tid && call.can_be(named) && call.says(named);
                if let Some(named) = told_before.iter().find(same).filter(|_| !call.name.is_empty()) {
                    merged.push((call.clone(), named.clone()));
                    return false;
                }
                call.rounds += 1;
                let keep = call.rounds < ROUNDS_MAX || (busy.contains(tid) && call.rounds < 100);
                if let Some(file) = call.own.take_if(|file| !keep && !around.names.watches(file.key.device)) {
                    // Nobody watches names there: the kernel's own walk is all there is.
                    out.push(told(call.enter, FileActivityId::Create, call.key, file, FileKind::Regular, None));
                }
                keep
            });
            !calls.is_empty()
        });
        for (call, named) in merged {
            self.tell(call.enter, call.key, Some(&call), &named, around, out);
        }
    }
}

impl Call {
    /// Its kind and inode allow that it led to `named`.
    fn can_be(&self, named: &Named) -> bool {
        let inode = self.inode == 0 || self.inode == named.inode || named.inode == 0;
        inode && fits(named, self.class, self.created)
    }

    /// The names that the caller used are those of `named`.
    fn says(&self, named: &Named) -> bool {
        let name = named.path.file_name();
        match self.class {
            Class::Link => *self.to == *name,
            Class::Rename => {
                let to = named.to.as_ref().map_or(name, HostPath::file_name);
                (named.moved && named.to.is_none()) || (*self.name == *name && *self.to == *to)
            }
            _ => *self.name == *name,
        }
    }
}

/// The last component of a path that ends in NUL.
fn last(path: &[u8]) -> Box<[u8]> {
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    path[..end].rsplit(|byte| *byte == b'/').next().unwrap_or_default().into()
}

/// The kernel calls a file that has no name yet `#` and its inode.
fn is_unnamed(named: &Named) -> bool {
    let name = named.path.file_name().strip_prefix(b"#").and_then(|digits| std::str::from_utf8(digits).ok());
    name.and_then(|digits| digits.parse::<u64>().ok()) == Some(named.inode)
}

fn fits(named: &Named, class: Class, making: bool) -> bool {
    match named.op {
        Op::Create => match class {
            Class::Open => making && !named.directory,
            Class::Mkdir => named.directory,
            Class::Mknod | Class::Symlink | Class::Link => !named.directory,
            Class::Rename => named.moved,
            _ => false,
        },
        Op::Delete => class == Class::Unlink || (named.moved && class == Class::Rename),
        Op::Rename => class == Class::Rename,
        Op::Attributes => matches!(class, Class::Attributes | Class::Xattr),
        Op::Modify => class == Class::Truncate,
        Op::Close => false,
    }
}

fn told(
    time: Timestamp,
    activity: FileActivityId,
    actor: ProcessKey,
    file: File,
    kind: FileKind,
    file_result: Option<HostPath>,
) -> Observed {
    let activity = FileActivity {
        activity,
        actor,
        file,
        kind,
        file_result,
        change: None,
        change_result: None,
        mode: None,
        target: None,
    };
    Observed { time, activity: Activity::File(activity) }
}
