#!/usr/bin/env bash
# Measures what an answer costs pyzord in CPU time, beside the echo floor in the same run.
#
# Server on core 0, load on core 1. Each scenario starts a base and a subject, then runs them in interleaved pairs and
# compares pair by pair: absolute numbers drift with the machine, ratios do not. Two scenarios are no pairs: where the
# worker's time goes (profile), and what else it gets done while it is saturated. Results go to ops/runs/DATE-HOST/.
set -euo pipefail

readonly server_core=0 load_core=1
readonly all_scenarios=(
    hot-check unknown-check ping
    hot-check-wildcard unknown-check-wildcard ping-wildcard
    hot-check-usage-log hot-check-recording hot-check-mmsg
    report-zipf report-distinct
    ring-alone tokio-uring-16 tokio-uring-64 tokio-uring-256 two-workers
    profile saturation slow-disk
)
# With --old: another build of pyzord is the base.
readonly old_scenarios=(old-hot-check old-unknown-check old-report-zipf old-report-distinct)
# Longer than pyzord lets a change wait for its fold.
readonly fold_at_most_s=90
readonly profile_s=3 profile_hz=4000 profile_symbols=25
# How long a sync takes at least on the slow disk, and how often its only digest is checked and reported.
readonly slow_sync_ms=20 slow_checks=2000 slow_reports=500 slow_disk_s=10

usage() {
    cat <<USAGE
Usage: ops/bench.sh [--quick] [--pairs N] [--seconds S] [--rounds N] [--out DIR] [SCENARIO...]

  --quick      one short pair of each scenario, results in a temporary folder: does it all work?
  --pairs N    pairs of runs for each scenario (21); 6 are the fewest that give the ratio a confidence interval
  --seconds S  how long each run measures (0.5): many short pairs say more than few long ones
  --rounds N   rounds of the scenario saturation (20)
  --old FILE   compare with this other build of pyzord: scenarios ${old_scenarios[*]}
  --out DIR    where results go (ops/runs/DATE-HOST)

Scenarios (all of them unless named):
$(printf '%s ' "${all_scenarios[@]}" | fold -s -w 100 | sed 's/^/  /; s/ $//')

All of them take about 12 minutes once everything is built. The machine should do nothing else: see that the load average
in the README that is written is small.
USAGE
}

# What a scenario of pairs compares: sets base and subject (a server function and its arguments), what each is asked, whether
# the known digests are reported first, and a line that says it all. The floor is always asked checks or pings: a
# report's Thread lies behind the 84 bytes that the echo returns.
define() {
    local floor=(echo_server) given=(pyzord 127.0.0.1 --workers 1) wildcard=(pyzord 0.0.0.0 --workers 1)
    base=("${floor[@]}") subject=("${given[@]}")
    base_ask=(--op check) ask=(--op check) preload=yes
    case $1 in
    hot-check)
        about="checks of 10,000 known digests (Zipf 1), on a given address" ;;
    unknown-check)
        ask=(--op check --unknown-share 1)
        about="checks of digests nobody reported" ;;
    ping)
        base_ask=(--op ping) ask=(--op ping) preload=no
        about="pings" ;;
    hot-check-wildcard | unknown-check-wildcard | ping-wildcard)
        define "${1%-wildcard}"
        subject=("${wildcard[@]}")
        about+="; pyzord on the wildcard address" ;;
    hot-check-usage-log)
        subject+=(--usage-log-file usage.log)
        about="hot-check with the usage log on" ;;
    hot-check-recording)
        base=("${given[@]}") subject+=(--record record.pcap --record-max-bytes 64M)
        about="hot-check while every request is recorded to a disk; the base is pyzord without" ;;
    hot-check-mmsg)
        subject+=(--io mmsg)
        about="hot-check without io_uring" ;;
    report-zipf)
        ask=(--op report)
        about="durable reports of 10,000 digests (Zipf 1), one digest each; p99 is of the acknowledgement" ;;
    report-distinct)
        ask=(--op report --distinct) preload=no
        about="durable reports, every digest different" ;;
    ring-alone)
        subject=(example hosted_ring_echo) preload=no
        about="an echo of 84 bytes on pyzord's datapath" ;;
    tokio-uring-16 | tokio-uring-64 | tokio-uring-256)
        local in_flight=${1##*-}
        base=(example tokio_uring_echo) subject=(example hosted_ring_echo) preload=no
        base_ask=(--op check --in-flight "$in_flight") ask=("${base_ask[@]}")
        about="two echoes of 84 bytes, $in_flight requests in flight; the base is on tokio_uring's own UdpSocket, "
        about+="the subject on pyzord's datapath" ;;
    two-workers)
        base=("${given[@]}") subject=(pyzord 127.0.0.1 --workers 2)
        base_ask=(--op check --sockets 64) ask=("${base_ask[@]}")
        about="hot-check on 64 sockets; the base is pyzord with 1 worker, the subject with 2 (the second shares the load's core)" ;;
    old-*)
        define "${1#old-}"
        base=(old_pyzord 127.0.0.1 --workers 1) base_ask=("${ask[@]}")
        about+="; the base is the older build" ;;
    slow-disk)
        about="checks of one digest, alone and while it is reported all the time, on a disk whose sync takes $slow_sync_ms ms" ;;
    profile)
        about="where the worker's time goes under hot-check, by perf" ;;
    saturation)
        about="what else the only worker gets done under hot-check with 512 requests in flight" ;;
    *)
        echo "bench.sh: no such scenario: $1" >&2
        exit 2 ;;
    esac
}

