// SPDX-License-Identifier: Apache-2.0
//! A technique file of Atomic Red Team, read as it is published: its Linux tests, with their input filled in.
//!
//! The format is the project's own (`atomic-red-team/bin/validate/atomic-red-team.schema.yaml`). What is not for Linux is left
//! out; what a twin cannot run is kept, with the reason.

use crate::{Doing, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// LIMIT: bytes of one technique file. The largest published one has 70 kB.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Where what a technique brings along lies in a twin.
pub const FOLDER: &str = "/opt/atomics";

/// One test of a technique, with its input filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// ATT&CK technique, `T1053.003`.
    pub technique: String,
    /// The technique's name by ATT&CK, without that of its parent.
    pub technique_name: String,
    /// Place in the file, counting from 1, tests of other platforms included: as the project numbers them.
    pub number: usize,
    pub guid: String,
    pub name: String,
    pub shell: Shell,
    /// It wants to be root.
    pub elevated: bool,
    pub command: String,
    pub cleanup: Option<String>,
    pub requirements: Vec<Requirement>,
    /// The shell of the requirements' commands.
    pub requirements_shell: Shell,
    /// Why no twin can run it, known by reading alone.
    pub unfit: Option<String>,
    /// The technique's folder, with what it brings along.
    pub folder: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shell {
    #[default]
    Sh,
    Bash,
}

/// What must be there before the test, and how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub about: String,
    /// Succeeds when it is there.
    pub check: String,
    pub get: String,
}

impl Shell {
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
        }
    }
}

#[derive(Deserialize)]
struct File {
    attack_technique: String,
    display_name: String,
    atomic_tests: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    name: String,
    auto_generated_guid: Option<String>,
    #[serde(default)]
    supported_platforms: Vec<String>,
    #[serde(default)]
    input_arguments: Option<BTreeMap<String, Argument>>,
    dependency_executor_name: Option<String>,
    #[serde(default)]
    dependencies: Option<Vec<Dependency>>,
    executor: Executor,
}

#[derive(Deserialize)]
struct Argument {
    #[serde(default)]
    default: Option<String>,
}

#[derive(Deserialize)]
struct Dependency {
    #[serde(default)]
    description: String,
    prereq_command: Option<String>,
    get_prereq_command: Option<String>,
}

#[derive(Deserialize)]
struct Executor {
    name: String,
    #[serde(default)]
    elevation_required: bool,
    command: Option<String>,
    cleanup_command: Option<String>,
}

/// Which tests of a file are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// As the project numbers them.
    Number(usize),
    Guid(String),
}

/// The Linux tests of the file at `path`.
pub fn read(path: &Path) -> Result<Vec<Test>> {
    let size = std::fs::metadata(path).doing("look at", path)?.len();
    let wrong = |why: String| Error::Atomic { path: path.to_owned(), why };
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!("{size} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).doing("read", path)?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    parse(&text, &folder).map_err(wrong)
}

/// The same, of its text. The error names line and column.
pub fn parse(text: &str, folder: &Path) -> std::result::Result<Vec<Test>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    if !file.attack_technique.starts_with('T') || !plain(&file.attack_technique) {
        return Err(format!("`attack_technique` is `{}`, expected one like T1053.003", file.attack_technique));
    }
    let name = file.display_name.rsplit(": ").next().unwrap_or_default().to_owned();
    let tests = file.atomic_tests.into_iter().enumerate();
    let linux = tests.filter(|(_, test)| test.supported_platforms.iter().any(|platform| platform == "linux"));
    linux.map(|(at, test)| test.fill(&file.attack_technique, &name, at + 1, folder)).collect()
}

impl Written {
    fn fill(
        self,
        technique: &str,
        technique_name: &str,
        number: usize,
        folder: &Path,
    ) -> std::result::Result<Test, String> {
        let input = self.input_arguments.unwrap_or_default();
        let of = |text: Option<String>| filled(text.unwrap_or_default().trim(), &input);
        let missing = unfilled(self.executor.command.as_deref().unwrap_or_default(), &input);
        if let Some(name) = missing {
            return Err(format!("test {number}, `{}`: `#{{{name}}}` is not among its `input_arguments`", self.name));
        }
        let (shell, unfit) = match self.executor.name.as_str() {
            "sh" => (Shell::Sh, None),
            "bash" => (Shell::Bash, None),
            "manual" => (Shell::Sh, Some("a person has to do it by hand".to_owned())),
            other => (Shell::Sh, Some(format!("wants `{other}`"))),
        };
        let requirements_shell = match self.dependency_executor_name.as_deref() {
            Some("bash") => Shell::Bash,
            Some(_) => Shell::Sh,
            None => shell,
        };
        let requirement = |dependency: Dependency| Requirement {
            about: filled(dependency.description.trim(), &input),
            check: of(dependency.prereq_command),
            get: of(dependency.get_prereq_command),
        };
        Ok(Test {
            technique: technique.to_owned(),
            technique_name: technique_name.to_owned(),
            number,
            guid: self.auto_generated_guid.unwrap_or_default(),
            name: self.name,
            shell,
            elevated: self.executor.elevation_required,
            command: of(self.executor.command),
            cleanup: Some(of(self.executor.cleanup_command)).filter(|text| !text.is_empty()),
            requirements: self.dependencies.unwrap_or_default().into_iter().map(requirement).collect(),
            requirements_shell,
            unfit,
            folder: folder.to_owned(),
        })
    }
}

