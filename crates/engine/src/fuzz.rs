// SPDX-License-Identifier: Apache-2.0
//! What is tried with hostile bytes: by `fuzz/` for as long as one likes, by the tests `hostile` for a moment.
//!
//! In: any bytes. Out: nothing. A target that panics, or does not come back, has found a mistake.

use crate::action::{Action, Expected, Facts, Merge, Outcome, Packaged};
use crate::engine::{Engine, STEP_WORK_MAX};
use crate::event::{
    Activity, AuthService, Authentication, Change, Endpoint, Event, File, FileActivity, FileActivityId, FileKind, Loss,
    Mode as FileMode, NetworkActivity, NetworkActivityId, Origin, Process, ProcessActivity, ProcessActivityId, User,
};
use crate::guard::Policies;
use crate::health::{Certificate, Disk, Firewall, Health, Service};
use crate::input::{Check, Command, Configuration, Effect, Input, Mode};
use crate::merge::{self, Version};
use crate::{ActionId, BootId, EventId, FileKey, HostPath, IncidentId, ProcessKey, Timestamp, VersionId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A reader of bytes that somebody else may have chosen.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// One word.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// What well-formed bytes look like, so that damage goes deep. At least one.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl Target {
    /// Runs so many rounds of [`Target::hostile`]; the first that panics, in words.
    #[must_use]
    pub fn try_all(&self, rounds: u64) -> Option<String> {
        (0..rounds).find_map(|round| {
            let bytes = self.hostile(round);
            let panics = std::panic::catch_unwind(|| (self.run)(&bytes)).is_err();
            panics.then(|| format!("{} panics in round {round}: {}", self.name, bytes.escape_ascii()))
        })
    }

    /// The seeds, then damaged ones and noise. The same round gives the same bytes, always.
    #[must_use]
    pub fn hostile(&self, round: u64) -> Vec<u8> {
        let seeds = (self.seeds)();
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        if let Some(seed) = usize::try_from(round).ok().and_then(|at| seeds.get(at)) {
            return seed.clone();
        }
        let mut bytes = match dice.below(8) {
            0 => (0..dice.below(600)).map(|_| dice.byte()).collect(),
            _ => seeds.get(dice.below(seeds.len())).cloned().unwrap_or_default(),
        };
        for _ in 0..=dice.below(6) {
            let (at, length) = (dice.below(bytes.len() + 1), dice.below(24));
            let end = (at + length).min(bytes.len());
            match dice.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.splice(at..at, (0..length).map(|_| dice.byte())).for_each(drop),
                3 => {
                    let other = seeds.get(dice.below(seeds.len())).cloned().unwrap_or_default();
                    bytes.truncate(at);
                    bytes.extend(&other[at.min(other.len())..]);
                }
                4 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again).for_each(drop);
                }
                5 => {
                    let extreme = [0, 1, 0x7f, 0x80, 0xff, b'9', b'{', b'\n'][dice.below(8)];
                    bytes[at..end].fill(extreme);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = dice.byte();
                    }
                }
            }
        }
        bytes
    }
}

/// Marsaglia's xorshift: no chance in it, only variety.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[3]
    }
}

/// All of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "inputs", run: inputs, seeds: input_seeds },
    Target { name: "deeds", run: deeds, seeds: deed_seeds },
    Target { name: "health", run: health, seeds: health_seeds },
    Target { name: "policies", run: policies, seeds: policy_seeds },
    Target { name: "merge", run: merging, seeds: merge_seeds },
    Target { name: "path_text", run: path_text, seeds: || vec![b"/etc/a\\x0ab \xc3\xa9".to_vec()] },
];

#[derive(Serialize, Deserialize)]
struct Line {
    now: Timestamp,
    input: Input,
}

/// LIMIT: inputs of one run, and answers given to one input.
const INPUTS_MAX: usize = 400;
const ANSWERS_MAX: usize = 200;

