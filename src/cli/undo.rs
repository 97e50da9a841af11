// SPDX-License-Identifier: Apache-2.0

use super::Desk;
use clap::Args;
use std::process::ExitCode;
use thymus_control::UndoTarget;
use thymus_engine::{ActionId, IncidentId};

/// Revert one action, or all actions of an incident, latest first.
///
/// What Thymus changed is put back as it was before, bit for bit. A process that was ended stays ended; `explain` shows
/// what cannot be undone. An incident that was undone is not healed again by itself.
#[derive(Debug, Args)]
pub(super) struct Undo {
    /// An incident by its number (`3`), or one action with an `a` before its number (`a12`).
    #[arg(value_name = "INCIDENT|ACTION", value_parser = target)]
    target: UndoTarget,
}

fn target(text: &str) -> Result<UndoTarget, String> {
    let expected = "expected an incident such as `3`, or an action such as `a12`";
    match text.strip_prefix('a') {
        Some(action) => action.parse().map(|id| UndoTarget::Action(ActionId(id))).map_err(|_| expected.into()),
        None => text.parse().map(|id| UndoTarget::Incident(IncidentId(id))).map_err(|_| expected.into()),
    }
}

/// An action: `a12` or `12`.
pub(super) fn action(text: &str) -> Result<ActionId, String> {
    let number = text.strip_prefix('a').unwrap_or(text);
    number.parse().map(ActionId).map_err(|_| "expected an action such as `a12`".into())
}

impl Undo {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        desk.answer(&desk.client().undo(self.target)?)
    }
}
