// SPDX-License-Identifier: Apache-2.0
//! Where the agent looks, and where it may act at all.
//!
//! A [`Scope`] is a cgroup (with everything below it) and the root directory of the file system its processes see.
//! [`Acting`] is proof that this scope may be acted upon: nothing that denies, stops or restores can be attached or
//! done without one, and only [`Scope::acting`] makes it.

pub mod enter;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted: the unified mount point, or the hybrid one.
const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the guarded root `{path}`")]
    Root {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the cgroup `{path}`; expected a directory of a cgroup v2 hierarchy")]
    Cgroup {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no cgroup v2 hierarchy is mounted at {}", CGROUP_MOUNTS.join(" or "))]
    NoCgroup2,
}

/// What the agent watches.
#[derive(Debug)]
pub struct Scope {
    /// Held from the start: every path below is opened relative to this, never by name again.
    root: OwnedFd,
    root_path: PathBuf,
    cgroup: PathBuf,
    cgroup_id: u64,
    acts: bool,
    whole_host: bool,
}

/// Proof that a scope may be acted upon.
#[derive(Clone, Copy, Debug)]
pub struct Acting<'a>(&'a Scope);

impl Scope {
    /// The host (or the container) that the agent itself runs in. Acts only when the configuration says `this_host = true`.
    pub fn this_host(this_host_may_act: bool) -> Result<Self, Error> {
        let cgroup = CGROUP_MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists());
        Self::new(Path::new("/"), cgroup.ok_or(Error::NoCgroup2)?, this_host_may_act, true)
    }

    /// A cgroup of its own, with the root directory that its processes see mounted at `root`.
    pub fn cgroup(cgroup: &Path, root: &Path) -> Result<Self, Error> {
        Self::new(root, cgroup, true, false)
    }

    fn new(root_path: &Path, cgroup: &Path, acts: bool, whole_host: bool) -> Result<Self, Error> {
        let root = rustix::fs::open(root_path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| Error::Root { path: root_path.to_owned(), source: source.into() })?;
        let cgroup_id =
            std::fs::metadata(cgroup).map_err(|source| Error::Cgroup { path: cgroup.to_owned(), source })?.ino();
        Ok(Self { root, root_path: root_path.to_owned(), cgroup: cgroup.to_owned(), cgroup_id, acts, whole_host })
    }

    /// The same place, never to be acted upon: for those who only look.
    pub fn watching(&self) -> Result<Self, Error> {
        let root = self.root.try_clone().map_err(|source| Error::Root { path: self.root_path.clone(), source })?;
        let (root_path, cgroup) = (self.root_path.clone(), self.cgroup.clone());
        Ok(Self { root, root_path, cgroup, acts: false, ..*self })
    }

    #[must_use]
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    #[must_use]
    pub fn root_path(&self) -> &Path {
        &self.root_path
    }

    #[must_use]
    pub fn cgroup_path(&self) -> &Path {
        &self.cgroup
    }

    /// The inode of the cgroup directory, which is what `bpf_get_current_ancestor_cgroup_id` gives.
    #[must_use]
    pub fn cgroup_id(&self) -> u64 {
        self.cgroup_id
    }

    /// The agent guards the host it runs in.
    #[must_use]
    pub fn is_whole_host(&self) -> bool {
        self.whole_host
    }

    /// The first process (pid 1) of the scope's pid namespace, when it has one of its own: the way into its namespaces.
    #[must_use]
    pub fn leader(&self) -> Option<u32> {
        if self.whole_host {
            return None;
        }
        let mut pending = vec![self.cgroup.clone()];
        // LIMIT: cgroups looked at; a twin has below 100.
        for _ in 0..4_096 {
            let directory = pending.pop()?;
            let pids = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|line| line.parse::<u32>().ok()) {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
                if ids.split_whitespace().skip(1).last() == Some("1") {
                    return Some(pid);
                }
            }
            let children = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            pending.extend(
                children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
        None
    }

    /// `None`: this scope is watched, never acted upon.
    #[must_use]
    pub fn acting(&self) -> Option<Acting<'_>> {
        self.acts.then_some(Acting(self))
    }
}

impl Acting<'_> {
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.0
    }
}
