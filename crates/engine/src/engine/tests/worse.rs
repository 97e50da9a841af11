// SPDX-License-Identifier: Apache-2.0
//! A service that is worse after a heal: what is taken back by itself, what a person is asked about, what is left alone.

use super::*;
use crate::health::{Health, Service};
use crate::incident::Decision;
use crate::input::Check;

const UNIT: &str = "nginx.service";
const SETTINGS: &str = "/etc/nginx/nginx.conf";

fn well() -> Service {
    Service {
        unit: UNIT.to_owned(),
        declared: true,
        active: "active".to_owned(),
        sub: "running".to_owned(),
        result: "success".to_owned(),
        turn: 1,
        watches: vec!["/usr/sbin/nginx".into(), "/etc/nginx".into()],
        probes: vec![Check { name: "tcp 80".to_owned(), holds: true, detail: "answers".to_owned() }],
        ..Service::default()
    }
}

fn failed() -> Service {
    let (active, result) = ("failed".to_owned(), "exit-code".to_owned());
    Service { active, result, status: 1, turn: 2, probes: Vec::new(), ..well() }
}

fn silent() -> Service {
    let mut service = Service { turn: 2, ..well() };
    service.probes[0].holds = false;
    service
}

/// Half a second after half a second, with an answer of the probes each time.
fn pass(world: &mut World, seconds: u32, services: impl Fn(&[String]) -> Vec<Service>) {
    for _ in 0..seconds * 2 {
        let given = world.orders_given();
        world.answer_all(); // whoever is asked now is asked after that was done
        world.tick();
        for service in services(&given) {
            world.input(Input::Health(Health::Service(Box::new(service))));
        }
        for _ in 0..4 {
            world.answer_all();
            world.tick();
        }
    }
}

/// It is as `broken` once this was done, until something is taken back.
fn after(done: &'static str, broken: fn() -> Service) -> impl Fn(&[String]) -> Vec<Service> {
    move |given| {
        let last = given.iter().rposition(|order| order == done);
        let undone = given.iter().rposition(|order| order.starts_with("undo"));
        vec![match last {
            Some(done) if undone.is_none_or(|undone| undone < done) => broken(),
            Some(_) => Service { turn: 3, ..well() },
            None => well(),
        }]
    }
}

/// A web server that was well for a while, with settings of its own.
fn world(mode: Mode) -> World {
    let mut world = World::new(mode);
    let install = world.there(world.init, "/usr/bin/install", Some("setup.service"));
    world.write(install, SETTINGS);
    world.write(install, "/usr/sbin/nginx");
    pass(&mut world, 10, |_| vec![well()]);
    world
}

/// A root shell that leaves a job of cron's, and does this.
fn attack(world: &mut World, deed: impl FnOnce(&mut World, ProcessKey)) {
    let shell = world.login(ALICE, None);
    world.become_root(shell);
    world.write(shell, "/etc/cron.d/job");
    deed(world, shell);
    world.find(shell, "foothold/cron", Confidence::High);
}

fn tampers(world: &mut World, shell: ProcessKey) {
    world.write(shell, SETTINGS);
}

/// What was done, in order, but for stops and what only a person decides at the end.
fn told(world: &World) -> Vec<String> {
    let told = |order: &String| !order.starts_with("reflex") && !order.contains("lock_account");
    world.orders_given().into_iter().filter(told).collect()
}

fn attacked(world: &World) -> Incident {
    world.incidents().into_iter().find(|incident| !incident.roots.is_empty() && !incident.subjects.is_empty()).unwrap()
}

/// By name and target of the action that it takes back, with what came of it.
fn undos(world: &World) -> Vec<(String, Decision, bool)> {
    let incident = attacked(world);
    let of = |id| incident.actions.iter().find(|record| record.id == id).unwrap();
    let one = |record: &ActionRecord| match &record.action {
        Action::UndoAction { of: id, .. } => {
            let done = record.outcome == Some(Outcome::Success);
            Some((of(*id).action.name().to_owned(), record.verdict.decision, done))
        }
        _ => None,
    };
    incident.actions.iter().filter_map(one).collect()
}

