// SPDX-License-Identifier: Apache-2.0

use super::Desk;
use super::undo::action;
use clap::Args;
use std::process::ExitCode;
use thymus_control::ControlCommand;
use thymus_engine::ActionId;
use thymus_engine::input::Command;

/// Let an action happen that waits for you, or list those that do. The guard judges it again first.
///
/// Where a policy asks two persons, the second has to be another user of this machine (`approvers` in the configuration).
#[derive(Debug, Args)]
pub(super) struct Approve {
    /// The action, such as `a12`; without one, all that wait are listed, with evidence, plan and undo.
    #[arg(value_name = "ACTION", value_parser = action)]
    action: Option<ActionId>,
    /// Of a file that the attack and others changed so that nobody can tell it apart: make it what it was before the attack.
    /// What others wrote since goes with it, and comes back with `thymus undo`.
    #[arg(long, requires = "action")]
    before: bool,
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
        if let Some(action) = self.action {
            let command = if self.before { Command::ApproveBefore { action } } else { Command::Approve { action } };
            return desk.give(&ControlCommand::Engine(command));
        }
        let client = desk.client();
        let waiting: Vec<_> = client.incidents()?.into_iter().filter(|incident| incident.asked > 0).collect();
        for incident in &waiting {
            desk.tell(&client.incident(incident.id)?, super::explain::questions)?;
        }
        if waiting.is_empty() && !desk.json {
            super::print("Nothing waits for you.\n")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Deny {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        desk.give(&ControlCommand::Engine(Command::Deny { action: self.action }))
    }
}
