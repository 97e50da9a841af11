// SPDX-License-Identifier: Apache-2.0
//! Owner, mode, extended attributes, times and inode flags of an object that is held.
//!
//! Input: the object, how it is and how it is wanted. Output: it is so. INVARIANT: inode flags go first and come last: what
//! is immutable or append-only can be neither written nor moved.

use super::look::xattrs;
use super::{Held, Place, Tree, failed, through};
use crate::system::{Error, FileState, Result};
use rustix::fs::{AtFlags, Gid, IFlags, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

impl Tree<'_> {
    /// Owner before mode before attributes: changing the owner clears set-id bits and capabilities, an ACL is part of the mode.
    pub(super) fn set_metadata(
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

    pub(super) fn set_flags(&self, held: &Held, path: &HostPath, flags: u32) -> Result<()> {
        let file = self.reopen(held, OFlags::RDONLY, path)?;
        let ours = IFlags::IMMUTABLE | IFlags::APPEND;
        let others = rustix::fs::ioctl_getflags(&file).map_err(failed("read the inode flags of", path))? - ours;
        rustix::fs::ioctl_setflags(&file, others | (IFlags::from_bits_truncate(flags) & ours))
            .map_err(failed("set the inode flags of", path))
    }

    /// An immutable or append-only inode can neither be moved nor unlinked.
    pub(super) fn unlock(&self, held: &Held, path: &HostPath, state: &FileState) -> Result<()> {
        if state.flags == 0 { Ok(()) } else { self.set_flags(held, path, 0) }
    }

    /// The last touch to what stands in its place.
    pub(super) fn lock(&self, place: &Place<'_>, wanted: &FileState) -> Result<()> {
        self.step()?;
        if wanted.flags == 0 {
            return Ok(());
        }
        let held = self.hold(place, place.name)?;
        let held = held.ok_or_else(|| failed("find what was just made for", place.path)(Errno::NOENT))?;
        self.set_flags(&held, place.path, wanted.flags)
    }
}
