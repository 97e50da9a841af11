// SPDX-License-Identifier: Apache-2.0
//! The API over a real socket, in a directory of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, sync_channel};
use thymus_control::api::REQUEST_BYTES_MAX;
use thymus_control::client::Error;
use thymus_control::view::{Baseline, Doctor, View};
use thymus_control::{Answer, Client, ControlCommand, Published, Request, Server, UndoTarget};
use thymus_engine::input::{Command, Mode};
use thymus_engine::{ActionId, Incident, IncidentId, Stage, Timestamp, engine};

fn incident(id: u64) -> Incident {
    Incident {
        id: IncidentId(id),
        stage: Stage::Open,
        why: "two findings on one root".into(),
        opened: Timestamp(5),
        contained: None,
        restored: None,
        healed: None,
        confirmed: true,
        roots: Vec::new(),
        findings: Vec::new(),
        subjects: Vec::new(),
        objects: Vec::new(),
        actions: Vec::new(),
        worse: Vec::new(),
        contacts: Vec::new(),
        secrets: Vec::new(),
        hearsay: Vec::new(),
        omitted: 0,
    }
}

fn view(incidents: Vec<Incident>) -> View {
    View {
        version: "0.1.0".into(),
        scope: "this host".into(),
        started: Timestamp(1),
        boot_to_unix_ns: 1_795_000_000_000_000_000,
        engine: engine::View {
            now: Timestamp(10),
            mode: Mode::Guarded,
            hold: None,
            change: None,
            storm: None,
            incidents,
            losses: Vec::new(),
            counters: BTreeMap::from([("events".into(), 7)]),
        },
        counters: BTreeMap::from([("events_lost".into(), 2)]),
        doctor: Doctor::default(),
        baseline: Baseline::default(),
    }
}

struct Agent {
    _place: tempfile::TempDir,
    published: Published,
    commands: Receiver<Request>,
    client: Client,
    socket: std::path::PathBuf,
    server: Server,
}

fn agent(queue: usize) -> Agent {
    let place = tempfile::Builder::new().prefix("thymus-api-").tempdir().unwrap();
    let socket = place.path().join("run/api.sock");
    let published = Published::new(view(vec![incident(1)]));
    let (sender, commands) = sync_channel(queue);
    let server = Server::start(&socket, published.clone(), sender, Vec::new()).unwrap();
    Agent { client: Client::new(&socket), _place: place, published, commands, socket, server }
}

