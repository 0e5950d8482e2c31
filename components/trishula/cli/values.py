"""Values as they are given on the command line: JSON, spans of time, instants.

A span of time has one form everywhere: a number with its unit, ``250ms``, ``10s``, ``5m``, ``2h``, ``7d``. A bare
number is refused. An instant is a span, which is that long ago, or a date and time of ISO 8601; one without a zone is
in the time zone of this machine.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from trishula.contract.binary import unmarked
from trishula.contract.units import parse_duration_s, show_duration
from trishula.named_files import open_stream

__all__ = ["DURATION", "Duration", "instant_ms", "milliseconds", "parse_json"]

#: JSON can escape half of a pair of UTF-16, and Python keeps it; nothing that leaves this process can hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """Seconds of ``10s``, ``5m`` …

    Args:
        least_s: the shortest span that is taken; without ``most_s`` some very short one, so that there is any.
        most_s: the longest one.
        bare_seconds: whether a bare number counts as seconds: the form that an option had before, kept for scripts.
    """

    name = "duration"

    def __init__(self, *, least_s: float = 0.0, most_s: float | None = None, bare_seconds: bool = False) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._bare_seconds = bare_seconds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; a default may be given in seconds."""
        if isinstance(value, int | float):
            return float(value)
        option = param.opts[-1] if param is not None else "the span"
        text = f"{value}s" if self._bare_seconds and re.fullmatch(r"\d+(\.\d+)?", value) else value
        try:
            seconds = parse_duration_s(text)
        except ValueError as error:
            raise click.UsageError(f"{option} is {value!r}; {error}", ctx) from None
        if seconds < self._least_s or (self._most_s is not None and seconds > self._most_s):
            rule = "longer than nothing"
            if self._most_s is not None:
                rule = f"from {show_duration(self._least_s)} to {show_duration(self._most_s)}"
            raise click.UsageError(f"{option} is {value!r}; it must be {rule}", ctx)
        return seconds


DURATION = Duration()


def milliseconds(span_s: float | None) -> int | None:
    """A span in seconds, for the wire."""
    return None if span_s is None else round(span_s * 1000)


def instant_ms(text: str | None, option: str, now_ms: int) -> int | None:
    """Milliseconds since the epoch of ``10m`` (ago) or of a date.

    Raises:
        click.UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        return now_ms - int(parse_duration_s(text) * 1000)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(
            f"{option} is {text!r}; it must be a span such as '10m', '2h' or '1d' (ago), or a date such as "
            "2026-11-23T00:00:00 (here) or 2026-11-23T00:00:00Z"
        ) from None


def parse_json(text: str, what: str) -> Any:
    """JSON given on the command line: itself, ``@FILE``, or ``-`` for standard input.

    Raises:
        click.UsageError: if it can't be read; the sentence says where.
    """
    source = what
    if text == "-":
        source = f"{what} from standard input"
        if sys.stdin is None:
            raise click.UsageError(f"{source} can't be read: it is closed")
        # The bytes: how Python reads them as text depends on the locale, and lets stray ones pass in some.
        text = _decoded(sys.stdin.buffer.read(), source)
    elif text.startswith("@"):
        source = f"{what} from {text[1:]}"
        try:
            with open_stream(Path(text[1:])) as file:
                content = file.read()
        except OSError as error:
            raise click.UsageError(f"{what}: the file {text[1:]!r} can't be read: {error.strerror}") from None
        text = _decoded(content, source)
    try:
        # Some editors begin a text with a mark, which JSON hasn't.
        value = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse_constant)
        half = _SURROGATE.search(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError) as error:
        hint = "; a string needs its quotes: '\"text\"'" if source == what else ""
        raise click.UsageError(f"{source} is no JSON: {error}{hint}") from None
    if half is not None:
        raise click.UsageError(f"{source} has half of a character, {ascii(half[0])[1:-1]}, which is no text")
    # Bytes are written into JSON as WAMP does it.
    return unmarked(value)


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{source} is not text in UTF-8") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not in JSON")
