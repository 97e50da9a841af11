// SPDX-License-Identifier: Apache-2.0
mod impact;
mod lateral;
mod network;
mod request;
mod stranger;

use super::*;
use crate::event::{
    Activity, Change, File, FileActivity, FileActivityId, FileKind, Mode as FileMode, Process, ProcessActivity,
    ProcessActivityId,
};
use crate::id::{BootId, EventId, FileKey, Timestamp, VersionId};
use crate::input::Mode;
use std::collections::BTreeMap;

const ROOT: u32 = 0;
const OPS: u32 = 1000;
const ALICE: u32 = 1001;
const UNSET: u32 = u32::MAX;

/// A small past: who is who.
#[derive(Default)]
struct World {
    processes: BTreeMap<u32, (u32, HostPath, User)>,
    invocations: BTreeMap<u32, (InvocationKind, u32, Option<u32>)>,
    /// Where the people of an invocation came from, by a process of it.
    sources: BTreeMap<u32, IpAddr>,
    suspects: Vec<u32>,
    /// Processes that run what a request wrote.
    planted: BTreeMap<u32, HostPath>,
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { boot: BootId(1), pid, start_time: Timestamp(u64::from(pid)) }
}

impl Lineage for World {
    fn process(&self, key: ProcessKey) -> Option<Seen<'_>> {
        let (parent, program, user) = self.processes.get(&key.pid)?;
        let program = Some(program).filter(|program| !program.as_bytes().is_empty());
        Some(Seen { parent: super::tests::key(*parent), program, user: *user, unit: None })
    }
    fn invocation(&self, key: ProcessKey) -> Option<Invocation<'_>> {
        let (kind, leader, login) = self.invocations.get(&key.pid)?;
        let source = self.sources.get(&key.pid).copied();
        Some(Invocation { kind, leader: super::tests::key(*leader), login: *login, origin: None, source })
    }
    fn is_suspect(&self, key: ProcessKey) -> bool {
        self.suspects.contains(&key.pid)
    }
    fn ran_from_request(&self, key: ProcessKey) -> Option<&HostPath> {
        self.planted.get(&key.pid)
    }
}

const INTRUDER: u32 = 10;
const USER: u32 = 11;
const ADMIN: u32 = 12;
const DPKG: u32 = 13;
const UNIT: u32 = 14;
const OWN_MANAGER: u32 = 15;
const NGINX: u32 = 16;

impl World {
    /// A root shell in alice's session, alice's own shell, the administrator's root shell, a package script, a system
    /// service, alice's service manager, a web server's worker.
    fn new() -> Self {
        let mut world = Self::default();
        let session = |login| (InvocationKind::Session, login);
        let unit = |name: &str| (InvocationKind::Unit(name.to_owned()), None);
        world.add(1, 0, "/usr/lib/systemd/systemd", (ROOT, ROOT), (InvocationKind::Other, None));
        world.add(INTRUDER, 1, "/usr/bin/bash", (ROOT, ROOT), session(Some(ALICE)));
        world.add(USER, 1, "/usr/bin/bash", (ALICE, ALICE), session(Some(ALICE)));
        world.add(ADMIN, 1, "/usr/bin/bash", (ROOT, ROOT), session(Some(OPS)));
        world.add(20, 1, "/usr/bin/dpkg", (ROOT, ROOT), session(Some(ALICE)));
        world.add(DPKG, 20, "/usr/bin/dash", (ROOT, ROOT), session(Some(ALICE)));
        world.add(UNIT, 1, "/usr/bin/bash", (ROOT, ROOT), unit("e2scrub.service"));
        world.add(OWN_MANAGER, 1, "/usr/bin/python3.11", (ALICE, ALICE), unit("user@1001.service"));
        world.add(NGINX, 1, "/usr/sbin/nginx", (33, 33), unit("nginx.service"));
        world
    }

    fn add(
        &mut self,
        pid: u32,
        parent: u32,
        program: &str,
        (uid, euid): (u32, u32),
        (kind, login): (InvocationKind, Option<u32>),
    ) {
        let user = User { uid, euid, gid: uid, login_uid: login.unwrap_or(UNSET) };
        self.processes.insert(pid, (parent, program.into(), user));
        self.invocations.insert(pid, (kind, pid, login));
    }

