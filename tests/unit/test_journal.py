"""The hash chain: what it finds, and at whose door it lays it."""

from __future__ import annotations

import hashlib
import struct

import pytest
from msgspec.structs import replace

from trishula_router.store.journal import GENESIS, Damage, Kind, Record, digest_of, verify


def chain(count: int, previous: bytes = GENESIS, first: int = 1) -> list[Record]:
    records = []
    for position in range(first, first + count):
        facts = b'{"id":"m%d"}' % position
        previous = digest_of(previous, position, 1000 + position, "accepted", facts)
        records.append(Record(position, 1000 + position, "accepted", facts, previous))
    return records


def test_the_digest_is_what_the_docs_say() -> None:
    # A backup, a peer and a tool in another language rely on it.
    expected = hashlib.sha256(GENESIS + struct.pack(">qq", 1, 1001) + b"accepted" + b"\0" + b"{}").digest()
    assert digest_of(GENESIS, 1, 1001, "accepted", b"{}") == expected
    assert bytes(32) == GENESIS


def test_a_whole_chain() -> None:
    records = chain(5)
    assert verify(records) == []
    assert verify([]) == []
    assert verify(records[2:], records[1].digest, 2) == []


@pytest.mark.parametrize(
    "change",
    [
        {"at": 1},
        {"kind": "done"},
        {"facts": b'{"id":"m4"}'},
        {"facts": b""},
        {"digest": bytes(32)},
        {"kind": "acceptedx"},
    ],
)
def test_a_changed_record_is_told_of_once(change: dict[str, object]) -> None:
    records = chain(5)
    records[2] = replace(records[2], **change)
    assert verify(records) == [Damage(3, f"record 3 ({records[2].kind}) doesn't match its digest")]


def test_kind_and_facts_cannot_trade_places() -> None:
    assert digest_of(GENESIS, 1, 1, "a", b"b") != digest_of(GENESIS, 1, 1, "ab", b"")


def test_a_removed_record() -> None:
    records = chain(5)
    del records[2]
    assert verify(records) == [Damage(4, "records 3 to 3 are missing")]


def test_a_removed_beginning() -> None:
    assert verify(chain(5)[2:])[0] == Damage(3, "records 1 to 2 are missing")


def test_a_record_put_in_its_place() -> None:
    # Somebody who changes a record and makes its digest anew is found at the one behind it.
    records = chain(5)
    facts = b'{"id":"forged"}'
    forged = digest_of(records[1].digest, 3, 1003, "accepted", facts)
    records[2] = replace(records[2], facts=facts, digest=forged)
    assert [damage.position for damage in verify(records)] == [4]


def test_kinds_are_words_of_their_own() -> None:
    assert len({kind.value for kind in Kind}) == len(Kind)
    assert all(kind.value == kind.name.lower() for kind in Kind)
