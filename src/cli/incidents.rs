// SPDX-License-Identifier: Apache-2.0

use super::status::stage_name;
use super::{Desk, show};
use clap::Args;
use std::process::ExitCode;
use thymus_control::view::Summary;
use thymus_engine::IncidentId;

/// List the incidents, newest last; with ID, tell that one like `explain`.
#[derive(Debug, Args)]
pub(super) struct Incidents {
    /// Number of an incident.
    #[arg(value_name = "ID")]
    id: Option<u64>,
    /// Also those of weak signs alone, such as what an administrator or the owner of a file does; with --json all are
    /// listed anyway.
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

impl Incidents {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        if let Some(id) = self.id {
            return super::explain::tell(desk, IncidentId(id));
        }
        let incidents = desk.client().incidents()?;
        if desk.json {
            for incident in &incidents {
                desk.tell(incident, |_| String::new())?;
            }
        } else {
            super::print(&text(&incidents, self.all))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn text(incidents: &[Summary], all: bool) -> String {
    let quiet = incidents.iter().filter(|incident| incident.quiet && !all).count();
    let more = if quiet > 0 { format!("{quiet} of weak signs alone: --all lists them.\n") } else { String::new() };
    if incidents.len() == quiet {
        return format!("No incidents.\n{more}");
    }
    let mut text = String::new();
    for incident in incidents.iter().filter(|incident| all || !incident.quiet) {
        let opened = show::date(incident.opened, incident.boot_to_unix_ns);
        let (stage, title) = (stage_name(incident.stage), show::short(&incident.title, 60));
        text += &format!("{:>4}  {stage:<9}  {opened} UTC  {title}\n", incident.id.0);
        let mut rest = vec![show::count(incident.findings, "finding"), show::count(incident.objects, "object")];
        rest.push(show::count(incident.actions, "action"));
        if let Some(healed) = incident.healed {
            rest.push(format!("healed after {}", show::span(healed.since_ns(incident.opened))));
        } else if !incident.confirmed {
            rest.push("not confirmed: shown, not acted upon".into());
        } else if !incident.why.is_empty() {
            rest.push(show::short(&incident.why, 60));
        }
        text += &format!("      {}\n", rest.join(", "));
        if incident.asked > 0 {
            text += &format!(
                "      {} for you{}: `thymus explain {}`\n",
                if incident.asked == 1 { "1 action waits".into() } else { format!("{} actions wait", incident.asked) },
                incident.answer_by.map_or(String::new(), |by| {
                    format!(", the first for another {}", show::span(by.since_ns(incident.now)))
                }),
                incident.id
            );
        }
    }
    text + &more
}
