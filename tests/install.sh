#!/bin/bash
# Installs what the tests need beyond Rust: Debian packages (as root, by apt-get), and the reference's Python programs in
# a virtual environment under the target directory. What cannot be installed is named, and the tests that need it skip.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    ca-certificates procps python3 python3-venv python3-gdbm spamassassin rspamd procmail systemd strace tcpdump tshark
    util-linux zstd g++ valgrind faketime redis-tools python3-redis
)
reference=${CARGO_TARGET_DIR:-target}/reference
oracle=${CARGO_TARGET_DIR:-target}/digest-oracle
mails=${CARGO_TARGET_DIR:-target}/real-mails
pyzor=1.1.2
histograms=${CARGO_TARGET_DIR:-target}/hdrhistogram
hdrhistogram=0.10.8
# CPython's standard library, out of the npm package pyodide. Digests depend on its html.parser: the older is that of 3.11.0 to
# 3.11.13, where Debian's 3.11.2 has had a mixture of both since deb12u9; the newer reads what the older fails on.
older=cpython-3.11.3 older_pyodide=0.25.1 older_checksum=d301c5b18b888ec7ad2bf616fcdd14eb36f4c9f41c513f89fcfcc3455d447a63
newer=cpython-3.14.2 newer_pyodide=314.0.7 newer_checksum=66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

is_installed() {
    [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == 'install ok installed' ]]
}

install_packages() {
    local package missing=()
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    [[ ${#missing[@]} -eq 0 ]] && return
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "not installed, and only root may on Debian: ${missing[*]}" >&2
        return
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        echo "apt-get could not install: ${missing[*]}" >&2
}

has_reference() {
    "$reference/bin/python3" -c "import pyzor; assert pyzor.__version__ == '$pyzor'" 2>/dev/null
}

# Debian's own Python, and sight of its packages: the reference server finds gdbm there.
install_reference() {
    has_reference && return
    rm -rf "$reference"
    /usr/bin/python3 -m venv --system-site-packages "$reference" &&
        "$reference/bin/pip" install --quiet --disable-pip-version-check "pyzor==$pyzor" ||
        echo "the reference, pyzor $pyzor in Python, could not be installed" >&2
}

has_oracle() {
    [[ -d $oracle/$newer ]] && "$oracle/bin/python3" -c "import html.parser, pyzor; assert '/$older/' in html.parser.__file__" 2>/dev/null
}

# Modules of a standard library, in a directory beside the oracle's own.
take_library() {
    local name=$1 pyodide=$2 checksum=$3 modules=("${@:4}")
    rm -rf "${scratch:?}"/*
    tests/fetch_npm.sh pyodide "$pyodide" "$checksum" "$scratch/pyodide.tgz" &&
        tar -xzf "$scratch/pyodide.tgz" -C "$scratch" package/python_stdlib.zip &&
        /usr/bin/python3 -m zipfile -e "$scratch/package/python_stdlib.zip" "$scratch/library" &&
        mkdir "$oracle/$name" &&
        mv "${modules[@]/#/$scratch/library/}" "$oracle/$name/"
}

# A Python whose digests are the network's: any 3.11 that reads CPython 3.11.3's modules before its own.
install_oracle() {
    local python
    has_oracle && return
    if ! python=$(PATH=/usr/bin:$PATH command -v python3.11); then
        echo 'no Python 3.11: most tests of digests will be skipped' >&2
        return
    fi
    rm -rf "$oracle"
    "$python" -m venv "$oracle" &&
        "$oracle/bin/pip" install --quiet --disable-pip-version-check "pyzor==$pyzor" &&
        take_library "$older" "$older_pyodide" "$older_checksum" _markupbase.py html email &&
        echo "import sys; sys.path.insert(0, sys.prefix + '/$older')" >"$oracle/lib/python3.11/site-packages/$older.pth" &&
        take_library "$newer" "$newer_pyodide" "$newer_checksum" _markupbase.py html &&
        # A regular expression of 3.14 has \z for what is \Z in 3.11.
        sed -i 's/\\z/\\Z/' "$oracle/$newer/html/parser.py" ||
        echo "the digest oracle, pyzor $pyzor on $older, could not be installed" >&2
}

# The Python library of HdrHistogram's authors.
install_histograms() {
    "$histograms/bin/python3" -c 'import hdrh.log' 2>/dev/null && return
    rm -rf "$histograms"
    /usr/bin/python3 -m venv "$histograms" &&
        "$histograms/bin/pip" install --quiet --disable-pip-version-check "hdrhistogram==$hdrhistogram" ||
        echo "HdrHistogram's Python library $hdrhistogram could not be installed" >&2
}

install_packages
install_histograms
install_reference
install_oracle
tests/install_mails.sh "$mails" "$reference/bin/pip"
