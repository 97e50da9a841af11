// SPDX-License-Identifier: Apache-2.0
//! One twin from its first login to the last word of its agent: attack, benign work, and what the agent is put through.

use crate::account;
use crate::agent::{Agent, Cost};
use crate::attached;
use crate::cast::{Cast, People, pause};
use crate::contest;
use crate::customers;
use crate::intruder::{Intruder, boot_clock_ns};
use crate::look::{attackers_left, harmed_since, while_visited};
use crate::oracle::Truth;
use crate::ordeal::{DEATHS, Death, Killer, Ordeal};
use crate::outside::{self, Outside};
use crate::random::Random;
use crate::report::Placement;
use crate::run::{Options, RespondAfter};
use crate::scenario::{Fault, Knocks, Web};
use crate::session::{Session, Way};
use crate::storm::{self, Stormed};
use crate::twin::{Confinement, Twin};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thymus_engine::action::{Action, Outcome};
use thymus_engine::incident::{ActionRecord, Decision};
use thymus_engine::{HostPath, Incident};

/// LIMIT: from the end of everybody's work until every incident is settled.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// LIMIT: the same while the agent is killed over and over.
const ORDEAL_LIMIT: Duration = Duration::from_secs(1_800);
/// Between two looks at the agent.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A settled state must last so long to count.
const QUIET: Duration = Duration::from_secs(3);
/// With no confirmed incident for so long after everything, there will be none.
const UNDETECTED_AFTER: Duration = Duration::from_secs(12);
/// The same for a failure: a service that hangs is asked several times.
const UNNOTICED_AFTER: Duration = Duration::from_secs(45);
/// LIMIT: one step of a fault.
const FAULT_LIMIT: Duration = Duration::from_secs(60);

/// What was seen of one attacked (or merely busy) twin.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) truth: Truth,
    /// When the intruder took the first step, boot clock, nanoseconds.
    pub(crate) began_ns: u64,
    pub(crate) harmed: Vec<(String, String)>,
    /// Questions that a person approved.
    pub(crate) approved: usize,
    pub(crate) downtime_ms: u64,
    pub(crate) attackers_left: usize,
    pub(crate) incidents: Vec<Incident>,
    pub(crate) counters: BTreeMap<String, u64>,
    /// The agent's decoys on the twin's disk.
    pub(crate) decoys: BTreeSet<HostPath>,
    pub(crate) unsettled: Option<String>,
    /// What the agent has attached to the kernel that could deny or change something outside of the twin.
    pub(crate) attached_elsewhere: Vec<String>,
    pub(crate) cost: Cost,
    /// Steps before which the agent was killed, and how often.
    pub(crate) killed_before: BTreeMap<String, u32>,
    /// The disk just before the agent was let act, and when all was settled: kept if everything is undone afterwards.
    pub(crate) photographs: Option<Photographs>,
    pub(crate) storm: Option<Stormed>,
}

/// Copies of a twin's disk, by the directories that they are mounted at.
#[derive(Debug)]
pub(crate) struct Photographs {
    pub(crate) attacked: PathBuf,
    pub(crate) healed: PathBuf,
}

/// Where a drill takes place, and how.
pub(crate) struct Place<'a> {
    pub(crate) twin: &'a mut Twin,
    pub(crate) placement: Placement,
    pub(crate) confinement: Confinement,
    pub(crate) options: &'a Options,
    pub(crate) outside: Option<&'a Outside>,
}

