// SPDX-License-Identifier: Apache-2.0
use super::*;

const CGI: u32 = 60;
const NEXT: u32 = 61;

/// Two requests to one server, and the work of an administrator.
fn world() -> World {
    let mut world = World::new();
    for pid in [CGI, NEXT] {
        world.add(pid, NGINX, "/usr/bin/dash", (33, 33), (InvocationKind::Request, None));
    }
    world
}

fn runs(world: &World, programs: &[(u32, &str)]) -> Vec<(String, Confidence)> {
    let activity = |(pid, path): &(u32, &str)| {
        let process = exec(*pid, path);
        let (activity, actor) = (ProcessActivityId::Exec, process.key);
        Activity::Process(ProcessActivity { activity, actor, process, exit_code: None })
    };
    found(world, &programs.iter().map(activity).collect::<Vec<_>>())
}

#[test]
fn a_request_that_runs_what_a_request_wrote_is_a_web_shell() {
    let mut world = world();
    assert_eq!(runs(&world, &[(NEXT, "/usr/bin/dash")]), []);
    world.planted.insert(NEXT, "/var/www/shop/uploads/x.cgi".into());
    assert_eq!(runs(&world, &[(NEXT, "/usr/bin/dash")]), [("foothold/web-shell".to_owned(), Confidence::Medium)]);
    // Whoever looks at what was uploaded, and the system that rotates it, run it for no request.
    for pid in [ADMIN, UNIT, USER] {
        world.planted.insert(pid, "/var/www/shop/uploads/x.cgi".into());
        assert_eq!(runs(&world, &[(pid, "/usr/bin/dash")]), [], "{pid}");
    }
}

#[test]
fn a_site_that_asks_who_it_is_and_who_else_is_there_is_seen_across_its_requests() {
    let world = world();
    let owner = [("discovery/owner".to_owned(), Confidence::Medium)];
    assert_eq!(runs(&world, &[(CGI, "/usr/bin/id"), (NEXT, "/usr/bin/sudo")]), owner);
    assert_eq!(runs(&world, &[(CGI, "/usr/bin/id"), (NEXT, "/usr/bin/id")]), [], "one program, however often");
    assert_eq!(runs(&world, &[(CGI, "/usr/bin/uptime"), (NEXT, "/usr/bin/df")]), [], "a page of the host's state");
    assert_eq!(runs(&world, &[(INTRUDER, "/usr/bin/id"), (INTRUDER, "/usr/bin/whoami")]), [], "no request");
}
