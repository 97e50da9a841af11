// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

mod account;
mod contents;
mod held_off;
mod isolate;
mod shown;
mod storm;
mod worse;

use super::world::{ALICE, OPS, World, configuration};
use super::*;
use crate::action::{Action, Authored, Expected, Extent, Merge, Outcome, RestoreFile};
use crate::event::{FileKind, Origin, Traffic};
use crate::id::VersionId;
use crate::incident::{ActionRecord, Decision, Incident, ObjectClass};
use crate::input::Mode;
use crate::path::HostPath;

/// A whole intrusion by ssh; its shell still lives at the end.
fn persistence(world: &mut World) -> ProcessKey {
    let shell = world.login(ALICE, None);
    world.run(shell, &["/usr/bin/tee"], |world, tee| {
        world.write(tee, "/etc/sudoers.d/x");
    });
    world.find(shell, "foothold/sudoers", Confidence::Medium);
    let root = world.fork(shell);
    world.exec(root, &["/usr/bin/sudo", "bash"]);
    world.run(root, &["/usr/bin/tee"], |world, tee| {
        world.write(tee, "/root/.ssh/authorized_keys");
        world.write(tee, "/etc/cron.d/job");
        world.write(tee, "/etc/systemd/system/evil.service");
        world.write(tee, "/etc/systemd/system/evil.timer");
        world.create(tee, "/etc/systemd/system/timers.target.wants/evil.timer", FileKind::Symlink);
        world.write(tee, "/etc/ld.so.preload");
        world.write(tee, "/usr/local/bin/tool");
        world.write(tee, "/etc/ssh/sshd_config");
        world.write(tee, "/var/www/index.html");
        world.create(tee, "/usr/local/lib/.hidden", FileKind::Directory);
        world.write(tee, "/usr/local/lib/.hidden/kit");
        world.write_unprotected(tee, "/tmp/stage");
        world.write(tee, "/etc/scratch");
        world.remove(tee, "/etc/scratch");
    });
    world.run(root, &["/usr/sbin/useradd"], |world, useradd| {
        world.write(useradd, "/etc/passwd+");
        world.rename(useradd, "/etc/passwd+", "/etc/passwd");
    });
    world.run(root, &["/usr/bin/sed"], |world, sed| {
        world.write(sed, "/var/log/auth.log");
    });
    world.find(root, "foothold/cron", Confidence::Medium);
    root
}

fn only(world: &World) -> Incident {
    let mut confirmed: Vec<Incident> = world.incidents().into_iter().filter(|incident| incident.confirmed).collect();
    assert_eq!(confirmed.len(), 1, "{confirmed:#?}");
    confirmed.remove(0)
}

/// The last that it planned.
fn restoration(incident: &Incident) -> RestoreFile {
    let mut restorations = incident.actions.iter().filter_map(|record| match &record.action {
        Action::RestoreFile(restore) => Some(restore.clone()),
        _ => None,
    });
    restorations.next_back().unwrap()
}

#[test]
fn an_intrusion_is_stopped_undone_in_order_and_proven() {
    let mut world = World::new(Mode::Autonomous);
    persistence(&mut world);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let orders = world.orders_given();
    let expected = [
        "quarantine /etc/ld.so.preload",
        "quarantine /etc/systemd/system/timers.target.wants/evil.timer",
        "quarantine /usr/local/lib/.hidden/kit",
        "quarantine /etc/systemd/system/evil.service",
        "quarantine /etc/systemd/system/evil.timer",
        "quarantine /usr/local/bin/tool",
        "quarantine /etc/cron.d/job",
        "quarantine /etc/sudoers.d/x",
        "quarantine /root/.ssh/authorized_keys",
        "restore /etc/passwd",
        "restore /etc/ssh/sshd_config",
        "restore /var/log/auth.log",
        "restore /var/www/index.html",
        "quarantine /usr/local/lib/.hidden",
        "remove evil.timer",
        "remove evil.service",
        "reload ssh.service",
        "end session 3",
        "ask lock_account",
        "verify",
    ];
    let after_the_stops: Vec<&String> = orders.iter().skip_while(|order| order.starts_with("reflex")).collect();
    assert_eq!(after_the_stops, expected);
    assert!(orders[0].starts_with("reflex"));
    assert_eq!(incident.roots[0].kind, InvocationKind::Session);
    assert!(incident.roots[0].title.contains("uid 1001") && incident.roots[0].title.contains("127.0.0.2"));
    let class = |path: &str| {
        incident.objects.iter().find(|object| object.path == HostPath::from(path)).map(|object| object.class)
    };
    assert_eq!(class("/tmp/stage"), Some(ObjectClass::Unprotected));
    assert_eq!(class("/var/log/auth.log"), Some(ObjectClass::Log));
    assert_eq!(class("/etc/passwd"), Some(ObjectClass::AttackOnly));
    assert_eq!(class("/etc/scratch"), None, "made and taken away again");
    assert_eq!(class("/etc/passwd+"), None, "a temporary name");
    assert!(incident.subjects.iter().all(|subject| !subject.alive && !subject.reason.is_empty()));
    assert!(incident.contained <= incident.restored && incident.restored <= incident.healed);
}

