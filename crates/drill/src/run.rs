// SPDX-License-Identifier: Apache-2.0
//! One drill from its seed to its report.

use crate::agent::{self, Agent};
use crate::base::Disk;
use crate::hardening;
use crate::oracle::{self, Findings, Truth};
use crate::random::Random;
use crate::report::{ActionLine, CleanupOracle, Placement, Report, Stage};
use crate::scenario::{self, Actor, Material, Plan, Scenario, Step};
use crate::session::{Answer, Keys, Session};
use crate::snapshot::{self, Snapshot};
use crate::twin::{Confinement, Twin};
use crate::{Error, Result, interrupt};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use thymus_engine::Incident;
use thymus_engine::action::Action;
use thymus_engine::incident::Decision;
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
    /// How long benign work goes on; only drills without an attack heed it.
    pub soak: Option<Duration>,
    /// The program of the agent: `thymus` itself.
    pub thymus: PathBuf,
    /// See [`crate::base::cache`].
    pub cache: PathBuf,
}

/// LIMIT: one step of anybody's. A daemon reload on a busy machine takes a second.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// An intruder without an answer for so long has been stopped.
const STOPPED_LIMIT: Duration = Duration::from_secs(10);
/// LIMIT: from the end of everybody's work until every incident is settled.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// A settled state must last so long to count.
const QUIET: Duration = Duration::from_secs(3);
/// With no confirmed incident for so long after everything, there will be none.
const UNDETECTED_AFTER: Duration = Duration::from_secs(12);

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
            done(&one(&disk, options, scenario, seed, tell)?);
        }
    }
    Ok(())
}

fn one(disk: &Disk, options: &Options, scenario: &Scenario, seed: u64, tell: Tell<'_>) -> Result<Report> {
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

    let mut twin = Twin::new(disk, "twin")?;
    let keys = Keys::make(&twin.directory().join("keys"))?;
    let cast = Cast { plan: &plan, keys: &keys, seed, tell };

    tell(&format!("{} seed {seed}: two reference twins, with the same work and no attack", scenario.name));
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            // In other seconds than the first, so that what depends on the time of day shows as noise.
            pause(Duration::from_millis(1_100))?;
            reference(disk, "second", confinement, cast)
        });
        let one = reference(disk, "first", confinement, cast);
        (one, other.join())
    });
    let (one, two) = (one?, two.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);

    if placement == Placement::Inside {
        agent::install(&twin, &options.thymus)?;
    }
    cast.plant(&twin)?;
    let logs = logs_of(&twin.root())?;
    let benign = benign_paths(&plan, &twin.root());
    tell("the twin boots");
    twin.boot(confinement)?;
    let agent = Agent::start(&twin, placement, &options.thymus)?;
    let played = play(&twin, agent.as_ref(), cast, options.respond_after)?;
    drop(agent);
    twin.halt()?;
    tell("comparing the disks");
    let root = twin.root();
    let holds = snapshot::take(&root, &oracle::is_nobodys)?;
    let disk_of = |reference: &'_ (Twin, Snapshot)| reference.0.root();
    let (root_one, root_two) = (disk_of(&one), disk_of(&two));
    let mut findings = oracle::judge(
        oracle::Disk { holds: &holds, root: &root },
        [oracle::Disk { holds: &one.1, root: &root_one }, oracle::Disk { holds: &two.1, root: &root_two }],
        &played.truth,
        &benign,
    );
    let cut: BTreeSet<&HostPath> = played.truth.logs.keys().collect();
    let untouched = logs.into_iter().filter(|(path, _)| !cut.contains(path)).collect();
    findings.bytes_lost += oracle::log_bytes_lost(&root, &untouched);
    Ok(report(scenario, seed, placement, &plan, played, findings, benign.len()))
}

/// What people will change, with the content before anybody does anything.
fn benign_paths(plan: &Plan, root: &Path) -> BTreeMap<HostPath, Vec<u8>> {
    let paths = plan.benign.iter().flat_map(|step| &step.paths).map(|path| HostPath::from(path.as_str()));
    paths.map(|path| (path.clone(), snapshot::read(root, &path).unwrap_or_default())).collect()
}

/// Every log's content before the boot.
fn logs_of(root: &Path) -> Result<BTreeMap<HostPath, Vec<u8>>> {
    let logs = snapshot::take(&root.join("var/log"), &|_| false)?;
    let paths = logs.keys().map(|path| HostPath::new(&[b"/var/log", path.as_bytes()].concat()));
    Ok(paths.filter_map(|path| snapshot::read(root, &path).map(|content| (path, content))).collect())
}

