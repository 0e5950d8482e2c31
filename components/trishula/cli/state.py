"""What the parts of one command line share: whether it speaks JSON, where the bus is, how to write and to read values.

Text that came over the bus is somebody else's: before it reaches a terminal its control characters are made visible, so
that no agent can write over an operator's screen.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trishula.contract.units import parse_duration_s

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from trishula.sync import Bus

__all__ = ["DURATION", "State", "as_json", "json_option", "local_time", "milliseconds", "parse_json", "plain"]

F = TypeVar("F", bound=Callable[..., Any])

#: JSON can escape half of a pair of UTF-16, and Python keeps it; nothing that leaves this process can hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")
#: What terminals obey, or readers take for the end of a line, and JSON doesn't escape.
_PASSES_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")
#: Wide enough for every table: what reads a pipe wants a row on a line.
_PIPE_WIDTH = 200


@dataclass
class State:
    """The state of one command line."""

    url: str | None = None
    profile: str | None = None
    json: bool = False
    #: Opens the bus; tests put another one here.
    connect: Callable[..., Bus] | None = None

    @contextmanager
    def bus(self, timeout_s: float = 10.0) -> Iterator[Bus]:
        """The bus, joined with the settings of this command line."""
        connect = self.connect
        if connect is None:
            # Late, because it imports Twisted and Autobahn: a wrong argument is told without them.
            from trishula import connect as real_connect

            connect = real_connect
        with connect(url=self.url, profile=self.profile, timeout=timeout_s) as bus:
            yield bus

    def console(self, *, stderr: bool = False) -> Console:
        """Where tables go."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        return Console(
            file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False, markup=False, emoji=False
        )

    def show(self, value: object, render: Callable[[], RenderableType]) -> None:
        """The result of a command: one JSON document, or what ``render`` makes of it for people."""
        if self.json:
            self.line(value)
        else:
            self.console().print(render())

    def line(self, value: object) -> None:
        """One JSON value on a line of its own, flushed: followers read it at once."""
        click.echo(as_json(value))
        sys.stdout.flush()


def _speak_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    if value:
        ctx.ensure_object(State).json = True
    return value


def json_option(function: F) -> F:
    """``--json``, the same on every command: a JSON document on standard output, errors as JSON on standard error."""
    return click.option(
        "--json",
        "_json",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_speak_json,
        help="Print JSON, and errors as JSON on standard error.",
    )(function)


class _Duration(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """Seconds of ``10s``, ``5m`` …"""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


DURATION = _Duration()


def parse_json(text: str, what: str) -> Any:
    """JSON given on the command line: itself, ``@FILE``, or ``-`` for standard input.

    Raises:
        click.UsageError: if it can't be read; the sentence says where.
    """
    source = what
    if text == "-":
        source = f"{what} from standard input"
        # The bytes: how Python reads them as text depends on the locale, and lets stray ones pass in some.
        text = _decoded(sys.stdin.buffer.read(), source)
    elif text.startswith("@"):
        source = f"{what} from {text[1:]}"
        try:
            content = Path(text[1:]).read_bytes()
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
    return value


def milliseconds(span: str | None, option: str) -> int | None:
    """What an option says that takes a span with its unit, for the wire.

    Raises:
        click.UsageError: it is none.
    """
    if span is None:
        return None
    try:
        return int(parse_duration_s(span) * 1000)
    except ValueError as error:
        raise click.UsageError(f"{option} is {span!r}; {error}") from None


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{source} is not text in UTF-8") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not in JSON")


def as_json(value: object) -> str:
    """A value as JSON on one line, fit for a terminal: JSON lets some control characters pass as they are."""
    text = json.dumps(value, ensure_ascii=False)
    # They are in strings only, where an escape means the same.
    return _PASSES_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(value: object) -> str:
    """Text from the bus, fit for a terminal: control characters are made visible."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def local_time(at_ms: object) -> str:
    """An instant of the wire (ms since the epoch) as people here read it."""
    if not isinstance(at_ms, int | float):
        return "–"
    try:
        return datetime.fromtimestamp(at_ms / 1000).strftime("%Y-%m-%d %H:%M:%S.") + f"{int(at_ms) % 1000:03}"
    except (OverflowError, OSError, ValueError):
        return str(at_ms)
