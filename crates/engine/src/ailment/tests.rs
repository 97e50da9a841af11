// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::action::Packaged;
use crate::engine::Engine;
use crate::engine::world::{ALICE, OPS, World, configuration};
use crate::health::{Certificate, Disk, Firewall, Service};
use crate::input::{Command, Input};

const UNIT: &str = "app.service";
const SETTINGS: &str = "/etc/app.conf";

/// One that runs and answers.
fn well() -> Service {
    Service {
        unit: UNIT.to_owned(),
        declared: true,
        active: "active".to_owned(),
        sub: "running".to_owned(),
        result: "success".to_owned(),
        turn: 1,
        watches: vec!["/usr/bin/app".into(), SETTINGS.into()],
        probes: vec![Check { name: "tcp 80".to_owned(), holds: true, detail: "answers".to_owned() }],
        ..Service::default()
    }
}

fn failed() -> Service {
    let log = vec!["no such word".to_owned()];
    let (active, result) = ("failed".to_owned(), "exit-code".to_owned());
    Service { active, result, status: 1, turn: 2, probes: Vec::new(), log, ..well() }
}

fn silent() -> Service {
    let mut service = well();
    service.probes[0].holds = false;
    service
}

/// Half a second after half a second, with an answer of the probes each time.
fn pass(world: &mut World, seconds: u32, health: impl Fn(&[String]) -> Vec<Health>) {
    play(world, seconds, |world| health(&world.orders_given()));
}

fn play(world: &mut World, seconds: u32, health: impl Fn(&World) -> Vec<Health>) {
    for _ in 0..seconds * 2 {
        for health in health(world) {
            world.input(Input::Health(health));
        }
        for _ in 0..5 {
            world.answer_all();
            world.tick();
        }
    }
}

fn one(service: Service) -> Vec<Health> {
    vec![Health::Service(Box::new(service))]
}

/// It is as `broken` until all of `cures` were carried out.
fn until(cures: &'static [&'static str], broken: Service) -> impl Fn(&[String]) -> Vec<Health> {
    move |given| {
        let cured = cures.iter().all(|cure| given.iter().any(|order| order == cure));
        one(if cured { Service { turn: 3, ..well() } } else { broken.clone() })
    }
}

fn only(world: &World) -> Incident {
    let mut found: Vec<Incident> = world.incidents().into_iter().filter(|incident| incident.confirmed).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// Somebody's work, without a login: such as a script that a unit runs.
fn accident(world: &mut World, path: &str) -> VersionId {
    let unit = world.there(world.init, "/usr/bin/sh", Some("cleaning.service"));
    world.write(unit, path)
}

fn edit(world: &mut World, uid: u32, path: &str) -> VersionId {
    let shell = world.login(uid, None);
    let mut version = VersionId::UNKNOWN;
    world.run(shell, &["/usr/bin/vim"], |world, vim| version = world.write(vim, path));
    version
}

#[test]
fn a_service_that_crashed_is_started_again_and_proven() {
    for mode in [Mode::Guarded, Mode::Autonomous] {
        let mut world = World::new(mode);
        pass(&mut world, 5, |_| one(well()));
        pass(&mut world, 20, until(&["restart app.service"], failed()));
        let incident = only(&world);
        assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
        assert_eq!(world.orders_given(), ["restart app.service", "verify"]);
        assert_eq!(incident.findings[0].analytic, "failure/crash-loop");
        assert!(incident.contained <= incident.restored && incident.restored <= incident.healed);
    }
}

#[test]
fn a_service_that_is_silent_is_asked_several_times_before_it_is_started_again() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    pass(&mut world, 2, |_| one(silent()));
    assert!(world.orders_given().is_empty());
    pass(&mut world, 40, until(&["restart app.service"], silent()));
    assert_eq!(only(&world).stage, Stage::Healed);
    assert_eq!(only(&world).findings[0].analytic, "failure/no-answer");
}

