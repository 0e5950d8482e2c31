"""The disk and the clock that a drill makes ill: in a process of their own, because the illness is a process's."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from tests.support.node import environment
from trishula.tools.temporary_node import ToolFailed
from trishula_drill.dials import Dials
from trishula_drill.rounds import run_drill

DISK = """
import sqlite3, sys
from pathlib import Path
from trishula_drill.ailing_disk import use_ailing_disk
from trishula_drill.dials import Dials

dials = Dials(Path(sys.argv[1]) / "dials")
use_ailing_disk(dials)
database = sqlite3.connect(Path(sys.argv[1]) / "some.sqlite", isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE number (value)")

def put(value):
    try:
        database.execute("INSERT INTO number VALUES (?)", (value,))
    except sqlite3.OperationalError as error:
        print(value, error.sqlite_errorname)

put(1)
dials.is_failing = True
put(2)
put(3)
dials.is_failing = False
put(4)
# Into the file itself, which has methods like the log's.
database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
print(*[value for value, in database.execute("SELECT value FROM number ORDER BY value")])
"""

CLOCK = """
import sys
from pathlib import Path
from trishula_drill.dials import Dials, use_stepping_clock

dials = Dials(Path(sys.argv[1]) / "dials")
use_stepping_clock(dials)
import time
true_s = time.clock_gettime(time.CLOCK_REALTIME)
print(round(time.time() - true_s), round(time.time_ns() / 1e9 - true_s), time.monotonic() < time.time())
"""


def run(program: str, directory: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60.0,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_fsync_fails_while_it_shall(tmp_path: Path) -> None:
    assert run(DISK, tmp_path) == ["2 SQLITE_IOERR_FSYNC", "3 SQLITE_IOERR_FSYNC", "1 4"]
    assert Dials(tmp_path / "dials").failures == 2


HANGING = """
import sqlite3, sys, threading, time
from pathlib import Path
from trishula_drill.ailing_disk import use_ailing_disk
from trishula_drill.dials import Dials

dials = Dials(Path(sys.argv[1]) / "dials")
use_ailing_disk(dials)
database = sqlite3.connect(Path(sys.argv[1]) / "some.sqlite", isolation_level=None, check_same_thread=False)
database.execute("CREATE TABLE number (value)")
dials.is_hanging = True
writing = threading.Thread(target=database.execute, args=("INSERT INTO number VALUES (1)",))
writing.start()
# The other threads of the process go on meanwhile.
writing.join(0.2)
print(writing.is_alive())
dials.is_hanging = False
writing.join()
print(*database.execute("SELECT value FROM number").fetchone())
"""


def test_an_fsync_hangs_while_it_shall(tmp_path: Path) -> None:
    assert run(HANGING, tmp_path) == ["True", "1"]


def test_an_sqlite_that_shows_nothing_is_told_before_the_drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The C library has no function of SQLite, as a static build shows none.
    monkeypatch.setitem(sys.modules, "_sqlite3", types.ModuleType("_sqlite3"))
    with pytest.raises(ToolFailed, match="this Python shows nobody the functions of its SQLite"):
        run_drill("fsync", rounds=1, seed=1, state=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_is_where_it_shall_be(tmp_path: Path) -> None:
    dials = Dials(tmp_path / "dials")
    assert (dials.ahead_ms, dials.seen_ms) == (0, 0)
    dials.ahead_ms = -86_400_000
    assert run(CLOCK, tmp_path) == ["-86400 -86400 True"]
    assert dials.seen_ms == -86_400_000
