"""``trishula journal``: how large the journals and stores of the nodes are, how long they last, and their archives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.journal_verify import verify
from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import NOTHING, plain
from trishula.contract import uris
from trishula.contract.units import show_bytes, show_duration
from trishula.errors import TrishulaError

if TYPE_CHECKING:
    from trishula.cli.tables import Table

__all__ = ["journal"]

_DAY_H = 24
#: The check of a node's readiness that has the figures of its store.
_CHECK = "disk"


@click.group(cls=Group)
def journal() -> None:
    """Look after the journals of the nodes: all that happened to messages and sessions."""


journal.add_command(verify)


@journal.command()
@json_option
@click.pass_obj
def status(state: State) -> None:
    """Show how full the store of each node is, and when it will be full (operators, observers).

    The forecast is the node's own: a straight line through the room that its store had in the last hours, half an hour
    at least and six at most. There is none before that, nor while the store doesn't grow.

    \b
    Examples:
      trishula journal status
      trishula journal status --json
    """
    told: dict[str, dict[str, Any]] = {}
    faults: dict[str, TrishulaError] = {}
    for url, one in state.each_node():
        try:
            with one.bus(looks_only=True) as bus:
                found = _figures(bus.request(uris.NODE_STATUS), ask_newer(bus, uris.NODE_READY))
            told[str(found["node"])] = found
        except TrishulaError as error:
            faults[url] = error
    if not told:
        raise next(iter(faults.values()))
    not_reached = {url: one.sentence for url, one in faults.items()}
    state.show({"nodes": list(told.values()), "not_reached": not_reached}, lambda: _table(told))
    for name, node in told.items():
        if node["reason"]:
            state.note(f"{plain(name)}: {plain(node['reason'])}", "yellow")
    for url, sentence in not_reached.items():
        state.note(f"{plain(url)} is not among them: {plain(sentence)}", "yellow")


def _figures(status: dict[str, Any], ready: dict[str, Any]) -> dict[str, Any]:
    """What there is to know of one node's store; figures that the node doesn't know are ``None``."""
    store = status["store"]
    check: dict[str, Any] = next((one for one in ready["checks"] if one["check"] == _CHECK), {})
    used, room = store["used_bytes"], store.get("room_bytes")
    growth_per_h = check.get("growth_bytes_per_h")
    return {
        "node": status["node"],
        "records": status["high_water"],
        "used_bytes": used,
        "limit_bytes": store.get("limit_bytes"),
        "room_bytes": room,
        # A node of an earlier release tells both figures, and not their ratio.
        "full": None if room is None else round(used / max(1, used + max(0, room)), 3),
        "growth_bytes_per_day": None if growth_per_h is None else growth_per_h * _DAY_H,
        "full_in_h": check.get("full_in_h"),
        "reason": check.get("reason", ""),
    }


def _table(told: dict[str, dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table("Node", "Records", "Takes", "Of", "Full", "A day", "Full in")
    for name, one in told.items():
        growth, full_in_h = one["growth_bytes_per_day"], one["full_in_h"]
        table.add_row(
            plain(name),
            str(one["records"]),
            show_bytes(one["used_bytes"]),
            NOTHING if one["limit_bytes"] is None else show_bytes(one["limit_bytes"]),
            NOTHING if one["full"] is None else f"{one['full']:.0%}",
            NOTHING if growth is None else ("-" if growth < 0 else "+") + show_bytes(abs(growth)),
            NOTHING if full_in_h is None else f"about {show_duration(full_in_h * 3600)}",
        )
    return table
