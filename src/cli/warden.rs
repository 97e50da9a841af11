// SPDX-License-Identifier: Apache-2.0

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// End leases when the agent is gone. Started by the agent, not by people.
#[derive(Debug, Args)]
pub(super) struct Warden {
    /// The lease table.
    table: PathBuf,
    /// Process id of the agent.
    agent: u32,
}

impl Warden {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        thymus_host::warden::run(&self.table, self.agent)?;
        Ok(ExitCode::SUCCESS)
    }
}
