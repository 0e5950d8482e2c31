#!/usr/bin/env bash
# Bring the nodes of a bus to a release, one after the other, while their agents work on:
#   deploy/rollout.sh --wheel dist/trishula_bus-2.0.0-py3-none-any.whl rushabdev.example agni.example
#
# The hosts are named in the order in which they are replaced: those that agents prefer last come first, so that what is
# wrong with a release shows where the fewest feel it. Each is replaced only while it is in step with its peers (else what
# has one copy would wait for the restart), then has to be ready and in step again, and pass a short drill. If it does not,
# it goes back to what ran before, and no further host is touched. Nodes one release apart work together, so that the bus
# is whole at every moment.
#
#   --wheel FILE      the release to install on each host, by deploy/install.sh
#   --release NAME    its name there (default: the wheel's version); without --wheel, one that is installed: also the way back
#   --drill WORDS     what trishula drill is to do on each host (default: "restart --rounds 1"; "" for none)
#   --ssh COMMAND     how a command is run on a host: COMMAND HOST WORDS (default: "ssh -o BatchMode=yes")
#   --sudo COMMAND    how it becomes root there (default: "sudo"; "" if it is)
#
# A host needs an operator's token in /etc/trishula/ops.token (mode 0600). What else it may say of itself is in
# deploy/rollout_host.sh. Exit codes: 0 all run the release; 1 it went no further, and what runs is whole; 2 the command
# line is wrong; 3 a host could not go back and needs a hand.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wheel='' release='' drill='restart --rounds 1' ssh='ssh -o BatchMode=yes' sudo=sudo
hosts=()

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit "$1"
}

while (($#)); do
    case $1 in
        --wheel) wheel=${2:?--wheel needs a file} && shift ;;
        --release) release=${2:?--release needs a name} && shift ;;
        --drill) drill=${2?--drill needs words} && shift ;;
        --ssh) ssh=${2:?--ssh needs a command} && shift ;;
        --sudo) sudo=${2?--sudo needs a command} && shift ;;
        -h | --help) usage 0 ;;
        -*) echo "rollout.sh: there is no option $1" >&2 && usage 2 >&2 ;;
        *) hosts+=("$1") ;;
    esac
    shift
done
[[ -z $wheel || -f $wheel ]] || { echo "rollout.sh: the wheel $wheel is not there" >&2 && exit 2; }
[[ -n $release || -z $wheel ]] || release=$(basename "$wheel" | cut -d- -f2)
[[ -n $release ]] || { echo "rollout.sh: name the release, with --wheel or --release" >&2 && exit 2; }
[[ $release =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || { echo "rollout.sh: '$release' is no name of a release" >&2 && exit 2; }
((${#hosts[@]})) || { echo "rollout.sh: name the hosts, those that agents prefer last first" >&2 && exit 2; }
read -ra ssh <<<"$ssh"
read -ra drill_words <<<"$drill"

say() {
    echo "$(date -u +%H:%M:%S) $*"
}

# on HOST VERB…: a host's part, whose output is shown with the host's name.
on() {
    local host=$1 words
    # The shell on the host must not read more into the words than is there.
    words=$(printf '%q ' "${@:2}")
    "${ssh[@]}" "$host" "$sudo bash -s -- $words" <"$here/rollout_host.sh" 2>&1 | sed "s/^/         $host: /"
}

install_on() {
    local files=(deploy/install.sh deploy/lock/router.txt deploy/systemd) name
    name=$(basename "$wheel")
    # The last command there is the one whose exit code counts.
    tar -c -C "$(dirname "$here")" "${files[@]}" -C "$(realpath "$(dirname "$wheel")")" "$name" |
        "${ssh[@]}" "$1" "set -e; d=\$(mktemp -d); trap 'rm -rf \"\$d\"' EXIT; tar -x -C \"\$d\"; $sudo \"\$d/deploy/install.sh\" --wheel \"\$d/$name\" --release $release --no-switch" |
        sed "s/^/         $1: /"
}

for host in "${hosts[@]}"; do
    if [[ -n $wheel ]]; then
        say "$host: installing $release beside what runs"
        install_on "$host"
    fi
    on "$host" prepared "$release" || { say "$host can't take $release; nothing was changed" && exit 1; }
done

for host in "${hosts[@]}"; do
    on "$host" in-step || { say "$host is not in step: nothing more is changed. deploy/runbooks.rst says what to look at" && exit 1; }
    on "$host" backup || { say "$host: no backup could be made: nothing more is changed" && exit 1; }
    say "$host: stopping in order, starting $release"
    if on "$host" replace "$release" && on "$host" gate && { ((${#drill_words[@]} == 0)) || {
        say "$host: ready and in step; the drill: $drill" && on "$host" drill "${drill_words[@]}"
    }; }; then
        say "$host: runs $release"
        continue
    fi
    say "$host: did not come through with $release; going back"
    if on "$host" back; then
        say "stopped at $host. To bring back those before it, too: rollout.sh --release NAME HOST…"
        exit 1
    fi
    say "$host: could not go back. Its agents are at the other nodes; look at its node.log and deploy/runbooks.rst"
    exit 3
done
say "all run $release: ${hosts[*]}"
