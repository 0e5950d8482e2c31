"""The road of live events over Redis: its pub/sub, a channel for each topic (``trishula:cells:live:TOPIC``).

Not a stream: what is published is worth something to whoever listens now, and to nobody later. A stream would keep each
event, payload and all, in the memory of Redis; a single one would be read by every cell, whatever it wants of it, and
one for each topic would be left behind by each topic. With a channel a cell gets what its agents have subscribed to,
so what an event costs doesn't grow with the number of cells; and one that reads too slowly loses its connection, by
Redis' own bound (``client-output-buffer-limit pubsub``), rather than the memory of all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from trishula_router.cells.redis_connection import RedisConnection, carry_out
from trishula_router.settings.cells import CellOptions

__all__ = ["RedisLiveRoad"]

_PREFIX = "trishula:cells:live:"
#: What is heard at a time.
_TOGETHER = 256
#: Channels that are asked for in one command.
_ASKED = 500


class RedisLiveRoad:
    """See the module's docstring, and :class:`.live_road.LiveRoad`.

    Args:
        options: with ``redis``.
        base: the state directory, where relative paths start.
    """

    def __init__(self, options: CellOptions, base: Path) -> None:
        self._connection = RedisConnection(options, base)
        self._listening: Any = None
        self._channels: frozenset[str] = frozenset()

    @property
    def where(self) -> str:
        """Host and port, or the sentinels; no user."""
        return self._connection.where

    def say(self, told: Sequence[tuple[str, bytes]]) -> None:
        """See :class:`.live_road.LiveRoad`."""
        with self._connection.step(self.close):
            pipeline = self._connection.client().pipeline(transaction=False)
            for channel, text in told:
                pipeline.publish(f"{_PREFIX}{channel}", text)
            carry_out(pipeline)

    def hear(self, channels: Set[str], wait_s: float) -> list[tuple[str, bytes]]:
        """See :class:`.live_road.LiveRoad`."""
        with self._connection.step(self.close):
            if self._listening is None:
                client: Any = self._connection.client()
                self._listening = client.pubsub()
                self._channels = frozenset()
            wanted = frozenset(channels)
            for verb, names in (
                (self._listening.subscribe, wanted - self._channels),
                (self._listening.unsubscribe, self._channels - wanted),
            ):
                asked = [f"{_PREFIX}{name}" for name in sorted(names)]
                for begin in range(0, len(asked), _ASKED):
                    verb(*asked[begin : begin + _ASKED])
            self._channels = wanted
            return self._heard(wait_s) if wanted else []

    def _heard(self, wait_s: float) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        message = self._listening.get_message(timeout=wait_s)
        while message is not None:
            if message["type"] == "message":
                found.append((message["channel"].decode()[len(_PREFIX) :], message["data"]))
            if len(found) >= _TOGETHER:
                break
            message = self._listening.get_message(timeout=0.0)
        return found

    def close(self) -> None:
        """See :class:`.live_road.LiveRoad`."""
        listening, self._listening = self._listening, None
        self._channels = frozenset()
        if listening is not None:
            with contextlib.suppress(Exception):
                listening.close()
        self._connection.close()
