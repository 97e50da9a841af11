// SPDX-License-Identifier: Apache-2.0
//! dpkg's own records: which packages are installed, which files each shipped, with which MD5.
//!
//! In: files below the scope's root, in the forms of deb-control(5), dpkg-query(1), dpkg-statoverride(1). Out: the facts in
//! them. Lines that are not in form are left out. The records are no defence against somebody who may write them.

use crate::inventory::below::Below;
use crate::inventory::lines;
use crate::inventory::paragraphs::{paragraphs, value};
use std::collections::{BTreeMap, BTreeSet};
use thymus_engine::HostPath;

/// LIMIT: bytes of `status`; 5,000 packages need about 10 MB.
const STATUS_BYTES_MAX: u64 = 64 << 20;
/// LIMIT: bytes of the list or the digests of one package.
pub(super) const LIST_BYTES_MAX: u64 = 16 << 20;
/// LIMIT: installed packages.
const PACKAGES_MAX: usize = 16_384;
/// LIMIT: packages that one needs which are looked at with it.
const NEEDED_MAX: usize = 64;

pub(super) const STATUS: &[u8] = b"/var/lib/dpkg/status";
const DIVERSIONS: &[u8] = b"/var/lib/dpkg/diversions";
const OVERRIDES: &[u8] = b"/var/lib/dpkg/statoverride";

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    /// Its records are by name and architecture.
    same: bool,
    /// Names of packages that it needs; of alternatives, each.
    needs: Vec<String>,
    /// Shipped to be edited, each with the MD5 that it was shipped with.
    conffiles: BTreeMap<HostPath, String>,
}

/// One file as a record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shipped {
    pub(super) path: HostPath,
    /// 32 hexadecimal digits; `None`: a link, a directory, or a file without a record.
    pub(super) digest: Option<String>,
    pub(super) configuration: bool,
}

#[derive(Debug)]
pub(super) struct Records<'b, 'r> {
    below: &'b Below<'r>,
    packages: Vec<Package>,
    diverted: BTreeSet<HostPath>,
}

impl<'b, 'r> Records<'b, 'r> {
    /// `None`: no package manager of this kind.
    pub(super) fn read(below: &'b Below<'r>) -> Option<Self> {
        let packages = installed(&below.read(STATUS, STATUS_BYTES_MAX).ok()??);
        // Three lines each: what was diverted, where to, and for whom.
        let diversions = below.read(DIVERSIONS, LIST_BYTES_MAX).ok().flatten().unwrap_or_default();
        let diverted = lines(&diversions).filter(|line| line.starts_with(b"/")).map(HostPath::new).collect();
        Some(Self { below, packages, diverted })
    }

