# Names for commands; nothing is decided here. `make` alone says what there is.
#
# Every target builds the whole workspace: a part of it would select other features and compile RocksDB again.

CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)
# Outside the checkout, so that checkouts share it and a cleaned checkout keeps it.
export CARGO_TARGET_DIR ?= $(CACHE)/skep/target
BIN := $(CARGO_TARGET_DIR)/debug

# Hosts are network namespaces, so whatever runs hosts runs as root. Building never does.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
# The same for tests: built by you, each test program started through sudo.
TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
RUNNER = $(if $(AS_ROOT),CARGO_TARGET_$(TRIPLE)_RUNNER='sudo -E')

.PHONY: help setup build demo test check tidy fix bench bench-swarm bench-balanced chaos chaos-hosts fuzz clean-lab

help:
	@echo 'make demo        try Skep: three managers, three hosts, a stack (ONCE=1: show it and clean up)'
	@echo 'make test        all tests; those with real hosts need root and ask for it'
	@echo 'make check       what is checked without running tests: format, lints, rules of the repository'
	@echo 'make fix         repair what can be repaired by itself'
	@echo 'make bench       how fast it is, beside etcd 3.5.1 in the same run (QUICK=1: three minutes)'
	@echo 'make chaos       a million transactions while managers are killed; is any lost? (N=100000: fewer)'
	@echo 'make bench-swarm how long five hosts take to be a swarm, beside a script; needs root'
	@echo 'make bench-balanced  how many requests fail behind HAProxy while managers stop and die'
	@echo 'make chaos-hosts the leader killed at every step of every operation, with real engines; needs root'
	@echo 'make fuzz        is every answer of the API as described, whatever is asked? (MINUTES=15, with a token and without)'
	@echo 'make build       everything, into $(CARGO_TARGET_DIR)'
	@echo 'make clean-lab   remove what an interrupted demo or test has left behind'

setup:
	@deploy/setup.sh

build: setup
	cargo build --workspace --locked

demo: build
	@$(if $(AS_ROOT),echo 'The demo starts Docker engines in network namespaces: it runs as root.')
	$(AS_ROOT) $(BIN)/skep-demo $(if $(ONCE),--once)

# With the features that tests select, or everything would be built a second time.
test: setup
	cargo build --workspace --all-targets --locked
	@$(if $(AS_ROOT),echo 'Some tests run real hosts: the tests run as root.' && sudo -v)
	$(RUNNER) cargo $(if $(shell cargo nextest --version 2>/dev/null),nextest run,test) --workspace --locked

check: build tidy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

tidy: build
	$(BIN)/xtask tidy
	$(BIN)/xtask commands

fix: setup
	cargo fmt --all
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged

# Strace attaches to managers, which only root may do on most systems; everything else needs no root.
bench: setup
	cargo build --release --workspace --locked
	etcd=$$(deploy/etcd.sh '$(CACHE)/skep/etcd-3.5.1') && \
	'$(CARGO_TARGET_DIR)/release/skep-bench' --etcd "$$etcd" $(if $(QUICK),--quick)

chaos: setup
	cargo build --release --workspace --locked
	'$(CARGO_TARGET_DIR)/release/skep-bench' --chaos $(N)

bench-swarm: setup
	cargo build --release --workspace --locked
	$(AS_ROOT) '$(CARGO_TARGET_DIR)/release/skep-bench-swarm'

bench-balanced: setup
	cargo build --release --workspace --locked
	'$(CARGO_TARGET_DIR)/release/skep-bench-balanced'

# Needs Python; the fuzzer is kept in the cache.
fuzz: build
	deploy/fuzz/fuzz.sh '$(BIN)/skep' '$(CACHE)/skep/schemathesis' $(if $(MINUTES),$(MINUTES),15)

chaos-hosts: build
	@$(if $(AS_ROOT),echo 'It starts Docker engines in network namespaces: it runs as root.')
	$(AS_ROOT) $(BIN)/skep-chaos-hosts $(STAGES)

clean-lab: build
	for lab in demo end-to-end bad-input steps parts chaos-hosts bench-swarm; do $(AS_ROOT) $(BIN)/skep dev --clean --name $$lab; done
