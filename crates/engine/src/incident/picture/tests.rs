// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::action::Action;
use crate::event::{Confidence, Traffic};
use crate::graph::Contact;
use crate::id::{ActionId, BootId, FindingId, IncidentId, VersionId};
use crate::incident::{
    ActionRecord, Decision, FindingSummary, InvocationKind, Object, Peer, Root, Secret, Stage, Subject, Verdict,
};
use proptest::prelude::*;

fn process(pid: u32) -> ProcessKey {
    ProcessKey { boot: BootId(7), pid, start_time: Timestamp(u64::from(pid)) }
}

fn subject(pid: u32, by: u32, through: Option<HostPath>) -> Subject {
    Subject {
        process: process(pid),
        program: Some("/bin/sh".into()),
        cmd_line: Vec::new(),
        uid: 0,
        reason: String::new(),
        alive: false,
        by: process(by),
        through,
    }
}

fn object(path: HostPath, by: u32) -> Object {
    Object {
        path,
        class: ObjectClass::AttackOnly,
        first_version: VersionId(1),
        reason: String::new(),
        by: process(by),
        shown: None,
        deed: Deed::Created,
    }
}

fn incident(subjects: Vec<Subject>, objects: Vec<Object>) -> Incident {
    Incident {
        id: IncidentId(1),
        stage: Stage::Open,
        why: String::new(),
        opened: Timestamp(0),
        contained: None,
        restored: None,
        healed: None,
        confirmed: true,
        roots: vec![Root {
            kind: InvocationKind::Session,
            leader: process(1),
            title: "a session".into(),
            src_endpoint: None,
            score: 1.0,
        }],
        findings: Vec::new(),
        subjects,
        objects,
        contacts: Vec::new(),
        secrets: Vec::new(),
        hearsay: Vec::new(),
        actions: Vec::new(),
        worse: Vec::new(),
        omitted: 0,
    }
}

/// Any incident that a view could show, and larger ones; who came by whom is anybody's guess, circles included.
fn any_incident() -> impl Strategy<Value = Incident> {
    let size = prop_oneof![4 => 0usize..40, 2 => 40usize..400, 1 => 9_000usize..10_000];
    let places = ["/home/a", "/home/a/deep/er", "/srv/www", "/etc/cron.d", "/var/lib/x", ""];
    let subjects = proptest::collection::vec((0u32..60, 0usize..400), 0..50);
    let files = (size, any::<u64>());
    let few = (proptest::collection::vec(0u32..60, 0..40), proptest::collection::vec((0u32..60, 0u8..40), 0..40));
    let found = proptest::collection::vec((0u32..60, 0usize..400), 0..30);
    (subjects, files, few, found, any::<bool>()).prop_map(
        move |(subjects, (size, seed), (secrets, peers), found, odd)| {
            let path = |at: usize| {
                // Footholds are few where files are very many, as on a host.
                let place =
                    places[if size > 400 && at > 30 { at % 3 } else { (at + at / 7) % if odd { 6 } else { 3 } }];
                HostPath::from(format!("{place}/{at}").as_str())
            };
            let known: Vec<Subject> = subjects
                .iter()
                .enumerate()
                .map(|(at, (by, through))| {
                    let pid = u32::try_from(at).unwrap();
                    let by = if odd { *by } else { by % pid.max(1) };
                    subject(pid, by, (odd && through % 5 == 0).then(|| path(*through)))
                })
                .collect();
            let by =
                |at: usize| u32::try_from((seed.rotate_left(u32::try_from(at % 64).unwrap()) % 60) as usize).unwrap();
            let objects = (0..size).map(|at| object(path(at), by(at))).collect();
            let mut incident = incident(known, objects);
            incident.secrets = secrets
                .iter()
                .enumerate()
                .map(|(at, by)| Secret {
                    path: HostPath::from(format!("/root/{at}.key").as_str()),
                    process: process(*by),
                    time: Timestamp(1),
                })
                .collect();
            incident.contacts = peers
                .iter()
                .map(|(by, last)| Peer {
                    contact: Contact {
                        endpoint: Endpoint {
                            ip: [if last % 4 == 0 { 127 } else { 192 }, 0, 2, *last].into(),
                            port: 80,
                        },
                        inbound: false,
                        connections: 1,
                        traffic: Traffic::default(),
                    },
                    process: process(*by),
                })
                .collect();
            incident.findings = found.iter().map(|(by, at)| finding(*by, path(*at))).collect();
            if let Some(first) = incident.objects.first() {
                let what = Action::QuarantineFile { path: first.path.clone(), expected: VersionId(1) };
                incident.actions = vec![record(1, what, Decision::Ask)];
            }
            incident
        },
    )
}

fn finding(by: u32, path: HostPath) -> FindingSummary {
    FindingSummary {
        id: FindingId(1),
        time: Timestamp(0),
        analytic: String::new(),
        technique: String::new(),
        title: String::new(),
        confidence: Confidence::High,
        paths: vec![path],
        process: process(by),
    }
}

