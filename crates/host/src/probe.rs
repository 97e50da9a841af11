// SPDX-License-Identifier: Apache-2.0
//! Asks services, and what they live from, how they are; in a thread of its own, so that nobody waits for an answer.
//!
//! Input: what is declared, and what is learned from the service manager and the kernel's sockets. Output: [`Health`], when
//! it differs from the last answer, and each time while something is not well. Every question has a deadline and is asked
//! inside the scope; nothing here changes anything.

mod learn;

use crate::glob;
use crate::inventory::below::{Below, FILE_BYTES_MAX};
use crate::package::{Dpkg, Merged, Remembered};
use crate::recover::remedy::{Remedies, Test};
use crate::scope::Scope;
use crate::sense;
use crate::system::supervise::Supervisor;
use crate::system::{Probe, Ran, room, services};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thymus_engine::action::Packaged;
use thymus_engine::event::FileKind;
use thymus_engine::health::{
    Certificate, Disk, FREEABLE_MAX, Firewall, Health, LOG_LINE_BYTES_MAX, LOG_LINES_MAX, Service, WATCHES_MAX,
};
use thymus_engine::input::Check;
use thymus_engine::{HostPath, Timestamp};

/// LIMIT: units asked about.
pub const UNITS_MAX: usize = 128;
/// LIMIT: programs remembered as having been there.
const PROGRAMS_MAX: usize = 8 * UNITS_MAX;
/// LIMIT: entries looked at for one glob of files that may be freed.
const FREEABLE_LOOKS_MAX: usize = 4_096;
/// Between two rounds, while all is well and while something is not.
const CALM: Duration = Duration::from_secs(2);
const ALERT: Duration = Duration::from_millis(500);
/// What was not well is told about for so long after it is.
const AFTER: Duration = Duration::from_secs(60);
/// Between two looks for services to learn, and at what changes slowly.
const LEARN_EVERY: Duration = Duration::from_secs(60);
const SLOW_EVERY: Duration = Duration::from_secs(4);
/// Between two looks at what a service that is not well should have of its packages; what those need is looked at too when
/// it has not been well for so long.
const PACKAGES_EVERY: Duration = Duration::from_secs(5);
const NEEDED_AFTER: Duration = Duration::from_secs(12);
/// Who answers later than that does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(2);
const SHOW_LIMIT: Duration = Duration::from_secs(10);
const TEST_LIMIT: Duration = Duration::from_secs(20);

/// One unit that is declared.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub unit: String,
    pub probes: Vec<Probe>,
    /// A command that exits with 0 when the service is well.
    pub command: Vec<String>,
    /// Files and trees that it is configured by.
    pub configuration: Vec<HostPath>,
}

/// Lines of a supervised service's log are looked for in so many bytes at its end.
const LOG_TAIL_BYTES: u64 = 8 << 10;

/// What is declared about one certificate.
#[derive(Clone, Debug)]
pub struct Shown {
    pub path: HostPath,
    pub unit: String,
    /// Port on the scope's loopback at which it is shown.
    pub port: u16,
}

/// All that is asked about.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    pub services: Vec<Wanted>,
    /// Services that run and listen are learned.
    pub learn: bool,
    /// File systems, by a directory of theirs; and how many bytes must be left.
    pub disks: Vec<HostPath>,
    pub least_bytes: u64,
    /// The file that the packet filter is loaded from.
    pub firewall: Option<HostPath>,
    pub certificates: Vec<Shown>,
    pub remedies: Remedies,
    /// Directories in which archives of packages may lie.
    pub archives: Vec<HostPath>,
    /// Services that no service manager knows.
    pub supervisor: Supervisor,
}

/// What was found, and when the look began: of what was done later it says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub since: Timestamp,
    pub health: Health,
}

