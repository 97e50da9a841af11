// SPDX-License-Identifier: Apache-2.0
//! A new object with everything of a wanted state, under a name of its own beside its place.
//!
//! Input: a place and a state. Output: the name. Invariants: nothing that exists is opened or overwritten; what cannot be
//! finished is taken away again.

use super::beside::NEW;
use super::{Place, Tree, failed};
use crate::system::{Error, FileState, Result};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use thymus_engine::event::FileKind;

impl Tree<'_> {
    /// A new object with everything of `wanted`, under a name of its own, with `sync` on disk. Gives that name.
    pub(super) fn make(&self, place: &Place<'_>, wanted: &FileState, sync: bool) -> Result<Vec<u8>> {
        let (name, made) = self.beside(place.path, NEW, |name| self.create(place, name, wanted));
        let file = made.map_err(failed("create a new file beside", place.path))?;
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
}
