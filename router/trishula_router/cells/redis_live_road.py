"""The road of live events over Redis: its pub/sub, a channel for each topic (``trishula:cells:live:TOPIC``).

Not a stream: what is published is worth something to whoever listens now, and to nobody later. A stream would keep each
event, payload and all, in the memory of Redis; a single one would be read by every cell, whatever it wants of it, and
one for each topic would be left behind by each topic. With a channel a cell gets what its agents have subscribed to,
so what an event costs doesn't grow with the number of cells; and one that reads too slowly loses its connection, by
Redis' own bound (``client-output-buffer-limit pubsub``), rather than the memory of all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trishula_router.cells.redis_road import TIMEOUT_S, connected, where
from trishula_router.cells.road import RoadFailed
from trishula_router.redis_client import sentence_of
from trishula_router.settings.cells import CellOptions

if TYPE_CHECKING:
    import redis

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
        self._options = options
        self._base = base
        self._client: redis.Redis | None = None
        self._listening: Any = None
        self._channels: frozenset[str] = frozenset()

    @property
    def where(self) -> str:
        """Host and port, or the sentinels; no user."""
        return where(self._options)

    def say(self, told: Sequence[tuple[str, bytes]]) -> None:
        """See :class:`.live_road.LiveRoad`."""
        with self._told():
            pipeline = self._connected().pipeline(transaction=False)
            for channel, text in told:
                pipeline.publish(f"{_PREFIX}{channel}", text)
            # Left to itself it would put the beginning of what was said into the fault's text.
            fault = next((one for one in pipeline.execute(raise_on_error=False) if isinstance(one, Exception)), None)
            if fault is not None:
                raise fault

    def hear(self, channels: Set[str], wait_s: float) -> list[tuple[str, bytes]]:
        """See :class:`.live_road.LiveRoad`."""
        with self._told():
            if self._listening is None:
                client: Any = self._connected()
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
        client, self._client = self._client, None
        self._channels = frozenset()
        for one in (listening, client):
            if one is not None:
                with contextlib.suppress(Exception):
                    one.close()

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = connected(self._options, self._base)
        return self._client

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Make a :class:`.road.RoadFailed` of what goes wrong, and throw the connections away."""
        try:
            yield
        except Exception as error:
            self.close()
            why = sentence_of(error, "cells.redis_password", TIMEOUT_S)
            if why is None:
                raise
            raise RoadFailed(why) from None
