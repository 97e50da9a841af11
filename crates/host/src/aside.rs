// SPDX-License-Identifier: Apache-2.0
//! Versions of a file that only a person can tell apart, laid beside where a person can look at them.
//!
//! Input: an incident, a path, a version of each side. Output: for each a copy in the agent's state, `INCIDENT/PATH.SIDE`, with
//! `/` written as `%2F`. Invariants: root alone reads them, nobody can run them, nothing outside of the directory is touched.

use crate::perform::Versions;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thymus_engine::input::Side;
use thymus_engine::{HostPath, IncidentId, VersionId};

/// The directory's name in the agent's state.
pub const DIRECTORY: &str = "aside";
/// LIMIT: incidents whose versions are kept; those of the lowest numbers go.
pub const INCIDENTS_MAX: usize = 32;
/// LIMIT: copies of one incident; further ones are not made.
pub const COPIES_MAX: usize = 192;
/// LIMIT: bytes of all copies of one incident.
pub const BYTES_MAX: u64 = 128 << 20;
/// LIMIT: bytes of a name, so that the side still fits (`NAME_MAX` is 255).
const NAME_BYTES_MAX: usize = 240;

/// Where the copies are.
#[derive(Clone, Debug)]
pub struct Asides(PathBuf);

impl Asides {
    /// Below the agent's state; made when it is needed.
    #[must_use]
    pub fn within(state: &Path) -> Self {
        Self(state.join(DIRECTORY))
    }

    /// Copies each version that the vault has; an older copy of the same side gives way. Says what could not be copied, and why.
    pub fn lay(
        &self,
        versions: &dyn Versions,
        incident: IncidentId,
        path: &HostPath,
        sides: &[(Side, VersionId)],
    ) -> Vec<String> {
        let mut missing = Vec::new();
        if let Err(error) = self.make_room(incident) {
            return vec![format!("`{}`: {error}", self.0.display())];
        }
        let directory = self.0.join(incident.to_string());
        for (side, version) in sides {
            let word = match side {
                Side::Before => "before",
                Side::Attack => "attack",
                Side::Others => "others",
            };
            let laid = match versions.content(*version) {
                Ok(content) => {
                    write(&directory, &format!("{}.{word}", name(path)), &content).map_err(|error| error.to_string())
                }
                Err(why) => Err(why),
            };
            if let Err(why) = laid {
                missing.push(format!("`{path}`, {word}: {why}"));
            }
        }
        missing
    }

    /// A directory for the incident, and no more of them than [`INCIDENTS_MAX`].
    fn make_room(&self, incident: IncidentId) -> io::Result<()> {
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&self.0)?;
        let numbers =
            std::fs::read_dir(&self.0)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let mut others: Vec<u64> = numbers.filter(|number| *number != incident.0).collect();
        others.sort_unstable();
        let over = (others.len() + 1).saturating_sub(INCIDENTS_MAX);
        for number in &others[..over] {
            std::fs::remove_dir_all(self.0.join(number.to_string()))?;
        }
        private(&self.0.join(incident.to_string()))
    }
}

/// The path as one name.
fn name(path: &HostPath) -> String {
    let mut name = String::new();
    for byte in path.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'+' | b'@' => name.push(char::from(*byte)),
            other => name += &format!("%{other:02X}"),
        }
    }
    if name.len() > NAME_BYTES_MAX {
        // Its end tells more than its beginning.
        let digest = crate::system::Digest::of(path.as_bytes()).to_string();
        name = format!("{}~{}", &digest[..16], &name[name.len() - (NAME_BYTES_MAX - 17)..]);
    }
    name
}

fn write(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let file = directory.join(name);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let sizes = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.metadata()?.len()));
    let sizes = sizes.collect::<io::Result<Vec<u64>>>()?;
    if sizes.len() >= COPIES_MAX || sizes.iter().sum::<u64>() + content.len() as u64 > BYTES_MAX {
        let full = format!(
            "there are {} copies of this incident already, at most {COPIES_MAX} and {BYTES_MAX} bytes",
            sizes.len()
        );
        return Err(io::Error::other(full));
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?.write_all(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::system::FileState;
    use std::os::unix::fs::PermissionsExt;

    struct Known;

    impl Versions for Known {
        fn state(&self, version: VersionId) -> Result<Option<FileState>, String> {
            Err(format!("no version {version}"))
        }

        fn names(&self, _: VersionId) -> Vec<HostPath> {
            Vec::new()
        }

        fn content(&self, version: VersionId) -> Result<Vec<u8>, String> {
            match version.0 {
                5 => Ok(vec![0; usize::try_from(BYTES_MAX / 2).unwrap()]),
                0..=9 => Ok(format!("version {version}").into_bytes()),
                _ => Err(format!("no version {version}")),
            }
        }
    }

    fn lay(asides: &Asides, incident: u64, path: &str, sides: &[(Side, u64)]) -> Vec<String> {
        let sides: Vec<(Side, VersionId)> = sides.iter().map(|(side, id)| (*side, VersionId(*id))).collect();
        asides.lay(&Known, IncidentId(incident), &HostPath::from(path), &sides)
    }

    #[test]
    fn each_side_is_a_copy_that_root_alone_reads_and_nobody_runs() {
        let state = tempfile::tempdir().unwrap();
        let asides = Asides::within(state.path());
        let missing = lay(&asides, 7, "/etc/../a b", &[(Side::Before, 1), (Side::Attack, 2), (Side::Others, 77)]);
        assert_eq!(missing, ["`/etc/../a b`, others: no version 77"]);
        let file = |side: &str| state.path().join("aside/7").join(format!("%2Fetc%2F..%2Fa%20b.{side}"));
        assert_eq!(std::fs::read(file("before")).unwrap(), b"version 1");
        assert_eq!(std::fs::read(file("attack")).unwrap(), b"version 2");
        assert_eq!(std::fs::metadata(file("attack")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(state.path().join("aside")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(lay(&asides, 7, "/etc/../a b", &[(Side::Before, 3)]), Vec::<String>::new());
        assert_eq!(std::fs::read(file("before")).unwrap(), b"version 3");
    }

    #[test]
    fn what_is_kept_is_bounded_and_long_paths_keep_a_name_of_their_own() {
        let state = tempfile::tempdir().unwrap();
        let asides = Asides::within(state.path());
        for incident in 1..=40 {
            assert_eq!(lay(&asides, incident, "/etc/a", &[(Side::Before, 1)]), Vec::<String>::new());
        }
        let kept = std::fs::read_dir(state.path().join("aside")).unwrap().count();
        assert!(
            kept == INCIDENTS_MAX && !state.path().join("aside/8").exists() && state.path().join("aside/9").exists()
        );
        for number in 0..COPIES_MAX {
            lay(&asides, 40, &format!("/{}/{number}", "x".repeat(300)), &[(Side::Before, 1)]);
        }
        assert_eq!(std::fs::read_dir(state.path().join("aside/40")).unwrap().count(), COPIES_MAX);
        assert!(lay(&asides, 40, "/etc/more", &[(Side::Before, 1)])[0].contains("copies of this incident already"));
        let large = lay(&asides, 41, "/var/large", &[(Side::Before, 5), (Side::Attack, 5), (Side::Others, 5)]);
        assert!(large.len() == 1 && large[0].contains("others: there are 2 copies"), "{large:?}");
    }
}
