// SPDX-License-Identifier: Apache-2.0
//! `discovery/owner`

use super::{Bounded, Claim, Detector, Look, Meta, PROCESS};
use crate::event::Confidence;
use crate::id::{ProcessKey, Timestamp};
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};

/// # What it finds
/// Two different programs that say who one is, or who else is there, or that make one somebody else, run by one web server
/// for its requests within ten minutes.
/// # Why it matters
/// The first thing that somebody does who has got commands into a web server is to look as whom they run, and whether they
/// may run as root (ATT&CK T1033). A site has no reason to ask.
/// # Blind spots
/// Who asks the shell or `/proc` instead of these programs; a site that is known to run one of them and is asked for no
/// other.
/// # False positives
/// Pages that show an administrator who is logged in: medium, so that it never acts alone. In a change window it is not
/// looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    asked: Bounded<ProcessKey, Asked>,
}

/// Programs so far, as bits by their place in [`PROGRAMS`], since then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Asked {
    since: Timestamp,
    programs: u16,
}

const WINDOW_NS: u64 = 600_000_000_000;
const PROGRAMS: [&[u8]; 11] =
    [b"id", b"whoami", b"groups", b"logname", b"users", b"who", b"w", b"last", b"getent", b"sudo", b"su"];

impl Detector for Owner {
    const META: Meta = Meta { name: "discovery/owner", technique: "T1033", class_uid: PROCESS };

    fn forgotten(&self) -> u64 {
        self.asked.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let path = &look.exec()?.process.file.as_ref()?.path;
        let at = PROGRAMS.iter().position(|name| *name == path.file_name())?;
        let for_request = look.invocation().is_some_and(|found| *found.kind == InvocationKind::Request);
        if !for_request || look.authority().is_authorised() {
            return None;
        }
        let now = look.event.time;
        let asked = self.asked.entry(&look.started_by()?);
        if now.since_ns(asked.since) > WINDOW_NS {
            *asked = Asked { since: now, programs: 0 };
        }
        asked.programs |= 1 << at;
        if asked.programs.count_ones() < 2 {
            return None;
        }
        Some(look.claim(Confidence::Medium, path, "and another such program were run"))
    }
}
