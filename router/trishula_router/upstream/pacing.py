"""How many strangers of one IP address a node sees to: each handshake costs it a millisecond, and others wait for that.

Whoever opens WebSockets and never joins, with wrong tokens or garbage, can do so two thousand times a second, and then
the node does little else. So each address has a bucket: a connection takes a token when it sends its first bytes, and
whoever joins puts it back, so that agents pay nothing, however many come at once. A connection without a token waits
unread. The one that came last is next: who is in earnest finds few before it, while a queue of an attacker's would take
it longer than it has.

Policy only; instants are seconds.
"""

from __future__ import annotations

from collections import OrderedDict

from trishula_router.token_bucket import Rate, TokenBucket

__all__ = ["Pace"]

#: At once, of those that may still join; and a second, of those that did not.
_RATE = Rate(per_s=40.0, burst=128)
#: So many addresses are remembered.
_MOST = 10_000


class Pace:
    """The buckets of all addresses."""

    def __init__(self) -> None:
        # The one first that came last longest ago.
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def begins(self, site: str, now_s: float) -> bool:
        """A connection begins; whether it may, and then it has taken a token."""
        bucket = self._buckets.get(site)
        if bucket is None:
            bucket = self._buckets[site] = TokenBucket(_RATE, now_s)
            if len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(site)
        if bucket.wait_s(now_s) > 0.0:
            return False
        bucket.take()
        return True

    def joined(self, site: str) -> None:
        """One that had begun is in earnest."""
        bucket = self._buckets.get(site)
        if bucket is not None:
            bucket.take(-1)
