# Changes the version of this machine's Docker engine: $1 the version (none: starts it anew), $2 the machine's own program for
# it, $3 where the exit code goes. Its standard input is the lock that says that it goes on, so nothing that is started here gets
# that.

fail() {
    echo "$1" >&2
    exit "$2"
}

restart() {
    if [ -x "$1" ]; then
        exec "$1"
    elif [ -d /run/systemd/system ]; then
        exec systemctl restart docker
    elif command -v service >/dev/null; then
        exec service docker restart
    fi
    fail "nobody here knows how to start Docker anew; put a program at $1 that does it" 64
}

change() {
    [ -n "$1" ] || restart "$(dirname "$2")/engine-restart"
    if [ -x "$2" ]; then
        exec "$2" "$1"
    fi
    command -v apt-get >/dev/null || fail "this machine has no apt-get; put a program at $2 that installs the version it is given" 64
    package=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' docker-ce docker.io 2>/dev/null | awk '$2 == "installed" { print $1; exit }')
    [ -n "$package" ] || fail "Docker was not installed as docker-ce or docker.io; put a program at $2 that installs the version it is given" 64
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q || fail "apt-get update has failed" 1
    # The package's version is the engine's, with an epoch before it and the distribution's revision behind it.
    found=$(apt-cache madison "$package" | awk -F ' *[|] *' -v wanted="$1" '{
        upstream = $2; sub(/^[0-9]+:/, "", upstream)
        if (upstream == wanted || index(upstream, wanted "-") == 1) { print $2; exit }
    }')
    [ -n "$found" ] || fail "no source of packages of this machine has $package $1" 65
    set -- "$package=$found"
    if dpkg-query -W docker-ce-cli >/dev/null 2>&1 && [ "$package" = docker-ce ]; then
        set -- "$@" "docker-ce-cli=$found"
    fi
    exec apt-get install -q -y --no-remove -o Dpkg::Options::=--force-confold "$@"
}

(change "$1" "$2") </dev/null
code=$?
# Told only when everything is over, and as a whole.
echo "$code" >"$3.new" && mv "$3.new" "$3"
