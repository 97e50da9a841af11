// SPDX-License-Identifier: Apache-2.0
//! Many files at once: what makes them unreadable or takes them away, and what only looks so.
use super::*;
use crate::event::{Content, Form, Shape};

const NAMES: [&str; 8] = ["a.txt", "b.docx", "c.jpg", "d.sqlite", "e.pdf", "f.csv", "g.html", "h.md"];

/// `count` paths of many endings, spread over these directories.
fn files(directories: &[&str], count: usize) -> Vec<String> {
    let path = |at: usize| {
        format!("{}/{at}-{}", directories[at % directories.len()], NAMES[at / directories.len() % NAMES.len()])
    };
    (0..count).map(path).collect()
}

fn shape(form: Form) -> Shape {
    let entropy = if matches!(form, Form::Opaque | Form::Sealed | Form::Packed) { 7_950 } else { 4_300 };
    Shape { form, entropy, size: if form == Form::Empty { 0 } else { 20_000 } }
}

fn content(pid: u32, path: &str, before: Option<Form>, after: Form) -> Activity {
    let (before, after) = (before.map(shape), shape(after));
    Activity::Content(Content { actor: key(pid), path: path.into(), version: VersionId(9), uid: ALICE, before, after })
}

fn removed(pid: u32, path: &str) -> Activity {
    let change = Change { before: VersionId(3), created: false, after: VersionId(4), removed: true };
    Activity::File(FileActivity {
        change: Some(change),
        mode: None,
        ..on_file(FileActivityId::Delete, pid, path, ALICE)
    })
}

fn in_place(pid: u32, paths: &[String]) -> Vec<Activity> {
    paths.iter().map(|path| content(pid, path, Some(Form::Document), Form::Opaque)).collect()
}

fn copies(pid: u32, paths: &[String], form: Form) -> Vec<Activity> {
    paths.iter().flat_map(|path| [content(pid, &format!("{path}.xyzzy"), None, form), removed(pid, path)]).collect()
}

const HOMES: [&str; 3] = ["/home/alice/documents", "/home/bob/pictures", "/srv/shop/orders"];

fn first(analytic: &str, confidence: Confidence) -> Vec<(String, Confidence)> {
    vec![(analytic.to_owned(), confidence)]
}

#[test]
fn a_few_files_of_several_kinds_that_lose_their_form_are_enough() {
    let world = World::new();
    for pid in [INTRUDER, USER, UNIT, NGINX] {
        let deeds = in_place(pid, &files(&HOMES, 6));
        assert_eq!(found(&world, &deeds[..2]), [], "{pid}");
        assert_eq!(found(&world, &deeds[..5]), first("impact/encryption", Confidence::Medium), "{pid}");
        assert_eq!(found(&world, &deeds).last(), first("impact/encryption", Confidence::High).last(), "{pid}");
    }
}

#[test]
fn encrypted_copies_count_when_their_originals_go_in_either_order() {
    let world = World::new();
    let mut deeds = copies(INTRUDER, &files(&HOMES, 6), Form::Opaque);
    assert_eq!(found(&world, &deeds).last(), first("impact/encryption", Confidence::High).last());
    deeds.reverse();
    assert_eq!(found(&world, &deeds).last(), first("impact/encryption", Confidence::High).last());
    let renamed: Vec<Activity> = files(&HOMES, 6)
        .iter()
        .flat_map(|path| {
            [
                content(INTRUDER, &format!("{}locked", &path[..path.len() - 3]), None, Form::Opaque),
                removed(INTRUDER, path),
            ]
        })
        .collect();
    assert_eq!(found(&world, &renamed).last(), first("impact/encryption", Confidence::High).last());
}

