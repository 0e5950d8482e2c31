"""``trishula alert``: what is wrong at a node, and whether whoever is to be told of it can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.exit_codes import Exit

if TYPE_CHECKING:
    from trishula.cli.tables import Table

__all__ = ["alert"]

_NO_ROADS = (
    "the node tells nobody: no road is configured (alerts.webhook, alerts.slack or alerts.mail_server in its "
    "configuration; see deploy/docs/howto/alerts.rst)"
)
#: Each road is tried for 10 s.
_TEST_TIMEOUT_S = 40.0


@click.group(cls=Group)
def alert() -> None:
    """See a node's alerts, and try the roads by which they are sent (operators only)."""


@alert.command("list")
@json_option
@click.pass_obj
def show(state: State) -> None:
    """Show what is wrong at the node now, and how the roads of its alerts are.

    \b
    Examples:
      trishula alert list
      trishula alert list --json
    """
    told = _ask(state, uris.NODE_ALERTS, 10.0)
    if not told["conditions"] and not state.json:
        state.print(f"nothing is wrong at {plain(told['node'])}")
    else:
        state.show(told, lambda: _table(told))
    if not told["roads"]:
        state.note(_NO_ROADS)
    for road in told["roads"]:
        if road["fault"]:
            state.note(f"{plain(road['road'])} fails, {road['waiting']} wait: {plain(road['fault'])}", "yellow")


@alert.command()
@json_option
@click.pass_obj
def test(state: State) -> None:
    """Send a test alert by each road, and say what came of it; ends with 1 if one failed.

    \b
    Examples:
      trishula alert test
    """
    found = _ask(state, uris.NODE_ALERT_TEST, _TEST_TIMEOUT_S)
    if not found:
        raise click.ClickException(_NO_ROADS)
    if state.json:
        state.line(found)
    else:
        for one in found:
            state.print(f"{plain(one['road'])}: {'sent' if one['ok'] else 'failed'}: {plain(one['detail'])}")
    if not all(one["ok"] for one in found):
        raise click.exceptions.Exit(int(Exit.FAILED))


def _ask(state: State, uri: str, timeout_s: float) -> Any:
    with state.bus() as bus:
        return ask_newer(bus, uri, timeout_s=timeout_s)


def _table(told: dict[str, Any]) -> Table:
    from trishula.cli.tables import Table

    table = Table("Kind", "About", "Since", "Told", "What is wrong", below=("What is wrong",))
    for one in told["conditions"]:
        table.add_row(
            plain(one["kind"]),
            plain(one["about"] or told["node"]),
            local_time(one["since"], "seconds"),
            "yes" if one["notified"] else "no",
            plain(one["sentence"]),
        )
    return table
