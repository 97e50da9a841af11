// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C ends a drill the same way as an error does: every wait returns, and everything is removed on the way out.

use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes SIGINT, SIGTERM and SIGHUP away from the default action. To be called before the program's first thread starts.
pub fn listen() {
    if let Err(error) = thymus_host::signals::listen(&INTERRUPTED) {
        tracing::warn!(%error, "cannot block signals; an interrupted drill is cleaned up by the next one");
    }
}

/// Fails once a signal has come.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}
