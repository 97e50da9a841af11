// SPDX-License-Identifier: Apache-2.0
//! On a real ext4 of its own, as root. Attacks are made by other processes: ours are never asked.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::scope::Scope;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use thymus_engine::event::{Change, File, FileActivityId, FileKind};
use thymus_engine::id::FileKey;

/// An ext4 on a loop device, mounted below a directory of its own; gone when dropped, also after a panic.
struct Disk {
    directory: tempfile::TempDir,
    root: PathBuf,
}

impl Disk {
    fn new(megabytes: u32) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: it mounts a loop image");
        let directory = tempfile::Builder::new().prefix("thymus-vault").tempdir().unwrap();
        let (tree, image, root) =
            (directory.path().join("tree"), directory.path().join("image"), directory.path().join("root"));
        for name in ["etc", "var/log", "tmp"] {
            std::fs::create_dir_all(tree.join(name)).unwrap();
        }
        std::fs::create_dir(&root).unwrap();
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-d"]).arg(&tree).arg(&image).arg(format!("{megabytes}M"));
        succeed(make.stdout(Stdio::null()).stderr(Stdio::null()));
        succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&root));
        Self { directory, root }
    }

    fn scope(&self) -> Scope {
        Scope::cgroup(Path::new("/sys/fs/cgroup"), &self.root).unwrap()
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn vault(&self) -> Vault {
        self.vault_with(options())
    }

    fn vault_with(&self, options: Options) -> Vault {
        Vault::open(&self.state(), &self.scope(), options).unwrap()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.at(path), content).unwrap();
    }

    /// A shell in another process, in the guarded root.
    fn shell(&self, script: &str) {
        succeed(Command::new("sh").args(["-ec", script]).current_dir(&self.root).stdout(Stdio::null()));
    }

    fn key(&self, path: &str) -> FileKey {
        let found = std::fs::symlink_metadata(self.at(path)).unwrap();
        FileKey { device: 0, inode: found.ino(), generation: 0 }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A child that another test is just starting may hold our descriptors for an instant.
        for _ in 0..40 {
            let status = Command::new("umount").arg(&self.root).stderr(Stdio::null()).status();
            if status.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = Command::new("umount").arg("-l").arg(&self.root).status();
    }
}

fn succeed(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn options() -> Options {
    Options { append_only: vec!["/var/log/*.log".into()], ..Options::of(&["/etc", "/var/log"]) }
}

const INTRUDER: ProcessKey = ProcessKey { boot: thymus_engine::id::BootId(1), pid: 666, start_time: Timestamp(1) };
const ADMINISTRATOR: ProcessKey = ProcessKey { boot: thymus_engine::id::BootId(1), pid: 7, start_time: Timestamp(1) };

fn activity(id: FileActivityId, path: &str, key: FileKey, actor: ProcessKey) -> FileActivity {
    FileActivity {
        activity: id,
        actor,
        file: File { path: HostPath::from(path), key },
        kind: FileKind::Regular,
        file_result: None,
        change: None,
        change_result: None,
        mode: None,
        target: None,
    }
}

/// Notes one activity of the intruder, as the sensors would.
fn did(vault: &Vault, id: FileActivityId, path: &str, key: FileKey, time: Timestamp) -> Option<Change> {
    let mut activity = activity(id, path, key, INTRUDER);
    vault.note(&mut activity, time);
    activity.change
}

fn content_of(vault: &Vault, id: VersionId) -> Vec<u8> {
    let version = vault.version(id).unwrap();
    let Recorded::State(state) = &version.recorded else { panic!("{version:?}") };
    vault.content(&state.digest.unwrap_or_else(|| panic!("{version:?}"))).unwrap()
}

fn state_of(vault: &Vault, id: VersionId) -> State {
    match vault.version(id).unwrap().recorded {
        Recorded::State(state) => state,
        Recorded::Missing(reason) => panic!("version {id} is missing: {reason}"),
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn unknown_intent() -> Box<dyn Fn(u32) -> Intent + Send + Sync> {
    Box::new(|_| Intent::Unknown)
}

/// A mapped write needs no code of ours: perl calls mmap, then reads five bytes from a pipe into the mapping.
const MAPPED_WRITE: &str = "perl -e 'open F,\"+<\",\"etc/f\" or die; pipe R,W; syswrite W,\"EVILS\"; \
    my $a=syscall(9,0,4096,3,1,fileno(F),0); die if $a==-1; die if syscall(0,fileno(R),$a,5)!=5;'";

#[test]
fn whatever_way_the_content_is_attacked_the_state_before_it_is_read_back_exactly() {
    let attacks = [
        ("overwritten in place", "printf EVIL | dd of=etc/f conv=notrunc status=none"),
        ("opened with O_TRUNC", "printf EVIL > etc/f"),
        ("ftruncate", "truncate -s 3 etc/f"),
        ("truncate by path", "perl -e 'truncate(\"etc/f\", 2) or die'"),
        ("mapped", MAPPED_WRITE),
        ("renamed over", "printf EVIL > etc/.f.new; mv etc/.f.new etc/f"),
        ("unlinked", "rm etc/f"),
        ("appended and shortened by sed", "sed -i s/administrator/intruder/ etc/f"),
    ];
    for (name, attack) in attacks {
        let disk = Disk::new(32);
        disk.write("/etc/f", "as installed\n");
        let (vault, scope) = (disk.vault(), disk.scope());
        let protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
        assert_eq!(protection.refused, None);
        vault.baseline().unwrap();
        // The administrator's version is of after the baseline, and nobody notes it until the attack is over.
        let (key, edited) = (disk.key("/etc/f"), boot_now());
        disk.shell("printf 'the administrator was here\n' >> etc/f");
        let attacked = boot_now();
        disk.shell(attack);
        let mut edit = activity(FileActivityId::Close, "/etc/f", key, ADMINISTRATOR);
        vault.note(&mut edit, edited);
        let edit = edit.change.unwrap();
        let change = did(&vault, FileActivityId::Close, "/etc/f", key, attacked).unwrap();
        assert_eq!(change.before, edit.after, "{name}");
        assert_eq!(content_of(&vault, edit.before), b"as installed\n", "{name}");
        let version = vault.version(edit.after).unwrap();
        assert!(version.exact, "{name}: {version:?}");
        assert_eq!(version.writer, ADMINISTRATOR);
        assert_eq!(content_of(&vault, edit.after), b"as installed\nthe administrator was here\n", "{name}");
        assert_eq!(vault.counters().permission_deadlines, 0, "{name}");
    }
}

#[test]
fn a_truncation_by_path_is_a_version_of_its_own_and_never_somebody_elses_content() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "as installed\n");
    disk.write("/etc/g", "as installed\n");
    let (vault, scope) = (disk.vault(), disk.scope());
    let _protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
    vault.baseline().unwrap();
    let attack = |file: &str| {
        let time = boot_now();
        disk.shell(&format!("perl -e 'truncate(\"etc/{file}\", 2) or die'"));
        time
    };
    let (key, time) = (disk.key("/etc/f"), attack("f"));
    let change = did(&vault, FileActivityId::Truncate, "/etc/f", key, time).unwrap();
    assert_eq!(content_of(&vault, change.before), b"as installed\n");
    assert_eq!(content_of(&vault, change.after), b"as");
    let version = vault.version(change.after).unwrap();
    assert_eq!((version.exact, version.writer), (true, INTRUDER));
    // Told late, when an administrator has written and closed it since: his content is not the intruder's.
    let (key, time) = (disk.key("/etc/g"), attack("g"));
    let edited = boot_now();
    disk.shell("printf ' the administrator says\n' >> etc/g");
    let mut edit = activity(FileActivityId::Close, "/etc/g", key, ADMINISTRATOR);
    let change = did(&vault, FileActivityId::Truncate, "/etc/g", key, time).unwrap();
    vault.note(&mut edit, edited);
    let edit = edit.change.unwrap();
    assert_eq!((content_of(&vault, change.before), edit.before), (b"as installed\n".to_vec(), change.after));
    assert_eq!(content_of(&vault, edit.after), b"as the administrator says\n");
    assert!(!vault.version(change.after).unwrap().exact);
}

#[test]
fn names_of_one_file_are_known_and_change_together_also_by_our_own_hands() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "good");
    disk.shell("ln etc/f etc/g; ln etc/f etc/h; printf good > etc/other");
    let vault = disk.vault();
    vault.baseline().unwrap();
    let base = vault.latest(&HostPath::from("/etc/f")).unwrap();
    let names = ["/etc/g", "/etc/h"].map(HostPath::from);
    assert_eq!(vault.names(base), names);
    assert!(vault.names(vault.latest(&HostPath::from("/etc/other")).unwrap()).is_empty());
    disk.shell("printf evil > etc/f; rm etc/h");
    did(&vault, FileActivityId::Close, "/etc/f", disk.key("/etc/f"), boot_now());
    assert_eq!(vault.names(base), names, "also those that are gone by now");
    // What the hands do is told without an inode.
    disk.write("/etc/f", "good");
    let unknown = FileKey { device: 0, inode: 0, generation: 0 };
    let mut ours = activity(FileActivityId::Close, "/etc/f", unknown, ADMINISTRATOR);
    vault.note(&mut ours, boot_now());
    for name in ["/etc/f", "/etc/g"] {
        assert_eq!(content_of(&vault, vault.latest(&HostPath::from(name)).unwrap()), b"good", "{name}");
    }
}

