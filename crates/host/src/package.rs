// SPDX-License-Identifier: Apache-2.0
//! Archives of installed packages as what files are restored from, where the vault has no version of them.
//!
//! Input: dpkg's records and archives (`.deb`) below the scope's root. Output: which files are not as they were shipped, and
//! what they should be. Invariants: nothing is installed, no script is run, nothing is fetched; an archive counts only when
//! it says that it is exactly the installed version and architecture, root alone may write it, and a file's content has
//! the MD5 of the record. Mode, owner and where a link leads are the archive's word.

pub(crate) mod archive;
mod claims;
pub(crate) mod records;

use crate::inventory::below::{Below, join, mark};
use crate::scope::Scope;
use crate::sense::resolved;
use records::{Package, Records, Shipped};
use rustix::fs::{AtFlags, FileType};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use thymus_engine::HostPath;
use thymus_engine::action::Packaged;
use thymus_engine::event::FileKind;
use thymus_engine::health::PACKAGED_MAX;

/// LIMIT: members asked of one archive.
pub(crate) const MEMBERS_MAX: usize = 2 * PACKAGED_MAX;
/// LIMIT: bytes of a file that is digested, and of all of them in one look.
const FILE_BYTES_MAX: u64 = 64 << 20;
const DIGESTED_BYTES_MAX: u64 = 512 << 20;
/// LIMIT: digests remembered between two looks.
const REMEMBERED_MAX: usize = 16_384;
/// LIMIT: directories looked through for archives, from one that is declared; a mirror's pool has thousands.
const DIRECTORIES_MAX: usize = 8_192;
/// LIMIT: links followed from one name to the object that it stands for.
const LINKS_MAX: usize = 8;
/// A look, and a restoration, end within this time.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
const RESTORE_LIMIT: Duration = Duration::from_secs(60);

/// What a service needs to run; documentation and translations may be left out on purpose.
const WORKING: [&[u8]; 12] = [
    b"/usr/bin",
    b"/usr/sbin",
    b"/usr/lib",
    b"/usr/libexec",
    b"/usr/lib32",
    b"/usr/lib64",
    b"/usr/libx32",
    b"/usr/games",
    b"/usr/local/bin",
    b"/usr/local/lib",
    b"/usr/local/sbin",
    b"/opt",
];
/// Directories of the root that are links into `/usr` on a merged host.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// A file as its package ships it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    pub kind: FileKind,
    /// 07777.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Of a regular file.
    pub content: Option<Vec<u8>>,
    /// Of a symbolic link.
    pub target: Option<HostPath>,
}

/// Where files of packages come from: archives, or a test's own.
pub trait Packages: std::fmt::Debug + Send {
    /// Each as it was shipped, in their order; or why that is not known, in words.
    fn originals(&self, files: &[Packaged]) -> Result<Vec<Original>, String>;
    /// What the record of the package that ships this file says of it now; `None`: no package ships it.
    fn claim(&mut self, path: &HostPath) -> Result<Option<Claim>, String>;
}

/// A package's word on one of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name and version.
    pub package: String,
    /// Where it says so.
    pub record: HostPath,
    /// MD5 of the content, as [`digest_of`] writes it.
    pub digest: String,
}

/// Nothing is known of packages.
#[derive(Clone, Copy, Debug)]
pub struct NoPackages;

impl Packages for NoPackages {
    fn originals(&self, _: &[Packaged]) -> Result<Vec<Original>, String> {
        Err("no archives of packages are looked for".to_owned())
    }

    fn claim(&mut self, _: &HostPath) -> Result<Option<Claim>, String> {
        Ok(None)
    }
}

/// dpkg's records of a scope, and directories below its root in which archives may lie.
#[derive(Debug)]
pub struct Dpkg<'a> {
    scope: &'a Scope,
    directories: Vec<HostPath>,
    claims: claims::Claims,
}

/// MD5 of content, as dpkg writes it.
#[must_use]
pub fn digest_of(content: &[u8]) -> String {
    format!("{:x}", md5::compute(content))
}

/// What was digested before, and has not changed since: by path, with size, inode and times.
#[derive(Debug, Default)]
pub(crate) struct Remembered(BTreeMap<HostPath, ([i128; 4], String)>);

impl<'a> Dpkg<'a> {
    #[must_use]
    pub fn new(scope: &'a Scope, directories: Vec<HostPath>) -> Self {
        Self { scope, directories, claims: claims::Claims::default() }
    }

