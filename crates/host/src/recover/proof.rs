// SPDX-License-Identifier: Apache-2.0
//! The proof that an incident is over: checks that look at the host again, not at what the actions said of themselves.

use super::{Watch, file};
use crate::journal::Story;
use crate::perform::{Before, Versions};
use crate::respond::account;
use crate::system::{FileState, Life, Result, System, same_process};
use std::collections::BTreeMap;
use thymus_engine::action::{Outcome, RestoreFile};
use thymus_engine::input::{Check, Proof};
use thymus_engine::{HostPath, ProcessKey};

/// LIMIT: differences told in one check's words; the rest is counted.
const TOLD_MAX: usize = 8;

/// What runs or is read by itself, by tree: a foothold is one of these (ATT&CK Persistence, TA0003).
const PERSISTENCE: [&[u8]; 16] = [
    b"/etc/cron.d",
    b"/etc/crontab",
    b"/etc/init.d",
    b"/etc/ld.so.preload",
    b"/etc/pam.d",
    b"/etc/passwd",
    b"/etc/profile",
    b"/etc/profile.d",
    b"/etc/rc.local",
    b"/etc/shadow",
    b"/etc/ssh",
    b"/etc/sudoers",
    b"/etc/sudoers.d",
    b"/etc/systemd",
    b"/usr/lib/systemd",
    b"/var/spool/cron",
];

/// Every check, whether it holds or not.
pub fn checks(
    system: &mut dyn System,
    versions: &dyn Versions,
    proof: &Proof,
    stories: &[Story],
    watched: &[Watch],
) -> Vec<Check> {
    let mut wanted: BTreeMap<&HostPath, &file::Before> = BTreeMap::new();
    let mut many: BTreeMap<&HostPath, &file::Before> = BTreeMap::new();
    for story in stories {
        if let Before::Files(files) = &story.intent.before {
            let not_done = match &story.outcome {
                Some(Outcome::Partly(not_done)) => not_done.as_slice(),
                _ => &[],
            };
            // What this one could not do another one did, or the engine shows it.
            let done = |path: &HostPath| not_done.iter().all(|(left, _)| left != path);
            for (path, before) in files.iter().filter(|(path, _)| done(path)) {
                wanted.remove(path);
                many.insert(path, before);
            }
        }
        // Later actions on a path replace earlier ones: stories are in the order of their numbers.
        if let (Some(path), Before::File(before)) = (story.intent.what.path(), &story.intent.before) {
            many.remove(path);
            wanted.insert(path, before);
        }
    }
    // The one line of a file in which an account is locked is ours; the rest is as wanted.
    let mut locked: BTreeMap<&HostPath, Vec<&account::Before>> = BTreeMap::new();
    for story in stories {
        if let (Some(path), Before::Account(before)) = (story.intent.what.written(), &story.intent.before) {
            locked.entry(path).or_default().push(before);
            wanted.extend(many.remove(path).map(|before| (path, before)));
        }
    }
    for path in &proof.others {
        many.remove(path);
    }
    let mut content = Vec::new();
    let mut persistence = Vec::new();
    for (path, before) in &wanted {
        let difference = match as_wanted(system, path, before, locked.get(path).map_or(&[][..], Vec::as_slice)) {
            Ok(difference) => difference,
            Err(error) => Some(error.in_words()),
        };
        if let Some(difference) = difference {
            let list = if is_persistence(path) { &mut persistence } else { &mut content };
            list.push(format!("`{path}`: {difference}"));
        }
    }
    let paths: Vec<&HostPath> = many.keys().copied().collect();
    for ((path, before), found) in many.iter().zip(system.look_many(&paths)) {
        let difference = match (&before.wanted, found) {
            (_, Err(error)) => Some(error.in_words()),
            (None, Ok(None)) => None,
            (None, Ok(Some(_))) => Some("it is there again".to_owned()),
            (Some(_), Ok(None)) => Some("it is gone".to_owned()),
            (Some(wanted), Ok(Some(found))) => wanted.difference(&found),
        };
        if let Some(difference) = difference {
            let list = if is_persistence(path) { &mut persistence } else { &mut content };
            list.push(format!("`{path}`: {difference}"));
        }
    }
    for restore in &proof.again {
        let found = match nothing_back(system, versions, restore) {
            Ok(found) => found,
            Err(error) => Some(error.in_words()),
        };
        if let Some(found) = found {
            let list = if is_persistence(&restore.path) { &mut persistence } else { &mut content };
            list.push(format!("`{}`: {found}", restore.path));
        }
    }
    let persistent = wanted.keys().chain(many.keys()).filter(|path| is_persistence(path)).count();
    let again = match proof.again.len() {
        0 => String::new(),
        count => format!("; in {count} more that others wrote since, nothing of the attack is back"),
    };
    let mut checks = vec![
        check(
            "content",
            &content,
            format!("{} paths are as wanted, content and attributes{again}", wanted.len() + many.len() - persistent),
        ),
        check("persistence", &persistence, format!("{persistent} places that start by themselves hold nothing of it")),
    ];
    checks.push(match alive(system, &proof.processes) {
        Ok(alive) => {
            let alive: Vec<String> = alive.iter().map(|key| format!("process {} lives", key.pid)).collect();
            check("processes", &alive, format!("none of {} processes lives, nor a child of one", proof.processes.len()))
        }
        Err(error) => Check { name: "processes".to_owned(), holds: false, detail: error.in_words() },
    });
    checks.extend(watched.iter().map(|watch| service(system, watch)));
    checks
}

