"""Opening a store: the file is made, or brought up to date, and held for one process."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from trishula_router.store.interface import (
    StoreError,
)
from trishula_router.store.sqlite.ballast import make_room_to_start
from trishula_router.store.sqlite.connection import FILE_NAME, connect, opening_fault
from trishula_router.store.sqlite.holding import STARTED_BY, Hold
from trishula_router.store.sqlite.migrate import migrate
from trishula_router.store.sqlite.shrinking import INCREMENTAL
from trishula_router.store.sqlite.space import PAGE_BYTES, Space
from trishula_router.store.sqlite.store import SqliteStore
from trishula_router.store.sqlite.writer import at_once

__all__ = ["open_store"]

log = Logger()


def open_store(
    directory: Path,
    *,
    new_epoch: Callable[[], str],
    call_in_reactor: Callable[[Callable[[], None]], None],
    limit_bytes: int,
    urgent_room: float = 0.0,
    node: str = "",
    how: str | None = None,
    at_turns_end: Callable[[Callable[[], None]], object] = at_once,
) -> SqliteStore:
    """Open the store of a state directory, made or brought up to date as needed.

    Args:
        directory: it must exist.
        new_epoch: makes the epoch of a new store.
        call_in_reactor: hands a function over to the reactor's thread, as ``reactor.callFromThread`` does.
        limit_bytes: the file doesn't grow beyond it; sends are refused as ``StorageFull`` before; see :mod:`.space`.
        urgent_room: the part of that, and of the disk, that takes urgent messages only.
        node: the name of the node that runs on it, which the messages of linked nodes need; see
            :mod:`trishula_router.store.keepers`.
        how: by which command it is opened, for whoever finds it in use; by default as :data:`.holding.STARTED_BY` in
            the environment says, else ``crossbar start``.
        at_turns_end: does something when the reactor is through with what it does just now; by default at once.

    Raises:
        StoreError: the directory is missing or can't be written, somebody else uses the store (:class:`StoreHeld`), the
            disk is full, the file is no store, is damaged, or has a newer schema.
    """
    file = directory / FILE_NAME
    if not directory.is_dir():
        raise StoreError(f"the state directory {directory} is missing; make it, or name another one")
    if not os.access(directory, os.W_OK):
        raise StoreError(
            f"the state directory {directory} can't be written; change its owner or mode, or name another one"
        )
    connection: sqlite3.Connection | None = None
    hold = Hold(directory, how or os.environ.get(STARTED_BY, "crossbar start"))
    try:
        make_room_to_start(directory)

        def say(sentence: str) -> None:
            call_in_reactor(lambda: log.warn("{what}", what=sentence))

        space = Space(file, limit_bytes, say, urgent_room=urgent_room)
        connection = connect(file)
        # Of a file that has nothing in it yet; it changes no other one.
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {space.log_bytes // PAGE_BYTES}")
        connection.execute(f"PRAGMA journal_size_limit = {space.log_most_bytes}")
        # A file for what a statement may have to undo would need room on yet another disk.
        connection.execute("PRAGMA temp_store = MEMORY")
        migrate(connection, file)
        connection.execute(f"PRAGMA max_page_count = {max(1, limit_bytes // PAGE_BYTES)}")
        connection.execute("INSERT INTO property VALUES ('epoch', ?) ON CONFLICT DO NOTHING", (new_epoch(),))
        space.fullness(connection)
        return SqliteStore(file, connection, connect(file), call_in_reactor, space, hold, node, at_turns_end)
    except Exception as error:
        if connection is not None:
            connection.close()
        hold.release()
        if isinstance(error, sqlite3.Error):
            raise StoreError(opening_fault(file, error)) from None
        raise
