// SPDX-License-Identifier: Apache-2.0
//! What is left of an attack at a path, once all that happened there is added up.
//!
//! Input: a path's writes, oldest first. Output: a [`Net`]: from which version it can be put back, and what others
//! wrote since. Pure: the same graph and configuration give the same answer.

use super::is_attack;
use crate::action::Authored;
use crate::detect::is_history;
use crate::graph::{FileNode, Graph, ProcessNode, Write, companions};
use crate::id::VersionId;
use crate::incident::ObjectClass;
use crate::input::Configuration;
use crate::path::HostPath;

/// What is left of the attack at a path, once all that happened there is added up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Net {
    /// As it was before.
    Nothing,
    /// Written and not closed yet: no state to work from.
    Pending,
    /// Only the attack made it.
    Created {
        expected: VersionId,
    },
    /// It was there before, or others share it.
    Changed {
        base: VersionId,
        later: Vec<Authored>,
        class: ObjectClass,
    },
    Unprotected,
    /// Part of a database that others wrote too; why, in words, and the versions that a person may want to see.
    Entangled {
        why: String,
        base: VersionId,
        later: Vec<Authored>,
    },
    /// Cannot be put back from what the vault has; in words.
    Unknown(String),
}

impl Net {
    pub(super) const fn class(&self) -> Option<ObjectClass> {
        match self {
            Self::Created { .. } => Some(ObjectClass::AttackOnly),
            Self::Changed { class, .. } => Some(*class),
            Self::Unprotected => Some(ObjectClass::Unprotected),
            Self::Entangled { .. } => Some(ObjectClass::Mixed),
            Self::Nothing | Self::Pending | Self::Unknown(_) => None,
        }
    }
}

pub(crate) fn classify(graph: &Graph, configuration: &Configuration, path: &HostPath, file: &FileNode) -> Net {
    let net = alone(graph, configuration, path, file);
    let why = match &net {
        Net::Created { .. } => shared_database(graph, path),
        Net::Changed { class: ObjectClass::AttackOnly | ObjectClass::Mixed, .. } => {
            shared_database(graph, path).or_else(|| shared_server(graph, path, file))
        }
        _ => None,
    };
    let Some(why) = why.map(|why| format!("{why}: a database is put back as a whole or not at all")) else {
        return net;
    };
    match net {
        Net::Created { expected } => {
            Net::Entangled { why, base: VersionId::UNKNOWN, later: vec![Authored { version: expected, attack: true }] }
        }
        Net::Changed { base, later, .. } => Net::Entangled { why, base, later },
        other => other,
    }
}

/// Why `path` is part of an SQLite database that others wrote too since the attack first wrote a file of it.
fn shared_database(graph: &Graph, path: &HostPath) -> Option<String> {
    let known = |path: HostPath| graph.file(&path).map(|file| (path, file));
    let mut files: Vec<(HostPath, &FileNode)> = companions(path).filter_map(known).collect();
    if files.is_empty() {
        return None;
    }
    files.extend(known(path.clone()));
    let of_attack = |write: &&Write| is_attack(graph, write.writer, write.invocation);
    let began = files.iter().flat_map(|(_, file)| &file.writes).filter(of_attack).map(|write| write.since).min()?;
    let mut by_others = files.iter().filter(|(_, file)| {
        let since = |write: &&Write| write.pending || write.until >= began;
        file.writes.iter().filter(since).any(|write| !of_attack(&write))
    });
    by_others.next().map(|(other, _)| format!("others wrote `{other}` too"))
}

/// Why `path` is part of a database server's files that the server went on to write.
fn shared_server(graph: &Graph, path: &HostPath, file: &FileNode) -> Option<String> {
    let is_of_attack = |write: &&Write| is_attack(graph, write.writer, write.invocation);
    let began = file.writes.iter().find(is_of_attack)?.since;
    let server = graph.database_server(path)?;
    let alive = |key| graph.process(key).is_some_and(ProcessNode::alive);
    let mut others = server.writers.iter().filter(|writer| writer.until >= began || alive(writer.process));
    let other = others.find(|writer| !is_attack(graph, writer.process, writer.invocation));
    let who = match other.map(|writer| graph.process(writer.process).and_then(|node| node.exe.as_ref())) {
        Some(Some(program)) => format!("`{program}`"),
        Some(None) => "others".to_owned(),
        None if server.forgotten_until >= began => "whoever is forgotten".to_owned(),
        None => return None,
    };
    Some(format!("{who} writes to the same database"))
}

