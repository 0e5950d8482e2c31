"""``trishula inbox``: take messages out of your own mailbox and print them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option, local_time, plain

if TYPE_CHECKING:
    from rich.text import Text

    from trishula.blocking import Bus
    from trishula.deliveries import Delivery, Fetched

__all__ = ["inbox"]

#: One long poll; the node allows up to a minute.
_POLL_S = 30.0
_PAGE = 64


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Stay, and print messages as they come, until Ctrl-C.")
@click.option("--peek", is_flag=True, help="Leave the messages where they are; each look counts as a delivery.")
@click.option("--max", "limit", type=click.IntRange(1), help="Stop after so many messages.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 60), default=0.0, help="Seconds to wait for a first message."
)
@json_option
@click.pass_obj
def inbox(state: State, follow: bool, peek: bool, limit: int | None, wait_s: float) -> None:
    """Print the messages that wait for you, and acknowledge each once it is printed.

    An empty answer is a proof: it says how many messages wait or are with somebody else. A running agent takes its
    messages itself; then this command refuses. With --json each message is a line of its own.

    \b
    Examples:
      trishula inbox --peek
      trishula inbox --follow --json | while read line; do …
    """
    if peek and follow:
        raise click.UsageError("--peek leaves the messages in the mailbox, and --follow takes them out: choose one")
    with state.bus() as bus:
        taken = 0
        while True:
            room = _PAGE if limit is None else min(_PAGE, limit - taken)
            fetched = bus.fetch(max=room, wait_s=_POLL_S if follow else (0.0 if taken else wait_s))
            _print(state, bus, fetched, peek=peek)
            taken += len(fetched.deliveries)
            if limit is not None and taken >= limit:
                break
            # What was looked at is leased to us: asking again shows what lies behind it, until nothing does.
            if not fetched.deliveries and not follow:
                break
        if not state.json and not follow:
            left = fetched.pending + (fetched.in_flight if peek else 0)
            state.console(stderr=True).print(_ending(fetched, taken, left, peek))


def _print(state: State, bus: Bus, fetched: Fetched, *, peek: bool) -> None:
    for delivery in fetched.deliveries:
        if state.json:
            state.line({"message": delivery.message.to_wire(), "attempt": delivery.attempt, "token": delivery.token})
        else:
            state.console().print(_render(delivery))
    # Printed and flushed before it is acknowledged: a broken pipe loses nothing.
    sys.stdout.flush()
    if fetched.deliveries and not peek:
        bus.ack([delivery.token for delivery in fetched.deliveries])


def _render(delivery: Delivery) -> Text:
    from rich.text import Text

    message = delivery.message
    text = Text()
    text.append(f"{local_time(message.accepted_at)}  ", style="dim")
    text.append(f"{message.type:<9} ", style="bold red" if message.type == "ERROR" else "bold")
    text.append(f"{plain(message.sender or '?')}", style="cyan")
    text.append(f"  {plain(message.id)}", style="dim")
    notes: list[Any] = []
    if message.priority != 3:
        notes.append(f"priority {message.priority}")
    if message.procedure is not None:
        notes.append(message.procedure)
    if message.reply_to is not None:
        notes.append(f"answers {message.reply_to}")
    if delivery.attempt > 1:
        notes.append(f"attempt {delivery.attempt}")
    if notes:
        text.append(f"  ({plain(', '.join(notes))})", style="dim")
    if message.subject is not None:
        text.append(f"\n  {plain(message.subject)}", style="bold")
    if message.payload is not None:
        text.append(f"\n  {plain(message.payload)}")
    return text


def _ending(fetched: Fetched, taken: int, left: int, peek: bool) -> str:
    verb = "looked at" if peek else "taken"
    if left == 0 and fetched.in_flight == 0:
        return f"{taken} {verb}; the mailbox is empty (as of record {fetched.high_water})"
    return f"{taken} {verb}; {fetched.pending} wait, {fetched.in_flight} are delivered and not acknowledged"
