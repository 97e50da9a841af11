// SPDX-License-Identifier: Apache-2.0
//! A tree from left to right. Kinds differ by shape and word, what became of them by word and colour.
//!
//! Input: a picture. Output: an SVG 1.1 document with no script, no link and no font of its own, light or dark as the
//! reader's screen is, the same bytes for the same picture. Text is cut to its node; `<title>` has all of it.

use super::{FINDINGS_MAX, Words, lines, link, not_drawn, show, stage_name};
use std::fmt::Write;
use thymus_control::view::Told;
use thymus_engine::incident::{Node, Picture, Shown, State};

const WIDTH: usize = 252;
const GAP_ACROSS: usize = 52;
const GAP_DOWN: usize = 14;
const LINE: usize = 17;
/// Radius of an edge's turns.
const TURN: usize = 10;
const MARGIN: usize = 28;
/// Edges meet a node so far below its top, whatever its height: neighbours are joined by straight lines.
const DOOR: usize = 32;
/// Above the first node.
const HEAD: usize = 106;
/// Characters of the fixed-width font that a node is wide, of the other one, and of the head's lines.
const NAME_CHARACTERS: usize = 30;
const WORDS_CHARACTERS: usize = 38;
/// Of the root, in lines of the other font.
const ROOT_CHARACTERS: usize = 70;
const HEAD_CHARACTERS: usize = 96;

