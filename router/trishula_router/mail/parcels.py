"""Parcels: messages cut into frames that any client takes.

A WebSocket library of another language closes the connection at a message of 1 MiB, unless its user has found the
option; then the same messages come again, and close the next one. So what the node sends in one frame, with everything
around the messages, stays below that wherever the messages allow; a message that is larger travels alone.

How large a message is on the wire depends on the client's serializer, and the mailbox doesn't know it. Its JSON is
known. MessagePack and CBOR are shorter but for floats: nine bytes for what JSON can write in four (``0.0,``). Most
frames are so small that this need not be looked at; in the others the floats are counted, in C.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["FRAME_BYTES", "ROOM_BYTES", "parcels"]

FRAME_BYTES = 1024 * 1024
#: For the head of the frame, and what an answer to a fetch has beside the messages.
_HEAD_BYTES = 2048
#: What the messages of a frame may have together.
ROOM_BYTES = FRAME_BYTES - _HEAD_BYTES
#: What stands around one message: its token, its attempt, their names.
_EACH_BYTES = 128
#: How much longer a float may be in MessagePack and CBOR than in JSON.
_FLOAT_BYTES = 5

_to_msgpack = msgspec.msgpack.Encoder().encode


def parcels(messages: Sequence[tuple[int, object]], frame_bytes: int = FRAME_BYTES) -> list[int]:
    """How many of the messages each frame takes, in their order.

    Args:
        messages: of each the bytes of its JSON, and the message itself.
        frame_bytes: the most that a frame may have.
    """
    room_bytes = frame_bytes - _HEAD_BYTES
    # The longest that they can be: all floats.
    if sum(size_bytes for size_bytes, _ in messages) * 9 // 4 + len(messages) * _EACH_BYTES <= room_bytes:
        return [len(messages)] if messages else []
    counts = [0]
    left_bytes = room_bytes
    for size_bytes, message in messages:
        # The byte that begins a float is in other values, too: counted too many is no harm.
        wire_bytes = size_bytes + _FLOAT_BYTES * _to_msgpack(message).count(b"\xcb") + _EACH_BYTES
        if counts[-1] and wire_bytes > left_bytes:
            counts.append(0)
            left_bytes = room_bytes
        left_bytes -= wire_bytes
        counts[-1] += 1
    return counts