/// Asks round after round until `stop`. `offer` must not wait; false: there was no room, it is told again next time.
pub fn run(scope: &Scope, questions: &Questions, stop: &AtomicBool, offer: &dyn Fn(Answer) -> bool) {
    let mut prober = Prober {
        scope,
        questions,
        learned: BTreeMap::new(),
        known: BTreeMap::new(),
        programs: BTreeSet::new(),
        merged: Merged::read(&Below::new(scope, Instant::now() + SHOW_LIMIT)),
        packages: BTreeMap::new(),
        remembered: Remembered::default(),
        last: BTreeMap::new(),
    };
    let (mut learned, mut slow) = (None::<Instant>, None::<Instant>);
    while !stop.load(Ordering::Relaxed) {
        let due = |last: Option<Instant>, every| last.is_none_or(|last: Instant| last.elapsed() >= every);
        if questions.learn && due(learned, LEARN_EVERY) {
            prober.learn();
            learned = Some(Instant::now());
        }
        let since = sense::now();
        let mut found = prober.disks();
        if due(slow, SLOW_EVERY) || prober.is_alert() {
            found.extend(prober.firewall());
            found.extend(prober.certificates());
            slow = Some(Instant::now());
        }
        found.extend(prober.services());
        for health in found {
            prober.tell(health, &|health| offer(Answer { since, health }));
        }
        let until = Instant::now() + if prober.is_alert() { ALERT } else { CALM };
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

struct Prober<'a> {
    scope: &'a Scope,
    questions: &'a Questions,
    learned: BTreeMap<String, Wanted>,
    /// What each unit was made of when it was last well.
    known: BTreeMap<String, Vec<HostPath>>,
    /// Programs that were there once.
    programs: BTreeSet<HostPath>,
    merged: Merged,
    /// Of units that are not well: since when, when it was last looked, and what was found.
    packages: BTreeMap<String, Looked>,
    remembered: Remembered,
    last: BTreeMap<String, Told>,
}

struct Looked {
    unwell: Instant,
    last: Instant,
    found: Vec<Packaged>,
}

struct Told {
    health: Health,
    unwell: Option<Instant>,
}

fn is_well(health: &Health) -> bool {
    match health {
        Health::Service(service) => {
            matches!(service.active.as_str(), "active" | "inactive")
                && service.probes.iter().all(|probe| probe.holds)
                && service.missing.is_empty()
        }
        Health::Disk(disk) => disk.free_bytes >= disk.least_bytes,
        Health::Firewall(firewall) => firewall.rules > 0 || firewall.wanted == 0,
        Health::Certificate(certificate) => certificate.shown_expired == Some(false),
    }
}

/// Whether it says something new; how much room there is changes all the time.
fn differs(one: &Health, other: &Health) -> bool {
    match (one, other) {
        (Health::Disk(_), Health::Disk(_)) => is_well(one) != is_well(other),
        _ => one != other,
    }
}

impl Prober<'_> {
    fn is_alert(&self) -> bool {
        self.last.values().any(|told| told.unwell.is_some_and(|unwell| unwell.elapsed() < AFTER))
    }

    fn tell(&mut self, health: Health, offer: &dyn Fn(Health) -> bool) {
        let name = health.name();
        let before = self.last.get(&name);
        let unwell = match is_well(&health) {
            false => Some(Instant::now()),
            true => before.and_then(|told| told.unwell).filter(|unwell| unwell.elapsed() < AFTER),
        };
        let news = before.is_none_or(|told| differs(&told.health, &health));
        if (news || unwell.is_some()) && !offer(health.clone()) {
            self.last.remove(&name); // told again next time
            return;
        }
        self.last.insert(name, Told { health, unwell });
    }

    // ---- services ----

    fn learn(&mut self) {
        let declared: BTreeSet<&str> = self.questions.services.iter().map(|wanted| wanted.unit.as_str()).collect();
        for wanted in learn::running(self.scope) {
            if self.learned.len() + declared.len() < UNITS_MAX && !declared.contains(wanted.unit.as_str()) {
                self.learned.insert(wanted.unit.clone(), wanted);
            }
        }
    }

    fn services(&mut self) -> Vec<Health> {
        let declared = self.questions.services.iter().map(|wanted| (wanted.clone(), true));
        let all: Vec<(Wanted, bool)> =
            declared.chain(self.learned.values().map(|wanted| (wanted.clone(), false))).take(UNITS_MAX).collect();
        let (own, all): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(wanted, _)| self.questions.supervisor.of(&wanted.unit).is_some());
        let mut found = Vec::new();
        for (wanted, declared) in &own {
            match self.supervised(&wanted.unit) {
                Ok(state) => found.push(Health::Service(Box::new(self.service(wanted, *declared, &state)))),
                Err(error) => tracing::debug!(error = error.in_words(), "processes could not be looked at"),
            }
        }
        let units: Vec<&str> = all.iter().map(|(wanted, _)| wanted.unit.as_str()).collect();
        if units.is_empty() {
            return found;
        }
        let states = match show(self.scope, &units) {
            Ok(states) => states,
            Err(error) => {
                tracing::debug!(error = error.in_words(), "the service manager did not answer");
                return found;
            }
        };
        for ((wanted, declared), state) in all.iter().zip(states) {
            if state.load == "not-found" && !self.known.contains_key(&wanted.unit) {
                continue; // it was never there
            }
            found.push(Health::Service(Box::new(self.service(wanted, *declared, &state))));
        }
        found
    }

    /// As a service manager would say it of what is supervised here.
    fn supervised(&self, unit: &str) -> crate::system::Result<State> {
        let supervisor = &self.questions.supervisor;
        let process = supervisor.process(self.scope, unit)?;
        let command = supervisor.of(unit).map(|declared| declared.command.as_slice()).unwrap_or_default();
        let (active, sub, result) = match process {
            Some(_) => ("active", "running", "success"),
            None => ("failed", "failed", "gone"),
        };
        Ok(State {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            result: result.to_owned(),
            // Differs with each process.
            turn: process.map_or(0, |process| process.key.start_time.0 ^ u64::from(process.key.pid)),
            programs: named_programs(command.first().map(String::as_str), command.iter().skip(1).map(String::as_str)),
            ..State::default()
        })
    }

    fn service(&mut self, wanted: &Wanted, declared: bool, state: &State) -> Service {
        let mut service = Service {
            unit: wanted.unit.clone(),
            declared,
            active: state.active.clone(),
            sub: state.sub.clone(),
            result: state.result.clone(),
            status: state.status,
            restarts: state.restarts,
            turn: state.turn,
            ..Service::default()
        };
        let root = self.scope.root();
        let there: Vec<HostPath> = state.programs.iter().filter(|path| room::exists(root, path)).cloned().collect();
        let room = PROGRAMS_MAX.saturating_sub(self.programs.len());
        self.programs.extend(there.into_iter().take(room));
        service.missing = state
            .programs
            .iter()
            .filter(|path| self.programs.contains(*path) && !room::exists(root, path))
            .map(|path| self.merged.canonical(path))
            .collect();
        let made_of = state.programs.iter().chain(&state.files).chain(&wanted.configuration);
        let mut watches: Vec<HostPath> = made_of.map(|path| self.merged.canonical(path)).collect();
        watches.dedup();
        watches.truncate(WATCHES_MAX);
        self.known.insert(wanted.unit.clone(), watches.clone());
        service.watches = watches;
        if state.active == "active" {
            service.probes.extend(wanted.probes.iter().map(|probe| self.ask(probe)));
            if !wanted.command.is_empty() {
                service.probes.push(self.command(&wanted.command));
            }
        }
        if !is_well(&Health::Service(Box::new(service.clone()))) {
            service.test = self.questions.remedies.tests.get(&wanted.unit).and_then(|test| self.test(test));
            service.log = self.log(&wanted.unit);
            service.packaged = self.packaged(&wanted.unit, &service.watches);
        } else {
            self.packages.remove(&wanted.unit);
        }
        service
    }

    /// What of a service that is not well is other than its packages shipped it.
    fn packaged(&mut self, unit: &str, watches: &[HostPath]) -> Vec<Packaged> {
        let now = Instant::now();
        let unwell = match self.packages.get(unit) {
            Some(looked) if looked.last.elapsed() < PACKAGES_EVERY => return looked.found.clone(),
            Some(looked) => looked.unwell,
            None => now,
        };
        let needed = unwell.elapsed() >= NEEDED_AFTER;
        let dpkg = Dpkg::new(self.scope, self.questions.archives.clone());
        let found = dpkg.differing(watches, needed, &mut self.remembered);
        self.packages.insert(unit.to_owned(), Looked { unwell, last: Instant::now(), found: found.clone() });
        found
    }

    fn ask(&self, probe: &Probe) -> Check {
        let name = match probe {
            Probe::Tcp { port } => format!("tcp {port}"),
            Probe::Http { port, path } => format!("http {port} {path}"),
        };
        match services::probe_within(self.scope, probe, ASK_LIMIT) {
            // What it says of itself may differ each time.
            Ok(_) => Check { name, holds: true, detail: "answers".to_owned() },
            Err(error) => Check { name, holds: false, detail: error.in_words() },
        }
    }

    fn run(&self, words: &[String], limit: Duration) -> Option<Ran> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        services::run(self.scope, &words, &[], limit).ok()
    }

    fn command(&self, words: &[String]) -> Check {
        let name = format!("`{}`", words.join(" "));
        match self.run(words, TEST_LIMIT) {
            Some(Ran { status: 0, .. }) => Check { name, holds: true, detail: "status 0".to_owned() },
            Some(ran) => Check { name, holds: false, detail: format!("status {}: {}", ran.status, line(&ran.output)) },
            None => Check { name, holds: false, detail: "no answer in time".to_owned() },
        }
    }

    /// `None`: it could not be run.
    fn test(&self, test: &Test) -> Option<Check> {
        let ran = self.run(&test.command, TEST_LIMIT)?;
        Some(Check { name: test.command.join(" "), holds: test.accepts(&ran)?, detail: line(&ran.output) })
    }

    fn log(&self, unit: &str) -> Vec<String> {
        if let Some(declared) = self.questions.supervisor.of(unit) {
            let path = declared.log.as_ref().map(HostPath::as_bytes);
            let tail = path.and_then(|path| self.below().tail(path, LOG_TAIL_BYTES).ok().flatten()).unwrap_or_default();
            let text = String::from_utf8_lossy(&tail);
            let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(line).collect();
            return lines[lines.len().saturating_sub(LOG_LINES_MAX)..].to_vec();
        }
        let count = LOG_LINES_MAX.to_string();
        // Its own words; those about it where it said none.
        let own = format!("_SYSTEMD_UNIT={unit}");
        let ask = |of: &[&str]| {
            let mut words = vec!["journalctl", "-q", "-b", "-n", &count, "-o", "cat", "--no-pager"];
            words.extend(of);
            services::run(self.scope, &words, &[], SHOW_LIMIT).ok().filter(|ran| !ran.output.trim().is_empty())
        };
        let Some(ran) = ask(&[&own]).or_else(|| ask(&["-u", unit])) else { return Vec::new() };
        ran.output.lines().rev().take(LOG_LINES_MAX).map(line).collect::<Vec<_>>().into_iter().rev().collect()
    }

    // ---- what services live from ----

    fn below(&self) -> Below<'_> {
        Below::new(self.scope, Instant::now() + SHOW_LIMIT)
    }

    /// A file of the scope's own, at most [`FILE_BYTES_MAX`]; no link leads out of its root.
    fn read(&self, path: &HostPath) -> Option<Vec<u8>> {
        self.below().read(path.as_bytes(), FILE_BYTES_MAX).ok().flatten()
    }

    fn disks(&self) -> Vec<Health> {
        let look = |path: &HostPath| {
            let free_bytes = room::free_bytes(self.scope.root(), path).ok()?;
            let least_bytes = self.questions.least_bytes;
            let freeable = if free_bytes < least_bytes { self.freeable() } else { Vec::new() };
            Some(Health::Disk(Disk { path: path.clone(), free_bytes, least_bytes, freeable }))
        };
        self.questions.disks.iter().filter_map(look).collect()
    }

    /// Files that are declared to be worth nothing, oldest first, with what they occupy.
    fn freeable(&self) -> Vec<(HostPath, u64)> {
        let root = self.scope.root();
        let mut found: Vec<((i64, u32), HostPath, u64)> = Vec::new();
        let below = self.below();
        let mut list = |directory: &HostPath| -> Vec<HostPath> {
            let names = below.list(directory.as_bytes()).unwrap_or_default().into_iter();
            names.map(|(name, _)| HostPath::new(&[directory.as_bytes(), b"/", &name].concat())).collect()
        };
        for glob in &self.questions.remedies.freeable {
            for path in glob::expand(glob, FREEABLE_LOOKS_MAX, &mut list) {
                let Ok(Some(state)) = room::measure(root, &path) else { continue };
                let bytes = room::occupied(root, &path);
                if state.kind == FileKind::Regular && bytes > 0 {
                    found.push((state.mtime, path, bytes));
                }
            }
        }
        found.sort();
        found.dedup();
        found.into_iter().take(FREEABLE_MAX).map(|(_, path, bytes)| (path, bytes)).collect()
    }

    fn firewall(&self) -> Option<Health> {
        let path = self.questions.firewall.clone()?;
        let ran = services::run(self.scope, &["nft", "list", "ruleset"], &[], SHOW_LIMIT).ok()?;
        if ran.status != 0 {
            return None; // no packet filter here, or not ours to see
        }
        let file = self.read(&path).unwrap_or_default();
        let wanted = rules(&String::from_utf8_lossy(&file));
        Some(Health::Firewall(Firewall { rules: rules(&ran.output), wanted, path }))
    }

    fn certificates(&self) -> Vec<Health> {
        let renewals = &self.questions.remedies.renewals;
        let look = |shown: &Shown| {
            let port = format!("127.0.0.1:{}", shown.port);
            let words = ["timeout", "5", "openssl", "s_client", "-connect", &port, "-showcerts"];
            let said = services::run(self.scope, &words, b"Q\n", SHOW_LIMIT).ok().map(|ran| ran.output);
            let first = said.as_deref().and_then(first_certificate);
            let shown_expired = first.and_then(|text| self.has_expired(text.as_bytes()));
            let file_expired = self.read(&shown.path).and_then(|bytes| self.has_expired(&bytes)).unwrap_or(true);
            let renewable = renewals.contains_key(&shown.path);
            let (path, unit) = (shown.path.clone(), shown.unit.clone());
            Health::Certificate(Certificate { path, unit, shown_expired, file_expired, renewable })
        };
        self.questions.certificates.iter().map(look).collect()
    }

    /// `None`: it is no certificate, or nothing here can read one.
    fn has_expired(&self, certificate: &[u8]) -> Option<bool> {
        let words = ["openssl", "x509", "-noout", "-checkend", "0"];
        let ran = services::run(self.scope, &words, certificate, SHOW_LIMIT).ok()?;
        match (ran.status, ran.output.contains("will not expire"), ran.output.contains("will expire")) {
            (0, true, _) => Some(false),
            (1, _, true) => Some(true),
            _ => None,
        }
    }
}

