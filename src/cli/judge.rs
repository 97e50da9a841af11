// SPDX-License-Identifier: Apache-2.0

use super::Desk;
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use thymus_control::ControlCommand;
use thymus_engine::IncidentId;
use thymus_engine::input::Command;

/// Say whether an incident was a real one. What came in a storm is acted upon only when you say so.
#[derive(Debug, Args)]
pub(super) struct Judge {
    /// Number of the incident, or the first and the last of several, such as `3-40`.
    #[arg(value_name = "INCIDENT", value_parser = incidents)]
    incidents: (u64, u64),
    /// `true`: it was an attack. `false`: a false alarm.
    verdict: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Truth {
    True,
    False,
}

/// LIMIT: incidents judged at once; the agent keeps no more.
const INCIDENTS_MAX: u64 = 1_024;

fn incidents(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let numbers = first.parse().ok().zip(last.parse().ok());
    let range = numbers.filter(|(first, last)| first <= last && last - first < INCIDENTS_MAX);
    range.ok_or_else(|| format!("expected an incident such as `3`, or at most {INCIDENTS_MAX} such as `3-40`"))
}

impl Judge {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let (first, last) = self.incidents;
        let mut done = ExitCode::SUCCESS;
        for incident in (first..=last).map(IncidentId) {
            let true_positive = self.verdict == Truth::True;
            let answer = desk.give(&ControlCommand::Engine(Command::Judge { incident, true_positive }))?;
            done = if answer == ExitCode::SUCCESS { done } else { answer };
        }
        Ok(done)
    }
}
