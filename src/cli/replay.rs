// SPDX-License-Identifier: Apache-2.0

use super::status::stage_name;
use super::{Desk, explain, show};
use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thymus_control::view::Told;
use thymus_engine::engine::Engine;
use thymus_engine::incident::Verdict;
use thymus_engine::{ActionId, Effect, Input, Timestamp};
use thymus_host::journal::{self, Intent, Record};

/// LIMIT: bytes of one recorded line.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Run recorded inputs through an engine of their own, and print what it finds and decides.
///
/// Nothing is touched: effects are printed, not carried out. The same inputs always give the same output, byte for byte.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Compare with the effects that the journal recorded; exits with 1 at the first that differs.
    #[arg(long)]
    check: bool,
    /// A journal directory, or a file with one JSON object a line: `{"now": NANOSECONDS, "input": …}`, or what
    /// `thymus journal export` prints.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Replay {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let mut player = Player { print: !self.check, check: self.check, ..Player::new(desk) };
        for file in &self.files {
            player.play(file).with_context(|| format!("cannot replay `{}`", file.display()))?;
        }
        player.finish()
    }
}

/// Looks at the engine after each input, its judgements included.
pub(super) type Watch<'a> = Box<dyn FnMut(&Engine) + 'a>;

/// One engine, and what it should say next.
pub(super) struct Player<'a> {
    desk: &'a Desk,
    /// Print what the engine says.
    print: bool,
    /// Compare what the engine says with what was recorded.
    pub(super) check: bool,
    pub(super) watch: Option<Watch<'a>>,
    engine: Engine,
    boot_to_unix_ns: u64,
    effects: Vec<Effect>,
    /// What the engine said and the record has not shown yet.
    said: VecDeque<Effect>,
    /// Inputs are missing from the record: until the next checkpoint nothing can be compared.
    blind: bool,
    pub(super) inputs: u64,
    same: u64,
    /// Of the same, those that decide about an action.
    pub(super) decisions: u64,
    pub(super) not_compared: u64,
    pub(super) difference: Option<String>,
    /// What was decided last of each action that may happen, until its intent is on disk.
    permitted: BTreeMap<ActionId, Verdict>,
}

impl<'a> Player<'a> {
    pub(super) fn new(desk: &'a Desk) -> Self {
        Self {
            desk,
            print: false,
            check: false,
            watch: None,
            engine: Engine::new(),
            boot_to_unix_ns: 0,
            effects: Vec::new(),
            said: VecDeque::new(),
            blind: false,
            inputs: 0,
            same: 0,
            decisions: 0,
            not_compared: 0,
            difference: None,
            permitted: BTreeMap::new(),
        }
    }