#[test]
fn a_note_in_many_directories_makes_fewer_files_enough() {
    let world = World::new();
    let folders: Vec<String> = (0..4).map(|at| format!("/home/alice/{at}/READ_ME.txt")).collect();
    let note = |path: &String| Activity::File(on_file(FileActivityId::Create, INTRUDER, path, ALICE));
    let mut deeds = in_place(INTRUDER, &files(&HOMES, 1));
    deeds.extend(folders.iter().map(note));
    deeds.extend(in_place(INTRUDER, &files(&HOMES, 4)));
    assert_eq!(found(&world, &deeds).last(), first("impact/encryption", Confidence::High).last());
    let without = in_place(INTRUDER, &files(&HOMES, 4));
    assert_eq!(found(&world, &without), first("impact/encryption", Confidence::Medium));
}

#[test]
fn administrators_are_shown_and_change_windows_and_package_scripts_are_silent() {
    let world = World::new();
    for (pid, wanted) in [(ADMIN, first("impact/encryption", Confidence::Low)), (DPKG, Vec::new())] {
        let deeds = in_place(pid, &files(&HOMES, 40));
        let found = found(&world, &deeds);
        assert_eq!(found.iter().take(1).cloned().collect::<Vec<_>>(), wanted, "{pid}");
        assert!(found.iter().all(|(_, confidence)| *confidence == Confidence::Low), "{pid}");
        let wiped: Vec<Activity> = files(&HOMES, 60).iter().map(|path| removed(pid, path)).collect();
        assert!(super::found(&world, &wiped).iter().all(|(_, confidence)| *confidence == Confidence::Low), "{pid}");
    }
}

#[test]
fn a_user_who_seals_the_own_files_is_not_acted_upon() {
    let mut world = World::new();
    let own = files(&["/home/alice/private", "/home/alice/private/letters"], 40);
    // gpg(1), age(1): contents that say what they are, originals removed.
    let sealed = copies(USER, &own, Form::Sealed);
    assert!(found(&world, &sealed).iter().all(|(_, confidence)| *confidence == Confidence::Low));
    // ccrypt(1): in place, and says nothing.
    world.add(30, USER, "/usr/bin/ccrypt", (ALICE, ALICE), (InvocationKind::Session, Some(ALICE)));
    let opaque = in_place(30, &own);
    assert!(found(&world, &opaque).iter().all(|(_, confidence)| *confidence == Confidence::Low));
    // The same program as root over everybody's files is no user's wish.
    world.add(31, INTRUDER, "/usr/bin/ccrypt", (ROOT, ROOT), (InvocationKind::Session, Some(ALICE)));
    assert_eq!(
        found(&world, &in_place(31, &files(&HOMES, 6))).last(),
        first("impact/encryption", Confidence::High).last()
    );
}

#[test]
fn archives_pictures_databases_and_repositories_of_backups_are_no_encryption() {
    let world = World::new();
    // tar(1) and rm(1); convert(1); VACUUM: contents keep a form, so nothing of them is even told but the removals.
    let own = files(&["/home/alice/photos"], 300);
    let archived: Vec<Activity> = own.iter().map(|path| removed(USER, path)).collect();
    assert_eq!(found(&world, &archived), []);
    // A repository of backups that is pruned: opaque packs come, and others go.
    let pack = |at: usize| format!("/srv/backup/repo/data/{:02x}/{:032x}", at % 256, at.wrapping_mul(0x9e37_79b9_7f4a));
    let pruned: Vec<Activity> = (0..200)
        .flat_map(|at| [content(UNIT, &pack(at), None, Form::Opaque), removed(UNIT, &pack(at + 1_000))])
        .collect();
    assert!(found(&world, &pruned).iter().all(|(_, confidence)| *confidence < Confidence::High));
    // A key file, a random seed, a token: one file written again and again.
    let seed: Vec<Activity> =
        (0..100).map(|_| content(UNIT, "/var/lib/systemd/random-seed", Some(Form::Opaque), Form::Opaque)).collect();
    assert_eq!(found(&world, &seed), []);
}

