// SPDX-License-Identifier: Apache-2.0
//! On real processes, all of them started here.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::system::{
    Delivered, Digest, FileState, Life, Probe, ProcessState, Result, Signal, TICK_NS, UnitState, UnitVerb, same_process,
};
use rustix::process::{Pid, PidfdFlags};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes, and only those of one process group, which the test started. There are no files and no units here.
#[derive(Debug)]
struct Group {
    group: u32,
    /// Refused, with everything below them.
    untouchable: Vec<u32>,
    evidence: BTreeMap<u32, Digest>,
    signals: Vec<(u32, Signal)>,
}

fn look_at(pid: u32) -> Option<ProcessState> {
    let stat = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    let number = |number: i32| u32::try_from(number).unwrap_or(0);
    Some(ProcessState {
        key: ProcessKey { boot: system::boot_id(), pid, start_time: Timestamp(stat.starttime * TICK_NS) },
        parent: number(stat.ppid),
        life: match stat.state {
            'T' | 't' => Life::Stopped,
            'Z' | 'X' => Life::Zombie,
            _ => Life::Runs,
        },
        kernel: false,
        listed: false,
    })
}

fn group_of(pid: u32) -> Option<u32> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    u32::try_from(nix::unistd::getpgid(Some(pid)).ok()?.as_raw()).ok()
}

/// Until its child, which is stopped, goes on: no instruction of its own runs, but `/proc` does not call it stopped.
fn waits_in_vfork(pid: u32) -> bool {
    const VFORK: &str = "58 ";
    std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with(VFORK))
}

fn everybody() -> Vec<ProcessState> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(look_at).collect()
}

