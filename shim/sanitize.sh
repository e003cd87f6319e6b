#!/usr/bin/env bash
# Runs the shim's tests under AddressSanitizer, and its queue of events under loom. With --all also under
# ThreadSanitizer and, where the kernel is not needed, under Miri: these take a nightly toolchain with the components
# rust-src and miri, and some minutes.
set -eu -o pipefail
cd "$(dirname "$0")"
target=x86_64-unknown-linux-gnu
export HANDOFFS=${HANDOFFS:-5000}

step() {
  printf '\n== %s\n' "$1"
  shift
  "$@"
}

# The sanitizers' runtimes come with Rust's standard library; the flag that links them is all that is unstable.
step "AddressSanitizer" env RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=../target/asan \
  cargo test --locked --quiet --target "$target" --tests
step "loom" env RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=../target/loom \
  cargo test --locked --quiet --lib all_turns
if [ "${1:-}" = --all ]; then
  step "ThreadSanitizer" env RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR=../target/tsan \
    cargo +nightly test --locked --quiet -Zbuild-std --target "$target" --tests
  step "Miri" env CARGO_TARGET_DIR=../target/miri \
    cargo +nightly miri test --locked --quiet --lib -- one_thread framing records report registry
  step "Miri, the border" env CARGO_TARGET_DIR=../target/miri \
    cargo +nightly miri test --locked --quiet --lib -p streaming-daemon-border
fi
