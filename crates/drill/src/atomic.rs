// SPDX-License-Identifier: Apache-2.0
//! Tests of Atomic Red Team, taken as they are published, in twins without a network.
//!
//! Each test runs at most three times. Once with nobody watching, in a twin whose disk is compared before and after: what
//! differs is the truth; the test's own cleanup then serves as a second opinion. Once with an agent beside the twin and
//! people at work in it: what is left is compared with twins that only had the people. And, where the agent found it,
//! once by the named administrator: that must raise nothing.

mod others;
pub mod technique;
mod trial;
mod truth;

use crate::agent::Agent;
use crate::attached;
use crate::base::Disk;
use crate::cast::{Cast, pause};
use crate::hardening;
use crate::intruder::boot_clock_ns;
use crate::look;
use crate::oracle;
use crate::play;
use crate::random::Random;
use crate::report::{AtomicLine, Placement, Report, Stage};
use crate::run::{self, Tell};
use crate::scenario::Plan;
use crate::session::Keys;
use crate::snapshot::{self, Known, Snapshot};
use crate::twin::{Confinement, Twin};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use technique::{Test, Which};
use thymus_engine::path::HostPath;
use trial::{Taker, Who};
use truth::Truth;

/// Twins are booted beside each other by so many.
const WORKERS: usize = 2;
#[derive(Clone, Debug)]
pub struct Options {
    pub files: Vec<PathBuf>,
    pub which: Which,
    pub seed: u64,
    /// Without one, only what the tests do by themselves is shown.
    pub agent: bool,
    /// The program of the agent: `thymus` itself.
    pub thymus: PathBuf,
    /// See [`crate::base::cache`].
    pub cache: PathBuf,
}

/// What all tests of a run have in common.
struct Ground<'a> {
    disk: &'a Disk,
    options: &'a Options,
    plan: Plan,
    keys: Keys,
    /// What people change, with the content before anybody does anything.
    people: BTreeMap<HostPath, Vec<u8>>,
    /// Two twins in which only the people worked, and their disks.
    references: [(Twin, Snapshot); 2],
    /// A twin's disk when nobody has done anything in it.
    booted: Snapshot,
    /// What changes by itself.
    ambient: BTreeSet<HostPath>,
    known: Known,
    tell: Tell<'a>,
}

/// The tests that are meant; an error names the file and the place in it.
pub fn tests(options: &Options) -> Result<Vec<Test>> {
    let mut found = Vec::new();
    for path in &options.files {
        let tests = technique::read(path)?;
        let before = found.len();
        found.extend(tests.into_iter().filter(|test| test.is(&options.which)));
        if found.len() == before && options.which != Which::All && options.files.len() == 1 {
            let why = "has no such test for Linux".to_owned();
            return Err(Error::Atomic { path: path.clone(), why });
        }
    }
    if found.is_empty() && options.which != Which::All {
        return Err(Error::Atomic { path: PathBuf::from("FILE"), why: "no file has such a test for Linux".to_owned() });
    }
    Ok(found)
}

