// SPDX-License-Identifier: Apache-2.0
//! The one configuration, `/etc/thymus/thymus.toml`. Its comments are the manual: docs/config.md is made from them.
//!
//! Every key has a default that works; unknown keys are refused; a value in hand is a value in range. A file that is
//! broken never stops the agent: the last good one stays in use, and `doctor` says so.

mod file;
pub(crate) mod fuzz;
mod load;
mod policies;
mod problem;
mod value;

pub(crate) use file::{keep, last_good, read, unreadable};
pub(crate) use load::{load, load_or_last_good, parse};
pub(crate) use policies::{Policies, built_in, load_policies, load_policies_or_last_good};
pub(crate) use problem::{Place, Problem};
pub(crate) use value::{
    AbsolutePath, ActionsPerMinute, AnswerMinutes, Directory, FileMb, FreeMb, Glob, LookSeconds, LoopbackUrl,
    PolicySource, QuotaMb, RetentionHours, Tree, UnitName, UserName,
};

use serde::{Deserialize, Serialize};
use thymus_engine::input::Mode;
use thymus_engine::network::Network;

/// Where the configuration is looked for when `--config` does not say.
pub(crate) const DEFAULT_PATH: &str = "/etc/thymus/thymus.toml";
/// Where the state is kept when neither `--state` nor the configuration says.
pub(crate) const DEFAULT_STATE: &str = "/var/lib/thymus";
/// Where the API listens when neither `--socket` nor the configuration says.
pub(crate) const DEFAULT_SOCKET: &str = "/run/thymus/api.sock";

/// Keys at the top of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// What Thymus may do by itself: `observe` (propose only), `guarded` (what can be undone and expires; the rest asks)
    /// or `autonomous` (all that policy permits). `thymus up --mode` overrides it. Default `observe`.
    pub(crate) mode: Mode,
    /// Whether Thymus may stop, deny or restore anything on the host that it runs in. While this is `false`, such a
    /// Thymus watches and proposes, in any mode. A scope of its own (`--scope cgroup:…`) does not need it. Default `false`.
    pub(crate) this_host: bool,
    /// Users whose own login sessions may change the host: names of the guarded host's `/etc/passwd`. Root logging in
    /// directly is nobody's name and is not among them unless you write `root`. Their accounts are never locked. Default none.
    pub(crate) administrators: Vec<UserName>,
    /// Addresses (`192.0.2.7`) and networks (`10.0.0.0/8`) that are never blocked, whatever an attack does from there or to
    /// there. The host's own addresses, gateways and name servers are not either, nor are those that others on the host have
    /// to do with. A host that is isolated goes on to talk to these, and to nobody else: name where its administrators come from.
    /// While none is named, or more than 64, no host is isolated. Default none.
    pub(crate) never_block: Vec<Network>,
    /// Everything that Thymus keeps: vault, journal, quarantine. Only root can read it. Default `/var/lib/thymus`.
    pub(crate) state: AbsolutePath,
    /// Unix socket of the API; only root can open it. Default `/run/thymus/api.sock`.
    pub(crate) socket: AbsolutePath,
    /// What Thymus may do by itself, and what it asks: a directory with Cedar policies, `*.cedar`, read in the order of
    /// their names, or the name of a built-in set. `standard` is for servers; with `ot`, for machines where stopping
    /// something may hurt people, nothing that runs is stopped, started or ended without a person. When the directory
    /// does not exist, `standard` is used. `thymus policy show` prints a set, `thymus policy diff` compares two. Default
    /// `/etc/thymus/policies`.
    pub(crate) policies: PolicySource,
    pub(crate) protect: Protect,
    pub(crate) guard: Guard,
    pub(crate) decoys: Decoys,
    pub(crate) vault: Vault,
    pub(crate) change: Change,
    pub(crate) health: Health,
    pub(crate) logs: Logs,
    pub(crate) baseline: Baseline,
    pub(crate) service: Vec<Service>,
    pub(crate) certificate: Vec<Certificate>,
    pub(crate) login: Vec<Login>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            this_host: false,
            administrators: Vec::new(),
            never_block: Vec::new(),
            state: AbsolutePath(DEFAULT_STATE.into()),
            socket: AbsolutePath(DEFAULT_SOCKET.into()),
            policies: PolicySource("/etc/thymus/policies".into()),
            protect: Protect::default(),
            guard: Guard::default(),
            decoys: Decoys::default(),
            vault: Vault::default(),
            change: Change::default(),
            health: Health::default(),
            logs: Logs::default(),
            baseline: Baseline::default(),
            service: Vec::new(),
            certificate: Vec::new(),
            login: Vec::new(),
        }
    }
}

