// SPDX-License-Identifier: Apache-2.0
//! One name for each file, whatever mount or namespace it was reached through: device and path inside the file system
//! become the path below the guarded root. A bind mount or a service's private /tmp is another way to the same name.

use super::Error;
use crate::scope::Scope;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use thymus_engine::HostPath;

/// LIMIT: file systems watched for names at the same time.
pub(super) const WATCHED_MAX: usize = 16;

/// File systems whose regular files are data.
const DATA_TYPES: [&[u8]; 8] = [b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"tmpfs", b"f2fs", b"vfat"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `major << 20 | minor`.
    pub(super) device: u64,
    /// What of the file system is mounted; `/` for all of it.
    pub(super) within: Vec<u8>,
    /// Where, below the guarded root; empty for the root itself.
    pub(super) point: Vec<u8>,
    pub(super) tmpfs: bool,
    /// Its files are data, not switches of the kernel.
    pub(super) data: bool,
}

/// The mounts of the guarded host, the guarded root first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    mounts: Vec<Mount>,
    leader: Option<u32>,
}

impl Mounts {
    /// `leader` is the one of the last time: it is looked for again only when it is gone.
    pub(super) fn read(scope: &Scope, leader: Option<u32>) -> Result<Self, Error> {
        let own = table("/proc/self/mountinfo")?;
        let root = scope.root_path().canonicalize().unwrap_or_else(|_| scope.root_path().to_owned());
        let root = trimmed(root.as_os_str().as_bytes());
        // Of mounts one above the other, the last one is seen.
        let holder = own.iter().filter(|mount| below(root, trimmed(&mount.point)).is_some());
        let holder = holder.enumerate().max_by_key(|(index, mount)| (mount.point.len(), *index));
        let mut mounts = Vec::new();
        if let Some((_, holder)) = holder {
            let rest = below(root, trimmed(&holder.point)).unwrap_or_default();
            let within = [trimmed(&holder.within), rest].concat();
            mounts.push(Mount { within, point: Vec::new(), ..holder.clone() });
        }
        let leader = leader.filter(|pid| leads(*pid)).or_else(|| scope.leader());
        let others = match leader {
            Some(pid) => table(&format!("/proc/{pid}/mountinfo")).unwrap_or_default(),
            None => own
                .into_iter()
                .filter_map(|mount| Some(Mount { point: below(&mount.point, root)?.to_vec(), ..mount }))
                .collect(),
        };
        // The guarded root comes first and under its own name, whatever else it is mounted on.
        mounts.extend(others.into_iter().filter(|mount| mount.point.len() > 1));
        Ok(Self { mounts, leader })
    }

    pub(super) fn leader(&self) -> Option<u32> {
        self.leader
    }

    /// The path below the guarded root of `path` inside the file system on `device`. `None`: not mounted there.
    pub(super) fn name(&self, device: u64, path: &[u8]) -> Option<HostPath> {
        let fits = |mount: &&Mount| mount.device == device && below(path, trimmed(&mount.within)).is_some();
        let root = self.mounts.first().filter(fits);
        let mount = root.or_else(|| self.mounts.iter().filter(fits).min_by_key(|mount| mount.within.len()))?;
        let rest = below(path, trimmed(&mount.within))?;
        let name = [trimmed(&mount.point), rest].concat();
        Some(match trimmed(&name) {
            b"" => HostPath::from("/"),
            name => HostPath::new(name),
        })
    }

    /// The file systems that hold data, each once, by its widest mount; the guarded root first.
    pub(super) fn watched(&self) -> Vec<&Mount> {
        let mut found: Vec<&Mount> = Vec::new();
        for mount in &self.mounts {
            match found.iter().position(|other| other.device == mount.device) {
                None if mount.data && found.len() < WATCHED_MAX => found.push(mount),
                Some(at) if at > 0 && mount.within.len() < found[at].within.len() => found[at] = mount,
                None | Some(_) => {}
            }
        }
        found
    }

