#!/usr/bin/env bash
# Finds the highest rate at which pyzord meets its objectives, five times, and plans a larger mirror from it.
#
# Server on one core, load generator on another, over loopback: the cores are the limit, and what else goes on in the machine moves
# it. Over a link of a given rate, that is the limit, and hardly moves: so much of the spread is the search's own.
# The pages that `loadgen knee` and `loadgen plan` write are kept, and pictures of them where there is a Chromium; the histograms
# of all trials are some megabytes, and are not. Results go to ops/runs/DATE-HOST-knee/, or …-knee-link/ without a plan.
set -euo pipefail

# Nine in ten, because a virtual machine's cores are taken away for some per cent of the time: an objective for 99 in 100
# finds that, and not the server.
readonly slo='p90<20ms,loss<0.1%'
readonly mix='synthetic:check=90,report=8,whitelist=1,info=0.5,ping=0.5,known=20000,known-share=0.4,batch-share=0.1'
# To send waits when a socket has some hundred datagrams queued for the link: of so many sockets none ever has.
readonly link_sockets=32 link_queue=30ms link_burst=10kb
# For documentation, so nobody's.
readonly our_address=198.51.100.1/30 linked_address=198.51.100.2/30
readonly target_per_s=200000 planned_digests=10000000 growth='5%/month'
readonly picture_width=1280 picture_height=1600

usage() {
    cat <<USAGE
Usage: ops/knee.sh [--quick] [--link RATE] [--repeats N] [--seconds S] [--out DIR]

  --quick       one search of short trials, results in a temporary folder: does it all work?
  --link RATE   ask over a link of this rate, like 20mbit, in a network namespace; needs root
  --repeats N   so many searches (5)
  --seconds S   length of a trial (1)
  --out DIR     where results go (ops/runs/DATE-HOST-knee, or …-knee-link)
USAGE
}

# Everything goes with the namespace when that is deleted.
start_link() {
    ip netns add "$namespace"
    ip link add "$namespace" type veth peer name server netns "$namespace"
    ip address add "$our_address" dev "$namespace"
    ip -n "$namespace" address add "$linked_address" dev server
    ip link set "$namespace" up
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set server up
    tc qdisc add dev "$namespace" root tbf rate "$link" burst "$link_burst" latency "$link_queue"
}

start_server() {
    local attempt there=()
    if [[ -n $link ]]; then there=(ip netns exec "$namespace"); fi
    mkdir "$scratch/home"
    printf 'all : anonymous : allow\n' >"$scratch/home/pyzord.access"
    "${there[@]}" taskset -c "$server_core" "$bin/pyzord" --homedir "$scratch/home" -a "$address" -p "$port" --workers 1 \
        --log-file "$scratch/pyzord.log" >"$scratch/pyzord.out" 2>&1 &
    server_pid=$!
    for ((attempt = 0; attempt < 200; attempt++)); do
        if "$loadgen" blast --target "$address:$port" --op ping --in-flight 1 --warmup 0 --duration 0.01 --quiet \
            2>/dev/null; then
            return
        fi
        sleep 0.1
    done
    echo "knee.sh: pyzord does not answer:" >&2
    tail -n 5 "$scratch/pyzord.out" "$scratch/pyzord.log" >&2
    exit 1
}

clean_up() {
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    if [[ -n $link ]]; then ip netns delete "$namespace" || true; fi
    rm -rf "$scratch"
}

# picture PAGE: what a browser shows of it, beside it.
picture() {
    local browser
    for browser in chromium chromium-browser google-chrome; do
        if command -v "$browser" >/dev/null; then
            "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --blink-settings=preferredColorScheme=1 \
                --window-size="$picture_width,$picture_height" --user-data-dir="$scratch/browser" \
                --screenshot="${1%.html}.png" "file://$(realpath "$1")" >"$scratch/browser.log" 2>&1 ||
                cat "$scratch/browser.log" >&2
            return
        fi
    done
    echo "knee.sh: no Chromium here: $1 gets no picture" >&2
}

write_readme() {
    describe_run "The knee of pyzord$([[ -n $link ]] || echo ', and a plan from it,')" "ops/knee.sh $arguments" "$load_before"
    printf '\nServer with one worker on core %s, load on core %s, over %s. Objectives: `%s`. Asked is a mix that is made up:\n`%s`.\n' \
        "$server_core" "$load_core" "$way" "$slo" "$mix"
    if [[ -z $link ]]; then
        printf '\n- [knee.html](knee.html), [plan.html](plan.html): the pages, with all numbers\n'
    else
        printf '\n- [knee.html](knee.html): the page, with all numbers\n'
    fi
    printf '\n```console\n$ loadgen knee …\n'
    cat "$out/knee.txt"
    if [[ -z $link ]]; then
        printf '\n$ loadgen plan knee.json %s\n' "${plan[*]}"
        cat "$out/plan.txt"
    fi
    printf '```\n'
}

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ops/run_folder.sh"
arguments=${*:+$(printf '%q ' "$@")}
repeats=5 seconds=1 out='' quick=no link='' address=127.0.0.1 way=loopback
while (($#)); do
    case $1 in
    --quick) quick=yes repeats=1 seconds=0.5 ;;
    --link) link=${2:?} && shift ;;
    --repeats) repeats=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --out) out=${2:?} && shift ;;
    -h | --help) usage && exit ;;
    *) echo "knee.sh: no such option: $1" >&2 && usage >&2 && exit 2 ;;
    esac
    shift
done

if [[ -n $link && $EUID != 0 ]]; then
    echo "knee.sh: --link makes a network namespace, which only root may" >&2
    exit 1
fi
cd "$root"
cargo build --release --locked -p pyzord -p loadgen --bins
target=${CARGO_TARGET_DIR:-$root/target}
bin=$(realpath "$target")/release
loadgen=$bin/loadgen
# With one worker it does not matter from where requests come, and fewer sockets leave the generator more of its core.
sockets=2
port=$((20000 + RANDOM % 10000))
open_run_folder "knee${link:+-link}"
# The store must lie on a disk, and /tmp may not: it lies beside the build.
scratch=$(mktemp -d "$target/knee.XXXXXX")
server_pid='' namespace=knee$$ from=20000
trap clean_up EXIT
trap 'exit 130' INT TERM
choose_cores
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
if [[ -n $link ]]; then
    address=${linked_address%/*} sockets=$link_sockets from=1000 way="a link of $link with a queue of $link_queue (veth, tbf)"
    start_link
fi
start_server
# Where it is told to write is a part of what it writes: not where this project lies.
(cd "$scratch" && "$loadgen" knee "$mix" --target "$address:$port" --server-pid "$server_pid" --core "$load_core" --sockets "$sockets" \
    --slo "$slo" --from "$from" --trial-duration "$seconds" --repeats "$repeats" --poisson \
    --json knee.json --html knee.html) 2>&1 | tee "$out/knee.txt"
mv "$scratch/knee.html" "$out"
picture "$out/knee.html"
if [[ -z $link ]]; then
    plan=(--target-rate "$target_per_s" --headroom '30%' --growth "$growth" --digests "$planned_digests")
    (cd "$scratch" && "$loadgen" plan knee.json "${plan[@]}" --html plan.html) | tee "$out/plan.txt"
    mv "$scratch/plan.html" "$out"
    picture "$out/plan.html"
fi
write_readme >"$out/README.md"
printf '\n%s\n' "$out/README.md"