fn configuration() -> Configuration {
    Configuration {
        mode: Mode::Autonomous,
        scope_permits_action: true,
        administrators: vec![1000],
        logins: Vec::new(),
        protected: ["/etc", "/usr", "/root", "/home", "/var"].map(HostPath::from).into(),
        append_only: vec!["/var/log/*.log".to_owned()],
        change_tools: vec![HostPath::from("/usr/bin/dpkg")],
        never_touch: vec![who(0)],
        decoys: Vec::new(),
        never_touch_paths: vec![HostPath::from("/var/lib/thymus")],
        never_block: vec![crate::network::Network::from(std::net::IpAddr::from([203, 0, 113, 7]))],
        policies: Policies::defaults(),
        boot_to_unix_ns: 1_700_000_000_000_000_000,
        actions_per_minute: crate::guard::ACTIONS_PER_MINUTE,
        answer_ns: crate::input::ANSWER_NS,
    }
}

/// An engine with hands that do what it says, and what must hold of it after each input.
struct Trial {
    engine: Engine,
    effects: Vec<Effect>,
    hands: bool,
}

impl Trial {
    fn new(hands: bool) -> Self {
        let (mut engine, mut effects) = (Engine::new(), Vec::new());
        engine.step(Timestamp(0), Input::Configured(Box::new(configuration())), &mut effects);
        Self { engine, effects, hands }
    }

    fn input(&mut self, now: Timestamp, input: Input) {
        let mut pending = VecDeque::from([input]);
        for _ in 0..ANSWERS_MAX {
            let Some(input) = pending.pop_front() else { return };
            let work = self.engine.step(now, input, &mut self.effects);
            assert!(work.units <= STEP_WORK_MAX, "{} units in one step", work.units);
            let hands = self.hands;
            pending.extend(self.effects.drain(..).filter_map(answer).filter(|_| hands));
            if work.pending && pending.is_empty() {
                pending.push_back(Input::Tick);
            }
        }
    }

    /// What readers see can be written down and read again.
    fn end(self) {
        let view = self.engine.view();
        let text = serde_json::to_string(&view);
        assert!(
            text.is_ok_and(|text| serde_json::from_str(&text).is_ok_and(|again: crate::engine::View| again == view))
        );
    }
}

/// Perfect hands: everything is as expected, succeeds and holds, and nobody brings anything back.
#[must_use]
pub fn answer(effect: Effect) -> Option<Input> {
    match effect {
        Effect::Prepare { action, what, .. } => {
            let again = matches!(&what, Action::RestoreFile(restore) if restore.again);
            let facts = Facts {
                as_expected: if again { Expected::AlreadyDone } else { Expected::Yes },
                undo_ready: true,
                merge: Merge::Exact,
                never_touch: false,
                evidence_saved: true,
                targets: what.target_count(),
                left_out: Vec::new(),
                needed: None,
                holders: Vec::new(),
                interrupts: false,
                genuine: Vec::new(),
            };
            Some(Input::Prepared { action, facts })
        }
        Effect::Commit { action, .. } | Effect::Reflex { action, .. } => {
            Some(Input::Outcome { action, outcome: Outcome::Success })
        }
        Effect::Verify { incident, .. } => {
            let check = Check { name: "content".to_owned(), holds: true, detail: "as wanted".to_owned() };
            Some(Input::Proven { incident, checks: vec![check] })
        }
        Effect::Drop { .. }
        | Effect::Aside { .. }
        | Effect::Ask { .. }
        | Effect::Renew { .. }
        | Effect::Finding(_)
        | Effect::Incident(_)
        | Effect::Storm { .. } => None,
    }
}

/// Recorded lines, those of them that are any.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = (Timestamp, Input)> {
    let lines = bytes.split(|byte| *byte == b'\n').take(INPUTS_MAX);
    lines.filter_map(|line| serde_json::from_slice(line).ok()).map(|Line { now, input }| (now, input))
}

fn inputs(bytes: &[u8]) {
    let mut trial = Trial::new(true);
    for (now, input) in lines(bytes) {
        trial.input(now, input);
    }
    trial.end();
}

