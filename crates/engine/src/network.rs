// SPDX-License-Identifier: Apache-2.0
//! Networks by address and length, as `10.0.0.0/8`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that share the first bits; written without `/…` it is one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    /// 0..=32 or 0..=128.
    bits: u8,
}

impl Network {
    /// An address of it, and how many of its first bits all of them share.
    #[must_use]
    pub const fn parts(self) -> (IpAddr, u8) {
        (self.address, self.bits)
    }

    /// One of its hosts: the address itself where it is one, else the first that is no name of the whole.
    #[must_use]
    pub fn host(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) if self.bits < 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask | 1).into()
            }
            IpAddr::V6(address) if self.bits < 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask | 1).into()
            }
            one => one,
        }
    }

    /// The first and the last address, and the neighbours of both that are outside.
    pub(crate) fn borders(self) -> Vec<IpAddr> {
        match self.address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(self.bits.into()).unwrap_or(0);
                let (first, last) = (address.to_bits() & !host, address.to_bits() | host);
                let near = [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)];
                near.into_iter().flatten().map(|bits| Ipv4Addr::from_bits(bits).into()).collect()
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(self.bits.into()).unwrap_or(0);
                let (first, last) = (address.to_bits() & !host, address.to_bits() | host);
                let near = [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)];
                near.into_iter().flatten().map(|bits| Ipv6Addr::from_bits(bits).into()).collect()
            }
        }
    }

    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("`{text}` is no network; expected an address as `192.0.2.7` or a network as `10.0.0.0/8`");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| expected())?;
        if bits > most { Err(expected()) } else { Ok(Self { address, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_that_share_its_first_bits() {
        let holds =
            |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("0.0.0.0/0", "255.1.2.3") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("::/0", "fe80::1") && holds("10.0.0.0/8", "::ffff:10.1.2.3"));
    }

    #[test]
    fn a_host_of_a_network_is_one_of_its_addresses() {
        let host = |network: &str| network.parse::<Network>().unwrap().host().to_string();
        assert_eq!((host("10.1.2.3/8"), host("10.1.2.3")), ("10.0.0.1".to_owned(), "10.1.2.3".to_owned()));
        assert_eq!((host("0.0.0.0/0"), host("fd00::7")), ("0.0.0.1".to_owned(), "fd00::7".to_owned()));
        assert_eq!((host("fd00::7/64"), host("::/0")), ("fd00::1".to_owned(), "::1".to_owned()));
    }

    #[test]
    fn the_borders_of_a_network_are_its_ends_and_who_stands_beside_it() {
        let borders = |network: &str| {
            let network: Network = network.parse().unwrap();
            network.borders().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(borders("10.0.0.0/8"), "10.0.0.0 10.255.255.255 9.255.255.255 11.0.0.0");
        assert_eq!(borders("0.0.0.0/0"), "0.0.0.0 255.255.255.255");
        assert_eq!(borders("192.0.2.7"), "192.0.2.7 192.0.2.7 192.0.2.6 192.0.2.8");
        assert_eq!(
            borders("2001:db8::/127"),
            "2001:db8:: 2001:db8::1 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8::2"
        );
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_is_expected() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "host", "10.0.0.1/", "10.0.0.1/-1"] {
            let refused = text.parse::<Network>().unwrap_err();
            assert!(refused.contains("expected an address"), "{refused}");
        }
    }
}