/// `[protect]`: what Thymus promises to restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Protect {
    /// Trees of which the vault keeps versions: absolute paths below the guarded root.
    pub(crate) trees: Vec<Tree>,
    /// Parts of those trees to leave out: build trees, caches, media. `*` stands for anything within one name.
    pub(crate) exclude: Vec<Glob>,
    /// Files that daemons only append to. What was cut out of them is put back; what came after stays.
    /// `*` stands for anything within one name.
    pub(crate) append_only: Vec<Glob>,
}

impl Default for Protect {
    fn default() -> Self {
        let trees =
            ["/etc", "/home", "/opt", "/root", "/srv", "/usr", "/var/lib", "/var/log", "/var/spool", "/var/www"];
        let exclude = ["/home/*/.cache", "/root/.cache", "/var/lib/apt/lists", "/var/lib/thymus", "/var/log/journal"];
        let append_only = [
            "/var/log/*.log",
            "/var/log/*/*.log",
            "/var/log/syslog",
            "/var/log/messages",
            "/var/log/secure",
            "/var/log/cron",
            "/var/log/wtmp",
            "/var/log/btmp",
            "/home/*/.bash_history",
            "/root/.bash_history",
        ];
        Self {
            trees: trees.map(|tree| Tree(tree.into())).to_vec(),
            exclude: exclude.map(|glob| Glob(glob.into())).to_vec(),
            append_only: append_only.map(|glob| Glob(glob.into())).to_vec(),
        }
    }
}

/// `[guard]`: how much is done without you, and how long a question waits for you.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Guard {
    /// Actions that happen by themselves within a minute, for all incidents together but the one that needs most; that one
    /// may have sixteen times as many. First stops are not counted, nor is what you approve. What goes beyond waits for the
    /// next minute, or for your approval. 16 to 1024, default 128.
    pub(crate) actions_per_minute: ActionsPerMinute,
    /// Minutes that a question waits for your answer. Then it is not done; `thymus approve` still does it. 1 to 43200,
    /// default 1440, a day.
    pub(crate) answer_minutes: AnswerMinutes,
    /// Users of this machine besides root who may read everything that the API tells, and approve and deny: with them, a
    /// policy that asks two persons (`@persons("2")`) can be answered. Everybody can then open the socket; the kernel says
    /// who it is, and others are turned away before they are heard. Default none.
    pub(crate) approvers: Vec<UserName>,
}

/// `[decoys]`: hidden files that nobody has a reason to write; whoever does is stopped at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Decoys {
    /// Whether there are any. Where Thymus may only watch, there are none. Default `true`; with `false` those of before are
    /// taken away.
    pub(crate) enabled: bool,
    /// Directories in which one lies, at most 64. `*` stands for anything within one name, but no hidden ones.
    pub(crate) directories: Vec<Glob>,
}

impl Default for Decoys {
    fn default() -> Self {
        let directories = ["/home/*", "/home/*/*", "/srv/*", "/srv/*/*", "/var/www/*"];
        Self { enabled: true, directories: directories.map(|glob| Glob(glob.into())).to_vec() }
    }
}

/// `[vault]`: how much it may keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Vault {
    /// Megabytes on disk, baseline and versions together. When it is reached, capture stops loudly and nothing that is
    /// kept is lost. 64 to 1048576, default 4096.
    pub(crate) quota_mb: QuotaMb,
    /// Files larger than this many megabytes are named as not covered. 1 to 65536, default 64.
    pub(crate) file_mb_max: FileMb,
    /// Hours that a version is kept at least; the state before an open incident is kept as long as that. 1 to 8760,
    /// default 72.
    pub(crate) retention_hours: RetentionHours,
}

/// `[change]`: who else may change the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    /// Package managers and configuration-management tools. What they and their children do is authorised, unless they
    /// were started by a suspect.
    pub(crate) tools: Vec<Tree>,
}

impl Default for Change {
    fn default() -> Self {
        let tools = ["/usr/bin/apt", "/usr/bin/apt-get", "/usr/bin/dpkg", "/usr/bin/unattended-upgrade"];
        Self { tools: tools.map(|tool| Tree(tool.into())).to_vec() }
    }
}

/// `[baseline]`: what the host should be. Services, listeners, accounts, packages and key settings are recorded when the
/// vault's first baseline is complete; `thymus baseline` names what is otherwise since, and who did it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Baseline {
    /// A declared state, a TOML file that may lie in git. What it says goes before what was recorded. A file that is
    /// broken, empty, or makes more than 25 percent of a section unwanted is refused: the last good one stays in use.
    /// Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<AbsolutePath>,
    /// Seconds between two looks at the host. 10 to 86400, default 60.
    pub(crate) look_seconds: LookSeconds,
}

