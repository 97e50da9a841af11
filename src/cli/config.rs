// SPDX-License-Identifier: Apache-2.0

use super::Desk;
use crate::config::{self, Problem};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check the configuration, or print every setting that is in effect.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Config {
    /// Print every setting, also those that the file leaves at their defaults.
    #[arg(long)]
    effective: bool,
    /// Configuration [default: /etc/thymus/thymus.toml when it is there].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Read the configuration, the policies and the declared state; exits with 1 when one cannot be used.
    Check,
}

impl Config {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let config = match config::load(self.config.as_deref()) {
            Ok(config) => config,
            Err(problem) => return problems(desk, &[problem]),
        };
        if self.effective {
            let text = toml::to_string_pretty(&config)?;
            desk.tell(&config, |_| text)?;
        }
        match &self.what {
            Some(What::Check) => {
                let mut found = config::load_policies(config.policies.get()).err().unwrap_or_default();
                let wanted = config.baseline.wanted.as_ref().map(|path| crate::wanted::check(path.get()));
                found.extend(wanted.and_then(Result::err));
                if !found.is_empty() {
                    return problems(desk, &found);
                }
                desk.tell(&serde_json::json!({ "good": true }), |_| "Configuration and policies are good.\n".into())?;
            }
            None => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what is wrong and says so in the exit status.
pub(super) fn problems(desk: &Desk, problems: &[Problem]) -> anyhow::Result<ExitCode> {
    for problem in problems {
        desk.tell(problem, |problem| format!("{problem}\n"))?;
    }
    Ok(ExitCode::FAILURE)
}
