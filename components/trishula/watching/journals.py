"""Reading on in the journals that a node holds: the new records since the last look, and never very many at a time.

A node writes faster than a screen is read. A look takes at most :data:`MOST_RECORDS` of each journal: the newest ones,
and says how many before them it passed over.

The flow needs the node's clock, which a look is not told. The newest record is that old at least: the look that joined
left one itself, and from then on this machine's monotonic clock goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trishula.watching.flow import Flow

__all__ = ["MOST_RECORDS", "Journals"]

#: A node answers at most so many records at a time; so many are read of one journal in one look.
_PAGE, MOST_RECORDS = 1000, 4000

#: Asks a node with options, as ``trishula.audit.query`` takes them; its answer.
Ask = Callable[[dict[str, Any]], Mapping[str, Any]]


class Journals:
    """Where the reading of each journal stands.

    Attributes:
        flow: what the records say.
    """

    def __init__(self) -> None:
        self.flow = Flow()
        self._whose: tuple[object, object] | None = None
        self._after: dict[str | None, int] = {}
        #: The node's clock less ours.
        self._ahead_ms: float | None = None

    def now(self, now_s: float) -> int:
        """The time by the node's clock, in ms since the epoch; 0 if no record of the node's was read yet."""
        return 0 if self._ahead_ms is None else int(now_s * 1000 + self._ahead_ms)

    def read_on(self, ask: Ask, status: Mapping[str, Any], monotonic: Callable[[], float]) -> None:
        """Read what is new into :attr:`flow`.

        Args:
            ask: how to ask the node.
            status: what it says of itself, ``trishula.node.status``.
            monotonic: a clock in seconds that nobody sets.
        """
        whose = (status.get("node"), status.get("epoch"))
        if whose != self._whose:
            # Another node, or another store: nothing of before has to do with it.
            self.flow, self._whose, self._after, self._ahead_ms = Flow(), whose, {}, None
        self._read(ask, None, int(status.get("high_water", 0)), monotonic)
        for peer in status.get("peers", ()):
            if peer.get("copied"):
                self._read(ask, str(peer["node"]), int(peer["copied"]), monotonic)

    def _read(self, ask: Ask, node: str | None, newest: int, monotonic: Callable[[], float]) -> None:
        known = self._after.get(node)
        if known is not None and known > newest:
            # A peer with a new store counts from the beginning again.
            known = None
        after = max(known or 0, newest - MOST_RECORDS)
        passed_over = None if known is None else after - known
        is_whole = after == 0
        records: list[dict[str, Any]] = []
        more = True
        # While a look reads, records are written: they are the next look's.
        while more and len(records) < MOST_RECORDS:
            options = {"after": after, "limit": min(_PAGE, MOST_RECORDS - len(records))}
            told = ask(options if node is None else {**options, "node": node})
            records += told["records"]
            more = bool(told["more"])
            if told["after"] <= after:
                break
            after = told["after"]
        self._after[node] = after
        if node is None:
            self._follow_clock(records, monotonic())
        self.flow.add(
            records,
            self.now(monotonic()),
            node=node,
            is_whole=is_whole,
            passed_over=passed_over,
            is_end=not more,
        )

    def _follow_clock(self, records: list[dict[str, Any]], now_s: float) -> None:
        for record in records:
            ahead_ms = record["at"] - now_s * 1000
            if self._ahead_ms is None or record.get("kind") == "clock_set" or ahead_ms > self._ahead_ms:
                self._ahead_ms = ahead_ms
