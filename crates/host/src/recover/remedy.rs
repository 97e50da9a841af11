// SPDX-License-Identifier: Apache-2.0
//! Cures of failures: start a service again, make room, load the packet filter, renew a certificate.
//!
//! What may be run or deleted comes from the configuration alone: an action names a unit or a path, never a command.

use super::unit;
use crate::system::supervise::SUPERVISED;
use crate::system::{Digest, Error, FileState, Ran, Result, System, UnitState, UnitVerb};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thymus_engine::HostPath;
use thymus_engine::action::{Expected, Facts, Outcome};
use thymus_engine::detect::matches_glob;
use thymus_engine::event::FileKind;

/// What the configuration declares about curing.
#[derive(Clone, Debug, Default)]
pub struct Remedies {
    /// By unit.
    pub tests: BTreeMap<String, Test>,
    /// A command that renews a certificate, by its file.
    pub renewals: BTreeMap<HostPath, Vec<String>>,
    /// Files that may be deleted when room is short; globs.
    pub freeable: Vec<String>,
}

/// A command that accepts or refuses a unit's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Test {
    pub command: Vec<String>,
    /// How the last line begins that it says when it has accepted the configuration and lacks only what the unit's start makes,
    /// such as a runtime directory that went with the last process. Empty: there is nothing like that.
    pub lacks: &'static str,
}

impl Test {
    /// `None`: it could not be run, which says nothing about the configuration.
    #[must_use]
    pub fn accepts(&self, ran: &Ran) -> Option<bool> {
        match ran.status {
            0 => Some(true),
            126 | 127 => None,
            _ => {
                let last = ran.output.trim_end().lines().next_back().unwrap_or_default();
                Some(!self.lacks.is_empty() && last.starts_with(self.lacks))
            }
        }
    }
}

/// What undo needs, or what is left to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Before {
    /// What the deleted files were; they do not come back.
    Freed(Vec<(HostPath, FileState)>),
    /// The rules in force before, in the keep.
    Rules(Digest),
    /// The certificate as it was, in the keep.
    Certificate(Option<FileState>),
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

fn first_line(output: &str) -> String {
    output.trim().lines().next().unwrap_or_default().chars().take(300).collect()
}

/// Why the declared test refuses the unit's configuration; `None`: it accepts it, or there is none that can be run.
pub fn refusal(system: &mut dyn System, remedies: &Remedies, unit: &str) -> Result<Option<String>> {
    let Some(test) = remedies.tests.get(unit) else { return Ok(None) };
    let ran = system.run(&words(&test.command), &[])?;
    let refused = test.accepts(&ran) == Some(false);
    Ok(refused.then(|| format!("`{}` says: {}", test.command.join(" "), first_line(&ran.output))))
}

pub fn capture_restart(system: &mut dyn System, remedies: &Remedies, unit: &str) -> Result<(UnitState, Facts)> {
    let state = system.unit(unit)?;
    let as_expected = match refusal(system, remedies, unit)? {
        Some(why) => Expected::Changed(why),
        None => Expected::Yes,
    };
    let interrupts = state.is_active();
    Ok((state, Facts { interrupts, ..Facts::ready(as_expected, 1) }))
}

pub fn apply_restart(system: &mut dyn System, unit: &str, before: &UnitState) -> Result<Outcome> {
    unit::read_units_again(system, before)?;
    match system.control(UnitVerb::Restart, unit) {
        Err(_) if before.load != SUPERVISED && before.active == "failed" => {
            // The manager may refuse for its limit of starts alone. Not before: a unit that is neither failed nor active
            // looks like one that was stopped on purpose.
            system.control(UnitVerb::ResetFailed, unit)?;
            system.control(UnitVerb::Restart, unit)?;
        }
        other => other?,
    }
    Ok(Outcome::Success)
}

/// What is active again is left so; what was active is.
pub fn revert_restart(system: &mut dyn System, unit: &str, before: &UnitState) -> Result<Outcome> {
    unit::revert(system, unit, before)
}

pub fn capture_freeing(system: &mut dyn System, remedies: &Remedies, paths: &[HostPath]) -> Result<(Before, Facts)> {
    let mut found = Vec::new();
    let mut changed = None;
    for path in paths {
        if !remedies.freeable.iter().any(|glob| matches_glob(glob, path)) {
            return Err(Error::Refused { path: path.clone(), why: "no declaration says that it may be freed".into() });
        }
        match system.measure(path)? {
            Some(state) if state.kind == FileKind::Regular => found.push((path.clone(), state)),
            Some(_) | None => changed = Some(format!("`{path}` is no file any more")),
        }
    }
    let as_expected = changed.map_or(Expected::Yes, Expected::Changed);
    let targets = found.len();
    Ok((Before::Freed(found), Facts::ready(as_expected, targets)))
}

