// SPDX-License-Identifier: Apache-2.0
//! How long until the last process of a tree is stopped: from the decision, and from the event that decided it.
//!
//! A shell and 20 children, half of which write files without end; 200 samples each. A process that is in the middle of a
//! write to a disk stops when the disk lets it, so the tree writes to memory (`/dev/shm`), and once to the temporary
//! directory to show the difference. "Stopped" is what the kernel's own list says, asked every 20 µs; each asking takes
//! 50 to 100 µs, which are in the figures. The event is real: one of the children, as an ordinary user, runs a program that
//! it has unlinked; kernel program, ring buffer, engine and stop are all in that figure, but not the vault and the
//! journal. The measuring thread has the priority that the agent's hot thread has, when it is granted. Needs root.
//!
//! `cargo run --release -p thymus-host --example stop_latency`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, for people")]

use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use thymus_engine::engine::Engine;
use thymus_engine::event::{Activity, Event};
use thymus_engine::guard::Policies;
use thymus_engine::input::{Configuration, Mode};
use thymus_engine::{ActionId, Effect, EventId, IncidentId, Input, ProcessKey, Timestamp};
use thymus_host::respond::{Reflex, Reflexed, suspend};
use thymus_host::scope::Scope;
use thymus_host::sense::{self, Observed, Sensors};
use thymus_host::system::linux::Linux;
use thymus_host::system::{Life, System};
use thymus_host::urgent::Urgent;
use thymus_host::warden::Leases;

const SAMPLES: usize = 200;
const CHILDREN: usize = 20;
const NOBODY: &str = "65534";

/// Started here, ended with its whole group.
struct Group(Child);

impl Group {
    fn start(script: &str) -> Self {
        // Interrupted, this program takes it with it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "sh", "-c", script])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL); // gone already is as good
        self.0.wait().unwrap();
    }
}

/// Taken away with the end of the measurement.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn cgroup() -> Cgroup {
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let mount = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists()).expect("cgroup v2 is mounted");
    let path = mount.join(format!("thymus-stop-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    Cgroup(path)
}

/// What every measurement needs.
struct Bench<'a> {
    cgroup: &'a Path,
    scope: &'a Scope,
    system: Linux<'a>,
    reflex: Reflex<'a>,
    leases: Leases,
    actions: u64,
}

