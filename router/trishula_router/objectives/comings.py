"""Comings: which of the sessions that attach to an agent's mailbox are reconnects, and which a failover.

An agent that attaches again was cut off, restarted, or moves. It counts as a *reconnect* if it was attached within the
last day, here or at a node that told so. If the node that it was attached to can't be reached any more it is a
*failover*, and took from when this node noticed that until the agent attached here. An agent that was away for longer
than :data:`FAILOVER_MS` was not on its way. Instants are ms. Policy only.
"""

from __future__ import annotations

from trishula_router.spans import Spans

__all__ = ["DAY_MS", "FAILOVER_MS", "Comings"]

DAY_MS = 86_400_000
#: Who comes later was switched off, or had no other node.
FAILOVER_MS = 600_000


class Comings:
    """See the module's docstring.

    Attributes:
        reconnects: how many there were.
        failovers: how many ms each failover took, to be taken.
    """

    def __init__(self) -> None:
        self.reconnects = 0
        self.failovers = Spans()
        #: Agent → when it attached here last.
        self._attached: dict[str, int] = {}

    def attached(self, agent: str, now: int, *, elsewhere: bool, node_lost_at: int | None) -> None:
        """An agent attached to its mailbox at this node.

        Args:
            agent: which.
            now: when.
            elsewhere: another node told that the agent is attached there.
            node_lost_at: since when that node can't be reached; ``None`` if it can.
        """
        before = self._attached.get(agent)
        self._attached[agent] = now
        if elsewhere or (before is not None and now - before < DAY_MS):
            self.reconnects += 1
        came_before = before is not None and node_lost_at is not None and before >= node_lost_at
        if elsewhere and node_lost_at is not None and not came_before and 0 <= now - node_lost_at <= FAILOVER_MS:
            self.failovers.observe(now - node_lost_at)
