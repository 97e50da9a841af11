// SPDX-License-Identifier: Apache-2.0
//! The configuration read from its file.
//!
//! Input: the path, if a person named one, and where the state is kept. Output: a configuration, always, and what is wrong
//! with the file. INVARIANT: a broken file never stops the agent: the last good one is used, else the defaults.

use super::file::{keep, last_good, read, unreadable};
use super::problem::{Place, Problem};
use super::{Config, DEFAULT_PATH, DEFAULT_STATE};
use std::io;
use std::path::Path;

/// Reads a configuration from its text.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, Problem> {
    toml::from_str(text).map_err(|error| Problem {
        path: path.to_owned(),
        place: error.span().map(|span| Place::of(text, span)),
        message: error.message().replace('\n', "; "),
        instead: String::new(),
    })
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use thymus_engine::HostPath;

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
}
