// SPDX-License-Identifier: Apache-2.0
//! The sensors on the real kernel. Needs root. Everything happens in a cgroup and on an ext4 image of the test's own,
//! and is gone afterwards.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};
use thymus_engine::event::{
    Activity, FileActivity, FileActivityId, FileKind, NetworkActivity, NetworkActivityId, ProcessActivity,
    ProcessActivityId, Traffic,
};
use thymus_engine::{HostPath, ProcessKey};
use thymus_host::scope::Scope;
use thymus_host::sense::{self, HookState, Observed, Options, Sensors};

/// A cgroup and a file system of our own.
struct Ground {
    cgroup: PathBuf,
    root: PathBuf,
    holder: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&OsStr]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Ground {
    fn new(name: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "the sensors' tests need root");
        let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let mount = mount.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists()).unwrap();
        let cgroup = mount.join(format!("thymus-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&cgroup).unwrap();
        let holder = tempfile::Builder::new().prefix("thymus-sense-").tempdir().unwrap();
        let (image, root) = (holder.path().join("image"), holder.path().join("root"));
        std::fs::create_dir(&root).unwrap();
        let ground = Self { cgroup, root, holder };
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), ground.root.as_os_str()]);
        ground
    }

    fn scope(&self) -> Scope {
        Scope::cgroup(&self.cgroup, &self.root).unwrap()
    }

    fn start(&self) -> Sensors {
        Sensors::start(&self.scope(), Options::default()).unwrap()
    }

    /// A command that runs inside the scope, in the guarded root directory.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg("echo $$ > \"$0/cgroup.procs\" && exec \"$@\"").arg(&self.cgroup).arg(program);
        command.current_dir(&self.root);
        command
    }

    fn perl(&self, script: &str) -> Vec<u8> {
        let output = self.command("perl").arg("-e").arg(script).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::write(self.cgroup.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::remove_dir(&self.cgroup).is_err() && self.cgroup.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = Command::new("umount").arg("-l").arg(&self.root).output();
        let _ = self.holder.path();
    }
}

/// Polls until `holds`, then until nothing comes any more.
fn collect(sensors: &mut Sensors, what: &str, mut holds: impl FnMut(&[Observed]) -> bool) -> Vec<Observed> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut quiet = Duration::ZERO;
    while quiet < Duration::from_millis(100) {
        assert!(Instant::now() < deadline, "timed out waiting until {what}; saw {seen:#?}");
        let before = seen.len();
        let waited = Instant::now();
        sensors.poll(Duration::from_millis(30), &mut seen).unwrap();
        quiet = if seen.len() == before && holds(&seen) { quiet + waited.elapsed() } else { Duration::ZERO };
    }
    seen
}

fn files(seen: &[Observed]) -> impl Iterator<Item = &FileActivity> {
    seen.iter().filter_map(|observed| match &observed.activity {
        Activity::File(file) => Some(file),
        _ => None,
    })
}

fn processes(seen: &[Observed]) -> impl Iterator<Item = &ProcessActivity> {
    seen.iter().filter_map(|observed| match &observed.activity {
        Activity::Process(process) => Some(process),
        _ => None,
    })
}

/// What happened to files, in order, as `activity path [-> result]`.
fn story(seen: &[Observed]) -> Vec<String> {
    let tell = |file: &FileActivity| match &file.file_result {
        None => format!("{:?} {}", file.activity, file.file.path),
        Some(result) => format!("{:?} {} -> {result}", file.activity, file.file.path),
    };
    files(seen).map(tell).collect()
}

fn ended(program: &'static str) -> impl FnMut(&[Observed]) -> bool {
    move |seen| {
        processes(seen).any(|activity| {
            activity.activity == ProcessActivityId::Terminate
                && activity.process.file.as_ref().is_some_and(|file| file.path.file_name() == program.as_bytes())
        })
    }
}

fn one_actor(seen: &[Observed]) -> ProcessKey {
    let actors: std::collections::BTreeSet<ProcessKey> = files(seen).map(|file| file.actor).collect();
    assert_eq!(actors.len(), 1, "one process did all this: {:#?}", story(seen));
    *actors.first().unwrap()
}