fn check(name: &str, broken: &[String], good: String) -> Check {
    let detail = match broken.len() {
        0 => good,
        count if count > TOLD_MAX => format!("{}; and {} more", broken[..TOLD_MAX].join("; "), count - TOLD_MAX),
        _ => broken.join("; "),
    };
    Check { name: name.to_owned(), holds: broken.is_empty(), detail }
}

fn is_persistence(path: &HostPath) -> bool {
    PERSISTENCE.iter().any(|tree| path.is_within(tree))
        || path.is_within(b"/root/.ssh")
        || path.file_name() == b"authorized_keys"
}

/// What differs from what was wanted; `None`: nothing.
fn as_wanted(
    system: &mut dyn System,
    path: &HostPath,
    before: &file::Before,
    locked: &[&account::Before],
) -> Result<Option<String>> {
    let wanted = before.wanted.as_ref();
    if before.in_place
        && let Some(wanted) = wanted
    {
        return log_holds(system, path, wanted);
    }
    let found = system.look(path)?;
    if let (Some(wanted), Some(now)) = (wanted, &found)
        && let Some(other) = file::twin(system, &before.others, Some(now), wanted)?
    {
        return Ok(Some(format!("it is not one file with `{other}`, as it was")));
    }
    Ok(match (wanted, found) {
        (None, None) => None,
        (None, Some(_)) => Some("it is there again".to_owned()),
        (Some(_), None) => Some("it is gone".to_owned()),
        (Some(wanted), Some(found)) => match wanted.difference(&found) {
            Some(_) if !locked.is_empty() => wanted.difference(&account::without(system, path, locked)?),
            difference => difference,
        },
    })
}

/// What of the attack is in a path that others wrote after it was restored; `None`: nothing.
fn nothing_back(system: &mut dyn System, versions: &dyn Versions, restore: &RestoreFile) -> Result<Option<String>> {
    let found = system.look(&restore.path)?;
    Ok(match file::back(system, versions, restore, found.as_ref())? {
        Ok(back) => back.map(|back| format!("{} back in it", back.in_words())),
        Err(why) => Some(why),
    })
}

/// A log may have grown; what was put back must still be its beginning.
fn log_holds(system: &mut dyn System, path: &HostPath, wanted: &FileState) -> Result<Option<String>> {
    let Some(digest) = wanted.content else { return Ok(None) };
    let Some(found) = system.capture(path)? else { return Ok(Some("it is gone".to_owned())) };
    let Some(now) = found.content else { return Ok(Some("it is no file any more".to_owned())) };
    if now == digest {
        return Ok(None);
    }
    let (wanted, now) = (system.kept(&digest)?, system.kept(&now)?);
    Ok((!now.starts_with(&wanted)).then(|| "what was put back is not there".to_owned()))
}

/// Which of these live, and which living processes descend from one of them.
pub fn alive(system: &mut dyn System, processes: &[ProcessKey]) -> Result<Vec<ProcessKey>> {
    let mut all = Vec::new();
    system.processes(&mut all)?;
    all.retain(|state| state.life != Life::Zombie);
    let mut found: Vec<ProcessKey> = Vec::new();
    // Sorted by start, a parent comes before its children: one pass finds every descendant.
    all.sort_by_key(|state| state.key.start_time);
    for state in &all {
        let named = processes.iter().any(|key| same_process(*key, state.key));
        let child = found.iter().any(|key| key.pid == state.parent);
        if named || child {
            found.push(state.key);
        }
    }
    Ok(found)
}

fn service(system: &mut dyn System, watch: &Watch) -> Check {
    let name = format!("service {}", watch.unit);
    let answer = system.unit(&watch.unit).and_then(|unit| {
        if !unit.is_active() {
            return Ok((false, format!("the unit is {}", unit.active)));
        }
        let said = watch.probe.as_ref().map(|probe| system.probe(probe)).transpose()?;
        Ok((true, said.unwrap_or_else(|| "the unit is active".to_owned())))
    });
    match answer {
        Ok((holds, detail)) => Check { name, holds, detail },
        Err(error) => Check { name, holds: false, detail: error.in_words() },
    }
}
