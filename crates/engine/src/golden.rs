// SPDX-License-Identifier: Apache-2.0
//! What a host should be: its services, listeners, accounts, packages and key settings; and how it differs from that.
//!
//! In: states as the hands read them, the recorded one and what a person declared. Out: [`Drift`]s, each with what is
//! behind it, and who of the [`Graph`] did that. Nothing in here acts: drift is told.
//! INVARIANT: a section that could not be read is missing, and is compared with nothing; it is never an empty one.

#[cfg(test)]
mod tests;

use crate::graph::{Graph, Write};
use crate::id::{BootId, ProcessKey, Timestamp};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// LIMIT: items of one section; further ones are counted.
pub const ITEMS_MAX: usize = 16_384;
/// LIMIT: drifts named one by one; further ones are counted.
pub const DRIFTS_MAX: usize = 512;
/// LIMIT: bytes of one value; a longer one is known by its digest.
pub const VALUE_BYTES_MAX: usize = 512;
/// A declared state may make so many percent of what a section holds unwanted, and a few items in any case.
pub const UNWANTED_PERCENT_MAX: usize = 25;
pub const UNWANTED_COUNT_FREE: usize = 3;

/// Directives of sshd(8) that say who gets in and what they may do then.
pub const SSHD: &[&str] = &[
    "AllowAgentForwarding",
    "AllowGroups",
    "AllowTcpForwarding",
    "AllowUsers",
    "AuthenticationMethods",
    "AuthorizedKeysCommand",
    "AuthorizedKeysFile",
    "DenyGroups",
    "DenyUsers",
    "ForceCommand",
    "GatewayPorts",
    "HostbasedAuthentication",
    "KbdInteractiveAuthentication",
    "ListenAddress",
    "Match",
    "PasswordAuthentication",
    "PermitEmptyPasswords",
    "PermitRootLogin",
    "PermitTunnel",
    "PermitUserEnvironment",
    "Port",
    "PubkeyAuthentication",
    "StrictModes",
    "TrustedUserCAKeys",
    "UsePAM",
    "X11Forwarding",
];
/// Kernel settings that an attacker would rather have otherwise.
pub const SYSCTLS: &[&str] = &[
    "fs.protected_fifos",
    "fs.protected_hardlinks",
    "fs.protected_regular",
    "fs.protected_symlinks",
    "fs.suid_dumpable",
    "kernel.core_pattern",
    "kernel.dmesg_restrict",
    "kernel.kptr_restrict",
    "kernel.modprobe",
    "kernel.modules_disabled",
    "kernel.randomize_va_space",
    "kernel.unprivileged_bpf_disabled",
    "kernel.yama.ptrace_scope",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_syncookies",
    "net.ipv6.conf.all.forwarding",
];
/// Keys of login.defs(5).
pub const LOGIN_DEFS: &[&str] =
    &["ENCRYPT_METHOD", "PASS_MAX_DAYS", "PASS_MIN_DAYS", "SYS_UID_MAX", "UID_MIN", "UMASK", "USERGROUPS_ENAB"];

/// A part of the golden state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// systemd units that are enabled, or that lie where an administrator writes them.
    Services,
    /// Sockets that wait for others, and whose they are.
    Listeners,
    /// Users, what they may become, how they get in.
    Accounts,
    /// Packages that are installed.
    Packages,
    /// Settings that decide about the host's security, and files that are settings themselves.
    Settings,
}

impl Section {
    pub const ALL: [Self; 5] = [Self::Services, Self::Listeners, Self::Accounts, Self::Packages, Self::Settings];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Listeners => "listeners",
            Self::Accounts => "accounts",
            Self::Packages => "packages",
            Self::Settings => "settings",
        }
    }

    /// One of it.
    #[must_use]
    pub const fn one(self) -> &'static str {
        match self {
            Self::Services => "service",
            Self::Listeners => "listener",
            Self::Accounts => "account",
            Self::Packages => "package",
            Self::Settings => "setting",
        }
    }
}

