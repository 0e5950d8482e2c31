"""Values as words: text of others fit for a terminal, instants, and the facts of a record.

Text that came over the bus is somebody else's: before it reaches a terminal its control characters are made visible, so
that no agent can write over an operator's screen.

An instant has one form everywhere: ISO 8601 in the time zone of the machine that prints it, with the zone's offset from
UTC (``Z`` for UTC itself), such as ``2026-11-28T16:48:02.352+01:00``. Options that take an instant read that form.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TextIO

from trishula.contract.binary import marked_text
from trishula.contract.texts import UNSEEN
from trishula.contract.units import show_bytes, show_duration

__all__ = ["NOTHING", "as_json", "fact_of", "facts_of", "is_unicode", "local_time", "paragraphs", "plain"]

#: Stands where there is no value.
NOTHING = "–"


def plain(value: object) -> str:
    """Text from the bus on one line, fit for a terminal: control characters and line breaks are made visible."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=marked_text)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def paragraphs(value: object, indent: str = "") -> str:
    """Text from the bus as text: its line breaks and tabs stay, other control characters are made visible.

    Args:
        value: the text; anything else becomes JSON on one line.
        indent: what each line but the first begins with, so that no line can pass for one of ours.
    """
    if not isinstance(value, str):
        return plain(value)
    # What splitlines would break at besides these (a form feed, U+2028) is made visible like any control character.
    lines = value.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return f"\n{indent}".join("\t".join(map(plain, line.split("\t"))) for line in lines)


def as_json(value: object, stream: TextIO | None = None) -> str:
    """A value as JSON on one line, fit for a terminal: JSON lets some control characters pass as they are.

    Args:
        value: what to write.
        stream: where the line goes, by default standard output: one that can't write all characters gets escapes.
    """
    text = json.dumps(value, ensure_ascii=not is_unicode(sys.stdout if stream is None else stream), default=marked_text)
    # They are in strings only, where an escape means the same.
    return UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def is_unicode(stream: TextIO | None) -> bool:
    """Whether a stream can write every character."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
    return encoding.startswith("utf")


def local_time(at_ms: object, timespec: str = "milliseconds") -> str:
    """An instant of the wire (ms since the epoch) in the machine's time zone, with the zone.

    Args:
        at_ms: the instant; what is no number is shown as absent.
        timespec: ``seconds`` where milliseconds would only take room.
    """
    if not isinstance(at_ms, int | float) or isinstance(at_ms, bool):
        return NOTHING
    try:
        text = datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(timespec=timespec)
    except (OverflowError, OSError, ValueError):
        return str(at_ms)
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def facts_of(record: Mapping[str, object], without: Collection[str] = ()) -> str:
    """The facts of a record on one line: each with the key that ``--json`` gives it, and with words for numbers."""
    told = ((key, value) for key, value in record.items() if key not in without)
    return ", ".join(f"{plain(key)}: {plain(fact_of(key, value))}" for key, value in told)


def fact_of(key: str, value: object) -> str:
    """A fact as people read it, by its key: instants, spans and sizes with their units, text as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        if key in ("at", "timestamp") or key.endswith("_at"):
            return local_time(value)
        if key.endswith("_ms"):
            return show_duration(value / 1000)
        if key == "bytes" or key.endswith("_bytes"):
            return show_bytes(value)
    return paragraphs(value)
