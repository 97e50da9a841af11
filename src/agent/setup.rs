// SPDX-License-Identifier: Apache-2.0
//! What an agent needs before its first event: scope, state directory, journal, warden, the engine as it was.

use super::{Options, ScopeChoice};
use crate::config::{Config, Problem};
use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, Mode as Permission, OFlags};
use std::cell::RefCell;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thymus_engine::engine::Engine;
use thymus_engine::event::Event;
use thymus_engine::input::{Configuration, Login, Mode};
use thymus_engine::{HostPath, ProcessKey};
use thymus_host::aside::Asides;
use thymus_host::decoy::Decoys;
use thymus_host::journal::{self, Journal};
use thymus_host::package::Dpkg;
use thymus_host::perform::{Hands, VaultContents, VaultVersions};
use thymus_host::probe::{Questions, Shown, Wanted};
use thymus_host::recover::Watch;
use thymus_host::recover::remedy::{Remedies, Test};
use thymus_host::respond::Reflex;
use thymus_host::scope::Scope;
use thymus_host::sense::{self, OpenIntent};
use thymus_host::system::Probe;
use thymus_host::system::linux::Linux;
use thymus_host::system::supervise::{Supervised, Supervisor};
use thymus_host::vault::{self, Intent, Vault};
use thymus_host::warden::{Leases, Warden};

/// LIMIT: bytes of the guarded host's `/etc/passwd` that are read for the names of administrators.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// The agent's house on this machine. Everything in it outlives the threads.
#[derive(Debug)]
pub(super) struct House {
    state: PathBuf,
    /// Held for the agent's life: a second agent on the same state is refused.
    _lock: std::fs::File,
    own: ProcessKey,
    scope: Scope,
    journal: Journal,
    leases: Leases,
    warden: RefCell<Warden>,
    /// Paths of the decoys.
    decoys: RefCell<Vec<HostPath>>,
    /// Events from before, brought back by replay.
    engine: RefCell<Option<(Engine, u64)>>,
    /// What was found wrong on the way; shown by `doctor`.
    problems: RefCell<Vec<Problem>>,
}

