#!/usr/bin/env bash
# One host's part of a rollout: deploy/rollout.sh sends this file there and runs it as root, with a verb and the release.
#   prepared RELEASE  is the release installed, and does it take the configuration that is there?
#   in-step           does the node run, and has each peer all that it has, and the other way round?
#   backup            keep the store as it is, and which release runs
#   replace RELEASE   stop the node in order, let the release run
#   gate              wait until /ready says so, and the node is in step
#   drill WORDS…      run trishula drill WORDS with what runs now: on nodes of its own, not on this host's
#   back              let the release run that ran before; with the backup, if it can't use the store any more
# Where things are on this host, its environment may say (what stands here is what deploy/install.sh does).
set -euo pipefail

prefix=${TRISHULA_PREFIX:-/opt/trishula}
config=${TRISHULA_CONFIG:-/etc/trishula/node.json}
state=${TRISHULA_STATE:-/var/lib/trishula}
unit=${TRISHULA_UNIT:-trishula-node}
token_file=${TRISHULA_TOKEN_FILE:-/etc/trishula/ops.token}
gate_s=${TRISHULA_GATE_S:-180}
# What works on the store must leave files there that the node's user can use.
read -ra as <<<"${TRISHULA_AS-runuser -u trishula --}"

current=$prefix/current
backup=$state/before-rollout.sqlite
# Absolute before we leave a directory that the node's user may not look into.
cd /

die() {
    echo "$*" >&2
    exit 1
}

trishula() {
    ${as[@]+"${as[@]}"} "$current/bin/trishula" "$@"
}

# The token goes by the environment: arguments can be read by everybody on the host.
[[ ! -r $token_file ]] || TRISHULA_TOKEN=$(<"$token_file")
export TRISHULA_TOKEN=${TRISHULA_TOKEN-}
ca_file=$(dirname "$config")/tls/ca.crt
[[ -n ${TRISHULA_CA_FILE-} || ! -r $ca_file ]] || export TRISHULA_CA_FILE=$ca_file

# What trishula node status --json told, judged: whether the node is in step, and with "ready" whether /ready says so too.
# Nobody else can listen on the port of a node of this host, so that its certificate need not be looked at.
JUDGE='
import json, ssl, sys, urllib.error, urllib.parse, urllib.request
what, token_file = sys.argv[1:]
told = json.load(sys.stdin)
if "peers" not in told:
    sys.exit(f"the node does not tell of its peers: put the token of an operator into {token_file}")
where = urllib.parse.urlsplit(told["url"])
unchecked = ssl.create_default_context()
unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
ask = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked))
try:
    if what == "ready":
        ask.open(("https" if where.scheme == "wss" else "http") + "://" + where.netloc + "/ready", timeout=10).close()
except urllib.error.HTTPError as error:
    # 404: a release from before nodes had it; that it is in step is all that can be known of it.
    if error.code != 404:
        checks = json.loads(error.read())["checks"]
        sys.exit("not ready: " + "; ".join(one.get("reason") or one["check"] for one in checks if not one["ok"]))
except OSError as error:
    sys.exit(f"no answer from /ready: {error}")
for peer in told["peers"]:
    behind = peer.get("lag_records") or 0, peer.get("to_copy_records") or 0
    # Under traffic there is always something on its way; what is old, or much, is not on its way.
    if peer["state"] != "up" or (peer.get("lag_s") or 0) > 2 or max(behind) > 1000:
        name, state = peer["node"], peer["state"]
        sys.exit(f"the peer {name} is {state}, {behind[0]} records behind, {behind[1]} still to be copied from it")
'

is() {
    local told
    told=$(trishula node status --state "$state" --json) || return 1
    python3 -c "$JUDGE" "$1" "$token_file" <<<"$told"
}

# wait_until WHAT SECONDS: in-step, or ready, which is in step as well.
wait_until() {
    local until_s=$((SECONDS + $2)) why
    until why=$(is "$1" 2>&1); do
        ((SECONDS < until_s)) || die "not $1 within $2 s: $why"
        sleep 0.5
    done
}

switch_to() {
    ln -sfn "releases/$1" "$current.new"
    mv -T "$current.new" "$current"
}

case ${1-} in
    prepared)
        [[ -x $prefix/releases/$2/bin/trishula ]] || die "the release $2 is not installed in $prefix/releases"
        [[ -L $current ]] || die "$current names no release: run deploy/install.sh first"
        ${as[@]+"${as[@]}"} "$prefix/releases/$2/bin/trishula" node check "$config"
        ;;
    in-step) wait_until in-step 30 ;;
    backup)
        rm -f "$backup"
        trishula node backup "$backup" --state "$state"
        basename "$(readlink "$current")" >"$prefix/previous"
        ;;
    replace)
        # In order: it answers what it has in hand, and its agents go to the other node.
        systemctl stop "$unit"
        switch_to "$2"
        systemctl start "$unit"
        ;;
    gate) wait_until ready "$gate_s" ;;
    drill) trishula drill "${@:2}" ;;
    back)
        previous=$(<"$prefix/previous")
        systemctl stop "$unit" || true
        switch_to "$previous"
        if ! systemctl start "$unit"; then
            echo "$previous can't use the store as it is now: the backup from before goes in its place" >&2
            systemctl stop "$unit" || true
            trishula node restore "$backup" --state "$state"
            systemctl start "$unit"
        fi
        wait_until ready "$gate_s"
        echo "$previous runs again"
        ;;
    *) die "rollout_host.sh is run by deploy/rollout.sh" ;;
esac
