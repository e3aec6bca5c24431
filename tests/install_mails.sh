#!/bin/bash
# Fetches real messages for the tests of digests, into the directory named: those that freely licensed packages are tested with.
# Each source is a package at a pinned version with a checksum, and a directory of its own below; one that is there is not fetched
# again, and one that cannot be had is named. What is fetched is only read by tests, never passed on.
#
#   tests/install_mails.sh DIRECTORY PIP
set -euo pipefail

mails=${1:?usage: install_mails.sh DIRECTORY PIP}
pip=${2:?usage: install_mails.sh DIRECTORY PIP}
fetch_npm=$(dirname "$0")/fetch_npm.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Takes the files over that PATTERN finds in the package unpacked in the scratch directory.
take() {
    local source=$1 pattern=$2 unfinished=$mails/.unfinished
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    (cd "$scratch/package" && find . -type f -regextype egrep -regex "$pattern" -print0) |
        while IFS= read -r -d '' file; do
            # Directories of a package may hold files of the same name.
            cp "$scratch/package/$file" "$unfinished/$(tr / _ <<<"${file#./}")"
        done
    [[ -n $(ls "$unfinished") ]] && mv "$unfinished" "$mails/$source"
}

has_checksum() {
    [[ $(sha256sum <"$1") == "$2  -" ]]
}

unpack() {
    mkdir "$scratch/package" && tar -xzf "$1" -C "$scratch/package" --strip-components=1
}

# A source distribution of PyPI.
fetch_sdist() {
    local name=$1 version=$2 checksum=$3
    "$pip" download --quiet --disable-pip-version-check --no-deps --no-binary "$name" -d "$scratch/sdist" "$name==$version" &&
        has_checksum "$scratch"/sdist/*.tar.gz "$checksum" && unpack "$scratch"/sdist/*.tar.gz
}

# A package of npm.
fetch_npm() {
    local name=$1 version=$2 checksum=$3
    "$fetch_npm" "$name" "$version" "$checksum" "$scratch/$name.tgz" && unpack "$scratch/$name.tgz"
}

# A crate, by the checksum that the registry's index has.
fetch_crate() {
    local name=$1 version=$2 checksum=$3 project=$scratch/project
    mkdir -p "$project/src" && touch "$project/src/lib.rs" &&
        printf '[package]\nname = "fetch"\n[dependencies]\n%s = "=%s"\n[workspace]\n' "$name" "$version" >"$project/Cargo.toml" &&
        (cd "$project" && cargo vendor --quiet vendor) &&
        grep -q "\"package\":\"$checksum\"" "$project/vendor/$name/.cargo-checksum.json" &&
        mv "$project/vendor/$name" "$scratch/package"
}

# A package of Debian, of the version that the machine's release has.
fetch_debian() {
    (cd "$scratch" && apt-get download -qq "$1" && dpkg-deb -x ./*.deb package)
}

# Where from, and which files: a name of ours, the kind of package, its name, version and checksum, and a pattern.
install() {
    local source=$1 kind=$2 pattern=${*: -1}
    [[ -d $mails/$source ]] && return
    rm -rf "${scratch:?}"/*
    if ! { "fetch_$kind" "${@:3:$#-3}" && take "$source" "$pattern"; } >"$scratch/log" 2>&1; then
        echo "the messages of $3 could not be had: $(tail -n 1 "$scratch/log")" >&2
    fi
}

mkdir -p "$mails"
install python-email debian libpython3.11-testsuite '.*/test_email/data/[^/]*\.txt'
install flufl-bounce sdist flufl-bounce 6.0.0 \
    a1df16b9d1877ae4536f7d76c00d8421fcefbe694f80f5285d05c45a2547b1bc '.*/tests/data/[^/]*\.txt'
install mail-parser-python sdist mail-parser 4.8.0 \
    602e659b159652d378b0f9cce2d682bee692bedae72687786e2b2e52eaeb9afc '.*/tests/mails/mail_[^/]*'
install talon sdist talon 1.4.4 \
    263d122609747691e9f75726ea565f5da8a40146a7a81eb5883e51b8224b0e5c '.*/tests/fixtures/.*\.eml'
install django-mailbox sdist django-mailbox 4.10.1 \
    9060a4ddc81d16aa699e266649c12eaf4f29671b5266352e2fad3043a6832b52 '.*/tests/messages/[^/]*\.eml'
install hyperkitty sdist hyperkitty 1.3.12 \
    deb582937ec5bc9ea9c1d5d86bfb76a4da429b60e1fea6fd6964e7c667cf161d '.*/tests/testdata/[^/]*\.(txt|mbox|eml)'
install baunsu npm baunsu 0.2.3 \
    e70903f6e92ec53b8feef60f6437be6f794a5b19ded61776657637e205dbae93 '.*/tests/emails/[^/]*\.txt'
# Not those in `legacy`: they come without a licence.
install mail-parser-rust crate mail-parser 0.11.9 \
    4ec00bda90c6e645a54506c630c2820cd6b1890cfd2b0a169b50f74b2b8c7c86 '.*/resources/(eml/(malformed|rfc|thirdparty)/.*\.eml|maildir/.*)'
