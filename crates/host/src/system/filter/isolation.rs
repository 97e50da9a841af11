// SPDX-License-Identifier: Apache-2.0
//! A host that nobody reaches and that reaches nobody, for a time, but for networks that are let through both ways.
//!
//! Input: those networks and for how long. Output: a table of its own, made in one transaction. What drops packets looks at a
//! set of IP's versions: when both elements have run out, it drops none, whether or not anybody lives to see it. Invariants:
//! other tables are never touched, and what those drop stays dropped; no state of connections is looked at, so what
//! exists is cut off, too. Let through besides: loopback, what neighbours of the sixth version of IP find each other
//! by (RFC 4861, RFC 3810), an address by DHCPv6 from this link, and what says that a packet did not get there (path MTU).
//! DHCP of the fourth version needs nothing: who renews by broadcast does so beneath the packet filter, packet(7).

use super::*;
use std::net::UdpSocket;
use thymus_engine::network::Network;

/// The name of the table, of family `inet`.
pub(crate) const TABLE: &str = "thymus_isolation";
const SET: &str = "isolated";
/// `LOOPBACK_IFINDEX`: the first interface of every network namespace.
const LOOPBACK: u32 = 1;
/// discard(9): whoever hears it says nothing.
const PORT: u16 = 9;
/// LIMIT: own addresses that a datagram to all on the link is sent from.
const OWN_MAX: usize = 16;

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMP_SIX: u8 = 58;

/// What became of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It went out.
    Yes,
    /// A packet filter refused it: nothing went out.
    Refused,
    /// No way leads there.
    NoWay,
}

/// What is let through besides the networks, by chain.
#[derive(Clone, Copy)]
enum Passes {
    Loopback(Meta),
    /// Of these ICMP types.
    Told(Version, u8, u8),
    /// UDP between these ports, with this network on that side.
    Asked {
        from: u16,
        to: u16,
        side: Side,
        network: ([u8; 16], u8),
    },
}

const LINK_LOCAL: ([u8; 16], u8) = ([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10);
/// `All_DHCP_Relay_Agents_and_Servers`.
const DHCP_SERVERS: ([u8; 16], u8) = ([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2], 128);

const IN: [Passes; 6] = [
    Passes::Loopback(Meta::InputInterface),
    Passes::Told(Version::Six, 130, 137),
    Passes::Told(Version::Six, 143, 143),
    Passes::Told(Version::Six, 2, 2),
    Passes::Told(Version::Four, 3, 3),
    Passes::Asked { from: 547, to: 546, side: Side::Source, network: LINK_LOCAL },
];
const OUT: [Passes; 4] = [
    Passes::Loopback(Meta::OutputInterface),
    Passes::Told(Version::Six, 130, 137),
    Passes::Told(Version::Six, 143, 143),
    Passes::Asked { from: 546, to: 547, side: Side::Destination, network: DHCP_SERVERS },
];

const fn rules_of(networks: usize) -> usize {
    IN.len() + OUT.len() + CHAINS.len() + 2 * networks
}

impl Filter {
    /// From now for `time`, instead of any other isolation.
    pub(in crate::system) fn isolate(&self, control: &[Network], time: Duration) -> Result<()> {
        self.empty();
        self.send(&table(control, time)).map_err(failed("isolate"))?;
        match self.isolated(control)? {
            Some(_) => Ok(()),
            None => Err(failed("isolate")(Errno::NOENT)),
        }
    }

    /// For how long still; `None`: it is not, or not with as many rules as letting these through takes.
    pub(in crate::system) fn isolated(&self, control: &[Network]) -> Result<Option<Duration>> {
        let mut left = Vec::new();
        let parse = |element: &[u8]| {
            let left = netlink::attribute(element, 5)?;
            Some(Duration::from_millis(u64::from_be_bytes(left.try_into().ok()?)))
        };
        let found = self.ask(&elements(), |told| {
            let elements = netlink::attribute(told, 3).unwrap_or_default();
            left.extend(netlink::attributes(elements).filter_map(|(_, element)| parse(element)));
        });
        match found {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed("read")(errno)),
        }
        let mut rules = 0;
        let mut messages = Messages::default();
        messages.message(Verb::GetRule, DUMP, |rule| rule.text(1, TABLE));
        self.ask(&messages, |_| rules += 1).map_err(failed("read"))?;
        let whole = left.len() == 2 && rules == rules_of(control.len());
        Ok(left.into_iter().min().filter(|_| whole))
    }

    /// False: there was no such table.
    pub(in crate::system) fn rejoin(&self) -> Result<bool> {
        self.empty();
        let messages = Messages::batch(|messages| {
            messages.message(Verb::DeleteTable, ACKNOWLEDGE, |table| table.text(1, TABLE));
        });
        match self.send(&messages) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("undo the isolation")(errno)),
        }
    }
}

fn elements() -> Messages {
    let mut messages = Messages::default();
    messages.message(Verb::GetElement, DUMP, |list| {
        list.text(1, TABLE);
        list.text(2, SET);
    });
    messages
}

