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

/// A host with a cable to another one, each in a network of its own: what the host sends, and what comes to it, is seen at the
/// other's end.
fn wired(test: impl FnOnce(&Filter, &Wire) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let (orders, order) = std::sync::mpsc::channel::<Order>();
        let (ready, named) = std::sync::mpsc::channel();
        let far = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            while let Ok(Order(work)) = order.recv() {
                work();
            }
        });
        let wire = Wire { orders };
        let far_thread: i32 = named.recv().unwrap();
        sh(&format!(
            "ip link set lo up; ip link add here type veth peer name there netns {far_thread}; ip link set here up"
        ));
        wire.there(|| {
            sh("ip link set there up; for a in 7 8; do ip addr add 10.66.0.$a/24 dev there; ip -6 addr add fd00::$a/64 dev there nodad; done")
        });
        sh(
            "ip addr add 10.66.0.1/24 dev here; ip -6 addr add fd00::1/64 dev here nodad; ip route add default via 10.66.0.8",
        );
        test(&Filter::here().unwrap(), &wire);
        drop(wire);
        far.join().unwrap();
    });
    thread.join().unwrap();
}

struct Order(Box<dyn FnOnce() + Send>);

struct Wire {
    orders: std::sync::mpsc::Sender<Order>,
}

impl Wire {
    fn there<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = std::sync::mpsc::channel();
        self.orders.send(Order(Box::new(move || done.send(work()).unwrap()))).unwrap();
        result.recv().unwrap()
    }

    /// Whether a packet of the host reaches this address of the other one, and one from there the host.
    fn both_ways(&self, peer: IpAddr) -> (bool, bool) {
        let host = if peer.is_ipv4() { HOST } else { SIX };
        let hears = |at: IpAddr| {
            move || {
                let receiver = UdpSocket::bind((at, 0)).unwrap();
                receiver.set_read_timeout(Some(SILENCE)).unwrap();
                receiver
            }
        };
        let says = |from: IpAddr, to: SocketAddr| {
            move || {
                let _ = UdpSocket::bind((from, 0)).unwrap().send_to(b"x", to);
            }
        };
        let (near, far) = (hears(host)(), self.there(hears(peer)));
        says(host, far.local_addr().unwrap())();
        let out = self.there(move || far.recv(&mut [0; 8]).is_ok());
        self.there(says(peer, near.local_addr().unwrap()));
        (out, near.recv(&mut [0; 8]).is_ok())
    }
}

fn control() -> Vec<thymus_engine::network::Network> {
    ["10.66.0.7", "fd00::7", "127.0.0.0/8"].map(|text| text.parse().unwrap()).into()
}

#[test]
fn an_isolated_host_talks_to_its_way_in_and_itself_and_to_nobody_else() {
    wired(|filter, wire| {
        let other_six = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 8));
        for peer in [PEER, OTHER, PEER_SIX, other_six] {
            assert_eq!(wire.both_ways(peer), (true, true), "{peer} before");
        }
        filter.isolate(&control(), LONG).unwrap();
        // Who was heard of on the link is asked for anew.
        sh("ip neigh flush all; ip -6 neigh flush all");
        wire.there(|| sh("ip neigh flush all; ip -6 neigh flush all"));
        for (peer, open) in [(PEER, true), (OTHER, false), (PEER_SIX, true), (other_six, false)] {
            assert_eq!(
                wire.both_ways(peer),
                (open, open),
                "{peer} isolated:\n{}",
                sh("nft list table inet thymus_isolation")
            );
        }
        for own in [HOST, SIX, IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            assert!(reaches(own, own), "{own}");
        }
        assert!(filter.rejoin().unwrap());
        assert!(!filter.rejoin().unwrap(), "twice is once");
        for peer in [PEER, OTHER, PEER_SIX, other_six] {
            assert_eq!(wire.both_ways(peer), (true, true), "{peer} after");
        }
        assert_eq!(sh("nft list tables"), "");
    });
}

