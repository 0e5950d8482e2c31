"""Connections to a store's file, and why one can't be made."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from trishula_router.store.sqlite.damage import is_damage
from trishula_router.store.sqlite.space import PAGE_BYTES

__all__ = ["FILE_NAME", "connect", "opening_fault"]

FILE_NAME = "node.sqlite"

#: Below it a failure to open the store is put down to the full disk.
_NEEDED_TO_OPEN_BYTES = 256 * 1024


def connect(file: Path) -> sqlite3.Connection:
    # Statements are cached by text: every statement of this package is a constant.
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA busy_timeout = 5000")
    # For macOS, whose fsync stops at the drive's cache; elsewhere it is the same.
    connection.execute("PRAGMA fullfsync = ON")
    return connection


def opening_fault(file: Path, error: sqlite3.Error) -> str:
    """Why a store's file can't be used, and what to do, in one sentence."""
    text = str(error)
    # What SQLite maps into memory needs room too, and it calls that an I/O error.
    if "full" in text or ("I/O" in text and shutil.disk_usage(file.parent).free < _NEEDED_TO_OPEN_BYTES):
        return f"the disk of the store {file} is full; free some space, or name another state directory"
    if "readonly" in text or "unable to open" in text:
        return f"the store {file} can't be written ({text}); change its owner or mode, or name another state directory"
    if is_damage(error):
        return (
            f"the store {file} is damaged ({text}); restore a backup with: trishula node restore FILE, or name another "
            "state directory"
        )
    return f"the store {file} can't be opened ({text})"
