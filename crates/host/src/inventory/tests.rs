// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

struct Host {
    root: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { root: tempfile::Builder::new().prefix("thymus-inventory-").tempdir().unwrap() }
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// The cgroup is this one: nothing here asks for it.
    fn scope(&self) -> Scope {
        Scope::cgroup(Path::new("/proc/self"), self.root.path()).unwrap()
    }

    fn with<T>(&self, work: impl FnOnce(&Below<'_>) -> T) -> T {
        let scope = self.scope();
        let below = Below::new(&scope, Instant::now() + LOOK_LIMIT);
        work(&below)
    }
}

fn field<'a>(items: &'a Items, name: &str, field: &str) -> Option<&'a str> {
    items.get(name)?.get(field).map(String::as_str)
}

#[test]
fn no_link_leads_out_of_the_guarded_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let host = Host::new();
    let out = outside.path().to_str().unwrap();
    host.link("/etc/up", "../../../../../../../../etc/hostname");
    host.link("/etc/direct", &format!("{out}/secret")).link("/etc/dir", out);
    host.link("/etc/fine", "/etc/real").file("/etc/real", "real");
    host.with(|below| {
        for path in [&b"/etc/up"[..], b"/etc/direct", b"/etc/dir/secret"] {
            assert!(below.read(path, 100).unwrap().is_none(), "{}", path.escape_ascii());
        }
        assert!(below.list(b"/etc/dir").unwrap().is_empty());
        assert_eq!(below.read(b"/etc/fine", 100).unwrap().unwrap(), b"real");
        assert_eq!(below.link(b"/etc/fine").unwrap().unwrap(), b"/etc/real");
    });
}

#[test]
fn what_is_no_file_or_too_large_is_an_error_and_never_waits() {
    let host = Host::new();
    host.file("/etc/large", [b'x'; 101]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        host.path("/etc/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    host.with(|below| {
        assert!(matches!(below.read(b"/etc/pipe", 100), Err(Error::Kind { .. })));
        assert!(matches!(below.read(b"/etc/large", 100), Err(Error::Large { .. })));
        assert!(below.read(b"/etc/none", 100).unwrap().is_none());
    });
    let scope = host.scope();
    assert!(matches!(Below::new(&scope, Instant::now()).read(b"/etc/large", 1_000), Err(Error::Deadline)));
}

#[test]
fn accounts_show_their_rights_and_never_a_hash() {
    let host = Host::new();
    let hash = "$y$j9T$abcdefghijklmnop$0123456789012345678901234567890123456789012";
    host.file("/etc/passwd", "root:x:0:0::/root:/bin/bash\nalice:x:1001:1001::/home/alice:/bin/sh\nalice:x:0:0::/:/bin/no\nsync:x:4:65534::/bin:/bin/sync\nold::7:7::/:/bin/sh\nbroken\n");
    host.file("/etc/shadow", format!("root:*:1::::::\nalice:{hash}:1::::::\nsync:!{hash}:1:::::\n"));
    host.file("/etc/group", "root:x:0:\nsudo:x:27:alice,ldap\nadm:x:4:alice\nusers:x:100:alice\n");
    host.file("/home/alice/.ssh/authorized_keys", "# mine\nssh-ed25519 AAAA a\n\nssh-rsa BBBB b\n");
    let found = host.with(|below| accounts::read(below).unwrap());
    assert_eq!(field(&found, "alice", "uid"), Some("1001"), "the first line counts");
    assert_eq!(field(&found, "alice", "groups"), Some("adm,sudo"));
    assert_eq!(field(&found, "alice", "keys"), Some("2"));
    assert_eq!(field(&found, "root", "groups"), Some("root"));
    assert_eq!(field(&found, "ldap", "groups"), Some("sudo"), "a member that passwd does not know");
    let passwords = ["root", "alice", "sync", "old"].map(|name| field(&found, name, "password").unwrap());
    assert_eq!(passwords, ["locked", "set", "locked", "empty"]);
    assert!(!format!("{found:?}").contains("abcdefgh"));
    let before = field(&found, "alice", "password_digest").unwrap().to_owned();
    host.file("/etc/shadow", format!("alice:{hash}x:1::::::\n"));
    let after = host.with(|below| accounts::read(below).unwrap());
    assert_ne!(field(&after, "alice", "password_digest").unwrap(), before, "a change shows");
}

#[test]
fn packages_are_those_that_are_installed() {
    let status = b"Package: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.22\nDescription: x\n Version: 9\n\n\
        Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36\n\n\
        Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
        Package: half\nStatus: install ok half-configured\nArchitecture: all\nVersion: 3";
    let found = packages::parse(status);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["half", "libc6", "libc6:i386", "nginx"]);
    assert_eq!(field(&found, "nginx", "version"), Some("1.22"));
    assert_eq!(field(&found, "half", "stage"), Some("half-configured"));
    assert!(matches!(Host::new().with(packages::read), Err(Error::Missing(_))), "no list is no empty list");
}

