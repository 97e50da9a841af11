// SPDX-License-Identifier: Apache-2.0

use super::Desk;
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use thymus_control::ControlCommand;
use thymus_engine::IncidentId;
use thymus_engine::input::Command;

/// Say whether an incident was a real one.
#[derive(Debug, Args)]
pub(super) struct Judge {
    /// Number of the incident.
    #[arg(value_name = "INCIDENT")]
    incident: u64,
    /// `true`: it was an attack. `false`: a false alarm.
    verdict: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Truth {
    True,
    False,
}

impl Judge {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let (incident, true_positive) = (IncidentId(self.incident), self.verdict == Truth::True);
        desk.give(&ControlCommand::Engine(Command::Judge { incident, true_positive }))
    }
}
