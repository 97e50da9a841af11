// SPDX-License-Identifier: Apache-2.0
//! The account that an attack came in with: whose it is, who is asked, and that nothing waits for the answer.

use super::*;
use crate::event::{AuthService, Authentication};
use crate::input::ANSWER_NS;

/// Each account that somebody was asked about, with what came of it.
fn accounts(world: &World) -> Vec<(u32, Decision, Option<Outcome>, String)> {
    let one = |record: &ActionRecord| match record.action {
        Action::LockAccount { uid, .. } => {
            Some((uid, record.verdict.decision, record.outcome.clone(), record.verdict.reasons.join("; ")))
        }
        _ => None,
    };
    world.incidents().iter().flat_map(|incident| incident.actions.iter().filter_map(one).collect::<Vec<_>>()).collect()
}

fn attacked_by(world: &mut World, uid: u32) -> ProcessKey {
    let shell = world.login_from([198, 51, 100, 7], uid, None);
    world.write(shell, "/etc/cron.d/job");
    world.find(shell, "foothold/cron", Confidence::High);
    shell
}

fn question(world: &World) -> ActionId {
    let lock = |record: &&ActionRecord| matches!(record.action, Action::LockAccount { .. });
    only(world).actions.iter().rfind(lock).unwrap().id
}

#[test]
fn the_account_that_an_attack_came_in_with_is_asked_about_and_locked_when_a_person_says_so() {
    for mode in [Mode::Observe, Mode::Guarded, Mode::Autonomous] {
        let mut world = World::new(mode);
        world.login(ALICE + 1, None);
        attacked_by(&mut world, ALICE);
        world.settle();
        let asked = accounts(&world);
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!((asked[0].0, asked[0].1, &asked[0].2), (ALICE, Decision::Ask, &None), "{mode:?}");
        let healed = only(&world).stage == Stage::Healed;
        assert_eq!(healed, mode == Mode::Autonomous, "{mode:?}: {}", only(&world).why);
        let action = question(&world);
        world.input(Input::Command(Command::Approve { action }));
        world.settle();
        let locked = accounts(&world);
        assert_eq!(locked.len(), 1, "{locked:?}");
        assert_eq!((locked[0].0, &locked[0].2), (ALICE, &Some(Outcome::Success)), "{mode:?}");
        assert_eq!(only(&world).stage == Stage::Healed, healed, "{mode:?}: {}", only(&world).why);
    }
}

#[test]
fn whoever_it_is_said_to_be_the_account_is_the_one_that_the_kernel_let_in() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login_from([198, 51, 100, 7], ALICE, None);
    // She becomes somebody else, and says that she is a third; another log-in is told of the same session.
    let su = world.fork(shell);
    world.exec(su, &["/usr/bin/su", "-", "bob"]);
    let fake = world.fork(su);
    world.exec(fake, &["/home/alice/sshd", "sshd: carol [priv]"]);
    world.write(fake, "/etc/cron.d/job");
    world.event(Activity::Authentication(Authentication {
        logon: true,
        session: shell,
        service: AuthService::Sshd,
        actor_uid: None,
        uid: ALICE + 1,
        src_endpoint: None,
    }));
    world.find(fake, "foothold/cron", Confidence::High);
    world.settle();
    assert_eq!(accounts(&world).iter().map(|account| account.0).collect::<Vec<_>>(), [ALICE]);
}

#[test]
fn roots_account_is_not_asked_about_and_an_administrators_is_refused() {
    let mut world = World::new(Mode::Autonomous);
    attacked_by(&mut world, 0);
    world.settle();
    assert_eq!(accounts(&world), []);
    let mut world = World::new(Mode::Autonomous);
    let shell = attacked_by(&mut world, OPS);
    world.find(shell, "foothold/sudoers", Confidence::High);
    world.settle();
    let found = accounts(&world);
    assert_eq!((found.len(), found[0].1, &found[0].2), (1, Decision::Deny, &None));
    assert!(found[0].3.starts_with("K8: the account of uid 1000 is spared"), "{}", found[0].3);
    let action = question(&world);
    world.input(Input::Command(Command::Approve { action }));
    world.settle();
    assert_eq!((accounts(&world)[0].1, &accounts(&world)[0].2), (Decision::Deny, &None), "a person approved it");
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn an_attack_that_came_in_without_an_account_locks_nobodys() {
    let mut world = World::new(Mode::Autonomous);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let request = world.request(server, [198, 51, 100, 7]);
    world.write(request, "/etc/cron.d/job");
    world.find(request, "foothold/cron", Confidence::High);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert_eq!(accounts(&world), []);
}

#[test]
fn an_account_stays_open_when_a_person_says_no_or_nobody_answers() {
    let mut world = World::new(Mode::Autonomous);
    attacked_by(&mut world, ALICE);
    world.settle();
    let action = question(&world);
    world.input(Input::Command(Command::Deny { action }));
    world.settle();
    assert_eq!((accounts(&world)[0].1, &accounts(&world)[0].2), (Decision::Deny, &None));
    assert_eq!(only(&world).stage, Stage::Healed);
    let mut world = World::new(Mode::Autonomous);
    attacked_by(&mut world, ALICE);
    world.settle();
    world.wait(ANSWER_NS / 1_000_000 + 1);
    world.settle();
    let found = accounts(&world);
    assert_eq!((found.len(), found[0].1, &found[0].2), (1, Decision::Deny, &None));
    assert!(found[0].3.contains("nobody answered"), "{}", found[0].3);
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn an_account_that_is_not_there_is_told_and_nobody_is_asked_again() {
    let mut world = World::new(Mode::Autonomous);
    attacked_by(&mut world, ALICE);
    world.settle();
    let action = question(&world);
    world.input(Input::Command(Command::Approve { action }));
    world.input(Input::Unprepared { action, why: "it has no line of `alice`".to_owned() });
    world.settle();
    let found = accounts(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(matches!(&found[0].2, Some(Outcome::Failed(why)) if why.contains("no line")), "{found:?}");
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn an_account_whose_file_was_busy_is_asked_about_again() {
    let mut world = World::new(Mode::Autonomous);
    attacked_by(&mut world, ALICE);
    world.settle();
    let action = question(&world);
    world.input(Input::Command(Command::Approve { action }));
    world.answer_one();
    world.input(Input::Outcome { action, outcome: Outcome::Reverted("somebody changes accounts".to_owned()) });
    let found = accounts(&world);
    let told: Vec<_> = found.iter().map(|account| (account.1, account.2.is_some())).collect();
    assert_eq!(told, [(Decision::Permit, true), (Decision::Ask, false)], "{found:?}");
    assert_ne!(question(&world), action);
}
