// SPDX-License-Identifier: Apache-2.0
//! `foothold/web-shell`

use super::{Claim, Detector, Look, Meta, PROCESS};
use crate::event::Confidence;
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A web server that runs, for a request, a program or script that an earlier request or the server itself wrote.
/// # Why it matters
/// Who can write into a web site leaves a script there and has commands run by asking for it: a way back in that needs no
/// login (ATT&CK T1505.003).
/// # Blind spots
/// Interpreters inside the server or its workers (PHP, application servers): they start no program. Scripts from before
/// Thymus watched. What was written by a program that a request left running as a service of its own.
/// # False positives
/// Sites that are deployed by a web hook, or that make scripts of templates, do the same: medium, so that it never acts
/// alone. In a change window it is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WebShell;

impl Detector for WebShell {
    const META: Meta = Meta { name: "foothold/web-shell", technique: "T1505.003", class_uid: PROCESS };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        look.exec()?;
        let for_request = look.invocation().is_some_and(|found| *found.kind == InvocationKind::Request);
        if !for_request || look.authority().is_authorised() {
            return None;
        }
        let path = look.ran_from_request()?;
        Some(look.claim(Confidence::Medium, path, "was written for a request and is run"))
    }
}
