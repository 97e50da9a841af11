// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use crate::config;
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thymus_engine::event::{Activity, Event};
use thymus_engine::{Input, ProcessKey, Timestamp};
use thymus_host::journal::{self, Record, Report};

/// Prove that nothing in the journal was altered or removed, or print it.
#[derive(Debug, Args)]
pub(super) struct Journal {
    #[command(subcommand)]
    what: What,
    /// State directory of the agent [default: the configuration's, else /var/lib/thymus].
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Follow the whole hash chain; exits with 1 and names the place where it breaks.
    Verify,
    /// Print every record as one JSON object a line.
    Export {
        /// Only what went into the engine, as `thymus replay` and the cases of the tests read it. The agent's own command
        /// line is left out: it names places of this machine alone.
        #[arg(long)]
        inputs: bool,
    },
}

/// Where the journal is in a state directory.
pub(super) const DIRECTORY: &str = "journal";

/// The journal of this state directory, else of the configuration's.
pub(super) fn directory(state: Option<&Path>) -> anyhow::Result<PathBuf> {
    let configured = || config::load(None).unwrap_or_default().state.get().clone();
    let directory = state.map_or_else(configured, Path::to_owned).join(DIRECTORY);
    if !directory.is_dir() {
        anyhow::bail!(
            "there is no journal in `{}`; name the agent's state directory with --state",
            directory.display()
        );
    }
    Ok(directory)
}

impl Journal {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let directory = directory(self.state.as_deref())?;
        match &self.what {
            What::Verify => {
                let report = journal::verify(&directory)?;
                desk.tell(&report, text)?;
                Ok(super::exit(report.problems.is_empty()))
            }
            What::Export { inputs } => {
                let out = &mut std::io::BufWriter::new(std::io::stdout().lock());
                let report = if *inputs { export_inputs(&directory, out)? } else { journal::export(&directory, out)? };
                if !report.problems.is_empty() {
                    super::warn(&text(&report));
                }
                Ok(super::exit(report.problems.is_empty()))
            }
        }
    }
}

/// The inputs as one JSON object a line, from the first one on.
fn export_inputs(directory: &Path, out: &mut dyn Write) -> anyhow::Result<Report> {
    let (mut own, mut failed) = (Vec::new(), None);
    let report = journal::records(directory, &mut |now, record| {
        let line = match record {
            Record::Input(input) => line(now, input, &mut own).and_then(|line| Ok(writeln!(out, "{line}")?)),
            Record::Checkpoint(_) | Record::Lost { .. } => Err(anyhow::anyhow!(
                "inputs are missing at {} ns: the older part of this journal is gone, or a full disk lost some",
                now.0
            )),
            Record::Run(_)
            | Record::Effect(_)
            | Record::Intent(_)
            | Record::Settled { .. }
            | Record::Undone { .. }
            | Record::IncidentUndone { .. }
            | Record::Carried(_) => Ok(()),
        };
        if let (None, Err(error)) = (&failed, line) {
            failed = Some(error);
        }
        Ok(())
    })?;
    out.flush()?;
    failed.map_or(Ok(report), Err)
}

/// `own`: the agent's processes, as the last configuration names them.
fn line(now: Timestamp, mut input: Input, own: &mut Vec<ProcessKey>) -> anyhow::Result<String> {
    match &mut input {
        Input::Configured(configuration) => own.clone_from(&configuration.never_touch),
        Input::Event(Event { activity: Activity::Process(told), .. }) if own.contains(&told.process.key) => {
            told.process.cmd_line = vec!["thymus".to_owned()];
            if let Some(file) = &mut told.process.file {
                file.path = "/usr/sbin/thymus".into();
            }
        }
        _ => {}
    }
    Ok(serde_json::json!({ "now": now, "input": input }).to_string())
}

fn text(report: &Report) -> String {
    let (frames, segments) = (clamp(report.frames), clamp(report.segments));
    let size = show::bytes(report.bytes);
    let mut text = format!("{}, {}, {size}: ", show::count(frames, "record"), show::count(segments, "segment"));
    text += if report.problems.is_empty() { "the chain is whole.\n" } else { "THE CHAIN IS BROKEN.\n" };
    for problem in &report.problems {
        text += &show::wrap(&show::plain(&problem.to_string()), 2, 100);
    }
    if let Some(torn) = &report.torn {
        let torn = show::plain(&torn.to_string());
        text += &show::wrap(&format!("The last record is torn, as a crash leaves it: {torn}"), 2, 100);
    }
    text
}

fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use thymus_engine::event::{Process, ProcessActivity, ProcessActivityId};
    use thymus_engine::{BootId, EventId};

    #[test]
    fn of_the_agents_own_processes_an_export_of_inputs_names_no_place() {
        let key = |pid| ProcessKey { boot: BootId(1), pid, start_time: Timestamp(5) };
        let exported = |pid: u32| {
            let file = Some(thymus_engine::event::File { path: "/srv/build/thymus".into(), key: Default::default() });
            let cmd_line = vec!["/srv/build/thymus".to_owned(), "up".to_owned()];
            let process = Process { key: key(pid), file, cmd_line, ..Process::default() };
            let activity = ProcessActivityId::Inventory;
            let told = ProcessActivity { activity, actor: key(1), process, exit_code: None };
            let event = Event { id: EventId(1), time: Timestamp(9), activity: Activity::Process(told) };
            line(Timestamp(9), Input::Event(event), &mut vec![key(7)]).unwrap()
        };
        assert!(!exported(7).contains("/srv/build"), "{}", exported(7));
        assert!(exported(8).contains("/srv/build"));
    }
}
