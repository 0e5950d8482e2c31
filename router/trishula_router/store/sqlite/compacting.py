"""Writing a store's file anew: without its free pages, and so that it can shrink from then on (:mod:`.shrinking`).

For a state directory that no node runs on, which whoever calls holds. The new file is written beside the old one,
checked, synced, and takes its place in one step: a crash leaves the one or the other, whole. SQLite's own way, a VACUUM
in place, would have all of it in the write-ahead log as well, so it takes twice the room, and nothing could be checked
before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from trishula.contract.units import show_bytes
from trishula_router.store.interface import StoreError, Verification
from trishula_router.store.sqlite.check import Progress
from trishula_router.store.sqlite.connection import FILE_NAME, opening_fault
from trishula_router.store.sqlite.files import make_private, nothing, sync, verify_file
from trishula_router.store.sqlite.shrinking import INCREMENTAL

__all__ = ["compact"]

#: What else the disk has to keep while the copy is written.
_MARGIN_BYTES = 16 * 1024 * 1024


def compact(state_dir: Path, progress: Progress = nothing) -> tuple[Verification, int, int]:
    """Write the store of a state directory anew.

    Args:
        state_dir: held by the caller.
        progress: told how far the check of the new file is.

    Returns:
        the check of what is in place now, and how many bytes the file took before and takes now.

    Raises:
        StoreError: the disk has no room for the copy, the store is damaged, or it can't be written; then it is as it
            was.
    """
    here, part = state_dir / FILE_NAME, state_dir / (FILE_NAME + ".compacting")
    part.unlink(missing_ok=True)
    try:
        before = _empty_log(here)
        _check_room(here, state_dir)
        make_private(part)
        _write(here, part)
        verification = verify_file(part, progress)
        if verification.damages:
            raise StoreError(
                f"the store {here} is damaged ({verification.damages[0].what}) and stays as it is; see: trishula node "
                "verify"
            )
        os.replace(part, here)
        sync(state_dir)
    except sqlite3.Error as error:
        raise StoreError(opening_fault(here, error)) from None
    except OSError as error:
        raise StoreError(f"the state directory {state_dir} can't be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return verification, before, here.stat().st_size


def _empty_log(here: Path) -> int:
    """Have all of the store in its file, and nothing beside it; how large the file is."""
    with contextlib.closing(sqlite3.connect(here, isolation_level=None)) as connection:
        # With another mode the log is gone, so that none of the old file can be taken for the new one's.
        connection.execute("PRAGMA journal_mode = DELETE")
    return here.stat().st_size


def _check_room(here: Path, state_dir: Path) -> None:
    with contextlib.closing(sqlite3.connect(here)) as connection:
        page, pages, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
        )
    needed, left = (pages - free) * page + _MARGIN_BYTES, shutil.disk_usage(state_dir).free
    if left < needed:
        raise StoreError(
            f"a compact copy of the store takes {show_bytes(needed)}, and the disk of {state_dir} has "
            f"{show_bytes(left)} left; free some space, nothing was changed"
        )


def _write(here: Path, part: Path) -> None:
    with contextlib.closing(sqlite3.connect(here, isolation_level=None)) as connection:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("VACUUM INTO ?", (os.fspath(part),))
    sync(part)
