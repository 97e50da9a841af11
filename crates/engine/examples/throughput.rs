// SPDX-License-Identifier: Apache-2.0
//! Events per second through the whole engine on one core.
//!
//! `throughput [EVENTS]`: on the events of a composed build beside logins, cron and services.
//! `throughput EVENTS RECORDING [BEFORE]`: on what was recorded in a twin (`cases/recorded/NAME.jsonl.zst`). A drill takes a
//! minute, so its events are repeated, shifted: later in time, other ids, processes, inodes and versions each round.
//! `BEFORE` is another recording, which the engine has behind it, its incidents included.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench measures time and prints what it found")]

use std::collections::{BTreeMap, BTreeSet};
use thymus_engine::engine::Engine;
use thymus_engine::event::{
    Activity, Change, Event, File, FileActivity, FileActivityId, FileKind, Process, ProcessActivity, ProcessActivityId,
    User,
};
use thymus_engine::guard::Policies;
use thymus_engine::input::{Configuration, Input, Mode};
use thymus_engine::{BootId, EventId, FileKey, HostPath, ProcessKey, Timestamp, VersionId};

type Inputs = Vec<(Timestamp, Input)>;

/// Nanoseconds between two events: 20,000 events a second, as a parallel build on two cores makes them.
const PACE_NS: u64 = 50_000;

struct Trace {
    inputs: Inputs,
    pids: u32,
    versions: u64,
}

impl Trace {
    fn event(&mut self, activity: Activity) {
        let count = u64::try_from(self.inputs.len()).unwrap_or(u64::MAX);
        let time = Timestamp(1_000_000_000 + count * PACE_NS);
        self.inputs.push((time, Input::Event(Event { id: EventId(count + 1), time, activity })));
    }

    fn process(&mut self, kind: ProcessActivityId, parent: &Process, exe: &str, arguments: &[&str]) -> Process {
        let key = if matches!(kind, ProcessActivityId::Fork | ProcessActivityId::Inventory) {
            self.pids += 1;
            let start_time = Timestamp(u64::from(self.pids));
            ProcessKey { boot: BootId(1), pid: self.pids, start_time }
        } else {
            parent.key
        };
        let process = Process {
            key,
            parent: if key == parent.key { parent.parent } else { parent.key },
            file: Some(File { path: HostPath::from(exe), key: FileKey::default() }),
            cmd_line: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            user: User { uid: 1001, euid: 1001, gid: 1001, login_uid: 1001 },
            unit: Some("session-3.scope".to_owned()),
            working_directory: Some(HostPath::from("/home/alice/project")),
            ..Process::default()
        };
        let actor = if kind == ProcessActivityId::Fork { parent.key } else { key };
        let activity = ProcessActivity { activity: kind, actor, process: process.clone(), exit_code: None };
        self.event(Activity::Process(activity));
        process
    }

    fn run(&mut self, parent: &Process, exe: &str, arguments: &[&str]) -> Process {
        let child = self.process(ProcessActivityId::Fork, parent, "/usr/bin/bash", &[]);
        self.process(ProcessActivityId::Exec, &child, exe, arguments)
    }

    fn end(&mut self, process: &Process) {
        self.process(ProcessActivityId::Terminate, process, "/usr/bin/x", &[]);
    }

    fn file(&mut self, actor: &Process, path: &str, kind: FileActivityId, kept: bool) {
        self.versions += 1;
        let created = kind == FileActivityId::Create;
        let change = Change {
            before: VersionId(if created { 0 } else { self.versions - 1 }),
            created,
            after: VersionId(self.versions),
            removed: kind == FileActivityId::Delete,
        };
        let records = kept && !matches!(kind, FileActivityId::Open | FileActivityId::Update);
        self.event(Activity::File(FileActivity {
            activity: kind,
            actor: actor.key,
            file: File { path: HostPath::from(path), key: FileKey::default() },
            kind: FileKind::Regular,
            file_result: None,
            change: records.then_some(change),
            change_result: None,
            mode: None,
            target: None,
        }));
    }

