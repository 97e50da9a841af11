// SPDX-License-Identifier: Apache-2.0

use super::{because, load};
use crate::cli::replay::Player;
use crate::cli::{Desk, explain, journal, show, undo};
use crate::config;
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thymus_engine::guard::{self, ACTIONS, Explanation, FLAGS, Judged, Names, Policies, Question};
use thymus_engine::input::Mode;
use thymus_engine::{ActionId, HostPath};

/// LIMIT: objects that a question may be about; the kernel refuses more in any case.
const TARGETS_MAX: usize = guard::TARGETS_MAX;

/// Say why an action would be permitted, asked or denied; or why a recorded one was.
///
/// Every policy that holds is named, also those that another one outranks, and what the safety kernel objects to.
#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    /// An action by its name in policies, such as `restore_file`; or a recorded one by its number, such as `a12`.
    #[arg(value_name = "ACTION")]
    action: String,
    /// Mode of the agent [default: the configuration's].
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<Mode>,
    /// The incident is confirmed.
    #[arg(long)]
    confirmed: bool,
    /// Every target belongs to the attack and to nobody else.
    #[arg(long)]
    attack_only: bool,
    /// It cures a failure that nobody attacked.
    #[arg(long)]
    failure: bool,
    /// It takes back what somebody did who may change the host.
    #[arg(long)]
    authorised_change: bool,
    /// Undo and evidence are captured.
    #[arg(long)]
    prepared: bool,
    /// Others' changes to the file are kept (implies --prepared).
    #[arg(long)]
    merged: bool,
    /// The path, of an action on one.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The unit, of an action on one.
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// The address, of a block.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// How many objects it names [default: 1].
    #[arg(long, value_name = "N")]
    targets: Option<usize>,
    /// Directory with `*.cedar` files, or a built-in set [default: the configuration's; of a recorded action, those that
    /// were in force].
    #[arg(long, value_name = "DIR|SET")]
    policies: Option<PathBuf>,
    /// State directory that recorded the action [default: the configuration's, else /var/lib/thymus].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "observe" => Ok(Mode::Observe),
        "guarded" => Ok(Mode::Guarded),
        "autonomous" => Ok(Mode::Autonomous),
        _ => Err("expected observe, guarded or autonomous".into()),
    }
}

