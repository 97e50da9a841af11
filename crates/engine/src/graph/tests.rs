// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::engine::Engine;
use crate::engine::world::{ALICE, OPS, World, configuration};
use crate::event::{Confidence, FileKind, Origin};
use crate::incident::InvocationKind;
use crate::input::Mode;
use proptest::prelude::*;

#[test]
fn a_login_below_the_listener_is_a_session_of_the_user_who_came() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    let child = world.fork(shell);
    let graph = world.engine.graph();
    let session = graph.invocation_of(child).unwrap();
    assert_eq!((&session.kind, session.login_uid), (&InvocationKind::Session, Some(ALICE)));
    assert!(session.src_endpoint.is_some());
    assert_eq!(graph.process(session.leader).unwrap().parent, world.listener);
    assert_eq!(graph.ancestors(child, 8).count(), 4, "shell, sshd's child, listener, init");
}

#[test]
fn a_hub_started_in_a_session_is_no_hub() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    let own = world.fork(shell);
    world.exec(own, &["/usr/sbin/sshd", "-p", "2222"]);
    let child = world.fork(own);
    let graph = world.engine.graph();
    assert_eq!(graph.process(child).unwrap().invocation, graph.process(shell).unwrap().invocation);
}

#[test]
fn the_processes_of_one_start_of_a_unit_are_one_invocation_and_the_next_start_another() {
    let mut world = World::new(Mode::Observe);
    let (before, main) = (world.fork(world.init), world.fork(world.init));
    world.exec_of(before, &["/usr/bin/mkdir"], None, Some("app.service"));
    world.exit(before);
    world.exec_of(main, &["/usr/bin/app"], None, Some("app.service"));
    let of = |world: &World, key| world.engine.graph().process(key).unwrap().invocation;
    assert_eq!(of(&world, before), of(&world, main));
    world.exit(main);
    for _ in 0..11 {
        world.tick();
    }
    let again = world.fork(world.init);
    world.exec_of(again, &["/usr/bin/app"], None, Some("app.service"));
    assert_ne!(of(&world, main), of(&world, again));
    let kind = &world.engine.graph().invocation_of(again).unwrap().kind;
    assert_eq!(kind, &InvocationKind::Unit("app.service".into()));
}

#[test]
fn a_server_worker_begins_a_request_only_when_it_runs_another_program() {
    let mut world = World::new(Mode::Observe);
    let master = world.there(world.init, "/usr/sbin/nginx", Some("nginx.service"));
    let worker = world.fork(master);
    let cgi = world.fork(worker);
    let kind = |world: &World, key| world.engine.graph().invocation_of(key).unwrap().kind.clone();
    assert_eq!(kind(&world, worker), InvocationKind::Unit("nginx.service".into()));
    world.exec(cgi, &["/usr/bin/sh", "-c", "id"]);
    assert_eq!(kind(&world, cgi), InvocationKind::Request);
}

#[test]
fn a_session_that_was_there_before_the_agent_is_known() {
    let mut world = World::new(Mode::Observe);
    let session = world.there(world.listener, "/usr/sbin/sshd", Some("session-3.scope"));
    let shell = world.there(session, "/usr/bin/bash", Some("session-3.scope"));
    let graph = world.engine.graph();
    assert_eq!(graph.invocation_of(shell).unwrap().leader, session);
    assert_eq!(graph.invocation_of(shell).unwrap().kind, InvocationKind::Session);
}

#[test]
fn the_origin_of_an_invocation_names_the_writer_of_its_version() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    let line = world.write(shell, "/etc/cron.d/job");
    let cron = world.fork(world.cron);
    let origin = Origin { path: HostPath::from("/etc/cron.d/job"), version: line };
    world.exec_of(cron, &["/usr/bin/sh"], Some(origin), None);
    let graph = world.engine.graph();
    assert_eq!(graph.invocation_of(cron).unwrap().origin_writer.map(|(key, _)| key), Some(shell));
}

