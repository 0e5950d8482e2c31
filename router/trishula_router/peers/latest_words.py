"""Words of peers that each take the place of the one before: those that take long are taken seldom.

A presence is all that a node says of its agents, so that only the newest one counts. A peer tells it again whenever an
agent comes or goes, and whoever has a peer's key as often as it likes; one that is as large as may be takes a node some
ten ms, in one go. So after a word that took longer than :data:`LONG_S` the next ones of its peer wait, for so many
times as long; the last of those that came meanwhile is taken, and the others never. Small words are taken at once, all
of them. Policy, but for the timer.
"""

from __future__ import annotations

from collections.abc import Callable

from trishula_router.clocks.clock import Clock

__all__ = ["LONG_S", "RESTS", "LatestWords"]

#: The presence of a thousand agents takes less.
LONG_S = 0.005
#: At most a twentieth of a node's time goes into a peer's words.
RESTS = 20.0


class LatestWords:
    """See the module's docstring.

    Args:
        take: carries out a word: (peer, text); it raises nothing.
        clock: for timers.
        worked_s: for how long this thread has worked, in seconds: what others take of the machine is not a peer's.
    """

    def __init__(self, take: Callable[[str, bytes], None], clock: Clock, worked_s: Callable[[], float]) -> None:
        self._take = take
        self._clock = clock
        self._worked_s = worked_s
        # Of each peer whose words wait now: the newest one that came, if any did.
        self._waiting: dict[str, bytes | None] = {}

    def come(self, peer: str, text: bytes) -> None:
        """A peer said something."""
        if peer in self._waiting:
            self._waiting[peer] = text
            return
        began_s = self._worked_s()
        self._take(peer, text)
        took_s = self._worked_s() - began_s
        if took_s > LONG_S:
            self._waiting[peer] = None
            self._clock.callLater(took_s * RESTS, lambda: self._go_on(peer))

    def forget(self, peer: str) -> None:
        """A peer is away: what it said last is no longer so, and must not come after that."""
        if peer in self._waiting:
            self._waiting[peer] = None

    def _go_on(self, peer: str) -> None:
        text = self._waiting.pop(peer)
        if text is not None:
            self.come(peer, text)
