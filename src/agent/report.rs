// SPDX-License-Identifier: Apache-2.0
//! What the agent tells its readers: the published view, losses as events, answers in words.

use super::Options;
use super::setup::House;
use std::collections::BTreeMap;
use thymus_control::view::{Baseline, Check, Doctor, Health, Tree, UNCOVERED_MAX, Uncovered};
use thymus_control::{Answer, View};
use thymus_engine::action::Outcome;
use thymus_engine::engine::{self, Engine};
use thymus_engine::event::Loss;
use thymus_engine::incident::{ActionRecord, Decision};
use thymus_engine::input::Command;
use thymus_engine::{ActionId, Timestamp};
use thymus_host::scope::Scope;
use thymus_host::sense::{self, HookState, Sensors};
use thymus_host::vault::{Counters, Coverage, Vault};

/// Everything that a view is made from.
pub(super) struct Sources<'a> {
    pub(super) options: &'a Options,
    pub(super) house: &'a House,
    pub(super) engine: &'a Engine,
    pub(super) sensors: &'a Sensors,
    pub(super) vault: &'a Vault,
    /// As of a while ago: it is long, and changes slowly.
    pub(super) coverage: &'a Coverage,
    /// Why no pre-images are taken; `None` when they are.
    pub(super) no_pre_images: Option<&'a str>,
    /// Why a first stop is slower than it could be.
    pub(super) slow: &'a [String],
    /// Why no address can be blocked; asked at the start.
    pub(super) no_blocks: Option<&'a str>,
    pub(super) started: Timestamp,
    pub(super) baseline_done: bool,
    pub(super) golden: std::sync::Arc<thymus_engine::golden::Report>,
    /// Activities on files whose names had gone to others by then.
    pub(super) late: u64,
    pub(super) logs: &'a super::logs::Shared,
    pub(super) lines_of_nobody: u64,
    pub(super) overtaken: u64,
}

/// Before the first tick.
pub(super) fn starting(house: &House, engine: &Engine) -> View {
    View {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scope: scope_in_words(house.scope()),
        started: sense::now(),
        boot_to_unix_ns: sense::boot_to_unix_ns(),
        engine: engine.view(),
        counters: BTreeMap::from([("ready".to_owned(), 0)]),
        doctor: Doctor::default(),
        baseline: Baseline::default(),
    }
}

pub(super) fn view(sources: &Sources<'_>) -> View {
    let mut view = starting(sources.house, sources.engine);
    view.started = sources.started;
    let vault = sources.vault.counters();
    let losses = sources.sensors.losses();
    let journal = sources.house.journal().losses();
    let lost = losses.ring + losses.fanotify + losses.unreadable;
    let more = [
        ("ready", u64::from(sources.baseline_done)),
        ("events_late", sources.late),
        ("health_overtaken", sources.overtaken),
        ("events_lost", lost),
        ("events_ring_lost", losses.ring),
        ("events_fanotify_lost", losses.fanotify),
        ("events_unreadable", losses.unreadable),
        ("sense_evicted", losses.evicted),
        ("journal_lost", journal),
        ("vault_versions", vault.versions),
        ("vault_captures", vault.captures),
        ("vault_queued", vault.queued),
        ("vault_queue_full", vault.queue_full),
        ("vault_quota_stops", vault.quota_stops),
        ("vault_gone", vault.gone),
        ("vault_inexact", vault.inexact),
        ("vault_permission_events", vault.permission_events),
        ("vault_permission_captures", vault.permission_captures),
        ("vault_permission_deadlines", vault.permission_deadlines),
        ("vault_dropped_early", vault.dropped_early),
        ("vault_departed_left", vault.departed_left),
        ("vault_stored_bytes", vault.stored_bytes),
    ];
    view.counters.extend(more.map(|(name, count)| (name.to_owned(), count)));
    let (logs, shed) = (sources.logs.reports(), sources.logs.shed.load(std::sync::atomic::Ordering::Relaxed));
    let lines: u64 = logs.values().map(|log| log.lines).sum();
    let read: u64 = logs.values().map(|log| log.read).sum();
    let old: u64 = logs.values().map(|log| log.old).sum();
    view.counters.extend([
        ("log_lines".to_owned(), lines),
        ("log_lines_old".to_owned(), old),
        ("log_lines_not_read".to_owned(), lines.saturating_sub(read)),
        ("log_lines_shed".to_owned(), shed),
        ("log_lines_of_nobody".to_owned(), sources.lines_of_nobody),
    ]);
    let golden = &sources.golden;
    let drift = golden.drift.len() as u64 + golden.omitted;
    view.counters.extend([("drift".to_owned(), drift), ("golden_unread".to_owned(), golden.unread.len() as u64)]);
    view.baseline = baseline(sources.coverage, &vault, sources.options.config.vault.quota_mb.get() << 20);
    view.baseline.golden = std::sync::Arc::clone(golden);
    view.doctor = doctor(sources, &vault, journal);
    view
}

