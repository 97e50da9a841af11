// SPDX-License-Identifier: Apache-2.0
//! The whole brain: state and input in, effects out. No I/O, clock, thread or randomness.
//!
//! The same inputs give the same effects, bit for bit, also when the engine was stored and loaded in between.

use crate::detect::{Context, Detectors};
use crate::event::Event;
use crate::graph::Graph;
use crate::guard::Hold;
use crate::id::Timestamp;
use crate::incident::Incident;
use crate::input::{Configuration, Effect, Input, Mode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// SPECIFICATION: one `step` does at most this many units of work (an entry of the graph looked at, an effect made);
/// searches resume with the next input.
pub const STEP_WORK_MAX: u32 = 2_048;

/// What one step cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub units: u32,
    /// A search goes on: step again soon, with a [`Input::Tick`] when nothing else comes.
    pub pending: bool,
}

/// Announced changes: `thymus change begin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeWindow {
    pub until: Timestamp,
    pub who: String,
    pub why: String,
}

/// What readers see. Complete, bounded, immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub now: Timestamp,
    pub mode: Mode,
    pub hold: Option<Hold>,
    pub change: Option<ChangeWindow>,
    /// Newest last.
    pub incidents: Vec<Incident>,
    /// What was counted since the engine began, by name.
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Engine {
    now: Timestamp,
    configuration: Option<Configuration>,
    hold: Option<Hold>,
    change: Option<ChangeWindow>,
    graph: Graph,
    detectors: Detectors,
    events: u64,
}

impl Engine {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one input in and says what is to be done. `now` never goes back.
    pub fn step(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) -> Work {
        self.now = now.max(self.now);
        match input {
            Input::Configured(configuration) => self.configuration = Some(*configuration),
            Input::Event(event) => self.observe(&event, out),
            Input::Tick
            | Input::Prepared { .. }
            | Input::Unprepared { .. }
            | Input::Outcome { .. }
            | Input::Proven { .. }
            | Input::Command(_)
            | Input::Restarted { .. } => {}
        }
        Work { units: 1, pending: false }
    }

    fn observe(&mut self, event: &Event, out: &mut Vec<Effect>) {
        let Some(configuration) = &self.configuration else { return };
        self.events += 1;
        let _ = self.graph.observe(event, &configuration.never_touch);
        let context = Context { configuration, change_window: self.change.is_some() };
        let mut findings = Vec::new();
        self.detectors.observe(event, &self.graph, &context, &mut findings);
        out.extend(findings.into_iter().map(Effect::Finding));
    }

    /// What readers see now.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            now: self.now,
            mode: self.configuration.as_ref().map_or(Mode::Observe, |configuration| configuration.mode),
            hold: self.hold.clone(),
            change: self.change.clone(),
            incidents: Vec::new(),
            counters: BTreeMap::from([("events".to_owned(), self.events)]),
        }
    }
}
