"""``trishula turn``: say that a turn is open, blocked or closed, for hooks and scripts; or show how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.values import Duration
from trishula.cli.words import local_time, plain
from trishula.contract.uris import DIRECTORY_TURN
from trishula.front_door.turns import doing_of

__all__ = ["turn"]

#: A hook holds up its user.
_WAIT_S = 5.0
_SPAN_S = 1800.0


@click.command()
@click.argument("to", metavar="[open|blocked|closed]", required=False, type=click.Choice(["open", "blocked", "closed"]))
@click.option("--doing", metavar="TEXT", help="What you do or wait for, in one line; others see it.")
@click.option(
    "--for",
    "for_s",
    type=Duration(least_s=1.0, most_s=86_400.0),
    help="For how long at most, such as 30m, which is the default.",
)
@json_option
@click.pass_obj
def turn(state: State, to: str | None, doing: str | None, for_s: float | None) -> None:
    """Say that your agent is at work, waits for a human, or is through; or show it.

    It is the same as a model's tool turn: open, blocked or closed. The node keeps it until it is over by itself, so it
    outlives this command: others see the agent as busy, however silent it is, and mail that is not urgent isn't
    announced to its model.

    \b
    Examples:
      trishula turn
      trishula turn open --doing "refactors the parser" --for 2h
      trishula --profile scout turn blocked --doing "may I delete it?"
      trishula turn closed
    """
    if to in (None, "closed") and (doing is not None or for_s is not None):
        raise click.UsageError(
            "--doing and --for are about a turn that is open or blocked: say which, or leave them out"
        )
    asked: dict[str, Any] = {} if to is None else {"state": to, "for_s": for_s or _SPAN_S}
    if to not in (None, "closed") and (words := doing_of(doing)) is not None:
        asked["doing"] = words
    with state.bus(timeout_s=_WAIT_S) as bus:
        told = ask_newer(bus, DIRECTORY_TURN, asked, timeout_s=_WAIT_S)
    state.show(told, lambda: _told(told))


def _told(told: Mapping[str, Any]) -> str:
    if told["state"] == "closed":
        return "closed"
    said = f"{told['state']} since {local_time(told['since'], 'seconds')}, at most until "
    said += local_time(told["until"], "seconds")
    return f"{said}: {plain(told['doing'])}" if told["doing"] else said
