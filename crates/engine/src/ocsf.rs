// SPDX-License-Identifier: Apache-2.0
//! Events as OCSF JSON.
//!
//! Input: one [`Event`]. Output: one object of its class, valid by the vendored schema (`ocsf/schema.json`). What OCSF
//! has no place for stands in `unmapped`. Paths are text as `HostPath` displays them: one path, one line, no loss.

use crate::action::{Action, Extent, Outcome, Tactic};
use crate::event::{
    Activity, AuthService, Authentication, Change, Confidence, Content, Endpoint, Event, File, FileActivity,
    FileActivityId, FileKind, Finding, IncidentFinding, Loss, NetworkActivity, NetworkActivityId, Process,
    ProcessActivity, ProcessActivityId, Remediation, Shape, Traffic,
};
use crate::hearsay::{Hearsay, Login, Request, Said};
use crate::id::{ProcessKey, Timestamp};
use crate::incident::Stage;
use crate::path::HostPath;
use serde_json::{Map, Value, json};

/// Version of the OCSF schema.
pub const VERSION: &str = "1.9.0-dev";

/// Turns boot time into the times that OCSF wants, and says which host speaks.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Add to a boot-clock time to get Unix nanoseconds.
    pub boot_to_unix_ns: u64,
    /// Name of the guarded host.
    pub hostname: String,
}

impl Clock {
    /// Unix milliseconds; at most `i64::MAX`, which is what `timestamp_t` holds.
    #[must_use]
    pub fn unix_ms(&self, time: Timestamp) -> u64 {
        self.boot_to_unix_ns.saturating_add(time.0) / 1_000_000
    }
}

