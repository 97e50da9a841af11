// SPDX-License-Identifier: Apache-2.0
//! On a real ext4 in a loop image. Needs root.

use super::fault::Race;
use super::*;
use crate::recover::file::{Before, apply, revert, settle_open};
use crate::respond::account;
use crate::scope::Scope;
use crate::system::System;
use crate::system::linux::Linux;
use crate::system::{CONTENT_BYTES_MAX, FileState};
use rustix::fs::XattrFlags;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use thymus_engine::action::Outcome;

/// A scope of its own: an ext4 image, mounted, and a cgroup. Gone when dropped, also when the test fails.
struct Image {
    directory: TempDir,
    cgroup: PathBuf,
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} (as root?): {}", String::from_utf8_lossy(&output.stderr));
}

impl Image {
    fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = TempDir::with_prefix("thymus-tree-").unwrap();
        let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let mount = mount.into_iter().find(|mount| mount.join("cgroup.procs").exists()).unwrap();
        let cgroup = mount.join(format!("thymus-tree-{}-{number}", std::process::id()));
        std::fs::create_dir(&cgroup).unwrap();
        let image = Self { directory, cgroup };
        let file = image.directory.path().join("image");
        File::create(&file).unwrap().set_len(24 << 20).unwrap();
        std::fs::create_dir(image.root()).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), file.as_os_str()]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), file.as_os_str(), image.root().as_os_str()]);
        std::fs::create_dir(image.root().join("etc")).unwrap();
        image
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn scope(&self) -> Scope {
        Scope::cgroup(&self.cgroup, &self.root()).unwrap()
    }

    fn linux<'a>(&self, scope: &'a Scope) -> Linux<'a> {
        Linux::new(scope.acting().unwrap(), &self.directory.path().join("keep"), &[]).unwrap()
    }

    fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join("etc")).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(".thymus-")).collect()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-R").arg("-f").arg("-i").arg("-a").arg(self.root()).status();
        let _ = Command::new("umount").arg("-l").arg(self.root()).status();
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}

type Prepare = fn(&Path, bool);

fn put(path: &Path, content: &str, mode: u32) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn chattr(flag: &str, path: &Path) {
    run("chattr", &[flag.as_ref(), path.as_os_str()]);
}

/// What stands at `/etc/x`: first as it should be (`false`), then as the attack left it (`true`).
fn transitions() -> Vec<(&'static str, bool, Prepare)> {
    vec![
        ("content and set-id", false, |x, bad| {
            let _ = std::fs::remove_file(x);
            put(x, if bad { "bad" } else { "good" }, if bad { 0o4755 } else { 0o640 });
            std::os::unix::fs::chown(x, Some(if bad { 0 } else { 1_000 }), Some(7)).unwrap();
        }),
        ("attributes alone", false, |x, bad| {
            put(x, "same", if bad { 0o666 } else { 0o600 });
            let name = if bad { "user.bad" } else { "user.good" };
            for name in ["user.bad", "user.good"] {
                let _ = rustix::fs::removexattr(x, name);
            }
            rustix::fs::setxattr(x, name, b"value\0\xff", XattrFlags::empty()).unwrap();
        }),
        ("made by the attack", false, |x, bad| {
            if bad {
                put(x, "bad", 0o644)
            }
        }),
        ("deleted by the attack", false, |x, bad| match bad {
            true => std::fs::remove_file(x).unwrap(),
            false => put(x, "good", 0o644),
        }),
        ("a file became a link", false, |x, bad| {
            let _ = std::fs::remove_file(x);
            match bad {
                true => std::os::unix::fs::symlink("/etc/shadow", x).unwrap(),
                false => put(x, "good", 0o644),
            }
        }),
        ("a link points elsewhere", false, |x, bad| {
            let _ = std::fs::remove_file(x);
            std::os::unix::fs::symlink(if bad { "bad\nplace" } else { "good" }, x).unwrap();
        }),
        ("made immutable", false, |x, bad| {
            put(x, if bad { "bad" } else { "good" }, 0o644);
            if bad {
                chattr("+i", x);
            }
        }),
        ("an immutable file was opened up", false, |x, bad| {
            put(x, if bad { "bad" } else { "good" }, 0o644);
            if !bad {
                chattr("+i", x);
            }
        }),
        ("the flag alone was taken away", false, |x, bad| {
            put(x, "good", 0o644);
            chattr(if bad { "-a" } else { "+a" }, x);
        }),
        ("a directory's attributes", false, |x, bad| {
            std::fs::create_dir_all(x.join("kept")).unwrap();
            std::fs::set_permissions(x, std::fs::Permissions::from_mode(if bad { 0o777 } else { 0o750 })).unwrap();
        }),
        ("a directory was taken away", false, |x, bad| match bad {
            true => std::fs::remove_dir(x).unwrap(),
            false => std::fs::create_dir(x).unwrap(),
        }),
        ("a fifo became a file", false, |x, bad| {
            let _ = std::fs::remove_file(x);
            match bad {
                true => put(x, "bad", 0o644),
                false => run("mkfifo", &[x.as_os_str()]),
            }
        }),
        ("an append-only log was cut", true, |x, bad| {
            put(x, if bad { "three\n" } else { "one\ntwo\nthree\n" }, 0o640);
            chattr("+a", x);
        }),
        ("a log was cut", true, |x, bad| put(x, if bad { "three\nfour\n" } else { "one\ntwo\nthree\nfour\n" }, 0o640)),
    ]
}

