"""Small messages, in whole frames, read and written by a short way: nearly all frames of agents are such.

Autobahn makes fifteen calls of each frame that comes in, and makes objects of its head and of its mask; of each that
goes out it makes a dozen, puts lines together for a log that takes none, and has Twisted ask the kernel three times
where once is enough. Measured on two cores with a hundred agents that have one message each under way: half of the
worker's time went there.

A frame takes the short way if it is whole, in one piece, neither compressed nor large, and one of a session that has
joined; what is read by it is binary. All else takes Autobahn's way, with Autobahn's checks, and ours in
:mod:`.incoming`. What is counted is counted by both.

:class:`ShortFrames` is mixed into Autobahn's protocol class, before it; it reaches into names of Autobahn (26.10.2:
``data``, ``current_frame``, ``_perMessageCompress``, ``trafficStats``, ``send_queue``, ``_serializer``, …) and imports
nothing of it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ShortFrames", "framed", "unframed"]

#: A larger payload has other costs. The length of the largest one takes two bytes in a frame's head.
SHORT_BYTES = 16 * 1024
#: The first byte of a whole frame with a message of text or bytes; the bit of the second one that says "masked"; what
#: there is in that byte for a length of two bytes; how long a mask is.
_TEXT, _BINARY, _MASKED, _TWO_BYTES, _MASK_BYTES = 0x81, 0x82, 0x80, 126, 4


def framed(payload: bytes, is_binary: bool) -> bytes:
    """A message of a server as one frame; of at most 65,535 bytes."""
    first, size = _BINARY if is_binary else _TEXT, len(payload)
    if size < _TWO_BYTES:
        return bytes((first, size)) + payload
    return bytes((first, _TWO_BYTES, size >> 8, size & 0xFF)) + payload


def unframed(data: bytes) -> tuple[bytes, int] | None:
    """The binary message at the beginning of what came, if it is one short frame of a client's and all of it is there.

    Returns:
        it, and of how many bytes its frame is; ``None``: it is something else, or not the shortest way to write it.
    """
    if len(data) < 2 + _MASK_BYTES or data[0] != _BINARY or not data[1] & _MASKED:
        return None
    size, begin = data[1] ^ _MASKED, 2 + _MASK_BYTES
    if size >= _TWO_BYTES:
        size, begin, told = data[2] << 8 | data[3], begin + 2, size
        if told != _TWO_BYTES or not _TWO_BYTES <= size <= SHORT_BYTES:
            return None
    end = begin + size
    if len(data) < end:
        return None
    mask = (data[begin - _MASK_BYTES : begin] * (size // _MASK_BYTES + 1))[:size]
    # As numbers: Python has no other way to combine bytes at once.
    plain = int.from_bytes(data[begin:end], "big") ^ int.from_bytes(mask, "big")
    return plain.to_bytes(size, "big"), end


class ShortFrames:
    """Mixed into a WebSocket protocol of Autobahn's, before the others that are mixed in."""

    # Of Autobahn, and of those that it is mixed with.
    data: bytes
    outflow: Any
    log: Any
    _session: Any

    def advance(self) -> bool:
        """See :meth:`.fair_share.TurnTaking.advance`."""
        ours: Any = self
        if ours.current_frame is None and not ours.inside_message and self._is_plain() and not ours._is_stranger:
            found = unframed(self.data)
            if found is not None and self._session._session_id is not None and self._may_take(len(found[0])):
                payload, size_bytes = found
                self.data = self.data[size_bytes:]
                counted = ours.trafficStats
                counted.incomingWebSocketFrames += 1
                counted.incomingWebSocketMessages += 1
                counted.incomingOctetsWebSocketLevel += len(payload)
                counted.incomingOctetsAppLevel += len(payload)
                ours.onMessage(payload, True)
                return bool(self.data) and ours.state != ours.STATE_CLOSED
        return bool(super().advance())  # type: ignore[misc]

    def send_message(self, message: Any) -> bool:
        """Send a message of WAMP; whether that was done: if not, it is for Autobahn to send, or to refuse."""
        ours: Any = self
        if self.outflow is None or self._session is None or ours.send_queue or ours.maskServerFrames:
            return False
        # The lines that Autobahn puts together for each message are for that level.
        if not self._is_plain() or getattr(self.log, "_log_level", None) == "trace":
            return False
        try:
            payload, is_binary = ours._serializer.serialize(message)
        except Exception:
            # Autobahn will fail too, and has its words for that.
            return False
        if len(payload) > SHORT_BYTES or 0 < ours.maxMessagePayloadSize < len(payload):
            ours.sendMessage(payload, is_binary)
            return True
        counted = ours.trafficStats
        counted.outgoingWebSocketMessages += 1
        counted.outgoingWebSocketFrames += 1
        counted.outgoingOctetsAppLevel += len(payload)
        counted.outgoingOctetsWebSocketLevel += len(payload)
        ours.send_data_frame(framed(payload, is_binary))
        return True

    def _may_take(self, size_bytes: int) -> bool:
        """Whether a message of that size is within what the operator set: of frames, and of messages."""
        ours: Any = self
        limits = (ours.maxFramePayloadSize, ours.maxMessagePayloadSize)
        return not any(0 < most < size_bytes for most in limits)

    def _is_plain(self) -> bool:
        """Whether nobody wants to see frames, or changes them."""
        ours: Any = self
        return (
            ours.state == ours.STATE_OPEN
            and ours._perMessageCompress is None
            and not (ours.logFrames or ours.logOctets or ours.trackedTimings or ours.failedByMe)
        )
