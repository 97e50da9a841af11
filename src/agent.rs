// SPDX-License-Identifier: Apache-2.0
//! Wiring: sensors → vault → journal → engine → hands → engine. The only place that knows both the brain and the hands.
//!
//! One hot thread senses, numbers, records and decides; it never waits for a disk. A second thread acts, a third talks.

mod actor;
mod falls;
mod golden;
mod logs;
mod report;
mod setup;

use crate::config::{Config, Policies, Problem};
use actor::{Order, Told};
use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use setup::House;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use thymus_control::{Answer, ControlCommand, Published, Request, Server, UndoTarget};
use thymus_engine::Stage;
use thymus_engine::action::{Facts, Files, Outcome, RestoreFile};
use thymus_engine::engine::Engine;
use thymus_engine::event::{Activity, Event, File, FileActivity, FileActivityId, FileKind, ProcessActivityId};
use thymus_engine::input::Command;
use thymus_engine::{
    Action, ActionId, Effect, EventId, FileKey, HostPath, IncidentId, Input, ProcessKey, Timestamp, VersionId,
};
use thymus_host::origin::Origins;
use thymus_host::probe;
use thymus_host::respond::Reflex;
use thymus_host::sense::{self, Observed, Sensors};
use thymus_host::urgent::Urgent;
use thymus_host::vault::{self, Vault};

/// How long the hot thread waits for something to happen: while the hands owe an answer, and otherwise.
const WAIT_BUSY: Duration = Duration::from_millis(1);
const WAIT_IDLE: Duration = Duration::from_millis(50);
/// Between two ticks of the engine, and two published views.
const TICK: Duration = Duration::from_millis(250);
/// Between two looks at the vault's coverage, which is long and changes slowly.
const COVERAGE_EVERY: Duration = Duration::from_secs(5);
/// LIMIT: answers of probes that wait for the hot thread; what finds no place is told again.
const HEALTH_MAX: usize = 512;
/// LIMIT: commands that wait for the hot thread.
const COMMANDS_MAX: usize = thymus_control::api::COMMANDS_WAITING_MAX;
/// LIMIT: orders and answers between the hot thread and the hands. What the engine has in flight is bounded far below;
/// orders beyond it wait in the hot thread's own queue.
const ORDERS_MAX: usize = 1_024;

/// What `thymus up` was asked for: the configuration, with the command line's wishes put in.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) policies: Policies,
    /// What was wrong with the files; the last good ones are in use. Shown by `doctor`.
    pub(crate) problems: Vec<Problem>,
    pub(crate) scope: ScopeChoice,
    /// Root directory of the file system that the scope's processes see.
    pub(crate) root: PathBuf,
}

/// `--scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScopeChoice {
    /// The host (or the container) that the agent itself runs in.
    Host,
    /// A cgroup, by its directory.
    Cgroup(PathBuf),
}

