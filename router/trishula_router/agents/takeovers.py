"""Takeovers: two processes that run as one agent must not push each other out for ever.

A newer session takes the mailbox over from an older one, which is closed. That is right when an agent moves. But two
copies that are each started anew whenever they end (``Restart=always``) would go on like that without end. So the
takeovers of a mailbox between *different* processes (by the name of the run that each tells as it attaches) are
counted: after :data:`FREE` of them within :data:`QUIET_S` whoever has the mailbox then keeps it, and the others are
refused, until nobody has tried for a while. Each refused try lengthens that while, up to :data:`LONGEST_S`, so that a
copy that tries for ever never gets in. When the winner leaves, nothing is contested any more, and the next one gets in
at once.

A process that joins anew takes over from itself, and is not counted; nor is a client that tells no run.

Policy only: every verb takes ``now_s``, of any clock that doesn't step.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FREE", "LONGEST_S", "QUIET_S", "Takeovers"]

#: So many takeovers are somebody's will: an agent is moved, and moved back.
FREE = 2
QUIET_S = 60.0
LONGEST_S = 3600.0
#: Mailboxes remembered, before those whose time is over are dropped.
_REMEMBERED = 1000


@dataclass(slots=True)
class _Contest:
    """Who tries to have one mailbox: takeovers so far, when it was tried last, how long it must be quiet to be over."""

    last_s: float
    count: int = 0
    quiet_s: float = QUIET_S

    def is_over(self, now_s: float) -> bool:
        return now_s - self.last_s >= self.quiet_s


class Takeovers:
    """The contested mailboxes of a node."""

    def __init__(self) -> None:
        self._contests: dict[str, _Contest] = {}

    def allow(self, address: str, now_s: float) -> float | None:
        """Another process wants a mailbox that one has: ``None`` if it may, else for how long nobody may try."""
        contest = self._of(address, now_s)
        if contest.count < FREE:
            contest.count += 1
            return None
        contest.quiet_s = min(2 * contest.quiet_s, LONGEST_S)
        return contest.quiet_s

    def note(self, address: str, now_s: float) -> None:
        """A mailbox was taken over by a process at another node, which nobody here was asked."""
        self._of(address, now_s).count += 1

    def _of(self, address: str, now_s: float) -> _Contest:
        contest = self._contests.get(address)
        if contest is None or contest.is_over(now_s):
            if len(self._contests) >= _REMEMBERED:
                self._contests = {name: one for name, one in self._contests.items() if not one.is_over(now_s)}
            contest = self._contests[address] = _Contest(now_s)
        contest.last_s = now_s
        return contest
