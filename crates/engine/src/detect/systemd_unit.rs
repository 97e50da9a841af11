// SPDX-License-Identifier: Apache-2.0
//! `foothold/systemd-unit`

use super::place::{in_home, is_within_any};
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A new or changed unit file, drop-in, enabling link, generator or init script; timers are named as such (T1053.006).
/// # Why it matters
/// The service manager starts it at boot or at a time, as root where the unit is the system's (ATT&CK T1543.002).
/// # Blind spots
/// `systemctl enable` lets the manager itself make the link: then only the unit file speaks, and of a unit that is taken in
/// from elsewhere (`systemctl link`) not even that. Units that are only in memory (`systemd-run`), programs that an old unit
/// already names.
/// # False positives
/// Run-time units and generators' output below `/run/systemd` are the manager's own and left out. A user's own units
/// are shown (low).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SystemdUnit;

impl Detector for SystemdUnit {
    const META: Meta = Meta { name: "foothold/systemd-unit", technique: "T1543.002", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_unit(path) {
            return None;
        }
        let mut claim = look.claim(look.foothold(Confidence::Medium)?, path, "was changed");
        claim.technique = path.file_name().ends_with(b".timer").then_some("T1053.006");
        Some(claim)
    }
}

const TREES: [&[u8]; 16] = [
    b"/etc/systemd/system",
    b"/etc/systemd/user",
    b"/etc/systemd/system-generators",
    b"/etc/systemd/user-generators",
    b"/usr/lib/systemd/system",
    b"/usr/lib/systemd/user",
    b"/usr/lib/systemd/system-generators",
    b"/usr/lib/systemd/user-generators",
    b"/lib/systemd/system",
    b"/lib/systemd/user",
    b"/usr/local/lib/systemd",
    b"/run/systemd/system",
    b"/run/systemd/system.control",
    b"/etc/init.d",
    b"/etc/rc.local",
    b"/etc/udev/rules.d",
];

pub(super) fn is_unit(path: &HostPath) -> bool {
    is_within_any(path, &TREES)
        || in_home(path).is_some_and(|rest| {
            [&b".config/systemd/user/"[..], b".local/share/systemd/user/", b".config/autostart/"]
                .iter()
                .any(|tree| rest.starts_with(tree))
        })
}
