// SPDX-License-Identifier: Apache-2.0
//! An incident as a tree that a person takes in at one look: its root at one end, what was touched at the other.
//!
//! Input: an [`Incident`]. Output: a [`Picture`] of at most [`NODES_MAX`] nodes. Critical are the root, who did what was
//! found, who is on the way from the root to an object, footholds, files that wait for a person, peers elsewhere and
//! secrets. As long as the critical ones fit, each of them has a node. All others are folded, and counted. Pure.

mod fold;
mod state;
#[cfg(test)]
mod tests;

pub use state::State;

use super::{Deed, Incident, ObjectClass};
use crate::decide::is_elsewhere;
use crate::detect::is_foothold;
use crate::event::Endpoint;
use crate::id::{ProcessKey, Timestamp};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use state::States;
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: nodes of a picture: what a person takes in at one look.
pub const NODES_MAX: usize = 60;
/// LIMIT: nodes that stand for several: more are folded further.
const FOLDS_MAX: usize = 8;
/// LIMIT: files of one finding that count as critical; those of an encryption are many.
const FOUND_PATHS_MAX: usize = 4;

/// Node 0 is the root. Nodes stand in the order in which one reads: each after the one that it came by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    pub nodes: Vec<Node>,
    /// How each node but the root came about: edge `i` leads to node `i + 1`.
    pub edges: Vec<Edge>,
    /// What has no node, also no folded one.
    pub left_out: Tally,
    /// What the incident itself counts only.
    pub omitted: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub what: Shown,
    pub state: State,
    /// Indices of the incident's findings about it.
    pub findings: Vec<usize>,
}

/// What a node stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Where it began; how many other places are possible.
    Root {
        title: String,
        others: usize,
    },
    Process {
        process: ProcessKey,
        program: Option<HostPath>,
        cmd_line: Vec<String>,
        uid: u32,
    },
    File {
        path: HostPath,
        class: ObjectClass,
    },
    Secret {
        path: HostPath,
    },
    Peer {
        endpoint: Endpoint,
        inbound: bool,
        sent: u64,
        received: u64,
    },
    /// Several that have no node of their own, and the directory that all the files are below.
    Folded {
        tally: Tally,
        below: Option<HostPath>,
    },
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub processes: u64,
    pub files: u64,
    pub secrets: u64,
    pub peers: u64,
    /// Of all these, those that are in order, and those that wait for a person.
    pub settled: u64,
    pub waiting: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    pub link: Link,
}

/// How one came by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Was started by; from a file: ran it.
    Started,
    Created,
    Changed,
    Removed,
    Read,
    /// Traffic.
    Talked,
    /// Several of these.
    Several,
}

/// One thing of an incident, before it is known whether it gets a node.
#[derive(Clone, Debug)]
struct Item {
    what: Shown,
    state: State,
    findings: Vec<usize>,
    /// What it came by; `None`: the root.
    from: Option<usize>,
    link: Link,
    rank: Rank,
    /// Among those that came by the same.
    order: (Kind, Timestamp),
}

/// What goes first where not everything has room. The first three are critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Itself,
    /// Stands between the root and one of the above.
    Above,
    /// On the way from the root to an object.
    OnTheWay,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Process,
    Secret,
    Peer,
    File,
}

impl Picture {
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        let states = States::of(incident);
        let mut items = items(incident, &states);
        break_circles(&mut items);
        rank(&mut items);
        let (drawn, folds, left_out) = fold::choose(&items);
        let root = Node { what: root(incident), state: states.root(incident), findings: Vec::new() };
        let (nodes, edges) = arrange(root, &items, &drawn, folds);
        Self { nodes, edges, left_out, omitted: incident.omitted }
    }
}

/// The nodes in the order in which one reads them: each process, then at once what came by it.
fn arrange(root: Node, items: &[Item], drawn: &BTreeSet<usize>, folds: Vec<fold::Fold>) -> (Vec<Node>, Vec<Edge>) {
    enum Part {
        Item(usize),
        Fold(fold::Fold),
    }
    let mut below: BTreeMap<Option<usize>, Vec<Part>> = BTreeMap::new();
    let mut ordered: Vec<usize> = drawn.iter().copied().collect();
    ordered.sort_by_key(|at| items[*at].order);
    for at in ordered {
        below.entry(fold::nearest(items, drawn, items[at].from)).or_default().push(Part::Item(at));
    }
    for fold in folds {
        below.entry(fold.owner).or_default().push(Part::Fold(fold));
    }
    let (mut nodes, mut edges) = (vec![root], Vec::new());
    let mut waiting: Vec<(usize, Part)> = Vec::new();
    let mut enter = |waiting: &mut Vec<(usize, Part)>, node: usize, of: Option<usize>| {
        let parts = below.remove(&of).unwrap_or_default();
        waiting.extend(parts.into_iter().rev().map(|part| (node, part)));
    };
    enter(&mut waiting, 0, None);
    while let Some((from, part)) = waiting.pop() {
        let to = nodes.len();
        match part {
            Part::Item(at) => {
                let Item { what, state, findings, link, .. } = items[at].clone();
                nodes.push(Node { what, state, findings });
                edges.push(Edge { from, to, link });
                enter(&mut waiting, to, Some(at));
            }
            Part::Fold(fold) => {
                let what = Shown::Folded { tally: fold.tally, below: fold.below };
                nodes.push(Node { what, state: State::Several, findings: Vec::new() });
                edges.push(Edge { from, to, link: Link::Several });
            }
        }
    }
    (nodes, edges)
}

