// SPDX-License-Identifier: Apache-2.0

use super::{decided, load};
use crate::cli::replay::Player;
use crate::cli::{Desk, explain, journal, show};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thymus_engine::guard::{self, Judged, Policies};
use thymus_engine::incident::Verdict;
use thymus_engine::{ActionId, IncidentId};

/// LIMIT: actions that are listed one by one; all are counted.
const LISTED_MAX: usize = 64;

/// Decide again what a journal says was decided; exits with 1 at the first decision that differs.
///
/// With --policies, each recorded decision is also put to other policies, with the facts that it was made from: those that
/// would have been different are listed. What would have followed from another decision is not guessed.
#[derive(Debug, Args)]
pub(in crate::cli) struct Replay {
    /// State directory that recorded the decisions [default: the configuration's, else /var/lib/thymus].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Other policies: a directory with `*.cedar` files, or a built-in set, `standard` or `ot`.
    #[arg(long, value_name = "DIR|SET")]
    policies: Option<PathBuf>,
}

/// One action of which other policies say something else; of several judgements, the last that they see otherwise.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::cli) struct Otherwise {
    action: ActionId,
    incident: IncidentId,
    what: String,
    then: Verdict,
    under_these: Verdict,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(in crate::cli) struct Replayed {
    inputs: u64,
    /// Decisions of the record that were made again the same.
    decisions: u64,
    /// Recorded effects that could not be compared: inputs before them were lost.
    not_compared: u64,
    difference: Option<String>,
    /// Judgements that were put to the other policies; `None` without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    judgements: Option<u64>,
    /// How many actions they see otherwise; the first of them are listed.
    different: usize,
    otherwise: Vec<Otherwise>,
}

impl Replay {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let directory = journal::directory(self.state.as_deref())?;
        let other = self.policies.as_deref().map(|source| load(desk, Some(source))).transpose()?;
        let replayed = replay(desk, &directory, other.as_ref())?;
        desk.tell(&replayed, text)?;
        Ok(crate::cli::exit(replayed.difference.is_none()))
    }
}

fn replay(desk: &Desk, directory: &Path, other: Option<&Policies>) -> anyhow::Result<Replayed> {
    let (mut judgements, mut different) = (0, BTreeMap::new());
    let mut player = Player::new(desk);
    player.check = true;
    if let Some(other) = other {
        player.watch = Some(Box::new(|engine| {
            for judged in engine.judged() {
                judgements += 1;
                let verdict = guard::judge(&judged.request(), other);
                if verdict.decision != judged.verdict.decision {
                    let listed = different.len() < LISTED_MAX || different.contains_key(&judged.id);
                    different.insert(judged.id, listed.then(|| otherwise(judged, verdict)));
                }
            }
        }));
    }
    player.play(directory).with_context(|| format!("cannot replay `{}`", directory.display()))?;
    let (inputs, decisions, not_compared) = (player.inputs, player.decisions, player.not_compared);
    let difference = player.difference.take();
    drop(player);
    let counted = different.len();
    Ok(Replayed {
        inputs,
        decisions,
        not_compared,
        difference,
        judgements: other.is_some().then_some(judgements),
        different: counted,
        otherwise: different.into_values().flatten().collect(),
    })
}

fn otherwise(judged: &Judged, under_these: Verdict) -> Otherwise {
    let what = explain::what(&judged.action);
    Otherwise { action: judged.id, incident: judged.incident, what, then: judged.verdict.clone(), under_these }
}

