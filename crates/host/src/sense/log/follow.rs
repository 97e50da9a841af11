// SPDX-License-Identifier: Apache-2.0
//! Follows logs as they grow, are moved aside, and are cut.
//!
//! Input: looks, some times a second. Output: what their new lines say. What was there before the first look is not read. A
//! file that is moved aside is read to its end when another one stands at its path; one that is shorter than before begins
//! anew. A line that is older than a minute by its own time is not told: somebody edited the log, or put it back. Blind spots:
//! what is appended to a file after it was replaced, what was cut before a look, and old lines with the traditional time.

use super::template::Parser;
use super::time::unix_seconds;
use crate::scope::Scope;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use thymus_engine::graph::JOIN_NS;
use thymus_engine::hearsay::Hearsay;
use thymus_engine::path::HostPath;

/// LIMIT: bytes of one line; what is longer is not read, and counted.
const LINE_BYTES_MAX: usize = 8_192;
/// LIMIT: bytes of one file that are read at one look, and lines of it that are told; what is more is passed over, and
/// counted.
const LOOK_BYTES_MAX: u64 = 256 * 1024;
const LOOK_LINES_MAX: usize = 100;

/// What became of the lines of one log, since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub lines: u64,
    /// Of these, those that a parser knows.
    pub read: u64,
    /// Of these, those that are older than what they could be about.
    pub old: u64,
    /// Lines beyond the limits of one look.
    pub passed_over: u64,
    /// Bytes beyond the limits of one look; their lines were not counted.
    pub bytes_passed_over: u64,
    pub too_long: u64,
    /// Why it is not read, in words.
    pub refused: Option<String>,
}

/// One log.
#[derive(Debug)]
struct Followed {
    file: File,
    /// Device and inode.
    key: (u64, u64),
    offset: u64,
    /// The beginning of a line that has not ended.
    partial: Vec<u8>,
    /// The line that has not ended is too long.
    overlong: bool,
}

/// All logs that parsers name.
#[derive(Debug)]
pub struct Follower {
    parsers: Vec<Parser>,
    open: BTreeMap<HostPath, Followed>,
    reports: BTreeMap<HostPath, Report>,
    begun: bool,
}

impl Follower {
    #[must_use]
    pub fn new(parsers: Vec<Parser>) -> Self {
        let paths = parsers.iter().flat_map(|parser| parser.files.iter().cloned());
        let reports = paths.map(|path| (path, Report::default())).collect();
        Self { parsers, open: BTreeMap::new(), reports, begun: false }
    }

    #[must_use]
    pub fn reports(&self) -> &BTreeMap<HostPath, Report> {
        &self.reports
    }

    /// New lines of all logs; `now` is Unix time, in seconds.
    pub fn look(&mut self, scope: &Scope, now: i64, out: &mut Vec<Hearsay>) {
        let oldest = now - i64::try_from(JOIN_NS / 1_000_000_000).unwrap_or(i64::MAX);
        for (path, report) in &mut self.reports {
            let told = &mut |line: &[u8], report: &mut Report| {
                let mut named = self.parsers.iter().filter(|parser| parser.files.contains(path));
                if let Some(heard) = named.find_map(|parser| parser.read(path, line)) {
                    report.read += 1;
                    match heard.original_time.as_deref().and_then(unix_seconds) {
                        Some(written) if written < oldest => report.old += 1,
                        _ => out.push(heard),
                    }
                }
            };
            if let Some(followed) = self.open.get_mut(path) {
                followed.advance(report, told);
            }
            match open(scope, path) {
                Ok(file) => {
                    report.refused = None;
                    let Ok(metadata) = file.metadata() else { continue };
                    let key = (metadata.dev(), metadata.ino());
                    if self.open.get(path).is_some_and(|followed| followed.key == key) {
                        continue;
                    }
                    let offset = if self.begun { 0 } else { metadata.len() };
                    let mut followed = Followed { file, key, offset, partial: Vec::new(), overlong: false };
                    followed.advance(report, told);
                    self.open.insert(path.clone(), followed);
                }
                // Between its being moved aside and the next one, and where there is no such log.
                Err(Refused::Absent) => report.refused = None,
                Err(Refused::Why(why)) => report.refused = Some(why),
            }
        }
        self.begun = true;
    }
}

