"""How much a node takes: it tells so at ``attach``, and clients refuse what is larger before anything is stored.

A node of an earlier release tells nothing, and a client that takes no deliveries attaches to none. Then the limits are
those that every node keeps within (:data:`UNTOLD`): what is below them can do no harm, and the node judges it. Guessing
lower, by the defaults of a node's config, would refuse what a node with a higher limit takes.
"""

from __future__ import annotations

import msgspec

__all__ = ["UNTOLD", "NodeLimits"]

#: What WAMP puts around the arguments of a call, a result or an event, with the longest URI and room to spare.
ENVELOPE_BYTES = 4096

#: The most that the data of a procedure's error may have, as JSON: an error is no place for a report.
ERROR_DATA_BYTES = 64 * 1024


class NodeLimits(msgspec.Struct, frozen=True):
    """What a node takes.

    Attributes:
        payload_bytes: the most that a message's payload may have, as JSON.
        frame_bytes: the most that one WebSocket message to the node may have: a larger one ends the session.
        batch_messages: the most messages in one call.
        ttl_ms: the longest time to live of a message.
        attachment_bytes: the most that an attachment may have; ``None`` of a node that takes none, or tells nothing.
    """

    payload_bytes: int = 8 * 1024 * 1024
    frame_bytes: int = 16 * 1024 * 1024
    batch_messages: int = 1024
    ttl_ms: int = 30 * 86_400_000
    attachment_bytes: int | None = None

    @property
    def room_bytes(self) -> int:
        """What the arguments of a call may have, so that its frame keeps within the limit."""
        return max(self.frame_bytes - ENVELOPE_BYTES, 0)


#: The ceiling of ``limits.payload`` and the frames of the shipped configs, which are the contract's.
UNTOLD = NodeLimits()
