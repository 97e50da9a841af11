// SPDX-License-Identifier: Apache-2.0
//! Sessions of people who come from where they do not.
use super::*;
use crate::event::{AuthService, Authentication, Endpoint};
use crate::input::Login;
use std::net::Ipv4Addr;

fn at(host: u8) -> Endpoint {
    Endpoint { ip: Ipv4Addr::new(192, 0, 2, host).into(), port: 40_001 }
}

fn logon(pid: u32, uid: u32, service: AuthService, host: u8) -> Activity {
    Activity::Authentication(Authentication {
        logon: true,
        session: key(pid),
        actor_uid: None,
        uid,
        service,
        src_endpoint: Some(at(host)),
    })
}

/// Of the administrator and of root it is known where they come from.
fn seen(world: &World, change_window: bool, activities: &[Activity]) -> Vec<Finding> {
    let expected = |uid, from: &[&str]| Login { uid, from: from.iter().map(|from| from.parse().unwrap()).collect() };
    let logins = vec![expected(OPS, &["192.0.2.16/28"]), expected(ROOT, &[])];
    let configuration = Configuration { logins, ..configuration() };
    let (mut detectors, mut out) = (Detectors::default(), Vec::new());
    let context = Context { configuration: &configuration, change_window };
    for activity in activities {
        detectors.observe(&event(activity.clone()), world, &context, &mut out);
    }
    out
}

#[test]
fn a_login_from_where_its_user_does_not_come_from_is_a_strangers_and_so_is_what_it_does() {
    let mut world = World::new();
    let (sshd, su) = (AuthService::Sshd, AuthService::Su);
    let found = seen(&world, false, &[logon(ADMIN, OPS, sshd, 7)]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].technique.as_str(), found[0].confidence, found[0].title.as_str()),
        (
            "T1078.003",
            Confidence::Medium,
            "uid 1000 logged in from 192.0.2.7, expected one from 192.0.2.16/28, by `/usr/bin/bash` as uid 0 in a login session of uid 1000"
        )
    );
    let nobody = seen(&world, false, &[logon(ADMIN, ROOT, sshd, 20)]);
    assert!(nobody[0].title.contains("from where nobody does"), "{nobody:?}");
    // From where he comes; somebody of whom nothing is said; no login from another host; announced work.
    for (open, quiet) in [
        (false, logon(ADMIN, OPS, sshd, 20)),
        (false, logon(USER, ALICE, sshd, 7)),
        (false, logon(ADMIN, ROOT, su, 7)),
        (true, logon(ADMIN, OPS, sshd, 7)),
    ] {
        assert_eq!(seen(&world, open, &[quiet]), []);
    }
    // What the administrator may do, and little of what is his own, is a stranger's work in such a session.
    let change = |path: &str, owner| Activity::File(on_file(FileActivityId::Close, ADMIN, path, owner));
    let changes = [change("/etc/cron.d/job", ROOT), change("/home/ops/.bashrc", OPS)];
    assert_eq!(seen(&world, false, &changes), []);
    world.sources.insert(ADMIN, at(7).ip);
    let found: Vec<_> = seen(&world, false, &changes).into_iter().map(|one| (one.analytic, one.confidence)).collect();
    let medium = |name: &str| (name.to_owned(), Confidence::Medium);
    assert_eq!(found, [medium("foothold/cron"), medium("foothold/shell-profile")]);
    world.sources.insert(ADMIN, at(20).ip);
    assert_eq!(seen(&world, false, &changes), []);
}

#[test]
fn a_stranger_who_has_something_started_is_seen_and_whoever_is_expected_is_not() {
    let mut world = World::new();
    let run = |pid: u32, path: &str, words: &[&str]| {
        let process = Process { cmd_line: words.iter().map(|word| (*word).to_owned()).collect(), ..exec(pid, path) };
        Activity::Process(ProcessActivity {
            activity: ProcessActivityId::Exec,
            actor: process.key,
            process,
            exit_code: None,
        })
    };
    let starts = [
        run(ADMIN, "/usr/bin/systemctl", &["systemctl", "--now", "enable", "x.service"]),
        run(ADMIN, "/usr/bin/systemd-run", &["systemd-run", "true"]),
    ];
    let asks = run(ADMIN, "/usr/bin/systemctl", &["systemctl", "status", "x.service"]);
    for start in &starts {
        assert_eq!(seen(&world, false, std::slice::from_ref(start)), []);
    }
    world.sources.insert(ADMIN, at(7).ip);
    for start in &starts {
        let found = seen(&world, false, std::slice::from_ref(start));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].technique.as_str(), found[0].confidence), ("T1569.003", Confidence::Medium));
        assert_eq!(seen(&world, true, std::slice::from_ref(start)), [], "announced work");
    }
    assert_eq!(seen(&world, false, &[asks]), []);
    world.sources.insert(ADMIN, at(20).ip);
    assert_eq!(seen(&world, false, &starts), []);
    // A site with root's power, and one without.
    let request = (InvocationKind::Request, None);
    world.add(80, NGINX, "/usr/bin/dash", (ROOT, ROOT), request.clone());
    world.add(81, NGINX, "/usr/bin/dash", (33, 33), request);
    let started =
        |pid| seen(&world, false, &[run(pid, "/usr/bin/systemctl", &["systemctl", "start", "x.service"])]).len();
    assert_eq!((started(80), started(81)), (1, 0));
}
