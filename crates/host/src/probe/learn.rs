// SPDX-License-Identifier: Apache-2.0
//! Services that nobody declared: those that run, with the ports at which they listen.

use super::{SHOW_LIMIT, UNITS_MAX, Wanted, show};
use crate::scope::Scope;
use crate::system::{Probe, services};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: ports learned of one service, processes of it and descriptors of a process looked at.
const PORTS_MAX: usize = 4;
const PROCESSES_MAX: usize = 256;
const DESCRIPTORS_MAX: usize = 1_024;

/// The service manager's own, and what comes and goes with people's sessions.
fn is_left_out(unit: &str) -> bool {
    let ours = ["systemd-", "user@", "user-runtime-dir@", "getty@", "serial-getty@", "console-getty", "thymus", "run-"];
    ours.iter().any(|start| unit.starts_with(start)) || matches!(unit, "dbus.service" | "dbus-broker.service")
}

/// Services that run now.
pub(super) fn running(scope: &Scope) -> Vec<Wanted> {
    let words = [
        "systemctl",
        "--no-pager",
        "list-units",
        "--type=service",
        "--state=running",
        "--no-legend",
        "--plain",
        "--full",
    ];
    let Ok(ran) = services::run(scope, &words, &[], SHOW_LIMIT) else { return Vec::new() };
    let units: Vec<&str> = ran
        .output
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|unit| unit.ends_with(".service") && !is_left_out(unit))
        .take(UNITS_MAX)
        .collect();
    if units.is_empty() {
        return Vec::new();
    }
    let Ok(states) = show(scope, &units) else { return Vec::new() };
    let listening = listening(scope);
    let wanted = |(unit, state): (&&str, super::State)| {
        let ports = ports(scope, &state.group, &listening);
        let probes = ports.into_iter().map(|port| Probe::Tcp { port }).collect();
        Wanted { unit: (*unit).to_owned(), probes, ..Wanted::default() }
    };
    units.iter().zip(states).map(wanted).collect()
}

/// Sockets that listen on the loopback or on every address: inode to port.
fn listening(scope: &Scope) -> BTreeMap<u64, u16> {
    let of = scope.leader().map_or_else(|| "self".to_owned(), |leader| leader.to_string());
    let mut found = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{of}/net/{table}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(socket));
    }
    found
}

/// proc(5): local address, remote address, state (0A listens), …, inode.
fn socket(line: &str) -> Option<(u64, u16)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let anywhere = address.bytes().all(|digit| digit == b'0') || address == "0100007F";
    if fields.get(3) != Some(&"0A") || !anywhere {
        return None;
    }
    Some((fields.get(9)?.parse().ok()?, u16::from_str_radix(port, 16).ok()?))
}

fn ports(scope: &Scope, group: &str, listening: &BTreeMap<u64, u16>) -> BTreeSet<u16> {
    let directory = scope.cgroup_path().join(group.trim_start_matches('/'));
    let pids = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found = BTreeSet::new();
    for pid in pids.lines().take(PROCESSES_MAX) {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for descriptor in descriptors.take(DESCRIPTORS_MAX) {
            let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            let port = inode.and_then(|inode| listening.get(&inode.parse().ok()?));
            if found.len() < PORTS_MAX {
                found.extend(port);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_anybody_here_reaches_and_that_listen_are_learned() {
        let line = |address: &str, state: &str| {
            format!(
                "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0"
            )
        };
        assert_eq!(socket(&line("0100007F:0050", "0A")), Some((4711, 80)));
        assert_eq!(socket(&line("00000000:0016", "0A")), Some((4711, 22)));
        assert_eq!(socket(&line("0100007F:0050", "01")), None);
        assert_eq!(socket(&line("0A01A8C0:0050", "0A")), None);
    }
}
