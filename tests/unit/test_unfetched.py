"""What a script has not fetched yet: nobody misses a wake-up; an empty answer is one that the node has confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import FakeConnection, FakeLink, settings, surroundings
from trishula.client import Client
from trishula.consumer.unfetched import Unfetched
from trishula.contract import uris
from trishula.contract.deliveries import Fetched
from trishula.errors import BusUnreachable
from trishula.runtime.pending import Pending, start

INBOX = "trishula.agent.dc.inbox.7f3a"


class Script:
    """A script that has joined a node which the test plays."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.connection = FakeConnection()
        self.client = Client(settings("dc"), instance="7f3a", around=surroundings(clock), connection=self.connection)
        self.unfetched = Unfetched(self.client._beneath(), clock)
        self.client.attach(self.unfetched.take)
        start(self.client.start())
        self.counts = {"pending": 0, "in_flight": 0}
        self.link = self.join()

    def join(self) -> FakeLink:
        link = self.connection.join()
        usual = link.usual

        def answer(asked: Any) -> Any:
            if asked.uri == uris.MAILBOX_PEEK:
                assert asked.args == [{"max": 1, "instance": "7f3a"}]
                return {"messages": [], "more": False, "after": [0, 0], "epoch": "e", "high_water": 9, **self.counts}
            return usual(asked)

        link.usual = answer  # type: ignore[method-assign]
        return link

    def push(self, message_id: str, sender: str = "agni", attempt: int = 1) -> None:
        message = {"type": "STATUS", "id": message_id, "to": "dc/7f3a", "from": sender}
        token = f"{sender}.{message_id}.{attempt}"
        self.link.push(INBOX, {"message": message, "attempt": attempt, "token": token})

    def fetch(self, limit: int = 64, wait_s: float = 0.0) -> Pending[Fetched]:
        fetched = start(self.unfetched.fetch(limit, wait_s))
        self.clock.advance(0)
        return fetched


@pytest.fixture
def script(clock: Clock) -> Iterator[Script]:
    one = Script(clock)
    yield one
    one.unfetched.close()
    start(one.client.stop())


def taken(fetched: Pending[Fetched]) -> list[str]:
    return [delivery.token for delivery in fetched.result().deliveries]


def test_what_was_fetched_and_not_acknowledged_is_in_flight(script: Script) -> None:
    script.push("a")
    script.counts["in_flight"] = 1
    assert taken(script.fetch()) == ["agni.a.1"]
    again = script.fetch().result()
    assert (again.deliveries, again.pending, again.in_flight) == ([], 0, 1)
    # It was given back, and waits at the node for its next attempt.
    script.counts.update(pending=1, in_flight=0)
    again = script.fetch().result()
    assert (again.deliveries, again.pending, again.in_flight) == ([], 1, 0)
    script.counts.update(pending=0)
    assert script.fetch().result() == Fetched([], "e", 9, 0, 0)


def test_what_waits_here_is_pending_and_not_in_flight(script: Script) -> None:
    for name in ("a", "b", "c"):
        script.push(name)
    script.counts["in_flight"] = 3
    first = script.fetch(limit=1).result()
    assert ([one.token for one in first.deliveries], first.pending, first.in_flight) == (["agni.a.1"], 2, 1)


def test_what_waits_here_keeps_its_lease_until_it_is_fetched(script: Script) -> None:
    script.push("a")
    script.push("b", attempt=2)
    script.clock.pump([5.0] * 60)
    extended = script.link.args_of(uris.MAILBOX_WORKING)
    assert {tuple(one) for one in extended} == {("agni.a.1", 60.0), ("agni.b.2", 60.0)}
    assert len(extended) == 60
    assert taken(script.fetch(limit=1)) == ["agni.a.1"]
    script.clock.pump([5.0] * 4)
    assert {one[0] for one in script.link.args_of(uris.MAILBOX_WORKING)[60:]} == {"agni.b.2"}
    assert taken(script.fetch()) == ["agni.b.2"]
    script.clock.pump([5.0] * 60)
    assert len(script.link.args_of(uris.MAILBOX_WORKING)) == 62


def test_what_a_lost_session_had_is_nothing_to_extend_and_comes_again(script: Script) -> None:
    script.push("a")
    script.connection.lose()
    script.clock.pump([5.0] * 10)
    script.link = script.join()
    script.push("a", attempt=2)
    script.clock.pump([5.0] * 2)
    assert script.link.args_of(uris.MAILBOX_WORKING) == [["agni.a.2", 60.0]]
    script.unfetched.close()
    script.clock.pump([5.0] * 10)
    script.push("b")
    script.clock.pump([5.0] * 10)
    assert len(script.link.args_of(uris.MAILBOX_WORKING)) == 1


def test_without_a_node_nothing_is_called_empty(script: Script) -> None:
    script.push("a")
    script.connection.lose()
    known = script.fetch().result()
    assert ([one.token for one in known.deliveries], known.pending, known.in_flight) == (["agni.a.1"], 0, 1)
    fetched = script.fetch()
    assert not fetched.done
    script.clock.advance(10.0)
    assert isinstance(fetched.error, BusUnreachable)


def test_all_that_wait_hear_of_an_arrival(script: Script) -> None:
    first, second = script.fetch(limit=1, wait_s=60.0), script.fetch(limit=1, wait_s=60.0)
    script.clock.advance(1.0)
    script.push("a")
    script.clock.advance(0)
    assert [first.done, second.done] == [True, False]
    assert taken(first) == ["agni.a.1"]
    script.push("b")
    script.clock.advance(0)
    assert taken(second) == ["agni.b.1"]


def test_who_finds_nothing_waits_on_until_its_own_time_is_over(script: Script) -> None:
    first, second = script.fetch(wait_s=60.0), script.fetch(wait_s=5.0)
    script.clock.advance(4.0)
    script.push("a")
    script.clock.advance(0)
    assert taken(first) == ["agni.a.1"]
    assert not second.done
    script.clock.advance(1.0)
    assert taken(second) == []


def test_a_newer_token_of_a_message_takes_the_place_of_the_old_one_and_of_no_other_sender_s(script: Script) -> None:
    script.push("a", sender="agni")
    script.push("a", sender="rushabdev")
    script.push("a", sender="agni", attempt=2)
    assert taken(script.fetch()) == ["rushabdev.a.1", "agni.a.2"]
