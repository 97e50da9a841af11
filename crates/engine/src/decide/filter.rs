// SPDX-License-Identifier: Apache-2.0
//! Where an attack comes from and whom it calls: held off for a while.
//!
//! Input: the root's peer, and whom the subjects called or let in. Output: one action for each address, at most
//! [`ADDRESSES_MAX`]. Whom a subject called, it chose: calls to there are blocked, and nobody is turned away who comes from
//! there. Whether somebody else needs the address is asked by the guard, both times. No block is waited for
//! when the incident is healed: it holds off who is elsewhere, and ends by itself.

use super::Desk;
use crate::action::{Action, Extent};
use crate::diagnose::Case;
use crate::id::ProcessKey;
use std::net::IpAddr;

/// LIMIT: addresses blocked for one incident. An attack that talks to more is told in `thymus explain`, not blocked.
pub const ADDRESSES_MAX: usize = 16;
/// How long an address is blocked: an hour, in nanoseconds. Long enough to hold off who tries again by hand, short enough
/// that an address which changes hands is not blocked for its next owner.
pub const FILTER_LEASE_NS: u64 = 3_600_000_000_000;
/// LIMIT: subjects whose peers are looked at in one step; more are looked at in the next.
const SUBJECTS_PER_STEP: usize = 64;

impl Case {
    /// Of a subject: it has peers that were not looked at.
    pub(crate) fn talks(&mut self, key: ProcessKey) {
        self.plan.talked.insert(key);
        self.dirty = true;
    }

    pub(super) fn filter(&mut self, desk: &mut Desk<'_>) {
        let root = self.roots.first().and_then(|root| root.root.src_endpoint.as_ref());
        let mut found: Vec<(IpAddr, Extent)> = root.map(|peer| (peer.ip, Extent::All)).into_iter().collect();
        for _ in 0..SUBJECTS_PER_STEP {
            let Some(key) = self.plan.talked.pop_first() else { break };
            desk.units += 1;
            let contacts = desk.graph.process(key).and_then(|node| node.contacts.as_ref());
            let extent = |inbound| if inbound { Extent::All } else { Extent::Outbound };
            let known = contacts.into_iter().flat_map(|contacts| &contacts.known);
            found.extend(known.map(|contact| (contact.endpoint.ip, extent(contact.inbound))));
        }
        self.dirty |= !self.plan.talked.is_empty();
        for (address, extent) in found {
            let address = address.to_canonical();
            let known = self.plan.filters.contains_key(&(address, extent));
            if !is_elsewhere(address) || known || self.plan.filters.len() >= ADDRESSES_MAX {
                continue;
            }
            let id = self.number(desk, Action::FilterTraffic { address, extent, lease_ns: FILTER_LEASE_NS });
            self.plan.filters.insert((address, extent), id);
            self.begin(desk, id);
        }
    }
}

/// Not of this host, and of one other.
pub(crate) fn is_elsewhere(address: IpAddr) -> bool {
    let here = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !here && address != IpAddr::from([255, 255, 255, 255])
}
