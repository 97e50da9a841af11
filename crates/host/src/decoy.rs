// SPDX-License-Identifier: Apache-2.0
//! Decoys: hidden files among those of people and services, that nobody has a reason to write.
//!
//! Input: directories by globs. Output: one file in each, that of its owner, and the list of them in the agent's state.
//! Invariants: nothing that is there is replaced; a name is plausible and the same on no two hosts; no backup takes them
//! for the user's: the vault leaves them out, and they carry the attribute that tells others so.

use crate::glob;
use crate::system::{Bytes, Digest, FileState, Result, System};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thymus_engine::HostPath;
use thymus_engine::event::FileKind;

/// LIMIT: decoys of one host.
pub const DECOYS_MAX: usize = 64;
/// LIMIT: directories that are looked at for one glob.
const ENTRIES_MAX: usize = 1_024;
/// Names that are tried in one directory.
const NAMES: u8 = 4;

const WORDS: [&str; 16] = [
    "accounts",
    "archive",
    "budget",
    "clients",
    "contract",
    "forecast",
    "inventory",
    "invoices",
    "keys",
    "ledger",
    "orders",
    "payroll",
    "quotes",
    "reports",
    "statement",
    "tax",
];
const ENDINGS: [&str; 4] = ["csv", "sql", "txt", "xlsx"];
/// Tells backup programs to leave a file out (freedesktop.org, Common Extended Attributes).
const NO_BACKUP: (&str, &str) = ("user.xdg.robots.backup", "false");

/// Those of one host, as the state keeps them.
#[derive(Debug)]
pub struct Decoys {
    file: PathBuf,
    kept: Kept,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// 32 random bytes, hexadecimal: names and contents follow from it.
    seed: String,
    placed: Vec<(HostPath, FileState)>,
}

impl Decoys {
    /// Those of the last agent on this state; none when there was none, or the list cannot be read.
    #[must_use]
    pub fn remembered(file: &Path) -> Self {
        let kept = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file: file.to_owned(), kept }
    }

    #[must_use]
    pub fn paths(&self) -> Vec<HostPath> {
        self.kept.placed.iter().map(|(path, _)| path.clone()).collect()
    }

    /// One in each directory that matches, and the old ones as they were. What cannot be placed is left out, and said.
    pub fn place(&mut self, system: &mut dyn System, trees: &[String]) -> std::io::Result<()> {
        if self.kept.seed.len() < 64 {
            let mut seed = [0; 32];
            std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut seed)?;
            self.kept.seed = Digest(seed).to_string();
        }
        self.maintain(system);
        let directories: Vec<HostPath> = trees.iter().flat_map(|tree| directories(system, tree)).collect();
        for directory in directories {
            let there = self.kept.placed.iter().any(|(path, _)| path.parent() == directory.as_bytes());
            if there || self.kept.placed.len() >= DECOYS_MAX {
                continue;
            }
            match self.place_one(system, &directory) {
                Ok(Some(placed)) => self.kept.placed.push(placed),
                Ok(None) => {}
                Err(error) => tracing::warn!(%directory, error = error.in_words(), "no decoy there"),
            }
        }
        self.save()
    }

    /// Takes all of them away.
    pub fn remove(&mut self, system: &mut dyn System) -> std::io::Result<()> {
        for (path, state) in std::mem::take(&mut self.kept.placed) {
            // One that somebody changed is not ours any more.
            if let Err(error) = system.remove(&path, &state) {
                tracing::warn!(%path, error = error.in_words(), "a decoy was left where it is");
            }
        }
        self.save()
    }

    /// Puts back what was changed or taken away. A decoy whose directory is gone goes with it.
    pub fn maintain(&mut self, system: &mut dyn System) {
        self.kept.placed.retain(|(path, state)| match system.look(path) {
            Ok(Some(found)) if state.same(&found) => true,
            Ok(found) => match system.place(path, found.as_ref(), state) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%path, error = error.in_words(), "a decoy could not be put back");
                    false
                }
            },
            Err(_) => false,
        });
    }

    fn place_one(&self, system: &mut dyn System, directory: &HostPath) -> Result<Option<(HostPath, FileState)>> {
        let Some(whose) = system.look(directory)?.filter(|state| state.kind == FileKind::Directory) else {
            return Ok(None);
        };
        for attempt in 0..NAMES {
            let random = self.random(directory, attempt);
            let ending = ENDINGS[usize::from(random[1]) % ENDINGS.len()];
            let name =
                format!(".{}-20{:02}.{ending}", WORDS[usize::from(random[0]) % WORDS.len()], 15 + random[2] % 10);
            let path = HostPath::new(&[directory.as_bytes(), b"/", name.as_bytes()].concat());
            if system.look(&path)?.is_some() {
                continue;
            }
            let content = content(&random, ending);
            let state = FileState {
                kind: FileKind::Regular,
                mode: 0o600,
                uid: whose.uid,
                gid: whose.gid,
                mtime: whose.mtime,
                xattrs: vec![(HostPath::from(NO_BACKUP.0), Bytes(NO_BACKUP.1.into()))],
                content: Some(system.keep(&content)?),
                size: content.len() as u64,
                links: 1,
                ..FileState::default()
            };
            system.place(&path, None, &state)?;
            return Ok(Some((path, state)));
        }
        Ok(None)
    }

    fn random(&self, directory: &HostPath, attempt: u8) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.kept.seed.as_bytes()).update(directory.as_bytes()).update(&[attempt]);
        *hasher.finalize().as_bytes()
    }

    fn save(&self) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.kept)?;
        let unfinished = self.file.with_extension("new");
        std::fs::write(&unfinished, text)?;
        std::fs::rename(&unfinished, &self.file)
    }
}

