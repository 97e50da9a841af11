// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use thymus_control::{ControlCommand, view};
use thymus_engine::HostPath;
use thymus_engine::input::Command;

/// Show what is kept of the host, or make its present state the wanted one.
#[derive(Debug, Args)]
pub(super) struct Baseline {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say how much of each protected tree the vault holds, and what it does not (the default).
    Show,
    /// Make the present state of these paths wanted: what an incident had against them is dropped.
    Accept {
        /// Absolute paths below the guarded root, as `explain` shows them (`\xNN` for odd bytes).
        #[arg(value_name = "PATH", required = true, value_parser = host_path)]
        paths: Vec<HostPath>,
    },
}

fn host_path(text: &str) -> Result<HostPath, String> {
    let path = HostPath::from_text(text).filter(|path| path.as_bytes().starts_with(b"/"));
    path.ok_or_else(|| "expected an absolute path, odd bytes as `\\xNN`".into())
}

impl Baseline {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        match &self.what {
            None | Some(What::Show) => {
                desk.tell(&desk.client().baseline()?, text)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(What::Accept { paths }) => {
                desk.give(&ControlCommand::Engine(Command::BaselineAccepted { paths: paths.clone() }))
            }
        }
    }
}

pub(super) fn text(baseline: &view::Baseline) -> String {
    let mut text = String::from("  files  covered      size  tree\n");
    for tree in &baseline.trees {
        let (size, path) = (show::bytes(tree.bytes), show::plain(&tree.path.to_string()));
        text += &format!("{:>7}  {:>7}  {size:>8}  {path}\n", tree.files, tree.covered);
    }
    let (stored, quota) = (show::bytes(baseline.stored_bytes), show::bytes(baseline.quota_bytes));
    text += &format!("\nStored: {stored} of at most {quota}.\n");
    if !baseline.uncovered.is_empty() {
        text += "\nNot covered:\n";
        for path in &baseline.uncovered {
            text += &format!("  {}: {}\n", show::plain(&path.path.to_string()), show::plain(&path.why));
        }
    }
    if baseline.uncovered_omitted > 0 {
        text += &format!("  and {} more\n", baseline.uncovered_omitted);
    }
    text
}
