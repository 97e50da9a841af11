// SPDX-License-Identifier: Apache-2.0
//! `exfiltration/volume`

use super::{Bounded, Claim, Detector, Look, Meta, NETWORK};
use crate::event::{Confidence, NetworkActivityId};
use crate::id::Timestamp;
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A service that called another host and sent it far more than it ever sent anybody on one connection: eight times as much,
/// and at least 8 MiB, by a service of which at least 32 calls over at least an hour are known.
/// # Why it matters
/// What leaves in that way does not come back (ATT&CK T1048): whoever owns a service takes its data through it.
/// # Blind spots
/// Small pieces; many connections; a connection that still stands; answers to those who called; UDP; services that nobody has watched for
/// an hour; sessions and jobs, which have no past of their own.
/// # False positives
/// The first full backup of a service that has long called others: shown (low), medium for a request or when something else
/// was found on the service, so that it never acts alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    past: Bounded<String, Past>,
}

/// Calls that are a past to compare with.
pub const CALLS: u32 = 32;
pub const PAST_NS: u64 = 3_600_000_000_000;
/// Times the most that was ever sent.
pub const TIMES: u64 = 8;
pub const BYTES: u64 = 8 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Past {
    since: Timestamp,
    calls: u32,
    /// The most bytes of content that one connection sent. What was found to be too much is no part of it.
    most: u64,
}

impl Detector for Volume {
    const META: Meta = Meta { name: "exfiltration/volume", technique: "T1048", class_uid: NETWORK };

    fn forgotten(&self) -> u64 {
        self.past.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let network = look.network()?;
        let ended = network.activity == NetworkActivityId::Close && !network.inbound;
        let remote = network.remote.as_ref().filter(|remote| ended && !remote.ip.is_loopback())?;
        let sent = network.traffic?.sent;
        let (unit, confidence) = match look.invocation()?.kind {
            InvocationKind::Unit(unit) if look.is_suspect() => (unit.as_str(), Confidence::Medium),
            InvocationKind::Unit(unit) => (unit.as_str(), Confidence::Low),
            InvocationKind::Request => (look.seen()?.unit?, Confidence::Medium),
            InvocationKind::Session | InvocationKind::Cron | InvocationKind::Other => return None,
        };
        let past = self.past.entry(&unit.to_owned());
        let most = past.sent(look.event.time, sent)?;
        let what = format!("{sent} bytes were sent to {}; never more than {most} before", remote.ip);
        Some(look.deed(confidence, &what))
    }
}

impl Past {
    /// The most before, when this is far more.
    fn sent(&mut self, time: Timestamp, sent: u64) -> Option<u64> {
        if self.calls == 0 {
            self.since = time;
        }
        let known = self.calls >= CALLS && time.since_ns(self.since) >= PAST_NS;
        if known && sent >= BYTES && sent / TIMES > self.most {
            return Some(self.most);
        }
        self.calls = self.calls.saturating_add(1);
        self.most = self.most.max(sent);
        None
    }
}
