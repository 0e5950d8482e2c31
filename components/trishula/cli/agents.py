"""``trishula agents``: who is registered, who is there, and what they can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option, local_time, plain
from trishula.contract import uris

if TYPE_CHECKING:
    from rich.table import Table

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
    with state.bus() as bus:
        found = bus.request(uris.DIRECTORY_FIND, options) if options else bus.request(uris.DIRECTORY_LIST)
    state.show(found, lambda: _table(found))


def _table(found: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("Agent", "Presence", "Since", "Node", "Capabilities", "Last seen", "Clock", title=None)
    for entry in found:
        presence = str(entry.get("presence"))
        skew = entry.get("clock_skew_ms")
        table.add_row(
            plain(entry.get("agent", "?")),
            Text(presence, style=_COLOURS.get(presence, "dim")),
            local_time(entry.get("since"))[:19],
            plain(entry.get("node") or "–"),
            plain(", ".join(map(str, entry.get("capabilities") or ())) or "–"),
            local_time(entry.get("last_seen_at"))[:19],
            "–" if skew is None else f"{skew:+} ms",
        )
    if not found:
        table.add_row("none", *[""] * 6)
    return table
