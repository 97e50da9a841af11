// SPDX-License-Identifier: Apache-2.0
//! Intents and what came of them, in memory: what is open, and what a person may still have undone.
//!
//! Input: records, in their order. Output: a story an action. INVARIANT: an open intent is never forgotten; beyond
//! [`UNDOABLE_MAX`] the oldest settled ones are, and are counted.

use super::record::{Record, Story};
use std::collections::{BTreeMap, BTreeSet};
use thymus_engine::{Action, ActionId, IncidentId};

/// LIMIT: settled intents that stay undoable.
pub const UNDOABLE_MAX: usize = 1_024;

/// Intents and what came of them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) stories: BTreeMap<ActionId, Story>,
    pub(super) incidents_undone: BTreeSet<IncidentId>,
    /// Stories forgotten because of [`UNDOABLE_MAX`].
    forgotten: u64,
}

impl Ledger {
    pub(super) fn take(&mut self, record: Record) {
        match record {
            Record::Intent(intent) => {
                self.stories.insert(intent.action, Story { intent: *intent, outcome: None, undone: false });
                self.shed();
            }
            Record::Settled { action, outcome } => {
                if let Some(story) = self.stories.get_mut(&action) {
                    story.outcome = Some(outcome);
                }
            }
            Record::Undone { action } => {
                let Some(story) = self.stories.get_mut(&action) else { return };
                story.undone = true;
                // Taking back what took something back does that again.
                if let Action::UndoAction { of, .. } = story.intent.what
                    && let Some(again) = self.stories.get_mut(&of)
                {
                    again.undone = false;
                }
            }
            Record::Carried(story) => {
                self.stories.insert(story.intent.action, *story);
            }
            Record::IncidentUndone { incident } => {
                self.incidents_undone.insert(incident);
            }
            Record::Run(_) | Record::Input(_) | Record::Effect(_) | Record::Checkpoint(_) | Record::Lost { .. } => {}
        }
    }

    fn shed(&mut self) {
        while self.stories.len() > UNDOABLE_MAX {
            let Some(oldest) = self.stories.iter().find(|(_, story)| story.outcome.is_some()).map(|(id, _)| *id) else {
                return;
            };
            self.stories.remove(&oldest);
            self.forgotten += 1;
        }
    }
}