impl House {
    pub(super) fn open(options: &Options) -> Result<Self> {
        let state = options.config.state.get().clone();
        let lock = claim(&state)?;
        let scope = match &options.scope {
            ScopeChoice::Host => Scope::this_host(options.config.this_host)?,
            ScopeChoice::Cgroup(cgroup) => Scope::cgroup(cgroup, &options.root)?,
        };
        let mut problems = options.problems.clone();
        let (journal, _, untrusted) = Journal::open_or_quarantine(&state.join("journal"))
            .with_context(|| format!("cannot open the journal in `{}`", state.display()))?;
        if let Some(found) = untrusted {
            tracing::error!(problem = %found, "the journal cannot be trusted; it was moved aside, and a new one begun");
            problems.push(Problem {
                path: found.file,
                place: None,
                message: format!("at byte {}: {}", found.offset, found.what),
                instead: "a new journal; the old one was moved aside, as evidence".to_owned(),
            });
        }
        let table = state.join("leases");
        let leases = Leases::open(&table).context("cannot open the table of leases")?;
        let warden = Warden::start(Path::new("/proc/self/exe"), &table).context("cannot start the warden")?;
        let engine = remembered(&journal).unwrap_or_else(|error| {
            tracing::error!(%error, "the engine starts anew: what it knew cannot be brought back");
            problems.push(Problem {
                path: state.join("journal"),
                place: None,
                message: format!("{error:#}"),
                instead: "an engine that knows nothing from before".to_owned(),
            });
            (Engine::new(), 1)
        });
        Ok(Self {
            state,
            _lock: lock,
            own: sense::process_key(std::process::id()).context("cannot read our own start time from /proc")?,
            scope,
            journal,
            leases,
            warden: RefCell::new(warden),
            decoys: RefCell::new(Vec::new()),
            engine: RefCell::new(Some(engine)),
            problems: RefCell::new(problems),
        })
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    pub(super) fn found_wrong(&self, problems: Vec<Problem>) {
        self.problems.borrow_mut().extend(problems);
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        self.problems.borrow().clone()
    }

    /// The engine as it was when the last agent ended, and the number of the next event. Once.
    pub(super) fn engine(&self) -> Result<(Engine, u64)> {
        self.engine.borrow_mut().take().context("the engine is given out once")
    }

    /// Before the sensors and the vault begin: decoys where they are wanted, none where Thymus may only watch.
    pub(super) fn decoys(&self, config: &Config) -> Result<Option<Decoys>> {
        let Some(mut system) = self.system()? else { return Ok(None) };
        let mut decoys = Decoys::remembered(&self.path("decoys.json"));
        let wanted = config.decoys.enabled && config.mode != Mode::Observe;
        // A directory may be an attack's own, and must go when it is empty: while one is being undone, no new ones.
        let undoing = self.engine.borrow().as_ref().is_some_and(|(engine, _)| engine.is_undoing());
        let globs = config.decoys.directories.iter().filter(|_| !undoing);
        let globs: Vec<String> = globs.map(|glob| glob.get().clone()).collect();
        let done = if wanted { decoys.place(&mut system, &globs) } else { decoys.remove(&mut system) };
        if let Err(error) = done {
            self.problems.borrow_mut().push(Problem {
                path: self.path("decoys.json"),
                place: None,
                message: format!("the list of decoys cannot be written: {error}"),
                instead: "the decoys as they are".to_owned(),
            });
        }
        *self.decoys.borrow_mut() = decoys.paths();
        Ok(Some(decoys))
    }

    /// A vault that was altered is kept as evidence, and a new one is begun: guarding goes on.
    pub(super) fn vault(&self, config: &Config) -> Result<Vault> {
        let directory = self.path("vault");
        match Vault::open(&directory, &self.scope, self.vault_options(config)) {
            Err(error @ vault::Error::Altered { .. }) => {
                let aside = Vault::set_aside(&directory).context("cannot move the altered vault aside")?;
                tracing::error!(%error, aside = %aside.display(), "the vault cannot be trusted; a new one is begun");
                self.problems.borrow_mut().push(Problem {
                    path: directory.clone(),
                    place: None,
                    message: error.to_string(),
                    instead: format!("a new vault; the old one is at `{}`", aside.display()),
                });
                Ok(Vault::open(&directory, &self.scope, self.vault_options(config))?)
            }
            opened => opened.with_context(|| format!("cannot open the vault in `{}`", directory.display())),
        }
    }

    fn vault_options(&self, config: &Config) -> vault::Options {
        let texts = |globs: &[crate::config::Glob]| globs.iter().map(|glob| glob.get().clone()).collect::<Vec<_>>();
        let mut excluded = texts(&config.protect.exclude);
        excluded.extend(self.own_paths().iter().map(ToString::to_string));
        // No version of a decoy is anybody's.
        excluded.extend(self.decoys.borrow().iter().map(ToString::to_string));
        vault::Options {
            protected: config.protect.trees.iter().map(|tree| tree.get().clone()).collect(),
            excluded,
            append_only: texts(&config.protect.append_only),
            quota_bytes: config.vault.quota_mb.get() << 20,
            file_bytes_max: config.vault.file_mb_max.get() << 20,
            retention: Duration::from_secs(config.vault.retention_hours.get() * 3600),
            superseded_max: vault::SUPERSEDED_MAX,
        }
    }

    /// Our own state and socket, as paths below the guarded root; none when they lie outside of it.
    fn own_paths(&self) -> Vec<HostPath> {
        if !self.scope.is_whole_host() {
            return Vec::new();
        }
        let state = self.state.to_string_lossy();
        vec![HostPath::from(&*state)]
    }

    /// The door to the host; none when this scope is watched only.
    fn system(&self) -> Result<Option<Linux<'_>>> {
        let Some(acting) = self.scope.acting() else { return Ok(None) };
        let keep = self.path("keep");
        let system = Linux::new(acting, &keep, &self.never_touch());
        system.map(Some).with_context(|| format!("cannot open the keep `{}`", keep.display()))
    }

    /// The agent and the warden.
    fn never_touch(&self) -> Vec<ProcessKey> {
        std::iter::once(self.own).chain(sense::process_key(self.warden.borrow().pid())).collect()
    }

    /// Why no address can be blocked here; `None`: they can, or nothing may be done here at all.
    pub(super) fn no_blocks(&self) -> Option<String> {
        use thymus_host::system::System as _;
        let mut system = self.system().ok()??;
        system.filtered().err().map(|error| error.in_words())
    }

