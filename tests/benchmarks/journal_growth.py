# ruff: noqa: T201  # a script that prints
"""Whether a small store lasts: many messages through the store of a node, which moves old records away.

::

    .venv/bin/python -m tests.benchmarks.journal_growth                                # 1,000,000 messages, 256 MiB
    .venv/bin/python -m tests.benchmarks.journal_growth --messages 40000 --limit 24
    .venv/bin/python -m tests.benchmarks.journal_growth --messages 20000000 --limit 1024 --parts 20 --dir /var/tmp
    .venv/bin/python -m tests.benchmarks.journal_growth --linked --messages 400000 --limit 64

``--linked``: two nodes' stores copy each other's journals, and take each other's messages; of two files the larger one
is shown, and a message is paid for at both.

It is the real store, retention and archiver, in one process, without the router and without agents: each message is
accepted, delivered, done, its body is forgotten, its records are archived and cut, and its id is forgotten. For each
part of them (a quarter, unless ``--parts`` says otherwise) it prints what the file takes and what a message cost
the processor, and in the end how long the store takes to open, to tell the life of a message, to find one in the
archive, and how long the longest commit was that somebody waited for.

Time on the processor, and not how fast it was: that depends on whoever else is on the machine. No test; a short form
of it, which looks at the bounds alone, is in ``tests/contract/test_journal_growth.py``.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.support.stores import ReactorQueue, open_sqlite
from trishula_router.archiving.archiver import Archiver
from trishula_router.archiving.segments import Segments
from trishula_router.archiving.tracing import MessageTraces
from trishula_router.mail.retention import Retention
from trishula_router.peers.belief import Belief, Hello
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.interface import Store
from trishula_router.store.messages import Draft, State
from trishula_router.store.origins import position_in
from trishula_router.store.sqlite.connection import FILE_NAME

__all__ = ["Figures", "grow"]

_T = TypeVar("_T")

_MIB = 1024 * 1024
#: Messages in a call: what agents that are busy send and acknowledge at a time.
_BATCH = 32
#: A message each so many microseconds, by the clock that the store is told: 200 a second.
_STEP_US = 5_000
#: Batches between two rounds of the housekeeping.
_ROUND_EACH = 100


class Figures(NamedTuple):
    """What came of it.

    Attributes:
        parts: of each part of the messages: (bytes of the file, µs of the processor a message).
        file_bytes: how large the file became; of two the larger one.
        archived: records in the archive, or in both.
        archive_bytes: what the archive takes.
        open_s, why_s: how long it took to open the store, and to tell the life of a message.
        sought_s: how long it took to find a message in the archive, by its id alone.
        waited_s: how long the longest wait for a commit was.
    """

    parts: list[tuple[int, float]]
    file_bytes: int
    archived: int
    archive_bytes: int
    open_s: float
    why_s: float
    sought_s: float
    waited_s: float


class _Threads:
    """Has work done by a thread, as the edge of a node does."""

    def __init__(self, calls: ReactorQueue) -> None:
        self._calls = calls

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()

        def run() -> None:
            try:
                outcome: Any = work()
            except Exception:
                outcome = Failure()  # type: ignore[no-untyped-call]
            self._calls.call(lambda: done.callback(outcome))

        threading.Thread(target=run, daemon=True).start()
        return done


class _Node:
    """What of one node takes part.

    Args:
        name: its own.
        peers: those that it is linked with.
    """

    def __init__(
        self, run: _Run, directory: Path, limit_bytes: int, policy: RetentionPolicy, name: str, peers: Sequence[str]
    ) -> None:
        self.name = name
        self.file = directory / FILE_NAME
        self.store: Store = open_sqlite(directory, run.calls, limit_bytes=limit_bytes, epoch=f"epoch-{name}", node=name)
        self.replication = Replication(self.store.epoch, peers)
        self.belief = Belief(name, self.store, self.replication)
        self.retention = Retention(self.store, policy, run.now)
        segments = Segments(directory, name, self.store.epoch)
        self.archiver = Archiver(
            self.store, segments, policy, now=run.now, earlier=lambda instant: instant, holders=self.replication
        )
        self.archiver.in_thread = _Threads(run.calls)

    async def housekeep(self) -> None:
        await self.retention.round()
        await self.archiver.round(self.retention.fullness)


class _Run:
    def __init__(self, directory: Path, limit_bytes: int, ids_ms: int, names: Sequence[str]) -> None:
        self.now_us = 1_800_000_000_000_000
        self.calls = ReactorQueue()
        policy = RetentionPolicy(bodies_ms=60_000, ids_ms=ids_ms)
        self.nodes = []
        for name in names:
            place = directory / name
            place.mkdir()
            peers = [peer for peer in names if peer != name]
            self.nodes.append(_Node(self, place, limit_bytes, policy, name, peers))
        self.waited_s = 0.0
        self._sent = 0
        self._round: Deferred[None] | None = None

    def now(self) -> int:
        return self.now_us // 1000

    def wait(self, work: Deferred[_T]) -> _T:
        began = time.monotonic()
        done = self.calls.wait(work, 120.0)
        self.waited_s = max(self.waited_s, time.monotonic() - began)
        return done

    def batch(self) -> None:
        drafts = [
            Draft(
                "dc",
                f"7d1f0c2a9b3e4f50.{self._sent + number:012d}",
                ("agni",),
                "COMMAND",
                3,
                self.now() + 10_000,
                b'{"x":"%064d"}' % (self._sent + number),
                digest="0" * 32,
            )
            for number in range(_BATCH)
        ]
        first, last = self.nodes[0].store, self.nodes[-1].store
        self._sent += len(drafts)
        accepted = self.wait(first.append(drafts, self.now()))
        positions = [one.positions[0] for one in accepted]
        if first is not last:
            self._exchange()
            # Taken at the other one, which has one other journal.
            positions = [position_in(1, position) for position in positions]
        # As in a node: nobody waits for the record of a delivery.
        delivered = last.deliver([(position, 1) for position in positions], "agni", 7, self.now())
        self.wait(last.settle(positions, State.DONE, None, self.now()))
        self.wait(delivered)
        if first is not last:
            self._exchange()
            self.nodes.reverse()
        self.now_us += len(drafts) * _STEP_US

    def _exchange(self) -> None:
        """Each copies what it lacks of the other's journal, and says so."""
        for source, target in (self.nodes, self.nodes[::-1]):
            held = _held(target, source)
            while held < source.store.high_water:
                extract = self.wait(source.store.extract(0, held, limit=512, limit_bytes=_MIB))
                held = self.wait(target.store.copy(source.name, extract)).sequence
            hello = Hello(target.name, target.store.epoch, {one.epoch: one.sequence for one in target.store.origins()})
            hello = target.belief.with_store(hello)
            source.belief.heed(target.name, hello)
            source.replication.heard(target.name, hello.epoch, hello.held, source.store.high_water, 0.0)

    def housekeep(self) -> None:
        if self._round is None or self._round.called:
            self._round = Deferred.fromCoroutine(self._rounds())

    async def _rounds(self) -> None:
        for node in sorted(self.nodes, key=lambda node: node.name):
            await node.housekeep()

    def file_bytes(self) -> int:
        """Of the larger file."""
        return max(node.file.stat().st_size for node in self.nodes)

    def finish(self) -> None:
        if self._round is not None:
            self.calls.wait(self._round, 300.0)
        for node in self.nodes:
            self.calls.wait(node.store.close(), 60.0)


