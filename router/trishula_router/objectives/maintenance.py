"""Planned maintenance: stretches of time that operators declared, in which it is no fault of the service to be down.

It is declared before or while it happens, for a time at most, so that nobody forgets to end it. Instants are ms. Policy
only.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trishula.watching.outages import Stretch

__all__ = ["LONGEST_S", "Declared", "Maintenance"]

#: What lasts longer is no maintenance.
LONGEST_S = 7 * 86_400.0
#: So many are kept.
_MOST = 500


class Declared(msgspec.Struct, kw_only=True):
    """Maintenance that somebody declared.

    Attributes:
        begin: from when.
        until: until when, at most.
        reason: why; one line.
        by: which operator said so.
    """

    begin: int
    until: int
    reason: str
    by: str


class Maintenance:
    """What was declared, oldest first.

    Args:
        declared: what was kept.
    """

    def __init__(self, declared: list[Declared] | None = None) -> None:
        self._declared = declared or []

    def start(self, now: int, for_s: float, reason: str, by: str) -> Declared:
        """Maintenance begins now; one that is under way goes on, with the new end and the new reason."""
        running = self.running(now)
        until = now + round(for_s * 1000)
        if running is not None:
            running.until, running.reason, running.by = until, reason, by
            return running
        declared = Declared(begin=now, until=until, reason=reason, by=by)
        self._declared = [*self._declared[-_MOST + 1 :], declared]
        return declared

    def end(self, now: int) -> Declared | None:
        """It is over; returns what was under way, ``None`` if nothing was."""
        running = self.running(now)
        if running is not None:
            running.until = now
        return running

    def running(self, now: int) -> Declared | None:
        """What is under way."""
        return next((one for one in reversed(self._declared) if one.begin <= now < one.until), None)

    def stretches(self) -> list[Stretch]:
        """When."""
        return [(one.begin, one.until) for one in self._declared]

    def told(self, since: int) -> list[dict[str, Any]]:
        """All that was not over at an instant, as it travels."""
        return [msgspec.structs.asdict(one) for one in self._declared if one.until > since]

    def to_save(self) -> list[Declared]:
        """All of it, to be kept."""
        return self._declared
