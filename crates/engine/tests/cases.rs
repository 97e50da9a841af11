// SPDX-License-Identifier: Apache-2.0
//! Golden cases: inputs in, `NAME.out` expected. `UPDATE=1` rewrites; review the diff.
//!
//! A line of input is `{"now": NANOSECONDS, "input": INPUT}`.
//!
//! `cases/NAME.jsonl` is composed: short, and of one idea. Effects are answered by perfect hands: what is prepared is as
//! expected, what is committed succeeds, what is verified holds, and what a stopped process is said to have done later
//! does not happen. So a case tells the whole story of an incident.
//!
//! `cases/recorded/NAME.jsonl.zst` is what the agent of a drill took in, in a twin, from its first input to its last
//! (`make cases`). The answers of its hands are among them, so nothing is answered here; when the engine decides something
//! else than it did then, the answers no longer fit: record again. Every effect counts for the fingerprint.
#![allow(clippy::disallowed_methods, reason = "the harness reads and writes golden files; the engine does not")]
#![allow(clippy::unwrap_used, reason = "tests")]

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use thymus_engine::action::Action;
use thymus_engine::engine::Engine;
use thymus_engine::event::{Activity, Endpoint, Event, ProcessActivityId};
use thymus_engine::guard::Policies;
use thymus_engine::hearsay::{Hearsay, Login, Request, Said};
use thymus_engine::input::{Effect, Input};
use thymus_engine::{EventId, ProcessKey, Timestamp};

#[derive(Deserialize)]
struct Line {
    now: Timestamp,
    input: Input,
}

/// LIMIT: answers given to one input; more would be a loop.
const ANSWERS_MAX: usize = 10_000;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases")
}

fn replay(text: &str) -> String {
    let (mut engine, mut out) = (Engine::new(), String::new());
    let (mut last, mut stopped, mut prevented) = (Timestamp(0), BTreeSet::new(), 0);
    for (number, line) in text.lines().enumerate() {
        let Line { now, mut input } =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("line {}: {error}", number + 1));
        if let Input::Configured(configuration) = &mut input
            && configuration.policies.is_empty()
        {
            configuration.policies = Policies::defaults();
        }
        last = now;
        if actor(&input).is_some_and(|actor| stopped.contains(&actor)) {
            prevented += 1;
            stopped.extend(child(&input));
            continue;
        }
        let mut pending = std::collections::VecDeque::from([input]);
        for answers in 0.. {
            let Some(input) = pending.pop_front() else { break };
            assert!(answers < ANSWERS_MAX, "line {}: the engine asks without end", number + 1);
            let mut effects = Vec::new();
            let work = engine.step(now, input, &mut effects);
            for effect in effects {
                writeln!(out, "{:>8} ms  {}", now.0 / 1_000_000, told(&effect)).unwrap();
                stopped.extend(stops(&effect));
                pending.extend(thymus_engine::fuzz::answer(effect));
            }
            if work.pending && pending.is_empty() {
                pending.push_back(Input::Tick);
            }
        }
    }
    writeln!(out, "{:>8} ms  end; {prevented} recorded events of stopped processes did not happen", last.0 / 1_000_000)
        .unwrap();
    tell_incidents(&engine, &mut out);
    out
}

/// Characters shown of one line; the fingerprint has all of it.
const WIDTH: usize = 160;

