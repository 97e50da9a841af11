// SPDX-License-Identifier: Apache-2.0
//! Reading the state of one object, beneath the guarded root, following nothing.
//!
//! An object is opened once, by `openat2` as a path only; what it is is asked of that descriptor, and a regular file is
//! then opened for reading through it: no name is looked up twice, and no device, pipe or socket is ever opened.

use super::shape::{Samples, Sampling};
use super::{Digest, Error, Kind, State};
use crate::sense::wire;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{self, Read};
use thymus_engine::id::FileKey;
use thymus_engine::path::HostPath;

/// A file that changes while it is read is read again this often, then taken as not exact.
const ATTEMPTS: usize = 3;

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    pub(super) state: State,
    /// It did not change while it was read.
    pub(super) stable: bool,
    /// It only grew while it was read, which is no change to what was read of a log.
    pub(super) grew: bool,
    /// Of a regular file's content.
    pub(super) samples: Samples,
}

impl Captured {
    /// What was read is the state of one instant; of a `log` also when lines came after it.
    pub(super) fn is_exact(&self, log: bool) -> bool {
        self.stable || (log && self.grew)
    }
}

#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing is there.
    Absent,
    /// It is there and cannot be captured; in words.
    Refused(String),
    /// The store did not take it.
    Store(Error),
}

/// Stores content: gives digest and length, or `None` when it is longer than the limit.
pub(super) type Keep<'a> = &'a mut dyn FnMut(&mut dyn Read) -> Result<Option<(Digest, u64)>, Error>;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

fn relative(path: &[u8]) -> &[u8] {
    let cut = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    if path[cut..].is_empty() { b"." } else { &path[cut..] }
}

/// The object itself, be it a symbolic link, as a path-only descriptor. Causes no permission event.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retried(|| rustix::fs::openat2(root, relative(path), flags, Mode::empty(), BENEATH)).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Failure::Absent,
        Errno::LOOP => Failure::Refused("a symbolic link stands in its path".into()),
        Errno::XDEV => Failure::Refused("on another file system".into()),
        errno => Failure::Refused(format!("cannot be opened: {errno}")),
    })
}

/// The same on whatever file system it lies, for its metadata only; `None` when it cannot be reached.
pub(super) fn open_anywhere(root: BorrowedFd<'_>, path: &[u8]) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = BENEATH.difference(ResolveFlags::NO_XDEV);
    retried(|| rustix::fs::openat2(root, relative(path), flags, Mode::empty(), resolve)).ok()
}

/// `openat2` may ask to be called again when the tree was renamed meanwhile.
fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..8 {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    call()
}

