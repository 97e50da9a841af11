// SPDX-License-Identifier: Apache-2.0

use anyhow::Context;
use clap::{Args, CommandFactory};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the manual pages, one a subcommand.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Directory for the pages; made when it is not there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        std::fs::create_dir_all(&self.directory)
            .and_then(|()| clap_mangen::generate_to(super::Cli::command(), &self.directory))
            .with_context(|| format!("cannot write manual pages to `{}`", self.directory.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