/// One thing of the golden state; as text `account:alice`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Item {
    pub section: Section,
    /// Such as `nginx.service`, `tcp 127.0.0.1:80`, `alice`, `nginx-light`, `sshd PermitRootLogin`; odd bytes as `\xNN`.
    pub name: String,
}

impl Item {
    #[must_use]
    pub fn new(section: Section, name: impl Into<String>) -> Self {
        Self { section, name: name.into() }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.section.one(), self.name)
    }
}

impl From<Item> for String {
    fn from(item: Item) -> Self {
        item.to_string()
    }
}

impl TryFrom<String> for Item {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let named = text.split_once(':').and_then(|(one, name)| {
            let section = Section::ALL.into_iter().find(|section| section.one() == one)?;
            (!name.is_empty()).then(|| Self::new(section, name))
        });
        named.ok_or_else(|| {
            format!(
                "found `{}`, expected service:, listener:, account:, package: or setting: and a name, such as `account:alice`",
                text.escape_debug()
            )
        })
    }
}

/// Everything known of one item, by the name of the field; such as `version`, `shell`, `enabled`.
pub type State = BTreeMap<String, String>;

/// One state of a host. A section that is missing was not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Golden(pub BTreeMap<Section, BTreeMap<String, State>>);

impl Golden {
    #[must_use]
    pub fn get(&self, item: &Item) -> Option<&State> {
        self.0.get(&item.section)?.get(&item.name)
    }

    /// How many items each section has.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Section, u64> {
        self.0.iter().map(|(section, items)| (*section, items.len() as u64)).collect()
    }

    fn set(&mut self, item: &Item, state: Option<&State>) {
        let items = self.0.entry(item.section).or_default();
        match state {
            Some(state) => drop(items.insert(item.name.clone(), state.clone())),
            None => drop(items.remove(&item.name)),
        }
    }
}

/// What a person declared of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    Absent,
    /// It is there, and these fields are so; `None`: whatever they are; empty: there is none. Other fields are as
    /// recorded.
    Present(BTreeMap<String, Option<String>>),
}

/// What a person declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    pub items: BTreeMap<Item, Wish>,
    /// Of these sections, only what is declared is wanted; what was recorded counts for nothing.
    pub complete: BTreeSet<Section>,
}

impl Declared {
    /// Guardrail 9: a wanted state that is empty, or that wants much of what is there gone, is a mistake more often than
    /// a wish. The error says what it would do, and what to do instead.
    pub fn sane(&self, present: &Golden) -> Result<(), String> {
        if self.items.is_empty() {
            return Err(
                "it declares nothing: expected at least one item; to declare nothing, leave `wanted` out".into()
            );
        }
        for (section, there) in &present.0 {
            let unwanted = there.keys().filter(|name| match self.items.get(&Item::new(*section, name.as_str())) {
                Some(Wish::Absent) => true,
                Some(Wish::Present(_)) => false,
                None => self.complete.contains(section),
            });
            let (unwanted, all) = (unwanted.count(), there.len());
            if is_much(unwanted, all) {
                return Err(format!(
                    "it makes {unwanted} of {all} {} unwanted, expected at most {UNWANTED_PERCENT_MAX} %: is a part of it missing?",
                    section.name()
                ));
            }
        }
        Ok(())
    }
}

/// All of it, or a large part.
fn is_much(gone: usize, all: usize) -> bool {
    let many = gone > UNWANTED_COUNT_FREE && gone * 100 > UNWANTED_PERCENT_MAX * all;
    gone > 0 && (gone >= all || many)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is there and not wanted.
    Added,
    /// It is wanted and not there.
    Removed,
    Changed,
}

/// One field that is not as wanted; `None`: there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub field: String,
    pub wanted: Option<String>,
    pub found: Option<String>,
}

