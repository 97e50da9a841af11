// SPDX-License-Identifier: Apache-2.0
//! `impact/encryption`

use super::toll::{Toll, WORKS_MAX, Work, ending};
use super::place::is_installed;
use super::{Authority, Bounded, CONTENT, Claim, Detector, Look, Meta};
use crate::event::{Confidence, Content, FileActivityId, FileKind, Form};
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// # What it finds
/// One piece of work (a session, a service, all runs of a crontab) that makes files unreadable: contents that had a form
/// lose it, in place, or appear without a form beside originals that the same work takes away. Files count once, however
/// slowly; the same note in many directories and a common new ending lower the bar.
/// # Why it matters
/// It is what ransomware does (ATT&CK T1486).
/// # Blind spots
/// Contents that keep a form (a forged header, a re-encoded text), files outside the trees that versions are kept of, and
/// an installed encryption program that a user runs over files of their own, which is shown only.
/// # False positives
/// Programs that encrypt a user's store in place, file by file, without saying so in the files. Archives, pictures,
/// databases and what gpg(1), age(1), openssl(1) or 7z(1) write keep a form and count little.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encryption {
    works: Bounded<Work, Deeds, WORKS_MAX>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Deeds {
    /// Lost their form where they stood.
    ruined: Toll,
    /// Were sealed, by a program that says so.
    sealed: Toll,
    /// Came without a form where nothing was.
    made: Toll,
    /// Came sealed, by a program that says so.
    made_sealed: Toll,
    /// Were there before, and were taken away.
    taken: Toll,
    /// The weight of what was claimed last.
    claimed: Option<Confidence>,
    /// Of `made`, how many stand for one of `taken`; counted from whichever comes last.
    replaced: u64,
    /// The same of `made_sealed`.
    replaced_sealed: u64,
    /// Names of small new files, and in how many directories.
    notes: BTreeMap<Vec<u8>, u32>,
    /// New endings that were put behind a whole old name.
    suffixes: BTreeMap<Vec<u8>, u32>,
}

/// Files that are enough by themselves. Two of a hundred may be lost before the first stop; a server's data is thousands.
const ENOUGH: u64 = 6;
/// Fewer are enough when a note or a new ending goes with them.
const ENOUGH_WITH_SIGNS: u64 = 4;
/// So many count beside something else.
const SOME: u64 = 3;
/// Sealed by a known program: many, of several owners.
const ENOUGH_SEALED: u64 = 16;
/// The same name made in so many directories, or the same ending put behind so many names, is a sign.
const SIGN: u32 = 4;
/// LIMIT: names and endings remembered of one work.
const NAMES_MAX: usize = 32;

/// Programs whose business it is, as packages install them.
const TOOLS: [&[u8]; 14] = [
    b"gpg", b"gpg2", b"age", b"rage", b"openssl", b"ccrypt", b"ccencrypt", b"7z", b"7za", b"7zr", b"zip", b"scrypt", b"mcrypt",
    b"gocryptfs",
];

impl Detector for Encryption {
    const META: Meta = Meta { name: "impact/encryption", technique: "T1486", class_uid: CONTENT };

    fn forgotten(&self) -> u64 {
        self.works.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let file = look.file();
        let (removed, named) = match (look.content(), file) {
            (Some(_), _) => (None, None),
            (None, Some(file)) => {
                let existed = |change: crate::event::Change| !change.created && change.removed;
                let gone = file.change.is_some_and(existed);
                let removed = match file.activity {
                    FileActivityId::Delete if gone => Some(&file.file.path),
                    _ => None,
                };
                let named = match file.activity {
                    FileActivityId::Create if file.kind == FileKind::Regular => Some((&file.file.path, None)),
                    FileActivityId::Rename => file.file_result.as_ref().map(|to| (to, Some(&file.file.path))),
                    _ => None,
                };
                if removed.is_none() && named.is_none() {
                    return None;
                }
                (removed, named)
            }
            (None, None) => return None,
        };
        let time = look.event.time;
        let work = Work::of(look);
        let is_known = self.works.get(&work).is_some();
        // Names alone open no account: most work only ever makes and removes files.
        if look.content().is_none() && !is_known && removed.is_none() {
            return None;
        }
        let deeds = self.works.entry(&work);
        if deeds.is_stale(time) {
            *deeds = Deeds::default();
        }
        let changed = match (look.content(), removed, named) {
            (Some(content), _, _) => deeds.content(content, time),
            (None, Some(path), _) => deeds.removal(path, time),
            (None, None, Some((to, from))) => {
                deeds.name(to, from);
                false
            }
            (None, None, None) => false,
        };
        let claim = if changed { deeds.judge(look) } else { None };
        let claim = claim.filter(|claim| deeds.claimed.is_none_or(|before| before < claim.confidence))?;
        deeds.claimed = Some(claim.confidence);
        Some(claim)
    }
}

impl Deeds {
    fn is_stale(&self, now: crate::id::Timestamp) -> bool {
        [&self.ruined, &self.sealed, &self.made, &self.made_sealed, &self.taken].iter().all(|toll| toll.is_stale(now))
    }

