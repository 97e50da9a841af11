// SPDX-License-Identifier: Apache-2.0
//! What a build costs more where Thymus guards: processor time of the build's own cgroup without an agent, with one that
//! may act (pre-images on), and with auditd watching the same calls; in turn, in one twin, by pairs.
//!
//! The build is `make` and `gcc` over small sources below a protected tree, with temporary files in `/tmp` (2,100
//! processes, 1,800 files written, renamed and removed), or `shell`: as many short processes that compute nothing, the
//! worst that can be asked; or `connections`: a hundred times as many short connections over loopback, by two processes, with
//! 100 bytes there and back (auditd is told nothing of those, so `no-audit` with it). The agent stands outside of the twin; what it and its warden use themselves is told apart.
//! Each round starts it anew on what it knew, so that "off" is off: no mark, no program.
//!
//! KERNEL: audit is not of a namespace. For the length of its turn this machine's audit is enabled, with rules for the
//! twin's root user alone; in the other turns, and only while this program runs, one rule keeps new processes free of audit.
//! Each turn ends with those rules deleted and the switches as they were, an interrupted one too. What stays until the next
//! boot: the kernel remembers that audit was enabled once, and gives each new process an audit context.
//!
//! Interrupted, it tells of the rounds that are complete.
//!
//! `load_cost [ROUNDS] [UNITS] [build|shell|connections] [audit|no-audit]`, as root, after `drills/setup bench`; the agent is `thymus` beside it.
#![allow(clippy::print_stdout, reason = "a measurement, for people")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thymus_drill::agent::{self, Agent};
use thymus_drill::base::{self, Disk};
use thymus_drill::scenario::Plan;
use thymus_drill::twin::{self, Confinement, Twin};
use thymus_drill::{Placement, interrupt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 30;
const UNITS: usize = 300;
/// What an agent still does for a load after its end is counted too.
const AFTERMATH: Duration = Duration::from_secs(2);
const TREE: &str = "/srv/build";

/// What the twin's Debian lacks for a build: of this machine's, which is the same Debian.
const COMPILER: [&str; 4] = ["/usr/bin/gcc-12", "/usr/bin/as", "/usr/bin/make", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1"];

const MAKEFILE: &str = "OBJECTS := $(patsubst src/%.c,obj/%.o,$(wildcard src/*.c))\nall: app.list\n\
obj/%.o: src/%.c\n\
\t@gcc-12 -O1 -Iinclude -MMD -MF obj/$*.d.new -c $< -o obj/.$*.o.new && sed -e 's/ *\\\\$$//' obj/$*.d.new >obj/$*.P \
&& rm -f obj/$*.d.new && mv obj/.$*.o.new $@\n\
app.list: $(OBJECTS)\n\t@cat obj/*.o | cksum >app.new && mv app.new $@\n\
clean:\n\t@rm -rf obj app.list && mkdir obj\n";

const SHELL: &str = "rm -rf obj && mkdir obj\nfor source in src/*.c; do\n\
  unit=${source#src/}; unit=${unit%.c}\n\
  sed -e 's/int/long/' $source >/tmp/$unit.i\n  cksum /tmp/$unit.i >obj/.$unit.new\n\
  mv obj/.$unit.new obj/$unit.o\n  cat obj/$unit.o $source >obj/$unit.P\n  sort /tmp/$unit.i >obj/$unit.s\n\
  rm /tmp/$unit.i\n  /bin/true\ndone\ncat obj/*.o | cksum >app.list\n";

const CONNECTIONS: &str = r#"
use IO::Socket::INET;
alarm 120; # neither waits for ever for the other
my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => "127.0.0.1") or die $!;
my ($at, $text, $got) = ("127.0.0.1:" . $listener->sockport, "x" x 100);
if (!fork) {
    alarm 120;
    for (1 .. $ARGV[0]) {
        my $one = $listener->accept or die $!;
        sysread($one, $got, 100); syswrite($one, $text); close $one;
    }
    exit 0;
}
for (1 .. $ARGV[0]) {
    my $one = IO::Socket::INET->new(PeerAddr => $at) or die $!;
    syswrite($one, $text); sysread($one, $got, 100); close $one;
}
wait; exit($?);
"#;

/// One turn: processor time of the load, of whoever watched it, and the time it took.
#[derive(Clone, Copy, Default)]
struct Cost {
    load: f64,
    watcher: f64,
    wall: f64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse().ok());
    let (rounds, units) = (numbers.next().unwrap_or(ROUNDS), numbers.next().unwrap_or(UNITS));
    let connections = (100 * units).to_string();
    let audit = if has("no-audit") { None } else { Some(Daemon::start()?) };
    interrupt::listen();

    let disk = Disk::open(&base::cache())?;
    let mut twin = Twin::new(&disk, "load")?;
    plant(&twin, units)?;
    twin.boot(Confinement::UserNamespace)?;
    let (kind, command): (_, &[&str]) = match () {
        () if has("shell") => ("run of short processes", &["sh", "-c", SHELL]),
        () if has("connections") => ("hundred short connections each", &["perl", "-e", CONNECTIONS, &connections]),
        () => ("build", &["make", "-s", "-C", TREE, "clean", "all"]),
    };
    println!(
        "a {kind} of {units} units, {rounds} rounds; load of the machine now {}",
        std::fs::read_to_string("/proc/loadavg")?.trim()
    );
    if audit.is_some() {
        println!("this machine's audit is enabled for a third of each round, for the twin's root user alone");
    }
    work(&twin, command)?; // what is read the first time is in memory from here on

    let program = std::env::current_exe()?.with_file_name("../thymus").canonicalize()?;
    let mut agent = Agent::start(&twin, Placement::Outside, &program, &Plan::default())?.ok_or("no agent")?;
    println!("agent ready after {} ms", agent.cost().ready_ms);
    work(&twin, command)?;
    agent.stop()?;

    let mut costs: Vec<[Cost; 3]> = Vec::new();
    let mut memory = Vec::new();
    for round in 1..=rounds {
        let one = match one_round(&twin, &mut agent, audit.as_ref(), command, &mut memory) {
            Ok(one) => one,
            Err(error) if interrupt::check().is_err() && !costs.is_empty() => {
                println!("{error}");
                break;
            }
            Err(error) => return Err(error),
        };
        let [off, on, audited] = one;
        println!(
            "round {round}: load off {:.2} s, on {:.2} s, auditd {:.2} s; agent {:.2} s, auditd {:.2} s; wall {:.1} {:.1} {:.1} s",
            off.load, on.load, audited.load, on.watcher, audited.watcher, off.wall, on.wall, audited.wall
        );
        costs.push(one);
    }

    let ratio = |of: &dyn Fn(&[Cost; 3]) -> f64| percent(costs.iter().map(of).collect());
    println!("the load's own processor time, on against off: {}", ratio(&|[off, on, _]| on.load / off.load));
    println!(
        "with the agent's and the warden's:             {}",
        ratio(&|[off, on, _]| (on.load + on.watcher) / off.load)
    );
    println!("time from beginning to end:                    {}", ratio(&|[off, on, _]| on.wall / off.wall));
    if audit.is_some() {
        println!("auditd, the load's own:                        {}", ratio(&|[off, _, audit]| audit.load / off.load));
        println!(
            "auditd, with its daemon's:                     {}",
            ratio(&|[off, _, audit]| (audit.load + audit.watcher) / off.load)
        );
    }
    if let Some((_, counters)) = memory.last() {
        println!("the agent's counters after its last load: {counters:?}");
    }
    let memory: Vec<_> = memory.into_iter().map(|(cost, _)| cost).collect();
    let peak = memory.iter().map(|cost| cost.memory_peak).max().unwrap_or(0);
    println!(
        "agent's resident memory after each load: {} MB at most; peak of any life {} MB",
        memory.iter().map(|cost| cost.memory).max().unwrap_or(0) / 1_000_000,
        peak / 1_000_000
    );
    Ok(())
}

