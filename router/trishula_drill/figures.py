"""What a history tells of time: how long senders and receivers had to wait. Pure; no I/O."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from itertools import pairwise

from trishula_drill.history import Event, Handled, NodeKilled, Receipted, Sent

__all__ = ["delays_ms", "gaps_ms", "longest_pause_ms"]


def gaps_ms(events: Iterable[Event]) -> list[float]:
    """For each kill of a node and each sender that was on it: from the kill to its first receipt from another node."""
    at: dict[str, str] = {}
    waiting: dict[str, NodeKilled] = {}
    gaps = []
    for event in sorted(events, key=lambda event: event.at_ns):
        match event:
            case NodeKilled():
                waiting |= {who: event for who, node in at.items() if node == event.node}
            case Receipted():
                at[event.who] = event.node
                killed = waiting.get(event.who)
                # One that the killed node wrote in its last moment is still read from the socket.
                if killed is not None and killed.node != event.node:
                    gaps.append((event.at_ns - killed.at_ns) / 1e6)
                    del waiting[event.who]
            case _:
                pass
    return gaps


def longest_pause_ms(events: Iterable[Event], who: str, begin_ns: int, end_ns: int) -> float:
    """The longest time that a sender got no receipt, from the last one before an instant on, until another one."""
    at_ns = sorted(event.at_ns for event in events if isinstance(event, Receipted) and event.who == who)
    first = max(bisect.bisect_right(at_ns, begin_ns) - 1, 0)
    last = bisect.bisect_right(at_ns, end_ns) + 1
    return max(((later - earlier) / 1e6 for earlier, later in pairwise(at_ns[first:last])), default=math.inf)


def delays_ms(events: Iterable[Event]) -> tuple[float, float]:
    """From the sending of a message to its receipt, and to its first effect: the longest of each."""
    sent: dict[tuple[str, str], int] = {}
    receipts: dict[tuple[str, str], int] = {}
    effects: dict[tuple[str, str], int] = {}
    for event in sorted(events, key=lambda event: event.at_ns):
        match event:
            case Sent():
                sent.setdefault((event.who, event.id), event.at_ns)
            case Receipted():
                receipts.setdefault((event.who, event.id), event.at_ns)
            case Handled():
                effects.setdefault((event.sender, event.id), event.at_ns)
            case _:
                pass
    return _longest_ms(sent, receipts), _longest_ms(sent, effects)


def _longest_ms(begins: Mapping[tuple[str, str], int], ends: Mapping[tuple[str, str], int]) -> float:
    return max(((ends[key] - began_ns) / 1e6 for key, began_ns in begins.items() if key in ends), default=0.0)