    fn run(&mut self, pid: u32, program: &str) {
        self.processes.get_mut(&pid).unwrap().1 = program.into();
    }
}

fn configuration() -> Configuration {
    Configuration {
        mode: Mode::Autonomous,
        scope_permits_action: true,
        administrators: vec![OPS],
        logins: Vec::new(),
        protected: vec!["/etc".into()],
        append_only: vec!["/var/log/*.log".to_owned(), "/var/log/wtmp".to_owned(), "/var/log/*/*.log".to_owned()],
        change_tools: vec!["/usr/bin/dpkg".into(), "/usr/bin/apt-get".into()],
        never_touch: vec![key(99)],
        decoys: Vec::new(),
        never_touch_paths: Vec::new(),
        never_block: Vec::new(),
        policies: Vec::new(),
        boot_to_unix_ns: 0,
        actions_per_minute: crate::guard::ACTIONS_PER_MINUTE,
        answer_ns: crate::input::ANSWER_NS,
    }
}

fn event(activity: Activity) -> Event {
    Event { id: EventId(7), time: Timestamp(1_000), activity }
}

fn on_file(activity: FileActivityId, pid: u32, path: &str, owner: u32) -> FileActivity {
    FileActivity {
        activity,
        actor: key(pid),
        file: File { path: path.into(), key: FileKey::default() },
        kind: FileKind::Regular,
        file_result: None,
        change: None,
        change_result: None,
        mode: Some(FileMode { bits: 0o644, uid: owner, gid: owner }),
        target: None,
    }
}

fn exec(pid: u32, path: &str) -> Process {
    let file = Some(File { path: path.into(), key: FileKey::default() });
    Process { key: key(pid), parent: key(1), file, ..Process::default() }
}

/// What is found in events of one fresh engine, in order.
fn found(world: &World, activities: &[Activity]) -> Vec<(String, Confidence)> {
    let (mut detectors, mut out, configuration) = (Detectors::default(), Vec::new(), configuration());
    let context = Context { configuration: &configuration, change_window: false };
    for activity in activities {
        detectors.observe(&event(activity.clone()), world, &context, &mut out);
    }
    out.into_iter().map(|finding| (finding.analytic, finding.confidence)).collect()
}

fn written(world: &World, pid: u32, path: &str, owner: u32) -> Vec<(String, Confidence)> {
    found(world, &[Activity::File(on_file(FileActivityId::Close, pid, path, owner))])
}

fn ran(world: &World, process: Process) -> Vec<(String, Confidence)> {
    let actor = process.key;
    let activity = ProcessActivityId::Exec;
    found(world, &[Activity::Process(ProcessActivity { activity, actor, process, exit_code: None })])
}

/// Paths of root, each with the detector that speaks for it and how sure it is.
const FOOTHOLDS: [(&str, &str, Confidence); 20] = [
    ("/root/.ssh/authorized_keys", "foothold/authorized-key", Confidence::Medium),
    ("/home/bob/.ssh/authorized_keys2", "foothold/authorized-key", Confidence::Medium),
    ("/etc/cron.d/backup", "foothold/cron", Confidence::Medium),
    ("/etc/crontab", "foothold/cron", Confidence::Medium),
    ("/var/spool/cron/crontabs/root", "foothold/cron", Confidence::Medium),
    ("/etc/systemd/system/a.service", "foothold/systemd-unit", Confidence::Medium),
    ("/etc/systemd/system/ssh.service.d/x.conf", "foothold/systemd-unit", Confidence::Medium),
    ("/etc/ld.so.preload", "foothold/ld-preload", Confidence::High),
    ("/etc/ld.so.conf.d/x.conf", "foothold/ld-preload", Confidence::Medium),
    ("/etc/profile.d/x.sh", "foothold/shell-profile", Confidence::Medium),
    ("/root/.bashrc", "foothold/shell-profile", Confidence::Medium),
    ("/etc/passwd", "foothold/account", Confidence::Medium),
    ("/etc/shadow", "foothold/account", Confidence::Medium),
    ("/etc/pam.d/sshd", "foothold/pam", Confidence::Medium),
    ("/usr/lib/x86_64-linux-gnu/security/pam_x.so", "foothold/pam", Confidence::Medium),
    ("/etc/ssh/sshd_config", "foothold/sshd-config", Confidence::Medium),
    ("/etc/sudoers.d/x", "privilege/sudoers", Confidence::Medium),
    ("/usr/bin/ps", "impair/system-tool", Confidence::Medium),
    ("/var/log/auth.log", "traces/log-wiping", Confidence::Medium),
    ("/var/www/html/index.html", "impact/web-content", Confidence::Medium),
];

