"""A client that moves to a better node: make before break, nothing twice, nothing lost, nothing out of order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.faketransport import FakeLink
from tests.unit.test_agent import Setup as AgentSetup
from tests.unit.test_agent import acked
from tests.unit.test_client import INBOX, Setup
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.errors import NotAllowed, StorageFailed, TrishulaError
from trishula.runtime.pending import start

ONE, TWO = "ws://one/ws", "ws://two/ws"


@pytest.fixture
def setup(clock: Clock) -> Iterator[Setup]:
    made = Setup(clock)
    yield made
    start(made.client.stop()).when_done(lambda pending: pending.error)
    made.started.when_done(lambda pending: pending.error)


def holding(*held: str) -> Any:
    return lambda link: link.holding.update(held)


def answer_all(link: FakeLink) -> None:
    """The node answers what it was asked."""
    for one in link.asked:
        if not one.answer.done:
            one.answer.resolve(link.usual(one))


def delivery(message_id: str, token: str) -> dict[str, Any]:
    message = {"type": "STATUS", "id": message_id, "to": "dc/7f3a", "from": "agni"}
    return {"message": message, "attempt": 1, "token": token}


def test_a_move_sets_up_attaches_and_tells(setup: Setup) -> None:
    setup.client.subscribe(uris.EVENT_AGENT, lambda *_: None)
    old = setup.join(url=TWO)
    link = setup.connection.offer(ONE)
    assert [one.uri for one in link.asked[:3]] == ["subscribe", "subscribe", uris.MAILBOX_ATTACH]
    assert setup.client.url == ONE
    assert setup.observed == [("joined", TWO), ("moved", TWO, ONE)]
    assert setup.connection.links == [old, link]
    sent = setup.client.send("agni")
    setup.turn()
    assert sent.result().status == "accepted"
    assert (len(link.sent()), len(old.sent())) == (1, 0)


def test_sending_pauses_until_what_is_under_way_has_its_receipt(setup: Setup) -> None:
    old = setup.join(url=TWO, prepare=holding(uris.MAILBOX_SEND))
    first = setup.client.send("agni", id="first")
    setup.turn()
    link = setup.connection.offer(ONE)
    second = setup.client.send("agni", id="second")
    setup.clock.pump([0.01] * 5)
    assert (link.args_of(uris.MAILBOX_ATTACH), [one["id"] for one in old.sent()]) == ([], ["first"])
    answer_all(old)
    setup.clock.pump([0.01] * 2)
    assert (first.result().status, second.result().status) == ("accepted", "accepted")
    assert [one["id"] for one in link.sent()] == ["second"]


def test_what_is_not_answered_in_time_is_offered_first_on_the_new_node(setup: Setup) -> None:
    old = setup.join(url=TWO, prepare=holding(uris.MAILBOX_SEND))
    setup.client.send("agni", id="first")
    setup.turn()
    link = setup.connection.offer(ONE)
    setup.client.send("agni", id="second")
    setup.clock.pump([0.01] * 210)
    assert [one["id"] for one in link.sent()] == ["first", "second"]
    # Its answer comes too late to count.
    answer_all(old)


def test_acks_go_to_the_node_whose_tokens_they_carry(setup: Setup) -> None:
    old = setup.join(url=TWO)
    setup.client.ack_soon("old")
    link = setup.connection.offer(ONE)
    setup.client.ack_soon("new")
    setup.turn()
    assert (old.args_of(uris.MAILBOX_ACK), link.args_of(uris.MAILBOX_ACK)) == ([[["old"]]], [[["new"]]])


def test_a_delivery_that_is_faster_than_the_answer_is_heard_and_acknowledged_there(setup: Setup) -> None:
    old = setup.join(url=TWO)
    link = setup.connection.offer(ONE, prepare=holding(uris.MAILBOX_ATTACH))
    assert setup.client.url == TWO
    setup.client.ack_soon("old")
    link.push(INBOX, delivery("m", "new"))
    assert [one.token for one in setup.got] == ["new"]
    assert setup.observed[-1] == ("moved", TWO, ONE)
    setup.client.ack_soon("new")
    setup.turn()
    assert (old.args_of(uris.MAILBOX_ACK), link.args_of(uris.MAILBOX_ACK)) == ([[["old"]]], [[["new"]]])
    setup.client.send("agni", id="waits")
    setup.turn()
    assert link.sent() == []
    answer_all(link)
    setup.turn()
    assert [one["id"] for one in link.sent()] == ["waits"]


def test_events_and_deliveries_of_the_link_that_is_not_the_session_are_dropped(setup: Setup) -> None:
    heard: list[Any] = []
    setup.client.subscribe(uris.EVENT_AGENT, heard.append)
    old = setup.join(url=TWO)
    link = setup.connection.offer(ONE, prepare=holding(uris.MAILBOX_ATTACH))
    for at, name in ((old, "old"), (link, "new")):
        at.topics[uris.EVENT_AGENT](name)
    answer_all(link)
    for at, name in ((old, "late"), (link, "newer")):
        at.topics[uris.EVENT_AGENT](name)
    old.push(INBOX, delivery("m", "old"))
    assert (heard, setup.got) == (["old", "newer"], [])


def test_what_is_set_up_during_a_move_is_set_up_on_both(setup: Setup) -> None:
    heard: list[Any] = []
    old = setup.join(url=TWO)
    link = setup.connection.offer(ONE, prepare=holding(uris.MAILBOX_ATTACH))
    setup.client.subscribe(uris.EVENT_NODE, heard.append)
    setup.client.register("p", lambda args, kwargs: None)  # type: ignore[arg-type,return-value]  # nobody calls it
    uri = uris.procedure_of("dc", "p")
    assert [uri in one.procedures and uris.EVENT_NODE in one.topics for one in (old, link)] == [True, True]
    answer_all(link)
    link.topics[uris.EVENT_NODE](1)
    assert heard == [1]


@pytest.mark.parametrize("error", [StorageFailed("disk"), NotAllowed("no")])
def test_a_move_that_is_refused_leaves_all_as_it_was(
    setup: Setup, caplog: pytest.LogCaptureFixture, error: TrishulaError
) -> None:
    old = setup.join(url=TWO)
    with caplog.at_level(logging.WARNING):
        setup.connection.offer(ONE, prepare=lambda link: link.refusing.update({uris.MAILBOX_ATTACH: error}))
    assert f"Could not move to {ONE}: {error}" in caplog.text
    assert (setup.client.url, old.is_open, setup.connection.offered) == (TWO, True, None)
    sent = setup.client.send("agni")
    setup.turn()
    assert sent.result().status == "accepted"
    assert len(old.sent()) == 1
    assert setup.observed == [("joined", TWO)]


def test_a_move_whose_link_goes_leaves_all_as_it_was(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    old = setup.join(url=TWO)
    with caplog.at_level(logging.WARNING):
        setup.connection.offer(ONE, prepare=holding(uris.MAILBOX_ATTACH))
        setup.connection.withdraw()
    assert f"Could not move to {ONE}: gone" in caplog.text
    setup.client.send("agni")
    setup.turn()
    assert (setup.client.url, len(old.sent())) == (TWO, 1)


def test_a_loss_in_the_middle_of_a_move_makes_it_a_join(setup: Setup) -> None:
    old = setup.join(url=TWO, prepare=holding(uris.MAILBOX_SEND))
    setup.client.send("agni", id="first")
    setup.turn()
    link = setup.connection.offer(ONE)
    setup.clock.advance(0.01)
    setup.connection.lose()
    assert not setup.client.is_ready
    setup.client.send("agni", id="second")
    setup.clock.pump([0.01] * 2)
    assert (setup.client.url, old.is_open) == (ONE, False)
    assert [one["id"] for one in link.sent()] == ["first", "second"]
    assert setup.observed == [("joined", TWO), ("lost", TWO), ("joined", ONE)]


def test_a_link_that_is_lost_between_the_switch_and_the_end_of_the_move_is_a_loss(setup: Setup) -> None:
    setup.join(url=TWO)
    link = setup.connection.offer(ONE, prepare=holding(uris.MAILBOX_ATTACH))
    link.push(INBOX, delivery("m", "new"))
    setup.connection.lose()
    assert setup.observed[-1] == ("lost", ONE)
    again = setup.join(url=TWO)
    setup.client.send("agni")
    setup.turn()
    assert len(again.sent()) == 1


def test_an_offer_before_everything_is_set_up_is_declined(setup: Setup) -> None:
    link = setup.join(url=TWO, prepare=holding(uris.MAILBOX_ATTACH))
    setup.connection.offer(ONE)
    assert setup.connection.offered is None
    answer_all(link)
    assert setup.client.url == TWO


def test_who_fetches_stays(setup: Setup) -> None:
    setup.join(url=TWO)
    start(setup.client.fetch()).when_done(lambda pending: pending.error)
    setup.connection.offer(ONE)
    assert (setup.client.url, setup.connection.offered) == (TWO, None)


def test_moving_is_no_change_of_the_store(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.join(url=TWO, prepare=lambda link: setattr(link, "epoch", "of two"))
    with caplog.at_level(logging.WARNING):
        setup.connection.offer(ONE)
        attached = setup.client.attached
        assert attached is not None
        assert (attached.epoch, attached.epoch_changed) == ("e", False)
        setup.connection.lose()
        again = setup.join(url=TWO, prepare=lambda link: setattr(link, "epoch", "of two"))
    assert again.args_of(uris.MAILBOX_ATTACH)[0][0]["epoch"] == "of two"
    assert caplog.text == ""


# -- agents ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def agent(clock: Clock) -> Iterator[AgentSetup]:
    made = AgentSetup(clock)
    yield made
    start(made.agent.stop(grace_s=0.0))
    clock.pump([0, 0.02, 0, 2.0, 0.02, 0])


def test_a_handler_that_runs_during_a_move_runs_once_and_acknowledges_on_the_new_node(agent: AgentSetup) -> None:
    jobs: list[Deferred[None]] = []

    def slow(message: Message) -> Deferred[None]:
        jobs.append(Deferred())
        return jobs[-1]

    agent.agent.on("STATUS", ordered=False)(slow)
    old = agent.join(url="ws://two/ws")
    for name in ("a", "b", "c"):
        agent.deliver(old, id=name, token=f"{name} of two")
    jobs[0].callback(None)
    new = agent.connection.offer("ws://one/ws")
    agent.turn()
    # What was handled before goes out on the old one; what runs waits for its next delivery.
    assert (acked(old), acked(new)) == (["a of two"], [])
    agent.deliver(new, id="b", token="b of one")
    jobs[1].callback(None)
    jobs[2].callback(None)
    agent.turn()
    agent.deliver(new, id="c", token="c of one")
    # Its ack may not have come over to this node yet.
    agent.deliver(new, id="a", token="a of one")
    agent.turn()
    assert (acked(old), acked(new)) == (["a of two"], ["b of one", "c of one", "a of one"])
    assert len(jobs) == 3
