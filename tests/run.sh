#!/bin/bash
# Checks everything: format, lints, licences and advisories, documentation, tests. Installs what the tests need first.
# Tests that miss something of the machine are skipped and named; with --strict one skip fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

strict=false
[[ ${1:-} == --strict ]] && strict=true

tests/install.sh
cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/tmp"
export PYZOR_TESTS_SKIPS
PYZOR_TESTS_SKIPS=$(realpath "$target/tmp")/skips
: >"$PYZOR_TESTS_SKIPS"

cargo fmt --all --check
cargo clippy --quiet --workspace --all-targets -- -D warnings
cargo deny --log-level error check
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --document-private-items
cargo test --workspace

skipped=$(wc -l <"$PYZOR_TESTS_SKIPS")
if [[ $skipped -gt 0 ]]; then
    echo "$skipped skipped for what this machine lacks:" >&2
    cat "$PYZOR_TESTS_SKIPS" >&2
    ! $strict
fi
