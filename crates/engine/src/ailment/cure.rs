// SPDX-License-Identifier: Apache-2.0
//! Which cure comes next: the most harmless one that was not tried yet.

use super::patient::Patient;
use super::{Ailment, Kind};
use crate::action::{Action, Packaged};
use crate::decide::Desk;
use crate::detect::{self, Context};
use crate::graph::Write;
use crate::health::{Certificate, Disk, Health, PACKAGED_MAX};
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
    let put_back = |nothing: &str| {
        // The vault's versions are the host's own, and nobody but us wrote them down: they go before a package's.
        let suspects = patient.suspects(desk.graph, &ailment.put_back);
        let known = suspects.into_iter().find_map(|change| Some((change.restore?, change.title)));
        if let Some((restore, title)) = known {
            let why = format!("changed just before {unit} failed: {title}");
            return Next::Do { action: Action::RestoreFile(restore), why };
        }
        let files = unpacked(ailment, desk, patient);
        match files.first() {
            Some(first) => {
                let why = format!("not as {} {} ships it", first.package, first.version);
                Next::Do { action: Action::RestorePackaged { files }, why }
            }
            None => Next::Nothing(nothing.to_owned()),
        }
    };
    match kind {
        Kind::MissingProgram => {
            put_back("no version of the program is known, and no archive of a package that is installed has it")
        }
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

/// Files of packages to put back next: all that only the package writes; then settings that it ships, one at a time, and
/// only those that are named as the reason.
fn unpacked(ailment: &Ailment, desk: &Desk<'_>, patient: &Patient) -> Vec<Packaged> {
    let Some(service) = patient.service() else { return Vec::new() };
    let open = |file: &&Packaged| {
        // An attack's own repair takes back what the attack wrote.
        let attacked = desk.graph.file(&file.path).is_some_and(|known| known.incident.is_some());
        !attacked && !ailment.unpacked.contains(&file.path)
    };
    let (settings, shipped): (Vec<&Packaged>, Vec<&Packaged>) =
        service.packaged.iter().take(PACKAGED_MAX).filter(open).partition(|file| file.is_edited());
    if !shipped.is_empty() {
        return shipped.into_iter().cloned().collect();
    }
    settings.into_iter().find(|file| patient.names(&file.path)).into_iter().cloned().collect()
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
    let context = Context { configuration: desk.configuration, change_window: desk.change_window };
    let authorised = |write: &Write| detect::authority(write.writer, desk.graph, &context).is_authorised();
    match action {
        Action::RestoreFile(restore) => desk.graph.file(&restore.path).is_some_and(|file| {
            let taken_back = |write: &&Write| restore.later.iter().any(|later| later.version == write.last);
            file.writes.iter().filter(taken_back).any(authorised)
        }),
        // Settings that differ are somebody's own, whether or not it was seen whose.
        Action::RestorePackaged { files } => files.iter().any(|file| {
            let written = || desk.graph.file(&file.path).and_then(|known| known.last());
            file.is_edited() || written().is_some_and(authorised)
        }),
        _ => false,
    }
}

pub(super) fn in_words(action: &Action) -> String {
    match action {
        Action::RestoreFile(restore) => format!("put `{}` back to its last good version", restore.path),
        Action::RestartService { unit } => format!("restart {unit}"),
        Action::ReloadService { unit } => format!("reload {unit}"),
        Action::FreeSpace { paths } => format!("delete {} files that may be freed", paths.len()),
        Action::LoadFirewall { path } => format!("load the packet filter from `{path}`"),
        Action::RenewCertificate { path } => format!("renew the certificate `{path}`"),
        Action::RestorePackaged { files } => match files.as_slice() {
            [one] => format!("put `{}` back as {} {} ships it", one.path, one.package, one.version),
            many => format!("put {} files back as their packages ship them", many.len()),
        },
        Action::UndoAction { of, .. } => format!("take action {of} back"),
        Action::SuspendProcesses { .. }
        | Action::TerminateProcesses { .. }
        | Action::EndSession { .. }
        | Action::FilterTraffic { .. }
        | Action::RestoreFiles { .. }
        | Action::QuarantineFile { .. }
        | Action::LockAccount { .. }
        | Action::IsolateHost { .. }
        | Action::RemoveUnit { .. } => action.name().to_owned(),
    }
}
