// SPDX-License-Identifier: Apache-2.0
//! One harness for all actions: a new one joins by being listed in [`cases`].

mod undo;

use super::*;
use crate::package::{Claim, Original};
use crate::recover::Watch;
use crate::recover::remedy::Test;
use crate::system::sim::{Crashed, Ether, Fault, Sim, State};
use crate::system::{Life, UnitState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tempfile::TempDir;
use thymus_engine::action::{Authored, Expected, Extent, Merge, Packaged, RestoreFile};
use thymus_engine::event::FileKind;
use thymus_engine::incident::Decision;
use thymus_engine::{HostPath, ProcessKey, Timestamp};

/// Versions of a test's own.
#[derive(Clone, Debug, Default)]
struct Chain(BTreeMap<VersionId, (Option<FileState>, Vec<u8>)>);

impl Chain {
    fn add(&mut self, state: Option<FileState>, content: &[u8]) -> VersionId {
        let id = VersionId(self.0.len() as u64 + 1);
        self.0.insert(id, (state, content.to_vec()));
        id
    }
}

impl Versions for Chain {
    fn state(&self, version: VersionId) -> Result<Option<FileState>, String> {
        self.0.get(&version).map(|(state, _)| state.clone()).ok_or_else(|| format!("no version {version}"))
    }

    fn names(&self, _version: VersionId) -> Vec<HostPath> {
        Vec::new()
    }

    fn content(&self, version: VersionId) -> Result<Vec<u8>, String> {
        self.0.get(&version).map(|(_, content)| content.clone()).ok_or_else(|| format!("no version {version}"))
    }
}

/// A host that was attacked, and what to do about it.
struct Case {
    name: &'static str,
    sim: Sim,
    versions: Chain,
    what: Action,
    /// What a crash leaves need not be what was before: a kill has no undo, a service manager is asked again.
    exact_after_crash: bool,
}

impl Case {
    fn new(name: &'static str, build: impl FnOnce(&Sim, &mut Chain) -> Action) -> Self {
        let (sim, mut versions) = (Sim::default(), Chain::default());
        let what = build(&sim, &mut versions);
        let exact_after_crash = matches!(
            what,
            Action::RestoreFile(_)
                | Action::QuarantineFile { .. }
                | Action::RestorePackaged { .. }
                | Action::LockAccount { .. }
                | Action::IsolateHost { .. }
        );
        Self { name, sim, versions, what, exact_after_crash }
    }
}

fn tree_of_processes(sim: &Sim) -> Vec<ProcessKey> {
    sim.spawn(1, 0);
    let root = sim.spawn(100, 1);
    sim.spawn(101, 100);
    sim.spawn(102, 101);
    sim.spawn(103, 1);
    vec![root]
}

const PEER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn block() -> Action {
    Action::FilterTraffic { address: PEER, extent: Extent::All, lease_ns: 3_600_000_000_000 }
}

fn restore(path: &str, base: VersionId, later: &[(VersionId, bool)], append_only: bool) -> Action {
    let later = later.iter().map(|(version, attack)| Authored { version: *version, attack: *attack }).collect();
    Action::RestoreFile(RestoreFile {
        path: HostPath::from(path),
        base,
        later,
        append_only,
        again: false,
        whole: false,
    })
}

fn again(path: &str, base: VersionId, later: &[(VersionId, bool)]) -> Action {
    let Action::RestoreFile(restore) = restore(path, base, later, false) else { panic!() };
    Action::RestoreFile(RestoreFile { again: true, ..restore })
}

/// Every action, each in the shapes in which it differs.
fn cases() -> Vec<Case> {
    vec![
        Case::new("suspend", |sim, _| Action::SuspendProcesses { processes: tree_of_processes(sim) }),
        Case::new("terminate", |sim, _| Action::TerminateProcesses { processes: tree_of_processes(sim) }),
        Case::new("end session", |sim, _| {
            let processes = tree_of_processes(sim);
            Action::EndSession { leader: sim.spawn(99, 1), processes }
        }),
        Case::new("block an address", |_, _| block()),
        Case::new("block an address for longer", |sim, _| {
            sim.clone().filter(PEER, Extent::All, std::time::Duration::from_secs(60)).unwrap();
            block()
        }),
        Case::new("restore exactly", |sim, versions| {
            let base = versions.add(Some(sim.write("/etc/a", b"good\n", 0o644)), b"good\n");
            let bad = versions.add(Some(sim.write("/etc/a", b"bad\n", 0o4755)), b"bad\n");
            restore("/etc/a", base, &[(bad, true)], false)
        }),
        Case::new("restore what was deleted", |sim, versions| {
            let base = versions.add(Some(sim.write("/etc/a", b"good\n", 0o644)), b"good\n");
            sim.delete("/etc/a");
            let gone = versions.add(None, b"");
            restore("/etc/a", base, &[(gone, true)], false)
        }),
        Case::new("restore the attributes alone", |sim, versions| {
            let base = versions.add(Some(sim.write("/etc/a", b"good\n", 0o644)), b"good\n");
            let bad = versions.add(Some(sim.write("/etc/a", b"good\n", 0o4777)), b"good\n");
            restore("/etc/a", base, &[(bad, true)], false)
        }),
        Case::new("merge", |sim, versions| {
            let (one, two, three) =
                (&b"a\nb\nc\nd\ne\n"[..], &b"evil\na\nb\nc\nd\ne\n"[..], &b"evil\na\nb\nc\nd\ne\nmine\n"[..]);
            let base = versions.add(Some(sim.write("/etc/a", one, 0o644)), one);
            let bad = versions.add(Some(sim.write("/etc/a", two, 0o644)), two);
            let mine = versions.add(Some(sim.write("/etc/a", three, 0o644)), three);
            restore("/etc/a", base, &[(bad, true), (mine, false)], false)
        }),
        Case::new("restore again", |sim, versions| {
            let (base, bad) = (&b"alpha = 1\n"[..], &b"alpha = 1\nevil = listener\n"[..]);
            // Somebody had read it before it was restored, and saved it after.
            let stale = b"alpha = 1\nevil = listener\nmine = here\n";
            let base = versions.add(Some(sim.write("/etc/a", base, 0o644)), base);
            let bad = versions.add(Some(sim.write("/etc/a", bad, 0o666)), bad);
            let mine = versions.add(Some(sim.write("/etc/a", stale, 0o644)), stale);
            again("/etc/a", base, &[(bad, true), (mine, false)])
        }),
        Case::new("evict again", |sim, versions| {
            let line = b"* * * * * root /tmp/evil\n";
            let bad = versions.add(Some(sim.write("/etc/cron.d/x", line, 0o644)), line);
            let copied = versions.add(Some(sim.write("/etc/cron.d/x", line, 0o644)), line);
            again("/etc/cron.d/x", VersionId::UNKNOWN, &[(bad, true), (copied, false)])
        }),
        Case::new("mend a log", |sim, versions| {
            let (one, two) = (&b"first\nsecond\nthird\n"[..], &b"third\nfourth\n"[..]);
            let base = versions.add(Some(sim.write("/var/log/a", one, 0o640)), one);
            let bad = versions.add(Some(sim.write("/var/log/a", two, 0o640)), two);
            restore("/var/log/a", base, &[(bad, true)], true)
        }),
        Case::new("restore many", |sim, versions| {
            let mut files = Vec::new();
            for path in ["/home/a", "/home/b", "/home/c"] {
                let base = versions.add(Some(sim.write(path, b"words\n", 0o644)), b"words\n");
                let bad = versions.add(Some(sim.write(path, b"\x07\xff", 0o644)), b"\x07\xff");
                files.push((path, base, bad));
            }
            let base = versions.add(Some(sim.write("/home/d", b"words\n", 0o600)), b"words\n");
            sim.delete("/home/d");
            files.push(("/home/d", base, versions.add(None, b"")));
            let note = versions.add(Some(sim.write("/home/NOTE", b"pay\n", 0o644)), b"pay\n");
            files.push(("/home/NOTE", VersionId::UNKNOWN, note));
            let one = |(path, base, bad): (&str, VersionId, VersionId)| match restore(path, base, &[(bad, true)], false)
            {
                Action::RestoreFile(restore) => restore,
                _ => panic!(),
            };
            Action::RestoreFiles { files: files.into_iter().map(one).collect::<Vec<_>>().into() }
        }),
        Case::new("quarantine", |sim, versions| {
            let bad =
                versions.add(Some(sim.write("/etc/cron.d/x", b"* * * * * root x\n", 0o644)), b"* * * * * root x\n");
            Action::QuarantineFile { path: HostPath::from("/etc/cron.d/x"), expected: bad }
        }),
        Case::new("restore what a package ships and the attack changed", |sim, versions| {
            let base = versions.add(Some(sim.write("/usr/lib/app/tool", PROGRAM, 0o755)), PROGRAM);
            let bad = versions.add(Some(sim.write("/usr/lib/app/tool", b"\x7fELF evil", 0o755)), b"\x7fELF evil");
            restore("/usr/lib/app/tool", base, &[(bad, true)], false)
        }),
        Case::new("lock an account", |sim, _| lock_alice(sim, "alice:$6$x:19000:0:99999:7:::\n")),
        Case::new("lock an account that would expire", |sim, _| lock_alice(sim, "alice:!:19000:0:99999:7::30000:\n")),
        Case::new("remove a unit", |sim, _| {
            sim.write("/etc/systemd/system/x.service", b"[Service]\n", 0o644);
            sim.set_unit("x.service", active());
            Action::RemoveUnit { unit: "x.service".to_owned() }
        }),
        Case::new("reload a service", |sim, _| {
            sim.write("/etc/systemd/system/x.service", b"[Service]\n", 0o644);
            sim.set_unit("x.service", active());
            Action::ReloadService { unit: "x.service".to_owned() }
        }),
        Case::new("restart a service that hangs", |sim, _| {
            sim.write("/etc/systemd/system/x.service", b"[Service]\n", 0o644);
            sim.set_unit("x.service", active());
            Action::RestartService { unit: "x.service".to_owned() }
        }),
        Case::new("isolate the host", |_, _| isolate()),
        Case::new("have an isolation last", |sim, _| {
            let Action::IsolateHost { control, .. } = isolate() else { panic!() };
            sim.clone().isolate(&control, LEASE).unwrap();
            isolate_for_long()
        }),
        Case::new("make room", |sim, _| {
            sim.write("/var/log/app.log.1", b"old\n", 0o644);
            sim.write("/var/log/app.log.2", b"older\n", 0o644);
            let paths = ["/var/log/app.log.2", "/var/log/app.log.1"].map(HostPath::from).into();
            Action::FreeSpace { paths }
        }),
        Case::new("load the packet filter", |sim, _| {
            sim.write("/etc/nftables.conf", b"table inet filter {\n}\n", 0o755);
            sim.set_rules("table ip other {\n}\n");
            Action::LoadFirewall { path: HostPath::from("/etc/nftables.conf") }
        }),
        Case::new("renew a certificate", |sim, _| {
            sim.write("/etc/ssl/x.crt", b"expired\n", 0o644);
            Action::RenewCertificate { path: HostPath::from("/etc/ssl/x.crt") }
        }),
        Case::new("restore from a package", |sim, _| {
            sim.make_directory("/usr/lib");
            sim.write("/usr/lib/app-damaged", b"\x7fEL", 0o644);
            let damaged = crate::package::digest_of(b"\x7fEL");
            let files = [
                packaged("/usr/lib/app", None, None),
                packaged("/usr/lib/app-damaged", Some(PROGRAM), Some(damaged)),
                packaged("/usr/lib/app-link", None, None),
                packaged("/usr/lib/app/program", Some(PROGRAM), None),
            ];
            Action::RestorePackaged { files: files.into() }
        }),
    ]
}

const LEASE: Duration = Duration::from_secs(60);

fn isolate() -> Action {
    let control = ["10.0.0.0/8", "127.0.0.0/8", "2001:db8::/64"].map(|text| text.parse().unwrap()).into();
    Action::IsolateHost { control, lease_ns: u64::try_from(LEASE.as_nanos()).unwrap() }
}

fn isolate_for_long() -> Action {
    let Action::IsolateHost { control, .. } = isolate() else { panic!() };
    Action::IsolateHost { control, lease_ns: 3_600_000_000_000 }
}

/// The account of uid 1001, with this line in the shadow file.
fn lock_alice(sim: &Sim, line: &str) -> Action {
    sim.write("/etc/passwd", b"root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\n", 0o644);
    sim.write("/etc/shadow", format!("root:*:19000:0:99999:7:::\n{line}ops:!:19000:0:99999:7:::\n").as_bytes(), 0o640);
    Action::LockAccount { uid: 1_001, path: HostPath::from("/etc/shadow") }
}

const PROGRAM: &[u8] = b"\x7fELF program";

fn packaged(path: &str, wanted: Option<&[u8]>, found: Option<String>) -> Packaged {
    Packaged {
        path: path.into(),
        package: "app".to_owned(),
        version: "1.2-3".to_owned(),
        architecture: "amd64".to_owned(),
        shipped: path.into(),
        wanted: wanted.map(crate::package::digest_of),
        found,
        configuration: false,
    }
}

/// Each file of the cases as it was shipped.
#[derive(Debug)]
struct Shipped;

impl Packages for Shipped {
    /// It ships all below `/usr/lib/app`, each with one content.
    fn claim(&mut self, path: &HostPath) -> Result<Option<Claim>, String> {
        let claim = || Claim {
            package: "app 1.2-3".to_owned(),
            record: "/var/lib/dpkg/info/app.md5sums".into(),
            digest: crate::package::digest_of(PROGRAM),
        };
        let unit = path.as_bytes() == b"/usr/lib/systemd/system/app.service";
        Ok((unit || path.is_within(b"/usr/lib/app") || path.is_within(b"/var/log/app")).then(claim))
    }

    fn originals(&self, files: &[Packaged]) -> Result<Vec<Original>, String> {
        let one = |file: &Packaged| {
            let (kind, content, target) = match (file.path.file_name(), &file.wanted) {
                (b"app-link", _) => (FileKind::Symlink, None, Some("app/program".into())),
                (_, None) => (FileKind::Directory, None, None),
                (_, Some(_)) => (FileKind::Regular, Some(PROGRAM.to_vec()), None),
            };
            Original { kind, mode: 0o755, uid: 0, gid: 0, mtime: 7, content, target }
        };
        Ok(files.iter().map(one).collect())
    }
}

#[test]
fn what_is_not_as_the_plan_found_it_is_not_overwritten_by_a_packages_file() {
    let missing = packaged("/usr/bin/app", Some(PROGRAM), None);
    let damaged = packaged("/usr/bin/app", Some(PROGRAM), Some(crate::package::digest_of(b"damaged")));
    let facts = |there: Option<&[u8]>, file: &Packaged| {
        let case = Case::new("packaged", |sim, _| {
            there.map(|content| sim.write("/usr/bin/app", content, 0o755));
            Action::RestorePackaged { files: vec![file.clone()] }
        });
        let mut hands = Agent::new().start(&case);
        let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!() };
        facts.as_expected
    };
    assert_eq!(facts(None, &missing), Expected::Yes);
    assert_eq!(facts(Some(b"damaged"), &damaged), Expected::Yes);
    assert_eq!(facts(Some(PROGRAM), &damaged), Expected::AlreadyDone, "somebody put it back");
    assert!(matches!(facts(Some(b"somebody's own"), &missing), Expected::Changed(_)));
    assert!(matches!(facts(Some(b"somebody's own"), &damaged), Expected::Changed(_)));
    assert!(matches!(facts(None, &damaged), Expected::Changed(_)));
}

