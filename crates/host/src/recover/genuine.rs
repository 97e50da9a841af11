// SPDX-License-Identifier: Apache-2.0
//! What an action would take away although it is, as it is now, exactly what an installed package ships.
//!
//! Input: what was captured for undo. Output: facts; the engine's kernel judges (K9). Only what would lose its content is
//! looked up, and only what a package ships is read for it. What cannot be compared is an error: then nothing is done.

use super::file::Before;
use crate::package::{Packages, digest_of};
use crate::system::{CONTENT_BYTES_MAX, Error, FileState, Result, System};
use thymus_engine::HostPath;
use thymus_engine::action::{Expected, Facts, Genuine, Merge};
use thymus_engine::event::FileKind;

/// Where packages' unit files lie.
const UNIT_TREES: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Adds to `facts` what is genuine of the files that lose their content.
pub fn look<'f>(
    system: &mut dyn System,
    packages: &mut dyn Packages,
    files: impl IntoIterator<Item = (&'f HostPath, &'f Before)>,
    facts: &mut Facts,
) -> Result<()> {
    let decided = matches!(facts.merge, Merge::Exact | Merge::Disjoint { .. });
    if facts.as_expected != Expected::Yes || !decided {
        return Ok(()); // nothing will be done
    }
    for (path, Before { before, wanted, .. }) in files {
        let Some(state) = before.as_ref().filter(|state| state.kind == FileKind::Regular) else { continue };
        if wanted.as_ref().is_some_and(|wanted| wanted.content == state.content) {
            continue; // its attributes, its time
        }
        facts.genuine.extend(one(system, packages, path, state)?);
    }
    Ok(())
}

/// As [`look`], for files of which nothing was captured.
pub fn look_anew<'f>(
    system: &mut dyn System,
    packages: &mut dyn Packages,
    paths: impl IntoIterator<Item = &'f HostPath>,
    facts: &mut Facts,
) -> Result<()> {
    for path in paths {
        if claim(packages, path)?.is_none() {
            continue;
        }
        let state = system.capture(path)?.filter(|state| state.kind == FileKind::Regular);
        facts.genuine.extend(state.map(|state| one(system, packages, path, &state)).transpose()?.flatten());
    }
    Ok(())
}

/// The file of a unit where a package ships one.
pub fn look_at_unit(system: &mut dyn System, packages: &mut dyn Packages, unit: &str, facts: &mut Facts) -> Result<()> {
    let paths = UNIT_TREES.map(|tree| HostPath::from(format!("{tree}/{unit}").as_str()));
    look_anew(system, packages, &paths, facts)
}

fn claim(packages: &mut dyn Packages, path: &HostPath) -> Result<Option<crate::package::Claim>> {
    packages.claim(path).map_err(|why| Error::Refused { path: path.clone(), why })
}

fn one(
    system: &mut dyn System,
    packages: &mut dyn Packages,
    path: &HostPath,
    state: &FileState,
) -> Result<Option<Genuine>> {
    let (Some(content), Some(claim)) = (state.content, claim(packages, path)?) else { return Ok(None) };
    if state.size > CONTENT_BYTES_MAX {
        let why = format!("{} ships it, and it is too large to be compared with what that says", claim.package);
        return Err(Error::Refused { path: path.clone(), why });
    }
    let same = digest_of(&system.kept(&content)?) == claim.digest;
    Ok(same.then(|| Genuine { path: path.clone(), package: claim.package, record: claim.record }))
}
