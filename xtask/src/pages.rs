// SPDX-License-Identifier: Apache-2.0
//! Pages made from doc comments, so that there is no second text to forget.
//!
//! Input: `src/config.rs` and the detectors' files. Output: Markdown. A detector without its four headings has no page:
//! that is an error.

use anyhow::{Context, bail, ensure};
use std::path::Path;

/// What every detector's doc comment says, in this order.
const HEADINGS: [&str; 4] = ["# What it finds", "# Why it matters", "# Blind spots", "# False positives"];

/// Each generated page: its path in the repository and its text.
pub(crate) fn all(root: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let config = read(root, "src/config.rs")?;
    Ok(vec![("docs/config.md", configuration(&config)?), ("docs/detectors.md", detectors(root)?)])
}

fn read(root: &Path, path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read `{path}`"))
}

/// The doc comment (without its markers) that ends right above line `at`, over attributes.
fn comment(lines: &[&str], at: usize) -> Vec<String> {
    let mut found = Vec::new();
    for line in lines[..at].iter().rev().map(|line| line.trim()) {
        if let Some(text) = line.strip_prefix("///") {
            found.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
        } else if !line.starts_with("#[") || !found.is_empty() {
            break;
        }
    }
    found.reverse();
    found
}

/// `docs/config.md`: a section a struct that has fields, a paragraph a key.
fn configuration(source: &str) -> anyhow::Result<String> {
    let lines: Vec<&str> = source.lines().collect();
    let mut page = String::from(
        "# Configuration\n\n<!-- Made by `cargo xtask generate` from src/config.rs. -->\n\n\
         `/etc/thymus/thymus.toml`, or the file that `--config` names. Every key may be left out. Unknown keys are refused.\n\
         `thymus config check` says what is wrong and where; `thymus config --effective` prints every setting that is in effect.\n\
         A broken file never stops the agent: the last good one stays in use, and `thymus doctor` says so.\n",
    );
    let mut open = false;
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("pub(crate) struct ") && line.ends_with(" {") {
            let about = comment(&lines, at);
            open = about.first().is_some_and(|first| first.starts_with('`') || first.starts_with("Keys"));
            let Some(first) = about.first().filter(|_| open) else { continue };
            let (title, rest) = first.split_once(": ").unwrap_or((first.trim_end_matches('.'), ""));
            page += &format!("\n## {title}\n");
            let words =
                std::iter::once(rest.to_owned()).chain(about[1..].iter().cloned()).collect::<Vec<_>>().join(" ");
            if !words.trim().is_empty() {
                page += &format!("\n{}\n", capital(words.trim()));
            }
        } else if *line == "}" {
            open = false;
        } else if let Some((name, _)) =
            line.trim().strip_prefix("pub(crate) ").and_then(|field| field.split_once(": ")).filter(|_| open)
        {
            let about = comment(&lines, at);
            // A key without words is a section with a heading of its own.
            if !about.is_empty() {
                page += &format!("\n**`{name}`** {}\n", about.join(" "));
            }
        }
    }
    ensure!(page.matches("\n**`").count() >= 10, "src/config.rs is not in the form that this reads");
    Ok(page)
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

/// `docs/detectors.md`: a section a detector, in the order of the list in `detect.rs`.
fn detectors(root: &Path) -> anyhow::Result<String> {
    const LIST: &str = "crates/engine/src/detect.rs";
    let source = read(root, LIST)?;
    let mut page = String::from(
        "# Detectors\n\n<!-- Made by `cargo xtask generate` from the detectors' doc comments. -->\n\n\
         Each finding names its detector. One finding of high confidence confirms an incident, and so do two of medium\n\
         confidence from different detectors on one root; low confidence is shown and never acted upon by itself.\n",
    );
    let list = source.split_once("\ndetectors! {").map(|(_, rest)| rest.split_once("\n}").unwrap_or((rest, "")).0);
    for entry in list.unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (module, name) = entry
            .trim_end_matches(',')
            .split_once(": ")
            .and_then(|(_, place)| place.split_once("::"))
            .with_context(|| format!("`{entry}` in {LIST}: expected `field: module::Name,`"))?;
        let path = format!("crates/engine/src/detect/{module}.rs");
        page += &detector(&read(root, &path)?, name).with_context(|| format!("`{path}`"))?;
    }
    page += &failures(&read(root, "crates/engine/src/ailment/kind.rs")?)?;
    Ok(page)
}