#[test]
fn root_in_a_session_of_nobody_in_particular_is_seen_at_every_foothold() {
    let world = World::new();
    for (path, analytic, confidence) in FOOTHOLDS {
        assert_eq!(written(&world, INTRUDER, path, ROOT), [(analytic.to_owned(), confidence)], "{path}");
    }
}

#[test]
fn a_rename_a_link_and_a_symbolic_link_count_as_much_as_a_write() {
    let world = World::new();
    for (path, analytic, confidence) in FOOTHOLDS {
        for activity in [FileActivityId::Rename, FileActivityId::Link] {
            let moved = FileActivity { file_result: Some(path.into()), ..on_file(activity, INTRUDER, "/tmp/x", ROOT) };
            assert_eq!(found(&world, &[Activity::File(moved)]), [(analytic.to_owned(), confidence)], "{path}");
        }
        let link = FileActivity { kind: FileKind::Symlink, ..on_file(FileActivityId::Create, INTRUDER, path, ROOT) };
        assert_eq!(found(&world, &[Activity::File(link)]), [(analytic.to_owned(), confidence)], "{path}");
    }
}

#[test]
fn an_administrator_doing_all_of_it_raises_nothing_that_could_act() {
    let mut world = World::new();
    for (path, _, _) in FOOTHOLDS {
        let found = written(&world, ADMIN, path, ROOT);
        assert!(found.iter().all(|(_, confidence)| *confidence == Confidence::Low), "{path}: {found:?}");
        assert!(found.is_empty() || path.starts_with("/var/log"), "{path}: {found:?}");
    }
    world.suspects.push(ADMIN);
    assert_eq!(written(&world, ADMIN, "/etc/cron.d/x", ROOT).len(), 1, "a suspect session is nobody's");
}

#[test]
fn package_scripts_and_the_systems_own_work_are_silent() {
    let mut world = World::new();
    for (path, _, _) in FOOTHOLDS {
        assert_eq!(written(&world, DPKG, path, ROOT), [], "{path}");
        if path != "/etc/ld.so.preload" {
            assert_eq!(written(&world, UNIT, path, ROOT), [], "{path}");
        }
    }
    assert_eq!(written(&world, UNIT, "/etc/ld.so.preload", ROOT).len(), 1, "not even the system writes this");
    world.suspects.push(UNIT);
    assert_eq!(written(&world, UNIT, "/etc/cron.d/x", ROOT).len(), 1, "a planted unit's run is nobody's");
}

#[test]
fn a_change_window_is_silent() {
    let (world, configuration, mut out) = (World::new(), configuration(), Vec::new());
    let context = Context { configuration: &configuration, change_window: true };
    for (path, _, _) in FOOTHOLDS {
        let activity = Activity::File(on_file(FileActivityId::Close, INTRUDER, path, ROOT));
        Detectors::default().observe(&event(activity), &world, &context, &mut out);
    }
    assert_eq!(out, []);
}

#[test]
fn users_changing_their_own_account_is_low_and_their_service_manager_silent() {
    let world = World::new();
    for path in [
        "/home/alice/.ssh/authorized_keys",
        "/var/spool/cron/crontabs/alice",
        "/home/alice/.config/systemd/user/x.timer",
        "/home/alice/.bashrc",
        "/var/www/alice/index.html",
    ] {
        let low = written(&world, USER, path, ALICE);
        assert_eq!(low.len(), 1, "{path}");
        assert_eq!(low[0].1, Confidence::Low, "{path}");
        assert_eq!(written(&world, INTRUDER, path, ALICE)[0].1, Confidence::Low, "with sudo, still the own: {path}");
        assert_eq!(written(&world, OWN_MANAGER, path, ALICE), [], "{path}");
        assert_eq!(written(&world, INTRUDER, path, 1002)[0].1, Confidence::Medium, "somebody else's: {path}");
    }
}

