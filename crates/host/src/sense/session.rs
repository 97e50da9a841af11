// SPDX-License-Identifier: Apache-2.0
//! Sessions and units: who came in, through what, and which unit a cgroup stands for.
//!
//! A logon is a program started below sshd whose environment names the peer, or a program started by `su`, `sudo` or
//! `login`. Blind spots: a session that starts no program (sftp inside sshd, a bare port forwarding) is not seen.

use super::bounded::Bounded;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thymus_engine::event::{AuthService, Authentication, Endpoint, Process};
use thymus_engine::{ProcessKey, Timestamp};

/// LIMIT: sessions that are open at the same time; a further logon pushes out none, its end is not told.
const SESSIONS_MAX: usize = 4_096;
/// LIMIT: generations between a session's leader and its first program.
const CLIMB_MAX: usize = 8;

/// Sessions that are open.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<ProcessKey, Authentication>,
}

fn service(process: &Process) -> Option<AuthService> {
    let path = &process.file.as_ref()?.path;
    let system = [&b"/usr"[..], b"/bin", b"/sbin", b"/lib"].iter().any(|tree| path.is_within(tree));
    match path.file_name() {
        b"sshd" | b"sshd-session" if system => Some(AuthService::Sshd),
        b"su" if system => Some(AuthService::Su),
        b"sudo" if system => Some(AuthService::Sudo),
        b"login" if system => Some(AuthService::Login),
        _ => None,
    }
}

/// `SSH_CONNECTION` of a process's environment: client address and port.
pub(super) fn peer(environment: &[u8]) -> Option<Endpoint> {
    let line = environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"SSH_CONNECTION="))?;
    let mut fields = std::str::from_utf8(line).ok()?.split(' ');
    Some(Endpoint { ip: fields.next()?.parse::<IpAddr>().ok()?, port: fields.next()?.parse().ok()? })
}

/// `REMOTE_ADDR` and `REMOTE_PORT` that a web server tells whom it starts for a request (RFC 3875, section 4.1.8).
pub(super) fn requester(environment: &[u8]) -> Option<Endpoint> {
    let of = |name: &[u8]| {
        let mut lines = environment.split(|byte| *byte == 0);
        std::str::from_utf8(lines.find_map(|line| line.strip_prefix(name))?).ok()
    };
    let port = of(b"REMOTE_PORT=").and_then(|port| port.parse().ok()).unwrap_or(0);
    Some(Endpoint { ip: of(b"REMOTE_ADDR=")?.parse::<IpAddr>().ok()?, port })
}

impl Sessions {
    /// `process` has just become another program, `before` what it was. `parent` looks a process up.
    pub(super) fn on_program(
        &mut self,
        process: &Process,
        before: Option<&Process>,
        environment: &[u8],
        mut parent: impl FnMut(ProcessKey) -> Option<Process>,
    ) -> Option<Authentication> {
        let own = service(process);
        if process.file.as_ref().is_some_and(|file| file.path.file_name() == b"unix_chkpwd") {
            return None; // PAM's helper
        }
        // sudo without a pseudo terminal becomes the command itself.
        let above = parent(process.parent)?;
        let leader = match before.filter(|before| matches!(service(before), Some(AuthService::Sudo | AuthService::Su)))
        {
            Some(before) => before.clone(),
            None => above,
        };
        let kind = service(&leader)?;
        if own == Some(kind) {
            return None; // sshd runs itself again; su and sudo wait in a copy of themselves
        }
        let endpoint = if kind == AuthService::Sshd { Some(peer(environment)?) } else { None };
        // The copy of the service nearest to where the session came from: below sshd's listener, below the caller.
        let (mut top, mut caller) = (leader.clone(), None);
        for _ in 0..CLIMB_MAX {
            let Some(next) = parent(top.parent) else { break };
            if service(&next) != Some(kind) {
                caller = Some(next);
                break;
            }
            if kind == AuthService::Sshd && parent(next.parent).is_none_or(|above| service(&above) != Some(kind)) {
                break; // `next` is the listener
            }
            top = next;
        }
        let session = top.key;
        if self.open.contains_key(&session) {
            return None;
        }
        let logon = Authentication {
            logon: true,
            session,
            service: kind,
            actor_uid: caller.filter(|_| kind != AuthService::Sshd).map(|caller| caller.user.uid),
            uid: process.user.euid,
            src_endpoint: endpoint,
        };
        if self.open.len() < SESSIONS_MAX {
            self.open.insert(session, logon.clone());
        }
        Some(logon)
    }

    pub(super) fn on_exit(&mut self, key: ProcessKey) -> Option<Authentication> {
        self.open.remove(&key).map(|logon| Authentication { logon: false, ..logon })
    }
}

/// Which systemd unit each cgroup belongs to.
#[derive(Debug)]
pub(super) struct Units {
    tree: PathBuf,
    names: Bounded<u64, Option<String>>,
    walked: Timestamp,
}

/// The cgroup tree is not read more often than this.
const WALK_PAUSE_NS: u64 = 50_000_000;

