// SPDX-License-Identifier: Apache-2.0
//! In which order paths are put in order.
//!
//! Input: a path, and what is left of the attack at it. Output: its place; the smallest goes first. What every program
//! loads goes before all, what the attack made before what it changed.

use crate::diagnose::Net;
use crate::path::HostPath;

/// What every program loads: put in order before anything else runs.
const LOADED_BY_ALL: &[&str] = &["/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.cache"];

/// Rank, depth (negative where the deepest goes first), path.
pub(crate) type Place = (u8, i64, HostPath);

/// Smaller goes first.
pub(crate) fn place(path: &HostPath, net: &Net, directory: bool) -> Place {
    let depth = i64::try_from(path.as_bytes().iter().filter(|byte| **byte == b'/').count()).unwrap_or(i64::MAX);
    if LOADED_BY_ALL.iter().any(|tree| path.is_within(tree.as_bytes())) {
        return (0, depth, path.clone());
    }
    match net {
        Net::Created { .. } => (1 + u8::from(directory), -depth, path.clone()),
        Net::Changed { .. }
        | Net::Nothing
        | Net::Pending
        | Net::Unprotected
        | Net::Entangled { .. }
        | Net::Unknown(_) => (3 + need(path), depth, path.clone()),
    }
}

/// What services need goes before what they keep, and that before what is people's.
fn need(path: &HostPath) -> u8 {
    const SYSTEM: [&str; 7] = ["/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/boot"];
    const SERVICES: [&str; 3] = ["/opt", "/var", "/srv"];
    let within = |trees: &[&str]| trees.iter().any(|tree| path.is_within(tree.as_bytes()));
    if within(&SYSTEM) { 0 } else { 2 - u8::from(within(&SERVICES)) }
}