#[test]
fn the_administrator_doing_the_same_is_left_alone() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(OPS, None);
    for path in ["/etc/sudoers.d/x", "/etc/cron.d/job", "/etc/systemd/system/own.service", "/etc/ld.so.preload"] {
        world.run(shell, &["/usr/bin/tee"], |world, tee| {
            world.write(tee, path);
            world.find(tee, path, Confidence::Medium);
        });
    }
    world.settle();
    assert_eq!(world.orders_given(), Vec::<String>::new());
    assert!(world.incidents().iter().all(|incident| !incident.confirmed));
}

#[test]
fn one_medium_finding_or_many_of_one_analytic_do_not_confirm() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.find(shell, "foothold/cron", Confidence::Low);
    world.find(shell, "foothold/cron", Confidence::Medium);
    world.find(shell, "foothold/cron", Confidence::Medium);
    world.settle();
    assert!(world.orders_given().is_empty());
    world.find(shell, "foothold/key", Confidence::Medium);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed);
}

#[test]
fn what_weighs_more_is_heard_however_often_something_else_was_said() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    for _ in 0..2 * crate::diagnose::FINDINGS_MAX {
        world.find(shell, "impact/web-content", Confidence::Medium);
    }
    world.settle();
    assert!(world.orders_given().is_empty());
    world.find(shell, "impact/encryption", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!((incident.stage, incident.findings.len()), (Stage::Healed, crate::diagnose::FINDINGS_MAX));
}

#[test]
fn what_the_attack_planted_joins_its_reach_when_it_runs() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let line = world.write(shell, "/etc/cron.d/job");
    world.write(shell, "/etc/systemd/system/evil.service");
    let key = world.write(shell, "/root/.ssh/authorized_keys");
    world.write(shell, "/usr/local/bin/tool");
    world.exit(shell);
    world.find(shell, "foothold/cron", Confidence::High);
    // Before it is settled: a cron run, a unit, a login and an administrator who runs the planted tool.
    let cron = world.fork(world.cron);
    let origin = Origin { path: HostPath::from("/etc/cron.d/job"), version: line };
    world.exec_of(cron, &["/usr/bin/sh", "-c", "x"], Some(origin), None);
    let unit = world.fork(world.init);
    world.exec_of(unit, &["/usr/bin/sleep", "9"], None, Some("evil.service"));
    let origin = Origin { path: HostPath::from("/root/.ssh/authorized_keys"), version: key };
    let intruder = world.login(0, Some(origin));
    let admin = world.login(OPS, None);
    let tool = world.fork(admin);
    world.exec(tool, &["/usr/local/bin/tool"]);
    let child = world.fork(tool);
    let script = world.fork(admin);
    world.exec(script, &["/usr/bin/bash", "/usr/local/bin/tool"]);
    world.write(intruder, "/etc/later");
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let reason = |key: ProcessKey| {
        incident.subjects.iter().find(|subject| subject.process == key).map(|subject| subject.reason.clone())
    };
    assert!(reason(cron).unwrap().contains("/etc/cron.d/job"));
    assert!(reason(unit).unwrap().contains("/etc/systemd/system/evil.service"));
    assert!(reason(intruder).is_some());
    assert!(reason(tool).unwrap().contains("ran `/usr/local/bin/tool`"));
    assert!(reason(child).unwrap().contains("child of"));
    assert!(reason(script).unwrap().contains("ran `/usr/local/bin/tool`"));
    assert_eq!(reason(admin), None, "the administrator's own shell is no subject");
    assert!(world.orders_given().contains(&"quarantine /etc/later".to_owned()));
}

#[test]
fn what_ran_before_the_verdict_is_found_in_the_past() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let line = world.write(shell, "/etc/cron.d/job");
    let cron = world.fork(world.cron);
    let origin = Origin { path: HostPath::from("/etc/cron.d/job"), version: line };
    world.exec_of(cron, &["/usr/bin/sh", "-c", "x"], Some(origin), None);
    world.run(cron, &["/usr/bin/tee"], |world, tee| {
        world.write(tee, "/usr/local/bin/second");
    });
    world.exit(cron);
    let bystander = world.fork(world.cron);
    world.exec(bystander, &["/usr/bin/sh", "-c", "y"]);
    let second = world.fork(bystander);
    world.exec(second, &["/usr/local/bin/second"]);
    world.write(second, "/etc/third");
    world.exit(shell);
    world.find(second, "foothold/third", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    assert_eq!(incident.roots[0].kind, InvocationKind::Session, "{:#?}", incident.roots);
    let orders = world.orders_given();
    for path in ["/etc/cron.d/job", "/usr/local/bin/second", "/etc/third"] {
        assert!(orders.contains(&format!("quarantine {path}")), "{orders:#?}");
    }
    assert!(!incident.subjects.iter().any(|subject| subject.process == bystander));
}

#[test]
fn lines_of_others_are_told_from_the_attacks() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    let first = world.write(admin, "/etc/app.conf");
    let bad = world.write(shell, "/etc/app.conf");
    let good = world.write(admin, "/etc/app.conf");
    let own = world.write(admin, "/etc/own.conf");
    world.facts.insert(HostPath::from("/etc/app.conf"), (Expected::Yes, Merge::Disjoint { kept: 1, removed: 1 }));
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let restore = restoration(&incident);
    assert_eq!(restore.base, first);
    let expected = [Authored { version: bad, attack: true }, Authored { version: good, attack: false }];
    assert_eq!(restore.later, expected);
    assert!(incident.objects.iter().any(|object| object.class == ObjectClass::Mixed));
    assert!(own > good && !world.orders_given().iter().any(|order| order.contains("own.conf")));
}

