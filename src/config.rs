// SPDX-License-Identifier: Apache-2.0
//! The one configuration, `/etc/thymus/thymus.toml`. Its comments are the manual: docs/config.md is made from them.
//!
//! Every key has a default that works; unknown keys are refused; a value in hand is a value in range. A file that is
//! broken never stops the agent: the last good one stays in use, and `doctor` says so.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use thymus_engine::HostPath;
use thymus_engine::guard;
use thymus_engine::input::Mode;

/// Where the configuration is looked for when `--config` does not say.
pub(crate) const DEFAULT_PATH: &str = "/etc/thymus/thymus.toml";
/// Where the state is kept when neither `--state` nor the configuration says.
pub(crate) const DEFAULT_STATE: &str = "/var/lib/thymus";
/// Where the API listens when neither `--socket` nor the configuration says.
pub(crate) const DEFAULT_SOCKET: &str = "/run/thymus/api.sock";
/// LIMIT: bytes of a configuration or policy file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// LIMIT: policy files in the policy directory.
const POLICY_FILES_MAX: usize = 64;

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
    /// directly is nobody's name and is not among them unless you write `root`. Default none.
    pub(crate) administrators: Vec<UserName>,
    /// Everything that Thymus keeps: vault, journal, quarantine. Only root can read it. Default `/var/lib/thymus`.
    pub(crate) state: AbsolutePath,
    /// Unix socket of the API; only root can open it. Default `/run/thymus/api.sock`.
    pub(crate) socket: AbsolutePath,
    /// Cedar policies, `*.cedar`, read in the order of their names. When the directory does not exist, the built-in
    /// policies are used. Default `/etc/thymus/policies`.
    pub(crate) policies: AbsolutePath,
    pub(crate) protect: Protect,
    pub(crate) decoys: Decoys,
    pub(crate) vault: Vault,
    pub(crate) change: Change,
    pub(crate) health: Health,
    pub(crate) baseline: Baseline,
    pub(crate) service: Vec<Service>,
    pub(crate) certificate: Vec<Certificate>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            this_host: false,
            administrators: Vec::new(),
            state: AbsolutePath(DEFAULT_STATE.into()),
            socket: AbsolutePath(DEFAULT_SOCKET.into()),
            policies: AbsolutePath("/etc/thymus/policies".into()),
            protect: Protect::default(),
            decoys: Decoys::default(),
            vault: Vault::default(),
            change: Change::default(),
            health: Health::default(),
            baseline: Baseline::default(),
            service: Vec::new(),
            certificate: Vec::new(),
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

macro_rules! number {
    ($name:ident, $range:expr, $unit:literal, $default:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "u64")]
        pub(crate) struct $name(u64);

        impl $name {
            pub(crate) fn get(self) -> u64 {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = String; // the only constructor: a value in hand is a value in range
            fn try_from(found: i64) -> Result<Self, String> {
                let range: std::ops::RangeInclusive<u64> = $range;
                let value = u64::try_from(found).ok().filter(|value| range.contains(value));
                let refused = || format!("found {found}, expected {} to {} {}", range.start(), range.end(), $unit);
                value.map(Self).ok_or_else(refused)
            }
        }
    };
}

number!(QuotaMb, 64..=1_048_576, "megabytes", 4_096);
number!(FileMb, 1..=65_536, "megabytes", 64);
number!(FreeMb, 1..=65_536, "megabytes", 64);
number!(LookSeconds, 10..=86_400, "seconds", 60);
number!(RetentionHours, 1..=8_760, "hours", 72);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $check:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) struct $name($inner);

        impl $name {
            pub(crate) fn get(&self) -> &$inner {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> Option<$inner> = $check;
                check(&text).map(Self).ok_or_else(|| format!("found `{}`, expected {}", text.escape_debug(), $expected))
            }
        }
    };
}

