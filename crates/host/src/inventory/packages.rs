// SPDX-License-Identifier: Apache-2.0
//! Installed packages, of dpkg's own list.

use super::below::Below;
use super::{Error, Items, Result, lines, state, text};

/// LIMIT: bytes of dpkg's list; 5,000 packages need about 10 MB.
const STATUS_BYTES_MAX: u64 = 64 << 20;

pub(super) fn read(below: &Below<'_>) -> Result<Items> {
    let status = below.read(b"/var/lib/dpkg/status", STATUS_BYTES_MAX)?;
    status.map(|status| parse(&status)).ok_or(Error::Missing("there is no list of dpkg, and no other one is read"))
}

pub(super) fn parse(status: &[u8]) -> Items {
    let mut found = Items::new();
    let mut paragraph = Paragraph::default();
    for line in lines(status).chain([&b""[..]]) {
        if line.is_empty() {
            std::mem::take(&mut paragraph).end(&mut found);
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match name {
            b"Package" => paragraph.name = value,
            b"Status" => paragraph.status = value,
            b"Version" => paragraph.version = value,
            b"Architecture" => paragraph.arch = value,
            _ => {}
        }
    }
    found
}

#[derive(Default)]
struct Paragraph<'a> {
    name: &'a [u8],
    status: &'a [u8],
    version: &'a [u8],
    arch: &'a [u8],
}

impl Paragraph<'_> {
    fn end(self, found: &mut Items) {
        let stage = super::words(self.status).last().unwrap_or_default();
        if self.name.is_empty() || matches!(stage, b"" | b"not-installed" | b"config-files") {
            return;
        }
        let mut package = state([("version", text(self.version)), ("arch", text(self.arch))]);
        if stage != b"installed" {
            package.insert("stage".to_owned(), text(stage));
        }
        let name = text(self.name);
        // The same package for two architectures.
        let name = if found.contains_key(&name) { format!("{name}:{}", text(self.arch)) } else { name };
        found.insert(name, package);
    }
}
