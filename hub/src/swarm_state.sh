# What a manager of a swarm keeps of it on its disk: $1 the engine's data folder, $2 what to do.
#
#   $1/swarm            the engine's; `skep-restored` in it names who has restored it
#   $1/swarm.restoring  what was brought here to be restored: what was written down of it, and the state until that is in place
#   $1/swarm.before     what the engine had before that

umask 077
place=$1/swarm.restoring

fail() {
    echo "$2" >&2
    exit "$1"
}

# The engine of this machine, and not of one that shares its processes with it.
engine() {
    here=$(readlink /proc/self/ns/net)
    found=
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm" 2>/dev/null)" = dockerd ] || continue
        [ "$(readlink "$process/ns/net")" = "$here" ] && found="$found ${process#/proc/}"
    done
    set -- $found
    [ $# = 1 ] || fail 66 "there should be one dockerd here; there are $#"
    echo "$1"
}

# Standard input is written down beside the state. What is copied is of one moment, as after a power cut: the engine stands still
# meanwhile, containers do not. Whatever becomes of this program, the engine goes on after 5 s.
read_state() {
    [ -d "$1/swarm/raft" ] || fail 65 "no state of a swarm's manager is in $1/swarm"
    # Another one would wake the engine in the middle of this.
    exec 9<"$1/swarm"
    flock -n 9 || fail 75 "the state of the swarm is being read already"
    copy=$(mktemp -d "$1/swarm.copy.XXXXXX") || exit 1
    trap 'rm -rf "$copy"' EXIT
    cat >"$copy/skep-swarm.json" || exit 1
    engine=$(engine) || exit
    mkdir "$copy/swarm" "$copy/awake" || exit 1
    setsid sh -c 'sleep 5; rmdir "$2" 2>/dev/null; kill -CONT "$1"' sh "$engine" "$copy/awake" </dev/null >/dev/null 2>&1 9<&- &
    waker=$!
    kill -STOP "$engine" || fail 1 "dockerd cannot be stopped for a moment"
    # What its own tasks were is nothing to whoever is restored from this.
    (cd "$1/swarm" && for part in * ; do [ "$part" = worker ] || cp -a "$part" "$copy/swarm/" || exit 1; done)
    copied=$?
    kill -CONT "$engine"
    # Whoever woke it has taken the folder away first.
    rmdir "$copy/awake" 2>/dev/null || fail 75 "copying $1/swarm took longer than 5 s, so that it is not of one moment"
    kill "$waker" 2>/dev/null
    [ "$copied" = 0 ] || fail 1 "$1/swarm cannot be copied"
    tar -C "$copy" -czf - skep-swarm.json swarm
}

# Standard input is what `read` has said. Says what was written down of it.
bring() {
    rm -rf "$place.new"
    trap 'rm -rf "$place.new"' EXIT
    mkdir -p "$place.new" && tar -C "$place.new" -xzf - || fail 65 "what was brought here is no archive of a swarm's state"
    [ -f "$place.new/skep-swarm.json" ] && [ -d "$place.new/swarm/raft" ] || fail 65 "there is no state of a swarm's manager in it"
    rm -rf "$place" && mv "$place.new" "$place" || exit 1
    cat "$place/skep-swarm.json"
}

notes() {
    cat "$place/skep-swarm.json" 2>/dev/null || fail 65 "nothing was brought here to be restored"
}

# `brought` and not in place yet, `placed` and not begun anew yet, `done` and for whom, or `none`.
stands() {
    if [ -d "$place/swarm" ]; then
        echo brought
    elif [ -d "$place" ]; then
        echo placed
    elif [ -f "$1/swarm/skep-restored" ]; then
        echo "done $(cat "$1/swarm/skep-restored")"
    else
        echo none
    fi
}

# The engine is in no swarm, so it does not look there before it starts again.
put() {
    [ -d "$place/swarm" ] || exit 0
    rm -rf "$1/swarm.before"
    [ ! -e "$1/swarm" ] || mv "$1/swarm" "$1/swarm.before" || exit 1
    mv "$place/swarm" "$1/swarm"
}

# $3: for whom.
finish() {
    echo "$3" >"$1/swarm/skep-restored" || exit 1
    rm -rf "$place" "$1/swarm.before"
}

# Joins once more as the manager that it is, at the address $3 (with port): of a member only the address is changed by that, see
# `Join` in <https://github.com/moby/swarmkit/blob/master/manager/state/raft/raft.go>.
tell_address() {
    command -v curl >/dev/null || fail 69 "there is no curl, with which the swarm is told the address of this manager: install it"
    known=$1/swarm/certificates
    told=$(mktemp -d "$1/swarm.address.XXXXXX") || exit 1
    trap 'rm -rf "$told"' EXIT
    # What Docker notes in the file beside the key is not understood elsewhere.
    sed '/^[A-Za-z-]*: /d; /^$/d' "$known/swarm-node.key" >"$told/key" || exit 1
    # A message of gRPC with one field.
    printf "\\000\\000\\000\\000\\$(printf %o $((${#3} + 2)))\\012\\$(printf %o ${#3})%s" "$3" >"$told/request"
    # Nothing is agreed about HTTP/2: Docker's end does not do that any more once its certificate was replaced.
    curl --silent --show-error --fail --max-time 20 --http2-prior-knowledge --noproxy '*' --cacert "$known/swarm-root-ca.crt" \
        --cert "$known/swarm-node.crt" --key "$told/key" --connect-to "swarm-manager:2377:$3" \
        --header 'content-type: application/grpc' --header 'te: trailers' --data-binary "@$told/request" --output "$told/reply" \
        https://swarm-manager:2377/docker.swarmkit.v1.RaftMembership/Join
}

case $2 in
read) read_state "$@" ;;
bring) bring "$@" ;;
notes) notes ;;
stands) stands "$@" ;;
put) put "$@" ;;
finish) finish "$@" ;;
address) tell_address "$@" ;;
*) fail 64 "$2 is nothing that can be done" ;;
esac
