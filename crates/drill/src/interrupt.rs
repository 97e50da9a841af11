// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C ends a drill the same way as an error does: every wait returns, and everything is removed on the way out.

use crate::{Error, Result};
use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes SIGINT, SIGTERM and SIGHUP away from the default action. To be called before the program's first thread starts:
/// threads inherit the blocked mask; children that `std` starts get an empty one.
pub fn listen() {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    if let Err(error) = signals.thread_block() {
        tracing::warn!(%error, "cannot block signals; an interrupted drill is cleaned up by the next one");
        return;
    }
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            INTERRUPTED.store(true, Ordering::SeqCst);
        }
    });
}

/// Fails once a signal has come.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}
