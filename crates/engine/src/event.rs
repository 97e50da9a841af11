// SPDX-License-Identifier: Apache-2.0
//! The OCSF vocabulary that Thymus uses, defined once. Field names are the standard's own where it has one.
//!
//! What we see, what we conclude and what we did are one type in one stream.

use crate::action::{Action, Outcome};
use crate::hearsay::Hearsay;
use crate::id::{ActionId, EventId, FileKey, FindingId, IncidentId, ProcessKey, Timestamp, VersionId};
use crate::incident::Stage;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// A fact about the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    /// When it happened, by the kernel's boot clock.
    pub time: Timestamp,
    pub activity: Activity,
}

/// One variant an OCSF class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Activity {
    /// Class 1007.
    Process(ProcessActivity),
    /// Class 1001.
    File(FileActivity),
    /// Class 1001, activity 3: what a change made of a content, told once it was read.
    Content(Content),
    /// Class 4001.
    Network(NetworkActivity),
    /// Class 3002.
    Authentication(Authentication),
    /// Events that a sensor lost, tied to a time: class 0, Base Event.
    Loss(Loss),
    /// Class 2004, Detection Finding.
    Finding(Finding),
    /// Class 2005, Incident Finding: an incident changed its stage.
    Incident(IncidentFinding),
    /// Class 7001, Remediation Activity: what we did.
    Remediation(Remediation),
    /// What a log says: class 3002, 4002 or 0, of which nothing but words follows.
    Hearsay(Box<Hearsay>),
}

/// OCSF Process Activity (class 1007).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessActivity {
    pub activity: ProcessActivityId,
    /// Who did it: the parent of a fork, the process itself of an exec or a credential change.
    pub actor: ProcessKey,
    /// The process as it is *after* the activity.
    pub process: Process,
    /// Wait status as of `waitpid(2)`; only with `Terminate`.
    pub exit_code: Option<i32>,
}

/// OCSF `activity_id` of class 1007, with `launch_type_id` for launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProcessActivityId {
    /// 1, launch type 2: a process was forked (not a thread).
    Fork,
    /// 1, launch type 3: a process replaced its program.
    Exec,
    /// 2: the whole thread group ended.
    Terminate,
    /// 4: a process took control of another (`ptrace`, `process_vm_writev`).
    Inject,
    /// 5: real, effective or file-system user changed.
    SetUserId,
    /// 0: known from before the agent started (read from /proc).
    Inventory,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pub key: ProcessKey,
    pub parent: ProcessKey,
    /// The running program. `None` for kernel threads and where it could not be read.
    pub file: Option<File>,
    /// argv, at most [`ARGUMENTS_MAX`] of [`ARGUMENT_BYTES_MAX`] bytes together; empty after a fork.
    pub cmd_line: Vec<String>,
    pub working_directory: Option<HostPath>,
    /// As the guarded host's own users see it (not shifted by a user namespace).
    pub user: User,
    /// systemd unit that the process's cgroup names, such as `ssh.service` or `session-3.scope`.
    pub unit: Option<String>,
    /// Bit N set: descriptor N (0, 1, 2) is an IPv4 or IPv6 stream socket.
    pub socket_stdio: u8,
    /// The program has no name any more: memfd, or unlinked before it was run.
    pub fileless: bool,
    /// Set on the first program of an invocation: what on disk caused it to run
    /// (the crontab line, the unit file, the authorized key).
    pub origin: Option<Origin>,
    /// Peer of a login session's connection; set on the session's first program.
    pub src_endpoint: Option<Endpoint>,
}

/// LIMIT: arguments kept of one command line.
pub const ARGUMENTS_MAX: usize = 32;
/// LIMIT: bytes kept of one command line.
pub const ARGUMENT_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    /// The kernel's audit login uid: who logged in, whatever `su` and `sudo` did since. `u32::MAX` when never set.
    pub login_uid: u32,
}

/// What on disk made an invocation run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub path: HostPath,
    /// The version that brought the deciding line (or the file), 0 when it was there before.
    pub version: VersionId,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    pub ip: std::net::IpAddr,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub path: HostPath,
    pub key: FileKey,
}

/// OCSF File System Activity (class 1001).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileActivity {
    pub activity: FileActivityId,
    pub actor: ProcessKey,
    pub file: File,
    pub kind: FileKind,
    /// Rename: the new name. Link: the new name (`file` is the old one).
    pub file_result: Option<HostPath>,
    /// What the vault recorded of this change at `file.path`; `None` outside protected trees,
    /// and for activities that change nothing (`Open`, `Update` before the close).
    pub change: Option<Change>,
    /// What the vault recorded at `file_result`.
    pub change_result: Option<Change>,
    /// Mode bits (07777) and owner after the activity; `None` when the file was gone before it could be asked.
    pub mode: Option<Mode>,
    /// Where a symbolic link leads that was created: an absolute path, not followed any further.
    #[serde(default)]
    pub target: Option<HostPath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mode {
    pub bits: u16,
    pub uid: u32,
    pub gid: u32,
}