fn questions(world: &World) -> Vec<(ActionId, String)> {
    let asked = |record: &&ActionRecord| record.answer_by.is_some() && record.action.name() != "lock_account";
    attacked(world).actions.iter().filter(asked).map(|record| (record.id, record.action.name().to_owned())).collect()
}

const RELOAD: &str = "reload nginx.service";

#[test]
fn what_made_a_service_worse_is_taken_back_files_first_and_a_person_is_asked() {
    for broken in [failed, silent] {
        let mut world = world(Mode::Autonomous);
        attack(&mut world, tampers);
        pass(&mut world, 90, after(RELOAD, broken));
        let done = told(&world);
        let from = done.iter().position(|order| order == "verify").unwrap();
        let (restore, reload) = ("restore /etc/nginx/nginx.conf", RELOAD);
        assert!(done[..from].contains(&restore.to_owned()) && done[..from].contains(&reload.to_owned()), "{done:?}");
        let undone = [
            ("restore_file".to_owned(), Decision::Permit, true),
            ("reload_service".to_owned(), Decision::Permit, true),
        ];
        assert_eq!(undos(&world), undone, "only those that the service lives by, files first");
        let asked = done.iter().filter(|order| order.starts_with("ask"));
        assert_eq!(asked.collect::<Vec<_>>(), ["ask restore_file", "ask reload_service"]);
        let incident = attacked(&world);
        assert_eq!(incident.stage, Stage::Stuck);
        assert!(incident.why.starts_with("nginx.service was well, and is worse after action"), "{}", incident.why);
        assert!(incident.why.contains("2 actions wait for a person"), "{}", incident.why);
        assert_eq!(incident.worse.len(), 1);
        let restored = incident.actions.iter().find(|record| record.action.name() == "restore_file").unwrap();
        assert_eq!(restored.outcome, Some(Outcome::Undone));
        // What came in stays out, and nothing is tried again by itself.
        let before = told(&world).len();
        pass(&mut world, 120, after(RELOAD, broken));
        assert_eq!(told(&world).len(), before, "{:?}", told(&world));
        let shown = incident.objects.iter().find(|object| object.path == HostPath::from(SETTINGS)).unwrap();
        assert!(shown.shown.as_ref().unwrap().contains("K12: nginx.service was worse after this was done"));
        assert!(world.work_max <= STEP_WORK_MAX);
    }
}

#[test]
fn what_was_taken_back_is_done_again_when_a_person_says_so_and_then_stays() {
    let mut world = world(Mode::Autonomous);
    attack(&mut world, tampers);
    pass(&mut world, 60, after(RELOAD, failed));
    for (action, _) in questions(&world) {
        world.input(Input::Command(Command::Approve { action }));
        pass(&mut world, 5, |_| vec![Service { turn: 3, ..well() }]);
    }
    pass(&mut world, 10, |_| vec![Service { turn: 4, ..well() }]);
    assert_eq!(attacked(&world).stage, Stage::Healed, "{}", attacked(&world).why);
    pass(&mut world, 20, |_| vec![Service { turn: 5, ..failed() }]);
    assert_eq!(undos(&world).len(), 2, "a person wanted it");
    assert!(attacked(&world).worse[0].contains("a person wanted that"), "{:?}", attacked(&world).worse);
    assert_eq!(attacked(&world).stage, Stage::Healed);
}

#[test]
fn who_denies_that_it_is_done_again_leaves_it_open() {
    let mut world = world(Mode::Autonomous);
    attack(&mut world, tampers);
    pass(&mut world, 60, after(RELOAD, failed));
    for (action, _) in questions(&world) {
        world.input(Input::Command(Command::Deny { action }));
    }
    pass(&mut world, 60, |_| vec![Service { turn: 3, ..well() }]);
    assert_eq!(attacked(&world).stage, Stage::Stuck, "what the attack wrote is there");
    let denied = |record: &&ActionRecord| record.verdict.reasons == ["a person denied it"];
    assert_eq!(attacked(&world).actions.iter().filter(denied).count(), 2);
}

