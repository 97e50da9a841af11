// SPDX-License-Identifier: Apache-2.0
//! The keep: where everything goes that is moved away or about to be overwritten. Content-addressed, readable by root alone,
//! inert (no mode bits, no names). Quarantine, never delete.

use super::{Digest, Error, Result};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thymus_engine::HostPath;

/// LIMIT: bytes in the keep; beyond, nothing can be captured, so nothing is done.
const KEEP_BYTES_MAX: u64 = 8 << 30;

/// Bytes up to which a content is first looked for in the store above.
const LOOKED_FOR_BYTES_MAX: u64 = 1 << 20;

/// A store of contents that keeps what it has for as long as anybody may want to go back.
pub trait Upstream: std::fmt::Debug + Send + Sync {
    fn holds(&self, digest: &Digest) -> bool;
    /// Checked against its digest.
    fn content(&self, digest: &Digest) -> Option<Vec<u8>>;
    /// What it holds is on disk when this returns.
    fn sync(&self) -> io::Result<()>;
}

#[derive(Debug)]
pub(super) struct Keep {
    directory: PathBuf,
    /// Bytes held; what others put there since it was opened is not counted.
    bytes: AtomicU64,
    upstream: Option<Box<dyn Upstream>>,
    /// Something was left to `upstream` that may not be on disk yet.
    leaning: AtomicBool,
}

/// Makes the names of unfinished contents unlike, whatever thread writes them.
static UNFINISHED: AtomicU64 = AtomicU64::new(0);

impl Keep {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let keep = Self {
            directory: directory.to_owned(),
            bytes: AtomicU64::new(0),
            upstream: None,
            leaning: AtomicBool::new(false),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| keep.error("create", directory, source))?;
        keep.bytes.store(keep.size(), Ordering::Relaxed);
        Ok(keep)
    }

    fn error(&self, doing: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Keep { doing, path: path.display().to_string(), source }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }

    pub(super) fn lean_on(&mut self, upstream: Box<dyn Upstream>) {
        self.upstream = Some(upstream);
    }

    /// What was left to the store above is on disk when this returns.
    pub(super) fn settle(&self) -> Result<()> {
        match &self.upstream {
            Some(upstream) if self.leaning.swap(false, Ordering::AcqRel) => upstream.sync().map_err(|source| {
                self.leaning.store(true, Ordering::Release);
                self.error("flush what was left to the vault", &self.directory, source)
            }),
            _ => Ok(()),
        }
    }

    /// Bytes held now.
    fn size(&self) -> u64 {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
    }

    /// On disk when [`Keep::settle`] has returned after it.
    pub(super) fn put(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        let Some(upstream) = &self.upstream else { return self.put_here(content) };
        let mut first = Vec::new();
        content
            .take(LOOKED_FOR_BYTES_MAX + 1)
            .read_to_end(&mut first)
            .map_err(|source| self.error("read what is to be put", &self.directory, source))?;
        let size = first.len() as u64;
        if size <= LOOKED_FOR_BYTES_MAX {
            let digest = Digest::of(&first);
            if upstream.holds(&digest) {
                self.leaning.store(true, Ordering::Release);
                return Ok((digest, size));
            }
        }
        self.put_here(&mut first.as_slice().chain(content))
    }

    fn put_here(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        let held = self.bytes.load(Ordering::Relaxed);
        if held >= KEEP_BYTES_MAX {
            return Err(Error::KeepFull { bytes: held });
        }
        let number = UNFINISHED.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.directory.join(format!("unfinished-{}-{number}", std::process::id()));
        let result = self.write(content, &unfinished, KEEP_BYTES_MAX - held);
        if result.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        result
    }

    fn write(&self, content: &mut dyn Read, unfinished: &Path, room: u64) -> Result<(Digest, u64)> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(unfinished);
        let mut file = file.map_err(|source| self.error("create", unfinished, source))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 16];
        let mut size = 0;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.error("read what is to be put", unfinished, source)),
            };
            size += count as u64;
            if size > room {
                return Err(Error::KeepFull { bytes: KEEP_BYTES_MAX });
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(|source| self.error("write", unfinished, source))?;
        }
        let digest = Digest(*hasher.finalize().as_bytes());
        let path = self.path(&digest);
        if path.exists() {
            let _ = std::fs::remove_file(unfinished);
            return Ok((digest, size));
        }
        file.sync_all().map_err(|source| self.error("sync", unfinished, source))?;
        std::fs::rename(unfinished, &path).map_err(|source| self.error("name", &path, source))?;
        let directory = File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(|source| self.error("sync", &self.directory, source))?;
        self.bytes.fetch_add(size, Ordering::Relaxed);
        Ok((digest, size))
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.upstream.as_ref().is_some_and(|upstream| upstream.holds(digest)) || self.path(digest).exists()
    }

    /// Writes a whole content, which has that digest, to `file`.
    pub(super) fn pour(&self, digest: &Digest, file: &mut File, path: &HostPath) -> Result<()> {
        let io = |source| Error::File { doing: "write", path: path.clone(), source };
        if let Some(bytes) = self.upstream.as_ref().and_then(|upstream| upstream.content(digest)) {
            return file.write_all(&bytes).map_err(io);
        }
        let found = copy(self.open_content(digest)?, file).map_err(io)?;
        if found == *digest { Ok(()) } else { Err(Error::Damaged { wanted: *digest, found }) }
    }

    fn open_content(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotKept(*digest),
            _ => self.error("open", &path, source),
        })
    }

    /// A whole content, checked.
    pub(super) fn get(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let path = self.path(digest);
        let content = match self.open_content(digest) {
            Err(Error::NotKept(_)) if self.upstream.is_some() => {
                let above = self.upstream.as_ref().and_then(|upstream| upstream.content(digest));
                let fits = above.filter(|bytes| bytes.len() as u64 <= bytes_max);
                return fits.ok_or(Error::NotKept(*digest));
            }
            other => other?,
        };
        let mut content = content.take(bytes_max + 1);
        content.read_to_end(&mut bytes).map_err(|source| self.error("read", &path, source))?;
        if bytes.len() as u64 > bytes_max {
            let source = io::Error::other(format!("it is larger than {bytes_max} bytes"));
            return Err(self.error("read into memory", &path, source));
        }
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::Damaged { wanted: *digest, found });
        }
        Ok(bytes)
    }
}

fn copy(mut from: File, to: &mut File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}
