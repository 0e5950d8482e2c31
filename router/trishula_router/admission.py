"""Admission: which token let each session in, and how long it may stay.

A session stays as long as its agent is registered and the token it joined with is valid: removed from the agents file,
or expired, it ends the session within a tick of the node (:meth:`Admission.ended`). One agent has at most
``limit`` sessions; those that were let in and have not joined yet count as well, or a hundred at once would all pass.

Policy only; instants are seconds. Nothing of a token is kept but its hash.
"""

from __future__ import annotations

from dataclasses import dataclass

from trishula.errors import ConnectionsExceeded
from trishula_router.principals import Principals

__all__ = ["Admission"]

#: A client that was let in joins at once; one that has not after this went away before.
_JOIN_WITHIN_S = 10.0
#: Its own older session may be a broken connection that the pings are about to end: 1 s, and 2 s of patience.
_RETRY_S = 3.0


@dataclass(slots=True)
class _Session:
    agent: str
    digest: str | None
    since_s: float
    joined: bool = False


class Admission:
    """The sessions of a node.

    Args:
        principals: who may be here.
        limit: sessions of one agent.
    """

    def __init__(self, principals: Principals, limit: int) -> None:
        self._principals = principals
        self._limit = limit
        self._sessions: dict[int, _Session] = {}

    def admit(self, agent: str, session: int, digest: str | None, now_s: float) -> None:
        """A client proved that it is an agent.

        Args:
            agent: who it is.
            session: the session that it gets.
            digest: of the token that it proved it with.
            now_s: the wall clock.

        Raises:
            ConnectionsExceeded: the agent has as many as it may.
        """
        self._forget_absent(now_s)
        there = sum(one.agent == agent for one in self._sessions.values())
        if there >= self._limit:
            raise ConnectionsExceeded(
                f"{agent} has {there} connections to this node and may have {self._limit} (limits.connections); close "
                "one, or try again later",
                retry_after_s=_RETRY_S,
            )
        self._sessions[session] = _Session(agent, digest, now_s)

    def joined(self, agent: str, session: int, now_s: float) -> None:
        """Its session is there."""
        self._sessions.setdefault(session, _Session(agent, None, now_s)).joined = True

    def left(self, session: int) -> None:
        """Its session is gone."""
        self._sessions.pop(session, None)

    def ended(self, now_s: float) -> list[tuple[int, str]]:
        """The sessions that may not stay, each with a sentence for it. They are told of once."""
        over = []
        for session, one in list(self._sessions.items()):
            why = self._principals.reason_to_leave(one.agent, one.digest, now_s) if one.joined else None
            if why is not None:
                over.append((session, why))
                del self._sessions[session]
        return over

    def _forget_absent(self, now_s: float) -> None:
        for session, one in list(self._sessions.items()):
            # Also after a clock was set back.
            if not one.joined and abs(now_s - one.since_s) > _JOIN_WITHIN_S:
                del self._sessions[session]
