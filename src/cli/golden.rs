// SPDX-License-Identifier: Apache-2.0
//! Every text that a person reads, held by a file. `UPDATE=1 cargo test -p thymus golden` rewrites; review the diff.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::Cli;
use crate::config;
use crate::wanted;
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use thymus_control::view::{Baseline, Check, Doctor, Health, Told, Tree, Uncovered, View};
use thymus_engine::action::{Action, Authored, Outcome, RestoreFile};
use thymus_engine::engine::{self, ChangeWindow};
use thymus_engine::event::{Confidence, Endpoint, Traffic};
use thymus_engine::golden::{self, Author, Difference, Drift, Golden, Item, Kind, Report, Section, State};
use thymus_engine::graph::Contact;
use thymus_engine::guard::{self, Hold, Policies, Question, Storm};
use thymus_engine::hearsay::{Heard, Join, Login, Request, Said, Testimony};
use thymus_engine::incident::{
    ActionRecord, Decision, Deed, FindingSummary, InvocationKind, Object, ObjectClass, Peer, Picture, Root, Secret,
    Subject, Verdict,
};
use thymus_engine::input::Mode;
use thymus_engine::{
    ActionId, BootId, FindingId, HostPath, Incident, IncidentId, ProcessKey, Stage, Timestamp, VersionId,
};

/// `tests/golden/NAME` is what `found` must be; `.txt` goes without saying.
fn check(name: &str, found: &str) {
    let name = if name.contains('.') { name.to_owned() } else { format!("{name}.txt") };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "{} differs; UPDATE=1 rewrites it", path.display());
}

const MS: u64 = 1_000_000;
const OPENED: u64 = 900_000 * MS;

fn at(ms: u64) -> Timestamp {
    Timestamp(OPENED + ms * MS)
}

fn process(pid: u32) -> ProcessKey {
    ProcessKey { boot: BootId(7), pid, start_time: Timestamp(u64::from(pid)) }
}

fn subject(pid: u32, program: &str, command: &[&str], reason: &str) -> Subject {
    Subject {
        process: process(pid),
        program: Some(program.into()),
        cmd_line: command.iter().map(|word| (*word).to_owned()).collect(),
        uid: 0,
        reason: reason.into(),
        alive: false,
        by: process(pid - 1),
        through: None,
    }
}

fn contact(ip: [u8; 4], port: u16, inbound: bool, connections: u64, traffic: Traffic) -> Peer {
    let contact = Contact { endpoint: Endpoint { ip: ip.into(), port }, inbound, connections, traffic };
    Peer { contact, process: process(4_712) }
}

fn object(path: HostPath, class: ObjectClass, reason: &str) -> Object {
    let deed = if reason.starts_with("created") { Deed::Created } else { Deed::Changed };
    Object { path, class, first_version: VersionId(40), reason: reason.into(), shown: None, by: process(4_712), deed }
}

fn record(id: u64, action: Action, decision: Decision, reason: &str, outcome: Option<Outcome>) -> ActionRecord {
    let settled = outcome.is_some().then(|| at(20 + 10 * id));
    let verdict = Verdict { decision, reasons: vec![reason.into()] };
    let answer_by = (decision == Decision::Ask && settled.is_none()).then(|| at(86_400_000));
    let approved_by = if answer_by.is_some() { vec![1_000] } else { Vec::new() };
    ActionRecord { id: ActionId(id), action, verdict, outcome, decided: at(2 * id), settled, answer_by, approved_by }
}

/// Lines that fit, and one of which somebody chose every word.
fn testimonies() -> Vec<Testimony> {
    let text = |text: &str| Some(text.to_owned());
    let line = |about: &str, source: &str, parser: &str, join, said| Testimony {
        about: about.to_owned(),
        heard: Heard { time: at(0), parser: parser.to_owned(), source: source.into(), join, said },
    };
    let login = Login {
        success: true,
        user: text("alice"),
        method: text("publickey"),
        key_type: text("ED25519"),
        fingerprint: text("SHA256:0lpS2mYtpLYmD9mJt3hKJX4mR9YhWmvKq3sCzQ1dG8E"),
    };
    let request = |path: &str| {
        let (http_method, path) = (text("POST"), text(path));
        Said::Http(Request { http_method, path, status: Some(200), ..Request::default() })
    };
    let (session, asked) = ("login session of uid 1001 from 127.0.0.2", "request to a server from 192.0.2.7");
    let log = "/var/log/nginx/access.log";
    vec![
        line(session, "/var/log/auth.log", "sshd", Join::Connection, Said::Authentication(login)),
        line(asked, log, "nginx", Join::Address { candidates: 1 }, request("/uploads/x.cgi")),
        line(asked, log, "nginx", Join::Address { candidates: 2 }, request("/\u{1b}[2J\u{202e}x\n  a1   done")),
    ]
}