fn retell(text: &str) -> String {
    let (mut engine, mut out, mut effects) = (Engine::new(), String::new(), Vec::new());
    let (mut first, mut inputs, mut fingerprint) = (None, 0, 0xcbf2_9ce4_8422_2325_u64);
    // Said before, in these words.
    let mut again: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines() {
        let Line { now, input } = serde_json::from_str(line).unwrap();
        inputs += 1;
        engine.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            // FNV-1a, 64 bits.
            for byte in serde_json::to_vec(&(now, &effect)).unwrap() {
                fingerprint = (fingerprint ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            let told: String = told(&effect).chars().take(WIDTH).collect();
            let key = match &effect {
                Effect::Renew { .. } => continue,
                Effect::Drop { verdict, .. } => format!("drop {}", verdict.reasons.join("; ")),
                _ => told.clone(),
            };
            if let Some(count) = again.get_mut(&key) {
                *count += 1;
                continue;
            }
            again.insert(key, 0);
            let since = now.since_ns(*first.get_or_insert(now)) / 1_000_000;
            writeln!(out, "{since:>8} ms  {told}").unwrap();
        }
    }
    for (words, count) in again.iter().filter(|(_, count)| **count > 0) {
        writeln!(out, "{count:>8} more  {words}").unwrap();
    }
    let view = engine.view();
    writeln!(out, "inputs {inputs}, fingerprint of all effects {fingerprint:016x}").unwrap();
    for name in ["events", "events_lost", "findings", "answers_unknown", "step_work_max"] {
        writeln!(out, "  {name} {}", view.counters[name]).unwrap();
    }
    tell_incidents(&engine, &mut out);
    out
}

fn tell_incidents(engine: &Engine, out: &mut String) {
    for incident in engine.view().incidents {
        writeln!(out, "incident {}: {:?}, {}", incident.id, incident.stage, incident.why).unwrap();
        for root in incident.roots {
            writeln!(out, "  root     {}", root.title).unwrap();
        }
        for subject in incident.subjects {
            let program = subject.program.map_or_else(|| "?".to_owned(), |path| path.to_string());
            writeln!(out, "  subject  {} {program}: {}", subject.process.pid, subject.reason).unwrap();
        }
        for object in incident.objects {
            writeln!(out, "  object   {} {:?}: {}", object.path, object.class, object.reason).unwrap();
        }
    }
}

/// Whose doing the input is.
fn actor(input: &Input) -> Option<ProcessKey> {
    let Input::Event(event) = input else { return None };
    match &event.activity {
        Activity::File(file) => Some(file.actor),
        // That a process ends is no doing of its own.
        Activity::Process(process) if process.activity != ProcessActivityId::Terminate => Some(process.actor),
        _ => None,
    }
}

/// The process that would have been born.
fn child(input: &Input) -> Option<ProcessKey> {
    let Input::Event(event) = input else { return None };
    match &event.activity {
        Activity::Process(process) => Some(process.process.key),
        _ => None,
    }
}

/// Whom the effect stops.
fn stops(effect: &Effect) -> Vec<ProcessKey> {
    match effect {
        Effect::Reflex { processes, .. } => processes.clone(),
        Effect::Prepare {
            what:
                Action::SuspendProcesses { processes }
                | Action::TerminateProcesses { processes }
                | Action::EndSession { processes, .. },
            ..
        } => processes.clone(),
        _ => Vec::new(),
    }
}

fn told(effect: &Effect) -> String {
    match effect {
        Effect::Reflex { action, processes, .. } => format!("reflex   {action} suspend {}", pids(processes)),
        Effect::Prepare { action, what, .. } => format!("prepare  {action} {}", named(what)),
        Effect::Commit { action, verdict } => format!("commit   {action} {}", verdict.reasons.join("; ")),
        Effect::Drop { action, verdict } => format!("drop     {action} {}", verdict.reasons.join("; ")),
        Effect::Ask { action, what, verdict, .. } => {
            format!("ask      {action} {}: {}", named(what), verdict.reasons.join("; "))
        }
        Effect::Aside { path, versions, .. } => {
            let sides: Vec<String> = versions.iter().map(|(side, version)| format!("{side:?} {version}")).collect();
            format!("aside    {path}: {}", sides.join(", "))
        }
        Effect::Renew { action } => format!("renew    {action}"),
        Effect::Verify { incident, what } => format!("verify   incident {incident}: {} paths", what.paths.len()),
        Effect::Finding(finding) => {
            format!("finding  {:?} {} {}: {}", finding.confidence, finding.technique, finding.analytic, finding.title)
        }
        Effect::Incident(incident) => {
            format!("incident {} {:?}: {}", incident.incident, incident.stage, incident.message)
        }
        Effect::Storm { open, why } => format!("storm    {}: {why}", if *open { "opens" } else { "ends" }),
    }
}

fn named(action: &Action) -> String {
    let target = match action {
        Action::SuspendProcesses { processes } | Action::TerminateProcesses { processes } => pids(processes),
        Action::EndSession { leader, processes } => format!("of {}: {}", leader.pid, pids(processes)),
        Action::FilterTraffic { address, extent, .. } => format!("{address} {extent:?}"),
        Action::LockAccount { uid, .. } => format!("of uid {uid}"),
        Action::IsolateHost { control, .. } => format!("but for {} networks", control.len()),
        Action::RestoreFile(restore) => {
            let later: Vec<String> = restore
                .later
                .iter()
                .map(|later| format!("{}{}", if later.attack { "-" } else { "+" }, later.version))
                .collect();
            format!("{} to {} {}", restore.path, restore.base, later.join(" "))
        }
        Action::RestoreFiles { files } => {
            let first = files.first().map(|file| file.path.to_string()).unwrap_or_default();
            format!("{} files from {first}", files.len())
        }
        Action::QuarantineFile { path, expected } => format!("{path} at {expected}"),
        Action::RemoveUnit { unit } | Action::ReloadService { unit } | Action::RestartService { unit } => unit.clone(),
        Action::FreeSpace { paths } => paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Action::LoadFirewall { path } | Action::RenewCertificate { path } => path.to_string(),
        Action::UndoAction { of, .. } => format!("{of}"),
        Action::RestorePackaged { .. } => action.paths().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    format!("{} {target}", action.name())
}

fn pids(processes: &[ProcessKey]) -> String {
    processes.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(",")
}

fn check(name: &str, input: &str, told: fn(&str) -> String) {
    let (found, path) = (told(input), directory().join(format!("{name}.out")));
    assert_eq!(found, told(input), "{name}: two replays differ");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let mut lines = (1..).zip(found.lines().map(Some).chain([None]).zip(expected.lines().map(Some).chain([None])));
    if let Some((number, (found, expected))) = lines.find(|(_, (found, expected))| found != expected) {
        panic!(
            "{}:{number}\n   found {found:?}\nexpected {expected:?}\nUPDATE=1 rewrites; review the diff",
            path.display()
        );
    }
}

/// Names of the files of a folder of cases that end so, in order; at least one.
fn names(folder: &Path, end: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = files.filter_map(|name| Some(name.to_str()?.strip_suffix(end)?.to_owned())).collect();
    names.sort();
    assert!(!names.is_empty(), "no case in {}", folder.display());
    names
}

#[test]
fn every_case_is_told_as_composed() {
    for name in names(&directory(), ".jsonl") {
        let input = std::fs::read_to_string(directory().join(format!("{name}.jsonl"))).unwrap();
        check(&name, &input, replay);
    }
}

#[test]
fn every_recording_is_decided_as_it_was() {
    let folder = directory().join("recorded");
    for name in names(&folder, ".jsonl.zst") {
        let file = std::fs::File::open(folder.join(format!("{name}.jsonl.zst"))).unwrap();
        let input = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
        // Only what was in the twin: no place of the machine that the twin stood on.
        for word in ["thymus-drill-", "/target/", "/sys/fs/cgroup"] {
            assert!(!input.contains(word), "{name} names `{word}`");
        }
        check(&format!("recorded/{name}"), &input, retell);
    }
}

/// What an intruder may write into a log of whom he likes: that they were let in, what they asked for, and who they are.
fn lies(about: &Endpoint, now: Timestamp) -> Vec<Input> {
    let text = |text: &str| Some(text.to_owned());
    let login = |success| {
        let (user, fingerprint) = (text("root"), text("SHA256:x"));
        Said::Authentication(Login { success, user, method: text("publickey"), key_type: None, fingerprint })
    };
    let (http_method, path) = (text("POST"), text("/uploads/x.cgi?c=rm%20-rf%20/etc"));
    let said = [
        login(true),
        login(false),
        Said::Http(Request { http_method, path, status: Some(200), ..Request::default() }),
        Said::Other { message: format!("attack from {} by pid 1, /etc/shadow was written", about.ip) },
    ];
    let line = |(said, port): (Said, u16)| {
        let line = Hearsay {
            parser: "sshd".to_owned(),
            source: "/var/log/auth.log".into(),
            original_time: None,
            src_endpoint: Some(Endpoint { ip: about.ip, port }),
            said,
            raw_data: String::new(),
        };
        Input::Event(Event { id: EventId(u64::MAX), time: now, activity: Activity::Hearsay(Box::new(line)) })
    };
    said.into_iter().flat_map(|said| [(said.clone(), about.port), (said, 0)]).map(line).collect()
}

/// Whose address a log may be made to name: everybody whom the recording knows, and somebody whom it does not.
fn peer(input: &Input) -> Option<Endpoint> {
    let Input::Event(event) = input else { return None };
    match &event.activity {
        Activity::Network(network) => network.remote.clone(),
        Activity::Authentication(login) => login.src_endpoint.clone(),
        Activity::Process(process) => process.process.src_endpoint.clone(),
        _ => None,
    }
}

#[test]
fn whatever_logs_say_every_recording_is_decided_as_it_was() {
    let folder = directory().join("recorded");
    let stranger = Endpoint { ip: [203, 0, 113, 9].into(), port: 4_711 };
    let (mut heard, mut acted) = (0, 0);
    for name in names(&folder, ".jsonl.zst") {
        let file = std::fs::File::open(folder.join(format!("{name}.jsonl.zst"))).unwrap();
        let input = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
        let (mut quiet, mut told) = (Engine::new(), Engine::new());
        for (number, line) in input.lines().enumerate() {
            let Line { now, input } = serde_json::from_str(line).unwrap();
            let about = peer(&input).or_else(|| (number % 64 == 0).then(|| stranger.clone()));
            let lies = about.map_or_else(Vec::new, |about| lies(&about, now));
            let (mut wanted, mut found) = (Vec::new(), Vec::new());
            let before: Vec<Input> = lies.iter().filter(|_| number % 2 == 0).cloned().collect();
            for lie in before {
                told.step(now, lie, &mut found);
            }
            let work = quiet.step(now, input.clone(), &mut wanted);
            let same = told.step(now, input, &mut found);
            for lie in lies {
                assert_eq!(told.step(now, lie, &mut found).pending, same.pending);
            }
            acted += wanted.iter().filter(|effect| matches!(effect, Effect::Prepare { .. })).count();
            assert_eq!((found, same), (wanted, work), "{name}, input {number}");
        }
        let (quiet, mut told) = (quiet.view(), told.view());
        for incident in &mut told.incidents {
            heard += std::mem::take(&mut incident.hearsay).len();
        }
        assert_eq!(told.incidents, quiet.incidents, "{name}");
    }
    assert!(heard > 0 && acted > 0, "{heard} lines beside incidents, {acted} actions: this proves nothing");
}
