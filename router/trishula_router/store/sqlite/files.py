"""What is done to a store from outside of a node: check it, copy it, put a copy in its place.

Checking and copying only read, each within one transaction, so they work beside a running node: they see the store of
one instant, and the node goes on. Putting a copy in place is for a state directory that no node runs on; whoever calls
:func:`restore` holds the directory.

A restored store has another epoch, because it is another history: positions that were given out after the backup was
made will be given out again, for other messages. Clients that remember the old epoch are told.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from trishula_router.store.bases import Base
from trishula_router.store.facts import RestoredFacts, write_facts
from trishula_router.store.interface import StoreError, Verification
from trishula_router.store.journal import GENESIS, ORIGIN_SHIFT, Kind, digest_of
from trishula_router.store.sqlite.check import Progress, check_store
from trishula_router.store.sqlite.connection import FILE_NAME, opening_fault
from trishula_router.store.sqlite.migrate import newest_version
from trishula_router.store.sqlite.reads import remembered

__all__ = [
    "back_up",
    "begin_of",
    "mail_of",
    "make_private",
    "nothing",
    "remembered_in",
    "restore",
    "schema_of",
    "set_aside",
    "sync",
    "verify_file",
]

#: Pages copied between two reports of how far it is: 16 MiB.
_PAGES_A_STEP = 4096

#: The schema version that brought journals of other nodes.
_FIRST_WITH_ORIGINS = 3


def nothing(_: float) -> None:
    """Nobody wants to know how far it is."""


def schema_of(file: Path) -> int | None:
    """The version of a store's schema, beside a node that runs too, and also a version that this program doesn't know.

    ``None`` if there is no store that can be read.
    """
    if not file.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)) as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error:
        return None
    return version


def verify_file(file: Path, progress: Progress = nothing) -> Verification:
    """Check a store's file; see :func:`~trishula_router.store.sqlite.check.check_store`.

    Raises:
        StoreError: it is missing, no store, of a newer schema, or so damaged that SQLite can't open it.
    """
    with _reading(file) as connection:
        return check_store(connection, progress)


def mail_of(file: Path, agent: str) -> tuple[int, int]:
    """What a store has for an agent and its instances: (open messages, dead letters).

    Raises:
        StoreError: as :func:`verify_file`.
    """
    # Behind the agent's name and before what follows on its instances': a "0" comes after the "/".
    names = (agent, agent + "0")
    with _reading(file) as connection:
        counts = [
            connection.execute(
                f"SELECT count(*) FROM message WHERE {which} AND recipient >= ? AND recipient < ?", names
            ).fetchone()[0]
            for which in ("state = 0", "state = 2 AND body != 0")
        ]
    return counts[0], counts[1]


def remembered_in(file: Path, prefix: str) -> dict[str, str]:
    """What a store remembers under keys that begin so; see :meth:`trishula_router.store.interface.Store.remembered`.

    Raises:
        StoreError: as :func:`verify_file`.
    """
    with _reading(file) as connection:
        return remembered(connection, prefix)


def is_own_message(file: Path, agent: str, message_id: str) -> bool:
    """Whether a store has a message of an agent or its instances, with its payload, that its own node accepted.

    Raises:
        StoreError: as :func:`verify_file`.
    """
    with _reading(file) as connection:
        rows = connection.execute(
            "SELECT sender FROM message WHERE id = ? AND position < ? AND body != 0", (message_id, 1 << ORIGIN_SHIFT)
        )
        return any(sender.partition("/")[0] == agent for (sender,) in rows)


def begin_of(file: Path) -> tuple[str, Base]:
    """Of which epoch a store is, and where its own journal begins.

    Raises:
        StoreError: as :func:`verify_file`.
    """
    with _reading(file) as connection:
        (epoch,) = connection.execute("SELECT value FROM property WHERE key = 'epoch'").fetchone()
        has_bases = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'base'").fetchone()
        row = connection.execute("SELECT * FROM base WHERE origin = 0").fetchone() if has_bases else None
    return epoch, Base() if row is None else Base(*row[1:])


def back_up(file: Path, target: Path, progress: Progress = nothing) -> Verification:
    """Copy a store into one file, and check the copy.

    The copy appears under its name when it is whole and on the disk; a file of that name is never written over. What
    is damaged in the store is damaged in the copy; the verification tells.

    Raises:
        StoreError: as :func:`verify_file`, or the copy can't be written.
    """
    if os.path.lexists(target):
        raise StoreError(f"{target} is there already and is not written over; name another file")
    part = target.with_name(target.name + ".part")
    try:
        make_private(part)
    except OSError as error:
        raise StoreError(f"the backup can't be written to {target}: {error.strerror or error}") from None
    try:
        with _reading(file) as source:
            _copy(source, part, lambda done: progress(done / 2))
        verification = verify_file(part, lambda done: progress(0.5 + done / 2))
        _publish(part, target)
    finally:
        part.unlink(missing_ok=True)
    return verification


def restore(
    file: Path,
    state_dir: Path,
    *,
    new_epoch: Callable[[], str],
    at: int,
    kept_as: str,
    allow_damage: bool = False,
    progress: Progress = nothing,
) -> tuple[Verification, Path | None]:
    """Put a copy of a backup in the place of the store of a state directory that no node runs on.

    The store that was there is kept. Until the very last step nothing is changed; a crash before it leaves the old
    store as it was, and one after it the new one.

    Args:
        file: the backup; it is only read.
        state_dir: held by the caller.
        new_epoch: makes the epoch of the restored store.
        at: now, in ms, for the journal.
        kept_as: the name under which the store that was there is kept.
        allow_damage: whether a damaged backup is put in place all the same.
        progress: told how far it is.

    Returns:
        the check of what is in place now, and where the store that was there is.

    Raises:
        StoreError: the backup is missing, unreadable or damaged, or the state directory can't be written.
    """
    here = state_dir / FILE_NAME
    part = state_dir / (FILE_NAME + ".restoring")
    part.unlink(missing_ok=True)
    try:
        make_private(part)
        with _reading(file) as source:
            _copy(source, part, lambda done: progress(done / 2))
        _begin_epoch(part, new_epoch(), at)
        verification = verify_file(part, lambda done: progress(0.5 + done / 2))
        if verification.damages and not allow_damage:
            raise StoreError(
                f"the backup {file} is damaged ({verification.damages[0].what}), so the store stays as it is; take an "
                "older backup, or let it be restored with its damage by --damaged"
            )
        kept = _set_aside(here, state_dir / kept_as)
        os.replace(part, here)
        sync(state_dir)
    except OSError as error:
        raise StoreError(f"the state directory {state_dir} can't be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return verification, kept


def set_aside(state_dir: Path, kept_as: str) -> Path | None:
    """Take a node's store out of use, so that its next start begins a new one; the node must be stopped.

    Args:
        state_dir: the node's.
        kept_as: the name that the store has then, beside its old place.

    Returns:
        where it is now; ``None`` if there was none.

    Raises:
        StoreError: it can't be renamed.
    """
    here = state_dir / FILE_NAME
    try:
        kept = _set_aside(here, state_dir / kept_as)
        here.unlink(missing_ok=True)
        sync(state_dir)
    except OSError as error:
        raise StoreError(f"the store {here} can't be set aside ({error.strerror}); check the directory") from None
    return kept


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, in a transaction: what it sees doesn't change, and nothing starts a copy anew."""
    if not file.is_file():
        raise StoreError(f"there is no store {file}; name the state directory of a node, or a backup")
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, isolation_level=None)
        connection.execute("PRAGMA busy_timeout = 5000")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > newest_version():
            raise StoreError(
                f"{file} has schema version {version} and this program knows versions up to {newest_version()}; use "
                "the TRISHULA that wrote it, or a newer one"
            )
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"property", "journal", "message", "body"} <= tables:
            raise StoreError(f"{file} is no store of TRISHULA; name the state directory of a node, or a backup")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection
    except sqlite3.Error as error:
        raise StoreError(opening_fault(file, error)) from None
    finally:
        if connection is not None:
            connection.close()


