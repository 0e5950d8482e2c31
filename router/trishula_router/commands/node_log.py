"""The log of a node's processes, ``node.log``: how long it may grow, and what Crossbar says there when it can't run.

The node says why it gives up in a file (:mod:`trishula_router.failure_file`), and the log is not asked. Crossbar has
its log alone to say why it ends: its port is taken, a component can't be imported, a worker was killed. For those ends,
and no others, :func:`is_port_taken` and :func:`crossbars_reason` read what the log gained since the node's start.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from pathlib import Path

__all__ = ["LOG_LIMIT_BYTES", "crossbars_reason", "is_port_taken", "trim_log"]

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


# -- what Crossbar says ------------------------------------------------------------------------------------------------


def is_port_taken(text: str) -> bool:
    """Whether Crossbar says that somebody else listens on its port."""
    return "Address already in use" in text


def crossbars_reason(text: str) -> str:
    """The one line of the log that tells most about why Crossbar ended.

    Best is the last line of a traceback, which names the error and its sentence; without any, the last line has to do.
    """
    lines = [_PREFIX.sub("", line).strip() for line in _as_text(text).splitlines()]
    errors = [line for line in lines if _ERROR.match(line)]
    rest = [line for line in lines if line and not line.startswith(_SAYS_NOTHING)]
    return _unpack((errors or rest or ["its log says nothing"])[-1])


def _as_text(log: str) -> str:
    """A log, in which a line may be JSON (:mod:`trishula.log_lines`), as text."""
    lines = []
    for line in log.splitlines():
        try:
            said = json.loads(line) if line.startswith("{") else None
        except ValueError:
            said = None
        if isinstance(said, dict):
            lines += [str(said.get(part, "")) for part in ("message", "traceback")]
        else:
            lines.append(line)
    return "\n".join(lines)


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
#: ``package.module.SomeError: sentence``
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Failed|Full|Invalid|Missing|Taken)\b[^:]*: \S")
#: ``ApplicationError(error=<uri>, args=['sentence …``
_APPLICATION_ERROR = re.compile(r"""ApplicationError\(error=<[^>]*>, args=\[('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
#: What Crossbar says whenever it ends.
_SAYS_NOTHING = (
    "CROSSBAR",
    "cannot detach session",
    "Native worker received SIGTERM",
    "Received SIGTERM",
    "dropping connection to peer",
)
