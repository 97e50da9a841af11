// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;
use thymus_drill::atomic::technique::Which;
use thymus_drill::summary::{self, Summary};
use thymus_drill::{AgentChoice, Options, Ordeal, Report, RespondAfter};

/// Attack a disposable twin of a host and report what is left of the attack, and of everybody else's work.
///
/// Needs root and what `make setup` installs. Nothing of a drill reaches this machine: a twin has namespaces of its own
/// and no route out, which is proven each time before the attack begins.
#[derive(Debug, Args)]
pub(super) struct Drill {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Name every drill.
    List,
    /// Make the base that all twins are copies of, if it is not there. Takes a minute or two.
    Base,
    /// Run drills; exits with 1 when a report does not hold.
    Run(Run),
    /// Run the Linux tests of technique files of Atomic Red Team, as they are published, in twins without a network; exits
    /// with 1 when a report does not hold.
    ///
    /// Each runs once with nobody watching (what it changes is the truth), once with an agent and people at work, and, where
    /// it was found, once by the administrator, which must raise nothing. What a twin cannot run is named with the reason.
    Atomic(Atomic),
    /// Sum up reports that were printed with `--json`: what was detected, restored exactly, lost or wrongly touched.
    Report(Summarise),
}

#[derive(Debug, Args)]
struct Summarise {
    /// Files with a report a line.
    #[arg(value_name = "REPORTS", required = true)]
    files: Vec<std::path::PathBuf>,
    /// Reports of an earlier run: what is otherwise since is told.
    #[arg(long, value_name = "REPORTS")]
    against: Option<std::path::PathBuf>,
    /// Write a page for a browser, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<std::path::PathBuf>,
}

