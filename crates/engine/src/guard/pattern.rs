// SPDX-License-Identifier: Apache-2.0
//! Texts that tell patterns apart: one for each way in which a path or a unit's name can match some of them and not others.
//!
//! Input: the literals and `like` patterns of policies. Output: the shortest text of each kind. All patterns are followed at
//! once, character by character, so what is found is every kind there is, unless the limit says otherwise.

use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: steps from one place of a pattern to the next. Patterns with many wildcards need more, and then some kinds of text
/// may be missed, which is said. About a second of work.
const STEPS_MAX: usize = 8_000_000;

/// A literal, or what `like` compares with.
pub(super) type Pattern = Vec<Part>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    One(char),
    /// `*`: any text, also none.
    Any,
}

/// What a text must look like to be named by an action at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Absolute, not the root, no empty, `.` or `..` component.
    Path,
    /// A unit's name, with its type.
    Unit,
}

/// How far a text has come towards its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Start,
    Slash,
    Dot,
    DotDot,
    Name,
    /// A unit's name with its dot.
    Dotted,
}

impl Shape {
    /// `None`: no text of this shape goes on so.
    fn next(self, form: Form, next: char) -> Option<Form> {
        match (self, form, next) {
            (Self::Path, Form::Start | Form::Name, '/') => Some(Form::Slash),
            (Self::Path, Form::Start, _) | (Self::Path, _, '/') => None,
            (Self::Path, Form::Slash, '.') => Some(Form::Dot),
            (Self::Path, Form::Dot, '.') => Some(Form::DotDot),
            (Self::Path, ..) => Some(Form::Name),
            (Self::Unit, Form::Start, '-' | '.') => None,
            (Self::Unit, form, _) => {
                let allowed = next.is_ascii_alphanumeric() || ":-_.\\@".contains(next);
                let dotted = form == Form::Dotted || next == '.';
                allowed.then_some(if dotted { Form::Dotted } else { Form::Name })
            }
        }
    }

    const fn accepts(self, form: Form) -> bool {
        match self {
            Self::Path => matches!(form, Form::Name),
            Self::Unit => matches!(form, Form::Dotted),
        }
    }
}

/// Where a text has come to: patterns, by their number, each with the places in it that are reached, in order. A pattern that
/// the text has left is not among them.
type Places = Vec<(usize, usize)>;

/// One text for each kind, the shortest, and whether these are all kinds.
pub(super) fn representatives(patterns: &BTreeSet<Pattern>, shape: Shape) -> (Vec<String>, bool) {
    let patterns: Vec<&Pattern> = patterns.iter().collect();
    let alphabet = alphabet(&patterns);
    let start = (reach(&patterns, (0..patterns.len()).map(|pattern| (pattern, 0))), Form::Start);
    let mut seen: BTreeSet<(Places, Form)> = BTreeSet::from([start.clone()]);
    // Each with the one that it was reached from, and by what.
    let mut states: Vec<((Places, Form), usize, char)> = vec![(start, 0, '\0')];
    let mut kinds: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    let (mut at, mut steps) = (0, 0);
    while at < states.len() && steps < STEPS_MAX {
        let (places, form) = states[at].0.clone();
        if shape.accepts(form) {
            let ended = places.iter().filter(|(pattern, place)| patterns[*pattern].len() == *place);
            kinds.entry(ended.map(|(pattern, _)| *pattern).collect()).or_insert(at);
        }
        for next in &alphabet {
            let Some(form) = shape.next(form, *next) else { continue };
            steps += 1 + places.len();
            let moved = places.iter().filter_map(|(pattern, place)| match patterns[*pattern].get(*place)? {
                Part::Any => Some((*pattern, *place)),
                Part::One(one) => (one == next).then_some((*pattern, place + 1)),
            });
            let state = (reach(&patterns, moved), form);
            if seen.insert(state.clone()) {
                states.push((state, at, *next));
            }
        }
        at += 1;
    }
    let text = |mut at: usize| {
        let mut text: Vec<char> = Vec::new();
        while at > 0 {
            text.push(states[at].2);
            at = states[at].1;
        }
        text.into_iter().rev().collect::<String>()
    };
    (kinds.values().map(|at| text(*at)).collect(), at == states.len())
}

/// Every character of the patterns, what shapes a text, and one that stands for all others.
fn alphabet(patterns: &[&Pattern]) -> Vec<char> {
    let mut known: BTreeSet<char> = BTreeSet::from(['/', '.']);
    known.extend(patterns.iter().copied().flatten().filter_map(|part| match part {
        Part::One(one) => Some(*one),
        Part::Any => None,
    }));
    let other = ('a'..='z').rev().chain('0'..='9').chain('A'..='Z').find(|other| !known.contains(other));
    // The usual letter first, so that examples look usual.
    let usual = Some('x').filter(|usual| !known.contains(usual)).or(other);
    usual.into_iter().chain(known).collect()
}

/// A wildcard may stand for nothing: what comes after it is reached too.
fn reach(patterns: &[&Pattern], places: impl Iterator<Item = (usize, usize)>) -> Places {
    let mut reached: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (pattern, mut place) in places {
        reached.insert((pattern, place));
        while patterns[pattern].get(place) == Some(&Part::Any) {
            place += 1;
            reached.insert((pattern, place));
        }
    }
    reached.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.chars().map(|one| if one == '*' { Part::Any } else { Part::One(one) }).collect()
    }

    fn texts(patterns: &[&str], shape: Shape) -> Vec<String> {
        let (mut texts, all) = representatives(&patterns.iter().map(|text| pattern(text)).collect(), shape);
        assert!(all);
        texts.sort();
        texts
    }

    #[test]
    fn there_is_a_text_for_each_way_to_match_some_patterns_and_not_others() {
        assert_eq!(texts(&[], Shape::Path), ["/x"]);
        assert_eq!(texts(&["/a"], Shape::Path), ["/a", "/x"]);
        assert_eq!(texts(&["/a/*", "*.b"], Shape::Path), ["/.b", "/a/.b", "/a/x", "/x"]);
        assert_eq!(texts(&["/a/*", "/a/c/*"], Shape::Path), ["/a/c/x", "/a/x", "/x"]);
        assert_eq!(texts(&["*.service", "a*"], Shape::Unit), ["a.", "a.service", "x.", "x.service"]);
        // What no action can name is no example.
        assert_eq!(texts(&["a", "/", "/a/", "/a/../b", "/a//b"], Shape::Path), ["/x"]);
    }

    #[test]
    fn too_many_wildcards_are_said_to_be_too_many() {
        let patterns: BTreeSet<Pattern> = ('a'..='p').map(|one| pattern(&format!("*{one}*{one}*{one}*"))).collect();
        assert!(!representatives(&patterns, Shape::Path).1);
    }
}