#[test]
fn what_the_system_does_all_day_is_silent() {
    let mut world = World::new();
    for path in [
        "/run/systemd/transient/x.service",
        "/run/systemd/generator/y.service",
        "/run/sudo/ts/alice",
        "/etc/ld.so.cache",
        "/etc/passwd-",
        "/etc/passwd.lock",
        "/etc/mtab",
        "/var/cache/man/index.db",
        "/var/spool/cron/crontabs/tmp.x8dkw",
        "/home/bob/notes.txt",
        "/etc/hosts",
        "/tmp/x",
    ] {
        assert_eq!(written(&world, INTRUDER, path, ROOT), [], "{path}");
    }
    for bookkeeper in ["/usr/sbin/sshd", "/usr/bin/login", "/usr/bin/sudo", "/usr/bin/su"] {
        world.run(INTRUDER, bookkeeper);
        assert_eq!(written(&world, INTRUDER, "/var/log/wtmp", ROOT), [], "{bookkeeper}");
    }
    assert_eq!(written(&world, NGINX, "/var/log/nginx/access.log", ROOT), []);
    world.run(USER, "/usr/bin/bash");
    assert_eq!(written(&world, USER, "/home/alice/.bash_history", ALICE), []);
}

#[test]
fn roots_cron_runs_and_an_administrators_own_terminals_are_known() {
    let mut world = World::new();
    world.add(60, 1, "/usr/sbin/logrotate", (ROOT, ROOT), (InvocationKind::Cron, Some(ROOT)));
    world.add(61, 1, "/usr/bin/bash", (ROOT, ROOT), (InvocationKind::Unit("user@1000.service".to_owned()), Some(OPS)));
    world.add(
        62,
        1,
        "/usr/bin/bash",
        (ROOT, ROOT),
        (InvocationKind::Unit("user@1001.service".to_owned()), Some(ALICE)),
    );
    assert_eq!(written(&world, 60, "/var/log/auth.log", ROOT), []);
    assert_eq!(written(&world, 61, "/etc/cron.d/x", ROOT), []);
    assert_eq!(written(&world, 62, "/etc/cron.d/x", ROOT)[0].1, Confidence::Medium);
}

#[test]
fn a_user_who_changes_the_own_password_is_silent() {
    let mut world = World::new();
    world.add(30, USER, "/usr/bin/passwd", (ALICE, ROOT), (InvocationKind::Session, Some(ALICE)));
    assert_eq!(written(&world, 30, "/etc/shadow", ROOT), []);
    world.run(30, "/tmp/passwd");
    assert_eq!(written(&world, 30, "/etc/shadow", ROOT).len(), 1, "a namesake elsewhere is not");
}

#[test]
fn a_close_that_changed_nothing_is_nothing() {
    let world = World::new();
    let same = Change { before: VersionId(4), created: false, after: VersionId(4), removed: false };
    let touched = FileActivity { change: Some(same), ..on_file(FileActivityId::Close, INTRUDER, "/etc/crontab", ROOT) };
    assert_eq!(found(&world, &[Activity::File(touched)]), []);
}

#[test]
fn a_setuid_bit_is_seen_however_it_comes() {
    let world = World::new();
    let with = |activity, path: &str, result: Option<&str>, pid| {
        let mode = Some(FileMode { bits: 0o4755, uid: ROOT, gid: ROOT });
        let file = FileActivity { mode, file_result: result.map(Into::into), ..on_file(activity, pid, path, ROOT) };
        found(&world, &[Activity::File(file)])
    };
    let setuid = |confidence| [("privilege/setuid".to_owned(), confidence)];
    for activity in [FileActivityId::SetAttributes, FileActivityId::Create, FileActivityId::Close] {
        assert_eq!(with(activity, "/srv/x", None, INTRUDER), setuid(Confidence::Medium), "{activity:?}");
        assert_eq!(with(activity, "/var/tmp/.x", None, INTRUDER), setuid(Confidence::High), "{activity:?}");
        assert_eq!(with(activity, "/srv/x", None, ADMIN), [], "{activity:?}");
        assert_eq!(with(activity, "/srv/x", None, DPKG), [], "{activity:?}");
    }
    for activity in [FileActivityId::Rename, FileActivityId::Link] {
        assert_eq!(with(activity, "/srv/y", Some("/srv/x"), INTRUDER), setuid(Confidence::Medium), "{activity:?}");
    }
    let capable = FileActivity {
        mode: Some(FileMode { bits: 0o755, uid: ROOT, gid: ROOT }),
        ..on_file(FileActivityId::SetSecurity, INTRUDER, "/srv/x", ROOT)
    };
    assert_eq!(found(&world, &[Activity::File(capable)]), setuid(Confidence::Medium));
}

