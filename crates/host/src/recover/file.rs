// SPDX-License-Identifier: Apache-2.0
//! D3-RF Restore File and D3-FEV File Eviction: one path, as if the attack had never written it.
//!
//! Input: the versions of the path, each with whose it is. Output: what is wanted there, or why nobody but a person can say.
//! Invariants: what is replaced is in the keep first; a state that is not the one expected is never overwritten; what others
//! changed stays; nothing is guessed.

use crate::perform::Versions;
use crate::system::{Digest, Error, FileState, Result, System};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thymus_engine::action::{Expected, Facts, Merge, Outcome, RestoreFile};
use thymus_engine::event::FileKind;
use thymus_engine::merge::{self, Merged};
use thymus_engine::{HostPath, VersionId};

/// What undo of an action on a file needs; contents are in the keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// `None`: nothing was there.
    pub before: Option<FileState>,
    /// `None`: nothing is wanted there.
    pub wanted: Option<FileState>,
    /// An append-only log: written where it is, and what is appended later stays.
    pub in_place: bool,
    /// It is the file that had several names: its own inode is written, so that all of them show it.
    #[serde(default)]
    pub rewrite: bool,
    /// Other names that the wanted file had: where one of them is as wanted, this becomes a name of the same file.
    #[serde(default)]
    pub others: Vec<HostPath>,
}

impl Before {
    /// A file with one name, or nothing.
    #[must_use]
    pub fn new(before: Option<FileState>, wanted: Option<FileState>, in_place: bool) -> Self {
        Self { before, wanted, in_place, rewrite: false, others: Vec::new() }
    }
}

/// `S_ISUID` and `S_ISGID`.
const SET_ID: u16 = 0o6000;

/// One state of the path, with its content when it is a regular file.
struct Stage {
    state: Option<FileState>,
    content: Option<Vec<u8>>,
    attack: bool,
}

/// What is wanted at a path, or why that is not known.
struct Wanted {
    state: Option<FileState>,
    merge: Merge,
}

impl Wanted {
    fn unknown(merge: Merge) -> Self {
        Self { state: None, merge }
    }
}

/// Reads what is there and finds out what should be.
pub fn capture_restore(
    system: &mut dyn System,
    versions: &dyn Versions,
    restore: &RestoreFile,
) -> Result<(Before, Facts)> {
    if restore.again {
        return capture_again(system, versions, restore);
    }
    let before = system.capture(&restore.path)?;
    let newest = restore.later.last().map_or(restore.base, |authored| authored.version);
    let log =
        restore.append_only && !restore.whole && before.as_ref().is_some_and(|state| state.kind == FileKind::Regular);
    let wanted = if restore.whole {
        exactly(system, versions, restore.base)?
    } else if log {
        mend_log(system, versions, restore, before.as_ref())?
    } else if restore.later.iter().all(|authored| authored.attack) {
        exactly(system, versions, restore.base)?
    } else {
        merged(system, versions, restore)?
    };
    let known = matches!(wanted.merge, Merge::Exact | Merge::Disjoint { .. });
    let several = wanted.state.as_ref().is_some_and(|state| state.links > 1 && state.kind == FileKind::Regular) && !log;
    let is_it =
        several && before.as_ref().zip(wanted.state.as_ref()).is_some_and(|(before, wanted)| before.is_inode(wanted));
    let only_attack = restore.whole || restore.later.iter().all(|authored| authored.attack);
    // Who changed it too may have wanted it to be a file of its own.
    let others = if several && !is_it && only_attack { versions.names(restore.base) } else { Vec::new() };
    let apart = match &wanted.state {
        Some(wanted) => twin(system, &others, before.as_ref(), wanted)?.is_some(),
        None => false,
    };
    let as_expected = if known
        && !apart
        && same(before.as_ref(), wanted.state.as_ref())
        && (log || !redated(before.as_ref(), wanted.state.as_ref()))
    {
        Expected::AlreadyDone
    } else if log {
        Expected::Yes // it grows all the time; what came after is kept when it is written
    } else {
        as_recorded(versions, newest, before.as_ref())
    };
    let mut facts = facts(as_expected, wanted.merge);
    if restore.append_only && known {
        facts.holders = holders(system, versions, restore, before.as_ref());
    }
    let Some(mut state) = wanted.state else {
        return Ok((Before::new(before, None, false), facts));
    };
    if let Some(before) = &before
        && log
    {
        // A log is written where it is: its times and attributes of the moment stay.
        state.mtime = before.mtime;
    }
    Ok((Before { rewrite: is_it, others, ..Before::new(before, Some(state), log) }, facts))
}