    fn content(&mut self, content: &Content, time: crate::id::Timestamp) -> bool {
        let path = &content.path;
        let before = content.before.map(|shape| shape.form);
        match (before, content.after.form) {
            (Some(Form::Opaque | Form::Sealed), _) => false,
            (Some(Form::Empty) | None, Form::Opaque | Form::Sealed) => {
                let stands = self.stands_for_taken(path);
                let sealed = content.after.form == Form::Sealed;
                let (made, replaced) = if sealed {
                    (&mut self.made_sealed, &mut self.replaced_sealed)
                } else {
                    (&mut self.made, &mut self.replaced)
                };
                let new = made.count(path, time);
                *replaced += u64::from(new && stands);
                new
            }
            (Some(_), Form::Opaque) => self.ruined.count(path, time),
            (Some(_), Form::Sealed) => self.sealed.count(path, time),
            _ => false,
        }
    }

    fn removal(&mut self, path: &HostPath, time: crate::id::Timestamp) -> bool {
        let made = [&self.made, &self.made_sealed].into_iter().any(|made| made.files.contains(path));
        if made || !self.taken.count(path, time) {
            return false;
        }
        let (opaque, sealed) = (stand_in(&self.made, path), stand_in(&self.made_sealed, path));
        self.replaced += u64::from(opaque);
        self.replaced_sealed += u64::from(sealed && !opaque);
        opaque || sealed
    }

    fn stands_for_taken(&self, made: &HostPath) -> bool {
        let mut name = made.file_name();
        // `report.docx.xyz` for `report.docx`, `report.xyz` for `report.docx`: shorten until a taken name begins so.
        while let Some(dot) = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0) {
            name = &name[..dot];
            let mut prefix = made.parent().to_vec();
            prefix.push(b'/');
            prefix.extend_from_slice(name);
            let next = self.taken.files.range(HostPath::new(&prefix)..).next();
            if next.is_some_and(|taken| taken.as_bytes().starts_with(&prefix)) {
                return true;
            }
        }
        false
    }

    fn name(&mut self, to: &HostPath, from: Option<&HostPath>) {
        let note = |names: &mut BTreeMap<Vec<u8>, u32>, name: &[u8]| {
            if let Some(count) = names.get_mut(name) {
                *count += 1;
            } else if names.len() < NAMES_MAX {
                names.insert(name.to_vec(), 1);
            }
        };
        match from {
            None => note(&mut self.notes, to.file_name()),
            Some(from) => {
                let appended = to.as_bytes().strip_prefix(from.as_bytes()).filter(|rest| rest.first() == Some(&b'.'));
                if let Some(suffix) = appended {
                    note(&mut self.suffixes, suffix);
                }
            }
        }
    }

    fn judge(&self, look: &Look<'_>) -> Option<Claim> {
        let lost = self.ruined.len() + self.replaced;
        let sealed = self.sealed.len() + self.replaced_sealed;
        let repeated = |names: &BTreeMap<Vec<u8>, u32>| names.values().any(|count| *count >= SIGN);
        let (note, suffix) = (repeated(&self.notes), repeated(&self.suffixes));
        let tolls = [&self.ruined, &self.made, &self.sealed, &self.made_sealed];
        let of = |count: fn(&Toll) -> usize| tolls.into_iter().map(count).max().unwrap_or(0);
        let endings = of(|toll| toll.endings.count()).max(self.taken.endings.count());
        let (directories, estates) = (of(|toll| toll.directories.count()), of(|toll| toll.estates.count()));
        let broad = endings >= 2 || directories >= 3 || estates >= 2;
        let own_tool = look.seen().is_some_and(|seen| seen.user.euid != 0)
            && look.programs().take(2).any(|program| is_installed(program, &TOOLS));
        let enough = lost >= ENOUGH || lost >= ENOUGH_WITH_SIGNS && (note || suffix);
        let confidence = match look.authority() {
            Authority::ChangeWindow | Authority::ChangeTool => return None,
            _ if !(lost >= SOME && broad || lost + sealed >= ENOUGH_SEALED) => return None,
            Authority::Administrator => Confidence::Low,
            Authority::Machinery | Authority::Nobody if own_tool => Confidence::Low,
            Authority::Machinery | Authority::Nobody if enough && broad => Confidence::High,
            Authority::Machinery | Authority::Nobody if estates >= 2 && endings >= 3 => Confidence::High,
            Authority::Machinery | Authority::Nobody if lost >= SOME && broad => Confidence::Medium,
            Authority::Machinery | Authority::Nobody => Confidence::Low,
        };
        let mut signs = String::new();
        for (there, what) in [(note, ", with the same note in many directories"), (suffix, ", with a new ending")] {
            if there {
                signs.push_str(what);
            }
        }
        let title = format!(
            "{} files of {endings} endings in {directories} directories lost their form{signs}, by {}",
            lost + sealed,
            look.who()
        );
        let mut paths = self.ruined.some();
        paths.extend(self.sealed.some());
        paths.extend(self.taken.some());
        paths.truncate(8);
        Some(Claim { confidence, title, process: look.actor, paths, technique: None })
    }
}

/// Something of the same name, with another ending, was made beside what is taken.
fn stand_in(made: &Toll, taken: &HostPath) -> bool {
    let mut prefix = taken.parent().to_vec();
    prefix.push(b'/');
    prefix.extend_from_slice(stem(taken));
    let next = made.files.range(HostPath::new(&prefix)..).next();
    next.is_some_and(|made| made.as_bytes().starts_with(&prefix))
}

/// A name without its ending.
fn stem(path: &HostPath) -> &[u8] {
    let (name, ending) = (path.file_name(), ending(path));
    if ending.is_empty() { name } else { &name[..name.len() - ending.len() - 1] }
}
