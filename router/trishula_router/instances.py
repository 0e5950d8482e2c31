"""Instances: the further sessions under an agent's identity, and how long their mailboxes last.

An instance (``agni/7f3a``) is there from its first ``attach`` or ``fetch`` on, and for a grace time after its session
is gone, so that a script that reconnects finds its answers. Then its address is unknown, and what is still open for it
expires. Policy only; instants are seconds of the clock that the caller reads.
"""

from __future__ import annotations

__all__ = ["Instances"]


class Instances:
    """Which instances are there.

    Args:
        grace_s: how long an instance's mailbox outlives its session.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._session_of: dict[str, int] = {}
        self._gone_since: dict[str, float] = {}

    def present(self, address: str, session: int) -> None:
        """A session speaks for the instance."""
        self._session_of[address] = session
        self._gone_since.pop(address, None)

    def remember(self, address: str, now_s: float) -> None:
        """An address with open messages from an earlier run of the node: its grace time begins now."""
        if "/" in address:
            self._gone_since[address] = now_s

    def left(self, session: int, now_s: float) -> None:
        """A session is gone, and with it its instances, after their grace time."""
        for address in [address for address, owner in self._session_of.items() if owner == session]:
            del self._session_of[address]
            self._gone_since[address] = now_s

    def knows(self, address: str) -> bool:
        """Whether messages to that instance are taken."""
        return address in self._session_of or address in self._gone_since

    def gone(self, now_s: float) -> list[str]:
        """The instances whose grace time is over; they are forgotten."""
        over = [address for address, since_s in self._gone_since.items() if since_s + self._grace_s <= now_s]
        for address in over:
            del self._gone_since[address]
        return over
