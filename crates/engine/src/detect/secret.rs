// SPDX-License-Identifier: Apache-2.0
//! `credential-access/secret`, and what counts as a secret.

use super::place::is_installed;
use super::{Authority, Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// Root's power that reads a private key, the file of passwords or another secret, for a request to a web server or in the
/// session of somebody who is no administrator, by a program that is not there for it.
/// # Why it matters
/// Keys and passwords that were seen open this host again, and others (ATT&CK T1552.004, T1003.008). What was read has to
/// be made anew: `thymus explain` lists it.
/// # Blind spots
/// Secrets by another name than keys and passwords usually have; copies made before; who reads memory instead of files; who
/// reads what is their own.
/// # False positives
/// A backup that somebody runs by sudo without being named an administrator: medium, so that it never acts alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Secret;

/// Whoever lets people in, becomes somebody or keeps accounts reads these all day, and shows them to nobody.
const OFFICE: &[&[u8]] = &[
    b"sshd", b"sshd-session", b"sshd-auth", b"ssh-keysign", b"login", b"su", b"sudo", b"cron", b"atd", b"unix_chkpwd",
    b"passwd", b"chage", b"useradd", b"usermod", b"userdel", b"groupadd", b"groupmod", b"groupdel", b"gpasswd",
    b"chpasswd", b"pwck", b"grpck", b"newusers", b"nscd", b"polkitd",
];

/// Reads them all day as well, for whoever asks: what an attack read by one of these, it has.
const USUAL: &[&[u8]] = &[b"ssh", b"ssh-add", b"ssh-agent", b"ssh-keygen", b"vipw"];

/// Where distributions put them (Debian, Fedora, openSUSE, Alpine): nothing else that has their name is one of them.
const OFFICE_IN: &[&[u8]] = &[
    b"/bin", b"/sbin", b"/usr/bin", b"/usr/sbin", b"/usr/lib/openssh", b"/usr/lib/ssh", b"/usr/libexec/openssh",
    b"/usr/lib/polkit-1", b"/usr/libexec",
];

/// Whether a program of this name, where a distribution puts it, reads secrets for the host alone.
#[must_use]
pub fn reads_by_office(program: &HostPath) -> bool {
    OFFICE.contains(&program.file_name()) && OFFICE_IN.contains(&program.parent())
}

impl Detector for Secret {
    const META: Meta = Meta { name: "credential-access/secret", technique: "T1552.004", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let file = look.file().filter(|file| file.activity == FileActivityId::Read)?;
        let as_root = look.seen()?.user.euid == 0;
        let usual = look.program().is_none_or(|program| reads_by_office(program) || is_installed(program, USUAL));
        if !as_root || usual || look.authority() != Authority::Nobody {
            return None;
        }
        let for_request = look.invocation().is_some_and(|found| *found.kind == InvocationKind::Request);
        if !for_request && !look.is_borrowed_power() && !look.is_suspect() {
            return None;
        }
        let path = &file.file.path;
        let passwords = matches!(path.file_name(), b"shadow" | b"shadow-" | b"gshadow" | b"gshadow-");
        let technique = passwords.then_some("T1003.008");
        Some(Claim { technique, ..look.claim(Confidence::Medium, path, "was read") })
    }
}

/// Whether it is a private key that somebody logs in with, by its name.
pub(super) fn is_login_key(path: &HostPath) -> bool {
    let name = path.file_name();
    let own = [&b"id_rsa"[..], b"id_ed25519", b"id_ecdsa", b"id_dsa"].iter().any(|start| name.starts_with(start));
    own && !name.ends_with(b".pub")
}

/// Whether a file that not everybody may read is a secret, by its name.
#[must_use]
pub fn is_secret(path: &HostPath) -> bool {
    let name = path.file_name();
    let host_key = name.starts_with(b"ssh_host_") && !name.ends_with(b".pub");
    let named: [&[u8]; 10] = [
        b"shadow", b"shadow-", b"gshadow", b"gshadow-", b".pgpass", b".netrc", b".my.cnf", b".git-credentials",
        b"credentials", b"privkey.pem",
    ];
    is_login_key(path) || host_key || named.contains(&name) || name.ends_with(b".key") || name.ends_with(b"-key.pem")
}
