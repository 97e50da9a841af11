// SPDX-License-Identifier: Apache-2.0
//! A Debian package's archive, deb(5): an `ar` of two compressed `tar`s.
//!
//! In: bytes that nobody vouches for. Out: which package it says it is, and the members that were asked for. Nothing is
//! unpacked to a disk and no script of the package is read. Every size is bounded before it is believed.

use super::MEMBERS_MAX;
use crate::inventory::paragraphs::{paragraphs, value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

/// LIMIT: bytes of an archive's content, unpacked; the largest package of Debian 12 has 1.5 GiB.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;
/// LIMIT: bytes of the control archive, unpacked, and of its file `control`.
const CONTROL_BYTES_MAX: u64 = 16 << 20;
const CONTROL_FILE_BYTES_MAX: u64 = 256 << 10;
/// LIMIT: bytes of all members that are brought into memory.
const WANTED_BYTES_MAX: u64 = 256 << 20;
/// LIMIT: entries of one archive.
const ENTRIES_MAX: usize = 262_144;
/// LIMIT: bytes of a member's name, as for paths in Linux.
const NAME_BYTES_MAX: u64 = 4_096;
/// LIMIT: bytes of the dictionary that an archive may ask for: what the highest preset of xz(1) uses.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;
/// The same for zstd(1): the exponent of two; what `--ultra -22` uses.
const WINDOW_LOG_MAX: u32 = 27;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read {doing}: {source}")]
    Read {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("it is no archive of a Debian package: {0}")]
    Format(&'static str),
    #[error("it is refused: {0}")]
    Limit(&'static str),
}

type Result<T> = std::result::Result<T, Error>;

fn reading(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Read { doing, source }
}

/// What an archive says that it is, and what was asked of it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) architecture: String,
    /// By the name in the package, absolute.
    pub(super) members: BTreeMap<HostPath, Member>,
    /// Names whose content is with these others, which must be asked for too.
    pub(super) elsewhere: BTreeSet<HostPath>,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) kind: FileKind,
    /// 07777.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names of owner and group, which go before the numbers; empty when there are none.
    pub(super) user: String,
    pub(super) group: String,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    /// Of a regular file.
    pub(super) content: Vec<u8>,
    /// Of a symbolic link.
    pub(super) target: Option<HostPath>,
    /// It is another name of this member.
    link: Option<HostPath>,
}

/// Reads the archive once; `wanted` are names in the package, at most [`MEMBERS_MAX`].
pub(super) fn read(mut archive: impl Read + 'static, wanted: &BTreeSet<HostPath>) -> Result<Contents> {
    if wanted.len() > MEMBERS_MAX {
        return Err(Error::Limit("too many members are asked for"));
    }
    let mut magic = [0; 8];
    archive.read_exact(&mut magic).map_err(reading("its beginning"))?;
    if &magic != b"!<arch>\n" {
        return Err(Error::Format("it does not begin as one"));
    }
    let mut archive: Box<dyn Read> = Box::new(archive);
    let mut found = Contents::default();
    let (mut first, mut described) = (true, false);
    while let Some(part) = part(&mut *archive)? {
        let bytes = part.bytes;
        let name = part.name.as_str();
        if std::mem::take(&mut first) {
            let mut format = Vec::new();
            (&mut archive).take(bytes.min(64)).read_to_end(&mut format).map_err(reading("its format"))?;
            if name != "debian-binary" || !format.starts_with(b"2.") {
                return Err(Error::Format("its first part is not of format 2"));
            }
            skip(&mut *archive, bytes.saturating_sub(64))?;
        } else if let (Some(form), false) = (name.strip_prefix("control.tar"), described) {
            let mut packed = Vec::new();
            if bytes > CONTROL_BYTES_MAX {
                return Err(Error::Limit("its control archive is too large"));
            }
            (&mut archive).take(bytes).read_to_end(&mut packed).map_err(reading("its control archive"))?;
            control(unpacked(form, io::Cursor::new(packed))?.take(CONTROL_BYTES_MAX), &mut found)?;
            described = true;
        } else if let (Some(form), true) = (name.strip_prefix("data.tar"), described) {
            // The last that is read: what comes after it is nobody's concern.
            let data = unpacked(form, archive.take(bytes))?;
            (found.members, found.elsewhere) = members(data.take(UNPACKED_BYTES_MAX), wanted)?;
            return Ok(found);
        } else if name.starts_with('_') {
            skip(&mut *archive, bytes)?;
        } else {
            return Err(Error::Format("a part of it is not known, or not in its place"));
        }
        skip(&mut *archive, bytes % 2)?;
    }
    Err(Error::Format("it has no data"))
}

struct Part {
    name: String,
    bytes: u64,
}

