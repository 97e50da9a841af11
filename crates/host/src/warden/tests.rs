// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::table::{Lease, identity};
use super::*;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use thymus_engine::{ActionId, BootId};

const HOUR_NS: u64 = 3_600_000_000_000;
/// Two halves a slot, see [`table`].
const HALF_BYTES: usize = 64;

/// A process of the test's own, ended with it.
struct Sleep(Child);

impl Sleep {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap())
    }

    /// Stopped, and it is so when this returns.
    fn stopped() -> Self {
        let sleep = Self::start();
        rustix::process::kill_process(Pid::from_child(&sleep.0), Signal::STOP).unwrap();
        wait_until("it is stopped", || sleep.state() == 'T');
        sleep
    }

    fn key(&self) -> ProcessKey {
        let pid = self.0.id();
        ProcessKey { boot: system::boot_id(), pid, start_time: start_time(pid).unwrap() }
    }

    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lease(action: u64, process: ProcessKey, until: u64) -> Lease {
    Lease { action: ActionId(action), process, until: Timestamp(until) }
}

fn made_up(pid: u32) -> ProcessKey {
    ProcessKey { boot: system::boot_id(), pid, start_time: Timestamp(u64::from(pid) * system::TICK_NS) }
}

fn on_disk(path: &Path) -> Vec<Lease> {
    let mut leases = Vec::new();
    table::read(&table::open(path).unwrap(), &mut Vec::new(), &mut leases).unwrap();
    leases
}

#[test]
fn what_has_lapsed_goes_on_and_what_has_not_stays_stopped() {
    let (lapsed, held) = (Sleep::stopped(), Sleep::stopped());
    let now = system::boot_time();
    let leases = [lease(1, lapsed.key(), now.0), lease(1, held.key(), now.0 + HOUR_NS)];
    assert_eq!(Rounds::default().look(&leases, now), 1);
    wait_until("the lapsed one goes on", || lapsed.state() != 'T');
    assert_eq!(held.state(), 'T');
}

#[test]
fn a_lease_under_another_action_keeps_a_process_stopped() {
    let held = Sleep::stopped();
    let now = system::boot_time();
    let leases = [lease(1, held.key(), now.0 - 1), lease(2, held.key(), now.0 + 1), lease(3, held.key(), 0)];
    let mut rounds = Rounds::default();
    assert_eq!(rounds.look(&leases, now), 1);
    assert_eq!(held.state(), 'T');
    assert_eq!(rounds.look(&leases, Timestamp(now.0 + 1)), 0);
    wait_until("it goes on", || held.state() != 'T');
}

#[test]
fn another_process_with_the_same_pid_is_never_signalled() {
    let stranger = Sleep::stopped();
    for ticks in [-100_i64, -1, 1, 100] {
        let start_time = stranger.key().start_time.0.checked_add_signed(ticks * 10_000_000).unwrap();
        let gone = ProcessKey { start_time: Timestamp(start_time), ..stranger.key() };
        assert_eq!(Rounds::default().look(&[lease(1, gone, 1)], system::boot_time()), 0);
        assert_eq!(stranger.state(), 'T', "{ticks} ticks apart");
    }
}

#[test]
fn a_process_is_continued_once_for_one_deadline() {
    let process = Sleep::stopped();
    let now = system::boot_time();
    let leases = [lease(1, process.key(), now.0)];
    let mut rounds = Rounds::default();
    rounds.look(&leases, now);
    wait_until("it goes on", || process.state() != 'T');
    rustix::process::kill_process(Pid::from_child(&process.0), Signal::STOP).unwrap();
    wait_until("somebody else has stopped it", || process.state() == 'T');
    rounds.look(&leases, now);
    assert_eq!(process.state(), 'T', "not ours any more");
    rounds.look(&[lease(1, process.key(), now.0 + 1)], Timestamp(now.0 + 1));
    wait_until("a lease granted anew ends too", || process.state() != 'T');
}

