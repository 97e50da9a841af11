// SPDX-License-Identifier: Apache-2.0
//! People in a twin: everybody comes through sshd with a key, so that the way in tells nobody apart.
//!
//! The client runs on the machine, in the twin's network namespace alone, from a loopback address of its own.

use crate::twin::Twin;
use crate::{Doing, Error, Result, interrupt, output};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// The ordinary users of a twin, with their numbers, as the base makes them.
pub const USERS: [(&str, u32); 3] = [("ops", 1000), ("alice", 1001), ("bob", 1002)];

/// Those who have a key besides: whom nobody is meant to log in as.
const KEY_HOLDERS: [&str; 2] = ["backup", "root"];

/// LIMIT: lines of a session's answer that wait to be read.
const LINES_MAX: usize = 4_096;

/// One key pair a user and each of [`KEY_HOLDERS`], made for one drill and planted in all its twins.
#[derive(Debug)]
pub struct Keys {
    directory: PathBuf,
}

impl Keys {
    pub fn make(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).doing("make the directory", directory)?;
        let keys = Self { directory: directory.to_owned() };
        for user in USERS.map(|(user, _)| user).into_iter().chain(KEY_HOLDERS) {
            let private = keys.private(user);
            output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", user, "-f"]).arg(&private))?;
        }
        Ok(keys)
    }

    pub(crate) fn private(&self, user: &str) -> PathBuf {
        self.directory.join(user)
    }

    /// Lets root in with a key, as where somebody has left one.
    pub(crate) fn plant_for_root(&self, twin: &Twin) -> Result<()> {
        let public = self.directory.join("root.pub");
        let text = std::fs::read(&public).doing("read", public)?;
        twin.plant("/root/.ssh/authorized_keys", &text, 0o600, 0)
    }

    /// Lets each user in with their own key.
    pub fn plant(&self, twin: &Twin) -> Result<()> {
        self.plant_with(twin, &[])
    }

    /// The same, and by `further` keys: which user, and whose key.
    pub(crate) fn plant_with(&self, twin: &Twin, further: &[(&str, &str)]) -> Result<()> {
        let public = |whose: &str| {
            let public = self.directory.join(format!("{whose}.pub"));
            std::fs::read(&public).doing("read", public)
        };
        for (user, uid) in USERS {
            let mut text = public(user)?;
            for (_, whose) in further.iter().filter(|(of, _)| *of == user) {
                text.extend(public(whose)?);
            }
            twin.plant(&format!("/home/{user}/.ssh/authorized_keys"), &text, 0o600, uid)?;
        }
        Ok(())
    }
}

/// A shell at the other end of an ssh connection. One command at a time; each is answered before the next is sent.
#[derive(Debug)]
pub struct Session {
    user: String,
    client: Child,
    input: ChildStdin,
    lines: Receiver<Vec<u8>>,
    /// Ends an answer; not a word that anybody would print.
    token: String,
}

/// From where somebody comes, and to which address of the twin's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    /// A process in the network that the client is in.
    pub(crate) network: u32,
    pub(crate) source: &'a str,
    pub(crate) target: &'a str,
}

impl Way<'_> {
    fn client(self, twin: &Twin, key: &Path, user: &str) -> Command {
        let mut client = twin.tool("nsenter");
        client
            .args(["-t", &self.network.to_string(), "-n", "ssh", "-F", "none", "-T", "-b", self.source, "-i"])
            .arg(key)
            .args(["-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"])
            .arg(format!("{user}@{}", self.target))
            .env_remove("SSH_AUTH_SOCK")
            .stderr(Stdio::null());
        client
    }

    /// Tries to log in as `user` with a key that opens nothing of theirs; whether it did all the same.
    pub(crate) fn knock(self, twin: &Twin, key: &Path, user: &str) -> Result<bool> {
        let mut client = self.client(twin, key, user);
        client.arg("true").stdin(Stdio::null()).stdout(Stdio::null());
        let status = client.status().map_err(|source| Error::Spawn { program: "ssh".into(), source })?;
        Ok(status.success())
    }
}

/// What a command said, and its exit status.
#[derive(Debug)]
pub struct Answer {
    pub status: i32,
    pub lines: Vec<String>,
}

impl Session {
    /// Logs in as `user` from `source`, a loopback address.
    pub fn open(twin: &Twin, keys: &Keys, user: &str, source: &str, token: &str) -> Result<Self> {
        Self::come(twin, Way { network: twin.leader(), source, target: "127.0.0.1" }, keys, user, token)
    }

    /// Logs in as `user` on that way.
    pub(crate) fn come(twin: &Twin, way: Way<'_>, keys: &Keys, user: &str, token: &str) -> Result<Self> {
        let mut client = way.client(twin, &keys.private(user), user);
        client.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = client.spawn().map_err(|source| Error::Spawn { program: "ssh".into(), source })?;
        let (Some(input), Some(answers)) = (client.stdin.take(), client.stdout.take()) else {
            return Err(Error::SessionEnded { user: user.to_owned(), why: "no pipes".to_owned() });
        };
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(answers).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut session = Self { user: user.to_owned(), client, input, lines, token: token.to_owned() };
        session.run(":", Duration::from_secs(20))?;
        Ok(session)
    }

    /// Runs `script` in the shell and waits for its end.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Answer> {
        self.run_heard(script, limit, &mut |_| {})
    }

    /// As [`Session::run`]; each line is heard when it comes, also those before an end that is no answer. `limit` is for
    /// the time without a word.
    pub fn run_heard(&mut self, script: &str, limit: Duration, heard: &mut dyn FnMut(&str)) -> Result<Answer> {
        let token = self.token.clone();
        self.send(&format!("{{ {script}\n}} </dev/null 2>&1\nprintf '\\n%s %s\\n' {token} $?\n"))?;
        self.answer(limit, heard)
    }

    /// Runs a command that becomes a shell reading the same input (such as `sudo …`); what follows goes to that shell.
    pub fn become_shell(&mut self, command: &str, limit: Duration) -> Result<Answer> {
        let token = self.token.clone();
        self.send(&format!("{command}\n"))?;
        self.send(&format!("printf '\\n%s %s\\n' {token} $?\n"))?;
        self.answer(limit, &mut |_| {})
    }

    fn send(&mut self, text: &str) -> Result<()> {
        let sent = self.input.write_all(text.as_bytes()).and_then(|()| self.input.flush());
        sent.map_err(|error| self.ended(error.to_string()))
    }

    fn answer(&self, limit: Duration, heard: &mut dyn FnMut(&str)) -> Result<Answer> {
        let mut deadline = Instant::now() + limit;
        let mut lines = Vec::new();
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    let status = line.strip_prefix(&self.token).and_then(|rest| rest.trim().parse().ok());
                    if let Some(status) = status {
                        return Ok(Answer { status, lines });
                    }
                    heard(&line);
                    deadline = Instant::now() + limit;
                    if !line.is_empty() && lines.len() < LINES_MAX {
                        lines.push(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.ended(format!("no answer within {limit:?}; so far: {}", some(&lines))));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.ended(format!("the connection closed; before that: {}", some(&lines))));
                }
            }
        }
    }

    fn ended(&self, why: String) -> Error {
        Error::SessionEnded { user: self.user.clone(), why }
    }

    /// Logs out.
    pub fn close(mut self) {
        // Either may have ended already; then there is nothing to close.
        let _ = self.input.write_all(b"exit\nexit\n");
        drop(self.input);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && self.client.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// The last lines of many.
fn some(lines: &[String]) -> String {
    let from = lines.len().saturating_sub(8);
    lines[from..].join(" | ")
}
