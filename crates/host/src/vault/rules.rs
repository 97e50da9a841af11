// SPDX-License-Identifier: Apache-2.0
//! Which paths are guarded, and which of them are logs.

use super::Options;
use thymus_engine::path::HostPath;

/// A path of components, of which each may hold `*` for any run of bytes.
#[derive(Clone, Debug)]
struct Glob(Vec<Vec<u8>>);

impl Glob {
    fn new(text: &str) -> Self {
        Self(text.split('/').filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect())
    }

    /// The whole path, or (`below`) the path or anything below a match.
    fn matches(&self, path: &[u8], below: bool) -> bool {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let fits = self.0.iter().all(|glob| parts.next().is_some_and(|part| component_matches(glob, part)));
        fits && !self.0.is_empty() && (below || parts.next().is_none())
    }
}

/// Linear in the text for each star: no pattern makes it slow.
fn component_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == text[from] => (at, from) = (at + 1, from + 1),
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    (at, from) = (star_at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[derive(Debug)]
pub(super) struct Rules {
    protected: Vec<HostPath>,
    excluded: Vec<Glob>,
    logs: Vec<Glob>,
    /// The vault's own directory, when it lies below the guarded root.
    own: Option<HostPath>,
}

impl Rules {
    pub(super) fn new(options: &Options, own: Option<HostPath>) -> Self {
        let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect();
        Self {
            protected: options.protected.clone(),
            excluded: globs(&options.excluded),
            logs: globs(&options.append_only),
            own,
        }
    }

    pub(super) fn trees(&self) -> &[HostPath] {
        &self.protected
    }

    pub(super) fn guards(&self, path: &HostPath) -> bool {
        self.protected.iter().any(|tree| path.is_within(tree.as_bytes())) && !self.excludes(path)
    }

    pub(super) fn excludes(&self, path: &HostPath) -> bool {
        self.own.as_ref().is_some_and(|own| path.is_within(own.as_bytes()))
            || self.excluded.iter().any(|glob| glob.matches(path.as_bytes(), true))
    }

    pub(super) fn is_log(&self, path: &HostPath) -> bool {
        self.logs.iter().any(|glob| glob.matches(path.as_bytes(), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_component() {
        let glob = Glob::new("/var/log/*.log");
        assert!(glob.matches(b"/var/log/auth.log", false));
        assert!(!glob.matches(b"/var/log/nginx/access.log", false));
        assert!(!glob.matches(b"/var/log/auth.log.1", false));
        assert!(Glob::new("/home/*/.cache").matches(b"/home/alice/.cache/x/y", true));
        assert!(!Glob::new("/home/*/.cache").matches(b"/home/alice/.cached", true));
        assert!(component_matches(b"a*b*c", b"axxbyybzc") && !component_matches(b"a*b*c", b"axxbyybz"));
    }

    #[test]
    fn what_is_excluded_is_not_guarded_nor_what_lies_below() {
        let mut options = Options::of(&["/etc", "/usr/bin/ls"]);
        options.excluded.push("/etc/alternatives".into());
        let rules = Rules::new(&options, Some(HostPath::from("/etc/thymus")));
        for (path, guarded) in [
            ("/etc", true),
            ("/etc/passwd", true),
            ("/etc/alternatives/vi", false),
            ("/etc/thymus/packs", false),
            ("/usr/bin/ls", true),
            ("/usr/bin", false),
        ] {
            assert_eq!(rules.guards(&HostPath::from(path)), guarded, "{path}");
        }
    }
}
