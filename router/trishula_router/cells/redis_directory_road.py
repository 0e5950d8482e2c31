"""The road of directories over Redis.

- ``trishula:cells:beats``, a hash: cell → its last beat, sealed.
- ``trishula:cells:beats:at``, a sorted set: cell by the instant (ms, by the clock of Redis) of that beat. So a node
  asks for the beats that came since it asked last: what that costs follows how many cells there are, not agents.
- ``trishula:cells:directories``, a hash: cell → what it says of its agents, of which its beat has the digest. Whoever
  has not read that digest reads it.

Who tells takes out cells that have told nothing for a week.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trishula_router.cells.directory_road import Heard
from trishula_router.cells.redis_connection import RedisConnection
from trishula_router.settings.cells import CellOptions

__all__ = ["RedisDirectoryRoad"]

_BEATS, _AT, _AGENTS = "trishula:cells:beats", "trishula:cells:beats:at", "trishula:cells:directories"

#: KEYS: beats (hash), when (sorted set), agents (hash). ARGV: cell, beat, for how long they are kept (ms), and the
#: agents, unless they are as before.
_TELL = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[4] then
    redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3], 'LIMIT', 0, 20)
for _, cell in ipairs(over) do
    redis.call('HDEL', KEYS[1], cell)
    redis.call('HDEL', KEYS[3], cell)
    redis.call('ZREM', KEYS[2], cell)
end
return before
"""

#: KEYS: beats, when. ARGV: since when (ms). Gives now, then of each cell its name, the instant and its beat.
_HEAR = """
local time = redis.call('TIME')
local told = {time[1] * 1000 + math.floor(time[2] / 1000)}
local found = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[1], '+inf', 'WITHSCORES')
for at = 1, #found, 2 do
    told[#told + 1] = found[at]
    told[#told + 1] = found[at + 1]
    told[#told + 1] = redis.call('HGET', KEYS[1], found[at]) or ''
end
return told
"""


class RedisDirectoryRoad:
    """See the module's docstring, and :class:`.directory_road.DirectoryRoad`.

    Args:
        options: with ``redis``.
        base: the state directory, where relative paths start.
    """

    def __init__(self, options: CellOptions, base: Path) -> None:
        self._connection = RedisConnection(options, base)

    def tell(self, cell: str, beat: bytes, agents: bytes | None, kept_s: float) -> bytes | None:
        """See :class:`.directory_road.DirectoryRoad`."""
        arguments: list[Any] = [cell, beat, round(kept_s * 1000)]
        if agents is not None:
            arguments.append(agents)
        with self._connection.step(self.close):
            before: Any = self._connection.client().eval(_TELL, 3, _BEATS, _AT, _AGENTS, *arguments)
            return None if before is None else bytes(before)

    def beats(self, since_ms: int) -> tuple[int, list[Heard]]:
        """See :class:`.directory_road.DirectoryRoad`."""
        with self._connection.step(self.close):
            told: Any = self._connection.client().eval(_HEAR, 2, _BEATS, _AT, str(since_ms))
            now_ms = int(told[0])
            return now_ms, [
                Heard(cell.decode("utf-8", "replace"), beat, (now_ms - float(at)) / 1000)
                for cell, at, beat in zip(told[1::3], told[2::3], told[3::3], strict=True)
            ]

    def agents(self, cells: Sequence[str]) -> list[bytes | None]:
        """See :class:`.directory_road.DirectoryRoad`."""
        if not cells:
            return []
        with self._connection.step(self.close):
            found: Any = self._connection.client().hmget(_AGENTS, list(cells))
            return list(found)

    def close(self) -> None:
        """See :class:`.directory_road.DirectoryRoad`."""
        self._connection.close()
