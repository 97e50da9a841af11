// SPDX-License-Identifier: Apache-2.0
//! What a drill found: one JSON object a run, or a page for a person.

use crate::storm::Stormed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use thymus_engine::path::HostPath;

/// Where the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// On the machine, guarding the twin as a host guards its containers.
    Outside,
    /// In the twin, as the host itself, where a root attacker can reach it.
    Inside,
    /// No agent: the attack runs unhindered (how the drill tests itself).
    #[default]
    None,
}

/// How far the agent came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    #[default]
    Undetected,
    Open,
    Contained,
    Restored,
    Healed,
    Stuck,
    /// Nothing to find, and nothing was done.
    Quiet,
    NotApplicable,
}

/// One run of one drill. Times are milliseconds, `None` when that never came; all counts are of distinct paths or processes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub scenario: String,
    /// Something failed, and nobody attacked.
    pub failure: bool,
    /// Questions that a person approved.
    pub approved: usize,
    /// A person was asked exactly when the drill expects it.
    pub asked_rightly: bool,
    /// ATT&CK techniques that the attack used.
    pub techniques: Vec<String>,
    pub seed: u64,
    /// Which host of the drill it is about, from 1.
    pub host: usize,
    /// A second host that the intruder did not get to.
    pub spared: bool,
    pub agent: Placement,
    pub stage: Stage,
    /// Why the stage is not `healed` (or `quiet`), or what else is wrong.
    pub why: Option<String>,
    pub detected: bool,
    pub detected_by: Vec<String>,
    pub techniques_found: Vec<String>,
    /// From the attack's first step to the first finding.
    pub time_to_detect_ms: Option<u64>,
    /// From the first finding of the incident to its containment.
    pub time_to_contain_ms: Option<u64>,
    /// From containment to healed.
    pub time_to_heal_ms: Option<u64>,
    /// Place of the true root among the incident's hypotheses, 1 = first.
    pub root_rank: Option<usize>,
    /// Of the objects that the agent named, how many the attack touched. 0.0..=1.0, `None` when it named none. Left out is
    /// what the attack was at when it was stopped: its record does not say whether it had changed that by then.
    pub reach_precision: Option<f64>,
    /// Those it named besides, by path.
    pub reach_beyond: Vec<HostPath>,
    /// Of the objects that the attack touched, how many the agent named. 0.0..=1.0, `None` when it touched none.
    pub reach_recall: Option<f64>,
    /// What the attack set out to touch.
    pub objects_in_scope: usize,
    pub objects_tampered_at_containment: Option<usize>,
    /// What it did touch, by its own record.
    pub objects_tampered: usize,
    /// Of those, how many are again as in the reference (append-only logs: no line is missing).
    pub objects_restored_exactly: usize,
    /// Of those, how many carry benign changes too and have exactly these.
    pub objects_merged: usize,
    /// Left to a person, with the reason.
    pub objects_shown: usize,
    /// Of those that the attack touched, how many nobody can tell apart: they are shown, and in no other count.
    pub objects_contested: usize,
    /// How many the drill expects of these.
    pub contested: usize,
    /// Of a drill of false alarms.
    pub storm: Option<Stormed>,
    /// What is left of the attack.
    pub residue: Vec<HostPath>,
    pub attacker_processes_left: usize,
    pub cleanup_oracle: CleanupOracle,
    pub benign_changes: usize,
    pub benign_changes_lost: Vec<HostPath>,
    pub benign_processes_harmed: usize,
    pub service_downtime_ms: u64,
    /// Bytes of benign content that were there before and are not now.
    pub bytes_lost: u64,
    pub actions: Vec<ActionLine>,
    /// From the agent's start until it guarded and its baseline was complete.
    pub agent_ready_ms: u64,
    /// The largest resident set of the agent, bytes.
    pub agent_memory_peak: u64,
    /// Processor time of all of the agent's threads.
    pub agent_cpu_ms: u64,
    /// What the agent has attached to the kernel that could deny or change something outside of the twin, in words.
    pub attached_elsewhere: Vec<String>,
    /// Steps of the heal before which the agent was killed, and how often.
    pub killed_before: BTreeMap<String, u32>,
    /// Paths on which more than one action succeeded, other than to take out what came back.
    pub done_twice: Vec<HostPath>,
    /// Paths that undoing everything did not bring back as the attack had left them; `None`: not tried.
    pub undo_differs: Option<Vec<HostPath>>,
    pub events: u64,
    pub events_lost: u64,
    /// Paths that differ between the two references, thus say nothing.
    pub noise: Vec<HostPath>,
    /// Noise below a protected tree: then the references prove nothing.
    pub noise_forbidden: Vec<HostPath>,
    /// Of a test of Atomic Red Team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub atomic: Option<AtomicLine>,
}

