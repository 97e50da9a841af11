// SPDX-License-Identifier: Apache-2.0
//! The command line: one file a subcommand. A contract: tests and tools rely on it.
//!
//! Every subcommand takes `--json` (one JSON object a line) and exits 0 on success, 1 when what it checked does not hold
//! or could not be done, 2 on wrong use.

mod approve;
mod baseline;
mod change;
mod config;
mod doctor;
mod drill;
mod explain;
#[cfg(test)]
mod golden;
mod hold;
mod incidents;
mod inside;
mod journal;
mod judge;
mod man;
mod picture;
mod policy;
mod replay;
pub(crate) mod show;
mod status;
mod undo;
mod up;
mod warden;

use crate::config::DEFAULT_SOCKET;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use thymus_control::{Answer, Client, ControlCommand};

/// An immune system for Linux machines.
///
/// Thymus watches a host, finds what an attack did and everything that follows from it, contains it, puts back exactly
/// what was changed, and proves that the host is healthy again. Every action is permitted by a readable policy,
/// journaled, and undoable.
#[derive(Debug, Parser)]
#[command(name = "thymus", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print one JSON object a line, for tools.
    #[arg(long, global = true)]
    json: bool,
    /// Unix socket of the agent's API.
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Incidents(incidents::Incidents),
    Explain(explain::Explain),
    Undo(undo::Undo),
    Judge(judge::Judge),
    Approve(approve::Approve),
    Deny(approve::Deny),
    Hold(hold::Hold),
    Release(hold::Release),
    Change(change::Change),
    Baseline(baseline::Baseline),
    Drill(drill::Drill),
    Replay(replay::Replay),
    Journal(journal::Journal),
    Policy(policy::Policy),
    Config(config::Config),
    #[command(hide = true)]
    Inside(inside::Inside),
    #[command(hide = true)]
    Warden(warden::Warden),
    #[command(hide = true)]
    Man(man::Man),
}

/// What every subcommand has at hand.
#[derive(Debug)]
struct Desk {
    json: bool,
    socket: PathBuf,
    /// `--socket` was written, not defaulted.
    socket_given: bool,
}

impl Desk {
    fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Prints `value` as one line of JSON, or `text` for people.
    fn tell<T: serde::Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        if self.json { print(&(serde_json::to_string(value)? + "\n")) } else { print(&text(value)) }
    }

    /// Gives a command and prints its answer.
    fn give(&self, command: &ControlCommand) -> anyhow::Result<ExitCode> {
        self.answer(&self.client().command(command)?)
    }

    fn answer(&self, answer: &Answer) -> anyhow::Result<ExitCode> {
        let text = |answer: &Answer| answer.lines.iter().map(|line| format!("{}\n", show::plain(line))).collect();
        self.tell(answer, text)?;
        Ok(exit(answer.done))
    }
}

/// 0 when what was asked holds, else 1.
fn exit(holds: bool) -> ExitCode {
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes to standard output. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let socket_given = cli.socket.as_os_str() != DEFAULT_SOCKET;
    let desk = Desk { json: cli.json, socket: cli.socket.clone(), socket_given };
    match &cli.command {
        Command::Up(up) => up.run(&desk),
        Command::Status(status) => status.run(&desk),
        Command::Doctor(doctor) => doctor.run(&desk),
        Command::Incidents(incidents) => incidents.run(&desk),
        Command::Explain(explain) => explain.run(&desk),
        Command::Undo(undo) => undo.run(&desk),
        Command::Judge(judge) => judge.run(&desk),
        Command::Approve(approve) => approve.run(&desk),
        Command::Deny(deny) => deny.run(&desk),
        Command::Hold(hold) => hold.run(&desk),
        Command::Release(release) => release.run(&desk),
        Command::Change(change) => change.run(&desk),
        Command::Baseline(baseline) => baseline.run(&desk),
        Command::Drill(drill) => drill.run(&desk),
        Command::Replay(replay) => replay.run(&desk),
        Command::Journal(journal) => journal.run(&desk),
        Command::Policy(policy) => policy.run(&desk),
        Command::Config(config) => config.run(&desk),
        Command::Inside(inside) => Ok(inside.run()),
        Command::Warden(warden) => warden.run(),
        Command::Man(man) => man.run(),
    }
}

/// Says on standard error what went wrong, with its page when it has one.
pub(crate) fn complain(error: &anyhow::Error) -> ExitCode {
    warn(&complaint(error)); // nobody may be reading; the exit status says it too
    ExitCode::FAILURE
}

/// Says on standard error what a person should know; the work goes on.
fn warn(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

fn complaint(error: &anyhow::Error) -> String {
    use thymus_control::client::Error;
    let code = error.downcast_ref::<Error>().map(|error| match error {
        Error::NoAgent { .. } => "E0101",
        Error::NotRoot { .. } => "E0102",
        Error::Silent { .. } => "E0103",
        Error::Refused(_) => "E0104",
        Error::Foreign { .. } | Error::Broken { .. } => "E0105",
    });
    let code = code.map_or(String::new(), |code| format!(" {code}"));
    let causes: Vec<String> = error.chain().map(|cause| show::plain(&cause.to_string())).collect();
    format!("thymus: error{code}: {}\n", causes.join(": "))
}
