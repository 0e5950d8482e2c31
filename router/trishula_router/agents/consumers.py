"""Consumers: which session the messages of an address are pushed to.

An address of an agent or of an instance has one consumer at most. A session may consume several addresses: its agent's,
and those of instances that it speaks for. :class:`Consumers` knows the consumer of an address; which addresses a
session consumes, the session's own entry tells (:mod:`.sessions`).
"""

from __future__ import annotations

from dataclasses import dataclass

from trishula.contract.addresses import Address
from trishula_router.agents.lives import Life
from trishula_router.agents.sessions import Session, Sessions, Stage

__all__ = ["URGENT_SHARE", "Consumer", "Consumers"]

#: One place of so many in a window is left to urgent messages. Beside a backlog a window is always full: what is urgent
#: would wait until its agent has worked off a part of what it has.
URGENT_SHARE = 16


@dataclass(slots=True, eq=False)
class Consumer:
    """The session that an address's messages are pushed to.

    Attributes:
        address: whose mailbox it consumes.
        session: its WAMP session id.
        window: how many messages it may have unacknowledged.
        window_bytes: how large they may be together; the last one of them may go beyond it.
        in_flight: how many it has.
        in_flight_bytes: how large they are together.
        coming: how many more were taken for it, and wait for their bodies.
        capabilities: what it announced; none if it is an instance.
        life: what it told of its process; ``None`` if nothing.
        since_s: since when it consumes the mailbox, by the clock for spans.
    """

    address: str
    session: int
    window: int
    window_bytes: int
    in_flight: int = 0
    in_flight_bytes: int = 0
    coming: int = 0
    capabilities: tuple[str, ...] = ()
    life: Life | None = None
    since_s: float = 0.0

    @property
    def room(self) -> int:
        """How many more it may get."""
        return self.window - self.in_flight - self.coming if self.in_flight_bytes < self.window_bytes else 0

    @property
    def urgent_room(self) -> int:
        """How many of :attr:`room` are left to urgent messages."""
        return self.window // URGENT_SHARE


class Consumers:
    """The consumers of a node.

    Args:
        sessions: who is joined.
        window_bytes: how large the messages may be together that a consumer has unacknowledged.
    """

    def __init__(self, sessions: Sessions, window_bytes: int) -> None:
        self._sessions = sessions
        self._window_bytes = window_bytes
        self._consumers: dict[str, Consumer] = {}
        #: Another one whenever somebody came or went.
        self.version = 0

    def addresses(self) -> list[str]:
        """The addresses whose messages are pushed to some session."""
        return list(self._consumers)

    def all(self) -> list[Consumer]:
        """All of them."""
        return list(self._consumers.values())

    def get(self, address: str) -> Consumer | None:
        """The consumer of an address."""
        return self._consumers.get(address)

    def is_consumed(self, address: str) -> bool:
        """Whether an address's messages are pushed to some session."""
        return address in self._consumers

    def session_of(self, address: Address) -> int | None:
        """The session that an address's messages are pushed to."""
        consumer = self._consumers.get(str(address))
        return None if consumer is None else consumer.session

    def life_of(self, address: Address) -> Life | None:
        """What the client told of its process that an address's messages are pushed to."""
        consumer = self._consumers.get(str(address))
        return None if consumer is None else consumer.life

    def attach(
        self,
        address: str,
        session: int,
        window: int,
        capabilities: tuple[str, ...],
        life: Life | None,
        now_s: float,
    ) -> tuple[Consumer, Consumer | None]:
        """Make a session the consumer of an address; ``now_s`` is the clock for spans.

        Returns:
            the consumer, and the one of another session that it takes the place of.
        """
        before = self._consumers.get(address)
        if before is not None and before.session == session:
            before.window, before.capabilities, before.life = window, capabilities, life
            return before, None
        consumer = Consumer(
            address, session, window, self._window_bytes, capabilities=capabilities, life=life, since_s=now_s
        )
        self._consumers[address] = consumer
        self.version += 1
        newer = self._sessions[session]
        newer.advance(Stage.ATTACHED)
        newer.consumes.add(address)
        if before is not None:
            self._sessions[before.session].consumes.discard(address)
        return consumer, before

    def takes_binary(self, session: int) -> bool:
        """Whether a session gets bytes in payloads as they are."""
        known = self._sessions.get(session)
        return known is not None and known.binary

    def left(self, session: Session) -> None:
        """A session is gone, and consumes nothing any more."""
        self.version += bool(session.consumes)
        for address in session.consumes:
            del self._consumers[address]
