// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use thymus_control::ControlCommand;
use thymus_engine::Timestamp;
use thymus_engine::input::Command;

/// Announce that people change the host now, so that their work is not taken for an attack.
#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Open a change window.
    Begin {
        /// How long at most: a number with s, m, h or d; at most 30 days.
        #[arg(long = "for", value_name = "SPAN", default_value = "2h", value_parser = show::parse_span)]
        span_ns: u64,
        /// Who changes the host.
        /// Who changes the host [default: who called sudo, else root].
        #[arg(long, value_name = "NAME")]
        who: Option<String>,
        /// Why, for those who come after you.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Close the change window.
    End,
}

impl Change {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let command = match &self.what {
            What::Begin { span_ns, who, why } => {
                let until = Timestamp(show::boot_clock().0.saturating_add(*span_ns));
                let who = who.clone().or_else(|| std::env::var("SUDO_USER").ok()).unwrap_or_else(|| "root".into());
                Command::ChangeBegin { until, who, why: why.clone() }
            }
            What::End => Command::ChangeEnd,
        };
        desk.give(&ControlCommand::Engine(command))
    }
}
