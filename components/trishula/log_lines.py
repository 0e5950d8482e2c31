"""Lines of a log: one form for people, one for programs; the same ones for nodes and agents.

======== ===============================================================================================================
``text`` for people; a traceback follows its line, and a line of it that looks like the begin of another is indented
``json`` one object a line, for programs: ``time`` (RFC 3339, UTC, with ms), ``level`` (``debug`` ``info`` ``warning``
         ``error`` ``critical``), ``logger``, ``message``; where they apply ``event`` (the sentence before names were
         put in, so that lines of a kind can be counted), ``node``, ``agent``, ``peer``, ``message_id``, ``trace_id``;
         ``traceback`` as one string
``auto`` ``text``; beneath systemd, whose journal reads standard error, each line begins with its priority (``<4>``)
======== ===============================================================================================================

``auto`` stays ``text`` in a file and a pipe too: who reads the log today reads that form.

What others wrote is among the words of a line: names, reasons, errors. So a message is one line without control
characters, in either form. No payload and no token is ever among the fields: they are the ones in :data:`FIELDS`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trishula.contract.texts import one_line
from trishula.errors import TrishulaError

__all__ = [
    "FIELDS",
    "FORMATS",
    "FORMAT_VARIABLE",
    "LEVELS",
    "LEVEL_VARIABLE",
    "LogOptionInvalid",
    "chosen",
    "goes_to_journal",
    "json_line",
    "prioritized",
    "traceback_lines",
]

FORMATS = ("auto", "text", "json")
#: From the quietest to the most talkative.
LEVELS = ("error", "warning", "info", "debug")
FORMAT_VARIABLE, LEVEL_VARIABLE = "TRISHULA_LOG_FORMAT", "TRISHULA_LOG_LEVEL"

#: What else a line says in JSON, where it is known. Nothing else gets into a line, whatever the code hands to a logger.
FIELDS = ("node", "agent", "peer", "message_id", "trace_id", "uri", "address", "session")
_FIELD_LENGTH = 200
_MESSAGE_LENGTH = 8_000
_TRACEBACK_LENGTH = 32_000

#: How both forms of a line in text begin: a node's and an agent's.
_BEGINS = re.compile(r"(<\d>)?\d{4}-\d\d-\d\d[T ]\d\d:")

#: Level → syslog's priority, as sd-daemon(3) has it.
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


class LogOptionInvalid(TrishulaError):
    """A variable says something of the log that can't be used."""


def chosen(environ: Mapping[str, str], default_level: str) -> tuple[str, str]:
    """The form (``text`` or ``json``) and the level that the environment asks for.

    Raises:
        LogOptionInvalid: a variable has a value that there is none of.
    """
    form, level = environ.get(FORMAT_VARIABLE) or "auto", environ.get(LEVEL_VARIABLE) or default_level
    for name, value, known in ((FORMAT_VARIABLE, form, FORMATS), (LEVEL_VARIABLE, level, LEVELS)):
        if value not in known:
            raise LogOptionInvalid(f"{name} is {value!r}; it must be one of {', '.join(known)}")
    return ("json" if form == "json" else "text"), level


def goes_to_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether what is written to an open file is read by systemd's journal, which names its own end in a variable."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (str(status.st_dev), str(status.st_ino)) == (device, inode)


def json_line(
    at_s: float,
    level: str,
    logger: str,
    message: str,
    *,
    event: str | None = None,
    fields: Mapping[str, Any] | None = None,
    traceback: str | None = None,
) -> str:
    """One line of JSON, without its line break.

    Args:
        at_s: when, in seconds since the epoch.
        level: one of :data:`LEVELS`, or ``critical``.
        logger: which part of the program says it.
        message: the sentence.
        event: the sentence before names were put into it.
        fields: of these, those in :data:`FIELDS` that have a value.
        traceback: of the exception.
    """
    moment = datetime.fromtimestamp(at_s, UTC)
    line: dict[str, Any] = {
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "level": level,
        "logger": logger,
        "message": one_line(message)[:_MESSAGE_LENGTH],
    }
    if event:
        line["event"] = one_line(event)[:_MESSAGE_LENGTH]
    for name in FIELDS:
        value = None if fields is None else fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            line[name] = value
        elif value is not None and value != "":
            line[name] = one_line(str(value))[:_FIELD_LENGTH]
    if traceback:
        # What is wrong stands at its end.
        line["traceback"] = "\n".join(traceback_lines(traceback))[-_TRACEBACK_LENGTH:]
    # In ASCII: a lone surrogate, and a terminal's escape, is an escape of JSON's.
    return json.dumps(line)


def traceback_lines(text: str) -> list[str]:
    """The lines of a traceback as a log shows them: none can be taken for the begin of a line of the log."""
    lines = [one_line(line.expandtabs()) for line in text.rstrip("\n").split("\n")]
    return [f"  {line}" if _BEGINS.match(line) else line for line in lines]


def prioritized(text: str, level: str) -> str:
    """Lines of text with their priority, as systemd's journal takes them."""
    mark = f"<{_PRIORITIES.get(level, 6)}>"
    return "\n".join(mark + line for line in text.split("\n"))
