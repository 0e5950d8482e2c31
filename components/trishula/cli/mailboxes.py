"""``trishula mailboxes``: what waits for whom, who fills it and who takes from it; for operators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trishula.cli.known import ask_newer, require_agent
from trishula.cli.message_text import text_of
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import NOTHING, plain
from trishula.contract import uris
from trishula.contract.addresses import Address, is_capability
from trishula.contract.message import Message
from trishula.contract.units import show_bytes, show_duration

if TYPE_CHECKING:
    from rich.text import Text

    from trishula.cli.tables import Table

__all__ = ["mailboxes"]

#: The node answers at most so many at a time.
_MOST = 1000
_PAGE = 64
#: Of a payload, unless all of it is asked for.
_LETTERS = 200


@click.group(cls=Group, invoke_without_command=True)
@click.option("--agent", metavar="ADDRESS", help="Only those of this agent and its instances, or of capability:NAME.")
@click.option(
    "--limit", type=click.IntRange(1, _MOST - 1), default=50, show_default=True, help="At most so many mailboxes."
)
@json_option
@click.pass_obj
@click.pass_context
def mailboxes(ctx: click.Context, state: State, agent: str | None, limit: int) -> None:
    """Show what waits in each mailbox, the deepest first (operators only).

    The numbers are those of the node that you ask. Linked nodes all hold an agent's messages: where an agent takes them
    at another node, "waiting" counts what it is handling there too, so don't add up what several nodes say. Messages to
    a capability are shown by the one node that hands them out. "unread": with an agent whose model has not read them.

    \b
    Examples:
      trishula mailboxes
      trishula mailboxes --agent agni --json
      trishula mailboxes peek agni
    """
    if ctx.invoked_subcommand is not None:
        return
    wanted: dict[str, Any] = {"limit": limit + 1}
    if agent is not None:
        wanted["agent"] = _checked(agent, "--agent")
    with state.bus(looks_only=True) as bus:
        found = ask_newer(bus, uris.NODE_MAILBOXES, wanted)
        if agent is not None and not is_capability(agent) and not any(map(_depth, found)):
            require_agent(bus, agent)
        status = {} if state.json else bus.request(uris.NODE_STATUS)
    shown, more = found[:limit], len(found) > limit
    if not state.json and not any(_depth(box) or "/" not in str(box.get("address")) for box in shown):
        state.note("nothing waits, and nobody takes messages")
        return
    # Scripts come and go, this one among them; what is empty of theirs is for programs.
    seen = shown if agent is not None else [box for box in shown if _depth(box) or "/" not in str(box.get("address"))]
    state.show(shown, lambda: _table(seen, status.get("node")))
    state.note(_footer(shown, status, more))


@mailboxes.command()
@click.argument("address")
@click.option("--max", "limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many messages.")
@click.option("--whole", is_flag=True, help=f"Payloads as they are, and not the first {_LETTERS} letters of each.")
@json_option
@click.pass_obj
def peek(state: State, address: str, limit: int, whole: bool) -> None:
    """Look into a mailbox and take nothing (operators only).

    ADDRESS is an agent, agent/instance or capability:NAME. The next message to be delivered comes first. With --json
    each message is a line of its own, with its state, its attempts and its whole payload.

    \b
    Examples:
      trishula mailboxes peek agni
      trishula mailboxes peek capability:deploy --max 100 --json
    """
    checked = _checked(address, "ADDRESS")
    looked, more, told, options = 0, True, {}, {}
    with state.bus() as bus:
        while more and looked < limit:
            options["max"] = min(_PAGE, limit - looked)
            told = ask_newer(bus, uris.NODE_PEEK, checked, options)
            for one in told["messages"]:
                if state.json:
                    state.line(one)
                else:
                    message = msgspec.convert(one["message"], Message)
                    is_out, letters = one["state"] == "delivered", None if whole else _LETTERS
                    state.print(text_of(message, one["attempts"], is_out=is_out, most_letters=letters))
            looked += len(told["messages"])
            more, options = told["more"], {"after": told["after"]}
        if not looked and not is_capability(checked):
            require_agent(bus, checked)
    state.note(
        f"{looked} looked at; by the node {plain(told.get('node'))} {told.get('pending')} wait, "
        f"{told.get('in_flight')} are being handled",
        style="none",
    )


def _checked(address: str, option: str) -> str:
    try:
        return str(Address.parse(address))
    except ValueError as error:
        raise click.UsageError(f"{option} is {address!r}; {error}") from None


def _depth(box: dict[str, Any]) -> int:
    return int(box.get("pending", 0)) + int(box.get("in_flight", 0))


def _table(found: list[dict[str, Any]], node: object) -> Table:
    from trishula.cli.tables import Table

    table = Table(
        "Mailbox", "Waiting", "Handled", "Size", "Oldest", "Taken by", "Filled by", below=("Taken by", "Filled by")
    )
    for box in found:
        oldest_at = box.get("oldest_at")
        table.add_row(
            plain(box.get("address", "?")),
            str(box.get("pending")),
            _handled(box),
            show_bytes(int(box.get("bytes", 0))) if _depth(box) else NOTHING,
            NOTHING if oldest_at is None else _age(oldest_at),
            _taken_by(box, node),
            ", ".join(f"{plain(one.get('agent'))} {one.get('messages')}" for one in box.get("senders", ())) or NOTHING,
        )
    return table


def _handled(box: dict[str, Any]) -> str:
    """How many are out; of those with a model how many it has not read."""
    unread = box.get("unread")
    return str(box.get("in_flight")) + (f" ({unread} unread)" if unread else "")


def _age(at: int) -> str:
    return show_duration(max(0.0, time.time() - at / 1000))


def _taken_by(box: dict[str, Any], node: object) -> Text:
    """Who takes from a mailbox, in a few words; in red if messages wait and nobody does."""
    from rich.text import Text

    nobody = Text("nobody", style="red" if _depth(box) else "dim")
    if "able" in box:
        told = [*map(plain, box["able"]), *(f"some at {plain(one)}" for one in box.get("able_at", ()))]
        return Text(", ".join(told)) if told else nobody
    consumer = box.get("consumer")
    if consumer is None:
        return nobody
    words = ["its agent" if "instance" not in consumer else "its instance"]
    if consumer.get("by") == "fetch":
        words.append("(a fetch waits)")
    if consumer.get("host"):
        words.append(f"on {plain(consumer['host'])}")
    if consumer.get("node") != node:
        words.append(f"at {plain(consumer.get('node'))}")
    if consumer.get("since") is not None:
        words.append(f"for {_age(consumer['since'])}")
    if consumer.get("busy_until") is not None:
        words.append("(busy)")
    return Text(" ".join(words))


def _footer(shown: list[dict[str, Any]], status: dict[str, Any], more: bool) -> str:
    node = plain(status.get("node"))
    told = f"by the node {node}: {status.get('pending')} wait, {status.get('in_flight')} are being handled in all"
    if any((box.get("consumer") or {}).get("node", status.get("node")) != status.get("node") for box in shown):
        told += f"; what is handled at another node counts as waiting here, and as handled at {_others(shown, status)}"
    return f"{told}; there are more mailboxes: --limit" if more else told


def _others(shown: list[dict[str, Any]], status: dict[str, Any]) -> str:
    names = {(box.get("consumer") or {}).get("node") for box in shown} - {None, status.get("node")}
    return ", ".join(sorted(map(plain, names)))