/// What such a file would hold, 6 to 22 KiB.
fn content(random: &[u8; 32], ending: &str) -> Vec<u8> {
    let mut bytes = vec![0; 6_144 + 64 * usize::from(random[3])];
    blake3::Hasher::new().update(random).finalize_xof().fill(&mut bytes);
    if ending == "xlsx" {
        // The head of a zip archive's first entry, and what looks compressed.
        return [&b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0"[..], &bytes].concat();
    }
    let row = |chunk: &[u8]| {
        let number = chunk.iter().fold(0u64, |sum, byte| sum * 251 + u64::from(*byte));
        let word = WORDS[usize::from(chunk[0]) % WORDS.len()];
        format!(
            "{:06},{word},20{:02}-{:02}-{:02},{}.{:02}\n",
            number % 999_983,
            15 + chunk[1] % 10,
            1 + chunk[2] % 12,
            1 + chunk[3] % 28,
            number % 9_973,
            chunk[4] % 100
        )
    };
    bytes.chunks_exact(8).flat_map(|chunk| row(chunk).into_bytes()).take(bytes.len()).collect()
}

/// Directories that a glob names; hidden ones only where they are named.
fn directories(system: &mut dyn System, glob: &str) -> Vec<HostPath> {
    let counts =
        |(path, kind): &(HostPath, FileKind)| *kind == FileKind::Directory && path.file_name().first() != Some(&b'.');
    glob::expand(glob, ENTRIES_MAX, &mut |directory| {
        let listed = system.list(directory).unwrap_or_default();
        listed.into_iter().filter(counts).map(|(path, _)| path).collect()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::system::sim::Sim;

    fn home() -> (Sim, tempfile::TempDir, Decoys) {
        let sim = Sim::default();
        for path in ["/home", "/home/alice", "/home/alice/notes", "/home/alice/.ssh", "/home/bob", "/srv", "/srv/shop"]
        {
            sim.make_directory(path);
        }
        for path in ["/home/alice/notes/a.txt", "/home/bob/b.txt", "/srv/shop/c"] {
            sim.write(path, b"x\n", 0o644);
        }
        let state = tempfile::tempdir().unwrap();
        let decoys = Decoys::remembered(&state.path().join("decoys.json"));
        (sim, state, decoys)
    }

    #[test]
    fn contents_look_like_what_their_names_say_and_no_two_hosts_have_the_same() {
        let one = content(&[7; 32], "csv");
        assert!(one.is_ascii() && one.iter().filter(|byte| **byte == b'\n').count() > 50);
        assert_ne!(one, content(&[8; 32], "csv"));
        assert!(content(&[7; 32], "xlsx").starts_with(b"PK\x03\x04"));
    }

    const TREES: [&str; 3] = ["/home/*", "/home/*/*", "/srv/*"];

    #[test]
    fn one_hidden_file_lies_in_each_directory_and_nothing_is_replaced() {
        let (mut sim, state, mut decoys) = home();
        let before = sim.state();
        decoys.place(&mut sim, &TREES.map(str::to_owned)).unwrap();
        let placed = decoys.paths();
        let parents: Vec<String> = placed.iter().map(|path| HostPath::new(path.parent()).to_string()).collect();
        assert_eq!(parents, ["/home/alice", "/home/bob", "/home/alice/notes", "/srv/shop"]);
        assert!(placed.iter().all(|path| path.file_name().starts_with(b".") && !path.to_string().contains("thymus")));
        assert!(before.files.iter().all(|(path, state)| sim.state().files.get(path) == Some(state)));
        // The next agent on the same state knows them, and places no more.
        let mut next = Decoys::remembered(&state.path().join("decoys.json"));
        next.place(&mut sim, &TREES.map(str::to_owned)).unwrap();
        assert_eq!(next.paths(), placed);
        next.remove(&mut sim).unwrap();
        assert_eq!(sim.state().files, before.files);
    }

    #[test]
    fn what_was_written_or_taken_away_is_put_back() {
        let (mut sim, _state, mut decoys) = home();
        decoys.place(&mut sim, &TREES.map(str::to_owned)).unwrap();
        let whole = sim.state();
        let paths = decoys.paths();
        sim.write(&paths[0].to_string(), b"\x93\xff", 0o600);
        sim.delete(&paths[1].to_string());
        decoys.maintain(&mut sim);
        assert_eq!(sim.state().files, whole.files);
        assert_eq!(decoys.paths(), paths);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_no_list() {
        let (_, state, _) = home();
        let file = state.path().join("decoys.json");
        std::fs::write(&file, b"{").unwrap();
        assert_eq!(Decoys::remembered(&file).paths(), Vec::new());
    }
}