/// What the hands find genuine of that, when they prepare.
fn genuine(build: impl FnOnce(&Sim, &mut Chain) -> Action) -> Vec<String> {
    let case = Case::new("genuine", build);
    let mut hands = Agent::new().start(&case);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!("{:?}", case.what) };
    let record = HostPath::from("/var/lib/dpkg/info/app.md5sums");
    assert!(facts.genuine.iter().all(|found| found.package == "app 1.2-3" && found.record == record));
    facts.genuine.iter().map(|found| found.path.to_string()).collect()
}

#[test]
fn what_is_as_its_package_ships_it_is_told_before_it_is_taken_away() {
    let file = |there: &'static [u8], wanted: Option<&'static [u8]>, mode| {
        move |sim: &Sim, versions: &mut Chain| {
            let base = match wanted {
                Some(wanted) => versions.add(Some(sim.write("/usr/lib/app/tool", wanted, 0o755)), wanted),
                None => versions.add(None, b""),
            };
            let now = versions.add(Some(sim.write("/usr/lib/app/tool", there, mode)), there);
            restore("/usr/lib/app/tool", base, &[(now, true)], false)
        }
    };
    let tool = ["/usr/lib/app/tool"];
    let none: [&str; 0] = [];
    assert_eq!(genuine(file(PROGRAM, Some(b"older"), 0o755)), tool);
    assert_eq!(genuine(file(PROGRAM, None, 0o755)), tool);
    assert_eq!(genuine(file(b"evil", Some(PROGRAM), 0o755)), none, "an attack's content");
    assert_eq!(genuine(file(b"evil", None, 0o755)), none);
    assert_eq!(genuine(file(PROGRAM, Some(PROGRAM), 0o4755)), none, "its content stays");
    let quarantine = |there: &'static [u8]| {
        genuine(|sim, versions| {
            let expected = versions.add(Some(sim.write("/usr/lib/app/tool", there, 0o755)), there);
            Action::QuarantineFile { path: "/usr/lib/app/tool".into(), expected }
        })
    };
    assert_eq!((quarantine(PROGRAM), quarantine(b"evil")), (vec!["/usr/lib/app/tool".to_owned()], Vec::new()));
    let room = genuine(|sim, _| {
        sim.write("/var/log/app/x.log.1", PROGRAM, 0o644);
        sim.write("/var/log/app/y.log.1", b"old", 0o644);
        Action::FreeSpace { paths: ["/var/log/app/x.log.1", "/var/log/app/y.log.1"].map(HostPath::from).into() }
    });
    assert_eq!(room, ["/var/log/app/x.log.1"]);
    let unit = |content: &'static [u8]| {
        genuine(|sim, _| {
            sim.write("/usr/lib/systemd/system/app.service", content, 0o644);
            sim.set_unit("app.service", active());
            Action::RemoveUnit { unit: "app.service".to_owned() }
        })
    };
    assert_eq!((unit(PROGRAM).len(), unit(b"[Service]\nExecStart=/tmp/x\n").len()), (1, 0));
}