#[test]
fn flags_are_kept_with_a_version_and_outlive_the_agent_and_retention() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "locked");
    disk.write("/etc/g", "free");
    disk.shell("chattr +i etc/f; chattr +a etc");
    let flags = |vault: &Vault, path: &str| state_of(vault, vault.latest(&HostPath::from(path)).unwrap()).flags;
    {
        let vault = disk.vault();
        vault.baseline().unwrap();
        assert_eq!([flags(&vault, "/etc/f"), flags(&vault, "/etc/g"), flags(&vault, "/etc")], [0x10, 0, 0x20]);
    }
    disk.shell("chattr -i etc/f; chattr -a etc");
    let vault = disk.vault();
    assert_eq!([flags(&vault, "/etc/f"), flags(&vault, "/etc")], [0x10, 0x20], "as it was recorded");
    let versions = vault.counters().versions;
    vault.baseline().unwrap();
    assert_eq!([flags(&vault, "/etc/f"), flags(&vault, "/etc")], [0, 0]);
    assert_eq!(vault.counters().versions, versions, "no new version for a flag alone");
}

#[test]
fn records_of_a_vault_without_flags_are_read() {
    // As an agent before this one wrote them: a version in postcard, and nothing beside it.
    let state = State { kind: Kind::Regular, mode: 0o600, flags: 0x10, ..State::default() };
    let version = Version {
        id: VersionId(7),
        path: HostPath::from("/etc/f"),
        recorded: Recorded::State(state),
        exact: true,
        writer: INTRUDER,
        time: Timestamp(1),
        unix_ns: 1,
        note: "close".into(),
    };
    let records: Vec<log::Record> = log::Record::of_version(version).collect();
    assert_eq!(records.len(), 2);
    let old = postcard::to_stdvec(&records[0]).unwrap();
    let log::Record::Version(read) = postcard::from_bytes(&old).unwrap() else { panic!() };
    assert_eq!(read.recorded.state().map(|state| (state.mode, state.flags)), Some((0o600, 0)));
}

/// removexattr, as perl can call it.
const REMOVE_NOTE: &str = "perl -e 'my ($p,$n)=(\"etc/f\",\"user.note\"); syscall(197,$p,$n)==0 or die'";
const REMOVE_LIST: &str = "perl -e 'my ($p,$n)=(\"etc/f\",\"system.posix_acl_access\"); syscall(197,$p,$n)==0 or die'";