#[test]
fn every_hook_attaches_on_this_kernel_or_says_why_not() {
    let ground = Ground::new("hooks");
    let sensors = ground.start();
    let hooks = sensors.hooks();
    assert!(hooks.len() >= 8, "{hooks:?}");
    for hook in &hooks {
        assert!(!hook.blind_to.is_empty());
        assert_eq!(hook.state, HookState::Attached, "{hook:?}");
    }
    drop(sensors);
    assert_eq!(sense::hooks_available(&ground.scope()), hooks);
}

#[test]
fn a_process_is_followed_from_fork_to_exit_with_its_parents() {
    let ground = Ground::new("process");
    let mut sensors = ground.start();
    let child = ground.command("/bin/sh").args(["-c", "/bin/true one 'two three'; exit 7"]).spawn().unwrap();
    let pid = child.id();
    assert_eq!(wait(child), Some(7));
    let seen = collect(&mut sensors, "the shell has ended", |seen| {
        processes(seen).any(|one| one.activity == ProcessActivityId::Terminate && one.process.key.pid == pid)
    });
    let exec = |name: &str| {
        processes(&seen)
            .find(|one| {
                let file = one.process.file.as_ref();
                one.activity == ProcessActivityId::Exec
                    && file.is_some_and(|file| file.path.file_name() == name.as_bytes())
            })
            .unwrap_or_else(|| panic!("{name} is not in {seen:#?}"))
    };
    let (shell, command) = (exec("dash"), exec("true"));
    assert_eq!(shell.process.key.pid, pid);
    assert_eq!(shell.process.parent.pid, std::process::id());
    assert_eq!(shell.process.parent, sense::process_key(std::process::id()).unwrap(), "same clock, same key");
    assert_eq!(command.process.parent, shell.process.key);
    assert_eq!(command.process.cmd_line, ["/bin/true", "one", "two three"]);
    assert_eq!(command.process.working_directory, Some(HostPath::from("/")), "the guarded root");
    assert!(!command.process.fileless);
    assert_eq!(command.process.socket_stdio, 0);
    let fork = processes(&seen).find(|one| one.process.key == command.process.key).unwrap();
    assert_eq!((fork.activity, fork.actor), (ProcessActivityId::Fork, shell.process.key));
    assert!(fork.process.cmd_line.is_empty());
    let exits: Vec<_> = processes(&seen).filter(|one| one.activity == ProcessActivityId::Terminate).collect();
    let of = |key| exits.iter().filter(|one| one.process.key == key).collect::<Vec<_>>();
    assert_eq!(of(command.process.key).len(), 1);
    assert_eq!(of(command.process.key)[0].exit_code, Some(0));
    assert_eq!(of(shell.process.key)[0].exit_code, Some(7 << 8), "a wait status");
    assert!(seen.is_sorted_by_key(|observed| observed.time));
}

fn wait(mut child: Child) -> Option<i32> {
    child.wait().unwrap().code()
}

#[test]
fn a_change_of_user_is_told_once() {
    let ground = Ground::new("user");
    let mut sensors = ground.start();
    ground.perl("use POSIX; POSIX::setgid(65534); POSIX::setuid(65533); POSIX::setuid(65533);");
    let seen = collect(&mut sensors, "perl has ended", ended("perl"));
    let changes: Vec<_> = processes(&seen).filter(|one| one.activity == ProcessActivityId::SetUserId).collect();
    assert_eq!(changes.len(), 1, "{changes:#?}");
    assert_eq!(changes[0].process.user.uid, 65_533);
    assert_eq!(changes[0].process.user.euid, 65_533);
    assert_eq!(changes[0].actor, changes[0].process.key);
}

#[test]
fn each_file_operation_is_told_once_with_its_path_its_actor_and_in_order() {
    let ground = Ground::new("file");
    std::fs::write(ground.root.join("old"), "x").unwrap();
    let mut sensors = ground.start();
    ground.perl(
        r#"
        mkdir 'd' or die; open F, '>', 'd/a' or die; syswrite F, 'x' or die; syswrite F, 'y' or die; close F;
        open F, '>>', 'old' or die; syswrite F, 'z' or die; close F;
        chmod 0600, 'd/a' or die; chown 1, 2, 'd/a' or die;
        my $n = 'user.t'; my $v = 'v'; my $p = 'd/a'; syscall(188, $p, $n, $v, 1, 0) == 0 or die;
        link 'd/a', 'd/b' or die; symlink 'a', 'd/s' or die;
        rename 'd/b', 'd/c' or die; rename 'd/c', 'e' or die;
        truncate 'd/a', 1 or die;
        unlink 'd/s' or die; unlink 'd/a' or die; unlink 'e' or die; rmdir 'd' or die;
        "#,
    );
    let seen = collect(&mut sensors, "perl has ended", ended("perl"));
    one_actor(&seen);
    assert_eq!(
        story(&seen),
        [
            "Create /d",
            "Create /d/a",
            "Update /d/a",
            "Close /d/a",
            "Open /old",
            "Update /old",
            "Close /old",
            "SetAttributes /d/a",
            "SetAttributes /d/a",
            "SetSecurity /d/a",
            "Link /d/a -> /d/b",
            "Create /d/s",
            "Rename /d/b -> /d/c",
            "Rename /d/c -> /e",
            "Truncate /d/a",
            "Delete /d/s",
            "Delete /d/a",
            "Delete /e",
            "Delete /d",
        ]
    );
}

