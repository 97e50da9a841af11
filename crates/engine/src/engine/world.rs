// SPDX-License-Identifier: Apache-2.0
//! A host made of events, and hands that do what they are told: for scenario tests and benches of the engine.

use crate::action::{Action, Expected, Facts, Genuine, Merge, Outcome};
use crate::engine::{Engine, Work};
use crate::event::{
    Activity, Change, Confidence, Endpoint, Event, File, FileActivity, FileActivityId, FileKind, Finding,
    NetworkActivity, NetworkActivityId, Origin, Process, ProcessActivity, ProcessActivityId, Traffic, User,
};
use crate::id::{ActionId, BootId, EventId, FileKey, FindingId, ProcessKey, Timestamp, VersionId};
use crate::incident::Incident;
use crate::input::{Check, Configuration, Effect, Input, Mode};
use crate::path::HostPath;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const ALICE: u32 = 1001;
pub(crate) const OPS: u32 = 1000;
const MS: u64 = 1_000_000;

pub(crate) fn configuration(mode: Mode) -> Configuration {
    Configuration {
        mode,
        scope_permits_action: true,
        administrators: vec![OPS],
        logins: Vec::new(),
        protected: ["/etc", "/usr", "/home", "/var", "/root"].map(HostPath::from).into(),
        append_only: vec!["/var/log/*".into(), "/var/log/*/*".into()],
        change_tools: ["/usr/bin/dpkg", "/usr/bin/apt"].map(HostPath::from).into(),
        never_touch: Vec::new(),
        decoys: Vec::new(),
        never_touch_paths: vec![HostPath::from("/var/lib/thymus")],
        never_block: vec!["203.0.113.0/24".parse().unwrap()],
        policies: crate::guard::Policies::defaults(),
        boot_to_unix_ns: 0,
        actions_per_minute: crate::guard::ACTIONS_PER_MINUTE,
        answer_ns: crate::input::ANSWER_NS,
    }
}

/// What the hands still have to answer.
#[derive(Clone, Debug)]
enum Order {
    Prepare(ActionId),
    Commit(ActionId),
    Stop(ActionId),
    Verify(crate::id::IncidentId),
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) engine: Engine,
    /// Every input so far, with its time.
    pub(crate) inputs: Vec<(Timestamp, Input)>,
    /// Every effect so far.
    pub(crate) effects: Vec<Effect>,
    pub(crate) work_max: u32,
    now: u64,
    events: u64,
    pids: u32,
    versions: u64,
    findings: u64,
    processes: BTreeMap<ProcessKey, Process>,
    paths: BTreeMap<HostPath, (VersionId, bool)>,
    actions: BTreeMap<ActionId, Action>,
    orders: Vec<Order>,
    /// Facts to answer with, by path; `Yes` and exact when not named.
    pub(crate) facts: BTreeMap<HostPath, (Expected, Merge)>,
    /// Services that write to a file that has lost its name to what stands at this path, until they are reloaded.
    pub(crate) holders: BTreeMap<HostPath, Vec<String>>,
    /// Restored paths in which lines of the attack are again.
    pub(crate) returned: BTreeSet<HostPath>,
    /// Paths that an action on many finds otherwise than planned, once.
    pub(crate) misfits: BTreeSet<HostPath>,
    /// So many actions on many files end after half of them.
    pub(crate) cut_short: usize,
    /// Files that are as their packages ship them, by path, or by unit.
    pub(crate) genuine: BTreeMap<HostPath, Genuine>,
    /// Units whose processes run when they are to be started again.
    pub(crate) running: BTreeSet<String>,
    /// Processes that the hands find in a session beyond those named, once.
    pub(crate) joining: usize,
    pub(crate) listener: ProcessKey,
    pub(crate) cron: ProcessKey,
    pub(crate) init: ProcessKey,
    /// The engine is stored, loaded and told of a restart before this input.
    pub(crate) crash_at: Option<usize>,
}

impl World {
    pub(crate) fn new(mode: Mode) -> Self {
        Self::with(Engine::new(), configuration(mode))
    }