text! {
    /// A user of the guarded host.
    UserName(String),
    |text| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(good)).then(|| text.to_owned())
    },
    "the name of a user, such as `alice`"
}
impl UserName {
    /// The number that a passwd(5) file gives it; of several lines, the first that holds a number.
    pub(crate) fn uid_in(&self, passwd: &str) -> Option<u32> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(self.get())).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
    }
}

text! {
    /// A path on the machine that the agent runs on.
    AbsolutePath(PathBuf),
    |text| (text.starts_with('/') && plain(text)).then(|| text.into()),
    "an absolute path without `..`"
}

impl AbsolutePath {
    /// A path that a person wrote on the command line, from where they are.
    pub(crate) fn here(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        let text = path.to_str().ok_or_else(|| anyhow::anyhow!("`{}`: expected a path in UTF-8", path.display()))?;
        Self::try_from(text.to_owned()).map_err(anyhow::Error::msg)
    }
}

text! {
    /// A path below the guarded root.
    Tree(HostPath),
    |text| (text.starts_with('/') && text.len() > 1 && plain(text)).then(|| text.trim_end_matches('/').into()),
    "an absolute path below the root without `..`, such as `/etc`"
}
text! {
    /// A directory below the guarded root, or the root itself.
    Directory(HostPath),
    |text| (text.starts_with('/') && plain(text)).then(|| text.into()),
    "an absolute path without `..`, such as `/var`"
}
text! {
    /// Paths below the guarded root, `*` within one name.
    Glob(String),
    |text| (text.starts_with('/') && text.len() > 1 && plain(text) && !text.contains("**")).then(|| text.to_owned()),
    "an absolute path without `..`, with `*` within one name, such as `/var/log/*.log`"
}
text! {
    /// A systemd unit.
    UnitName(String),
    |text| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@\\-".contains(&byte);
        let named = [".service", ".socket", ".timer"].iter().any(|end| text.len() > end.len() && text.ends_with(end));
        (named && text.len() <= 255 && text.bytes().all(good)).then(|| text.to_owned())
    },
    "a systemd unit with its ending, such as `nginx.service`"
}
text! {
    /// A page of the guarded host itself.
    LoopbackUrl(String),
    |text| {
        let rest = text.strip_prefix("http://127.0.0.1")?;
        let (port, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let port_good = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        (port_good && path.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
    },
    "a page on the guarded host's loopback, such as `http://127.0.0.1:8080/health`"
}

fn plain(path: &str) -> bool {
    !path.contains('\0') && !path.split('/').any(|name| name == "..")
}

/// Cedar policies, name and text, in order.
pub(crate) type Policies = Vec<(String, String)>;

/// What is wrong with a file, where, and what is used instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    pub(crate) place: Option<Place>,
    /// What was found and what was expected.
    pub(crate) message: String,
    /// What is in use instead; empty when nothing is (a mere check).
    pub(crate) instead: String,
}

/// A place in a text file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// Characters meant, at least 1, within the line.
    pub(crate) width: usize,
    /// The line itself.
    pub(crate) text: String,
}

impl Place {
    /// One character of `text`, by its line and column, both from 1.
    pub(crate) fn at(text: &str, line: u32, column: u32) -> Self {
        let (line, column) = (line.max(1) as usize, column.max(1) as usize);
        Self { line, column, width: 1, text: text.lines().nth(line - 1).unwrap_or_default().to_owned() }
    }

    /// The place of a span of bytes of `text`.
    pub(crate) fn of(text: &str, span: std::ops::Range<usize>) -> Self {
        let floor = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (floor(span.start), floor(span.end));
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let count = |from: usize, to: usize| text.get(from..to).map_or(0, |part| part.chars().count());
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: count(begin, start) + 1,
            width: count(start, end.clamp(start, line_end)).max(1),
            text: text[begin..line_end].to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = crate::cli::show::plain(&self.path.to_string_lossy());
        let message = crate::cli::show::plain(&self.message);
        match &self.place {
            Some(Place { line, column, width, text }) => {
                let (number, text) = (line.to_string(), crate::cli::show::plain(text));
                writeln!(f, "{path}:{line}:{column}: {message}")?;
                writeln!(f, "  {number} | {text}")?;
                write!(f, "  {:n$} | {:c$}{}", "", "", "^".repeat(*width), n = number.len(), c = column - 1)?;
            }
            None => write!(f, "{path}: {message}")?,
        }
        if self.instead.is_empty() { Ok(()) } else { write!(f, "\n  in use instead: {}", self.instead) }
    }
}

