// SPDX-License-Identifier: Apache-2.0
//! The declared state, a TOML file that may lie in git: what the host should be, whatever was recorded.
//!
//! In: the file that `[baseline] wanted` names. Out: what it declares, or the problem with its place. A file that is
//! broken never counts: the last good one does.

use crate::config::{self, Place, Problem};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::Path;
use thymus_engine::golden::{Declared, ITEMS_MAX, Item, LOGIN_DEFS, SSHD, SYSCTLS, Section, Wish};

/// Where `[baseline] wanted` lies when nobody says otherwise; a name for messages.
pub(crate) const USUAL_PATH: &str = "/etc/thymus/wanted.toml";

/// The whole file. Every section may be left out.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// Sections of which nothing else is wanted.
    complete: BTreeSet<Section>,
    services: BTreeMap<Unit, Maybe<Service>>,
    listeners: BTreeMap<Address, Maybe<Text>>,
    accounts: BTreeMap<Name, Maybe<Account>>,
    packages: BTreeMap<Name, Maybe<Text>>,
    settings: BTreeMap<Setting, Maybe<Text>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    enabled: Option<bool>,
    active: Option<bool>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    uid: Option<u32>,
    gid: Option<u32>,
    home: Option<String>,
    shell: Option<String>,
    /// Those of them that are as good as root.
    groups: Option<Vec<Name>>,
    password: Option<Password>,
    /// Lines of authorized_keys that let somebody in.
    keys: Option<u32>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Password {
    Set,
    Locked,
    Empty,
}

/// A value, or `false`: it must not be there.
#[derive(Debug)]
enum Maybe<T> {
    Absent,
    Present(T),
}

/// A text; `any` is whatever it is.
#[derive(Debug)]
struct Text(Option<String>);

/// What [`Maybe`] may hold, and how it is called in a message.
trait Value: Sized {
    const EXPECTED: &'static str;
    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        Err(E::invalid_type(de::Unexpected::Str(text), &Self::EXPECTED))
    }
    fn table<'de, A: MapAccess<'de>>(_table: A) -> Result<Self, A::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Map, &Self::EXPECTED))
    }
}

impl Value for Service {
    const EXPECTED: &'static str =
        "a table such as `{ enabled = true, active = true }`, or `false` when it must not be there";
    fn table<'de, A: MapAccess<'de>>(table: A) -> Result<Self, A::Error> {
        Self::deserialize(de::value::MapAccessDeserializer::new(table))
    }
}

impl Value for Account {
    const EXPECTED: &'static str = "a table such as `{ groups = [\"sudo\"] }`, or `false` when it must not be there";
    fn table<'de, A: MapAccess<'de>>(table: A) -> Result<Self, A::Error> {
        Self::deserialize(de::value::MapAccessDeserializer::new(table))
    }
}

impl Value for Text {
    const EXPECTED: &'static str = "a text, `\"any\"` for whatever it is, or `false` when it must not be there";
    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        Ok(Self((text != "any").then(|| text.to_owned())))
    }
}

impl<'de, T: Value> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Value> Visitor<'de> for Reader<T> {
            type Value = Maybe<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Maybe<T>, E> {
                if value { Err(E::invalid_type(de::Unexpected::Bool(value), &self)) } else { Ok(Maybe::Absent) }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Maybe<T>, E> {
                T::text(text).map(Maybe::Present)
            }
            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Maybe<T>, A::Error> {
                T::table(table).map(Maybe::Present)
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $check:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
        #[serde(try_from = "String")]
        struct $name(String);

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> Option<String> = $check;
                check(&text).map(Self).ok_or_else(|| format!("found `{}`, expected {}", text.escape_debug(), $expected))
            }
        }
    };
}

