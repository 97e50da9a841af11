// SPDX-License-Identifier: Apache-2.0

use super::{decided, load};
use crate::cli::replay::Player;
use crate::cli::{Desk, explain, journal, show};
use anyhow::Context;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thymus_engine::ActionId;
use thymus_engine::guard::{self, Policies};
use thymus_engine::incident::Verdict;

/// LIMIT: judgements that are shown; the rest is counted.
const SHOWN_MAX: usize = 50;

/// Make all recorded decisions again: exits with 1 when one differs from what was recorded.
///
/// Without `--policies` everything is decided again with the policies that were in force, and must be the same, bit for bit.
/// With them, each judgement is made once more under these policies alone, and those that would differ are listed.
#[derive(Debug, Args)]
pub(in crate::cli) struct Replay {
    /// Directory with `*.cedar` files to judge by instead.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// State directory of the agent [default: the configuration's, else /var/lib/thymus].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// A judgement that other policies would have made otherwise.
#[derive(Debug, serde::Serialize)]
struct Other {
    action: ActionId,
    what: String,
    then: Verdict,
    instead: Verdict,
}

impl Replay {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let directory = journal::directory(self.state.as_deref())?;
        match &self.policies {
            Some(policies) => under(desk, &directory, &load(desk, Some(policies))?),
            None => same(desk, &directory),
        }
    }
}

fn same(desk: &Desk, directory: &Path) -> anyhow::Result<ExitCode> {
    let mut player = Player::new(desk);
    player.check = true;
    player.play(directory).with_context(|| format!("cannot replay `{}`", directory.display()))?;
    let Player { inputs, decisions, not_compared, difference, .. } = player;
    let told = serde_json::json!({
        "same": difference.is_none(), "inputs": inputs, "decisions": decisions, "not_compared": not_compared,
        "difference": difference,
    });
    let result = match &difference {
        None => format!("all {decisions} decisions are made again as they were, from {inputs} inputs\n"),
        Some(difference) => format!("differs: {}\n", show::plain(difference)),
    };
    let rest = match not_compared {
        0 => String::new(),
        count => format!("  not compared: {count}, for inputs before them are missing\n"),
    };
    desk.tell(&told, |_| result + &rest)?;
    Ok(if difference.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn under(desk: &Desk, directory: &Path, policies: &Policies) -> anyhow::Result<ExitCode> {
    let (judged, others) = judge_again(desk, directory, policies)?;
    let told = serde_json::json!({
        "judged": judged, "others": others.len(), "shown": others.iter().take(SHOWN_MAX).collect::<Vec<_>>(),
    });
    desk.tell(&told, |_| text(judged, &others))?;
    Ok(if others.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// How many judgements there are, and those that these policies would have made otherwise.
fn judge_again(desk: &Desk, directory: &Path, policies: &Policies) -> anyhow::Result<(u64, Vec<Other>)> {
    let (mut count, mut others) = (0, Vec::new());
    let mut player = Player::new(desk);
    player.watch = Some(Box::new(|engine| {
        for judged in engine.judged() {
            count += 1;
            let instead = guard::judge(&judged.request(), policies);
            if instead.decision != judged.verdict.decision {
                let (action, what) = (judged.id, explain::what(&judged.action));
                others.push(Other { action, what, then: judged.verdict.clone(), instead });
            }
        }
    }));
    player.play(directory).with_context(|| format!("cannot replay `{}`", directory.display()))?;
    drop(player);
    Ok((count, others))
}

fn text(judged: u64, others: &[Other]) -> String {
    let mut text = format!("of {judged} judgements, {} would be others\n", others.len());
    for Other { action, what, then, instead } in others.iter().take(SHOWN_MAX) {
        let (what, why) = (show::plain(what), show::plain(&instead.reasons.join("; ")));
        let (then, now) = (decided(then.decision), decided(instead.decision));
        text += &format!("  a{action}  {what}: {then} then, {now} instead: {why}\n");
    }
    if others.len() > SHOWN_MAX {
        text += &format!("  and {} more\n", others.len() - SHOWN_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cli::replay::tests::{desk, intrusion, place, record};
    use thymus_host::journal::Journal;

    #[test]
    fn every_decision_is_made_again_and_those_that_other_policies_would_change_are_listed() {
        let place = place();
        let (journal, _) = Journal::open(place.path()).unwrap();
        record(&intrusion(), &journal);
        assert_eq!(same(&desk(), place.path()).unwrap(), ExitCode::SUCCESS);
        let built_in = Policies::load(&Policies::defaults()).unwrap();
        let (judged, others) = judge_again(&desk(), place.path(), &built_in).unwrap();
        assert!(judged >= 1 && others.is_empty(), "{judged} {others:?}");
        let (again, others) = judge_again(&desk(), place.path(), &Policies::load(&[]).unwrap()).unwrap();
        assert_eq!((again, others.is_empty()), (judged, false));
        let text = text(judged, &others);
        assert!(text.contains("permitted then, denied instead: no policy permits it"), "{text}");
    }
}
