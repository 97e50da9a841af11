// SPDX-License-Identifier: Apache-2.0
//! The vault's versions as what the hands restore to.

use super::Versions;
use crate::system::{Bytes, CONTENT_BYTES_MAX, Digest, FileState};
use crate::vault::{Kind, Recorded, State, Vault, Version};
use thymus_engine::event::FileKind;
use thymus_engine::{HostPath, ProcessKey, VersionId};

/// Refuses what is not surely the state of that version: a restoration must never be a guess.
#[derive(Clone, Debug)]
pub struct VaultVersions<'a> {
    vault: &'a Vault,
}

impl<'a> VaultVersions<'a> {
    #[must_use]
    pub fn new(vault: &'a Vault) -> Self {
        Self { vault }
    }

    fn known(&self, id: VersionId) -> Result<State, String> {
        let version = self.vault.version(id).map_err(|error| crate::system::in_words(&error))?;
        match &version.recorded {
            Recorded::Missing(why) => Err(format!("version {id} of `{}` is not in the vault: {why}", version.path)),
            Recorded::State(state) if version.exact || self.settled(&version, state) => Ok(state.clone()),
            Recorded::State(_) => {
                Err(format!("version {id} of `{}` may hold a later change: it was read too late", version.path))
            }
        }
    }

    /// Read too late, yet harmless: what was read is what stood there before, so nothing foreign is in it; or what may be
    /// mixed in is the same process's next change. Never so for the version before an attack, unless it changed nothing.
    fn settled(&self, version: &Version, state: &State) -> bool {
        let chain = self.vault.chain(&version.path);
        let Some(at) = chain.iter().position(|id| *id == version.id) else { return false };
        let neighbour = |at: Option<usize>| self.vault.version(*chain.get(at?)?).ok();
        let same_before = neighbour(at.checked_sub(1))
            .is_some_and(|before| before.exact && before.recorded.state().is_some_and(|before| before.same_as(state)));
        let same_writer = || {
            version.writer != ProcessKey::default()
                && neighbour(at.checked_add(1)).is_some_and(|after| after.exact && after.writer == version.writer)
        };
        same_before || same_writer()
    }
}

impl Versions for VaultVersions<'_> {
    fn state(&self, version: VersionId) -> Result<Option<FileState>, String> {
        let state = self.known(version)?;
        file_state(&state).map_err(|why| format!("version {version}: {why}"))
    }

    fn names(&self, version: VersionId) -> Vec<HostPath> {
        self.vault.names(version)
    }

    fn content(&self, version: VersionId) -> Result<Vec<u8>, String> {
        let state = self.known(version)?;
        let digest = state.digest.ok_or_else(|| format!("version {version} is no regular file"))?;
        if state.size > CONTENT_BYTES_MAX {
            return Err(format!("version {version} has {} bytes, more than {CONTENT_BYTES_MAX}", state.size));
        }
        self.vault.content(&digest).map_err(|error| crate::system::in_words(&error))
    }
}

/// Field by field; `None`: nothing is there.
fn file_state(state: &State) -> Result<Option<FileState>, String> {
    /// `S_IFCHR`, `S_IFBLK`, `S_IFIFO`, `S_IFSOCK`: part of the kernel's interface.
    const fn special(kind: Kind) -> Option<u32> {
        match kind {
            Kind::CharacterDevice => Some(0o020_000),
            Kind::BlockDevice => Some(0o060_000),
            Kind::Fifo => Some(0o010_000),
            Kind::Socket => Some(0o140_000),
            Kind::Absent | Kind::Regular | Kind::Directory | Kind::Symlink => None,
        }
    }
    let Some(kind) = state.kind.file_kind() else { return Ok(None) };
    if kind == FileKind::Regular && state.digest.is_none() {
        return Err("its content was not stored".to_owned());
    }
    if kind == FileKind::Symlink && state.link_target.is_none() {
        return Err("where the link pointed was not stored".to_owned());
    }
    let xattrs = state.xattrs.iter().map(|(name, value)| (HostPath::new(name), Bytes(value.clone())));
    let nanoseconds = u32::try_from(state.mtime_ns.rem_euclid(1_000_000_000)).unwrap_or(0);
    Ok(Some(FileState {
        kind,
        mode: state.mode,
        uid: state.uid,
        gid: state.gid,
        mtime: (state.mtime_ns.div_euclid(1_000_000_000), nanoseconds),
        xattrs: xattrs.collect(),
        content: state.digest.map(|digest| Digest(digest.0)),
        size: state.size,
        target: state.link_target.as_deref().map(HostPath::new),
        special: special(state.kind).map(|bits| (bits, state.rdev)),
        flags: state.flags,
        links: u64::from(state.nlink),
        inode: (state.key.inode, state.born_ns),
    }))
}

/// The vault as what the keep leans on: what it has of a pinned path stays.
#[derive(Clone, Debug)]
pub struct VaultContents(pub Vault);

impl crate::system::Upstream for VaultContents {
    fn holds(&self, digest: &Digest) -> bool {
        self.0.holds(&crate::vault::Digest(digest.0))
    }

    fn content(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.0.content(&crate::vault::Digest(digest.0)).ok()
    }

    fn sync(&self) -> std::io::Result<()> {
        self.0.sync().map_err(std::io::Error::other)
    }
}