    pub(super) fn play(&mut self, path: &Path) -> anyhow::Result<()> {
        if path.is_dir() {
            let mut failed = None;
            let report = journal::records(path, &mut |now, record| {
                if failed.is_none() {
                    failed = self.record(now, record).err();
                }
                Ok(())
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            return match report.problems.first() {
                Some(problem) => bail!("the journal cannot be trusted: {problem}"),
                None => Ok(()),
            };
        }
        let mut lines = std::io::BufReader::new(std::fs::File::open(path)?);
        for number in 1_u64.. {
            let mut line = Vec::new();
            lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            ensure!(line.len() as u64 <= LINE_BYTES_MAX, "line {number}: more than {LINE_BYTES_MAX} bytes");
            if !line.trim_ascii().is_empty() {
                self.line(&line).with_context(|| format!("line {number}"))?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let expected = "expected {\"now\": NANOSECONDS, \"input\": …} or an exported record";
        let mut value: serde_json::Value = serde_json::from_slice(line).context(expected)?;
        if let Some(input) = value.get_mut("input").map(serde_json::Value::take) {
            let now = value.get("now").and_then(serde_json::Value::as_u64).context(expected)?;
            self.input(Timestamp(now), Input::deserialize(input).context(expected)?)
        } else {
            let now = Timestamp(value.get("time_ns").and_then(serde_json::Value::as_u64).context(expected)?);
            let record = value.get_mut("record").context(expected)?;
            if let Some(input) = record.get_mut("Input").map(serde_json::Value::take) {
                self.input(now, Input::deserialize(input).context(expected)?)
            } else if let Some(effect) = record.get_mut("Effect").map(serde_json::Value::take) {
                self.effect(now, Effect::deserialize(effect).context(expected)?);
                Ok(())
            } else {
                if record.get("Run").is_some() {
                    self.said.clear();
                }
                Ok(())
            }
        }
    }

    fn record(&mut self, now: Timestamp, record: Record) -> anyhow::Result<()> {
        match record {
            Record::Input(input) => self.input(now, input)?,
            Record::Effect(effect) => self.effect(now, effect),
            // What an agent decided in its last instant may not have reached the disk.
            Record::Run(_) => self.said.clear(),
            Record::Checkpoint(bytes) => self.checkpoint(now, &bytes)?,
            Record::Lost { .. } => {
                self.blind = true;
                self.said.clear();
            }
            Record::Intent(intent) => self.intent(now, &intent),
            Record::Settled { .. } | Record::Undone { .. } | Record::IncidentUndone { .. } | Record::Carried(_) => {}
        }
        Ok(())
    }

    fn input(&mut self, now: Timestamp, input: Input) -> anyhow::Result<()> {
        if let Some(left) = self.said.pop_front() {
            self.said.clear();
            self.differs(now, &format!("decided here, not in the record: {}", json(&left)));
        }
        if let Input::Configured(configuration) = &input {
            self.boot_to_unix_ns = configuration.boot_to_unix_ns;
        }
        self.inputs += 1;
        if self.watch.is_some() {
            self.engine.watch();
        }
        self.engine.step(now, input, &mut self.effects);
        if let Some(watch) = &mut self.watch {
            watch(&self.engine);
        }
        for effect in std::mem::take(&mut self.effects) {
            if !is_recorded(&effect) {
                continue;
            }
            if self.check {
                self.said.push_back(effect);
            } else if self.print && self.desk.json {
                super::print(&(serde_json::json!({ "now": now, "effect": effect }).to_string() + "\n"))?;
            } else if self.print {
                super::print(&line_of(now, &effect))?;
            }
        }
        Ok(())
    }

    /// The record says that this was decided.
    fn effect(&mut self, now: Timestamp, recorded: Effect) {
        if !self.check || self.blind {
            self.not_compared += 1;
            return;
        }
        match self.said.pop_front() {
            Some(said) if said == recorded => {
                self.same += 1;
                self.decisions += u64::from(decides(&said));
                if let Effect::Commit { action, verdict } = said {
                    self.permitted.insert(action, verdict);
                }
            }
            Some(said) => self.differs(now, &format!("recorded {}, decided here {}", json(&recorded), json(&said))),
            None => self.differs(now, &format!("recorded, not decided here: {}", json(&recorded))),
        }
    }

    /// The promise on disk carries the verdict that let it through.
    fn intent(&mut self, now: Timestamp, intent: &Intent) {
        let (Some(promised), Some(decided)) = (&intent.verdict, self.permitted.remove(&intent.action)) else { return };
        if *promised != decided {
            let reasons = |verdict: &Verdict| verdict.reasons.join("; ");
            let (promised, decided) = (reasons(promised), reasons(&decided));
            self.differs(now, &format!("the intent of a{} says {promised}, decided was {decided}", intent.action));
        }
    }

    /// The first record of a journal whose older part is gone, or a state to be compared with.
    fn checkpoint(&mut self, now: Timestamp, bytes: &[u8]) -> anyhow::Result<()> {
        let unreadable = "the checkpoint is not of this version";
        let (_next_event, engine) = postcard::take_from_bytes::<u64>(bytes).ok().context(unreadable)?;
        if self.inputs == 0 || self.blind {
            self.engine = postcard::from_bytes(engine).ok().context(unreadable)?;
            self.blind = false;
        } else if self.check {
            if postcard::to_stdvec(&self.engine)? == engine {
                self.same += 1;
            } else {
                self.differs(now, "the engine's state is not the one that the checkpoint has");
            }
        }
        Ok(())
    }

    fn differs(&mut self, now: Timestamp, what: &str) {
        if !self.blind && self.check && self.difference.is_none() {
            self.difference = Some(format!("at {} ns, input {}: {what}", now.0, self.inputs));
        }
    }

    fn finish(self) -> anyhow::Result<ExitCode> {
        let view = self.engine.view();
        if self.check {
            let report = serde_json::json!({
                "inputs": self.inputs, "same": self.same, "not_compared": self.not_compared, "difference": self.difference,
            });
            self.desk.tell(&report, |_| {
                let verdict = self.difference.as_ref().map_or_else(
                    || format!("{} recorded effects and states, all decided again the same", self.same),
                    |difference| format!("DIFFERS {}", show::plain(difference)),
                );
                let blind = match self.not_compared {
                    0 => String::new(),
                    count => format!("; {count} not compared, inputs before them were lost"),
                };
                format!("{} inputs: {verdict}{blind}\n", self.inputs)
            })?;
            return Ok(super::exit(self.difference.is_none()));
        }
        for incident in view.incidents {
            let told = Told { incident, now: view.now, boot_to_unix_ns: self.boot_to_unix_ns };
            self.desk.tell(&told, |told| format!("\n{}", explain::text(told)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// It says what becomes of an action.
fn decides(effect: &Effect) -> bool {
    match effect {
        Effect::Reflex { .. } | Effect::Commit { .. } | Effect::Drop { .. } | Effect::Ask { .. } => true,
        Effect::Prepare { .. }
        | Effect::Aside { .. }
        | Effect::Renew { .. }
        | Effect::Verify { .. }
        | Effect::Finding(_)
        | Effect::Incident(_)
        | Effect::Storm { .. } => false,
    }
}

/// What the agent writes into its journal of what the engine says.
fn is_recorded(effect: &Effect) -> bool {
    match effect {
        Effect::Prepare { .. } | Effect::Renew { .. } | Effect::Verify { .. } => false,
        Effect::Reflex { .. }
        | Effect::Aside { .. }
        | Effect::Commit { .. }
        | Effect::Drop { .. }
        | Effect::Ask { .. }
        | Effect::Finding(_)
        | Effect::Incident(_)
        | Effect::Storm { .. } => true,
    }
}

fn json(effect: &Effect) -> String {
    serde_json::to_string(effect).unwrap_or_else(|error| error.to_string())
}

/// One effect for people: boot-clock seconds, then words.
fn line_of(now: Timestamp, effect: &Effect) -> String {
    let reasons = |verdict: &thymus_engine::incident::Verdict| show::short(&verdict.reasons.join("; "), 80);
    let words = match effect {
        Effect::Finding(finding) => {
            let paths: Vec<String> = finding.paths.iter().take(2).map(|path| show::plain(&path.to_string())).collect();
            let (analytic, title) = (show::plain(&finding.analytic), show::short(&finding.title, 70));
            format!("finding {} {analytic}: {title} {}", finding.id, paths.join(" "))
        }
        Effect::Incident(change) => {
            let (stage, why) = (stage_name(change.stage), show::short(&change.message, 80));
            format!("incident {} {stage}: {why}", change.incident)
        }
        Effect::Aside { incident, path, versions } => {
            let (count, path) = (show::count(versions.len(), "version"), show::plain(&path.to_string()));
            format!("incident {incident} lays aside {count} of {path}")
        }
        Effect::Storm { open, why } => {
            let how = if *open { "opens" } else { "is over" };
            format!("storm {how}: {}", show::short(why, 80))
        }
        Effect::Reflex { action, processes, .. } => {
            format!("a{action} stop {} at once", show::count(processes.len(), "process"))
        }
        Effect::Commit { action, verdict } => format!("a{action} permitted: {}", reasons(verdict)),
        Effect::Drop { action, verdict } => format!("a{action} refused: {}", reasons(verdict)),
        Effect::Ask { action, what, verdict, .. } => {
            format!("a{action} asked: {}: {}", explain::what(what), reasons(verdict))
        }
        Effect::Prepare { .. } | Effect::Renew { .. } | Effect::Verify { .. } => return String::new(),
    };
    format!("{:>12}.{:06}  {}\n", now.0 / 1_000_000_000, now.0 / 1_000 % 1_000_000, words.trim_end())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use thymus_engine::event::{
        Activity, Change, Event, File, FileActivity, FileActivityId, FileKind, Mode, Process, ProcessActivity,
        ProcessActivityId, User,
    };
    use thymus_engine::input::{self, Configuration};
    use thymus_engine::{BootId, EventId, FileKey, ProcessKey, VersionId, guard};
    use thymus_host::journal::Journal;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { boot: BootId(1), pid, start_time: Timestamp(u64::from(pid)) }
    }

    fn ran(pid: u32, parent: u32, program: &str, unit: &str) -> Activity {
        let user = User { uid: 0, euid: 0, gid: 0, login_uid: if pid == 900 { u32::MAX } else { 1001 } };
        let process = Process {
            key: key(pid),
            parent: key(parent),
            file: Some(File { path: program.into(), key: FileKey::default() }),
            cmd_line: vec![program.into()],
            user,
            unit: Some(unit.into()),
            ..Process::default()
        };
        let activity = if pid == 900 { ProcessActivityId::Inventory } else { ProcessActivityId::Exec };
        Activity::Process(ProcessActivity { activity, actor: key(pid), process, exit_code: None })
    }

    fn wrote(pid: u32, path: &str, version: u64) -> Activity {
        let change = Change { before: VersionId::UNKNOWN, created: true, after: VersionId(version), removed: false };
        Activity::File(FileActivity {
            activity: FileActivityId::Close,
            actor: key(pid),
            file: File { path: path.into(), key: FileKey { device: 1, inode: version, generation: 0 } },
            kind: FileKind::Regular,
            file_result: None,
            change: Some(change),
            change_result: None,
            mode: Some(Mode { bits: 0o644, uid: 0, gid: 0 }),
            target: None,
        })
    }

    /// A session of somebody who is no administrator puts a library before every program.
    pub(in crate::cli) fn intrusion() -> Vec<(Timestamp, Input)> {
        let configuration = Configuration {
            mode: input::Mode::Autonomous,
            scope_permits_action: true,
            administrators: vec![1000],
            logins: Vec::new(),
            protected: vec!["/etc".into()],
            append_only: Vec::new(),
            change_tools: Vec::new(),
            decoys: Vec::new(),
            never_touch: Vec::new(),
            never_touch_paths: Vec::new(),
            never_block: Vec::new(),
            policies: guard::Policies::defaults(),
            boot_to_unix_ns: 1_795_382_000_000_000_000,
            actions_per_minute: guard::ACTIONS_PER_MINUTE,
            answer_ns: input::ANSWER_NS,
        };
        let activities = [
            ran(900, 1, "/usr/sbin/sshd", "ssh.service"),
            ran(901, 900, "/usr/sbin/sshd", "session-3.scope"),
            ran(902, 901, "/bin/bash", "session-3.scope"),
            wrote(902, "/etc/ld.so.preload", 5),
        ];
        let event = |(at, activity): (u64, Activity)| {
            let time = Timestamp(2_000_000_000 + at * 1_000_000);
            (time, Input::Event(Event { id: EventId(at), time, activity }))
        };
        let mut inputs = vec![(Timestamp(1_000_000_000), Input::Configured(Box::new(configuration)))];
        inputs.extend((1..).zip(activities).map(event));
        inputs.extend((0..8).map(|tick| (Timestamp(3_000_000_000 + tick * 250_000_000), Input::Tick)));
        inputs
    }

    /// What an agent would have recorded.
    pub(in crate::cli) fn record(inputs: &[(Timestamp, Input)], journal: &Journal) -> usize {
        let (mut engine, mut effects, mut recorded) = (Engine::new(), Vec::new(), 0);
        for (now, input) in inputs {
            journal.append_input(*now, input).unwrap();
            engine.step(*now, input.clone(), &mut effects);
            for effect in effects.drain(..).filter(is_recorded) {
                journal.append_effect(*now, &effect).unwrap();
                recorded += 1;
            }
        }
        journal.flush().unwrap();
        recorded
    }

    pub(in crate::cli) fn desk() -> Desk {
        Desk { json: true, socket: PathBuf::new(), socket_given: false }
    }

    pub(in crate::cli) fn place() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("thymus-replay-").tempdir().unwrap()
    }

    #[test]
    fn a_journal_is_decided_again_bit_for_bit() {
        let place = place();
        let (journal, _) = Journal::open(place.path()).unwrap();
        let recorded = record(&intrusion(), &journal);
        assert!(recorded >= 3, "an intrusion leads to findings and decisions, found {recorded}");
        let desk = desk();
        let mut player = Player { check: true, ..Player::new(&desk) };
        player.play(place.path()).unwrap();
        assert_eq!((player.difference, usize::try_from(player.same).unwrap()), (None, recorded));
    }

    #[test]
    fn an_exported_journal_replays_like_the_journal_itself() {
        let (place, text) = (place(), place());
        let (journal, _) = Journal::open(place.path()).unwrap();
        let recorded = record(&intrusion(), &journal);
        let file = text.path().join("day.jsonl");
        journal::export(place.path(), &mut std::fs::File::create(&file).unwrap()).unwrap();
        let desk = desk();
        let mut player = Player { check: true, ..Player::new(&desk) };
        player.play(&file).unwrap();
        assert_eq!((player.difference, usize::try_from(player.same).unwrap()), (None, recorded));
    }

    #[test]
    fn a_decision_that_was_not_recorded_or_never_made_is_told_with_its_place() {
        let place = place();
        let (journal, _) = Journal::open(place.path()).unwrap();
        record(&intrusion(), &journal);
        // One more input with nothing to decide, and a decision that no engine made.
        journal.append_input(Timestamp(9_000_000_000), &Input::Tick).unwrap();
        let verdict = thymus_engine::incident::Verdict {
            decision: thymus_engine::incident::Decision::Permit,
            reasons: vec!["forged".into()],
        };
        let forged = Effect::Commit { action: thymus_engine::ActionId(99), verdict };
        journal.append_effect(Timestamp(9_000_000_000), &forged).unwrap();
        journal.flush().unwrap();
        let desk = desk();
        let mut player = Player { check: true, ..Player::new(&desk) };
        player.play(place.path()).unwrap();
        let difference = player.difference.unwrap();
        assert!(difference.contains("recorded, not decided here") && difference.contains("forged"), "{difference}");
    }

    #[test]
    fn a_line_that_is_no_input_is_refused_with_its_number() {
        let place = place();
        let file = place.path().join("x.jsonl");
        std::fs::write(&file, "{\"now\": 1, \"input\": \"Tick\"}\n\n{\"now\": 2, \"input\": \"Tock\"}\n").unwrap();
        let desk = desk();
        let error = Player::new(&desk).play(&file).unwrap_err();
        assert!(format!("{error:#}").starts_with("line 3: expected"), "{error:#}");
    }
}
