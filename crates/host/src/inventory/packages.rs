// SPDX-License-Identifier: Apache-2.0
//! Installed packages, of dpkg's own list.

use super::below::Below;
use super::paragraphs::{paragraphs, value};
use super::{Error, Items, Result, state, text};

/// LIMIT: bytes of dpkg's list; 5,000 packages need about 10 MB.
const STATUS_BYTES_MAX: u64 = 64 << 20;

pub(super) fn read(below: &Below<'_>) -> Result<Items> {
    let status = below.read(b"/var/lib/dpkg/status", STATUS_BYTES_MAX)?;
    status.map(|status| parse(&status)).ok_or(Error::Missing("there is no list of dpkg, and no other one is read"))
}

pub(super) fn parse(status: &[u8]) -> Items {
    let mut found = Items::new();
    for fields in paragraphs(status) {
        let [name, status, version, arch] =
            ["Package", "Status", "Version", "Architecture"].map(|name| value(&fields, name));
        let stage = super::words(status).last().unwrap_or_default();
        if name.is_empty() || matches!(stage, b"" | b"not-installed" | b"config-files") {
            continue;
        }
        let mut package = state([("version", text(version)), ("arch", text(arch))]);
        if stage != b"installed" {
            package.insert("stage".to_owned(), text(stage));
        }
        let name = text(name);
        // The same package for two architectures.
        let name = if found.contains_key(&name) { format!("{name}:{}", text(arch)) } else { name };
        found.insert(name, package);
    }
    found
}