/// Where the agent's falls are written down, in its state.
const FALLS: &str = "falls";

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    // Blocked before any thread starts, so that only the descriptor hears them; programs that we start begin with none blocked.
    let mut ending = SigSet::empty();
    ending.add(Signal::SIGINT);
    ending.add(Signal::SIGTERM);
    ending.thread_block().context("cannot block SIGINT and SIGTERM")?;
    let ending = SignalFd::with_flags(&ending, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("cannot make a signal descriptor")?;
    let (_log, wrong) = crate::log::begin().context("cannot start the log")?;
    if let Some(wrong) = wrong {
        tracing::warn!("{wrong}");
    }

    let house = House::open(&options)?;
    let fell = falls::too_many(&house.path(FALLS));
    falls::listen(house.path(FALLS));
    let scope = house.scope();
    let decoys = house.decoys(&options.config).context("cannot place decoys")?;
    let mut sensors = Sensors::start(scope, sense::Options::default()).context("cannot start the sensors")?;
    let vault = house.vault(&options.config)?;
    let intent = sensors.write_intent();
    // Held to the end: dropped, it lets every write pass unrecorded.
    let protection = match scope.acting() {
        Some(acting) => {
            let intent = Box::new(move |tid| setup::intent_of(intent.flags(tid)));
            Some(vault.protect(acting, intent).context("cannot take pre-images")?)
        }
        None => None,
    };
    let no_pre_images = protection.as_ref().and_then(|protection| protection.refused.clone());

    let watched = setup::watched(&options.config);
    let questions = setup::questions(&options.config, &house.path("supervised.json"));
    let quit = AtomicBool::new(false);
    let shared = &logs::Shared::default();

    std::thread::scope(|threads| {
        let (orders, ordered) = sync_channel(ORDERS_MAX);
        let (told, answers) = sync_channel(ORDERS_MAX);
        let (commands, asked) = sync_channel(COMMANDS_MAX);
        let (asks, to_look) = sync_channel(golden::ASKS_MAX);
        let (looked, found) = sync_channel(golden::ASKS_MAX);
        let (engine, next_event) = house.engine()?;
        let (reflex, slow) = house.reflex()?;
        let published = Published::new(report::starting(&house, &engine));
        let server =
            Server::start(options.config.socket.get(), published.clone(), commands, house.approvers(&options.config))
                .with_context(|| format!("cannot listen on `{}`", options.config.socket.get().display()))?;

        let mut agent = Hot {
            engine,
            house: &house,
            options: &options,
            origins: Origins::new(scope, &vault),
            vault: &vault,
            reflex,
            slow: slow.into_iter().collect(),
            no_blocks: house.no_blocks(),
            urgent: None,
            orders,
            waiting: VecDeque::new(),
            answers,
            owed: 0,
            asked,
            published,
            undoing: Vec::new(),
            placing: BTreeMap::new(),
            adopting: BTreeSet::new(),
            next_event,
            late: 0,
            effects: Vec::new(),
            vault_seen: (sense::now(), vault::Counters::default()),
            coverage: vault::Coverage::default(),
            coverage_read: Instant::now(),
            no_pre_images,
            baseline_done: false,
            golden: golden::Desk::new(asks, found, house.own_key().boot),
            started: sense::now(),
            searching: false,
            health: None,
            lines: None,
            logs: shared,
            lines_of_nobody: 0,
            acted: Timestamp(0),
            overtaken: 0,
        };
        let hands = house.hands(&vault, &questions)?;
        let (watched, vault) = (&watched, &vault);
        let (answered, health) = sync_channel(HEALTH_MAX);
        agent.health = Some(health);
        let (heard, lines) = sync_channel(logs::LINES_MAX);
        agent.lines = Some(lines);
        let _quit = Quit(&quit); // also when something below fails
        let (questions, stop) = (&questions, &quit);
        threads.spawn(move || {
            probe::run(scope, questions, stop, &|answer| answered.try_send(answer).is_ok());
        });
        let asides = house.asides();
        threads.spawn(move || {
            actor::run(actor::Acting { hands, decoys, asides }, watched, vault, &ordered, &told);
        });
        if options.config.logs.enabled {
            let (parsers, problems) = crate::rules::load(options.config.logs.rules.get());
            house.found_wrong(problems);
            threads.spawn(move || logs::run(scope, parsers, stop, shared, &heard));
        }
        let copying = threads.spawn(|| vault.baseline());
        let place = house.looked_at(&options.config)?;
        threads.spawn(move || golden::run(&place, &to_look, &looked));

        agent.begin(fell);
        let mut observed = Vec::new();
        sensors.inventory(&mut observed).context("cannot read the processes that are there")?;
        let mut copying = Some(copying);
        let mut ticked = Instant::now();
        agent.hurry();
        loop {
            agent.rest(); // the wait below does not block while there are events
            let wait = match agent.owed {
                _ if agent.searching => Duration::ZERO, // a decision is near: only what has happened goes before it
                0 => WAIT_IDLE,
                _ => WAIT_BUSY,
            };
            sensors.poll(wait, &mut observed).context("the sensors failed")?;
            for one in observed.drain(..) {
                agent.observe(one);
                agent.rest();
            }
            for content in agent.vault.sightings() {
                agent.happened(sense::now(), Activity::Content(content));
            }
            agent.hear();
            agent.read_logs();
            if agent.listen() || matches!(ending.read_signal(), Ok(Some(_))) {
                break;
            }
            if copying.as_ref().is_some_and(std::thread::ScopedJoinHandle::is_finished) {
                let coverage = copying.take().and_then(|thread| thread.join().ok());
                agent.copied(coverage.context("the baseline's thread ended")?);
            }
            if agent.searching {
                agent.feed(Input::Tick);
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                agent.tick(&sensors);
            }
        }
        agent.end();
        drop(server);
        Ok(ExitCode::SUCCESS)
    })
}

