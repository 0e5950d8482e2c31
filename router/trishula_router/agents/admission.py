"""Admission: which token let each session in, and how long it may stay.

A session stays as long as its agent is registered and the token it joined with is valid: removed from the agents file,
or expired, it ends the session within a tick of the node (:meth:`Admission.ended`). All sessions are gone through when
the agents file changed or a token expires, and else only those that joined since the last look: a tick must not cost
more where more are joined. One agent has at most ``limit`` sessions; those that were let in and have not joined yet
count as well, or a hundred at once would all pass.

An agent that becomes an observer loses the sessions that it has: they were an agent's when they asked for their mailbox
and for topics, and would be handed payloads for as long as they last.

Policy only; instants are seconds. Nothing of a token is kept but its hash.
"""

from __future__ import annotations

from dataclasses import dataclass

from trishula.errors import ConnectionsExceeded
from trishula_router.agents.principals import Principals

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
    only_looks: bool = False
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
        self._sessions_of: dict[str, set[int]] = {}
        # Those that were let in and have not joined, in that order; those that joined since the last look.
        self._absent: dict[int, _Session] = {}
        self._fresh: dict[int, _Session] = {}
        # What the last look over all of them was at: the state of the agents file, and when the first token expires.
        self._seen_version = principals.version
        self._first_expiry_s = float("inf")

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
        there = len(self._sessions_of.get(agent, ()))
        if there >= self._limit:
            raise ConnectionsExceeded(
                f"{agent} has {there} connections to this node and may have {self._limit} (limits.connections); close "
                "one, or try again later",
                retry_after_s=_RETRY_S,
            )
        self._absent[session] = self._add(session, _Session(agent, digest, now_s, self._only_looks(agent)))

    def _only_looks(self, agent: str) -> bool:
        found = self._principals.get(agent)
        return found is not None and found.only_looks

    def _add(self, session: int, one: _Session) -> _Session:
        self._sessions[session] = one
        self._sessions_of.setdefault(one.agent, set()).add(session)
        return one

    def joined(self, agent: str, session: int, now_s: float) -> None:
        """Its session is there."""
        one = self._sessions.get(session) or self._add(session, _Session(agent, None, now_s, self._only_looks(agent)))
        one.joined = True
        self._absent.pop(session, None)
        self._fresh[session] = one

    def left(self, session: int) -> None:
        """Its session is gone."""
        one = self._sessions.pop(session, None)
        self._absent.pop(session, None)
        self._fresh.pop(session, None)
        if one is not None:
            others = self._sessions_of[one.agent]
            others.discard(session)
            if not others:
                del self._sessions_of[one.agent]

    def ended(self, now_s: float) -> list[tuple[int, str]]:
        """The sessions that may not stay, each with a sentence for it. They are told of once."""
        if self._principals.version != self._seen_version or now_s >= self._first_expiry_s:
            self._seen_version, self._first_expiry_s = self._principals.version, float("inf")
            looked_at = self._sessions
        else:
            looked_at = self._fresh
        self._fresh = {}
        over = []
        for session, one in looked_at.items():
            why = self._reason_to_leave(one, now_s) if one.joined else None
            if why is not None:
                over.append((session, why))
            elif one.joined:
                expires_s = self._principals.expiry_of(one.agent, one.digest)
                self._first_expiry_s = min(self._first_expiry_s, expires_s)
        for session, _ in over:
            self.left(session)
        return over

    def _reason_to_leave(self, one: _Session, now_s: float) -> str | None:
        why = self._principals.reason_to_leave(one.agent, one.digest, now_s)
        if why is None and self._only_looks(one.agent) and not one.only_looks:
            return (
                f"{one.agent} became an observer, which takes no mail, so the session that it had before was ended; "
                "whoever looks with its token joins anew"
            )
        return why

    def _forget_absent(self, now_s: float) -> None:
        # Also after a clock was set back.
        while self._absent and abs(now_s - next(iter(self._absent.values())).since_s) > _JOIN_WITHIN_S:
            self.left(next(iter(self._absent)))