#[derive(Debug, Args)]
struct Atomic {
    /// Technique files, such as T1053.003.yaml.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<std::path::PathBuf>,
    /// One test of them: its GUID, or its number in the file.
    #[arg(long, value_name = "GUID|N", required_unless_present = "all")]
    test: Option<String>,
    /// Every test for Linux.
    #[arg(long, conflicts_with = "test")]
    all: bool,
    /// What the other people's order and times are drawn from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// `none` shows what the tests do by themselves.
    #[arg(long, value_name = "WHERE", default_value = "outside")]
    agent: Beside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Beside {
    /// On this machine, guarding the twin as a host guards its containers: commands of others never share its namespaces.
    Outside,
    /// Nowhere.
    None,
}

#[derive(Debug, Args)]
struct Run {
    /// Drills, or `all`.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// What the first run's order, names, times and steps are drawn from; each further run takes the next number.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many runs.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// When the agent may act.
    #[arg(long, value_name = "WHEN", default_value = "detection")]
    respond_after: When,
    /// What happens in the middle of the heal, or right after it; the agent then acts at the attack's end.
    #[arg(long, value_name = "WHAT")]
    ordeal: Option<Trial>,
    /// Undo everything when it is healed, and compare with the attacked disk; the agent then acts at the attack's end.
    #[arg(long)]
    undo: bool,
    /// Where the agent stands.
    #[arg(long, value_name = "WHERE", default_value = "alternating")]
    agent: Where,
    /// How long benign work goes on, in drills without an attack: a number with s, m, h or d.
    #[arg(long, value_name = "SPAN", value_parser = show::parse_span)]
    soak: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    /// As soon as it is sure.
    Detection,
    /// When the attack is over, so that all damage is done first.
    AttackEnd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Trial {
    /// The agent is killed before one step after the other, and started again each time.
    KillAgent,
    /// The agent is killed five times at random moments, and started again each time.
    KillOften,
    /// The twin loses its power once, with all that its disk had not yet, and boots again.
    CutPower,
    /// When it is healed, the administrator saves a file as he had opened it before, with the attack's lines in it.
    StaleEditor,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Where {
    /// On this machine, guarding the twin as a host guards its containers.
    Outside,
    /// In the twin, as the host itself.
    Inside,
    /// Outside for even seeds, inside for odd ones.
    Alternating,
    /// Nowhere: shows what the attack does.
    None,
}

impl Drill {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::List => {
                for (name, about) in thymus_drill::run::list() {
                    let row = serde_json::json!({ "name": name, "about": about });
                    desk.tell(&row, |_| format!("{name:<12} {about}\n"))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            What::Base => {
                let image = thymus_drill::base::make(&thymus_drill::base::cache())?;
                desk.tell(&serde_json::json!({ "image": image }), |_| format!("{image}\n"))?;
                Ok(ExitCode::SUCCESS)
            }
            What::Run(run) => run.run(desk),
            What::Atomic(atomic) => atomic.run(desk),
            What::Report(report) => report.run(desk),
        }
    }
}

impl Summarise {
    fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let mut lines = Vec::new();
        for path in &self.files {
            lines.append(&mut summary::read(path)?);
        }
        let summary = Summary::of(&lines);
        let earlier = self.against.as_deref().map(summary::read).transpose()?;
        let changes = earlier.map(|earlier| Summary::against(&lines, &earlier)).unwrap_or_default();
        if let Some(path) = &self.html {
            let page = thymus_drill::page::page(&summary, &changes);
            std::fs::write(path, page).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        let told = serde_json::json!({ "summary": summary, "changes": changes });
        desk.tell(&told, |_| {
            let rows = changes.iter().map(|(what, was, now)| format!("\n  {what}: {was} -> {now}")).collect::<String>();
            let changed = if rows.is_empty() { String::new() } else { format!("\n\notherwise than before{rows}") };
            format!("{summary}{changed}\n")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Atomic {
    fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        thymus_drill::interrupt::listen();
        let which = match self.test.as_deref() {
            None => Which::All,
            Some(test) => test.parse().map_or_else(|_| Which::Guid(test.to_owned()), Which::Number),
        };
        let options = thymus_drill::atomic::Options {
            files: self.files.clone(),
            which,
            seed: self.seed,
            agent: self.agent == Beside::Outside,
            thymus: std::env::current_exe()?,
            cache: thymus_drill::base::cache(),
        };
        tell_all(desk, |narrate, done| thymus_drill::atomic::run(&options, narrate, done))
    }
}

/// Narrates a run and prints its reports; fails when one does not hold.
fn tell_all(
    desk: &Desk,
    run: impl FnOnce(thymus_drill::run::Tell<'_>, &mut dyn FnMut(&Report)) -> thymus_drill::Result<()>,
) -> anyhow::Result<ExitCode> {
    let narrate = |line: &str| {
        if !desk.json {
            super::warn(&format!("{}\n", show::plain(line)));
        }
    };
    let (mut runs, mut hold) = (0, 0);
    let mut told = Ok(());
    run(&narrate, &mut |report| {
        runs += 1;
        hold += usize::from(report.holds());
        if told.is_ok() {
            told = desk.tell(report, |report| format!("{report}\n"));
        }
    })?;
    told?;
    if !desk.json && runs > 1 {
        super::print(&format!("{hold} of {runs} runs hold\n"))?;
    }
    Ok(super::exit(hold == runs))
}

impl Run {
    fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        thymus_drill::interrupt::listen();
        let options = Options {
            scenarios: thymus_drill::run::named(&self.names)?,
            seed: self.seed,
            runs: self.runs,
            agent: match self.agent {
                Where::Outside => AgentChoice::Outside,
                Where::Inside => AgentChoice::Inside,
                Where::Alternating => AgentChoice::Alternating,
                Where::None => AgentChoice::None,
            },
            respond_after: match self.respond_after {
                When::Detection if self.ordeal.is_none() && !self.undo => RespondAfter::Detection,
                When::Detection | When::AttackEnd => RespondAfter::AttackEnd,
            },
            ordeal: self.ordeal.map(|trial| match trial {
                Trial::KillAgent => Ordeal::KillAgent,
                Trial::KillOften => Ordeal::KillOften,
                Trial::CutPower => Ordeal::CutPower,
                Trial::StaleEditor => Ordeal::StaleEditor,
            }),
            undo: self.undo,
            soak: self.soak.map(Duration::from_nanos),
            thymus: std::env::current_exe()?,
            cache: thymus_drill::base::cache(),
        };
        tell_all(desk, |narrate, done| thymus_drill::run(&options, narrate, done))
    }
}
