// SPDX-License-Identifier: Apache-2.0
//! What a machine can check of the house's style, on every file of the repository.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// LIMIT: files of the repository looked at.
const FILES_MAX: usize = 10_000;

/// Every file that is kept in version control, with its text; binary files are left out.
fn files() -> Vec<(String, String)> {
    let list = std::process::Command::new("git").current_dir(crate::root()).args(["ls-files", "-z"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let paths: Vec<&str> = list.split_terminator('\0').collect();
    assert!((50..FILES_MAX).contains(&paths.len()), "found {} files", paths.len());
    let text = |path: &&str| Some(((*path).to_owned(), std::fs::read_to_string(crate::root().join(path)).ok()?));
    paths.iter().filter_map(text).collect()
}

fn is_code(path: &str) -> bool {
    [".rs", ".c", ".h", ".sh", ".py"].iter().any(|ending| path.ends_with(ending)) || path.ends_with("Makefile")
}

/// Fails with every place at once, so that one run is enough.
fn none(what: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{what}:\n  {}", places.join("\n  "));
}

/// Lines that hold one of these words, in files that `of` chooses.
fn lines_with(words: &[String], of: fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| of(path)) {
        for (at, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                places.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    places
}

#[test]
fn every_source_file_names_its_licence() {
    let nameless = |text: &str| !text.lines().take(3).any(|line| line.contains("SPDX-License-Identifier: "));
    let places = files().into_iter().filter(|(path, text)| is_code(path) && nameless(text)).map(|(path, _)| path);
    none("no SPDX line within the first three", places.collect());
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = ["TO", "FIX", "XX"].into_iter().zip(["DO", "ME", "X:"]).map(|(one, two)| format!("{one}{two}"));
    let macros = ["to", "unimple"].into_iter().zip(["do!(", "mented!("]).map(|(one, two)| format!("{one}{two}"));
    none("left for later", lines_with(&words.chain(macros).collect::<Vec<_>>(), is_code));
}

#[test]
fn no_path_of_a_build_machine_is_in_the_tree() {
    let words =
        ["/wor", "/tmp/t", "/root/.car"].into_iter().zip(["k/", "h/", "go"]).map(|(one, two)| format!("{one}{two}"));
    none("a path of a build machine", lines_with(&words.collect::<Vec<_>>(), |_| true));
}

#[test]
fn every_locked_package_comes_from_the_public_registry_or_from_here() {
    let lock = std::fs::read_to_string(crate::root().join("Cargo.lock")).unwrap();
    let public = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let other = lock.lines().filter(|line| line.starts_with("source = ") && *line != public).map(str::to_owned);
    none("a package from elsewhere", other.collect());
}

#[test]
fn every_error_code_has_its_page_and_every_page_its_code() {
    let codes: BTreeSet<String> = files()
        .iter()
        .filter(|(path, _)| path.starts_with("src/") && path.ends_with(".rs"))
        .flat_map(|(_, text)| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| word.len() == 5 && word.starts_with('E') && word[1..].bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    let page = |path: &str| path.strip_prefix("docs/errors/")?.strip_suffix(".md").map(str::to_owned);
    let pages: BTreeSet<String> = files().iter().filter_map(|(path, _)| page(path)).collect();
    assert!(!codes.is_empty());
    none("codes and pages differ", codes.symmetric_difference(&pages).cloned().collect());
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut places = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| path.ends_with(".md")) {
        let beside = Path::new(path).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let outside = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
            let target: PathBuf = crate::root().join(beside).join(link);
            if !outside && !target.exists() {
                places.push(format!("{path}: {link}"));
            }
        }
    }
    none("a link leads nowhere", places);
}

#[test]
fn lines_end_where_their_words_end() {
    let of = |path: &str| is_code(path) || path.ends_with(".md") || path.ends_with(".toml") || path.ends_with(".cedar");
    let mut places = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| of(path)) {
        let loose = text.lines().enumerate().filter(|(_, line)| line.ends_with([' ', '\t']));
        places.extend(loose.map(|(at, _)| format!("{path}:{}", at + 1)));
        if !text.ends_with('\n') {
            places.push(format!("{path}: no newline at the end"));
        }
    }
    none("space at the end of a line", places);
}

#[test]
fn every_promise_names_a_test_or_a_constant_that_exists() {
    let files = files();
    let (_, page) = files.iter().find(|(path, _)| path == "SPECIFICATION.md").unwrap();
    let code: String = files.iter().filter(|(path, _)| path.ends_with(".rs")).map(|(_, text)| text.as_str()).collect();
    let mut missing = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let held_by = row.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default();
        for name in held_by.split('`').skip(1).step_by(2) {
            let there = match name.rsplit_once("::") {
                Some((_, constant)) => code.contains(&format!("const {constant}: ")),
                None => name.starts_with("thymus ") || code.contains(&format!("fn {name}(")),
            };
            if !there {
                missing.push(name.to_owned());
            }
        }
    }
    none("named in SPECIFICATION.md and not there", missing);
}