fn reference(disk: &Disk, tag: &str, confinement: Confinement, cast: Cast<'_>) -> Result<(Twin, Snapshot)> {
    let mut twin = Twin::new(disk, tag)?;
    cast.plant(&twin)?;
    twin.boot(confinement)?;
    let turn = Mutex::new(());
    let mut people = cast.people(&twin)?;
    let harmed = people.work(&turn, false)?;
    if let Some((step, why)) = harmed.into_iter().next() {
        return Err(Error::Benign { step, why });
    }
    people.leave();
    twin.halt()?;
    let holds = snapshot::take(&twin.root(), &oracle::is_nobodys)?;
    Ok((twin, holds))
}

/// Who takes part, and what they are going to do.
#[derive(Clone, Copy)]
struct Cast<'a> {
    plan: &'a Plan,
    keys: &'a Keys,
    seed: u64,
    tell: Tell<'a>,
}

struct People<'a> {
    cast: Cast<'a>,
    sessions: BTreeMap<Actor, Session>,
}

impl<'a> Cast<'a> {
    fn plant(&self, twin: &Twin) -> Result<()> {
        self.keys.plant(twin)?;
        for (path, content, mode, owner) in &self.plan.planted {
            twin.plant(path, content.as_bytes(), *mode, *owner)?;
        }
        Ok(())
    }

    fn people(self, twin: &Twin) -> Result<People<'a>> {
        let mut random = Random::new(self.seed ^ 0x0070_656f_706c_6521);
        let mut sessions = BTreeMap::new();
        for (actor, source) in [(Actor::Ops, "127.0.0.2"), (Actor::Alice, "127.0.0.3"), (Actor::Bob, "127.0.0.4")] {
            let session = Session::open(twin, self.keys, actor.user(), source, &random.word(10))?;
            sessions.insert(actor, session);
        }
        Ok(People { cast: self, sessions })
    }
}

