"""What a store keeps of its newest records for peers that keep up, and when it leaves them to the file."""

from __future__ import annotations

import pytest

from trishula_router.store.origins import Chain
from trishula_router.store.runs import Extract, Fresh, Particulars
from trishula_router.store.sqlite import recent_runs
from trishula_router.store.sqlite.recent_runs import FRESH_S, Recent

PEERS = {1: ("rushabdev", "epoch-2")}


class Journal:
    """Records as a store writes them, on a clock that stands."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sequence = 0
        self.recent = Recent("epoch-1", lambda: self.now_s)

    def write(self, *sizes_bytes: int, kind: str = "accepted") -> None:
        """One message for each size, all in one transaction; or records of another kind."""
        self.recent.add([self._next(kind, size) for size in sizes_bytes])

    def broadcast(self, recipients: int, size_bytes: int) -> None:
        """A message to many."""
        first = self.sequence + 1
        self.recent.add([self._next("accepted", size_bytes, first) for _ in range(recipients)])

    def _next(self, kind: str, size_bytes: int, body: int = 0) -> Fresh:
        self.sequence += 1
        record = self.sequence * 10, kind, b"{}", b"digest %d" % self.sequence
        if kind != "accepted":
            return Fresh(self.sequence, record)
        return Fresh(self.sequence, record, body or self.sequence, b"x" * size_bytes, 99, by_deadline=True)

    def run(self, after: int, *, limit: int = 100, limit_bytes: int = 10**9) -> Extract | None:
        return self.recent.run(after, PEERS, limit=limit, limit_bytes=limit_bytes)

    def sequences(self, after: int, *, limit: int = 100, limit_bytes: int = 10**9) -> list[int] | None:
        """Those of the records of a run."""
        made = self.run(after, limit=limit, limit_bytes=limit_bytes)
        return None if made is None else [at // 10 for at, *_ in made.records]


@pytest.fixture
def journal() -> Journal:
    return Journal()


def test_what_a_run_tells(journal: Journal) -> None:
    journal.write(5)
    journal.write(3)
    journal.write(0, kind="joined")
    assert journal.run(1) == Extract(
        "epoch-1",
        2,
        b"digest 1",
        [(20, "accepted", b"{}", b"digest 2"), (30, "joined", b"{}", b"digest 3")],
        {2: Particulars(99, True, 2)},
        {2: b"xxx"},
        {},
        PEERS,
    )


def test_what_is_not_known_here_is_left_to_the_file(journal: Journal) -> None:
    assert journal.run(0) is None
    journal.sequence = 7
    journal.write(1, 1)
    assert journal.sequences(6) is None
    assert journal.sequences(7) is None, "the digest before the run is not known"
    assert journal.sequences(8) == [9]
    assert journal.sequences(9) is None
    assert journal.sequences(10) is None


def test_old_records_are_left_to_the_file(journal: Journal) -> None:
    journal.write(1, 1)
    journal.now_s = FRESH_S
    journal.write(1)
    assert journal.sequences(1) == [2, 3]
    journal.now_s = FRESH_S + 0.1
    assert journal.sequences(1) is None
    assert journal.sequences(2) == [3], "the last old one tells how the chain goes on"
    journal.now_s = 10.0
    assert journal.sequences(2) is None
    journal.write(1)
    assert journal.sequences(3) == [4]


def test_a_run_has_its_limits(journal: Journal) -> None:
    journal.write(*[100] * 10)
    assert journal.sequences(1, limit=3) == [2, 3, 4]
    assert journal.sequences(1, limit_bytes=2 * 102) == [2, 3]
    assert journal.sequences(1, limit_bytes=1) == [2], "one record always goes"


@pytest.mark.parametrize("limits", [{"limit": 2}, {"limit_bytes": 1}])
def test_a_broadcast_stays_together(journal: Journal, limits: dict[str, int]) -> None:
    journal.write(1)
    journal.broadcast(5, 100)
    journal.write(1)
    made = journal.run(1, **limits)
    assert made is not None
    assert (len(made.records), made.bodies) == (5, {2: b"x" * 100})
    assert {one.body for one in made.messages.values()} == {2}
    rest = journal.run(4)
    assert rest is not None
    assert [one.body for one in rest.messages.values()] == [5, 5, 7], "whoever has a part of it gets the body too"
    assert rest.bodies == {5: b"x" * 100, 7: b"x"}


def test_a_replay_is_left_to_the_file_with_all_before_it(journal: Journal) -> None:
    journal.write(1, 1)
    journal.write(0, kind="replayed")
    journal.write(1)
    assert journal.sequences(1) is None
    assert journal.sequences(2) is None
    assert journal.sequences(3) == [4]


def test_a_gap_begins_anew(journal: Journal) -> None:
    # A commit of which nobody knew whether it happened.
    journal.write(1, 1)
    journal.sequence += 1
    journal.write(1, 1)
    assert journal.sequences(1) is None
    assert journal.sequences(4) == [5]


def test_memory_has_a_bound(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_runs, "_LIMIT_BYTES", 1000)
    for _ in range(20):
        journal.write(98)
    assert journal.sequences(8) is None
    assert journal.sequences(12) == list(range(13, 21))
    journal.broadcast(30, 500)
    assert journal.sequences(21) == list(range(22, 51)), "a body that many share counts once"
    journal.write(5000)
    journal.write(1)
    assert journal.sequences(51) is None
    journal.write(1)
    assert journal.sequences(52) == [53]


def test_what_was_rolled_back_is_handed_to_nobody() -> None:
    chain = Chain()
    for facts, is_kept in (("never happened", False), ("happened", True), ("never either", False)):
        row = chain.extend(1, "joined", facts)
        chain.keep(Fresh(row[0], row[1:]))
        if is_kept:
            chain.commit()
        else:
            chain.rollback()
    assert [(one.sequence, one.record[2]) for one in chain.take()] == [(1, b'"happened"')]
    assert chain.take() == []
