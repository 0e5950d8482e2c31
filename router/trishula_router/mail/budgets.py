"""Budgets: how much each agent may send within an hour, in messages and in bytes; both are off by default.

Rates (:mod:`.rates`) keep a node working, and are far above what one agent needs. A budget is what its keeper is ready
to pay for: a program that runs wild, or a model that talks too much, stops at it. It fills again bit by bit, so that
after a refusal the agent goes on at the pace that the budget allows. The refusal is the one of rates, which clients of
earlier releases know too: to them an error that they don't know is one for good. Answers to COMMANDs are counted and
never refused.

Policy only: every verb takes ``now_s``.
"""

from __future__ import annotations

from trishula.errors import RateLimited
from trishula_router.token_bucket import Rate, TokenBucket

__all__ = ["Budgets"]

_HOUR_S = 3600.0


class Budgets:
    """What is left of each agent's.

    Args:
        messages: how many messages an hour; 0 for any number.
        size_bytes: how many bytes an hour, as JSON with the envelope; 0 for any number.
    """

    def __init__(self, messages: int, size_bytes: int) -> None:
        self._rates = [
            (Rate(most / _HOUR_S, most), what, key)
            for most, what, key in (
                (messages, "messages", "hourly_messages"),
                (size_bytes, "bytes", "hourly_bytes"),
            )
            if most
        ]
        self._buckets: dict[str, list[TokenBucket]] = {}

    def admit(self, agent: str, size_bytes: int, now_s: float, *, is_answer: bool) -> None:
        """Count a message of an agent.

        Args:
            agent: who sends it.
            size_bytes: of the message.
            now_s: the clock.
            is_answer: whether it answers a COMMAND.

        Raises:
            RateLimited: there is nothing left for it; then it is not counted.
        """
        if not self._rates:
            return
        buckets = self._buckets.get(agent)
        if buckets is None:
            buckets = self._buckets[agent] = [TokenBucket(rate, now_s) for rate, _, _ in self._rates]
        for bucket, (rate, what, key) in zip(buckets, self._rates, strict=True):
            wait_s = bucket.wait_s(now_s, 1 if what == "messages" else size_bytes)
            if wait_s > 0.0 and not is_answer:
                raise RateLimited(
                    f"{agent} has used up its budget of {rate.burst:,} {what} an hour (limits.{key}); nothing is lost, "
                    f"try again in {wait_s:.3g} s",
                    retry_after_s=round(wait_s, 3),
                )
        for bucket, (_, what, _) in zip(buckets, self._rates, strict=True):
            bucket.take(1 if what == "messages" else size_bytes)
