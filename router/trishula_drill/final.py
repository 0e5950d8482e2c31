"""What the stores of a drill's nodes hold at the end, as the checker sees it. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Final", "Key", "Messages", "Stored", "at_node", "name_of"]

#: Of a message: sender and id.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stored:
    """One message for one recipient, as the store holds it at the end.

    Attributes:
        position: of its ``accepted`` record.
        state: its row's word: accepted, delivered, done, dead, expired, cancelled.
        digest: of the payload that is readable there; ``None`` if none is.
        ends: the final states on record, in the order of the journals, each with its position.
    """

    sender: str
    id: str
    recipient: str
    position: int
    state: str
    digest: str | None
    ends: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Final:
    """What a store holds at the end.

    Attributes:
        messages: those of the history; others may be among them and don't matter.
        damages: what ``verify`` found.
        epoch: whose positions they are.
        node: whose store it is; empty if there is only one.
    """

    messages: Sequence[Stored]
    damages: Sequence[str] = ()
    epoch: str = ""
    node: str = ""


#: What a store holds, by recipient and key.
Messages = Mapping[tuple[str, Key], Stored]


def name_of(key: Key) -> str:
    """A message, in a sentence."""
    return f"{key[1]} from {key[0]}"


def at_node(final: Final) -> str:
    """Where that is, in a sentence; nothing if there is only one node."""
    return f" at {final.node}" if final.node else ""
