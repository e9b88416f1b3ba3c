#!/usr/bin/env bash
# Fuzzes the Rust core (fuzz/, libFuzzer with AddressSanitizer), then the Python functions (tests/test_fuzz.py, new cases
# each time), for so many seconds each.
#
#   tools/fuzz.sh [seconds] [rust] [python]
#
# These are the flags of `cargo fuzz`, which needs not be installed (`cargo fuzz run calls` does the same); they are for
# nightly compilers, hence RUSTC_BOOTSTRAP, here and nowhere else. What is found is kept in fuzz/artifacts and printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
python=${PYTHON:-.venv/bin/python}
target=${CARGO_TARGET_DIR:-target}/fuzz

rust() {
    echo "==> fuzzing the Rust core for $seconds seconds"
    mkdir -p fuzz/corpus/calls fuzz/artifacts/calls
    RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=detect_leaks=0 RUSTFLAGS="-Zsanitizer=address --cfg fuzzing -Cpasses=sancov-module
        -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
        -Cllvm-args=-sanitizer-coverage-pc-table" \
        cargo run --release --manifest-path fuzz/Cargo.toml --target x86_64-unknown-linux-gnu --target-dir "$target" \
        --bin calls -- -max_total_time="$seconds" -max_len=4096 -len_control=20 -timeout=60 -print_final_stats=1 \
        -artifact_prefix=fuzz/artifacts/calls/ fuzz/corpus/calls
}

python() {
    echo "==> fuzzing the Python functions for $seconds seconds"
    local end=$((SECONDS + seconds)) rounds=0
    while ((SECONDS < end)); do
        HYPOTHESIS_PROFILE=fuzz "$python" -m pytest -q -x -p no:cacheprovider tests/test_fuzz.py
        rounds=$((rounds + 1))
    done
    echo "$rounds rounds, each with other cases"
}

[ $# -gt 1 ] || set -- "$seconds" rust python
for job in "${@:2}"; do
    "$job"
done