fn input_seeds() -> Vec<Vec<u8>> {
    let text = |deeds: &[u8]| {
        let lines = told(deeds).into_iter().map(|(now, input)| serde_json::to_vec(&Line { now, input }));
        lines.filter_map(Result::ok).collect::<Vec<_>>().join(&b'\n')
    };
    deed_seeds().iter().map(|deeds| text(deeds)).collect()
}

const PROGRAMS: [&str; 12] = [
    "/usr/sbin/sshd",
    "/usr/bin/bash",
    "/usr/bin/sudo",
    "/usr/sbin/cron",
    "/usr/lib/systemd/systemd",
    "/usr/bin/dpkg",
    "/usr/bin/cp",
    "/usr/sbin/nginx",
    "/tmp/x",
    "/usr/sbin/useradd",
    "/usr/bin/sed",
    "/dev/shm/\u{1}\\",
];
const PATHS: [&str; 16] = [
    "/root/.ssh/authorized_keys",
    "/etc/cron.d/refresh",
    "/etc/systemd/system/a.service",
    "/etc/systemd/system/a.timer",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/pam.d/sshd",
    "/etc/ld.so.preload",
    "/etc/profile.d/lang.sh",
    "/usr/bin/ps",
    "/var/log/auth.log",
    "/var/tmp/.cache",
    "/tmp/scratch",
    "/home/alice/notes",
    "/etc/ssh/sshd_config",
    "/",
];
const DEED_BYTES: usize = 6;

fn who(number: u8) -> ProcessKey {
    ProcessKey { boot: BootId(1), pid: u32::from(number % 24) + 1, start_time: Timestamp(u64::from(number / 24)) }
}

/// Every probe may say anything of anybody at any time, between deeds that change what services are made of.
fn health(bytes: &[u8]) {
    let mut trial = Trial::new(bytes.last().is_none_or(|last| last % 4 != 1));
    let mut now = 1_000_000_000_u64;
    for answer in bytes.chunks_exact(DEED_BYTES).take(INPUTS_MAX) {
        now = now.saturating_add(u64::from(answer[5]) * 50_000_000);
        if answer[0] & 1 == 0 {
            trial.input(Timestamp(now), Input::Health(told_of_health(answer)));
        } else {
            told(answer).into_iter().for_each(|(_, input)| trial.input(Timestamp(now), input));
        }
        trial.input(Timestamp(now), Input::Tick);
    }
    trial.end();
}

fn told_of_health(answer: &[u8]) -> Health {
    let at = |index: usize| answer.get(index).copied().unwrap_or_default();
    let (kind, which, state, what, more) = (at(0) >> 1, at(1), at(2), at(3), at(4));
    let path = |number: u8| HostPath::from(PATHS[usize::from(number) % PATHS.len()]);
    let one = |name: &str, holds| Check { name: name.to_owned(), holds, detail: path(more).to_string() };
    let packaged = |number: u8| Packaged {
        path: path(number),
        package: "app".to_owned(),
        version: "1".to_owned(),
        architecture: "all".to_owned(),
        shipped: path(number),
        wanted: (number & 2 == 0).then(|| "0".repeat(32)),
        found: (number & 4 == 0).then(|| "1".repeat(32)),
        configuration: number & 8 == 0,
    };
    match kind % 8 {
        0 => Health::Disk(Disk {
            path: path(which % 2),
            free_bytes: u64::from(state),
            least_bytes: 100,
            freeable: (0..what % 4).map(|number| (path(number), u64::from(more))).collect(),
        }),
        1 => Health::Firewall(Firewall { path: path(which), rules: u64::from(state % 2), wanted: u64::from(what % 2) }),
        2 => Health::Certificate(Certificate {
            path: path(which % 2),
            unit: "a.service".to_owned(),
            shown_expired: [None, Some(false), Some(true)][usize::from(state) % 3],
            file_expired: what & 1 == 0,
            renewable: what & 2 == 0,
        }),
        _ => Health::Service(Box::new(Service {
            unit: ["a.service", "b.service", "c.service", "d.service", "", "thymus.service"][usize::from(which) % 6]
                .to_owned(),
            declared: which & 8 == 0,
            active: ["active", "failed", "inactive", "activating", "reloading", ""][usize::from(state) % 6].to_owned(),
            result: ["success", "exit-code", "gone", "signal"][usize::from(state >> 4) % 4].to_owned(),
            restarts: u32::from(what % 8),
            turn: u64::from(what / 8),
            watches: (0..more % 5).map(path).collect(),
            missing: (0..u8::from(more & 16 != 0)).map(path).collect(),
            probes: vec![one("tcp", more & 32 == 0)],
            test: (more & 64 != 0).then(|| one("test", more & 8 == 0)),
            log: vec![path(what).to_string()],
            packaged: (0..more / 64).map(|number| packaged(number.wrapping_mul(5).wrapping_add(what))).collect(),
            ..Service::default()
        })),
    }
}