const X: &str = "/etc/x";

/// Sets up a transition: what was captured of both states.
fn set_up(image: &Image, linux: &mut Linux<'_>, prepare: Prepare, in_place: bool) -> Before {
    let (path, x) = (HostPath::from(X), image.root().join("etc/x"));
    let _ = Command::new("chattr").arg("-f").arg("-ia").arg(&x).stderr(std::process::Stdio::null()).status();
    let _ = std::fs::remove_dir_all(&x);
    let _ = std::fs::remove_file(&x);
    prepare(&x, false);
    let wanted = linux.capture(&path).unwrap();
    let _ = Command::new("chattr").arg("-f").arg("-ia").arg(&x).status();
    prepare(&x, true);
    let before = linux.capture(&path).unwrap();
    Before::new(before, wanted, in_place)
}

fn is(found: &Option<FileState>, state: &Option<FileState>) -> bool {
    match (found, state) {
        (None, None) => true,
        (Some(found), Some(state)) => found.same(state),
        _ => false,
    }
}

#[test]
fn everything_is_restored_to_the_bit_and_undone_to_the_bit() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let path = HostPath::from(X);
    for (name, in_place, prepare) in transitions() {
        let captured = set_up(&image, &mut linux, prepare, in_place);
        assert!(!is(&captured.before, &captured.wanted), "{name} changes nothing");
        assert_eq!(apply(&mut linux, &path, &captured).unwrap(), Outcome::Success, "{name}");
        let found = linux.look(&path).unwrap();
        assert!(is(&found, &captured.wanted), "{name}: {found:?}, wanted {:?}", captured.wanted);
        if let (Some(found), Some(wanted), false) = (&found, &captured.wanted, in_place) {
            assert_eq!(found.mtime, wanted.mtime, "{name}");
        }
        for _ in 0..2 {
            assert_eq!(revert(&mut linux, &path, &captured).unwrap(), Outcome::Undone, "{name}");
            let found = linux.look(&path).unwrap();
            assert!(is(&found, &captured.before), "{name}: {found:?}, was {:?}", captured.before);
        }
        assert!(image.leftovers().is_empty(), "{name}: {:?}", image.leftovers());
    }
}

/// What it was, and what the cut left there.
fn a_cut_log(linux: &mut Linux<'_>, x: &Path) -> (FileState, FileState) {
    let mut holds = |content| {
        put(x, content, 0o640);
        linux.capture(&HostPath::from(X)).unwrap().unwrap()
    };
    (holds("one\ntwo\n"), holds("two\n"))
}

