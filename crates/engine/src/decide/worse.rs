// SPDX-License-Identifier: Apache-2.0
//! What is worse since something was done: taken back where no attack gains by it, else asked about; never done again by
//! itself.
//!
//! Input: a service that was well and is ill now, by probes that have nothing to do with those who act. Output: what of an
//! incident's own actions it lives by is undone, files latest first, then units, each judged like any action; then a
//! person is asked whether it shall be done all the same. What stops and blocks stays (docs/decisions, 21).

use super::service::{Service, service_of};
use super::step::processes_of;
use super::{Desk, Progressing, Step};
use crate::action::{Action, Outcome};
use crate::ailment::{GRACE_NS, HOLD_NS};
use crate::detect;
use crate::diagnose::{Case, Progress};
use crate::event::IncidentFinding;
use crate::id::{ActionId, Timestamp, VersionId};
use crate::incident::{Deed, Milestone, ObjectClass};
use crate::input::Effect;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// LIMIT: nanoseconds after an action in which a service that it touched may fail because of it: whoever was started anew
/// need not answer for so long, and then has to for a while.
pub const WATCH_NS: u64 = GRACE_NS + HOLD_NS;
/// LIMIT: newest actions of one incident that are looked at.
pub const LOOKED_AT_MAX: usize = 256;
/// LIMIT: services that one incident tells of; further ones are counted as omitted.
pub const FALLEN_MAX: usize = 16;

/// Where nothing but settings belongs (Filesystem Hierarchy Standard, 3.7): whatever a service is made of elsewhere may run.
const SETTINGS: &[u8] = b"/etc";

/// A service that was well and is ill.
#[derive(Clone, Debug)]
pub(crate) struct Fallen {
    pub(crate) unit: String,
    /// It was well from then to then.
    pub(crate) well: (Timestamp, Timestamp),
    pub(crate) words: String,
    /// What it is made of.
    pub(crate) watches: Vec<HostPath>,
    /// What others changed last of that, and when.
    pub(crate) other: Option<(Timestamp, String)>,
}

impl Fallen {
    /// It was well for a while when this was done, and soon after not any more.
    fn follows(&self, step: &Step) -> bool {
        let worked = matches!(step.outcome, Some(Outcome::Success | Outcome::Partly(_)));
        let (since, until) = self.well;
        let well = step.decided < until && step.decided.since_ns(since) >= HOLD_NS;
        let soon = step.settled.is_some_and(|settled| until.since_ns(settled) <= WATCH_NS);
        step.state == Progressing::Settled && worked && well && soon
    }

    /// It reads what this wrote, or is what this started or reloaded.
    fn lives_by(&self, action: &Action) -> bool {
        let reads = |path: &HostPath| {
            let its = |service| matches!(service, Service::Reload(unit) if unit == self.unit);
            self.watches.iter().any(|watch| path.is_within(watch.as_bytes()))
                || service_of(path, false).is_some_and(its)
        };
        let undo = matches!(action, Action::UndoAction { .. });
        let filter = matches!(action, Action::LoadFirewall { .. });
        !undo && (filter || action.unit() == Some(&self.unit) || action.paths().any(reads))
    }

    /// What of these steps may be why, as it is to be taken back: files latest first, then units.
    pub(crate) fn causes(&self, steps: &BTreeMap<ActionId, Step>) -> Vec<ActionId> {
        let newest = steps.iter().rev().take(LOOKED_AT_MAX);
        let plausible = newest.filter(|(_, step)| self.follows(step) && self.lives_by(&step.action));
        let (units, files): (Vec<_>, Vec<_>) = plausible.partition(|(_, step)| step.action.unit().is_some());
        files.into_iter().chain(units).map(|(id, _)| *id).collect()
    }

