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
            put("user", request.user.clone());
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

    const HEAD: &str = "2026-01-05T09:00:12+00:00 shop ";
    /// Never at the other end of a connection.
    const BYSTANDER: &str = "10.0.0.9";

    fn built_in(name: &str) -> Parser {
        let (parsers, _) = load(Path::new("/nonexistent"));
        parsers.into_iter().find(|parser| parser.name == name).unwrap()
    }

    /// Everything that the lines of a text say.
    fn read(parser: &Parser, text: &[u8]) -> Vec<Hearsay> {
        text.split(|byte| *byte == b'\n').filter_map(|line| parser.read(&HostPath::from("/log"), line)).collect()
    }

    fn is_of(heard: &Hearsay, address: &str) -> bool {
        heard.src_endpoint.as_ref().is_some_and(|from| from.ip.to_string() == address)
    }

    /// Names that an intruder may choose to come in by.
    fn hostile() -> Vec<Vec<u8>> {
        let claim = format!("root from {BYSTANDER} port 22 ssh2");
        let line = format!("sshd[1]: Accepted publickey for {claim}: ED25519 SHA256:x");
        let mut names: Vec<Vec<u8>> = [
            claim.clone(),
            format!("{claim}: ED25519 SHA256:x"),
            format!("{claim}: RSA"),
            format!("invalid user {claim}"),
            format!("x]: Accepted password for {claim}"),
            format!("x\t{claim}"),
            format!("x\n{claim}"),
            format!("x\r\n{claim}"),
            format!("x\0{claim}"),
            line.clone(),
            format!("x {HEAD}{line}"),
            format!("{}{claim}", "[".repeat(64)),
            format!("{} {claim}", "a".repeat(64 << 10)),
            format!("{claim} {}", "a".repeat(64 << 10)),
        ]
        .map(String::into_bytes)
        .into();
        names.push([b"\xff\xfe".as_slice(), claim.as_bytes(), b"\xc3"].concat());
        names
    }

    /// As sshd writes a name, and syslog what it gets: no control character goes into the log as it is.
    fn escaped(name: &[u8]) -> Vec<u8> {
        let escape =
            |byte: &u8| if byte.is_ascii_control() { format!("#{byte:03o}").into_bytes() } else { vec![*byte] };
        name.iter().flat_map(escape).collect()
    }

    #[test]
    fn a_login_name_never_makes_sshd_name_a_bystander() {
        let sshd = built_in("sshd");
        let mut read_right = 0;
        let names = hostile().into_iter().chain([b"alice".to_vec()]);
        for name in names.flat_map(|name| [escaped(&name), name]) {
            for (before, after) in [
                ("Accepted publickey for ", " from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:abc"),
                ("Accepted password for ", " from 192.0.2.7 port 40022 ssh2"),
                ("Failed password for invalid user ", " from 192.0.2.7 port 40022 ssh2"),
                ("Failed none for ", " from 192.0.2.7 port 40022 ssh2"),
                ("Invalid user ", " from 192.0.2.7 port 40022"),
                ("Received disconnect from 192.0.2.7 port 40022:11: ", ""),
                ("pam_unix(sshd:auth): authentication failure; rhost=192.0.2.7 user=", ""),
            ] {
                for tag in ["sshd[408]: ", "sshd-session[408]: "] {
                    let text = [HEAD.as_bytes(), tag.as_bytes(), before.as_bytes(), &name, after.as_bytes()].concat();
                    let found = read(&sshd, &text);
                    assert!(found.iter().all(|heard| is_of(heard, "192.0.2.7")), "{}", text.escape_ascii());
                    read_right += found.len();
                }
            }
        }
        assert_eq!(read_right, 2 * 2 * 4, "alice is read, raw or escaped, under both tags");
    }

    #[test]
    fn a_name_that_is_cut_short_names_nobody() {
        let sshd = built_in("sshd");
        for length in 0..2_048 {
            let name = format!("{} from {BYSTANDER} port 22 ssh2", "a".repeat(length));
            let line =
                format!("{HEAD}sshd[408]: Failed password for invalid user {name} from 192.0.2.7 port 40022 ssh2");
            for bytes in [480, 1_024, 2_048] {
                let line = &line.as_bytes()[..line.len().min(bytes)];
                assert_eq!(read(&sshd, line), [], "{length} bytes before the claim, cut at {bytes}");
            }
        }
    }

    #[test]
    fn what_another_program_says_is_not_taken_for_sshds() {
        let sshd = built_in("sshd");
        let line = format!("Accepted password for root from {BYSTANDER} port 22 ssh2");
        assert_eq!(read(&sshd, format!("{HEAD}sshd[1]: {line}").as_bytes()).len(), 1);
        for before in [
            &format!("{HEAD}app: sshd[1]: "),
            &format!("{HEAD}app[7]: {HEAD}sshd[1]: "),
            "sshd[1]: ",
            "x: sshd[1]: ",
            "",
        ] {
            assert_eq!(read(&sshd, format!("{before}{line}").as_bytes()), [], "{before}");
        }
        let times = ["Jan  5 09:00:12 app: sshd[1]: ", "Jan  5 09:00:12 sshd[1]: ", " Jan  5 09:00:12 shop sshd[1]: "];
        assert!(times.iter().all(|before| read(&sshd, format!("{before}{line}").as_bytes()).is_empty()));
    }

    #[test]
    fn no_field_of_a_request_moves_another() {
        let nginx = built_in("nginx");
        let own = "[05/Jan/2026:09:00:12 +0000] \"GET /own HTTP/1.1\" 200 5 \"-\" \"x\"";
        let more = [
            own.to_owned(),
            format!("x {own}"),
            format!("{BYSTANDER} - - {own}"),
            format!("x\n{BYSTANDER} - y"),
            "x - y".to_owned(),
            "x [y".to_owned(),
            "x] \"y\" 200 5 \"".to_owned(),
            "john doe".to_owned(),
        ];
        // As nginx writes it, and as it is (`escape=none`), but for line feeds: whoever can begin a line can write it.
        let escape = |byte: &u8| match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => format!("\\x{byte:02X}").into_bytes(),
            byte => vec![*byte],
        };
        let mut read_right = 0;
        for text in hostile().into_iter().chain(more.map(String::into_bytes)) {
            let raw = Some(text.clone()).filter(|text| !text.contains(&b'\n'));
            for text in raw.into_iter().chain([text.iter().flat_map(escape).collect()]) {
                for place in 0..4 {
                    let mut fields = [&b"-"[..], b"GET /true HTTP/1.1", b"-", b"agent"];
                    fields[place] = &text;
                    let [user, request, referer, agent] = fields;
                    let line = [
                        b"192.0.2.7 - ",
                        user,
                        b" [05/Jan/2026:09:00:12 +0000] \"",
                        request,
                        b"\" 404 512 \"",
                        referer,
                        b"\" \"",
                        agent,
                        b"\"",
                    ];
                    for heard in read(&nginx, &line.concat()) {
                        let Said::Http(found) = &heard.said else { panic!("a request") };
                        let path = if place == 1 { found.path.clone() } else { Some("/true".to_owned()) };
                        let shown = String::from_utf8_lossy(&text);
                        assert!(is_of(&heard, "192.0.2.7"), "{place}: {shown}");
                        assert_eq!((&found.path, found.status), (&path, Some(404)), "{place}: {shown}");
                        read_right += 1;
                    }
                }
            }
        }
        assert!(read_right > 100, "only {read_right} are read at all");
    }
}