#[test]
fn metadata_links_and_names_come_back_as_they_were() {
    use rustix::fs::{XattrFlags, setxattr};
    let disk = Disk::new(32);
    disk.write("/etc/f", "content");
    disk.write("/etc/twice", "two names");
    std::os::unix::fs::symlink("f", disk.at("/etc/link")).unwrap();
    std::fs::hard_link(disk.at("/etc/twice"), disk.at("/etc/second")).unwrap();
    disk.shell("mkfifo etc/pipe; mknod etc/null c 1 3; chmod 0640 etc/f");
    // An access list: user::rw-, user:1000:r--, group::r--, mask::r--, other::---.
    let entries = [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(id.to_le_bytes()));
    }
    // cap_net_bind_service=ep, version 2.
    let mut capability = [0u8; 20];
    capability[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1u32 << 10).to_le_bytes());
    setxattr(disk.at("/etc/f"), "system.posix_acl_access", &list, XattrFlags::empty()).unwrap();
    setxattr(disk.at("/etc/f"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    setxattr(disk.at("/etc/f"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    let vault = disk.vault();
    vault.baseline().unwrap();
    let before = state_of(&vault, vault.latest(&HostPath::from("/etc/f")).unwrap());
    assert_eq!(before.xattrs.get(b"system.posix_acl_access".as_slice()), Some(&list));
    assert_eq!(before.xattrs.get(b"security.capability".as_slice()).unwrap(), &capability);
    assert_eq!((before.mode, before.uid, before.nlink), (0o640, 0, 1));
    let link = state_of(&vault, vault.latest(&HostPath::from("/etc/link")).unwrap());
    assert_eq!((link.kind, link.link_target.as_deref()), (Kind::Symlink, Some(b"f".as_slice())));
    assert_eq!(state_of(&vault, vault.latest(&HostPath::from("/etc/pipe")).unwrap()).kind, Kind::Fifo);
    let null = state_of(&vault, vault.latest(&HostPath::from("/etc/null")).unwrap());
    assert_eq!((null.kind, null.rdev), (Kind::CharacterDevice, rustix::fs::makedev(1, 3)));

    let steps: [(&str, FileActivityId); 4] = [
        ("chmod 4755 etc/f", FileActivityId::SetAttributes),
        ("chown 1000:1001 etc/f", FileActivityId::SetAttributes),
        (REMOVE_NOTE, FileActivityId::SetSecurity),
        (REMOVE_LIST, FileActivityId::SetSecurity),
    ];
    let mut last = vault.latest(&HostPath::from("/etc/f")).unwrap();
    for (script, id) in &steps {
        let time = boot_now();
        disk.shell(script);
        let change = did(&vault, *id, "/etc/f", disk.key("/etc/f"), time).unwrap();
        assert_eq!(change.before, last, "{script}");
        assert!(!state_of(&vault, change.after).same_as(&state_of(&vault, change.before)), "{script}");
        last = change.after;
    }
    assert!(state_of(&vault, vault.chain(&HostPath::from("/etc/f"))[0]).same_as(&before));
    // A change by one name is a version of every name.
    let time = boot_now();
    disk.shell("printf changed > etc/second");
    let change = did(&vault, FileActivityId::Close, "/etc/second", disk.key("/etc/second"), time).unwrap();
    assert_eq!(content_of(&vault, change.after), b"changed");
    let other = vault.latest(&HostPath::from("/etc/twice")).unwrap();
    assert_eq!(content_of(&vault, other), b"changed");
    assert_eq!(vault.version(other).unwrap().note, "changed by another name");
    let before = vault.chain(&HostPath::from("/etc/twice"))[0];
    assert_eq!(content_of(&vault, before), b"two names");
}

#[test]
fn hostile_names_are_kept_and_nothing_is_followed() {
    let disk = Disk::new(32);
    let names: Vec<Vec<u8>> =
        vec![b"new\nline".to_vec(), vec![0xff, 0xfe, b' '], vec![b'x'; 255], b"-rf".to_vec(), b"a\\x20b ".to_vec()];
    for name in &names {
        std::fs::write(disk.root.join("etc").join(OsStr::from_bytes(name)), name).unwrap();
    }
    std::fs::create_dir(disk.at("/etc/d")).unwrap();
    disk.write("/etc/d/secret", "inside");
    std::fs::write(disk.directory.path().join("secret"), "outside").unwrap();
    let vault = disk.vault();
    let coverage = vault.baseline().unwrap();
    assert_eq!((coverage.trees[0].missing_count, coverage.trees[0].files), (0, 6));
    for name in &names {
        let mut path = b"/etc/".to_vec();
        path.extend_from_slice(name);
        assert_eq!(&content_of(&vault, vault.latest(&HostPath::new(&path)).unwrap()), name);
    }
    // The directory becomes a link out of the tree: what is asked for by the old name is refused, not followed.
    std::fs::rename(disk.at("/etc/d"), disk.at("/etc/e")).unwrap();
    std::os::unix::fs::symlink(disk.directory.path(), disk.at("/etc/d")).unwrap();
    let found = vault.look(&HostPath::from("/etc/d/secret")).unwrap();
    assert_eq!(found, Recorded::Missing("a symbolic link stands in its path".into()));
    for path in ["/etc/../../secret", "/../secret"] {
        assert!(
            vault.look(&HostPath::from(path)).is_ok_and(|found| found.state().is_none_or(|state| !state.exists())),
            "{path}"
        );
    }
}

#[test]
fn a_log_that_is_emptied_or_replaced_can_be_put_back_with_its_last_line() {
    let disk = Disk::new(32);
    disk.write("/var/log/auth.log", "boot\n");
    let (vault, scope) = (disk.vault(), disk.scope());
    let _protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
    vault.baseline().unwrap();
    // A daemon holds it open and appends.
    let mut daemon = std::fs::OpenOptions::new().append(true).open(disk.at("/var/log/auth.log")).unwrap();
    daemon.write_all(b"accepted key for intruder\n").unwrap();
    let key = disk.key("/var/log/auth.log");
    disk.shell(": > var/log/auth.log");
    let opened = boot_now();
    did(&vault, FileActivityId::Open, "/var/log/auth.log", key, opened);
    let change = did(&vault, FileActivityId::Close, "/var/log/auth.log", key, boot_now()).unwrap();
    assert_eq!(content_of(&vault, change.before), b"boot\naccepted key for intruder\n");
    assert_eq!(content_of(&vault, change.after), b"");
    daemon.write_all(b"line one\n").unwrap();
    let chain = vault.chain(&HostPath::from("/var/log/auth.log")).len();
    assert_eq!(chain, 3, "baseline, before the attack, after it");

    // Replaced by a rename, with a line that came after the intruder had read it.
    disk.shell("grep -v intruder var/log/auth.log > var/log/.new; cp var/log/.new var/log/.second");
    daemon.write_all(b"line two\n").unwrap();
    let moved = disk.key("/var/log/.new");
    disk.shell("mv var/log/.new var/log/auth.log");
    let mut rename = activity(FileActivityId::Rename, "/var/log/.new", moved, INTRUDER);
    rename.file_result = Some(HostPath::from("/var/log/auth.log"));
    vault.note(&mut rename, boot_now());
    let change = rename.change_result.unwrap();
    assert_eq!(content_of(&vault, change.before), b"line one\nline two\n");
    assert_eq!(content_of(&vault, change.after), b"line one\n");
    // The daemon does not know yet that what it writes to has no name any more.
    daemon.write_all(b"line three\n").unwrap();
    assert_eq!(content_of(&vault, change.before), b"line one\nline two\nline three\n");
    drop(vault);
    let vault = disk.vault();
    assert_eq!(content_of(&vault, change.before), b"line one\nline two\nline three\n");
    assert_eq!(content_of(&vault, change.after), b"line one\n");
}

#[test]
fn without_the_group_versions_are_still_taken_and_doubt_is_said() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "one");
    let vault = disk.vault();
    vault.baseline().unwrap();
    let key = disk.key("/etc/f");
    let time = boot_now();
    disk.shell("printf two > etc/f");
    let change = did(&vault, FileActivityId::Close, "/etc/f", key, time).unwrap();
    assert_eq!(content_of(&vault, change.after), b"two");
    // A second writer comes before the first one's version is read: the reading may hold the second state.
    let (first, second) = (boot_now(), Timestamp(boot_now().0 + 1));
    disk.shell("printf three > etc/f; sleep 0.05; printf four > etc/f");
    let change = did(&vault, FileActivityId::Close, "/etc/f", key, first).unwrap();
    did(&vault, FileActivityId::Open, "/etc/f", key, second);
    let later = did(&vault, FileActivityId::Close, "/etc/f", key, Timestamp(second.0 + 1)).unwrap();
    vault.version(change.after).unwrap();
    wait_until("the doubt is recorded", || !vault.version(change.after).unwrap().exact);
    assert!(vault.version(later.after).unwrap().exact);
}

#[test]
fn created_renamed_and_deleted_paths_say_so() {
    let disk = Disk::new(32);
    let vault = disk.vault();
    vault.baseline().unwrap();
    let time = boot_now();
    disk.shell("printf key > etc/new");
    let key = disk.key("/etc/new");
    let created = did(&vault, FileActivityId::Create, "/etc/new", key, time).unwrap();
    assert!(created.created && created.before == VersionId::UNKNOWN);
    let closed = did(&vault, FileActivityId::Close, "/etc/new", key, time).unwrap();
    assert!(!closed.created && closed.before == created.after);
    assert_eq!(content_of(&vault, created.after), b"");
    assert_eq!(content_of(&vault, closed.after), b"key");
    disk.shell("mv etc/new etc/renamed");
    let mut rename = activity(FileActivityId::Rename, "/etc/new", key, INTRUDER);
    rename.file_result = Some(HostPath::from("/etc/renamed"));
    vault.note(&mut rename, boot_now());
    let (away, to) = (rename.change.unwrap(), rename.change_result.unwrap());
    assert!(away.removed && !away.created && to.created);
    assert!(!state_of(&vault, away.after).exists());
    assert_eq!(content_of(&vault, to.after), b"key");
    assert_eq!(rename.mode.unwrap().bits, 0o644);
    disk.shell("rm etc/renamed");
    let gone = did(&vault, FileActivityId::Delete, "/etc/renamed", key, boot_now()).unwrap();
    assert!(gone.removed && gone.before == to.after);
    // What is closed after its name was deleted is no version of that name.
    assert!(did(&vault, FileActivityId::Close, "/etc/renamed", key, boot_now()).is_none());
    assert_eq!(vault.latest(&HostPath::from("/etc/renamed")).unwrap(), gone.after);
    // A renamed directory takes its children along.
    disk.shell("mkdir etc/d; printf child > etc/d/c; mv etc/d etc/e");
    vault.baseline().unwrap();
    disk.shell("mv etc/e etc/g");
    let mut rename = activity(FileActivityId::Rename, "/etc/e", disk.key("/etc/g"), INTRUDER);
    (rename.kind, rename.file_result) = (FileKind::Directory, Some(HostPath::from("/etc/g")));
    vault.note(&mut rename, boot_now());
    assert_eq!(content_of(&vault, vault.latest(&HostPath::from("/etc/g/c")).unwrap()), b"child");
    assert!(!state_of(&vault, vault.latest(&HostPath::from("/etc/e/c")).unwrap()).exists());
    // A directory that comes from outside is walked.
    disk.shell("mkdir tmp/kit; printf evil > tmp/kit/x; mv tmp/kit etc/kit");
    let mut rename = activity(FileActivityId::Rename, "/tmp/kit", disk.key("/etc/kit"), INTRUDER);
    (rename.kind, rename.file_result) = (FileKind::Directory, Some(HostPath::from("/etc/kit")));
    vault.note(&mut rename, boot_now());
    wait_until("the child is known", || vault.latest(&HostPath::from("/etc/kit/x")).is_some());
    let child = vault.version(vault.latest(&HostPath::from("/etc/kit/x")).unwrap()).unwrap();
    assert_eq!(child.writer, INTRUDER);
}

#[test]
fn what_the_agent_restores_is_the_state_before_the_next_change() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "installed");
    let vault = disk.vault();
    vault.baseline().unwrap();
    let time = boot_now();
    disk.shell("printf evil > etc/f");
    let attack = did(&vault, FileActivityId::Close, "/etc/f", disk.key("/etc/f"), time).unwrap();
    assert_eq!(content_of(&vault, attack.after), b"evil");
    disk.write("/etc/f", "installed");
    let restored = vault.renew(&HostPath::from("/etc/f"), ADMINISTRATOR, "restored");
    let time = boot_now();
    disk.shell("printf edited > etc/f");
    let edit = did(&vault, FileActivityId::Close, "/etc/f", disk.key("/etc/f"), time).unwrap();
    assert_eq!(edit.before, restored);
    assert!(state_of(&vault, restored).same_as(&state_of(&vault, attack.before)));
}