impl People<'_> {
    /// Does all benign steps in order; gives those that failed, with the reason.
    fn work(&mut self, turn: &Mutex<()>, narrate: bool) -> Result<Vec<(String, String)>> {
        let mut harmed = Vec::new();
        for step in &self.cast.plan.benign {
            if narrate {
                pause(step.pause)?;
                (self.cast.tell)(&format!("    {}", step.title));
            }
            let Some(session) = self.sessions.get_mut(&step.actor) else {
                harmed.push((step.title.clone(), "has no session any more".to_owned()));
                continue;
            };
            let held = shared(self.cast.plan, step).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
            let answer = session.run(&step.script, STEP_LIMIT);
            drop(held);
            match answer {
                Ok(answer) if answer.status == 0 => {}
                Ok(Answer { status, lines }) => {
                    harmed.push((step.title.clone(), format!("status {status}: {}", lines.join(" | "))));
                }
                Err(Error::SessionEnded { why, .. }) => {
                    self.sessions.remove(&step.actor);
                    harmed.push((step.title.clone(), why));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(harmed)
    }

    fn leave(self) {
        for session in self.sessions.into_values() {
            session.close();
        }
    }
}

fn shared(plan: &Plan, step: &Step) -> bool {
    step.paths.iter().any(|path| plan.shared.contains(path))
}

fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// What was seen of one attacked (or merely busy) twin.
#[derive(Debug, Default)]
struct Played {
    truth: Truth,
    /// When the intruder took the first step, boot clock, nanoseconds.
    began_ns: u64,
    harmed: Vec<(String, String)>,
    downtime_ms: u64,
    attackers_left: usize,
    incidents: Vec<Incident>,
    counters: BTreeMap<String, u64>,
    unsettled: Option<String>,
}

fn play(twin: &Twin, agent: Option<&Agent<'_>>, cast: Cast<'_>, respond_after: RespondAfter) -> Result<Played> {
    let held = agent.filter(|_| respond_after == RespondAfter::AttackEnd);
    if let Some(agent) = held {
        agent.hold()?;
    }
    let turn = Mutex::new(());
    let stop = AtomicBool::new(false);
    let mut people = cast.people(twin)?;
    let mut intruder = Intruder::default();
    let mut played = Played { began_ns: boot_clock_ns(), ..Played::default() };
    let (attacked, worked, answered) = std::thread::scope(|scope| {
        let visitors = scope.spawn(|| visit(twin.leader(), &stop));
        let benign = scope.spawn(|| people.work(&turn, true));
        let attacked = intruder.attack(twin, cast, &turn);
        let worked = benign.join();
        let settled = attacked.and_then(|()| match agent {
            Some(agent) => settle(agent, held.is_some(), cast),
            None => Ok(None),
        });
        stop.store(true, Ordering::SeqCst);
        (settled, worked, visitors.join())
    });
    played.harmed = worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    played.downtime_ms = answered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    played.unsettled = attacked?;
    if let Some(agent) = agent {
        played.incidents = agent.incidents()?;
        keep(twin, agent, &played.incidents);
        played.counters = agent.status()?.counters;
    }
    played.attackers_left = attackers_left(twin, &intruder);
    played.harmed.extend(harmed_since(twin, cast)?);
    people.leave();
    intruder.leave();
    played.truth = intruder.truth;
    Ok(played)
}

/// Waits until the agent has finished with everything, and says what is not finished at the limit.
fn settle(agent: &Agent<'_>, held: bool, cast: Cast<'_>) -> Result<Option<String>> {
    if held {
        agent.release()?;
    }
    let idle = cast.plan.attack_root.is_empty();
    let begin = Instant::now();
    let mut since = Instant::now();
    let mut last = String::new();
    let mut said: Vec<String> = Vec::new();
    loop {
        pause(Duration::from_millis(200))?;
        let incidents = agent.incidents()?;
        let confirmed: Vec<&Incident> = incidents.iter().filter(|incident| incident.confirmed).collect();
        let open = confirmed
            .iter()
            .find(|incident| !matches!(incident.stage, thymus_engine::Stage::Healed | thymus_engine::Stage::Stuck));
        let now =
            confirmed.iter().map(|one| format!("{}{:?}{}", one.id, one.stage, one.actions.len())).collect::<String>();
        let lines: Vec<String> =
            confirmed.iter().map(|one| format!("  agent: incident {}: {:?}. {}", one.id, one.stage, one.why)).collect();
        for line in lines.iter().filter(|line| !said.contains(*line)) {
            (cast.tell)(line);
        }
        said = lines;
        if now != last || open.is_some() {
            last = now;
            since = Instant::now();
        }
        if confirmed.is_empty() && (idle && begin.elapsed() > QUIET || begin.elapsed() > UNDETECTED_AFTER) {
            return Ok(None);
        }
        if !confirmed.is_empty() && open.is_none() && since.elapsed() > QUIET {
            return Ok(None);
        }
        if begin.elapsed() > SETTLE_LIMIT {
            let which =
                open.map_or_else(String::new, |one| format!("incident {} is {:?}: {}", one.id, one.stage, one.why));
            return Ok(Some(format!("not settled within {SETTLE_LIMIT:?}; {which}")));
        }
    }
}

#[derive(Debug, Default)]
struct Intruder {
    session: Option<Session>,
    truth: Truth,
    /// The cgroup that the twin's login manager gave the intruder's session.
    group: String,
}

impl Intruder {
    /// Goes on until the plan ends or the session does; the latter is what an agent is for.
    fn attack(&mut self, twin: &Twin, cast: Cast<'_>, turn: &Mutex<()>) -> Result<()> {
        let plan = cast.plan;
        if plan.attack_root.is_empty() {
            return Ok(());
        }
        match self.attack_until_stopped(twin, cast, turn) {
            Err(Error::SessionEnded { why, .. }) => {
                (cast.tell)(&format!("  the intruder's session is over: {why}"));
                Ok(())
            }
            other => other,
        }
    }

    fn attack_until_stopped(&mut self, twin: &Twin, cast: Cast<'_>, turn: &Mutex<()>) -> Result<()> {
        let mut random = Random::new(cast.seed ^ 0x6174_7461_636b_2121);
        let (plan, token) = (cast.plan, random.word(10));
        (cast.tell)("  the intruder logs in with alice's key");
        let session = Session::open(twin, cast.keys, Actor::Intruder.user(), &plan.source, &random.word(10))?;
        let session = self.session.insert(session);
        let answer = session.run(&prelude(&token), STOPPED_LIMIT)?;
        self.group = answer.lines.iter().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
        for step in &plan.attack_user {
            take(session, step, cast, turn, &token, &mut self.truth)?;
        }
        (cast.tell)(&format!("  the intruder becomes root: {}", plan.escalation));
        session.become_shell(&plan.escalation, STOPPED_LIMIT)?;
        let who = session.run(&format!("{}; id -u", prelude(&token)), STOPPED_LIMIT)?;
        if who.lines.last().map(String::as_str) != Some("0") {
            return Err(Error::Benign { step: plan.escalation.clone(), why: "gave no root shell".to_owned() });
        }
        for step in &plan.attack_root {
            take(session, step, cast, turn, &token, &mut self.truth)?;
        }
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

/// Functions by which the intruder's shell keeps the drill's record of what it touches.
fn prelude(token: &str) -> String {
    format!(
        "state() {{ if [ -L \"$1\" ]; then printf 'L:%s' \"$(readlink \"$1\")\"; \
         elif [ -f \"$1\" ]; then printf '%s:%s' \"$(stat -c %f:%u:%g:%h \"$1\")\" \"$(sha256sum <\"$1\" | cut -c1-32)\"; \
         elif [ -e \"$1\" ]; then stat -c %f:%u:%g \"$1\" | tr -d '\\n'; else printf absent; fi; }}\n\
         say() {{ w=$1; shift; for p; do printf '%s %s %s %s\\n' {token} \"$w\" \"$(state \"$p\")\" \"$p\"; done; }}\n\
         log() {{ for p; do printf '%s log %s %s\\n' {token} \"$(base64 -w0 \"$p\")\" \"$p\"; done; }}\n\
         cat /proc/self/cgroup"
    )
}

fn take(
    session: &mut Session,
    step: &Step,
    cast: Cast<'_>,
    turn: &Mutex<()>,
    token: &str,
    truth: &mut Truth,
) -> Result<()> {
    pause(step.pause)?;
    (cast.tell)(&format!("  {} ({})", step.title, step.technique.unwrap_or("-")));
    let (paths, logs) = (step.paths.join(" "), step.logs.join(" "));
    let script = format!("say was {paths} {logs}\nlog {logs}\n{}\nsay now {paths} {logs}", step.script);
    let held = shared(cast.plan, step).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
    let answer = session.run(&script, STOPPED_LIMIT)?;
    drop(held);
    let at = boot_clock_ns();
    for line in answer.lines.iter().filter_map(|line| line.strip_prefix(token)) {
        let mut words = line.trim_start().splitn(3, ' ');
        let (Some(word), Some(state), Some(path)) = (words.next(), words.next(), words.next()) else { continue };
        let path = HostPath::from(path);
        match word {
            "was" => drop(truth.was.entry(path).or_insert_with(|| state.to_owned())),
            "now" => {
                truth.touched.insert(path.clone(), at);
                truth.now.insert(path, state.to_owned());
            }
            "log" => drop(truth.logs.entry(path).or_insert_with(|| unprinted(state))),
            _ => {}
        }
    }
    Ok(())
}

/// Base64, as `base64 -w0` writes it; what is no digit ends it.
fn unprinted(text: &str) -> Vec<u8> {
    let digits = text.bytes().map_while(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff).to_le_bytes()[0]);
        }
    }
    bytes
}

/// Processes of the twin that belong to the attack: in the intruder's session, or running (or interpreting) a file that the
/// attack made.
fn attackers_left(twin: &Twin, intruder: &Intruder) -> usize {
    let made: Vec<&HostPath> =
        intruder.truth.was.iter().filter(|(_, was)| *was == "absent").map(|(path, _)| path).collect();
    let belongs = |process: &ProcessLook| {
        let in_session = !intruder.group.is_empty() && process.group.ends_with(&intruder.group);
        in_session || process.words.iter().any(|word| made.iter().any(|path| path.as_bytes() == word.as_slice()))
    };
    processes(twin).iter().filter(|process| belongs(process)).count()
}

#[derive(Debug)]
struct ProcessLook {
    group: String,
    /// Its program and its arguments.
    words: Vec<Vec<u8>>,
    state: char,
}

fn processes(twin: &Twin) -> Vec<ProcessLook> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = Vec::new();
    let mut pending = vec![twin.cgroup()];
    while let Some(directory) = pending.pop() {
        let children = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        pending.extend(
            children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
        let pids = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let proc = Path::new("/proc").join(pid);
            let Ok(line) = std::fs::read(proc.join("cmdline")) else { continue };
            let mut words: Vec<Vec<u8>> = line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            words.extend(std::fs::read_link(proc.join("exe")).ok().map(|exe| exe.as_os_str().as_bytes().to_vec()));
            let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
            found.push(ProcessLook { group: directory.to_string_lossy().into_owned(), words, state });
        }
    }
    found
}

