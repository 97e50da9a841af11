// SPDX-License-Identifier: Apache-2.0
//! A journal read again: checked, told record by record, exported, and replayed into an engine.
//!
//! Input: a directory, which may be in use. Output: its records, oldest first, up to the first that cannot be trusted, and a
//! [`Report`] of what holds. Invariants: nothing on disk is changed, but that [`Journal::replay`] hands over its buffer first;
//! nothing is told that the chain does not vouch for.

use super::frame::{Failure, Frames};
use super::record::{Record, decode, json, kind};
use super::scan::{scan, segment_path};
use super::{Error, Journal, Problem, io_error, lock};
use crate::system::Digest;
use serde::Serialize;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;
use thymus_engine::{Input, Timestamp};

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub segments: u64,
    pub frames: u64,
    pub bytes: u64,
    /// Hash of the last frame.
    pub head: Digest,
    pub problems: Vec<Problem>,
    /// A torn tail, as a crash leaves it: harmless, cut at the next start.
    pub torn: Option<Problem>,
}

/// What brings an engine back to where it was.
pub struct Replay {
    pub checkpoint: Option<(Timestamp, Vec<u8>)>,
    pub inputs: Inputs,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("checkpoint", &self.checkpoint.as_ref().map(|(time, _)| time))
            .finish_non_exhaustive()
    }
}

type Inputs = Box<dyn Iterator<Item = Result<(Timestamp, Input), Error>> + Send>;

impl Journal {
    /// The newest checkpoint, and the inputs after it, as far as they were appended before this call.
    pub fn replay(&self) -> Result<Replay, Error> {
        let mut inner = lock(&self.inner);
        inner.flush()?;
        let paths: Vec<_> = inner.segments.iter().map(|segment| segment_path(&inner.directory, *segment)).collect();
        drop(inner);
        let mut start = 0;
        let mut checkpoint = None;
        for (at, path) in paths.iter().enumerate().rev() {
            let first = open_frames(path)?.next().transpose().map_err(|failure| refused(path, failure))?;
            if let Some(frame) = first.filter(|frame| frame.kind == kind::CHECKPOINT) {
                (start, checkpoint) = (at, Some((Timestamp(frame.time), frame.payload)));
                break;
            }
        }
        let inputs = paths.into_iter().skip(start).flat_map(|path| match open_frames(&path) {
            Err(error) => Box::new(std::iter::once(Err(error))) as Inputs,
            Ok(frames) => Box::new(frames.filter_map(move |frame| match frame {
                Err(failure) => Some(Err(refused(&path, failure))),
                Ok(frame) if frame.kind == kind::INPUT => match decode(&frame) {
                    Ok(Record::Input(input)) => Some(Ok((Timestamp(frame.time), input))),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                },
                Ok(_) => None,
            })),
        });
        Ok(Replay { checkpoint, inputs: Box::new(inputs) })
    }
}

pub(super) fn open_frames(path: &Path) -> Result<Frames<BufReader<File>>, Error> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let length = file.metadata().map_err(io_error("read", path))?.len();
    let opened = Frames::open(BufReader::with_capacity(1 << 16, file), length);
    opened.map(|(_, frames)| frames).map_err(|failure| refused(path, failure))
}

fn refused(path: &Path, failure: Failure) -> Error {
    let (offset, what) = match failure {
        Failure::Io(source) => return io_error("read", path)(source),
        Failure::Short { offset } => (offset, "the file ends within a record".to_owned()),
        Failure::Bad { offset, why, .. } => (offset, why),
    };
    Error::Refused(Problem { file: path.to_owned(), offset, what })
}

/// Reads a journal that may be in use, changes nothing.
pub fn verify(directory: &Path) -> Result<Report, Error> {
    Ok(scan(directory, crate::system::boot_id().0, &mut |_, _| Ok(()))?.report)
}

/// Visits every record, oldest first. Stops at the first that cannot be trusted; the report says so.
pub fn records(
    directory: &Path,
    visit: &mut dyn FnMut(Timestamp, Record) -> Result<(), Error>,
) -> Result<Report, Error> {
    let boot = crate::system::boot_id().0;
    Ok(scan(directory, boot, &mut |_, frame| visit(Timestamp(frame.time), decode(&frame)?))?.report)
}

/// Every frame as one JSON object a line. Stops at the first frame that cannot be trusted and says so.
pub fn export(directory: &Path, out: &mut dyn Write) -> Result<Report, Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        segment: u64,
        offset: u64,
        /// Nanoseconds on the boot clock.
        time_ns: u64,
        hash: Digest,
        record: &'a Record,
    }
    let boot = crate::system::boot_id().0;
    let found = scan(directory, boot, &mut |segment, frame| {
        let mut record = decode(&frame)?;
        if let Record::Checkpoint(bytes) = &mut record {
            // The engine's own format, megabytes of it: its hash stands for it.
            *bytes = Vec::new();
        }
        let line =
            Line { segment, offset: frame.offset, time_ns: frame.time, hash: Digest(frame.hash), record: &record };
        let mut text = json(&line)?;
        text.push(b'\n');
        out.write_all(&text).map_err(io_error("write the export of", directory))
    })?;
    Ok(found.report)
}
