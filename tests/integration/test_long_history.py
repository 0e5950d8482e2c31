"""The memory of an import of 200,000 messages of v1, by the process's own count: as much as that of a few thousand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import json, resource, sys
from pathlib import Path
from trishula.cli.files_import import _take
from trishula.files.history import History
from trishula.files.importing import Importing
from trishula.files.names import Names
from trishula.files.seen import Seen
from trishula.files.tree import Found

def files(count):
    for number in range(count):
        found = {"id": f"20260210T000200Z_mac_agni_{number}", "from": "mac", "to": "agni", "type": "task",
                 "priority": "high", "body": "x" * 200, "timestamp": "2026-02-10T00:02:00Z"}
        yield Found(f"mac/outbox/{number}.json", json.dumps(found).encode())

def taken(count, into):
    with Seen() as seen:
        work = Importing(seen, Names(), "2026-02-10T00:02:00Z", "ann@hub")
        with History(Path(into), seen.put) as kept:
            _take(work, files(count), kept)
        return {outcome.value: count for outcome, count in work.counts.items()}

def most_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

few, before = taken(5_000, sys.argv[1]), most_kib()
many = taken(200_000, sys.argv[1])
print(json.dumps([few, many, most_kib() - before]))
"""


def test_an_import_of_200_000_messages_takes_no_more_memory_than_one_of_5_000(tmp_path: Path) -> None:
    into = tmp_path / "history.jsonl"
    command = [sys.executable, "-c", _PROGRAM, str(into)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    few, many, grown_kib = json.loads(ended.stdout)
    assert few == {"imported": 5_000, "known": 0, "copies": 0, "odd": 0}
    assert many == {"imported": 195_000, "known": 5_000, "copies": 0, "odd": 0}
    with into.open("rb") as lines:
        assert sum(1 for _ in lines) == 200_000
    # What SQLite keeps in memory is 8 MiB; a dictionary of the keys and digests alone would take more than 50.
    assert grown_kib < 16 * 1024