fn scope_in_words(scope: &Scope) -> String {
    let may = if scope.acting().is_some() { "may act" } else { "watches only" };
    if scope.is_whole_host() {
        return format!("this host, {may}");
    }
    format!("cgroup {} with root {}, {may}", scope.cgroup_path().display(), scope.root_path().display())
}

fn baseline(coverage: &Coverage, vault: &Counters, quota_bytes: u64) -> Baseline {
    let tree = |tree: &thymus_host::vault::TreeCoverage| Tree {
        path: tree.tree.clone(),
        files: tree.files + tree.missing_count,
        covered: tree.files,
        bytes: tree.bytes,
    };
    let missing = coverage.trees.iter().flat_map(|tree| tree.missing.iter().cloned());
    let windows = coverage.windows.iter().map(|window| (window.path.clone(), window.reason.clone()));
    let uncovered: Vec<Uncovered> =
        missing.chain(windows).map(|(path, why)| Uncovered { path, why }).take(UNCOVERED_MAX).collect();
    let all = coverage.trees.iter().map(|tree| tree.missing_count).sum::<u64>()
        + coverage.windows.len() as u64
        + coverage.omitted;
    Baseline {
        trees: coverage.trees.iter().map(tree).collect(),
        stored_bytes: vault.stored_bytes,
        quota_bytes,
        uncovered_omitted: all.saturating_sub(uncovered.len() as u64),
        uncovered,
        golden: std::sync::Arc::default(),
    }
}

fn doctor(sources: &Sources<'_>, vault: &Counters, journal_lost: u64) -> Doctor {
    let mut checks: Vec<Check> = sources.sensors.hooks().iter().map(of_hook).collect();
    let mut check = |name: &str, state, detail: String| checks.push(Check { name: name.to_owned(), state, detail });
    let losses = sources.sensors.losses();
    match losses.ring + losses.fanotify + losses.unreadable {
        0 => check("sensor losses", Health::Good, "no event was lost".to_owned()),
        _ => check(
            "sensor losses",
            Health::Limited,
            format!(
                "lost: {} records of the kernel's ring, {} overflows of fanotify, {} that could not be read; \
                 what happened then was not seen",
                losses.ring, losses.fanotify, losses.unreadable
            ),
        ),
    }
    match (sources.no_pre_images, sources.house.scope().acting().is_some()) {
        (Some(why), _) => {
            check(
                "vault pre-images",
                Health::Limited,
                format!("none are taken: {why}; versions are taken after each change"),
            );
        }
        (None, true) => check("vault pre-images", Health::Good, "taken before each write".to_owned()),
        (None, false) => check(
            "vault pre-images",
            Health::Limited,
            "none are taken: this scope is watched, never acted upon; versions are taken after each change".to_owned(),
        ),
    }
    match (sources.house.scope().acting().is_some(), sources.no_blocks) {
        (false, _) => check("blocks", Health::Limited, "no address is blocked: this scope is only watched".to_owned()),
        (true, None) => check("blocks", Health::Good, "addresses can be blocked by the packet filter".to_owned()),
        (true, Some(why)) => check("blocks", Health::Limited, format!("no address can be blocked: {why}")),
    }
    match (sources.house.scope().acting().is_some(), sources.slow) {
        (false, _) => check("first stop", Health::Limited, "nothing is stopped: this scope is only watched".to_owned()),
        (true, []) => {
            check(
                "first stop",
                Health::Good,
                "at real-time priority, through the kernel's list of processes".to_owned(),
            );
        }
        (true, slow) => check("first stop", Health::Limited, format!("slower than it could be; {}", slow.join("; "))),
    }
    match (vault.queue_full, vault.quota_stops) {
        (0, 0) => check("vault", Health::Good, format!("{} versions, {} bytes", vault.versions, vault.stored_bytes)),
        (full, quota) => check(
            "vault",
            Health::Limited,
            format!(
                "{quota} versions without content for lack of space (raise `quota_mb` or free the disk), {full} because the queue was full"
            ),
        ),
    }
    match journal_lost {
        0 => check("journal", Health::Good, "every input is recorded".to_owned()),
        lost => check(
            "journal",
            Health::Broken,
            format!("{lost} inputs could not be recorded: is the disk full? A replay is not exact"),
        ),
    }
    for (path, log) in sources.logs.reports() {
        if let Some((state, detail)) = of_log(&log) {
            check(&format!("log {path}"), state, detail);
        }
    }
    for (state, detail) in of_golden(&sources.golden) {
        check("golden state", state, detail);
    }
    for problem in sources.house.problems() {
        check("configuration", Health::Limited, problem.to_string());
    }
    Doctor { checks }
}