#[test]
fn running_a_setuid_copy_is_seen_unless_an_administrator_made_it() {
    let world = World::new();
    let raised = |path: &str, pid| Process {
        user: User { uid: ALICE, euid: ROOT, gid: ALICE, login_uid: ALICE },
        ..exec(pid, path)
    };
    assert_eq!(ran(&world, raised("/var/tmp/.x", USER))[0].1, Confidence::High);
    assert_eq!(ran(&world, raised("/srv/tools/x", USER))[0].1, Confidence::Medium);
    assert_eq!(ran(&world, raised("/usr/bin/bash", USER))[0].1, Confidence::Medium);
    assert_eq!(ran(&world, raised("/usr/bin/passwd", USER)), []);
    assert_eq!(ran(&world, raised("/usr/local/bin/tool", USER)), []);
    assert_eq!(ran(&world, raised("/srv/tools/x", ADMIN)), []);
    let made = FileActivity {
        mode: Some(FileMode { bits: 0o4755, uid: ROOT, gid: ROOT }),
        ..on_file(FileActivityId::SetAttributes, ADMIN, "/srv/tools/x", ROOT)
    };
    let process = raised("/srv/tools/x", USER);
    let run = ProcessActivity { activity: ProcessActivityId::Exec, actor: process.key, process, exit_code: None };
    assert_eq!(found(&world, &[Activity::File(made), Activity::Process(run)]), []);
}

#[test]
fn a_program_whose_name_is_made_to_be_overlooked_is_seen() {
    let world = World::new();
    let found = |pid, path: &str| ran(&world, exec(pid, path));
    for hidden in ["/home/alice/.../sh", "/tmp/x /init", "/tmp/init ", "/opt/ x/y"] {
        assert_eq!(found(USER, hidden), [("evasion/masquerade".to_owned(), Confidence::Medium)], "{hidden:?}");
        assert_eq!(found(ADMIN, hidden), [], "{hidden:?}");
    }
    for usual in ["/home/alice/.config/x", "/opt/my tool/run", "/usr/bin/..x", "/srv/a...b"] {
        assert_eq!(found(USER, usual), [], "{usual:?}");
    }
}

#[test]
fn a_replaced_system_program_confirms_by_itself() {
    let world = World::new();
    let replaced = |path: &str, created| {
        let change = Some(Change { before: VersionId(1), created, after: VersionId(2), removed: false });
        found(
            &world,
            &[Activity::File(FileActivity { change, ..on_file(FileActivityId::Close, INTRUDER, path, ROOT) })],
        )
    };
    assert_eq!(replaced("/usr/bin/ps", false)[0].1, Confidence::High);
    assert_eq!(replaced("/usr/lib/x86_64-linux-gnu/libc.so.6", false)[0].1, Confidence::High);
    assert_eq!(replaced("/usr/bin/new", true)[0].1, Confidence::Medium);
    assert_eq!(replaced("/usr/local/bin/x", false)[0].1, Confidence::Medium);
    assert_eq!(replaced("/usr/lib/python3/__pycache__/x.cpython-311.pyc", false)[0].1, Confidence::Low);
}