    /// And why it will be slower than it could be.
    pub(super) fn reflex(&self) -> Result<(Option<Reflex<'_>>, Option<String>)> {
        let Some(mut system) = self.system()? else { return Ok((None, None)) };
        let slow = system.ask_the_kernel().err().map(|why| format!("processes are looked for in /proc: {why}"));
        let reflex = Reflex::open(Box::new(system), self.leases.clone(), &self.path("reflex"));
        Ok((Some(reflex.context("cannot open the ring of reflexes")?), slow))
    }

    pub(super) fn hands<'a>(&'a self, vault: &'a Vault, questions: &Questions) -> Result<Option<Hands<'a>>> {
        let Some(system) = self.system()? else { return Ok(None) };
        let system = system.upon(Box::new(VaultContents(vault.clone()))).with_supervisor(questions.supervisor.clone());
        let versions = VaultVersions::new(vault);
        let hands = Hands::new(Box::new(system), self.journal.clone(), Box::new(versions), self.leases.clone());
        let dpkg = Dpkg::new(&self.scope, questions.archives.clone());
        Ok(Some(hands.with_remedies(questions.remedies.clone()).with_packages(Box::new(dpkg))))
    }

    /// This agent, as the engine knows it.
    pub(super) fn own_key(&self) -> ProcessKey {
        self.own
    }

    pub(super) fn asides(&self) -> Asides {
        Asides::within(&self.state)
    }

    /// Where the golden state is read and kept.
    pub(super) fn looked_at(&self, config: &Config) -> Result<super::golden::Place> {
        Ok(super::golden::Place {
            scope: self.scope.watching()?,
            state: self.state.clone(),
            wanted: config.baseline.wanted.as_ref().map(|path| path.get().clone()),
            every: Duration::from_secs(config.baseline.look_seconds.get()),
        })
    }

    /// Something stands at this path below the guarded root.
    pub(super) fn exists(&self, path: &HostPath) -> bool {
        use rustix::fs::ResolveFlags;
        let beneath = path.as_bytes().strip_prefix(b"/").unwrap_or(path.as_bytes());
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(self.scope.root(), beneath, flags, Permission::empty(), resolve).is_ok()
    }

    /// What the engine needs to know.
    pub(super) fn configuration(&self, options: &Options) -> Configuration {
        let config = &options.config;
        Configuration {
            mode: config.mode,
            scope_permits_action: self.scope.acting().is_some(),
            administrators: self.administrators(config),
            logins: self.logins(config),
            protected: config.protect.trees.iter().map(|tree| tree.get().clone()).collect(),
            append_only: config.protect.append_only.iter().map(|glob| glob.get().clone()).collect(),
            change_tools: config.change.tools.iter().map(|tool| tool.get().clone()).collect(),
            decoys: self.decoys.borrow().clone(),
            never_touch: self.never_touch(),
            never_touch_paths: self.own_paths(),
            never_block: config.never_block.clone(),
            policies: options.policies.clone(),
            boot_to_unix_ns: sense::boot_to_unix_ns(),
            actions_per_minute: u32::try_from(config.guard.actions_per_minute.get()).unwrap_or(u32::MAX),
            answer_ns: config.guard.answer_minutes.get() * 60_000_000_000,
        }
    }

    /// Names to numbers, by the guarded host's own users. A name that it does not know is nobody, and is said.
    fn administrators(&self, config: &Config) -> Vec<u32> {
        let users = self.read_beneath("etc/passwd").unwrap_or_default();
        let names = config.administrators.iter();
        names
            .filter_map(|name| self.uid(name, &users, "`administrators`", "nobody: that name authorises nothing"))
            .collect()
    }

    /// The same of those whose ways in are named.
    fn logins(&self, config: &Config) -> Vec<Login> {
        let users = self.read_beneath("etc/passwd").unwrap_or_default();
        let number = |login: &crate::config::Login| {
            let uid = self.uid(&login.user, &users, "`[[login]]`", "nobody: no login is compared with it")?;
            Some(Login { uid, from: login.from.clone() })
        };
        config.login.iter().filter_map(number).collect()
    }

