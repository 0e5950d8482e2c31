"""Admission: who may have a session (:mod:`.sessions`), and for how long.

A session stays as long as its agent is registered and the token it joined with is valid: removed from the agents file,
or expired, it ends the session within a tick of the node (:meth:`Admission.ended`). All sessions are gone through when
the agents file changed or a token expires, and else only those that joined since the last look: a tick must not cost
more where more are joined. One agent has at most ``limit`` sessions; those that were let in and have not joined yet
count as well, or a hundred at once would all pass. Those that the node ends count no more: their clients come anew.

An agent that becomes an observer loses the sessions that it has: they were an agent's when they asked for their mailbox
and for topics, and would be handed payloads for as long as they last. So does one that may no longer hear all topics
that it could hear: a subscription is looked at when it is made, and then lasts.

Policy only. Nothing of a token is kept but its hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from trishula.errors import ConnectionsExceeded
from trishula_router.agents.grants import covers_all
from trishula_router.agents.principals import Principals
from trishula_router.agents.sessions import Session, Sessions, Stage

__all__ = ["Admission"]

#: A client that was let in joins at once; one that has not after this went away before.
_JOIN_WITHIN_S = 10.0
#: Its own older session may be a broken connection that the pings are about to end: 1 s, and 2 s of patience.
_RETRY_S = 3.0


class Admission:
    """Who may join, and stay.

    Args:
        principals: who may be here.
        sessions: who is.
        limit: sessions of one agent.
    """

    def __init__(self, principals: Principals, sessions: Sessions, limit: int) -> None:
        self._principals = principals
        self._sessions = sessions
        self._limit = limit
        # Those that joined since the last look.
        self._fresh: list[Session] = []
        # What the last look over all of them was at: the state of the agents file, and when the first token expires.
        self._seen_version = principals.version
        self._first_expiry_s = float("inf")

    def admit(self, agent: str, number: int, digest: str | None, now_s: float, client_ip: str | None = None) -> Session:
        """A client proved that it is an agent.

        Args:
            agent: who it is.
            number: of the session that it gets.
            digest: of the token that it proved it with.
            now_s: the clock for spans.
            client_ip: where it comes from, if that is known.

        Raises:
            ConnectionsExceeded: the agent has as many as it may.
        """
        self._forget_absent(now_s)
        there = self._sessions.staying(agent)
        if there >= self._limit:
            raise ConnectionsExceeded(
                f"{agent} has {there} connections to this node and may have {self._limit} (limits.connections); close "
                "one, or try again later",
                retry_after_s=_RETRY_S,
            )
        session = self._sessions.authenticated(number, agent, now_s, token_digest=digest, client_ip=client_ip)
        self._note_rights(session)
        return session

    def _note_rights(self, session: Session) -> None:
        found = self._principals.get(session.agent)
        if found is not None:
            session.was_observer, session.hears = found.only_looks, found.subscribe

    def joined(self, session: Session) -> None:
        """A session is there."""
        if session.token_digest is None:
            self._note_rights(session)
        self._fresh.append(session)

    def ended(self, now_s: float) -> list[tuple[int, str]]:
        """The sessions that may not stay, each with a sentence for it; ``now_s`` is the wall clock.

        Each is told of once: whoever asks ends it.
        """
        looked_at: Iterable[Session]
        if self._principals.version != self._seen_version or now_s >= self._first_expiry_s:
            self._seen_version, self._first_expiry_s = self._principals.version, float("inf")
            looked_at = self._sessions.all()
        else:
            looked_at = self._fresh
        self._fresh = []
        over = []
        for session in looked_at:
            if not session.stays:
                continue
            why = self._reason_to_leave(session, now_s)
            if why is None:
                expires_s = self._principals.expiry_of(session.agent, session.token_digest)
                self._first_expiry_s = min(self._first_expiry_s, expires_s)
            else:
                session.advance(Stage.LEAVING)
                over.append((session.number, why))
        return over

    def _reason_to_leave(self, session: Session, now_s: float) -> str | None:
        why = self._principals.reason_to_leave(session.agent, session.token_digest, now_s)
        now = self._principals.get(session.agent)
        if why is not None or now is None:
            return why
        if now.only_looks and not session.was_observer:
            return (
                f"{session.agent} became an observer, which takes no mail, so the session that it had before was "
                "ended; whoever looks with its token joins anew"
            )
        if not covers_all(now.subscribe, session.hears):
            return (
                f"{session.agent} may hear fewer topics than before (its subscribe grants), so the session that could "
                "hear them was ended; it may join anew"
            )
        # It may subscribe to more from now on.
        session.hears = now.subscribe
        return None

    def _forget_absent(self, now_s: float) -> None:
        is_absent = lambda session: abs(now_s - session.authenticated_s) > _JOIN_WITHIN_S  # noqa: E731
        for session in list(takewhile(is_absent, self._sessions.awaited())):
            self._sessions.withdrawn(session)
