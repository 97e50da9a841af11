// SPDX-License-Identifier: Apache-2.0
//! Every target in one program: `THYMUS_FUZZ=NAME` chooses, without it their names are printed. The well-formed examples
//! go to the folder `THYMUS_SEEDS`. All else is libFuzzer's: `-help=1`.
#![no_main]
#![allow(dead_code, unused_imports, reason = "of the files of the command line only the parser is used")]

mod cli;
#[path = "../../src"]
mod own {
    pub(crate) mod config;
    pub(crate) mod wanted;
}

use own::{config, wanted};
use std::sync::OnceLock;
use thymus_engine::fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn choose() {
    let all = || thymus_engine::fuzz::TARGETS.iter().chain(thymus_host::fuzz::TARGETS).chain([&config::fuzz::FUZZ, &wanted::FUZZ]);
    let wanted = std::env::var("THYMUS_FUZZ").unwrap_or_default();
    let Some(target) = all().find(|target| target.name == wanted) else {
        all().for_each(|target| println!("{}", target.name));
        std::process::exit(i32::from(!wanted.is_empty()));
    };
    if let Some(folder) = std::env::var_os("THYMUS_SEEDS").map(std::path::PathBuf::from) {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).expect("the folder of the seeds can be written");
        }
    }
    TARGET.get_or_init(|| *target);
}

libfuzzer_sys::fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(bytes);
    }
});
