// SPDX-License-Identifier: Apache-2.0
//! How a journal is opened: verified, its torn tail cut, or moved aside whole.
//!
//! Input: a directory, and what [`scan`] says of it. Output: a journal that goes on where the last one ended. Invariants:
//! nothing is appended to a chain that cannot be trusted, and it is kept as evidence; only what a crash has torn is cut.

use super::anchor::{Anchor, Mark};
use super::frame::{self, Header};
use super::ledger::Ledger;
use super::read::Report;
use super::record::{Run, decode, json, kind};
use super::scan::{anchor_path, scan, segment_path};
use super::segments::{new_file, sync_directory};
use super::write::{BUFFER_BYTES, Inner};
use super::{Error, Journal, Options, Problem, io_error};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

impl Journal {
    /// Opens or makes the journal in `directory`. Everything is verified; a torn tail is cut and reported.
    pub fn open(directory: &Path) -> Result<(Self, Report), Error> {
        Self::open_with(directory, Options::USUAL)
    }

    pub fn open_with(directory: &Path, options: Options) -> Result<(Self, Report), Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io_error("create", directory))?;
        let boot = crate::system::boot_id().0;
        let mut ledger = Ledger::default();
        let found = scan(directory, boot, &mut |_, frame| {
            if matches!(frame.kind, kind::INTENT..=kind::INCIDENT_UNDONE | kind::CARRIED) {
                ledger.take(decode(&frame)?);
            }
            Ok(())
        })?;
        if let Some(problem) = found.report.problems.first() {
            return Err(Error::Refused(problem.clone()));
        }
        let anchor_at = anchor_path(directory);
        let anchor_file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&anchor_at);
        let anchor_file = anchor_file.map_err(io_error("open", &anchor_at))?;
        let nothing = Mark { length: 0, head: [0; 32] };
        let mut anchor = found.anchor.unwrap_or(Anchor {
            sequence: 0,
            boot,
            first: 1,
            segment: 1,
            synced: nothing,
            written: nothing,
        });
        let mut segments = found.segments;
        if let Some((path, keep)) = &found.cut {
            if *keep == 0 {
                std::fs::remove_file(path).map_err(io_error("remove", path))?;
                segments.pop();
            } else {
                let file = File::options().write(true).open(path).map_err(io_error("open", path))?;
                file.set_len(*keep).and_then(|()| file.sync_all()).map_err(io_error("cut", path))?;
            }
        }
        let (path, file, head, length) = match found.tail {
            Some(tail) => {
                let path = segment_path(directory, tail.segment);
                let file = File::options().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
                file.sync_all().map_err(io_error("sync", &path))?;
                anchor.segment = tail.segment;
                (path, file, tail.head, tail.length)
            }
            None => {
                // The anchor first: a segment without one would look as if it had been removed.
                anchor.write(&anchor_file).map_err(io_error("write", &anchor_at))?;
                anchor_file.sync_all().map_err(io_error("sync", &anchor_at))?;
                let path = segment_path(directory, anchor.segment);
                let header = Header { segment: anchor.segment, before: [0; 32] };
                let file = new_file(&path)?;
                file.write_all_at(&header.encode(), 0).map_err(io_error("write", &path))?;
                file.sync_all().map_err(io_error("sync", &path))?;
                segments.push(anchor.segment);
                (path, file, header.seed(), frame::HEADER_BYTES as u64)
            }
        };
        let mark = Mark { length, head };
        (anchor.boot, anchor.synced, anchor.written) = (boot, mark, mark);
        anchor.write(&anchor_file).map_err(io_error("write", &anchor_at))?;
        anchor_file.sync_all().map_err(io_error("sync", &anchor_at))?;
        sync_directory(directory)?;
        let inner = Inner {
            directory: directory.to_owned(),
            options,
            file: Arc::new(file),
            path,
            segments,
            anchor,
            anchor_file: Arc::new(anchor_file),
            head,
            written: length,
            buffer: Vec::with_capacity(BUFFER_BYTES * 2),
            reserved: 0,
            ledger,
            losses: 0,
            losses_said: 0,
            rotate_at: options.segment_bytes.saturating_mul(2),
            sync_failed: false,
        };
        let journal = Self { inner: Arc::new(Mutex::new(inner)), syncing: Arc::default() };
        let run = Run { boot, pid: std::process::id(), version: env!("CARGO_PKG_VERSION").to_owned() };
        journal.append(kind::RUN, crate::system::boot_time(), &json(&run)?)?;
        Ok((journal, found.report))
    }

    /// As [`Journal::open`]; a journal that cannot be trusted is moved aside whole, and a new one is begun. The problem is
    /// returned for the operator.
    pub fn open_or_quarantine(directory: &Path) -> Result<(Self, Report, Option<Problem>), Error> {
        let problem = match Self::open(directory) {
            Ok((journal, report)) => return Ok((journal, report, None)),
            Err(Error::Refused(problem)) => problem,
            // A record that the chain vouches for and this version cannot read: as little to be trusted.
            Err(Error::Encode(error)) => {
                Problem { file: directory.to_owned(), offset: 0, what: format!("a record cannot be read: {error}") }
            }
            Err(error) => return Err(error),
        };
        // LIMIT: refused journals kept as evidence.
        let aside = (1..1_000).map(|number| {
            let mut name = directory.as_os_str().to_owned();
            name.push(format!(".refused-{number}"));
            PathBuf::from(name)
        });
        let mut aside = aside.filter(|path| !path.exists());
        let aside = aside.next().ok_or_else(|| Error::Refused(problem.clone()))?;
        std::fs::rename(directory, &aside).map_err(io_error("move aside", directory))?;
        let (journal, report) = Self::open(directory)?;
        let what = format!("{}; moved to `{}` as evidence, a new journal was begun", problem.what, aside.display());
        Ok((journal, report, Some(Problem { what, ..problem })))
    }
}