/// Well, then failing in one way or another for a while, and well again.
fn health_seeds() -> Vec<Vec<u8>> {
    let run = |states: &[(u8, u8)]| {
        let answers = |(state, more): &(u8, u8)| [6, 0, *state, 8, *more, 20].repeat(12);
        states.iter().flat_map(answers).collect::<Vec<u8>>()
    };
    vec![
        run(&[(0, 3), (1, 3), (0, 3)]),
        run(&[(0, 3), (0, 35), (0, 3)]),
        run(&[(0, 3), (1, 0x13), (1, 0x93), (0, 3)]),
        run(&[(0, 3), (1, 0x43), (1, 0xc3), (0, 3)]),
        [2, 0, 0, 3, 9, 20].repeat(20),
        [&[2, 0, 1, 1, 0, 20].repeat(4)[..], &[2, 0, 0, 1, 0, 20].repeat(20)].concat(),
        [4, 0, 2, 0, 0, 20].repeat(20),
    ]
}

/// Six bytes, one deed: what few processes do to few paths, in any order and against all sense.
fn told(bytes: &[u8]) -> Vec<(Timestamp, Input)> {
    let mut now = 1_000_000_000_u64;
    let mut told = Vec::new();
    for (number, deed) in (1_u64..).zip(bytes.chunks_exact(DEED_BYTES)).take(INPUTS_MAX) {
        let [kind, actor, other, thing, detail, later] = *deed else { continue };
        now = now.saturating_add(u64::from(later) * u64::from(later) * 250_000);
        let path = HostPath::from(PATHS[usize::from(thing) % PATHS.len()]);
        let second = HostPath::from(PATHS[usize::from(detail) % PATHS.len()]);
        let user = User {
            uid: [0, 0, 33, 1000, 1001, 1002][usize::from(detail) % 6],
            euid: if detail & 64 == 0 { 0 } else { 1001 },
            gid: 0,
            login_uid: [u32::MAX, 1000, 1001][usize::from(detail) % 3],
        };
        let endpoint = Endpoint { ip: [192, 0, 2, detail].into(), port: 4_000 };
        let program = PROGRAMS[usize::from(thing) % PROGRAMS.len()];
        let process = |key: ProcessKey, parent: ProcessKey| Process {
            key,
            parent,
            file: Some(File { path: program.into(), key: FileKey::default() }),
            cmd_line: vec![program.to_owned(), "-c".to_owned()],
            user,
            unit: (detail & 8 != 0)
                .then(|| ["session-3.scope", "cron.service", "a.service"][usize::from(detail) % 3].to_owned()),
            socket_stdio: if detail & 128 == 0 { 0 } else { 3 },
            fileless: detail & 32 != 0,
            origin: (detail & 16 != 0).then(|| Origin { path: second.clone(), version: VersionId(u64::from(other)) }),
            src_endpoint: (detail & 4 != 0).then(|| endpoint.clone()),
            ..Process::default()
        };
        let version = |before: u64| Change {
            before: VersionId(number.saturating_sub(before % 40)),
            created: detail & 1 != 0,
            after: VersionId(number),
            removed: detail & 2 != 0,
        };
        let does = |activity, key, parent| {
            let exit_code = (activity == ProcessActivityId::Terminate).then_some(i32::from(detail));
            let process = process(key, parent);
            Activity::Process(ProcessActivity { activity, actor: who(actor), process, exit_code })
        };
        let touches = |activity, to: Option<&HostPath>| {
            let change = (detail & 4 == 0).then(|| version(u64::from(other)));
            Activity::File(FileActivity {
                activity,
                actor: who(actor),
                file: File { path: path.clone(), key: FileKey { device: 1, inode: u64::from(thing), generation: 0 } },
                kind: [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Other]
                    [usize::from(other) % 4],
                file_result: to.cloned(),
                change,
                change_result: change.filter(|_| to.is_some()),
                mode: (detail & 8 == 0).then_some(FileMode { bits: u16::from(other) << 4, uid: user.uid, gid: 0 }),
                target: None,
            })
        };
        let action = ActionId(u64::from(other));
        let outcome = || match detail % 5 {
            0 => Outcome::Success,
            1 => Outcome::DoesNotExist,
            2 => Outcome::Reverted("no room".to_owned()),
            3 => Outcome::Failed("no room".to_owned()),
            _ => Outcome::Undone,
        };
        let activity = match kind % 32 {
            0..=3 => does(ProcessActivityId::Fork, who(other), who(actor)),
            4..=6 => does(ProcessActivityId::Exec, who(actor), who(other)),
            7 => does(ProcessActivityId::Terminate, who(actor), who(other)),
            8 => does(ProcessActivityId::SetUserId, who(actor), who(other)),
            9 => does(ProcessActivityId::Inject, who(other), who(actor)),
            10 => does(ProcessActivityId::Inventory, who(actor), who(other)),
            11 => touches(FileActivityId::Create, None),
            12 => touches(FileActivityId::Update, None),
            13..=15 => touches(FileActivityId::Close, None),
            16 => touches(FileActivityId::Delete, None),
            17 => touches(FileActivityId::Rename, Some(&second)),
            18 => touches(FileActivityId::SetAttributes, None),
            19 => touches(FileActivityId::SetSecurity, None),
            20 => touches(FileActivityId::Open, None),
            21 => touches(FileActivityId::Link, Some(&second)),
            22 => Activity::Authentication(Authentication {
                logon: detail & 1 == 0,
                session: who(actor),
                service: [AuthService::Sshd, AuthService::Su, AuthService::Sudo, AuthService::Login]
                    [usize::from(other) % 4],
                actor_uid: Some(user.uid),
                uid: user.euid,
                src_endpoint: Some(endpoint),
            }),
            23 if detail & 8 == 0 => Activity::Network(NetworkActivity {
                activity: [
                    NetworkActivityId::Open,
                    NetworkActivityId::Close,
                    NetworkActivityId::Refuse,
                    NetworkActivityId::Listen,
                ][usize::from(other) % 4],
                actor: who(actor),
                inbound: detail & 1 == 0,
                local: endpoint.clone(),
                remote: (detail & 2 == 0).then(|| Endpoint { port: thing.into(), ..endpoint.clone() }),
                traffic: None,
                before: detail & 4 == 0,
            }),
            23 => Activity::Loss(Loss {
                source: "file/queue".to_owned(),
                count: u64::from(other),
                since: Timestamp(u64::from(detail)),
                until: Timestamp(now),
            }),
            _ => {
                let input = match kind % 8 {
                    0 => Input::Outcome { action, outcome: outcome() },
                    1 => Input::Unprepared { action, why: "gone".to_owned() },
                    2 => Input::Command(Command::Approve { action }),
                    3 => Input::Command(Command::Hold { until: Timestamp(now + 1_000_000_000), why: String::new() }),
                    4 => Input::Command(Command::Judge {
                        incident: IncidentId(u64::from(other) % 4),
                        true_positive: detail & 1 == 0,
                    }),
                    5 => Input::Command(Command::BaselineAccepted { paths: vec![path] }),
                    6 => Input::Restarted { settled: vec![(action, outcome())] },
                    _ => Input::Tick,
                };
                told.push((Timestamp(now), input));
                continue;
            }
        };
        told.push((Timestamp(now), Input::Event(Event { id: EventId(number), time: Timestamp(now), activity })));
    }
    told
}

