"""What both ends of a connection, the client's and the node's, add to Autobahn's WebSocket protocol.

Frames of data go out through an :class:`~trishula.session.outflow.Outflow`, and whether the peer lives says a
:class:`~trishula.session.pulse.Pulse`.

Autobahn (26.10.2) hands all frames to the socket at once, so that a ping waits behind whatever was sent before it; its
own pings take only whole frames for a sign of life, and start before anybody is served. :class:`Carrying` is mixed into
its protocol classes, before them; it imports nothing of Autobahn.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trishula.session.outflow import Outflow
from trishula.session.pulse import Pulse, PulseStep
from trishula.session.written_soon import SOON_BYTES, SOON_S, write_soon

__all__ = ["DATA_OPCODES", "Carrying", "Road"]

#: Of frames that continue a message, and of such with text or bytes.
DATA_OPCODES = (0, 1, 2)
_BINARY = 2
_CLOSE = 8


@dataclass(frozen=True, slots=True)
class Road:
    """How it stands with a connection.

    Attributes:
        queued_bytes: what is not known to have arrived.
        is_moving: whether something is on its way, as far as is known.
        heard_s: when the last byte came from the other end.
    """

    queued_bytes: int
    is_moving: bool
    heard_s: float


class Carrying:
    """Mixed into a WebSocket protocol of Autobahn's; :meth:`carry` begins it, as soon as the WebSocket is open.

    Attributes:
        outflow: what is on its way out.
        pulse: the peer's signs of life.
        word: so many random bytes.
    """

    #: Autobahn takes an option of the factory only where the protocol has none of its own.
    autoPingInterval = 0

    word = staticmethod(os.urandom)
    outflow: Outflow | None = None
    pulse: Pulse | None = None
    _opcode = -1
    _written_s = float("-inf")
    # Of Autobahn.
    transport: Any
    factory: Any
    _dataReceived: Callable[[bytes], None]

    def carry(self, seconds: Callable[[], float], quiet_s: float, patience_s: float) -> Pulse:
        """Begin; returns the pulse, which is felt from now on.

        Args:
            seconds: a clock for spans.
            quiet_s: the peer is pinged after so much silence.
            patience_s: and given up after so much more.
        """
        self._seconds = seconds
        self.pulse = Pulse(quiet_s, patience_s, seconds())
        self.outflow = Outflow(self.write_out, self.sendPing, self.word)
        self.autoFragmentSize = self.outflow.frame_bytes
        return self.pulse

    def road(self) -> Road | None:
        """How it stands; ``None`` before it began."""
        if self.outflow is None or self.pulse is None:
            return None
        flow = self.outflow
        return Road(flow.unsent_bytes, flow.is_moving(flow.offered_bytes), self.pulse.heard_s)

    def take_pulse(self) -> float:
        """See whether the peer lives, and ping it or end the connection.

        Returns:
            after how many seconds to look again; 0 if the connection has ended.
        """
        assert self.pulse is not None
        step, again_s = self.pulse.look(self._seconds())
        if step is PulseStep.PING:
            self.sendPing(b"")
        elif step is PulseStep.DEAD:
            self.give_up("nothing came from the other end, and no answer to a ping")
        return again_s

    def give_up(self, why: str) -> None:
        """End the connection without asking the other end."""
        ours: Any = self
        ours.wasClean = False
        ours.wasNotCleanReason = why
        ours.dropConnection(abort=True)

    def sendPing(self, payload: bytes) -> None:
        """Autobahn's."""
        super().sendPing(payload)  # type: ignore[misc]

    def dataReceived(self, data: bytes) -> None:
        """Bytes came: the peer lives, whatever they are."""
        if self.pulse is not None:
            self.pulse.heard_s = self._seconds()
        # What Autobahn's own does before that is to put together a line for the log, whether it is written or not.
        self._dataReceived(data)

    def onPong(self, payload: bytes) -> None:
        """An answer: to one of our marks, perhaps."""
        super().onPong(payload)  # type: ignore[misc]
        if self.outflow is not None:
            self.outflow.answered(payload, self._seconds())
            self.autoFragmentSize = self.outflow.frame_bytes

    def write_out(self, data: bytes) -> None:
        """Hand bytes to the socket, a few of them at once."""
        now_s = self._seconds()
        if len(data) <= SOON_BYTES and now_s - self._written_s > SOON_S:
            self._written_s = now_s
            write_soon(self.transport, data)
        else:
            self.transport.write(data)

    def send_data_frame(self, frame: bytes) -> None:
        """Send a frame of data that is made already."""
        self._opcode = _BINARY
        self.sendData(frame)

    def sendFrame(self, opcode: int, *args: Any, **options: Any) -> None:
        """Remember what kind of frame :meth:`sendData` gets; nothing comes between the two."""
        self._opcode = opcode
        super().sendFrame(opcode, *args, **options)  # type: ignore[misc]

    def sendData(self, data: bytes, *args: Any, **options: Any) -> None:
        """Send a frame: data in their turn, control frames at once."""
        opcode, self._opcode = self._opcode, -1
        if self.outflow is not None:
            if opcode in DATA_OPCODES:
                self.outflow.offer(data, self._seconds())
                return
            if opcode == _CLOSE:
                self.outflow.flush()
        super().sendData(data, *args, **options)  # type: ignore[misc]

    def connectionLost(self, *args: Any) -> None:
        """What waits has nobody to wait for."""
        if self.outflow is not None:
            self.outflow.close()
        super().connectionLost(*args)  # type: ignore[misc]
