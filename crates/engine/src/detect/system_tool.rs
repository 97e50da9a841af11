// SPDX-License-Identifier: Apache-2.0
//! `impair/system-tool`

use super::place::is_within_any;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileKind};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A program or library below the system's directories (`/usr/bin`, `/usr/sbin`, `/usr/lib`, `/bin`, `/sbin`, `/lib`,
/// `/usr/local`) that was replaced, added, moved away or deleted outside the package manager.
/// # Why it matters
/// A replaced `ps` hides, a replaced `sudo` collects, a replaced library runs everywhere (ATT&CK T1554). A program that
/// packages own and that somebody else replaced confirms by itself: high.
/// # Blind spots
/// Bind mounts over a program; a program on `PATH` before the system's.
/// # False positives
/// Byte code that interpreters leave behind is shown (low). Software installed by hand by somebody who is no named
/// administrator is medium: name the administrators, or use a change window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SystemTool;

const PROGRAMS: [&[u8]; 4] = [b"/usr/bin", b"/usr/sbin", b"/bin", b"/sbin"];
const LIBRARIES: [&[u8]; 5] = [b"/usr/lib", b"/usr/lib64", b"/usr/libexec", b"/lib", b"/lib64"];
const LOCAL: [&[u8]; 4] = [b"/usr/local/bin", b"/usr/local/sbin", b"/usr/local/lib", b"/usr/local/libexec"];

impl Detector for SystemTool {
    const META: Meta = Meta { name: "impair/system-tool", technique: "T1554", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let arrival = look.arrival;
        let path = arrival.map(|arrival| arrival.path).filter(|path| is_tool(path));
        let path = path.or_else(|| look.departure().filter(|path| is_tool(path)))?;
        let confidence = look.foothold(Confidence::Medium)?;
        if is_byte_code(path) {
            return Some(look.claim(Confidence::Low, path, "was changed"));
        }
        let replaced = arrival.and_then(|arrival| arrival.change).is_some_and(|change| !change.created && !change.removed);
        let regular = look.file().is_some_and(|file| file.kind == FileKind::Regular);
        let owned_by_packages = is_within_any(path, &PROGRAMS) || is_library(path);
        if confidence == Confidence::Medium && replaced && regular && owned_by_packages {
            return Some(look.claim(Confidence::High, path, "was replaced"));
        }
        Some(look.claim(confidence, path, "was changed"))
    }
}

fn is_tool(path: &HostPath) -> bool {
    is_within_any(path, &PROGRAMS) || is_within_any(path, &LIBRARIES) || is_within_any(path, &LOCAL)
}

/// `libx.so`, `libx.so.6`, below a library directory.
fn is_library(path: &HostPath) -> bool {
    let name = path.file_name();
    is_within_any(path, &LIBRARIES) && (name.ends_with(b".so") || name.windows(4).any(|part| part == b".so."))
}

fn is_byte_code(path: &HostPath) -> bool {
    path.file_name().ends_with(b".pyc") || path.parent().ends_with(b"/__pycache__")
}
