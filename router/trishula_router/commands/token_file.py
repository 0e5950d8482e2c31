"""The file into which a command writes a token for an agent: whole on the disk before the token is good."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from trishula.exit_codes import Exit
from trishula_router.commands.state_dir import CommandFailed

__all__ = ["not_written", "write_beside"]


def write_beside(path: Path, token: str, cleanup: contextlib.ExitStack) -> Path:
    """The token in a file beside ``path``, to be moved there; gone at the end if it wasn't."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        cleanup.callback(temporary.unlink, missing_ok=True)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise not_written(path, error) from None
    return temporary


def not_written(path: Path, error: OSError) -> CommandFailed:
    return CommandFailed(f"the token can't be written into {path}: {error.strerror}", Exit.CONFIG)
