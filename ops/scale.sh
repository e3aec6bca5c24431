#!/usr/bin/env bash
# Measures pyzord with many digests stored: start, memory, and checks while the store does its housekeeping.
#
# The digests come as they come to an operator: out of the reference's gdbm file, by pyzor-migrate. Their times are spread
# evenly over the last 100 days, so that CleanupAge decides what part of them is swept. Results go to
# ops/runs/DATE-HOST-scale/.
set -euo pipefail

readonly address=127.0.0.1 empty_starts=9
# A record is expired once it is a month old: 70 % of all. When half of all have been deleted, the filter is built anew,
# if it is larger than the smallest. That takes time in proportion.
readonly month_s=2592000 rebuilt_above=1100000 kept_percent=40
# The server's default.
readonly hot_set_bytes=$((256 << 20))
# More digests than the default hot set holds, all of them new.
readonly filling=3000000
# The file, the store, and what folding and sweeping write anew before they give the old pages back.
readonly disk_bytes_a_digest=600
# Few requests in flight, so that what is measured is latency and not saturation. As many checks ask about unknown digests.
readonly load=(--op mix --in-flight 4 --sockets 4 --unknown-share 0.5 --digests 100 --interval 0.5)

usage() {
    cat <<USAGE
Usage: ops/scale.sh [--quick] [--digests N] [--seconds S] [--out DIR]

  --quick      1,200,000 digests and short phases, results in a temporary folder: does it all work?
  --digests N  digests stored (10000000); a filter is built anew only for more than $rebuilt_above
  --seconds S  how long each phase is measured that does not end by itself (15)
  --out DIR    where results go (ops/runs/DATE-HOST-scale)

Ten million digests take about 9 minutes, 6 GB of disk and, in the load generator, 480 MB of memory once everything is built. Needs python3 and libgdbm.so.6.

SCHED, if set, is a command that the load generator runs under, such as "taskset -c 7": server and load generator share
the cores, and what one takes from the other is part of what is measured.
USAGE
}

# start HOME NAME ARGUMENT...: detached, as an operator starts it, logging to NAME.log. Sets server_pid, server_log, and
# how long it took until a ping was answered: ready_ms, and cpu_ms of the server's CPU time.
start() {
    local began=$EPOCHREALTIME home=$scratch/$1
    server_log=$home/$2.log
    shift 2
    TZ=UTC "$bin/pyzord" --homedir "$home" --detach "$server_log" --debug --workers "$cores" \
        --address "$address" --port "$port" "$@"
    server_pid=$(<"$home/pyzord.pid")
    ping
    ready_ms=$(awk -v began="$began" -v now="$EPOCHREALTIME" 'BEGIN { printf "%.0f", (now - began) * 1000 }')
    cpu_ms=$(awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1000 / ticks }' "/proc/$server_pid/stat")
}

ping() {
    local socket reply
    exec {socket}<>"/dev/udp/$address/$port"
    # A datagram is one write of cat's, and one read of dd's.
    cat "$scratch/ping" >&"$socket"
    reply=$(timeout 1 dd bs=512 count=1 status=none <&"$socket") || true
    exec {socket}>&-
    if [[ $reply != *'Code: 200'* ]]; then
        echo "scale.sh: the server does not answer a ping: $reply" >&2
        tail -n 5 "$server_log" >&2
        exit 1
    fi
}

stop() {
    local deadline=$((SECONDS + 30))
    if [[ -z $server_pid ]]; then return; fi
    kill "$server_pid" 2>/dev/null || true
    while kill -0 "$server_pid" 2>/dev/null; do
        if ((SECONDS > deadline)); then kill -KILL "$server_pid" 2>/dev/null || true; fi
        sleep 0.05
    done
    server_pid=
}

clean_up() {
    if [[ -n $blast_pid ]]; then kill "$blast_pid" 2>/dev/null || true; fi
    stop
    rm -rf "$scratch"
}

# The store's numbers, as the server logs them when it is told to.
numbers() {
    local before
    before=$(grep -c 'store: digests=' "$server_log" || true)
    kill -USR1 "$server_pid"
    while (($(grep -c 'store: digests=' "$server_log" || true) == before)); do sleep 0.05; done
    grep 'store: digests=' "$server_log" | tail -n 1
}

# number NAME: one of them.
number() {
    numbers | sed -n "s/.* $1=\([0-9]*\).*/\1/p"
}

