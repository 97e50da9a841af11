// SPDX-License-Identifier: Apache-2.0
//! Many reports in one: what was found, put back exactly, lost or wrongly touched, with intervals; and against an earlier run.
//!
//! Input: the lines that `thymus drill run|atomic --json` prints. Every rate comes with the Wilson 95 % interval (Wilson, 1927),
//! which holds for few runs and for rates of 0 and 1, too.

use crate::report::AtomicLine;
use crate::{Doing, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// LIMIT: bytes of one file of reports.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What is read of one report; what an older version did not say is taken for nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    pub scenario: String,
    pub techniques: Vec<String>,
    pub seed: u64,
    pub stage: String,
    pub why: Option<String>,
    pub failure: bool,
    pub detected: bool,
    pub techniques_found: Vec<String>,
    pub time_to_detect_ms: Option<u64>,
    pub time_to_contain_ms: Option<u64>,
    pub time_to_heal_ms: Option<u64>,
    pub root_rank: Option<u64>,
    pub objects_tampered: u64,
    pub objects_restored_exactly: u64,
    pub residue: Vec<String>,
    pub benign_changes: u64,
    pub benign_changes_lost: Vec<String>,
    pub benign_processes_harmed: u64,
    pub actions: Vec<Acted>,
    pub events: u64,
    pub events_lost: u64,
    pub atomic: Option<AtomicLine>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Acted {
    pub action: String,
    pub verdict: String,
    pub reasons: Vec<String>,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    pub hit: u64,
    pub of: u64,
    /// The Wilson 95 % interval; 0 to 1 where nothing was tried.
    pub low: f64,
    pub high: f64,
}

impl Rate {
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts, far below 2^52")]
    pub fn new(hit: u64, of: u64) -> Self {
        if of == 0 {
            return Self { hit, of, low: 0.0, high: 1.0 };
        }
        let (n, p, z) = (of as f64, hit as f64 / of as f64, 1.959_964);
        let middle = p + z * z / (2.0 * n);
        let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        Self { hit, of, low: ((middle - half) / scale).max(0.0), high: ((middle + half) / scale).min(1.0) }
    }

    fn of<'a>(all: impl Iterator<Item = &'a Line>, hit: impl Fn(&Line) -> bool) -> Self {
        let (mut hits, mut count) = (0, 0);
        for line in all {
            count += 1;
            hits += u64::from(hit(line));
        }
        Self::new(hits, count)
    }
}

impl fmt::Display for Rate {
    #[expect(clippy::cast_precision_loss, reason = "counts, far below 2^52")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of == 0 {
            return f.write_str("none tried");
        }
        let percent = 100.0 * self.hit as f64 / self.of as f64;
        write!(f, "{} of {} ({percent:.1} %, {:.1} to {:.1})", self.hit, self.of, 100.0 * self.low, 100.0 * self.high)
    }
}

/// Milliseconds; `None` where it never came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    pub median: Option<u64>,
    pub p95: Option<u64>,
}

impl Times {
    fn of(times: impl Iterator<Item = u64>) -> Self {
        let mut all: Vec<u64> = times.collect();
        all.sort_unstable();
        // The nearest rank.
        let at = |percent: usize| all.get((all.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Self { median: at(50), p95: at(95) }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Option<u64>| time.map_or_else(|| "never".to_owned(), |time| format!("{time} ms"));
        write!(f, "median {}, p95 {}", ms(self.median), ms(self.p95))
    }
}

/// What came of one technique.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cell {
    pub technique: String,
    pub name: String,
    pub tactic: String,
    pub runs: u64,
    pub detected: u64,
    /// With an effect that lasts; and those of them of which nothing is left.
    pub lasting: u64,
    pub restored: u64,
    pub not_applicable: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub reports: u64,
    /// Attacks that could be run.
    pub attacks: Rate,
    pub detected: Rate,
    /// Of attacks with an effect that lasts.
    pub lasting_detected: Rate,
    /// Of those that were detected: nothing of it is left, and everything is as it was.
    pub lasting_restored: Rate,
    /// Of objects that attacks touched.
    pub objects_restored: Rate,
    /// Failures that nobody meant, healed.
    pub failures_healed: Rate,
    /// Changes of other people's that are gone, and their processes that were harmed.
    pub lost: Rate,
    pub harmed: u64,
    /// Runs without an attack in which something was done.
    pub disturbed: Rate,
    pub events_lost: Rate,
    pub detect: Times,
    pub contain: Times,
    pub heal: Times,
    /// Why actions were not done by themselves, and how often.
    pub refused: BTreeMap<String, u64>,
    pub matrix: Vec<Cell>,
    /// What was missed, or is not as it was: scenario, and how.
    pub missed: Vec<(String, String)>,
    pub not_applicable: Vec<(String, String)>,
}

/// The reports in a file of JSON lines.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let size = std::fs::metadata(path).doing("look at", path)?.len();
    if size > FILE_BYTES_MAX {
        let why = format!("{size} bytes, at most {FILE_BYTES_MAX} are read");
        return Err(Error::Reports { path: path.to_owned(), line: 0, why });
    }
    let text = std::fs::read_to_string(path).doing("read", path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let wrong = |why: String| Error::Reports { path: path.to_owned(), line: number + 1, why };
            let line: Line = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            if line.scenario.is_empty() || line.stage.is_empty() {
                return Err(wrong("expected a report of `thymus drill run` or `atomic`, with `--json`".to_owned()));
            }
            Ok(line)
        })
        .collect()
}

