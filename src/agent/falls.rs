// SPDX-License-Identifier: Apache-2.0
//! An agent that falls again and again must not go on acting: what made it fall (a rule, a policy, its own code) may be what it
//! acts by.
//!
//! Input: each panic, as a line in the agent's state. Output: at a start, why nothing is to be done by itself, when there
//! were too many of late. Ends by a signal (the kernel's for want of memory, a person's) are not counted.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// So many within [`WITHIN`] are too many.
const FALLS_MAX: usize = 3;
const WITHIN: Duration = Duration::from_secs(600);
/// How long nothing is done by itself then, unless a person releases it before.
pub(super) const HELD_NS: u64 = 86_400_000_000_000;
/// LIMIT: bytes of the file that are read, the last ones, and at which it is begun anew.
const BYTES_MAX: u64 = 16_384;
/// LIMIT: bytes of one line.
const LINE_BYTES_MAX: usize = 512;

/// From here on each panic of this process is written down, before anything else is done about it.
pub(super) fn listen(file: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        // Best effort: whoever falls for want of room falls all the same.
        let _ = note(&file, now(), &panic.to_string());
        before(panic);
    }));
}

/// Why nothing is to be done by itself: the agent fell too often of late.
pub(super) fn too_many(file: &Path) -> Option<String> {
    judge(&read(file), now())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn note(file: &Path, now: u64, what: &str) -> std::io::Result<()> {
    if std::fs::metadata(file).is_ok_and(|found| found.len() >= BYTES_MAX) {
        std::fs::remove_file(file)?;
    }
    let what: String = what.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let end =
        what.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= LINE_BYTES_MAX).last();
    let line = format!("{now} {}\n", &what[..end.unwrap_or(0)]);
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)?.write_all(line.as_bytes())
}

fn read(file: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(file) {
        let _ = file.take(2 * BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn judge(lines: &str, now: u64) -> Option<String> {
    let fall = |line: &'_ str| {
        let (time, what) = line.split_once(' ')?;
        let ago = now.abs_diff(time.parse().ok()?);
        (ago <= WITHIN.as_secs()).then(|| what.to_owned())
    };
    let recent: Vec<String> = lines.lines().filter_map(fall).collect();
    let last = recent.last().filter(|_| recent.len() >= FALLS_MAX)?;
    let minutes = WITHIN.as_secs() / 60;
    Some(format!("the agent fell {} times within {minutes} minutes, the last time so: {last}", recent.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn three_falls_within_ten_minutes_are_too_many_and_old_ones_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("falls");
        assert_eq!(too_many(&file), None, "there is no file yet");
        for time in [100, 1_000, 1_200, 1_400] {
            note(&file, time, "panicked at rules:\nindex 21").unwrap();
        }
        let why = "the agent fell 3 times within 10 minutes, the last time so: panicked at rules: index 21";
        assert_eq!(judge(&read(&file), 1_500).unwrap(), why);
        assert_eq!(judge(&read(&file), 1_700), None, "two of them");
        assert_eq!(judge(&read(&file), 900), Some(why.to_owned()), "a clock that was set back forgets nothing");
    }

    #[test]
    fn what_is_written_down_is_bounded_and_any_bytes_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("falls");
        for time in 0..500 {
            note(&file, time, &"ä".repeat(5_000)).unwrap();
        }
        assert!(std::fs::metadata(&file).unwrap().len() <= BYTES_MAX + 600);
        std::fs::write(&file, b"\xff\xfe 12\nx y\n99999999999999999999999 z\n").unwrap();
        assert_eq!(too_many(&file), None);
    }
}
