// SPDX-License-Identifier: Apache-2.0
//! Golden cases: `cases/NAME.jsonl` in, `cases/NAME.out` expected. `UPDATE=1` rewrites; review the diff.
//!
//! A line of input is `{"now": NANOSECONDS, "input": INPUT}`. Effects are answered by perfect hands: what is prepared is
//! as expected, what is committed succeeds, what is verified holds, and what a stopped process is recorded to have done
//! later does not happen. So a case tells the whole story of an incident.
#![allow(clippy::disallowed_methods, reason = "the harness reads and writes golden files; the engine does not")]
#![allow(clippy::unwrap_used, reason = "tests")]

use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use thymus_engine::action::{Action, Expected, Facts, Merge, Outcome};
use thymus_engine::engine::Engine;
use thymus_engine::event::{Activity, ProcessActivityId};
use thymus_engine::guard::Policies;
use thymus_engine::input::{Check, Effect, Input};
use thymus_engine::{ProcessKey, Timestamp};

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
                pending.extend(answer(effect));
            }
            if work.pending && pending.is_empty() {
                pending.push_back(Input::Tick);
            }
        }
    }
    writeln!(out, "{:>8} ms  end; {prevented} recorded events of stopped processes did not happen", last.0 / 1_000_000)
        .unwrap();
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
    out
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

/// Perfect hands.
fn answer(effect: Effect) -> Option<Input> {
    match effect {
        Effect::Prepare { action, what, .. } => {
            let again = matches!(&what, Action::RestoreFile(restore) if restore.again);
            let facts = Facts {
                as_expected: if again { Expected::AlreadyDone } else { Expected::Yes },
                undo_ready: true,
                merge: Merge::Exact,
                never_touch: false,
                evidence_saved: true,
                targets: what.target_count(),
            };
            Some(Input::Prepared { action, facts })
        }
        Effect::Commit { action, .. } | Effect::Reflex { action, .. } => {
            Some(Input::Outcome { action, outcome: Outcome::Success })
        }
        Effect::Verify { incident, .. } => {
            let check = Check { name: "content".to_owned(), holds: true, detail: "as wanted".to_owned() };
            Some(Input::Proven { incident, checks: vec![check] })
        }
        Effect::Drop { .. } | Effect::Ask { .. } | Effect::Renew { .. } | Effect::Finding(_) | Effect::Incident(_) => {
            None
        }
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
        Effect::Renew { action } => format!("renew    {action}"),
        Effect::Verify { incident, what } => format!("verify   incident {incident}: {} paths", what.paths.len()),
        Effect::Finding(finding) => {
            format!("finding  {:?} {} {}: {}", finding.confidence, finding.technique, finding.analytic, finding.title)
        }
        Effect::Incident(incident) => {
            format!("incident {} {:?}: {}", incident.incident, incident.stage, incident.message)
        }
    }
}

fn named(action: &Action) -> String {
    let target = match action {
        Action::SuspendProcesses { processes } | Action::TerminateProcesses { processes } => pids(processes),
        Action::EndSession { leader, processes } => format!("of {}: {}", leader.pid, pids(processes)),
        Action::RestoreFile(restore) => {
            let later: Vec<String> = restore
                .later
                .iter()
                .map(|later| format!("{}{}", if later.attack { "-" } else { "+" }, later.version))
                .collect();
            format!("{} to {} {}", restore.path, restore.base, later.join(" "))
        }
        Action::QuarantineFile { path, expected } => format!("{path} at {expected}"),
        Action::RemoveUnit { unit } | Action::ReloadService { unit } => unit.clone(),
    };
    format!("{} {target}", action.name())
}

fn pids(processes: &[ProcessKey]) -> String {
    processes.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(",")
}

fn check(name: &str) {
    let input = std::fs::read_to_string(directory().join(format!("{name}.jsonl"))).unwrap();
    let (found, path) = (replay(&input), directory().join(format!("{name}.out")));
    assert_eq!(found, replay(&input), "{name}: two replays differ");
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

#[test]
fn every_case_is_told_as_recorded() {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".jsonl").map(ToOwned::to_owned))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no case in {}", directory().display());
    names.iter().for_each(|name| check(name));
}