impl Line {
    fn is_applicable(&self) -> bool {
        self.stage != "not_applicable"
    }

    fn is_attack(&self) -> bool {
        !self.failure && !self.techniques.is_empty()
    }

    /// By the right technique where that is known.
    fn is_detected(&self) -> bool {
        self.atomic.as_ref().map_or(self.detected, AtomicLine::is_detected)
    }

    fn lasts(&self) -> bool {
        self.atomic.as_ref().map_or(self.objects_tampered > 0, |atomic| !atomic.lasting.is_empty())
    }

    fn is_restored(&self) -> bool {
        let clean = self.atomic.as_ref().map_or(self.residue.is_empty(), |atomic| atomic.lasting_left.is_empty());
        self.stage == "healed" && clean
    }

    /// What is wrong with it, in words.
    fn fault(&self) -> Option<String> {
        let atomic = self.atomic.as_ref();
        let mut faults = Vec::new();
        if atomic.is_some_and(|atomic| atomic.broken) {
            return self.why.clone();
        }
        if atomic.is_some_and(|atomic| atomic.raised_by_administrator == Some(true)) {
            faults.push("raised when the administrator does the same".to_owned());
        } else if !self.is_detected() {
            let by = self.techniques_found.join(", ");
            faults.push(if self.detected { format!("found as {by} only") } else { "not found".to_owned() });
        }
        if self.lasts() && self.is_detected() && !self.is_restored() {
            let left = atomic.map_or(self.residue.len(), |atomic| atomic.lasting_left.len());
            faults.push(format!("{left} paths left, {}", self.stage));
        }
        if !self.benign_changes_lost.is_empty() || self.benign_processes_harmed > 0 {
            let (lost, harmed) = (self.benign_changes_lost.len(), self.benign_processes_harmed);
            faults.push(format!("{lost} changes of others lost, {harmed} harmed"));
        }
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    fn title(&self) -> String {
        match &self.atomic {
            Some(atomic) => format!("{} {}", self.scenario, atomic.name),
            None => format!("{} seed {}", self.scenario, self.seed),
        }
    }
}

impl Summary {
    #[must_use]
    pub fn of(lines: &[Line]) -> Self {
        let all_attacks = || lines.iter().filter(|line| line.is_attack());
        let attacks = || all_attacks().filter(|line| line.is_applicable());
        let lasting = || attacks().filter(|line| line.lasts());
        let failures = lines.iter().filter(|line| line.failure);
        let benign = lines.iter().filter(|line| !line.failure && line.techniques.is_empty());
        let total = |of: fn(&Line) -> u64| lines.iter().map(of).sum::<u64>();
        let objects = |of: fn(&Line) -> u64| attacks().filter(|line| line.is_detected()).map(of).sum::<u64>();
        let mut refused = BTreeMap::new();
        for action in lines.iter().flat_map(|line| &line.actions).filter(|action| action.verdict != "permit") {
            let why = action.reasons.first().map_or("", String::as_str);
            *refused.entry(format!("{} {}: {why}", action.action, action.verdict)).or_default() += 1;
        }
        let faults = attacks().filter_map(|line| line.fault().map(|fault| (line.title(), fault)));
        let unfit = lines.iter().filter(|line| !line.is_applicable());
        Self {
            reports: lines.len() as u64,
            attacks: Rate::of(all_attacks(), Line::is_applicable),
            detected: Rate::of(attacks(), Line::is_detected),
            lasting_detected: Rate::of(lasting(), Line::is_detected),
            lasting_restored: Rate::of(lasting().filter(|line| line.is_detected()), Line::is_restored),
            objects_restored: Rate::new(
                objects(|line| line.objects_restored_exactly),
                objects(|line| line.objects_tampered),
            ),
            failures_healed: Rate::of(failures, |line| line.stage == "healed"),
            lost: Rate::new(total(|line| line.benign_changes_lost.len() as u64), total(|line| line.benign_changes)),
            harmed: total(|line| line.benign_processes_harmed),
            disturbed: Rate::of(benign, |line| line.stage != "quiet"),
            events_lost: Rate::new(total(|line| line.events_lost), total(|line| line.events)),
            detect: Times::of(attacks().filter_map(|line| line.time_to_detect_ms)),
            contain: Times::of(attacks().filter_map(|line| line.time_to_contain_ms)),
            heal: Times::of(attacks().filter_map(|line| line.time_to_heal_ms)),
            refused,
            matrix: matrix(lines),
            missed: faults.collect(),
            not_applicable: unfit.map(|line| (line.title(), line.why.clone().unwrap_or_default())).collect(),
        }
    }

