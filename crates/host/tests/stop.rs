// SPDX-License-Identifier: Apache-2.0
//! Stops on real processes in a cgroup of the test's own, seen through the kernel's own list and through `/proc`. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thymus_engine::{ActionId, IncidentId, ProcessKey, Timestamp};
use thymus_host::respond::{Reflex, suspend};
use thymus_host::scope::Scope;
use thymus_host::system::linux::Linux;
use thymus_host::system::{Delivered, Error, Life, ProcessState, Signal, System, TICK_NS};
use thymus_host::warden::Leases;

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two cgroups, one of them the scope, and what runs in them; all gone with the test.
struct Ground {
    inside: PathBuf,
    outside: PathBuf,
    directory: tempfile::TempDir,
    scope: Scope,
    children: Vec<Child>,
}

impl Ground {
    fn new(name: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let mount = mount.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists()).unwrap();
        let cgroup = |place: &str| mount.join(format!("thymus-stop-{name}-{place}-{}", std::process::id()));
        let (inside, outside) = (cgroup("inside"), cgroup("outside"));
        for cgroup in [&inside, &outside] {
            std::fs::create_dir(cgroup).unwrap();
        }
        let scope = Scope::cgroup(&inside, Path::new("/")).unwrap();
        Self { inside, outside, directory: tempfile::tempdir().unwrap(), scope, children: Vec::new() }
    }

    fn door(&self) -> Linux<'_> {
        Linux::new(self.scope.acting().unwrap(), &self.directory.path().join("keep"), &[]).unwrap()
    }

    fn quick_door(&self) -> Linux<'_> {
        let mut door = self.door();
        door.ask_the_kernel().unwrap();
        door
    }

    /// A shell in the scope, and its pid.
    fn start(&mut self, script: &str) -> u32 {
        let script = format!("echo $$ >{}/cgroup.procs; {script}", self.inside.display());
        let child = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }

    fn look(&self, door: &mut Linux<'_>) -> Vec<ProcessState> {
        let mut all = Vec::new();
        door.processes(&mut all).unwrap();
        all.sort_unstable_by_key(|state| state.key.pid);
        all
    }

    fn wait_for(&self, count: usize) {
        let mut door = self.door();
        wait_until("all have started", || self.look(&mut door).len() == count);
    }

    fn key(&self, pid: u32) -> ProcessKey {
        self.door().process(pid).unwrap().unwrap().key
    }

    fn life(&self, pid: u32) -> Life {
        self.door().process(pid).unwrap().unwrap().life
    }

    fn move_out(&self, pid: u32) {
        std::fs::write(self.outside.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let nested = self.inside.join("nested");
        for cgroup in [&self.inside, &self.outside] {
            let _ = std::fs::write(cgroup.join("cgroup.kill"), "1"); // with all below it
        }
        for child in &mut self.children {
            let _ = child.wait(); // a test may have waited for it
        }
        for cgroup in [&nested, &self.inside, &self.outside] {
            wait_until("the cgroup is empty", || std::fs::remove_dir(cgroup).is_ok() || !cgroup.exists());
        }
    }
}

#[test]
fn the_kernels_list_says_of_a_scope_what_proc_says() {
    let mut ground = Ground::new("list");
    let nested = ground.inside.join("nested");
    std::fs::create_dir(&nested).unwrap();
    let script = format!(
        "sleep 1000 & sh -c 'echo $$ >{}/cgroup.procs; sleep 1000 & wait' & exec perl -e 'fork or exit; sleep 1000'",
        nested.display()
    );
    let root = ground.start(&script);
    ground.wait_for(4);
    let sleeper = ground.look(&mut ground.door()).into_iter().find(|state| state.parent == root).unwrap().key;
    ground.door().signal(sleeper, Signal::Stop).unwrap();
    let (mut door, mut quick) = (ground.door(), ground.quick_door());
    let lives = |quick: &mut Linux<'_>| ground.look(quick).iter().map(|state| state.life).collect::<Vec<_>>();
    wait_until("one is stopped and one is a zombie", || {
        let lives = lives(&mut quick);
        lives.contains(&Life::Stopped) && lives.contains(&Life::Zombie)
    });
    assert_eq!(lives(&mut quick).len(), 5);
    let rounded = |state: &ProcessState| {
        let start_time = Timestamp(state.key.start_time.0 / TICK_NS * TICK_NS);
        ProcessState { key: ProcessKey { start_time, ..state.key }, ..*state }
    };
    let mut of_the_kernel: Vec<ProcessState> = ground.look(&mut quick).iter().map(rounded).collect();
    of_the_kernel.retain(|state| state.life != Life::Zombie); // of no cgroup.procs any more
    assert_eq!(of_the_kernel, ground.look(&mut door));
    assert_eq!(of_the_kernel.len(), 4);
    assert!(of_the_kernel.iter().all(|state| state.listed && !state.kernel));
}