#[test]
fn a_log_that_grew_beyond_what_can_be_read_is_refused_whole_and_stays_locked() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let (path, x) = (HostPath::from(X), image.root().join("etc/x"));
    let (wanted, expected) = a_cut_log(&mut linux, &x);
    // Sparse: the image is smaller than that.
    let file = File::options().write(true).open(&x).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"the end", CONTENT_BYTES_MAX).unwrap();
    chattr("+a", &x);
    let size = std::fs::metadata(&x).unwrap().len();
    let refused = linux.write_in_place(&path, &expected, &wanted).unwrap_err().in_words();
    assert_eq!(std::fs::metadata(&x).unwrap().len(), size, "{refused}");
    let mut end = [0; 7];
    std::os::unix::fs::FileExt::read_exact_at(&File::open(&x).unwrap(), &mut end, CONTENT_BYTES_MAX).unwrap();
    assert_eq!((&end, refused.contains("bytes")), (b"the end", true), "{refused}");
    assert!(std::fs::remove_file(&x).is_err(), "it may still only be appended to");
}

#[test]
fn a_log_that_holds_something_else_is_locked_again() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let (path, x) = (HostPath::from(X), image.root().join("etc/x"));
    let (wanted, expected) = a_cut_log(&mut linux, &x);
    put(&x, "nobody knows\n", 0o640);
    chattr("+a", &x);
    linux.write_in_place(&path, &expected, &wanted).unwrap_err();
    assert!(std::fs::remove_file(&x).is_err(), "it may still only be appended to");
}

#[test]
fn a_fault_between_any_two_system_calls_is_put_back_and_a_crash_is_settled() {
    let image = Image::new();
    let scope = image.scope();
    let path = HostPath::from(X);
    for (name, in_place, prepare) in transitions() {
        for crash in [false, true] {
            let mut step = 0;
            loop {
                let mut linux = image.linux(&scope);
                let captured = set_up(&image, &mut linux, prepare, in_place);
                linux.fault.seen.set(0);
                linux.fault.at.set(Some(step));
                linux.fault.crash.set(crash);
                let result = apply(&mut linux, &path, &captured);
                if linux.fault.seen.get() <= step {
                    assert!(result.is_ok());
                    break;
                }
                let place = format!("{name}, {} at {step}: {result:?}", if crash { "crash" } else { "fault" });
                // The next agent, or the same one going on.
                let mut linux = image.linux(&scope);
                let outcome = if crash {
                    settle_open(&mut linux, &path, &captured, "it crashed")
                } else {
                    match revert(&mut linux, &path, &captured).unwrap() {
                        Outcome::Undone => Outcome::Reverted(String::new()),
                        other => other,
                    }
                };
                let found = linux.look(&path).unwrap();
                match outcome {
                    Outcome::Success => assert!(is(&found, &captured.wanted), "{place}: {found:?}"),
                    Outcome::Reverted(_) => assert!(is(&found, &captured.before), "{place}: {found:?}"),
                    other => panic!("{place}: {other:?}"),
                }
                assert!(image.leftovers().is_empty(), "{place}: {:?}", image.leftovers());
                step += 1;
            }
            assert!(step > 2, "{name} has steps");
        }
    }
}

/// Overwritten, taken away and made by the attack.
fn set_up_many(image: &Image, linux: &mut Linux<'_>) -> Vec<(HostPath, Before)> {
    let directory = image.root().join("etc");
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::create_dir(&directory).unwrap();
    let one = |number: usize| {
        let (path, x) = (HostPath::from(format!("/etc/{number}").as_str()), directory.join(number.to_string()));
        if number % 5 != 1 {
            put(&x, &format!("good {number}"), 0o640);
        }
        let wanted = linux.capture(&path).unwrap();
        match number % 5 {
            0 => std::fs::remove_file(&x).unwrap(),
            _ => put(&x, &format!("bad {number}"), 0o666),
        }
        (path.clone(), Before::new(linux.capture(&path).unwrap(), wanted, false))
    };
    (0..10).map(one).collect()
}

