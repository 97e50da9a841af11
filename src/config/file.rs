// SPDX-License-Identifier: Apache-2.0
//! Files that people write, and the copies of the last good ones: read with a bound, kept whole.
//!
//! Input: a path. Output: its text, or why it cannot be used. INVARIANT: a copy is either the old one or the new one, and only
//! root can read it.

use super::problem::Problem;
use std::io;
use std::path::{Path, PathBuf};

/// LIMIT: bytes of a configuration or policy file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

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