/// One event as an OCSF object, valid by the schema of [`VERSION`].
#[must_use]
pub fn to_ocsf(event: &Event, clock: &Clock) -> Value {
    let Class { class_uid, name, activity_id, activity_name, severity_id, attributes } = match &event.activity {
        Activity::Process(process) => of_process(process, clock),
        Activity::File(file) => of_file(file, clock),
        Activity::Content(content) => of_content(content, clock),
        Activity::Network(network) => of_network(network, clock),
        Activity::Authentication(login) => of_authentication(login, clock),
        Activity::Loss(loss) => of_loss(loss, clock),
        Activity::Finding(finding) => of_finding(finding, event, clock),
        Activity::Incident(incident) => of_incident(incident),
        Activity::Remediation(remediation) => of_remediation(remediation),
        Activity::Hearsay(line) => of_hearsay(line),
    };
    let mut object = attributes;
    for (key, value) in [
        ("class_uid", json!(class_uid)),
        ("class_name", json!(name)),
        ("category_uid", json!(class_uid / 1000)),
        ("activity_id", json!(activity_id)),
        ("activity_name", json!(activity_name)),
        ("type_uid", json!(u64::from(class_uid) * 100 + u64::from(activity_id))),
        ("severity_id", json!(severity_id)),
        ("time", json!(clock.unix_ms(event.time))),
        ("device", json!({ "hostname": clock.hostname, "type_id": 0 })),
        ("metadata", metadata(event)),
    ] {
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}

/// What differs from class to class.
struct Class {
    class_uid: u32,
    name: &'static str,
    activity_id: u8,
    activity_name: &'static str,
    severity_id: u8,
    attributes: Map<String, Value>,
}

const INFORMATIONAL: u8 = 1;
const LOW: u8 = 2;
const MEDIUM: u8 = 3;
const HIGH: u8 = 4;

fn metadata(event: &Event) -> Value {
    let mut profiles = vec!["host"];
    if matches!(event.activity, Activity::Incident(_)) {
        profiles.push("incident");
    }
    let line = match &event.activity {
        Activity::Hearsay(line) => Some(line),
        _ => None,
    };
    Value::Object(object(json!({
        "version": VERSION,
        "uid": event.id.0.to_string(),
        "profiles": profiles,
        "product": { "name": "Thymus", "vendor_name": "Thymus", "version": env!("CARGO_PKG_VERSION") },
        "log_name": line.map(|line| line.source.to_string()),
        "log_provider": line.map(|line| line.parser.clone()),
        "original_time": line.and_then(|line| line.original_time.clone()),
    })))
}

/// An object without the members that are null.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

fn of_process(activity: &ProcessActivity, clock: &Clock) -> Class {
    let (activity_id, activity_name, launch_type_id) = match activity.activity {
        ProcessActivityId::Fork => (1, "Launch", Some(2)),
        ProcessActivityId::Exec => (1, "Launch", Some(3)),
        ProcessActivityId::Terminate => (2, "Terminate", None),
        ProcessActivityId::Inject => (4, "Inject", None),
        ProcessActivityId::SetUserId => (5, "Set User ID", None),
        ProcessActivityId::Inventory => (0, "Unknown", None),
    };
    Class {
        class_uid: 1007,
        name: "Process Activity",
        activity_id,
        activity_name,
        severity_id: INFORMATIONAL,
        attributes: object(json!({
            "actor": actor(activity.actor, clock),
            "process": process(&activity.process, clock),
            "launch_type_id": launch_type_id,
            "exit_code": activity.exit_code,
            "unmapped": Value::Object(process_details(&activity.process)),
        })),
    }
}

fn of_file(activity: &FileActivity, clock: &Clock) -> Class {
    let (activity_id, activity_name) = match activity.activity {
        FileActivityId::Create => (1, "Create"),
        FileActivityId::Update | FileActivityId::Close | FileActivityId::Truncate => (3, "Update"),
        FileActivityId::Delete => (4, "Delete"),
        FileActivityId::Rename => (5, "Rename"),
        FileActivityId::SetAttributes => (6, "Set Attributes"),
        FileActivityId::SetSecurity => (7, "Set Security"),
        FileActivityId::Open => (14, "Open"),
        FileActivityId::Read => (2, "Read"),
        FileActivityId::Link => (99, "Link"),
    };
    let type_id = match activity.kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 7,
        FileKind::Other => 99,
    };
    let mut subject = file(&activity.file, type_id);
    if let Some(mode) = activity.mode {
        subject.insert("owner".to_owned(), json!({ "uid": mode.uid.to_string() }));
    }
    let gone = activity.change.is_some_and(|change| change.removed) || activity.activity == FileActivityId::Delete;
    subject.insert("is_deleted".to_owned(), json!(gone));
    Class {
        class_uid: 1001,
        name: "File System Activity",
        activity_id,
        activity_name,
        severity_id: INFORMATIONAL,
        attributes: object(json!({
            "actor": actor(activity.actor, clock),
            "file": subject,
            "file_result": activity.file_result.as_ref().map(|path| named(path, type_id)),
            "unmapped": object(json!({
                "mode": activity.mode.map(|mode| format!("{:04o}", mode.bits)),
                "gid": activity.mode.map(|mode| mode.gid),
                "closed": activity.activity == FileActivityId::Close,
                "change": activity.change.map(change),
                "change_result": activity.change_result.map(change),
            })),
        })),
    }
}

fn of_content(activity: &Content, clock: &Clock) -> Class {
    let shape =
        |shape: Shape| json!({ "form": format!("{:?}", shape.form), "entropy": shape.entropy, "size": shape.size });
    let mut subject = named(&activity.path, 1);
    subject.insert("owner".to_owned(), json!({ "uid": activity.uid.to_string() }));
    Class {
        class_uid: 1001,
        name: "File System Activity",
        activity_id: 3,
        activity_name: "Update",
        severity_id: INFORMATIONAL,
        attributes: object(json!({
            "actor": actor(activity.actor, clock),
            "file": subject,
            "unmapped": object(json!({
                "version": activity.version.0,
                "before": activity.before.map(shape),
                "after": shape(activity.after),
            })),
        })),
    }
}

