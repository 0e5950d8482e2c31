"""Signatures at a node: taken beside the messages, kept in the journal, and handed out beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, KeyUnknown
from trishula_router.store.memory import MemoryStore

ONE = "1.0123456789abcdef.-." + "A" * 86
OTHER = "1.fedcba9876543210.1700000000000." + "B" * 86


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("epoch-1")


@pytest.fixture
def rig(tmp_path: Path, store: MemoryStore) -> Iterator[Rig]:
    rig = Rig(tmp_path, store, Clock()).start()
    yield rig
    rig.crash()


def message(message_id: str, **more: Any) -> dict[str, Any]:
    return {"id": message_id, "to": "agni", **more}


def test_each_message_has_its_own_and_one_may_have_none(rig: Rig) -> None:
    agni, dc = rig.join("agni"), rig.join("dc")
    rig.attach(agni)
    rig.send(dc, message("a"), message("b"), message("c"), signatures=[ONE, None, OTHER])
    pushed = rig.pushed()
    assert [one.get("signature") for one in pushed] == [ONE, None, OTHER]
    assert not any("signature" in one["message"] for one in pushed)


def test_it_outlives_the_node_and_its_deliveries(rig: Rig, tmp_path: Path, store: MemoryStore) -> None:
    dc = rig.join("dc")
    rig.send(dc, message("a"), message("b"), signatures=[ONE, None])
    rig.crash()
    again = Rig(tmp_path, store, rig.clock).start()
    agni, dc = again.join("agni"), again.join("dc")
    shown = again.call(agni, uris.MAILBOX_PEEK)["messages"]
    assert [(one["message"]["id"], one.get("signature")) for one in shown] == [("a", ONE), ("b", None)]
    for _ in range(2):
        fetched = again.fetch(agni)["deliveries"]
        assert [(one["message"]["id"], one.get("signature")) for one in fetched] == [("a", ONE), ("b", None)]
        assert not any("signature" in one["message"] for one in fetched)
        for one in fetched:
            again.nack(agni, one["token"])
        again.advance(60.0)
    [life] = again.call(dc, uris.AUDIT_WHY, "a")["messages"]
    assert life["events"][0]["signature"] == ONE
    again.crash()


def test_a_dead_letter_and_an_answer_have_it_beside_them(rig: Rig) -> None:
    agni, dc, boss = rig.join("agni"), rig.join("dc"), rig.join("rushabdev", operator=True)
    rig.attach(agni)
    rig.send(dc, message("a"), message("c", type="COMMAND"), signatures=[ONE, None])
    dead, command = rig.pushed()
    answer = {"type": "RESULT", "id": "r", "to": "dc", "reply_to": "c", "payload": 1}
    rig.send(agni, answer, signatures=[OTHER])
    rig.ack(agni, command["token"])
    told = rig.call(dc, uris.MAILBOX_ANSWER, "c")
    assert (told["message"]["id"], told["signature"]) == ("r", OTHER)
    assert "signature" not in told["message"]
    rig.nack(agni, dead["token"], "signature refused: for a test", requeue=False)
    [letter] = rig.call(boss, uris.ADMIN_DEAD_LIST)["letters"]
    shown = rig.call(boss, uris.ADMIN_DEAD_SHOW, letter["seq"])
    assert (shown["message"]["id"], shown["signature"]) == ("a", ONE)
    assert rig.node.settlement.signatures_refused == 1
    assert all(result_of(rig.store.verify()).damages == () for _ in range(1))


def test_a_repeat_is_a_duplicate_whatever_its_signature(rig: Rig) -> None:
    agni, dc = rig.join("agni"), rig.join("dc")
    for signatures in ([ONE], [OTHER], None):
        more = {} if signatures is None else {"signatures": signatures}
        [receipt] = rig.send(dc, message("a"), **more)
        assert receipt["status"] == ("accepted" if signatures == [ONE] else "duplicate")
    assert [one["signature"] for one in rig.fetch(agni)["deliveries"]] == [ONE]


@pytest.mark.parametrize(
    ("signatures", "sentence"),
    [
        ([ONE], "options.signatures has 1 entries for 2 messages; it must have one for each, null for one without"),
        ([ONE, "x"], "it must be a list with one entry for each message: a signature, '1.KEY.DEADLINE.VALUE', or null"),
        ("x", "it must be a list with one entry for each message"),
        ([ONE, 7], "it must be a list with one entry for each message"),
    ],
)
def test_what_are_no_signatures_is_told(rig: Rig, signatures: object, sentence: str) -> None:
    dc = rig.join("dc")
    with pytest.raises(ArgumentInvalid, match=sentence):
        rig.send(dc, message("a"), message("b"), signatures=signatures)


def test_a_signature_is_no_key_of_a_message(rig: Rig) -> None:
    [receipt] = rig.send(rig.join("dc"), message("a", signature=ONE))
    assert (receipt["status"], receipt["error"]) == ("refused", KeyUnknown.uri)
