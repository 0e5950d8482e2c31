# ruff: noqa: T201  # a script that prints
"""How many bytes of a store a settled message takes: before its records go into the archive, after that, and there.

::

    .venv/bin/python -m tests.benchmarks.bytes_a_message
    .venv/bin/python -m tests.benchmarks.bytes_a_message --messages 20000 --batch 10

It is the real store and archiver, without the router. Each message is sent, delivered, done, and its payload is
forgotten; ``--batch`` is how many share each of these steps. Ids have 32 characters. It counts pages in use, so it says
the same on any machine, however busy that is. It stands behind the table in ``deploy/docs/howto/keep-a-journal.rst``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from tests.support.subjects import InSqlite
from trishula_router.archiving.archiver import Archiver
from trishula_router.archiving.segments import Segments
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.messages import Draft, State

__all__ = ["Figures", "measure"]

_NOW = 1_800_000_000_000
_OLD = _NOW - 86_400_000
_PATTERN = Draft("dc", "", ("agni",), "COMMAND", 3, _OLD + 10, b"{}", digest="0" * 32, proof="token 9f86d081")


class Figures(NamedTuple):
    """Bytes a message: in the store before its records are cut, in the store after that, and in the archive."""

    before_cut: float
    after_cut: float
    archived: float


def measure(directory: Path, messages: int, batch: int) -> Figures:
    """Have so many messages settled, ``batch`` at a time, and their records cut."""
    subject = InSqlite(directory)
    empty = subject.store.condition().used_bytes
    for first in range(0, messages, batch):
        drafts = [
            replace(_PATTERN, id=f"7d1f0c2a9b3e4f50.{number:015d}")
            for number in range(first, min(first + batch, messages))
        ]
        accepted = subject.do(lambda store, drafts=drafts: store.append(drafts, _OLD))  # type: ignore[misc]
        positions = [position for one in accepted for position in one.positions]
        subject.store.deliver([(position, 1) for position in positions], "agni", 7, _OLD)
        subject.calls.wait(subject.store.settle(positions, State.DONE, None, _OLD))
    while subject.do(lambda store: store.forget(0, 1000, before=_OLD + 1, dead_before=0, at=_OLD)).bodies:
        pass
    before = subject.store.condition().used_bytes
    segments = Segments(directory, "single", subject.store.epoch)
    archiver = Archiver(
        subject.store,
        segments,
        RetentionPolicy(),
        now=lambda: _NOW,
        earlier=lambda instant: instant,
        holders=Replication("", ()),
    )
    while subject.calls.wait(Deferred.fromCoroutine(archiver.archive(1000)), 600.0).records > 1:
        pass
    # What a look at the bodies says of the pages, too.
    subject.do(lambda store: store.forget(0, 1, before=0, dead_before=0, at=_NOW))
    after = subject.store.condition().used_bytes
    subject.close()
    archived = sum(path.stat().st_size for path in (directory / "archive").rglob("*.gz"))
    return Figures((before - empty) / messages, (after - empty) / messages, archived / messages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=0, help="how many share each step (default: 1, and then 10)")
    chosen = parser.parse_args()
    for batch in (chosen.batch,) if chosen.batch else (1, 10):
        with tempfile.TemporaryDirectory() as directory:
            found = measure(Path(directory), chosen.messages, batch)
        print(
            f"{batch:3} at a time: {found.before_cut:.0f} bytes a message, {found.after_cut:.0f} once its records are "
            f"archived, {found.archived:.0f} in the archive"
        )


if __name__ == "__main__":
    main()
