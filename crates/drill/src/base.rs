// SPDX-License-Identifier: Apache-2.0
//! The base image of all twins, and the disk they live on.

use crate::{Doing, Error, Result, output, twin};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The recipe, also run by `make setup`. Its own text is the key of what it makes.
const MAKE: &str = include_str!("../base/make.sh");

/// The cache directory: `$THYMUS_CACHE`, else `/var/cache/thymus`.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("THYMUS_CACHE").map_or_else(|| PathBuf::from("/var/cache/thymus"), PathBuf::from)
}

/// Makes the base if there is none of this recipe yet, and says its name. A minute or two the first time, then an instant.
pub fn make(cache: &Path) -> Result<String> {
    std::fs::create_dir_all(cache).doing("make the directory", cache)?;
    let script = cache.join("make.sh");
    std::fs::write(&script, MAKE).doing("write", &script)?;
    let said = output(Command::new("sh").arg(&script).arg(cache))?;
    let name = said.lines().last().unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        return Err(Error::Failed { program: script.display().to_string(), status: "no image".into(), output: said });
    }
    Ok(name)
}

/// The disk of twins, mounted and held by this process alone until it is dropped.
#[derive(Debug)]
pub struct Disk {
    cache: PathBuf,
    image: PathBuf,
    /// Held, never read: the kernel lets go of the lock when this process ends, however it ends.
    _lock: File,
}

impl Disk {
    /// Waits for its turn, sweeps what a killed harness left, makes the base if needed, and mounts the disk.
    pub fn open(cache: &Path) -> Result<Self> {
        let name = make(cache)?;
        let path = cache.join("lock");
        let lock = File::create(&path).doing("open", &path)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).doing("lock", &path)?;
        twin::sweep(cache);
        let mount = cache.join("disk");
        std::fs::create_dir_all(&mount).doing("make the directory", &mount)?;
        let disk = Self { cache: cache.to_owned(), image: mount.join(name), _lock: lock };
        output(Command::new("mount").args(["-o", "loop,noatime"]).arg(cache.join("disk.btrfs")).arg(&mount))?;
        let runs = mount.join("run");
        std::fs::create_dir_all(&runs).doing("make the directory", &runs)?;
        Ok(disk)
    }

    /// Where it lies.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The base image.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Where twins live; below the mounted disk.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.cache.join("disk/run")
    }

    /// A harmless shared object, made with the base.
    pub fn empty_library(&self) -> Result<Vec<u8>> {
        let path = self.cache.join("parts/empty.so");
        std::fs::read(&path).doing("read", path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        twin::sweep(&self.cache);
    }
}