#[test]
fn what_made_it_fail_is_put_back_when_a_start_does_not_help() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    accident(&mut world, SETTINGS);
    pass(&mut world, 40, until(&["restore /etc/app.conf"], failed()));
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    assert_eq!(world.orders_given()[..2], ["restart app.service", "restore /etc/app.conf"]);
    assert!(incident.roots[0].title.contains("edit of `/etc/app.conf`"), "{}", incident.roots[0].title);
    assert_eq!(incident.objects[0].class, ObjectClass::Broken);
}

#[test]
fn an_administrators_edit_is_proposed_back_and_taken_back_when_he_says_so() {
    let refused = Check { name: "test".into(), holds: false, detail: "line 3: no such word".into() };
    let broken = Service { test: Some(refused), ..failed() };
    for mode in [Mode::Guarded, Mode::Autonomous] {
        let mut world = World::new(mode);
        pass(&mut world, 5, |_| one(well()));
        edit(&mut world, OPS, SETTINGS);
        let cures = &["restore /etc/app.conf", "restart app.service"];
        pass(&mut world, 20, until(cures, broken.clone()));
        let incident = only(&world);
        assert_eq!(world.orders_given(), ["ask restore_file"], "a start with it would be in vain");
        assert_eq!(incident.stage, Stage::Stuck);
        assert!(incident.why.contains("waits for a person: put `/etc/app.conf` back"), "{}", incident.why);
        assert!(incident.roots[0].title.contains("`/usr/bin/vim`"), "{}", incident.roots[0].title);
        assert!(incident.roots[0].title.contains("login session of uid 1000"), "{}", incident.roots[0].title);
        let action = incident.actions[0].id;
        world.input(Input::Command(Command::Approve { action }));
        let (good, still) = (failed(), broken.clone());
        pass(&mut world, 30, move |given| {
            let restored = given.iter().any(|order| order == "restore /etc/app.conf");
            let started = given.iter().any(|order| order == "restart app.service");
            one(match (restored, started) {
                (true, true) => Service { turn: 3, ..well() },
                (true, false) => good.clone(),
                _ => still.clone(),
            })
        });
        assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
        return_to_the_same(&world);
    }
}

/// The recorded inputs give the same effects again.
fn return_to_the_same(world: &World) {
    let (mut engine, mut effects) = (Engine::new(), Vec::new());
    for (now, input) in &world.inputs {
        engine.step(*now, input.clone(), &mut effects);
    }
    assert_eq!(effects, world.effects);
}

#[test]
fn a_denied_proposal_stays_denied_and_the_administrators_own_repair_ends_it() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    edit(&mut world, OPS, SETTINGS);
    pass(&mut world, 30, |_| one(failed()));
    let asked = only(&world).actions.iter().find(|record| record.outcome.is_none()).unwrap().id;
    world.input(Input::Command(Command::Deny { action: asked }));
    pass(&mut world, 20, |_| one(failed()));
    assert_eq!(only(&world).stage, Stage::Stuck);
    assert!(!world.orders_given().iter().any(|order| order.starts_with("restore")));
    pass(&mut world, 20, |_| one(Service { turn: 9, ..well() }));
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn a_policy_may_let_an_administrators_edit_be_taken_back_without_asking() {
    let policy = "permit (principal in Mode::\"autonomous\", action == Action::\"restore_file\", resource) \
        when { context.failure && context.authorised_change };";
    let mut allowed = configuration(Mode::Autonomous);
    allowed.policies.push(("operator".to_owned(), policy.to_owned()));
    let mut world = World::with(Engine::new(), allowed);
    pass(&mut world, 5, |_| one(well()));
    edit(&mut world, OPS, SETTINGS);
    pass(&mut world, 40, until(&["restore /etc/app.conf"], failed()));
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert!(!world.orders_given().iter().any(|order| order.starts_with("ask")));
}

