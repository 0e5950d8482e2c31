"""Two stores that copy, archive and cut each other's journals, in a process that kills itself at one step.

Arguments: a directory, how many steps to take before the end, and by which number ids begin. What was accepted, and
whose end was durable, it appends to ``accepted`` and ``done`` in the directory, a line each, once the store said so.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from tests.support.stores import ReactorQueue, open_sqlite
from trishula_router.archiving import archiver as archiving
from trishula_router.archiving.archiver import Archiver
from trishula_router.archiving.segments import Segments
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.messages import Draft, State
from trishula_router.store.sqlite.store import SqliteStore

_T = TypeVar("_T")

__all__ = ["NAMES", "NOW", "Linked"]

NAMES = ("agni", "rushabdev")
NOW = 1_800_000_000_000
_OLD = NOW - 200 * 86_400_000


class Linked:
    """Both nodes' stores.

    Args:
        directory: with a state directory for each.
        steps: behind how many of them it ends itself; 0 is never.
    """

    def __init__(self, directory: Path, steps: int = 0) -> None:
        self._directory = directory
        self._left = steps
        self.now = NOW
        self._calls = ReactorQueue()
        self.stores: dict[str, SqliteStore] = {}
        self._archivers: dict[str, Archiver] = {}
        self._holders: dict[str, Replication] = {}
        for name in NAMES:
            state_dir = directory / name
            state_dir.mkdir(exist_ok=True)
            store = open_sqlite(state_dir, self._calls, epoch=f"epoch-{name}", node=name)
            holders = Replication(store.epoch, [other for other in NAMES if other != name])
            segments = Segments(state_dir, name, store.epoch)
            archiver = Archiver(
                store, segments, RetentionPolicy(), now=lambda: self.now, earlier=lambda at: at, holders=holders
            )
            self.stores[name], self._holders[name], self._archivers[name] = store, holders, archiver

    def do(self, work: Deferred[_T]) -> _T:
        """Wait for a verb; one step."""
        self._left -= 1
        if self._left == 0:
            # The writer's thread has it, and nobody knows how far that is.
            os.kill(os.getpid(), signal.SIGKILL)
        return self._calls.wait(work)

    def _log(self, name: str, line: str) -> None:
        with (self._directory / name).open("a") as file:
            file.write(line + "\n")

    def round(self, number: int) -> None:
        """Messages come at both and are done at the other one; both archive, and cut."""
        # So what the round before wrote of its archives is old enough in this one.
        self.now = NOW + number * 400 * 86_400_000
        for name in NAMES:
            ids = [f"{name}-{number}-{each}" for each in range(3)]
            drafts = [Draft("dc", one, ("agni",), "STATUS", 3, NOW + 1000, b"{}", digest="0" * 32) for one in ids]
            self.do(self.stores[name].append(drafts, _OLD))
            for one in ids:
                self._log("accepted", one)
        self.exchange()
        for name in NAMES:
            found = self.do(self.stores[name].head("agni", (0, 0), 1000))
            # Every fifth one waits a while.
            work = [one for one in found if hash_of(one.id) % 5 or number % 4 == 0]
            self.do(self.stores[name].deliver([(one.position, 1) for one in work], "agni", 7, _OLD))
            self.do(self.stores[name].settle([one.position for one in work], State.DONE, None, _OLD))
            for message in work:
                self._log("done", message.id)
            self.exchange()
        for name in NAMES:
            self.do(self.stores[name].forget(0, 1000, before=NOW, dead_before=0, at=NOW))
        self.exchange()
        for name in NAMES:
            self.do(Deferred.fromCoroutine(self._archivers[name].round(0.1)))
            self.exchange()

    def exchange(self) -> None:
        """Copy what is missing, until each has told the other that it holds all."""
        for name, other in (NAMES, NAMES[::-1]):
            source, target = self.stores[name], self.stores[other]
            while held(target, source) < source.high_water:
                run = self.do(source.extract(0, held(target, source), limit=7, limit_bytes=10_000))
                self.do(target.copy(name, run))
            told = {origin.epoch: origin.sequence for origin in target.origins()}
            self._holders[name].heard(other, target.epoch, told, 0, 0.0)
            self._holders[other].peers[name].base = source.base().sequence
            heard = self._holders[other].peers[name]
            heard.first_use, heard.bare = source.first_use, dict(self._holders[name].bare)
            self.do(target.raise_first_use(source.first_use))

    def close(self) -> None:
        """End well."""
        for store in self.stores.values():
            self._calls.wait(store.close())

    def ask(self, work: Deferred[_T]) -> _T:
        """Wait for a question; no step."""
        return self._calls.wait(work)


def held(target: Any, source: Any) -> int:
    """What one holds of the other's journal."""
    return next((one.sequence for one in target.origins() if one.epoch == source.epoch), 0)


def hash_of(message_id: str) -> int:
    """The same number in each process."""
    return sum(message_id.encode())


if __name__ == "__main__":
    archiving._PAGE, archiving._STEP = 10, 5
    linked = Linked(Path(sys.argv[1]), int(sys.argv[2]))
    for each in range(4):
        linked.round(int(sys.argv[3]) * 10 + each)
    linked.close()