#[test]
fn of_many_files_those_that_are_genuine_are_told_one_by_one() {
    let found = genuine(|sim, versions| {
        let mut one = |path: &str, there: &'static [u8]| {
            let base = versions.add(Some(sim.write(path, b"before", 0o644)), b"before");
            let now = versions.add(Some(sim.write(path, there, 0o644)), there);
            match restore(path, base, &[(now, true)], false) {
                Action::RestoreFile(file) => file,
                other => panic!("{other:?}"),
            }
        };
        let files = [one("/home/a", PROGRAM), one("/usr/lib/app/b", PROGRAM), one("/usr/lib/app/c", b"evil")];
        Action::RestoreFiles { files: files.to_vec().into() }
    });
    assert_eq!(found, ["/usr/lib/app/b"]);
}

#[test]
fn what_cannot_be_compared_with_its_packages_record_is_not_prepared() {
    let case = Case::new("large", |sim, versions| {
        let large =
            FileState { size: crate::system::CONTENT_BYTES_MAX + 1, ..sim.write("/usr/lib/app/x", b"x", 0o644) };
        sim.set_file("/usr/lib/app/x", large.clone());
        Action::QuarantineFile { path: "/usr/lib/app/x".into(), expected: versions.add(Some(large), b"x") }
    });
    let Input::Unprepared { why, .. } = prepare(&mut Agent::new().start(&case), ACTION, &case.what) else { panic!() };
    assert!(why.contains("too large to be compared"), "{why}");
}

