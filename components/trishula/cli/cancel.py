"""``trishula cancel``: take back messages that are not over; whoever works on one is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option
from trishula.cli.words import plain
from trishula.contract import uris
from trishula.exit_codes import Exit

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["cancel"]


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@json_option
@click.pass_obj
@click.pass_context
def cancel(ctx: click.Context, state: State, ids: tuple[str, ...]) -> None:
    """Cancel messages that you sent, by their ids, unless they are over.

    One that waits is not delivered any more. Whoever works on one is told: a coroutine is stopped, and no result comes.
    A call that waits for its answer ends with an error that says so. Of a broadcast, all deliveries that are not over
    are cancelled.

    It ends with 0 if all of them were cancelled, with 5 if you sent no message of that id, and with 1 if one was over.

    \b
    Examples:
      trishula cancel 7d1f0c.1
      trishula cancel deploy-42 deploy-43 --json
    """
    with state.bus() as bus:
        answers = bus.cancel(*ids)
        states = bus.request(uris.MAILBOX_STATUS, list(ids))
    told = {
        message_id: {"cancelled": was, "state": states.get(message_id, {}).get("state")}
        for message_id, was in zip(ids, answers, strict=True)
    }
    state.show(told, lambda: _render(told))
    if any(one["state"] is None for one in told.values()):
        ctx.exit(Exit.NOT_FOUND)
    if not all(answers):
        ctx.exit(Exit.FAILED)


def _render(told: dict[str, dict[str, Any]]) -> Text:
    from rich.text import Text

    lines = []
    for message_id, one in told.items():
        text = Text(f"{plain(message_id)}  ")
        if one["cancelled"]:
            text.append("cancelled", style="yellow")
        elif one["state"] is None:
            text.append("unknown: you sent no message of that id", style="red")
        else:
            text.append(f"not cancelled: it is {plain(one['state'])}", style="red")
        lines.append(text)
    return Text("\n").join(lines)