pub(crate) fn play(place: Place<'_>, cast: Cast<'_>) -> Result<Played> {
    let Place { twin, placement, confinement, options, outside } = place;
    let mut agent = Agent::start(twin, placement, &options.thymus, cast.plan)?;
    let held = options.respond_after == RespondAfter::AttackEnd || cast.plan.held;
    if let Some(agent) = agent.as_ref().filter(|_| held) {
        agent.hold()?;
    }
    let mut people = cast.people(twin)?;
    if let Some(relay) = cast.relay {
        relay.ready()?;
    }
    cast.jobs(twin)?;
    let mut intruder = Intruder::default();
    let mut played = Played { began_ns: boot_clock_ns(), ..Played::default() };
    let mut attacked = None;
    let (done, downtime) = while_visited(twin.leader(), || {
        played.harmed = work(twin, cast, &mut people, &mut intruder, outside)?;
        if let Some(fault) = &cast.plan.fault {
            played.began_ns = happen(twin, cast, fault, &mut intruder.truth)?;
        }
        let Some(agent) = &mut agent else { return Ok(()) };
        if let Some(storm) = cast.plan.storm {
            played.storm = Some(storm::rage(twin, cast, storm, agent)?);
            return Ok(());
        }
        if held {
            attacked = Some(twin.photograph("attacked")?);
        }
        match options.ordeal.filter(|_| held) {
            None => {
                if held {
                    agent.release()?;
                }
                (played.unsettled, played.approved) = settle_with_answers(agent, cast)?;
            }
            Some(Ordeal::KillAgent) => {
                (played.unsettled, played.killed_before) = heal_in_many_lives(twin, agent, cast)?;
            }
            Some(Ordeal::KillOften) => {
                (played.unsettled, played.killed_before) = heal_in_spite_of_deaths(agent, cast)?;
            }
            // The rest is for the agent of the next boot.
            Some(Ordeal::CutPower) => begin_to_heal(agent, cast)?,
            Some(Ordeal::StaleEditor) => {
                people.open(&cast.plan.shared)?;
                agent.release()?;
                played.unsettled = settle(agent, cast)?;
                people.save(&cast.plan.shared)?;
                (cast.tell)("  the administrator saves what he had opened before it was put in order");
                played.unsettled = played.unsettled.take().or(settle(agent, cast)?);
            }
        }
        Ok(())
    });
    done?;
    played.downtime_ms = downtime?;
    if held && options.ordeal == Some(Ordeal::CutPower) {
        drop(agent);
        (cast.tell)("  the power is cut in the middle of it; the twin boots from what its disk has");
        twin.cut_power()?;
        intruder.forget_session();
        twin.boot(confinement)?;
        agent = Agent::start(twin, placement, &options.thymus, cast.plan)?;
        if let Some(agent) = &agent {
            played.unsettled = settle(agent, cast)?;
        }
    }
    if let (Some(agent), Some(contest)) = (&agent, &cast.plan.contest) {
        played.harmed.extend(contest::settled(twin, agent, cast, contest)?);
    }
    if let Some(record) = &cast.plan.record {
        intruder.read_record(twin, record);
        if cast.plan.from_before {
            intruder.take_from_record(cast.plan);
            played.began_ns = intruder.began();
        }
    }
    let told = agent.as_ref().map(Agent::incidents).transpose();
    // Whoever did not settle may not answer either: then the report says why.
    let told = if played.unsettled.is_some() { told.unwrap_or_default() } else { told? };
    if let (Some(agent), Some(incidents)) = (&agent, told) {
        played.incidents = incidents;
        let next = if cast.plan.from_before { "-next" } else { "" };
        agent.keep(&format!("{}{next}", cast.seed), &played.incidents);
        played.decoys = agent.decoys();
        played.counters = agent.status()?.counters;
        played.cost = agent.cost();
        if let Some(process) = agent.process() {
            played.attached_elsewhere = attached::elsewhere(process, twin)?;
        }
    }
    played.attackers_left = attackers_left(twin, &intruder);
    played.harmed.extend(harmed_since(twin, cast)?);
    if let (Some(outside), Some(web)) = (outside, &cast.plan.web) {
        played.harmed.extend(customers::once_more(outside));
        if agent.is_some() {
            let sent = !intruder.secrets.is_empty();
            played.harmed.extend(still_called(twin, web, sent, &played.incidents));
        }
    }
    if agent.is_some() {
        played.harmed.extend(not_listed(&intruder.secrets, &played.incidents));
        played.harmed.extend(not_named(&intruder, cast, &played.incidents));
        let came = !cast.plan.from_before || !intruder.truth.now.is_empty();
        if options.ordeal.is_none() && came {
            played.harmed.extend(not_told(cast, &played.incidents));
        }
    }
    if let (Some(outside), Some(knocks)) = (outside, &cast.plan.knocks) {
        played.harmed.extend(still_lets_in(twin, cast, outside, knocks, &played.incidents)?);
        if let Some(agent) = agent.as_ref().filter(|_| played.unsettled.is_none()) {
            played.harmed.extend(account::locked_and_unlocked(twin, agent, cast, outside)?);
        }
    }
    people.leave();
    intruder.leave();
    played.truth = intruder.truth;
    // They are the agent's own, not anybody's loss.
    played.truth.forget(&played.decoys);
    if let (Some(agent), Some(attacked)) = (agent.filter(|_| options.undo), attacked) {
        played.photographs = Some(Photographs { attacked, healed: twin.photograph("healed")? });
        undo(&agent, cast, &played.incidents)?;
    }
    Ok(played)
}

