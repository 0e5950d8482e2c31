"""``trishula agents``: who is registered, who is there, and what they can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option
from trishula.cli.words import NOTHING, local_time, plain
from trishula.contract import uris

if TYPE_CHECKING:
    from trishula.cli.tables import Table

__all__ = ["agents"]

_COLOURS = {"online": "green", "busy": "yellow", "stale": "red"}


@click.command()
@click.option("--capability", metavar="NAME", help="Only agents that can do this.")
@click.option(
    "--presence", type=click.Choice(["online", "busy", "stale", "offline"]), help="Only agents in this state."
)
@json_option
@click.pass_obj
def agents(state: State, capability: str | None, presence: str | None) -> None:
    """Show the registered agents: presence, capabilities, last sign of life.

    \b
    Examples:
      trishula agents
      trishula agents --capability host --json
    """
    wanted = {"capability": capability, "presence": presence}
    options = {key: value for key, value in wanted.items() if value is not None}
    with state.bus(looks_only=True) as bus:
        found = bus.request(uris.DIRECTORY_FIND, options) if options else bus.request(uris.DIRECTORY_LIST)
    if not found and not state.json:
        state.note("no agent fits" if options else "no agents are registered")
        return
    state.show(found, lambda: _table(found))


def _table(found: list[dict[str, Any]]) -> Table:
    from rich.text import Text

    from trishula.cli.tables import Table

    # Of who is at another cell: how old it is what is known.
    beyond = any(entry.get("cell") for entry in found)
    below = ("Capabilities", "Since", "Clock", *(("Known",) if beyond else ()))
    table = Table("Agent", "Presence", "Node", "Last seen", *below, below=below)
    for entry in found:
        presence = str(entry.get("presence"))
        skew = entry.get("clock_skew_ms")
        table.add_row(
            plain(entry.get("agent", "?")),
            Text(plain(presence), style=_COLOURS.get(presence, "dim")),
            _where(entry),
            local_time(entry.get("last_seen_at"), "seconds"),
            plain(", ".join(map(str, entry.get("capabilities") or ())) or NOTHING),
            local_time(entry.get("since"), "seconds"),
            NOTHING if skew is None else f"{skew:+} ms",
            *([local_time(entry.get("known_at"), "seconds")] if beyond else ()),
        )
    return table


def _where(entry: dict[str, Any]) -> str:
    node = plain(entry.get("node") or NOTHING)
    return f"{plain(entry['cell'])}/{node}" if entry.get("cell") else node
