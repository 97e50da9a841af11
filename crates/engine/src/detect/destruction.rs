// SPDX-License-Identifier: Apache-2.0
//! `impact/destruction`

use super::toll::{Toll, WORKS_MAX, Work};
use super::{Authority, Bounded, Claim, Detector, FILE, Look, Meta};
use crate::event::{Confidence, FileActivityId, FileKind, Form};
use crate::id::Timestamp;
use serde::{Deserialize, Serialize};

/// # What it finds
/// One piece of work that removes or empties files of many kinds that belong to many: homes, data of services, web sites.
/// # Why it matters
/// It is what wipers do, and what a thief does who covers tracks (ATT&CK T1485).
/// # Blind spots
/// A wiper that keeps within one home looks like a user who clears up. Files outside the trees that versions are kept of.
/// # False positives
/// A clean-up script of nobody in particular that goes through several homes and takes files of many kinds. Package
/// managers, administrators, and users in what is their own are not counted; caches and build trees are left out of the
/// trees by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Destruction {
    works: Bounded<Work, Deeds, WORKS_MAX>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Deeds {
    removed: Toll,
    /// Emptied, or overwritten with one value.
    emptied: Toll,
    /// The weight of what was claimed last.
    claimed: Option<Confidence>,
}

/// Removed files of that many, when they are of several estates and kinds.
const REMOVED: u64 = 24;
/// Of so many places; as root in somebody's session, of one less: a user has more than one place, root has none.
const ESTATES: usize = 3;
const KINDS: usize = 4;
/// Emptied ones: nobody keeps the names of so many files and throws their contents away.
const EMPTIED: u64 = 8;

impl Detector for Destruction {
    const META: Meta = Meta { name: "impact/destruction", technique: "T1485", class_uid: FILE };

    fn forgotten(&self) -> u64 {
        self.works.forgotten
    }

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let (path, emptied) = match (look.content(), look.file()) {
            (Some(content), _) => {
                let gone = matches!(content.after.form, Form::Empty | Form::Blank);
                let was = content.before.is_some_and(|before| !matches!(before.form, Form::Empty | Form::Blank));
                (gone && was).then_some((&content.path, true))?
            }
            (None, Some(file)) => {
                let existed = file.change.is_some_and(|change| change.removed && !change.created);
                let removed = file.activity == FileActivityId::Delete && file.kind != FileKind::Directory;
                (existed && removed).then_some((&file.file.path, false))?
            }
            (None, None) => return None,
        };
        let time = look.event.time;
        let deeds = self.works.entry(&Work::of(look));
        if deeds.is_stale(time) {
            *deeds = Deeds::default();
        }
        let toll = if emptied { &mut deeds.emptied } else { &mut deeds.removed };
        let claim = if toll.count(path, time) { deeds.judge(look) } else { None };
        let claim = claim.filter(|claim| deeds.claimed.is_none_or(|before| before < claim.confidence))?;
        deeds.claimed = Some(claim.confidence);
        Some(claim)
    }
}

impl Deeds {
    fn is_stale(&self, now: Timestamp) -> bool {
        self.removed.is_stale(now) && self.emptied.is_stale(now)
    }

    fn judge(&self, look: &Look<'_>) -> Option<Claim> {
        let Self { removed, emptied, .. } = self;
        let as_root = look.in_session() && look.seen().is_some_and(|seen| seen.user.euid == 0);
        let wiped = removed.len() >= REMOVED
            && removed.estates.count() >= ESTATES - usize::from(as_root)
            && removed.endings.count() >= KINDS;
        let emptied_many = emptied.len() >= EMPTIED && emptied.endings.count() >= 3;
        if !wiped && !emptied_many {
            return None;
        }
        let confidence = match look.authority() {
            Authority::ChangeWindow | Authority::ChangeTool => return None,
            Authority::Administrator => Confidence::Low,
            // What the system does by itself clears up; only emptied contents are nobody's tidiness.
            Authority::Machinery if !emptied_many => Confidence::Medium,
            Authority::Machinery | Authority::Nobody => Confidence::High,
        };
        let (toll, verb) = if emptied_many { (emptied, "emptied") } else { (removed, "removed") };
        let title = format!(
            "{} files of {} endings and {} owners' places were {verb} by {}",
            toll.len(),
            toll.endings.count(),
            toll.estates.count(),
            look.who()
        );
        Some(Claim { confidence, title, process: look.actor, paths: toll.some(), technique: None })
    }
}
