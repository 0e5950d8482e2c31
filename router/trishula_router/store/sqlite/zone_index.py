"""The zones of a store on disk, in a file of their own beside it; see :mod:`trishula_router.store.zones`.

The file can be deleted at any time: it is made of the store, in steps, by a thread of its own that reads the store as
every other reader does. So an older store needs no change, a backup needs no copy of it, and whoever is without it (a
full disk, a damaged file) gets the same answers, slower.

A step takes the next full zones of each journal. Of the messages that a zone's records tell of it adds the terms to all
zones that have records of them, as the store's rows tell which: then an earlier record is found by what became of its
message. What the newest records tell, which fill no zone yet, is added before a question is answered; while many zones
have no terms yet, as those of an older store, everything is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK
from trishula_router.store.runs import Origin
from trishula_router.store.sqlite.connection import connect
from trishula_router.store.sqlite.space import PAGE_BYTES, ZONES_FILE_NAME
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.sqlite.writer import Writer
from trishula_router.store.sqlite.zone_marks import MARKS, are_of, mark
from trishula_router.store.sqlite.zone_terms import drop_cut, gather_zone
from trishula_router.store.zones import ZONE_SHIFT, Likely, Sought, zone_of

__all__ = ["ZoneIndex"]

log = Logger()

#: Zones a step: some 20 ms of work, after which the thread rests.
_STEP_ZONES = 16
#: Zones that one answer looks at: 2,000,000 records.
_WINDOW = 4096
#: A store that has so many zones without terms is told of.
_WORTH_TELLING = 400

#: Raised when what a zone has changes its meaning: then a file of before is made anew.
_VERSION = 2
_SCHEMA = f"""
    CREATE TABLE zone (zone INTEGER PRIMARY KEY, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL) STRICT;
    CREATE TABLE term (term TEXT NOT NULL, zone INTEGER NOT NULL, PRIMARY KEY (term, zone)) STRICT, WITHOUT ROWID;
    {MARKS}
    CREATE TABLE property (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


class _Nothing:
    """The tail of a file that has none."""

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def reload(self, connection: sqlite3.Connection) -> None: ...


class ZoneIndex:
    """Implements :class:`trishula_router.store.zones.Zones`.

    Args:
        file: the store's.
        epoch: of the store.
        origins: the journals that it holds, as far as the reactor's thread knows.
        call_in_reactor: hands a function over to the reactor's thread.
        log_bytes: how long the write-ahead log is when it is moved into the file.
    """

    def __init__(
        self,
        file: Path,
        epoch: str,
        origins: Callable[[], list[Origin]],
        call_in_reactor: Callable[[Callable[[], None]], None],
        log_bytes: int,
    ) -> None:
        self._file = file
        self._log_bytes = log_bytes
        self._epoch = epoch
        self._origins = origins
        self._call_in_reactor = call_in_reactor
        self._thread: Writer | None = None
        self._store: sqlite3.Connection | None = None
        #: Why it is given up until the next start, what that means and what to do; ``None`` while it is used.
        self.fault: str | None = None
        self._why: str | None = None
        self._has_told = False
        #: How many zones were full when none was left to gather.
        self._gathered = -1

    def likely(self, sought: Sought, after: int, end: int) -> Deferred[Likely]:
        everything = Likely([(after, end)], end)
        if sought.is_anything or self.fault is not None:
            return succeed(everything)

        def job(connection: sqlite3.Connection) -> Likely:
            # The newest records may tell what became of messages of long before.
            if self._gather(connection, with_end=True) == _STEP_ZONES:
                return everything
            return _likely(connection, sought, after, end)

        return self._on_thread(job).addErrback(self._lost, everything)

    def step(self) -> Deferred[int]:
        full = sum(zone_of(origin.sequence + 1) for origin in self._origins())
        if self.fault is not None or full == self._gathered:
            return succeed(0)

        def gathered(count: int) -> int:
            if count < _STEP_ZONES:
                self._gathered = full
            self._tell(count)
            return count

        return self._on_thread(self._gather).addCallbacks(gathered, self._lost, errbackArgs=(0,))

    def close(self) -> Deferred[None]:
        if self._thread is None:
            return succeed(None)

        def closed(_: None) -> None:
            if self._store is not None:
                self._store.close()

        return self._thread.close().addCallback(closed)

    def _on_thread(self, job: Callable[[sqlite3.Connection], Any]) -> Deferred[Any]:
        if self._thread is None:
            # Not before it is needed: commands open stores too.
            try:
                store = self._store = connect(self._file)
                connection = _open(self._file.with_name(ZONES_FILE_NAME), self._epoch, store)
                connection.execute(f"PRAGMA wal_autocheckpoint = {self._log_bytes // PAGE_BYTES}")
            except (sqlite3.Error, OSError) as error:
                if self._store is not None:
                    self._store.close()
                self._give_up(str(error))
                return Deferred.fromCoroutine(_failed(error))
            self._thread = Writer(connection, _Nothing(), self._call_in_reactor, on_fault=self._noted)
        return self._thread.submit(job)

    def _noted(self, why: str | None, before: str | None) -> None:
        # What senders would be told of the store's file is wrong of this one: nothing is refused for its sake.
        self._why = why or self._why

    def _lost(self, failure: Any, instead: Any) -> Any:
        self._give_up(self._why or failure.getErrorMessage())
        return instead

    def _give_up(self, why: str) -> None:
        if self.fault is None:
            self.fault = _WITHOUT.format(why=why)
            log.warn("{fault}", fault=self.fault)

    def _tell(self, count: int) -> None:
        if count == _STEP_ZONES and not self._has_told:
            behind = sum(zone_of(origin.sequence + 1) for origin in self._origins())
            if behind >= _WORTH_TELLING:
                self._has_told = True
                log.info(
                    "the node begins to gather what makes searches of its journal fast, of {count} records; until then "
                    "they are answered all the same, slower",
                    count=behind << ZONE_SHIFT,
                )
        elif count < _STEP_ZONES and self._has_told:
            self._has_told = False
            log.info("searches of the journal are fast now")

    def _gather(self, index: sqlite3.Connection, *, with_end: bool = False) -> int:
        """Gather the next full zones; with the records behind them too what they tell of the messages of before."""
        store = self._store
        assert store is not None
        count = 0
        numbers = [0, *(number for (number,) in store.execute("SELECT number FROM origin ORDER BY number").fetchall())]
        known = dict(index.execute("SELECT origin, zone FROM gathered").fetchall())
        for number in numbers:
            begin, end = number << ORIGIN_SHIFT, (number << ORIGIN_SHIFT) | SEQUENCE_MASK
            first, newest = (
                store.execute(
                    f"SELECT {which}(position) FROM journal WHERE position BETWEEN ? AND ?", (begin, end)
                ).fetchone()[0]
                for which in ("min", "max")
            )
            if newest is None:
                continue
            zone = max(known.get(number, 0), zone_of(first))
            while count < _STEP_ZONES and zone < zone_of(newest + 1):
                gather_zone(store, index, zone)
                zone += 1
                count += 1
            if with_end and count < _STEP_ZONES:
                gather_zone(store, index, zone, is_full=False)
            mark(store, index, number, zone)
            drop_cut(store, index, number, zone_of(begin))
        return count


_WITHOUT = (
    f"{ZONES_FILE_NAME} in the state directory can't be used ({{why}}): it only makes searches of the journal fast, so "
    "nothing is lost and no message waits for it, and audit query, why and report are answered slower; delete it, and "
    "restart the node, which makes it anew"
)


async def _failed(error: Exception) -> Any:
    raise error


def _open(file: Path, epoch: str, store: sqlite3.Connection) -> sqlite3.Connection:
    """The file, made anew if it is not of this store as it is now, or can't be read."""
    try:
        return _opened(file, epoch, store)
    except sqlite3.DatabaseError:
        for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
            name.unlink(missing_ok=True)
        return _opened(file, epoch, store)


def _opened(file: Path, epoch: str, store: sqlite3.Connection) -> sqlite3.Connection:
    connection = connect(file)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # After a power cut it may lack the last steps, and then makes them again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        is_known = connection.execute("PRAGMA user_version").fetchone()[0] == _VERSION
        if is_known and connection.execute("SELECT value FROM property WHERE key = 'epoch'").fetchone() == (epoch,):
            if are_of(store, connection):
                return connection
            log.info("{file} is not of the store as it is now; it is made anew", file=file.name)
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise sqlite3.DatabaseError("it is of another store")
        connection.executescript(f"BEGIN IMMEDIATE;\n{_SCHEMA}\nPRAGMA user_version = {_VERSION};\nCOMMIT;")
        connection.execute("INSERT INTO property VALUES ('epoch', ?)", (epoch,))
    except BaseException:
        connection.close()
        raise
    return connection


def _likely(index: sqlite3.Connection, sought: Sought, after: int, end: int) -> Likely:
    first = zone_of(after + 1)
    gathered = index.execute("SELECT zone FROM gathered WHERE origin = ?", (after >> ORIGIN_SHIFT,)).fetchone()
    upto = first if gathered is None else max(first, gathered[0])
    stop = min(upto, first + _WINDOW, zone_of(end) + 1)
    fitting = [_zones_with(index, group, first, stop) for group in sought.terms]
    if sought.zones is not None:
        fitting[-1].update(zone for zone in sought.zones if first <= zone < stop)
    if sought.since is not None or sought.until is not None:
        fitting.append(_zones_of_time(index, sought, first, stop))
    stretches = _stretches(sorted(set.intersection(*fitting)), after, end)
    begin = max(after, (stop << ZONE_SHIFT) - 1)
    if stop < upto and begin < end:
        return Likely(stretches, begin)
    # What has no terms yet.
    if begin < end:
        if stretches and stretches[-1][1] == begin:
            begin = stretches.pop()[0]
        stretches.append((begin, end))
    return Likely(stretches, end)


def _zones_with(index: sqlite3.Connection, group: Iterable[str], first: int, stop: int) -> set[int]:
    rows = index.execute(
        "SELECT term.zone FROM json_each(?) AS it JOIN term ON term.term = it.value AND term.zone >= ?"
        " AND term.zone < ?",
        (as_list(group), first, stop),
    )
    return {zone for (zone,) in rows}


def _zones_of_time(index: sqlite3.Connection, sought: Sought, first: int, stop: int) -> set[int]:
    rows = index.execute(
        "SELECT zone FROM zone WHERE zone >= :first AND zone < :stop"
        " AND (:since IS NULL OR last_at >= :since) AND (:until IS NULL OR first_at < :until)",
        {"first": first, "stop": stop, "since": sought.since, "until": sought.until},
    )
    return {zone for (zone,) in rows}


def _stretches(zones: Iterable[int], after: int, end: int) -> list[tuple[int, int]]:
    """Zones as stretches of positions; those that follow each other are one."""
    found: list[tuple[int, int]] = []
    for zone in zones:
        begin, last = max(after, (zone << ZONE_SHIFT) - 1), min(end, ((zone + 1) << ZONE_SHIFT) - 1)
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], last)
        else:
            found.append((begin, last))
    return found