#[test]
fn a_conflict_is_shown_and_the_rest_goes_on() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    world.write(shell, "/etc/app.conf");
    world.write(admin, "/etc/app.conf");
    world.write(shell, "/etc/cron.d/job");
    world.facts.insert(HostPath::from("/etc/app.conf"), (Expected::Yes, Merge::Conflict("the same line".into())));
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Stuck);
    assert!(incident.why.contains("wait for a person") || incident.why.contains("was not done"), "{}", incident.why);
    assert!(world.orders_given().contains(&"quarantine /etc/cron.d/job".to_owned()));
    assert!(incident.subjects.iter().all(|subject| !subject.alive));
}

#[test]
fn what_changed_under_our_hands_is_planned_again() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    let bad = world.write(shell, "/etc/app.conf");
    world.facts.insert(HostPath::from("/etc/app.conf"), (Expected::Changed("a newer version".into()), Merge::Exact));
    world.find(shell, "foothold/x", Confidence::High);
    world.answer_all();
    let good = world.write(admin, "/etc/app.conf");
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let expected = [Authored { version: bad, attack: true }, Authored { version: good, attack: false }];
    assert_eq!(restoration(&incident).later, expected);
}

#[test]
fn what_changes_over_and_over_during_a_hold_is_healed_after_it() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    world.write(admin, "/etc/group");
    let until = Timestamp(u64::MAX);
    world.input(Input::Command(Command::Hold { until, why: "work".into() }));
    world.write(shell, "/etc/group");
    world.find(shell, "foothold/x", Confidence::High);
    for _ in 0..10 {
        world.settle();
        world.write(shell, "/etc/group");
    }
    world.settle();
    assert!(only(&world).stage != Stage::Healed);
    world.input(Input::Command(Command::Release));
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    assert!(world.orders_given().contains(&"restore /etc/group".to_owned()), "{:?}", world.orders_given());
}

#[test]
fn observing_proposes_everything_and_does_nothing() {
    let mut world = World::new(Mode::Observe);
    persistence(&mut world);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Open);
    assert!(incident.why.contains("wait for a person, for the mode is observe"), "{}", incident.why);
    let orders = world.orders_given();
    assert!(orders.iter().all(|order| order.starts_with("ask ")), "{orders:#?}");
    assert!(orders.contains(&"ask remove_unit".to_owned()) && orders.contains(&"ask end_session".to_owned()));
    assert!(incident.actions.iter().all(|record| record.verdict.decision == Decision::Ask));
    // A person approves everything, one by one: the same end.
    for record in incident.actions {
        world.input(Input::Command(Command::Approve { action: record.id }));
        world.answer_all();
    }
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn a_mode_that_permits_more_begins_what_waited() {
    let mut world = World::new(Mode::Observe);
    persistence(&mut world);
    world.settle();
    world.input(Input::Command(Command::Mode(Mode::Autonomous)));
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn a_hold_stops_all_actions_until_it_is_released() {
    let mut world = World::new(Mode::Autonomous);
    world.input(Input::Command(Command::Hold { until: Timestamp(u64::MAX), why: "maintenance".into() }));
    persistence(&mut world);
    world.settle();
    assert!(world.orders_given().is_empty(), "{:#?}", world.orders_given());
    assert!(only(&world).why.contains("maintenance"), "{}", only(&world).why);
    world.input(Input::Command(Command::Release));
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn a_false_alarm_ends_the_incident_and_takes_questions_back() {
    let mut world = World::new(Mode::Observe);
    persistence(&mut world);
    world.settle();
    let incident = only(&world).id;
    world.input(Input::Command(Command::Judge { incident, true_positive: false }));
    world.input(Input::Command(Command::Mode(Mode::Autonomous)));
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Stuck);
    assert!(incident.why.contains("false alarm"));
    assert!(world.orders_given().iter().all(|order| order.starts_with("ask ")));
    assert!(world.effects.iter().any(|effect| matches!(effect, Effect::Drop { .. })));
}

#[test]
fn a_healed_incident_opens_again_when_more_of_it_shows() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.write(shell, "/usr/local/bin/tool");
    let sleeper = world.fork(shell);
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed);
    // A write of the dead that was reported late.
    world.write(sleeper, "/etc/late");
    assert_eq!(only(&world).stage, Stage::Contained);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert!(world.orders_given().contains(&"quarantine /etc/late".to_owned()));
}

/// An incident about `/etc/app.conf` that is healed; an administrator was logged in all the time.
fn healed_while_an_administrator_looks_on() -> (World, ProcessKey) {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    world.write(shell, "/etc/app.conf");
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    (world, admin)
}

fn restorations(world: &World) -> Vec<RestoreFile> {
    let done = |record: &crate::incident::ActionRecord| match &record.action {
        Action::RestoreFile(restore) if record.outcome == Some(Outcome::Success) => Some(restore.clone()),
        _ => None,
    };
    only(world).actions.iter().filter_map(done).collect()
}

