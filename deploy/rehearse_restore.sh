#!/usr/bin/env bash
# A backup that was never restored is a hope. This takes one of a node that may be running, restores it into a directory
# of its own, checks every record and body there, and compares what both hold. The node is not disturbed.
#   deploy/rehearse_restore.sh [--state /var/lib/trishula] [--program /opt/trishula/bin/trishula] [--json]
#   deploy/rehearse_restore.sh --backup FILE        the backup of last night instead of a new one
# Run it as the user of the node (runuser -u trishula -- …). It needs room for three copies of the store below TMPDIR.
# It ends with 0 if the restored store is whole and holds what the backup holds.
set -euo pipefail

state=/var/lib/trishula
program=/opt/trishula/bin/trishula
backup='' as_json=''

while (($#)); do
    case $1 in
        --state) state=${2:?--state needs a directory} && shift ;;
        --program) program=${2:?--program needs a file} && shift ;;
        --backup) backup=${2:?--backup needs a file} && shift ;;
        --json) as_json=yes ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;;
        *) echo "rehearse_restore.sh: there is no option $1" >&2 && exit 2 ;;
    esac
    shift
done
[[ -x $program ]] || { echo "rehearse_restore.sh: there is no program $program; name it with --program" >&2 && exit 2; }

umask 077
scratch=$(mktemp -d "${TMPDIR:-/tmp}/trishula-rehearsal.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
begun_s=$SECONDS

if [[ -n $backup ]]; then
    cp "$backup" "$scratch/backup.sqlite"
    [[ ! -d $backup.attachments ]] || cp -R "$backup.attachments" "$scratch/backup.sqlite.attachments"
else
    "$program" node backup "$scratch/backup.sqlite" --state "$state" --json >/dev/null
fi
# Twice, each into a place of its own: what a restore changes shows in the second.
for place in backup restored; do
    mkdir "$scratch/$place"
done
cp "$scratch/backup.sqlite" "$scratch/backup/node.sqlite"
# Of a backup that was taken without its attachments the store is looked at alone.
without=()
if [[ -d $scratch/backup.sqlite.attachments ]]; then
    cp -R "$scratch/backup.sqlite.attachments" "$scratch/backup/attachments"
elif "$program" node verify --help | grep -q -e --no-attachments; then
    without=(--no-attachments)
fi
"$program" node verify --state "$scratch/backup" "${without[@]}" --json >"$scratch/backup.json"
"$program" node restore "$scratch/backup.sqlite" --state "$scratch/restored" --json >/dev/null
"$program" node verify --state "$scratch/restored" "${without[@]}" --json >"$scratch/restored.json"

python3 -c '
import json, sys
as_json, took_s, *files = sys.argv[1:]
told = [json.load(open(file)) for file in files]
counts = [{key: one for key, one in each.items() if isinstance(one, int) and not isinstance(one, bool)} for each in told]
# A restore begins a new epoch, and writes that down: the journal has got longer.
ok = all(each["ok"] for each in told) and all(counts[1].get(key, 0) >= counts[0][key] for key in counts[0])
ok = ok and counts[0]["bodies"] == counts[1]["bodies"]
if as_json:
    print(json.dumps({"ok": ok, "backup": counts[0], "restored": counts[1], "took_s": int(took_s)}))
else:
    for key in counts[0]:
        print(f"{key}: {counts[0][key]} in the backup, {counts[1].get(key)} restored")
    print(f"the backup can be restored; tried in {took_s} s" if ok else "THE BACKUP IS NO GOOD: the two differ, or are damaged")
sys.exit(not ok)
' "$as_json" "$((SECONDS - begun_s))" "$scratch/backup.json" "$scratch/restored.json"