#[test]
fn where_a_link_leads_that_was_made_is_told_when_it_says_so_from_the_root() {
    let ground = Ground::new("link");
    let mut sensors = ground.start();
    ground.perl("symlink '/srv/x.service', 'l' or die; symlink 'x', 'm' or die;");
    let seen = collect(&mut sensors, "perl has ended", ended("perl"));
    let made = seen.iter().filter_map(|observed| match &observed.activity {
        Activity::File(file) if file.activity == FileActivityId::Create => file.target.as_ref(),
        _ => None,
    });
    assert_eq!(made.map(ToString::to_string).collect::<Vec<_>>(), ["/srv/x.service"]);
}

#[test]
fn a_truncation_by_path_is_told_of_the_file_that_was_truncated() {
    let ground = Ground::new("truncate");
    for directory in ["d", "e"] {
        std::fs::create_dir(ground.root.join(directory)).unwrap();
        std::fs::write(ground.root.join(directory).join("f"), "content").unwrap();
    }
    std::os::unix::fs::symlink("e/f", ground.root.join("way")).unwrap();
    let mut sensors = ground.start();
    // One file of the same name is open and written meanwhile; the other is reached by another name.
    ground.perl(
        r#"
        open F, '>>', 'd/f' or die; syswrite F, 'x' or die;
        truncate 'e/f', 3 or die; truncate 'way', 2 or die;
        close F; truncate 'd/f', 5 or die;
        "#,
    );
    let seen = collect(&mut sensors, "perl has ended", ended("perl"));
    one_actor(&seen);
    // Two changes of one file may be one event of the kernel, so only which files were cut is sure.
    let (mut cut, rest): (Vec<String>, Vec<String>) =
        story(&seen).into_iter().partition(|line| line.starts_with("Truncate"));
    cut.sort();
    cut.dedup();
    assert_eq!(cut, ["Truncate /d/f", "Truncate /e/f"]);
    assert_eq!(rest, ["Open /d/f", "Update /d/f", "Close /d/f"], "nothing is opened to truncate it");
}

#[test]
fn hostile_names_arrive_as_they_are() {
    let ground = Ground::new("names");
    let mut sensors = ground.start();
    let long = [b'n'; 255];
    let names: [&[u8]; 4] = [b"new\nline", b"\xff\xfe not utf-8", &long, b" (deleted)"];
    for name in names {
        let output = ground.command("touch").arg(OsStr::from_bytes(name)).output().unwrap();
        assert!(output.status.success());
    }
    let seen = collect(&mut sensors, "four files are there", |seen| {
        files(seen).filter(|file| file.activity == FileActivityId::Create).count() == 4
    });
    let found: Vec<Vec<u8>> = files(&seen)
        .filter(|file| file.activity == FileActivityId::Create)
        .map(|file| file.file.path.as_bytes().to_vec())
        .collect();
    let wanted: Vec<Vec<u8>> = names.iter().map(|name| [b"/", *name].concat()).collect();
    assert_eq!(found, wanted);
    let known = files(&seen).all(|file| file.actor.start_time.0 > 0);
    assert!(known, "touch had ended when its events were read, and is known all the same");
}

