// SPDX-License-Identifier: Apache-2.0
//! What one verdict costs: the safety kernel and the built-in policies, with facts, in each mode; and what one look of
//! all detectors costs at an event that none of them claims.
//!
//! `cargo run --release -p thymus-engine --example judge_cost`
#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "a measurement needs a clock; the engine has none")]

use std::time::Instant;
use thymus_engine::action::{Action, Expected, Facts, Merge, RestoreFile};
use thymus_engine::detect::{Context, Detectors};
use thymus_engine::event::{Activity, Event, File, FileActivity, FileActivityId, FileKind};
use thymus_engine::graph::Graph;
use thymus_engine::guard::{Attempts, Policies, Request, judge};
use thymus_engine::id::{EventId, FileKey, ProcessKey, Timestamp, VersionId};
use thymus_engine::input::{Configuration, Mode};

const SAMPLES: usize = 5_000;

fn main() {
    let policies = Policies::load(&Policies::defaults()).expect("the built-in policies are valid");
    let restore = RestoreFile {
        path: "/etc/passwd".into(),
        base: VersionId(1),
        later: Vec::new(),
        append_only: false,
        again: false,
        whole: false,
    };
    let action = Action::RestoreFile(restore);
    let facts = Facts {
        as_expected: Expected::Yes,
        undo_ready: true,
        merge: Merge::Exact,
        never_touch: false,
        evidence_saved: true,
        targets: 1,
        left_out: Vec::new(),
        needed: None,
        holders: Vec::new(),
        interrupts: false,
        genuine: Vec::new(),
    };
    for mode in [Mode::Observe, Mode::Guarded, Mode::Autonomous] {
        let request = Request {
            now: Timestamp(1),
            action: &action,
            mode,
            scope_permits_action: true,
            confirmed: true,
            attack_only: true,
            failure: false,
            authorised_change: false,
            predicted: 1,
            hold: None,
            restraint: None,
            attempts: Attempts::default(),
            approvals: 0,
            facts: Some(&facts),
            never_touch: &[],
            never_touch_paths: &[],
            never_block: &[],
            spared: None,
            doubted: &[],
        };
        report(&format!("a verdict, {mode:?}"), || drop(std::hint::black_box(judge(&request, &policies))));
    }
    look();
}

fn look() {
    let configuration = Configuration {
        mode: Mode::Autonomous,
        scope_permits_action: true,
        administrators: Vec::new(),
        logins: Vec::new(),
        protected: Vec::new(),
        append_only: ["/var/log/*.log", "/var/log/*/*.log", "/var/log/wtmp", "/var/log/syslog"]
            .map(str::to_owned)
            .to_vec(),
        change_tools: Vec::new(),
        never_touch: Vec::new(),
        decoys: Vec::new(),
        never_touch_paths: Vec::new(),
        never_block: Vec::new(),
        policies: Vec::new(),
        boot_to_unix_ns: 0,
        actions_per_minute: thymus_engine::guard::ACTIONS_PER_MINUTE,
        answer_ns: thymus_engine::input::ANSWER_NS,
    };
    let context = Context { configuration: &configuration, change_window: false };
    let event = Event {
        id: EventId(1),
        time: Timestamp(1),
        activity: Activity::File(FileActivity {
            activity: FileActivityId::Close,
            actor: ProcessKey::default(),
            file: File {
                path: "/srv/build/target/debug/deps/libsomething-0123456789abcdef.rlib".into(),
                key: FileKey::default(),
            },
            kind: FileKind::Regular,
            file_result: None,
            change: None,
            change_result: None,
            mode: None,
            target: None,
        }),
    };
    let (graph, mut detectors, mut out) = (Graph::default(), Detectors::default(), Vec::new());
    report("a look of all detectors", || detectors.observe(&event, &graph, &context, &mut out));
}

fn report(what: &str, mut once: impl FnMut()) {
    let mut nanoseconds: Vec<u128> = (0..SAMPLES)
        .map(|_| {
            let begun = Instant::now();
            once();
            begun.elapsed().as_nanos()
        })
        .collect();
    nanoseconds.sort_unstable();
    let at = |share: usize| nanoseconds[(SAMPLES - 1) * share / 100];
    println!("{what:<28} median {:>7} ns   p99 {:>7} ns   of {SAMPLES}", at(50), at(99));
}
