"""Messages of which a part is here: how much of them may lie about. Policy, no I/O.

WebSocket lets a client send a message in parts, and take its time in between. Each connection may keep one in memory,
up to the largest that is taken; forty of them were 600 MiB. Here all of them together are bounded, those of strangers
by themselves. Beyond the bound one goes of whoever has the most unfinished, all its connections taken together: the one
whose message began first. A link between nodes goes last: it carries what many send.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

__all__ = ["MEMBERS_BYTES", "STRANGERS_BYTES", "Unfinished"]

#: Four of the largest messages at once. They are rare: a message of 64 KiB is mostly whole when it is read.
MEMBERS_BYTES = 64 * 1024 * 1024
#: A thousand halves of a HELLO.
STRANGERS_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Part:
    """What is here of one message.

    Attributes:
        owner: whose it is; ``None``: a stranger's.
        is_link: whether it is a link's.
        size_bytes: how much memory it takes.
    """

    owner: str | None
    is_link: bool
    size_bytes: int


class Unfinished:
    """All unfinished messages, each under the key of its connection.

    Args:
        members_bytes: how much those of sessions may take.
        strangers_bytes: how much those of connections may take that have not joined.
    """

    def __init__(self, members_bytes: int = MEMBERS_BYTES, strangers_bytes: int = STRANGERS_BYTES) -> None:
        self._most = {True: members_bytes, False: strangers_bytes}
        self._parts: dict[Any, _Part] = {}
        self._sums = {True: 0, False: 0}

    @property
    def buffered_bytes(self) -> int:
        """How much they take now."""
        return sum(self._sums.values())

    def holds(self, key: object, owner: str | None, size_bytes: int, *, is_link: bool = False) -> Any:
        """So much is here of a connection's message; returns the key of whom must go for it, if somebody must."""
        before = self._parts.get(key)
        if before is not None:
            self._sums[before.owner is not None] -= before.size_bytes
        # Its place in the order stays that of its first part.
        self._parts[key] = _Part(owner, is_link, size_bytes)
        has_joined = owner is not None
        self._sums[has_joined] += size_bytes
        return self._one_too_many(has_joined) if self._sums[has_joined] > self._most[has_joined] else None

    def let_go(self, key: object) -> int:
        """A connection's message is whole, or will never be; returns how much it took when it was looked at last."""
        part = self._parts.pop(key, None)
        if part is None:
            return 0
        self._sums[part.owner is not None] -= part.size_bytes
        return part.size_bytes

    def _one_too_many(self, has_joined: bool) -> Any:
        parts = {key: part for key, part in self._parts.items() if (part.owner is not None) is has_joined}
        parts = {key: part for key, part in parts.items() if not part.is_link} or parts
        sums: Counter[str | None] = Counter()
        for part in parts.values():
            sums[part.owner] += part.size_bytes
        (owner, _), *_ = sums.most_common(1)
        return next(key for key, part in parts.items() if part.owner == owner)
