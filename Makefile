# Verbs of this repository; `make` alone lists them.
#
# All Python tools live in .venv and are called as `.venv/bin/python -m TOOL`: nothing has to be activated, and the
# `#!` lines inside .venv/bin, which hold absolute paths, are never used.
#
# What has been done is remembered by files named after the *content* of what it was done from (.venv/stamps/NAME-SUM).
# Time stamps would miss a deleted file and an older file laid back by `git checkout` or an archive.
#
# The package is tested and demonstrated as a built wheel, not by `maturin develop`: it is what a user installs; no
# shared library is left among the sources, to be imported stale by another interpreter; and `maturin build` does not
# look at VIRTUAL_ENV and CONDA_PREFIX, where `develop` refuses to run if both are set.
#
# Options: PYTHON=python3.13 picks the interpreter that .venv is made from; ARGS="..." is handed to the program (of the
# demo, to its first job, TRAIN="..." to the second).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.PHONY: help demo test test-rust test-python test-aarch64 test-old-cpus golden check check-rust check-python check-docs bench bench-compare bench-proof dashboard chart instructions instructions-update docs figures exhaustive endurance stress asan fuzz long supply-chain wheel wheel-manylinux fmt clean rust ready-wheel ready-package FORCE

# What an outer environment may set and what would lead another Python, or pip, elsewhere.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# For clippy and rustdoc; maturin sets its own.
export PYO3_PYTHON := $(CURDIR)/.venv/bin/python

PY := .venv/bin/python
# In CI the committed Cargo.lock must be complete; at home cargo may bring it up to date after a change of Cargo.toml.
LOCKED := $(if $(CI),--locked)
# A checksum of all the files below the given places.
sum = $(shell find $(1) -type f ! -name '*.pyc' ! -name '*.so' -exec cksum {} + 2>/dev/null | LC_ALL=C sort | cksum | tr ' ' -)
GROUPS_SUM := $(call sum,pyproject.toml)
SOURCES_SUM := $(call sum,Cargo.toml Cargo.lock pyproject.toml README.md LICENSE-MIT LICENSE-APACHE python rust)
WHEEL := .venv/stamps/wheel-$(SOURCES_SUM)
PACKAGE := .venv/stamps/package-$(SOURCES_SUM)
group = .venv/stamps/group-$(1)-$(GROUPS_SUM)
DASHBOARD := .venv/stamps/dashboard-$(GROUPS_SUM)
# What a wheel depends on besides its sources: the paths of its builder (in the messages of panics) and the time.
REPRODUCIBLE = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 946684800) \
	RUSTFLAGS="--remap-path-prefix=$(CURDIR)=/softmax-rs --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo"
# As many processes as CPUs, but four at most: some tests take gigabytes.
PARALLEL := --numprocesses=logical --maxprocesses=4 --dist=worksteal
# The first CPU that this process may use.
PINNED := $(if $(shell command -v taskset),taskset -c $(shell taskset -cp $$$$ | sed 's/.*: *\([0-9]*\).*/\1/'))

help: ## list the verbs
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-26s %s\n", $$1, $$2 }'

# The wheel is built on all CPUs while pip fetches what the jobs need.
demo: $(call group,build) | rust ## build, classify 600 real files (ARGS="FOLDER --top 3" for others), train a classifier (TRAIN="--newton")
	@$(MAKE) --no-print-directory ready-wheel & wheel=$$!; \
		$(MAKE) --no-print-directory ready-demo; group=$$?; wait $$wheel && exit $$group
	@$(MAKE) --no-print-directory ready-package
	@echo '==> job 1 of 2: what kind of file is it? The softmax of a real network, over real files'
	$(PY) examples/classify_files.py $(or $(ARGS),--limit 600)
	@echo '==> job 2 of 2: which digit is it? Cross entropy and its gradient, to train on real images'
	$(PY) examples/train_digits.py $(TRAIN)

# The Rust tests take the core as the wheel has it: built once, on all CPUs, while pip fetches what the Python tests need.
test: .venv/home | rust ## run the Rust and the Python tests (ARGS="-k name" goes to pytest)
	@echo '==> building the core in release mode, and the Rust tests (the first time some minutes)'
	@cargo test --quiet --release --no-run $(LOCKED) -p softmax-core & tests=$$!; \
		$(MAKE) --no-print-directory ready-test; group=$$?; wait $$tests && exit $$group
	@$(MAKE) --no-print-directory ready-package
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-python

