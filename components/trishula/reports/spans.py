"""Spans of time in which something was so: a node up, an agent there, an incident. Instants are ms since the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Span", "clipped", "length_ms", "merged"]

#: From an instant until another.
Span = tuple[int, int]


def clipped(spans: Iterable[Span], since: int, until: int) -> list[Span]:
    """What of the spans lies within a time, in order."""
    found = ((max(begin, since), min(end, until)) for begin, end in spans)
    return sorted((begin, end) for begin, end in found if begin < end)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same time without overlaps, in order."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def common(all_of: Sequence[Sequence[Span]]) -> list[Span]:
    """The time that lies in spans of each; all of no sequences is no time."""
    if not all_of:
        return []
    found = merged(all_of[0])
    for others in all_of[1:]:
        found = sorted(
            (max(begin, low), min(end, high))
            for begin, end in found
            for low, high in merged(others)
            if max(begin, low) < min(end, high)
        )
    return found


def length_ms(spans: Iterable[Span]) -> int:
    """How long the spans are together, without overlaps."""
    return sum(end - begin for begin, end in merged(spans))