#[test]
fn what_a_stale_editor_brings_back_is_taken_out_again() {
    let (mut world, admin) = healed_while_an_administrator_looks_on();
    let healed = only(&world).healed;
    let mut saved = VersionId::UNKNOWN;
    world.run(admin, &["/usr/bin/cp", "/tmp/mine", "/etc/app.conf"], |world, cp| {
        saved = world.bring_back(cp, "/etc/app.conf");
    });
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert!(only(&world).healed > healed, "it was proven again");
    let [first, second] = restorations(&world).try_into().unwrap();
    assert!(!first.again && second.again);
    assert_eq!(second.base, first.base);
    let mut chain = first.later;
    chain.push(Authored { version: saved, attack: false });
    assert_eq!(second.later, chain);
    let proof = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::Verify { what, .. } => Some(what.clone()),
        _ => None,
    });
    assert!(proof.unwrap().again.is_empty(), "the path is ours again");
}

#[test]
fn what_others_write_on_a_restored_path_is_compared_and_left_alone() {
    let (mut world, admin) = healed_while_an_administrator_looks_on();
    let (healed, told) = (only(&world).healed, world.orders_given().len());
    let steps = |world: &World| world.effects.iter().filter(|effect| matches!(effect, Effect::Incident(_))).count();
    let before = steps(&world);
    for _ in 0..20 {
        world.run(admin, &["/usr/bin/sed"], |world, sed| {
            world.write(sed, "/etc/app.conf");
        });
        world.settle();
    }
    assert_eq!((only(&world).stage, only(&world).healed, steps(&world)), (Stage::Healed, healed, before));
    let orders = world.orders_given().split_off(told);
    assert_eq!(orders, vec!["compare /etc/app.conf"; 20]);
    assert_eq!(restorations(&world).len(), 1);
    assert_eq!(only(&world).actions.iter().filter(|record| matches!(record.action, Action::RestoreFile(_))).count(), 1);
}

#[test]
fn while_an_incident_is_open_what_others_wrote_since_is_part_of_its_proof() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    world.write(shell, "/etc/app.conf");
    world.find(shell, "foothold/x", Confidence::High);
    // As soon as the file is restored, before anything is proven.
    while restorations(&world).is_empty() {
        world.answer_one();
    }
    let saved = world.write(admin, "/etc/app.conf");
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    let orders = world.orders_given();
    let at = |order: &str| orders.iter().position(|given| given == order).unwrap();
    assert!(at("compare /etc/app.conf") < at("verify"), "{orders:#?}");
    let proof = world.effects.iter().find_map(|effect| match effect {
        Effect::Verify { what, .. } => Some(what.clone()),
        _ => None,
    });
    let proof = proof.unwrap();
    assert_eq!(proof.again.len(), 1);
    assert_eq!(proof.again[0].later.last(), Some(&Authored { version: saved, attack: false }));
    let restored = only(&world).actions.iter().find(|record| record.action.path().is_some()).unwrap().id;
    assert!(!proof.actions.contains(&restored), "it is not as our action wanted it, and need not be");
}

#[test]
fn who_came_after_the_restoration_and_writes_the_same_lines_is_shown_not_undone() {
    let (mut world, _) = healed_while_an_administrator_looks_on();
    let later = world.login(OPS, None);
    world.run(later, &["/usr/bin/tee"], |world, tee| {
        world.bring_back(tee, "/etc/app.conf");
    });
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Stuck);
    assert!(incident.why.contains("1 actions wait for a person"), "{}", incident.why);
    assert_eq!(restorations(&world).len(), 1);
    assert_eq!(world.orders_given().last().unwrap(), "ask restore_file");
    // A person wants it so: it is over.
    world.input(Input::Command(Command::BaselineAccepted { paths: vec![HostPath::from("/etc/app.conf")] }));
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert_eq!(restorations(&world).len(), 1);
}

#[test]
fn a_person_may_approve_what_only_a_person_can_decide() {
    let (mut world, _) = healed_while_an_administrator_looks_on();
    let later = world.login(OPS, None);
    world.bring_back(later, "/etc/app.conf");
    world.settle();
    let action = only(&world).actions.last().unwrap().id;
    world.input(Input::Command(Command::Approve { action }));
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert_eq!(restorations(&world).len(), 2);
}

#[test]
fn a_question_about_lines_that_came_back_ends_when_they_are_gone() {
    let (mut world, _) = healed_while_an_administrator_looks_on();
    let later = world.login(OPS, None);
    world.bring_back(later, "/etc/app.conf");
    world.settle();
    assert_eq!(only(&world).stage, Stage::Stuck);
    world.write(later, "/etc/app.conf");
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
}

#[test]
fn lines_that_come_back_again_and_again_are_shown_in_the_end() {
    let (mut world, admin) = healed_while_an_administrator_looks_on();
    for round in 1..10 {
        world.run(admin, &["/usr/bin/cp"], |world, cp| {
            world.bring_back(cp, "/etc/app.conf");
        });
        world.settle();
        let returns = crate::decide::RETURNS_MAX as usize;
        assert_eq!(restorations(&world).len(), 1 + round.min(returns));
        assert_eq!(only(&world).stage == Stage::Stuck, round > returns, "{round}: {}", only(&world).why);
    }
}

#[test]
fn in_a_change_window_lines_that_come_back_are_shown() {
    let (mut world, admin) = healed_while_an_administrator_looks_on();
    let window = Command::ChangeBegin { until: Timestamp(u64::MAX), who: "ops".into(), why: "work".into() };
    world.input(Input::Command(window));
    world.bring_back(admin, "/etc/app.conf");
    world.settle();
    assert_eq!((only(&world).stage, restorations(&world).len()), (Stage::Stuck, 1));
}

