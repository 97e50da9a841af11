// SPDX-License-Identifier: Apache-2.0
//! The sparring partner: disposable twins of a host, attacks and benign work in them, and an oracle that says what is left.
//!
//! A drill boots twins from one base image ([`base`], [`twin`]), lets people work and an intruder attack in one of them, all of
//! them through sshd ([`session`], [`scenario`]), starts the agent beside or inside it ([`agent`]), and compares the twin's
//! disk with that of reference twins in which only the benign work was done ([`snapshot`], [`oracle`]). The result is a
//! [`report::Report`]; ground truth comes from the disk and from the attack's own record, never from the agent.
//!
//! Needs root. One harness uses the disk of twins at a time ([`base::Disk`]); whatever a killed harness left behind, the next
//! one removes before it does anything else.
#![forbid(unsafe_code)]

mod account;
pub mod agent;
mod archive;
pub mod atomic;
mod attached;
pub mod base;
mod cast;
pub mod contest;
pub mod crowd;
mod customers;
pub mod hardening;
pub mod interrupt;
mod intruder;
mod look;
pub mod oracle;
mod ordeal;
pub mod outside;
pub mod page;
mod play;
pub mod random;
mod relay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod session;
pub mod snapshot;
pub mod storm;
pub mod summary;
pub mod twin;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use ordeal::Ordeal;
pub use report::{Placement, Report, Stage};
pub use run::{AgentChoice, Options, RespondAfter, run};

/// What can go wrong around a drill. What the drill itself finds is in its [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} `{path}`")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot run `{program}`")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("`{program}` failed ({status}): {output}")]
    Failed { program: String, status: String, output: String },
    #[error("waited {limit:?} until {what}, in vain")]
    Deadline { what: String, limit: Duration },
    #[error("interrupted; everything of the drill is removed")]
    Interrupted,
    #[error("no drill is called `{name}`; `thymus drill list` names them")]
    NoSuchDrill { name: String },
    #[error(
        "the drill `{scenario}` has two hosts, and a cable between them that a host without power is cut from; choose another ordeal"
    )]
    NoSuchOrdeal { scenario: String },
    #[error("the twin is not proven safe: {what}; no attack is run")]
    NotHardened { what: String },
    #[error("the session of {user} ended: {why}")]
    SessionEnded { user: String, why: String },
    #[error("a benign step did not succeed: {step}: {why}")]
    Benign { step: String, why: String },
    #[error("technique file `{path}`: {why}")]
    Atomic { path: PathBuf, why: String },
    #[error("reports `{path}`, line {line}: {why}")]
    Reports { path: PathBuf, line: usize, why: String },
    #[error("the agent's answer to `{command}` cannot be understood: {why}")]
    Agent { command: String, why: String },
}

pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was being done, and to what, to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io { what, path: path.into(), source: source.into() })
    }
}

/// Waits until `holds`, looking every 20 ms; fails at the deadline or when the drill is interrupted.
pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + limit;
    loop {
        if holds() {
            return Ok(());
        }
        interrupt::check()?;
        if std::time::Instant::now() >= deadline {
            return Err(Error::Deadline { what: what.to_owned(), limit });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a program to its end and gives its standard output; its failure carries what it said.
pub(crate) fn output(command: &mut std::process::Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| Error::Spawn { program: program.clone(), source })?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        Ok(text)
    } else {
        let said = format!("{}{}", String::from_utf8_lossy(&done.stderr), text);
        Err(Error::Failed { program, status: done.status.to_string(), output: said.trim().to_owned() })
    }
}
