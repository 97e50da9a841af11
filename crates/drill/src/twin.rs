// SPDX-License-Identifier: Apache-2.0
//! A disposable host: a reflinked copy of the base on its own loop device, booted with systemd-nspawn.
//!
//! What keeps a twin inside: its own mount, network, pid, ipc, uts, cgroup and (for the agent outside) user namespaces;
//! capabilities that would change the machine are dropped; no device nodes; no network but its own loopback; memory and
//! process limits. The `hardening` test proves it before any attack runs.
//!
//! Everything of a twin carries its name: a directory below the cache, two cgroups (the twin itself, and the `-tools`:
//! ssh clients, the agent). [`sweep`] removes by that name whatever a killed harness left.

use crate::base::Disk;
use crate::{Doing, Error, Result, output, wait_until};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use thymus_host::scope::Scope;

/// All names of ours begin with this.
const PREFIX: &str = "thymus-twin-";

/// The names of all twins below `cache` begin with this; a sweep looks for nothing else. Another cache has another harness.
fn prefix(cache: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let hash = blake3::hash(cache.as_os_str().as_bytes()).to_hex();
    format!("{PREFIX}{}-", &hash[..8])
}

const CGROUP2: &str = "/sys/fs/cgroup/unified";
const CGROUP2_ALONE: &str = "/sys/fs/cgroup";
/// Hierarchies of cgroup v1 that a twin gets a directory in, where the machine has them.
const CGROUP1: [&str; 3] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"];

/// LIMIT: memory of one twin, bytes.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// LIMIT: processes and threads of one twin.
pub const PROCESSES_MAX: u32 = 512;

/// Waits on the kernel and on systemd; a boot takes below a second on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// What root in the twin may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// A user namespace of its own: root inside is nobody outside.
    UserNamespace,
    /// The machine's user namespace with capabilities dropped: an agent inside needs it for eBPF and fanotify.
    /// For our own drills only, never for third-party commands or attempts to escape.
    Capabilities,
}

#[derive(Debug)]
pub struct Twin {
    name: String,
    directory: PathBuf,
    nspawn: Option<Child>,
    leader: u32,
}

impl Twin {
    /// Copies and mounts the image; nothing runs yet. `tag` makes the name unique within this process.
    pub fn new(disk: &Disk, tag: &str) -> Result<Self> {
        Self::like(disk, tag, disk.image())
    }

    /// The same, of another image than the base: a photograph of another twin's disk.
    pub fn like(disk: &Disk, tag: &str, image: &Path) -> Result<Self> {
        let name = format!("{}{}-{tag}", prefix(disk.cache()), std::process::id());
        let directory = disk.runs().join(&name);
        let twin = Self { name, directory, nspawn: None, leader: 0 };
        let root = twin.root();
        std::fs::create_dir_all(&root).doing("make the directory", &root)?;
        clone(image, &twin.image())?;
        mount(&twin.image(), &root)?;
        std::fs::create_dir_all(twin.tools()).doing("make the cgroup", twin.tools())?;
        Ok(twin)
    }

