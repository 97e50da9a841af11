// SPDX-License-Identifier: Apache-2.0
//! The agent, started beside or inside a twin, and asked only through its own API, as an operator would.

use crate::report::Placement;
use crate::scenario::{Fault, Plan};
use crate::twin::Twin;
use crate::{Doing, Error, Result, wait_until};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thymus_engine::{HostPath, Incident, IncidentId};

/// What of a twin belongs to an agent inside it, thus to nobody's comparison.
pub const OWN: [&str; 5] =
    ["/var/lib/thymus", "/etc/thymus", "/usr/local/sbin/thymus", "/etc/systemd/system/thymus.service", "/run/thymus"];

/// Until the agent answers and its vault holds the baseline.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// Until it has written what it knows and is gone.
const STOP_LIMIT: Duration = Duration::from_secs(30);

const UNIT: &str = "[Unit]\nDescription=Thymus\n[Service]\nExecStart=/usr/local/sbin/thymus up --mode autonomous\n\
    Delegate=no\nKillMode=process\n";

/// The agent of one twin; it ends with the twin.
#[derive(Debug)]
pub struct Agent<'a> {
    twin: &'a Twin,
    placement: Placement,
    thymus: PathBuf,
    socket: PathBuf,
    /// The one that stands outside, to be collected.
    child: Option<Child>,
    /// From its start until it guarded and its baseline was complete.
    ready: Duration,
}

/// What an agent has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub ready_ms: u64,
    /// Its resident set now, bytes.
    pub memory: u64,
    /// Its largest resident set, bytes.
    pub memory_peak: u64,
    /// User and system time of all its threads.
    pub cpu_ms: u64,
}

/// The parts of `thymus status --json` that a report needs.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Why nothing is done by itself.
    #[serde(default)]
    pub storm: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    id: IncidentId,
}

#[derive(Debug, Deserialize)]
struct Told {
    incident: Incident,
}

#[derive(Debug, Deserialize)]
struct Baseline {
    trees: Vec<Tree>,
    #[serde(default)]
    uncovered: Vec<serde_json::Value>,
    #[serde(default)]
    uncovered_omitted: u64,
}

#[derive(Debug, Deserialize)]
struct Tree {
    files: u64,
    covered: u64,
}

fn configuration(inside: bool, policies: &str, plan: &Plan) -> String {
    let (decoys, more) = (plan.decoys, more(plan.fault.as_ref()));
    let logins: String =
        plan.logins.iter().map(|(user, from)| format!("[[login]]\nuser = \"{user}\"\nfrom = {from:?}\n\n")).collect();
    format!(
        "mode = \"autonomous\"\nthis_host = {inside}\nadministrators = [\"ops\"]\npolicies = \"{policies}\"\n\n\
         [decoys]\nenabled = {decoys}\n\n{more}\n\
         {logins}[[service]]\nunit = \"nginx.service\"\ntcp = 80\nurl = \"http://127.0.0.1/health\"\n\n\
         [[service]]\nunit = \"ssh.service\"\ntcp = 22\n"
    )
}

/// Before the boot: what an agent inside needs on the twin's disk. `thymus` is the agent's program.
pub fn install(twin: &Twin, thymus: &Path, plan: &Plan) -> Result<()> {
    let program = std::fs::read(thymus).doing("read", thymus)?;
    twin.plant("/usr/local/sbin/thymus", &program, 0o755, 0)?;
    twin.plant("/etc/thymus/thymus.toml", configuration(true, "/etc/thymus/policies", plan).as_bytes(), 0o600, 0)?;
    for (name, text) in policies(plan.fault.as_ref()) {
        twin.plant(&format!("/etc/thymus/policies/{name}"), text.as_bytes(), 0o600, 0)?;
    }
    twin.plant("/etc/systemd/system/thymus.service", UNIT.as_bytes(), 0o644, 0)
}

fn more(fault: Option<&Fault>) -> &str {
    fault.map_or("", |fault| fault.configuration.as_str())
}

