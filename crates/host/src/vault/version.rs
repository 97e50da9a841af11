// SPDX-License-Identifier: Apache-2.0
//! What a version is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use thymus_engine::event::FileKind;
use thymus_engine::id::{FileKey, ProcessKey, Timestamp, VersionId};
use thymus_engine::path::HostPath;

/// BLAKE3 of content, 256 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Its first 64 bits: enough to keep what may be wanted, not to give out what is.
    pub(super) fn prefix(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing.
    #[default]
    Absent,
    Regular,
    Directory,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Kind {
    /// The coarser word of events; `None` for nothing.
    #[must_use]
    pub const fn file_kind(self) -> Option<FileKind> {
        match self {
            Self::Absent => None,
            Self::Regular => Some(FileKind::Regular),
            Self::Directory => Some(FileKind::Directory),
            Self::Symlink => Some(FileKind::Symlink),
            Self::CharacterDevice | Self::BlockDevice | Self::Fifo | Self::Socket => Some(FileKind::Other),
        }
    }
}

/// Everything about an object that a restoration brings back, and what identifies it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub kind: Kind,
    /// Permission bits, 0..=0o7777.
    pub mode: u16,
    /// As on disk below the guarded root.
    pub uid: u32,
    pub gid: u32,
    /// Bytes; 0 for what is not a regular file.
    pub size: u64,
    /// Content of a regular file, to be had from [`crate::vault::Vault::content`]; `None` for every other kind.
    pub digest: Option<Digest>,
    /// Where a symbolic link points, byte for byte.
    pub link_target: Option<Vec<u8>>,
    /// Device number of a device node, as `stat(2)` gives it; 0 otherwise.
    pub rdev: u64,
    /// Extended attributes by full name, such as `user.x`; ACLs are `system.posix_acl_access`, capabilities `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names that the inode had when it was read.
    pub nlink: u32,
    /// Modification, status change and birth, nanoseconds since 1970; birth is 0 where the file system keeps none.
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub born_ns: i64,
    /// Immutable (0x10) and append-only (0x20), as `chattr(1)` sets them. Kept beside the record
    /// ([`super::log::Record::Flags`]): 0 in a vault that was written before they were.
    #[serde(skip)]
    pub flags: u32,
    /// Which inode it was. `generation` is 0 when it was read from a path and not from an event.
    pub key: FileKey,
}

impl State {
    /// Nothing is there.
    #[must_use]
    pub fn absent() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        self.kind != Kind::Absent
    }

    /// Equal in all that a restoration promises: kind, content, mode, owner, attributes, link target, device number.
    /// Times, flags, names and the inode may differ.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let promised =
            |state: &Self| (state.kind, state.mode, state.uid, state.gid, state.size, state.digest, state.rdev);
        promised(self) == promised(other) && self.link_target == other.link_target && self.xattrs == other.xattrs
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recorded {
    State(State),
    /// Not known, with the reason in words.
    Missing(String),
}

impl Recorded {
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        match self {
            Self::State(state) => Some(state),
            Self::Missing(_) => None,
        }
    }
}

/// One state of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub id: VersionId,
    pub path: HostPath,
    pub recorded: Recorded,
    /// Surely the state right after the change; false when a later change may be in it.
    pub exact: bool,
    /// Who changed it; all zero when not known (baseline, changes while no agent guarded).
    pub writer: ProcessKey,
    /// Boot clock of the boot in which it was recorded.
    pub time: Timestamp,
    /// Nanoseconds since 1970, for people and for retention.
    pub unix_ns: i64,
    /// Why it was recorded, in words: `baseline`, `close`, `rename`, `before a log was replaced`.
    pub note: String,
}
