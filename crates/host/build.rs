// SPDX-License-Identifier: Apache-2.0
//! Compiles the kernel's side of the sensors with clang. Needs neither kernel headers nor BTF of this machine.

use std::path::PathBuf;

fn main() {
    for source in ["kernel.h", "record.h", "process", "file", "network", "session", "sense.bpf.c", "tasks.bpf.c"] {
        println!("cargo::rerun-if-changed=src/sense/{source}");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["sense", "tasks"] {
        libbpf_cargo::SkeletonBuilder::new()
            .source(format!("src/sense/{name}.bpf.c"))
            .obj(out.join(format!("{name}.bpf.o")))
            .clang_args(["-Wall", "-Werror", "-mcpu=v3", "-Wno-parentheses"])
            .build()
            .unwrap_or_else(|error| panic!("cannot compile `{name}.bpf.c` (needs clang): {error:#}"));
    }
}
