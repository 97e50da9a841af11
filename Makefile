# SPDX-License-Identifier: Apache-2.0
# Everything here wants root: twins are real hosts, and the agent reads the kernel.
# On a fresh Debian 12 with Rust: `make run` shows one intrusion found, undone and proven; `make test` checks everything.

# One build of everything: `-p` would choose other features for the dependencies and compile them again.
THYMUS = target/debug/thymus
SEED ?= 7
SEEDS ?= 20
CI_SEEDS ?= 2
FUZZ_SECONDS ?= 20
FAULTS = crash-loop wedged-service supervised-service bad-config deleted-binary full-disk expired-certificate firewall-emptied
ENTRIES = web-shell lateral stolen-key brute-force log-tamper insider-slow mixed
EVASIONS = evasion-uring evasion-mapped evasion-nameless evasion-bound evasion-detached evasion-disguised
MASS = ransomware-in-place ransomware-copy ransomware-slow ransomware-parallel ransomware-service wiper

.PHONY: setup build run test atomics bench drills soak cases fuzz

setup:            ## Debian packages that are missing, and the base of all twins
	./drills/setup

build:
	cargo build --workspace --locked

run: setup build  ## one intrusion, live
	$(THYMUS) drill run persistence --seed $(SEED) --agent outside

test: setup build
	cargo test --workspace --locked
	$(THYMUS) drill run persistence --seed 100 --runs $(CI_SEEDS)
	$(THYMUS) drill run persistence --seed 200 --undo --runs 2
	$(THYMUS) drill run persistence --seed 301 --ordeal cut-power
	$(THYMUS) drill run persistence --seed 300 --ordeal kill-agent
	$(THYMUS) drill run persistence --seed 302 --ordeal stale-editor
	$(THYMUS) drill run web-shell brute-force --seed 100
	$(THYMUS) drill run web-shell --seed 103 --respond-after attack-end
	$(THYMUS) drill run log-tamper --seed 1 --respond-after attack-end
	$(THYMUS) drill run mixed --seed 2
	$(THYMUS) drill run evasion-uring --seed 2 --respond-after attack-end
	$(THYMUS) drill run ransomware-in-place --seed 100 --runs 2
	$(THYMUS) drill run ransomware-in-place --seed 102 --ordeal kill-often
	$(THYMUS) drill run ransomware-copy wiper --seed 103 --respond-after attack-end
	$(THYMUS) drill run bad-config full-disk --seed 1
	$(THYMUS) drill run wedged-service supervised-service crash-loop --seed 2
	$(THYMUS) drill run storm --seed 2
	$(THYMUS) drill run benign --seed 100 --runs 2
	./drills/atomics

atomics: setup build  ## every Linux test of Atomic Red Team in $$THYMUS_DATA/atomics; an hour
	./drills/atomics all

drills: setup build  ## the promises of SPECIFICATION.md over 20 seeds, half with the agent outside, half inside; hours
	$(THYMUS) drill run persistence --seed 1 --runs $(SEEDS) --json | tee target/drills.jsonl
	$(THYMUS) drill run persistence --seed 1 --runs $(SEEDS) --undo --json | tee target/drills-undo.jsonl
	$(THYMUS) drill run persistence --seed 1 --runs 4 --ordeal cut-power --json | tee target/drills-power.jsonl
	$(THYMUS) drill run persistence --seed 1 --runs 4 --ordeal kill-agent --json | tee target/drills-kill.jsonl
	$(THYMUS) drill run persistence --seed 1 --runs 4 --ordeal stale-editor --json | tee target/drills-stale.jsonl
	$(THYMUS) drill run $(ENTRIES) --seed 1 --runs $(SEEDS) --json | tee target/drills-entries.jsonl
	$(THYMUS) drill run $(ENTRIES) --seed 1 --runs $(SEEDS) --respond-after attack-end --json | tee target/drills-entries-whole.jsonl
	$(THYMUS) drill run storm --seed 1 --runs 4 --json | tee target/drills-storm.jsonl
	$(THYMUS) drill run $(FAULTS) --seed 1 --runs $(SEEDS) --json | tee target/drills-faults.jsonl
	$(THYMUS) drill run $(EVASIONS) --seed 1 --runs $(SEEDS) --json | tee target/drills-evasions.jsonl
	$(THYMUS) drill run $(EVASIONS) --seed 1 --runs $(SEEDS) --respond-after attack-end --json | tee target/drills-evasions-whole.jsonl
	$(THYMUS) drill run $(MASS) --seed 1 --runs $(SEEDS) --json | tee target/drills-mass.jsonl
	$(THYMUS) drill run $(MASS) --seed 1 --runs $(SEEDS) --respond-after attack-end --json | tee target/drills-mass-whole.jsonl
	$(THYMUS) drill run $(MASS) --seed 1 --runs 2 --ordeal kill-often --json | tee target/drills-mass-kill.jsonl

soak: setup build  ## half an hour of everything that looks like an attack and is none
	$(THYMUS) drill run benign --seed 1 --agent outside --soak 30m --json | tee target/soak.jsonl

bench:            ## figures for docs/measured.md; builds for release; 1.5 hours; enables this machine's audit while it compares
	./drills/setup bench
	cargo build --workspace --release --locked --bins --examples
	target/release/examples/throughput
	target/release/examples/throughput 1000000 cases/recorded/benign.jsonl.zst
	target/release/examples/throughput 1000000 cases/recorded/benign.jsonl.zst cases/recorded/intrusion_whole.jsonl.zst
	target/release/examples/judge_cost
	target/release/examples/stop_latency
	target/release/examples/block_latency
	target/release/examples/load_cost
	target/release/examples/load_cost 10 shell
	target/release/examples/load_cost 12 100 connections no-audit
	target/release/examples/restore_speed

cases: setup build  ## records cases/recorded anew, in twins; then `UPDATE=1 cargo test --test cases`, and review the diff
	./drills/record

# Coverage for libFuzzer by flags that the stable compiler has: what `cargo fuzz` sets, without the sanitizers.
COVERAGE = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
FUZZER = fuzz/target/x86_64-unknown-linux-gnu/release/thymus-fuzz

fuzz:             ## every reader of foreign bytes, FUZZ_SECONDS each; what it finds stays in fuzz/target/found
	cd fuzz && RUSTFLAGS="$(COVERAGE)" cargo build --release --locked --target x86_64-unknown-linux-gnu
	for target in $${TARGET:-$$($(FUZZER))}; do \
	  mkdir -p fuzz/target/corpus/$$target fuzz/target/found && echo "== $$target" && \
	  THYMUS_FUZZ=$$target THYMUS_SEEDS=fuzz/target/corpus/$$target $(FUZZER) -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
	    -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -artifact_prefix=fuzz/target/found/$$target- \
	    fuzz/target/corpus/$$target || exit 1; \
	done
