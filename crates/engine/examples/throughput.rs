// SPDX-License-Identifier: Apache-2.0
//! Events per second through the whole engine on one core, on the events of a build beside logins, cron and services.
//!
//! `cargo run --release -p thymus-engine --example throughput [EVENTS]`
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench measures time and prints what it found")]

use thymus_engine::engine::Engine;
use thymus_engine::event::{
    Activity, Change, Event, File, FileActivity, FileActivityId, FileKind, Process, ProcessActivity, ProcessActivityId,
    User,
};
use thymus_engine::guard::Policies;
use thymus_engine::input::{Configuration, Input, Mode};
use thymus_engine::{BootId, EventId, FileKey, HostPath, ProcessKey, Timestamp, VersionId};

/// Nanoseconds between two events: 20,000 events a second, as a parallel build on two cores makes them.
const PACE_NS: u64 = 50_000;

struct Trace {
    inputs: Vec<(Timestamp, Input)>,
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
        protected: ["/etc", "/usr", "/home", "/var"].map(HostPath::from).into(),
        append_only: vec!["/var/log/*".to_owned()],
        change_tools: vec![HostPath::from("/usr/bin/dpkg")],
        never_touch: Vec::new(),
        never_touch_paths: Vec::new(),
        policies: Policies::defaults(),
        boot_to_unix_ns: 0,
    }
}

fn main() {
    let wanted = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(600_000);
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
    let events = trace.inputs.len();
    let mut engine = Engine::new();
    let mut effects = Vec::new();
    engine.step(Timestamp(1), Input::Configured(Box::new(configuration())), &mut effects);
    let started = std::time::Instant::now();
    let mut units_max = 0;
    for (now, input) in trace.inputs {
        units_max = units_max.max(engine.step(now, input, &mut effects).units);
    }
    let seconds = started.elapsed().as_secs_f64();
    let (processes, files, invocations) = engine.graph().sizes();
    let per_second = f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / seconds;
    println!(
        "events {events}, seconds {seconds:.3}, events per second {per_second:.0}, most units in a step {units_max}"
    );
    println!(
        "graph: {processes} processes, {files} files, {invocations} invocations, {} KiB; effects {}",
        engine.graph().bytes() >> 10,
        effects.len()
    );
    println!("{:?}", engine.graph().counters);
}
