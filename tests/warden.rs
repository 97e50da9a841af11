// SPDX-License-Identifier: Apache-2.0
//! An agent is killed; the warden, the real program, ends its leases.
#![allow(clippy::unwrap_used, reason = "tests")]

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thymus_engine::{ActionId, ProcessKey, Timestamp};
use thymus_host::system::{TICK_NS, boot_id, boot_time};
use thymus_host::warden::{Leases, Warden};

const SECOND_NS: u64 = 1_000_000_000;
/// In the agent's environment: the table, and the pids to stop for a second and for an hour.
const TABLE: &str = "THYMUS_TEST_TABLE";
const BRIEFLY: &str = "THYMUS_TEST_BRIEFLY";
const LONG: &str = "THYMUS_TEST_LONG";

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ended with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Field `at` of `/proc/PID/stat`, counted from the state, which is 0; `None` when there is no such process.
fn stat(pid: u32, at: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].split(' ').nth(at).map(str::to_owned)
}

fn is_stopped(pid: u32) -> bool {
    stat(pid, 0).as_deref() == Some("T")
}

fn key(pid: u32) -> ProcessKey {
    let ticks: u64 = stat(pid, 19).unwrap().parse().unwrap();
    ProcessKey { boot: boot_id(), pid, start_time: Timestamp(ticks * TICK_NS) }
}

fn pid_of(text: &str) -> u32 {
    text.trim().parse().unwrap()
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// What an agent does, as far as the warden is concerned; until it is killed.
fn agent(table: &Path) {
    let leaked = std::fs::File::open("/proc/self/status").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let leases = Leases::open(table).unwrap();
    let warden = Warden::start(Path::new(env!("CARGO_BIN_EXE_thymus")), table).unwrap();
    for (name, time) in [(BRIEFLY, SECOND_NS), (LONG, 3_600 * SECOND_NS)] {
        let pid = pid_of(&std::env::var(name).unwrap());
        leases.grant(ActionId(1), key(pid), Timestamp(boot_time().0 + time)).unwrap();
        kill_process(raw(pid), Signal::STOP).unwrap();
    }
    std::fs::write(table.with_extension("making"), warden.pid().to_string()).unwrap();
    std::fs::rename(table.with_extension("making"), table.with_extension("pid")).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn what_a_killed_agent_had_stopped_goes_on_when_its_lease_ends() {
    if let Some(table) = std::env::var_os(TABLE) {
        return agent(Path::new(&table));
    }
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("leases");
    let sleep = || Process::start(Command::new("sleep").arg("1000"));
    let (briefly, long) = (sleep(), sleep());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "what_a_killed_agent_had_stopped_goes_on_when_its_lease_ends"]).env(TABLE, &table);
    command.env(BRIEFLY, briefly.0.id().to_string()).env(LONG, long.0.id().to_string());
    let agent = Process::start(&mut command);
    wait_until("the agent has done its part", || table.with_extension("pid").exists());
    let warden = pid_of(&std::fs::read_to_string(table.with_extension("pid")).unwrap());

    wait_until("the warden holds the table and nothing else", || {
        let open = std::fs::read_dir(format!("/proc/{warden}/fd")).unwrap().flatten();
        let mut open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        open.retain(|target| target != Path::new("/dev/null") && target != Path::new("anon_inode:[pidfd]"));
        open == [table.clone()]
    });
    kill_process(raw(warden), Signal::TERM).unwrap();
    kill_process(raw(warden), Signal::INT).unwrap();
    assert_ne!(stat(warden, 2), stat(agent.0.id(), 2), "a process group of its own");

    drop(agent);
    wait_until("the lease of a second has ended", || !is_stopped(briefly.0.id()));
    assert!(is_stopped(long.0.id()), "the agent's end ends no lease early");
    assert!(stat(warden, 0).is_some(), "the warden stays while a lease is left");
    let leases = Leases::open(&table).unwrap();
    assert_eq!(leases.of(ActionId(1)).len(), 2, "the next agent knows who is held");
    for process in leases.of(ActionId(1)) {
        leases.end(process).unwrap();
    }
    wait_until("the warden ends", || stat(warden, 0).is_none_or(|state| state == "Z"));
    assert!(is_stopped(long.0.id()), "what was taken back is the next agent's to continue");
}