impl Explain {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        match undo::action(&self.action) {
            Ok(id) => self.recorded(desk, id),
            Err(_) => self.imagined(desk),
        }
    }

    fn imagined(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let configured = config::load(None).unwrap_or_default().mode;
        let question = self.question(self.mode.unwrap_or(configured))?;
        let policies = load(desk, self.policies.as_deref())?;
        let explanation = question.ask(|request| guard::explain(request, &policies));
        let told = serde_json::json!({ "question": question, "explanation": explanation });
        desk.tell(&told, |_| text(&question, &explanation))?;
        Ok(ExitCode::SUCCESS)
    }

    fn question(&self, mode: Mode) -> anyhow::Result<Question> {
        let Some(mut question) = Question::about(&self.action) else {
            let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
            bail!("`{}` is no action; expected a number such as `a12`, or one of {}", self.action, names.join(", "));
        };
        let names = question.names();
        if let Some(path) = &self.path {
            ensure!(names == Names::Path, "no policy sees a path of `{}`; leave --path out", question.action);
            question.path = Some(HostPath::from_text(path).with_context(|| format!("`{path}` is no path"))?);
        }
        if let Some(unit) = &self.unit {
            ensure!(names == Names::Unit, "`{}` names no unit; leave --unit out", question.action);
            question.unit = Some(unit.clone());
        }
        if let Some(address) = self.address {
            ensure!(names == Names::Address, "`{}` names no address; leave --address out", question.action);
            question.address = Some(address);
        }
        if let Some(targets) = self.targets {
            let one = matches!(names, Names::Path | Names::Unit | Names::Address | Names::Account | Names::Host);
            ensure!(!one || targets == 1, "`{}` names one object; leave --targets out", question.action);
            ensure!(targets <= TARGETS_MAX, "expected at most {TARGETS_MAX} targets, found {targets}");
            question.targets = targets;
        }
        question.mode = mode;
        let Self { confirmed, attack_only, failure, authorised_change, prepared, merged, .. } = *self;
        question.flags = [confirmed, attack_only, failure, authorised_change, prepared || merged, merged];
        Ok(question)
    }

    fn recorded(&self, desk: &Desk, id: ActionId) -> anyhow::Result<ExitCode> {
        let asked = self.mode.is_some() || self.path.is_some() || self.unit.is_some() || self.targets.is_some();
        let asked = asked || self.address.is_some();
        let flags =
            [self.confirmed, self.attack_only, self.failure, self.authorised_change, self.prepared, self.merged];
        if asked || flags.contains(&true) {
            bail!(
                "a{id} is recorded with its facts; leave out --mode, --path, --unit, --address, --targets, --{}",
                FLAGS.join(", --")
            );
        }
        let directory = journal::directory(self.state.as_deref())?;
        let other = self.policies.as_deref().map(|source| load(desk, Some(source))).transpose()?;
        let found = judgement(desk, &directory, id, other.as_ref())?;
        let Some((times, judged, explanation)) = found else {
            bail!("nothing in `{}` was judged under the number a{id}", directory.display());
        };
        let told = serde_json::json!({
            "action": id, "incident": judged.incident, "what": judged.action, "now": judged.now, "judgements": times,
            "explanation": explanation,
        });
        desk.tell(&told, |_| recorded(times, &judged, &explanation))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// How often an action was judged, and its last judgement with what had a say in it then, or under `other` policies.
fn judgement(
    desk: &Desk,
    directory: &Path,
    id: ActionId,
    other: Option<&Policies>,
) -> anyhow::Result<Option<(u64, Judged, Explanation)>> {
    let mut found = None;
    let mut player = Player::new(desk);
    player.watch = Some(Box::new(|engine| {
        for judged in engine.judged().iter().filter(|judged| judged.id == id) {
            let Some(policies) = other.or(engine.policies()) else { continue };
            let times = found.as_ref().map_or(0, |(times, _, _)| *times) + 1;
            found = Some((times, judged.clone(), guard::explain(&judged.request(), policies)));
        }
    }));
    player.play(directory).with_context(|| format!("cannot replay `{}`", directory.display()))?;
    drop(player);
    Ok(found)
}

pub(in crate::cli) fn text(question: &Question, explanation: &Explanation) -> String {
    format!("{}\n{}", show::plain(&question.to_string()), because(explanation))
}

fn recorded(times: u64, judged: &Judged, explanation: &Explanation) -> String {
    let times = show::count(usize::try_from(times).unwrap_or(usize::MAX), "judgement");
    let (what, incident) = (show::plain(&explain::what(&judged.action)), judged.incident);
    format!("a{} of incident {incident}, {times}: {what}\n{}", judged.id, because(explanation))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cli::replay::tests::{desk, intrusion, place, record};
    use clap::Parser;
    use thymus_engine::incident::Decision;
    use thymus_host::journal::Journal;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        explain: Explain,
    }

    fn question(words: &[&str]) -> anyhow::Result<Question> {
        Line::try_parse_from([&["explain"], words].concat())?.explain.question(Mode::Guarded)
    }

    #[test]
    fn a_question_says_what_was_asked_and_nothing_that_no_policy_sees() {
        let asked = question(&["restore_file", "--path", "/etc/x", "--confirmed", "--merged"]).unwrap();
        assert_eq!(asked.to_string(), "`restore_file` of `/etc/x`, mode guarded, confirmed, prepared, merged");
        for wrong in [
            &["restore", "--confirmed"][..],
            &["restore_file", "--unit", "x.service"],
            &["restart_service", "--path", "/etc/x"],
            &["restore_file", "--targets", "2"],
            &["free_space", "--targets", "5000"],
            &["restore_file", "--path", "\\x0"],
        ] {
            assert!(question(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_recorded_action_is_explained_with_its_facts_and_under_other_policies() {
        let place = place();
        let (journal, _) = Journal::open(place.path()).unwrap();
        record(&intrusion(), &journal);
        let (times, judged, explanation) = judgement(&desk(), place.path(), ActionId(1), None).unwrap().unwrap();
        assert!(times >= 1);
        assert_eq!(judged.verdict, explanation.verdict, "it was judged so then");
        assert_eq!(explanation.verdict.decision, Decision::Permit);
        let held: Vec<&str> = explanation.policies.iter().map(|policy| policy.id.as_str()).collect();
        assert_eq!(held, ["suspend-the-attack", "ask-about-confirmed"]);
        let none = Policies::load(&[]).unwrap();
        let (_, _, denied) = judgement(&desk(), place.path(), ActionId(1), Some(&none)).unwrap().unwrap();
        assert_eq!((denied.verdict.decision, denied.policies.len()), (Decision::Deny, 0));
        assert!(judgement(&desk(), place.path(), ActionId(99), None).unwrap().is_none());
    }
}
