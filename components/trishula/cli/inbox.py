"""``trishula inbox``: take messages out of your own mailbox and print them; for operators: end those of another one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from trishula.cli.known import require_agent
from trishula.cli.message_text import text_of
from trishula.cli.state import State, json_option
from trishula.cli.values import Duration
from trishula.cli.words import plain
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.errors import NodeFailed

if TYPE_CHECKING:
    from trishula.contract.deliveries import Fetched
    from trishula.sync import Bus

__all__ = ["inbox"]

#: One long poll; the node allows up to a minute.
_POLL_S = 30.0
_PAGE = 64
#: A full mailbox, and a notice to the sender of each message.
_PURGE_S = 120.0


@click.group(invoke_without_command=True)
@click.option("--follow", "-f", is_flag=True, help="Stay, and print messages as they come, until Ctrl-C.")
@click.option("--peek", is_flag=True, help="Show the messages that are there, and take none of them.")
@click.option("--max", "limit", type=click.IntRange(1), help="Stop after so many messages.")
@click.option(
    "--wait",
    "wait_s",
    type=Duration(most_s=60.0, bare_seconds=True),
    metavar="DURATION",
    default="0s",
    help='How long to wait for a first message to take, such as "5s", at most 60s (a bare number counts as seconds).',
)
@click.option(
    "--surface",
    is_flag=True,
    help="What is printed goes into a model's context: put that on record once it is flushed.",
)
@json_option
@click.pass_obj
@click.pass_context
def inbox(
    ctx: click.Context, state: State, follow: bool, peek: bool, limit: int | None, wait_s: float, surface: bool
) -> None:
    """Print the messages that wait for you, and acknowledge each once it is printed.

    An empty answer is a proof: it says how many messages wait or are with somebody else. A running agent takes its
    messages itself; then this command refuses. With --json each message is a line of its own.

    --surface is for a hook whose output a model reads: then "trishula why" and the sender know that it did. A wake
    proves nothing, so leave it out where the output goes elsewhere.

    --peek only looks, also at what a running agent has and has not acknowledged yet. With --json its lines have the
    message, its state and its attempts.

    \b
    Examples:
      trishula inbox --peek
      trishula inbox --follow --json | while read line; do …
      trishula inbox --max 20 --surface
    """
    if ctx.invoked_subcommand is not None:
        return
    if peek and follow:
        raise click.UsageError("--peek leaves the messages in the mailbox, and --follow takes them out: choose one")
    if peek and surface:
        raise click.UsageError("--peek takes no message, and --surface is of messages that were taken: choose one")
    if peek and wait_s:
        raise click.UsageError("--peek shows what is there now, and --wait waits for a message to take: choose one")
    if peek:
        _look(state, limit)
        return
    with state.bus() as bus:
        if surface:
            bus.declare_model()
        taken = 0
        while True:
            room = _PAGE if limit is None else min(_PAGE, limit - taken)
            fetched = bus.fetch(max=room, wait_s=_POLL_S if follow else (0.0 if taken else wait_s))
            _print(state, bus, fetched, surface=surface)
            taken += len(fetched.deliveries)
            if limit is not None and taken >= limit:
                break
            if not fetched.deliveries and not follow:
                break
        if not state.json and not follow:
            _print_ending(state, f"{taken} taken", fetched.pending, fetched.in_flight, fetched.high_water)


@inbox.command()
@click.argument("agent")
@click.option("--sent", is_flag=True, help="What AGENT sent, in whichever mailbox, not what is open for it.")
@click.option("--dry-run", is_flag=True, help="End nothing, only count.")
@json_option
@click.pass_obj
def purge(state: State, agent: str, sent: bool, dry_run: bool) -> None:
    """End all that is open for AGENT and its instances, or from it (operators only).

    The messages become dead letters, and their senders are told; trishula dead replay puts them back. The same happens
    by itself when an agent goes from the agents file. --sent is for an agent that ran wild: revoke its tokens first.

    \b
    Examples:
      trishula inbox purge agni
      trishula inbox purge mallory --sent --dry-run
    """
    options = {key: True for key, is_set in (("sent", sent), ("dry_run", dry_run)) if is_set}
    with state.bus() as bus:
        # A node of an earlier release takes the agent alone.
        count = bus.request(uris.ADMIN_MAILBOX_PURGE, agent, *([options] if options else []), timeout=_PURGE_S)
        if not count:
            require_agent(bus, agent)
    messages = "1 message" if count == 1 else f"{count} messages"
    whose = f"{'from' if sent else 'to'} {plain(agent)}"
    if dry_run:
        state.show({"agent": agent, "open": count}, lambda: f"{messages} {whose} {'is' if count == 1 else 'are'} open")
        return
    where = "trishula dead list" if sent else f"trishula dead list --agent {plain(agent)}"
    became = "is a dead letter" if count == 1 else "are dead letters"
    state.show(
        {"agent": agent, "ended": count}, lambda: f"{messages} {whose} {became} now{f': {where}' if count else ''}"
    )


def _look(state: State, limit: int | None) -> None:
    """Print what is in the mailbox, page by page."""
    looked, options, more = 0, {}, True
    with state.bus() as bus:
        while more and looked != limit:
            options["max"] = _PAGE if limit is None else min(_PAGE, limit - looked)
            told = bus.request(uris.MAILBOX_PEEK, options)
            for one in told["messages"]:
                if state.json:
                    state.line(one)
                else:
                    message = msgspec.convert(one["message"], Message)
                    state.print(text_of(message, one["attempts"], is_out=one["state"] == "delivered"))
            looked += len(told["messages"])
            if told["more"] and told["after"] <= options.get("after", []):
                # A linked node of an older version names places by which it doesn't go on.
                raise NodeFailed("the node shows the same page again; take `trishula inbox`, or update the node")
            more, options = told["more"], {"after": told["after"]}
    if not state.json:
        _print_ending(state, f"{looked} looked at", told["pending"], told["in_flight"], told["high_water"])


def _print(state: State, bus: Bus, fetched: Fetched, *, surface: bool) -> None:
    for delivery in fetched.deliveries:
        if state.json:
            state.line({"message": delivery.message.to_wire(), "attempt": delivery.attempt, "token": delivery.token})
        else:
            state.print(text_of(delivery.message, delivery.attempt))
    # Printed and flushed before it is acknowledged: a broken pipe loses nothing.
    if sys.stdout is not None:
        sys.stdout.flush()
    if fetched.deliveries and surface:
        bus.surfaced([delivery.token for delivery in fetched.deliveries])
    if fetched.deliveries:
        bus.ack([delivery.token for delivery in fetched.deliveries])


def _print_ending(state: State, done: str, pending: int, in_flight: int, high_water: int) -> None:
    rest = f"{pending} wait, {in_flight} are delivered and not acknowledged"
    if pending + in_flight == 0:
        rest = f"the mailbox is empty (as of record {high_water})"
    state.note(f"{done}; {rest}", style="none")
