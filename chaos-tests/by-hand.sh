#!/usr/bin/env bash
# The yardstick: Docker engines and a swarm of them, made by hand, as fast as a shell script can; then one more.
#
#   by-hand.sh [HOSTS]        three if nothing is said; the first three are managers
#
# What Skep does for one environment of as many local hosts is measured against this. The engines get the same
# namespaces, mounts and options as those of the driver `local` (drivers/src/local/engine.rs), so that the
# difference is Skep's own. Prints, in seconds since the start:
#
#   engines_ready_seconds=…   every engine answers
#   swarm_ready_seconds=…     `docker node ls` shows all nodes Ready
#   one_more_seconds=…        from there until it shows one more
#
# Needs root, docker.io, iproute2, util-linux. Uses one /24 of 10.90.0.0/16 to 10.99.0.0/16 that no route leads
# to, and removes everything it made, also when it is interrupted. Can run beside a Skep lab.
set -euo pipefail

readonly HOSTS=${1:-3}
readonly MANAGERS=3
# A swarm that is not there by then is not a slow one but a broken one.
readonly DEADLINE_SECONDS=120

[[ $EUID -eq 0 ]] || { echo "by-hand.sh: needs root" >&2; exit 1; }
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

tag=$(printf 'bh%05x' "$$")
folder=$(mktemp -d "/tmp/skep-$tag-XXXX")
bridge="${tag}br"
subnet=

now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.3f", to - from }'; }
namespace() { echo "by-hand-$tag-$1"; }
address() { echo "$subnet.1$1"; }
engine() { local host=$1; shift; docker -H "unix://$folder/$host/docker.sock" "$@"; }

# Ours are those that carry the tag in their environment (dockerd, containerd, shims) or whose containers'
# control group has its name. A swarm without services has no containers, but an interrupted run might.
our_processes() {
    local process
    for process in /proc/[0-9]*; do
        if grep -qzx "BY_HAND=$tag" "$process/environ" 2>/dev/null ||
            grep -q ":/by-hand-$tag/" "$process/cgroup" 2>/dev/null; then
            echo "${process#/proc/}"
        fi
    done
}

clean_up() {
    local process host group
    trap - EXIT INT TERM
    for process in $(our_processes); do kill -KILL "$process" 2>/dev/null || true; done
    until [[ -z $(our_processes) ]]; do sleep 0.02; done
    for host in $(seq $((HOSTS + 1))); do
        ip link del "${tag}h$host" 2>/dev/null || true
        ip netns del "$(namespace "$host")" 2>/dev/null || true
    done
    ip link del "$bridge" 2>/dev/null || true
    for group in /sys/fs/cgroup/"by-hand-$tag" /sys/fs/cgroup/*/"by-hand-$tag"; do
        [[ -d $group ]] && find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    rm -rf --one-file-system "$folder"
}

# Under the lock that the driver takes as well: between looking at the routes and making the bridge nobody else
# may choose the same network.
make_bridge() {
    local second third
    exec 9>/run/skep-local.lock
    flock 9
    for second in $(seq 99 -1 90); do
        for third in $(seq 255 -1 0); do
            if [[ -z $(ip -4 route show table all root "10.$second.$third.0/24") &&
                -z $(ip -4 route show table all match "10.$second.$third.0/24" | grep -v '^default') ]]; then
                subnet="10.$second.$third"
                break 2
            fi
        done
    done
    [[ -n $subnet ]] || { echo "by-hand.sh: no free network" >&2; exit 1; }
    ip -batch - <<END
link add $bridge type bridge
addr add $subnet.1/24 dev $bridge
link set $bridge up
END
    exec 9>&-
}

start_engine() {
    local host=$1 name dir
    name=$(namespace "$host")
    dir="$folder/$host"
    mkdir -p "$dir/etc-docker"
    ip netns add "$name"
    ip -batch - <<END
link add ${tag}h$host mtu 1500 type veth peer name eth0 mtu 1500 netns $name
link set ${tag}h$host master $bridge up
END
    ip -n "$name" -batch - <<END
link set lo up
addr replace $(address "$host")/24 dev eth0
link set eth0 up
route replace unreachable default
END
    env -i PATH="$PATH" BY_HAND="$tag" \
        HTTP_PROXY=http://127.0.0.1:1 HTTPS_PROXY=http://127.0.0.1:1 \
        NO_PROXY="localhost,127.0.0.0/8,$subnet.0/24" \
        setsid nsenter --net="/run/netns/$name" unshare --uts --mount --propagation slave sh -ec '
            echo "$1" > /proc/sys/kernel/hostname
            mount --bind "$2" /etc/docker
            mount -t tmpfs -o mode=711 by-hand /run/docker
            mount -t tmpfs -o mode=711 by-hand /run/containerd
            shift 2; exec "$@"' by-hand "by-hand-$host" "$dir/etc-docker" \
        dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
        --host "unix://$dir/docker.sock" --exec-opt native.cgroupdriver=cgroupfs \
        --cgroup-parent "/by-hand-$tag/$host" --mtu 1500 \
        </dev/null >"$dir/dockerd.log" 2>&1 &
    # The shell would report the end of each.
    disown
}

wait_for() {
    local what=$1 begin
    shift
    begin=$SECONDS
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS - begin > DEADLINE_SECONDS)); then
            echo "by-hand.sh: not within $DEADLINE_SECONDS s: $what" >&2
            tail -n 5 "$folder"/*/dockerd.log >&2
            exit 1
        fi
        sleep 0.02
    done
}

ready() {
    [[ $(engine 1 node ls --format '{{.Status}}' | grep -c '^Ready$') -eq $1 ]]
}

join() {
    local host=$1 token=$2
    engine "$host" swarm join --advertise-addr "$(address "$host")" --token "$token" "$(address 1):2377" >/dev/null
}

main() {
    local begin host manager worker joining=()
    begin=$(now)
    make_bridge
    mkdir -p /etc/docker /run/docker /run/containerd
    for host in $(seq "$HOSTS"); do start_engine "$host"; done
    for host in $(seq "$HOSTS"); do wait_for "engine $host" engine "$host" version; done
    echo "engines_ready_seconds=$(since "$begin")"

    engine 1 swarm init --advertise-addr "$(address 1)" >/dev/null
    manager=$(engine 1 swarm join-token -q manager)
    worker=$(engine 1 swarm join-token -q worker)
    for host in $(seq 2 "$HOSTS"); do
        if ((host <= MANAGERS)); then join "$host" "$manager" & else join "$host" "$worker" & fi
        joining+=("$!")
    done
    for host in "${joining[@]}"; do wait "$host"; done
    wait_for "all nodes Ready" ready "$HOSTS"
    echo "swarm_ready_seconds=$(since "$begin")"

    begin=$(now)
    host=$((HOSTS + 1))
    start_engine "$host"
    wait_for "engine $host" engine "$host" version
    join "$host" "$worker"
    wait_for "one more node Ready" ready "$host"
    echo "one_more_seconds=$(since "$begin")"
}

trap clean_up EXIT
trap 'exit 130' INT TERM
main
