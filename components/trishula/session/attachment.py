"""What a membership is given and what it tells: how we attach, what the node answers, who hears of joins and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from trishula.contract.limits import UNTOLD, NodeLimits
from trishula.errors import TrishulaError
from trishula.session.transport import Ending, Link

__all__ = ["Attached", "Attachment", "Observer", "User", "offers"]


class Attached(msgspec.Struct, frozen=True):
    """What a node answers to ``attach``.

    Attributes:
        node: who it is.
        epoch: names its store.
        high_water: how far its store is.
        lease_s: how long a delivery waits for its ack, if the node says so.
        epoch_changed: the node has another store than the one we knew: what was accepted there may be gone.
        limits: how much it takes; a node of an earlier release tells nothing.
        fallback: the mode of the bus, while that is not live.
    """

    node: str
    epoch: str
    high_water: int
    lease_s: float | None = None
    epoch_changed: bool = False
    limits: NodeLimits = UNTOLD
    fallback: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """That we take deliveries, and how."""

    on_inbox: Callable[..., object]
    capabilities: tuple[str, ...]
    window: int
    heartbeat_s: float


class User(Protocol):
    """Whose membership it is."""

    def member_ready(self) -> None:
        """There is a session, and everything is set up on it."""

    def member_pausing(self) -> None:
        """A move begins: send nothing new, until ``member_ready`` or ``member_staying``."""

    @property
    def is_still(self) -> bool:
        """Whether nothing that was sent waits for its receipt."""

    def member_moving(self, old: Link) -> None:
        """The session is another one now; what belongs to the old one goes out now or never."""

    def member_staying(self) -> None:
        """The move is off."""

    def member_away(self, ending: Ending | None) -> None:
        """The session is gone, perhaps before everything was set up on it; ``ending``: see :class:`Link`."""

    def member_ended(self, error: TrishulaError) -> None:
        """There will be none any more."""


class Observer(Protocol):
    """Who tells people about it."""

    def joined(self, url: str) -> None:
        """There is a session, and everything is set up on it."""

    def lost(self, url: str, error: TrishulaError) -> None:
        """The session is gone."""

    def moved(self, old: str, url: str) -> None:
        """The session is one with a better node now, and deliveries of the old one mean nothing any more."""

    def unreachable(self, error: TrishulaError, now_s: float) -> None:
        """A node could not be joined."""

    def ended(self, error: TrishulaError) -> None:
        """Wrong token, taken over, refused: it is over."""


def offers(known: dict[str, Any], life: dict[str, Any], canaries: dict[str, Any]) -> list[dict[str, Any]]:
    """What a node is told at ``attach`` beside what every node knows, the most first.

    Nodes of former releases refuse what they don't know; without it their answers say enough.

    Args:
        known: what we know of its store.
        life: of this process.
        canaries: by which roads they are answered.
    """
    most = {**known, **life, **canaries}
    found = [{**most, "binary": True}, most, {**known, **life}, known]
    return [one for place, one in enumerate(found) if one and one not in found[:place]]
