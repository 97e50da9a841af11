// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

fn others(content: &str) -> Version<'_> {
    Version { content: Some(content.as_bytes()), attack: false }
}

fn attack(content: &str) -> Version<'_> {
    Version { content: Some(content.as_bytes()), attack: true }
}

fn gone(attack: bool) -> Version<'static> {
    Version { content: None, attack }
}

fn undone(base: Option<&str>, later: &[Version<'_>]) -> Option<String> {
    match merge(base.map(str::as_bytes), later) {
        Merged::Merged { content, .. } => content.map(|bytes| String::from_utf8(bytes).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn refused(base: &str, later: &[Version<'_>]) -> bool {
    matches!(merge(Some(base.as_bytes()), later), Merged::Conflict(_))
}

#[test]
fn without_an_attack_the_newest_stays() {
    assert_eq!(undone(Some("a\n"), &[others("b\n"), others("c")]).as_deref(), Some("c"));
    assert_eq!(undone(Some("a\n"), &[]).as_deref(), Some("a\n"));
    assert_eq!(undone(Some("a\n"), &[gone(false)]), None);
}

#[test]
fn with_nothing_but_the_attack_the_base_returns_to_the_byte() {
    for base in [None, Some(""), Some("a"), Some("a\r\nb\n\n"), Some("\0\u{1}")] {
        assert_eq!(undone(base, &[attack("x\0\n"), gone(true), attack("y")]).as_deref(), base);
    }
}

#[test]
fn two_who_append_are_kept_apart_in_either_order() {
    let base = Some("root ssh-ed25519 A\n");
    let evil_first = [attack("root ssh-ed25519 A\nevil\n"), others("root ssh-ed25519 A\nevil\nops\n")];
    assert_eq!(undone(base, &evil_first).as_deref(), Some("root ssh-ed25519 A\nops\n"));
    let ops_first = [others("root ssh-ed25519 A\nops\n"), attack("root ssh-ed25519 A\nops\nevil\n")];
    assert_eq!(undone(base, &ops_first).as_deref(), Some("root ssh-ed25519 A\nops\n"));
    let both = [
        attack("A\nevil\n"),
        others("A\nevil\nops\n"),
        attack("A\nevil\nops\nevil2\n"),
        others("A\nevil\nops\nevil2\nops2\n"),
    ];
    assert_eq!(undone(Some("A\n"), &both).as_deref(), Some("A\nops\nops2\n"));
}

#[test]
fn a_missing_last_newline_does_not_join_lines() {
    assert_eq!(undone(Some("a"), &[attack("a\nevil\n"), others("a\nevil\nops\n")]).as_deref(), Some("a\nops\n"));
    assert_eq!(undone(Some("a"), &[attack("a\nevil\n"), others("a\nevil\nops")]).as_deref(), Some("a\nops"));
    let then_left = [attack("a\nevil\n"), others("a\nevil\nops\n"), others("a\nevil\n")];
    assert_eq!(undone(Some("a"), &then_left).as_deref(), Some("a"));
}

#[test]
fn a_line_that_the_attack_replaced_comes_back_beside_anothers_change() {
    let later = [attack("PermitRootLogin yes\nPort 22\n"), others("PermitRootLogin yes\nPort 2222\n")];
    assert_eq!(
        undone(Some("PermitRootLogin no\nPort 22\n"), &later).as_deref(),
        Some("PermitRootLogin no\nPort 2222\n")
    );
}

#[test]
fn a_change_made_to_the_attacks_own_line_is_shown_not_guessed() {
    assert!(refused("a\n", &[attack("a\nevil 1\n"), others("a\nevil 2\n")]));
    assert!(refused("a\nb\n", &[attack("a\nevil\n"), others("a\nmine\n")]));
}

#[test]
fn others_may_delete_the_attacks_lines() {
    let later = [attack("a\nevil\nb\n"), others("a\nb\nmine\n")];
    assert_eq!(undone(Some("a\nb\n"), &later).as_deref(), Some("a\nb\nmine\n"));
}

#[test]
fn what_somebody_put_back_is_not_there_twice() {
    assert_eq!(undone(Some("a\nb\nc\n"), &[attack("a\nc\n"), others("a\nb\nc\n")]).as_deref(), Some("a\nb\nc\n"));
    assert_eq!(undone(Some("a\nb\nc\n"), &[attack("a\n"), others("a\nb\nmine\n")]).as_deref(), Some("a\nb\nc\nmine\n"));
    assert_eq!(
        undone(Some("a\nb\n"), &[attack("x\ny\n"), others("a\nb\n"), others("a\nb\nc\n")]).as_deref(),
        Some("a\nb\nc\n")
    );
}

#[test]
fn a_file_that_the_attack_deleted_returns_with_what_others_wrote_since() {
    assert_eq!(undone(Some("a\nb\n"), &[gone(true)]).as_deref(), Some("a\nb\n"));
    assert_eq!(undone(Some("a\nb\n"), &[gone(true), others("mine\n")]).as_deref(), Some("a\nb\nmine\n"));
}

#[test]
fn a_file_that_others_deleted_stays_away() {
    assert_eq!(undone(Some("a\n"), &[attack("a\nevil\n"), gone(false)]), None);
    assert_eq!(undone(Some("a\n"), &[attack("evil\n"), gone(false), attack("again\n")]), None);
}

#[test]
fn a_file_that_the_attack_created_goes_unless_others_wrote_in_it() {
    assert_eq!(undone(None, &[attack("evil\n"), others("evil\n")]), None);
    assert_eq!(undone(None, &[attack("evil\n"), others("evil\nmine\n")]).as_deref(), Some("mine\n"));
}

#[test]
fn bytes_that_are_not_text_are_shown_when_others_changed_them_too() {
    let later = [Version { content: Some(b"\0a"), attack: true }, Version { content: Some(b"\0ab"), attack: false }];
    assert_eq!(merge(Some(b"\0"), &later), Merged::Binary);
    let latin = [
        Version { content: Some(b"\xff\nevil\n"), attack: true },
        Version { content: Some(b"\xff\nevil\n\xfe\n"), attack: false },
    ];
    let Merged::Merged { content, kept, removed } = merge(Some(b"\xff\n"), &latin) else { panic!() };
    assert_eq!((content.as_deref(), kept, removed), (Some(&b"\xff\n\xfe\n"[..]), 1, 1));
}

#[test]
fn what_the_attack_undid_itself_leaves_even_binary_files_alone() {
    let chain = [
        Version { content: Some(b"\0a"), attack: true },
        Version { content: Some(b"\0"), attack: true },
        Version { content: Some(b"\0b"), attack: false },
    ];
    let Merged::Merged { content, .. } = merge(Some(b"\0"), &chain) else { panic!() };
    assert_eq!(content.as_deref(), Some(&b"\0b"[..]));
}

#[test]
fn too_much_is_refused_with_the_limit() {
    let large = "x\n".repeat(LINES_MAX + 1);
    let Merged::Conflict(why) = merge(Some(b""), &[attack("evil\n"), others(&large)]) else { panic!() };
    assert!(why.contains("65536"), "{why}");
    let many = vec![others(""); VERSIONS_MAX + 1];
    assert!(refused("", &many));
}

#[test]
fn lines_of_the_attack_that_come_back_are_told_from_everybody_elses() {
    let base = Some(&b"alpha = 1\nfi\n"[..]);
    let chain =
        [attack("alpha = 1\nevil = listener\nfi\n}\n"), others("alpha = 1\nevil = listener\nfi\n}\nmine = here\n")];
    let back = |now: &str| -> Vec<String> {
        let lines = returned(base, &chain, now.as_bytes());
        lines.into_iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    };
    assert_eq!(back("alpha = 1\nevil = listener\nfi\n}\nmine = here\nnew = one\n"), ["evil = listener"]);
    assert_eq!(back("evil = listener\nevil = listener"), ["evil = listener"], "each once, with or without its ending");
    let clean: [&str; 5] = ["", "}\n", "alpha = 1\nfi\nmine = here\n", "alpha = 2\n}\n", "evil = listener = other\n"];
    for now in clean {
        assert_eq!(back(now), Vec::<String>::new(), "{now:?}");
    }
    // What others had too says nothing.
    let shared = [others("alpha = 1\nshared = line\nfi\n"), attack("alpha = 1\nfi\nshared = line\n")];
    assert_eq!(returned(base, &shared, b"shared = line\n"), Vec::<&[u8]>::new());
}

#[test]
fn bytes_that_are_not_text_are_back_when_they_are_the_same_to_the_byte() {
    let bad = b"\0\x7fELF a program";
    let chain = [Version { content: Some(bad), attack: true }];
    assert_eq!(returned(Some(b"\0good program"), &chain, bad), [bad]);
    assert!(returned(Some(b"\0good program"), &chain, b"\0\x7fELF another").is_empty());
    assert!(returned(Some(bad), &chain, bad).is_empty(), "it was so before");
    assert!(returned(None, &[gone(true), Version { content: Some(b""), attack: true }], b"").is_empty());
}

#[test]
fn blame_names_the_version_that_brought_a_line() {
    let later = [Some(&b"a\nb\n"[..]), Some(b"a\nb\nc\n"), None, Some(b"a\nc")];
    assert_eq!(blame(Some(b"a\n"), &later[..2], b"a"), Some(0));
    assert_eq!(blame(Some(b"a\n"), &later[..2], b"b"), Some(1));
    assert_eq!(blame(Some(b"a\n"), &later[..2], b"c"), Some(2));
    assert_eq!(blame(Some(b"a\n"), &later, b"c"), Some(4));
    assert_eq!(blame(Some(b"a\n"), &later, b"b"), None);
}

/// One writer's change of a text of lines.
#[derive(Clone, Debug)]
enum Edit {
    Insert { at: usize, count: usize },
    Delete { at: usize },
    Replace { at: usize },
    Empty,
}

fn edits() -> impl Strategy<Value = Vec<(bool, Edit)>> {
    let edit = prop_oneof![
        4 => (any::<usize>(), 1..4usize).prop_map(|(at, count)| Edit::Insert { at, count }),
        2 => any::<usize>().prop_map(|at| Edit::Delete { at }),
        2 => any::<usize>().prop_map(|at| Edit::Replace { at }),
        1 => Just(Edit::Empty),
    ];
    proptest::collection::vec((any::<bool>(), edit), 0..14)
}

fn apply(lines: &mut Vec<String>, edit: &Edit, fresh: &mut usize, owner: &str) {
    let mut line = || {
        *fresh += 1;
        format!("{owner}{fresh}")
    };
    match edit {
        Edit::Insert { at, count } => {
            let at = at % (lines.len() + 1);
            let new: Vec<String> = (0..*count).map(|_| line()).collect();
            lines.splice(at..at, new);
        }
        Edit::Delete { at } if !lines.is_empty() => drop(lines.remove(at % lines.len())),
        Edit::Replace { at } if !lines.is_empty() => {
            let at = at % lines.len();
            lines[at] = line();
        }
        Edit::Empty => lines.clear(),
        Edit::Delete { .. } | Edit::Replace { .. } => {}
    }
}

fn text(parts: &[&[String]]) -> String {
    parts.iter().flat_map(|part| part.iter()).map(|line| format!("{line}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Each has a part of the file; a line that nobody touches lies between.
    #[test]
    fn undoing_disjoint_attack_edits_leaves_exactly_the_others_edits(edits in edits(), attack_first in any::<bool>()) {
        let border = vec!["border".to_owned()];
        let part = |name: &str| (0..4).map(|number| format!("{name}{number}")).collect::<Vec<_>>();
        let (mut theirs, mut ours, mut fresh) = (part("attacked"), part("base"), 100);
        let whole = |theirs: &[String], ours: &[String]| {
            if attack_first { text(&[theirs, &border, ours]) } else { text(&[ours, &border, theirs]) }
        };
        let (base, untouched) = (whole(&theirs, &ours), theirs.clone());
        let mut states = Vec::new();
        for (attack, edit) in &edits {
            if *attack { apply(&mut theirs, edit, &mut fresh, "evil") } else { apply(&mut ours, edit, &mut fresh, "other") }
            states.push((whole(&theirs, &ours), *attack));
        }
        let later: Vec<Version<'_>> =
            states.iter().map(|(state, attack)| Version { content: Some(state.as_bytes()), attack: *attack }).collect();
        prop_assert_eq!(undone(Some(&base), &later), Some(whole(&untouched, &ours)));
    }

    /// Anybody edits anywhere: refused, or nothing of others lost and nothing of the attack kept.
    #[test]
    fn no_line_of_others_is_lost_and_none_of_the_attack_kept(edits in edits()) {
        let mut lines: Vec<String> = (0..5).map(|number| format!("base{number}")).collect();
        let base = text(&[&lines]);
        // What others alone want: their lines and the base's, less what they took out.
        let mut wanted: Vec<String> = lines.clone();
        let (mut fresh, mut states) = (0, Vec::new());
        for (attack, edit) in &edits {
            let before = lines.clone();
            apply(&mut lines, edit, &mut fresh, if *attack { "evil" } else { "other" });
            if !*attack {
                wanted.retain(|line| lines.contains(line) || !before.contains(line));
                wanted.extend(lines.iter().filter(|line| !before.contains(line)).cloned());
            }
            states.push((text(&[&lines]), *attack));
        }
        let later: Vec<Version<'_>> =
            states.iter().map(|(state, attack)| Version { content: Some(state.as_bytes()), attack: *attack }).collect();
        if let Merged::Merged { content, .. } = merge(Some(base.as_bytes()), &later) {
            let content = String::from_utf8(content.unwrap()).unwrap();
            let mut found: Vec<&str> = content.lines().collect();
            let mut wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            found.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn any_chain_of_bytes_gets_an_answer(
        base in proptest::option::of(proptest::collection::vec(0u8..4, 0..40)),
        later in proptest::collection::vec((proptest::option::of(proptest::collection::vec(8u8..12, 0..40)), any::<bool>()), 0..8),
    ) {
        let chain: Vec<Version<'_>> =
            later.iter().map(|(content, attack)| Version { content: content.as_deref(), attack: *attack }).collect();
        if chain.iter().all(|version| version.attack) {
            let exactly = matches!(merge(base.as_deref(), &chain), Merged::Merged { content, .. } if content == base);
            prop_assert!(exactly);
        }
        let others: Vec<Version<'_>> = chain.iter().map(|version| Version { attack: false, ..*version }).collect();
        let newest = others.last().map_or(base.as_deref(), |version| version.content);
        let kept = matches!(merge(base.as_deref(), &others), Merged::Merged { content, .. } if content.as_deref() == newest);
        prop_assert!(kept);
    }
}
