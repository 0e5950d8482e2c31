"""How it stands with a road: what fails, since when it is let alone, and the two lines of the log about it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from trishula.runtime.backoff import Backoff
from trishula_router.clocks.clock import Clock

__all__ = ["Standing"]

log = Logger()

_PAUSES = Backoff(first_s=0.5, factor=2.0, cap_s=15.0)


class Standing:
    """What becomes of the uses of a road: each is tried again by itself, after growing pauses.

    Args:
        where: it leads, for people.
        clock: of the pauses.
        random: spreads them.
        what: can't be reached then, for people.
        meanwhile: what becomes of what is for it.

    Attributes:
        errors: how often any of them failed.
    """

    def __init__(
        self,
        where: str,
        clock: Clock,
        random: Callable[[], float],
        what: str = "the cells",
        meanwhile: str = "what is for them waits, and nothing is lost",
    ) -> None:
        self._where = where
        self._what, self._meanwhile = what, meanwhile
        self._clock = clock
        self._random = random
        self._faults: dict[str, str] = {}
        self._failures: dict[str, int] = {}
        self._retry_s: dict[str, float] = {}
        self.errors = 0

    @property
    def fault(self) -> str | None:
        """Why something of it doesn't work, as a sentence; ``None`` while all does."""
        return next(iter(self._faults.values()), None)

    def may(self, use: str) -> bool:
        """Whether something is to be tried now."""
        return self._clock.seconds() >= self._retry_s.get(use, 0.0)

    def well(self, use: str) -> bool:
        """Something works; whether it didn't before."""
        self._failures.pop(use, None)
        if self._faults.pop(use, None) is None:
            return False
        if not self._faults:
            log.warn("{what} can be reached again by {where}", what=self._what, where=self._where)
        return True

    def failed(self, use: str, why: str) -> None:
        """Something doesn't work."""
        self.errors += 1
        if not self._faults:
            log.warn(
                "{what} can't be reached by {where} just now; {meanwhile}: {why}",
                what=self._what,
                where=self._where,
                meanwhile=self._meanwhile,
                why=why,
            )
        self._faults[use] = why
        self.pause(use)

    def pause(self, use: str) -> None:
        """Let something alone for a while."""
        failures = self._failures.get(use, 0)
        self._failures[use] = failures + 1
        self._retry_s[use] = self._clock.seconds() + _PAUSES.pause_s(failures, self._random)
