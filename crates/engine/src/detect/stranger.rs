// SPDX-License-Identifier: Apache-2.0
//! `initial-access/stranger`

use super::{AUTHENTICATION, Claim, Detector, Look, Meta};
use crate::event::{AuthService, Confidence};
use serde::{Deserialize, Serialize};

/// # What it finds
/// A login by ssh from an address from which that user does not log in, by what the configuration says (`[[login]]`).
/// # Why it matters
/// A stolen key or password fits from anywhere (ATT&CK T1078.003): whoever knows where their people come from can tell the
/// thief by that, whatever else he does like them. In such a session even a named administrator may change nothing, and
/// what belongs to its user counts as somebody else's.
/// # Blind spots
/// Users without a `[[login]]`; who comes through a host that is among the named ones; other ways in than ssh.
/// # False positives
/// Somebody who is right and comes from elsewhere, on a journey for instance: medium, so that a login alone is shown and
/// nothing is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stranger;

impl Detector for Stranger {
    const META: Meta = Meta { name: "initial-access/stranger", technique: "T1078.003", class_uid: AUTHENTICATION };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let logon = look.logon().filter(|logon| logon.service == AuthService::Sshd)?;
        if look.context.change_window {
            return None;
        }
        let ip = logon.src_endpoint.as_ref()?.ip;
        let login = look.context.configuration.logins.iter().find(|login| login.is_strange(logon.uid, ip))?;
        let expected = match login.from.as_slice() {
            [] => "from where nobody does".to_owned(),
            from => {
                let named: Vec<String> = from.iter().take(NAMED_MAX).map(ToString::to_string).collect();
                let more = if from.len() > NAMED_MAX { ", …" } else { "" };
                format!("expected one from {}{more}", named.join(", "))
            }
        };
        Some(look.deed(Confidence::Medium, &format!("uid {} logged in from {ip}, {expected},", logon.uid)))
    }
}

/// LIMIT: networks named in a title.
const NAMED_MAX: usize = 4;
