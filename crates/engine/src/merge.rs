// SPDX-License-Identifier: Apache-2.0
//! Selective undo of text: the newest content as if some of its versions had never been written.
//!
//! Input: the states of one path, oldest first, each with whose it is. Output: one content, or a refusal.
//! Invariants: no line of anybody else is lost, no line that only the attack brought is kept; what cannot be decided by
//! that rule is refused and shown to a person, never guessed. Bytes, not text: a line may hold any byte but NUL.

mod diff;
mod log;
mod weave;

use crate::action;
pub use log::{LOG_BYTES_MAX, Log, append_only};
use weave::Weave;

/// LIMIT: bytes of one version that are merged; larger files are restored exactly or shown.
pub const BYTES_MAX: usize = 4 << 20;
/// LIMIT: lines of one version that are merged.
pub const LINES_MAX: usize = 65_536;
/// LIMIT: versions in one chain.
pub const VERSIONS_MAX: usize = 1_024;
/// A line with fewer bytes other than blanks says nothing of who brought it: anybody writes `}`, `fi` or `else`.
pub const TELLING_BYTES_MIN: usize = 8;

/// One state of a path after the base.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// `None`: the path did not exist.
    pub content: Option<&'a [u8]>,
    /// Written by a subject of the attack.
    pub attack: bool,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// `content` is what should be there; `None`: nothing should. `kept` counts others' line changes that were kept,
    /// `removed` the attack's line changes that were taken out. `kept` is 0 when one recorded state is restored as it was.
    Merged { content: Option<Vec<u8>>, kept: u32, removed: u32 },
    /// Not decidable by machine; in words.
    Conflict(String),
    /// Others and the attack both wrote it, and it is not text.
    Binary,
}

impl Merged {
    /// As the fact that the guard judges.
    #[must_use]
    pub fn fact(&self) -> action::Merge {
        match self {
            Self::Merged { kept: 0, .. } => action::Merge::Exact,
            Self::Merged { kept, removed, .. } => action::Merge::Disjoint { kept: *kept, removed: *removed },
            Self::Conflict(why) => action::Merge::Conflict(why.clone()),
            Self::Binary => action::Merge::Conflict("others changed it too, and it is not text".to_owned()),
        }
    }
}

/// The newest state as if the attack's versions had never been written; the newest as it is when there are none.
#[must_use]
pub fn merge(base: Option<&[u8]>, later: &[Version<'_>]) -> Merged {
    if later.len() > VERSIONS_MAX {
        return Merged::Conflict(format!("too large: {} versions, expected at most {VERSIONS_MAX}", later.len()));
    }
    let chain = without_idle_attacks(base, later);
    // Attack versions that nobody wrote after are simply not taken: no line is looked at.
    let end = chain.iter().rposition(|version| !version.attack).map_or(0, |at| at + 1);
    let chain = &chain[..end];
    if !chain.iter().any(|version| version.attack) {
        return exact(chain.last().map_or(base, |version| version.content), later);
    }
    let contents = || std::iter::once(base).chain(chain.iter().map(|version| version.content)).flatten();
    if let Some(why) = contents().find_map(too_large) {
        return Merged::Conflict(why);
    }
    if contents().any(|content| content.contains(&0)) {
        return Merged::Binary;
    }
    let mut weave = Weave::new(base);
    for (index, version) in chain.iter().enumerate() {
        if let Err(why) = weave.write(version.content, version.attack, index + 1) {
            return Merged::Conflict(why);
        }
    }
    weave.undone()
}

/// Which version brought `line` (without its line ending) as it stands in the newest state: 0 is the base, N is
/// `later[N - 1]`. `None` when the newest state has no such line or is too large to look at. Of equal lines, the one
/// that came last.
#[must_use]
pub fn blame(base: Option<&[u8]>, later: &[Option<&[u8]>], line: &[u8]) -> Option<usize> {
    let contents = || std::iter::once(&base).chain(later).flatten();
    if later.len() > VERSIONS_MAX || contents().any(|content| too_large(content).is_some()) {
        return None;
    }
    let mut weave = Weave::new(base);
    for (index, content) in later.iter().enumerate() {
        weave.write(*content, false, index + 1).ok()?;
    }
    weave.brought(line)
}

/// What of the attack stands in `now`, which somebody else wrote after all of `later` had been undone: the lines (without
/// their endings) that nobody but the attack brought and that are more than trivial, each once; all of `now` when it is, to
/// the byte, a version of the attack. Empty: nothing of it is back, as far as can be told by machine.
#[must_use]
pub fn returned<'a>(base: Option<&[u8]>, later: &[Version<'_>], now: &'a [u8]) -> Vec<&'a [u8]> {
    let same = |attack: bool| later.iter().any(|version| version.attack == attack && version.content == Some(now));
    if same(true) && !same(false) && base != Some(now) && is_telling(now) {
        return vec![now];
    }
    let contents = || base.into_iter().chain(later.iter().filter_map(|version| version.content)).chain([now]);
    let refused = |content: &[u8]| too_large(content).is_some() || content.contains(&0);
    if later.len() > VERSIONS_MAX || contents().any(refused) {
        return Vec::new();
    }
    let mut weave = Weave::new(base);
    for (index, version) in later.iter().enumerate() {
        if weave.write(version.content, version.attack, index + 1).is_err() {
            return Vec::new();
        }
    }
    let of_attack = weave.only_of_attack();
    let lines = now.split(|byte| *byte == b'\n').filter(|line| is_telling(line) && of_attack.contains(line));
    let mut lines: Vec<&[u8]> = lines.collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn is_telling(content: &[u8]) -> bool {
    content.iter().filter(|byte| !byte.is_ascii_whitespace()).take(TELLING_BYTES_MIN).count() == TELLING_BYTES_MIN
}

/// One recorded state, as it was. What was taken out is counted in versions' worth of change: at least one.
fn exact(content: Option<&[u8]>, later: &[Version<'_>]) -> Merged {
    let removed = later.iter().filter(|version| version.attack).count();
    Merged::Merged {
        content: content.map(<[u8]>::to_vec),
        kept: 0,
        removed: u32::try_from(removed).unwrap_or(u32::MAX),
    }
}

/// The chain without attack versions that changed nothing, and without runs of them that end where they began.
fn without_idle_attacks<'a>(base: Option<&'a [u8]>, later: &[Version<'a>]) -> Vec<Version<'a>> {
    let mut chain: Vec<Version<'a>> = Vec::with_capacity(later.len());
    for version in later {
        let run = chain.iter().rposition(|earlier| !earlier.attack).map_or(0, |at| at + 1);
        let before_run = run.checked_sub(1).map_or(base, |at| chain[at].content);
        if version.attack && version.content == before_run {
            chain.truncate(run);
        } else {
            chain.push(*version);
        }
    }
    chain
}

fn too_large(content: &[u8]) -> Option<String> {
    let lines = content.iter().filter(|byte| **byte == b'\n').count();
    if content.len() > BYTES_MAX {
        Some(format!("too large: {} bytes, expected at most {BYTES_MAX}", content.len()))
    } else if lines > LINES_MAX {
        Some(format!("too large: {lines} lines, expected at most {LINES_MAX}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
