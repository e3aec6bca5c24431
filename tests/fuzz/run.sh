#!/bin/bash
# Fuzzes every target, or those named, for so many seconds each: tests/fuzz/run.sh 60 [target …]
# Needs cargo-fuzz and the nightly toolchain; the target digest, what tests/install.sh installs.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: run.sh SECONDS [TARGET …]}
shift
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir . | grep -vx seeds)
fi

cargo run --quiet --bin seeds
for target in "${targets[@]}"; do
    echo "== $target"
    # What a program of ours prints is nothing to look at.
    silence=0
    [[ $target == trace || $target == result ]] && silence=3
    # A difference in digests is made small before it is reported.
    timeout=10
    [[ $target == digest ]] && timeout=60
    cargo +nightly fuzz run --fuzz-dir . "$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout="$timeout" -rss_limit_mb=4096 -print_final_stats=1 -close_fd_mask="$silence"
done