/// What is gone already is as good.
pub fn apply_freeing(system: &mut dyn System, files: &[(HostPath, FileState)]) -> Result<Outcome> {
    for (path, expected) in files {
        if system.measure(path)?.is_some() {
            system.free(path, expected)?;
        }
    }
    Ok(Outcome::Success)
}

const LIST: [&str; 3] = ["nft", "list", "ruleset"];

fn nft(system: &mut dyn System, command: &[&str], input: &[u8]) -> Result<String> {
    let ran = system.run(command, input)?;
    if ran.status == 0 {
        return Ok(ran.output);
    }
    Err(Error::Probe { what: format!("`{}`", command.join(" ")), why: first_line(&ran.output) })
}

pub fn capture_firewall(system: &mut dyn System, path: &HostPath) -> Result<(Before, Facts)> {
    let rules = nft(system, &LIST, &[])?;
    let kept = system.keep(rules.as_bytes())?;
    let file = path.to_string();
    // The kernel reads it without loading it.
    let as_expected = match nft(system, &["nft", "-c", "-f", &file], &[]) {
        Ok(_) => Expected::Yes,
        Err(Error::Probe { why, .. }) => Expected::Changed(format!("`{path}` cannot be loaded: {why}")),
        Err(other) => return Err(other),
    };
    Ok((Before::Rules(kept), Facts::ready(as_expected, 1)))
}

pub fn apply_firewall(system: &mut dyn System, path: &HostPath) -> Result<Outcome> {
    // A file of rules usually begins by flushing all there are: what we block ourselves is blocked again.
    let blocked = system.filtered().unwrap_or_default();
    nft(system, &["nft", "-f", &path.to_string()], &[])?;
    blocked.into_iter().try_for_each(|blocked| system.filter(blocked.address, blocked.extent, blocked.left))?;
    Ok(Outcome::Success)
}

/// One transaction: there is no moment without rules in between.
pub fn revert_firewall(system: &mut dyn System, rules: &Digest) -> Result<Outcome> {
    let kept = system.kept(rules)?;
    nft(system, &["nft", "-f", "-"], &[b"flush ruleset\n", kept.as_slice()].concat())?;
    Ok(Outcome::Undone)
}

pub fn capture_renewal(system: &mut dyn System, remedies: &Remedies, path: &HostPath) -> Result<(Before, Facts)> {
    if !remedies.renewals.contains_key(path) {
        return Err(Error::Refused { path: path.clone(), why: "no command that renews it is declared".into() });
    }
    let state = system.capture(path)?;
    Ok((Before::Certificate(state), Facts::ready(Expected::Yes, 1)))
}

pub fn apply_renewal(system: &mut dyn System, remedies: &Remedies, path: &HostPath) -> Result<Outcome> {
    let Some(command) = remedies.renewals.get(path) else {
        return Ok(Outcome::Failed("no command that renews it is declared".to_owned()));
    };
    let ran = system.run(&words(command), &[])?;
    if ran.status == 0 {
        return Ok(Outcome::Success);
    }
    let why = format!("`{}` ended with status {}: {}", command.join(" "), ran.status, first_line(&ran.output));
    Ok(Outcome::Failed(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_lacks_only_what_a_start_makes_has_accepted_the_configuration() {
        let lacks = "Missing privilege separation directory";
        let test = Test { command: vec!["sshd".to_owned(), "-t".to_owned()], lacks };
        let said = |status, output: &str| test.accepts(&Ran { status, output: output.to_owned() });
        assert_eq!(said(0, ""), Some(true));
        assert_eq!(said(127, "no such program"), None);
        assert_eq!(
            said(255, "line 3: Deprecated option X\nMissing privilege separation directory: /run/sshd\n"),
            Some(true)
        );
        assert_eq!(said(255, "Missing privilege separation directory: /run/sshd\nline 9: Bad option\n"), Some(false));
        assert_eq!(said(1, ""), Some(false));
        assert_eq!(Test::default().accepts(&Ran { status: 1, output: String::new() }), Some(false), "says nothing");
    }
}
