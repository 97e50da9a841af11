// SPDX-License-Identifier: Apache-2.0
//! Parsers of logs: files `*.toml` of forms, each with samples that it must read as it says. See `rules/logs/`.
//!
//! Input: a directory. Output: the built-in parsers and those of the directory, where a file of the same name goes before a
//! built-in one, and what is wrong with the files. INVARIANT: a parser is used only when every sample of its file holds.

use crate::config::{self, Place, Problem};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thymus_engine::HostPath;
use thymus_engine::hearsay::{Hearsay, Said};
use thymus_host::sense::log::{Form, Parser, Template};

/// LIMIT: files of a directory, and logs and forms of one file.
const FILES_MAX: usize = 64;
const LOGS_MAX: usize = 16;
const FORMS_MAX: usize = 64;

const BUILT_IN: [(&str, &str); 2] =
    [("nginx", include_str!("../rules/logs/nginx.toml")), ("sshd", include_str!("../rules/logs/sshd.toml"))];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    files: Vec<config::Tree>,
    form: Vec<Line>,
    #[serde(default)]
    sample: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    template: toml::Spanned<String>,
    login: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    line: toml::Spanned<String>,
    /// Empty: it must not be read.
    says: BTreeMap<String, String>,
}

/// Every parser that can be used, and what is wrong with the others.
pub(crate) fn load(directory: &Path) -> (Vec<Parser>, Vec<Problem>) {
    let (mut parsers, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, text) in BUILT_IN {
        match parse(name, &PathBuf::from(format!("rules/logs/{name}.toml")), text) {
            Ok(parser) => drop(parsers.insert(name.to_owned(), parser)),
            Err(problem) => problems.push(problem),
        }
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return (parsers.into_values().collect(), problems);
        }
        Err(error) => {
            problems.push(config::unreadable(directory, &error));
            return (parsers.into_values().collect(), problems);
        }
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    for (number, path) in paths.iter().enumerate() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let read = match config::read(path) {
            _ if number >= FILES_MAX => Err(at(path, None, format!("found more than {FILES_MAX} files"))),
            Ok(text) => parse(&name, path, &text),
            Err(error) => Err(config::unreadable(path, &error)),
        };
        match read {
            Ok(parser) => drop(parsers.insert(name, parser)),
            Err(problem) => {
                let known = BUILT_IN.iter().any(|(built_in, _)| *built_in == name);
                let instead = if known { "the built-in parser of that name" } else { "no parser of that name" };
                problems.push(Problem { instead: instead.to_owned(), ..problem });
            }
        }
    }
    (parsers.into_values().collect(), problems)
}

fn at(path: &Path, place: Option<Place>, message: String) -> Problem {
    Problem { path: path.to_owned(), place, message, instead: String::new() }
}

/// One file; every sample is tried.
fn parse(name: &str, path: &Path, text: &str) -> Result<Parser, Problem> {
    let problem = |span: Option<std::ops::Range<usize>>, message: String| {
        at(path, span.map(|span| Place::of(text, span)), message)
    };
    let rules: Rules =
        toml::from_str(text).map_err(|error| problem(error.span(), error.message().replace('\n', "; ")))?;
    if rules.files.is_empty() || rules.files.len() > LOGS_MAX || rules.form.is_empty() || rules.form.len() > FORMS_MAX {
        let (files, forms) = (rules.files.len(), rules.form.len());
        let expected = format!("expected 1 to {LOGS_MAX} files and 1 to {FORMS_MAX} forms");
        return Err(problem(None, format!("found {files} files and {forms} forms, {expected}")));
    }
    let form = |line: &Line| {
        let template = Template::parse(line.template.get_ref());
        let template = template.map_err(|wrong| problem(Some(line.template.span()), wrong.to_string()))?;
        Ok(Form { template, login: line.login })
    };
    let forms = rules.form.iter().map(form).collect::<Result<_, Problem>>()?;
    let files = rules.files.iter().map(|file| file.get().clone()).collect();
    let parser = Parser { name: name.to_owned(), files, forms };
    for sample in &rules.sample {
        let read = parser.read(&HostPath::from("/"), sample.line.get_ref().as_bytes());
        let says = read.as_ref().map(says).unwrap_or_default();
        if says != sample.says {
            let message = format!("this sample is read as {says:?}, expected {:?}", sample.says);
            return Err(problem(Some(sample.line.span()), message));
        }
    }
    Ok(parser)
}

/// What a sample is compared by.
fn says(heard: &Hearsay) -> BTreeMap<String, String> {
    let mut says = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| drop(value.map(|value| says.insert(name.to_owned(), value)));
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    match &heard.said {
        Said::Authentication(login) => {
            put("login", Some(if login.success { "success" } else { "failure" }.to_owned()));
            put("user", login.user.clone());
            put("method", login.method.clone());
            let key = login.key_type.as_ref().zip(login.fingerprint.as_ref());
            put("key", key.map(|(kind, print)| format!("{kind} {print}")));
        }
        Said::Http(request) => {
            put("request", Some(format!("{} {}", or(&request.http_method), or(&request.path))));
            put("status", request.status.map(|status| status.to_string()));
        }
        Said::Other { message } => put("message", Some(message.clone())),
    }
    let from = heard.src_endpoint.as_ref();
    put("from", from.map(|from| std::net::SocketAddr::new(from.ip, from.port).to_string()));
    says
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_built_in_parsers_hold_and_an_operators_file_goes_before_them() {
        let place = tempfile::Builder::new().prefix("thymus-rules-").tempdir().unwrap();
        let (parsers, problems) = load(&place.path().join("none"));
        assert_eq!((parsers.len(), problems), (BUILT_IN.len(), vec![]));
        let file = place.path().join("nginx.toml");
        let own = "files = [\"/var/log/own.log\"]\n[[form]]\ntemplate = \"{message:word}\"\n";
        std::fs::write(&file, own).unwrap();
        let of = |parsers: &[Parser]| parsers.iter().find(|one| one.name == "nginx").unwrap().files[0].to_string();
        assert_eq!(of(&load(place.path()).0), "/var/log/own.log");

        std::fs::write(&file, format!("{own}[[sample]]\nline = \"a b\"\nsays = {{ message = \"a b\" }}\n")).unwrap();
        let (parsers, problems) = load(place.path());
        assert_eq!(of(&parsers), "/var/log/nginx/access.log");
        let told = problems[0].to_string();
        assert!(told.contains("nginx.toml:5:8") && told.contains("read as {}"), "{told}");
        assert!(told.contains("in use instead: the built-in parser"), "{told}");
        std::fs::write(&file, "files = [\"/x\"]\n[[form]]\ntemplate = \"{who}\"\n").unwrap();
        assert!(load(place.path()).1[0].to_string().contains("nginx.toml:3:12: at character 1: found `who`"));
    }
}
