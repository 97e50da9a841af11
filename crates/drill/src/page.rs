// SPDX-License-Identifier: Apache-2.0
//! A summary as one page that needs nothing else: no script, no font, no picture from elsewhere.

use crate::summary::{Cell, Rate, Summary, TACTICS, Times};
use std::fmt::Write;

/// The page's own style; colours keep their contrast in both schemes.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--line:#ccc;--good:#1b7f4b;--some:#b07a00;--bad:#b3261e;--none:#777}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--paper:#161616;--line:#444;--good:#4fc48a;--some:#e0b04c;--bad:#f2877f;--none:#999}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}\
td.n{white-space:nowrap;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}svg{max-width:none}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}\
details{margin:1rem 0}summary{cursor:pointer;font-weight:600}";

/// The whole page. `changes`: what is otherwise than in an earlier run.
#[must_use]
pub fn page(summary: &Summary, changes: &[(String, String, String)]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Drill report</title>\n<style>{STYLE}</style>\n<h1>Drill report</h1>\n"
    );
    figures(&mut page, summary);
    page += "<h2>Techniques</h2>\n<p>Of each technique of MITRE ATT&amp;CK: how many runs were detected, of how many, and below, \
             of how many with an effect that lasts nothing is left. Grey: none could be run.</p>\n<div class=\"wide\">";
    matrix(&mut page, &summary.matrix);
    page += "</div>\n";
    list(&mut page, "Missed, or left", ["run", "what is wrong"], &summary.missed, true);
    if !changes.is_empty() {
        page += "<h2>Otherwise than before</h2>\n<table><tr><th>run<th>it was<th>it is\n";
        for (what, was, now) in changes {
            let _ = writeln!(page, "<tr><td>{}<td>{}<td>{}", plain(what), plain(was), plain(now));
        }
        page += "</table>\n";
    }
    let refused: Vec<(String, String)> =
        summary.refused.iter().map(|(why, count)| (count.to_string(), why.clone())).collect();
    list(&mut page, "Not done by itself", ["times", "action, and why"], &refused, false);
    list(&mut page, "Not applicable", ["run", "why"], &summary.not_applicable, false);
    page += "<p>Rates come with the Wilson 95 % interval. MITRE ATT&amp;CK is a trademark of The MITRE Corporation; names of \
             techniques © 2025 The MITRE Corporation, reproduced with its permission.</p>\n";
    page
}

fn figures(page: &mut String, summary: &Summary) {
    let rates: [(&str, &Rate); 9] = [
        ("Attacks that could be run", &summary.attacks),
        ("Detected", &summary.detected),
        ("Detected, of those with an effect that lasts", &summary.lasting_detected),
        ("Of these, restored exactly with nothing left", &summary.lasting_restored),
        ("Objects of detected attacks restored exactly", &summary.objects_restored),
        ("Failures healed that nobody meant", &summary.failures_healed),
        ("Other people's changes that are gone", &summary.lost),
        ("Runs without an attack in which something was done", &summary.disturbed),
        ("Events lost", &summary.events_lost),
    ];
    *page += "<table>\n";
    for (what, rate) in rates {
        let _ = writeln!(page, "<tr><th>{what}<td class=\"n\">{rate}");
    }
    let _ = writeln!(page, "<tr><th>Other people's processes that were harmed<td class=\"n\">{}", summary.harmed);
    let times: [(&str, &Times); 3] = [
        ("From the first step until found", &summary.detect),
        ("From there until contained", &summary.contain),
        ("From there until healed", &summary.heal),
    ];
    for (what, times) in times {
        let _ = writeln!(page, "<tr><th>{what}<td class=\"n\">{times}");
    }
    *page += "</table>\n";
}

/// Size of a technique's box, and of the gap to the next, in pixels.
const BOX: (usize, usize) = (190, 44);
const GAP: usize = 6;

