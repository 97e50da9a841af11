// SPDX-License-Identifier: Apache-2.0
//! D3-AL Account Locking: an account that expired long ago lets nobody in, whatever key or password they have (shadow(5),
//! pam_unix(8), sshd(8)); its password, keys and processes stay as they are.
//!
//! Input: the number of an account. Output: its line in the shadow file with another eighth field; no other byte, attribute or
//! time of the file changes. Undo puts that field back into the file as it is then. Invariants: everything is written with the
//! lock held that passwd(1) takes, and the file is replaced whole; an account that is not certain is not locked.

use crate::system::{AccountsHeld, Digest, Error, FileState, Result, System};
use serde::{Deserialize, Serialize};
use thymus_engine::HostPath;
use thymus_engine::action::{Expected, Facts, Outcome};

const PASSWD: &str = "/etc/passwd";
/// The second day of 1970: 0 may also be read as never, says shadow(5). It takes the place of any other day, also of one in the
/// past: whoever sets the clock back does not come in either.
const EXPIRED: &str = "1";
/// Counted from 0, of nine.
const EXPIRES: usize = 7;
const FIELDS: usize = 9;

/// What undo needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub name: String,
    /// Days since 1970; empty: never.
    pub expiry: String,
    /// Of the file, as `chattr(1)` sets them: what is immutable is so again after a crash.
    pub flags: u32,
}

pub fn capture(system: &mut dyn System, uid: u32, path: &HostPath) -> Result<(Before, Facts)> {
    let passwd = HostPath::from(PASSWD);
    let name = name_of(&read(system, &passwd)?.1, uid).map_err(|why| refused(&passwd, why))?;
    let (file, content) = read(system, path)?;
    let expiry = expiry_of(&content, &name).map_err(|why| refused(path, why))?;
    let as_expected = if expiry == EXPIRED { Expected::AlreadyDone } else { Expected::Yes };
    let never_touch = name == "root";
    Ok((Before { name, expiry, flags: file.flags }, Facts { never_touch, ..Facts::ready(as_expected, 1) }))
}

pub fn apply(system: &mut dyn System, path: &HostPath, before: &Before) -> Result<Outcome> {
    let held = system.hold_accounts()?;
    let (file, content) = read(system, path)?;
    Ok(match expiry_of(&content, &before.name) {
        Ok(found) if found == EXPIRED => Outcome::DoesNotExist,
        Ok(found) if found == before.expiry => {
            set(system, &held, (path, file, &content), (&before.name, EXPIRED))?;
            Outcome::Success
        }
        Ok(found) => Outcome::Reverted(format!("nothing was done: {}", another(&before.name, &found))),
        Err(why) => Outcome::Reverted(format!("nothing was done: {why}")),
    })
}

/// What others changed in the file since stays. Reverting twice is reverting once.
pub fn revert(system: &mut dyn System, path: &HostPath, before: &Before) -> Result<Outcome> {
    let (file, content) = read(system, path)?;
    system.tidy(path, &[&file])?;
    if before.expiry == EXPIRED || expiry_of(&content, &before.name).as_ref() == Ok(&before.expiry) {
        return Ok(Outcome::Undone);
    }
    let held = system.hold_accounts()?;
    let (file, content) = read(system, path)?;
    Ok(match expiry_of(&content, &before.name) {
        Ok(found) if found == EXPIRED => {
            set(system, &held, (path, file, &content), (&before.name, &before.expiry))?;
            Outcome::Undone
        }
        Ok(found) if found == before.expiry => Outcome::Undone,
        Ok(found) => Outcome::Failed(format!("{}; it stays so", another(&before.name, &found))),
        Err(why) => Outcome::Failed(format!("there is nothing to unlock: `{path}`: {why}")),
    })
}

/// After a crash: done when the account is locked, else as it was, for the file is replaced whole.
pub fn settle_open(system: &mut dyn System, path: &HostPath, before: &Before, why: &str) -> Result<Outcome> {
    let (file, content) = read(system, path)?;
    system.tidy(path, &[&file])?;
    flag(system, path, before.flags)?;
    Ok(match expiry_of(&content, &before.name) {
        Ok(found) if found == EXPIRED => Outcome::Success,
        Ok(found) if found == before.expiry => Outcome::Reverted(why.to_owned()),
        Ok(found) => Outcome::Reverted(format!("{why}, and {}", another(&before.name, &found))),
        Err(more) => Outcome::Reverted(format!("{why}, and {more}")),
    })
}

