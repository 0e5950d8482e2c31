"""The rounds of canaries: sends what :mod:`trishula_router.objectives.canaries` has due, and hears the answers.

A client is asked on the inbox topic of its agent, by an event without deliveries, and answers by a call; for one by
files, when it has written the file. Linked nodes hand canaries to each other, and bring back the answers, on the peers'
topic ``canary``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from trishula.contract.addresses import Address
from trishula.contract.texts import is_line
from trishula_router.objectives.canaries import FILES, LIVE, PATIENCE_S, Flight
from trishula_router.objectives.visiting import Visits
from trishula_router.peers.belief import Unbelievable
from trishula_router.peers.journal_exchange import CANARY
from trishula_router.services import Services

__all__ = ["LOOK_S", "CanaryRounds", "CanaryWord"]

#: So often a canary may be due.
LOOK_S = 1.0
#: What is written over for each canary: so long as a message's acceptance, its way takes a commit.
_NOTE = "canary:last"
_ID_LETTERS = 128
_MOST = 2**53


class CanaryWord(msgspec.Struct):
    """What nodes say to each other of a canary: here it is, or, with ``arrived_at``, that it has come.

    Attributes:
        node: who speaks.
        id: the canary's at the node that sends it.
        sender, recipient: between which agents.
        arrived_at: when it arrived, by the clock of the node that answers, ms.
        kept_s: for how long that node had it.
        took_s: how much of that it was on its way to the client.
    """

    node: str
    id: str
    sender: str = ""
    recipient: str = ""
    arrived_at: int = 0
    kept_s: float = 0.0
    took_s: float = 0.0


class CanaryRounds:
    """See the module's docstring.

    Args:
        services: of the node.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._policy, self._files = services.canaries, services.file_canaries
        self._visits = Visits(f"{services.started_at:x}")

    async def look(self) -> None:
        """Send those that are due, one by each kind of road, and give up those that nobody answered."""
        services, now_s = self._services, self._services.clock.seconds()
        consumers, elsewhere = self._consumers(), services.neighbourhood.canary_places()
        self._policy.look(consumers, elsewhere, now_s)
        self._files.look(consumers, {}, now_s)
        if services.is_stopping or services.fallback.mode.refuses:
            return
        flight = self._policy.next(consumers, elsewhere, self._may_send, now_s)
        if flight is not None:
            self._push(flight.sender, flight.sessions[0], {"id": flight.id, "to": flight.recipient})
        flight = self._files.next(consumers, {}, self._may_send, now_s)
        if flight is not None:
            file = {"id": flight.id, "to": flight.recipient, "road": FILES}
            self._push(flight.sender, flight.sessions[0], file)

    def announced(self, agent: str, session: int, roads: bool | Collection[str]) -> None:
        """A session attached to an agent's mailbox, and says by which roads it answers canaries; ``True``: live."""
        known = {LIVE} if roads is True else set(roads or ())
        self._policy.announced(agent, session, knows=LIVE in known)
        self._files.announced(agent, session, knows=FILES in known)

    def knowing(self) -> list[str]:
        """The agents here whose clients answer canaries."""
        return self._policy.knowing(self._consumers())

    def told(self) -> dict[str, Any]:
        """For ``node.objectives``: the canaries of each pair, and the peers to which none are sent."""
        told = [*self._policy.told(), *self._files.told()]
        return {"canaries": told, "canaries_unmeasured": self._services.neighbourhood.without_canaries()}

    def _consumers(self) -> dict[str, int]:
        return {one.address: one.session for one in self._services.consumers.all() if "/" not in one.address}

    def _may_send(self, sender: str, recipient: str) -> bool:
        principals = self._services.principals
        found = principals.get(sender)
        return found is not None and found.may_send(recipient) and not principals.is_visitor(recipient)

    async def heard(self, session: int, canary: str) -> bool:
        """A client sends a canary, or has got it; whether the node asked it to."""
        services = self._services
        visit = self._visits.heard(canary, session)
        if visit is not None:
            kept_s = services.clock.seconds() - visit.came_s
            word = CanaryWord(
                services.config.node, visit.canary, arrived_at=visit.arrived_at, kept_s=kept_s, took_s=kept_s / 2
            )
            self._post(visit.peer, word)
            return True
        file = self._files.heard(canary, session, services.clock.seconds())
        if file is not None:
            if file.leg == "held":
                # It is in the outbox; nobody but who carries files has to do with it now.
                self._files.handed(file, services.clock.seconds())
            return True
        flight = self._policy.heard(canary, session, services.clock.seconds())
        if flight is not None and flight.leg == "held":
            # What can't be written down is not handed on, and lost; a message would be refused.
            await services.store.remember({_NOTE: canary})
            self._hand(flight)
        return flight is not None

    def _hand(self, flight: Flight) -> None:
        services = self._services
        self._policy.handed(flight, services.clock.seconds(), services.now())
        if flight.peer is None:
            self._push(flight.recipient, flight.sessions[1], {"id": flight.id, "from": flight.sender})
        else:
            self._post(flight.peer, CanaryWord(services.config.node, flight.id, flight.sender, flight.recipient))

    def receive(self, peer: str, text: bytes) -> None:
        """A peer hands over a canary, or brings one back.

        Raises:
            Unbelievable, msgspec.MsgspecError: if it can't be used.
        """
        services, word = self._services, msgspec.msgpack.decode(text, type=CanaryWord)
        if word.node != peer:
            raise Unbelievable("it speaks as another node")
        if not 0 < len(word.id) <= _ID_LETTERS or not is_line(word.id):
            raise Unbelievable("it is about a canary without an id")
        if services.is_stopping:
            return
        if not word.arrived_at:
            self._visited(peer, word)
            return
        if not (0 < word.arrived_at < _MOST and 0 <= word.took_s <= word.kept_s <= PATIENCE_S):
            raise Unbelievable("it has numbers that count nothing")
        ahead_ms = services.peering.clocks.ahead_ms(peer)
        way_ms = None if ahead_ms is None else word.arrived_at - ahead_ms - self._policy.sent_at(word.id)
        self._policy.answered(
            peer, word.id, way_ms=way_ms, kept_s=word.kept_s, took_s=word.took_s, now_s=services.clock.seconds()
        )

    def _visited(self, peer: str, word: CanaryWord) -> None:
        services = self._services
        why = services.neighbourhood.against(peer, word.sender)
        if services.principals.get(word.sender) is None or why is not None:
            raise Unbelievable(why or "nobody here knows its sender")
        session = self._consumers().get(word.recipient)
        # Who has left, or may not be written to by now, doesn't answer; the peer finds out.
        if session is None or word.recipient not in self.knowing() or not self._may_send(word.sender, word.recipient):
            return
        if services.fallback.mode.refuses:
            return
        visit = self._visits.came(peer, word.id, session, services.clock.seconds(), services.now())
        if visit is not None:
            self._push(word.recipient, session, {"id": visit.id, "from": word.sender})

    def _post(self, peer: str, word: CanaryWord) -> None:
        self._services.router.post(peer, CANARY, msgspec.msgpack.encode(word))

    def _push(self, agent: str, session: int, canary: dict[str, str]) -> None:
        self._services.router.inform(Address(agent), session, {"canary": canary})