#[test]
fn wiping_is_seen_by_any_means() {
    let mut world = World::new();
    let by = |world: &World, activity, result: Option<&str>| {
        let path = if result.is_some() { "/tmp/x" } else { "/var/log/auth.log" };
        let file = FileActivity { file_result: result.map(Into::into), ..on_file(activity, INTRUDER, path, ROOT) };
        found(world, &[Activity::File(file)])
    };
    let wiped = [("traces/log-wiping".to_owned(), Confidence::Medium)];
    for activity in [FileActivityId::Update, FileActivityId::Close, FileActivityId::Delete] {
        assert_eq!(by(&world, activity, None), wiped, "{activity:?}");
    }
    assert_eq!(by(&world, FileActivityId::Rename, Some("/var/log/auth.log")), wiped);
    world.add(98, 1, "", (ROOT, ROOT), (InvocationKind::Request, Some(ALICE)));
    let stranger = |activity| found(&world, &[Activity::File(on_file(activity, 98, "/var/log/auth.log", ROOT))]);
    assert_eq!(stranger(FileActivityId::Update), wiped);
    assert_eq!(stranger(FileActivityId::Close), [], "nobody knows who, and nothing was written");
    world.run(INTRUDER, "/usr/sbin/sshd");
    assert_eq!(by(&world, FileActivityId::Delete, None), wiped, "a bookkeeper only writes");
    let away = FileActivity {
        file_result: Some("/tmp/x".into()),
        ..on_file(FileActivityId::Rename, INTRUDER, "/var/log/wtmp", ROOT)
    };
    assert_eq!(found(&world, &[Activity::File(away)]), wiped);
    let history = Activity::File(on_file(FileActivityId::Delete, INTRUDER, "/root/.bash_history", ROOT));
    assert_eq!(found(&world, &[history]), [("traces/history".to_owned(), Confidence::Medium)]);
}

#[test]
fn a_history_that_a_shell_emptied_is_named_as_one_where_histories_only_grow() {
    let world = World::new();
    let (mut detectors, mut out, mut configuration) = (Detectors::default(), Vec::new(), configuration());
    configuration.append_only.push("/root/.bash_history".to_owned());
    let context = Context { configuration: &configuration, change_window: false };
    let emptied = on_file(FileActivityId::Close, INTRUDER, "/root/.bash_history", ROOT);
    detectors.observe(&event(Activity::File(emptied)), &world, &context, &mut out);
    let found: Vec<(&str, &str)> =
        out.iter().map(|found| (found.analytic.as_str(), found.technique.as_str())).collect();
    assert_eq!(found, [("traces/log-wiping", "T1070.003")]);
}

#[test]
fn a_shell_on_a_socket_is_seen_whoever_runs_it() {
    let world = World::new();
    let shell = |pid, path: &str, bits| ran(&world, Process { socket_stdio: bits, ..exec(pid, path) });
    for pid in [INTRUDER, USER, ADMIN, UNIT, NGINX, DPKG] {
        assert_eq!(shell(pid, "/usr/bin/bash", 7), [("execution/socket-shell".to_owned(), Confidence::High)]);
    }
    assert_eq!(shell(USER, "/usr/bin/dash", 1)[0].1, Confidence::Medium);
    assert_eq!(shell(USER, "/usr/bin/python3.11", 7)[0].1, Confidence::Medium);
    assert_eq!(shell(USER, "/usr/bin/cat", 7), []);
    assert_eq!(shell(USER, "/usr/bin/bash", 0), []);
}

#[test]
fn a_program_without_a_name_is_seen_unless_a_container_runtime_runs_itself() {
    let mut world = World::new();
    let run = |world: &World, pid| ran(world, Process { fileless: true, ..exec(pid, "/memfd:x") });
    assert_eq!(run(&world, USER), [("execution/from-memory".to_owned(), Confidence::High)]);
    assert_eq!(run(&world, UNIT)[0].1, Confidence::Low);
    world.add(40, 1, "/usr/bin/runc", (ROOT, ROOT), (InvocationKind::Session, Some(ALICE)));
    world.add(41, 40, "/memfd:runc", (ROOT, ROOT), (InvocationKind::Session, Some(ALICE)));
    assert_eq!(run(&world, 41), []);
}

