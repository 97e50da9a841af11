// SPDX-License-Identifier: Apache-2.0
//! Network: kernel records about connections and listeners of TCP become network activities.
//!
//! Who connected, accepted or listened is the actor of all that is told of it; who inherits the socket is not. Blind spots:
//! UDP and what is below it, Unix sockets, connections that were accepted through io_uring or by 32-bit programs through
//! socketcall(2).

use super::Observed;
use super::bounded::Bounded;
use super::mounts::Mounts;
use super::process::{Processes, key};
use super::wire::{Flow, Record};
use std::net::{IpAddr, Ipv6Addr};
use thymus_engine::Timestamp;
use thymus_engine::event::{Activity, Endpoint, NetworkActivity, NetworkActivityId, Traffic};
use zerocopy::FromBytes;

/// LIMIT: ports that are listened on, for telling which connections from before the agent had been accepted.
const PORTS_MAX: usize = 1_024;

/// Ports that somebody listens on.
#[derive(Debug)]
pub(super) struct Listeners {
    ports: Bounded<u16, ()>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { ports: Bounded::new(PORTS_MAX) }
    }
}

impl Listeners {
    /// Takes one record about a connection or a listener; false: it does not parse.
    pub(super) fn record(
        &mut self,
        record: &Record<'_>,
        processes: &mut Processes,
        mounts: &Mounts,
        out: &mut Vec<Observed>,
    ) -> bool {
        let head = &record.head;
        let (Some(flow), Some(activity)) = (flow(record.text), activity(head.nr)) else { return false };
        let begins = matches!(activity, NetworkActivityId::Open | NetworkActivityId::Listen);
        if activity == NetworkActivityId::Listen {
            self.ports.insert(flow.local_port, ());
        }
        // Who had a connection may be gone by its end, and its number another's.
        let actor = if begins { processes.actor(head, mounts, out) } else { key(head.pid, head.start) };
        let accepted_before = flow.before != 0 && self.ports.get(&flow.local_port).is_some();
        let traffic = (activity == NetworkActivityId::Close && flow.remote_port != 0)
            .then_some(Traffic { sent: flow.sent, received: flow.received });
        let told = NetworkActivity {
            activity,
            actor,
            inbound: flow.inbound != 0 || accepted_before,
            local: Endpoint { ip: address(flow.local, flow.family), port: flow.local_port },
            remote: (flow.remote_port != 0)
                .then(|| Endpoint { ip: address(flow.remote, flow.family), port: flow.remote_port }),
            traffic,
            before: flow.before != 0,
        };
        out.push(Observed { time: Timestamp(head.time), activity: Activity::Network(told) });
        true
    }
}

fn flow(bytes: &[u8]) -> Option<Flow> {
    Flow::read_from_bytes(bytes).ok().filter(|flow| matches!(flow.family, 4 | 6))
}

/// By the numbers of OCSF.
fn activity(number: u32) -> Option<NetworkActivityId> {
    Some(match number {
        1 => NetworkActivityId::Open,
        2 => NetworkActivityId::Close,
        4 => NetworkActivityId::Fail,
        5 => NetworkActivityId::Refuse,
        7 => NetworkActivityId::Listen,
        _ => return None,
    })
}

/// An IPv4 peer of an IPv6 socket is an IPv4 address.
fn address(bytes: [u8; 16], family: u8) -> IpAddr {
    let [a, b, c, d, ..] = bytes;
    if family == 4 { IpAddr::from([a, b, c, d]) } else { Ipv6Addr::from(bytes).to_canonical() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_peer_of_an_ipv6_socket_is_an_ipv4_address() {
        let mapped = Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0001]).octets();
        assert_eq!(address(mapped, 6), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(address([10, 0, 0, 1, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0], 4), IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn what_is_no_flow_is_refused() {
        assert!(flow(&[4; 55]).is_none() && flow(&[5; 56]).is_none() && flow(&[4; 56]).is_some());
        assert!(activity(3).is_none(), "resets are told as closes");
    }
}
