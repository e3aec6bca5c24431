#!/usr/bin/env bash
# What comes out of a replay: recordings of `pyzord --record` and of tcpdump are replayed once and ten times as fast, and
# recorded again by the server that gets them. The mix must be the same; how late each request was sent is shown.
#
# Server on one core, load generator on another. One recording holds 50,000 requests at 5,000 a second, so that ten times as fast is
# 50,000 a second; the other is what the reference's Python client sends. Results go to ops/runs/DATE-HOST-replay/.
set -euo pipefail

usage() {
    cat <<USAGE
Usage: ops/replay.sh [--quick] [--rounds N] [--out DIR]

  --quick       one round of a shorter recording, results in a temporary folder: does it all work?
  --rounds N    how often each recording is replayed at each speed (5)
  --out DIR     where results go (ops/runs/DATE-HOST-replay)
USAGE
}

clean_up() {
    rm -rf "$scratch"
}

write_readme() {
    describe_run 'Recordings replayed' "ops/replay.sh $arguments" "$load_before"
    printf '\n'
    cat "$scratch/results"
}

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ops/run_folder.sh"
arguments=${*:+$(printf '%q ' "$@")}
rounds=5 requests=50000 out='' quick=no
while (($#)); do
    case $1 in
    --quick) quick=yes rounds=1 requests=5000 ;;
    --rounds) rounds=${2:?} && shift ;;
    --out) out=${2:?} && shift ;;
    -h | --help) usage && exit ;;
    *) echo "replay.sh: no such option: $1" >&2 && usage >&2 && exit 2 ;;
    esac
    shift
done

cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
client=$target/reference/bin/pyzor
if [[ ! -x $client ]] || ! command -v tcpdump >/dev/null; then
    echo "replay.sh: tcpdump and the reference's client are needed: tests/install.sh installs them" >&2
    exit 1
fi
cargo build --release --locked -p pyzord -p loadgen --bins
open_run_folder replay
# Recordings are written to a disk, and /tmp may be none: they lie beside the build.
scratch=$(mktemp -d "$target/replay.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT TERM
load_before=$(cut -d ' ' -f 1-3 /proc/loadavg)
choose_cores
python3 ops/replay.py "$server_core" "$load_core" "$target/release" "$client" "$scratch" "$out" "$requests" "$rounds" >"$scratch/results"
write_readme >"$out/README.md"
printf '\n%s\n\n' "$out/README.md"
cat "$scratch/results"
