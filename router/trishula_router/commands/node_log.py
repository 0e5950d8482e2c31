"""The log of a node's processes, ``node.log``: how long it may grow, and which of its lines says why the node ended."""

from __future__ import annotations

import ast
import os
import re
import shutil
from pathlib import Path

__all__ = ["LOG_LIMIT_BYTES", "cause_in_log", "trim_log"]

#: Beyond that the log is set aside and begun anew; one old log is kept, so that no client can fill the disk with it.
LOG_LIMIT_BYTES = 16 * 1024 * 1024
#: On a small disk it is this share of it.
_LOG_SHARE = 128
#: How much of it stays where it can't be set aside.
_LOG_KEPT_BYTES = 64 * 1024


def trim_log(log: Path, limit_bytes: int | None = None) -> bool:
    """Set a log that has grown too long aside; whether that was done.

    Copied and cut rather than renamed: the node's processes have it open, and go on at its end, wherever that is. Where
    the disk has no room for the copy, its last lines stay and the rest goes.

    Args:
        log: the file.
        limit_bytes: how long it may be, by default :data:`LOG_LIMIT_BYTES`, or less on a small disk.
    """
    try:
        if limit_bytes is None:
            limit_bytes = min(LOG_LIMIT_BYTES, shutil.disk_usage(log.parent).total // _LOG_SHARE)
        if log.stat().st_size <= limit_bytes:
            return False
        aside = log.with_suffix(".log.1")
        try:
            shutil.copy(log, aside)
            kept = b""
        except OSError:
            aside.unlink(missing_ok=True)
            with log.open("rb") as file:
                file.seek(-min(limit_bytes, _LOG_KEPT_BYTES), os.SEEK_END)
                kept = file.read()
        os.truncate(log, 0)
        with log.open("ab") as file:
            file.write(kept)
    except OSError:
        # A full disk is no reason to end the node.
        return False
    return True


def cause_in_log(text: str) -> str:
    """The one line of a node's log that tells most about why it ended.

    Best is what our component says when it gives up; then the last line of a traceback, which names the error and its
    sentence; without either the last line has to do.
    """
    lines = [_PREFIX.sub("", line).strip() for line in text.splitlines()]
    given_up = [line.removeprefix(_GIVEN_UP) for line in lines if line.startswith(_GIVEN_UP)]
    errors = [line for line in lines if _ERROR.match(line)]
    rest = [line for line in lines if line and not line.startswith(_SAYS_NOTHING)]
    return _unpack((given_up or errors or rest or ["its log says nothing"])[-1])


def _unpack(line: str) -> str:
    """The sentence within an error of Crossbar's, which shows itself with its parts and a traceback as one string."""
    match = _APPLICATION_ERROR.search(line)
    if match is None:
        return line
    inner = [part.strip() for part in str(ast.literal_eval(match[1])).splitlines() if part.strip()]
    if not inner:
        return line
    return inner[0] if len(inner) == 1 else f"{inner[0]}: {inner[-1]}"


#: What Crossbar puts before each line: time, process.
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\dT\S+ \[[^\]]*\] ?")
#: What our component says last when it can't start.
_GIVEN_UP = "stopping the router worker: "
#: ``package.module.SomeError: sentence``
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Failed|Full|Invalid|Missing|Taken)\b[^:]*: \S")
#: ``ApplicationError(error=<uri>, args=['sentence …``
_APPLICATION_ERROR = re.compile(r"""ApplicationError\(error=<[^>]*>, args=\[('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
#: What a node says whenever it ends.
_SAYS_NOTHING = (
    "CROSSBAR",
    "cannot detach session",
    "Native worker received SIGTERM",
    "Received SIGTERM",
    "dropping connection to peer",
)