#[test]
fn repeated_writes_by_one_process_add_nothing_and_others_split_the_chain() {
    let mut world = World::new(Mode::Observe);
    let (shell, admin) = (world.login(ALICE, None), world.login(OPS, None));
    for _ in 0..100 {
        world.write(shell, "/etc/app.conf");
    }
    let file = |world: &World| world.engine.graph().file(&HostPath::from("/etc/app.conf")).unwrap().clone();
    assert_eq!(file(&world).writes.len(), 1);
    let (first, last) = (file(&world).writes[0].first, file(&world).writes[0].last);
    assert!(file(&world).writer_of(VersionId(last.0 - 3)).is_some() && first < last);
    world.write(admin, "/etc/app.conf");
    assert_eq!(file(&world).writes.len(), 2);
    assert_eq!(file(&world).writes[1].before, last);
    for _ in 0..WRITES_PER_PATH_MAX {
        world.write(shell, "/etc/app.conf");
        world.write(admin, "/etc/app.conf");
    }
    assert!(file(&world).writes.len() <= WRITES_PER_PATH_MAX);
    assert!(world.engine.graph().counters.writes_dropped > 0);
}

#[test]
fn what_another_wrote_before_the_close_belongs_to_the_recorded_version() {
    let mut world = World::new(Mode::Observe);
    let (shell, admin) = (world.login(ALICE, None), world.login(OPS, None));
    world.begin_write(shell, "/etc/app.conf");
    let version = world.write(admin, "/etc/app.conf");
    let file = world.engine.graph().file(&HostPath::from("/etc/app.conf")).unwrap();
    let writers: Vec<ProcessKey> =
        file.writes.iter().filter(|write| write.last == version).map(|write| write.writer).collect();
    assert_eq!(writers, [shell, admin]);
}

#[test]
fn the_graph_stays_within_its_limits_and_counts_what_it_leaves_out() {
    let limits = Limits { processes: 256, files: 256, invocations: 64 };
    let mut world = World::with(Engine::with_limits(limits), configuration(Mode::Observe));
    let shell = world.login(ALICE, None);
    for number in 0..2_000 {
        world.run(shell, &["/usr/bin/cc"], |world, cc| {
            world.write_unprotected(cc, &format!("/tmp/{number}"));
            world.write(cc, &format!("/home/alice/{number}"));
        });
        let visitor = world.login(OPS, None);
        let leader = world.engine.graph().invocation_of(visitor).unwrap().leader;
        world.exit(visitor);
        world.exit(leader);
    }
    let (processes, files, invocations) = world.engine.graph().sizes();
    assert!(processes <= 256 && files <= 256 && invocations <= 64, "{processes} {files} {invocations}");
    let counters = world.engine.graph().counters;
    assert!(counters.processes_evicted + counters.writers_evicted > 1_000);
    assert!(counters.files_evicted > 1_000 && counters.protected_evicted > 1_000);
    assert!(world.engine.graph().process(shell).is_some(), "what lives is kept");
}

#[test]
fn starts_of_units_are_forgotten_with_their_invocations() {
    let limits = Limits { processes: 256, files: 256, invocations: 64 };
    let mut world = World::with(Engine::with_limits(limits), configuration(Mode::Observe));
    for number in 0..1_000 {
        let main = world.fork(world.init);
        world.exec_of(main, &["/usr/bin/app"], None, Some(&format!("run-u{number}.service")));
        world.exit(main);
    }
    let graph = world.engine.graph();
    assert!(graph.units.len() <= 64, "{} of {:?}", graph.units.len(), graph.sizes());
    assert!(graph.units.keys().any(|(_, unit)| &**unit == "run-u999.service"), "the last one is known");
}

#[test]
fn an_incident_outlasts_any_flood() {
    let limits = Limits { processes: 256, files: 256, invocations: 64 };
    let mut world = World::with(Engine::with_limits(limits), configuration(Mode::Observe));
    let intruder = world.login(ALICE, None);
    world.write(intruder, "/etc/cron.d/job");
    world.find(intruder, "foothold/x", Confidence::High);
    world.exit(intruder);
    let shell = world.login(OPS, None);
    for number in 0..2_000 {
        world.run(shell, &["/usr/bin/cc"], |world, cc| {
            world.write(cc, &format!("/home/ops/{number}"));
        });
    }
    assert!(world.engine.graph().process(intruder).is_some());
    assert!(world.engine.graph().file(&HostPath::from("/etc/cron.d/job")).is_some());
}

/// SPECIFICATION: engine and graph together stay below this; bytes.
const MEMORY_BYTES_MAX: usize = 48 << 20;