/// A healed incident with every kind of thing in it, and names that an attacker chose.
fn healed() -> Incident {
    let hostile = HostPath::new(b"/etc/cron.d/\x1b[2Jx\n\xff");
    let permitted = "policy `autonomous`: confirmed, and the objects are the attack's alone";
    let mut restore = RestoreFile { path: "/etc/ssh/sshd_config".into(), ..restore("/etc/ssh/sshd_config") };
    restore.later.push(Authored { version: VersionId(44), attack: false });
    Incident {
        id: IncidentId(1),
        stage: Stage::Healed,
        why: "every action is settled and every proof holds".into(),
        opened: at(0),
        contained: Some(at(1)),
        restored: Some(at(840)),
        healed: Some(at(4_130)),
        confirmed: true,
        roots: vec![
            Root {
                kind: InvocationKind::Session,
                leader: process(4_711),
                title: "ssh session of uid 1001 from 127.0.0.2".into(),
                src_endpoint: Some(Endpoint { ip: [127, 0, 0, 2].into(), port: 40_022 }),
                score: 0.93,
            },
            Root {
                kind: InvocationKind::Unit("cron.service".into()),
                leader: process(312),
                title: "cron run of uid 0".into(),
                src_endpoint: None,
                score: 0.07,
            },
        ],
        findings: vec![FindingSummary {
            id: FindingId(1),
            time: at(0),
            analytic: "foothold/loader".into(),
            technique: "T1574.006".into(),
            title: "a library was put before every program".into(),
            confidence: Confidence::High,
            paths: vec!["/etc/ld.so.preload".into(), hostile.clone()],
            process: process(4_712),
        }],
        subjects: vec![
            subject(4_711, "/usr/sbin/sshd", &["sshd: alice [priv]"], "leads the session"),
            subject(4_712, "/bin/bash", &["bash", "-c", "printf '\x1b]0;x\x07'\necho"], "child of 4711"),
        ],
        objects: vec![
            object("/etc/ld.so.preload".into(), ObjectClass::AttackOnly, "created by process 4712"),
            object(hostile.clone(), ObjectClass::AttackOnly, "created by process 4712"),
            object("/etc/ssh/sshd_config".into(), ObjectClass::Mixed, "changed by process 4712, and by others"),
            Object {
                shown: Some(
                    "others wrote `/srv/shop.db-wal` too: a database is put back as a whole or not at all".into(),
                ),
                ..object("/srv/shop.db".into(), ObjectClass::Mixed, "changed by process 4712")
            },
            object("/var/log/auth.log".into(), ObjectClass::Log, "cut by process 4712"),
            object("/tmp/.x".into(), ObjectClass::Unprotected, "created by process 4712"),
        ],
        actions: vec![
            record(
                1,
                Action::SuspendProcesses { processes: vec![process(4_711), process(4_712)] },
                Decision::Permit,
                permitted,
                Some(Outcome::Success),
            ),
            record(
                2,
                Action::QuarantineFile { path: hostile, expected: VersionId(41) },
                Decision::Permit,
                permitted,
                Some(Outcome::Success),
            ),
            record(3, Action::RestoreFile(restore), Decision::Permit, permitted, Some(Outcome::Success)),
            record(
                4,
                Action::RestoreFile(RestoreFile { append_only: true, ..self::restore("/var/log/auth.log") }),
                Decision::Permit,
                permitted,
                Some(Outcome::Reverted("the file changed while it was written".into())),
            ),
            record(
                5,
                Action::TerminateProcesses { processes: vec![process(4_712)] },
                Decision::Permit,
                "policy `autonomous`: evidence is saved",
                Some(Outcome::Success),
            ),
            record(
                6,
                Action::RemoveUnit { unit: "x.service".into() },
                Decision::Ask,
                "others changed it too: a person decides",
                None,
            ),
            record(
                8,
                Action::RestoreFile(self::restore("/etc/ssh/sshd_config")),
                Decision::Ask,
                "shown, not guessed: others and the attack wrote the same line",
                None,
            ),
            record(7, Action::ReloadService { unit: "ssh.service".into() }, Decision::Deny, "a person holds", None),
            record(
                9,
                Action::RestoreFile(self::restore("/etc/nginx/nginx.conf")),
                Decision::Permit,
                permitted,
                Some(Outcome::Undone),
            ),
            record(
                10,
                Action::UndoAction { of: ActionId(9), paths: vec!["/etc/nginx/nginx.conf".into()], unit: None },
                Decision::Permit,
                "policy `take-back-what-made-a-service-worse` permits it",
                Some(Outcome::Success),
            ),
            record(
                11,
                Action::UndoAction { of: ActionId(7), paths: Vec::new(), unit: Some("ssh.service".into()) },
                Decision::Ask,
                "K12: a person says whether it is taken back: processes of the attack run",
                None,
            ),
        ],
        worse: vec![
            "nginx.service was well, and is worse after action 9 (restore_file of `/etc/nginx/nginx.conf`): nginx.service \
             failed: it ended with status 1; its log ends: \x1b[2Jno such word"
                .into(),
        ],
        contacts: vec![
            contact([192, 0, 2, 9], 443, false, 3, Traffic { received: 800, sent: 12_345_678 }),
            contact([198, 51, 100, 7], 4_444, true, 1, Traffic { received: 90, sent: 4_000 }),
            contact([127, 0, 0, 1], 80, false, 12, Traffic { received: 5_000, sent: 700 }),
        ],
        hearsay: testimonies(),
        secrets: vec![secret("/etc/shadow", 1_200), secret("/etc/ssh/ssh_host_ed25519_key", 1_400)],
        omitted: 3,
    }
}

