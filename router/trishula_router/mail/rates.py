"""Rates: how fast one agent may send, and how many refusals of it are noted. Policy only: every verb takes ``now_s``.

A *token bucket* holds up to ``burst`` tokens and gets ``per_s`` new ones a second; a message takes one. A broadcast
takes one of the agent's broadcasts as well, and of its deliveries as many as it has recipients: what it costs everybody
is what it delivers. Whoever finds a bucket without what is needed is told when to try again. More than a bucket holds
is let through by a full one, which is in debt then, so that a broadcast to very many is seldom and not impossible.

**Closed after a refusal.** After a refusal nothing of that agent is taken until the instant it was told; then its
outbox offers what it has in large calls, not each message as a token comes in. That keeps the calls few; what keeps the
order, also of a call that comes late, is :mod:`.send_order`. After a broadcast too many only broadcasts are not taken:
for them the pause may be long, and what the agent has to say to one other goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from trishula.errors import RateLimited, TrishulaError
from trishula_router.store.facts import RefusedFacts
from trishula_router.token_bucket import Rate, TokenBucket

__all__ = [
    "Rates",
    "Refusals",
]

#: No refusal is for less: a client's calls that are under way must find the door closed, and a retry costs a call.
_LEAST_PAUSE_S = 0.1

#: Refusals of one agent that are noted one by one, and how often one more is, after that: an agent that is refused a
#: thousand times a second must not fill the disk.
_NOTED = 20
_NOTED_PER_S = 1 / 30


@dataclass(slots=True)
class _Door:
    """Closed after a refusal, until the instant that was told."""

    closed_s: float = 0.0
    _refused_s: float = 0.0

    def closed_until_s(self, now_s: float) -> float:
        # Set back, a clock must not keep anybody out for longer than was said.
        return self.closed_s if now_s >= self._refused_s else 0.0

    def close(self, now_s: float, until_s: float) -> None:
        self._refused_s, self.closed_s = now_s, until_s


class _Sender:
    def __init__(self, messages: TokenBucket, broadcasts: TokenBucket, deliveries: TokenBucket) -> None:
        self.messages = messages
        self.broadcasts = broadcasts
        self.deliveries = deliveries
        self.door = _Door()
        self.broadcast_door = _Door()


class Rates:
    """What each agent has sent lately.

    Args:
        messages: of each agent.
        broadcasts: of each agent; they count as messages too.
        deliveries: of each agent's broadcasts: one for each recipient.
    """

    def __init__(self, messages: Rate, broadcasts: Rate, deliveries: Rate) -> None:
        self._messages = messages
        self._broadcasts = broadcasts
        self._deliveries = deliveries
        self._senders: dict[str, _Sender] = {}

    def is_closed(self, agent: str, now_s: float) -> bool:
        """Whether an agent was refused, and the time that it was told to wait is not over."""
        sender = self._senders.get(agent)
        return sender is not None and sender.door.closed_until_s(now_s) > now_s

    def admit(self, agent: str, now_s: float, *, recipients: int | None = None) -> None:
        """Count a message.

        Args:
            agent: who sends it.
            now_s: the clock.
            recipients: of a broadcast: how many it has.

        Raises:
            RateLimited: it comes too fast; then it is not counted.
        """
        sender = self._senders.get(agent)
        if sender is None:
            sender = self._senders[agent] = _Sender(
                TokenBucket(self._messages, now_s),
                TokenBucket(self._broadcasts, now_s),
                TokenBucket(self._deliveries, now_s),
            )
        door, closed_s = sender.door, sender.door.closed_until_s(now_s)
        wait_s = sender.messages.wait_s(now_s)
        rate, what, key = self._messages, "messages", "rate"
        if recipients is not None and wait_s <= 0.0 and closed_s <= now_s:
            door, closed_s = sender.broadcast_door, sender.broadcast_door.closed_until_s(now_s)
            rate, what, key = self._broadcasts, "broadcasts", "broadcast_rate"
            wait_s = sender.broadcasts.wait_s(now_s)
            if (all_s := sender.deliveries.wait_s(now_s, recipients)) > wait_s:
                wait_s, rate, what = all_s, self._deliveries, "deliveries of broadcasts"
                key = "broadcast_deliveries"
        if wait_s <= 0.0 and closed_s <= now_s:
            sender.messages.take()
            if recipients is not None:
                sender.broadcasts.take()
                sender.deliveries.take(recipients)
            return
        pause_s = max(closed_s - now_s, wait_s if closed_s > now_s else max(wait_s, _LEAST_PAUSE_S))
        door.close(now_s, now_s + pause_s)
        raise RateLimited(
            f"{agent} sends faster than this node lets it: {rate.per_s:g} {what} a second, {rate.burst} at once "
            f"(limits.{key}); nothing is lost, try again in {pause_s:.3g} s",
            retry_after_s=round(pause_s, 3),
        )


class Refusals:
    """Notes refusals that tell of a wrong-doer, and counts those that would be too many.

    Args:
        note: takes the facts of one record.

    Attributes:
        counts: an error's URI → how many there were, noted or not.
    """

    def __init__(self, note: Callable[[RefusedFacts], None]) -> None:
        self._note = note
        self.counts: Counter[str] = Counter()
        self._buckets: dict[str, TokenBucket] = {}
        self._uncounted: dict[str, tuple[int, type[TrishulaError], str]] = {}

    def refused(self, agent: str, error: type[TrishulaError], detail: str, now_s: float) -> None:
        """An agent was refused something."""
        self.counts[str(error.uri)] += 1
        self._look(agent, error, detail, now_s)

    def _look(self, agent: str, error: type[TrishulaError], detail: str, now_s: float) -> None:
        bucket = self._buckets.get(agent)
        if bucket is None:
            bucket = self._buckets[agent] = TokenBucket(Rate(_NOTED_PER_S, _NOTED), now_s)
        more, *_ = self._uncounted.get(agent, (0,))
        if bucket.wait_s(now_s) > 0.0:
            self._uncounted[agent] = (more + 1, error, detail)
            return
        bucket.take()
        self._uncounted.pop(agent, None)
        self._note(RefusedFacts(agent, str(error.uri), detail, more=more))

    def flush(self, now_s: float) -> None:
        """Note the latest refusal of those that were only counted, as soon as it may be: to be called now and then."""
        for agent, (more, error, detail) in list(self._uncounted.items()):
            if self._buckets[agent].wait_s(now_s) <= 0.0:
                self._uncounted[agent] = (more - 1, error, detail)
                self._look(agent, error, detail, now_s)
