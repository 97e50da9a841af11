// SPDX-License-Identifier: Apache-2.0
//! What on disk makes an invocation run: the crontab line behind a cron job, the unit file behind a started unit.
//!
//! In: the first program of an invocation. Out: the path that caused it, with the version that brought the deciding line
//! (crontabs) or the file (units). Asked for the children of cron and of the scope's first process only, so it may read files;
//! every read goes beneath the guarded root and is bounded. Sources: crontab(5), cron(8), systemd.unit(5).

use crate::scope::Scope;
use crate::vault::{Recorded, Vault};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io::Read;
use thymus_engine::event::{Origin, Process};
use thymus_engine::id::VersionId;
use thymus_engine::merge;
use thymus_engine::path::HostPath;

/// Where unit files lie, strongest first (systemd.unit(5), "System Unit Search Path").
const UNIT_DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Crontabs that are single files, and folders of them.
const CRONTABS: [&str; 1] = ["/etc/crontab"];
const CRONTAB_DIRECTORIES: [&str; 2] = ["/etc/cron.d", "/var/spool/cron/crontabs"];
/// LIMIT: crontabs looked at for one job, and bytes read of each.
const CRONTABS_MAX: usize = 256;
const CRONTAB_BYTES_MAX: u64 = 256 * 1024;
/// LIMIT: versions of one crontab that are searched for the one that brought a line.
const VERSIONS_MAX: usize = 64;

/// Finds origins below one guarded root.
#[derive(Debug)]
pub struct Origins<'a> {
    scope: &'a Scope,
    vault: &'a Vault,
}

impl<'a> Origins<'a> {
    #[must_use]
    pub fn new(scope: &'a Scope, vault: &'a Vault) -> Self {
        Self { scope, vault }
    }

    /// For the first program that `starter`'s child runs; `None` when nothing on disk is known to have caused it.
    #[must_use]
    pub fn of(&self, process: &Process, starter: &HostPath) -> Option<Origin> {
        match starter.file_name() {
            b"cron" | b"crond" => self.cron(process),
            b"systemd" | b"init" => self.unit(process.unit.as_deref()?),
            _ => None,
        }
    }

    /// cron runs a job as `SHELL -c COMMAND`; COMMAND is the rest of the line after the times (and the user, in system crontabs).
    fn cron(&self, process: &Process) -> Option<Origin> {
        let [_, flag, command, ..] = process.cmd_line.as_slice() else { return None };
        let command = command.trim();
        if flag != "-c" || command.is_empty() {
            return None;
        }
        let folders = CRONTAB_DIRECTORIES.iter().flat_map(|folder| {
            self.names(folder).into_iter().map(move |name| {
                let mut path = folder.as_bytes().to_vec();
                path.push(b'/');
                path.extend_from_slice(&name);
                HostPath::new(&path)
            })
        });
        CRONTABS.iter().map(|path| HostPath::from(*path)).chain(folders).take(CRONTABS_MAX).find_map(|path| {
            let text = self.read(&path)?;
            let line = text.split(|byte| *byte == b'\n').find(|line| runs(line, command.as_bytes()))?;
            Some(Origin { version: self.brought(&path, line), path })
        })
    }

    /// The version that brought `line` into `path`, 0 when it was there before or is not known.
    fn brought(&self, path: &HostPath, line: &[u8]) -> VersionId {
        let chain = self.vault.chain(path);
        let chain = &chain[chain.len().saturating_sub(VERSIONS_MAX)..];
        let contents: Vec<Option<Vec<u8>>> = chain.iter().map(|version| self.content(*version)).collect();
        let Some((base, later)) = contents.split_first() else { return VersionId::UNKNOWN };
        let later: Vec<Option<&[u8]>> = later.iter().map(|content| content.as_deref()).collect();
        // Answer 0 is the base, the chain's first entry; so the answer is an index into the chain.
        merge::blame(base.as_deref(), &later, line).map_or(VersionId::UNKNOWN, |at| chain[at])
    }

    fn content(&self, version: VersionId) -> Option<Vec<u8>> {
        let Recorded::State(state) = self.vault.version(version).ok()?.recorded else { return None };
        (state.size <= CRONTAB_BYTES_MAX).then_some(())?;
        self.vault.content(&state.digest?).ok()
    }

    /// The unit's file or one of its drop-ins, whichever changed last; a template stands for its instances.
    fn unit(&self, unit: &str) -> Option<Origin> {
        if unit.contains('/') {
            return None;
        }
        let template =
            unit.split_once('@').zip(unit.rsplit_once('.')).map(|((name, _), (_, kind))| format!("{name}@.{kind}"));
        let names = std::iter::once(unit.to_owned()).chain(template);
        names
            .flat_map(|name| UNIT_DIRECTORIES.iter().map(move |folder| (folder, name.clone())))
            .flat_map(|(folder, name)| {
                let own = HostPath::from(format!("{folder}/{name}").as_str());
                let drop_ins = format!("{folder}/{name}.d");
                let drop_ins = self.names(&drop_ins).into_iter().map(move |file| {
                    let mut path = drop_ins.clone().into_bytes();
                    path.push(b'/');
                    path.extend_from_slice(&file);
                    HostPath::new(&path)
                });
                std::iter::once(own).chain(drop_ins)
            })
            .filter_map(|path| Some(Origin { version: self.vault.latest(&path)?, path }))
            .max_by_key(|origin| origin.version)
    }

    fn read(&self, path: &HostPath) -> Option<Vec<u8>> {
        let file = self.open(path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(CRONTAB_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Names in a folder, sorted; empty when it is not there.
    fn names(&self, folder: &str) -> Vec<Vec<u8>> {
        let Some(folder) = self.open(folder.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) else {
            return Vec::new();
        };
        let Ok(entries) = rustix::fs::Dir::new(folder) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_bytes().to_vec());
        let mut names: Vec<_> = names.filter(|name| name != b"." && name != b"..").take(CRONTABS_MAX).collect();
        names.sort();
        names
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Option<rustix::fd::OwnedFd> {
        let beneath = path.strip_prefix(b"/").unwrap_or(path);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(self.scope.root(), beneath, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
    }
}

/// Whether this crontab line runs `command`: the line ends in it, after a blank. A `%` in the line ends the command (crontab(5)).
pub(crate) fn runs(line: &[u8], command: &[u8]) -> bool {
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| *byte == b'%').unwrap_or(line.len());
    let line = line[..end].trim_ascii_end();
    !line.starts_with(b"#")
        && line.strip_suffix(command).is_some_and(|before| before.last().is_some_and(u8::is_ascii_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_runs_what_stands_after_its_times() {
        assert!(runs(b"*/5 * * * * /usr/bin/backup --all", b"/usr/bin/backup --all"));
        assert!(runs(b"* * * * * root  mail -s x%body", b"mail -s x"));
        assert!(!runs(b"# * * * * * root /bin/x", b"/bin/x"));
        assert!(!runs(b"* * * * * root /usr/bin/x", b"/bin/x"));
    }
}
