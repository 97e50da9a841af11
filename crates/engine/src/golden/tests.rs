// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::engine::world::{OPS, World};
use crate::input::Mode;
use proptest::prelude::*;

/// Section, name and fields of one item.
type Given<'a> = (Section, &'a str, &'a [(&'a str, &'a str)]);
/// The same as somebody wants it: nothing, or some fields with any or one value.
type Wanted<'a> = (Section, &'a str, Option<&'a [(&'a str, Option<&'a str>)]>);

fn golden(items: &[Given<'_>]) -> Golden {
    let mut golden = Golden::default();
    for (section, name, fields) in items {
        let state = fields.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect();
        golden.set(&Item::new(*section, *name), Some(&state));
    }
    golden
}

fn declared(items: &[Wanted<'_>]) -> Declared {
    let wish = |fields: &Option<&[(&str, Option<&str>)]>| match fields {
        None => Wish::Absent,
        Some(fields) => Wish::Present(
            fields.iter().map(|(field, value)| ((*field).to_owned(), value.map(ToOwned::to_owned))).collect(),
        ),
    };
    let items = items.iter().map(|(section, name, fields)| (Item::new(*section, *name), wish(fields)));
    Declared { items: items.collect(), complete: BTreeSet::new() }
}

fn drifts(recorded: &Golden, declared: &Declared, present: &Golden) -> Vec<String> {
    let kind = |drift: Drift| format!("{:?} {}", drift.kind, drift.item);
    compare(recorded, declared, present).0.into_iter().map(kind).collect()
}

fn packages(count: usize) -> Golden {
    let mut golden = Golden::default();
    for number in 0..count {
        golden.set(&Item::new(Section::Packages, format!("p{number}")), Some(&State::new()));
    }
    golden
}

fn any_golden() -> impl Strategy<Value = Golden> {
    let word = "[a-c]{1,2}";
    let state = prop::collection::btree_map(word, word, 0..4);
    let items = prop::collection::btree_map(word, state, 0..8);
    prop::collection::btree_map((0..5_usize).prop_map(|at| Section::ALL[at]), items, 0..6).prop_map(Golden)
}

proptest! {
    #[test]
    fn a_state_does_not_differ_from_itself(golden in any_golden()) {
        prop_assert_eq!(compare(&golden, &Declared::default(), &golden), (Vec::new(), 0));
    }

    #[test]
    fn what_was_accepted_differs_no_more(was in any_golden(), is in any_golden()) {
        let mut recorded = was;
        let seen = compare(&recorded, &Declared::default(), &is).0;
        let items = seen.into_iter().map(|drift| (drift.item, drift.found)).collect();
        let refused = accept(&mut recorded, &Declared::default(), &is, &items, true);
        prop_assert_eq!(refused, Vec::<String>::new());
        prop_assert_eq!(compare(&recorded, &Declared::default(), &is), (Vec::new(), 0));
    }

    #[test]
    fn a_drift_names_exactly_the_fields_that_differ(was in any_golden(), is in any_golden()) {
        for drift in compare(&was, &Declared::default(), &is).0 {
            for one in &drift.fields {
                let field = |golden: &Golden| golden.get(&drift.item).and_then(|state| state.get(&one.field).cloned());
                prop_assert_eq!(&one.wanted, &field(&was));
                prop_assert_eq!(&one.found, &field(&is));
                prop_assert!(one.wanted != one.found);
            }
        }
    }
}

#[test]
fn a_section_that_was_not_read_is_no_empty_one() {
    let recorded = golden(&[(Section::Packages, "nginx", &[]), (Section::Accounts, "root", &[])]);
    let present = golden(&[(Section::Accounts, "root", &[])]);
    assert_eq!(drifts(&recorded, &Declared::default(), &present), Vec::<String>::new());
    // Nor has what was never recorded anything to differ from.
    assert_eq!(drifts(&present, &Declared::default(), &recorded), Vec::<String>::new());
}

#[test]
fn an_empty_wanted_state_is_refused_as_when_an_empty_route_table_was_restored() {
    let present = packages(100);
    // A controller on its way out compares wrongly and wants nothing at all.
    assert!(Declared::default().sane(&present).unwrap_err().contains("declares nothing"));
    // Or: the one section it still names is whole, and lost its entries.
    let mut wanted = declared(&[(Section::Settings, "sshd Port", Some(&[]))]);
    wanted.complete.insert(Section::Packages);
    assert!(wanted.sane(&present).unwrap_err().contains("100 of 100 packages unwanted"));
    // Or most of them.
    for number in 0..74 {
        wanted.items.insert(Item::new(Section::Packages, format!("p{number}")), Wish::Present(BTreeMap::new()));
    }
    assert!(wanted.sane(&present).unwrap_err().contains("26 of 100 packages unwanted, expected at most 25 %"));
    wanted.items.insert(Item::new(Section::Packages, "p74"), Wish::Present(BTreeMap::new()));
    assert_eq!(wanted.sane(&present), Ok(()));
    // The same for what is said to be absent one by one.
    let mut wanted = Declared::default();
    for number in 0..26 {
        wanted.items.insert(Item::new(Section::Packages, format!("p{number}")), Wish::Absent);
    }
    assert!(wanted.sane(&present).is_err());
    // And an acceptance of a host that reads as if almost everything were gone.
    let (mut recorded, present) = (packages(100), packages(10));
    let seen = compare(&recorded, &Declared::default(), &present).0;
    let items: Accepted = seen.into_iter().map(|drift| (drift.item, drift.found)).collect();
    let refused = accept(&mut recorded, &Declared::default(), &present, &items, false);
    assert_eq!((refused.len(), &recorded), (90, &packages(100)));
    assert!(refused[0].contains("much of its section is missing"), "{}", refused[0]);
}

#[test]
fn what_is_declared_goes_before_what_was_recorded() {
    let recorded = golden(&[
        (Section::Services, "a.service", &[("enabled", "yes"), ("active", "yes")]),
        (Section::Packages, "ssl", &[("version", "1")]),
        (Section::Accounts, "bob", &[("groups", "sudo"), ("shell", "/bin/sh")]),
        (Section::Listeners, "tcp 127.0.0.1:80", &[("program", "/usr/sbin/nginx")]),
    ]);
    let wanted = declared(&[
        (Section::Services, "a.service", Some(&[("enabled", Some("no"))])),
        (Section::Packages, "ssl", Some(&[("version", None)])),
        (Section::Packages, "telnetd", None),
        (Section::Accounts, "bob", Some(&[("groups", Some(""))])),
        (Section::Listeners, "tcp 127.0.0.1:80", Some(&[("program", Some("nginx"))])),
    ]);
    assert_eq!(drifts(&recorded, &wanted, &recorded), ["Changed service:a.service", "Changed account:bob"]);
    let present = golden(&[
        (Section::Services, "a.service", &[("enabled", "no"), ("active", "no")]),
        (Section::Packages, "ssl", &[("version", "2")]),
        (Section::Packages, "telnetd", &[("version", "2")]),
        (Section::Accounts, "bob", &[("shell", "/bin/sh")]),
        (Section::Listeners, "tcp 127.0.0.1:80", &[("program", "/opt/nginx")]),
    ]);
    // What is not declared of the service, its activity, stays as recorded.
    let found = compare(&recorded, &wanted, &present).0;
    assert_eq!(drifts(&recorded, &wanted, &present), ["Changed service:a.service", "Added package:telnetd"]);
    assert_eq!(found[0].fields.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(), ["active"]);
    assert!(found.iter().all(|drift| drift.declared));
}

#[test]
fn of_a_complete_section_nothing_else_is_wanted() {
    let recorded = golden(&[(Section::Listeners, "tcp 0.0.0.0:22", &[]), (Section::Listeners, "tcp 0.0.0.0:23", &[])]);
    let mut wanted = declared(&[(Section::Listeners, "tcp 0.0.0.0:22", Some(&[]))]);
    assert_eq!(drifts(&recorded, &wanted, &recorded), Vec::<String>::new());
    wanted.complete.insert(Section::Listeners);
    assert_eq!(drifts(&recorded, &wanted, &recorded), ["Added listener:tcp 0.0.0.0:23"]);
}

#[test]
fn only_what_was_seen_is_accepted_and_nothing_that_is_declared() {
    let mut recorded = golden(&[(Section::Accounts, "root", &[("uid", "0")])]);
    let seen: State = [("uid".to_owned(), "5".to_owned())].into();
    let mallory = Item::new(Section::Accounts, "mallory");
    let items: Accepted = [(mallory.clone(), Some(seen.clone()))].into();
    // Meanwhile the account became another one.
    let present =
        golden(&[(Section::Accounts, "root", &[("uid", "0")]), (Section::Accounts, "mallory", &[("uid", "0")])]);
    let refused = accept(&mut recorded, &Declared::default(), &present, &items, true);
    assert!(refused[0].contains("changed since you looked"), "{refused:?}");
    assert_eq!(recorded.get(&mallory), None);
    let mut present = present;
    present.set(&mallory, Some(&seen));
    let wanted = declared(&[(Section::Accounts, "mallory", None)]);
    let refused = accept(&mut recorded, &wanted, &present, &items, true);
    assert!(refused[0].contains("it is declared"), "{refused:?}");
    assert!(accept(&mut recorded, &Declared::default(), &present, &items, true).is_empty());
    assert_eq!(recorded.get(&mallory), Some(&seen));
}

#[test]
fn drifts_beyond_the_limit_are_counted() {
    let (named, omitted) = compare(&packages(0), &Declared::default(), &packages(600));
    assert_eq!((named.len(), omitted), (0, 0), "a section that was never recorded");
    let recorded = golden(&[(Section::Packages, "q", &[])]);
    let (named, omitted) = compare(&recorded, &Declared::default(), &packages(600));
    assert_eq!((named.len() as u64 + omitted, named.len()), (601, DRIFTS_MAX));
}

#[test]
fn an_item_reads_back_from_its_text() {
    for item in ["account:alice", "listener:tcp [::]:22", "setting:sshd PermitRootLogin", "package:libc6:i386"] {
        assert_eq!(Item::try_from(item.to_owned()).unwrap().to_string(), item);
    }
    for wrong in ["", "alice", "accounts:alice", "account:", "user:alice"] {
        assert!(Item::try_from(wrong.to_owned()).unwrap_err().contains("expected service:"), "{wrong}");
    }
}

#[test]
fn who_made_an_account_is_who_wrote_the_list_of_accounts_since_it_was_not_there() {
    let mut world = World::new(Mode::Observe);
    let before = world.login(1001, None);
    world.run(before, &["/usr/bin/chsh"], |world, chsh| {
        world.write(chsh, "/etc/passwd");
    });
    let looked = world.inputs.last().unwrap().0;
    world.tick();
    let ops = world.login(OPS, None);
    world.run(ops, &["/usr/sbin/useradd", "mallory"], |world, add| {
        world.write(add, "/etc/passwd");
    });
    world.run(ops, &["/usr/sbin/usermod", "mallory"], |world, change| {
        world.write(change, "/etc/passwd");
    });
    let present = golden(&[
        (Section::Accounts, "root", &[]),
        (Section::Accounts, "mallory", &[("home", "/home/mallory"), ("uid", "0")]),
    ]);
    let recorded = golden(&[(Section::Accounts, "root", &[])]);
    let drift = compare(&recorded, &Declared::default(), &present).0.remove(0);
    let (graph, boot) = (world.engine.graph(), ops.boot);
    let after = Timestamp(looked.0 + 1);
    let author = author(graph, &drift.behind(), boot, after, true).unwrap();
    assert_eq!(author.program, Some(HostPath::from("/usr/sbin/useradd")));
    assert_eq!((author.uid, author.login), (Some(OPS), Some(OPS)));
    assert_eq!(author.started_by, "login session of uid 1000 from 127.0.0.2");
    assert_eq!(author.path, Some(HostPath::from("/etc/passwd")));
    assert_eq!(author.others, 0, "whoever wrote it since is of the same session");
    // Who changed what is there is the last.
    let last = super::author(graph, &drift.behind(), boot, after, false).unwrap();
    assert_eq!(last.program, Some(HostPath::from("/usr/sbin/usermod")));
    // Nobody is named who wrote before, or in another boot, or another file.
    let later = Timestamp(last.time.0 + 1);
    assert_eq!(super::author(graph, &drift.behind(), boot, later, true), None);
    assert_eq!(super::author(graph, &drift.behind(), BootId(boot.0 + 1), after, true), None);
    assert_eq!(super::author(graph, &[HostPath::from("/etc/group")], boot, after, true), None);
    // Where another session wrote too, that is said.
    let all = super::author(graph, &drift.behind(), boot, Timestamp(0), false).unwrap();
    assert_eq!((all.program, all.others), (last.program, 1));
}

#[test]
fn whose_a_listener_is_and_what_started_it_is_told() {
    let world = World::new(Mode::Observe);
    let owner = owner(world.engine.graph(), world.listener).unwrap();
    assert_eq!(owner.program, Some(HostPath::from("/usr/sbin/sshd")));
    assert!(owner.started_by.contains("ssh.service"), "{}", owner.started_by);
}
