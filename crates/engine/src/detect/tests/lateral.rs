// SPDX-License-Identifier: Apache-2.0
//! Keys that are read, and hosts that are called with them.
use super::*;
use crate::event::{Endpoint, NetworkActivity, NetworkActivityId};
use std::net::Ipv4Addr;

const BOB: u32 = 1002;
const BACKUP: u32 = 34;
const SITE: u32 = 33;
const CGI: u32 = 60;
const NEXT: u32 = 61;
const AS_ROOT: u32 = 62;
const TIMER: u32 = 63;
const CRON: u32 = 64;
const WORKER: u32 = 65;
const KEY: &str = "/var/backups/.ssh/id_ed25519";

/// Two requests to two workers of one server, a third with root's power, a service that backs up, and root's cron run.
fn world() -> World {
    let mut world = World::new();
    world.add(CGI, NGINX, "/usr/bin/ssh", (SITE, SITE), (InvocationKind::Request, None));
    world.add(NEXT, WORKER, "/usr/bin/dash", (SITE, SITE), (InvocationKind::Request, None));
    world.add(WORKER, NGINX, "/usr/sbin/nginx", (SITE, SITE), (InvocationKind::Unit("nginx.service".to_owned()), None));
    world.invocations.get_mut(&WORKER).unwrap().1 = NGINX;
    world.add(AS_ROOT, NGINX, "/usr/bin/ssh", (ROOT, ROOT), (InvocationKind::Request, None));
    let unit = InvocationKind::Unit("backup.service".to_owned());
    world.add(TIMER, 1, "/usr/bin/ssh", (BACKUP, BACKUP), (unit, None));
    world.add(CRON, 1, "/usr/bin/ssh", (ROOT, ROOT), (InvocationKind::Cron, Some(ROOT)));
    for pid in [INTRUDER, USER, ADMIN, UNIT] {
        world.run(pid, "/usr/bin/ssh");
    }
    world
}

fn reads(pid: u32, path: &str, owner: u32, group: u32) -> Activity {
    let mode = Some(FileMode { bits: 0o640, uid: owner, gid: group });
    Activity::File(FileActivity { mode, ..on_file(FileActivityId::Read, pid, path, owner) })
}

fn calls(pid: u32, port: u16) -> Activity {
    let at = |host, port| Endpoint { ip: Ipv4Addr::new(192, 0, 2, host).into(), port };
    Activity::Network(NetworkActivity {
        activity: NetworkActivityId::Open,
        actor: key(pid),
        inbound: false,
        local: at(1, 40_000),
        remote: Some(at(9, port)),
        traffic: None,
        before: false,
    })
}

fn moves(confidence: Confidence) -> Vec<(String, Confidence)> {
    vec![("lateral-movement/remote-service".to_owned(), confidence)]
}

/// What is said of it, among what else is.
fn said(world: &World, activities: &[Activity]) -> Vec<(String, Confidence)> {
    found(world, activities).into_iter().filter(|(analytic, _)| analytic.starts_with("lateral")).collect()
}

#[test]
fn somebody_elses_key_and_another_hosts_ssh_are_a_move_whichever_comes_first() {
    let mut world = world();
    for (pid, owner) in [(CGI, BACKUP), (AS_ROOT, BACKUP), (AS_ROOT, ROOT), (TIMER, BOB)] {
        let (read, call) = (reads(pid, KEY, owner, owner), calls(pid, 22));
        assert_eq!(said(&world, &[read.clone(), call.clone()]), moves(Confidence::Medium), "{pid}");
        assert_eq!(said(&world, &[call.clone(), read.clone()]), moves(Confidence::Medium), "{pid}");
        assert_eq!(said(&world, std::slice::from_ref(&read)), [], "{pid}");
        assert_eq!(said(&world, &[call.clone(), call]), [], "{pid}");
        assert_eq!(said(&world, &[read.clone(), calls(NGINX, 22)]), [], "somebody else calls: {pid}");
    }
    let own = reads(TIMER, "/var/backups/.ssh/id_rsa", BACKUP, BACKUP);
    let tried = [own.clone(), reads(TIMER, KEY, BOB, BOB), own, calls(TIMER, 22)];
    assert_eq!(said(&world, &tried), moves(Confidence::Medium), "one's own is tried, too");
    // Of a session nothing is said that nothing else was found on.
    let session = [reads(INTRUDER, KEY, BACKUP, BACKUP), calls(INTRUDER, 22)];
    assert_eq!(said(&world, &session), []);
    world.suspects.push(INTRUDER);
    assert_eq!(said(&world, &session), moves(Confidence::Medium));
}

