// SPDX-License-Identifier: Apache-2.0
//! Settings that decide about the host's security: sshd, the kernel, login defaults, the packet filter; and files that
//! are settings themselves: sudoers, PAM, cron, the loader's.

use super::below::{Below, FILE_BYTES_MAX, join};
use super::{Error, Items, Result, digest, lines, state, text, words};
use crate::scope::Scope;
use crate::system::services::{in_network, packet_filter};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use thymus_engine::HostPath;
use thymus_engine::golden::{Item, LOGIN_DEFS, SSHD, SYSCTLS, Section};

/// LIMIT: files that one sshd_config includes.
const INCLUDES_MAX: usize = 64;
/// Files that are settings, by the kind that their names begin with.
const FILES: [(&str, &[u8]); 6] = [
    ("cron", b"/etc/crontab"),
    ("cron", b"/etc/anacrontab"),
    ("loader", b"/etc/ld.so.preload"),
    ("sudoers", b"/etc/sudoers"),
    ("environment", b"/etc/environment"),
    ("profile", b"/etc/profile"),
];
/// And directories of such files.
const DIRECTORIES: [(&str, &[u8]); 9] = [
    ("cron", b"/etc/cron.d"),
    ("cron", b"/etc/cron.hourly"),
    ("cron", b"/etc/cron.daily"),
    ("cron", b"/etc/cron.weekly"),
    ("cron", b"/etc/cron.monthly"),
    ("cron", b"/var/spool/cron/crontabs"),
    ("sudoers", b"/etc/sudoers.d"),
    ("pam", b"/etc/pam.d"),
    ("profile", b"/etc/profile.d"),
];

pub(super) fn read(below: &Below<'_>, scope: &Scope, behind: &mut BTreeMap<Item, Vec<HostPath>>) -> Result<Items> {
    let mut found = Items::new();
    let mut set = |name: String, value: String| drop(found.insert(name, state([("value", value)])));
    for (kind, path) in FILES {
        if let Some(digest) = content(below, path)? {
            set(format!("{kind} {}", text(path)), digest);
        }
    }
    for (kind, directory) in DIRECTORIES {
        for (name, file) in below.list(directory)? {
            let path = join(directory, &name);
            // What these programs ignore by its name is no setting.
            let ignored = name.starts_with(b".") || file == FileType::Directory;
            if let (false, Some(digest)) = (ignored, content(below, &path)?) {
                set(format!("{kind} {}", text(&path)), digest);
            }
        }
    }
    let (files, texts) = sshd(below)?;
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    for (name, value) in directives(&texts) {
        set(format!("sshd {name}"), value);
    }
    for name in SSHD {
        behind.insert(Item::new(Section::Settings, format!("sshd {name}")), files.clone());
    }
    if let Some(bytes) = below.read(b"/etc/login.defs", FILE_BYTES_MAX)? {
        for (name, value) in definitions(&bytes) {
            set(format!("login.defs {name}"), value);
        }
    }
    for (name, value) in sysctls(scope)? {
        set(format!("sysctl {name}"), value);
    }
    if let Some(rules) = packet_filter(scope)? {
        set("nftables ruleset".to_owned(), digest(rules.as_bytes()));
    }
    Ok(found)
}

/// `None`: there is nothing. A file that cannot be read says so: it is there.
fn content(below: &Below<'_>, path: &[u8]) -> Result<Option<String>> {
    match below.read(path, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(bytes.map(|bytes| digest(&bytes))),
        Err(Error::Deadline) => Err(Error::Deadline),
        Err(_) => Ok(Some("unreadable".to_owned())),
    }
}