    /// Opens where `mount` is mounted, as the guarded host sees it, and checks that it is that file system.
    pub(super) fn open(&self, scope: &Scope, mount: &Mount) -> Result<OwnedFd, Error> {
        let failed = |source: rustix::io::Errno| Error::Kernel { what: "open a mount point", source: source.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let point: &[u8] = if mount.point.is_empty() { b"." } else { &mount.point };
        let fd = match self.leader.filter(|_| !mount.point.is_empty()) {
            None => rustix::fs::openat2(scope.root(), point, flags, Mode::empty(), ResolveFlags::IN_ROOT),
            Some(pid) => {
                let root = format!("/proc/{pid}/root");
                let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(root, place, Mode::empty())
                    .and_then(|root| rustix::fs::openat2(&root, point, flags, Mode::empty(), ResolveFlags::IN_ROOT))
            }
        }
        .map_err(failed)?;
        let found = rustix::fs::fstat(&fd).map_err(failed)?;
        // btrfs shows another device number to stat(2) than it has.
        if kernel_device(found.st_dev) != mount.device && mount.tmpfs {
            return Err(failed(rustix::io::Errno::XDEV));
        }
        Ok(fd)
    }
}

/// `stat.st_dev` as the kernel keeps it.
pub(super) fn kernel_device(device: u64) -> u64 {
    u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device))
}

/// What an open descriptor is called now.
pub(super) fn readlink(fd: impl AsFd) -> Option<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Some(rustix::fs::readlink(link, Vec::new()).ok()?.into_bytes())
}

/// Still the first process of a pid namespace.
fn leads(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().skip(1).last() == Some("1")
}

fn trimmed(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// What is left of `path` when it lies within `tree` (which has no slash at its end).
pub(super) fn below<'a>(path: &'a [u8], tree: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(tree).filter(|rest| rest.is_empty() || rest[0] == b'/')
}

fn table(path: &str) -> Result<Vec<Mount>, Error> {
    let text = std::fs::read(path).map_err(|source| Error::Read { path: Path::new(path).to_owned(), source })?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(line).collect())
}

/// One line of proc_pid_mountinfo(5).
fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?;
    let (within, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { device, within, point, tmpfs: kind == b"tmpfs", data: DATA_TYPES.contains(&kind) })
}

/// What a mount is called, from any bytes; a name below the root is a path.
pub(super) fn fuzz(bytes: &[u8]) {
    let mounts: Vec<Mount> = bytes.split(|byte| *byte == b'\n').filter_map(line).collect();
    let mounts = Mounts { mounts, leader: None };
    assert!(mounts.watched().len() <= WATCHED_MAX);
    for mount in &mounts.mounts {
        let _ = mounts.name(mount.device, &[&mount.within, &b"/x"[..]].concat());
    }
}

/// Undoes the kernel's `\ooo` escapes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_mount_line_is_read_with_its_escapes() {
        let mount = line(b"36 35 7:9 /sub\\040dir /mnt/a\\134b rw,noatime shared:1 - ext4 /dev/loop9 rw").unwrap();
        assert_eq!(mount.device, 7 << 20 | 9);
        assert_eq!(mount.within, b"/sub dir");
        assert_eq!(mount.point, b"/mnt/a\\b");
        assert!(mount.data && !mount.tmpfs);
    }

    #[test]
    fn one_file_has_one_name_through_any_mount() {
        let mount = |device, within: &str, point: &str| Mount {
            device,
            within: within.into(),
            point: point.into(),
            tmpfs: false,
            data: true,
        };
        let mounts = Mounts {
            mounts: vec![
                mount(1, "/", ""),
                mount(2, "/", "/run"),
                mount(2, "/lock", "/var/lock"),
                mount(1, "/etc", "/x"),
            ],
            leader: None,
        };
        let name = |device, path: &str| mounts.name(device, path.as_bytes()).map(|path| path.to_string());
        assert_eq!(name(1, "/etc/passwd").as_deref(), Some("/etc/passwd"));
        assert_eq!(name(2, "/lock/a").as_deref(), Some("/run/lock/a"));
        assert_eq!(name(1, "/").as_deref(), Some("/"));
        assert_eq!(name(2, "/").as_deref(), Some("/run"));
        assert_eq!(name(3, "/a"), None);
    }
}