fn line(text: impl AsRef<str>) -> String {
    let first = text.as_ref().trim().lines().next().unwrap_or_default();
    let mut end = first.len().min(LOG_LINE_BYTES_MAX);
    while !first.is_char_boundary(end) {
        end -= 1;
    }
    first[..end].to_owned()
}

/// Lines of a ruleset that decide something: chains that hook in, and what is in them.
fn rules(text: &str) -> u64 {
    let words =
        ["accept", "drop", "reject", "policy", "jump", "goto", "counter", "masquerade", "dnat", "snat", "return"];
    let decides = |line: &&str| {
        let line = line.trim();
        !line.starts_with('#') && line.split([' ', ';']).any(|word| words.contains(&word))
    };
    u64::try_from(without_ours(text).filter(decides).count()).unwrap_or(u64::MAX)
}

/// Lines of a ruleset but for those of our own tables, which block addresses for a time.
fn without_ours(text: &str) -> impl Iterator<Item = &str> {
    let mut ours = false;
    text.lines().filter(move |line| {
        let begins = |table: &&str| line.trim_end() == format!("table inet {table} {{");
        ours |= crate::system::OUR_TABLES.iter().any(begins);
        let ends = ours && line.trim_end() == "}";
        let kept = !ours;
        ours &= !ends;
        kept
    })
}

