"""Faults of work that nobody waits for: deliveries, leases that run out, rounds of the housekeeping, notes.

The node goes on, and its log says why; except of a fault of the store. That one hits everything at once, several times
a second, as long as it lasts: a full disk would be filled with tracebacks, and nobody would find the one line that
matters. The store itself says when it begins to fail and when it works again
(:class:`trishula_router.store.sqlite.writer.Writer`), and who does wait, a sender or a receiver, is told with each
refusal.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula.errors import StorageFailed, StorageFull

__all__ = ["log_fault", "run", "together"]

_log = Logger()


def log_fault(failure: Failure, /, log: Logger, what: str, **facts: Any) -> None:
    """An errback that logs a fault, unless it is the store's.

    Args:
        what: the sentence; ``facts`` fill it in.
    """
    if not isinstance(failure.value, StorageFull | StorageFailed):
        log.failure(what, failure, **facts)


def run(work: Coroutine[Deferred[Any], Any, Any]) -> None:
    """Let a coroutine go its way; a fault in it is the node's, so it is logged and the node goes on."""
    Deferred.fromCoroutine(work).addErrback(log_fault, _log, "delivery failed")


def together(steps: Iterable[Coroutine[Deferred[Any], Any, Any]]) -> Deferred[None]:
    """Begin all in order, before the first is waited for, so that they share a commit of the store.

    Returns:
        when all are over; fails as the first of them that did.
    """
    begun = [Deferred.fromCoroutine(step) for step in steps]

    def outcome(outcomes: list[tuple[bool, Any]]) -> None:
        for is_well, found in outcomes:
            if not is_well:
                found.raiseException()

    return DeferredList(begun, consumeErrors=True).addCallback(outcome)
