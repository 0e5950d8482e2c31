"""What a record revokes everywhere is remembered with it, by each store that holds it, whoever wrote it."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.subjects import InSqlite, Peer, Subject, copy
from trishula_router.store.facts import TokenFacts
from trishula_router.store.journal import Kind
from trishula_router.store.revoked import REVOKED, Revocation, read_revocation

DIGEST = "9f86d081" + "0" * 56


def note(subject: Subject, facts: TokenFacts, at: int = 100) -> None:
    subject.do(lambda store: store.note(Kind.TOKEN, facts, at))


def remembered(subject: Subject) -> list[Revocation]:
    found = subject.do(lambda store: store.remembered(REVOKED))
    return [one for _, text in sorted(found.items()) if (one := read_revocation(text)) is not None]


def test_a_token_and_all_of_before(here: Subject) -> None:
    note(here, TokenFacts("agni", "revoked", "9f86d081", "root", "lost", sha256=DIGEST, everywhere=True))
    note(here, TokenFacts("*", "revoked", "", "ann", before=5000, everywhere=True), 200)
    expected = [Revocation("*", 200, "ann", before=5000), Revocation("agni", 100, "root", "lost", DIGEST)]
    assert remembered(here) == expected
    if isinstance(here, InSqlite):
        here.reopen()
    assert remembered(here) == expected


def test_a_copy_and_a_copy_of_a_copy(here: Subject, agni: Peer, rush: Peer) -> None:
    note(agni, TokenFacts("dc", "revoked", "9f86d081", "root", sha256=DIGEST, everywhere=True))
    copy(rush, agni)
    assert remembered(rush) == [Revocation("dc", 100, "root", sha256=DIGEST)]
    note(rush, TokenFacts("dc", "revoked", "", "ann", before=7, everywhere=True), 300)
    copy(here, rush)
    copy(here, agni)
    copy(here, agni)
    assert remembered(here) == [Revocation("dc", 300, "ann", before=7), Revocation("dc", 100, "root", sha256=DIGEST)]


@pytest.mark.parametrize(
    "facts",
    [
        {"agent": "agni", "what": "revoked", "token": "9f86d081", "by": "root"},
        {"agent": "agni", "what": "revoked", "token": "9f86d081", "by": "root", "sha256": DIGEST},
        {"agent": "agni", "what": "new", "token": "9f86d081", "by": "root", "sha256": DIGEST, "everywhere": True},
        {"agent": "agni", "what": "revoked", "token": "", "by": "root", "sha256": "9f86", "everywhere": True},
        {"agent": "../x", "what": "revoked", "token": "", "by": "root", "before": 5, "everywhere": True},
        {"agent": "agni", "what": "revoked", "token": "", "by": "root", "before": -5, "everywhere": True},
        {"agent": "agni", "what": "revoked", "token": "", "by": "root", "before": 10**18, "everywhere": True},
        {"agent": "agni", "what": "revoked", "token": 5, "by": "root", "before": 5, "everywhere": True},
    ],
    ids=["here", "not everywhere", "new", "short", "no name", "negative", "beyond all time", "garbled"],
)
def test_what_revokes_nothing_is_not_remembered(here: Subject, agni: Peer, facts: dict[str, object]) -> None:
    agni.do(lambda store: store.note(Kind.TOKEN, facts, 100))
    agni.do(lambda store: store.note(Kind.LINK, {"everywhere": True}, 100))
    copy(here, agni)
    assert remembered(agni) == remembered(here) == []


def test_garbled_memory_is_passed_over() -> None:
    assert read_revocation("{") is None
    assert read_revocation(msgspec.json.encode({"agent": 5}).decode()) is None
