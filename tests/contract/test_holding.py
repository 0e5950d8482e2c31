"""A store has one opener at a time, and whoever finds it in use is told who that is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.support.node import environment
from tests.support.stores import ReactorQueue, open_sqlite
from tests.support.subjects import InSqlite, append, draft, open_ids
from trishula_router.store.interface import StoreError
from trishula_router.store.sqlite.holding import FILE_NAME, STARTED_BY, Hold, StoreHeld, holder_of

HOLDING = """
    import sys, time
    from pathlib import Path
    from trishula_router.store.sqlite.holding import Hold
    hold = Hold(Path(sys.argv[1]), "crossbar start")
    print("held", flush=True)
    time.sleep(600)
"""


def holding_process(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(HOLDING), str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_store_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STARTED_BY, "trishula node start")
    subject = InSqlite(tmp_path)
    append(subject, draft("m1"))
    sentence = (
        rf"a node already runs on the state directory {re.escape(str(tmp_path))} \(process {os.getpid()}, started by "
    )
    with pytest.raises(StoreHeld, match=sentence + r"trishula node start, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"):
        open_sqlite(tmp_path, ReactorQueue())
    append(subject, draft("m2"))
    subject.reopen()
    assert open_ids(subject) == ["m1", "m2"]
    subject.close()
    assert holder_of(tmp_path) is None


def test_who_holds_it_can_be_read_in_any_process_and_ends_with_it(tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    process = holding_process(tmp_path)
    holder = holder_of(tmp_path)
    assert holder is not None
    assert (holder.pid, holder.how) == (process.pid, "crossbar start")
    assert before <= holder.since <= time.time_ns() // 1_000_000
    with pytest.raises(StoreHeld):
        open_sqlite(tmp_path, ReactorQueue())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert holder_of(tmp_path) is None
    InSqlite(tmp_path).close()


def test_a_store_that_could_not_be_opened_is_held_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "node.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="is damaged"):
        open_sqlite(tmp_path, ReactorQueue())
    assert holder_of(tmp_path) is None


def test_looking_is_in_nobodys_way(tmp_path: Path) -> None:
    Hold(tmp_path, "once").release()
    for _ in range(200):
        assert holder_of(tmp_path) is None
        Hold(tmp_path, "again").release()


def test_a_holder_that_could_not_say_who_it_is(tmp_path: Path) -> None:
    hold = Hold(tmp_path, "x")
    (tmp_path / FILE_NAME).write_text("1234\n")
    with pytest.raises(StoreHeld, match="a process that has not said which"):
        Hold(tmp_path, "y")
    hold.release()