#[test]
fn files_of_many_that_are_removed_are_destruction_and_a_users_clean_up_is_none() {
    let world = World::new();
    let everybodys: Vec<Activity> = files(&HOMES, 24).iter().map(|path| removed(INTRUDER, path)).collect();
    assert_eq!(found(&world, &everybodys)[..1], first("impact/destruction", Confidence::High));
    let own: Vec<Activity> = files(&["/home/alice/project/src", "/home/alice/project/doc"], 400)
        .iter()
        .map(|path| removed(USER, path))
        .collect();
    assert_eq!(found(&world, &own), []);
    let by_itself: Vec<Activity> = files(&HOMES, 60).iter().map(|path| removed(UNIT, path)).collect();
    assert!(found(&world, &by_itself).iter().all(|(_, confidence)| *confidence <= Confidence::Medium));
}

#[test]
fn contents_that_are_thrown_away_under_their_names_are_destruction() {
    let world = World::new();
    for after in [Form::Empty, Form::Blank] {
        let emptied: Vec<Activity> =
            files(&HOMES, 12).iter().map(|path| content(INTRUDER, path, Some(Form::Text), after)).collect();
        let found = found(&world, &emptied);
        assert_eq!(found[..1], first("impact/destruction", Confidence::High), "{after:?}");
    }
    let logs: Vec<Activity> =
        (0..30).map(|at| content(UNIT, &format!("/var/log/app/{at}.log"), Some(Form::Text), Form::Empty)).collect();
    assert_eq!(found(&world, &logs), []);
}

#[test]
fn a_decoy_that_is_written_confirms_and_one_that_only_goes_does_not() {
    let world = World::new();
    let configuration = Configuration { decoys: vec!["/home/alice/.invoices.xlsx".into()], ..configuration() };
    let context = Context { configuration: &configuration, change_window: false };
    let look = |pid, activity| {
        let mut out = Vec::new();
        let told = Activity::File(on_file(activity, pid, "/home/alice/.invoices.xlsx", ALICE));
        Detectors::default().observe(&event(told), &world, &context, &mut out);
        out.into_iter().map(|finding| finding.confidence).next()
    };
    assert_eq!(look(INTRUDER, FileActivityId::Update), Some(Confidence::High));
    assert_eq!(look(INTRUDER, FileActivityId::Truncate), Some(Confidence::High));
    assert_eq!(look(USER, FileActivityId::Delete), Some(Confidence::Low));
    assert_eq!(look(USER, FileActivityId::SetAttributes), None);
    assert_eq!(look(ADMIN, FileActivityId::Update), Some(Confidence::Low));
    assert_eq!(look(DPKG, FileActivityId::Update), None);
    // gzip(1) and gunzip(1) over everything: the user's own program makes it anew.
    let mut detectors = Detectors::default();
    let mut out = Vec::new();
    for activity in [FileActivityId::Delete, FileActivityId::Create, FileActivityId::Update] {
        let told = Activity::File(on_file(activity, USER, "/home/alice/.invoices.xlsx", ALICE));
        detectors.observe(&event(told), &world, &context, &mut out);
    }
    assert!(out.iter().all(|finding| finding.confidence == Confidence::Low), "{out:?}");
}

#[test]
fn removing_backups_is_seen_from_nobody_who_may() {
    let world = World::new();
    let command = |pid, words: &[&str]| {
        let process =
            Process { cmd_line: words.iter().map(|word| (*word).to_owned()).collect(), ..exec(pid, "/usr/bin/btrfs") };
        ran(&world, process)
    };
    assert_eq!(
        command(INTRUDER, &["btrfs", "subvolume", "delete", "/s"]),
        first("impact/backup-removal", Confidence::Medium)
    );
    assert_eq!(command(INTRUDER, &["btrfs", "subvolume", "list", "/s"]), []);
    assert_eq!(command(ADMIN, &["btrfs", "subvolume", "delete", "/s"]), []);
    let gone: Vec<Activity> = files(&["/var/backups/db"], 5).iter().map(|path| removed(INTRUDER, path)).collect();
    assert_eq!(found(&world, &gone), first("impact/backup-removal", Confidence::Medium));
}
