// SPDX-License-Identifier: Apache-2.0
//! How long it takes until an address is blocked: the figures of docs/measured.md.
//!
//! `block_latency [SAMPLES]`, as root. In a network namespace of its own: no packet of the machine's is looked at. Each
//! sample is the whole action of the hands, from the call to the kernel's word that the address is in its set: the socket
//! made, what is blocked read, the element added, read back. The first makes the table, too.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a bench")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use thymus_engine::action::Extent;
use thymus_host::scope::Scope;
use thymus_host::system::System;
use thymus_host::system::linux::Linux;

fn main() {
    let samples: u32 = std::env::args().nth(1).map_or(200, |word| word.parse().expect("SAMPLES is a number"));
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace of our own, as root");
    let scope = Scope::this_host(true).expect("this host");
    let keep = std::env::temp_dir().join(format!("thymus-block-latency-{}", std::process::id()));
    let acting = scope.acting().expect("it may act");
    let mut system = Linux::new(acting, &keep, &[]).expect("a keep");
    let mut block = |number: u32| {
        let address = IpAddr::from(Ipv4Addr::from_bits(0xc633_6400 + number));
        let began = Instant::now();
        system.filter(address, Extent::All, Duration::from_secs(3_600)).expect("it is blocked");
        began.elapsed()
    };
    let first = block(0);
    let mut times: Vec<Duration> = (1..=samples).map(block).collect();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{}",
        serde_json::json!({
            "samples": samples,
            "first_us": first.as_micros(),
            "median_us": at(50).as_micros(),
            "p99_us": at(99).as_micros(),
            "max_us": times[times.len() - 1].as_micros(),
        })
    );
    // What is left is one empty directory tree; failing to remove it harms nobody.
    let _ = std::fs::remove_dir_all(&keep);
}
