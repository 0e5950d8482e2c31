"""The outlet: what a node says to clients of its own accord.

Deliveries, recalls and canaries go to consumers, and news to senders that listen. Each of them may get lost on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from trishula.contract.addresses import Address

__all__ = ["News", "Outlet", "Overheard"]


class News(msgspec.Struct, frozen=True, gc=False):
    """What became of a message, for its sender. ``at`` in ms; ``copies``: on how many nodes it is now."""

    sender: str
    id: str
    recipient: str
    state: str
    at: int
    reason: str | None = None
    copies: int | None = None


class Outlet(Protocol):
    """Where a node speaks to the outside."""

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        """Send deliveries to a consumer; they may get lost on the way."""

    def inform(self, address: Address, session: int, told: Mapping[str, Any]) -> None:
        """Tell a consumer something that is no delivery; it may get lost on the way."""

    def tell(self, news: Iterable[News]) -> None:
        """Tell senders, if they listen."""


class Overheard:
    """An outlet of which somebody hears what senders are told, also those that don't listen.

    Args:
        outlet: where all goes.

    Attributes:
        heard: takes the news too; ``None`` if nobody wants them.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.heard: Callable[[Iterable[News]], None] | None = None
        self.push, self.inform = outlet.push, outlet.inform

    def tell(self, news: Iterable[News]) -> None:
        """See :class:`Outlet`."""
        if self.heard is not None:
            news = list(news)
            self.heard(news)
        self._outlet.tell(news)
