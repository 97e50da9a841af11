// SPDX-License-Identifier: Apache-2.0
//! What was seen of one service or resource, and what that means.

use super::Kind;
use crate::action::{Authored, RestoreFile};
use crate::diagnose::named;
use crate::event::Endpoint;
use crate::graph::Graph;
use crate::guard::Answer;
use crate::health::{Health, Service};
use crate::id::{ProcessKey, Timestamp, VersionId};
use crate::incident::InvocationKind;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// LIMIT: changed paths remembered of one service; the oldest goes.
const CHANGES_MAX: usize = 64;
/// LIMIT: good versions remembered of one service.
const GOOD_MAX: usize = 256;
/// What a service was started with is good when it is well for so many nanoseconds.
pub(super) const GOOD_NS: u64 = 8_000_000_000;
/// Answers and nanoseconds before a failed unit counts as ill: whoever is about to start it again comes first.
const FAILED: (u32, u64) = (2, 1_500_000_000);
/// The same for a service that runs and does not answer, and for one whose program is gone (a package manager may be at it).
const SILENT: (u32, u64) = (3, 3_000_000_000);
const MISSING: (u32, u64) = (3, 5_000_000_000);
/// And for what services live from.
const RESOURCE: (u32, u64) = (2, 1_500_000_000);
/// After a start or a reload, nobody is asked to answer for so many nanoseconds.
pub(crate) const GRACE_NS: u64 = 20_000_000_000;
/// Starts by the service manager within so many nanoseconds that are a loop.
const LOOP: (u32, u64) = (3, 60_000_000_000);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Well,
    /// Starting, stopping, or not for long enough.
    Unsure,
    /// On purpose, as far as can be seen.
    Stopped,
    Ill(Kind, String),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Patient {
    health: Option<Health>,
    seen: Timestamp,
    /// It was well once, so that it may fall ill.
    known_well: bool,
    well_since: Option<Timestamp>,
    /// Times of the last answers that were well, oldest first; at most three.
    well_answers: Vec<Timestamp>,
    ill_since: Option<Timestamp>,
    ill_answers: u32,
    /// Since when it was well last, as it was not ill in between, and until when.
    #[serde(default)]
    well: Option<(Timestamp, Timestamp)>,
    /// When it was seen to have been started, stopped or reloaded; `None`: never since we look.
    turned: Option<Timestamp>,
    /// It was well for long enough with all that was written until then.
    good_until: Timestamp,
    /// Written since, newest last.
    changes: Vec<HostPath>,
    /// What it was well with, of paths that were written while we looked; 0 where nothing was there.
    good: BTreeMap<HostPath, VersionId>,
    /// Restarts by the manager at a time; what is counted from.
    restarts_from: (Timestamp, u32),
}

/// A change that may be the cause, and how it is taken back.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) path: HostPath,
    /// `None`: the vault has no version of it.
    pub(super) restore: Option<RestoreFile>,
    pub(super) writer: ProcessKey,
    pub(super) kind: InvocationKind,
    pub(super) src_endpoint: Option<Endpoint>,
    /// Such as "edit of `/etc/x` by `/usr/bin/vim` in login session of uid 1000".
    pub(super) title: String,
    pub(super) time: Timestamp,
}

/// What one answer says by itself.
enum Sign {
    Well,
    Unsure,
    Stopped,
    Ill(Kind, (u32, u64), String),
}

impl Patient {
    pub(super) fn service(&self) -> Option<&Service> {
        match &self.health {
            Some(Health::Service(service)) => Some(service),
            Some(Health::Disk(_) | Health::Firewall(_) | Health::Certificate(_)) | None => None,
        }
    }

    pub(super) fn health(&self) -> Option<&Health> {
        self.health.as_ref()
    }

    pub(super) fn seen(&self) -> Timestamp {
        self.seen
    }

    pub(super) fn ill_since(&self) -> Option<Timestamp> {
        self.ill_since
    }

    pub(super) fn well_since(&self) -> Option<Timestamp> {
        self.well_since
    }

    pub(super) fn well_answers_since(&self, time: Timestamp) -> u32 {
        u32::try_from(self.well_answers.iter().filter(|answer| **answer > time).count()).unwrap_or(0)
    }

