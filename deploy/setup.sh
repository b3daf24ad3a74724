#!/usr/bin/env bash
# Installs what building Skep and running it on this computer needs, as far as it is missing.
#
#   deploy/setup.sh            says nothing if everything is there
#
# What is looked for is the tool, not the package: a Docker Engine or a compiler from elsewhere will do. Packages
# are installed on Debian and its relatives only; on other systems the missing tools are named. Running it again
# is harmless. No service is started: Skep starts engines of its own.
set -euo pipefail

# One line each: the tool | the Debian package | what it is for.
readonly TOOLS='
clang|clang|to build RocksDB: its bindings are read from C headers
libclang|libclang-dev|to build RocksDB: its bindings are read from C headers
cc|gcc|to build the TLS library
c++|g++|to build RocksDB
make|make|to run the commands in the Makefile
dockerd|docker.io|to run hosts: each has a Docker engine of its own
docker|docker.io|to look into hosts by hand
containerd|docker.io|to run hosts: started by each engine
runc|docker.io|to run hosts: started by containerd
ip|iproute2|to run hosts: their network
iptables|iptables|to run hosts: their network
nsenter|util-linux|to run hosts: their namespaces
unshare|util-linux|to run hosts: their namespaces
setsid|util-linux|to run hosts: their processes
mount|mount|to run hosts: their mounts
static-busybox|busybox-static|to make the image of the examples without a registry
strace|strace|to let a disk fail in tests
curl|curl|to ask services and the API
haproxy|haproxy|to test: managers behind a load balancer
nginx|nginx-light|to test: the configuration of a load balancer
nginx-stream|libnginx-mod-stream|to test: the configuration of a load balancer
strace|strace|to measure: it makes the disk of one manager slow and counts what is synced
setpriv|util-linux|to measure: what is started ends with the benchmark
'

# A user's search path often lacks the folders with the system's tools.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

readonly CLANG_HEADERS='/usr/lib*/clang/*/include/stddef.h'

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

is_there() {
    case $1 in
    # The library alone is not enough: without clang's own headers the bindings cannot be read.
    libclang) [[ $(ldconfig -p) =~ libclang(-[0-9]+)?\.so ]] && compgen -G "$CLANG_HEADERS" >/dev/null ;;
    # ldd succeeds only for programs that need a loader, and a container without libraries has none.
    static-busybox) command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1 ;;
    nginx-stream) [[ -e /usr/lib/nginx/modules/ngx_stream_module.so ]] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# The lines of TOOLS whose tool is missing.
missing() {
    local tool package purpose
    while IFS='|' read -r tool package purpose; do
        [[ -n $tool ]] || continue
        is_there "$tool" || echo "$tool|$package|$purpose"
    done <<<"$TOOLS"
}

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "needs root to run: $* (run deploy/setup.sh as root once, or install sudo)"
    fi
}

is_debian_like() {
    command -v apt-get >/dev/null && [[ -r /etc/os-release ]] || return 1
    # shellcheck source=/dev/null
    [[ " $(. /etc/os-release && echo "$ID ${ID_LIKE:-}") " =~ ' 'debian' ' ]]
}

# Debian's own switch against starting services while packages are installed. One that is there already stays.
readonly POLICY=/usr/sbin/policy-rc.d
hold_services() {
    [[ -e $POLICY ]] && return
    as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$POLICY && chmod 755 $POLICY"
    trap 'as_root rm -f "$POLICY"' EXIT
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq "$@"; }

install_packages() {
    local packages=("$@")
    apt update || say "the package lists could not be updated; going on with those that are there"
    # Newer releases have taken the client out of docker.io.
    if ! is_there docker && apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
    hold_services
    apt install -y --no-install-recommends "${packages[@]}" >/dev/null
}

check_rust() {
    command -v cargo >/dev/null && command -v rustc >/dev/null && return
    fail "cargo and rustc are missing. Install rustup (https://rustup.rs, or your distribution's package
       'rustup'); it fetches the version that rust-toolchain.toml names. If they are installed for your own user,
       run make as that user and not with sudo: it asks for root where root is needed."
}

main() {
    local lacking packages
    lacking=$(missing)
    if [[ -n $lacking ]]; then
        is_debian_like || fail "this is not a Debian or Ubuntu, so install by hand what is missing:
$(awk -F'|' '{ printf "  %-15s %s (Debian package: %s)\n", $1, $3, $2 }' <<<"$lacking")"
        mapfile -t packages < <(cut -d'|' -f2 <<<"$lacking" | sort -u)
        awk -F'|' '!named[$2]++ { printf "setup: installing %-14s %s\n", $2, $3 }' <<<"$lacking"
        install_packages "${packages[@]}"
        lacking=$(missing)
        [[ -z $lacking ]] || fail "still missing after the installation: $(cut -d'|' -f1 <<<"$lacking" | xargs)"
        say "done"
    fi
    check_rust
}

main "$@"
