// SPDX-License-Identifier: Apache-2.0
//! How much the graph keeps, and what goes when a table is full.
//!
//! Input: a table at its limit. Output: one entry less, counted by what its loss means; or nothing, when all that was
//! looked at must be kept. What lives, and what an incident or a finding rests on, stays.

use super::{FileNode, Graph, Invocation, InvocationId, ProcessNode};
use crate::id::ProcessKey;
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// LIMIT: processes kept, alive or finished.
pub const PROCESSES_MAX: usize = 16_384;
/// LIMIT: paths kept with their writers.
pub const FILES_MAX: usize = 49_152;
/// LIMIT: invocations kept.
pub const INVOCATIONS_MAX: usize = 8_192;
/// LIMIT: places looked at to find one entry to evict.
pub const EVICTION_LOOK_MAX: usize = 64;

/// The table sizes; the constants above in production, small ones in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub processes: usize,
    pub files: usize,
    pub invocations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processes: PROCESSES_MAX, files: FILES_MAX, invocations: INVOCATIONS_MAX }
    }
}

/// What was left out to stay within the limits, since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Events that added nothing new.
    pub compacted: u64,
    /// Finished processes forgotten; none of them had written what is kept.
    pub processes_evicted: u64,
    /// Finished processes forgotten although a kept path names them as writer.
    pub writers_evicted: u64,
    /// Paths forgotten, outside protected trees or gone again.
    pub files_evicted: u64,
    /// Paths below protected trees forgotten: what was done to them before can no longer be attributed.
    pub protected_evicted: u64,
    pub invocations_evicted: u64,
    /// Ended invocations forgotten although processes or writes name them.
    pub origins_evicted: u64,
    /// Nothing could be evicted, so these were not taken up.
    pub processes_refused: u64,
    pub files_refused: u64,
    /// Oldest writes of one path forgotten.
    pub writes_dropped: u64,
    /// Writers of a database server's directory forgotten.
    pub database_writers_forgotten: u64,
}

impl Graph {
    pub(super) fn evict_process(&mut self) -> bool {
        let rank = |_: &ProcessKey, node: &ProcessNode| {
            let idle = node.ended.is_some() && node.children == 0;
            let kept = node.pinned || node.subject.is_some();
            (idle && !kept).then_some(u8::from(node.writes > 0))
        };
        let look = EVICTION_LOOK_MAX;
        let Some(key) = self.processes.victim(look, rank).or_else(|| self.processes.victim(16 * look, rank)) else {
            return false;
        };
        if let Some(node) = self.processes.remove(&key) {
            if node.writes > 0 {
                self.counters.writers_evicted += 1;
            } else {
                self.counters.processes_evicted += 1;
            }
            if let Some(parent) = self.processes.get_mut(&node.parent) {
                parent.children = parent.children.saturating_sub(1);
            }
            if let Some(invocation) = self.invocations.get_mut(&node.invocation) {
                invocation.references = invocation.references.saturating_sub(1);
            }
        }
        true
    }

    pub(super) fn evict_invocation(&mut self) {
        let rank = |_: &InvocationId, invocation: &Invocation| {
            let kept = invocation.pinned || invocation.suspect || invocation.subject.is_some();
            (invocation.ended.is_some() && !kept).then_some(u8::from(invocation.references > 0))
        };
        let look = EVICTION_LOOK_MAX;
        let victim = self.invocations.victim(look, rank).or_else(|| self.invocations.victim(16 * look, rank));
        if let Some((id, gone)) = victim.and_then(|id| Some((id, self.invocations.remove(&id)?))) {
            if let InvocationKind::Unit(unit) = &gone.kind {
                let name = (gone.manager, unit.as_str().into());
                if self.units.get(&name) == Some(&id) {
                    self.units.remove(&name);
                }
            }
            if gone.references > 0 {
                self.counters.origins_evicted += 1;
            } else {
                self.counters.invocations_evicted += 1;
            }
        }
    }

    pub(super) fn evict_file(&mut self) -> bool {
        let rank = |_: &HostPath, file: &FileNode| match (file.incident, file.protected, file.came_and_went()) {
            (Some(_), _, _) => None,
            (None, _, true) => Some(0),
            (None, false, false) => Some(1),
            (None, true, false) => Some(2),
        };
        let look = EVICTION_LOOK_MAX;
        let Some(path) = self.files.victim(look, rank).or_else(|| self.files.victim(16 * look, rank)) else {
            return false;
        };
        if self.files.get(&path).is_some_and(|file| file.protected && !file.came_and_went()) {
            self.counters.protected_evicted += 1;
        } else {
            self.counters.files_evicted += 1;
        }
        self.forget_writes(&path);
        true
    }
}