    pub(super) fn stopped(&self) -> bool {
        self.health.as_ref().is_some_and(|health| matches!(self.sign(health), Sign::Stopped))
    }

    /// `None`: it was never well, was stopped on purpose, or is no service.
    pub(super) fn answer(&self) -> Option<Answer> {
        let service = self.service().filter(|_| self.known_well)?;
        let well = match self.of_service(service) {
            Sign::Well => true,
            Sign::Unsure | Sign::Ill(..) => false,
            Sign::Stopped => return None,
        };
        Some(Answer { well, turn: service.turn })
    }

    /// True: what it is made of is otherwise than before.
    pub(super) fn hear(&mut self, health: Health, now: Timestamp) -> bool {
        if let Health::Service(service) = &health {
            let before = self.service().map(|before| (before.turn, before.restarts));
            let restarts = service.restarts;
            match before {
                Some((turn, _)) if turn == service.turn => {}
                Some(_) => self.turned = Some(now),
                None => {}
            }
            let (from, count) = self.restarts_from;
            if before.is_none() || restarts < count || now.since_ns(from) > LOOP.1 {
                // What an earlier minute did is forgotten, but for the last restart.
                let kept = before.map_or(restarts, |(_, last)| last.min(restarts));
                self.restarts_from = (now, kept);
            }
        }
        let was_ill = matches!(self.condition(now), Condition::Ill(..) | Condition::Stopped);
        let was_well = matches!(self.condition(now), Condition::Well);
        self.seen = now;
        let sign = self.sign(&health);
        match (&sign, self.well) {
            (Sign::Well, Some((since, _))) if !was_ill => self.well = Some((since, now)),
            (Sign::Well, _) => self.well = Some((now, now)),
            (_, Some((since, _))) if was_well => self.well = Some((since, now)),
            (_, _) => {}
        }
        match sign {
            Sign::Well => {
                self.known_well = true;
                self.well_since.get_or_insert(now);
                if self.well_answers.len() >= 3 {
                    self.well_answers.remove(0);
                }
                self.well_answers.push(now);
                (self.ill_since, self.ill_answers) = (None, 0);
            }
            Sign::Ill(..) => {
                self.well_since = None;
                self.well_answers.clear();
                self.ill_since.get_or_insert(now);
                self.ill_answers += 1;
            }
            Sign::Unsure | Sign::Stopped => {
                self.well_since = matches!(sign, Sign::Stopped).then_some(self.well_since.unwrap_or(now));
                self.well_answers.clear();
                (self.ill_since, self.ill_answers) = (None, 0);
            }
        }
        let watches = |health: &Option<Health>| match health {
            Some(Health::Service(service)) => service.watches.clone(),
            _ => Vec::new(),
        };
        let before = watches(&self.health);
        self.health = Some(health);
        before != watches(&self.health)
    }

    /// From when to when it was well, and what is the matter since; `None`: it is not ill, or was never well.
    pub(super) fn was_well(&self, now: Timestamp) -> Option<((Timestamp, Timestamp), String)> {
        let Condition::Ill(_, words) = self.condition(now) else { return None };
        Some((self.well?, words))
    }

    pub(super) fn condition(&self, now: Timestamp) -> Condition {
        let Some(health) = &self.health else { return Condition::Unsure };
        match self.sign(health) {
            Sign::Well => Condition::Well,
            Sign::Unsure => Condition::Unsure,
            Sign::Stopped => Condition::Stopped,
            Sign::Ill(kind, (answers, time), words) => {
                let wanted = self.known_well
                    || match health {
                        Health::Service(service) => service.declared,
                        Health::Disk(_) | Health::Certificate(_) => true,
                        Health::Firewall(_) => false, // a file alone does not say that it was ever loaded
                    };
                let since = self.ill_since.unwrap_or(now);
                if wanted && self.ill_answers >= answers && now.since_ns(since) >= time {
                    Condition::Ill(kind, words)
                } else {
                    Condition::Unsure
                }
            }
        }
    }

