"""A work lease: what one agent works on, and nobody else meanwhile.

::

    async with agent.lease("path:src/**", ttl=120, note="renames") as lease:
        ...                                  # nobody else is granted what overlaps with it
        await deploy(fence=lease.fence)      # who guards something refuses a lower fence than it has seen

The node keeps the lease for as long as the agent has a session, and ``ttl`` seconds longer: so it survives a restart of
the node, a failover and a model that thinks for an hour, and is handed over when the agent has died.

What an agent has leased its handlers and scripts share. Each ``async with`` is a *use* of the lease: leaving ends the
lease only if nobody else of the agent uses it, and if the agent doesn't keep it, as ``trishula lease claim`` and a
model's tools do.
:mod:`trishula.contract.scopes` says what can be leased and what overlaps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import msgspec

from trishula.contract import uris
from trishula.contract.texts import show_value
from trishula.errors import LeaseTaken, TrishulaError

__all__ = ["BlockingLease", "WorkLease", "blockers_told"]

#: One call waits so long for its turn at most; a node allows up to a minute.
_ONE_WAIT_S = 20.0
_ANSWER_S = 10.0
_MOST_NAMED = 3
#: A wait of threads takes no infinity; this is a year.
_FOR_EVER_S = 366 * 86_400.0

Request = Callable[..., Awaitable[Any]]


class _Told(msgspec.Struct):
    """What a node says of a lease; what isn't known here is left out."""

    id: str
    state: str
    fence: int | None = None
    provisional: bool = False
    node: str = ""
    blockers: list[dict[str, Any]] = []


class WorkLease:
    """A lease, in ``async with``; see the module's docstring.

    Args:
        request: asks the node, as :meth:`trishula.verbs.Verbs.request`.
        scope: what to lease.
        shared: whether others may share it.
        ttl: for how many seconds it stays when our agent is gone.
        timeout: how long to wait for it, in seconds; as long as it takes if ``None``.
        note: what for, in one line that others see.
        sure: whether a provisional lease is none.
        take_over: whether to end leases in its way whose node can't be reached.
        use: a name that no other use of a lease has.
        seconds: the clock for spans.

    Attributes:
        id: the lease's name; empty before it is granted.
        fence: its fencing token: higher for each lease that is granted, over restarts and failovers; 0 before that.
        provisional: whether a linked node has not confirmed it; such a node may have granted the same.
    """

    def __init__(
        self,
        request: Request,
        scope: str,
        *,
        shared: bool,
        ttl: float,
        timeout: float | None,
        note: str,
        sure: bool,
        take_over: bool,
        use: str,
        seconds: Callable[[], float],
    ) -> None:
        self._request = request
        self._scope = scope
        self._use = {"use": use}
        self._options = {"shared": shared, "ttl_s": ttl, "note": note, "sure": sure, "take_over": take_over}
        self._timeout_s = timeout
        self._seconds = seconds
        self.id = ""
        self.fence = 0
        self.provisional = False

    async def claim(self) -> WorkLease:
        """Wait for the lease; ``async with`` does it.

        Raises:
            LeaseTaken: others have it, and did not give it back in time.
            LeaseUnsure, LeasesExceeded, ArgumentInvalid: the node's refusal.
            BusUnreachable, OutcomeUnknown: no node answered in time.
        """
        until_s = float("inf") if self._timeout_s is None else self._seconds() + self._timeout_s
        try:
            while True:
                wait_s = max(0.0, min(_ONE_WAIT_S, until_s - self._seconds()))
                options = {**self._options, **self._use, "wait_s": wait_s, "queue": wait_s > 0}
                timeout_s = wait_s + _ANSWER_S
                told = self._take(await self._request(uris.LEASE_CLAIM, self._scope, options, timeout=timeout_s))
                if told.state == "granted":
                    return self
                if self._seconds() >= until_s:
                    raise LeaseTaken(f"{self._scope} is not to be had: {blockers_told(told.blockers)}")
        except BaseException:
            if not self.fence:
                await self._withdraw()
            raise

    def _take(self, raw: Any) -> _Told:
        told = msgspec.convert(raw, _Told)
        if told.state == "granted":
            self.id, self.fence, self.provisional = told.id, told.fence or 0, told.provisional
        return told

    async def _withdraw(self) -> None:
        # It was refused, or ends by itself when our session does.
        with contextlib.suppress(TrishulaError):
            await self._request(uris.LEASE_RELEASE, self._scope, self._use, timeout=_ANSWER_S)

    async def renew(self, ttl: float | None = None) -> None:
        """Make sure that we still have it, and perhaps for how many seconds it is to stay without us.

        A session that lives needs no renewal.

        Raises:
            LeaseUnknown: it is lost: stop what it was for.
            TrishulaError: as :meth:`claim`.
        """
        options = self._use if ttl is None else {**self._use, "ttl_s": ttl}
        self._take(await self._request(uris.LEASE_RENEW, self.id, options, timeout=_ANSWER_S))

    async def release(self) -> None:
        """Give it back; leaving ``async with`` does it. It stays while others of the agent use it.

        Raises:
            LeaseUnknown: it was lost meanwhile, and somebody else may have worked on the same.
            TrishulaError: as :meth:`claim`.
        """
        await self._request(uris.LEASE_RELEASE, self.id, self._use, timeout=_ANSWER_S)

    async def __aenter__(self) -> WorkLease:
        return await self.claim()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            await self.release()
        except TrishulaError:
            # What went wrong first is what has to be told.
            if error is None:
                raise


class BlockingLease:
    """A :class:`WorkLease` for a program that waits: ``with bus.lease("task:ISSUE-17") as lease:``.

    Args:
        lease: the lease.
        wait: runs one of its coroutines and waits for it: (how long at most in seconds, the coroutine function, …).
        timeout: how long the claim may take.
    """

    def __init__(self, lease: WorkLease, wait: Callable[..., Any], timeout: float | None) -> None:
        self._lease = lease
        self._wait = wait
        self._timeout_s = _FOR_EVER_S if timeout is None else timeout

    @property
    def id(self) -> str:
        """The lease's name; empty before it is granted."""
        return self._lease.id

    @property
    def fence(self) -> int:
        """Its fencing token; 0 before it is granted."""
        return self._lease.fence

    @property
    def provisional(self) -> bool:
        """Whether a linked node has not confirmed it."""
        return self._lease.provisional

    def renew(self, ttl: float | None = None) -> None:
        """As :meth:`WorkLease.renew`."""
        self._wait(_ANSWER_S, self._lease.renew, ttl)

    def __enter__(self) -> BlockingLease:
        self._wait(self._timeout_s + 2 * _ANSWER_S, self._lease.claim)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._wait(_ANSWER_S, self._lease.__aexit__, kind, error, at)


def blockers_told(blockers: list[dict[str, Any]]) -> str:
    """Who has what is in the way of a claim, in words."""
    told = [
        f"{one.get('holder')} has {one.get('scope')}" + (f" ({show_value(one['note'])})" if one.get("note") else "")
        for one in blockers[:_MOST_NAMED]
    ]
    more = len(blockers) - len(told)
    return "; ".join([*told, f"and {more} more"] if more > 0 else told) or "others wait for it"
