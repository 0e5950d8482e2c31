"""The senders' signatures: kept in the accepted records, and read back with the bodies, on each store."""

from __future__ import annotations

import json

import msgspec

from tests.support.subjects import FAR, Peer, Subject, append, copy, draft, is_sound
from trishula_router.store.messages import Draft, State

ONE, OTHER = "1.one", "1.other"


def signed(message_id: str, signature: str, *recipients: str, body: bytes = b'{"payload":1}') -> Draft:
    return msgspec.structs.replace(draft(message_id, *recipients, body=body), signature=signature)


def signatures(subject: Subject, *positions: int) -> list[str | None]:
    bodies = subject.do(lambda store: store.bodies(positions))
    return [json.loads(bodies[position]).get("signature") for position in positions]


def test_a_signature_is_in_the_record_and_comes_with_the_body(subject: Subject) -> None:
    append(subject, signed("m1", ONE), draft("m2", body=b'{"payload":1}'), signed("m3", OTHER, "agni", "rushabdev"))
    assert signatures(subject, 1, 2, 3, 4) == [ONE, None, OTHER, OTHER]
    facts = [record.facts for record in subject.do(lambda store: store.records(after=0, limit=9))]
    assert [b'"signature"' in one for one in facts] == [True, False, True, True]
    assert is_sound(subject)


def test_it_outlives_the_body(subject: Subject) -> None:
    append(subject, signed("m1", ONE))
    subject.do(lambda store: store.settle([1], State.DONE, None, 110))
    subject.do(lambda store: store.forget(0, 10, before=10_000, dead_before=10_000, at=20_000))
    assert subject.do(lambda store: store.bodies([1])) == {}
    [accepted] = subject.do(lambda store: store.records(after=0, limit=9, kind="accepted"))
    assert json.loads(accepted.facts)["signature"] == ONE
    assert is_sound(subject)


def test_a_linked_node_copies_it(subject: Subject, agni: Peer) -> None:
    append(agni, signed("m1", ONE), draft("m2", body=b'{"payload":1}'))
    copy(subject, agni)
    assert signatures(subject, FAR | 1, FAR | 2) == [ONE, None]
    assert is_sound(subject)


def test_what_two_nodes_accepted_has_the_signature_of_its_body(subject: Subject, agni: Peer) -> None:
    # A sender that sends again signs another time: the signature must belong to the body that goes out.
    append(subject, signed("m1", ONE, body=b'{"timestamp":1}'))
    append(agni, signed("m1", OTHER, body=b'{"timestamp":2}'))
    copy(subject, agni)
    [body] = subject.do(lambda store: store.bodies([1])).values()
    assert json.loads(body) in ({"timestamp": 1, "signature": ONE}, {"timestamp": 2, "signature": OTHER})
    assert is_sound(subject)