#[test]
fn who_is_no_administrator_is_taken_back_and_in_guarded_mode_asked_about() {
    for (mode, asked) in [(Mode::Guarded, true), (Mode::Autonomous, false)] {
        let mut world = World::new(mode);
        pass(&mut world, 5, |_| one(well()));
        edit(&mut world, ALICE, SETTINGS);
        pass(&mut world, 40, until(&["restore /etc/app.conf"], failed()));
        assert_eq!(world.orders_given().contains(&"ask restore_file".to_owned()), asked, "{mode:?}");
    }
}

#[test]
fn what_it_was_well_with_is_good_and_only_what_came_after_is_taken_back() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    let good = accident(&mut world, SETTINGS);
    // Reloaded, and well with it.
    pass(&mut world, 20, |_| one(Service { turn: 5, ..well() }));
    accident(&mut world, SETTINGS);
    pass(&mut world, 40, until(&["restore /etc/app.conf"], Service { turn: 6, ..failed() }));
    let incident = only(&world);
    let restored = incident.actions.iter().find_map(|record| match &record.action {
        Action::RestoreFile(restore) => Some(restore.base),
        _ => None,
    });
    assert_eq!(restored, Some(good));
}

/// The program was renewed, ran well, and was taken away by somebody else.
fn with_its_program_removed() -> World {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    let unit = world.there(world.init, "/usr/bin/install", Some("build.service"));
    world.write(unit, "/usr/bin/app");
    pass(&mut world, 20, |_| one(Service { turn: 4, ..well() }));
    let other = world.there(world.init, "/usr/bin/rm", Some("cleaning.service"));
    world.remove(other, "/usr/bin/app");
    world
}

#[test]
fn a_deleted_program_is_put_back_before_the_service_is_started() {
    let mut world = with_its_program_removed();
    let gone = Service { missing: vec!["/usr/bin/app".into()], turn: 5, ..failed() };
    pass(&mut world, 40, until(&["restore /usr/bin/app"], gone));
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    assert_eq!(world.orders_given()[0], "restore /usr/bin/app");
    assert_eq!(incident.findings[0].analytic, "failure/missing-program");
}

fn packaged(path: &str, found: Option<&str>, configuration: bool) -> Packaged {
    Packaged {
        path: path.into(),
        package: "app".to_owned(),
        version: "2.0-1".to_owned(),
        architecture: "amd64".to_owned(),
        shipped: path.into(),
        wanted: Some("0".repeat(32)),
        found: found.map(str::to_owned),
        configuration,
    }
}

#[test]
fn a_program_that_the_vault_never_had_comes_from_its_package_and_who_removed_it_is_named() {
    let made_of = |service: Service| Service { watches: vec!["/srv/app".into(), SETTINGS.into()], ..service };
    for (mode, healed) in [(Mode::Autonomous, true), (Mode::Guarded, false)] {
        let mut world = World::new(mode);
        pass(&mut world, 5, |_| one(made_of(well())));
        let other = world.there(world.init, "/usr/bin/rm", Some("cleaning.service"));
        world.remove_unprotected(other, "/srv/app");
        let gone = Service {
            missing: vec!["/srv/app".into()],
            packaged: vec![packaged("/srv/app", None, false)],
            turn: 5,
            ..made_of(failed())
        };
        pass(&mut world, 40, |given| {
            let cured = given.iter().any(|order| order == "unpack /srv/app");
            one(if cured { Service { turn: 6, ..made_of(well()) } } else { gone.clone() })
        });
        let incident = only(&world);
        assert!(incident.roots[0].title.contains("removal of `/srv/app`"), "{}", incident.roots[0].title);
        assert_eq!(incident.stage == Stage::Healed, healed, "{}", incident.why);
        if healed {
            assert_eq!(world.orders_given()[0], "unpack /srv/app");
        } else {
            assert!(incident.why.contains("waits for a person"), "{} {:?}", incident.why, world.orders_given());
        }
    }
}