def make_private(file: Path) -> None:
    """Make a file that only its owner reads; it must not be there."""
    # What agents say to each other is in there: nobody else's to read.
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _copy(source: sqlite3.Connection, target: Path, progress: Progress) -> None:
    copy = sqlite3.connect(target, isolation_level=None)
    try:
        source.backup(
            copy,
            pages=_PAGES_A_STEP,
            progress=lambda _, remaining, total: progress(1 - remaining / max(1, total)),
        )
        # One file, with nothing beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()
    sync(target)


def _begin_epoch(file: Path, epoch: str, at: int) -> None:
    """Give a copy an epoch of its own, and note it in its journal."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("BEGIN IMMEDIATE")
        former = connection.execute("SELECT value FROM property WHERE key = 'epoch'").fetchone()
        position, previous = connection.execute(
            "SELECT position, digest FROM journal WHERE position < ? ORDER BY position DESC LIMIT 1",
            (1 << ORIGIN_SHIFT,),
        ).fetchone() or (0, GENESIS)
        facts = write_facts(RestoredFacts(epoch, former and former[0]))
        kind = Kind.RESTORED.value
        digest = digest_of(previous, position + 1, at, kind, facts)
        connection.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", (position + 1, at, kind, facts, digest))
        connection.execute("INSERT OR REPLACE INTO property VALUES ('epoch', ?)", (epoch,))
        if former is not None:
            _keep_former(connection, former[0], position)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreError(opening_fault(file, error)) from None
    finally:
        connection.close()
    sync(file)


#: The journal up to the restore, again as that of the former epoch, which is how other nodes name it; with what its own
#: numbers mean, and what theirs mean that stood for it.
_FORMER = (
    "INSERT INTO origin VALUES (:number, :node, :former)",
    "INSERT INTO numbering SELECT :number, number, node, epoch, number FROM origin WHERE number != :number",
    "UPDATE numbering SET ours = :number WHERE epoch = :former",
    "INSERT INTO journal SELECT (:number << :shift) | position, at, kind, facts, digest FROM journal"
    " WHERE position <= :last",
    "INSERT INTO alias SELECT (:number << :shift) | position, position FROM message WHERE position <= :last",
)


def _keep_former(connection: sqlite3.Connection, former: str, last: int) -> None:
    """Let the journals of other nodes still mean what they meant, if they speak of this one's.

    They name messages by (epoch, sequence). What was written after the backup was made comes back from them under the
    former epoch, and this store will give out those sequences again, so the two must not be one origin.
    """
    is_new_enough = connection.execute("PRAGMA user_version").fetchone()[0] >= _FIRST_WITH_ORIGINS
    if not is_new_enough or not connection.execute("SELECT 1 FROM origin LIMIT 1").fetchone():
        return
    node = connection.execute("SELECT node FROM numbering WHERE epoch = ? LIMIT 1", (former,)).fetchone() or ("",)
    number = connection.execute("SELECT max(number) FROM origin").fetchone()[0] + 1
    values = {"number": number, "node": node[0], "former": former, "last": last, "shift": ORIGIN_SHIFT}
    for statement in _FORMER:
        connection.execute(statement, values)


def _publish(part: Path, target: Path) -> None:
    """Give the finished file its name, unless the name was taken meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise StoreError(f"{target} is there already and is not written over; name another file") from None
    except OSError:
        # A file system without links.
        os.rename(part, target)
    sync(target.parent)


def _set_aside(here: Path, kept: Path) -> Path | None:
    """Give the store that is in place a second name, so that there is one at every moment."""
    wal, shm = (here.with_name(here.name + end) for end in ("-wal", "-shm"))
    if not here.exists():
        wal.unlink(missing_ok=True)
        return None
    # What a crash left in the write-ahead log belongs into the file: SQLite would replay it into whatever has its name.
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(here, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
    os.link(here, kept)
    if wal.exists():
        # The store is too damaged for that: its log is kept beside it.
        os.rename(wal, kept.with_name(kept.name + "-wal"))
    shm.unlink(missing_ok=True)
    return kept


def sync(path: Path) -> None:
    """Have a file, or what a directory lists, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
