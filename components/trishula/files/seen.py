"""What an import has seen: each message's digest and where it was first, however many there are.

They are in a temporary database of SQLite, which keeps a few megabytes in memory and the rest in a file without a name
that is gone with the process. A history has as many messages as a bus had in years; a dictionary of 200,000 of them
takes 120 MB.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from types import TracebackType

from trishula.errors import FolderUnusable
from trishula.files.history import Key

__all__ = ["Seen"]

_CACHE_KIB = 8192


class Seen:
    """See the module's docstring; a context. What can't be kept is :class:`~trishula.errors.FolderUnusable`."""

    def __init__(self) -> None:
        with _usable():
            # Without a name it is a file of SQLite's own, in the directory for temporary files.
            self._base = sqlite3.connect("", isolation_level=None)
            self._base.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._base.execute("PRAGMA journal_mode = OFF")
            self._base.execute(
                "CREATE TABLE seen (sender TEXT, id TEXT, digest BLOB NOT NULL, place TEXT, PRIMARY KEY (sender, id)) "
                "WITHOUT ROWID"
            )
            self._base.execute("BEGIN")

    def put(self, key: Key, digest: str, place: str | None = None) -> None:
        """Remember a message.

        Args:
            key: its sender and id.
            digest: in hexadecimal.
            place: the file of this import where it was; ``None``: the history has it.
        """
        with _usable():
            self._base.execute(
                "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", (*key, bytes.fromhex(digest), _storable(place))
            )

    def get(self, key: Key) -> tuple[str, str | None] | None:
        """A message's digest and place, if it was seen."""
        with _usable():
            row = self._base.execute("SELECT digest, place FROM seen WHERE sender = ? AND id = ?", key).fetchone()
        return None if row is None else (row[0].hex(), row[1])

    def __len__(self) -> int:
        """How many messages were seen."""
        with _usable():
            return int(self._base.execute("SELECT count(*) FROM seen").fetchone()[0])

    def __enter__(self) -> Seen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()


def _storable(place: str | None) -> str | None:
    # A name of a file may have half of a pair of UTF-16, which is no text.
    return None if place is None else place.encode(errors="backslashreplace").decode()


@contextlib.contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise FolderUnusable(
            f"what the import has seen can't be kept in the directory for temporary files: {error}; make room there, "
            "or name another one in SQLITE_TMPDIR"
        ) from None