fn one_round(
    twin: &Twin,
    agent: &mut Agent<'_>,
    audit: Option<&Daemon>,
    command: &[&str],
    memory: &mut Vec<(agent::Cost, BTreeMap<String, u64>)>,
) -> Result<[Cost; 3]> {
    let off = work(twin, command)?;
    agent.again()?;
    let before = twin.tools_cpu()?;
    let mut on = work(twin, command)?;
    std::thread::sleep(AFTERMATH);
    on.watcher = (twin.tools_cpu()? - before).as_secs_f64();
    memory.push((agent.cost(), agent.status()?.counters));
    agent.stop()?;
    let audited = audit.map(|audit| audit.turn(twin, command)).transpose()?;
    Ok([off, on, audited.unwrap_or_default()])
}

/// Median and, by order statistics, its 95 % interval, as percent above one.
fn percent(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let count = ratios.len();
    let show = |at: usize| (ratios[at] - 1.0) * 100.0;
    // The largest rank so that fewer than `rank` successes of `count` fair coins have a chance below 2.5 %.
    let (mut rank, mut chance, mut term) = (0, 0.0, 0.5f64.powi(i32::try_from(count).unwrap_or(i32::MAX)));
    #[expect(clippy::cast_precision_loss, reason = "counts of rounds")]
    while chance + term <= 0.025 {
        chance += term;
        term *= (count - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
    let median = f64::midpoint(show((count - 1) / 2), show(count / 2));
    if rank == 0 {
        return format!("{median:+.1} % (from {:+.1} to {:+.1} %, {count} pairs)", show(0), show(count - 1));
    }
    format!("{median:+.1} % (95 % interval {:+.1} to {:+.1} %, {count} pairs)", show(rank - 1), show(count - rank))
}

/// Sources of the build, and the compiler.
fn plant(twin: &Twin, units: usize) -> Result<()> {
    twin.plant(&format!("{TREE}/Makefile"), MAKEFILE.as_bytes(), 0o644, 0)?;
    twin.plant(
        &format!("{TREE}/include/unit.h"),
        b"struct unit { int key; struct unit *next; char name[32]; };\n",
        0o644,
        0,
    )?;
    for unit in 0..units {
        let mut text = String::from("#include \"unit.h\"\n");
        for function in 0..3 {
            text += &format!(
                "int unit_{unit}_{function}(struct unit *list, int key)\n{{\n    int found = 0;\n    \
                 for (struct unit *at = list; at; at = at->next) {{\n        if (at->key == key + {function})\n            \
                 found += at->name[key & 31];\n        else if (at->key > key)\n            found ^= {unit};\n    }}\n    \
                 return found * {function};\n}}\n"
            );
        }
        twin.plant(&format!("{TREE}/src/unit_{unit}.c"), text.as_bytes(), 0o644, 0)?;
    }
    let libraries = Command::new("ldd").args(COMPILER).output()?;
    let libraries = String::from_utf8(libraries.stdout)?;
    let libraries = libraries.lines().filter_map(|line| line.split(" => ").nth(1)?.split(' ').next());
    for path in COMPILER.into_iter().chain(libraries) {
        if !twin.root().join(path.trim_start_matches('/')).exists() {
            twin.plant(path, &std::fs::read(path)?, 0o755, 0)?;
        }
    }
    Ok(())
}

/// Runs the load to its end, in its own cgroup.
fn work(twin: &Twin, command: &[&str]) -> Result<Cost> {
    interrupt::check()?;
    let (mut load, group) = twin.apart("load", &[&["env", "-C", TREE], command].concat())?;
    let before = twin::cpu(&group)?;
    let begin = Instant::now();
    let done = load.stdin(Stdio::null()).output()?;
    if !done.status.success() {
        return Err(format!("the load failed: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    let wall = begin.elapsed().as_secs_f64();
    Ok(Cost { load: (twin::cpu(&group)? - before).as_secs_f64(), watcher: 0.0, wall })
}

/// Debian's auditd, with nothing to do until rules come. Started before this program blocks signals, which it would inherit.
struct Daemon {
    daemon: Child,
    directory: PathBuf,
    /// Enabled, limit of the backlog: as they were.
    before: [String; 2],
}

impl Daemon {
    fn start() -> Result<Self> {
        let status = auditctl(&["-s"])?;
        let now = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map(|text| text.trim().to_owned()).ok_or("auditctl -s says something else")
        };
        let before = [now("enabled")?, now("backlog_limit")?];
        // A killed one's number stays until the kernel has something to tell it.
        let pid = now("pid")?;
        if pid != "0" && std::path::Path::new("/proc").join(pid).exists() {
            return Err("an auditd runs on this machine; it is left alone".into());
        }
        let directory = std::env::temp_dir().join(format!("thymus-audit-{}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let log = directory.join("audit.log");
        let text = format!(
            "log_file = {}\nlocal_events = yes\nwrite_logs = yes\nlog_format = ENRICHED\nflush = INCREMENTAL_ASYNC\nfreq = 50\n\
             max_log_file = 64\nnum_logs = 2\nmax_log_file_action = ROTATE\npriority_boost = 4\nname_format = NONE\n\
             space_left = 75\nspace_left_action = SYSLOG\nadmin_space_left = 50\nadmin_space_left_action = SUSPEND\n\
             disk_full_action = SUSPEND\ndisk_error_action = SUSPEND\n",
            log.display()
        );
        std::fs::write(directory.join("auditd.conf"), text)?;
        let mut command = Command::new("auditd");
        command.args(["-n", "-s", "nochange", "-c"]).arg(&directory);
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let daemon = Self { daemon, directory, before };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !auditctl(&["-s"])?.lines().any(|line| line == format!("pid {}", daemon.daemon.id())) {
            if Instant::now() > deadline {
                return Err("auditd did not come up".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        auditctl(&["-b", "8192"])?;
        // New processes have nothing to do with audit but in its own turns, as if nobody had ever enabled it.
        auditctl(&["-a", "task,never"])?;
        Ok(daemon)
    }

    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.id())).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    fn turn(&self, twin: &Twin, command: &[&str]) -> Result<Cost> {
        let before = self.cpu();
        let rules = Rules::begin(twin)?;
        let mut cost = work(twin, command)?;
        drop(rules);
        std::thread::sleep(AFTERMATH);
        cost.watcher = self.cpu() - before;
        Ok(cost)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let [enabled, backlog] = &self.before;
        undo(&["-d", "task,never"]);
        undo(&["-b", backlog]);
        undo(&["-e", enabled]);
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.daemon),
            rustix::process::Signal::TERM,
        );
        let _ = self.daemon.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn undo(arguments: &[&str]) {
    if let Err(error) = auditctl(arguments) {
        println!("LEFT BEHIND: {error}");
    }
}

/// Audit as auditd's users have it, of the calls that the agent looks at, made by the twin's root.
#[derive(Default)]
struct Rules(Vec<Vec<String>>);

impl Rules {
    fn begin(twin: &Twin) -> Result<Self> {
        let root = root_of(twin)?;
        let calls = [
            ("execve,execveat,fork,vfork,clone,clone3,exit_group", None),
            ("open", Some("a1&3")),
            ("openat", Some("a2&3")),
            (
                "creat,unlink,unlinkat,rename,renameat,renameat2,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,link,linkat,\
                 symlink,symlinkat,truncate,ftruncate,mkdir,mkdirat,rmdir,mknod,mknodat,setxattr,lsetxattr,fsetxattr",
                None,
            ),
        ];
        let mut rules = Self::default();
        auditctl(&["-d", "task,never"])?;
        for (names, filter) in calls {
            let mut rule: Vec<String> = ["always,exit", "-F", "arch=b64", "-S", names].map(str::to_owned).to_vec();
            for filter in filter.into_iter().map(str::to_owned).chain([format!("uid={root}")]) {
                rule.extend(["-F".to_owned(), filter]);
            }
            let words: Vec<&str> = ["-a"].into_iter().chain(rule.iter().map(String::as_str)).collect();
            auditctl(&words)?;
            rules.0.push(rule);
        }
        auditctl(&["-e", "1"])?;
        Ok(rules)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        undo(&["-e", "0"]);
        for rule in &self.0 {
            undo(&["-d"].into_iter().chain(rule.iter().map(String::as_str)).collect::<Vec<_>>());
        }
        undo(&["-a", "task,never"]);
    }
}

fn auditctl(arguments: &[&str]) -> Result<String> {
    let done = Command::new("auditctl").args(arguments).output()?;
    if !done.status.success() {
        return Err(format!("auditctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// The twin's root as the machine numbers it.
fn root_of(twin: &Twin) -> Result<u32> {
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", twin.leader()))?;
    let outside = map.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    outside.ok_or_else(|| "the twin has no user namespace".into())
}
