"""The part of a connection that takes turns: its frames are handled when :mod:`.turns` says so.

:class:`TurnTaking` is mixed into Autobahn's protocol class, before it; it reaches into names of Autobahn (26.10.2:
``consumeData``, ``processData``, ``state``) and imports nothing of it.
"""

from __future__ import annotations

from typing import Any

from trishula_router.turns import Turns

__all__ = ["TurnTaking"]

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
            session = self._session
            # All that have not joined have one part between them.
            is_joined = session is not None and session._session_id is not None
            self.turns.take(session._authid if is_joined else "", self)
        else:
            super().consumeData()  # type: ignore[misc]

    def onMessage(self, payload: bytes, is_binary: bool) -> None:
        """A WebSocket message is whole."""
        self.message_bytes = len(payload)
        super().onMessage(payload, is_binary)  # type: ignore[misc]

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
