// SPDX-License-Identifier: Apache-2.0

use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use thymus_host::scope::enter;

/// Run a program in a scope, with the rights of the scope's first process at most. Started by the agent, not by people.
#[derive(Debug, Args)]
pub(super) struct Inside {
    /// The scope's first process.
    leader: u32,
    /// Cgroup that the program is to be in.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Program, by its path or name in the scope.
    program: OsString,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Inside {
    /// Exits as the program does.
    pub(super) fn run(&self) -> ExitCode {
        let Self { leader, cgroup, program, arguments } = self;
        let inside = enter::Inside {
            leader: *leader,
            cgroup: cgroup.clone(),
            program: program.clone(),
            arguments: arguments.clone(),
        };
        match enter::run(&inside) {
            Ok(status) => ExitCode::from(status),
            Err(error) => {
                super::complain(&error.into());
                ExitCode::from(enter::NOT_STARTED)
            }
        }
    }
}
