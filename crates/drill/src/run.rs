// SPDX-License-Identifier: Apache-2.0
//! One drill from its seed to its report.

use crate::agent;
use crate::base::Disk;
use crate::cast::{Cast, pause};
use crate::contest::Contest;
use crate::hardening;
use crate::oracle::{self, Findings};
use crate::ordeal::Ordeal;
use crate::outside::Outside;
use crate::play::{Place, Played, play};
use crate::random::Random;
use crate::relay::{self, Relay};
use crate::report::{ActionLine, CleanupOracle, Placement, Report, Stage};
use crate::scenario::{self, Material, Plan, Scenario};
use crate::session::Keys;
use crate::snapshot::{self, Snapshot};
use crate::twin::{Confinement, Twin};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use thymus_engine::Incident;
use thymus_engine::action::{Action, Outcome};
use thymus_engine::guard::is_personal;
use thymus_engine::incident::{ActionRecord, Decision};
use thymus_engine::path::HostPath;

/// Which agent the runs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentChoice {
    Outside,
    Inside,
    /// Even seeds outside, odd seeds inside.
    Alternating,
    None,
}

/// When the agent may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespondAfter {
    /// As soon as it is sure.
    Detection,
    /// Held until the attack is over, so that all damage is done first.
    AttackEnd,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub scenarios: Vec<&'static Scenario>,
    /// Of the first run; each further run has the next one.
    pub seed: u64,
    pub runs: u32,
    pub agent: AgentChoice,
    pub respond_after: RespondAfter,
    /// What the agent is put through in the middle of its heal; only where it is held until the attack's end.
    pub ordeal: Option<Ordeal>,
    /// Whether all that was done is undone in the end and compared with the attacked state; only where it is held too.
    pub undo: bool,
    /// How long benign work goes on; only drills without an attack heed it.
    pub soak: Option<Duration>,
    /// The program of the agent: `thymus` itself.
    pub thymus: PathBuf,
    /// See [`crate::base::cache`].
    pub cache: PathBuf,
}

/// Where a drill says what happens, line by line, while it happens.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// Runs drills one after the other and hands on each report as it comes. `Ok` says nothing about what the reports say.
pub fn run(options: &Options, tell: Tell<'_>, mut done: impl FnMut(&Report)) -> Result<()> {
    let disk = Disk::open(&options.cache)?;
    for scenario in &options.scenarios {
        if !scenario.benign {
            tell("proving that a twin cannot harm this machine");
            hardening::prove(&disk)?;
        }
        for number in 0..u64::from(options.runs) {
            let seed = options.seed.wrapping_add(number);
            one(&disk, options, scenario, seed, tell)?.iter().for_each(&mut done);
        }
    }
    Ok(())
}

