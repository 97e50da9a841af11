// SPDX-License-Identifier: Apache-2.0
//! The agent's own log, for those who look after it: lines on standard error, which a service manager keeps.
//!
//! A thread of its own writes them, so that nobody waits for a reader that is slow or gone. What finds no room is counted, and
//! said with the next line that does. `THYMUS_LOG` says what is logged, in the words of tracing-subscriber's `EnvFilter`.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

const VARIABLE: &str = "THYMUS_LOG";
const USUAL: &str = "info";
/// LIMIT: lines that wait to be written.
const LINES_MAX: usize = 1_024;
/// How long the end of the agent waits for them.
const LAST_WORDS: Duration = Duration::from_secs(1);

enum Told {
    Line(Vec<u8>),
    /// Everything before it was written.
    Written(SyncSender<()>),
}

/// To be kept until the agent ends: then what was logged is written.
pub(crate) struct Log(Lines);

/// Starts a thread and is for the whole process: once, after signals are blocked. Gives also what is wrong with `THYMUS_LOG`.
pub(crate) fn begin() -> io::Result<(Log, Option<String>)> {
    let words = std::env::var(VARIABLE).unwrap_or_else(|_| USUAL.to_owned());
    let (filter, wrong) = match EnvFilter::try_new(&words) {
        Ok(filter) => (filter, None),
        Err(error) => {
            let why = format!("{VARIABLE} is `{words}`: {error}; expected such as `info` or `thymus_host=debug`");
            (EnvFilter::new(USUAL), Some(why))
        }
    };
    let (lines, told) = Lines::new();
    std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&told, &mut io::stderr()))?;
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stderr().is_terminal());
    // Another one is there in tests only.
    let _ = layer.with_writer(lines.clone()).try_init();
    Ok((Log(lines), wrong))
}

impl Drop for Log {
    fn drop(&mut self) {
        let (written, wait) = sync_channel(1);
        if self.0.sender.try_send(Told::Written(written)).is_ok() {
            let _ = wait.recv_timeout(LAST_WORDS);
        }
    }
}

fn write(told: &Receiver<Told>, out: &mut impl Write) {
    for told in told {
        match told {
            // Nobody may be reading.
            Told::Line(line) => drop(out.write_all(&line)),
            Told::Written(written) => drop(written.try_send(())),
        }
    }
}

/// Hands lines on, and never waits.
#[derive(Clone)]
struct Lines {
    sender: SyncSender<Told>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn new() -> (Self, Receiver<Told>) {
        let (sender, told) = sync_channel(LINES_MAX);
        (Self { sender, lost: Arc::default() }, told)
    }
}

/// One line, handed on when it is complete.
struct Line<'a> {
    bytes: Vec<u8>,
    lines: &'a Lines,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { bytes: Vec::new(), lines: self }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let lost = self.lines.lost.swap(0, Ordering::Relaxed);
        let mut line = std::mem::take(&mut self.bytes);
        if lost > 0 {
            line.splice(0..0, format!("{lost} lines of this log found no room\n").into_bytes());
        }
        if self.lines.sender.try_send(Told::Line(line)).is_err() {
            self.lines.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn who_logs_never_waits_and_what_finds_no_room_is_said_with_the_next_line() {
        let (lines, told) = Lines::new();
        for number in 0..LINES_MAX + 3 {
            writeln!(lines.make_writer(), "line {number}").unwrap();
        }
        let Told::Line(first) = told.recv().unwrap() else { panic!("a line was logged") };
        assert_eq!(first, b"line 0\n");
        writeln!(lines.make_writer(), "after them").unwrap();
        drop(lines);
        let mut written = Vec::new();
        write(&told, &mut written);
        let text = String::from_utf8(written).unwrap();
        assert!(text.ends_with("line 1023\n3 lines of this log found no room\nafter them\n"), "{text}");
    }
}
