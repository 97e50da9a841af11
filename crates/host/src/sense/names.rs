// SPDX-License-Identifier: Apache-2.0
//! fanotify: which name an operation was about. Notification only: nothing waits for us.
//!
//! One group a file system, since two copies of a disk share their fsid. A second group a file system collects
//! `FAN_MODIFY`; it wakes nobody and is read now and then, so a busy writer costs one wake-up, not one a write.

use super::bounded::Bounded;
use super::mounts::{Mount, Mounts, below, readlink};
use super::wire::{
    self, Entry, FAN_ATTRIB, FAN_CLOSE_WRITE, FAN_CREATE, FAN_DELETE, FAN_MODIFY, FAN_ONDIR, FAN_Q_OVERFLOW,
    FAN_RENAME, Handle, NameEvent,
};
use super::{Error, Hook, HookState};
use crate::scope::Scope;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::collections::HashMap;
use std::time::Duration;
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

/// LIMIT: directories whose name is remembered.
const DIRECTORIES_MAX: usize = 65_536;
/// LIMIT: directories between a deleted one and the first that still has a name.
const DEPARTED_MAX: usize = 64;
/// LIMIT: looks for the event of a directory's own removal: for one event that was in it, and for all of one round.
const LOOKS_MAX: (u32, u32) = (4, 16);
/// Before each look but the first: who removes the directory must run to queue its event, maybe on this very processor.
const LOOK_PAUSE: Duration = Duration::from_micros(200);
/// LIMIT: events taken from one group at a time; the rest waits in the kernel.
const BATCH_MAX: usize = 65_536;

/// What happened to a name, one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Modify,
    Attributes,
    Close,
    Rename,
    Delete,
}

/// One operation on a name below the guarded root.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) op: Op,
    pub(super) tid: u32,
    /// Which of the watched file systems.
    pub(super) device: u64,
    /// Inode and generation; zero when the file system's handles are not understood.
    pub(super) inode: u64,
    pub(super) generation: u32,
    pub(super) object: Option<Handle>,
    pub(super) path: HostPath,
    pub(super) to: Option<HostPath>,
    pub(super) directory: bool,
    /// Renamed into or out of the guarded tree.
    pub(super) moved: bool,
}