fn of_network(activity: &NetworkActivity, clock: &Clock) -> Class {
    const SOURCE: u8 = 1;
    let (activity_id, activity_name) = match activity.activity {
        NetworkActivityId::Open => (1, "Open"),
        NetworkActivityId::Close => (2, "Close"),
        NetworkActivityId::Fail => (4, "Fail"),
        NetworkActivityId::Refuse => (5, "Refuse"),
        NetworkActivityId::Listen => (7, "Listen"),
    };
    let local = Some(endpoint(&activity.local));
    let remote = activity.remote.as_ref().map(endpoint);
    let (from, to) = if activity.inbound { (remote, local) } else { (local, remote) };
    let (direction_id, direction) = if activity.inbound { (1, "Inbound") } else { (2, "Outbound") };
    Class {
        class_uid: 4001,
        name: "Network Activity",
        activity_id,
        activity_name,
        severity_id: INFORMATIONAL,
        attributes: object(json!({
            "actor": actor(activity.actor, clock),
            "src_endpoint": from,
            "dst_endpoint": to,
            "connection_info": {
                "direction_id": direction_id,
                "direction": direction,
                "protocol_num": 6,
                "protocol_name": "tcp",
            },
            "initiator_id": SOURCE,
            // Out is away from the source, whoever that is.
            "traffic": activity.traffic.map(|Traffic { received, sent }| {
                let (bytes_out, bytes_in) = if activity.inbound { (received, sent) } else { (sent, received) };
                json!({ "bytes_in": bytes_in, "bytes_out": bytes_out, "bytes": received.saturating_add(sent) })
            }),
            "unmapped": object(json!({ "before": activity.before.then_some(true) })),
        })),
    }
}

fn of_authentication(login: &Authentication, clock: &Clock) -> Class {
    let (activity_id, activity_name) = if login.logon { (1, "Logon") } else { (2, "Logoff") };
    let service = match login.service {
        AuthService::Sshd => "sshd",
        AuthService::Su => "su",
        AuthService::Sudo => "sudo",
        AuthService::Login => "login",
    };
    Class {
        class_uid: 3002,
        name: "Authentication",
        activity_id,
        activity_name,
        severity_id: INFORMATIONAL,
        attributes: object(json!({
            "user": { "uid": login.uid.to_string() },
            "actor": object(json!({
                "process": identity(login.session, clock),
                "user": login.actor_uid.map(|uid| json!({ "uid": uid.to_string() })),
            })),
            "session": { "uid": uid_of(login.session) },
            "service": { "name": service },
            "status_id": 1,
            "is_remote": login.src_endpoint.is_some(),
            "src_endpoint": login.src_endpoint.as_ref().map(endpoint),
        })),
    }
}

/// What somebody wrote in a log; `unmapped.hearsay` says that nobody saw it.
fn of_hearsay(line: &Hearsay) -> Class {
    let (class_uid, name, (activity_id, activity_name), said) = match &line.said {
        Said::Authentication(login) => (3002, "Authentication", (1, "Logon"), of_login(login, &line.parser)),
        Said::Http(request) => {
            (4002, "HTTP Activity", http_activity(request.http_method.as_deref()), of_request(request))
        }
        Said::Other { message } => (0, "Base Event", (99, "Log"), json!({ "message": message })),
    };
    let mut attributes = object(said);
    attributes.insert("raw_data".to_owned(), json!(line.raw_data));
    let peer = line.src_endpoint.as_ref();
    let unmapped = match (&line.said, peer) {
        (Said::Other { .. }, Some(peer)) => json!({ "hearsay": true, "src_endpoint": endpoint(peer) }),
        (_, Some(peer)) => {
            attributes.insert("src_endpoint".to_owned(), endpoint(peer));
            json!({ "hearsay": true })
        }
        (_, None) => json!({ "hearsay": true }),
    };
    attributes.insert("unmapped".to_owned(), unmapped);
    Class { class_uid, name, activity_id, activity_name, severity_id: INFORMATIONAL, attributes }
}

