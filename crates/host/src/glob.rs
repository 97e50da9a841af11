// SPDX-License-Identifier: Apache-2.0
//! Paths that a glob of the configuration names.

use thymus_engine::HostPath;
use thymus_engine::detect::matches_glob;

/// `*` stands for anything within one name. `list` gives the entries of a directory that count; at most `most` of them are
/// looked at in all. A last name without `*` is given without a look whether it is there.
pub(crate) fn expand(glob: &str, most: usize, list: &mut dyn FnMut(&HostPath) -> Vec<HostPath>) -> Vec<HostPath> {
    let mut looks = 0;
    let mut found = vec![HostPath::from("")];
    for part in glob.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in found {
            if !part.contains('*') {
                next.push(HostPath::new(&[directory.as_bytes(), b"/", part.as_bytes()].concat()));
                continue;
            }
            let root = HostPath::from("/");
            let entries = list(if directory.as_bytes().is_empty() { &root } else { &directory });
            let seen = entries.into_iter().take(most.saturating_sub(looks));
            let seen = seen.inspect(|_| looks += 1).filter(|path| matches_glob(part, &HostPath::new(path.file_name())));
            next.extend(seen);
        }
        found = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_within_one_name_and_no_more_is_looked_at_than_allowed() {
        let tree = ["/home", "/home/alice", "/home/alice/notes", "/home/bob", "/srv"].map(HostPath::from);
        let mut list = |directory: &HostPath| -> Vec<HostPath> {
            let parent = if directory.as_bytes() == b"/" { &b""[..] } else { directory.as_bytes() };
            tree.iter().filter(|path| path.parent() == parent).cloned().collect()
        };
        let mut named =
            |glob: &str, most| expand(glob, most, &mut list).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(named("/home/*", 9), ["/home/alice", "/home/bob"]);
        assert_eq!(named("/*/a*/no*", 9), ["/home/alice/notes"]);
        assert_eq!(named("/home/*/x", 9), ["/home/alice/x", "/home/bob/x"]);
        assert_eq!(named("/home/*", 1), ["/home/alice"]);
    }
}
