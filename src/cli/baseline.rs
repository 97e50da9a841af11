// SPDX-License-Identifier: Apache-2.0

use super::{Desk, show};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use thymus_control::{Answer, ControlCommand, view};
use thymus_engine::golden::{Accepted, Golden, Item, Kind, Report, Section, Told};
use thymus_engine::input::Command;
use thymus_engine::{HostPath, Timestamp};

/// Show what is kept of the host and how it differs from what is wanted, or make its present state the wanted one.
#[derive(Debug, Args)]
pub(super) struct Baseline {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say how much of each protected tree the vault holds, and what of the host is not as wanted (the default).
    Show,
    /// Look at the host now and say what is not as wanted, since when and by whom; exits with 1 when anything is.
    Diff,
    /// Print what is recorded.
    List {
        /// One part of it alone.
        #[arg(value_name = "SECTION", value_parser = section)]
        section: Option<Section>,
    },
    /// Make the present state wanted: of these, or of all that is not as wanted.
    ///
    /// Only what you saw is accepted: what has changed since the last look is refused. Of a path, what an incident had
    /// against it is dropped.
    Accept {
        /// Items as `thymus baseline` names them, such as `account:alice`; or absolute paths below the guarded root, as
        /// `explain` shows them (`\xNN` for odd bytes).
        #[arg(value_name = "ITEM", value_parser = wish)]
        what: Vec<Wish>,
    },
}

/// What a person may accept.
#[derive(Clone, Debug)]
enum Wish {
    Path(HostPath),
    Item(Item),
}

fn wish(text: &str) -> Result<Wish, String> {
    if text.starts_with('/') {
        return HostPath::from_text(text).map(Wish::Path).ok_or_else(|| "expected odd bytes as `\\xNN`".into());
    }
    Item::try_from(text.to_owned()).map(Wish::Item).map_err(|error| format!("{error}; or an absolute path"))
}

fn section(text: &str) -> Result<Section, String> {
    let expected = || "expected services, listeners, accounts, packages or settings".to_owned();
    Section::ALL.into_iter().find(|section| section.name() == text).ok_or_else(expected)
}