/// One item that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    pub item: Item,
    pub kind: Kind,
    /// Sorted by field.
    pub fields: Vec<Difference>,
    /// The whole of it as it was found; `None`: it is not there.
    pub found: Option<State>,
    /// A person declared it so: it is not for `accept`.
    pub declared: bool,
}

impl Drift {
    /// Paths whose change makes such a drift, the most telling first. Where the hands know more, they say it.
    #[must_use]
    pub fn behind(&self) -> Vec<HostPath> {
        let name = &self.item.name;
        let differs = |fields: &[&str]| self.fields.iter().any(|one| fields.contains(&one.field.as_str()));
        let values = |field: &str| -> Vec<String> {
            let of = self.fields.iter().filter(|one| one.field == field);
            let differing = of.flat_map(|one| [one.found.clone(), one.wanted.clone()]);
            differing.chain([self.found.as_ref().and_then(|state| state.get(field).cloned())]).flatten().collect()
        };
        let mut paths = Vec::new();
        match self.item.section {
            Section::Services => {
                if self.kind != Kind::Changed || differs(&["file", "digest"]) {
                    paths.extend(values("file"));
                }
                let directories = values("wanted_by");
                let links = directories.iter().flat_map(|all| all.split(','));
                paths.extend(links.map(|directory| format!("/etc/systemd/system/{directory}/{name}")));
            }
            Section::Listeners => {}
            Section::Accounts => {
                if self.kind != Kind::Changed || differs(&["uid", "gid", "home", "shell"]) {
                    paths.push("/etc/passwd".to_owned());
                } else {
                    let one_of =
                        [("password", "/etc/shadow"), ("password_digest", "/etc/shadow"), ("groups", "/etc/group")];
                    paths.extend(
                        one_of.iter().filter(|(field, _)| differs(&[*field])).map(|(_, path)| (*path).to_owned()),
                    );
                    if differs(&["keys", "keys_digest"]) {
                        paths.extend(values("home").iter().map(|home| format!("{home}/.ssh/authorized_keys")));
                    }
                }
            }
            Section::Packages => {
                let arch = values("arch").into_iter().next().unwrap_or_default();
                let bare = name.split_once(':').map_or(name.as_str(), |(bare, _)| bare);
                let list = |name: &str| format!("/var/lib/dpkg/info/{name}.list");
                paths.extend([list(bare), list(&format!("{bare}:{arch}")), "/var/lib/dpkg/status".to_owned()]);
            }
            Section::Settings => {
                let (kind, rest) = name.split_once(' ').unwrap_or((name, ""));
                if rest.starts_with('/') {
                    paths.push(rest.to_owned());
                } else if kind == "sshd" {
                    paths.push("/etc/ssh/sshd_config".to_owned());
                } else if kind == "login.defs" {
                    paths.push("/etc/login.defs".to_owned());
                }
            }
        }
        paths.iter().filter_map(|path| HostPath::from_text(path)).collect()
    }
}

/// Every difference between what is wanted and what is there, sorted; at most [`DRIFTS_MAX`], and how many more.
#[must_use]
pub fn compare(recorded: &Golden, declared: &Declared, present: &Golden) -> (Vec<Drift>, u64) {
    let (mut drifts, mut omitted) = (Vec::new(), 0);
    let none = BTreeMap::new();
    for (section, there) in &present.0 {
        let whole = declared.complete.contains(section);
        let recorded = if whole { None } else { recorded.0.get(section) };
        let first = Item::new(*section, "");
        let of_section = declared.items.range(first..).take_while(|(item, _)| item.section == *section);
        let wishes: BTreeMap<&str, &Wish> = of_section.map(|(item, wish)| (item.name.as_str(), wish)).collect();
        // What was never recorded has nothing to differ from; what is declared has.
        let judged = whole || recorded.is_some();
        let recorded = recorded.unwrap_or(&none);
        let known = recorded.keys().chain(there.keys().filter(|_| judged)).map(String::as_str);
        let names: BTreeSet<&str> = known.chain(wishes.keys().copied()).collect();
        for name in names {
            let (was, is, wish) = (recorded.get(name), there.get(name), wishes.get(name).copied());
            let Some((kind, fields)) = difference(was, wish, is) else { continue };
            if drifts.len() >= DRIFTS_MAX {
                omitted += 1;
                continue;
            }
            let declared = wish.is_some() || whole;
            drifts.push(Drift { item: Item::new(*section, name), kind, fields, found: is.cloned(), declared });
        }
    }
    (drifts, omitted)
}