#[test]
fn the_vaults_version_goes_before_a_packages_and_what_it_lacks_comes_from_there() {
    for missing in [false, true] {
        let mut world = with_its_program_removed();
        if missing {
            let facts = (Expected::Yes, Merge::Missing("it was too large".to_owned()));
            world.facts.insert("/usr/bin/app".into(), facts);
        }
        let gone = Service {
            missing: vec!["/usr/bin/app".into()],
            packaged: vec![packaged("/usr/bin/app", None, false)],
            turn: 5,
            ..failed()
        };
        let cure = if missing { "unpack /usr/bin/app" } else { "restore /usr/bin/app" };
        pass(&mut world, 40, |given| {
            let cured = given.iter().any(|order| order == cure);
            one(if cured { Service { turn: 6, ..well() } } else { gone.clone() })
        });
        assert_eq!(only(&world).stage, Stage::Healed, "{} {:?}", only(&world).why, world.orders_given());
        let unpacked = world.orders_given().iter().any(|order| order.starts_with("unpack"));
        assert_eq!((world.orders_given()[0].as_str(), unpacked), ("restore /usr/bin/app", missing));
    }
}

#[test]
fn a_damaged_library_is_restored_when_a_start_does_not_help_and_settings_only_when_they_are_named() {
    let library = packaged("/usr/lib/libapp.so.1", Some("1"), false);
    let settings = packaged("/etc/app/own.conf", Some("2"), true);
    let broken = Service { packaged: vec![settings, library], ..failed() };
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    pass(&mut world, 40, until(&["unpack /usr/lib/libapp.so.1"], broken.clone()));
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert_eq!(world.orders_given()[..2], ["restart app.service", "unpack /usr/lib/libapp.so.1"]);

    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    pass(&mut world, 120, |_| one(broken.clone()));
    assert!(!world.orders_given().iter().any(|order| order.contains("own.conf")), "nobody named it");

    // Named as the reason: it is proposed, for it may be what somebody wanted.
    let log = vec!["cannot parse /etc/app/own.conf".to_owned()];
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    pass(&mut world, 120, |_| one(Service { log: log.clone(), ..broken.clone() }));
    assert!(!world.orders_given().iter().any(|order| order.contains("own.conf")));
    let incident = only(&world);
    assert!(incident.why.contains("waits for a person"), "{}", incident.why);
    assert!(incident.why.contains("put `/etc/app/own.conf` back as app 2.0-1 ships it"), "{}", incident.why);
}

#[test]
fn a_stop_on_purpose_a_slow_start_a_reload_and_a_lone_restart_lead_to_nothing() {
    let stopped = Service { active: "inactive".into(), sub: "dead".into(), turn: 2, probes: Vec::new(), ..well() };
    let starting =
        Service { active: "activating".into(), sub: "start-pre".into(), turn: 3, probes: Vec::new(), ..well() };
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    pass(&mut world, 30, |_| one(stopped.clone()));
    pass(&mut world, 60, |_| one(starting.clone()));
    // Started, and not listening yet.
    pass(&mut world, 15, |_| one(Service { turn: 4, ..silent() }));
    pass(&mut world, 30, |_| one(Service { turn: 4, ..well() }));
    pass(&mut world, 1, |_| one(Service { active: "reloading".into(), turn: 5, ..well() }));
    // The service manager started it again by itself, once.
    pass(&mut world, 30, |_| one(Service { turn: 6, restarts: 1, ..well() }));
    assert_eq!(world.orders_given(), [] as [String; 0]);
    assert_eq!(world.incidents(), []);
}

#[test]
fn what_was_learned_and_never_seen_well_is_left_alone() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 30, |_| one(Service { declared: false, ..failed() }));
    assert_eq!(world.incidents(), []);
}

#[test]
fn while_changes_are_announced_nothing_is_done() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    let until = Timestamp(u64::MAX);
    world.input(Input::Command(Command::ChangeBegin { until, who: "ops".into(), why: "upgrade".into() }));
    pass(&mut world, 30, |_| one(failed()));
    assert_eq!(world.incidents(), []);
    world.input(Input::Command(Command::ChangeEnd));
    pass(&mut world, 5, |_| one(failed()));
    assert_eq!(world.orders_given()[0], "restart app.service");
}

