// SPDX-License-Identifier: Apache-2.0
//! Files in their order: which path is planned now, which waits and for what, and by which action it is put in order.
//!
//! Input: the queue of objects, and what is left of the attack at each path. Output: actions on one file, or on many
//! together. What the attack is still writing waits, and so does a directory with entries; a path that changes again
//! after [`ATTEMPTS_MAX`] plans is shown to a person.

use super::service::service_of;
use super::{ATTEMPTS_MAX, CROWD_MIN, CROWDS_IN_FLIGHT_MAX, Desk, RETRY_NS, Step, aside, net, object_progress, place};
use crate::action::{Action, FILES_MAX, RestoreFile};
use crate::diagnose::{Case, Net, ObjectState, Progress};
use crate::guard::Attempts;
use crate::id::{ProcessKey, Timestamp, VersionId};
use crate::incident::ObjectClass;
use crate::path::HostPath;

/// LIMIT: file actions that the hands have at one time.
pub const IN_FLIGHT_MAX: usize = 16;

impl Case {
    /// Begins what can be begun; true when no file waits or is worked on.
    pub(super) fn order_files(&mut self, desk: &mut Desk<'_>) -> bool {
        let crowd = self.objects.len() >= CROWD_MIN;
        let ripe: Vec<HostPath> = self
            .plan
            .later
            .iter()
            .filter(|path| self.objects.get(path).is_none_or(|object| object.not_before <= desk.now))
            .take(if crowd { FILES_MAX } else { IN_FLIGHT_MAX })
            .cloned()
            .collect();
        for path in ripe {
            let net = net(desk, &path);
            let directory = self.directories.contains(&path);
            self.plan.enqueue(place(&path, &net, directory));
        }
        if crowd && !self.is_gathered() {
            return false;
        }
        let begun = || self.plan.busy.iter().filter_map(|id| self.plan.steps.get(id)).map(|step| &step.action);
        let mut busy = begun().filter(|action| action.path().is_some()).count();
        let mut crowds = begun().filter(|action| matches!(action, Action::RestoreFiles { .. })).count();
        let mut gathered: Vec<RestoreFile> = Vec::new();
        // LIMIT: the queue is looked at as far as this step's work allows.
        while busy < IN_FLIGHT_MAX
            && crowds < CROWDS_IN_FLIGHT_MAX
            && desk.room > 0
            && !desk.budget.is_short(self.id)
            && (desk.units < desk.units_max || !gathered.is_empty())
        {
            let Some((_, _, path)) = self.plan.queue.pop_first() else { break };
            if self.objects.get(&path).is_none_or(|object| object.progress != Progress::Todo) {
                continue;
            }
            desk.units += 1;
            if self.cools_down(&path, desk.now) {
                continue;
            }
            let net = net(desk, &path);
            if net == Net::Pending || (!self.plan.impatient && self.is_held_open(desk, &path)) {
                self.plan.pending.insert(path);
            } else if self.waits_for_entries(&path, desk.now) {
                continue;
            } else if let Some(file) = self.as_one_of_many(desk, &path, &net).filter(|_| crowd) {
                gathered.push(file);
                if gathered.len() == FILES_MAX {
                    crowds += usize::from(self.order_many(desk, std::mem::take(&mut gathered)));
                }
            } else if self.order_file(desk, &path, net) {
                busy += 1;
            }
        }
        if !gathered.is_empty() {
            crowds += usize::from(self.order_many(desk, gathered));
        }
        let short = desk.budget.is_short(self.id);
        self.dirty |= !self.plan.queue.is_empty() && busy < IN_FLIGHT_MAX && crowds < CROWDS_IN_FLIGHT_MAX && !short;
        if short {
            self.why = format!("{} objects wait: as much was done within a minute as may be", self.plan.queue.len());
        }
        busy += crowds;
        busy += self.compare(desk, IN_FLIGHT_MAX.saturating_sub(busy));
        // What was compared once may be written all day long: that holds nothing up.
        let compared =
            |object: &ObjectState| object.undone.as_ref().is_none_or(|undone| undone.compared != VersionId::UNKNOWN);
        busy == 0
            && self.plan.queue.is_empty()
            && self.plan.later.is_empty()
            && self.plan.again.iter().all(|path| self.objects.get(path).is_none_or(compared))
    }

    /// The guard wants a pause between two actions on one path: it is planned when the pause is over.
    fn cools_down(&mut self, path: &HostPath, now: Timestamp) -> bool {
        let Some(object) = self.objects.get_mut(path) else { return false };
        let attempts = Attempts { count: object.commits, last: object.committed };
        let Some(ready) = attempts.next_at().filter(|ready| *ready > now) else { return false };
        object.not_before = ready;
        self.plan.later.insert(path.clone());
        true
    }