/// Nothing is taken back, and nobody is asked whether it shall be.
fn nothing_follows(world: &World, why: &str) {
    assert_eq!(undos(world), [], "{why}");
    assert_eq!(attacked(world).stage, Stage::Healed, "{why}: {}", attacked(world).why);
}

#[test]
fn nothing_is_taken_back_for_who_was_ill_before_comes_back_lives_by_something_else_or_fails_later() {
    let mut sick = world(Mode::Autonomous);
    pass(&mut sick, 2, |_| vec![silent()]);
    attack(&mut sick, tampers);
    pass(&mut sick, 60, |_| vec![silent()]);
    nothing_follows(&sick, "ill before");

    let mut slow = world(Mode::Autonomous);
    attack(&mut slow, tampers);
    let times = std::cell::Cell::new(0);
    pass(&mut slow, 60, |given| {
        let reloaded = given.iter().any(|order| order == RELOAD);
        times.set(times.get() + u32::from(reloaded));
        vec![if reloaded && times.get() < 30 { silent() } else { well() }]
    });
    nothing_follows(&slow, "it came back within its grace");

    let mut other = world(Mode::Autonomous);
    let reads =
        |service: Service| Service { unit: "app.service".into(), watches: vec!["/etc/app.conf".into()], ..service };
    pass(&mut other, 10, |_| vec![reads(well()), well()]);
    attack(&mut other, tampers);
    pass(&mut other, 60, |given| {
        let reloaded = given.iter().any(|order| order == RELOAD);
        vec![reads(if reloaded { failed() } else { well() }), well()]
    });
    nothing_follows(&other, "it does not live by that");

    let mut late = world(Mode::Autonomous);
    attack(&mut late, tampers);
    pass(&mut late, 30, |_| vec![well()]);
    pass(&mut late, 60, |_| vec![failed()]);
    nothing_follows(&late, "too late");

    let mut fresh = World::new(Mode::Autonomous);
    attack(&mut fresh, |world, shell| {
        world.write(shell, "/etc/app.conf");
    });
    pass(&mut fresh, 2, |_| vec![reads(well())]);
    pass(&mut fresh, 60, |_| vec![reads(failed())]);
    nothing_follows(&fresh, "nobody knows how it was before");
}

#[test]
fn many_that_fail_together_have_another_reason() {
    let mut world = world(Mode::Autonomous);
    let all = |service: fn() -> Service| {
        ["nginx.service", "b.service", "c.service"].map(|unit| Service { unit: unit.into(), ..service() }).to_vec()
    };
    pass(&mut world, 10, |_| all(well));
    attack(&mut world, tampers);
    pass(&mut world, 60, |given| all(if given.iter().any(|order| order == RELOAD) { failed } else { well }));
    nothing_follows(&world, "a storm");
}

#[test]
fn while_changes_are_announced_nothing_is_taken_back() {
    let mut world = world(Mode::Autonomous);
    attack(&mut world, tampers);
    pass(&mut world, 3, |_| vec![well()]);
    let until = Timestamp(u64::MAX);
    world.input(Input::Command(Command::ChangeBegin { until, who: "ops".into(), why: "upgrade".into() }));
    pass(&mut world, 60, |_| vec![failed()]);
    nothing_follows(&world, "announced");
}

#[test]
fn under_a_hold_nothing_is_taken_back_before_it_ends() {
    let mut world = world(Mode::Autonomous);
    attack(&mut world, tampers);
    pass(&mut world, 3, |_| vec![well()]);
    world.input(Input::Command(Command::Hold { until: Timestamp(u64::MAX), why: "look first".into() }));
    pass(&mut world, 20, |_| vec![failed()]);
    assert!(
        undos(&world).iter().all(|(_, decision, done)| *decision == Decision::Deny && !done),
        "{:?}",
        undos(&world)
    );
    world.input(Input::Command(Command::Release));
    pass(&mut world, 20, |_| vec![failed()]);
    assert_eq!(undos(&world).iter().filter(|(_, _, done)| *done).count(), 2, "{:?}", undos(&world));
}