fn of_hook(hook: &sense::Hook) -> Check {
    let (state, detail) = match &hook.state {
        HookState::Attached => (Health::Good, "attached".to_owned()),
        HookState::Replaced(by) => {
            (Health::Limited, format!("refused; {by} instead, which is less precise about {}", hook.blind_to))
        }
        HookState::Refused(why) => (Health::Limited, format!("refused ({why}): {} cannot be seen", hook.blind_to)),
    };
    Check { name: format!("sensor {}", hook.name), state, detail }
}

/// `None`: there is no such log, or nothing was written to it.
fn of_log(log: &thymus_host::sense::log::Report) -> Option<(Health, String)> {
    if let Some(why) = &log.refused {
        return Some((Health::Limited, format!("not read: {why}")));
    }
    let known = format!("{} lines, {} of a form that a parser knows", log.lines, log.read);
    match (log.passed_over, log.bytes_passed_over, log.too_long) {
        (0, 0, 0) => (log.lines > 0).then_some((Health::Good, known)),
        (lines, bytes, long) => Some((
            Health::Limited,
            format!(
                "{known}; left out: {lines} lines and {bytes} bytes that came too fast, {long} lines that are too long"
            ),
        )),
    }
}

fn of_golden(golden: &thymus_engine::golden::Report) -> Vec<(Health, String)> {
    let unread = golden.unread.iter().map(|(section, why)| format!("{} are not compared: {why}", section.name()));
    let mut checks: Vec<_> =
        golden.problems.iter().cloned().chain(unread).map(|detail| (Health::Limited, detail)).collect();
    if golden.left_out > 0 {
        checks.push((Health::Limited, format!("{} items beyond the limit are not compared", golden.left_out)));
    }
    if checks.is_empty() {
        let detail = match golden.read_unix_ns {
            Some(_) => format!("{} items are compared with what is wanted", golden.counts.values().sum::<u64>()),
            None => "recorded when the baseline is complete".to_owned(),
        };
        checks.push((Health::Good, detail));
    }
    checks
}

/// What the vault lost since the last look.
pub(super) fn losses(before: &Counters, now: &Counters, since: Timestamp, until: Timestamp) -> Vec<Loss> {
    let lost = [
        ("vault/queue", now.queue_full.saturating_sub(before.queue_full)),
        ("vault/quota", now.quota_stops.saturating_sub(before.quota_stops)),
        ("vault/sightings", now.sightings_dropped.saturating_sub(before.sightings_dropped)),
        ("vault/deadline", now.permission_deadlines.saturating_sub(before.permission_deadlines)),
    ];
    let lost = lost.into_iter().filter(|(_, count)| *count > 0);
    lost.map(|(source, count)| Loss { source: source.to_owned(), count, since, until }).collect()
}

