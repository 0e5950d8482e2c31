"""Instances: the further sessions under an agent's identity, and how long their mailboxes last.

An instance (``agni/7f3a``) is there from its first ``attach`` or ``fetch`` on, and for a grace time after the last of
its sessions is gone, so that a script that reconnects finds its answers. Then its address is unknown, and what is still
open for it expires. For the same time after the node's start again any instance may be on its way back: nobody knows
then which ones there were, and an answer that is refused as undeliverable would be lost.

Policy only; instants are seconds of the clock that the caller reads.
"""

from __future__ import annotations

from trishula_router.agents.sessions import Session

__all__ = ["Instances"]


class Instances:
    """Which instances are there.

    Args:
        grace_s: how long an instance's mailbox outlives its session.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._sessions_of: dict[str, set[Session]] = {}
        self._gone_since: dict[str, float] = {}
        # How many of each agent are known.
        self._counts: dict[str, int] = {}
        self._began_s = float("-inf")

    def begin(self, now_s: float) -> None:
        """The node starts again, after a run of which nothing but the store is left."""
        self._began_s = now_s

    def of_agent(self, agent: str) -> int:
        """How many of an agent are known for certain."""
        return self._counts.get(agent, 0)

    def _count(self, address: str, by: int) -> None:
        agent = address.partition("/")[0]
        count = self._counts.get(agent, 0) + by
        if count:
            self._counts[agent] = count
        else:
            del self._counts[agent]

    def present(self, address: str, session: Session) -> None:
        """A session speaks for the instance."""
        if not self.is_there(address):
            self._count(address, 1)
        self._sessions_of.setdefault(address, set()).add(session)
        session.speaks_for.add(address)
        self._gone_since.pop(address, None)

    def remember(self, address: str, now_s: float) -> None:
        """An address with open messages from an earlier run of the node: its grace time begins now."""
        if "/" in address:
            if not self.is_there(address):
                self._count(address, 1)
            self._gone_since[address] = now_s

    def left(self, session: Session, now_s: float) -> None:
        """A session is gone, and with it its instances, after their grace time."""
        for address in session.speaks_for:
            self._sessions_of[address].discard(session)
            if not self._sessions_of[address]:
                del self._sessions_of[address]
                self._gone_since[address] = now_s

    def is_there(self, address: str) -> bool:
        """Whether that instance is known for certain."""
        return address in self._sessions_of or address in self._gone_since

    def addresses(self) -> list[str]:
        """Those that are known for certain."""
        return [*self._sessions_of, *self._gone_since]

    def knows(self, address: str, now_s: float) -> bool:
        """Whether messages to that instance are taken; one that is taken on trust has its grace time from then on."""
        if self.is_there(address):
            return True
        if now_s - self._began_s >= self._grace_s:
            return False
        self.remember(address, now_s)
        return True

    def gone(self, now_s: float) -> list[str]:
        """The instances whose grace time is over; they are forgotten."""
        over = [address for address, since_s in self._gone_since.items() if since_s + self._grace_s <= now_s]
        for address in over:
            del self._gone_since[address]
            if address not in self._sessions_of:
                self._count(address, -1)
        return over
