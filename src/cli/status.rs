// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use clap::Args;
use std::process::ExitCode;
use thymus_control::view::{self, Health, Window};
use thymus_engine::input::Mode;

/// Say how this host is, in a few lines.
///
/// Exits with 1 when an incident is not healed, an action waits for a person, the storm breaker is open, or
/// something of the agent is broken.
#[derive(Debug, Args)]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let status = desk.client().status()?;
        desk.tell(&status, text)?;
        let ill = status.incidents.keys().any(|stage| *stage != thymus_engine::Stage::Healed);
        Ok(super::exit(!ill && status.asked == 0 && status.storm.is_none() && status.health != Health::Broken))
    }
}

pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe (proposes, never acts)",
        Mode::Guarded => "guarded (acts where it can be undone and expires; asks for the rest)",
        Mode::Autonomous => "autonomous (does all that policy permits)",
    }
}

pub(super) fn text(status: &view::Status) -> String {
    let mut text = format!(
        "Thymus {} has guarded for {}\n  where      {}\n  mode       {}\n",
        status.version,
        show::span(status.now.since_ns(status.started)),
        show::plain(&status.scope),
        mode(status.mode),
    );
    let window = |name: &str, open: &Option<Window>| {
        open.as_ref().map_or(String::new(), |open| {
            let left = show::span(open.until.since_ns(status.now));
            let who = if open.who.is_empty() { String::new() } else { format!(" by {}", show::plain(&open.who)) };
            format!("  {name:<9}  for another {left}{who}: {}\n", show::plain(&open.why))
        })
    };
    text += &window("on hold", &status.hold);
    text += &window("change", &status.change);
    if let Some(storm) = &status.storm {
        let since = show::span(status.now.since_ns(storm.since));
        text += &format!(
            "  storm      for {since} nothing is done by itself: {}\n             `thymus release` ends that; `thymus judge` says what is an attack\n",
            show::plain(&storm.why)
        );
    }
    let stages: Vec<String> = status.incidents.iter().map(|(stage, n)| format!("{n} {}", stage_name(*stage))).collect();
    let quiet = match status.quiet {
        0 => String::new(),
        n => format!("; {n} of weak signs alone: `thymus incidents --all`"),
    };
    text += &format!("  incidents  {}{quiet}\n", if stages.is_empty() { "none".into() } else { stages.join(", ") });
    if status.asked > 0 {
        let n = usize::try_from(status.asked).unwrap_or(usize::MAX);
        let left = status.answer_by.map(|by| show::span(by.since_ns(status.now)));
        let left = left.map_or(String::new(), |left| format!(", the first for another {left}"));
        text += &format!("  waiting    {} for you{left}: `thymus approve`\n", show::count(n, "action"));
    }
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    text += &format!("  events     {} seen, {} lost\n", counter("events"), counter("events_lost"));
    if counter("drift") > 0 {
        let n = usize::try_from(counter("drift")).unwrap_or(usize::MAX);
        text += &format!("  drift      {} not as wanted: `thymus baseline`\n", show::count(n, "item"));
    }
    text += match status.health {
        Health::Good => "  health     good\n",
        Health::Limited => "  health     limited: `thymus doctor` says what and why\n",
        Health::Broken => "  health     broken: `thymus doctor` says what and why\n",
    };
    text
}

pub(super) fn stage_name(stage: thymus_engine::Stage) -> &'static str {
    use thymus_engine::Stage;
    match stage {
        Stage::Open => "open",
        Stage::Contained => "contained",
        Stage::Restored => "restored",
        Stage::Healed => "healed",
        Stage::Stuck => "stuck",
    }
}