#[test]
fn an_evicted_file_that_somebody_saves_again_is_evicted_again() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    world.write(shell, "/etc/cron.d/job");
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    world.bring_back(admin, "/etc/cron.d/job");
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    let [again] = restorations(&world).try_into().unwrap();
    assert!(again.again && again.base == VersionId::UNKNOWN);
}

#[test]
fn a_crash_while_lines_come_back_reaches_the_same_end() {
    let run = |crash_at: Option<usize>| {
        let mut world = World::new(Mode::Autonomous);
        world.crash_at = crash_at;
        let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
        world.write(shell, "/etc/app.conf");
        world.find(shell, "foothold/x", Confidence::High);
        world.settle();
        world.bring_back(admin, "/etc/app.conf");
        world.settle();
        world
    };
    let whole = run(None);
    assert_eq!(restorations(&whole).len(), 2);
    let last = whole.inputs.iter().rposition(|(_, input)| !matches!(input, Input::Tick)).unwrap();
    for at in 1..=last {
        let crashed = run(Some(at));
        assert_eq!(end_state(&crashed), end_state(&whole), "crash before input {at}: {:?}", whole.inputs[at]);
    }
}

#[test]
fn a_file_held_open_by_a_subject_is_put_in_order_once_it_is_closed() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.begin_write(shell, "/etc/app.conf");
    world.find(shell, "foothold/x", Confidence::High);
    world.answer_all();
    world.tick();
    world.write(shell, "/etc/app.conf");
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    assert!(world.orders_given().contains(&"restore /etc/app.conf".to_owned()));
}

#[test]
fn a_written_file_without_any_recorded_version_is_shown() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.begin_write(shell, "/etc/app.conf");
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Stuck);
    assert!(incident.why.contains("/etc/app.conf"), "{}", incident.why);
}

#[test]
fn others_files_in_a_directory_of_the_attack_keep_it_there() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    world.create(shell, "/etc/new", FileKind::Directory);
    world.write(shell, "/etc/new/bad");
    world.write(admin, "/etc/new/good");
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let orders = world.orders_given();
    assert!(orders.contains(&"quarantine /etc/new/bad".to_owned()));
    assert!(!orders.contains(&"quarantine /etc/new".to_owned()), "{orders:#?}");
    assert_eq!(only(&world).stage, Stage::Stuck);
}

#[test]
fn stopped_processes_are_renewed_with_every_tick_until_they_are_gone() {
    let mut world = World::new(Mode::Guarded); // ending them asks a person
    let shell = world.login(ALICE, None);
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    assert_eq!(only(&world).stage, Stage::Stuck);
    let renewed = |world: &World| world.effects.iter().filter(|effect| matches!(effect, Effect::Renew { .. })).count();
    let before = renewed(&world);
    world.tick();
    assert_eq!(renewed(&world), before + 1);
    let asked =
        only(&world).actions.iter().find(|record| matches!(record.action, Action::EndSession { .. })).unwrap().id;
    world.input(Input::Command(Command::Approve { action: asked }));
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed, "{}", only(&world).why);
    let before = renewed(&world);
    world.tick();
    assert_eq!(renewed(&world), before);
}

/// What a person would compare: nothing that depends on how often something was tried.
fn end_state(world: &World) -> (Stage, Vec<(HostPath, ObjectClass)>, Vec<u32>) {
    let incident = only(world);
    assert_eq!(incident.stage, Stage::Healed, "{} {:#?}", incident.why, world.orders_given());
    (
        incident.stage,
        incident.objects.into_iter().map(|object| (object.path, object.class)).collect(),
        incident.subjects.into_iter().map(|subject| subject.process.pid).collect(),
    )
}

#[test]
fn a_crash_at_any_input_reaches_the_same_end() {
    let run = |crash_at: Option<usize>| {
        let mut world = World::new(Mode::Autonomous);
        world.crash_at = crash_at;
        persistence(&mut world);
        world.settle();
        world
    };
    let whole = run(None);
    let last = whole.inputs.iter().rposition(|(_, input)| !matches!(input, Input::Tick)).unwrap();
    for at in 1..=last {
        let crashed = run(Some(at));
        assert_eq!(end_state(&crashed), end_state(&whole), "crash before input {at}: {:?}", whole.inputs[at]);
    }
}

#[test]
fn the_same_inputs_give_the_same_effects_also_when_stored_in_between() {
    let mut world = World::new(Mode::Autonomous);
    persistence(&mut world);
    world.settle();
    let stored = postcard::to_stdvec(&world.engine).unwrap();
    for resume_every in [usize::MAX, 1, 7] {
        let mut engine = Engine::new();
        let mut effects = Vec::new();
        for (count, (now, input)) in world.inputs.iter().enumerate() {
            if count % resume_every == resume_every - 1 {
                let bytes = postcard::to_stdvec(&engine).unwrap();
                engine = postcard::from_bytes(&bytes).unwrap();
            }
            engine.step(*now, input.clone(), &mut effects);
        }
        assert_eq!(effects, world.effects, "stored every {resume_every} inputs");
        assert_eq!(postcard::to_stdvec(&engine).unwrap(), stored, "stored every {resume_every} inputs");
    }
}