#[test]
fn full_tables_of_long_names_stay_below_the_memory_bound() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    let long = "x".repeat(100);
    for number in 0..20_000u32 {
        let key = world.fork(shell);
        world.exec(key, &["/usr/bin/program-of-usual-length", &long, &long, &long]);
        for part in 0..3 {
            world.write(key, &format!("/home/alice/a/directory/of/some/depth/{part}/file-{number}"));
        }
        world.exit(key);
        world.inputs.clear();
        world.effects.clear();
    }
    let (processes, files, _) = world.engine.graph().sizes();
    assert!(processes == PROCESSES_MAX && files == FILES_MAX, "{processes} {files}: the tables are full");
    let bytes = world.engine.graph().bytes();
    assert!(bytes < MEMORY_BYTES_MAX, "{} MiB", bytes >> 20);
}

#[derive(Clone, Debug)]
enum Deed {
    Login,
    Cron(u8),
    Fork(u8),
    Write(u8, u8),
    Run(u8, u8),
    Exit(u8),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        1 => Just(Deed::Login),
        1 => any::<u8>().prop_map(Deed::Cron),
        4 => any::<u8>().prop_map(Deed::Fork),
        3 => (any::<u8>(), 0u8..12).prop_map(|(who, what)| Deed::Write(who, what)),
        3 => (any::<u8>(), 0u8..12).prop_map(|(who, what)| Deed::Run(who, what)),
        2 => any::<u8>().prop_map(Deed::Exit),
    ];
    proptest::collection::vec(deed, 10..120)
}

/// Plays the deeds, each followed by unrelated work that ends; then confirms the first session as an attack.
fn play(deeds: &[Deed], limits: Limits) -> World {
    let mut world = World::with(Engine::with_limits(limits), configuration(Mode::Observe));
    let mut alive = vec![world.login(ALICE, None)];
    let bystander = world.login(OPS, None);
    let root = alive[0];
    let mut versions = [VersionId::UNKNOWN; 12];
    let pick = |alive: &[ProcessKey], who: u8| alive[usize::from(who) % alive.len()];
    for deed in deeds {
        match deed {
            Deed::Login => alive.push(world.login(OPS, None)),
            Deed::Cron(what) => {
                let what = usize::from(*what) % 12;
                let run = world.fork(world.cron);
                let path = HostPath::from(format!("/etc/file-{what}").as_str());
                let origin = Origin { path, version: versions[what] };
                world.exec_of(run, &["/usr/bin/sh"], Some(origin), None);
                alive.push(run);
            }
            Deed::Fork(who) => {
                let parent = pick(&alive, *who);
                alive.push(world.fork(parent));
            }
            Deed::Write(who, what) => {
                let writer = pick(&alive, *who);
                versions[usize::from(*what)] = world.write(writer, &format!("/etc/file-{what}"));
            }
            Deed::Run(who, what) => {
                let key = world.fork(pick(&alive, *who));
                world.exec(key, &[format!("/etc/file-{what}").as_str()]);
                alive.push(key);
            }
            Deed::Exit(who) if alive.len() > 1 => {
                let at = 1 + usize::from(*who) % (alive.len() - 1);
                let key = alive.remove(at);
                world.exit(key);
            }
            Deed::Exit(_) => {}
        }
        for _ in 0..4 {
            world.run(bystander, &["/usr/bin/true"], |_, _| {});
        }
    }
    world.find(root, "x", Confidence::High);
    while world.tick().pending {}
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn forgetting_what_is_unrelated_changes_nothing_that_can_be_reached(deeds in deeds()) {
        let whole = play(&deeds, Limits::default());
        let small = play(&deeds, Limits { processes: 160, ..Limits::default() });
        let counters = small.engine.graph().counters;
        prop_assert!(counters.writers_evicted == 0 && counters.processes_refused == 0, "{counters:?}");
        let (wide, narrow) = (whole.incidents().remove(0), small.incidents().remove(0));
        prop_assert_eq!(&wide.objects, &narrow.objects);
        for subject in &wide.subjects {
            let kept = small.engine.graph().process(subject.process).is_some();
            let found = narrow.subjects.iter().any(|other| other.process == subject.process);
            prop_assert_eq!(kept, found, "{:?}", subject);
        }
        prop_assert!(narrow.subjects.iter().all(|subject| wide.subjects.iter().any(|other| other.process == subject.process)));
    }
}

#[test]
fn a_directory_is_a_path_like_others() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    world.create(shell, "/etc/new", FileKind::Directory);
    let seen = world.engine.graph().first_seen(&HostPath::from("/etc/new")).unwrap();
    assert!(seen.created && seen.by == shell);
}

