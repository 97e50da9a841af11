// SPDX-License-Identifier: Apache-2.0
//! The twelve guardrails, each by the failure that it answers, as far as it concerns one host.
//!
//! Not here: what one host has no mechanism for (a share of hosts that must stay healthy, rings for new content, an outside
//! word that confirms a network change). Number 9 for the wanted state of a host is tested with `wanted`, number 11 for blocks
//! and leases in the crate `host`.

use super::*;
use crate::action::Genuine;
use crate::engine::Engine;
use crate::engine::world::{ALICE, World, configuration};
use crate::event::{Confidence, FileKind};
use crate::guard::Budget;
use crate::health::{Health, Service};
use crate::id::IncidentId;
use crate::incident::{Incident, Stage};
use crate::input::{Check, Command, Configuration, Effect, Input};
use std::collections::BTreeSet;

/// An attack with one file, as far as it was found.
fn attack(world: &mut World) -> ProcessKey {
    let shell = world.login(ALICE, None);
    world.write(shell, "/etc/cron.d/job");
    world.find(shell, "foothold/cron", Confidence::High);
    shell
}

fn commits(world: &World) -> usize {
    world.effects.iter().filter(|effect| matches!(effect, Effect::Commit { .. })).count()
}

fn attacked(world: &World) -> Incident {
    world.incidents().into_iter().find(|incident| incident.confirmed).unwrap()
}

/// A correctly empty set of disks was read as "all disks" (Google, Diskerase); a forgotten argument rebooted a data centre
/// (Joyent, 2014).
#[test]
fn guardrail_1_an_empty_or_unbounded_target_set_is_refused_whoever_approves_it() {
    let many = (0..=TARGETS_MAX).map(|number| process(u32::try_from(number + 100).unwrap())).collect();
    for action in [
        Action::TerminateProcesses { processes: Vec::new() },
        Action::TerminateProcesses { processes: many },
        Action::EndSession { leader: process(100), processes: Vec::new() },
        Action::RestoreFiles { files: Vec::new().into() },
        Action::RestorePackaged { files: Vec::new() },
        Action::FreeSpace { paths: Vec::new() },
        Action::FreeSpace { paths: vec!["/".into()] },
        Action::QuarantineFile { path: "/home/".into(), expected: VersionId(1) },
        Action::RemoveUnit { unit: "*".to_owned() },
        Action::RestartService { unit: "--all".to_owned() },
    ] {
        let verdict = judge(&Request { approvals: 1, ..request(&action, None) }, &policies());
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
        assert!(verdict.reasons[0].starts_with("K1"), "{action:?}: {:?}", verdict.reasons);
    }
    // More were found than the plan knew of when it counted.
    let action = Action::TerminateProcesses { processes: vec![process(100), process(101)] };
    let facts = Facts { targets: 2, ..good() };
    let verdict = judge(&Request { predicted: 1, approvals: 1, ..request(&action, Some(&facts)) }, &policies());
    assert!(verdict.reasons[0].starts_with("K1") && verdict.decision == Decision::Deny);
}

/// A leap-day bug of an agent was taken for broken hardware, and healing spread it (Azure, 29 February 2012).
#[test]
fn guardrail_2_when_much_looks_bad_together_nothing_is_done_by_itself_and_a_person_is_asked() {
    let (policies, facts) = (policies(), good());
    let hold = Hold { until: Timestamp(200 * SECOND), why: "migration".to_owned() };
    let by_itself = |action: &Action| !is_personal(action);
    for action in every_action().into_iter().filter(by_itself) {
        for facts in [None, Some(&facts)] {
            let storm = Request { restraint: Some("K3: 17 attacks at once"), ..request(&action, facts) };
            let verdict = judge(&storm, &policies);
            assert_eq!((verdict.decision, verdict.reasons[0].as_str()), (Decision::Ask, "K3: 17 attacks at once"));
            // A person may decide about one action; not about what the kernel or a policy denies.
            assert_eq!(judge(&Request { approvals: 1, ..storm }, &policies).decision, Decision::Permit, "{action:?}");
            let held = judge(&Request { approvals: 1, hold: Some(&hold), ..storm }, &policies);
            let doubtful = judge(&Request { approvals: 1, confirmed: false, ..storm }, &policies);
            assert_eq!((held.decision, doubtful.decision), (Decision::Deny, Decision::Deny), "{action:?}");
        }
    }
}