#[test]
fn a_step_stays_within_its_work_however_much_there_is_to_do() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    for number in 0..3_000 {
        world.run(shell, &["/usr/bin/touch"], |world, touch| {
            world.write(touch, &format!("/etc/many/{number}"));
        });
    }
    let live: Vec<ProcessKey> = (0..600).map(|_| world.fork(shell)).collect();
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    assert!(world.work_max <= STEP_WORK_MAX, "{} units in one step", world.work_max);
    let restored: Vec<Action> = incident.actions.iter().map(|record| record.action.clone()).collect();
    assert_eq!(restored.iter().flat_map(Action::paths).count(), 3_000);
    let actions = restored.iter().filter(|action| action.paths().next().is_some()).count();
    assert!(actions < 3_000 / 200, "{actions} actions");
    assert_eq!(live.len(), 600);
}

#[test]
fn a_session_that_somebody_joins_while_it_is_ended_is_ended_as_a_whole() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.write(shell, "/home/alice/x");
    world.joining = 1;
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let ends = incident.actions.iter().filter(|record| record.action.name() == "end_session");
    let outcomes: Vec<Option<Outcome>> = ends.map(|record| record.outcome.clone()).collect();
    assert!(matches!(outcomes.as_slice(), [Some(Outcome::Reverted(_)), Some(Outcome::Success)]), "{outcomes:?}");
}

#[test]
fn files_of_a_crowd_that_do_not_fit_are_put_in_order_by_themselves() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let path = |number: usize| format!("/home/alice/{number}");
    for number in 0..500 {
        world.write(shell, &path(number));
    }
    let misfits = [3, 77, 300].map(|number| HostPath::from(path(number).as_str()));
    world.misfits.extend(misfits.iter().cloned());
    world.find(shell, "impact/encryption", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    for path in &misfits {
        let done = |record: &&ActionRecord| {
            record.action.paths().any(|other| other == path) && record.outcome == Some(Outcome::Success)
        };
        let by: Vec<&str> = incident.actions.iter().filter(done).map(|record| record.action.name()).collect();
        assert_eq!(by, ["quarantine_file"], "{path}");
    }
    let paths: BTreeSet<&HostPath> = incident.actions.iter().flat_map(|record| record.action.paths()).collect();
    assert_eq!(paths.len(), 500);
}

#[test]
fn what_an_ended_agent_left_of_a_crowd_is_put_in_order_together() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    for number in 0..2_000 {
        world.write(shell, &format!("/home/alice/{number}"));
    }
    world.cut_short = 4;
    world.find(shell, "impact/encryption", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let of_files = incident.actions.iter().filter(|record| record.action.paths().next().is_some());
    let sizes: Vec<usize> = of_files.map(|record| record.action.paths().count()).collect();
    assert!(sizes.len() <= 12, "{sizes:?}");
}

#[test]
fn a_directory_waits_for_what_is_in_it_however_often_that_is_begun_anew() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.create(shell, "/home/mallory", FileKind::Directory);
    world.create(shell, "/home/mallory/a", FileKind::Directory);
    for name in ["/home/mallory/.profile", "/home/mallory/a/b"] {
        world.write(shell, name);
        let changed = Expected::Changed("begun and put back".to_owned());
        world.facts.insert(HostPath::from(name), (changed, Merge::Exact));
    }
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let orders = world.orders_given();
    let last = |path: &str| orders.iter().rposition(|order| *order == format!("quarantine {path}")).unwrap();
    let first = |path: &str| orders.iter().position(|order| *order == format!("quarantine {path}")).unwrap();
    assert!(last("/home/mallory/a/b") < first("/home/mallory/a"), "{orders:?}");
    assert!(last("/home/mallory/.profile") < first("/home/mallory"), "{orders:?}");
    assert!(last("/home/mallory/a") < first("/home/mallory"), "{orders:?}");
}

#[test]
fn every_input_is_written_down_and_read_again_the_same() {
    let mut world = World::new(Mode::Autonomous);
    persistence(&mut world);
    let shell = world.login(ALICE, None);
    for number in 0..300 {
        world.write(shell, &format!("/home/alice/{number}"));
    }
    world.misfits.insert(HostPath::from("/home/alice/7"));
    world.find(shell, "impact/encryption", Confidence::High);
    world.settle();
    for (_, input) in &world.inputs {
        // As the journal writes it: a form that does not describe itself, so no field may be left away.
        let bytes = postcard::to_stdvec(input).unwrap();
        assert_eq!(&postcard::from_bytes::<Input>(&bytes).unwrap(), input);
    }
    assert!(
        world
            .inputs
            .iter()
            .any(|(_, input)| matches!(input, Input::Prepared { facts, .. } if !facts.left_out.is_empty()))
    );
}

#[test]
fn a_crowd_under_a_hold_is_judged_in_few_questions_and_healed_after_it() {
    let mut world = World::new(Mode::Autonomous);
    let until = Timestamp(u64::MAX);
    world.input(Input::Command(Command::Hold { until, why: "drill".into() }));
    let shell = world.login(ALICE, None);
    world.find(shell, "impact/encryption", Confidence::High);
    for number in 0..2_000 {
        world.write(shell, &format!("/home/alice/{number}"));
    }
    for _ in 0..20 {
        world.tick();
    }
    let asked = only(&world).actions.len();
    assert!(asked < crate::decide::CROWD_MIN + 20, "{asked} actions wait");
    world.input(Input::Command(Command::Release));
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let done = incident.actions.iter().filter(|record| record.outcome == Some(Outcome::Success));
    let paths: BTreeSet<&HostPath> = done.flat_map(|record| record.action.paths()).collect();
    assert_eq!(paths.len(), 2_000);
}

