"""That a message was put into a model's context, as a node takes, keeps and tells it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import POLICY, Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, StorageFull
from trishula_router.alerts.conditions import Facts, find_conditions
from trishula_router.metrics.figures import read
from trishula_router.settings.alerts import AlertOptions
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import State

#: A node that minds if a model has not read what it got for so long.
WITHIN_S = 30.0


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock(), policy=replace(POLICY, surface_within_s=WITHIN_S)).start()


@pytest.fixture
def dc(rig: Rig) -> int:
    return rig.join("dc")


@pytest.fixture
def agni(rig: Rig) -> int:
    session = rig.join("agni")
    rig.attach(session)
    return session


def sent(rig: Rig, dc: int, *ids: str, to: str = "agni") -> list[str]:
    """Send messages; the tokens by which they were delivered."""
    rig.send(dc, *({"id": message_id, "to": to} for message_id in ids))
    return [one["token"] for one in rig.pushed()]


def surfaced(rig: Rig, session: int, *tokens: str) -> list[bool]:
    answer: list[bool] = rig.call(session, uris.MAILBOX_SURFACED, list(tokens))
    return answer


def news(rig: Rig, *states: str) -> list[tuple[str, str]]:
    return [(message_id, state) for message_id, _, state in rig.outlet.take_news() if state in states]


def life(rig: Rig, session: int, message_id: str) -> dict[str, Any]:
    (told,) = rig.call(session, uris.AUDIT_WHY, message_id)["messages"]
    found: dict[str, Any] = told
    return found


def test_a_message_surfaces_once(rig: Rig, dc: int, agni: int) -> None:
    (token,) = sent(rig, dc, "m1")
    rig.advance(4.0)
    assert surfaced(rig, agni, token) == [True]
    at = rig.now()
    rig.advance(1.0)
    assert surfaced(rig, agni, token, token) == [True, True]
    status = rig.call(dc, uris.MAILBOX_STATUS, ["m1"])["m1"]
    # Clients of before take a state that they don't know for an end.
    assert (status["state"], status["surfaced_at"]) == ("delivered", at)
    assert news(rig, "surfaced") == [("m1", "surfaced")]
    it = life(rig, dc, "m1")
    assert it["surfaced_at"] == at
    (event,) = [event for event in it["events"] if event["kind"] == "surfaced"]
    assert (event["to"], event["attempt"], event["at"]) == ("agni", 1, at)
    assert rig.ack(agni, token) == [True]
    assert surfaced(rig, agni, token) == [True]


def test_it_settles_nothing_and_holds_no_lease(rig: Rig, dc: int, agni: int) -> None:
    (token,) = sent(rig, dc, "m1")
    surfaced(rig, agni, token)
    rig.advance(61.0)
    rig.advance(2.0)
    (again,) = rig.pushed()
    assert again["attempt"] == 2
    assert surfaced(rig, agni, again["token"]) == [True]
    assert [event["kind"] for event in life(rig, dc, "m1")["events"]] == [
        "accepted",
        "delivered",
        "surfaced",
        "returned",
        "delivered",
    ]


def test_what_is_done_already_surfaces_too(rig: Rig, dc: int, agni: int) -> None:
    (token,) = sent(rig, dc, "m1")
    rig.ack(agni, token)
    assert surfaced(rig, agni, token) == [True]
    status = rig.call(dc, uris.MAILBOX_STATUS, ["m1"])["m1"]
    assert (status["state"], status["surfaced_at"]) == ("done", rig.now())


def test_nobody_else_says_it_and_no_guess_does(rig: Rig, dc: int, agni: int) -> None:
    (token,) = sent(rig, dc, "m1")
    position, _, epoch = token.split(".")
    rush = rig.join("rushabdev")
    assert surfaced(rig, rush, token) == [False]
    assert surfaced(rig, dc, token) == [False]
    # By attempts that never were, of another store, of no message.
    guesses = [f"{position}.2.{epoch}", f"{position}.0.{epoch}", f"{position}.1.another1", f"99.1.{epoch}"]
    assert surfaced(rig, agni, *guesses) == [False] * 4
    assert rig.call(dc, uris.MAILBOX_STATUS, ["m1"])["m1"]["surfaced_at"] is None
    with pytest.raises(ArgumentInvalid, match=r'tokens\[0\] is "x"; it must be the token of a delivery'):
        surfaced(rig, agni, "x")


def test_a_message_that_waits_has_not_surfaced(rig: Rig, dc: int) -> None:
    # A wake proves nothing, nor does a token that nobody was given.
    (receipt,) = rig.send(dc, {"id": "m1", "to": "agni"})
    agni = rig.join("agni")
    assert surfaced(rig, agni, f"{receipt['seq']}.1.{rig.store.epoch[:8]}") == [False]


def test_it_is_durable_before_it_is_answered(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    (token,) = sent(rig, dc, "m1")
    store.holding = True
    answer = rig.begin(agni, uris.MAILBOX_SURFACED, [token])
    rig.settle()
    assert not answer.called and news(rig, "surfaced") == []
    store.let_all()
    rig.settle()
    assert result_of(answer) == [True]


def test_a_store_that_is_full_says_so_and_it_is_said_again(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    (token,) = sent(rig, dc, "m1")
    store.fail_next("surface", StorageFull("full"))
    with pytest.raises(StorageFull):
        surfaced(rig, agni, token)
    assert surfaced(rig, agni, token) == [True]
    assert news(rig, "surfaced") == [("m1", "surfaced")]


def test_time_to_context_is_measured(rig: Rig, dc: int, agni: int) -> None:
    first, second = sent(rig, dc, "m1", "m2")
    rig.advance(3.0)
    surfaced(rig, agni, first)
    surfaced(rig, agni, first, second)
    delays = rig.node.surfacing.delays
    assert sum(delays.counts) == 2
    assert delays.total == pytest.approx(6.0)
    samples = {name: value for name, labels, value in read(rig.node) if not labels}
    assert samples["trishula_message_surfaced_delay_seconds"] is delays
    assert samples["trishula_messages_unread"] == 0


# -- the deadline ------------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_read_in_time_is_told_of(rig: Rig, dc: int, agni: int) -> None:
    surfaced(rig, agni)
    first, second = sent(rig, dc, "m1", "m2")
    surfaced(rig, agni, first)
    rig.advance(1.0)
    assert rig.node.surfacing.unread() == {}
    rig.advance(WITHIN_S)
    assert rig.node.surfacing.unread() == {"agni": 1}
    rig.advance(1.0)
    # Once, to its sender.
    assert news(rig, "unread") == [("m2", "unread")]
    assert "its model has not read it within 30 s" in life(rig, dc, "m2")["warning"]
    assert "warning" not in life(rig, dc, "m1")
    (box,) = [one for one in rig.call(rig.join("op", operator=True), uris.NODE_MAILBOXES) if one["address"] == "agni"]
    assert (box["in_flight"], box["unread"]) == (2, 1)
    (condition,) = find_conditions(
        Facts(ready={}, unread=rig.node.surfacing.unread()), AlertOptions(), "node", rig.now()
    )
    assert (condition.kind, condition.about) == ("unread", "agni")
    assert condition.sentence.startswith("the agent agni has 1 message that its model has not read in time; wake it")
    surfaced(rig, agni, second)
    assert rig.node.surfacing.unread() == {}
    assert "warning" not in life(rig, dc, "m2")


def test_nobody_minds_where_no_model_reads(rig: Rig, dc: int, agni: int) -> None:
    sent(rig, dc, "m1")
    rig.advance(WITHIN_S + 5)
    assert rig.node.surfacing.unread() == {}
    assert news(rig, "unread") == []


def test_nobody_minds_without_the_option(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    surfaced(rig, agni)
    sent(rig, dc, "m1")
    rig.advance(3600)
    assert rig.node.surfacing.unread() == {}


def test_it_stays_unread_while_it_goes_out_again_and_ends_with_its_message(rig: Rig, dc: int, agni: int) -> None:
    surfaced(rig, agni)
    sent(rig, dc, "m1")
    rig.advance(WITHIN_S / 2)
    rig.leave(agni)
    rig.advance(WITHIN_S)
    # Its session is gone, and nobody has read it.
    assert rig.node.surfacing.unread() == {"agni": 1}
    again = rig.join("agni")
    rig.attach(again)
    (delivery,) = rig.pushed(again)
    rig.advance(1.0)
    assert rig.node.surfacing.unread() == {"agni": 1}
    rig.ack(again, delivery["token"])
    assert rig.node.surfacing.unread() == {}
    rig.advance(1.0)
    assert rig.node.surfacing.unread() == {}
    assert news(rig, "unread") == [("m1", "unread")]


def test_after_a_restart_what_surfaced_is_known(rig: Rig, tmp_path: Path, dc: int, agni: int) -> None:
    first, _ = sent(rig, dc, "m1", "m2")
    surfaced(rig, agni, first)
    rig.crash()
    again = Rig(tmp_path, rig.store, rig.clock, policy=replace(POLICY, surface_within_s=WITHIN_S)).start()
    agni = again.join("agni")
    surfaced(again, agni)
    again.attach(agni)
    assert again.ids() == ["m1", "m2"]
    again.advance(1.0)
    again.advance(WITHIN_S)
    assert again.node.surfacing.unread() == {"agni": 1}


def test_an_instance_and_what_was_fetched(rig: Rig, dc: int) -> None:
    agni = rig.join("agni")
    rig.call(agni, uris.MAILBOX_FETCH, {"instance": "x"})
    rig.send(dc, {"id": "m1", "to": "agni/x"}, {"id": "m2", "to": "agni"})
    tokens = []
    for options in ({"instance": "x"}, {}):
        (delivery,) = rig.fetch(agni, **options)["deliveries"]
        tokens.append(delivery["token"])
    assert surfaced(rig, agni, *tokens) == [True, True]
    assert result_of(rig.store.with_ids(["m1"]))[0].state is State.OPEN
