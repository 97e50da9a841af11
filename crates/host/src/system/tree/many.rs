// SPDX-License-Identifier: Apache-2.0
//! Many files at once: made side by side by several threads, flushed together, then put in their places.
//!
//! As for one file nothing is in its place before its content is on disk, and what is replaced is looked at once more after
//! the exchange. What is saved is the waiting: two flushes of the file system stand for three of each file.

use super::beside::OLD;
use super::{Place, Tree, changed, failed, refused};
use crate::system::{Error, FileState, Placing, Result};
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

/// LIMIT: threads for one action. They compute digests and wait for disks in turn.
const THREADS_MAX: usize = 8;

/// What the first half left of one placing.
enum Half<'p> {
    /// Nothing is wanted there.
    Leaves(Place<'p>),
    /// Everything of the wanted object, under this name beside its place.
    Made(Place<'p>, Vec<u8>),
    Done,
}

impl Tree<'_> {
    pub(in crate::system) fn look_many(&self, paths: &[&HostPath], keep: bool) -> Vec<Result<Option<FileState>>> {
        side_by_side(paths, |path| self.look(path, keep))
    }

    /// Each whole or not at all.
    pub(in crate::system) fn place_many(&self, placings: &[Placing<'_>]) -> Vec<Result<()>> {
        let halves = side_by_side(placings, |placing| self.begin(placing));
        let flushed = self.step().and_then(|()| self.flush());
        let pairs: Vec<(&Placing<'_>, Mutex<Option<Result<Half<'_>>>>)> =
            placings.iter().zip(halves.into_iter().map(|half| Mutex::new(Some(half)))).collect();
        let mut results = side_by_side(&pairs, |(placing, half)| {
            let half = half.lock().unwrap_or_else(PoisonError::into_inner).take();
            // INVARIANT: each pair is taken once.
            let half = half.unwrap_or_else(|| refused(placing.path, "it is worked on already"))?;
            match &flushed {
                Ok(()) => self.finish(placing, half),
                Err(error) => {
                    self.give_up(&half);
                    refused(placing.path, error.in_words())
                }
            }
        });
        if let Err(error) = self.step().and_then(|()| self.flush()) {
            let why = error.in_words();
            results.iter_mut().filter(|result| result.is_ok()).for_each(|result| {
                // It is there, and whether a loss of power leaves it there is not known.
                *result = Err(Error::Probe { what: "flush what was restored".to_owned(), why: why.clone() });
            });
        }
        results
    }

    /// Everything that was written so far on the guarded file system is on disk.
    fn flush(&self) -> Result<()> {
        let root = HostPath::from("/");
        let held = rustix::fs::openat(self.root, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        held.and_then(rustix::fs::syncfs).map_err(failed("flush the file system of", &root))
    }

    fn begin<'p>(&self, placing: &Placing<'p>) -> Result<Half<'p>> {
        let (path, place) = (placing.path, self.existing_place(placing.path)?);
        let Some(wanted) = placing.wanted else { return Ok(Half::Leaves(place)) };
        let content = |state: &FileState| (state.kind, state.content);
        if wanted.kind != FileKind::Regular || placing.expected.is_some_and(|found| content(found) == content(wanted)) {
            // Attributes alone, or no file: as for one.
            return self.place(path, placing.expected, wanted).map(|()| Half::Done);
        }
        let name = self.make(&place, wanted, false)?;
        Ok(Half::Made(place, name))
    }

    fn give_up(&self, half: &Half<'_>) {
        if let Half::Made(place, name) = half {
            self.discard(place, name);
        }
    }

    fn discard(&self, place: &Place<'_>, name: &[u8]) {
        self.clean(|| {
            let _ = self.unlink(place, name, FileKind::Regular);
        });
    }

    fn finish(&self, placing: &Placing<'_>, half: Half<'_>) -> Result<()> {
        match (half, placing.wanted, placing.expected) {
            (Half::Done, ..) => Ok(()),
            (Half::Leaves(place), _, Some(expected)) => self.take_away(&place, expected),
            (Half::Leaves(_), _, None) => Ok(()),
            (Half::Made(place, name), Some(wanted), None) => {
                let moved = self
                    .step()
                    .and_then(|()| match self.rename(&place, &name, place.name, RenameFlags::NOREPLACE) {
                        Err(Errno::EXIST) => changed(place.path, "something came to be there meanwhile"),
                        other => other.map_err(failed("name", place.path)),
                    })
                    .and_then(|()| self.lock(&place, wanted));
                moved.inspect_err(|_| self.discard(&place, &name))
            }
            (Half::Made(place, name), Some(wanted), Some(expected)) => {
                let Some(held) = self.hold(&place, place.name)? else {
                    self.discard(&place, &name);
                    return changed(place.path, "nothing is there any more");
                };
                // What is there is compared after the exchange, when nobody can change which object it is.
                self.swap(&place, &held, expected, &name, wanted)
            }
            (Half::Made(place, _), None, _) => refused(place.path, "nothing was wanted there"),
        }
    }

    /// As [`Tree::remove`], without a flush of its own.
    fn take_away(&self, place: &Place<'_>, expected: &FileState) -> Result<()> {
        let path = place.path;
        self.step()?;
        let Some(held) = self.hold(place, place.name)? else { return changed(path, "nothing is there any more") };
        self.unlock(&held, path, expected)?;
        let (aside, moved) =
            self.beside(path, OLD, |aside| self.rename(place, place.name, aside, RenameFlags::NOREPLACE));
        let removed = moved.map_err(failed("move aside", path)).and_then(|()| self.step()).and_then(|()| {
            match self.check(place, &aside, expected)? {
                Some(difference) => changed(path, difference),
                None => self.unlink(place, &aside, expected.kind).map_err(failed("remove", path)),
            }
        });
        removed.inspect_err(|_| {
            self.clean(|| {
                let _ = self.rename(place, &aside, place.name, RenameFlags::NOREPLACE);
                let _ = if expected.flags == 0 { Ok(()) } else { self.set_flags(&held, path, expected.flags) };
            });
        })
    }
}

/// The answers in the order of `items`, computed by several threads.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = threads().min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Vec::new();
                while let Some((at, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
                {
                    own.push((at, work(item)));
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, answer)| answer).collect()
}

/// Tests count the steps of one thread.
fn threads() -> usize {
    static THREADS: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(2, |count| 2 * count.get()).min(THREADS_MAX));
    if cfg!(test) { 1 } else { *THREADS }
}