/// The next header of `ar`, 60 bytes; `None`: that was all.
fn part(archive: &mut dyn Read) -> Result<Option<Part>> {
    let mut header = Vec::with_capacity(60);
    archive.take(60).read_to_end(&mut header).map_err(reading("a header"))?;
    if header.is_empty() {
        return Ok(None);
    }
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(header.get(range).unwrap_or_default()).ok();
    if header.get(58..) != Some(b"`\n") {
        return Err(Error::Format("a header does not end as one"));
    }
    let bytes = text(48..58).and_then(|digits| digits.trim_end().parse().ok());
    let name = text(0..16).map(|name| name.trim_end().trim_end_matches('/').to_owned());
    match (name, bytes) {
        (Some(name), Some(bytes)) => Ok(Some(Part { name, bytes })),
        _ => Err(Error::Format("a header has no name or no size")),
    }
}

fn skip(archive: &mut dyn Read, bytes: u64) -> Result<()> {
    io::copy(&mut archive.take(bytes), &mut io::sink()).map(drop).map_err(reading("its parts"))
}

/// `form`: the ending of the part's name.
fn unpacked(form: &str, packed: impl Read + 'static) -> Result<Box<dyn Read>> {
    Ok(match form {
        "" => Box::new(packed),
        ".gz" => Box::new(flate2::read::GzDecoder::new(packed)),
        ".xz" => {
            let decoder =
                xz4rust::XzDecoder::in_heap_with_alloc_dict_size(xz4rust::DICT_SIZE_PROFILE_0, DICTIONARY_BYTES_MAX);
            let buffer = std::num::NonZeroUsize::new(64 << 10).unwrap_or(std::num::NonZeroUsize::MIN);
            Box::new(xz4rust::XzReader::new_with_buffer_size_and_decoder(packed, buffer, decoder))
        }
        ".zst" => {
            let mut decoder = zstd::stream::read::Decoder::new(packed).map_err(reading("its compression"))?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(reading("its compression"))?;
            Box::new(decoder)
        }
        _ => return Err(Error::Format("its compression is not known")),
    })
}

/// Which package it is, by its own word.
fn control(data: impl Read, found: &mut Contents) -> Result<()> {
    let name = HostPath::from("/control");
    let mut text = Vec::new();
    each(data, |path, entry, _| {
        if *path != name || entry.header().entry_type() != tar::EntryType::Regular {
            return Ok(true);
        }
        entry.take(CONTROL_FILE_BYTES_MAX).read_to_end(&mut text).map_err(reading("its description"))?;
        Ok(false)
    })?;
    let fields = paragraphs(&text).next().unwrap_or_default();
    let word = |name| String::from_utf8_lossy(value(&fields, name)).into_owned();
    (found.package, found.version, found.architecture) = (word("Package"), word("Version"), word("Architecture"));
    Ok(())
}

fn members(data: impl Read, wanted: &BTreeSet<HostPath>) -> Result<(BTreeMap<HostPath, Member>, BTreeSet<HostPath>)> {
    let mut found: BTreeMap<HostPath, Member> = BTreeMap::new();
    let mut room = WANTED_BYTES_MAX;
    each(data, |path, entry, link| {
        if !wanted.contains(path) {
            return Ok(true);
        }
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::Link => FileKind::Regular,
            tar::EntryType::Directory => FileKind::Directory,
            tar::EntryType::Symlink => FileKind::Symlink,
            _ => return Err(Error::Limit("a member is no file, no link and no directory")),
        };
        let number = |read: io::Result<u64>| read.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX);
        let name = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let mut member = Member {
            kind,
            mode: u16::try_from(header.mode().unwrap_or(0) & 0o7777).unwrap_or(0),
            uid: number(header.uid()),
            gid: number(header.gid()),
            user: name(header.username_bytes()),
            group: name(header.groupname_bytes()),
            mtime: header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
            content: Vec::new(),
            target: None,
            link: None,
        };
        match header.entry_type() {
            tar::EntryType::Symlink => member.target = link.map(|target| HostPath::new(&target)),
            tar::EntryType::Link => member.link = link.map(|target| absolute(&target)),
            tar::EntryType::Directory => {}
            _ => {
                let bytes = header.entry_size().unwrap_or(u64::MAX);
                room = room.checked_sub(bytes).ok_or(Error::Limit("what is asked for is too large"))?;
                entry.read_to_end(&mut member.content).map_err(reading("a member"))?;
                if member.content.len() as u64 != bytes {
                    return Err(Error::Format("a member ends early"));
                }
            }
        }
        found.insert(path.clone(), member);
        Ok(true)
    })?;
    // Other names of one file: the content is with the first of them.
    let mut elsewhere = BTreeSet::new();
    let names: Vec<(HostPath, HostPath)> =
        found.iter().filter_map(|(path, member)| Some((path.clone(), member.link.clone()?))).collect();
    for (path, first) in names {
        match found.get(&first).filter(|member| member.link.is_none()).cloned() {
            Some(member) => drop(found.insert(path, member)),
            None => {
                found.remove(&path);
                elsewhere.insert(first);
            }
        }
    }
    Ok((found, elsewhere))
}