#[test]
fn it_is_told_whether_a_service_runs_that_would_not_while_it_is_started_again() {
    let interrupts = |what: &dyn Fn(String) -> Action, state: UnitState| {
        let case = Case::new("service", |sim, _| {
            sim.set_unit("x.service", state);
            what("x.service".to_owned())
        });
        let Input::Prepared { facts, .. } = prepare(&mut Agent::new().start(&case), ACTION, &case.what) else {
            panic!();
        };
        facts.interrupts
    };
    let failed = || UnitState { active: "failed".into(), ..active() };
    let rigid = || UnitState { can_reload: false, ..active() };
    let (restart, reload) = (|unit| Action::RestartService { unit }, |unit| Action::ReloadService { unit });
    assert_eq!((interrupts(&restart, active()), interrupts(&restart, failed())), (true, false));
    let told = [active(), rigid(), failed()].map(|state| interrupts(&reload, state));
    assert_eq!(told, [false, true, false], "a reload keeps it running where it knows how");
}

fn active() -> UnitState {
    UnitState { load: "loaded".into(), active: "active".into(), file: "static".into(), main_pid: 0, can_reload: true }
}

/// The agent's side: what a crash ends and the next start opens again.
struct Agent {
    directory: TempDir,
}

impl Agent {
    fn new() -> Self {
        Self { directory: TempDir::with_prefix("thymus-").unwrap() }
    }

    fn start(&self, case: &Case) -> Hands<'static> {
        let (journal, _) = Journal::open(&self.directory.path().join("journal")).unwrap();
        let leases = self.leases();
        let hands = Hands::new(Box::new(case.sim.clone()), journal, Box::new(case.versions.clone()), leases);
        hands.with_remedies(remedies()).with_packages(Box::new(Shipped))
    }

    fn leases(&self) -> Leases {
        Leases::open(&self.directory.path().join("leases")).unwrap()
    }
}

fn remedies() -> Remedies {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    Remedies {
        tests: [("x.service", "accepts"), ("broken.service", "refuses"), ("untested.service", "nothing")]
            .map(|(unit, test)| (unit.to_owned(), Test { command: words(test), lacks: "" }))
            .into(),
        renewals: [(HostPath::from("/etc/ssl/x.crt"), words("renews /etc/ssl/x.crt"))].into(),
        freeable: vec!["/var/log/*.log.*".to_owned(), "/var/log/app/*.log.*".to_owned()],
    }
}

const ACTION: ActionId = ActionId(1);

fn prepare(hands: &mut Hands<'_>, action: ActionId, what: &Action) -> Input {
    hands.prepare(action, IncidentId(1), what.clone())
}

fn commit(hands: &mut Hands<'_>, action: ActionId) -> Outcome {
    match hands.commit(action, Verdict { decision: Decision::Permit, reasons: Vec::new() }) {
        Input::Outcome { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

/// The world after the action, undisturbed, and the steps of its capture and of its apply.
fn undisturbed(case: &Case) -> (State, usize, usize) {
    let agent = Agent::new();
    let mut hands = agent.start(case);
    case.sim.fault(None);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!("{}", case.name) };
    assert_eq!(facts.as_expected, Expected::Yes, "{}", case.name);
    assert!(matches!(facts.merge, Merge::Exact | Merge::Disjoint { .. }), "{}: {facts:?}", case.name);
    let captured = case.sim.steps();
    case.sim.fault(None);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success, "{}", case.name);
    (case.sim.state(), captured, case.sim.steps())
}

/// What is said not to be done is as before, all else as after.
fn partly(case: &Case, not_done: &[(HostPath, String)], [before, after]: [&State; 2], place: &str) {
    let now = case.sim.state();
    for path in case.what.paths() {
        let wanted = if not_done.iter().any(|(left, _)| left == path) { before } else { after };
        assert_eq!(now.files.get(path), wanted.files.get(path), "{path}, {place}");
    }
}

#[test]
fn a_fault_at_any_step_leaves_the_host_as_it_was() {
    for index in 0..cases().len() {
        let (after, captured, applied) = undisturbed(&cases().remove(index));
        for fault in [Fault::Before, Fault::After] {
            for step in 0..captured {
                let case = cases().remove(index);
                let before = case.sim.state();
                let agent = Agent::new();
                let mut hands = agent.start(&case);
                case.sim.fault(Some((step, fault)));
                let _ = prepare(&mut hands, ACTION, &case.what);
                assert_eq!(case.sim.state(), before, "{} captured, {fault:?} {step}", case.name);
            }
            for step in 0..applied {
                let case = cases().remove(index);
                let before = case.sim.state();
                let agent = Agent::new();
                let mut hands = agent.start(&case);
                let _ = prepare(&mut hands, ACTION, &case.what);
                case.sim.fault(Some((step, fault)));
                let outcome = commit(&mut hands, ACTION);
                let place = format!("{}, {fault:?} {step}: {outcome:?}", case.name);
                match &outcome {
                    Outcome::Success | Outcome::DoesNotExist => assert_eq!(case.sim.state(), after, "{place}"),
                    Outcome::Reverted(_) => assert_eq!(case.sim.state(), before, "{place}"),
                    Outcome::Partly(not_done) => {
                        partly(&case, not_done, [&before, &after], &place);
                        assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone, "{place}");
                        assert_eq!(case.sim.state(), before, "{place}");
                    }
                    // A refusal of one process is told; what was stopped is held by its lease, what was killed stays so.
                    Outcome::Failed(_) if matches!(case.what.tactic(), thymus_engine::action::Tactic::Isolate) => {
                        assert!(hands.undo_action(ACTION).outcome == Outcome::Undone, "{place}");
                        assert_eq!(case.sim.state(), before, "{place}");
                    }
                    Outcome::Failed(_) => assert!(!case.what.reversible(), "{place}"),
                    Outcome::Undone => panic!("{place}"),
                }
                assert!(hands.journal.open_intents().is_empty(), "{place}");
            }
        }
    }
}

#[test]
fn after_a_crash_at_any_step_the_next_start_leaves_nothing_open() {
    for index in 0..cases().len() {
        let (after, _, applied) = undisturbed(&cases().remove(index));
        for step in 0..applied {
            let case = cases().remove(index);
            let before = case.sim.state();
            let agent = Agent::new();
            let mut hands = agent.start(&case);
            let _ = prepare(&mut hands, ACTION, &case.what);
            case.sim.fault(Some((step, Fault::Crash)));
            let crash = catch_unwind(AssertUnwindSafe(|| commit(&mut hands, ACTION)));
            assert!(crash.is_err_and(|crash| crash.is::<Crashed>()), "{}, {step}", case.name);
            drop(hands);
            case.sim.fault(None);
            let mut hands = agent.start(&case);
            let settled = hands.recover_open();
            let place = format!("{}, crash at {step}: {settled:?}", case.name);
            assert_eq!(settled.len(), 1, "{place}");
            assert!(hands.journal.open_intents().is_empty(), "{place}");
            if case.exact_after_crash {
                match &settled[0].1 {
                    Outcome::Success => assert_eq!(case.sim.state(), after, "{place}"),
                    Outcome::Reverted(_) => assert_eq!(case.sim.state(), before, "{place}"),
                    Outcome::Partly(not_done) => partly(&case, not_done, [&before, &after], &place),
                    other => panic!("{other:?}: {place}"),
                }
                let _ = hands.undo_action(ACTION);
                assert_eq!(case.sim.state(), before, "{place}");
            }
            // Whoever is stopped is held by a lease, so it will be continued.
            for state in case.sim.state().processes.values().filter(|state| state.life == Life::Stopped) {
                assert!(agent.leases().hold(state.key, Timestamp(0)), "{place}");
            }
        }
    }
}

