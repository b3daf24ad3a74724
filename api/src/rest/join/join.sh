# Makes this machine a host of a Skep environment: installs Docker if there is none, then the agent, and starts it.
#
# What it touches: /usr/local/bin/skep, /etc/skep/agent.env, /etc/systemd/system/skep-agent.service, /var/lib/skep-agent.
# Run it again with a new token to add a machine that was removed. It changes nothing of a Docker that is there already.
# A Docker that it installs is told the size of packets that the machine's link carries, if that is not the usual one
# (/etc/docker/daemon.json).
#
# Settings, from the environment or as arguments NAME=VALUE:
#   SKEP_AGENT_NAME=NAME             the host's name; the machine's own if absent
#   SKEP_AGENT_ADDRESS=IP|INTERFACE  where the other hosts reach this one; from where it reaches the managers if absent
#   SKEP_AGENT_ADOPT=yes             take over the swarm that the machine is a node of, as it is
#   SKEP_AGENT_START=no              install only; start it yourself: skep agent, with /etc/skep/agent.env as environment
set -eu

say() { printf '%s\n' "skep: $*" >&2; }
fail() { say "$*"; exit 1; }

for setting in "$@"; do
    case "$setting" in
        SKEP_AGENT_NAME=*|SKEP_AGENT_ADDRESS=*|SKEP_AGENT_ADOPT=*|SKEP_AGENT_START=*) export "${setting?}" ;;
        *) fail "unknown setting '$setting': SKEP_AGENT_NAME, SKEP_AGENT_ADDRESS, SKEP_AGENT_ADOPT and SKEP_AGENT_START are known" ;;
    esac
done

[ "$(id -u)" = 0 ] || fail "this must run as root: put sudo before sh"
[ "$(uname -s)" = Linux ] || fail "hosts run Linux, this is $(uname -s)"
machine=$(uname -m)
[ "$machine" = "$architecture" ] ||
    fail "this machine is $machine, the managers have the program for $architecture only: install skep for $machine
by hand, then run: SKEP_AGENT_TOKEN=… skep agent --managers $managers"
# The program is built for these; without them it would end with no word.
if [ "$machine" = x86_64 ] && ! { grep -qw sse4_2 /proc/cpuinfo && grep -qw pclmulqdq /proc/cpuinfo; }; then
    fail "this machine's processor lacks SSE 4.2 or PCLMULQDQ, which the program needs: one from 2010 or later has them"
fi

# Docker makes its own network for 1500 bytes unless it is told otherwise; on a link that carries less, large packets of
# containers are lost. It reads this when it starts, so it is written before Docker is there.
set_mtu() {
    manager=${managers%%,*}
    manager=${manager%:*}
    device=$(ip route get "$manager" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    [ -n "$device" ] || device=$(ip route show default 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    mtu=$(cat "/sys/class/net/$device/mtu" 2>/dev/null || echo 1500)
    if [ "$mtu" -lt 1500 ] && [ ! -e /etc/docker/daemon.json ]; then
        mkdir -p /etc/docker
        printf '{ "mtu": %s }\n' "$mtu" >/etc/docker/daemon.json
        say "this machine's link carries packets of $mtu bytes: told Docker so (/etc/docker/daemon.json)"
    fi
}

if ! command -v dockerd >/dev/null 2>&1 && [ ! -S /var/run/docker.sock ]; then
    say "installing Docker"
    set_mtu
    if command -v apt-get >/dev/null 2>&1; then
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y docker.io >/dev/null
    elif command -v dnf >/dev/null 2>&1; then
        dnf -q install -y moby-engine || dnf -q install -y docker
    elif command -v zypper >/dev/null 2>&1; then
        zypper -q install -y docker
    elif command -v apk >/dev/null 2>&1; then
        apk add -q docker
    else
        fail "there is no Docker, and no package manager that is known here: install Docker first (https://docs.docker.com/engine/install/)"
    fi
    if command -v systemctl >/dev/null 2>&1; then systemctl enable --now docker; fi
fi

program=/usr/local/bin/skep
has_it() { [ -x "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$sha256" ]; }
if ! has_it "$program"; then
    say "fetching the agent"
    mkdir -p "$(dirname "$program")"
    curl -fsSL -k --pinnedpubkey "$pinned_key" -o "$program.new" "$url/skep" || fail "the agent could not be fetched"
    chmod 755 "$program.new"
    has_it "$program.new" || { rm -f "$program.new"; fail "the agent was damaged on its way: try again"; }
    mv "$program.new" "$program"
fi
"$program" --version >/dev/null ||
    fail "the managers' program does not run on this machine (see above): its system libraries are older than theirs"

mkdir -p /etc/skep
umask 077
{
    echo "SKEP_AGENT_TOKEN=$token"
    echo "SKEP_AGENT_MANAGERS=$managers"
    if [ -n "${SKEP_AGENT_NAME:-}" ]; then echo "SKEP_AGENT_NAME=$SKEP_AGENT_NAME"; fi
    if [ -n "${SKEP_AGENT_ADDRESS:-}" ]; then echo "SKEP_AGENT_ADDRESS=$SKEP_AGENT_ADDRESS"; fi
    if [ -n "${SKEP_AGENT_ADOPT:-}" ]; then echo "SKEP_AGENT_ADOPT=$SKEP_AGENT_ADOPT"; fi
} >/etc/skep/agent.env
umask 022

if [ "${SKEP_AGENT_START:-yes}" = no ]; then
    say "installed; start it with the environment in /etc/skep/agent.env: skep agent"
    exit 0
fi
[ -d /run/systemd/system ] ||
    fail "this machine has no systemd: let its supervisor run 'skep agent' with the environment in /etc/skep/agent.env"

cat >/etc/systemd/system/skep-agent.service <<'UNIT'
[Unit]
Description=Skep agent
Wants=network-online.target
After=network-online.target docker.service

[Service]
EnvironmentFile=/etc/skep/agent.env
ExecStart=/usr/local/bin/skep agent
# It waits for managers and engine by itself; it ends if the managers do not want this host (5), or removed it.
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable skep-agent >/dev/null 2>&1
since=$(date '+%Y-%m-%d %H:%M:%S')
systemctl restart skep-agent

waited=0
while [ "$waited" -lt 30 ]; do
    if journalctl -u skep-agent --since "$since" 2>/dev/null | grep -q 'linked to a manager'; then
        say "this machine is a host now; watch it join: skep host ls"
        exit 0
    fi
    systemctl is-active -q skep-agent || break
    sleep 1
    waited=$((waited + 1))
done
journalctl -u skep-agent --since "$since" --no-pager -o cat 2>/dev/null | tail -n 5 >&2 || true
fail "the agent has not reached a manager yet (tried: $managers); it goes on trying unless it was refused: journalctl -u skep-agent"
