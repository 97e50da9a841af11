// SPDX-License-Identifier: Apache-2.0
//! Back from a finding: what may have caused it.
//!
//! Input: a process and the time at which it acted. Output: up to [`ROOTS_MAX`] hypotheses, best first, each with a
//! score. A cause is earlier than its effect; at most [`CAUSES_MAX`] are looked at, the weightiest first.

use crate::detect::{self, Context, Lineage};
use crate::graph::{Graph, InvocationId};
use crate::id::{ProcessKey, Timestamp};
use crate::incident::{InvocationKind, Root};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: root hypotheses of one incident. With six, none of 15 published attacks lost its true root (healing.md).
pub const ROOTS_MAX: usize = 6;
/// LIMIT: causes looked at in one search for roots.
pub const CAUSES_MAX: usize = 64;
/// LIMIT: ancestors looked at for one cause.
pub const LINEAGE_MAX: usize = 32;
/// A cause loses half of its weight in so many nanoseconds (one day).
const HALF_LIFE_NS: u64 = 86_400_000_000_000;

/// What an incident grows from: an invocation as a whole, or one branch of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Anchor {
    pub(crate) invocation: InvocationId,
    /// Only this process and what it started: a service does not belong to an attack because one worker does.
    pub(crate) branch: Option<ProcessKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hypothesis {
    pub(crate) anchor: Anchor,
    pub(crate) root: Root,
}

/// Where a search for roots stands.
struct Cause {
    process: Option<ProcessKey>,
    invocation: InvocationId,
    weight: f32,
    before: Timestamp,
}

/// Up to [`ROOTS_MAX`] hypotheses of what caused `process` to act at `time`, best first.
pub(crate) fn roots(graph: &Graph, context: &Context<'_>, process: ProcessKey, time: Timestamp) -> Vec<Hypothesis> {
    let invocation = graph.process(process).map(|node| node.invocation).unwrap_or_default();
    let mut open = vec![Cause { process: Some(process), invocation, weight: 1.0, before: time }];
    let mut found: BTreeMap<Anchor, Hypothesis> = BTreeMap::new();
    let mut seen: BTreeSet<Anchor> = BTreeSet::new();
    for _ in 0..CAUSES_MAX {
        let best = open.iter().enumerate().max_by(|(_, a), (_, b)| a.weight.total_cmp(&b.weight)).map(|(at, _)| at);
        let Some(cause) = best.map(|at| open.swap_remove(at)) else { break };
        let anchor = anchor_of(graph, cause.process, cause.invocation);
        if !seen.insert(anchor) {
            continue;
        }
        let earlier = causes(graph, context, &cause, anchor);
        let explained = earlier.iter().any(|earlier| earlier.weight > 0.5 * cause.weight);
        let hypothesis = hypothesis(graph, anchor, cause.process, cause.weight * if explained { 0.5 } else { 1.0 });
        found.insert(anchor, hypothesis);
        open.extend(earlier);
    }
    let mut found: Vec<Hypothesis> = found.into_values().collect();
    found.sort_by(|a, b| b.root.score.total_cmp(&a.root.score).then(a.anchor.cmp(&b.anchor)));
    found.truncate(ROOTS_MAX);
    found
}

/// Sessions, cron runs, requests and starts of units that someone wrote since we watch belong to the attack as a
/// whole; of a service that was there before, only the branch that acted does.
fn anchor_of(graph: &Graph, process: Option<ProcessKey>, id: InvocationId) -> Anchor {
    let whole = Anchor { invocation: id, branch: None };
    let Some(invocation) = graph.invocation(id) else { return Anchor { invocation: id, branch: process } };
    match invocation.kind {
        InvocationKind::Session | InvocationKind::Cron | InvocationKind::Request => whole,
        InvocationKind::Unit(_) if invocation.origin_writer.is_some() => whole,
        InvocationKind::Unit(_) | InvocationKind::Other => {
            let Some(process) = process else { return whole };
            let branch = graph
                .ancestors(process, LINEAGE_MAX)
                .take_while(|ancestor| ancestor.invocation == id && ancestor.key != invocation.leader)
                .filter(|ancestor| ancestor.hub.is_none())
                .last();
            Anchor { invocation: id, branch: Some(branch.map_or(process, |ancestor| ancestor.key)) }
        }
    }
}

fn causes(graph: &Graph, context: &Context<'_>, cause: &Cause, anchor: Anchor) -> Vec<Cause> {
    let mut earlier = Vec::new();
    let mut add = |writer: ProcessKey, invocation: InvocationId, time: Timestamp, weight: f32| {
        if invocation == cause.invocation && anchor.branch.is_none() {
            return;
        }
        let node = graph.process(writer);
        if node.is_some_and(|node| node.seen > cause.before) {
            return; // later than its effect
        }
        // Precise to some 2^-24, which is enough to rank; u64 to f32 has no exact conversion.
        let age = std::time::Duration::from_nanos(cause.before.since_ns(time)).as_secs_f32();
        let decay = 1.0 / (1.0 + age / std::time::Duration::from_nanos(HALF_LIFE_NS).as_secs_f32());
        let hub = if node.is_some_and(|node| node.hub.is_some()) { 0.3 } else { 1.0 };
        let authorised = if detect::authority(writer, graph, context).is_authorised() { 0.2 } else { 1.0 };
        let weight = cause.weight * weight * decay * hub * authorised;
        earlier.push(Cause { process: node.map(|node| node.key), invocation, weight, before: cause.before.min(time) });
    };
    if let Some(invocation) = graph.invocation(cause.invocation)
        && let Some((writer, id)) = invocation.origin_writer
    {
        add(writer, id, invocation.started, 0.95);
    }
    let Some(node) = cause.process.and_then(|key| graph.process(key)) else { return earlier };
    let lineage = graph.ancestors(node.key, LINEAGE_MAX).take_while(|ancestor| ancestor.invocation == node.invocation);
    let mut weight = 0.95;
    for member in std::iter::once(node).chain(lineage) {
        for executed in &member.ran {
            add(executed.writer, executed.invocation, member.executed.unwrap_or(member.seen), weight);
        }
        for actor in &member.injected_by {
            let id = graph.process(*actor).map(|node| node.invocation).unwrap_or_default();
            add(*actor, id, member.seen, 0.9 * weight);
        }
        weight *= 0.98;
    }
    earlier
}

fn hypothesis(graph: &Graph, anchor: Anchor, process: Option<ProcessKey>, weight: f32) -> Hypothesis {
    let Some(invocation) = graph.invocation(anchor.invocation) else {
        let leader = process.unwrap_or_default();
        let title = format!("process {}, of unknown origin", leader.pid);
        let root = Root { kind: InvocationKind::Other, leader, title, src_endpoint: None, score: 0.4 * weight };
        return Hypothesis { anchor, root };
    };
    let prior = match invocation.kind {
        InvocationKind::Session => 1.0,
        // What runs what another request left is not how somebody came in.
        InvocationKind::Request if graph.ran_from_request(invocation.leader).is_some() => 0.6,
        InvocationKind::Request => 0.95,
        InvocationKind::Cron => 0.8,
        InvocationKind::Unit(_) => 0.7,
        InvocationKind::Other => 0.5,
    };
    let root = Root {
        kind: invocation.kind.clone(),
        leader: anchor.branch.unwrap_or(invocation.leader),
        title: invocation.title(),
        src_endpoint: invocation.src_endpoint.clone(),
        score: (prior * weight).clamp(0.0, 1.0),
    };
    Hypothesis { anchor, root }
}
