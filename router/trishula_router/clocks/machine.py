"""The machine's own clocks, and what names its starts."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.logger import Logger

__all__ = ["boot_id", "say_stepped", "steady_ms", "wall_clock_ms"]

log = Logger()

_STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wall_clock_ms() -> int:
    """The wall clock, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def steady_ms() -> float:
    """A clock that doesn't step, and goes on while the machine sleeps: else a laptop's nap would look like a step."""
    return time.clock_gettime_ns(_STEADY) / 1e6


def boot_id() -> str:
    """Names this start of the machine; "" where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def say_stepped(gap_ms: float) -> None:
    """The machine's clock was set."""
    log.warn(
        "the machine's clock is {gap} s {way} the node's now: somebody has set it; nothing expires earlier or later by "
        "that, and if it stays so for a minute, the node believes it",
        gap=round(abs(gap_ms) / 1000, 3),
        way="ahead of" if gap_ms > 0 else "behind",
    )
