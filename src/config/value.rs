// SPDX-License-Identifier: Apache-2.0
//! Numbers and texts of the configuration that cannot hold a bad value.
//!
//! Input: what the file says. Output: a value in range, or what was found and what was expected. INVARIANT: there is no other
//! way from a file to one of these types; each is written as it is read.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thymus_engine::HostPath;

macro_rules! number {
    ($name:ident, $range:expr, $unit:literal, $default:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "u64")]
        pub(crate) struct $name(u64);

        impl $name {
            pub(crate) fn get(self) -> u64 {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = String; // the only constructor: a value in hand is a value in range
            fn try_from(found: i64) -> Result<Self, String> {
                let range: std::ops::RangeInclusive<u64> = $range;
                let value = u64::try_from(found).ok().filter(|value| range.contains(value));
                let refused = || format!("found {found}, expected {} to {} {}", range.start(), range.end(), $unit);
                value.map(Self).ok_or_else(refused)
            }
        }
    };
}

number!(QuotaMb, 64..=1_048_576, "megabytes", 4_096);
number!(FileMb, 1..=65_536, "megabytes", 64);
number!(FreeMb, 1..=65_536, "megabytes", 64);
number!(LookSeconds, 10..=86_400, "seconds", 60);
number!(ActionsPerMinute, 16..=1_024, "actions", 128);
number!(AnswerMinutes, 1..=43_200, "minutes", 1_440);
number!(RetentionHours, 1..=8_760, "hours", 72);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $check:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) struct $name(pub(super) $inner);

        impl $name {
            pub(crate) fn get(&self) -> &$inner {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> Option<$inner> = $check;
                check(&text).map(Self).ok_or_else(|| format!("found `{}`, expected {}", text.escape_debug(), $expected))
            }
        }
    };
}

text! {
    /// A user of the guarded host.
    UserName(String),
    |text| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(good)).then(|| text.to_owned())
    },
    "the name of a user, such as `alice`"
}
impl UserName {
    /// The number that a passwd(5) file gives it; of several lines, the first that holds a number.
    pub(crate) fn uid_in(&self, passwd: &str) -> Option<u32> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(self.get())).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
    }
}

text! {
    /// A path on the machine that the agent runs on.
    AbsolutePath(PathBuf),
    |text| (text.starts_with('/') && plain(text)).then(|| text.into()),
    "an absolute path without `..`"
}

impl AbsolutePath {
    /// A path that a person wrote on the command line, from where they are.
    pub(crate) fn here(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        let text = path.to_str().ok_or_else(|| anyhow::anyhow!("`{}`: expected a path in UTF-8", path.display()))?;
        Self::try_from(text.to_owned()).map_err(anyhow::Error::msg)
    }
}

text! {
    /// Where policies come from: a directory, or a set that is built in, by its name.
    PolicySource(PathBuf),
    |text| {
        let named = thymus_engine::guard::Policies::SETS.contains(&text);
        (named || text.starts_with('/') && plain(text)).then(|| text.into())
    },
    "an absolute path without `..`, or a built-in set, `standard` or `ot`"
}
text! {
    /// A path below the guarded root.
    Tree(HostPath),
    |text| (text.starts_with('/') && text.len() > 1 && plain(text)).then(|| text.trim_end_matches('/').into()),
    "an absolute path below the root without `..`, such as `/etc`"
}
text! {
    /// A directory below the guarded root, or the root itself.
    Directory(HostPath),
    |text| (text.starts_with('/') && plain(text)).then(|| text.into()),
    "an absolute path without `..`, such as `/var`"
}
text! {
    /// Paths below the guarded root, `*` within one name.
    Glob(String),
    |text| (text.starts_with('/') && text.len() > 1 && plain(text) && !text.contains("**")).then(|| text.to_owned()),
    "an absolute path without `..`, with `*` within one name, such as `/var/log/*.log`"
}
text! {
    /// A systemd unit.
    UnitName(String),
    |text| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@\\-".contains(&byte);
        let named = [".service", ".socket", ".timer"].iter().any(|end| text.len() > end.len() && text.ends_with(end));
        (named && text.len() <= 255 && text.bytes().all(good)).then(|| text.to_owned())
    },
    "a systemd unit with its ending, such as `nginx.service`"
}
text! {
    /// A page of the guarded host itself.
    LoopbackUrl(String),
    |text| {
        let rest = text.strip_prefix("http://127.0.0.1")?;
        let (port, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let port_good = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        (port_good && path.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
    },
    "a page on the guarded host's loopback, such as `http://127.0.0.1:8080/health`"
}

fn plain(path: &str) -> bool {
    !path.contains('\0') && !path.split('/').any(|name| name == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_number_that_the_list_gives() {
        let passwd = "root:x:0:0::/root:/bin/sh\n:x:5\nops:x:nine:9\nops:x:1000:1000::/home/ops:/bin/sh\nopsx:x:7\n";
        let uid = |name: &str| UserName(name.to_owned()).uid_in(passwd);
        assert_eq!([uid("root"), uid("ops"), uid("op"), uid("x")], [Some(0), Some(1000), None, None]);
    }
}
