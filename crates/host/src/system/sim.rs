// SPDX-License-Identifier: Apache-2.0
//! The door onto a world in memory, with faults: what the actions are tried on before they are tried on a real system.
//!
//! Every call is one step. A chosen step fails before it does anything, fails after it was done, or ends everything as
//! `kill -9` would. Two worlds compare as a whole.

use super::{
    AccountsHeld, Blocked, Delivered, Digest, Error, FileState, Life, Probe, ProcessState, Ran, Result, Sent, Signal,
    System, UnitState, UnitVerb, mend, same_process,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thymus_engine::action::Extent;
use thymus_engine::event::FileKind;
use thymus_engine::network::Network;
use thymus_engine::{HostPath, ProcessKey, Timestamp};

/// How the chosen step goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done, and it says so.
    Before,
    /// It was done, and says it was not.
    After,
    /// The agent is killed before it. The unwinding carries a [`Crashed`].
    Crash,
}

/// What every world needs.
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// How a packet filter does other than it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ether {
    #[default]
    AsTold,
    /// An isolated host reaches everybody.
    Leaks,
    /// An isolated host reaches nobody at all.
    Shut,
    /// Somebody else's rules refuse everything, at all times.
    Closed,
    /// The host has no way to anybody.
    Unplugged,
}

/// What a [`Fault::Crash`] unwinds with.
#[derive(Clone, Copy, Debug)]
pub struct Crashed;

/// What compares as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub files: BTreeMap<HostPath, FileState>,
    pub processes: BTreeMap<u32, ProcessState>,
    pub units: BTreeMap<String, UnitState>,
    /// Of the packet filter.
    pub rules: String,
    /// Addresses that are blocked, until when.
    pub filtered: BTreeMap<(IpAddr, Extent), Timestamp>,
    /// Whom the host still talks to, and until when.
    pub isolated: Option<(Vec<Network>, Timestamp)>,
}

#[derive(Debug, Default)]
struct World {
    state: State,
    /// Contents that files of this world have or had.
    contents: BTreeMap<Digest, Vec<u8>>,
    kept: BTreeSet<Digest>,
    now: Timestamp,
    untouchable: BTreeSet<u32>,
    /// Somebody else changes accounts.
    accounts_busy: bool,
    /// What a datagram meets besides.
    network: Ether,
    steps: usize,
    fault: Option<(usize, Fault)>,
}

/// A cheap handle onto one world.
#[derive(Clone, Debug, Default)]
pub struct Sim {
    world: Arc<Mutex<World>>,
}

impl Sim {
    fn world(&self) -> MutexGuard<'_, World> {
        // INVARIANT: a crash unwinds before its step has changed anything.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of all that compares.
    #[must_use]
    pub fn state(&self) -> State {
        self.world().state.clone()
    }

    /// Puts a file there, as if somebody had; gives its state.
    pub fn write(&self, path: &str, content: &[u8], mode: u16) -> FileState {
        let mut world = self.world();
        let digest = Digest::of(content);
        world.contents.insert(digest, content.to_vec());
        let state =
            FileState { mode, content: Some(digest), size: content.len() as u64, links: 1, ..FileState::default() };
        world.state.files.insert(HostPath::from(path), state.clone());
        state
    }

    /// The file is in that state.
    pub fn set_file(&self, path: &str, state: FileState) {
        self.world().state.files.insert(HostPath::from(path), state);
    }

    pub fn make_directory(&self, path: &str) {
        let state = FileState { kind: FileKind::Directory, mode: 0o755, ..FileState::default() };
        self.world().state.files.insert(HostPath::from(path), state);
    }