#[test]
fn what_a_person_approved_is_only_told() {
    let mut world = world(Mode::Observe);
    attack(&mut world, tampers);
    pass(&mut world, 5, |_| vec![well()]);
    for _ in 0..20 {
        let asked = attacked(&world).actions.into_iter().find(|record| record.answer_by.is_some());
        let Some(record) = asked else { break };
        world.input(Input::Command(Command::Approve { action: record.id }));
        pass(&mut world, 2, |_| vec![well()]);
    }
    assert!(world.orders_given().contains(&RELOAD.to_owned()), "{:?}", world.orders_given());
    pass(&mut world, 60, |_| vec![failed()]);
    assert_eq!(undos(&world), []);
    assert!(attacked(&world).worse[0].contains("a person wanted that, so it stays"), "{:?}", attacked(&world).worse);
}

/// All that could be taken back is asked about, for this reason, and what was done stays.
fn is_asked(mode: Mode, why: &str, broken: fn() -> Service, deed: impl FnOnce(&mut World, ProcessKey)) {
    let mut world = world(mode);
    attack(&mut world, deed);
    pass(&mut world, 4, |_| vec![well()]);
    pass(&mut world, 60, |_| vec![broken()]);
    let undos = undos(&world);
    assert!(!undos.is_empty(), "{why}: {:?} {:?}", attacked(&world).why, told(&world));
    assert!(undos.iter().all(|(_, decision, done)| *decision == Decision::Ask && !done), "{why}: {undos:?}");
    let incident = attacked(&world);
    assert_eq!(incident.stage, Stage::Stuck, "{why}");
    let asked = incident.actions.iter().find(|record| record.action.name() == "undo_action").unwrap();
    let told = |reason: &String| reason.contains(why);
    assert!(asked.verdict.reasons.iter().any(told), "{why}: {:?}", asked.verdict.reasons);
    let undone = |record: &ActionRecord| record.outcome == Some(Outcome::Undone);
    assert!(!incident.actions.iter().any(undone), "{why}");
    let action = asked.id;
    // Taken back once a person says so.
    world.input(Input::Command(Command::Approve { action }));
    pass(&mut world, 5, |_| vec![broken()]);
    assert!(attacked(&world).actions.iter().any(undone), "{why}");
}

#[test]
fn nothing_of_an_attacks_own_comes_back_before_a_person_says_so() {
    let auto = Mode::Autonomous;
    is_asked(auto, "what quarantine_file put away", failed, |world, shell| {
        world.write(shell, "/etc/nginx/conf.d");
        world.write(shell, SETTINGS);
    });
    is_asked(
        auto,
        "what is in it may run, or say who may come in",
        || Service { watches: vec!["/etc/ssh".into()], ..failed() },
        |world, shell| {
            world.write(shell, "/etc/ssh/sshd_config");
        },
    );
    is_asked(auto, "what is in it may run, or say who may come in", failed, |world, shell| {
        world.write(shell, "/usr/sbin/nginx");
    });
    let program = || Service { watches: vec!["/var/www".into()], ..failed() };
    is_asked(auto, "what is in it may run, or say who may come in", program, |world, shell| {
        world.write(shell, "/var/www/index.html");
    });
    is_asked(auto, "is what gave the attack away", failed, |world, shell| {
        world.write(shell, SETTINGS);
        world.find_at(shell, "web/settings", Confidence::Medium, &[SETTINGS]);
    });
    is_asked(auto, "the attack touched `/srv/key`", failed, |world, shell| {
        world.write(shell, SETTINGS);
        let other = world.there(world.init, "/usr/bin/install", None);
        world.write_unprotected(other, "/srv/key");
        world.remove_unprotected(shell, "/srv/key");
    });
    is_asked(Mode::Guarded, "a person decides", failed, tampers);
    is_asked(Mode::Guarded, "what quarantine_file put away", failed, |world, shell| {
        world.write(shell, "/etc/nginx/conf.d");
    });
}

