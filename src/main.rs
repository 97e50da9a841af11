// SPDX-License-Identifier: Apache-2.0
//! Thymus: an immune system for Linux machines. See `thymus --help`, README.md and docs/architecture.md.
#![forbid(unsafe_code)]

mod agent;
mod cli;
mod config;
mod log;
mod rules;
mod wanted;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse(); // wrong use ends here, with status 2
    cli::run(&cli).unwrap_or_else(|error| cli::complain(&error))
}