# memory WHEN: a row of the table of memory.
memory() {
    local hot
    hot=$(number hot_entries)
    awk -v when="$1" -v hot="$hot" '
        { size[$1] = $2 / 1024 }
        END { printf "| %s | %.0f | %.0f | %d |\n", when, size["VmRSS:"], size["RssAnon:"], hot }
    ' "/proc/$server_pid/status" | tee -a "$scratch/memory"
}

# reads WHEN: rows of the table of what threads read from disks, by the kernel's account of each.
reads() {
    local kind
    for kind in worker store-reader; do
        # A thread may end meanwhile.
        { grep -l "^$kind" /proc/"$server_pid"/task/*/comm | sed 's|comm$|io|' | xargs cat; } 2>/dev/null |
            awk -v when="$1" -v kind="$kind" '
                $1 == "read_bytes:" { known = 1; bytes += $2 }
                END { printf "| %s | %s | %s |\n", when, kind, known ? bytes : "unknown" }
            '
    done | tee -a "$scratch/reads"
}

# Makes the system forget what it holds of the store's files.
forget_files() {
    local file
    sync
    for file in "$scratch"/full/pyzord.redb/*.redb; do
        dd if="$file" iflag=nocache count=0 status=none
    done
}

# begin_phase NAME KNOWN ARGUMENT...: runs in the background, as blast_pid. KNOWN is how many digests it asks about.
begin_phase() {
    local name=$1 known=$2
    shift 2
    $sched "$bin/loadgen" blast --target "$address:$port" --server-pid "$server_pid" --known "$known" "${load[@]}" \
        --json "$out/$name.json" "$@" >"$scratch/$name.txt" &
    blast_pid=$!
}

end_phase() {
    local pid=$blast_pid
    wait "$pid"
    blast_pid=
    printf '%s\n' "$1"
    grep -E '^(rate|lost|check|report) ' "$scratch/$1.txt"
}

phase() {
    begin_phase "$@"
    end_phase "$1"
}

empty_start() {
    local attempt times=()
    for ((attempt = 1; attempt <= empty_starts; attempt++)); do
        mkdir "$scratch/empty"
        start empty server
        times+=("$ready_ms")
        stop
        rm -r "$scratch/empty"
    done
    fact "fresh start on an empty store to the first answered ping: $(median "${times[@]}") ms (${times[*]})"
}

import() {
    local began=$SECONDS
    mkdir "$scratch/full"
    python3 ops/scale.py gdbm "$scratch/pyzord.db" "$digests"
    fact "the reference's file: $(megabytes "$scratch/pyzord.db"), written in $((SECONDS - began)) s"
    began=$SECONDS
    "$bin/pyzor-migrate" --se gdbm --sd "$scratch/pyzord.db" --de redb --dd "$scratch/full/pyzord.redb" | tail -n 1
    fact "imported by \`pyzor-migrate\` in $((SECONDS - began)) s; the store: $(megabytes "$scratch/full/pyzord.redb")"
    rm "$scratch/pyzord.db"
}

full_start() {
    forget_files
    start full start-cold --cleanup-age 0
    fact "start to the first answered ping with the store's files on disk only: $ready_ms ms ($cpu_ms ms of CPU time)"
    stop
    start full keep --cleanup-age 0
    fact "the same with the files in the page cache: $ready_ms ms ($cpu_ms ms)"
    fact "hot set: room for $(number hot_capacity) digests, $((hot_set_bytes / $(number hot_capacity))) bytes each"
    fact "filter: $(($(number filter_bits) >> 23)) MiB"
    memory "started"
}

# Everything is kept, so that the sweeper has nothing to do.
keep_everything() {
    forget_files
    phase disk "$digests" --duration "$seconds" --warmup 0 --report-share 0 --seed 1
    reads "disk"
    phase idle "$digests" --duration "$seconds" --warmup 3 --report-share 0 --seed 1
    memory "after these checks"
    # What is reported expires no more, and most shall.
    phase folding $((digests / 10)) --duration $((2 * seconds)) --report-share 0.1 --seed 1
    memory "after these reports"
    reads "disk, idle, folding, reporting"
    stop
}

# Whether enough has gone.
is_swept() {
    if ((digests > rebuilt_above)); then
        grep -q 'the new filter is in use' "$server_log"
    else
        (($(number digests) * 100 < digests * kept_percent))
    fi
}

# What is older than a month goes. It begins as soon as the server has started, and ends when the filter is in use that
# is built once half has gone.
expire() {
    start full expire --cleanup-age "$month_s"
    begin_phase expire "$digests" --duration "$expire_at_most_s" --warmup 1 --report-share 0 --seed 1
    local deadline=$((SECONDS + expire_at_most_s))
    until is_swept; do
        if ((SECONDS > deadline)); then
            echo "scale.sh: what has expired is not swept in $expire_at_most_s s" >&2
            exit 1
        fi
        sleep 0.2
    done
    sleep 1
    kill "$blast_pid"
    end_phase expire
    memory "swept"
    "$bin/loadgen" blast --target "$address:$port" --quiet --preload --seed 2 --known "$filling" --op ping --duration 0.1
    memory "hot set filled by reports"
    reads "sweeping, rebuilding"
    stop
}

fact() {
    printf -- '- %s\n' "$1" | tee -a "$scratch/facts"
}

median() {
    printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"
}

megabytes() {
    du -s --block-size=1M "$1" | awk '{ print $1 " MiB" }'
}

write_readme() {
    {
        describe_run "$digests digests" "ops/scale.sh $arguments" "$load_before"
        describe_disk "$scratch"
        printf '\n## Start and files\n\n'
        cat "$scratch/facts"
        printf '\n## Memory, in MiB\n\n'
        printf 'Allowed: 256 MiB for the hot set, 256 MiB for pages of the store, and the filter.\n\n'
        printf '| when | resident | of that not of files | digests in the hot set |\n| --- | --- | --- | --- |\n'
        cat "$scratch/memory"
        printf '\n## Checks\n\n'
        printf '%s workers on %s cores; the load generator%s shares them, and what one takes from the other counts.\n' \
            "$cores" "$cores" "${sched:+ (\`$sched\`)}"
        printf '%s requests in flight. Half of the checks ask about digests nobody reported, half about stored ones (Zipf 1).\n' 4
        printf 'Microseconds; cells: median of the half seconds (worst). The phases:\n\n'
        printf -- '- `disk`: right after a start, the store'"'"'s files dropped from the page cache;\n'
        printf -- '- `idle`: nothing else goes on;\n'
        printf -- '- `folding`: one request in ten is a report of 100 digests, and all are about a tenth of the digests; only while folding;\n'
        printf -- '- `reporting`: the same, between folds;\n'
        printf -- '- `sweeping`: seven digests in ten have expired and are deleted;\n'
        printf -- '- `rebuilding`: the filter is built anew.\n\n'
        python3 ops/scale.py table "$out"
        printf '\n## What threads read from disks, in bytes\n\n| in phases | threads | bytes |\n| --- | --- | --- |\n'
        cat "$scratch/reads"
    } >"$out/README.md"
}

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ops/run_folder.sh"
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/release
arguments=${*:+$(printf '%q ' "$@")}
sched=${SCHED-}
cores=$(nproc)
port=$((20000 + RANDOM % 10000))
digests=10000000 seconds=15 out='' quick=no
while (($#)); do
    case $1 in
    --quick) quick=yes digests=1200000 seconds=4 ;;
    --digests) digests=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --out) out=${2:?} && shift ;;
    -h | --help) usage && exit ;;
    *) echo "scale.sh: no such option: $1" >&2 && usage >&2 && exit 2 ;;
    esac
    shift
done

if ! python3 -c 'import ctypes; ctypes.CDLL("libgdbm.so.6")' 2>/dev/null; then
    echo "scale.sh: python3 and libgdbm.so.6 are needed (Debian: python3 libgdbm6)" >&2
    exit 1
fi

expire_at_most_s=$((600 + digests / 15000))

cd "$root"
cargo build --release --locked -p pyzord -p loadgen --bins
free_bytes=$(($(stat --file-system --format '%a * %S' "$target")))
if ((free_bytes < digests * disk_bytes_a_digest)); then
    echo "scale.sh: $target needs $((digests * disk_bytes_a_digest >> 20)) MiB of free disk" >&2
    exit 1
fi
open_run_folder scale
# The store must lie on a disk, and /tmp may not: it lies beside the build.
scratch=$(mktemp -d "$target/scale.XXXXXX")
server_pid='' blast_pid=''
trap clean_up EXIT
trap 'exit 130' INT TERM
printf 'Op: ping\nThread: 10000\nPV: 2.1\nUser: anonymous\nTime: 0\nSig: 0\n\n' >"$scratch/ping"
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
empty_start
import
full_start
keep_everything
expire
cp "$scratch"/full/{keep,expire}.log "$out"
sed -i "s|$scratch/||g" "$out"/*.log "$out"/*.json
write_readme
printf '\n%s\n\n' "$out/README.md"