#[test]
fn a_request_came_from_where_its_server_says_and_nobody_below_it_says_otherwise() {
    let mut world = World::new(Mode::Observe);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let request = world.request(server, [198, 51, 100, 7]);
    let liar = world.fork(request);
    world.comes_from(liar, [203, 0, 113, 9]);
    world.exec(liar, &["/usr/bin/env"]);
    let alone = world.fork(world.init);
    world.comes_from(alone, [203, 0, 113, 9]);
    let graph = world.engine.graph();
    let title = |key| graph.invocation_of(key).unwrap().title();
    assert_eq!(title(request), "request to a server from 198.51.100.7");
    assert_eq!(title(liar), title(request));
}

#[test]
fn who_runs_what_a_request_wrote_is_known() {
    use crate::detect::Lineage;
    let mut world = World::new(Mode::Observe);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let (first, second) = (world.request(server, [198, 51, 100, 7]), world.request(server, [198, 51, 100, 7]));
    world.write(first, "/var/www/x.cgi");
    world.exec(second, &["/var/www/x.cgi"]);
    let admin = world.login(OPS, None);
    world.write(admin, "/var/www/y.cgi");
    let third = world.request(server, [198, 51, 100, 7]);
    world.exec(third, &["/var/www/y.cgi"]);
    // It becomes a shell, and so does what it starts.
    world.exec(second, &["/usr/bin/dash"]);
    let child = world.fork(second);
    world.exec(child, &["/usr/bin/cat"]);
    let graph = world.engine.graph();
    assert_eq!(graph.ran_from_request(child), None);
    assert_eq!(graph.ran_from_request(second), Some(&HostPath::from("/var/www/x.cgi")));
    assert_eq!(graph.ran_from_request(third), None);
}

fn line(address: [u8; 4], port: u16, said: crate::hearsay::Said) -> crate::hearsay::Hearsay {
    crate::hearsay::Hearsay {
        parser: "sshd".to_owned(),
        source: "/var/log/auth.log".into(),
        original_time: None,
        src_endpoint: Some(crate::event::Endpoint { ip: address.into(), port }),
        said,
        raw_data: String::new(),
    }
}

fn says(world: &mut World, address: [u8; 4], port: u16, said: crate::hearsay::Said) {
    let time = world.engine.view().now;
    let activity = Activity::Hearsay(Box::new(line(address, port, said)));
    world.input(crate::Input::Event(Event { id: crate::EventId(0), time, activity }));
}

fn heard(world: &World, key: ProcessKey) -> Vec<(crate::hearsay::Join, crate::hearsay::Said)> {
    let found = world.engine.graph().invocation_of(key).unwrap();
    found.heard.iter().map(|heard| (heard.join, heard.said.clone())).collect()
}

fn let_in(user: &str) -> crate::hearsay::Said {
    let login = crate::hearsay::Login { success: true, user: Some(user.to_owned()), ..Default::default() };
    crate::hearsay::Said::Authentication(login)
}

fn asked(path: &str) -> crate::hearsay::Said {
    crate::hearsay::Said::Http(crate::hearsay::Request { path: Some(path.to_owned()), ..Default::default() })
}

#[test]
fn a_line_stands_beside_the_session_of_its_connection_whichever_came_first() {
    use crate::hearsay::Join;
    let mut world = World::new(Mode::Observe);
    says(&mut world, [192, 0, 2, 7], 40_000, let_in("alice"));
    says(&mut world, [192, 0, 2, 8], 40_000, let_in("mallory"));
    let shell = world.login_from([192, 0, 2, 7], ALICE, None);
    says(&mut world, [192, 0, 2, 7], 40_001, let_in("mallory"));
    says(&mut world, [192, 0, 2, 7], 0, let_in("mallory"));
    assert_eq!(heard(&world, shell), [(Join::Connection, let_in("alice"))]);
    says(&mut world, [192, 0, 2, 7], 40_000, let_in("root"));
    assert_eq!(heard(&world, shell).len(), 2, "who contradicts is shown, too");
    for number in 0..10 {
        says(&mut world, [192, 0, 2, 7], 40_000, let_in(&number.to_string()));
    }
    assert_eq!((heard(&world, shell).len(), world.engine.graph().hearsay_left_out()), (HEARD_MAX, 8));
}

