// SPDX-License-Identifier: Apache-2.0
//! A tiny process that outlives the agent and ends every lease.
//!
//! Input: the lease table, a file that the agent writes and the warden reads. Output: SIGCONT to what has lapsed.
//! Invariants: the warden holds no descriptor but the table and its own pidfds; it ends when the agent is gone and no lease
//! is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use thymus_engine::{ActionId, ProcessKey, Timestamp};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} `{path}`")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the lease table holds {0} leases, its limit; nothing more can be suspended")]
    Full(usize),
}

/// Who is stopped, and until when. A cheap handle.
#[derive(Clone, Debug)]
pub struct Leases {
    path: Arc<PathBuf>,
}

impl Leases {
    /// Opens the table, taking over what an agent before left in it (of this boot).
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: Arc::new(path.to_owned()) })
    }

    /// Before the process is stopped. A lease that exists is prolonged.
    pub fn grant(&self, action: ActionId, process: ProcessKey, until: Timestamp) -> Result<(), Error> {
        let _ = (action, process, until, &self.path);
        Ok(())
    }

    /// After the process was continued or is gone.
    pub fn end(&self, process: ProcessKey) -> Result<(), Error> {
        let _ = process;
        Ok(())
    }

    /// Who is held under this action.
    #[must_use]
    pub fn of(&self, action: ActionId) -> Vec<ProcessKey> {
        let _ = action;
        Vec::new()
    }
}

/// The running warden, from the agent's side.
#[derive(Debug)]
pub struct Warden {
    pid: u32,
}

impl Warden {
    /// Starts `program warden TABLE` with nothing inherited. `program` is normally `/proc/self/exe`.
    pub fn start(program: &Path, table: &Path) -> Result<Self, Error> {
        let _ = (program, table);
        Ok(Self { pid: 0 })
    }

    /// Its pid, for the list of processes never to touch.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Starts it again when it has ended; call it about once a second. True when it had to be started.
    pub fn ensure(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
}

/// The warden's whole life: what the hidden subcommand `warden TABLE AGENT_PID` runs.
pub fn run(table: &Path, agent: u32) -> Result<(), Error> {
    let _ = (table, agent);
    Ok(())
}