impl Bench<'_> {
    /// The tree, all of it running. Its last child waits for a word in `directory/go` to run what is in `directory/program`.
    fn tree(&mut self, directory: &Path) -> Group {
        let last = "read word <go; exec 9<program; rm program; exec /proc/self/fd/9 1000";
        let script = format!(
            "for child in $(seq {}); do if [ $((child % 2)) = 0 ]; then sleep 1000 & \
             else (while :; do echo x >written.$child; done) & fi; done; ({last}) & wait",
            CHILDREN - 1
        );
        let become_nobody = format!("exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups sh -c '{script}'");
        let (cgroup, place) = (self.cgroup.display(), directory.display());
        let group = Group::start(&format!("echo $$ >{cgroup}/cgroup.procs; cd {place}; {become_nobody}"));
        while self.living().iter().filter(|life| **life == Life::Runs).count() <= CHILDREN {
            std::thread::sleep(Duration::from_millis(5));
        }
        group
    }

    fn living(&mut self) -> Vec<Life> {
        let mut all = Vec::new();
        self.system.processes(&mut all).unwrap();
        all.iter().map(|state| state.life).filter(|life| *life != Life::Zombie).collect()
    }

    /// When the last of them was seen stopped.
    fn all_stopped(&mut self) -> Timestamp {
        loop {
            std::thread::sleep(Duration::from_micros(20)); // those who were to run on this core get it
            if self.living().iter().all(|life| *life == Life::Stopped) {
                return sense::now();
            }
        }
    }

    fn stop(&mut self, incident: IncidentId, processes: &[ProcessKey]) -> Reflexed {
        self.actions += 1;
        let reflexed = self.reflex.stop(ActionId(self.actions), incident, processes);
        assert!(reflexed.refused.is_empty(), "{:?}", reflexed.refused);
        reflexed
    }

    fn after_the_decision(&mut self, what: &str, directory: &Path) {
        let tree = self.tree(directory);
        let root = self.system.process(tree.0.id()).unwrap().unwrap().key;
        let (mut signalled, mut stopped) = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            let begun = sense::now();
            let reflexed = self.stop(IncidentId(1), &[root]);
            signalled.push(sense::now().since_ns(begun));
            assert_eq!(reflexed.before.ran.len(), CHILDREN + 1);
            stopped.push(self.all_stopped().since_ns(begun));
            suspend::revert(&mut self.system, &self.leases, reflexed.action, &reflexed.before).unwrap();
            self.reflex.settled(reflexed.action).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        show(what, "decision to end of stop", &mut signalled);
        show(what, "decision to last stopped", &mut stopped);
    }

    fn after_the_event(&mut self, what: &str, directory: &Path) {
        let (mut received, mut decided, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
        let mut observed = Vec::new();
        for _ in 0..SAMPLES {
            let mut sensors = Sensors::start(self.scope, sense::Options::default()).unwrap();
            sensors.inventory(&mut observed).unwrap();
            let mut brain = Brain::new();
            std::fs::copy("/bin/sleep", directory.join("program")).unwrap();
            let tree = self.tree(directory);
            for _ in 0..3 {
                sensors.poll(Duration::from_millis(5), &mut observed).unwrap();
                brain.take(&mut observed);
            }
            std::fs::write(directory.join("go"), "go\n").unwrap();
            let mut deciding = None;
            let (incident, processes) = loop {
                let wait = if brain.searching { Duration::ZERO } else { Duration::from_millis(50) };
                sensors.poll(wait, &mut observed).unwrap();
                if let Some(one) = observed.iter().find(|one| is_deciding(one)) {
                    deciding = Some(one.time);
                    received.push(sense::now().since_ns(one.time));
                }
                if let Some(stop) = brain.take(&mut observed) {
                    break stop;
                }
            };
            let deciding = deciding.expect("nothing else decides");
            decided.push(sense::now().since_ns(deciding));
            let reflexed = self.stop(incident, &processes);
            assert_eq!(reflexed.before.ran.len(), CHILDREN + 1);
            stopped.push(self.all_stopped().since_ns(deciding));
            drop((tree, sensors));
            reflexed.before.ran.iter().for_each(|process| self.leases.end(*process).unwrap());
            self.reflex.settled(reflexed.action).unwrap();
            observed.clear();
            while !self.living().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        show(what, "event to engine", &mut received);
        show(what, "event to decision", &mut decided);
        show(what, "event to last stopped", &mut stopped);
    }
}

fn is_deciding(observed: &Observed) -> bool {
    matches!(&observed.activity, Activity::Process(process) if process.process.fileless)
}

/// The engine, as the agent uses it.
struct Brain {
    engine: Engine,
    events: u64,
    effects: Vec<Effect>,
    /// A search goes on: it wants to be stepped.
    searching: bool,
}

impl Brain {
    fn new() -> Self {
        let mut brain = Self { engine: Engine::new(), events: 0, effects: Vec::new(), searching: false };
        let configuration = Configuration {
            mode: Mode::Autonomous,
            scope_permits_action: true,
            administrators: Vec::new(),
            logins: Vec::new(),
            protected: Vec::new(),
            append_only: Vec::new(),
            change_tools: Vec::new(),
            decoys: Vec::new(),
            never_touch: Vec::new(),
            never_touch_paths: Vec::new(),
            never_block: Vec::new(),
            policies: Policies::defaults(),
            boot_to_unix_ns: sense::boot_to_unix_ns(),
            actions_per_minute: thymus_engine::guard::ACTIONS_PER_MINUTE,
            answer_ns: thymus_engine::input::ANSWER_NS,
        };
        brain.step(Input::Configured(Box::new(configuration)));
        brain
    }

    /// Up to the first stop that it wants.
    fn take(&mut self, observed: &mut Vec<Observed>) -> Option<(IncidentId, Vec<ProcessKey>)> {
        for Observed { time, activity } in observed.drain(..) {
            self.events += 1;
            let stop = self.step(Input::Event(Event { id: EventId(self.events), time, activity }));
            if stop.is_some() {
                return stop;
            }
        }
        if self.searching { self.step(Input::Tick) } else { None }
    }

    fn step(&mut self, input: Input) -> Option<(IncidentId, Vec<ProcessKey>)> {
        self.effects.clear();
        self.searching = self.engine.step(sense::now(), input, &mut self.effects).pending;
        self.effects.drain(..).find_map(|effect| match effect {
            Effect::Reflex { incident, processes, .. } => Some((incident, processes)),
            _ => None,
        })
    }
}

fn show(what: &str, name: &str, nanoseconds: &mut [u64]) {
    nanoseconds.sort_unstable();
    let at = |percent: usize| nanoseconds[(nanoseconds.len() - 1) * percent / 100] / 1_000;
    println!("{what:>24} | {name:<24} | p50 {:>6} us | p99 {:>6} us | max {:>6} us", at(50), at(99), at(100));
}

/// A directory that the tree may write in.
fn place(parent: &Path) -> tempfile::TempDir {
    let place = tempfile::Builder::new().prefix("thymus-stop-").tempdir_in(parent).unwrap();
    let done = Command::new("chown").arg(NOBODY).arg(place.path()).status().unwrap();
    let made = Command::new("mkfifo").args(["-m", "666"]).arg(place.path().join("go")).status().unwrap();
    assert!(done.success() && made.success());
    place
}

fn main() {
    let (memory, disk) = (place(Path::new("/dev/shm")), place(&std::env::temp_dir()));
    let state = tempfile::Builder::new().prefix("thymus-stop-").tempdir().unwrap();
    let cgroup = cgroup();
    let scope = Scope::cgroup(&cgroup.0, Path::new("/")).unwrap();
    let acting = scope.acting().unwrap();
    let leases = Leases::open(&state.path().join("leases")).unwrap();
    let door = || Linux::new(acting, &state.path().join("keep"), &[]).unwrap();
    let (mut system, mut hurried) = (door(), door());
    let quick = hurried.ask_the_kernel().and_then(|()| system.ask_the_kernel());
    println!("list of processes: {}", quick.err().unwrap_or_else(|| "the kernel's own".to_owned()));
    let reflex = Reflex::open(Box::new(hurried), leases.clone(), &state.path().join("ring")).unwrap();
    let mut bench = Bench { cgroup: &cgroup.0, scope: &scope, system, reflex, leases, actions: 0 };
    let urgent = Urgent::ask();
    println!("SCHED_FIFO 50, reset on fork: {}", urgent.err().unwrap_or_else(|| "granted".to_owned()));
    bench.after_the_decision("idle", memory.path());
    bench.after_the_decision("idle, writing to a disk", disk.path());
    bench.after_the_event("idle", memory.path());
    let hogs = ["while :; do :; done"; 2].map(Group::start);
    bench.after_the_decision("two busy loops", memory.path());
    bench.after_the_event("two busy loops", memory.path());
    drop(hogs);
}
