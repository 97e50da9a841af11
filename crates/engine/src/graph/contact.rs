// SPDX-License-Identifier: Apache-2.0
//! Whom a process talked to.
//!
//! Input: network events. Output: peers of each process, with how often and how much. Who was asked in vain is no peer.

use super::{Graph, Noted};
use crate::event::{Endpoint, NetworkActivity, NetworkActivityId, Traffic};
use serde::{Deserialize, Serialize};

/// LIMIT: peers kept of one process; connections to others are counted together.
pub const CONTACTS_MAX: usize = 8;

/// One peer of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Of the peer; where the peer came here, the port is our own.
    pub endpoint: Endpoint,
    pub inbound: bool,
    pub connections: u64,
    /// Of the connections that have ended.
    pub traffic: Traffic,
}

impl Contact {
    /// Adds what is known of the same peer from elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.traffic.received = self.traffic.received.saturating_add(other.traffic.received);
        self.traffic.sent = self.traffic.sent.saturating_add(other.traffic.sent);
    }
}

/// All peers of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    pub known: Vec<Contact>,
    /// Connections to peers beyond [`CONTACTS_MAX`].
    pub others: u64,
}

impl Graph {
    pub(super) fn observe_network(&mut self, activity: &NetworkActivity) -> Noted {
        let (connections, traffic) = match (activity.activity, activity.traffic) {
            (NetworkActivityId::Open, _) => (1, Traffic::default()),
            (NetworkActivityId::Close, Some(traffic)) => (0, traffic),
            _ => return Noted::default(),
        };
        let (Some(node), Some(remote)) = (self.processes.get_mut(&activity.actor), &activity.remote) else {
            return Noted::default();
        };
        let port = if activity.inbound { activity.local.port } else { remote.port };
        let endpoint = Endpoint { ip: remote.ip, port };
        let contact = Contact { endpoint, inbound: activity.inbound, connections, traffic };
        let contacts = node.contacts.get_or_insert_default();
        let same = |known: &Contact| known.endpoint == contact.endpoint && known.inbound == contact.inbound;
        match contacts.known.iter().position(same) {
            Some(at) => contacts.known[at].add(&contact),
            None if contacts.known.len() < CONTACTS_MAX => contacts.known.push(contact),
            None => contacts.others = contacts.others.saturating_add(connections),
        }
        Noted::default()
    }
}