/// What the file would be if none of these had ever been locked.
pub fn without(system: &mut dyn System, path: &HostPath, locked: &[&Before]) -> Result<FileState> {
    let (file, mut content) = read(system, path)?;
    for before in locked {
        if expiry_of(&content, &before.name).as_deref() == Ok(EXPIRED) {
            content = with_expiry(&content, &before.name, &before.expiry).map_err(|why| refused(path, why))?;
        }
    }
    Ok(FileState { content: Some(Digest::of(&content)), size: content.len() as u64, ..file })
}

/// Another expiry in one line of the file as it was read.
fn set(
    system: &mut dyn System,
    _held: &AccountsHeld,
    (path, file, content): (&HostPath, FileState, &[u8]),
    (name, expiry): (&str, &str),
) -> Result<()> {
    let content = with_expiry(content, name, expiry).map_err(|why| refused(path, why))?;
    let digest = Some(system.keep(&content)?);
    let wanted = FileState { content: digest, size: content.len() as u64, ..file.clone() };
    system.place(path, Some(&file), &wanted).inspect_err(|_| drop(flag(system, path, file.flags)))
}

/// Flags come last when a file is replaced, and may be missing.
fn flag(system: &mut dyn System, path: &HostPath, flags: u32) -> Result<()> {
    match system.look(path)? {
        Some(found) if found.flags != flags => {
            let wanted = FileState { flags, ..found.clone() };
            system.place(path, Some(&found), &wanted)
        }
        _ => Ok(()),
    }
}

fn read(system: &mut dyn System, path: &HostPath) -> Result<(FileState, Vec<u8>)> {
    let file = system.capture(path)?.ok_or_else(|| refused(path, "it is not there".to_owned()))?;
    let digest = file.content.ok_or_else(|| refused(path, "it is no regular file".to_owned()))?;
    let content = system.kept(&digest)?;
    Ok((file, content))
}

fn refused(path: &HostPath, why: String) -> Error {
    Error::Refused { path: path.clone(), why }
}

fn another(name: &str, expiry: &str) -> String {
    let shown = if expiry.is_empty() { "never".to_owned() } else { format!("on day {expiry} since 1970") };
    format!("the account `{}` expires {shown} by now, as somebody else set it", name.escape_default())
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split(|byte| *byte == b'\n')
}

fn field(line: &[u8], at: usize) -> Option<&[u8]> {
    line.split(|byte| *byte == b':').nth(at)
}

/// Of passwd(5). Where several accounts share the number, or several lines the name, none is meant for certain.
fn name_of(accounts: &[u8], uid: u32) -> std::result::Result<String, String> {
    let number = uid.to_string();
    let mut named = lines(accounts).filter(|line| field(line, 2) == Some(number.as_bytes()));
    let (Some(line), None) = (named.next(), named.next()) else {
        return Err(format!("it has not exactly one account of uid {uid}"));
    };
    let name = field(line, 0).and_then(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("the account of uid {uid} has no name that can be read"))?;
    match lines(accounts).filter(|line| field(line, 0) == Some(name.as_bytes())).count() {
        1 => Ok(name.to_owned()),
        count => Err(format!("it has {count} lines of `{}`", name.escape_default())),
    }
}

/// The fields of the one line of this name, with its place among the lines.
fn fields_of<'c>(content: &'c [u8], name: &str) -> std::result::Result<(usize, Vec<&'c [u8]>), String> {
    let mut named = lines(content).enumerate().filter(|(_, line)| field(line, 0) == Some(name.as_bytes()));
    let shown = name.escape_default();
    let (at, line) = named.next().ok_or_else(|| format!("it has no line of `{shown}`"))?;
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let expiry = fields.get(EXPIRES).and_then(|expiry| std::str::from_utf8(expiry).ok());
    match expiry.filter(|expiry| expiry.is_empty() || expiry.parse::<i64>().is_ok()) {
        _ if named.next().is_some() => Err(format!("it has several lines of `{shown}`")),
        Some(_) if fields.len() == FIELDS => Ok((at, fields)),
        _ => {
            Err(format!("the line of `{shown}` is not as shadow(5) has it: nine fields, the eighth a number or empty"))
        }
    }
}

