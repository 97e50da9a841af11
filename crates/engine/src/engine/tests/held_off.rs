// SPDX-License-Identifier: Apache-2.0
//! Who is held off: addresses of attacks; and incidents that wait.

use super::*;

fn blocks(world: &World) -> Vec<(String, Extent, Option<Outcome>, String)> {
    let incident = only(world);
    let block = |record: &ActionRecord| match record.action {
        Action::FilterTraffic { address, extent, .. } => {
            Some((address.to_string(), extent, record.outcome.clone(), record.verdict.reasons.join("; ")))
        }
        _ => None,
    };
    incident.actions.iter().filter_map(block).collect()
}

#[test]
fn where_an_attack_came_from_and_whom_it_calls_is_held_off() {
    let mut world = World::new(Mode::Guarded);
    let shell = world.login_from([198, 51, 100, 7], ALICE, None);
    let none = Traffic { sent: 0, received: 0 };
    world.run(shell, &["/usr/bin/curl"], |world, curl| world.talk(curl, false, (9, 443), none));
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let done = Some(Outcome::Success);
    let why = "policy `hold-off-the-attack` permits it".to_owned();
    let expected = [
        ("198.51.100.7".to_owned(), Extent::All, done.clone(), why.clone()),
        ("192.0.2.9".to_owned(), Extent::Outbound, done, why),
    ];
    assert_eq!(blocks(&world), expected);
    // It goes on calling, before it is stopped for good.
    world.talk(shell, false, (8, 80), none);
    world.tick();
    world.settle();
    assert_eq!(blocks(&world).len(), 3);
}

#[test]
fn an_address_that_others_have_to_do_with_is_spared_and_the_incident_heals_all_the_same() {
    let mut world = World::new(Mode::Autonomous);
    let none = Traffic { sent: 0, received: 0 };
    // The administrator sits behind the same address; a service calls the same server; customers are answered.
    world.login_from([198, 51, 100, 7], OPS, None);
    let service = world.there(world.init, "/usr/bin/app", Some("app.service"));
    world.talk(service, false, (9, 443), none);
    let server = world.there(world.init, "/usr/sbin/nginx", Some("nginx.service"));
    world.talk(server, true, (5, 80), none);
    let shell = world.login_from([198, 51, 100, 7], ALICE, None);
    world.talk(shell, false, (9, 443), none);
    world.talk(shell, false, (5, 4_444), none);
    world.write(shell, "/etc/cron.d/job");
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let found = blocks(&world);
    let of = |address: &str| found.iter().find(|(found, ..)| found == address).unwrap();
    let (_, _, outcome, why) = of("198.51.100.7");
    assert!(outcome.is_none() && why.starts_with("K8: ") && why.contains("login session of uid 1000"), "{why}");
    let (_, _, outcome, why) = of("192.0.2.9");
    assert!(outcome.is_none() && why.contains("`/usr/bin/app`") && why.contains("called it, too"), "{why}");
    // Whoever it chose to call is not called any more, and still answered when coming here.
    let (_, extent, outcome, _) = of("192.0.2.5");
    assert_eq!((extent, outcome), (&Extent::Outbound, &Some(Outcome::Success)));
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn no_more_addresses_are_blocked_for_one_attack_than_the_limit() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let none = Traffic { sent: 0, received: 0 };
    for host in 10..60 {
        world.run(shell, &["/usr/bin/curl"], |world, curl| world.talk(curl, false, (host, 443), none));
    }
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    assert_eq!(blocks(&world).len(), crate::decide::ADDRESSES_MAX);
    assert_eq!(only(&world).stage, Stage::Healed);
}

#[test]
fn where_a_request_came_from_is_blocked_only_by_a_person() {
    let mut world = World::new(Mode::Autonomous);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let request = world.request(server, [198, 51, 100, 7]);
    let none = Traffic { sent: 0, received: 0 };
    world.talk(request, false, (9, 443), none);
    world.write(request, "/var/www/index.html");
    world.find(request, "foothold/web-shell", Confidence::High);
    world.settle();
    let (mut all, mut calls) = (Vec::new(), Vec::new());
    for (address, extent, outcome, why) in blocks(&world) {
        if extent == Extent::All { &mut all } else { &mut calls }.push((address, outcome, why));
    }
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].0.as_str(), &calls[0].1), ("192.0.2.9", &Some(Outcome::Success)));
    assert_eq!(all.len(), 1);
    assert!(all[0].0 == "198.51.100.7" && all[0].1.is_none() && all[0].2.contains("asks"), "{all:?}");
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let asked = incident.actions.iter().find(|record| record.verdict.decision == Decision::Ask).unwrap().id;
    world.input(Input::Command(Command::Approve { action: asked }));
    world.settle();
    assert!(blocks(&world).iter().all(|(_, _, outcome, _)| *outcome == Some(Outcome::Success)), "{:?}", blocks(&world));
    assert_eq!(only(&world).stage, Stage::Healed);
}

#[test]
fn an_attack_of_hundreds_of_processes_is_healed_and_the_last_of_them_is_asked_whom_it_called() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let children: Vec<ProcessKey> = (0..300).map(|_| world.fork(shell)).collect();
    let none = Traffic { sent: 0, received: 0 };
    world.talk(children[299], false, (9, 443), none);
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert_eq!(blocks(&world).len(), 1);
}

#[test]
fn many_processes_that_may_not_be_stopped_keep_nobody_busy() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    for _ in 0..1_000 {
        world.fork(shell);
    }
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    assert!((0..20).all(|_| !world.tick().pending));
}

#[test]
fn incidents_that_wait_for_a_person_keep_no_other_one_waiting_and_nobody_busy() {
    let mut world = World::new(Mode::Guarded); // ending processes asks a person
    for _ in 0..4 {
        let shell = world.login(ALICE, None);
        world.find(shell, "foothold/x", Confidence::High);
        world.answer_all();
    }
    for _ in 0..20 {
        world.answer_all();
        world.tick();
    }
    assert!(world.incidents().iter().all(|incident| incident.stage == Stage::Stuck));
    assert!(!world.tick().pending, "a tick looks at all of them");
    let shell = world.login(ALICE, None);
    world.find(shell, "foothold/x", Confidence::High);
    assert!(world.orders_given().last().unwrap().starts_with("reflex"), "in the step that confirms it");
}