/// Services that go on to write to a file that stood at a log's path before what stands there now.
fn holders(
    system: &mut dyn System,
    versions: &dyn Versions,
    restore: &RestoreFile,
    now: Option<&FileState>,
) -> Vec<String> {
    let all = std::iter::once(restore.base).chain(restore.later.iter().map(|authored| authored.version));
    let states = all.filter_map(|version| versions.state(version).ok().flatten());
    let gone = states.filter(|state| now.is_none_or(|now| !now.is_inode(state)) && state.inode.0 != 0);
    let inodes: BTreeSet<(u64, i64)> = gone.map(|state| state.inode).collect();
    let inodes: Vec<(u64, i64)> = inodes.into_iter().collect();
    if inodes.is_empty() { Vec::new() } else { system.holders(&inodes) }
}

/// A regular file that is the same but for the time of its last change, which is restored too.
fn redated(before: Option<&FileState>, wanted: Option<&FileState>) -> bool {
    let differ = |(before, wanted): (&FileState, &FileState)| before.mtime != wanted.mtime;
    before.zip(wanted).filter(|(before, _)| before.kind == FileKind::Regular).is_some_and(differ)
}

/// One of `others` that is as `wanted` and not the same file as `found` already: the wanted inode itself, else one that
/// took its place and has room for another name.
pub(super) fn twin(
    system: &mut dyn System,
    others: &[HostPath],
    found: Option<&FileState>,
    wanted: &FileState,
) -> Result<Option<HostPath>> {
    let mut best = None;
    for other in others {
        // A way that leads elsewhere by now is no name of it.
        let Ok(Some(state)) = system.look(other) else { continue };
        if !wanted.same(&state) {
            continue;
        }
        if found.is_some_and(|found| found.is_inode(&state)) {
            return Ok(None);
        }
        if state.is_inode(wanted) {
            return Ok(Some(other.clone()));
        }
        if best.is_none() && state.links < wanted.links {
            best = Some(other.clone());
        }
    }
    Ok(best)
}

/// Somebody wrote a restored path since: what is wanted is that without what of the attack is back in it.
fn capture_again(system: &mut dyn System, versions: &dyn Versions, restore: &RestoreFile) -> Result<(Before, Facts)> {
    let before = system.look(&restore.path)?;
    let newest = restore.later.last().map_or(restore.base, |authored| authored.version);
    let as_expected = as_recorded(versions, newest, before.as_ref());
    // What is there is what is wanted, as long as nothing else is known.
    let nothing = |before: Option<FileState>, as_expected, merge| {
        Ok((Before::new(before.clone(), before, false), facts(as_expected, merge)))
    };
    if matches!(as_expected, Expected::Changed(_)) {
        return nothing(before, as_expected, Merge::Exact);
    }
    let back = match back(system, versions, restore, before.as_ref())? {
        Ok(back) => back,
        Err(why) => return nothing(before, Expected::Yes, Merge::Missing(why)),
    };
    let Some(Back { stages, .. }) = back else {
        return nothing(before, Expected::AlreadyDone, Merge::Exact);
    };
    let kept = system.capture(&restore.path)?;
    if !same(before.as_ref(), kept.as_ref()) {
        return nothing(kept, Expected::Changed("it changed while it was looked at".to_owned()), Merge::Exact);
    }
    let mut wanted = match stages.iter().skip(1).all(|stage| stage.attack) {
        true if restore.base == VersionId::UNKNOWN => Wanted { state: None, merge: Merge::Exact },
        true => exactly(system, versions, restore.base)?,
        false => merge_stages(system, &stages)?,
    };
    if let (Some(state), Merge::Exact | Merge::Disjoint { .. }) = (&wanted.state, &wanted.merge)
        && let Ok(Some(back)) = self::back(system, versions, restore, Some(state))?
    {
        wanted = Wanted::unknown(Merge::Conflict(format!("{} would be left in it", back.in_words())));
    }
    let is_it = match (&before, &wanted.state) {
        (Some(before), Some(wanted)) => wanted.links > 1 && before.is_inode(wanted),
        _ => false,
    };
    Ok((Before { rewrite: is_it, ..Before::new(before, wanted.state, false) }, facts(Expected::Yes, wanted.merge)))
}