/// What an action in flight is about to change.
enum Placing {
    One(HostPath),
    Many(Files),
    Each(Vec<HostPath>),
}

/// What the hot thread owns.
struct Hot<'a> {
    engine: Engine,
    house: &'a House,
    options: &'a Options,
    origins: Origins<'a>,
    vault: &'a Vault,
    reflex: Option<Reflex<'a>>,
    /// Why a first stop is slower than it could be; for `doctor`.
    slow: Vec<String>,
    /// Why no address can be blocked; for `doctor`.
    no_blocks: Option<String>,
    /// This thread has a real-time priority.
    urgent: Option<Urgent>,
    orders: SyncSender<Order>,
    /// Orders that found the channel full.
    waiting: VecDeque<Order>,
    answers: Receiver<Told>,
    /// Orders that were sent and not answered.
    owed: usize,
    asked: Receiver<Request>,
    published: Published,
    /// People who wait for an undo.
    undoing: Vec<Request>,
    /// Paths that an action in flight is about to change.
    placing: BTreeMap<ActionId, Placing>,
    /// Reflexes that are being written into the journal.
    adopting: BTreeSet<ActionId>,
    next_event: u64,
    /// Activities on files whose names had gone to others by then; shown, of no consequence.
    late: u64,
    effects: Vec<Effect>,
    vault_seen: (Timestamp, vault::Counters),
    coverage: vault::Coverage,
    coverage_read: Instant,
    no_pre_images: Option<String>,
    baseline_done: bool,
    golden: golden::Desk,
    started: Timestamp,
    /// A search of the engine goes on: it wants to be stepped.
    searching: bool,
    /// What the probes say.
    health: Option<Receiver<probe::Answer>>,
    /// What logs say.
    lines: Option<Receiver<(Timestamp, thymus_engine::hearsay::Hearsay)>>,
    logs: &'a logs::Shared,
    /// Lines that are about no invocation; they are not recorded.
    lines_of_nobody: u64,
    /// When the hands had done something the last time.
    acted: Timestamp,
    /// Answers of looks that had begun before that; they are asked for again.
    overtaken: u64,
}

/// The prober ends when this goes.
struct Quit<'a>(&'a AtomicBool);

