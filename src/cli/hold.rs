// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use clap::Args;
use std::process::ExitCode;
use thymus_control::ControlCommand;
use thymus_engine::Timestamp;
use thymus_engine::input::Command;

/// Keep all automation off until a time, or until `release`.
///
/// Nothing that Thymus does by itself reverts a hold. It goes on watching and says what it would do.
#[derive(Debug, Args)]
pub(super) struct Hold {
    /// How long: a number with s, m, h or d; at most 30 days.
    #[arg(long = "for", value_name = "SPAN", value_parser = show::parse_span)]
    span_ns: u64,
    /// Why, for those who come after you.
    #[arg(long, value_name = "TEXT")]
    why: String,
}

/// End a hold; where there is none, a storm.
///
/// When more attacks are confirmed at once than one host can have, Thymus takes that for its own mistake and does nothing more
/// by itself: `thymus status` says so. What came in a storm still waits after it for `thymus judge`, or an approval.
#[derive(Debug, Args)]
pub(super) struct Release {}

impl Hold {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let until = Timestamp(show::boot_clock().0.saturating_add(self.span_ns));
        desk.give(&ControlCommand::Engine(Command::Hold { until, why: self.why.clone() }))
    }
}

impl Release {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        desk.give(&ControlCommand::Engine(Command::Release))
    }
}
