// SPDX-License-Identifier: Apache-2.0
//! Which cure comes next: the most harmless one that was not tried yet.

use super::patient::Patient;
use super::{Ailment, Kind};
use crate::action::Action;
use crate::decide::Desk;
use crate::detect::{self, Context};
use crate::health::{Certificate, Disk, Health};
use crate::path::HostPath;

/// LIMIT: plain starts of one service in one ailment.
const STARTS_MAX: u32 = 3;
/// Room that is made is this many times what must be left, so that it lasts.
const ROOM: u64 = 2;

pub(super) enum Next {
    Do { action: Action, why: String },
    Nothing(String),
}

pub(super) fn next(ailment: &Ailment, desk: &Desk<'_>, patient: &Patient, kind: Kind) -> Next {
    match patient.health() {
        Some(Health::Service(service)) => of_service(ailment, desk, patient, kind, &service.unit),
        Some(Health::Disk(disk)) => of_disk(ailment, disk),
        Some(Health::Firewall(firewall)) if ailment.cures == 0 => {
            let why = "the packet filter has no rule".to_owned();
            Next::Do { action: Action::LoadFirewall { path: firewall.path.clone() }, why }
        }
        Some(Health::Firewall(_)) => Next::Nothing("its rules were loaded, and are gone".to_owned()),
        Some(Health::Certificate(certificate)) => of_certificate(ailment, certificate),
        None => Next::Nothing("nothing is known of it".to_owned()),
    }
}

fn of_service(ailment: &Ailment, desk: &Desk<'_>, patient: &Patient, kind: Kind, unit: &str) -> Next {
    let start = || Next::Do { action: Action::RestartService { unit: unit.to_owned() }, why: String::new() };
    let put_back = |nothing: &str| match patient.suspects(desk.graph, &ailment.put_back).into_iter().next() {
        Some(change) => {
            let why = format!("changed just before {unit} failed: {}", change.title);
            Next::Do { action: Action::RestoreFile(change.restore), why }
        }
        None => Next::Nothing(nothing.to_owned()),
    };
    match kind {
        Kind::MissingProgram => put_back("no version of the program is known"),
        Kind::BadConfiguration => put_back("nobody is seen to have changed its configuration since it was last good"),
        Kind::Crash | Kind::NoAnswer | Kind::DiskFull | Kind::FirewallEmptied | Kind::CertificateExpired => {
            if ailment.refused.is_some() {
                return put_back("its test refuses the configuration, and nobody is seen to have changed it");
            }
            if !ailment.fresh_start {
                return start();
            }
            match put_back("") {
                Next::Nothing(_) if ailment.starts < STARTS_MAX => start(),
                Next::Nothing(_) => {
                    Next::Nothing(format!("{} starts did not help, and nothing of it was changed", ailment.starts))
                }
                found @ Next::Do { .. } => found,
            }
        }
    }
}

fn of_disk(ailment: &Ailment, disk: &Disk) -> Next {
    let mut room = disk.free_bytes;
    let enough = disk.least_bytes.saturating_mul(ROOM);
    let mut paths: Vec<HostPath> = Vec::new();
    for (path, bytes) in &disk.freeable {
        if room >= enough {
            break;
        }
        room = room.saturating_add(*bytes);
        paths.push(path.clone());
    }
    match paths.is_empty() || ailment.cures >= 3 {
        true => Next::Nothing("nothing that may be freed is left; see `[disk]` in the configuration".to_owned()),
        false => Next::Do { action: Action::FreeSpace { paths }, why: String::new() },
    }
}

fn of_certificate(ailment: &Ailment, certificate: &Certificate) -> Next {
    if !certificate.file_expired && ailment.starts < 2 {
        // Renewed, and never read since.
        return Next::Do { action: Action::ReloadService { unit: certificate.unit.clone() }, why: String::new() };
    }
    let renewals = ailment.steps.values().filter(|step| matches!(step.action, Action::RenewCertificate { .. }));
    if certificate.file_expired && certificate.renewable && renewals.count() < 2 {
        return Next::Do { action: Action::RenewCertificate { path: certificate.path.clone() }, why: String::new() };
    }
    let path = &certificate.path;
    Next::Nothing(match certificate.renewable {
        true => format!("`{path}` could not be renewed"),
        false => format!("`{path}` has expired, and no command that renews it is declared"),
    })
}

/// Whether a restoration takes back what somebody wrote who may change the host.
pub(super) fn takes_back_an_authorised_change(desk: &Desk<'_>, action: &Action) -> bool {
    let Action::RestoreFile(restore) = action else { return false };
    let Some(file) = desk.graph.file(&restore.path) else { return false };
    let context = Context { configuration: desk.configuration, change_window: desk.change_window };
    file.writes
        .iter()
        .filter(|write| restore.later.iter().any(|later| later.version == write.last))
        .any(|write| detect::authority(write.writer, desk.graph, &context).is_authorised())
}

pub(super) fn in_words(action: &Action) -> String {
    match action {
        Action::RestoreFile(restore) => format!("put `{}` back to its last good version", restore.path),
        Action::RestartService { unit } => format!("restart {unit}"),
        Action::ReloadService { unit } => format!("reload {unit}"),
        Action::FreeSpace { paths } => format!("delete {} files that may be freed", paths.len()),
        Action::LoadFirewall { path } => format!("load the packet filter from `{path}`"),
        Action::RenewCertificate { path } => format!("renew the certificate `{path}`"),
        Action::SuspendProcesses { .. }
        | Action::TerminateProcesses { .. }
        | Action::EndSession { .. }
        | Action::RestoreFiles { .. }
        | Action::QuarantineFile { .. }
        | Action::RemoveUnit { .. } => action.name().to_owned(),
    }
}