impl Drop for Quit<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Hot<'_> {
    /// Tells the engine under which configuration it runs; what was open when the agent ended comes from the hands.
    fn begin(&mut self, fell: Option<String>) {
        let configuration = self.house.configuration(self.options);
        self.feed(Input::Configured(Box::new(configuration)));
        if let Some(why) = fell {
            tracing::error!(why, "nothing is done by itself until `thymus release`");
            let until = Timestamp(sense::now().0.saturating_add(falls::HELD_NS));
            let longer = self.engine.view().hold.is_some_and(|hold| hold.until >= until);
            if !longer {
                self.feed(Input::Command(Command::Hold { until, why }));
            }
        }
        // What an agent before this one stopped and could not write down any more.
        let unsettled = self.reflex.as_mut().map(Reflex::unsettled).unwrap_or_default();
        for stopped in unsettled {
            self.adopting.insert(stopped.action);
            self.order(Order::Adopt(Box::new(stopped)));
        }
    }

    /// From here on nothing that computes goes before this thread, when it may act at all.
    fn hurry(&mut self) {
        if self.reflex.is_some() {
            match Urgent::ask() {
                Ok(urgent) => self.urgent = Some(urgent),
                Err(why) => self.slow.push(format!("no real-time priority: {why}")),
            }
        }
    }

    fn rest(&mut self) {
        if let Some(urgent) = &mut self.urgent {
            urgent.rest();
        }
    }

    fn observe(&mut self, observed: Observed) {
        let Observed { time, mut activity } = observed;
        if let Activity::File(file) = &mut activity
            && !self.vault.note(file, time)
        {
            self.late += 1;
            return;
        }
        if let Activity::Process(process) = &mut activity
            && process.activity == ProcessActivityId::Exec
        {
            let parent = self.engine.graph().process(process.process.parent);
            if let Some(starter) = parent.and_then(|parent| parent.exe.as_ref()) {
                process.process.origin = self.origins.of(&process.process, starter);
            }
        }
        self.happened(time, activity);
    }

    /// Numbers what happened, records it and thinks about it.
    fn happened(&mut self, time: Timestamp, activity: Activity) {
        let id = EventId(self.next_event);
        self.next_event += 1;
        self.feed(Input::Event(Event { id, time, activity }));
    }

    fn feed(&mut self, input: Input) {
        let now = sense::now();
        let journal = self.house.journal();
        if let Err(error) = journal.append_input(now, &input) {
            tracing::warn!(%error, "an input was not recorded"); // counted by the journal, shown by `doctor`
        }
        let mut effects = std::mem::take(&mut self.effects);
        let work = self.engine.step(now, input, &mut effects);
        self.searching = work.pending;
        for effect in effects.drain(..) {
            self.carry_out(now, effect);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, now: Timestamp, effect: Effect) {
        if !matches!(effect, Effect::Prepare { .. } | Effect::Renew { .. } | Effect::Verify { .. }) {
            if let Effect::Reflex { action, incident, processes } = &effect {
                self.stop(*action, *incident, processes); // before anything is written
            }
            if let Err(error) = self.house.journal().append_effect(now, &effect) {
                tracing::warn!(%error, "an effect was not recorded");
            }
        }
        match effect {
            Effect::Reflex { .. } | Effect::Ask { .. } => {}
            Effect::Prepare { action, incident, what } => {
                match &what {
                    Action::RestoreFiles { files } => drop(self.placing.insert(action, Placing::Many(files.clone()))),
                    Action::UndoAction { paths, .. } => drop(self.placing.insert(action, Placing::Each(paths.clone()))),
                    Action::RestorePackaged { .. } => {
                        let paths = what.paths().cloned().collect();
                        drop(self.placing.insert(action, Placing::Each(paths)));
                    }
                    one => {
                        if let Some(path) = one.written() {
                            self.placing.insert(action, Placing::One(path.clone()));
                        }
                    }
                }
                self.order(Order::Prepare { action, incident, what });
            }
            Effect::Commit { action, verdict } => self.order(Order::Commit { action, verdict }),
            Effect::Drop { action, .. } => {
                self.placing.remove(&action);
                self.order(Order::Forget { action });
            }
            Effect::Renew { action } => self.order(Order::Renew { action }),
            Effect::Aside { incident, path, versions } => self.order(Order::Aside { incident, path, versions }),
            Effect::Verify { incident, what } => self.order(Order::Verify { incident, what }),
            Effect::Finding(finding) => {
                tracing::info!(
                    analytic = finding.analytic,
                    technique = finding.technique,
                    title = finding.title,
                    "finding"
                );
            }
            Effect::Storm { open: true, why } => {
                tracing::warn!(why, "a storm: nothing more is done by itself until `thymus release`");
            }
            Effect::Storm { open: false, why } => tracing::warn!(why, "the storm is over"),
            Effect::Incident(change) => {
                tracing::info!(incident = %change.incident, stage = ?change.stage, why = change.message, "incident");
                if change.stage == Stage::Healed {
                    self.order(Order::Decoys);
                }
            }
        }
    }

    fn stop(&mut self, action: ActionId, incident: IncidentId, processes: &[ProcessKey]) {
        let Some(reflex) = &mut self.reflex else { return };
        let stopped = reflex.stop(action, incident, processes);
        self.adopting.insert(action);
        self.order(Order::Adopt(Box::new(stopped)));
    }

    fn order(&mut self, order: Order) {
        self.owed += usize::from(order.is_answered());
        self.waiting.push_back(order);
        self.pass_on();
    }

    fn pass_on(&mut self) {
        while let Some(order) = self.waiting.pop_front() {
            if let Err(
                std::sync::mpsc::TrySendError::Full(order) | std::sync::mpsc::TrySendError::Disconnected(order),
            ) = self.orders.try_send(order)
            {
                self.waiting.push_front(order);
                break;
            }
        }
    }

    /// What the hands have to say.
    fn hear(&mut self) {
        while let Ok(told) = self.answers.try_recv() {
            self.owed = self.owed.saturating_sub(1);
            match told {
                Told::Input(input) => {
                    match &*input {
                        Input::Prepared { action, facts } => self.prepared(*action, facts),
                        Input::Outcome { action, outcome } => {
                            self.acted = sense::now();
                            self.ended(*action, Some(outcome));
                        }
                        Input::Unprepared { action, .. } => self.ended(*action, None),
                        _ => {}
                    }
                    self.feed(*input);
                }
                Told::Undone { target, lines, done, paths } => {
                    for path in &paths {
                        self.placed(path);
                    }
                    if let (UndoTarget::Incident(incident), true) = (target, done) {
                        self.feed(Input::Command(Command::Undone { incident }));
                    }
                    if !self.undoing.is_empty() {
                        self.undoing.remove(0).answer(Answer { done, lines });
                    }
                }
            }
        }
        while let Some(Ok(probe::Answer { since, health })) = self.health.as_ref().map(Receiver::try_recv) {
            // A look that began before the hands were done may have seen what they have changed since: it says nothing about
            // what they did. What is not well is told again, and for a while also what is well again.
            if since >= self.acted {
                self.feed(Input::Health(health));
            } else {
                self.overtaken += 1;
            }
        }
        self.pass_on();
        for (request, answer) in self.golden.hear(self.engine.graph()) {
            self.publish_now();
            request.answer(answer);
        }
    }

    /// A few lines at a turn: what the kernel sees goes before what somebody wrote.
    fn read_logs(&mut self) {
        for _ in 0..logs::TURN_MAX {
            let Some(Ok((time, line))) = self.lines.as_ref().map(Receiver::try_recv) else { return };
            if self.engine.graph().concerns(time, &line) {
                self.happened(time, Activity::Hearsay(Box::new(line)));
            } else {
                self.lines_of_nobody += 1;
            }
        }
    }

    /// The hands are through with this action.
    fn ended(&mut self, action: ActionId, outcome: Option<&Outcome>) {
        match self.placing.remove(&action) {
            Some(Placing::One(path)) => self.placed(&path),
            Some(Placing::Many(files)) => self.placed_many(&files, outcome),
            Some(Placing::Each(paths)) => paths.iter().for_each(|path| self.placed(path)),
            None => {}
        }
        if self.adopting.remove(&action)
            && let Some(reflex) = &mut self.reflex
            && let Err(error) = reflex.settled(action)
        {
            tracing::warn!(%action, %error, "a reflex stays in its ring: the next start adopts it once more");
        }
    }

    /// What does not fit is left alone by the hands.
    fn prepared(&mut self, action: ActionId, facts: &Facts) {
        if let Some(Placing::Many(files)) = self.placing.get_mut(&action)
            && !facts.left_out.is_empty()
        {
            let fits = |file: &&RestoreFile| facts.left_out.iter().all(|(path, _)| *path != file.path);
            *files = files.iter().filter(fits).cloned().collect::<Vec<_>>().into();
        }
    }

    /// The hands put these in order: what stands there now is known without reading it.
    fn placed_many(&mut self, files: &Files, outcome: Option<&Outcome>) {
        let not_done: &[(HostPath, String)] = match outcome {
            Some(Outcome::Success | Outcome::DoesNotExist) => &[],
            Some(Outcome::Partly(not_done)) => not_done,
            _ => return,
        };
        let done = files.iter().filter(|file| not_done.iter().all(|(path, _)| *path != file.path));
        let done: Vec<(&HostPath, VersionId)> = done.map(|file| (&file.path, file.base)).collect();
        self.vault.restored(&done, self.house.own_key());
    }

    /// The hands changed this path, or tried to: a version of its own, by us. The sensors do not report the agent itself.
    fn placed(&mut self, path: &HostPath) {
        let there = self.house.exists(path);
        let activity = if there { FileActivityId::Close } else { FileActivityId::Delete };
        let file = File { path: path.clone(), key: FileKey::default() };
        let mut file = FileActivity {
            activity,
            actor: self.house.own_key(),
            file,
            kind: FileKind::Regular,
            file_result: None,
            change: None,
            change_result: None,
            mode: None,
            target: None,
        };
        let now = sense::now();
        self.vault.note(&mut file, now);
        self.happened(now, Activity::File(file));
    }

    /// What people have to say. True: the agent shall end.
    fn listen(&mut self) -> bool {
        while let Ok(request) = self.asked.try_recv() {
            match request.command.clone() {
                ControlCommand::Shutdown => {
                    request.answer(Answer::done("the agent ends"));
                    return true;
                }
                ControlCommand::Engine(command) => {
                    let command = report::answered_by(command, request.uid);
                    let before = self.published.read();
                    self.feed(Input::Command(command.clone()));
                    self.publish_now();
                    let answer = report::said(&command, &before.engine, &self.published.read().engine);
                    request.answer(answer);
                }
                ControlCommand::Look => self.golden.ask(golden::Ask::Look, request),
                ControlCommand::Accept { items, named } => {
                    self.feed(Input::Command(Command::GoldenAccepted { items: items.clone() }));
                    self.golden.ask(golden::Ask::Accept(items, named), request);
                }
                ControlCommand::Undo(target) => {
                    self.order(Order::Undo(target));
                    self.undoing.push(request);
                }
            }
        }
        false
    }

    fn copied(&mut self, coverage: Result<vault::Coverage, vault::Error>) {
        match coverage {
            Ok(coverage) => {
                tracing::info!(trees = coverage.trees.len(), "the baseline is complete");
                self.coverage = coverage;
            }
            Err(error) => tracing::warn!(%error, "the baseline is not complete"),
        }
        self.baseline_done = true;
        self.golden.begin();
    }

    fn tick(&mut self, sensors: &Sensors) {
        let now = sense::now();
        let counters = self.vault.counters();
        for loss in report::losses(&self.vault_seen.1, &counters, self.vault_seen.0, now) {
            self.happened(now, Activity::Loss(loss));
        }
        self.vault_seen = (now, counters);
        self.feed(Input::Tick);
        self.house.tend(&self.engine, self.next_event);
        if self.coverage_read.elapsed() >= COVERAGE_EVERY {
            self.coverage_read = Instant::now();
            self.coverage = self.vault.coverage();
        }
        self.published.publish(report::view(&report::Sources {
            options: self.options,
            house: self.house,
            engine: &self.engine,
            sensors,
            vault: self.vault,
            coverage: &self.coverage,
            no_pre_images: self.no_pre_images.as_deref(),
            slow: &self.slow,
            no_blocks: self.no_blocks.as_deref(),
            started: self.started,
            baseline_done: self.baseline_done,
            golden: self.golden.report(),
            late: self.late,
            logs: self.logs,
            lines_of_nobody: self.lines_of_nobody,
            overtaken: self.overtaken,
        }));
    }

    /// A person who gave a command sees its effect in the next view.
    fn publish_now(&self) {
        let mut view = (*self.published.read()).clone();
        view.engine = self.engine.view();
        view.baseline.golden = self.golden.report();
        self.published.publish(view);
    }

    fn end(self) {
        drop(self.orders); // the hands end when the last order is done
        if let Err(error) = self.house.journal().flush() {
            tracing::warn!(%error, "the journal's last inputs may be lost");
        }
    }
}
