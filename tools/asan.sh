#!/usr/bin/env bash
# Runs the Rust tests, and those Python tests that are about memory, with AddressSanitizer: it watches each load and
# store of compiled Rust code, on the heap, the stack and in globals, where guard pages watch the ends of a few arrays.
#
#   tools/asan.sh [rust] [python]
#
# Beside Rust it needs gcc (its libasan stands in for Rust's own runtime inside Python) and the `test` packages in
# .venv. -Zsanitizer is for nightly compilers, hence RUSTC_BOOTSTRAP, here and nowhere else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=x86_64-unknown-linux-gnu
python=${PYTHON:-.venv/bin/python}
target=${CARGO_TARGET_DIR:-target}/asan
# What is about memory: layouts, out, overlap, other threads, targets, all dtypes; and a bit of everything else.
tests=(
    tests/test_cross_entropy.py tests/test_derivatives.py tests/test_dtypes.py tests/test_inputs.py
    tests/test_layouts.py tests/test_mutation.py tests/test_out.py tests/test_product.py tests/test_special_values.py
    tests/test_target_bounds.py tests/test_two_arrays.py tests/test_untouched.py tests/test_views.py tests/test_where.py
)
# Half of what these would take under the sanitizer is mpmath and SciPy, which have nothing to do with memory.
unwanted='not slow and not accuracy and not numeric_derivative and not hard_rows and not long_rows'

export RUSTC_BOOTSTRAP=1
export RUSTFLAGS=-Zsanitizer=address
# Leaks are not looked for: Python keeps much until it ends, and so does our thread pool.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:strict_string_checks=1:detect_stack_use_after_return=1
# The release profile, but built quickly, with lines in the reports, and with the assertions that it is without.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=2
export CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=line-tables-only

cargo_() {
    cargo "$1" --release --target "$host" --target-dir "$target" "${@:2}"
}

rust() {
    echo '==> AddressSanitizer: Rust tests'
    cargo_ test -p softmax-core --test guard --test agreement -- --nocapture "$@"
}

build_python() {
    PYO3_BUILD_EXTENSION_MODULE=1 cargo_ build -p softmax-python
    rm -rf "$target/site"
    mkdir -p "$target/site"
    cp -r python/softmax_rs "$target/site"
    cp "$target/$host/release/lib_softmax_rs.so" "$target/site/softmax_rs/_softmax_rs.abi3.so"
}

# Python itself is not instrumented, so the runtime has to be there before it. (--capture=sys leaves standard error to it:
# a report is followed by the end of the process.)
python_() {
    PYTHONPATH=$target/site LD_PRELOAD=$(gcc -print-file-name=libasan.so) "$python" "$@"
}

python() {
    echo '==> AddressSanitizer: Python tests about memory'
    build_python
    python_ -c "import softmax_rs; assert 'asan' in softmax_rs.__file__, softmax_rs.__file__; print(softmax_rs.__file__)"
    python_ -m pytest -p no:cacheprovider --capture=sys -q --numprocesses=logical --maxprocesses=4 --dist=worksteal \
        "${tests[@]}" -k "$unwanted" "$@"
}

[ $# -gt 0 ] || set -- rust python
for job in "$@"; do
    "$job"
done
