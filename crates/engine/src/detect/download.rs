// SPDX-License-Identifier: Apache-2.0
//! `execution/download`

use super::place::{is_installed, is_interpreter};
use super::{Authority, Bounded, Claim, Detector, Look, Meta, PROCESS};
use crate::event::{Confidence, FileActivityId, ProcessActivity};
use crate::id::{ProcessKey, Timestamp};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A program or script that a network tool wrote and that the same invocation runs soon after.
/// # Why it matters
/// It is how tools are brought in (ATT&CK T1105).
/// # Blind spots
/// A download piped into a shell leaves no file; tools that are not in the list; a copy of the download; another
/// session.
/// # False positives
/// Developers do this: medium, so that it never acts alone. Administrators and package managers are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Download {
    /// What network tools wrote: for which invocation, and when.
    fresh: Bounded<HostPath, (ProcessKey, Timestamp)>,
}

/// A download is fresh for this long. Nanoseconds.
pub const FRESH_NS: u64 = 600_000_000_000;

const NETWORK_TOOLS: [&[u8]; 16] = [
    b"curl", b"wget", b"wget2", b"fetch", b"scp", b"sftp", b"sftp-server", b"rsync", b"ftp", b"tftp", b"nc", b"ncat",
    b"nc.openbsd", b"nc.traditional", b"socat", b"aria2c",
];

impl Detector for Download {
    const META: Meta = Meta { name: "execution/download", technique: "T1105", class_uid: PROCESS };

    fn forgotten(&self) -> u64 {
        self.fresh.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        if look.file().is_some() {
            self.remember(look);
            return None;
        }
        let exec = look.exec()?;
        let (path, leader) = (self.fresh_program(exec)?, look.invocation()?.leader);
        let (written_for, when) = *self.fresh.get(path)?;
        if written_for != leader || look.event.time.since_ns(when) > FRESH_NS {
            return None;
        }
        match look.authority() {
            Authority::ChangeWindow | Authority::Administrator | Authority::ChangeTool => None,
            Authority::Machinery => Some(look.claim(Confidence::Low, path, "was downloaded and run")),
            Authority::Nobody => Some(look.claim(Confidence::Medium, path, "was downloaded and run")),
        }
    }
}

impl Download {
    fn remember(&mut self, look: &Look<'_>) {
        let Some(file) = look.file() else { return };
        let path = &file.file.path;
        match file.activity {
            FileActivityId::Close => {
                let by_tool = look.program().is_some_and(|program| is_installed(program, &NETWORK_TOOLS));
                if let Some(invocation) = look.invocation().filter(|_| by_tool) {
                    self.fresh.insert(path.clone(), (invocation.leader, look.event.time));
                }
            }
            FileActivityId::Rename => {
                if let (Some(entry), Some(name)) = (self.fresh.remove(path), &file.file_result) {
                    self.fresh.insert(name.clone(), entry);
                }
            }
            FileActivityId::Delete => drop(self.fresh.remove(path)),
            FileActivityId::Create
            | FileActivityId::Update
            | FileActivityId::SetAttributes
            | FileActivityId::SetSecurity
            | FileActivityId::Open
            | FileActivityId::Read
            | FileActivityId::Truncate
            | FileActivityId::Link => {}
        }
    }

    /// The program, or the script that an interpreter was given, if it is a download.
    fn fresh_program<'a>(&'a self, exec: &'a ProcessActivity) -> Option<&'a HostPath> {
        let process = &exec.process;
        let program = &process.file.as_ref()?.path;
        if self.fresh.get(program).is_some() {
            return Some(program);
        }
        if !is_interpreter(program) {
            return None;
        }
        let script = process.cmd_line.iter().skip(1).find(|argument| !argument.starts_with('-'))?;
        let script = HostPath::from_text(script)?;
        let directory = process.working_directory.as_ref().map_or(&b""[..], HostPath::as_bytes);
        let name = script.as_bytes().strip_prefix(b"./").unwrap_or(script.as_bytes());
        let absolute = if name.starts_with(b"/") { script.clone() } else { HostPath::new(&[directory, b"/", name].concat()) };
        self.fresh.key(&absolute)
    }
}
