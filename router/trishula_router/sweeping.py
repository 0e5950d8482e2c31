"""Garbage that is large: who collects it before there is much of it.

The router hands an event out by functions that refer to themselves, so what it sent stays until Python's collector
comes by; and that one counts objects, not bytes. A stream of large messages makes few objects: hundreds of megabytes of
what had been sent long ago lay about. So what is large and passes through is counted by its bytes, and after so many of
them the young objects are collected, some milliseconds' work. The old ones are left to Python.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SWEEP_BYTES", "Sweeper"]

#: How much may lie about.
SWEEP_BYTES = 16 * 1024 * 1024
#: Smaller things, such as a full call of small messages, come with so many objects that Python's own count does.
_LARGE_BYTES = 64 * 1024


class Sweeper:
    """Counts what passes.

    Args:
        collect: has the young objects collected.
    """

    def __init__(self, collect: Callable[[], object]) -> None:
        self._collect = collect
        self._passed_bytes = 0

    def passed(self, size_bytes: int) -> None:
        """Something of that size was sent, or came in."""
        if size_bytes < _LARGE_BYTES:
            return
        self._passed_bytes += size_bytes
        if self._passed_bytes >= SWEEP_BYTES:
            self._passed_bytes = 0
            self._collect()