key! {
    Unit,
    |text| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@\\-".contains(&byte);
        let named = [".service", ".socket", ".timer", ".path"].iter().any(|end| text.len() > end.len() && text.ends_with(end));
        // As the inventory shows it.
        (named && text.len() <= 255 && text.bytes().all(good)).then(|| text.replace('\\', "\\x5c"))
    },
    "a systemd unit with its ending, such as `nginx.service`"
}
key! {
    Address,
    |text| {
        let (kind, address) = text.split_once(' ')?;
        let address: SocketAddr = address.parse().ok()?;
        matches!(kind, "tcp" | "udp").then(|| format!("{kind} {address}"))
    },
    "a protocol, an address and a port, such as `tcp 127.0.0.1:80` or `udp [::]:53`"
}
key! {
    Name,
    |text| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._+:$-".contains(&byte);
        (!text.is_empty() && text.len() <= 128 && text.bytes().all(good)).then(|| text.to_owned())
    },
    "the name of a user, a group or a package"
}
key! {
    Setting,
    |text| {
        let (kind, name) = text.split_once(' ')?;
        let known = match kind {
            "sshd" => SSHD.contains(&name),
            "sysctl" => SYSCTLS.contains(&name),
            "login.defs" => LOGIN_DEFS.contains(&name),
            "nftables" => name == "ruleset",
            "cron" | "environment" | "loader" | "pam" | "profile" | "sudoers" => name.starts_with('/') && !name.contains('\0'),
            _ => false,
        };
        known.then(|| text.to_owned())
    },
    "a setting as `thymus baseline list settings` names it, such as `sshd PermitRootLogin`"
}

impl Wanted {
    fn declared(self) -> Declared {
        let yes = |holds: bool| Some(if holds { "yes" } else { "no" }.to_owned());
        let mut items = BTreeMap::new();
        let mut put = |section, name: String, wish| drop(items.insert(Item::new(section, name), wish));
        for (Unit(name), wish) in self.services {
            let fields = |one: Service| [("enabled", one.enabled.map(yes)), ("active", one.active.map(yes))];
            put(Section::Services, name, wish.into_wish(|one| named(fields(one))));
        }
        for (Address(name), wish) in self.listeners {
            put(Section::Listeners, name, wish.into_wish(|Text(program)| named([("program", Some(program))])));
        }
        for (Name(name), wish) in self.accounts {
            put(Section::Accounts, name, wish.into_wish(Account::fields));
        }
        for (Name(name), wish) in self.packages {
            put(Section::Packages, name, wish.into_wish(|Text(version)| named([("version", Some(version))])));
        }
        for (Setting(name), wish) in self.settings {
            put(Section::Settings, name, wish.into_wish(|Text(value)| named([("value", Some(value))])));
        }
        Declared { items, complete: self.complete }
    }
}

impl Account {
    fn fields(self) -> BTreeMap<String, Option<String>> {
        let groups = self.groups.map(|groups| {
            let names: BTreeSet<String> = groups.into_iter().map(|Name(name)| name).collect();
            Some(names.into_iter().collect::<Vec<_>>().join(","))
        });
        let password = self.password.map(|password| match password {
            Password::Set => "set",
            Password::Locked => "locked",
            Password::Empty => "empty",
        });
        let text = |text: &str| Some(text.to_owned());
        named([
            ("uid", self.uid.map(|uid| Some(uid.to_string()))),
            ("gid", self.gid.map(|gid| Some(gid.to_string()))),
            ("home", self.home.as_deref().map(text)),
            ("shell", self.shell.as_deref().map(text)),
            ("groups", groups),
            ("password", password.map(text)),
            ("keys", self.keys.map(|keys| Some(if keys == 0 { String::new() } else { keys.to_string() }))),
        ])
    }
}

