"""``trishula nudge``: say that mail waits, for hooks of coding agents and for whatever wakes a model."""

from __future__ import annotations

import select
import sys
import time

import click

from trishula.cli.lasting import may_pass
from trishula.cli.state import State, json_option
from trishula.contract.uris import MAILBOX_PEEK
from trishula.errors import TrishulaError
from trishula.front_door.nudges import EVENTS, FORMS, Event, Form, as_hook, is_repeated, pointer

__all__ = ["nudge"]

#: A hook holds up its user: a node that is not there in this time is told of another time.
_JOIN_S = 3.0
_POLL_S = 3.0
_LOOKED_AT = 20


@click.command()
@click.option(
    "--for",
    "form",
    type=click.Choice(FORMS),
    default="text",
    show_default=True,
    help="Whose hook reads what is printed.",
)
@click.option("--event", type=click.Choice(EVENTS), default="prompt", show_default=True, help="What it is run at.")
@click.option("--follow", "-f", is_flag=True, help="Stay, and print a line each time that more mail waits.")
@json_option
@click.pass_obj
def nudge(state: State, form: Form, event: Event, follow: bool) -> None:
    """Print one line if mail waits for you: how many messages, and from whom.

    Nothing is taken, and nothing of a message is printed: the model calls inbox. Without mail, and while no node can be
    reached, it prints nothing and ends well, so that a hook never holds up its user.

    \b
    Examples:
      trishula nudge
      trishula --profile scout nudge --for claude-code --event stop
      trishula --profile scout nudge --follow
    """
    if follow:
        _follow(state)
        return
    if event == "stop" and is_repeated(_told()):
        return
    try:
        text, waiting = _look(state, event)
    except TrishulaError as error:
        click.echo(f"trishula: {error.sentence}", err=True)
        return
    if state.json:
        state.line({"waiting": waiting, "text": text})
    elif text:
        click.echo(as_hook(text, form, event))


def _told() -> str:
    """What the client tells its hook on standard input, if it does."""
    if sys.stdin is None or sys.stdin.isatty() or not select.select([sys.stdin], [], [], 0.5)[0]:
        return ""
    return sys.stdin.read()


def _look(state: State, event: Event | None) -> tuple[str, int]:
    with state.bus(timeout_s=_JOIN_S, looks_only=True) as bus:
        page = bus.request(MAILBOX_PEEK, {"max": _LOOKED_AT}, timeout=_JOIN_S)
    return pointer(page["messages"], page["pending"], event), int(page["pending"])


def _follow(state: State) -> None:
    before = 0
    with state.bus(looks_only=True) as bus:
        while True:
            try:
                page = bus.request(MAILBOX_PEEK, {"max": _LOOKED_AT}, timeout=_POLL_S)
            except TrishulaError as error:
                if not may_pass(error):
                    raise
                # It is back some time.
                time.sleep(_POLL_S)
                continue
            if page["pending"] > before:
                text = pointer(page["messages"], page["pending"])
                if state.json:
                    state.line({"waiting": page["pending"], "text": text})
                else:
                    click.echo(text)
            before = page["pending"]
            time.sleep(_POLL_S)
