// SPDX-License-Identifier: Apache-2.0
//! Paths as Linux has them: bytes, hostile, not always UTF-8.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::sync::Arc;

/// An absolute path below the guarded root: `/etc/passwd` whatever directory the root is mounted on.
///
/// Any bytes but NUL. As text (JSON, `Display`), control characters, backslash and bytes that are not
/// UTF-8 appear as `\xNN`, so one path is one line and the text converts back without loss.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HostPath(Arc<[u8]>);

impl HostPath {
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last component; empty for `/`.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        let cut = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        &self.0[cut..]
    }

    /// Everything before the last component, without the slash; empty for a path directly below the root.
    #[must_use]
    pub fn parent(&self) -> &[u8] {
        let cut = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        &self.0[..cut]
    }

    /// True when `self` is `tree` or lies below it. `tree` has no trailing slash; "" and "/" hold everything.
    #[must_use]
    pub fn is_within(&self, tree: &[u8]) -> bool {
        let tree = tree.strip_suffix(b"/").unwrap_or(tree);
        self.0.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Reads what `Display` writes. `None` for a broken escape or a NUL.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            if *first == b'\\' {
                let digits = tail.strip_prefix(b"x")?.get(..2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = &tail[3..];
            } else {
                bytes.push(*first);
                rest = tail;
            }
        }
        (!bytes.contains(&0)).then(|| Self(Arc::from(bytes)))
    }
}

impl From<&str> for HostPath {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character == '\\' || character.is_control() {
                    let mut buffer = [0; 4];
                    for byte in character.encode_utf8(&mut buffer).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for HostPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = HostPath;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<HostPath, E> {
                Ok(HostPath::new(bytes))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HostPath, E> {
                HostPath::from_text(text).ok_or_else(|| E::custom("a path with a broken \\xNN escape"))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Bytes)
        } else {
            deserializer.deserialize_bytes(Bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_survives_its_text(bytes in proptest::collection::vec(1u8..=255, 0..300)) {
            let path = HostPath::new(&bytes);
            let text = path.to_string();
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(HostPath::from_text(&text), Some(path));
        }
    }

    #[test]
    fn a_sibling_with_the_same_prefix_is_not_within() {
        assert!(HostPath::from("/etc/cron.d/x").is_within(b"/etc/cron.d"));
        assert!(!HostPath::from("/etc/cron.daily/x").is_within(b"/etc/cron.d"));
        assert!(HostPath::from("/anything").is_within(b"/"));
    }
}
