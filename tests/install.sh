#!/bin/bash
# Installs what the tests need beyond Rust: Debian packages (as root, by apt-get), and the reference's Python programs in
# a virtual environment under the target directory. What cannot be installed is named, and the tests that need it skip.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(python3 python3-venv python3-gdbm spamassassin strace tcpdump tshark util-linux zstd g++)
reference=${CARGO_TARGET_DIR:-target}/reference
pyzor=1.1.2

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

install_packages
install_reference
