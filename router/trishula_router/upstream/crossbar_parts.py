"""The parts of Crossbar's router that mends reach into, and whether they are built as a mend expects.

A mend takes hold of methods and tables that are private to one release of Crossbar. So each mend first asks for all of
them by name, with :func:`has`, and if one is missing or is something else it changes nothing and returns ``False``;
what the node does without it is said by :mod:`.mends`. A part that isn't there is ``None``, which has nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Parts", "has"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What Crossbar's router (26.10.1) consists of; each part is ``None`` if it isn't where it is expected.

    Attributes:
        router: of the realm.
        broker: carries events.
        dealer: carries calls.
        topics: the broker's subscriptions.
    """

    router: Any
    broker: Any
    dealer: Any
    topics: Any

    @classmethod
    def behind(cls, transport: object) -> Parts:
        """The parts of the router that an embedded session's ``transport`` leads into."""
        router = getattr(transport, "_router", None)
        broker = getattr(router, "_broker", None)
        return cls(router, broker, getattr(router, "_dealer", None), getattr(broker, "_subscription_map", None))


def has(part: object, *, verbs: Iterable[str] = (), tables: Iterable[str] = ()) -> bool:
    """Whether a part has all of these methods, and all of these tables (``dict``)."""
    return all(callable(getattr(part, name, None)) for name in verbs) and all(
        isinstance(getattr(part, name, None), dict) for name in tables
    )