    /// In words, with the actions that it came after.
    pub(crate) fn tell(&self, causes: &[ActionId], steps: &BTreeMap<ActionId, Step>, then: &str) -> String {
        let one = |id: &ActionId| {
            let step = steps.get(id)?;
            let path = step.action.path().map(|path| format!(" of `{path}`")).unwrap_or_default();
            Some(format!("action {id} ({}{path})", step.action.name()))
        };
        let after = causes.iter().filter_map(one).take(4).collect::<Vec<_>>().join(" and ");
        let after = if after.is_empty() { String::new() } else { format!(" after {after}") };
        format!("{} was well, and is worse{after}: {}; {then}", self.unit, self.words)
    }

    /// Who else may be why: what others changed of it since the first of these was done.
    pub(crate) fn somebody_else(&self, causes: &[ActionId], steps: &BTreeMap<ActionId, Step>) -> Option<String> {
        let first = causes.iter().filter_map(|id| steps.get(id)).map(|step| step.decided).min()?;
        let (_, title) = self.other.as_ref().filter(|(time, _)| *time >= first)?;
        Some(format!("somebody else changed what it is made of, too: {title}"))
    }
}

/// Why only a person takes this back, whoever did it and why; `None`: it is content of a file that was there before, or a
/// unit that was started or reloaded.
pub(crate) fn comes_back(action: &Action) -> Option<String> {
    match action {
        Action::ReloadService { .. } | Action::RestartService { .. } => None,
        Action::RestoreFile(restore) => {
            let path = &restore.path;
            if restore.base == VersionId::UNKNOWN {
                Some(format!("`{path}` was not there before"))
            } else if restore.again {
                Some(format!("lines that had been taken out of `{path}` would be in it once more"))
            } else if !path.is_within(SETTINGS) || detect::is_foothold(path) {
                Some(format!("`{path}` is not settings alone: what is in it may run, or say who may come in"))
            } else {
                None
            }
        }
        Action::LoadFirewall { .. } => Some("what it keeps out would come in again".to_owned()),
        other => Some(format!("what {} put away or replaced would be there again", other.name())),
    }
}

/// The action that takes `of` back.
pub(crate) fn undo_of(of: ActionId, action: &Action) -> Action {
    let paths = action.paths().cloned().chain(match action {
        Action::LoadFirewall { path } => Some(path.clone()),
        _ => None,
    });
    Action::UndoAction { of, paths: paths.collect(), unit: action.unit().map(ToOwned::to_owned) }
}

pub(crate) const fn is_undo(action: &Action) -> bool {
    matches!(action, Action::UndoAction { .. })
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    /// When it was well last.
    until: Timestamp,
    /// `None`: nothing of this incident's is why.
    words: Option<String>,
}

/// What is worse since an incident's actions, and what was taken back of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Worse {
    told: BTreeMap<String, Told>,
    /// To be taken back, in this order.
    pub(crate) queue: VecDeque<ActionId>,
    /// For which service an action is taken back.
    reasons: BTreeMap<ActionId, String>,
    /// Why a person has to say so.
    held: BTreeMap<ActionId, String>,
    /// What was taken back concerned these, each with the service that it was for.
    paths: BTreeMap<HostPath, String>,
    units: BTreeMap<String, String>,
}

impl Worse {
    /// Whether anything is to be said about it.
    pub(crate) fn is_new(&self, fallen: &Fallen) -> bool {
        self.told.get(&fallen.unit).is_none_or(|told| told.until != fallen.well.1)
    }

    pub(crate) fn is_full(&self, fallen: &Fallen) -> bool {
        self.told.len() >= FALLEN_MAX && !self.told.contains_key(&fallen.unit)
    }

