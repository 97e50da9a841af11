// SPDX-License-Identifier: Apache-2.0
//! `foothold/sshd-config`

use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A change of the SSH server's configuration or of a host key.
/// # Why it matters
/// It decides who may log in and how: root by password, another key file, a forced command, a key authority
/// (ATT&CK T1556, Modify Authentication Process; there is no sub-technique for sshd).
/// # Blind spots
/// Options on sshd's command line; a second server started from elsewhere.
/// # False positives
/// Host keys are made by the package's own scripts, known by their lineage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SshdConfig;

impl Detector for SshdConfig {
    const META: Meta = Meta { name: "foothold/sshd-config", technique: "T1556", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        if !is_server_config(path) {
            return None;
        }
        Some(look.claim(look.foothold(Confidence::Medium)?, path, "was changed"))
    }
}

pub(super) fn is_server_config(path: &HostPath) -> bool {
    let name = path.file_name();
    path.is_within(b"/etc/ssh/sshd_config")
        || path.is_within(b"/etc/ssh/sshd_config.d")
        || path.is_within(b"/etc/ssh") && (name.starts_with(b"ssh_host_") || name == b"sshrc" || name == b"ca.pub")
        || matches!(path.as_bytes(), b"/etc/default/ssh" | b"/etc/hosts.equiv" | b"/etc/shosts.equiv")
}
