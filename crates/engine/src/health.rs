// SPDX-License-Identifier: Apache-2.0
//! What the agent's probes say of the services that it looks after, and of what they all live from.
//!
//! An input of its own, not an event: like [`Proven`](crate::Input::Proven) it answers our own question. What the engine
//! concludes from it is an event (a finding, an incident) like any other.

use crate::action::Packaged;
use crate::input::Check;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// LIMIT: lines of a log in one answer, and bytes of each.
pub const LOG_LINES_MAX: usize = 6;
pub const LOG_LINE_BYTES_MAX: usize = 240;
/// LIMIT: paths that one service is made of.
pub const WATCHES_MAX: usize = 32;
/// LIMIT: files of packages named that are not as they were shipped.
pub const PACKAGED_MAX: usize = 64;
/// LIMIT: files named that may be freed.
pub const FREEABLE_MAX: usize = 256;

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Health {
    Service(Box<Service>),
    Disk(Disk),
    Firewall(Firewall),
    Certificate(Certificate),
}

impl Health {
    /// Whose health it is: a unit's name, `disk PATH`, `firewall`, `certificate PATH`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Service(service) => service.unit.clone(),
            Self::Disk(disk) => format!("disk {}", disk.path),
            Self::Firewall(_) => "firewall".to_owned(),
            Self::Certificate(certificate) => format!("certificate {}", certificate.path),
        }
    }
}

/// A unit, as its service manager and its probes have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Such as `nginx.service`.
    pub unit: String,
    /// Named in the configuration; otherwise it was learned.
    pub declared: bool,
    /// `active`, `inactive`, `failed`, `activating`, … and the finer `running`, `auto-restart`, …
    pub active: String,
    pub sub: String,
    /// Why it ended: `success`, `exit-code`, `signal`, `start-limit-hit`, …
    pub result: String,
    /// Exit status or signal of the main process that ended last.
    pub status: i32,
    /// How often the service manager has started it again by itself.
    pub restarts: u32,
    /// Differs whenever it was started, stopped or reloaded in between.
    pub turn: u64,
    /// Its programs, its unit files, then its declared configuration (files or trees); at most [`WATCHES_MAX`].
    pub watches: Vec<HostPath>,
    /// Programs that are not there.
    pub missing: Vec<HostPath>,
    /// Every probe with its answer.
    pub probes: Vec<Check>,
    /// What the declared test says of the configuration; asked only while the service is not well.
    pub test: Option<Check>,
    /// The last lines of its log, oldest first; read only while it is not well. At most [`LOG_LINES_MAX`].
    pub log: Vec<String>,
    /// What it is made of that is not as its package ships it, and of which an archive is there; looked for only while it
    /// is not well. A directory comes before what is in it. At most [`PACKAGED_MAX`].
    #[serde(default)]
    pub packaged: Vec<Packaged>,
}

/// Room on a file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    pub path: HostPath,
    /// Bytes that an ordinary user may still write.
    pub free_bytes: u64,
    /// Below that it is full.
    pub least_bytes: u64,
    /// Files that may be freed, by declaration, oldest first, with their bytes; looked for only when it is full.
    pub freeable: Vec<(HostPath, u64)>,
}

/// The packet filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Firewall {
    /// The file that it is loaded from.
    pub path: HostPath,
    /// Rules in force now, and in the file.
    pub rules: u64,
    pub wanted: u64,
}

/// A certificate that a service shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The file that it is loaded from.
    pub path: HostPath,
    pub unit: String,
    /// The one that is shown has expired; `None`: nobody answered.
    pub shown_expired: Option<bool>,
    /// The one in the file has expired.
    pub file_expired: bool,
    /// A command that renews it is declared.
    pub renewable: bool,
}