impl Followed {
    fn advance(&mut self, report: &mut Report, told: &mut dyn FnMut(&[u8], &mut Report)) {
        let Ok(size) = self.file.metadata().map(|metadata| metadata.len()) else { return };
        if size < self.offset {
            (self.offset, self.overlong) = (0, false);
            self.partial.clear();
        }
        let new = size - self.offset;
        if new > LOOK_BYTES_MAX {
            report.bytes_passed_over += new - LOOK_BYTES_MAX;
            self.offset = size - LOOK_BYTES_MAX;
            self.partial.clear();
            self.overlong = true; // it begins within a line
        }
        let mut bytes = vec![0; usize::try_from(new.min(LOOK_BYTES_MAX)).unwrap_or(0)];
        let Ok(read) = self.file.read_at(&mut bytes, self.offset) else { return };
        self.offset += read as u64;
        let mut lines = 0;
        for part in bytes[..read].split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if self.partial.len() + text.len() > LINE_BYTES_MAX {
                self.overlong = true;
                self.partial.clear();
            }
            if !self.overlong {
                self.partial.extend_from_slice(text);
            }
            if !ends {
                continue;
            }
            lines += 1;
            report.lines += 1;
            match (self.overlong, lines > LOOK_LINES_MAX) {
                (true, _) => report.too_long += 1,
                (false, true) => report.passed_over += 1,
                (false, false) => told(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial), report),
            }
            self.partial.clear();
            self.overlong = false;
        }
    }
}

enum Refused {
    Absent,
    Why(String),
}

