// SPDX-License-Identifier: Apache-2.0
//! Files of a real Linux: hold the parent directory, look at what is in it, replace it whole.

mod many;

use super::keep::Keep;
use super::{Bytes, CONTENT_BYTES_MAX, Digest, ENTRIES_MAX, Error, FileState, Result, XATTR_BYTES_MAX, mend};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, IFlags, Mode, OFlags, RenameFlags, ResolveFlags, Stat, StatxFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

/// LIMIT: names tried for a file that is being made, and tries when the tree moves under a look-up.
const TRIES: usize = 16;
const NEW: &str = "new";
pub(super) const OLD: &str = "old";

#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) keep: &'a Keep,
    #[cfg(test)]
    pub(super) fault: &'a Fault,
}

/// Lets a test stop a write between any two of its steps.
#[cfg(test)]
#[derive(Debug, Default)]
pub(in crate::system) struct Fault {
    pub(super) seen: Shared<usize>,
    /// The step that fails.
    pub(super) at: Shared<Option<usize>>,
    /// Nothing happens after it either, as after a `kill -9`.
    pub(super) crash: Shared<bool>,
    /// Run at every step: a racing attacker.
    pub(super) race: std::sync::Mutex<Option<Race>>,
}

/// A cell that threads may share.
#[cfg(test)]
#[derive(Debug, Default)]
pub(in crate::system) struct Shared<T>(std::sync::Mutex<T>);

#[cfg(test)]
impl<T: Copy> Shared<T> {
    pub(super) fn get(&self) -> T {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
    }
}

#[cfg(test)]
pub(in crate::system) struct Race(pub(super) Box<dyn FnMut(usize) + Send>);

#[cfg(test)]
impl std::fmt::Debug for Race {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Race")
    }
}

/// A name in a directory that is held.
struct Place<'a> {
    path: &'a HostPath,
    parent: OwnedFd,
    name: &'a [u8],
}

/// An object that is held, whatever happens to its name.
struct Held {
    node: OwnedFd,
    stat: Stat,
}

fn through(node: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", node.as_raw_fd())
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

fn failed(doing: &'static str, path: &HostPath) -> impl Fn(Errno) -> Error {
    move |errno| Error::File { doing, path: path.clone(), source: errno.into() }
}

fn refused<T>(path: &HostPath, why: impl Into<String>) -> Result<T> {
    Err(Error::Refused { path: path.clone(), why: why.into() })
}

fn changed<T>(path: &HostPath, difference: impl Into<String>) -> Result<T> {
    Err(Error::Changed { path: path.clone(), difference: difference.into() })
}

fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// Opens `path` beneath `directory`; tries again while others move the tree.
fn open_beneath(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), beneath());
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

