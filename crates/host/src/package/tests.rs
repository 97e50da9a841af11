// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::archive::{archived, tarred};
use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tar::EntryType::{Directory, Link, Regular, Symlink};

const CACHE: &str = "/var/cache/apt/archives";
const PROGRAM: &[u8] = b"#!/bin/sh\nexec true\n";
const LIBRARY: &[u8] = b"\x7fELF library";

struct Host {
    root: tempfile::TempDir,
}

impl Host {
    /// A merged host with a package `app` and the library that it needs; both have their archives.
    fn new() -> Self {
        let host = Self { root: tempfile::Builder::new().prefix("thymus-package-").tempdir().unwrap() };
        fs::create_dir_all(host.path("/usr/lib")).unwrap();
        symlink("usr/lib", host.path("/lib")).unwrap();
        let status = "Package: app\nStatus: install ok installed\nVersion: 1:2.0-1\nArchitecture: amd64\n\
            Depends: libapp1 (>= 2), other | more\nConffiles:\n /etc/app/app.conf CONF\n\n\
            Package: libapp1\nStatus: install ok installed\nVersion: 2.0-1\nArchitecture: amd64\nMulti-Arch: same\n\n";
        host.file("/var/lib/dpkg/status", status.replace("CONF", &digest_of(b"shipped")));
        host.file(
            "/var/lib/dpkg/info/app.list",
            "/.\n/usr\n/usr/bin\n/usr/bin/app\n/usr/bin/app2\n/usr/bin/applink\n/lib/app/app.service\n/etc/app/app.conf\n\
             /usr/share/doc/app/README\n",
        );
        let (program, unit) = (digest_of(PROGRAM), digest_of(b"[Service]\n"));
        let digests = format!(
            "{program}  usr/bin/app\n{program}  usr/bin/app2\n{unit}  lib/app/app.service\n{unit}  usr/share/doc/app/README\n"
        );
        host.file("/var/lib/dpkg/info/app.md5sums", digests);
        host.file("/var/lib/dpkg/info/libapp1:amd64.list", "/usr/lib/libapp.so.1\n");
        let library = format!("{}  usr/lib/libapp.so.1\n", digest_of(LIBRARY));
        host.file("/var/lib/dpkg/info/libapp1:amd64.md5sums", library);
        host.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n").file("/etc/group", "root:x:0:\nweb:x:33:\n");
        host.file("/usr/bin/app", PROGRAM)
            .file("/usr/bin/app2", PROGRAM)
            .file("/usr/lib/app/app.service", "[Service]\n");
        host.file("/etc/app/app.conf", "own").file("/usr/lib/libapp.so.1", LIBRARY);
        symlink("app", host.path("/usr/bin/applink")).unwrap();
        host.archive("app_1%3a2.0-1_amd64.deb", "app", "1:2.0-1", PROGRAM);
        let data = tarred(&[("./usr/lib/libapp.so.1", Regular, LIBRARY, "")]);
        let control = b"Package: libapp1\nVersion: 2.0-1\nArchitecture: amd64\n";
        host.file(&format!("{CACHE}/libapp1_2.0-1_amd64.deb"), archived(control, "data.tar", &data));
        host
    }