/// What is found although nobody attacks: a section a kind of failure.
fn failures(source: &str) -> anyhow::Result<String> {
    let mut page = String::from(
        "\n# Failures\n\nWhat the probes find although nobody attacks. Each is certain by itself; what may be done about it is in\n\
         `policies/services.cedar`.\n",
    );
    let lines: Vec<&str> = source.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("    ").and_then(|line| line.strip_suffix(',')) else { continue };
        if !name.chars().all(char::is_alphanumeric) {
            continue;
        }
        let analytic = source.split_once(&format!("Self::{name} => \"")).and_then(|(_, rest)| rest.split('"').next());
        let analytic = analytic.with_context(|| format!("the kind of failure `{name}` has no name"))?;
        page += &format!("\n## {analytic}\n{}\n", sections(&comment(&lines, at), name)?);
    }
    Ok(page)
}

/// A doc comment with the four headings as Markdown.
fn sections(about: &[String], name: &str) -> anyhow::Result<String> {
    let found: Vec<&str> = about.iter().map(String::as_str).filter(|line| line.starts_with("# ")).collect();
    if found != HEADINGS {
        bail!("the doc comment of `{name}` has the headings {found:?}, expected {HEADINGS:?}");
    }
    let text =
        about.iter().map(|line| line.strip_prefix("# ").map_or_else(|| line.clone(), |head| format!("\n**{head}**\n")));
    Ok(text.collect::<Vec<String>>().join("\n"))
}

fn detector(source: &str, name: &str) -> anyhow::Result<String> {
    let lines: Vec<&str> = source.lines().collect();
    let opens = |line: &str| {
        line.split_once("struct ").is_some_and(|(before, after)| {
            before.starts_with("pub") && after.split(|c: char| !c.is_alphanumeric()).next() == Some(name)
        })
    };
    let at = lines.iter().position(|line| opens(line)).with_context(|| format!("has no `pub struct {name}`"))?;
    let about = comment(&lines, at);
    let quoted = |key: &str| {
        let rest = source.split_once("META")?.1.split_once(key)?.1;
        rest.split('"').nth(1)
    };
    let analytic = quoted("name:").with_context(|| format!("`{name}` has no `META` with a name"))?;
    let technique = quoted("technique:").with_context(|| format!("`{name}` has no `META` with a technique"))?;
    let text = sections(&about, name)?;
    let link = format!("https://attack.mitre.org/techniques/{}/", technique.replace('.', "/"));
    Ok(format!("\n## {analytic}\n\nATT&CK [{technique}]({link})\n{text}\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const GOOD: &str = "/// # What it finds\n/// A.\n/// # Why it matters\n/// B.\n/// # Blind spots\n/// C.\n\
                        /// # False positives\n/// D.\n#[derive(Debug)]\npub(super) struct Key;\n\
                        const META: Meta = Meta { name: \"foothold/key\", technique: \"T1098.004\" };\n";

    #[test]
    fn a_detectors_comment_becomes_its_page() {
        let page = detector(GOOD, "Key").unwrap();
        assert!(page.contains("## foothold/key"), "{page}");
        assert!(page.contains("techniques/T1098/004/"), "{page}");
        assert!(page.contains("**Blind spots**\n\nC."), "{page}");
    }

    #[test]
    fn a_detector_without_its_blind_spots_is_refused() {
        let error = detector(&GOOD.replace("# Blind spots", "# Notes"), "Key").unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
    }

    #[test]
    fn pages_are_up_to_date() {
        for (path, text) in all(crate::root()).unwrap() {
            let found = std::fs::read_to_string(crate::root().join(path)).unwrap_or_default();
            assert!(found == text, "`{path}` is not what the code says: run `cargo xtask generate`");
        }
    }
}