#[test]
fn outside_the_protected_trees_only_the_mode_is_told() {
    let disk = Disk::new(32);
    let vault = disk.vault();
    disk.shell("printf x > tmp/sh; chmod 4755 tmp/sh");
    let mut set = activity(FileActivityId::SetAttributes, "/tmp/sh", disk.key("/tmp/sh"), INTRUDER);
    vault.note(&mut set, boot_now());
    assert_eq!((set.change, set.mode.unwrap().bits), (None, 0o4755));
}

#[test]
fn changes_while_nobody_guards_are_found_and_named() {
    let disk = Disk::new(32);
    for name in ["same", "changed", "removed"] {
        disk.write(&format!("/etc/{name}"), name);
    }
    let first = disk.vault();
    assert_eq!(first.baseline().unwrap().changed_unguarded, Vec::new());
    let known = first.latest(&HostPath::from("/etc/changed")).unwrap();
    drop(first);
    disk.shell("printf evil > etc/changed; rm etc/removed; printf new > etc/added; chmod 4755 etc/same");
    let second = disk.vault();
    let coverage = second.baseline().unwrap();
    let expected: Vec<HostPath> =
        ["/etc", "/etc/added", "/etc/changed", "/etc/removed", "/etc/same"].map(HostPath::from).to_vec();
    let named: Vec<HostPath> =
        coverage.changed_unguarded.iter().filter(|path| path.as_bytes() != b"/etc").cloned().collect();
    assert_eq!(named, expected[1..]);
    let chain = second.chain(&HostPath::from("/etc/changed"));
    assert_eq!((chain[0], chain.len()), (known, 2));
    assert_eq!(second.version(chain[1]).unwrap().writer, ProcessKey::default());
    assert_eq!(content_of(&second, chain[0]), b"changed");
    assert_eq!(content_of(&second, chain[1]), b"evil");
    assert!(!state_of(&second, second.latest(&HostPath::from("/etc/removed")).unwrap()).exists());
}

