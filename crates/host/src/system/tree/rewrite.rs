// SPDX-License-Identifier: Apache-2.0
//! New content for a file that stays the same inode, because daemons hold it open or because it has many names.
//!
//! Input: a path, its content as expected and as wanted. Output: the wanted content, with what was appended meanwhile.
//! Invariants: a file that holds anything else is not written into, nor is one whose other names may be somebody else's;
//! stopped in the middle, what is there is told from everything else, and finished or put back.

use super::look::kind_of;
use super::{Held, Tree, changed, failed, refused};
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
        self.while_unlocked(&held, path, &state, |file, now| {
            let Some(appended) = mend::appended(now, &before, &after) else {
                return changed(path, "it is neither what it was with something appended, nor what is wanted");
            };
            self.overwrite(path, file, now, &[&after[..], appended].concat())
        })?;
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

    /// Hands all that the file holds to `work`, with the inode flags off; back on when it fails, for the caller to set when not.
    fn while_unlocked(
        &self,
        held: &Held,
        path: &HostPath,
        state: &FileState,
        work: impl FnOnce(&File, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.unlock(held, path, state)?;
        let worked = self.reopen(held, OFlags::RDWR, path).and_then(|mut file| {
            let mut now = Vec::new();
            let read = (&mut file).take(CONTENT_BYTES_MAX + 1).read_to_end(&mut now);
            let bytes = read.map_err(|source| Error::File { doing: "read", path: path.clone(), source })?;
            if bytes as u64 > CONTENT_BYTES_MAX {
                return changed(path, format!("it has grown beyond {CONTENT_BYTES_MAX} bytes"));
            }
            work(&file, &now)
        });
        worked.inspect_err(|_| {
            self.clean(|| {
                let _ = if state.flags == 0 { Ok(()) } else { self.set_flags(held, path, state.flags) };
            });
        })
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
            self.while_unlocked(&held, path, &state, |file, now| {
                if !mend::is_between(now, &before, &after) {
                    return changed(path, "it is neither what it was nor what is wanted");
                }
                self.overwrite(path, file, now, &after)
            })?;
        }
        self.set_metadata(&held, path, &state, wanted, true)
    }
}
