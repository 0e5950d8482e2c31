"""What every way of waking has in common, and programs that are run for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Protocol

from trishula.cli.words import plain
from trishula.waking.policy import Pointer

__all__ = ["Adapter", "WakeFailed", "run_program"]

_GRACE_S = 5.0
_TAIL_BYTES = 64 * 1024
_MOST_LETTERS = 300


class WakeFailed(Exception):
    """A wake failed; the text is a sentence's end that says how."""


class Adapter(Protocol):
    """One way of waking.

    Attributes:
        target: what is woken, in words that tell it from any other target.
    """

    target: str

    def wake(self, pointer: Pointer) -> None:
        """Wake it, and return when that is done.

        Raises:
            WakeFailed: it was not woken, or that is unknown.
        """


def run_program(command: str | Sequence[str], variables: Mapping[str, str], timeout_s: float) -> None:
    """Run a program to its end; a text is run by the shell.

    It has no standard input, and our standard output. It is a process group of its own: when it takes too long, or
    this process is ended meanwhile, all that it started is ended.

    Raises:
        WakeFailed: it can't be started, took too long, or ended with another code than 0.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                shell=isinstance(command, str),
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, **variables},
                start_new_session=True,
            )
        except OSError as error:
            name = command if isinstance(command, str) else command[0]
            raise WakeFailed(f"{name} can't be started: {error.strerror}") from None
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise WakeFailed(f"it was not through after {timeout_s:g} s and was ended{_said(errors)}") from None
        finally:
            if process.poll() is None:
                _end(process)
        if code:
            how = f"it ended with {code}" if code > 0 else f"it was ended by signal {-code}"
            raise WakeFailed(how + _said(errors))


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
            return


def _said(errors: IO[bytes]) -> str:
    """The line of its standard error that tells most: the first that begins with "error", else the last one."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - _TAIL_BYTES, 0))
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    told = next((line for line in lines if line.lower().startswith("error")), lines[-1] if lines else "")
    return f" and said: {plain(told)[:_MOST_LETTERS]}" if told else ""