#[test]
fn at_the_quota_capture_stops_loudly_and_what_was_kept_stays() {
    let disk = Disk::new(64);
    disk.write("/etc/kept", "kept");
    let vault = disk.vault_with(Options { quota_bytes: 200_000, ..options() });
    vault.baseline().unwrap();
    let time = boot_now();
    disk.shell("dd if=/dev/urandom of=etc/large bs=1000 count=400 status=none");
    let change = did(&vault, FileActivityId::Close, "/etc/large", disk.key("/etc/large"), time).unwrap();
    assert_eq!(vault.version(change.after).unwrap().recorded, Recorded::Missing("quota".into()));
    assert_eq!(vault.counters().quota_stops, 1);
    drop(vault);
    let vault = disk.vault_with(Options { quota_bytes: 200_000, ..options() });
    assert_eq!(content_of(&vault, vault.latest(&HostPath::from("/etc/kept")).unwrap()), b"kept");
    assert_eq!(vault.version(change.after).unwrap().recorded, Recorded::Missing("quota".into()));
}

#[test]
fn a_full_disk_stops_capture_and_corrupts_nothing() {
    let disk = Disk::new(32);
    let small = Disk::new(8);
    disk.write("/etc/kept", "kept");
    let vault = Vault::open(&small.at("/state"), &disk.scope(), options()).unwrap();
    vault.baseline().unwrap();
    let time = boot_now();
    disk.shell("dd if=/dev/urandom of=etc/large bs=1000000 count=12 status=none");
    let change = did(&vault, FileActivityId::Close, "/etc/large", disk.key("/etc/large"), time).unwrap();
    let Recorded::Missing(reason) = vault.version(change.after).unwrap().recorded else { panic!("it was stored") };
    assert!(reason.contains("No space left"), "{reason}");
    drop(vault);
    let vault = Vault::open(&small.at("/state"), &disk.scope(), options()).unwrap();
    assert_eq!(content_of(&vault, vault.latest(&HostPath::from("/etc/kept")).unwrap()), b"kept");
}

#[test]
fn a_slow_capture_lets_its_waiter_pass_and_the_path_gets_a_window() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "one");
    let (vault, scope) = (disk.vault(), disk.scope());
    let protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
    {
        // No capture can go on while retention decides what lives.
        let _busy = vault.0.inner.usage.write().unwrap();
        disk.shell("printf two > etc/f");
    }
    assert!(vault.counters().permission_deadlines >= 1);
    let windows = vault.coverage().windows;
    assert!(windows.iter().any(|window| window.path == HostPath::from("/etc/f")), "{windows:?}");
    // With the group gone nobody waits.
    drop(protection);
    let before = vault.counters().permission_events;
    disk.shell("printf three > etc/f");
    assert_eq!(vault.counters().permission_events, before);
}

