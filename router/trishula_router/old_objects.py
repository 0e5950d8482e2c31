"""Python's collector in a node: how long each of its rounds has everybody wait.

A round over the old objects looks at all that live, be they garbage or not: 175 ms in a node that has many sessions and
mailboxes, and it comes by the count of objects, so in the middle of the work. So what survives such a round is frozen
here, and the next one looks only at what came since.

Frozen objects go when nothing refers to them any more, as all objects do; but garbage that refers to itself stays. So
once a lot was frozen, there is a round over everything, some 200 ms long. It waits until nobody was served for a while,
so that it is not what the next message after a breath has to wait for; unless there is so much that the memory matters
more.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Protocol, cast

__all__ = ["Collector", "OldObjects"]

#: How much of what was left of it may be frozen anew before a round over everything is due: when it is quiet, and
#: whatever goes on. A node begins with some 120,000 objects; four times as many are less than 100 MiB.
_DUE_WHEN_QUIET = 0.25
_DUE_AT_ONCE = 4.0
#: Ten seconds or so.
_QUIET_ROUNDS = 20
_OLDEST = 2


class Collector(Protocol):
    """What is used of the module ``gc``."""

    callbacks: list[Callable[[str, dict[str, Any]], None]]

    def collect(self) -> int: ...
    def freeze(self) -> None: ...
    def unfreeze(self) -> None: ...
    def get_freeze_count(self) -> int: ...
    def get_objects(self, generation: int) -> list[Any]: ...


class OldObjects:
    """Freezes them.

    Args:
        collector: Python's.
    """

    def __init__(self, collector: Collector | None = None) -> None:
        self._collector = cast("Collector", gc) if collector is None else collector
        #: How many objects were left by the last round over everything; and at most so many were frozen since.
        self._left = self._since = 0
        self._quiet_rounds = 0

    def begin(self) -> None:
        """What is there stays."""
        self._collector.collect()
        self._freeze_all()
        self._collector.callbacks.append(self._round)

    def rest(self, *, is_quiet: bool) -> None:
        """A round of half a second or so is over.

        Args:
            is_quiet: whether nobody was served in it.
        """
        self._quiet_rounds = self._quiet_rounds + 1 if is_quiet else 0
        due = self._left * (_DUE_WHEN_QUIET if self._quiet_rounds >= _QUIET_ROUNDS else _DUE_AT_ONCE)
        if self._since <= due:
            return
        # Most have gone by themselves since. To count takes some milliseconds, so it is done here only.
        self._since = self._collector.get_freeze_count() - self._left
        if self._since > due:
            self._look_at_everything()

    def _look_at_everything(self) -> None:
        self._collector.unfreeze()
        self._collector.collect()
        self._freeze_all()

    def _freeze_all(self) -> None:
        self._collector.freeze()
        self._left, self._since = self._collector.get_freeze_count(), 0

    def _round(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == _OLDEST:
            self._since += len(self._collector.get_objects(_OLDEST))
            self._collector.freeze()
