// SPDX-License-Identifier: Apache-2.0
//! D3-NI Network Isolation: until a lease ends that the kernel holds.
//!
//! Input: who is still talked to. Output: a host that talks to nobody else. It is tried from within at once, and again after
//! a crash: who is to be reached was reached before and is after, and nobody else is. What does not stand up to that is
//! taken back. Nothing that is sent to try it leaves the host unless the isolation does not hold.

use crate::system::{Result, Sent, System};
use std::net::IpAddr;
use std::time::Duration;
use thymus_engine::action::{Expected, Facts, Outcome};
use thymus_engine::network::Network;

/// Nobody's: of the networks for examples (RFC 5737, RFC 3849).
const NOBODY: [IpAddr; 4] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// All on the link: there is a way to them where there is one to nobody else.
const LINK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 1));

pub fn capture(system: &mut dyn System, control: &[Network]) -> Result<(bool, Facts)> {
    let already = system.isolated(control)?.is_some();
    Ok((already, Facts::ready(if already { Expected::AlreadyDone } else { Expected::Yes }, 1)))
}

pub fn apply(system: &mut dyn System, control: &[Network], lease_ns: u64) -> Result<Outcome> {
    if system.isolated(control)?.is_some() {
        return Ok(Outcome::DoesNotExist); // another action's, which its own undo ends
    }
    let reached = reached(system, control)?;
    if reached.is_empty() {
        let why = "nothing was done: none of `never_block` is reached from here, so nobody could get in any more";
        return Ok(Outcome::Reverted(why.to_owned()));
    }
    system.isolate(control, Duration::from_nanos(lease_ns))?;
    match objection(system, control, &reached)? {
        None => Ok(Outcome::Success),
        Some(why) => {
            system.rejoin()?;
            Ok(Outcome::Reverted(format!("taken back at once: {why}")))
        }
    }
}

/// Reverting twice is reverting once.
pub fn revert(system: &mut dyn System, already: bool) -> Result<Outcome> {
    if !already {
        system.rejoin()?;
    }
    Ok(Outcome::Undone)
}

/// After a crash: what holds stays, the lease ends it. What was not tried any more is.
pub fn settle_open(system: &mut dyn System, control: &[Network], why: &str) -> Result<Outcome> {
    let mut whole = system.isolated(control)?.is_some();
    if whole {
        let reached = reached(system, control)?;
        whole = !reached.is_empty() && objection(system, control, &reached)?.is_none();
    }
    if whole {
        return Ok(Outcome::Success);
    }
    system.rejoin()?;
    Ok(Outcome::Reverted(why.to_owned()))
}

/// One address of each network of the way in, as far as it is reached.
fn reached(system: &mut dyn System, control: &[Network]) -> Result<Vec<IpAddr>> {
    let mut reached = Vec::new();
    for network in control.iter().filter(|network| !network.parts().0.is_loopback()) {
        if system.datagram(network.host())? == Sent::Yes {
            reached.push(network.host());
        }
    }
    Ok(reached)
}

/// Why this is no isolation.
fn objection(system: &mut dyn System, control: &[Network], reached: &[IpAddr]) -> Result<Option<String>> {
    for address in reached {
        if system.datagram(*address)? == Sent::Refused {
            return Ok(Some(format!("{address}, which is never to be blocked, would not be reached any more")));
        }
    }
    let mut refused = false;
    let outside = |address: &&IpAddr| !control.iter().any(|network| network.contains(**address));
    for address in NOBODY.iter().chain([&LINK]).filter(outside) {
        match system.datagram(*address)? {
            Sent::Yes => return Ok(Some(format!("{address} was still reached"))),
            Sent::Refused => refused = true,
            Sent::NoWay => {}
        }
    }
    Ok((!refused).then(|| "it could not be tried: this host has no way to anybody outside".to_owned()))
}