fn expiry_of(content: &[u8], name: &str) -> std::result::Result<String, String> {
    fields_of(content, name).map(|(_, fields)| String::from_utf8_lossy(fields[EXPIRES]).into_owned())
}

fn with_expiry(content: &[u8], name: &str, expiry: &str) -> std::result::Result<Vec<u8>, String> {
    let (at, mut fields) = fields_of(content, name)?;
    fields[EXPIRES] = expiry.as_bytes();
    let line = fields.join(&b':');
    let mut lines: Vec<&[u8]> = lines(content).collect();
    lines[at] = &line;
    Ok(lines.join(&b'\n'))
}

/// Accounts that somebody else wrote: whatever is locked in them comes back to the byte.
pub(crate) fn fuzz(bytes: &[u8]) {
    let name = name_of(bytes, 1_001).unwrap_or_else(|_| "alice".to_owned());
    let Ok(before) = expiry_of(bytes, &name) else { return };
    let locked = with_expiry(bytes, &name, EXPIRED).expect("a line that has an expiry can get another one");
    assert_eq!(expiry_of(&locked, &name).as_deref(), Ok(EXPIRED));
    assert_eq!(lines(&locked).count(), lines(bytes).count());
    assert_eq!(with_expiry(&locked, &name, &before).as_deref(), Ok(bytes));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "root:*:19000:0:99999:7:::\nalice:$6$x:19000:0:99999:7:::\n",
        "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/:\n",
        "alice:x:1001:::::7:\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHADOW: &str = "root:*:19000:0:99999:7:::\nalice:$6$x:19000:0:99999:7:::\nal:!:19000:0:99999:7::20000:\n";

    #[test]
    fn the_line_of_one_account_gets_another_expiry_and_nothing_else_changes() {
        for content in [SHADOW.to_owned(), SHADOW.trim_end().to_owned(), format!("\n#\u{e9}\n{SHADOW}\n\n")] {
            for (name, before, after) in
                [("alice", "x:19000:0:99999:7:::", "x:19000:0:99999:7::1:"), ("al", "::20000:", "::1:")]
            {
                let locked = with_expiry(content.as_bytes(), name, EXPIRED).unwrap_or_default();
                assert_eq!(String::from_utf8_lossy(&locked), content.replace(before, after));
                let expiry = expiry_of(content.as_bytes(), name).unwrap_or_default();
                assert_eq!(with_expiry(&locked, name, &expiry), Ok(content.clone().into_bytes()));
            }
        }
    }

    #[test]
    fn a_line_that_is_not_there_or_there_twice_or_not_whole_is_told_and_left_alone() {
        for (content, why) in [
            (SHADOW.replace("alice", "bob"), "no line"),
            (String::new(), "no line"),
            (SHADOW.repeat(2), "several lines"),
            ("alice:x:1".to_owned(), "shadow(5)"),
            ("alice:x:1:::::::".to_owned(), "shadow(5)"),
            ("alice:x:1:::::soon:".to_owned(), "shadow(5)"),
        ] {
            let told = expiry_of(content.as_bytes(), "alice").err().unwrap_or_default();
            assert!(told.contains(why), "{content}: {told}");
            assert_eq!(with_expiry(content.as_bytes(), "alice", EXPIRED), Err(told));
        }
    }

    #[test]
    fn an_account_is_found_by_its_number_unless_several_have_it_or_its_name() {
        let accounts = "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\ntoor:x:0:0::/:/bin/sh\n\
                        ops:x:1000:1000::/:/bin/sh\nops:x:1002:1002::/:/bin/sh\n:x:1003:1003::/:/bin/sh\n";
        assert_eq!(name_of(accounts.as_bytes(), 1001).as_deref(), Ok("alice"));
        for uid in [0, 1, 100, 1000, 1002, 1003] {
            assert!(name_of(accounts.as_bytes(), uid).is_err(), "{uid}");
        }
    }
}
