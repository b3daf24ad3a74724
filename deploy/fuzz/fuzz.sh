#!/usr/bin/env bash
# Asks three managers everything that their description says can be asked, at random, for a while: first with a valid
# token, then without one. Fails if an answer is not as described, if one is an error of the server, or if a stranger
# gets anything but 401, 403 and 404 beside what is public.
#
#   deploy/fuzz/fuzz.sh SKEP CACHE MINUTES
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

readonly SKEP=${1:?say which skep: deploy/fuzz/fuzz.sh SKEP CACHE MINUTES}
readonly CACHE=${2:?say where the fuzzer is kept}
readonly MINUTES=${3:?say for how many minutes}
readonly NAME=fuzz PORT=19743

if [[ ! -x $CACHE/bin/st ]]; then
    python3 -m venv "$CACHE"
    "$CACHE/bin/pip" install --quiet 'schemathesis>=4.32,<5'
fi

folder=$(mktemp -d)
managers=
clean_up() {
    if [[ -n $managers ]]; then
        kill -INT "$managers" 2>/dev/null || true
        wait "$managers" || true
    fi
    rm -rf "$folder"
}
trap clean_up EXIT

"$SKEP" dev --managers 3 --hosts 0 --name $NAME --port $PORT --dir "$folder/lab" >"$folder/log" 2>&1 &
managers=$!
until [[ -e $folder/lab/$NAME/env ]] && (. "$folder/lab/$NAME/env" && "$SKEP" cluster status >/dev/null 2>&1); do
    kill -0 "$managers" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 1
done
# shellcheck source=/dev/null
. "$folder/lab/$NAME/env"

# What the fuzzer leaves behind goes with the folder.
ask() {
    cd "$folder"
    SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 \
        "$CACHE/bin/st" --config-file "$here/schemathesis.toml" run "$@" \
        --url "https://127.0.0.1:$PORT" --tls-verify "$SKEP_CA_FILE" --max-time $((MINUTES * 60)) --no-color \
        "https://127.0.0.1:$PORT/v1/openapi.json"
}

status=0
echo "with a valid token, $MINUTES minutes:"
SKEP_FUZZ_TOKEN=$(cat "$SKEP_TOKEN_FILE") ask || status=1
# Else most of the answers were those that strangers get.
"$SKEP" cluster status || { echo "the token has ended, or the managers do not agree any more" >&2; status=1; }
echo "without a token, $MINUTES minutes:"
SKEP_FUZZ_TOKEN=nobody SKEP_FUZZ_CLOSED=1 ask --checks closed_to_strangers || status=1
exit $status
