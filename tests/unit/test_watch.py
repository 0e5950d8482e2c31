"""Word of changes in a directory, by the real inotify."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from trishula.files.watch import Watch


def test_a_change_is_told_and_reading_is_none(tmp_path: Path) -> None:
    directory = tmp_path / "outbox"
    directory.mkdir()
    told = threading.Event()
    watch = Watch(directory, told.set)
    watch.renew()
    try:
        # Not by a rename alone: the first is how rsync ends, the second how a plain script writes.
        changes: list[Callable[[], object]] = [
            lambda: (tmp_path / "outside.json").rename(directory / "x.json"),
            lambda: (directory / "y.json").write_bytes(b"{}"),
        ]
        (tmp_path / "outside.json").write_bytes(b"{}")
        for change in changes:
            told.clear()
            change()
            assert told.wait(20)
        # Let its words come to their end: from then on reading must cause none.
        while told.wait(0.5):
            told.clear()
        os.listdir(directory)
        (directory / "x.json").read_bytes()
        assert not told.wait(0.5)
    finally:
        watch.stop()


def test_the_directory_that_takes_its_place_is_watched_too(tmp_path: Path) -> None:
    directory = tmp_path / "outbox"
    directory.mkdir()
    told = threading.Event()
    watch = Watch(directory, told.set)
    watch.renew()
    try:
        directory.rename(tmp_path / "away")
        watch.renew()
        directory.mkdir()
        watch.renew()
        told.clear()
        (directory / "x.json").write_bytes(b"{}")
        assert told.wait(20)
    finally:
        watch.stop()