pub(super) fn statx(object: impl AsFd) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(object, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

fn nanoseconds(time: rustix::fs::StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL`, which statx(2) gives as the same bits.
const CHATTR: u32 = 0x30;

/// All but content, link target and attributes.
pub(super) fn metadata(found: &Statx) -> State {
    let file_type = rustix::fs::FileType::from_raw_mode(u32::from(found.stx_mode));
    let kind = match file_type {
        rustix::fs::FileType::RegularFile => Kind::Regular,
        rustix::fs::FileType::Directory => Kind::Directory,
        rustix::fs::FileType::Symlink => Kind::Symlink,
        rustix::fs::FileType::CharacterDevice => Kind::CharacterDevice,
        rustix::fs::FileType::BlockDevice => Kind::BlockDevice,
        rustix::fs::FileType::Fifo => Kind::Fifo,
        rustix::fs::FileType::Socket | rustix::fs::FileType::Unknown => Kind::Socket,
    };
    let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
    State {
        kind,
        mode: found.stx_mode & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        size: if kind == Kind::Regular { found.stx_size } else { 0 },
        digest: None,
        link_target: None,
        rdev: if is_device { rustix::fs::makedev(found.stx_rdev_major, found.stx_rdev_minor) } else { 0 },
        xattrs: BTreeMap::new(),
        nlink: found.stx_nlink,
        mtime_ns: nanoseconds(found.stx_mtime),
        ctime_ns: nanoseconds(found.stx_ctime),
        born_ns: if found.stx_mask & StatxFlags::BTIME.bits() == 0 { 0 } else { nanoseconds(found.stx_btime) },
        flags: u32::try_from(found.stx_attributes.bits()).unwrap_or(0) & CHATTR,
        key: FileKey {
            device: u64::from(found.stx_dev_major) << 20 | u64::from(found.stx_dev_minor),
            inode: found.stx_ino,
            generation: 0,
        },
    }
}

/// Reads what stands at `path`.
pub(super) fn read(root: BorrowedFd<'_>, path: &HostPath, bytes_max: u64, keep: Keep<'_>) -> Result<Captured, Failure> {
    let object = open(root, path.as_bytes())?;
    let found = statx(&object).map_err(refused("asked for its state"))?;
    let mut state = metadata(&found);
    match state.kind {
        Kind::Regular => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOATIME;
            let file = reopen(&object, flags).map_err(refused("opened"))?;
            read_open(file.as_fd(), object.as_fd(), bytes_max, keep)
        }
        Kind::Directory => {
            state.xattrs =
                attributes(&Attributed::Place(object.as_fd())).map_err(refused("asked for its attributes"))?;
            Ok(Captured { state, stable: true, grew: false, samples: Samples::default() })
        }
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(&object, c"", Vec::new()).map_err(refused("read as a link"))?;
            state.link_target = Some(target.into_bytes());
            state.xattrs = closed_attributes(root, path).map_err(refused("asked for its attributes"))?;
            Ok(Captured { state, stable: true, grew: false, samples: Samples::default() })
        }
        Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket => {
            state.xattrs = closed_attributes(root, path).map_err(refused("asked for its attributes"))?;
            Ok(Captured { state, stable: true, grew: false, samples: Samples::default() })
        }
        Kind::Absent => Err(Failure::Absent),
    }
}

fn refused(what: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| match errno {
        Errno::NOENT | Errno::STALE => Failure::Absent,
        errno => Failure::Refused(format!("cannot be {what}: {errno}")),
    }
}

/// A usable descriptor for exactly the object that a path-only one names.
pub(super) fn reopen(object: impl AsFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let name = format!("/proc/self/fd/{}", object.as_fd().as_raw_fd());
    match rustix::fs::open(&name, flags, Mode::empty()) {
        // Only its owner may leave the access time alone; elsewhere root's capability does.
        Err(Errno::PERM) => rustix::fs::open(&name, flags - OFlags::NOATIME, Mode::empty()),
        other => other,
    }
}

/// The same inode by way of the guarded root's own mount, as a place only. A file that was opened in the scope may come
/// by a mount that shows other owners (idmapped, as containers are): what is recorded must be what is on disk.
/// `mount` is a real descriptor of the root, not a place.
pub(super) fn by_way_of(mount: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let reached = wire::handle_of(file).and_then(|handle| wire::open_handle(mount, &handle));
    reached.map_err(|error| Failure::Refused(format!("cannot be reached below the guarded root: {error}")))
}

/// Reads an open regular file, from its start, without moving its position; its state as `seen` shows it, which is the
/// same inode.
pub(super) fn read_open(
    file: BorrowedFd<'_>,
    seen: BorrowedFd<'_>,
    bytes_max: u64,
    keep: Keep<'_>,
) -> Result<Captured, Failure> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let before = metadata(&statx(seen).map_err(refused("asked for its state"))?);
        let too_large = || Failure::Refused(format!("larger than {bytes_max} bytes"));
        if before.size > bytes_max {
            return Err(too_large());
        }
        let mut source = Sampling::new(FromStart { file, offset: 0 }, before.size);
        let (digest, size) = keep(&mut source).map_err(Failure::Store)?.ok_or_else(too_large)?;
        let xattrs = attributes(&Attributed::Place(seen)).map_err(refused("asked for its attributes"))?;
        let after = metadata(&statx(seen).map_err(refused("asked for its state"))?);
        let stable = size == after.size && (before.ctime_ns, before.size) == (after.ctime_ns, after.size);
        let grew = before.size <= size && size <= after.size;
        if stable || attempt == ATTEMPTS {
            let state = State { size, digest: Some(digest), xattrs, ..after };
            return Ok(Captured { state, stable, grew, samples: source.samples });
        }
    }
}

struct FromStart<'a> {
    file: BorrowedFd<'a>,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = rustix::io::pread(self.file, buffer, self.offset)?;
        self.offset += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}

/// How attributes can be asked for: of a descriptor, which may be a place only, or of the last component of a name below one.
enum Attributed<'a> {
    Place(BorrowedFd<'a>),
    Named(Vec<u8>),
}

/// The kernel's limits: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// A name that leads to exactly what a descriptor holds.
fn at(object: &BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

fn attributes(of: &Attributed<'_>) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let list = |buffer: &mut [u8]| match of {
        Attributed::Place(object) => rustix::fs::listxattr(at(object), buffer),
        Attributed::Named(name) => rustix::fs::llistxattr(name.as_slice(), buffer),
    };
    let get = |name: &[u8], buffer: &mut [u8]| match of {
        Attributed::Place(object) => rustix::fs::getxattr(at(object), name, buffer),
        Attributed::Named(path) => rustix::fs::lgetxattr(path.as_slice(), name, buffer),
    };
    let mut small = [0; 1024];
    let names = match list(&mut small) {
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0; ATTRIBUTE_BYTES_MAX];
            let length = list(&mut large)?;
            large.truncate(length);
            large
        }
        Err(Errno::OPNOTSUPP) => Vec::new(),
        Err(errno) => return Err(errno),
    };
    let mut found = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let value = match get(name, &mut small) {
            Ok(length) => small[..length].to_vec(),
            Err(Errno::RANGE) => {
                let mut large = vec![0; ATTRIBUTE_BYTES_MAX];
                let length = get(name, &mut large)?;
                large.truncate(length);
                large
            }
            // Removed between the two questions.
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        };
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// Attributes of what cannot be opened: asked by name below its held parent, not following.
fn closed_attributes(root: BorrowedFd<'_>, path: &HostPath) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = retried(|| rustix::fs::openat2(root, relative(path.parent()), flags, Mode::empty(), BENEATH))?;
    let mut name = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    name.extend_from_slice(path.file_name());
    attributes(&Attributed::Named(name))
}
