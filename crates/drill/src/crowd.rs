// SPDX-License-Identifier: Apache-2.0
//! Thousands of files of people and services, as they lie on a server: many kinds, sizes, owners, modes, some with attributes.

use crate::random::Random;
use crate::twin::Twin;
use crate::{Doing, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, SystemTime};

/// What is planted before a twin boots; the same seed plants the same.
#[derive(Clone, Debug)]
pub struct Crowd {
    pub seed: u64,
    pub files: u32,
    /// Least and most bytes of one file; sizes are spread evenly over their orders of magnitude.
    pub bytes: (u64, u64),
}

/// Trees, and whose they are. `www-data` is 33 on Debian; ops, alice and bob are made in this order with the base.
const TREES: [(&str, u32); 5] = [
    ("home/alice/documents", 1001),
    ("home/bob/pictures", 1002),
    ("home/ops/reports", 1000),
    ("srv/shop/orders", 33),
    ("var/www/shop/media", 33),
];
/// Files of one directory, about.
const PER_DIRECTORY: u64 = 24;
/// Ending, and the first bytes; without any it is text.
const KINDS: [(&str, &[u8]); 14] = [
    ("txt", b""),
    ("md", b""),
    ("csv", b""),
    ("json", b""),
    ("html", b""),
    ("conf", b""),
    ("jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01"),
    ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ("pdf", b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"),
    ("docx", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0"),
    ("xlsx", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0"),
    ("gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
    ("sqlite", b"SQLite format 3\0\x10\0\x01\x01\0@  "),
    ("wav", b"RIFF\0\x10\0\0WAVEfmt "),
];
const POOL_BYTES: usize = 1 << 20;

impl Crowd {
    /// The trees that it fills, as the twin names them.
    #[must_use]
    pub fn trees() -> Vec<String> {
        TREES.iter().map(|(tree, _)| format!("/{tree}")).collect()
    }

    pub(crate) fn plant(&self, twin: &Twin) -> Result<()> {
        let mut random = Random::new(self.seed ^ 0x6372_6f77_6421);
        let noise: Vec<u8> = (0..POOL_BYTES / 8).flat_map(|_| random.draw().to_le_bytes()).collect();
        let mut text = Vec::with_capacity(POOL_BYTES);
        while text.len() < POOL_BYTES {
            let length = usize::try_from(random.between(2, 9)).unwrap_or(4);
            text.extend_from_slice(random.word(length).as_bytes());
            text.push(if random.below(9) == 0 { b'\n' } else { b' ' });
        }
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_600_000);
        let mut made = BTreeSet::new();
        for number in 0..self.files {
            let (tree, owner) = TREES[usize::try_from(number).unwrap_or(0) % TREES.len()];
            let folders = u64::from(self.files) / PER_DIRECTORY / TREES.len() as u64 + 1;
            let directory = format!("{tree}/{:03}", random.below(folders));
            let directory = twin.root().join(directory);
            if made.insert(directory.clone()) {
                std::fs::create_dir_all(&directory).doing("make the directory", &directory)?;
                let whole = twin.root().join(tree);
                for path in [&whole, &directory] {
                    chown(path, Some(owner), Some(owner)).doing("set the owner of", path)?;
                }
            }
            let (ending, head) = *random.pick(&KINDS);
            let path = directory.join(format!("{}-{number}.{ending}", random.clone().word(6)));
            let size = usize::try_from(self.size(&mut random)).unwrap_or(0).min(POOL_BYTES / 2).max(head.len());
            let pool = if head.is_empty() { &text } else { &noise };
            let from = usize::try_from(random.below((POOL_BYTES - size) as u64)).unwrap_or(0);
            let mut file = File::create(&path).doing("make", &path)?;
            file.write_all(head).doing("write", &path)?;
            file.write_all(&pool[from..from + size - head.len()]).doing("write", &path)?;
            let mode = *random.pick(&[0o644, 0o644, 0o640, 0o600, 0o664]);
            file.set_permissions(PermissionsExt::from_mode(mode)).doing("set the mode of", &path)?;
            if random.below(16) == 0 {
                let set = rustix::fs::fsetxattr(&file, "user.origin", b"scanner", rustix::fs::XattrFlags::empty());
                set.map_err(std::io::Error::from).doing("set an attribute of", &path)?;
            }
            file.set_modified(long_ago + Duration::from_secs(random.below(20_000_000)))
                .doing("set the time of", &path)?;
            chown(&path, Some(owner), Some(owner)).doing("set the owner of", &path)?;
        }
        Ok(())
    }

    /// Evenly over the orders of magnitude between the bounds.
    fn size(&self, random: &mut Random) -> u64 {
        let (least, most) = self.bytes;
        let doublings = (most / least.max(1)).max(1).ilog2();
        let low = least << random.below(u64::from(doublings) + 1);
        random.between(low, (2 * low).min(most).max(low))
    }
}