    pub(crate) fn with(engine: Engine, configuration: Configuration) -> Self {
        let mut world = Self {
            engine,
            inputs: Vec::new(),
            effects: Vec::new(),
            work_max: 0,
            now: 1_000 * MS,
            events: 0,
            pids: 99,
            versions: 1_000,
            findings: 0,
            processes: BTreeMap::new(),
            paths: BTreeMap::new(),
            actions: BTreeMap::new(),
            orders: Vec::new(),
            facts: BTreeMap::new(),
            holders: BTreeMap::new(),
            returned: BTreeSet::new(),
            misfits: BTreeSet::new(),
            cut_short: 0,
            genuine: BTreeMap::new(),
            running: BTreeSet::new(),
            joining: 0,
            listener: ProcessKey::default(),
            cron: ProcessKey::default(),
            init: ProcessKey::default(),
            crash_at: None,
        };
        for path in ["/etc/passwd", "/etc/ssh/sshd_config", "/etc/app.conf", "/var/www/index.html", "/var/log/auth.log"]
        {
            world.versions += 1;
            world.paths.insert(HostPath::from(path), (VersionId(world.versions), true));
        }
        world.input(Input::Configured(Box::new(configuration)));
        world.init = world.there(ProcessKey::default(), "/usr/lib/systemd/systemd", None);
        world.listener = world.there(world.init, "/usr/sbin/sshd", Some("ssh.service"));
        world.cron = world.there(world.init, "/usr/sbin/cron", Some("cron.service"));
        world
    }

    // ---- what happens on the host ----

    pub(crate) fn there(&mut self, parent: ProcessKey, exe: &str, unit: Option<&str>) -> ProcessKey {
        let key = self.next_key();
        let process = Process {
            key,
            parent,
            file: Some(self.program(exe)),
            cmd_line: vec![exe.to_owned()],
            unit: unit.map(ToOwned::to_owned),
            user: User { login_uid: u32::MAX, ..User::default() },
            ..Process::default()
        };
        self.processes.insert(key, process);
        self.process_event(ProcessActivityId::Inventory, key, key);
        key
    }

    pub(crate) fn fork(&mut self, parent: ProcessKey) -> ProcessKey {
        let key = self.next_key();
        let mut process = self.processes.get(&parent).cloned().unwrap_or_default();
        (process.key, process.parent, process.origin, process.src_endpoint) = (key, parent, None, None);
        process.cmd_line = Vec::new();
        self.processes.insert(key, process);
        self.process_event(ProcessActivityId::Fork, parent, key);
        key
    }

    pub(crate) fn exec(&mut self, key: ProcessKey, arguments: &[&str]) {
        self.exec_of(key, arguments, None, None);
    }

    /// With the origin that the host found for it, and the unit that it runs in.
    pub(crate) fn exec_of(&mut self, key: ProcessKey, arguments: &[&str], origin: Option<Origin>, unit: Option<&str>) {
        let file = Some(self.program(arguments[0]));
        if let Some(process) = self.processes.get_mut(&key) {
            process.file = file;
            process.cmd_line = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            process.origin = origin;
            if unit.is_some() {
                process.unit = unit.map(ToOwned::to_owned);
            }
        }
        self.process_event(ProcessActivityId::Exec, key, key);
    }

    /// Runs a program to its end.
    pub(crate) fn run(&mut self, parent: ProcessKey, arguments: &[&str], then: impl FnOnce(&mut Self, ProcessKey)) {
        let key = self.fork(parent);
        self.exec(key, arguments);
        then(self, key);
        self.exit(key);
    }

    pub(crate) fn exit(&mut self, key: ProcessKey) {
        self.process_event(ProcessActivityId::Terminate, key, key);
        self.processes.remove(&key);
    }

    /// A login by ssh; its shell.
    pub(crate) fn login(&mut self, uid: u32, origin: Option<Origin>) -> ProcessKey {
        self.login_from([127, 0, 0, 2], uid, origin)
    }