    /// The twin's file system as the machine sees it: owners as on disk.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn image(&self) -> PathBuf {
        self.directory.join("image")
    }

    /// A copy of its disk as it is now, with everything that was written until now, mounted at the path that is given.
    /// It is gone with the twin.
    pub fn photograph(&self, name: &str) -> Result<PathBuf> {
        let root = self.root();
        let held = std::fs::File::open(&root).doing("open", &root)?;
        rustix::fs::syncfs(&held).doing("write out", &root)?;
        let image = self.photographed(name);
        clone(&self.image(), &image)?;
        let copy = self.directory.join(format!("root-{name}"));
        std::fs::create_dir_all(&copy).doing("make the directory", &copy)?;
        mount(&image, &copy)?;
        Ok(copy)
    }

    /// The image of that photograph.
    #[must_use]
    pub fn photographed(&self, name: &str) -> PathBuf {
        self.directory.join(format!("image-{name}"))
    }

    /// As when the power goes: every process is gone at once, and so is what had not reached the disk. It can boot again.
    pub fn cut_power(&mut self) -> Result<()> {
        let left = self.directory.join("image-left");
        clone(&self.image(), &left)?;
        self.halt()?;
        unmount_below(&self.root());
        std::fs::rename(&left, self.image()).doing("put back", &left)?;
        mount(&self.image(), &self.root())
    }

    /// A directory of this twin that is gone with it; root alone can read it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first process, as the machine numbers it; 0 before [`Twin::boot`].
    #[must_use]
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// The cgroup that holds the twin's processes and nothing else.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        let own = cgroup2().join(&self.name);
        let payload = own.join("payload");
        if payload.exists() { payload } else { own }
    }

    fn tools(&self) -> PathBuf {
        cgroup2().join(format!("{}-tools", self.name))
    }

    /// Writes a file of the twin's before it boots; directories above it are made as root's.
    pub fn plant(&self, path: &str, content: &[u8], mode: u32, owner: u32) -> Result<()> {
        let path = self.root().join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).doing("make the directory", parent)?;
        }
        std::fs::write(&path, content).doing("write", &path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).doing("set the mode of", &path)?;
        chown(&path, Some(owner), Some(owner)).doing("set the owner of", &path)
    }

    /// Boots, and returns when systemd says that everything is up.
    pub fn boot(&mut self, confinement: Confinement) -> Result<()> {
        let own = cgroup2().join(&self.name);
        let mut groups = vec![own.clone()];
        std::fs::create_dir_all(&own).doing("make the cgroup", &own)?;
        for hierarchy in CGROUP1.iter().map(Path::new).filter(|path| path.join("cgroup.procs").exists()) {
            let group = hierarchy.join(&self.name);
            std::fs::create_dir_all(&group).doing("make the cgroup", &group)?;
            groups.push(group);
        }
        self.limit("/sys/fs/cgroup/memory", "memory.limit_in_bytes", MEMORY_BYTES_MAX.to_string());
        self.limit("/sys/fs/cgroup/pids", "pids.max", PROCESSES_MAX.to_string());

        let log = self.directory.join("console.log");
        let console = std::fs::File::create(&log).doing("open", &log)?;
        let errors = console.try_clone().doing("open", &log)?;
        let mut nspawn = enter(&groups, "systemd-nspawn");
        nspawn
            .args(["--quiet", "--boot", "--private-network", "--register=no", "--keep-unit", "--link-journal=no"])
            .args(["--resolv-conf=off", "--timezone=off", "--console=read-only"])
            .arg("--drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE,CAP_SYS_RAWIO,CAP_MKNOD,CAP_AUDIT_CONTROL")
            .arg(format!("--machine={}", self.name))
            .arg("-D")
            .arg(self.root())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env("SYSTEMD_NSPAWN_TMPFS_TMP", "0")
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors);
        match confinement {
            Confinement::UserNamespace => nspawn.args(["--private-users=pick", "--private-users-ownership=map"]),
            Confinement::Capabilities => nspawn
                .arg("--private-users=no")
                .arg("--capability=CAP_BPF,CAP_PERFMON,CAP_SYS_PTRACE,CAP_DAC_READ_SEARCH")
                .arg("--system-call-filter=bpf fanotify_init fanotify_mark open_by_handle_at perf_event_open"),
        };
        let child = nspawn.spawn().map_err(|source| Error::Spawn { program: "systemd-nspawn".into(), source })?;
        self.nspawn = Some(child);

        let root = self.root();
        wait_until("the twin has a first process", BOOT_LIMIT, || {
            self.leader = Scope::cgroup(&own, &root).ok().and_then(|scope| scope.leader()).unwrap_or(0);
            self.leader != 0
        })?;
        let socket = PathBuf::from(format!("/proc/{}/root/run/dbus/system_bus_socket", self.leader));
        wait_until("the twin's message bus is there", BOOT_LIMIT, || socket.exists())?;
        let state = self.inside(&["systemctl", "is-system-running", "--wait"])?;
        if state.trim() == "running" {
            Ok(())
        } else {
            Err(Error::Deadline { what: format!("the twin is running; it is {}", state.trim()), limit: BOOT_LIMIT })
        }
    }

    fn limit(&self, hierarchy: &str, file: &str, value: String) {
        let path = Path::new(hierarchy).join(&self.name).join(file);
        if let Err(error) = std::fs::write(&path, value) {
            tracing::warn!(path = %path.display(), %error, "a twin without this limit");
        }
    }

    /// Runs a program in all the twin's namespaces, for the harness's own questions (before the agent starts and after
    /// the drill): people and attackers come by ssh. At most a minute.
    pub fn inside(&self, command: &[&str]) -> Result<String> {
        let leader = self.leader.to_string();
        let mut nsenter = self.tool("timeout");
        nsenter.args(["--kill-after=1", "60", "nsenter", "-t", &leader, "-a"]).args(command);
        match output(&mut nsenter) {
            // systemctl says with its status what it also prints
            Err(Error::Failed { output, .. }) if command.first() == Some(&"systemctl") => Ok(output),
            other => other,
        }
    }

    /// A program in all the twin's namespaces and in a cgroup of its own below the twin's, so that what it costs can be
    /// told apart; gives that cgroup too. An agent sees it as any process of the twin's that nobody logged in for.
    pub fn apart(&self, name: &str, command: &[&str]) -> Result<(Command, PathBuf)> {
        let group = self.cgroup().join(name);
        std::fs::create_dir_all(&group).doing("make the cgroup", &group)?;
        let mut nsenter = enter(std::slice::from_ref(&group), "nsenter");
        nsenter.args(["-t", &self.leader.to_string(), "-a"]).args(command);
        Ok((nsenter, group))
    }

    /// Processor time of everything on the machine that belongs to this twin: its agent and warden, ssh clients.
    pub fn tools_cpu(&self) -> Result<Duration> {
        cpu(&self.tools())
    }

    pub(crate) fn tools_are_quiet(&self) -> bool {
        std::fs::read_to_string(self.tools().join("cgroup.events")).is_ok_and(|text| text.contains("populated 0"))
    }

    /// A program on the machine that belongs to this twin and ends with it.
    #[must_use]
    pub fn tool(&self, program: &str) -> Command {
        enter(&[self.tools()], program)
    }

    /// Ends every process of the twin and keeps its disk mounted, to be looked at.
    pub fn halt(&mut self) -> Result<()> {
        if let Some(mut nspawn) = self.nspawn.take() {
            // First: until it is gone, the one who starts the twin may still be on his way into its cgroup.
            let _ = nspawn.kill();
            let _ = nspawn.wait();
        }
        for group in [self.tools(), cgroup2().join(&self.name)] {
            kill(&group)?;
        }
        Ok(())
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        if let Err(error) = self.halt() {
            tracing::error!(twin = %self.name, %error, "cannot end a twin's processes");
        }
        remove(&self.name, &self.directory);
    }
}