impl System for Group {
    fn now(&mut self) -> Timestamp {
        system::boot_time()
    }
    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
    fn process(&mut self, pid: u32) -> Result<Option<ProcessState>> {
        Ok(look_at(pid))
    }
    fn processes(&mut self, out: &mut Vec<ProcessState>) -> Result<()> {
        *out = everybody();
        Ok(())
    }
    fn untouchable(&mut self, process: &ProcessState) -> Option<&'static str> {
        // One that is gone by now is nobody's.
        let mine = group_of(process.key.pid).is_none_or(|group| group == self.group)
            && !self.untouchable.contains(&process.key.pid);
        (!mine).then_some("not of this test")
    }
    fn signal(&mut self, process: ProcessKey, signal: Signal) -> Result<Delivered> {
        let pid = Pid::from_raw(i32::try_from(process.pid).unwrap()).unwrap();
        let Ok(opened) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(Delivered::Gone) };
        let Some(state) = look_at(process.pid).filter(|state| same_process(state.key, process)) else {
            return Ok(Delivered::Gone);
        };
        assert_eq!(self.untouchable(&state), None, "{state:?}");
        let number = match signal {
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        self.signals.push((process.pid, signal));
        Ok(rustix::process::pidfd_send_signal(opened, number).map_or(Delivered::Gone, |()| Delivered::Yes))
    }
    fn evidence(&mut self, process: ProcessKey) -> Result<Vec<(String, Digest)>> {
        let words = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        self.evidence.insert(process.pid, Digest::of(&words));
        Ok(vec![("cmdline".to_owned(), Digest::of(&words))])
    }
    fn look(&mut self, _: &HostPath) -> Result<Option<FileState>> {
        unreachable!()
    }
    fn capture(&mut self, _: &HostPath) -> Result<Option<FileState>> {
        unreachable!()
    }
    fn keep(&mut self, _: &[u8]) -> Result<Digest> {
        unreachable!()
    }
    fn kept(&mut self, _: &Digest) -> Result<Vec<u8>> {
        unreachable!()
    }
    fn place(&mut self, _: &HostPath, _: Option<&FileState>, _: &FileState) -> Result<()> {
        unreachable!()
    }
    fn write_in_place(&mut self, _: &HostPath, _: &FileState, _: &FileState) -> Result<FileState> {
        unreachable!()
    }
    fn rewrite(&mut self, _: &HostPath, _: &FileState, _: &FileState) -> Result<()> {
        unreachable!()
    }
    fn link(&mut self, _: &HostPath, _: Option<&FileState>, _: &HostPath, _: &FileState) -> Result<()> {
        unreachable!()
    }
    fn remove(&mut self, _: &HostPath, _: &FileState) -> Result<()> {
        unreachable!()
    }
    fn tidy(&mut self, _: &HostPath, _: &[&FileState]) -> Result<()> {
        unreachable!()
    }
    fn list(&mut self, _: &HostPath) -> Result<Vec<(HostPath, FileKind)>> {
        unreachable!()
    }
    fn unit(&mut self, _: &str) -> Result<UnitState> {
        unreachable!()
    }
    fn control(&mut self, _: UnitVerb, _: &str) -> Result<()> {
        unreachable!()
    }
    fn probe(&mut self, _: &Probe) -> Result<String> {
        unreachable!()
    }

    fn run(&mut self, _: &[&str], _: &[u8]) -> Result<crate::system::Ran> {
        unreachable!()
    }

    fn hold_accounts(&mut self) -> Result<crate::system::AccountsHeld> {
        unreachable!()
    }

    fn filtered(&mut self) -> Result<Vec<crate::system::Blocked>> {
        unreachable!()
    }

    fn filter(&mut self, _: std::net::IpAddr, _: thymus_engine::action::Extent, _: Duration) -> Result<()> {
        unreachable!()
    }

    fn unfilter(&mut self, _: std::net::IpAddr, _: thymus_engine::action::Extent) -> Result<bool> {
        unreachable!()
    }

    fn needed(&mut self, _: std::net::IpAddr) -> Result<Option<String>> {
        unreachable!()
    }

    fn isolate(&mut self, _: &[thymus_engine::network::Network], _: Duration) -> Result<()> {
        unreachable!()
    }

    fn isolated(&mut self, _: &[thymus_engine::network::Network]) -> Result<Option<Duration>> {
        unreachable!()
    }

    fn rejoin(&mut self) -> Result<bool> {
        unreachable!()
    }

    fn datagram(&mut self, _: std::net::IpAddr) -> Result<crate::system::Sent> {
        unreachable!()
    }

    fn measure(&mut self, _: &HostPath) -> Result<Option<FileState>> {
        unreachable!()
    }

    fn free(&mut self, _: &HostPath, _: &FileState) -> Result<()> {
        unreachable!()
    }
}

/// A shell and what it starts, in a process group of their own; all ended with the test.
struct Family {
    shell: Child,
    directory: tempfile::TempDir,
    leases: Leases,
}

/// A child that sleeps, one that writes, one with a child of its own: 5 processes with the shell.
const TREE: &str = "sleep 1000 & sh -c 'while :; do echo x; done' & sh -c 'sleep 1000 & wait' & wait";
/// Forks without end.
const FORKING: &str = "sleep 1000 & while :; do sh -c 'sleep 0.02 & sleep 0.01' & sleep 0.005; done";

impl Family {
    fn start(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let directory = tempfile::tempdir().unwrap();
        let leases = Leases::open(&directory.path().join("leases")).unwrap();
        Self { shell: command.spawn().unwrap(), directory, leases }
    }

    fn tree() -> Self {
        let family = Self::start(TREE);
        wait_until("all have started", || family.members().len() == 5);
        family
    }

    fn forking() -> Self {
        let family = Self::start(FORKING);
        wait_until("it forks", || family.members().len() > 3);
        family
    }

    fn root(&self) -> ProcessKey {
        look_at(self.shell.id()).unwrap().key
    }

    fn system(&self) -> Group {
        let group = self.shell.id();
        Group { group, untouchable: Vec::new(), evidence: BTreeMap::new(), signals: Vec::new() }
    }