#[test]
fn while_a_process_of_the_attack_runs_a_person_is_asked() {
    let mut world = world(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.become_root(shell);
    tampers(&mut world, shell);
    world.find(shell, "foothold/cron", Confidence::High);
    while !told(&world).contains(&RELOAD.to_owned()) {
        world.answer_one();
    }
    let reloaded = |world: &World| {
        let done = |record: &ActionRecord| record.action.name() == "reload_service" && record.outcome.is_some();
        attacked(world).actions.iter().any(done)
    };
    while !reloaded(&world) {
        world.answer_one();
    }
    world.input(Input::Command(Command::Hold { until: Timestamp(u64::MAX), why: "look first".into() }));
    world.fork(shell); // nobody stops it under a hold
    pass(&mut world, 20, |_| vec![failed()]);
    assert!(attacked(&world).worse[0].contains("for processes of the attack run"), "{:?}", attacked(&world).worse);
}

#[test]
fn who_changed_it_too_may_be_the_reason() {
    let mut world = world(Mode::Autonomous);
    attack(&mut world, tampers);
    pass(&mut world, 3, |_| vec![well()]);
    let editor = world.login(OPS, None);
    world.run(editor, &["/usr/bin/vim"], |world, vim| {
        world.write(vim, "/etc/nginx/mime.types");
    });
    pass(&mut world, 20, |_| vec![failed()]);
    assert!(undos(&world).iter().all(|(_, decision, _)| *decision == Decision::Ask), "{:?}", undos(&world));
    assert!(
        attacked(&world).worse[0].contains("somebody else changed what it is made of"),
        "{:?}",
        attacked(&world).worse
    );
}

#[test]
fn who_denies_the_undo_has_it_healed_as_it_is() {
    let mut world = world(Mode::Guarded);
    attack(&mut world, tampers);
    pass(&mut world, 4, |_| vec![well()]);
    pass(&mut world, 20, |_| vec![failed()]);
    for undo in [false, true] {
        for record in attacked(&world).actions.iter().filter(|record| record.answer_by.is_some()) {
            let action = record.id;
            match (undo, record.action.name()) {
                (true, "undo_action") => drop(world.input(Input::Command(Command::Deny { action }))),
                (false, "end_session") => drop(world.input(Input::Command(Command::Approve { action }))),
                _ => {}
            }
        }
        pass(&mut world, 5, |_| vec![failed()]);
    }
    pass(&mut world, 20, |_| vec![Service { turn: 9, ..well() }]);
    assert!(
        undos(&world).iter().all(|(_, decision, done)| *decision == Decision::Deny && !done),
        "{:?}",
        undos(&world)
    );
    assert_eq!(attacked(&world).stage, Stage::Healed, "{}", attacked(&world).why);
}

#[test]
fn it_goes_on_where_it_was_when_the_agent_dies_at_any_input() {
    let play = |crash_at: Option<usize>| {
        let mut world = world(Mode::Autonomous);
        let from = world.inputs.len();
        world.crash_at = crash_at.map(|at| from + at);
        attack(&mut world, tampers);
        pass(&mut world, 40, after(RELOAD, failed));
        world
    };
    let inputs = play(None).inputs.len();
    for crash_at in (0..inputs).step_by(3) {
        let world = play(Some(crash_at));
        let incident = attacked(&world);
        let done = undos(&world).into_iter().filter(|(_, _, done)| *done).count();
        assert_eq!((done, incident.stage), (2, Stage::Stuck), "died before input {crash_at}: {:#?}", told(&world));
        assert_eq!(questions(&world).len(), 2, "died before input {crash_at}");
    }
}

#[test]
fn the_same_inputs_take_the_same_back() {
    let mut world = world(Mode::Autonomous);
    attack(&mut world, tampers);
    pass(&mut world, 60, after(RELOAD, failed));
    let (mut engine, mut effects) = (Engine::new(), Vec::new());
    for (now, input) in &world.inputs {
        engine.step(*now, input.clone(), &mut effects);
    }
    assert_eq!(effects, world.effects);
}
