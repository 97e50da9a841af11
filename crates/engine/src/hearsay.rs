// SPDX-License-Identifier: Apache-2.0
//! What logs say. Somebody wrote it; nobody saw it.
//!
//! Input: a line of a log, as a parser read it. Output: words for people, beside what the kernel saw.
//! INVARIANT: a type of its own, which no detector is shown and no search follows: whoever can write a line (and everybody
//! can: syslog(3), a user name, a path that is asked for) moves nothing by it. Compare CVE-2013-2178.

use crate::event::Endpoint;
use crate::id::Timestamp;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// LIMIT: bytes of one text of a line; what is longer is cut by whoever reads the log.
pub const TEXT_BYTES_MAX: usize = 256;
/// LIMIT: bytes of the line itself that are kept with it.
pub const RAW_BYTES_MAX: usize = 512;

/// One line. Every text in it may be anybody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hearsay {
    /// Who read it, such as `sshd`.
    pub parser: String,
    /// The log.
    pub source: HostPath,
    /// Its own time, as written.
    pub original_time: Option<String>,
    /// Whom it is about; port 0: not said.
    pub src_endpoint: Option<Endpoint>,
    pub said: Said,
    /// The line, made harmless, at most [`RAW_BYTES_MAX`] bytes.
    pub raw_data: String,
}

/// What it says, by OCSF class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// Class 3002.
    Authentication(Login),
    /// Class 4002.
    Http(Request),
    /// Class 0: anything else.
    Other { message: String },
}

/// Somebody tried to come in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub success: bool,
    pub user: Option<String>,
    /// Such as `publickey`.
    pub method: Option<String>,
    /// Such as `ED25519`.
    pub key_type: Option<String>,
    /// Such as `SHA256:…`.
    pub fingerprint: Option<String>,
}

/// Somebody asked a web server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub http_method: Option<String>,
    /// With what follows a `?`.
    pub path: Option<String>,
    pub status: Option<u16>,
    /// As whom, where the server asked for a password.
    pub user: Option<String>,
    pub user_agent: Option<String>,
    /// Why it failed, of a log of errors.
    pub message: Option<String>,
}

/// How a line was found to be about an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Join {
    /// Same address and port as the connection that the kernel saw.
    Connection,
    /// Same address, at that time; one of so many requests from there.
    Address { candidates: u32 },
}

/// What a log says about an invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// When the line was read.
    pub time: Timestamp,
    pub parser: String,
    pub source: HostPath,
    pub join: Join,
    pub said: Said,
}

/// The same, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testimony {
    /// Such as "login session of uid 1001 from 192.0.2.7".
    pub about: String,
    pub heard: Heard,
}
