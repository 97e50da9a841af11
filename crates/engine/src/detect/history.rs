// SPDX-License-Identifier: Apache-2.0
//! `traces/history`

use super::place::is_shell;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId, FileKind};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A command history that was deleted, moved away, linked elsewhere or rewritten by something other than a shell.
/// # Why it matters
/// It hides what was typed (ATT&CK T1070.003).
/// # Blind spots
/// What the shell does itself (`history -c`, an unset `HISTFILE`) looks like the end of any session.
/// # False positives
/// One's own history is shown (low).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History;

impl Detector for History {
    const META: Meta = Meta { name: "traces/history", technique: "T1070.003", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let file = look.file()?;
        let (path, what) = match file.activity {
            FileActivityId::Delete => (&file.file.path, "was deleted"),
            FileActivityId::Rename if is_history(&file.file.path) => (&file.file.path, "was moved away"),
            FileActivityId::Rename | FileActivityId::Link => (file.file_result.as_ref()?, "was replaced"),
            FileActivityId::Create if file.kind == FileKind::Symlink => (&file.file.path, "was replaced by a link"),
            FileActivityId::Close | FileActivityId::Truncate => (&file.file.path, "was rewritten"),
            FileActivityId::Create
            | FileActivityId::Update
            | FileActivityId::SetAttributes
            | FileActivityId::SetSecurity
            | FileActivityId::Open
            | FileActivityId::Read => return None,
        };
        let by_shell = look.program().is_some_and(is_shell);
        let rewrites =
            matches!(file.activity, FileActivityId::Close | FileActivityId::Truncate | FileActivityId::Rename);
        let shells_own = by_shell && rewrites;
        if !is_history(path) || shells_own {
            return None;
        }
        Some(look.claim(look.foothold(Confidence::Medium)?, path, what))
    }
}

pub(crate) fn is_history(path: &HostPath) -> bool {
    matches!(path.file_name(), b".bash_history" | b".zsh_history" | b".sh_history" | b".ash_history" | b".ksh_history")
}