/// The first byte says whether the hands answer.
fn deeds(bytes: &[u8]) {
    let Some((flags, deeds)) = bytes.split_first() else { return };
    let mut trial = Trial::new(flags & 1 == 0);
    for (now, input) in told(deeds) {
        trial.input(now, input);
    }
    trial.end();
}

/// A login by a stolen key whose shell changes things, and noise.
fn deed_seeds() -> Vec<Vec<u8>> {
    let login: &[[u8; DEED_BYTES]] = &[
        [10, 0, 0, 4, 0, 1],
        [10, 1, 0, 0, 0, 1],
        [0, 1, 2, 0, 0, 1],
        [4, 2, 1, 0, 4 | 8, 1],
        [8, 2, 1, 0, 4 | 64, 1],
        [4, 2, 1, 1, 4 | 64, 2],
        [0, 2, 3, 1, 4, 1],
        [4, 3, 2, 2, 64, 1],
        [11, 3, 0, 1, 1, 1],
        [13, 3, 0, 1, 1, 1],
        [13, 3, 4, 0, 0, 3],
        [13, 3, 4, 7, 1, 3],
        [17, 3, 4, 9, 4, 3],
        [18, 3, 4, 11, 0, 3],
        [16, 3, 0, 10, 2, 1],
        [31, 0, 0, 0, 0, 60],
        [31, 0, 0, 0, 0, 200],
    ];
    let noise = (0..240_u8).map(|at| at.wrapping_mul(37).wrapping_add(at >> 3));
    vec![[&[0], login.concat().as_slice()].concat(), [&[1], login.concat().as_slice()].concat(), noise.collect()]
}