/// What of the attack is in a state that somebody made after it was undone.
pub(super) struct Back {
    /// All states of the path; the last is the one that was looked at.
    stages: Vec<Stage>,
    /// Lines, or the whole content.
    pieces: Vec<Vec<u8>>,
}

/// LIMIT: bytes told of a line that is back.
const TOLD_BYTES_MAX: usize = 80;

impl Back {
    /// Such as "2 lines of the attack, `evil`".
    pub(super) fn in_words(&self) -> String {
        let first = self.pieces.first().map_or(&[][..], Vec::as_slice);
        let shown = first[..first.len().min(TOLD_BYTES_MAX)].escape_ascii();
        let lines = if self.pieces.len() == 1 { "line" } else { "lines" };
        format!("{} {lines} of the attack (`{shown}`)", self.pieces.len())
    }
}

/// `None`: nothing of the attack is in `found`. `Err`: the vault lacks what it must be compared with; in words.
pub(super) fn back(
    system: &mut dyn System,
    versions: &dyn Versions,
    restore: &RestoreFile,
    found: Option<&FileState>,
) -> Result<std::result::Result<Option<Back>, String>> {
    let Some(found) = found.filter(|found| found.kind == FileKind::Regular) else { return Ok(Ok(None)) };
    let Some(digest) = found.content else { return Ok(Ok(None)) };
    let known = restore.later.split_last().map_or(&[][..], |(_, known)| known);
    let stages = std::iter::once(base_stage(versions, restore.base))
        .chain(known.iter().map(|authored| stage(versions, authored.version, authored.attack)));
    let mut stages = match stages.collect::<std::result::Result<Vec<Stage>, String>>() {
        Ok(stages) => stages,
        Err(why) => return Ok(Err(why)),
    };
    let is_it = |stage: &Stage| stage.state.as_ref().is_some_and(|state| state.content == Some(digest));
    let of_attack = stages.iter().any(|stage| stage.attack && is_it(stage));
    if !of_attack && found.size > merge::BYTES_MAX as u64 {
        return Ok(Ok(None)); // no text that could be taken apart
    }
    let content = read(system, versions, restore, digest)?;
    let pieces: Vec<Vec<u8>> = {
        let (base, later) = chain(&stages);
        merge::returned(base, &later, &content).into_iter().map(<[u8]>::to_vec).collect()
    };
    if pieces.is_empty() {
        return Ok(Ok(None));
    }
    stages.push(Stage { state: Some(found.clone()), content: Some(content), attack: of_attack });
    Ok(Ok(Some(Back { stages, pieces })))
}

/// The content that others left: from the vault where it has it, so that not each of their versions fills the keep.
fn read(system: &mut dyn System, versions: &dyn Versions, restore: &RestoreFile, digest: Digest) -> Result<Vec<u8>> {
    let recorded = restore.later.last().and_then(|authored| versions.content(authored.version).ok());
    if let Some(content) = recorded.filter(|content| Digest::of(content) == digest) {
        return Ok(content);
    }
    match system.kept(&digest) {
        Err(Error::NotKept(_)) => {
            system.capture(&restore.path)?;
            system.kept(&digest)
        }
        other => other,
    }
}

/// Base and later versions, as the merge takes them.
fn chain(stages: &[Stage]) -> (Option<&[u8]>, Vec<merge::Version<'_>>) {
    let Some((base, later)) = stages.split_first() else { return (None, Vec::new()) };
    let later = later.iter().map(|stage| merge::Version { content: stage.content.as_deref(), attack: stage.attack });
    (base.content.as_deref(), later.collect())
}