#[test]
fn what_is_written_is_told_before_it_is_run() {
    let ground = Ground::new("exec");
    let mut sensors = ground.start();
    for round in 0..20 {
        let script = format!("cp /bin/true ./tool{round} && ./tool{round} && mv ./tool{round} ./last && ./last");
        assert!(ground.command("/bin/sh").args(["-c", &script]).status().unwrap().success());
    }
    let mut executed = 0;
    let seen = collect(&mut sensors, "forty programs ran", |seen| {
        let path = |one: &ProcessActivity| one.process.file.as_ref().map(|file| file.path.clone());
        executed = processes(seen)
            .filter(|one| one.activity == ProcessActivityId::Exec)
            .filter(|one| path(one).is_some_and(|path| path.file_name().starts_with(b"tool") || path == "/last".into()))
            .count();
        executed == 40
    });
    assert!(seen.is_sorted_by_key(|observed| observed.time), "one order");
    for round in 0..20 {
        let tool = HostPath::from(format!("/tool{round}").as_str());
        let at = |wanted: &dyn Fn(&Activity) -> bool| seen.iter().position(|one| wanted(&one.activity)).unwrap();
        let file = |id: FileActivityId| {
            let tool = tool.clone();
            move |activity: &Activity| matches!(activity, Activity::File(file) if file.activity == id && file.file.path == tool)
        };
        let created = at(&file(FileActivityId::Create));
        let closed = at(&file(FileActivityId::Close));
        let renamed = at(&file(FileActivityId::Rename));
        let ran = at(&|activity| {
            matches!(activity, Activity::Process(one) if one.activity == ProcessActivityId::Exec
                && one.process.file.as_ref().is_some_and(|file| file.path == tool))
        });
        assert!(created < closed && closed < ran && ran < renamed, "{created} {closed} {ran} {renamed}");
    }
}

#[test]
fn a_script_is_named_from_the_directory_it_was_run_in() {
    let ground = Ground::new("script");
    std::fs::create_dir(ground.root.join("bin")).unwrap();
    std::fs::write(ground.root.join("bin/run"), "#!/bin/sh -e\nexit 0\n").unwrap();
    run("chmod", &["755".as_ref(), ground.root.join("bin/run").as_os_str()]);
    let mut sensors = ground.start();
    assert!(ground.command("./bin/../bin/run").arg("x").status().unwrap().success());
    let seen = collect(&mut sensors, "the script has ended", |seen| {
        processes(seen).any(|one| {
            one.process.cmd_line.iter().any(|argument| argument == "x") && {
                one.activity == ProcessActivityId::Terminate
            }
        })
    });
    let lines: Vec<_> = processes(&seen).map(|one| one.process.cmd_line.clone()).collect();
    assert!(lines.contains(&vec!["/bin/sh".into(), "-e".into(), "/bin/run".into(), "x".into()]), "{lines:?}");
}

#[test]
fn a_program_without_a_name_is_fileless() {
    let ground = Ground::new("fileless");
    let mut sensors = ground.start();
    let script = r"
        use Fcntl; my $n = 'secret'; my $fd = syscall(319, $n, 0); open my $m, '>&=', $fd or die;
        open my $t, '<', '/bin/true'; local $/; print {$m} scalar(<$t>); $m->flush();
        exec {'/proc/self/fd/' . $fd} 'named', 'argument';";
    ground.perl(script);
    let seen = collect(&mut sensors, "it has run", |seen| processes(seen).any(|one| one.process.fileless));
    let one = processes(&seen).find(|one| one.process.fileless).unwrap();
    assert_eq!(one.process.file.as_ref().unwrap().path, "/memfd:secret".into());
    assert_eq!(one.process.cmd_line, ["named", "argument"]);
}

#[test]
fn a_shell_on_a_network_connection_shows_its_sockets() {
    let ground = Ground::new("socket");
    let mut sensors = ground.start();
    ground.perl(
        r"
        use Socket; socket(my $l, PF_INET, SOCK_STREAM, 0); bind($l, sockaddr_in(0, INADDR_LOOPBACK)); listen($l, 1);
        socket(my $c, PF_INET, SOCK_STREAM, 0); connect($c, getsockname($l)) or die;
        open STDIN, '<&', $c; open STDOUT, '>&', $c; exec '/bin/true';",
    );
    let seen = collect(&mut sensors, "it has run", ended("true"));
    let one = processes(&seen).filter(|one| one.activity == ProcessActivityId::Exec).last().unwrap();
    assert_eq!(one.process.socket_stdio, 0b011);
}