#[test]
fn wardens_without_an_agent_keep_every_lease_to_its_end_and_then_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let process = Sleep::stopped();
    let leases = Leases::open(&path).unwrap();
    let until = Timestamp(system::boot_time().0 + 300_000_000);
    leases.grant(ActionId(1), process.key(), until).unwrap();
    std::thread::scope(|scope| {
        let wardens = [(); 3].map(|()| scope.spawn(|| serve(&path, None)));
        for warden in wardens {
            warden.join().unwrap().unwrap();
        }
    });
    assert!(system::boot_time() >= until);
    wait_until("it goes on", || process.state() != 'T');
}

#[test]
fn the_warden_outlives_an_agent_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (agent, process) = (Sleep::start(), Sleep::stopped());
    let leases = Leases::open(&path).unwrap();
    leases.grant(ActionId(1), process.key(), Timestamp(system::boot_time().0 + HOUR_NS)).unwrap();
    let served = std::thread::spawn({
        let (path, agent) = (path.clone(), open_process(agent.0.id()));
        move || serve(&path, agent)
    });
    drop(agent);
    let later = Sleep::stopped();
    leases.grant(ActionId(2), later.key(), system::boot_time()).unwrap();
    wait_until("a lease granted later ends", || later.state() != 'T');
    assert!(!served.is_finished());
    assert_eq!(process.state(), 'T', "the agent's end ends no lease early");
    leases.end(process.key()).unwrap();
    served.join().unwrap().unwrap();
}

#[test]
fn a_write_cut_short_leaves_the_lease_as_it_was_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let process = made_up(7);
    let leases = Leases::open(&path).unwrap();
    leases.grant(ActionId(1), process, Timestamp(1_000)).unwrap();
    leases.grant(ActionId(1), process, Timestamp(2_000)).unwrap();
    assert_eq!(on_disk(&path), [lease(1, process, 2_000)]);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut whole = [0; HALF_BYTES];
    file.read_exact_at(&mut whole, 0).unwrap();
    for byte in 0..HALF_BYTES {
        let mut torn = whole;
        torn[byte] ^= 1;
        file.write_all_at(&torn, 0).unwrap();
        assert_eq!(on_disk(&path), [lease(1, process, 1_000)], "byte {byte}");
    }
    assert_eq!(Leases::open(&path).unwrap().of(ActionId(1)), [process]);
}

#[test]
fn the_next_agent_takes_over_the_leases_of_this_boot() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let leases = Leases::open(&path).unwrap();
    let of_another_boot = ProcessKey { boot: BootId(system::boot_id().0 ^ 1), ..made_up(9) };
    for process in [made_up(7), made_up(8), of_another_boot] {
        leases.grant(ActionId(1), process, Timestamp(HOUR_NS)).unwrap();
    }
    leases.end(made_up(8)).unwrap();
    drop(leases);
    let leases = Leases::open(&path).unwrap();
    assert_eq!(leases.of(ActionId(1)), [made_up(7)]);
    leases.grant(ActionId(2), made_up(7), Timestamp(5)).unwrap();
    assert_eq!(on_disk(&path).len(), 2);
    assert!(leases.hold_under_another(ActionId(2), made_up(7)));
    leases.end_under(ActionId(1), made_up(7)).unwrap();
    assert!(!leases.hold_under_another(ActionId(2), made_up(7)));
    assert_eq!(on_disk(&path), [lease(2, made_up(7), 5)]);
}

#[test]
fn a_lease_is_prolonged_and_never_shortened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let leases = Leases::open(&path).unwrap();
    leases.grant(ActionId(1), made_up(7), Timestamp(100)).unwrap();
    leases.grant(ActionId(1), made_up(7), Timestamp(50)).unwrap();
    assert!(leases.hold(made_up(7), Timestamp(99)));
    assert!(!leases.hold(made_up(7), Timestamp(100)));
    assert_eq!(leases.prolong(ActionId(1), Timestamp(200)).unwrap(), 1);
    assert_eq!(on_disk(&path), [lease(1, made_up(7), 200)]);
    assert_eq!(leases.prolong(ActionId(2), Timestamp(200)).unwrap(), 0);
}

