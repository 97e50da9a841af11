// SPDX-License-Identifier: Apache-2.0

use super::status::stage_name;
use super::{Desk, picture, show};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use thymus_control::view::Told;
use thymus_engine::action::{Action, Extent, Outcome};
use thymus_engine::event::Confidence;
use thymus_engine::graph::Contact;
use thymus_engine::guard;
use thymus_engine::hearsay::{Join, Login, Request, Said, Testimony};
use thymus_engine::incident::{ActionRecord, Decision, ObjectClass, Peer, Picture, Secret};
use thymus_engine::{HostPath, Incident, IncidentId, ProcessKey, Timestamp};
use thymus_host::aside;

/// Tell one incident: what gave it away, its root, its reach, each action with its reasons.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Number of the incident.
    #[arg(value_name = "ID")]
    id: u64,
    /// Draw it instead: at most 60 nodes, as an SVG that needs nothing else. FILE must not be there yet; - is standard
    /// output.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// List what the picture shows instead: one node a line, with what it came by.
    #[arg(long, conflicts_with = "picture")]
    graph: bool,
}

impl Explain {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let id = IncidentId(self.id);
        if !self.graph && self.picture.is_none() {
            return tell(desk, id);
        }
        let told = desk.client().incident(id)?;
        let picture = Picture::of(&told.incident);
        match &self.picture {
            Some(file) if file.as_os_str() == "-" => super::print(&picture::svg(&told, &picture))?,
            Some(file) => picture::save(file, &picture::svg(&told, &picture))?,
            None => desk.tell(&picture, |picture| picture::lines(&told, picture))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn tell(desk: &Desk, id: IncidentId) -> anyhow::Result<ExitCode> {
    let told = desk.client().incident(id)?;
    desk.tell(&told, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Lines of one kind that are shown before the rest is only counted.
const LINES_MAX: usize = 200;

/// The story, in the order in which a person asks.
pub(super) fn text(told: &Told) -> String {
    let incident = &told.incident;
    let mut text = headline(told);
    text += &section("Root", &roots(incident));
    text += &section("What logs say about it (whoever can write to them may say anything)", &hearsay(incident));
    text += &section("What gave it away", &findings(incident));
    text += &section("Its processes", &subjects(incident));
    text += &section("What it touched", &objects(incident));
    text += &section("Whom it talked to", &contacts(incident));
    text += &section("Secrets that were read", &secrets(incident));
    text += &section("What waits for you", &waiting(told));
    text += &section("What Thymus did", &actions(incident));
    text += &section("What is worse since", &worse(incident));
    text += &section("What cannot be undone, or needs you", &remains(incident));
    if incident.omitted > 0 {
        text += &format!("\n{} more of the above were left out, counted.\n", incident.omitted);
    }
    if incident.actions.iter().any(|record| matches!(record.outcome, Some(Outcome::Success))) {
        text += &format!("\nTo put all of it back as it was: thymus undo {}\n", incident.id);
    }
    text
}

/// An incident's questions alone, with what gave it away; nothing where there are none.
pub(super) fn questions(told: &Told) -> String {
    let lines = waiting(told);
    if lines.is_empty() {
        return String::new();
    }
    headline(told) + &section("What gave it away", &findings(&told.incident)) + &section("What waits for you", &lines)
}

/// Each question: what would be done, why that is the attack's, how it is taken back, until when.
fn waiting(told: &Told) -> Vec<String> {
    let incident = &told.incident;
    let line = |record: &ActionRecord| {
        let by = record.answer_by?;
        let mut line = format!("  a{:<4} {}\n", record.id.0, show::short(&what(&record.action), 90));
        for path in record.action.paths().take(4) {
            let object = incident.objects.iter().find(|object| object.path == *path);
            let why = object.map_or("", |object| object.reason.as_str());
            line += &show::wrap(&show::plain(&format!("evidence: {path}: {why}")), 8, 100);
        }
        let undo = match (&record.action, record.action.reversible()) {
            (Action::SuspendProcesses { .. }, _) => "it goes on by itself when nobody wants it stopped".to_owned(),
            (Action::FilterTraffic { lease_ns, .. }, _) => format!("it ends by itself after {}", show::span(*lease_ns)),
            (Action::UndoAction { of, .. }, _) => format!("`thymus undo a{}` does what a{of} did once more", record.id),
            (_, true) => format!("`thymus undo a{}` puts it back as it was", record.id),
            (_, false) => "none; what it was is kept as evidence".to_owned(),
        };
        line += &show::wrap(&format!("undo: {undo}"), 8, 100);
        for reason in record.verdict.reasons.iter().take(8) {
            line += &show::wrap(&format!("asked because {}", show::plain(reason)), 8, 100);
        }
        if !record.approved_by.is_empty() {
            let who: Vec<String> = record.approved_by.iter().map(|uid| format!("uid {uid}")).collect();
            line += &show::wrap(&format!("approved by {}", who.join(", ")), 8, 100);
        }
        let left = show::span(by.since_ns(told.now));
        let how = if guard::is_contradiction(&record.verdict) {
            let versions = format!("versions: {}", versions(incident));
            line += &show::wrap(&versions, 8, 100);
            let before =
                "make it what it was before the attack; what others wrote since goes with it, and comes back with undo";
            line += &show::wrap(&format!("thymus approve a{} --before: {before}", record.id), 8, 100);
            format!("or change it yourself and deny a{}", record.id)
        } else {
            format!("thymus approve a{0}, or deny a{0}", record.id)
        };
        line += &format!("        {how}; in {left} it is refused\n");
        Some(line)
    };
    incident.actions.iter().filter_map(line).collect()
}

/// Where a person finds the versions of what nobody else can tell apart.
fn versions(incident: &Incident) -> String {
    format!(
        "`{}/{}` in the agent's state has those from before, of the attack and of others",
        aside::DIRECTORY,
        incident.id
    )
}

fn section(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{title}\n");
    for line in lines.iter().take(LINES_MAX) {
        text += line;
    }
    if lines.len() > LINES_MAX {
        text += &format!("  and {} more: --json shows all\n", lines.len() - LINES_MAX);
    }
    text
}

fn headline(told: &Told) -> String {
    let incident = &told.incident;
    let after = |time: Timestamp| show::span(time.since_ns(incident.opened));
    let mut text = format!("Incident {}: {}\n", incident.id, stage_name(incident.stage));
    text += &show::wrap(&show::plain(&incident.why), 2, 100);
    text += &format!("  opened     {} UTC\n", show::date(incident.opened, told.boot_to_unix_ns));
    for (name, time) in
        [("contained", incident.contained), ("restored", incident.restored), ("healed", incident.healed)]
    {
        if let Some(time) = time {
            text += &format!("  {name:<9}  {} later\n", after(time));
        }
    }
    if !incident.confirmed {
        text += "  not confirmed: one sign alone is shown, never acted upon\n";
    }
    text
}

fn roots(incident: &Incident) -> Vec<String> {
    let line = |(at, root): (usize, &thymus_engine::incident::Root)| {
        let or = if at == 0 { "  " } else { "  or " };
        let width = 96 - or.len();
        let pid =
            if root.leader == ProcessKey::default() { String::new() } else { format!("pid {}, ", root.leader.pid) };
        format!("{or}{} ({pid}score {:.2})\n", show::short(&root.title, width), root.score)
    };
    incident.roots.iter().enumerate().map(line).collect()
}

/// Beside what the kernel saw, and told apart from it.
fn hearsay(incident: &Incident) -> Vec<String> {
    let line = |Testimony { about, heard }: &Testimony| {
        let join = match heard.join {
            Join::Connection => "same address and port".to_owned(),
            Join::Address { candidates: 0 | 1 } => "same address, at that time".to_owned(),
            Join::Address { candidates } => format!("same address, one of {candidates} requests at that time"),
        };
        format!(
            "  {}\n               {}\n               {}, read by {}; {join}\n",
            show::short(about, 96),
            show::short(&said(&heard.said), 120),
            show::short(&heard.source.to_string(), 60),
            show::plain(&heard.parser),
        )
    };
    incident.hearsay.iter().map(line).collect()
}

fn said(said: &Said) -> String {
    let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
    match said {
        Said::Authentication(Login { success, user, method, key_type, fingerprint }) => {
            let let_in = if *success { "let in" } else { "refused" };
            let key: Vec<&str> = [key_type, fingerprint].into_iter().flatten().map(String::as_str).collect();
            let key = if key.is_empty() { String::new() } else { format!(" with the key {}", key.join(" ")) };
            format!("{let_in}: {} by {}{key}", or(user, "somebody"), or(method, "unknown means"))
        }
        Said::Http(Request { http_method, path, status, message, .. }) => {
            let status = status.map_or(String::new(), |status| format!("answered {status}: "));
            let message = message.as_ref().map_or(String::new(), |message| format!(": {message}"));
            format!("{status}{} {}{message}", or(http_method, "?"), or(path, "?"))
        }
        Said::Other { message } => message.clone(),
    }
}

fn findings(incident: &Incident) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in &incident.findings {
        let confidence = match finding.confidence {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        };
        let mut line = format!(
            "  {:>11}  {}\n               {}, {}confidence {confidence}\n",
            offset(incident, finding.time),
            show::short(&finding.title, 84),
            show::plain(&finding.analytic),
            // A failure has none.
            if finding.technique.is_empty() { String::new() } else { format!("{}, ", show::plain(&finding.technique)) },
        );
        for path in finding.paths.iter().take(4) {
            line += &format!("               {}\n", show::plain(&path.to_string()));
        }
        if finding.paths.len() > 4 {
            line += &format!("               and {} more\n", finding.paths.len() - 4);
        }
        lines.push(line);
    }
    lines
}

fn subjects(incident: &Incident) -> Vec<String> {
    let line = |subject: &thymus_engine::incident::Subject| {
        let program = subject.program.as_ref().map_or_else(|| "unknown program".into(), ToString::to_string);
        let command = if subject.cmd_line.is_empty() { program } else { subject.cmd_line.join(" ") };
        let alive = if subject.alive { ", still there" } else { "" };
        format!(
            "  {:>7}  {}\n           uid {}{alive}; {}\n",
            subject.process.pid,
            show::short(&command, 88),
            subject.uid,
            show::short(&subject.reason, 80)
        )
    };
    incident.subjects.iter().map(line).collect()
}

fn objects(incident: &Incident) -> Vec<String> {
    let line = |object: &thymus_engine::incident::Object| {
        let class = match object.class {
            ObjectClass::AttackOnly => "attack only",
            ObjectClass::Mixed => "mixed",
            ObjectClass::Log => "log",
            ObjectClass::Unprotected => "unprotected",
            ObjectClass::Broken => "broken",
        };
        let (path, reason) = (show::plain(&object.path.to_string()), show::short(&object.reason, 84));
        format!("  {class:<11}  {path}\n               {reason}\n")
    };
    incident.objects.iter().map(line).collect()
}

fn contacts(incident: &Incident) -> Vec<String> {
    let line = |peer: &Peer| {
        let Contact { endpoint, inbound, connections, traffic } = &peer.contact;
        let who = match inbound {
            false => format!("port {} of {}", endpoint.port, endpoint.ip),
            true => format!("{}, which came to port {}", endpoint.ip, endpoint.port),
        };
        let (sent, received) = (show::bytes(traffic.sent), show::bytes(traffic.received));
        format!("  {who}\n               connections: {connections}; sent {sent}, received {received}\n")
    };
    incident.contacts.iter().map(line).collect()
}

fn secrets(incident: &Incident) -> Vec<String> {
    let line = |secret: &Secret| {
        let (path, when) = (show::plain(&secret.path.to_string()), offset(incident, secret.time));
        format!("  {path}\n               {when}, by process {}; {}\n", secret.process.pid, rotation(&secret.path))
    };
    incident.secrets.iter().map(line).collect()
}

/// What makes a secret of this name one again.
fn rotation(path: &HostPath) -> &'static str {
    let name = path.file_name();
    match name {
        b"shadow" | b"shadow-" | b"gshadow" | b"gshadow-" => "set new passwords for all accounts that have one",
        _ if name.starts_with(b"ssh_host_") => {
            "make new host keys (ssh-keygen -A), and tell those who know the old ones"
        }
        _ if name.starts_with(b"id_") => "make a new key, and take the old one out of every authorized_keys",
        _ if name.ends_with(b".key") || name.ends_with(b".pem") => "revoke its certificates, and have new ones made",
        _ => "change the password or the token that is in it, where it is used",
    }
}

fn worse(incident: &Incident) -> Vec<String> {
    incident.worse.iter().map(|words| show::wrap(&show::plain(words), 2, 100)).collect()
}

fn actions(incident: &Incident) -> Vec<String> {
    let line = |record: &ActionRecord| {
        let mut line = format!(
            "  {:>11}  a{:<4} {}\n               {}\n",
            offset(incident, record.decided),
            record.id.0,
            show::short(&what(&record.action), 80),
            fate(record),
        );
        for reason in record.verdict.reasons.iter().take(8) {
            line += &show::wrap(&format!("because {}", show::plain(reason)), 15, 100);
        }
        line
    };
    incident.actions.iter().map(line).collect()
}

/// An action in words.
pub(super) fn what(action: &Action) -> String {
    let processes = |processes: &[ProcessKey]| match processes {
        [one] => format!("process {}", one.pid),
        many => format!("{} processes", many.len()),
    };
    match action {
        Action::SuspendProcesses { processes: of } => format!("stop {}", processes(of)),
        Action::TerminateProcesses { processes: of } => format!("end {}", processes(of)),
        Action::EndSession { leader, .. } => format!("end the login session of process {}", leader.pid),
        Action::FilterTraffic { address, extent: Extent::All, lease_ns } => {
            format!("block {address} for {}", show::span(*lease_ns))
        }
        Action::FilterTraffic { address, extent: Extent::Outbound, lease_ns } => {
            format!("block calls to {address} for {}", show::span(*lease_ns))
        }
        Action::LockAccount { uid, .. } => format!("lock the account of uid {uid} (no log-in, no cron jobs)"),
        Action::IsolateHost { control, lease_ns } => {
            let control = control.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("take this host off the network for {}, but for {control}", show::span(*lease_ns))
        }
        Action::RestoreFile(restore) if restore.append_only => format!("put back what was cut from {}", restore.path),
        Action::RestoreFile(restore) => format!("restore {}", restore.path),
        Action::RestoreFiles { files } => format!("restore {} files", files.len()),
        Action::QuarantineFile { path, .. } => format!("quarantine {path}"),
        Action::RemoveUnit { unit } => format!("stop and remove the unit {unit}"),
        Action::ReloadService { unit } => format!("reload {unit}"),
        Action::RestartService { unit } => format!("restart {unit}"),
        Action::FreeSpace { paths } => match paths.as_slice() {
            [one] => format!("delete {one} to make room"),
            many => format!("delete {} files to make room", many.len()),
        },
        Action::LoadFirewall { path } => format!("load the packet filter from {path}"),
        Action::RenewCertificate { path } => format!("renew the certificate {path}"),
        Action::RestorePackaged { files } => match files.as_slice() {
            [one] => format!("restore {} from the archive of {} {}", one.path, one.package, one.version),
            many => format!("restore {} files from archives of packages", many.len()),
        },
        Action::UndoAction { of, paths, unit } => {
            let what = match (unit, paths.as_slice()) {
                (Some(unit), _) => unit.clone(),
                (None, [one]) => one.to_string(),
                (None, many) => format!("{} files", many.len()),
            };
            format!("take back what a{of} did to {what}")
        }
    }
}

/// What was decided, and what came of it.
fn fate(record: &ActionRecord) -> String {
    let took = |settled: Option<Timestamp>| settled.map_or(0, |time| time.since_ns(record.decided));
    match (&record.outcome, record.verdict.decision) {
        (Some(Outcome::Success), _) => format!("done in {}", show::span(took(record.settled))),
        (Some(Outcome::DoesNotExist), _) => "was so already".into(),
        (Some(Outcome::Partly(not_done)), _) => {
            format!("done in {}, but for {} files", show::span(took(record.settled)), not_done.len())
        }
        (Some(Outcome::Reverted(why)), _) => format!("failed and put back as it was: {}", show::short(why, 60)),
        (Some(Outcome::Failed(why)), _) => format!("FAILED: {}", show::short(why, 76)),
        (Some(Outcome::Undone), _) => "done, and undone later".into(),
        (None, Decision::Permit) => "permitted, under way".into(),
        (None, Decision::Ask) if guard::is_contradiction(&record.verdict) => {
            "waits for you: only a person can tell".into()
        }
        (None, Decision::Ask) => format!("waits for you: thymus approve a{0}, or deny a{0}", record.id),
        (None, Decision::Deny) => "refused by the guard".into(),
    }
}

fn remains(incident: &Incident) -> Vec<String> {
    let mut lines = Vec::new();
    for record in &incident.actions {
        let name = show::short(&what(&record.action), 60);
        match (&record.outcome, record.verdict.decision) {
            (Some(Outcome::Success), _) if !record.action.reversible() => {
                lines.push(format!("  a{}: {name}: cannot be undone; what it was is kept as evidence\n", record.id));
            }
            (Some(Outcome::Failed(_)), _) => lines.push(format!("  a{}: {name}: failed; look at it\n", record.id)),
            (None, Decision::Ask) => lines.push(format!("  a{}: {name}: waits for you\n", record.id)),
            (None, Decision::Deny) => lines.push(format!("  a{}: {name}: not done, refused by the guard\n", record.id)),
            _ => {}
        }
    }
    let outside = |contact: &&Contact| contact.traffic.sent > 0 && !contact.endpoint.ip.is_loopback();
    for contact in incident.contacts.iter().map(|peer| &peer.contact).filter(outside) {
        let (sent, to) = (show::bytes(contact.traffic.sent), contact.endpoint.ip);
        lines.push(format!("  {sent} went to {to}: what has left the host cannot be taken back\n"));
    }
    let asked = |path: &HostPath| {
        let waits = |record: &&ActionRecord| record.answer_by.is_some();
        incident.actions.iter().filter(waits).any(|record| record.action.paths().any(|other| other == path))
    };
    for object in incident.objects.iter().filter(|object| !asked(&object.path)) {
        let Some(why) = &object.shown else { continue };
        let entangled =
            if object.class == ObjectClass::Mixed { format!("; {}", versions(incident)) } else { String::new() };
        lines.push(show::wrap(&show::plain(&format!("{}: {why}{entangled}", object.path)), 2, 100));
    }
    for object in incident.objects.iter().filter(|object| object.class == ObjectClass::Unprotected) {
        let path = show::plain(&object.path.to_string());
        lines.push(format!("  {path}: not in a protected tree; the vault has no version of it\n"));
    }
    lines
}

/// When, counted from the incident's opening.
fn offset(incident: &Incident, time: Timestamp) -> String {
    if time < incident.opened {
        format!("-{}", show::span(incident.opened.since_ns(time)))
    } else {
        format!("+{}", show::span(time.since_ns(incident.opened)))
    }
}