#[test]
fn a_persons_hold_keeps_it_until_it_ends() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    world.input(Input::Command(Command::Hold { until: Timestamp(u64::MAX), why: "look first".into() }));
    pass(&mut world, 10, |_| one(failed()));
    assert_eq!(world.orders_given(), [] as [String; 0]);
    assert!(only(&world).why.contains("K2"), "{}", only(&world).why);
    world.input(Input::Command(Command::Release));
    pass(&mut world, 30, until(&["restart app.service"], failed()));
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn a_service_that_nothing_helps_is_left_to_a_person_after_a_few_starts_with_growing_pauses() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    pass(&mut world, 120, |_| one(failed()));
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Stuck);
    assert!(incident.why.contains("3 starts did not help"), "{}", incident.why);
    let times: Vec<u64> = incident.actions.iter().map(|record| record.decided.0).collect();
    assert_eq!(times.len(), 3);
    assert!(times[2] - times[1] > times[1] - times[0]);
}

#[test]
fn services_that_fail_together_are_not_touched() {
    let named = |unit: &str, service: Service| Health::Service(Box::new(Service { unit: unit.to_owned(), ..service }));
    let mut world = World::new(Mode::Autonomous);
    let all =
        |service: fn() -> Service| ["a.service", "b.service", "c.service"].map(|unit| named(unit, service())).into();
    pass(&mut world, 5, |_| all(well));
    pass(&mut world, 20, |_| all(failed));
    assert_eq!(world.orders_given(), [] as [String; 0]);
    assert!(world.incidents().iter().all(|incident| incident.stage == Stage::Stuck));
    assert!(world.incidents()[0].why.contains("3 services fail together"), "{}", world.incidents()[0].why);
}

/// So many services, of which these are as `broken` until they were started again; but for `hopeless`.
fn fleet(world: &World, count: usize, ill: &[usize], broken: &Service, hopeless: &[usize]) -> Vec<Health> {
    let actions = world.incidents().into_iter().flat_map(|incident| incident.actions);
    let started: BTreeSet<String> = actions
        .filter(|record| record.outcome.is_some())
        .filter_map(|record| match record.action {
            Action::RestartService { unit } => Some(unit),
            _ => None,
        })
        .collect();
    let one = |number: usize| {
        let unit = format!("{number}.service");
        let turn = if started.contains(&unit) { 3 } else { 1 };
        let is_ill = ill.contains(&number) && (turn == 1 || hopeless.contains(&number));
        let service = if is_ill { broken.clone() } else { well() };
        Health::Service(Box::new(Service { unit, turn, ..service }))
    };
    (0..count).map(one).collect()
}

/// When each of these was begun, in seconds since the first.
fn seconds(world: &World, orders: &[&str]) -> Vec<u64> {
    let begun = world.incidents().into_iter().flat_map(|incident| incident.actions);
    let begun: Vec<(String, u64)> = begun
        .filter_map(|record| match &record.action {
            Action::RestartService { unit } => Some((format!("restart {unit}"), record.decided.0)),
            _ => None,
        })
        .collect();
    let at = |order: &&str| begun.iter().find(|(name, _)| name == order).unwrap().1;
    orders.iter().map(|order| (at(order) - at(&orders[0])) / 1_000_000_000).collect()
}

#[test]
fn services_that_hang_are_started_one_at_a_time_and_the_next_one_when_the_last_one_answers() {
    let mut world = World::new(Mode::Autonomous);
    world.running = ["1.service".to_owned(), "4.service".to_owned()].into();
    play(&mut world, 5, |world| fleet(world, 9, &[], &well(), &[]));
    play(&mut world, 60, |world| fleet(world, 9, &[1, 4], &silent(), &[]));
    let orders: Vec<String> = world.orders_given().into_iter().filter(|order| order != "verify").collect();
    assert_eq!(orders, ["restart 1.service", "restart 4.service"], "nobody is asked about a wait");
    assert!(world.incidents().iter().all(|incident| incident.stage == Stage::Healed));
    let begun = seconds(&world, &["restart 1.service", "restart 4.service"]);
    assert!((1..10).contains(&begun[1]), "{begun:?}: after two answers of the first");
    // One that does not answer after its start keeps the other waiting for a minute.
    let mut world = World::new(Mode::Autonomous);
    play(&mut world, 5, |world| fleet(world, 9, &[], &well(), &[]));
    play(&mut world, 300, |world| fleet(world, 9, &[1, 4], &silent(), &[1]));
    let begun = seconds(&world, &["restart 1.service", "restart 4.service"]);
    assert!(begun[1] >= 60, "{begun:?}");
}

