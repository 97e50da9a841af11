// SPDX-License-Identifier: Apache-2.0
//! What a twin's disk holds, as far as exactness goes: type and mode, owner, group, content or link target, extended
//! attributes (with ACL and capabilities), link count. Not times, not inodes.

use crate::{Doing, Result, interrupt};
use rustix::fs::{AtFlags, CWD};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use thymus_engine::path::HostPath;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File type and permission bits, as `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Directories count their children here; 0 for them.
    pub links: u64,
    /// Device number of a device node, else 0.
    pub device: u64,
    /// Hash of a regular file's content, a symbolic link's target, else nothing.
    pub content: Vec<u8>,
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub type Snapshot = BTreeMap<HostPath, Entry>;

/// Contents of one disk, by which those of its copies need not be read again: a file with the inode, the size and the time
/// of change (ctime, which nobody sets) that it had there has the content that it had there.
#[derive(Debug, Default)]
pub struct Known(HashMap<u64, (u64, i64, i64, Vec<u8>)>);

impl Known {
    /// Of everything below `root`.
    pub fn of(root: &Path) -> Result<Self> {
        let mut known = Self::default();
        walk(root, &|_| false, None, &mut |_, metadata, entry| {
            if metadata.is_file() {
                let stamp = (metadata.len(), metadata.ctime(), metadata.ctime_nsec(), entry.content);
                known.0.insert(metadata.ino(), stamp);
            }
        })?;
        Ok(known)
    }

    fn content(&self, metadata: &std::fs::Metadata) -> Option<&Vec<u8>> {
        let (size, seconds, nanoseconds, content) = self.0.get(&metadata.ino())?;
        let same = (*size, *seconds, *nanoseconds) == (metadata.len(), metadata.ctime(), metadata.ctime_nsec());
        same.then_some(content)
    }
}

/// Reads everything below `root`, on its own file system. `skip` names paths (with all below) that are nobody's business.
pub fn take(root: &Path, skip: &dyn Fn(&HostPath) -> bool) -> Result<Snapshot> {
    let mut found = Snapshot::new();
    walk(root, skip, None, &mut |name, _, entry| drop(found.insert(name, entry)))?;
    Ok(found)
}

/// The same of a copy of a disk whose contents are known.
pub fn take_knowing(root: &Path, skip: &dyn Fn(&HostPath) -> bool, known: &Known) -> Result<Snapshot> {
    let mut found = Snapshot::new();
    walk(root, skip, Some(known), &mut |name, _, entry| drop(found.insert(name, entry)))?;
    Ok(found)
}

fn walk(
    root: &Path,
    skip: &dyn Fn(&HostPath) -> bool,
    known: Option<&Known>,
    each: &mut dyn FnMut(HostPath, &std::fs::Metadata, Entry),
) -> Result<()> {
    let device = std::fs::symlink_metadata(root).doing("look at", root)?.dev();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        interrupt::check()?;
        for entry in std::fs::read_dir(&directory).doing("list", &directory)? {
            let entry = entry.doing("list", &directory)?;
            let path = entry.path();
            let below = path.strip_prefix(root).unwrap_or(&path);
            let name = HostPath::new(&[b"/", below.as_os_str().as_bytes()].concat());
            let metadata = std::fs::symlink_metadata(&path).doing("look at", &path)?;
            if skip(&name) || metadata.dev() != device {
                continue;
            }
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            let entry = look(&path, &metadata, known)?;
            each(name, &metadata, entry);
        }
    }
    Ok(())
}

fn look(path: &Path, metadata: &std::fs::Metadata, known: Option<&Known>) -> Result<Entry> {
    let content = if let Some(content) = known.and_then(|known| known.content(metadata)).filter(|_| metadata.is_file())
    {
        content.clone()
    } else if metadata.is_file() {
        let mut hasher = blake3::Hasher::new();
        let mut file = std::fs::File::open(path).doing("open", path)?;
        std::io::copy(&mut file, &mut hasher).doing("read", path)?;
        hasher.finalize().as_bytes().to_vec()
    } else if metadata.is_symlink() {
        let target = rustix::fs::readlinkat(CWD, path, Vec::new()).doing("read the link", path)?;
        target.into_bytes()
    } else {
        Vec::new()
    };
    Ok(Entry {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        links: if metadata.is_dir() { 0 } else { metadata.nlink() },
        device: metadata.rdev(),
        content,
        attributes: attributes(path)?,
    })
}

/// LIMIT: bytes of names, and of one value, of a file's extended attributes (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTE_BYTES_MAX: usize = 65_536;

fn attributes(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let length = rustix::fs::llistxattr(path, &mut [0u8; 0]).doing("list the attributes of", path)?;
    if length == 0 {
        return Ok(found);
    }
    let mut names = vec![0u8; ATTRIBUTE_BYTES_MAX];
    let length = rustix::fs::llistxattr(path, &mut names[..]).doing("list the attributes of", path)?;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; ATTRIBUTE_BYTES_MAX];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).doing("read the attributes of", path)?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// The same content, whatever the stat cache of a git index says: its entries' modes, objects and names.
/// `None` when `bytes` are no index of version 2 or 3.
#[must_use]
pub fn git_index(bytes: &[u8]) -> Option<Vec<u8>> {
    let rest = bytes.strip_prefix(b"DIRC")?;
    let count = u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?);
    let mut at = 12;
    let mut essence = Vec::new();
    for _ in 0..count {
        let entry = bytes.get(at..)?;
        essence.extend_from_slice(entry.get(24..28)?);
        essence.extend_from_slice(entry.get(40..60)?);
        let name = entry.get(62..)?;
        let length = name.iter().position(|byte| *byte == 0)?;
        essence.extend_from_slice(name.get(..=length)?);
        at += (62 + length + 8) / 8 * 8;
    }
    Some(essence)
}

/// Whether the path exists at all, without following it.
#[must_use]
pub fn exists(root: &Path, path: &HostPath) -> bool {
    let below = path.as_bytes().strip_prefix(b"/").unwrap_or(path.as_bytes());
    rustix::fs::statat(CWD, root.join(std::ffi::OsStr::from_bytes(below)), AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// A regular file's bytes; `None` when there is no such file.
#[must_use]
pub fn read(root: &Path, path: &HostPath) -> Option<Vec<u8>> {
    let below = path.as_bytes().strip_prefix(b"/").unwrap_or(path.as_bytes());
    let path = root.join(std::ffi::OsStr::from_bytes(below));
    let metadata = std::fs::symlink_metadata(&path).ok()?;
    if metadata.is_file() { std::fs::read(&path).ok() } else { None }
}