fn secret(path: &str, ms: u64) -> Secret {
    Secret { path: path.into(), process: process(4_712), time: at(ms) }
}

fn restore(path: &str) -> RestoreFile {
    let later = vec![Authored { version: VersionId(43), attack: true }];
    RestoreFile { path: path.into(), base: VersionId(12), later, append_only: false, again: false, whole: false }
}

fn unconfirmed() -> Incident {
    let mut incident = Incident { id: IncidentId(2), stage: Stage::Open, confirmed: false, ..healed() };
    (incident.contained, incident.restored, incident.healed) = (None, None, None);
    incident.why = "one finding of medium confidence".into();
    (incident.roots, incident.actions, incident.subjects) = (Vec::new(), Vec::new(), Vec::new());
    incident.objects.clear();
    incident.worse.clear();
    incident.omitted = 0;
    incident
}

fn view() -> View {
    View {
        version: "0.1.0".into(),
        scope: "this host, whole; may act".into(),
        started: Timestamp(1_000 * MS),
        boot_to_unix_ns: 1_795_382_000_000_000_000,
        engine: engine::View {
            now: at(7_500_000),
            mode: Mode::Autonomous,
            hold: Some(Hold { until: at(9_000_000), why: "moving\nthe rack".into() }),
            storm: Some(Storm { since: at(7_320_000), why: "storm breaker: 17 attacks\nwithin a minute".into() }),
            change: Some(ChangeWindow { until: at(8_000_000), who: "ops".into(), why: "new web site".into() }),
            incidents: vec![healed(), unconfirmed()],
            losses: Vec::new(),
            counters: BTreeMap::from([("events".into(), 182_334)]),
        },
        counters: BTreeMap::from([("drift".into(), 6), ("events_lost".into(), 12)]),
        doctor: Doctor {
            checks: vec![
                Check { name: "sensor process".into(), state: Health::Good, detail: "eBPF, 9 programs".into() },
                Check {
                    name: "sensor file".into(),
                    state: Health::Limited,
                    detail: "12 events were lost; detectors were blind from 22:10:03 to 22:10:04.\nGive it more room."
                        .into(),
                },
                Check { name: "journal".into(), state: Health::Broken, detail: "the disk is full".into() },
            ],
        },
        baseline: Baseline {
            trees: vec![
                Tree { path: "/etc".into(), files: 812, covered: 812, bytes: 1_900_000 },
                Tree { path: "/home".into(), files: 40, covered: 39, bytes: 88_000_000_000 },
            ],
            stored_bytes: 412_000_000,
            quota_bytes: 4_096_000_000,
            uncovered: vec![Uncovered { path: "/home/al\nice/disk.img".into(), why: "larger than 64 MB".into() }],
            uncovered_omitted: 4,
            golden: drifted().into(),
        },
    }
}

