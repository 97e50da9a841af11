// SPDX-License-Identifier: Apache-2.0
//! The lock of the scope's accounts, as every program takes it that changes them: lckpwdf(3), `passwd`, `useradd`, `systemd-sysusers`.
//!
//! Input: the scope's root. Output: a lock that nobody else has. Invariants: no link is followed to it; the wait for it ends. The
//! lock belongs to the open file: the vault reads and closes the same file, which would end a lock of the process.
//! KERNEL 3.15: locks of open files (`F_OFD_SETLK`), which exclude those of processes.

use super::tree::Tree;
use super::{Error, Result};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::OFlags;
use std::fs::File;
use std::time::Duration;
use thymus_engine::HostPath;

const LOCK: &str = "/etc/.pwd.lock";
/// LIMIT: how long somebody else may have it. lckpwdf(3) waits 15 seconds; here other actions wait meanwhile.
const WAIT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// Until it is dropped, nobody else changes accounts who asks first.
#[derive(Debug)]
pub struct AccountsHeld {
    pub(super) lock: Option<File>,
}

impl Drop for AccountsHeld {
    /// A child that is about to become another program has the file open, too: closing it is not enough.
    fn drop(&mut self) {
        if let Some(file) = &self.lock {
            let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "constants of a header, from 0 to 2")]
const fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

pub(super) fn hold(tree: Tree<'_>) -> Result<AccountsHeld> {
    let path = HostPath::from(LOCK);
    let file = tree.open_or_make(&path, OFlags::WRONLY, 0o600)?;
    for _ in 0..=WAIT.as_millis() / PAUSE.as_millis() {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => return Ok(AccountsHeld { lock: Some(file) }),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => std::thread::sleep(PAUSE),
            Err(errno) => return Err(Error::File { doing: "lock", path, source: errno.into() }),
        }
    }
    Err(Error::Deadline { what: format!("who changes accounts (`{path}` is locked)"), limit: WAIT })
}