/// Runs tests, two at a time, and hands on each report as it comes. `Ok` says nothing about what the reports say.
pub fn run(options: &Options, tell: Tell<'_>, mut done: impl FnMut(&Report)) -> Result<()> {
    let tests = tests(options)?;
    let mut fit = VecDeque::new();
    for test in tests {
        match unfit(&test) {
            Some(why) => done(&not_applicable(options, &test, why)),
            None => fit.push_back((fit.len(), test)),
        }
    }
    if fit.is_empty() {
        return Ok(());
    }
    let disk = Disk::open(&options.cache)?;
    tell("proving that a twin cannot harm this machine");
    hardening::prove(&disk)?;
    tell("two reference twins, with people at work and no attack");
    let ground = Ground::make(&disk, options, tell)?;
    let queue = Mutex::new(fit);
    let (sender, reports) = mpsc::channel();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (ground, queue, sender) = (&ground, &queue, sender.clone());
            scope.spawn(move || {
                // The second begins a little later, so that both are not at the same kind of work all the time.
                let _ = pause(Duration::from_secs(3) * u32::try_from(worker).unwrap_or(0));
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((number, test)) = next else { return };
                    let report = match ground.one(&test, number) {
                        Err(Error::Interrupted) => Err(Error::Interrupted),
                        // The others can be run all the same.
                        Err(error) => Ok(broken(ground.options, &test, &error)),
                        ok => ok,
                    };
                    let over = report.is_err();
                    if sender.send(report).is_err() || over {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in reports {
            match report {
                Ok(report) => done(&report),
                Err(error) => {
                    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    })
}

/// Why no twin can run it, without a try.
fn unfit(test: &Test) -> Option<String> {
    if test.unfit.is_some() {
        return test.unfit.clone();
    }
    // What it requires is looked for in the twin.
    let wants = test.requirements.is_empty() && test.command.contains(technique::FOLDER);
    (wants && !trial::brings_something(&test.folder))
        .then(|| "requires: files of the technique that are not here".to_owned())
}

fn blank(options: &Options, test: &Test) -> Report {
    Report {
        scenario: test.title(),
        techniques: vec![test.technique.clone()],
        seed: options.seed,
        agent: if options.agent { Placement::Outside } else { Placement::None },
        atomic: Some(AtomicLine { guid: test.guid.clone(), name: test.name.clone(), ..AtomicLine::default() }),
        asked_rightly: true,
        ..Report::default()
    }
}

fn broken(options: &Options, test: &Test, error: &Error) -> Report {
    let mut report = blank(options, test);
    report.why = Some(format!("could not be run to its end: {error}"));
    if let Some(atomic) = &mut report.atomic {
        atomic.broken = true;
    }
    report
}

fn not_applicable(options: &Options, test: &Test, why: String) -> Report {
    Report { stage: Stage::NotApplicable, why: Some(why), ..blank(options, test) }
}

impl<'a> Ground<'a> {
    fn make(disk: &'a Disk, options: &'a Options, tell: Tell<'a>) -> Result<Self> {
        let plan = others::plan(&mut Random::new(options.seed));
        let mut first = Twin::new(disk, "first")?;
        let keys = Keys::make(&first.directory().join("keys"))?;
        let cast = Cast { plan: &plan, keys: &keys, seed: options.seed, tell, relay: None };
        let known = Known::of(&first.root())?;
        plant(&first, cast)?;
        let people = run::benign_paths(&plan, &first.root());
        let (one, two) = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                // In other seconds than the first, so that what depends on the time of day shows as noise.
                pause(Duration::from_millis(3_700))?;
                let mut second = Twin::new(disk, "second")?;
                plant(&second, cast)?;
                let (_, holds) = reference(&mut second, cast, &known)?;
                Ok::<_, Error>((second, holds))
            });
            let one = reference(&mut first, cast, &known);
            (one, other.join())
        });
        let ((booted, holds), second) = (one?, two.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        let mut ambient: BTreeSet<HostPath> = truth::differing(&booted, &holds);
        ambient.retain(|path| !people.contains_key(path));
        ambient.extend(truth::differing(&holds, &second.1).into_iter().filter(|path| !people.contains_key(path)));
        Ok(Self {
            disk,
            options,
            references: [(first, holds), second],
            people,
            booted,
            ambient,
            known,
            tell,
            keys,
            plan,
        })
    }

    fn cast(&self) -> Cast<'_> {
        Cast { plan: &self.plan, keys: &self.keys, seed: self.options.seed, tell: &silent, relay: None }
    }

    /// A booted twin; of `image`, else of the base.
    fn twin(&self, tag: &str, image: Option<&std::path::Path>, test: &Test) -> Result<Twin> {
        let mut twin = match image {
            Some(image) => Twin::like(self.disk, tag, image)?,
            None => {
                let twin = Twin::new(self.disk, tag)?;
                plant(&twin, self.cast())?;
                trial::bring(&twin, test)?;
                twin
            }
        };
        twin.boot(Confinement::UserNamespace)?;
        Ok(twin)
    }

    fn snapshot(&self, root: &std::path::Path) -> Result<Snapshot> {
        snapshot::take_knowing(root, &oracle::is_nobodys, &self.known)
    }

    fn one(&self, test: &Test, number: usize) -> Result<Report> {
        let begin = Instant::now();
        let say = |what: &str| (self.tell)(&format!("{} {}: {what}", test.title(), test.name));
        let mut twin = self.twin(&format!("{number}-truth"), None, test)?;
        if let Some(why) = trial::prepare(&twin, test)? {
            say("is not applicable");
            return Ok(not_applicable(self.options, test, why));
        }
        let prepared = (!test.requirements.is_empty()).then(|| twin.photograph("before")).transpose()?;
        let before = prepared.as_deref().map(|root| self.snapshot(root)).transpose()?;
        let truth = self.truth(&mut twin, test, before.as_ref().unwrap_or(&self.booted))?;
        if let Some(why) = truth.unfit() {
            say("is not applicable");
            return Ok(not_applicable(self.options, test, why));
        }
        if !self.options.agent {
            let mut report = blank(self.options, test);
            truth.note(&mut report);
            return Ok(report);
        }
        let image = prepared.map(|_| twin.photographed("before"));
        let mut report = self.guarded(test, number, image.as_deref(), before.as_ref(), &truth)?;
        let found = report.atomic.as_ref().is_some_and(|atomic| atomic.right_technique && atomic.right_process);
        if found {
            let raised = self.by_administrator(test, number, image.as_deref())?;
            if let Some(atomic) = &mut report.atomic {
                atomic.raised_by_administrator = Some(raised);
            }
        }
        say(&format!("{:?} after {} s", report.stage, begin.elapsed().as_secs()));
        Ok(report)
    }

    /// What the test does when nobody stops it, and what its cleanup makes of that.
    fn truth(&self, twin: &mut Twin, test: &Test, before: &Snapshot) -> Result<Truth> {
        let mut taker = Taker::come(twin, &self.keys, test, Who::Attacker)?;
        let logs = truth::logs(&twin.root());
        let came = taker.run(test, &test.command)?;
        let down = units_down(twin);
        let root = twin.photograph("after")?;
        let after = self.snapshot(&root)?;
        let cut = truth::cut(&logs, &root);
        let cleaned = match &test.cleanup {
            Some(cleanup) => {
                taker.run(test, cleanup)?;
                taker.leave();
                twin.halt()?;
                Some(self.snapshot(&twin.root())?)
            }
            None => {
                taker.leave();
                twin.halt()?;
                None
            }
        };
        Ok(Truth::of(before, &after, cleaned, &self.ambient, cut, down, came))
    }

    /// The same with an agent and people at work.
    fn guarded(
        &self,
        test: &Test,
        number: usize,
        image: Option<&std::path::Path>,
        before: Option<&Snapshot>,
        truth: &Truth,
    ) -> Result<Report> {
        let mut twin = self.twin(&format!("{number}-guarded"), image, test)?;
        if image.is_some() {
            // What it requires may be a process.
            trial::prepare(&twin, test)?;
        }
        let cast = self.cast();
        let agent = Agent::start(&twin, Placement::Outside, &self.options.thymus, &self.plan)?;
        let Some(agent) = agent else { return Ok(blank(self.options, test)) };
        let mut people = cast.people(&twin)?;
        // So that everything is done before anything is undone.
        agent.hold()?;
        let mut taker = Taker::come(&twin, &self.keys, test, Who::Attacker)?;
        let logs = truth::logs(&twin.root());
        let began = boot_clock_ns();
        let turn = Mutex::new(());
        let (worked, came) = std::thread::scope(|scope| {
            let worked = scope.spawn(|| people.work(&turn, false));
            let came = taker.run(test, &test.command);
            (worked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), came)
        });
        let mut harmed = worked?;
        came?;
        agent.release()?;
        let unsettled = play::settle(&agent, cast)?;
        let incidents = agent.incidents()?;
        agent.keep(&test.title(), &incidents);
        let status = agent.status()?;
        let cost = agent.cost();
        let elsewhere = agent.process().map(|process| attached::elsewhere(process, &twin)).transpose()?;
        // What the test itself stops is not the agent's doing.
        let since = look::harmed_since(&twin, cast)?;
        let by_test = |what: &str| truth.down.iter().any(|unit| what == format!("unit {unit}"));
        let by_test = |what: &str| by_test(what) || truth.down.contains("nginx") && what.starts_with("no page");
        harmed.extend(since.into_iter().filter(|(what, _)| !by_test(what)));
        people.leave();
        taker.leave();
        drop(agent);
        twin.halt()?;

        let holds = self.snapshot(&twin.root())?;
        let prepared = before.map(|before| truth::differing(&self.booted, before)).unwrap_or_default();
        let overlaid = |(_, holds): &(Twin, Snapshot)| {
            let mut holds = holds.clone();
            for path in prepared.iter().filter(|path| !self.ambient.contains(*path)) {
                match before.and_then(|before| before.get(path)) {
                    Some(entry) => drop(holds.insert(path.clone(), entry.clone())),
                    None => drop(holds.remove(path)),
                }
            }
            holds
        };
        let [one, two] = self.references.each_ref().map(overlaid);
        let roots = self.references.each_ref().map(|(twin, _)| twin.root());
        let findings = oracle::judge(
            oracle::Disk { holds: &holds, root: &twin.root() },
            [oracle::Disk { holds: &one, root: &roots[0] }, oracle::Disk { holds: &two, root: &roots[1] }],
            &truth.for_oracle(&logs),
            &self.people,
            &BTreeSet::new(),
        );
        let mut report = blank(self.options, test);
        truth.note(&mut report);
        report.why = unsettled.or_else(|| (!harmed.is_empty()).then(|| words(&harmed)));
        report.events = status.counters.get("events").copied().unwrap_or(0);
        report.events_lost = status.counters.get("events_lost").copied().unwrap_or(0);
        report.agent_ready_ms = cost.ready_ms;
        report.agent_memory_peak = cost.memory_peak;
        report.agent_cpu_ms = cost.cpu_ms;
        report.attached_elsewhere = elsewhere.unwrap_or_default();
        report.benign_changes = self.people.len();
        report.benign_processes_harmed = harmed.len();
        report.cleanup_oracle = truth.second_opinion(&holds);
        truth::found(&mut report, test, &incidents, began);
        truth::left(&mut report, truth, findings);
        Ok(report)
    }

    /// Whether the named administrator, who does the same, raises anything about it.
    fn by_administrator(&self, test: &Test, number: usize, image: Option<&std::path::Path>) -> Result<bool> {
        let twin = self.twin(&format!("{number}-sister"), image, test)?;
        if image.is_some() {
            trial::prepare(&twin, test)?;
        }
        let agent = Agent::start(&twin, Placement::Outside, &self.options.thymus, &self.plan)?;
        let Some(agent) = agent else { return Ok(false) };
        let mut taker = Taker::come(&twin, &self.keys, test, Who::Administrator)?;
        taker.run(test, &test.command)?;
        play::settle(&agent, self.cast())?;
        let incidents = agent.incidents()?;
        agent.keep(&format!("{}-administrator", test.title()), &incidents);
        taker.leave();
        Ok(truth::raised(test, &incidents))
    }
}

