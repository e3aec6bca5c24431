#!/bin/bash
# Fetches a package of npm at a pinned version, without npm, which is large: from the registry npm would ask.
#
#   tests/fetch_npm.sh NAME VERSION SHA256 FILE
set -euo pipefail

name=${1:?usage: fetch_npm.sh NAME VERSION SHA256 FILE} version=$2 checksum=$3 file=$4
registry=${npm_config_registry:-${NPM_CONFIG_REGISTRY:-https://registry.npmjs.org}}
if command -v npm >/dev/null; then
    registry=$(npm config get registry)
fi

/usr/bin/python3 - "${registry%/}/$name/-/$name-$version.tgz" "$file" <<'PYTHON'
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as reply, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(reply, file)
PYTHON
if [[ $(sha256sum <"$file") != "$checksum  -" ]]; then
    echo "$name-$version.tgz of $registry is not the package with the SHA-256 $checksum" >&2
    exit 1
fi
