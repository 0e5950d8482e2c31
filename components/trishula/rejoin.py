"""Which node to try next, and when: the policy of an agent's connection. No I/O; :mod:`trishula.connection` does it.

Nodes are equals, and the order of the list is a preference. Attempts go in *rounds*: each node once, without a pause
between them. A round that reached nobody is followed by a growing pause. After a session is lost the next round begins
with the *other* nodes, because a frozen host would cost the time limit of an attempt before it is known to be frozen.

A node that refuses the token ends it all at the end of the round in which no node accepted: a wrong token stays wrong,
and a client that keeps trying would look like an attack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trishula.backoff import Backoff
from trishula.errors import TokenInvalid, TokenMissing, TrishulaError

__all__ = ["DEFAULT_BACKOFF", "HEALTHY_AFTER_S", "Rejoin"]

DEFAULT_BACKOFF = Backoff(first_s=0.1, factor=2.0, cap_s=5.0, jitter=0.2)

#: A session that lived shorter is no proof of health: a node that accepts and drops us must not be tried in a hot loop.
HEALTHY_AFTER_S = 10.0

#: The clients of a lost node come to the next one within this span and not in one instant; it must stay well below the
#: 300 ms that a failover may take.
_SPREAD_S = 0.05


class Rejoin:
    """The order and the pauses of attempts to join.

    Use: :meth:`attempt` says what to try and when; tell :meth:`failed`, or :meth:`joined` and later :meth:`lost`.
    """

    def __init__(self, urls: Sequence[str], *, random: Callable[[], float], backoff: Backoff = DEFAULT_BACKOFF) -> None:
        self._urls = tuple(urls)
        self._random = random
        self._backoff = backoff
        self._round: tuple[str, ...] = self._urls
        self._tried = 0
        self._failures = 0
        self._pause_s = 0.0
        self._joined_at_s = 0.0
        self._refusal: TrishulaError | None = None

    def attempt(self) -> tuple[str, float]:
        """The URL to try next, and the pause before it in seconds."""
        return self._round[self._tried], self._pause_s

    def failed(self, error: TrishulaError) -> TrishulaError | None:
        """The attempt failed with ``error``; returns the error that ends it all, if this was the end."""
        if isinstance(error, TokenInvalid | TokenMissing):
            self._refusal = error
        self._tried += 1
        self._pause_s = 0.0
        if self._tried < len(self._round):
            return None
        if self._refusal is not None:
            return self._refusal
        self._begin_round(self._urls)
        self._pause()
        return None

    def joined(self, now_s: float) -> None:
        """The attempt succeeded."""
        self._refusal = None
        self._joined_at_s = now_s

    def lost(self, now_s: float) -> None:
        """The session that was joined is gone."""
        lost = self._urls.index(self._round[self._tried])
        self._begin_round((*self._urls[:lost], *self._urls[lost + 1 :], self._urls[lost]))
        if now_s - self._joined_at_s >= HEALTHY_AFTER_S:
            self._failures = 0
            self._pause_s = _SPREAD_S * self._random()
        else:
            self._pause()

    def _begin_round(self, urls: tuple[str, ...]) -> None:
        self._round = urls
        self._tried = 0
        self._refusal = None

    def _pause(self) -> None:
        self._pause_s = self._backoff.pause_s(self._failures, self._random)
        self._failures += 1