/// The built-in policies and an operator's own; none: the built-in ones are used anyway.
fn policies(fault: Option<&Fault>) -> Vec<(String, String)> {
    let Some(fault) = fault.filter(|fault| !fault.policy.is_empty()) else { return Vec::new() };
    let mut all = thymus_engine::guard::Policies::defaults();
    all.push(("operator.cedar".to_owned(), fault.policy.clone()));
    all
}

impl<'a> Agent<'a> {
    /// Starts the agent of a booted twin and waits until it guards. `Placement::None` has none.
    pub fn start(twin: &'a Twin, placement: Placement, thymus: &Path, plan: &Plan) -> Result<Option<Self>> {
        let directory = twin.directory().join("agent");
        let socket = match placement {
            Placement::None => return Ok(None),
            Placement::Inside => PathBuf::from(format!("/proc/{}/root/run/thymus/api.sock", twin.leader())),
            Placement::Outside => {
                std::fs::create_dir_all(&directory).doing("make the directory", &directory)?;
                let config = directory.join("thymus.toml");
                let kept = directory.join("policies");
                let text = configuration(false, &kept.to_string_lossy(), plan);
                std::fs::write(&config, text).doing("write", &config)?;
                for (name, text) in policies(plan.fault.as_ref()) {
                    std::fs::create_dir_all(&kept).doing("make the directory", &kept)?;
                    std::fs::write(kept.join(&name), text).doing("write", kept.join(&name))?;
                }
                directory.join("api.sock")
            }
        };
        let mut agent = Self { twin, placement, thymus: thymus.to_owned(), socket, child: None, ready: Duration::ZERO };
        agent.again()?;
        Ok(Some(agent))
    }

    /// Starts it (on what an earlier one left, if there was one) and waits until it guards.
    pub fn again(&mut self) -> Result<()> {
        let begin = Instant::now();
        self.spawn()?;
        let mut last = None;
        let ready = wait_until("the agent guards and its baseline is complete", READY_LIMIT, || {
            match self.ask::<Baseline>(&["baseline"]) {
                Ok(answers) => {
                    let of = |count: fn(&Tree) -> u64| {
                        answers.iter().flat_map(|baseline| &baseline.trees).map(count).sum::<u64>()
                    };
                    let named =
                        answers.iter().map(|one| one.uncovered.len() as u64 + one.uncovered_omitted).sum::<u64>();
                    let (files, covered) = (of(|tree| tree.files), of(|tree| tree.covered));
                    last = Some(format!("{covered} of {files} files are covered"));
                    files > 0 && covered + named >= files
                }
                Err(error) => {
                    last = Some(error.to_string());
                    false
                }
            }
        });
        match ready {
            Err(Error::Deadline { what, limit }) => {
                let what = format!("{what} ({}); it said: {}", last.unwrap_or_default(), self.said());
                Err(Error::Deadline { what, limit })
            }
            Err(other) => Err(other),
            Ok(()) => {
                self.ready = begin.elapsed();
                Ok(())
            }
        }
    }

    /// Its decoys, by its own list.
    pub(crate) fn decoys(&self) -> BTreeSet<HostPath> {
        #[derive(Deserialize)]
        struct Kept {
            placed: Vec<(HostPath, serde_json::Value)>,
        }
        let text = std::fs::read(self.state().join("decoys.json")).unwrap_or_default();
        let kept = serde_json::from_slice::<Kept>(&text).map(|kept| kept.placed).unwrap_or_default();
        kept.into_iter().map(|(path, _)| path).collect()
    }