    pub(crate) fn login_from(&mut self, address: [u8; 4], uid: u32, origin: Option<Origin>) -> ProcessKey {
        let session = self.fork(self.listener);
        if let Some(process) = self.processes.get_mut(&session) {
            process.src_endpoint = Some(Endpoint { ip: address.into(), port: 40_000 });
        }
        self.exec_of(session, &["/usr/sbin/sshd", "-R"], origin, None);
        let shell = self.fork(session);
        if let Some(process) = self.processes.get_mut(&shell) {
            process.user = User { uid, euid: uid, gid: uid, login_uid: uid };
        }
        self.process_event(ProcessActivityId::SetUserId, shell, shell);
        self.exec(shell, &["/usr/bin/bash"]);
        shell
    }

    /// As by a program that is set-user-id.
    pub(crate) fn become_root(&mut self, key: ProcessKey) {
        if let Some(process) = self.processes.get_mut(&key) {
            process.user.euid = 0;
        }
        self.process_event(ProcessActivityId::SetUserId, key, key);
    }

    /// A script that a server runs for a request.
    pub(crate) fn request(&mut self, server: ProcessKey, address: [u8; 4]) -> ProcessKey {
        let key = self.fork(server);
        self.comes_from(key, address);
        self.exec(key, &["/usr/bin/perl"]);
        key
    }

    /// What its environment says, from its next program on.
    pub(crate) fn comes_from(&mut self, key: ProcessKey, address: [u8; 4]) {
        if let Some(process) = self.processes.get_mut(&key) {
            process.src_endpoint = Some(Endpoint { ip: address.into(), port: 40_000 });
        }
    }

    /// Opens a secret for reading.
    pub(crate) fn read(&mut self, actor: ProcessKey, path: &str) {
        self.file_event(actor, path, FileActivityId::Read, FileKind::Regular, None, None);
    }

    /// Writes a file as a whole; the version it became.
    pub(crate) fn write(&mut self, actor: ProcessKey, path: &str) -> VersionId {
        let (before, existed) = self.state(path);
        let after = self.version();
        let kind = FileKind::Regular;
        if !existed {
            let change = Change { before, created: true, after, removed: false };
            self.file_event(actor, path, FileActivityId::Create, kind, Some(change), None);
        }
        self.file_event(actor, path, FileActivityId::Update, kind, None, None);
        let (before, after) = if existed { (before, after) } else { (after, self.version()) };
        let change = Change { before, created: false, after, removed: false };
        self.paths.insert(HostPath::from(path), (after, true));
        self.returned.remove(&HostPath::from(path));
        self.file_event(actor, path, FileActivityId::Close, kind, Some(change), None);
        after
    }

    /// A daemon that has held a log open since long ago adds to it: nothing is told, but the vault finds another state.
    pub(crate) fn add_unseen(&mut self, path: &str) -> VersionId {
        let version = self.version();
        self.paths.insert(HostPath::from(path), (version, true));
        version
    }

    /// As [`World::write`], with lines of the attack in it that had been taken out.
    pub(crate) fn bring_back(&mut self, actor: ProcessKey, path: &str) -> VersionId {
        let version = self.write(actor, path);
        self.returned.insert(HostPath::from(path));
        version
    }

    pub(crate) fn create(&mut self, actor: ProcessKey, path: &str, kind: FileKind) {
        let (before, _) = self.state(path);
        let after = self.version();
        self.paths.insert(HostPath::from(path), (after, true));
        let change = Change { before, created: true, after, removed: false };
        self.file_event(actor, path, FileActivityId::Create, kind, Some(change), None);
    }

    /// A symbolic link that leads to `target`.
    pub(crate) fn link_to(&mut self, actor: ProcessKey, path: &str, target: &str) {
        let (before, _) = self.state(path);
        let after = self.version();
        self.paths.insert(HostPath::from(path), (after, true));
        let file = File { path: HostPath::from(path), key: FileKey::default() };
        self.event(Activity::File(FileActivity {
            activity: FileActivityId::Create,
            actor,
            file,
            kind: FileKind::Symlink,
            file_result: None,
            change: Some(Change { before, created: true, after, removed: false }),
            change_result: None,
            mode: None,
            target: Some(HostPath::from(target)),
        }));
    }

