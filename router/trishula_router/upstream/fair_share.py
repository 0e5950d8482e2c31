"""The part of a connection that takes no more than its share: of the node's time, and of its memory.

Its frames are handled when :mod:`.turns` says so (:class:`TurnTaking`), and what waits for it is told to
:mod:`.queues` (:class:`Weighed`). Both are mixed into Autobahn's protocol class, before it; they reach into names of
Autobahn (26.10.2: ``consumeData``, ``processData``, ``state``) and import nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trishula_router.realm import LINK_ROLE
from trishula_router.upstream.queues import FREE_BYTES, Queues
from trishula_router.upstream.turns import Turns

__all__ = ["TurnTaking", "Weighed"]

#: A frame of a megabyte that holds text is read in 5 ms, and one with as many keys as it may in 35. What takes longer
#: than this is paid for by so many times the excess: fewer than one of a hundred messages of others wait for 50 ms.
_LONG_S = 0.025
_RESTS = 100.0
#: Whoever sends a large frame that is refused has sent a megabyte for nothing, and will again: its session ends, and
#: the next one of its agent is read after so long.
_REFUSED_RESTS_S = 1.0
#: All agents of a peer share its link, and others wait for its hellos and journals: after a second of silence senders
#: are told that there is no copy.
_LINK_RESTS_S = 0.5
#: While we don't read a client, its pings get no answers, so it hears from us by itself, so often.
_SPEAK_EACH_S = 0.5


class TurnTaking:
    """Mixed into a WebSocket protocol of Autobahn's.

    Attributes:
        turns: who is served when.
        is_parked: whether it waits for its turn, and isn't read.
        message_bytes: the size of the WebSocket message that is being handled.
    """

    turns: Turns
    is_parked = False
    message_bytes = 0
    # Of Autobahn, and of those that it is mixed with.
    transport: Any
    state: int
    pulse: Any
    _session: Any

    def consumeData(self) -> None:
        """Bytes came."""
        ours: Any = self
        if self.state in (ours.STATE_OPEN, ours.STATE_CLOSING):
            self.turns.take(self._owner(), self)
        else:
            super().consumeData()  # type: ignore[misc]

    def onMessage(self, payload: bytes, is_binary: bool) -> None:
        """A WebSocket message is whole."""
        self.message_bytes = len(payload)
        super().onMessage(payload, is_binary)  # type: ignore[misc]

    def frame_took(self, took_s: float, *, is_refused: bool = False) -> None:
        """A large frame was read, in one go: so much time of the processor; whoever's frames take long is read seldom.

        Args:
            took_s: how long that took.
            is_refused: whether it was refused as it was read, so that its session ends.
        """
        session = self._session
        if (took_s <= _LONG_S and not is_refused) or session is None or session._session_id is None:
            # Strangers' frames are small. A peer's journal, for which others wait, is bytes in one piece.
            return
        rests_s = max((took_s - _LONG_S) * _RESTS, _REFUSED_RESTS_S if is_refused else 0.0)
        self.turns.rest(self._owner(), min(rests_s, _LINK_RESTS_S) if session._authrole == LINK_ROLE else rests_s)

    def connectionLost(self, *args: Any) -> None:
        """What Crossbar makes of its end is part of what its agent waits for."""
        with self.turns.on_behalf_of(self._owner()):
            super().connectionLost(*args)  # type: ignore[misc]

    def _owner(self) -> str:
        """Whose turn it takes: its agent's, or its link's, which may have the name of an agent."""
        session = self._session
        if session is None or session._session_id is None:
            # All that have not joined have one part between them.
            return ""
        return f"link {session._authid}" if session._authrole == LINK_ROLE else str(session._authid)

    def advance(self) -> bool:
        """Handle what begins or ends a frame; whether there is more."""
        ours: Any = self
        return self.state != ours.STATE_CLOSED and bool(ours.processData()) and self.state != ours.STATE_CLOSED

    def pause(self) -> None:
        """Read nothing more."""
        self.is_parked = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        ours: Any = self
        self.is_parked = False
        if self.state != ours.STATE_CLOSED:
            self.transport.resumeProducing()

    def take_pulse(self) -> float:
        """See whether the peer lives: of one that we don't read we don't know."""
        if self.is_parked and self.pulse is not None:
            ours: Any = self
            self.pulse.heard_s = ours._seconds()
            ours.sendPing(b"")
            return _SPEAK_EACH_S
        return float(super().take_pulse())  # type: ignore[misc]


class Weighed:
    """Mixed into a WebSocket protocol of Autobahn's, before :class:`~trishula.session.carrying.Carrying`.

    Attributes:
        queues: what waits for all connections.
        end_heavy: ends a connection for which too much does: the connection, and why.
    """

    queues: Queues
    end_heavy: Callable[[Any, str], None]
    _weighed_as: str | None = None
    _is_over = False
    # Of Autobahn, and of those that it is mixed with.
    outflow: Any
    _session: Any

    def sendData(self, data: bytes, *args: Any, **options: Any) -> None:
        """A frame goes out, or waits."""
        super().sendData(data, *args, **options)  # type: ignore[misc]
        if self.outflow is not None and (self._weighed_as is not None or self.outflow.unsent_bytes > FREE_BYTES):
            self._weigh()

    def onPong(self, payload: bytes) -> None:
        """Some of what went out has arrived, perhaps."""
        super().onPong(payload)  # type: ignore[misc]
        if self._weighed_as is not None:
            self._weigh()

    def connectionLost(self, *args: Any) -> None:
        """Nothing waits for it any more."""
        self.weigh_nothing()
        super().connectionLost(*args)  # type: ignore[misc]

    def weigh_nothing(self) -> None:
        """It is over; what it still has counts no more."""
        self._is_over = True
        if self._weighed_as is not None:
            self.queues.hold(self._weighed_as, self, 0)
            self._weighed_as = None

    def _weigh(self) -> None:
        session = self._session
        if self._is_over or session is None or session._session_id is None or session._authrole == LINK_ROLE:
            # Strangers have little, by other rules; and what waits for a peer is bounded by what it acknowledges.
            return
        agent = session._authid
        if self._weighed_as not in (None, agent):
            # On one connection sessions may follow each other.
            self.queues.hold(str(self._weighed_as), self, 0)
        size_bytes = self.outflow.unsent_bytes
        self.queues.hold(agent, self, size_bytes)
        self._weighed_as = agent if size_bytes > FREE_BYTES else None
        while (found := self.queues.excess(agent)) is not None:
            heaviest: Any = found[0]
            heaviest.weigh_nothing()
            self.end_heavy(heaviest, found[1])