fn of_login(login: &Login, parser: &str) -> Value {
    json!({
        "user": { "name": login.user.as_deref().unwrap_or("unknown") },
        "service": { "name": parser },
        "status_id": if login.success { 1 } else { 2 },
        "auth_protocol": login.method,
        "session": login.fingerprint.as_ref().map(|key| json!({ "credential_uid": key })),
    })
}

fn of_request(request: &Request) -> Value {
    json!({
        "http_request": object(json!({
            "http_method": request.http_method,
            "url": request.path.as_ref().map(|path| json!({ "url_string": path })),
            "user_agent": request.user_agent,
        })),
        "http_response": request.status.map(|code| json!({ "code": code })),
        "message": request.message,
    })
}

fn http_activity(method: Option<&str>) -> (u8, &'static str) {
    match method {
        Some("CONNECT") => (1, "Connect"),
        Some("DELETE") => (2, "Delete"),
        Some("GET") => (3, "Get"),
        Some("HEAD") => (4, "Head"),
        Some("OPTIONS") => (5, "Options"),
        Some("POST") => (6, "Post"),
        Some("PUT") => (7, "Put"),
        Some("TRACE") => (8, "Trace"),
        Some("PATCH") => (9, "Patch"),
        _ => (99, "Other"),
    }
}

fn of_loss(loss: &Loss, clock: &Clock) -> Class {
    Class {
        class_uid: 0,
        name: "Base Event",
        activity_id: 99,
        activity_name: "Loss",
        severity_id: MEDIUM,
        attributes: object(json!({
            "message": format!("{} events of {} were lost", loss.count, loss.source),
            "count": i32::try_from(loss.count).unwrap_or(i32::MAX),
            "start_time": clock.unix_ms(loss.since),
            "end_time": clock.unix_ms(loss.until),
            "unmapped": { "source": loss.source, "lost": loss.count },
        })),
    }
}

fn of_finding(finding: &Finding, event: &Event, clock: &Clock) -> Class {
    let (confidence_id, severity_id) = match finding.confidence {
        Confidence::Low => (1, LOW),
        Confidence::Medium => (2, MEDIUM),
        Confidence::High => (3, HIGH),
    };
    let mut evidences = vec![json!({ "process": identity(finding.process, clock) })];
    evidences.extend(finding.paths.iter().map(|path| json!({ "file": named(path, 0) })));
    Class {
        class_uid: 2004,
        name: "Detection Finding",
        activity_id: 1,
        activity_name: "Create",
        severity_id,
        attributes: object(json!({
            "message": finding.title,
            "finding_info": {
                "uid": finding.id.0.to_string(),
                "title": finding.title,
                "created_time": clock.unix_ms(event.time),
                "analytic": { "name": finding.analytic, "type_id": 1 },
                "attacks": attacks(&finding.technique),
            },
            "confidence_id": confidence_id,
            "is_alert": finding.confidence > Confidence::Low,
            "status_id": 1,
            "evidences": evidences,
            "unmapped": { "event": finding.event.0 },
        })),
    }
}

fn of_incident(finding: &IncidentFinding) -> Class {
    // New, In Progress, On Hold, Resolved, Closed.
    let (activity_id, activity_name, status_id, severity_id) = match finding.stage {
        Stage::Open => (1, "Create", 1, HIGH),
        Stage::Contained | Stage::Restored => (2, "Update", 2, HIGH),
        Stage::Stuck => (2, "Update", 3, HIGH),
        Stage::Healed => (3, "Close", 4, INFORMATIONAL),
    };
    Class {
        class_uid: 2005,
        name: "Incident Finding",
        activity_id,
        activity_name,
        severity_id,
        attributes: object(json!({
            "message": finding.message,
            "desc": finding.message,
            "assignee": { "name": "thymus" },
            "finding_info_list": [{ "uid": finding.incident.0.to_string(), "title": finding.message }],
            "status_id": status_id,
            "unmapped": { "incident": finding.incident.0, "stage": finding.stage },
        })),
    }
}

