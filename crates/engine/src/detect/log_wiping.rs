// SPDX-License-Identifier: Apache-2.0
//! `traces/log-wiping`

use super::history::{History, is_history};
use super::place::{is_installed, is_interpreter, is_system, matches_glob};
use super::{Authority, Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId, FileKind};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// An append-only log (`append_only` in the configuration) that was written, truncated, replaced, renamed or deleted by
/// something other than its usual writer, the system's own machinery or a package manager.
/// # Why it matters
/// It is how traces disappear (ATT&CK T1070.002; of a shell's history, T1070.003).
/// # Blind spots
/// What a log daemon is made to write; a close by a process of which nothing is known, without an update; logs that leave the host are out of reach, which is why they should. A root
/// service that was taken over counts as machinery until something else speaks against it.
/// # False positives
/// An administrator who empties a log is shown (low), as is a user who writes the own log. logrotate runs from a timer
/// or cron and is machinery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogWiping;

/// Programs that keep the books of logins and accounts, in whatever session they run.
const BOOKKEEPERS: [&[u8]; 20] = [
    b"sshd", b"sshd-session", b"sshd-auth", b"login", b"su", b"sudo", b"agetty", b"getty", b"passwd", b"chsh", b"chfn",
    b"useradd", b"usermod", b"userdel", b"groupadd", b"systemd", b"systemd-logind", b"systemd-update-utmp", b"cron", b"screen",
];

impl Detector for LogWiping {
    const META: Meta = Meta { name: "traces/log-wiping", technique: "T1070.002", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let file = look.file()?;
        let is_log = |path: &&HostPath| {
            look.context.configuration.append_only.iter().any(|pattern| matches_glob(pattern, path))
        };
        let (path, what) = match file.activity {
            FileActivityId::Update | FileActivityId::Close | FileActivityId::Truncate => (&file.file.path, "was written"),
            FileActivityId::Delete => (&file.file.path, "was deleted"),
            FileActivityId::Rename if is_log(&&file.file.path) => (&file.file.path, "was moved away"),
            FileActivityId::Rename | FileActivityId::Link => (file.file_result.as_ref()?, "was replaced"),
            FileActivityId::Create if file.kind == FileKind::Symlink => (&file.file.path, "was replaced by a link"),
            FileActivityId::Create
            | FileActivityId::SetAttributes
            | FileActivityId::SetSecurity
            | FileActivityId::Open
            | FileActivityId::Read => return None,
        };
        if !is_log(&path) || is_usual(look, file.activity) {
            return None;
        }
        let confidence = match look.authority() {
            Authority::ChangeWindow | Authority::ChangeTool | Authority::Machinery => return None,
            Authority::Administrator => Confidence::Low,
            Authority::Nobody if look.is_own() => Confidence::Low,
            // Somebody outside the scope, gone before it could be looked at, had it open; had he written, an update would say so.
            Authority::Nobody if look.program().is_none() && file.activity == FileActivityId::Close => return None,
            Authority::Nobody => Confidence::Medium,
        };
        let technique = is_history(path).then_some(History::META.technique);
        Some(Claim { technique, ..look.claim(confidence, path, what) })
    }
}

/// The log's own daemon, or a program that keeps books, writes (and only writes).
fn is_usual(look: &Look<'_>, activity: FileActivityId) -> bool {
    let writes = matches!(activity, FileActivityId::Update | FileActivityId::Close | FileActivityId::Truncate);
    let Some(program) = look.program().filter(|_| writes) else { return false };
    let daemon = look.invocation().is_some_and(|found| {
        matches!(found.kind, InvocationKind::Unit(_) | InvocationKind::Request | InvocationKind::Other)
    });
    is_installed(program, &BOOKKEEPERS) || daemon && is_system(program) && !is_interpreter(program) && !is_file_tool(program)
}

/// Changes files it is told to change.
fn is_file_tool(program: &HostPath) -> bool {
    const TOOLS: [&[u8]; 14] = [
        b"sed", b"truncate", b"shred", b"tee", b"dd", b"cp", b"mv", b"rm", b"ln", b"install", b"rsync", b"ed", b"vim.basic", b"nano",
    ];
    TOOLS.contains(&program.file_name())
}
