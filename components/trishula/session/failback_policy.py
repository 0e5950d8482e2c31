"""When to go back to the node that stands first in the list: a policy, no I/O.

:mod:`trishula.session.joining` acts on it.

While we are joined to another node, the better ones are *watched*: a connection is opened and kept, with its pings, but
nobody joins on it. When it has been there without a break for the time that the settings say, we move: we join on it,
and only then leave where we are. A watch that breaks begins anew.

It never flaps: a move that failed, or after which the better node was lost again soon, doubles the time to wait for the
next one, up to :data:`LONGEST_WAIT_S`; a session there that lasts makes it short again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trishula.runtime.backoff import Backoff

__all__ = ["LONGEST_WAIT_S", "STEADY_AFTER_S", "Failback"]

#: A node that comes and goes is visited a few times an hour and not more.
LONGEST_WAIT_S = 600.0
#: A session on the better node that lasts so long was worth the move.
STEADY_AFTER_S = 300.0

#: Between attempts to open a watch. Nothing hangs on it, so it may be slow: a node that is back is used after half a
#: minute anyway.
_RETRY = Backoff(first_s=1.0, factor=2.0, cap_s=15.0)


class Failback:
    """What to watch, and for how long.

    Args:
        urls: all nodes, in order of preference.
        after_s: how long a better node must have been there; ``None`` never goes back.
        random: in [0, 1); spreads the clients that wait for the same node.
    """

    def __init__(self, urls: Sequence[str], *, after_s: float | None, random: Callable[[], float]) -> None:
        self._urls = tuple(urls)
        self._after_s = after_s
        self._random = random
        self._at = 0
        self._next = 0
        self._failures = 0
        self._pause_s = 0.0
        self._doublings = 0
        self._since_s = 0.0
        self._has_moved = False

    def joined(self, url: str, now_s: float) -> None:
        """We are on this node now, by an ordinary join."""
        self._has_moved = False
        self._begin(url, now_s)

    def moved(self, url: str, now_s: float) -> None:
        """We are on this node now, by a move."""
        self._has_moved = True
        self._begin(url, now_s)

    def lost(self, now_s: float) -> None:
        """The session is gone."""
        if now_s - self._since_s < STEADY_AFTER_S:
            self._doublings += self._has_moved
        elif self._at == 0:
            self._doublings = 0

    def move_failed(self) -> None:
        """We could not move, and are where we were."""
        self._doublings += 1
        self.watch_failed()

    def attempt(self) -> tuple[str, float] | None:
        """The node to watch next, and the pause before the attempt in seconds; ``None`` if there is no better one."""
        if self._after_s is None or self._at == 0:
            return None
        return self._urls[self._next], self._pause_s

    def watch_failed(self) -> None:
        """The watch could not be opened, or broke."""
        self._next += 1
        self._pause_s = 0.0
        if self._next >= self._at:
            self._next = 0
            self._pause_s = _RETRY.pause_s(self._failures, self._random)
            self._failures += 1

    def watch_opened(self) -> float:
        """The watch is open; for how many seconds it must stay so before we move."""
        # Bounded before the power is taken: a client that runs for months must not meet an OverflowError.
        grown = (self._after_s or 0.0) * 2.0 ** min(self._doublings, 16)
        return min(grown, max(LONGEST_WAIT_S, self._after_s or 0.0)) * (1.0 + 0.2 * self._random())

    def _begin(self, url: str, now_s: float) -> None:
        self._since_s = now_s
        self._at = self._urls.index(url)
        self._next = 0
        self._failures = 0
        self._pause_s = 0.0