#[test]
fn a_line_without_a_port_is_about_the_requests_from_there_that_are_over_or_of_all_of_them() {
    use crate::hearsay::Join;
    let mut world = World::new(Mode::Observe);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let (first, second) = (world.request(server, [198, 51, 100, 7]), world.request(server, [198, 51, 100, 7]));
    let other = world.request(server, [198, 51, 100, 8]);
    world.exit(second);
    says(&mut world, [198, 51, 100, 7], 0, asked("/second"));
    assert_eq!(heard(&world, second), [(Join::Address { candidates: 1 }, asked("/second"))]);
    let third = world.request(server, [198, 51, 100, 7]);
    says(&mut world, [198, 51, 100, 7], 0, asked("/either"));
    let either = [(Join::Address { candidates: 2 }, asked("/either"))];
    assert_eq!((heard(&world, first), heard(&world, third)), (either.to_vec(), either.to_vec()));
    says(&mut world, [198, 51, 100, 7], 0, asked("/one-more"));
    assert_eq!(heard(&world, first).len(), 2, "while it runs, it is not known which of them is its own");
    world.exit(first);
    says(&mut world, [198, 51, 100, 7], 0, asked("/third"));
    assert_eq!((heard(&world, first).len(), heard(&world, third).len()), (2, 3));
    assert_eq!((heard(&world, second).len(), heard(&world, other).len()), (1, 0));
}

/// The graph as if no log had been read.
fn without_hearsay(world: &World) -> Vec<u8> {
    let mut graph = world.engine.graph().clone();
    graph.hearing = super::heard::Hearing::default();
    for place in 0..graph.invocations.places() {
        let id = graph.invocations.at(place).map(|(id, _)| *id);
        if let Some(found) = id.and_then(|id| graph.invocations.get_mut(&id)) {
            found.heard.clear();
        }
    }
    postcard::to_stdvec(&graph).unwrap()
}

#[test]
fn a_line_leaves_everything_else_of_the_graph_as_it_was() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login_from([192, 0, 2, 7], ALICE, None);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let request = world.request(server, [198, 51, 100, 7]);
    let (before, now) = (without_hearsay(&world), world.engine.view().now);
    for said in [let_in("root"), asked("/x"), crate::hearsay::Said::Other { message: "attack".to_owned() }] {
        for (address, port) in [([192, 0, 2, 7], 40_000), ([198, 51, 100, 7], 0), ([198, 51, 100, 7], 1), ([0; 4], 7)] {
            says(&mut world, address, port, said.clone());
        }
    }
    assert!(!heard(&world, shell).is_empty() && !heard(&world, request).is_empty());
    assert!(without_hearsay(&world) == before && world.engine.view().now == now, "a line changed what the kernel saw");
}

#[test]
fn a_line_that_is_about_no_invocation_concerns_nobody() {
    let mut world = World::new(Mode::Observe);
    let server = world.there(world.init, "/usr/sbin/fcgiwrap", Some("fcgiwrap.service"));
    let request = world.request(server, [198, 51, 100, 7]);
    world.exit(request);
    let concerns = |world: &World, address: [u8; 4], port| {
        let time = world.engine.view().now;
        world.engine.graph().concerns(time, &line(address, port, asked("/")))
    };
    assert!(concerns(&world, [198, 51, 100, 7], 0) && !concerns(&world, [198, 51, 100, 8], 0));
    assert!(concerns(&world, [198, 51, 100, 8], 40_000), "its session may begin later");
    says(&mut world, [198, 51, 100, 7], 0, asked("/"));
    assert!(!concerns(&world, [198, 51, 100, 7], 0), "the request is told");
}

#[test]
fn lines_of_connections_that_never_become_a_session_are_forgotten() {
    let mut world = World::new(Mode::Observe);
    for number in 0..5_000_u16 {
        says(&mut world, [192, 0, 2, 7], 1 + number, let_in("nobody"));
    }
    says(&mut world, [192, 0, 2, 9], 40_000, let_in("alice"));
    let shell = world.login_from([192, 0, 2, 9], ALICE, None);
    assert_eq!(heard(&world, shell).len(), 1);
    assert_eq!(world.engine.graph().hearsay_left_out(), 5_001 - 512);
    let bytes = postcard::to_stdvec(world.engine.graph()).unwrap().len();
    assert!(bytes < 200_000, "{bytes} bytes");
}
