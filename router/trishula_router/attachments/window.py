"""How much of an attachment is asked for at once of a linked node: what the link carries in a moment. Policy only.

A fast link would stand idle with little, and over a slow one everything else would wait behind much. So it begins with
little, and is doubled or halved by how long it took.
"""

from __future__ import annotations

from trishula_router.attachments.words import WANT_BYTES

__all__ = ["LEAST_BYTES", "Window"]

#: Over 128 kbit/s that is half a second.
LEAST_BYTES = 8 * 1024
_FIRST_BYTES = 64 * 1024
#: What took less is doubled, what took more is halved. A word of either node behind it waits for so long at most, and
#: within 2.5 s of silence a node counts as away.
_SHORT_S, _LONG_S = 0.1, 0.4


class Window:
    """See the module's docstring.

    Attributes:
        size_bytes: how much is asked for next.
    """

    def __init__(self) -> None:
        self.size_bytes = _FIRST_BYTES

    def measured(self, took_s: float) -> None:
        """All that was asked for came, and took so long."""
        if took_s < _SHORT_S:
            self.size_bytes = min(2 * self.size_bytes, WANT_BYTES)
        elif took_s > _LONG_S:
            self.size_bytes = max(self.size_bytes // 2, LEAST_BYTES)

    def missed(self) -> None:
        """Not all of it came."""
        self.size_bytes = LEAST_BYTES
