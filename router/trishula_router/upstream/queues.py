"""What waits for the connections of clients, of each agent and in all: who is to be ended if it is too much.

A bound for one connection is not enough where an agent may have a hundred: a hundred deaf subscribers with 16 MiB each
are more than a node has. So what waits for all connections of an agent is added up, and what waits for everybody. When
it is too much for an agent, the connection of it with the most goes; when it is for all, the agent with the most loses
that one.

Policy, no I/O; each verb costs the same however many there are, unless somebody is to go.
"""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["FREE_BYTES", "Queues"]

#: So much of a connection is not counted: it is on its way through the kernel with everybody, all the time.
FREE_BYTES = 64 * 1024


class Queues:
    """See the module's docstring.

    Args:
        agent_bytes: for all connections of one agent.
        all_bytes: for all of them.
    """

    def __init__(self, agent_bytes: int, all_bytes: int) -> None:
        self._agent_bytes = agent_bytes
        self._all_bytes = all_bytes
        self._of: dict[str, dict[Hashable, int]] = {}
        self._sums: dict[str, int] = {}
        self.total_bytes = 0

    def hold(self, agent: str, connection: Hashable, size_bytes: int) -> None:
        """So much waits for a connection of an agent now."""
        mine = self._of.get(agent)
        before = 0 if mine is None else mine.get(connection, 0)
        counted = size_bytes if size_bytes > FREE_BYTES else 0
        if counted == before:
            return
        if mine is None:
            mine = self._of[agent] = {}
        if counted:
            mine[connection] = counted
        else:
            mine.pop(connection, None)
        self.total_bytes += counted - before
        self._sums[agent] = self._sums.get(agent, 0) + counted - before
        if not mine:
            del self._of[agent], self._sums[agent]

    def of_agent(self, agent: str) -> int:
        """How much waits for all connections of an agent."""
        return self._sums.get(agent, 0)

    def excess(self, agent: str) -> tuple[Hashable, str] | None:
        """Who is to be ended, after something more came for an agent, and a sentence about why; ``None``: nobody."""
        if self._sums.get(agent, 0) > self._agent_bytes:
            why = f"more than {self._agent_bytes} bytes wait for all its agent's connections together"
            return self._largest(agent), f"{why} (limits.agent_queue)"
        if self.total_bytes > self._all_bytes:
            heaviest = max(self._sums, key=self._sums.__getitem__)
            why = f"more than {self._all_bytes} bytes wait for all connections, most of them for its agent"
            return self._largest(heaviest), f"{why} (limits.queues)"
        return None

    def _largest(self, agent: str) -> Hashable:
        mine = self._of[agent]
        return max(mine, key=mine.__getitem__)