    fn uid(&self, name: &crate::config::UserName, users: &str, place: &str, instead: &str) -> Option<u32> {
        let uid = name.uid_in(users);
        if uid.is_none() {
            self.problems.borrow_mut().push(Problem {
                path: PathBuf::from("/etc/passwd"),
                place: None,
                message: format!("found no user `{}`, expected one: it is in {place}", name.get()),
                instead: instead.to_owned(),
            });
        }
        uid
    }

    /// Users of the machine that the agent runs on. A name that it does not know is nobody, and is said.
    pub(super) fn approvers(&self, config: &Config) -> Vec<u32> {
        let users = crate::config::read(Path::new("/etc/passwd")).unwrap_or_default();
        let number = |name: &crate::config::UserName| {
            let uid = name.uid_in(&users);
            if uid.is_none() {
                self.problems.borrow_mut().push(Problem {
                    path: PathBuf::from("/etc/passwd"),
                    place: None,
                    message: format!("found no user `{}`, expected one: it is in `approvers`", name.get()),
                    instead: "nobody: that name approves nothing".to_owned(),
                });
            }
            uid
        };
        config.guard.approvers.iter().filter_map(number).collect()
    }

    fn read_beneath(&self, path: &str) -> Option<String> {
        use rustix::fs::ResolveFlags;
        use std::io::Read;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(self.scope.root(), path, flags, Permission::empty(), resolve).ok()?;
        let mut text = String::new();
        std::fs::File::from(file).take(PASSWD_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Once a tick: the journal to the kernel, a checkpoint when one is due, the warden alive.
    pub(super) fn tend(&self, engine: &Engine, next_event: u64) {
        if self.journal.wants_checkpoint() {
            let now = sense::now();
            let written = checkpoint(engine, next_event).map(|bytes| self.journal.checkpoint(now, &bytes));
            if !matches!(written, Ok(Ok(()))) {
                tracing::warn!("no checkpoint was written: the next start replays more");
            }
        }
        if let Err(error) = self.journal.flush() {
            tracing::warn!(%error, "the journal could not be written");
        }
        match self.warden.borrow_mut().ensure() {
            Ok(false) => {}
            Ok(true) => tracing::warn!("the warden had ended and was started again"),
            Err(error) => tracing::error!(%error, "there is no warden: leases end only while the agent lives"),
        }
    }
}

/// Makes the state directory, for root alone, and claims it.
fn claim(state: &Path) -> Result<std::fs::File> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .with_context(|| format!("cannot make the state directory `{}`", state.display()))?;
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close `{}` to others", state.display()))?;
    let path = state.join("lock");
    let mut lock = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open `{}`", path.display()))?;
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another agent uses `{}`: end it first, or give this one a state directory of its own", state.display());
    }
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).context("cannot write the lock")?;
    Ok(lock)
}

/// The engine and the number of the next event, as one checkpoint.
fn checkpoint(engine: &Engine, next_event: u64) -> postcard::Result<Vec<u8>> {
    postcard::to_stdvec(&(next_event, engine))
}

/// Brings the engine back: the newest checkpoint, then every input after it. Effects were carried out then, not now.
fn remembered(journal: &Journal) -> Result<(Engine, u64)> {
    let journal::Replay { checkpoint, inputs } = journal.replay().context("cannot read the journal")?;
    let (mut next_event, mut engine) = match checkpoint {
        Some((_, bytes)) => postcard::from_bytes::<(u64, Engine)>(&bytes).context("cannot read a checkpoint")?,
        None => (1, Engine::new()),
    };
    let mut effects = Vec::new();
    for input in inputs {
        let (now, input) = input.context("cannot read a recorded input")?;
        if let thymus_engine::Input::Event(Event { id, .. }) = &input {
            next_event = next_event.max(id.0 + 1);
        }
        engine.step(now, input, &mut effects);
        effects.clear();
    }
    Ok((engine, next_event))
}

