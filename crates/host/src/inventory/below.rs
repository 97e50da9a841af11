// SPDX-License-Identifier: Apache-2.0
//! Reading below the scope's root: links are followed within it and never out of it.

use super::{Error, Result};
use crate::scope::Scope;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::time::Instant;
use thymus_engine::HostPath;

/// LIMIT: entries of one directory.
const ENTRIES_MAX: usize = 8_192;
/// LIMIT: bytes of a file that is only digested or parsed.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Below<'a> {
    root: BorrowedFd<'a>,
    deadline: Instant,
}

impl<'a> Below<'a> {
    pub(crate) fn new(scope: &'a Scope, deadline: Instant) -> Self {
        Self { root: scope.root().as_fd(), deadline }
    }

    pub(super) fn in_time(&self) -> Result<()> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(Error::Deadline) }
    }

    /// `None`: there is nothing of that name.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<Option<OwnedFd>> {
        self.in_time()?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // openat2(2) takes nothing else together with `O_PATH`.
        let waits_for_nobody = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = if flags.contains(OFlags::PATH) { flags } else { flags | waits_for_nobody } | OFlags::CLOEXEC;
        match rustix::fs::openat2(self.root, path, flags, Mode::empty(), resolve) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(failed(path)(errno)),
        }
    }

    /// The whole of a regular file; `None`: there is none.
    pub(crate) fn read(&self, path: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let Some(node) = self.open(path, OFlags::PATH)? else { return Ok(None) };
        let kind = rustix::fs::fstat(&node).map(|stat| FileType::from_raw_mode(stat.st_mode)).map_err(failed(path))?;
        if kind != FileType::RegularFile {
            return Err(Error::Kind { path: HostPath::new(path).to_string() });
        }
        let Some(file) = self.open(path, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = File::from(file).take(bytes_max + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::File { path: HostPath::new(path).to_string(), source })?;
        if bytes.len() as u64 > bytes_max {
            return Err(Error::Large { path: HostPath::new(path).to_string(), bytes: bytes_max });
        }
        Ok(Some(bytes))
    }

    /// Size, inode and times: what differs when a file was written or replaced. `None`: there is none.
    pub(crate) fn mark(&self, path: &[u8]) -> Result<Option<[i128; 4]>> {
        let Some(node) = self.open(path, OFlags::PATH)? else { return Ok(None) };
        Ok(Some(mark(&rustix::fs::fstat(&node).map_err(failed(path))?)))
    }

    /// The last bytes of a regular file; `None`: there is none.
    pub(crate) fn tail(&self, path: &[u8], bytes: u64) -> Result<Option<Vec<u8>>> {
        use std::io::{Seek, SeekFrom};
        let Some(file) = self.open(path, OFlags::RDONLY)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file).map_err(failed(path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Kind { path: HostPath::new(path).to_string() });
        }
        let from = u64::try_from(stat.st_size).unwrap_or(0).saturating_sub(bytes);
        let (mut file, mut tail) = (File::from(file), Vec::new());
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.take(bytes).read_to_end(&mut tail));
        read.map_err(|source| Error::File { path: HostPath::new(path).to_string(), source })?;
        Ok(Some(tail))
    }

    /// Names in a directory with their kinds, sorted; none when there is no directory.
    pub(crate) fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, FileType)>> {
        let Some(directory) = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed(path))? {
            let entry = entry.map_err(failed(path))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() >= ENTRIES_MAX {
                return Err(Error::Large { path: HostPath::new(path).to_string(), bytes: ENTRIES_MAX as u64 });
            }
            names.push((name.to_vec(), entry.file_type()));
        }
        names.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(names)
    }

    /// Where a symbolic link points; `None`: there is none.
    pub(crate) fn link(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(link) = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)? else { return Ok(None) };
        match rustix::fs::readlinkat(&link, "", Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(path)(errno)),
        }
    }

    /// A regular file that the owner of the root directory alone may write, in a directory of which the same is true.
    pub(crate) fn trusted(&self, directory: &[u8], name: &[u8]) -> Result<Option<File>> {
        let owner = rustix::fs::fstat(self.root).map_err(failed(b"/"))?.st_uid;
        let Some(held) = self.open(directory, OFlags::PATH | OFlags::DIRECTORY)? else { return Ok(None) };
        let path = join(directory, name);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat2(&held, name, flags, Mode::empty(), resolve) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed(&path)(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed(&path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Kind { path: HostPath::new(&path).to_string() });
        }
        let held = rustix::fs::fstat(&held).map_err(failed(directory))?;
        let only_owner = |stat: &rustix::fs::Stat| stat.st_uid == owner && stat.st_mode & 0o022 == 0;
        if !only_owner(&stat) || !only_owner(&held) {
            return Err(Error::Missing("an archive of a package that others than root may write is not used"));
        }
        Ok(Some(File::from(file)))
    }
}

/// Size, inode and times.
pub(crate) fn mark(stat: &rustix::fs::Stat) -> [i128; 4] {
    [
        i128::from(stat.st_size),
        i128::from(stat.st_ino),
        i128::from(stat.st_mtime) << 32 | i128::from(stat.st_mtime_nsec),
        i128::from(stat.st_ctime) << 32 | i128::from(stat.st_ctime_nsec),
    ]
}

fn failed(path: &[u8]) -> impl Fn(Errno) -> Error {
    move |errno| Error::File { path: HostPath::new(path).to_string(), source: errno.into() }
}

pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}