fn of_remediation(remediation: &Remediation) -> Class {
    let (activity_id, activity_name) = match remediation.what.tactic() {
        Tactic::Isolate => (1, "Isolate"),
        Tactic::Evict => (2, "Evict"),
        Tactic::Restore => (3, "Restore"),
        Tactic::Harden => (4, "Harden"),
    };
    let (status_id, status, detail, severity_id) = match &remediation.outcome {
        Outcome::Success => (1, "Success", None, INFORMATIONAL),
        Outcome::DoesNotExist => (3, "Does Not Exist", None, INFORMATIONAL),
        Outcome::Partly(not_done) => {
            (99, "Partly", Some(format!("{} files were left as they were", not_done.len())), LOW)
        }
        Outcome::Reverted(why) => (2, "Failure", Some(format!("put back: {why}")), MEDIUM),
        Outcome::Failed(why) => (6, "Error", Some(why.clone()), HIGH),
        Outcome::Undone => (99, "Undone", None, INFORMATIONAL),
    };
    Class {
        class_uid: 7001,
        name: "Remediation Activity",
        activity_id,
        activity_name,
        severity_id,
        attributes: object(json!({
            "command_uid": remediation.action.0.to_string(),
            "status_id": status_id,
            "status": status,
            "status_detail": detail,
            "countermeasures": [countermeasure(&remediation.what)],
            "message": format!("{} of {}", remediation.what.name(), targets(&remediation.what)),
            "unmapped": { "incident": remediation.incident.0, "action": remediation.what.name() },
        })),
    }
}

fn countermeasure(action: &Action) -> Value {
    let (uid, name) = match action {
        Action::SuspendProcesses { .. } => ("D3-PS", "Process Suspension"),
        Action::TerminateProcesses { .. } => ("D3-PT", "Process Termination"),
        Action::EndSession { .. } => ("D3-ST", "Session Termination"),
        Action::FilterTraffic { .. } => ("D3-NTF", "Network Traffic Filtering"),
        Action::LockAccount { .. } => ("D3-AL", "Account Locking"),
        Action::IsolateHost { .. } => ("D3-NI", "Network Isolation"),
        Action::RestoreFile(_) => ("D3-RF", "Restore File"),
        Action::RestoreFiles { .. } | Action::RestorePackaged { .. } => ("D3-RF", "Restore File"),
        Action::UndoAction { unit: None, .. } => ("D3-RF", "Restore File"),
        Action::UndoAction { unit: Some(_), .. } => ("D3-RC", "Restore Configuration"),
        Action::QuarantineFile { .. } => ("D3-FEV", "File Eviction"),
        Action::RemoveUnit { .. } => ("D3-SCP", "System Configuration Permissions"),
        Action::ReloadService { .. } | Action::LoadFirewall { .. } | Action::RenewCertificate { .. } => {
            ("D3-RC", "Restore Configuration")
        }
        Action::RestartService { .. } => ("D3-RS", "Restore Software"),
        Action::FreeSpace { .. } => ("D3-FEV", "File Eviction"),
    };
    json!({ "d3f_technique": { "uid": uid, "name": name } })
}

fn targets(action: &Action) -> String {
    match action {
        Action::SuspendProcesses { processes } | Action::TerminateProcesses { processes } => {
            format!("{} processes", processes.len())
        }
        Action::EndSession { leader, .. } => format!("the session of process {}", leader.pid),
        Action::LockAccount { uid, .. } => format!("account of uid {uid}"),
        Action::IsolateHost { .. } => "this host".to_owned(),
        Action::FilterTraffic { address, extent: Extent::All, .. } => address.to_string(),
        Action::FilterTraffic { address, extent: Extent::Outbound, .. } => format!("calls to {address}"),
        Action::RestoreFile(restore) => format!("`{}`", restore.path),
        Action::RestoreFiles { files } => format!("{} files", files.len()),
        Action::QuarantineFile { path, .. } => format!("`{path}`"),
        Action::RemoveUnit { unit } | Action::ReloadService { unit } | Action::RestartService { unit } => {
            format!("`{}`", unit.escape_default())
        }
        Action::FreeSpace { paths } => format!("{} files", paths.len()),
        Action::LoadFirewall { path } | Action::RenewCertificate { path } => format!("`{path}`"),
        Action::RestorePackaged { files } => match files.as_slice() {
            [one] => format!("`{}`", one.path),
            many => format!("{} files", many.len()),
        },
        Action::UndoAction { of, .. } => format!("action {of}"),
    }
}