fn one(disk: &Disk, options: &Options, scenario: &Scenario, seed: u64, tell: Tell<'_>) -> Result<Vec<Report>> {
    let placement = match options.agent {
        AgentChoice::Outside => Placement::Outside,
        AgentChoice::Inside => Placement::Inside,
        AgentChoice::None => Placement::None,
        AgentChoice::Alternating if seed.is_multiple_of(2) => Placement::Outside,
        AgentChoice::Alternating => Placement::Inside,
    };
    let confinement = match placement {
        Placement::Inside => Confinement::Capabilities,
        Placement::Outside | Placement::None => Confinement::UserNamespace,
    };
    let mut random = Random::new(seed);
    let library = disk.empty_library()?;
    let material = Material { library: &library, soak: options.soak.filter(|_| scenario.benign) };
    let plan = (scenario.plan)(&mut random, material);
    let plans: Vec<&Plan> = std::iter::once(&plan).chain(plan.next.as_deref()).collect();
    if plans.len() > 1 && options.ordeal == Some(Ordeal::CutPower) {
        return Err(Error::NoSuchOrdeal { scenario: scenario.name.to_owned() });
    }

    let mut twins =
        plans.iter().zip(["twin", "next"]).map(|(_, tag)| Twin::new(disk, tag)).collect::<Result<Vec<Twin>>>()?;
    let keys = Keys::make(&twins[0].directory().join("keys"))?;
    let relay = (plans.len() > 1).then(Relay::default);
    let of_next = |line: &str| tell(&format!("  on the next host:{line}"));
    let tells: [Tell<'_>; 2] = [tell, &of_next];
    let relay = relay.as_ref();
    let casts: Vec<Cast<'_>> =
        plans.iter().zip(tells).map(|(plan, tell)| Cast { plan, keys: &keys, seed, tell, relay }).collect();

    tell(&format!("{} seed {seed}: two reference twins, with the same work and no attack", scenario.name));
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            // In other seconds than the first, however unevenly the two go on, so that what depends on the time of day shows as
            // noise.
            pause(Duration::from_millis(3_700))?;
            references(disk, "second", confinement, &casts)
        });
        let one = references(disk, "first", confinement, &casts);
        (one, other.join())
    });
    let (one, two) = (one?, two.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);

    let mut before = Vec::new();
    for (twin, cast) in twins.iter_mut().zip(&casts) {
        if placement == Placement::Inside {
            agent::install(twin, &options.thymus, cast.plan)?;
        }
        cast.plant(twin)?;
        before.push((logs_of(&twin.root())?, benign_paths(cast.plan, &twin.root())));
        tell("the twin boots");
        twin.boot(confinement)?;
    }
    let outside = Outside::of(&plan, &twins)?;
    let mut played = play_all(&mut twins, &casts, placement, confinement, options, outside.as_ref())?;
    if let ([first, second], [_, played]) = (&twins[..], &mut played[..]) {
        if options.respond_after == RespondAfter::AttackEnd || plan.held {
            relay::must_arrive(played);
        }
        if !options.undo {
            relay::afterwards(first, second, casts[0], played)?;
        }
    }
    for twin in &mut twins {
        twin.halt()?;
    }
    tell("comparing the disks");
    let mut reports = Vec::new();
    for (number, ((twin, cast), played)) in twins.iter().zip(&casts).zip(played).enumerate() {
        let (logs, benign) = &before[number];
        let host = Judged { twin, cast: *cast, references: [&one[number], &two[number]], logs, benign };
        let mut report = judged(&host, scenario, seed, placement, played)?;
        report.host = number + 1;
        reports.push(report);
    }
    Ok(reports)
}

