// SPDX-License-Identifier: Apache-2.0
//! Archives of packages in a twin's cache of apt: such as lie there on a host that was upgraded lately.

use crate::twin::Twin;
use crate::{Doing, Error, Result, output};
use std::path::Path;
use std::process::Command;

/// A package of the shop's own, for files that no package ships.
const OWN: (&str, &str) = ("shop-orders", "1.4-2");

/// Before the boot: the archive of the installed package that ships `path`, as that package's files are on the twin's disk.
/// Where no package ships it, one is recorded as installed first.
pub(crate) fn plant(twin: &Twin, path: &str) -> Result<()> {
    let records = twin.root().join("var/lib/dpkg");
    let query = |words: &[&str]| {
        let mut command = Command::new("dpkg-query");
        output(command.arg(format!("--admindir={}", records.display())).args(words))
    };
    let owner = query(&["-S", path]).ok().and_then(|said| Some(said.lines().next()?.split_once(": ")?.0.to_owned()));
    let package = match owner {
        Some(owner) => owner,
        None => record(twin, &records, path)?,
    };
    let said = query(&["-W", "-f", "${Package} ${Version} ${Architecture}", &package])?;
    let [name, version, architecture] = said.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(Error::Failed { program: "dpkg-query".into(), status: "no such package".into(), output: said });
    };
    let tree = twin.directory().join("package");
    let _ = std::fs::remove_dir_all(&tree);
    std::fs::create_dir_all(tree.join("DEBIAN")).doing("make the directory", &tree)?;
    for line in query(&["-L", &package])?.lines() {
        let from = twin.root().join(line.trim_start_matches('/'));
        if from.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            let to = tree.join(line.trim_start_matches('/'));
            let parent = to.parent().unwrap_or(&tree);
            std::fs::create_dir_all(parent).doing("make the directory", parent)?;
            output(Command::new("cp").arg("-a").arg(&from).arg(&to))?;
        }
    }
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Shop <root@shop.example>\n\
         Description: as it was shipped\n"
    );
    let described = tree.join("DEBIAN/control");
    std::fs::write(&described, control).doing("write", &described)?;
    let cache = twin.root().join("var/cache/apt/archives");
    std::fs::create_dir_all(&cache).doing("make the directory", &cache)?;
    let archive = cache.join(format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a")));
    output(Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "-z1", "-b"]).arg(&tree).arg(&archive))?;
    std::fs::remove_dir_all(&tree).doing("remove the directory", &tree)
}

/// What dpkg would have written.
fn record(twin: &Twin, records: &Path, path: &str) -> Result<String> {
    let (name, version) = OWN;
    let file = twin.root().join(path.trim_start_matches('/'));
    let digest = output(Command::new("md5sum").arg(&file))?;
    let digest = digest.split_whitespace().next().unwrap_or_default();
    let parents: Vec<&str> =
        path.match_indices('/').map(|(at, _)| &path[..at]).filter(|path| !path.is_empty()).collect();
    let list = format!("/.\n{}\n{path}\n", parents.join("\n"));
    twin.plant(&format!("/var/lib/dpkg/info/{name}.list"), list.as_bytes(), 0o644, 0)?;
    let digests = format!("{digest}  {}\n", path.trim_start_matches('/'));
    twin.plant(&format!("/var/lib/dpkg/info/{name}.md5sums"), digests.as_bytes(), 0o644, 0)?;
    let status = records.join("status");
    let mut text = std::fs::read_to_string(&status).doing("read", &status)?;
    text.push_str(&format!(
        "\nPackage: {name}\nStatus: install ok installed\nMaintainer: Shop <root@shop.example>\nArchitecture: all\n\
         Version: {version}\nDescription: the shop's orders\n"
    ));
    std::fs::write(&status, text).doing("write", &status)?;
    Ok(name.to_owned())
}