#[test]
fn applying_twice_is_applying_once_and_reverting_twice_is_reverting_once() {
    for case in cases() {
        let before = case.sim.state();
        let agent = Agent::new();
        let mut hands = agent.start(&case);
        prepare(&mut hands, ACTION, &case.what);
        assert_eq!(commit(&mut hands, ACTION), Outcome::Success, "{}", case.name);
        let after = case.sim.state();
        prepare(&mut hands, ActionId(2), &case.what);
        let again = commit(&mut hands, ActionId(2));
        assert!(!matches!(again, Outcome::Failed(_)), "{}: {again:?}", case.name);
        assert_eq!(case.sim.state(), after, "{}", case.name);
        for round in 0..2 {
            let undone = hands.undo_incident(IncidentId(1));
            assert_eq!(undone.len(), 2, "{}", case.name);
            if case.what.reversible() {
                assert_eq!(case.sim.state(), before, "{}, round {round}: {undone:?}", case.name);
            } else {
                assert_eq!(case.sim.state(), after, "{}: the dead stay dead", case.name);
            }
        }
        assert!(hands.journal.is_incident_undone(IncidentId(1)));
    }
}

#[test]
fn what_others_changed_meanwhile_is_never_overwritten() {
    for case in cases().into_iter().filter(|case| case.exact_after_crash && case.name != "mend a log") {
        let Some(path) = case.what.paths().next().or(case.what.written()).map(ToString::to_string) else {
            assert_eq!(case.what.name(), "isolate_host", "what is exact writes a file, but for this one");
            continue;
        };
        let agent = Agent::new();
        let mut hands = agent.start(&case);
        prepare(&mut hands, ACTION, &case.what);
        case.sim.write(&path, b"an administrator was here\n", 0o600);
        let outcome = commit(&mut hands, ACTION);
        assert!(!matches!(outcome, Outcome::Success), "{}: {outcome:?}", case.name);
        assert_eq!(case.sim.read(&path).unwrap(), b"an administrator was here\n", "{}", case.name);
        let undone = hands.undo_action(ACTION);
        assert_ne!(undone.outcome, Outcome::Success, "{}", case.name);
        assert_eq!(case.sim.read(&path).unwrap(), b"an administrator was here\n", "{}", case.name);
    }
}

#[test]
fn a_log_keeps_what_is_appended_while_it_is_mended_and_while_that_is_undone() {
    let case = cases().into_iter().find(|case| case.name == "mend a log").unwrap();
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    case.sim.write("/var/log/a", b"third\nfourth\nfifth\n", 0o640);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    let mended = String::from_utf8(case.sim.read("/var/log/a").unwrap()).unwrap();
    for line in ["first", "second", "third", "fourth", "fifth"] {
        assert_eq!(mended.lines().filter(|found| *found == line).count(), 1, "{mended}");
    }
    case.sim.write("/var/log/a", format!("{mended}sixth\n").as_bytes(), 0o640);
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone);
    assert_eq!(case.sim.read("/var/log/a").unwrap(), b"third\nfourth\nfifth\nsixth\n");
}

#[test]
fn a_log_that_was_cut_twice_keeps_what_came_between_the_cuts() {
    let case = Case::new("mend a log that was cut twice", |sim, versions| {
        let mut seen = |content: &[u8]| versions.add(Some(sim.write("/var/log/a", content, 0o640)), content);
        let base = seen(b"first\nsecond\n");
        let cut = seen(b"first\n");
        let between = seen(b"first\nthird\n");
        let again = seen(b"first\n");
        seen(b"first\nfourth\n");
        restore("/var/log/a", base, &[(cut, true), (between, false), (again, true)], true)
    });
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    assert_eq!(case.sim.read("/var/log/a").unwrap(), b"first\nsecond\nthird\nfourth\n");
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone);
    assert_eq!(case.sim.read("/var/log/a").unwrap(), b"first\nfourth\n");
}

#[test]
fn what_a_person_wants_from_before_the_attack_comes_back_whole_and_others_changes_with_undo() {
    let case = Case::new("whole", |sim, versions| {
        let mut seen = |content: &[u8]| versions.add(Some(sim.write("/etc/a", content, 0o640)), content);
        let (base, bad, mine) = (seen(b"port 22\n"), seen(b"port 23\n"), seen(b"port 24\n"));
        restore("/etc/a", base, &[(bad, true), (mine, false)], false)
    });
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!() };
    assert!(matches!(facts.merge, Merge::Conflict(_)), "{facts:?}");
    hands.forget(ACTION);
    let Action::RestoreFile(restore) = &case.what else { panic!() };
    let whole = Action::RestoreFile(RestoreFile { whole: true, ..restore.clone() });
    prepare(&mut hands, ACTION, &whole);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    assert_eq!(case.sim.read("/etc/a").unwrap(), b"port 22\n");
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone);
    assert_eq!(case.sim.read("/etc/a").unwrap(), b"port 24\n");
}

#[test]
fn a_log_that_was_put_back_by_somebody_who_did_not_live_to_tell_stays_as_it_is() {
    let case = Case::new("mend a log again", |sim, versions| {
        let base = versions.add(Some(sim.write("/var/log/a", b"first\nsecond\n", 0o640)), b"first\nsecond\n");
        sim.delete("/var/log/a");
        let gone = versions.add(None, b"");
        sim.write("/var/log/a", b"first\nsecond\nthird\n", 0o640);
        restore("/var/log/a", base, &[(gone, true)], true)
    });
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!() };
    assert_eq!(facts.as_expected, Expected::AlreadyDone);
    commit(&mut hands, ACTION);
    assert_eq!(case.sim.read("/var/log/a").unwrap(), b"first\nsecond\nthird\n");
}

#[test]
fn an_undo_that_failed_is_not_taken_for_done() {
    let case = cases().into_iter().find(|case| case.name == "restore exactly").unwrap();
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    case.sim.write("/etc/a", b"somebody's\n", 0o644);
    for _ in 0..2 {
        assert!(matches!(hands.undo_action(ACTION).outcome, Outcome::Failed(_)));
    }
    case.sim.write("/etc/a", b"good\n", 0o644);
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone);
    assert_eq!(case.sim.read("/etc/a").unwrap(), b"bad\n");
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone, "twice is once");
}

