"""Each kind of record has a type; what is written is as old nodes read it, and what newer ones add is passed over."""

from __future__ import annotations

import msgspec
import pytest

from trishula_router.store import facts as told
from trishula_router.store.journal import Kind

#: Facts that stores don't make by themselves → their bytes, as they were written before facts had types.
WRITTEN: list[tuple[told.Facts, bytes]] = [
    (told.NodeStartedFacts("single", "2.0", 7), b'{"node":"single","version":"2.0","pid":7}'),
    (told.NodeStoppedFacts("single"), b'{"node":"single"}'),
    (told.RestoredFacts("new", None), b'{"epoch":"new","former_epoch":null}'),
    (told.RestoredFacts("new", "old"), b'{"epoch":"new","former_epoch":"old"}'),
    (told.JoinedFacts("dc", 7, "agent"), b'{"agent":"dc","session":7,"role":"agent"}'),
    (
        told.JoinedFacts("dc", 7, "agent", "10.0.0.1"),
        b'{"agent":"dc","session":7,"role":"agent","address":"10.0.0.1"}',
    ),
    (told.LeftFacts("dc", 7), b'{"agent":"dc","session":7}'),
    (
        told.TakenOverFacts("dc", "dc/x", 7, 8, "mac.local"),
        b'{"agent":"dc","address":"dc/x","session":7,"by":8,"host":"mac.local"}',
    ),
    (told.TakenOverFacts("dc", "dc", 7, "agni"), b'{"agent":"dc","address":"dc","session":7,"by":"agni"}'),
    (told.RefusedFacts("dc", "an.error", "no"), b'{"agent":"dc","error":"an.error","detail":"no"}'),
    (told.RefusedFacts("dc", "an.error", "no", more=9), b'{"agent":"dc","error":"an.error","detail":"no","more":9}'),
    (
        told.RefusedFacts(None, "an.error", "no", None, 9),
        b'{"agent":null,"error":"an.error","detail":"no","address":null,"more":9}',
    ),
    (told.LinkFacts("agni", "up", "well"), b'{"peer":"agni","event":"up","detail":"well"}'),
    (told.LinkFacts("agni", "refused", "no", 3), b'{"peer":"agni","event":"refused","detail":"no","more":3}'),
    (
        told.ModeFacts("fallback", False, "why", "dc", 5),
        b'{"mode":"fallback","sends":false,"reason":"why","by":"dc","since":5}',
    ),
    (
        told.TokenFacts("agni", "revoked", "9f86d081", "root", "a laptop was lost", 5),
        b'{"agent":"agni","what":"revoked","token":"9f86d081","by":"root","reason":"a laptop was lost","until":5}',
    ),
    (
        told.GrantsFacts("agni", None, "agent; send *", "edited by hand"),
        b'{"agent":"agni","before":null,"after":"agent; send *","by":"edited by hand"}',
    ),
    (told.RedactedFacts([1], "office", "a name"), b'{"messages":[1],"by":"office","reason":"a name"}'),
    (
        told.ArchivedFacts(1, 3, "00", "ab", 3, "1-3.jsonl.gz", "cd"),
        b'{"first":1,"last":3,"previous":"00","digest":"ab","records":3,"file":"1-3.jsonl.gz","sha256":"cd"}',
    ),
    (
        told.LeaseFacts("ended", "agni-1", 7, "agni", by="dc", reason="released"),
        b'{"what":"ended","lease":"agni-1","stamp":7,"node":"agni","by":"dc","reason":"released"}',
    ),
]


def test_every_kind_has_a_type() -> None:
    assert set(told.FACTS) == set(Kind)


@pytest.mark.parametrize(("facts", "text"), WRITTEN)
def test_facts_are_written_as_ever_and_read_back(facts: told.Facts, text: bytes) -> None:
    assert told.write_facts(facts) == text
    assert told.read_facts(text, type(facts)) == facts


@pytest.mark.parametrize("kind", Kind)
def test_what_a_newer_node_adds_is_passed_over(kind: Kind) -> None:
    shape = told.FACTS[kind]
    samples = {type(facts): text for facts, text in WRITTEN}
    samples[told.AcceptedFacts] = (
        b'{"from":"dc","id":"m1","to":"agni","type":"QUERY","priority":0,"bytes":2,"sha256":"ab"}'
    )
    samples[told.SurfacedFacts] = samples[told.DeliveredFacts] = b'{"messages":[[1,1]],"to":"agni","session":7}'
    samples[told.ReturnedFacts] = b'{"messages":[[1,1,9]],"reason":"no"}'
    samples[told.SettledFacts] = samples[told.PurgedFacts] = samples[told.ReplayedFacts] = b'{"messages":[1]}'
    samples[told.ForgottenFacts] = b'{"bodies":[1],"bytes":2}'
    samples[told.HandedFacts] = b'{"messages":[1],"keeper":"agni","hops":[1]}'
    samples[told.ClockSetFacts] = b'{"by_ms":1}'
    text = samples[shape]
    assert told.read_facts(text[:-1] + b',"newer":{"a":[1]}}', shape) == told.read_facts(text, shape) is not None
    # Nothing is told by what is garbled.
    for garbled in (text[:-1], b"\xff", b"[]", b"null", b""):
        assert told.read_facts(garbled, shape) is None


def test_the_paths_for_sql_name_fields() -> None:
    names = {field.encode_name for field in msgspec.structs.fields(told.DeliveredFacts)}
    assert told.HOLDER_PATH.removeprefix("$.") in names
    names = {field.encode_name for field in msgspec.structs.fields(told.SettledFacts)}
    assert told.REASON_PATH.removeprefix("$.") in names
