// SPDX-License-Identifier: Apache-2.0
//! One test in one twin: what it requires, the test itself by ssh, and its cleanup.

use super::technique::{FOLDER, Shell, Test};
use crate::session::{Answer, Keys, Session};
use crate::twin::Twin;
use crate::{Doing, Error, Result};
use std::path::Path;
use std::time::Duration;

/// LIMIT: seconds of one command of a test.
const COMMAND_SECONDS: u64 = 20;
/// LIMIT: files that a technique brings along, and bytes of all of them.
const BROUGHT_MAX: usize = 256;
const BROUGHT_BYTES_MAX: u64 = 16 << 20;
/// Where the attacker comes from.
pub(super) const SOURCE: &str = "127.0.0.66";
/// Where the administrator comes from who does the same.
const DESK: &str = "127.0.0.7";

/// Who takes the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// As root or alice, as the test wants it, with a key of theirs.
    Attacker,
    /// The named administrator, by sudo where the test wants to be root.
    Administrator,
}

/// What a command came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Came {
    /// `None`: the session ended before the command did.
    pub(super) status: Option<i32>,
    pub(super) lines: Vec<String>,
}

/// Lays what the technique brings along where the commands look for it.
pub(super) fn bring(twin: &Twin, test: &Test) -> Result<()> {
    let mut pending = vec![test.folder.clone()];
    let (mut files, mut bytes) = (0, 0);
    while let Some(directory) = pending.pop() {
        let entries = std::fs::read_dir(&directory).doing("list", &directory)?;
        for entry in entries {
            let path = entry.doing("list", &directory)?.path();
            let metadata = std::fs::symlink_metadata(&path).doing("look at", &path)?;
            if metadata.is_dir() {
                pending.push(path);
                continue;
            }
            let is_text = path.extension().is_some_and(|extension| extension == "yaml" || extension == "md");
            if !metadata.is_file() || is_text && path.parent() == Some(&test.folder) {
                continue;
            }
            (files, bytes) = (files + 1, bytes + metadata.len());
            if files > BROUGHT_MAX || bytes > BROUGHT_BYTES_MAX {
                let why = format!("brings more than {BROUGHT_MAX} files or {BROUGHT_BYTES_MAX} bytes along");
                return Err(Error::Atomic { path: test.folder.clone(), why });
            }
            let below = path.strip_prefix(&test.folder).unwrap_or(&path).display().to_string();
            let content = std::fs::read(&path).doing("read", &path)?;
            let mode = if is_program(&metadata) { 0o755 } else { 0o644 };
            twin.plant(&format!("{FOLDER}/{}/{below}", test.technique), &content, mode, 0)?;
        }
    }
    Ok(())
}

fn is_program(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

/// Gets what the test requires; `Some`: what cannot be had in a twin.
pub(super) fn prepare(twin: &Twin, test: &Test) -> Result<Option<String>> {
    for requirement in test.requirements.iter().filter(|requirement| !requirement.check.is_empty()) {
        let is_met = |twin: &Twin| by_hand(twin, test, &requirement.check);
        if is_met(twin)?.status == Some(0) {
            continue;
        }
        let got = by_hand(twin, test, &requirement.get)?;
        let checked = is_met(twin)?;
        if checked.status != Some(0) {
            let said = obstacle(&got.lines).map(|obstacle| format!(" ({obstacle})")).unwrap_or_default();
            return Ok(Some(format!("requires: {}{said}", requirement.about.replace('\n', " "))));
        }
    }
    Ok(None)
}

/// Of a requirement: before anybody guards the twin, as whoever takes the test.
fn by_hand(twin: &Twin, test: &Test, script: &str) -> Result<Came> {
    let line = limited(test.requirements_shell, script);
    // In the background it must not keep the pipe of its answer open.
    let line = format!(
        "cd; {{ {line}; }} >/tmp/.required 2>&1 </dev/null; s=$?; tail -n 40 /tmp/.required; rm -f /tmp/.required; exit $s"
    );
    let (user, home) = if test.elevated { ("root", "/root") } else { ("alice", "/home/alice") };
    let (home, user_is) = (format!("HOME={home}"), format!("USER={user}"));
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let change = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "sh", "-c", &line];
    let said = twin.inside(&[&["env", "-i", path, &home, &user_is][..], &change[..]].concat());
    match said {
        Ok(text) => Ok(Came { status: Some(0), lines: text.lines().map(str::to_owned).collect() }),
        Err(Error::Failed { output, .. }) => {
            Ok(Came { status: Some(1), lines: output.lines().map(str::to_owned).collect() })
        }
        Err(other) => Err(other),
    }
}

/// Somebody in the twin who can take the test.
#[derive(Debug)]
pub(super) struct Taker {
    session: Option<Session>,
    who: Who,
}

