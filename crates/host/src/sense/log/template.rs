// SPDX-License-Identifier: Apache-2.0
//! Forms of lines: literal text, and captures with a kind and a name.
//!
//! Input: a form as `Accepted {method:word} for {user:word} from {address:address}`, and a line. Output: what the captures
//! are, when the whole line fits in exactly one way. INVARIANT: a line that would also fit with another text in a capture is
//! not read, so a user called `x from 192.0.2.1` moves nobody's address: every way lies between the one in which each text of
//! the form stands as early as it can and the one in which it stands as late as it can; where both agree there is no other.
//! Two passes, each as long as the line. Blind spot: whoever can begin a line of the log can write a whole one.

use super::time;
use std::net::IpAddr;
use std::ops::Range;
use thymus_engine::event::Endpoint;
use thymus_engine::hearsay::{Hearsay, Login, RAW_BYTES_MAX, Request, Said, TEXT_BYTES_MAX};
use thymus_engine::path::HostPath;

/// LIMIT: bytes of a form, and parts in it.
const FORM_BYTES_MAX: usize = 1_024;
const PARTS_MAX: usize = 64;

/// What a capture must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without blanks, and no longer than what is kept of it: a line that its writer cut short (RFC 5424: not below 480
    /// bytes) then ends within a word that is too long, never after an address that a longer word brought along.
    Word,
    /// Letters, digits, `.`, `-` and `_`.
    Host,
    /// As syslog writes it (RFC 3164, RFC 3339), or a web server.
    Time,
    Address,
    Port,
    Number,
    /// Anything, also nothing.
    Text,
}

const KINDS: [(&str, Kind); 7] = [
    ("word", Kind::Word),
    ("host", Kind::Host),
    ("time", Kind::Time),
    ("address", Kind::Address),
    ("port", Kind::Port),
    ("number", Kind::Number),
    ("text", Kind::Text),
];
/// What may be captured.
const NAMES: [&str; 12] = [
    "time",
    "user",
    "address",
    "port",
    "method",
    "key_type",
    "fingerprint",
    "request",
    "status",
    "user_agent",
    "message",
    "_",
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Capture(&'static str, Kind),
}

/// What is wrong with a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {what}")]
pub struct Wrong {
    pub at: usize,
    pub what: String,
}

/// One form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// The same from its end, and each text of it, too.
    backward: Vec<Part>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |at: usize, what: String| Wrong { at: text[..at].chars().count() + 1, what };
        if text.len() > FORM_BYTES_MAX {
            return Err(wrong(0, format!("found {} bytes, expected at most {FORM_BYTES_MAX}", text.len())));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let open = rest.find('{').unwrap_or(rest.len());
            if open > 0 {
                parts.push(Part::Literal(rest.as_bytes()[..open].to_vec()));
                rest = &rest[open..];
                continue;
            }
            let close =
                rest.find('}').ok_or_else(|| wrong(at, "found no `}`, expected the end of a capture".into()))?;
            let inside = &rest[1..close];
            let (name, kind) = inside.split_once(':').unwrap_or((inside, "text"));
            let name = NAMES.iter().find(|known| **known == name);
            let name =
                name.ok_or_else(|| wrong(at, format!("found `{inside}`, expected a name of {}", NAMES.join(", "))))?;
            let kind = KINDS.iter().find(|(known, _)| *known == kind).map(|(_, kind)| *kind);
            let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
            let kind =
                kind.ok_or_else(|| wrong(at, format!("found `{inside}`, expected a kind of {}", kinds.join(", "))))?;
            if matches!(parts.last(), Some(Part::Capture(..))) {
                return Err(wrong(at, "found two captures side by side, expected text between them".into()));
            }
            if *name != "_" && parts.iter().any(|part| matches!(part, Part::Capture(other, _) if other == name)) {
                return Err(wrong(at, format!("found `{name}` twice, expected each name once")));
            }
            parts.push(Part::Capture(name, kind));
            rest = &rest[close + 1..];
        }
        if parts.is_empty() || parts.len() > PARTS_MAX {
            return Err(wrong(0, format!("found {} parts, expected 1 to {PARTS_MAX}", parts.len())));
        }
        let turned = |part: &Part| match part {
            Part::Literal(text) => Part::Literal(text.iter().rev().copied().collect()),
            Part::Capture(name, _) => Part::Capture(name, Kind::Text),
        };
        let backward = parts.iter().rev().map(turned).collect();
        Ok(Self { parts, backward })
    }

    /// What the captures are; `None`: the line is of another form, or fits in several ways.
    fn read<'l>(&self, line: &'l [u8]) -> Option<Vec<(&'static str, &'l [u8])>> {
        let spans = earliest(&self.parts, line)?;
        let turned: Vec<u8> = line.iter().rev().copied().collect();
        let latest = earliest(&self.backward, &turned)?;
        let latest = latest.iter().rev().map(|span| line.len() - span.end..line.len() - span.start);
        spans.iter().cloned().eq(latest).then_some(())?;
        let captures = self.parts.iter().filter_map(|part| match part {
            Part::Capture(name, kind) => Some((*name, *kind)),
            Part::Literal(_) => None,
        });
        let value = |((name, kind), span): ((&'static str, Kind), Range<usize>)| {
            kind.fits(&line[span.clone()]).then(|| (name, &line[span]))
        };
        captures.zip(spans).map(value).collect()
    }
}