/// Processor time that a cgroup and everything below it has used, those who ended included. Needs no controller.
pub fn cpu(group: &Path) -> Result<Duration> {
    let path = group.join("cpu.stat");
    let text = std::fs::read_to_string(&path).doing("read", &path)?;
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
    Ok(Duration::from_micros(used.unwrap_or(0)))
}

fn cgroup2() -> &'static Path {
    let hybrid = Path::new(CGROUP2);
    if hybrid.join("cgroup.procs").exists() { hybrid } else { Path::new(CGROUP2_ALONE) }
}

fn clone(image: &Path, copy: &Path) -> Result<()> {
    output(Command::new("cp").arg("--reflink=always").arg(image).arg(copy)).map(drop)
}

fn mount(image: &Path, root: &Path) -> Result<()> {
    output(Command::new("mount").args(["-o", "loop,noatime"]).arg(image).arg(root)).map(drop)
}

/// A command that puts itself into `groups` before it becomes `program`, in a process group of its own:
/// a Ctrl-C at the terminal is for the harness alone.
fn enter(groups: &[PathBuf], program: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    // The kernel takes the writer itself; a refusal ends the command before it has done anything.
    command.args([
        "-c",
        "while [ \"$1\" != -- ]; do echo 0 >\"$1/cgroup.procs\" || exit 126; shift; done; shift; exec \"$@\"",
        "sh",
    ]);
    command.args(groups).arg("--").arg(program).process_group(0);
    command
}

