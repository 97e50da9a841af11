// SPDX-License-Identifier: Apache-2.0
//! D3-NTF Network Traffic Filtering: until a lease ends that the kernel holds.

use crate::system::{Result, System};
use std::net::IpAddr;
use std::time::Duration;
use thymus_engine::Timestamp;
use thymus_engine::action::{Expected, Extent, Facts, Outcome};

/// Whom, and what of the traffic.
pub type Target = (IpAddr, Extent);

/// Until when it was blocked already; and whether this host itself needs the address.
pub fn capture(system: &mut dyn System, (address, extent): Target) -> Result<(Option<Timestamp>, Facts)> {
    let until = until(system, (address, extent))?;
    let needed = system.needed(address)?;
    Ok((until, Facts { needed, ..Facts::ready(Expected::Yes, 1) }))
}

pub fn apply(system: &mut dyn System, (address, extent): Target, lease_ns: u64) -> Result<Outcome> {
    system.filter(address, extent, Duration::from_nanos(lease_ns))?;
    Ok(Outcome::Success)
}

/// Blocked as it was before, if it was, for what is left of that. Reverting twice is reverting once.
pub fn revert(system: &mut dyn System, (address, extent): Target, before: Option<Timestamp>) -> Result<Outcome> {
    let left = before.map_or(0, |until| until.since_ns(system.now()));
    if left > 0 {
        system.filter(address, extent, Duration::from_nanos(left))?;
    } else {
        system.unfilter(address, extent)?;
    }
    Ok(Outcome::Undone)
}

/// After a crash: what is blocked stays so, the lease ends it.
pub fn settle_open(system: &mut dyn System, (address, extent): Target, why: &str) -> Result<Outcome> {
    let blocked = until(system, (address, extent))?.is_some();
    Ok(if blocked { Outcome::Success } else { Outcome::Reverted(why.to_owned()) })
}

fn until(system: &mut dyn System, (address, extent): Target) -> Result<Option<Timestamp>> {
    let found = system.filtered()?.into_iter().find(|blocked| (blocked.address, blocked.extent) == (address, extent));
    let now = system.now();
    let end = |left: Duration| now.0.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
    Ok(found.map(|blocked| Timestamp(end(blocked.left))))
}
