# The menu. `make` alone lists it.
SHELL := /bin/bash
CACHE ?= $(or $(STEMEDB_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stemedb)
# Where artifacts go. CI points it at a cache that clean clones share, one after the other.
TARGET := $(or $(CARGO_TARGET_DIR),target)
STEMEDB := $(TARGET)/release/stemedb
export PATH := $(PATH):$(CACHE)/venv/bin:/usr/sbin
export STEMEDB_VENV := $(CACHE)/venv

.PHONY: help demo test lint setup build eval
help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## the release binary, target/release/stemedb
	STEMEDB_COMMIT=$$(git rev-parse --short=12 HEAD) cargo build --release --locked -p stemedb-cli

.PHONY: install
install: ## what `make build` made, units, examples: PREFIX=/usr/local DESTDIR=… SYSCONFDIR=/etc
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" SYSCONFDIR="$(SYSCONFDIR)" BINARIES="$(or $(BINARIES),$(TARGET)/release)" ./scripts/install.sh

demo: ## real claims that disagree, on the screen: ONCE=1 ends by itself
	cargo run --quiet --locked -p stemedb-cli --bin stemedb -- demo $(if $(ONCE),--once)

DATA ?= ../shared/data/truth
TRUTH_PAGE := docs/performance/truth
eval: build ## score every lens on real data and made-up worlds: DATA=… SETS="flights books" WORLDS=3 SEED=… WRITE=1
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) eval --data $(DATA) $(foreach set,$(SETS),--set $(set)) \
		$(if $(WORLDS),--worlds $(WORLDS)) $(if $(WRITE),--write $(TRUTH_PAGE).md --plot $(TRUTH_PAGE))

setup: ## install what the tests need, by package name
	./scripts/setup.sh

lint: setup ## format, clippy, docs, licences
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	cargo fetch --locked --quiet
	cargo-deny --offline check licenses bans sources

# The slices keep this within minutes; each harness prints its seed, fresh every time.
test: setup lint interop ## everything that a change must pass
	$(MAKE) order
	$(MAKE) api
	$(MAKE) kill CYCLES=8
	$(MAKE) inject RUNS=12
	$(MAKE) crash STATES=80
	$(MAKE) matrix SLICE=1
	$(MAKE) mutants
	$(MAKE) monitoring
	$(MAKE) drill RUNBOOK="certificate-expiry disaster-recovery disk-full node-replacement"
	$(MAKE) guides
	$(MAKE) deploy QUICK=1
	$(MAKE) fuzz TARGET=record SECONDS=10
	$(MAKE) fuzz TARGET=log SECONDS=20
	$(MAKE) fuzz TARGET=wire SECONDS=15
	$(MAKE) unit

# What needs root is marked `#[ignore = "needs root …"]`, so that it is counted as skipped without. Root
# runs all that is ignored, but for what has a target of its own.
AS_ROOT = [ "$$(id -u)" = 0 ]
APART = test(keep_what_this_version_leaves) | test(what_a_read_costs) | binary(accept_interop)

.PHONY: unit crash kill inject mutate fuzz order
unit: setup ## unit, table, property, golden and conformance tests
	cargo test --workspace --locked --doc --quiet
	@$(AS_ROOT) || echo "SKIPPED: tests that need root, among those counted as skipped below; root runs them"
	cargo nextest run --workspace --locked --no-fail-fast \
		$$($(AS_ROOT) && echo "--run-ignored all") -E 'not ($(APART))'

.PHONY: golden
golden: ## keep what a node of this version leaves behind, for the tests of later ones: before each release
	cargo nextest run --workspace --locked --run-ignored only -E 'test(keep_what_this_version_leaves)'

.PHONY: interop
interop: setup ## records and encrypted objects read again in Python: test vectors, then a server
	$(STEMEDB_VENV)/bin/python tests/interop/record.py
	$(STEMEDB_VENV)/bin/python tests/interop/encrypted.py
	cargo nextest run -p stemedb-cli --locked --test accept_interop --run-ignored only

.PHONY: api
api: build setup ## the HTTP interface judged from outside, its page in a browser: EXAMPLES=40 SEED=…
	$(STEMEDB_VENV)/bin/python tests/interop/api.py --binary $(STEMEDB) $(if $(EXAMPLES),--examples $(EXAMPLES)) $(if $(SEED),--seed $(SEED))
	$(STEMEDB_VENV)/bin/python tests/interop/page.py --binary $(STEMEDB)

STATES ?= 500
CYCLES ?= 20
HARNESS = cargo run --quiet --locked -p xtask -- --binary

crash: build setup ## power cuts under a real file system: STATES=500 FS="ext4 xfs btrfs" SEED=…
	for fs in $(or $(FS),ext4); do \
		$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) crash --states $(STATES) --fs $$fs || exit 1; done

