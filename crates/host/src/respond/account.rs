// SPDX-License-Identifier: Apache-2.0
//! D3-AL Account Locking: an account that expired long ago lets nobody in, whatever key or password they have (shadow(5),
//! pam_unix(8), sshd(8)); its password, keys and processes stay as they are.
//!
//! Input: the number of an account. Output: its line in the shadow file with another eighth field, and nothing else. Undo puts
//! that field back into the file as it is then.

use crate::recover::file::{self, Before};
use crate::system::{Error, FileState, Result, System};
use thymus_engine::HostPath;
use thymus_engine::action::{Expected, Facts, Outcome};

const PASSWD: &str = "/etc/passwd";
/// The second day of 1970: 0 may also be read as never, says shadow(5).
const EXPIRED: &[u8] = b"1";
/// Counted from 0, of nine.
const EXPIRES: usize = 7;
const FIELDS: usize = 9;

pub fn capture(system: &mut dyn System, uid: u32, path: &HostPath) -> Result<(Before, Facts)> {
    let passwd = HostPath::from(PASSWD);
    let (_, accounts) = read(system, &passwd)?;
    let name = name_of(&accounts, uid).ok_or_else(|| refused(&passwd, format!("it has no account of uid {uid}")))?;
    let (before, content) = read(system, path)?;
    let wanted = with_expiry(&content, &name, EXPIRED).ok_or_else(|| refused(path, no_line(&name)))?;
    let as_expected = if wanted == content { Expected::AlreadyDone } else { Expected::Yes };
    let wanted = FileState { content: Some(system.keep(&wanted)?), size: wanted.len() as u64, ..before.clone() };
    Ok((Before::new(Some(before), Some(wanted), false), Facts::ready(as_expected, 1)))
}

/// What others changed in the file since stays. Reverting twice is reverting once.
pub fn revert(system: &mut dyn System, path: &HostPath, captured: &Before) -> Result<Outcome> {
    let kept = |system: &mut dyn System, state: Option<&FileState>| match state.and_then(|state| state.content) {
        Some(digest) => system.kept(&digest),
        None => Err(refused(path, "nothing was kept of it".to_owned())),
    };
    let before = kept(system, captured.before.as_ref())?;
    let locked = kept(system, captured.wanted.as_ref())?;
    let changed = lines(&before).find(|line| !lines(&locked).any(|other| other == *line));
    let Some((name, expiry)) = changed.and_then(|line| Some((field(line, 0)?, field(line, EXPIRES)?))) else {
        return Ok(Outcome::Undone); // it had expired before
    };
    let (found, content) = read(system, path)?;
    let Some(line) = lines(&content).find(|line| field(line, 0) == Some(name)) else {
        return Ok(Outcome::Failed(format!("`{path}`: {}; there is nothing to unlock", no_line(name))));
    };
    if field(line, EXPIRES) != Some(EXPIRED) {
        return Ok(Outcome::Undone); // somebody has said otherwise since
    }
    let wanted = with_expiry(&content, name, expiry).ok_or_else(|| refused(path, no_line(name)))?;
    let wanted = FileState { content: Some(system.keep(&wanted)?), size: wanted.len() as u64, ..found.clone() };
    file::apply(system, path, &Before::new(Some(found), Some(wanted), false))?;
    Ok(Outcome::Undone)
}

fn read(system: &mut dyn System, path: &HostPath) -> Result<(FileState, Vec<u8>)> {
    let state = system.capture(path)?.ok_or_else(|| refused(path, "it is not there".to_owned()))?;
    let digest = state.content.ok_or_else(|| refused(path, "it is no regular file".to_owned()))?;
    let content = system.kept(&digest)?;
    Ok((state, content))
}

fn refused(path: &HostPath, why: String) -> Error {
    Error::Refused { path: path.clone(), why }
}

fn no_line(name: &[u8]) -> String {
    format!("it has no whole line of `{}`", String::from_utf8_lossy(name).escape_default())
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split(|byte| *byte == b'\n')
}

fn field(line: &[u8], at: usize) -> Option<&[u8]> {
    line.split(|byte| *byte == b':').nth(at)
}

/// Of passwd(5). Where several accounts share a number none is meant for certain.
fn name_of(accounts: &[u8], uid: u32) -> Option<Vec<u8>> {
    let uid = uid.to_string();
    let mut named = lines(accounts).filter(|line| field(line, 2) == Some(uid.as_bytes()));
    let name = field(named.next()?, 0).filter(|name| !name.is_empty())?;
    named.next().is_none().then(|| name.to_vec())
}

/// The content with another expiry in the one line of this name; `None`: there is no such line, or several.
fn with_expiry(content: &[u8], name: &[u8], expiry: &[u8]) -> Option<Vec<u8>> {
    let mut found = 0;
    let line = |line: &[u8]| {
        let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        if fields.first() == Some(&name) && fields.len() == FIELDS {
            found += 1;
            fields[EXPIRES] = expiry;
        }
        fields.join(&b':')
    };
    let changed: Vec<Vec<u8>> = lines(content).map(line).collect();
    (found == 1).then(|| changed.join(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHADOW: &[u8] = b"root:*:19000:0:99999:7:::\nalice:$6$x:19000:0:99999:7:::\nal:!:19000:0:99999:7::20000:\n";

    #[test]
    fn the_line_of_one_account_gets_another_expiry_and_nothing_else_changes() {
        let locked = with_expiry(SHADOW, b"alice", b"1").unwrap_or_default();
        let expected = b"root:*:19000:0:99999:7:::\nalice:$6$x:19000:0:99999:7::1:\nal:!:19000:0:99999:7::20000:\n";
        assert_eq!(String::from_utf8_lossy(&locked), String::from_utf8_lossy(expected));
        assert_eq!(with_expiry(&locked, b"alice", b"").as_deref(), Some(SHADOW));
        assert_eq!(with_expiry(SHADOW, b"bob", b"1"), None);
        assert_eq!(with_expiry(&[SHADOW, SHADOW].concat(), b"alice", b"1"), None, "two lines of one name");
        assert_eq!(with_expiry(b"alice:x:1", b"alice", b"1"), None, "half a line");
    }

    #[test]
    fn an_account_is_found_by_its_number_unless_several_have_it() {
        let accounts = b"root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\ntoor:x:0:0::/:/bin/sh\n";
        assert_eq!(name_of(accounts, 1001).as_deref(), Some(&b"alice"[..]));
        assert_eq!(name_of(accounts, 0), None);
        assert_eq!(name_of(accounts, 1), None);
    }
}
