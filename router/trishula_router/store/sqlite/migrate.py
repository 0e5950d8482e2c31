"""From any schema version that was ever released to the newest, or a refusal in one sentence.

``schema/NNN-name.sql`` leads from version NNN-1 to NNN. The file's version is SQLite's ``user_version``. Each step runs
in one transaction with the new version number, so that a crash leaves the old version or the new one, and a copy of the
file is made before the first step of an upgrade.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from trishula_router.store.interface import StoreError

__all__ = ["SCHEMA_DIRECTORY", "migrate", "newest_version"]

SCHEMA_DIRECTORY = Path(__file__).parent / "schema"
_STEP = re.compile(r"(\d{3})-[a-z0-9-]+\.sql\Z")


def _steps(directory: Path) -> dict[int, Path]:
    return {int(match[1]): path for path in directory.iterdir() if (match := _STEP.match(path.name))}


def newest_version(directory: Path = SCHEMA_DIRECTORY) -> int:
    """The version that the newest step leads to."""
    return max(_steps(directory))


def migrate(connection: sqlite3.Connection, file: Path, directory: Path = SCHEMA_DIRECTORY) -> None:
    """Bring an open database to the newest version.

    Args:
        connection: to ``file``, in autocommit mode, outside a transaction.
        file: the database's path, for the copy and for sentences.
        directory: where the steps are.

    Raises:
        StoreError: if the file has a version that this program doesn't know, or is no store at all.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = newest_version(directory)
    if version > newest:
        raise StoreError(
            f"the store {file} has schema version {version} and this program knows versions up to {newest}; start it "
            "with the TRISHULA that wrote it, or a newer one"
        )
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreError(f"{file} is a SQLite database but not a store of TRISHULA; name another state directory")
    if 0 < version < newest:
        _copy(connection, file.with_name(f"{file.name}.v{version}"))
    for step in range(version + 1, newest + 1):
        script = _steps(directory)[step].read_text(encoding="utf-8")
        # PRAGMA user_version takes part in the transaction, so the step and its number are one.
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {step};\nCOMMIT;")


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    # SQLite's own backup, because a copy of the file alone would miss what is still in the write-ahead log.
    copy = sqlite3.connect(target)
    try:
        connection.backup(copy)
    finally:
        copy.close()