fn first_certificate(text: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let start = text.find("-----BEGIN CERTIFICATE-----")?;
    let end = text[start..].find(END)? + start + END.len();
    Some(format!("{}\n", &text[start..end]))
}

/// What the service manager says of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    load: String,
    active: String,
    sub: String,
    result: String,
    status: i32,
    restarts: u32,
    turn: u64,
    programs: Vec<HostPath>,
    files: Vec<HostPath>,
    group: String,
}

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,\
    StateChangeTimestampMonotonic,ExecStart,FragmentPath,DropInPaths,ControlGroup";

/// One question for all units; an answer for each, in their order.
fn show(scope: &Scope, units: &[&str]) -> crate::system::Result<Vec<State>> {
    let mut words = vec!["systemctl", "--no-pager", "--no-ask-password", "show", PROPERTIES, "--"];
    words.extend(units);
    let ran = services::run(scope, &words, &[], SHOW_LIMIT)?;
    Ok(ran.output.split("\n\n").map(state).collect())
}

fn state(text: &str) -> State {
    let mut state = State::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "LoadState" => value.clone_into(&mut state.load),
            "ActiveState" => value.clone_into(&mut state.active),
            "SubState" => value.clone_into(&mut state.sub),
            "Result" => value.clone_into(&mut state.result),
            "ExecMainStatus" => state.status = value.parse().unwrap_or(0),
            "NRestarts" => state.restarts = value.parse().unwrap_or(0),
            "StateChangeTimestampMonotonic" => state.turn = value.parse().unwrap_or(0),
            "ExecStart" => state.programs.extend(programs(value)),
            "FragmentPath" if !value.is_empty() => state.files.push(HostPath::from(value)),
            "DropInPaths" => state.files.extend(value.split_whitespace().map(HostPath::from)),
            "ControlGroup" => value.clone_into(&mut state.group),
            _ => {}
        }
    }
    state
}