fn root(incident: &Incident) -> Shown {
    let found = incident.findings.first().map(|finding| finding.title.clone());
    let title = incident.roots.first().map(|root| root.title.clone()).or(found);
    let title = title.unwrap_or_else(|| "where it began is not known".to_owned());
    Shown::Root { title, others: incident.roots.len().saturating_sub(1) }
}

/// Everything that an incident lists, each with what it came by.
fn items(incident: &Incident, states: &States<'_>) -> Vec<Item> {
    let processes: BTreeMap<ProcessKey, usize> =
        incident.subjects.iter().enumerate().map(|(at, subject)| (subject.process, at)).collect();
    let files: BTreeMap<&HostPath, usize> =
        incident.objects.iter().enumerate().map(|(at, object)| (&object.path, incident.subjects.len() + at)).collect();
    let mut by_path: BTreeMap<&HostPath, Vec<usize>> = BTreeMap::new();
    let mut by_process: BTreeMap<ProcessKey, Vec<usize>> = BTreeMap::new();
    for (at, finding) in incident.findings.iter().enumerate() {
        by_process.entry(finding.process).or_default().push(at);
        for path in finding.paths.iter().take(FOUND_PATHS_MAX) {
            by_path.entry(path).or_default().push(at);
        }
    }
    let critical = |critical: bool| if critical { Rank::Itself } else { Rank::Other };
    let mut items = Vec::new();
    for subject in &incident.subjects {
        let through = subject.through.as_ref().and_then(|path| files.get(path)).copied();
        let what = Shown::Process {
            process: subject.process,
            program: subject.program.clone(),
            cmd_line: subject.cmd_line.clone(),
            uid: subject.uid,
        };
        let findings = by_process.get(&subject.process).cloned().unwrap_or_default();
        items.push(Item {
            what,
            state: states.process(subject),
            rank: critical(!findings.is_empty()),
            findings,
            from: through.or_else(|| processes.get(&subject.by).copied()),
            link: Link::Started,
            order: (Kind::Process, subject.process.start_time),
        });
    }
    for object in &incident.objects {
        let state = states.file(&object.path);
        let findings = by_path.get(&object.path).cloned().unwrap_or_default();
        items.push(Item {
            what: Shown::File { path: object.path.clone(), class: object.class },
            state,
            rank: critical(!findings.is_empty() || state.waits() || is_foothold(&object.path)),
            findings,
            from: processes.get(&object.by).copied(),
            link: match object.deed {
                Deed::Created => Link::Created,
                Deed::Changed => Link::Changed,
                Deed::Removed => Link::Removed,
            },
            order: (Kind::File, Timestamp::default()),
        });
    }
    for secret in &incident.secrets {
        items.push(Item {
            what: Shown::Secret { path: secret.path.clone() },
            state: State::Left,
            rank: Rank::Itself,
            findings: Vec::new(),
            from: processes.get(&secret.process).copied(),
            link: Link::Read,
            order: (Kind::Secret, secret.time),
        });
    }
    for peer in &incident.contacts {
        let (endpoint, traffic) = (&peer.contact.endpoint, peer.contact.traffic);
        items.push(Item {
            what: Shown::Peer {
                endpoint: endpoint.clone(),
                inbound: peer.contact.inbound,
                sent: traffic.sent,
                received: traffic.received,
            },
            state: states.peer(endpoint.ip),
            rank: critical(is_elsewhere(endpoint.ip)),
            findings: Vec::new(),
            from: processes.get(&peer.process).copied(),
            link: Link::Talked,
            order: (Kind::Peer, Timestamp::default()),
        });
    }
    items
}

/// Whatever came by itself in the end came by the root: who wrote a file may have been made by running it.
fn break_circles(items: &mut [Item]) {
    let mut seen = vec![usize::MAX; items.len()];
    for start in 0..items.len() {
        let mut at = start;
        while seen[at] == usize::MAX {
            seen[at] = start;
            match items[at].from {
                Some(next) if seen[next] == start => items[at].from = None,
                Some(next) => at = next,
                None => {}
            }
        }
    }
}

/// Who stands above something critical is critical, and so is who stands above an object.
fn rank(items: &mut [Item]) {
    let own: Vec<(Rank, bool)> =
        items.iter().map(|item| (item.rank, matches!(item.what, Shown::File { .. }))).collect();
    for (start, (rank, file)) in own.into_iter().enumerate() {
        let least = match (rank, file) {
            (Rank::Itself, _) => Rank::Above,
            (_, true) => Rank::OnTheWay,
            _ => continue,
        };
        let mut next = items[start].from;
        // Who has the rank already has given it to all above.
        while let Some(at) = next
            && items[at].rank > least
        {
            items[at].rank = least;
            next = items[at].from;
        }
    }
}
