// SPDX-License-Identifier: Apache-2.0
//! Addresses that no packet comes from or goes to, for a time: a table of the packet filter's that is ours alone.
//!
//! Input: an address and for how long. Output: an element of a set, which the kernel takes away when its time is over,
//! whether or not anybody lives to see it. Invariants: other tables are never touched; the table, its sets, chains and rules
//! and the first element come into being in one transaction, so that no block is without its rules and no rule without a
//! block; what is blocked is read back. Only in a network namespace that belongs to the scope.
//!
//! The rules look at addresses and flags, not at states: nothing makes the kernel track connections that did not before. So
//! where all traffic is dropped, that of connections that exist is, too; and of calls only those of TCP are told from answers.

mod isolation;
mod needed;
mod netlink;
#[cfg(test)]
mod tests;

pub use isolation::Sent;
pub(crate) use isolation::TABLE as ISOLATION_TABLE;
pub(super) use isolation::datagram;
pub(super) use needed::needed;

use super::services::in_network;
use super::{Error, Result};
use crate::scope::Acting;
use netlink::{ACKNOWLEDGE, APPEND, Answer, Attributes, CREATE, DUMP, EXCLUSIVE, Messages, Verb};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::net::IpAddr;
use std::time::Duration;
use thymus_engine::action::Extent;

/// LIMIT: addresses blocked at one time; more would be a sign that something is wrong with what names them.
pub const BLOCKED_MAX: usize = 1_024;
/// The name of the table, of family `inet`: `nft list table inet thymus` shows what is blocked.
pub(crate) const TABLE: &str = "thymus";
/// `NF_IP_PRI_RAW`: before connections are tracked.
const PRIORITY: i32 = -300;
/// The kernel answers at once, or something is very wrong.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const ANSWER_BYTES: usize = 64 << 10;
/// An element may end by itself between two of our messages.
const TRIES: u32 = 3;
const RULES: usize = 10;

/// One address that is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub address: IpAddr,
    pub extent: Extent,
    /// Until it is not any more.
    pub left: Duration,
}

/// Two sets for each version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Four,
    Six,
}

impl Version {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Four,
            IpAddr::V6(_) => Self::Six,
        }
    }

    const fn set(self, extent: Extent) -> &'static str {
        match (self, extent) {
            (Self::Four, Extent::All) => "blocked4",
            (Self::Six, Extent::All) => "blocked6",
            (Self::Four, Extent::Outbound) => "uncalled4",
            (Self::Six, Extent::Outbound) => "uncalled6",
        }
    }

    /// nft's number of the type, bytes of an address, `NFPROTO_*`, and where the addresses stand in a packet.
    const fn layout(self) -> Layout {
        match self {
            Self::Four => Layout { kind: 7, bytes: 4, protocol: 2, source: 12, destination: 16 },
            Self::Six => Layout { kind: 8, bytes: 16, protocol: 10, source: 8, destination: 24 },
        }
    }
}

const SETS: [(Version, Extent); 4] = [
    (Version::Four, Extent::All),
    (Version::Six, Extent::All),
    (Version::Four, Extent::Outbound),
    (Version::Six, Extent::Outbound),
];

struct Layout {
    kind: u32,
    bytes: u32,
    protocol: u8,
    source: u32,
    destination: u32,
}

/// Name and `NF_INET_*`.
const CHAINS: [(&str, u32); 3] = [("input", 1), ("forward", 2), ("output", 3)];