impl Baseline {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        match &self.what {
            None | Some(What::Show) => {
                let whole = |baseline: &view::Baseline| format!("{}\n{}", text(baseline), golden(&baseline.golden));
                desk.tell(&desk.client().baseline()?, whole)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(What::Diff) => {
                let looked = desk.client().command(&ControlCommand::Look)?;
                if !looked.done {
                    return desk.answer(&looked);
                }
                let report = desk.client().baseline()?.golden;
                desk.tell(&*report, drift)?;
                Ok(super::exit(report.drift.is_empty()))
            }
            Some(What::List { section }) => {
                let mut recorded = desk.client().golden()?;
                recorded.0.retain(|known, _| section.is_none_or(|section| section == *known));
                desk.tell(&recorded, list)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(What::Accept { what }) => accept(desk, what),
        }
    }
}

fn accept(desk: &Desk, what: &[Wish]) -> anyhow::Result<ExitCode> {
    let mut answer = Answer { done: true, lines: Vec::new() };
    let mut hear = |told: Answer| {
        answer.done &= told.done;
        answer.lines.extend(told.lines);
    };
    let paths: Vec<HostPath> =
        what.iter().filter_map(|wish| if let Wish::Path(path) = wish { Some(path.clone()) } else { None }).collect();
    let named: Vec<&Item> =
        what.iter().filter_map(|wish| if let Wish::Item(item) = wish { Some(item) } else { None }).collect();
    if !paths.is_empty() {
        hear(desk.client().command(&ControlCommand::Engine(Command::BaselineAccepted { paths }))?);
    }
    if what.is_empty() || !named.is_empty() {
        let report = desk.client().baseline()?.golden;
        let drifts = report.drift.iter().map(|told| &told.drift);
        let chosen = drifts.filter(|drift| named.is_empty() && !drift.declared || named.contains(&&drift.item));
        let items: Accepted = chosen.map(|drift| (drift.item.clone(), drift.found.clone())).collect();
        for item in named.iter().filter(|item| !items.contains_key(**item)) {
            hear(Answer::refused(format!("{item}: it is as wanted; `thymus baseline` names what is not")));
        }
        match items.is_empty() {
            true if named.is_empty() => hear(Answer::done("everything is as wanted")),
            true => {}
            false => hear(desk.client().command(&ControlCommand::Accept { items, named: !named.is_empty() })?),
        }
    }
    desk.answer(&answer)
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

/// What is wanted and how the host differs from it.
pub(super) fn golden(report: &Report) -> String {
    let date = |unix_ns: u64| show::date(Timestamp(unix_ns), 0);
    let Some(recorded) = report.recorded_unix_ns else {
        let problems: String = report.problems.iter().map(|problem| format!("  {}\n", lines(problem))).collect();
        return format!(
            "Golden state: nothing is recorded{}\n{problems}",
            if problems.is_empty() { " yet." } else { ":" }
        );
    };
    let mut text = format!("Golden state, recorded {}", date(recorded));
    if let Some(read) = report.read_unix_ns {
        text += &format!(", looked at {} within {}", date(read), show::span(report.read_ms.saturating_mul(1_000_000)));
    }
    let counts = report.counts.iter().map(|(section, count)| {
        let one = if *count == 1 { section.one() } else { section.name() };
        format!("{count} {one}")
    });
    text += &format!(":\n  {}\n", counts.collect::<Vec<_>>().join(", "));
    if let Some((path, count)) = &report.declared {
        let count = show::count(usize::try_from(*count).unwrap_or(usize::MAX), "item");
        text += &format!("  {count} declared in {}\n", show::plain(path));
    }
    for (section, why) in &report.unread {
        text += &format!("  {} were not read: {}\n", section.name(), show::plain(why));
    }
    for problem in &report.problems {
        text += &format!("  {}\n", lines(problem));
    }
    format!("{text}\n{}", drift(report))
}

/// A message of several lines, each made harmless, below the first.
fn lines(message: &str) -> String {
    message.lines().map(show::plain).collect::<Vec<_>>().join("\n  ")
}

pub(super) fn drift(report: &Report) -> String {
    if report.drift.is_empty() {
        return match report.recorded_unix_ns {
            Some(_) => "Everything is as wanted.\n".into(),
            None => "Nothing is recorded to compare with: `thymus doctor` says why.\n".into(),
        };
    }
    let all = report.drift.len() + usize::try_from(report.omitted).unwrap_or(0);
    let mut text = format!("{} not as wanted:\n", show::count(all, "item"));
    for told in &report.drift {
        let declared = if told.drift.declared { " (declared)" } else { "" };
        let what = match told.drift.kind {
            Kind::Added => "is there",
            Kind::Removed => "is not there",
            Kind::Changed => "is otherwise",
        };
        text += &format!("\n  {} {what}{declared}\n", show::plain(&told.drift.item.to_string()));
        text += &format!("      {}\n", show::plain(&fields(told)));
        text += &format!("      since {}, {}\n", show::date(Timestamp(told.since_unix_ns), 0), show::plain(&by(told)));
    }
    if report.omitted > 0 {
        text += &format!("\n  and {} more\n", report.omitted);
    }
    text
}

fn fields(told: &Told) -> String {
    let value = |value: &Option<String>| match value.as_deref() {
        None | Some("") => "none".to_owned(),
        Some(value) => format!("`{value}`"),
    };
    let field = |one: &thymus_engine::golden::Difference| match told.drift.kind {
        Kind::Added => format!("{} {}", one.field, value(&one.found)),
        Kind::Removed => format!("{} {}", one.field, value(&one.wanted)),
        Kind::Changed => format!("{} {}, wanted {}", one.field, value(&one.found), value(&one.wanted)),
    };
    // Of an account's new password, its digest says nothing to a person.
    let shown =
        told.drift.fields.iter().filter(|one| told.drift.kind == Kind::Changed || !one.field.ends_with("digest"));
    let fields: Vec<String> = shown.map(field).collect();
    if fields.is_empty() { "as it is declared".to_owned() } else { fields.join("; ") }
}

fn by(told: &Told) -> String {
    let Some(author) = &told.author else { return "nobody was seen doing it".into() };
    let program = author.program.as_ref().map_or("a program".to_owned(), ToString::to_string);
    let user = match (&told.user, author.uid) {
        (Some(user), _) => format!(" as {user}"),
        (None, Some(uid)) => format!(" as uid {uid}"),
        (None, None) => String::new(),
    };
    let login = told.login.as_ref().map_or(String::new(), |login| format!(" ({login})"));
    let started = if author.started_by.is_empty() { String::new() } else { format!(", {}{login}", author.started_by) };
    let verb = match (&author.path, author.others) {
        (Some(path), 0) => format!(", which wrote {path}"),
        (Some(path), 1) => format!(", or by one other: both wrote {path} between two looks"),
        (Some(path), others) => format!(", or by one of {others} others: all wrote {path} between two looks"),
        (None, _) => ", whose it is".to_owned(),
    };
    format!("by {program} ({}){user}{started}{verb}", author.process.pid)
}

/// Everything that is recorded, an item a line.
pub(super) fn list(recorded: &Golden) -> String {
    let mut text = String::new();
    for (section, items) in &recorded.0 {
        for (name, state) in items {
            let fields: Vec<String> = state.iter().map(|(field, value)| format!("{field} `{value}`")).collect();
            text += &show::plain(&format!("{}  {}", Item::new(*section, name.as_str()), fields.join("; ")));
            text.push('\n');
        }
    }
    if text.is_empty() { "Nothing is recorded.\n".into() } else { text }
}