/// After everything: whoever is not the intruder must be able to go on.
fn harmed_since(twin: &Twin, cast: Cast<'_>) -> Result<Vec<(String, String)>> {
    let mut harmed = Vec::new();
    for process in processes(twin).iter().filter(|process| process.state == 'T') {
        let line = process.words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
        harmed.push(("a process is stopped".to_owned(), line));
    }
    for unit in &cast.plan.units {
        let state = twin.inside(&["systemctl", "is-active", unit])?;
        if state.trim() != "active" {
            harmed.push((format!("unit {unit}"), state.trim().to_owned()));
        }
    }
    for (actor, source) in [(Actor::Ops, "127.0.0.2"), (Actor::Alice, "127.0.0.3"), (Actor::Bob, "127.0.0.4")] {
        match Session::open(twin, cast.keys, actor.user(), source, "logged-in-again") {
            Ok(session) => session.close(),
            Err(Error::SessionEnded { user, why }) => harmed.push((format!("{user} cannot log in"), why)),
            Err(other) => return Err(other),
        }
    }
    Ok(harmed)
}

/// Asks for pages all the time, and gives the milliseconds in which none came.
fn visit(leader: u32, stop: &AtomicBool) -> Result<u64> {
    use crate::Doing;
    let path = format!("/proc/{leader}/ns/net");
    let namespace = std::fs::File::open(&path).doing("open", &path)?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&namespace),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .doing("enter", &path)?;
    let mut down = Duration::ZERO;
    let mut failing: Option<Instant> = None;
    while !stop.load(Ordering::SeqCst) {
        interrupt::check()?;
        match (page_comes(), failing) {
            (true, Some(since)) => {
                down += since.elapsed();
                failing = None;
            }
            (true, None) => {}
            (false, since) => failing = since.or_else(|| Some(Instant::now())),
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    down += failing.map_or(Duration::ZERO, |since| since.elapsed());
    Ok(u64::try_from(down.as_millis()).unwrap_or(u64::MAX))
}

fn page_comes() -> bool {
    use std::io::{Read, Write};
    let limit = Duration::from_secs(2);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, limit) else { return false };
    let mut answer = [0u8; 15];
    stream.set_read_timeout(Some(limit)).is_ok()
        && stream.write_all(b"GET / HTTP/1.0\r\nHost: shop\r\n\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}

/// `CLOCK_BOOTTIME`, as the agent's times.
fn boot_clock_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

fn report(
    scenario: &Scenario,
    seed: u64,
    placement: Placement,
    plan: &Plan,
    played: Played,
    findings: Findings,
    benign_changes: usize,
) -> Report {
    let confirmed: Vec<&Incident> = played.incidents.iter().filter(|incident| incident.confirmed).collect();
    let main = confirmed.iter().max_by_key(|incident| incident.objects.len());
    let truth = &played.truth;
    let tampered = truth.tampered();
    let steps = || plan.attack_user.iter().chain(&plan.attack_root);
    let in_scope: BTreeSet<&String> = steps().flat_map(|step| step.paths.iter().chain(&step.logs)).collect();
    let techniques: BTreeSet<&str> = steps().filter_map(|step| step.technique).collect();
    let all_findings = || played.incidents.iter().flat_map(|incident| &incident.findings);
    let named: BTreeSet<&HostPath> =
        confirmed.iter().flat_map(|incident| &incident.objects).map(|object| &object.path).collect();
    let hit = named.iter().filter(|path| tampered.contains(**path)).count();
    let first = all_findings().map(|finding| finding.time.0).filter(|time| *time >= played.began_ns).min();
    let ms = |from: u64, to: u64| to.saturating_sub(from) / 1_000_000;
    let contained = main.and_then(|incident| incident.contained);
    let root_rank = main.and_then(|incident| {
        let is_true = |root: &thymus_engine::incident::Root| {
            root.src_endpoint.as_ref().is_some_and(|endpoint| endpoint.ip.to_string() == plan.source)
        };
        incident.roots.iter().position(is_true).map(|at| at + 1)
    });
    let actions: Vec<ActionLine> = played.incidents.iter().flat_map(|incident| &incident.actions).map(line).collect();
    let shown = played.incidents.iter().flat_map(|incident| &incident.actions);
    let shown = shown.filter(|action| action.verdict.decision != Decision::Permit && action.outcome.is_none()).count();
    let counter = |name: &str| played.counters.get(name).copied().unwrap_or(0);
    let mut why: Vec<String> = played.unsettled.into_iter().collect();
    why.extend(
        confirmed
            .iter()
            .filter(|incident| incident.stage != thymus_engine::Stage::Healed)
            .map(|incident| format!("incident {} is {:?}: {}", incident.id, incident.stage, incident.why)),
    );
    why.extend(played.harmed.iter().map(|(what, how)| format!("{what}: {how}")));
    Report {
        scenario: scenario.name.to_owned(),
        techniques: techniques.into_iter().map(str::to_owned).collect(),
        seed,
        agent: placement,
        stage: stage(scenario, &played.incidents, &confirmed, actions.is_empty()),
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
        reach_precision: ratio(hit, named.len()),
        reach_recall: ratio(hit, tampered.len()),
        objects_in_scope: in_scope.len(),
        objects_tampered_at_containment: contained.map(|contained| {
            truth.touched.iter().filter(|(path, at)| **at <= contained.0 && tampered.contains(*path)).count()
        }),
        objects_tampered: tampered.len(),
        objects_restored_exactly: findings.restored_exactly.len(),
        objects_merged: findings.merged.len(),
        objects_shown: shown,
        residue: findings.residue.into_iter().collect(),
        attacker_processes_left: played.attackers_left,
        cleanup_oracle: CleanupOracle::None,
        benign_changes,
        benign_changes_lost: findings.benign_lost.into_iter().collect(),
        benign_processes_harmed: played.harmed.len(),
        service_downtime_ms: played.downtime_ms,
        bytes_lost: findings.bytes_lost,
        actions,
        events: counter("events"),
        events_lost: counter("events_lost"),
        noise: findings.noise.into_iter().collect(),
        noise_forbidden: findings.noise_forbidden.into_iter().collect(),
    }
}

/// For whoever looks into a report that does not hold: `THYMUS_DRILL_KEEP=DIR` keeps what the agent told, its log and
/// its journal.
fn keep(twin: &Twin, agent: &Agent<'_>, incidents: &[Incident]) {
    let Some(directory) = std::env::var_os("THYMUS_DRILL_KEEP").map(PathBuf::from) else { return };
    let kept = || -> std::io::Result<()> {
        std::fs::create_dir_all(directory.join("journal"))?;
        std::fs::write(directory.join("incidents.json"), serde_json::to_vec_pretty(incidents)?)?;
        for incident in incidents.iter().filter(|incident| incident.confirmed) {
            std::fs::write(directory.join(format!("explain-{}.txt", incident.id)), agent.explain(incident.id))?;
        }
        let outside = twin.directory().join("agent");
        let journal = if outside.is_dir() {
            std::fs::copy(outside.join("log"), directory.join("log"))?;
            outside.join("state/journal")
        } else {
            std::fs::write(directory.join("log"), agent.said())?;
            twin.root().join("var/lib/thymus/journal")
        };
        for entry in std::fs::read_dir(journal)? {
            let entry = entry?;
            std::fs::copy(entry.path(), directory.join("journal").join(entry.file_name()))?;
        }
        Ok(())
    };
    if let Err(error) = kept() {
        tracing::warn!(%error, "what the agent told could not be kept whole");
    }
}

/// The least that any confirmed incident has come to.
fn stage(scenario: &Scenario, incidents: &[Incident], confirmed: &[&Incident], idle: bool) -> Stage {
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
        None if scenario.benign && idle => Stage::Quiet,
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

fn line(record: &thymus_engine::incident::ActionRecord) -> ActionLine {
    let target = match &record.action {
        Action::SuspendProcesses { processes } | Action::TerminateProcesses { processes } => {
            format!("{} processes", processes.len())
        }
        Action::EndSession { leader, .. } => format!("session of process {}", leader.pid),
        Action::RestoreFile(restore) => restore.path.to_string(),
        Action::QuarantineFile { path, .. } => path.to_string(),
        Action::RemoveUnit { unit } | Action::ReloadService { unit } => unit.clone(),
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
        undone_ok: None,
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