    /// Zombies do not count.
    fn members(&self) -> Vec<ProcessState> {
        let everybody = everybody().into_iter();
        everybody
            .filter(|state| group_of(state.key.pid) == Some(self.shell.id()) && state.life != Life::Zombie)
            .collect()
    }

    fn all_are(&self, life: Life) -> bool {
        self.members().iter().all(|state| state.life == life)
    }

    fn reflex<'a>(&self, system: Group) -> Reflex<'a> {
        Reflex::open(Box::new(system), self.leases.clone(), &self.directory.path().join("ring")).unwrap()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.shell);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL); // it may be gone already
        self.shell.wait().unwrap();
        wait_until("the family is gone", || self.members().is_empty());
    }
}

const ACTION: ActionId = ActionId(1);
const INCIDENT: IncidentId = IncidentId(1);

#[test]
fn a_reflex_stops_the_whole_tree_and_revert_continues_it_twice_as_once() {
    let family = Family::tree();
    let stopped = family.reflex(family.system()).stop(ACTION, INCIDENT, &[family.root()]);
    wait_until("all are stopped", || family.all_are(Life::Stopped));
    assert_eq!(stopped.outcome(), Outcome::Success, "{stopped:?}");
    assert_eq!((stopped.before.ran.len(), stopped.before.stopped.len()), (5, 0));
    assert_eq!(stopped.before.ran[0], family.root(), "the named first");
    assert_eq!(family.leases.of(ACTION).len(), 5);
    for _ in 0..2 {
        let undone = suspend::revert(&mut family.system(), &family.leases, ACTION, &stopped.before);
        assert_eq!(undone.unwrap(), Outcome::Undone);
        wait_until("all run", || family.all_are(Life::Runs));
        assert!(family.leases.of(ACTION).is_empty());
    }
    assert_eq!(family.members().len(), 5);
}

#[test]
fn a_shell_that_forks_all_the_time_is_stopped_with_all_its_children() {
    let family = Family::forking();
    let stopped = family.reflex(family.system()).stop(ACTION, INCIDENT, &[family.root()]);
    assert_eq!(stopped.outcome(), Outcome::Success, "{stopped:?}");
    // A child whose parent ended before the stop is of no tree any more; the engine names it. All others are stopped.
    let root = family.root();
    let mut tree = Tree::default();
    wait_until("all are stopped", || {
        let found = tree.find(&mut family.system(), &[root]).unwrap();
        found.living.iter().all(|state| state.life == Life::Stopped || waits_in_vfork(state.key.pid))
    });
    let found = tree.find(&mut family.system(), &[root]).unwrap();
    assert!(found.living.iter().all(|state| stopped.before.ran.contains(&state.key)));
}

#[test]
fn nobody_outside_the_named_tree_is_touched() {
    let (family, stranger) = (Family::tree(), Family::tree());
    let child = family.members().into_iter().find(|state| state.parent == family.shell.id()).unwrap();
    let mut system = family.system();
    let outcome = suspend::apply(&mut system, &family.leases, ACTION, &[child.key]).unwrap();
    assert_eq!(outcome, Outcome::Success);
    wait_until("it is stopped", || look_at(child.key.pid).unwrap().life == Life::Stopped);
    assert!(
        system.signals.iter().all(|(pid, _)| {
            *pid == child.key.pid || look_at(*pid).is_some_and(|state| state.parent == child.key.pid)
        })
    );
    assert_eq!(look_at(family.shell.id()).unwrap().life, Life::Runs);
    assert!(stranger.all_are(Life::Runs));
}

