"""The traffic of a bus: who sends to whom, how fast, and how long messages take. No I/O and no clock.

It is counted from records of the journals that a node holds. A record ``accepted`` names sender and recipient; a record
``done`` lists positions of messages, so a message is found again by its position.

Of a bus that writes faster than anybody reads, records are passed over. So what is known of a journal is a number of
*stretches* of time, and a rate is what was counted within them divided by how long they are together: a rate stays
right however much lies between them. Instants are by the node's clock, in ms since the epoch.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trishula.watching.quantiles import quantile

__all__ = ["LATELY_MS", "WINDOW_MS", "Flow", "Latency", "Pair"]

#: So far back figures reach, and the rates of "just now".
WINDOW_MS, LATELY_MS = 60_000, 10_000
_BUCKET_MS = 1000
#: A rate of less time than this would be chance.
_LEAST_MS = 100
#: At most so many messages that are not done yet, and so many times that messages took, are remembered; the oldest are
#: forgotten first.
_MOST_OPEN, _MOST_SAMPLES = 20_000, 5000
#: Positions of other nodes' messages have the node's number above these bits.
_OWN_POSITIONS = 2**48

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """A sender and a recipient; agents, and ``capability:NAME``.

    Attributes:
        lately_per_s: messages a second within :data:`LATELY_MS`.
        per_s: the same within :data:`WINDOW_MS`.
    """

    sender: str
    recipient: str
    lately_per_s: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Latency:
    """How long messages took from their acceptance until they were done, of those that were done in the window.

    Attributes:
        messages: how many were measured.
        p50_ms: half of them took no longer; ``None`` if none was measured.
        p99_ms: the same of 99 %.
    """

    messages: int
    p50_ms: int | None
    p99_ms: int | None


class _Journal:
    """What was accepted by one node, by seconds, and of which stretches of time that is known."""

    def __init__(self) -> None:
        self.stretches: list[tuple[int, int]] = []
        self.buckets: dict[int, Counter[tuple[str, str]]] = {}

    def know(self, begin_at: int, end_at: int, *, goes_on: bool) -> None:
        if goes_on and self.stretches:
            begin_at = self.stretches.pop()[0]
        self.stretches.append((begin_at, max(begin_at, end_at)))

    def forget(self, before_at: int) -> None:
        self.stretches = [(begin, end) for begin, end in self.stretches if end >= before_at]
        for bucket in [bucket for bucket in self.buckets if (bucket + 1) * _BUCKET_MS <= before_at]:
            del self.buckets[bucket]

    def rates(self, now: int, span_ms: int) -> dict[tuple[str, str], float]:
        """Messages a second of each pair within the span."""
        # From the begin of a second on, because a second's messages are counted together.
        first = (now - span_ms) // _BUCKET_MS
        known_ms = sum(max(0, min(end, now) - max(begin, first * _BUCKET_MS)) for begin, end in self.stretches)
        counted: Counter[tuple[str, str]] = Counter()
        for bucket, pairs in self.buckets.items():
            if bucket >= first:
                counted.update(pairs)
        return {pair: count * 1000 / max(known_ms, _LEAST_MS) for pair, count in counted.items()}


class Flow:
    """Counts records as they are read; see the module's docstring.

    Attributes:
        passed_over: records that nobody read, since the flow began.
    """

    def __init__(self) -> None:
        self.passed_over = 0
        self._journals: dict[str | None, _Journal] = {}
        #: Position → when it was accepted, in the order of their coming.
        self._open: dict[int, int] = {}
        self._samples: deque[tuple[int, int]] = deque(maxlen=_MOST_SAMPLES)

    def add(
        self,
        records: Sequence[Record],
        now: int,
        *,
        node: str | None = None,
        is_whole: bool = False,
        passed_over: int | None = None,
        is_end: bool = True,
    ) -> None:
        """Take note of the next records of a journal.

        Args:
            records: in their order.
            now: the time.
            node: whose journal; ``None`` for that of the node which is asked. Only its messages are timed: two nodes'
                clocks make no good latency.
            is_whole: the journal begins with the first of the records.
            passed_over: how many were not read between those before and these; ``None`` if none were read before.
            is_end: there were no further ones when they were read.
        """
        self.passed_over += passed_over or 0
        journal = self._journals.setdefault(node, _Journal())
        instants = [_here_at(record) for record in records]
        begin_at = 0 if is_whole else instants[0] if instants else now
        end_at = now if is_end or not instants else instants[-1]
        journal.know(begin_at, end_at, goes_on=passed_over == 0)
        for at, record in zip(instants, records, strict=True):
            kind = record.get("kind")
            if kind == "accepted":
                pair = (_agent_of(record.get("from")), _agent_of(record.get("to")))
                journal.buckets.setdefault(at // _BUCKET_MS, Counter())[pair] += 1
                if node is None:
                    self._open[record["seq"]] = at
                    if len(self._open) > _MOST_OPEN:
                        del self._open[next(iter(self._open))]
            elif kind == "done" and node is None:
                self._done(record.get("messages", ()), at)
        journal.forget(now - WINDOW_MS - _BUCKET_MS)

    def _done(self, positions: Iterable[int], at: int) -> None:
        for position in positions:
            accepted_at = self._open.pop(position, None) if position < _OWN_POSITIONS else None
            if accepted_at is not None:
                self._samples.append((at, max(0, at - accepted_at)))

    def pairs(self, now: int) -> list[Pair]:
        """Who sent to whom within the window, the busiest just now first."""
        lately: dict[tuple[str, str], float] = {}
        window: dict[tuple[str, str], float] = {}
        for journal in self._journals.values():
            for rates, span_ms in ((lately, LATELY_MS), (window, WINDOW_MS)):
                for pair, per_s in journal.rates(now, span_ms).items():
                    rates[pair] = rates.get(pair, 0.0) + per_s
        found = [Pair(*pair, lately.get(pair, 0.0), per_s) for pair, per_s in window.items()]
        return sorted(found, key=lambda pair: (-pair.lately_per_s, -pair.per_s, pair.sender, pair.recipient))

    def latency(self, now: int) -> Latency:
        """Of the messages that were done within the window."""
        took_ms = sorted(took_ms for at, took_ms in self._samples if at >= now - WINDOW_MS)
        return Latency(len(took_ms), quantile(took_ms, 0.5), quantile(took_ms, 0.99))


def _agent_of(address: object) -> str:
    """``agni`` of ``agni/7f3a``."""
    return str(address).partition("/")[0]


def _here_at(record: Record) -> int:
    """When a record was written, by the clock of the node that is asked."""
    return int(record["at"]) - int(record.get("clock_ahead_ms", 0))