fn difference(was: Option<&State>, wish: Option<&Wish>, is: Option<&State>) -> Option<(Kind, Vec<Difference>)> {
    let wanted: Option<BTreeMap<&str, Option<&str>>> = match wish {
        Some(Wish::Absent) => None,
        None => was.map(|was| was.iter().map(|(field, value)| (field.as_str(), Some(value.as_str()))).collect()),
        Some(Wish::Present(fields)) => {
            let was = was.into_iter().flatten().map(|(field, value)| (field.as_str(), Some(value.as_str())));
            Some(was.chain(fields.iter().map(|(field, value)| (field.as_str(), value.as_deref()))).collect())
        }
    };
    let one = |field: &str, wanted: Option<&str>, found: Option<&str>| Difference {
        field: field.to_owned(),
        wanted: wanted.map(ToOwned::to_owned),
        found: found.map(ToOwned::to_owned),
    };
    match (wanted, is) {
        (None, None) => None,
        (None, Some(is)) => {
            Some((Kind::Added, is.iter().map(|(field, value)| one(field, None, Some(value))).collect()))
        }
        (Some(wanted), None) => {
            let named = wanted.into_iter().filter(|(_, value)| value.is_some());
            Some((Kind::Removed, named.map(|(field, value)| one(field, value, None)).collect()))
        }
        (Some(wanted), Some(is)) => {
            let extra = is.iter().filter(|(field, _)| was.is_some() && !wanted.contains_key(field.as_str()));
            let mut fields: Vec<Difference> = extra.map(|(field, value)| one(field, None, Some(value))).collect();
            for (field, value) in wanted {
                let found = is.get(field).map(String::as_str);
                if value.is_some_and(|value| !meets(field, value, found.unwrap_or_default())) {
                    fields.push(one(field, value, found));
                }
            }
            fields.sort_by(|one, other| one.field.cmp(&other.field));
            (!fields.is_empty()).then_some((Kind::Changed, fields))
        }
    }
}

/// A program may be wanted by its name alone.
fn meets(field: &str, wanted: &str, found: &str) -> bool {
    let name = || found.rsplit('/').next().unwrap_or_default();
    wanted == found || (field == "program" && !wanted.contains('/') && wanted == name())
}

/// What somebody saw and wants from now on; `None`: that it is not there.
pub type Accepted = BTreeMap<Item, Option<State>>;

/// Makes what somebody saw the recorded state, where it still is so. Unless each was `named`, much of a section is not
/// forgotten at once (guardrail 9). What was refused, and why, one line each.
#[must_use]
pub fn accept(
    recorded: &mut Golden,
    declared: &Declared,
    present: &Golden,
    items: &Accepted,
    named: bool,
) -> Vec<String> {
    let mut refused = Vec::new();
    let much = |section: Section| {
        let all = recorded.0.get(&section).map_or(0, BTreeMap::len);
        let gone = items.iter().filter(|(item, seen)| item.section == section && seen.is_none()).count();
        !named && is_much(gone, all)
    };
    let much: BTreeSet<Section> = Section::ALL.into_iter().filter(|section| much(*section)).collect();
    for (item, seen) in items {
        if !present.0.contains_key(&item.section) {
            refused.push(format!("{item}: its section cannot be read now"));
        } else if present.get(item) != seen.as_ref() {
            refused.push(format!("{item}: it has changed since you looked; look again"));
        } else if declared.items.contains_key(item) || declared.complete.contains(&item.section) {
            refused.push(format!("{item}: it is declared; change the declared state instead"));
        } else if seen.is_none() && much.contains(&item.section) {
            refused.push(format!("{item}: much of its section is missing; name it if that is wanted"));
        } else {
            recorded.set(item, seen.as_ref());
        }
    }
    refused
}