/// Reads a configuration from its text.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, Problem> {
    toml::from_str(text).map_err(|error| Problem {
        path: path.to_owned(),
        place: error.span().map(|span| Place::of(text, span)),
        message: error.message().replace('\n', "; "),
        instead: String::new(),
    })
}

/// Hostile texts: a configuration is refused with a place that can be shown, or says the same when it is written again.
/// The text is also taken as the guarded host's list of users.
#[cfg_attr(not(test), allow(dead_code, reason = "`fuzz/` takes this file in"))]
pub(crate) const FUZZ: thymus_engine::fuzz::Target = thymus_engine::fuzz::Target {
    name: "configuration",
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        match parse(Path::new(DEFAULT_PATH), text) {
            Ok(config) => {
                for name in &config.administrators {
                    let _ = name.uid_in(text);
                }
                let again = toml::to_string(&config).map(|text| parse(Path::new(DEFAULT_PATH), &text));
                assert!(again.is_ok_and(|again| again.is_ok_and(|again| again == config)));
            }
            Err(problem) => assert!(!problem.to_string().contains('\u{1b}'), "a message moves nobody's cursor"),
        }
    },
    seeds: || {
        let own = "mode = \"guarded\"\nthis_host = true\nadministrators = [\"alice\"]\n[protect]\ntrees = [\"/etc\"]\n\
            [vault]\nquota_mb = 64\n[[service]]\nunit = \"nginx.service\"\ntcp = 80\nurl = \"http://127.0.0.1/\"\n";
        let usual = toml::to_string(&Config::default()).unwrap_or_default();
        vec![own.into(), usual.into_bytes(), b"alice:x:1000:1000::/home/alice:/bin/sh\n".into()]
    },
};

/// Reads a configuration. A file that is not there is the defaults only when it was not asked for by name.
pub(crate) fn load(path: Option<&Path>) -> Result<Config, Problem> {
    let at = path.unwrap_or(Path::new(DEFAULT_PATH));
    match read(at) {
        Ok(text) => parse(at, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => Ok(Config::default()),
        Err(error) => Err(unreadable(at, &error)),
    }
}

/// Reads a configuration; when it is broken, the last good copy that `state` keeps, else the defaults. The path of the
/// state directory is the caller's when given (`--state`), else the configuration's.
pub(crate) fn load_or_last_good(path: Option<&Path>, state: Option<&Path>) -> (Config, Vec<Problem>) {
    match load(path) {
        Ok(config) => {
            let state = state.unwrap_or(config.state.get());
            let text = path.or(Some(Path::new(DEFAULT_PATH))).and_then(|path| read(path).ok());
            let kept = text.map_or(Ok(()), |text| keep(&last_good(state, "thymus.toml"), text.as_bytes()));
            let problems = kept.err().map(|error| Problem {
                path: last_good(state, "thymus.toml"),
                place: None,
                message: format!("cannot keep a copy of the good configuration: {error}"),
                instead: String::new(),
            });
            (config, problems.into_iter().collect())
        }
        Err(mut problem) => {
            let copy = last_good(state.unwrap_or(Path::new(DEFAULT_STATE)), "thymus.toml");
            let found = read(&copy).ok().and_then(|text| parse(&copy, &text).ok());
            problem.instead = match &found {
                Some(_) => format!("the last good configuration, `{}`", copy.display()),
                None => "the defaults (mode observe): there is no last good configuration".into(),
            };
            (found.unwrap_or_default(), vec![problem])
        }
    }
}

/// Reads the policies of a directory; the built-in ones when it does not exist.
pub(crate) fn load_policies(directory: &Path) -> Result<Policies, Vec<Problem>> {
    let names = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(guard::Policies::defaults()),
        Err(error) => return Err(vec![unreadable(directory, &error)]),
    };
    let mut paths: Vec<PathBuf> = names.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "cedar"));
    paths.sort();
    if paths.is_empty() || paths.len() > POLICY_FILES_MAX {
        let message = format!("found {} policies, expected 1 to {POLICY_FILES_MAX} files `*.cedar`", paths.len());
        return Err(vec![Problem { path: directory.to_owned(), place: None, message, instead: String::new() }]);
    }
    let mut policies = Vec::new();
    for path in &paths {
        let text = read(path).map_err(|error| vec![unreadable(path, &error)])?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        policies.push((name, text));
    }
    let problem = |error: guard::PolicyError| {
        let at = policies.iter().position(|policy| policy.0 == error.file);
        let place = at.map(|at| Place::at(&policies[at].1, error.line, error.column));
        let path = at.map_or_else(|| directory.join(&error.file), |at| paths[at].clone());
        let message = format!("{}; expected {}", error.what, error.expected);
        Problem { path, place, message, instead: String::new() }
    };
    match guard::Policies::load(&policies) {
        Ok(_) => Ok(policies),
        Err(errors) => Err(errors.into_iter().map(problem).collect()),
    }
}

