// SPDX-License-Identifier: Apache-2.0

pub(super) mod diff;
pub(super) mod explain;
pub(super) mod replay;

use super::{Desk, show};
use crate::config::{self, Problem};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thymus_engine::guard::{Explanation, Policies};
use thymus_engine::incident::Decision;

/// Check and question the policies that say what Thymus may do.
#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Validate policies strictly; exits with 1 when one cannot be used.
    Check {
        /// Directory with `*.cedar` files, or a built-in set, `standard` or `ot` [default: the configuration's].
        #[arg(value_name = "DIR|SET")]
        source: Option<PathBuf>,
    },
    /// Print policies as they are read.
    Show {
        /// Directory with `*.cedar` files, or a built-in set, `standard` or `ot` [default: the configuration's].
        #[arg(value_name = "DIR|SET")]
        source: Option<PathBuf>,
    },
    Explain(explain::Explain),
    Diff(diff::Diff),
    Replay(replay::Replay),
}

impl Policy {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let (source, show) = match &self.what {
            What::Check { source } => (source, false),
            What::Show { source } => (source, true),
            What::Explain(explain) => return explain.run(desk),
            What::Diff(diff) => return diff.run(desk),
            What::Replay(replay) => return replay.run(desk),
        };
        let policies = match texts(source.as_deref())? {
            Ok(policies) => policies,
            Err(problems) => return super::config::problems(desk, &problems),
        };
        if show {
            for (name, text) in &policies {
                let told = serde_json::json!({ "name": name, "text": text });
                desk.tell(&told, |_| format!("// ---- {}\n{}\n", show::plain(name), lines(text)))?;
            }
        } else {
            let names: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
            let good = serde_json::json!({ "good": true, "policies": names });
            let text = |_: &_| format!("{}: {}\n", show::count(names.len(), "good policy file"), names.join(", "));
            desk.tell(&good, text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A text of several lines; nothing in it can move the cursor.
fn lines(text: &str) -> String {
    text.lines().map(|line| show::plain(line) + "\n").collect()
}

/// The policies of a directory or a built-in set, or the configuration's; or what is wrong with them.
fn texts(source: Option<&Path>) -> anyhow::Result<Result<config::Policies, Vec<Problem>>> {
    if let Some(source) = source.filter(|source| !source.is_dir() && config::built_in(source).is_none()) {
        let sets = Policies::SETS.join(", ");
        anyhow::bail!("`{}` is no directory; expected one with `*.cedar` files, or one of {sets}", source.display());
    }
    let configured = config::load(None).unwrap_or_default();
    Ok(config::load_policies(source.unwrap_or(configured.policies.get())))
}

/// The same, ready to judge. What is wrong with them is told, and that they cannot be used is an error.
fn load(desk: &Desk, source: Option<&Path>) -> anyhow::Result<Policies> {
    let texts = match texts(source)? {
        Ok(texts) => texts,
        Err(problems) => {
            super::config::problems(desk, &problems)?;
            anyhow::bail!("these policies cannot be used; `thymus policy check` says the same");
        }
    };
    Policies::load(&texts).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("these policies cannot be used: {}", errors.join("; "))
    })
}

/// A decision, as said of an action.
fn decided(decision: Decision) -> &'static str {
    match decision {
        Decision::Permit => "permitted",
        Decision::Ask => "asked",
        Decision::Deny => "denied",
    }
}

/// Why, in lines under a headline.
fn because(explanation: &Explanation) -> String {
    use thymus_engine::guard::Says;
    let lines = |title: &str, lines: &[String]| match lines {
        [] => String::new(),
        lines => {
            let wrapped = lines.iter().map(|line| show::wrap(&show::plain(line), 4, 100));
            format!("  {title}\n{}", wrapped.collect::<String>())
        }
    };
    let holding = explanation.policies.iter().map(|policy| {
        let says = match policy.says {
            Says::Ask => "asks",
            Says::Permit => "permits",
            Says::Forbid => "forbids",
            Says::Error => "is in error, which counts as a no",
        };
        let why = if policy.why.is_empty() { String::new() } else { format!(": {}", policy.why) };
        format!("`{}` {says}{why}", policy.id)
    });
    let none = ["none; what no policy permits is denied".to_owned()];
    let holding: Vec<String> = holding.collect();
    let kernel = ["no objection to what is known here".to_owned()];
    let or = |said: &[String], none: &[String; 1]| if said.is_empty() { none.to_vec() } else { said.to_vec() };
    format!(
        "  {}\n{}{}{}",
        decided(explanation.verdict.decision).to_uppercase(),
        lines("because", &explanation.verdict.reasons),
        lines("policies that hold", &or(&holding, &none)),
        lines("safety kernel", &or(&explanation.kernel, &kernel)),
    )
}