/// Where the captures are when each text stands as early as it can.
fn earliest(parts: &[Part], line: &[u8]) -> Option<Vec<Range<usize>>> {
    let (mut spans, mut at, mut open) = (Vec::new(), 0, None);
    for (number, part) in parts.iter().enumerate() {
        let text = match part {
            Part::Literal(text) => text,
            Part::Capture(_, kind) => {
                open = Some(*kind);
                continue;
            }
        };
        let rest = &line[at..];
        let skipped = match open.take() {
            None => 0,
            Some(_) if number + 1 == parts.len() => rest.len().checked_sub(text.len())?,
            Some(Kind::Time) => time::length(rest)?,
            Some(_) => rest.windows(text.len()).position(|window| window == text)?,
        };
        rest.get(skipped..)?.strip_prefix(text.as_slice())?;
        if number > 0 {
            spans.push(at..at + skipped);
        }
        at += skipped + text.len();
    }
    match open {
        Some(_) => spans.push(at..line.len()),
        None => (at == line.len()).then_some(())?,
    }
    Some(spans)
}

impl Kind {
    fn fits(self, value: &[u8]) -> bool {
        let text = std::str::from_utf8(value).ok();
        match self {
            Self::Word => {
                (1..=TEXT_BYTES_MAX).contains(&value.len())
                    && value.iter().all(|byte| byte.is_ascii_graphic() || *byte >= 0x80)
            }
            Self::Host => {
                !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte))
            }
            Self::Time => time::length(value) == Some(value.len()),
            Self::Address => text.is_some_and(|text| text.parse::<IpAddr>().is_ok()),
            Self::Port => text.is_some_and(|text| text.parse::<u16>().is_ok()),
            Self::Number => text.is_some_and(|text| text.parse::<u64>().is_ok()),
            Self::Text => true,
        }
    }
}

/// A form, and what a line of it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub template: Template,
    /// `Some(success)`: somebody tried to come in. `None`: a request, when one is captured, else words.
    pub login: Option<bool>,
}

/// Reads the lines of one kind of program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parser {
    pub name: String,
    pub files: Vec<HostPath>,
    pub forms: Vec<Form>,
}

