"""The part of the router and of the network in a bus in memory: who is joined, topics, registrations, and hops.

The rules are the node's own (:class:`trishula_router.node.Node`): whom it lets in, who may do what, what it answers.
This module plays what is around them, as Crossbar does: :class:`Router` for the node
(:class:`trishula_router.services.Router`), and for a client, each time that it joins, a session (:mod:`.session`). How
a client joins is in :mod:`.wire`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.errors import NodeFailed
from trishula.session.transport import Endpoint
from trishula.testing.handovers import Handovers
from trishula.testing.session import Session, copied
from trishula.testing.turned_clock import LifeClock, TurnedClock
from trishula_router.agents.callers import Verb
from trishula_router.mail.outlet import News
from trishula_router.node import Node

if TYPE_CHECKING:
    from trishula_router.router import Router as NodesRouter

__all__ = ["Router"]

#: What the shipped configuration takes of a client; clients cut their batches by it.
_FRAME_BYTES = 16 * 1024 * 1024


class Router:
    """What is around the node; see the module's docstring.

    Args:
        clock: on which everything hops.
        handovers: is told what is handed over, and what comes back.
    """

    def __init__(self, clock: TurnedClock, handovers: Handovers) -> None:
        self.clock = clock
        #: Of the network: what is under way arrives, whoever has died.
        self.hops = LifeClock(clock)
        self.handovers = handovers
        self.node: Node | None = None
        self.verbs: Mapping[str, Verb] = {}
        self.sessions: dict[int, Session] = {}
        self.procedures: dict[str, tuple[Session, Endpoint]] = {}
        #: The agents that no network leads from.
        self.cut_off: set[str] = set()
        self._numbers = 0

    def number(self) -> int:
        """A session's."""
        self._numbers += 1
        return self._numbers

    def run(self, node: Node, verbs: Mapping[str, Verb]) -> None:
        """A node begins to serve."""
        self.node, self.verbs = node, verbs

    def gone(self) -> None:
        """The node's process has ended; its machine tells everybody."""
        self.node, self.verbs = None, {}
        for session in list(self.sessions.values()):
            session.lost("the node is gone")

    def break_off(self, agent: str) -> bool:
        """Break the network below the sessions of an agent; whether it had any."""
        its = [session for session in self.sessions.values() if session.agent == agent]
        for session in its:
            session.lost("the network below it broke")
        return bool(its)

    def left(self, session: Session) -> None:
        """A session is gone."""
        if self.sessions.pop(session.number, None) is None:
            return
        self.procedures = {uri: one for uri, one in self.procedures.items() if one[0] is not session}
        self.handovers.session_left(session.number)
        if self.node is not None:
            self.node.session_left(session.number)

    def events(self, topic: str, args: Sequence[Any], *, but: Session | None = None, only: int | None = None) -> None:
        """Hand an event to those who listen."""
        for session in list(self.sessions.values()):
            if topic in session.topics and session is not but and only in (None, session.number):
                session.event(topic, copied(list(args)))

    # -- what the node wants (trishula_router.services.Router) --------------------------------------------------------

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        self.handovers.handed(str(address), session, deliveries)
        self.events(uris.inbox_of(address), [deliveries], only=session)

    def inform(self, address: Address, session: int, told: Mapping[str, Any]) -> None:
        self.events(uris.inbox_of(address), [[], dict(told)], only=session)

    def tell(self, news: Iterable[News]) -> None:
        for one in news:
            told = {"id": one.id, "to": one.recipient, "state": one.state, "at": one.at}
            more = {"copies": one.copies, "reason": one.reason}
            told.update({key: value for key, value in more.items() if value is not None})
            self.events(uris.receipts_of(Address.parse(one.sender).agent), [[told]])

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        self.events(topic, [dict(event)])

    def frame_limit_bytes(self, session: int) -> int | None:
        return _FRAME_BYTES

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        there = self.sessions.get(session)
        if there is not None:
            there.close(uri, sentence)

    def post(self, peer: str, kind: str, text: bytes) -> None:
        raise NodeFailed("a bus in memory has one node")


def _plays_the_interface(router: Router) -> NodesRouter:
    # For mypy: it has exactly the methods that the real one has.
    return router
