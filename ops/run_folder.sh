# Sourced by the scripts that record runs: where a run is kept, on which cores it is made, and the facts that each one states first.

# open_run_folder [SUFFIX]: makes the folder `out`. Where none is given, that is the first ops/runs/DATE-HOST[-SUFFIX] that is not
# there, relative to the project's root, so that no result tells where its author keeps the project; where `quick` is yes,
# a temporary one.
open_run_folder() {
    local folder number=2
    if [[ -z $out && ${quick-} == yes ]]; then
        out=$(mktemp -d)
    elif [[ -z $out ]]; then
        folder=ops/runs/$(date -u +%F)-$(hostname)${1:+-$1}
        out=$folder
        while [[ -e $out ]]; do out=$folder-$((number++)); done
    fi
    mkdir -p "$out"
}

# choose_cores: sets `load_core` to that one of the first two cores that has handled fewer interrupts of devices, which delay what
# must be sent at its time, and `server_core` to the other.
choose_cores() {
    load_core=$(awk '/^ *[0-9]+:/ { first += $2; second += $3 } END { print (first > second) }' /proc/interrupts)
    server_core=$((1 - load_core))
}

# describe_run TITLE COMMAND LOAD_BEFORE: what every README of a run begins with. To be called at the project's root.
describe_run() {
    local commit
    commit=$(git rev-parse --short=12 HEAD)
    if [[ -n $(git status --porcelain -- . ':!ops/runs') ]]; then commit+=" with changes that are not committed"; fi
    printf '# %s on %s, %s\n\n' "$1" "$(hostname)" "$(date -u +%F)"
    printf -- '- command: `%s`\n' "${2% }"
    printf -- '- commit: %s\n' "$commit"
    printf -- '- machine: %s, %s cores, %s of memory, %s\n' \
        "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
        "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)" \
        "$(systemd-detect-virt 2>/dev/null || echo 'virtualisation unknown')"
    printf -- '- kernel: %s\n' "$(uname -sr)"
    printf -- '- load average before: %s\n' "$3"
}

# describe_disk DIR: one more of those facts, for runs whose store lies in DIR.
describe_disk() {
    printf -- '- store on: %s\n' "$(findmnt -n -o FSTYPE,SOURCE -T "$1" | tr -s ' ')"
}
