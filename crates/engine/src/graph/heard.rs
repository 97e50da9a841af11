// SPDX-License-Identifier: Apache-2.0
//! Which invocation a line of a log is about.
//!
//! Input: lines, and invocations whose peer the kernel or the server's environment has told. Output: lines beside their
//! invocations. A line may come before its session begins, and after its request has ended. INVARIANT: nothing else of the
//! graph changes by a line; none begins, keeps or forgets a process, a path or an invocation.

use super::{Graph, InvocationId};
use crate::detect::Bounded;
use crate::event::Endpoint;
use crate::hearsay::{Heard, Hearsay, Join, Said};
use crate::id::Timestamp;
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::IpAddr;

/// LIMIT: lines kept of one invocation, and of one connection whose session has not begun; further ones are counted.
pub const HEARD_MAX: usize = 4;
/// LIMIT: invocations of which lines are kept; of more, the oldest lose theirs, but for those of an attack.
pub const HEARD_INVOCATIONS_MAX: usize = 2_048;
/// LIMIT: connections whose lines wait for a session to begin; whoever only knocks is among them.
const WAITING_MAX: usize = 512;
/// LIMIT: addresses from which requests came, and requests of one that may still be logged.
const REQUESTERS_MAX: usize = 1_024;
const REQUESTS_MAX: usize = 8;
/// A line is about what was no longer ago than this, a minute in nanoseconds: addresses and ports are used again.
pub const JOIN_NS: u64 = 60_000_000_000;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Hearing {
    waiting: Bounded<(IpAddr, u16), Vec<Heard>, WAITING_MAX>,
    connections: Bounded<(IpAddr, u16), InvocationId, HEARD_INVOCATIONS_MAX>,
    requests: Bounded<IpAddr, VecDeque<InvocationId>, REQUESTERS_MAX>,
    /// Invocations with lines, oldest first.
    order: VecDeque<InvocationId>,
    /// Lines that were not kept with their invocation, or not any longer.
    pub(super) left_out: u64,
}

fn place(peer: &Endpoint) -> (IpAddr, u16) {
    (peer.ip.to_canonical(), peer.port)
}

impl Graph {
    /// Lines that were not kept with what they are about, and connections whose lines found no place to wait.
    #[must_use]
    pub fn hearsay_left_out(&self) -> u64 {
        self.hearing.left_out + self.hearing.waiting.forgotten
    }

    /// Whether it could be about an invocation: others need not be recorded. Whoever asks a web server for files alone, however
    /// often, fills no journal.
    #[must_use]
    pub fn concerns(&self, time: Timestamp, line: &Hearsay) -> bool {
        let about = |peer: &Endpoint| peer.port != 0 || !self.requests_from(place(peer).0, time).is_empty();
        line.src_endpoint.as_ref().is_some_and(about)
    }

    /// Takes one line in.
    pub(crate) fn hear(&mut self, time: Timestamp, line: &Hearsay) {
        let Some(peer) = &line.src_endpoint else { return };
        let (address, port) = place(peer);
        let heard = |join| Heard {
            time,
            parser: line.parser.clone(),
            source: line.source.clone(),
            join,
            said: line.said.clone(),
        };
        if port == 0 {
            let candidates = self.requests_from(address, time);
            let count = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
            for id in candidates {
                self.keep_heard(id, heard(Join::Address { candidates: count }));
            }
            return;
        }
        let known = self.hearing.connections.get(&(address, port)).copied();
        match known.filter(|id| self.was_there(*id, time)) {
            Some(id) => self.keep_heard(id, heard(Join::Connection)),
            None => {
                let waiting = self.hearing.waiting.entry(&(address, port));
                waiting.retain(|line| time.since_ns(line.time) <= JOIN_NS);
                if waiting.len() < HEARD_MAX {
                    waiting.push(heard(Join::Connection));
                } else {
                    self.hearing.left_out += 1;
                }
            }
        }
    }

    /// From now on it is known who is at the other end of this invocation.
    pub(super) fn peer_is_known(&mut self, id: InvocationId) {
        let Some(found) = self.invocations.get(&id) else { return };
        let Some(peer) = found.src_endpoint.as_ref().map(place) else { return };
        let (kind, started) = (found.kind.clone(), found.started);
        if kind == InvocationKind::Request {
            let requests = self.hearing.requests.entry(&peer.0);
            if requests.len() >= REQUESTS_MAX {
                requests.pop_front();
            }
            requests.push_back(id);
        }
        if peer.1 == 0 {
            return;
        }
        self.hearing.connections.insert(peer, id);
        for line in self.hearing.waiting.remove(&peer).unwrap_or_default() {
            if started.since_ns(line.time) <= JOIN_NS {
                self.keep_heard(id, line);
            }
        }
    }

    /// It runs, or ended a moment ago.
    fn was_there(&self, id: InvocationId, time: Timestamp) -> bool {
        let found = self.invocations.get(&id);
        found.is_some_and(|found| found.ended.is_none_or(|ended| time.since_ns(ended) <= JOIN_NS))
    }

    /// Requests from that address that a log may now tell of. A server logs a request when it is over, so one that is, and of
    /// which no log has said anything, goes before those that are not; of these, many lines may come in the meantime.
    fn requests_from(&self, address: IpAddr, time: Timestamp) -> Vec<InvocationId> {
        let Some(requests) = self.hearing.requests.get(&address) else { return Vec::new() };
        let (mut over, mut running) = (Vec::new(), Vec::new());
        for id in requests.iter().filter(|id| self.was_there(**id, time)) {
            let Some(found) = self.invocations.get(id) else { continue };
            let told = found.heard.iter().any(|heard| matches!(heard.said, Said::Http(_)));
            match found.ended {
                Some(_) if !told => over.push(*id),
                None if found.heard.len() < HEARD_MAX => running.push(*id),
                _ => {}
            }
        }
        if over.is_empty() { running } else { over }
    }

    fn keep_heard(&mut self, id: InvocationId, heard: Heard) {
        let Some(found) = self.invocations.get_mut(&id) else { return };
        if found.heard.iter().any(|known| known.said == heard.said) {
            return; // another log has it too
        }
        if found.heard.len() >= HEARD_MAX {
            self.hearing.left_out += 1;
            return;
        }
        let first = found.heard.is_empty();
        found.heard.push(heard);
        if !first {
            return;
        }
        self.hearing.order.push_back(id);
        if self.hearing.order.len() > HEARD_INVOCATIONS_MAX
            && let Some(oldest) = self.hearing.order.pop_front()
            && let Some(oldest) = self.invocations.get_mut(&oldest)
            && !(oldest.pinned || oldest.suspect || oldest.subject.is_some())
        {
            self.hearing.left_out += u64::try_from(oldest.heard.len()).unwrap_or(u64::MAX);
            oldest.heard = Vec::new();
        }
    }
}
