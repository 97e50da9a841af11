// SPDX-License-Identifier: Apache-2.0
//! The line weave (as in SCCS): every line that a path ever had, in one order, each with who brought it and who took it.
//!
//! Reading it with the attack's writing left out gives the state that others alone would have made. INVARIANT: the lines
//! with `gone == false`, in order, are the last written state.

use super::Merged;
use super::diff::matches;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Weave<'a> {
    lines: Vec<Line<'a>>,
    numbers: BTreeMap<&'a [u8], u32>,
    /// As others alone would have left it.
    exists: bool,
    /// As last written.
    existed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    text: &'a [u8],
    number: u32,
    /// Version that brought it; 0 is the base.
    by: usize,
    by_attack: bool,
    /// Not in the last written state.
    gone: bool,
    /// Somebody other than the attack took it out.
    taken: bool,
    /// It ended in a newline when last written, and as others alone would have it.
    newline: bool,
    newline_clean: bool,
}

impl Line<'_> {
    /// In the state that others alone would have made.
    const fn is_clean(&self) -> bool {
        !self.by_attack && !self.taken
    }
}

/// A line of the version being written.
#[derive(Clone, Copy, Debug)]
struct Written<'a> {
    text: &'a [u8],
    number: u32,
    newline: bool,
}

impl<'a> Weave<'a> {
    pub(super) fn new(base: Option<&'a [u8]>) -> Self {
        let mut weave = Self::default();
        let written = weave.split(base.unwrap_or_default());
        weave.lines = written.into_iter().map(|line| line.brought_by(0, false)).collect();
        (weave.exists, weave.existed) = (base.is_some(), base.is_some());
        weave
    }

    /// The next version. Refuses, in words, what depends on the attack's lines.
    pub(super) fn write(&mut self, content: Option<&'a [u8]>, attack: bool, version: usize) -> Result<(), String> {
        let written = self.split(content.unwrap_or_default());
        if !attack {
            self.exists = content.is_some() && (self.exists || !self.existed);
            if content.is_none() {
                self.lines.iter_mut().for_each(|line| (line.gone, line.taken) = (true, true));
            } else if self.is_clean_state(&written) {
                self.lines.iter_mut().for_each(|line| line.gone = !line.is_clean());
            }
        }
        self.existed = content.is_some();
        self.weave_in(&written, attack, version)?;
        self.exists |= !attack && content.is_some() && self.has_clean();
        Ok(())
    }

    /// What others alone would have made.
    pub(super) fn undone(&self) -> Merged {
        let clean = || self.lines.iter().filter(|line| line.is_clean());
        let kept = clean().filter(|line| line.by > 0).count()
            + self.lines.iter().filter(|line| !line.by_attack && line.taken).count();
        let removed = self.lines.iter().filter(|line| line.by_attack || line.gone && line.is_clean()).count();
        let mut content = Vec::new();
        for (index, line) in clean().enumerate() {
            if index > 0 {
                content.push(b'\n');
            }
            content.extend_from_slice(line.text);
        }
        if clean().next_back().is_some_and(|line| line.newline_clean) {
            content.push(b'\n');
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Merged::Merged { content: self.exists.then_some(content), kept: count(kept), removed: count(removed) }
    }

    /// Version that brought the last line of the last written state that reads `text`.
    pub(super) fn brought(&self, text: &[u8]) -> Option<usize> {
        self.lines.iter().rev().find(|line| !line.gone && line.text == text).map(|line| line.by)
    }

    /// Texts that the attack brought, at whatever time, and nobody else ever had.
    pub(super) fn only_of_attack(&self) -> BTreeSet<&'a [u8]> {
        let of_others: BTreeSet<&[u8]> =
            self.lines.iter().filter(|line| !line.by_attack).map(|line| line.text).collect();
        let of_attack = self.lines.iter().filter(|line| line.by_attack).map(|line| line.text);
        of_attack.filter(|text| !of_others.contains(text)).collect()
    }

    fn has_clean(&self) -> bool {
        self.lines.iter().any(Line::is_clean)
    }

