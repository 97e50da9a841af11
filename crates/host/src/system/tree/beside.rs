// SPDX-License-Identifier: Apache-2.0
//! Names beside a place: what is being made for it, what was moved aside from it, and what a crash has left of both.
//!
//! Input: a path. Output: the same names for it every time, in its own directory. INVARIANT: nothing is under such a name
//! when an action has ended; what is found there later is kept before it goes, or goes back when it is somebody's file.

use super::{TRIES, Tree, failed};
use crate::system::{FileState, Result};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use thymus_engine::HostPath;

pub(super) const NEW: &str = "new";
pub(super) const OLD: &str = "old";

impl Tree<'_> {
    fn temporary(&self, path: &HostPath, class: &str, number: usize) -> Vec<u8> {
        let hash = blake3::hash(path.as_bytes()).to_hex();
        format!(".thymus-{class}-{}-{number}", &hash[..16]).into_bytes()
    }

    /// One name of `class` after the other, until one is free. Gives the last one tried, and what came of it.
    pub(super) fn beside<T>(
        &self,
        path: &HostPath,
        class: &str,
        mut attempt: impl FnMut(&[u8]) -> std::result::Result<T, Errno>,
    ) -> (Vec<u8>, std::result::Result<T, Errno>) {
        let mut result = Err(Errno::EXIST);
        let mut name = Vec::new();
        for number in 0..TRIES {
            name = self.temporary(path, class, number);
            result = attempt(&name);
            if !matches!(result, Err(Errno::EXIST)) {
                break;
            }
        }
        (name, result)
    }

    pub(in crate::system) fn tidy(&self, path: &HostPath, known: &[&FileState]) -> Result<()> {
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