# Each server function starts a server and sets server_pid and server_address.

echo_server() {
    "$loadgen" echo --core "$server_core" >"$scratch/echo.log" 2>&1 &
    started "$scratch/echo.log"
    server_address=$(printed_address "$scratch/echo.log")
}

# example NAME: one of server/examples
example() {
    taskset -c "$server_core" "$bin/examples/$1" 127.0.0.1:0 >"$scratch/$1.log" 2>&1 &
    started "$scratch/$1.log"
    server_address=$(printed_address "$scratch/$1.log")
}

# pyzord ADDRESS --workers N [ARGUMENT...]
pyzord() {
    local address=$1 workers=$3 home port cores=$server_core
    home=$(mktemp -d "$scratch/home.XXXXXX")
    port=$((20000 + RANDOM % 10000))
    if ((workers > 1)); then cores=$server_core,$load_core; fi
    shift
    server_home=$home
    taskset -c "$cores" "$bin/pyzord" --homedir "$home" -a "$address" -p "$port" --log-file "$home/pyzord.log" "$@" \
        >"$home.log" 2>&1 &
    started "$home.log"
    server_address=127.0.0.1:$port
}

# old_pyzord ADDRESS --workers N [ARGUMENT...]
old_pyzord() {
    local bin=$scratch/old
    pyzord "$@"
}

started() {
    server_pid=$! server_log=$1
    pids+=("$server_pid")
}

# The address in "listening on ADDRESS …", once it is printed.
printed_address() {
    local attempt
    for ((attempt = 0; attempt < 100; attempt++)); do
        if grep -q '^listening on ' "$1"; then
            awk '/^listening on / { print $3 }' "$1"
            return
        fi
        sleep 0.05
    done
}

# Waits until the server just started answers a ping.
await_server() {
    local deadline=$((SECONDS + 20))
    while ((SECONDS < deadline)); do
        if "$loadgen" blast --target "$server_address" --op ping --in-flight 1 --warmup 0 --duration 0.01 \
            >"$scratch/await.log" 2>&1; then
            return
        fi
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "bench.sh: a server of $scenario does not answer:" >&2
    tail -n 5 "$server_log" "$scratch/await.log" >&2
    exit 1
}

# Stops what this script started, and nothing else.
stop_servers() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        local deadline=$((SECONDS + 10))
        while kill -0 "$pid" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.02; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}

clean_up() {
    stop_servers
    rm -rf "$scratch"
}

blast() {
    "$loadgen" blast --core "$load_core" --warmup "$warmup" --duration "$seconds" "$@"
}

run_scenario() {
    scenario=$1
    define "$scenario"
    printf '%s: %s\n' "$scenario" "$about"
    printf -- '- `%s`: %s.\n' "$scenario" "$about" >>"$scratch/legend"
    case $scenario in
    profile) profile ;;
    saturation) saturation ;;
    slow-disk) slow_disk ;;
    *) run_pairs ;;
    esac
}