def _held(target: _Node, source: _Node) -> int:
    return next((one.sequence for one in target.store.origins() if one.epoch == source.store.epoch), 0)


def _found(node: _Node, message_id: str) -> int:
    """How often a message is in the archive of a node."""
    traces, base, after, found = MessageTraces(node.archiver.segments.archive), node.archiver.told()["base"], 0, 0
    while after < base and not found:
        answer = traces.of(message_id, (), after, base)
        after, found = answer.after, len(answer.accepted)
    return found


def grow(
    directory: Path, messages: int, limit_bytes: int, ids_ms: int = 20_000, parts: int = 4, *, linked: bool = False
) -> Figures:
    """Run it.

    Args:
        directory: for the store and the archive.
        messages: how many.
        limit_bytes: of the store.
        ids_ms: how long ids are known, by the clock that the store is told.
        parts: how many there are figures of.
        linked: whether there are two nodes.
    """
    run = _Run(directory, limit_bytes, ids_ms, ("agni", "rush") if linked else ("single",))
    told_of, before = [], time.process_time()
    for number in range(1, messages // _BATCH + 1):
        run.batch()
        if number % _ROUND_EACH == 0:
            run.housekeep()
        if number % max(1, messages // _BATCH // parts) == 0:
            spent, before = time.process_time() - before, time.process_time()
            told_of.append((run.file_bytes(), spent / (messages / parts) * 1e6))
    run.finish()
    told = [node.archiver.told() for node in run.nodes]
    for one in told:
        assert one["fault"] is None, one["fault"]
    file = run.nodes[0].file
    began = time.monotonic()
    store = open_sqlite(file.parent, run.calls, limit_bytes=limit_bytes)
    open_s = time.monotonic() - began
    began = time.monotonic()
    run.calls.wait(store.history(f"7d1f0c2a9b3e4f50.{messages // _BATCH * _BATCH - 5:012d}"))
    why_s = time.monotonic() - began
    began = time.monotonic()
    # Of two nodes one has accepted it.
    found = sum(_found(node, f"7d1f0c2a9b3e4f50.{messages // 2:012d}") for node in run.nodes)
    assert found == any(one["base"] > 0 for one in told)
    sought_s = time.monotonic() - began
    assert not run.calls.wait(store.verify(), 600.0).damages
    run.calls.wait(store.close())
    archived, archive_bytes = (sum(one[what] for one in told) for what in ("base", "bytes"))
    return Figures(told_of, run.file_bytes(), archived, archive_bytes, open_s, why_s, sought_s, run.waited_s)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--limit", type=int, default=256, help="of the store, in MiB")
    parser.add_argument("--parts", type=int, default=4, help="how many parts of the messages there are figures of")
    parser.add_argument("--linked", action="store_true", help="two nodes, which copy each other's journals")
    parser.add_argument("--dir", type=Path, help="where the store and its archive are made, and deleted at the end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trishula-growth-", dir=given.dir) as directory:
        figures = grow(Path(directory), given.messages, given.limit * _MIB, parts=given.parts, linked=given.linked)
    for number, (size_bytes, cost_us) in enumerate(figures.parts, 1):
        print(f"part {number}: file {size_bytes / _MIB:.0f} MiB, {cost_us:.1f} µs a message")
    print(
        f"{figures.archived} records in an archive of {figures.archive_bytes / _MIB:.0f} MiB; opened in "
        f"{figures.open_s:.2f} s, a life told in {figures.why_s * 1000:.1f} ms, a message "
        f"found in the archive in {figures.sought_s:.2f} s, longest wait {figures.waited_s:.2f} s"
    )


if __name__ == "__main__":
    main()
