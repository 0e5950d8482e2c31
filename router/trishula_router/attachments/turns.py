"""Whose attachment is fetched over a link next: a few at a time, and of those who wait each agent in its turn.

Whoever asks for a thousand files has as many turns as who asks for one, so that one waits for a piece, and not for all
of the thousand. No I/O.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred

__all__ = ["UNDER_WAY", "Turns"]

#: So many are under way from one node: one is on the link while the other one's answer is on its way.
UNDER_WAY = 2


class _Line:
    """Who waits for one node."""

    def __init__(self) -> None:
        self.under_way = 0
        self.waiting: OrderedDict[str, deque[Deferred[None]]] = OrderedDict()


class Turns:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @contextlib.asynccontextmanager
    async def turn(self, node: str, agent: str) -> AsyncIterator[None]:
        """Wait for a turn of an agent's with a node, and have it."""
        line = self._lines.setdefault(node, _Line())
        if line.under_way >= UNDER_WAY:
            mine: Deferred[None] = Deferred()
            line.waiting.setdefault(agent, deque()).append(mine)
            # Who lets us go on counts us.
            await mine
        else:
            line.under_way += 1
        try:
            yield
        finally:
            self._next(node, line)

    def _next(self, node: str, line: _Line) -> None:
        if not line.waiting:
            line.under_way -= 1
            if not line.under_way:
                self._lines.pop(node, None)
            return
        agent, theirs = next(iter(line.waiting.items()))
        first = theirs.popleft()
        if theirs:
            line.waiting.move_to_end(agent)
        else:
            del line.waiting[agent]
        first.callback(None)