    fn sign(&self, health: &Health) -> Sign {
        match health {
            Health::Service(service) => self.of_service(service),
            Health::Disk(disk) if disk.free_bytes >= disk.least_bytes => Sign::Well,
            Health::Disk(disk) => {
                let words = format!("`{}` is full: {} bytes are left", disk.path, disk.free_bytes);
                Sign::Ill(Kind::DiskFull, RESOURCE, words)
            }
            Health::Firewall(firewall) if firewall.rules > 0 => Sign::Well,
            Health::Firewall(firewall) if firewall.wanted == 0 => Sign::Unsure,
            Health::Firewall(firewall) => {
                let words = format!("the packet filter has no rule; `{}` has {}", firewall.path, firewall.wanted);
                Sign::Ill(Kind::FirewallEmptied, RESOURCE, words)
            }
            Health::Certificate(certificate) => match certificate.shown_expired {
                Some(true) => {
                    let words = format!("{} shows a certificate that has expired", certificate.unit);
                    Sign::Ill(Kind::CertificateExpired, RESOURCE, words)
                }
                Some(false) => Sign::Well,
                None => Sign::Unsure,
            },
        }
    }

    fn of_service(&self, service: &Service) -> Sign {
        let log = service.log.last().map(|line| format!("; its log ends: {line}")).unwrap_or_default();
        let refused = service.test.as_ref().filter(|test| !test.holds);
        let refused = refused.map(|test| format!("its configuration is refused: {}", test.detail));
        if let Some(program) = service.missing.first()
            && matches!(service.active.as_str(), "active" | "failed" | "reloading" | "activating")
        {
            let words = format!("`{program}`, which {} runs, is gone", service.unit);
            return Sign::Ill(Kind::MissingProgram, MISSING, words);
        }
        let restarts = service.restarts.saturating_sub(self.restarts_from.1);
        let ended = match service.result.as_str() {
            "exit-code" => format!("it ended with status {}", service.status),
            "signal" | "core-dump" => format!("it was ended by signal {}", service.status),
            "gone" => "its process is gone".to_owned(),
            other => format!("result {other}, status {}", service.status),
        };
        match service.active.as_str() {
            "failed" => match refused {
                Some(refused) => {
                    Sign::Ill(Kind::BadConfiguration, FAILED, format!("{} failed: {refused}", service.unit))
                }
                None => Sign::Ill(Kind::Crash, FAILED, format!("{} failed: {ended}{log}", service.unit)),
            },
            _ if restarts >= LOOP.0 => {
                let words = format!("{} was started {restarts} times within a minute: {ended}{log}", service.unit);
                Sign::Ill(Kind::Crash, FAILED, words)
            }
            "active" | "reloading" | "refreshing" => {
                let silent = service.probes.iter().find(|probe| !probe.holds);
                let turned = self.turned.filter(|turned| self.seen.since_ns(*turned) < GRACE_NS);
                match silent {
                    None => Sign::Well,
                    Some(_) if turned.is_some() => Sign::Unsure,
                    Some(probe) => {
                        let words =
                            format!("{} runs and does not answer: {}: {}", service.unit, probe.name, probe.detail);
                        let kind = if refused.is_some() { Kind::BadConfiguration } else { Kind::NoAnswer };
                        Sign::Ill(kind, SILENT, words)
                    }
                }
            }
            "inactive" if service.result == "success" || service.result.is_empty() => Sign::Stopped,
            "inactive" => Sign::Ill(Kind::Crash, FAILED, format!("{} ended: {ended}{log}", service.unit)),
            _ => Sign::Unsure,
        }
    }

    // ---- changes ----

    pub(super) fn note(&mut self, path: &HostPath) {
        let made_of = match &self.health {
            Some(Health::Service(service)) => service.watches.iter().any(|watch| path.is_within(watch.as_bytes())),
            Some(Health::Firewall(firewall)) => firewall.path == *path,
            Some(Health::Certificate(certificate)) => certificate.path == *path,
            Some(Health::Disk(_)) | None => false,
        };
        if made_of {
            self.changes.retain(|known| known != path);
            if self.changes.len() >= CHANGES_MAX {
                self.changes.remove(0);
            }
            self.changes.push(path.clone());
        }
    }