#[test]
fn where_few_services_are_left_one_that_runs_is_not_started_again_before_a_person_says_so() {
    for (ill, asked) in [(&[0, 1][..], false), (&[0, 1, 2], true)] {
        let mut world = World::new(Mode::Autonomous);
        world.running = (0..7).map(|number| format!("{number}.service")).collect();
        play(&mut world, 5, |world| fleet(world, 7, &[], &well(), &[]));
        play(&mut world, 20, |world| fleet(world, 7, ill, &silent(), &[]));
        let orders = world.orders_given();
        assert_eq!(orders.iter().any(|order| order.starts_with("ask")), asked, "{orders:?}");
        if asked {
            let incident = world.incidents().remove(0);
            assert!(incident.why.contains("4 of 7 services would be left healthy"), "{}", incident.why);
            // The probes were wrong: what was asked goes on by itself, for then there is room, and heals by itself.
            play(&mut world, 20, |world| fleet(world, 7, &[], &well(), &[]));
            assert!(
                world.incidents().iter().all(|incident| incident.stage == Stage::Healed),
                "{:?}",
                world.incidents()
            );
            assert!(!world.effects.iter().any(|effect| matches!(effect, Effect::Commit { .. })));
        }
    }
    // Who has no process to lose is started whatever the others do: that only adds.
    let mut world = World::new(Mode::Autonomous);
    play(&mut world, 5, |world| fleet(world, 7, &[], &well(), &[]));
    play(&mut world, 60, |world| fleet(world, 7, &[0, 1, 2], &failed(), &[]));
    assert!(world.incidents().iter().all(|incident| incident.stage == Stage::Healed), "{:?}", world.orders_given());
}

#[test]
fn room_is_made_before_what_lives_from_it_is_started() {
    let full = |free_bytes| {
        let freeable = vec![("/var/log/app.log.1".into(), 150), ("/var/log/app.log.2".into(), 500)];
        Health::Disk(Disk { path: "/".into(), free_bytes, least_bytes: 100, freeable })
    };
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| vec![full(1_000), Health::Service(Box::new(well()))]);
    pass(&mut world, 40, |given| {
        let freed = given.iter().any(|order| order.starts_with("free"));
        let started = given.iter().any(|order| order.starts_with("restart"));
        let service = if started { Service { turn: 3, ..well() } } else { failed() };
        vec![full(if freed { 700 } else { 0 }), Health::Service(Box::new(service))]
    });
    let orders: Vec<String> = world.orders_given().into_iter().filter(|order| order != "verify").collect();
    assert_eq!(orders, ["free 2", "restart app.service"]);
    assert!(world.incidents().iter().all(|incident| incident.stage == Stage::Healed));
}

#[test]
fn what_does_not_come_back_asks_unless_everything_is_permitted() {
    let full = || {
        vec![Health::Disk(Disk {
            path: "/".into(),
            free_bytes: 0,
            least_bytes: 100,
            freeable: vec![("/x".into(), 500)],
        })]
    };
    let mut world = World::new(Mode::Guarded);
    pass(&mut world, 10, |_| full());
    assert_eq!(world.orders_given(), ["ask free_space"]);
    let nothing =
        || vec![Health::Disk(Disk { path: "/".into(), free_bytes: 0, least_bytes: 100, freeable: Vec::new() })];
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 10, |_| nothing());
    assert_eq!((only(&world).stage, world.orders_given().len()), (Stage::Stuck, 0));
}

