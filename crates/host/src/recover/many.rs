// SPDX-License-Identifier: Apache-2.0
//! D3-RF Restore File for many files that only the attack wrote, in one action.
//!
//! Input: as for one file, of each. Output: what is wanted at each, and which of them do not fit the plan and are left to a
//! plan of their own. Invariants: those of one file, for each of them; one that fails leaves the others done.

use super::file::{self, Before};
use crate::perform::Versions;
use crate::system::{FileState, Placing, System};
use thymus_engine::HostPath;
use thymus_engine::action::{Expected, Facts, Outcome, RestoreFile};
use thymus_engine::event::FileKind;
use thymus_engine::id::VersionId;

/// Reads what is there and finds out what should be. What is in order already is neither kept nor left out.
pub fn capture(
    system: &mut dyn System,
    versions: &dyn Versions,
    files: &[RestoreFile],
) -> (Vec<(HostPath, Before)>, Facts) {
    let paths: Vec<&HostPath> = files.iter().map(|file| &file.path).collect();
    let found = system.capture_many(&paths);
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for (restore, found) in files.iter().zip(found) {
        let fits = found.map_err(|error| error.in_words()).and_then(|found| one(system, versions, restore, found));
        match fits {
            Ok(Some(before)) => kept.push((restore.path.clone(), before)),
            Ok(None) => {}
            Err(why) => left_out.push((restore.path.clone(), why)),
        }
    }
    let as_expected = if kept.is_empty() && left_out.is_empty() { Expected::AlreadyDone } else { Expected::Yes };
    let targets = files.len() - left_out.len();
    (kept, Facts { left_out, ..Facts::ready(as_expected, targets) })
}

/// `Ok(None)`: it is as wanted. `Err`: it does not fit, in words.
fn one(
    system: &mut dyn System,
    versions: &dyn Versions,
    restore: &RestoreFile,
    found: Option<FileState>,
) -> Result<Option<Before>, String> {
    let wanted = match restore.base {
        VersionId::UNKNOWN => None,
        base => versions.state(base)?,
    };
    if file::same(found.as_ref(), wanted.as_ref()) {
        return Ok(None);
    }
    for state in found.iter().chain(&wanted) {
        if state.kind != FileKind::Regular {
            return Err("it is no regular file".to_owned());
        }
        if state.links > 1 {
            return Err("it has other names".to_owned());
        }
    }
    if let Some(digest) = wanted.as_ref().and_then(|wanted| wanted.content)
        && !system.has(&digest)
    {
        system.keep(&versions.content(restore.base)?).map_err(|error| error.in_words())?;
    }
    let newest = restore.later.last().map_or(restore.base, |authored| authored.version);
    match file::as_recorded(versions, newest, found.as_ref()) {
        Expected::Changed(why) => Err(why),
        Expected::Yes | Expected::AlreadyDone => Ok(Some(Before::new(found, wanted, false))),
    }
}

pub fn apply(system: &mut dyn System, files: &[(HostPath, Before)]) -> Outcome {
    let failed = place(system, files, |before| (before.before.as_ref(), before.wanted.as_ref()));
    // Each that did not work is looked at by itself: it is done after all, or put back.
    let not_done = failed.into_iter().filter_map(|((path, before), why)| not_settled(system, path, before, &why));
    told(files, not_done.collect())
}

/// What somebody changed since is not overwritten.
pub fn revert(system: &mut dyn System, files: &[(HostPath, Before)]) -> Outcome {
    let paths: Vec<&HostPath> = files.iter().map(|(path, _)| path).collect();
    let found = system.look_many(&paths);
    let (mut ours, mut failed) = (Vec::new(), Vec::new());
    for ((path, before), found) in files.iter().zip(found) {
        match found {
            Ok(found) if file::same(found.as_ref(), before.before.as_ref()) => {}
            Ok(found) if file::same(found.as_ref(), before.wanted.as_ref()) => {
                ours.push((path.clone(), before.clone()))
            }
            Ok(_) => failed.push((path.clone(), "it was changed since; a person must look".to_owned())),
            Err(error) => failed.push((path.clone(), error.in_words())),
        }
    }
    let placed = place(system, &ours, |before| (before.wanted.as_ref(), before.before.as_ref()));
    for ((path, before), why) in placed {
        if !matches!(file::revert(system, path, before), Ok(Outcome::Undone)) {
            failed.push((path.clone(), why));
        }
    }
    match failed.first() {
        None => Outcome::Undone,
        Some((path, why)) => Outcome::Failed(format!("{} of {} files: `{path}`: {why}", failed.len(), files.len())),
    }
}

/// After a crash: each is done when it is as wanted, else put back.
pub fn settle_open(system: &mut dyn System, files: &[(HostPath, Before)], why: &str) -> Outcome {
    let not_done = files.iter().filter_map(|(path, before)| not_settled(system, path, before, why));
    told(files, not_done.collect())
}

/// `None`: it is as wanted. Otherwise it is as it was, or a person must look.
fn not_settled(system: &mut dyn System, path: &HostPath, before: &Before, why: &str) -> Option<(HostPath, String)> {
    match file::settle_open(system, path, before, why) {
        Outcome::Success | Outcome::DoesNotExist => None,
        Outcome::Reverted(why) | Outcome::Failed(why) => Some((path.clone(), why)),
        Outcome::Undone | Outcome::Partly(_) => Some((path.clone(), why.to_owned())),
    }
}

/// Those that did not work, each with the reason.
fn place<'f>(
    system: &mut dyn System,
    files: &'f [(HostPath, Before)],
    way: fn(&Before) -> (Option<&FileState>, Option<&FileState>),
) -> Vec<(&'f (HostPath, Before), String)> {
    let placing = |(path, before): &'f (HostPath, Before)| {
        let (expected, wanted) = way(before);
        Placing { path, expected, wanted }
    };
    let placings: Vec<Placing<'_>> = files.iter().map(placing).collect();
    let results = system.place_many(&placings).into_iter();
    results.zip(files).filter_map(|(result, file)| Some((file, result.err()?.in_words()))).collect()
}

fn told(files: &[(HostPath, Before)], not_done: Vec<(HostPath, String)>) -> Outcome {
    match not_done.first() {
        None => Outcome::Success,
        Some((_, why)) if not_done.len() == files.len() => Outcome::Reverted(why.clone()),
        Some(_) => Outcome::Partly(not_done),
    }
}
