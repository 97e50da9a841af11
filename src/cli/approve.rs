// SPDX-License-Identifier: Apache-2.0

use super::Desk;
use super::undo::action;
use clap::Args;
use std::process::ExitCode;
use thymus_control::ControlCommand;
use thymus_engine::ActionId;
use thymus_engine::input::Command;

/// Let an action happen that waits for you. The guard judges it again first.
#[derive(Debug, Args)]
pub(super) struct Approve {
    /// The action, such as `a12`: `thymus explain` shows those that wait.
    #[arg(value_name = "ACTION", value_parser = action)]
    action: ActionId,
}

/// Refuse an action that waits for you.
#[derive(Debug, Args)]
pub(super) struct Deny {
    /// The action, such as `a12`: `thymus explain` shows those that wait.
    #[arg(value_name = "ACTION", value_parser = action)]
    action: ActionId,
}

impl Approve {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        desk.give(&ControlCommand::Engine(Command::Approve { action: self.action }))
    }
}

impl Deny {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        desk.give(&ControlCommand::Engine(Command::Deny { action: self.action }))
    }
}
