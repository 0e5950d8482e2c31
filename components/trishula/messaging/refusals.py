"""What the sender of a message is told when nobody takes the message: the outbox, one frame to the node, or the node.

Each function makes one error, with the sentence that a person reads.
"""

from __future__ import annotations

from trishula.contract.receipts import Receipt
from trishula.contract.units import show_bytes
from trishula.errors import MessageSetAside, OutboxFull, OutcomeUnknown, PayloadTooLarge, TrishulaError, from_wire
from trishula.messaging.entries import Entry, Limits
from trishula.session.transport import Ending

__all__ = ["end_unknown", "ends_sessions", "outbox_full", "refused", "too_large"]


def too_large(message_id: str, to: str, size_bytes: int, room_bytes: int) -> PayloadTooLarge:
    """That a message doesn't fit into one frame to the node."""
    return PayloadTooLarge(
        f"the message {message_id} to {to} has {size_bytes} bytes, and a frame to the node takes {room_bytes} "
        f"({show_bytes(room_bytes)}); put the data where the recipient can fetch it and send its address"
    )


def outbox_full(count: int, size_bytes: int, limits: Limits) -> OutboxFull:
    """That ``count`` messages wait, with ``size_bytes`` together, and no more may."""
    return OutboxFull(
        f"{count} messages ({size_bytes} bytes) wait for a node's receipt, and the limits are {limits.messages} "
        f"messages and {limits.total_bytes} bytes: wait for some, then send more"
    )


def refused(receipt: Receipt, error: str, index: int) -> TrishulaError:
    """That the node refused the message which stood at ``index`` of a call; ``error``: the URI that says why."""
    # Where it stood in the call is our own doing, and means nothing to whoever sent the one message.
    sentence = (receipt.detail or error).replace(f"messages[{index}]", "message", 1)
    return from_wire(error, sentence, {"retry_after_s": receipt.retry_after_s})


def ends_sessions(entry: Entry, ending: Ending) -> MessageSetAside:
    """That a message is proven to be why the node ends sessions; ``ending``: how it ended the last one."""
    return MessageSetAside(
        f"the message {entry.id} to {entry.to} ({show_bytes(entry.size_bytes)}) was set aside as dead, so that others "
        f"get through: each time that it was under way alone the node ended the session ({ending.reason}); if a node "
        f"has it all the same, trishula why {entry.id} tells"
    )


def end_unknown(entry: Entry, error: TrishulaError, on_record: bool) -> OutcomeUnknown:
    """That the sender ends before a node confirmed a message, which a node may have."""
    begin = f"{error}, before a node confirmed the message {entry.id} to {entry.to}; "
    if on_record:
        return OutcomeUnknown(f"{begin}it is on record and goes out when the agent runs again", message_id=entry.id)
    return OutcomeUnknown(
        f"{begin}it may have been accepted: ask with trishula why {entry.id}, or send it again under the same id",
        message_id=entry.id,
    )