#[test]
fn processes_that_each_came_under_a_hold_are_ended_together_after_it() {
    let mut world = World::new(Mode::Autonomous);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let until = Timestamp(u64::MAX);
    world.input(Input::Command(Command::Hold { until, why: "drill".into() }));
    let mut last = world.request(server, [198, 51, 100, 7]);
    world.find(last, "foothold/web-shell", Confidence::High);
    for program in ["/usr/bin/sudo", "/usr/bin/find", "/usr/bin/dash", "/usr/bin/ssh"] {
        world.tick();
        last = world.fork(last);
        world.exec(last, &[program]);
    }
    world.tick();
    let waiting = only(&world).actions.iter().filter(|record| record.action.name() == "terminate_processes").count();
    assert!(waiting > 1, "{waiting} actions wait");
    world.input(Input::Command(Command::Release));
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
}

#[test]
fn a_policy_about_paths_is_asked_of_every_file_of_a_crowd() {
    let mut configuration = configuration(Mode::Autonomous);
    let text = r#"@id("hands-off") @reason("bob's files are bob's") forbid (principal, action, resource) when { context has path && context.path like "/home/bob/*" };"#;
    configuration.policies.push(("local.cedar".to_owned(), text.to_owned()));
    let mut world = World::with(Engine::new(), configuration);
    let shell = world.login(ALICE, None);
    for number in 0..200 {
        let owner = if number % 50 == 0 { "bob" } else { "alice" };
        world.write(shell, &format!("/home/{owner}/{number}"));
    }
    world.find(shell, "impact/encryption", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Stuck, "{}", incident.why);
    let done = incident.actions.iter().filter(|record| record.outcome == Some(Outcome::Success));
    let paths: Vec<&HostPath> = done.flat_map(|record| record.action.paths()).collect();
    assert_eq!(paths.len(), 196);
    assert!(paths.iter().all(|path| path.is_within(b"/home/alice")));
}

#[test]
fn processes_of_the_agent_are_nobodys_authors() {
    let mut configuration = configuration(Mode::Autonomous);
    let ours = ProcessKey { boot: crate::id::BootId(7), pid: 4_000, start_time: Timestamp(5) };
    configuration.never_touch = vec![ours];
    let mut world = World::with(Engine::new(), configuration);
    world.write(ours, "/etc/app.conf");
    assert_eq!(world.engine.graph().last_writer(&HostPath::from("/etc/app.conf")), None);
}

#[test]
fn incidents_that_meet_become_one() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let line = world.write(shell, "/etc/cron.d/job");
    let other = world.login(1_002, None);
    let tool = world.write(other, "/usr/local/bin/tool");
    let cron = world.fork(world.cron);
    let origin = Origin { path: HostPath::from("/etc/cron.d/job"), version: line };
    world.exec_of(cron, &["/usr/local/bin/tool"], Some(origin), None);
    assert!(tool > line);
    world.find(other, "foothold/tool", Confidence::Medium);
    world.find(shell, "foothold/cron", Confidence::Medium);
    assert_eq!(world.incidents().len(), 2);
    world.find(cron, "exec/planted", Confidence::High);
    world.settle();
    assert!(world.incidents().iter().any(|incident| incident.stage == Stage::Healed));
}

#[test]
fn an_incident_says_whom_its_processes_talked_to_and_how_much_was_sent() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let traffic = |sent| Traffic { sent, received: 10 };
    world.run(shell, &["/usr/bin/curl"], |world, curl| world.talk(curl, false, (9, 443), traffic(100)));
    world.run(shell, &["/usr/bin/curl"], |world, curl| {
        world.talk(curl, false, (9, 443), traffic(200));
        world.talk(curl, false, (7, 80), traffic(5_000));
    });
    world.talk(shell, true, (8, 4_444), traffic(1));
    let other = world.login(OPS, None);
    world.talk(other, false, (66, 443), traffic(1_000_000));
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let incident = only(&world);
    let seen: Vec<_> = incident
        .contacts
        .iter()
        .map(|peer| &peer.contact)
        .map(|one| (one.endpoint.ip.to_string(), one.endpoint.port, one.inbound, one.connections, one.traffic))
        .collect();
    let peer = |host, port, inbound, connections, sent, received| {
        (format!("192.0.2.{host}"), port, inbound, connections, Traffic { sent, received })
    };
    let expected = [peer(7, 80, false, 1, 5_000, 10), peer(9, 443, false, 2, 300, 20), peer(8, 4_444, true, 1, 1, 10)];
    assert_eq!(seen, expected);
    assert_eq!(incident.omitted, 0);
    for host in 0..u8::MAX {
        world.talk(shell, false, (host, 22), traffic(1));
    }
    let incident = only(&world);
    assert!(incident.contacts.len() < 16 && incident.omitted > 200, "{} {}", incident.contacts.len(), incident.omitted);
}

#[test]
fn an_incident_says_which_secrets_its_processes_read_and_when_first() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.run(shell, &["/usr/bin/tar"], |world, tar| {
        world.read(tar, "/etc/shadow");
        world.read(tar, "/etc/ssh/ssh_host_rsa_key");
    });
    world.run(shell, &["/usr/bin/cat"], |world, cat| world.read(cat, "/etc/shadow"));
    let other = world.login(OPS, None);
    world.read(other, "/root/.ssh/id_rsa");
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let incident = only(&world);
    let paths: Vec<String> = incident.secrets.iter().map(|secret| secret.path.to_string()).collect();
    assert_eq!(paths, ["/etc/shadow", "/etc/ssh/ssh_host_rsa_key"]);
    assert!(incident.secrets[0].time < incident.secrets[1].time, "the first time counts");
    assert!(incident.objects.iter().all(|object| object.path != HostPath::from("/etc/shadow")), "nothing was changed");
    assert_eq!(incident.omitted, 0);
    for number in 0..100 {
        world.read(shell, &format!("/srv/{number}.key"));
    }
    let incident = only(&world);
    assert!(incident.secrets.len() == 18 && incident.omitted == 84, "{} {}", incident.secrets.len(), incident.omitted);
}

