// SPDX-License-Identifier: Apache-2.0
//! What attack and others both wrote: logs, databases, and what nobody but a person can tell apart.

use super::*;
use crate::input::Side;

#[test]
fn what_a_daemon_added_to_a_log_between_two_cuts_is_part_of_what_is_put_back() {
    for by_one_process in [true, false] {
        let mut world = World::new(Mode::Autonomous);
        let log = "/var/log/auth.log";
        let base = world.add_unseen(log);
        let shell = world.login(ALICE, None);
        let cut = |world: &mut World| match by_one_process {
            true => world.write(shell, log),
            false => {
                let mut version = VersionId::UNKNOWN;
                world.run(shell, &["/usr/bin/sed"], |world, sed| version = world.write(sed, log));
                version
            }
        };
        let first = cut(&mut world);
        let between = world.add_unseen(log);
        let second = cut(&mut world);
        world.find(shell, "foothold/cron", Confidence::High);
        world.settle();
        let restored = restoration(&only(&world));
        let whose: Vec<(VersionId, bool)> = restored.later.iter().map(|one| (one.version, one.attack)).collect();
        assert_eq!((restored.base, whose), (base, vec![(first, true), (between, false), (second, true)]));
    }
}

#[test]
fn a_history_that_only_the_attack_wrote_is_as_it_was_and_one_that_others_wrote_keeps_theirs() {
    let history = "/home/alice/.bash_history";
    for by_others in [false, true] {
        let append_only = vec!["/home/*/.bash_history".to_owned()];
        let mut world = World::with(Engine::new(), Configuration { append_only, ..configuration(Mode::Autonomous) });
        let (alice, shell) = (world.login(ALICE, None), world.login(ALICE, None));
        let base = world.write(alice, history);
        world.write(shell, history);
        if by_others {
            world.write(alice, history);
        }
        world.find(shell, "foothold/cron", Confidence::High);
        world.settle();
        let restored = restoration(&only(&world));
        assert_eq!((restored.base, restored.append_only), (base, by_others));
    }
}

