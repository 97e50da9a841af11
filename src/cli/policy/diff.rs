// SPDX-License-Identifier: Apache-2.0

use super::{decided, load};
use crate::cli::{Desk, show};
use anyhow::Context;
use clap::Args;
use std::path::Path;
use std::process::ExitCode;
use thymus_engine::guard::{Comparison, Difference, Policies, Relation, compare};
use thymus_engine::incident::Verdict;

/// The word for the policies that Thymus brings along.
const BUILT_IN: &str = "built-in";

/// Say whether one set of policies permits more than another, with an example; exits with 1 when it does.
///
/// Both sets are asked every question that can be: each action in each mode with each combination of facts, one path, unit
/// and address of each kind that the policies tell apart, and numbers of targets around those that they name.
#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// Directory with `*.cedar` files, or `built-in`.
    #[arg(value_name = "OLD")]
    old: String,
    /// Directory with `*.cedar` files, or `built-in`.
    #[arg(value_name = "NEW")]
    new: String,
}

impl Diff {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let (old, new) = (set(desk, &self.old)?, set(desk, &self.new)?);
        let comparison = compare(&old, &new);
        let relation = comparison.relation();
        let told = serde_json::json!({ "relation": relation, "comparison": comparison });
        desk.tell(&told, |_| text(&comparison))?;
        let looser = matches!(relation, Relation::Looser | Relation::Both);
        Ok(if looser { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

fn set(desk: &Desk, name: &str) -> anyhow::Result<Policies> {
    if name == BUILT_IN {
        let built_in = Policies::load(&Policies::defaults());
        return built_in.map_err(|errors| anyhow::anyhow!("the built-in policies cannot be used: {errors:?}"));
    }
    load(desk, Some(Path::new(name))).with_context(|| format!("`{name}`: expected a directory, or `{BUILT_IN}`"))
}

pub(in crate::cli) fn text(comparison: &Comparison) -> String {
    let word = match comparison.relation() {
        Relation::Same => "the same",
        Relation::Tighter => "tighter",
        Relation::Looser => "looser",
        Relation::Both => "looser and tighter",
    };
    let Comparison { asked, looser, tighter, .. } = comparison;
    let mut text =
        format!("{word}: of {asked} questions, {looser} are answered more loosely and {tighter} more tightly\n");
    text += &example("looser", comparison.looser_example.as_ref());
    text += &example("tighter", comparison.tighter_example.as_ref());
    for cut in &comparison.cut {
        text += &format!("  not asked: {cut}\n");
    }
    text
}

fn example(direction: &str, difference: Option<&Difference>) -> String {
    let Some(Difference { question, old, new }) = difference else { return String::new() };
    let said =
        |verdict: &Verdict| format!("{}: {}", decided(verdict.decision), show::plain(&verdict.reasons.join("; ")));
    let question = show::plain(&question.to_string());
    format!("  {direction}: {question}\n    before  {}\n    now     {}\n", said(old), said(new))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_looser_set_is_said_to_be_with_an_example_and_what_was_said_before() {
        let built_in = Policies::load(&Policies::defaults()).unwrap();
        assert!(text(&compare(&built_in, &built_in)).starts_with("the same: of "));
        let mut texts = Policies::defaults();
        let more = "@id(\"more\") permit (principal in Mode::\"guarded\", action == Action::\"end_session\", resource)
            when { context.confirmed && context.targets <= 3 };";
        texts.push(("more.cedar".to_owned(), more.to_owned()));
        let looser = text(&compare(&built_in, &Policies::load(&texts).unwrap()));
        assert!(looser.starts_with("looser: of "), "{looser}");
        assert!(
            looser.contains("\n  looser: `end_session` of 1, mode guarded, confirmed\n    before  asked: policy"),
            "{looser}"
        );
        assert!(looser.contains("\n    now     permitted: policy `more` permits it\n"), "{looser}");
        assert!(!looser.contains("tighter:") && !looser.contains("not asked"), "{looser}");
    }
}