/// What each chain drops, for both versions of IP: whose address stands where.
const DROPPED: [(&str, Side, Extent); 5] = [
    ("input", Side::Source, Extent::All),
    ("forward", Side::Source, Extent::All),
    ("forward", Side::Destination, Extent::All),
    ("output", Side::Destination, Extent::All),
    ("output", Side::Destination, Extent::Outbound),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// The packet filter of one network namespace.
#[derive(Debug)]
pub(super) struct Filter {
    socket: OwnedFd,
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Filter { doing, source: errno.into() }
}

/// Refused where the scope's processes live in the machine's own network and it is not the machine.
fn own_network(acting: Acting<'_>) -> Result<()> {
    let scope = acting.scope();
    if scope.is_whole_host() {
        return Ok(());
    }
    let refused = |why: &str| Error::Filter { doing: "go in", source: std::io::Error::other(why.to_owned()) };
    let leader = scope.leader().ok_or_else(|| refused("the scope has no first process"))?;
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
    match (of("self"), of(&leader.to_string())) {
        (Ok(own), Ok(theirs)) if own != theirs => Ok(()),
        (Ok(_), Ok(_)) => Err(refused("the scope has no network of its own: all of the machine would be blocked")),
        (Err(source), _) | (_, Err(source)) => Err(Error::Filter { doing: "go in", source }),
    }
}

impl Filter {
    /// Of the scope. Refused where its processes live in the machine's own network and it is not the machine.
    pub(super) fn open(acting: Acting<'_>) -> Result<Self> {
        let scope = acting.scope();
        own_network(acting)?;
        if scope.is_whole_host() {
            return Self::here();
        }
        // A socket belongs to the namespace that it was made in.
        in_network(scope, Self::here)?
    }

    /// Of the network namespace that the calling thread is in.
    fn here() -> Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(rustix::net::netlink::NETFILTER),
        );
        let socket = socket.map_err(failed("ask"))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_LIMIT)).map_err(failed("ask"))?;
        Ok(Self { socket })
    }

    /// From now for `time`, also if it was blocked for a shorter or longer one.
    pub(super) fn block(&self, address: IpAddr, extent: Extent, time: Duration) -> Result<()> {
        let mut last = Errno::AGAIN;
        for _ in 0..TRIES {
            let mut wanted = self.blocked()?;
            let same = |blocked: &Blocked| (blocked.address, blocked.extent) == (address, extent);
            let known = wanted.iter().any(same);
            if wanted.len() >= BLOCKED_MAX && !known {
                let why = format!("{BLOCKED_MAX} addresses are blocked, which is the limit");
                return Err(Error::Filter { doing: "block", source: std::io::Error::other(why) });
            }
            let new = Blocked { address, extent, left: time };
            let messages = match self.rules()? {
                Some(RULES) => Messages::batch(|messages| {
                    if known {
                        element(messages, Verb::DeleteElement, ACKNOWLEDGE, new);
                    }
                    element(messages, Verb::NewElement, ACKNOWLEDGE | CREATE, new);
                }),
                // Somebody took rules out of our table, or put some in: it is made anew, with all that was blocked.
                found => {
                    wanted.retain(|blocked| !same(blocked));
                    wanted.push(new);
                    whole(found.is_some(), &wanted)
                }
            };
            match self.send(&messages) {
                Ok(()) => {
                    return match self.blocked()?.iter().any(same) {
                        true => Ok(()),
                        false => Err(failed("block")(Errno::NOENT)),
                    };
                }
                Err(errno @ (Errno::NOENT | Errno::EXIST)) => last = errno, // it changed in between
                Err(errno) => return Err(failed("block")(errno)),
            }
        }
        Err(failed("block")(last))
    }

    /// False: it was not blocked. The table goes with its last element.
    pub(super) fn unblock(&self, address: IpAddr, extent: Extent) -> Result<bool> {
        let blocked = self.blocked()?;
        let same = |blocked: &&Blocked| (blocked.address, blocked.extent) == (address, extent);
        let Some(found) = blocked.iter().find(same) else { return Ok(false) };
        let messages = Messages::batch(|messages| {
            if blocked.len() == 1 {
                messages.message(Verb::DeleteTable, ACKNOWLEDGE, |table| table.text(1, TABLE));
            } else {
                element(messages, Verb::DeleteElement, ACKNOWLEDGE, *found);
            }
        });
        match self.send(&messages) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("unblock")(errno)),
        }
    }

    /// Everything that is blocked at this instant, in the order of addresses.
    pub(super) fn blocked(&self) -> Result<Vec<Blocked>> {
        let mut blocked = Vec::new();
        for (version, extent) in SETS {
            let answered = self.ask(&elements_of(version, extent), |told| {
                let elements = netlink::attribute(told, 3).unwrap_or_default();
                let known = netlink::attributes(elements).filter_map(|(_, element)| parse(element, version, extent));
                blocked.extend(known);
            });
            match answered {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed("read")(errno)),
            }
        }
        blocked.sort_unstable_by_key(|blocked| (blocked.address, blocked.extent));
        Ok(blocked)
    }

    /// How many rules our table has; `None`: there is no such table.
    fn rules(&self) -> Result<Option<usize>> {
        let mut count = 0;
        let mut messages = Messages::default();
        messages.message(Verb::GetRule, DUMP, |rule| rule.text(1, TABLE));
        match self.ask(&messages, |_| count += 1) {
            // The rules of a table that is not there are an empty answer, too.
            Ok(()) => Ok((count > 0 || self.has_table()?).then_some(count)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("read")(errno)),
        }
    }

    /// A set of ours exists: then so does the table.
    fn has_table(&self) -> Result<bool> {
        match self.ask(&elements_of(Version::Four, Extent::All), |_| {}) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("read")(errno)),
        }
    }

    /// Each message of a batch is acknowledged, or the first refusal is the answer to all.
    fn send(&self, messages: &Messages) -> std::result::Result<(), Errno> {
        rustix::net::send(&self.socket, &messages.bytes, SendFlags::empty())?;
        let mut buffer = vec![0; ANSWER_BYTES];
        let mut refused = Ok(());
        let mut outstanding = messages.awaited;
        while outstanding > 0 {
            let received = self.receive(&mut buffer)?;
            for answer in netlink::answers(received) {
                let Answer::Acknowledged { error, .. } = answer else { continue };
                outstanding = outstanding.saturating_sub(1);
                if error != 0 {
                    refused = refused.and(Err(Errno::from_raw_os_error(error)));
                }
            }
            if refused.is_err() {
                break; // what else was refused with it is not waited for: the socket is emptied at the next question
            }
        }
        refused
    }

    fn ask(&self, messages: &Messages, mut told: impl FnMut(&[u8])) -> std::result::Result<(), Errno> {
        self.empty();
        rustix::net::send(&self.socket, &messages.bytes, SendFlags::empty())?;
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let received = self.receive(&mut buffer)?;
            if received.is_empty() {
                return Err(Errno::IO);
            }
            for answer in netlink::answers(received) {
                match answer {
                    Answer::Told(attributes) => told(attributes),
                    Answer::Done | Answer::Acknowledged { error: 0, .. } => return Ok(()),
                    Answer::Acknowledged { error, .. } => return Err(Errno::from_raw_os_error(error)),
                }
            }
        }
    }

    /// Answers that nobody waited for.
    fn empty(&self) {
        let mut buffer = vec![0; ANSWER_BYTES];
        while rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT).is_ok() {}
    }

    fn receive<'b>(&self, buffer: &'b mut [u8]) -> std::result::Result<&'b [u8], Errno> {
        let length = buffer.len();
        let (received, _) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
        Ok(&buffer[..received.min(length)])
    }
}