impl Tree<'_> {
    #[cfg(test)]
    fn step(&self) -> Result<()> {
        let number = self.fault.seen.get();
        self.fault.seen.set(number + 1);
        if let Some(Race(race)) = &mut *self.fault.race.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            race(number);
        }
        match self.fault.at.get() {
            Some(at) if at == number || (self.fault.crash.get() && at < number) => Err(Error::Injected(number)),
            _ => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "in tests this is where faults come from")]
    fn step(&self) -> Result<()> {
        Ok(())
    }

    /// After a failure: takes back what is half done. Not after a crash, which tests imitate.
    fn clean(&self, work: impl FnOnce()) {
        #[cfg(test)]
        if self.fault.crash.get() && self.fault.at.get().is_some_and(|at| at < self.fault.seen.get()) {
            return;
        }
        work();
    }

    fn open_directory(&self, path: &HostPath, directory: &[u8]) -> Result<Option<OwnedFd>> {
        let relative = directory.strip_prefix(b"/").unwrap_or(directory);
        let relative = if relative.is_empty() { b"." } else { relative };
        match open_beneath(self.root.as_fd(), relative, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(held) => Ok(Some(held)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => refused(path, "a part of the path is not a directory"),
            Err(Errno::LOOP) => refused(path, "a part of the path is a symbolic link, which is never followed"),
            Err(Errno::XDEV) => refused(path, "a part of the path is a mount point or leads out of the scope"),
            Err(errno) => Err(failed("open the directory of", path)(errno)),
        }
    }

    /// `None`: the directory does not exist.
    fn place_of<'p>(&self, path: &'p HostPath) -> Result<Option<Place<'p>>> {
        let bytes = path.as_bytes();
        let Some(relative) = bytes.strip_prefix(b"/") else { return refused(path, "it is not absolute") };
        if bytes.contains(&0) || bytes.len() > 4_095 {
            return refused(path, "it holds a NUL or is longer than 4095 bytes");
        }
        if relative.split(|byte| *byte == b'/').any(|part| part.is_empty() || part == b"." || part == b"..") {
            return refused(path, "it has an empty part, `.` or `..`");
        }
        let parent = self.open_directory(path, path.parent())?;
        Ok(parent.map(|parent| Place { path, parent, name: path.file_name() }))
    }

    fn existing_place<'p>(&self, path: &'p HostPath) -> Result<Place<'p>> {
        self.place_of(path)?.ok_or_else(|| failed("find the directory of", path)(Errno::NOENT))
    }

    fn hold(&self, place: &Place<'_>, name: &[u8]) -> Result<Option<Held>> {
        let path = place.path;
        match open_beneath(place.parent.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(node) => {
                let stat = rustix::fs::fstat(&node).map_err(failed("look at", path))?;
                Ok(Some(Held { node, stat }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::XDEV) => refused(path, "it is a mount point"),
            Err(errno) => Err(failed("look at", path)(errno)),
        }
    }

    /// Opens a held object for reading or writing, by itself and not by its name.
    fn reopen(&self, held: &Held, flags: OFlags, path: &HostPath) -> Result<File> {
        let opened = rustix::fs::open(through(&held.node), flags | OFlags::CLOEXEC, Mode::empty());
        opened.map(File::from).map_err(failed("open", path))
    }

    fn state(&self, held: &Held, path: &HostPath, keep: bool) -> Result<FileState> {
        let Held { node, stat } = held;
        let kind = kind_of(stat);
        let mut state = FileState {
            kind,
            // INVARIANT: masked to 12 bits.
            mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            xattrs: xattrs(node, path)?,
            links: stat.st_nlink,
            inode: (stat.st_ino, born(node)),
            ..FileState::default()
        };
        match kind {
            FileKind::Regular => {
                let mut file = self.reopen(held, OFlags::RDONLY | OFlags::NOATIME, path)?;
                state.flags = flags_of(&file);
                let (digest, size) = if keep {
                    self.keep.put(&mut file)?
                } else {
                    digest_of(&mut file).map_err(|source| Error::File { doing: "read", path: path.clone(), source })?
                };
                (state.content, state.size) = (Some(digest), size);
            }
            FileKind::Directory => {
                let file = self.reopen(held, OFlags::RDONLY | OFlags::NOATIME | OFlags::DIRECTORY, path)?;
                state.flags = flags_of(&file);
            }
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(node, "", Vec::new()).map_err(failed("read the link", path))?;
                state.target = Some(HostPath::new(target.as_bytes()));
            }
            FileKind::Other => state.special = Some((stat.st_mode & 0o170_000, stat.st_rdev)),
        }
        Ok(state)
    }

    pub(super) fn look(&self, path: &HostPath, keep: bool) -> Result<Option<FileState>> {
        let Some(place) = self.place_of(path)? else { return Ok(None) };
        let held = self.hold(&place, place.name)?;
        held.map(|held| self.state(&held, path, keep)).transpose()
    }

    pub(super) fn list(&self, directory: &HostPath) -> Result<Vec<(HostPath, FileKind)>> {
        let Some(held) = self.open_directory(directory, directory.as_bytes())? else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for entry in Dir::read_from(&held).map_err(failed("list", directory))?.take(ENTRIES_MAX + 2) {
            let entry = entry.map_err(failed("list", directory))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => FileKind::Regular,
                FileType::Directory => FileKind::Directory,
                FileType::Symlink => FileKind::Symlink,
                _ => FileKind::Other,
            };
            let base = directory.as_bytes().strip_suffix(b"/").unwrap_or(directory.as_bytes());
            entries.push((HostPath::new(&[base, b"/", name].concat()), kind));
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn temporary(&self, path: &HostPath, class: &str, number: usize) -> Vec<u8> {
        let hash = blake3::hash(path.as_bytes()).to_hex();
        format!(".thymus-{class}-{}-{number}", &hash[..16]).into_bytes()
    }

    fn unlink(&self, place: &Place<'_>, name: &[u8], kind: FileKind) -> std::result::Result<(), Errno> {
        let flags = if kind == FileKind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&place.parent, name, flags)
    }

    fn sync(&self, place: &Place<'_>) -> Result<()> {
        rustix::fs::fsync(&place.parent).map_err(failed("sync the directory of", place.path))
    }

    fn rename(&self, place: &Place<'_>, from: &[u8], to: &[u8], flags: RenameFlags) -> std::result::Result<(), Errno> {
        rustix::fs::renameat_with(&place.parent, from, &place.parent, to, flags)
    }

    /// A new object with everything of `wanted`, under a name of its own, with `sync` on disk. Gives that name.
    fn make(&self, place: &Place<'_>, wanted: &FileState, sync: bool) -> Result<Vec<u8>> {
        let mut result = Err(Errno::EXIST);
        let mut name = Vec::new();
        for number in 0..TRIES {
            name = self.temporary(place.path, NEW, number);
            result = self.create(place, &name, wanted);
            if !matches!(result, Err(Errno::EXIST)) {
                break;
            }
        }
        let file = result.map_err(failed("create a new file beside", place.path))?;
        let filled = self.fill(place, &name, file, wanted, sync);
        if filled.is_err() {
            self.clean(|| {
                let _ = self.unlink(place, &name, wanted.kind);
            });
        }
        filled.map(|()| name)
    }

    fn create(&self, place: &Place<'_>, name: &[u8], wanted: &FileState) -> std::result::Result<Option<File>, Errno> {
        let parent = &place.parent;
        match wanted.kind {
            FileKind::Regular => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
                Ok(Some(File::from(opened)))
            }
            FileKind::Directory => rustix::fs::mkdirat(parent, name, Mode::RWXU).map(|()| None),
            FileKind::Symlink => {
                let target = wanted.target.clone().unwrap_or_default();
                rustix::fs::symlinkat(target.as_bytes(), parent, name).map(|()| None)
            }
            FileKind::Other => {
                let (bits, device) = wanted.special.ok_or(Errno::INVAL)?;
                let kind = FileType::from_raw_mode(bits);
                rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device).map(|()| None)
            }
        }
    }

    fn fill(&self, place: &Place<'_>, name: &[u8], file: Option<File>, wanted: &FileState, sync: bool) -> Result<()> {
        self.step()?;
        if let Some(mut file) = file {
            let digest = wanted.content.ok_or_else(|| Error::Refused {
                path: place.path.clone(),
                why: "the wanted content is not known".to_owned(),
            })?;
            self.keep.pour(&digest, &mut file, place.path)?;
        }
        self.step()?;
        let held = self.hold(place, name)?;
        let held = held.ok_or_else(|| failed("find what was just made for", place.path)(Errno::NOENT))?;
        let made = FileState { kind: wanted.kind, ..FileState::default() };
        // Not yet its inode flags: what is immutable cannot be moved to its place.
        self.set_metadata(&held, place.path, &made, &FileState { flags: 0, ..wanted.clone() }, sync)
    }

    /// The last touch to what stands in its place.
    fn lock(&self, place: &Place<'_>, wanted: &FileState) -> Result<()> {
        self.step()?;
        if wanted.flags == 0 {
            return Ok(());
        }
        let held = self.hold(place, place.name)?;
        let held = held.ok_or_else(|| failed("find what was just made for", place.path)(Errno::NOENT))?;
        self.set_flags(&held, place.path, wanted.flags)
    }

    /// Owner before mode before attributes: changing the owner clears set-id bits and capabilities, an ACL is part of the mode.
    fn set_metadata(
        &self,
        held: &Held,
        path: &HostPath,
        now: &FileState,
        wanted: &FileState,
        sync: bool,
    ) -> Result<()> {
        let node = &held.node;
        let name = through(node);
        let symlink = wanted.kind == FileKind::Symlink;
        if now.flags != 0 {
            self.set_flags(held, path, 0)?;
        }
        self.step()?;
        let (owner, group) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        rustix::fs::chownat(node, "", Some(owner), Some(group), AtFlags::EMPTY_PATH)
            .map_err(failed("set the owner of", path))?;
        self.step()?;
        for (surplus, _) in xattrs(node, path)? {
            if !wanted.xattrs.iter().any(|(name, _)| *name == surplus) {
                rustix::fs::removexattr(name.as_str(), surplus.as_bytes())
                    .map_err(failed("remove an extended attribute of", path))?;
            }
        }
        self.step()?;
        if !symlink {
            let mode = Mode::from_raw_mode(u32::from(wanted.mode));
            rustix::fs::chmod(name.as_str(), mode).map_err(failed("set the mode of", path))?;
        }
        self.step()?;
        for (attribute, value) in &wanted.xattrs {
            rustix::fs::setxattr(name.as_str(), attribute.as_bytes(), &value.0, XattrFlags::empty())
                .map_err(failed("set an extended attribute of", path))?;
        }
        self.step()?;
        let omit = Timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };
        let modified = Timespec { tv_sec: wanted.mtime.0, tv_nsec: i64::from(wanted.mtime.1) };
        let times = Timestamps { last_access: omit, last_modification: modified };
        rustix::fs::utimensat(rustix::fs::CWD, name.as_str(), &times, AtFlags::empty())
            .map_err(failed("set the times of", path))?;
        if sync && matches!(wanted.kind, FileKind::Regular | FileKind::Directory) {
            let file = self.reopen(held, OFlags::RDONLY, path)?;
            file.sync_all().map_err(|source| Error::File { doing: "sync", path: path.clone(), source })?;
        }
        if wanted.flags != 0 {
            self.set_flags(held, path, wanted.flags)?;
        }
        Ok(())
    }

    fn set_flags(&self, held: &Held, path: &HostPath, flags: u32) -> Result<()> {
        let file = self.reopen(held, OFlags::RDONLY, path)?;
        let ours = IFlags::IMMUTABLE | IFlags::APPEND;
        let others = rustix::fs::ioctl_getflags(&file).map_err(failed("read the inode flags of", path))? - ours;
        rustix::fs::ioctl_setflags(&file, others | (IFlags::from_bits_truncate(flags) & ours))
            .map_err(failed("set the inode flags of", path))
    }

    /// An immutable or append-only inode can neither be moved nor unlinked.
    fn unlock(&self, held: &Held, path: &HostPath, state: &FileState) -> Result<()> {
        if state.flags == 0 { Ok(()) } else { self.set_flags(held, path, 0) }
    }

    /// What is under `name` must be `expected`, apart from the inode flags that we cleared ourselves.
    fn check(&self, place: &Place<'_>, name: &[u8], expected: &FileState) -> Result<Option<String>> {
        let Some(held) = self.hold(place, name)? else { return Ok(Some("nothing is there".to_owned())) };
        let state = self.state(&held, place.path, false)?;
        Ok(expected.difference(&FileState { flags: expected.flags, ..state }))
    }

    /// What is at a place, when it is as `expected`.
    fn found(&self, place: &Place<'_>, expected: Option<&FileState>) -> Result<Option<(FileState, Held)>> {
        let path = place.path;
        let now = match self.hold(place, place.name)? {
            None => None,
            Some(held) => Some((self.state(&held, path, false)?, held)),
        };
        match (expected, &now) {
            (None, None) => {}
            (Some(expected), Some((now, _))) => {
                if let Some(difference) = expected.difference(now) {
                    return changed(path, difference);
                }
            }
            (None, Some(_)) => return changed(path, "something is there that was not there before"),
            (Some(_), None) => return changed(path, "nothing is there any more"),
        }
        Ok(now)
    }

    pub(super) fn place(&self, path: &HostPath, expected: Option<&FileState>, wanted: &FileState) -> Result<()> {
        let place = self.existing_place(path)?;
        self.step()?;
        let Some((now, held)) = self.found(&place, expected)? else {
            let name = self.make(&place, wanted, true)?;
            return self.settle(&place, &name, wanted);
        };
        // The same object with other metadata keeps its inode: daemons may hold it open. Not when it has more names: one of
        // them may be somebody else's file.
        let content = |state: &FileState| (state.kind, state.content, state.target.clone(), state.special);
        let single = now.kind == FileKind::Directory || now.links == 1;
        if content(&now) == content(wanted) && single && now.kind != FileKind::Symlink {
            return self.set_metadata(&held, path, &now, wanted, true).inspect_err(|_| {
                self.clean(|| {
                    let _ = self.set_metadata(&held, path, wanted, &now, true);
                });
            });
        }
        let name = self.make(&place, wanted, true)?;
        self.exchange(&place, &held, &now, &name, wanted)
    }

    /// As `place`, by one more name of what is at `other`.
    pub(super) fn link(
        &self,
        path: &HostPath,
        expected: Option<&FileState>,
        other: &HostPath,
        wanted: &FileState,
    ) -> Result<()> {
        let (place, from) = (self.existing_place(path)?, self.existing_place(other)?);
        self.step()?;
        let Some(source) = self.hold(&from, from.name)? else { return changed(other, "nothing is there any more") };
        if let Some(difference) = wanted.difference(&self.state(&source, other, false)?) {
            return changed(other, difference);
        }
        let now = self.found(&place, expected)?;
        let mut made = Err(Errno::EXIST);
        let mut name = Vec::new();
        for number in 0..TRIES {
            name = self.temporary(path, NEW, number);
            // By the descriptor: whatever the other name stands for by now, this is the file that was looked at.
            made = rustix::fs::linkat(&source.node, "", &place.parent, &*name, AtFlags::EMPTY_PATH);
            if !matches!(made, Err(Errno::EXIST)) {
                break;
            }
        }
        made.map_err(failed("make another name for", other))?;
        match now {
            None => self.settle(&place, &name, wanted),
            Some((now, held)) => self.exchange(&place, &held, &now, &name, wanted),
        }
    }

    /// Gives what was made beside it the free name.
    fn settle(&self, place: &Place<'_>, name: &[u8], wanted: &FileState) -> Result<()> {
        let path = place.path;
        let moved = self.step().and_then(|()| match self.rename(place, name, place.name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => changed(path, "something came to be there meanwhile"),
            other => other.map_err(failed("name", path)),
        });
        if moved.is_err() {
            self.clean(|| {
                let _ = self.unlink(place, name, wanted.kind);
            });
        }
        moved?;
        self.lock(place, wanted)?;
        self.sync(place)
    }

    /// Puts what was made as `name` in the place of the old object, and that one back when it was not what we thought.
    fn exchange(&self, place: &Place<'_>, held: &Held, now: &FileState, name: &[u8], wanted: &FileState) -> Result<()> {
        self.swap(place, held, now, name, wanted)?;
        self.sync(place)
    }

    /// The same without a flush.
    fn swap(&self, place: &Place<'_>, held: &Held, now: &FileState, name: &[u8], wanted: &FileState) -> Result<()> {
        let path = place.path;
        let swapped = self.step().and_then(|()| self.unlock(held, path, now)).and_then(|()| {
            self.rename(place, name, place.name, RenameFlags::EXCHANGE).map_err(failed("replace", path))
        });
        if let Err(error) = swapped {
            self.clean(|| {
                let _ = self.unlink(place, name, wanted.kind);
                let _ = self.unlock(held, path, &FileState { flags: 1, ..now.clone() });
                let _ = if now.flags == 0 { Ok(()) } else { self.set_flags(held, path, now.flags) };
            });
            return Err(error);
        }
        let finished = self.step().and_then(|()| match self.check(place, name, now)? {
            Some(difference) => changed(path, difference),
            None => match self.step().map(|()| self.unlink(place, name, now.kind))? {
                Err(Errno::NOTEMPTY) => refused(path, "the directory there is not empty"),
                other => other.map_err(failed("take away what was at", path)),
            },
        });
        if finished.is_err() {
            self.clean(|| {
                if self.rename(place, name, place.name, RenameFlags::EXCHANGE).is_ok() {
                    let _ = self.unlink(place, name, wanted.kind);
                }
                let _ = if now.flags == 0 { Ok(()) } else { self.set_flags(held, path, now.flags) };
            });
        }
        finished?;
        self.lock(place, wanted)
    }

    pub(super) fn remove(&self, path: &HostPath, expected: &FileState) -> Result<()> {
        let place = self.existing_place(path)?;
        self.step()?;
        let Some(held) = self.hold(&place, place.name)? else {
            return changed(path, "nothing is there any more");
        };
        let now = self.state(&held, path, false)?;
        if let Some(difference) = expected.difference(&now) {
            return changed(path, difference);
        }
        self.unlock(&held, path, &now)?;
        let mut aside = Vec::new();
        let mut moved = Err(Errno::EXIST);
        for number in 0..TRIES {
            aside = self.temporary(path, OLD, number);
            moved = self.rename(&place, place.name, &aside, RenameFlags::NOREPLACE);
            if !matches!(moved, Err(Errno::EXIST)) {
                break;
            }
        }
        let removed = moved.map_err(failed("move aside", path)).and_then(|()| self.step()).and_then(|()| {
            match self.check(&place, &aside, &now)? {
                Some(difference) => changed(path, difference),
                None => match self.step().map(|()| self.unlink(&place, &aside, now.kind))? {
                    Err(Errno::NOTEMPTY) => refused(path, "the directory is not empty"),
                    other => other.map_err(failed("remove", path)),
                },
            }
        });
        if removed.is_err() {
            self.clean(|| {
                let _ = self.rename(&place, &aside, place.name, RenameFlags::NOREPLACE);
                let _ = if now.flags == 0 { Ok(()) } else { self.set_flags(&held, path, now.flags) };
            });
        }
        removed?;
        self.sync(&place)
    }

    pub(super) fn write_in_place(
        &self,
        path: &HostPath,
        expected: &FileState,
        wanted: &FileState,
    ) -> Result<FileState> {
        let place = self.existing_place(path)?;
        self.step()?;
        let Some(held) = self.hold(&place, place.name)? else { return changed(path, "nothing is there any more") };
        if kind_of(&held.stat) != FileKind::Regular {
            return changed(path, "it is not a regular file any more");
        }
        if held.stat.st_nlink != 1 {
            return refused(path, "it has another name: writing into it would change that file too");
        }
        let (before, after) = (self.content(path, expected)?, self.content(path, wanted)?);
        let state = self.state(&held, path, false)?;
        self.unlock(&held, path, &state)?;
        let io = |doing| move |source| Error::File { doing, path: path.clone(), source };
        let mut file = self.reopen(&held, OFlags::RDWR, path)?;
        let mut now = Vec::new();
        (&mut file).take(CONTENT_BYTES_MAX).read_to_end(&mut now).map_err(io("read"))?;
        let Some(appended) = mend::appended(&now, &before, &after) else {
            return changed(path, "it is neither what it was with something appended, nor what is wanted");
        };
        self.overwrite(path, &file, &now, &[&after[..], appended].concat())?;
        let metadata = FileState { mtime: (held.stat.st_mtime, wanted.mtime.1), ..wanted.clone() };
        // What was unlocked to be written is locked again with the rest.
        let same =
            state.flags == 0 && FileState { content: state.content, size: state.size, ..wanted.clone() }.same(&state);
        if !same {
            self.set_metadata(&held, path, &FileState { flags: 0, ..state }, &metadata, true)?;
        }
        let held = self.hold(&place, place.name)?;
        let held = held.ok_or_else(|| failed("find again", path)(Errno::NOENT))?;
        self.state(&held, path, false)
    }

    fn content(&self, path: &HostPath, state: &FileState) -> Result<Vec<u8>> {
        match &state.content {
            Some(digest) => self.keep.get(digest, CONTENT_BYTES_MAX),
            None => refused(path, "its content is not known"),
        }
    }

    /// `now` is in the file, `target` will be; stopped in the middle, `mend::appended` knows what is left.
    fn overwrite(&self, path: &HostPath, file: &File, now: &[u8], target: &[u8]) -> Result<()> {
        let io = |doing| move |source| Error::File { doing, path: path.clone(), source };
        let from = target.iter().zip(now).take_while(|(one, other)| one == other).count();
        // Writing in two halves gives tests a place to stop in the middle.
        let middle = from + (target.len() - from) / 2;
        for range in [from..middle, middle..target.len()] {
            self.step()?;
            file.write_all_at(&target[range.clone()], range.start as u64).map_err(io("write"))?;
        }
        self.step()?;
        if now.len() > target.len() {
            file.set_len(target.len() as u64).map_err(io("shorten"))?;
        }
        file.sync_all().map_err(io("sync"))?;
        self.step()
    }

    /// All names of the file show what is written here, so it must be the very file that is meant.
    pub(super) fn rewrite(&self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<()> {
        let place = self.existing_place(path)?;
        self.step()?;
        let Some(held) = self.hold(&place, place.name)? else { return changed(path, "nothing is there any more") };
        let state = self.state(&held, path, false)?;
        if !state.is_inode(expected) || !state.is_inode(wanted) || state.kind != FileKind::Regular {
            return refused(path, "another file stands there now: writing into it would change all its names");
        }
        if state.content != wanted.content {
            let (before, after) = (self.content(path, expected)?, self.content(path, wanted)?);
            self.unlock(&held, path, &state)?;
            let mut file = self.reopen(&held, OFlags::RDWR, path)?;
            let mut now = Vec::new();
            let read = (&mut file).take(CONTENT_BYTES_MAX).read_to_end(&mut now);
            read.map_err(|source| Error::File { doing: "read", path: path.clone(), source })?;
            if !mend::is_between(&now, &before, &after) {
                return changed(path, "it is neither what it was nor what is wanted");
            }
            self.overwrite(path, &file, &now, &after)?;
        }
        self.set_metadata(&held, path, &state, wanted, true)
    }

    pub(super) fn tidy(&self, path: &HostPath, known: &[&FileState]) -> Result<()> {
        let Some(place) = self.place_of(path)? else { return Ok(()) };
        for (class, number) in [NEW, OLD].into_iter().flat_map(|class| (0..TRIES).map(move |number| (class, number))) {
            let name = self.temporary(path, class, number);
            let Some(held) = self.hold(&place, &name)? else { continue };
            let state = self.state(&held, path, true)?;
            self.unlock(&held, path, &state)?;
            let safe = known.iter().any(|known| known.same(&FileState { flags: known.flags, ..state.clone() }));
            if class == OLD && !safe {
                // Somebody's file that was moved by mistake: it goes back, if its place is still free.
                match self.rename(&place, &name, place.name, RenameFlags::NOREPLACE) {
                    Ok(()) => continue,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed("put back", path)(errno)),
                }
            }
            // Its content is in the keep now, whatever it was.
            match self.unlink(&place, &name, state.kind) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed("clear a leftover beside", path)(errno)),
            }
        }
        self.sync(&place)
    }
}

