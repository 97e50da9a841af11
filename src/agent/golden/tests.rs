// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::os::unix::fs::PermissionsExt;
use thymus_engine::golden::Section;

struct Desktop {
    directory: tempfile::TempDir,
}

impl Desktop {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("thymus-golden-").tempdir().unwrap();
        let desktop = Self { directory };
        desktop.write("root/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        desktop
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn place(&self) -> Place {
        let below = |path: &str| self.directory.path().join(path);
        let scope = Scope::cgroup(Path::new("/proc/self"), &below("root")).unwrap();
        Place { scope, state: below("state"), wanted: None, every: Duration::from_secs(60) }
    }

    fn kept(&self) -> PathBuf {
        self.directory.path().join("state/golden/recorded.json")
    }
}

fn drift(found: &Found) -> Vec<String> {
    found.report.drift.iter().map(|told| told.drift.item.to_string()).collect()
}

fn accepted(found: &Found) -> Accepted {
    found.report.drift.iter().map(|told| (told.drift.item.clone(), told.drift.found.clone())).collect()
}

#[test]
fn the_first_look_is_recorded_for_root_alone_and_outlives_the_agent() {
    let desktop = Desktop::new();
    let place = desktop.place();
    let first = Looker::open(&place).look(None);
    assert_eq!(drift(&first), Vec::<String>::new());
    assert_eq!(std::fs::metadata(desktop.kept()).unwrap().permissions().mode() & 0o777, 0o600);

    desktop.write("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nmallory:x:0:0::/:/bin/sh\n");
    let mut looker = Looker::open(&place);
    let found = looker.look(None);
    assert_eq!(drift(&found), ["account:mallory"]);
    assert_eq!(found.report.recorded_unix_ns, first.report.recorded_unix_ns);
    let since = found.report.drift[0].since_unix_ns;
    assert_eq!(looker.look(None).report.drift[0].since_unix_ns, since, "noticed once");
    assert_eq!(Looker::open(&place).look(None).report.drift[0].since_unix_ns, since, "also by the next agent");

    let found = looker.look(Some((&accepted(&found), true)));
    assert!(found.answer.done, "{:?}", found.answer);
    assert_eq!(drift(&found), Vec::<String>::new());
    assert_eq!(drift(&Looker::open(&place).look(None)), Vec::<String>::new());
}

#[test]
fn a_recorded_state_that_cannot_be_read_is_never_recorded_anew() {
    let desktop = Desktop::new();
    let place = desktop.place();
    Looker::open(&place).look(None);
    let whole = std::fs::read(desktop.kept()).unwrap();
    for broken in [&whole[..whole.len() / 2], b"", b"\xff", b"[]"] {
        std::fs::write(desktop.kept(), broken).unwrap();
        let mut looker = Looker::open(&place);
        let found = looker.look(None);
        assert_eq!(found.report.recorded_unix_ns, None);
        assert!(found.report.problems[0].contains("move it away to record the present state"), "{:?}", found.report);
        assert!(!looker.look(Some((&Accepted::new(), true))).answer.done);
        assert_eq!(std::fs::read(desktop.kept()).unwrap(), broken);
    }
}

#[test]
fn a_section_that_is_read_for_the_first_time_is_recorded_and_one_that_is_not_read_stays() {
    let desktop = Desktop::new();
    let place = desktop.place();
    let mut looker = Looker::open(&place);
    assert!(looker.look(None).report.unread.contains_key(&Section::Packages));
    let list = "Package: a\nStatus: install ok installed\nVersion: 1\n";
    desktop.write("root/var/lib/dpkg/status", list);
    assert_eq!(drift(&looker.look(None)), Vec::<String>::new());
    std::fs::remove_file(desktop.directory.path().join("root/var/lib/dpkg/status")).unwrap();
    assert_eq!(drift(&looker.look(None)), Vec::<String>::new());
    desktop.write("root/var/lib/dpkg/status", &list.replace("Version: 1", "Version: 2"));
    assert_eq!(drift(&looker.look(None)), ["package:a"]);
}

#[test]
fn a_declared_state_is_the_wanted_one_and_a_broken_one_leaves_the_last_good_one() {
    let desktop = Desktop::new();
    desktop.write("wanted.toml", "[accounts.root]\nshell = \"/bin/bash\"\n");
    let place = Place { wanted: Some(desktop.directory.path().join("wanted.toml")), ..desktop.place() };
    let mut looker = Looker::open(&place);
    let found = looker.look(None);
    assert_eq!(drift(&found), ["account:root"]);
    assert_eq!(found.report.problems, Vec::<String>::new());
    let answer = looker.look(Some((&accepted(&found), true))).answer;
    assert!(answer.lines.iter().any(|line| line.contains("it is declared")), "{answer:?}");
    for (text, why) in [
        ("", "declares nothing"),
        ("[accounts.root]\nshell = 3\n", ":2:9:"),
        ("[accounts]\nroot = false\n", "1 of 1 accounts unwanted"),
    ] {
        desktop.write("wanted.toml", text);
        let found = looker.look(None);
        assert_eq!(drift(&found), ["account:root"], "{text}");
        assert!(found.report.problems[0].contains(why), "{:?}", found.report.problems);
    }
}

#[test]
fn an_author_once_seen_is_remembered_with_the_drift() {
    let desktop = Desktop::new();
    let place = desktop.place();
    let mut looker = Looker::open(&place);
    looker.look(None);
    desktop.write("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nmallory:x:0:0::/:/bin/sh\n");
    let found = looker.look(None);
    let item = found.report.drift[0].drift.item.clone();
    assert!(found.clues[&item].paths.contains(&HostPath::from("/etc/passwd")));
    let process = ProcessKey { boot: BootId(1), pid: 7, start_time: Timestamp(5) };
    let author = Author {
        time: Timestamp(9),
        process,
        program: Some(HostPath::from("/usr/sbin/useradd")),
        uid: Some(0),
        login: Some(1000),
        started_by: "login session of uid 1000".into(),
        path: None,
        others: 0,
    };
    let seen = Seen { author: author.clone(), user: Some("root".into()), login: Some("ops".into()) };
    looker.remember(BTreeMap::from([(item.clone(), seen)]));
    let again = Looker::open(&place).look(None);
    assert_eq!(again.report.drift[0].author, Some(author));
    assert!(again.clues.is_empty());
    // Another state of it is another's work.
    desktop.write("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nmallory:x:5:0::/:/bin/sh\n");
    let other = Looker::open(&place).look(None);
    assert_eq!((other.report.drift[0].author.clone(), other.clues.contains_key(&item)), (None, true));
}