    /// What it was started with, and is well with for a while, is good.
    pub(super) fn prove_good(&mut self, now: Timestamp, graph: &Graph) {
        let (Some(since), false) = (self.well_since, self.changes.is_empty()) else { return };
        let Some(turned) = self.turned.filter(|turned| *turned > self.good_until) else { return };
        if self.stopped() || now.since_ns(since.max(turned)) < GOOD_NS {
            return;
        }
        self.good_until = turned;
        for path in &self.changes {
            let write = graph.file(path).and_then(|file| file.last());
            let Some(write) = write.filter(|write| !write.pending && write.until <= turned) else { continue };
            if self.good.len() >= GOOD_MAX && !self.good.contains_key(path) {
                self.good.pop_first(); // then what was there before its first change that we know is taken for good
            }
            if !write.removed && write.last == VersionId::UNKNOWN {
                continue; // outside of the vault's trees: what it was is not known
            }
            self.good.insert(path.clone(), if write.removed { VersionId::UNKNOWN } else { write.last });
        }
        let later = |path: &HostPath| {
            graph.file(path).and_then(|file| file.last()).is_some_and(|write| write.pending || write.until > turned)
        };
        self.changes.retain(later);
    }

    /// What was changed since it was last good and has come into force, newest first.
    pub(super) fn suspects(&self, graph: &Graph, put_back: &BTreeSet<HostPath>) -> Vec<Change> {
        let mut found: Vec<Change> = self
            .changes
            .iter()
            .filter(|path| !put_back.contains(*path))
            .filter_map(|path| self.change(graph, path))
            .collect();
        let named = |change: &Change| self.names(&change.path);
        let missing = |change: &Change| self.service().is_some_and(|service| service.missing.contains(&change.path));
        found.sort_by_key(|change| (!missing(change), !named(change), std::cmp::Reverse(change.time)));
        found
    }

    /// The test of its configuration, or its log, names this path.
    pub(super) fn names(&self, path: &HostPath) -> bool {
        let text = path.to_string();
        let told = |line: &String| line.contains(&text);
        self.service()
            .is_some_and(|service| service.test.iter().any(|test| told(&test.detail)) || service.log.iter().any(told))
    }

    fn change(&self, graph: &Graph, path: &HostPath) -> Option<Change> {
        let file = graph.file(path)?;
        // An attack's own repair takes back what the attack wrote.
        if file.incident.is_some() {
            return None;
        }
        let at = file.writes.iter().position(|write| write.until > self.good_until)?;
        let since = file.writes.get(at..)?;
        let (first, last) = (since.first()?, since.last()?);
        if last.pending {
            return None;
        }
        let later: Vec<Authored> = since
            .iter()
            .filter(|write| write.last != VersionId::UNKNOWN)
            .map(|write| Authored { version: write.last, attack: true })
            .collect();
        // One process may have written what is good and what is not. `None`: the vault never had what was there.
        let base = match self.good.get(path) {
            Some(good) => Some(*good),
            None if first.created => Some(VersionId::UNKNOWN),
            None => Some(first.before).filter(|before| *before != VersionId::UNKNOWN),
        };
        let as_it_was = match (base, last.removed) {
            (Some(VersionId::UNKNOWN), removed) => removed,
            (Some(base), _) => base == last.last,
            (None, _) => false,
        };
        if as_it_was {
            return None;
        }
        let base = base.filter(|_| last.last != VersionId::UNKNOWN);
        let restore = base.map(|base| RestoreFile {
            path: path.clone(),
            base,
            later,
            append_only: false,
            again: false,
            whole: false,
        });
        let invocation = graph.invocation(last.invocation);
        let deed = if last.removed { "removal" } else { "edit" };
        let whose = invocation.map(|found| format!(" in {}", found.title())).unwrap_or_default();
        Some(Change {
            path: path.clone(),
            restore,
            writer: last.writer,
            kind: invocation.map_or(InvocationKind::Other, |found| found.kind.clone()),
            src_endpoint: invocation.and_then(|found| found.src_endpoint.clone()),
            title: format!("{deed} of `{path}` by {}{whose}", named(graph, last.writer)),
            time: last.until,
        })
    }
}