    /// What is otherwise than in an earlier run of the same scenarios and seeds: the scenario, how it was, how it is.
    #[must_use]
    pub fn against(lines: &[Line], earlier: &[Line]) -> Vec<(String, String, String)> {
        let words = |line: &Line| line.fault().unwrap_or_else(|| line.stage.clone());
        let key = |line: &Line| (line.scenario.clone(), line.seed);
        let of = |lines: &[Line]| lines.iter().map(|line| (key(line), words(line))).collect::<BTreeMap<_, _>>();
        let (now, was) = (of(lines), of(earlier));
        let keys: BTreeSet<_> = now.keys().chain(was.keys()).collect();
        let word = |of: &BTreeMap<_, String>, key: &_| of.get(key).cloned().unwrap_or_else(|| "not run".to_owned());
        let rows = keys.into_iter().map(|key| (format!("{} seed {}", key.0, key.1), word(&was, key), word(&now, key)));
        rows.filter(|(_, was, now)| was != now).collect()
    }
}

/// Name and tactics of Linux techniques, from MITRE ATT&CK of October 2025.
const TECHNIQUES: &str = include_str!("../data/techniques.tsv");

/// A technique's name and first tactic, where the list has it.
fn known(technique: &str) -> Option<(&'static str, &'static str)> {
    TECHNIQUES.lines().find_map(|line| {
        let mut fields = line.split('\t');
        (fields.next()? == technique).then(|| Some((fields.next()?, fields.next()?.split(' ').next()?)))?
    })
}

pub(crate) fn name_of(technique: &str) -> Option<&'static str> {
    known(technique).map(|(name, _)| name)
}

/// Tactics in the order in which ATT&CK shows them.
pub const TACTICS: [&str; 13] = [
    "initial-access",
    "execution",
    "persistence",
    "privilege-escalation",
    "defense-evasion",
    "credential-access",
    "discovery",
    "lateral-movement",
    "collection",
    "command-and-control",
    "exfiltration",
    "impact",
    "other",
];

/// Each technique once, below its first tactic; one that the list does not have is like its parent, or other.
fn matrix(lines: &[Line]) -> Vec<Cell> {
    let mut cells: BTreeMap<&str, Cell> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.is_attack()) {
        for technique in &line.techniques {
            let cell = cells.entry(technique).or_default();
            if !line.is_applicable() {
                cell.not_applicable += 1;
                continue;
            }
            let found = match line.atomic {
                Some(_) => line.is_detected(),
                None => line.techniques_found.iter().any(|found| found == technique),
            };
            cell.runs += 1;
            cell.detected += u64::from(found);
            cell.lasting += u64::from(line.lasts());
            cell.restored += u64::from(line.lasts() && line.is_restored());
        }
    }
    let named = cells.into_iter().map(|(technique, cell)| {
        let parent = technique.split('.').next().unwrap_or_default();
        let (name, tactic) = known(technique).or_else(|| known(parent)).unwrap_or(("", "other"));
        Cell { technique: technique.to_owned(), name: name.to_owned(), tactic: tactic.to_owned(), ..cell }
    });
    named.collect()
}

/// LIMIT: lines of one list that a person is shown; JSON and the page have them all.
const SHOWN_MAX: usize = 400;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "reports            {}", self.reports)?;
        writeln!(f, "attacks            {} could be run", self.attacks)?;
        writeln!(f, "detected           {}", self.detected)?;
        writeln!(f, "  that last        {}", self.lasting_detected)?;
        writeln!(f, "  of those exact   {}", self.lasting_restored)?;
        writeln!(f, "objects exact      {}", self.objects_restored)?;
        writeln!(f, "failures healed    {}", self.failures_healed)?;
        writeln!(f, "others' changes    lost: {}", self.lost)?;
        writeln!(f, "others' processes  {} harmed", self.harmed)?;
        writeln!(f, "benign runs        disturbed: {}", self.disturbed)?;
        writeln!(f, "events             lost: {}", self.events_lost)?;
        writeln!(f, "found              {}", self.detect)?;
        writeln!(f, "contained          {}", self.contain)?;
        write!(f, "healed             {}", self.heal)?;
        rows(f, "not done by itself", self.refused.iter().map(|(what, count)| (format!("{count} x"), what.clone())))?;
        rows(f, "missed, or left", self.missed.iter().cloned())?;
        rows(f, "not applicable", self.not_applicable.iter().cloned())
    }
}