/// Those that are declared.
fn named<const N: usize>(fields: [(&str, Option<Option<String>>); N]) -> BTreeMap<String, Option<String>> {
    fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

impl<T> Maybe<T> {
    fn into_wish(self, fields: impl FnOnce(T) -> BTreeMap<String, Option<String>>) -> Wish {
        match self {
            Self::Absent => Wish::Absent,
            Self::Present(one) => Wish::Present(fields(one)),
        }
    }
}

/// Reads a declared state from its text.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Declared, Problem> {
    let problem = |message: String, place| Problem { path: path.to_owned(), place, message, instead: String::new() };
    let read = toml::from_str::<Wanted>(text);
    let declared = read
        .map_err(|error| problem(error.message().replace('\n', "; "), error.span().map(|span| Place::of(text, span))))?
        .declared();
    if declared.items.len() > ITEMS_MAX {
        return Err(problem(format!("found {} items, expected at most {ITEMS_MAX}", declared.items.len()), None));
    }
    Ok(declared)
}

/// Whether the declared state can be read; whether it makes sense on the host, only the agent knows.
pub(crate) fn check(path: &Path) -> Result<Declared, Problem> {
    parse(path, &read(path)?)
}

fn read(path: &Path) -> Result<String, Problem> {
    config::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => whole(path, "there is no such file; leave `wanted` out to declare nothing"),
        _ => config::unreadable(path, &error),
    })
}

/// A problem of the file as a whole.
fn whole(path: &Path, message: impl Into<String>) -> Problem {
    Problem { path: path.to_owned(), place: None, message: message.into(), instead: String::new() }
}

/// Reads the declared state; when it is broken, or `accept` refuses it, the last good copy that `state` keeps. `None`:
/// there is neither.
pub(crate) fn load(
    path: &Path,
    state: &Path,
    accept: impl Fn(&Declared) -> Result<(), String>,
) -> (Option<Declared>, Option<Problem>) {
    let copy = config::last_good(state, "wanted.toml");
    let read = read(path).and_then(|text| {
        let declared = parse(path, &text)?;
        accept(&declared).map_err(|why| whole(path, why))?;
        Ok((text, declared))
    });
    match read {
        Ok((text, declared)) => {
            let kept = config::keep(&copy, text.as_bytes());
            (Some(declared), kept.err().map(|error| whole(path, format!("cannot keep a copy of it: {error}"))))
        }
        Err(mut problem) => {
            // It was accepted when it was kept; the host may have changed since, the wish has not.
            let found = config::read(&copy).ok().and_then(|text| parse(&copy, &text).ok());
            problem.instead = match &found {
                Some(_) => format!("the last good one, `{}`", copy.display()),
                None => "nothing: there is no last good one".into(),
            };
            (found, Some(problem))
        }
    }
}

/// Hostile texts: refused with a place that can be shown, or read.
#[cfg_attr(not(test), allow(dead_code, reason = "`fuzz/` takes this file in"))]
pub(crate) const FUZZ: thymus_engine::fuzz::Target = thymus_engine::fuzz::Target {
    name: "wanted",
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Err(problem) = parse(Path::new(USUAL_PATH), text) {
            assert!(!problem.to_string().contains('\u{1b}'), "a message moves nobody's cursor");
        }
    },
    seeds: || vec![EXAMPLE.into(), b"packages = { a = \"any\" }\n".into(), b"[accounts.a]\n".into()],
};

/// All that can be declared.
#[cfg_attr(not(test), allow(dead_code, reason = "for tests and `fuzz/`"))]
pub(crate) const EXAMPLE: &str = r#"complete = ["listeners"]

[services]
"nginx.service" = { enabled = true, active = true }
"telnet.socket" = false

[listeners]
"tcp 127.0.0.1:80" = "nginx"
"tcp [::]:22" = "any"

[accounts.alice]
groups = ["sudo", "adm"]
password = "locked"
keys = 1

[packages]
nginx-light = "1.22.1-9+deb12u1"
openssl = "any"
telnetd = false

[settings]
"sshd PermitRootLogin" = "no"
"sysctl net.ipv4.ip_forward" = "0"
"loader /etc/ld.so.preload" = false
"#;

#[cfg(test)]
mod tests;
