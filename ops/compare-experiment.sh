#!/usr/bin/env bash
# How often `loadgen compare` is right: interleaved runs of the same server, and of one that is slower by a known share.
#
# Two echoes run side by side on core 0, load on core 1. One trial is PAIRS pairs of runs, one run of each side directly
# after the other, the order changing from pair to pair. In the first half of the trials both sides are the same program with
# the same artificial work; in the other half the second side does more of it (`loadgen echo --delay-us`), so that an
# answer costs SLOWER per cent more. Results go to ops/runs/DATE-HOST-compare/.
set -euo pipefail

readonly server_core=0 load_core=1
# The artificial work of both sides for each datagram, large beside what the echo itself takes and its noise.
readonly work_us=20

usage() {
    cat <<USAGE
Usage: ops/compare-experiment.sh [--quick] [--trials N] [--pairs N] [--seconds S] [--slower PERCENT] [--out DIR]

  --quick       one trial of each kind with the fewest pairs, results in a temporary folder: does it all work?
  --trials N    trials of each kind (40)
  --pairs N     pairs of runs in a trial (10; at least 8)
  --seconds S   how long each run measures (1.5)
  --slower P    by how many per cent the slower side is slower (10)
  --out DIR     where results go (ops/runs/DATE-HOST-compare)
USAGE
}

# echo_server DELAY_US: sets server_pid and server_address.
echo_server() {
    local attempt log
    log=$(mktemp "$scratch/echo.XXXXXX")
    "$loadgen" echo --core "$server_core" --delay-us "$1" >"$log" 2>&1 &
    server_pid=$!
    pids+=("$server_pid")
    for ((attempt = 0; attempt < 100; attempt++)); do
        if grep -q '^listening on ' "$log"; then break; fi
        sleep 0.05
    done
    server_address=$(awk '/^listening on / { print $3 }' "$log")
    if [[ -z $server_address ]]; then
        echo "compare-experiment.sh: the echo does not start:" >&2
        cat "$log" >&2
        exit 1
    fi
}

# Stops what this script started, and nothing else.
stop_servers() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    pids=()
}

clean_up() {
    stop_servers
    rm -rf "$scratch"
}

# run_once FILE PID ADDRESS
run_once() {
    "$loadgen" blast --quiet --core "$load_core" --warmup 0.2 --duration "$seconds" --interval 0.1 \
        --target "$3" --server-pid "$2" --json "$1"
}

# trial KIND NUMBER DELAY_US: compares an echo with one that works DELAY_US a datagram; one line of the table of verdicts.
trial() {
    local kind=$1 number=$2 folder=$scratch/$1.$2 pair status=0 overall
    mkdir "$folder"
    echo_server "$work_us"
    local first_pid=$server_pid first_address=$server_address
    echo_server "$3"
    local second_pid=$server_pid second_address=$server_address
    for ((pair = 1; pair <= pairs; pair++)); do
        if ((pair % 2)); then
            run_once "$folder/before.$pair.json" "$first_pid" "$first_address"
            run_once "$folder/after.$pair.json" "$second_pid" "$second_address"
        else
            run_once "$folder/after.$pair.json" "$second_pid" "$second_address"
            run_once "$folder/before.$pair.json" "$first_pid" "$first_address"
        fi
    done
    stop_servers
    "$loadgen" compare "$folder"/before.*.json --against "$folder"/after.*.json >"$out/$kind.$number.txt" || status=$?
    if ((status > 1)); then exit "$status"; fi
    overall=$(sed -n 's/^overall: \(.*\) (.*/\1/p' "$out/$kind.$number.txt")
    printf '%s %s: %s\n' "$kind" "$number" "$overall" | tee -a "$out/verdicts.txt"
    rm -r "$folder"
}

# verdicts KIND: how often each was given.
verdicts() {
    sed -n "s/^$1 [0-9]*: //p" "$out/verdicts.txt" | sort | uniq -c |
        awk '{ count = $1; $1 = ""; printf "%s%s %d times", separator, $0, count; separator = "," } END { print "" }'
}

write_readme() {
    {
        describe_run 'How often `loadgen compare` is right,' "ops/compare-experiment.sh $arguments" "$load_before"
        printf '\n%s trials of each kind; each trial is %s pairs of runs of %s s. Both sides are the echo with %s us of work a\n' \
            "$trials" "$pairs" "$seconds" "$work_us"
        printf 'datagram; in `slower`, the second side works so much longer that its answers cost %s %% more. Verdicts:\n\n' "$slower"
        printf -- '- `same`:%s\n- `slower`:%s\n\n' "$(verdicts same)" "$(verdicts slower)"
        printf 'The table of each trial is in KIND.NUMBER.txt.\n'
    } >"$out/README.md"
}

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ops/run_folder.sh"
arguments=${*:+$(printf '%q ' "$@")}
trials=40 pairs=10 seconds=1.5 slower=10 out='' quick=no
while (($#)); do
    case $1 in
    --quick) quick=yes trials=1 pairs=8 seconds=0.5 ;;
    --trials) trials=${2:?} && shift ;;
    --pairs) pairs=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --slower) slower=${2:?} && shift ;;
    --out) out=${2:?} && shift ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

cd "$root"
cargo build --release --locked -p loadgen
bin=${CARGO_TARGET_DIR:-$root/target}/release
loadgen=$bin/loadgen
open_run_folder compare
scratch=$(mktemp -d)
pids=()
trap clean_up EXIT
trap 'exit 130' INT TERM
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)

# What an answer costs before the slower side's share is added.
echo_server "$work_us"
run_once "$scratch/cost.json" "$server_pid" "$server_address"
stop_servers
cost_ns=$(sed -n 's/.*"cpu_ns_per_request": \([0-9.]*\).*/\1/p' "$scratch/cost.json" | head -n 1)
slower_us=$(awk -v work="$work_us" -v cost="$cost_ns" -v slower="$slower" \
    'BEGIN { printf "%.3f", work + cost * slower / 100000 }')
for ((number = 1; number <= trials; number++)); do
    trial same "$number" "$work_us"
    trial slower "$number" "$slower_us"
done
write_readme
printf '\n%s\n' "$out/README.md"
