"""Garbage that is large: who collects it before there is much of it.

The router hands an event out by functions that refer to themselves, so what it sent stays until Python's collector
comes by; and that one counts objects, not bytes. A stream of large messages makes few objects: hundreds of megabytes of
what had been sent long ago lay about. So what is large and passes through is counted by its bytes, and after so many of
them the young objects are collected, some milliseconds' work. The old ones are left to
:mod:`trishula_router.old_objects`.

What is free is not yet the machine's: the C library keeps it, in pieces between what is in use. Once large things have
passed and a while is quiet, it is given back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol

__all__ = ["SWEEP_BYTES", "Sweeper", "give_back"]

#: How much may lie about.
SWEEP_BYTES = 16 * 1024 * 1024
#: Smaller things, such as a full call of small messages, come with so many objects that Python's own count does.
_LARGE_BYTES = 16 * 1024


class Rest(Protocol):
    """What is called at the end of a round."""

    def __call__(self, *, is_quiet: bool) -> None: ...


class Sweeper:
    """Counts what passes.

    Args:
        collect: has the young objects collected.
        give_back: has free memory given back to the machine.
        rest: is called at the end of each round, with whether nothing passed in it, however small.
    """

    def __init__(
        self,
        collect: Callable[[], object],
        give_back: Callable[[], object] = lambda: None,
        rest: Rest = lambda *, is_quiet: None,
    ) -> None:
        self._collect = collect
        self._give_back = give_back
        self._rest = rest
        self._is_quiet = True
        self._passed_bytes = 0
        # Since memory was given back, and in this round.
        self._kept_bytes = self._recent_bytes = 0

    def passed(self, size_bytes: int) -> None:
        """Something of that size was sent, or came in."""
        self._is_quiet = False
        if size_bytes < _LARGE_BYTES:
            return
        self._passed_bytes += size_bytes
        self._recent_bytes += size_bytes
        if self._passed_bytes >= SWEEP_BYTES:
            self._passed_bytes = 0
            self._collect()

    def rest(self) -> None:
        """A round of half a second or so is over."""
        self._kept_bytes += self._recent_bytes
        # While more passes, what is free is used again.
        if self._recent_bytes == 0 and self._kept_bytes >= SWEEP_BYTES:
            self._kept_bytes = self._passed_bytes = 0
            self._collect()
            self._give_back()
        self._recent_bytes = 0
        is_quiet, self._is_quiet = self._is_quiet, True
        self._rest(is_quiet=is_quiet)


def give_back() -> None:
    """Give free memory back to the machine, where the C library is one that keeps it (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
