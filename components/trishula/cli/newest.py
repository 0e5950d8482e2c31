"""The newest records of a journal that fit a question.

A node answers a question to its journal oldest first, page by page. So the end of the journal is asked for first: a
stretch of it, then the stretch before that, each longer than the last, until there are enough records or the journal is
at its beginning. Of all nodes' journals, which have no common numbers, a stretch of time takes the place of one of
numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PAGE", "Ask", "Found", "end_of", "newest", "newest_of_all"]

#: A node answers at most so many records at a time.
PAGE = 1000
#: How much longer each stretch is than the one behind it.
_GROWTH = 4
#: The first stretch of time.
_FIRST_MS = 60_000
#: How closely a stretch of time is narrowed in which there are too many records.
_CLOSE_MS = 1

#: Asks a node with options, as ``trishula.audit.query`` takes them; its answer.
Ask = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Found:
    """What was found.

    Attributes:
        records: oldest first.
        more: whether there are earlier ones that fit.
        after: the number of the newest record that was looked at.
        missing: what the node said of journals whose records it doesn't hold (any more).
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    more: bool = False
    after: int = 0
    missing: list[dict[str, Any]] = field(default_factory=list)


def newest(ask: Ask, options: Mapping[str, Any], count: int, end: int) -> Found:
    """The newest ``count`` records of one journal that fit ``options``.

    Args:
        ask: how to ask the node.
        options: the question, without ``after`` and ``limit``.
        count: how many at most.
        end: the number of the journal's newest record.
    """
    found = Found(after=end)
    stretch, behind = max(count, PAGE), end
    while behind > 0 and len(found.records) <= count:
        begin = max(0, behind - stretch)
        found.records[:0] = _stretch(ask, options, begin, behind, count + 1, found)
        behind, stretch = begin, stretch * _GROWTH
    found.more = len(found.records) > count
    found.records = found.records[-count:]
    return found


def _stretch(
    ask: Ask, options: Mapping[str, Any], begin: int, end: int, count: int, found: Found
) -> list[dict[str, Any]]:
    """The last ``count`` records behind ``begin``, up to ``end``."""
    kept: deque[dict[str, Any]] = deque(maxlen=count)
    place = begin
    while place < end:
        told = ask({**options, "after": place, "limit": PAGE})
        found.missing = list(told.get("missing", ()))
        kept.extend(record for record in told["records"] if record["seq"] <= end)
        if not told["more"] or told["after"] <= place:
            break
        place = told["after"]
    return list(kept)


def end_of(ask: Ask, node: str) -> int:
    """The number of the newest record of another node's journal here: it tells none, so it is sought."""

    def has_any(after: int) -> bool:
        return bool(ask({"node": node, "after": after, "limit": 1})["records"])

    if not has_any(0):
        return 0
    low, high = 0, 1
    while has_any(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if has_any(middle) else (low, middle)
    return high


def newest_of_all(ask: Ask, options: Mapping[str, Any], count: int, now_ms: int) -> Found:
    """The newest ``count`` records of the journals of all nodes, by time.

    Args:
        ask: how to ask the node.
        options: the question; it has ``node`` ``"*"``, and may have ``since``.
        count: how many at most, no more than :data:`PAGE`.
        now_ms: the time, in ms since the epoch. Clocks of other nodes may be ahead: nothing bounds the end.
    """
    first = int(options.get("since", 0))

    def since(at_ms: int) -> dict[str, Any]:
        return ask({**options, "since": at_ms, "limit": PAGE})

    span = _FIRST_MS
    told = since(max(first, now_ms - span))
    enough = 0
    while not told["more"] and len(told["records"]) <= count and now_ms - span > first:
        enough, span = span, span * _GROWTH
        told = since(max(first, now_ms - span))
    # Too many to be answered at once, and then it is the oldest that come: the stretch is narrowed.
    too_long = min(span, now_ms - first)
    while told["more"] and too_long - enough > _CLOSE_MS:
        middle = (enough + too_long) // 2
        narrower = since(now_ms - middle)
        if narrower["more"]:
            too_long = middle
        else:
            enough = middle
            if len(narrower["records"]) > count:
                told = narrower
                break
    if told["more"] and enough:
        told = {**since(now_ms - enough), "more": True}
    records = list(told["records"])
    return Found(
        records=records[-count:], more=len(records) > count or bool(told["more"]), missing=list(told.get("missing", ()))
    )
