// SPDX-License-Identifier: Apache-2.0
//! Tests with real twins, in order, one at a time. Needs root and what `make setup` installs.
//!
//! `cargo test -p thymus-drill --test twins -- [NAME]` runs those whose sentence contains NAME.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use thymus_drill::agent::Agent;
use thymus_drill::base::{self, Disk};
use thymus_drill::run::AgentChoice;
use thymus_drill::session::{Keys, Session};
use thymus_drill::twin::{self, Confinement, Twin};
use thymus_drill::{Options, Placement, RespondAfter, Stage, hardening, interrupt, scenario};
use thymus_engine::golden::{Kind, Report};

const TESTS: [(&str, fn()); 9] = [
    ("root inside a twin cannot change the machine", hardened),
    ("a twin without a user namespace gives an agent what it needs and no device", inside_capabilities),
    ("a twin that ended leaves nothing", normal_end),
    ("an interrupted harness leaves nothing", interrupted),
    ("a harness that is interrupted while its twin starts ends and leaves nothing", interrupted_early),
    ("what a killed harness left, the next one removes", killed),
    ("without an agent every tampered path is residue, and nothing else is", every_tampered_path_is_residue),
    ("benign work alone is quiet", benign_is_quiet),
    ("what an administrator adds is named, exactly, with who and when", what_is_added_is_named),
];