/// Secrets that were read and that the agent does not say so of.
fn not_listed(read: &[String], incidents: &[Incident]) -> Vec<(String, String)> {
    let confirmed = incidents.iter().filter(|incident| incident.confirmed);
    let listed: BTreeSet<String> =
        confirmed.flat_map(|incident| &incident.secrets).map(|secret| secret.path.to_string()).collect();
    let missing = read.iter().filter(|path| !listed.contains(*path));
    missing.map(|path| ("a secret that was read".to_owned(), format!("{path} is not listed"))).collect()
}

/// Of who came from outside, what sshd or nginx wrote when he did must stand beside what the kernel saw.
fn not_told(cast: Cast<'_>, incidents: &[Incident]) -> Option<(String, String)> {
    let parser = match (&cast.plan.knocks, &cast.plan.web) {
        (Some(_), _) => "sshd",
        (None, Some(_)) => "nginx",
        (None, None) if cast.plan.from_before => "sshd",
        (None, None) => return None,
    };
    let from = format!(" {}", cast.plan.source);
    let confirmed = incidents.iter().filter(|incident| incident.confirmed);
    let mut lines = confirmed.flat_map(|incident| &incident.hearsay);
    let told = lines.any(|line| line.heard.parser == parser && line.about.ends_with(&from));
    (!told).then(|| (format!("what {parser} wrote"), format!("of{from} is not told")))
}

/// Steps that were taken to their end and that the agent has no word for, or that changed nothing: then the drill shows nothing.
fn not_named(intruder: &Intruder, cast: Cast<'_>, incidents: &[Incident]) -> Vec<(String, String)> {
    let findings = incidents.iter().filter(|incident| incident.confirmed).flat_map(|incident| &incident.findings);
    let found: BTreeSet<&str> = findings.map(|finding| finding.technique.as_str()).collect();
    let tampered = intruder.truth.tampered();
    let mut wrong = Vec::new();
    for step in intruder.taken.iter().filter(|_| !cast.plan.named.is_empty()) {
        let technique = step.technique.unwrap_or_default();
        if cast.plan.named.contains(&technique) && !found.contains(technique) {
            wrong.push((step.title.clone(), format!("{technique} is not among what was found")));
        }
        for path in step.paths.iter().filter(|path| !tampered.contains(&HostPath::from(path.as_str()))) {
            wrong.push((step.title.clone(), format!("{path} was not changed by it")));
        }
    }
    wrong
}

/// Addresses that the agent says it blocked.
pub(crate) fn blocked(incidents: &[Incident]) -> BTreeSet<std::net::IpAddr> {
    let done = |record: &&ActionRecord| record.outcome == Some(Outcome::Success);
    let blocked = |record: &ActionRecord| match record.action {
        Action::FilterTraffic { address, .. } => Some(address),
        _ => None,
    };
    incidents.iter().flat_map(|incident| &incident.actions).filter(done).filter_map(blocked).collect()
}

/// Where the intruder came from is shut out, with a key that fits; a neighbour of theirs is let in as before.
fn still_lets_in(
    twin: &Twin,
    cast: Cast<'_>,
    outside: &Outside,
    knocks: &Knocks,
    incidents: &[Incident],
) -> Result<Vec<(String, String)>> {
    let mut harmed = Vec::new();
    let target = outside::TWIN.to_string();
    let (blocked, neighbour) = (knocks.source.to_string(), outside::host(9).to_string());
    let lets_in = |source: &str| {
        let way = Way { network: outside.process(), source, target: &target };
        way.knock(twin, &cast.keys.private("ops"), "ops")
    };
    if !self::blocked(incidents).contains(&knocks.source.into()) {
        harmed.push(("the intruder's address".to_owned(), format!("{blocked} is not blocked")));
    } else if lets_in(&blocked)? {
        harmed.push(("an address that is blocked".to_owned(), format!("{blocked} is let in")));
    }
    if !lets_in(&neighbour)? {
        harmed.push(("the administrator".to_owned(), format!("is not let in from {neighbour}")));
    }
    Ok(harmed)
}