    fn write(&mut self, actor: &Process, path: &str, kept: bool) {
        for kind in [FileActivityId::Create, FileActivityId::Open, FileActivityId::Update, FileActivityId::Close] {
            self.file(actor, path, kind, kept);
        }
    }

    /// One file compiled: driver, compiler, assembler, their temporary file and the result.
    fn compile(&mut self, make: &Process, number: usize) {
        let shell = self.run(make, "/usr/bin/dash", &["sh", "-c", "cc -O2 -c"]);
        let source = format!("source-{number}.c");
        let driver = self.run(&shell, "/usr/bin/x86_64-linux-gnu-gcc-12", &["cc", "-O2", "-c", &source]);
        let temporary = format!("/tmp/cc{number:06}.s");
        for exe in ["/usr/lib/gcc/x86_64-linux-gnu/12/cc1", "/usr/bin/x86_64-linux-gnu-as"] {
            let tool = self.run(&driver, exe, &[exe, "-quiet", "-o", &temporary, &source]);
            self.write(&tool, &temporary, false);
            self.end(&tool);
        }
        self.write(&driver, &format!("/home/alice/project/build/{}.o", number % 4_000), true);
        self.file(&driver, &temporary, FileActivityId::Delete, false);
        self.end(&driver);
        self.end(&shell);
    }
}

fn configuration() -> Configuration {
    Configuration {
        mode: Mode::Autonomous,
        scope_permits_action: true,
        administrators: vec![1000],
        logins: Vec::new(),
        protected: ["/etc", "/usr", "/home", "/var"].map(HostPath::from).into(),
        append_only: vec!["/var/log/*".to_owned()],
        change_tools: vec![HostPath::from("/usr/bin/dpkg")],
        never_touch: Vec::new(),
        decoys: Vec::new(),
        never_touch_paths: Vec::new(),
        never_block: Vec::new(),
        policies: Policies::defaults(),
        boot_to_unix_ns: 0,
        actions_per_minute: thymus_engine::guard::ACTIONS_PER_MINUTE,
        answer_ns: thymus_engine::input::ANSWER_NS,
    }
}

fn composed(wanted: usize) -> Inputs {
    let mut trace = Trace { inputs: Vec::with_capacity(wanted + 64), pids: 1, versions: 1 };
    let none = Process::default();
    let init = trace.process(ProcessActivityId::Inventory, &none, "/usr/lib/systemd/systemd", &["init"]);
    let listener = trace.process(ProcessActivityId::Inventory, &init, "/usr/sbin/sshd", &["sshd", "-D"]);
    let cron = trace.process(ProcessActivityId::Inventory, &init, "/usr/sbin/cron", &["cron", "-f"]);
    let logger = trace.process(ProcessActivityId::Inventory, &init, "/usr/sbin/rsyslogd", &["rsyslogd", "-n"]);
    let session = trace.run(&listener, "/usr/sbin/sshd", &["sshd", "-R"]);
    let shell = trace.run(&session, "/usr/bin/bash", &["bash"]);
    let make = trace.run(&shell, "/usr/bin/make", &["make", "-j2"]);
    let mut number = 0;
    while trace.inputs.len() < wanted {
        trace.compile(&make, number);
        number += 1;
        trace.file(&logger, "/var/log/syslog", FileActivityId::Update, true);
        if number % 50 == 0 {
            let job = trace.run(&cron, "/usr/bin/dash", &["sh", "-c", "run-parts /etc/cron.hourly"]);
            trace.write(&job, "/var/lib/job/state", true);
            trace.end(&job);
            let visit = trace.run(&listener, "/usr/sbin/sshd", &["sshd", "-R"]);
            trace.end(&visit);
        }
    }
    trace.inputs
}

