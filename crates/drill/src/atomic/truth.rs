// SPDX-License-Identifier: Apache-2.0
//! What a test did by itself, and what of it an agent found and left.

use super::technique::Test;
use super::trial::{Came, Obstacle, SOURCE, obstacle};
use crate::oracle::{self, Findings};
use crate::report::{CleanupOracle, Report};
use crate::snapshot::{self, Entry, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use thymus_engine::event::Confidence;
use thymus_engine::incident::{Decision, FindingSummary, Incident};
use thymus_engine::path::HostPath;

/// Trees whose content does not outlast a boot.
const PASSING: [&[u8]; 3] = [b"/tmp", b"/run", b"/dev"];

/// What a test did with nobody there to stop it.
#[derive(Debug)]
pub(super) struct Truth {
    /// Each path that it changed, with its state before and after. Logs that only grew are not among them.
    changed: BTreeMap<HostPath, (Option<Entry>, Option<Entry>)>,
    /// Logs that lost something.
    cut: BTreeSet<HostPath>,
    /// What the test's cleanup made of those paths.
    cleaned: Option<BTreeMap<HostPath, Option<Entry>>>,
    /// Units that it stopped.
    pub(super) down: BTreeSet<String>,
    /// The twin is off.
    ended: bool,
    came: Came,
}

/// Paths that differ.
pub(super) fn differing(one: &Snapshot, other: &Snapshot) -> BTreeSet<HostPath> {
    let paths: BTreeSet<&HostPath> = one.keys().chain(other.keys()).collect();
    paths.into_iter().filter(|path| one.get(*path) != other.get(*path)).cloned().collect()
}

/// The content of every log.
pub(super) fn logs(root: &Path) -> BTreeMap<HostPath, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.join("var/log")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(path),
                Ok(kind) if kind.is_file() => {
                    let below = path.strip_prefix(root).unwrap_or(&path);
                    let name = HostPath::from(format!("/{}", below.display()).as_str());
                    if let Ok(content) = std::fs::read(&path) {
                        found.insert(name, content);
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// Of `logs`, those that do not begin any more as they were: append-only ones.
pub(super) fn cut(logs: &BTreeMap<HostPath, Vec<u8>>, root: &Path) -> BTreeSet<HostPath> {
    // Records at fixed places, rewritten at each login.
    let append_only = |path: &&HostPath| !matches!(path.file_name(), b"lastlog" | b"faillog");
    let lost =
        |(path, before): &(&HostPath, &Vec<u8>)| !snapshot::read(root, path).is_some_and(|now| now.starts_with(before));
    logs.iter().filter(|(path, _)| append_only(path)).filter(lost).map(|(path, _)| path.clone()).collect()
}

impl Truth {
    pub(super) fn of(
        before: &Snapshot,
        after: &Snapshot,
        cleaned: Option<Snapshot>,
        ambient: &BTreeSet<HostPath>,
        cut: BTreeSet<HostPath>,
        down: Option<BTreeSet<String>>,
        came: Came,
    ) -> Self {
        let of_test = |path: &HostPath| !ambient.contains(path) && (!oracle::is_log(path) || cut.contains(path));
        let is_new_log = |path: &HostPath| oracle::is_log(path) && !before.contains_key(path);
        let paths = differing(before, after).into_iter().filter(|path| of_test(path) && !is_new_log(path));
        let changed: BTreeMap<_, _> = paths
            .map(|path| {
                let states = (before.get(&path).cloned(), after.get(&path).cloned());
                (path, states)
            })
            .collect();
        let cleaned =
            cleaned.map(|cleaned| changed.keys().map(|path| (path.clone(), cleaned.get(path).cloned())).collect());
        Self { changed, cut, cleaned, ended: down.is_none(), down: down.unwrap_or_default(), came }
    }

    /// What outlasts a boot.
    fn lasting(&self) -> BTreeSet<HostPath> {
        let lasts = |path: &&HostPath| !PASSING.iter().any(|tree| path.is_within(tree));
        self.changed.keys().filter(lasts).cloned().collect()
    }

    /// Why the test shows nothing in a twin.
    pub(super) fn unfit(&self) -> Option<String> {
        if self.ended {
            return Some("switches the host off: nobody is left to heal it".to_owned());
        }
        let obstacle = obstacle(&self.came.lines);
        let failed = self.came.status != Some(0);
        let lasts = !self.lasting().is_empty() || !self.down.is_empty();
        match obstacle {
            // What it leaves then is what it prepared, not what it is for.
            Some(obstacle @ (Obstacle::Network | Obstacle::Missing(_))) if failed || !lasts => {
                return Some(format!("needs {obstacle}"));
            }
            Some(obstacle) if !lasts => return Some(format!("needs {obstacle}")),
            _ => {}
        }
        match self.came.status {
            // Ended by the time limit: it goes on until somebody ends it.
            Some(0 | 124 | 137) | None => None,
            Some(status) if !lasts && self.changed.is_empty() => {
                let last = self.came.lines.last().map_or("and says nothing", |line| line.trim());
                Some(format!("ends with status {status}: {last}"))
            }
            Some(_) => None,
        }
    }

    /// In the oracle's words; `logs` are those of the guarded twin.
    pub(super) fn for_oracle(&self, logs: &BTreeMap<HostPath, Vec<u8>>) -> oracle::Truth {
        let mut truth = oracle::Truth::default();
        for path in self.changed.keys().filter(|path| !oracle::is_log(path)) {
            truth.was.insert(path.clone(), "before".to_owned());
            truth.now.insert(path.clone(), "after".to_owned());
        }
        let cut = self.cut.iter().filter_map(|path| logs.get(path).map(|content| (path.clone(), content.clone())));
        for (path, content) in cut {
            truth.was.insert(path.clone(), "whole".to_owned());
            truth.now.insert(path.clone(), "cut".to_owned());
            truth.logs.insert(path, content);
        }
        truth
    }

    pub(super) fn note(&self, report: &mut Report) {
        report.objects_in_scope = self.changed.len();
        report.objects_tampered = self.changed.len();
        if let Some(atomic) = &mut report.atomic {
            atomic.lasting = self.lasting().into_iter().collect();
            atomic.stopped = self.down.iter().cloned().collect();
            atomic.status = self.came.status;
        }
    }

    /// Whether the healed disk is what the test's own cleanup leaves, of everything that lasts and that the cleanup puts back
    /// as it was. Of the rest it is no witness: many leave traces of their own.
    pub(super) fn second_opinion(&self, healed: &Snapshot) -> CleanupOracle {
        let lasting = self.lasting();
        let cleaned =
            self.cleaned.iter().flatten().filter(|(path, _)| !oracle::is_log(path) && lasting.contains(*path));
        let put_back = |(path, entry): &(&HostPath, &Option<Entry>)| {
            self.changed.get(*path).is_some_and(|(before, _)| before == *entry)
        };
        let witnesses: Vec<_> = cleaned.filter(put_back).collect();
        if witnesses.is_empty() {
            CleanupOracle::None
        } else if witnesses.iter().all(|(path, entry)| healed.get(*path) == entry.as_ref()) {
            CleanupOracle::Agrees
        } else {
            CleanupOracle::Differs
        }
    }
}

/// What weighs so little that nobody is told of it counts neither as found nor as raised.
fn is_heard(finding: &FindingSummary) -> bool {
    finding.confidence > Confidence::Low
}

/// The right technique, a parent of it, or one of the same name: a newer ATT&CK gives old techniques new numbers.
fn is_right(test: &Test, technique: &str) -> bool {
    let parent = test.technique.split('.').next().unwrap_or_default();
    let renamed = || {
        crate::summary::name_of(&test.technique).is_none()
            && crate::summary::name_of(technique) == Some(test.technique_name.as_str())
    };
    technique == test.technique || technique == parent || renamed()
}

/// What the agent found, in the report.
pub(super) fn found(report: &mut Report, test: &Test, incidents: &[Incident], began: u64) {
    let findings = || incidents.iter().flat_map(|incident| incident.findings.iter().map(move |one| (incident, one)));
    let by_attacker = |incident: &Incident| {
        let from = |root: &thymus_engine::incident::Root| {
            root.src_endpoint.as_ref().is_some_and(|endpoint| endpoint.ip.to_string() == SOURCE)
        };
        incident.roots.iter().position(from)
    };
    let unique = |all: Vec<String>| all.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    report.detected = incidents.iter().any(|incident| !incident.is_quiet());
    report.detected_by = unique(findings().map(|(_, finding)| finding.analytic.clone()).collect());
    report.techniques_found = unique(findings().map(|(_, finding)| finding.technique.clone()).collect());
    let right = |(_, finding): &(&Incident, &FindingSummary)| is_heard(finding) && is_right(test, &finding.technique);
    let (right_technique, right_process) =
        (findings().any(|one| right(&one)), findings().any(|one| right(&one) && by_attacker(one.0).is_some()));
    if let Some(atomic) = &mut report.atomic {
        (atomic.right_technique, atomic.right_process) = (right_technique, right_process);
    }
    let ms = |from: u64, to: u64| to.saturating_sub(from) / 1_000_000;
    let first = findings().map(|(_, finding)| finding.time.0).filter(|time| *time >= began).min();
    report.time_to_detect_ms = first.map(|first| ms(began, first));
    let confirmed: Vec<&Incident> = incidents.iter().filter(|incident| incident.confirmed).collect();
    let main = confirmed.iter().max_by_key(|incident| incident.objects.len());
    report.root_rank = main.and_then(|incident| by_attacker(incident)).map(|at| at + 1);
    let contained = main.and_then(|incident| incident.contained);
    report.time_to_contain_ms = main.zip(contained).map(|(incident, contained)| ms(incident.opened.0, contained.0));
    let healed = main.and_then(|incident| incident.healed);
    report.time_to_heal_ms = contained.zip(healed).map(|(contained, healed)| ms(contained.0, healed.0));
    report.actions = incidents.iter().flat_map(|one| &one.actions).map(|one| crate::run::line(one, None)).collect();
    let waits = |record: &&thymus_engine::incident::ActionRecord| {
        record.verdict.decision != Decision::Permit && record.outcome.is_none()
    };
    report.objects_shown = incidents.iter().flat_map(|one| &one.actions).filter(waits).count();
    let heard: Vec<Incident> = incidents.iter().filter(|one| !one.is_quiet()).cloned().collect();
    report.stage = crate::run::stage(false, &heard, &confirmed);
    let unhealed = confirmed.iter().filter(|one| one.stage != thymus_engine::Stage::Healed);
    let why: Vec<String> = unhealed.map(|one| format!("incident {} is {:?}: {}", one.id, one.stage, one.why)).collect();
    report.why = report.why.take().or_else(|| (!why.is_empty()).then(|| why.join("; ")));
}

/// What is left of it, in the report.
pub(super) fn left(report: &mut Report, truth: &Truth, findings: Findings) {
    report.objects_restored_exactly = findings.restored_exactly.len();
    report.objects_merged = findings.merged.len();
    report.benign_changes_lost = findings.benign_lost.iter().cloned().collect();
    report.bytes_lost = findings.bytes_lost;
    report.noise = findings.noise.into_iter().collect();
    report.noise_forbidden = findings.noise_forbidden.into_iter().collect();
    if let Some(atomic) = &mut report.atomic {
        atomic.lasting_left = truth.lasting().intersection(&findings.residue).cloned().collect();
    }
    report.residue = findings.residue.into_iter().collect();
}

/// Whether anything that names the technique, or anything confirmed, came of it.
pub(super) fn raised(test: &Test, incidents: &[Incident]) -> bool {
    let right = |finding: &FindingSummary| is_heard(finding) && is_right(test, &finding.technique);
    let names = |incident: &Incident| incident.findings.iter().any(right);
    incidents.iter().any(|incident| incident.confirmed || names(incident))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn disk(files: &[(&str, &str)]) -> (tempfile::TempDir, Snapshot) {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let holds = snapshot::take(directory.path(), &|_| false).unwrap();
        (directory, holds)
    }

    fn came(status: i32, line: &str) -> Came {
        Came { status: Some(status), lines: vec![line.to_owned()] }
    }

    fn truth(after: &[(&str, &str)], came: Came) -> Truth {
        let (before, after) = (disk(&[("/etc/a", "1"), ("/tmp/.x", "")]).1, disk(after).1);
        Truth::of(&before, &after, None, &BTreeSet::new(), BTreeSet::new(), Some(BTreeSet::new()), came)
    }

    #[test]
    fn a_log_that_only_grew_was_not_cut_and_one_that_is_gone_or_begins_otherwise_was() {
        let files =
            [("/var/log/a", "one\n"), ("/var/log/b", "one\n"), ("/var/log/c/d", "one\n"), ("/var/log/lastlog", "x")];
        let (before, _) = disk(&files);
        let (after, _) = disk(&[("/var/log/a", "one\ntwo\n"), ("/var/log/b", "two\n"), ("/var/log/lastlog", "y")]);
        let cut: Vec<String> = cut(&logs(before.path()), after.path()).iter().map(ToString::to_string).collect();
        assert_eq!(cut, ["/var/log/b", "/var/log/c/d"]);
    }

    #[test]
    fn a_test_that_shows_nothing_is_not_applicable_and_one_that_leaves_something_is() {
        let (same, lasting) = ([("/etc/a", "1"), ("/tmp/.x", "")], [("/etc/a", "2"), ("/tmp/.x", "")]);
        let passing = [("/etc/a", "1"), ("/tmp/.x", "more")];
        let unfit = |after: &[(&str, &str)], came: Came| truth(after, came).unfit();
        assert_eq!(unfit(&same, came(0, "done")), None);
        assert_eq!(unfit(&lasting, came(1, "grumbles")), None);
        assert_eq!(unfit(&passing, came(1, "grumbles")), None);
        assert_eq!(unfit(&same, came(124, "until it was ended")), None);
        assert_eq!(unfit(&same, came(1, "grumbles")).as_deref(), Some("ends with status 1: grumbles"));
        let missing = "sh: 1: certctl: not found";
        assert_eq!(unfit(&lasting, came(127, missing)).as_deref(), Some("needs `certctl`, which is not installed"));
        assert_eq!(unfit(&lasting, came(0, missing)), None, "it did what it is for by another way");
        assert_eq!(unfit(&same, came(0, missing)).as_deref(), Some("needs `certctl`, which is not installed"));
        let off =
            Truth::of(&Snapshot::new(), &Snapshot::new(), None, &BTreeSet::new(), BTreeSet::new(), None, came(0, ""));
        assert_eq!(off.unfit().as_deref(), Some("switches the host off: nobody is left to heal it"));
    }

    #[test]
    fn a_cleanup_is_a_witness_only_of_what_it_puts_back_as_it_was() {
        let before = [("/etc/a", "1"), ("/etc/b", "1")];
        let opinion = |cleaned: &[(&str, &str)], healed: &[(&str, &str)]| {
            let cleaned = Some(disk(cleaned).1);
            let after = disk(&[("/etc/a", "2"), ("/etc/b", "2")]).1;
            let (ambient, cut, down) = (BTreeSet::new(), BTreeSet::new(), Some(BTreeSet::new()));
            let truth = Truth::of(&disk(&before).1, &after, cleaned, &ambient, cut, down, came(0, ""));
            truth.second_opinion(&disk(healed).1)
        };
        let rest_left = [("/etc/a", "1"), ("/etc/b", "traces")];
        assert_eq!(opinion(&before, &before), CleanupOracle::Agrees);
        assert_eq!(opinion(&rest_left, &before), CleanupOracle::Agrees);
        assert_eq!(opinion(&rest_left, &[("/etc/a", "2"), ("/etc/b", "1")]), CleanupOracle::Differs);
        assert_eq!(opinion(&[("/etc/a", "x"), ("/etc/b", "y")], &before), CleanupOracle::None);
    }
}