#[test]
fn a_process_that_leaves_the_scope_between_look_and_signal_is_not_signalled() {
    let mut ground = Ground::new("leave");
    let pid = ground.start("exec sleep 1000");
    ground.wait_for(1);
    for mut door in [ground.door(), ground.quick_door()] {
        let seen = ground.look(&mut door);
        assert_eq!(door.untouchable(&seen[0]), None);
        ground.move_out(pid);
        for hold in [&[seen[0].key][..], &[]] {
            door.hold(hold);
            let sent = door.signal(seen[0].key, Signal::Stop);
            assert!(matches!(sent, Err(Error::Untouchable { why: "it is outside the scope", .. })), "{sent:?}");
        }
        assert_ne!(ground.life(pid), Life::Stopped);
        std::fs::write(ground.inside.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let stopped = ground.key(pid);
    assert_eq!(ground.quick_door().signal(stopped, Signal::Stop).unwrap(), Delivered::Yes, "back inside");
}

#[test]
fn another_process_with_the_same_pid_is_not_signalled_when_held() {
    let mut ground = Ground::new("reuse");
    let pid = ground.start("exec sleep 1000");
    ground.wait_for(1);
    let mut door = ground.quick_door();
    let there = ground.key(pid);
    for ticks in [-1_i64, 1, 100] {
        let start_time = there.start_time.0.checked_add_signed(ticks * 10_000_000).unwrap();
        let gone = ProcessKey { start_time: Timestamp(start_time), ..there };
        door.hold(&[gone]);
        assert_eq!(door.signal(gone, Signal::Stop).unwrap(), Delivered::Gone, "{ticks} ticks apart");
        door.hold(&[there]);
        assert_eq!(door.signal(gone, Signal::Stop).unwrap(), Delivered::Gone, "another of that pid is held");
    }
    assert_ne!(ground.life(pid), Life::Stopped);
}

#[test]
fn a_process_that_ended_while_it_was_held_is_gone() {
    let mut ground = Ground::new("ended");
    let pid = ground.start("exec sleep 1000");
    ground.wait_for(1);
    let mut child = ground.children.pop().unwrap();
    let mut door = ground.quick_door();
    let key = ground.key(pid);
    door.hold(&[key]);
    assert_eq!(door.signal(key, Signal::Kill).unwrap(), Delivered::Yes);
    child.wait().unwrap();
    assert_eq!(door.signal(key, Signal::Stop).unwrap(), Delivered::Gone);
}

/// More than are held at one time, below a shell each.
#[test]
fn a_tree_of_hundreds_is_stopped_and_continued_as_a_whole() {
    const PAIRS: usize = 150;
    let mut ground = Ground::new("hundreds");
    let root = ground.start(&format!("for i in $(seq {PAIRS}); do (sleep 1000 & wait) & done; wait"));
    ground.wait_for(2 * PAIRS + 1);
    let leases = Leases::open(&ground.directory.path().join("leases")).unwrap();
    let ring = ground.directory.path().join("ring");
    let mut reflex = Reflex::open(Box::new(ground.quick_door()), leases.clone(), &ring).unwrap();
    let stopped = reflex.stop(ActionId(1), IncidentId(1), &[ground.key(root)]);
    assert_eq!((stopped.refused.len(), stopped.before.ran.len()), (0, 2 * PAIRS + 1));
    assert_eq!(leases.of(ActionId(1)).len(), 2 * PAIRS + 1);
    let mut door = ground.quick_door();
    let all_are = |door: &mut Linux<'_>, life| ground.look(door).iter().all(|state| state.life == life);
    wait_until("all are stopped", || all_are(&mut door, Life::Stopped));
    suspend::revert(&mut door, &leases, ActionId(1), &stopped.before).unwrap();
    wait_until("all run", || all_are(&mut door, Life::Runs));
}
