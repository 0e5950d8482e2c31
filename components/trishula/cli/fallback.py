"""``trishula fallback``: the mode of the bus, live or in fallback, and how an operator sets it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import NOTHING, local_time, plain
from trishula.contract import uris
from trishula.contract.texts import LINE_RULE, is_line
from trishula.errors import TrishulaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trishula.cli.tables import Table

__all__ = ["fallback"]

_REASON_LETTERS = 500
#: So long the other nodes are waited for; they follow as soon as they have the record.
_FOLLOW_S = 10.0
_ASK_AGAIN_S = 0.2

_reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="Why, in one line: agents, people and the journal are told it."
)


@click.group(cls=Group)
def fallback() -> None:
    """Put the whole bus into fallback, in which it takes no messages, and out of it again.

    In fallback the nodes deliver what they have and refuse new messages for now; answers to COMMANDs and acks are
    taken. The steps are in deploy/runbooks.rst ("Take the bus out of use, and back").
    """


@fallback.command()
@json_option
@click.pass_obj
def status(state: State) -> None:
    """Show the mode of the bus at each node of the URL or the profile (operators and observers).

    \b
    Examples:
      trishula fallback status
      trishula fallback status --json
    """
    _show(state, *_ask_all(state))


@fallback.command()
@_reason_option
@click.option("--keep-sending", is_flag=True, help="Have the nodes take messages all the same; agents write files too.")
@json_option
@click.pass_obj
def on(state: State, reason: str, keep_sending: bool) -> None:
    """Put the bus into fallback: all its linked nodes follow (operators only).

    \b
    Examples:
      trishula fallback on --reason "upgrade of both nodes"
    """
    _set(state, "on", {"reason": _checked(reason), "sends": keep_sending})


@fallback.command()
@_reason_option
@json_option
@click.pass_obj
def off(state: State, reason: str) -> None:
    """Bring the bus back: its nodes take messages again (operators only).

    \b
    Examples:
      trishula fallback off --reason "both nodes run 2.1"
    """
    _set(state, "off", {"reason": _checked(reason)})


def _checked(reason: str) -> str:
    if not reason.strip() or len(reason) > _REASON_LETTERS or not is_line(reason):
        raise click.UsageError(f"--reason is {reason!r}; it must have 1 to {_REASON_LETTERS} characters, {LINE_RULE}")
    return reason


def _set(state: State, word: str, options: dict[str, Any]) -> None:
    with state.bus() as bus:
        said = ask_newer(bus, uris.ADMIN_FALLBACK, word, options)

    def is_known(one: dict[str, Any]) -> bool:
        # Somebody else may have said something newer.
        return int(one["since"]) >= int(said["since"])

    told, faults = _ask_all(state, is_known)
    told.setdefault(str(said["node"]), said)
    _show(state, told, faults)
    for name in [name for name, one in told.items() if not is_known(one)]:
        state.note(f"{plain(name)} doesn't know it yet: is it linked? (trishula node status)", "yellow")


def _ask_all(
    state: State, is_enough: Callable[[dict[str, Any]], bool] = lambda _: True
) -> tuple[dict[str, dict[str, Any]], dict[str, TrishulaError]]:
    """What each node says, by its name, and why others don't, by their URLs; asked again until that is enough.

    Raises:
        TrishulaError: no node answers.
    """
    told: dict[str, dict[str, Any]] = {}
    faults: dict[str, TrishulaError] = {}
    deadline_s = time.monotonic() + _FOLLOW_S
    for url, one in state.each_node():
        try:
            with one.bus(looks_only=True) as bus:
                answer = ask_newer(bus, uris.NODE_FALLBACK)
                while not is_enough(answer) and time.monotonic() < deadline_s:
                    time.sleep(_ASK_AGAIN_S)
                    answer = ask_newer(bus, uris.NODE_FALLBACK)
            told[str(answer["node"])] = answer
        except TrishulaError as error:
            faults[url] = error
    if not told:
        raise next(iter(faults.values()))
    return told, faults


def _show(state: State, told: dict[str, dict[str, Any]], faults: dict[str, TrishulaError]) -> None:
    not_reached = {url: one.sentence for url, one in faults.items()}
    state.show({"nodes": list(told.values()), "not_reached": not_reached}, lambda: _table(told))
    for url, sentence in not_reached.items():
        state.note(f"{plain(url)} is not among them: {plain(sentence)}", "yellow")


def _table(told: dict[str, dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table("Node", "Mode", "Takes messages", "Since", "By", "Reason", below=("Since", "By", "Reason"))
    for name, one in told.items():
        table.add_row(
            plain(name),
            plain(one["mode"]),
            "yes" if one["sends"] else "no",
            local_time(one["since"], "seconds") if one["since"] else NOTHING,
            plain(one["by"] or NOTHING),
            plain(one["reason"] or NOTHING),
        )
    return table