#[test]
fn many_files_are_each_wanted_or_as_they_were_whatever_step_fails_or_crashes() {
    use crate::recover::many;
    let image = Image::new();
    let scope = image.scope();
    for crash in [false, true] {
        let (mut step, mut all_refused) = (0, false);
        loop {
            let mut linux = image.linux(&scope);
            let files = set_up_many(&image, &mut linux);
            linux.fault.seen.set(0);
            linux.fault.at.set(Some(step));
            linux.fault.crash.set(crash);
            let mut outcome = many::apply(&mut linux, &files);
            let failed = linux.fault.seen.get() > step;
            let place = format!("{} at {step}", if crash { "crash" } else { "fault" });
            let mut linux = image.linux(&scope);
            if crash && failed {
                outcome = many::settle_open(&mut linux, &files, "it crashed");
            }
            let not_done = match outcome {
                Outcome::Success => Vec::new(),
                Outcome::Partly(not_done) => not_done.into_iter().map(|(path, _)| path).collect(),
                Outcome::Reverted(_) => files.iter().map(|(path, _)| path.clone()).collect(),
                other => panic!("{place}: {other:?}"),
            };
            for (path, captured) in &files {
                let found = linux.look(path).unwrap();
                let state = if not_done.contains(path) { &captured.before } else { &captured.wanted };
                assert!(is(&found, state), "{place}: `{path}`: {found:?}, not {state:?}");
            }
            assert!(image.leftovers().is_empty(), "{place}: {:?}", image.leftovers());
            all_refused |= not_done.len() == files.len();
            if !failed {
                assert!(not_done.is_empty());
                break;
            }
            step += 1;
        }
        assert!(step > 20, "{step} steps");
        assert!(all_refused, "none is put in its place when what was made cannot be brought to disk");
    }
}

#[test]
fn hostile_names_are_restored_right() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let long = [b'n'; 255];
    for name in [&b"new\nline"[..], b"\xff\xfe invalid", b"-rf", b" ", b"*", b"$(reboot)", b".thymus-new-x", &long] {
        let path = HostPath::new(&[b"/etc/", name].concat());
        let real = image.root().join("etc").join(std::ffi::OsStr::from_bytes(name));
        put(&real, "good", 0o600);
        let wanted = linux.capture(&path).unwrap();
        put(&real, "bad", 0o777);
        let before = linux.capture(&path).unwrap();
        apply(&mut linux, &path, &Before::new(before, wanted, false)).unwrap();
        assert_eq!(std::fs::read(&real).unwrap(), b"good", "{path}");
        std::fs::remove_file(&real).unwrap();
    }
    for bad in ["etc/x", "/etc/../etc/x", "/etc/./x", "/etc//x", "/etc/x/", "/"] {
        assert!(matches!(linux.look(&HostPath::from(bad)), Err(Error::Refused { .. })), "{bad}");
    }
}

#[test]
fn links_and_mount_points_on_the_way_are_refused_and_never_followed() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let outside = TempDir::with_prefix("thymus-outside-").unwrap();
    std::fs::write(outside.path().join("x"), "outside").unwrap();
    std::os::unix::fs::symlink(outside.path(), image.root().join("way")).unwrap();
    std::os::unix::fs::symlink("etc", image.root().join("inner")).unwrap();
    put(&image.root().join("etc/x"), "good", 0o644);
    let state = linux.capture(&HostPath::from(X)).unwrap().unwrap();
    for path in ["/way/x", "/inner/x", "/way/new"] {
        let path = HostPath::from(path);
        assert!(matches!(linux.look(&path), Err(Error::Refused { .. })), "{path}");
        assert!(matches!(linux.place(&path, None, &state), Err(Error::Refused { .. })), "{path}");
        assert!(matches!(linux.remove(&path, &state), Err(Error::Refused { .. })), "{path}");
    }
    std::fs::create_dir(image.root().join("mounted")).unwrap();
    let mounted = image.root().join("mounted");
    run("mount", &["-t".as_ref(), "tmpfs".as_ref(), "thymus-mounted".as_ref(), mounted.as_os_str()]);
    let refused = ["/mounted/x", "/mounted"].map(|path| linux.look(&HostPath::from(path)));
    let _ = Command::new("umount").arg(&mounted).status();
    for refused in refused {
        assert!(matches!(&refused, Err(Error::Refused { why, .. }) if why.contains("mount point")), "{refused:?}");
    }
    assert_eq!(std::fs::read(outside.path().join("x")).unwrap(), b"outside");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_hard_link_to_somebody_elses_file_is_taken_away_and_that_file_is_not_written() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let (x, victim) = (image.root().join("etc/x"), image.root().join("victim"));
    for in_place in [false, true] {
        put(&x, "good\n", 0o644);
        let wanted = linux.capture(&HostPath::from(X)).unwrap();
        put(&victim, "somebody's\n", 0o600);
        std::fs::remove_file(&x).unwrap();
        std::fs::hard_link(&victim, &x).unwrap();
        let before = linux.capture(&HostPath::from(X)).unwrap();
        let result = apply(&mut linux, &HostPath::from(X), &Before::new(before, wanted, in_place));
        assert_eq!(std::fs::read(&victim).unwrap(), b"somebody's\n");
        assert_eq!(std::fs::metadata(&victim).unwrap().mode() & 0o7777, 0o600);
        if in_place {
            assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
        } else {
            assert_eq!(std::fs::read(&x).unwrap(), b"good\n");
        }
        std::fs::remove_file(&x).unwrap();
    }
}

