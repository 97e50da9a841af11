// SPDX-License-Identifier: Apache-2.0
//! What readers see of an incident, however large it is, and the picture of it.

use super::*;
use crate::diagnose::FINDINGS_MAX;
use crate::engine::view::{VIEW_OBJECTS_MAX, VIEW_SUBJECTS_MAX};
use crate::incident::{Link, Picture, Shown};

/// What stands at each end of each edge, in words.
fn edges(incident: &Incident) -> Vec<String> {
    let picture = Picture::of(incident);
    let name = |at: usize| match &picture.nodes[at].what {
        Shown::Root { .. } => "root".to_owned(),
        Shown::Process { process, .. } => process.pid.to_string(),
        Shown::File { path, .. } | Shown::Secret { path } => path.to_string(),
        Shown::Peer { endpoint, .. } => endpoint.ip.to_string(),
        Shown::Folded { tally, .. } => format!("{} more files", tally.files),
    };
    picture.edges.iter().map(|edge| format!("{} {:?} {}", name(edge.from), edge.link, name(edge.to))).collect()
}

#[test]
fn a_picture_leads_from_the_root_to_what_the_attack_wrote_and_on_to_what_ran_by_it() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    let line = world.write(shell, "/etc/cron.d/job");
    let cron = world.fork(world.cron);
    let origin = Origin { path: HostPath::from("/etc/cron.d/job"), version: line };
    world.exec_of(cron, &["/bin/sh"], Some(origin), None);
    let mut child = ProcessKey::default();
    world.run(cron, &["/usr/bin/curl"], |world, curl| {
        child = curl;
        world.talk(curl, false, (9, 443), Traffic { sent: 1, received: 1 });
        world.write(curl, "/etc/passwd");
        world.read(curl, "/etc/shadow");
    });
    world.find(shell, "foothold/cron", Confidence::High);
    world.settle();
    let edges = edges(&only(&world));
    let has = |edge: String| assert!(edges.contains(&edge), "no `{edge}` in {edges:#?}");
    let by = |from: ProcessKey, link: Link, to: &str| format!("{} {link:?} {to}", from.pid);
    has(by(shell, Link::Created, "/etc/cron.d/job"));
    has(format!("/etc/cron.d/job Started {}", cron.pid));
    has(by(cron, Link::Started, &child.pid.to_string()));
    has(by(child, Link::Changed, "/etc/passwd"));
    has(by(child, Link::Read, "/etc/shadow"));
    has(by(child, Link::Talked, "192.0.2.9"));
}

#[test]
fn of_an_incident_larger_than_a_view_what_a_person_must_see_is_shown() {
    let mut world = World::new(Mode::Observe);
    let shell = world.login(ALICE, None);
    for at in 0..VIEW_OBJECTS_MAX + 100 {
        world.create(shell, &format!("/etc/a/{at}"), FileKind::Regular);
    }
    for _ in 0..VIEW_SUBJECTS_MAX + 50 {
        world.run(shell, &["/bin/sh"], |_, _| {});
    }
    let mut last = shell;
    world.run(shell, &["/bin/sh"], |world, key| {
        last = key;
        // More than there is room for findings: no finding names the last one.
        for at in 0..=FINDINGS_MAX {
            world.write(key, &format!("/usr/lib/systemd/system/x{at}.service"));
        }
    });
    world.find(shell, "foothold/unit", Confidence::High);
    world.settle();
    let incident = only(&world);
    assert_eq!((incident.objects.len(), incident.subjects.len()), (VIEW_OBJECTS_MAX, VIEW_SUBJECTS_MAX));
    let unit = HostPath::from(format!("/usr/lib/systemd/system/x{FINDINGS_MAX}.service").as_str());
    assert!(incident.findings.iter().all(|finding| !finding.paths.contains(&unit)));
    assert!(
        incident.objects.iter().any(|object| object.path == unit && object.by == last),
        "late by name, but it matters"
    );
    assert!(incident.subjects.iter().any(|subject| subject.process == last), "the latest by number, and it wrote it");
}

#[test]
fn what_is_made_and_taken_away_again_is_remembered_nowhere() {
    let mut world = World::new(Mode::Autonomous);
    let shell = world.login(ALICE, None);
    world.find(shell, "foothold/cron", Confidence::High);
    for at in 0..50 {
        let path = format!("/etc/cron.d/{at}");
        world.create(shell, &path, FileKind::Regular);
        world.remove(shell, &path);
    }
    world.settle();
    let case = world.engine.cases.values().next().unwrap();
    let forgotten: Vec<_> = case.footholds.iter().filter(|path| !case.objects.contains_key(path)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}
