"""What a mirror writes to: the contract of a target, and the thread that waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula_router.mirroring.pages import Entry
from trishula_router.mirroring.place import Has, Place

__all__ = ["OwnThread", "Target", "TargetFailed"]

_T = TypeVar("_T")


class TargetFailed(Exception):
    """A target did not take what it was given, or can't be asked; the text says why, and holds no secret."""


class Target(Protocol):
    """A place that keeps entries. All of it blocks, for some seconds at most where the other end is slow."""

    @property
    def name(self) -> str:
        """``redis`` or ``file``, as operators see it."""

    @property
    def where(self) -> str:
        """Which one: an address, or a path."""

    @property
    def keeps(self) -> int:
        """How many records it keeps; 0 if what is gone there is somebody else's doing."""

    def has(self, place: Place) -> Has | None:
        """What it has; of a mirror that is there, by the node's knowledge. Called before anything is written.

        Raises:
            TargetFailed: it can't be asked.
        """

    def write(self, entries: Sequence[Entry], place: Place) -> None:
        """Append entries; when it returns, it has all of them.

        Args:
            entries: in order.
            place: the mirror's, before them.

        Raises:
            TargetFailed: that failed, and it may have some of them, from the first one on: ask what it has.
        """


class OwnThread:
    """A thread that does one thing after the other, and ends with the process.

    The reactor's own threads would be waited for at the node's end, and a target that hangs would keep it.

    Args:
        name: of the thread.
        call_in_reactor: hands a function over to the reactor's thread, as ``reactor.callFromThread`` does.
    """

    def __init__(self, name: str, call_in_reactor: Callable[..., object]) -> None:
        self._name = name
        self._call_in_reactor = call_in_reactor
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have something done; its outcome comes in the reactor's thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: Deferred[_T] = Deferred()
        self._jobs.put((work, done))
        return done

    def _run(self) -> None:
        while True:
            work, done = self._jobs.get()
            try:
                found = work()
            except Exception:
                self._call_in_reactor(done.errback, Failure())  # type: ignore[no-untyped-call]
            else:
                self._call_in_reactor(done.callback, found)