impl Taker {
    pub(super) fn come(twin: &Twin, keys: &Keys, test: &Test, who: Who) -> Result<Self> {
        let (user, source) = match (who, test.elevated) {
            (Who::Administrator, _) => ("ops", DESK),
            (Who::Attacker, true) => ("root", SOURCE),
            (Who::Attacker, false) => ("alice", SOURCE),
        };
        let session = Session::open(twin, keys, user, source, "atomic-is-over")?;
        Ok(Self { session: Some(session), who })
    }

    /// Runs a command of the test's.
    pub(super) fn run(&mut self, test: &Test, script: &str) -> Result<Came> {
        let Some(session) = &mut self.session else { return Ok(Came::default()) };
        let line = limited(test.shell, script);
        let line = match self.who {
            Who::Administrator if test.elevated => format!("sudo -n -H {line}"),
            Who::Administrator | Who::Attacker => line,
        };
        let mut lines = Vec::new();
        let mut heard = |line: &str| {
            if !line.is_empty() && lines.len() < 1_000 {
                lines.push(line.to_owned());
            }
        };
        match session.run_heard(&line, Duration::from_secs(COMMAND_SECONDS + 10), &mut heard) {
            Ok(Answer { status, .. }) => Ok(Came { status: Some(status), lines }),
            Err(Error::SessionEnded { .. }) => {
                self.session = None;
                Ok(Came { status: None, lines })
            }
            Err(other) => Err(other),
        }
    }

    pub(super) fn leave(self) {
        if let Some(session) = self.session {
            session.close();
        }
    }
}

fn limited(shell: Shell, script: &str) -> String {
    format!("timeout --kill-after=2 {COMMAND_SECONDS} {} -c {}", shell.program(), quoted(script))
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What stood in a command's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    Network,
    /// A program that is not installed.
    Missing(String),
    /// What the kernel, or a twin's confinement, does not let.
    Denied(String),
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network => f.write_str("the network beyond the twin"),
            Self::Missing(program) => write!(f, "`{program}`, which is not installed"),
            Self::Denied(line) => write!(f, "what a twin does not let: {line}"),
        }
    }
}

/// What a twin lacks or does not let, by what a command printed.
pub(super) fn obstacle(lines: &[String]) -> Option<Obstacle> {
    const NETWORK: [&str; 8] = [
        "Could not resolve host",
        "Temporary failure resolving",
        "Temporary failure in name resolution",
        "Name or service not known",
        "Network is unreachable",
        "unable to resolve host address",
        "Couldn't connect to server",
        "No address associated with hostname",
    ];
    const DENIED: [&str; 4] =
        ["Operation not permitted", "Read-only file system", "Protocol not supported", "No such device"];
    let says = |words: &'static [&'static str]| move |line: &&String| words.iter().any(|word| line.contains(word));
    if lines.iter().any(|line| says(&NETWORK)(&line)) {
        return Some(Obstacle::Network);
    }
    if let Some(program) = lines.iter().find_map(|line| not_found(line)) {
        return Some(Obstacle::Missing(program.to_owned()));
    }
    let denied = lines.iter().find(|line| says(&DENIED)(line))?;
    Some(Obstacle::Denied(denied.trim().to_owned()))
}

/// `sh: 1: arp: not found`, `bash: line 1: arp: command not found`.
fn not_found(line: &str) -> Option<&str> {
    let rest =
        line.trim_end().strip_suffix(": command not found").or_else(|| line.trim_end().strip_suffix(": not found"))?;
    let program = rest.rsplit(": ").next().unwrap_or(rest);
    (!program.is_empty() && !program.contains(' ')).then_some(program)
}

/// Whether anything is there for commands to look at besides the technique file.
#[must_use]
pub(super) fn brings_something(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_twin_lacks_is_told_from_what_a_command_says() {
        let of = |line: &str| obstacle(&["first".to_owned(), line.to_owned()]).map(|obstacle| obstacle.to_string());
        assert_eq!(of("curl: (6) Could not resolve host: file.io").as_deref(), Some("the network beyond the twin"));
        assert_eq!(of("sh: 1: arp: not found").as_deref(), Some("`arp`, which is not installed"));
        assert_eq!(of("bash: line 3: zip: command not found").as_deref(), Some("`zip`, which is not installed"));
        assert_eq!(
            of("insmod: ERROR: could not insert module: Operation not permitted").as_deref(),
            Some("what a twin does not let: insmod: ERROR: could not insert module: Operation not permitted")
        );
        assert_eq!(of("the page was not found"), None);
        assert_eq!(of("grep: /x: No such file or directory"), None);
    }

    #[test]
    fn a_script_is_one_word_whatever_is_in_it() {
        let script = "echo \"a b\" 'c d' \\ $HOME\n# end";
        let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(script))]).output();
        assert_eq!(said.map(|said| said.stdout).unwrap_or_default(), script.as_bytes());
    }
}