    /// What of the packages that ship `paths` (files or trees) is not as it was shipped, and of which an archive is there;
    /// with `needed`, also of the packages that those need. A directory comes before what is in it. At most
    /// [`PACKAGED_MAX`].
    pub(crate) fn differing(&self, paths: &[HostPath], needed: bool, remembered: &mut Remembered) -> Vec<Packaged> {
        let below = Below::new(self.scope, Instant::now() + LOOK_LIMIT);
        let Some(records) = Records::read(&below) else { return Vec::new() };
        let merged = Merged::read(&below);
        let made_of: BTreeSet<HostPath> = paths.iter().flat_map(|path| objects(&below, &merged, path)).collect();
        let names = made_of.iter().flat_map(|path| merged.aliases(path)).collect();
        let owners = records.owners(&names);
        let mut found: BTreeMap<HostPath, Packaged> = BTreeMap::new();
        let mut room = DIGESTED_BYTES_MAX;
        let packages = if needed { records.with_needed(&owners) } else { owners.clone() };
        for package in packages {
            let owner = owners.contains(&package);
            let mut of_this = Vec::new();
            for shipped in records.shipped(package) {
                let path = merged.canonical(&shipped.path);
                let made_of = || made_of.contains(&path) || paths.iter().any(|tree| path.is_within(tree.as_bytes()));
                let works = WORKING.iter().any(|tree| path.is_within(tree));
                let looked_at = if shipped.configuration { owner && made_of() } else { works || made_of() };
                if looked_at && let Some(differs) = self.differs(&below, &path, &shipped, remembered, &mut room) {
                    of_this.push((path, shipped, differs));
                }
            }
            if of_this.is_empty() || self.archive(&below, package).is_none() {
                continue;
            }
            for (path, shipped, found_there) in of_this {
                if found.len() >= PACKAGED_MAX {
                    break;
                }
                found.insert(path.clone(), packaged(package, path, shipped, found_there));
            }
        }
        found.into_values().collect() // by path: a directory comes before what is in it
    }

    /// `Some`: it differs, with the MD5 of what is there. Somebody's link or directory in its place is left alone.
    fn differs(
        &self,
        below: &Below<'_>,
        path: &HostPath,
        shipped: &Shipped,
        remembered: &mut Remembered,
        room: &mut u64,
    ) -> Option<Option<String>> {
        let name = path.as_bytes().strip_prefix(b"/").unwrap_or_default();
        let stat = match rustix::fs::statat(self.scope.root(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Some(None),
            Err(_) => return None,
        };
        let wanted = shipped.digest.as_ref()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let mark = mark(&stat);
        let known = remembered.0.get(path).filter(|(known, _)| *known == mark).map(|(_, digest)| digest.clone());
        let digest = match known {
            Some(digest) => digest,
            None => {
                *room = room.checked_sub(u64::try_from(stat.st_size).unwrap_or(u64::MAX))?;
                let digest = digest_of(&below.read(path.as_bytes(), FILE_BYTES_MAX).ok()??);
                if remembered.0.len() < REMEMBERED_MAX {
                    remembered.0.insert(path.clone(), (mark, digest.clone()));
                }
                digest
            }
        };
        (digest != *wanted).then_some(Some(digest))
    }
}

/// Links of a host's root directory that lead into `/usr`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merged(BTreeSet<&'static str>);

impl Merged {
    pub(crate) fn read(below: &Below<'_>) -> Self {
        let leads = |name: &&str| {
            let target = below.link(format!("/{name}").as_bytes()).ok().flatten().unwrap_or_default();
            target.strip_prefix(b"/").unwrap_or(&target) == format!("usr/{name}").as_bytes()
        };
        Self(MERGED.into_iter().filter(leads).collect())
    }

    /// `/lib/x` is `/usr/lib/x` on a merged host: the name that events have it under.
    pub(crate) fn canonical(&self, path: &HostPath) -> HostPath {
        let leads = self.0.iter().any(|name| path.is_within(format!("/{name}").as_bytes()));
        if leads { HostPath::new(&[b"/usr", path.as_bytes()].concat()) } else { path.clone() }
    }

