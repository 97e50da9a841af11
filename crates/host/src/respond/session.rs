// SPDX-License-Identifier: Apache-2.0
//! D3-ST Session Termination: the processes of a login session and its leader, such as the `sshd` of one connection.
//!
//! Everything is as for [`terminate`], with the leader named too; its listener is its parent and is not touched.

use super::{Before, terminate};
use crate::system::{Result, System};
use crate::warden::Leases;
use thymus_engine::action::{Facts, Outcome};
use thymus_engine::{ActionId, ProcessKey};

/// The leader last: a leader that ends first may clear up after its session.
fn named(leader: ProcessKey, processes: &[ProcessKey]) -> Vec<ProcessKey> {
    let mut named: Vec<ProcessKey> = processes.iter().copied().filter(|process| *process != leader).collect();
    named.extend((leader.pid != 0).then_some(leader));
    named
}

pub fn capture(
    system: &mut dyn System,
    leases: &Leases,
    leader: ProcessKey,
    processes: &[ProcessKey],
) -> Result<(Before, Facts)> {
    terminate::capture(system, leases, &named(leader, processes))
}

pub fn apply(
    system: &mut dyn System,
    leases: &Leases,
    action: ActionId,
    leader: ProcessKey,
    processes: &[ProcessKey],
    before: &mut Before,
) -> Result<Outcome> {
    terminate::apply(system, leases, action, &named(leader, processes), before)
}

pub fn revert(system: &mut dyn System, leases: &Leases, action: ActionId, before: &Before) -> Result<Outcome> {
    terminate::revert(system, leases, action, before)
}
