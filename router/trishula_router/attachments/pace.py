"""How fast one agent's attachments go: a budget of bytes, and few pieces under way. Others' messages pass between.

A piece that comes early waits for its answer; who has too many under way is refused for now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from twisted.internet.defer import Deferred

from trishula.errors import RateLimited
from trishula_router.clocks.clock import Clock
from trishula_router.token_bucket import Rate, TokenBucket

__all__ = ["UNDER_WAY", "Pace"]

#: So many pieces of one agent may be under way; our clients have two for each file.
UNDER_WAY = 8
#: Of so many agents it is known how fast they were.
_MOST_KNOWN = 1000


class Pace:
    """See the module's docstring.

    Args:
        rate_bytes: how much a second one agent may have in the long run.
        clock: timers and spans.
    """

    def __init__(self, rate_bytes: int, clock: Clock) -> None:
        self._rate_bytes = rate_bytes
        self._clock = clock
        self._under_way: dict[str, int] = {}
        self._buckets: dict[str, TokenBucket] = {}

    @contextlib.contextmanager
    def counted(self, agent: str) -> Iterator[None]:
        """A piece is under way.

        Raises:
            RateLimited: there are too many.
        """
        count = self._under_way.get(agent, 0)
        if count >= UNDER_WAY:
            raise RateLimited(
                f"{agent} has {count} pieces of attachments under way, as many as may; wait for their answers",
                retry_after_s=1.0,
            )
        self._under_way[agent] = count + 1
        try:
            yield
        finally:
            left = self._under_way[agent] - 1
            if left:
                self._under_way[agent] = left
            else:
                del self._under_way[agent]

    async def wait(self, agent: str, size_bytes: int) -> None:
        """Wait until an agent may have so much more."""
        now_s = self._clock.seconds()
        bucket = self._buckets.get(agent)
        if bucket is None:
            if len(self._buckets) >= _MOST_KNOWN:
                self._buckets.clear()
            burst = max(self._rate_bytes // 8, 1)
            bucket = self._buckets[agent] = TokenBucket(Rate(self._rate_bytes, burst), now_s)
        wait_s = bucket.wait_s(now_s, size_bytes)
        # Whoever comes next waits for this one too.
        bucket.take(size_bytes)
        if wait_s > 0:
            pause: Deferred[None] = Deferred()
            self._clock.callLater(wait_s, pause.callback, None)
            await pause
