// SPDX-License-Identifier: Apache-2.0
//! Room on a file system: how much there is, and files deleted to make some. Nothing here reads a content.

use super::{Error, FileState, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

fn failed(doing: &'static str, path: &HostPath) -> impl FnOnce(rustix::io::Errno) -> Error {
    let path = path.clone();
    move |errno| Error::File { doing, path, source: errno.into() }
}

/// The directory that holds `path`, no link followed.
fn parent(root: &OwnedFd, path: &HostPath) -> Result<OwnedFd> {
    let beneath = path.parent().strip_prefix(b"/").unwrap_or_default();
    let beneath = if beneath.is_empty() { b"." } else { beneath };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, OsStr::from_bytes(beneath), flags, Mode::empty(), resolve)
        .map_err(failed("open the directory of", path))
}

pub(crate) fn measure(root: &OwnedFd, path: &HostPath) -> Result<Option<FileState>> {
    let directory = match parent(root, path) {
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let name = OsStr::from_bytes(path.file_name());
    let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other.map_err(failed("look at", path))?,
    };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            FileKind::Other
        }
    };
    Ok(Some(FileState {
        kind,
        mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        links: stat.st_nlink,
        inode: (stat.st_ino, 0),
        ..FileState::default()
    }))
}

/// Bytes that its going gives back: what it occupies, when it has no other name.
pub(crate) fn occupied(root: &OwnedFd, path: &HostPath) -> u64 {
    let Ok(directory) = parent(root, path) else { return 0 };
    let name = OsStr::from_bytes(path.file_name());
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1 => {
            u64::try_from(stat.st_blocks).unwrap_or(0) * 512
        }
        Ok(_) | Err(_) => 0,
    }
}

pub(crate) fn free(root: &OwnedFd, path: &HostPath, expected: &FileState) -> Result<()> {
    let changed = |difference: &str| Err(Error::Changed { path: path.clone(), difference: difference.to_owned() });
    let Some(now) = measure(root, path)? else { return changed("nothing is there any more") };
    if now != *expected {
        return changed("it was changed in between");
    }
    if now.kind != FileKind::Regular {
        return Err(Error::Refused { path: path.clone(), why: "it is not a regular file".to_owned() });
    }
    let directory = parent(root, path)?;
    rustix::fs::unlinkat(&directory, OsStr::from_bytes(path.file_name()), AtFlags::empty())
        .map_err(failed("delete", path))
}

/// Bytes that an ordinary user may still write on the file system of a directory.
pub(crate) fn free_bytes(root: &OwnedFd, path: &HostPath) -> Result<u64> {
    let beneath = path.as_bytes().strip_prefix(b"/").unwrap_or_default();
    let beneath = if beneath.is_empty() { b"." } else { beneath };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let held = rustix::fs::openat2(root, OsStr::from_bytes(beneath), flags, Mode::empty(), resolve)
        .map_err(failed("open", path))?;
    let stat = rustix::fs::fstatvfs(&held).map_err(failed("measure", path))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Something is at `path`, links followed within the root.
pub(crate) fn exists(root: &OwnedFd, path: &HostPath) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    !matches!(
        rustix::fs::openat2(root, OsStr::from_bytes(path.as_bytes()), flags, Mode::empty(), resolve),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)
    )
}