/// `text` with each `#{name}` replaced, also where a default names another input; and with the folder of all techniques.
fn filled(text: &str, input: &BTreeMap<String, Argument>) -> String {
    let mut text = text.to_owned();
    // LIMIT: defaults that name another input that names another.
    for _ in 0..3 {
        for (name, argument) in input {
            text = text.replace(&format!("#{{{name}}}"), argument.default.as_deref().unwrap_or_default());
        }
    }
    text.replace("$PathToAtomicsFolder", FOLDER).replace("PathToAtomicsFolder", FOLDER)
}

/// The first `#{name}` that nothing is given for.
fn unfilled<'a>(text: &'a str, input: &BTreeMap<String, Argument>) -> Option<&'a str> {
    let names = text.split("#{").skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name));
    let plain = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    names.filter(plain).find(|name| !input.contains_key(*name))
}

impl Test {
    /// As it is called in reports: `T1053.003-2`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}-{}", self.technique, self.number)
    }

    #[must_use]
    pub fn is(&self, which: &Which) -> bool {
        match which {
            Which::All => true,
            Which::Number(number) => self.number == *number,
            Which::Guid(guid) => self.guid.eq_ignore_ascii_case(guid),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TEXT: &str = r##"
attack_technique: T1053.003
display_name: 'Scheduled Task/Job: Cron'
atomic_tests:
- name: for a Mac
  supported_platforms: [macos]
  executor: { name: sh, command: 'true' }
- name: a job
  auto_generated_guid: 435057fb-74b1-410e-9403-d81baf194f75
  description: |
    It says #{nothing}.
  supported_platforms: [linux, macos]
  input_arguments:
    file: { description: where, type: path, default: "#{where}/job" }
    where: { description: where, type: path, default: PathToAtomicsFolder/T1053.003/src }
    times: { description: how often, type: integer, default: 5 }
    empty: { description: nothing, type: string, default: null }
  dependency_executor_name: bash
  dependencies:
  - description: 'The file #{file}'
    prereq_command: 'test -f #{file}'
    get_prereq_command: 'touch #{file}'
  executor:
    name: sh
    elevation_required: true
    command: |
      for i in $(seq #{times}); do echo "${i}#{empty}" >#{file}; done
    cleanup_command: 'rm #{file}'
- name: by hand
  supported_platforms: [linux]
  executor: { name: manual, steps: '1. do it' }
"##;

    #[test]
    fn the_linux_tests_of_a_file_are_read_with_their_input_filled_in() {
        let tests = parse(TEXT, Path::new("/atomics/T1053.003")).unwrap();
        let [job, manual] = tests.as_slice() else { panic!("{tests:?}") };
        assert_eq!((job.title().as_str(), job.technique_name.as_str()), ("T1053.003-2", "Cron"));
        assert_eq!(job.command, "for i in $(seq 5); do echo \"${i}\" >/opt/atomics/T1053.003/src/job; done");
        assert_eq!(job.cleanup.as_deref(), Some("rm /opt/atomics/T1053.003/src/job"));
        assert_eq!((job.shell, job.requirements_shell, job.elevated), (Shell::Sh, Shell::Bash, true));
        assert_eq!(job.requirements[0].check, "test -f /opt/atomics/T1053.003/src/job");
        assert_eq!(job.requirements[0].about, "The file /opt/atomics/T1053.003/src/job");
        assert!(job.unfit.is_none());
        assert_eq!(manual.unfit.as_deref(), Some("a person has to do it by hand"));
        assert!(job.is(&Which::All) && job.is(&Which::Number(2)) && !job.is(&Which::Number(1)));
        assert!(job.is(&Which::Guid("435057FB-74B1-410E-9403-D81BAF194F75".to_owned())));
    }

    #[test]
    fn a_broken_file_is_refused_with_its_line_and_what_was_expected() {
        let refused = |from: &str, to: &str| parse(&TEXT.replacen(from, to, 1), Path::new("/")).unwrap_err();
        let error = refused("elevation_required: true", "elevation_required: perhaps");
        assert!(error.contains("line 25 column 25: invalid boolean"), "{error}");
        let error = refused("#{times}", "#{often}");
        assert_eq!(error, "test 2, `a job`: `#{often}` is not among its `input_arguments`");
        let error = refused("T1053.003\n", "../../etc\n");
        assert_eq!(error, "`attack_technique` is `../../etc`, expected one like T1053.003");
        assert!(refused("atomic_tests:", "tests:").contains("atomic_tests"));
    }

    /// Skipped where `THYMUS_DATA` names no folder with the published files.
    #[test]
    fn every_published_technique_file_is_read() {
        let data = std::env::var_os("THYMUS_DATA").map(|data| Path::new(&data).join("atomics"));
        let Some(data) = data.filter(|data| data.is_dir()) else {
            eprintln!("skipped: every_published_technique_file_is_read: expected $THYMUS_DATA/atomics");
            return;
        };
        let unpacked = tempfile::tempdir().unwrap();
        let tar = |archive: &Path| {
            std::process::Command::new("tar")
                .args(["--zstd", "-xf"])
                .arg(archive)
                .arg("-C")
                .arg(unpacked.path())
                .status()
        };
        let (mut files, mut tests, mut pending) = (0, 0, vec![unpacked.path().to_owned(), data]);
        while let Some(directory) = pending.pop() {
            let entries: Vec<PathBuf> =
                std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            for path in entries {
                match path.extension().and_then(|extension| extension.to_str()) {
                    _ if path.is_dir() => pending.insert(0, path),
                    Some("zst") => assert!(tar(&path).unwrap().success(), "{}", path.display()),
                    Some("yaml") => {
                        files += 1;
                        tests += read(&path).unwrap().len();
                    }
                    _ => {}
                }
            }
        }
        assert!(files > 0 && tests > files, "{tests} tests in {files} files");
    }
}