/// Reads what the attack created, before it is moved into the keep.
pub fn capture_quarantine(
    system: &mut dyn System,
    versions: &dyn Versions,
    path: &HostPath,
    expected: VersionId,
) -> Result<(Before, Facts)> {
    let before = system.capture(path)?;
    let as_expected = match &before {
        None => Expected::AlreadyDone,
        Some(state) if state.kind == FileKind::Directory => {
            // Its own changes are its entries, which have actions of their own: it goes when it is empty.
            match system.list(path)?.len() {
                0 => Expected::Yes,
                left => Expected::Changed(format!("{left} entries are in it")),
            }
        }
        Some(_) => as_recorded(versions, expected, before.as_ref()),
    };
    Ok((Before::new(before, None, false), facts(as_expected, Merge::Exact)))
}

fn facts(as_expected: Expected, merge: Merge) -> Facts {
    Facts { merge, ..Facts::ready(as_expected, 1) }
}

pub(super) fn same(one: Option<&FileState>, other: Option<&FileState>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.same(other),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether what is there is the version that the plan rests on. A version that the vault could not read in time cannot
/// be compared; that no later change was seen must do.
pub(super) fn as_recorded(versions: &dyn Versions, version: VersionId, found: Option<&FileState>) -> Expected {
    match (versions.state(version), found) {
        (Err(_), _) | (Ok(None), None) => Expected::Yes,
        (Ok(Some(_)), None) => Expected::Changed("it is gone".to_owned()),
        (Ok(None), Some(_)) => Expected::Changed("something is there again".to_owned()),
        (Ok(Some(mut recorded)), Some(found)) => {
            recorded.flags = found.flags; // they change without a word of the kernel
            recorded.difference(found).map_or(Expected::Yes, Expected::Changed)
        }
    }
}

/// Only the attack wrote it: the state before, as it was.
fn exactly(system: &mut dyn System, versions: &dyn Versions, base: VersionId) -> Result<Wanted> {
    let state = match versions.state(base) {
        Ok(state) => state,
        Err(why) => return Ok(Wanted::unknown(Merge::Missing(why))),
    };
    if state.as_ref().is_some_and(|state| state.content.is_some()) {
        match versions.content(base) {
            Ok(content) => system.keep(&content)?,
            Err(why) => return Ok(Wanted::unknown(Merge::Missing(why))),
        };
    }
    Ok(Wanted { state, merge: Merge::Exact })
}

/// The log as it is, with what was cut out put back: by each cut, so that what came between two of them stays.
fn mend_log(
    system: &mut dyn System,
    versions: &dyn Versions,
    restore: &RestoreFile,
    now: Option<&FileState>,
) -> Result<Wanted> {
    let base = match stage(versions, restore.base, false) {
        Ok(stage) => stage,
        Err(why) => return Ok(Wanted::unknown(Merge::Missing(why))),
    };
    let (Some(mut state), Some(before)) = (base.state, base.content) else {
        return exactly(system, versions, restore.base);
    };
    let mut log = merge::Log::new(before);
    let mut grew = Ok(());
    for authored in &restore.later {
        match (stage(versions, authored.version, authored.attack), authored.attack) {
            (Ok(stage), true) => log.cut(stage.content.unwrap_or_default()),
            (Ok(stage), false) => grew = grew.and_then(|()| log.grew(stage.content.unwrap_or_default())),
            (Err(_), true) => {}
            (Err(why), false) => return Ok(Wanted::unknown(Merge::Missing(why))),
        }
    }
    let found = match now.and_then(|state| state.content) {
        Some(digest) => system.kept(&digest)?,
        None => Vec::new(),
    };
    let merged = match grew.and_then(|()| log.grew(found)) {
        Ok(()) => log.mended(),
        Err(other) => return Ok(Wanted::unknown(other.fact())),
    };
    let fact = merged.fact();
    let Merged::Merged { content: Some(content), .. } = merged else {
        return exactly(system, versions, restore.base);
    };
    set_content(&mut state, system.keep(&content)?, content.len());
    Ok(Wanted { state: Some(state), merge: fact })
}

/// Others wrote it too: their changes stay, the attack's go, when the two do not touch.
fn merged(system: &mut dyn System, versions: &dyn Versions, restore: &RestoreFile) -> Result<Wanted> {
    let stages = std::iter::once(base_stage(versions, restore.base))
        .chain(restore.later.iter().map(|authored| stage(versions, authored.version, authored.attack)));
    match stages.collect::<std::result::Result<Vec<Stage>, String>>() {
        Ok(stages) => merge_stages(system, &stages),
        Err(why) => Ok(Wanted::unknown(Merge::Missing(why))),
    }
}

fn merge_stages(system: &mut dyn System, stages: &[Stage]) -> Result<Wanted> {
    let kinds = || stages.iter().filter_map(|stage| stage.state.as_ref()).map(|state| state.kind);
    let Some(kind) = kinds().next() else {
        return Ok(Wanted { state: None, merge: Merge::Exact });
    };
    if kinds().any(|other| other != kind) {
        return Ok(Wanted::unknown(Merge::Conflict("it changed its kind, and others changed it too".to_owned())));
    }
    let attributes = attributes(stages);
    match kind {
        FileKind::Regular => {}
        FileKind::Directory => {
            let kept = u32::from(attributes.is_some());
            return Ok(Wanted { state: attributes, merge: Merge::Disjoint { kept, removed: 1 } });
        }
        FileKind::Symlink | FileKind::Other => {
            return Ok(Wanted::unknown(Merge::Conflict("others changed it too, and it is no text".to_owned())));
        }
    }
    let (base, later) = chain(stages);
    let merged = merge::merge(base, &later);
    let fact = merged.fact();
    match merged {
        Merged::Merged { content: Some(content), .. } => {
            let Some(mut state) = attributes else {
                return Ok(Wanted::unknown(Merge::Conflict(
                    "others' lines are left in a file of the attack".to_owned(),
                )));
            };
            if base.is_none() && state.mode & SET_ID != 0 {
                let why = "the attack made it with a set-id bit, and others' lines are in it";
                return Ok(Wanted::unknown(Merge::Conflict(why.to_owned())));
            }
            set_content(&mut state, system.keep(&content)?, content.len());
            Ok(Wanted { state: Some(state), merge: fact })
        }
        Merged::Merged { content: None, .. } => Ok(Wanted { state: None, merge: fact }),
        Merged::Conflict(_) | Merged::Binary => Ok(Wanted::unknown(fact)),
    }
}

/// The state before the attack; version 0 stands for a path that did not exist.
fn base_stage(versions: &dyn Versions, base: VersionId) -> std::result::Result<Stage, String> {
    if base == VersionId::UNKNOWN {
        return Ok(Stage { state: None, content: None, attack: false });
    }
    stage(versions, base, false)
}

fn stage(versions: &dyn Versions, version: VersionId, attack: bool) -> std::result::Result<Stage, String> {
    let state = versions.state(version)?;
    let has_content = state.as_ref().is_some_and(|state| state.content.is_some());
    let content = has_content.then(|| versions.content(version)).transpose()?;
    Ok(Stage { state, content, attack })
}

fn set_content(state: &mut FileState, content: Digest, bytes: usize) {
    state.content = Some(content);
    state.size = bytes as u64;
}

/// Mode, owner and attributes as others left them: each field that somebody else changed, from there; the rest from before.
/// A path that the attack created and others then wrote has those of its first state.
fn attributes(stages: &[Stage]) -> Option<FileState> {
    let mut wanted: Option<FileState> = None;
    let mut previous: Option<&FileState> = None;
    for stage in stages {
        let Some(state) = &stage.state else {
            if !stage.attack {
                wanted = None;
            }
            previous = None;
            continue;
        };
        match (&mut wanted, previous) {
            (Some(wanted), Some(previous)) if !stage.attack => {
                if state.mode != previous.mode {
                    wanted.mode = state.mode;
                }
                if (state.uid, state.gid) != (previous.uid, previous.gid) {
                    (wanted.uid, wanted.gid) = (state.uid, state.gid);
                }
                if state.xattrs != previous.xattrs {
                    wanted.xattrs.clone_from(&state.xattrs);
                }
                wanted.mtime = state.mtime;
            }
            (Some(_), _) => {}
            (None, _) => wanted = Some(state.clone()),
        }
        previous = Some(state);
    }
    wanted
}

/// Makes the path as wanted, when it is as captured.
pub fn apply(system: &mut dyn System, path: &HostPath, captured: &Before) -> Result<Outcome> {
    match (&captured.before, &captured.wanted) {
        (None, None) => return Ok(Outcome::DoesNotExist),
        (Some(before), Some(wanted)) if captured.in_place => drop(system.write_in_place(path, before, wanted)?),
        (Some(before), Some(wanted)) if captured.rewrite => system.rewrite(path, before, wanted)?,
        (before, Some(wanted)) => match twin(system, &captured.others, before.as_ref(), wanted)? {
            Some(other) => system.link(path, before.as_ref(), &other, wanted)?,
            None => system.place(path, before.as_ref(), wanted)?,
        },
        (Some(before), None) => system.remove(path, before)?,
    }
    Ok(Outcome::Success)
}

/// Makes the path as it was captured. What somebody changed since is not overwritten.
pub fn revert(system: &mut dyn System, path: &HostPath, captured: &Before) -> Result<Outcome> {
    tidy(system, path, captured)?;
    let found = system.look(path)?;
    if same(found.as_ref(), captured.before.as_ref()) {
        return Ok(Outcome::Undone);
    }
    match (&captured.before, &captured.wanted, &found) {
        (Some(before), Some(wanted), Some(_)) if captured.in_place => {
            drop(system.write_in_place(path, wanted, before)?);
        }
        (Some(before), Some(wanted), Some(_)) if captured.rewrite => system.rewrite(path, wanted, before)?,
        _ if !is_ours(found.as_ref(), captured.wanted.as_ref()) => {
            return Ok(Outcome::Failed(format!("`{path}` was changed since; a person must look")));
        }
        (Some(before), _, found) => system.place(path, found.as_ref(), before)?,
        (None, _, Some(found)) => system.remove(path, found)?,
        (None, _, None) => {}
    }
    Ok(Outcome::Undone)
}

/// Whether what an action placed is there to be taken back.
pub fn is_as_left(system: &mut dyn System, path: &HostPath, captured: &Before) -> Result<Expected> {
    let found = system.look(path)?;
    Ok(if same(found.as_ref(), captured.before.as_ref()) {
        Expected::AlreadyDone
    } else if captured.in_place || is_ours(found.as_ref(), captured.wanted.as_ref()) {
        Expected::Yes
    } else {
        Expected::Changed(format!("`{path}` was changed since"))
    })
}

/// What was placed, be it that its flags, which come last, were not set any more.
fn is_ours(found: Option<&FileState>, wanted: Option<&FileState>) -> bool {
    match (found, wanted) {
        (Some(found), Some(wanted)) => wanted.same(&FileState { flags: wanted.flags, ..found.clone() }),
        (found, wanted) => same(found, wanted),
    }
}

/// After a crash: done when it is as wanted, else put back.
pub fn settle_open(system: &mut dyn System, path: &HostPath, captured: &Before, why: &str) -> Outcome {
    let settled = tidy(system, path, captured).and_then(|()| {
        let found = system.look(path)?;
        let apart = match &captured.wanted {
            Some(wanted) => twin(system, &captured.others, found.as_ref(), wanted)?.is_some(),
            None => false,
        };
        if !apart && same(found.as_ref(), captured.wanted.as_ref()) {
            return Ok(Outcome::Success);
        }
        if let (Some(found), Some(before)) = (&found, &captured.before)
            && !captured.in_place
            && !captured.rewrite
            && half_set(found, captured)
        {
            system.place(path, Some(found), before)?;
        }
        revert(system, path, captured)
    });
    match settled {
        Ok(Outcome::Undone) => Outcome::Reverted(why.to_owned()),
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(format!("{why}, and it could not be put back: {}", error.in_words())),
    }
}

/// Stopped while the attributes of one object were set one after the other: the object itself is one of the two.
fn half_set(found: &FileState, captured: &Before) -> bool {
    let object = |state: &FileState| (state.kind, state.content, state.target.clone(), state.special);
    captured.before.iter().chain(&captured.wanted).any(|state| object(state) == object(found))
}

fn tidy(system: &mut dyn System, path: &HostPath, captured: &Before) -> Result<()> {
    let known: Vec<&FileState> = captured.before.iter().chain(&captured.wanted).collect();
    system.tidy(path, &known)
}
