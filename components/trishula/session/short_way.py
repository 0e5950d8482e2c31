"""Small messages in whole frames, read and written by a short way at the client's end: nearly all of its are such.

Autobahn makes a dozen calls of each frame, and for each message puts lines together for a log that nobody reads; what
comes in becomes an object with all that a message of its kind may have, each of which is checked. For an agent that
sends one message, or gets one, that is most of what the processor does, and who waits for the message waits for it.

* A message that goes out is one masked frame, made here.
* A whole frame that came is taken out of the bytes here. If it is MessagePack, and the plain result of a call that
  waits for one, or a plain event of a topic that somebody listens to, it goes to whom it is for.

All else takes Autobahn's way, with Autobahn's checks: what is compressed, large, in pieces or text, what belongs to
joining and leaving, errors, and whatever has options. What is counted is counted by both.

:class:`ShortWay` is mixed into Autobahn's protocol class, before it; it reaches into names of Autobahn (26.10.2:
``processData``, ``current_frame``, ``_perMessageCompress``, ``trafficStats``, ``send_queue``, ``_serializer``, the
session's ``_call_reqs`` and ``_subscriptions``).
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula.session.written_soon import SOON_BYTES

__all__ = ["SHORT_BYTES", "ShortWay", "masked", "unframed"]

#: A larger payload has other costs. The length of the largest one takes two bytes in a frame's head.
SHORT_BYTES = SOON_BYTES - 8
#: The first byte of a whole frame with a message of text or bytes; the bit of the second one that says "masked"; what
#: there is in that byte for a length of two bytes; how long a mask is.
_TEXT, _BINARY, _MASKED, _TWO_BYTES, _MASK_BYTES = 0x81, 0x82, 0x80, 126, 4
#: Messages of WAMP.
_EVENT, _RESULT = 36, 50

_from_msgpack = msgspec.msgpack.Decoder().decode


def masked(payload: bytes, is_binary: bool, mask: bytes) -> bytes:
    """A message of a client as one frame; of at most 65,535 bytes."""
    first, size = _BINARY if is_binary else _TEXT, len(payload)
    if size < _TWO_BYTES:
        head = bytes((first, _MASKED | size))
    else:
        head = bytes((first, _MASKED | _TWO_BYTES, size >> 8, size & 0xFF))
    whole = (mask * (size // _MASK_BYTES + 1))[:size]
    # As numbers: Python has no other way to combine bytes at once.
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
    return head + mask + hidden.to_bytes(size, "big")


def unframed(data: bytes) -> tuple[bytes, int] | None:
    """The binary message at the beginning of what came, if it is one short frame of a node's and all of it is there.

    Returns:
        it, and of how many bytes its frame is; ``None``: it is something else, or not the shortest way to write it.
    """
    if len(data) < 2 or data[0] != _BINARY:
        return None
    size, begin = data[1], 2
    if size >= _TWO_BYTES:
        if size != _TWO_BYTES or len(data) < begin + 2:
            return None
        size, begin = data[2] << 8 | data[3], begin + 2
        if not _TWO_BYTES <= size <= SHORT_BYTES:
            return None
    end = begin + size
    return None if len(data) < end else (data[begin:end], end)


class ShortWay:
    """Mixed into a client's WebSocket protocol of Autobahn's, before the others that are mixed in."""

    # Of Autobahn, and of those that it is mixed with.
    data: bytes
    outflow: Any
    word: Any
    log: Any
    _session: Any
    _is_msgpack = False

    def onOpen(self) -> None:
        """The WebSocket is open, and it is known what is spoken."""
        self._is_msgpack = getattr(getattr(self, "_serializer", None), "SERIALIZER_ID", None) == "msgpack"
        super().onOpen()  # type: ignore[misc]

    # -- in ------------------------------------------------------------------------------------------------------------

    def processData(self) -> Any:
        """Handle one frame of what came; whether there is more to handle."""
        ours: Any = self
        if ours.current_frame is None and not ours.inside_message and self._is_plain():
            found = unframed(self.data)
            if found is not None and self._may_take(len(found[0])):
                payload, size_bytes = found
                self.data = self.data[size_bytes:]
                counted = ours.trafficStats
                counted.incomingWebSocketFrames += 1
                counted.incomingWebSocketMessages += 1
                counted.incomingOctetsWebSocketLevel += len(payload)
                counted.incomingOctetsAppLevel += len(payload)
                if not self._takes(payload):
                    ours.onMessage(payload, True)
                return bool(self.data)
        return super().processData()  # type: ignore[misc]

    def _takes(self, payload: bytes) -> bool:
        """Hand a plain message to whom it is for; whether it was one."""
        session = self._session
        if not self._is_msgpack or session is None or session._session_id is None:
            return False
        try:
            told = _from_msgpack(payload)
        except msgspec.MsgspecError:
            # Autobahn has its words for that.
            return False
        if type(told) is not list or len(told) < 4 or type(told[0]) is not int:
            return False
        if told[0] == _RESULT and len(told) == 4:
            return _takes_result(session, told)
        return told[0] == _EVENT and len(told) == 5 and _takes_event(session, told)

    # -- out -----------------------------------------------------------------------------------------------------------

    def send(self, msg: Any) -> None:
        """Send a message of WAMP."""
        ours: Any = self
        is_short = self.outflow is not None and self._session is not None and not ours.send_queue
        # The lines that Autobahn puts together for each message are for that level.
        if is_short and self._is_plain() and getattr(self.log, "_log_level", None) != "trace":
            try:
                payload, is_binary = ours._serializer.serialize(msg)
            except Exception:
                # Autobahn will fail too, and has its words for that.
                payload, is_binary = None, False
            if payload is not None and len(payload) <= SHORT_BYTES:
                counted = ours.trafficStats
                counted.outgoingWebSocketMessages += 1
                counted.outgoingWebSocketFrames += 1
                counted.outgoingOctetsAppLevel += len(payload)
                counted.outgoingOctetsWebSocketLevel += len(payload)
                ours.send_data_frame(masked(payload, is_binary, self.word(_MASK_BYTES)))
                return
            if payload is not None:
                ours.sendMessage(payload, is_binary)
                return
        super().send(msg)  # type: ignore[misc]

    def _may_take(self, size_bytes: int) -> bool:
        """Whether a message of that size is within what was set: of frames, and of messages."""
        ours: Any = self
        limits = (ours.maxFramePayloadSize, ours.maxMessagePayloadSize)
        return not any(0 < most < size_bytes for most in limits)

    def _is_plain(self) -> bool:
        """Whether nobody wants to see frames, or changes them."""
        ours: Any = self
        return (
            ours.state == ours.STATE_OPEN
            and ours._perMessageCompress is None
            and ours.maskClientFrames
            and not (ours.logFrames or ours.logOctets or ours.trackedTimings or ours.failedByMe)
        )


def _takes_result(session: Any, told: list[Any]) -> bool:
    _, request, details, args = told
    asked = session._call_reqs.get(request) if type(request) is int else None
    if asked is None or asked.options or details != {} or type(args) is not list or len(args) != 1:
        return False
    del session._call_reqs[request]
    if not asked.on_reply.called:
        asked.on_reply.callback(args[0])
    return True


#: What the node says of an event's publisher, which no handler of ours is told.
_OF_PUBLISHER = frozenset({"publisher", "publisher_authid", "publisher_authrole"})


def _takes_event(session: Any, told: list[Any]) -> bool:
    _, topic, _, details, args = told
    listening = session._subscriptions.get(topic) if type(topic) is int else None
    if not listening or type(details) is not dict or not _OF_PUBLISHER.issuperset(details) or type(args) is not list:
        return False
    handlers = [subscription.handler for subscription in listening]
    if any(handler.details_arg or handler.obj for handler in handlers):
        return False
    for handler in handlers:
        try:
            outcome = handler.fn(*args)
        except Exception:
            session.onUserError(Failure(), _fault_of(handler, topic))  # type: ignore[no-untyped-call]
            continue
        if isinstance(outcome, Deferred):
            outcome.addErrback(session.onUserError, _fault_of(handler, topic))
    return True


def _fault_of(handler: Any, topic: int) -> str:
    return f"While firing {handler.fn} subscribed under {topic}."