#[test]
fn units_are_enabled_by_links_and_changed_by_drop_ins() {
    let host = Host::new();
    let own = "/etc/systemd/system";
    host.file(&format!("{own}/shop.service"), "[Service]\nExecStart=/bin/true\n");
    host.link(&format!("{own}/multi-user.target.wants/shop.service"), &format!("{own}/shop.service"));
    host.link(&format!("{own}/multi-user.target.wants/cron.service"), "/usr/lib/systemd/system/cron.service");
    host.file("/usr/lib/systemd/system/cron.service", "[Service]\n");
    host.file("/usr/lib/systemd/system/quiet.service", "[Service]\n");
    host.link(&format!("{own}/rescue.service"), "/dev/null");
    host.link(&format!("{own}/sshd.service"), "/usr/lib/systemd/system/ssh.service");
    host.file(&format!("{own}/cron.service.d/a.conf"), "[Service]\n");
    host.file(&format!("{own}/notes.txt"), "");
    let mut behind = BTreeMap::new();
    let found = host.with(|below| services::on_disk(below, &mut behind).unwrap());
    let names: Vec<&String> = found.keys().collect();
    assert_eq!(names, ["cron.service", "rescue.service", "shop.service", "sshd.service"]);
    assert_eq!(field(&found, "shop.service", "enabled"), Some("yes"));
    assert_eq!(field(&found, "shop.service", "wanted_by"), Some("multi-user.target.wants"));
    assert_eq!(field(&found, "cron.service", "file"), Some("/usr/lib/systemd/system/cron.service"));
    assert!(field(&found, "cron.service", "drop_ins").is_some());
    assert_eq!(field(&found, "rescue.service", "masked"), Some("yes"));
    assert_eq!(field(&found, "sshd.service", "alias_of"), Some("/usr/lib/systemd/system/ssh.service"));
    let drop_in = HostPath::from("/etc/systemd/system/cron.service.d/a.conf");
    assert_eq!(behind[&Item::new(Section::Services, "cron.service")], [drop_in]);
    let listed = "cron.service loaded active running x\nshop.service loaded failed failed x\n● a b\nx.mount loaded active mounted\n";
    assert_eq!(services::active(listed).into_iter().collect::<Vec<_>>(), ["cron.service"]);
}

#[test]
fn sockets_that_wait_are_read_and_clients_are_not() {
    let table = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 20157 1\n\
        1: 0100007F:0050 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 20158 1\n\
        2: 0100007F:00";
    let found: Vec<_> = listeners::parse(table, "tcp", 4).into_iter().collect();
    assert_eq!(found, [(20_157, "tcp 127.0.0.1:80".to_owned())]);
    let zero = "00000000000000000000000000000000";
    let line = format!("0: {zero}:0016 {zero}:0000 0A 0:0 0:0 0 0 0 77 1");
    assert_eq!(listeners::parse(line.as_bytes(), "tcp", 6)[&77], "tcp [::]:22");
    let udp =
        b"0: 00000000:0035 00000000:0000 07 0:0 0:0 0 0 0 1 2\n1: 00000000:D000 00000000:0000 07 0:0 0:0 0 0 0 2 2\n";
    assert_eq!(listeners::parse(udp, "udp", 4).into_values().collect::<Vec<_>>(), ["udp 0.0.0.0:53"]);
}

#[test]
fn of_sshd_the_first_value_counts_and_what_is_included_stands_where_it_is() {
    let host = Host::new();
    host.file("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\npermitrootlogin yes\nPort 22\nPort=2222 # two\nBanner none\nMatch User a\n  X11Forwarding yes\n");
    host.file("/etc/ssh/sshd_config.d/a.conf", "PermitRootLogin no\n");
    host.file("/etc/ssh/sshd_config.d/b.txt", "PermitRootLogin without-password\n");
    host.file("/etc/sudoers.d/ops", "ops ALL=(ALL) NOPASSWD:ALL\n").file("/etc/cron.d/.placeholder", "");
    host.file("/etc/login.defs", "#UMASK 077\nUMASK 022\nERASECHAR 0177\n");
    let mut behind = BTreeMap::new();
    let scope = Scope::this_host(false).unwrap();
    let found = host.with(|below| settings::read(below, &scope, &mut behind).unwrap());
    assert_eq!(field(&found, "sshd PermitRootLogin", "value"), Some("no"));
    assert_eq!(field(&found, "sshd Port", "value"), Some("22 2222"));
    assert!(field(&found, "sshd Match", "value").is_some() && field(&found, "sshd X11Forwarding", "value").is_none());
    assert!(field(&found, "sudoers /etc/sudoers.d/ops", "value").is_some());
    assert_eq!(field(&found, "login.defs UMASK", "value"), Some("022"));
    assert!(!found.contains_key("cron /etc/cron.d/.placeholder"));
    assert!(field(&found, "sysctl kernel.randomize_va_space", "value").is_some());
    assert_eq!(behind[&Item::new(Section::Settings, "sshd PermitRootLogin")].len(), 2);
}

#[test]
fn what_a_host_calls_its_things_stays_on_one_line() {
    let found = accounts::parse(b"a\x1b[2J\xff:x:1:1::/:/bin/sh\nx:x:2:2::/\r:/b\n", b"", b"");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a\\x1b[2J\\xff", "x"]);
    assert_eq!(field(&found, "x", "home"), Some("/\\x0d"));
    let long = [b"a:x:1:1::/".as_slice(), &[b'y'; 5_000], b":/bin/sh"].concat();
    assert_eq!(field(&accounts::parse(&long, b"", b""), "a", "home").unwrap().len(), 32, "a digest");
}

#[test]
fn a_section_that_cannot_be_read_is_named_with_the_reason() {
    let host = Host::new();
    host.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    let found = look(&host.scope());
    assert_eq!(found.golden.0.keys().collect::<Vec<_>>(), [&Section::Accounts]);
    assert_eq!(found.users[&0], "root");
    for section in [Section::Packages, Section::Services, Section::Listeners, Section::Settings] {
        assert!(!found.unread[&section].is_empty());
    }
}
