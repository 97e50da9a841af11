// SPDX-License-Identifier: Apache-2.0
//! `execution/service-manager`

use super::place::is_installed;
use super::{Authority, Claim, Detector, Look, Meta, PROCESS};
use crate::event::Confidence;
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};

/// # What it finds
/// The service manager told to start, enable or take in a unit, with root's power, by a stranger's session or for a
/// request (`systemctl`, `systemd-run`).
/// # Why it matters
/// What it starts is a child of nobody's session and outlives it (ATT&CK T1569.003).
/// # Blind spots
/// Who talks to the manager's bus by another program.
/// # False positives
/// A panel in the browser that starts services as root: medium, so that it never acts alone. Root's power in the session of
/// somebody who is expected is not even low: people start services all day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceManager;

const CLIENTS: [&[u8]; 2] = [b"systemctl", b"systemd-run"];
/// Of systemctl(1); `systemd-run` always starts something.
const STARTS: [&str; 12] = [
    "start", "restart", "try-restart", "reload-or-restart", "enable", "reenable", "link", "edit", "daemon-reload", "isolate",
    "set-default", "add-wants",
];

impl Detector for ServiceManager {
    const META: Meta = Meta { name: "execution/service-manager", technique: "T1569.003", class_uid: PROCESS };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let exec = look.exec()?;
        let program = &exec.process.file.as_ref()?.path;
        if !is_installed(program, &CLIENTS) {
            return None;
        }
        let words = exec.process.cmd_line.iter().skip(1);
        let starts = program.file_name() == b"systemd-run"
            || words.filter(|word| !word.starts_with('-')).any(|word| STARTS.contains(&word.as_str()));
        let for_request = look.invocation().is_some_and(|found| *found.kind == InvocationKind::Request);
        let as_root = look.seen().is_some_and(|seen| seen.user.euid == 0);
        if !starts || !as_root || !(look.is_strange() || for_request) || look.authority() != Authority::Nobody {
            return None;
        }
        Some(look.deed(Confidence::Medium, "the service manager was told to start something"))
    }
}
