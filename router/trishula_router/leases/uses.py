"""Uses: who of one agent uses a lease. Its handlers and scripts share what it has, and whoever leaves last ends it.

A claim that names its *use* wants the lease for as long as something runs: a block of ``async with``, a command of
``trishula lease run``. A claim that names none *keeps* the lease: it ends when the agent gives it back, whoever used it
meanwhile. That a lease is kept is in the records. The uses are not: they end with their sessions, and a process that
was killed and starts again uses the lease anew.

Policy only.
"""

from __future__ import annotations

from collections.abc import Callable

from trishula_router.leases.book import Lease

__all__ = ["Uses"]


class Uses:
    """See the module's docstring.

    Args:
        is_there: whether a session is.
    """

    def __init__(self, is_there: Callable[[int], bool]) -> None:
        self._is_there = is_there
        self._sessions: dict[str, dict[str, int]] = {}

    def note(self, lease: Lease, use: str, session: int) -> None:
        """A session claimed it for a use, or renewed it; "" is none."""
        if use:
            self._sessions.setdefault(lease.id, {})[use] = session

    def has(self, lease: Lease, use: str) -> bool:
        """Whether it was claimed for a use."""
        return use in self._sessions.get(lease.id, ())

    def give_back(self, lease: Lease, use: str) -> bool:
        """A use is over; whether that was the last one, so that the lease may end."""
        others = self._sessions.get(lease.id, {})
        others.pop(use, None)
        return not lease.kept and not any(self._is_there(session) for session in others.values())

    def forget(self, lease: Lease) -> None:
        """It ended."""
        self._sessions.pop(lease.id, None)