/// A column a tactic, a box a technique.
fn matrix(page: &mut String, cells: &[Cell]) {
    let columns: Vec<(&str, Vec<&Cell>)> = TACTICS
        .iter()
        .map(|tactic| (*tactic, cells.iter().filter(|cell| cell.tactic == *tactic).collect::<Vec<_>>()))
        .filter(|(_, cells)| !cells.is_empty())
        .collect();
    let height = columns.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0) * (BOX.1 + GAP) + 30;
    let width = columns.len() * (BOX.0 + GAP);
    let _ = write!(
        page,
        "<svg role=\"img\" aria-label=\"techniques by tactic\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    );
    for (column, (tactic, cells)) in columns.iter().enumerate() {
        let x = column * (BOX.0 + GAP);
        let _ = write!(page, "<text x=\"{x}\" y=\"16\" font-weight=\"600\">{}</text>", tactic.replace('-', " "));
        for (row, cell) in cells.iter().enumerate() {
            let y = 26 + row * (BOX.1 + GAP);
            let colour = match (cell.runs, cell.detected) {
                (0, _) => "none",
                (runs, detected) if runs == detected => "good",
                (_, 0) => "bad",
                _ => "some",
            };
            let name: String = cell.name.chars().take(26).collect();
            let lasting = if cell.lasting > 0 {
                format!(", restored {} of {}", cell.restored, cell.lasting)
            } else {
                String::new()
            };
            let said = match cell.runs {
                0 => format!("not applicable ({})", cell.not_applicable),
                runs => format!("{} of {runs}{lasting}", cell.detected),
            };
            let _ = write!(
                page,
                "<g><title>{id} {full}: detected {said}</title><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"4\" \
                 fill=\"none\" stroke=\"var(--{colour})\" stroke-width=\"2\"/><text x=\"{tx}\" y=\"{ty}\">{id} {name}</text>\
                 <text x=\"{tx}\" y=\"{ty2}\">{said}</text></g>",
                id = plain(&cell.technique),
                full = plain(&cell.name),
                name = plain(&name),
                w = BOX.0,
                h = BOX.1,
                tx = x + 8,
                ty = y + 18,
                ty2 = y + 35,
            );
        }
    }
    *page += "</svg>";
}

fn list(page: &mut String, title: &str, head: [&str; 2], rows: &[(String, String)], open: bool) {
    if rows.is_empty() {
        return;
    }
    let open = if open { " open" } else { "" };
    let _ = writeln!(
        page,
        "<details{open}><summary>{title} ({})</summary>\n<table><tr><th>{}<th>{}",
        rows.len(),
        head[0],
        head[1]
    );
    for (what, how) in rows {
        let _ = writeln!(page, "<tr><td>{}<td>{}", plain(what), plain(how));
    }
    *page += "</table></details>\n";
}

/// What a test is called, or said, as text and nothing else.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => plain += "&amp;",
            '<' => plain += "&lt;",
            '>' => plain += "&gt;",
            '"' => plain += "&quot;",
            control if control.is_control() => plain.push(' '),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_what_a_test_says_stays_text() {
        let cell = Cell {
            technique: "T1053.003".to_owned(),
            name: "Cron <b>".to_owned(),
            tactic: "execution".to_owned(),
            runs: 2,
            detected: 1,
            ..Cell::default()
        };
        let summary = Summary {
            matrix: vec![cell],
            missed: vec![("<script>alert(1)</script>".to_owned(), "\u{1b}[2J & more".to_owned())],
            ..Summary::default()
        };
        let page = page(&summary, &[("a".to_owned(), "healed".to_owned(), "<i>".to_owned())]);
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains(" [2J &amp; more"), "{page}");
        assert!(page.contains("T1053.003 Cron &lt;b&gt;") && page.contains("1 of 2"), "{page}");
        for elsewhere in ["<script", "http:", "https:", "src=", "@import", "\u{1b}"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