/// `[health]`: what is looked after besides the services that are named below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Health {
    /// Whether services that run are looked after without being named: the unit, and the ports at which it listens.
    /// Default `true`.
    pub(crate) learn: bool,
    /// File systems that must have room, each by a directory of theirs. Default `/`.
    pub(crate) disks: Vec<Directory>,
    /// Megabytes that an ordinary user must find free there. 1 to 65536, default 64.
    pub(crate) least_free_mb: FreeMb,
    /// Files that may be deleted when there is less: rotated logs, caches. They do not come back, and are deleted oldest
    /// first until twice `least_free_mb` is free. `*` stands for anything within one name. Default none: a person is asked.
    pub(crate) freeable: Vec<Glob>,
    /// The file that the packet filter (nftables) is loaded from. It is loaded again when rules were in force and none is
    /// any more. Default `/etc/nftables.conf`.
    pub(crate) firewall: Tree,
    /// Directories in which archives of packages (`.deb`) lie, such as a mirror's. What a failing service needs of an
    /// installed package, and is gone or damaged, comes from an archive of exactly the installed version where the vault
    /// has no version of it. Nothing is installed or fetched. Default `/var/cache/apt/archives`; none: `[]`.
    pub(crate) packages: Vec<Directory>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            learn: true,
            disks: vec![Directory("/".into())],
            least_free_mb: FreeMb::default(),
            freeable: Vec::new(),
            firewall: Tree("/etc/nftables.conf".into()),
            packages: vec![Directory("/var/cache/apt/archives".into())],
        }
    }
}

/// `[logs]`: what sshd and nginx write, shown beside what the kernel saw of the same session or request. Nothing is ever done,
/// found or left undone because of a line of a log: whoever can write to one may say anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logs {
    /// Whether they are read. Default `true`.
    pub(crate) enabled: bool,
    /// Directory with parsers of your own, `*.toml`, in the form of the built-in ones (`rules/logs/` of the sources); one of
    /// the same name replaces a built-in one. A form is literal text and captures `{name:kind}`, apart by text: names are `time`,
    /// `user`, `address`, `port`, `method`, `key_type`, `fingerprint`, `request`, `status`, `user_agent`, `message` and `_` for what
    /// is not kept; kinds `word`, `host`, `time`, `address`, `port`, `number` and, when none is given, any text. A line that fits
    /// in several ways is not read. Default `/etc/thymus/rules/logs`.
    pub(crate) rules: AbsolutePath,
}

impl Default for Logs {
    fn default() -> Self {
        Self { enabled: true, rules: AbsolutePath("/etc/thymus/rules/logs".into()) }
    }
}

/// `[[service]]`: one that is looked after, and must answer before an incident counts as healed. Repeat for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// systemd unit, such as `nginx.service`: must be active.
    pub(crate) unit: UnitName,
    /// TCP port on the guarded host's loopback that must accept a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tcp: Option<u16>,
    /// Page that must answer with a 2xx or 3xx status: `http://127.0.0.1[:PORT]/PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<LoopbackUrl>,
    /// Program and arguments that must exit with 0 within 20 seconds, run as root in the scope every few seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// Files and trees that it is configured by. When it fails after one of them was changed, the last good version is
    /// put back, or proposed to you when it was you. Known by themselves: nginx, ssh, apache2, rsyslog.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) configuration: Vec<Tree>,
    /// Program and arguments that exit with 0 when that configuration can be used, such as `["/usr/sbin/nginx", "-t"]`;
    /// run before each restart by Thymus, and to find out why it failed. Known by themselves: as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) test: Vec<String>,
    /// Program and arguments that are this service, where no systemd runs: Thymus starts it, and starts it again when it
    /// ends or hangs, in a session of its own with a clean environment. It must stay in the foreground. `unit` is then a name
    /// of your own, with the ending `.service`. Default none: systemd is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) start: Vec<String>,
    /// User that it runs as. Default `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<UserName>,
    /// File that its output and errors are appended to. Default none: they are thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<Tree>,
}

/// `[[certificate]]`: one that a service shows. Repeat for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// File that it is loaded from (PEM).
    pub(crate) path: Tree,
    /// systemd unit that shows it; reloaded when the file is valid and what it shows has expired.
    pub(crate) unit: UnitName,
    /// TCP port on the guarded host's loopback at which it is shown.
    pub(crate) port: u16,
    /// Program and arguments that renew the file; run once it has expired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) renew: Vec<String>,
}

/// `[[login]]`: from where a user logs in by ssh. A login of theirs from elsewhere is shown as suspicious; in its session even
/// an administrator may change nothing, and what it changes of the user's own counts as a stranger's work. Repeat for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// A name of the guarded host's `/etc/passwd`, such as `root`.
    pub(crate) user: UserName,
    /// Addresses (`192.0.2.7`) and networks (`10.0.0.0/8`) that they come from; none, `[]`: nobody logs in as this user.
    pub(crate) from: Vec<Network>,
}