    pub(crate) fn remove(&mut self, actor: ProcessKey, path: &str) {
        let (before, _) = self.state(path);
        let after = self.version();
        self.paths.insert(HostPath::from(path), (after, false));
        let change = Change { before, created: false, after, removed: true };
        self.file_event(actor, path, FileActivityId::Delete, FileKind::Regular, Some(change), None);
    }

    pub(crate) fn rename(&mut self, actor: ProcessKey, from: &str, to: &str) {
        let (source, _) = self.state(from);
        let (target, existed) = self.state(to);
        let (gone, after) = (self.version(), self.version());
        self.paths.insert(HostPath::from(from), (gone, false));
        self.paths.insert(HostPath::from(to), (after, true));
        let change = Change { before: source, created: false, after: gone, removed: true };
        let result = Change { before: target, created: !existed, after, removed: false };
        let result = Some((HostPath::from(to), result));
        self.file_event(actor, from, FileActivityId::Rename, FileKind::Regular, Some(change), result);
    }

    /// Outside protected trees, where nothing was seen of the path before.
    pub(crate) fn remove_unprotected(&mut self, actor: ProcessKey, path: &str) {
        self.file_event(actor, path, FileActivityId::Delete, FileKind::Regular, None, None);
    }

    /// Outside protected trees: the vault records nothing.
    pub(crate) fn write_unprotected(&mut self, actor: ProcessKey, path: &str) {
        self.file_event(actor, path, FileActivityId::Create, FileKind::Regular, None, None);
        self.file_event(actor, path, FileActivityId::Close, FileKind::Regular, None, None);
    }

    /// First write of an open file that is not closed.
    pub(crate) fn begin_write(&mut self, actor: ProcessKey, path: &str) {
        self.file_event(actor, path, FileActivityId::Update, FileKind::Regular, None, None);
    }

    /// A claim as a detector makes it.
    pub(crate) fn find(&mut self, process: ProcessKey, analytic: &str, confidence: Confidence) {
        self.find_at(process, analytic, confidence, &[]);
    }

    /// The same, at these paths.
    pub(crate) fn find_at(&mut self, process: ProcessKey, analytic: &str, confidence: Confidence, paths: &[&str]) {
        self.findings += 1;
        let finding = Finding {
            id: FindingId(1_000_000 + self.findings),
            analytic: analytic.to_owned(),
            technique: "T1098.004".to_owned(),
            title: format!("{analytic} was seen"),
            confidence,
            event: EventId(self.events),
            process,
            paths: paths.iter().copied().map(HostPath::from).collect(),
        };
        self.event(Activity::Finding(finding));
    }

    // ---- the hands ----

    /// Answers everything and ticks until nothing more happens.
    pub(crate) fn settle(&mut self) {
        for _ in 0..2_000 {
            self.answer_all();
            let pending = self.tick().pending;
            if self.orders.is_empty()
                && !pending
                && self.incidents().iter().all(|incident| {
                    incident.actions.iter().all(|action| action.settled.is_some() || action.outcome.is_none())
                })
                && self.quiet()
            {
                return;
            }
        }
        panic!("does not settle: {:#?}", self.incidents());
    }

    /// Six seconds of ticks bring no new order.
    fn quiet(&mut self) -> bool {
        for _ in 0..60 {
            self.now += 100 * MS;
            if self.input(Input::Tick).pending || !self.orders.is_empty() {
                return false;
            }
        }
        true
    }

    /// Answers the first that waits for an answer; ticks when none does.
    pub(crate) fn answer_one(&mut self) {
        match self.orders.is_empty() {
            true => drop(self.tick()),
            false => {
                let order = self.orders.remove(0);
                self.answer(order);
            }
        }
    }