fn record(id: u64, action: Action, decision: Decision) -> ActionRecord {
    let verdict = Verdict { decision, reasons: Vec::new() };
    ActionRecord {
        id: ActionId(id),
        action,
        verdict,
        outcome: None,
        decided: Timestamp(0),
        settled: None,
        answer_by: None,
        approved_by: Vec::new(),
    }
}

/// Somebody came by itself: then nobody knows who was first.
fn is_circular(incident: &Incident) -> bool {
    let subject = |key: ProcessKey| incident.subjects.iter().find(|subject| subject.process == key);
    let above = |subject: &Subject| {
        let file = incident.objects.iter().find(|object| Some(&object.path) == subject.through.as_ref());
        file.map_or(subject.by, |object| object.by)
    };
    let ends = |first: &Subject| {
        let mut next = Some(first);
        for _ in 0..=incident.subjects.len() {
            let Some(at) = next else { return true };
            next = subject(above(at));
        }
        false
    };
    !incident.subjects.iter().all(ends)
}

/// What must not be missed, found the slow way: by name.
fn critical(incident: &Incident) -> BTreeSet<String> {
    let asked: BTreeSet<&HostPath> = incident.actions.iter().flat_map(|record| record.action.paths()).collect();
    let found: BTreeSet<&HostPath> = incident.findings.iter().flat_map(|finding| &finding.paths).collect();
    let mut critical: BTreeSet<String> =
        incident.findings.iter().map(|finding| format!("process {}", finding.process.pid)).collect();
    let known = |key: &ProcessKey| incident.subjects.iter().any(|subject| subject.process == *key);
    critical.retain(|name| incident.subjects.iter().any(|subject| *name == format!("process {}", subject.process.pid)));
    let mut above: Vec<ProcessKey> =
        incident.findings.iter().map(|finding| finding.process).filter(|process| known(process)).collect();
    for object in &incident.objects {
        above.push(object.by);
        if asked.contains(&object.path) || found.contains(&object.path) || is_foothold(&object.path) {
            critical.insert(format!("file {}", object.path));
        }
    }
    for (at, peer) in incident.contacts.iter().enumerate() {
        if !peer.contact.endpoint.ip.is_loopback() {
            above.push(peer.process);
            critical.insert(format!("peer {at}"));
        }
    }
    for secret in &incident.secrets {
        above.push(secret.process);
        critical.insert(format!("secret {}", secret.path));
    }
    // Whoever wrote, read, called or did what was found, and who started these.
    let mut done = BTreeSet::new();
    while let Some(key) = above.pop() {
        let Some(subject) = incident.subjects.iter().find(|subject| subject.process == key) else { continue };
        critical.insert(format!("process {}", key.pid));
        if done.insert(key)
            && subject.through.as_ref().is_none_or(|path| incident.objects.iter().all(|object| object.path != *path))
        {
            above.push(subject.by);
        }
        if let Some(object) = incident.objects.iter().find(|object| Some(&object.path) == subject.through.as_ref()) {
            critical.insert(format!("file {}", object.path));
        }
    }
    critical
}

/// The same names of what has a node; peers by their place, since two may be alike.
fn drawn(incident: &Incident, picture: &Picture) -> BTreeSet<String> {
    let mut peers: Vec<bool> = vec![false; incident.contacts.len()];
    let mut names = BTreeSet::new();
    for node in &picture.nodes {
        match &node.what {
            Shown::Process { process, .. } => drop(names.insert(format!("process {}", process.pid))),
            Shown::File { path, .. } => drop(names.insert(format!("file {path}"))),
            Shown::Secret { path } => drop(names.insert(format!("secret {path}"))),
            Shown::Peer { endpoint, .. } => {
                let same = |(at, peer): &(usize, &Peer)| !peers[*at] && peer.contact.endpoint == *endpoint;
                let (at, _) = incident.contacts.iter().enumerate().find(same).unwrap();
                peers[at] = true;
                names.insert(format!("peer {at}"));
            }
            Shown::Root { .. } | Shown::Folded { .. } => {}
        }
    }
    names
}

fn counted(picture: &Picture) -> [u64; 4] {
    let mut all = [0; 4];
    let mut add = |counts: [u64; 4]| all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    let of = |tally: &Tally| [tally.processes, tally.files, tally.secrets, tally.peers];
    for node in &picture.nodes {
        add(match &node.what {
            Shown::Root { .. } => [0; 4],
            Shown::Process { .. } => [1, 0, 0, 0],
            Shown::File { .. } => [0, 1, 0, 0],
            Shown::Secret { .. } => [0, 0, 1, 0],
            Shown::Peer { .. } => [0, 0, 0, 1],
            Shown::Folded { tally, .. } => of(tally),
        });
    }
    add(of(&picture.left_out));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_picture_has_at_most_sixty_nodes_and_misses_nothing_critical(incident in any_incident()) {
        let picture = Picture::of(&incident);
        prop_assert!(picture.nodes.len() <= NODES_MAX, "{}", picture.nodes.len());
        let has_root = matches!(picture.nodes[0].what, Shown::Root { .. });
        prop_assert!(has_root);

        let (critical, drawn) = (critical(&incident), drawn(&incident, &picture));
        if critical.len() < NODES_MAX && !is_circular(&incident) {
            let missing: Vec<&String> = critical.difference(&drawn).collect();
            prop_assert!(missing.is_empty(), "{missing:?}");
        }

        let sizes = [&incident.subjects.len(), &incident.objects.len(), &incident.secrets.len(), &incident.contacts.len()];
        prop_assert_eq!(counted(&picture), sizes.map(|size| *size as u64));

        // Each node but the root has one edge from a node before it: so all are joined with the root.
        prop_assert_eq!(picture.edges.len() + 1, picture.nodes.len());
        for (at, edge) in picture.edges.iter().enumerate() {
            prop_assert!(edge.to == at + 1 && edge.from < edge.to);
        }
        for node in &picture.nodes {
            prop_assert!(node.findings.iter().all(|at| *at < incident.findings.len()));
        }
        prop_assert_eq!(&picture, &Picture::of(&incident));
    }
}

