"""Reading the journals that a node holds, from an instant on: its own, and the copies of its peers'."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["Ask", "last_records", "records_since"]

#: A node answers at most so many records at a time.
_PAGE = 1000

#: Asks a node with options, as ``trishula.audit.query`` takes them; its answer.
Ask = Callable[[dict[str, Any]], Mapping[str, Any]]


def records_since(
    ask: Ask, status: Mapping[str, Any], since: int, missing: list[dict[str, Any]], kinds: Sequence[str] = ()
) -> Iterator[Mapping[str, Any]]:
    """All records that were written from an instant on, journal after journal, each in its order.

    Records that are written meanwhile are among them or not.

    Args:
        ask: how to ask the node.
        status: what it says of itself, ``trishula.node.status``.
        since: the instant, ms since the epoch, by the clock of whoever wrote a record.
        missing: gets what the node says of journals whose records it doesn't hold.
        kinds: of which kinds; all if none is named.
    """
    copied = [str(peer["node"]) for peer in status.get("peers", ()) if peer.get("copied")]
    for node in (None, *copied):
        after, more = 0, True
        while more:
            question: dict[str, Any] = {"after": after, "since": since, "limit": _PAGE}
            if kinds:
                question["kinds"] = list(kinds)
            told = ask(question if node is None else {**question, "node": node})
            yield from told["records"]
            missing[:] = told.get("missing", missing)
            more = bool(told["more"]) and int(told["after"]) > after
            after = int(told["after"])


def last_records(ask: Ask, status: Mapping[str, Any], nodes: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """The last record that is held of the journal of each of some peers, if that is still in the store.

    Args:
        ask, status: as those of :func:`records_since`.
        nodes: of whom.
    """
    for peer in status.get("peers", ()):
        if peer["node"] in nodes and peer.get("copied"):
            told = ask({"node": str(peer["node"]), "after": int(peer["copied"]) - 1, "limit": 1})
            yield from told["records"]
