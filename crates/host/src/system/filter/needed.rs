// SPDX-License-Identifier: Apache-2.0
//! What a host itself needs an address for: its own, its gateway, its name server.
//!
//! Input: the kernel's tables of routes and addresses, resolv.conf. Output: the reason in words. Sources: proc_pid_net(5),
//! resolv.conf(5), `fib_trie_show` and `rt6_info_route` of the kernel.

use super::super::{Error, Result};
use crate::scope::Scope;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// LIMIT: bytes read of one table; a router with more than some 100,000 routes has more, and its last ones are not seen.
const TABLE_BYTES_MAX: u64 = 8 << 20;

pub(in crate::system) fn needed(scope: &Scope, address: IpAddr) -> Result<Option<String>> {
    let is = |what: &str| Ok(Some(format!("it is {what}")));
    let (own, gateways) = match address {
        IpAddr::V4(_) => (own4(&table(scope, "fib_trie")?), gateways4(&table(scope, "route")?)),
        IpAddr::V6(_) => (own6(&table(scope, "if_inet6")?), gateways6(&table(scope, "ipv6_route")?)),
    };
    if own.contains(&address) {
        return is("an address of this host");
    }
    if gateways.contains(&address) {
        return is("a gateway of this host");
    }
    if servers(&resolver(scope)).contains(&address) {
        return is("a name server of this host");
    }
    Ok(None)
}

/// A table of the scope's network as text.
fn table(scope: &Scope, name: &str) -> Result<String> {
    let process = if scope.is_whole_host() { None } else { scope.leader() };
    let process = process.map_or_else(|| "thread-self".to_owned(), |pid| pid.to_string());
    let path = format!("/proc/{process}/net/{name}");
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(TABLE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(text), // a kernel without that version of IP
        Err(source) => Err(Error::Filter { doing: "read the addresses before something is blocked", source }),
    }
}

/// Addresses of the fourth version that the scope has, and those of broadcasts.
pub(super) fn own(scope: &Scope) -> Result<Vec<IpAddr>> {
    Ok(own4(&table(scope, "fib_trie")?))
}

/// Lines such as `|-- 10.0.0.1`, each followed by what it is: `/32 host LOCAL`.
fn own4(text: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut own = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.ends_with("host LOCAL") || line.ends_with("link BROADCAST") {
            own.extend(last.map(IpAddr::V4));
        }
    }
    own
}

/// Interface, destination, gateway …, in the byte order of the machine.
fn gateways4(text: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let word = line.split_ascii_whitespace().nth(2)?;
        let address = Ipv4Addr::from(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
        (!address.is_unspecified()).then_some(IpAddr::V4(address))
    };
    text.lines().skip(1).filter_map(gateway).collect()
}

fn six(digits: &str) -> Option<Ipv6Addr> {
    let address = (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok()).flatten()?;
    Some(Ipv6Addr::from_bits(address))
}

fn own6(text: &str) -> Vec<IpAddr> {
    text.lines().filter_map(|line| six(line.split_ascii_whitespace().next()?)).map(IpAddr::V6).collect()
}

/// Destination, length, source, length, next hop, …
fn gateways6(text: &str) -> Vec<IpAddr> {
    let hop = |line: &str| six(line.split_ascii_whitespace().nth(4)?).filter(|hop| !hop.is_unspecified());
    text.lines().filter_map(hop).map(IpAddr::V6).collect()
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.split('%').next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(server).collect()
}

/// Often a link into `/run`; it leads nowhere out of the scope's root.
fn resolver(scope: &Scope) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut bytes = Vec::new();
    if let Ok(opened) = rustix::fs::openat2(scope.root(), "etc/resolv.conf", flags, Mode::empty(), resolve) {
        // What cannot be read names no server.
        let _ = File::from(opened).take(64 << 10).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.66.0.0/24 2\n        \
                    |-- 10.66.0.1\n           /32 host LOCAL\n        |-- 10.66.0.255\n           /32 link BROADCAST\n";
        assert_eq!(own4(trie), [IpAddr::from([10, 66, 0, 1]), IpAddr::from([10, 66, 0, 255])]);
        let gateway = u32::from_ne_bytes([10, 66, 0, 254]);
        let routes = format!(
            "Iface\tDestination\tGateway\neth0\t00000000\t{gateway:08X}\t0003\neth0\t0042000A\t00000000\t0001\n"
        );
        assert_eq!(gateways4(&routes), [IpAddr::from([10, 66, 0, 254])]);
        assert_eq!(own6("00000000000000000000000000000001 01 80 10 80 lo\n"), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        let hop = "fe800000000000000000000000000001";
        let route = format!("{0:032} 00 {0:032} 00 {hop} 00000400 1 0 3 eth0\n", 0);
        assert_eq!(gateways6(&route), ["fe80::1".parse::<IpAddr>().ok()].into_iter().flatten().collect::<Vec<_>>());
        let servers = servers("# comment\nnameserver 192.0.2.53\nnameserver fe80::53%eth0\nsearch nameserver\n");
        assert_eq!(servers.len(), 2);
    }
}