fn read(path: &str) -> Result<Inputs, Box<dyn std::error::Error>> {
    #[derive(serde::Deserialize)]
    struct Line {
        now: Timestamp,
        input: Input,
    }
    let text = String::from_utf8(zstd::decode_all(std::fs::File::open(path)?)?)?;
    let lines = text.lines().map(|line| serde_json::from_str(line).map(|Line { now, input }| (now, input)));
    Ok(lines.collect::<Result<Inputs, _>>()?)
}

/// A recording, over and over. What was there before it (the daemons) stays the same through all rounds; the processes
/// that it brought are others in each round, and end with it. Paths stay, but for those of temporary files.
struct Rounds {
    events: Vec<(Timestamp, Event)>,
    first: Timestamp,
    span_ns: u64,
    ids: u64,
    versions: u64,
    residents: BTreeSet<ProcessKey>,
    temporary: BTreeSet<HostPath>,
    latest: BTreeMap<HostPath, VersionId>,
    round: u64,
}

/// Between two rounds, and after what came before them.
const PAUSE_NS: u64 = 1_000_000_000;

impl Rounds {
    fn new(inputs: &Inputs) -> Self {
        let event = |(now, input): &(Timestamp, Input)| match input {
            Input::Event(event) => Some((*now, event.clone())),
            _ => None,
        };
        let mut events: Vec<_> = inputs.iter().filter_map(event).collect();
        let (first, last) = (events.first().map_or(Timestamp(0), |one| one.0), events.last().map_or(0, |one| one.0.0));
        let (mut residents, mut born, mut alive) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let (mut created, mut temporary) = (BTreeSet::new(), BTreeSet::new());
        let (mut ids, mut versions) = (0, 0);
        for (_, event) in &events {
            ids = ids.max(event.id.0);
            match &event.activity {
                Activity::Process(told) => {
                    let key = told.process.key;
                    match told.activity {
                        ProcessActivityId::Inventory if !born.contains(&key) => drop(residents.insert(key)),
                        ProcessActivityId::Terminate => drop(alive.remove(&key)),
                        _ => drop((born.insert(key), alive.insert(key, told.process.clone()))),
                    }
                }
                Activity::File(told) => {
                    let after = |change: &Option<Change>| change.map_or(0, |change| change.after.0);
                    versions = versions.max(after(&told.change)).max(after(&told.change_result));
                    if told.activity == FileActivityId::Create {
                        created.insert(told.file.path.clone());
                    } else if matches!(told.activity, FileActivityId::Delete | FileActivityId::Rename)
                        && created.contains(&told.file.path)
                    {
                        temporary.insert(told.file.path.clone());
                    }
                }
                _ => {}
            }
        }
        let left = alive.into_iter().filter(|(key, _)| !residents.contains(key));
        for (number, (key, process)) in (1..).zip(left) {
            let (activity, exit_code) = (ProcessActivityId::Terminate, Some(0));
            let activity = Activity::Process(ProcessActivity { activity, actor: key, process, exit_code });
            events.push((Timestamp(last), Event { id: EventId(ids + number), time: Timestamp(last), activity }));
        }
        let (ids, latest) = (ids + 10_000, BTreeMap::new());
        let span_ns = last - first.0 + PAUSE_NS;
        Self { events, first, span_ns, ids, versions, residents, temporary, latest, round: 0 }
    }

    fn key(&self, key: &mut ProcessKey) {
        if !self.residents.contains(key) && key.pid > 1 {
            key.start_time.0 += self.round * self.span_ns;
            key.pid = u32::try_from((u64::from(key.pid) + self.round * 613) % 4_194_304).unwrap_or(key.pid);
        }
    }

    fn path(&self, path: &mut HostPath) {
        if self.temporary.contains(path) {
            let round = format!(".{}", self.round);
            *path = HostPath::new(&[path.as_bytes(), round.as_bytes()].concat());
        }
    }

    fn change(&mut self, path: &HostPath, change: &mut Option<Change>) {
        if let Some(change) = change {
            change.after.0 += self.round * self.versions;
            let before = self.latest.insert(path.clone(), change.after);
            change.before = before.unwrap_or(change.before);
        }
    }

