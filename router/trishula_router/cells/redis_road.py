"""The road over Redis: a stream for each cell, and a hash of homes with the instants at which they end.

- ``trishula:cells:in:CELL``, a stream: the entries for a cell. Its reader takes them out when they are on disk; beyond
  ``maxlen`` the oldest go.
- ``trishula:cells:homes``, a hash: address → cell, fence and seal.
- ``trishula:cells:homes:until``, a sorted set: address by the instant (ms, by the clock of Redis) when its home ends.
  Whoever puts homes down takes some of those out that have ended, here and from the hash.

A cell reads its stream as the group ``cell``, each of its nodes as a consumer of its own. So of two linked nodes that
both read, each entry goes to one, and what a node read and never acknowledged goes to the other one after a while.

A stream or group that was flushed is made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trishula_router.cells.redis_connection import RedisConnection, carry_out
from trishula_router.cells.road import Change, Entry, Fields
from trishula_router.settings.cells import CellOptions

__all__ = ["RedisRoad"]

#: What another reader of the cell has not acknowledged for so long is taken over.
TAKES_OVER_MS = 15_000
#: What others left is looked for once in so many reads.
_LOOKS_EACH = 8
_GROUP = "cell"
_HOMES, _UNTIL = "trishula:cells:homes", "trishula:cells:homes:until"

#: KEYS: homes (hash), until (sorted set). ARGV: how long in ms; then of each address it, what was seen ("" for nothing)
#: and the new home.
_PUT_HOMES = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 200)
for _, address in ipairs(over) do
    redis.call('HDEL', KEYS[1], address)
    redis.call('ZREM', KEYS[2], address)
end
local done = {}
for at = 2, #ARGV, 3 do
    local there = redis.call('HGET', KEYS[1], ARGV[at]) or ''
    if there == ARGV[at + 1] then
        redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2])
        redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[at])
        done[#done + 1] = 1
    else
        done[#done + 1] = 0
    end
end
return done
"""


class RedisRoad:
    """See the module's docstring, and :class:`.road.Road`.

    Args:
        options: with ``redis``.
        node: the node's name.
        base: the state directory, where relative paths start.
        takes_over_ms: see :data:`TAKES_OVER_MS`.

    Attributes:
        losses: see :class:`.road.Road`.
    """

    def __init__(self, options: CellOptions, node: str, base: Path, takes_over_ms: int = TAKES_OVER_MS) -> None:
        self._options = options
        self._node = node
        self._takes_over_ms = takes_over_ms
        self._connection = RedisConnection(options, base)
        # What this node read before, and never took out, comes first: the id after which it goes on, while it does.
        self._after: str | None = "0"
        self._reads = 0
        self._has_read = False
        self.losses = 0

    @property
    def where(self) -> str:
        """Host and port, or the sentinels; no user."""
        return self._connection.where

    def append(self, entries: Sequence[tuple[str, Fields]], worked_off: Sequence[str] = ()) -> None:
        """See :class:`.road.Road`; the streams keep about ``maxlen`` entries."""
        with self._connection.step(self.close):
            pipeline = self._connection.client().pipeline(transaction=False)
            if worked_off:
                pipeline.xack(_stream(self._options.name), _GROUP, *worked_off)
                pipeline.xdel(_stream(self._options.name), *worked_off)
            for cell, fields in entries:
                told: dict[Any, Any] = dict(fields)
                pipeline.xadd(_stream(cell), told, maxlen=self._options.maxlen, approximate=True)
            carry_out(pipeline)

    def read(self, limit: int, wait_s: float) -> list[Entry]:
        """See :class:`.road.Road`."""
        with self._connection.step(self.close):
            if self._after is not None:
                found = self._read(self._after, limit, None)
                self._after = found[-1].id if found else None
                if found:
                    return found
            self._reads += 1
            left = self._left(limit) if self._reads % _LOOKS_EACH == 1 else []
            return left or self._read(">", limit, max(1, round(wait_s * 1000)))

    def _read(self, after: str, limit: int, wait_ms: int | None) -> list[Entry]:
        import redis

        stream = _stream(self._options.name)

        def ask() -> Any:
            return self._connection.client().xreadgroup(_GROUP, self._node, {stream: after}, count=limit, block=wait_ms)

        try:
            answer = ask()
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self.losses += self._has_read
            self._make_group()
            answer = ask()
        self._has_read = True
        return _entries(_of_stream(answer))

    def _make_group(self) -> None:
        import redis

        try:
            self._connection.client().xgroup_create(_stream(self._options.name), _GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _left(self, limit: int) -> list[Entry]:
        """What other nodes of the cell read, and left."""
        import redis

        try:
            answer: Any = self._connection.client().xautoclaim(
                _stream(self._options.name), _GROUP, self._node, min_idle_time=self._takes_over_ms, count=limit
            )
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return []
        return _entries(answer[1])

    def homes(self, addresses: Sequence[str]) -> list[bytes | None]:
        """See :class:`.road.Road`."""
        if not addresses:
            return []
        with self._connection.step(self.close):
            found: Any = self._connection.client().hmget(_HOMES, list(addresses))
            return list(found)

    def put_homes(self, changes: Sequence[Change], ttl_s: float) -> list[bool]:
        """See :class:`.road.Road`."""
        if not changes:
            return []
        arguments: list[Any] = [round(ttl_s * 1000)]
        for change in changes:
            arguments += [change.address, change.seen or b"", change.home]
        with self._connection.step(self.close):
            done: Any = self._connection.client().eval(_PUT_HOMES, 2, _HOMES, _UNTIL, *arguments)
            return [one == 1 for one in done]

    def close(self) -> None:
        """See :class:`.road.Road`."""
        self._after = "0"
        self._connection.close()


def _stream(cell: str) -> str:
    return f"trishula:cells:in:{cell}"


def _of_stream(answer: Any) -> Any:
    """The entries of the one stream in an answer: a list in one version of the protocol, and a map in another."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (found,) = answer.values()
        # A list of lists in redis-py's map.
        return found[0] if found and isinstance(found[0], list) else found
    return answer[0][1]


def _entries(found: Any) -> list[Entry]:
    # What was deleted while it was pending has no fields.
    return [Entry(entry_id.decode(), fields or {}) for entry_id, fields in found]
