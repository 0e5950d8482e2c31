"""What the parts of one command line share: whether it speaks JSON, where the bus is, and where results go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trishula.cli.words import as_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from trishula.sync import Bus

__all__ = ["State", "json_option"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class State:
    """The state of one command line."""

    url: str | None = None
    profile: str | None = None
    #: Whether the profile is the chosen one, and nobody named one for this command line.
    is_chosen: bool = False
    json: bool = False
    #: Opens the bus; tests put another one here.
    connect: Callable[..., Bus] | None = None

    @property
    def named_profile(self) -> str | None:
        """The profile that this command line names: for what must not follow what somebody chose in a terminal."""
        return None if self.is_chosen else self.profile

    @contextmanager
    def bus(self, timeout_s: float = 10.0, *, looks_only: bool = False) -> Iterator[Bus]:
        """The bus, joined with the settings of this command line; ``looks_only``: to ask the node, as observers may."""
        connect = self.connect
        if connect is None and looks_only:
            # Late, as below.
            from trishula.sync import look as connect
        if connect is None:
            # Late, because it imports Twisted and Autobahn: a wrong argument is told without them.
            from trishula import connect as real_connect

            connect = real_connect
        with connect(url=self.url, profile=self.profile, timeout=timeout_s) as bus:
            yield bus

    def each_node(self) -> Iterator[tuple[str, State]]:
        """A state for each node that the command line, the variables or the profile name, with its URL."""
        # Late, as the bus.
        from trishula.settings import load

        for url in load(url=self.url, profile=self.profile).urls:
            yield url, replace(self, url=url)

    def console(self, *, stderr: bool = False) -> Console:
        """Where tables go, and bars of progress."""
        from rich.console import Console

        return Console(file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False)

    def show(self, value: object, render: Callable[[], RenderableType]) -> None:
        """The result of a command: one JSON document, or what ``render`` makes of it for people."""
        if self.json:
            self.line(value)
        else:
            self.print(render())

    def print(self, shown: RenderableType) -> None:
        """Print for people: wrapped at words in a terminal, and in a pipe as long as it is."""
        console = self.console()
        if isinstance(shown, str) and not console.is_terminal:
            # As it is: a console would make spaces of tabs.
            click.echo(shown, file=sys.stdout)
            return
        console.print(shown, soft_wrap=not console.is_terminal)

    def note(self, text: str, style: str = "dim") -> None:
        """Say something beside the result, to people alone: on standard error, not with ``--json``."""
        if not self.json:
            console = self.console(stderr=True)
            console.print(text, style=style, soft_wrap=not console.is_terminal)

    def line(self, value: object) -> None:
        """One JSON value on a line of its own, flushed: followers read it at once."""
        click.echo(as_json(value), file=sys.stdout)
        if sys.stdout is not None:
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
