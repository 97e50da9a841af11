// SPDX-License-Identifier: Apache-2.0
//! A host that is to be isolated: for which attack a person is asked, once, and that nothing waits for the answer.

use super::*;
use crate::decide::{ISOLATION_LEASE_NS, ISOLATION_TRIAL_NS};
use crate::input::{ANSWER_NS, Configuration};

/// What became of each question whether the host shall be isolated.
fn isolations(world: &World) -> Vec<(Decision, Option<Outcome>)> {
    let one = |record: &ActionRecord| match &record.action {
        Action::IsolateHost { .. } => Some((record.verdict.decision, record.outcome.clone())),
        _ => None,
    };
    world.incidents().iter().flat_map(|incident| incident.actions.iter().filter_map(one).collect::<Vec<_>>()).collect()
}

fn question(world: &World) -> ActionId {
    let isolate = |record: &&ActionRecord| matches!(record.action, Action::IsolateHost { .. });
    only(world).actions.iter().rfind(isolate).unwrap().id
}

/// As root or not, and it called somebody or was called.
fn attacked(world: &mut World, uid: u32, inbound: bool) -> ProcessKey {
    let shell = world.login_from([198, 51, 100, 7], uid, None);
    world.talk(shell, inbound, (9, 443), Traffic { sent: 10, received: 10 });
    world.write(shell, "/etc/cron.d/job");
    world.find(shell, "foothold/cron", Confidence::High);
    shell
}

#[test]
fn about_an_attack_with_roots_power_that_called_somebody_a_person_is_asked_once_whether_to_isolate_the_host() {
    for mode in [Mode::Observe, Mode::Guarded, Mode::Autonomous] {
        let mut world = World::new(mode);
        let shell = attacked(&mut world, 0, false);
        world.settle();
        assert_eq!(isolations(&world), [(Decision::Ask, None)], "{mode:?}");
        let healed = only(&world).stage == Stage::Healed;
        assert_eq!(healed, mode == Mode::Autonomous, "{mode:?}: {}", only(&world).why);
        world.find(shell, "foothold/sudoers", Confidence::High);
        world.settle();
        assert_eq!(isolations(&world), [(Decision::Ask, None)], "{mode:?}");
        let action = question(&world);
        world.input(Input::Command(Command::Approve { action }));
        world.settle();
        assert_eq!(isolations(&world), [(Decision::Permit, Some(Outcome::Success)), (Decision::Ask, None)], "{mode:?}");
        assert_eq!(only(&world).stage == Stage::Healed, healed, "{mode:?}: {}", only(&world).why);
    }
}

#[test]
fn nobody_is_asked_to_isolate_a_host_without_roots_power_a_call_or_a_way_in() {
    for (uid, inbound) in [(ALICE, false), (0, true)] {
        let mut world = World::new(Mode::Autonomous);
        attacked(&mut world, uid, inbound);
        world.settle();
        assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
        assert_eq!(isolations(&world), [], "{uid} {inbound}");
    }
    let mut world = World::new(Mode::Autonomous);
    let unnamed = Configuration { never_block: Vec::new(), ..configuration(Mode::Autonomous) };
    world.input(Input::Configured(Box::new(unnamed)));
    attacked(&mut world, 0, false);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert_eq!(isolations(&world), []);
}

#[test]
fn whoever_became_root_in_somebodys_session_had_roots_power() {
    let mut world = World::new(Mode::Autonomous);
    let shell = attacked(&mut world, ALICE, false);
    let root = world.fork(shell);
    world.become_root(root);
    world.exec(root, &["/usr/bin/bash"]);
    world.write(root, "/etc/cron.d/other");
    world.settle();
    assert_eq!(isolations(&world), [(Decision::Ask, None)]);
}

#[test]
fn a_host_stays_in_the_network_when_a_person_says_no_or_nobody_answers() {
    for answered in [true, false] {
        let mut world = World::new(Mode::Autonomous);
        attacked(&mut world, 0, false);
        world.settle();
        if answered {
            let action = question(&world);
            world.input(Input::Command(Command::Deny { action }));
        } else {
            world.wait(ANSWER_NS / 1_000_000 + 1);
        }
        world.settle();
        assert_eq!(isolations(&world), [(Decision::Deny, None)]);
        assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    }
}

