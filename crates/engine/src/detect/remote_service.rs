// SPDX-License-Identifier: Apache-2.0
//! `lateral-movement/remote-service`

use super::place::is_installed;
use super::secret::is_login_key;
use super::{Authority, Bounded, Claim, Detector, Look, Meta, NETWORK};
use crate::event::{Confidence, FileActivity, FileActivityId, NetworkActivity, NetworkActivityId};
use crate::graph::is_login_program;
use crate::id::{ProcessKey, Timestamp};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// # What it finds
/// A request to a web server, a session that other findings lie on, or a service of an account that nobody logs in to, that
/// reads a private key of somebody else's and calls another host's ssh with it, in whichever order: port 22, a port on which
/// this host's own ssh listens, or any port that an ssh client calls. A request with the server's own key, and a session that
/// other findings lie on with its own, are shown (low).
/// # Why it matters
/// It is how one host that was broken into becomes many (ATT&CK T1021.004). Where the key came from has to be made anew, and
/// the host that was called has to be looked at.
/// # Blind spots
/// Keys by names that keys do not usually have, and keys that everybody may read; a key that is carried away and used from
/// elsewhere; passwords; an agent of somebody else's (`SSH_AUTH_SOCK`); a session that nothing else was found on.
/// # False positives
/// A site that logs in elsewhere with a key that is neither its own nor given to it by root: medium, so that it never acts
/// alone. Administrators, package managers and what the system starts as root are left out; so is whoever uses a key of their
/// own, as backups, deployments and developers do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RemoteService {
    clients: Bounded<ProcessKey, Client>,
    /// A key of somebody else's, and when it was read last: by the server for whose requests it was, else by whoever leads the
    /// work.
    taken: Bounded<ProcessKey, (HostPath, Timestamp)>,
    /// Where this host's own ssh listens.
    ports: BTreeSet<u16>,
}

const SSH: u16 = 22;
/// LIMIT: ports of this host's own ssh beside that; further ones are not looked at.
const PORTS_MAX: usize = 8;
/// What one process of the work read, another one uses within this time.
const WINDOW_NS: u64 = 600_000_000_000;
const CLIENTS: &[&[u8]] = &[b"ssh", b"dbclient", b"plink"];

/// What a process has done of the two so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Client {
    /// A key that it read, and whether it is somebody else's; of several rather such a one.
    key: Option<(HostPath, bool)>,
    called: Option<(IpAddr, u16)>,
}

impl Detector for RemoteService {
    const META: Meta =
        Meta { name: "lateral-movement/remote-service", technique: "T1021.004", class_uid: NETWORK };

    fn forgotten(&self) -> u64 {
        self.clients.forgotten + self.taken.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        if let Some(file) = look.file() {
            self.read(look, file)?;
        } else {
            self.called(look, look.network()?)?;
        }
        let client = self.clients.get(&look.actor)?;
        let (ip, port) = client.called?;
        let key = client.key.clone().map(|(path, foreign)| (path, foreign, true));
        let by_others = || {
            let (path, when) = self.taken.get(&work(look)?)?;
            (look.event.time.since_ns(*when) <= WINDOW_NS).then(|| (path.clone(), true, false))
        };
        let (path, foreign, itself) = key.or_else(by_others)?;
        let confidence = weight(look, foreign, itself)?;
        Some(look.claim(confidence, &path, &format!("was read, and port {port} of {ip} called")))
    }
}

impl RemoteService {
    fn read(&mut self, look: &Look<'_>, file: &FileActivity) -> Option<()> {
        let path = &file.file.path;
        let is_key = is_login_key(path) || is_client(look) && is_key_file(path);
        if file.activity != FileActivityId::Read || !is_key {
            return None;
        }
        let foreign = !is_own(look, file);
        if foreign && let Some(work) = work(look) {
            self.taken.insert(work, (path.clone(), look.event.time));
        }
        let known = &mut self.clients.entry(&look.actor).key;
        if known.as_ref().is_none_or(|(_, known)| foreign && !known) {
            *known = Some((path.clone(), foreign));
        }
        Some(())
    }

    fn called(&mut self, look: &Look<'_>, network: &NetworkActivity) -> Option<()> {
        if network.activity == NetworkActivityId::Listen {
            let port = network.local.port;
            if look.program().is_some_and(is_login_program) && self.ports.len() < PORTS_MAX && port != 0 {
                self.ports.insert(port);
            }
            return None;
        }
        let remote = network.remote.as_ref()?;
        let elsewhere = !remote.ip.is_loopback() && remote.ip != network.local.ip;
        let calls = network.activity == NetworkActivityId::Open && !network.inbound && !network.before;
        let to_ssh = remote.port == SSH || self.ports.contains(&remote.port) || is_client(look);
        if !calls || !elsewhere || !to_ssh {
            return None;
        }
        self.clients.entry(&look.actor).called = Some((remote.ip, remote.port));
        Some(())
    }
}

fn is_client(look: &Look<'_>) -> bool {
    look.program().is_some_and(|program| is_installed(program, CLIENTS))
}

/// An ssh client is given keys by any name.
fn is_key_file(path: &HostPath) -> bool {
    let name = path.file_name();
    name.ends_with(b".key") || name.ends_with(b".pem")
}

fn is_request(look: &Look<'_>) -> bool {
    look.invocation().is_some_and(|found| *found.kind == InvocationKind::Request)
}

/// Whoever the work is counted for: a site's requests together, whichever worker of its server they came to.
fn work(look: &Look<'_>) -> Option<ProcessKey> {
    if is_request(look) { look.server_leader() } else { Some(look.invocation()?.leader) }
}

/// It belongs to the account that the work is done for, or root gave it to that account's group.
fn is_own(look: &Look<'_>, file: &FileActivity) -> bool {
    let Some(seen) = look.seen() else { return false };
    let login = look.invocation().and_then(|found| found.login);
    let account = if is_request(look) { look.server_uid() } else { login.or(Some(seen.user.euid)) };
    let Some(mode) = file.mode else { return seen.user.euid != 0 }; // without root's power one reads little but one's own
    account == Some(mode.uid) || seen.user.euid != 0 && mode.uid == 0 && mode.gid == seen.user.gid
}

/// How much it counts, with a key that is somebody else's or not, that this process itself read or another one of the same
/// work.
fn weight(look: &Look<'_>, foreign: bool, itself: bool) -> Option<Confidence> {
    if look.authority() != Authority::Nobody {
        return None;
    }
    let (request, suspect) = (is_request(look), look.is_suspect());
    let by_itself = look.invocation().is_some_and(|found| {
        found.login.is_none() && matches!(found.kind, InvocationKind::Unit(_) | InvocationKind::Other)
    });
    match (foreign, request, suspect || by_itself) {
        (true, true, _) => Some(Confidence::Medium),
        // Of a pipe from one to the other it is not known whose key it was.
        (true, false, true) if itself => Some(Confidence::Medium),
        _ => (request || suspect).then_some(Confidence::Low),
    }
}
