// SPDX-License-Identifier: Apache-2.0
//! Ten thousand files of 100 kB taken in, and put back after all of them were overwritten: Thymus, `restic`, `borg`, `cp`.
//!
//! Half of the files are text (they compress to about a third), half are noise. They lie on an ext4 image of their own, what
//! is kept of them on another. Taken in once by each; put back by each in turn, [`ROUNDS`] times, another one first each
//! time, after every file was overwritten in place with noise of the same length; each time until both file systems are on
//! the disk (`syncfs`). What is kept was read before, so it is in memory for all of them alike. Ours are the hands as the agent has them: intent in
//! the journal, pre-image kept, content by digest from the vault, in actions of 256 files; finding the attack is not in it.
//! Processor time is of the whole process tree. Everything is compared with the first state in the end.
//!
//! `restore_speed [ROUNDS] [FILES] [PLACE]`, as root, after `drills/setup bench`; `PLACE` is a directory with 8 GB (`/var/tmp`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement, for people"
)]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use thymus_engine::action::{Action, Authored, FILES_MAX, RestoreFile};
use thymus_engine::incident::{Decision, Verdict};
use thymus_engine::{ActionId, HostPath, IncidentId, Input, ProcessKey};
use thymus_host::journal::Journal;
use thymus_host::perform::{Hands, VaultContents, VaultVersions};
use thymus_host::scope::Scope;
use thymus_host::system::linux::Linux;
use thymus_host::vault::{Options, Vault};
use thymus_host::warden::Leases;

const ROUNDS: usize = 5;
const FILES: usize = 10_000;
const FILE_BYTES: usize = 100_000;
const ANSWERS: [(&str, &str); 3] = [
    ("RESTIC_PASSWORD", "bench"),
    ("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes"),
    ("BORG_BASE_DIR", "/var/tmp/thymus-borg"),
];

/// Two ext4 images, mounted, gone at the end.
struct Place(PathBuf);

impl Place {
    fn new(place: &Path) -> Self {
        let place = Self(place.join(format!("thymus-restore-{}", std::process::id())));
        for name in ["files", "kept"] {
            let (image, mount) = (place.0.join(format!("{name}.ext4")), place.0.join(name));
            std::fs::create_dir_all(&mount).unwrap();
            run(Command::new("truncate").arg("-s").arg("16G").arg(&image));
            run(Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&image));
            run(Command::new("mount").args(["-o", "loop,noatime"]).arg(&image).arg(&mount));
        }
        std::fs::create_dir(place.tree()).unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.0.join("files")
    }

    fn tree(&self) -> PathBuf {
        self.0.join("files/tree")
    }

    fn kept(&self, by: &str) -> PathBuf {
        self.0.join("kept").join(by)
    }

    fn sync(&self) {
        for name in ["files", "kept"] {
            rustix::fs::syncfs(std::fs::File::open(self.0.join(name)).unwrap()).unwrap();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in ["files", "kept"] {
            let _ = Command::new("umount").arg(self.0.join(name)).status();
        }
        let _ = std::fs::remove_dir_all(&self.0);
        let _ = std::fs::remove_dir_all("/var/tmp/thymus-borg");
    }
}

fn run(command: &mut Command) {
    let done = command.envs(ANSWERS).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Xorshift; noise that no compressor makes smaller.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(FILE_BYTES).collect()
    }

    fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::with_capacity(FILE_BYTES + 16);
        while text.len() < FILE_BYTES {
            // Words of a few thousand, as in prose and in logs.
            text.extend_from_slice(format!("w{:x} ", self.next() % 4_000).as_bytes());
            if self.next().is_multiple_of(12) {
                text.push(b'\n');
            }
        }
        text.truncate(FILE_BYTES);
        text
    }
}

fn paths(tree: &Path, files: usize) -> Vec<PathBuf> {
    (0..files).map(|number| tree.join(format!("{:02}", number / 100)).join(format!("file-{number}"))).collect()
}