    /// Something was to be taken back: nothing more is tried by itself.
    pub(crate) fn is_begun(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Something was said of this service before.
    pub(crate) fn is_known(&self, unit: &str) -> bool {
        self.told.get(unit).is_some_and(|told| told.words.is_some())
    }

    pub(crate) fn note(&mut self, fallen: &Fallen, words: Option<String>) {
        let until = fallen.well.1;
        let told = self.told.entry(fallen.unit.clone()).or_insert(Told { until, words: None });
        told.until = until;
        told.words = words.or_else(|| told.words.take());
    }

    pub(crate) fn want_back(&mut self, fallen: &Fallen, causes: Vec<ActionId>, held: Option<&str>) {
        for id in causes {
            if self.reasons.insert(id, fallen.unit.clone()).is_none() {
                self.queue.push_back(id);
                held.map(|why| self.held.insert(id, why.to_owned()));
            }
        }
    }

    /// It is taken back: never done again by itself.
    pub(crate) fn took_back(&mut self, of: ActionId, action: &Action) {
        let unit = self.reasons.get(&of).cloned().unwrap_or_default();
        self.paths.extend(action.paths().map(|path| (path.clone(), unit.clone())));
        self.units.extend(action.unit().map(|of| (of.to_owned(), unit.clone())));
    }

    /// Why only a person may have it done.
    pub(crate) fn restraint(&self, action: &Action) -> Option<String> {
        if let Action::UndoAction { of, .. } = action {
            return self.held.get(of).map(|why| format!("K12: a person says whether it is taken back: {why}"));
        }
        let of_unit = || action.unit().and_then(|unit| self.units.get(unit));
        let unit = action.paths().find_map(|path| self.paths.get(path)).or_else(of_unit)?;
        Some(format!("K12: {unit} was worse after this was done, so it was taken back"))
    }

    pub(crate) fn is_held(&self, of: ActionId) -> bool {
        self.held.contains_key(&of)
    }

    /// What is told of it.
    pub(crate) fn words(&self) -> impl Iterator<Item = &String> {
        self.told.values().filter_map(|told| told.words.as_ref())
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.told.extend(other.told);
        self.queue.extend(other.queue);
        self.reasons.extend(other.reasons);
        self.held.extend(other.held);
        self.paths.extend(other.paths);
        self.units.extend(other.units);
    }
}

impl Case {
    /// A service fell ill: whether that is our doing, and what follows.
    pub(crate) fn look_back(&mut self, desk: &mut Desk<'_>, fallen: &Fallen) {
        if !self.confirmed || self.closed.is_some() || !self.plan.worse.is_new(fallen) || !self.plan.busy.is_empty() {
            return;
        }
        if self.plan.worse.is_full(fallen) {
            self.omitted += 1;
            return;
        }
        desk.units += u32::try_from(self.plan.steps.len().min(LOOKED_AT_MAX)).unwrap_or(0);
        let causes = fallen.causes(&self.plan.steps);
        let stays = self.what_stays(desk, fallen);
        if causes.is_empty() && stays.is_empty() {
            self.plan.worse.note(fallen, None);
            return;
        }
        let wanted = |id: &ActionId| self.plan.steps.get(id).is_some_and(|step| !step.approvals.is_empty());
        let notice = if causes.iter().any(wanted) {
            Some("a person wanted that, so it stays")
        } else if self.plan.worse.is_known(&fallen.unit) {
            Some("it was so before, so nothing more is taken back by itself")
        } else if causes.is_empty() {
            Some("nothing is taken back")
        } else {
            None
        };
        let held = self.objection(&causes, fallen);
        let then = match (notice, &held) {
            (Some(notice), _) => notice.to_owned(),
            (None, None) => "that is to be taken back, and to be done again only when a person says so".to_owned(),
            (None, Some(why)) => format!("a person is asked whether that is taken back, for {why}"),
        };
        let words = fallen.tell(&causes, &self.plan.steps, &(then + &stays));
        self.plan.worse.note(fallen, Some(words.clone()));
        if notice.is_some() {
            let finding = IncidentFinding { incident: self.id, stage: self.stage, message: words };
            desk.out.push(Effect::Incident(finding));
            return;
        }
        self.plan.worse.want_back(fallen, causes, held.as_deref());
        self.plan.proof = super::Proving::default();
        self.dirty = true;
        self.pass(desk, Milestone::Reopened, words);
    }