fn drifted() -> Report {
    let field = |field: &str, wanted: Option<&str>, found: Option<&str>| Difference {
        field: field.into(),
        wanted: wanted.map(Into::into),
        found: found.map(Into::into),
    };
    let author = |program: &str, path: Option<&str>| Author {
        time: at(100),
        process: process(4_712),
        program: Some(program.into()),
        uid: Some(0),
        login: Some(1000),
        started_by: "login session of uid 1000 from 127.0.0.66".into(),
        path: path.map(HostPath::from),
        others: 0,
    };
    let told = |item: &str, kind: Kind, fields: Vec<Difference>, author: Option<Author>, declared: bool| golden::Told {
        drift: Drift { item: Item::try_from(item.to_owned()).unwrap(), kind, fields, found: None, declared },
        since_unix_ns: 1_795_382_703_000_000_000,
        user: author.as_ref().map(|_| "root".into()),
        login: author.as_ref().map(|_| "ops".into()),
        author,
    };
    let hostile = vec![
        field("home", None, Some("/home/\u{1b}[2Jx")),
        field("password", None, Some("set")),
        field("password_digest", None, Some("0123456789abcdef0123456789abcdef")),
    ];
    let useradd = author("/usr/sbin/useradd", Some("/etc/passwd"));
    let forgotten =
        Author { others: 2, program: None, uid: None, login: None, ..author("", Some("/etc/ssh/sshd_config")) };
    Report {
        recorded_unix_ns: Some(1_795_382_000_000_000_000),
        read_unix_ns: Some(1_795_382_760_000_000_000),
        read_ms: 84,
        counts: BTreeMap::from([(Section::Services, 24), (Section::Listeners, 1), (Section::Accounts, 28)]),
        unread: BTreeMap::from([(Section::Packages, "there is no list of dpkg, and no other one is read".into())]),
        left_out: 0,
        declared: Some(("/etc/thymus/wanted.toml".into(), 3)),
        problems: vec![
            wanted::parse(Path::new("/etc/thymus/wanted.toml"), "[packages]\nnginx = 3\n").unwrap_err().to_string(),
        ],
        drift: vec![
            told("account:mal\\x0alory", Kind::Added, hostile, Some(useradd), false),
            told(
                "listener:tcp 0.0.0.0:4444",
                Kind::Added,
                vec![field("program", None, Some("/usr/bin/nc.openbsd"))],
                Some(author("/usr/bin/nc.openbsd", None)),
                false,
            ),
            told("package:nginx-light", Kind::Removed, vec![field("version", Some("1.22"), None)], None, false),
            told(
                "setting:sshd PermitRootLogin",
                Kind::Changed,
                vec![field("value", Some("no"), Some("yes"))],
                Some(forgotten),
                true,
            ),
        ],
        omitted: 2,
        recorded: Arc::default(),
    }
}