#[test]
fn a_reader_sees_what_was_published_last() {
    let agent = agent(1);
    assert_eq!(agent.client.status().unwrap().incidents, BTreeMap::from([(Stage::Open, 1)]));
    agent.published.publish(view(vec![incident(1), incident(2)]));
    let listed: Vec<_> = agent.client.incidents().unwrap().into_iter().map(|incident| incident.id.0).collect();
    assert_eq!(listed, [1, 2]);
    assert_eq!(agent.client.incident(IncidentId(2)).unwrap().incident, incident(2));
    let picture = raw(&agent, b"GET /v1/incidents/2/picture HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(picture.starts_with("HTTP/1.1 200") && picture.contains("where it began is not known"), "{picture}");
    let counters = agent.client.status().unwrap().counters;
    assert_eq!((counters["events"], counters["events_lost"]), (7, 2));
}

#[test]
fn what_is_not_there_is_refused_with_the_way_on() {
    let agent = agent(1);
    let error = agent.client.incident(IncidentId(9)).unwrap_err();
    assert_eq!(error.to_string(), "there is no incident 9; `thymus incidents` lists them");
}

#[test]
fn a_command_reaches_the_agent_and_its_answer_comes_back() {
    let agent = agent(1);
    let (client, commands) = (agent.client.clone(), agent.commands);
    let hands = std::thread::spawn(move || {
        for _ in 0..2 {
            let request = commands.recv().unwrap();
            let answer = match &request.command {
                ControlCommand::Undo(UndoTarget::Action(ActionId(12))) => Answer::done("undone"),
                other => Answer::refused(format!("{other:?}")),
            };
            request.answer(answer);
        }
    });
    assert_eq!(client.undo(UndoTarget::Action(ActionId(12))).unwrap(), Answer::done("undone"));
    assert!(!client.command(&ControlCommand::Engine(Command::Release)).unwrap().done);
    hands.join().unwrap();
}

#[test]
fn a_command_that_finds_no_place_or_no_agent_is_refused_at_once() {
    let agent = agent(0); // a rendezvous: nobody waits at the other end
    let command = ControlCommand::Engine(Command::Release);
    let error = agent.client.command(&command).unwrap_err();
    assert_eq!(error.to_string(), "too many commands wait for the agent; try again");
    drop(agent.commands);
    let error = agent.client.command(&command).unwrap_err();
    assert_eq!(error.to_string(), "the agent is ending and takes no commands");
}

#[test]
fn a_request_that_is_dropped_unanswered_says_that_the_agent_ends() {
    let agent = agent(1);
    let (client, commands) = (agent.client.clone(), agent.commands);
    let hands = std::thread::spawn(move || drop(commands.recv().unwrap()));
    let error = client.command(&ControlCommand::Shutdown).unwrap_err();
    assert_eq!(error.to_string(), "the agent is ending and takes no commands");
    hands.join().unwrap();
}

#[test]
fn only_the_owner_can_open_the_socket_and_it_goes_away_with_the_server() {
    let agent = agent(1);
    let found = std::fs::metadata(&agent.socket).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(agent.socket.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(agent.socket.parent().unwrap()).unwrap().count(), 1, "nothing but the socket is left");
    drop(agent.server);
    assert!(!agent.socket.exists());
    assert!(matches!(agent.client.status(), Err(Error::NoAgent { .. })));
}

#[test]
fn a_second_agent_does_not_take_the_socket_and_a_dead_one_is_replaced() {
    let agent = agent(1);
    let (sender, _commands) = sync_channel(1);
    let error = Server::start(&agent.socket, agent.published.clone(), sender.clone(), Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("another agent answers at"), "{error}");
    drop(agent.server);
    drop(std::os::unix::net::UnixListener::bind(&agent.socket).unwrap()); // what a killed agent leaves
    let _server = Server::start(&agent.socket, agent.published.clone(), sender, Vec::new()).unwrap();
    assert_eq!(agent.client.status().unwrap().version, "0.1.0");
}

#[test]
fn a_file_in_the_sockets_place_is_never_removed() {
    let place = tempfile::Builder::new().prefix("thymus-api-").tempdir().unwrap();
    let path = place.path().join("precious");
    std::fs::write(&path, "kept").unwrap();
    let (sender, _commands) = sync_channel(1);
    let error = Server::start(&path, Published::new(view(Vec::new())), sender, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
}

/// What the server answers to these bytes; it closes the connection itself.
fn raw(agent: &Agent, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(&agent.socket).unwrap();
    // A server that refuses early may close before all was written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_and_bodies_that_are_too_large_are_refused_and_the_api_lives_on() {
    let agent = agent(1);
    assert!(raw(&agent, b"\x00\xff\r\n\r\n").starts_with("HTTP/1.1 400"));
    let body = vec![b'['; REQUEST_BYTES_MAX + 1];
    let head = "POST /v1/commands HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let mut large = format!("{head}content-length: {}\r\n\r\n", REQUEST_BYTES_MAX + 1).into_bytes();
    large.extend(body);
    assert!(raw(&agent, &large).starts_with("HTTP/1.1 413"));
    let deep = "[".repeat(60_000);
    let answer = raw(&agent, format!("{head}content-length: {}\r\n\r\n{deep}", deep.len()).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(agent.client.status().unwrap().version, "0.1.0");
}

/// What [`as_user`] is told: where the socket is.
const SOCKET_OF_THE_OTHER: &str = "THYMUS_TEST_SOCKET";

/// Run by `an_approver_reads_and_answers_and_nothing_else` as another user; by itself it does nothing.
#[test]
fn as_user() {
    let Some(socket) = std::env::var_os(SOCKET_OF_THE_OTHER) else { return };
    let client = Client::new(std::path::Path::new(&socket));
    let said =
        |answer: Result<Answer, Error>| answer.map_or_else(|error| error.to_string(), |answer| answer.lines.join(""));
    let approve = ControlCommand::Engine(Command::Approve { action: ActionId(12) });
    // Whoever one says that one is: the kernel's word counts.
    let forged =
        ControlCommand::Engine(Command::Answer { action: ActionId(12), approved: true, uid: 0, before: false });
    println!("incidents: {}", client.incidents().map_or(0, |incidents| incidents.len()));
    for command in [approve, forged, ControlCommand::Engine(Command::Release), ControlCommand::Shutdown] {
        println!("said: {}", said(client.command(&command)));
    }
    println!("said: {}", said(client.undo(UndoTarget::Action(ActionId(12)))));
}

#[test]
fn an_approver_reads_and_answers_and_nothing_else() {
    use std::os::unix::process::CommandExt;
    let place = tempfile::Builder::new().prefix("thymus-api-").tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let program = place.path().join("client");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let socket = place.path().join("run/api.sock");
    let (sender, commands) = sync_channel::<Request>(4);
    let _server = Server::start(&socket, Published::new(view(vec![incident(1)])), sender, vec![54_321]).unwrap();
    std::thread::spawn(move || {
        while let Ok(request) = commands.recv() {
            let answer = Answer::done(format!("from {}", request.uid));
            request.answer(answer);
        }
    });
    let run = |uid| {
        let mut client = std::process::Command::new(&program);
        client.uid(uid).gid(uid).env(SOCKET_OF_THE_OTHER, &socket);
        let told = client.args(["--exact", "as_user", "--nocapture"]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let mine = |line: &&str| line.starts_with("incidents: ") || line.starts_with("said: ");
        told.lines().filter(mine).map(ToOwned::to_owned).collect::<Vec<String>>()
    };
    let refused = "said: an approver may read, approve and deny; the rest is for root";
    assert_eq!(
        run(54_321),
        ["incidents: 1", "said: from 54321", "said: from 54321", refused, refused, refused],
        "one who was named"
    );
    let stranger = run(54_322);
    assert!(stranger.len() == 6 && stranger[0] == "incidents: 0", "{stranger:?}");
    assert!(stranger.iter().all(|line| !line.contains("from 54322")), "{stranger:?}");
}