    /// Why nothing of these is taken back before a person says so. All or nothing: half of it is a state that nobody wanted.
    fn objection(&self, causes: &[ActionId], fallen: &Fallen) -> Option<String> {
        let steps = || causes.iter().filter_map(|id| self.plan.steps.get(id));
        if !self.plan.running.is_empty() {
            return Some("processes of the attack run".to_owned());
        }
        let found = |path: &HostPath| {
            let claim = self.findings.iter().find(|claim| claim.summary.paths.contains(path))?;
            Some(format!("`{path}` is what gave the attack away: {}", claim.summary.title))
        };
        // What the attack damaged and nobody mended may be why just as well: it would have itself put back so.
        let damaged = self.objects.iter().find(|(_, object)| {
            let unprotected = object.class == ObjectClass::Unprotected && object.deed != Deed::Created;
            !object.intact && (unprotected || matches!(object.progress, Progress::Shown(_)))
        });
        let damaged = || damaged.map(|(path, _)| format!("the attack touched `{path}`, and that is not in order"));
        steps()
            .find_map(|step| comes_back(&step.action))
            .or_else(|| steps().flat_map(|step| step.action.paths()).find_map(found))
            .or_else(|| fallen.somebody_else(causes, &self.plan.steps))
            .or_else(damaged)
    }

    /// Stops and blocks that may be why, in words: they hold the attack, and stay.
    fn what_stays(&self, desk: &Desk<'_>, fallen: &Fallen) -> String {
        let its = |key: &&crate::id::ProcessKey| {
            desk.graph.process(**key).and_then(|node| node.unit.as_deref()).is_some_and(|unit| unit == fallen.unit)
        };
        let one = |(id, step): (&ActionId, &Step)| {
            let of_it = processes_of(&step.action).iter().filter(its).count();
            match &step.action {
                _ if of_it > 0 => {
                    Some(format!("; action {id} stopped or ended {of_it} of its processes, which stays so"))
                }
                Action::FilterTraffic { address, extent, .. } => {
                    let who = desk.graph.neighbour(*address, *extent)?;
                    Some(format!("; action {id} blocks {address} ({who}), which stays so until `thymus undo a{id}`"))
                }
                Action::IsolateHost { .. } => {
                    Some(format!("; action {id} isolates the host, which stays so until `thymus undo a{id}`"))
                }
                _ => None,
            }
        };
        let newest = self.plan.steps.iter().rev().take(LOOKED_AT_MAX).filter(|(_, step)| fallen.follows(step));
        newest.filter_map(one).take(4).collect()
    }

    /// True when nothing is left to be taken back by itself. One after the other: a unit reads its files as they are then.
    pub(super) fn take_back(&mut self, desk: &mut Desk<'_>) -> bool {
        while !self.plan.is_any_busy(is_undo) {
            let Some(of) = self.plan.worse.queue.pop_front() else { return true };
            let done = self.plan.steps.get(&of).filter(|step| step.state == Progressing::Settled);
            if let Some(undo) = done.map(|step| undo_of(of, &step.action)) {
                self.propose(desk, undo);
            }
        }
        false
    }

    /// It is as it was before `of`: whether that is done again is a person's to say.
    pub(super) fn taken_back(&mut self, desk: &mut Desk<'_>, of: ActionId) {
        let Some(action) = self.plan.steps.get(&of).map(|step| step.action.clone()) else { return };
        self.plan.set(of, |step| {
            step.state = Progressing::Superseded;
            step.outcome = Some(Outcome::Undone);
        });
        self.plan.worse.took_back(of, &action);
        for path in action.paths() {
            self.plan.again.remove(path);
            self.plan.later.remove(path);
            if let Some(object) = self.objects.get_mut(path) {
                (object.action, object.undone) = (None, None);
            }
        }
        let anew = self.propose(desk, action);
        self.plan.set(anew, |step| step.personal = true);
    }
}