/// Units of the base that are not active; `None`: the twin is off, or about to be.
fn units_down(twin: &Twin) -> Option<BTreeSet<String>> {
    let state = twin.inside(&["systemctl", "is-system-running"]).ok()?;
    if matches!(state.trim(), "" | "stopping" | "offline") {
        return None;
    }
    let mut down = BTreeSet::new();
    for unit in crate::scenario::units() {
        if twin.inside(&["systemctl", "is-active", &unit]).ok()?.trim() != "active" {
            down.insert(unit);
        }
    }
    Some(down)
}

fn plant(twin: &Twin, cast: Cast<'_>) -> Result<()> {
    cast.plant(twin)?;
    cast.keys.plant_for_root(twin)
}

/// Boots a planted twin and lets the people work; its disk before and after.
fn reference(twin: &mut Twin, cast: Cast<'_>, known: &Known) -> Result<(Snapshot, Snapshot)> {
    twin.boot(Confinement::UserNamespace)?;
    let root = twin.photograph("booted")?;
    let booted = snapshot::take_knowing(&root, &oracle::is_nobodys, known)?;
    let mut people = cast.people(twin)?;
    if let Some((step, why)) = people.work(&Mutex::new(()), false)?.into_iter().next() {
        return Err(Error::Benign { step, why });
    }
    people.leave();
    twin.halt()?;
    Ok((booted, snapshot::take_knowing(&twin.root(), &oracle::is_nobodys, known)?))
}

/// Two tests at a time: what their agents say would be told in one.
fn silent(_: &str) {}

fn words(harmed: &[(String, String)]) -> String {
    harmed.iter().map(|(what, how)| format!("{what}: {how}")).collect::<Vec<_>>().join("; ")
}
