// SPDX-License-Identifier: Apache-2.0
//! Files that are one database together: one of them put back without the others makes it none.
//!
//! Input: a path. Output: its companions; for a server's own directory, who wrote there. Sources:
//! <https://sqlite.org/tempfiles.html>, and where Debian's packages keep their data.

use super::{Graph, InvocationId};
use crate::id::{ProcessKey, Timestamp};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// What SQLite adds to a database's name.
const COMPANIONS: [&[u8]; 3] = [b"-wal", b"-journal", b"-shm"];
/// Everything below is one database.
const SERVERS: [&[u8]; 8] = [
    b"/var/lib/postgresql",
    b"/var/lib/mysql",
    b"/var/lib/mongodb",
    b"/var/lib/redis",
    b"/var/lib/ldap",
    b"/var/lib/influxdb",
    b"/var/lib/elasticsearch",
    b"/var/lib/rabbitmq",
];
/// LIMIT: writers remembered of one server's directory; of more, the one that was told of the longest ago is forgotten, and what
/// it may have written since counts as somebody's.
const WRITERS_MAX: usize = 32;

/// Who wrote to one server's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Last told of last.
    pub(crate) writers: Vec<Writer>,
    /// Until when those that are forgotten may have written: for ever, where one still ran.
    pub(crate) forgotten_until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Writer {
    pub(crate) process: ProcessKey,
    pub(crate) invocation: InvocationId,
    /// When it was last told to have written.
    pub(crate) until: Timestamp,
}

/// The other files of the SQLite database that `path` would be part of.
pub(crate) fn companions(path: &HostPath) -> impl Iterator<Item = HostPath> {
    let bytes = path.as_bytes();
    let own = COMPANIONS.iter().find_map(|suffix| bytes.strip_suffix(*suffix)).unwrap_or(bytes);
    let all = std::iter::once(own.to_vec()).chain(COMPANIONS.map(|suffix| [own, suffix].concat()));
    all.map(|name| HostPath::new(&name)).filter(move |name| name != path)
}

fn server(path: &HostPath) -> Option<usize> {
    SERVERS.iter().position(|tree| path.is_within(tree))
}

impl Graph {
    pub(super) fn note_database(
        &mut self,
        path: &HostPath,
        (process, invocation): (ProcessKey, InvocationId),
        until: Timestamp,
    ) {
        let Some(tree) = server(path) else { return };
        let server = self.databases.entry(tree).or_default();
        server.writers.retain(|writer| writer.process != process);
        if server.writers.len() >= WRITERS_MAX {
            let oldest = server.writers.remove(0);
            let runs = self.processes.get(&oldest.process).is_some_and(super::ProcessNode::alive);
            server.forgotten_until = server.forgotten_until.max(if runs { Timestamp(u64::MAX) } else { oldest.until });
            self.counters.database_writers_forgotten += 1;
        }
        server.writers.push(Writer { process, invocation, until });
    }

    /// Who wrote to the database server's directory that `path` is in.
    pub(crate) fn database_server(&self, path: &HostPath) -> Option<&Server> {
        server(path).and_then(|tree| self.databases.get(&tree))
    }
}