/// Automation ended application and cache servers in 16 seconds (Reddit, 2016).
#[test]
fn guardrail_3_sixteen_seconds_are_not_enough_to_take_everything_away() {
    let mut budget = Budget::default();
    let acted = |number: &u64| {
        let (now, incident) = (Timestamp(100 * SECOND + number * 4_000_000), IncidentId(number / 4));
        let room = budget.objection(now, incident, ACTIONS_PER_MINUTE).is_none();
        if room {
            budget.spend(now, incident);
        }
        room
    };
    let count = (0..4_000).take_while(acted).count();
    assert_eq!(count, 132, "of 4000 actions in 16 seconds: 128, and the 4 of the largest");
}

/// The probes say that these are well, and stay with it: they are slower than we are.
fn say_well(world: &mut World, units: &[String]) {
    for unit in units {
        let probes = vec![Check { name: "tcp 80".to_owned(), holds: true, detail: "answers".to_owned() }];
        let (active, sub) = ("active".to_owned(), "running".to_owned());
        let service = Service { unit: unit.clone(), active, sub, probes, ..Service::default() };
        world.input(Input::Health(Health::Service(Box::new(service))));
    }
}

/// How many of these were stopped.
fn stopped(world: &World, of: &[ProcessKey]) -> usize {
    let processes = |effect: &Effect| match effect {
        Effect::Reflex { processes, .. } => processes.clone(),
        _ => Vec::new(),
    };
    let all: BTreeSet<ProcessKey> = world.effects.iter().flat_map(processes).collect();
    of.iter().filter(|key| all.contains(key)).count()
}

/// The same, in which each server is a service of this host: nine detectors' findings say within 16 seconds that it is the
/// attack's. What the intruder runs in them is stopped at once; of the servers, six stay, until a person says otherwise.
#[test]
fn guardrail_3_two_thirds_of_the_services_are_left_however_sure_the_findings_about_them_are() {
    let mut world = World::new(Mode::Autonomous);
    let units: Vec<String> = (0..9).map(|number| format!("app{number}.service")).collect();
    let mains: Vec<ProcessKey> =
        units.iter().map(|unit| world.there(world.init, "/usr/bin/app", Some(unit.as_str()))).collect();
    (0..3).for_each(|_| say_well(&mut world, &units));
    let mut shells = Vec::new();
    for main in &mains {
        world.write(*main, &format!("/etc/cron.d/job{}", main.pid));
        let shell = world.fork(*main);
        world.exec(shell, &["/usr/bin/sh"]);
        world.find(*main, "foothold/cron", Confidence::High);
        shells.push(shell);
        for _ in 0..17 {
            world.answer_all();
            world.tick();
        }
        say_well(&mut world, &units);
    }
    assert_eq!((stopped(&world, &shells), stopped(&world, &mains)), (9, 3));
    // What was the intruder's is ended, too, and those six are not.
    let alive =
        |of: &[ProcessKey]| of.iter().filter(|key| world.engine.graph().process(**key).unwrap().alive()).count();
    assert_eq!((alive(&shells), alive(&mains)), (0, 6));
    let questions: Vec<_> = world
        .incidents()
        .into_iter()
        .flat_map(|incident| incident.actions)
        .filter(|record| matches!(record.action, Action::SuspendProcesses { .. }) && record.outcome.is_none())
        .collect();
    assert_eq!(questions.len(), 6);
    let why = "K4, capacity: 5 of 9 services would be left healthy, and at least 6 have to be";
    assert!(questions.iter().all(|record| record.verdict.reasons[0] == why), "{:?}", questions[0].verdict);
    world.input(Input::Command(Command::Approve { action: questions[0].id }));
    world.answer_all();
    assert_eq!(stopped(&world, &mains), 4);
}

