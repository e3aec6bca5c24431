#!/bin/bash
# Checks everything: format, lints, licences and advisories, documentation, tests. Installs what the tests need first.
# Tests that miss something of the machine are skipped and named; with --strict one skip fails the run. Advisories that
# cannot be fetched are named beside them and fail nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

strict=false
[[ ${1:-} == --strict ]] && strict=true

tests/install.sh
cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny

# Advisories need the database of known holes, which lives on GitHub.
unchecked='checked: advisories of dependencies'
check_dependencies() {
    cargo deny --log-level error check bans licenses sources
    if cargo deny --log-level off fetch db 2>/dev/null; then
        cargo deny --log-level error check advisories
    else
        unchecked='not checked: advisories of dependencies, because their database is out of reach'
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

# What has to be known of the run comes last, whether it failed or not: what it left out, and how each test program ended.
results=$target/tmp/results
: >"$results"
passed=true
cargo test --workspace --no-fail-fast 2>&1 | awk -v results="$results" '
    /^ +(Running|Doc-tests) / { print >results }
    /^test result:/ { print >results; next }
    { print; fflush() }' || passed=false
skipped=$(wc -l <"$PYZOR_TESTS_SKIPS")
if [[ $skipped -gt 0 ]]; then
    echo "$skipped skipped for what this machine lacks:" >&2
    cat "$PYZOR_TESTS_SKIPS" >&2
    if $strict; then
        passed=false
    fi
fi
echo "$unchecked" >&2
cat "$results"
$passed
