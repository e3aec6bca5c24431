#!/usr/bin/env bash
# Measures what a request costs `loadgen blast` itself, beside a client that does nothing but sendmmsg and recvmmsg, both
# against the echo and interleaved: what is above 1 is what matching, timing and counting cost.
#
# Echo on core 0, client on core 1. The time counts in which the client had something to do; a client that waits for the
# echo looks for replies all the time, and that costs nobody anything.
set -euo pipefail

readonly echo_core=0 client_core=1 sockets=16 in_flight=256
arguments=${*:+$(printf '%q ' "$@")}
pairs=7 seconds=2 out=

usage() {
    echo "Usage: ops/generator-cost.sh [--pairs N] [--seconds S] [--out DIR (ops/runs/DATE-HOST-generator)]"
}

while [[ $# -gt 0 ]]; do
    case $1 in
    --pairs) pairs=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

cd "$(dirname "$0")/.."
source ops/run_folder.sh
cargo build --quiet --release -p loadgen
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
readonly loadgen=${CARGO_TARGET_DIR:-target}/release/loadgen
folder=$(mktemp -d)
echo_pid=''
trap 'if [[ -n $echo_pid ]]; then kill "$echo_pid" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT

"$loadgen" echo --core $echo_core >"$folder/echo" &
echo_pid=$!
until grep -q listening "$folder/echo"; do
    if ! kill -0 "$echo_pid" 2>/dev/null; then
        echo 'generator-cost.sh: the echo does not start' >&2
        exit 1
    fi
    sleep 0.1
done
target=$(sed -n 's/^listening on //p' "$folder/echo")
load=(--target "$target" --core $client_core --sockets $sockets --in-flight $in_flight --warmup 0.5 --duration "$seconds")

{
    describe_run "What a request costs \`loadgen blast\` itself," "ops/generator-cost.sh $arguments" "$load_before"
    printf '\nThe echo on core %s, the client on core %s; %s checks in flight on %s sockets, %s s a run; nanoseconds of the\n' \
        $echo_core $client_core $in_flight $sockets "$seconds"
    printf 'client'"'"'s time a request, beside a client that does nothing but sendmmsg and recvmmsg.\n\n```\n'
    printf '%6s%10s%10s%10s\n' pair bare blast ratio
    for ((pair = 1; pair <= pairs; pair++)); do
        bare=$("$loadgen" bare "${load[@]}" | sed 's/.*busy_ns_per_request //')
        "$loadgen" blast "${load[@]}" --quiet --json "$folder/blast.json"
        blast=$(python3 -c '
import json, sys
run = json.load(open(sys.argv[1]))
busy_s = run["window_s"] * (1 - run["generator_idle_share"])
print(busy_s * 1e9 / run["answered"])' "$folder/blast.json")
        awk -v pair="$pair" -v bare="$bare" -v blast="$blast" \
            'BEGIN { printf "%6d%10.0f%10.0f%10.3f\n", pair, bare, blast, blast / bare }'
    done | tee "$folder/pairs"
    sort -n -k4 "$folder/pairs" | awk '{ ratio[NR] = $4 } END {
        printf "median ratio %.3f (%.3f to %.3f)\n", (ratio[int((NR + 1) / 2)] + ratio[int(NR / 2) + 1]) / 2, ratio[1], ratio[NR] }'
    echo '```'
} | tee "$folder/report"

open_run_folder generator
cp "$folder/report" "$out/README.md"
printf '\n%s\n' "$out/README.md"