#[test]
fn a_restoration_whose_target_is_not_known_changes_nothing_even_when_it_is_permitted() {
    let case = Case::new("missing", |sim, versions| {
        let bad = versions.add(Some(sim.write("/etc/a", b"bad\n", 0o644)), b"bad\n");
        restore("/etc/a", VersionId::UNKNOWN, &[(bad, true)], false)
    });
    let before = case.sim.state();
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!() };
    assert!(matches!(facts.merge, Merge::Missing(_)), "{facts:?}");
    assert!(matches!(commit(&mut hands, ACTION), Outcome::Reverted(_)));
    assert_eq!(case.sim.state(), before);
}

/// `/etc/a` was changed by the attack, restored, and is now as `now` says; what is made of it, and what the proof says.
fn written_after_its_restoration(now: &[u8]) -> (Facts, Option<Vec<u8>>, bool) {
    let (base, bad) = (&b"alpha = 1\nfi\n"[..], &b"alpha = 1\nevil = listener\nfi\n"[..]);
    let case = Case::new("again", |sim, versions| {
        let base = versions.add(Some(sim.write("/etc/a", base, 0o644)), base);
        let bad = versions.add(Some(sim.write("/etc/a", bad, 0o644)), bad);
        let now = versions.add(Some(sim.write("/etc/a", now, 0o640)), now);
        again("/etc/a", base, &[(bad, true), (now, false)])
    });
    let Action::RestoreFile(restore) = case.what.clone() else { panic!() };
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!() };
    if facts.as_expected == Expected::Yes {
        let _ = commit(&mut hands, ACTION);
    }
    let paths = vec![restore.path.clone()];
    let again = vec![restore];
    let (processes, actions, others) = (Vec::new(), Vec::new(), Vec::new());
    let proof = Proof { processes, actions, again, others, paths, since: Timestamp(0) };
    let Input::Proven { checks, .. } = hands.verify(IncidentId(1), &proof, &[]) else { panic!() };
    (facts, case.sim.read("/etc/a"), checks.iter().all(|check| check.holds))
}

#[test]
fn who_brings_the_attacks_lines_back_keeps_his_own_and_loses_those() {
    let (facts, left, proven) = written_after_its_restoration(b"alpha = 1\nevil = listener\nfi\nmine = here\n");
    assert_eq!(facts.as_expected, Expected::Yes);
    assert!(matches!(facts.merge, Merge::Disjoint { .. }), "{facts:?}");
    assert_eq!(left.unwrap(), b"alpha = 1\nfi\nmine = here\n");
    assert!(proven);
    // The attack's version to the byte: the state before it, whole.
    let (facts, left, proven) = written_after_its_restoration(b"alpha = 1\nevil = listener\nfi\n");
    assert_eq!((facts.as_expected, facts.merge), (Expected::Yes, Merge::Exact));
    assert_eq!((left.unwrap(), proven), (b"alpha = 1\nfi\n".to_vec(), true));
}

#[test]
fn what_others_write_after_a_restoration_stays_when_nothing_of_the_attack_is_in_it() {
    for now in ["alpha = 1\nfi\nmine = here\n", "", "fi\n", "quite different\n"] {
        let (facts, left, proven) = written_after_its_restoration(now.as_bytes());
        assert_eq!((facts.as_expected, facts.merge), (Expected::AlreadyDone, Merge::Exact), "{now:?}");
        assert_eq!((left.unwrap(), proven), (now.as_bytes().to_vec(), true), "{now:?}");
    }
}

#[test]
fn a_line_of_the_attack_that_was_changed_by_whoever_brought_it_back_is_shown_and_not_proven() {
    let now = b"alpha = 2 evil = listener\nevil = listener\nevil = listener\nfi\n";
    let (facts, left, proven) = written_after_its_restoration(now);
    assert!(matches!(facts.merge, Merge::Conflict(_)), "{facts:?}");
    assert_eq!((left.unwrap(), proven), (now.to_vec(), false));
}

#[test]
fn the_proof_holds_only_while_nothing_is_as_the_attack_left_it() {
    let case = cases().into_iter().find(|case| case.name == "restore exactly").unwrap();
    case.sim.set_unit("nginx.service", active());
    let killed = case.sim.spawn(100, 1);
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    commit(&mut hands, ACTION);
    let proof = Proof {
        others: Vec::new(),
        processes: vec![killed],
        actions: vec![ACTION],
        again: Vec::new(),
        paths: vec![HostPath::from("/etc/a")],
        since: Timestamp(0),
    };
    let watched = [Watch { unit: "nginx.service".into(), probe: None }];
    let holds = |hands: &mut Hands<'_>| match hands.verify(IncidentId(1), &proof, &watched) {
        Input::Proven { checks, .. } => checks.iter().all(|check| check.holds),
        other => panic!("{other:?}"),
    };
    assert!(!holds(&mut hands), "a process of the attack lives");
    prepare(&mut hands, ActionId(2), &Action::TerminateProcesses { processes: vec![killed] });
    commit(&mut hands, ActionId(2));
    assert!(holds(&mut hands));
    case.sim.write("/etc/a", b"bad\n", 0o4755);
    assert!(!holds(&mut hands), "the file is bad again");
    case.sim.write("/etc/a", b"good\n", 0o644);
    assert!(holds(&mut hands));
    case.sim.set_unit("nginx.service", UnitState { active: "failed".into(), ..active() });
    assert!(!holds(&mut hands), "the service failed");
}