fn alone(graph: &Graph, configuration: &Configuration, path: &HostPath, file: &FileNode) -> Net {
    let attack: Vec<bool> = file.writes.iter().map(|write| is_attack(graph, write.writer, write.invocation)).collect();
    let Some(first) = attack.iter().position(|attack| *attack) else { return Net::Nothing };
    let last_attack = attack.iter().rposition(|attack| *attack).unwrap_or(first);
    let write = &file.writes[first];
    let recorded = file.writes[first..]
        .iter()
        .zip(&attack[first..])
        .any(|(write, attack)| *attack && write.last != VersionId::UNKNOWN);
    if !recorded {
        let kept = configuration.protected.iter().any(|tree| path.is_within(tree.as_bytes()));
        let open = file.writes.iter().zip(&attack).any(|(write, attack)| *attack && write.pending);
        return match (kept && open, write.created && !file.present()) {
            (true, _) => Net::Pending,
            (false, true) => Net::Nothing,
            (false, false) => Net::Unprotected,
        };
    }
    let earlier = first.checked_sub(1).map(|at| file.writes[at].last).unwrap_or_default();
    let base = if write.before == VersionId::UNKNOWN { earlier } else { write.before };
    let absent = write.created;
    let mixed = attack[first..].iter().any(|attack| !attack);
    // No daemon keeps a shell's history open: who wrote to it closed it, so where that was the attack alone nothing came between.
    let alone = is_history(path) && !mixed;
    let log = !alone && configuration.append_only.iter().any(|glob| matches(glob.as_bytes(), path.as_bytes()));
    if absent && !file.present() {
        return Net::Nothing;
    }
    // The attack's own file was taken away, and what stands there now is somebody else's.
    if absent && file.writes[last_attack..].iter().any(|write| write.removed) {
        return Net::Nothing;
    }
    if absent && !mixed {
        let expected = file.writes.iter().rev().map(|write| write.last).find(|last| *last != VersionId::UNKNOWN);
        return Net::Created { expected: expected.unwrap_or_default() };
    }
    if !absent && base == VersionId::UNKNOWN {
        return Net::Unknown("the vault has no state of it from before the attack".to_owned());
    }
    let mut later: Vec<Authored> = Vec::new();
    let mut add = |version: VersionId, attack: bool| {
        match later.iter_mut().rev().find(|known| known.version == version) {
            _ if version == VersionId::UNKNOWN => {}
            Some(same) => same.attack |= attack, // two processes wrote what one close recorded
            None => later.push(Authored { version, attack }),
        }
    };
    for (write, attack) in file.writes[first..].iter().zip(&attack[first..]) {
        if log && *attack && write.before != base {
            add(write.before, false); // what daemons that never close it wrote until the attack cut it once more
        }
        add(write.last, *attack);
    }
    if log {
        later.sort_by_key(|authored| authored.version); // a close records what several wrote, after what was there before it
    }
    let class = match (log, mixed) {
        (true, _) => ObjectClass::Log,
        (false, true) => ObjectClass::Mixed,
        (false, false) => ObjectClass::AttackOnly,
    };
    Net::Changed { base: if absent { VersionId::UNKNOWN } else { base }, later, class }
}

/// Glob over a whole path: `*` stands for any bytes of one component.
pub(crate) fn matches(glob: &[u8], path: &[u8]) -> bool {
    let (mut g, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while p < path.len() {
        if glob.get(g) == Some(&b'*') {
            retry = Some((g + 1, p));
            g += 1;
        } else if glob.get(g) == Some(&path[p]) {
            g += 1;
            p += 1;
        } else if let Some((after, from)) = retry.filter(|(_, from)| path[*from] != b'/') {
            retry = Some((after, from + 1));
            g = after;
            p = from + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}
