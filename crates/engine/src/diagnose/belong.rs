// SPDX-License-Identifier: Apache-2.0
//! What the graph says about one process or writer: whether it belongs to a confirmed attack, to which, and why.
//!
//! Input: the graph with its marks. Output: an incident and the reason in words. Nothing is marked here.

use crate::graph::{Graph, Hub, Invocation, InvocationId, ProcessNode};
use crate::id::{IncidentId, ProcessKey};
use crate::path::HostPath;

/// Why a process belongs to an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) words: String,
    /// Whose doing it is; `None`: see who forked it.
    pub(crate) by: Option<ProcessKey>,
    /// The file by which it came about: what it ran, or what started it.
    pub(crate) through: Option<HostPath>,
}

impl From<String> for Reason {
    fn from(words: String) -> Self {
        Self { words, by: None, through: None }
    }
}

/// A process by its program and number, for people.
pub(crate) fn named(graph: &Graph, key: ProcessKey) -> String {
    match graph.process(key).and_then(|node| node.exe.as_ref()) {
        Some(exe) => format!("`{exe}` (pid {})", key.pid),
        None => format!("pid {}", key.pid),
    }
}

/// Whether what this writer left behind belongs to the attack; also when the writer itself is forgotten.
pub(crate) fn is_attack(graph: &Graph, writer: ProcessKey, invocation: InvocationId) -> bool {
    match graph.process(writer) {
        Some(node) => node.subject.is_some(),
        None => graph.invocation(invocation).is_some_and(|found| found.subject.is_some()),
    }
}

/// Why this process belongs to a confirmed attack, and to which; `None` when it does not.
fn belongs(graph: &Graph, node: &ProcessNode) -> Option<(IncidentId, Reason)> {
    let incident_of = |writer: ProcessKey, invocation: InvocationId| {
        let process = graph.process(writer).map(|node| node.subject);
        process.unwrap_or_else(|| graph.invocation(invocation).and_then(|found| found.subject))
    };
    let invocation = graph.invocation(node.invocation);
    if let Some(parent) = graph.process(node.parent)
        && parent.key != node.key
        && parent.invocation == node.invocation
        && let Some(incident) = parent.subject
    {
        let words = format!("child of {}", named(graph, parent.key));
        return Some((incident, Reason { by: Some(parent.key), ..words.into() }));
    }
    for executed in &node.ran {
        if let Some(incident) = incident_of(executed.writer, executed.invocation) {
            let writer = named(graph, executed.writer);
            let words = format!("ran `{}`, written by {writer}", executed.path);
            let (by, through) = (Some(executed.writer), Some(executed.path.clone()));
            return Some((incident, Reason { words, by, through }));
        }
    }
    let invocation: &Invocation = invocation?;
    if let Some(incident) = invocation.subject {
        return Some((incident, format!("in {}", invocation.title()).into()));
    }
    let (writer, id) = invocation.origin_writer?;
    let incident = incident_of(writer, id)?;
    let through = invocation.origin.as_ref().map(|origin| origin.path.clone());
    let origin = through.as_ref().map(ToString::to_string).unwrap_or_default();
    let words = format!("started by `{origin}`, written by {}", named(graph, writer));
    Some((incident, Reason { words, by: Some(writer), through }))
}

/// The incident that this process belongs to by what the graph says, although it is not marked yet.
pub(crate) fn incident_of(graph: &Graph, ours: &[ProcessKey], key: ProcessKey) -> Option<(IncidentId, Reason)> {
    let node = graph.process(key)?;
    if ours.contains(&key) || node.hub == Some(Hub::Manager) {
        return None;
    }
    match node.subject {
        Some(_) => None,
        None => belongs(graph, node),
    }
}