test-rust: | rust
	@echo '==> Rust tests'
	cargo test --release $(LOCKED) -p softmax-core

test-python: $(call group,test) $(DASHBOARD) $(PACKAGE)
	@echo '==> Python tests'
	$(PY) -m pytest $(PARALLEL) $(ARGS)

test-aarch64: | rust ## the Rust tests on aarch64 (NEON), emulated (INSTALL=1 installs what that needs); minutes
	tools/other_cpus.sh aarch64

test-old-cpus: | rust ## the Rust tests on x86-64 CPUs without AVX-512 and without AVX, emulated; minutes
	tools/other_cpus.sh x86_64

golden: $(call group,test) $(PACKAGE) ## write the golden bits anew, after a change that was meant to change them
	SOFTMAX_RS_GOLDEN=write cargo test --release $(LOCKED) -p softmax-core --test golden
	SOFTMAX_RS_GOLDEN=write $(PY) -m pytest -q tests/test_golden.py

check: check-rust check-python check-docs ## formats, lints, types, stubs, docs: all that needs no test run

check-rust: .venv/home | rust
	@echo '==> Rust: format, lints, docs'
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc $(LOCKED) --workspace --no-deps --document-private-items

check-python: $(call group,check) $(PACKAGE)
	@echo '==> Python: format, lints, types, stubs'
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(PY) -m mypy
	$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml softmax_rs

check-docs: $(call group,docs) $(PACKAGE)
	@echo '==> docs'
	$(PY) -m sphinx -q -W --keep-going -n -E -b html docs docs/_build/html

bench: $(call group,bench) $(PACKAGE) ## compare with other libraries on one pinned CPU (ARGS="--ops softmax --shapes 1x10")
	$(PINNED) $(PY) benches/rivals.py $(ARGS)

bench-compare: $(call group,bench) | rust ## is HEAD slower than another commit? (BASE=main, ARGS="--bench overhead"); a quarter of an hour
	$(PY) benches/compare.py $(BASE) $(ARGS)

bench-proof: $(call group,bench) | rust ## plants a slowdown in a scratch clone: bench-compare must see it (minutes)
	$(PY) benches/proof.py

dashboard: $(call group,bench) $(DASHBOARD) | rust ## measure the last commits (ARGS="--commits 3") and lay asv's page into .asv/html
	$(PY) benches/dashboard.py $(ARGS)

chart: $(call group,bench) $(PACKAGE) ## run the comparison and draw the chart of the README from it
	$(PINNED) $(PY) benches/rivals.py --chart --json docs/speed.json $(ARGS)
	$(PY) benches/chart.py

instructions: $(call group,test) $(PACKAGE) ## count instructions with valgrind; more than 2 % off benches/instructions.toml is a failure
	$(PY) benches/instructions.py

instructions-update: $(call group,test) $(PACKAGE) ## write the counts of this tree to benches/instructions.toml
	$(PY) benches/instructions.py --update

docs: check-docs ## build the documentation into docs/_build/html
	@echo 'docs/_build/html/index.html'

figures: $(call group,figures) $(PACKAGE) ## draw the figures of the documentation anew, into docs/figures
	$(PY) docs/figures.py

exhaustive: | rust ## check exp on every float32 of its range: minutes
	cargo test --release $(LOCKED) -p softmax-core --test codegen --test exhaustive -- --include-ignored --nocapture --test-threads=1

endurance: $(call group,test) $(PACKAGE) ## the tests of the process at full length (1000 forks, 10^7 calls): a quarter of an hour
	HYPOTHESIS_PROFILE=long $(PY) -m pytest -s tests/test_fork.py tests/test_process.py tests/test_signals.py tests/test_memory_limits.py $(ARGS)

stress: $(call group,test) $(PACKAGE) ## 16 Python threads, mixed calls, every result compared (SECONDS=60, ARGS="--threads 4")
	$(PY) benches/stress.py --seconds $(or $(SECONDS),60) $(ARGS)

supply-chain: $(call group,build) | rust ## licences and sources of dependencies, a build without network, two equal wheels: minutes
	.ci/supply-chain

asan: $(call group,test) | rust ## run the tests about memory with AddressSanitizer and debug assertions; 25 minutes, with a build of its own
	tools/asan.sh