/// Hosts outside that the agent says are not called any more, and that can be called; and the one that secrets were sent to,
/// when it is not blocked.
fn still_called(twin: &Twin, web: &Web, sent: bool, incidents: &[Incident]) -> Vec<(String, String)> {
    let blocked = blocked(incidents);
    let is_blocked = |address: &Ipv4Addr| blocked.contains(&(*address).into());
    let through = |(address, port): &(Ipv4Addr, u16)| is_blocked(address) && outside::can_call(twin, *address, *port);
    let called = web.called.iter().copied().filter(through);
    let mut harmed: Vec<(String, String)> = called
        .map(|(address, _)| ("an address that is blocked".to_owned(), format!("{address} can be called")))
        .collect();
    if sent && !is_blocked(&web.sent_to) {
        harmed.push(("where secrets were sent".to_owned(), format!("{} is not blocked", web.sent_to)));
    }
    harmed
}

/// What nobody means; gives the time at which it began.
fn happen(twin: &Twin, cast: Cast<'_>, fault: &Fault, truth: &mut Truth) -> Result<u64> {
    let mut began = None;
    for (actor, step) in &fault.steps {
        pause(step.pause)?;
        (cast.tell)(&format!("  {}", step.title));
        let at = *began.get_or_insert_with(boot_clock_ns);
        match actor {
            Some(actor) => {
                let mut session = Session::open(twin, cast.keys, actor.user(), "127.0.0.5", "his-mistake")?;
                let answer = session.run(&step.script, FAULT_LIMIT)?;
                if answer.status != 0 {
                    let why = format!("status {}: {}", answer.status, answer.lines.join(" | "));
                    return Err(Error::Benign { step: step.title.clone(), why });
                }
                session.close();
            }
            None => {
                let unit = ["systemd-run", "--wait", "--collect", "--quiet", "--pipe", "sh", "-c", &step.script];
                // A restart in it may fail, which is the point.
                if let Err(error) = twin.inside(&unit) {
                    tracing::debug!(%error, "an accident ended with an error");
                }
            }
        }
        for path in step.paths.iter().map(|path| HostPath::from(path.as_str())) {
            truth.was.insert(path.clone(), "whole".to_owned());
            truth.touched.insert(path.clone(), at);
            truth.now.insert(path, "broken".to_owned());
        }
    }
    Ok(began.unwrap_or_else(boot_clock_ns))
}

/// Everybody does what they came for, until the last of them is through.
fn work(
    twin: &Twin,
    cast: Cast<'_>,
    people: &mut People<'_>,
    intruder: &mut Intruder,
    outside: Option<&Outside>,
) -> Result<Vec<(String, String)>> {
    let (turn, over) = (Mutex::new(()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let customers = outside
            .filter(|_| cast.plan.web.is_some())
            .map(|outside| scope.spawn(|| customers::come(outside, cast.seed, &over)));
        let benign = scope.spawn(|| people.work(&turn, true));
        let attacked = intruder.attack(twin, cast, &turn, outside);
        if let Some(relay) = cast.relay.filter(|_| !cast.plan.from_before) {
            relay.is_over();
        }
        let worked = benign.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        over.store(true, Ordering::SeqCst);
        let come = customers.map(|come| come.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let mut harmed = attacked.and(worked)?;
        harmed.extend(come.unwrap_or_default());
        Ok(harmed)
    })
}

/// What the agent has come to.
enum Progress {
    Busy,
    /// Nothing has changed for long enough.
    Settled,
}

/// Follows an agent, and says what is new.
struct Follower<'a> {
    cast: Cast<'a>,
    begin: Instant,
    since: Instant,
    last: String,
    said: Vec<String>,
    open: Option<String>,
}

impl<'a> Follower<'a> {
    fn new(cast: Cast<'a>) -> Self {
        let now = Instant::now();
        Self { cast, begin: now, since: now, last: String::new(), said: Vec::new(), open: None }
    }