    fn is_clean_state(&self, written: &[Written<'_>]) -> bool {
        self.lines
            .iter()
            .filter(|line| line.is_clean())
            .map(|line| line.number)
            .eq(written.iter().map(|line| line.number))
    }

    fn weave_in(&mut self, written: &[Written<'a>], attack: bool, version: usize) -> Result<(), String> {
        let present: Vec<usize> = (0..self.lines.len()).filter(|at| !self.lines[*at].gone).collect();
        let old: Vec<u32> = present.iter().map(|at| self.lines[*at].number).collect();
        let new: Vec<u32> = written.iter().map(|line| line.number).collect();
        let mut woven = Vec::with_capacity(self.lines.len() + written.len());
        let (mut at_line, mut at_new) = (0, 0);
        let ends = (present.len(), written.len());
        for (old_end, new_end) in matches(&old, &new).into_iter().chain([ends]) {
            let line_end = present.get(old_end).copied().unwrap_or(self.lines.len());
            hunk(&self.lines[at_line..line_end], &written[at_new..new_end], attack, version, &mut woven)?;
            if let (Some(line), Some(same)) = (self.lines.get(line_end), written.get(new_end)) {
                woven.push(line.kept_as(*same, attack));
            }
            (at_line, at_new) = (line_end + 1, new_end + 1);
        }
        self.lines = woven;
        Ok(())
    }

    fn split(&mut self, content: &'a [u8]) -> Vec<Written<'a>> {
        let pieces = content.split_inclusive(|byte| *byte == b'\n');
        pieces
            .map(|piece| {
                let text = piece.strip_suffix(b"\n").unwrap_or(piece);
                let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
                let number = *self.numbers.entry(text).or_insert(next);
                Written { text, number, newline: piece.len() > text.len() }
            })
            .collect()
    }
}

impl<'a> Written<'a> {
    const fn brought_by(self, version: usize, attack: bool) -> Line<'a> {
        Line {
            text: self.text,
            number: self.number,
            by: version,
            by_attack: attack,
            gone: false,
            taken: false,
            newline: self.newline,
            newline_clean: self.newline,
        }
    }
}

impl<'a> Line<'a> {
    /// The line is still, or again, there.
    fn kept_as(mut self, written: Written<'a>, attack: bool) -> Self {
        if !attack && (self.by_attack || written.newline != self.newline) {
            self.newline_clean = written.newline;
        }
        (self.gone, self.newline) = (false, written.newline);
        self
    }
}

/// `region` lies between two lines that stay: what is present in it goes, `written` comes, after what is gone already.
fn hunk<'a>(
    region: &[Line<'a>],
    written: &[Written<'a>],
    attack: bool,
    version: usize,
    woven: &mut Vec<Line<'a>>,
) -> Result<(), String> {
    // A line that the attack took out and that comes back is the same line, not a second one.
    let missing: Vec<usize> = (0..region.len()).filter(|at| region[*at].gone && region[*at].is_clean()).collect();
    let missing_numbers: Vec<u32> = missing.iter().map(|at| region[*at].number).collect();
    let new: Vec<u32> = written.iter().map(|line| line.number).collect();
    let back = matches(&missing_numbers, &new);
    if !attack
        && back.len() < written.len()
        && let Some(line) = region.iter().find(|line| !line.gone && line.by_attack)
    {
        return Err(format!("a line of the attack, `{}`, was replaced by somebody else", shown(line.text)));
    }
    let (mut at_line, mut at_new) = (0, 0);
    for (missing_at, new_at) in back.into_iter().chain([(missing.len(), written.len())]) {
        let end = missing.get(missing_at).copied().unwrap_or(region.len());
        for line in &region[at_line..end] {
            let taken = line.taken || !attack && !line.gone;
            woven.push(Line { gone: true, taken, ..*line });
        }
        woven.extend(written[at_new..new_at].iter().map(|line| line.brought_by(version, attack)));
        if let (Some(line), Some(same)) = (region.get(end), written.get(new_at)) {
            woven.push(line.kept_as(*same, attack));
        }
        (at_line, at_new) = (end + 1, new_at + 1);
    }
    Ok(())
}

/// LIMIT: bytes of a line in a message.
const SHOWN_BYTES_MAX: usize = 80;

fn shown(line: &[u8]) -> String {
    line[..line.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}
