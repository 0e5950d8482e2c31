"""Reading the journals that a node holds, from an instant on: its own, and the copies of its peers'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["Ask", "records_since"]

#: A node answers at most so many records at a time.
_PAGE = 1000

#: Asks a node with options, as ``trishula.audit.query`` takes them; its answer.
Ask = Callable[[dict[str, Any]], Mapping[str, Any]]


def records_since(
    ask: Ask, status: Mapping[str, Any], since: int, missing: list[dict[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """All records that were written from an instant on, journal after journal, each in its order.

    Records that are written meanwhile are among them or not.

    Args:
        ask: how to ask the node.
        status: what it says of itself, ``trishula.node.status``.
        since: the instant, ms since the epoch, by the clock of whoever wrote a record.
        missing: gets what the node says of journals whose records it doesn't hold.
    """
    copied = [str(peer["node"]) for peer in status.get("peers", ()) if peer.get("copied")]
    for node in (None, *copied):
        after, more = 0, True
        while more:
            question: dict[str, Any] = {"after": after, "since": since, "limit": _PAGE}
            told = ask(question if node is None else {**question, "node": node})
            yield from told["records"]
            missing[:] = told.get("missing", missing)
            more = bool(told["more"]) and int(told["after"]) > after
            after = int(told["after"])