#[test]
fn an_isolation_ends_by_itself_when_whoever_made_it_is_gone_and_a_block_outlives_it() {
    wired(|filter, wire| {
        filter.block(OTHER, Extent::All, LONG).unwrap();
        Filter::here().unwrap().isolate(&control()[..2], Duration::from_millis(300)).unwrap();
        let began = Instant::now();
        while filter.isolated(&control()[..2]).unwrap().is_some() {
            assert!(began.elapsed() < Duration::from_secs(60), "it never ends");
            std::thread::sleep(Duration::from_millis(20));
        }
        let other_six = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 8));
        assert_eq!(wire.both_ways(other_six), (true, true));
        assert_eq!(wire.both_ways(PEER), (true, true));
        assert_eq!(wire.both_ways(OTHER), (false, false), "who is blocked stays so");
        // What is left of it is no isolation, and a new one takes its place.
        filter.isolate(&control(), LONG).unwrap();
        assert_eq!(wire.both_ways(other_six), (false, false));
        assert!(filter.unblock(OTHER, Extent::All).unwrap());
        assert_eq!(wire.both_ways(OTHER), (false, false), "an end of a block is no end of the isolation");
    });
}

#[test]
fn a_datagram_tells_who_is_reached_who_is_refused_and_where_no_way_leads() {
    wired(|filter, wire| {
        let outside = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let link = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));
        let from = [IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let send = |from: &[IpAddr], to| isolation::from_any(from, to).unwrap();
        let listener = wire.there(|| {
            sh("ip addr add 192.0.2.1/32 dev there");
            let listener = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)).unwrap();
            listener.set_read_timeout(Some(SILENCE)).unwrap();
            std::sync::Arc::new(listener)
        });
        let heard = || {
            let listener = listener.clone();
            wire.there(move || listener.recv(&mut []).is_ok())
        };
        for (from, to) in [(from, PEER), (from, outside), ([HOST], link)] {
            assert_eq!((send(&from, to), heard()), (Sent::Yes, true), "{to}");
        }
        filter.isolate(&control(), LONG).unwrap();
        assert_eq!(send(&from, outside), Sent::Refused);
        assert_eq!(send(&[HOST], link), Sent::Refused);
        assert!(!heard(), "something went out");
        assert_eq!((send(&from, PEER), heard()), (Sent::Yes, true));
        sh("ip route del default");
        assert_eq!(send(&from, outside), Sent::NoWay);
        assert_eq!(send(&[HOST], link), Sent::Refused, "the link needs no route");
        sh("nft flush table inet thymus_isolation");
        assert_eq!(filter.isolated(&control()).unwrap(), None, "its rules are gone");
        assert_eq!(send(&[HOST], link), Sent::Yes);
    });
}