kill: build setup ## kill -9 under writers and readers: CYCLES=20 WRITERS=32 IMPORTERS=8 SEED=…
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) kill --cycles $(CYCLES) \
		$(if $(WRITERS),--writers $(WRITERS)) $(if $(IMPORTERS),--importers $(IMPORTERS))

RUNS ?= 60
inject: build setup ## errors of system calls on the log's files: RUNS=60 (0: all) SEED=… HEAL=1
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) inject --runs $(RUNS) $(if $(HEAL),--require-heal)

FAULTS ?= 1000
.PHONY: outcomes
outcomes: ## answers under transient faults of the medium and concurrent copies: FAULTS=1000 SEED=…
	FAULTS=$(FAULTS) $(if $(SEED),SEED=$(SEED)) cargo nextest run --workspace --locked --no-capture \
		-E 'test(answers_stay_true_under_transient_faults)'

RECEIPTS ?= 10000
.PHONY: receipts
receipts: ## receipts made again after a restart and with another index: RECEIPTS=10000 SEED=…
	RECEIPTS=$(RECEIPTS) $(if $(SEED),SEED=$(SEED)) cargo nextest run --workspace --locked --no-capture \
		-E 'test(receipts_are_made_again_bit_for_bit)'

HISTORIES ?= 1000
.PHONY: restores
restores: ## random histories restored from archive and backup to random targets: HISTORIES=1000 ANSWERS=1 SEED=…
	HISTORIES=$(HISTORIES) ANSWERS=$(or $(ANSWERS),1) $(if $(SEED),SEED=$(SEED)) cargo nextest run --workspace --locked \
		--success-output immediate -E 'test(histories_are_restored_to_any_position_or_time)'

MUTATIONS ?= 20000
mutate: ## damaged folders of the log: MUTATIONS=20000 SEED=…
	MUTATIONS=$(MUTATIONS) SEED=$(or $(SEED),$(shell date +%s)) BIT_STEP=1 CUT_STEP=1 \
		cargo test --release --locked -p stemedb-log --test mutation -- --nocapture

# What cargo-fuzz does, without the nightly toolchain: coverage by options that are stable, and no
# sanitizer, since the code under test has no unsafe memory. With a --target, so that build scripts
# are built without. TARGET given here is the fuzz target, so artifacts go elsewhere.
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_DIR = $(or $(CARGO_TARGET_DIR),fuzz/target)/fuzz
FUZZ_BINARY = $(FUZZ_DIR)/$(FUZZ_HOST)/release/$(TARGET)
SECONDS ?= 300
CORPUS ?= $(CACHE)/fuzz/$(TARGET)

fuzz: setup ## feed a decoder: TARGET=log|record|wire SECONDS=300 CORPUS=folder
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked --manifest-path fuzz/Cargo.toml \
		--target $(FUZZ_HOST) --target-dir $(FUZZ_DIR) --bin $(TARGET) $(if $(filter wire,$(TARGET)),--features wire)
	mkdir -p $(CORPUS)
	SEEDS=$(CORPUS) $(FUZZ_BINARY) -runs=0
	$(FUZZ_BINARY) -max_total_time=$(SECONDS) -max_len=102400 -timeout=10 -rss_limit_mb=1024 \
		-malloc_limit_mb=256 -artifact_prefix=$(CORPUS)/found- -print_final_stats=1 $(CORPUS)

order: build setup ## no answer before the sync that covers it
	$(HARNESS) $(STEMEDB) order

# FAULT=… FS=… MOMENT=… (several, separated by blanks) choose cells; SLICE=1 draws one a fault; KEEP=…
# takes what is not red from the raw results of an earlier run with the same SEED.
MATRIX_PAGE := docs/reliability/fault-matrix.md
.PHONY: matrix
matrix: build setup ## a failing disk under real file systems: FAULT=… FS=… SLICE=1 WRITE=1
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) matrix --raw $(TARGET)/matrix.jsonl \
		$(foreach fault,$(FAULT),--fault $(fault)) $(foreach fs,$(FS),--fs $(fs)) \
		$(foreach moment,$(MOMENT),--moment $(moment)) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(KEEP),--keep $(KEEP)) $(if $(SLICE),--slice) $(if $(WRITE),--write $(MATRIX_PAGE))

.PHONY: monitoring
monitoring: build setup ## alerts and dashboards against the server, Prometheus, Alertmanager: QUICK=1 WRITE=1
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) monitoring $(if $(QUICK),--quick) $(if $(WRITE),--write)

.PHONY: drill
drill: build setup ## the runbooks, run: RUNBOOK=wal-fsync-failure CASE=… LONG=1 WRITE=1
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) drill $(foreach one,$(RUNBOOK),--runbook $(one)) \
		$(foreach one,$(CASE),--case $(one)) $(if $(LONG),--long) $(if $(WRITE),--write)

.PHONY: guides
guides: build setup ## the shell blocks of README and docs, run: PAGE="backup README"
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) guides $(foreach one,$(PAGE),--page $(one))

