"""A second road for messages, beside the session with a node: what the engine tells it, and the tokens of it.

What comes by the second road is a delivery like any other, with a token that begins with :data:`PREFIX`. Such a token
belongs to no session: it means the same after a session is lost. The road itself is :mod:`trishula.files.road`.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["PREFIX", "SecondRoad", "is_of_second_road"]

#: A node's token begins with a digit.
PREFIX = "file:"


def is_of_second_road(token: str) -> bool:
    """Whether a delivery with this token came by the second road."""
    return token.startswith(PREFIX)


class SecondRoad(Protocol):
    """Where deliveries come from that no node made."""

    def settled(self, token: str) -> None:
        """One is handled; it may go at the next :meth:`flush`, when that is on record."""

    def given_back(self, token: str, reason: str, requeue: bool) -> None:
        """One is given back: for another attempt (``requeue``), or for good."""

    def flush(self) -> None:
        """The end of a turn, after the agent's file was written."""
