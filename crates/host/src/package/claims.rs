// SPDX-License-Identifier: Apache-2.0
//! Which package ships a file: the paths of all digests that dpkg wrote down, found at once.
//!
//! Input: a path. Output: what the record says of it, as the record is now. The paths are read when they are first asked for,
//! and again when dpkg changed something; of those that no package ships, nothing else is read. Conffiles are left out
//! (`action::Genuine` says why).

use super::records::{self, Records};
use super::{Claim, Dpkg, LOOK_LIMIT, Merged};
use crate::inventory::below::Below;
use crate::inventory::lines;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant};
use thymus_engine::HostPath;

/// LIMIT: files of packages that are known; a host with several desktops and all of TeX has half a million. 16 bytes each.
const FILES_MAX: usize = 1 << 20;
/// LIMIT: the paths are read again no sooner, whatever somebody does to dpkg's list. An old path does no harm: what its record
/// says is looked up when it is asked for.
const FRESH: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Hash of each path as the record has it, with the place of its package; sorted.
    files: Vec<(u64, u32)>,
    /// Name and version, and the record.
    packages: Vec<(String, HostPath)>,
    diverted: BTreeSet<HostPath>,
    merged: Merged,
    /// Of dpkg's list, and when that was looked at.
    read: Option<([i128; 4], Instant)>,
    /// The record that was asked last.
    last: Option<(HostPath, [i128; 4], BTreeMap<HostPath, String>)>,
}

fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path);
    hasher.finish()
}

impl Dpkg<'_> {
    pub(super) fn claim_of(&mut self, path: &HostPath) -> Result<Option<Claim>, String> {
        let below = Below::new(self.scope, Instant::now() + LOOK_LIMIT);
        self.claims.refresh(&below);
        self.claims.of(&below, path)
    }
}

impl Claims {
    fn refresh(&mut self, below: &Below<'_>) {
        let Ok(Some(mark)) = below.mark(records::STATUS) else { return };
        if self.read.is_some_and(|(known, at)| known == mark || at.elapsed() < FRESH) {
            return;
        }
        self.read = Some((mark, Instant::now()));
        let Some(records) = Records::read(below) else { return };
        *self = Self { merged: Merged::read(below), read: self.read, ..Self::default() };
        let mut omitted = 0_usize;
        for package in records.installed() {
            let Ok(place) = u32::try_from(self.packages.len()) else { break };
            let listed = below.read(records.record_of(package).as_bytes(), records::LIST_BYTES_MAX);
            omitted += usize::from(listed.is_err());
            let listed = listed.ok().flatten().unwrap_or_default();
            let shipped = lines(&listed).filter_map(records::path_of);
            // Tools that make packages otherwise than Debian's own digest these, too.
            for path in shipped.filter(|path| !Records::is_conffile(package, path)) {
                if self.files.len() < FILES_MAX {
                    self.files.push((hash(path), place));
                } else {
                    omitted += 1;
                }
            }
            self.packages.push((format!("{} {}", package.name, package.version), records.record_of(package)));
        }
        self.files.sort_unstable();
        self.files.shrink_to_fit();
        self.diverted = records.into_diverted();
        if omitted > 0 {
            tracing::warn!(
                omitted,
                "records of packages are not known: their files are not told from an attack's by them"
            );
        }
    }

    fn of(&mut self, below: &Below<'_>, path: &HostPath) -> Result<Option<Claim>, String> {
        for name in self.merged.aliases(path) {
            if self.diverted.contains(&name) {
                continue; // it is somebody else's
            }
            // The name as in the record: without the slash.
            let wanted = hash(name.as_bytes().strip_prefix(b"/").unwrap_or_default());
            let from = self.files.partition_point(|(known, _)| *known < wanted);
            let places: Vec<u32> =
                self.files[from..].iter().take_while(|(known, _)| *known == wanted).map(|(_, place)| *place).collect();
            for place in places {
                let Some((package, record)) = usize::try_from(place).ok().and_then(|place| self.packages.get(place))
                else {
                    continue;
                };
                let (package, record) = (package.clone(), record.clone());
                if let Some(digest) = self.digest(below, &record, &name)? {
                    return Ok(Some(Claim { package, record, digest }));
                }
            }
        }
        Ok(None)
    }

    /// What that record says of that name now.
    fn digest(&mut self, below: &Below<'_>, record: &HostPath, name: &HostPath) -> Result<Option<String>, String> {
        let failed = |error: crate::inventory::Error| crate::system::in_words(&error);
        let Some(mark) = below.mark(record.as_bytes()).map_err(failed)? else { return Ok(None) };
        if self.last.as_ref().is_none_or(|(known, at, _)| known != record || *at != mark) {
            let listed = below.read(record.as_bytes(), records::LIST_BYTES_MAX).map_err(failed)?.unwrap_or_default();
            self.last = Some((record.clone(), mark, lines(&listed).filter_map(records::digest).collect()));
        }
        Ok(self.last.as_ref().and_then(|(_, _, digests)| digests.get(name).cloned()))
    }
}
