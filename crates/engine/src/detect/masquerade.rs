// SPDX-License-Identifier: Apache-2.0
//! `evasion/masquerade`

use super::{Authority, Claim, Detector, Look, Meta, PROCESS};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A program that runs from a path with a name in it that a list of files hides: nothing but three dots or more
/// (`...`), or white space at its begin or end.
/// # Why it matters
/// `...` reads like the directory above, `init ` like `init` (ATT&CK T1036.005, T1036.006).
/// # Blind spots
/// Names that are like another's in any other way; scripts that an interpreter reads.
/// # False positives
/// Programs copied from other systems with a blank in their name begin or end with none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Masquerade;

impl Detector for Masquerade {
    const META: Meta = Meta { name: "evasion/masquerade", technique: "T1036.005", class_uid: PROCESS };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let program = &look.exec()?.process.file.as_ref()?.path;
        let technique = disguise(program)?;
        match look.authority() {
            Authority::ChangeWindow | Authority::Administrator | Authority::ChangeTool => None,
            Authority::Machinery | Authority::Nobody => Some(Claim {
                technique: Some(technique),
                ..look.claim(Confidence::Medium, program, "has a name that is made to be overlooked, and was run")
            }),
        }
    }
}

fn disguise(path: &HostPath) -> Option<&'static str> {
    let mut names = path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names.find_map(|name| {
        let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        if name.len() > 2 && name.iter().all(|byte| *byte == b'.') {
            Some("T1036.005")
        } else if blank(name.first()) || blank(name.last()) {
            Some("T1036.006")
        } else {
            None
        }
    })
}
