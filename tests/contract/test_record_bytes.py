"""The bytes of records: older nodes read them, and the chain is over them, so that they stay as they always were."""

from __future__ import annotations

import pytest

from tests.support.subjects import Subject, append
from trishula_router.store.facts import AcceptedFacts, Facts, GrantsFacts, TokenFacts, write_facts
from trishula_router.store.journal import Kind
from trishula_router.store.messages import Draft, Return, State

#: Written by the release before facts had types.
WRITTEN: list[tuple[str, bytes]] = [
    (
        "accepted",
        b'{"from":"dc/x","id":"m1","to":"agni","type":"COMMAND","priority":3,"bytes":7,"sha256":"2bfd14f43d17fc7cea24e0917a8879b4b2f880b8baeec1b9d90fbaad655e71bd","digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","reply_to":"dc/y"}',
    ),
    (
        "accepted",
        b'{"from":"dc/x","id":"m1","to":"capability:deploy","type":"COMMAND","priority":3,"bytes":7,"sha256":"2bfd14f43d17fc7cea24e0917a8879b4b2f880b8baeec1b9d90fbaad655e71bd","digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","reply_to":"dc/y"}',
    ),
    (
        "accepted",
        b'{"from":"dc","id":"m2","to":"agni","type":"QUERY","priority":0,"bytes":7,"sha256":"363379742f80b51bdb9206579af7754911543079b9399cb3fc315fb199f476e8"}',
    ),
    (
        "accepted",
        b'{"from":"dc","id":"m3","to":"agni","type":"QUERY","priority":0,"bytes":7,"sha256":"215ddd5567ca2590efd4ea109b4e56cbe591e2676fbf54a9262692c539166da6"}',
    ),
    (
        "accepted",
        b'{"from":"dc","id":"m4","to":"agni","type":"QUERY","priority":0,"bytes":7,"sha256":"f3e0792e105e2bfe88e7b3bab5097b93a59a8c5b239fe3c6f87a8d0f72ab9032"}',
    ),
    ("delivered", b'{"messages":[[1,1],[3,2]],"to":"agni","session":7}'),
    ("returned", b'{"messages":[[1,1,400],[3,0,0]],"reason":"it failed: \xe2\x80\x9cno\xe2\x80\x9d"}'),
    ("handed", b'{"messages":[2],"keeper":"agni","hops":[1]}'),
    ("done", b'{"messages":[1]}'),
    ("dead", b'{"messages":[3,4],"reason":"too often"}'),
    ("replayed", b'{"messages":[3],"lives":[1],"expires_at":[8000]}'),
    ("cancelled", b'{"messages":[3],"reason":"not any more","lives":[1]}'),
    ("expired", b'{"messages":[5]}'),
    ("purged", b'{"messages":[4]}'),
    ("forgotten", b'{"bodies":[3,5],"bytes":14}'),
    ("clock_set", b'{"by_ms":-5}'),
]


def test_the_facts_of_each_kind_are_written_as_ever(subject: Subject) -> None:
    append(
        subject,
        Draft("dc/x", "m1", ("agni", "capability:deploy"), "COMMAND", 3, 9000, b'{"n":1}', True, "a" * 64, "dc/y"),
        Draft("dc", "m2", ("agni",), "QUERY", 0, 9000, b'{"n":2}'),
        Draft("dc", "m3", ("agni",), "QUERY", 0, 9000, b'{"n":3}'),
        Draft("dc", "m4", ("agni",), "QUERY", 0, 9000, b'{"n":4}'),
    )
    subject.do(lambda store: store.deliver([(1, 1), (3, 2)], "agni", 7, 110))
    subject.do(lambda store: store.give_back([Return(1, 1, 400), Return(3, 0, 0)], "it failed: “no”", 120))
    subject.do(lambda store: store.hand_over([2], "agni", 130))
    subject.do(lambda store: store.settle([1], State.DONE, None, 140))
    subject.do(lambda store: store.settle([3, 4], State.DEAD, "too often", 150))
    subject.do(lambda store: store.replay({3: 8000}, 160))
    subject.do(lambda store: store.settle([3], State.CANCELLED, "not any more", 170))
    subject.do(lambda store: store.settle([5], State.EXPIRED, None, 180))
    subject.do(lambda store: store.purge([4], 190))
    subject.do(lambda store: store.forget(0, 100, before=1000, dead_before=1000, at=200))
    subject.do(lambda store: store.follow_clock(-5, 0, {}, 210))
    found = subject.do(lambda store: store.records(after=0, limit=100))
    assert [(record.kind, record.facts) for record in found] == WRITTEN


@pytest.mark.parametrize(
    ("kind", "facts", "written"),
    [
        (
            Kind.ACCEPTED,
            AcceptedFacts("dc", "m1", "agni", "STATUS", 3, 2, "2bfd", proof="token 9f86d081"),
            b'{"from":"dc","id":"m1","to":"agni","type":"STATUS","priority":3,"bytes":2,"sha256":"2bfd",'
            b'"proof":"token 9f86d081"}',
        ),
        (
            Kind.TOKEN,
            TokenFacts("agni", "revoked", "9f86d081", "root", "a laptop was lost"),
            b'{"agent":"agni","what":"revoked","token":"9f86d081","by":"root","reason":"a laptop was lost"}',
        ),
        (
            Kind.TOKEN,
            TokenFacts("agni", "rotated", "9f86d081", "root", None, 1770000000000),
            b'{"agent":"agni","what":"rotated","token":"9f86d081","by":"root","until":1770000000000}',
        ),
        (
            Kind.TOKEN,
            TokenFacts("agni", "revoked", "9f86d081", "root", None, None, "9f86", 5, True),
            b'{"agent":"agni","what":"revoked","token":"9f86d081","by":"root","sha256":"9f86","before":5,"everywhere":true}',
        ),
        (
            Kind.GRANTS,
            GrantsFacts("agni", None, "agent; send *; call *; serve nothing", "edited by hand"),
            b'{"agent":"agni","before":null,"after":"agent; send *; call *; serve nothing","by":"edited by hand"}',
        ),
    ],
)
def test_the_facts_of_tokens_and_grants_stay_as_they_are(
    subject: Subject, kind: Kind, facts: Facts, written: bytes
) -> None:
    assert write_facts(facts) == written
    subject.do(lambda store: store.note(kind, facts, 100))
    (record,) = subject.do(lambda store: store.records(after=0, limit=10, kind=kind))
    assert (record.kind, record.facts) == (str(kind), written)
