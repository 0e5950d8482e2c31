"""What became of the messages of a span of time, by time and by pairs of agents. No I/O and no clock.

A message belongs to the instant at which a node accepted it. A record ``accepted`` names sender and recipient; records
``done``, ``dead``, ``expired`` and ``cancelled`` list positions. So a message's end is found by its position, in
whichever journal it stands, before the acceptance or behind it: journals are read one after the other.

A sender whose node is away offers a message to the next one, so that two nodes may accept it. It is one message: it
belongs to the first of these instants, and has the end that either of its positions has.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

from trishula.contract.addresses import agent_of
from trishula.watching.quantiles import spans, spread_of

__all__ = ["ENDS", "Messages"]

#: How a message can end.
ENDS = ("done", "dead", "expired", "cancelled")
#: A message that has an end by two nodes' records counts once, by the one that the bus holds with.
_WINS = {"done": 3, "dead": 2, "expired": 1, "cancelled": 1}

_Pair = tuple[str, str]
#: A message, whichever node accepted it: the sender, its id, which use of that id, the recipient.
_Key = tuple[str, str, int, str]


class Messages:
    """Counts records as they are read; see the module's docstring.

    Args:
        since: from which instant on a message belongs to the span, ms.
        until: from which on it doesn't any more.
        step_ms: how long a step of the series is.
    """

    def __init__(self, since: int, until: int, step_ms: int) -> None:
        self._since, self._until, self._step_ms = since, until, step_ms
        #: Position → when it was first accepted, and the number of its pair.
        self._accepted: dict[int, tuple[int, int]] = {}
        #: Message → the position that it is counted by.
        self._counted: dict[_Key, int] = {}
        #: A further position of a message → the one that it is counted by.
        self._further: dict[int, int] = {}
        #: Position → how and when it ended.
        self._ended: dict[int, tuple[str, int]] = {}
        self._pairs: dict[_Pair, int] = {}
        self.redeliveries = 0

    def add(self, kind: str, at: int, record: Mapping[str, Any]) -> None:
        """Take note of a record.

        Args:
            kind: of the record.
            at: its instant.
            record: as ``trishula.audit.query`` tells it.
        """
        if kind == "accepted":
            pair = agent_of(str(record.get("from"))), agent_of(str(record.get("to")))
            number = self._pairs.setdefault(pair, len(self._pairs))
            position = int(record.get("position", record["seq"]))
            key = pair[0], str(record.get("id")), int(record.get("use", 0)), str(record.get("to"))
            counted = self._counted.setdefault(key, position)
            if counted != position:
                self._further[position] = counted
                at = min(at, self._accepted[counted][0])
            self._accepted[counted] = at, number
        elif kind in _WINS:
            for position in record.get("messages", ()):
                self._end(position, kind, at)
        elif kind == "replayed":
            # A dead letter that is back in its mailbox has no end.
            for position in record.get("messages", ()):
                if self._ended.get(position, ("", 0))[1] <= at:
                    self._ended.pop(position, None)
        elif kind == "returned" and self._since <= at < self._until:
            self.redeliveries += len(record.get("messages", ()))

    def _end(self, position: int, kind: str, at: int) -> None:
        known = self._ended.get(position)
        if known is None or (_WINS[kind], -at) > (_WINS[known[0]], -known[1]):
            self._ended[position] = kind, at

    def told(self) -> dict[str, Any]:
        """``{messages, latency, series, pairs}``; see :mod:`trishula.reports.summary`."""
        names = list(self._pairs)
        totals: Counter[str] = Counter()
        took_ms = spans()
        steps: dict[int, tuple[Counter[str], array[int]]] = {}
        pairs: dict[int, tuple[Counter[str], array[int]]] = {}
        for position, counted in self._further.items():
            if position in self._ended:
                self._end(counted, *self._ended[position])
        for position, (at, number) in self._accepted.items():
            if not self._since <= at < self._until:
                continue
            end, ended_at = self._ended.get(position, ("open", 0))
            step = (at - self._since) // self._step_ms
            for counts, gathered in (
                (totals, took_ms),
                steps.setdefault(step, (Counter(), spans())),
                pairs.setdefault(number, (Counter(), spans())),
            ):
                counts["accepted"] += 1
                counts[end] += 1
                if end == "done":
                    gathered.append(max(0, ended_at - at))
        return {
            "messages": {**_counts(totals), "redeliveries": self.redeliveries},
            "latency": spread_of(took_ms),
            "series": [
                {"at": self._since + step * self._step_ms, **_counts(counts), **_quantiles(gathered)}
                for step, (counts, gathered) in sorted(steps.items())
            ],
            "pairs": sorted(
                (
                    {"from": names[number][0], "to": names[number][1], **_counts(counts), **_quantiles(gathered)}
                    for number, (counts, gathered) in pairs.items()
                ),
                key=lambda pair: (-pair["accepted"], pair["from"], pair["to"]),
            ),
        }


def _counts(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in ("accepted", *ENDS, "open")}


def _quantiles(took_ms: array[int]) -> dict[str, int | None]:
    spread = spread_of(took_ms)
    return {name: spread[name] for name in ("p50_ms", "p99_ms")}