    fn look(&mut self, incidents: &[Incident]) -> Progress {
        let faulty = self.cast.plan.fault.is_some();
        let idle = !self.cast.plan.attacks() && !faulty;
        let undetected = if faulty { UNNOTICED_AFTER } else { UNDETECTED_AFTER };
        let confirmed: Vec<&Incident> = incidents.iter().filter(|incident| incident.confirmed).collect();
        let is_open = |incident: &&&Incident| {
            !matches!(incident.stage, thymus_engine::Stage::Healed | thymus_engine::Stage::Stuck)
        };
        let of = |one: &&Incident| format!("incident {} is {:?}: {}", one.id, one.stage, one.why);
        self.open = confirmed.iter().find(is_open).map(of);
        let now =
            confirmed.iter().map(|one| format!("{}{:?}{}", one.id, one.stage, one.actions.len())).collect::<String>();
        let lines: Vec<String> =
            confirmed.iter().map(|one| format!("  agent: incident {}: {:?}. {}", one.id, one.stage, one.why)).collect();
        for line in lines.iter().filter(|line| !self.said.contains(*line)) {
            (self.cast.tell)(line);
        }
        self.said = lines;
        if now != self.last || self.open.is_some() {
            self.last = now;
            self.since = Instant::now();
        }
        let nothing =
            confirmed.is_empty() && (idle && self.begin.elapsed() > QUIET || self.begin.elapsed() > undetected);
        let finished = !confirmed.is_empty() && self.open.is_none() && self.since.elapsed() > QUIET;
        if nothing || finished { Progress::Settled } else { Progress::Busy }
    }

    /// After `limit`: what is not finished.
    fn late(&self, limit: Duration) -> Option<String> {
        let open = self.open.clone().unwrap_or_default();
        (self.begin.elapsed() > limit).then(|| format!("not settled within {limit:?}; {open}"))
    }
}

/// Waits until the agent has finished with everything, and says what is not finished at the limit.
pub(crate) fn settle(agent: &Agent<'_>, cast: Cast<'_>) -> Result<Option<String>> {
    let mut follower = Follower::new(cast);
    loop {
        pause(LOOK_EVERY)?;
        if matches!(follower.look(&agent.incidents()?), Progress::Settled) {
            return Ok(None);
        }
        if let Some(late) = follower.late(SETTLE_LIMIT) {
            return Ok(Some(late));
        }
    }
}

/// The same; where the plan says so, a person approves what waits. Gives how often.
fn settle_with_answers(agent: &Agent<'_>, cast: Cast<'_>) -> Result<(Option<String>, usize)> {
    if !cast.plan.fault.as_ref().is_some_and(|fault| fault.asks) {
        return settle(agent, cast).map(|unsettled| (unsettled, 0));
    }
    let mut follower = Follower::new(cast);
    let mut approved = BTreeSet::new();
    loop {
        pause(LOOK_EVERY)?;
        let incidents = agent.incidents()?;
        let waits = |record: &&ActionRecord| record.verdict.decision == Decision::Ask && record.outcome.is_none();
        for record in incidents.iter().flat_map(|incident| &incident.actions).filter(waits) {
            if approved.insert(record.id) {
                (cast.tell)(&format!("  a person reads the question, and approves a{}", record.id));
                agent.approve(record.id)?;
                follower.since = Instant::now();
            }
        }
        if matches!(follower.look(&incidents), Progress::Settled) {
            return Ok((None, approved.len()));
        }
        if let Some(late) = follower.late(SETTLE_LIMIT) {
            return Ok((Some(late), approved.len()));
        }
    }
}

/// Lets the agent act, and comes back when it has finished some of its actions, but not all.
fn begin_to_heal(agent: &Agent<'_>, cast: Cast<'_>) -> Result<()> {
    let mut random = Random::new(cast.seed ^ 0x706f_7765_7221);
    let enough = usize::try_from(random.between(1, 25)).unwrap_or(1);
    agent.release()?;
    let begin = Instant::now();
    loop {
        let incidents = agent.incidents()?;
        let done = incidents.iter().flat_map(|incident| &incident.actions).filter(|action| action.outcome.is_some());
        let healed = incidents.iter().any(|incident| incident.stage == thymus_engine::Stage::Healed);
        if done.count() >= enough || healed || begin.elapsed() > SETTLE_LIMIT {
            return Ok(());
        }
        pause(Duration::from_millis(1))?;
    }
}

