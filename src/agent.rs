// SPDX-License-Identifier: Apache-2.0
//! Wiring: sensors → engine → hands → journal.

use crate::config::{Config, Policies, Problem};
use std::path::PathBuf;
use std::process::ExitCode;

/// What `thymus up` was asked for: the configuration, with the command line's wishes put in.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) policies: Policies,
    /// What was wrong with the files; the last good ones are in use. Shown by `doctor`.
    pub(crate) problems: Vec<Problem>,
    pub(crate) scope: ScopeChoice,
    /// Root directory of the file system that the scope's processes see.
    pub(crate) root: PathBuf,
}

/// `--scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScopeChoice {
    /// The host (or the container) that the agent itself runs in.
    Host,
    /// A cgroup, by its directory.
    Cgroup(PathBuf),
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the agent is not part of this build (mode {:?})", options.config.mode)
}
