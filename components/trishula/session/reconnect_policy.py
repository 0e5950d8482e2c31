"""Which node to try next, and when: the policy of an agent's connection. No I/O.

:mod:`trishula.session.joining` acts on it.

Nodes are equals, and the order of the list is a preference. Attempts go in *rounds*: each node once. Within a round
they overlap: the next node is tried when the one before it failed, or has not let us in within :data:`HEAD_START_S`;
whoever lets us in first is it. So a node that answers nothing (a frozen host, a firewall that drops) costs half a
second and not the time limit of an attempt. A round that reached nobody is followed by a growing pause; a node whose
attempt is still open sits the next round out.

A node that is busy with the joins of many others says when our turn may be (:class:`~trishula.errors.NodeBusy`), and so
does one to which too many wrong tokens came from where we are (:class:`~trishula.errors.RateLimited`). A round in which
no node let us in and one said so is followed by that pause instead, and a little more, each client another.

After a session is lost the next round begins with the *other* nodes: the lost one is the least likely to be there.

A wrong token stays wrong, and a client that keeps trying would look like an attack. So nodes that refuse the token end
it all, once nobody else has let us in: at once if no node ever has, else only if all of them refuse it (one whose list
of agents is behind must not end an agent that the other one knows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trishula.errors import NodeBusy, RateLimited, TokenInvalid, TokenMissing, TrishulaError
from trishula.runtime.backoff import Backoff

__all__ = ["DEFAULT_BACKOFF", "HEAD_START_S", "HEALTHY_AFTER_S", "Rejoin"]

DEFAULT_BACKOFF = Backoff(first_s=0.1, factor=2.0, cap_s=5.0, jitter=0.2)

#: Longer than a join over a slow link (six round trips of 80 ms), so that the preferred node is not passed over for
#: being far away; short beside the 4 s in which an agent of a frozen host must be at work again.
HEAD_START_S = 0.5

#: A session that lived shorter is no proof of health: a node that accepts and drops us must not be tried in a hot loop.
HEALTHY_AFTER_S = 10.0

#: The clients of a lost node come to the next one within this span and not in one instant; it must stay well below the
#: 300 ms that a failover may take.
_SPREAD_S = 0.05

#: The instants that a busy node names are its guess; those that it tells the same must not come back together. And no
#: node keeps us waiting for longer than it could mean.
_BUSY_SPREAD = 0.25
_BUSY_CAP_S = 60.0

#: How long after a move to another node a takeover is doubted: the node that we were on may only now have come back to
#: its senses, and speak for the session that we had there. One in doubt costs one more attempt and not the agent.
_DOUBT_S = 30.0


class Rejoin:
    """The order and the pauses of attempts to join.

    Use: :meth:`attempt` says what to try and when; tell :meth:`begun`, then :meth:`failed`, or :meth:`joined` and
    later :meth:`lost`. ``attempt`` is to be asked again after each of them.
    """

    def __init__(self, urls: Sequence[str], *, random: Callable[[], float], backoff: Backoff = DEFAULT_BACKOFF) -> None:
        self._urls = tuple(urls)
        self._random = random
        self._backoff = backoff
        # What is left of the round, and whether any of it was tried.
        self._left = list(self._urls)
        self._is_begun = False
        self._open: set[str] = set()
        self._failures = 0
        self._pause_s = 0.0
        self._joined_at_s = 0.0
        self._at: str | None = None
        self._moved_at_s: float | None = None
        self._refusals: dict[str, TrishulaError] = {}
        # The shortest pause that a busy node of the round asked for.
        self._asked_s: float | None = None

    def attempt(self) -> tuple[str, float] | None:
        """The URL to try next, and the pause before it in seconds; ``None`` while there are only open ones."""
        return (self._left[0], self._pause_s) if self._left else None

    @property
    def pause_s(self) -> float:
        """How long until the next attempt, in seconds."""
        return self._pause_s

    def begun(self, url: str) -> None:
        """An attempt began."""
        self._open.add(url)
        if url in self._left:
            self._left.remove(url)
        self._is_begun = True
        self._pause_s = HEAD_START_S

    def failed(self, url: str, error: TrishulaError) -> TrishulaError | None:
        """An attempt failed with ``error``; returns the error that ends it all, if this was the end."""
        self._open.discard(url)
        if isinstance(error, TokenInvalid | TokenMissing):
            self._refusals[url] = error
        if isinstance(error, NodeBusy | RateLimited) and error.retry_after_s is not None:
            asked_s = min(error.retry_after_s, _BUSY_CAP_S)
            self._asked_s = asked_s if self._asked_s is None else min(self._asked_s, asked_s)
        if self._left:
            if self._is_begun:
                self._pause_s = 0.0
            return None
        if self._refusals and not self._open and (self._at is None or len(self._refusals) == len(self._urls)):
            return next(iter(self._refusals.values()))
        if self._at is not None and not self._open:
            # Some node was not there, and it is the one that may know us.
            self._refusals.clear()
        self._begin_round(one for one in self._urls if one not in self._open and one not in self._refusals)
        self._pause()
        return None

    def joined(self, url: str, now_s: float) -> None:
        """An attempt succeeded, and the other open ones are given up."""
        if self._at is not None and self._at != url:
            self._moved_at_s = now_s
        self._at = url
        self._asked_s = None
        self._refusals.clear()
        self._open.clear()
        self._joined_at_s = now_s

    def lost(self, now_s: float) -> None:
        """The session that was joined is gone."""
        self._open.clear()
        lost = self._urls.index(self._at) if self._at in self._urls else 0
        self._begin_round((*self._urls[:lost], *self._urls[lost + 1 :], self._urls[lost]))
        if now_s - self._joined_at_s >= HEALTHY_AFTER_S:
            self._failures = 0
            self._pause_s = _SPREAD_S * self._random()
        else:
            self._pause()

    def doubts_takeover(self, now_s: float) -> bool:
        """Whether a takeover may be about the session that we had on another node; once after each move."""
        moved_at_s, self._moved_at_s = self._moved_at_s, None
        return moved_at_s is not None and now_s - moved_at_s < _DOUBT_S

    def _begin_round(self, urls: Iterable[str]) -> None:
        self._left = list(urls)
        self._is_begun = False

    def _pause(self) -> None:
        if self._asked_s is not None:
            # It is there and will take us: no failure.
            self._pause_s = self._asked_s * (1.0 + _BUSY_SPREAD * self._random())
            self._asked_s = None
            return
        self._pause_s = self._backoff.pause_s(self._failures, self._random)
        self._failures += 1