#[test]
fn what_a_login_reads_to_let_somebody_in_is_no_secret_that_was_seen_unless_the_attack_changed_it() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    let sudo = |world: &mut World, key: &str| {
        world.run(shell, &["/usr/bin/sudo", "-l"], |world, sudo| world.read(sudo, key));
    };
    sudo(&mut world, "/etc/shadow");
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    assert_eq!(only(&world).secrets, []);
    world.run(shell, &["/usr/bin/tee"], |world, tee| {
        world.write(tee, "/usr/bin/sudo");
    });
    sudo(&mut world, "/etc/shadow");
    let secrets = only(&world).secrets;
    assert!(matches!(secrets.as_slice(), [one] if one.path == HostPath::from("/etc/shadow")), "{secrets:?}");
}

#[test]
fn a_program_of_the_attack_that_has_the_name_of_one_that_lets_people_in_hides_no_secret() {
    for program in ["/tmp/sudo", "/usr/lib/x/sudo"] {
        let mut world = World::new(Mode::Autonomous);
        let shell = world.login(ALICE, None);
        world.write(shell, program);
        world.run(shell, &[program], |world, reader| world.read(reader, "/etc/shadow"));
        world.remove(shell, program);
        world.find(shell, "foothold/cron", Confidence::High);
        world.settle();
        let incident = only(&world);
        assert!(incident.objects.is_empty() && incident.secrets.len() == 1, "{program}: {:?}", incident.secrets);
    }
}

#[test]
fn what_the_attack_took_away_outside_of_protected_trees_is_named_also_when_it_was_seen_to_come() {
    let mut world = World::new(Mode::Autonomous);
    let other = world.login(OPS, None);
    world.write_unprotected(other, "/tmp/work");
    let shell = world.login(ALICE, None);
    world.remove_unprotected(shell, "/tmp/work");
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let objects = only(&world).objects;
    assert!(matches!(objects.as_slice(), [one] if one.path == HostPath::from("/tmp/work")), "{objects:?}");
}

#[test]
fn what_came_and_went_outside_of_protected_trees_is_nothing_that_needs_somebody() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.run(shell, &["/usr/bin/tee"], |world, tee| {
        world.write_unprotected(tee, "/tmp/gone");
        world.write_unprotected(tee, "/tmp/stage");
    });
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let named = |world: &World| {
        let objects = only(world).objects;
        objects.iter().map(|object| object.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(named(&world), ["/tmp/gone", "/tmp/stage"]);
    world.run(shell, &["/usr/bin/rm"], |world, rm| world.remove_unprotected(rm, "/tmp/gone"));
    world.settle();
    assert_eq!(named(&world), ["/tmp/stage"]);
}

#[test]
fn what_the_attack_left_as_it_had_found_it_is_not_named_until_it_comes_again() {
    let mut world = World::new(Mode::Autonomous);
    let other = world.login(OPS, None);
    world.write(other, "/etc/lock");
    let shell = world.login(ALICE, None);
    let write = |world: &mut World| {
        world.run(shell, &["/usr/bin/tee"], |world, tee| {
            world.write(tee, "/etc/lock");
        })
    };
    write(&mut world);
    world.facts.insert(HostPath::from("/etc/lock"), (Expected::AlreadyDone, Merge::Exact));
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    assert_eq!(only(&world).objects, []);
    assert!(!only(&world).actions.iter().any(|record| record.action.path().is_some()), "nothing was done about it");
    assert_eq!(only(&world).stage, Stage::Healed);
    write(&mut world);
    world.settle();
    let restored = |record: &&ActionRecord| record.action.path() == Some(&HostPath::from("/etc/lock"));
    assert_eq!(only(&world).actions.iter().filter(restored).count(), 1);
    assert_eq!(only(&world).objects.len(), 1);
}

#[test]
fn where_stopping_may_hurt_files_are_put_back_and_every_stop_is_asked_for() {
    let policies = crate::guard::Policies::built_in("ot").unwrap();
    let mut world = World::with(Engine::new(), Configuration { policies, ..configuration(Mode::Autonomous) });
    persistence(&mut world);
    world.settle();
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Stuck, "{}", incident.why);
    assert!(incident.why.contains("wait for a person"), "{}", incident.why);
    let orders = world.orders_given();
    assert!(
        orders.contains(&"quarantine /etc/cron.d/job".to_owned()) && orders.contains(&"restore /etc/passwd".to_owned())
    );
    let asked = ["ask suspend_processes", "ask end_session", "ask remove_unit", "ask reload_service"];
    assert!(asked.iter().all(|ask| orders.contains(&(*ask).to_owned())), "{orders:?}");
    let files = |order: &String| ["quarantine ", "restore ", "ask "].iter().any(|start| order.starts_with(start));
    assert!(orders.iter().all(files), "{orders:?}");
}