/// Nanoseconds since 1970; 0 where the file system keeps none.
fn born(node: &OwnedFd) -> i64 {
    let found = rustix::fs::statx(node, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME);
    let found = found.ok().filter(|found| found.stx_mask & StatxFlags::BTIME.bits() != 0);
    found.map_or(0, |found| {
        found.stx_btime.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(found.stx_btime.tv_nsec))
    })
}

fn flags_of(file: &File) -> u32 {
    // File systems without flags have none set.
    let flags = rustix::fs::ioctl_getflags(file).unwrap_or(IFlags::empty());
    (flags & (IFlags::IMMUTABLE | IFlags::APPEND)).bits()
}

fn xattrs(node: &OwnedFd, path: &HostPath) -> Result<Vec<(HostPath, Bytes)>> {
    let name = through(node);
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match rustix::fs::listxattr(name.as_str(), &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(failed("list the extended attributes of", path)(errno)),
    };
    let mut found = Vec::new();
    for attribute in names[..length].split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty()) {
        let mut value = vec![0; 64 << 10];
        match rustix::fs::getxattr(name.as_str(), attribute, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((HostPath::new(attribute), Bytes(value)));
            }
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(failed("read an extended attribute of", path)(errno)),
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn digest_of(reader: &mut impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let size = io::copy(reader, &mut hasher)?;
    Ok((Digest(*hasher.finalize().as_bytes()), size))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