#[test]
fn another_process_with_the_same_pid_is_never_signalled() {
    let family = Family::tree();
    let gone = ProcessKey { start_time: Timestamp(family.root().start_time.0 - TICK_NS), ..family.root() };
    let of_another_boot = ProcessKey { boot: thymus_engine::BootId(family.root().boot.0 ^ 1), ..family.root() };
    for process in [gone, of_another_boot] {
        let mut system = family.system();
        let (before, facts) = suspend::capture(&mut system, &family.leases, &[process]).unwrap();
        assert_eq!((facts.as_expected, facts.targets), (Expected::AlreadyDone, 0));
        let outcome = suspend::apply(&mut system, &family.leases, ACTION, &[process]).unwrap();
        assert_eq!(outcome, Outcome::DoesNotExist);
        let mut before = Before { ran: vec![process], ..before };
        let killed = terminate::apply(&mut system, &family.leases, ACTION, &[process], &mut before).unwrap();
        assert_eq!(killed, Outcome::DoesNotExist);
        suspend::revert(&mut system, &family.leases, ACTION, &before).unwrap();
        assert_eq!(system.signals, []);
    }
    assert!(family.all_are(Life::Runs));
}

#[test]
fn what_somebody_else_had_stopped_is_not_continued() {
    let family = Family::tree();
    let other = family.members().into_iter().find(|state| state.parent == family.shell.id()).unwrap();
    family.system().signal(other.key, Signal::Stop).unwrap();
    wait_until("it is stopped", || look_at(other.key.pid).unwrap().life == Life::Stopped);
    let mut system = family.system();
    let (before, facts) = suspend::capture(&mut system, &family.leases, &[family.root()]).unwrap();
    assert_eq!((before.ran.len(), &before.stopped[..], facts.targets), (4, &[other.key][..], 5));
    suspend::apply(&mut system, &family.leases, ACTION, &[family.root()]).unwrap();
    suspend::revert(&mut system, &family.leases, ACTION, &before).unwrap();
    wait_until("the others run", || {
        family.members().iter().all(|state| (state.life == Life::Runs) == (state.key != other.key))
    });
}

#[test]
fn the_untouchable_and_what_is_below_them_are_left_alone_and_it_is_said() {
    let family = Family::tree();
    let parents: Vec<u32> = family.members().iter().map(|state| state.parent).collect();
    let inner = family.members().into_iter();
    let inner = inner.filter(|state| state.key.pid != family.shell.id()).find(|state| parents.contains(&state.key.pid));
    let inner = inner.unwrap().key;
    let system = Group { untouchable: vec![inner.pid], ..family.system() };
    let stopped = family.reflex(system).stop(ACTION, INCIDENT, &[family.root()]);
    assert_eq!(stopped.refused, [(inner, "not of this test".to_owned())]);
    assert_eq!(stopped.outcome(), Outcome::Failed(format!("not stopped: process {}: not of this test", inner.pid)));
    assert_eq!(stopped.before.ran.len(), 3);
    wait_until("the others are stopped", || {
        let outside = |state: &ProcessState| state.key == inner || state.parent == inner.pid;
        family.members().iter().all(|state| (state.life == Life::Runs) == outside(state))
    });
    let mut system = Group { untouchable: vec![inner.pid], ..family.system() };
    let (_, facts) = terminate::capture(&mut system, &family.leases, &[inner]).unwrap();
    assert!(facts.never_touch);
    assert!(system.evidence.is_empty());
}

#[test]
fn below_a_named_process_that_may_not_be_touched_nobody_is_touched() {
    let family = Family::tree();
    let system = Group { untouchable: vec![family.shell.id()], ..family.system() };
    let stopped = family.reflex(system).stop(ACTION, INCIDENT, &[family.root()]);
    assert_eq!(stopped.refused, [(family.root(), "not of this test".to_owned())]);
    assert_eq!(stopped.before, Before::default());
    assert!(family.all_are(Life::Runs));
    assert!(family.leases.of(ACTION).is_empty());
}