#[test]
fn a_site_that_reads_the_key_for_one_request_and_calls_for_the_next_is_seen_across_them() {
    let world = world();
    let split = [reads(NEXT, KEY, BACKUP, BACKUP), calls(CGI, 22)];
    assert_eq!(said(&world, &split), moves(Confidence::Medium));
    let (mut detectors, mut out, configuration) = (Detectors::default(), Vec::new(), configuration());
    let context = Context { configuration: &configuration, change_window: false };
    for (time, activity) in [(1, split[0].clone()), (601_000_000_000, split[1].clone())] {
        let event = Event { id: EventId(time), time: Timestamp(time), activity };
        detectors.observe(&event, &world, &context, &mut out);
    }
    assert_eq!(out, [], "long after");
}

#[test]
fn whoever_uses_a_key_of_their_own_or_may_use_any_is_silent() {
    let world = world();
    let silent = [
        ("the administrator goes on", ADMIN, "/home/ops/.ssh/id_ed25519", OPS, OPS),
        ("the administrator with another's", ADMIN, KEY, BACKUP, BACKUP),
        ("a developer's git", USER, "/home/alice/.ssh/id_rsa", ALICE, ALICE),
        ("root's cron backs up", CRON, "/root/.ssh/id_ed25519", ROOT, ROOT),
        ("a unit of root's", UNIT, KEY, BACKUP, BACKUP),
        ("the backup with its own", TIMER, KEY, BACKUP, BACKUP),
        ("a service with what root gave its group", TIMER, "/etc/backup/id_ed25519", ROOT, BACKUP),
        ("somebody with sudo", INTRUDER, "/root/.ssh/id_ed25519", ROOT, ROOT),
    ];
    for (who, pid, path, owner, group) in silent {
        for (read, port) in [(pid, 22), (pid, 2_222)] {
            assert_eq!(said(&world, &[reads(read, path, owner, group), calls(pid, port)]), [], "{who}");
        }
    }
}

#[test]
fn an_own_key_of_a_request_or_of_suspect_work_is_shown_and_never_acts() {
    let mut world = world();
    assert_eq!(said(&world, &[reads(CGI, "/var/www/.ssh/id_rsa", SITE, SITE), calls(CGI, 22)]), moves(Confidence::Low));
    world.suspects.extend([USER, INTRUDER]);
    assert_eq!(
        said(&world, &[reads(USER, "/home/alice/.ssh/id_rsa", ALICE, ALICE), calls(USER, 22)]),
        moves(Confidence::Low)
    );
    // `sudo tar … | ssh`: what tar read is not what ssh came in with.
    world.add(70, USER, "/usr/bin/tar", (ROOT, ROOT), (InvocationKind::Session, Some(ALICE)));
    world.invocations.get_mut(&70).unwrap().1 = USER;
    let pipe = [reads(70, "/root/.ssh/id_rsa", ROOT, ROOT), calls(USER, 22)];
    assert_eq!(said(&world, &pipe), moves(Confidence::Low));
}

#[test]
fn a_port_of_ssh_is_22_one_that_the_own_ssh_listens_on_or_whatever_a_client_calls() {
    let mut world = world();
    let at = |pid, port| [reads(pid, KEY, BACKUP, BACKUP), calls(pid, port)];
    assert_eq!(said(&world, &at(CGI, 2_222)), moves(Confidence::Medium), "an ssh client's");
    assert_eq!(said(&world, &at(NEXT, 2_222)), []);
    assert_eq!(said(&world, &at(NEXT, 22)), moves(Confidence::Medium));
    world.add(80, 1, "/usr/sbin/sshd", (ROOT, ROOT), (InvocationKind::Unit("ssh.service".to_owned()), None));
    let Activity::Network(call) = calls(80, 22) else { panic!() };
    let listens = Activity::Network(NetworkActivity {
        activity: NetworkActivityId::Listen,
        inbound: true,
        local: Endpoint { port: 2_222, ..call.local.clone() },
        remote: None,
        before: true,
        ..call
    });
    let told = [&[listens][..], &at(NEXT, 2_222)].concat();
    assert_eq!(said(&world, &told), moves(Confidence::Medium));
    let Activity::Network(own) = calls(CGI, 22) else { panic!() };
    let itself = Activity::Network(NetworkActivity { remote: Some(Endpoint { port: 22, ..own.local.clone() }), ..own });
    assert_eq!(said(&world, &[reads(CGI, KEY, BACKUP, BACKUP), itself]), [], "this host is no other");
}

#[test]
fn another_key_than_sshs_counts_where_an_ssh_client_reads_it() {
    let world = world();
    let with = |pid, path| said(&world, &[reads(pid, path, BACKUP, BACKUP), calls(pid, 22)]);
    assert_eq!(with(CGI, "/srv/deploy.key"), moves(Confidence::Medium));
    assert_eq!(with(NEXT, "/etc/ssl/private/shop.key"), [], "a site's key of TLS, and a look whether a host answers");
    for path in ["/etc/shadow", "/etc/ssh/ssh_host_rsa_key"] {
        assert_eq!(with(CGI, path), [], "nobody logs in with {path}");
    }
}
