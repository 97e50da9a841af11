// SPDX-License-Identifier: Apache-2.0
//! On the kernel's own packet filter, each test in a network namespace that it alone is in.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Instant;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 66, 0, 1));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 66, 0, 7));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 66, 0, 8));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
const PEER_SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7));
const LONG: Duration = Duration::from_secs(3_600);
/// Nobody answered within it: nobody will. What is answered here is so within a millisecond.
const SILENCE: Duration = Duration::from_millis(300);

fn sh(command: &str) -> String {
    let ran = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// In a thread that has a network of its own, with all addresses on its loopback.
fn alone(test: impl FnOnce(&Filter) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        sh(
            "ip link set lo up; for a in 1 7 8; do ip addr add 10.66.0.$a/24 dev lo; ip -6 addr add fd00::$a/64 dev lo nodad; done",
        );
        test(&Filter::here().unwrap());
    });
    thread.join().unwrap();
}

/// Whether a packet of the one reaches the other.
fn reaches(from: IpAddr, to: IpAddr) -> bool {
    let receiver = UdpSocket::bind((to, 0)).unwrap();
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    let sender = UdpSocket::bind((from, 0)).unwrap();
    // What is dropped on its way out is an error to the sender.
    let _ = sender.send_to(b"x", receiver.local_addr().unwrap());
    receiver.recv(&mut [0; 8]).is_ok()
}

fn both_ways(one: IpAddr, other: IpAddr) -> (bool, bool) {
    (reaches(one, other), reaches(other, one))
}

#[test]
fn a_blocked_address_neither_reaches_us_nor_is_reached_and_others_are() {
    alone(|filter| {
        assert_eq!(both_ways(PEER, HOST), (true, true));
        filter.block(PEER, Extent::All, LONG).unwrap();
        assert_eq!(both_ways(PEER, HOST), (false, false));
        assert_eq!(both_ways(OTHER, HOST), (true, true));
        assert!(filter.unblock(PEER, Extent::All).unwrap());
        assert_eq!(both_ways(PEER, HOST), (true, true));
        assert!(!filter.unblock(PEER, Extent::All).unwrap(), "twice is once");
    });
}

#[test]
fn addresses_of_the_sixth_version_are_blocked_too() {
    alone(|filter| {
        assert_eq!(both_ways(PEER_SIX, SIX), (true, true));
        filter.block(PEER_SIX, Extent::All, LONG).unwrap();
        assert_eq!(both_ways(PEER_SIX, SIX), (false, false));
        assert_eq!(both_ways(PEER, HOST), (true, true));
    });
}

#[test]
fn a_connection_that_exists_is_cut_off() {
    alone(|filter| {
        let (mut far, mut near) = connects(PEER, HOST).unwrap();
        far.set_read_timeout(Some(SILENCE)).unwrap();
        near.write_all(b"a").unwrap();
        far.read_exact(&mut [0]).unwrap();
        filter.block(PEER, Extent::All, LONG).unwrap();
        near.write_all(b"b").unwrap();
        let error = far.read_exact(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    });
}

/// A connection between the two, begun by the first.
fn connects(from: IpAddr, to: IpAddr) -> Option<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((to, 0)).unwrap();
    let socket = rustix::net::socket(family(from), SocketType::STREAM, None).unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(SILENCE)).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    rustix::net::connect(&socket, &listener.local_addr().unwrap()).ok()?;
    Some((TcpStream::from(socket), listener.accept().unwrap().0))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

#[test]
fn whom_we_may_not_call_is_answered_as_before() {
    alone(|filter| {
        let (mut ours, mut theirs) = connects(HOST, PEER).unwrap();
        filter.block(PEER, Extent::Outbound, LONG).unwrap();
        filter.block(PEER_SIX, Extent::Outbound, LONG).unwrap();
        for (host, peer) in [(HOST, PEER), (SIX, PEER_SIX)] {
            assert!(connects(host, peer).is_none(), "a call goes through");
            assert!(connects(peer, host).is_some(), "who comes from there is turned away");
        }
        assert!(connects(HOST, OTHER).is_some());
        ours.write_all(b"x").unwrap();
        theirs.read_exact(&mut [0]).unwrap();
        assert!(filter.unblock(PEER, Extent::Outbound).unwrap() && connects(HOST, PEER).is_some());
    });
}

#[test]
fn a_block_ends_by_itself_when_whoever_made_it_is_gone_and_may_be_prolonged() {
    alone(|filter| {
        // What made it is closed before it ends.
        Filter::here().unwrap().block(PEER, Extent::All, Duration::from_millis(200)).unwrap();
        filter.block(OTHER, Extent::All, Duration::from_millis(200)).unwrap();
        filter.block(OTHER, Extent::All, LONG).unwrap();
        let began = Instant::now();
        while filter.blocked().unwrap().len() > 1 {
            assert!(began.elapsed() < Duration::from_secs(60), "it never ends");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(both_ways(PEER, HOST), (true, true));
        assert_eq!(both_ways(OTHER, HOST), (false, false));
        let [left] = filter.blocked().unwrap()[..] else { panic!() };
        assert!(left.address == OTHER && left.left > Duration::from_secs(3_000), "{left:?}");
    });
}

#[test]
fn rules_that_somebody_took_out_are_put_back_with_all_that_was_blocked() {
    alone(|filter| {
        filter.block(PEER, Extent::All, LONG).unwrap();
        sh("nft flush table inet thymus");
        assert_eq!(both_ways(PEER, HOST), (true, true), "the test took the rules out");
        filter.block(OTHER, Extent::All, LONG).unwrap();
        assert_eq!(both_ways(PEER, HOST), (false, false));
        assert_eq!(both_ways(OTHER, HOST), (false, false));
        sh("nft flush ruleset");
        filter.block(PEER, Extent::All, LONG).unwrap();
        assert_eq!(both_ways(PEER, HOST), (false, false));
    });
}

#[test]
fn the_table_is_one_that_nft_shows_and_goes_with_its_last_element() {
    alone(|filter| {
        sh("nft add table ip other");
        filter.block(PEER, Extent::All, LONG).unwrap();
        filter.block(PEER_SIX, Extent::All, LONG).unwrap();
        let shown = sh("nft list table inet thymus");
        for part in [
            "type filter hook input priority raw; policy accept;",
            "ip saddr @blocked4",
            "ip6 daddr @blocked6",
            "10.66.0.7 timeout 1h",
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        assert_eq!(shown.matches("drop").count(), RULES);
        assert!(filter.unblock(PEER, Extent::All).unwrap() && filter.unblock(PEER_SIX, Extent::All).unwrap());
        assert_eq!(sh("nft list tables"), "table ip other\n");
    });
}

#[test]
fn no_more_are_blocked_than_the_limit() {
    alone(|filter| {
        let address = |number: usize| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap()));
        let all: Vec<Blocked> = (0..BLOCKED_MAX)
            .map(|number| Blocked { address: address(number), extent: Extent::All, left: LONG })
            .collect();
        filter.send(&whole(false, &all)).unwrap();
        let refused = filter.block(address(BLOCKED_MAX), Extent::All, LONG).unwrap_err();
        assert!(refused.in_words().contains("which is the limit"), "{}", refused.in_words());
        filter.block(address(7), Extent::All, LONG).unwrap();
        assert_eq!(filter.blocked().unwrap().len(), BLOCKED_MAX);
        sh("nft flush table inet thymus");
        filter.block(address(9), Extent::All, LONG).unwrap();
        assert_eq!(filter.blocked().unwrap().len(), BLOCKED_MAX, "all of them are made anew");
    });
}