    pub(super) fn package(&self, name: &str, architecture: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name && package.architecture == architecture)
    }

    pub(super) fn installed(&self) -> &[Package] {
        &self.packages
    }

    pub(super) fn into_diverted(self) -> BTreeSet<HostPath> {
        self.diverted
    }

    /// The file with the digests of what the package ships.
    pub(super) fn record_of(&self, package: &Package) -> HostPath {
        named(package, "md5sums")
    }

    /// It ships this to be edited; `name` has no slash at its beginning.
    pub(super) fn is_conffile(package: &Package, name: &[u8]) -> bool {
        !package.conffiles.is_empty() && package.conffiles.contains_key(&HostPath::new(&[b"/", name].concat()))
    }

    /// Who shipped these, as far as anybody did.
    pub(super) fn owners(&self, paths: &BTreeSet<HostPath>) -> Vec<&Package> {
        let wanted: BTreeSet<&[u8]> = paths.iter().map(HostPath::as_bytes).collect();
        let ships = |package: &&Package| lines(&self.list(package)).any(|line| wanted.contains(line));
        self.packages.iter().filter(ships).collect()
    }

    /// These and what they need, nearest first; at most [`NEEDED_MAX`].
    pub(super) fn with_needed<'s>(&'s self, packages: &[&'s Package]) -> Vec<&'s Package> {
        let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
        for package in &self.packages {
            by_name.entry(&package.name).or_default().push(package);
        }
        let mut found: Vec<&Package> = packages.iter().take(NEEDED_MAX).copied().collect();
        let mut at = 0;
        while let Some(package) = found.get(at).copied() {
            at += 1;
            for needed in package.needs.iter().filter_map(|name| by_name.get(name.as_str())).flatten() {
                if found.len() < NEEDED_MAX && !found.contains(needed) {
                    found.push(needed);
                }
            }
        }
        found
    }

    /// All that the package ships, but for what was diverted: that is somebody else's.
    pub(super) fn shipped(&self, package: &Package) -> Vec<Shipped> {
        let digests = self.info(package, "md5sums");
        let digests: BTreeMap<HostPath, String> = lines(&digests).filter_map(digest).collect();
        let shipped = |line: &[u8]| {
            let path = HostPath::new(line);
            let settings = package.conffiles.get(&path);
            let digest = settings.or_else(|| digests.get(&path)).cloned();
            Shipped { configuration: settings.is_some(), digest, path }
        };
        let named = |line: &&[u8]| line.len() > 1 && line.starts_with(b"/") && *line != b"/.";
        let list = self.list(package);
        lines(&list).filter(named).map(shipped).filter(|file| !self.diverted.contains(&file.path)).collect()
    }

    fn list(&self, package: &Package) -> Vec<u8> {
        self.info(package, "list")
    }

    /// A record that cannot be read says nothing.
    fn info(&self, package: &Package, kind: &str) -> Vec<u8> {
        self.below.read(named(package, kind).as_bytes(), LIST_BYTES_MAX).ok().flatten().unwrap_or_default()
    }
}

/// Where dpkg keeps what it knows of a package.
fn named(package: &Package, kind: &str) -> HostPath {
    let arch = if package.same { format!(":{}", package.architecture) } else { String::new() };
    HostPath::from(format!("/var/lib/dpkg/info/{}{arch}.{kind}", package.name).as_str())
}

/// `MD5  usr/bin/x`.
pub(super) fn digest(line: &[u8]) -> Option<(HostPath, String)> {
    let (digest, path) = (line.get(..32)?, path_of(line)?);
    Some((HostPath::new(&[b"/", path].concat()), is_digest(digest)?))
}

/// Of such a line, without the slash at its beginning.
pub(super) fn path_of(line: &[u8]) -> Option<&[u8]> {
    line.get(32..)?.strip_prefix(b"  ")
}