impl Parser {
    /// What the line says; `None`: of no form that is known.
    #[must_use]
    pub fn read(&self, source: &HostPath, line: &[u8]) -> Option<Hearsay> {
        let (form, found) = self.forms.iter().find_map(|form| Some((form, form.template.read(line)?)))?;
        let of = |wanted: &str| {
            let (_, value) = found.iter().find(|(name, _)| *name == wanted)?;
            (*value != b"-").then(|| harmless(value, TEXT_BYTES_MAX))
        };
        let ip = of("address").and_then(|address| address.parse::<IpAddr>().ok());
        let port = of("port").and_then(|port| port.parse().ok()).unwrap_or(0);
        let said = match (form.login, of("request")) {
            (Some(success), _) => Said::Authentication(Login {
                success,
                user: of("user"),
                method: of("method"),
                key_type: of("key_type"),
                fingerprint: of("fingerprint"),
            }),
            (None, Some(request)) => {
                // RFC 9112: method, target, version.
                let mut words = request.split(' ');
                let method = words.next().filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase()));
                let path = method.and_then(|_| words.next()).map(ToOwned::to_owned);
                Said::Http(Request {
                    http_method: method.map(ToOwned::to_owned),
                    path,
                    status: of("status").and_then(|status| status.parse().ok()),
                    user: of("user"),
                    user_agent: of("user_agent"),
                    message: of("message"),
                })
            }
            (None, None) => Said::Other { message: of("message").unwrap_or_default() },
        };
        Some(Hearsay {
            parser: self.name.clone(),
            source: source.clone(),
            original_time: of("time"),
            src_endpoint: ip.map(|ip| Endpoint { ip, port }),
            said,
            raw_data: harmless(line, RAW_BYTES_MAX),
        })
    }
}

/// Text of at most so many bytes, of which none moves a cursor.
fn harmless(bytes: &[u8], most: usize) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).chars() {
        let shown = if character.is_control() { '\u{fffd}' } else { character };
        if text.len() + shown.len_utf8() > most {
            break;
        }
        text.push(shown);
    }
    text
}

/// Any form and any line, apart by a zero byte: what is read is within its limits.
pub fn fuzz(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (form, line) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let Ok(template) = Template::parse(&String::from_utf8_lossy(form)) else { return };
    for login in [None, Some(true)] {
        let forms = vec![Form { template: template.clone(), login }];
        let parser = Parser { name: "any".to_owned(), files: Vec::new(), forms };
        let Some(read) = parser.read(&HostPath::from("/var/log/any"), line) else { continue };
        assert!(read.raw_data.len() <= RAW_BYTES_MAX && !read.raw_data.contains(char::is_control));
        assert!(read.original_time.as_ref().is_none_or(|time| time.len() <= TEXT_BYTES_MAX));
        read.original_time.as_deref().and_then(time::unix_seconds);
    }
}