/// Who did it, as far as the graph knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub time: Timestamp,
    pub process: ProcessKey,
    pub program: Option<HostPath>,
    /// `None` when the process is forgotten.
    pub uid: Option<u32>,
    /// Who had logged in, when it was a session.
    pub login: Option<u32>,
    /// What had started the process: `login session of uid 1000 from 127.0.0.2`.
    pub started_by: String,
    /// What was written; none for the owner of a socket.
    pub path: Option<HostPath>,
    /// So many others (sessions, units, cron runs) wrote it too since it was last looked at: it may have been one of them.
    #[serde(default)]
    pub others: u32,
}

/// Who wrote the first of these paths that was written after `after` in the boot `boot`: of several, who made what is
/// new is the `earliest`, and who changed what is there the latest.
#[must_use]
pub fn author(graph: &Graph, paths: &[HostPath], boot: BootId, after: Timestamp, earliest: bool) -> Option<Author> {
    paths.iter().find_map(|path| {
        let since = |write: &&Write| write.writer.boot == boot && write.until >= after;
        let mut writes = graph.file(path)?.writes.iter().filter(since);
        let starts: BTreeSet<_> = writes.clone().map(|write| write.invocation).collect();
        let write = if earliest { writes.next()? } else { writes.next_back()? };
        let node = graph.process(write.writer);
        let started = graph.invocation(write.invocation);
        Some(Author {
            time: write.until,
            process: write.writer,
            program: node.and_then(|node| node.exe.clone()),
            uid: node.map(|node| node.user.euid),
            login: started.and_then(|started| started.login_uid),
            started_by: started.map(crate::graph::Invocation::title).unwrap_or_default(),
            path: Some(path.clone()),
            others: u32::try_from(starts.len() - 1).unwrap_or(u32::MAX),
        })
    })
}

/// The process itself, and what started it.
#[must_use]
pub fn owner(graph: &Graph, process: ProcessKey) -> Option<Author> {
    let node = graph.process(process)?;
    let started = graph.invocation(node.invocation);
    Some(Author {
        time: node.executed.unwrap_or(node.seen),
        process,
        program: node.exe.clone(),
        uid: Some(node.user.euid),
        login: started.and_then(|started| started.login_uid),
        started_by: started.map(crate::graph::Invocation::title).unwrap_or_default(),
        path: None,
        others: 0,
    })
}

/// A drift with its story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub drift: Drift,
    /// When it was done, where somebody was seen doing it; else when it was first noticed. Unix nanoseconds.
    pub since_unix_ns: u64,
    /// `None`: nobody was seen.
    pub author: Option<Author>,
    /// Name of the author's user, and of who had logged in, by the host's own accounts.
    pub user: Option<String>,
    pub login: Option<String>,
}

/// What readers see of the golden state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When the first state was recorded; `None`: not yet. Unix nanoseconds.
    pub recorded_unix_ns: Option<u64>,
    /// The last look; `None`: not yet. Unix nanoseconds.
    pub read_unix_ns: Option<u64>,
    /// How long it took, milliseconds.
    pub read_ms: u64,
    /// Items there now.
    pub counts: BTreeMap<Section, u64>,
    /// Sections that could not be read, and why.
    pub unread: BTreeMap<Section, String>,
    /// Items left out, beyond [`ITEMS_MAX`].
    pub left_out: u64,
    /// Where the declared state lies, and how many items it has.
    pub declared: Option<(String, u64)>,
    /// What is wrong with the recorded or the declared state.
    pub problems: Vec<String>,
    pub drift: Vec<Told>,
    /// Further drifts.
    pub omitted: u64,
    /// What is recorded; on a page of its own.
    #[serde(skip)]
    pub recorded: Arc<Golden>,
}
