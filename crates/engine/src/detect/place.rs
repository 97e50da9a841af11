// SPDX-License-Identifier: Apache-2.0
//! Classes of paths and programs on Linux (file-hierarchy(7), the Filesystem Hierarchy Standard, Debian's policy).

use crate::path::HostPath;

/// Where anybody may put files.
const ANYBODYS: [&[u8]; 5] = [b"/tmp", b"/var/tmp", b"/dev/shm", b"/run/user", b"/run/lock"];
/// Where programs belong that root installs.
const SYSTEM: [&[u8]; 9] = [b"/usr", b"/bin", b"/sbin", b"/lib", b"/lib32", b"/lib64", b"/libx32", b"/opt", b"/snap"];

pub(super) fn is_within_any(path: &HostPath, trees: &[&[u8]]) -> bool {
    trees.iter().any(|tree| path.is_within(tree))
}

/// The path as its owner sees it from home: `.ssh/x` of `/home/alice/.ssh/x` and of `/root/.ssh/x`.
pub(super) fn in_home(path: &HostPath) -> Option<&[u8]> {
    let bytes = path.as_bytes();
    if let Some(rest) = bytes.strip_prefix(b"/root/") {
        return Some(rest);
    }
    let rest = bytes.strip_prefix(b"/home/")?;
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    rest.get(slash + 1..)
}

/// A place where anybody, or the owner of a home, may put a program.
pub(super) fn is_anybodys(path: &HostPath) -> bool {
    in_home(path).is_some() || is_within_any(path, &ANYBODYS)
}

pub(super) fn is_system(path: &HostPath) -> bool {
    is_within_any(path, &SYSTEM)
}

/// A program of that name that root installed.
pub(super) fn is_installed(program: &HostPath, names: &[&[u8]]) -> bool {
    is_system(program) && names.contains(&program.file_name())
}

pub(super) fn is_shell(program: &HostPath) -> bool {
    const SHELLS: [&[u8]; 13] = [
        b"sh", b"bash", b"rbash", b"dash", b"ash", b"zsh", b"ksh", b"ksh93", b"mksh", b"tcsh", b"csh", b"fish",
        b"busybox",
    ];
    SHELLS.contains(&program.file_name())
}

/// Runs what it is told on its command line or in a file: `python3.11` as much as `python`.
pub(super) fn is_interpreter(program: &HostPath) -> bool {
    const INTERPRETERS: [&[u8]; 8] = [b"python", b"perl", b"ruby", b"php", b"node", b"lua", b"tclsh", b"awk"];
    let name = program.file_name();
    let stem = name.iter().position(|byte| byte.is_ascii_digit()).map_or(name, |digit| &name[..digit]);
    is_shell(program) || INTERPRETERS.contains(&stem) || matches!(name, b"gawk" | b"mawk" | b"nodejs")
}

/// `pattern` as in the configuration: `*` stands for any bytes within one component.
#[must_use]
pub fn matches_glob(pattern: &str, path: &HostPath) -> bool {
    let (pattern, path) = (pattern.as_bytes(), path.as_bytes());
    // The usual greedy walk with one place to come back to: linear in practice, bounded by the product at worst.
    let (mut at_pattern, mut at_path, mut star) = (0, 0, None);
    while at_path < path.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern, at_path));
                at_pattern += 1;
            }
            Some(byte) if *byte == path[at_path] => {
                at_pattern += 1;
                at_path += 1;
            }
            _ => match star {
                Some((star_pattern, star_path)) if path[star_path] != b'/' => {
                    star = Some((star_pattern, star_path + 1));
                    at_pattern = star_pattern + 1;
                    at_path = star_path + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_component() {
        let matches = |pattern, path: &str| matches_glob(pattern, &HostPath::from(path));
        assert!(matches("/var/log/*.log", "/var/log/auth.log"));
        assert!(matches("/var/log/*/*.log", "/var/log/nginx/access.log"));
        assert!(matches("/var/log/wtmp", "/var/log/wtmp"));
        assert!(matches("/var/log/*", "/var/log/x"));
        assert!(!matches("/var/log/*.log", "/var/log/nginx/access.log"));
        assert!(!matches("/var/log/*.log", "/var/log/auth.log.1"));
        assert!(!matches("/var/log/wtmp", "/var/log/wtmp.1"));
    }

    #[test]
    fn a_home_is_roots_or_below_home() {
        let home = |path: &str| in_home(&HostPath::from(path)).map(<[u8]>::to_vec);
        assert_eq!(home("/home/alice/.profile"), Some(b".profile".to_vec()));
        assert_eq!(home("/root/.ssh/x"), Some(b".ssh/x".to_vec()));
        assert_eq!(home("/home/alice"), None);
        assert_eq!(home("/etc/passwd"), None);
    }

    #[test]
    fn an_interpreter_is_known_with_its_version() {
        assert!(is_interpreter(&"/usr/bin/python3.11".into()));
        assert!(is_interpreter(&"/bin/sh".into()));
        assert!(!is_interpreter(&"/usr/sbin/rsyslogd".into()));
    }
}
