// SPDX-License-Identifier: Apache-2.0
//! Selective undo of text: the newest content as if some of its versions had never been written.
//!
//! Input: the states of one path, oldest first, each with whose it is. Output: one content, or a refusal.
//! Invariants: no line of anybody else is lost, no line that only the attack brought is kept; what cannot be decided by
//! that rule is refused and shown to a person, never guessed. Bytes, not text: a line may hold any byte but NUL.

use crate::action;

/// LIMIT: bytes of one version that are merged; larger files are restored exactly or shown.
pub const BYTES_MAX: usize = 4 << 20;
/// LIMIT: lines of one version that are merged.
pub const LINES_MAX: usize = 65_536;
/// LIMIT: versions in one chain.
pub const VERSIONS_MAX: usize = 1_024;

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

/// The newest state of `later` as if its attack versions had never been written.
#[must_use]
pub fn merge(base: Option<&[u8]>, later: &[Version<'_>]) -> Merged {
    let _ = (base, later);
    Merged::Conflict("not merged".to_owned())
}

/// An append-only log: `before` is its last state that the attack had not touched, `now` what is there.
/// Puts back what was cut out of `before`, wherever that was, and keeps everything that came after.
#[must_use]
pub fn append_only(before: &[u8], now: &[u8]) -> Merged {
    let _ = (before, now);
    Merged::Conflict("not merged".to_owned())
}

/// Which version brought `line` (without its line ending) as it stands in the newest state: 0 is the base, N is
/// `later[N - 1]`. `None` when the newest state has no such line. Of equal lines, the one that came last.
#[must_use]
pub fn blame(base: Option<&[u8]>, later: &[Option<&[u8]>], line: &[u8]) -> Option<usize> {
    let _ = (base, later, line);
    None
}
