// SPDX-License-Identifier: Apache-2.0
//! The policies: a directory of files `*.cedar` or a built-in set, as the configuration names it.
//!
//! Input: the directory or the name of a set, and where the state is kept. Output: names and texts that the guard can load, always, and what is
//! wrong with the files. INVARIANT: all of a directory's policies are used or none; when one is broken, the last good ones
//! are used, else the built-in ones.

use super::file::{keep, last_good, read, unreadable};
use super::problem::{Place, Problem};
use std::io;
use std::path::{Path, PathBuf};
use thymus_engine::guard;

/// LIMIT: policy files in the policy directory.
const POLICY_FILES_MAX: usize = 64;

/// Cedar policies, name and text, in order.
pub(crate) type Policies = Vec<(String, String)>;

/// The policies of a built-in set, by its bare name.
pub(crate) fn built_in(name: &Path) -> Option<Policies> {
    name.to_str().and_then(guard::Policies::built_in)
}

/// Reads the policies of a directory; the built-in ones when it does not exist, or is the name of a set.
pub(crate) fn load_policies(directory: &Path) -> Result<Policies, Vec<Problem>> {
    if let Some(policies) = built_in(directory) {
        return Ok(policies);
    }
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

    #[test]
    fn a_broken_policy_leaves_the_last_good_ones_in_use_and_says_where() {
        let place = tempfile::Builder::new().prefix("thymus-config-").tempdir().unwrap();
        let (directory, state) = (place.path().join("policies"), place.path().join("state"));
        assert_eq!(load_policies(&directory), Ok(guard::Policies::defaults()));
        assert_eq!(load_policies(Path::new("ot")).ok(), guard::Policies::built_in("ot"));
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
}
