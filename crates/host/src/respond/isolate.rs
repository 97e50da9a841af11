// SPDX-License-Identifier: Apache-2.0
//! D3-NI Network Isolation: until a lease ends that the kernel holds.
//!
//! Input: who is still talked to. Output: a host that talks to nobody else. It is tried from within at once, and again after
//! a crash: who is to be reached was reached before and is after, and nobody else is. What does not stand up to that is
//! taken back. Nothing that is sent to try it leaves the host unless the isolation does not hold. It begins with a trial; only one that
//! is in force is made to last longer.

use crate::system::{Error, Result, Sent, System};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;
use thymus_engine::Timestamp;
use thymus_engine::action::{Expected, Facts, Outcome};
use thymus_engine::decide::ISOLATION_TRIAL_NS;
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

/// How it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The host was isolated already, for as long or by another action, which is that one's to undo.
    already: bool,
    /// It is to last longer than until then.
    #[serde(default)]
    until: Option<Timestamp>,
}

/// It is no trial: only what is in force, and let a person in who said so, is made to last.
const fn lasts(lease_ns: u64) -> bool {
    lease_ns > ISOLATION_TRIAL_NS
}

pub fn capture(system: &mut dyn System, control: &[Network], lease_ns: u64) -> Result<(Before, Facts)> {
    let left = system.isolated(control)?;
    let (already, until, as_expected) = match left {
        Some(left) if lasts(lease_ns) && left < Duration::from_nanos(lease_ns) => {
            (true, Some(after(system.now(), left)), Expected::Yes)
        }
        Some(_) => (true, None, Expected::AlreadyDone),
        None if lasts(lease_ns) => {
            let (what, why) = ("the isolation".to_owned(), "it is not in force: there is nothing to last".to_owned());
            return Err(Error::Probe { what, why });
        }
        None => (false, None, Expected::Yes),
    };
    Ok((Before { already, until }, Facts::ready(as_expected, 1)))
}

pub fn apply(system: &mut dyn System, control: &[Network], lease_ns: u64, before: Before) -> Result<Outcome> {
    match (system.isolated(control)?, before.until) {
        (Some(_), None) => return Ok(Outcome::DoesNotExist), // another action's, which its own undo ends
        (None, Some(_)) => return Ok(Outcome::Reverted("nothing was done: it ended before".to_owned())),
        (Some(_), Some(_)) | (None, None) => {}
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
            revert(system, control, before)?;
            Ok(Outcome::Reverted(format!("taken back at once: {why}")))
        }
    }
}

/// Reverting twice is reverting once.
pub fn revert(system: &mut dyn System, control: &[Network], before: Before) -> Result<Outcome> {
    match before {
        Before { until: Some(until), .. } => {
            let left = Duration::from_nanos(until.since_ns(system.now()));
            match system.isolated(control)? {
                Some(now) if !left.is_zero() && now > left => system.isolate(control, left)?,
                Some(_) if left.is_zero() => drop(system.rejoin()?),
                Some(_) | None => {}
            }
        }
        Before { already: false, .. } => drop(system.rejoin()?),
        Before { already: true, .. } => {}
    }
    Ok(Outcome::Undone)
}

/// After a crash: what holds stays, the lease ends it. What was not tried any more is.
pub fn settle_open(system: &mut dyn System, control: &[Network], before: Before, why: &str) -> Result<Outcome> {
    if before.already && before.until.is_none() {
        return Ok(Outcome::DoesNotExist);
    }
    let left = system.isolated(control)?;
    let mut whole = match before.until {
        Some(until) => left.is_some_and(|left| after(system.now(), left) > until),
        None => left.is_some(),
    };
    if whole {
        let reached = reached(system, control)?;
        whole = !reached.is_empty() && objection(system, control, &reached)?.is_none();
    }
    if whole {
        return Ok(Outcome::Success);
    }
    revert(system, control, before)?;
    Ok(Outcome::Reverted(why.to_owned()))
}

fn after(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
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