fn elements_of(version: Version, extent: Extent) -> Messages {
    let mut messages = Messages::default();
    messages.message(Verb::GetElement, DUMP, |list| {
        list.text(1, TABLE);
        list.text(2, version.set(extent));
    });
    messages
}

fn parse(element: &[u8], version: Version, extent: Extent) -> Option<Blocked> {
    let key = netlink::attribute(netlink::attribute(element, 1)?, 1)?;
    let address = match version {
        Version::Four => IpAddr::from(<[u8; 4]>::try_from(key).ok()?),
        Version::Six => IpAddr::from(<[u8; 16]>::try_from(key).ok()?),
    };
    let left = netlink::attribute(element, 5).and_then(|value| Some(u64::from_be_bytes(value.try_into().ok()?)));
    Some(Blocked { address, extent, left: Duration::from_millis(left.unwrap_or(0)) })
}

fn element(messages: &mut Messages, verb: Verb, flags: u16, blocked: Blocked) {
    messages.message(verb, flags, |list| {
        list.text(1, TABLE);
        list.text(2, Version::of(blocked.address).set(blocked.extent));
        list.nest(3, |elements| {
            elements.nest(1, |element| {
                element.nest(1, |key| match blocked.address {
                    IpAddr::V4(address) => key.bytes(1, &address.octets()),
                    IpAddr::V6(address) => key.bytes(1, &address.octets()),
                });
                if verb == Verb::NewElement {
                    let time = u64::try_from(blocked.left.as_millis()).unwrap_or(u64::MAX).max(1);
                    element.bytes(4, &time.to_be_bytes());
                }
            });
        });
    });
}

/// The whole table, instead of the one that is there.
fn whole(instead: bool, blocked: &[Blocked]) -> Messages {
    let elements = blocked.len();
    Messages::batch(|messages| {
        if instead {
            messages.message(Verb::DeleteTable, ACKNOWLEDGE, |table| table.text(1, TABLE));
        }
        messages.message(Verb::NewTable, ACKNOWLEDGE | CREATE | EXCLUSIVE, |table| table.text(1, TABLE));
        for (id, (version, extent)) in (1..).zip(SETS) {
            let layout = version.layout();
            messages.message(Verb::NewSet, ACKNOWLEDGE | CREATE, |set| {
                const TIMEOUT: u32 = 0x10;
                set.text(1, TABLE);
                set.text(2, version.set(extent));
                set.number(3, TIMEOUT);
                set.number(4, layout.kind);
                set.number(5, layout.bytes);
                set.number(10, id);
            });
        }
        for (name, hook) in CHAINS {
            chain(messages, (TABLE, name), hook);
        }
        for (chain, side, extent) in DROPPED {
            for version in [Version::Four, Version::Six] {
                messages.message(Verb::NewRule, ACKNOWLEDGE | CREATE | APPEND, |rule| {
                    rule.text(1, TABLE);
                    rule.text(2, chain);
                    rule.nest(4, |expressions| drop_packets(expressions, version, side, extent));
                });
            }
        }
        // A word for each of many would not fit into the socket.
        for (at, blocked) in (1..).zip(blocked) {
            let acknowledge = if at == elements { ACKNOWLEDGE } else { 0 };
            element(messages, Verb::NewElement, acknowledge | CREATE, *blocked);
        }
    })
}

