// SPDX-License-Identifier: Apache-2.0
//! Users: who there is, what they may become, whether and how they get in. Never a password's hash, only a digest of it.

use super::below::{Below, FILE_BYTES_MAX, join};
use super::{Error, Items, Result, digest, lines, state, text};
use thymus_engine::golden::{ITEMS_MAX, State};

/// Groups whose members are as good as root, by their usual names.
const PRIVILEGED: &[&[u8]] = &[
    b"adm",
    b"admin",
    b"disk",
    b"docker",
    b"incus-admin",
    b"kvm",
    b"libvirt",
    b"lxd",
    b"root",
    b"shadow",
    b"sudo",
    b"wheel",
];

pub(super) fn read(below: &Below<'_>) -> Result<Items> {
    let passwd = below.read(b"/etc/passwd", FILE_BYTES_MAX)?.ok_or(Error::Missing("there is no /etc/passwd"))?;
    let shadow = below.read(b"/etc/shadow", FILE_BYTES_MAX)?.unwrap_or_default();
    let group = below.read(b"/etc/group", FILE_BYTES_MAX)?.unwrap_or_default();
    let mut found = parse(&passwd, &shadow, &group);
    let homes: Vec<(String, Vec<u8>)> =
        fields(&passwd).filter_map(|user| Some((text(user[0]), user.get(5)?.to_vec()))).collect();
    for (name, home) in homes {
        let (Some(account), true) = (found.get_mut(&name), home.starts_with(b"/") && home.len() > 1) else { continue };
        // A home may be gone, a link to nowhere, or the user's own pipe.
        match below.read(&join(&home, b".ssh/authorized_keys"), FILE_BYTES_MAX) {
            Ok(Some(bytes)) => set_keys(account, &bytes),
            Ok(None) => {}
            Err(Error::Deadline) => return Err(Error::Deadline),
            Err(_) => drop(account.insert("keys".to_owned(), "unreadable".to_owned())),
        }
    }
    Ok(found)
}

fn set_keys(account: &mut State, bytes: &[u8]) {
    let count = keys(bytes);
    if count > 0 {
        account.insert("keys".to_owned(), count.to_string());
        account.insert("keys_digest".to_owned(), digest(bytes));
    }
}

/// Lines of an authorized_keys file that let somebody in.
pub(super) fn keys(bytes: &[u8]) -> usize {
    let blank = |line: &[u8]| line.trim_ascii().is_empty() || line.trim_ascii().starts_with(b"#");
    lines(bytes).filter(|line| !blank(line)).count()
}

fn fields(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let named = lines(bytes).filter(|line| !line.is_empty() && !line.starts_with(b"#") && !line.starts_with(b":"));
    named.map(|line| line.split(|byte| *byte == b':').collect())
}

/// Of several lines with one name the first counts, as for the C library.
pub(super) fn parse(passwd: &[u8], shadow: &[u8], group: &[u8]) -> Items {
    let mut found = Items::new();
    for user in fields(passwd).take(ITEMS_MAX) {
        let [name, password, uid, gid, _, home, shell, ..] = user[..] else { continue };
        let account = state([("uid", text(uid)), ("gid", text(gid)), ("home", text(home)), ("shell", text(shell))]);
        let account = found.entry(text(name)).or_insert(account);
        if password != b"x" && !account.contains_key("password") {
            set_password(account, password);
        }
    }
    for user in fields(shadow).take(ITEMS_MAX) {
        if let ([name, password, ..], true) = (&user[..], user.len() > 1)
            && let Some(account) = found.get_mut(&text(name)).filter(|account| !account.contains_key("password"))
        {
            set_password(account, password);
        }
    }
    for line in fields(group).take(ITEMS_MAX) {
        let [name, _, gid, members, ..] = line[..] else { continue };
        if !PRIVILEGED.contains(&name) {
            continue;
        }
        let (name, gid) = (text(name), text(gid));
        let of_gid = found.iter().filter(|(_, account)| account.get("gid") == Some(&gid)).map(|(user, _)| user.clone());
        let listed = members.split(|byte| *byte == b',').filter(|member| !member.is_empty()).take(ITEMS_MAX).map(text);
        for member in of_gid.chain(listed).collect::<Vec<_>>() {
            // A member that passwd does not know may come from a directory service.
            let groups = found.entry(member).or_default().entry("groups".to_owned()).or_default();
            if !groups.split(',').any(|group| group == name) {
                *groups = if groups.is_empty() { name.clone() } else { format!("{groups},{name}") };
            }
        }
    }
    for account in found.values_mut() {
        if let Some(groups) = account.get_mut("groups") {
            let mut names: Vec<&str> = groups.split(',').collect();
            names.sort_unstable();
            *groups = names.join(",");
        }
    }
    found
}

fn set_password(account: &mut State, password: &[u8]) {
    let kind = match password {
        b"" => "empty",
        [b'!' | b'*', ..] => "locked",
        _ => "set",
    };
    account.insert("password".to_owned(), kind.to_owned());
    if kind == "set" {
        account.insert("password_digest".to_owned(), digest(password));
    }
}