    /// What this life of it has cost; nothing when it has ended.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let read = |name: &str| {
            let pid = self.process().unwrap_or(0);
            std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
        };
        let status = read("status");
        let bytes = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name));
            text.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        // proc(5): fields 14 and 15 are user and system time, in ticks of 10 ms.
        let stat = read("stat");
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
        let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Cost {
            ready_ms: u64::try_from(self.ready.as_millis()).unwrap_or(u64::MAX),
            memory: bytes("VmRSS:"),
            memory_peak: bytes("VmHWM:"),
            cpu_ms: ticks * 10,
        }
    }

    /// As `kill -9`; waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let pid = self.process().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        let Some(pid) = pid else { return };
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let gone = || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_err();
        let begin = Instant::now();
        while self.child.is_none() && !gone() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.collect();
    }

    /// Starts its process, on what an earlier one left.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        if self.placement == Placement::Inside {
            // Killed too often is "failed" for systemd, which then waits.
            self.twin.inside(&["systemctl", "reset-failed", "thymus.service"])?;
            // Not `start`: systemd may not have noticed the death of the last one yet, and do nothing.
            self.twin.inside(&["systemctl", "restart", "thymus.service"])?;
            return Ok(());
        }
        self.collect();
        let directory = self.twin.directory().join("agent");
        let path = directory.join("log");
        let log = std::fs::File::options().create(true).append(true).open(&path).doing("open", &path)?;
        let errors = log.try_clone().doing("open", &path)?;
        let mut scope = std::ffi::OsString::from("cgroup:");
        scope.push(self.twin.cgroup());
        let mut command = self.twin.tool(&self.thymus.to_string_lossy());
        command.arg("--socket").arg(&self.socket).args(["up", "--mode", "autonomous", "--scope"]).arg(scope);
        command.arg("--root").arg(self.twin.root()).arg("--state").arg(self.state());
        command.arg("--config").arg(directory.join("thymus.toml"));
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn();
        // Ends with the twin's tools, by their cgroup.
        self.child = Some(child.map_err(|source| Error::Spawn { program: self.thymus.display().to_string(), source })?);
        Ok(())
    }

    /// Ends it as a service manager would, and waits until it and its warden are gone. It can be spawned again.
    pub fn stop(&mut self) -> Result<()> {
        if self.placement == Placement::Inside {
            return self.twin.inside(&["systemctl", "stop", "thymus.service"]).map(drop);
        }
        let Some(child) = &mut self.child else { return Ok(()) };
        // It has ended already, or is about to.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
        wait_until("the agent has ended", STOP_LIMIT, || child.try_wait().is_ok_and(|status| status.is_some()))?;
        self.child = None;
        let twin = self.twin;
        wait_until("its warden has ended", STOP_LIMIT, || twin.tools_are_quiet())
    }

    fn collect(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // it has ended, or is about to
            let _ = child.wait();
        }
    }

    /// Its process, as the machine numbers it; `None` when it has ended.
    pub(crate) fn process(&self) -> Option<u32> {
        match &self.child {
            Some(child) => Some(child.id()),
            None => {
                let group = self.twin.cgroup().join("system.slice/thymus.service/cgroup.procs");
                let pids = std::fs::read_to_string(group).ok()?;
                // The warden outlives the agent.
                let is_agent = |pid: &u32| {
                    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    line.split(|byte| *byte == 0).any(|word| word == b"up")
                };
                pids.lines().filter_map(|pid| pid.parse().ok()).find(is_agent)
            }
        }
    }

    /// Where it keeps what must survive, as the machine sees it.
    pub(crate) fn state(&self) -> PathBuf {
        match self.placement {
            Placement::Inside => self.twin.root().join("var/lib/thymus"),
            Placement::Outside | Placement::None => self.twin.directory().join("agent/state"),
        }
    }

    /// The end of the agent's own log.
    #[must_use]
    pub fn said(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The agent's own log; empty when it cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        let text = match self.placement {
            Placement::Inside => self.twin.inside(&["journalctl", "-u", "thymus", "-o", "cat", "--no-pager"]),
            Placement::Outside | Placement::None => {
                let path = self.twin.directory().join("agent/log");
                std::fs::read_to_string(&path).doing("read", path)
            }
        };
        text.unwrap_or_default()
    }

    fn ask<T: for<'de> Deserialize<'de>>(&self, command: &[&str]) -> Result<Vec<T>> {
        let mut thymus = Command::new(&self.thymus);
        thymus.arg("--socket").arg(&self.socket).arg("--json").args(command).stdin(Stdio::null());
        let done = thymus.output();
        let done = done.map_err(|source| Error::Spawn { program: self.thymus.display().to_string(), source })?;
        let text = String::from_utf8_lossy(&done.stdout);
        let wrong = |why: String| Error::Agent { command: command.join(" "), why };
        let answers: std::result::Result<Vec<T>, _> =
            text.lines().filter(|line| !line.is_empty()).map(serde_json::from_str).collect();
        let answers = answers.map_err(|error| wrong(error.to_string()))?;
        // A status of 1 also says "something is not well": then there is an answer.
        if answers.is_empty() && !done.status.success() {
            return Err(wrong(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
        }
        Ok(answers)
    }

    /// The story of one incident, as a person reads it; empty when it cannot be told.
    #[must_use]
    pub fn explain(&self, incident: IncidentId) -> String {
        self.page(&["explain", &incident.to_string()])
    }

    /// The answer to a command, as a person reads it; empty when there is none.
    #[must_use]
    pub fn page(&self, command: &[&str]) -> String {
        let mut thymus = Command::new(&self.thymus);
        thymus.arg("--socket").arg(&self.socket).args(command).stdin(Stdio::null());
        thymus.output().map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default()
    }

    pub fn status(&self) -> Result<Status> {
        Ok(self.ask(&["status"])?.pop().unwrap_or_default())
    }

    /// Every incident, whole.
    pub fn incidents(&self) -> Result<Vec<Incident>> {
        let mut all = Vec::new();
        for summary in self.ask::<Summary>(&["incidents"])? {
            let told = self.ask::<Told>(&["incidents", &summary.id.to_string()])?;
            all.extend(told.into_iter().map(|told| told.incident));
        }
        Ok(all)
    }

    /// A command of `thymus`, with its answer as JSON, one a line.
    pub fn tell(&self, command: &[&str]) -> Result<Vec<serde_json::Value>> {
        self.ask(command)
    }

    /// What it says about how the host differs from what is wanted, looked at now.
    pub fn drift(&self) -> Result<thymus_engine::golden::Report> {
        Ok(self.ask(&["baseline", "diff"])?.pop().unwrap_or_default())
    }

    /// Keeps the agent from acting, as a person would.
    pub fn hold(&self) -> Result<()> {
        self.ask::<serde_json::Value>(&["hold", "--for", "10m", "--why", "drill: respond after the attack"]).map(drop)
    }

    pub fn release(&self) -> Result<()> {
        self.ask::<serde_json::Value>(&["release"]).map(drop)
    }

    /// A question answered with yes, as a person would.
    pub fn approve(&self, action: thymus_engine::ActionId) -> Result<()> {
        self.ask::<serde_json::Value>(&["approve", &format!("a{action}")]).map(drop)
    }

    /// An incident undone, as a person would; what the agent said about it.
    pub fn undo(&self, incident: IncidentId) -> Result<Vec<serde_json::Value>> {
        self.ask(&["undo", &incident.to_string()])
    }

    /// For whoever looks into a report that does not hold: `THYMUS_DRILL_KEEP=DIR` keeps what the agent told, its log and
    /// its journal and what it laid beside, in a directory of that name.
    pub(crate) fn keep(&self, name: &str, incidents: &[Incident]) {
        let Some(directory) = std::env::var_os("THYMUS_DRILL_KEEP") else { return };
        let directory = PathBuf::from(directory).join(name);
        let kept = || -> std::io::Result<()> {
            std::fs::create_dir_all(&directory)?;
            std::fs::write(directory.join("incidents.json"), serde_json::to_vec_pretty(incidents)?)?;
            for incident in incidents.iter().filter(|incident| incident.confirmed) {
                std::fs::write(directory.join(format!("explain-{}.txt", incident.id)), self.explain(incident.id))?;
            }
            std::fs::write(directory.join("log"), self.log())?;
            let copy = |from: &str, to: &Path| -> std::io::Result<()> {
                std::fs::create_dir_all(to)?;
                for entry in std::fs::read_dir(self.state().join(from))? {
                    let entry = entry?;
                    std::fs::copy(entry.path(), to.join(entry.file_name()))?;
                }
                Ok(())
            };
            copy("journal", &directory.join("journal"))?;
            for incident in incidents {
                let laid = format!("aside/{}", incident.id);
                if self.state().join(&laid).is_dir() {
                    copy(&laid, &directory.join(&laid))?;
                }
            }
            Ok(())
        };
        if let Err(error) = kept() {
            tracing::warn!(%error, "what the agent told could not be kept whole");
        }
    }
}