/// Kills all of a cgroup and waits until it is empty. A missing one is empty.
fn kill(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    let switch = group.join("cgroup.kill");
    std::fs::write(&switch, "1").doing("write", &switch)?;
    let events = group.join("cgroup.events");
    // Not interruptible: this is how an interrupted drill ends.
    let deadline = std::time::Instant::now() + KILL_LIMIT;
    while std::fs::read_to_string(&events).is_ok_and(|text| !text.contains("populated 0")) {
        if std::time::Instant::now() > deadline {
            return Err(Error::Deadline { what: format!("`{}` is empty", group.display()), limit: KILL_LIMIT });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Takes away everything that bears `name`: cgroups, mount (its loop device goes with it), files.
fn remove(name: &str, directory: &Path) {
    for hierarchy in [cgroup2()].into_iter().chain(CGROUP1.iter().map(Path::new)) {
        for group in [hierarchy.join(name), hierarchy.join(format!("{name}-tools"))] {
            if hierarchy == cgroup2()
                && let Err(error) = kill(&group)
            {
                tracing::error!(%error, "cannot end the processes of a twin");
            }
            remove_cgroup(&group);
        }
    }
    unmount_below(directory);
    match std::fs::remove_dir_all(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::error!(path = %directory.display(), %error, "cannot remove a twin's files"),
    }
}

/// Deepest first; the kernel lets go of a cgroup a moment after its last process.
fn remove_cgroup(group: &Path) {
    // LIMIT: tries of 10 ms each.
    for _ in 0..300 {
        let mut all = vec![group.to_owned()];
        let mut at = 0;
        while let Some(directory) = all.get(at).cloned() {
            let children = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            all.extend(
                children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
            at += 1;
        }
        for directory in all.iter().rev() {
            // A refusal shows in the next look.
            let _ = std::fs::remove_dir(directory);
        }
        if !group.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    tracing::error!(path = %group.display(), "cannot remove a cgroup");
}

fn unmount_below(directory: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut mounts: Vec<&Path> = mounts.filter(|mount| mount.starts_with(directory)).collect();
    mounts.sort_unstable();
    for mount in mounts.iter().rev() {
        // LIMIT: tries of 20 ms; a namespace that died just now may hold it a moment longer.
        let free = (0..150).any(|_| {
            let done = rustix::mount::unmount(*mount, rustix::mount::UnmountFlags::empty()).is_ok();
            if !done {
                std::thread::sleep(Duration::from_millis(20));
            }
            done
        });
        if !free {
            tracing::error!(mount = %mount.display(), "busy; it is detached and goes when its last user does");
            let _ = rustix::mount::unmount(*mount, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Removes every twin that is left below `cache`, whoever made it, and unmounts the disk.
/// Only for the holder of the disk's lock: then nobody else has one.
pub fn sweep(cache: &Path) {
    let (runs, prefix) = (cache.join("disk/run"), prefix(cache));
    for hierarchy in [cgroup2()].into_iter().chain(CGROUP1.iter().map(Path::new)) {
        let entries = std::fs::read_dir(hierarchy).into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with(&prefix) {
                let name = name.strip_suffix("-tools").unwrap_or(&name);
                remove(name, &runs.join(name));
            }
        }
    }
    let leftovers = std::fs::read_dir(&runs).into_iter().flatten().flatten();
    for entry in leftovers.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
        remove(&entry.file_name().to_string_lossy(), &entry.path());
    }
    unmount_below(&cache.join("disk"));
}

/// What a machine shows of twins: to be empty when no drill runs.
#[must_use]
pub fn traces(cache: &Path) -> Vec<String> {
    let prefix = prefix(cache);
    let mut found = Vec::new();
    for hierarchy in [cgroup2()].into_iter().chain(CGROUP1.iter().map(Path::new)) {
        let entries = std::fs::read_dir(hierarchy).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(&prefix));
        found.extend(names.map(|path| format!("cgroup {}", path.display())));
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4));
    found.extend(mounts.filter(|mount| Path::new(mount).starts_with(cache)).map(|mount| format!("mount {mount}")));
    for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(backing.trim()).starts_with(cache) {
            found.push(format!("loop device {} of {}", entry.file_name().to_string_lossy(), backing.trim()));
        }
    }
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let group = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // A zombie has ended; only the machine's init has not looked yet.
        let ended = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        if pid != std::process::id() && !ended && (line.contains(&prefix) || group.contains(&prefix)) {
            found.push(format!("process {pid} {line}"));
        }
    }
    found
}
