"""``--write FILE``: the file into which a command writes the token that it makes."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType

import click

from trishula.exit_codes import Exit
from trishula_router.commands.state_dir import CommandFailed

__all__ = ["TokenFile", "write_option"]


write_option = click.option(
    "--write",
    "token_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the new token into FILE (mode 0600), and don't show it.",
)


class TokenFile:
    """The file: whole on the disk, beside its place, before the token is good, and in its place once the token is.

    A context, at whose end nothing is left beside the place.

    Args:
        path: the place; ``None``: the token is shown and not written, and nothing here does anything.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._beside: Path | None = None

    def write(self, token: str) -> None:
        """Write the token beside the place.

        Raises:
            CommandFailed: it can't be written there.
        """
        if self._path is None:
            return
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._beside = beside
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(token + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failed(error) from None

    def put_in_place(self) -> None:
        """Have the file in its place.

        Raises:
            CommandFailed: it can't be put there.
        """
        if self._path is None or self._beside is None:
            return
        try:
            self._beside.replace(self._path)
        except OSError as error:
            raise self._failed(error) from None
        self._beside = None

    def _failed(self, error: OSError) -> CommandFailed:
        return CommandFailed(f"the token can't be written into {self._path}: {error.strerror}", Exit.CONFIG)

    def __enter__(self) -> TokenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beside is not None:
            with contextlib.suppress(OSError):
                self._beside.unlink()