/// OCSF `activity_id` of class 1001, as far as we see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileActivityId {
    /// 1: a name came to be (create, mkdir, mknod, symlink).
    Create,
    /// 3: the first write of a process to a file since it opened it; nothing recorded yet.
    Update,
    /// 3: closed after writing; `change` names what the vault recorded.
    Close,
    /// 4: a name went away.
    Delete,
    /// 5: `file` became `file_result`; what `file_result` was before is gone.
    Rename,
    /// 6: mode, owner, times.
    SetAttributes,
    /// 7: extended attributes (ACL, capabilities).
    SetSecurity,
    /// 14: opened for writing.
    Open,
    /// 2: opened for reading; told of secrets alone.
    Read,
    /// 99: hard link; `file_result` is the new name.
    Link,
    /// 3: cut off or lengthened by its path (`truncate(2)`), opened by nobody; `change` names what the vault recorded.
    Truncate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileKind {
    #[default]
    Regular,
    Directory,
    Symlink,
    Other,
}

/// A path went from one recorded state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// State before; [`VersionId::UNKNOWN`] when the vault never had it.
    pub before: VersionId,
    /// The path did not exist before.
    pub created: bool,
    /// State after. Its content is captured soon after the event, not necessarily before it.
    pub after: VersionId,
    /// The path does not exist any more.
    pub removed: bool,
}

/// What a recorded change made of a regular file's content. Told where the content lost its form, and only there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Who wrote the version.
    pub actor: ProcessKey,
    pub path: HostPath,
    pub version: VersionId,
    /// Owner of the file.
    pub uid: u32,
    /// Of the state before at this path; `None`: there was none, or it is not known.
    pub before: Option<Shape>,
    pub after: Shape,
}

/// What samples of a content look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub form: Form,
    /// Shannon entropy of the sampled bytes, thousandths of a bit per byte, 0..=8000.
    pub entropy: u16,
    /// Bytes of the whole content.
    pub size: u64,
}

/// What a content is, by its first bytes and its entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Form {
    /// No bytes at all.
    Empty,
    /// One value throughout: overwritten, or never filled.
    Blank,
    Text,
    /// Archives and compressed streams that say so.
    Packed,
    Image,
    /// Sound and film.
    Media,
    /// Office documents, PDF, fonts.
    Document,
    Database,
    /// Programs, libraries, byte code.
    Program,
    /// Encrypted by a tool that says so.
    Sealed,
    /// No form that we know, and order in its bytes.
    Data,
    /// No form that we know, and no order: encrypted, or random.
    Opaque,
}

/// OCSF Network Activity (class 4001): a connection of TCP, or a listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkActivity {
    pub activity: NetworkActivityId,
    /// Who connected, accepted or listened, also when another process has the socket by now.
    pub actor: ProcessKey,
    /// It was accepted, or is listened on.
    pub inbound: bool,
    /// Port 0: none was chosen yet.
    pub local: Endpoint,
    /// `None`: a listener.
    pub remote: Option<Endpoint>,
    /// What went over it; only with the end of a connection.
    pub traffic: Option<Traffic>,
    /// It was there before the agent looked.
    #[serde(default)]
    pub before: bool,
}

/// OCSF `activity_id` of class 4001, as far as we see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NetworkActivityId {
    /// 1: a connection stands.
    Open,
    /// 2: a connection or a listener ended, in whatever way.
    Close,
    /// 4: nobody answered, or there is no way there.
    Fail,
    /// 5: nobody listens there.
    Refuse,
    /// 7: a program waits for connections.
    Listen,
}

/// Bytes of content, as the host's own end counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Traffic {
    pub received: u64,
    pub sent: u64,
}

/// OCSF Authentication (class 3002).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Authentication {
    /// Logon (1) or Logoff (2).
    pub logon: bool,
    /// The process that leads the session: sshd's child, `su`, `sudo`.
    pub session: ProcessKey,
    pub service: AuthService,
    /// Who came in, and as whom.
    pub actor_uid: Option<u32>,
    pub uid: u32,
    pub src_endpoint: Option<Endpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AuthService {
    Sshd,
    Su,
    Sudo,
    Login,
}

/// Events that were lost. They blind every detector between the two times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Such as `process/ringbuf`, `file/fanotify-overflow`, `vault/queue`.
    pub source: String,
    pub count: u64,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// OCSF Detection Finding (class 2004): a detector's claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub id: FindingId,
    /// Detector, such as `foothold/authorized-key`.
    pub analytic: String,
    /// ATT&CK technique, such as `T1098.004`.
    pub technique: String,
    pub title: String,
    pub confidence: Confidence,
    /// The event that decided it.
    pub event: EventId,
    /// Who did it.
    pub process: ProcessKey,
    /// What it was done to.
    pub paths: Vec<HostPath>,
}

/// OCSF `confidence_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Confidence {
    /// 1: shown, never acted upon by itself; counts once an incident is confirmed by others.
    Low,
    /// 2: two of these from different analytics on one root confirm it.
    Medium,
    /// 3: a deterministic rule; confirms alone.
    High,
}

/// OCSF Incident Finding (class 2005).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentFinding {
    pub incident: IncidentId,
    pub stage: Stage,
    /// Why, in words.
    pub message: String,
}

/// OCSF Remediation Activity (class 7001); `activity_id` is the D3FEND tactic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remediation {
    pub incident: IncidentId,
    pub action: ActionId,
    pub what: Action,
    pub outcome: Outcome,
}