/// Reads the policies; when one is broken, the last good ones that `state` keeps, else the built-in ones.
pub(crate) fn load_policies_or_last_good(directory: &Path, state: &Path) -> (Policies, Vec<Problem>) {
    let copies = last_good(state, "policies");
    match load_policies(directory) {
        Ok(policies) => {
            let problems = keep_policies(&copies, &policies).err().map(|error| Problem {
                path: copies,
                place: None,
                message: format!("cannot keep a copy of the good policies: {error}"),
                instead: String::new(),
            });
            (policies, problems.into_iter().collect())
        }
        Err(mut problems) => {
            let found = if copies.is_dir() { load_policies(&copies).ok() } else { None };
            let instead = match &found {
                Some(_) => format!("the last good policies, `{}`", copies.display()),
                None => "the built-in policies: there are no last good ones".into(),
            };
            problems.iter_mut().for_each(|problem| problem.instead.clone_from(&instead));
            (found.unwrap_or_else(guard::Policies::defaults), problems)
        }
    }
}

pub(crate) fn last_good(state: &Path, name: &str) -> PathBuf {
    state.join("last-good").join(name)
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; leave --config out to use the defaults".into(),
        io::ErrorKind::InvalidData => "found bytes that are not UTF-8, expected text".into(),
        io::ErrorKind::FileTooLarge => format!("found more than {FILE_BYTES_MAX} bytes, expected a short text file"),
        _ => format!("cannot read it: {error}"),
    };
    Problem { path: path.to_owned(), place: None, message, instead: String::new() }
}