    /// One more round, beginning at `from`.
    fn round(&mut self, from: Timestamp, out: &mut Inputs) {
        let (first, begin) = (self.first, from.0 + self.round * self.span_ns);
        let shift = |time: Timestamp| Timestamp(begin + time.since_ns(first));
        for (now, mut event) in self.events.clone() {
            event.id.0 += self.round * self.ids;
            event.time = shift(event.time);
            match &mut event.activity {
                Activity::Process(told) => {
                    self.key(&mut told.actor);
                    self.key(&mut told.process.key);
                    self.key(&mut told.process.parent);
                }
                Activity::File(told) => {
                    self.key(&mut told.actor);
                    self.path(&mut told.file.path);
                    told.file.key.inode += self.round * 100_000;
                    self.change(&told.file.path, &mut told.change);
                    if let Some(path) = &mut told.file_result {
                        self.path(path);
                        self.change(path, &mut told.change_result);
                    }
                }
                Activity::Authentication(told) => self.key(&mut told.session),
                Activity::Network(told) => self.key(&mut told.actor),
                Activity::Content(told) => {
                    self.key(&mut told.actor);
                    self.path(&mut told.path);
                    told.version.0 += self.round * self.versions;
                }
                Activity::Loss(_)
                | Activity::Finding(_)
                | Activity::Incident(_)
                | Activity::Remediation(_)
                | Activity::Hearsay(_) => {}
            }
            out.push((shift(now), Input::Event(event)));
        }
        self.round += 1;
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.first().map_or(Ok(600_000), |text| text.parse())?;
    let (mut engine, mut effects) = (Engine::new(), Vec::new());
    let (mut last, mut begun) = (Timestamp(1), false);
    if let Some(before) = arguments.get(2) {
        let inputs = read(before)?;
        let (count, started) = (inputs.len(), std::time::Instant::now());
        for (now, input) in inputs {
            (last, begun) = (now, true);
            engine.step(now, input, &mut effects);
        }
        let (ms, incidents) = (started.elapsed().as_secs_f64() * 1e3, engine.view().incidents.len());
        println!("before: {before}, {count} inputs in {ms:.1} ms, {incidents} incidents");
    }
    let inputs = match arguments.get(1) {
        None => {
            println!("trace: composed");
            engine.step(last, Input::Configured(Box::new(configuration())), &mut effects);
            composed(wanted)
        }
        Some(path) => {
            let recorded = read(path)?;
            if let Some((now, input)) = recorded.first().filter(|_| !begun) {
                (last, _) = (*now, engine.step(*now, input.clone(), &mut effects));
            }
            let (mut rounds, mut inputs) = (Rounds::new(&recorded), Vec::with_capacity(wanted));
            while inputs.len() < wanted {
                rounds.round(Timestamp(last.0 + PAUSE_NS), &mut inputs);
            }
            let (events, seconds) = (rounds.events.len(), rounds.span_ns / 1_000_000_000);
            println!(
                "trace: {path}, {events} recorded events of {seconds} s, repeated {} times, shifted",
                rounds.round
            );
            inputs
        }
    };
    let (events, before) = (inputs.len(), effects.len());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let started = std::time::Instant::now();
    let mut units_max = 0;
    for (now, input) in inputs {
        units_max = units_max.max(engine.step(now, input, &mut effects).units);
    }
    let seconds = started.elapsed().as_secs_f64();
    let (processes, files, invocations) = engine.graph().sizes();
    let per_second = f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / seconds;
    println!(
        "events {events}, seconds {seconds:.3}, events per second {per_second:.0}, most units in a step {units_max}, \
         load before {}",
        load.trim()
    );
    println!(
        "graph: {processes} processes, {files} files, {invocations} invocations, {} KiB; effects {}",
        engine.graph().bytes() >> 10,
        effects.len() - before
    );
    println!("{:?}", engine.graph().counters);
    Ok(())
}