#[test]
fn golden_help() {
    let mut text = String::new();
    let mut pending = vec![(String::from("thymus"), Cli::command())];
    while let Some((name, command)) = pending.pop() {
        let help = command.clone().display_name(&name).bin_name(&name).term_width(100).render_long_help();
        text += &format!("$ {name} --help\n{help}\n");
        let children: Vec<_> = command.get_subcommands().cloned().collect();
        pending.extend(children.into_iter().rev().map(|child| (format!("{name} {}", child.get_name()), child)));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    check("help", &(lines.join("\n") + "\n"));
}

/// The same, but what is not confirmed rests on weak signs alone.
fn weak() -> View {
    let mut view = view();
    for finding in view.engine.incidents.iter_mut().filter(|one| !one.confirmed).flat_map(|one| &mut one.findings) {
        finding.confidence = Confidence::Low;
    }
    view
}

#[test]
fn golden_status() {
    let mut quiet = weak();
    quiet.engine.incidents.retain(|incident| !incident.confirmed);
    (quiet.engine.hold, quiet.engine.change, quiet.engine.storm) = (None, None, None);
    quiet.doctor.checks.truncate(1);
    quiet.engine.mode = Mode::Observe;
    quiet.counters.clear();
    check("status", &format!("{}\n{}", super::status::text(&view().status()), super::status::text(&quiet.status())));
}

#[test]
fn golden_doctor() {
    check("doctor", &super::doctor::text(&view().doctor));
}

#[test]
fn golden_incidents() {
    let of = |view: &View, all| super::incidents::text(&view.summaries(), all);
    let texts = [of(&view(), false), of(&weak(), false), of(&weak(), true), super::incidents::text(&[], false)];
    check("incidents", &texts.join("\n"));
}

#[test]
fn golden_explain() {
    let view = view();
    let mut told: Vec<String> =
        view.engine.incidents.iter().map(|incident| super::explain::text(&Told::of(&view, incident))).collect();
    told.extend(view.engine.incidents.iter().map(|incident| super::explain::questions(&Told::of(&view, incident))));
    check("explain", &told.join("\n\n"));
}

#[test]
fn golden_picture() {
    let view = view();
    let told = view.engine.incidents.iter().map(|incident| Told::of(&view, incident));
    let pages: Vec<String> = told.map(|told| super::picture::lines(&told, &Picture::of(&told.incident))).collect();
    check("picture", &pages.join("\n"));
}

/// One can look at it: `tests/golden/picture.svg`.
#[test]
fn golden_picture_svg() {
    let view = view();
    let told = Told::of(&view, &view.engine.incidents[0]);
    check("picture.svg", &super::picture::svg(&told, &Picture::of(&told.incident)));
}

#[test]
fn golden_baseline() {
    let view = view();
    let report = &view.baseline.golden;
    let quiet = Report { drift: Vec::new(), omitted: 0, ..drifted() };
    let mut state = State::from([("version".into(), "1.22".into())]);
    state.insert("arch".into(), "a\nb".into());
    let items = BTreeMap::from([("nginx-light".into(), state)]);
    let recorded = Golden(BTreeMap::from([(Section::Packages, items)]));
    let pages = [
        super::baseline::text(&view.baseline),
        super::baseline::golden(report),
        super::baseline::golden(&quiet),
        super::baseline::golden(&Report::default()),
        super::baseline::drift(&Report::default()),
        super::baseline::list(&recorded),
        super::baseline::list(&Golden::default()),
    ];
    check("baseline", &pages.join("\n----\n"));
}

#[test]
fn golden_policy_explain() {
    let own = "@id(\"hands-off-www\")\n@reason(\"the web team asked,\nand \u{1b}[2J insists\")\n\
        forbid (principal, action, resource) when { context has path && context.path like \"/var/www/*\" };";
    let texts = [Policies::defaults(), vec![("own".to_owned(), own.to_owned())]].concat();
    let policies = Policies::load(&texts).unwrap();
    let page = |action: &str, mode: Mode, path: Option<&str>, flags: [bool; 6]| {
        let mut question = Question { mode, flags, ..Question::about(action).unwrap() };
        question.path = path.map(HostPath::from);
        let explanation = question.ask(|request| guard::explain(request, &policies));
        super::policy::explain::text(&question, &explanation)
    };
    let confirmed = [true, true, false, false, false, false];
    let pages = [
        page("restore_file", Mode::Guarded, Some("/etc/passwd"), confirmed),
        page("restore_file", Mode::Guarded, Some("/var/www/\n\u{1b}x"), confirmed),
        page("terminate_processes", Mode::Guarded, None, confirmed),
        page("quarantine_file", Mode::Autonomous, Some("/"), [false; 6]),
    ];
    check("policy-explain", &pages.join("\n"));
}

#[test]
fn golden_policy_diff() {
    let load = |texts: &[(String, String)]| Policies::load(texts).unwrap();
    let (standard, ot) = (Policies::defaults(), Policies::built_in("ot").unwrap());
    let own = "@id(\"take-my-edits-back\") permit (principal in Mode::\"guarded\", action == Action::\"restore_file\", resource)\n\
        when { context.confirmed && context.authorised_change && context.path like \"/etc/x*\" };";
    let looser =
        [standard.clone(), vec![("own".to_owned(), own.replace("context.path", "context has path && context.path"))]];
    let computing = "@id(\"few\") forbid (principal, action, resource) when { context.targets + 1 > 9 };";
    let both = [&looser[0][..3], &looser[1][..], &[("few".to_owned(), computing.to_owned())]].concat();
    let page = |old: &[(String, String)], new: &[(String, String)]| {
        super::policy::diff::text(&guard::compare(&load(old), &load(new)))
    };
    let pages = [page(&ot, &ot), page(&standard, &ot), page(&standard, &looser.concat()), page(&standard, &both)];
    check("policy-diff", &pages.join("\n"));
}

#[test]
fn golden_policy_replay() {
    check("policy-replay", &super::policy::replay::tests::pages().join("\n"));
}

#[test]
fn golden_errors() {
    use thymus_control::client::Error;
    let socket = || Path::new("/run/thymus/api.sock").to_owned();
    let errors = [
        Error::NoAgent { socket: socket(), source: std::io::ErrorKind::NotFound.into() },
        Error::NotRoot { socket: socket() },
        Error::Silent { socket: socket(), seconds: 10 },
        Error::Refused("there is no incident 9; `thymus incidents` lists them".into()),
        Error::Foreign { socket: socket(), detail: "missing field `stage` at line 1 column 2".into() },
        Error::Broken { socket: socket(), source: "connection\nreset".into() },
    ];
    check("errors", &errors.map(|error| super::complaint(&error.into())).concat());
}

#[test]
fn golden_configuration_problems() {
    let broken = [
        "mode = \"observing\"\n",
        "# hello\nmod = \"observe\"\n",
        "mode = \"observe\"\nmode = \"guarded\"\n",
        "[vault]\nretention_hours = 0\n",
        "[vault]\nretention_hours = -2\n",
        "[vault]\nretention_hours = \"3d\"\n",
        "administrators = [\"ops\", \"root; rm\"]\n",
        "[protect]\ntrees = [\"etc\"]\n",
        "[protect]\ntrees = [\"/etc/../root\"]\n",
        "[protect]\nappend_only = [\"/var/**/x\"]\n",
        "[[service]]\nunit = \"nginx\"\n",
        "[[service]]\nunit = \"nginx.service\"\nurl = \"http://example.com/\"\n",
        "[[service]]\ntcp = 80\n",
        "[vault]\nquota_mb = 1\n",
        "this_host = yes\n",
        "state = \"\u{1b}[2J\"\n",
        "mode = \"observe\n",
        "policies = \"strict\"\n",
        "größe = 1\n",
        "[",
    ];
    let problem = |text: &str| config::parse(Path::new("/etc/thymus/thymus.toml"), text).unwrap_err().to_string();
    check("config-problems", &broken.map(|text| problem(text) + "\n\n").concat());
}

#[test]
fn golden_wanted_problems() {
    let broken = [
        "[package]\nnginx = \"any\"\n",
        "[packages]\nnginx = 3\n",
        "[packages]\nnginx = true\n",
        "[packages]\n\"a b\" = \"any\"\n",
        "[services]\nnginx = { active = true }\n",
        "[services]\n\"nginx.service\" = \"active\"\n",
        "[services]\n\"nginx.service\" = { active = \"yes\" }\n",
        "[services]\n\"nginx.service\" = { running = true }\n",
        "[listeners]\n\"127.0.0.1:80\" = \"nginx\"\n",
        "[listeners]\n\"tcp localhost:80\" = \"nginx\"\n",
        "[accounts.alice]\ngroups = \"sudo\"\n",
        "[accounts.alice]\npassword = \"secret\"\n",
        "[settings]\n\"sshd PermitRoot\" = \"no\"\n",
        "[settings]\n\"sysctl kernel.ostype\" = \"Linux\"\n",
        "complete = [\"network\"]\n",
        "[packages]\nnginx = \"any\"\nnginx = false\n",
        "[packages",
    ];
    let problem = |text: &str| wanted::parse(Path::new(wanted::USUAL_PATH), text).unwrap_err().to_string();
    check("wanted-problems", &broken.map(|text| problem(text) + "\n\n").concat());
}

#[test]
fn golden_effective_configuration() {
    let text = toml::to_string_pretty(&config::Config::default()).unwrap();
    check("config-effective", &text);
}
