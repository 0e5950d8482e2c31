"""``trishula loop``: conversations of agents that answered each other without an end; for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.errors import MessageUnknown

if TYPE_CHECKING:
    from trishula.cli.tables import Table

__all__ = ["loop"]


@click.group(cls=Group)
def loop() -> None:
    """See conversations of agents that had no end, and let one go on (operators only).

    A node refuses what goes on with a conversation that had too many answers to answers in too short a time
    (limits.conversation_hops, limits.conversation_within). What is not an answer passes.
    """


@loop.command("list")
@json_option
@click.pass_obj
def show(state: State) -> None:
    """Show the conversations that are quarantined at the node.

    \b
    Examples:
      trishula loop list
      trishula loop list --json
    """
    with state.bus(looks_only=True) as bus:
        found = ask_newer(bus, uris.NODE_LOOPS)
    if not found and not state.json:
        state.print("no conversation is quarantined")
        return
    state.show(found, lambda: _table(found))
    state.note("trishula why ID tells of a message; trishula loop release ID has its conversation go on")


@loop.command()
@click.argument("message_id", metavar="ID")
@json_option
@click.pass_obj
def release(state: State, message_id: str) -> None:
    """Let the conversation go on that began with the message ID, at the node that you ask.

    It begins anew, and may have as many answers again.

    \b
    Examples:
      trishula loop release 7d1f0c.1
    """
    with state.bus() as bus:
        count = ask_newer(bus, uris.ADMIN_LOOP_RELEASE, message_id)
    if not count:
        raise MessageUnknown(
            f"no conversation that began with {plain(message_id)} is quarantined at this node; see trishula loop list"
        )
    state.show({"id": message_id, "released": count}, lambda: f"the conversation of {plain(message_id)} may go on")


def _table(found: list[dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table("Began with", "Agents", "Hops", "From", "Stopped", "Refused")
    for one in found:
        table.add_row(
            plain(one.get("id")),
            " and ".join(map(plain, one.get("agents", ()))),
            str(one.get("hops")),
            local_time(one.get("since")),
            local_time(one.get("quarantined_at")),
            str(one.get("refused")),
        )
    return table
