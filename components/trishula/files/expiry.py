"""When a message that travels as a file is of no use any more: its time to live and its deadline hold for files, too.

A file has no node that says when it was accepted: its time to live begins at its sender's ``timestamp``. A file without
one (or with one that lies in the future, by a clock that is wrong) never expires by that. What says nothing of its time
to live has a node's default: receivers remember for so long what they have handled, and an older file would run twice.
"""

from __future__ import annotations

from datetime import UTC, datetime

from trishula.contract.message import DEFAULT_TTL_MS, Message

__all__ = ["expired"]


def expired(message: Message, now_ms: int) -> str | None:
    """Why it is of no use at ``now_ms`` (of the wall clock), as a sentence; ``None`` if it still is."""
    if message.deadline_at is not None and now_ms >= message.deadline_at:
        return f"the message {message.id} is too late: its deadline was {_shown(message.deadline_at)}"
    if message.timestamp is None:
        return None
    ttl_ms = DEFAULT_TTL_MS if message.ttl_ms is None else min(message.ttl_ms, DEFAULT_TTL_MS)
    if now_ms - message.timestamp < ttl_ms:
        return None
    return (
        f"the message {message.id} has expired: it was sent at {_shown(message.timestamp)}, and a file like it lives "
        f"for {ttl_ms / 1000:g} s"
    )


def _shown(instant_ms: int) -> str:
    try:
        return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{instant_ms} ms after 1970"
