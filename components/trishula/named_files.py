"""Opening files that somebody names, on a command line or in a configuration.

A name may stand for what has no end, or no beginning: a pipe that nobody writes into, a terminal, ``/dev/zero``.
Whoever opens one waits for ever, and says nothing. So such are refused as an error of the file, which every reader
tells with its name already. What a shell hands over (``<(command)``) is a pipe, too: where a file is read once, from
its begin to its end, a pipe will do if something comes out of it soon.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["open_file", "open_stream"]

#: How long a command of the shell's may take before it writes: it may ask for a password first.
_PATIENCE_S = 30.0


def open_file(path: Path) -> BufferedReader:
    """Open a file to read it.

    Raises:
        OSError: it can't be opened, or is no regular file; the text says what it is.
    """
    descriptor = _opened(path)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _refused(path, f"it is {_kind_of(mode)}, and no file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_stream(path: Path) -> BufferedReader:
    """Open a file, or a pipe that somebody writes into, to read it once. It waits for that, up to 30 s.

    Raises:
        OSError: it can't be opened, is something else, or nothing comes out of the pipe.
    """
    descriptor = _opened(path)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode):
            if not select.select([descriptor], [], [], _PATIENCE_S)[0]:
                raise _refused(path, f"it is a pipe, and nobody has written into it for {_PATIENCE_S:g} s")
        elif not stat.S_ISREG(mode):
            raise _refused(path, f"it is {_kind_of(mode)}, and no file")
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _opened(path: Path) -> int:
    mode = os.stat(path).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        # Already its opening may do something: wind a tape, reset a modem.
        raise _refused(path, f"it is {_kind_of(mode)}, and no file")
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _kind_of(mode: int) -> str:
    for is_kind, word in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_kind(mode):
            return word
    return "a device"


def _refused(path: Path, why: str) -> OSError:
    return OSError(errno.EINVAL, why, str(path))
