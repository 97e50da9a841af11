// SPDX-License-Identifier: Apache-2.0
//! Signals that ask a program to end, as a flag that its loops look at.

use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// From now on SIGINT, SIGTERM and SIGHUP set `asked` and do nothing else. To be called before the program's first thread
/// starts: threads inherit the blocked mask; children that `std` starts get an empty one.
pub fn listen(asked: &'static AtomicBool) -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let wait = move || {
        while signals.wait().is_ok() {
            asked.store(true, Ordering::SeqCst);
        }
    };
    std::thread::Builder::new().name("thymus-signals".into()).spawn(wait).map(drop)
}