#[test]
fn rules_that_were_in_force_and_are_gone_are_loaded_again_and_others_never() {
    let rules = |rules| vec![Health::Firewall(Firewall { path: "/etc/nftables.conf".into(), rules, wanted: 4 })];
    let mut world = World::new(Mode::Guarded);
    pass(&mut world, 20, |_| rules(0));
    assert_eq!(world.incidents(), [], "the file alone does not say that it was ever loaded");
    pass(&mut world, 5, |_| rules(4));
    pass(&mut world, 20, |given| rules(if given.is_empty() { 0 } else { 4 }));
    assert_eq!(world.orders_given(), ["load /etc/nftables.conf", "verify"]);
    assert_eq!(only(&world).stage, Stage::Healed);
}

#[test]
fn an_expired_certificate_is_read_again_when_its_file_is_good_and_renewed_otherwise() {
    let shown = |expired, file_expired| {
        let (path, unit) = ("/etc/ssl/app.crt".into(), UNIT.to_owned());
        vec![Health::Certificate(Certificate {
            path,
            unit,
            shown_expired: Some(expired),
            file_expired,
            renewable: true,
        })]
    };
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 20, |given| shown(given.is_empty(), false));
    assert_eq!(world.orders_given(), ["reload app.service", "verify"]);
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 30, |given| {
        let renewed = given.iter().any(|order| order.starts_with("renew"));
        let read = given.iter().any(|order| order.starts_with("reload"));
        shown(!read, !renewed)
    });
    assert_eq!(world.orders_given(), ["renew /etc/ssl/app.crt", "reload app.service", "verify"]);
    assert_eq!(only(&world).stage, Stage::Healed);
}

#[test]
fn whoever_fails_again_soon_is_the_same_incident_and_a_person_may_end_it() {
    let mut world = World::new(Mode::Autonomous);
    pass(&mut world, 5, |_| one(well()));
    pass(&mut world, 20, until(&["restart app.service"], failed()));
    assert_eq!(only(&world).stage, Stage::Healed);
    pass(&mut world, 5, |_| one(Service { turn: 7, ..failed() }));
    assert_eq!(only(&world).stage, Stage::Contained);
    assert!(only(&world).actions.len() > 1);
    let incident = only(&world).id;
    world.input(Input::Command(Command::Judge { incident, true_positive: false }));
    let before = world.orders_given().len();
    pass(&mut world, 30, |_| one(Service { turn: 7, ..failed() }));
    assert_eq!(world.orders_given().len(), before);
}

#[test]
fn it_goes_on_where_it_was_when_the_agent_dies_at_any_input() {
    let play = |crash_at: Option<usize>| {
        let mut world = World::new(Mode::Autonomous);
        world.crash_at = crash_at;
        pass(&mut world, 5, |_| one(well()));
        accident(&mut world, SETTINGS);
        pass(&mut world, 60, until(&["restore /etc/app.conf"], failed()));
        world
    };
    let inputs = play(None).inputs.len();
    for crash_at in (0..inputs).step_by(7) {
        assert_eq!(only(&play(Some(crash_at))).stage, Stage::Healed, "died before input {crash_at}");
    }
}

const OTHER: &str = "other.service";

/// Two that read the same settings: once somebody changed those, either one of them is ill, by whether they were put back.
fn both(given: &[String], changed: bool) -> Vec<Health> {
    let last = |word: &str| given.iter().rposition(|order| order.starts_with(word));
    let mended = last("restore").is_some_and(|restored| last("undo").is_none_or(|undone| undone < restored));
    let first = if mended || !changed { well() } else { failed() };
    let other = if mended { failed() } else { well() };
    [one(Service { turn: first.turn + 2, ..first }), one(Service { unit: OTHER.to_owned(), ..other })].concat()
}

