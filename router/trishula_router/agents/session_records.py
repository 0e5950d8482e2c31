"""What the journal says of sessions: a record when one joins, and one when it is gone."""

from __future__ import annotations

from collections.abc import Callable

from trishula_router.agents.sessions import Session
from trishula_router.store.facts import Facts, JoinedFacts, LeftFacts
from trishula_router.store.journal import Kind

__all__ = ["SessionRecords"]


class SessionRecords:
    """Writes them.

    Args:
        note: writes a record that nobody waits for.
    """

    def __init__(self, note: Callable[[Kind, Facts], None]) -> None:
        self._note = note

    def joined(self, session: Session) -> None:
        """A session joined."""
        key = session.token_digest[:8] if session.by_key and session.token_digest else ""
        self._note(Kind.JOINED, JoinedFacts(session.agent, session.number, session.role, session.client_ip, key))

    def left(self, session: Session) -> None:
        """A session is gone."""
        self._note(Kind.LEFT, LeftFacts(session.agent, session.number))
