"""What a node remembers of receipts that it has still to follow up: names, never bodies, and no more than fits."""

from __future__ import annotations

import tracemalloc

from twisted.internet.task import Clock

from trishula_router.mail.outlet import News
from trishula_router.mail.receipts import Receipts
from trishula_router.peers.copies import OWED_BYTES, OWED_LIMIT
from trishula_router.peers.journal_exchange import Peering
from trishula_router.peers.journal_policy import Replication
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Draft

MIB = 1024 * 1024


class Bench:
    """The receipts of a node whose peer is away, and the news they lead to."""

    def __init__(self) -> None:
        store = MemoryStore("epoch-agni", "agni")
        self.replication = Replication(store.epoch, ["rushabdev"])
        self.peering = Peering(
            "agni",
            store,
            self.replication,
            post=lambda peer, kind, text: None,
            absorb=lambda copied, extract, ahead_ms: None,
            sighted=lambda peer, there: None,
            caught_up=lambda: None,
            clock=Clock(),  # type: ignore[arg-type]
            now=lambda: 0,
        )
        self.news: list[News] = []
        self.receipts = Receipts("agni", store, self.peering.copies, tell=self.news.extend, now=lambda: 7)

    def owe(self, position: int, *, size_bytes: int = 2, recipients: tuple[str, ...] = ("agni",)) -> None:
        envelope = bytes(size_bytes)
        self.receipts.owe(Draft("dc", f"m{position}", recipients, "STATUS", 3, 0, envelope), position, None)

    def come_back(self, held: int) -> None:
        """The peer is there, and has our journal up to a sequence."""
        self.replication.heard("rushabdev", "epoch-r", {"epoch-agni": held}, held, 0.0)
        self.peering.stop()  # answers what can be answered now


def test_no_body_waits_for_a_second_copy() -> None:
    bench = Bench()
    tracemalloc.start()
    try:
        for position in range(1, 101):
            bench.owe(position, size_bytes=MIB)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < MIB
    bench.come_back(100)
    assert [(one.id, one.recipient, one.state, one.copies) for one in bench.news] == [
        (f"m{position}", "agni", "copies", 2) for position in range(1, 101)
    ]


def test_so_many_are_remembered_and_the_newest_at_that() -> None:
    bench = Bench()
    for position in range(1, OWED_LIMIT + 11):
        bench.owe(position)
    bench.come_back(OWED_LIMIT + 10)
    assert (len(bench.news), bench.news[0].id) == (OWED_LIMIT, "m11")


def test_broadcasts_are_remembered_by_their_size() -> None:
    bench = Bench()
    everybody = tuple(f"agent_{number:04}" for number in range(2000))
    tracemalloc.start()
    try:
        for position in range(1, 301):
            # New strings each time, as they come from the wire.
            bench.owe(position, recipients=tuple(f"agent_{number:04}" for number in range(2000)))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A string's own overhead comes on top.
    assert held_bytes < 12 * OWED_BYTES
    bench.come_back(300)
    assert {one.recipient for one in bench.news} == set(everybody)
    assert bench.news[-1].id == "m300"