/// What is known of usual services: their configuration, its test, and what that may lack before a start (`Test::lacks`).
const KNOWN: [(&str, &[&str], &[&str], &str); 4] = [
    ("nginx.service", &["/etc/nginx"], &["/usr/sbin/nginx", "-t", "-q"], ""),
    // Its unit's RuntimeDirectory goes with the last process; sshd(8) looks for it after the configuration and the keys.
    ("ssh.service", &["/etc/ssh"], &["/usr/sbin/sshd", "-t"], "Missing privilege separation directory"),
    ("apache2.service", &["/etc/apache2"], &["/usr/sbin/apache2ctl", "configtest"], ""),
    ("rsyslog.service", &["/etc/rsyslog.conf", "/etc/rsyslog.d"], &["/usr/sbin/rsyslogd", "-N1"], ""),
];

/// What the probes ask about, and what may be done about the answers. `processes`: where it is kept which process is whose.
pub(super) fn questions(config: &Config, processes: &Path) -> Questions {
    let known = |unit: &str| KNOWN.iter().find(|known| known.0 == unit);
    let wanted = |service: &crate::config::Service| {
        let unit = service.unit.get();
        let mut configuration: Vec<HostPath> = service.configuration.iter().map(|tree| tree.get().clone()).collect();
        if configuration.is_empty() {
            configuration.extend(known(unit).into_iter().flat_map(|known| known.1.iter().map(|path| (*path).into())));
        }
        let probes = watch(service).probe.into_iter().collect();
        Wanted { unit: unit.clone(), probes, command: service.command.clone(), configuration }
    };
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let usual = |known: &(&str, _, &[&str], &'static str)| Test { command: owned(known.2), lacks: known.3 };
    let mut tests: std::collections::BTreeMap<String, Test> =
        KNOWN.iter().map(|known| (known.0.to_owned(), usual(known))).collect();
    let declared = config.service.iter().filter(|service| !service.test.is_empty());
    let own = |service: &crate::config::Service| Test { command: service.test.clone(), lacks: "" };
    tests.extend(declared.map(|service| (service.unit.get().clone(), own(service))));
    let renewed = config.certificate.iter().filter(|certificate| !certificate.renew.is_empty());
    let remedies = Remedies {
        tests,
        renewals: renewed.map(|one| (one.path.get().clone(), one.renew.clone())).collect(),
        freeable: config.health.freeable.iter().map(|glob| glob.get().clone()).collect(),
    };
    let shown = |certificate: &crate::config::Certificate| Shown {
        path: certificate.path.get().clone(),
        unit: certificate.unit.get().clone(),
        port: certificate.port,
    };
    Questions {
        services: config.service.iter().map(wanted).collect(),
        learn: config.health.learn,
        disks: config.health.disks.iter().map(|directory| directory.get().clone()).collect(),
        least_bytes: config.health.least_free_mb.get() << 20,
        firewall: Some(config.health.firewall.get().clone()),
        certificates: config.certificate.iter().map(shown).collect(),
        remedies,
        supervisor: Supervisor::open(processes, supervised(config)),
        archives: config.health.packages.iter().map(|directory| directory.get().clone()).collect(),
    }
}

fn supervised(config: &Config) -> std::collections::BTreeMap<String, Supervised> {
    let one = |service: &crate::config::Service| {
        let user = service.user.as_ref().map(|user| user.get().clone()).unwrap_or_default();
        let log = service.log.as_ref().map(|path| path.get().clone());
        (service.unit.get().clone(), Supervised { command: service.start.clone(), user, log })
    };
    config.service.iter().filter(|service| !service.start.is_empty()).map(one).collect()
}

/// Services that must answer before an incident counts as healed.
pub(super) fn watched(config: &Config) -> Vec<Watch> {
    config.service.iter().map(watch).collect()
}

fn watch(service: &crate::config::Service) -> Watch {
    let http = service.url.as_ref().map(|url| {
        let rest = url.get().strip_prefix("http://127.0.0.1").unwrap_or_default();
        let (port, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let port = port.strip_prefix(':').and_then(|port| port.parse().ok()).unwrap_or(80);
        Probe::Http { port, path: path.to_owned() }
    });
    let probe = http.or(service.tcp.map(|port| Probe::Tcp { port }));
    Watch { unit: service.unit.get().clone(), probe }
}

/// What a thread is about to do to a file, in the vault's words.
pub(super) fn intent_of(call: Option<OpenIntent>) -> Intent {
    match call {
        None => Intent::Unknown,
        Some(call) if call.may_truncate() => Intent::Truncate,
        Some(call) if call.may_write() => Intent::Write,
        Some(_) => Intent::Read,
    }
}