    pub(crate) fn answer_all(&mut self) {
        for _ in 0..10_000 {
            if self.orders.is_empty() {
                return;
            }
            let order = self.orders.remove(0);
            self.answer(order);
        }
    }

    fn answer(&mut self, order: Order) {
        match order {
            Order::Stop(action) => {
                self.input(Input::Outcome { action, outcome: Outcome::Success });
            }
            Order::Prepare(action) => {
                let what = self.actions.get(&action).cloned();
                let path = what.as_ref().and_then(|what| match what {
                    Action::RestoreFile(restore) => Some(&restore.path),
                    Action::QuarantineFile { path, .. } => Some(path),
                    _ => None,
                });
                let known = path.and_then(|path| self.facts.remove(path));
                let usual = match &what {
                    Some(Action::RestoreFile(restore)) if restore.again && !self.returned.contains(&restore.path) => {
                        Expected::AlreadyDone
                    }
                    _ => Expected::Yes,
                };
                let (as_expected, merge) = known.unwrap_or((usual, Merge::Exact));
                let misfits = what.iter().flat_map(Action::paths).filter(|path| self.misfits.remove(*path));
                let left_out: Vec<_> = match &what {
                    Some(Action::RestoreFiles { .. }) => {
                        misfits.map(|path| (path.clone(), "changed".to_owned())).collect()
                    }
                    _ => Vec::new(),
                };
                let unit = match &what {
                    Some(Action::RemoveUnit { unit }) => Some(HostPath::from(unit.as_str())),
                    _ => None,
                };
                let named = what.iter().flat_map(Action::paths).chain(&unit);
                let genuine = named.filter_map(|path| self.genuine.get(path)).cloned().collect();
                let interrupts = match &what {
                    Some(Action::RestartService { unit } | Action::ReloadService { unit }) => {
                        self.running.contains(unit)
                    }
                    _ => false,
                };
                let joined = match &what {
                    Some(Action::EndSession { .. }) => std::mem::take(&mut self.joining),
                    Some(Action::TerminateProcesses { processes }) => self.descendants(processes),
                    _ => 0,
                };
                let facts = Facts {
                    as_expected,
                    undo_ready: true,
                    merge,
                    never_touch: false,
                    evidence_saved: true,
                    targets: what.as_ref().map_or(0, Action::target_count) - left_out.len() + joined,
                    left_out,
                    needed: None,
                    holders: path.and_then(|path| self.holders.get(path)).cloned().unwrap_or_default(),
                    interrupts,
                    genuine,
                };
                self.input(Input::Prepared { action, facts });
            }
            Order::Commit(action) => {
                let mut not_done: Vec<(HostPath, String)> = Vec::new();
                match self.actions.get(&action).cloned() {
                    Some(Action::TerminateProcesses { processes } | Action::EndSession { processes, .. }) => {
                        for key in processes {
                            if self.processes.contains_key(&key) {
                                self.exit(key);
                            }
                        }
                    }
                    Some(Action::QuarantineFile { path, .. }) => {
                        let gone = self.version();
                        self.paths.insert(path, (gone, false));
                    }
                    Some(Action::RestoreFiles { files }) => {
                        let done = if self.cut_short > 0 { files.len() / 2 } else { files.len() };
                        self.cut_short = self.cut_short.saturating_sub(1);
                        let left = files.iter().skip(done).map(|file| (file.path.clone(), "ended in the midst".into()));
                        not_done.extend(left);
                        for file in files.iter().take(done) {
                            let state = self.version();
                            self.paths.insert(file.path.clone(), (state, file.base != VersionId::UNKNOWN));
                        }
                    }
                    Some(Action::RestoreFile(restore)) => {
                        let restored = self.version();
                        self.returned.remove(&restore.path);
                        self.paths.insert(restore.path, (restored, true));
                    }
                    Some(
                        Action::SuspendProcesses { .. }
                        | Action::FilterTraffic { .. }
                        | Action::RemoveUnit { .. }
                        | Action::ReloadService { .. }
                        | Action::RestartService { .. }
                        | Action::FreeSpace { .. }
                        | Action::LoadFirewall { .. }
                        | Action::RenewCertificate { .. }
                        | Action::RestorePackaged { .. }
                        | Action::LockAccount { .. }
                        | Action::IsolateHost { .. }
                        | Action::UndoAction { .. },
                    )
                    | None => {}
                }
                let outcome = if not_done.is_empty() { Outcome::Success } else { Outcome::Partly(not_done) };
                self.input(Input::Outcome { action, outcome });
            }
            Order::Verify(incident) => {
                let checks = vec![Check { name: "content".into(), holds: true, detail: "equal".into() }];
                self.input(Input::Proven { incident, checks });
            }
        }
    }

