// SPDX-License-Identifier: Apache-2.0
//! Units that an administrator enabled or wrote, by links and files on disk, and whether the manager runs them.
//!
//! Units of a package that nobody enabled come and go as others need them: they are not part of a state.

use super::below::{Below, FILE_BYTES_MAX, join};
use super::{Error, Items, Result, digest, state, text};
use crate::scope::Scope;
use crate::system::services::active_units;
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use thymus_engine::HostPath;
use thymus_engine::golden::{Item, Section};

/// Where an administrator's units lie.
const OWN: [&[u8]; 2] = [b"/etc/systemd/system", b"/usr/local/lib/systemd/system"];
/// Where those of packages lie, strongest first.
const VENDOR: [&[u8]; 2] = [b"/usr/lib/systemd/system", b"/lib/systemd/system"];
/// Kinds of units that start programs.
const ENDINGS: [&[u8]; 4] = [b".service", b".socket", b".timer", b".path"];

pub(super) fn read(below: &Below<'_>, scope: &Scope, behind: &mut BTreeMap<Item, Vec<HostPath>>) -> Result<Items> {
    let mut found = on_disk(below, behind)?;
    let active = active_units(scope)?;
    let active = self::active(&active);
    for (name, unit) in &mut found {
        // A template does not run; its instances do.
        if !name.contains("@.") {
            unit.insert("active".to_owned(), yes(active.contains(name)));
        }
    }
    Ok(found)
}

fn yes(holds: bool) -> String {
    if holds { "yes" } else { "no" }.to_owned()
}

fn is_unit(name: &[u8]) -> bool {
    ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

pub(super) fn on_disk(below: &Below<'_>, behind: &mut BTreeMap<Item, Vec<HostPath>>) -> Result<Items> {
    let mut files: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut links: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    let mut drop_ins: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for directory in OWN {
        for (name, kind) in below.list(directory)? {
            let path = join(directory, &name);
            match kind {
                FileType::Directory if name.ends_with(b".wants") || name.ends_with(b".requires") => {
                    for (unit, _) in below.list(&path)?.into_iter().filter(|(unit, _)| is_unit(unit)) {
                        links.entry(unit).or_default().insert(text(&name));
                    }
                }
                FileType::Directory => {
                    let Some(unit) = name.strip_suffix(b".d").filter(|unit| is_unit(unit)) else { continue };
                    let confs = below.list(&path)?.into_iter().filter(|(name, _)| name.ends_with(b".conf"));
                    drop_ins.entry(unit.to_vec()).or_default().extend(confs.map(|(name, _)| join(&path, &name)));
                }
                _ if is_unit(&name) => drop(files.entry(name).or_insert(path)),
                _ => {}
            }
        }
    }
    let names: BTreeSet<&Vec<u8>> = files.keys().chain(links.keys()).chain(drop_ins.keys()).collect();
    let mut found = Items::new();
    for name in names {
        let mut unit = state([("enabled", yes(links.contains_key(name)))]);
        if let Some(links) = links.get(name) {
            unit.insert("wanted_by".to_owned(), links.iter().cloned().collect::<Vec<_>>().join(","));
        }
        match files.get(name) {
            // An alias or a masked unit is a link; what it points at says which.
            Some(path) => match below.link(path)? {
                Some(target) if target == b"/dev/null" => drop(unit.insert("masked".to_owned(), yes(true))),
                Some(target) => drop(unit.insert("alias_of".to_owned(), text(&target))),
                None => unit.extend(state([("file", text(path)), ("digest", content(below, path)?)])),
            },
            None => {
                let file = template(name);
                let vendor = VENDOR.iter().map(|directory| join(directory, &file));
                for path in vendor {
                    if below.read(&path, FILE_BYTES_MAX).is_ok_and(|bytes| bytes.is_some()) {
                        unit.insert("file".to_owned(), text(&path));
                        break;
                    }
                }
            }
        }
        if let Some(paths) = drop_ins.get(name).filter(|paths| !paths.is_empty()) {
            let mut all = Vec::new();
            for path in paths {
                all.extend_from_slice(path);
                all.extend_from_slice(content(below, path)?.as_bytes());
            }
            unit.insert("drop_ins".to_owned(), digest(&all));
            let item = Item::new(Section::Services, text(name));
            behind.insert(item, paths.iter().map(|path| HostPath::new(path)).collect());
        }
        found.insert(text(name), unit);
    }
    Ok(found)
}

/// `getty@tty1.service` has the file `getty@.service`.
fn template(name: &[u8]) -> Vec<u8> {
    let at = name.iter().position(|byte| *byte == b'@');
    let dot = name.iter().rposition(|byte| *byte == b'.');
    match (at, dot) {
        (Some(at), Some(dot)) if at < dot => [&name[..=at], &name[dot..]].concat(),
        _ => name.to_vec(),
    }
}

/// Digest of a file, or why there is none: a unit may be any kind of file.
fn content(below: &Below<'_>, path: &[u8]) -> Result<String> {
    match below.read(path, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(bytes.map_or_else(|| "absent".to_owned(), |bytes| digest(&bytes))),
        Err(Error::Deadline) => Err(Error::Deadline),
        Err(_) => Ok("unreadable".to_owned()),
    }
}

/// Units that `systemctl list-units` names as active.
pub(super) fn active(output: &str) -> BTreeSet<String> {
    let unit = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (name, _, active) = (words.next()?, words.next()?, words.next()?);
        (active == "active" && is_unit(name.as_bytes())).then(|| text(name.as_bytes()))
    };
    output.lines().filter_map(unit).collect()
}
