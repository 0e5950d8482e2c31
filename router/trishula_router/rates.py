"""Rates: how fast one agent may send, and how many refusals of it are noted. Policy only: every verb takes ``now_s``.

A *token bucket* holds up to ``burst`` tokens and gets ``per_s`` new ones a second; a message takes one, a broadcast
takes one of the agent's broadcasts as well. Whoever finds the bucket empty is told when to try again.

**Closed after a refusal.** After a refusal nothing of that agent is taken until the instant it was told; then its
outbox offers what it has in large calls, not each message as a token comes in. That keeps the calls few; what keeps the
order, also of a call that comes late, is :mod:`.holds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trishula.errors import RateLimited, TrishulaError

__all__ = ["Rate", "Rates", "Refusals", "TokenBucket"]

#: No refusal is for less: a client's calls that are under way must find the door closed, and a retry costs a call.
_LEAST_PAUSE_S = 0.1

#: Refusals of one agent that are noted one by one, and how often one more is, after that: an agent that is refused a
#: thousand times a second must not fill the disk.
_NOTED = 20
_NOTED_PER_S = 1 / 30


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second in the long run, so many at once."""

    per_s: float
    burst: int


class TokenBucket:
    """See the module's docstring. It is full at first."""

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._filled_s = now_s

    def wait_s(self, now_s: float) -> float:
        """How long until there is a token; 0 if there is one."""
        # A clock that was set back fills nothing, and takes nothing away.
        elapsed_s = max(0.0, now_s - self._filled_s)
        self._tokens = min(float(self._rate.burst), self._tokens + elapsed_s * self._rate.per_s)
        self._filled_s = now_s
        return max(0.0, (1.0 - self._tokens) / self._rate.per_s)

    def take(self) -> None:
        """Take a token; :meth:`wait_s` said that there is one."""
        self._tokens -= 1.0


@dataclass(slots=True)
class _Sender:
    messages: TokenBucket
    broadcasts: TokenBucket
    refused_s: float = 0.0
    closed_s: float = 0.0


class Rates:
    """What each agent has sent lately.

    Args:
        messages: of each agent.
        broadcasts: of each agent; they count as messages too.
    """

    def __init__(self, messages: Rate, broadcasts: Rate) -> None:
        self._messages = messages
        self._broadcasts = broadcasts
        self._senders: dict[str, _Sender] = {}

    def admit(self, agent: str, now_s: float, *, is_broadcast: bool = False) -> None:
        """Count a message.

        Raises:
            RateLimited: it comes too fast; then it is not counted.
        """
        sender = self._senders.get(agent)
        if sender is None:
            made = TokenBucket(self._messages, now_s), TokenBucket(self._broadcasts, now_s)
            sender = self._senders[agent] = _Sender(*made)
        # Set back, a clock must not keep anybody out for longer than was said.
        closed_s = sender.closed_s if now_s >= sender.refused_s else 0.0
        wait_s = sender.messages.wait_s(now_s)
        rate, what, key = self._messages, "messages", "rate"
        if is_broadcast and (broadcast_wait_s := sender.broadcasts.wait_s(now_s)) > wait_s:
            wait_s, rate, what, key = broadcast_wait_s, self._broadcasts, "broadcasts", "broadcast_rate"
        if wait_s <= 0.0 and closed_s <= now_s:
            sender.messages.take()
            if is_broadcast:
                sender.broadcasts.take()
            return
        pause_s = max(closed_s - now_s, wait_s if closed_s > now_s else max(wait_s, _LEAST_PAUSE_S))
        sender.refused_s, sender.closed_s = now_s, now_s + pause_s
        raise RateLimited(
            f"{agent} sends faster than this node lets it: {rate.per_s:g} {what} a second, {rate.burst} at once "
            f"(limits.{key}); nothing is lost, try again in {pause_s:.3g} s",
            retry_after_s=round(pause_s, 3),
        )


class Refusals:
    """Notes refusals that tell of a wrong-doer, and counts those that would be too many.

    Args:
        note: takes the facts of one record.
    """

    def __init__(self, note: Callable[[Mapping[str, Any]], None]) -> None:
        self._note = note
        self._buckets: dict[str, TokenBucket] = {}
        self._uncounted: dict[str, tuple[int, type[TrishulaError], str]] = {}

    def refused(self, agent: str, error: type[TrishulaError], detail: str, now_s: float) -> None:
        """An agent was refused something."""
        bucket = self._buckets.get(agent)
        if bucket is None:
            bucket = self._buckets[agent] = TokenBucket(Rate(_NOTED_PER_S, _NOTED), now_s)
        more, *_ = self._uncounted.get(agent, (0,))
        if bucket.wait_s(now_s) > 0.0:
            self._uncounted[agent] = (more + 1, error, detail)
            return
        bucket.take()
        self._uncounted.pop(agent, None)
        facts: dict[str, Any] = {"agent": agent, "error": error.uri, "detail": detail}
        self._note({**facts, "more": more} if more else facts)

    def flush(self, now_s: float) -> None:
        """Note the latest refusal of those that were only counted, as soon as it may be: to be called now and then."""
        for agent, (more, error, detail) in list(self._uncounted.items()):
            if self._buckets[agent].wait_s(now_s) <= 0.0:
                self._uncounted[agent] = (more - 1, error, detail)
                self.refused(agent, error, detail, now_s)