/// A stopped server's port is answered by the kernel: that makes no room for the next one, however long it lasts.
#[test]
fn guardrail_3_a_service_that_is_kept_stopped_counts_as_down_whatever_answers_in_its_place() {
    let mut world = World::new(Mode::Guarded);
    let units = ["a.service", "b.service", "c.service"].map(ToOwned::to_owned);
    let mains: Vec<ProcessKey> =
        units.iter().map(|unit| world.there(world.init, "/usr/bin/app", Some(unit.as_str()))).collect();
    say_well(&mut world, &units);
    for main in &mains[..2] {
        world.write(*main, &format!("/etc/cron.d/job{}", main.pid));
        world.find(*main, "foothold/cron", Confidence::High);
        for _ in 0..2_000 {
            world.answer_all();
            world.tick();
        }
        say_well(&mut world, &units);
    }
    assert_eq!(stopped(&world, &mains), 1);
}

/// Content with 21 fields met code with 20 (CrowdStrike, 19 July 2024).
#[test]
fn guardrail_4_content_that_does_not_fit_is_refused_whole_and_the_last_good_one_stays() {
    let mut world = World::new(Mode::Autonomous);
    let mut broken = Policies::defaults();
    broken
        .push(("new.cedar".to_owned(), "permit (principal, action, resource) when { context.new_field };".to_owned()));
    world.input(Input::Configured(Box::new(Configuration { policies: broken, ..configuration(Mode::Autonomous) })));
    assert_eq!(world.engine.view().counters.get("policies_refused"), Some(&1));
    attack(&mut world);
    world.settle();
    assert_eq!(attacked(&world).stage, Stage::Healed, "by the policies before");
}

/// Shortcuts were deleted on all machines, on some of them in audit mode (Defender, 13 January 2023).
#[test]
fn guardrail_5_what_cannot_be_undone_is_not_done_and_watching_does_nothing() {
    let lost = Facts { undo_ready: false, evidence_saved: false, ..good() };
    for action in every_action().into_iter().filter(|action| !is_leased(action)) {
        let verdict = judge(&Request { approvals: 1, ..request(&action, Some(&lost)) }, &policies());
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
        assert!(verdict.reasons[0].starts_with("K7"), "{:?}", verdict.reasons);
    }
    let mut world = World::new(Mode::Observe);
    attack(&mut world);
    world.settle();
    assert!(world.orders_given().iter().all(|order| order.starts_with("ask ")), "{:?}", world.orders_given());
}

/// Genuine files of the system were taken for malware (Webroot, April 2017; McAfee, 2010).
#[test]
fn guardrail_6_what_the_host_and_its_guard_live_from_is_never_touched() {
    let facts = Facts { never_touch: true, ..good() };
    let (warden, state) = ([process(77)], [HostPath::from("/var/lib/thymus")]);
    for (action, facts) in [
        (Action::TerminateProcesses { processes: vec![process(1)] }, None),
        (Action::SuspendProcesses { processes: vec![process(77)] }, None),
        (Action::EndSession { leader: process(100), processes: vec![process(100), process(1)] }, None),
        (Action::QuarantineFile { path: "/var".into(), expected: VersionId(1) }, None),
        (Action::RemoveUnit { unit: "systemd-journald.service".to_owned() }, None),
        (Action::RestartService { unit: "thymus.service".to_owned() }, None),
        (lock(0), None),
        (restore("/etc/x"), Some(&facts)),
    ] {
        let asked =
            Request { approvals: 1, never_touch: &warden, never_touch_paths: &state, ..request(&action, facts) };
        let verdict = judge(&asked, &policies());
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
        assert!(verdict.reasons[0].starts_with("K9"), "{action:?}: {:?}", verdict.reasons);
    }
}

const RECORD: &str = "/var/lib/dpkg/info/tool.md5sums";

fn genuine(path: &str) -> Genuine {
    Genuine { path: path.into(), package: "tool 1.2-3".to_owned(), record: RECORD.into() }
}

