// SPDX-License-Identifier: Apache-2.0
//! The picture of an incident: as lines for a terminal and for those who listen, and as an SVG.
//!
//! Input: a [`Picture`] and the incident that it is of. Output: text in which whatever an attacker named stays harmless.

mod svg;
#[cfg(test)]
mod tests;

pub(super) use svg::svg;

use super::show;
use super::status::stage_name;
use anyhow::Context;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use thymus_control::view::Told;
use thymus_engine::incident::{Link, Node, ObjectClass, Picture, Shown, State, Tally};

/// LIMIT: characters of a command line in a line for a terminal; of paths, nothing is cut.
const COMMAND_CHARACTERS_MAX: usize = 120;

/// Writes a new file that only its owner can read; what is there already, a link too, stays as it is.
pub(super) fn save(file: &Path, text: &str) -> anyhow::Result<()> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut made = made.with_context(|| format!("cannot make the file `{}`", file.display()))?;
    made.write_all(text.as_bytes()).with_context(|| format!("cannot write the file `{}`", file.display()))
}

/// One node a line, in the order in which one reads, each with what it came by.
pub(super) fn lines(told: &Told, picture: &Picture) -> String {
    let incident = &told.incident;
    let mut text = format!("Incident {}: {}\n", incident.id, stage_name(incident.stage));
    for (at, node) in picture.nodes.iter().enumerate() {
        let words = Words::of(node);
        let came = at.checked_sub(1).and_then(|edge| picture.edges.get(edge));
        let came = came.map(|edge| format!("{} {}", link(edge.link, node), edge.from + 1));
        let facts: Vec<String> = came.into_iter().chain([words.state]).filter(|fact| !fact.is_empty()).collect();
        text += &format!("{:>4}  {:<8}  {}", at + 1, words.kind, words.name);
        text += &if words.detail.is_empty() { "\n".to_owned() } else { format!(" ({})\n", words.detail) };
        if !facts.is_empty() {
            text += &format!("{:>14}  {}\n", "", facts.join("; "));
        }
        for finding in node.findings.iter().filter_map(|at| incident.findings.get(*at)).take(FINDINGS_MAX) {
            text += &format!("{:>14}  found: {}\n", "", show::short(&finding.title, 84));
        }
        if node.findings.len() > FINDINGS_MAX {
            text += &format!("{:>14}  and {} more findings\n", "", node.findings.len() - FINDINGS_MAX);
        }
    }
    text + &not_drawn(picture).map_or_else(String::new, |left_out| format!("{left_out}\n"))
}

/// LIMIT: findings named at one node; further ones are counted.
const FINDINGS_MAX: usize = 4;

/// What has no node, counted; `None` when everything has.
fn not_drawn(picture: &Picture) -> Option<String> {
    let mut parts = Vec::new();
    if picture.left_out != Tally::default() {
        parts.push(of(&picture.left_out));
    }
    if picture.omitted > 0 {
        parts.push(format!("{} that the incident only counts", picture.omitted));
    }
    (!parts.is_empty()).then(|| format!("Not shown: {}.", parts.join(", and ")))
}

/// `2 processes, 1204 files`.
fn of(tally: &Tally) -> String {
    let counts =
        [(tally.processes, "process"), (tally.files, "file"), (tally.secrets, "secret"), (tally.peers, "remote host")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> =
        counts.map(|(count, one)| show::count(usize::try_from(count).unwrap_or(usize::MAX), one)).collect();
    words.join(", ")
}

/// A node in words that are harmless on a terminal.
#[derive(Debug)]
struct Words {
    kind: &'static str,
    /// Whole.
    name: String,
    /// What more belongs to the kind: the number of a process.
    detail: String,
    state: String,
}

impl Words {
    fn of(node: &Node) -> Self {
        let state = state(node.state);
        match &node.what {
            Shown::Root { title, others } => {
                let others = if *others > 0 { format!("or {}", show::count(*others, "other")) } else { String::new() };
                Self { kind: "root", name: show::plain(title), detail: others, state }
            }
            Shown::Process { process, program, cmd_line, uid } => {
                let program = program.as_ref().map_or_else(|| "unknown program".to_owned(), ToString::to_string);
                let command = if cmd_line.is_empty() { program } else { cmd_line.join(" ") };
                let name = show::short(&command, COMMAND_CHARACTERS_MAX);
                Self { kind: "process", name, detail: format!("pid {}, uid {uid}", process.pid), state }
            }
            Shown::File { path, class } => {
                let detail = match class {
                    ObjectClass::AttackOnly => "",
                    ObjectClass::Mixed => "of others, too",
                    ObjectClass::Log => "log",
                    ObjectClass::Unprotected => "unprotected",
                    ObjectClass::Broken => "at fault",
                };
                let state = [detail, &state].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("; ");
                Self { kind: "file", name: show::plain(&path.to_string()), detail: String::new(), state }
            }
            Shown::Secret { path } => {
                let state = "no secret any more".to_owned();
                Self { kind: "secret", name: show::plain(&path.to_string()), detail: String::new(), state }
            }
            Shown::Peer { endpoint, inbound, sent, received } => {
                let name = match inbound {
                    true => format!("{}, our port {}", endpoint.ip, endpoint.port),
                    false => format!("{}, port {}", endpoint.ip, endpoint.port),
                };
                let traffic = format!("sent {}, received {}", show::bytes(*sent), show::bytes(*received));
                let state = if state.is_empty() { traffic } else { format!("{traffic}; {state}") };
                Self { kind: "remote", name, detail: String::new(), state }
            }
            Shown::Folded { tally, below } => {
                let mut name = format!("and {} more", of(tally));
                if let Some(below) = below {
                    name += &format!(" below {}", show::plain(&below.to_string()));
                }
                let counts = [(tally.settled, "in order"), (tally.waiting, "for you")];
                let counts = counts.into_iter().filter(|(count, _)| *count > 0);
                let state: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
                Self { kind: "several", name, detail: String::new(), state: state.join(", ") }
            }
        }
    }
}

/// What became of it. `left` is said of nothing: it would be read as a reproach where there was nothing to do.
fn state(state: State) -> String {
    match state {
        State::Left | State::Several => String::new(),
        State::Alive => "still there".into(),
        State::Gone => "gone".into(),
        State::Stopped => "stopped".into(),
        State::Ended => "ended".into(),
        State::Blocked => "blocked".into(),
        State::Restored => "restored".into(),
        State::Quarantined => "quarantined".into(),
        State::AsBefore => "as before".into(),
        State::UnderWay => "under way".into(),
        State::Asked(action) => format!("asks you: a{action}"),
        State::Shown => "needs you".into(),
        State::Refused(action) => format!("refused: a{action}"),
        State::Failed(action) => format!("FAILED: a{action}"),
        State::Undone(action) => format!("undone: a{action}"),
    }
}

/// How a node came by the one before it.
fn link(link: Link, node: &Node) -> &'static str {
    match (link, &node.what) {
        (Link::Started, _) => "started by",
        (Link::Created, _) => "created by",
        (Link::Changed, _) => "changed by",
        (Link::Removed, _) => "removed by",
        (Link::Read, _) => "read by",
        (Link::Talked, Shown::Peer { inbound: true, .. }) => "came to",
        (Link::Talked, _) => "called by",
        (Link::Several, _) => "by",
    }
}