    /// All names that a record may have it under.
    fn aliases(&self, path: &HostPath) -> Vec<HostPath> {
        let mut names = vec![path.clone()];
        if self.0.iter().any(|name| path.is_within(format!("/usr/{name}").as_bytes())) {
            names.extend(path.as_bytes().strip_prefix(b"/usr").map(HostPath::new));
        }
        names
    }
}

impl Dpkg<'_> {
    /// An archive of exactly this version that root alone may write.
    fn archive(&self, below: &Below<'_>, package: &Package) -> Option<std::fs::File> {
        let Package { name, version, architecture, .. } = package;
        // apt writes the colon of an epoch as `%3a`; pools leave the epoch out.
        let short = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest);
        let names = [version.replace(':', "%3a"), short.to_owned()]
            .map(|version| format!("{name}_{version}_{architecture}.deb"));
        self.directories.iter().find_map(|directory| {
            let mut pending = vec![directory.as_bytes().to_vec()];
            for _ in 0..DIRECTORIES_MAX {
                let directory = pending.pop()?;
                if let Some(file) =
                    names.iter().find_map(|name| below.trusted(&directory, name.as_bytes()).ok().flatten())
                {
                    return Some(file);
                }
                let entries = below.list(&directory).unwrap_or_default();
                let deeper = entries.into_iter().filter(|(_, kind)| *kind == FileType::Directory);
                pending.extend(deeper.map(|(name, _)| join(&directory, &name)));
                pending.truncate(DIRECTORIES_MAX);
            }
            None
        })
    }

    /// Those of one package.
    fn of_one(
        &self,
        records: &Records<'_, '_>,
        below: &Below<'_>,
        files: &[&Packaged],
    ) -> Result<Vec<Original>, String> {
        let Some(first) = files.first() else { return Ok(Vec::new()) };
        let (name, version) = (&first.package, &first.version);
        let package = records.package(name, &first.architecture).filter(|package| package.version == *version);
        let package = package.ok_or_else(|| format!("{name} {version} is not installed any more"))?;
        let shipped = records.shipped(package);
        for file in files {
            let record = shipped.iter().find(|shipped| shipped.path == file.shipped);
            if record.map(|record| &record.digest) != Some(&file.wanted) {
                return Err(format!("the record of {name} {version} says something else of `{}` now", file.shipped));
            }
        }
        let none = || format!("there is no archive of {name} {version} that root alone may write");
        let mut wanted: BTreeSet<HostPath> = files.iter().map(|file| file.shipped.clone()).collect();
        let mut read = || {
            let archive = self.archive(below, package).ok_or_else(none)?;
            let found =
                archive::read(archive, &wanted).map_err(|error| format!("the archive of {name} {version}: {error}"))?;
            wanted.extend(found.elsewhere.iter().cloned());
            Ok::<_, String>(found)
        };
        let mut found = read()?;
        if !found.elsewhere.is_empty() {
            found = read()?;
        }
        if (&found.package, &found.version, &found.architecture) != (name, version, &package.architecture) {
            return Err(format!("the archive of {name} {version} says that it is {} {}", found.package, found.version));
        }
        let (users, groups) = (self.list(below, b"/etc/passwd"), self.list(below, b"/etc/group"));
        let overridden = records::overridden(below);
        let base = rustix::fs::fstat(self.scope.root()).map_or(0, |stat| stat.st_uid);
        let original = |file: &&Packaged| {
            let member = found
                .members
                .get(&file.shipped)
                .ok_or_else(|| format!("the archive of {name} {version} has no `{}`", file.shipped))?;
            let content = (member.kind == FileKind::Regular).then(|| member.content.clone());
            let digest = content.as_deref().map(digest_of);
            if digest != file.wanted {
                return Err(format!(
                    "`{}` in the archive of {name} {version} has another MD5 than the record",
                    file.shipped
                ));
            }
            let id = |list: &[u8], name: &str, id: u32| base + records::number(list, name).unwrap_or(id);
            let (mut mode, mut uid, mut gid) =
                (member.mode, id(&users, &member.user, member.uid), id(&groups, &member.group, member.gid));
            if let Some(own) = overridden.get(&file.shipped) {
                mode = own.mode;
                (uid, gid) = (id(&users, &own.user, member.uid), id(&groups, &own.group, member.gid));
            }
            let (kind, mtime, target) = (member.kind, member.mtime, member.target.clone());
            Ok(Original { kind, mode, uid, gid, mtime, content, target })
        };
        files.iter().map(original).collect()
    }

    fn list(&self, below: &Below<'_>, path: &[u8]) -> Vec<u8> {
        below.read(path, 4 << 20).ok().flatten().unwrap_or_default()
    }
}

impl Packages for Dpkg<'_> {
    fn originals(&self, files: &[Packaged]) -> Result<Vec<Original>, String> {
        let below = Below::new(self.scope, Instant::now() + RESTORE_LIMIT);
        let records = Records::read(&below).ok_or("dpkg has no records here")?;
        let key = |file: &Packaged| (file.package.clone(), file.version.clone(), file.architecture.clone());
        let packages: BTreeSet<_> = files.iter().map(key).collect();
        let mut found: BTreeMap<&HostPath, Original> = BTreeMap::new();
        for package in packages {
            let of_this: Vec<&Packaged> = files.iter().filter(|file| key(file) == package).collect();
            let originals = self.of_one(&records, &below, &of_this)?;
            found.extend(of_this.iter().map(|file| &file.path).zip(originals));
        }
        let each =
            |file: &Packaged| found.get(&file.path).cloned().ok_or_else(|| format!("`{}` is not known", file.path));
        files.iter().map(each).collect()
    }

    fn claim(&mut self, path: &HostPath) -> Result<Option<Claim>, String> {
        self.claim_of(path)
    }
}

fn packaged(package: &Package, path: HostPath, shipped: Shipped, found: Option<String>) -> Packaged {
    Packaged {
        path,
        package: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        shipped: shipped.path,
        wanted: shipped.digest,
        found,
        configuration: shipped.configuration,
    }
}

/// The object that a name stands for, and the links on the way to it.
fn objects(below: &Below<'_>, merged: &Merged, path: &HostPath) -> Vec<HostPath> {
    let mut found = vec![merged.canonical(path)];
    for _ in 0..LINKS_MAX {
        let Some(at) = found.last().cloned() else { break };
        let Ok(Some(target)) = below.link(at.as_bytes()) else { break };
        found.push(merged.canonical(&HostPath::new(&resolved(at.parent(), &target))));
    }
    found
}

#[cfg(test)]
mod tests;