/// An update of virus signatures took genuine files of the system for malware and put hundreds of them in quarantine (Webroot,
/// April 2017); another one took svchost.exe, and machines did not start any more (McAfee, 2010).
#[test]
fn guardrail_6_a_file_that_is_as_its_package_ships_it_is_not_taken_away_whoever_takes_it_for_malware() {
    let policies = policies();
    let facts = Facts { genuine: vec![genuine("/usr/bin/tool")], ..good() };
    let many = match restore("/usr/bin/tool") {
        Action::RestoreFile(file) => Action::RestoreFiles { files: vec![file].into() },
        other => other,
    };
    for action in [
        restore("/usr/bin/tool"),
        many,
        Action::QuarantineFile { path: "/usr/bin/tool".into(), expected: VersionId(1) },
        Action::FreeSpace { paths: vec!["/usr/bin/tool".into()] },
        Action::RemoveUnit { unit: "tool.service".to_owned() },
    ] {
        let asked = Request { approvals: 9, ..request(&action, Some(&facts)) };
        let verdict = judge(&asked, &policies);
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
        assert!(verdict.reasons[0].starts_with("K9: `/usr/bin/tool` is exactly what tool 1.2-3 ships"), "{verdict:?}");
        // What the attack itself wrote down vouches for nothing.
        let own = [HostPath::from(RECORD)];
        assert_eq!(judge(&Request { doubted: &own, ..asked }, &policies).decision, Decision::Permit, "{action:?}");
    }
    // The detector is wrong about a service that renews a tool, and about a cron job that it has put there beside it.
    for forgery in [None, Some(RECORD), Some("/var/lib/dpkg/info")] {
        let attack_wrote_the_record = forgery.is_some();
        let mut world = World::new(Mode::Autonomous);
        world.genuine.insert("/usr/bin/tool".into(), genuine("/usr/bin/tool"));
        let updater = world.there(world.init, "/usr/bin/updater", Some("updater.service"));
        let child = world.fork(updater);
        world.write(child, "/usr/bin/tool");
        world.write(child, "/etc/cron.d/tool");
        if let Some(path) = forgery {
            world.create(child, "/tmp/forged", FileKind::Regular);
            world.rename(child, "/tmp/forged", path);
        }
        world.find(child, "foothold/cron", Confidence::High);
        world.settle();
        let (incident, orders) = (attacked(&world), world.orders_given());
        let done = |what: &str| {
            let record = incident.actions.iter().find(|record| record.action.path() == Some(&what.into())).unwrap();
            record.outcome.is_some()
        };
        assert!(done("/etc/cron.d/tool"), "{orders:?}");
        assert_eq!(done("/usr/bin/tool"), attack_wrote_the_record, "{orders:?}");
        let expected = if attack_wrote_the_record { Stage::Healed } else { Stage::Stuck };
        assert_eq!(incident.stage, expected, "{}", incident.why);
        if !attack_wrote_the_record {
            assert!(incident.why.contains("K9: `/usr/bin/tool` is exactly what"), "{}", incident.why);
        }
    }
}

/// Of a hundred files of an attack two are the host's own: they alone stay.
#[test]
fn guardrail_6_genuine_files_among_many_are_left_and_the_others_are_put_in_order_together() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let paths: Vec<String> = (0..100).map(|number| format!("/usr/share/tool/{number}")).collect();
    for path in &paths {
        world.write(shell, path);
    }
    for path in &paths[..2] {
        world.genuine.insert(path.as_str().into(), genuine(path));
    }
    world.find(shell, "impact/encryption", Confidence::High);
    world.settle();
    let refused: Vec<String> = attacked(&world)
        .actions
        .iter()
        .filter(|record| record.verdict.decision == Decision::Deny)
        .filter_map(|record| record.action.path().map(ToString::to_string))
        .collect();
    assert_eq!(refused, paths[..2]);
    let orders = world.orders_given();
    assert!(orders.contains(&"restore 98 files".to_owned()), "{orders:?}");
}

/// An attack laid a unit of its own over one that a package ships: the service is not stopped for good with it.
#[test]
fn guardrail_6_a_unit_that_a_package_ships_is_read_again_and_not_removed() {
    for shipped in [false, true] {
        let mut world = World::new(Mode::Autonomous);
        if shipped {
            world.genuine.insert("tool.service".into(), genuine("/usr/lib/systemd/system/tool.service"));
        }
        let shell = world.login(ALICE, None);
        world.write(shell, "/etc/systemd/system/tool.service");
        world.find(shell, "foothold/systemd-unit", Confidence::High);
        world.settle();
        let removed = world.effects.iter().any(|effect| {
            matches!(effect, Effect::Commit { action, .. } if attacked(&world).actions.iter().any(|record|
                record.id == *action && matches!(record.action, Action::RemoveUnit { .. })))
        });
        let orders = world.orders_given();
        assert_eq!((removed, orders.contains(&"reload tool.service".to_owned())), (!shipped, shipped), "{orders:?}");
        assert_eq!(attacked(&world).stage, Stage::Healed, "{}", attacked(&world).why);
    }
}

