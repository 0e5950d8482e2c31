"""What a store remembers of work leases: with the record, over a reopening, and of another node's journal too."""

from __future__ import annotations

from tests.support.subjects import InSqlite, Peer, Subject, copy
from trishula_router.store.facts import write_facts
from trishula_router.store.journal import Kind
from trishula_router.store.lease_facts import LEASES, LeaseFacts

GRANTED = LeaseFacts("granted", "agni-1", 7, "agni", holder="dc", scope="path:src", ttl_ms=1000, order=5)


def test_the_facts_stay_as_they_are(here: Subject) -> None:
    here.do(lambda store: store.note(Kind.LEASE, GRANTED, 100))
    (record,) = here.do(lambda store: store.records(after=0, limit=10, kind="lease"))
    assert record.facts == (
        b'{"what":"granted","lease":"agni-1","stamp":7,"node":"agni","holder":"dc","scope":"path:src","ttl_ms":1000,'
        b'"order":5}'
    )


def test_it_is_remembered_until_it_is_forgotten(here: Subject) -> None:
    ended = LeaseFacts("ended", "agni-1", 9, "agni", by="dc", reason="released")
    here.do(lambda store: store.note(Kind.LEASE, GRANTED, 100))
    here.do(lambda store: store.note(Kind.LEASE, ended, 200))
    if isinstance(here, InSqlite):
        here.reopen()
    keys = {f"{LEASES}agni-1:granted:agni": GRANTED, f"{LEASES}agni-1:ended:agni": ended}
    assert here.do(lambda store: store.remembered(LEASES)) == {
        key: write_facts(one).decode() for key, one in keys.items()
    }
    here.do(lambda store: store.remember(dict.fromkeys(keys, "")))
    assert here.do(lambda store: store.remembered(LEASES)) == {}


def test_a_copy_is_remembered_too(here: Subject, agni: Peer) -> None:
    agni.do(lambda store: store.note(Kind.LEASE, GRANTED, 100))
    copy(here, agni)
    remembered = here.do(lambda store: store.remembered(LEASES))
    assert list(remembered) == [f"{LEASES}agni-1:granted:agni"]


def test_what_cannot_be_read_is_copied_and_passed_over(here: Subject, agni: Peer) -> None:
    agni.do(lambda store: store.note(Kind.LEASE, {"what": "pawned", "lease": "agni-1"}, 100))
    copy(here, agni)
    assert here.do(lambda store: store.remembered(LEASES)) == agni.do(lambda store: store.remembered(LEASES)) == {}
