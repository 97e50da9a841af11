// SPDX-License-Identifier: Apache-2.0
//! Detectors: each looks once at every event and claims what it knows.
//!
//! Input: an event, who is behind it ([`Lineage`]), what the configuration says ([`Context`]). Output: [`Finding`]s.
//! A detector knows classes of paths and the behaviour of Linux, never the names of an attack.

use crate::event::{Event, Finding, User};
use crate::id::ProcessKey;
use crate::incident::InvocationKind;
use crate::input::Configuration;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// What a detector may ask about the past. The graph answers. Must be cheap: a detector asks on the hot path.
pub trait Lineage {
    /// The process as last seen, also for a while after its end.
    fn process(&self, key: ProcessKey) -> Option<Seen<'_>>;
    /// The invocation that the process belongs to.
    fn invocation(&self, key: ProcessKey) -> Option<Invocation<'_>>;
    /// The process, or the root of its invocation, belongs to an incident or carries a finding of Medium or more.
    fn is_suspect(&self, key: ProcessKey) -> bool;
}

/// A process as the graph remembers it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub parent: ProcessKey,
    pub program: Option<&'a HostPath>,
    pub user: User,
    pub unit: Option<&'a str>,
}

/// What started the work that a process does.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    pub kind: &'a InvocationKind,
    pub leader: ProcessKey,
    /// Who logged in: the audit login uid, else the user that the session was opened for. `None` where nobody did.
    pub login: Option<u32>,
}

/// What the configuration and the people say at this instant.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub configuration: &'a Configuration,
    /// `thymus change begin` is open.
    pub change_window: bool,
}

/// Every detector, in order, with what it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detectors {}

impl Detectors {
    /// Looks once at `event`; `lineage` knows it already. New findings carry their final ids, starting at 1.
    pub fn observe(&mut self, event: &Event, lineage: &dyn Lineage, context: &Context<'_>, out: &mut Vec<Finding>) {
        let _ = (event, lineage, context, out);
    }
}

/// In whose name a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Authority {
    /// A change window is open, and the actor is not suspect.
    ChangeWindow,
    /// The login session of a named administrator that is not suspect.
    Administrator,
    /// Below a package manager or configuration tool, outside any suspect session.
    ChangeTool,
    /// Work that the system starts by itself as root: a unit, a timer, a cron line, none of them suspect.
    Machinery,
    /// Nobody who may change the host.
    Nobody,
}

impl Authority {
    /// People or tools that may change the host.
    #[must_use]
    pub const fn is_authorised(self) -> bool {
        match self {
            Self::ChangeWindow | Self::Administrator | Self::ChangeTool => true,
            Self::Machinery | Self::Nobody => false,
        }
    }
}

/// In whose name `process` acts.
#[must_use]
pub fn authority(process: ProcessKey, lineage: &dyn Lineage, context: &Context<'_>) -> Authority {
    let _ = (process, lineage, context);
    Authority::Nobody
}