#[derive(Debug)]
struct Group {
    mount: Mount,
    urgent: Fanotify,
    modified: Option<Fanotify>,
    /// Held for the guarded root alone: a descriptor on another mount would keep it from being unmounted.
    root: Option<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Names {
    groups: Vec<Group>,
    refused: Vec<(Vec<u8>, String)>,
    /// Where each directory is; `None`: outside the guarded tree.
    directories: Bounded<(u64, Handle), Option<HostPath>>,
    mounts: Mounts,
    pub(super) overflows: u64,
    pub(super) unreadable: u64,
    buffer: Vec<u8>,
}

fn group(flags: libc::c_uint) -> nix::Result<Fanotify> {
    let always = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_UNLIMITED_QUEUE;
    let names = libc::FAN_REPORT_DFID_NAME_TARGET | libc::FAN_REPORT_TID;
    Fanotify::init(InitFlags::from_bits_retain(always | names | flags), EventFFlags::O_RDONLY)
}

fn mark(place: &OwnedFd, mask: MaskFlags) -> nix::Result<Fanotify> {
    let group = group(0)?;
    group.mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM, mask, place, None::<&std::path::Path>)?;
    Ok(group)
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            groups: Vec::new(),
            refused: Vec::new(),
            directories: Bounded::new(DIRECTORIES_MAX),
            mounts: Mounts::default(),
            overflows: 0,
            unreadable: 0,
            buffer: vec![0; 256 << 10],
        }
    }

    /// Watches every file system of `mounts` that holds data, and no other.
    pub(super) fn follow(&mut self, scope: &Scope, mounts: &Mounts) {
        self.mounts = mounts.clone();
        let wanted: Vec<Mount> = mounts.watched().into_iter().cloned().collect();
        self.groups.retain(|group| wanted.iter().any(|mount| mount.device == group.mount.device));
        self.refused.clear();
        for mount in wanted {
            if self.groups.iter().any(|group| group.mount.device == mount.device) {
                continue;
            }
            match Group::open(scope, mounts, &mount) {
                Ok(group) => self.groups.push(group),
                Err(error) => self.refused.push((mount.point, error)),
            }
        }
    }

    /// What wakes the sensors.
    pub(super) fn readable(&self) -> impl Iterator<Item = &Fanotify> {
        self.groups.iter().map(|group| &group.urgent)
    }

    pub(super) fn hooks(&self) -> Vec<Hook> {
        const BLIND_TO: &str = "names of what is created, removed, renamed or changed there";
        let name = |point: &[u8]| {
            let point = if point.is_empty() { "/".into() } else { String::from_utf8_lossy(point) };
            format!("file/fanotify {point}")
        };
        let attached = self.groups.iter().map(|group| (name(&group.mount.point), HookState::Attached));
        let refused = self.refused.iter().map(|(point, why)| (name(point), HookState::Refused(why.clone())));
        attached.chain(refused).map(|(name, state)| Hook { name, state, blind_to: BLIND_TO }).collect()
    }

    /// Everything that is queued, in order for each file system; `modified` too when asked for.
    pub(super) fn drain(&mut self, scope: &Scope, modified: bool, out: &mut Vec<Named>) -> Result<(), Error> {
        for index in 0..self.groups.len() {
            let mut events = Vec::new();
            self.read(index, false, &mut events)?;
            if modified {
                self.read(index, true, &mut events)?;
            }
            self.name(scope, index, events, out)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, modified: bool, events: &mut Vec<NameEvent>) -> Result<(), Error> {
        let group = &self.groups[index];
        let Some(fanotify) = (if modified { group.modified.as_ref() } else { Some(&group.urgent) }) else {
            return Ok(());
        };
        while events.len() < BATCH_MAX {
            let bytes = match rustix::io::read(fanotify.as_fd(), &mut self.buffer[..]) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                Ok(bytes) => bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Error::Kernel { what: "read fanotify events", source: error.into() }),
            };
            let (found, whole) = wire::name_events(&self.buffer[..bytes]);
            self.unreadable += u64::from(!whole);
            events.extend(found);
        }
        Ok(())
    }

    /// Turns one file system's events into operations on paths.
    fn name(
        &mut self,
        scope: &Scope,
        index: usize,
        mut events: Vec<NameEvent>,
        out: &mut Vec<Named>,
    ) -> Result<(), Error> {
        // Directories that are gone by now are named by the event of their own removal, which comes later.
        let mut departed: HashMap<Handle, Entry> = HashMap::new();
        note_departed(&events, &mut departed);
        let (mut at, mut looks, mut all_looks) = (0, 0, 0);
        while at < events.len() {
            let event = events[at].clone();
            if event.mask & FAN_Q_OVERFLOW != 0 {
                self.overflows += 1;
                (at, looks) = (at + 1, 0);
                continue;
            }
            let mut path = |entry: &Option<Entry>| match entry {
                None => Ok(None),
                Some(entry) => self.path(scope, index, entry, &departed),
            };
            let (entry, old, new) = (path(&event.entry), path(&event.old), path(&event.new));
            let (Ok(entry), Ok(old), Ok(new)) = (entry, old, new) else {
                // What was modified is told late, long after its directory may have gone.
                let most = if event.mask == FAN_MODIFY { 1 } else { LOOKS_MAX.0 };
                if looks < most && all_looks < LOOKS_MAX.1 {
                    // The directory went away while we looked: the event that tells so is in the queue now, or about to be.
                    if looks > 0 {
                        std::thread::sleep(LOOK_PAUSE);
                    }
                    (looks, all_looks) = (looks + 1, all_looks + 1);
                    let known = events.len();
                    self.read(index, false, &mut events)?;
                    note_departed(&events[known..], &mut departed);
                } else {
                    // A write into a directory that is gone by now: its file's close and removal, and the call itself,
                    // were told by others. Anything else is a loss.
                    if event.mask != FAN_MODIFY {
                        self.unreadable += 1;
                        let point = String::from_utf8_lossy(&self.groups[index].mount.point);
                        let name = event.entry.as_ref().map(|entry| String::from_utf8_lossy(&entry.name));
                        tracing::warn!(mount = %point, ?name, mask = event.mask, "a name that cannot be told: its directory is gone");
                    }
                    (at, looks) = (at + 1, 0);
                }
                continue;
            };
            (at, looks) = (at + 1, 0);
            self.learn(index, &event, old.as_ref(), new.as_ref(), entry.as_ref());
            self.split(index, event, entry, old, new, out);
        }
        Ok(())
    }

    /// Keeps the names of directories true as they come, move and go.
    fn learn(
        &mut self,
        index: usize,
        event: &NameEvent,
        old: Option<&HostPath>,
        new: Option<&HostPath>,
        entry: Option<&HostPath>,
    ) {
        let Some(object) = event.object.as_ref().filter(|_| event.mask & FAN_ONDIR != 0) else { return };
        let key = (self.groups[index].mount.device, object.clone());
        if event.mask & FAN_RENAME != 0 {
            if let (Some(old), Some(new)) = (old, new) {
                self.directories.for_each_mut(|path| {
                    if let Some(rest) = path.as_ref().and_then(|path| below(path.as_bytes(), old.as_bytes())) {
                        *path = Some(HostPath::new(&[new.as_bytes(), rest].concat()));
                    }
                });
            } else {
                // Into or out of the guarded tree: everything below is asked anew.
                self.directories = Bounded::new(DIRECTORIES_MAX);
            }
            self.directories.insert(key, new.cloned());
        } else if event.mask & FAN_CREATE != 0 {
            self.directories.insert(key, entry.cloned());
        } else if event.mask & FAN_DELETE != 0 {
            self.directories.remove(&key);
        }
    }

    fn split(
        &mut self,
        index: usize,
        event: NameEvent,
        entry: Option<HostPath>,
        old: Option<HostPath>,
        new: Option<HostPath>,
        out: &mut Vec<Named>,
    ) {
        let mount = &self.groups[index].mount;
        let (inode, generation) =
            event.object.as_ref().and_then(|object| object.inode(mount.tmpfs)).unwrap_or_default();
        let named = |op, path, to| Named {
            op,
            tid: event.tid,
            device: mount.device,
            inode,
            generation,
            object: event.object.clone(),
            path,
            to,
            directory: event.mask & FAN_ONDIR != 0,
            moved: event.mask & FAN_RENAME != 0,
        };
        if event.mask & FAN_RENAME != 0 {
            out.extend(match (old, new) {
                (Some(old), Some(new)) => Some(named(Op::Rename, old, Some(new))),
                (Some(old), None) => Some(named(Op::Delete, old, None)),
                (None, Some(new)) => Some(named(Op::Create, new, None)),
                (None, None) => None,
            });
        }
        // Without a name it is about an inode alone (such as its link count), which its name's event tells too.
        let Some(path) = entry else { return };
        // Merged by the kernel: the order of a file's life.
        const OPS: [(u64, Op); 5] = [
            (FAN_CREATE, Op::Create),
            (FAN_ATTRIB, Op::Attributes),
            (FAN_MODIFY, Op::Modify),
            (FAN_CLOSE_WRITE, Op::Close),
            (FAN_DELETE, Op::Delete),
        ];
        let set = OPS.into_iter().filter(|(bit, _)| event.mask & bit != 0);
        out.extend(set.map(|(_, op)| named(op, path.clone(), None)));
    }

    /// `Ok(None)`: outside the guarded tree. `Err`: its directory cannot be named (any more).
    fn path(
        &mut self,
        scope: &Scope,
        index: usize,
        entry: &Entry,
        departed: &HashMap<Handle, Entry>,
    ) -> Result<Option<HostPath>, Gone> {
        let mut tail: Vec<&[u8]> = vec![&entry.name];
        let mut directory = &entry.directory;
        for _ in 0..DEPARTED_MAX {
            match self.directory(scope, index, directory) {
                Ok(None) => return Ok(None),
                Ok(Some(path)) => {
                    let mut whole = path.as_bytes().strip_suffix(b"/").unwrap_or(path.as_bytes()).to_vec();
                    for name in tail.iter().rev().filter(|name| !matches!(**name, b"." | b"")) {
                        whole.push(b'/');
                        whole.extend_from_slice(name);
                    }
                    return Ok(Some(if whole.is_empty() { HostPath::from("/") } else { HostPath::new(&whole) }));
                }
                Err(Gone) => {
                    let above = departed.get(directory).ok_or(Gone)?;
                    tail.push(&above.name);
                    directory = &above.directory;
                }
            }
        }
        Err(Gone)
    }

    fn directory(&mut self, scope: &Scope, index: usize, handle: &Handle) -> Result<Option<HostPath>, Gone> {
        let group = &self.groups[index];
        let key = (group.mount.device, handle.clone());
        if let Some(path) = self.directories.get(&key) {
            return Ok(path.clone());
        }
        let opened;
        let place = match &group.root {
            Some(root) => root,
            None => {
                opened = self.mounts.open(scope, &group.mount).map_err(|_| Gone)?;
                &opened
            }
        };
        let path = named_now(place, handle, &group.mount.point)?;
        self.directories.insert(key, path.clone());
        Ok(path)
    }

    /// The name that `handle` has now. `None`: none, or outside the guarded tree.
    pub(super) fn name_of(&self, device: u64, handle: &Handle) -> Option<HostPath> {
        let group = self.groups.iter().find(|group| group.mount.device == device)?;
        named_now(group.root.as_ref()?, handle, &group.mount.point).ok().flatten()
    }

    /// What is at `path` on `device` now: its kind and inode. `None`: nothing, or it cannot be asked.
    pub(super) fn look(&self, scope: &Scope, device: u64, path: &HostPath) -> Option<(FileKind, u64)> {
        let found = rustix::fs::fstat(self.place(scope, device, path)?).ok()?;
        let kind = match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        };
        Some((kind, found.st_ino))
    }

    /// Where the symbolic link at `path` leads now, when it says an absolute path.
    pub(super) fn leads_to(&self, scope: &Scope, device: u64, path: &HostPath) -> Option<HostPath> {
        let link = rustix::fs::readlinkat(self.place(scope, device, path)?, c"", Vec::new()).ok()?;
        let target = link.as_bytes();
        target.starts_with(b"/").then(|| HostPath::new(target))
    }

    /// What is at `path`, not followed.
    fn place(&self, scope: &Scope, device: u64, path: &HostPath) -> Option<OwnedFd> {
        let group = self.groups.iter().find(|group| group.mount.device == device)?;
        let opened;
        let place = match &group.root {
            Some(root) => root,
            None => {
                opened = self.mounts.open(scope, &group.mount).ok()?;
                &opened
            }
        };
        let rest = below(path.as_bytes(), &group.mount.point)?;
        let rest = rest.strip_prefix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(b".");
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(place, rest, flags, Mode::empty(), beneath).ok()
    }

    pub(super) fn watches(&self, device: u64) -> bool {
        self.groups.iter().any(|group| group.mount.device == device)
    }
}