/// At a hook, with everything let through that no rule drops.
fn chain(messages: &mut Messages, (table, name): (&str, &str), hook: u32) {
    messages.message(Verb::NewChain, ACKNOWLEDGE | CREATE, |chain| {
        chain.text(1, table);
        chain.text(3, name);
        chain.nest(4, |at| {
            at.number(1, hook);
            at.bytes(2, &PRIORITY.to_be_bytes());
        });
        chain.number(5, ACCEPT);
        chain.text(7, "filter");
    });
}

/// `meta nfproto VERSION, SIDE address @set counter drop`; of what this host begins only the first packet, by
/// `tcp flags & (syn | ack) == syn`.
fn drop_packets(expressions: &mut Attributes<'_>, version: Version, side: Side, extent: Extent) {
    let layout = version.layout();
    meta_is(expressions, Meta::Version, layout.protocol);
    if extent == Extent::Outbound {
        const TCP: u8 = 6;
        const FLAGS: Load = Load { base: 2, offset: 13, bytes: 1 };
        const SYN: u8 = 0x02;
        const SYN_ACK: u8 = 0x12;
        meta_is(expressions, Meta::Transport, TCP);
        load(expressions, FLAGS);
        mask(expressions, &[SYN_ACK]);
        is(expressions, SYN);
    }
    const NETWORK_HEADER: u32 = 1;
    let offset = if side == Side::Source { layout.source } else { layout.destination };
    load(expressions, Load { base: NETWORK_HEADER, offset, bytes: layout.bytes });
    expression(expressions, "lookup", |lookup| {
        lookup.text(1, version.set(extent));
        lookup.number(2, REGISTER);
    });
    expression(expressions, "counter", |_| {});
    verdict(expressions, DROP);
}

const REGISTER: u32 = 1;

#[derive(Clone, Copy)]
#[repr(u32)]
enum Meta {
    /// Number of the interface that a packet came in by, or goes out by.
    InputInterface = 4,
    OutputInterface = 5,
    Version = 15,
    Transport = 16,
}

/// Bytes of a packet's header.
#[derive(Clone, Copy)]
struct Load {
    base: u32,
    offset: u32,
    bytes: u32,
}

fn expression(expressions: &mut Attributes<'_>, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
    expressions.nest(1, |expression| {
        expression.text(1, name);
        expression.nest(2, data);
    });
}

fn meta_is(expressions: &mut Attributes<'_>, key: Meta, value: u8) {
    load_meta(expressions, key);
    is(expressions, value);
}

fn load_meta(expressions: &mut Attributes<'_>, key: Meta) {
    expression(expressions, "meta", |meta| {
        meta.number(1, REGISTER);
        meta.number(2, key as u32);
    });
}

fn load(expressions: &mut Attributes<'_>, load: Load) {
    expression(expressions, "payload", |payload| {
        payload.number(1, REGISTER);
        payload.number(2, load.base);
        payload.number(3, load.offset);
        payload.number(4, load.bytes);
    });
}

/// What was loaded last is this.
fn is(expressions: &mut Attributes<'_>, value: u8) {
    compare(expressions, Comparison::Equal, &[value]);
}

#[derive(Clone, Copy)]
#[repr(u32)]
enum Comparison {
    Equal = 0,
    AtMost = 3,
    AtLeast = 5,
}

/// What was loaded last stands so to this.
fn compare(expressions: &mut Attributes<'_>, how: Comparison, value: &[u8]) {
    expression(expressions, "cmp", |compare| {
        compare.number(1, REGISTER);
        compare.number(2, how as u32);
        compare.nest(3, |data| data.bytes(1, value));
    });
}

/// Of what was loaded last only these bits.
fn mask(expressions: &mut Attributes<'_>, bits: &[u8]) {
    expression(expressions, "bitwise", |bitwise| {
        bitwise.number(1, REGISTER);
        bitwise.number(2, REGISTER);
        bitwise.number(3, u32::try_from(bits.len()).unwrap_or(0));
        bitwise.nest(4, |mask| mask.bytes(1, bits));
        bitwise.nest(5, |flip| flip.bytes(1, &vec![0; bits.len()]));
    });
}

const DROP: u32 = 0;
const ACCEPT: u32 = 1;

fn verdict(expressions: &mut Attributes<'_>, verdict: u32) {
    expression(expressions, "immediate", |immediate| {
        const VERDICT_REGISTER: u32 = 0;
        immediate.number(1, VERDICT_REGISTER);
        immediate.nest(2, |data| data.nest(2, |code| code.number(1, verdict)));
    });
}