/// The whole table, instead of one that may be there. One word answers for all the rules: many would not fit into the socket.
fn table(control: &[Network], time: Duration) -> Messages {
    Messages::batch(|messages| {
        for verb in [Verb::NewTable, Verb::DeleteTable, Verb::NewTable] {
            let create = if verb == Verb::NewTable { CREATE } else { 0 };
            messages.message(verb, ACKNOWLEDGE | create, |table| table.text(1, TABLE));
        }
        messages.message(Verb::NewSet, ACKNOWLEDGE | CREATE, |set| {
            const TIMEOUT: u32 = 0x10;
            const KIND: u32 = 2;
            set.text(1, TABLE);
            set.text(2, SET);
            set.number(3, TIMEOUT);
            set.number(4, KIND);
            set.number(5, 1);
            set.number(10, 1);
        });
        for (name, hook) in CHAINS {
            chain(messages, (TABLE, name), hook);
        }
        for passes in IN {
            rule(messages, "input", |expressions| pass(expressions, passes));
        }
        for passes in OUT {
            rule(messages, "output", |expressions| pass(expressions, passes));
        }
        for network in control {
            for (chain, side) in [("input", Side::Source), ("output", Side::Destination)] {
                rule(messages, chain, |expressions| {
                    let (address, bits) = network.parts();
                    address_in(expressions, side, (address, bits));
                    verdict(expressions, ACCEPT);
                });
            }
        }
        for (name, _) in CHAINS {
            rule(messages, name, |expressions| {
                load_meta(expressions, Meta::Version);
                expression(expressions, "lookup", |lookup| {
                    lookup.text(1, SET);
                    lookup.number(2, REGISTER);
                });
                expression(expressions, "counter", |_| {});
                verdict(expressions, DROP);
            });
        }
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        messages.message(Verb::NewElement, ACKNOWLEDGE | CREATE, |list| {
            list.text(1, TABLE);
            list.text(2, SET);
            list.nest(3, |elements| {
                for version in [Version::Four, Version::Six] {
                    elements.nest(1, |element| {
                        element.nest(1, |key| key.bytes(1, &[version.layout().protocol]));
                        element.bytes(4, &time.to_be_bytes());
                    });
                }
            });
        });
    })
}

fn rule(messages: &mut Messages, chain: &str, content: impl FnOnce(&mut Attributes<'_>)) {
    messages.message(Verb::NewRule, CREATE | APPEND, |rule| {
        rule.text(1, TABLE);
        rule.text(2, chain);
        rule.nest(4, content);
    });
}

fn pass(expressions: &mut Attributes<'_>, passes: Passes) {
    const TRANSPORT_HEADER: u32 = 2;
    match passes {
        Passes::Loopback(interface) => {
            load_meta(expressions, interface);
            compare(expressions, Comparison::Equal, &LOOPBACK.to_ne_bytes());
        }
        Passes::Told(version, first, last) => {
            meta_is(expressions, Meta::Version, version.layout().protocol);
            meta_is(expressions, Meta::Transport, if version == Version::Four { ICMP } else { ICMP_SIX });
            load(expressions, Load { base: TRANSPORT_HEADER, offset: 0, bytes: 1 });
            compare(expressions, Comparison::AtLeast, &[first]);
            compare(expressions, Comparison::AtMost, &[last]);
        }
        Passes::Asked { from, to, side, network: (address, bits) } => {
            address_in(expressions, side, (IpAddr::from(address), bits));
            meta_is(expressions, Meta::Transport, UDP);
            load(expressions, Load { base: TRANSPORT_HEADER, offset: 0, bytes: 4 });
            let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
            compare(expressions, Comparison::Equal, &ports);
        }
    }
    verdict(expressions, ACCEPT);
}

/// The address on that side shares so many of its first bits.
fn address_in(expressions: &mut Attributes<'_>, side: Side, (address, bits): (IpAddr, u8)) {
    const NETWORK_HEADER: u32 = 1;
    let layout = Version::of(address).layout();
    meta_is(expressions, Meta::Version, layout.protocol);
    let offset = if side == Side::Source { layout.source } else { layout.destination };
    load(expressions, Load { base: NETWORK_HEADER, offset, bytes: layout.bytes });
    let mut ones = vec![0; layout.bytes as usize];
    for (at, byte) in (0u32..).zip(&mut ones) {
        let own = u32::from(bits).saturating_sub(at * 8).min(8);
        *byte = u8::MAX.checked_shl(8 - own).unwrap_or(0);
    }
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let wanted: Vec<u8> = octets.iter().zip(&ones).map(|(octet, ones)| octet & ones).collect();
    mask(expressions, &ones);
    compare(expressions, Comparison::Equal, &wanted);
}

/// An empty one, from within the scope's own network. To all on the link it goes from an address of this host's: no route is
/// needed for that.
pub(in crate::system) fn datagram(acting: Acting<'_>, address: IpAddr) -> Result<Sent> {
    own_network(acting)?;
    let from = match address.is_multicast() && address.is_ipv4() {
        true => needed::own(acting.scope())?.into_iter().filter(|own| !own.is_loopback()).take(OWN_MAX).collect(),
        false if address.is_ipv4() => vec![IpAddr::from([0; 4])],
        false => vec![IpAddr::from([0; 16])],
    };
    in_network(acting.scope(), move || from_any(&from, address))?
}

/// From the first that there is a way from.
pub(super) fn from_any(from: &[IpAddr], address: IpAddr) -> Result<Sent> {
    for own in from {
        let sent = UdpSocket::bind((*own, 0)).and_then(|socket| socket.send_to(&[], (address, PORT)));
        match sent {
            Ok(_) => return Ok(Sent::Yes),
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => return Ok(Sent::Refused),
            Err(_) => {}
        }
    }
    Ok(Sent::NoWay)
}
