// SPDX-License-Identifier: Apache-2.0
//! `foothold/ld-preload`

use super::place::is_within_any;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// `/etc/ld.so.preload` written by anything but a package manager, a configuration tool or an administrator; the
/// loader's search path (`/etc/ld.so.conf`, `/etc/ld.so.conf.d`) changed by nobody who may.
/// # Why it matters
/// Every program that starts from then on runs the named code first (ATT&CK T1574.006). Next to nothing legitimate
/// writes the file, so one finding confirms.
/// # Blind spots
/// `LD_PRELOAD` in the environment of one process; a library on the search path replaced (see `impair/system-tool`).
/// # False positives
/// Memory allocators and tracing tools that are preloaded for the whole host: set them up as an administrator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LdPreload;

impl Detector for LdPreload {
    const META: Meta = Meta { name: "foothold/ld-preload", technique: "T1574.006", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = look.arrival?.path;
        let confidence = match path.as_bytes() {
            // Not even what the system starts by itself has a reason to.
            b"/etc/ld.so.preload" => (!look.authority().is_authorised()).then_some(Confidence::High)?,
            _ if is_loader_file(path) => look.foothold(Confidence::Medium)?,
            _ => return None,
        };
        Some(look.claim(confidence, path, "was changed"))
    }
}

pub(super) fn is_loader_file(path: &HostPath) -> bool {
    is_within_any(path, &[b"/etc/ld.so.preload", b"/etc/ld.so.conf", b"/etc/ld.so.conf.d"])
}