#[test]
fn nobody_is_asked_twice_about_what_is_stored_until_it_changes() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "as installed");
    let (vault, scope) = (disk.vault(), disk.scope());
    let _protection = vault.protect(scope.acting().unwrap(), Box::new(|_| Intent::Read)).unwrap();
    vault.baseline().unwrap();
    let asked = || vault.counters().permission_events;
    let read = "for n in 1 2 3 4 5 6 7 8; do read line <etc/f || :; done";
    disk.shell(read);
    let first = asked();
    assert!(first >= 1);
    disk.shell(read);
    assert_eq!(asked(), first, "its content is stored");
    disk.shell("printf more >>etc/f");
    wait_until("the change is read", || vault.counters().captures >= 2);
    let key = disk.key("/etc/f");
    let changed = did(&vault, FileActivityId::Close, "/etc/f", key, boot_now()).unwrap();
    assert_eq!(content_of(&vault, changed.after), b"as installedmore");
}

#[test]
fn a_writer_is_asked_at_its_open_and_not_at_each_write() {
    let disk = Disk::new(32);
    let (vault, scope) = (disk.vault(), disk.scope());
    let _protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
    vault.baseline().unwrap();
    for path in ["etc/f", "tmp/f"] {
        let before = vault.counters().permission_events;
        disk.shell(&format!("exec >{path}; for n in 1 2 3 4 5 6 7 8 9; do echo $n; done"));
        let asked = vault.counters().permission_events - before;
        assert!((1..=3).contains(&asked), "{path}: {asked}");
    }
}

#[test]
fn what_comes_into_a_protected_tree_while_it_is_open_is_asked_about_there() {
    let disk = Disk::new(32);
    let (vault, scope) = (disk.vault(), disk.scope());
    let _protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
    vault.baseline().unwrap();
    disk.shell("printf first >tmp/f");
    let mut holder = Command::new("sh")
        .args(["-c", "exec 3<>tmp/f; echo; read line; printf EVIL >&3; echo; read line"])
        .current_dir(&disk.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0];
    let (mut input, mut output) = (holder.stdin.take().unwrap(), holder.stdout.take().unwrap());
    io::Read::read_exact(&mut output, &mut word).unwrap();
    let key = disk.key("/tmp/f");
    disk.shell("mv tmp/f etc/f");
    let mut rename = activity(FileActivityId::Rename, "/tmp/f", key, INTRUDER);
    rename.file_result = Some(HostPath::from("/etc/f"));
    vault.note(&mut rename, boot_now());
    let version = rename.change_result.unwrap().after;
    assert_eq!(content_of(&vault, version), b"first");
    let before = vault.counters().permission_events;
    io::Write::write_all(&mut input, b"\n").unwrap();
    io::Read::read_exact(&mut output, &mut word).unwrap();
    assert!(vault.counters().permission_events > before, "the write through the old descriptor");
    drop(input);
    holder.wait().unwrap();
}

#[test]
fn a_store_on_the_file_system_that_it_guards_never_waits_for_itself() {
    let disk = Disk::new(128);
    let (scope, state) = (disk.scope(), disk.at("/etc/thymus"));
    let vault = Vault::open(&state, &scope, options()).unwrap();
    let protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
    assert!(protection.is_active());
    disk.shell("for n in $(seq 40); do head -c $((n * 4000)) /dev/urandom > etc/f$n; done");
    vault.baseline().unwrap();
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let script = format!(
                "for n in $(seq {} 4 40); do cat etc/f$n > /dev/null; echo {worker} >> etc/f$n; \
                 truncate -s 100 etc/f$n; cp etc/f$n etc/g$n; mv etc/g$n etc/h$n; rm etc/f$n; done",
                worker + 1
            );
            Command::new("sh").args(["-ec", &script]).current_dir(&disk.root).spawn().unwrap()
        })
        .collect();
    for number in 1..=40 {
        let path = format!("/etc/f{number}");
        let key = vault.latest(&HostPath::from(path.as_str())).map(|id| state_of(&vault, id).key).unwrap();
        did(&vault, FileActivityId::Close, &path, key, boot_now());
        vault.keep(&mut path.as_bytes()).unwrap();
    }
    for mut worker in workers {
        assert!(worker.wait().unwrap().success());
    }
    vault.sync().unwrap();
    assert!(vault.chain(&HostPath::from("/etc/thymus/versions")).is_empty());
    for number in 1..=40 {
        let first = vault.chain(&HostPath::from(format!("/etc/f{number}").as_str()))[0];
        assert_eq!(content_of(&vault, first).len(), number * 4_000);
    }
}

#[test]
fn a_file_open_for_writing_before_protection_is_named() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "one");
    let (vault, scope) = (disk.vault(), disk.scope());
    let mut holder = Command::new("sh")
        .args(["-c", "exec 3>>etc/f; echo; read line"])
        .current_dir(&disk.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0];
    io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let _protection = vault.protect(scope.acting().unwrap(), unknown_intent()).unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    let windows = vault.coverage().windows;
    let reason = "was open for writing before protection began";
    assert!(
        windows.iter().any(|window| window.path == HostPath::from("/etc/f") && window.reason == reason),
        "{windows:?}"
    );
}

#[test]
fn an_altered_record_is_refused_and_the_vault_can_be_set_aside() {
    let disk = Disk::new(32);
    disk.write("/etc/f", "one");
    drop(disk.vault().baseline().unwrap());
    let path = disk.state().join("versions");
    assert_eq!(std::fs::metadata(disk.state()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&path, bytes).unwrap();
    let error = Vault::open(&disk.state(), &disk.scope(), options()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Altered { .. }) && text.contains("byte ") && text.contains("record "), "{text}");
    let aside = Vault::set_aside(&disk.state()).unwrap();
    assert!(aside.join("versions").exists());
    disk.vault().baseline().unwrap();
}