    /// Content of a file.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let world = self.world();
        world.contents.get(&world.state.files.get(&HostPath::from(path))?.content?).cloned()
    }

    pub fn delete(&self, path: &str) {
        self.world().state.files.remove(&HostPath::from(path));
    }

    /// A process that runs, begun at its pid in ticks.
    pub fn spawn(&self, pid: u32, parent: u32) -> ProcessKey {
        let start_time = Timestamp(u64::from(pid) * super::TICK_NS);
        let key = ProcessKey { boot: super::boot_id(), pid, start_time };
        let state = ProcessState { key, parent, life: Life::Runs, kernel: false, listed: true };
        self.world().state.processes.insert(pid, state);
        key
    }

    pub fn set_unit(&self, unit: &str, state: UnitState) {
        self.world().state.units.insert(unit.to_owned(), state);
    }

    pub fn set_rules(&self, rules: &str) {
        rules.clone_into(&mut self.world().state.rules);
    }

    /// From now on somebody else changes accounts, or no longer.
    pub fn set_accounts_busy(&self, busy: bool) {
        self.world().accounts_busy = busy;
    }

    /// From now on packets go so.
    pub fn set_network(&self, network: Ether) {
        self.world().network = network;
    }

    /// The time that passes.
    pub fn advance(&self, time: Duration) {
        let mut world = self.world();
        world.now.0 += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    pub fn never_touch(&self, pid: u32) {
        self.world().untouchable.insert(pid);
    }

    /// Counts steps from now on; the `step`th goes wrong.
    pub fn fault(&self, fault: Option<(usize, Fault)>) {
        let mut world = self.world();
        world.steps = 0;
        world.fault = fault;
    }

    /// Since the last [`Sim::fault`].
    #[must_use]
    pub fn steps(&self) -> usize {
        self.world().steps
    }

    /// One step: fails as chosen, before or after the work.
    fn step<T>(&self, work: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let mut world = self.world();
        let number = world.steps;
        world.steps += 1;
        match world.fault {
            Some((at, fault)) if at == number => match fault {
                Fault::Before => Err(Error::Injected(number)),
                Fault::After => work(&mut world).and(Err(Error::Injected(number))),
                Fault::Crash => {
                    drop(world);
                    std::panic::resume_unwind(Box::new(Crashed));
                }
            },
            _ => work(&mut world),
        }
    }
}

fn changed<T>(path: &HostPath, difference: &str) -> Result<T> {
    Err(Error::Changed { path: path.clone(), difference: difference.to_owned() })
}

impl World {
    fn expect(&self, path: &HostPath, expected: Option<&FileState>) -> Result<()> {
        match (expected, self.state.files.get(path)) {
            (None, None) => Ok(()),
            (Some(expected), Some(now)) => match expected.difference(now) {
                None => Ok(()),
                Some(difference) => changed(path, &difference),
            },
            (None, Some(_)) => changed(path, "something is there"),
            (Some(_), None) => changed(path, "nothing is there"),
        }
    }

    fn kept(&self, digest: &Digest) -> Result<Vec<u8>> {
        let kept = self.kept.contains(digest).then(|| self.contents.get(digest)).flatten();
        kept.cloned().ok_or(Error::NotKept(*digest))
    }

    fn has_children(&self, path: &HostPath) -> bool {
        self.state.files.keys().any(|other| other != path && other.is_within(path.as_bytes()))
    }

    /// The manager reads its unit files: a unit without one is forgotten unless it runs.
    fn daemon_reload(&mut self) {
        let files = &self.state.files;
        for (name, unit) in &mut self.state.units {
            let there = files.contains_key(&HostPath::from(format!("/etc/systemd/system/{name}").as_str()));
            if there { "loaded" } else { "not-found" }.clone_into(&mut unit.load);
        }
    }
}

impl System for Sim {
    fn now(&mut self) -> Timestamp {
        self.world().now
    }