/// What the attack did to two names of one file.
type Attack = fn(&Path, &Path);

fn linked_transitions() -> Vec<(&'static str, Attack)> {
    vec![
        ("written by one name", |x, _| put(x, "bad", 0o4755)),
        ("written by the other", |_, y| put(y, "longer and bad\n", 0o666)),
        ("emptied", |x, _| put(x, "", 0o644)),
        ("attributes alone", |x, _| std::fs::set_permissions(x, std::fs::Permissions::from_mode(0o777)).unwrap()),
        ("made immutable", |x, _| {
            put(x, "bad", 0o644);
            chattr("+i", x);
        }),
        ("renamed over", |x, y| {
            let new = y.with_file_name("new");
            put(&new, "bad", 0o644);
            std::fs::rename(new, x).unwrap();
        }),
        ("removed", |x, _| std::fs::remove_file(x).unwrap()),
        ("replaced by a copy", |x, y| {
            let new = y.with_file_name("new");
            run("cp", &["-p".as_ref(), y.as_os_str(), new.as_os_str()]);
            std::fs::rename(new, x).unwrap();
        }),
        ("linked to somebody else's file", |x, y| {
            let victim = y.with_file_name("victim");
            put(&victim, "somebody's", 0o600);
            std::fs::remove_file(x).unwrap();
            std::fs::hard_link(victim, x).unwrap();
        }),
    ]
}

/// Everything about names that must come back: content, mode, count of links, and which of them are one file.
type Names = Vec<(String, Vec<u8>, u32, u64, Vec<String>)>;

fn names_in(image: &Image) -> Names {
    let etc = image.root().join("etc");
    let mut entries: Vec<_> = std::fs::read_dir(&etc).unwrap().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let name = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let inode = |entry: &std::fs::DirEntry| entry.metadata().unwrap().ino();
    let tell = |entry: &std::fs::DirEntry| {
        let found = entry.metadata().unwrap();
        let same = entries.iter().filter(|other| inode(other) == found.ino()).map(name).collect();
        (name(entry), std::fs::read(entry.path()).unwrap(), found.mode(), found.nlink(), same)
    };
    entries.iter().map(tell).collect()
}

/// `x` and `y` are one file, then attacked: the names before and after the attack, and what is known of `x`.
fn set_up_linked(image: &Image, linux: &mut Linux<'_>, attack: Attack) -> (Before, [Names; 2]) {
    let (path, x) = (HostPath::from(X), image.root().join("etc/x"));
    let y = x.with_file_name("y");
    for name in std::fs::read_dir(image.root().join("etc")).unwrap().flatten() {
        let _ = Command::new("chattr").arg("-f").arg("-ia").arg(name.path()).status();
        std::fs::remove_file(name.path()).unwrap();
    }
    put(&y, "good\n", 0o644);
    std::fs::hard_link(&y, &x).unwrap();
    let (wanted, good) = (linux.capture(&path).unwrap().unwrap(), names_in(image));
    attack(&x, &y);
    let (before, bad) = (linux.capture(&path).unwrap(), names_in(image));
    let rewrite = before.as_ref().is_some_and(|before| before.is_inode(&wanted));
    let others = if rewrite { Vec::new() } else { vec![HostPath::from("/etc/y")] };
    (Before { rewrite, others, ..Before::new(before, Some(wanted), false) }, [good, bad])
}

