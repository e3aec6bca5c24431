#!/usr/bin/env bash
# How much faster the client is than the Python one: digests of real and of generated messages, in one process each, and
# `pyzor check` from its start to its exit, against a pyzord on this machine. Results go to ops/runs/DATE-HOST-client/.
set -euo pipefail

readonly server_core=0
readonly seed=1

usage() {
    cat <<USAGE
Usage: ops/client.sh [--quick] [--pairs N] [--out DIR]

  --quick       few pairs and messages, results in a temporary folder: does it all work?
  --pairs N     pairs of digesting runs (7), and eight times as many of checks
  --out DIR     where results go (ops/runs/DATE-HOST-client)

It takes about two minutes once everything is built. The machine should do nothing else.
USAGE
}

clean_up() {
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}

start_server() {
    local port=$((20000 + RANDOM % 10000)) deadline=$((SECONDS + 20))
    mkdir -p "$scratch/server" "$scratch/client"
    echo "127.0.0.1:$port" >"$scratch/client/servers"
    taskset -c "$server_core" "$bin/pyzord" --homedir "$scratch/server" -a 127.0.0.1 -p "$port" \
        --log-file "$scratch/server/pyzord.log" >"$scratch/server.log" 2>&1 &
    server_pid=$!
    until "$reference" --homedir "$scratch/client" ping >"$scratch/ping" 2>&1 && grep -q "200, 'OK'" "$scratch/ping"; do
        if ((SECONDS > deadline)); then
            echo "client.sh: pyzord does not answer: $(tail -n 1 "$scratch/server.log" "$scratch/ping")" >&2
            exit 1
        fi
    done
}

measure() {
    printf '| what | pairs | Python, median | pyzor, median | times faster (least to greatest of the pairs) |\n'
    printf '| --- | --- | --- | --- | --- |\n'
    local corpus
    for corpus in real generated; do
        python3 ops/client.py digest "$scratch/$corpus" "$out" "$pairs" "$bin/examples/digest_files" "$oracle"
    done
    python3 ops/client.py check "$mail" "$out" $((8 * pairs)) "$bin/pyzor" "$reference" "$scratch/client"
}

write_readme() {
    describe_run 'The client beside the Python one' "ops/client.sh $arguments" "$load_before"
    printf -- '- Python: %s for digests, %s for `pyzor check`\n\n' "$("$oracle" --version)" "$("${reference%/*}/python3" --version)"
    cat "$scratch/table"
    printf '\nDigests are computed in one process, from messages that are in memory, and are the same but for messages that\n'
    printf 'the reference has none for. A check goes to `pyzord` on 127.0.0.1, with one server in `servers`.\n'
}

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ops/run_folder.sh"
arguments=${*:+$(printf '%q ' "$@")}
pairs=7 messages=5000 out='' quick=no
while (($#)); do
    case $1 in
    --quick) quick=yes pairs=2 messages=500 ;;
    --pairs) pairs=${2:?} && shift ;;
    --out) out=${2:?} && shift ;;
    -h | --help) usage && exit ;;
    *) echo "client.sh: no such option: $1" >&2 && usage >&2 && exit 2 ;;
    esac
    shift
done

cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/release
reference=$target/reference/bin/pyzor
oracle=$target/digest-oracle/bin/python3
mail=/usr/share/doc/spamassassin/examples/sample-spam.txt
for needed in "$reference" "$oracle" "$target/real-mails" "$mail"; do
    if [[ ! -e $needed ]]; then
        echo "client.sh: $needed is not there: tests/install.sh installs it" >&2
        exit 1
    fi
done
cargo build --release --locked -p pyzord --bins
cargo build --release --locked -p pyzor --bins --examples
open_run_folder client
scratch=$(mktemp -d "$target/client.XXXXXX")
server_pid=
trap clean_up EXIT
trap 'exit 130' INT TERM
cp -r "$target/real-mails" "$scratch/real"
cargo run --quiet --locked -p pyzor-tests --example generated_mails -- "$scratch/generated" "$seed" "$messages"
start_server
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
measure | tee "$scratch/table"
write_readme >"$out/README.md"
printf '\n%s\n' "$out/README.md"
