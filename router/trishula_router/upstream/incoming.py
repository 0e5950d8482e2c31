"""What comes in on a connection of the router worker, before it is read: how large a message is, and how many frames.

- **Before a session has joined** a message is at most 16 KiB, whole, in all its fragments and after decompression; and
  frames of all kinds come no faster than somebody needs them who joins or pings: each costs the node some
  microseconds, and a stranger could send ten thousand in one piece.
- **Afterwards** it is what the operator's ``max_message_size`` says. A thousand fragments or control frames in one
  piece of 64 KiB are of nobody who has something to say, and end the connection.
- What is **unfinished** is counted by :class:`~trishula_router.upstream.unfinished.Unfinished`: the bytes, and what
  Python takes for each piece of them, because a message can come in fragments of a byte.

Each limit holds for what a frame's head announces: nothing of a frame that is too large is kept.

:class:`Incoming` is mixed into Autobahn's protocol, before its classes. It also has the WebSocket speak what is
configured and nothing else: Crossbar offers a ``….batched`` kind of each serializer, unasked, which has many messages
in one frame.

It reaches into names of Autobahn (26.10.2: ``onFrameBegin``, ``current_frame_masker``, ``message_data``,
``message_data_total_length``, ``inside_message``, the factory's ``_serializers`` and ``protocols``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trishula_router.realm import LINK_ROLE
from trishula_router.upstream.unfinished import Unfinished

__all__ = ["GREETING_BYTES", "Incoming", "Bounds"]

#: A HELLO or an AUTHENTICATE, with the longest names and tokens there are, needs some hundred bytes.
GREETING_BYTES = 16 * 1024
#: How many frames a stranger may send at once, and how many a second after that. Who watches a node pings each 1.5 s.
_FRAMES_AT_ONCE = 64
_FRAMES_PER_S = 16.0
#: How many fragments and control frames there may be in what is read at once.
_ODD_FRAMES = 1000
#: What Python takes for a piece of a message, beside its bytes; and how much more than the bytes that may be.
_PIECE_BYTES = 64
_PIECES_BYTES = 1024 * 1024
_CONTINUATION, _CONTROL = 0, 8
#: What a node speaks where Crossbar's configuration doesn't say it.
_SERIALIZERS = ("msgpack", "json", "cbor")
_POLICY_VIOLATION, _TOO_LARGE = 1008, 1009


@dataclass(frozen=True, slots=True)
class Bounds:
    """What all connections have in common.

    Attributes:
        unfinished: of all of them.
        seconds: a clock for spans.
        freed: told how much memory of an unfinished message is free again.
    """

    unfinished: Unfinished
    seconds: Callable[[], float]
    freed: Callable[[int], object]


class Incoming:
    """Mixed into a WebSocket protocol of Autobahn's; :attr:`bounds` is set by the class that it makes up."""

    bounds: Bounds
    # Autobahn sets it when the WebSocket is open.
    inside_message = False

    _is_stranger = True
    _frames_left = float(_FRAMES_AT_ONCE)
    _counted_at_s: float | None = None
    _holds_part = False
    _odd_frames = 0
    # Of Autobahn.
    factory: Any
    current_frame: Any
    data: bytes

    def onConnect(self, request: Any) -> Any:
        """Agree upon what to speak."""
        speak_as_configured(self.factory)
        # Autobahn reads the version as a number, so "wamp.02.json" would do as well.
        request.protocols = [name for name in request.protocols if name in self.factory.protocols]
        return super().onConnect(request)  # type: ignore[misc]

    def onFrameBegin(self) -> None:
        """The head of a frame is here."""
        session = self._session  # type: ignore[attr-defined]
        if session is None or session._session_id is None:
            if not self._may_send_another():
                self.too_many_frames()
                # What was read with it goes unread.
                self.data = b""
        elif self._is_stranger:
            self._is_stranger = False
            self._take_up_to(self.factory.maxFramePayloadSize, self.factory.maxMessagePayloadSize)
        opcode = self.current_frame.opcode
        if opcode == _CONTINUATION or opcode >= _CONTROL:
            self._odd_frames += 1
            if self._odd_frames == _ODD_FRAMES:
                ours: Any = self
                ours._fail_connection(_POLICY_VIOLATION, f"{_ODD_FRAMES} fragments or control frames came at once")
        super().onFrameBegin()  # type: ignore[misc]

    def too_many_frames(self) -> None:
        """A stranger sends more frames than it may; the connection ends without a word."""
        raise NotImplementedError

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self._odd_frames = 0
        super().dataReceived(data)  # type: ignore[misc]
        if self.inside_message:
            self._count_part()
        elif self._holds_part:
            self._part_is_gone()

    def connectionLost(self, *args: Any) -> None:
        """Nothing more will come."""
        self._forget()
        super().connectionLost(*args)  # type: ignore[misc]

    # -- messages in parts ---------------------------------------------------------------------------------------------

    def drop_part(self, why: str) -> None:
        """End the connection for the sake of the part that it has sent of a message."""
        ours: Any = self
        ours._fail_connection(_TOO_LARGE, why)
        self._forget()

    def _forget(self) -> None:
        # The connection itself may be around for minutes, until Python's collector finds it.
        ours: Any = self
        ours.message_data, ours.frame_data, self.data = [], [], b""
        self._part_is_gone()

    def _count_part(self) -> None:
        ours: Any = self
        if ours.failedByMe:
            self._forget()
            return
        frame, pieces = ours.current_frame, len(ours.message_data)
        missing = 0
        if frame is not None and frame.opcode < _CONTROL:
            missing = frame.length - ours.current_frame_masker.pointer()
            pieces += len(ours.frame_data)
        size_bytes = ours.message_data_total_length - missing
        if pieces * _PIECE_BYTES > size_bytes + _PIECES_BYTES:
            self.drop_part("a message comes in more pieces than its size is worth")
            return
        session, self._holds_part = ours._session, True
        is_member = session is not None and session._session_id is not None
        one_too_many = self.bounds.unfinished.holds(
            self,
            str(session._authid) if is_member else None,
            size_bytes + pieces * _PIECE_BYTES,
            is_link=is_member and session._authrole == LINK_ROLE,
        )
        if one_too_many is not None:
            one_too_many.drop_part("too much of unfinished messages is kept for it")

    def _part_is_gone(self) -> None:
        self._holds_part = False
        self.bounds.freed(self.bounds.unfinished.let_go(self))

    # -- limits --------------------------------------------------------------------------------------------------------

    def _may_send_another(self) -> bool:
        now_s = self.bounds.seconds()
        if not self._is_stranger or self._counted_at_s is None:
            # It has just come, or left its session.
            self._is_stranger, self._frames_left = True, float(_FRAMES_AT_ONCE)
            self._take_up_to(GREETING_BYTES, GREETING_BYTES)
        else:
            more = (now_s - self._counted_at_s) * _FRAMES_PER_S
            self._frames_left = min(float(_FRAMES_AT_ONCE), self._frames_left + more)
        self._counted_at_s = now_s
        self._frames_left -= 1.0
        return self._frames_left >= 0.0

    def _take_up_to(self, frame_bytes: int, message_bytes: int) -> None:
        ours: Any = self
        ours.maxFramePayloadSize, ours.maxMessagePayloadSize = frame_bytes, message_bytes


def speak_as_configured(factory: Any) -> None:
    """Take from Crossbar's factory of connections what it speaks unasked."""
    asked = factory._config.get("serializers", _SERIALIZERS)
    if all(name in asked for name in factory._serializers):
        return
    factory._serializers = {name: one for name, one in factory._serializers.items() if name in asked}
    factory.protocols = [f"wamp.2.{name}" for name in factory._serializers]
