// SPDX-License-Identifier: Apache-2.0
//! Chores of this repository: `cargo xtask generate` and `cargo xtask man`. What must always hold is a test: `tidy`.
#![forbid(unsafe_code)]

mod pages;
#[cfg(test)]
mod tidy;

use anyhow::Context;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask generate    write docs/config.md and docs/detectors.md from the doc comments in the code
       cargo xtask man [DIR]   write the manual pages (default: target/man)
";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate"] => {
            for (path, text) in pages::all(root())? {
                std::fs::write(root().join(path), text).with_context(|| format!("cannot write `{path}`"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        ["man"] => man("target/man"),
        ["man", directory] => man(directory),
        _ => {
            use std::io::Write;
            std::io::stderr().lock().write_all(USAGE.as_bytes())?;
            Ok(ExitCode::from(2))
        }
    }
}

/// The repository's top directory.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn man(directory: &str) -> anyhow::Result<ExitCode> {
    let mut thymus = std::process::Command::new(env!("CARGO"));
    thymus.current_dir(root()).args(["run", "--quiet", "--locked", "--package", "thymus", "--", "man", directory]);
    let done = thymus.status().context("cannot run cargo")?;
    Ok(if done.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
