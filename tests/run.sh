#!/bin/bash
# Checks everything: format, lints, licences and advisories, documentation, tests. Installs what the tests need first.
# Tests that miss something of the machine are skipped and named; with --strict one skip fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

strict=false
[[ ${1:-} == --strict ]] && strict=true

tests/install.sh
cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny

# Advisories need the database of known holes, which lives on GitHub: a machine cut off from it says so.
check_dependencies() {
    cargo deny --log-level error check bans licenses sources
    if cargo deny --log-level off fetch db 2>/dev/null; then
        cargo deny --log-level error check advisories
    else
        echo 'the advisory database is out of reach: advisories are not checked' >&2
    fi
}

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/tmp"
export PYZOR_TESTS_SKIPS
PYZOR_TESTS_SKIPS=$(realpath "$target/tmp")/skips
: >"$PYZOR_TESTS_SKIPS"

cargo fmt --all --check
cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
cargo clippy --quiet --workspace --all-targets -- -D warnings
cargo clippy --quiet --manifest-path tests/fuzz/Cargo.toml --target-dir "$target" --all-targets -- -D warnings
check_dependencies
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --document-private-items
cargo test --workspace --no-fail-fast

skipped=$(wc -l <"$PYZOR_TESTS_SKIPS")
if [[ $skipped -gt 0 ]]; then
    echo "$skipped skipped for what this machine lacks:" >&2
    cat "$PYZOR_TESTS_SKIPS" >&2
    ! $strict
fi