#[test]
fn of_what_cannot_be_told_apart_a_person_sees_the_versions_and_may_want_the_one_from_before() {
    let mut world = World::new(Mode::Autonomous);
    let (admin, shell) = (world.login(OPS, None), world.login(ALICE, None));
    let path = "/etc/app.conf";
    let base = world.write(admin, path);
    let bad = world.write(shell, path);
    let good = world.write(admin, path);
    world.facts.insert(HostPath::from(path), (Expected::Yes, Merge::Conflict("the same line".into())));
    world.find(shell, "foothold/x", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert!(
        incident.objects[0].shown.as_ref().is_some_and(|why| why.contains("the same line")),
        "{:?}",
        incident.objects
    );
    let aside = world.effects.iter().find_map(|effect| match effect {
        Effect::Aside { versions, .. } => Some(versions.clone()),
        _ => None,
    });
    assert_eq!(aside.unwrap(), [(Side::Before, base), (Side::Attack, bad), (Side::Others, good)]);
    let asked = incident.actions.iter().find(|record| record.answer_by.is_some()).unwrap().id;

    // A yes alone does not say what is wanted.
    world.facts.insert(HostPath::from(path), (Expected::Yes, Merge::Conflict("the same line".into())));
    world.input(Input::Command(Command::Approve { action: asked }));
    world.settle();
    assert!(!restoration(&only(&world)).whole);
    assert_eq!(only(&world).stage, Stage::Stuck);
    world.input(Input::Command(Command::ApproveBefore { action: asked }));
    world.settle();
    let incident = only(&world);
    assert!(restoration(&incident).whole);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    // What others had in it is theirs to bring back.
    world.bring_back(admin, path);
    world.settle();
    assert!(!world.orders_given().iter().any(|order| order.starts_with("compare")), "{:?}", world.orders_given());
}

#[test]
fn a_database_is_put_back_as_a_whole_or_shown_as_a_whole() {
    let (database, wal) = ("/var/lib/app/app.db", "/var/lib/app/app.db-wal");
    for written_by_others in [None, Some(wal), Some(database)] {
        let mut world = World::new(Mode::Autonomous);
        world.add_unseen(database);
        world.add_unseen(wal);
        let (other, shell) = (world.login(OPS, None), world.login(ALICE, None));
        world.write(other, wal);
        world.write(shell, database);
        world.write(shell, wal);
        if let Some(path) = written_by_others {
            world.write(other, path);
            world.facts.insert(HostPath::from(path), (Expected::Yes, Merge::Conflict("not text".to_owned())));
        }
        world.find(shell, "foothold/x", Confidence::High);
        world.settle();
        let orders = world.orders_given();
        let restored = [database, wal].map(|path| orders.contains(&format!("restore {path}")));
        assert_eq!(restored, [written_by_others.is_none(); 2], "{orders:?}");
        let (why, aside) = (only(&world).why, orders.contains(&format!("aside {database}")));
        assert!(written_by_others.is_none() || aside && why.contains("a database is put back as a whole"), "{why}");
    }
}

#[test]
fn a_file_of_a_database_server_that_still_writes_is_shown_to_a_person() {
    let table = "/var/lib/mysql/shop/goods.ibd";
    for at_work in [true, false] {
        let mut world = World::new(Mode::Autonomous);
        let server = world.there(world.init, "/usr/sbin/mariadbd", Some("mariadb.service"));
        world.begin_write(server, "/var/lib/mysql/ibdata1");
        if !at_work {
            world.exit(server);
        }
        let shell = world.login(ALICE, None);
        world.add_unseen(table);
        world.write(shell, table);
        world.find(shell, "foothold/x", Confidence::High);
        world.settle();
        assert_eq!(world.orders_given().contains(&format!("restore {table}")), !at_work, "{:?}", world.orders_given());
        let why = only(&world).why;
        assert_eq!(why.contains("`/usr/sbin/mariadbd` writes to the same database"), at_work, "{why}");
    }
}

#[test]
fn a_log_that_was_replaced_is_mended_once_its_daemons_have_opened_it_anew() {
    let mut world = World::new(Mode::Autonomous);
    let log = "/var/log/auth.log";
    world.add_unseen(log);
    // They are said to hold the old one for ever: they are told once all the same.
    world.holders.insert(HostPath::from(log), vec!["rsyslog.service".to_owned()]);
    let shell = world.login(ALICE, None);
    world.write(shell, log);
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let orders = world.orders_given();
    let place = |order: &str| orders.iter().rposition(|given| given == order);
    let (reload, mend) = (place("reload rsyslog.service"), place(&format!("restore {log}")));
    assert!(reload.is_some() && reload < mend, "{orders:?}");
    assert_eq!(orders.iter().filter(|order| order.starts_with("reload")).count(), 1, "{orders:?}");
    let incident = only(&world);
    assert_eq!(incident.stage, Stage::Healed, "{}", incident.why);
    let mended = |record: &&ActionRecord| {
        matches!(record.action, Action::RestoreFile(_)) && record.outcome == Some(Outcome::Success)
    };
    assert_eq!(incident.actions.iter().filter(mended).count(), 1, "{:?}", incident.actions);
}

#[test]
fn who_is_forgotten_among_a_database_servers_writers_may_be_at_work_still() {
    let table = "/var/lib/mysql/shop/goods.ibd";
    for (server_runs, forked_before) in [(true, 0), (false, 40), (false, 0)] {
        let mut world = World::new(Mode::Autonomous);
        let server = world.there(world.init, "/usr/sbin/mariadbd", Some("mariadb.service"));
        world.begin_write(server, "/var/lib/mysql/ibdata1");
        if !server_runs {
            world.exit(server);
        }
        let shell = world.login(ALICE, None);
        world.add_unseen(table);
        for _ in 0..forked_before {
            world.run(shell, &["/usr/bin/tee"], |world, tee| world.begin_write(tee, "/var/lib/mysql/x"));
        }
        world.write(shell, table);
        for _ in 0..40 - forked_before {
            world.run(shell, &["/usr/bin/tee"], |world, tee| world.begin_write(tee, "/var/lib/mysql/x"));
        }
        world.find(shell, "foothold/x", Confidence::High);
        world.settle();
        // Forgotten before the attack wrote the table, by what it did itself: that was nobody's work since.
        let restored = world.orders_given().contains(&format!("restore {table}"));
        assert_eq!(restored, !server_runs && forked_before > 0, "{server_runs} {forked_before}: {}", only(&world).why);
        assert!(world.engine.view().counters["graph_database_writers_forgotten"] > 0);
    }
}

#[test]
fn a_unit_that_the_manager_takes_in_is_the_work_of_whoever_wrote_it() {
    let link = "/etc/systemd/system/evil.service";
    for (written_by, target, theirs) in
        [(ALICE, "/tmp/evil.service", true), (OPS, "/srv/evil.service", false), (ALICE, "/tmp/another.service", false)]
    {
        let mut world = World::new(Mode::Autonomous);
        let (shell, other) = (world.login(ALICE, None), world.login(OPS, None));
        world.write_unprotected(if written_by == ALICE { shell } else { other }, target);
        let manager = world.init;
        world.link_to(manager, link, target);
        world.find(shell, "foothold/cron", Confidence::High);
        world.write(shell, "/etc/cron.d/job");
        world.settle();
        let orders = world.orders_given();
        assert_eq!(orders.iter().any(|order| order.ends_with(link)), theirs, "{target}: {orders:?}");
    }
}