/// As `pass`, and whoever is asked is asked after what was ordered until then was done.
fn slowly(world: &mut World, seconds: u32, health: impl Fn(&[String]) -> Vec<Health>) {
    for _ in 0..seconds * 2 {
        let given = world.orders_given();
        for _ in 0..5 {
            world.answer_all();
            world.tick();
        }
        for health in health(&given) {
            world.input(Input::Health(health));
        }
    }
}

/// The first one's settings were changed by somebody: it is put back, and the other one does not bear that.
fn cured_at_anothers_cost(mode: Mode, seconds: u32, crash_at: Option<usize>) -> World {
    let mut world = World::new(mode);
    world.crash_at = crash_at;
    slowly(&mut world, 5, |given| both(given, false));
    accident(&mut world, SETTINGS);
    slowly(&mut world, seconds, |given| both(given, true));
    world
}

#[test]
fn a_cure_that_makes_another_service_ill_is_taken_back_and_not_tried_again_by_itself() {
    let mut world = cured_at_anothers_cost(Mode::Autonomous, 60, None);
    let orders = ["restart app.service", "restore /etc/app.conf", "undo 2", "ask restore_file"];
    assert_eq!(world.orders_given(), orders);
    let incident = only(&world);
    let worse = "other.service was well, and is worse after action 2 (restore_file of `/etc/app.conf`)";
    assert!(incident.worse[0].starts_with(worse), "{:?}", incident.worse);
    assert_eq!(incident.actions.iter().filter(|record| record.outcome == Some(Outcome::Undone)).count(), 1);
    // The one who was ill first is as it was, and waits.
    slowly(&mut world, 120, |given| both(given, true));
    assert_eq!(world.orders_given(), orders);
    assert_eq!(only(&world).stage, Stage::Stuck, "{}", only(&world).why);
    // A person says so: it is done once more, and that is told alone.
    let action = only(&world).actions.last().unwrap().id;
    world.input(Input::Command(Command::Approve { action }));
    slowly(&mut world, 30, |given| both(given, true));
    assert!(first(&world).worse[0].contains("so it stays"), "{:?}", first(&world).worse);
    assert_eq!(world.orders_given().iter().filter(|order| order.starts_with("undo")).count(), 1);
}

fn first(world: &World) -> Incident {
    world.incidents().into_iter().find(|incident| incident.confirmed).unwrap()
}

#[test]
fn a_denied_undo_of_a_cure_leaves_it_healed() {
    let mut world = World::new(Mode::Autonomous);
    slowly(&mut world, 5, |given| both(given, false));
    accident(&mut world, SETTINGS);
    let restored = |world: &World| world.orders_given().iter().any(|order| order.starts_with("restore"));
    while !restored(&world) {
        slowly(&mut world, 1, |_| both(&[], true));
    }
    world.answer_all();
    // Somebody else is at it, too: so a person is asked.
    accident(&mut world, SETTINGS);
    slowly(&mut world, 5, |given| both(given, true));
    let asked = first(&world).actions.into_iter().find(|record| record.action.name() == "undo_action").unwrap();
    assert_eq!(asked.verdict.decision, Decision::Ask, "{:?}", asked.verdict);
    world.input(Input::Command(Command::Deny { action: asked.id }));
    slowly(&mut world, 30, |_| both(&[], false));
    assert_eq!(first(&world).stage, Stage::Healed, "{}", first(&world).why);
}

#[test]
fn a_cure_is_taken_back_once_when_the_agent_dies_at_any_input() {
    let inputs = cured_at_anothers_cost(Mode::Autonomous, 40, None).inputs.len();
    for crash_at in (0..inputs).step_by(5) {
        let world = cured_at_anothers_cost(Mode::Autonomous, 40, Some(crash_at));
        let incident = first(&world);
        let undone = incident.actions.iter().filter(|record| record.outcome == Some(Outcome::Undone)).count();
        assert_eq!((undone, incident.stage), (1, Stage::Stuck), "died before input {crash_at}");
        let needless = |order: &String| order == "restart other.service";
        assert!(!world.orders_given().iter().any(needless), "died before input {crash_at}");
    }
}