    fn archive(&self, name: &str, package: &str, version: &str, program: &[u8]) {
        let data = tarred(&[
            ("./usr/bin/", Directory, b"", ""),
            ("./usr/bin/app", Regular, program, ""),
            ("./usr/bin/app2", Link, b"", "./usr/bin/app"),
            ("./usr/bin/applink", Symlink, b"", "app"),
            ("./lib/app/app.service", Regular, b"[Service]\n", ""),
            ("./etc/app/app.conf", Regular, b"shipped", ""),
        ]);
        let control = format!("Package: {package}\nVersion: {version}\nArchitecture: amd64\n");
        self.file(&format!("{CACHE}/{name}"), archived(control.as_bytes(), "data.tar", &data));
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn scope(&self) -> Scope {
        Scope::cgroup(Path::new("/proc/self"), self.root.path()).unwrap()
    }

    fn differing(&self, needed: bool) -> Vec<Packaged> {
        let scope = self.scope();
        let dpkg = Dpkg::new(&scope, vec![CACHE.into()]);
        let paths = ["/usr/bin/app", "/lib/app/app.service", "/etc/app"].map(HostPath::from);
        dpkg.differing(&paths, needed, &mut Remembered::default())
    }

    fn originals(&self, files: &[Packaged]) -> Result<Vec<Original>, String> {
        let scope = self.scope();
        Dpkg::new(&scope, vec![CACHE.into()]).originals(files)
    }
}

fn paths(files: &[Packaged]) -> Vec<String> {
    files.iter().map(|file| file.path.to_string()).collect()
}

#[test]
fn what_is_gone_or_damaged_is_found_with_what_it_should_be() {
    let host = Host::new();
    assert_eq!(paths(&host.differing(true)), ["/etc/app/app.conf"], "somebody's own settings");
    fs::remove_file(host.path("/usr/bin/app")).unwrap();
    fs::remove_file(host.path("/usr/bin/app2")).unwrap();
    fs::remove_file(host.path("/usr/bin/applink")).unwrap();
    fs::remove_file(host.path("/usr/lib/app/app.service")).unwrap();
    host.file("/usr/lib/libapp.so.1", "cut");
    let shallow =
        ["/etc/app/app.conf", "/usr/bin/app", "/usr/bin/app2", "/usr/bin/applink", "/usr/lib/app/app.service"];
    assert_eq!(paths(&host.differing(false)), shallow);
    let found = host.differing(true);
    assert_eq!(found.len(), 6);
    assert_eq!(found[5].path, "/usr/lib/libapp.so.1".into());
    assert_eq!((found[5].found.as_deref(), found[1].found.as_deref()), (Some(digest_of(b"cut").as_str()), None));
    assert_eq!(
        (found[4].path.to_string(), found[4].shipped.to_string()),
        ("/usr/lib/app/app.service".into(), "/lib/app/app.service".into())
    );
    let settings: Vec<bool> = found.iter().map(|file| file.configuration).collect();
    assert_eq!(settings, [true, false, false, false, false, false]);
    let originals = host.originals(&found).unwrap();
    let contents: Vec<Option<&[u8]>> = originals.iter().map(|one| one.content.as_deref()).collect();
    let wanted: [Option<&[u8]>; 6] =
        [Some(b"shipped"), Some(PROGRAM), Some(PROGRAM), None, Some(b"[Service]\n"), Some(LIBRARY)];
    assert_eq!(contents, wanted);
    assert_eq!((originals[3].target.clone(), originals[1].mode), (Some("app".into()), 0o755));
}

#[test]
fn another_name_of_a_file_is_restored_though_the_first_one_is_not_asked_for() {
    let host = Host::new();
    fs::remove_file(host.path("/usr/bin/app2")).unwrap();
    let found: Vec<Packaged> = host.differing(false).into_iter().filter(|file| !file.configuration).collect();
    assert_eq!(paths(&found), ["/usr/bin/app2"]);
    assert_eq!(host.originals(&found).unwrap()[0].content.as_deref(), Some(PROGRAM));
}

#[test]
fn a_content_with_another_digest_or_an_archive_of_something_else_is_refused() {
    let host = Host::new();
    fs::remove_file(host.path("/usr/bin/app")).unwrap();
    let found: Vec<Packaged> = host.differing(false).into_iter().filter(|file| !file.configuration).collect();
    let refused = |what: &str| {
        let why = host.originals(&found).unwrap_err();
        assert!(why.contains(what), "{why}");
    };
    host.archive("app_1%3a2.0-1_amd64.deb", "app", "1:2.0-1", b"#!/bin/sh\nexec evil\n");
    refused("another MD5 than the record");
    host.archive("app_1%3a2.0-1_amd64.deb", "app", "1:2.0-2", PROGRAM);
    refused("says that it is app 1:2.0-2");
    host.file(&format!("{CACHE}/app_1%3a2.0-1_amd64.deb"), "no archive");
    refused("no archive of a Debian package");
    host.archive("app_1%3a2.0-1_amd64.deb", "app", "1:2.0-1", PROGRAM);
    assert!(host.originals(&found).is_ok());
    // The package was upgraded in between.
    let status = fs::read_to_string(host.path("/var/lib/dpkg/status")).unwrap();
    host.file("/var/lib/dpkg/status", status.replace("1:2.0-1", "1:2.1-1"));
    refused("is not installed any more");
}

#[test]
fn an_archive_that_others_may_write_is_not_used() {
    let host = Host::new();
    fs::remove_file(host.path("/usr/bin/app")).unwrap();
    let archive = host.path(&format!("{CACHE}/app_1%3a2.0-1_amd64.deb"));
    for (path, mode) in [(archive.clone(), 0o666), (host.path(CACHE), 0o777)] {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(paths(&host.differing(false)), Vec::<String>::new(), "{}", path.display());
        fs::set_permissions(&path, before).unwrap();
        assert!(!host.differing(false).is_empty());
    }
    // A link to an archive elsewhere is nobody's promise.
    fs::rename(&archive, host.path("/var/cache/x.deb")).unwrap();
    symlink("../../x.deb", &archive).unwrap();
    assert_eq!(paths(&host.differing(false)), Vec::<String>::new());
}

#[test]
fn an_archive_of_a_mirror_is_found_in_its_pool_without_the_epoch() {
    let host = Host::new();
    fs::remove_file(host.path("/usr/bin/app")).unwrap();
    let pool = host.path("/srv/mirror/pool/main/a/app");
    fs::create_dir_all(&pool).unwrap();
    fs::rename(host.path(&format!("{CACHE}/app_1%3a2.0-1_amd64.deb")), pool.join("app_2.0-1_amd64.deb")).unwrap();
    let scope = host.scope();
    let dpkg = Dpkg::new(&scope, vec![CACHE.into(), "/srv/mirror".into()]);
    let found = dpkg.differing(&["/usr/bin/app".into()], false, &mut Remembered::default());
    assert_eq!(paths(&found), ["/usr/bin/app"]);
    assert!(dpkg.originals(&found).is_ok());
    assert_eq!(paths(&host.differing(false)), Vec::<String>::new(), "nobody declared the mirror");
}

#[test]
fn what_an_administrator_diverted_or_gave_another_owner_stays_so() {
    let host = Host::new();
    fs::remove_file(host.path("/usr/bin/app")).unwrap();
    fs::remove_file(host.path("/usr/bin/app2")).unwrap();
    host.file("/var/lib/dpkg/diversions", "/usr/bin/app2\n/usr/bin/app2.real\n:\n");
    host.file("/var/lib/dpkg/statoverride", "root web 2750 /usr/bin/app\n");
    let found: Vec<Packaged> = host.differing(false).into_iter().filter(|file| !file.configuration).collect();
    assert_eq!(paths(&found), ["/usr/bin/app"]);
    let original = host.originals(&found).unwrap().remove(0);
    let base = std::os::unix::fs::MetadataExt::uid(&fs::metadata(host.root.path()).unwrap());
    assert_eq!((original.mode, original.uid, original.gid), (0o2750, base, base + 33));
}

#[test]
fn a_link_or_a_directory_of_somebodys_in_its_place_is_left_alone() {
    let host = Host::new();
    fs::remove_file(host.path("/usr/bin/app")).unwrap();
    symlink("/usr/local/bin/own", host.path("/usr/bin/app")).unwrap();
    assert_eq!(paths(&host.differing(true)), ["/etc/app/app.conf"]);
}

const RECORD: &str = "/var/lib/dpkg/info/app.md5sums";

#[test]
fn a_package_says_of_its_files_under_every_name_what_they_should_be() {
    let host = Host::new();
    let scope = host.scope();
    let mut dpkg = Dpkg::new(&scope, Vec::new());
    let mut said = |path: &str| dpkg.claim(&path.into()).unwrap();
    let claim = |content: &[u8]| {
        let (package, record) = ("app 1:2.0-1".to_owned(), RECORD.into());
        Some(Claim { package, record, digest: digest_of(content) })
    };
    assert_eq!(said("/usr/bin/app"), claim(PROGRAM));
    assert_eq!(said("/usr/lib/app/app.service"), claim(b"[Service]\n"), "the record has it below /lib");
    let library = said("/usr/lib/libapp.so.1").unwrap();
    assert_eq!((library.package.as_str(), library.digest), ("libapp1 2.0-1", digest_of(LIBRARY)));
    assert_eq!(library.record, "/var/lib/dpkg/info/libapp1:amd64.md5sums".into());
    for path in ["/usr/bin/applink", "/usr/bin", "/home/alice/app", "/usr/bin/ap", "/", ""] {
        assert_eq!(said(path), None, "{path}");
    }
}

#[test]
fn settings_and_what_was_diverted_are_nobodys_claim() {
    let host = Host::new();
    // As tools other than Debian's own write it.
    let mut record = fs::read_to_string(host.path(RECORD)).unwrap();
    record += &format!("{}  etc/app/app.conf\n", digest_of(b"shipped"));
    host.file(RECORD, record).file("/etc/app/app.conf", "shipped");
    host.file("/var/lib/dpkg/diversions", "/usr/bin/app2\n/usr/bin/app2.real\n:\n");
    let scope = host.scope();
    let mut dpkg = Dpkg::new(&scope, Vec::new());
    assert_eq!(dpkg.claim(&"/etc/app/app.conf".into()).unwrap(), None, "an administrator's word");
    assert_eq!(dpkg.claim(&"/usr/bin/app2".into()).unwrap(), None);
    assert!(dpkg.claim(&"/usr/bin/app".into()).unwrap().is_some());
}

#[test]
fn a_record_counts_as_it_is_when_it_is_asked_and_one_that_cannot_be_read_is_an_error() {
    let host = Host::new();
    let scope = host.scope();
    let mut dpkg = Dpkg::new(&scope, Vec::new());
    let digest = |dpkg: &mut Dpkg<'_>| dpkg.claim(&"/usr/bin/app".into()).map(|claim| claim.map(|claim| claim.digest));
    assert_eq!(digest(&mut dpkg), Ok(Some(digest_of(PROGRAM))));
    // Upgraded since the paths were read.
    host.file(RECORD, format!("{}  usr/bin/app\n# and more\n", digest_of(b"upgraded")));
    assert_eq!(digest(&mut dpkg), Ok(Some(digest_of(b"upgraded"))));
    host.file(RECORD, "no record\n");
    assert_eq!(digest(&mut dpkg), Ok(None));
    fs::remove_file(host.path(RECORD)).unwrap();
    assert_eq!(digest(&mut dpkg), Ok(None));
    fs::create_dir(host.path(RECORD)).unwrap();
    assert!(digest(&mut dpkg).is_err());
    fs::remove_dir_all(host.path("/var/lib/dpkg")).unwrap();
    assert_eq!(Dpkg::new(&scope, Vec::new()).claim(&"/usr/bin/app".into()), Ok(None), "no dpkg here");
}
