// SPDX-License-Identifier: Apache-2.0
//! How long from the decision until the last process of a tree is stopped, as `/proc` shows it.
//!
//! A shell and 20 children, half of which write files; 200 samples on the idle machine and 200 beside two busy loops.
//! The stopping thread asks for `SCHED_FIFO` 50 with reset on fork; whether it got it is printed. Needs root (a cgroup of
//! its own). `cargo run --release -p thymus-host --example stop_latency`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, for people")]

use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thymus_engine::{ActionId, IncidentId};
use thymus_host::respond::{Reflex, suspend};
use thymus_host::scope::Scope;
use thymus_host::system::linux::Linux;
use thymus_host::system::{Life, System};
use thymus_host::warden::Leases;

const SAMPLES: u64 = 200;
const CHILDREN: u32 = 20;

/// Started here, ended with its whole group.
struct Group(Child);

impl Group {
    fn start(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
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

fn ask_for_fifo() -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let asked = Command::new("chrt").args(["--fifo", "--reset-on-fork", "--pid", "50", &thread]).status();
    asked.is_ok_and(|status| status.success())
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')').is_none_or(|end| stat[end..].starts_with(") T"))
}

fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_micros()
}

fn measure(what: &str, system: &mut Linux<'_>, reflex: &mut Reflex<'_>, leases: &Leases, tree: &Group, first: u64) {
    let root = system.process(tree.0.id()).unwrap().unwrap().key;
    let (mut signalled, mut stopped) = (Vec::new(), Vec::new());
    for action in (first..).map(ActionId).take(usize::try_from(SAMPLES).unwrap()) {
        let begun = Instant::now();
        let reflexed = reflex.stop(action, IncidentId(1), &[root]);
        signalled.push(begun.elapsed());
        assert!(reflexed.refused.is_empty(), "{:?}", reflexed.refused);
        assert_eq!(reflexed.before.ran.len(), usize::try_from(CHILDREN).unwrap() + 1);
        while !reflexed.before.ran.iter().all(|process| is_stopped(process.pid)) {
            std::thread::sleep(Duration::from_micros(20));
        }
        stopped.push(begun.elapsed());
        suspend::revert(system, leases, action, &reflexed.before).unwrap();
        reflex.settled(action).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    for (name, times) in [("last signal sent", &mut signalled), ("last stopped", &mut stopped)] {
        times.sort_unstable();
        println!(
            "{what:>14} | {name:>16} | p50 {:>6} us | p99 {:>6} us | max {:>6} us",
            percentile(times, 50),
            percentile(times, 99),
            percentile(times, 100)
        );
    }
}

fn main() {
    let directory = tempfile::Builder::new().prefix("thymus-stop-").tempdir().unwrap();
    let cgroup = cgroup();
    let scope = Scope::cgroup(&cgroup.0, Path::new("/")).unwrap();
    let acting = scope.acting().unwrap();
    let leases = Leases::open(&directory.path().join("leases")).unwrap();
    let keep = directory.path().join("keep");
    let mut system = Linux::new(acting, &keep, &[]).unwrap();
    let mut door = Linux::new(acting, &keep, &[]).unwrap();
    let quick = door.ask_the_kernel();
    println!("list of processes: {}", quick.as_ref().map_or_else(|why| why.as_str(), |()| "from the kernel"));
    let mut reflex = Reflex::open(Box::new(door), leases.clone(), &directory.path().join("ring")).unwrap();
    let tree = Group::start(&format!(
        "echo $$ >{}/cgroup.procs; cd {}; \
         for child in $(seq {CHILDREN}); do if [ $((child % 2)) = 0 ]; then sleep 1000 & \
         else (while :; do echo x >written.$child; done) & fi; done; wait",
        cgroup.0.display(),
        directory.path().display(),
    ));
    let mut all = Vec::new();
    loop {
        system.processes(&mut all).unwrap();
        if all.iter().filter(|state| state.life == Life::Runs).count() == usize::try_from(CHILDREN).unwrap() + 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("SCHED_FIFO 50, reset on fork: {}", if ask_for_fifo() { "granted" } else { "refused" });
    measure("idle", &mut system, &mut reflex, &leases, &tree, 1);
    let hogs = ["while :; do :; done"; 2].map(Group::start);
    measure("two busy loops", &mut system, &mut reflex, &leases, &tree, 1 + SAMPLES);
    drop(hogs);
    drop(tree);
}