fn is_digest(digest: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(digest).ok()?;
    (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// Packages that are installed as a whole, of dpkg's list.
pub(super) fn installed(status: &[u8]) -> Vec<Package> {
    // Names and architectures become names of files.
    let plain = |text: &String| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let package = |fields: BTreeMap<&[u8], &[u8]>| {
        let word = |name| std::str::from_utf8(value(&fields, name)).ok().map(str::to_owned);
        let (name, architecture) = (word("Package").filter(plain)?, word("Architecture").filter(plain)?);
        if !value(&fields, "Status").ends_with(b" installed") {
            return None;
        }
        let needs = [word("Pre-Depends"), word("Depends")].into_iter().flatten();
        let one =
            |one: &str| one.trim().split([' ', ':', '(']).next().filter(|name| !name.is_empty()).map(str::to_owned);
        let needs = needs.flat_map(|all| all.split([',', '|']).filter_map(one).collect::<Vec<_>>()).collect();
        let conffiles = lines(fields.get(&b"Conffiles"[..]).copied().unwrap_or_default());
        let conffile = |line: &[u8]| {
            let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
            let (path, digest) = (words.next()?, words.next()?);
            words.next().is_none().then(|| Some((HostPath::from(path), is_digest(digest.as_bytes())?)))?
        };
        Some(Package {
            name,
            version: word("Version")?,
            architecture,
            same: value(&fields, "Multi-Arch") == b"same",
            needs,
            conffiles: conffiles.filter_map(conffile).collect(),
        })
    };
    paragraphs(status).filter_map(package).take(PACKAGES_MAX).collect()
}

/// Owner, group and mode that an administrator gave a file of a package for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) user: String,
    pub(super) group: String,
    pub(super) mode: u16,
}

pub(super) fn overridden(below: &Below<'_>) -> BTreeMap<HostPath, Override> {
    let text = below.read(OVERRIDES, LIST_BYTES_MAX).ok().flatten().unwrap_or_default();
    overrides(&text)
}

/// `USER GROUP MODE PATH`, the mode in octal.
pub(super) fn overrides(text: &[u8]) -> BTreeMap<HostPath, Override> {
    let one = |line: &str| {
        let mut fields = line.splitn(4, ' ');
        let (user, group) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let mode = u16::from_str_radix(fields.next()?, 8).ok().filter(|mode| *mode <= 0o7777)?;
        Some((HostPath::from(fields.next()?), Override { user, group, mode }))
    };
    lines(text).filter_map(|line| one(std::str::from_utf8(line).ok()?)).collect()
}

/// The number of a user or group in passwd(5) or group(5), or written as `#NUMBER`.
pub(super) fn number(list: &[u8], name: &str) -> Option<u32> {
    if let Some(number) = name.strip_prefix('#') {
        return number.parse().ok();
    }
    lines(list).filter_map(|line| std::str::from_utf8(line).ok()).find_map(|line| {
        let mut fields = line.split(':');
        (!name.is_empty() && fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// Hostile records are read as far as they are in form.
pub(crate) fn fuzz(bytes: &[u8]) {
    for package in installed(bytes) {
        assert!(!package.name.contains('/') && !package.architecture.contains('/'), "they name files");
    }
    for line in lines(bytes) {
        if let Some((_, digest)) = digest(line) {
            assert_eq!(digest.len(), 32);
        }
    }
    assert!(overrides(bytes).values().all(|one| one.mode <= 0o7777));
    let _ = number(bytes, "root");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nMulti-Arch: same\n\
          Depends: libc6 (>= 2.36), x | y:any\nConffiles:\n /etc/a d41d8cd98f00b204e9800998ecf8427e\n\n"
            .to_vec(),
        b"d41d8cd98f00b204e9800998ecf8427e  usr/bin/a\n".to_vec(),
        b"root mail 2755 /usr/bin/a\nroot:x:0:0::/root:/bin/sh\n".to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_installed_is_read_and_what_is_half_so_is_not() {
        let text = [
            seeds()[0].clone(),
            b"Package: half\nStatus: install ok unpacked\nVersion: 1\nArchitecture: all\n\n".to_vec(),
            b"Package: ../x\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n".to_vec(),
            b"\nPackage: b\nStatus: hold ok installed\nVersion: 2\nArchitecture: all".to_vec(),
        ]
        .concat();
        let found = installed(&text);
        let names: Vec<&str> = found.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((found[0].version.as_str(), found[0].same), ("1:2-3", true));
        assert_eq!(found[0].needs, ["libc6", "x", "y"]);
        let digest = found[0].conffiles.get(&HostPath::from("/etc/a")).unwrap();
        assert_eq!(digest, "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn an_administrators_own_owner_and_mode_are_read() {
        let found = overrides(b"root mail 2755 /usr/bin/a b\n#7 #8 99999 /x\nbroken\n");
        let wanted = Override { user: "root".to_owned(), group: "mail".to_owned(), mode: 0o2755 };
        assert_eq!(found, BTreeMap::from([(HostPath::from("/usr/bin/a b"), wanted)]));
        let list = b"root:x:0:0::/root:/bin/sh\nmail:x:8:\n";
        assert_eq!((number(list, "mail"), number(list, "#7"), number(list, "")), (Some(8), Some(7), None));
    }
}