/// sshd's own order: an included file stands where it is included. One level deep.
fn sshd(below: &Below<'_>) -> Result<(Vec<HostPath>, Vec<Vec<u8>>)> {
    const MAIN: &[u8] = b"/etc/ssh/sshd_config";
    let Some(main) = below.read(MAIN, FILE_BYTES_MAX)? else { return Ok((Vec::new(), Vec::new())) };
    let (mut files, mut texts, mut rest) = (vec![HostPath::new(MAIN)], Vec::new(), Vec::new());
    for line in lines(&main) {
        let patterns = includes(line);
        if patterns.is_empty() {
            rest.extend_from_slice(line);
            rest.push(b'\n');
            continue;
        }
        texts.push(std::mem::take(&mut rest));
        for pattern in patterns {
            let cut = pattern.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let (directory, name) = (&pattern[..cut], &pattern[cut + 1..]);
            let names = match name.iter().position(|byte| *byte == b'*') {
                None => vec![(name.to_vec(), FileType::RegularFile)],
                Some(_) => below.list(directory)?,
            };
            for (found, _) in names {
                if files.len() < INCLUDES_MAX
                    && matches(name, &found)
                    && let Some(bytes) = below.read(&join(directory, &found), FILE_BYTES_MAX)?
                {
                    files.push(HostPath::new(&join(directory, &found)));
                    texts.push(bytes);
                }
            }
        }
    }
    texts.push(rest);
    Ok((files, texts))
}

/// One `*`, as distributions write it.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|byte| *byte == b'*') {
        None => pattern == name,
        Some(star) => {
            let (front, back) = (&pattern[..star], &pattern[star + 1..]);
            name.len() >= front.len() + back.len() && name.starts_with(front) && name.ends_with(back)
        }
    }
}

/// What a line includes, absolute; none when it includes nothing.
pub(super) fn includes(line: &[u8]) -> Vec<Vec<u8>> {
    let mut found = words(line);
    if !found.next().is_some_and(|word| word.eq_ignore_ascii_case(b"Include")) {
        return Vec::new();
    }
    let absolute = |word: &[u8]| if word.starts_with(b"/") { word.to_vec() } else { join(b"/etc/ssh", word) };
    found.take_while(|word| !word.starts_with(b"#")).take(INCLUDES_MAX).map(absolute).collect()
}

/// Directives that are set, in the standard's spelling. The first value counts, but of ports, addresses and lists all
/// do. What comes after the first `Match` of a file holds for some only: its digest stands for it.
pub(super) fn directives(texts: &[&[u8]]) -> BTreeMap<String, String> {
    const ALL_COUNT: &[&str] = &["AllowGroups", "AllowUsers", "DenyGroups", "DenyUsers", "ListenAddress", "Port"];
    let mut found: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    let mut matched = Vec::new();
    for text in texts {
        let mut within_match = false;
        for line in lines(text) {
            let line = line.trim_ascii();
            // `Name value`, `Name=value`.
            let end = line.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'=').unwrap_or(line.len());
            let (name, value) = (&line[..end], line[end..].trim_ascii_start());
            let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
            if name.is_empty() || name.starts_with(b"#") {
                continue;
            }
            within_match |= name.eq_ignore_ascii_case(b"Match");
            if within_match {
                matched.extend_from_slice(line);
                matched.push(b'\n');
                continue;
            }
            let Some(known) = SSHD.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)) else { continue };
            let value = match value.windows(2).position(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'#') {
                Some(comment) => value[..comment].trim_ascii_end(),
                None => value,
            };
            let values = found.entry(known).or_default();
            if values.is_empty() || ALL_COUNT.contains(known) {
                values.push(value.to_vec());
            }
        }
    }
    let mut found: BTreeMap<String, String> =
        found.into_iter().map(|(name, values)| (name.to_owned(), text(&values.join(&b' ')))).collect();
    if !matched.is_empty() {
        found.insert("Match".to_owned(), digest(&matched));
    }
    found
}

/// Keys of login.defs(5) that are set; the last value counts.
pub(super) fn definitions(bytes: &[u8]) -> BTreeMap<String, String> {
    let pair = |line: &[u8]| {
        let mut words = words(line);
        let (name, value) = (words.next()?, words.next()?);
        let known = LOGIN_DEFS.iter().find(|known| known.as_bytes() == name)?;
        Some(((*known).to_owned(), text(value)))
    };
    lines(bytes).filter_map(pair).collect()
}

/// In the scope's network namespace, which decides about the `net.` ones.
fn sysctls(scope: &Scope) -> Result<Vec<(&'static str, String)>> {
    let read = || {
        let value = |name: &&'static str| {
            let value = std::fs::read(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
            Some((*name, text(value.trim_ascii())))
        };
        SYSCTLS.iter().filter_map(value).collect()
    };
    Ok(in_network(scope, read)?)
}
