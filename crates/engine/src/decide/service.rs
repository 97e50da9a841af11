// SPDX-License-Identifier: Apache-2.0
//! Units and services that follow from files: removed or reloaded, once the files are in order.
//!
//! Input: paths that an action puts in order. Output: one action for each unit; what is removed is not reloaded.
//! Removals go first, of these what starts others.

use super::Desk;
use crate::action::Action;
use crate::diagnose::Case;
use crate::id::ActionId;
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

/// Units and services that follow from files; removals before reloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Service {
    /// Its place in [`UNIT_KINDS`], and its name.
    Remove(usize, String),
    Reload(String),
}

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

impl Case {
    /// A unit of the attack lay over one that a package ships: that one is not removed, its manager reads it again.
    pub(super) fn read_anew(&mut self, desk: &mut Desk<'_>, id: ActionId, unit: String) {
        desk.deny(id, "a package ships this unit: it is read again and stays");
        self.forget(desk, id);
        self.plan.services.retain(|service, _| !matches!(service, Service::Remove(_, removed) if *removed == unit));
        self.plan.services.entry(Service::Reload(unit)).or_insert(None);
    }

    pub(super) fn order_services(&mut self, desk: &mut Desk<'_>) -> bool {
        let todo: Vec<Service> =
            self.plan.services.iter().filter(|(_, id)| id.is_none()).map(|(service, _)| service.clone()).collect();
        for service in todo {
            if desk.room == 0 {
                self.dirty = true;
                return false;
            }
            let action = match &service {
                Service::Remove(_, unit) => Action::RemoveUnit { unit: unit.clone() },
                // A removed unit needs no reload.
                Service::Reload(unit)
                    if self
                        .plan
                        .services
                        .keys()
                        .any(|other| matches!(other, Service::Remove(_, removed) if removed == unit)) =>
                {
                    continue;
                }
                Service::Reload(unit) => Action::ReloadService { unit: unit.clone() },
            };
            let id = self.propose(desk, action);
            self.plan.services.insert(service, Some(id));
        }
        !self.plan.is_any_busy(|action| matches!(action, Action::RemoveUnit { .. } | Action::ReloadService { .. }))
    }
}