/// The whole of the hand's work on a real packet filter, from within the network that is isolated.
#[test]
fn a_host_is_isolated_tried_and_taken_back_on_the_kernels_own_packet_filter() {
    use crate::respond::isolate;
    use crate::scope::Scope;
    use crate::system::System;
    use crate::system::linux::Linux;
    use thymus_engine::action::{Expected, Outcome};
    use thymus_engine::decide::ISOLATION_TRIAL_NS;
    wired(|filter, wire| {
        let lease_ns = ISOLATION_TRIAL_NS;
        let (scope, directory) = (Scope::this_host(true).unwrap(), tempfile::tempdir().unwrap());
        let mut linux = Linux::new(scope.acting().unwrap(), &directory.path().join("keep"), &[]).unwrap();
        for route in ["ip route show", "ip route del default"] {
            sh(route);
            let (before, facts) = isolate::capture(&mut linux, &control(), lease_ns).unwrap();
            assert_eq!(facts.as_expected, Expected::Yes);
            assert_eq!(isolate::apply(&mut linux, &control(), lease_ns, before).unwrap(), Outcome::Success, "{route}");
            assert_eq!((wire.both_ways(PEER), wire.both_ways(OTHER)), ((true, true), (false, false)));
            assert_eq!(isolate::settle_open(&mut linux, &control(), before, "killed").unwrap(), Outcome::Success);
            assert_eq!(isolate::revert(&mut linux, &control(), before).unwrap(), Outcome::Undone);
            assert_eq!(wire.both_ways(OTHER), (true, true));
        }
        // Who is never blocked is blocked by an isolation that was made of another list.
        filter.isolate(&control()[1..2], LONG).unwrap();
        assert_eq!(linux.datagram(PEER).unwrap(), Sent::Refused);
        filter.rejoin().unwrap();
        // Rules of somebody else's that refuse everything: nobody would get in, so nothing is done.
        sh("nft 'add table inet other; add chain inet other out { type filter hook output priority 0; policy drop; }'");
        let (before, _) = isolate::capture(&mut linux, &control()[..2], lease_ns).unwrap();
        let outcome = isolate::apply(&mut linux, &control()[..2], lease_ns, before).unwrap();
        assert!(matches!(&outcome, Outcome::Reverted(why) if why.starts_with("nothing was done")), "{outcome:?}");
        assert_eq!(sh("nft list tables"), "table inet other\n");
    });
}

/// A trial of the kernel's own: it ends by itself, or is made to last while it holds.
#[test]
fn a_trial_ends_in_the_kernel_unless_it_was_made_to_last_before() {
    use crate::respond::isolate;
    use crate::scope::Scope;
    use crate::system::linux::Linux;
    use thymus_engine::action::{Expected, Outcome};
    wired(|filter, wire| {
        let (scope, directory) = (Scope::this_host(true).unwrap(), tempfile::tempdir().unwrap());
        let mut linux = Linux::new(scope.acting().unwrap(), &directory.path().join("keep"), &[]).unwrap();
        let (control, long) = (control(), u64::try_from(LONG.as_nanos()).unwrap());
        assert!(isolate::capture(&mut linux, &control, long).is_err(), "nothing is in force");
        let trial = Duration::from_secs(2);
        let trial_ns = u64::try_from(trial.as_nanos()).unwrap();
        let (first, _) = isolate::capture(&mut linux, &control, trial_ns).unwrap();
        assert_eq!(isolate::apply(&mut linux, &control, trial_ns, first).unwrap(), Outcome::Success);
        let (second, facts) = isolate::capture(&mut linux, &control, long).unwrap();
        assert_eq!(facts.as_expected, Expected::Yes);
        assert_eq!(isolate::apply(&mut linux, &control, long, second).unwrap(), Outcome::Success);
        assert_eq!(isolate::settle_open(&mut linux, &control, second, "killed").unwrap(), Outcome::Success);
        assert!(filter.isolated(&control).unwrap().unwrap() > trial, "as long as was asked for");
        assert_eq!((wire.both_ways(PEER), wire.both_ways(OTHER)), ((true, true), (false, false)));
        // Undone, it ends when the trial would have.
        assert_eq!(isolate::revert(&mut linux, &control, second).unwrap(), Outcome::Undone);
        let began = Instant::now();
        while filter.isolated(&control).unwrap().is_some() {
            assert!(began.elapsed() < Duration::from_secs(60), "it never ends");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(wire.both_ways(OTHER), (true, true));
        let (third, _) = isolate::capture(&mut linux, &control, trial_ns).unwrap();
        assert_eq!(isolate::apply(&mut linux, &control, trial_ns, third).unwrap(), Outcome::Success);
        let (fourth, _) = isolate::capture(&mut linux, &control, long).unwrap();
        filter.rejoin().unwrap(); // as if it had ended just now
        let outcome = isolate::apply(&mut linux, &control, long, fourth).unwrap();
        assert!(matches!(&outcome, Outcome::Reverted(why) if why.contains("it ended before")), "{outcome:?}");
        assert_eq!(wire.both_ways(OTHER), (true, true));
    });
}