.PHONY: deploy
deploy: build setup ## units, install, load balancers under load, a real systemd: QUICK=1, BOOT=1
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) deploy $(if $(QUICK),--quick) $(if $(BOOT),--boot)

.PHONY: mutants
mutants: setup ## each known wrong behaviour must be caught: ONLY="evict_range …" DEEP=1
	CARGO_BUILD_BUILD_DIR=$(TARGET) cargo build --release --locked -p stemedb-cli --features mutants --target-dir $(TARGET)/mutants
	$(HARNESS) $(TARGET)/mutants/release/stemedb $(if $(SEED),--seed $(SEED)) mutants \
		$(foreach mutant,$(ONLY),--only $(mutant)) $(if $(DEEP),--deep)

# Apart from everything else: its rivals are not built, locked or checked with the workspace.
BENCH = cargo run --quiet --release --locked --manifest-path bench/Cargo.toml --target-dir $(TARGET)/bench --bin

.PHONY: bench-log
bench-log: build ## the log beside the bare device and its rivals: QUICK=1 WRITE=1 SCRATCH=…
	./bench/setup.sh
	$(BENCH) bench-log -- --server $(STEMEDB) --results $(TARGET)/bench-log.json --scratch $(or $(SCRATCH),$(TARGET)) \
		$(if $(QUICK),--quick) $(if $(WRITE),--write) $(if $(SEED),--seed $(SEED)) $(BENCH_FLAGS)

.PHONY: bench-audit
bench-audit: ## what the audit of reads costs a read
	cargo test --release --locked -p stemedb-server --test audit -- --ignored --nocapture what_a_read_costs

.PHONY: bench-upheaval
bench-upheaval: ## broad facts beside a writer and a reader: QUICK=1 WRITE=1 SCRATCH=…
	./bench/setup.sh
	$(BENCH) bench-upheaval -- --results $(TARGET)/bench-upheaval.json --scratch $(or $(SCRATCH),$(TARGET)) \
		$(if $(QUICK),--quick) $(if $(WRITE),--write)

.PHONY: bench-resolve
bench-resolve: build ## answers beside SQLite and PostgreSQL: QUICK=1 WRITE=1 SCRATCH=…
	./bench/setup.sh
	$(BENCH) bench-resolve -- --server $(STEMEDB) --results $(TARGET)/bench-resolve.json --scratch $(or $(SCRATCH),$(TARGET)) \
		$(if $(QUICK),--quick) $(if $(WRITE),--write) $(BENCH_FLAGS)

.PHONY: bench-restore
bench-restore: build ## how fast a database comes back from its archive: QUICK=1 WRITE=1 SCRATCH=… REPORT_ONLY=1 DATA=…
	$(HARNESS) $(STEMEDB) $(if $(SEED),--seed $(SEED)) restore --data $(DATA) --scratch $(or $(SCRATCH),$(TARGET)) \
		$(if $(QUICK),--mebibytes 64) $(if $(WRITE),--write) $(if $(REPORT_ONLY)$(QUICK),--report-only)

# Missed speed ends with 1, unless REPORT_ONLY=1 or QUICK=1; what is wrong always does.
.PHONY: pilot
pilot: build ## success criteria of a pilot, judged: QUICK=1 WRITE=1 SCRATCH=… RATE=10000 SECONDS=300 ONLY="asserts mixed"
	./bench/setup.sh
	$(BENCH) bench-pilot -- --server $(STEMEDB) --results $(TARGET)/bench-pilot.json --scratch $(or $(SCRATCH),$(TARGET)) \
		$(if $(QUICK),--quick) $(if $(WRITE),--write) $(if $(REPORT_ONLY),--report-only) $(if $(SEED),--seed $(SEED)) \
		$(if $(RATE),--rate $(RATE)) $(if $(filter command line,$(origin SECONDS)),--seconds $(SECONDS)) \
		$(if $(CLAIMS),--claims $(CLAIMS)) $(if $(MEMORY_MIB),--memory-mib $(MEMORY_MIB)) \
		$(foreach part,$(ONLY),--only $(part)) $(BENCH_FLAGS)

# SECONDS bounds it, or RUNS; STEPS a run. SKIP leaves steps out, as a failure prints it.
SIM = cargo run --quiet --release --locked -p stemedb-sim --
SIM_ARGS = $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS)) $(if $(SKIP),--skip $(SKIP))
.PHONY: sim sim-long sim-check
sim: ## the log on a simulated disk that breaks in every way: SEED=… RUNS=… SECONDS=300 STEPS=150
	$(SIM) $(SIM_ARGS) $(if $(filter command line,$(origin RUNS)),--runs $(RUNS),--seconds $(SECONDS))

sim-long: ## the same for hours: HOURS=8
	$(SIM) $(SIM_ARGS) --seconds $$(( $(or $(HOURS),8) * 3600 ))

sim-check: ## every run twice, byte for byte: SEED=… SECONDS=300
	$(SIM) $(SIM_ARGS) --twice --seconds $(SECONDS)
