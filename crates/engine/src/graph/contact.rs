// SPDX-License-Identifier: Apache-2.0
//! Whom a process talked to.
//!
//! Input: network events. Output: peers of each process, with how often and how much. Who was asked in vain is no peer.

use super::{Graph, InvocationId, Noted};
use crate::action::Extent;
use crate::decide::is_elsewhere;
use crate::event::{Endpoint, NetworkActivity, NetworkActivityId, Traffic};
use crate::id::ProcessKey;
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

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

/// LIMIT: of one address, those who are known to have to do with it; when there are more, one of them is no attack.
pub const ACQUAINTED_MAX: usize = 4;

/// Who has to do with an address: by process, and by what it belongs to where the process is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Acquainted {
    by: Vec<(ProcessKey, InvocationId)>,
    more: bool,
}

impl Graph {
    /// Who has to do with this address and is no part of a confirmed attack, in words: whoever calls it, or, where all
    /// traffic with it is meant, whoever logged in from there or came to a program that is no server for everybody.
    pub(crate) fn neighbour(&self, address: IpAddr, extent: Extent) -> Option<String> {
        let called = |by: &str| format!("{by} called it, too");
        match extent {
            Extent::Outbound => self.bystander(self.callers.get(&address)?).map(|by| called(&by)),
            Extent::All => {
                let visited = self.visitors.get(&address).and_then(|visited| self.bystander(visited));
                let visited = visited.map(|by| format!("others came from there: {by}"));
                visited.or_else(|| self.neighbour(address, Extent::Outbound))
            }
        }
    }

    fn bystander(&self, acquainted: &Acquainted) -> Option<String> {
        if acquainted.more {
            return Some(format!("more than {ACQUAINTED_MAX} programs"));
        }
        let other = |(key, id): &&(ProcessKey, InvocationId)| match self.process(*key) {
            Some(node) => node.subject.is_none(),
            None => self.invocation(*id).is_none_or(|found| found.subject.is_none()),
        };
        let (key, id) = acquainted.by.iter().find(other)?;
        let invocation = self.invocation(*id);
        if let Some(session) = invocation.filter(|found| found.kind == InvocationKind::Session) {
            return Some(session.title());
        }
        let program = self.process(*key).and_then(|node| node.exe.as_ref());
        Some(program.map_or_else(|| "a program".to_owned(), |program| format!("`{program}` (pid {})", key.pid)))
    }

    /// Somebody logged in from there.
    pub(super) fn visited(&mut self, address: IpAddr, by: ProcessKey) {
        let Some(id) = self.processes.get(&by).map(|node| node.invocation) else { return };
        self.visitors.entry(&address.to_canonical()).add(by, id);
    }

    pub(super) fn observe_network(&mut self, activity: &NetworkActivity) -> Noted {
        let (connections, traffic) = match (activity.activity, activity.traffic) {
            (NetworkActivityId::Open, _) => (1, Traffic::default()),
            (NetworkActivityId::Close, Some(traffic)) => (0, traffic),
            _ => return Noted::default(),
        };
        let Some(remote) = &activity.remote else { return Noted::default() };
        let Some(node) = self.processes.get_mut(&activity.actor) else { return Noted::default() };
        // Whoever lets people in accepts them before they have said who they are, and a server whoever comes, attacks too.
        let counts = activity.activity == NetworkActivityId::Open && (!activity.inbound || node.hub.is_none());
        if counts && is_elsewhere(remote.ip) {
            let of = if activity.inbound { &mut self.visitors } else { &mut self.callers };
            of.entry(&remote.ip.to_canonical()).add(activity.actor, node.invocation);
        }
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

impl Acquainted {
    /// One invocation is acquainted once, however often its processes call.
    fn add(&mut self, key: ProcessKey, id: InvocationId) {
        if self.by.iter().any(|(known, of)| *known == key || *of == id) {
            return;
        }
        if self.by.len() < ACQUAINTED_MAX {
            self.by.push((key, id));
        } else {
            self.more = true;
        }
    }
}