#[test]
fn an_agent_that_starts_late_knows_who_is_there() {
    let ground = Ground::new("late");
    let mut shell = ground.command("/bin/sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let procs = || std::fs::read_to_string(ground.cgroup.join("cgroup.procs")).unwrap().lines().count();
    while procs() < 2 {
        assert!(Instant::now() < deadline, "timed out waiting until the shell has a child");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut sensors = ground.start();
    let mut seen = Vec::new();
    sensors.inventory(&mut seen).unwrap();
    let known: Vec<_> = processes(&seen).collect();
    assert_eq!(known.len(), 2, "{known:#?}");
    assert!(known.iter().all(|one| one.activity == ProcessActivityId::Inventory));
    let sleep = known.iter().find(|one| one.process.cmd_line == ["sleep", "1000"]).unwrap();
    assert_eq!(sleep.process.parent, known[0].process.key, "parents come first");
    assert_eq!(sleep.process.key, sense::process_key(sleep.process.key.pid).unwrap());
    let _ = Command::new("kill").arg(sleep.process.key.pid.to_string()).status();
    let _ = shell.wait();
    let seen = collect(&mut sensors, "both have ended", |seen| {
        processes(seen).filter(|one| one.activity == ProcessActivityId::Terminate).count() == 2
    });
    let again = processes(&seen).filter(|one| one.activity == ProcessActivityId::Inventory).count();
    assert_eq!(again, 0, "nobody is told twice");
}

#[test]
fn a_tree_that_is_gone_when_we_look_still_has_its_names() {
    let ground = Ground::new("gone");
    for directory in 0..20 {
        let path = ground.root.join(format!("old/{directory}/deep"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("file"), "x").unwrap();
    }
    let mut sensors = ground.start();
    assert!(ground.command("rm").args(["-rf", "old"]).status().unwrap().success());
    let seen = collect(&mut sensors, "rm has ended", ended("rm"));
    let told = story(&seen);
    for directory in 0..20 {
        let line = format!("Delete /old/{directory}/deep/file");
        assert_eq!(told.iter().filter(|other| **other == line).count(), 1, "{line}");
    }
    assert_eq!(told.len(), 61, "{told:#?}");
    assert_eq!(sensors.losses(), sense::Losses::default());
}

#[test]
fn a_storm_loses_nothing_or_counts_what_it_lost() {
    let ground = Ground::new("storm");
    let mut sensors = ground.start();
    let storm = std::thread::scope(|threads| {
        let storm = threads.spawn(|| {
            ground.perl("for my $i (1 .. 5000) { open F, '>', $i; print F $i; close F; rename $i, \"r$i\"; }")
        });
        let mut seen = Vec::new();
        let mut done = ended("perl");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done(&seen) {
            assert!(Instant::now() < deadline, "timed out waiting until the storm is over");
            sensors.poll(Duration::from_millis(100), &mut seen).unwrap();
        }
        storm.join().unwrap();
        seen.extend(collect(&mut sensors, "it is quiet", |_| true));
        seen
    });
    let count = |id| files(&storm).filter(|file| file.activity == id).count();
    let losses = sensors.losses();
    eprintln!("{} activities, {losses:?}", storm.len());
    let told: u64 = storm
        .iter()
        .filter_map(|one| match &one.activity {
            Activity::Loss(loss) => Some(loss.count),
            _ => None,
        })
        .sum();
    assert_eq!(told, losses.ring + losses.fanotify + losses.unreadable + losses.evicted, "each loss is an event too");
    if told == 0 {
        for id in [FileActivityId::Create, FileActivityId::Update, FileActivityId::Close, FileActivityId::Rename] {
            assert_eq!(count(id), 5_000, "{id:?}");
        }
    }
    one_actor(&storm);
}

#[test]
fn a_full_ring_buffer_is_counted_and_told() {
    let ground = Ground::new("full");
    let options = Options { ring_bytes: 65_536, own_writes: false };
    let mut sensors = Sensors::start(&ground.scope(), options).unwrap();
    // Nobody reads meanwhile.
    ground.perl("for my $i (1 .. 2000) { open F, '>', $i; print F $i; close F; }");
    let seen = collect(&mut sensors, "the loss is told", |seen| {
        seen.iter().any(|one| matches!(&one.activity, Activity::Loss(loss) if loss.source == "process/ring-buffer"))
    });
    assert!(sensors.losses().ring > 0);
    let names = files(&seen).filter(|file| file.activity == FileActivityId::Create).count();
    assert_eq!(names, 2_000, "fanotify still has every name");
}

#[test]
fn outside_the_scope_nobody_is_recorded_but_their_changes_within_are_seen() {
    let ground = Ground::new("outside");
    let mut sensors = ground.start();
    run("touch", &[ground.root.join("from-outside").as_os_str()]);
    run("touch", &[ground.holder.path().join("elsewhere").as_os_str()]);
    let seen = collect(&mut sensors, "the file is there", |seen| files(seen).count() >= 1);
    assert!(story(&seen).contains(&"Create /from-outside".to_owned()), "{:?}", story(&seen));
    assert!(story(&seen).iter().all(|line| line.ends_with("/from-outside")));
    assert!(processes(&seen).all(|one| one.activity == ProcessActivityId::Inventory));
}

#[test]
fn a_link_gives_an_unnamed_file_its_first_name() {
    let ground = Ground::new("unnamed");
    let mut sensors = ground.start();
    // open(O_TMPFILE), linkat(AT_SYMLINK_FOLLOW) through /proc: a way around a sensor that looks at creations only.
    ground.perl(
        r#"
        my $d = '.'; my $fd = syscall(257, -100, $d, 0x410002, 0600); $fd >= 0 or die;
        my $x = 'x'; syscall(1, $fd, $x, 1) == 1 or die;
        my ($p, $n) = ("/proc/self/fd/$fd", 'named'); syscall(265, -100, $p, -100, $n, 0x400) == 0 or die;"#,
    );
    let seen = collect(&mut sensors, "perl has ended", ended("perl"));
    assert_eq!(story(&seen), ["Create /named", "Close /named"]);
    assert!(files(&seen).all(|file| file.kind == FileKind::Regular));
}

/// How the drills' intruder changes files past a sensor that looks at write(2) and names.
const EVADE: &str = include_str!("../../drill/src/scenario/evasion/evade.pl");

#[test]
fn by_whatever_way_a_file_is_written_its_name_and_its_writer_are_told() {
    let ground = Ground::new("evade");
    let mut sensors = ground.start();
    for way in ["uring", "uring-worker", "uring-poll", "mapped", "mapped-late", "nameless"] {
        let path = ground.root.join(way);
        std::fs::write(&path, "before\n").unwrap();
        collect(&mut sensors, "the file is there", |_| true);
        let arguments = [way.as_ref(), "append".as_ref(), path.as_os_str(), "600".as_ref(), "after".as_ref()];
        let child = ground.command("perl").arg("-e").arg(EVADE).args(arguments).spawn().unwrap();
        let pid = child.id();
        assert_eq!(wait(child), Some(0), "{way}");
        let seen = collect(&mut sensors, way, ended("perl"));
        let name = format!("/{way}");
        let arrives = |file: &&FileActivity| match file.activity {
            FileActivityId::Close => file.file.path == name.as_str().into(),
            FileActivityId::Rename => file.file_result == Some(name.as_str().into()),
            _ => false,
        };
        let arrival = files(&seen).find(arrives).unwrap_or_else(|| panic!("{way}: {:#?}", story(&seen)));
        assert_eq!(arrival.actor.pid, pid, "{way}: {:#?}", story(&seen));
        assert_eq!(one_actor(&seen), arrival.actor, "{way}");
    }
}

#[test]
fn users_are_shown_as_their_own_namespace_has_them() {
    let ground = Ground::new("users");
    let script = "read x; exec perl -e 'use POSIX; POSIX::setuid(5) or die'";
    let mut unshare = ground.command("unshare");
    unshare.args(["-U", "-p", "-f", "--kill-child", "/bin/sh", "-c", script]);
    let mut unshare = unshare.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let leader = loop {
        assert!(Instant::now() < deadline, "timed out waiting until the namespace has a first process");
        if let Some(pid) = ground.scope().leader() {
            break pid;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    std::fs::write(format!("/proc/{leader}/uid_map"), "0 0 1\n1 100000 65535\n").unwrap();
    std::fs::write(format!("/proc/{leader}/gid_map"), "0 0 1\n1 100000 65535\n").unwrap();
    let mut sensors = ground.start();
    drop(unshare.stdin.take());
    assert!(unshare.wait().unwrap().success());
    let seen = collect(&mut sensors, "perl has ended", ended("perl"));
    let change = processes(&seen).find(|one| one.activity == ProcessActivityId::SetUserId).unwrap();
    assert_eq!((change.process.key.pid, change.process.user.uid), (leader, 5));
    let exec = processes(&seen).find(|one| one.activity == ProcessActivityId::Exec).unwrap();
    assert_eq!(exec.process.user.uid, 0);
}

#[test]
fn who_makes_many_files_wakes_the_sensors_once_a_millisecond_and_none_is_missed() {
    let ground = Ground::new("rest");
    let mut sensors = ground.start();
    let script = "for my $n (1 .. 5000) { open F, '>', \"f$n\" or die; print F $n; close F }";
    let mut child = ground.command("perl").arg("-e").arg(script).spawn().unwrap();
    let (begun, mut looks, mut seen) = (Instant::now(), 0u128, Vec::new());
    while child.try_wait().unwrap().is_none() {
        sensors.poll(Duration::from_millis(100), &mut seen).unwrap();
        looks += 1;
    }
    // Programs that start do not wait: the shell and what it becomes.
    let most = begun.elapsed().as_millis() + 8;
    assert!(looks <= most, "{looks} looks in {most} ms");
    seen.extend(collect(&mut sensors, "nothing comes any more", |_| true));
    let closed = files(&seen).filter(|file| file.activity == FileActivityId::Close).count();
    assert_eq!((closed, sensors.losses().unreadable), (5_000, 0));
}

/// What was told of the network from now on, until `enough`.
fn network(sensors: &mut Sensors, enough: impl Fn(&[NetworkActivity]) -> bool) -> Vec<NetworkActivity> {
    let (mut told, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(20));
    while !enough(&told) {
        let mut out = Vec::new();
        sensors.poll(Duration::from_millis(20), &mut out).unwrap();
        told.extend(out.into_iter().filter_map(|observed| match observed.activity {
            Activity::Network(network) => Some(network),
            _ => None,
        }));
        assert!(Instant::now() < deadline, "timed out: {told:#?}");
    }
    told
}

/// Listens on loopback, takes one connection in a child, reads 5 bytes and answers 3; then connects to the same port in vain.
const TALK: &str = r#"
    use IO::Socket::INET;
    my $listener = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!;
    my $port = $listener->sockport;
    my $child = fork;
    if (!$child) {
        my $one = $listener->accept or die $!;
        read($one, my $got, 5); print $one "yes"; close $one;
        exit 0;
    }
    my $one = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or die $!;
    print $one "hello"; $one->flush; read($one, my $got, 3); close $one;
    waitpid $child, 0; close $listener;
    IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") and die "somebody listens";
    print "$$ $child $port";
"#;

#[test]
fn a_connection_is_told_by_both_ends_with_who_had_it_and_what_went_over_it() {
    let ground = Ground::new("network");
    let mut sensors = ground.start();
    let text = String::from_utf8(ground.perl(TALK)).unwrap();
    let numbers: Vec<u32> = text.split(' ').map(|number| number.parse().unwrap()).collect();
    let (parent, child, port) = (numbers[0], numbers[1], u16::try_from(numbers[2]).unwrap());
    let ended = |told: &[NetworkActivity]| told.iter().any(|one| one.activity == NetworkActivityId::Refuse);
    let all = |told: &[NetworkActivity]| {
        ended(told) && told.iter().filter(|one| one.activity == NetworkActivityId::Close).count() >= 3
    };
    let told = network(&mut sensors, all);
    let of = |activity, pid: u32| -> Vec<&NetworkActivity> {
        told.iter().filter(|one| one.activity == activity && one.actor.pid == pid).collect()
    };
    let listens = of(NetworkActivityId::Listen, parent);
    assert_eq!(listens.len(), 1, "{told:#?}");
    assert_eq!((listens[0].local.port, &listens[0].remote, listens[0].inbound), (port, &None, true));
    let (out, taken) = (of(NetworkActivityId::Open, parent), of(NetworkActivityId::Open, child));
    assert_eq!((out.len(), taken.len()), (1, 1), "{told:#?}");
    assert_eq!((out[0].inbound, out[0].remote.as_ref().unwrap().port), (false, port));
    assert_eq!((taken[0].inbound, taken[0].local.port), (true, port));
    assert_eq!(Some(&out[0].local), taken[0].remote.as_ref(), "one end's own is the other's peer");
    assert_eq!(out[0].local.ip, IpAddr::from([127, 0, 0, 1]));
    let traffic = |pid| of(NetworkActivityId::Close, pid).iter().find_map(|one| one.traffic).unwrap();
    assert_eq!(traffic(parent), Traffic { received: 3, sent: 5 });
    assert_eq!(traffic(child), Traffic { received: 5, sent: 3 });
    assert!(of(NetworkActivityId::Close, parent).iter().any(|one| one.remote.is_none()), "the listener's end");
    assert_eq!(of(NetworkActivityId::Refuse, parent).len(), 1, "{told:#?}");
    assert!(told.iter().all(|one| !one.before));
}

#[test]
fn connections_and_listeners_from_before_are_told_once_and_so_is_their_end() {
    let ground = Ground::new("sockets");
    let script = r#"
        use IO::Socket::INET;
        my $listener = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!;
        my $out = IO::Socket::INET->new(PeerAddr => "127.0.0.1:" . $listener->sockport) or die $!;
        my $in = $listener->accept or die $!;
        $| = 1; print $listener->sockport, "\n"; <STDIN>; print $out "late"; close $out; read($in, my $got, 4); close $in;
    "#;
    let mut command = ground.command("perl");
    command.arg("-e").arg(script).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    let mut sensors = ground.start();
    sensors.inventory(&mut Vec::new()).unwrap();
    let told = network(&mut sensors, |told| told.len() >= 3);
    assert!(told.iter().all(|one| one.before && one.actor.pid == child.id()), "{told:#?}");
    let listener = told.iter().find(|one| one.activity == NetworkActivityId::Listen).unwrap();
    assert_eq!((told.len(), listener.local.port), (3, port));
    let mut ends: Vec<bool> =
        told.iter().filter(|one| one.activity == NetworkActivityId::Open).map(|one| one.inbound).collect();
    ends.sort_unstable();
    assert_eq!(ends, [false, true], "the accepted end is the one with the listener's port");
    drop(child.stdin.take());
    let closed = network(&mut sensors, |told| told.len() >= 3);
    assert!(closed.iter().all(|one| one.activity == NetworkActivityId::Close), "{closed:#?}");
    assert!(closed.iter().any(|one| one.traffic == Some(Traffic { received: 0, sent: 4 })), "{closed:#?}");
    child.wait().unwrap();
}

#[test]
fn who_opens_a_secret_for_reading_is_told_and_what_everybody_may_read_is_none() {
    let ground = Ground::new("secrets");
    std::fs::create_dir_all(ground.root.join("etc/ssh")).unwrap();
    std::fs::create_dir_all(ground.root.join("home/alice/.ssh")).unwrap();
    let file = |name: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(ground.root.join(name), "x").unwrap();
        std::fs::set_permissions(ground.root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, mode) in [
        ("etc/shadow", 0o640),
        ("etc/ssh/ssh_host_rsa_key", 0o600),
        ("etc/ssh/ssh_host_rsa_key.pub", 0o644),
        ("etc/ssh/ssh_config", 0o640),
        ("etc/a.key", 0o400),
        ("etc/b.key", 0o644),
        ("home/alice/.ssh/id_ed25519", 0o600),
        ("home/alice/.ssh/id_ed25519.pub", 0o600),
        ("etc/notes", 0o600),
    ] {
        file(name, mode);
    }
    std::os::unix::fs::chown(ground.root.join("home/alice/.ssh/id_ed25519"), Some(1_001), Some(1_002)).unwrap();
    let mut sensors = ground.start();
    ground.perl(
        "for (glob('etc/* etc/ssh/* home/alice/.ssh/*')) { next if -d; open my $f, '<', $_ or die; <$f>; } \
         open my $w, '>>', 'etc/shadow' or die;",
    );
    let seen = collect(&mut sensors, "perl has ended", ended("perl"));
    let read = files(&seen).filter(|file| file.activity == FileActivityId::Read);
    let mut read: Vec<String> = read.map(|file| file.file.path.to_string()).collect();
    read.sort();
    assert_eq!(read, ["/etc/a.key", "/etc/shadow", "/etc/ssh/ssh_host_rsa_key", "/home/alice/.ssh/id_ed25519"]);
    let key =
        files(&seen).find(|file| file.activity == FileActivityId::Read && file.file.path.file_name() == b"id_ed25519");
    let mode = key.unwrap().mode.unwrap();
    assert_eq!((mode.bits, mode.uid, mode.gid), (0o600, 1_001, 1_002), "whose it is");
    let reader = files(&seen).find(|file| file.activity == FileActivityId::Read).unwrap().actor;
    assert_eq!(
        processes(&seen).find(|process| process.activity == ProcessActivityId::Exec).unwrap().process.key,
        reader
    );
}