/// The program of an `ExecStart`, and what it names that is a program's too: an interpreter's script.
fn programs(value: &str) -> Vec<HostPath> {
    let program = value.split("path=").nth(1).and_then(|rest| rest.split(" ;").next());
    let arguments = value.split("argv[]=").nth(1).and_then(|rest| rest.split(" ;").next()).unwrap_or_default();
    named_programs(program, arguments.split_whitespace())
}

fn named_programs<'w>(program: Option<&'w str>, arguments: impl Iterator<Item = &'w str>) -> Vec<HostPath> {
    const TREES: [&str; 7] = ["/usr/", "/opt/", "/srv/", "/bin/", "/sbin/", "/lib/", "/lib64/"];
    let named = arguments.filter(|word| TREES.iter().any(|tree| word.starts_with(tree)));
    let mut found: Vec<HostPath> = Vec::new();
    for path in program.into_iter().chain(named).filter(|path| path.starts_with('/')).map(HostPath::from) {
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_manager_says_is_read() {
        let text = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=2\nNRestarts=5\n\
            StateChangeTimestampMonotonic=77\nExecStart={ path=/usr/bin/perl ; argv[]=/usr/bin/perl /usr/local/bin/shopd --x ; ignore_errors=no }\n\
            FragmentPath=/etc/systemd/system/shopd.service\nDropInPaths=/etc/a.conf /etc/b.conf\nControlGroup=/system.slice/shopd.service";
        let found = state(text);
        let paths = |list: &[HostPath]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!((found.active.as_str(), found.status, found.restarts, found.turn), ("failed", 2, 5, 77));
        assert_eq!(paths(&found.programs), ["/usr/bin/perl", "/usr/local/bin/shopd"]);
        assert_eq!(paths(&found.files), ["/etc/systemd/system/shopd.service", "/etc/a.conf", "/etc/b.conf"]);
    }

    #[test]
    fn an_empty_table_has_no_rule_and_comments_are_none() {
        assert_eq!(rules("table inet filter {\n\tchain input {\n\t}\n}\n# accept\n"), 0);
        assert_eq!(
            rules("chain input {\n type filter hook input priority 0; policy drop;\n tcp dport 22 accept\n}"),
            2
        );
    }

    #[test]
    fn the_first_certificate_is_the_one_that_is_shown() {
        let text = "x\n-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nB";
        let wanted = "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n";
        assert_eq!(first_certificate(text).as_deref(), Some(wanted));
        assert_eq!(first_certificate("none"), None);
    }
}
