// SPDX-License-Identifier: Apache-2.0
//! Reads a whole journal and says what holds, what a crash has torn, and what somebody altered.

use super::anchor::{Anchor, Mark};
use super::frame::{Failure, Frame, Frames, Hash};
use super::{Error, Problem, Report, io_error};
use crate::system::Digest;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where the chain ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) segment: u64,
    pub(super) length: u64,
    pub(super) head: Hash,
}

#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) report: Report,
    pub(super) anchor: Option<Anchor>,
    /// `None`: there is no segment yet.
    pub(super) tail: Option<Tail>,
    pub(super) segments: Vec<u64>,
    /// A file whose end a crash has torn, and how much of it stays; 0: nothing, not even the header.
    pub(super) cut: Option<(PathBuf, u64)>,
}

pub(super) fn segment_path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:016}.journal"))
}

pub(super) fn anchor_path(directory: &Path) -> PathBuf {
    directory.join("anchor")
}

fn numbers(directory: &Path) -> Result<Vec<u64>, Error> {
    let entries = std::fs::read_dir(directory).map_err(io_error("list", directory))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", directory))?;
        let name = entry.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".journal")).and_then(|name| name.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn is_zero_from(path: &Path, offset: u64) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    if file.seek(SeekFrom::Start(offset)).is_err() {
        return false;
    }
    let mut reader = BufReader::new(file);
    let mut buffer = [0; 4_096];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) if buffer[..count].iter().all(|byte| *byte == 0) => {}
            Ok(_) | Err(_) => return false,
        }
    }
}

/// Visits every frame that can be trusted, in order; stops at the first problem, which is in the report.
pub(super) fn scan(
    directory: &Path,
    boot: u64,
    visit: &mut dyn FnMut(u64, Frame) -> Result<(), Error>,
) -> Result<Scan, Error> {
    let mut scan = Scan::default();
    let anchor_file = anchor_path(directory);
    let problem = |file: &Path, offset, what: String| Problem { file: file.to_owned(), offset, what };
    scan.anchor = match File::open(&anchor_file) {
        Ok(file) => {
            let anchor = Anchor::read(&file).map_err(io_error("read", &anchor_file))?;
            if anchor.is_none() {
                let what = "neither slot of the anchor is whole: it was altered".to_owned();
                scan.report.problems.push(problem(&anchor_file, 0, what));
                return Ok(scan);
            }
            anchor
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_error("open", &anchor_file)(error)),
    };
    let all = numbers(directory)?;
    let Some(anchor) = scan.anchor else {
        if !all.is_empty() {
            let what = "the anchor is missing, though there are segments: it was removed".to_owned();
            scan.report.problems.push(problem(&anchor_file, 0, what));
        }
        return Ok(scan);
    };
    let fresh = anchor.synced.length == 0 && anchor.written.length == 0;
    scan.segments = all.into_iter().filter(|number| *number >= anchor.first).collect();
    if scan.segments.is_empty() && fresh {
        return Ok(scan);
    }
    for (number, found) in
        (anchor.first..=anchor.segment).zip(scan.segments.iter().map(Some).chain(std::iter::repeat(None)))
    {
        if found != Some(&number) && !(fresh && number == anchor.segment) {
            let what = format!("segment {number} is missing: it was removed");
            scan.report.problems.push(problem(&segment_path(directory, number), 0, what));
            return Ok(scan);
        }
    }
    let mut before: Option<Hash> = None;
    let last = scan.segments.last().copied();
    for number in scan.segments.clone() {
        let path = segment_path(directory, number);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let length = file.metadata().map_err(io_error("read", &path))?.len();
        let mark = match number.cmp(&anchor.segment) {
            std::cmp::Ordering::Less => Mark { length, head: [0; 32] },
            std::cmp::Ordering::Equal if anchor.boot == boot => anchor.written,
            std::cmp::Ordering::Equal => anchor.synced,
            std::cmp::Ordering::Greater => Mark { length: 0, head: [0; 32] },
        };
        scan.report.segments += 1;
        scan.report.bytes += length;
        let (valid, failure) = match Frames::open(BufReader::with_capacity(1 << 16, file), length) {
            Err(failure) => (0, Some(failure)),
            Ok((header, _)) if header.segment != number => {
                let what = format!("says it is segment {}: it was renamed", header.segment);
                scan.report.problems.push(problem(&path, 0, what));
                return Ok(scan);
            }
            Ok((header, _)) if before.is_some_and(|before| before != header.before) => {
                let what = "does not follow the segment before it: one of the two was replaced".to_owned();
                scan.report.problems.push(problem(&path, 0, what));
                return Ok(scan);
            }
            Ok((_, mut frames)) => {
                let mut failure = None;
                let mut remembered = number != anchor.segment || mark.length == 0;
                loop {
                    if !remembered && frames.offset() >= mark.length {
                        remembered = frames.offset() == mark.length && frames.head() == mark.head;
                        if !remembered {
                            let what = "the records are whole but not those that the anchor remembers: the end was \
                                        rewritten"
                                .to_owned();
                            scan.report.problems.push(problem(&path, frames.offset(), what));
                            return Ok(scan);
                        }
                    }
                    match frames.next() {
                        None => break,
                        Some(Err(error)) => {
                            failure = Some(error);
                            break;
                        }
                        Some(Ok(frame)) => {
                            scan.report.frames += 1;
                            visit(number, frame)?;
                        }
                    }
                }
                before = Some(frames.head());
                scan.report.head = Digest(frames.head());
                scan.tail = Some(Tail { segment: number, length: frames.offset(), head: frames.head() });
                (frames.offset(), failure)
            }
        };
        match failure {
            Some(Failure::Io(source)) => return Err(io_error("read", &path)(source)),
            Some(Failure::Short { offset }) => {
                let what = "the file ends within a record".to_owned();
                settle(&mut scan, problem(&path, offset, what), last == Some(number) && offset >= mark.length, valid);
            }
            Some(Failure::Bad { offset, why, last: ends }) => {
                let tearable = last == Some(number) && offset >= mark.length;
                let torn = tearable && (ends || is_zero_from(&path, offset));
                settle(&mut scan, problem(&path, offset, why), torn, valid);
            }
            None if valid < mark.length => {
                let what = format!("ends here, but the anchor remembers {} bytes: the end was cut off", mark.length);
                scan.report.problems.push(problem(&path, valid, what));
            }
            None => {}
        }
        if !scan.report.problems.is_empty() {
            break;
        }
    }
    Ok(scan)
}

fn settle(scan: &mut Scan, problem: Problem, torn: bool, valid: u64) {
    if torn {
        scan.cut = Some((problem.file.clone(), valid));
        scan.report.torn = Some(problem);
    } else {
        scan.report.problems.push(problem);
    }
}
