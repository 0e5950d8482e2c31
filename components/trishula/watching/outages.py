"""Stretches of time, as lists of (from, until) in ms: when a node was down, and when that was planned.

A bus of several nodes is down while all of its nodes are: what all lists have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Stretch", "common", "length_ms", "united", "within", "without"]

#: From, and until; ms since the epoch.
Stretch = tuple[int, int]


def united(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same time in order, each instant once."""
    found: list[Stretch] = []
    for begin, end in sorted(stretches):
        if end <= begin:
            continue
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def within(stretches: Iterable[Stretch], begin: int, end: int) -> list[Stretch]:
    """What lies between two instants."""
    return [(max(a, begin), min(b, end)) for a, b in stretches if min(b, end) > max(a, begin)]


def common(lists: Sequence[Sequence[Stretch]]) -> list[Stretch]:
    """What lies in every list; nothing of no lists."""
    if not lists:
        return []
    found = united(lists[0])
    for other in lists[1:]:
        found = [piece for begin, end in united(other) for piece in within(found, begin, end)]
    return united(found)


def without(stretches: Iterable[Stretch], others: Iterable[Stretch]) -> list[Stretch]:
    """What lies in none of the others."""
    left = united(stretches)
    for begin, end in united(others):
        left = [piece for a, b in left for piece in ((a, min(b, begin)), (max(a, end), b)) if piece[1] > piece[0]]
    return left


def length_ms(stretches: Iterable[Stretch]) -> int:
    """How long they are together."""
    return sum(end - begin for begin, end in united(stretches))