pub(in crate::cli) fn text(replayed: &Replayed) -> String {
    let count = |number: u64, one: &str| show::count(usize::try_from(number).unwrap_or(usize::MAX), one);
    let same = match &replayed.difference {
        None => format!("{}, all made again the same", count(replayed.decisions, "decision")),
        Some(difference) => format!("DIFFERS {}", show::plain(difference)),
    };
    let blind = match replayed.not_compared {
        0 => String::new(),
        number => format!("; {number} not compared, inputs before them were lost"),
    };
    let mut text = format!("{}: {same}{blind}\n", count(replayed.inputs, "input"));
    let Some(judgements) = replayed.judgements else { return text };
    text += &match replayed.different {
        0 => format!("Under these policies, each of {} would be the same.\n", count(judgements, "judgement")),
        number => format!(
            "Under these policies, {} would be decided otherwise, of {}:\n",
            show::count(number, "action"),
            count(judgements, "judgement")
        ),
    };
    for found in &replayed.otherwise {
        let (then, now) = (decided(found.then.decision), decided(found.under_these.decision));
        let what = show::short(&found.what, 60);
        text +=
            &format!("  a{} of incident {}, {what}: {then} then, {now} under these\n", found.action, found.incident);
        text += &show::wrap(&show::plain(&found.under_these.reasons.join("; ")), 6, 100);
    }
    if replayed.different > replayed.otherwise.len() {
        text += &format!("  and {} more\n", replayed.different - replayed.otherwise.len());
    }
    text
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cli::replay::tests::{desk, intrusion, place, record};
    use thymus_engine::incident::Decision;
    use thymus_engine::{Effect, Input, Timestamp};
    use thymus_host::journal::Journal;

    /// A recorded intrusion, decided again, and put to another set.
    pub(in crate::cli) fn pages() -> Vec<String> {
        let place = place();
        let (journal, _) = Journal::open(place.path()).unwrap();
        record(&intrusion(), &journal);
        let sets = [None, Some("standard"), Some("ot")];
        let load = |set: &str| Policies::load(&Policies::built_in(set).unwrap()).unwrap();
        let other = |set: Option<&str>| set.map(load);
        sets.map(|set| text(&replay(&desk(), place.path(), other(set).as_ref()).unwrap())).into()
    }

    #[test]
    fn recorded_decisions_are_made_again_and_those_that_other_policies_see_otherwise_are_listed() {
        let place = place();
        let (journal, _) = Journal::open(place.path()).unwrap();
        record(&intrusion(), &journal);
        let same = replay(&desk(), place.path(), None).unwrap();
        assert!(same.decisions > 0 && same.difference.is_none() && same.judgements.is_none(), "{same:?}");
        let ot = Policies::load(&Policies::built_in("ot").unwrap()).unwrap();
        let other = replay(&desk(), place.path(), Some(&ot)).unwrap();
        assert_eq!((other.decisions, &other.difference), (same.decisions, &None), "what was in force decides");
        let stop = other.otherwise.iter().find(|found| found.what.starts_with("stop ")).unwrap();
        assert_eq!((stop.then.decision, stop.under_these.decision), (Decision::Permit, Decision::Ask));
        assert_eq!(other.different, other.otherwise.len());
        let standard = Policies::load(&Policies::defaults()).unwrap();
        assert_eq!(replay(&desk(), place.path(), Some(&standard)).unwrap().different, 0);
    }

    #[test]
    fn the_first_decision_that_differs_is_told() {
        // Forged: another reason; missing: the last decision of the record.
        let decisions = |place: &Path, forge: &dyn Fn(usize, Effect) -> Option<Effect>| {
            let (journal, _) = Journal::open(place).unwrap();
            let mut engine = thymus_engine::engine::Engine::new();
            let (mut effects, mut number) = (Vec::new(), 0);
            for (now, input) in intrusion() {
                journal.append_input(now, &input).unwrap();
                engine.step(now, input, &mut effects);
                for effect in effects.drain(..) {
                    let decides = matches!(effect, Effect::Reflex { .. } | Effect::Ask { .. } | Effect::Drop { .. });
                    number += usize::from(decides);
                    let recorded = matches!(effect, Effect::Finding(_) | Effect::Incident(_)).then_some(effect.clone());
                    if let Some(effect) = if decides { forge(number, effect) } else { recorded } {
                        journal.append_effect(now, &effect).unwrap();
                    }
                }
            }
            journal.append_input(Timestamp(9_000_000_000), &Input::Tick).unwrap();
            journal.flush().unwrap();
            replay(&desk(), place, None).unwrap().difference
        };
        assert_eq!(decisions(place().path(), &|_, effect| Some(effect)), None);
        let more = |_: usize, effect: Effect| match effect {
            Effect::Reflex { action, incident, .. } => Some(Effect::Reflex { action, incident, processes: Vec::new() }),
            other => Some(other),
        };
        assert!(decisions(place().path(), &more).unwrap().contains("recorded"));
        let told = decisions(place().path(), &|number, effect| (number != 1).then_some(effect)).unwrap();
        assert!(told.contains("decided here"), "{told}");
    }
}
