// SPDX-License-Identifier: Apache-2.0
//! Forth over the past: everything in the graph that belongs to a confirmed attack already, found in slices.
//!
//! Input: the graph, and how many places may be looked at. Output: subjects and objects of one case, and where to go
//! on. Processes are gone through until a pass finds nothing, then files; a search ends, since each pass but the last
//! takes something in.

use super::{Case, Met, incident_of};
use crate::graph::Graph;
use crate::input::Configuration;
use serde::{Deserialize, Serialize};

/// A walk over the past, resumable at any place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Search {
    /// `repeated`: a further pass, because the one before found something.
    Processes {
        at: usize,
        found: bool,
        repeated: bool,
    },
    Files {
        at: usize,
        found: bool,
    },
}

impl Search {
    pub(super) const fn begin() -> Self {
        Self::Processes { at: 0, found: false, repeated: false }
    }
}

impl Case {
    /// Goes on searching the past, at most `budget` places; returns what it used.
    pub(crate) fn resume(&mut self, graph: &mut Graph, configuration: &Configuration, budget: u32) -> u32 {
        let mut used = 0;
        while used < budget {
            match self.search {
                None => break,
                Some(Search::Processes { at, found, .. }) if at >= graph.process_places() => {
                    // Another pass as long as one finds something: a writer may stand behind whoever ran its work.
                    self.search = Some(match found {
                        true => Search::Processes { at: 0, found: false, repeated: true },
                        false => Search::Files { at: 0, found: false },
                    });
                }
                Some(Search::Processes { at, found, repeated }) => {
                    used += 1;
                    let hit = graph
                        .process_at(at)
                        .filter(|node| node.subject.is_none())
                        .and_then(|node| {
                            incident_of(graph, &configuration.never_touch, node.key).map(|hit| (node.key, hit))
                        })
                        .filter(|(_, (incident, _))| *incident == self.id);
                    let added = hit.is_some_and(|(key, (_, reason))| self.add_subject(graph, key, reason));
                    self.search = Some(Search::Processes { at: at + 1, found: found || added, repeated });
                }
                Some(Search::Files { at, found }) if at >= graph.file_places() => {
                    self.search = found.then_some(Search::Files { at: 0, found: false });
                    self.dirty = true;
                }
                Some(Search::Files { at, found }) => {
                    used += 1;
                    let directories = self.directories.len();
                    if let Some(path) = graph.file_at(at).map(|(path, _)| path.clone()) {
                        self.look_at(graph, configuration, &path, Met::InThePast);
                    }
                    let more = self.directories.len() > directories;
                    if self.search == Some(Search::Files { at, found }) {
                        self.search = Some(Search::Files { at: at + 1, found: found || more });
                    }
                }
            }
        }
        used
    }
}
