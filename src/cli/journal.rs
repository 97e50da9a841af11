// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use crate::config;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use thymus_host::journal::{self, Report};

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
    Export,
}

/// Where the journal is in a state directory.
pub(super) const DIRECTORY: &str = "journal";

impl Journal {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let configured = || config::load(None).unwrap_or_default().state.get().clone();
        let directory = self.state.clone().unwrap_or_else(configured).join(DIRECTORY);
        if !directory.is_dir() {
            anyhow::bail!(
                "there is no journal in `{}`; name the agent's state directory with --state",
                directory.display()
            );
        }
        match &self.what {
            What::Verify => {
                let report = journal::verify(&directory)?;
                desk.tell(&report, text)?;
                Ok(super::exit(report.problems.is_empty()))
            }
            What::Export => {
                let report = journal::export(&directory, &mut std::io::BufWriter::new(std::io::stdout().lock()))?;
                if !report.problems.is_empty() {
                    super::warn(&text(&report));
                }
                Ok(super::exit(report.problems.is_empty()))
            }
        }
    }
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