#[test]
fn a_download_is_seen_when_the_same_session_runs_it_soon() {
    let mut world = World::new();
    world.add(50, USER, "/usr/bin/curl", (ALICE, ALICE), (InvocationKind::Session, Some(ALICE)));
    world.invocations.get_mut(&50).unwrap().1 = USER;
    let fetched = Activity::File(on_file(FileActivityId::Close, 50, "/home/alice/x.part", ALICE));
    let named = FileActivity {
        file_result: Some("/home/alice/x".into()),
        ..on_file(FileActivityId::Rename, USER, "/home/alice/x.part", ALICE)
    };
    let run = |process: Process| {
        Activity::Process(ProcessActivity {
            activity: ProcessActivityId::Exec,
            actor: process.key,
            process,
            exit_code: None,
        })
    };
    let claimed = [("execution/download".to_owned(), Confidence::Medium)];
    let before = [fetched, Activity::File(named)];
    let then = |process| found(&world, &[before[0].clone(), before[1].clone(), run(process)]);
    assert_eq!(then(exec(USER, "/home/alice/x")), claimed);
    let script = Process {
        cmd_line: vec!["bash".to_owned(), "-e".to_owned(), "./x".to_owned()],
        working_directory: Some("/home/alice".into()),
        ..exec(USER, "/usr/bin/bash")
    };
    assert_eq!(then(script), claimed);
    assert_eq!(then(exec(INTRUDER, "/home/alice/x")), [], "another invocation");
    assert_eq!(then(exec(USER, "/home/alice/x.part")), [], "the old name");
}

#[test]
fn one_act_repeated_is_one_finding_and_the_rest_is_counted() {
    let (world, configuration) = (World::new(), configuration());
    let context = Context { configuration: &configuration, change_window: false };
    let (mut detectors, mut out) = (Detectors::default(), Vec::new());
    for round in 0..3 {
        for number in 0..300 {
            let path = format!("/etc/cron.d/x{number}");
            let activity = Activity::File(on_file(FileActivityId::Close, INTRUDER, &path, ROOT));
            detectors.observe(&event(activity), &world, &context, &mut out);
        }
        assert_eq!(out.len(), 256, "round {round}");
    }
    assert_eq!(detectors.counters, Counters { repeated: 512, beyond_limit: 132 });
    assert!(out.windows(2).all(|pair| pair[0].id < pair[1].id));
    let json = serde_json::to_string(&detectors).unwrap();
    assert_eq!(serde_json::from_str::<Detectors>(&json).unwrap(), detectors);
    let bytes = postcard::to_allocvec(&detectors).unwrap();
    assert_eq!(postcard::from_bytes::<Detectors>(&bytes).unwrap(), detectors);
}

#[test]
fn the_agents_own_writes_are_nobodys() {
    let mut world = World::new();
    world.add(99, 1, "/usr/bin/thymus", (ROOT, ROOT), (InvocationKind::Session, Some(ALICE)));
    assert_eq!(written(&world, 99, "/etc/ld.so.preload", ROOT), []);
}

#[test]
fn every_detector_has_a_name_and_a_technique_of_its_own_shape() {
    let mut names: Vec<&str> = DETECTORS.iter().map(|meta| meta.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), DETECTORS.len());
    for meta in DETECTORS {
        assert!(meta.technique.starts_with('T') && meta.technique.len() >= 5, "{meta:?}");
        assert!(meta.name.contains('/'), "{meta:?}");
    }
}

#[test]
fn a_secret_that_root_reads_for_nobody_in_particular_is_seen() {
    let mut world = World::new();
    world.add(60, NGINX, "/usr/bin/tar", (ROOT, ROOT), (InvocationKind::Request, None));
    world.add(61, NGINX, "/usr/bin/tar", (33, 33), (InvocationKind::Request, None));
    let reads =
        |world: &World, pid, path| found(world, &[Activity::File(on_file(FileActivityId::Read, pid, path, ROOT))]);
    let seen = [("credential-access/secret".to_owned(), Confidence::Medium)];
    for path in ["/etc/shadow", "/root/.ssh/id_ed25519", "/etc/ssl/private/shop.key"] {
        assert_eq!(reads(&world, INTRUDER, path), seen, "{path}");
        assert_eq!(reads(&world, 60, path), seen, "{path}");
        for pid in [USER, ADMIN, DPKG, UNIT, OWN_MANAGER, 61] {
            assert_eq!(reads(&world, pid, path), [], "{path} by {pid}");
        }
    }
    world.run(INTRUDER, "/usr/bin/sudo");
    assert_eq!(reads(&world, INTRUDER, "/etc/shadow"), [], "sudo looks up who asks");
}