pub(crate) fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Writes a copy that is either the old one or the new one, whatever happens meanwhile.
pub(crate) fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if std::fs::read(path).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// Keeps copies of exactly these policies.
fn keep_policies(directory: &Path, policies: &[(String, String)]) -> io::Result<()> {
    for (name, text) in policies {
        keep(&directory.join(format!("{name}.cedar")), text.as_bytes())?;
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let stem = path.file_stem().unwrap_or_default();
        if !policies.iter().any(|(name, _)| name.as_str() == stem) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const FULL: &str = r#"
mode = "guarded"
this_host = true
administrators = ["ops"]

[protect]
trees = ["/etc/", "/srv"]
exclude = ["/srv/cache"]

[vault]
quota_mb = 64

[[service]]
unit = "nginx.service"
tcp = 80
url = "http://127.0.0.1/health"
"#;

    #[test]
    fn whatever_the_bytes_no_reader_panics() {
        assert_eq!(FUZZ.try_all(400), None);
    }

    #[test]
    fn a_user_has_the_number_that_the_list_gives() {
        let passwd = "root:x:0:0::/root:/bin/sh\n:x:5\nops:x:nine:9\nops:x:1000:1000::/home/ops:/bin/sh\nopsx:x:7\n";
        let uid = |name: &str| UserName(name.to_owned()).uid_in(passwd);
        assert_eq!([uid("root"), uid("ops"), uid("op"), uid("x")], [Some(0), Some(1000), None, None]);
    }

    fn place() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("thymus-config-").tempdir().unwrap()
    }

    #[test]
    fn what_is_effective_reads_back_as_itself() {
        for text in ["", FULL] {
            let config = parse(Path::new("x"), text).unwrap();
            assert_eq!(parse(Path::new("x"), &toml::to_string_pretty(&config).unwrap()).unwrap(), config);
        }
        assert_eq!(parse(Path::new("x"), FULL).unwrap().protect.trees[0].get(), &HostPath::from("/etc"));
    }

    #[test]
    fn a_broken_configuration_leaves_the_last_good_one_in_use() {
        let place = place();
        let (file, state) = (place.path().join("thymus.toml"), place.path().join("state"));
        std::fs::write(&file, "mode = \"no such\"").unwrap();
        let (config, problems) = load_or_last_good(Some(&file), Some(&state));
        assert_eq!(config, Config::default());
        assert!(problems[0].instead.contains("no last good configuration"), "{}", problems[0]);

        std::fs::write(&file, FULL).unwrap();
        let (good, problems) = load_or_last_good(Some(&file), Some(&state));
        assert_eq!(problems, []);
        std::fs::write(&file, "mode = \"no such\"").unwrap();
        let (config, problems) = load_or_last_good(Some(&file), Some(&state));
        assert_eq!(config, good);
        assert_eq!(problems[0].place.as_ref().map(|place| (place.line, place.column)), Some((1, 8)));
        assert!(problems[0].instead.contains("last-good/thymus.toml"), "{}", problems[0]);
    }

    #[test]
    fn a_configuration_asked_for_by_name_must_be_there_and_be_text() {
        let place = place();
        let file = place.path().join("thymus.toml");
        assert!(load(Some(&file)).unwrap_err().message.contains("no such file"));
        std::fs::write(&file, b"\xff").unwrap();
        assert!(load(Some(&file)).unwrap_err().message.contains("not UTF-8"));
        std::fs::write(&file, vec![b'#'; 2_000_000]).unwrap();
        assert!(load(Some(&file)).unwrap_err().message.contains("more than"));
    }

    #[test]
    fn a_broken_policy_leaves_the_last_good_ones_in_use_and_says_where() {
        let place = place();
        let (directory, state) = (place.path().join("policies"), place.path().join("state"));
        assert_eq!(load_policies(&directory), Ok(guard::Policies::defaults()));
        std::fs::create_dir(&directory).unwrap();
        assert!(load_policies(&directory).unwrap_err()[0].message.contains("expected 1 to"));

        for (name, text) in guard::Policies::defaults() {
            std::fs::write(directory.join(format!("{name}.cedar")), text).unwrap();
        }
        let (good, problems) = load_policies_or_last_good(&directory, &state);
        assert_eq!(problems, []);
        let name = &good[0].0;
        std::fs::write(directory.join(format!("{name}.cedar")), "\npermit(princ, action, resource);\n").unwrap();
        let (used, problems) = load_policies_or_last_good(&directory, &state);
        assert_eq!(used, good);
        assert_eq!(problems[0].place.as_ref().map(|place| place.line), Some(2));
        assert!(problems[0].instead.contains("last-good/policies"), "{}", problems[0]);
    }

    #[test]
    fn a_place_is_counted_in_characters_and_never_splits_one() {
        let text = "größe = 1\nä";
        assert_eq!(Place::of(text, 0..7), Place { line: 1, column: 1, width: 5, text: "größe = 1".into() });
        assert_eq!(Place::of(text, 3..4).column, 3);
        assert_eq!(Place::of(text, 999..1_000), Place { line: 2, column: 2, width: 1, text: "ä".into() });
    }
}
