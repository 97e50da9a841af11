// SPDX-License-Identifier: Apache-2.0
//! `credential-access/brute-force`

use super::{AUTHENTICATION, Bounded, Claim, Detector, Look, Meta};
use crate::event::{AuthService, Confidence, NetworkActivityId};
use crate::graph::is_login_program;
use crate::id::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// # What it finds
/// A login by ssh from an address from which ten connections or more in ten minutes got far enough to try a key or a
/// password, and let nobody in.
/// # Why it matters
/// Somebody tried until it fitted (ATT&CK T1110). It is counted by the kernel's connections, not by lines of a log: what
/// somebody calls himself, or writes into a log, changes nothing.
/// # Blind spots
/// Few tries, slow ones, and each from another address; several tries on one connection; ssh that another program serves.
/// # False positives
/// A backup or a script with an old key behind the same address as somebody who logs in rightly: medium, so that it never
/// acts alone; of a named administrator's login low. Checks that only look whether somebody answers do not count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BruteForce {
    tries: Bounded<IpAddr, Tries>,
}

/// Tries in vain that make a brute force of a login.
pub const TRIES: u32 = 10;
const WINDOW_NS: u64 = 600_000_000_000;
/// Bytes that a client has sent when the keys of a connection are agreed on and it has asked for somebody: about 2,000 of
/// OpenSSH's. Who only asks for the banner sends some twenty.
const TRIED_BYTES: u64 = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tries {
    since: Timestamp,
    count: u32,
}

impl Detector for BruteForce {
    const META: Meta =
        Meta { name: "credential-access/brute-force", technique: "T1110", class_uid: AUTHENTICATION };

    fn forgotten(&self) -> u64 {
        self.tries.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let now = look.event.time;
        if let Some(network) = look.network() {
            let tried = network.traffic.is_some_and(|traffic| traffic.received >= TRIED_BYTES);
            let here = network.inbound && look.program().is_some_and(is_login_program);
            if network.activity != NetworkActivityId::Close || !tried || !here {
                return None;
            }
            let tries = self.tries.entry(&network.remote.as_ref()?.ip);
            if now.since_ns(tries.since) > WINDOW_NS {
                *tries = Tries { since: now, count: 0 };
            }
            tries.count = tries.count.saturating_add(1);
            return None;
        }
        let logon = look.logon().filter(|logon| logon.service == AuthService::Sshd)?;
        let ip = logon.src_endpoint.as_ref()?.ip;
        let tries = self.tries.get(&ip).filter(|tries| now.since_ns(tries.since) <= WINDOW_NS)?;
        if tries.count < TRIES {
            return None;
        }
        let confidence = if look.authority().is_authorised() { Confidence::Low } else { Confidence::Medium };
        Some(look.deed(confidence, &format!("a login came from {ip} after {} tries in vain", tries.count)))
    }
}
