"""The gate: while a node that starts asks its peers what it missed, nobody is let in yet.

A token that was revoked while the node was away would else let its thief in for a moment. It is a short while, and a
peer that can't be reached is not waited for: see :data:`trishula_router.node.CATCH_UP_PATIENCE_S`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

__all__ = ["Gate"]


class Gate:
    """Open, unless it was shut."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] | None = None

    def shut(self, then: Callable[[], object]) -> None:
        """Have those who come wait; ``then`` is done first when it opens."""
        self._waiting = [then, *(self._waiting or [])]

    def open(self) -> None:
        """Let in whoever waits, and whoever comes."""
        waiting, self._waiting = self._waiting or [], None
        for go_on in waiting:
            go_on()

    async def passed(self) -> None:
        """Wait until it is open."""
        if self._waiting is not None:
            turn: Deferred[None] = Deferred()
            self._waiting.append(lambda: turn.callback(None))
            await turn