/// None: what nobody attacked has a kind of failure instead of a technique, which the analytic names.
fn attacks(technique: &str) -> Vec<Value> {
    if technique.is_empty() { Vec::new() } else { vec![attack(technique)] }
}

/// A technique, and the sub-technique below it: `T1098.004`.
fn attack(technique: &str) -> Value {
    match technique.split_once('.') {
        Some((parent, _)) => json!({ "technique": { "uid": parent }, "sub_technique": { "uid": technique } }),
        None => json!({ "technique": { "uid": technique } }),
    }
}

fn actor(key: ProcessKey, clock: &Clock) -> Value {
    json!({ "process": identity(key, clock) })
}

/// A process by its identity alone.
fn identity(key: ProcessKey, clock: &Clock) -> Map<String, Value> {
    object(json!({
        "pid": i32::try_from(key.pid).unwrap_or(i32::MAX),
        "uid": uid_of(key),
        "created_time": clock.unix_ms(key.start_time),
    }))
}

fn process(process: &Process, clock: &Clock) -> Map<String, Value> {
    let mut object = identity(process.key, clock);
    object.insert("user".to_owned(), json!({ "uid": process.user.euid.to_string() }));
    object.insert("parent_process".to_owned(), Value::Object(identity(process.parent, clock)));
    if let Some(program) = &process.file {
        object.insert("name".to_owned(), json!(HostPath::new(program.path.file_name()).to_string()));
        object.insert("path".to_owned(), json!(program.path.to_string()));
        object.insert("file".to_owned(), Value::Object(file(program, 1)));
    }
    if !process.cmd_line.is_empty() {
        object.insert("cmd_line".to_owned(), json!(process.cmd_line.join(" ")));
    }
    if let Some(directory) = &process.working_directory {
        object.insert("working_directory".to_owned(), json!(directory.to_string()));
    }
    object
}

/// What OCSF has no place for.
fn process_details(process: &Process) -> Map<String, Value> {
    let login = process.user.login_uid;
    object(json!({
        "real_uid": process.user.uid,
        "gid": process.user.gid,
        "login_uid": (login != u32::MAX).then_some(login),
        "unit": process.unit,
        "socket_stdio": process.socket_stdio,
        "fileless": process.fileless,
        "origin": process.origin.as_ref().map(|origin| json!({
            "path": origin.path.to_string(), "version": origin.version.0,
        })),
        "src_endpoint": process.src_endpoint.as_ref().map(endpoint),
    }))
}

/// Boot, pid and start time: never reused.
fn uid_of(key: ProcessKey) -> String {
    format!("{:016x}-{}-{}", key.boot.0, key.pid, key.start_time.0)
}

fn file(file: &File, type_id: u8) -> Map<String, Value> {
    let mut object = named(&file.path, type_id);
    let uid = format!("{}:{}:{}", file.key.device, file.key.inode, file.key.generation);
    object.insert("uid".to_owned(), json!(uid));
    object
}

/// A file by its path alone.
fn named(path: &HostPath, type_id: u8) -> Map<String, Value> {
    let name = if path.file_name().is_empty() { path.clone() } else { HostPath::new(path.file_name()) };
    object(json!({ "name": name.to_string(), "path": path.to_string(), "type_id": type_id }))
}

fn endpoint(endpoint: &Endpoint) -> Value {
    json!({ "ip": endpoint.ip.to_string(), "port": endpoint.port })
}

fn change(change: Change) -> Value {
    json!({
        "before": change.before.0, "after": change.after.0, "created": change.created, "removed": change.removed,
    })
}

#[cfg(test)]
mod tests;
