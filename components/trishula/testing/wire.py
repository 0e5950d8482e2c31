"""How a client joins a bus in memory: when and how often is the client's own rule (:mod:`trishula.session.joining`)."""

from __future__ import annotations

from trishula.contract import uris
from trishula.errors import BusUnreachable, TrishulaError, from_wire
from trishula.runtime.surroundings import Clock, Surroundings
from trishula.session.joining import Attempt, Joining, Owner
from trishula.session.transport import Connection
from trishula.settings import Settings
from trishula.testing.network import Router
from trishula.testing.session import URL, JoinedBy, Session
from trishula_router.agents.key_proofs import KeyProof

__all__ = ["Wire"]


class Wire(Joining):
    """A client's connection; plays :class:`trishula.session.transport.Connection`."""

    def __init__(self, router: Router, settings: Settings, around: Surroundings) -> None:
        super().__init__(settings.urls, around, failback_s=None)
        self._router = router
        self._settings = settings

    def attempt_at(self, url: str) -> Attempt:
        return _Attempt(self._router, self._settings, self._clock, self)

    def vanish(self) -> None:
        """The client's process was killed: its machine tells the node."""
        for session in list(self._router.sessions.values()):
            if session.attempt.owner is self:
                session.is_deaf = True
                session.lost("its process was killed")


class _Attempt:
    """One try to join."""

    url = URL

    def __init__(self, router: Router, settings: Settings, clock: Clock, owner: Owner) -> None:
        self.clock = clock
        self.owner = owner
        self._router = router
        self._settings = settings
        self._session: Session | None = None
        self._is_over = False

    def begin(self, *, watching: bool) -> None:
        self._router.hops.callLater(0, self._arrive)

    def join(self) -> None:
        """There is one node, and none to go back to."""

    def _arrive(self) -> None:
        router, node, agent = self._router, self._router.node, self._settings.agent
        if self._is_over:
            return
        if node is None or agent in router.cut_off:
            self.ended(BusUnreachable(f"there is no node at {self.url}: no answer"))
            return
        number = router.number()
        try:
            # As everything in memory it has no wire to listen on: what is proved is that it has the key.
            key, ticket = self._settings.key, self._settings.token
            shown = {"ticket": ticket} if key is None else {"proof": KeyProof(key.public, is_good=True)}
            who = node.door.authenticate(uris.REALM, agent, {**shown, "session": number})
        except TrishulaError as error:
            details = {} if error.retry_after_s is None else {"retry_after_s": error.retry_after_s}
            self.ended(from_wire(error.uri or "", error.sentence, details))
            return
        self._session = session = Session(router, self, who["authid"], who["role"], number)
        router.sessions[number] = session
        node.session_joined(session.agent, number, session.role)
        session.down(self.owner.attempt_joined, self, session)

    def leave(self) -> None:
        if self._session is not None:
            self._session.lost("we left")
        else:
            self._router.hops.callLater(0, self.ended, BusUnreachable("we left before we had joined"))

    def retire(self) -> None:
        self.leave()

    def ended(self, error: TrishulaError) -> None:
        """There is no session, or none any more."""
        if not self._is_over:
            self._is_over = True
            self.owner.attempt_ended(self, error)


def _plays_the_interfaces(wire: Wire, attempt: _Attempt) -> tuple[Connection, Attempt, JoinedBy]:
    # For mypy: they have exactly the methods that the real ones have.
    return wire, attempt, attempt
