#!/usr/bin/env bash
# The Rust tests on CPUs that are not this one, in qemu's user mode:
#
#   tools/other_cpus.sh aarch64   NEON                                                  (make test-aarch64)
#   tools/other_cpus.sh x86_64    Nehalem (no AVX: portable) and Haswell (AVX2)         (make test-old-cpus)
#
# What is missing is installed if CI is set or INSTALL=1 (Debian and its like, as root). Where it cannot be had, one line
# says NOT RUN and why; that is a failure, except in CI, which
# only reports it: a registry that cannot be reached is no defect of this project.
#
# qemu cannot run AVX-512. An emulator is some fifty times slower than a CPU: all functions, dtypes and tests run, with a
# share of their cases (SOFTMAX_RS_TEST_SHARE in rust/core/tests/common).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TESTS=(
    --test levels --test golden --test mode --test agreement --test accuracy --test elementary --
    # Large arrays: golden has long rows of every function, mode shares every function's work among threads.
    --skip long_rows --skip long_special_rows --skip threads_change_no_bit
)
readonly ARM=aarch64-unknown-linux-gnu
readonly ARM_GCC=aarch64-linux-gnu-gcc
# What a program is linked with, from the cross compiler's packages; and what it runs with, from the architecture's own: the
# former's C library (2.36-8) hangs under qemu 7.2 as soon as a thread is made.
readonly ARM_OBJECT=/usr/aarch64-linux-gnu/lib/Scrt1.o ARM_LOADER=/lib/ld-linux-aarch64.so.1
locked=()
[ -z "${CI:-}" ] || locked=(--locked)

not_run() {
    echo "NOT RUN: the tests on $1: $2"
    if [ -n "${CI:-}" ]; then exit 0; else exit 1; fi
}

# install WHAT PACKAGE...
install() {
    local what=$1
    shift
    if [ -z "${CI:-}${INSTALL:-}" ]; then
        not_run "$what" "something is missing. INSTALL=1 installs: $*"
    elif ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        not_run "$what" "something is missing, and here is no apt-get and root to install it: $*"
    fi
    echo "==> installing $*"
    if [[ $* == *:arm64* ]]; then dpkg --add-architecture arm64; fi
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >/dev/null 2>&1; then
        not_run "$what" "apt-get cannot install $*"
    fi
}

# A compiler that has the standard library for the target: that of rustup (`rustup target add`), or Debian's.
arm_rustc() {
    local rustc
    for rustc in "${RUSTC:-rustc}" /usr/bin/rustc; do
        if compgen -G "$("$rustc" --print target-libdir --target $ARM 2>/dev/null)/libstd-*.rlib" >/dev/null; then
            echo "$rustc"
            return
        fi
    done
}

has_arm() {
    [ -n "$(arm_rustc)" ] && command -v $ARM_GCC >/dev/null && command -v qemu-aarch64 >/dev/null &&
        [ -e $ARM_OBJECT ] && [ -e $ARM_LOADER ]
}

aarch64() {
    # rustc-web: Debian's newest compiler, kept current in the stable releases for its browsers.
    has_arm || install 'aarch64 (NEON)' rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
        qemu-user libc6:arm64 libgcc-s1:arm64
    has_arm || not_run 'aarch64 (NEON)' 'there is no Rust standard library, linker or emulator for it'
    # A target folder of its own: another compiler would have all else built anew.
    export RUSTC CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/other-cpus
    RUSTC=$(arm_rustc)
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$ARM_GCC
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /"
    echo "==> Rust tests on aarch64 (NEON), emulated; $("$RUSTC" --version)"
    SOFTMAX_RS_TEST_LEVELS=portable,neon cargo test "${locked[@]}" -p softmax-core --target $ARM "${TESTS[@]}"
}

x86_64() {
    [ "$(uname -m)" = x86_64 ] || not_run 'older x86-64 CPUs' "this machine is $(uname -m)"
    command -v qemu-x86_64 >/dev/null || install 'older x86-64 CPUs' qemu-user
    local cpu levels
    for cpu in Nehalem:portable Haswell:portable,avx2; do
        levels=${cpu#*:} cpu=${cpu%:*}
        # qemu knows AVX2 since 7.2; before, it warns and leaves it out.
        if qemu-x86_64 -cpu "$cpu" /bin/true 2>&1 | grep "doesn't support.*avx2" >/dev/null; then
            not_run "$cpu" "$(qemu-x86_64 --version | sed -n 1p) has no AVX2"
        fi
        echo "==> Rust tests on $cpu ($levels), emulated"
        CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu $cpu" SOFTMAX_RS_TEST_LEVELS=$levels \
            cargo test "${locked[@]}" -p softmax-core "${TESTS[@]}"
    done
}

export SOFTMAX_RS_TEST_SHARE=${SOFTMAX_RS_TEST_SHARE:-16}
unset SOFTMAX_RS_SIMD
case ${1:-} in
aarch64) aarch64 ;;
x86_64) x86_64 ;;
*)
    echo >&2 "usage: $0 aarch64|x86_64"
    exit 2
    ;;
esac