fn main() -> ExitCode {
    interrupt::listen();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some("hold-a-twin") {
        hold();
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let chosen = TESTS.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())));
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in chosen {
        let begin = std::time::Instant::now();
        if std::panic::catch_unwind(test).is_ok() {
            passed += 1;
            println!("test {name} ... ok ({:.1} s)", begin.elapsed().as_secs_f32());
        } else {
            failed += 1;
            println!("test {name} ... FAILED");
        }
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out",
        if failed == 0 { "ok" } else { "FAILED" },
        TESTS.len() - passed - failed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the machine shows of twins must be nothing.
fn assert_clean() {
    assert_eq!(twin::traces(&base::cache()), Vec::<String>::new());
}

fn hardened() {
    let disk = Disk::open(&base::cache()).unwrap();
    hardening::prove(&disk).unwrap_or_else(|error| panic!("{error}"));
}

fn inside_capabilities() {
    let disk = Disk::open(&base::cache()).unwrap();
    let mut twin = Twin::new(&disk, "caps").unwrap();
    twin.boot(Confinement::Capabilities).unwrap();
    let status = twin.inside(&["cat", "/proc/1/status"]).unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    let has = u64::from_str_radix(bounding.trim(), 16).unwrap();
    // capabilities(7): what an agent needs, and what nobody in a twin may have
    for (name, bit, wanted) in [
        ("CAP_BPF", 39, true),
        ("CAP_PERFMON", 38, true),
        ("CAP_SYS_ADMIN", 21, true),
        ("CAP_SYS_PTRACE", 19, true),
        ("CAP_DAC_READ_SEARCH", 2, true),
        ("CAP_SYS_TIME", 25, false),
        ("CAP_SYS_MODULE", 16, false),
        ("CAP_SYS_RAWIO", 17, false),
        ("CAP_MKNOD", 27, false),
        ("CAP_AUDIT_CONTROL", 30, false),
    ] {
        assert_eq!(has >> bit & 1 == 1, wanted, "{name}");
    }
    let devices = twin.inside(&["systemd-run", "--quiet", "--pipe", "--wait", "find", "/dev", "-type", "b"]).unwrap();
    assert_eq!(devices.trim(), "");
}

fn normal_end() {
    {
        let disk = Disk::open(&base::cache()).unwrap();
        let mut twin = Twin::new(&disk, "end").unwrap();
        twin.boot(Confinement::UserNamespace).unwrap();
        assert!(!twin::traces(&base::cache()).is_empty(), "a running twin shows");
    }
    assert_clean();
}

/// The other side of the two tests below: a harness with a running twin that waits for its end.
fn hold() {
    let disk = Disk::open(&base::cache()).unwrap();
    let mut twin = Twin::new(&disk, "held").unwrap();
    twin.boot(Confinement::UserNamespace).unwrap();
    println!("ready");
    while interrupt::check().is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn holder() -> Command {
    let mut holder = Command::new(std::env::current_exe().unwrap());
    holder.arg("hold-a-twin").stdout(Stdio::piped());
    holder
}

fn start_holder() -> Child {
    let mut holder = holder().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    holder
}

fn interrupted() {
    let mut holder = start_holder();
    let pid = holder.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(holder.wait().unwrap().success());
    assert_clean();
}

fn interrupted_early() {
    // While it waits for another harness: it learns of it between the twin's birth and its first process.
    let other = Disk::open(&base::cache()).unwrap();
    let mut waiting = interrupt_after(Duration::from_millis(300));
    drop(other);
    assert_ends(&mut waiting);
    for delay in (0..12).map(|step| Duration::from_millis(20 * step)) {
        assert_ends(&mut interrupt_after(delay));
    }
}

fn interrupt_after(delay: Duration) -> Child {
    let holder = holder().stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    assert!(Command::new("kill").args(["-INT", &holder.id().to_string()]).status().unwrap().success());
    holder
}

fn assert_ends(holder: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while holder.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            holder.kill().unwrap();
            panic!("an interrupted harness waits for ever");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Before it listened for signals it may have ended at once, and the next one removes what is left.
    drop(Disk::open(&base::cache()).unwrap());
    assert_clean();
}

fn killed() {
    let mut holder = start_holder();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(!twin::traces(&base::cache()).is_empty(), "the twin outlives its harness");
    drop(Disk::open(&base::cache()).unwrap());
    assert_clean();
}

fn without_agent(scenario: &str, seed: u64) -> thymus_drill::Report {
    let options = Options {
        scenarios: vec![scenario::named(scenario).unwrap()],
        seed,
        runs: 1,
        agent: AgentChoice::None,
        respond_after: RespondAfter::Detection,
        ordeal: None,
        undo: false,
        soak: None,
        thymus: Path::new("/nonexistent").to_owned(),
        cache: base::cache(),
    };
    let mut reports = Vec::new();
    thymus_drill::run(&options, &|line| println!("  {line}"), |report| reports.push(report.clone())).unwrap();
    println!("{}", reports[0]);
    assert_clean();
    reports.remove(0)
}

fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

fn every_tampered_path_is_residue() {
    let report = without_agent("persistence", seed());
    assert!(report.objects_tampered > 25, "{report}");
    assert_eq!(report.residue.len(), report.objects_tampered, "{report}");
    assert_eq!(report.objects_restored_exactly, 0, "{report}");
    assert_eq!(report.benign_changes_lost, Vec::new(), "{report}");
    assert_eq!(report.benign_processes_harmed, 0, "{report}");
    assert_eq!(report.noise_forbidden, Vec::new(), "{report}");
    assert!(report.attacker_processes_left > 0, "{report}");
    assert_eq!(report.stage, Stage::Undetected);
    assert!(!report.holds());
}

fn benign_is_quiet() {
    let report = without_agent("benign", seed());
    assert!(report.holds(), "{report}");
}

/// `thymus`, built beside this test.
fn thymus() -> std::path::PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(2).unwrap().join("thymus")
}

/// Two looks may be so far apart.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn what_is_added_is_named() {
    const MINUTE: Duration = Duration::from_secs(60);
    {
        let disk = Disk::open(&base::cache()).unwrap();
        let mut twin = Twin::new(&disk, "golden").unwrap();
        let keys = Keys::make(&twin.directory().join("keys")).unwrap();
        keys.plant(&twin).unwrap();
        twin.boot(Confinement::UserNamespace).unwrap();
        let plan = thymus_drill::scenario::Plan::default();
        let agent = Agent::start(&twin, Placement::Outside, &thymus(), &plan).unwrap().unwrap();
        let items = |drift: &Report| drift.drift.iter().map(|told| told.drift.item.to_string()).collect::<Vec<_>>();
        wait_until("the first state is recorded", || agent.drift().is_ok_and(|drift| drift.recorded_unix_ns.is_some()));
        let before = agent.drift().unwrap();
        println!("  {:?}, unread {:?}, {} ms", before.counts, before.unread, before.read_ms);
        assert_eq!(items(&before), Vec::<String>::new());
        assert_eq!((before.unread.len(), before.counts.len()), (0, 5), "{:?}", before.unread);

        let mut ops = Session::open(&twin, &keys, "ops", "127.0.0.66", "golden").unwrap();
        for script in [
            "sudo useradd -m -u 2000 -s /bin/bash mallory && sudo usermod -aG sudo mallory",
            "printf '[Service]\\nExecStart=/usr/bin/openssl s_server -quiet -nocert -accept 127.0.0.1:4444\\n[Install]\\nWantedBy=multi-user.target\\n' \
             | sudo tee /etc/systemd/system/shopd.service >/dev/null && sudo systemctl daemon-reload && sudo systemctl enable --now shopd.service",
            "d=$(mktemp -d) && mkdir -p $d/p/DEBIAN $d/p/usr/bin && \
             printf 'Package: shop-part\\nVersion: 1.2\\nArchitecture: all\\nMaintainer: Ops <ops@shop.example>\\nDescription: a part\\n' >$d/p/DEBIAN/control && \
             cp /usr/bin/id $d/p/usr/bin/shop-part && dpkg-deb --root-owner-group -b $d/p $d/p.deb && sudo dpkg -i $d/p.deb",
        ] {
            let answer = ops.run(script, MINUTE).unwrap();
            assert_eq!(answer.status, 0, "{:?}", answer.lines);
        }
        ops.close();
        let wanted = ["service:shopd.service", "listener:tcp 127.0.0.1:4444", "account:mallory", "package:shop-part"];
        wait_until("all of it is there", || agent.drift().is_ok_and(|drift| drift.drift.len() >= wanted.len()));
        let after = agent.drift().unwrap();
        println!("{}", agent.page(&["baseline"]));
        assert_eq!(items(&after), wanted, "exactly these");
        for (told, program) in after.drift.iter().zip(["tee", "openssl", "useradd", "dpkg"]) {
            let author = told.author.as_ref().unwrap_or_else(|| panic!("nobody did {}", told.drift.item));
            let name = author.program.as_ref().map(|program| program.to_string()).unwrap_or_default();
            assert!(name.ends_with(program), "{}: {author:?}", told.drift.item);
            let session = "login session of uid 1000 from 127.0.0.66";
            let started = if program == "openssl" { "start of shopd.service" } else { session };
            assert!(author.started_by.contains(started), "{}: {author:?}", told.drift.item);
            assert_eq!((told.user.as_deref(), told.drift.kind), (Some("root"), Kind::Added), "{author:?}");
            let (least, most) = (before.read_unix_ns.unwrap(), after.read_unix_ns.unwrap());
            assert!((least..most).contains(&told.since_unix_ns), "{}", told.drift.item);
        }
        // Accepted, it is wanted: also by the agent that comes after this one.
        let answer = agent.tell(&["baseline", "accept"]).unwrap();
        println!("  {answer:?}");
        assert_eq!(items(&agent.drift().unwrap()), Vec::<String>::new());
        assert!(agent.incidents().unwrap().iter().all(|incident| !incident.confirmed), "nothing of it is an attack");
    }
    assert_clean();
}