/// Whose answer it is, is the kernel's word, not the client's.
pub(super) fn answered_by(command: Command, uid: u32) -> Command {
    match command {
        Command::Approve { action } => Command::Answer { action, approved: true, uid, before: false },
        Command::ApproveBefore { action } => Command::Answer { action, approved: true, uid, before: true },
        Command::Deny { action } => Command::Answer { action, approved: false, uid, before: false },
        Command::Answer { action, approved, before, .. } => Command::Answer { action, approved, uid, before },
        other => other,
    }
}

/// What a command did, for the person who gave it, by the views before and after.
pub(super) fn said(command: &Command, before: &engine::View, after: &engine::View) -> Answer {
    Answer::done(match command {
        Command::Approve { action }
        | Command::ApproveBefore { action }
        | Command::Deny { action }
        | Command::Answer { action, .. } => {
            return answered(*action, before, after);
        }
        Command::Hold { why, .. } => format!("held: nothing is done automatically ({why})"),
        Command::Release => match (&before.hold, &before.storm) {
            (Some(_), None) => "the hold is ended".to_owned(),
            (Some(_), Some(_)) => "the hold is ended; a storm goes on: `thymus release` once more ends that".to_owned(),
            (None, Some(_)) => "the storm is over; what came in it waits: `thymus judge ID true`, or false".to_owned(),
            (None, None) => "there was nothing to release".to_owned(),
        },
        Command::ChangeBegin { who, .. } => format!("a change by {who} is open"),
        Command::ChangeEnd => "the change is closed".to_owned(),
        Command::Mode(mode) => format!("mode {mode:?}").to_lowercase(),
        Command::Judge { incident, true_positive: true } => format!("incident {incident} is judged true"),
        Command::Judge { incident, true_positive: false } => format!("incident {incident} is judged a false alarm"),
        Command::Undone { incident } => format!("incident {incident} is undone"),
        Command::BaselineAccepted { paths } => format!("{} paths are wanted as they are", paths.len()),
        Command::GoldenAccepted { items } => format!("{} items are wanted as they are", items.len()),
    })
}

/// What came of an answer to a question.
fn answered(action: ActionId, before: &engine::View, after: &engine::View) -> Answer {
    let of = |view: &engine::View| {
        let mut records = view.incidents.iter().flat_map(|incident| &incident.actions);
        records.rfind(|record| record.id == action).cloned()
    };
    let waited = |record: &ActionRecord| record.outcome.is_none() && record.verdict.decision != Decision::Permit;
    let Some(before) = of(before).filter(waited) else {
        return Answer::refused(format!(
            "action {action} does not wait for an answer; `thymus approve` lists those that do"
        ));
    };
    let Some(now) = of(after) else {
        return Answer::done(format!("action {action} is looked at anew: `thymus approve` lists what waits"));
    };
    let why = now.verdict.reasons.join("; ");
    match (now.verdict.decision, &now.outcome) {
        (Decision::Permit, _) | (_, Some(_)) => Answer::done(format!("action {action} is approved")),
        (Decision::Ask, None) if now.approved_by == before.approved_by => {
            Answer::refused(format!("action {action} still waits, and your word changes nothing: {why}"))
        }
        (Decision::Ask, None) => Answer::done(format!("action {action} still waits: {why}")),
        (Decision::Deny, None) => Answer::done(format!("action {action} is not done: {why}")),
    }
}

pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success => "done".to_owned(),
        Outcome::DoesNotExist => "was so already".to_owned(),
        Outcome::Partly(not_done) => format!("done, but for {} files", not_done.len()),
        Outcome::Reverted(why) => format!("failed and put back: {why}"),
        Outcome::Failed(why) => format!("failed: {why}"),
        Outcome::Undone => "undone".to_owned(),
    }
}
