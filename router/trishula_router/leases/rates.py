"""How often an agent may claim, renew and list work leases: each is compared with all others, or written to the disk.

Policy only: ``now_s`` is given.
"""

from __future__ import annotations

from trishula.errors import RateLimited
from trishula_router.token_bucket import Rate, TokenBucket

__all__ = ["LEASE_RATE", "LeaseRates"]

#: A script that claims all that an agent may have gets it at once.
LEASE_RATE = Rate(5, 200)


class LeaseRates:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def admit(self, agent: str, now_s: float) -> None:
        """Count a call of an agent.

        Raises:
            RateLimited: it asks too often; then the call is not counted.
        """
        bucket = self._buckets.get(agent)
        if bucket is None:
            bucket = self._buckets[agent] = TokenBucket(LEASE_RATE, now_s)
        wait_s = bucket.wait_s(now_s)
        if wait_s > 0.0:
            raise RateLimited(
                f"{agent} claims, renews and lists work leases faster than {LEASE_RATE.per_s:g} a second, "
                f"{LEASE_RATE.burst} at once; what it has it keeps without renewing; try again in {wait_s:.3g} s",
                retry_after_s=round(wait_s, 3),
            )
        bucket.take()
