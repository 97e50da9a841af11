# SPDX-License-Identifier: Apache-2.0
# Everything here wants root: twins are real hosts, and the agent reads the kernel.
# On a fresh Debian 12 with Rust: `make run` shows one intrusion found, undone and proven; `make test` checks everything.

# One build of everything: `-p` would choose other features for the dependencies and compile them again.
THYMUS = target/debug/thymus
SEED ?= 7
SEEDS ?= 20
CI_SEEDS ?= 2

.PHONY: setup build run test bench drills

setup:            ## Debian packages that are missing, and the base of all twins
	./drills/setup

build:
	cargo build --workspace --locked

run: setup build  ## one intrusion, live
	$(THYMUS) drill run persistence --seed $(SEED) --agent outside

test: setup build
	cargo test --workspace --locked
	$(THYMUS) drill run persistence --seed 100 --runs $(CI_SEEDS)
	$(THYMUS) drill run persistence --seed 200 --respond-after attack-end --runs 2
	$(THYMUS) drill run benign --seed 100 --runs 2

drills: setup build  ## the promise of SPECIFICATION.md: 20 seeds, half with the agent outside, half inside
	$(THYMUS) drill run persistence --seed 1 --runs $(SEEDS) --json | tee target/drills.jsonl

bench:            ## figures for docs/measured.md; builds for release
	cargo build --workspace --release --locked --examples
	target/release/examples/throughput
	target/release/examples/judge_cost
	target/release/examples/stop_latency
