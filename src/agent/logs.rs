// SPDX-License-Identifier: Apache-2.0
//! Reads logs, in a thread of its own. Nobody waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thymus_engine::hearsay::Hearsay;
use thymus_engine::{HostPath, Timestamp};
use thymus_host::scope::Scope;
use thymus_host::sense;
use thymus_host::sense::log::{Follower, Parser, Report};

/// LIMIT: lines that wait for the hot thread, and that it takes at a turn; what finds no place is counted.
pub(super) const LINES_MAX: usize = 512;
pub(super) const TURN_MAX: usize = 32;
/// Between two looks at all logs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What became of the lines.
#[derive(Debug, Default)]
pub(super) struct Shared {
    reports: Mutex<BTreeMap<HostPath, Report>>,
    /// Lines that found no place.
    pub(super) shed: AtomicU64,
}

impl Shared {
    pub(super) fn reports(&self) -> BTreeMap<HostPath, Report> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn run(
    scope: &Scope,
    parsers: Vec<Parser>,
    stop: &AtomicBool,
    shared: &Shared,
    out: &SyncSender<(Timestamp, Hearsay)>,
) {
    let mut follower = Follower::new(parsers);
    let mut lines = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        follower.look(scope, i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX), &mut lines);
        let now = sense::now();
        for line in lines.drain(..) {
            if out.try_send((now, line)).is_err() {
                shared.shed.fetch_add(1, Ordering::Relaxed);
            }
        }
        shared.reports.lock().unwrap_or_else(PoisonError::into_inner).clone_from(follower.reports());
        std::thread::sleep(LOOK_EVERY);
    }
}