/// What is said of a test of Atomic Red Team besides.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AtomicLine {
    pub guid: String,
    pub name: String,
    /// The drill itself came to no end: nothing is known of the test.
    #[serde(default)]
    pub broken: bool,
    /// How the test ended where nobody watched; `None`: its session was over before.
    pub status: Option<i32>,
    /// Paths that it changes and that outlast a boot.
    pub lasting: Vec<HostPath>,
    /// Of those, what is not as it was.
    pub lasting_left: Vec<HostPath>,
    /// Units that it stops.
    pub stopped: Vec<String>,
    /// A finding names its technique, or a parent of that.
    pub right_technique: bool,
    /// And belongs to an incident that the attacker's session is a root of.
    pub right_process: bool,
    /// Whether the named administrator, doing the same, raised anything of it; `None`: not tried.
    pub raised_by_administrator: Option<bool>,
}

impl AtomicLine {
    /// By the right technique and process, and not when the administrator does the same.
    #[must_use]
    pub fn is_detected(&self) -> bool {
        self.right_technique && self.right_process && self.raised_by_administrator != Some(true)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CleanupOracle {
    Agrees,
    Differs,
    #[default]
    None,
}

#[derive(Clone, Debug, Serialize)]
pub struct ActionLine {
    pub action: String,
    pub target: String,
    pub verdict: String,
    pub reasons: Vec<String>,
    pub undoable: bool,
    /// Whether undoing it was tried and worked; `None`: not tried.
    pub undone_ok: Option<bool>,
}

impl Report {
    /// What must hold after an attack: all found, all undone, nothing else touched.
    #[must_use]
    pub fn holds(&self) -> bool {
        let clean = self.residue.is_empty()
            && self.benign_changes_lost.is_empty()
            && self.benign_processes_harmed == 0
            && self.attacker_processes_left == 0
            && self.events_lost == 0
            && self.attached_elsewhere.is_empty()
            && self.noise_forbidden.is_empty()
            && self.noise.len() <= crate::oracle::NOISE_MAX
            && (self.killed_before.is_empty() || self.done_twice.is_empty())
            && self.undo_differs.as_ref().is_none_or(Vec::is_empty);
        if let Some(atomic) = &self.atomic {
            return self.atomic_holds(atomic);
        }
        let finished = if let Some(storm) = &self.storm {
            storm.holds()
        } else if self.spared && self.stage == Stage::Quiet {
            self.actions.is_empty()
        } else if self.objects_in_scope == 0 && !self.failure {
            self.stage == Stage::Quiet && self.actions.is_empty()
        } else {
            // What is to be shown waits for a person.
            self.stage == if self.contested > 0 { Stage::Stuck } else { Stage::Healed }
                && self.root_rank == Some(1)
                && self.objects_contested == self.contested
                && self.objects_restored_exactly + self.objects_contested == self.objects_tampered
                && self.asked_rightly
        };
        clean && finished
    }

    /// Nobody else's work is touched, and what outlasts the test is found and gone. Without an agent there is nothing to hold.
    fn atomic_holds(&self, atomic: &AtomicLine) -> bool {
        let harmless = self.benign_changes_lost.is_empty()
            && self.benign_processes_harmed == 0
            && self.attached_elsewhere.is_empty()
            && self.noise_forbidden.is_empty()
            && atomic.raised_by_administrator != Some(true);
        let healed = self.stage == Stage::Healed && atomic.lasting_left.is_empty();
        self.stage == Stage::NotApplicable
            || self.agent == Placement::None && !atomic.broken
            || harmless && !atomic.broken && (atomic.lasting.is_empty() || atomic.is_detected() && healed)
    }

    fn write_atomic(&self, f: &mut fmt::Formatter<'_>, atomic: &AtomicLine) -> fmt::Result {
        let verdict = if self.holds() { "holds" } else { "DOES NOT HOLD" };
        write!(f, "{:<14} {:<15} {verdict:<14} {}", self.scenario, lower(&self.stage), atomic.name)?;
        if let Some(why) = &self.why {
            write!(f, "\n  why              {why}")?;
        }
        if self.stage == Stage::NotApplicable {
            return Ok(());
        }
        let raised = match atomic.raised_by_administrator {
            None => "",
            Some(false) => "; not when the administrator does the same",
            Some(true) => "; BUT ALSO WHEN THE ADMINISTRATOR DOES THE SAME",
        };
        let found = match (atomic.right_technique, atomic.right_process) {
            (true, true) => "by technique and process",
            (true, false) => "by technique, not by process",
            (false, _) if self.detected => "by another technique",
            (false, _) => "not at all",
        };
        write!(f, "\n  found            {found}{raised} ({})", self.techniques_found.join(", "))?;
        write!(
            f,
            "\n  objects          {} changed, {} of them lasting; {} restored exactly, {} lasting ones left; {} shown; its cleanup {}",
            self.objects_tampered,
            atomic.lasting.len(),
            self.objects_restored_exactly,
            atomic.lasting_left.len(),
            self.objects_shown,
            lower(&self.cleanup_oracle)
        )?;
        for path in atomic.lasting_left.iter().take(PATHS_SHOWN_MAX) {
            write!(f, "\n    left {path}")?;
        }
        write!(
            f,
            "\n  others' work     {} changes, {} lost; {} harmed",
            self.benign_changes,
            self.benign_changes_lost.len(),
            self.benign_processes_harmed
        )?;
        for path in self.benign_changes_lost.iter().take(PATHS_SHOWN_MAX) {
            write!(f, "\n    lost {path}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(atomic) = &self.atomic {
            return self.write_atomic(f, atomic);
        }
        let ms = |time: Option<u64>| time.map_or_else(|| "never".to_owned(), |time| format!("{time} ms"));
        let verdict = if self.holds() { "holds" } else { "DOES NOT HOLD" };
        writeln!(
            f,
            "{}{} seed {}, agent {}: {}{} ({verdict})",
            self.scenario,
            if self.host > 1 { format!(" (host {})", self.host) } else { String::new() },
            self.seed,
            lower(&self.agent),
            lower(&self.stage),
            if self.spared { ", not reached" } else { "" }
        )?;
        if let Some(why) = &self.why {
            writeln!(f, "  why              {why}")?;
        }
        writeln!(
            f,
            "  found            {} after the first step, contained {} later, healed {} after that; true root is number {}",
            ms(self.time_to_detect_ms),
            ms(self.time_to_contain_ms),
            ms(self.time_to_heal_ms),
            self.root_rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string())
        )?;
        writeln!(
            f,
            "  objects          {} tampered, {} restored exactly ({} of them merged), {} shown to a person",
            self.objects_tampered, self.objects_restored_exactly, self.objects_merged, self.objects_shown
        )?;
        if self.contested > 0 {
            writeln!(
                f,
                "  contested        {} of them cannot be told apart, expected {}",
                self.objects_contested, self.contested
            )?;
        }
        writeln!(
            f,
            "  attack           {} paths left, {} processes left",
            self.residue.len(),
            self.attacker_processes_left
        )?;
        paths(f, "residue", &self.residue)?;
        writeln!(
            f,
            "  others' work     {} changes, {} lost; {} processes harmed; web down for {} ms",
            self.benign_changes,
            self.benign_changes_lost.len(),
            self.benign_processes_harmed,
            self.service_downtime_ms
        )?;
        paths(f, "lost", &self.benign_changes_lost)?;
        if let Some(storm) = &self.storm {
            writeln!(
                f,
                "  storm            {} findings of {} false alarms; something was done about {} ({} actions), then {} notice; {} of {} sessions go on",
                storm.findings,
                storm.confirmed,
                storm.acted_upon,
                storm.actions,
                storm.notices,
                storm.sessions_left,
                storm.sessions
            )?;
        }
        for attached in &self.attached_elsewhere {
            writeln!(f, "  ATTACHED         {attached}")?;
        }
        if !self.killed_before.is_empty() {
            let steps: Vec<String> =
                self.killed_before.iter().map(|(step, times)| format!("{step} {times} times")).collect();
            let lives = self.killed_before.values().sum::<u32>() + 1;
            writeln!(f, "  ordeal           the heal took {lives} lives; killed before {}", steps.join(", "))?;
            paths(f, "DONE TWICE", &self.done_twice)?;
        }
        if let Some(differs) = &self.undo_differs {
            let verdict = if differs.is_empty() { "the attacked state is back, bit for bit" } else { "DIFFERS" };
            writeln!(f, "  undo             {verdict}")?;
            paths(f, "differs", differs)?;
        }
        writeln!(
            f,
            "  agent            ready after {} ms; {} MB at most; {} ms of processor time",
            self.agent_ready_ms,
            self.agent_memory_peak / 1_000_000,
            self.agent_cpu_ms
        )?;
        write!(
            f,
            "  events           {} seen, {} lost; {} actions; {} paths of noise",
            self.events,
            self.events_lost,
            self.actions.len(),
            self.noise.len()
        )
    }
}

/// LIMIT: paths shown of one list to a person; JSON has them all.
const PATHS_SHOWN_MAX: usize = 20;

fn paths(f: &mut fmt::Formatter<'_>, word: &str, list: &[HostPath]) -> fmt::Result {
    for path in list.iter().take(PATHS_SHOWN_MAX) {
        writeln!(f, "    {word} {path}")?;
    }
    if list.len() > PATHS_SHOWN_MAX {
        writeln!(f, "    and {} more", list.len() - PATHS_SHOWN_MAX)?;
    }
    Ok(())
}

fn lower(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