#[test]
fn what_is_asked_lets_those_through_who_are_never_blocked_now() {
    let mut world = World::new(Mode::Guarded);
    attacked(&mut world, 0, false);
    world.settle();
    let never_block = vec!["10.0.0.0/8".parse().unwrap()];
    let other = Configuration { never_block: never_block.clone(), ..configuration(Mode::Guarded) };
    world.input(Input::Configured(Box::new(other)));
    world.settle();
    assert_eq!(isolations(&world), [(Decision::Ask, None)]);
    let action = question(&world);
    let asked = only(&world).actions.iter().find(|record| record.id == action).unwrap().action.clone();
    assert!(matches!(&asked, Action::IsolateHost { control, .. } if *control == never_block), "{asked:?}");
}

#[test]
fn an_isolation_that_was_taken_back_leaves_the_incident_healed() {
    let mut world = World::new(Mode::Autonomous);
    attacked(&mut world, 0, false);
    world.settle();
    let action = question(&world);
    world.input(Input::Command(Command::Approve { action }));
    world.answer_one();
    world.input(Input::Outcome { action, outcome: Outcome::Reverted("taken back at once".to_owned()) });
    world.settle();
    let asked = isolations(&world);
    assert!(matches!(&asked[..], [(Decision::Permit, Some(Outcome::Reverted(_)))]), "{asked:?}");
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

fn leases(world: &World) -> Vec<u64> {
    let one = |record: &ActionRecord| match &record.action {
        Action::IsolateHost { lease_ns, .. } => Some(*lease_ns),
        _ => None,
    };
    only(world).actions.iter().filter_map(one).collect()
}

/// A person said yes to an isolation, and it holds.
fn on_trial(crash_at: Option<usize>) -> World {
    let mut world = World::new(Mode::Autonomous);
    attacked(&mut world, 0, false);
    world.settle();
    world.crash_at = crash_at.map(|at| world.inputs.len() + at);
    let action = question(&world);
    world.input(Input::Command(Command::Approve { action }));
    world.settle();
    world
}

#[test]
fn an_isolation_lasts_when_a_person_says_so_while_it_is_in_force() {
    for crash_at in [None, Some(1), Some(2), Some(3), Some(4), Some(20)] {
        let mut world = on_trial(crash_at);
        assert_eq!(leases(&world), [ISOLATION_TRIAL_NS, ISOLATION_LEASE_NS], "{crash_at:?}");
        let asked = only(&world).actions.into_iter().find(|record| record.id == question(&world)).unwrap();
        let told = |why: &String| why.starts_with("K11: it ends 120 seconds after");
        assert!(asked.verdict.reasons.iter().any(told), "{:?}", asked.verdict);
        world.input(Input::Command(Command::Approve { action: asked.id }));
        world.settle();
        world.wait(2 * ISOLATION_TRIAL_NS / 1_000_000);
        world.settle();
        let done = (Decision::Permit, Some(Outcome::Success));
        assert_eq!(isolations(&world), [done.clone(), done], "nobody is asked again: {crash_at:?}");
        assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    }
}

#[test]
fn an_isolation_that_nobody_confirms_is_over_and_is_asked_about_anew() {
    for crash_at in [None, Some(1), Some(3), Some(40)] {
        let mut world = on_trial(crash_at);
        let late = question(&world);
        world.wait(ISOLATION_TRIAL_NS / 1_000_000);
        world.settle();
        let all = isolations(&world);
        let over = (
            Decision::Ask,
            Some(Outcome::Reverted("nobody who still got in said that it shall last: it has ended".into())),
        );
        assert_eq!(all, [(Decision::Permit, Some(Outcome::Success)), over, (Decision::Ask, None)], "{crash_at:?}");
        assert_eq!(leases(&world), [ISOLATION_TRIAL_NS, ISOLATION_LEASE_NS, ISOLATION_TRIAL_NS]);
        let given = world.orders_given().len();
        world.input(Input::Command(Command::Approve { action: late }));
        world.settle();
        assert_eq!(world.orders_given().len(), given, "whoever comes too late begins anew: {crash_at:?}");
        // Who says no to that is not asked any more.
        let action = question(&world);
        world.input(Input::Command(Command::Deny { action }));
        world.wait(2 * ISOLATION_TRIAL_NS / 1_000_000);
        world.settle();
        assert_eq!(isolations(&world).len(), 3);
        assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    }
}

#[test]
fn who_says_that_it_shall_not_last_is_not_asked_anew() {
    let mut world = on_trial(None);
    let action = question(&world);
    world.input(Input::Command(Command::Deny { action }));
    world.wait(2 * ISOLATION_TRIAL_NS / 1_000_000);
    world.settle();
    assert_eq!(isolations(&world), [(Decision::Permit, Some(Outcome::Success)), (Decision::Deny, None)]);
}