fn rows(f: &mut fmt::Formatter<'_>, title: &str, rows: impl ExactSizeIterator<Item = (String, String)>) -> fmt::Result {
    let count = rows.len();
    if count == 0 {
        return Ok(());
    }
    write!(f, "\n\n{title} ({count})")?;
    for (what, how) in rows.take(SHOWN_MAX) {
        write!(f, "\n  {what}: {how}")?;
    }
    if count > SHOWN_MAX {
        write!(f, "\n  and {} more", count - SHOWN_MAX)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]
    use super::*;

    fn line(text: &str) -> Line {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_rate_has_wilsons_interval_also_where_nothing_or_everything_was_hit() {
        // Newcombe, 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (hit, of, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let rate = Rate::new(hit, of);
            assert!((rate.low - low).abs() < 0.0001 && (rate.high - high).abs() < 0.0001, "{rate:?}");
        }
        assert_eq!((Rate::new(0, 0).low, Rate::new(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn the_median_and_the_95th_percentile_are_times_that_were_measured() {
        let of = |times: &[u64]| Times::of(times.iter().copied());
        assert_eq!(of(&[]), Times::default());
        assert_eq!(of(&[9]), Times { median: Some(9), p95: Some(9) });
        assert_eq!(of(&(1..=100).collect::<Vec<_>>()), Times { median: Some(50), p95: Some(95) });
    }

    #[test]
    fn what_was_found_counts_when_technique_and_process_are_right_and_the_administrator_raises_nothing() {
        let atomic = |process: bool, raised: &str, left: &str| {
            line(&format!(
                r#"{{"scenario": "T1053.003-1", "techniques": ["T1053.003"], "seed": 1, "stage": "healed", "detected": true,
                "objects_tampered": 1, "objects_restored_exactly": 1, "techniques_found": ["T1053.003"],
                "atomic": {{"guid": "", "name": "a job", "status": 0, "lasting": ["/etc/cron.d/x"], "lasting_left": [{left}], "stopped": [],
                "right_technique": true, "right_process": {process}, "raised_by_administrator": {raised}}}}}"#
            ))
        };
        let lines = [
            atomic(true, "false", ""),
            atomic(true, "true", ""),
            atomic(false, "null", ""),
            atomic(true, "false", "\"/etc/cron.d/x\""),
            line(
                r#"{"scenario": "T1014-1", "techniques": ["T1014"], "stage": "not_applicable", "why": "needs a module"}"#,
            ),
            line(r#"{"scenario": "benign", "stage": "quiet", "benign_changes": 20}"#),
        ];
        let summary = Summary::of(&lines);
        assert_eq!((summary.attacks.hit, summary.attacks.of), (4, 5));
        assert_eq!((summary.lasting_detected.hit, summary.lasting_detected.of), (2, 4));
        assert_eq!((summary.lasting_restored.hit, summary.lasting_restored.of), (1, 2));
        assert_eq!((summary.disturbed.hit, summary.disturbed.of), (0, 1));
        assert_eq!(summary.not_applicable, [("T1014-1 seed 0".to_owned(), "needs a module".to_owned())]);
        assert_eq!(summary.missed.len(), 3, "{:?}", summary.missed);
        let cell = summary.matrix.iter().find(|cell| cell.technique == "T1053.003").unwrap();
        assert_eq!((cell.runs, cell.detected, cell.lasting, cell.restored), (4, 2, 4, 3));
        assert_eq!((cell.name.as_str(), cell.tactic.as_str()), ("Cron", "execution"));
    }

    #[test]
    fn a_second_run_is_compared_with_the_first() {
        let at = |name: &str, stage: &str| {
            line(&format!(r#"{{"scenario": "{name}", "seed": 1, "stage": "{stage}", "detected": true}}"#))
        };
        let was = [at("wiper", "healed"), at("mixed", "stuck"), at("storm", "quiet")];
        let now = [at("wiper", "healed"), at("mixed", "healed")];
        let rows = Summary::against(&now, &was);
        let row = |name: &str, was: &str, now: &str| (name.to_owned(), was.to_owned(), now.to_owned());
        assert_eq!(rows, [row("mixed seed 1", "stuck", "healed"), row("storm seed 1", "quiet", "not run")]);
    }

    #[test]
    fn a_broken_file_of_reports_is_refused_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reports.jsonl");
        for (text, expected) in [
            ("{\"scenario\": \"a\", \"stage\": \"healed\"}\n\nnot json\n", "line 3: expected"),
            ("{\"name\": \"other\"}\n", "line 1: expected a report of `thymus drill run` or `atomic`, with `--json`"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
