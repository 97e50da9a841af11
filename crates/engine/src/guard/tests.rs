// SPDX-License-Identifier: Apache-2.0
mod guardrails;

use super::*;
use crate::action::{Expected, Extent, RestoreFile};
use crate::id::{BootId, VersionId};

const SECOND: u64 = 1_000_000_000;

fn process(pid: u32) -> ProcessKey {
    ProcessKey { boot: BootId(1), pid, start_time: Timestamp(5) }
}

fn every_action() -> Vec<Action> {
    let processes = vec![process(100), process(101)];
    vec![
        Action::SuspendProcesses { processes: processes.clone() },
        Action::TerminateProcesses { processes: processes.clone() },
        Action::EndSession { leader: process(100), processes },
        block("198.51.100.7"),
        restore("/etc/passwd"),
        Action::QuarantineFile { path: "/etc/cron.d/x".into(), expected: VersionId(2) },
        Action::RemoveUnit { unit: "x.service".to_owned() },
        Action::ReloadService { unit: "ssh.service".to_owned() },
        lock(1_001),
        isolate(&[WAY_IN]),
    ]
}

const WAY_IN: &str = "203.0.113.0/24";

fn isolate(control: &[&str]) -> Action {
    Action::IsolateHost { control: networks(control), lease_ns: 3_600 * SECOND }
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A person is asked about it, whatever a policy permits.
fn is_personal(action: &Action) -> bool {
    matches!(action, Action::LockAccount { .. } | Action::IsolateHost { .. })
}

fn is_leased(action: &Action) -> bool {
    matches!(action, Action::SuspendProcesses { .. } | Action::FilterTraffic { .. } | Action::IsolateHost { .. })
}

fn lock(uid: u32) -> Action {
    Action::LockAccount { uid, path: "/etc/shadow".into() }
}

fn block(address: &str) -> Action {
    Action::FilterTraffic { address: address.parse().unwrap(), extent: Extent::All, lease_ns: 3_600 * SECOND }
}

/// What cures failures, with whether it happens by itself in guarded mode.
fn every_cure() -> Vec<(Action, bool)> {
    vec![
        (Action::RestartService { unit: "x.service".to_owned() }, true),
        (Action::ReloadService { unit: "x.service".to_owned() }, true),
        (Action::LoadFirewall { path: "/etc/nftables.conf".into() }, true),
        (restore("/etc/app.conf"), false),
        (Action::FreeSpace { paths: vec!["/var/log/a.1".into()] }, false),
        (Action::RenewCertificate { path: "/etc/ssl/a.crt".into() }, false),
    ]
}

#[test]
fn a_failure_is_cured_as_the_policies_for_services_say() {
    let policies = policies();
    for (action, guarded) in every_cure() {
        let cure = Request { failure: true, attack_only: false, ..request(&action, None) };
        let decision = |mode| judge(&Request { mode, ..cure }, &policies).decision;
        assert_eq!(decision(Mode::Observe), Decision::Ask, "{action:?}");
        assert_eq!(decision(Mode::Guarded), if guarded { Decision::Permit } else { Decision::Ask }, "{action:?}");
        assert_eq!(decision(Mode::Autonomous), Decision::Permit, "{action:?}");
        let refused = judge(&Request { confirmed: false, ..cure }, &policies);
        assert_eq!(refused.decision, Decision::Deny, "{action:?}");
    }
}

#[test]
fn what_somebody_did_who_may_change_the_host_is_never_taken_back_by_itself() {
    let (action, policies) = (restore("/etc/app.conf"), policies());
    for mode in [Mode::Observe, Mode::Guarded, Mode::Autonomous] {
        let cure = Request { mode, failure: true, attack_only: false, ..request(&action, None) };
        let verdict = judge(&Request { authorised_change: true, ..cure }, &policies);
        assert_eq!(verdict.decision, Decision::Ask, "{mode:?}");
    }
}

#[test]
fn a_cure_names_its_targets_and_never_touches_what_is_ours() {
    let own = [HostPath::from("/var/lib/thymus")];
    for (action, reason) in [
        (Action::FreeSpace { paths: Vec::new() }, "K1"),
        (Action::FreeSpace { paths: vec!["/var/log/../x".into()] }, "K1"),
        (Action::FreeSpace { paths: vec!["/var/log/a.1".into(), "/var/lib/thymus/journal".into()] }, "K9"),
        (Action::RestartService { unit: "dbus.service".to_owned() }, "K9"),
        (Action::RestartService { unit: "../x.service".to_owned() }, "K1"),
        (Action::RestartService { unit: "thymus.service".to_owned() }, "K9"),
        (Action::LoadFirewall { path: "relative".into() }, "K1"),
        (Action::RenewCertificate { path: "/var/lib/thymus/x".into() }, "K9"),
    ] {
        let cure = Request { failure: true, never_touch_paths: &own, approvals: 1, ..request(&action, None) };
        let verdict = judge(&cure, &policies());
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
        assert!(verdict.reasons[0].starts_with(reason), "{action:?}: {:?}", verdict.reasons);
    }
}

fn restore(path: &str) -> Action {
    Action::RestoreFile(RestoreFile {
        path: path.into(),
        base: VersionId(1),
        later: Vec::new(),
        append_only: false,
        again: false,
        whole: false,
    })
}

fn good() -> Facts {
    Facts {
        as_expected: Expected::Yes,
        undo_ready: true,
        merge: Merge::Exact,
        never_touch: false,
        evidence_saved: true,
        targets: 1,
        left_out: Vec::new(),
        needed: None,
        holders: Vec::new(),
        interrupts: false,
        genuine: Vec::new(),
    }
}

fn request<'a>(action: &'a Action, facts: Option<&'a Facts>) -> Request<'a> {
    Request {
        now: Timestamp(100 * SECOND),
        action,
        mode: Mode::Autonomous,
        scope_permits_action: true,
        confirmed: true,
        attack_only: true,
        failure: false,
        authorised_change: false,
        predicted: action.target_count(),
        hold: None,
        restraint: None,
        attempts: Attempts::default(),
        approvals: 0,
        facts,
        never_touch: &[],
        never_touch_paths: &[],
        never_block: match action {
            Action::IsolateHost { control, .. } => control,
            _ => &[],
        },
        spared: None,
        doubted: &[],
    }
}

fn policies() -> Policies {
    Policies::load(&Policies::defaults()).unwrap()
}

/// Every action is denied under `change`, also when a person approved it, and one of the reasons starts with `reason`.
fn denied(reason: &str, facts: Option<Facts>, change: impl Fn(&mut Request<'_>)) {
    let policies = policies();
    for action in every_action() {
        for approvals in [0, 1, 9] {
            let mut request = Request { approvals, ..request(&action, facts.as_ref()) };
            change(&mut request);
            let verdict = judge(&request, &policies);
            assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
            assert!(verdict.reasons.iter().any(|why| why.starts_with(reason)), "{:?}", verdict.reasons);
        }
    }
}

#[test]
fn each_mode_decides_as_its_page_says() {
    let policies = policies();
    for action in every_action().into_iter().filter(|action| !is_personal(action)) {
        for facts in [None, Some(good())] {
            let decision = |mode, attack_only| {
                judge(&Request { mode, attack_only, ..request(&action, facts.as_ref()) }, &policies).decision
            };
            assert_eq!(decision(Mode::Observe, true), Decision::Ask, "{action:?}");
            let guarded = if action.reversible() { Decision::Permit } else { Decision::Ask };
            assert_eq!(decision(Mode::Guarded, true), guarded, "{action:?}");
            assert_eq!(decision(Mode::Autonomous, true), Decision::Permit, "{action:?}");
            let mends = matches!(action, Action::RestoreFile(_) | Action::ReloadService { .. });
            let mixed = if mends { Decision::Permit } else { Decision::Ask };
            assert_eq!(decision(Mode::Autonomous, false), mixed, "{action:?}");
        }
    }
}

#[test]
fn suspicion_alone_acts_on_nothing() {
    denied("policy `never-on-suspicion` forbids it", Some(good()), |request| request.confirmed = false);
}

#[test]
fn a_scope_that_is_only_watched_is_never_acted_upon() {
    denied("scope:", Some(good()), |request| request.scope_permits_action = false);
}

#[test]
fn an_empty_set_is_not_everything() {
    for action in [
        Action::SuspendProcesses { processes: Vec::new() },
        Action::TerminateProcesses { processes: Vec::new() },
        Action::EndSession { leader: process(100), processes: Vec::new() },
        restore(""),
        restore("/"),
        restore("/etc/../etc/passwd"),
        restore("etc/passwd"),
        restore("/etc/"),
        Action::QuarantineFile { path: "/".into(), expected: VersionId(1) },
        Action::RemoveUnit { unit: String::new() },
        Action::RemoveUnit { unit: "*".to_owned() },
        Action::RemoveUnit { unit: "--all.service".to_owned() },
        Action::ReloadService { unit: "../x.service".to_owned() },
    ] {
        let verdict = judge(&request(&action, None), &policies());
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
        assert!(verdict.reasons[0].starts_with("K1"), "{:?}", verdict.reasons);
    }
}

#[test]
fn more_targets_than_predicted_or_found_or_than_the_limit_are_refused() {
    denied("K1: ", None, |request| request.predicted = 0);
    denied("K1: ", Some(Facts { targets: 3, ..good() }), |_| {});
    let processes = (0..5_000).map(|pid| process(pid + 100)).collect();
    let verdict = judge(&request(&Action::SuspendProcesses { processes }, None), &policies());
    assert_eq!(verdict.decision, Decision::Deny);
    assert!(verdict.reasons[0].contains("4096"));
}

#[test]
fn a_persons_hold_is_sacred_until_it_ends() {
    let hold = Hold { until: Timestamp(200 * SECOND), why: "migration".to_owned() };
    let action = restore("/etc/passwd");
    let held = Request { hold: Some(&hold), approvals: 1, ..request(&action, None) };
    let verdict = judge(&held, &policies());
    assert_eq!(verdict.decision, Decision::Deny);
    assert_eq!(verdict.reasons, ["K2: a person holds all actions: migration"]);
    assert_eq!(judge(&Request { now: hold.until, ..held }, &policies()).decision, Decision::Permit);
}

#[test]
fn a_repair_that_loops_is_slowed_and_then_stopped() {
    let tried = |count, ago| Attempts { count, last: Some(Timestamp(100 * SECOND - ago)) };
    denied("K5: cooling down", None, |request| request.attempts = tried(1, COOL_DOWN_NS - 1));
    denied("K5: cooling down", None, |request| request.attempts = tried(3, 4 * COOL_DOWN_NS - 1));
    denied("K5: tried", None, |request| request.attempts = tried(ATTEMPTS_MAX, 99 * SECOND));
    let action = restore("/etc/passwd");
    let again = Request { attempts: tried(3, 4 * COOL_DOWN_NS), ..request(&action, None) };
    assert_eq!(judge(&again, &policies()).decision, Decision::Permit);
}

#[test]
fn a_stale_plan_is_not_applied() {
    denied("K6: ", Some(Facts { as_expected: Expected::Changed("version 9".to_owned()), ..good() }), |_| {});
}

#[test]
fn what_has_no_way_back_and_no_lease_does_not_happen() {
    let facts = Facts { undo_ready: false, evidence_saved: false, ..good() };
    for action in every_action() {
        let verdict = judge(&request(&action, Some(&facts)), &policies());
        let leased = is_leased(&action);
        let permitted = if is_personal(&action) { Decision::Ask } else { Decision::Permit };
        assert_eq!(verdict.decision, if leased { permitted } else { Decision::Deny }, "{action:?}");
        assert!(leased || verdict.reasons[0].starts_with("K7"), "{:?}", verdict.reasons);
    }
}

#[test]
fn whoever_else_needs_an_address_keeps_it() {
    let policies = policies();
    let never: Vec<Network> = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap()).into();
    let facts = Facts { needed: Some("it is a gateway of this host".to_owned()), ..good() };
    let verdict = |address: &str, facts: Option<&Facts>, spared: Option<&str>| {
        let action = block(address);
        judge(&Request { never_block: &never, approvals: 1, spared, ..request(&action, facts) }, &policies)
    };
    assert_eq!(verdict("198.51.100.7", Some(&good()), None).decision, Decision::Permit);
    for (refused, why) in [
        (verdict("10.1.2.3", None, None), "10.0.0.0/8 is never blocked"),
        (verdict("2001:db8::7", None, None), "2001:db8::/32 is never blocked"),
        (verdict("198.51.100.7", Some(&facts), None), "gateway"),
        (verdict("198.51.100.7", None, Some("others came from there")), "others came from there"),
    ] {
        assert_eq!(refused.decision, Decision::Deny, "{why}");
        assert!(refused.reasons[0].starts_with("K8: ") && refused.reasons[0].contains(why), "{:?}", refused.reasons);
    }
}

#[test]
fn no_block_is_of_everybody_of_this_host_or_without_an_end() {
    let policies = policies();
    for address in ["127.0.0.9", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
        let action = block(address);
        let verdict = judge(&Request { approvals: 1, ..request(&action, None) }, &policies);
        assert!(verdict.decision == Decision::Deny && verdict.reasons[0].starts_with("K1"), "{address}: {verdict:?}");
    }
    for lease_ns in [0, u64::MAX] {
        let address = "198.51.100.7".parse().unwrap();
        let action = Action::FilterTraffic { address, extent: Extent::All, lease_ns };
        let verdict = judge(&Request { approvals: 1, ..request(&action, None) }, &policies);
        assert!(verdict.decision == Decision::Deny && verdict.reasons[0].starts_with("K1"), "{lease_ns}: {verdict:?}");
    }
}

#[test]
fn no_host_is_isolated_before_a_person_says_so_or_without_a_way_in_whatever_a_policy_permits() {
    let permits = "@id(\"isolate\") permit (principal, action == Action::\"isolate_host\", resource);";
    let ot = Policies::load(&Policies::built_in("ot").unwrap()).unwrap();
    for policies in [policies(), Policies::load(&with("own.cedar", permits)).unwrap(), ot] {
        let (action, facts) = (isolate(&[WAY_IN]), good());
        for facts in [None, Some(&facts)] {
            let asked = request(&action, facts);
            let verdict = judge(&asked, &policies);
            assert_eq!(verdict.decision, Decision::Ask, "{verdict:?}");
            let approved = judge(&Request { approvals: 9, ..asked }, &policies);
            assert_eq!(approved.decision, Decision::Permit, "{approved:?}");
        }
        for (control, never_block, why) in [
            (&[][..], &[][..], "no way in would be left"),
            (&["127.0.0.0/8"], &["127.0.0.0/8"], "no way in would be left"),
            (&[WAY_IN], &[WAY_IN, "10.0.0.0/8"], "10.0.0.0/8 would be cut off"),
            (&[WAY_IN, "198.51.100.7"], &[WAY_IN], "198.51.100.7/32 is not in `never_block`"),
        ] {
            let (action, never_block) = (isolate(control), networks(never_block));
            let asked = Request { never_block: &never_block, approvals: 9, ..request(&action, None) };
            let verdict = judge(&asked, &policies);
            assert_eq!(verdict.decision, Decision::Deny, "{control:?}");
            assert!(verdict.reasons[0].starts_with("K8: ") && verdict.reasons[0].contains(why), "{verdict:?}");
        }
    }
    let many: Vec<String> = (0..=CONTROL_MAX).map(|number| format!("10.0.{number}.1")).collect();
    let many = isolate(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let lasting = |lease_ns| Action::IsolateHost { control: networks(&[WAY_IN]), lease_ns };
    for action in [lasting(0), lasting(86_401 * SECOND), lasting(u64::MAX), many] {
        let verdict = judge(&Request { approvals: 9, ..request(&action, None) }, &policies());
        assert!(verdict.decision == Decision::Deny && verdict.reasons[0].starts_with("K1"), "{verdict:?}");
    }
}

#[test]
fn no_account_is_locked_before_a_person_says_so_whatever_a_policy_permits() {
    let permits = "@id(\"lock\") permit (principal, action == Action::\"lock_account\", resource);";
    let ot = Policies::load(&Policies::built_in("ot").unwrap()).unwrap();
    for policies in [policies(), Policies::load(&with("own.cedar", permits)).unwrap(), ot] {
        let (action, facts) = (lock(1_001), good());
        for (mode, facts) in
            [Mode::Observe, Mode::Guarded, Mode::Autonomous].map(|mode| [(mode, None), (mode, Some(&facts))]).concat()
        {
            for attack_only in [false, true] {
                let asked = Request { mode, attack_only, ..request(&action, facts) };
                assert_eq!(judge(&asked, &policies).decision, Decision::Ask, "{mode:?}");
                assert_eq!(judge(&Request { approvals: 1, ..asked }, &policies).decision, Decision::Permit, "{mode:?}");
            }
        }
    }
}

#[test]
fn a_policy_may_speak_of_networks() {
    let mut texts = Policies::defaults();
    let forbid = "@id(\"partners\") @reason(\"ours\") forbid (principal, action == Action::\"filter_traffic\", resource) \
                  when { context has address && context.address.isInRange(ip(\"198.51.100.0/24\")) };";
    texts.push(("partners.cedar".to_owned(), forbid.to_owned()));
    let policies = Policies::load(&texts).unwrap();
    let decision = |address: &str| judge(&request(&block(address), Some(&good())), &policies).decision;
    assert_eq!(decision("198.51.100.7"), Decision::Deny);
    assert_eq!(decision("203.0.113.7"), Decision::Permit);
}

#[test]
fn init_the_agent_and_its_files_are_never_touched() {
    denied("K9: ", Some(Facts { never_touch: true, ..good() }), |_| {});
    let never = [process(77)];
    let paths = [HostPath::from("/var/lib/thymus")];
    for action in [
        Action::SuspendProcesses { processes: vec![process(100), process(1)] },
        Action::TerminateProcesses { processes: vec![process(77)] },
        Action::EndSession { leader: process(77), processes: vec![process(100)] },
        restore("/var/lib/thymus/journal"),
        restore("/var/lib/thymus"),
        Action::QuarantineFile { path: "/var/lib".into(), expected: VersionId(1) },
        Action::RemoveUnit { unit: "thymus.service".to_owned() },
        Action::ReloadService { unit: "dbus.service".to_owned() },
        lock(0),
        Action::LockAccount { uid: 1_001, path: "/var/lib/thymus/shadow".into() },
    ] {
        let asked = Request { never_touch: &never, never_touch_paths: &paths, ..request(&action, None) };
        let verdict = judge(&asked, &policies());
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
        assert!(verdict.reasons[0].starts_with("K9"), "{:?}", verdict.reasons);
    }
}

#[test]
fn a_contradiction_is_shown_even_when_somebody_approves() {
    for merge in [Merge::Conflict("both".to_owned()), Merge::Missing("version 3".to_owned())] {
        let (facts, action) = (Facts { merge, ..good() }, restore("/etc/passwd"));
        let verdict = judge(&Request { approvals: 1, ..request(&action, Some(&facts)) }, &policies());
        assert_eq!(verdict.decision, Decision::Ask);
        assert!(verdict.reasons[0].starts_with("shown"));
    }
}

#[test]
fn an_approval_permits_what_was_asked() {
    let action = restore("/etc/passwd");
    let facts = good();
    let asked = Request { mode: Mode::Observe, approvals: 1, ..request(&action, Some(&facts)) };
    let verdict = judge(&asked, &policies());
    assert_eq!(verdict.decision, Decision::Permit);
    assert_eq!(verdict.reasons.last().unwrap(), "approved by a person");
}

#[test]
fn a_refusal_says_every_reason() {
    let hold = Hold { until: Timestamp(200 * SECOND), why: "x".to_owned() };
    let facts = Facts { as_expected: Expected::Changed("y".to_owned()), never_touch: true, ..good() };
    let action = restore("/etc/passwd");
    let all = Request {
        hold: Some(&hold),
        scope_permits_action: false,
        predicted: 0,
        confirmed: false,
        ..request(&action, Some(&facts))
    };
    let starts: Vec<String> = judge(&all, &policies()).reasons.iter().map(|why| why[..2].to_owned()).collect();
    assert_eq!(starts, ["sc", "K1", "K2", "K6", "K9", "po"]);
}

fn with(name: &str, text: &str) -> Vec<(String, String)> {
    let mut texts = Policies::defaults();
    texts.push((name.to_owned(), text.to_owned()));
    texts
}

#[test]
fn without_policies_nothing_is_permitted() {
    let none = Policies::load(&[]).unwrap();
    for action in every_action() {
        let verdict = judge(&request(&action, Some(&good())), &none);
        assert_eq!(verdict, Verdict { decision: Decision::Deny, reasons: vec!["no policy permits it".to_owned()] });
    }
}

#[test]
fn an_operators_forbid_beats_every_permit() {
    let text = "@id(\"hands-off-www\")\n@reason(\"the web team asked\")\n\
        forbid (principal, action, resource) when { context has path && context.path like \"/var/www/*\" };\n";
    let policies = Policies::load(&with("own.cedar", text)).unwrap();
    let judged = |path: &str| judge(&request(&restore(path), None), &policies);
    assert_eq!(judged("/etc/passwd").decision, Decision::Permit);
    assert_eq!(judged("/var/www/x").decision, Decision::Deny);
    assert_eq!(judged("/var/www/x").reasons, ["policy `hands-off-www` forbids it: the web team asked"]);
}

#[test]
fn a_policy_that_errors_counts_as_no() {
    let text =
        "@id(\"sum\")\nforbid (principal, action, resource) when { context.targets + 9223372036854775807 < 0 };\n";
    let policies = Policies::load(&with("own.cedar", text)).unwrap();
    let verdict = judge(&request(&restore("/etc/passwd"), None), &policies);
    assert_eq!(verdict.decision, Decision::Deny);
    assert!(verdict.reasons[0].contains("error counts as no"), "{:?}", verdict.reasons);
}

#[test]
fn a_broken_policy_is_refused_with_its_place_and_what_was_expected() {
    let place = |text: &str| {
        let errors = Policies::load(&with("own.cedar", text)).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = errors[0].clone();
        assert_eq!(error.file, "own.cedar");
        assert!(!error.what.is_empty() && !error.expected.is_empty(), "{error}");
        println!("{error}");
        (error.line, error.column)
    };
    assert_eq!(place("permit (principal, action, resource)\nwhen { context.confirmed }\n"), (2, 27));
    assert_eq!(place("// one\npermit (principal, actoin, resource);\n"), (2, 20));
    assert_eq!(place("permit (principal, action, resource)\nwhen { context.confirmd };\n"), (2, 8));
    assert_eq!(place("permit (principal, action, resource)\nwhen { context.targets == \"all\" };\n"), (2, 8));
    assert_eq!(place("permit (principal, action == Action::\"reboot\", resource);\n").0, 1);
    assert_eq!(place("permit (principal == ?principal, action, resource);\n").0, 1);
    assert_eq!(place("@id(\"end-the-attack\")\npermit (principal, action, resource);\n").0, 1);
}

#[test]
fn every_broken_file_is_reported_not_only_the_first() {
    let mut texts = with("a.cedar", "permit;");
    texts.push(("b.cedar".to_owned(), "forbid (principal, action, resource) when { context.nothing };".to_owned()));
    let files: Vec<String> = Policies::load(&texts).unwrap_err().into_iter().map(|error| error.file).collect();
    assert_eq!(files, ["a.cedar", "b.cedar"]);
}

#[test]
fn every_action_and_fact_of_the_schema_can_be_asked_about() {
    let schema = include_str!("../../../../policies/schema.cedarschema");
    let named = |line: &str| line.strip_prefix("action ")?.split_once(" in [").map(|(name, _)| name.to_owned());
    let mut actions: Vec<String> = schema.lines().filter_map(named).collect();
    actions.sort();
    assert_eq!(actions, ACTIONS.map(|(name, _)| name.to_owned()));
    let flag = |line: &str| line.trim().strip_prefix('"')?.split_once("\": Bool").map(|(name, _)| name.to_owned());
    assert_eq!(schema.lines().filter_map(flag).collect::<Vec<String>>(), FLAGS.map(str::to_owned));
    for (name, names) in ACTIONS {
        Question { targets: 2, ..Question::about(name).unwrap() }.ask(|request| {
            let many = matches!(names, Names::Processes | Names::Paths);
            assert_eq!((request.action.name(), request.action.target_count()), (name, if many { 2 } else { 1 }));
        });
    }
}

#[test]
fn an_explanation_names_every_policy_that_holds_also_those_that_are_outranked() {
    let text = "@id(\"not-passwd\")\n@reason(\"ours\")\n\
        forbid (principal, action, resource) when { context has path && context.path == \"/etc/passwd\" };\n\
        @id(\"sum\")\nforbid (principal, action, resource) when { context.targets + 9223372036854775807 < 0 };\n";
    let policies = Policies::load(&with("own.cedar", text)).unwrap();
    let action = restore("/etc/passwd");
    let told = explain(&Request { predicted: 0, ..request(&action, None) }, &policies);
    let says: Vec<(&str, Says)> = told.policies.iter().map(|policy| (policy.id.as_str(), policy.says)).collect();
    let expected = [
        ("sum", Says::Error),
        ("not-passwd", Says::Forbid),
        ("mend-what-the-attack-changed", Says::Permit),
        ("ask-about-confirmed", Says::Ask),
    ];
    assert_eq!(says, expected);
    assert_eq!(told.policies[1].why, "ours");
    assert_eq!(told.kernel, ["K1: 1 targets are named, the plan predicted 0"]);
    assert_eq!(told.verdict, judge(&Request { predicted: 0, ..request(&action, None) }, &policies));
    // Of many files, those of the one that is the reason.
    let file = |path: &str| match restore(path) {
        Action::RestoreFile(file) => file,
        _ => unreachable!(),
    };
    let text = text.split("@id(\"sum\")").next().unwrap();
    let policies = Policies::load(&with("own.cedar", text)).unwrap();
    let many = Action::RestoreFiles { files: vec![file("/etc/x"), file("/etc/passwd")].into() };
    let told = explain(&request(&many, None), &policies);
    assert_eq!((told.verdict.decision, told.policies[0].id.as_str()), (Decision::Deny, "not-passwd"));
}

#[test]
fn a_set_of_policies_is_read_in_one_screen() {
    // LIMIT: lines of a screen. A set of several files has one page a file, each about one thing.
    const LINES_MAX: usize = 50;
    for set in Policies::SETS {
        for (name, text) in Policies::built_in(set).unwrap() {
            assert!(text.lines().count() <= LINES_MAX && text.lines().all(|line| line.len() <= 120), "{set}/{name}");
        }
    }
    assert_eq!(Policies::built_in("ot").unwrap().len(), 1);
    assert_eq!(Policies::built_in("no-such"), None);
}

/// Every question whose answer depends on nothing but the action, the mode and the flags.
fn every_question() -> impl Iterator<Item = Question> {
    let modes = [Mode::Observe, Mode::Guarded, Mode::Autonomous];
    let flags = (0_u8..64).map(|bits| std::array::from_fn(|at| bits >> at & 1 == 1));
    let of = move |mode| flags.clone().map(move |flags: [bool; 6]| (mode, flags));
    let every = modes.into_iter().flat_map(of);
    every.flat_map(|(mode, flags)| ACTIONS.map(|(name, _)| Question { mode, flags, ..Question::about(name).unwrap() }))
}

#[test]
fn where_stopping_may_hurt_nothing_is_stopped_started_or_ended_by_itself() {
    let ot = Policies::load(&Policies::built_in("ot").unwrap()).unwrap();
    for question in every_question() {
        let [confirmed, attack_only, failure, _, _, merged] = question.flags;
        let files = ["restore_file", "quarantine_file"].contains(&question.action);
        let exact = files && attack_only && !failure && !merged && question.mode == Mode::Autonomous;
        let expected = match (confirmed, exact) {
            (false, _) => Decision::Deny,
            (true, false) => Decision::Ask,
            (true, true) => Decision::Permit,
        };
        assert_eq!(question.ask(|request| judge(request, &ot)).decision, expected, "{question}");
    }
    let standard = Policies::load(&Policies::defaults()).unwrap();
    let comparison = compare(&standard, &ot);
    assert_eq!((comparison.relation(), comparison.cut.len()), (Relation::Tighter, 0));
}

#[test]
fn a_restraint_asks_about_what_would_be_permitted_and_a_person_overcomes_it() {
    let (policies, action) = (policies(), restore("/etc/passwd"));
    let restrained = Request { restraint: Some("K4: too many"), ..request(&action, None) };
    let verdict = judge(&restrained, &policies);
    assert_eq!(verdict.reasons, ["K4: too many", "policy `mend-what-the-attack-changed` permits it"]);
    assert!(verdict.decision == Decision::Ask && is_short(&verdict));
    assert_eq!(judge(&Request { approvals: 1, ..restrained }, &policies).decision, Decision::Permit);
    // What is asked or denied anyway does not wait for the budget.
    for change in [Request { mode: Mode::Observe, ..restrained }, Request { confirmed: false, ..restrained }] {
        assert!(!is_short(&judge(&change, &policies)));
    }
}

#[test]
fn two_persons_are_asked_where_a_policy_says_so_and_one_less_is_looser() {
    let two = "@id(\"two\") @ask(\"for good\") @persons(\"2\")
        permit (principal, action in Action::\"final\", resource) when { context.confirmed };";
    let policies = Policies::load(&with("two.cedar", two)).unwrap();
    let action = Action::TerminateProcesses { processes: vec![process(100)] };
    let judged =
        |approvals| judge(&Request { mode: Mode::Guarded, approvals, ..request(&action, None) }, &policies).decision;
    assert_eq!([judged(0), judged(1), judged(2)], [Decision::Ask, Decision::Ask, Decision::Permit]);
    let one = Policies::load(&with("two.cedar", &two.replace("@persons(\"2\")", ""))).unwrap();
    assert_eq!(compare(&policies, &one).relation(), Relation::Looser);
    for wrong in [
        two.replace("\"2\"", "\"3\""),
        two.replace("@ask(\"for good\")", ""),
        two.replace("@ask(\"for good\")", "").replace("permit (", "forbid ("),
    ] {
        assert_eq!(Policies::load(&with("two.cedar", &wrong)).unwrap_err().len(), 1, "{wrong}");
        // The place is that of the wrong one.
        let second = format!("{}\n{wrong}", two.replace("\"two\"", "\"first\""));
        let errors = Policies::load(&with("two.cedar", &second)).unwrap_err();
        assert_eq!(errors[0].line, 3, "{errors:?}");
    }
}
