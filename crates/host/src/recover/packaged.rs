// SPDX-License-Identifier: Apache-2.0
//! D3-RF Restore File out of the archive of the package that ships it, where no version is in the vault.
//!
//! Input: files with what the record wants and what the plan found. Output: what each should be. Invariants: those of one
//! restored file, for each; what is not as the plan found it is left alone; all of them or none.

use super::file::{self, Before};
use crate::package::{Original, Packages, digest_of};
use crate::system::{Bytes, FileState, Result, System};
use thymus_engine::HostPath;
use thymus_engine::action::{Expected, Facts, Outcome, Packaged};
use thymus_engine::event::FileKind;

/// Capabilities of a file belong to its content; dpkg's archives hold none.
const CAPABILITY: &[u8] = b"security.capability";

pub fn capture(
    system: &mut dyn System,
    packages: &dyn Packages,
    files: &[Packaged],
) -> Result<(Vec<(HostPath, Before)>, Facts)> {
    let refused = |why: String| {
        let path = files.first().map(|file| file.path.clone()).unwrap_or_default();
        crate::system::Error::Refused { path, why }
    };
    let originals = packages.originals(files).map_err(refused)?;
    let mut kept: Vec<(HostPath, Before)> = Vec::new();
    let mut changed = None;
    for (file, original) in files.iter().zip(originals) {
        let before = system.capture(&file.path)?;
        let wanted = wanted(system, original, before.as_ref())?;
        if file::same(before.as_ref(), Some(&wanted)) {
            continue;
        }
        let content = before.as_ref().and_then(|state| state.content);
        let found = content.map(|digest| system.kept(&digest)).transpose()?.map(|content| digest_of(&content));
        if found != file.found || (found.is_none() && before.is_some()) {
            changed = Some(format!("`{}` is not as it was found", file.path));
        }
        kept.push((file.path.clone(), Before::new(before, Some(wanted), false)));
    }
    let as_expected = match changed {
        Some(how) => Expected::Changed(how),
        None if kept.is_empty() => Expected::AlreadyDone,
        None => Expected::Yes,
    };
    Ok((kept, Facts::ready(as_expected, files.len())))
}

/// Access lists and labels of what is there stay.
fn wanted(system: &mut dyn System, original: Original, before: Option<&FileState>) -> Result<FileState> {
    let size = original.content.as_ref().map_or(0, |content| content.len() as u64);
    let content = original.content.map(|content| system.keep(&content)).transpose()?;
    let xattrs: Vec<(HostPath, Bytes)> = before.map(|state| state.xattrs.clone()).unwrap_or_default();
    Ok(FileState {
        kind: original.kind,
        mode: if original.kind == FileKind::Symlink { 0o777 } else { original.mode },
        uid: original.uid,
        gid: original.gid,
        mtime: (original.mtime, 0),
        xattrs: xattrs.into_iter().filter(|(name, _)| name.as_bytes() != CAPABILITY).collect(),
        content,
        size,
        target: original.target,
        links: 1,
        ..FileState::default()
    })
}

/// One after the other: a directory is there before what is in it. Whoever calls puts all back when one fails.
pub fn apply(system: &mut dyn System, files: &[(HostPath, Before)]) -> Result<Outcome> {
    if files.is_empty() {
        return Ok(Outcome::DoesNotExist);
    }
    for (path, before) in files {
        file::apply(system, path, before)?;
    }
    Ok(Outcome::Success)
}

/// The last first. What somebody changed since is not overwritten.
pub fn revert(system: &mut dyn System, files: &[(HostPath, Before)]) -> Result<Outcome> {
    let mut failed = None;
    for (path, before) in files.iter().rev() {
        if let Outcome::Failed(why) = file::revert(system, path, before)? {
            failed = Some(why);
        }
    }
    Ok(failed.map_or(Outcome::Undone, Outcome::Failed))
}

/// After a crash: done when all are as wanted, else all are put back.
pub fn settle_open(system: &mut dyn System, files: &[(HostPath, Before)], why: &str) -> Outcome {
    let done = |(path, before): &(HostPath, Before)| {
        system.look(path).is_ok_and(|found| file::same(found.as_ref(), before.wanted.as_ref()))
    };
    if files.iter().all(done) {
        return Outcome::Success;
    }
    match revert_half_done(system, files) {
        Ok(Outcome::Undone) => Outcome::Reverted(why.to_owned()),
        Ok(other) => other,
        Err(error) => Outcome::Failed(format!("{why}, and it could not be put back: {}", error.in_words())),
    }
}

/// One of them may have been stopped while its attributes were set: `file::settle_open` knows how to see that.
fn revert_half_done(system: &mut dyn System, files: &[(HostPath, Before)]) -> Result<Outcome> {
    for (path, before) in files.iter().rev() {
        if let Outcome::Failed(why) = file::settle_open(system, path, before, "") {
            return Ok(Outcome::Failed(why));
        }
    }
    revert(system, files)
}