#[test]
fn a_full_table_says_so_and_forgets_only_what_lapsed_long_ago() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let leases = Leases::open(&path).unwrap();
    let until = Timestamp(system::boot_time().0 + HOUR_NS);
    let pids = || 1..=u32::try_from(LEASES_MAX).unwrap();
    for pid in pids() {
        leases.grant(ActionId(1), made_up(pid), if pid == 5 { Timestamp(0) } else { until }).unwrap();
    }
    leases.grant(ActionId(2), made_up(5_000), until).unwrap();
    assert!(matches!(leases.grant(ActionId(2), made_up(5_001), until), Err(Error::Full(LEASES_MAX))));
    let held: Vec<_> = on_disk(&path).into_iter().map(|lease| identity(lease.process).0).collect();
    assert!(pids().all(|pid| held.contains(&pid) == (pid != 5)));
    assert!(held.contains(&5_000));
}

#[test]
fn leases_granted_together_are_each_as_if_granted_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let leases = Leases::open(&path).unwrap();
    for pid in 1..=8 {
        leases.grant(ActionId(1), made_up(pid), Timestamp(HOUR_NS)).unwrap();
    }
    // Gaps, so that not all of the new ones lie side by side; one that is held longer already; one that is named twice.
    for pid in [2, 3, 6] {
        leases.end(made_up(pid)).unwrap();
    }
    let together = [9, 10, 4, 11, 12, 9].map(made_up);
    assert_eq!(leases.grant_all(ActionId(1), &together, Timestamp(7)).0, together.len());
    let mut found: Vec<(u32, u64)> = on_disk(&path).iter().map(|lease| (lease.process.pid, lease.until.0)).collect();
    found.sort_unstable();
    let long = [1, 4, 5, 7, 8].map(|pid| (pid, HOUR_NS));
    let mut wanted: Vec<(u32, u64)> = long.into_iter().chain([9, 10, 11, 12].map(|pid| (pid, 7))).collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    leases.end(made_up(9)).unwrap();
    assert_eq!(on_disk(&path).len(), wanted.len() - 1);
    assert_eq!(Leases::open(&path).unwrap().of(ActionId(1)).len(), wanted.len() - 1);
}

#[test]
fn a_table_with_too_little_room_grants_the_first_ones_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let leases = Leases::open(&directory.path().join("leases")).unwrap();
    let until = Timestamp(system::boot_time().0 + HOUR_NS);
    let many: Vec<ProcessKey> = (1..=u32::try_from(LEASES_MAX).unwrap() - 2).map(made_up).collect();
    assert!(matches!(leases.grant_all(ActionId(1), &many, until), (count, Ok(())) if count == many.len()));
    let (granted, why) = leases.grant_all(ActionId(2), &[5_001, 5_002, 5_003].map(made_up), until);
    assert!(granted == 2 && matches!(why, Err(Error::Full(LEASES_MAX))));
    assert_eq!(leases.of(ActionId(2)), [made_up(5_001), made_up(5_002)]);
}

#[test]
fn a_warden_that_ended_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    // In the place of `thymus`: shows how it was called, and ends.
    let program = directory.path().join("program");
    std::fs::write(&program, "#!/bin/sh\necho \"$@\" >>\"$2.seen\"; ls -l /proc/self/fd >\"$2.fds\"\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut warden = Warden::start(&program, &path).unwrap();
    wait_until("it has ended and was started again", || warden.ensure().unwrap());
    wait_until("it has ended once more", || warden.ensure().unwrap());
    let seen = std::fs::read_to_string(directory.path().join("leases.seen")).unwrap();
    assert_eq!(seen.lines().next().unwrap(), format!("warden {} {}", path.display(), std::process::id()));
    warden.child.wait().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_read_as_a_table_without_panic(bytes in proptest::collection::vec(any::<u8>(), 1..1_024)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(on_disk(&path).is_empty());
        let leases = Leases::open(&path).unwrap();
        leases.grant(ActionId(1), made_up(7), Timestamp(3)).unwrap();
        prop_assert_eq!(on_disk(&path), [lease(1, made_up(7), 3)]);
    }
}
