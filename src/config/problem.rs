// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a file, and where: for a person, with the line and a mark below it.
//!
//! Input: a text and a place in it, by bytes or by line and column. Output: words and that line, made harmless.
//! INVARIANT: any place of any text can be shown; no character is split, and none moves the reader's cursor.

use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// What is wrong with a file, where, and what is used instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    pub(crate) place: Option<Place>,
    /// What was found and what was expected.
    pub(crate) message: String,
    /// What is in use instead; empty when nothing is (a mere check).
    pub(crate) instead: String,
}

/// A place in a text file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// Characters meant, at least 1, within the line.
    pub(crate) width: usize,
    /// The line itself.
    pub(crate) text: String,
}

impl Place {
    /// One character of `text`, by its line and column, both from 1.
    pub(crate) fn at(text: &str, line: u32, column: u32) -> Self {
        let (line, column) = (line.max(1) as usize, column.max(1) as usize);
        Self { line, column, width: 1, text: text.lines().nth(line - 1).unwrap_or_default().to_owned() }
    }

    /// The place of a span of bytes of `text`.
    pub(crate) fn of(text: &str, span: std::ops::Range<usize>) -> Self {
        let floor = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (floor(span.start), floor(span.end));
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let count = |from: usize, to: usize| text.get(from..to).map_or(0, |part| part.chars().count());
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: count(begin, start) + 1,
            width: count(start, end.clamp(start, line_end)).max(1),
            text: text[begin..line_end].to_owned(),
        }
    }
}

/// LIMIT: characters of a line that is shown with the place in it; of longer ones the place alone is told.
const EXCERPT_MAX: usize = 240;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = crate::cli::show::plain(&self.path.to_string_lossy());
        let message = crate::cli::show::plain(&self.message);
        match &self.place {
            Some(Place { line, column, width, text }) => {
                let (number, text) = (line.to_string(), crate::cli::show::plain(text));
                write!(f, "{path}:{line}:{column}: {message}")?;
                if text.chars().count() <= EXCERPT_MAX {
                    writeln!(f, "\n  {number} | {text}")?;
                    let (margin, before) = (" ".repeat(number.len()), " ".repeat(column - 1));
                    write!(f, "  {margin} | {before}{}", "^".repeat(*width))?;
                }
            }
            None => write!(f, "{path}: {message}")?,
        }
        if self.instead.is_empty() { Ok(()) } else { write!(f, "\n  in use instead: {}", self.instead) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_and_never_splits_one() {
        let text = "größe = 1\nä";
        assert_eq!(Place::of(text, 0..7), Place { line: 1, column: 1, width: 5, text: "größe = 1".into() });
        assert_eq!(Place::of(text, 3..4).column, 3);
        assert_eq!(Place::of(text, 999..1_000), Place { line: 2, column: 2, width: 1, text: "ä".into() });
    }

    #[test]
    fn an_error_far_along_a_line_is_told_by_its_place_alone() {
        for column in [70_000, 1 << 20, EXCERPT_MAX + 1] {
            let text = "x".repeat(column);
            let place = Some(Place::of(&text, column - 1..column));
            let problem =
                Problem { path: "f".into(), place, message: "expected a number".into(), instead: String::new() };
            assert_eq!(problem.to_string(), format!("f:1:{column}: expected a number"));
        }
    }
}
