#!/bin/bash
# Installs what the tests need beyond Rust: Debian packages (as root, by apt-get), and the reference's Python programs in
# a virtual environment under the target directory. What cannot be installed is named, and the tests that need it skip.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    python3 python3-venv python3-gdbm spamassassin rspamd procmail systemd strace tcpdump tshark util-linux zstd g++ valgrind
    faketime redis-tools python3-redis
)
reference=${CARGO_TARGET_DIR:-target}/reference
oracle=${CARGO_TARGET_DIR:-target}/digest-oracle
mails=${CARGO_TARGET_DIR:-target}/real-mails
pyzor=1.1.2
histograms=${CARGO_TARGET_DIR:-target}/hdrhistogram
hdrhistogram=0.10.8
# The html.parser of CPython 3.11.0 to 3.11.13. Digests depend on it, and Debian's 3.11.2 has had a newer one since deb12u9.
html_parser=2fc512ae95bed2746b5ba3fabb14fcebf3114ff808ce97d96214ddd613b253da

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

has_html_parser() {
    local file
    file=$("$1" -c 'import html.parser, sys; assert sys.version_info[:2] == (3, 11); print(html.parser.__file__)' 2>/dev/null) &&
        [[ $(sha256sum <"$file") == "$html_parser  -" ]]
}

# A Python whose digests are the network's: any 3.11 of the machine with the right html.parser.
install_oracle() {
    local python
    has_html_parser "$oracle/bin/python3" && return
    for python in /usr/bin/python3.11 "$(command -v python3.11)" ~/.pyenv/versions/3.11.*/bin/python3.11 \
        ~/.local/share/uv/python/cpython-3.11.*/bin/python3.11; do
        if [[ -x $python ]] && has_html_parser "$python"; then
            rm -rf "$oracle"
            "$python" -m venv "$oracle" && "$oracle/bin/pip" install --quiet --disable-pip-version-check "pyzor==$pyzor"
            return
        fi
    done
    echo 'no Python 3.11 with the html.parser of 3.11.13 or older; one way to get it: uv python install 3.11.7' >&2
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
