// SPDX-License-Identifier: Apache-2.0
//! A program that the agent runs in a scope has what the scope's first process could have, and no more.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// First of a pid and a mount namespace of its own, without some capabilities; gone with the test.
struct Leader {
    holder: Child,
    pid: u32,
}

fn status(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

impl Leader {
    fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
        command.args(["setpriv", "--bounding-set", "-sys_module,-mknod,-sys_time", "sleep", "1000"]);
        let holder = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut leader = Self { holder, pid: 0 };
        let parent = leader.holder.id().to_string();
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_it = |pid: &u32| {
            status(*pid, "PPid") == parent
                && std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == b"sleep\n")
        };
        loop {
            let all = std::fs::read_dir("/proc").unwrap().flatten();
            let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            if let Some(pid) = pids.find(is_it) {
                leader.pid = pid;
                return leader;
            }
            assert!(Instant::now() < deadline, "timed out waiting for the first process of the namespaces");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn run(&self, more: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thymus"));
        command.args(["inside", &self.pid.to_string()]).args(more).arg("--").args(words);
        command.stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}

/// Of our own, below our own; gone with the test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let mount = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists()).unwrap();
        Self(mount.join(format!("thymus-test-inside-{}", std::process::id())))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn what_runs_in_a_scope_has_no_capability_that_its_first_process_could_not_have() {
    let leader = Leader::start();
    let done = leader.run(
        &[],
        &["sh", "-c", "grep -h ^Cap /proc/self/status; echo $$; cut -d' ' -f1 /proc/1/stat; cat /proc/1/comm"],
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let bound = status(leader.pid, "CapBnd");
    assert_ne!(bound, status(std::process::id(), "CapBnd"), "something was taken from it");
    assert_eq!([of("CapBnd:"), of("CapEff:"), of("CapPrm:")], [bound.clone(), bound.clone(), bound]);
    assert_eq!([of("CapInh:"), of("CapAmb:")], ["0000000000000000", "0000000000000000"]);
    assert!(text.ends_with("\n1\nsleep\n"), "its pid namespace and its /proc: {text}");
}

#[test]
fn it_ends_as_its_program_does_and_says_what_could_not_be_run() {
    let leader = Leader::start();
    assert_eq!(leader.run(&[], &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(leader.run(&[], &["sh", "-c", "kill -9 $$"]).status.code(), Some(128 + 9));
    let refused = leader.run(&[], &["no-such-program", "--help"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(
        (refused.status.code(), said.contains("`no-such-program`"), said.contains("No such file")),
        (Some(127), true, true),
        "{said}"
    );
    let mut other = Command::new(env!("CARGO_BIN_EXE_thymus"));
    let refused = other.args(["inside", &std::process::id().to_string(), "--", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(127), "who is no first process is not followed");
}

#[test]
fn the_program_is_in_the_scopes_cgroup_and_who_started_it_is_not() {
    let (leader, cgroup) = (Leader::start(), Cgroup::new());
    let directory = cgroup.0.to_str().unwrap();
    // From outside it can be seen who is in it while the program runs.
    let command = Command::new(env!("CARGO_BIN_EXE_thymus"))
        .args(["inside", &leader.pid.to_string(), "--cgroup", directory, "--", "sleep", "1000"])
        .stdin(Stdio::null())
        .spawn();
    let mut helper = command.unwrap();
    let members = || -> Vec<u32> {
        let text = std::fs::read_to_string(cgroup.0.join("cgroup.procs")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let program = loop {
        if let [one] = members()[..]
            && one != helper.id()
            && status(one, "Name") == "sleep"
        {
            break one;
        }
        assert!(Instant::now() < deadline, "timed out waiting until the program alone is there: {:?}", members());
        std::thread::sleep(Duration::from_millis(5));
    };
    let pid = rustix::process::Pid::from_raw(program.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(helper.wait().unwrap().code(), Some(128 + 9));
}
