// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use clap::Args;
use std::process::ExitCode;
use thymus_control::view::{self, Health};

/// Say what the agent can and cannot see and do here, and why.
///
/// Exits with 1 when something is broken.
#[derive(Debug, Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let doctor = desk.client().doctor()?;
        if desk.json {
            for check in &doctor.checks {
                desk.tell(check, |_| String::new())?;
            }
        } else {
            super::print(&text(&doctor))?;
        }
        Ok(super::exit(doctor.checks.iter().all(|check| check.state != Health::Broken)))
    }
}

pub(super) fn text(doctor: &view::Doctor) -> String {
    let mut text = String::new();
    for check in &doctor.checks {
        let state = match check.state {
            Health::Good => "good",
            Health::Limited => "limited",
            Health::Broken => "BROKEN",
        };
        text += &format!("{state:<8} {}\n", show::plain(&check.name));
        text += &check.detail.lines().map(|line| show::wrap(&show::plain(line), 9, 100)).collect::<String>();
    }
    text
}
