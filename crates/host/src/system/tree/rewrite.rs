// SPDX-License-Identifier: Apache-2.0
//! New content for a file that stays the same inode, because daemons hold it open or because it has many names.
//!
//! Input: a path, its content as expected and as wanted. Output: the wanted content, with what was appended meanwhile.
//! Invariants: a file that holds anything else is not written into, nor is one whose other names may be somebody else's;
//! stopped in the middle, what is there is told from everything else, and finished or put back.

use super::look::kind_of;
use super::{Tree, changed, failed, refused};
use crate::system::{CONTENT_BYTES_MAX, Error, FileState, Result, mend};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

impl Tree<'_> {
    pub(in crate::system) fn write_in_place(
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
    pub(in crate::system) fn rewrite(&self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<()> {
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
}