#[test]
fn renewing_stops_again_what_somebody_continued() {
    let family = Family::tree();
    let mut system = family.system();
    let (before, _) = suspend::capture(&mut system, &family.leases, &[family.root()]).unwrap();
    suspend::apply(&mut system, &family.leases, ACTION, &[family.root()]).unwrap();
    wait_until("all are stopped", || family.all_are(Life::Stopped));
    system.signal(family.root(), Signal::Continue).unwrap();
    wait_until("it runs", || look_at(family.shell.id()).unwrap().life == Life::Runs);
    assert_eq!(suspend::renew(&mut system, &family.leases, ACTION, &before).unwrap(), 5);
    wait_until("all are stopped again", || family.all_are(Life::Stopped));
}

#[test]
fn termination_ends_even_what_forks_and_saves_the_evidence_of_each_first() {
    let family = Family::forking();
    let mut system = family.system();
    let (mut before, facts) = terminate::capture(&mut system, &family.leases, &[family.root()]).unwrap();
    assert!(facts.evidence_saved && facts.targets > 1 && !facts.never_touch);
    let root = family.root();
    let outcome = terminate::apply(&mut system, &family.leases, ACTION, &[root], &mut before).unwrap();
    assert_eq!(outcome, Outcome::Success);
    assert_eq!(look_at(root.pid).map(|state| state.life), Some(Life::Zombie), "the test has not waited for it yet");
    let killed = system.signals.iter().filter(|(_, signal)| *signal == Signal::Kill);
    for (pid, _) in killed {
        assert!(before.evidence.iter().any(|(process, ..)| process.pid == *pid), "evidence of {pid}");
    }
    let again = terminate::apply(&mut system, &family.leases, ACTION, &[root], &mut before).unwrap();
    assert_eq!(again, Outcome::DoesNotExist);
    let undone = terminate::revert(&mut system, &family.leases, ACTION, &before).unwrap();
    assert!(matches!(undone, Outcome::Failed(why) if why.contains("cannot be undone")));
    assert!(family.leases.of(ACTION).is_empty());
}

#[test]
fn a_termination_cut_short_lets_go_of_what_it_only_stopped() {
    let family = Family::tree();
    let mut system = family.system();
    let (before, _) = terminate::capture(&mut system, &family.leases, &[family.root()]).unwrap();
    // The crash: all are stopped, none is killed.
    suspend::apply(&mut system, &family.leases, ACTION, &[family.root()]).unwrap();
    wait_until("all are stopped", || family.all_are(Life::Stopped));
    let undone = terminate::revert(&mut system, &family.leases, ACTION, &before).unwrap();
    assert_eq!(undone, Outcome::Undone);
    wait_until("all run", || family.all_are(Life::Runs));
    assert_eq!(family.members().len(), 5);
}

#[test]
fn a_session_ends_with_its_leader() {
    let family = Family::tree();
    let child = family.members().into_iter().find(|state| state.parent == family.shell.id()).unwrap();
    let (leader, processes) = (family.root(), [child.key]);
    let mut system = family.system();
    let (mut before, facts) = session::capture(&mut system, &family.leases, leader, &processes).unwrap();
    assert_eq!((facts.targets, facts.evidence_saved), (5, true));
    let outcome = session::apply(&mut system, &family.leases, ACTION, leader, &processes, &mut before).unwrap();
    assert_eq!(outcome, Outcome::Success);
    assert!(family.members().is_empty());
}

#[test]
fn a_reflex_that_the_journal_never_saw_is_told_to_the_next_agent() {
    let family = Family::tree();
    let stopped = family.reflex(family.system()).stop(ACTION, INCIDENT, &[family.root()]);
    let mut next = family.reflex(family.system());
    let found = next.unsettled();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].action, found[0].incident), (ACTION, INCIDENT));
    let sorted = |before: &Before| {
        let mut pids: Vec<u32> = before.ran.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    };
    assert_eq!(sorted(&found[0].before), sorted(&stopped.before));
    assert_eq!(next.unsettled(), []);
    next.settled(ACTION).unwrap();
    assert_eq!(family.reflex(family.system()).unsettled(), []);
}
