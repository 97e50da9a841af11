// SPDX-License-Identifier: Apache-2.0

use super::Desk;
use crate::agent::{self, Options, ScopeChoice};
use crate::config::{self, AbsolutePath};
use clap::{Args, ValueEnum};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use thymus_engine::input;

/// Guard this host (or one scope of it) until ended.
///
/// In mode `observe`, the default, it proposes and never acts. Acting on the whole host needs `this_host = true` in the
/// configuration; a scope of its own does not. End it with SIGTERM or Ctrl-C: what it held stopped goes on.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// What it may do by itself [default: the configuration's, else observe].
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Where it looks and may act: `host`, or `cgroup:PATH` with the directory of a cgroup v2.
    #[arg(long, value_name = "SCOPE", default_value = "host", value_parser = scope)]
    scope: ScopeChoice,
    /// Root directory of the file system that the scope's processes see.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where everything that must survive is kept [default: the configuration's, else /var/lib/thymus].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Configuration [default: /etc/thymus/thymus.toml when it is there].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Mode {
    /// Propose only.
    Observe,
    /// What can be undone and expires happens by itself; the rest asks.
    Guarded,
    /// All that policy permits.
    Autonomous,
}

impl From<Mode> for input::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Guarded => Self::Guarded,
            Mode::Autonomous => Self::Autonomous,
        }
    }
}

fn scope(text: &str) -> Result<ScopeChoice, String> {
    match text.split_once(':') {
        None if text == "host" => Ok(ScopeChoice::Host),
        Some(("cgroup", path)) if path.starts_with('/') => Ok(ScopeChoice::Cgroup(path.into())),
        _ => Err("expected `host` or `cgroup:` with an absolute path".into()),
    }
}

impl Up {
    pub(super) fn run(&self, desk: &Desk) -> anyhow::Result<ExitCode> {
        with_little_kept();
        let (mut config, mut problems) = config::load_or_last_good(self.config.as_deref(), self.state.as_deref());
        if let Some(mode) = self.mode {
            config.mode = mode.into();
        }
        if let Some(state) = &self.state {
            config.state = AbsolutePath::here(state)?;
        }
        if desk.socket_given {
            config.socket = AbsolutePath::here(&desk.socket)?;
        }
        let (policies, wrong) = config::load_policies_or_last_good(config.policies.get(), config.state.get());
        problems.extend(wrong);
        for problem in &problems {
            super::warn(&format!("thymus: warning: {problem}\n"));
        }
        agent::run(Options { config, policies, problems, scope: self.scope.clone(), root: self.root.clone() })
    }
}

/// What glibc's allocator reads once, when a program begins (mallopt(3)). Two arenas instead of one for almost each thread:
/// what threads free in one another's stays there (after an hour of work nearly half of the agent's own memory lay in theirs,
/// docs/measured.md). And large blocks (a checkpoint has megabytes) always apart, so that they are given back when they are
/// freed; left alone, the allocator keeps room for them in the heap once it has seen one go.
const ALLOCATOR: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072")];

/// Begins again with an allocator that keeps little.
fn with_little_kept() {
    if ALLOCATOR.iter().all(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "thymus".into());
    let error = match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0(name).args(words).envs(ALLOCATOR).exec(),
        Err(error) => error,
    };
    super::warn(&format!(
        "thymus: warning: cannot begin again with another allocator, it may need more memory: {error}\n"
    ));
}