#[test]
fn names_of_one_file_are_restored_together_with_what_links_them() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let path = HostPath::from(X);
    for (name, attack) in linked_transitions() {
        let (captured, [good, bad]) = set_up_linked(&image, &mut linux, attack);
        assert_eq!(apply(&mut linux, &path, &captured).unwrap(), Outcome::Success, "{name}");
        let found: Names = names_in(&image).into_iter().filter(|(name, ..)| name != "victim").collect();
        assert_eq!(found, good, "{name}");
        assert_eq!(linux.look(&path).unwrap().unwrap().mtime, captured.wanted.as_ref().unwrap().mtime, "{name}");
        let victim = image.root().join("etc/victim");
        if victim.exists() {
            assert_eq!(std::fs::read(&victim).unwrap(), b"somebody's", "{name}");
            assert_eq!(std::fs::metadata(&victim).unwrap().mode() & 0o7777, 0o600, "{name}");
        }
        assert_eq!(revert(&mut linux, &path, &captured).unwrap(), Outcome::Undone, "{name}");
        let content = |names: Names| names.into_iter().map(|(name, content, ..)| (name, content)).collect::<Vec<_>>();
        assert_eq!(content(names_in(&image)), content(bad), "{name}");
    }
}

#[test]
fn a_fault_or_a_crash_while_one_of_several_names_is_restored_is_put_back_or_settled() {
    let image = Image::new();
    let scope = image.scope();
    let path = HostPath::from(X);
    for (name, attack) in linked_transitions() {
        for crash in [false, true] {
            for step in 0.. {
                let mut linux = image.linux(&scope);
                let (captured, [good, bad]) = set_up_linked(&image, &mut linux, attack);
                linux.fault.seen.set(0);
                linux.fault.at.set(Some(step));
                linux.fault.crash.set(crash);
                let result = apply(&mut linux, &path, &captured);
                if linux.fault.seen.get() <= step {
                    assert!(result.is_ok() && step > 2, "{name}: {result:?}");
                    break;
                }
                let place = format!("{name}, {} at {step}: {result:?}", if crash { "crash" } else { "fault" });
                let mut linux = image.linux(&scope);
                let outcome = match crash {
                    true => settle_open(&mut linux, &path, &captured, "it crashed"),
                    false => revert(&mut linux, &path, &captured).unwrap(),
                };
                let content =
                    |names: Names| names.into_iter().map(|(name, content, ..)| (name, content)).collect::<Vec<_>>();
                let found = names_in(&image);
                match outcome {
                    Outcome::Success => {
                        let found: Names = found.into_iter().filter(|(name, ..)| name != "victim").collect();
                        assert_eq!(found, good, "{place}");
                    }
                    Outcome::Reverted(_) | Outcome::Undone => assert_eq!(content(found), content(bad), "{place}"),
                    other => panic!("{place}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn names_that_were_all_taken_away_become_one_file_again() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let (x, y) = (image.root().join("etc/x"), image.root().join("etc/y"));
    put(&x, "good", 0o644);
    std::fs::hard_link(&x, &y).unwrap();
    let paths = [HostPath::from(X), HostPath::from("/etc/y")];
    let wanted = paths.clone().map(|path| linux.capture(&path).unwrap());
    let good = names_in(&image);
    std::fs::remove_file(&x).unwrap();
    std::fs::remove_file(&y).unwrap();
    for (at, wanted) in wanted.into_iter().enumerate() {
        let captured = Before { others: vec![paths[1 - at].clone()], ..Before::new(None, wanted, false) };
        apply(&mut linux, &paths[at], &captured).unwrap();
    }
    assert_eq!(names_in(&image), good);
}

#[test]
fn a_file_that_took_the_place_of_one_with_several_names_is_never_written_into() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let (captured, _) = set_up_linked(&image, &mut linux, |x, y| {
        let victim = y.with_file_name("victim");
        put(&victim, "somebody's", 0o600);
        std::fs::remove_file(x).unwrap();
        std::fs::hard_link(victim, x).unwrap();
    });
    let captured = Before { rewrite: true, ..captured };
    let result = apply(&mut linux, &HostPath::from(X), &captured);
    assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
    assert_eq!(std::fs::read(image.root().join("etc/victim")).unwrap(), b"somebody's");
}

#[test]
fn a_racing_attacker_cannot_lead_a_restoration_outside() {
    let image = Image::new();
    let scope = image.scope();
    let mut linux = image.linux(&scope);
    let outside = TempDir::with_prefix("thymus-outside-").unwrap();
    let root = image.root();
    std::fs::create_dir(root.join("etc/d")).unwrap();
    put(&root.join("etc/d/x"), "good", 0o644);
    let path = HostPath::from("/etc/d/x");
    let wanted = linux.capture(&path).unwrap().unwrap();
    let target = outside.path().to_owned();
    std::os::unix::fs::symlink(&target, root.join("etc/link")).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let racer = std::thread::spawn({
        let (stop, root) = (std::sync::Arc::clone(&stop), root.clone());
        move || {
            let etc = File::open(root.join("etc")).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(&etc, "d", &etc, "link", RenameFlags::EXCHANGE);
            }
        }
    });
    let mut done = 0;
    for _ in 0..3_000 {
        let before = linux.look(&path).ok().flatten();
        if let Some(before) = before
            && linux.remove(&path, &before).is_ok()
        {
            done += 1;
        }
        done += u32::from(linux.place(&path, None, &wanted).is_ok());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    racer.join().unwrap();
    assert!(done > 0, "the race was never won by us, so nothing was tried");
    let found: Vec<_> = std::fs::read_dir(outside.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(found.is_empty(), "a restoration left the scope: {found:?}");
}

#[test]
fn what_is_swapped_in_at_the_last_moment_is_put_back_and_not_lost() {
    let image = Image::new();
    let scope = image.scope();
    let path = HostPath::from(X);
    let x = image.root().join("etc/x");
    for wanted_absent in [false, true] {
        for at in 0..12 {
            let mut linux = image.linux(&scope);
            put(&x, "good", 0o644);
            let wanted = linux.capture(&path).unwrap();
            put(&x, "bad", 0o644);
            let before = linux.capture(&path).unwrap();
            let (swapped, source) = (x.clone(), image.root().join("etc/new"));
            linux.fault.seen.set(0);
            *linux.fault.race.lock().unwrap() = Some(Race(Box::new(move |step| {
                if step == at && swapped.exists() {
                    std::fs::write(&source, "an administrator's").unwrap();
                    std::fs::rename(&source, &swapped).unwrap();
                }
            })));
            let wanted = if wanted_absent { None } else { wanted };
            let result = apply(&mut linux, &path, &Before::new(before, wanted, false));
            let raced = linux.fault.seen.get() > at;
            let now = std::fs::read_to_string(&x).unwrap_or_default();
            if raced && matches!(result, Err(Error::Changed { .. })) {
                assert_eq!(now, "an administrator's", "swapped at {at}");
            } else {
                // Too late to matter: ours was done, theirs came after.
                assert!(result.is_ok(), "{at}: {result:?}");
            }
            assert!(image.leftovers().is_empty());
            let _ = std::fs::remove_file(&x);
        }
    }
}

const SHADOW: &str = "root:*:19000:0:99999:7:::\nalice:$6$x:19000:0:99999:7:::\n";

/// The accounts of a host, their file immutable, as some make it; and what would lock one of them.
fn set_up_account(image: &Image, linux: &mut Linux<'_>) -> (account::Before, FileState) {
    let (passwd, shadow) = (image.root().join("etc/passwd"), image.root().join("etc/shadow"));
    let _ = Command::new("chattr").arg("-f").arg("-i").arg(&shadow).status();
    put(&passwd, "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\n", 0o644);
    put(&shadow, SHADOW, 0o640);
    std::os::unix::fs::chown(&shadow, Some(0), Some(42)).unwrap();
    rustix::fs::setxattr(&shadow, "user.label", b"secret", XattrFlags::empty()).unwrap();
    chattr("+i", &shadow);
    let (before, _) = account::capture(linux, 1_001, &HostPath::from("/etc/shadow")).unwrap();
    (before, linux.look(&HostPath::from("/etc/shadow")).unwrap().unwrap())
}

#[test]
fn an_account_is_locked_and_unlocked_to_the_bit_whatever_step_fails_or_crashes() {
    let image = Image::new();
    let scope = image.scope();
    let path = HostPath::from("/etc/shadow");
    let content = || std::fs::read_to_string(image.root().join("etc/shadow")).unwrap();
    let locked = SHADOW.replace("7:::\n", "7::1:\n").replacen("7::1:\n", "7:::\n", 1);
    for (undoing, crash) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut step = 0;
        loop {
            let mut linux = image.linux(&scope);
            let (before, state) = set_up_account(&image, &mut linux);
            if undoing {
                account::apply(&mut linux, &path, &before).unwrap();
            }
            linux.fault.seen.set(0);
            linux.fault.at.set(Some(step));
            linux.fault.crash.set(crash);
            let result = match undoing {
                true => account::revert(&mut linux, &path, &before),
                false => account::apply(&mut linux, &path, &before),
            };
            let failed = linux.fault.seen.get() > step;
            let place = format!("{undoing} {crash} at {step}: {result:?}");
            let mut linux = image.linux(&scope);
            // As the next agent settles it, or this one puts it back, or a person undoes it once more.
            let done = if crash && failed && !undoing {
                account::settle_open(&mut linux, &path, &before, "it crashed").unwrap() == Outcome::Success
            } else if failed {
                account::revert(&mut linux, &path, &before).unwrap() != Outcome::Undone
            } else {
                !undoing
            };
            assert_eq!(content(), if done { &locked } else { SHADOW }, "{place}");
            let found = linux.look(&path).unwrap().unwrap();
            let known = FileState { content: state.content, size: state.size, ..found.clone() };
            // Who undoes it may find that others took the flag away: it is not his to set.
            let known = FileState { flags: if undoing && crash { state.flags } else { known.flags }, ..known };
            assert_eq!((state.difference(&known), found.mtime), (None, state.mtime), "{place}");
            assert!(image.leftovers().is_empty(), "{place}: {:?}", image.leftovers());
            if !failed {
                break;
            }
            step += 1;
        }
        assert!(step > 2);
    }
}

#[test]
fn accounts_are_held_from_others_while_one_is_locked_and_waited_for_when_others_hold_them() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let image = Image::new();
    let scope = image.scope();
    let path = HostPath::from("/etc/shadow");
    let mut linux = image.linux(&scope);
    let (before, state) = set_up_account(&image, &mut linux);
    let lock = image.root().join("etc/.pwd.lock");
    // As passwd(1) does, which asks at every step.
    let passwd = |lock: &Path| File::options().write(true).create(true).truncate(false).open(lock).unwrap();
    let tries = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (seen, name) = (tries.clone(), lock.clone());
    let race = move |_| {
        let file = passwd(&name);
        seen.lock().unwrap().push(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
    };
    *linux.fault.race.lock().unwrap() = Some(Race(Box::new(race)));
    assert_eq!(account::apply(&mut linux, &path, &before).unwrap(), Outcome::Success);
    assert_eq!(account::revert(&mut linux, &path, &before).unwrap(), Outcome::Undone);
    *linux.fault.race.lock().unwrap() = None;
    let tries = std::mem::take(&mut *tries.lock().unwrap());
    assert!(tries.len() > 8 && tries.iter().all(|free| !free), "{tries:?}");
    let file = passwd(&lock);
    assert!(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(), "it is let go");
    let refused = account::apply(&mut linux, &path, &before).unwrap_err();
    assert!(matches!(refused, Error::Deadline { .. }), "{refused:?}");
    drop(file);
    // A link in its place is not followed, nor is one in the place of the file.
    let outside = image.root().join("outside");
    put(&outside, SHADOW, 0o600);
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&outside, &lock).unwrap();
    assert!(matches!(account::apply(&mut linux, &path, &before), Err(Error::Refused { .. })));
    std::fs::remove_file(&lock).unwrap();
    assert!(state.same(&linux.look(&path).unwrap().unwrap()));
    chattr("-i", &image.root().join("etc/shadow"));
    std::fs::remove_file(image.root().join("etc/shadow")).unwrap();
    std::os::unix::fs::symlink(&outside, image.root().join("etc/shadow")).unwrap();
    assert!(matches!(account::apply(&mut linux, &path, &before), Err(Error::Refused { .. })));
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), SHADOW);
    assert_eq!(std::fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
}