#[test]
fn a_service_is_not_started_with_a_configuration_that_its_test_refuses() {
    let expected = |unit: &str| {
        let case = Case::new("restart", |sim, _| {
            sim.set_unit(unit, active());
            Action::RestartService { unit: unit.to_owned() }
        });
        match prepare(&mut Agent::new().start(&case), ACTION, &case.what) {
            Input::Prepared { facts, .. } => facts.as_expected,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(expected("broken.service"), Expected::Changed("`refuses` says: line 3: no such word".to_owned()));
    assert_eq!(expected("x.service"), Expected::Yes);
    assert_eq!(expected("untested.service"), Expected::Yes, "a test that cannot be run says nothing");
}

#[test]
fn a_failed_service_stays_failed_or_runs_whatever_step_of_its_start_goes_wrong() {
    for fault in [Fault::Before, Fault::After] {
        for step in 0..8 {
            let case = Case::new("start what failed", |sim, _| {
                sim.write("/etc/systemd/system/x.service", b"[Service]\n", 0o644);
                sim.set_unit("x.service", UnitState { active: "failed".into(), ..active() });
                Action::RestartService { unit: "x.service".to_owned() }
            });
            let agent = Agent::new();
            let mut hands = agent.start(&case);
            let _ = prepare(&mut hands, ACTION, &case.what);
            case.sim.fault(Some((step, fault)));
            let outcome = commit(&mut hands, ACTION);
            let active = &case.sim.state().units["x.service"].active;
            assert!(matches!(active.as_str(), "failed" | "active"), "{fault:?} {step}: {outcome:?}, {active}");
        }
    }
}

#[test]
fn nothing_is_deleted_or_renewed_that_is_not_declared() {
    for what in [
        Action::FreeSpace { paths: vec![HostPath::from("/var/log/app.log")] },
        Action::FreeSpace { paths: vec![HostPath::from("/var/log/app.log.1"), HostPath::from("/etc/passwd")] },
        Action::RenewCertificate { path: HostPath::from("/etc/ssl/other.crt") },
    ] {
        let case = Case::new("undeclared", |sim, _| {
            for path in ["/var/log/app.log", "/var/log/app.log.1", "/etc/passwd", "/etc/ssl/other.crt"] {
                sim.write(path, b"x\n", 0o644);
            }
            what
        });
        let before = case.sim.state();
        let answer = prepare(&mut Agent::new().start(&case), ACTION, &case.what);
        assert!(matches!(&answer, Input::Unprepared { why, .. } if why.contains("declar")), "{answer:?}");
        assert_eq!(case.sim.state(), before);
    }
}

#[test]
fn rules_that_were_loaded_are_taken_back_as_a_whole() {
    let case = cases().into_iter().find(|case| case.name == "load the packet filter").unwrap();
    let before = case.sim.state();
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    let _ = prepare(&mut hands, ACTION, &case.what);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    assert_ne!(case.sim.state().rules, before.rules);
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone);
    assert_eq!(case.sim.state(), before);
}

fn shadow(case: &Case) -> String {
    String::from_utf8(case.sim.read("/etc/shadow").unwrap()).unwrap()
}

#[test]
fn an_account_that_is_locked_keeps_what_others_change_in_its_file_and_is_unlocked_alone() {
    let case = cases().into_iter().find(|case| case.name == "lock an account that would expire").unwrap();
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    // Before it is locked, and after: a password, an account.
    case.sim.write("/etc/shadow", shadow(&case).replace("alice:!", "alice:$6$y").as_bytes(), 0o640);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    let expected = "root:*:19000:0:99999:7:::\nalice:$6$y:19000:0:99999:7::1:\nops:!:19000:0:99999:7:::\n";
    assert_eq!(shadow(&case), expected);
    let later = shadow(&case).replace("ops:!", "ops:$6$z") + "bob:!:20000:0:99999:7:::\n";
    case.sim.write("/etc/shadow", later.as_bytes(), 0o600);
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone);
    assert_eq!(shadow(&case), later.replace("::1:", "::30000:"));
    assert_eq!(case.sim.state().files[&HostPath::from("/etc/shadow")].mode, 0o600);
}

#[test]
fn an_account_that_somebody_else_set_since_stays_as_he_set_it_and_undo_says_so() {
    let case = cases().into_iter().find(|case| case.name == "lock an account").unwrap();
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    let set = shadow(&case).replace("::1:", "::25000:");
    case.sim.write("/etc/shadow", set.as_bytes(), 0o640);
    let outcome = hands.undo_action(ACTION).outcome;
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("25000")), "{outcome:?}");
    assert_eq!(shadow(&case), set);
    // Taken away with its line.
    prepare(&mut hands, ActionId(2), &case.what);
    assert_eq!(commit(&mut hands, ActionId(2)), Outcome::Success);
    case.sim.write("/etc/shadow", b"root:*:19000:0:99999:7:::\n", 0o640);
    let outcome = hands.undo_action(ActionId(2)).outcome;
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("nothing to unlock")), "{outcome:?}");
}

#[test]
fn an_account_that_is_locked_already_is_nobodys_work_and_no_undo_unlocks_it() {
    let case = Case::new("locked", |sim, _| lock_alice(sim, "alice:!:19000:0:99999:7::1:\n"));
    let before = case.sim.state();
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ACTION, &case.what) else { panic!() };
    assert_eq!(facts.as_expected, Expected::AlreadyDone);
    assert_eq!(commit(&mut hands, ACTION), Outcome::DoesNotExist);
    assert_eq!(hands.undo_action(ACTION).outcome, Outcome::DoesNotExist);
    assert_eq!(case.sim.state(), before);
}

#[test]
fn an_account_that_is_not_certain_is_not_locked_and_it_is_told_why() {
    let told = |passwd: &str, line: &str, uid: u32| {
        let case = Case::new("not certain", |sim, _| lock_alice(sim, line));
        case.sim.write("/etc/passwd", passwd.as_bytes(), 0o644);
        let mut hands = Agent::new().start(&case);
        let what = Action::LockAccount { uid, path: HostPath::from("/etc/shadow") };
        match prepare(&mut hands, ACTION, &what) {
            Input::Unprepared { why, .. } => why,
            Input::Prepared { facts, .. } => format!("{facts:?}"),
            other => panic!("{other:?}"),
        }
    };
    let (passwd, line) = ("root:x:0:0::/:/bin/sh\nalice:x:1001:1001::/:/bin/sh\n", "alice:!:19000:0:99999:7:::\n");
    assert!(told(passwd, line, 1_001).contains("undo_ready: true"));
    assert!(told(passwd, line, 1_002).contains("`/etc/passwd` is refused: it has not exactly one account of uid 1002"));
    assert!(told(&passwd.replace("1001:1001", "0:0"), line, 0).contains("not exactly one account of uid 0"));
    assert!(told(passwd, "", 1_001).contains("`/etc/shadow` is refused: it has no line of `alice`"));
    assert!(told(passwd, "alice:!\n", 1_001).contains("nine fields"));
    // Whatever number it is given: root is root by its name, too.
    assert!(told("root:x:1001:0::/:/bin/sh\n", line, 1_001).contains("never_touch: true"));
}

#[test]
fn while_somebody_else_changes_accounts_none_is_locked() {
    let case = cases().into_iter().find(|case| case.name == "lock an account").unwrap();
    let before = case.sim.state();
    let mut hands = Agent::new().start(&case);
    prepare(&mut hands, ACTION, &case.what);
    case.sim.set_accounts_busy(true);
    let outcome = commit(&mut hands, ACTION);
    assert!(matches!(&outcome, Outcome::Reverted(why) if why.contains("changes accounts")), "{outcome:?}");
    assert_eq!(case.sim.state(), before);
}

