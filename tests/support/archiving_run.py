"""A process that archives a store's journal and kills itself at one step: ``python -m tests.support.archiving_run``.

Arguments: the state directory, and behind how many steps it kills itself. It ends with 0 if it came to the end before.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

from tests.support.stores import ReactorQueue, open_sqlite
from trishula_router.archiving import archiver as archiving
from trishula_router.archiving.archiver import Archiver
from trishula_router.archiving.segments import Segments
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import RetentionPolicy

_T = TypeVar("_T")

__all__ = ["NOW", "archive"]

NOW = 1_800_000_000_000


class _Killing:
    def __init__(self, store: Any, at: int) -> None:
        self._store = store
        self._left = at

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("archived", "cut", "let_go", "drop"):
            return found

        def stepping(*args: Any, **options: Any) -> Any:
            self.step()
            done = found(*args, **options)
            # It was handed to the writer's thread, and nobody knows how far that is.
            self.step()
            return done

        return stepping

    def in_thread(self, work: Callable[[], _T]) -> Deferred[_T]:
        self.step()
        done = maybeDeferred(work)
        self.step()
        return done


def archive(state_dir: Path, at: int = 0) -> Archiver:
    """Do a round; killed at a step, if ``at`` is one."""
    calls = ReactorQueue()
    store = open_sqlite(state_dir, calls)
    killing = _Killing(store, at)
    segments = Segments(state_dir, "single", store.epoch)
    policy = RetentionPolicy()
    archiver = Archiver(
        killing, segments, policy, now=lambda: NOW, earlier=lambda instant: instant, holders=Replication("", ())
    )
    archiver.in_thread = killing.in_thread
    calls.wait(Deferred.fromCoroutine(archiver.round(0.1)))
    calls.wait(store.close())
    return archiver


if __name__ == "__main__":
    archiving._PAGE, archiving._STEP = 10, 5
    archive(Path(sys.argv[1]), int(sys.argv[2]))