#[test]
fn retention_drops_the_old_and_keeps_the_pinned_the_newest_and_the_baseline() {
    let disk = Disk::new(32);
    for name in ["f", "pinned"] {
        disk.write(&format!("/etc/{name}"), "baseline");
    }
    let vault = disk.vault_with(Options { retention: Duration::ZERO, ..options() });
    vault.baseline().unwrap();
    vault.pin(&[HostPath::from("/etc/pinned")]);
    let mut middle = BTreeMap::new();
    for name in ["/etc/f", "/etc/pinned"] {
        for round in ["one", "two"] {
            let time = boot_now();
            disk.shell(&format!("printf {round} > .{name}"));
            let change = did(&vault, FileActivityId::Close, name, disk.key(name), time).unwrap();
            vault.version(change.after).unwrap();
            middle.entry(name).or_insert(change.after);
        }
    }
    vault.retain().unwrap();
    assert!(matches!(vault.version(middle["/etc/f"]), Err(Error::Unknown(_))));
    assert_eq!(content_of(&vault, middle["/etc/pinned"]), b"one");
    let next = vault.latest(&HostPath::from("/etc/f")).unwrap();
    drop(vault);
    let vault = disk.vault();
    assert_eq!(vault.chain(&HostPath::from("/etc/f")).len(), 2);
    assert_eq!(content_of(&vault, vault.latest(&HostPath::from("/etc/f")).unwrap()), b"two");
    let change = did(&vault, FileActivityId::Close, "/etc/f", disk.key("/etc/f"), boot_now()).unwrap();
    assert!(change.after > next, "an id is never given out twice");
}

#[test]
fn beyond_the_limit_the_oldest_superseded_versions_go_early_and_are_counted() {
    let disk = Disk::new(16);
    for name in ["busy", "pinned", "gone"] {
        disk.write(&format!("/etc/{name}"), "baseline");
    }
    let vault = disk.vault_with(Options { superseded_max: 40, ..options() });
    vault.baseline().unwrap();
    let path = |name: &str| HostPath::from(format!("/etc/{name}").as_str());
    vault.pin(&[path("pinned")]);
    std::fs::remove_file(disk.at("/etc/gone")).unwrap();
    let mut versions = BTreeMap::new();
    for name in ["gone", "pinned", "busy"] {
        for _ in 0..30 {
            let id = vault.renew(&path(name), ADMINISTRATOR, "close");
            versions.entry(name).or_insert_with(Vec::new).push(id);
        }
    }
    vault.retain().unwrap();
    let counters = vault.counters();
    assert_eq!((counters.dropped, counters.dropped_early), (54, 54));
    let known = |name: &str| versions[name].iter().filter(|id| vault.version(**id).is_ok()).count();
    assert_eq!((known("gone"), known("pinned"), known("busy")), (0, 30, 7));
    assert_eq!(content_of(&vault, vault.latest(&path("busy")).unwrap()), b"baseline");
    assert!(vault.version(*versions["busy"].last().unwrap()).is_ok(), "the newest stays");
    vault.retain().unwrap();
    assert_eq!(vault.counters().dropped_early, 54, "once");
}

/// Not a test of its own: the child that the next test kills. It does nothing unless it is told where.
#[test]
fn child_that_captures_until_it_is_killed() {
    let Some(directory) = std::env::var_os("THYMUS_VAULT_CHILD") else { return };
    let directory = Path::new(&directory);
    let scope = Scope::cgroup(Path::new("/sys/fs/cgroup"), &directory.join("root")).unwrap();
    let vault = Vault::open(&directory.join("state"), &scope, options()).unwrap();
    for round in 0u64.. {
        let name = format!("/etc/{}", round % 7);
        let path = directory.join("root").join(&name[1..]);
        let size = usize::try_from(round * 7_919 % 700_000).unwrap();
        let line = format!("{name} ");
        std::fs::write(&path, line.repeat(size / line.len() + 1)).unwrap();
        let key = FileKey { device: 0, inode: std::fs::metadata(&path).unwrap().ino(), generation: 0 };
        did(&vault, FileActivityId::Close, &name, key, boot_now());
    }
}

#[test]
fn killed_at_any_instant_what_is_there_is_right_or_said_to_be_missing() {
    let disk = Disk::new(64);
    let mut versions = 0;
    let mut last = VersionId(0);
    for round in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "vault::tests::child_that_captures_until_it_is_killed"])
            .env("THYMUS_VAULT_CHILD", disk.directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (log, before) =
            (disk.state().join("versions"), std::fs::metadata(disk.state().join("versions")).map_or(0, |m| m.len()));
        wait_until("the child has captured", || {
            std::fs::metadata(&log).is_ok_and(|found| found.len() > before + 9_000)
        });
        std::thread::sleep(Duration::from_millis(round * 13));
        child.kill().unwrap();
        child.wait().unwrap();
        let vault = disk.vault();
        for number in 0..7 {
            let path = HostPath::from(format!("/etc/{number}").as_str());
            for id in vault.chain(&path) {
                let version = vault.version(id).unwrap();
                if let Recorded::State(state) = &version.recorded {
                    let content = vault.content(&state.digest.unwrap()).unwrap();
                    assert_eq!(u64::try_from(content.len()).unwrap(), state.size);
                    let line = format!("{path} ").into_bytes();
                    assert!(content.chunks(line.len()).all(|part| line.starts_with(part)), "{version:?}");
                    versions += 1;
                }
            }
        }
        let change = did(&vault, FileActivityId::SetAttributes, "/etc/0", disk.key("/etc/0"), boot_now()).unwrap();
        assert!(change.after > last, "an id is never given out twice");
        last = change.after;
    }
    assert!(versions > 100, "{versions}");
}

