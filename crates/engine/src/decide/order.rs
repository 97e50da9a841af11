// SPDX-License-Identifier: Apache-2.0
//! In which order paths are put in order, and what else follows from one.

use crate::diagnose::Net;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// Where unit files lie that the system's manager reads.
const UNIT_TREES: &[&[u8]] =
    &[b"/etc/systemd/system", b"/usr/lib/systemd/system", b"/lib/systemd/system", b"/run/systemd/system"];
/// In the order in which they are removed: what starts others first.
const UNIT_KINDS: &[&str] = &[".timer", ".socket", ".path", ".target", ".mount", ".service"];
/// Whose configuration a path is.
const SERVICES: &[(&str, &str)] = &[
    ("/etc/ssh/sshd_config", "ssh.service"),
    ("/etc/ssh/sshd_config.d", "ssh.service"),
    ("/etc/nginx", "nginx.service"),
    ("/etc/apache2", "apache2.service"),
    ("/etc/rsyslog.conf", "rsyslog.service"),
    ("/etc/rsyslog.d", "rsyslog.service"),
    ("/etc/dbus-1", "dbus.service"),
    ("/etc/systemd/journald.conf", "systemd-journald.service"),
    ("/etc/systemd/logind.conf", "systemd-logind.service"),
    ("/etc/systemd/resolved.conf", "systemd-resolved.service"),
];
/// What every program loads: put in order before anything else runs.
const LOADED_BY_ALL: &[&str] = &["/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.cache"];

/// Units and services that follow from files; removals before reloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Service {
    /// Its place in [`UNIT_KINDS`], and its name.
    Remove(usize, String),
    Reload(String),
}

/// Rank, depth (negative where the deepest goes first), path.
pub(crate) type Place = (u8, i64, HostPath);

/// What else must be done when this path was put in order.
pub(super) fn service_of(path: &HostPath, created: bool) -> Option<Service> {
    let name = std::str::from_utf8(path.file_name()).ok()?;
    let unit_kind = |name: &str| UNIT_KINDS.iter().position(|kind| name.ends_with(kind) && name.len() > kind.len());
    for tree in UNIT_TREES {
        if path.parent() == *tree {
            let kind = unit_kind(name)?;
            return Some(if created { Service::Remove(kind, name.into()) } else { Service::Reload(name.into()) });
        }
        let parent = HostPath::new(path.parent());
        if path.is_within(tree) && parent.parent() == *tree && name.ends_with(".conf") {
            let unit = std::str::from_utf8(parent.file_name()).ok()?.strip_suffix(".d")?;
            return unit_kind(unit).map(|_| Service::Reload(unit.into()));
        }
    }
    let service = SERVICES.iter().find(|(tree, _)| path.is_within(tree.as_bytes()));
    service.map(|(_, unit)| Service::Reload((*unit).into()))
}

/// Smaller goes first.
pub(crate) fn place(path: &HostPath, net: &Net, directory: bool) -> Place {
    let depth = i64::try_from(path.as_bytes().iter().filter(|byte| **byte == b'/').count()).unwrap_or(i64::MAX);
    if LOADED_BY_ALL.iter().any(|tree| path.is_within(tree.as_bytes())) {
        return (0, depth, path.clone());
    }
    match net {
        Net::Created { .. } => (1 + u8::from(directory), -depth, path.clone()),
        Net::Changed { .. } | Net::Nothing | Net::Pending | Net::Unprotected | Net::Unknown(_) => {
            (3 + need(path), depth, path.clone())
        }
    }
}

/// What services need goes before what they keep, and that before what is people's.
fn need(path: &HostPath) -> u8 {
    const SYSTEM: [&str; 7] = ["/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/boot"];
    const SERVICES: [&str; 3] = ["/opt", "/var", "/srv"];
    let within = |trees: &[&str]| trees.iter().any(|tree| path.is_within(tree.as_bytes()));
    if within(&SYSTEM) { 0 } else { 2 - u8::from(within(&SERVICES)) }
}