/// `./usr/bin/x`, `/usr/bin/x/` and `usr/bin/x` are one name.
fn absolute(name: &[u8]) -> HostPath {
    let name = name.strip_prefix(b".").unwrap_or(name);
    let name = name.strip_prefix(b"/").unwrap_or(name);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    HostPath::new(&[b"/", name].concat())
}

type Visit<'v, R> = dyn FnMut(&HostPath, &mut tar::Entry<'_, R>, Option<Vec<u8>>) -> Result<bool> + 'v;

/// Every entry with its name and, of a link, where it leads; until `visit` says false. The extended headers are read here:
/// the library would bring them into memory whatever their size. Those of pax are not known to dpkg either.
fn each<R: Read>(
    data: R,
    mut visit: impl FnMut(&HostPath, &mut tar::Entry<'_, R>, Option<Vec<u8>>) -> Result<bool>,
) -> Result<()> {
    let visit: &mut Visit<'_, R> = &mut visit;
    let mut archive = tar::Archive::new(data);
    let (mut long_name, mut long_link) = (None, None);
    let entries = archive.entries().map_err(reading("its entries"))?.raw(true);
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(reading("an entry"))?;
        if count >= ENTRIES_MAX {
            return Err(Error::Limit("it has too many entries"));
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            let mut name = Vec::new();
            (&mut entry).take(NAME_BYTES_MAX + 1).read_to_end(&mut name).map_err(reading("a long name"))?;
            if name.len() as u64 > NAME_BYTES_MAX {
                return Err(Error::Limit("a name is too long"));
            }
            name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
            *(if kind.is_gnu_longname() { &mut long_name } else { &mut long_link }) = Some(name);
            continue;
        }
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            return Err(Error::Limit("its headers are of pax(1)"));
        }
        let name = long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let link = long_link.take().or_else(|| entry.header().link_name_bytes().map(std::borrow::Cow::into_owned));
        if !visit(&absolute(&name), &mut entry, link)? {
            break;
        }
    }
    Ok(())
}

/// Hostile archives: refused or read within the limits, whatever they say of themselves.
pub(crate) fn fuzz(bytes: &[u8]) {
    let wanted = BTreeSet::from([HostPath::from("/usr/bin/a"), HostPath::from("/usr/bin/b")]);
    if let Ok(found) = read(io::Cursor::new(bytes.to_vec()), &wanted) {
        assert!(found.members.keys().all(|path| wanted.contains(path)), "only what was asked for");
        assert!(found.members.values().map(|member| member.content.len() as u64).sum::<u64>() <= 2 * WANTED_BYTES_MAX);
    }
    let _ = members(io::Cursor::new(bytes.to_vec()), &wanted);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let data = tarred(&[
        ("./usr/bin/a", tar::EntryType::Regular, b"#!/bin/sh\n", ""),
        ("./usr/bin/b", tar::EntryType::Link, b"", "./usr/bin/a"),
    ]);
    let plain = archived(b"Package: a\nVersion: 1\nArchitecture: all\n", "data.tar", &data);
    let packed = zstd::stream::encode_all(data.as_slice(), 1).unwrap_or_default();
    vec![plain, archived(b"Package: a\n", "data.tar.zst", &packed), data]
}

/// An archive of one package, for tests.
pub(super) fn archived(control: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    let control = tarred(&[("./control", tar::EntryType::Regular, control, "")]);
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), (name, data)] {
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
        bytes.extend(content);
        bytes.extend(vec![b'\n'; content.len() % 2]);
    }
    bytes
}