    /// A directory of the attack's own goes when it is empty: it is planned once nothing in it is to be put in order.
    fn waits_for_entries(&mut self, path: &HostPath, now: Timestamp) -> bool {
        if !self.directories.contains(path) {
            return false;
        }
        let within = HostPath::new(&[path.as_bytes(), b"/"].concat());
        let below = self.objects.range(within.clone()..);
        let below = below.take_while(|(entry, _)| entry.as_bytes().starts_with(within.as_bytes()));
        let mut open =
            below.filter(|(_, object)| matches!(object.progress, Progress::Todo | Progress::Busy)).peekable();
        if open.peek().is_none() {
            return false;
        }
        // What waits for a close is looked at again when everything else is settled: then so is this.
        if open.all(|(entry, _)| self.plan.pending.contains(entry)) {
            self.plan.pending.insert(path.clone());
        } else if let Some(object) = self.objects.get_mut(path) {
            object.not_before = Timestamp(now.0 + RETRY_NS);
            self.plan.later.insert(path.clone());
        }
        true
    }

    /// A stopped subject was in the middle of writing it: what it is will be known when the subject is ended.
    fn is_held_open(&self, desk: &Desk<'_>, path: &HostPath) -> bool {
        let stopped = |key: &ProcessKey| self.plan.live.contains(key) && !self.plan.running.contains(key);
        desk.graph
            .file(path)
            .is_some_and(|file| file.writes.iter().any(|write| write.pending && stopped(&write.writer)))
    }

    /// Plans one path; true when the hands have it now.
    fn order_file(&mut self, desk: &mut Desk<'_>, path: &HostPath, net: Net) -> bool {
        let Some(object) = self.objects.get_mut(path) else { return false };
        if net == Net::Nothing && object.commits == 0 {
            // Made and taken away again before anything was done about it.
            let old = object.action.take();
            self.objects.remove(path);
            self.directories.remove(path);
            self.footholds.remove(path);
            if let Some(old) = old {
                self.supersede(desk, old);
            }
            if let Some(file) = desk.graph.file_mut(path) {
                file.incident = None;
            }
            return false;
        }
        let old = object.action.take();
        // Only what is acted upon can be contended: a device that a subject goes on writing to is merely named.
        // And a plan that nobody answered was no attempt: a new question takes its place.
        let asked = old.and_then(|id| self.plan.steps.get(&id)).is_some_and(Step::waits);
        if matches!(net, Net::Created { .. } | Net::Changed { .. }) && !asked {
            object.attempts += 1;
            if object.attempts > ATTEMPTS_MAX {
                object.progress = Progress::Shown(format!("it changed again after {ATTEMPTS_MAX} plans"));
                self.plan.shown.insert(path.clone());
                return false;
            }
        }
        let shared = object.shared;
        let created = matches!(net, Net::Created { .. });
        let action = match net {
            Net::Nothing | Net::Pending => {
                object.progress = Progress::Done;
                None
            }
            Net::Unprotected => {
                object.class = ObjectClass::Unprotected;
                object.progress = Progress::Done;
                None
            }
            Net::Unknown(why) => {
                object.progress = Progress::Shown(why);
                None
            }
            Net::Entangled { why, base, later } => {
                object.class = ObjectClass::Mixed;
                object.progress = Progress::Shown(why);
                desk.out.push(aside(self.id, path, base, &later));
                None
            }
            Net::Created { .. } if shared => {
                object.progress = Progress::Shown("others keep files in it".to_owned());
                None
            }
            Net::Created { expected } => {
                object.class = ObjectClass::AttackOnly;
                Some(Action::QuarantineFile { path: path.clone(), expected })
            }
            Net::Changed { base, later, class } => {
                object.class = class;
                let append_only = class == ObjectClass::Log;
                Some(Action::RestoreFile(RestoreFile {
                    path: path.clone(),
                    base,
                    later,
                    append_only,
                    again: false,
                    whole: false,
                }))
            }
        };
        if let Some(old) = old {
            self.supersede(desk, old);
        }
        let Some(action) = action else {
            if matches!(object_progress(&self.objects, path), Some(Progress::Shown(_))) {
                self.plan.shown.insert(path.clone());
            }
            return false;
        };
        if let Some(service) = service_of(path, created) {
            self.plan.services.entry(service).or_insert(None);
        }
        let id = self.propose(desk, action);
        self.plan.busy.contains(&id)
    }
}