#[test]
fn of_very_many_critical_ones_some_of_each_kind_are_shown() {
    let mut incident = incident(
        (0..500).map(|pid| subject(pid, pid.saturating_sub(1), None)).collect(),
        (0..2_000).map(|at| object(HostPath::from(format!("/etc/cron.d/{at}").as_str()), at % 500)).collect(),
    );
    incident.findings = (0..100).map(|pid| finding(pid * 5, "/nowhere".into())).collect();
    incident.secrets = (0..64)
        .map(|at| Secret {
            path: HostPath::from(format!("/root/{at}.key").as_str()),
            process: process(at),
            time: Timestamp(1),
        })
        .collect();
    let picture = Picture::of(&incident);
    assert!(picture.nodes.len() <= NODES_MAX);
    let names = drawn(&incident, &picture);
    for kind in ["process", "file", "secret"] {
        let count = names.iter().filter(|name| name.starts_with(kind)).count();
        assert!(count >= 10, "{kind}: {count}");
    }
    assert_eq!(counted(&picture), [500, 2_000, 64, 0]);
}

#[test]
fn files_are_folded_by_directory_with_what_became_of_them() {
    let mut paths: Vec<HostPath> =
        (0..3_000).map(|at| HostPath::from(format!("/home/alice/papers/{}/{at}", at % 40).as_str())).collect();
    paths.push("/etc/cron.d/x".into());
    let mut incident =
        incident(vec![subject(10, 1, None)], paths.iter().map(|path| object(path.clone(), 10)).collect());
    let quarantine = |at: usize| Action::QuarantineFile { path: paths[at].clone(), expected: VersionId(1) };
    let done = |at: usize, mut record: ActionRecord| {
        record.outcome = (at != 0).then_some(crate::action::Outcome::Success);
        record
    };
    incident.actions = (0..50).map(|at| done(at, record(at as u64, quarantine(at), Decision::Ask))).collect();
    let picture = Picture::of(&incident);
    let names: Vec<String> = drawn(&incident, &picture).into_iter().collect();
    assert_eq!(names, ["file /etc/cron.d/x", "file /home/alice/papers/0/0", "process 10"], "{:#?}", picture.nodes);
    let Shown::Folded { tally, below } = &picture.nodes.last().unwrap().what else { panic!("no fold is last") };
    assert_eq!((tally.files, tally.settled, tally.waiting), (2_999, 49, 0));
    assert_eq!(below.as_ref().map(ToString::to_string).as_deref(), Some("/home/alice/papers"));
}

#[test]
fn what_the_attack_wrote_and_ran_stands_between_writer_and_process() {
    let path = HostPath::from("/usr/local/bin/x");
    let incident = incident(vec![subject(10, 1, None), subject(20, 10, Some(path.clone()))], vec![object(path, 10)]);
    let picture = Picture::of(&incident);
    let links: Vec<(usize, Link)> = picture.edges.iter().map(|edge| (edge.from, edge.link)).collect();
    assert_eq!(links, [(0, Link::Started), (1, Link::Created), (2, Link::Started)]);
}

#[test]
fn a_later_action_has_the_last_word_but_for_one_that_found_nothing_to_do() {
    use crate::action::Outcome;
    let path = HostPath::from("/etc/cron.d/x");
    let state = |outcomes: &[Option<Outcome>]| {
        let mut incident = incident(vec![subject(10, 1, None)], vec![object(path.clone(), 10)]);
        for (at, outcome) in outcomes.iter().enumerate() {
            let what = Action::QuarantineFile { path: path.clone(), expected: VersionId(1) };
            incident.actions.push(ActionRecord { outcome: outcome.clone(), ..record(at as u64, what, Decision::Deny) });
        }
        Picture::of(&incident).nodes[2].state
    };
    assert_eq!(state(&[]), State::Left);
    assert_eq!(state(&[Some(Outcome::Success), Some(Outcome::DoesNotExist)]), State::Quarantined);
    assert_eq!(state(&[Some(Outcome::Success), Some(Outcome::Undone)]), State::Undone(ActionId(1)));
    assert_eq!(state(&[Some(Outcome::Failed("x".into())), Some(Outcome::Success)]), State::Quarantined);
    assert_eq!(state(&[Some(Outcome::Success), None]), State::Refused(ActionId(1)));
}
