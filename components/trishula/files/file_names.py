"""What lies in a folder, judged by its name alone: a message, somebody's half-made file, or a sync tool's copy.

=============  =========================================================  ==========================================
kind           names                                                      what becomes of it
=============  =========================================================  ==========================================
``MESSAGE``    ``x.json``                                                 it is read
``TEMPORARY``  rsync's ``.x.json.a1B2c3``, our ``.x.json.….tmp``, every   it is left alone: who makes it renames or
               other name that begins with a dot, ``x.part``,             removes it
               ``x.tmp``, ``~x``, ``Thumbs.db``, ``desktop.ini``
``CONFLICT``   ``x (conflicted copy 2026-02-10).json``,                   it is set aside with a sentence: it is a
               ``x.sync-conflict-20260210-120000-ABCDEFG.json``,          second version of ``x.json``, and which of
               ``x (1).json``, ``x~``, ``x.json.orig``                    the two is meant a person has to say
``FOREIGN``    every other name                                           it is set aside with a sentence
=============  =========================================================  ==========================================
"""

from __future__ import annotations

import enum
import re
from datetime import date

__all__ = ["MOST_BYTES", "Kind", "day_of", "is_plain", "kind_of"]

#: Most file systems take 255 bytes of UTF-8; this leaves room for a number and ``.why.txt``.
MOST_BYTES = 235
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".!sync", ".swp", ".bts")
_OF_SYSTEMS = ("thumbs.db", "desktop.ini", "icon\r")
_CONFLICT = re.compile(
    r"""
      \.sync-conflict-\d{8}-\d{6}     # Syncthing
    | \(.*conflict.*\)                # Dropbox, Nextcloud, OneDrive, Google Drive: "(Ann's conflicted copy 2026-02-10)"
    | _conflict-\d{8}-\d{6}           # ownCloud
    | \.conflict(ed)?[-_.\d]*(\.json)?$
    | \ \(\d+\)\.json$                # a copy beside the first: "x (1).json"
    | \ copy(\ \d+)?\.json$           # Finder
    | ~$ | \.(orig|bak|old)$          # backups of editors and of rsync --backup
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class Kind(enum.Enum):
    """See the module's docstring."""

    MESSAGE = "message"
    TEMPORARY = "temporary"
    CONFLICT = "conflict"
    FOREIGN = "foreign"


def kind_of(name: str) -> Kind:
    """What a file of that name is taken for."""
    lower = name.lower()
    if name.startswith((".", "~")) or lower.endswith(_UNFINISHED) or lower in _OF_SYSTEMS:
        return Kind.TEMPORARY
    if _CONFLICT.search(name):
        return Kind.CONFLICT
    return Kind.MESSAGE if lower.endswith(".json") else Kind.FOREIGN


def is_plain(name: str) -> bool:
    """Whether a file of ours may have that name: one part of a path, seen by whoever lists ``*.json``."""
    if "/" in name or "\\" in name or "\0" in name or len(name.encode(errors="replace")) > MOST_BYTES:
        return False
    return kind_of(name) is Kind.MESSAGE


def day_of(name: str) -> date | None:
    """The day whose files lie in a folder of the archive; ``None`` for what is no such folder."""
    if _DAY.fullmatch(name) is None:
        return None
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None