/// Regular files alone, and no link on the way: looked at before it is opened, since opening some things does something.
fn open(scope: &Scope, path: &HostPath) -> Result<File, Refused> {
    let beneath = path.as_bytes().strip_prefix(b"/").unwrap_or(path.as_bytes());
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let why = |error: rustix::io::Errno| match error {
        rustix::io::Errno::NOENT => Refused::Absent,
        rustix::io::Errno::LOOP => Refused::Why("a link is on the way; expected a file".to_owned()),
        error => Refused::Why(format!("cannot open it: {}", std::io::Error::from(error))),
    };
    let held: OwnedFd =
        rustix::fs::openat2(scope.root(), beneath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(why)?;
    let status = rustix::fs::fstat(&held).map_err(why)?;
    if rustix::fs::FileType::from_raw_mode(status.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(Refused::Why("it is no regular file".to_owned()));
    }
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", held.as_raw_fd());
    File::open(own).map_err(|error| Refused::Why(format!("cannot read it: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::template::{Form, Template};
    use super::*;
    use std::io::Write;
    use thymus_engine::hearsay::Said;

    /// 2026-01-05T09:00:12Z.
    const NOW: i64 = 1_767_603_612;

    fn follower() -> Follower {
        let form = |text| Form { template: Template::parse(text).unwrap(), login: None };
        let forms = ["{message:word}", "{time:time} {message:word}"].map(form).into();
        Follower::new(vec![Parser { name: "x".to_owned(), files: vec!["/log".into()], forms }])
    }

    fn place() -> (tempfile::TempDir, Scope) {
        let place = tempfile::Builder::new().prefix("thymus-log-").tempdir().unwrap();
        let scope = Scope::cgroup(place.path(), place.path()).unwrap();
        (place, scope)
    }

    fn look(follower: &mut Follower, scope: &Scope) -> Vec<String> {
        let mut out = Vec::new();
        follower.look(scope, NOW, &mut out);
        let message = |heard: Hearsay| match heard.said {
            Said::Other { message } => message,
            other => panic!("{other:?}"),
        };
        out.into_iter().map(message).collect()
    }

    fn append(path: &std::path::Path, text: &[u8]) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text).unwrap();
    }

    #[test]
    fn new_lines_are_told_once_through_rotation_and_cutting() {
        let (place, scope) = place();
        let (log, aside) = (place.path().join("log"), place.path().join("log.1"));
        append(&log, b"before\n");
        let mut follower = follower();
        assert_eq!(look(&mut follower, &scope), [""; 0]);
        append(&log, b"one\ntw");
        assert_eq!(look(&mut follower, &scope), ["one"]);
        append(&log, b"o\r\n");
        assert_eq!(look(&mut follower, &scope), ["two"]);
        append(&log, b"three\n");
        std::fs::rename(&log, &aside).unwrap();
        assert_eq!(look(&mut follower, &scope), ["three"]);
        append(&aside, b"four\n");
        append(&log, b"five\n");
        assert_eq!(look(&mut follower, &scope), ["four", "five"]);
        File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
        append(&log, b"six\n");
        assert_eq!(look(&mut follower, &scope), ["six"]);
        assert_eq!(look(&mut follower, &scope), [""; 0]);
    }

    #[test]
    fn a_log_that_was_put_back_tells_nothing_again() {
        let (place, scope) = place();
        let (log, copy) = (place.path().join("log"), place.path().join("copy"));
        let before = b"2026-01-05T08:59:00Z before\n";
        append(&log, b"");
        let mut follower = follower();
        look(&mut follower, &scope);
        append(&copy, before);
        append(&copy, b"2026-01-05T08:59:30Z new\n");
        std::fs::rename(&copy, &log).unwrap();
        assert_eq!(look(&mut follower, &scope), ["new"]);
        std::fs::write(&log, before).unwrap();
        assert_eq!(look(&mut follower, &scope), [""; 0]);
        let report = &follower.reports()[&HostPath::from("/log")];
        assert_eq!((report.lines, report.read, report.old), (3, 3, 2));
    }

    #[test]
    fn a_hostile_log_costs_no_more_than_the_limits_and_is_counted() {
        let (place, scope) = place();
        let log = place.path().join("log");
        append(&log, b"");
        let mut follower = follower();
        look(&mut follower, &scope);
        append(&log, &[b"x".repeat(LINE_BYTES_MAX + 1), b"\nshort\n\0\xff\x1b[2J\n".to_vec()].concat());
        assert_eq!(look(&mut follower, &scope), ["short"]);
        append(&log, &b"y\n".repeat(LOOK_LINES_MAX + 5));
        assert_eq!(look(&mut follower, &scope).len(), LOOK_LINES_MAX);
        append(&log, &b"z".repeat(1 << 20));
        append(&log, b"\nlast\n");
        assert_eq!(look(&mut follower, &scope), ["last"]);
        let report = &follower.reports()[&HostPath::from("/log")];
        assert_eq!((report.too_long, report.passed_over), (2, 5));
        assert_eq!(report.bytes_passed_over, (1 << 20) + 6 - LOOK_BYTES_MAX);
    }

    #[test]
    fn no_link_is_followed_and_no_pipe_is_opened() {
        let (place, scope) = place();
        let log = place.path().join("log");
        append(&place.path().join("secret"), b"a\n");
        std::os::unix::fs::symlink("secret", &log).unwrap();
        let mut follower = follower();
        look(&mut follower, &scope);
        append(&place.path().join("secret"), b"b\n");
        assert_eq!(look(&mut follower, &scope), [""; 0]);
        let why = |follower: &Follower| follower.reports()[&HostPath::from("/log")].refused.clone().unwrap();
        assert!(why(&follower).contains("link"));
        std::fs::remove_file(&log).unwrap();
        nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
        look(&mut follower, &scope);
        assert!(why(&follower).contains("no regular file"));
    }
}