const STYLE: &str = "
svg { font-family: system-ui, 'DejaVu Sans', sans-serif; font-size: 11.5px }
text { fill: #20242c } .page { fill: #ffffff } .h { font-size: 20px; font-weight: 600 }
.m, .m text { fill: #5b6470 } .n { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: 12px }
.b { fill: #f6f7f9; stroke: #8a94a3; stroke-width: 1.2 } .e { fill: none; stroke: #b3bac5; stroke-width: 1.4 }
.process .b { fill: #eef4fc; stroke: #4f7fc0 } .root .b { fill: #20242c; stroke: #20242c }
.root text { fill: #ffffff } .secret .b { fill: #fff7e3; stroke: #b98a1d } .remote .b { fill: #f6effb; stroke: #8a5cb8 }
.ok { fill: #1c7a3e; font-weight: 600 } .ask { fill: #a85a00; font-weight: 600 } .bad { fill: #b3261e; font-weight: 600 }
.root .ok, .root .ask, .root .bad { fill: #ffffff } .f { fill: #b3261e }
@media (prefers-color-scheme: dark) {
text { fill: #e4e7ec } .page { fill: #14171c } .m, .m text { fill: #9aa4b2 }
.b { fill: #1e232b; stroke: #6b7686 } .e { stroke: #465061 }
.process .b { fill: #1a2738; stroke: #6d9fe0 } .root .b { fill: #e4e7ec; stroke: #e4e7ec }
.root text, .root .ok, .root .ask, .root .bad { fill: #14171c } .secret .b { fill: #2d2614; stroke: #d3a640 }
.remote .b { fill: #28203a; stroke: #b48ae0 } .ok { fill: #6fd08c } .ask { fill: #f0a95a } .bad, .f { fill: #ff8a80 }
}
";

pub(in crate::cli) fn svg(told: &Told, picture: &Picture) -> String {
    let incident = &told.incident;
    let places = places(picture);
    let right = places.iter().map(|place| place.x + WIDTH).max().unwrap_or(0);
    let bottom = places.iter().map(|place| place.y + place.height).max().unwrap_or(HEAD);
    let left_out = not_drawn(picture);
    let (width, height) = ((right + MARGIN).max(760), bottom + 86 + if left_out.is_some() { 22 } else { 0 });
    let title = format!("Incident {}: {}", incident.id, stage_name(incident.stage));
    let id = format!("thymus-{}", incident.id);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n<title id=\"{id}-title\">{title}</title>\n\
         <desc id=\"{id}-desc\">\n{}</desc>\n<style>{STYLE}</style>\n",
        escaped(&lines(told, picture))
    );
    // Nothing that a node says leaves its node, whatever font the reader has.
    let tallest = places.iter().map(|place| place.height).max().unwrap_or(0).max(LINE);
    out += &format!(
        "<clipPath id=\"{id}-node\"><rect x=\"8\" y=\"0\" width=\"{}\" height=\"{tallest}\"/></clipPath>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n",
        WIDTH - 16
    );
    head(&mut out, told, &title);
    out += "<g class=\"e\">\n";
    for edge in &picture.edges {
        let (from, to) = (&places[edge.from], &places[edge.to]);
        let (x, y, end, target) = (from.x + WIDTH, from.door(), to.x, to.door());
        let half = x + GAP_ACROSS / 2;
        out += &if target == y {
            format!("<path d=\"M{x} {y}H{end}\"/>\n")
        } else {
            let (before, after, down, up) = (half - TURN, half + TURN, y + TURN, target - TURN);
            format!(
                "<path d=\"M{x} {y}H{before}Q{half} {y} {half} {down}V{up}Q{half} {target} {after} {target}H{end}\"/>\n"
            )
        };
    }
    out += "</g>\n";
    for (at, (node, place)) in picture.nodes.iter().zip(&places).enumerate() {
        draw(&mut out, told, picture, (at, node, place), &id);
    }
    legend(&mut out, bottom + 36);
    if let Some(left_out) = left_out {
        out += &format!("<text class=\"m\" x=\"{MARGIN}\" y=\"{}\">{}</text>\n", bottom + 92, escaped(&left_out));
    }
    out + "</svg>\n"
}

fn head(out: &mut String, told: &Told, title: &str) {
    let incident = &told.incident;
    let mut times = format!("opened {} UTC", show::date(incident.opened, told.boot_to_unix_ns));
    for (name, time) in
        [("contained", incident.contained), ("restored", incident.restored), ("healed", incident.healed)]
    {
        if let Some(time) = time {
            times += &format!(", {name} {} later", show::span(time.since_ns(incident.opened)));
        }
    }
    let why = show::short(&incident.why, HEAD_CHARACTERS);
    for (y, class, text) in [(44, "h", title), (66, "", why.as_str()), (84, "m", times.as_str())] {
        *out += &format!("<text class=\"{class}\" x=\"{MARGIN}\" y=\"{y}\">{}</text>\n", escaped(text));
    }
}

fn draw(out: &mut String, told: &Told, picture: &Picture, (at, node, place): (usize, &Node, &Place), id: &str) {
    let words = Words::of(node);
    let came = at.checked_sub(1).and_then(|edge| picture.edges.get(edge));
    let came = came.map_or("", |edge| link(edge.link, node));
    let found: Vec<String> = node
        .findings
        .iter()
        .filter_map(|at| told.incident.findings.get(*at))
        .take(FINDINGS_MAX)
        .map(|finding| show::plain(&finding.title))
        .collect();
    let mut hover = words.name.clone();
    for more in [&words.detail, &words.state].into_iter().chain(&found).filter(|more| !more.is_empty()) {
        hover += &format!("\n{more}");
    }
    *out += &format!(
        "<g class=\"{}\" transform=\"translate({} {})\">\n<title>{}</title>\n{}<g clip-path=\"url(#{id}-node)\">\n",
        words.kind,
        place.x,
        place.y,
        escaped(&hover),
        shape(&node.what, place.height),
    );
    let kind = [words.kind, &words.detail].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
    let mut y = 20;
    *out += &format!("<text class=\"m\" x=\"16\" y=\"{y}\">{}</text>\n", escaped(&kind));
    if !came.is_empty() && !matches!(node.what, Shown::Folded { .. }) {
        let did = came.strip_suffix(" by").unwrap_or(came);
        *out += &format!("<text class=\"m\" x=\"{}\" y=\"{y}\" text-anchor=\"end\">{did}</text>\n", WIDTH - 16);
    }
    for (class, text) in rows(node, &words, &found) {
        y += LINE;
        *out += &format!("<text class=\"{class}\" x=\"16\" y=\"{y}\">{}</text>\n", escaped(&unstacked(&text)));
    }
    *out += "</g>\n</g>\n";
}

/// The lines below a node's first, each with its class.
fn rows(node: &Node, words: &Words, found: &[String]) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    match &node.what {
        Shown::Root { .. } => {
            let title = show::wrap(&show::middle(&words.name, ROOT_CHARACTERS), 0, WORDS_CHARACTERS);
            rows.extend(title.lines().map(|line| ("t", show::middle(line, WORDS_CHARACTERS))));
        }
        Shown::Folded { tally, below } => {
            rows.push(("t", show::middle(&format!("and {} more", super::of(tally)), WORDS_CHARACTERS)));
            if let Some(below) = below {
                rows.push(("n", show::middle(&format!("below {}", show::plain(&below.to_string())), NAME_CHARACTERS)));
            }
        }
        Shown::Process { .. } | Shown::File { .. } | Shown::Secret { .. } | Shown::Peer { .. } => {
            rows.push(("n", show::middle(&words.name, NAME_CHARACTERS)));
        }
    }
    if !words.state.is_empty() {
        let mood = match node.state {
            State::Asked(_) | State::Shown => "ask",
            State::Refused(_) | State::Failed(_) | State::Undone(_) | State::Alive => "bad",
            state if state.settled() => "ok",
            _ => "m",
        };
        rows.push((mood, show::middle(&words.state, WORDS_CHARACTERS)));
    }
    if let Some(first) = found.first() {
        let more = if node.findings.len() > 1 { format!(" (+{})", node.findings.len() - 1) } else { String::new() };
        let title = show::short(first, WORDS_CHARACTERS - 2 - more.len());
        rows.push(("f", format!("! {title}{more}")));
    }
    rows
}

/// Accents that pile up would be drawn over the neighbours: shown as what they are.
fn unstacked(text: &str) -> String {
    let piles = |character: char| {
        matches!(character, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
    };
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if piles(character) {
            // INVARIANT: writing to a `String` cannot fail.
            let _ = write!(plain, "\\u{{{:x}}}", u32::from(character));
        } else {
            plain.push(character);
        }
    }
    plain
}

/// The outline of a node: one for each kind.
fn shape(what: &Shown, height: usize) -> String {
    let (w, h) = (WIDTH, height);
    match what {
        Shown::Root { .. } => format!("<rect class=\"b\" width=\"{w}\" height=\"{h}\" rx=\"{}\"/>\n", (h / 2).min(26)),
        Shown::Process { .. } => format!("<rect class=\"b\" width=\"{w}\" height=\"{h}\" rx=\"10\"/>\n"),
        Shown::File { .. } => {
            let fold = w - 12;
            format!("<path class=\"b\" d=\"M0 0H{fold}L{w} 12V{h}H0Z\"/>\n<path class=\"e\" d=\"M{fold} 0V12H{w}\"/>\n")
        }
        Shown::Secret { .. } => {
            let (iw, ih) = (w - 6, h - 6);
            format!(
                "<rect class=\"b\" width=\"{w}\" height=\"{h}\"/>\n\
                 <rect class=\"b\" x=\"3\" y=\"3\" width=\"{iw}\" height=\"{ih}\"/>\n"
            )
        }
        Shown::Peer { .. } => {
            let (m, r) = (h / 2, w - 10);
            format!("<path class=\"b\" d=\"M10 0H{r}L{w} {m}L{r} {h}H10L0 {m}Z\"/>\n")
        }
        Shown::Folded { .. } => format!(
            "<rect class=\"b\" x=\"6\" y=\"6\" width=\"{w}\" height=\"{h}\"/>\n\
             <rect class=\"b\" x=\"3\" y=\"3\" width=\"{w}\" height=\"{h}\"/>\n\
             <rect class=\"b\" width=\"{w}\" height=\"{h}\"/>\n"
        ),
    }
}

/// What each shape stands for.
fn legend(out: &mut String, y: usize) {
    let samples = [
        ("process", "process", "<rect class=\"b\" width=\"26\" height=\"16\" rx=\"6\"/>"),
        ("file", "file", "<path class=\"b\" d=\"M0 0H20L26 6V16H0Z\"/>"),
        (
            "secret",
            "secret",
            "<rect class=\"b\" width=\"26\" height=\"16\"/><rect class=\"b\" x=\"3\" y=\"3\" width=\"20\" height=\"10\"/>",
        ),
        ("remote", "remote host", "<path class=\"b\" d=\"M5 0H21L26 8L21 16H5L0 8Z\"/>"),
        (
            "several",
            "several as one",
            "<rect class=\"b\" x=\"4\" y=\"4\" width=\"24\" height=\"13\"/><rect class=\"b\" width=\"24\" height=\"13\"/>",
        ),
    ];
    for ((class, word, sample), x) in samples.iter().zip((MARGIN..).step_by(132)) {
        *out += &format!(
            "<g class=\"{class}\" transform=\"translate({x} {y})\">{sample}<text class=\"m\" x=\"34\" y=\"12\">{word}</text></g>\n"
        );
    }
}

/// Where a node is.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    x: usize,
    y: usize,
    height: usize,
}

impl Place {
    /// Where its edges meet it.
    const fn door(&self) -> usize {
        self.y + DOOR
    }
}

/// One column a step from the root. A node stands beside the first that came by it, so the way to the latest process is a
/// line along the top; nothing overlaps, since each subtree has a stripe of its own.
fn places(picture: &Picture) -> Vec<Place> {
    let count = picture.nodes.len();
    let mut places = vec![Place::default(); count];
    for (at, (place, node)) in places.iter_mut().zip(&picture.nodes).enumerate() {
        let found: Vec<String> = node.findings.iter().take(1).map(|_| String::new()).collect();
        let words = Words::of(node);
        place.height = (30 + LINE * rows(node, &words, &found).len()).max(2 * DOOR);
        place.x = match at.checked_sub(1) {
            None => MARGIN,
            Some(_) => 0,
        };
    }
    // INVARIANT: an edge leads from an earlier node to a later one (`Picture`).
    for edge in &picture.edges {
        places[edge.to].x = places[edge.from].x + WIDTH + GAP_ACROSS;
    }
    let mut stripes: Vec<usize> = vec![0; count];
    let mut inner: Vec<usize> = vec![0; count];
    for at in (0..count).rev() {
        stripes[at] = places[at].height.max(inner[at]);
        if let Some(edge) = at.checked_sub(1).map(|edge| picture.edges[edge]) {
            let gap = if inner[edge.from] == 0 { 0 } else { GAP_DOWN };
            inner[edge.from] += stripes[at] + gap;
        }
    }
    let mut next: Vec<usize> = vec![0; count];
    for at in 0..count {
        let top = match at.checked_sub(1).map(|edge| picture.edges[edge].from) {
            None => HEAD,
            Some(from) => {
                let top = next[from];
                next[from] = top + stripes[at] + GAP_DOWN;
                top
            }
        };
        (places[at].y, next[at]) = (top, top);
    }
    places
}

/// As text of XML 1.0. `show::plain` has taken out what no XML may have.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&apos;",
            _ => safe.push(character),
        }
    }
    safe
}
