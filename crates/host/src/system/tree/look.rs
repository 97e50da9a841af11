// SPDX-License-Identifier: Apache-2.0
//! What is at a place: everything of an object that undo or restoration needs, and whether it is what was expected.
//!
//! Input: a path, or an object that is held. Output: its state, its content by digest; with `keep`, the content is in the keep
//! too. INVARIANT: nothing of the guarded tree is written.

use super::{Held, Place, Tree, changed, failed, through};
use crate::system::{Bytes, Digest, ENTRIES_MAX, Error, FileState, Result, XATTR_BYTES_MAX};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, IFlags, OFlags, Stat, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

impl Tree<'_> {
    pub(super) fn state(&self, held: &Held, path: &HostPath, keep: bool) -> Result<FileState> {
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

    pub(in crate::system) fn look(&self, path: &HostPath, keep: bool) -> Result<Option<FileState>> {
        let Some(place) = self.place_of(path)? else { return Ok(None) };
        let held = self.hold(&place, place.name)?;
        held.map(|held| self.state(&held, path, keep)).transpose()
    }

    pub(in crate::system) fn list(&self, directory: &HostPath) -> Result<Vec<(HostPath, FileKind)>> {
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

    /// What is under `name` must be `expected`, apart from the inode flags that we cleared ourselves.
    pub(super) fn check(&self, place: &Place<'_>, name: &[u8], expected: &FileState) -> Result<Option<String>> {
        let Some(held) = self.hold(place, name)? else { return Ok(Some("nothing is there".to_owned())) };
        let state = self.state(&held, place.path, false)?;
        Ok(expected.difference(&FileState { flags: expected.flags, ..state }))
    }

    /// What is at a place, when it is as `expected`.
    pub(super) fn found(&self, place: &Place<'_>, expected: Option<&FileState>) -> Result<Option<(FileState, Held)>> {
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
}

pub(super) fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
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

pub(super) fn xattrs(node: &OwnedFd, path: &HostPath) -> Result<Vec<(HostPath, Bytes)>> {
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
