#!/usr/bin/env bash
# Measures what an answer costs pyzord in CPU time, beside the echo floor in the same run.
#
# Server on core 0, load on core 1. Each scenario starts a base and a subject, then runs them in interleaved pairs and
# compares pair by pair: absolute numbers drift with the machine, ratios do not. Results go to ops/runs/DATE-HOST/.
set -euo pipefail

readonly server_core=0 load_core=1
readonly all_scenarios=(
    hot-check unknown-check ping
    hot-check-wildcard unknown-check-wildcard ping-wildcard
    hot-check-usage-log hot-check-mmsg
    report-zipf report-distinct
    ring-alone tokio-uring two-workers
)

usage() {
    cat <<USAGE
Usage: ops/bench.sh [--quick] [--pairs N] [--seconds S] [--out DIR] [SCENARIO...]

  --quick      one short pair of each scenario, results in a temporary folder: does it all work?
  --pairs N    pairs of runs for each scenario (7)
  --seconds S  how long each run measures (1.5)
  --out DIR    where results go (ops/runs/DATE-HOST)

Scenarios (all of them unless named): ${all_scenarios[*]}
USAGE
}

# What a scenario compares: sets base and subject (a server function and its arguments), what each is asked, whether
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
    tokio-uring)
        base=(example tokio_uring_echo) subject=(example hosted_ring_echo) preload=no
        about="two echoes of 84 bytes: the base on tokio_uring's own UdpSocket, the subject on pyzord's datapath" ;;
    two-workers)
        base=("${given[@]}") subject=(pyzord 127.0.0.1 --workers 2)
        base_ask=(--op check --sockets 64) ask=("${base_ask[@]}")
        about="hot-check on 64 sockets; the base is pyzord with 1 worker, the subject with 2 (the second shares the load's core)" ;;
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
    taskset -c "$cores" "$bin/pyzord" --homedir "$home" -a "$address" -p "$port" "$@" >"$home.log" 2>&1 &
    started "$home.log"
    server_address=127.0.0.1:$port
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
    "${base[@]}"
    await_server
    local base_run=(--target "$server_address" --server-pid "$server_pid" "${base_ask[@]}")
    "${subject[@]}"
    await_server
    local subject_run=(--target "$server_address" --server-pid "$server_pid" "${ask[@]}")
    if [[ $preload == yes ]]; then
        blast "${subject_run[@]}" --preload >/dev/null
        if [[ ${base[0]} == pyzord ]]; then blast "${base_run[@]}" --preload >/dev/null; fi
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
    stop_servers
    printf -- '- `%s`: %s.\n' "$scenario" "$about" >>"$scratch/legend"
}

# run_once ROLE PAIR ARGUMENT...; fresh digests must differ from run to run, known ones must not.
run_once() {
    local role=$1 pair=$2 seed=1
    shift 2
    if [[ $preload == no ]]; then seed=$pair; fi
    blast "$@" --seed "$seed" --json "$out/$scenario.$role.$pair.json" |
        awk -v role="$role" '/^(rate|server) / { print "  " role "  " $0 }'
}

write_readme() {
    local commit
    commit=$(git -C "$root" rev-parse --short=12 HEAD)
    if [[ -n $(git -C "$root" status --porcelain) ]]; then commit+=" with changes that are not committed"; fi
    {
        printf '# %s on %s\n\n' "$(date -u +%F)" "$(hostname)"
        printf -- '- command: `ops/bench.sh %s`\n' "$arguments"
        printf -- '- commit: %s\n' "$commit"
        printf -- '- machine: %s, %s cores, %s of memory, %s\n' \
            "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
            "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)" \
            "$(systemd-detect-virt 2>/dev/null || echo 'virtualisation unknown')"
        printf -- '- kernel: %s\n' "$(uname -sr)"
        printf -- '- store on: %s\n' "$(findmnt -n -o FSTYPE,SOURCE -T "$scratch" | tr -s ' ')"
        printf -- '- load average before: %s\n\n' "$load_before"
        printf 'Server on core %s, load on core %s, over loopback; %s s measured in each run after %s s of warm-up.\n' \
            "$server_core" "$load_core" "$seconds" "$warmup"
        printf 'Base is `loadgen echo`, the recvmmsg/sendmmsg floor, unless a scenario says otherwise; the subject is pyzord.\n'
        printf '"ns" is the CPU time of all threads of the server for each answer. Cells: median (lowest to highest).\n'
        printf 'The ratio is taken pair by pair; over 7 pairs its range covers the true median with 98 %% confidence.\n\n'
        "$loadgen" pairs "$out"
        printf '\n'
        cat "$scratch/legend"
    } >"$out/README.md"
}

new_run_folder() {
    local folder number=2
    folder=$root/ops/runs/$(date -u +%F)-$(hostname)
    out=$folder
    while [[ -e $out ]]; do out=$folder-$((number++)); done
}

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/target/release
loadgen=$bin/loadgen
arguments=$*
pairs=7 seconds=1.5 warmup=0.4 out='' quick=no
scenarios=()
while (($#)); do
    case $1 in
    --quick) quick=yes pairs=1 seconds=0.3 warmup=0.1 ;;
    --pairs) pairs=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --out) out=${2:?} && shift ;;
    -h | --help) usage && exit ;;
    -*) usage >&2 && exit 2 ;;
    *) scenarios+=("$1") ;;
    esac
    shift
done
if ((${#scenarios[@]} == 0)); then scenarios=("${all_scenarios[@]}"); fi
for scenario in "${scenarios[@]}"; do define "$scenario"; done

cd "$root"
cargo build --release --locked -p pyzord -p loadgen --bins --examples
if [[ -z $out ]]; then
    if [[ $quick == yes ]]; then out=$(mktemp -d); else new_run_folder; fi
fi
mkdir -p "$out"
# The store must lie on a disk, and /tmp may not: it lies beside the build.
scratch=$(mktemp -d "$root/target/bench.XXXXXX")
pids=()
trap clean_up EXIT
trap 'exit 130' INT TERM
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
for scenario in "${scenarios[@]}"; do run_scenario "$scenario"; done
write_readme
printf '\n%s\n\n' "$out/README.md"
"$loadgen" pairs "$out"