#[test]
fn a_file_that_was_restored_is_proven_also_when_an_account_in_it_is_locked_since() {
    let case = Case::new("restored, then locked", |sim, versions| {
        lock_alice(sim, "alice:!:19000:0:99999:7:::\n");
        let good = sim.read("/etc/shadow").unwrap();
        let base = versions.add(Some(sim.write("/etc/shadow", &good, 0o640)), &good);
        let bad = [&good[..], b"evil::19000:0:99999:7:::\n"].concat();
        let bad = versions.add(Some(sim.write("/etc/shadow", &bad, 0o640)), &bad);
        restore("/etc/shadow", base, &[(bad, true)], false)
    });
    let Action::RestoreFile(restoration) = case.what.clone() else { panic!() };
    let many = Action::RestoreFiles { files: vec![restoration].into() };
    for restoration in [case.what.clone(), many] {
        let bad = case.versions.content(VersionId(2)).unwrap();
        case.sim.write("/etc/shadow", &bad, 0o640);
        let agent = Agent::new();
        let mut hands = agent.start(&case);
        let lock = Action::LockAccount { uid: 1_001, path: HostPath::from("/etc/shadow") };
        for (action, what) in [(ACTION, &restoration), (ActionId(2), &lock)] {
            prepare(&mut hands, action, what);
            assert_eq!(commit(&mut hands, action), Outcome::Success);
        }
        let proof = Proof {
            others: Vec::new(),
            processes: Vec::new(),
            actions: vec![ACTION, ActionId(2)],
            again: Vec::new(),
            paths: vec![HostPath::from("/etc/shadow")],
            since: Timestamp(0),
        };
        let holds = |hands: &mut Hands<'_>| match hands.verify(IncidentId(1), &proof, &[]) {
            Input::Proven { checks, .. } => checks.iter().all(|check| check.holds),
            other => panic!("{other:?}"),
        };
        assert!(holds(&mut hands));
        let locked = shadow(&case);
        case.sim.write("/etc/shadow", (locked.clone() + "evil::19000:0:99999:7:::\n").as_bytes(), 0o640);
        assert!(!holds(&mut hands), "a line of the attack is back");
        case.sim.write("/etc/shadow", locked.as_bytes(), 0o666);
        assert!(!holds(&mut hands), "everybody may write it");
    }
}

#[test]
fn an_isolation_that_does_not_hold_or_shuts_everybody_out_is_taken_back_at_once() {
    for (network, why) in [
        (Ether::Leaks, "taken back at once: 192.0.2.1 was still reached"),
        (Ether::Shut, "taken back at once: 10.0.0.1, which is never to be blocked, would not be reached any more"),
        (Ether::Closed, "nothing was done: none of `never_block` is reached"),
        (Ether::Unplugged, "nothing was done: none of `never_block` is reached"),
    ] {
        let case = Case::new("isolate", |_, _| isolate());
        case.sim.set_network(network);
        let before = case.sim.state();
        let mut hands = Agent::new().start(&case);
        prepare(&mut hands, ACTION, &case.what);
        let outcome = commit(&mut hands, ACTION);
        assert!(matches!(&outcome, Outcome::Reverted(told) if told.starts_with(why)), "{outcome:?}");
        assert_eq!(case.sim.state(), before, "{network:?}");
    }
}

#[test]
fn an_isolation_is_tried_again_after_a_crash_and_a_second_one_is_nobodys_work() {
    let (_, _, applied) = undisturbed(&Case::new("isolate", |_, _| isolate()));
    let mut tried = 0;
    for step in 0..applied {
        let case = Case::new("isolate", |_, _| isolate());
        let agent = Agent::new();
        let mut hands = agent.start(&case);
        prepare(&mut hands, ACTION, &case.what);
        case.sim.fault(Some((step, Fault::Crash)));
        assert!(catch_unwind(AssertUnwindSafe(|| commit(&mut hands, ACTION))).is_err());
        drop(hands);
        case.sim.fault(None);
        tried += usize::from(case.sim.state().isolated.is_some());
        case.sim.set_network(Ether::Shut);
        let settled = agent.start(&case).recover_open();
        assert!(matches!(&settled[..], [(ACTION, Outcome::Reverted(_))]), "{settled:?}");
        assert_eq!(case.sim.state().isolated, None, "step {step}");
    }
    assert!(tried > 3, "{tried} of {applied}");
    let case = Case::new("isolate", |_, _| isolate());
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    let isolated = case.sim.state();
    let second = ActionId(2);
    let Input::Prepared { facts, .. } = prepare(&mut hands, second, &case.what) else { panic!() };
    assert_eq!(facts.as_expected, Expected::AlreadyDone);
    assert_eq!(commit(&mut hands, second), Outcome::DoesNotExist);
    assert_eq!(hands.undo_action(second).outcome, Outcome::DoesNotExist);
    assert_eq!(case.sim.state(), isolated, "the first one's is left alone");
    for _ in 0..2 {
        assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone);
        assert_eq!(case.sim.state().isolated, None);
    }
    // One that ended by itself may be made anew.
    let third = ActionId(3);
    prepare(&mut hands, third, &case.what);
    assert_eq!(commit(&mut hands, third), Outcome::Success);
    case.sim.advance(LEASE);
    let Input::Prepared { facts, .. } = prepare(&mut hands, ActionId(4), &case.what) else { panic!() };
    assert_eq!(facts.as_expected, Expected::Yes);
}

#[test]
fn an_isolation_is_made_to_last_only_while_it_is_in_force_and_ends_as_before_when_that_is_undone() {
    let case = Case::new("isolate", |_, _| isolate());
    let agent = Agent::new();
    let mut hands = agent.start(&case);
    let (second, third) = (ActionId(2), ActionId(3));
    let long = isolate_for_long();
    assert!(
        matches!(prepare(&mut hands, second, &long), Input::Unprepared { .. }),
        "nobody was asked whether they get in"
    );
    prepare(&mut hands, ACTION, &case.what);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success);
    let trial = case.sim.state();
    prepare(&mut hands, second, &long);
    case.sim.set_network(Ether::Shut);
    assert!(matches!(commit(&mut hands, second), Outcome::Reverted(_)), "nobody gets in any more");
    assert_eq!(case.sim.state(), trial, "it ends as it would have");
    case.sim.set_network(Ether::AsTold);
    prepare(&mut hands, second, &long);
    assert_eq!(commit(&mut hands, second), Outcome::Success);
    assert_ne!(case.sim.state(), trial);
    for _ in 0..2 {
        assert_eq!(hands.undo_action(second).outcome, Outcome::Undone);
        assert_eq!(case.sim.state(), trial);
    }
    prepare(&mut hands, third, &long);
    case.sim.advance(LEASE);
    assert!(matches!(commit(&mut hands, third), Outcome::Reverted(why) if why.contains("it ended before")));
    // Undone after the trial would have ended: the host is in the network again.
    let fourth = ActionId(4);
    prepare(&mut hands, fourth, &case.what);
    assert_eq!(commit(&mut hands, fourth), Outcome::Success);
    let fifth = ActionId(5);
    prepare(&mut hands, fifth, &long);
    assert_eq!(commit(&mut hands, fifth), Outcome::Success);
    case.sim.advance(LEASE);
    assert!(case.sim.clone().isolated(&control_of(&long)).unwrap().is_some(), "it lasts");
    assert_eq!(hands.undo_action(fifth).outcome, Outcome::Undone);
    assert_eq!(case.sim.state().isolated, None);
}

fn control_of(action: &Action) -> Vec<thymus_engine::network::Network> {
    match action {
        Action::IsolateHost { control, .. } => control.clone(),
        _ => panic!(),
    }
}