    pub(crate) fn tick(&mut self) -> Work {
        self.wait(100)
    }

    /// Time passes, and nothing happens.
    pub(crate) fn wait(&mut self, ms: u64) -> Work {
        self.now += ms * MS;
        self.input(Input::Tick)
    }

    // ---- looking ----

    pub(crate) fn incidents(&self) -> Vec<Incident> {
        self.engine.view().incidents
    }

    /// The actions begun or asked so far, in order, each once, by name and target.
    pub(crate) fn orders_given(&self) -> Vec<String> {
        let text = |effect: &Effect| match effect {
            Effect::Reflex { processes, .. } => Some(format!("reflex {}", processes.len())),
            Effect::Prepare { what, .. } => Some(match what {
                Action::RestoreFile(restore) if restore.again => format!("compare {}", restore.path),
                Action::RestoreFile(restore) => format!("restore {}", restore.path),
                Action::RestoreFiles { files } => format!("restore {} files", files.len()),
                Action::QuarantineFile { path, .. } => format!("quarantine {path}"),
                Action::RemoveUnit { unit } => format!("remove {unit}"),
                Action::ReloadService { unit } => format!("reload {unit}"),
                Action::RestartService { unit } => format!("restart {unit}"),
                Action::FreeSpace { paths } => format!("free {}", paths.len()),
                Action::LoadFirewall { path } => format!("load {path}"),
                Action::RenewCertificate { path } => format!("renew {path}"),
                Action::RestorePackaged { files } => {
                    let paths: Vec<String> = files.iter().map(|file| file.path.to_string()).collect();
                    format!("unpack {}", paths.join(" "))
                }
                Action::SuspendProcesses { processes } => format!("suspend {}", processes.len()),
                Action::TerminateProcesses { processes } => format!("terminate {}", processes.len()),
                Action::EndSession { processes, .. } => format!("end session {}", processes.len()),
                Action::FilterTraffic { address, extent, .. } => format!("filter {address} {extent:?}"),
                Action::LockAccount { uid, .. } => format!("lock {uid}"),
                Action::IsolateHost { .. } => "isolate".to_owned(),
                Action::UndoAction { of, .. } => format!("undo {of}"),
            }),
            Effect::Verify { .. } => Some("verify".to_owned()),
            Effect::Ask { what, .. } => Some(format!("ask {}", what.name())),
            Effect::Aside { path, .. } => Some(format!("aside {path}")),
            Effect::Commit { .. }
            | Effect::Drop { .. }
            | Effect::Renew { .. }
            | Effect::Finding(_)
            | Effect::Storm { .. }
            | Effect::Incident(_) => None,
        };
        self.effects.iter().filter_map(text).collect()
    }

    // ---- plumbing ----

    pub(crate) fn input(&mut self, input: Input) -> Work {
        if self.crash_at == Some(self.inputs.len()) {
            self.crash_at = None;
            self.crash();
        }
        let now = Timestamp(self.now);
        self.inputs.push((now, input.clone()));
        let mut out = Vec::new();
        let work = self.engine.step(now, input, &mut out);
        self.work_max = self.work_max.max(work.units);
        self.take(out);
        work
    }

