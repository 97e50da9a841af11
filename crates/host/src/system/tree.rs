// SPDX-License-Identifier: Apache-2.0
//! Files of a real Linux: hold the parent directory, look at what is in it, replace it whole.
//!
//! Input: a path below the guarded root, what is expected there and what is wanted. Output: what is wanted is there,
//! or what was there and the reason. Invariants: nothing outside of the root is reached, no link and no mount is followed; an
//! object is held before it is looked at, and looked at before it is changed.
//!
//! Here is how a place and an object are held; what is seen of them and what is done to them is one file each, below.

mod beside;
mod fault;
mod look;
mod make;
mod many;
mod metadata;
mod replace;
mod rewrite;

#[cfg(test)]
pub(super) use fault::Fault;

use super::keep::Keep;
use super::{Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

/// LIMIT: names tried for a file that is being made, and tries when the tree moves under a look-up.
const TRIES: usize = 16;

#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) keep: &'a Keep,
    #[cfg(test)]
    pub(super) fault: &'a Fault,
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

    /// A regular file, which is made when nothing is there.
    pub(super) fn open_or_make(&self, path: &HostPath, flags: OFlags, mode: u32) -> Result<File> {
        let place = self.existing_place(path)?;
        for _ in 0..TRIES {
            if let Some(held) = self.hold(&place, place.name)? {
                return match FileType::from_raw_mode(held.stat.st_mode) {
                    FileType::RegularFile => self.reopen(&held, flags, path),
                    _ => refused(path, "it is no regular file"),
                };
            }
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            match rustix::fs::openat(&place.parent, place.name, flags, Mode::from_raw_mode(mode)) {
                Err(Errno::EXIST) => {}
                other => return other.map(File::from).map_err(failed("make", path)),
            }
        }
        changed(path, "it comes and goes")
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