/// Each host's part, at the same time.
fn play_all(
    twins: &mut [Twin],
    casts: &[Cast<'_>],
    placement: Placement,
    confinement: Confinement,
    options: &Options,
    outside: Option<&Outside>,
) -> Result<Vec<Played>> {
    std::thread::scope(|scope| {
        let plays: Vec<_> = twins
            .iter_mut()
            .zip(casts)
            .map(|(twin, cast)| {
                scope.spawn(move || {
                    let played = play(Place { twin, placement, confinement, options, outside }, *cast);
                    if let Some(relay) = cast.relay.filter(|_| played.is_err()) {
                        relay.gives_up();
                    }
                    played
                })
            })
            .collect();
        let join = |play: std::thread::ScopedJoinHandle<'_, Result<Played>>| {
            play.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        plays.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}

/// One halted twin, and what it is compared with.
struct Judged<'a> {
    twin: &'a Twin,
    cast: Cast<'a>,
    references: [&'a (Twin, Snapshot); 2],
    /// Before the boot: every log's content, and what people will change.
    logs: &'a BTreeMap<HostPath, Vec<u8>>,
    benign: &'a BTreeMap<HostPath, Vec<u8>>,
}

fn judged(host: &Judged<'_>, scenario: &Scenario, seed: u64, placement: Placement, played: Played) -> Result<Report> {
    let (twin, plan, [one, two]) = (host.twin, host.cast.plan, host.references);
    let root = played.photographs.as_ref().map_or_else(|| twin.root(), |photographs| photographs.healed.clone());
    let holds = snapshot::take(&root, &|path| oracle::is_nobodys(path) || played.decoys.contains(path))?;
    let (root_one, root_two) = (one.0.root(), two.0.root());
    let contested = plan.contest.as_ref().map(Contest::paths).unwrap_or_default();
    let mut findings = oracle::judge(
        oracle::Disk { holds: &holds, root: &root },
        [oracle::Disk { holds: &one.1, root: &root_one }, oracle::Disk { holds: &two.1, root: &root_two }],
        &played.truth,
        host.benign,
        &contested,
    );
    let cut: BTreeSet<&HostPath> = played.truth.logs.keys().collect();
    let untouched = host.logs.iter().filter(|(path, _)| !cut.contains(path));
    let untouched = untouched.map(|(path, content)| (path.clone(), content.clone())).collect();
    // Rotation takes the oldest lines away, there as here.
    let lost_anyway = oracle::log_bytes_lost(&root_one, &untouched);
    findings.bytes_lost += oracle::log_bytes_lost(&root, &untouched).saturating_sub(lost_anyway);
    for (path, bytes) in oracle::lines_lost(&root, &plan.lines) {
        findings.benign_lost.insert(path);
        findings.bytes_lost += bytes;
    }
    let undone = match &played.photographs {
        Some(photographs) => Some(undo_differs(&twin.root(), &photographs.attacked, &played)?),
        None => None,
    };
    Ok(report(scenario, seed, placement, plan, played, findings, undone, host.benign.len()))
}

/// Everything that the attack or the agent touched, on the disk that it was undone on against the disk before the heal.
fn undo_differs(root: &Path, attacked: &Path, played: &Played) -> Result<Vec<HostPath>> {
    let actions = played.incidents.iter().flat_map(|incident| &incident.actions);
    let mut paths: BTreeSet<HostPath> = actions.filter_map(|record| record.action.path().cloned()).collect();
    paths.extend(played.truth.touched.keys().cloned());
    let before = snapshot::take(attacked, &oracle::is_nobodys)?;
    let after = snapshot::take(root, &oracle::is_nobodys)?;
    let disk = |holds, root| oracle::Disk { holds, root };
    Ok(oracle::undone_wrongly(disk(&before, attacked), disk(&after, root), &paths))
}

/// What people will change, with the content before anybody does anything.
pub(crate) fn benign_paths(plan: &Plan, root: &Path) -> BTreeMap<HostPath, Vec<u8>> {
    let paths = plan.benign.iter().flat_map(|step| &step.paths).map(|path| HostPath::from(path.as_str()));
    paths.map(|path| (path.clone(), snapshot::read(root, &path).unwrap_or_default())).collect()
}

/// Every log's content before the boot.
fn logs_of(root: &Path) -> Result<BTreeMap<HostPath, Vec<u8>>> {
    let logs = snapshot::take(&root.join("var/log"), &|_| false)?;
    let paths = logs.keys().map(|path| HostPath::new(&[b"/var/log", path.as_bytes()].concat()));
    Ok(paths.filter_map(|path| snapshot::read(root, &path).map(|content| (path, content))).collect())
}

/// One twin for each host, in which nobody attacks; halted when it is given.
fn references(disk: &Disk, tag: &str, confinement: Confinement, casts: &[Cast<'_>]) -> Result<Vec<(Twin, Snapshot)>> {
    let mut twins = Vec::new();
    for (number, cast) in casts.iter().enumerate() {
        let mut twin = Twin::new(disk, &if number == 0 { tag.to_owned() } else { format!("{tag}-next") })?;
        cast.plant(&twin)?;
        twin.boot(confinement)?;
        twins.push(twin);
    }
    let _outside = match &twins[..] {
        [first, next] => Some(Outside::beside(first, Some(next), &[])?),
        _ => None,
    };
    for (twin, cast) in twins.iter().zip(casts) {
        cast.jobs(twin)?;
        let turn = Mutex::new(());
        let mut people = cast.people(twin)?;
        let harmed = people.work(&turn, false)?;
        if let Some((step, why)) = harmed.into_iter().next() {
            return Err(Error::Benign { step, why });
        }
        people.leave();
    }
    let hold = |mut twin: Twin| {
        twin.halt()?;
        let holds = snapshot::take(&twin.root(), &oracle::is_nobodys)?;
        Ok((twin, holds))
    };
    twins.into_iter().map(hold).collect()
}

#[expect(clippy::too_many_arguments, reason = "one place, and every one is of another type")]
fn report(
    scenario: &Scenario,
    seed: u64,
    placement: Placement,
    plan: &Plan,
    played: Played,
    findings: Findings,
    undo_differs: Option<Vec<HostPath>>,
    benign_changes: usize,
) -> Report {
    let confirmed: Vec<&Incident> = played.incidents.iter().filter(|incident| incident.confirmed).collect();
    let main = confirmed.iter().max_by_key(|incident| incident.objects.len());
    let truth = &played.truth;
    let tampered = truth.tampered();
    let spared = plan.from_before && truth.was.is_empty();
    let faults = || plan.fault.iter().flat_map(|fault| fault.steps.iter().map(|(_, step)| step));
    let steps = || plan.attack_user.iter().chain(&plan.attack_root).chain(faults());
    let in_scope: BTreeSet<&String> = steps().flat_map(|step| step.paths.iter().chain(&step.logs)).collect();
    let techniques: BTreeSet<&str> = steps().filter_map(|step| step.technique).collect();
    let all_findings = || played.incidents.iter().flat_map(|incident| &incident.findings);
    // The drill's own record, and the directory that it is kept in.
    let record = plan.record.as_deref().map(HostPath::from);
    let is_record =
        |path: &HostPath| record.as_ref().is_some_and(|record| path == record || path.as_bytes() == record.parent());
    let named = confirmed.iter().flat_map(|incident| named_by(incident));
    let named: BTreeSet<&HostPath> = named.filter(|path| !is_record(path) && !truth.is_open(path)).collect();
    let (hit, beyond): (Vec<&HostPath>, Vec<&HostPath>) = named.iter().partition(|path| tampered.contains(**path));
    let first = all_findings().map(|finding| finding.time.0).filter(|time| *time >= played.began_ns).min();
    let ms = |from: u64, to: u64| to.saturating_sub(from) / 1_000_000;
    let contained = main.and_then(|incident| incident.contained);
    let root_rank = main.and_then(|incident| {
        let is_true = |root: &thymus_engine::incident::Root| match &plan.fault {
            Some(fault) => root.title.contains(&fault.root),
            None => root.src_endpoint.as_ref().is_some_and(|endpoint| endpoint.ip.to_string() == plan.source),
        };
        incident.roots.iter().position(is_true).map(|at| at + 1)
    });
    let actions = played.incidents.iter().flat_map(|incident| &incident.actions);
    let actions: Vec<ActionLine> = actions.map(|record| line(record, undo_differs.as_deref())).collect();
    let shown = played.incidents.iter().flat_map(|incident| &incident.actions);
    let waits = |record: &&ActionRecord| record.verdict.decision != Decision::Permit && record.outcome.is_none();
    let is_object = |record: &&ActionRecord| !is_personal(&record.action);
    let shown = shown.filter(waits).filter(is_object).count();
    let counter = |name: &str| played.counters.get(name).copied().unwrap_or(0);
    let mut why: Vec<String> = played.unsettled.into_iter().collect();
    let asks = plan.fault.as_ref().is_some_and(|fault| fault.asks);
    if plan.fault.is_some() && asks != (played.approved > 0) {
        why.push(format!(
            "{} questions were approved, expected {}",
            played.approved,
            if asks { "one" } else { "none" }
        ));
    }
    let asked_rightly = plan.fault.is_none() || asks == (played.approved > 0);
    why.extend(
        confirmed
            .iter()
            .filter(|incident| incident.stage != thymus_engine::Stage::Healed)
            .map(|incident| format!("incident {} is {:?}: {}", incident.id, incident.stage, incident.why)),
    );
    why.extend(played.harmed.iter().map(|(what, how)| format!("{what}: {how}")));
    Report {
        scenario: scenario.name.to_owned(),
        failure: plan.fault.is_some(),
        approved: played.approved,
        asked_rightly,
        techniques: techniques.into_iter().map(str::to_owned).collect(),
        seed,
        host: 1,
        spared,
        agent: placement,
        stage: stage((scenario.benign || spared) && actions.is_empty(), &played.incidents, &confirmed),
        why: (!why.is_empty()).then(|| why.join("; ")),
        detected: !played.incidents.is_empty(),
        detected_by: unique(all_findings().map(|finding| finding.analytic.clone())),
        techniques_found: unique(all_findings().map(|finding| finding.technique.clone())),
        time_to_detect_ms: first.map(|first| ms(played.began_ns, first)),
        time_to_contain_ms: main.zip(contained).map(|(incident, contained)| ms(incident.opened.0, contained.0)),
        time_to_heal_ms: contained
            .zip(main.and_then(|incident| incident.healed))
            .map(|(contained, healed)| ms(contained.0, healed.0)),
        root_rank,
        reach_precision: ratio(hit.len(), named.len()),
        reach_beyond: beyond.into_iter().cloned().collect(),
        reach_recall: ratio(hit.len(), tampered.len()),
        objects_in_scope: in_scope.len()
            + plan.crowd.as_ref().filter(|_| !scenario.benign).map_or(0, |crowd| crowd.files as usize),
        objects_tampered_at_containment: contained.map(|contained| {
            truth.touched.iter().filter(|(path, at)| **at <= contained.0 && tampered.contains(*path)).count()
        }),
        objects_tampered: tampered.len(),
        objects_restored_exactly: findings.restored_exactly.len(),
        objects_merged: findings.merged.len(),
        objects_shown: shown,
        objects_contested: findings.contested.len(),
        contested: plan.contest.as_ref().map_or(0, |contest| contest.shown().len()),
        storm: played.storm,
        residue: findings.residue.into_iter().collect(),
        attacker_processes_left: played.attackers_left,
        cleanup_oracle: CleanupOracle::None,
        benign_changes,
        benign_changes_lost: findings.benign_lost.into_iter().collect(),
        benign_processes_harmed: played.harmed.len(),
        service_downtime_ms: played.downtime_ms,
        bytes_lost: findings.bytes_lost,
        actions,
        agent_ready_ms: played.cost.ready_ms,
        agent_memory_peak: played.cost.memory_peak,
        agent_cpu_ms: played.cost.cpu_ms,
        attached_elsewhere: played.attached_elsewhere,
        killed_before: played.killed_before,
        done_twice: done_twice(&played.incidents),
        undo_differs,
        events: counter("events"),
        events_lost: counter("events_lost"),
        noise: findings.noise.into_iter().collect(),
        noise_forbidden: findings.noise_forbidden.into_iter().collect(),
        atomic: None,
    }
}

/// Objects, and what actions were planned for; the list of objects may be cut off.
fn named_by(incident: &Incident) -> impl Iterator<Item = &HostPath> {
    let objects = incident.objects.iter().map(|object| &object.path);
    objects.chain(incident.actions.iter().flat_map(|record| record.action.paths()))
}

fn done_twice(incidents: &[Incident]) -> Vec<HostPath> {
    let mut count: BTreeMap<HostPath, u32> = BTreeMap::new();
    let again = |action: &Action| matches!(action, Action::RestoreFile(restore) if restore.again);
    for record in incidents.iter().flat_map(|incident| &incident.actions).filter(|record| !again(&record.action)) {
        let not_done = match &record.outcome {
            Some(Outcome::Success) => &[][..],
            Some(Outcome::Partly(not_done)) => not_done,
            _ => continue,
        };
        let done = record.action.paths().filter(|path| not_done.iter().all(|(left, _)| left != *path));
        done.for_each(|path| *count.entry(path.clone()).or_default() += 1);
    }
    count.into_iter().filter(|(_, times)| *times > 1).map(|(path, _)| path).collect()
}

/// The least that any confirmed incident has come to. `quiet`: nothing to find is what is wanted, and nothing was done.
pub(crate) fn stage(quiet: bool, incidents: &[Incident], confirmed: &[&Incident]) -> Stage {
    let of = |incident: &&Incident| match incident.stage {
        thymus_engine::Stage::Open => Stage::Open,
        thymus_engine::Stage::Contained => Stage::Contained,
        thymus_engine::Stage::Restored => Stage::Restored,
        thymus_engine::Stage::Healed => Stage::Healed,
        thymus_engine::Stage::Stuck => Stage::Stuck,
    };
    if confirmed.iter().any(|incident| of(incident) == Stage::Stuck) {
        return Stage::Stuck;
    }
    match confirmed.iter().map(of).min() {
        Some(stage) => stage,
        None if quiet => Stage::Quiet,
        None if incidents.is_empty() => Stage::Undetected,
        None => Stage::Open,
    }
}

fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    all.collect::<BTreeSet<String>>().into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of paths, far below 2^52")]
fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

pub(crate) fn line(record: &ActionRecord, undo_differs: Option<&[HostPath]>) -> ActionLine {
    let done = record.outcome == Some(Outcome::Success);
    let undone_ok = record.action.path().zip(undo_differs).filter(|_| done);
    let undone_ok = undone_ok.map(|(path, differs)| !differs.contains(path));
    let target = match &record.action {
        Action::SuspendProcesses { processes } | Action::TerminateProcesses { processes } => {
            format!("{} processes", processes.len())
        }
        Action::EndSession { leader, .. } => format!("session of process {}", leader.pid),
        Action::FilterTraffic { address, .. } => address.to_string(),
        Action::LockAccount { uid, .. } => format!("account of uid {uid}"),
        Action::IsolateHost { .. } => "the host".to_owned(),
        Action::UndoAction { of, .. } => format!("action {of}"),
        Action::RestoreFile(restore) => restore.path.to_string(),
        Action::RestoreFiles { files } => format!("{} files", files.len()),
        Action::QuarantineFile { path, .. } => path.to_string(),
        Action::RemoveUnit { unit } | Action::ReloadService { unit } | Action::RestartService { unit } => unit.clone(),
        Action::FreeSpace { paths } => paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Action::LoadFirewall { path } | Action::RenewCertificate { path } => path.to_string(),
        Action::RestorePackaged { .. } => record.action.paths().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let verdict = match record.verdict.decision {
        Decision::Permit => "permit",
        Decision::Ask => "ask",
        Decision::Deny => "deny",
    };
    ActionLine {
        action: record.action.name().to_owned(),
        target,
        verdict: verdict.to_owned(),
        reasons: record.verdict.reasons.clone(),
        undoable: record.action.reversible(),
        undone_ok,
    }
}

/// Every drill's name and what it is.
#[must_use]
pub fn list() -> Vec<(&'static str, &'static str)> {
    scenario::SCENARIOS.iter().map(|scenario| (scenario.name, scenario.about)).collect()
}

/// The drills of these names; `all` is all of them.
pub fn named(names: &[String]) -> Result<Vec<&'static Scenario>> {
    let mut found = Vec::new();
    for name in names {
        if name == "all" {
            found.extend(scenario::SCENARIOS.iter());
        } else {
            found.push(scenario::named(name).ok_or_else(|| Error::NoSuchDrill { name: name.clone() })?);
        }
    }
    Ok(found)
}