/// The text of a request chose which address was blocked (fail2ban, CVE-2013-2178).
#[test]
fn guardrail_7_names_that_an_attacker_chose_decide_nothing_and_no_stop_outlives_its_reason() {
    let forbid = "@id(\"hands-off\") forbid (principal, action, resource)
        when { context has path && context.path like \"/srv/*\" };";
    let policies = Policies::load(&with("own.cedar", forbid)).unwrap();
    let hostile =
        ["/srv/x\" || true || \"", "/srv/\n};\npermit (principal, action, resource);", "/srv/*\u{1b}[2J", "/srv/\\"];
    for path in hostile {
        assert_eq!(judge(&request(&restore(path), None), &policies).decision, Decision::Deny, "{path:?}");
        let elsewhere = path.replacen("/srv", "/etc", 1);
        assert_eq!(judge(&request(&restore(&elsewhere), None), &policies).decision, Decision::Permit, "{path:?}");
    }
    for unit in ["x.service; reboot", "x.service\n", "../x.service", "-H.service"] {
        let action = Action::ReloadService { unit: unit.to_owned() };
        assert_eq!(judge(&request(&action, None), &policies).decision, Decision::Deny, "{unit:?}");
    }
    // What is stopped goes on by itself once nobody wants it stopped.
    let mut world = World::new(Mode::Guarded);
    attack(&mut world);
    world.settle();
    let renewed = |world: &World| world.effects.iter().filter(|effect| matches!(effect, Effect::Renew { .. })).count();
    let before = renewed(&world);
    world.tick();
    assert_eq!(renewed(&world), before + 1);
    let incident = attacked(&world).id;
    world.input(Input::Command(Command::Judge { incident, true_positive: false }));
    world.tick();
    assert_eq!(renewed(&world), before + 1);
}

/// A delayed enactor applied an old plan after a newer one (AWS, October 2025).
#[test]
fn guardrail_8_an_answer_to_a_plan_that_is_no_longer_wanted_does_nothing() {
    let mut world = World::new(Mode::Autonomous);
    attack(&mut world);
    // The hands are asked to prepare; before they answer, a person says that it was a false alarm.
    for _ in 0..20 {
        if world.effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. })) {
            break;
        }
        world.answer_one();
    }
    let prepared = world.effects.iter().find_map(|effect| match effect {
        Effect::Prepare { action, .. } => Some(*action),
        _ => None,
    });
    let incident = attacked(&world).id;
    world.input(Input::Command(Command::Judge { incident, true_positive: false }));
    let before = commits(&world);
    world.input(Input::Prepared { action: prepared.unwrap(), facts: good() });
    world.settle();
    assert_eq!(commits(&world), before);
    // And one whose object is another by now.
    denied("K6: ", Some(Facts { as_expected: Expected::Changed("version 9".to_owned()), ..good() }), |_| {});
}

/// An outgoing control system restored an empty table of routes (SentinelOne, 29 May 2025).
#[test]
fn guardrail_9_an_empty_wanted_state_permits_nothing() {
    let none = Policies::load(&[]).unwrap();
    for action in every_action() {
        let verdict = judge(&Request { approvals: 1, ..request(&action, Some(&good())) }, &none);
        assert_eq!(verdict.decision, Decision::Deny, "{action:?}");
    }
    let mut world =
        World::with(Engine::new(), Configuration { policies: Vec::new(), ..configuration(Mode::Autonomous) });
    attack(&mut world);
    world.settle();
    assert_eq!(world.orders_given(), Vec::<String>::new());
}