#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let accepted = "{time:time} {_:host} sshd[{_:number}]: Accepted {method:word} for {user:word} from {address:address} port {port:port} ssh2\0\
        2026-01-05T09:00:12+00:00 shop sshd[408]: Accepted publickey for ops from 192.0.2.7 port 5022 ssh2";
    let asked = "{address:address} - {user} [{time:time}] \"{request}\" {status:number} {_}\0\
        192.0.2.7 - - [05/Jan/2026:09:00:12 +0000] \"GET / HTTP/1.0\" 200 5";
    vec![accepted.into(), asked.into()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ACCEPTED: &str = "Accepted {method:word} for {user:word} from {address:address} port {port:port} ssh2: {key_type:word} {fingerprint:word}";

    fn read(template: &str, login: Option<bool>, line: &[u8]) -> Option<Hearsay> {
        let forms = vec![Form { template: Template::parse(template).unwrap(), login }];
        Parser { name: "x".to_owned(), files: Vec::new(), forms }.read(&HostPath::from("/var/log/x"), line)
    }

    #[test]
    fn a_line_is_read_whole_or_not_at_all() {
        let line = b"Accepted publickey for alice from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:abc";
        let found = read(ACCEPTED, Some(true), line).unwrap();
        assert_eq!(found.src_endpoint, Some(Endpoint { ip: [192, 0, 2, 7].into(), port: 40_022 }));
        let Said::Authentication(login) = found.said else { panic!("a login") };
        assert_eq!((login.user.as_deref(), login.fingerprint.as_deref()), (Some("alice"), Some("SHA256:abc")));
        for other in [
            &b"Accepted publickey for alice from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:abc more"[..],
            b"Accepted publickey for root from 203.0.113.9 port 1 ssh2: from 192.0.2.7 port 2 ssh2: ED25519 SHA256:abc",
            b"Accepted publickey for a b from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:abc",
            b"Accepted publickey for alice from 192.0.2.777 port 40022 ssh2: ED25519 SHA256:abc",
            b"Accepted publickey for alice from 192.0.2.7 port 70000 ssh2: ED25519 SHA256:abc",
            b"",
        ] {
            assert_eq!(read(ACCEPTED, Some(true), other), None, "{}", other.escape_ascii());
        }
    }

    /// In how many ways a line fits, by trying all of them.
    fn ways(parts: &[Part], line: &[u8]) -> usize {
        match parts {
            [] => usize::from(line.is_empty()),
            [Part::Literal(text), rest @ ..] => line.strip_prefix(text.as_slice()).map_or(0, |line| ways(rest, line)),
            [Part::Capture(..), rest @ ..] => (0..=line.len()).map(|end| ways(rest, &line[end..])).sum(),
        }
    }

    #[test]
    fn a_line_is_read_when_there_is_exactly_one_way() {
        let mut read = [0, 0];
        for text in
            ["{_}", "a{_}", "{_}a", "a{_}a", "{_}a{_}", "{_}ab{_}ba{_}", "a{_}b{_}a", "{_}aa{_}a", "{_}b{_}ab{_}"]
        {
            let template = Template::parse(text).unwrap();
            for (length, number) in
                (0..9_u32).flat_map(|length| (0..1_u32 << length).map(move |number| (length, number)))
            {
                let line: Vec<u8> = (0..length).map(|at| b"ab"[(number >> at & 1) as usize]).collect();
                let one = ways(&template.parts, &line) == 1;
                assert_eq!(template.read(&line).is_some(), one, "{text} in {}", line.escape_ascii());
                read[usize::from(one)] += 1;
            }
        }
        assert!(read.iter().all(|count| *count > 100), "{read:?}");
    }

    #[test]
    fn a_request_that_is_none_has_no_path() {
        let form = "{address:address} - {user} [{time:time}] \"{request}\" {status:number} {_:number}";
        let of = |request: &str| {
            let line = format!("192.0.2.7 - - [05/Jan/2026:09:00:12 +0000] \"{request}\" 400 0");
            let Said::Http(found) = read(form, None, line.as_bytes()).unwrap().said else { panic!("a request") };
            (found.http_method, found.path, found.status)
        };
        assert_eq!(of("GET /a?b=c HTTP/1.1"), (Some("GET".into()), Some("/a?b=c".into()), Some(400)));
        assert_eq!(of(r"\x16\x03\x01"), (None, None, Some(400)));
    }

    #[test]
    fn a_form_that_cannot_be_used_says_where_and_what_was_expected() {
        let of = |text: &str| Template::parse(text).unwrap_err().to_string();
        assert!(of("für {who:word}").starts_with("at character 5: found `who:word`, expected a name of time,"));
        assert!(of("{user:name}").contains("expected a kind of word,"));
        assert!(of("{user:word}{port:port}").contains("side by side"));
        assert!(of("{user:word} {user:word}").contains("twice"));
        assert!(of("{user").contains("no `}`"));
        assert!(of(&"x".repeat(2_000)).contains("at most 1024"));
        assert!(of("").contains("0 parts"));
    }
}