    fn take(&mut self, out: Vec<Effect>) {
        for effect in &out {
            match effect {
                Effect::Reflex { action, processes, .. } => {
                    self.actions.insert(*action, Action::SuspendProcesses { processes: processes.clone() });
                    self.orders.push(Order::Stop(*action));
                }
                Effect::Prepare { action, what, .. } => {
                    self.actions.insert(*action, what.clone());
                    self.orders.push(Order::Prepare(*action));
                }
                Effect::Commit { action, .. } => self.orders.push(Order::Commit(*action)),
                Effect::Verify { incident, .. } => self.orders.push(Order::Verify(*incident)),
                Effect::Drop { .. }
                | Effect::Aside { .. }
                | Effect::Ask { .. }
                | Effect::Renew { .. }
                | Effect::Finding(_)
                | Effect::Storm { .. }
                | Effect::Incident(_) => {}
            }
        }
        self.effects.extend(out);
    }

    /// Processes below these that are not among them.
    fn descendants(&self, processes: &[ProcessKey]) -> usize {
        let parent = |key: ProcessKey| self.processes.get(&key).map(|process| process.parent).filter(|up| *up != key);
        let below =
            |key: ProcessKey| std::iter::successors(parent(key), |up| parent(*up)).any(|up| processes.contains(&up));
        self.processes.keys().filter(|key| !processes.contains(key) && below(**key)).count()
    }

    /// The agent dies and comes back: what the hands had not finished is lost, what they had begun is put back.
    fn crash(&mut self) {
        let stored = postcard::to_stdvec(&self.engine).unwrap();
        self.engine = postcard::from_bytes(&stored).unwrap();
        self.orders.clear();
        self.now += 50 * MS;
        self.input(Input::Restarted { settled: Vec::new() });
    }

    pub(crate) fn event(&mut self, activity: Activity) {
        self.events += 1;
        self.now += MS;
        let event = Event { id: EventId(self.events), time: Timestamp(self.now), activity };
        self.input(Input::Event(event));
    }

    fn process_event(&mut self, activity: ProcessActivityId, actor: ProcessKey, key: ProcessKey) {
        let Some(process) = self.processes.get(&key).cloned() else { return };
        self.event(Activity::Process(ProcessActivity { activity, actor, process, exit_code: None }));
    }

    /// A connection of `actor` with host `host` of 192.0.2.0/24: made, and ended after that much.
    pub(crate) fn talk(&mut self, actor: ProcessKey, inbound: bool, (host, port): (u8, u16), traffic: Traffic) {
        let at = |host, port| Endpoint { ip: [192, 0, 2, host].into(), port };
        let (local, remote) = if inbound { (at(1, port), at(host, 40_000)) } else { (at(1, 40_000), at(host, port)) };
        let opened = NetworkActivity {
            activity: NetworkActivityId::Open,
            actor,
            inbound,
            local,
            remote: Some(remote),
            traffic: None,
            before: false,
        };
        self.event(Activity::Network(opened.clone()));
        let closed = NetworkActivity { activity: NetworkActivityId::Close, traffic: Some(traffic), ..opened };
        self.event(Activity::Network(closed));
    }

    fn file_event(
        &mut self,
        actor: ProcessKey,
        path: &str,
        activity: FileActivityId,
        kind: FileKind,
        change: Option<Change>,
        result: Option<(HostPath, Change)>,
    ) {
        let file = File { path: HostPath::from(path), key: FileKey::default() };
        let (file_result, change_result) = result.unzip();
        let activity =
            FileActivity { activity, actor, file, kind, file_result, change, change_result, mode: None, target: None };
        self.event(Activity::File(activity));
    }

    fn program(&self, path: &str) -> File {
        File { path: HostPath::from(path), key: FileKey::default() }
    }

    fn state(&self, path: &str) -> (VersionId, bool) {
        self.paths.get(&HostPath::from(path)).copied().unwrap_or((VersionId::UNKNOWN, false))
    }

    fn version(&mut self) -> VersionId {
        self.versions += 1;
        VersionId(self.versions)
    }

    fn next_key(&mut self) -> ProcessKey {
        self.pids += 1;
        ProcessKey { boot: BootId(7), pid: self.pids, start_time: Timestamp(self.now) }
    }
}