#[test]
fn what_was_superseded_is_read_from_disk_as_it_was_before_and_after_retention_and_a_restart() {
    let disk = Disk::new(16);
    disk.write("/etc/f", "0");
    let vault = disk.vault_with(Options { retention: Duration::ZERO, ..options() });
    vault.baseline().unwrap();
    let path = HostPath::from("/etc/f");
    for round in 1..40u32 {
        disk.write("/etc/f", round.to_string());
        std::fs::set_permissions(disk.at("/etc/f"), PermissionsExt::from_mode(0o600 + round % 8)).unwrap();
        let _ = vault.renew(&path, ProcessKey::default(), "close");
    }
    vault.pin(std::slice::from_ref(&path));
    let states = |vault: &Vault| -> Vec<(Vec<u8>, u16, bool)> {
        let versions = vault.chain(&path).into_iter().map(|id| (id, vault.version(id).unwrap()));
        versions.map(|(id, version)| (content_of(vault, id), state_of(vault, id).mode, version.exact)).collect()
    };
    vault.sync().unwrap();
    let before = states(&vault);
    assert_eq!(before.len(), 40);
    assert_eq!(before[17], (b"17".to_vec(), 0o601, true));
    let in_memory = |vault: &Vault| {
        let index = vault.0.inner.index();
        index.chain(&path).iter().filter(|id| index.slot(**id).is_some()).count()
    };
    assert_eq!(in_memory(&vault), 1);
    disk.write("/etc/other", "x");
    for _ in 0..3 {
        let _ = vault.renew(&HostPath::from("/etc/other"), ProcessKey::default(), "close");
    }
    vault.retain().unwrap();
    assert!(vault.counters().dropped > 0);
    assert_eq!(states(&vault), before, "after the log was written anew");
    drop(vault);
    let vault = disk.vault();
    assert_eq!(states(&vault), before, "after a restart");
    assert_eq!(in_memory(&vault), 1);
}

#[test]
fn what_is_recorded_while_the_log_is_written_anew_is_in_it_after_a_restart() {
    let disk = Disk::new(16);
    disk.write("/etc/f", "0");
    let vault = disk.vault();
    vault.baseline().unwrap();
    let path = |name: &str| HostPath::from(format!("/etc/{name}").as_str());
    let save = |name: &str, content: &str| {
        disk.write(&format!("/etc/{name}"), content);
        vault.renew(&path(name), ADMINISTRATOR, "close")
    };
    let first = save("f", "1");
    vault.pin(&[path("f")]);
    let begun = vault.0.inner.begin_rewrite().unwrap();
    // Meanwhile: a known path and a new one are changed, a version is doubted, pins come and go, content is kept.
    let (second, new) = (save("f", "2"), save("new", "3"));
    vault.0.inner.index().set_inexact(first);
    vault.0.inner.record(&[Record::Inexact(first)]);
    vault.unpin(&[path("f")]);
    vault.pin(&[path("new")]);
    let kept = vault.keep(&mut b"kept".as_slice()).unwrap();
    let while_written: Vec<Version> = [first, second, new].map(|id| vault.version(id).unwrap()).into();
    vault.0.inner.end_rewrite(begun).unwrap();
    let versions = |vault: &Vault| -> Vec<Version> { [first, second, new].map(|id| vault.version(id).unwrap()).into() };
    assert_eq!(versions(&vault), while_written);
    let (third, chains) = (save("f", "4"), [vault.chain(&path("f")), vault.chain(&path("new"))]);
    drop(vault);
    let vault = disk.vault();
    assert_eq!(versions(&vault), while_written);
    assert!(!while_written[0].exact && while_written[1].exact);
    assert_eq!([vault.chain(&path("f")), vault.chain(&path("new"))], chains);
    assert_eq!(
        [first, second, new, third].map(|id| content_of(&vault, id)),
        [b"1", b"2", b"3", b"4"].map(|one| one.to_vec())
    );
    let index = vault.0.inner.index();
    assert_eq!(index.pins.iter().collect::<Vec<_>>(), [&path("new")]);
    assert!(index.kept.contains_key(&kept));
}

#[test]
fn while_the_log_is_written_anew_and_packs_are_cleared_nobody_waits_for_a_version() {
    let disk = Disk::new(16);
    disk.write("/etc/f", "0");
    let vault = disk.vault_with(Options { retention: Duration::ZERO, ..options() });
    vault.baseline().unwrap();
    let path = HostPath::from("/etc/f");
    for _ in 0..200 {
        let _ = vault.renew(&path, ADMINISTRATOR, "close");
    }
    std::thread::scope(|threads| {
        let retaining = threads.spawn(|| (0..20).for_each(|_| vault.retain().unwrap()));
        let mut last = 0u32;
        while !retaining.is_finished() || last < 200 {
            last += 1;
            disk.write("/etc/f", last.to_string());
            let id = vault.renew(&path, ADMINISTRATOR, "close");
            assert_eq!(content_of(&vault, id), last.to_string().into_bytes());
        }
    });
    let newest = vault.latest(&path).map(|id| content_of(&vault, id));
    drop(vault);
    let vault = disk.vault();
    assert_eq!(vault.latest(&path).map(|id| content_of(&vault, id)), newest);
}

#[test]
fn retention_waits_until_it_is_worth_writing_the_rest_anew_or_room_is_scarce() {
    let disk = Disk::new(16);
    for number in 0..64 {
        disk.write(&format!("/etc/{number}"), number.to_string());
    }
    let vault = disk.vault_with(Options { retention: Duration::ZERO, ..options() });
    vault.baseline().unwrap();
    let inner = &vault.0.inner;
    let save = || vault.renew(&HostPath::from("/etc/0"), ADMINISTRATOR, "close");
    assert!(!inner.is_worth_retaining(), "nothing can be dropped");
    let _ = (save(), save());
    assert_eq!(inner.index().droppable(i64::MAX).len(), 1, "the baseline and the newest stay");
    assert!(!inner.is_worth_retaining(), "one of more than sixty");
    for _ in 0..16 {
        let _ = save();
    }
    assert!(inner.is_worth_retaining());
    let scarce = disk.directory.path().join("scarce");
    let small = Options { retention: Duration::ZERO, quota_bytes: 4_096, ..options() };
    let vault = Vault::open(&scarce, &disk.scope(), small).unwrap();
    vault.baseline().unwrap();
    assert!(vault.0.inner.is_worth_retaining(), "half of the quota is used");
}