run_pairs() {
    "${base[@]}"
    await_server
    local base_run=(--target "$server_address" --server-pid "$server_pid" "${base_ask[@]}")
    "${subject[@]}"
    await_server
    local subject_run=(--target "$server_address" --server-pid "$server_pid" "${ask[@]}")
    if [[ $preload == yes ]]; then
        blast "${subject_run[@]}" --preload --quiet
        if [[ ${base[0]} == *pyzord ]]; then blast "${base_run[@]}" --preload --quiet; fi
        # Let the store settle: folding what was reported is not what is measured.
        sleep 1
    fi
    local pair
    for ((pair = 1; pair <= pairs; pair++)); do
        if ((pair % 2)); then
            run_once base "$pair" "${base_run[@]}"
            run_once subject "$pair" "${subject_run[@]}"
        else
            run_once subject "$pair" "${subject_run[@]}"
            run_once base "$pair" "${base_run[@]}"
        fi
    done
    if [[ $scenario == report-* && $quick == no ]]; then whole_cost; fi
    if [[ $scenario == *-recording ]]; then recorded; fi
    stop_servers
}

# run_once ROLE PAIR ARGUMENT...; fresh digests must differ from run to run, known ones must not. A run that fails is made
# once more, which the README says: else one hiccup of the machine costs all that was measured before.
run_once() {
    local role=$1 pair=$2 seed=1
    shift 2
    if [[ $preload == no ]]; then seed=$pair; fi
    local run=(blast "$@" --seed "$seed" --json "$out/$scenario.$role.$pair.json")
    if ! "${run[@]}" >"$scratch/run.txt" 2>"$scratch/run.err"; then
        printf '  %s again: %s\n' "$role" "$(tail -n 1 "$scratch/run.err")"
        printf -- '- made again: run %s of the %s of `%s`: %s\n' "$pair" "$role" "$scenario" "$(tail -n 1 "$scratch/run.err")" \
            >>"$scratch/again"
        sleep 1
        if ! "${run[@]}" >"$scratch/run.txt" 2>"$scratch/run.err"; then
            tail -n 5 "$scratch/run.err" "$server_log" >&2
            exit 1
        fi
    fi
    awk -v role="$role" '/^(rate|server) / { print "  " role "  " $0 }' "$scratch/run.txt"
}

# What a report has cost when it is folded, too: folding goes on between the runs of the pairs, where nothing is measured.
whole_cost() {
    local reports cpu_ns deadline=$((SECONDS + fold_at_most_s)) unfolded=1
    while ((unfolded > 0)); do
        if ((SECONDS > deadline)); then
            echo "bench.sh: pyzord does not fold its journal" >&2
            exit 1
        fi
        sleep 1
        kill -USR1 "$server_pid"
        sleep 0.1
        unfolded=$(sed -n 's/.*store: .* unfolded_changes=\([0-9]*\).*/\1/p' "$server_home/pyzord.log" | tail -n 1)
        # The log is written by a thread that comes last.
        unfolded=${unfolded:-1}
    done
    reports=$(sed -n 's/.*so far: .* report_200=\([0-9]*\).*/\1/p' "$server_home/pyzord.log" | tail -n 1)
    cpu_ns=$(awk -v ticks="$(getconf CLK_TCK)" '{ printf "%.0f", ($14 + $15) / ticks * 1e9 }' "/proc/$server_pid/stat")
    printf '%s %s %s\n' "$scenario" "$((cpu_ns / reports))" "$reports" | tee -a "$scratch/whole"
}

# What became of the requests of the subject: its recorder leaves out what it cannot keep up with.
recorded() {
    kill -USR2 "$server_pid"
    sleep 0.5
    sed -n 's/.* \([0-9]* datagrams recorded, [0-9]* missing\).*/- `'"$scenario"'`: \1./p' "$server_home/pyzord.log" |
        tail -n 1 | tee -a "$scratch/again"
}

