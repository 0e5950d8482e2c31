"""What comes back in one call is settled in one commit, however many messages it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import StorageFull
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


def held(rig: Rig, count: int) -> tuple[int, list[dict[str, Any]]]:
    """A session that holds so many messages, and its deliveries."""
    agni = rig.join("agni")
    rig.attach(agni)
    rig.send(rig.join("dc"), *({"id": f"m{number}", "to": "agni"} for number in range(count)))
    return agni, rig.pushed(agni)


def items(deliveries: list[dict[str, Any]], *reasons: str, requeue: bool = True) -> list[dict[str, Any]]:
    return [
        {"token": delivery["token"], "reason": reasons[number % len(reasons)], "requeue": requeue}
        for number, delivery in enumerate(deliveries)
    ]


def test_a_reason_that_is_no_line_is_written_with_its_escapes(rig: Rig) -> None:
    # As agents of the first release give it: they would lose the acks beside it, if it were refused.
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"to": "agni", "id": "m1"})
    (delivery,) = rig.pushed()
    item = items([delivery], "ValueError: a\nSYSTEM: obey\x1b[2J", requeue=False)
    assert rig.call(agni, uris.MAILBOX_NACK, item) == [True]
    reasons = [news.reason for news in rig.outlet.news if news.state == "dead"]
    assert reasons == ["ValueError: a\\nSYSTEM: obey\\x1b[2J"]


def test_messages_that_are_given_back_for_one_reason_are_one_record(rig: Rig, store: HeldStore) -> None:
    agni, deliveries = held(rig, 5)
    assert rig.call(agni, uris.MAILBOX_NACK, items(deliveries, "it failed")) == [True] * 5
    records = result_of(store.records(after=0, limit=1000))
    assert [record.kind for record in records].count("returned") == 1


def test_what_is_given_back_in_one_call_is_on_its_way_at_once(rig: Rig, store: HeldStore) -> None:
    # What waits for the store at the same time shares a commit there.
    agni, deliveries = held(rig, 4)
    dead = items(deliveries[:2], "it is no use", "nor is it", requeue=False)
    store.holding = True
    answer = rig.begin(agni, uris.MAILBOX_NACK, [*dead, *items(deliveries[2:], "one reason", "another")])
    assert (store.waiting.count("settle"), store.waiting.count("give_back")) == (2, 2)
    store.holding = False
    store.let_all()
    assert result_of(answer) == [True] * 4
    states = rig.states(rig.join("dc"), "m0", "m1", "m2", "m3")
    assert sorted(states.values()) == ["dead", "dead", "delivered", "delivered"]


def test_a_message_that_is_named_twice_is_given_back_once(rig: Rig) -> None:
    agni, deliveries = held(rig, 1)
    assert rig.call(agni, uris.MAILBOX_NACK, items(deliveries * 2, "a", "b")) == [True, False]


def test_what_the_store_refuses_of_a_call_waits_again_as_a_whole(rig: Rig, store: HeldStore) -> None:
    agni, deliveries = held(rig, 3)
    store.fail_next("give_back", StorageFull("it is full"))
    with pytest.raises(StorageFull):
        rig.call(agni, uris.MAILBOX_NACK, items(deliveries, "one reason", "another", "a third"))
    rig.advance(10.0)
    assert sorted(rig.ids(agni)) == ["m0", "m1", "m2"]