/// Package management switched on again what people had switched off (Reddit, 2016).
#[test]
fn guardrail_10_no_configuration_mode_restart_or_time_before_its_end_reverts_a_hold() {
    let mut world = World::new(Mode::Autonomous);
    let until = Timestamp(world.engine.view().now.0 + 3_600 * SECOND);
    world.input(Input::Command(Command::Hold { until, why: "migration".to_owned() }));
    attack(&mut world);
    world.input(Input::Configured(Box::new(configuration(Mode::Autonomous))));
    world.input(Input::Command(Command::Mode(Mode::Guarded)));
    world.crash_at = Some(world.inputs.len());
    world.input(Input::Command(Command::Mode(Mode::Autonomous)));
    world.settle();
    assert_eq!(world.orders_given(), Vec::<String>::new());
    assert!(world.engine.view().hold.is_some_and(|hold| hold.why == "migration"));
    world.wait(3_600 * 1_000);
    world.settle();
    assert_eq!(attacked(&world).stage, Stage::Healed);
}

/// A retried charge was charged again and again (Twilio, 2013); health checks that were wrong took the site away (Stack
/// Exchange, 2016).
#[test]
fn guardrail_12_what_is_told_twice_is_done_once_and_what_does_not_help_ends() {
    let mut world = World::new(Mode::Autonomous);
    attack(&mut world);
    world.settle();
    assert_eq!(attacked(&world).stage, Stage::Healed);
    let before = (commits(&world), world.orders_given().len());
    // Every answer of the hands comes once more, late.
    let answers =
        |input: &Input| matches!(input, Input::Prepared { .. } | Input::Outcome { .. } | Input::Proven { .. });
    for (_, input) in world.inputs.clone().into_iter().filter(|(_, input)| answers(input)) {
        world.input(input);
    }
    world.settle();
    assert_eq!((commits(&world), world.orders_given().len()), before);
    // What is tried again waits twice as long each time, and then a person must look.
    let mut attempts = Attempts { count: 1, last: Some(Timestamp(0)) };
    let mut waits = Vec::new();
    while let Some(at) = attempts.next_at() {
        waits.push(at.0);
        attempts.count += 1;
    }
    assert_eq!(waits.len(), usize::try_from(ATTEMPTS_MAX).unwrap() - 1);
    assert!(waits.windows(2).all(|pair| pair[1] == 2 * pair[0]) && waits[0] == COOL_DOWN_NS);
}

/// A change of the network took services and the way to mend them down together (Facebook, 4 October 2021).
#[test]
fn guardrail_11_nobodys_way_in_is_cut_and_every_block_ends_by_itself() {
    let never: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
    let facts = Facts { needed: Some("it is a gateway of this host".to_owned()), ..good() };
    let asked = |address: &str, facts, spared| {
        let action = block(address);
        judge(&Request { never_block: &never, approvals: 9, spared, ..request(&action, facts) }, &policies())
    };
    for verdict in [
        asked("10.1.2.3", None, None),
        asked("198.51.100.7", Some(&facts), None),
        asked("198.51.100.7", None, Some("the administrator's login session came from there")),
    ] {
        assert!(verdict.decision == Decision::Deny && verdict.reasons[0].starts_with("K8: "), "{verdict:?}");
    }
    // Nor is an administrator locked out, whoever approves it; whoever else is, was asked about.
    let action = lock(1_000);
    let named = Some("the configuration names it an administrator's");
    let verdict = judge(&Request { approvals: 9, spared: named, ..request(&action, None) }, &policies());
    assert!(verdict.decision == Decision::Deny && verdict.reasons[0].starts_with("K8: the account of uid 1000"));
    let mut world = World::new(Mode::Autonomous);
    attack(&mut world);
    world.settle();
    let orders = world.orders_given();
    assert!(orders.contains(&"ask lock_account".to_owned()) && !orders.contains(&"lock 1001".to_owned()), "{orders:?}");
    // Nor is a host isolated without a way in that is left, whoever approves it.
    for control in [&[][..], &["198.51.100.7"]] {
        let action = isolate(control);
        let asked = Request { never_block: &never, approvals: 9, ..request(&action, None) };
        let verdict = judge(&asked, &policies());
        assert!(verdict.decision == Decision::Deny && verdict.reasons[0].starts_with("K8: "), "{verdict:?}");
    }
    // Nobody may ask for one without an end, or longer than a day.
    for lease_ns in [0, 86_401 * SECOND, u64::MAX] {
        let address = "198.51.100.7".parse().unwrap();
        let action = Action::FilterTraffic { address, extent: Extent::All, lease_ns };
        assert_eq!(judge(&Request { approvals: 9, ..request(&action, None) }, &policies()).decision, Decision::Deny);
    }
}