# The symbols in which the worker spends its time, and how much of it is the kernel's.
profile() {
    if ! command -v perf >/dev/null; then
        echo 'perf is not installed here' | tee "$out/profile.txt"
        return
    fi
    define hot-check
    "${subject[@]}"
    await_server
    blast --target "$server_address" --server-pid "$server_pid" "${ask[@]}" --preload --quiet
    sleep 1
    local worker
    worker=$(grep -l '^worker' /proc/"$server_pid"/task/*/comm | head -n 1 | cut -d / -f 5)
    "$loadgen" blast --quiet --core "$load_core" --warmup 0 --duration $((profile_s + 2)) --target "$server_address" \
        "${ask[@]}" &
    pids+=("$!")
    sleep 1
    if perf record --quiet --event cpu-clock --freq "$profile_hz" --tid "$worker" --output "$scratch/perf.data" \
        -- sleep "$profile_s" >"$scratch/perf.log" 2>&1; then
        perf report --stdio --sort symbol --call-graph none --input "$scratch/perf.data" 2>>"$scratch/perf.log" |
            summarize_profile >"$out/profile.txt"
        head -n 2 "$out/profile.txt"
    else
        printf 'perf could not record: %s\n' "$(tail -n 1 "$scratch/perf.log")" | tee "$out/profile.txt"
    fi
    stop_servers
}

# From perf's list of symbols; it marks the kernel's with [k].
summarize_profile() {
    awk -v most="$profile_symbols" -v what="$profile_s s of the worker under hot-check at $profile_hz Hz" '
        /%/ {
            share = $1 + 0
            # Columns that are empty without call graphs.
            sub(/[ -]+$/, "")
            if ($2 == "[k]") kernel += share; else user += share
            if (++symbols <= most) line[symbols] = $0
        }
        END {
            printf "%s (cpu-clock)\n%.1f %% user, %.1f %% kernel\n\n", what, user, kernel
            for (i = 1; i in line; i++) print line[i]
        }
    '
}

saturation() {
    mkdir "$scratch/saturation"
    python3 "$root/ops/saturation.py" "$bin" "$scratch/saturation" "$out/saturation.json" "$rounds" |
        tee "$scratch/saturation.md"
}

# A check never waits for a sync, though it shows what is being reported.
slow_disk() {
    local mix checks=(--rate "$slow_checks" --duration "$slow_disk_s" --warmup 1 --quiet) reporter reports
    gcc -shared -fPIC -O2 -o "$scratch/slow_sync.so" "$root/ops/slow_sync.c"
    SLOW_SYNC_MS=$slow_sync_ms LD_PRELOAD=$scratch/slow_sync.so pyzord 127.0.0.1 --workers 1
    await_server
    mix=known=1,known-share=1
    for reports in no yes no yes no yes; do
        if [[ $reports == yes ]]; then
            "$loadgen" replay "synthetic:report=1,$mix" --target "$server_address" --core "$load_core" --rate "$slow_reports" \
                --duration $((slow_disk_s + 2)) --quiet &
            reporter=$!
            pids+=("$reporter")
        fi
        "$loadgen" replay "synthetic:check=1,$mix" --target "$server_address" --core "$load_core" "${checks[@]}" \
            --json "$scratch/slow-disk.json" || true
        if [[ $reports == yes ]]; then wait "$reporter" || true; fi
        python3 - "$scratch/slow-disk.json" "$reports" <<'PYTHON' | tee -a "$scratch/slow-disk.md"
import json, sys
checks = json.load(open(sys.argv[1]))["operations"][0]
times = " | ".join(f"{checks['service'][key]:.0f}" for key in ("p50_us", "p99_us", "p99_9_us"))
print(f"| {sys.argv[2]} | {times} | {checks['answered']} | {checks['lost']} |")
PYTHON
    done
    stop_servers
}

write_readme() {
    {
        describe_run 'CPU of each request, against the floor,' "ops/bench.sh $arguments" "$load_before"
        describe_disk "$scratch"
        printf '\nServer on core %s, load on core %s, over loopback; %s s measured in each run after %s s of warm-up.\n' \
            "$server_core" "$load_core" "$seconds" "$warmup"
        printf '256 requests in flight on 16 sockets unless a scenario says otherwise.\n'
        printf 'Base is `loadgen echo`, the recvmmsg/sendmmsg floor, unless a scenario says otherwise; the subject is pyzord.\n\n'
        if has_pairs; then
            "$loadgen" pairs "$out" >"$scratch/table"
            cat "$scratch/table"
            printf '\n'
        fi
        cat "$scratch/legend"
        if [[ -e $scratch/again ]]; then cat "$scratch/again"; fi
        if [[ -e $scratch/whole ]]; then describe_whole_cost; fi
        if [[ -e $out/profile.txt ]]; then printf '\n## Profile\n\n```\n%s\n```\n' "$(<"$out/profile.txt")"; fi
        if [[ -e $scratch/slow-disk.md ]]; then
            printf '\n## A slow disk\n\n| reported meanwhile | p50 us | p99 us | p99.9 us | answered | lost |\n| --- | --- | --- | --- | --- | --- |\n'
            cat "$scratch/slow-disk.md"
        fi
        if [[ -e $scratch/saturation.md ]]; then
            printf '\n## Saturated\n\nAll threads of pyzord share core %s with its only worker, ' "$server_core"
            printf 'load and timing client the other (`ops/saturation.py`).\n\n'
            cat "$scratch/saturation.md"
        fi
    } >"$out/README.md"
}

has_pairs() {
    compgen -G "$out/*.subject.*.json" >/dev/null
}

describe_whole_cost() {
    printf '\nWith everything folded, over the life of the server from its start:\n\n'
    awk '
        FNR == NR { split($0, cell, "|"); gsub(/ /, "", cell[2]); base[cell[2]] = cell[4] + 0; next }
        { printf "- `%s`: %d ns for each of %d reports, %.2f times the base.\n", $1, $2, $3, $2 / base[$1] }
    ' "$scratch/table" "$scratch/whole"
}

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ops/run_folder.sh"
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/release
loadgen=$bin/loadgen
arguments=${*:+$(printf '%q ' "$@")}
pairs=21 seconds=0.5 warmup=0.15 rounds=20 out='' quick=no old=''
scenarios=()
while (($#)); do
    case $1 in
    --quick) quick=yes pairs=1 seconds=0.3 warmup=0.1 rounds=2 ;;
    --pairs) pairs=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --rounds) rounds=${2:?} && shift ;;
    --out) out=${2:?} && shift ;;
    --old) old=$(realpath "${2:?}") && shift ;;
    -h | --help) usage && exit ;;
    -*) echo "bench.sh: no such option: $1" >&2 && usage >&2 && exit 2 ;;
    *) scenarios+=("$1") ;;
    esac
    shift
done
if ((${#scenarios[@]} == 0)); then
    if [[ -n $old ]]; then scenarios=("${old_scenarios[@]}"); else scenarios=("${all_scenarios[@]}"); fi
fi
if [[ " ${scenarios[*]}" == *" old-"* && -z $old ]]; then
    echo "bench.sh: name the older build of pyzord: --old FILE" >&2 && exit 2
fi
for scenario in "${scenarios[@]}"; do define "$scenario"; done

if (($(nproc) < 2)); then
    echo "bench.sh: server and load need a core each, and there is one" >&2
    exit 1
fi
case " ${scenarios[*]} " in
*" saturation "*)
    if ! python3 -c 'import ctypes; ctypes.CDLL("libgdbm.so.6")' 2>/dev/null; then
        echo "bench.sh: the scenario saturation needs python3 and libgdbm.so.6 (Debian: python3 libgdbm6)" >&2
        exit 1
    fi ;;
esac

cd "$root"
cargo build --release --locked -p pyzord -p loadgen --bins --examples
open_run_folder
# The store must lie on a disk, and /tmp may not: it lies beside the build.
scratch=$(mktemp -d "$target/bench.XXXXXX")
pids=()
trap clean_up EXIT
trap 'exit 130' INT TERM
if [[ -n $old ]]; then mkdir "$scratch/old" && cp "$old" "$scratch/old/pyzord"; fi
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
for scenario in "${scenarios[@]}"; do run_scenario "$scenario"; done
write_readme
printf '\n%s\n\n' "$out/README.md"
if has_pairs; then "$loadgen" pairs "$out"; fi
