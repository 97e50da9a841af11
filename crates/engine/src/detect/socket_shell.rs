// SPDX-License-Identifier: Apache-2.0
//! `execution/socket-shell`

use super::place::{is_interpreter, is_shell};
use super::{Claim, Detector, Look, Meta, PROCESS};
use crate::event::Confidence;
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A shell that starts with a network connection as its standard input and output; an interpreter likewise (medium).
/// # Why it matters
/// It is a reverse or bind shell: somebody far away types the commands (ATT&CK T1059.004). Nobody's authority makes it
/// legitimate, so everybody is looked at, and one finding confirms.
/// # Blind spots
/// A relay between the socket and a pipe or a terminal (`socat` with a pty, `script`); shells inside a program.
/// # False positives
/// Per-connection services that are shell scripts (`Accept=yes` units): medium.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketShell;

const STDIN: u8 = 1;
const OUTPUTS: u8 = 2 | 4;

impl Detector for SocketShell {
    const META: Meta = Meta { name: "execution/socket-shell", technique: "T1059.004", class_uid: PROCESS };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let process = &look.exec()?.process;
        let path = &process.file.as_ref()?.path;
        if process.socket_stdio & (STDIN | OUTPUTS) == 0 || !is_interpreter(path) {
            return None;
        }
        let both = process.socket_stdio & STDIN != 0 && process.socket_stdio & OUTPUTS != 0;
        let per_connection = look.invocation().is_some_and(|found| {
            found.leader == look.actor && matches!(found.kind, InvocationKind::Unit(unit) if unit.contains('@'))
        });
        let confidence = match (is_shell(path), both, per_connection) {
            (true, true, false) => Confidence::High,
            (true, _, _) | (false, true, false) => Confidence::Medium,
            (false, _, _) => return None,
        };
        Some(look.claim(confidence, path, "has a network connection as standard input or output: run"))
    }
}