/// Kills the agent before one step of its heal, starts it again, and so on until a life comes to its goal.
fn heal_in_many_lives(
    twin: &Twin,
    agent: &mut Agent<'_>,
    cast: Cast<'_>,
) -> Result<(Option<String>, BTreeMap<String, u32>)> {
    let mut killed = BTreeMap::new();
    let mut released = false;
    let begin = Instant::now();
    for life in 0.. {
        let death = Death::of(life);
        let mut killer = None;
        let mut follower = Follower::new(cast);
        loop {
            if killer.is_none()
                && let Some(process) = agent.process()
            {
                killer = Some(Killer::set(twin, process, death)?);
            }
            if killer.as_ref().is_some_and(Killer::struck) || killer.is_some() && agent.process().is_none() {
                break;
            }
            released = released || killer.as_ref().is_some_and(Killer::waits) && agent.release().is_ok();
            // It may not answer yet, or not any more.
            let progress = agent.incidents().map_or(Progress::Busy, |incidents| follower.look(&incidents));
            if released && matches!(progress, Progress::Settled) {
                // It may strike at the last moment.
                if killer.take().is_none_or(Killer::leave) {
                    return Ok((None, killed));
                }
                break;
            }
            if let Some(late) = follower.late(SETTLE_LIMIT) {
                return Ok((Some(format!("{late}; in life {life}; it said: {}", agent.said())), killed));
            }
            pause(Duration::from_millis(20))?;
        }
        let step = killer.as_ref().map_or_else(|| "its end".to_owned(), Killer::step);
        drop(killer);
        (cast.tell)(&format!("  the agent is killed before {step}, and started again"));
        *killed.entry(step).or_default() += 1;
        if begin.elapsed() > ORDEAL_LIMIT {
            return Ok((Some(format!("not healed within {ORDEAL_LIMIT:?} and {} lives", life + 1)), killed));
        }
        agent.spawn()?;
    }
    Ok((None, killed))
}

/// Lets the agent act, and kills it some times at moments that it knows nothing of.
fn heal_in_spite_of_deaths(agent: &mut Agent<'_>, cast: Cast<'_>) -> Result<(Option<String>, BTreeMap<String, u32>)> {
    let mut random = Random::new(cast.seed ^ 0x6465_6174_6873_2121);
    let mut killed = BTreeMap::new();
    agent.release()?;
    for _ in 0..DEATHS {
        let begin = Instant::now();
        // Its heal goes on: something is contained, and not all is done. A fast one may be over before the last death.
        let (mut done, mut of) = (0, 0);
        while begin.elapsed() < SETTLE_LIMIT {
            let incidents = agent.incidents().unwrap_or_default();
            let of_incident =
                |incident: &Incident| incident.actions.iter().filter(|action| action.outcome.is_some()).count();
            (done, of) = (incidents.iter().map(of_incident).sum(), incidents.iter().map(|one| one.actions.len()).sum());
            if incidents.iter().any(|incident| incident.contained.is_some()) {
                break;
            }
            pause(Duration::from_millis(10))?;
        }
        pause(Duration::from_millis(random.between(5, 1_500)))?;
        let healed = agent.incidents().unwrap_or_default().iter().any(|one| one.stage == thymus_engine::Stage::Healed);
        agent.kill();
        let moment = if healed { "what was healed already" } else { "the end of its heal" };
        (cast.tell)(&format!("  the agent is killed before {moment}, {done} of {of} actions done, and started again"));
        *killed.entry(moment.to_owned()).or_default() += 1;
        agent.spawn()?;
    }
    Ok((settle_again(agent, cast)?, killed))
}

/// As [`settle`], of an agent that may not answer yet.
fn settle_again(agent: &Agent<'_>, cast: Cast<'_>) -> Result<Option<String>> {
    let mut follower = Follower::new(cast);
    loop {
        pause(LOOK_EVERY)?;
        let Ok(incidents) = agent.incidents() else {
            if let Some(late) = follower.late(SETTLE_LIMIT) {
                return Ok(Some(format!("{late}; it said: {}", agent.said())));
            }
            continue;
        };
        if matches!(follower.look(&incidents), Progress::Settled) {
            return Ok(None);
        }
        if let Some(late) = follower.late(SETTLE_LIMIT) {
            return Ok(Some(late));
        }
    }
}

/// Undoes every incident, newest first, and that twice: the second time has nothing to do.
fn undo(agent: &Agent<'_>, cast: Cast<'_>, incidents: &[Incident]) -> Result<()> {
    for incident in incidents.iter().rev().filter(|incident| !incident.actions.is_empty()) {
        (cast.tell)(&format!("  a person undoes incident {}", incident.id));
        agent.undo(incident.id)?;
        agent.undo(incident.id)?;
    }
    Ok(())
}
