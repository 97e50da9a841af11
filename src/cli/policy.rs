// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use crate::config;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check the policies that say what Thymus may do.
#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Validate policies strictly; exits with 1 when one cannot be used.
    Check {
        /// Directory with `*.cedar` files [default: the configuration's; the built-in policies when it is not there].
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

impl Policy {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let What::Check { directory } = &self.what;
        if let Some(directory) = directory.as_ref().filter(|directory| !directory.is_dir()) {
            anyhow::bail!("`{}` is not a directory; expected one with `*.cedar` files", directory.display());
        }
        let configured = config::load(None).unwrap_or_default();
        match config::load_policies(directory.as_deref().unwrap_or(configured.policies.get())) {
            Ok(policies) => {
                let names: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
                let good = serde_json::json!({ "good": true, "policies": names });
                let text = |_: &_| format!("{}: {}\n", show::count(names.len(), "good policy file"), names.join(", "));
                desk.tell(&good, text)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(problems) => super::config::problems(desk, &problems),
        }
    }
}
