// SPDX-License-Identifier: Apache-2.0
//! `command-and-control/beacon`

use super::{Authority, Bounded, Claim, Detector, Look, Meta, NETWORK};
use crate::event::{Confidence, NetworkActivityId};
use crate::id::{ProcessKey, Timestamp};
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// # What it finds
/// Work that nobody on the host answers for and that calls the same address and port again and again, at even intervals.
/// # Why it matters
/// What an intruder left running asks its master for orders in that way (ATT&CK T1071).
/// # Blind spots
/// Intervals that differ by more than a quarter; fewer than nine calls; less than two seconds or more than an hour between
/// them; one lasting connection; UDP; another address each time; each call in an invocation of its own, as cron makes them.
/// # False positives
/// Services poll others all day: units are looked at only when something else was found on them. Somebody who polls a server
/// out of the own session is shown (low); with root's power and without being named an administrator: medium, so that it
/// never acts alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Beacon {
    calls: Bounded<(ProcessKey, IpAddr, u16), Calls>,
}

/// Even intervals in a row that make a beacon.
pub const EVEN: u8 = 8;
const INTERVAL_MIN_NS: u64 = 2_000_000_000;
const INTERVAL_MAX_NS: u64 = 3_600_000_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Calls {
    last: Timestamp,
    /// The first interval of the row; 0: there is none yet.
    interval_ns: u64,
    /// Intervals so far that differ from it by less than a quarter.
    even: u8,
}

impl Detector for Beacon {
    const META: Meta = Meta { name: "command-and-control/beacon", technique: "T1071", class_uid: NETWORK };

    fn forgotten(&self) -> u64 {
        self.calls.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let network = look.network()?;
        // Whether somebody answers makes no difference.
        let calls = matches!(
            network.activity,
            NetworkActivityId::Open | NetworkActivityId::Refuse | NetworkActivityId::Fail
        );
        if !calls || network.inbound || network.before {
            return None;
        }
        let remote = network.remote.as_ref().filter(|remote| !remote.ip.is_loopback())?;
        let invocation = look.invocation()?;
        let confidence = match (invocation.kind, look.authority()) {
            (_, Authority::Nobody) if look.is_suspect() => Confidence::Medium,
            (InvocationKind::Unit(_), _) | (_, Authority::Machinery) => return None,
            (_, Authority::ChangeWindow | Authority::Administrator | Authority::ChangeTool) => return None,
            (InvocationKind::Request, Authority::Nobody) => Confidence::Medium,
            (InvocationKind::Session | InvocationKind::Cron | InvocationKind::Other, Authority::Nobody) => {
                if look.is_borrowed_power() { Confidence::Medium } else { Confidence::Low }
            }
        };
        // After that: what services call all day would drive out the rest.
        let (ip, port) = (remote.ip, remote.port);
        let seconds = self.calls.entry(&(invocation.leader, ip, port)).called(look.event.time)?;
        Some(look.deed(confidence, &format!("port {port} of {ip} was called every {seconds} s")))
    }
}

impl Calls {
    /// The interval, in seconds, at the call that makes a beacon of it and at each further one.
    fn called(&mut self, time: Timestamp) -> Option<u64> {
        let (first, interval) = (self.last == Timestamp(0), time.since_ns(self.last));
        self.last = time;
        if first || !(INTERVAL_MIN_NS..=INTERVAL_MAX_NS).contains(&interval) {
            (self.interval_ns, self.even) = (0, 0);
            return None;
        }
        if self.interval_ns.abs_diff(interval) > self.interval_ns / 4 {
            (self.interval_ns, self.even) = (interval, 1);
            return None;
        }
        self.even = self.even.saturating_add(1);
        (self.even >= EVEN).then_some(self.interval_ns / 1_000_000_000)
    }
}
