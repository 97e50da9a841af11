// SPDX-License-Identifier: Apache-2.0
//! `discovery/scan`

use super::{Authority, Bounded, Claim, Detector, Look, Meta, NETWORK};
use crate::event::{Confidence, NetworkActivityId};
use crate::id::{ProcessKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// # What it finds
/// One invocation that asks many addresses and ports in vain within a minute.
/// # Why it matters
/// Whoever has come in looks for what else there is to be had (ATT&CK T1046).
/// # Blind spots
/// A slow scan; one that finds everything open; UDP, raw packets (a SYN scan by root), and anything done by a program
/// outside of the host.
/// # False positives
/// Peer-to-peer programs and crawlers try addresses that are gone: medium, so that it never acts alone. Administrators are
/// left out; what the system starts by itself, as monitoring is, is shown (low).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// What each invocation asked in vain.
    vain: Bounded<ProcessKey, Vain, INVOCATIONS_MAX>,
}

/// LIMIT: invocations that have asked in vain; the oldest is forgotten and counted.
const INVOCATIONS_MAX: usize = 512;
/// Different targets that make a scan: more than a client with a list of servers tries, fewer than the ports that
/// `nmap --top-ports 100` asks of one host.
pub const TARGETS: usize = 48;
/// They are asked within this time. Nanoseconds.
pub const WITHIN_NS: u64 = 60_000_000_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Vain {
    since: Timestamp,
    targets: BTreeSet<(IpAddr, u16)>,
}

impl Detector for Scan {
    const META: Meta = Meta { name: "discovery/scan", technique: "T1046", class_uid: NETWORK };

    fn forgotten(&self) -> u64 {
        self.vain.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let network = look.network()?;
        if !matches!(network.activity, NetworkActivityId::Refuse | NetworkActivityId::Fail) {
            return None;
        }
        let remote = network.remote.as_ref()?;
        let leader = look.invocation().map_or(look.actor, |invocation| invocation.leader);
        let vain = self.vain.entry(&leader);
        if look.event.time.since_ns(vain.since) > WITHIN_NS {
            *vain = Vain { since: look.event.time, targets: BTreeSet::new() };
        }
        if vain.targets.len() >= TARGETS || !vain.targets.insert((remote.ip, remote.port)) {
            return None;
        }
        if vain.targets.len() < TARGETS {
            return None;
        }
        let confidence = match look.authority() {
            Authority::ChangeWindow | Authority::Administrator | Authority::ChangeTool => return None,
            Authority::Machinery => Confidence::Low,
            Authority::Nobody => Confidence::Medium,
        };
        let hosts: BTreeSet<IpAddr> = vain.targets.iter().map(|(host, _)| *host).collect();
        Some(look.deed(confidence, &format!("{TARGETS} ports of {} hosts were asked in vain", hosts.len())))
    }
}
