#!/usr/bin/env bash
# The same for machines with ufw: nginx for everybody, the node's own port for the addresses that are named.
#   deploy/firewall/ufw.sh 192.0.2.10 192.0.2.11
#   UFW="ufw --dry-run" deploy/firewall/ufw.sh 192.0.2.10        shows what ufw would do
set -euo pipefail

read -ra ufw <<<"${UFW:-ufw}"
if (($# == 0)); then
    echo "usage: ufw.sh ADDRESS… (of the other nodes, and of agents that come without nginx)" >&2
    exit 2
fi
# Not to be locked out: ufw allows ssh by this name.
"${ufw[@]}" limit OpenSSH || "${ufw[@]}" limit 22/tcp
"${ufw[@]}" allow 80/tcp
"${ufw[@]}" allow 443/tcp
for address in "$@"; do
    "${ufw[@]}" allow proto tcp from "$address" to any port 8765
done
echo "Now: ufw enable (what is not allowed is denied), ufw status"