/// It has no name any more.
#[derive(Debug)]
struct Gone;

fn named_now(place: &OwnedFd, handle: &Handle, point: &[u8]) -> Result<Option<HostPath>, Gone> {
    let fd = wire::open_handle(place.as_fd(), handle).map_err(|_| Gone)?;
    if rustix::fs::fstat(&fd).map_err(|_| Gone)?.st_nlink == 0 {
        return Err(Gone);
    }
    let (path, root) = (readlink(&fd).ok_or(Gone)?, readlink(place).ok_or(Gone)?);
    let rest = below(&path, root.strip_suffix(b"/").unwrap_or(&root));
    Ok(rest.map(|rest| {
        let whole = [point, rest.strip_suffix(b"/").unwrap_or(rest)].concat();
        if whole.is_empty() { HostPath::from("/") } else { HostPath::new(&whole) }
    }))
}

fn note_departed(events: &[NameEvent], departed: &mut HashMap<Handle, Entry>) {
    for event in events.iter().filter(|event| event.mask & FAN_ONDIR != 0) {
        let Some(object) = &event.object else { continue };
        let last = if event.mask & FAN_DELETE != 0 { event.entry.as_ref() } else { None };
        if let Some(last) = last {
            departed.insert(object.clone(), last.clone());
        }
    }
}

impl Group {
    fn open(scope: &Scope, mounts: &Mounts, mount: &Mount) -> Result<Self, String> {
        let place = mounts.open(scope, mount).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })?;
        let urgent = MaskFlags::FAN_CREATE
            | MaskFlags::FAN_DELETE
            | MaskFlags::FAN_RENAME
            | MaskFlags::FAN_ATTRIB
            | MaskFlags::FAN_CLOSE_WRITE
            | MaskFlags::FAN_ONDIR;
        let urgent = mark(&place, urgent).map_err(|error| format!("fanotify: {error}"))?;
        let modified = mark(&place, MaskFlags::FAN_MODIFY).ok();
        let root = mount.point.is_empty().then_some(place);
        Ok(Self { mount: mount.clone(), urgent, modified, root })
    }
}