    fn pause(&mut self, time: Duration) {
        let mut world = self.world();
        world.now.0 += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    fn look(&mut self, path: &HostPath) -> Result<Option<FileState>> {
        self.step(|world| Ok(world.state.files.get(path).cloned()))
    }

    fn capture(&mut self, path: &HostPath) -> Result<Option<FileState>> {
        self.step(|world| {
            let found = world.state.files.get(path).cloned();
            world.kept.extend(found.as_ref().and_then(|state| state.content));
            Ok(found)
        })
    }

    fn keep(&mut self, content: &[u8]) -> Result<Digest> {
        self.step(|world| {
            let digest = Digest::of(content);
            world.contents.insert(digest, content.to_vec());
            world.kept.insert(digest);
            Ok(digest)
        })
    }

    fn kept(&mut self, digest: &Digest) -> Result<Vec<u8>> {
        self.step(|world| world.kept(digest))
    }

    fn place(&mut self, path: &HostPath, expected: Option<&FileState>, wanted: &FileState) -> Result<()> {
        self.step(|world| {
            world.expect(path, expected)?;
            if let Some(digest) = &wanted.content {
                world.kept(digest)?;
            }
            world.state.files.insert(path.clone(), wanted.clone());
            Ok(())
        })
    }

    fn write_in_place(&mut self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<FileState> {
        self.step(|world| {
            let Some(now) = world.state.files.get(path).cloned() else { return changed(path, "nothing is there") };
            let content = |world: &World, digest: &Option<Digest>| match digest {
                Some(digest) => world.contents.get(digest).cloned().ok_or(Error::NotKept(*digest)),
                None => changed(path, "it is not a regular file"),
            };
            let (before, after) = (content(world, &expected.content)?, content(world, &wanted.content)?);
            let found = content(world, &now.content)?;
            let Some(appended) = mend::appended(&found, &before, &after) else {
                return changed(path, "it is something else");
            };
            let target = [&after[..], appended].concat();
            let digest = Digest::of(&target);
            let state = FileState { content: Some(digest), size: target.len() as u64, ..wanted.clone() };
            world.contents.insert(digest, target);
            world.state.files.insert(path.clone(), state.clone());
            Ok(state)
        })
    }

    fn rewrite(&mut self, path: &HostPath, expected: &FileState, wanted: &FileState) -> Result<()> {
        self.step(|world| {
            world.expect(path, Some(expected)).or_else(|_| world.expect(path, Some(wanted)))?;
            if let Some(digest) = &wanted.content {
                world.kept(digest)?;
            }
            world.state.files.insert(path.clone(), wanted.clone());
            Ok(())
        })
    }

    fn link(
        &mut self,
        path: &HostPath,
        expected: Option<&FileState>,
        other: &HostPath,
        wanted: &FileState,
    ) -> Result<()> {
        self.step(|world| {
            world.expect(path, expected)?;
            world.expect(other, Some(wanted))?;
            world.state.files.insert(path.clone(), wanted.clone());
            Ok(())
        })
    }

    fn remove(&mut self, path: &HostPath, expected: &FileState) -> Result<()> {
        self.step(|world| {
            world.expect(path, Some(expected))?;
            if world.has_children(path) {
                return Err(Error::Refused { path: path.clone(), why: "the directory is not empty".to_owned() });
            }
            world.state.files.remove(path);
            Ok(())
        })
    }

    fn tidy(&mut self, _path: &HostPath, _known: &[&FileState]) -> Result<()> {
        self.step(|_| Ok(()))
    }

    fn list(&mut self, directory: &HostPath) -> Result<Vec<(HostPath, FileKind)>> {
        self.step(|world| {
            let below = world.state.files.iter().filter(|(path, _)| path.parent() == directory.as_bytes());
            Ok(below.map(|(path, state)| (path.clone(), state.kind)).collect())
        })
    }

    fn process(&mut self, pid: u32) -> Result<Option<ProcessState>> {
        self.step(|world| Ok(world.state.processes.get(&pid).copied()))
    }

    fn processes(&mut self, out: &mut Vec<ProcessState>) -> Result<()> {
        self.step(|world| {
            out.clear();
            out.extend(world.state.processes.values().copied());
            Ok(())
        })
    }

    fn untouchable(&mut self, process: &ProcessState) -> Option<&'static str> {
        let world = self.world();
        (process.kernel || process.key.pid == 1 || world.untouchable.contains(&process.key.pid))
            .then_some("it is not to be touched")
    }

    fn signal(&mut self, process: ProcessKey, signal: Signal) -> Result<Delivered> {
        self.step(|world| {
            let Some(state) = world.state.processes.get_mut(&process.pid) else { return Ok(Delivered::Gone) };
            if !same_process(state.key, process) {
                return Ok(Delivered::Gone);
            }
            if world.untouchable.contains(&process.pid) || process.pid == 1 {
                return Err(Error::Untouchable { pid: process.pid, why: "it is not to be touched" });
            }
            match signal {
                Signal::Stop => state.life = Life::Stopped,
                Signal::Continue => state.life = Life::Runs,
                Signal::Kill => {
                    world.state.processes.remove(&process.pid);
                    for child in world.state.processes.values_mut().filter(|child| child.parent == process.pid) {
                        child.parent = 1;
                    }
                }
            }
            Ok(Delivered::Yes)
        })
    }

    fn evidence(&mut self, process: ProcessKey) -> Result<Vec<(String, Digest)>> {
        self.step(|world| {
            if !world.state.processes.contains_key(&process.pid) {
                return Ok(Vec::new());
            }
            let content = format!("process {}", process.pid).into_bytes();
            let digest = Digest::of(&content);
            world.contents.insert(digest, content);
            world.kept.insert(digest);
            Ok(vec![("cmdline".to_owned(), digest)])
        })
    }

    fn unit(&mut self, unit: &str) -> Result<UnitState> {
        self.step(|world| {
            let missing = || UnitState { load: "not-found".into(), active: "inactive".into(), ..UnitState::default() };
            Ok(world.state.units.get(unit).cloned().unwrap_or_else(missing))
        })
    }

    fn control(&mut self, verb: UnitVerb, unit: &str) -> Result<()> {
        self.step(|world| {
            if verb == UnitVerb::DaemonReload {
                world.daemon_reload();
                return Ok(());
            }
            let failed = || Error::Unit { verb: verb.name(), unit: unit.to_owned(), output: "no such unit".into() };
            let state = world.state.units.get_mut(unit).ok_or_else(failed)?;
            match verb {
                UnitVerb::Start | UnitVerb::Restart if state.load == "loaded" => "active".clone_into(&mut state.active),
                UnitVerb::Start | UnitVerb::Restart => return Err(failed()),
                UnitVerb::Stop | UnitVerb::ResetFailed => "inactive".clone_into(&mut state.active),
                UnitVerb::Enable => "enabled".clone_into(&mut state.file),
                UnitVerb::Disable => "disabled".clone_into(&mut state.file),
                UnitVerb::Reload | UnitVerb::DaemonReload => {}
            }
            Ok(())
        })
    }

    fn probe(&mut self, probe: &Probe) -> Result<String> {
        self.step(|_| Ok(format!("{probe:?} is answered")))
    }

    fn run(&mut self, command: &[&str], input: &[u8]) -> Result<Ran> {
        self.step(|world| {
            let said = |status, output: &str| Ok(Ran { status, output: output.to_owned() });
            match command {
                ["nft", "list", "ruleset"] => said(0, &world.state.rules),
                ["nft", "-c", ..] => said(0, ""),
                ["nft", "-f", "-"] => {
                    let text = String::from_utf8_lossy(input).into_owned();
                    text.trim_start_matches("flush ruleset\n").clone_into(&mut world.state.rules);
                    said(0, "")
                }
                ["nft", "-f", path] => {
                    let found = world.state.files.get(&HostPath::from(*path)).and_then(|state| state.content);
                    let rules = found.and_then(|digest| world.contents.get(&digest)).cloned().unwrap_or_default();
                    world.state.rules = String::from_utf8_lossy(&rules).into_owned();
                    said(0, "")
                }
                ["accepts"] => said(0, "fine"),
                ["refuses"] => said(1, "line 3: no such word"),
                ["renews", path] => {
                    let path = HostPath::from(*path);
                    let digest = Digest::of(b"renewed\n");
                    world.contents.insert(digest, b"renewed\n".to_vec());
                    if let Some(state) = world.state.files.get_mut(&path) {
                        (state.content, state.size) = (Some(digest), 8);
                    }
                    said(0, "")
                }
                _ => said(127, "no such program"),
            }
        })
    }

    fn hold_accounts(&mut self) -> Result<AccountsHeld> {
        let late = || Error::Deadline { what: "who changes accounts".to_owned(), limit: Duration::ZERO };
        self.step(|world| if world.accounts_busy { Err(late()) } else { Ok(AccountsHeld { lock: None }) })
    }

    fn filtered(&mut self) -> Result<Vec<Blocked>> {
        self.step(|world| {
            let now = world.now;
            let left = |((address, extent), until): (&(IpAddr, Extent), &Timestamp)| {
                let left = Duration::from_nanos(until.since_ns(now));
                (!left.is_zero()).then_some(Blocked { address: *address, extent: *extent, left })
            };
            Ok(world.state.filtered.iter().filter_map(left).collect())
        })
    }

    fn filter(&mut self, address: IpAddr, extent: Extent, time: Duration) -> Result<()> {
        self.step(|world| {
            let until = Timestamp(world.now.0 + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            world.state.filtered.insert((address, extent), until);
            Ok(())
        })
    }

    fn unfilter(&mut self, address: IpAddr, extent: Extent) -> Result<bool> {
        self.step(|world| Ok(world.state.filtered.remove(&(address, extent)).is_some()))
    }

    fn needed(&mut self, address: IpAddr) -> Result<Option<String>> {
        self.step(|_| Ok((address == GATEWAY).then(|| "it is the way out".to_owned())))
    }

    fn isolate(&mut self, control: &[Network], time: Duration) -> Result<()> {
        self.step(|world| {
            let until = Timestamp(world.now.0 + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            world.state.isolated = Some((control.to_vec(), until));
            Ok(())
        })
    }

    fn isolated(&mut self, control: &[Network]) -> Result<Option<Duration>> {
        self.step(|world| {
            let held = world.state.isolated.as_ref().filter(|(held, _)| held == control);
            let left = held.map(|(_, until)| Duration::from_nanos(until.since_ns(world.now)));
            Ok(left.filter(|left| !left.is_zero()))
        })
    }

    fn rejoin(&mut self) -> Result<bool> {
        self.step(|world| Ok(world.state.isolated.take().is_some()))
    }

    fn datagram(&mut self, address: IpAddr) -> Result<Sent> {
        self.step(|world| {
            let held = world.state.isolated.as_ref().filter(|(_, until)| world.now < *until);
            let inside = |control: &[Network]| control.iter().any(|network| network.contains(address));
            Ok(match (world.network, held) {
                (Ether::Unplugged, _) => Sent::NoWay,
                (Ether::Closed, _) | (Ether::Shut, Some(_)) => Sent::Refused,
                (Ether::AsTold, Some((control, _))) if !inside(control) => Sent::Refused,
                (Ether::AsTold | Ether::Leaks | Ether::Shut, _) => Sent::Yes,
            })
        })
    }

    fn measure(&mut self, path: &HostPath) -> Result<Option<FileState>> {
        self.step(|world| Ok(world.state.files.get(path).cloned()))
    }

    fn free(&mut self, path: &HostPath, expected: &FileState) -> Result<()> {
        self.step(|world| {
            world.expect(path, Some(expected))?;
            world.state.files.remove(path);
            Ok(())
        })
    }
}