impl Units {
    pub(super) fn new(tree: &Path) -> Self {
        let mut units = Self { tree: tree.to_owned(), names: Bounded::new(8_192), walked: Timestamp(0) };
        units.walk();
        units
    }

    /// A cgroup was made at `path`.
    pub(super) fn made(&mut self, cgroup: u64, path: &[u8]) {
        self.names.insert(cgroup, unit(&String::from_utf8_lossy(path.strip_suffix(b"\0").unwrap_or(path))));
    }

    pub(super) fn name(&mut self, cgroup: u64, now: Timestamp) -> Option<String> {
        if self.names.get(&cgroup).is_none() && now.since_ns(self.walked) > WALK_PAUSE_NS {
            self.walked = now;
            self.walk();
        }
        self.names.get(&cgroup).cloned().flatten()
    }

    fn walk(&mut self) {
        let mut pending = vec![self.tree.clone()];
        // LIMIT: cgroups of one host.
        for _ in 0..4_096 {
            let Some(directory) = pending.pop() else { break };
            if let Ok(metadata) = std::fs::metadata(&directory) {
                let below = directory.strip_prefix(&self.tree).unwrap_or(&directory);
                self.names.insert(metadata.ino(), unit(&below.to_string_lossy()));
            }
            let children = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            pending.extend(
                children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
    }
}

/// The first part of a cgroup's path that is a unit and no slice, as `sd_pid_get_unit(3)` has it.
pub(super) fn unit(path: &str) -> Option<String> {
    const KINDS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    path.split('/').find(|part| KINDS.iter().any(|kind| part.ends_with(kind))).map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use thymus_engine::event::{File, User};

    fn process(pid: u32, parent: u32, path: &str, uid: u32) -> Process {
        let key = |pid| ProcessKey { pid, ..ProcessKey::default() };
        let file = Some(File { path: path.into(), key: thymus_engine::FileKey::default() });
        let user = User { uid, euid: uid, ..User::default() };
        Process { key: key(pid), parent: key(parent), file, user, ..Process::default() }
    }

    #[test]
    fn a_login_by_ssh_is_led_by_the_listeners_child_and_told_once() {
        let tree = [
            process(10, 1, "/usr/sbin/sshd", 0),
            process(20, 10, "/usr/sbin/sshd", 0),
            process(21, 20, "/usr/sbin/sshd", 1000),
            process(1, 0, "/usr/lib/systemd/systemd", 0),
        ];
        let find = |key: ProcessKey| tree.iter().find(|process| process.key == key).cloned();
        let mut sessions = Sessions::default();
        let environment = b"USER=alice\0SSH_CONNECTION=10.0.0.2 4711 10.0.0.1 22\0";
        let shell = process(22, 21, "/usr/bin/bash", 1000);
        let before = process(22, 21, "/usr/sbin/sshd", 1000);
        let logon = sessions.on_program(&shell, Some(&before), environment, find).unwrap();
        assert_eq!((logon.session.pid, logon.uid, logon.service), (20, 1000, AuthService::Sshd));
        assert_eq!(logon.src_endpoint.as_ref().unwrap().port, 4711);
        assert_eq!(sessions.on_program(&shell, Some(&before), environment, find), None);
        assert!(!sessions.on_exit(logon.session).unwrap().logon);
    }

    #[test]
    fn a_request_comes_from_whom_the_server_names_not_from_whom_its_header_does() {
        let of = |environment: &[u8]| requester(environment).map(|peer| (peer.ip.to_string(), peer.port));
        let told = b"HTTP_REMOTE_ADDR=10.0.0.9\0REMOTE_ADDR=2001:db8::7\0REMOTE_PORT=4711\0REMOTE_ADDR=10.0.0.8\0";
        assert_eq!(of(told), Some(("2001:db8::7".to_owned(), 4711)));
        assert_eq!(of(b"REMOTE_ADDR=10.0.0.8\0"), Some(("10.0.0.8".to_owned(), 0)));
        assert_eq!(of(b"REMOTE_ADDR=unix:\0REMOTE_PORT=1\0"), None);
        assert_eq!(of(b"HTTP_REMOTE_ADDR=10.0.0.9\0"), None);
    }

    #[test]
    fn sudo_tells_who_became_whom() {
        let tree = [process(30, 1, "/usr/bin/bash", 1000), process(31, 30, "/usr/bin/sudo", 0)];
        let find = |key: ProcessKey| tree.iter().find(|process| process.key == key).cloned();
        let before = process(32, 31, "/usr/bin/sudo", 0);
        let logon = Sessions::default().on_program(&process(32, 31, "/usr/bin/id", 0), Some(&before), b"", find);
        let logon = logon.unwrap();
        assert_eq!((logon.service, logon.actor_uid, logon.uid), (AuthService::Sudo, Some(1000), 0));
    }

    #[test]
    fn a_unit_is_the_first_part_that_is_no_slice() {
        assert_eq!(unit("user.slice/user-1000.slice/session-3.scope").as_deref(), Some("session-3.scope"));
        assert_eq!(unit("system.slice/ssh.service/x").as_deref(), Some("ssh.service"));
        assert_eq!(unit("system.slice"), None);
    }
}
