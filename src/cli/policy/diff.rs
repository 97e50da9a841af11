// SPDX-License-Identifier: Apache-2.0

use super::{decided, load};
use crate::cli::{Desk, show};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use thymus_engine::guard::{self, Comparison, Difference, Relation};

/// Say whether one set of policies is looser than another; exits with 1 when it is.
///
/// Both are asked everything that can be asked: every action in every mode, with every fact that is true or false, for a
/// path of each kind that the policies tell apart. Each direction is shown with an example.
#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// What is in force: a directory with `*.cedar` files, or a built-in set, `standard` or `ot`.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// What is to be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

impl Diff {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let (old, new) = (load(desk, Some(&self.old))?, load(desk, Some(&self.new))?);
        let comparison = guard::compare(&old, &new);
        let relation = comparison.relation();
        desk.tell(&serde_json::json!({ "relation": relation, "comparison": comparison }), |_| text(&comparison))?;
        Ok(crate::cli::exit(matches!(relation, Relation::Same | Relation::Tighter)))
    }
}

pub(in crate::cli) fn text(comparison: &Comparison) -> String {
    let whole = if comparison.cut.is_empty() { "" } else { ", as far as was asked" };
    let mut text = match comparison.relation() {
        Relation::Same => format!("SAME: both decide alike{whole}.\n"),
        Relation::Tighter => format!("TIGHTER: nothing is decided more loosely{whole}.\n"),
        Relation::Looser => "LOOSER: something may happen with less asking than before.\n".to_owned(),
        Relation::Both => "BOTH: something is decided more loosely, something else more tightly.\n".to_owned(),
    };
    let directions = [
        ("more loosely", comparison.looser, &comparison.looser_example),
        ("more tightly", comparison.tighter, &comparison.tighter_example),
    ];
    for (how, count, example) in directions {
        if let Some(example) = example {
            text += &format!("  {count} of {} questions are answered {how}, such as\n", comparison.asked);
            text += &difference(example);
        }
    }
    for cut in &comparison.cut {
        text += &show::wrap(&format!("Not asked: {}", show::plain(cut)), 2, 100);
    }
    text
}

fn difference(difference: &Difference) -> String {
    let (old, new) = (&difference.old, &difference.new);
    let question = show::plain(&difference.question.to_string());
    let (before, now) = (decided(old.decision), decided(new.decision));
    let why =
        |when: &str, reasons: &[String]| show::wrap(&format!("{when}: {}", show::plain(&reasons.join("; "))), 6, 100);
    show::wrap(&format!("{question}: {before} before, {now} now"), 4, 100)
        + &why("before", &old.reasons)
        + &why("now", &new.reasons)
}