/// Name, kind, content, and where a link leads.
pub(super) fn tarred(entries: &[(&str, tar::EntryType, &[u8], &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, target) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        let written = match kind {
            tar::EntryType::Symlink | tar::EntryType::Link => builder.append_link(&mut header, name, target),
            _ => builder.append_data(&mut header, name, *content),
        };
        debug_assert!(written.is_ok(), "into memory");
    }
    builder.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tar::EntryType::{Directory, Link, Regular, Symlink};

    fn wanted(paths: &[&str]) -> BTreeSet<HostPath> {
        paths.iter().map(|path| HostPath::from(*path)).collect()
    }

    const CONTROL: &[u8] = b"Package: a\nVersion: 1:2-3\nArchitecture: amd64\nDescription: x\n y: z\n";

    fn packed(form: &str, data: &[u8]) -> Vec<u8> {
        use std::io::Write;
        match form {
            ".zst" => zstd::stream::encode_all(data, 3).unwrap(),
            ".gz" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            _ => data.to_owned(),
        }
    }

    #[test]
    fn an_archive_gives_what_was_asked_for_with_its_attributes() {
        let long = format!("./usr/lib/{}/x", "y".repeat(180));
        let data = tarred(&[
            ("./usr/bin/", Directory, b"", ""),
            ("./usr/bin/a", Regular, b"content", ""),
            ("./usr/bin/b", Link, b"", "./usr/bin/a"),
            ("./usr/bin/c", Symlink, b"", "../lib/c"),
            (&long, Regular, b"far", ""),
        ]);
        for form in ["", ".gz", ".zst"] {
            let archive = archived(CONTROL, &format!("data.tar{form}"), &packed(form, &data));
            let all = wanted(&["/usr/bin", "/usr/bin/a", "/usr/bin/b", "/usr/bin/c", &long[1..], "/usr/bin/none"]);
            let found = read(io::Cursor::new(archive), &all).unwrap();
            assert_eq!(
                (found.package.as_str(), found.version.as_str(), found.architecture.as_str()),
                ("a", "1:2-3", "amd64")
            );
            let member = |path: &str| found.members.get(&HostPath::from(path));
            assert_eq!(found.members.len(), 5, "{form}");
            assert_eq!(member("/usr/bin").unwrap().kind, FileKind::Directory);
            assert_eq!(
                (member("/usr/bin/a").unwrap().mode, member("/usr/bin/a").unwrap().mtime),
                (0o755, 1_700_000_000)
            );
            assert_eq!(member("/usr/bin/b").unwrap().content, b"content");
            assert_eq!(member("/usr/bin/c").unwrap().target, Some("../lib/c".into()));
            assert_eq!(member(&long[1..]).unwrap().content, b"far");
        }
    }

    /// The archives of this machine, made by dpkg-deb with xz: what dpkg-deb reads of them is what we read.
    #[test]
    fn what_dpkg_makes_is_read_as_dpkg_reads_it() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        std::fs::create_dir_all(tree.join("usr/bin")).unwrap();
        let text: Vec<u8> =
            (0..300_000u32).flat_map(|at| (at.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect();
        std::fs::write(tree.join("usr/bin/a"), &text).unwrap();
        let control = "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n";
        std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
        for form in ["xz", "gzip", "none", "zstd"] {
            let archive = place.path().join(format!("{form}.deb"));
            let mut command = std::process::Command::new("dpkg-deb");
            command.args(["--root-owner-group", &format!("-Z{form}"), "-b"]).arg(&tree).arg(&archive);
            let Ok(made) = command.output() else { return }; // no dpkg on this machine
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let found = read(std::fs::File::open(&archive).unwrap(), &wanted(&["/usr/bin/a"])).unwrap();
            assert!(found.members[&HostPath::from("/usr/bin/a")].content == text, "{form}");
            assert_eq!(
                (found.package.as_str(), found.members[&HostPath::from("/usr/bin/a")].user.as_str()),
                ("a", "root")
            );
        }
    }

    #[test]
    fn what_is_no_archive_or_asks_for_too_much_is_refused_with_a_reason() {
        let refused = |bytes: Vec<u8>| read(io::Cursor::new(bytes), &wanted(&["/usr/bin/a"])).unwrap_err().to_string();
        let good = archived(CONTROL, "data.tar", &tarred(&[("./usr/bin/a", Regular, b"content", "")]));
        assert!(refused(b"!<arch>\n".to_vec()).contains("no data"));
        assert!(refused(b"PK\x03\x04....".to_vec()).contains("does not begin"));
        assert!(refused(good[..good.len() - 1600].to_vec()).contains("cannot read"), "cut off");
        assert!(refused(archived(CONTROL, "data.tar.lz9", b"x")).contains("compression"));
        // A member that says it is larger than anything.
        let mut header = tar::Header::new_gnu();
        header.set_path("usr/bin/a").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(refused(archived(CONTROL, "data.tar", header.as_bytes())).contains("too large"));
        // A name that would fill the memory.
        let mut long = tar::Header::new_gnu();
        long.set_entry_type(tar::EntryType::GNULongName);
        long.set_size(1 << 20);
        long.set_cksum();
        let long = [&long.as_bytes()[..], &vec![b'x'; 1 << 20]].concat();
        assert!(refused(archived(CONTROL, "data.tar", &long)).contains("name is too long"));
    }
}