/// Wall and processor time, seconds, until it is on the disk.
fn timed(place: &Place, what: impl FnOnce()) -> (f64, f64) {
    place.sync();
    let (begin, before) = (Instant::now(), cpu());
    what();
    place.sync();
    (begin.elapsed().as_secs_f64(), cpu() - before)
}

/// Of this process and of all that it has waited for; in ticks of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(4);
    fields.map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn bytes_of(directory: &Path) -> u64 {
    let done = Command::new("du").args(["-s", "--block-size=1"]).arg(directory).output().unwrap();
    String::from_utf8_lossy(&done.stdout).split('\t').next().unwrap().parse().unwrap()
}

fn digests(paths: &[PathBuf]) -> BTreeMap<PathBuf, blake3::Hash> {
    paths.iter().map(|path| (path.clone(), blake3::hash(&std::fs::read(path).unwrap()))).collect()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    let mut numbers = std::env::args().skip(1);
    let rounds = numbers.next().map_or(ROUNDS, |word| word.parse().unwrap());
    let files = numbers.next().map_or(FILES, |word| word.parse().unwrap());
    let place = Place::new(Path::new(&numbers.next().unwrap_or_else(|| "/var/tmp".into())));
    let (root, tree) = (place.root(), place.tree());
    let paths = paths(&tree, files);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for (number, path) in paths.iter().enumerate() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, if number % 2 == 0 { noise.text() } else { noise.bytes() }).unwrap();
    }
    let first = digests(&paths);
    println!(
        "{files} files of {FILE_BYTES} bytes, half text, half noise; load {}",
        std::fs::read_to_string("/proc/loadavg").unwrap().trim()
    );

    // Another process of the cgroup is not ours to touch: an empty one of our own is the scope.
    let cgroups = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let cgroup = cgroups.into_iter().find(|mount| mount.join("cgroup.procs").exists()).expect("cgroup v2 is mounted");
    let cgroup = cgroup.join(format!("thymus-restore-{}", std::process::id()));
    std::fs::create_dir(&cgroup).unwrap();
    let scope = Scope::cgroup(&cgroup, &root).unwrap();
    let mut options = Options::of(&["/tree"]);
    options.quota_bytes = 8 << 30;
    let vault = Vault::open(&place.kept("vault"), &scope, options).unwrap();

    println!("taken in:");
    let told = |name: &str, (wall, cpu): (f64, f64), kept: &Path| {
        let bytes = bytes_of(kept);
        let part = bytes as f64 / (files * FILE_BYTES) as f64;
        println!(
            "  {name:8} {wall:6.1} s, {cpu:6.1} s of processor time, {} MB on disk ({part:.2} of the content)",
            bytes / 1_000_000
        );
    };
    let took = timed(&place, || {
        let covered: u64 = vault.baseline().unwrap().trees.iter().map(|tree| tree.files - tree.missing_count).sum();
        assert!(covered >= files as u64);
        vault.sync().unwrap();
    });
    told("thymus", took, &place.kept("vault"));
    run(Command::new("restic").args(["init", "-q", "-r"]).arg(place.kept("restic")));
    let took = timed(&place, || {
        run(Command::new("restic").args(["backup", "-q", "--no-cache", "-r"]).arg(place.kept("restic")).arg(&tree));
    });
    told("restic", took, &place.kept("restic"));
    run(Command::new("borg").args(["init", "-e", "none"]).arg(place.kept("borg")));
    let archive = format!("{}::first", place.kept("borg").display());
    let took = timed(&place, || run(Command::new("borg").args(["create", &archive, "tree"]).current_dir(&root)));
    told("borg", took, &place.kept("borg"));
    std::fs::create_dir(place.kept("cp")).unwrap();
    let took =
        timed(&place, || run(Command::new("cp").args(["-a", "--reflink=never"]).arg(&tree).arg(place.kept("cp"))));
    told("cp -a", took, &place.kept("cp"));

    let (journal, _) = Journal::open(&place.kept("journal")).unwrap();
    let leases = Leases::open(&place.kept("leases")).unwrap();
    let acting = scope.acting().unwrap();
    let system = Linux::new(acting, &place.kept("keep"), &[]).unwrap().upon(Box::new(VaultContents(vault.clone())));
    let mut hands = Hands::new(Box::new(system), journal, Box::new(VaultVersions::new(&vault)), leases);
    let inside = |path: &PathBuf| HostPath::new(&path.as_os_str().as_bytes()[root.as_os_str().as_bytes().len()..]);
    let whole: Vec<HostPath> = paths.iter().map(inside).collect();
    let based: Vec<_> = whole.iter().map(|path| vault.latest(path).unwrap()).collect();
    let mut actions = 0;
    let mut seconds: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    let mut later: Vec<Vec<Authored>> = vec![Vec::new(); files];
    for round in 1..=rounds {
        // Each first in turn: who is first pays for memory that the machine did not have yet.
        let mut turns = ["thymus", "restic", "borg", "cp -a"];
        turns.rotate_left(round % 4);
        for name in turns {
            for path in &paths {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, &noise.bytes(), 0).unwrap();
            }
            // What the sensors would have told the vault: a version of the attack's at each path.
            if name == "thymus" {
                for (path, later) in whole.iter().zip(&mut later) {
                    let version = vault.renew(path, ProcessKey::default(), "attack");
                    later.push(Authored { version, attack: true });
                }
            }
            run(Command::new("sh")
                .args(["-c", "find \"$1\" -type f -exec cat {} + >/dev/null", "sh"])
                .arg(place.0.join("kept")));
            let took = timed(&place, || match name {
                "thymus" => {
                    let all: Vec<RestoreFile> = (0..files)
                        .map(|at| RestoreFile {
                            path: whole[at].clone(),
                            base: based[at],
                            later: later[at].clone(),
                            append_only: false,
                            again: false,
                            whole: false,
                        })
                        .collect();
                    for some in all.chunks(FILES_MAX) {
                        actions += 1;
                        let what = Action::RestoreFiles { files: some.to_vec().into() };
                        match hands.prepare(ActionId(actions), IncidentId(1), what) {
                            Input::Prepared { facts, .. } => {
                                assert!(facts.left_out.is_empty(), "{:?}", facts.left_out.first())
                            }
                            other => panic!("{other:?}"),
                        }
                        let verdict = Verdict { decision: Decision::Permit, reasons: Vec::new() };
                        match hands.commit(ActionId(actions), verdict) {
                            Input::Outcome { outcome: thymus_engine::action::Outcome::Success, .. } => {}
                            other => panic!("{other:?}"),
                        }
                    }
                }
                "restic" => run(Command::new("restic")
                    .args(["restore", "latest", "-q", "--no-cache", "--target", "/", "-r"])
                    .arg(place.kept("restic"))),
                "borg" => run(Command::new("borg").args(["extract", &archive]).current_dir(&root)),
                _ => run(Command::new("cp").args(["-a", "--reflink=never"]).arg(place.kept("cp/tree")).arg(&root)),
            });
            assert!(digests(&paths) == first, "{name} put back something else");
            println!("  round {round} {name:8} {:6.1} s, {:6.1} s of processor time", took.0, took.1);
            seconds.entry(name).or_default().push(took);
        }
    }
    println!("put back, median of {rounds}:");
    for (name, all) in &seconds {
        let of = |which: fn(&(f64, f64)) -> f64| median(all.iter().map(which).collect());
        println!("  {name:8} {:6.1} s, {:6.1} s of processor time", of(|took| took.0), of(|took| took.1));
    }
    let stored = bytes_of(&place.kept("vault"));
    let unique = files as u64 * FILE_BYTES as u64 * (1 + rounds as u64);
    println!(
        "vault after it: {} MB on disk for {} MB of unique content ({:.2}), the keep {} MB",
        stored / 1_000_000,
        unique / 1_000_000,
        stored as f64 / unique as f64,
        bytes_of(&place.kept("keep")) / 1_000_000
    );
    drop(hands);
    drop(vault);
    std::fs::remove_dir(&cgroup).unwrap();
}
