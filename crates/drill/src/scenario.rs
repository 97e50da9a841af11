// SPDX-License-Identifier: Apache-2.0
//! What happens in a drill, as data: who does what, in which order, touching which paths. One scenario a file.

pub mod bad_config;
pub mod benign;
pub mod brute_force;
pub mod crash_loop;
pub mod deleted_binary;
pub mod evasion;
pub mod expired_certificate;
pub mod firewall_emptied;
pub mod full_disk;
mod housekeeping;
pub mod insider_slow;
pub mod lateral;
pub mod log_tamper;
pub mod mixed;
pub mod persistence;
pub mod ransomware;
pub mod stolen_key;
pub mod storm;
pub mod supervised_service;
pub mod web_shell;
pub mod wedged_service;

mod shop;

use crate::contest::Contest;
use crate::crowd::Crowd;
use crate::random::Random;
use crate::storm::Storm;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Who takes a step. Each has one ssh session, from an address of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// The named administrator.
    Ops,
    Alice,
    Bob,
    /// Comes in with alice's key; a step marked `root` is taken in the root shell that the weakness gave.
    Intruder,
}

impl Actor {
    #[must_use]
    pub const fn user(self) -> &'static str {
        match self {
            Self::Ops => "ops",
            Self::Bob => "bob",
            Self::Alice | Self::Intruder => "alice",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    pub actor: Actor,
    /// For the narration.
    pub title: String,
    /// ATT&CK technique of an intruder's step.
    pub technique: Option<&'static str>,
    /// POSIX shell; exit status 0 is success.
    pub script: String,
    /// What it is about to change; absolute.
    pub paths: Vec<String>,
    /// Append-only logs that it cuts, or has a daemon write to.
    pub logs: Vec<String>,
    /// Secrets that it reads.
    pub secrets: Vec<String>,
    /// It logs in to the next host: what is done there goes to its standard input.
    pub goes_on: bool,
    /// Waited before the step. References don't wait.
    pub pause: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the base state of all twins: files planted before the boot.
    pub planted: Vec<Planted>,
    /// Files whose package's archive lies in the cache of apt.
    pub archived: Vec<String>,
    /// Files of people and services, planted too.
    pub crowd: Option<Crowd>,
    /// From where people log in, as the agent is told: users, and networks.
    pub logins: Vec<(String, Vec<String>)>,
    /// Whether the agent lays decoys: without them it must see what becomes of the contents.
    pub decoys: bool,
    /// A file on no disk to which a program of the intruder's writes what it touches, where its output goes to no session.
    pub record: Option<String>,
    /// Makes the intruder's shell one of root's.
    pub escalation: String,
    /// Loopback address that the intruder comes from.
    pub source: String,
    /// In order, each actor's steps in theirs; other actors' fall between.
    pub benign: Vec<Step>,
    /// Steps as alice, then steps as root.
    pub attack_user: Vec<Step>,
    pub attack_root: Vec<Step>,
    /// Lines of logs that must be there at the end, whoever cut the log meanwhile: the log, and what the line says.
    pub lines: Vec<(String, String)>,
    /// Techniques that the agent must name once a step with one of them is done.
    pub named: Vec<&'static str>,
    /// Changed by both sides: their steps take turns (two people's editors would, too).
    pub shared: Vec<String>,
    /// Units that must be active at the end.
    pub units: Vec<String>,
    /// Ports on the twin's loopback at which a page must come at the end.
    pub pages: Vec<u16>,
    /// What fails although nobody attacks.
    pub fault: Option<Fault>,
    /// The intruder comes through a web server, from outside; so do customers.
    pub web: Option<Web>,
    /// The intruder comes by ssh from a host outside, after as many keys as this that did not fit.
    pub knocks: Option<Knocks>,
    /// After everybody's work.
    pub storm: Option<Storm>,
    /// What is shown to a person in the end, not put back.
    pub contest: Option<Contest>,
    /// Private keys that lie on it: whose, where, and the owner's number.
    pub keys: Vec<(&'static str, String, u32)>,
    /// Users whom a further key lets in: the user, and whose key.
    pub lets_in: Vec<(&'static str, &'static str)>,
    /// Units that are started before anybody does anything else, and once more in the end.
    pub jobs: Vec<String>,
    /// A person holds the agent back until the attack is over.
    pub held: bool,
    /// A second host on the same cable, to which the intruder goes on from this one.
    pub next: Option<Box<Plan>>,
    /// The intruder comes from the host before, in one ssh session.
    pub from_before: bool,
}

impl Plan {
    /// Somebody attacks.
    #[must_use]
    pub fn attacks(&self) -> bool {
        !(self.attack_user.is_empty() && self.attack_root.is_empty())
    }
}

/// How an intruder tries.
#[derive(Clone, Debug)]
pub struct Knocks {
    pub source: Ipv4Addr,
    pub count: u32,
    /// Hosts outside that listen.
    pub called: Vec<(Ipv4Addr, u16)>,
}

/// How an intruder gets in by requests, at port 8000.
#[derive(Clone, Debug)]
pub struct Web {
    pub source: Ipv4Addr,
    /// Below the site, a script that runs what it is sent: it is there after the second step.
    pub shell: String,
    /// Hosts outside that listen, and are called by what the intruder plants.
    pub called: Vec<(Ipv4Addr, u16)>,
    /// One of these, to which secrets are sent.
    pub sent_to: Ipv4Addr,
}

/// A failure that nobody means: an accident, or a mistake of the administrator's.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// In their order. An actor's come from a session of their own; the harness starts what is nobody's as a unit.
    pub steps: Vec<(Option<Actor>, Step)>,
    /// A part of the true root's title.
    pub root: String,
    /// Whether a person is asked, who then approves: exactly when a person's own work would be taken back.
    pub asks: bool,
    /// Added to the agent's configuration.
    pub configuration: String,
    /// An operator's policy, added to the built-in ones.
    pub policy: String,
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// A harmless shared object.
    pub library: &'a [u8],
    pub soak: Option<Duration>,
}

#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    /// No attack takes place, so nothing may be done.
    pub benign: bool,
    pub plan: fn(&mut Random, Material<'_>) -> Plan,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Path, content, mode and owner of a file.
pub type Planted = (String, String, u32, u32);

/// Every drill there is.
pub const SCENARIOS: [Scenario; 31] = [
    persistence::SCENARIO,
    stolen_key::SCENARIO,
    brute_force::SCENARIO,
    web_shell::SCENARIO,
    lateral::SCENARIO,
    ransomware::IN_PLACE,
    ransomware::COPY,
    ransomware::SLOW,
    ransomware::PARALLEL,
    ransomware::SERVICE,
    ransomware::BULK,
    ransomware::WIPER,
    evasion::URING,
    evasion::MAPPED,
    evasion::NAMELESS,
    evasion::BOUND,
    evasion::DETACHED,
    evasion::DISGUISED,
    log_tamper::SCENARIO,
    insider_slow::SCENARIO,
    mixed::SCENARIO,
    storm::SCENARIO,
    benign::SCENARIO,
    crash_loop::SCENARIO,
    wedged_service::SCENARIO,
    supervised_service::SCENARIO,
    bad_config::SCENARIO,
    deleted_binary::SCENARIO,
    full_disk::SCENARIO,
    expired_certificate::SCENARIO,
    firewall_emptied::SCENARIO,
];

#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Units of the base that must go on, whatever happens.
pub(crate) fn units() -> Vec<String> {
    ["nginx", "ssh", "cron", "rsyslog"].map(str::to_owned).into()
}

pub(crate) fn step(actor: Actor, title: &str, script: impl Into<String>, paths: &[&str]) -> Step {
    Step {
        actor,
        title: title.to_owned(),
        technique: None,
        script: script.into(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        logs: Vec::new(),
        secrets: Vec::new(),
        goes_on: false,
        pause: Duration::ZERO,
    }
}

/// Names as people give them on servers. Both sides draw from the same ones, so that a name tells nobody apart.
const FIRST: [&str; 14] =
    ["log", "net", "disk", "cert", "stat", "sync", "mail", "font", "image", "cache", "time", "user", "web", "db"];
const SECOND: [&str; 12] = [
    "-update", "-check", "-helper", "-agent", "-rotate", "-report", "-push", "-clean", "-index", "-watch", "-monitor",
    "-refresh",
];

/// Names that are different from each other, in a seeded order.
#[derive(Debug)]
pub(crate) struct Names(Vec<String>);

impl Names {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut all: Vec<String> =
            FIRST.iter().flat_map(|first| SECOND.iter().map(move |second| format!("{first}{second}"))).collect();
        random.shuffle(&mut all);
        Self(all)
    }

    /// LIMIT: 168 names, then numbered ones.
    pub(crate) fn take(&mut self) -> String {
        let rest = self.0.len();
        self.0.pop().unwrap_or_else(|| format!("task-{rest}"))
    }
}

/// An ed25519 public key that nobody has the private half of.
pub(crate) fn public_key(random: &mut Random, comment: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let body: String = (0..42).map(|_| char::from(*random.pick(DIGITS))).collect();
    format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{body}A {comment}")
}

/// Bytes as a shell command that prints them.
pub(crate) fn printed(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 40);
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4u32 {
            let used = usize::try_from(place).is_ok_and(|place| place <= chunk.len());
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            text.push(if used { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    format!("printf %s '{text}' | base64 -d")
}

/// Gives every step a pause of 30 to `most` ms.
pub(crate) fn pace(steps: &mut [Step], random: &mut Random, most: u64) {
    for step in steps {
        step.pause = Duration::from_millis(random.between(30, most));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn printed_bytes_come_out_of_a_shell_as_they_went_in() {
        for length in [0usize, 1, 2, 3, 4, 5, 255, 1000] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 256).unwrap()).collect();
            let said = std::process::Command::new("sh").args(["-c", &printed(&bytes)]).output().unwrap();
            assert_eq!(said.stdout, bytes, "{length} bytes");
        }
    }

    #[test]
    fn the_same_seed_plans_the_same_drill_and_another_seed_another() {
        let material = Material { library: b"x", soak: None };
        for scenario in SCENARIOS {
            let plan = |seed| format!("{:?}", (scenario.plan)(&mut Random::new(seed), material));
            assert_eq!(plan(1), plan(1), "{}", scenario.name);
            assert_ne!(plan(1), plan(2), "{}", scenario.name);
        }
    }
}
