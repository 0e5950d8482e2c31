#!/usr/bin/env bash
# Install TRISHULA on a bare Debian (12 or newer) or Ubuntu (24.04 or newer): a node, or what an agents' machine needs.
# It can be run again at any time: what is there stays, and no configuration is ever written over.
#
#   deploy/install.sh                            from this checkout
#   deploy/install.sh --wheel FILE.whl           from a wheel; only the folder deploy/ is needed beside it
#   deploy/install.sh --config DIR/agni.json     with that configuration as /etc/trishula/node.json, if there is none
#   deploy/install.sh --agents                   no node: the unit of agents alone
#   deploy/install.sh --release NAME --no-switch lay a release beside those that are there, and leave running what runs
#   deploy/install.sh --dry-run                  say what would be done
#
#   /opt/trishula/releases/NAME   an environment for each release; "current" names the one that runs, "bin" is its bin
#   /etc/trishula                 node.json, agents/NAME.toml and their tokens
#   /var/lib/trishula             the node's state, of the user trishula alone
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=/opt/trishula
config_dir=/etc/trishula
unit_dir=/etc/systemd/system
source_tree=$(dirname "$here")
wheel='' config='' release='' dry='' with_node=yes switch=yes

die() {
    echo "install.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit "$1"
}

run() {
    if [[ -n $dry ]]; then
        echo "would run: $*"
    else
        "$@"
    fi
}

# write MODE OWNER FILE <text: unless the file says that already.
write() {
    local text
    text=$(cat)
    if [[ -f $3 ]] && [[ $(cat "$3") == "$text" ]]; then
        return
    fi
    if [[ -n $dry ]]; then
        echo "would write: $3"
        return
    fi
    printf '%s\n' "$text" >"$3.new"
    chown "$2" "$3.new"
    chmod "$1" "$3.new"
    mv "$3.new" "$3"
}

while (($#)); do
    case $1 in
        --wheel) wheel=${2:?--wheel needs a file} && shift ;;
        --config) config=${2:?--config needs a file} && shift ;;
        --release) release=${2:?--release needs a name} && shift ;;
        --agents) with_node='' ;;
        --no-switch) switch='' ;;
        --dry-run) dry=yes ;;
        -h | --help) usage 0 ;;
        *) echo "install.sh: there is no option $1" >&2 && usage 2 >&2 ;;
    esac
    shift
done

[[ -z $wheel || -f $wheel ]] || die "the wheel $wheel is not there"
[[ -z $config || -f $config ]] || die "the configuration $config is not there"
[[ -n $wheel || -f $source_tree/setup.cfg ]] || die "this is no checkout: name a wheel with --wheel FILE"
[[ -f $here/lock/router.txt ]] || die "$here/lock/router.txt is missing: copy the whole folder deploy/"
[[ -n $dry || $(id -u) -eq 0 ]] || die "it installs for the whole machine: run it as root, or try it with --dry-run"
command -v apt-get >/dev/null || die "this is neither Debian nor Ubuntu; deploy/docs/howto/install.rst has the steps by hand"

if [[ -z $release ]]; then
    if [[ -n $wheel ]]; then
        release=$(basename "$wheel" | cut -d- -f2)
    else
        release=$(sed -n 's/^version = //p' "$source_tree/setup.cfg")
        # A checkout between two releases is neither.
        commit=$(git -C "$source_tree" rev-parse --short HEAD 2>/dev/null || true)
        release+=${commit:+-$commit}
    fi
fi
[[ $release =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || die "a release's name is made of letters, digits and . _ -, not '$release'"
home=$prefix/releases/$release

echo "TRISHULA $release: packages of the system"
if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    run apt-get update -q
    run env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3 python3-venv
    [[ -n $dry ]] || python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, and this system has $(python3 --version)"
fi

echo "TRISHULA $release: users"
add_user() {
    id "$1" >/dev/null 2>&1 ||
        run useradd --system --user-group --home-dir "$2" --no-create-home --shell /usr/sbin/nologin "$1"
}
[[ -z $with_node ]] || add_user trishula /var/lib/trishula
add_user trishula-agent /var/lib/trishula-agents

echo "TRISHULA $release: the environment $home"
if [[ ! -f $home/.complete ]]; then
    pip=("$home/bin/python" -m pip --disable-pip-version-check --no-cache-dir -qq)
    run mkdir -p "$prefix/releases"
    run rm -rf "$home"
    run python3 -m venv "$home"
    # Everything comes by its hash from the lock; nothing is left to resolve.
    run "${pip[@]}" install --no-deps --require-hashes --requirement "$here/lock/router.txt"
    if [[ -n $wheel ]]; then
        run "${pip[@]}" install --no-deps "$wheel"
    else
        # From a copy: a build leaves files behind, and this may be somebody's work tree.
        tree=$(mktemp -d)
        trap 'rm -rf "$tree"' EXIT
        run cp -R "$source_tree"/{setup.cfg,pyproject.toml,MANIFEST.in,README.rst,LICENSE,components,router,config} "$tree"
        run "${pip[@]}" install --no-deps --no-build-isolation "$tree"
    fi
    run "$home/bin/trishula" --version
    run touch "$home/.complete"
fi
if [[ -n $switch || ! -e $prefix/current ]]; then
    # A rename, so that there is always one of the two.
    run ln -sfn "releases/$release" "$prefix/current.new"
    run mv -T "$prefix/current.new" "$prefix/current"
fi
[[ -L $prefix/bin ]] || run ln -s current/bin "$prefix/bin"

echo "TRISHULA $release: configuration in $config_dir"
run install -d -m 0755 "$config_dir"
run install -d -m 0750 -o root -g trishula-agent "$config_dir/agents"
if [[ -n $with_node && ! -e $config_dir/node.json ]]; then
    if [[ -z $config && -z $dry ]]; then
        config=$("$home/bin/python" -c \
            'from importlib.resources import files; print(files("trishula_router.config") / "single.json")')
    fi
    run install -m 0640 -o root -g trishula "${config:-the configuration of a node alone}" "$config_dir/node.json"
elif [[ -n $config ]] && ! cmp -s "$config" "$config_dir/node.json"; then
    echo "kept: $config_dir/node.json is there, and differs from $config"
fi

if [[ -n $switch ]]; then
    echo "TRISHULA $release: units in $unit_dir"
    run install -d "$unit_dir"
    [[ -z $with_node ]] || write 0644 root:root "$unit_dir/trishula-node.service" <"$here/systemd/trishula-node.service"
    write 0644 root:root "$unit_dir/trishula-agent@.service" <"$here/systemd/trishula-agent@.service"
    # In an image that is being made, or a container, no systemd runs.
    if [[ -d /run/systemd/system ]]; then
        run systemctl daemon-reload
        [[ -z $with_node ]] || run systemctl enable -q trishula-node
    fi
fi

if [[ -n $with_node ]]; then
    cat <<END

Installed. What is left:
  systemctl restart trishula-node           starts the node, or starts it anew with this release
  systemctl status trishula-node            node.log in /var/lib/trishula has more
  runuser -u trishula -- $prefix/bin/trishula token new NAME --state /var/lib/trishula
END
fi
cat <<END

An agent: its profile as $config_dir/agents/NAME.toml, its token beside it
(chown trishula-agent, chmod 600), then: systemctl enable --now trishula-agent@NAME
END
