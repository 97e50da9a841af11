// SPDX-License-Identifier: Apache-2.0
//! What a host has: services, listeners, accounts, packages, key settings, as they are now.
//!
//! In: the scope's root, its first process's namespaces, its processes in `/proc`. Out: a [`Golden`] state, with what is
//! behind its items. Reads only. Invariants: no path leaves the scope's root (`openat2(2)`); only regular files are read;
//! every file, listing and look has its limit and all of it one deadline; a section that cannot be read whole is left out
//! with the reason, never shown shorter than it is. Sources: passwd(5), shadow(5), group(5), sshd_config(5), login.defs(5),
//! crontab(5), dpkg(1), systemd.unit(5), proc(5).

mod accounts;
pub(crate) mod below;
mod listeners;
mod packages;
pub(crate) mod paragraphs;
mod services;
mod settings;

use crate::scope::Scope;
use crate::system::Digest;
use below::Below;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use thymus_engine::golden::{Golden, ITEMS_MAX, Item, Section, State, VALUE_BYTES_MAX};
use thymus_engine::{HostPath, ProcessKey};

/// One look takes at most this long, and what a program that is asked needs beyond it.
pub const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// Why a section was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{path}`: {source}")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is larger than {bytes} bytes")]
    Large { path: String, bytes: u64 },
    #[error("`{path}` is no regular file")]
    Kind { path: String },
    #[error("it took longer than {LOOK_LIMIT:?}")]
    Deadline,
    #[error("{0}")]
    Missing(&'static str),
    #[error("{}", .0.in_words())]
    System(#[from] crate::system::Error),
}

type Result<T> = std::result::Result<T, Error>;

/// One look at a host.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub golden: Golden,
    /// Why a section is missing.
    pub unread: BTreeMap<Section, String>,
    /// Items beyond [`ITEMS_MAX`].
    pub left_out: u64,
    /// Files that decide about an item, where its name does not say so.
    pub behind: BTreeMap<Item, Vec<HostPath>>,
    /// Whose a listener is, by its pid as the agent sees it.
    pub owners: BTreeMap<Item, u32>,
    /// Names of users, by number; of several, the first.
    pub users: BTreeMap<u32, String>,
}

type Items = BTreeMap<String, State>;

/// Looks at everything once.
#[must_use]
pub fn look(scope: &Scope) -> Inventory {
    let below = Below::new(scope, Instant::now() + LOOK_LIMIT);
    let (mut behind, mut owners) = (BTreeMap::new(), BTreeMap::new());
    let found = [
        (Section::Accounts, accounts::read(&below)),
        (Section::Packages, packages::read(&below)),
        (Section::Services, services::read(&below, scope, &mut behind)),
        (Section::Listeners, listeners::read(&below, scope, &mut owners)),
        (Section::Settings, settings::read(&below, scope, &mut behind)),
    ];
    let mut inventory = Inventory { behind, owners, ..Inventory::default() };
    for (section, found) in found {
        match found {
            Ok(mut items) => {
                while items.len() > ITEMS_MAX {
                    items.pop_last();
                    inventory.left_out += 1;
                }
                inventory.golden.0.insert(section, items);
            }
            Err(why) => drop(inventory.unread.insert(section, why.to_string())),
        }
    }
    for (name, state) in inventory.golden.0.get(&Section::Accounts).into_iter().flatten() {
        if let Some(uid) = state.get("uid").and_then(|uid| uid.parse().ok()) {
            inventory.users.entry(uid).or_insert_with(|| name.clone());
        }
    }
    inventory
}

/// The process that owns a listener, exactly; `None` when it is gone or the kernel does not say.
#[must_use]
pub fn process(pid: u32) -> Option<ProcessKey> {
    crate::sense::process_key(pid)
}

/// Bytes that somebody else chose, as one line; long ones by their digest.
fn text(bytes: &[u8]) -> String {
    if bytes.len() > VALUE_BYTES_MAX { digest(bytes) } else { HostPath::new(bytes).to_string() }
}

/// Enough of a digest to see a change.
fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string().chars().take(32).collect()
}

fn state<const N: usize>(fields: [(&str, String); N]) -> State {
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Every text that this reads, of any bytes: nothing panics, and no value is longer than its limit or more than a line.
pub(crate) fn fuzz(bytes: &[u8]) {
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let mut found =
        vec![accounts::parse(bytes, one, other), accounts::parse(one, other, bytes), packages::parse(bytes)];
    found.push(
        settings::directives(&[bytes]).into_iter().map(|(key, value)| (key, state([("value", value)]))).collect(),
    );
    found.push(settings::definitions(bytes).into_iter().map(|(key, value)| (key, state([("value", value)]))).collect());
    for (name, state) in found.into_iter().flatten() {
        // Each byte may show as four characters.
        assert!(name.len() <= 4 * VALUE_BYTES_MAX && !name.contains('\n'), "{name}");
        for (field, value) in state {
            assert!(value.len() <= 4 * VALUE_BYTES_MAX && !value.contains('\n'), "{field}: {value}");
        }
    }
    for version in [4, 6] {
        let _ = listeners::parse(bytes, "tcp", version);
        let _ = listeners::parse(bytes, "udp", version);
    }
    let _ = services::active(&String::from_utf8_lossy(bytes));
    let _ = settings::includes(bytes);
    let _ = accounts::keys(bytes);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "root:x:0:0:root:/root:/bin/bash\nalice:x:1001:1001::/home/alice:/bin/sh\nroot:$y$j9T$x$y:19000:0:99999:7:::\nalice:!:1::::::\nsudo:x:27:alice,ops\n",
        "Package: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.22.1-9\nDescription: a\n b\n\nPackage: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20157 1 0 100 0 0 10 0\n",
        "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20157 1 0\n",
        "Include /etc/ssh/sshd_config.d/*.conf\nPort 22\nPermitRootLogin no # x\nMatch User a\n  PermitRootLogin yes\n",
        "cron.service loaded active running Regular background program\nssh.socket loaded active listening x\n",
        "# x\nUMASK\t022\nENCRYPT_METHOD yescrypt\n",
        "ssh-ed25519 AAAA a@b\n# no\ncommand=\"x\" ssh-rsa BBBB\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

#[cfg(test)]
mod tests;