fn policies(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Policies::load(&[("hostile".to_owned(), text.to_owned())]);
}

fn policy_seeds() -> Vec<Vec<u8>> {
    Policies::defaults().into_iter().map(|(_, text)| text.into_bytes()).collect()
}

/// Versions end with 0xff; the first byte of each says whose it is and whether it was there at all.
fn merging(bytes: &[u8]) {
    let parts: Vec<(u8, &[u8])> = bytes
        .split(|byte| *byte == 0xff)
        .map(|part| part.split_first().map_or((0, part), |(first, rest)| (*first, rest)))
        .collect();
    let there = |part: &(u8, &[u8])| part.0 & 2 == 0;
    let Some((base, later)) = parts.split_first() else { return };
    let before = there(base).then_some(base.1);
    let versions: Vec<Version<'_>> =
        later.iter().map(|part| Version { content: there(part).then_some(part.1), attack: part.0 & 1 != 0 }).collect();
    let merged = merge::merge(before, &versions);
    let contents: Vec<Option<&[u8]>> = versions.iter().map(|version| version.content).collect();
    if versions.iter().all(|version| !version.attack)
        && let merge::Merged::Merged { content, .. } = &merged
    {
        assert_eq!(content.as_deref(), contents.last().copied().unwrap_or(before), "nothing was to be taken out");
    }
    let _ = merge::blame(before, &contents, base.1);
    let _ = merge::append_only(base.1, later.last().map_or(b"", |last| last.1));
}

fn merge_seeds() -> Vec<Vec<u8>> {
    vec![
        b"0one\ntwo\nthree\n\xff1one\ntwo\nbad\nthree\n\xff0zero\none\ntwo\nbad\nthree\n\xff0one\nbad\nthree".to_vec(),
        b"0a\n\xff2\xff1b\n\xff0b\nc\n".to_vec(),
    ]
}

fn path_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(path) = HostPath::from_text(text) {
        assert_eq!(HostPath::from_text(&path.to_string()), Some(path.clone()));
        assert!(path.is_within(path.parent()) || path.as_bytes().first() != Some(&b'/'));
    }
}
