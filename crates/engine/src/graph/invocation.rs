// SPDX-License-Identifier: Apache-2.0
//! What starts work on a host: sessions, units, cron runs, requests; and the hubs that start them.

use crate::event::{Endpoint, Origin};
use crate::hearsay::Heard;
use crate::id::{IncidentId, ProcessKey, Timestamp};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// One start of work; numbered from 1 in the order of their beginning, 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InvocationId(pub u64);

/// A daemon whose children work for others. It passes no influence to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hub {
    /// init, and the managers of users' units.
    Manager,
    /// Each child is one login session.
    Login,
    /// Each child is one run of a line.
    Cron,
    /// Children that run another program work for one request.
    Server,
}

/// Programs that are hubs while a unit runs them. Absolute, as the kernel resolves them: a program of the same name
/// elsewhere, or one of these started in a session, is no hub.
const HUBS: &[(&str, Hub)] = &[
    ("/usr/lib/systemd/systemd", Hub::Manager),
    ("/lib/systemd/systemd", Hub::Manager),
    ("/sbin/init", Hub::Manager),
    ("/usr/sbin/init", Hub::Manager),
    ("/usr/sbin/sshd", Hub::Login),
    ("/usr/bin/dropbear", Hub::Login),
    ("/usr/bin/login", Hub::Login),
    ("/bin/login", Hub::Login),
    ("/usr/sbin/cron", Hub::Cron),
    ("/usr/sbin/crond", Hub::Cron),
    ("/usr/sbin/anacron", Hub::Cron),
    ("/usr/sbin/atd", Hub::Cron),
    ("/usr/sbin/nginx", Hub::Server),
    ("/usr/sbin/apache2", Hub::Server),
    ("/usr/sbin/httpd", Hub::Server),
    ("/usr/sbin/lighttpd", Hub::Server),
    ("/usr/sbin/fcgiwrap", Hub::Server),
    ("/usr/bin/dbus-daemon", Hub::Server),
    ("/usr/bin/dbus-broker", Hub::Server),
];

impl Hub {
    pub(super) fn of(exe: &HostPath) -> Option<Self> {
        let exe = exe.as_bytes();
        let known = HUBS.iter().find(|(path, _)| path.as_bytes() == exe).map(|(_, hub)| *hub);
        known.or_else(|| exe.starts_with(b"/usr/sbin/php-fpm").then_some(Self::Server))
    }
}

/// Programs that only let people in and keep the books of it.
pub(crate) fn is_login_program(exe: &HostPath) -> bool {
    matches!(exe.file_name(), b"sshd" | b"sshd-session" | b"sshd-auth" | b"login" | b"su" | b"sudo")
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    pub kind: InvocationKind,
    pub leader: ProcessKey,
    pub started: Timestamp,
    /// Its last process ended then; `None` while one lives.
    pub ended: Option<Timestamp>,
    /// Who logged in: the audit login uid, else the user that the session was opened for.
    pub login_uid: Option<u32>,
    pub src_endpoint: Option<Endpoint>,
    /// What on disk made it run.
    pub origin: Option<Origin>,
    /// Who brought the deciding version, when that was since we watch.
    pub origin_writer: Option<(ProcessKey, InvocationId)>,
    /// A finding of Medium or more lies on it.
    pub suspect: bool,
    /// What logs say about it; at most [`super::HEARD_MAX`] lines. Nothing is decided by it.
    pub heard: Vec<Heard>,
    /// It belongs to a confirmed attack as a whole.
    pub(crate) subject: Option<IncidentId>,
    /// It is a root hypothesis: never evicted.
    pub(crate) pinned: bool,
    /// The unit's manager, for units.
    pub(super) manager: ProcessKey,
    /// Its processes that live, in the order of their birth.
    pub(super) alive: Vec<ProcessKey>,
    /// Processes and writes in the graph that name it.
    pub(super) references: u32,
}

impl Invocation {
    /// Its processes that live, in the order of their birth.
    #[must_use]
    pub fn alive(&self) -> &[ProcessKey] {
        &self.alive
    }

    /// For people: such as "ssh session of uid 1001 from 127.0.0.2".
    #[must_use]
    pub fn title(&self) -> String {
        let from = self.src_endpoint.as_ref().map(|peer| format!(" from {}", peer.ip)).unwrap_or_default();
        let cause = self.origin.as_ref().map(|origin| format!(", by `{}`", origin.path)).unwrap_or_default();
        match (&self.kind, self.login_uid) {
            (InvocationKind::Session, Some(uid)) => format!("login session of uid {uid}{from}"),
            (InvocationKind::Session, None) => format!("login session{from}"),
            (InvocationKind::Unit(unit), _) if unit.is_empty() => format!("started by the service manager{cause}"),
            (InvocationKind::Unit(unit), _) => format!("start of {unit}{cause}"),
            (InvocationKind::Cron, _) => format!("cron run{cause}"),
            (InvocationKind::Request, _) => format!("request to a server{from}"),
            (InvocationKind::Other, _) => format!("process {} that was there before", self.leader.pid),
        }
    }
}
