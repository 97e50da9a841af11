// SPDX-License-Identifier: Apache-2.0
//! One object in the place of another, whole.
//!
//! Input: a path, what is expected there and what is wanted. Output: what is wanted is there and on disk, or what was there
//! is back. Invariants: the names are exchanged, or a free one is taken, by one system call; what came out of the place is
//! compared once more before it goes, so nobody's file is lost in a race.

use super::beside::{NEW, OLD};
use super::{Held, Place, Tree, changed, failed, refused};
use crate::system::{FileState, Result};
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

impl Tree<'_> {
    pub(in crate::system) fn place(
        &self,
        path: &HostPath,
        expected: Option<&FileState>,
        wanted: &FileState,
    ) -> Result<()> {
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
    pub(in crate::system) fn link(
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
        // By the descriptor: whatever the other name stands for by now, this is the file that was looked at.
        let (name, made) = self
            .beside(path, NEW, |name| rustix::fs::linkat(&source.node, "", &place.parent, name, AtFlags::EMPTY_PATH));
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
    pub(super) fn swap(
        &self,
        place: &Place<'_>,
        held: &Held,
        now: &FileState,
        name: &[u8],
        wanted: &FileState,
    ) -> Result<()> {
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

    pub(in crate::system) fn remove(&self, path: &HostPath, expected: &FileState) -> Result<()> {
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
        let (aside, moved) =
            self.beside(path, OLD, |aside| self.rename(&place, place.name, aside, RenameFlags::NOREPLACE));
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
}
