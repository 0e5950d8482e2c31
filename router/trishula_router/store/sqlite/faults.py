"""What SQLite says of the store's file, as what senders are told and what the log has."""

from __future__ import annotations

import sqlite3

from twisted.logger import Logger

from trishula.errors import StorageFailed, StorageFull
from trishula_router.store.sqlite.space import storage_full

__all__ = ["log_fault", "storage_error"]

log = Logger()

#: Codes by which SQLite tells that it found no room for the file it maps into memory: a full disk, by another name.
_NO_ROOM = (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP)


def storage_error(error: sqlite3.Error) -> StorageFull | StorageFailed:
    """What SQLite says, as what a sender is told."""
    if "full" in str(error) or getattr(error, "sqlite_errorcode", 0) in _NO_ROOM:
        return storage_full()
    return StorageFailed(f"the node can't use its store ({error}); see the node's log", retry_after_s=5.0)


def log_fault(fault: str | None, before: str | None) -> None:
    """Log that the store fails, or (``None``) that it works again; and why it failed before."""
    if fault is None:
        log.warn("the store works again; it failed with: {fault}", fault=before)
    else:
        log.error("the store failed: {fault}", fault=fault)