fuzz: $(call group,test) $(PACKAGE) | rust ## fuzz the Rust core, then the Python functions, for SECONDS=60 each
	tools/fuzz.sh $(or $(SECONDS),60)

long: $(call group,test) $(PACKAGE) ## the Python tests that draw at random, with ten to hundred times the cases; hours
	HYPOTHESIS_PROFILE=long $(PY) -m pytest $(PARALLEL) $(or $(ARGS),tests/test_views.py tests/test_out.py tests/test_mutation.py tests/test_huge.py tests/test_properties.py tests/test_fuzz.py)

wheel: $(call group,build) | rust ## build a release wheel and the source distribution into dist/
	rm -rf dist
	$(REPRODUCIBLE) $(PY) -m maturin build --release $(LOCKED) --compression-level 9 --interpreter $(PY) --sdist --out dist

wheel-manylinux: $(call group,release) | rust ## build a release wheel for every Linux with glibc >= 2.17 into dist/, with zig as the linker
	rm -rf dist
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(REPRODUCIBLE) $(PY) -m maturin build --release --locked --compression-level 9 --interpreter $(PY) --zig --compatibility manylinux2014 --out dist

fmt: $(call group,check) | rust ## format all sources
	cargo fmt --all
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

clean: ## remove all that make made, .venv included
	rm -rf .asv .venv dist docs/_build docs/reference fuzz/artifacts fuzz/corpus .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	@if command -v cargo >/dev/null; then cargo clean; fi

rust:
	@command -v cargo >/dev/null || { echo >&2 'error: cargo is not on PATH. A Rust toolchain (see rust-version in Cargo.toml) must be installed.'; exit 1; }

# The same to ask for by name: without the line that all is up to date, where it is.
ready-wheel: $(WHEEL)
	@:
ready-package: $(PACKAGE)
	@:
ready-%: .venv/stamps/group-%-$(GROUPS_SUM)
	@:

$(WHEEL): $(call group,build) | rust
	@echo '==> building softmax-rs in release mode (the first time some minutes)'
	@rm -rf .venv/wheel .venv/stamps/wheel-*
	$(PY) -m maturin build --release $(LOCKED) --interpreter $(PY) --out .venv/wheel
	@touch $@

$(PACKAGE): $(WHEEL)
	@echo '==> installing it into .venv'
	@rm -f .venv/stamps/package-*
	@$(PY) -m pip uninstall -qq -y softmax-rs 2>/dev/null
	@$(PY) -m pip install -q .venv/wheel/softmax_rs-*.whl
	@touch $@

.venv/stamps/group-%-$(GROUPS_SUM): .venv/home
	@echo '==> installing what `$*` needs: the group of that name in pyproject.toml (the first time up to a minute)'
	@$(PY) -m pip install -q --group $*
	@rm -f .venv/stamps/group-$*-*
	@touch $@

# Not among the packages of .venv: only their files are wanted, and they would bring a web framework.
$(DASHBOARD): .venv/home
	@echo '==> fetching the scripts of the page of benchmarks'
	@rm -rf .venv/dashboard .venv/stamps/dashboard-*
	@$(PY) -m pip install -q --no-deps --target .venv/dashboard --group dashboard
	@touch $@

# A virtual environment does not survive a move of its folder, nor the removal of the interpreter it was made from:
# .venv/home holds where it was made, and counts as out of date if that is not here or if its Python does not start.
ifneq ($(shell [ "$$(cat .venv/home 2>/dev/null)" = "$(CURDIR)" ] && $(PY) -I -c '' 2>/dev/null && echo good),good)
.venv/home: FORCE
endif
.venv/home:
	@python=$$(for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	    "$$python" -I -c 'import sys, ensurepip, venv; sys.version_info >= (3, 11) or sys.exit(1); print(sys._base_executable)' 2>/dev/null && break; \
	done); \
	if [ -z "$$python" ]; then \
	    echo >&2 'error: no Python >= 3.11 with the venv module among: $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)'; \
	    echo >&2 '       (on Debian and Ubuntu venv is a package of its own, python3-venv); PYTHON=/path/to/python picks one.'; exit 1; \
	fi; \
	echo "==> making .venv with $$python"; rm -rf .venv && "$$python" -I -m venv .venv
	@$(PY) -m pip install -q --upgrade 'pip>=25.1'
	@mkdir .venv/stamps
	@echo "$(CURDIR)" > $@
FORCE:
